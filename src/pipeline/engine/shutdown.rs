//! The end of a run: its outcome, and the deadline for records in flight.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::{ConnectorError, Failure, RunOutcome};
use crate::record::{Partition, Record};

/// Whether the run is ending.
pub(super) struct Shutdown {
    outcome: Option<RunOutcome>,
    /// The record at which the run stops, if it stops at one.
    record: Option<(Partition, i64)>,
    deadline: Option<Instant>,
    timeout: Duration,
}

impl Shutdown {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { outcome: None, record: None, deadline: None, timeout }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.outcome, Some(RunOutcome::Failed(_) | RunOutcome::Record(_)))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn is_out_of_time(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Begins to drain. The first outcome counts, but a failure counts more than an interrupt; returns whether this one counts.
    pub(super) fn begin(&mut self, outcome: RunOutcome, now: Instant) -> bool {
        if self.has_failed() {
            return false;
        }
        self.outcome = Some(outcome);
        self.deadline.get_or_insert(now + self.timeout);
        true
    }

    /// Returns whether the run stops at `record`, rather than at what was found before. Batches in flight are answered in any order:
    /// of the records of one partition the first in its log counts, where the commits stop.
    pub(super) fn stops_at(&self, record: &Record) -> bool {
        match self.record {
            Some((partition, offset)) => record.partition == partition && record.offset < offset,
            None => !self.has_failed(),
        }
    }

    /// Begins to drain because of `record`, if the run stops at it; returns whether it is the first such record.
    pub(super) fn begin_at(&mut self, record: &Record, failure: Failure, now: Instant) -> bool {
        if !self.stops_at(record) {
            return false;
        }
        self.outcome = Some(RunOutcome::Record(failure));
        self.deadline.get_or_insert(now + self.timeout);
        self.record.replace((record.partition, record.offset)).is_none()
    }

    /// Replaces the outcome by the refusal of a destination, which is the reason of what failed.
    pub(super) fn refuse(&mut self, refusal: ConnectorError) {
        self.outcome = Some(RunOutcome::Failed(refusal));
    }

    /// Ends the wait.
    pub(super) fn expire(&mut self, now: Instant) {
        self.deadline = Some(now);
    }

    pub(super) fn into_outcome(self) -> RunOutcome {
        self.outcome.unwrap_or(RunOutcome::Complete)
    }
}
