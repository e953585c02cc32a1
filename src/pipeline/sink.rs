//! The sink of a run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::pipeline::{Assignment, ConnectorError};
use crate::record::{Partition, Record};
use crate::shape::ShapeError;

/// The records of one call to a sink. Shared, because the engine keeps records for retries and dead letters.
pub type Batch = Arc<Vec<Record>>;

/// The answers to a batch: exactly one outcome for each record, in the order of the batch.
pub type Answers = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

/// A destination that accepts batches and answers for each record.
pub trait Sink: Send + Sync {
    /// Prepares for partitions that were assigned, such as by creating target topics. Called before the first batch of these
    /// partitions is submitted, never inside a rebalance callback; called again for the same partitions after a failure, and when
    /// they are assigned again.
    ///
    /// # Errors
    /// A failure marked with [`Failure::passing`](crate::pipeline::Failure::passing) is retried inside the run; any other ends it.
    fn prepare(&self, partitions: &[Assignment]) -> impl Future<Output = Result<(), ConnectorError>> + Send {
        let _ = partitions;
        std::future::ready(Ok(()))
    }

    /// Accepts a batch. Awaited in order: a full destination pushes back here. The answers come later; if they are dropped, the
    /// outcomes are unknown.
    ///
    /// # Errors
    /// When nothing of the batch was accepted and nothing more will be: the run stops.
    fn submit(&self, batch: Batch) -> impl Future<Output = Result<Answers, ConnectorError>> + Send;

    /// Gives up the records of partitions that were lost to another member, which writes them itself: what has not been sent of
    /// them must not be sent any more. Their outcomes are ignored, unless a record was delivered.
    fn abandon(&self, partitions: &[Partition]) {
        let _ = partitions;
    }

    /// Proves that the destination can be written to; called before every run.
    ///
    /// # Errors
    /// When it cannot, with a hint.
    fn check(&self) -> impl Future<Output = Result<(), ConnectorError>> + Send;

    /// Looks once more at what was written, when the run has settled everything or the destination rejects everything.
    ///
    /// # Errors
    /// When it is not there any more. A destination that does not answer is no error: it has answered for every record.
    fn confirm(&self) -> impl Future<Output = Result<(), ConnectorError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Returns why the run cannot go on, as soon as that is known without a record that is sent.
    fn refusal(&self) -> Option<ConnectorError> {
        None
    }

    /// Returns whether the destination accepts a harmless write, or at least answers, at present: one try, `false` when in doubt.
    ///
    /// The engine calls this after an unclear answer when no other record was delivered meanwhile, to distinguish an outage from a
    /// poison record. Without this check only delivered neighbours are proof.
    fn is_available(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Returns whether two batches of one partition may be in flight together.
    fn ordering(&self) -> Ordering;

    /// Returns why the destination does not answer, as far as known.
    fn degraded_reason(&self) -> Option<String> {
        None
    }
}

/// Returns the answers of a task, which goes on whether or not they are awaited.
#[must_use]
pub fn answers_from_task(task: tokio::task::JoinHandle<Vec<Outcome>>) -> Answers {
    Box::pin(async move {
        match task.await {
            Ok(outcomes) => outcomes,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime shuts down.
            Err(_) => std::future::pending().await,
        }
    })
}

/// Whether batches of one partition may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Batches may overlap: order does not matter, or the destination keeps the order of `submit`.
    Overlapping,
    /// A batch of a partition is sent when the previous one is settled.
    OneByOne,
}

/// What became of one record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durably stored.
    Delivered,
    /// Stored before, by an earlier run or attempt.
    AlreadyThere,
    /// A newer version is stored.
    Superseded,
    /// The server refused it for now, because of load or an outage: sent again until the answer changes, never a dead letter.
    Retry(Reason),
    /// The outcome is unknown, as after a time-out, a cut connection or an unknown error: sent again. The engine decides by the
    /// outcomes of its neighbours whether a record is the cause.
    Unclear(Reason),
    /// A bad record: it can never be delivered.
    Reject(Reason),
    /// The batch failed as a whole because of a record in it: it is bisected. Sent alone, the record is bad.
    BatchRejected(Reason),
    /// Nothing can be delivered until the configuration is changed.
    Stop(Reason),
}

impl Outcome {
    /// Returns the name in logs, which is that of the metrics where they count it.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::AlreadyThere => "already_there",
            Self::Superseded => "superseded",
            Self::Retry(_) => "retry",
            Self::Unclear(_) => "unclear",
            Self::Reject(_) => "rejected",
            Self::BatchRejected(_) => "batch_rejected",
            Self::Stop(_) => "stop",
        }
    }

    /// Returns why the record was not delivered.
    #[must_use]
    pub(crate) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Delivered | Self::AlreadyThere | Self::Superseded => None,
            Self::Retry(reason)
            | Self::Unclear(reason)
            | Self::Reject(reason)
            | Self::BatchRejected(reason)
            | Self::Stop(reason) => Some(reason),
        }
    }
}

/// Why a record was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Box<ReasonParts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct ReasonParts {
    code: String,
    message: String,
    hint: Option<String>,
    path: Option<String>,
    detail: Option<String>,
    refusal: bool,
    load: Load,
}

/// The load of the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    #[default]
    Normal,
    Overloaded,
    TimedOut,
}

impl Reason {
    /// Returns a reason: `code` is short and stable (`record_too_large`), `message` is a sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self(Box::new(ReasonParts { code, message, hint: None, path: None, detail: None, refusal: false, load: Load::Normal }))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the JSON path of the bad field.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Adds the server's message, which may quote the record: it is shown in dead letters only.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into()).filter(|detail| !detail.is_empty());
        self
    }

    /// Marks an [`Outcome::Stop`] as a refusal: continuing would not be safe.
    #[must_use]
    pub fn refusal(mut self) -> Self {
        self.0.refusal = true;
        self
    }

    /// Marks an overloaded destination (429): the engine sends fewer batches at once.
    #[must_use]
    pub fn overload(mut self) -> Self {
        self.0.load = Load::Overloaded;
        self
    }

    /// Marks a time-out: the engine sends fewer and smaller batches until answers come. A time-out alone does not prove a record bad.
    #[must_use]
    pub fn time_out(mut self) -> Self {
        self.0.load = Load::TimedOut;
        self
    }

    /// Returns whether the destination is overloaded: marked by [`Self::overload`] or [`Self::time_out`].
    #[must_use]
    pub fn is_overload(&self) -> bool {
        self.0.load != Load::Normal
    }

    /// Returns whether no answer came in time.
    #[must_use]
    pub fn is_time_out(&self) -> bool {
        self.0.load == Load::TimedOut
    }

    pub(crate) fn load(&self) -> Load {
        self.0.load
    }

    /// Returns whether continuing would not be safe.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.0.refusal
    }

    /// Returns the code, which no version changes: `record_too_large`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the sentence for people. What the server says about the record is in [`Self::detailed`].
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what to do about it, as added by [`Self::hint`].
    #[must_use]
    pub fn hinted(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the server's message; it may quote the record.
    #[must_use]
    pub fn detailed(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Returns the JSON path of the bad field.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }
}

impl From<ShapeError> for Reason {
    fn from(fault: ShapeError) -> Self {
        let ShapeError { code, message, hint, path } = fault;
        let reason = path.into_iter().fold(Self::new(code, message), Self::at);
        hint.into_iter().fold(reason, Self::hint)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}
