//! Records on their way to the sink: queued, batched, and kept apart where order demands it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::sink::Ordering;
use crate::record::Record;

/// Where a record is accounted for: its lane, that lane's life, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) lane: usize,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// Records and their tags, side by side.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) records: Vec<Record>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) bytes: usize,
}

impl Chunk {
    pub(crate) fn push(&mut self, record: Record, tag: Tag) {
        self.bytes += record.bytes();
        self.records.push(record);
        self.tags.push(tag);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn append(&mut self, mut other: Self) {
        self.records.append(&mut other.records);
        self.tags.append(&mut other.tags);
        self.bytes += other.bytes;
    }

    /// Cuts the chunk after as many records as `room` and `bytes` allow, but at least one; returns the rest.
    fn split(&mut self, room: usize, bytes: usize) -> Option<Self> {
        if self.len() <= room && self.bytes <= bytes {
            return None;
        }
        let mut left = bytes;
        let fits = self.records.iter().take(room).take_while(|record| {
            let size = record.bytes();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let at = fits.count().max(1);
        (at < self.len()).then(|| {
            let rest = self.records.split_off(at);
            let moved = rest.iter().map(Record::bytes).sum();
            self.bytes -= moved;
            Self { records: rest, tags: self.tags.split_off(at), bytes: moved }
        })
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Tag) -> bool) {
        let mut flags = self.tags.iter().map(&keep);
        self.records.retain(|_| flags.next().expect("a tag for each record"));
        self.tags.retain(keep);
        self.bytes = self.records.iter().map(Record::bytes).sum();
    }
}

/// How large a batch is, and how long it may wait to fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
}

/// The queue between transform and sink.
#[derive(Debug)]
pub(crate) struct Lanes {
    ordering: Ordering,
    limits: BatchLimits,
    /// [`Ordering::Overlapping`]: everything in the order of arrival.
    queue: VecDeque<(Instant, Chunk)>,
    /// [`Ordering::OneByOne`]: per lane what waits, and whether a batch of it is out.
    kept_apart: BTreeMap<usize, OneLane>,
    queued: usize,
}

#[derive(Debug, Default)]
struct OneLane {
    waiting: VecDeque<(Instant, Chunk)>,
    out: bool,
}

impl Lanes {
    pub(crate) fn new(ordering: Ordering, limits: BatchLimits) -> Self {
        Self { ordering, limits, queue: VecDeque::new(), kept_apart: BTreeMap::new(), queued: 0 }
    }

    /// Returns the number of records that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        let every = self.queue.iter().chain(self.kept_apart.values().flat_map(|lane| &lane.waiting));
        every.map(|(_, chunk)| chunk.bytes).sum()
    }

    pub(crate) fn push(&mut self, chunk: Chunk, now: Instant) {
        self.queued += chunk.len();
        match self.ordering {
            Ordering::Overlapping => {
                if chunk.len() > 0 {
                    self.queue.push_back((now, chunk));
                }
            }
            Ordering::OneByOne => {
                for (record, tag) in chunk.records.into_iter().zip(chunk.tags) {
                    let waiting = &mut self.kept_apart.entry(tag.lane).or_default().waiting;
                    match waiting.back_mut() {
                        Some((_, last)) if last.len() < self.limits.records => last.push(record, tag),
                        _ => {
                            let mut chunk = Chunk::default();
                            chunk.push(record, tag);
                            waiting.push_back((now, chunk));
                        }
                    }
                }
            }
        }
    }

    /// Returns when the next batch is due, if one waits to fill; a batch that is full is due at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sendable = || self.sendable();
        let oldest = sendable().map(|(since, _)| *since).min()?;
        let full = sendable().map(|(_, chunk)| chunk.len()).sum::<usize>() >= self.limits.records
            || sendable().map(|(_, chunk)| chunk.bytes).sum::<usize>() >= self.limits.bytes;
        Some(if full { oldest } else { oldest + self.limits.linger })
    }

    /// Returns the chunks that may be sent now.
    fn sendable(&self) -> impl Iterator<Item = &(Instant, Chunk)> {
        let lanes = self.kept_apart.values().filter(|lane| !lane.out).flat_map(|lane| &lane.waiting);
        self.queue.iter().chain(lanes)
    }

    /// Returns the next batch if one is due at `now`; with `flush`, whatever waits.
    pub(crate) fn next(&mut self, now: Instant, flush: bool) -> Option<Chunk> {
        let at_once = flush || self.limits.linger.is_zero();
        if self.queued == 0 || (!at_once && self.due().is_none_or(|due| due > now)) {
            return None;
        }
        let mut batch: Option<Chunk> = None;
        match self.ordering {
            Ordering::Overlapping => fill(&mut batch, &mut self.queue, &self.limits),
            Ordering::OneByOne => {
                for lane in self.kept_apart.values_mut().filter(|lane| !lane.out && !lane.waiting.is_empty()) {
                    let before = batch.as_ref().map_or(0, Chunk::len);
                    fill(&mut batch, &mut lane.waiting, &self.limits);
                    lane.out = batch.as_ref().map_or(0, Chunk::len) > before;
                }
            }
        }
        self.queued -= batch.as_ref().map_or(0, Chunk::len);
        batch
    }

    /// Notes that the batch with these tags is settled or given up, so that the next of its lanes may go.
    pub(crate) fn back(&mut self, tags: &[Tag]) {
        if self.ordering == Ordering::OneByOne {
            for tag in tags {
                if let Some(lane) = self.kept_apart.get_mut(&tag.lane) {
                    lane.out = false;
                }
            }
        }
    }

    /// Forgets what waits of the lanes for which `gone` holds.
    pub(crate) fn forget(&mut self, gone: impl Fn(usize) -> bool) {
        let every = self.queue.iter_mut().chain(self.kept_apart.values_mut().flat_map(|lane| &mut lane.waiting));
        for (_, chunk) in every {
            let before = chunk.len();
            chunk.retain(|tag| !gone(tag.lane));
            self.queued -= before - chunk.len();
        }
        self.queue.retain(|(_, chunk)| chunk.len() > 0);
        self.kept_apart.values_mut().for_each(|lane| lane.waiting.retain(|(_, chunk)| chunk.len() > 0));
    }
}

