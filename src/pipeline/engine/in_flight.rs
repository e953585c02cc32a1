//! Batches in flight, and their limit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use crate::pipeline::delivery::{Attempt, AttemptResult, Delivery, Destination};
use crate::pipeline::lanes::TaggedBatch;
use crate::pipeline::policy::batch_size::BatchSizeLimit;
use crate::pipeline::policy::concurrency::ConcurrencyLimit;
use crate::pipeline::sink::Load;
use crate::pipeline::{Answers, ConnectorError, Limits, Outcome, Sink};

/// The result of offering a batch.
pub(super) type Accepted = (Delivery, Result<Answers, ConnectorError>);
type Submission = Pin<Box<dyn Future<Output = Accepted> + Send>>;
type Call = Pin<Box<dyn Future<Output = (Delivery, Vec<Outcome>)> + Send>>;

/// What happened to a batch.
pub(super) enum InFlightEvent {
    Accepted(Accepted),
    Answered(Delivery, Vec<Outcome>),
}

/// Open deliveries, from the first attempt of a batch to the last answer, and their calls in progress.
pub(super) struct InFlight<K, D> {
    sink: Arc<K>,
    dead_letters: Option<Arc<D>>,
    /// At most one for each destination, so that batches are accepted in order.
    submissions: FuturesUnordered<Submission>,
    calls: FuturesUnordered<Call>,
    /// The sink has not accepted the last batch yet, so it gets no other.
    is_pushed_back: bool,
    /// Batches that were offered to the sink and are not answered.
    with_sink: usize,
    has_dead_letters: bool,
    /// When each open delivery began, and where it goes.
    open: Vec<(Instant, Destination)>,
    max_open: usize,
    bytes: usize,
    concurrency: ConcurrencyLimit,
    batch_size: BatchSizeLimit,
}

impl<K: Sink + 'static, D: Sink + 'static> InFlight<K, D> {
    pub(super) fn new(sink: Arc<K>, dead_letters: Option<Arc<D>>, limits: &Limits) -> Self {
        Self {
            sink,
            dead_letters,
            submissions: FuturesUnordered::new(),
            calls: FuturesUnordered::new(),
            is_pushed_back: false,
            with_sink: 0,
            has_dead_letters: false,
            open: Vec::new(),
            max_open: limits.in_flight,
            bytes: 0,
            concurrency: ConcurrencyLimit::new(limits.in_flight),
            batch_size: BatchSizeLimit::new(limits.batch),
        }
    }

    /// Returns the number of open deliveries, those included that wait to be sent again.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns when the oldest open delivery to `destination` began.
    pub(super) fn oldest(&self, destination: Destination) -> Option<Instant> {
        self.open.iter().filter(|(_, to)| *to == destination).map(|(begun, _)| *begun).min()
    }

    /// Returns why a destination delivers nothing, if its client knows.
    pub(super) fn degraded_reason(&self, destination: Destination) -> Option<String> {
        match destination {
            Destination::Sink => self.sink.degraded_reason(),
            Destination::DeadLetters => self.dead_letters.as_ref()?.degraded_reason(),
        }
    }

    /// Returns why the run cannot go on, by either destination.
    pub(super) fn refusal(&self) -> Option<ConnectorError> {
        self.sink.refusal().or_else(|| self.dead_letters.as_ref()?.refusal())
    }

    /// Has both destinations look once more at what was written. Borrows nothing.
    ///
    /// # Errors
    /// When it is not there any more.
    pub(super) fn confirm(&self) -> impl Future<Output = Result<(), ConnectorError>> + Send + use<K, D> {
        let (sink, letters) = (Arc::clone(&self.sink), self.dead_letters.clone());
        async move {
            sink.confirm().await?;
            match letters {
                Some(letters) => letters.confirm().await,
                None => Ok(()),
            }
        }
    }

