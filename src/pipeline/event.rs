//! Events of a run, and their observers.

use std::time::Duration;

use crate::pipeline::{Assignment, Outcome, Reason, UnassignedReason};
use crate::record::{NextOffset, Partition, Record};

/// The target of the log lines that report records which a run leaves out, or may leave out by mistake; shown by quiet runs too.
pub(crate) const LOSS_TARGET: &str = "sdl::loss";

/// Observes a run: a progress bar, a log, metrics. Called by the engine: returns at once.
pub trait Observer: Send + Sync {
    /// Takes the next event. Must not block: the engine waits for it.
    fn on(&self, event: &Event<'_>);

    /// Returns whether [`Event::Answered`] is wanted for every single record.
    fn wants_every_record(&self) -> bool {
        false
    }
}

/// Notifies several observers.
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

impl Observer for std::sync::Arc<dyn Observer> {
    fn on(&self, event: &Event<'_>) {
        (**self).on(event);
    }

    fn wants_every_record(&self) -> bool {
        (**self).wants_every_record()
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

/// An event. Counts are per batch; the totals come with [`Event::Progress`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Partitions were assigned.
    Assigned(&'a [Assignment]),
    /// The group has given this member no partition for a while.
    Unassigned(UnassignedReason),
    /// Partitions were revoked, or lost to another member.
    Released {
        /// Those that this member no longer reads.
        partitions: &'a [Partition],
        /// Whether they were lost: nothing of them can be committed.
        lost: bool,
        /// Records that were read and not delivered; the new owner reads them.
        records: u64,
    },
    /// A batch of records was read.
    Read {
        /// Bytes of their keys, values and headers.
        bytes: u64,
        /// The wait for them: since there was room, or partitions were last assigned.
        waited: Duration,
        /// The time to shape them; only where records are shaped.
        shaping: Option<Duration>,
    },
    /// The sink answered a call.
    Responded {
        /// The time of the call.
        took: Duration,
        /// If every record of the batch has its final answer: the time since the batch was first sent.
        batch: Option<Duration>,
    },
    /// The counts so far, after something changed.
    Progress(&'a Tally),
    /// The log end offsets of partitions, `None` where it is not known: for the lag.
    LogEndOffsets(&'a [(Partition, Option<i64>)]),
    /// How far partitions have been read and settled.
    Settled(&'a [(Partition, NextOffset)]),
    /// One record was answered; only when an observer wants every record.
    Answered(&'a Record, &'a Outcome),
    /// Records are sent again after a pause.
    Retrying {
        /// How many: those of the batch without a final outcome.
        records: usize,
        /// The number of the next attempt, from 2.
        attempt: u32,
        /// The time from now until that attempt.
        pause: Duration,
        /// Why one of them has no final outcome.
        reason: &'a Reason,
    },
    /// A batch that failed as a whole is bisected to find the record to blame.
    Bisecting {
        /// How many records the batch has.
        records: usize,
        /// Why it failed.
        reason: &'a Reason,
    },
    /// A bad record was found.
    Bad {
        /// As it was to be delivered, or as the transform left it.
        record: &'a Record,
        /// Why it is bad.
        reason: &'a Reason,
        /// What the policy for bad records decides.
        action: BadRecordAction,
    },
    /// These records were filtered.
    Filtered(&'a [(Partition, i64)]),
    /// The broker confirmed these positions.
    Committed(&'a [(Partition, NextOffset)]),
    /// The problem of one side of the run began, changed or ended (`None`).
    Problem {
        /// The other sides keep their problems.
        side: RunSide,
        /// The present one; `None` once the side is healthy.
        problem: Option<&'a SideProblem>,
    },
    /// Reading stopped; the run waits for records in flight.
    Draining(&'a str),
}

/// A side of a run, which can have a problem while the others have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunSide {
    /// Reading from the source.
    Source,
    /// Delivery to the target.
    Target,
    /// Delivery to the dead letters.
    DeadLetters,
    /// Commits of the group's offsets.
    Commits,
}

impl RunSide {
    /// In the order in which records meet them.
    pub const ALL: [Self; 4] = [Self::Source, Self::Target, Self::DeadLetters, Self::Commits];

    /// Returns the name for programs: a label, a JSON value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::DeadLetters => "dead_letters",
            Self::Commits => "commits",
        }
    }

    /// Returns the code of a problem whose cause has none.
    #[must_use]
    pub(crate) fn unavailable(self) -> &'static str {
        match self {
            Self::Source => "source_unavailable",
            Self::Target => "target_unavailable",
            Self::DeadLetters => "dead_letters_unavailable",
            Self::Commits => "commits_unavailable",
        }
    }

    /// Returns the words for what stalls: "reading".
    #[must_use]
    pub fn activity(self) -> &'static str {
        match self {
            Self::Source => "reading",
            Self::Target => "delivery",
            Self::DeadLetters => "dead letters",
            Self::Commits => "commits",
        }
    }
}

/// A problem of one side that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideProblem {
    /// For programs; unlike the reason it quotes nothing.
    pub code: String,
    /// In words for people.
    pub reason: String,
    /// Whether the side makes no progress; otherwise some records are sent again, and others are accepted.
    pub is_stalled: bool,
}

/// What becomes of a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecordAction {
    /// Queued for the dead letters.
    DeadLetter,
    /// Skipped by request.
    Skipped,
    /// The run stops.
    Stops,
}

/// The counts of a run, in records unless noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Handed to the engine.
    pub read: u64,
    /// Durably stored, those included that were stored before or superseded.
    pub delivered: u64,
    /// Of the delivered: stored before.
    pub already_there: u64,
    /// Of the delivered: a newer version is stored.
    pub superseded: u64,
    /// Durably stored as dead letters.
    pub dead_lettered: u64,
    /// Bad, and skipped by request.
    pub skipped: u64,
    /// Left out by a filter.
    pub filtered: u64,
    /// Released by a rebalance before they were delivered; the new owner reads them.
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

    /// Asserts that every record that was read is accounted for.
    pub fn assert_balanced(&self) {
        assert_eq!(self.read, self.accounted(), "records that were read are not all accounted for: {self:?}");
    }
}
