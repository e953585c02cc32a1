//! Tumbling windows over partitions: which window an event falls into, when a window is over, and where to resume. Pure: the time
//! is an argument. All times are milliseconds.
//!
//! Counts are kept by partition, so that a partition can go and come back. A window closes when the watermark has passed its end
//! and the grace: the least of the newest times of the partitions. A partition that was read to its end and then heard nothing for
//! a while holds nothing up; when all are silent, time goes on by the clock from the newest event.
//!
//! What a restart needs is, for each partition, where the oldest open window begins in the log, how far it was read, and until
//! when windows are closed: reading again from the first, an event below the second that is older than the third was counted in a
//! window that has been published, or was late; every other one belongs to a window that is open again.

use std::collections::{BTreeMap, BTreeSet};

use crate::logins::counts::Counts;
use crate::logins::projection::EventFields;
use crate::record::{Fingerprint, NextOffset, Partition};

/// How windows are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRules {
    /// The length of a window.
    pub length: i64,
    /// How long after its end a window is open for what is late.
    pub grace: i64,
    /// How long a partition is silent at its end until it holds nothing up.
    pub idle: i64,
}

/// The present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What the machine's clock says, since the Unix epoch. It can jump.
    pub wall: i64,
    /// The same on a clock that never jumps, from any beginning: how long a silence lasts is measured by it.
    pub steady: i64,
}

/// Where a partition begins to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStart {
    /// The first offset to be read.
    pub next: i64,
    /// Records below were read before.
    pub read: Option<i64>,
    /// Until when windows were closed.
    pub closed: Option<i64>,
    /// The last record that was read before.
    pub last: Option<Fingerprint>,
}

/// How far a producer's clock may be ahead of its event's own time until the event's time is held to be wrong, and not late.
const AHEAD: i64 = 60_000;

/// How far ahead a record's own time may be. One that is further ahead is in no window: that one would be open until then.
const FUTURE: i64 = 3_600_000;

/// Returns when an event happened that says `event` in a record that says `record`, and whether its own time was not taken: one
/// that lies behind that of its record, as of an event from tomorrow, would close every window before its time. It is the record's
/// time that counts then, and not the clock's, so that the event falls into the same window when it is read again.
#[must_use]
pub fn when(event: Option<i64>, record: Option<i64>, now: Now) -> (i64, bool) {
    match (event, record) {
        (Some(event), Some(record)) if event > record.saturating_add(AHEAD) => (record, true),
        (Some(event), _) => (event, false),
        (None, Some(record)) => (record, false),
        (None, None) => (now.wall, false),
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    /// It is counted in an open window.
    Counted,
    /// Its window is closed, or far in the future.
    Late,
    /// It was counted, or late, before a restart.
    Known,
}

/// A window that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub start: i64,
    /// When it ends, exclusive.
    pub end: i64,
    /// What happened in it.
    pub counts: Counts,
}

/// Where a partition is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePosition {
    /// The partition.
    pub partition: Partition,
    /// Where its oldest open window begins, or else where it is read on.
    pub resume: NextOffset,
    /// How far it was read.
    pub read: NextOffset,
    /// The last record that was read.
    pub last: Option<Fingerprint>,
}

/// The windows of all partitions.
#[derive(Debug)]
pub struct Windows {
    rules: WindowRules,
    parts: BTreeMap<Partition, PartitionWindows>,
    /// Partitions that must be there before a window can be closed.
    needed: BTreeSet<Partition>,
    closed: Option<i64>,
}

/// The windows of one partition.
#[derive(Debug, Default)]
struct PartitionWindows {
    /// Whether it is being read.
    owned: bool,
    next: i64,
    /// Records below were read before.
    known: i64,
    /// Open windows, oldest first.
    open: Vec<OpenWindow>,
    /// The newest time, but never one in the future.
    newest: Option<i64>,
    /// When its time went on last.
    heard: i64,
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

/// A run of records of one partition that is being counted.
pub struct RecordRun<'w> {
    length: i64,
    closed: i64,
    now: Now,
    part: &'w mut PartitionWindows,
    /// Where in `open` the last event went.
    last: usize,
}

