//! Fake logins as a `Source`.

use std::collections::VecDeque;

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
    deadline: Option<Instant>,
    initial_signals: VecDeque<Signal>,
    ended: bool,
}

impl FakeLogins {
    /// Returns the source of the logins of `plan`, which ends at its count or at `until`.
    #[must_use]
    pub(crate) fn new(plan: FakePlan, until: Option<Instant>) -> Self {
        let partition = Partition::new("fake", 0);
        let mut first = VecDeque::from([Signal::Assigned(vec![Assignment {
            partition,
            start: NextOffset(0),
            fingerprint: None,
            extension: None,
        }])]);
        let end = plan.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        first.extend(end.map(|end| Signal::LogEndOffsets(vec![(partition, end)])));
        Self { generator: Generator::new(plan, partition), deadline: until, initial_signals: first, ended: false }
    }

    fn records(&mut self, most: usize) -> Signal {
        let over = self.deadline.is_some_and(|until| Instant::now() >= until);
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
        if let Some(signal) = self.initial_signals.pop_front() {
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
