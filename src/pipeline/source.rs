//! Where records come from.

use std::future::Future;
use std::sync::mpsc;

use crate::pipeline::ConnectorError;
use crate::record::{Fingerprint, NextOffset, Partition, Record};

/// An ordered, partitioned feed of records whose progress can be committed.
pub trait Source: Send {
    /// Waits for the next signal. Cancel-safe: dropping the future loses nothing.
    ///
    /// With [`Demand::Signals`] no records are handed over: the engine has enough, but must still hear of a rebalance.
    ///
    /// # Errors
    /// When the feed cannot go on: the run drains, commits what is settled and fails.
    fn next(&mut self, appetite: Demand) -> impl Future<Output = Result<Signal, ConnectorError>> + Send;

    /// Notes how far partitions may be committed; durable later, at the commit interval. Ignored for a partition no longer
    /// owned: its new owner reads those records again.
    fn commit(&mut self, commits: Vec<Commit>);

    /// Makes every noted commit durable and returns when the broker answered.
    ///
    /// # Errors
    /// When the broker refused, or did not answer in time.
    fn flush(&mut self) -> impl Future<Output = Result<(), ConnectorError>> + Send;

    /// Makes every noted commit durable and leaves.
    ///
    /// # Errors
    /// When the last commit was refused or not answered in time: the next run repeats what it covered.
    fn close(self) -> impl Future<Output = Result<(), ConnectorError>> + Send;
}

/// What the engine can take at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// At most so many records, and everything else.
    Records(usize),
    /// Everything but records.
    Signals,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Signal {
    /// Partitions that are now ours.
    Assigned(Vec<Assignment>),
    /// Records in the order of their partitions.
    Records(Vec<Record>),
    /// There is nothing more to read before these offsets: past control records, at the end.
    Position(Vec<(Partition, NextOffset)>),
    /// The ends of partitions, as far as known: for the lag on display.
    LogEndOffsets(Vec<(Partition, i64)>),
    /// Partitions that are being taken away; released by the engine when what was in flight has settled.
    Revoked(Revocation),
    /// Partitions that another member already has: nothing of them is committed.
    Lost(Vec<Partition>),
    /// The broker confirmed these positions.
    Committed(Vec<(Partition, NextOffset)>),
    /// Something is wrong that may pass, or is over (`None`): shown, not acted on.
    Degraded(Option<String>),
    /// Everything that was asked for has been handed over.
    End,
}

/// A partition that is now ours, and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: Partition,
    /// The first offset that will be read.
    pub start: NextOffset,
    /// The newest record below `start` that an earlier commit described.
    pub fingerprint: Option<Fingerprint>,
    /// What the flow itself noted with that commit.
    pub extension: Option<String>,
}

/// How far a partition may be committed, and the last record below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: Partition,
    /// Where to resume.
    pub next: NextOffset,
    /// The newest known record below `next`.
    pub fingerprint: Option<Fingerprint>,
}

/// Partitions that a rebalance takes away. Whoever waits for the release goes on when this is released or dropped.
#[derive(Debug)]
pub struct Revocation {
    /// The partitions.
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

    /// Lets the rebalance go on after these last commits.
    pub fn release(self, commits: Vec<Commit>) {
        // Nobody waits any more once the deadline has passed; the new owner reads the records again.
        let _ = self.release.send(commits);
    }
}
