//! What happens in a run, told to whoever listens.

use std::time::Duration;

use crate::pipeline::{Assignment, Outcome, Reason};
use crate::record::{NextOffset, Partition, Record};

/// Listens to a run: a progress bar, a log, metrics. Called from the engine, so it must return at once.
pub trait Observer: Send + Sync {
    /// Takes note of `event`.
    fn on(&self, event: &Event<'_>);

    /// Returns whether [`Event::Answered`] is wanted for every single record.
    fn wants_every_record(&self) -> bool {
        false
    }
}

/// Tells several observers.
impl<T: Observer> Observer for Vec<T> {
    fn on(&self, event: &Event<'_>) {
        for observer in self {
            observer.on(event);
        }
    }

    fn wants_every_record(&self) -> bool {
        self.iter().any(Observer::wants_every_record)
    }
}

impl Observer for Box<dyn Observer> {
    fn on(&self, event: &Event<'_>) {
        (**self).on(event);
    }

    fn wants_every_record(&self) -> bool {
        (**self).wants_every_record()
    }
}

/// One thing that happened. Counts are per batch; the totals so far come with [`Event::Progress`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Partitions became ours.
    Assigned(&'a [Assignment]),
    /// Partitions are going, or gone (`lost`: another member has them already).
    Released {
        /// The partitions.
        partitions: &'a [Partition],
        /// Whether nothing of them could be committed any more.
        lost: bool,
        /// Records that were read and not delivered; their new owner reads them.
        records: u64,
    },
    /// A batch of records was read.
    Read {
        /// Bytes of their keys, values and headers.
        bytes: u64,
        /// How long they were waited for: since there was room for them, or partitions were last assigned.
        waited: Duration,
        /// How long it took to shape them; only where records are shaped.
        shaping: Option<Duration>,
    },
    /// The sink answered a call.
    Responded {
        /// How long that took.
        took: Duration,
        /// Where with it each record of the batch has its final answer: how long it is since the batch was first sent.
        batch: Option<Duration>,
    },
    /// The counts so far, after something changed.
    Progress(&'a Tally),
    /// The ends of partitions, for the lag.
    LogEndOffsets(&'a [(Partition, i64)]),
    /// How far partitions have been read and settled.
    Settled(&'a [(Partition, NextOffset)]),
    /// One record was answered; only when an observer wants every record.
    Answered(&'a Record, &'a Outcome),
    /// Records are sent again after a pause.
    Retrying {
        /// How many.
        records: usize,
        /// Which attempt comes next, from 2.
        attempt: u32,
        /// The pause before it.
        pause: Duration,
        /// Why.
        reason: &'a Reason,
    },
    /// A batch that failed as one is halved to find the record to blame.
    Bisecting {
        /// The records of the batch.
        records: usize,
        /// Why it failed.
        reason: &'a Reason,
    },
    /// A bad record was set aside.
    Bad {
        /// The record.
        record: &'a Record,
        /// What is wrong with it.
        reason: &'a Reason,
        /// What became of it.
        fate: BadRecordAction,
    },
    /// The broker confirmed these positions.
    Committed(&'a [(Partition, NextOffset)]),
    /// Something is wrong that may pass (`Some`), or is over.
    Degraded(Option<&'a str>),
    /// Nothing is taken by a destination that was sent something, or something is again. Told when it changes.
    Stalled(bool),
    /// Nothing more is read; what is in flight is waited for.
    Draining(&'a str),
}

/// What became of a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecordAction {
    /// On its way to the dead letters.
    DeadLetter,
    /// Skipped, as asked.
    Skipped,
    /// It stops the run.
    Stops,
}

/// The accounts of a run, in records unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Handed to the engine.
    pub read: u64,
    /// Durably there, including those that were there before and those that were superseded.
    pub delivered: u64,
    /// Of the delivered: there already.
    pub already_there: u64,
    /// Of the delivered: a newer version was there.
    pub superseded: u64,
    /// Durably among the dead letters.
    pub dead_lettered: u64,
    /// Bad, and skipped by request.
    pub skipped: u64,
    /// Left out by `--where`.
    pub filtered: u64,
    /// Taken away by a rebalance before they were delivered; their new owner reads them.
    pub released: u64,
    /// Of events that are counted in windows: came when their window was closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Of events that are counted in windows: read again after a restart, and counted before it.
    #[serde(skip_serializing_if = "is_zero")]
    pub replayed: u64,
    /// Read, and neither delivered nor accounted for otherwise when the run ended.
    pub undelivered: u64,
    /// Calls to the sink.
    pub batches: u64,
    /// Records that were sent again.
    pub retried: u64,
    /// Bytes of keys, values and headers that were delivered.
    pub bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Tally {
    /// Returns the number of records that were read and are not accounted for yet.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.read - self.accounted()
    }

    /// Counts `records` that are settled by `outcome`, at the sink or as dead letters.
    pub(crate) fn on_settled(&mut self, as_dead_letters: bool, outcome: &Outcome, records: u64, bytes: u64) {
        if as_dead_letters {
            self.dead_lettered += records;
            return;
        }
        self.delivered += records;
        self.bytes += bytes;
        match outcome {
            Outcome::AlreadyThere => self.already_there += records,
            Outcome::Superseded => self.superseded += records,
            _ => {}
        }
    }

    fn accounted(&self) -> u64 {
        let set_aside = self.dead_lettered + self.skipped + self.filtered + self.late + self.replayed;
        self.delivered + set_aside + self.released + self.undelivered
    }

    /// Asserts what the whole program rests on: every record that was read is accounted for.
    pub fn assert_balanced(&self) {
        assert_eq!(self.read, self.accounted(), "records that were read are not all accounted for: {self:?}");
    }
}
