//! The loop that reads, sends, settles and commits.

mod lives;
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

use crate::pipeline::chain::{Chain, Destination};
use crate::pipeline::event::{Event, Observer, Tally};
use crate::pipeline::lanes::{BatchLimits, Chunk, Lanes};
use crate::pipeline::retry::{Breaker, Bucket};
use crate::pipeline::watermark::Watermark;
use crate::pipeline::{
    Answers, Appetite, BadRecords, EndError, Ending, Failure, Finished, LetterMaker, Limits, Outcome, Pipeline, Reason,
    Revocation, Sink, Source, Transform,
};
use crate::record::{NextOffset, Partition, Record};

/// How often a stall is looked for when nothing else happens.
const LOOK: Duration = Duration::from_millis(500);
/// Without an answer for so long, a run is said to be stalled.
const STALLED: Duration = Duration::from_secs(3);

/// One partition: its present life, or what is left of the last one.
struct Life {
    partition: Partition,
    epoch: u64,
    owned: bool,
    /// A rebalance is taking the partition away: nothing of it is sent any more.
    leaving: bool,
    watermark: Watermark,
    /// What the source was told last.
    noted: NextOffset,
    /// Records of this life that are with a sink, or wait to be sent again.
    out: usize,
}

/// A batch that a destination has not taken yet.
type Submission = Pin<Box<dyn Future<Output = (Chain, Result<Answers, EndError>)> + Send>>;
/// A batch that was taken and is not answered yet.
type Flight = Pin<Box<dyn Future<Output = (Chain, Vec<Outcome>)> + Send>>;

pub(crate) struct Engine<S, K, D> {
    source: S,
    sink: Arc<K>,
    letters: Option<Arc<D>>,
    letter: LetterMaker,
    transform: Option<Transform>,
    bad_records: BadRecords,
    limits: Limits,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,

