//! When a storm of bad records ends the run.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A number of bad records in a time: `1000/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimit {
    /// Bad records that are still tolerated.
    pub records: usize,
    /// The time over which they are counted.
    pub within: Duration,
}

/// Trips at more bad records than the limit allows.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    limit: Option<BreakerLimit>,
    recent: VecDeque<Instant>,
}

impl CircuitBreaker {
    pub(crate) fn new(limit: Option<BreakerLimit>) -> Self {
        Self { limit, recent: VecDeque::new() }
    }

    /// Counts a bad record at `now` and returns the limit if it is exceeded.
    pub(crate) fn trips(&mut self, now: Instant) -> Option<BreakerLimit> {
        let limit = self.limit?;
        while self.recent.front().is_some_and(|then| now.duration_since(*then) >= limit.within) {
            self.recent.pop_front();
        }
        if self.recent.len() >= limit.records {
            return Some(limit);
        }
        self.recent.push_back(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_trips_above_its_limit_within_its_time() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(Some(BreakerLimit { records: 2, within: Duration::from_secs(60) }));
        assert_eq!(breaker.trips(start), None);
        assert_eq!(breaker.trips(start + Duration::from_secs(30)), None);
        assert!(breaker.trips(start + Duration::from_secs(59)).is_some());
        assert_eq!(breaker.trips(start + Duration::from_secs(61)), None, "the first is a minute old");
        assert_eq!(CircuitBreaker::new(None).trips(start), None);
    }
}
