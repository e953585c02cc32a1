//! `sdl completions`.

use std::io::Write as _;

use clap_complete::Shell;

use crate::error::Error;

/// Print the completions of a shell
///
/// bash: `sdl completions bash > ~/.local/share/bash-completion/completions/sdl`. zsh: `sdl completions zsh > _sdl` in a folder
/// of $fpath. fish: `sdl completions fish > ~/.config/fish/completions/sdl.fish`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Supported,
}

/// The shells that completions are kept for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

impl Args {
    /// Prints the completions of `command`.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn run(self, mut command: clap::Command) -> Result<(), Error> {
        let shell = match self.shell {
            Supported::Bash => Shell::Bash,
            Supported::Zsh => Shell::Zsh,
            Supported::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "sdl", &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}
