//! One file, one subcommand: profile, source, sink, run.

pub mod aggregate;
pub(crate) mod args;
pub mod completions;
mod dead_letters;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod embedded;
pub(crate) mod environment;
mod global;
mod group_translation;
pub mod health;
pub mod help;
pub mod lag;
pub mod man;
mod offset_map;
pub mod offsets;
pub mod produce_fake;
pub mod profile;
mod protect;
mod question;
mod record_hints;
pub mod replicate;
pub(crate) mod run;
pub mod sandbox;
mod sections;
mod session;
pub mod sink_es;
pub mod sink_mongo;
pub(crate) mod stop_signal;
pub mod tail;
mod target_watch;
pub mod topics;

pub use environment::SystemEnvironment;
pub use global::{Color, Global, LogFormat};

use std::io::Write as _;

use crate::commands::stop_signal::StopSignal;
use crate::error::Error;
use crate::profile::Profile;
use crate::report::Screen;
use crate::terminal::{Listing, ListingFormat};

/// The context of a command.
#[derive(Debug)]
pub struct Context {
    /// The profile; empty when no file was found and none was named.
    pub profile: Profile,
    /// The flags that every command has.
    pub global: Global,
    /// Stderr.
    pub(crate) screen: Screen,
    /// SIGINT and SIGTERM.
    pub(crate) stop: StopSignal,
}

impl Context {
    /// Writes text to stderr.
    pub fn say(&self, text: &str) {
        self.screen.write(text);
    }

    /// Writes data to stdout.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe is not a failure of the command.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        self.screen.bars().suspend(|| Ok(std::io::stdout().lock().write_all(text.as_bytes())?))
    }

    /// Writes rows to stdout; a table on a terminal in the width of that, if need be without the columns `less_important`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn print_listing(
        &self,
        mut listing: Listing,
        format: ListingFormat,
        less_important: &[&str],
    ) -> Result<(), Error> {
        if let Some(width) = terminal_width().filter(|_| format == ListingFormat::Table) {
            listing.fit_terminal(width, less_important);
        }
        self.print(&listing.render(format))
    }
}

/// Returns the width of the terminal on stdout, if there is one and it tells.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0);
    size.map(|size| size.ws_col.into())
}
