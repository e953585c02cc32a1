complete --keep-order --exclusive --command sdl --arguments "(_SDL_COMPLETE=fish sdl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
