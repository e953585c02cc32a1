//! A histogram of durations.

use std::time::Duration;

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
}
