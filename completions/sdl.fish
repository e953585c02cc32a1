# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sdl_global_optspecs
    string join \n profile= v/verbose q/quiet y/yes color= log-format= log-dir= h/help V/version
end

function __fish_sdl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sdl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sdl_using_subcommand
    set -l cmd (__fish_sdl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sdl -n "__fish_sdl_needs_command" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_needs_command" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_needs_command" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_needs_command" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_needs_command" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_needs_command" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_needs_command" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_needs_command" -s V -l version -d 'Print version'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "profile" -d 'List, show or write the profile'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "completions" -d 'Print the completions of a shell'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s o -l output -d 'How to write it' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s o -l output -d 'How to write it' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from profile completions help" -f -a "profile" -d 'List, show or write the profile'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from profile completions help" -f -a "completions" -d 'Print the completions of a shell'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from profile completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
