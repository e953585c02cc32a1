//! The queue between transform and sink: one lane for each partition where order demands it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::sink::Ordering;
use crate::record::Record;

/// Where a record is accounted for: the lane of its partition, the epoch of the assignment, and its sequence number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) lane: usize,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// Records and their slots, side by side.
#[derive(Debug, Default)]
pub(crate) struct TaggedBatch {
    pub(crate) records: Vec<Record>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) bytes: usize,
}

impl TaggedBatch {
    pub(crate) fn push(&mut self, record: Record, slot: Slot) {
        self.bytes += record.bytes();
        self.records.push(record);
        self.slots.push(slot);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether this many more records and bytes fit.
    fn fits(&self, records: usize, bytes: usize, limits: &BatchLimits) -> bool {
        self.len() + records <= limits.records && self.bytes + bytes <= limits.bytes
    }

    fn append(&mut self, mut other: Self) {
        self.records.append(&mut other.records);
        self.slots.append(&mut other.slots);
        self.bytes += other.bytes;
    }

    fn split_off(&mut self, at: usize) -> Self {
        let (records, slots) = (self.records.split_off(at), self.slots.split_off(at));
        let bytes = records.iter().map(Record::bytes).sum();
        self.bytes -= bytes;
        Self { records, slots, bytes }
    }

    pub(crate) fn truncate(&mut self, records: usize) {
        self.records.truncate(records);
        self.slots.truncate(records);
        self.bytes = self.records.iter().map(Record::bytes).sum();
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Slot) -> bool) {
        let mut flags = self.slots.iter().map(&keep);
        self.records.retain(|_| flags.next().expect("a slot for each record"));
        self.slots.retain(keep);
        self.bytes = self.records.iter().map(Record::bytes).sum();
    }
}

/// The size of a batch, and how long it may wait to fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
}

/// Queues of records by lane.
#[derive(Debug)]
#[allow(clippy::struct_field_names)] // the word for them
pub(crate) struct Lanes {
    ordering: Ordering,
    limits: BatchLimits,
    /// [`Ordering::OneByOne`]: one for each partition; [`Ordering::Overlapping`]: one for all, in the order of arrival.
    lanes: Vec<Lane>,
    queued: usize,
    bytes: usize,
    /// Records that may be sent now.
    ready: Ready,
}

/// Records of a lane, cut into batches: all are full but the last.
#[derive(Debug)]
struct Lane {
    limits: BatchLimits,
    waiting: VecDeque<(Instant, TaggedBatch)>,
    records: usize,
    bytes: usize,
    /// A batch of this lane is in flight, and the next has to wait.
    in_flight: bool,
}

#[derive(Debug, Default)]
struct Ready {
    records: usize,
    bytes: usize,
    oldest: Option<Instant>,
}

impl Lanes {
    pub(crate) fn new(ordering: Ordering, limits: BatchLimits) -> Self {
        Self { ordering, limits, lanes: Vec::new(), queued: 0, bytes: 0, ready: Ready::default() }
    }

    /// Sets the maximum number of records of the next batches; longer queued batches are split.
    pub(crate) fn limit_records(&mut self, records: usize) {
        self.limits.records = records;
    }

