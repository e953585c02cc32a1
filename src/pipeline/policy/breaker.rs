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

    /// Counts a bad record at `now` and returns whether the limit is exceeded.
    pub(crate) fn trips(&mut self, now: Instant) -> bool {
        let Some(limit) = self.limit else { return false };
        while self.recent.front().is_some_and(|then| now.duration_since(*then) >= limit.within) {
            self.recent.pop_front();
        }
        if self.recent.len() >= limit.records {
            return true;
        }
        self.recent.push_back(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_trips_above_its_limit_within_its_time() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(Some(BreakerLimit { records: 2, within: Duration::from_secs(60) }));
        assert!(!breaker.trips(start));
        assert!(!breaker.trips(start + Duration::from_secs(30)));
        assert!(breaker.trips(start + Duration::from_secs(59)));
        assert!(!breaker.trips(start + Duration::from_secs(61)), "the first is a minute old");
        assert!(!CircuitBreaker::new(None).trips(start));
    }
}
