//! The delivery engine: everything between a source and a sink.
//!
//! ```text
//! Source --records--> transform --> lanes --batch--> Sink
//!    ^                   |                            | outcomes
//!    |                   '- filtered, bad             v
//!    '--- commit <--- watermark <--- settled ---- retry, bisect, dead letters
//! ```
//!
//! A record carries partition and offset, the engine settles it, and a pure watermark gives the committable offset. An offset is committed only after that record and every earlier one of its partition is durably delivered,
//! durably dead-lettered, or filtered or skipped by request.

pub(crate) mod awaited;
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
mod target_watch;
pub(crate) mod transaction;
mod watermark;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use dead_letter::truncated_header;
pub use dead_letter::{DeadLetterCause, FailureStage, MAX_CAUSE_BYTES, REPLAYS_HEADER, dead_letter};
pub(crate) use event::LOSS_TARGET;
pub use event::{BadRecordAction, Event, Observer, RunSide, SideProblem, Tally};
pub use failure::{ConnectStep, ConnectorError, Failure, FailureKind, Refusal, RefusalReason, Refused};
pub(crate) use policy::backoff::backoff;
pub use policy::breaker::BreakerLimit;
pub(crate) use policy::breaker::CircuitBreaker;
pub use policy::rate::Rate;
pub(crate) use policy::rate::TokenBucket;
pub use sink::{Answers, Batch, Ordering, Outcome, Reason, Sink, answers_from_task};
pub use source::{Assignment, Commit, Demand, Revocation, Signal, Source, UnassignedReason};
pub use target_watch::{LookAtTarget, TargetLook, TargetWatch, WatchPace, WatchedSink, Watcher};
pub use watermark::Watermark;

use crate::record::{NextOffset, Partition, Record};

/// A run: source, transform, sink, dead letters and observers.
pub struct Pipeline<S, K, D> {
    /// Where records come from; closed at the end of the run.
    pub source: S,
    /// Where good records go.
    pub sink: K,
    /// Where bad records go, with [`BadRecordPolicy::DeadLetters`].
    pub dead_letters: Option<DeadLetters<D>>,
    /// Shapes each record before it is queued; without one, nothing is parsed.
    pub transform: Option<Transform>,
    /// Applies to records that the transform or the sink finds bad.
    pub bad_records: BadRecordPolicy,
    /// Sizes, times and rates.
    pub limits: Limits,
    /// Gets every event.
    pub observer: Arc<dyn Observer>,
    /// Turns true when a stop is requested.
    pub stop: watch::Receiver<bool>,
}

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Pipeline<S, K, D> {
    /// Runs until the source ends, a limit is reached, a stop is requested, or the run fails. Accounts for every record.
    pub async fn run(self) -> RunReport {
        engine::Engine::new(self).run().await
    }
}

/// The destination of bad records.
pub struct DeadLetters<D> {
    /// Where dead letters go.
    pub sink: D,
    /// Makes the record that is written there.
    pub build: DeadLetterBuilder,
}

/// Builds a dead letter of a record, the reason, and the number of attempts.
pub type DeadLetterBuilder = Box<dyn Fn(&Record, &Reason, u32) -> Record + Send>;

/// Shapes a record and decides whether it is delivered.
pub type Transform = Box<dyn Fn(&mut Record) -> TransformResult + Send>;

/// The decision of a transform about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformResult {
    /// Deliver it.
    Keep,
    /// Leave it out by request.
    Filtered,
    /// Handle it by the policy for bad records.
    Bad(Reason),
}

/// What happens to bad records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRecordPolicy {
    /// The run stops there.
    #[default]
    Stop,
    /// Bad records are counted and left out.
    Skip,
    /// Bad records become dead letters.
    DeadLetters,
}

/// Sizes, times and rates of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most records in a batch.
    pub batch: usize,
    /// The most bytes of a batch; a single record may have more.
    pub batch_bytes: usize,
    /// The time that a batch waits to fill.
    pub linger: Duration,
    /// The most batches in flight at once.
    pub in_flight: usize,
    /// The rate at which records are read.
    pub rate: Option<Rate>,
    /// The number of records to read in all.
    pub count: Option<u64>,
    /// One record at a time, with its commit confirmed before the next.
    pub commit_each: bool,
    /// The time without a delivery after which the run fails; without a limit if `None`.
    pub retry_for: Option<Duration>,
    /// The number of bad records that ends the run.
    pub breaker: Option<BreakerLimit>,
    /// The time to wait for records in flight at the end.
    pub shutdown_timeout: Duration,
}

/// The outcome of a run, and its counts.
#[derive(Debug)]
pub struct RunReport {
    /// The counts; they balance.
    pub tally: Tally,
    /// Why the run ended.
    pub outcome: RunOutcome,
    /// The offset to resume each partition from.
    pub positions: Vec<(Partition, NextOffset)>,
    /// Whether the last commits were confirmed.
    pub closed: Result<(), ConnectorError>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a run ended.
#[derive(Debug)]
pub enum RunOutcome {
    /// Everything that was asked for was done.
    Complete,
    /// A stop was requested.
    Interrupted,
    /// The source or a destination failed or refused.
    Failed(ConnectorError),
    /// The run stopped at a record.
    Record(Failure),
}