    /// Returns the number of queued records.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the number of queued bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, tagged: TaggedBatch, now: Instant) {
        self.queued += tagged.len();
        self.bytes += tagged.bytes;
        let Some(first) = tagged.slots.first().map(|slot| slot.lane) else { return };
        if self.ordering == Ordering::Overlapping {
            self.lane(0, tagged.len(), tagged.bytes, now).push_all(tagged, now);
        } else if tagged.slots.iter().all(|slot| slot.lane == first) {
            self.lane(first, tagged.len(), tagged.bytes, now).push_all(tagged, now);
        } else {
            for (record, slot) in tagged.records.into_iter().zip(tagged.slots) {
                self.lane(slot.lane, 1, record.bytes(), now).push(record, slot, now);
            }
        }
    }

    /// Counts records that are added to a lane, and returns the lane.
    fn lane(&mut self, at: usize, records: usize, bytes: usize, now: Instant) -> &mut Lane {
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, || Lane::new(self.limits));
        }
        let lane = &mut self.lanes[at];
        lane.records += records;
        lane.bytes += bytes;
        if !lane.in_flight {
            self.ready.records += records;
            self.ready.bytes += bytes;
            self.ready.oldest.get_or_insert(now);
        }
        lane
    }

    /// Returns when the next batch is due; a full one is due at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        let full = self.ready.records >= self.limits.records || self.ready.bytes >= self.limits.bytes;
        self.ready.oldest.map(|oldest| if full { oldest } else { oldest + self.limits.linger })
    }

    /// Returns the next batch if one is due at `now`; with `flush`, any queued records.
    pub(crate) fn next(&mut self, now: Instant, flush: bool) -> Option<TaggedBatch> {
        let at_once = flush || self.limits.linger.is_zero();
        if self.ready.records == 0 || (!at_once && self.due().is_none_or(|due| due > now)) {
            return None;
        }
        let mut batch = TaggedBatch::default();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.in_flight) {
            let before = batch.len();
            lane.fill(&mut batch, &self.limits);
            lane.in_flight = self.ordering == Ordering::OneByOne && batch.len() > before;
        }
        self.queued -= batch.len();
        self.bytes -= batch.bytes;
        self.recount();
        Some(batch)
    }

    /// Notes that a batch is settled or given up: the next of its lanes may be sent.
    pub(crate) fn release(&mut self, slots: &[Slot]) {
        if self.ordering == Ordering::OneByOne {
            for slot in slots {
                self.lanes[slot.lane].in_flight = false;
            }
            self.recount();
        }
    }

    /// Drops the queued records of the lanes for which `gone` holds.
    pub(crate) fn discard(&mut self, gone: impl Fn(usize) -> bool) {
        for lane in &mut self.lanes {
            lane.waiting.iter_mut().for_each(|(_, tagged)| tagged.retain(|slot| !gone(slot.lane)));
            lane.waiting.retain(|(_, tagged)| tagged.len() > 0);
            lane.records = lane.waiting.iter().map(|(_, tagged)| tagged.len()).sum();
            lane.bytes = lane.waiting.iter().map(|(_, tagged)| tagged.bytes).sum();
        }
        self.queued = self.lanes.iter().map(|lane| lane.records).sum();
        self.bytes = self.lanes.iter().map(|lane| lane.bytes).sum();
        self.recount();
    }

    fn recount(&mut self) {
        self.ready = Ready::default();
        for lane in self.lanes.iter().filter(|lane| !lane.in_flight) {
            self.ready.records += lane.records;
            self.ready.bytes += lane.bytes;
            let oldest = lane.waiting.front().map(|(since, _)| *since);
            self.ready.oldest = self.ready.oldest.into_iter().chain(oldest).min();
        }
    }
}

impl Lane {
    fn new(limits: BatchLimits) -> Self {
        Self { limits, waiting: VecDeque::new(), records: 0, bytes: 0, in_flight: false }
    }

    fn push_all(&mut self, tagged: TaggedBatch, now: Instant) {
        match self.waiting.back_mut() {
            Some((_, last)) if last.fits(tagged.len(), tagged.bytes, &self.limits) => return last.append(tagged),
            Some((_, last)) if last.len() < self.limits.records => {}
            _ if TaggedBatch::default().fits(tagged.len(), tagged.bytes, &self.limits) => {
                return self.waiting.push_back((now, tagged));
            }
            _ => {}
        }
        for (record, slot) in tagged.records.into_iter().zip(tagged.slots) {
            self.push(record, slot, now);
        }
    }

    fn push(&mut self, record: Record, slot: Slot, now: Instant) {
        match self.waiting.back_mut() {
            Some((_, last)) if last.fits(1, record.bytes(), &self.limits) => last.push(record, slot),
            _ => {
                let mut tagged = TaggedBatch::default();
                tagged.push(record, slot);
                self.waiting.push_back((now, tagged));
            }
        }
    }

