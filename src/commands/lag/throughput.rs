//! How fast groups move, from one look to the next. Pure: the time is an argument.

use std::collections::{HashMap, VecDeque};

use crate::record::Partition;

/// A rate is that of so many looks, the last one and those before it, ...
const LOOKS: usize = 6;
/// ... and of so many milliseconds at least: clients commit every five seconds unless told otherwise.
const SPAN: i64 = 20_000;

/// A partition with something to read is stalled when its commit has not moved for so many looks ...
const STALLED_LOOKS: usize = 3;
/// ... and for so many milliseconds at least.
const STALLED_SPAN: i64 = 10_000;

/// How a group moves in a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Throughput {
    /// Records a second that the commit moves by.
    pub(super) rate: f64,
    /// Seconds until the group has caught up, at the rates of now; `None` when it does not come nearer.
    pub(super) eta: Option<f64>,
    /// Whether there was something to read all the time, and the commit stood still.
    pub(super) stalled: bool,
}

/// A group in a partition of a section's cluster.
type GroupPartition = (String, String, Partition);

/// What was seen until now.
#[derive(Debug, Default)]
pub(super) struct ThroughputTracker {
    tracks: HashMap<GroupPartition, Track>,
}

/// What was seen of one place.
#[derive(Debug, Default)]
struct Track {
    looks: VecDeque<Sample>,
    /// Since when there is something to read and the commit stands still, and for how many looks.
    stood: Option<(i64, usize)>,
}

/// One look at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Milliseconds since the Unix epoch.
    pub(super) at: i64,
    pub(super) committed: i64,
    pub(super) end: i64,
}

impl Sample {
    fn is_behind(&self) -> bool {
        self.end > self.committed
    }
}

impl ThroughputTracker {
    /// Takes a look in and returns how the group moves; `None` at the first look.
    pub(super) fn see(&mut self, section: &str, group: &str, partition: Partition, look: Sample) -> Option<Throughput> {
        let track = self.tracks.entry((section.to_owned(), group.to_owned(), partition)).or_default();
        track.take_in(look);
        track.pace()
    }

    /// Forgets what was not seen at `at` or later.
    pub(super) fn forget_before(&mut self, at: i64) {
        self.tracks.retain(|_, track| track.looks.back().is_some_and(|look| look.at >= at));
    }
}

impl Track {
    fn take_in(&mut self, look: Sample) {
        let last = self.looks.back().copied();
        // A position that was set back, or a topic that was created again, begins anew.
        if last.is_some_and(|last| look.committed < last.committed || look.end < last.end || look.at <= last.at) {
            *self = Self::default();
        }
        self.stood = match self.stood {
            _ if !look.is_behind() => None,
            Some((since, looks)) if last.is_some_and(|last| last.committed == look.committed) => Some((since, looks + 1)),
            _ => Some((look.at, 0)),
        };
        self.looks.push_back(look);
        while self.looks.len() > LOOKS && look.at - self.looks[1].at >= SPAN {
            self.looks.pop_front();
        }
    }

    fn pace(&self) -> Option<Throughput> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
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
        let stalled = self.stood.is_some_and(|(since, looks)| looks >= STALLED_LOOKS && last.at - since >= STALLED_SPAN);
        Some(Throughput { rate, eta, stalled })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the pace after looks of (committed, end) that are so many seconds apart.
    fn after_each(seconds: i64, looks: &[(i64, i64)]) -> Option<Throughput> {
        let mut paces = ThroughputTracker::default();
        let mut last = None;
        for (second, (committed, end)) in (1..).zip(looks) {
            let look = Sample { at: second * 1000 * seconds, committed: *committed, end: *end };
            last = paces.see("s", "g", Partition::new("pace", 0), look);
        }
        last
    }

    fn after(looks: &[(i64, i64)]) -> Option<Throughput> {
        after_each(1, looks)
    }

    #[test]
    fn a_rate_needs_two_looks() {
        assert_eq!(after(&[(0, 100)]), None);
        assert_eq!(after(&[(0, 100), (10, 100)]), Some(Throughput { rate: 10.0, eta: Some(9.0), stalled: false }));
    }