impl Windows {
    /// Returns windows by these rules over partitions that must all be there; those until `closed` are closed.
    #[must_use]
    pub fn new(rules: WindowRules, needed: impl IntoIterator<Item = Partition>, closed: Option<i64>) -> Self {
        Self { rules, parts: BTreeMap::new(), needed: needed.into_iter().collect(), closed }
    }

    /// Takes note that `partition` is read. Returns how many events were counted there and are read again.
    pub fn assigned(&mut self, partition: Partition, start: PartitionStart, now: Now) -> u64 {
        self.needed.insert(partition);
        // Windows of another length, if it was changed, begin behind what was published.
        let closed = start.closed.map(|closed| -(-closed).div_euclid(self.rules.length) * self.rules.length);
        self.closed = self.closed.max(closed);
        let part = self.parts.entry(partition).or_default();
        let mut again = 0;
        // Else it goes on behind a gap, with what was counted before it.
        if start.next < part.next || part.open.is_empty() {
            again = part.open.iter().map(|open| open.counts.events).sum();
            *part = PartitionWindows { known: part.known, last: start.last.or(part.last), ..PartitionWindows::default() };
        }
        part.owned = true;
        part.next = start.next;
        part.known = part.known.max(start.read.unwrap_or(0));
        part.heard = now.steady;
        again
    }

