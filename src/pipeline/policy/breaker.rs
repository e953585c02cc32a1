//! When a storm of bad records ends the run.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// At most so many bad records in so long a time: `1000/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimit {
    /// Bad records that are still borne.
    pub records: usize,
    /// The time they are counted over.
    pub within: Duration,
}

/// Trips when more records are bad than a few bad records explain.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    limit: Option<BreakerLimit>,
    recent: VecDeque<Instant>,
}

impl CircuitBreaker {
    pub(crate) fn new(limit: Option<BreakerLimit>) -> Self {
        Self { limit, recent: VecDeque::new() }
    }

    /// Counts a bad record at `now` and returns whether it is one too many.
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
    fn the_breaker_bears_so_many_in_so_long() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(Some(BreakerLimit { records: 2, within: Duration::from_secs(60) }));
        assert!(!breaker.trips(start));
        assert!(!breaker.trips(start + Duration::from_secs(30)));
        assert!(breaker.trips(start + Duration::from_secs(59)));
        assert!(!breaker.trips(start + Duration::from_secs(61)), "the first is a minute old");
        assert!(!CircuitBreaker::new(None).trips(start));
    }
}
