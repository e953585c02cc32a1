//! Records on their way to the sink: queued, batched, and kept apart where order demands it.

use std::collections::VecDeque;
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

    /// Returns whether so much more fits.
    fn takes(&self, records: usize, bytes: usize, limits: &BatchLimits) -> bool {
        self.len() + records <= limits.records && self.bytes + bytes <= limits.bytes
    }

    fn append(&mut self, mut other: Self) {
        self.records.append(&mut other.records);
        self.tags.append(&mut other.tags);
        self.bytes += other.bytes;
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
    /// [`Ordering::OneByOne`]: one for each partition; [`Ordering::Overlapping`]: one for all, in the order of arrival.
    apart: Vec<Lane>,
    queued: usize,
    bytes: usize,
    /// What may be sent now.
    ready: Ready,
}

/// What waits, cut into batches: all are full but the last.
#[derive(Debug)]
struct Lane {
    limits: BatchLimits,
    waiting: VecDeque<(Instant, Chunk)>,
    records: usize,
    bytes: usize,
    /// A batch of this lane is out, so the next has to wait.
    out: bool,
}

#[derive(Debug, Default)]
struct Ready {
    records: usize,
    bytes: usize,
    oldest: Option<Instant>,
}

impl Lanes {
    pub(crate) fn new(ordering: Ordering, limits: BatchLimits) -> Self {
        Self { ordering, limits, apart: Vec::new(), queued: 0, bytes: 0, ready: Ready::default() }
    }

    /// Returns the number of records that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, chunk: Chunk, now: Instant) {
        self.queued += chunk.len();
        self.bytes += chunk.bytes;
        let Some(first) = chunk.tags.first().map(|tag| tag.lane) else { return };
        if self.ordering == Ordering::Overlapping {
            self.lane(0, chunk.len(), chunk.bytes, now).push_all(chunk, now);
        } else if chunk.tags.iter().all(|tag| tag.lane == first) {
            self.lane(first, chunk.len(), chunk.bytes, now).push_all(chunk, now);
        } else {
            for (record, tag) in chunk.records.into_iter().zip(chunk.tags) {
                self.lane(tag.lane, 1, record.bytes(), now).push(record, tag, now);
            }
        }
    }

    /// Counts what is about to be added to a lane and returns the lane.
    fn lane(&mut self, at: usize, records: usize, bytes: usize, now: Instant) -> &mut Lane {
        if self.apart.len() <= at {
            self.apart.resize_with(at + 1, || Lane::new(self.limits));
        }
        let lane = &mut self.apart[at];
        lane.records += records;
        lane.bytes += bytes;
        if !lane.out {
            self.ready.records += records;
            self.ready.bytes += bytes;
            self.ready.oldest.get_or_insert(now);
        }
        lane
    }

    /// Returns when the next batch is due, if one waits to fill; a batch that is full is due at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        let full = self.ready.records >= self.limits.records || self.ready.bytes >= self.limits.bytes;
        self.ready.oldest.map(|oldest| if full { oldest } else { oldest + self.limits.linger })
    }

    /// Returns the next batch if one is due at `now`; with `flush`, whatever waits.
    pub(crate) fn next(&mut self, now: Instant, flush: bool) -> Option<Chunk> {
        let at_once = flush || self.limits.linger.is_zero();
        if self.ready.records == 0 || (!at_once && self.due().is_none_or(|due| due > now)) {
            return None;
        }
        let mut batch = Chunk::default();
        for lane in self.apart.iter_mut().filter(|lane| !lane.out) {
            let before = batch.len();
            lane.fill(&mut batch);
            lane.out = self.ordering == Ordering::OneByOne && batch.len() > before;
        }
        self.queued -= batch.len();
        self.bytes -= batch.bytes;
        self.recount();
        Some(batch)
    }

    /// Notes that the batch with these tags is settled or given up, so that the next of its lanes may go.
    pub(crate) fn back(&mut self, tags: &[Tag]) {
        if self.ordering == Ordering::OneByOne {
            for tag in tags {
                self.apart[tag.lane].out = false;
            }
            self.recount();
        }
    }

    /// Forgets what waits of the lanes for which `gone` holds.
    pub(crate) fn forget(&mut self, gone: impl Fn(usize) -> bool) {
        for lane in &mut self.apart {
            lane.waiting.iter_mut().for_each(|(_, chunk)| chunk.retain(|tag| !gone(tag.lane)));
            lane.waiting.retain(|(_, chunk)| chunk.len() > 0);
            lane.records = lane.waiting.iter().map(|(_, chunk)| chunk.len()).sum();
            lane.bytes = lane.waiting.iter().map(|(_, chunk)| chunk.bytes).sum();
        }
        self.queued = self.apart.iter().map(|lane| lane.records).sum();
        self.bytes = self.apart.iter().map(|lane| lane.bytes).sum();
        self.recount();
    }

    fn recount(&mut self) {
        self.ready = Ready::default();
        for lane in self.apart.iter().filter(|lane| !lane.out) {
            self.ready.records += lane.records;
            self.ready.bytes += lane.bytes;
            let oldest = lane.waiting.front().map(|(since, _)| *since);
            self.ready.oldest = self.ready.oldest.into_iter().chain(oldest).min();
        }
    }
}

impl Lane {
    fn new(limits: BatchLimits) -> Self {
        Self { limits, waiting: VecDeque::new(), records: 0, bytes: 0, out: false }
    }

    fn push_all(&mut self, chunk: Chunk, now: Instant) {
        match self.waiting.back_mut() {
            Some((_, last)) if last.takes(chunk.len(), chunk.bytes, &self.limits) => return last.append(chunk),
            Some((_, last)) if last.len() < self.limits.records => {}
            _ if Chunk::default().takes(chunk.len(), chunk.bytes, &self.limits) => return self.waiting.push_back((now, chunk)),
            _ => {}
        }
        for (record, tag) in chunk.records.into_iter().zip(chunk.tags) {
            self.push(record, tag, now);
        }
    }

    fn push(&mut self, record: Record, tag: Tag, now: Instant) {
        match self.waiting.back_mut() {
            Some((_, last)) if last.takes(1, record.bytes(), &self.limits) => last.push(record, tag),
            _ => {
                let mut chunk = Chunk::default();
                chunk.push(record, tag);
                self.waiting.push_back((now, chunk));
            }
        }
    }

    /// Moves chunks from the front to `batch` while they fit; a record above the limit goes alone.
    fn fill(&mut self, batch: &mut Chunk) {
        while let Some((since, chunk)) = self.waiting.pop_front() {
            if batch.len() > 0 && !batch.takes(chunk.len(), chunk.bytes, &self.limits) {
                return self.waiting.push_front((since, chunk));
            }
            self.records -= chunk.len();
            self.bytes -= chunk.bytes;
            if batch.len() == 0 { *batch = chunk } else { batch.append(chunk) }
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
