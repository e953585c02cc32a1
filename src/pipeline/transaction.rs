//! The transactional loop: the engine's loop with a transactional commit. The messages of a flow and the group's offsets go to the
//! target in one transaction: a `read_committed` consumer sees both or neither.
//!
//! ```text
//! Source --records--> TransactionFlow --messages--> TransactionSink: begin, send, flush, send_offsets, commit
//!    ^                      |                                            '-- refused: abort, send again
//!    '-- Revoked waits <----'-- bad records --> dead letters, before the offsets that cover them
//! ```
//!
//! The loop owns the transaction's state, its messages until they are committed, back-off, bisecting, drain and accounts. A flow
//! decides which messages are published and when; a sink translates. A transaction with an unanswered commit is only committed again:
//! neither aborted nor sent again. Any other failure aborts it, and its messages are sent again in a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::pipeline::engine::health::Health;
use crate::pipeline::engine::{jitter, stop_requested};
use crate::pipeline::{
    Assignment, BadRecordAction, BadRecordPolicy, CircuitBreaker, ConnectorError, DeadLetterBuilder, DeadLetters, Demand, Event,
    Failure, Limits, Observer, Outcome, Reason, Revocation, RunOutcome, RunReport, RunSide, Signal, Sink, Source, Tally,
    TokenBucket, Transform, backoff, failures,
};
use crate::record::{Fingerprint, Headers, NextOffset, Partition, Record, Topic};

/// How often a flow is polled when idle.
const DUE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a run that ends may take to abort its transaction.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the last look at what was written may take.
const LAST_LOOK_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutgoingMessage {
    pub(crate) topic: Topic,
    /// Chosen by the key where it is `None`.
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Headers,
    /// The record that is bad if the target refuses this message. Without one the run fails.
    pub(crate) origin: Option<Box<Record>>,
}

impl OutgoingMessage {
    fn bytes(&self) -> usize {
        let header = |(name, value): &(Bytes, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
        let body = self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len);
        body + self.headers.iter().map(header).sum::<usize>()
    }
}

/// Messages that are handed to the target in one call.
pub(crate) type Messages = Arc<Vec<OutgoingMessage>>;

/// Target partition and offset of a message.
pub(crate) type Receipt = (i32, i64);

/// A position that is committed with a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetCommit {
    pub(crate) partition: Partition,
    /// Where to resume.
    pub(crate) next: NextOffset,
    /// The last record that was read.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The flow's own part of the commit's metadata.
    pub(crate) extension: Option<String>,
}

/// Why a call to the target failed.
#[derive(Debug)]
pub(crate) enum TransactionError {
    /// Not answered. A commit may have happened: it is asked for again, and nothing else.
    Unclear(String),
    /// Not committed: the transaction is aborted, and sent again after a pause.
    Abort(String),
    /// The target refused these messages (counted from the start of the transaction); one of them is to blame.
    Rejected { messages: Vec<usize>, reason: Reason },
    /// The target cannot continue.
    Fatal(ConnectorError),
}

