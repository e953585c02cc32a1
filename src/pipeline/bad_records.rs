//! The policy for bad records.

use tokio::time::Instant;

use crate::pipeline::{BadRecordAction, BadRecordPolicy, BreakerLimit, CircuitBreaker};

impl BadRecordPolicy {
    /// Returns the action for a bad record at `now`, and the limit of the breaker if it trips.
    pub(crate) fn apply(self, breaker: &mut CircuitBreaker, now: Instant) -> (BadRecordAction, Option<BreakerLimit>) {
        let action = match self {
            Self::Stop => return (BadRecordAction::Stops, None),
            Self::Skip => BadRecordAction::Skipped,
            Self::DeadLetters => BadRecordAction::DeadLetter,
        };
        let tripped = breaker.trips(now);
        (if tripped.is_some() { BadRecordAction::Stops } else { action }, tripped)
    }
}
