//! Tumbling windows over partitions: the window of an event, when a window closes, and where to resume. Pure: time is an argument,
//! in milliseconds.
//!
//! Counts are kept by partition, so that a partition can leave and return. A window closes when the watermark has passed its end
//! plus the grace; the watermark is the minimum over the partitions of their newest event time. A partition that was read to its
//! end and stays idle does not hold the watermark back; when all are idle, the watermark follows the clock from the newest event.
//!
//! A restart needs, for each partition, the offset at which its oldest open window begins, the offset that was read last, and the
//! time up to which windows are closed. It reads again from the first: an event below the second and before the third was counted
//! in a published window, or was late; every other event belongs to a window that is open again.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Fingerprint, NextOffset, Partition};
use crate::windows::counts::Counts;
use crate::windows::projection::EventFields;

/// The shape of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRules {
    /// The time from the start of a window to its end.
    pub length: i64,
    /// How long a window stays open for late events.
    pub grace: i64,
    /// Idle time after which a partition that is read to its end stops holding windows open.
    pub idle: i64,
}

/// The current time on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, since the Unix epoch. It can jump.
    pub wall: i64,
    /// A monotonic clock: idle times are measured by it.
    pub steady: i64,
}

/// The state of a partition at its assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStart {
    /// The first offset to read.
    pub next: i64,
    /// An earlier run or assignment read up to here.
    pub read: Option<i64>,
    /// Windows that end at or before this time are closed.
    pub closed: Option<i64>,
    /// The last record that was read before.
    pub last: Option<Fingerprint>,
}

/// An event time further ahead of its record's timestamp than this is wrong.
const MAX_LEAD: i64 = 60_000;

/// An event further ahead of the wall clock than this is late at once: its window would stay open until then.
const MAX_FUTURE: i64 = 3_600_000;

/// Returns the time of an event from its own time field and its record's timestamp, and whether the field was ignored because it
/// lies too far ahead of the record: such an event would close every window early. The record's timestamp replaces it, not the
/// clock, so that the event falls into the same window when it is read again.
#[must_use]
pub fn event_time(event: Option<i64>, record: Option<i64>, now: Now) -> (i64, bool) {
    match (event, record) {
        (Some(event), Some(record)) if event > record.saturating_add(MAX_LEAD) => (record, true),
        (Some(event), _) => (event, false),
        (None, Some(record)) => (record, false),
        (None, None) => (now.wall, false),
    }
}

/// The verdict on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    /// Counted in an open window.
    Counted,
    /// Its window is closed, or too far in the future.
    Late,
    /// Counted, or late, before a restart.
    Replayed,
}

/// A closed window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub(crate) start: i64,
    /// Exclusive.
    pub(crate) end: i64,
    pub(crate) counts: Counts,
}

/// Where a partition resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumePosition {
    pub(crate) partition: Partition,
    /// The first offset of the oldest open window, or the next offset to read.
    pub(crate) resume: NextOffset,
    /// The next offset to read.
    pub(crate) read: NextOffset,
    /// The last record that was read.
    pub(crate) last: Option<Fingerprint>,
}

/// The windows of all partitions.
#[derive(Debug)]
pub struct Windows {
    rules: WindowRules,
    partitions: BTreeMap<Partition, PartitionWindows>,
    /// No window closes while one of these is not owned.
    required: BTreeSet<Partition>,
    closed: Option<i64>,
}

#[derive(Debug, Default)]
struct PartitionWindows {
    owned: bool,
    next: i64,
    /// Records below were read before.
    replayed: i64,
    /// Open windows, oldest first.
    open: Vec<OpenWindow>,
    /// The newest event time, capped at the wall clock.
    newest: Option<i64>,
    /// When `newest` last advanced.
    advanced: i64,
    end: Option<i64>,
    last: Option<Fingerprint>,
}

#[derive(Debug)]
struct OpenWindow {
    start: i64,
    /// The offset of its first event.
    first: i64,
    counts: Counts,
}

/// Counts consecutive records of one partition.
pub struct PartitionRun<'w> {
    length: i64,
    closed: i64,
    now: Now,
    windows: &'w mut PartitionWindows,
    /// Index in `open` of the last event's window.
    last: usize,
}

