//! Reading: demand, accounting and shaping of records before they are queued.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::engine::partitions::Partitions;
use crate::pipeline::lanes::{Slot, TaggedBatch};
use crate::pipeline::{Demand, Limits, Reason, TokenBucket, Transform, TransformResult};
use crate::record::{Partition, Record};

/// The state of reading.
pub(super) struct Intake {
    transform: Option<Transform>,
    bucket: Option<TokenBucket>,
    count: Option<u64>,
    read: u64,
    /// The limit of records is reached.
    is_complete: bool,
    /// The source has nothing more.
    source_ended: bool,
    /// The source failed and is not polled any more.
    pub(super) source_failed: bool,
    /// Start of the wait for records, while there is room for them.
    wanted_since: Option<Instant>,
}

/// The result of taking records in.
#[derive(Default)]
pub(super) struct Admitted {
    /// Records to deliver.
    pub(super) batch: TaggedBatch,
    /// Bad records, each with the number of records of the batch before it.
    pub(super) bad: Vec<(usize, Record, Slot, Reason)>,
    pub(super) filtered: u64,
    pub(super) filtered_offsets: Vec<(Partition, i64)>,
    /// Records of partitions that are revoked or being revoked.
    pub(super) released: u64,
    pub(super) bytes: usize,
    /// The wait for the records.
    pub(super) waited: Duration,
    /// How long it took to shape them; only where records are shaped.
    pub(super) shaping: Option<Duration>,
}

impl Intake {
    pub(super) fn new(transform: Option<Transform>, limits: &Limits, now: Instant) -> Self {
        Self {
            transform,
            bucket: limits.rate.map(|rate| TokenBucket::new(rate, now)),
            count: limits.count,
            read: 0,
            is_complete: limits.count == Some(0),
            source_ended: false,
            source_failed: false,
            wanted_since: None,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Notes that the source has nothing more.
    pub(super) fn end(&mut self) {
        (self.is_complete, self.source_ended) = (true, true);
    }

    /// Returns whether the source ended, rather than the limit being reached.
    pub(super) fn has_source_ended(&self) -> bool {
        self.source_ended
    }

    /// Restarts the measurement of the wait for records.
    pub(super) fn restart_wait(&mut self) {
        self.wanted_since = None;
    }

    /// Returns the demand for `room` records, and when it grows if a rate limits it.
    pub(super) fn demand(&mut self, room: usize, now: Instant) -> (Demand, Option<Instant>) {
        let left = self.count.map_or(u64::MAX, |count| count - self.read);
        let most = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        let (most, wake) = match self.bucket.as_mut().filter(|_| most > 0).map(|bucket| bucket.allowance(now)) {
            None => (most, None),
            Some(Ok(allowed)) => (most.min(allowed), None),
            Some(Err(again)) => (0, Some(again)),
        };
        if most == 0 || self.is_complete {
            self.wanted_since = None;
            return (Demand::Signals, wake);
        }
        self.wanted_since.get_or_insert(now);
        (Demand::Records(most), wake)
    }

    /// Tracks and shapes records.
    pub(super) fn admit(&mut self, records: Vec<Record>, partitions: &mut Partitions, now: Instant) -> Admitted {
        let mut admitted = Admitted::default();
        admitted.batch.records.reserve(records.len());
        admitted.batch.slots.reserve(records.len());
        let count = records.len();
        self.read += count as u64;
        let mut current: Option<(Partition, usize)> = None;
        let mut records = records.into_iter().peekable();
        while let Some(mut record) = records.next() {
            let lane = match current {
                Some((partition, lane)) if partition == record.partition => lane,
                _ => partitions.lane(record.partition).expect("a source assigns a partition before its records"),
            };
            current = Some((record.partition, lane));
            admitted.bytes += record.bytes();
            let Some(slot) = partitions.track(lane, record.offset) else {
                admitted.released += 1;
                continue;
            };
            if records.peek().is_none_or(|next| next.partition != record.partition) {
                partitions.mark(lane, record.fingerprint());
            }
            match self.transform.as_ref().map_or(TransformResult::Keep, |transform| transform(&mut record)) {
                TransformResult::Keep => admitted.batch.push(record, slot),
                TransformResult::Filtered => {
                    admitted.filtered += partitions.leave_out(slot);
                    admitted.filtered_offsets.push((record.partition, record.offset));
                }
                TransformResult::Bad(reason) => admitted.bad.push((admitted.batch.len(), record, slot, reason)),
            }
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(count, admitted.bytes);
        }
        self.is_complete |= self.count.is_some_and(|most| self.read >= most);
        admitted.waited = self.wanted_since.take().map_or(Duration::ZERO, |since| now - since);
        admitted.shaping = self.transform.is_some().then(|| now.elapsed());
        admitted
    }
}
