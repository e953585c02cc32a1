//! What becomes of bad records.

use tokio::time::Instant;

use crate::pipeline::{BadRecordAction, BadRecordPolicy, CircuitBreaker};

impl BadRecordPolicy {
    /// Returns what becomes of a record that is found bad at `now`, and whether the breaker trips at it.
    pub(crate) fn apply(self, breaker: &mut CircuitBreaker, now: Instant) -> (BadRecordAction, bool) {
        let action = match self {
            Self::Stop => return (BadRecordAction::Stops, false),
            Self::Skip => BadRecordAction::Skipped,
            Self::DeadLetters => BadRecordAction::DeadLetter,
        };
        let tripped = breaker.trips(now);
        (if tripped { BadRecordAction::Stops } else { action }, tripped)
    }
}
