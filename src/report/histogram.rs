//! A histogram of durations.

use std::time::{Duration, Instant};

/// The upper bounds of the buckets; the last bucket has none.
const BOUNDS: [Duration; 16] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// A histogram of durations with buckets from 0.5 ms to 60 s.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// One count per bound, and one for longer durations.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(crate) fn observe(&mut self, duration: Duration) {
        self.counts[BOUNDS.partition_point(|bound| *bound < duration)] += 1;
        self.sum += duration;
    }

    /// Returns the cumulative count of each bound; bounds are in seconds.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut until = 0;
        BOUNDS.iter().zip(self.counts).map(move |(bound, count)| {
            until += count;
            (bound.as_secs_f64(), until)
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

impl Histogram {
    /// Returns the duration below which this fraction of the durations is, as far as the buckets tell; `None` when there are none.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an estimate
    pub(crate) fn quantile(&self, fraction: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * fraction).ceil() as u64;
        let (mut before, mut lower) = (0, Duration::ZERO);
        for (upper, count) in BOUNDS.iter().zip(self.counts) {
            if count > 0 && before + count >= rank {
                let part = rank.saturating_sub(before) as f64 / count as f64;
                return Some(lower + upper.saturating_sub(lower).mul_f64(part));
            }
            (before, lower) = (before + count, *upper);
        }
        (self.count() > 0).then_some(lower)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut counts = self.counts;
        counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        Self { counts, sum: self.sum + other.sum }
    }
}

/// How long a duration counts at least in a [`RecentHistogram`].
const RECENT: Duration = Duration::from_secs(30);

/// A histogram of the durations of the last 30 to 60 seconds.
#[derive(Clone, Debug)]
pub(crate) struct RecentHistogram {
    begun: Instant,
    current: Histogram,
    previous: Histogram,
}

impl RecentHistogram {
    pub(crate) fn new(now: Instant) -> Self {
        Self { begun: now, current: Histogram::default(), previous: Histogram::default() }
    }

    pub(crate) fn observe(&mut self, duration: Duration, now: Instant) {
        if now - self.begun >= RECENT {
            let is_old = now - self.begun >= 2 * RECENT;
            self.previous = if is_old { Histogram::default() } else { std::mem::take(&mut self.current) };
            self.current = Histogram::default();
            self.begun = now;
        }
        self.current.observe(duration);
    }

    /// Returns the durations that are recent `now`.
    pub(crate) fn durations(&self, now: Instant) -> Histogram {
        match now - self.begun {
            age if age < RECENT => self.current.plus(&self.previous),
            age if age < 2 * RECENT => self.current.clone(),
            _ => Histogram::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_that_are_wider() {
        let mut histogram = Histogram::default();
        for micros in [0, 500, 501, 60_000_000, 60_000_001, 3_600_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets[..3], [(0.0005, 2), (0.001, 3), (0.0025, 3)], "a bound belongs to its bucket");
        assert_eq!(buckets[14..], [(30.0, 3), (60.0, 4)], "a longer duration is in no bucket");
        assert_eq!((histogram.count(), histogram.sum()), (6, 3_720.001_002));
    }

    #[test]
    fn bounds_grow_and_an_empty_histogram_is_empty() {
        assert!(BOUNDS.is_sorted_by(|one, next| one < next));
        let nothing = Histogram::default();
        assert!(nothing.buckets().all(|(_, count)| count == 0));
        assert_eq!((nothing.buckets().count(), nothing.count(), nothing.sum()), (16, 0, 0.0));
    }

    #[test]
    fn quantiles_are_estimated_from_the_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (0..100).for_each(|_| histogram.observe(Duration::from_millis(80)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_millis(75)), "in the middle of the bucket");
        (0..100).for_each(|_| histogram.observe(Duration::from_secs(100)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_millis(100)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_secs(60)), "no bound is known");
    }

    #[test]
    fn a_duration_is_recent_for_half_a_minute_at_least_and_a_minute_at_most() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = RecentHistogram::new(start);
        recent.observe(Duration::from_millis(1), at(0));
        recent.observe(Duration::from_millis(1), at(29));
        assert_eq!([29, 59, 60].map(|seconds| recent.durations(at(seconds)).count()), [2, 2, 0]);
        recent.observe(Duration::from_millis(1), at(31));
        assert_eq!([31, 60, 61].map(|seconds| recent.durations(at(seconds)).count()), [3, 3, 1]);
        recent.observe(Duration::from_millis(1), at(200));
        assert_eq!(recent.durations(at(200)).count(), 1);
    }
}