    #[test]
    fn the_time_left_counts_what_is_written_meanwhile() {
        assert_eq!(after(&[(0, 100), (10, 105)]).unwrap().eta, Some(95.0 / 5.0));
        assert_eq!(after(&[(0, 100), (10, 110)]).unwrap().eta, None, "as much is written as is read");
        assert_eq!(after(&[(0, 100), (10, 150)]).unwrap().eta, None, "the group falls behind");
        assert_eq!(after(&[(90, 100), (110, 110)]).unwrap().eta, Some(0.0), "it has caught up");
    }

    #[test]
    fn a_group_is_stalled_when_it_has_something_to_read_and_does_not_move_for_three_looks() {
        let stalled = |looks: &[(i64, i64)]| after_each(5, looks).unwrap().stalled;
        assert!(!stalled(&[(5, 9), (5, 9), (5, 9)]), "two looks without a move may be between two commits");
        assert!(stalled(&[(5, 9), (5, 9), (5, 9), (5, 9)]));
        assert!(stalled(&[(1, 9), (5, 9), (5, 12), (5, 20), (5, 31)]), "also when the end moves");
        assert!(!stalled(&[(5, 9), (5, 9), (5, 9), (6, 9)]));
        assert!(!stalled(&[(9, 9), (9, 9), (9, 9), (9, 9)]), "it has read everything");
        assert!(!stalled(&[(9, 9), (9, 9), (9, 9), (9, 30)]), "there is something new just now");
        assert!(!after(&[(5, 9); 10]).unwrap().stalled, "nine seconds may be between two commits");
        assert!(after(&[(5, 9); 11]).unwrap().stalled);
    }

    #[test]
    fn a_rate_is_that_of_the_last_looks_and_seconds() {
        // A commit every five seconds, of 50 records, is 10 a second at whatever moment.
        let looks: Vec<_> = (0..60).map(|second| (second / 5 * 50, 10_000)).collect();
        for until in 25..60 {
            let rate = after(&looks[..until]).unwrap().rate;
            assert!((7.5..=12.5).contains(&rate), "{rate} after {until} s");
        }
        // An hour without a move is forgotten in a few looks.
        let mut looks = vec![(0, 10_000); 60];
        looks.extend((1..=5).map(|minute| (minute * 600, 10_000)));
        assert_eq!(after_each(60, &looks), Some(Throughput { rate: 10.0, eta: Some(700.0), stalled: false }));
    }

    #[test]
    fn a_position_that_was_set_back_begins_anew() {
        assert_eq!(after(&[(50, 100), (60, 100), (0, 100)]), None);
        assert_eq!(after(&[(50, 100), (60, 100), (0, 100), (5, 100)]), after(&[(0, 100), (5, 100)]));
    }

    #[test]
    fn places_that_are_gone_are_forgotten() {
        let mut paces = ThroughputTracker::default();
        for (at, index) in [(1000, 0), (2000, 1)] {
            paces.see("s", "g", Partition::new("pace", index), Sample { at, committed: 0, end: 1 });
        }
        paces.forget_before(2000);
        assert_eq!(paces.tracks.len(), 1);
    }

    proptest! {
        #[test]
        fn whatever_is_seen_the_numbers_are_numbers(
            looks in proptest::collection::vec((0..1_000_000_i64, 0..1_000_i64, 0..1_000_i64), 1..30)
        ) {
            let (mut paces, mut at) = (ThroughputTracker::default(), 0);
            for (committed, ahead, step) in looks {
                at += step;
                let look = Sample { at, committed, end: committed + ahead };
                if let Some(pace) = paces.see("s", "g", Partition::new("pace", 0), look) {
                    prop_assert!(pace.rate.is_finite() && pace.rate >= 0.0, "{pace:?}");
                    prop_assert!(pace.eta.is_none_or(|eta| eta.is_finite() && eta >= 0.0), "{pace:?}");
                    prop_assert!(!pace.stalled || pace.rate == 0.0 || ahead > 0, "{pace:?}");
                }
            }
        }
    }
}
