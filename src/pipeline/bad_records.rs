//! What becomes of bad records, whoever reads them.

use tokio::time::Instant;

use crate::pipeline::CircuitBreaker;
use crate::pipeline::{BadRecordAction, BadRecordPolicy, Failure, Reason};
use crate::record::Record;

/// Returns the fate of a record that is bad at `now`, and whether it is one too many.
pub(crate) fn fate(asked: BadRecordPolicy, breaker: &mut CircuitBreaker, now: Instant) -> (BadRecordAction, bool) {
    let fate = match asked {
        BadRecordPolicy::Stop => BadRecordAction::Stops,
        BadRecordPolicy::Skip => BadRecordAction::Skipped,
        BadRecordPolicy::DeadLetters => BadRecordAction::DeadLetter,
    };
    let tripped = fate != BadRecordAction::Stops && breaker.trips(now);
    (if tripped { BadRecordAction::Stops } else { fate }, tripped)
}

/// Returns the failure of a run that stops at a bad record, which may be one too many.
pub(crate) fn stop(record: &Record, reason: &Reason, tripped: bool) -> Failure {
    let what = if tripped {
        format!("too many bad records: the limit of --dead-letter-limit was reached at record {record}")
    } else {
        format!("record {record} cannot be delivered")
    };
    let hint = if tripped {
        "look at the dead letters: what is wrong with them is probably one thing; then start again"
    } else {
        reason.hinted().unwrap_or(
            "set bad records aside with --dead-letters topic:NAME or file:PATH, or leave them out with --skip-bad-records",
        )
    };
    Failure::new(what).because(format!("{reason} ({})", reason.code())).hint(hint)
}
