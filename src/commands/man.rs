//! `sdl man`.

use clap::Command;
use clap_mangen::Man;

use crate::commands::Context;
use crate::commands::help::{EXIT_CODES, find};
use crate::error::Error;

/// Print the manual page of a command, for man
///
/// Without an argument, the page of sdl itself. To read one: `sdl man replicate | man -l -`. To install it: `sdl man replicate >
/// /usr/local/share/man/man1/sdl-replicate.1`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A command: `replicate`, `offsets show`
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

impl Args {
    /// Prints the page; `root` is the whole command line.
    ///
    /// # Errors
    /// When the command is unknown, or stdout fails.
    pub fn run(self, context: &Context, mut root: Command) -> Result<(), Error> {
        root.build();
        let mut command = find(&mut root, &self.words)?.clone();
        // The usage of `--help`: the generator's own lists every option, without its value.
        let usage = command.render_usage().to_string();
        let command = command.override_usage(usage.trim_start_matches("Usage:").trim().to_owned());
        let mut page = Vec::new();
        Man::new(command).source("sdl").manual("sdl").render(&mut page)?;
        page.extend_from_slice(exit_status().as_bytes());
        context.print(&String::from_utf8_lossy(&page))
    }
}

/// Returns the section of the exit codes.
fn exit_status() -> String {
    let codes = EXIT_CODES.map(|(code, meaning)| format!(".TP\n{code}\n{meaning}\n"));
    format!(".SH \"EXIT STATUS\"\n{}", codes.concat())
}
