//! How fast groups read, from one survey to the next. Pure: the time is an argument.

use std::collections::{HashMap, VecDeque};

use crate::record::Partition;

/// A rate covers at most this many samples ...
const RATE_SAMPLES: usize = 6;
/// ... and at least this many milliseconds: clients commit every five seconds by default.
const MIN_RATE_SPAN: i64 = 20_000;

/// A lagging partition is stalled if its committed offset stood still for this many samples ...
const STALLED_SAMPLES: usize = 3;
/// ... and for at least this many milliseconds.
const STALLED_SPAN: i64 = 10_000;

/// How a group advances in a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throughput {
    /// Records per second that the committed offset advances by.
    pub(crate) rate: f64,
    /// Seconds until the group has caught up at the present rates; `None` if the lag does not shrink.
    pub(crate) eta: Option<f64>,
    /// Whether the group lagged all the time and its committed offset stood still.
    pub(crate) stalled: bool,
}

/// Section, group and partition.
type GroupPartition = (String, String, Partition);

#[derive(Debug, Default)]
pub(crate) struct ThroughputTracker {
    tracks: HashMap<GroupPartition, Track>,
}

#[derive(Debug, Default)]
struct Track {
    samples: VecDeque<Sample>,
    /// Since when the partition lags and its committed offset stands still, and for how many samples.
    still: Option<(i64, usize)>,
}

/// One observation of a group's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) committed: i64,
    pub(crate) end: i64,
}

impl Sample {
    fn is_behind(&self) -> bool {
        self.end > self.committed
    }
}

impl ThroughputTracker {
    /// Adds a sample and returns the throughput; `None` for the first sample.
    pub(crate) fn add(&mut self, section: &str, group: &str, partition: Partition, sample: Sample) -> Option<Throughput> {
        let track = self.tracks.entry((section.to_owned(), group.to_owned(), partition)).or_default();
        track.push(sample);
        track.throughput()
    }

    /// Drops partitions without a sample at `at` or later.
    pub(crate) fn drop_before(&mut self, at: i64) {
        self.tracks.retain(|_, track| track.samples.back().is_some_and(|sample| sample.at >= at));
    }
}

impl Track {
    fn push(&mut self, sample: Sample) {
        let last = self.samples.back().copied();
        // A position that was reset, or a re-created topic, starts over.
        if last.is_some_and(|last| sample.committed < last.committed || sample.end < last.end || sample.at <= last.at) {
            *self = Self::default();
        }
        self.still = match self.still {
            _ if !sample.is_behind() => None,
            Some((since, samples)) if last.is_some_and(|last| last.committed == sample.committed) => Some((since, samples + 1)),
            _ => Some((sample.at, 0)),
        };
        self.samples.push_back(sample);
        while self.samples.len() > RATE_SAMPLES && sample.at - self.samples[1].at >= MIN_RATE_SPAN {
            self.samples.pop_front();
        }
    }

    fn throughput(&self) -> Option<Throughput> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        if last.at <= first.at {
            return None;
        }
        #[allow(clippy::cast_precision_loss)] // rates are for people
        let per_second = |count: i64| count as f64 * 1000.0 / (last.at - first.at) as f64;
        let rate = per_second(last.committed - first.committed);
        let nearer = rate - per_second(last.end - first.end);
        #[allow(clippy::cast_precision_loss)] // as above
        let eta = match (last.is_behind(), nearer > 0.0) {
            (false, _) => Some(0.0),
            (true, true) => Some((last.end - last.committed) as f64 / nearer),
            (true, false) => None,
        };
        let stalled = self.still.is_some_and(|(since, samples)| samples >= STALLED_SAMPLES && last.at - since >= STALLED_SPAN);
        Some(Throughput { rate, eta, stalled })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the throughput after samples of (committed, end) at intervals of this many seconds.
    fn after_each(seconds: i64, samples: &[(i64, i64)]) -> Option<Throughput> {
        let mut tracker = ThroughputTracker::default();
        let mut last = None;
        for (second, (committed, end)) in (1..).zip(samples) {
            let sample = Sample { at: second * 1000 * seconds, committed: *committed, end: *end };
            last = tracker.add("s", "g", Partition::new("throughput", 0), sample);
        }
        last
    }

    fn after(samples: &[(i64, i64)]) -> Option<Throughput> {
        after_each(1, samples)
    }

