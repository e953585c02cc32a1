//! The delivery engine.

mod end_error;
mod sink;
mod source;

pub use end_error::{EndError, Failure, Refused};
pub use sink::{Answers, Batch, Ordering, Outcome, Reason, Sink};
pub use source::{Appetite, Assignment, Commit, Revocation, Signal, Source};
