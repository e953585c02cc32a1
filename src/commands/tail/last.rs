//! The newest records of many partitions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::commands::tail::filter::FilterResult;
use crate::connectors::kafka::ScanRange;
use crate::record::{Partition, Record, RecordView};

/// How many times larger each window is than the one behind it.
const GROWTH: i64 = 4;

/// Keeps the newest records of all that it is shown, in an order that is by time and, within a partition, by offset.
#[derive(Debug)]
pub(super) struct NewestRecords {
    most: usize,
    kept: BinaryHeap<Reverse<KeptRecord>>,
}

/// A record that is kept.
#[derive(Debug)]
pub(super) struct KeptRecord {
    order: (i64, Partition, i64),
    pub(super) record: Record,
    /// Whether the broker set its timestamp.
    pub(super) appended: bool,
}

impl PartialEq for KeptRecord {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for KeptRecord {}

impl PartialOrd for KeptRecord {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeptRecord {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl NewestRecords {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new() }
    }

    /// Returns whether a record of this time could still be kept.
    fn wants(&self, order: (i64, Partition, i64)) -> bool {
        self.kept.len() < self.most || self.kept.peek().is_some_and(|Reverse(oldest)| oldest.order < order)
    }

    fn keep(&mut self, order: (i64, Partition, i64), record: &RecordView<'_>) {
        self.kept.push(Reverse(KeptRecord { order, record: record.to_record(), appended: record.appended }));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// Returns the time before which nothing is kept any more.
    fn oldest(&self) -> Option<i64> {
        (self.kept.len() >= self.most).then(|| self.kept.peek().map_or(i64::MAX, |Reverse(oldest)| oldest.order.0))
    }

    /// Returns what was kept, oldest first.
    pub(super) fn into_sorted(self) -> Vec<KeptRecord> {
        let mut kept: Vec<KeptRecord> = self.kept.into_iter().map(|Reverse(kept)| kept).collect();
        kept.sort();
        kept
    }
}

/// The part of a partition that is being looked through, from its end backwards.
#[derive(Debug)]
struct BackwardRange {
    partition: Partition,
    /// Where the search ends.
    low: i64,
    from: i64,
    to: i64,
    size: i64,
    /// The latest time seen in this window.
    latest: i64,
    /// The time of the window's first record.
    first: Option<i64>,
    /// The time of the first record behind this window: nothing in here counts as newer.
    cap: i64,
    /// Whether it is being looked through now.
    open: bool,
}

/// A search for the newest records, backwards from the ends in growing steps: each step reads what lies before the last one, of
/// the partitions that could still hold newer records than those that were found.
#[derive(Debug)]
pub(super) struct BackwardSearch {
    windows: Vec<BackwardRange>,
    newest: NewestRecords,
    current: usize,
}

impl BackwardSearch {
    /// Returns a search for `most` records in these partitions, each between two offsets. The first step is `step` offsets.
    pub(super) fn new(most: usize, step: i64, partitions: impl IntoIterator<Item = (Partition, i64, i64)>) -> Self {
        let window = |(partition, low, end): (Partition, i64, i64)| BackwardRange {
            partition,
            low,
            from: end.saturating_sub(step).max(low),
            to: end,
            size: step,
            latest: i64::MIN,
            first: None,
            cap: i64::MAX,
            open: end > low,
        };
        Self { windows: partitions.into_iter().map(window).collect(), newest: NewestRecords::new(most), current: 0 }
    }

    /// Returns what is to be read now; nothing when the search is over.
    pub(super) fn spans(&self) -> Vec<ScanRange> {
        let open = self.windows.iter().filter(|window| window.open);
        open.map(|window| ScanRange { partition: window.partition, from: window.from, to: window.to }).collect()
    }

    /// Takes a record of a span that is being read. `sift` says whether and how it is shown; it is asked only if the record would
    /// be kept.
    pub(super) fn take(&mut self, record: &RecordView<'_>, sift: impl FnOnce() -> Option<FilterResult>) {
        if self.windows.get(self.current).is_none_or(|window| window.partition != record.partition) {
            let Some(found) = self.windows.iter().position(|window| window.partition == record.partition) else { return };
            self.current = found;
        }
        let window = &mut self.windows[self.current];
        // Producers' clocks differ: time never runs backwards along a partition, so that its order is kept.
        window.latest = window.latest.max(record.timestamp.unwrap_or(-1));
        let time = window.latest.min(window.cap);
        window.first.get_or_insert(time);
        let order = (time, record.partition, record.offset);
        if self.newest.wants(order)
            && let Some(shown) = sift()
        {
            self.newest.keep(order, &shown.of(record));
        }
    }

