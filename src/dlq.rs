//! Dead letters as their writers leave them: recognised, grouped, selected, and made records again.

mod cause;
mod letter;
mod newest;
mod replay;
mod selection;
mod stats;

pub(crate) use letter::{Letter, failed_again};
pub(crate) use newest::NewestLetters;
pub(crate) use replay::{QUARANTINE, ReplayRules, ReplaySink, SinkFlow, admit, quarantine_of};
pub(crate) use selection::LetterSelection;
pub(crate) use stats::{LetterStats, kept};