    #[test]
    fn a_rate_needs_two_samples() {
        assert_eq!(after(&[(0, 100)]), None);
        assert_eq!(after(&[(0, 100), (10, 100)]), Some(Throughput { rate: 10.0, eta: Some(9.0), stalled: false }));
    }

    #[test]
    fn the_eta_includes_records_written_meanwhile() {
        assert_eq!(after(&[(0, 100), (10, 105)]).unwrap().eta, Some(95.0 / 5.0));
        assert_eq!(after(&[(0, 100), (10, 110)]).unwrap().eta, None, "as much is written as is read");
        assert_eq!(after(&[(0, 100), (10, 150)]).unwrap().eta, None, "the group falls behind");
        assert_eq!(after(&[(90, 100), (110, 110)]).unwrap().eta, Some(0.0), "it has caught up");
    }

    #[test]
    fn a_group_is_stalled_when_it_has_something_to_read_and_does_not_move_for_three_samples() {
        let stalled = |samples: &[(i64, i64)]| after_each(5, samples).unwrap().stalled;
        assert!(!stalled(&[(5, 9), (5, 9), (5, 9)]), "two samples without a move may be between two commits");
        assert!(stalled(&[(5, 9), (5, 9), (5, 9), (5, 9)]));
        assert!(stalled(&[(1, 9), (5, 9), (5, 12), (5, 20), (5, 31)]), "also when the end moves");
        assert!(!stalled(&[(5, 9), (5, 9), (5, 9), (6, 9)]));
        assert!(!stalled(&[(9, 9), (9, 9), (9, 9), (9, 9)]), "it has read everything");
        assert!(!stalled(&[(9, 9), (9, 9), (9, 9), (9, 30)]), "there is something new just now");
        assert!(!after(&[(5, 9); 10]).unwrap().stalled, "nine seconds may be between two commits");
        assert!(after(&[(5, 9); 11]).unwrap().stalled);
    }

    #[test]
    fn a_rate_is_that_of_the_last_samples_and_seconds() {
        // A commit every five seconds, of 50 records, is 10 a second at any moment.
        let samples: Vec<_> = (0..60).map(|second| (second / 5 * 50, 10_000)).collect();
        for until in 25..60 {
            let rate = after(&samples[..until]).unwrap().rate;
            assert!((7.5..=12.5).contains(&rate), "{rate} after {until} s");
        }
        // An hour without a move is forgotten in a few samples.
        let mut samples = vec![(0, 10_000); 60];
        samples.extend((1..=5).map(|minute| (minute * 600, 10_000)));
        assert_eq!(after_each(60, &samples), Some(Throughput { rate: 10.0, eta: Some(700.0), stalled: false }));
    }

    #[test]
    fn a_position_that_was_reset_starts_over() {
        assert_eq!(after(&[(50, 100), (60, 100), (0, 100)]), None);
        assert_eq!(after(&[(50, 100), (60, 100), (0, 100), (5, 100)]), after(&[(0, 100), (5, 100)]));
    }

    #[test]
    fn partitions_without_samples_are_dropped() {
        let mut tracker = ThroughputTracker::default();
        for (at, index) in [(1000, 0), (2000, 1)] {
            tracker.add("s", "g", Partition::new("throughput", index), Sample { at, committed: 0, end: 1 });
        }
        tracker.drop_before(2000);
        assert_eq!(tracker.tracks.len(), 1);
    }

    proptest! {
        #[test]
        fn throughput_is_finite_for_any_samples(
            samples in proptest::collection::vec((0..1_000_000_i64, 0..1_000_i64, 0..1_000_i64), 1..30)
        ) {
            let (mut tracker, mut at) = (ThroughputTracker::default(), 0);
            for (committed, ahead, step) in samples {
                at += step;
                let sample = Sample { at, committed, end: committed + ahead };
                if let Some(throughput) = tracker.add("s", "g", Partition::new("throughput", 0), sample) {
                    prop_assert!(throughput.rate.is_finite() && throughput.rate >= 0.0, "{throughput:?}");
                    prop_assert!(throughput.eta.is_none_or(|eta| eta.is_finite() && eta >= 0.0), "{throughput:?}");
                    prop_assert!(!throughput.stalled || throughput.rate == 0.0 || ahead > 0, "{throughput:?}");
                }
            }
        }
    }
}
