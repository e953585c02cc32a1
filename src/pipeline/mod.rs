//! The delivery engine: everything between a source and a sink.
//!
//! ```text
//! Source --records--> transform --> lanes --batch--> Sink
//!    ^                   |                            | outcomes
//!    |                   '- filtered, bad             v
//!    '--- commit <--- watermark <--- settled ---- retry, halve, dead letters
//! ```
//!
//! A position is data: a record carries partition and offset, the engine settles it, and a small pure watermark says how far may
//! be committed. An offset is committed only after that record and every earlier one of its partition is durably delivered,
//! durably dead-lettered, or filtered or skipped by request.

mod bad_records;
mod dead_letter;
mod delivery;
mod engine;
mod event;
mod failure;
pub(crate) mod failures;
mod lanes;
mod policy;
mod sink;
mod source;
pub(crate) mod transaction;
mod watermark;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use dead_letter::{DeadLetterCause, FailureStage, MAX_CAUSE_BYTES, REPLAYS_HEADER, dead_letter};
pub use event::{BadRecordAction, Event, Observer, Tally};
pub use failure::{ConnectorError, Failure, FailureKind, Refused};
pub(crate) use policy::backoff::backoff;
pub use policy::breaker::BreakerLimit;
pub(crate) use policy::breaker::CircuitBreaker;
pub use policy::rate::Rate;
pub(crate) use policy::rate::TokenBucket;
pub use sink::{Answers, Batch, Ordering, Outcome, Reason, Sink, answers_from_task};
pub use source::{Assignment, Commit, Demand, Revocation, Signal, Source};
pub use watermark::Watermark;

use crate::record::{NextOffset, Partition, Record};

/// A run: where records come from, what is done to them, where they go, and who listens.
pub struct Pipeline<S, K, D> {
    /// Where records come from.
    pub source: S,
    /// Where they go.
    pub sink: K,
    /// Where bad records go, with [`BadRecordPolicy::DeadLetters`].
    pub dead_letters: Option<DeadLetters<D>>,
    /// What is done to each record before it is queued; nothing is parsed without one.
    pub transform: Option<Transform>,
    /// What happens to bad records.
    pub bad_records: BadRecordPolicy,
    /// Sizes, times and rates.
    pub limits: Limits,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// Turns true when the run is to stop.
    pub stop: watch::Receiver<bool>,
}

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Pipeline<S, K, D> {
    /// Runs until the source ends, a limit is reached, `stop` turns true, or nothing can go on. Always accounts for every record.
    pub async fn run(self) -> RunReport {
        engine::Engine::new(self).run().await
    }
}

/// Where bad records go, and how a letter is made.
pub struct DeadLetters<D> {
    /// The destination.
    pub sink: D,
    /// Makes the letter.
    pub build: DeadLetterBuilder,
}

/// Makes a letter of a record, what is wrong with it, and how often it was sent.
pub type DeadLetterBuilder = Box<dyn Fn(&Record, &Reason, u32) -> Record + Send>;

/// Shapes a record and says what is to become of it.
pub type Transform = Box<dyn Fn(&mut Record) -> TransformResult + Send>;

/// What a transform says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformResult {
    /// Deliver it.
    Keep,
    /// Leave it out, as asked.
    Filtered,
    /// It is bad.
    Bad(Reason),
}

/// What happens to bad records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRecordPolicy {
    /// The run stops there.
    #[default]
    Stop,
    /// They are counted and left out.
    Skip,
    /// They are set aside.
    DeadLetters,
}

/// Sizes, times and rates of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records in a batch.
    pub batch: usize,
    /// Bytes in a batch.
    pub batch_bytes: usize,
    /// How long a batch waits to fill.
    pub linger: Duration,
    /// Batches in flight.
    pub in_flight: usize,
    /// How fast records are read.
    pub rate: Option<Rate>,
    /// How many records are read in all.
    pub count: Option<u64>,
    /// One record at a time, its commit confirmed before the next.
    pub commit_each: bool,
    /// How long deliveries may fail before the run does; for ever without.
    pub retry_for: Option<Duration>,
    /// How many bad records end the run.
    pub breaker: Option<BreakerLimit>,
    /// How long what is in flight is waited for at the end.
    pub shutdown_timeout: Duration,
}

/// How a run ended, and its accounts.
#[derive(Debug)]
pub struct RunReport {
    /// The accounts; they balance.
    pub tally: Tally,
    /// Why it ended.
    pub outcome: RunOutcome,
    /// Where each partition would be resumed.
    pub positions: Vec<(Partition, NextOffset)>,
    /// Whether the last commits were confirmed.
    pub closed: Result<(), ConnectorError>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a run ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// Everything that was asked for is done.
    Complete,
    /// It was told to stop.
    Interrupted,
    /// An end failed or refused.
    Failed(ConnectorError),
    /// A record needs a person.
    Record(Failure),
}