/// Moves chunks from the front of `queue` to `batch` while they fit.
fn fill(batch: &mut Option<Chunk>, queue: &mut VecDeque<(Instant, Chunk)>, limits: &BatchLimits) {
    while let Some((since, mut chunk)) = queue.pop_front() {
        let (records, bytes) = batch.as_ref().map_or((0, 0), |batch| (batch.len(), batch.bytes));
        if batch.is_some() && (records + chunk.len() > limits.records || bytes + chunk.bytes > limits.bytes) {
            queue.push_front((since, chunk));
            return;
        }
        if let Some(rest) = chunk.split(limits.records, limits.bytes) {
            queue.push_front((since, rest));
        }
        match batch {
            Some(batch) => batch.append(chunk),
            None => *batch = Some(chunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;
    use bytes::Bytes;

    const LIMITS: BatchLimits = BatchLimits { records: 3, bytes: 1000, linger: Duration::from_millis(50) };

    fn chunk(records: &[(usize, u64)]) -> Chunk {
        let mut chunk = Chunk::default();
        for &(lane, number) in records {
            let record = Record {
                partition: Partition::new("lanes", i32::try_from(lane).unwrap()),
                offset: i64::try_from(number).unwrap(),
                timestamp: None,
                key: None,
                value: Some(Bytes::from_static(&[0; 100])),
                headers: Vec::new(),
            };
            chunk.push(record, Tag { lane, epoch: 0, number });
        }
        chunk
    }

    fn numbers(chunk: Option<&Chunk>) -> Vec<(usize, u64)> {
        chunk.map_or(Vec::new(), |chunk| chunk.tags.iter().map(|tag| (tag.lane, tag.number)).collect())
    }

    #[test]
    fn a_batch_waits_for_more_until_it_is_full_or_old() {
        let start = Instant::now();
        let mut lanes = Lanes::new(Ordering::Overlapping, LIMITS);
        lanes.push(chunk(&[(0, 0), (1, 0)]), start);
        assert!(lanes.next(start, false).is_none());
        assert_eq!(lanes.due(), Some(start + LIMITS.linger));
        assert_eq!(numbers(lanes.next(start + LIMITS.linger, false).as_ref()), [(0, 0), (1, 0)]);
        lanes.push(chunk(&[(0, 1), (0, 2), (0, 3), (0, 4)]), start);
        assert_eq!(numbers(lanes.next(start, false).as_ref()), [(0, 1), (0, 2), (0, 3)], "full is due at once");
        assert!(lanes.next(start, false).is_none());
        assert_eq!(numbers(lanes.next(start, true).as_ref()), [(0, 4)]);
        assert_eq!(lanes.queued(), 0);
    }

    #[test]
    fn a_batch_keeps_to_its_bytes_but_holds_at_least_one_record() {
        let now = Instant::now();
        let mut lanes = Lanes::new(Ordering::Overlapping, BatchLimits { bytes: 250, linger: Duration::ZERO, ..LIMITS });
        lanes.push(chunk(&[(0, 0), (0, 1), (0, 2)]), now);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 0), (0, 1)]);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 2)]);
        let mut lanes = Lanes::new(Ordering::Overlapping, BatchLimits { bytes: 10, ..LIMITS });
        lanes.push(chunk(&[(0, 0), (0, 1)]), now);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 0)], "a record above the limit goes alone");
    }

    #[test]
    fn one_by_one_sends_a_lane_again_only_when_its_batch_is_back() {
        let now = Instant::now();
        let mut lanes = Lanes::new(Ordering::OneByOne, BatchLimits { linger: Duration::ZERO, ..LIMITS });
        lanes.push(chunk(&[(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]), now);
        let first = lanes.next(now, true).unwrap();
        assert_eq!(numbers(Some(&first)), [(0, 0), (0, 1), (0, 2)]);
        let second = lanes.next(now, true).unwrap();
        assert_eq!(numbers(Some(&second)), [(1, 0)], "lane 0 is out, lane 1 is not held up");
        assert!(lanes.next(now, true).is_none());
        lanes.back(&first.tags);
        assert_eq!(numbers(lanes.next(now, true).as_ref()), [(0, 3)]);
    }

    #[test]
    fn a_forgotten_lane_is_not_sent() {
        let now = Instant::now();
        for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
            let mut lanes = Lanes::new(ordering, LIMITS);
            lanes.push(chunk(&[(0, 0), (1, 0), (0, 1)]), now);
            lanes.forget(|lane| lane == 0);
            assert_eq!(lanes.queued(), 1);
            assert_eq!(numbers(lanes.next(now, true).as_ref()), [(1, 0)]);
        }
    }
}
