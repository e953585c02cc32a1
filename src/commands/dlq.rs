//! `sdl dlq`.

mod import;
mod list;
mod reading;
mod replay;
mod replay_target;
mod select_letters;
mod show;
mod stats;

use crate::commands::Context;
use crate::commands::args::ReportArgs;
use crate::commands::dlq::import::ImportLettersArgs;
use crate::commands::dlq::list::ListArgs;
use crate::commands::dlq::replay::ReplayArgs;
use crate::commands::dlq::show::{ExportLettersArgs, ShowLetterArgs};
use crate::commands::dlq::stats::StatsArgs;
use crate::error::Error;

/// Find dead letters, show why they failed, and replay them
///
/// LETTERS is a topic or a file of dead letters: NAME, topic:SECTION/NAME or file:PATH. Letters of sdl, Kafka Connect, Spring and
/// Kafka Streams are understood, by their headers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: DlqAction,
}

#[derive(Debug, clap::Subcommand)]
enum DlqAction {
    List(ListArgs),
    Show(Box<ShowLetterArgs>),
    Stats(Box<StatsArgs>),
    Replay(Box<ReplayArgs>),
    Export(Box<ExportLettersArgs>),
    Import(Box<ImportLettersArgs>),
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the profile, the file or a cluster cannot be used, or the topic holds no dead letters; a replay as every moving command.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        match self.action {
            DlqAction::List(args) => args.run(context).await,
            DlqAction::Show(args) => args.run(context).await,
            DlqAction::Stats(args) => args.run(context).await,
            DlqAction::Replay(args) => Box::pin(args.run(context)).await,
            DlqAction::Export(args) => args.run(context).await,
            DlqAction::Import(args) => args.run(context).await,
        }
    }

    /// Returns how the run is reported, if the command moves records.
    pub(crate) fn reporting(&self) -> Option<ReportArgs> {
        match &self.action {
            DlqAction::Replay(args) => Some(args.reporting()),
            DlqAction::Import(args) => Some(args.reporting()),
            DlqAction::List(_) | DlqAction::Show(_) | DlqAction::Stats(_) | DlqAction::Export(_) => None,
        }
    }

    /// Returns whether the topics of all sections are looked at.
    pub(crate) fn surveys_every_cluster(&self) -> bool {
        matches!(&self.action, DlqAction::List(args) if args.surveys_every_cluster())
    }
}