    /// Goes a step back, where a step back could find something.
    pub(super) fn step_back(&mut self) {
        let oldest = self.newest.oldest();
        for window in self.windows.iter_mut().filter(|window| window.from <= window.low) {
            window.open = false;
        }
        for window in self.windows.iter_mut().filter(|window| window.from > window.low) {
            let first = window.first.unwrap_or(window.cap);
            window.open = oldest.is_none_or(|oldest| first > oldest);
            if window.open {
                window.size = window.size.saturating_mul(GROWTH);
                (window.to, window.from) = (window.from, window.from.saturating_sub(window.size).max(window.low));
                (window.cap, window.latest, window.first) = (first, i64::MIN, None);
            }
        }
    }

    /// Returns what was found, oldest first.
    pub(super) fn found(self) -> Vec<KeptRecord> {
        self.newest.into_sorted()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::commands::tail::filter::FilterResult;

    /// A partition as a list of records: an offset, a time, and whether it is wanted.
    type Log<'a> = &'a [(i64, i64, bool)];

    /// Searches in partitions that hold these records, and returns what is found as (partition, offset), and how many were read.
    fn found(most: usize, step: i64, logs: &[Log<'_>]) -> (Vec<(i32, i64)>, usize) {
        let index = |at: usize| i32::try_from(at).unwrap();
        let end = |log: Log<'_>| log.last().map_or(0, |(offset, ..)| offset + 1);
        let partitions = logs.iter().enumerate().map(|(at, log)| (Partition::new("last", index(at)), 0, end(log)));
        let mut search = BackwardSearch::new(most, step, partitions);
        let mut read = 0;
        loop {
            let spans = search.spans();
            if spans.is_empty() {
                break;
            }
            for span in spans {
                for (offset, time, wanted) in logs[usize::try_from(span.partition.index).unwrap()] {
                    if (span.from..span.to).contains(offset) {
                        let (partition, offset, timestamp) = (span.partition, *offset, Some(*time));
                        let value = Some(Bytes::new());
                        let record = Record { partition, offset, timestamp, key: None, value, headers: Vec::new() };
                        search.take(&record.view(), || wanted.then_some(FilterResult::AsIs));
                        read += 1;
                    }
                }
            }
            search.step_back();
        }
        (search.found().iter().map(|kept| (kept.record.partition.index, kept.record.offset)).collect(), read)
    }

    fn log(times: impl IntoIterator<Item = i64>) -> Vec<(i64, i64, bool)> {
        (0..).zip(times).map(|(offset, time)| (offset, time, true)).collect()
    }

    #[test]
    fn the_newest_of_all_partitions_are_found_by_reading_their_ends_only() {
        let (even, odd) = (log((0..100).map(|i| 2 * i)), log((0..100).map(|i| 2 * i + 1)));
        assert_eq!(found(3, 3, &[&even, &odd]), (vec![(1, 98), (0, 99), (1, 99)], 6));
        let old = log(-100..0);
        assert_eq!(found(2, 2, &[&old, &odd]).0, [(1, 98), (1, 99)]);
        assert_eq!(found(5, 5, &[&[], &log(0..2)]), (vec![(1, 0), (1, 1)], 2));
    }

    #[test]
    fn a_clock_that_runs_ahead_does_not_turn_a_partitions_order_round() {
        let ahead = log([1, 1000, 3, 4]);
        assert_eq!(found(3, 3, &[&ahead, &log([2, 5])]).0, [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn what_few_records_fit_is_searched_for_backwards_as_far_as_it_takes() {
        let wanted = |at: &[i64]| (0..1000).map(|i| (i, i, at.contains(&i))).collect::<Vec<_>>();
        let (one, two) = (wanted(&[3, 990]), wanted(&[500, 700, 999]));
        let (all, read) = found(3, 10, &[&one, &two]);
        assert_eq!(all, [(1, 700), (0, 990), (1, 999)]);
        assert!(read < 2000, "{read} were read: beyond what was found there is nothing newer");
        assert_eq!(found(9, 10, &[&one, &two]), (vec![(0, 3), (1, 500), (1, 700), (0, 990), (1, 999)], 2000));
    }

    #[test]
    fn holes_are_gone_through() {
        let holes: Vec<_> = [0, 1, 2, 900, 998].map(|offset| (offset, offset, true)).into();
        assert_eq!(found(4, 4, &[&holes]).0, [(0, 1), (0, 2), (0, 900), (0, 998)]);
    }
}
