//! The source of a run.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use crate::pipeline::ConnectorError;
use crate::record::{Fingerprint, NextOffset, Partition, Record};

/// An ordered, partitioned feed of records whose progress can be committed.
pub trait Source: Send {
    /// Waits for the next signal. Cancel-safe: dropping the future loses nothing.
    ///
    /// With [`Demand::Signals`] no records are returned: the engine is full, but must still handle a rebalance.
    ///
    /// # Errors
    /// When the feed cannot continue. Records read before are returned first: the run delivers and commits them, then fails.
    fn next(&mut self, demand: Demand) -> impl Future<Output = Result<Signal, ConnectorError>> + Send;

    /// Returns the stop offsets of a bounded run: a run that ends before them is not complete.
    fn stops(&self) -> Vec<(Partition, NextOffset)> {
        Vec::new()
    }

    /// Notes how far partitions may be committed; durable later, at the commit interval. Ignored for a partition that is not owned any
    /// more: the new owner reads those records again.
    fn commit(&mut self, commits: Vec<Commit>);

    /// Makes every noted commit durable and returns when the broker answered.
    ///
    /// # Errors
    /// When the broker refused, or did not answer in time.
    fn flush(&mut self) -> impl Future<Output = Result<(), ConnectorError>> + Send;

    /// Makes every noted commit durable and leaves.
    ///
    /// # Errors
    /// When the last commit was refused or not answered in time: the next run repeats its records.
    fn close(self) -> impl Future<Output = Result<(), ConnectorError>> + Send;
}

/// What the engine can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// At most this many records, and everything else.
    Records(usize),
    /// Everything but records.
    Signals,
}

/// An event of the source.
#[derive(Debug)]
pub enum Signal {
    /// A rebalance assigned these partitions, in addition to those that this member has.
    Assigned(Vec<Assignment>),
    /// Records, in order within each partition.
    Records(Vec<Record>),
    /// No record is left before these offsets, such as past control records at the end.
    Position(Vec<(Partition, NextOffset)>),
    /// The log end offsets of partitions, `None` where it is not known: for the lag on display. A partition that is not assigned yet
    /// belongs to this member, and waits for its start.
    LogEndOffsets(Vec<(Partition, Option<i64>)>),
    /// A rebalance revokes partitions; the engine releases them when the records in flight have settled.
    Revoked(Revocation),
    /// Partitions were lost to another member: nothing of them is committed.
    Lost(Vec<Partition>),
    /// The broker confirmed these positions.
    Committed(Vec<(Partition, NextOffset)>),
    /// Some partitions are not read for now, or all are read again (`None`): shown, not acted on.
    Degraded(Option<String>),
    /// The group has accepted no commit for a while, and why, or it accepts them again (`None`). Nothing new is sent until then.
    CommitsDegraded(Option<String>),
    /// The group has given this member no partition for a while: shown, not acted on.
    Unassigned(UnassignedReason),
    /// The source has returned all its records.
    End,
}

/// Why a member of a group has no partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnassignedReason {
    /// The group rebalances: it waits for its other members to join again, and for one that died until its session ends.
    Rebalancing {
        /// How long that takes at most, if the other members have the same timeout.
        session_timeout: Duration,
        /// Whether the session of this member ended before: it may wait for the member that it was.
        after_outage: bool,
        /// Whether this member has an instance id: a restart finds its partitions again.
        is_static: bool,
    },
    /// The other members of the group have all partitions, or are about to hand some over.
    NoneLeft,
}

/// An assigned partition, and where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition that is read from `start` on.
    pub partition: Partition,
    /// The first offset that will be read.
    pub start: NextOffset,
    /// The newest record below `start` that an earlier commit described.
    pub fingerprint: Option<Fingerprint>,
    /// The flow's own metadata of that commit.
    pub extension: Option<String>,
}

/// The committable offset of a partition, and the last record below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition that `next` counts in.
    pub partition: Partition,
    /// Every record below it is settled.
    pub next: NextOffset,
    /// The newest known record below `next`.
    pub fingerprint: Option<Fingerprint>,
    /// The records below `next` that were delivered, or dead-lettered, since the partition was assigned.
    pub delivered: u64,
}

/// Partitions that a rebalance revokes. The rebalance continues when this is released or dropped.
#[derive(Debug)]
pub struct Revocation {
    /// Those whose records in flight the rebalance waits for.
    pub partitions: Vec<Partition>,
    release: mpsc::Sender<Vec<Commit>>,
}

impl Revocation {
    /// Returns a revocation and the receiver of the last commits of its partitions.
    #[must_use]
    pub fn new(partitions: Vec<Partition>) -> (Self, mpsc::Receiver<Vec<Commit>>) {
        let (release, released) = mpsc::channel();
        (Self { partitions, release }, released)
    }

    /// Lets the rebalance continue with these last commits.
    pub fn release(self, commits: Vec<Commit>) {
        // The receiver is gone once the deadline has passed; the new owner reads the records again.
        let _ = self.release.send(commits);
    }
}
