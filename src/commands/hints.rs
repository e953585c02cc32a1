//! What helps after a failure of a run: the flags, which nothing below the commands names.

use crate::pipeline::{Failure, FailureKind};

/// Returns `failure` with the hint of its kind, unless it has one.
pub(crate) fn with_hint(failure: Failure) -> Failure {
    let hint = match failure.kind {
        _ if failure.hint.is_some() => None,
        FailureKind::Other => None,
        FailureKind::BadRecord => {
            Some("set bad records aside with --dead-letters topic:NAME or file:PATH, or leave them out with --skip-bad-records")
        }
        FailureKind::TooManyBadRecords => Some(
            "look at the dead letters: what is wrong with them is probably one thing; then start again, or raise \
             --dead-letter-limit",
        ),
        FailureKind::DeadLetterRejected => Some("name another destination with --dead-letters"),
        FailureKind::GaveUp => Some("start again when the destination is back, or raise --retry-for"),
    };
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