impl Windows {
    /// Returns windows that close only while all `required` partitions are owned.
    #[must_use]
    pub fn new(rules: WindowRules, required: impl IntoIterator<Item = Partition>) -> Self {
        Self { rules, partitions: BTreeMap::new(), required: required.into_iter().collect(), closed: None }
    }

    /// Begins to own `partition`. Returns the number of events that were counted and will be read again.
    pub fn assign(&mut self, partition: Partition, start: PartitionStart, now: Now) -> u64 {
        self.required.insert(partition);
        // Windows of another length begin after the published ones.
        let closed = start.closed.map(|closed| -(-closed).div_euclid(self.rules.length) * self.rules.length);
        self.closed = self.closed.max(closed);
        let windows = self.partitions.entry(partition).or_default();
        let mut again = 0;
        // Otherwise the partition continues behind a gap, and keeps the counts from before it.
        if start.next < windows.next || windows.open.is_empty() {
            again = windows.open.iter().map(|open| open.counts.events).sum();
            *windows =
                PartitionWindows { replayed: windows.replayed, last: start.last.or(windows.last), ..PartitionWindows::default() };
        }
        windows.owned = true;
        windows.next = start.next;
        windows.replayed = windows.replayed.max(start.read.unwrap_or(0));
        windows.advanced = now.steady;
        again
    }

    /// Stops owning partitions. No window closes until they are owned again.
    pub(crate) fn remove(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(windows) = self.partitions.get_mut(partition) {
                windows.owned = false;
            }
        }
    }

    /// Returns the required partitions that are not owned.
    pub(crate) fn missing_partitions(&self) -> impl Iterator<Item = Partition> {
        self.required.iter().copied().filter(|partition| self.partitions.get(partition).is_none_or(|windows| !windows.owned))
    }

    /// Begins to count records of `partition`.
    ///
    /// # Panics
    /// When the partition was never assigned.
    pub fn run(&mut self, partition: Partition, now: Now) -> PartitionRun<'_> {
        let windows = self.partitions.get_mut(&partition).expect("records come from assigned partitions");
        PartitionRun { length: self.rules.length, closed: self.closed.unwrap_or(i64::MIN), now, windows, last: 0 }
    }

    /// Advances over offsets that hold no records.
    pub(crate) fn advance(&mut self, positions: &[(Partition, NextOffset)]) {
        for (partition, next) in positions {
            if let Some(windows) = self.partitions.get_mut(partition).filter(|windows| windows.owned) {
                windows.next = windows.next.max(next.0);
            }
        }
    }

    /// Updates the end offsets of partitions.
    pub(crate) fn set_ends(&mut self, ends: &[(Partition, i64)]) {
        for (partition, end) in ends {
            if let Some(windows) = self.partitions.get_mut(partition) {
                windows.end = Some(*end);
            }
        }
    }

    /// Returns the time up to which open windows can be closed. Idle partitions stop holding windows open only with `fresh` end
    /// offsets: a partition on an unreachable broker has none, and is not idle.
    #[must_use]
    pub fn due(&self, now: Now, fresh: bool) -> Option<i64> {
        let oldest = self.partitions.values().filter_map(|windows| windows.open.first()).map(|open| open.start).min()?;
        let until =
            (self.watermark(now, fresh)?.saturating_sub(self.rules.grace)).div_euclid(self.rules.length) * self.rules.length;
        (oldest < until).then_some(until)
    }

    /// Returns whether every required partition is owned, and has been read as far as before: otherwise a window would close with
    /// some of its events missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing_partitions().next().is_none() && self.partitions.values().all(|windows| windows.next >= windows.replayed)
    }

    fn watermark(&self, now: Now, fresh: bool) -> Option<i64> {
        if !self.is_whole() {
            return None;
        }
        let holds = |windows: &&PartitionWindows| {
            let at_end = windows.end.is_some_and(|end| windows.next >= end);
            let is_idle = now.steady - windows.advanced >= self.rules.idle || windows.newest.is_none();
            !(fresh && at_end && is_idle)
        };
        let mut busy = self.partitions.values().filter(holds).peekable();
        if busy.peek().is_none() {
            let advanced = self.partitions.values().map(|windows| windows.advanced).max()?;
            let newest = self.partitions.values().filter_map(|windows| windows.newest).max()?;
            return Some(newest + (now.steady - advanced));
        }
        // A busy partition without an event time holds every window open.
        busy.map(|windows| windows.newest).min().flatten()
    }

    /// Returns the end of the newest open window that has begun: the time up to which a bounded run closes windows at its end.
    pub(crate) fn newest_end(&self, now: Now) -> Option<i64> {
        let open = self.partitions.values().flat_map(|windows| &windows.open).map(|open| open.start);
        open.filter(|start| *start <= now.wall).max().map(|start| start + self.rules.length)
    }

    /// Closes the windows that end at or before `until`, and returns them, oldest first.
    pub fn close(&mut self, until: i64) -> Vec<Window> {
        let mut closed: BTreeMap<i64, Counts> = BTreeMap::new();
        for windows in self.partitions.values_mut() {
            let over = windows.open.partition_point(|open| open.start + self.rules.length <= until);
            for open in windows.open.drain(..over) {
                closed.entry(open.start).or_default().merge(&open.counts);
            }
            windows.replayed = windows.replayed.max(windows.next);
        }
        self.closed = self.closed.max(Some(until));
        let window = |(start, counts)| Window { start, end: start + self.rules.length, counts };
        closed.into_iter().map(window).collect()
    }

    /// Returns the time up to which windows are closed.
    pub(crate) fn closed(&self) -> Option<i64> {
        self.closed
    }

    /// Returns where each owned partition resumes.
    pub(crate) fn positions(&self) -> Vec<ResumePosition> {
        let position = |(partition, windows): (&Partition, &PartitionWindows)| ResumePosition {
            partition: *partition,
            resume: NextOffset(windows.open.iter().map(|open| open.first).min().unwrap_or(windows.next)),
            // During a replay the position is still the one that was read before.
            read: NextOffset(windows.next.max(windows.replayed)),
            last: windows.last,
        };
        self.partitions.iter().filter(|(_, windows)| windows.owned).map(position).collect()
    }

    /// Returns the oldest open window: its start, its end with the grace time, and its events.
    pub(crate) fn oldest_open(&self) -> Option<(i64, i64, u64)> {
        let open = || self.partitions.values().flat_map(|windows| &windows.open);
        let start = open().map(|window| window.start).min()?;
        let events = open().filter(|window| window.start == start).map(|window| window.counts.events).sum();
        Some((start, start + self.rules.length + self.rules.grace, events))
    }

    /// Returns the number of events in open windows.
    pub(crate) fn open_events(&self) -> u64 {
        self.partitions.values().flat_map(|windows| &windows.open).map(|open| open.counts.events).sum()
    }
}

