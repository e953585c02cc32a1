//! The newest records of many partitions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::commands::tail::filter::Shown;
use crate::connectors::kafka::Span;
use crate::record::{Partition, Record, RecordRef};

/// How many times larger each window is than the one behind it.
const GROWTH: i64 = 4;

/// Keeps the newest records of all that it is shown, in an order that is by time and, within a partition, by offset.
#[derive(Debug)]
pub(super) struct Newest {
    most: usize,
    kept: BinaryHeap<Reverse<Kept>>,
}

/// A record that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    order: (i64, Partition, i64),
    pub(super) record: Record,
    /// Whether the broker set its timestamp.
    pub(super) appended: bool,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl Newest {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new() }
    }

    /// Returns whether a record of this time could still be kept.
    fn wants(&self, order: (i64, Partition, i64)) -> bool {
        self.kept.len() < self.most || self.kept.peek().is_some_and(|Reverse(oldest)| oldest.order < order)
    }

    fn keep(&mut self, order: (i64, Partition, i64), record: &RecordRef<'_>) {
        self.kept.push(Reverse(Kept { order, record: record.to_record(), appended: record.appended }));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// Returns the time before which nothing is kept any more.
    fn oldest(&self) -> Option<i64> {
        (self.kept.len() >= self.most).then(|| self.kept.peek().map_or(i64::MAX, |Reverse(oldest)| oldest.order.0))
    }

    /// Returns what was kept, oldest first.
    pub(super) fn into_sorted(self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = self.kept.into_iter().map(|Reverse(kept)| kept).collect();
        kept.sort();
        kept
    }
}

/// The part of a partition that is being looked through, from its end backwards.
#[derive(Debug)]
struct Window {
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
pub(super) struct Search {
    windows: Vec<Window>,
    newest: Newest,
    current: usize,
}

impl Search {
    /// Returns a search for `most` records in these partitions, each between two offsets. The first step is `step` offsets.
    pub(super) fn new(most: usize, step: i64, partitions: impl IntoIterator<Item = (Partition, i64, i64)>) -> Self {
        let window = |(partition, low, end): (Partition, i64, i64)| Window {
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
        Self { windows: partitions.into_iter().map(window).collect(), newest: Newest::new(most), current: 0 }
    }

    /// Returns what is to be read now; nothing when the search is over.
    pub(super) fn spans(&self) -> Vec<Span> {
        let open = self.windows.iter().filter(|window| window.open);
        open.map(|window| Span { partition: window.partition, from: window.from, to: window.to }).collect()
    }

    /// Takes a record of a span that is being read. `sift` says whether and how it is shown; it is asked only if the record would
    /// be kept.
    pub(super) fn take(&mut self, record: &RecordRef<'_>, sift: impl FnOnce() -> Option<Shown>) {
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
    pub(super) fn found(self) -> Vec<Kept> {
        self.newest.into_sorted()
    }
}
