//! Bad records of a run, and the dead letters that wait to be sent.

use tokio::time::Instant;

use crate::pipeline::lanes::{Slot, TaggedBatch};
use crate::pipeline::{BadRecordAction, BadRecordPolicy, BreakerLimit, CircuitBreaker, DeadLetterBuilder, Reason};
use crate::record::Record;

pub(super) struct BadRecords {
    policy: BadRecordPolicy,
    breaker: CircuitBreaker,
    build: Option<DeadLetterBuilder>,
    queue: TaggedBatch,
}

impl BadRecords {
    pub(super) fn new(policy: BadRecordPolicy, breaker: CircuitBreaker, build: Option<DeadLetterBuilder>) -> Self {
        Self { policy, breaker, build, queue: TaggedBatch::default() }
    }

    /// Counts a bad record: returns the action, and the limit of the breaker if it tripped.
    pub(super) fn decide(&mut self, now: Instant) -> (BadRecordAction, Option<BreakerLimit>) {
        self.policy.apply(&mut self.breaker, now)
    }

    /// Queues the dead letter of a record.
    pub(super) fn set_aside(&mut self, record: &Record, slot: Slot, reason: &Reason, attempts: u32) {
        let build = self.build.as_ref().expect("dead letters have a destination");
        self.queue.push(build(record, reason, attempts), slot);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether a dead letter of a record in `lane` is queued.
    pub(super) fn holds(&self, lane: usize) -> bool {
        self.queue.slots.iter().any(|slot| slot.lane == lane)
    }

    pub(super) fn take_batch(&mut self) -> TaggedBatch {
        std::mem::take(&mut self.queue)
    }

    /// Drops the dead letters of these lanes: the new owner of the partition reads the records again.
    pub(super) fn forget(&mut self, lanes: &[usize]) {
        self.queue.retain(|slot| !lanes.contains(&slot.lane));
    }
}
