//! The delivery engine.

mod end_error;
mod letters;
mod sink;
mod source;

pub use end_error::{EndError, Failure, Refused};
pub use letters::{Cause, LONGEST_CAUSE, REPLAYS, Stage, letter};
pub use sink::{Answers, Batch, Ordering, Outcome, Reason, Sink};
pub use source::{Appetite, Assignment, Commit, Revocation, Signal, Source};