    /// Takes note that partitions are not read any more. Until they are again, nothing is closed.
    pub fn lost(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(part) = self.parts.get_mut(partition) {
                part.owned = false;
            }
        }
    }

    /// Returns the partitions that are needed and not read.
    pub fn lacking(&self) -> impl Iterator<Item = Partition> {
        self.needed.iter().copied().filter(|partition| self.parts.get(partition).is_none_or(|part| !part.owned))
    }

    /// Begins to count records of `partition` at `now`.
    ///
    /// # Panics
    /// When the partition was never assigned.
    pub fn run(&mut self, partition: Partition, now: Now) -> RecordRun<'_> {
        let part = self.parts.get_mut(&partition).expect("records come from partitions that were assigned");
        RecordRun { length: self.rules.length, closed: self.closed.unwrap_or(i64::MIN), now, part, last: 0 }
    }

    /// Takes note that there is nothing to read before these offsets.
    pub fn passed(&mut self, positions: &[(Partition, NextOffset)]) {
        for (partition, next) in positions {
            if let Some(part) = self.parts.get_mut(partition).filter(|part| part.owned) {
                part.next = part.next.max(next.0);
            }
        }
    }

    /// Takes note of the ends of partitions.
    pub fn ends(&mut self, ends: &[(Partition, i64)]) {
        for (partition, end) in ends {
            if let Some(part) = self.parts.get_mut(partition) {
                part.end = Some(*end);
            }
        }
    }

    /// Returns until when windows can be closed at `now`, if any of them is open. That a partition is silent counts only if its end is
    /// `fresh`: one that cannot be read tells no end either, and is not silent.
    #[must_use]
    pub fn due(&self, now: Now, fresh: bool) -> Option<i64> {
        let oldest = self.parts.values().filter_map(|part| part.open.first()).map(|open| open.start).min()?;
        let until =
            (self.watermark(now, fresh)?.saturating_sub(self.rules.grace)).div_euclid(self.rules.length) * self.rules.length;
        (oldest < until).then_some(until)
    }

    /// Returns whether every needed partition is read, and has been read as far as it was before: else a window would close on a part
    /// of its events.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lacking().next().is_none() && self.parts.values().all(|part| part.next >= part.known)
    }

    /// Returns until when every event is held to have come.
    fn watermark(&self, now: Now, fresh: bool) -> Option<i64> {
        if !self.is_whole() {
            return None;
        }
        let holds = |part: &&PartitionWindows| {
            let at_end = part.end.is_some_and(|end| part.next >= end);
            let is_silent = now.steady - part.heard >= self.rules.idle || part.newest.is_none();
            !(fresh && at_end && is_silent)
        };
        let mut busy = self.parts.values().filter(holds).peekable();
        if busy.peek().is_none() {
            let heard = self.parts.values().map(|part| part.heard).max()?;
            let newest = self.parts.values().filter_map(|part| part.newest).max()?;
            return Some(newest + (now.steady - heard));
        }
        // One that has said no time yet holds everything up.
        busy.map(|part| part.newest).min().flatten()
    }

    /// Returns the end of the newest open window that has begun at `now`: until then everything would have to be closed at the end of a
    /// bounded run.
    #[must_use]
    pub fn newest_end(&self, now: Now) -> Option<i64> {
        let open = self.parts.values().flat_map(|part| &part.open).map(|open| open.start);
        open.filter(|start| *start <= now.wall).max().map(|start| start + self.rules.length)
    }

    /// Closes the windows that end at or before `until`, and returns them, oldest first.
    pub fn close(&mut self, until: i64) -> Vec<Window> {
        let mut windows: BTreeMap<i64, Counts> = BTreeMap::new();
        for part in self.parts.values_mut() {
            let over = part.open.partition_point(|open| open.start + self.rules.length <= until);
            for open in part.open.drain(..over) {
                windows.entry(open.start).or_default().merge(&open.counts);
            }
            part.known = part.known.max(part.next);
        }
        self.closed = self.closed.max(Some(until));
        let window = |(start, counts)| Window { start, end: start + self.rules.length, counts };
        windows.into_iter().map(window).collect()
    }

    /// Returns until when windows are closed.
    #[must_use]
    pub fn closed(&self) -> Option<i64> {
        self.closed
    }

    /// Returns where each partition would be resumed.
    #[must_use]
    pub fn positions(&self) -> Vec<ResumePosition> {
        let position = |(partition, part): (&Partition, &PartitionWindows)| ResumePosition {
            partition: *partition,
            resume: NextOffset(part.open.iter().map(|open| open.first).min().unwrap_or(part.next)),
            // While it is read again, what was read before still counts as read.
            read: NextOffset(part.next.max(part.known)),
            last: part.last,
        };
        self.parts.iter().filter(|(_, part)| part.owned).map(position).collect()
    }

    /// Returns how many events are in open windows.
    #[must_use]
    pub fn open_events(&self) -> u64 {
        self.parts.values().flat_map(|part| &part.open).map(|open| open.counts.events).sum()
    }
}

impl RecordRun<'_> {
    /// Counts the event in the record at `offset`, which happened at `time`.
    pub fn count(&mut self, offset: i64, time: i64, sight: &EventFields<'_>) -> Classification {
        let is_known = offset < self.part.known;
        self.part.next = offset + 1;
        let reached = time.min(self.now.wall);
        // A partition in which time stands still, whatever it holds, is as good as silent.
        if self.part.newest.is_none_or(|newest| newest < reached) {
            self.part.newest = Some(reached);
            self.part.heard = self.now.steady;
        }
        if time < self.closed || time > self.now.wall.saturating_add(FUTURE) {
            return if is_known { Classification::Known } else { Classification::Late };
        }
        let open = &mut self.part.open;
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
        open[self.last].counts.add(sight);
        Classification::Counted
    }

    /// Passes the record at `offset`, which is not counted; returns whether it was read before.
    pub fn pass(&mut self, offset: i64) -> bool {
        let is_known = offset < self.part.known;
        self.part.next = offset + 1;
        is_known
    }

    /// Ends the run; `last` is its last record.
    pub fn end(self, last: Fingerprint) {
        self.part.last = Some(last);
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