    /// Moves batches from the front to `batch` while they fit; a record above the limit goes alone.
    fn fill(&mut self, batch: &mut TaggedBatch, limits: &BatchLimits) {
        while let Some((since, mut tagged)) = self.waiting.pop_front() {
            if batch.len() == 0 && tagged.len() > limits.records {
                self.waiting.push_front((since, tagged.split_off(limits.records)));
            }
            if batch.len() > 0 && !batch.fits(tagged.len(), tagged.bytes, limits) {
                return self.waiting.push_front((since, tagged));
            }
            self.records -= tagged.len();
            self.bytes -= tagged.bytes;
            if batch.len() == 0 { *batch = tagged } else { batch.append(tagged) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;
    use bytes::Bytes;

    const LIMITS: BatchLimits = BatchLimits { records: 3, bytes: 1000, linger: Duration::from_millis(50) };

    fn tagged(records: &[(usize, u64)]) -> TaggedBatch {
        let mut tagged = TaggedBatch::default();
        for &(lane, number) in records {
            let record = Record {
                partition: Partition::new("lanes", i32::try_from(lane).unwrap()),
                offset: i64::try_from(number).unwrap(),
                timestamp: None,
                key: None,
                value: Some(Bytes::from_static(&[0; 100])),
                headers: Vec::new(),
            };
            tagged.push(record, Slot { lane, epoch: 0, number });
        }
        tagged
    }

    fn numbers(tagged: Option<&TaggedBatch>) -> Vec<(usize, u64)> {
        tagged.map_or(Vec::new(), |tagged| tagged.slots.iter().map(|slot| (slot.lane, slot.number)).collect())
    }

    #[test]
    fn a_batch_waits_for_more_until_it_is_full_or_old() {
        let start = Instant::now();
        let mut lanes = Lanes::new(Ordering::Overlapping, LIMITS);
        lanes.push(tagged(&[(0, 0), (1, 0)]), start);
        assert!(lanes.next(start, false).is_none());
        assert_eq!(lanes.due(), Some(start + LIMITS.linger));
        assert_eq!(numbers(lanes.next(start + LIMITS.linger, false).as_ref()), [(0, 0), (1, 0)]);
        lanes.push(tagged(&[(0, 1), (0, 2), (0, 3), (0, 4)]), start);
        assert_eq!(numbers(lanes.next(start, false).as_ref()), [(0, 1), (0, 2), (0, 3)], "full is due at once");
        assert!(lanes.next(start, false).is_none());
        assert_eq!(numbers(lanes.next(start, true).as_ref()), [(0, 4)]);
        assert_eq!(lanes.queued(), 0);
    }

    #[test]
    fn a_batch_keeps_to_its_bytes_but_holds_at_least_one_record() {
        let now = Instant::now();
        let mut lanes = Lanes::new(Ordering::Overlapping, BatchLimits { bytes: 250, linger: Duration::ZERO, ..LIMITS });
        lanes.push(tagged(&[(0, 0), (0, 1), (0, 2)]), now);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 0), (0, 1)]);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 2)]);
        let mut lanes = Lanes::new(Ordering::Overlapping, BatchLimits { bytes: 10, ..LIMITS });
        lanes.push(tagged(&[(0, 0), (0, 1)]), now);
        assert_eq!(numbers(lanes.next(now, false).as_ref()), [(0, 0)], "a record above the limit goes alone");
    }

    #[test]
    fn queued_batches_are_split_when_the_limit_shrinks() {
        let now = Instant::now();
        for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
            let mut lanes = Lanes::new(ordering, BatchLimits { linger: Duration::ZERO, ..LIMITS });
            lanes.push(tagged(&[(0, 0), (0, 1), (0, 2), (0, 3)]), now);
            lanes.limit_records(2);
            let mut sent = Vec::new();
            while let Some(batch) = lanes.next(now, true) {
                sent.push(numbers(Some(&batch)));
                lanes.release(&batch.slots);
            }
            assert_eq!(sent, [vec![(0, 0), (0, 1)], vec![(0, 2), (0, 3)]]);
            assert_eq!((lanes.queued(), lanes.bytes()), (0, 0));
        }
    }

    #[test]
    fn one_by_one_sends_the_next_batch_of_a_lane_after_the_last_is_released() {
        let now = Instant::now();
        let mut lanes = Lanes::new(Ordering::OneByOne, BatchLimits { linger: Duration::ZERO, ..LIMITS });
        lanes.push(tagged(&[(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]), now);
        let first = lanes.next(now, true).unwrap();
        assert_eq!(numbers(Some(&first)), [(0, 0), (0, 1), (0, 2)]);
        let second = lanes.next(now, true).unwrap();
        assert_eq!(numbers(Some(&second)), [(1, 0)], "lane 0 is out, lane 1 is not held up");
        assert!(lanes.next(now, true).is_none());
        lanes.release(&first.slots);
        assert_eq!(numbers(lanes.next(now, true).as_ref()), [(0, 3)]);
    }

    #[test]
    fn a_discarded_lane_is_not_sent() {
        let now = Instant::now();
        for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
            let mut lanes = Lanes::new(ordering, LIMITS);
            lanes.push(tagged(&[(0, 0), (1, 0), (0, 1)]), now);
            lanes.discard(|lane| lane == 0);
            assert_eq!(lanes.queued(), 1);
            assert_eq!(numbers(lanes.next(now, true).as_ref()), [(1, 0)]);
        }
    }
}
