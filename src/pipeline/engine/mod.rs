//! The loop that reads, sends, settles and commits.

mod partitions;
mod preparation;
mod sending;
mod settling;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::pipeline::delivery::{Delivery, Destination};
use crate::pipeline::engine::preparation::Preparation;
use crate::pipeline::event::{Event, Observer, Tally};
use crate::pipeline::lanes::{BatchLimits, Lanes, TaggedBatch};
use crate::pipeline::watermark::Watermark;
use crate::pipeline::{
    Answers, BadRecordPolicy, CircuitBreaker, ConnectorError, DeadLetterBuilder, Demand, Failure, Limits, Outcome, Pipeline,
    Reason, Revocation, RunOutcome, RunReport, Sink, Source, TokenBucket, Transform, backoff,
};
use crate::record::{NextOffset, Partition, Record};

/// How often a stall is looked for when nothing else happens.
const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Without an answer for so long, a run is said to be stalled.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// One partition: its present life, or what is left of the last one.
struct PartitionState {
    partition: Partition,
    epoch: u64,
    owned: bool,
    /// A rebalance is taking the partition away: nothing of it is sent any more.
    revoking: bool,
    watermark: Watermark,
    /// What the source was told last.
    noted: NextOffset,
    /// Records of this life that are with a sink, or wait to be sent again.
    in_flight: usize,
}

/// A batch that a destination has not taken yet.
type Submission = Pin<Box<dyn Future<Output = (Delivery, Result<Answers, ConnectorError>)> + Send>>;
/// A batch that was taken and is not answered yet.
type Flight = Pin<Box<dyn Future<Output = (Delivery, Vec<Outcome>)> + Send>>;

pub(crate) struct Engine<S, K, D> {
    source: S,
    sink: Arc<K>,
    letters: Option<Arc<D>>,
    letter: DeadLetterBuilder,
    transform: Option<Transform>,
    bad_records: BadRecordPolicy,
    limits: Limits,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,