    /// Returns the most records of a batch.
    pub(super) fn max_records(&self) -> usize {
        self.batch_size.records()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a destination can be given a batch.
    pub(super) fn can_send(&self, destination: Destination) -> bool {
        destination == Destination::DeadLetters || (!self.is_pushed_back && self.concurrency.allows(self.with_sink))
    }

    /// Returns whether a new delivery to `destination` may begin.
    pub(super) fn can_begin(&self, destination: Destination) -> bool {
        match destination {
            Destination::Sink => self.can_send(destination) && self.open.len() < self.max_open,
            Destination::DeadLetters => !self.has_dead_letters,
        }
    }

    pub(super) fn begin(&mut self, destination: Destination, batch: TaggedBatch, now: Instant) -> Delivery {
        self.bytes += batch.bytes;
        self.open.push((now, destination));
        self.has_dead_letters |= destination == Destination::DeadLetters;
        Delivery::new(destination, batch, now)
    }

    /// Offers the next attempt of a delivery to its destination, in order with every other; returns the delivery if it is accepted
    /// or refused at once.
    pub(super) fn send(&mut self, mut delivery: Delivery, now: Instant) -> Option<Accepted> {
        delivery.last_sent = now;
        let destination = delivery.destination;
        let mut submission = match destination {
            Destination::Sink => {
                delivery.round = self.concurrency.round();
                delivery.limit_to(self.batch_size.records());
                self.with_sink += 1;
                submit(Arc::clone(&self.sink), delivery)
            }
            Destination::DeadLetters => {
                let sink = self.dead_letters.as_ref().expect("dead letters are queued only where there is a destination");
                submit(Arc::clone(sink), delivery)
            }
        };
        // A destination may push back without limit; the source must be polled meanwhile.
        let accepted = submission.as_mut().now_or_never();
        if accepted.is_none() {
            self.is_pushed_back |= destination == Destination::Sink;
            self.submissions.push(submission);
        }
        accepted
    }

    /// Awaits the answers to a batch that was accepted; gives the delivery back if it was not.
    #[allow(clippy::result_large_err)] // once a batch
    pub(super) fn on_accepted(&mut self, (delivery, accepted): Accepted) -> Result<(), (Delivery, ConnectorError)> {
        let is_sink = delivery.destination == Destination::Sink;
        self.is_pushed_back &= !is_sink;
        match accepted {
            Ok(answers) => {
                self.calls.push(Box::pin(async move { (delivery, answers.await) }));
                Ok(())
            }
            Err(error) => {
                self.with_sink -= usize::from(is_sink);
                Err((delivery, error))
            }
        }
    }

    /// Waits until a batch is accepted or answered. Cancel-safe.
    pub(super) async fn next(&mut self) -> InFlightEvent {
        tokio::select! {
            biased;
            Some((delivery, outcomes)) = self.calls.next() => InFlightEvent::Answered(delivery, outcomes),
            Some(accepted) = self.submissions.next() => InFlightEvent::Accepted(accepted),
            else => std::future::pending().await,
        }
    }

    /// Adapts the limits to an answer.
    pub(super) fn on_response(&mut self, delivery: &Delivery, attempt: &Attempt, result: &AttemptResult) {
        if delivery.destination == Destination::DeadLetters {
            return;
        }
        self.with_sink -= 1;
        match result.load {
            Load::Normal => {
                self.concurrency.on_answer();
                self.batch_size.on_answer(attempt.batch.len());
            }
            Load::Overloaded => drop(self.concurrency.on_overload(delivery.round)),
            Load::TimedOut => {
                if self.concurrency.on_overload(delivery.round) {
                    self.batch_size.on_time_out();
                }
            }
        }
    }

    /// Closes a delivery with nothing left to send.
    pub(super) fn complete(&mut self, delivery: &Delivery) {
        self.bytes -= delivery.bytes;
        if let Some(at) = self.open.iter().position(|open| *open == (delivery.first_sent, delivery.destination)) {
            self.open.swap_remove(at);
        }
        self.has_dead_letters &= delivery.destination != Destination::DeadLetters;
    }

    /// Abandons every call in progress.
    pub(super) fn abandon(&mut self) {
        self.submissions.clear();
        self.calls.clear();
    }
}

fn submit<K: Sink + 'static>(sink: Arc<K>, delivery: Delivery) -> Submission {
    let batch = Arc::clone(&delivery.next().expect("a delivery that is sent has an attempt left").batch);
    Box::pin(async move {
        let accepted = sink.submit(batch).await;
        (delivery, accepted)
    })
}