    lives: Vec<Life>,
    index: HashMap<Partition, usize>,
    lanes: Lanes,
    /// At most one for each destination, so that batches are taken in order.
    submissions: FuturesUnordered<Submission>,
    /// The sink has not taken the last batch yet, so it gets no other.
    pushed_back: bool,
    flights: FuturesUnordered<Flight>,
    flying_since: Vec<Instant>,
    flying_bytes: usize,
    waiting: Vec<(Instant, Chain)>,
    letters_queue: Chunk,
    letters_flying: bool,
    revocations: Vec<Revocation>,
    breaker: Breaker,
    bucket: Option<Bucket>,
    tally: Tally,
    /// Nothing more is to be read.
    ended: bool,
    /// The source failed and is not asked any more.
    deaf: bool,
    ending: Option<Ending>,
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
            Some(dead_letters) => (Some(Arc::new(dead_letters.sink)), dead_letters.letter),
            None => (None, Box::new(|record: &Record, _: &Reason, _| record.clone()) as Box<_>),
        };
        Self {
            source,
            lanes: Lanes::new(sink.ordering(), batch),
            sink: Arc::new(sink),
            letters,
            letter,
            transform,
            bad_records,
            observer,
            stop,
            lives: Vec::new(),
            index: HashMap::new(),
            submissions: FuturesUnordered::new(),
            pushed_back: false,
            flights: FuturesUnordered::new(),
            flying_since: Vec::new(),
            flying_bytes: 0,
            waiting: Vec::new(),
            letters_queue: Chunk::default(),
            letters_flying: false,
            revocations: Vec::new(),
            breaker: Breaker::new(limits.breaker),
            bucket: limits.rate.map(|rate| Bucket::new(rate, now)),
            tally: Tally::default(),
            ended: limits.count == Some(0),
            deaf: false,
            ending: None,
            deadline: None,
            troubled: false,
            stalled: false,
            source_trouble: None,
            last_answer: now,
            wanting: None,
            unconfirmed: None,
            asked_last: false,
            look_at: now + LOOK,
            limits,
        }
    }

    pub(crate) async fn run(mut self) -> Finished {
        let begun = Instant::now();
        loop {
            self.look(Instant::now());
            self.confirm().await;
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
            self.wanting = (appetite != Appetite::Signals).then(|| self.wanting.unwrap_or(now));
            tokio::select! {
                biased;
                Some((chain, outcomes)) = self.flights.next() => self.land(chain, outcomes),
                Some((chain, submitted)) = self.submissions.next() => self.taken(chain, submitted),
                () = told(&mut self.stop), if self.ending.is_none() => self.end(Ending::Interrupted),
                signal = self.source.next(appetite), if !self.deaf => match signal {
                    Ok(signal) => self.hear(signal),
                    Err(error) => {
                        self.deaf = true;
                        self.end(Ending::Failed(error));
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
        self.submissions.len() + self.flights.len() + self.waiting.len()
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
    fn plan(&mut self, now: Instant) -> (Appetite, Instant) {
        if let Some((due, _)) = self.unconfirmed {
            return (Appetite::Signals, self.look_at.min(due));
        }
        let mut wake = self.look_at;
        if self.is_open(Destination::Sink) && self.under_way() < self.limits.in_flight {
            wake = self.lanes.due().map_or(wake, |due| wake.min(due));
        }
        let again = self.waiting.iter().filter(|(_, chain)| self.is_open(chain.destination)).map(|(due, _)| *due);
        wake = again.chain(self.deadline).fold(wake, Instant::min);
        if self.ended || self.ending.is_some() {
            return (Appetite::Signals, wake);
        }
        let unsettled = usize::try_from(self.tally.unsettled()).expect("records that wait fit in memory");
        let room = (self.limits.batch * self.limits.in_flight).saturating_sub(unsettled);
        let bytes = self.lanes.bytes() + self.flying_bytes;
        if room == 0 || bytes >= self.limits.batch_bytes * self.limits.in_flight {
            return (Appetite::Signals, wake);
        }
        let left = self.limits.count.map_or(u64::MAX, |count| count - self.tally.read);
        let most = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.bucket.as_mut().map(|bucket| bucket.allowance(now)) {
            None => (Appetite::Records(most), wake),
            Some(Ok(allowed)) => (Appetite::Records(most.min(allowed)), wake),
            Some(Err(again)) => (Appetite::Signals, wake.min(again)),
        }
    }

    /// Looks for what time alone changes: stalls, and retries that took too long.
    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let Some(oldest) = self.flying_since.iter().min().copied() else {
            if self.unconfirmed.is_none() {
                self.clear_trouble(); // what failed was taken away
            }
            return;
        };
        if self.last_answer.elapsed() > STALLED {
            if !self.troubled {
                let why = self.sink.trouble().unwrap_or_else(|| "the destination does not answer".to_owned());
                self.trouble(&why);
            }
            self.stall(true);
        }
        if self.ending.is_none()
            && let Some(most) = self.limits.retry_for
            && oldest.elapsed() > most
            && self.last_answer.elapsed() > most
        {
            let why = self.sink.trouble().unwrap_or_else(|| "no record was taken".to_owned());
            let what = format!("gave up after {} without a delivery (--retry-for)", humantime::format_duration(most));
            self.lanes.forget(|_| true); // nothing more can be sent
            self.end(Ending::Failed(Failure::new(what).because(why).hint("start again when the destination is back").into()));
            self.deadline = Some(Instant::now());
        }
    }

    fn trouble(&mut self, trouble: &str) {
        self.troubled = true;
        self.observer.on(&Event::Trouble(Some(trouble)));
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
            self.observer.on(&Event::Trouble(self.source_trouble.as_deref()));
        }
    }

    /// Returns whether the run ends for another reason than that it is done or was told to.
    fn has_failed(&self) -> bool {
        matches!(self.ending, Some(Ending::Failed(_) | Ending::Record(_)))
    }

    /// Stops reading and starts the clock of the drain. The first reason counts, but a failure counts more than an interrupt.
    fn end(&mut self, ending: Ending) {
        if self.has_failed() {
            return;
        }
        let why = match &ending {
            Ending::Interrupted => "interrupted",
            Ending::Complete => "complete",
            Ending::Failed(_) => "failed",
            Ending::Record(_) => "stopped at a bad record",
        };
        self.observer.on(&Event::Draining(why));
        self.ending = Some(ending);
        self.deadline.get_or_insert_with(|| Instant::now() + self.limits.shutdown_timeout);
    }

    async fn finish(mut self, begun: Instant) -> Finished {
        self.submissions.clear();
        self.flights.clear();
        for revocation in std::mem::take(&mut self.revocations) {
            let commits = self.close_lives(&revocation.partitions, false);
            revocation.release(commits);
        }
        self.note_commits();
        self.tally.undelivered = self.lives.iter().map(|life| life.watermark.unsettled() as u64).sum();
        self.tally.assert_balanced();
        let mut positions: Vec<_> = self.lives.iter().map(|life| (life.partition, life.watermark.next())).collect();
        positions.sort_unstable();
        let owned: Vec<_> = self.lives.iter().filter(|life| life.owned).map(|life| (life.partition, life.noted)).collect();
        let closed = self.source.close().await;
        if closed.is_ok() {
            self.observer.on(&Event::Committed(&owned));
        }
        self.observer.on(&Event::Progress(&self.tally));
        Finished {
            tally: self.tally,
            ending: self.ending.unwrap_or(Ending::Complete),
            positions,
            closed,
            elapsed: begun.elapsed(),
        }
    }
}

/// Returns when the run is told to stop; never, if nobody is there to tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
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