    preparation: Preparation<K>,
    partitions: Vec<PartitionState>,
    index: HashMap<Partition, usize>,
    lanes: Lanes,
    /// At most one for each destination, so that batches are taken in order.
    submissions: FuturesUnordered<Submission>,
    /// The sink has not taken the last batch yet, so it gets no other.
    pushed_back: bool,
    in_flight: FuturesUnordered<Flight>,
    in_flight_since: Vec<Instant>,
    in_flight_bytes: usize,
    waiting: Vec<(Instant, Delivery)>,
    letters_queue: TaggedBatch,
    dead_letters_in_flight: bool,
    revocations: Vec<Revocation>,
    breaker: CircuitBreaker,
    bucket: Option<TokenBucket>,
    tally: Tally,
    /// Nothing more is to be read.
    ended: bool,
    /// The source failed and is not asked any more.
    source_failed: bool,
    ending: Option<RunOutcome>,
    deadline: Option<Instant>,
    /// Whether a destination is in trouble.
    troubled: bool,
    /// Whether a destination takes nothing.
    stalled: bool,
    /// What the source said is wrong with it.
    source_trouble: Option<String>,
    last_answer: Instant,
    /// Since when records are waited for, while there is room for them.
    wanting: Option<Instant>,
    /// With `--commit-each`: when to ask for the confirmation that the next record waits for, and which attempt that is.
    unconfirmed: Option<(Instant, u32)>,
    /// Whether everything is done but for the last confirmation.
    asked_last: bool,
    /// When to look for stalls again, whatever else happens.
    look_at: Instant,
}

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    pub(crate) fn new(pipeline: Pipeline<S, K, D>) -> Self {
        let Pipeline { source, sink, dead_letters, transform, bad_records, mut limits, observer, stop } = pipeline;
        if limits.commit_each {
            (limits.batch, limits.in_flight) = (1, 1);
        }
        let now = Instant::now();
        let batch = BatchLimits { records: limits.batch, bytes: limits.batch_bytes, linger: limits.linger };
        let (letters, letter) = match dead_letters {
            Some(dead_letters) => (Some(Arc::new(dead_letters.sink)), dead_letters.build),
            None => (None, Box::new(|record: &Record, _: &Reason, _| record.clone()) as Box<_>),
        };
        let sink = Arc::new(sink);
        Self {
            source,
            lanes: Lanes::new(sink.ordering(), batch),
            preparation: Preparation::new(Arc::clone(&sink)),
            sink,
            letters,
            letter,
            transform,
            bad_records,
            observer,
            stop,
            partitions: Vec::new(),
            index: HashMap::new(),
            submissions: FuturesUnordered::new(),
            pushed_back: false,
            in_flight: FuturesUnordered::new(),
            in_flight_since: Vec::new(),
            in_flight_bytes: 0,
            waiting: Vec::new(),
            letters_queue: TaggedBatch::default(),
            dead_letters_in_flight: false,
            revocations: Vec::new(),
            breaker: CircuitBreaker::new(limits.breaker),
            bucket: limits.rate.map(|rate| TokenBucket::new(rate, now)),
            tally: Tally::default(),
            ended: limits.count == Some(0),
            source_failed: false,
            ending: None,
            deadline: None,
            troubled: false,
            stalled: false,
            source_trouble: None,
            last_answer: now,
            wanting: None,
            unconfirmed: None,
            asked_last: false,
            look_at: now + STALL_CHECK_INTERVAL,
            limits,
        }
    }

    pub(crate) async fn run(mut self) -> RunReport {
        let begun = Instant::now();
        loop {
            self.look(Instant::now());
            self.confirm().await;
            self.prepare();
            self.dispatch();
            self.release_revocations();
            if self.is_done() {
                // An outage of the source is waited out even now, until the run is told to stop.
                if self.ending.is_some() || (self.asked_last && self.unconfirmed.is_none()) {
                    break;
                }
                if !std::mem::replace(&mut self.asked_last, true) {
                    self.unconfirmed = Some((Instant::now(), 1));
                    continue;
                }
            }
            let now = Instant::now();
            let (appetite, wake) = self.plan(now);
            self.wanting = (appetite != Demand::Signals).then(|| self.wanting.unwrap_or(now));
            tokio::select! {
                biased;
                Some((chain, outcomes)) = self.in_flight.next() => self.on_response(chain, outcomes),
                Some((chain, submitted)) = self.submissions.next() => self.on_accepted(chain, submitted),
                answer = self.preparation.answer(), if self.preparation.is_running() => self.on_prepared(answer),
                () = stop_requested(&mut self.stop), if self.ending.is_none() => self.end(RunOutcome::Interrupted),
                signal = self.source.next(appetite), if !self.source_failed => match signal {
                    Ok(signal) => self.on_signal(signal),
                    Err(error) => {
                        self.source_failed = true;
                        self.end(RunOutcome::Failed(error));
                    }
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish(begun).await
    }

    /// Returns whether anything that was read waits or is on its way.
    fn has_business(&self) -> bool {
        self.under_way() > 0 || self.lanes.queued() > 0 || self.letters_queue.len() > 0
    }

    /// Returns the number of batches that are with a destination or wait to be sent again.
    fn under_way(&self) -> usize {
        self.submissions.len() + self.in_flight.len() + self.waiting.len()
    }

    /// Returns whether a destination can be given a batch.
    fn is_open(&self, destination: Destination) -> bool {
        destination == Destination::DeadLetters || !self.pushed_back
    }

    fn is_done(&self) -> bool {
        let out_of_time = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        out_of_time || ((self.ended || self.ending.is_some()) && !self.has_business())
    }

    /// Returns what may be read now, and when to look again if nothing happens.
    fn plan(&mut self, now: Instant) -> (Demand, Instant) {
        if let Some((due, _)) = self.unconfirmed {
            return (Demand::Signals, self.look_at.min(due));
        }
        let mut wake = self.preparation.due().map_or(self.look_at, |due| due.min(self.look_at));
        if self.preparation.since().is_none() && self.is_open(Destination::Sink) && self.under_way() < self.limits.in_flight {
            wake = self.lanes.due().map_or(wake, |due| wake.min(due));
        }
        let again = self.waiting.iter().filter(|(_, chain)| self.is_open(chain.destination)).map(|(due, _)| *due);
        wake = again.chain(self.deadline).fold(wake, Instant::min);
        if self.ended || self.ending.is_some() {
            return (Demand::Signals, wake);
        }
        let unsettled = usize::try_from(self.tally.unsettled()).expect("records that wait fit in memory");
        let room = (self.limits.batch * self.limits.in_flight).saturating_sub(unsettled);
        let bytes = self.lanes.bytes() + self.in_flight_bytes;
        if room == 0 || bytes >= self.limits.batch_bytes * self.limits.in_flight {
            return (Demand::Signals, wake);
        }
        let left = self.limits.count.map_or(u64::MAX, |count| count - self.tally.read);
        let most = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.bucket.as_mut().map(|bucket| bucket.allowance(now)) {
            None => (Demand::Records(most), wake),
            Some(Ok(allowed)) => (Demand::Records(most.min(allowed)), wake),
            Some(Err(again)) => (Demand::Signals, wake.min(again)),
        }
    }

    /// Asks the sink to prepare for partitions that were assigned.
    fn prepare(&mut self) {
        if let Some(answer) = self.preparation.start(Instant::now()) {
            self.on_prepared(answer);
        }
    }

    fn on_prepared(&mut self, answer: Result<(), ConnectorError>) {
        let now = Instant::now();
        match self.preparation.on_answer(answer, |failures| now + backoff(failures, jitter(now))) {
            Ok(None) if self.preparation.since().is_none() && self.under_way() == 0 => self.clear_trouble(),
            Ok(None) => {}
            Ok(Some(why)) => self.trouble(&why),
            Err(error) => {
                self.lanes.discard(|_| true); // nothing more can be sent
                self.end(RunOutcome::Failed(error));
            }
        }
    }

    /// Looks for what time alone changes: stalls, and retries that took too long.
    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + STALL_CHECK_INTERVAL;
        let Some(oldest) = self.in_flight_since.iter().copied().chain(self.preparation.since()).min() else {
            if self.unconfirmed.is_none() {
                self.clear_trouble(); // what failed was taken away
            }
            return;
        };
        if self.last_answer.elapsed() > STALLED_AFTER {
            if !self.troubled {
                let why = self.sink.degraded_reason().unwrap_or_else(|| "the destination does not answer".to_owned());
                self.trouble(&why);
            }
            self.stall(true);
        }
        if self.ending.is_none()
            && let Some(most) = self.limits.retry_for
            && oldest.elapsed() > most
            && self.last_answer.elapsed() > most
        {
            let why = self.sink.degraded_reason().unwrap_or_else(|| "no record was taken".to_owned());
            let what = format!("gave up after {} without a delivery (--retry-for)", humantime::format_duration(most));
            self.lanes.discard(|_| true); // nothing more can be sent
            self.end(RunOutcome::Failed(Failure::new(what).because(why).hint("start again when the destination is back").into()));
            self.deadline = Some(Instant::now());
        }
    }

    fn trouble(&mut self, trouble: &str) {
        self.troubled = true;
        self.observer.on(&Event::Degraded(Some(trouble)));
    }

    fn stall(&mut self, stalled: bool) {
        if std::mem::replace(&mut self.stalled, stalled) != stalled {
            self.observer.on(&Event::Stalled(stalled));
        }
    }

    /// The destinations are well; what is wrong with the source is told again.
    fn clear_trouble(&mut self) {
        self.stall(false);
        if std::mem::take(&mut self.troubled) {
            self.observer.on(&Event::Degraded(self.source_trouble.as_deref()));
        }
    }

    /// Returns whether the run ends for another reason than that it is done or was told to.
    fn has_failed(&self) -> bool {
        matches!(self.ending, Some(RunOutcome::Failed(_) | RunOutcome::Record(_)))
    }

    /// Stops reading and starts the clock of the drain. The first reason counts, but a failure counts more than an interrupt.
    fn end(&mut self, ending: RunOutcome) {
        if self.has_failed() {
            return;
        }
        let why = match &ending {
            RunOutcome::Interrupted => "interrupted",
            RunOutcome::Complete => "complete",
            RunOutcome::Failed(_) => "failed",
            RunOutcome::Record(_) => "stopped at a bad record",
        };
        self.observer.on(&Event::Draining(why));
        self.ending = Some(ending);
        self.deadline.get_or_insert_with(|| Instant::now() + self.limits.shutdown_timeout);
    }

    async fn finish(mut self, begun: Instant) -> RunReport {
        self.submissions.clear();
        self.in_flight.clear();
        for revocation in std::mem::take(&mut self.revocations) {
            let commits = self.close_lives(&revocation.partitions, false);
            revocation.release(commits);
        }
        self.note_commits();
        self.tally.undelivered = self.partitions.iter().map(|life| life.watermark.unsettled() as u64).sum();
        self.tally.assert_balanced();
        let mut positions: Vec<_> = self.partitions.iter().map(|life| (life.partition, life.watermark.next())).collect();
        positions.sort_unstable();
        let owned: Vec<_> = self.partitions.iter().filter(|life| life.owned).map(|life| (life.partition, life.noted)).collect();
        let closed = self.source.close().await;
        if closed.is_ok() {
            self.observer.on(&Event::Committed(&owned));
        }
        self.observer.on(&Event::Progress(&self.tally));
        RunReport {
            tally: self.tally,
            outcome: self.ending.unwrap_or(RunOutcome::Complete),
            positions,
            closed,
            elapsed: begun.elapsed(),
        }
    }
}

/// Returns when the run is told to stop; never, if nobody is there to tell it.
async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns a number between 0 and 1 that differs from call to call; spreading retries needs no more than that.
fn jitter(now: Instant) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    #[allow(clippy::cast_precision_loss)] // a fraction with 53 random bits
    let fraction = (RandomState::new().hash_one(now) >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}