impl PartitionRun<'_> {
    /// Counts the event in the record at `offset`, which happened at `time`.
    pub fn count(&mut self, offset: i64, time: i64, fields: &EventFields<'_>) -> Classification {
        let is_replayed = self.skip(offset);
        let reached = time.min(self.now.wall);
        // A partition whose event time stands still counts as idle, even while records arrive.
        if self.windows.newest.is_none_or(|newest| newest < reached) {
            self.windows.newest = Some(reached);
            self.windows.advanced = self.now.steady;
        }
        if time < self.closed || time > self.now.wall.saturating_add(MAX_FUTURE) {
            return if is_replayed { Classification::Replayed } else { Classification::Late };
        }
        let open = &mut self.windows.open;
        let start = time.div_euclid(self.length) * self.length;
        if open.get(self.last).is_none_or(|open| open.start != start) {
            self.last = match open.binary_search_by_key(&start, |open| open.start) {
                Ok(at) => at,
                Err(at) => {
                    open.insert(at, OpenWindow { start, first: offset, counts: Counts::default() });
                    at
                }
            };
        }
        open[self.last].counts.add(fields);
        Classification::Counted
    }

    /// Passes over the record at `offset`; returns whether it was read before.
    pub(crate) fn skip(&mut self, offset: i64) -> bool {
        let is_replayed = offset < self.windows.replayed;
        self.windows.next = offset + 1;
        is_replayed
    }

    /// Ends the run with the fingerprint of its last record.
    pub fn end(self, last: Fingerprint) {
        self.windows.last = Some(last);
    }
}

#[cfg(test)]
#[path = "tumbling_tests.rs"]
mod tests;
