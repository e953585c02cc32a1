//! Dead letters as their writers leave them: recognised, grouped, selected, and made records again.

mod cause;
mod letter;
mod replay;
mod selection;
mod stats;

pub(crate) use letter::{Letter, failed_again};
pub(crate) use replay::{ReplayRules, ReplaySink, SinkFlow, admit};
pub(crate) use selection::LetterSelection;
pub(crate) use stats::LetterStats;