/// The target of transactions. It keeps no state between calls but that of its client: each call is one request.
pub(crate) trait TransactionSink: Send + Sync + 'static {
    /// Identifies the group's member and its generation: the group refuses offsets of one that lost its place.
    type Member: Clone + Send + Sync + 'static;

    fn begin(&self) -> impl Future<Output = Result<(), TransactionError>> + Send;

    /// Enqueues messages behind those of earlier calls; waits only while the queue is full.
    fn send(&self, messages: Messages) -> impl Future<Output = Result<(), TransactionError>> + Send;

    /// Waits until every message of the transaction is acknowledged; returns a receipt for each, in the order of `send`.
    fn flush(&self) -> impl Future<Output = Result<Vec<Receipt>, TransactionError>> + Send;

    /// Adds the group's positions on behalf of `member`.
    fn send_offsets(
        &self,
        member: Self::Member,
        commits: Vec<OffsetCommit>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send;

    fn commit(&self) -> impl Future<Output = Result<(), TransactionError>> + Send;

    fn abort(&self) -> impl Future<Output = Result<(), TransactionError>> + Send;

    /// As [`Sink::refusal`].
    fn refusal(&self) -> Option<ConnectorError> {
        None
    }

    /// As [`Sink::confirm`].
    ///
    /// # Errors
    /// When what was committed is not there any more.
    fn confirm(&self) -> impl Future<Output = Result<(), ConnectorError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A source whose positions are committed by the target.
pub(crate) trait TransactionSource: Source {
    type Member;

    /// Returns the group's member as of the last [`Signal::Assigned`] that was handed over, never a later one: a member that rejoined
    /// in the meantime could commit partitions that it has lost. `None` until then.
    fn member(&self) -> Option<Self::Member>;
}

/// The part of a run that differs between flows: how records become messages, and when they are published.
pub(crate) trait TransactionFlow: Send {
    /// Begins to read partitions. Returns the number of records that were taken before and will be read again.
    fn on_assigned(&mut self, assigned: &[Assignment]) -> u64;

    /// Stops reading partitions. With `lost`, another member may own them already: a flow that is not the only writer removes their
    /// messages from `pending`. Returns the number of records that were taken and are left to their new owner.
    fn on_removed(&mut self, partitions: &[Partition], lost: bool, pending: &mut Vec<Messages>) -> u64;

    /// Advances over offsets that hold no records.
    fn on_positions(&mut self, positions: &[(Partition, NextOffset)]);

    /// Updates the end offsets of partitions.
    fn on_log_end_offsets(&mut self, ends: &[(Partition, Option<i64>)]);

    /// Takes records, shaped by `transform`.
    fn on_records(&mut self, records: Vec<Record>, transform: Option<&Transform>) -> TransactionIntake;

    /// Returns the last messages of the transaction that is to be committed now, if one is. Called often.
    ///
    /// # Errors
    /// When continuing would not be safe.
    fn due(&mut self) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError>;

    /// Returns offsets for a transaction that is aborted, if the flow needs proof that no newer producer has taken over.
    fn proof(&mut self) -> Option<Vec<OffsetCommit>> {
        None
    }

    /// Returns the last messages of a run that ends: with `complete` because everything was read, otherwise because it is stopped.
    ///
    /// # Errors
    /// When a complete run cannot publish its records.
    fn finish(&mut self, complete: bool) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError>;

    /// Returns the positions of the transaction whose messages have these receipts.
    fn commits(&self, receipts: &[Receipt]) -> Vec<OffsetCommit>;

    /// Returns where each partition would resume.
    fn positions(&self) -> Vec<(Partition, NextOffset)>;

    /// Takes note of a committed transaction whose messages have these receipts. Returns the number of records that it delivered.
    fn on_committed(&mut self, receipts: &[Receipt]) -> u64;

    /// Returns the number of records that were taken and are not part of a transaction yet.
    fn held(&self) -> u64;

    /// Returns how far each partition was read, of a flow in which records wait for longer than a transaction: they are no lag.
    fn read_positions(&self) -> Vec<(Partition, NextOffset)> {
        Vec::new()
    }
}

/// The result of taking records in. Uncounted records are delivered by a later transaction.
#[derive(Debug, Default)]
pub(crate) struct TransactionIntake {
    pub(crate) filtered: u64,
    pub(crate) late: u64,
    pub(crate) replayed: u64,
    pub(crate) bad: Vec<(Record, Reason)>,
    /// Messages that can be sent before the transaction is due.
    pub(crate) messages: Vec<OutgoingMessage>,
}

/// A transactional run.
pub(crate) struct TransactionLoop<S, F, T, D> {
    pub(crate) source: S,
    pub(crate) flow: F,
    pub(crate) target: T,
    /// Where bad records go, with [`BadRecordPolicy::DeadLetters`].
    pub(crate) dead_letters: Option<DeadLetters<D>>,
    pub(crate) transform: Option<Transform>,
    pub(crate) bad_records: BadRecordPolicy,
    pub(crate) limits: Limits,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl<S, F, T, D> TransactionLoop<S, F, T, D>
where
    T: TransactionSink,
    S: TransactionSource<Member = T::Member>,
    F: TransactionFlow,
    D: Sink + 'static,
{
    /// Runs until the source ends, a limit is reached, `stop` turns true, or nothing can go on. Accounts for every record.
    pub(crate) async fn run(self) -> RunReport {
        let now = Instant::now();
        let run = TransactionRun {
            source: self.source,
            flow: self.flow,
            target: Arc::new(self.target),
            dead_letters: self.dead_letters.map(|letters| (Arc::new(letters.sink), letters.build)),
            transform: self.transform,
            bad_records: self.bad_records,
            breaker: CircuitBreaker::new(self.limits.breaker),
            bucket: self.limits.rate.map(|rate| TokenBucket::new(rate, now)),
            limits: self.limits,
            health: Health::new(Arc::clone(&self.observer), now),
            observer: self.observer,
            stop: self.stop,
            tally: Tally::default(),
            state: TransactionState::None,
            pending: Vec::new(),
            sent: 0,
            isolating: false,
            committing: Default::default(),
            member: None,
            letters_pending: false,
            deferred: Vec::new(),
            revocations: Vec::new(),
            source_ended: false,
            positions: HashMap::new(),
            given_up: Vec::new(),
            deadline: None,
        };
        run.run(now).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransactionState {
    None,
    Open,
    /// Failed before its commit: it is aborted before another begins.
    Failed,
    /// Its commit was asked for and not answered.
    Committing,
}

/// Why a step of a transaction went no further.
enum Halt {
    Run(RunOutcome),
    Transaction(TransactionError),
}

impl From<RunOutcome> for Halt {
    fn from(outcome: RunOutcome) -> Self {
        Self::Run(outcome)
    }
}

impl From<TransactionError> for Halt {
    fn from(error: TransactionError) -> Self {
        Self::Transaction(error)
    }
}

enum Interruption<T> {
    Done(T),
    Signal(Result<Signal, ConnectorError>),
    StopRequested,
    CheckDue,
    DeadlineReached,
}

struct TransactionRun<S: TransactionSource, F, T, D> {
    source: S,
    flow: F,
    target: Arc<T>,
    dead_letters: Option<(Arc<D>, DeadLetterBuilder)>,
    transform: Option<Transform>,
    bad_records: BadRecordPolicy,
    limits: Limits,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,

    tally: Tally,
    breaker: CircuitBreaker,
    bucket: Option<TokenBucket>,
    state: TransactionState,
    /// The messages of the transaction.
    pending: Vec<Messages>,
    /// How many of them the open transaction has been given.
    sent: usize,
    /// A message was refused: each call is flushed by itself until it is found.
    isolating: bool,
    /// Receipts and positions of the transaction whose commit was asked for.
    committing: (Vec<Receipt>, Vec<OffsetCommit>),
    member: Option<S::Member>,
    /// A bad record is not dead-lettered yet.
    letters_pending: bool,
    /// Changes of the assignment that wait for the answer to a commit.
    deferred: Vec<Signal>,
    /// Revocations that wait for the end of the transaction.
    revocations: Vec<Revocation>,
    source_ended: bool,
    /// The committed positions.
    positions: HashMap<Partition, NextOffset>,
    /// Partitions that were lost after the source had ended: partition, position, stop.
    given_up: Vec<(Partition, NextOffset, NextOffset)>,
    /// The shutdown deadline.
    deadline: Option<Instant>,
    health: Health,
}

impl<S, F, T, D> TransactionRun<S, F, T, D>
where
    T: TransactionSink,
    S: TransactionSource<Member = T::Member>,
    F: TransactionFlow,
    D: Sink + 'static,
{
    async fn run(mut self, began: Instant) -> RunReport {
        let outcome = loop {
            if let Err(outcome) = self.step().await {
                break outcome;
            }
        };
        let outcome = self.finish(outcome).await;
        self.health.finish();
        self.revocations.clear();
        self.tally.released += self.flow.held();
        self.tally.undelivered = self.tally.unsettled();
        self.tally.assert_balanced();
        let positions = self.flow.positions();
        self.observer.on(&Event::Progress(&self.tally));
        let closed = self.source.close().await;
        RunReport { tally: self.tally, outcome, positions, closed, elapsed: began.elapsed() }
    }

    /// Fails if a destination is not the one any more that was written to.
    fn refuse_lost_target(&self) -> Result<(), RunOutcome> {
        let of_letters = || self.dead_letters.as_ref().and_then(|(sink, _)| sink.refusal());
        self.target.refusal().or_else(of_letters).map_or(Ok(()), |refusal| Err(RunOutcome::Failed(refusal)))
    }

    /// Looks once more at what was written, when nothing is left to publish.
    async fn last_look(&mut self) -> Result<(), RunOutcome> {
        let (target, letters) = (Arc::clone(&self.target), self.dead_letters.as_ref().map(|(sink, _)| Arc::clone(sink)));
        let looks = async move {
            target.confirm().await?;
            match letters {
                Some(letters) => letters.confirm().await,
                None => Ok(()),
            }
        };
        let left = self.deadline.map_or(LAST_LOOK_TIMEOUT, |deadline| deadline.saturating_duration_since(Instant::now()));
        tokio::time::timeout(LAST_LOOK_TIMEOUT.min(left), looks).await.unwrap_or(Ok(())).map_err(RunOutcome::Failed)
    }

    async fn step(&mut self) -> Result<(), RunOutcome> {
        self.refuse_lost_target()?;
        if !self.revocations.is_empty() {
            self.publish(Vec::new()).await?;
        }
        if let Some(messages) = self.flow.due().map_err(RunOutcome::Failed)? {
            return self.publish(messages).await;
        }
        if self.state == TransactionState::None
            && self.pending.is_empty()
            && let Some(offsets) = self.flow.proof()
        {
            match self.prove(offsets).await {
                Err(Halt::Run(outcome)) => return Err(outcome),
                Err(Halt::Transaction(TransactionError::Fatal(error))) => return Err(RunOutcome::Failed(error)),
                // What failed for another reason fails again with the first messages.
                Ok(()) | Err(Halt::Transaction(_)) => {}
            }
        }
        let left = self.limits.count.map_or(u64::MAX, |count| count - self.tally.read);
        if left == 0 {
            return Err(RunOutcome::Complete);
        }
        let now = Instant::now();
        self.health.is_check_due(now); // no destination is waited for; what the source reports is shown
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.limits.batch);
        let (demand, wake) = match self.bucket.as_mut().map(|bucket| bucket.allowance(now)) {
            None => (Demand::Records(most), now + DUE_INTERVAL),
            Some(Ok(allowed)) => (Demand::Records(most.min(allowed)), now + DUE_INTERVAL),
            Some(Err(again)) => (Demand::Signals, again.min(now + DUE_INTERVAL)),
        };
        let signal = tokio::select! {
            biased;
            () = stop_requested(&mut self.stop) => return Err(RunOutcome::Interrupted),
            signal = self.source.next(demand) => signal.map_err(RunOutcome::Failed)?,
            () = sleep_until(wake) => return Ok(()),
        };
        match signal {
            Signal::Records(records) => self.on_records(records, now.elapsed()).await,
            Signal::End => {
                self.source_ended = true;
                Err(RunOutcome::Complete)
            }
            other => {
                self.on_signal(other);
                Ok(())
            }
        }
    }

    /// Publishes the remaining messages of a run that ends; returns the final outcome.
    async fn finish(&mut self, outcome: RunOutcome) -> RunOutcome {
        let complete = match &outcome {
            RunOutcome::Complete => true,
            RunOutcome::Interrupted => false,
            RunOutcome::Failed(_) | RunOutcome::Record(_) => {
                self.abandon().await;
                return self.refuse_lost_target().err().unwrap_or(outcome);
            }
        };
        if !complete && self.deadline.is_none() {
            self.drain();
        }
        // A bad record without its dead letter, or an uncommitted transaction, holds the positions back.
        let is_out_of_time = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if self.letters_pending || is_out_of_time {
            self.abandon().await;
            return self.refuse_lost_target().err().unwrap_or(outcome);
        }
        let last = match self.flow.finish(complete) {
            Ok(Some(messages)) => self.publish(messages).await,
            Ok(None) if !self.pending.is_empty() => self.publish(Vec::new()).await,
            Ok(None) => Ok(()),
            Err(error) => Err(RunOutcome::Failed(error)),
        };
        let last = match last {
            Ok(()) => self.last_look().await,
            failed => failed,
        };
        let Err(worse) = last else {
            let is_whole = !complete || self.given_up.is_empty();
            return if is_whole { outcome } else { RunOutcome::Failed(failures::ended_early(&self.given_up).into()) };
        };
        self.abandon().await;
        worse
    }

    /// Ends a transaction that will not be committed: left open, it would hold up readers until its timeout.
    async fn abandon(&mut self) {
        if matches!(self.state, TransactionState::Open | TransactionState::Failed) {
            // If this fails, the next run's first call ends the transaction.
            let _ = tokio::time::timeout(ABORT_TIMEOUT, self.target.abort()).await;
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        let changes_assignment = matches!(signal, Signal::Assigned(_) | Signal::Revoked(_) | Signal::Lost(_));
        if changes_assignment && self.state == TransactionState::Committing {
            return self.deferred.push(signal);
        }
        match signal {
            Signal::Assigned(assigned) => {
                self.member = self.source.member();
                self.positions.extend(assigned.iter().map(|assignment| (assignment.partition, assignment.start)));
                self.tally.released += self.flow.on_assigned(&assigned);
                self.observer.on(&Event::Assigned(&assigned));
                self.observer.on(&Event::Progress(&self.tally));
            }
            Signal::Revoked(revocation) if self.is_under_way() => self.revocations.push(revocation),
            Signal::Revoked(revocation) => self.release(revocation),
            Signal::Lost(partitions) => {
                for revocation in &mut self.revocations {
                    revocation.partitions.retain(|partition| !partitions.contains(partition));
                }
                self.revocations.retain(|revocation| !revocation.partitions.is_empty());
                self.remove(&partitions, true);
                self.fail();
            }
            Signal::Position(positions) => self.flow.on_positions(&positions),
            Signal::LogEndOffsets(ends) => {
                self.flow.on_log_end_offsets(&ends);
                self.observer.on(&Event::LogEndOffsets(&ends));
            }
            Signal::Degraded(reason) => self.health.on_report(RunSide::Source, reason),
            Signal::CommitsDegraded(reason) => self.health.on_report(RunSide::Commits, reason),
            Signal::Unassigned(reason) => self.observer.on(&Event::Unassigned(reason)),
            Signal::Committed(_) | Signal::Records(_) | Signal::End => {}
        }
    }

    fn is_under_way(&self) -> bool {
        self.state != TransactionState::None || !self.pending.is_empty()
    }

    fn remove(&mut self, partitions: &[Partition], lost: bool) {
        if lost && self.source_ended {
            // Read to the end, not delivered unless a transaction still commits them, and not read again.
            let stops = self.source.stops().into_iter().filter(|(partition, _)| partitions.contains(partition));
            let positions = &self.positions;
            self.given_up.extend(stops.filter_map(|(partition, stop)| Some((partition, *positions.get(&partition)?, stop))));
        }
        let records = self.flow.on_removed(partitions, lost, &mut self.pending);
        self.tally.released += records;
        self.observer.on(&Event::Released { partitions, lost, records });
    }

    /// Lets a rebalance continue. The positions are in transactions: nothing else is committed.
    fn release(&mut self, revocation: Revocation) {
        self.remove(&revocation.partitions, false);
        revocation.release(Vec::new());
    }

    async fn on_records(&mut self, records: Vec<Record>, waited: Duration) -> Result<(), RunOutcome> {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        if let Some(bucket) = &mut self.bucket {
            bucket.take(records.len(), bytes);
        }
        self.tally.read += records.len() as u64;
        let begun = Instant::now();
        let TransactionIntake { filtered, late, replayed, bad, messages } =
            self.flow.on_records(records, self.transform.as_ref());
        self.tally.filtered += filtered;
        self.tally.late += late;
        self.tally.replayed += replayed;
        let shaping = self.transform.as_ref().map(|_| begun.elapsed());
        self.observer.on(&Event::Read { bytes: bytes as u64, waited, shaping });
        self.set_aside(bad, 0).await?;
        if !messages.is_empty() {
            self.pending.push(Arc::new(messages));
            match self.send().await {
                Ok(()) => {}
                Err(Halt::Run(outcome)) => return Err(outcome),
                Err(Halt::Transaction(TransactionError::Fatal(error))) => return Err(RunOutcome::Failed(error)),
                // The next attempt to publish aborts, and sends everything again.
                Err(Halt::Transaction(_)) => self.fail(),
            }
        }
        self.show_read_positions();
        self.observer.on(&Event::Progress(&self.tally));
        Ok(())
    }

    fn show_read_positions(&self) {
        let read = self.flow.read_positions();
        if !read.is_empty() {
            self.observer.on(&Event::Settled(&read));
        }
    }

    /// Skips bad records, or writes them to the dead letters.
    async fn set_aside(&mut self, bad: Vec<(Record, Reason)>, attempts: u32) -> Result<(), RunOutcome> {
        let mut letters = Vec::new();
        for (record, reason) in &bad {
            let (action, tripped) = self.bad_records.apply(&mut self.breaker, Instant::now());
            self.observer.on(&Event::Bad { record, reason, action });
            match action {
                BadRecordAction::Stops => return Err(RunOutcome::Record(failures::bad_record(record, reason, tripped))),
                BadRecordAction::Skipped => self.tally.skipped += 1,
                BadRecordAction::DeadLetter => {
                    let (_, build) = self.dead_letters.as_ref().expect("dead letters have a destination");
                    letters.push(build(record, reason, attempts));
                }
            }
        }
        self.letters_pending = !letters.is_empty();
        let (mut attempt, begun) = (0, Instant::now());
        while !letters.is_empty() {
            attempt += 1;
            let (sink, _) = self.dead_letters.as_ref().expect("dead letters have a destination");
            let (sink, batch) = (Arc::clone(sink), Arc::new(letters.clone()));
            let answers = self.attend(async move { sink.submit(batch).await }).await?.map_err(RunOutcome::Failed)?;
            let outcomes = self.attend(answers).await?;
            let mut again = Vec::new();
            for (letter, outcome) in letters.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => self.tally.dead_lettered += 1,
                    Outcome::Retry(reason) | Outcome::Unclear(reason) => again.push((letter, reason)),
                    Outcome::Reject(reason) | Outcome::BatchRejected(reason) | Outcome::Stop(reason) => {
                        return Err(RunOutcome::Record(failures::rejected_dead_letter(&letter, &reason)));
                    }
                }
            }
            if let Some((_, reason)) = again.first() {
                self.pause(attempt, begun, again.len(), reason).await?;
            }
            letters = again.into_iter().map(|(letter, _)| letter).collect();
        }
        self.letters_pending = false;
        self.health.recover(RunSide::DeadLetters);
        Ok(())
    }

    /// Adds offsets to a transaction and aborts it: a newer producer with the same transactional id shows.
    async fn prove(&mut self, offsets: Vec<OffsetCommit>) -> Result<(), Halt> {
        let Some(member) = self.member.clone() else { return Ok(()) };
        self.call(|target| async move { target.begin().await }).await?;
        self.state = TransactionState::Open;
        let sent = self.call(|target| async move { target.send_offsets(member, offsets).await }).await;
        self.state = TransactionState::Failed;
        if let Err(fatal @ (Halt::Run(_) | Halt::Transaction(TransactionError::Fatal(_)))) = sent {
            return Err(fatal);
        }
        self.call(|target| async move { target.abort().await }).await?;
        self.state = TransactionState::None;
        Ok(())
    }

    /// Commits a transaction of everything that is pending and of `messages`; sends it again until it is committed.
    async fn publish(&mut self, messages: Vec<OutgoingMessage>) -> Result<(), RunOutcome> {
        if !messages.is_empty() {
            self.pending.push(Arc::new(messages));
        }
        let (mut attempt, begun) = (0, Instant::now());
        let (receipts, commits) = loop {
            attempt += 1;
            let asked = Instant::now();
            let reason = match self.try_publish().await {
                Ok(done) => {
                    self.observer.on(&Event::Responded { took: asked.elapsed(), batch: Some(begun.elapsed()) });
                    break done;
                }
                Err(Halt::Run(outcome)) => return Err(outcome),
                Err(Halt::Transaction(TransactionError::Fatal(error))) => return Err(RunOutcome::Failed(error)),
                Err(Halt::Transaction(TransactionError::Rejected { messages, reason })) => {
                    self.fail();
                    self.isolate(&messages, reason, attempt).await?;
                    continue;
                }
                Err(Halt::Transaction(TransactionError::Unclear(why) | TransactionError::Abort(why))) => {
                    self.fail();
                    Reason::new("not_published", why)
                }
            };
            let records = self.pending.iter().map(|messages| messages.len()).sum();
            self.pause(attempt, begun, records, &reason).await?;
        };
        self.health.recover(RunSide::Target);
        self.tally.bytes += self.pending.iter().flat_map(|messages| messages.iter()).map(|m| m.bytes() as u64).sum::<u64>();
        self.tally.batches += u64::from(!self.pending.is_empty());
        self.tally.delivered += self.flow.on_committed(&receipts);
        self.pending.clear();
        (self.sent, self.isolating) = (0, false);
        let positions: Vec<_> = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
        self.positions.extend(positions.iter().copied());
        self.observer.on(&Event::Settled(&positions));
        self.show_read_positions();
        self.observer.on(&Event::Committed(&positions));
        self.apply_deferred();
        self.given_up.retain(|(partition, ..)| !commits.iter().any(|commit| commit.partition == *partition));
        for revocation in std::mem::take(&mut self.revocations) {
            self.release(revocation);
        }
        self.observer.on(&Event::Progress(&self.tally));
        Ok(())
    }

    /// Takes the transaction from its present state to its commit.
    async fn try_publish(&mut self) -> Result<(Vec<Receipt>, Vec<OffsetCommit>), Halt> {
        if self.state != TransactionState::Committing {
            self.send().await?;
            let receipts = self.call(|target| async move { target.flush().await }).await?;
            self.refuse_lost()?;
            let no_member = || TransactionError::Abort("the consumer has not joined its group yet".to_owned());
            let member = self.member.clone().ok_or_else(no_member)?;
            let commits = self.flow.commits(&receipts);
            let offsets = commits.clone();
            self.call(|target| async move { target.send_offsets(member, offsets).await }).await?;
            self.refuse_lost()?;
            self.state = TransactionState::Committing;
            self.committing = (receipts, commits);
        }
        match self.call(|target| async move { target.commit().await }).await {
            Ok(()) => {
                self.state = TransactionState::None;
                Ok(std::mem::take(&mut self.committing))
            }
            Err(Halt::Transaction(error @ (TransactionError::Abort(_) | TransactionError::Rejected { .. }))) => {
                self.state = TransactionState::Failed;
                self.apply_deferred();
                Err(error.into())
            }
            Err(unclear) => Err(unclear),
        }
    }

    /// Sends the unsent messages to the target in an open transaction.
    async fn send(&mut self) -> Result<(), Halt> {
        if self.state == TransactionState::Failed {
            self.call(|target| async move { target.abort().await }).await?;
            self.state = TransactionState::None;
        }
        if self.state == TransactionState::None {
            self.call(|target| async move { target.begin().await }).await?;
            self.state = TransactionState::Open;
            self.sent = 0;
        }
        while let Some(messages) = self.pending.get(self.sent).map(Arc::clone) {
            self.call(|target| async move { target.send(messages).await }).await?;
            self.sent += 1;
            if self.isolating {
                self.call(|target| async move { target.flush().await }).await?;
            }
            self.refuse_lost()?;
        }
        Ok(())
    }

    /// Fails if partitions were lost since the transaction began: it may hold their messages.
    fn refuse_lost(&self) -> Result<(), TransactionError> {
        match self.state {
            TransactionState::Failed => Err(TransactionError::Abort("partitions were lost to another member".to_owned())),
            _ => Ok(()),
        }
    }

    async fn call<R, C: Future<Output = Result<R, TransactionError>>>(
        &mut self,
        call: impl FnOnce(Arc<T>) -> C,
    ) -> Result<R, Halt> {
        let target = Arc::clone(&self.target);
        let was_healthy = self.health.reason(RunSide::Target).is_none();
        let answer = self.attend(call(target)).await??;
        if was_healthy {
            self.health.recover(RunSide::Target); // it was silent, and has answered; a failure is over with the next commit
        }
        Ok(answer)
    }

    /// Marks an open transaction for its abort.
    fn fail(&mut self) {
        if self.state == TransactionState::Open {
            self.state = TransactionState::Failed;
        }
    }

    fn apply_deferred(&mut self) {
        for signal in std::mem::take(&mut self.deferred) {
            self.on_signal(signal);
        }
    }

    /// Bisects a refusal down to one message, and treats its record as bad.
    async fn isolate(&mut self, refused: &[usize], reason: Reason, attempts: u32) -> Result<(), RunOutcome> {
        self.isolating = true;
        let first = refused.iter().copied().min().expect("a refusal names messages");
        let last = refused.iter().copied().max().expect("a refusal names messages");
        if first < last {
            self.observer.on(&Event::Bisecting { records: refused.len(), reason: &reason });
            self.split_pending([first, first + (last - first).div_ceil(2), last + 1]);
            return Ok(());
        }
        let mut index = first;
        let at = self.pending.iter().position(|messages| {
            let is_here = index < messages.len();
            index -= if is_here { 0 } else { messages.len() };
            is_here
        });
        let at = at.expect("a refused message is pending");
        let message = Arc::make_mut(&mut self.pending[at]).remove(index);
        self.pending.retain(|messages| !messages.is_empty());
        if let Some(record) = message.origin {
            return self.set_aside(vec![(*record, reason)], attempts).await;
        }
        let mut failure = Failure::new(format!("`{}` refused a message", message.topic)).because(&reason);
        failure.hint = reason.hinted().map(ToOwned::to_owned);
        Err(RunOutcome::Failed(failure.into()))
    }

    /// Splits the pending messages before these indexes.
    fn split_pending(&mut self, cuts: [usize; 3]) {
        let mut start = 0;
        for messages in std::mem::take(&mut self.pending) {
            let cuts = cuts.iter().map(|cut| cut.saturating_sub(start)).filter(|cut| (1..messages.len()).contains(cut));
            let mut from = 0;
            for to in cuts.chain([messages.len()]) {
                self.pending.push(Arc::new(messages[from..to].to_vec()));
                from = to;
            }
            start += messages.len();
        }
    }

    /// Waits before the next attempt; fails when no attempt succeeded for too long.
    async fn pause(&mut self, attempt: u32, since: Instant, records: usize, reason: &Reason) -> Result<(), RunOutcome> {
        if let Some(most) = self.limits.retry_for.filter(|most| since.elapsed() > *most) {
            return Err(RunOutcome::Failed(failures::gave_up(most, reason.message()).into()));
        }
        let now = Instant::now();
        let pause = backoff(attempt, jitter(now));
        self.tally.retried += records as u64;
        self.observer.on(&Event::Retrying { records, attempt: attempt + 1, pause, reason });
        let side = if self.letters_pending { RunSide::DeadLetters } else { RunSide::Target };
        self.health.refuse(side, reason);
        self.attend(sleep(pause)).await
    }

    /// Awaits a call to a destination and handles the signals that arrive meanwhile. After a stop request, continues until the
    /// shutdown deadline.
    async fn attend<R>(&mut self, future: impl Future<Output = R>) -> Result<R, RunOutcome> {
        let mut future = std::pin::pin!(future);
        let since = Instant::now();
        loop {
            let check_at = self.health.check_at(Instant::now());
            let deadline = self.deadline.unwrap_or(check_at);
            let next = tokio::select! {
                biased;
                done = &mut future => Interruption::Done(done),
                signal = self.source.next(Demand::Signals) => Interruption::Signal(signal),
                () = stop_requested(&mut self.stop), if self.deadline.is_none() => Interruption::StopRequested,
                () = sleep_until(deadline), if self.deadline.is_some() => Interruption::DeadlineReached,
                () = sleep_until(check_at) => Interruption::CheckDue,
            };
            match next {
                Interruption::Done(done) => return Ok(done),
                Interruption::Signal(signal) => self.on_signal(signal.map_err(RunOutcome::Failed)?),
                Interruption::StopRequested => self.drain(),
                Interruption::CheckDue => {
                    self.refuse_lost_target()?;
                    self.check_stall(since);
                }
                Interruption::DeadlineReached => return Err(RunOutcome::Interrupted),
            }
        }
    }

    /// Checks whether a destination that was called at `since` is silent.
    fn check_stall(&mut self, since: Instant) {
        let now = Instant::now();
        if self.health.is_check_due(now) {
            let letters = self.dead_letters.as_ref().filter(|_| self.letters_pending).map(|(sink, _)| sink);
            let side = if letters.is_some() { RunSide::DeadLetters } else { RunSide::Target };
            self.health.check_stall(now, side, since, || letters?.degraded_reason());
        }
    }

    /// Stops reading, and starts the shutdown deadline.
    fn drain(&mut self) {
        self.deadline = Some(Instant::now() + self.limits.shutdown_timeout);
        self.observer.on(&Event::Draining("interrupted"));
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
