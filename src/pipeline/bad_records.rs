//! The policy for bad records.

use tokio::time::Instant;

use crate::pipeline::{BadRecordAction, BadRecordPolicy, CircuitBreaker};

impl BadRecordPolicy {
    /// Returns the action for a bad record at `now`, and whether the breaker trips.
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
