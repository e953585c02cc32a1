//! A source whose commits wait until the map that covers them is written.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::pipeline::{Commit, ConnectorError, Demand, Failure, Revocation, Signal, Source};
use crate::record::{NextOffset, Partition};
use crate::replication::offset_map::map_writer::{EpochCommit, MapEvent, MapRequest, MapWriterHandle};

/// How long a flush waits for the map.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a run waits for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Records and signals of `inner`; its commits follow the map.
pub(crate) struct MappedSource<S> {
    inner: S,
    writer: MapWriterHandle,
    /// The number of assignments of each partition.
    epochs: HashMap<Partition, u64>,
    /// Why the source's own commits are not accepted.
    commit_problem: Option<String>,
    /// Revocations that wait for the map.
    held: Vec<JoinHandle<()>>,
}

impl<S: Source> MappedSource<S> {
    pub(crate) fn new(inner: S, writer: MapWriterHandle) -> Self {
        Self { inner, writer, epochs: HashMap::new(), commit_problem: None, held: Vec::new() }
    }

    fn epoch(&self, partition: Partition) -> u64 {
        self.epochs.get(&partition).copied().unwrap_or_default()
    }

    /// Commits what the map covers, unless the partition was assigned again since.
    fn commit_covered(&mut self, covered: Vec<EpochCommit>) {
        let is_current = |of: &EpochCommit| self.epoch(of.commit.partition) == of.epoch;
        let commits: Vec<Commit> = covered.into_iter().filter(is_current).map(|of| of.commit).collect();
        if !commits.is_empty() {
            self.inner.commit(commits);
        }
    }

    fn tagged(&self, commits: Vec<Commit>) -> Vec<EpochCommit> {
        commits.into_iter().map(|commit| EpochCommit { epoch: self.epoch(commit.partition), commit }).collect()
    }

    fn on_signal(&mut self, signal: Signal) -> Signal {
        match signal {
            Signal::Assigned(assigned) => {
                let mut starts = Vec::with_capacity(assigned.len());
                for assignment in &assigned {
                    let epoch = self.epochs.entry(assignment.partition).or_default();
                    *epoch += 1;
                    starts.push((assignment.partition, *epoch, assignment.start));
                }
                self.writer.assign(starts);
                Signal::Assigned(assigned)
            }
            Signal::Lost(partitions) => {
                self.writer.forget(partitions.iter().map(|partition| (*partition, self.epoch(*partition))).collect());
                Signal::Lost(partitions)
            }
            Signal::Revoked(revocation) => Signal::Revoked(self.hold(revocation)),
            Signal::CommitsDegraded(problem) => {
                self.commit_problem = problem;
                self.commits_degraded(self.writer.problem())
            }
            signal => signal,
        }
    }

    /// Commits go on when neither the map nor the group holds them up.
    fn commits_degraded(&self, map_problem: Option<String>) -> Signal {
        Signal::CommitsDegraded(map_problem.or_else(|| self.commit_problem.clone()))
    }

    /// Returns a revocation in place of `revocation`, which is released when the map covers its last commits.
    fn hold(&mut self, revocation: Revocation) -> Revocation {
        let (held, released) = Revocation::new(revocation.partitions.clone());
        let epochs: Vec<_> = revocation.partitions.iter().map(|partition| (*partition, self.epoch(*partition))).collect();
        let requests = self.writer.requests();
        // The engine releases it, or drops it, within the deadline of the rebalance.
        self.held.retain(|waiting| !waiting.is_finished());
        self.held.push(tokio::task::spawn_blocking(move || {
            let Ok(commits) = released.recv() else { return };
            let epoch = |partition| epochs.iter().find(|(of, _)| *of == partition).map_or(0, |(_, epoch)| *epoch);
            let last = commits.iter().map(|commit| EpochCommit { epoch: epoch(commit.partition), commit: *commit }).collect();
            let (written, answer) = oneshot::channel();
            let is_sent = requests.send(MapRequest::Revoke { last, partitions: epochs, written }).is_ok();
            if !is_sent || answer.blocking_recv().is_ok() {
                revocation.release(commits);
            }
        }));
        held
    }

    /// Waits until the map covers every commit so far, and hands them on.
    async fn write_map(&mut self, most: Duration) -> Result<(), Failure> {
        let (written, answer) = oneshot::channel();
        let is_sent = self.writer.requests().send(MapRequest::Flush(written)).is_ok();
        let answered = timeout(most, answer).await;
        while let Some(covered) = self.writer.try_covered() {
            self.commit_covered(covered);
        }
        if is_sent && answered.is_err() { Err(self.writer.failure()) } else { Ok(()) }
    }
}

impl<S: Source> Source for MappedSource<S> {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        loop {
            // What is read while the map cannot be written would be copied again after a crash.
            let demand = if self.writer.problem().is_some() { Demand::Signals } else { demand };
            tokio::select! {
                biased;
                event = self.writer.next() => match event {
                    MapEvent::Covered(covered) => self.commit_covered(covered),
                    MapEvent::Problem(problem) => return Ok(self.commits_degraded(problem)),
                },
                signal = self.inner.next(demand) => return Ok(self.on_signal(signal?)),
            }
        }
    }

    fn stops(&self) -> Vec<(Partition, NextOffset)> {
        self.inner.stops()
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let tagged = self.tagged(commits);
        if let Err(unsent) = self.writer.requests().send(MapRequest::Commit(tagged))
            && let MapRequest::Commit(tagged) = unsent.0
        {
            self.commit_covered(tagged);
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.write_map(FLUSH_TIMEOUT).await?;
        self.inner.flush().await
    }

    async fn close(mut self) -> Result<(), ConnectorError> {
        // The engine has released every revocation: their last commits are handed on before the source is closed.
        let until = Instant::now() + CLOSE_TIMEOUT;
        for waiting in std::mem::take(&mut self.held) {
            let _ = timeout_at(until, waiting).await;
        }
        let written = self.write_map(until - Instant::now()).await;
        self.inner.close().await?;
        Ok(written?)
    }
}
