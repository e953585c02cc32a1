//! The rate of the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(5);
/// Counts that come closer together are one sample.
const STEP: Duration = Duration::from_millis(200);

/// A count that grows, and when: its rate follows a stall within seconds, unlike that of a whole run.
#[derive(Clone, Debug)]
pub(crate) struct RecentRate {
    /// The oldest one may be older than the window.
    samples: VecDeque<(Instant, u64)>,
}

impl RecentRate {
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]) }
    }

    /// Takes the count of `now`.
    pub(crate) fn on_count(&mut self, count: u64, now: Instant) {
        let is_close = self.samples.iter().rev().nth(1).is_some_and(|(at, _)| now - *at < STEP);
        if is_close {
            self.samples.pop_back();
        }
        self.samples.push_back((now, count));
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Returns the rate in the last seconds; `None` while nothing was counted in them.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a rate
    pub(crate) fn per_second(&self, now: Instant) -> Option<f64> {
        let (_, last) = self.samples.back()?;
        let before = self.samples.iter().take_while(|(at, _)| now - *at >= WINDOW).last();
        let (since, first) = before.or(self.samples.front())?;
        let elapsed = (now - *since).min(WINDOW).as_secs_f64();
        (last > first && elapsed > 0.0).then(|| (last - first) as f64 / elapsed.max(STEP.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(counts: &[(u64, u64)], asked: &[u64]) -> Vec<Option<f64>> {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut rate = RecentRate::new(start);
        for (millis, count) in counts {
            rate.on_count(*count, at(*millis));
        }
        asked.iter().map(|millis| rate.per_second(at(*millis))).collect()
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let steady: Vec<_> = (1..=100).map(|second| (second * 1000, second * 500)).collect();
        assert_eq!(rates(&steady, &[100_000]), [Some(500.0)]);
        let slower: Vec<_> = steady.iter().copied().chain((1..=10).map(|n| (100_000 + n * 1000, 50_000 + n * 10))).collect();
        assert_eq!(rates(&slower, &[110_000]), [Some(10.0)]);
    }

    #[test]
    fn there_is_no_rate_before_the_first_record_and_after_a_stall() {
        assert_eq!(rates(&[], &[0, 1_000]), [None, None]);
        assert_eq!(rates(&[(1_000, 0)], &[2_000]), [None]);
        assert_eq!(rates(&[(1_000, 100)], &[2_000, 4_000, 6_000]), [Some(50.0), Some(25.0), None]);
    }

    #[test]
    fn a_first_burst_after_a_long_wait_is_fast() {
        assert_eq!(rates(&[(60_000, 1_000)], &[60_000]), [Some(200.0)]);
    }

    #[test]
    fn few_samples_are_kept() {
        let start = Instant::now();
        let mut rate = RecentRate::new(start);
        (0..100_000).for_each(|n| rate.on_count(n, start + Duration::from_millis(n)));
        assert!(rate.samples.len() < 60, "{}", rate.samples.len());
        let now = rate.per_second(start + Duration::from_millis(99_999)).unwrap();
        assert!((now - 1_000.0).abs() < 100.0, "{now}");
    }
}
