//! Fake logins as a `Source`.

use std::time::Duration;

use tokio::time::Instant;

use crate::logins::fake::generator::Generator;
use crate::logins::fake::plan::FakePlan;
use crate::pipeline::{Assignment, Commit, ConnectorError, Demand, Signal, Source};
use crate::record::{NextOffset, Partition};

const BATCH: usize = 1000;

/// A source of fake logins: the partition `fake/0` with offsets from 0. Commits are ignored.
#[derive(Debug)]
pub(crate) struct FakeLogins {
    generator: Generator,
    duration: Option<Duration>,
    /// Counted from the first demand: connecting takes time of its own.
    deadline: Option<Instant>,
    assigned: Option<Signal>,
    ended: bool,
}

impl FakeLogins {
    /// Returns the source of the logins of `plan`, which ends at its count or after `duration`.
    #[must_use]
    pub(crate) fn new(plan: FakePlan, duration: Option<Duration>) -> Self {
        let partition = Partition::new("fake", 0);
        let assignment = Assignment { partition, start: NextOffset(0), fingerprint: None, extension: None };
        let assigned = Some(Signal::Assigned(vec![assignment]));
        Self { generator: Generator::new(plan, partition), duration, deadline: None, assigned, ended: false }
    }

    fn records(&mut self, most: usize) -> Signal {
        let now = Instant::now();
        let over = self.duration.is_some_and(|duration| now >= *self.deadline.get_or_insert(now + duration));
        let records = if over { Vec::new() } else { self.generator.batch(most.min(BATCH)) };
        if records.is_empty() {
            self.ended = true;
            return Signal::End;
        }
        Signal::Records(records)
    }
}

impl Source for FakeLogins {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        if let Some(signal) = self.assigned.take() {
            return Ok(signal);
        }
        match demand {
            Demand::Records(most) if most > 0 && !self.ended => Ok(self.records(most)),
            _ => std::future::pending().await,
        }
    }

    fn commit(&mut self, _: Vec<Commit>) {}

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn close(self) -> Result<(), ConnectorError> {
        Ok(())
    }
}
