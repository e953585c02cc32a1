//! The newest records of many partitions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::commands::tail::filter::FilterResult;
use crate::connectors::kafka::ScanRange;
use crate::record::{Partition, Record, RecordView};

/// How many times larger each step is than the one before.
const GROWTH: i64 = 4;
/// How many orders of records that cannot be shaped are kept; with more, all those that were read are counted.
const MAX_BAD: usize = 100_000;

/// The order of records: by time, then by partition and offset.
type RecordOrder = (i64, Partition, i64);

/// The newest of the records that were added, ordered by time and, within a partition, by offset.
#[derive(Debug)]
pub(super) struct NewestRecords {
    limit: usize,
    kept: BinaryHeap<Reverse<KeptRecord>>,
}

#[derive(Debug)]
pub(super) struct KeptRecord {
    order: RecordOrder,
    pub(super) record: Record,
    /// Whether the timestamp is the log append time.
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
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new() }
    }

    /// Returns whether a record of this order would be kept.
    fn wants(&self, order: RecordOrder) -> bool {
        self.kept.len() < self.limit || self.kept.peek().is_some_and(|Reverse(oldest)| oldest.order < order)
    }

    fn keep(&mut self, order: RecordOrder, record: &RecordView<'_>) {
        self.kept.push(Reverse(KeptRecord { order, record: record.to_record(), appended: record.appended }));
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    /// Returns the time of the oldest record once the limit is reached: older ones are not kept.
    fn oldest(&self) -> Option<i64> {
        (self.kept.len() >= self.limit).then(|| self.kept.peek().map_or(i64::MAX, |Reverse(oldest)| oldest.order.0))
    }

    /// Returns the records, oldest first.
    pub(super) fn into_sorted(self) -> Vec<KeptRecord> {
        let mut kept: Vec<KeptRecord> = self.kept.into_iter().map(|Reverse(kept)| kept).collect();
        kept.sort();
        kept
    }
}

/// Records that match except that their values cannot be shaped.
#[derive(Debug, Default)]
struct UnshapedRecords {
    count: u64,
    /// As many as [`MAX_BAD`].
    orders: Vec<RecordOrder>,
    /// The newest, and why it cannot be shaped.
    newest: Option<(RecordOrder, String)>,
}

impl UnshapedRecords {
    fn add(&mut self, order: RecordOrder, why: String) {
        self.count += 1;
        if self.orders.len() < MAX_BAD {
            self.orders.push(order);
        }
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < order) {
            self.newest = Some((order, why));
        }
    }

    /// Returns how many belong behind the record of this order, and the reason of the newest; `None` without one.
    fn newer_than(self, oldest: Option<RecordOrder>) -> Option<(u64, String)> {
        let is_newer = |order: &RecordOrder| oldest.is_none_or(|oldest| *order > oldest);
        let (_, why) = self.newest.filter(|(order, _)| is_newer(order))?;
        let is_complete = self.orders.len() as u64 == self.count;
        let newer = self.orders.iter().copied().filter(is_newer).count() as u64;
        Some((if is_complete { newer } else { self.count }, why))
    }
}

/// The result of a search.
#[derive(Debug)]
pub(super) struct FoundRecords {
    /// Oldest first.
    pub(super) records: Vec<KeptRecord>,
    /// How many records would be among them if their values could be shaped, and why that of the newest cannot.
    pub(super) bad: Option<(u64, String)>,
}

/// The range of a partition that is being searched, from its end backwards.
#[derive(Debug)]
struct BackwardRange {
    partition: Partition,
    /// Where the search ends.
    low: i64,
    from: i64,
    to: i64,
    size: i64,
    /// The latest time in this range.
    latest: i64,
    /// The time of the range's first record.
    first: Option<i64>,
    /// The time of the first record after this range: no record in the range counts as newer.
    cap: i64,
    /// Whether it is searched in this step.
    open: bool,
}

