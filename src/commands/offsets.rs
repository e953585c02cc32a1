//! `sdl offsets`.

mod changes;
mod delete;
mod elsewhere;
mod import;
mod reset;
mod show;
mod translate;

use crate::commands::Context;
use crate::commands::offsets::delete::DeleteArgs;
use crate::commands::offsets::import::ImportArgs;
use crate::commands::offsets::reset::ResetArgs;
use crate::commands::offsets::show::{ExportArgs, ShowArgs};
use crate::commands::offsets::translate::TranslateArgs;
use crate::error::Error;

/// Show, move, save and delete the committed offsets of consumer groups
///
/// `reset`, `translate`, `import` and `delete` show what they would change, and change nothing without --yes. A group that has active members
/// is refused: they would go on committing their own positions.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: OffsetsAction,
}

#[derive(Debug, clap::Subcommand)]
enum OffsetsAction {
    Show(Box<ShowArgs>),
    Reset(Box<ResetArgs>),
    Translate(Box<TranslateArgs>),
    Export(Box<ExportArgs>),
    Import(Box<ImportArgs>),
    Delete(Box<DeleteArgs>),
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the profile, the file or the cluster cannot be used, or a change is refused.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match self.action {
            OffsetsAction::Show(args) => args.run(context).await,
            OffsetsAction::Reset(args) => args.run(context).await,
            OffsetsAction::Translate(args) => args.run(context).await,
            OffsetsAction::Export(args) => args.run(context).await,
            OffsetsAction::Import(args) => args.run(context).await,
            OffsetsAction::Delete(args) => args.run(context).await,
        }
    }

    /// Returns whether the command goes on until it is interrupted.
    pub(crate) fn repeats(&self) -> bool {
        matches!(&self.action, OffsetsAction::Translate(args) if args.repeats())
    }

    /// Returns whether the command only shows what it would do; `yes` is the global flag.
    pub(crate) fn is_dry_run(&self, yes: bool) -> bool {
        match &self.action {
            OffsetsAction::Show(_) | OffsetsAction::Export(_) => false,
            OffsetsAction::Reset(args) => args.change.is_dry_run(yes),
            OffsetsAction::Translate(args) => args.change.is_dry_run(yes),
            OffsetsAction::Import(args) => args.change.is_dry_run(yes),
            OffsetsAction::Delete(args) => args.change.is_dry_run(yes),
        }
    }
}