/// A search for the newest records, backwards from the ends in growing steps. Each step reads the range before the last one, of
/// the partitions that could still hold newer records than those found.
#[derive(Debug)]
pub(super) struct BackwardSearch {
    ranges: Vec<BackwardRange>,
    newest: NewestRecords,
    bad: UnshapedRecords,
    current: usize,
}

impl BackwardSearch {
    /// Returns a search for `limit` records in these partitions, each between two offsets. The first step is `step` offsets.
    pub(super) fn new(limit: usize, step: i64, partitions: impl IntoIterator<Item = (Partition, i64, i64)>) -> Self {
        let range = |(partition, low, end): (Partition, i64, i64)| BackwardRange {
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
        Self {
            ranges: partitions.into_iter().map(range).collect(),
            newest: NewestRecords::new(limit),
            bad: UnshapedRecords::default(),
            current: 0,
        }
    }

    /// Returns the ranges to read next; none when the search is complete.
    pub(super) fn ranges(&self) -> Vec<ScanRange> {
        let open = self.ranges.iter().filter(|range| range.open);
        open.map(|range| ScanRange { partition: range.partition, from: range.from, to: range.to }).collect()
    }

    /// Adds a record of a range. `filter` returns whether and how it is shown, or why its value cannot be shaped; it is called only
    /// if the record would be kept.
    pub(super) fn add(&mut self, record: &RecordView<'_>, filter: impl FnOnce() -> Result<Option<FilterResult>, String>) {
        if self.ranges.get(self.current).is_none_or(|range| range.partition != record.partition) {
            let Some(found) = self.ranges.iter().position(|range| range.partition == record.partition) else { return };
            self.current = found;
        }
        let range = &mut self.ranges[self.current];
        // Producers' clocks differ: time never runs backwards within a partition, which keeps the order of offsets.
        range.latest = range.latest.max(record.timestamp.unwrap_or(-1));
        let time = range.latest.min(range.cap);
        range.first.get_or_insert(time);
        let order = (time, record.partition, record.offset);
        if !self.newest.wants(order) {
            return;
        }
        match filter() {
            Ok(Some(shown)) => self.newest.keep(order, &shown.of(record)),
            Ok(None) => {}
            Err(why) => self.bad.add(order, why),
        }
    }

    /// Moves to the ranges before, in partitions that could still hold newer records.
    pub(super) fn step_back(&mut self) {
        let oldest = self.newest.oldest();
        for range in self.ranges.iter_mut().filter(|range| range.from <= range.low) {
            range.open = false;
        }
        for range in self.ranges.iter_mut().filter(|range| range.from > range.low) {
            let first = range.first.unwrap_or(range.cap);
            range.open = oldest.is_none_or(|oldest| first > oldest);
            if range.open {
                range.size = range.size.saturating_mul(GROWTH);
                (range.to, range.from) = (range.from, range.from.saturating_sub(range.size).max(range.low));
                (range.cap, range.latest, range.first) = (first, i64::MIN, None);
            }
        }
    }

    /// Returns the found records, and those that cannot be shaped among them.
    pub(super) fn into_found(self) -> FoundRecords {
        let limit = self.newest.limit;
        let records = self.newest.into_sorted();
        let oldest = records.first().filter(|_| records.len() >= limit).map(|kept| kept.order);
        FoundRecords { bad: self.bad.newer_than(oldest), records }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::commands::tail::filter::FilterResult;

    /// A partition as a list of records: an offset, a time, and whether it is wanted.
    type Log<'a> = &'a [(i64, i64, bool)];

    /// Searches partitions with these records; returns the matches as (partition, offset), and the number of records read.
    fn found(most: usize, step: i64, logs: &[Log<'_>]) -> (Vec<(i32, i64)>, usize) {
        let index = |at: usize| i32::try_from(at).unwrap();
        let end = |log: Log<'_>| log.last().map_or(0, |(offset, ..)| offset + 1);
        let partitions = logs.iter().enumerate().map(|(at, log)| (Partition::new("last", index(at)), 0, end(log)));
        let mut search = BackwardSearch::new(most, step, partitions);
        let mut read = 0;
        loop {
            let ranges = search.ranges();
            if ranges.is_empty() {
                break;
            }
            for range in ranges {
                for (offset, time, wanted) in logs[usize::try_from(range.partition.index).unwrap()] {
                    if (range.from..range.to).contains(offset) {
                        let (partition, offset, timestamp) = (range.partition, *offset, Some(*time));
                        let value = Some(Bytes::new());
                        let record = Record { partition, offset, timestamp, key: None, value, headers: Vec::new() };
                        search.add(&record.view(), || Ok(wanted.then_some(FilterResult::AsIs)));
                        read += 1;
                    }
                }
            }
            search.step_back();
        }
        (search.into_found().records.iter().map(|kept| (kept.record.partition.index, kept.record.offset)).collect(), read)
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
    fn a_clock_that_runs_ahead_does_not_reorder_a_partition() {
        let ahead = log([1, 1000, 3, 4]);
        assert_eq!(found(3, 3, &[&ahead, &log([2, 5])]).0, [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn a_rare_match_is_searched_for_backwards_to_the_beginning() {
        let wanted = |at: &[i64]| (0..1000).map(|i| (i, i, at.contains(&i))).collect::<Vec<_>>();
        let (one, two) = (wanted(&[3, 990]), wanted(&[500, 700, 999]));
        let (all, read) = found(3, 10, &[&one, &two]);
        assert_eq!(all, [(1, 700), (0, 990), (1, 999)]);
        assert!(read < 2000, "{read} were read: it must not read past the newest matches");
        assert_eq!(found(9, 10, &[&one, &two]), (vec![(0, 3), (1, 500), (1, 700), (0, 990), (1, 999)], 2000));
    }

    /// Searches the ten records of a partition for the newest ones; those at `bad` cannot be shaped. Returns the offsets, and the
    /// bad ones among them.
    fn found_with_bad(most: usize, bad: &[i64]) -> (Vec<i64>, Option<(u64, String)>) {
        let partition = Partition::new("last", 0);
        let mut search = BackwardSearch::new(most, 1000, [(partition, 0, 10)]);
        for offset in 0..10 {
            let record = Record { partition, offset, timestamp: Some(offset), key: None, value: None, headers: Vec::new() };
            search.add(&record.view(), || {
                if bad.contains(&offset) { Err(format!("{offset} is bad")) } else { Ok(Some(FilterResult::AsIs)) }
            });
        }
        let FoundRecords { records, bad } = search.into_found();
        (records.iter().map(|kept| kept.record.offset).collect(), bad)
    }

    #[test]
    fn a_bad_record_is_counted_only_if_it_would_be_shown() {
        assert_eq!(found_with_bad(3, &[2]), (vec![7, 8, 9], None));
        assert_eq!(found_with_bad(3, &[2, 6, 8]), (vec![5, 7, 9], Some((2, "8 is bad".to_owned()))));
        assert_eq!(found_with_bad(9, &[0, 1, 2]), (vec![3, 4, 5, 6, 7, 8, 9], Some((3, "2 is bad".to_owned()))));
        assert_eq!(found_with_bad(7, &[0, 1, 2]), (vec![3, 4, 5, 6, 7, 8, 9], None));
        assert_eq!(found_with_bad(0, &[9]), (Vec::new(), None));
    }

    #[test]
    fn offset_gaps_are_searched_through() {
        let holes: Vec<_> = [0, 1, 2, 900, 998].map(|offset| (offset, offset, true)).into();
        assert_eq!(found(4, 4, &[&holes]).0, [(0, 1), (0, 2), (0, 900), (0, 998)]);
    }
}
