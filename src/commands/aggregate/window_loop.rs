//! The loop: reads events, counts them, and publishes each window with the offsets that it was made of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::commands::dead_letters::DeadLetterSink;
use crate::connectors::kafka::{
    Admin, KafkaSource, OffsetCommit, OffsetSpec, OutgoingMessage, Transaction, TransactionError, TransactionalProducer,
};
use crate::pipeline::{
    BadRecordAction, BadRecordPolicy, CircuitBreaker, ConnectorError, DeadLetters, Demand, Event, Failure, Limits, Observer,
    Outcome, Reason, Refused, RunOutcome, RunReport, Signal, Sink as _, Source as _, Tally, TokenBucket, Transform,
    TransformResult, backoff, failures,
};
use crate::record::{NextOffset, Partition, Record};
use crate::windows::counts::Counts;
use crate::windows::live_view::LiveView;
use crate::windows::output::WindowFormatter;
use crate::windows::projection::FieldSelector;
use crate::windows::restart_state::RestartState;
use crate::windows::tumbling::{Classification, Now, PartitionStart, Windows, event_time};

/// How often is looked whether a window can be closed, when nothing happens.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often offsets are committed that moved without a window being closed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long another member may have a part of the partitions, as it may while the group finds itself.
const SHARING_TIMEOUT: Duration = Duration::from_secs(30);

/// What says when an event happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TimeOf {
    /// Its time field; without a time there, its record
    #[default]
    Event,
    /// Its record: the broker's or the producer's clock
    Record,
    /// The clock, when it is read
    Processing,
}

/// All that the loop works with.
pub(super) struct AggregateRun {
    pub(super) source: KafkaSource,
    pub(super) transactions: Arc<TransactionalProducer>,
    pub(super) windows: Windows,
    pub(super) selector: FieldSelector,
    pub(super) time: TimeOf,
    pub(super) formatter: WindowFormatter,
    /// Everything up to the last closed window.
    pub(super) total: Counts,
    /// Where the last summary is.
    pub(super) last_output: Option<(i32, i64)>,
    pub(super) transform: Option<Transform>,
    pub(super) bad_records: BadRecordPolicy,
    pub(super) letters: Option<DeadLetters<DeadLetterSink>>,
    pub(super) limits: Limits,
    /// Says where partitions end.
    pub(super) admin: Admin,
    /// Which end counts.
    pub(super) end: OffsetSpec,
    /// How long after the end of a silent window nothing is shown any more.
    pub(super) silence: Duration,
    pub(super) latest: LiveView,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What comes while something is awaited.
enum Interruption<T> {
    Done(T),
    Signal(Result<Signal, ConnectorError>),
    /// To stop.
    Told,
    /// The time for it is over.
    Over,
}

/// The loop under way.
struct RunState {
    work: AggregateRun,
    tally: Tally,
    breaker: CircuitBreaker,
    bucket: Option<TokenBucket>,
    /// Where partitions would be resumed by what is committed.
    committed: HashMap<Partition, NextOffset>,
    committed_at: Instant,
    closed_at: Instant,
    /// When the ends of the partitions were asked for last.
    asked_at: Instant,
    /// The newest time that the clock has said.
    clock: i64,
    /// Whether something is taken out of the open windows, or off the log, that is not published or set aside yet.
    unpublished: bool,
    /// Since when another member has a part of the partitions.
    shared_since: Option<Instant>,
    /// Until when what is under way must be over.
    deadline: Option<Instant>,
    troubled: bool,
    began: Instant,
}

impl AggregateRun {
    /// Counts until the source ends, it is told to stop, or nothing can go on. Accounts for every record.
    pub(super) async fn run(self) -> RunReport {
        let now = Instant::now();
        let run = RunState {
            tally: Tally::default(),
            breaker: CircuitBreaker::new(self.limits.breaker),
            bucket: self.limits.rate.map(|rate| TokenBucket::new(rate, now)),
            committed: HashMap::new(),
            committed_at: now,
            closed_at: now,
            asked_at: now,
            clock: i64::MIN,
            unpublished: false,
            shared_since: None,
            deadline: None,
            troubled: false,
            began: now,
            work: self,
        };
        run.run().await
    }
}

impl RunState {
    async fn run(mut self) -> RunReport {
        let ending = loop {
            if let Err(ending) = self.step().await {
                break ending;
            }
        };
        if matches!(ending, RunOutcome::Interrupted) && self.deadline.is_none() {
            self.drain();
        }
        let ending = match self.last_commit(&ending).await {
            Ok(()) => ending,
            Err(worse) => worse,
        };
        // What is in open windows is read again by the next run.
        self.tally.released += self.work.windows.open_events();
        self.tally.undelivered = self.tally.unsettled();
        self.tally.assert_balanced();
        let positions = self.work.windows.positions().iter().map(|position| (position.partition, position.resume)).collect();
        self.work.observer.on(&Event::Progress(&self.tally));
        let closed = self.work.source.close().await;
        RunReport { tally: self.tally, outcome: ending, positions, closed, elapsed: self.began.elapsed() }
    }

    /// Does what is next.
    async fn step(&mut self) -> Result<(), RunOutcome> {
        if let Some(until) = self.due().await? {
            return self.close(until).await;
        }
        if self.committed_at.elapsed() > COMMIT_INTERVAL {
            self.commit().await?;
        }
        if self.closed_at.elapsed() > self.work.silence && self.work.windows.open_events() == 0 {
            self.work.latest.silent();
        }
        self.refuse_sharing()?;
        let left =
            self.work.limits.count.map_or(usize::MAX, |count| usize::try_from(count - self.tally.read).unwrap_or(usize::MAX));
        if left == 0 {
            return Err(self.complete().await);
        }
        let now = Instant::now();
        let (appetite, again) = match self.bucket.as_mut().map(|bucket| bucket.allowance(now)) {
            None => (Demand::Records(left.min(self.work.limits.batch)), now + CLOSE_CHECK_INTERVAL),
            Some(Ok(allowed)) => (Demand::Records(left.min(self.work.limits.batch).min(allowed)), now + CLOSE_CHECK_INTERVAL),
            Some(Err(again)) => (Demand::Signals, again.min(now + CLOSE_CHECK_INTERVAL)),
        };
        let signal = tokio::select! {
            biased;
            _ = self.work.stop.wait_for(|stop| *stop) => return Err(RunOutcome::Interrupted),
            signal = self.work.source.next(appetite) => signal.map_err(RunOutcome::Failed)?,
            () = sleep_until(again) => return Ok(()),
        };
        match signal {
            Signal::Records(records) => self.count(records, now.elapsed()).await,
            Signal::End => Err(self.complete().await),
            other => {
                self.on_signal(other);
                Ok(())
            }
        }
    }

    /// Returns until when windows can be closed. Where that is because nothing comes any more, the brokers are asked whether it is so.
    async fn due(&mut self) -> Result<Option<i64>, RunOutcome> {
        let now = self.now();
        let until = self.work.windows.due(now, false);
        if until.is_some() || self.work.windows.due(now, true).is_none() || self.asked_at.elapsed() < CLOSE_CHECK_INTERVAL {
            return Ok(until);
        }
        let owned: Vec<Partition> = self.work.windows.positions().iter().map(|position| position.partition).collect();
        let (admin, of) = (self.work.admin.clone(), self.work.end);
        let ends = self.attend(async move { admin.ends(&owned, of).await }).await?;
        self.asked_at = Instant::now();
        match ends {
            Ok(ends) => {
                let ends: Vec<_> = ends.into_iter().collect();
                self.work.windows.set_ends(&ends);
                Ok(self.work.windows.due(self.now(), true))
            }
            Err(error) => {
                tracing::debug!(%error, "The brokers do not say whether there is more to read.");
                Ok(None)
            }
        }
    }

    /// The time, by two clocks.
    fn now(&self) -> Now {
        let steady = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { wall: jiff::Timestamp::now().as_millisecond(), steady }
    }

    /// Takes note of everything that is no record.
    fn on_signal(&mut self, signal: Signal) {
        let now = self.now();
        let AggregateRun { windows, observer, .. } = &mut self.work;
        match signal {
            Signal::Assigned(assigned) => {
                for one in &assigned {
                    let memo = one.extension.as_deref().and_then(RestartState::parse);
                    let (read, closed) = (memo.map(|memo| memo.read), memo.and_then(|memo| memo.closed));
                    let start = PartitionStart { next: one.start.0, read, closed, last: one.fingerprint };
                    self.tally.released += windows.assign(one.partition, start, now);
                    self.committed.insert(one.partition, one.start);
                }
                observer.on(&Event::Assigned(&assigned));
                observer.on(&Event::Progress(&self.tally));
            }
            Signal::Revoked(revocation) => {
                windows.remove(&revocation.partitions);
                observer.on(&Event::Released { partitions: &revocation.partitions, lost: false, records: 0 });
                // Their offsets are committed with windows, and not without.
                revocation.release(Vec::new());
            }
            Signal::Lost(partitions) => {
                windows.remove(&partitions);
                observer.on(&Event::Released { partitions: &partitions, lost: true, records: 0 });
            }
            Signal::Position(positions) => windows.advance(&positions),
            Signal::LogEndOffsets(ends) => {
                windows.set_ends(&ends);
                observer.on(&Event::LogEndOffsets(&ends));
            }
            Signal::Degraded(trouble) => observer.on(&Event::Degraded(trouble.as_deref())),
            Signal::Committed(_) | Signal::Records(_) | Signal::End => {}
        }
    }

    /// Counts a batch that was waited for so long.
    async fn count(&mut self, mut records: Vec<Record>, waited: Duration) -> Result<(), RunOutcome> {
        let now = self.now();
        self.clock = self.clock.max(now.wall);
        let bytes: usize = records.iter().map(Record::bytes).sum();
        if let Some(bucket) = &mut self.bucket {
            bucket.take(records.len(), bytes);
        }
        self.tally.read += records.len() as u64;
        let AggregateRun { windows, selector, transform, time, .. } = &mut self.work;
        let closed = windows.closed().unwrap_or(i64::MIN);
        let (mut odd, mut late, mut clamped) = (Vec::new(), 0, 0);
        let begun = Instant::now();
        for run in records.chunk_by_mut(|one, other| one.partition == other.partition) {
            let last = run.last().map(Record::fingerprint).expect("a run has records");
            let mut counting = windows.run(run[0].partition, now);
            for record in run {
                let (offset, at) = (record.offset, record.timestamp);
                let shaped = transform.as_ref().map_or(TransformResult::Keep, |transform| transform(record));
                let looked = match (shaped, &record.value) {
                    (TransformResult::Bad(reason), _) => Err(Some(reason)),
                    (TransformResult::Filtered, _) | (TransformResult::Keep, None) => Err(None),
                    (TransformResult::Keep, Some(value)) => selector.select(value).map_err(Some),
                };
                match looked {
                    Err(why) => match (counting.skip(offset), why) {
                        (true, _) => self.tally.replayed += 1,
                        (false, None) => self.tally.filtered += 1,
                        (false, Some(reason)) => odd.push((record.clone(), reason)),
                    },
                    Ok(fields) => {
                        let (time, is_clamped) = match time {
                            TimeOf::Event => event_time(fields.time(), at, now),
                            TimeOf::Record => (at.unwrap_or(now.wall), false),
                            TimeOf::Processing => (self.clock.max(closed), false),
                        };
                        match counting.count(offset, time, &fields) {
                            Classification::Counted => clamped += u64::from(is_clamped),
                            Classification::Late => late += 1,
                            Classification::Replayed => self.tally.replayed += 1,
                        }
                    }
                }
            }
            counting.end(last);
        }
        self.tally.late += late;
        self.work.latest.odd(late, clamped);
        let shaping = self.work.transform.as_ref().map(|_| begun.elapsed());
        self.work.observer.on(&Event::Read { bytes: bytes as u64, waited, shaping });
        self.set_aside(odd).await?;
        self.work.observer.on(&Event::Progress(&self.tally));
        Ok(())
    }

    /// Deals with records that are no events.
    async fn set_aside(&mut self, odd: Vec<(Record, Reason)>) -> Result<(), RunOutcome> {
        let mut letters = Vec::new();
        for (record, reason) in &odd {
            let (fate, tripped) = self.work.bad_records.apply(&mut self.breaker, Instant::now());
            self.work.observer.on(&Event::Bad { record, reason, fate });
            match fate {
                BadRecordAction::Stops => return Err(RunOutcome::Record(failures::bad_record(record, reason, tripped))),
                BadRecordAction::Skipped => self.tally.skipped += 1,
                BadRecordAction::DeadLetter => {
                    let make = &self.work.letters.as_ref().expect("dead letters have a destination").build;
                    letters.push(make(record, reason, 0));
                }
            }
        }
        let (mut attempt, begun) = (0, Instant::now());
        self.unpublished = !letters.is_empty();
        while !letters.is_empty() {
            attempt += 1;
            let sink = &self.work.letters.as_ref().expect("dead letters have a destination").sink;
            let answers = sink.submit(Arc::new(letters.clone())).await.map_err(RunOutcome::Failed)?;
            let outcomes = self.attend(answers).await?;
            let mut again = Vec::new();
            for (letter, outcome) in letters.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => self.tally.dead_lettered += 1,
                    Outcome::Retry(reason) | Outcome::Unclear(reason) => again.push((letter, reason)),
                    Outcome::Reject(reason) | Outcome::BatchRejected(reason) | Outcome::Stop(reason) => {
                        let failure = Failure::new(format!("the dead letter of record {letter} is not taken"));
                        return Err(RunOutcome::Record(failure.because(format!("{reason} ({})", reason.code()))));
                    }
                }
            }
            if let Some((_, reason)) = again.first() {
                self.give_up(begun, "bad records could not be set aside", reason.message())?;
                self.wait(attempt, again.len(), reason).await?;
            }
            letters = again.into_iter().map(|(letter, _)| letter).collect();
        }
        self.unpublished = false;
        self.clear_trouble();
        Ok(())
    }

    /// Fails when something has been tried for as long as it may be.
    fn give_up(&self, since: Instant, what: &str, why: &str) -> Result<(), RunOutcome> {
        if self.work.limits.retry_for.is_some_and(|most| since.elapsed() > most) {
            let failure = Failure::new(format!("{what} for as long as --retry-for says"));
            return Err(RunOutcome::Failed(failure.because(why).into()));
        }
        Ok(())
    }

    /// Closes windows until `until`, and publishes them.
    async fn close(&mut self, until: i64) -> Result<(), RunOutcome> {
        let AggregateRun { windows, formatter, total, .. } = &mut self.work;
        let closed = windows.close(until);
        self.unpublished = true;
        let (mut messages, mut totals) = (Vec::new(), Vec::new());
        for window in &closed {
            total.merge(&window.counts);
            totals.push(total.events);
            let told = formatter.messages(window, total).into_iter();
            messages.extend(told.map(|(key, value)| OutgoingMessage { key, value }));
        }
        let bytes: usize = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
        self.publish(messages).await?;
        self.unpublished = false;
        self.tally.bytes += bytes as u64;
        self.closed_at = Instant::now();
        for (window, total) in closed.iter().zip(totals) {
            self.tally.delivered += window.counts.events;
            self.tally.batches += 1;
            tracing::debug!(start = window.start, end = window.end, events = window.counts.events, "A window is closed.");
            self.work.latest.closed(window, total);
        }
        self.work.observer.on(&Event::Progress(&self.tally));
        Ok(())
    }

    /// Closes what is open, since nothing more comes.
    async fn complete(&mut self) -> RunOutcome {
        let Some(end) = self.work.windows.newest_end(self.now()) else { return RunOutcome::Complete };
        if !self.work.windows.is_whole() {
            let what = "the run ended before everything was read again that belongs to the open windows: they are not published";
            let hint = "run it again, with a larger --count if there is one; nothing is lost";
            return RunOutcome::Failed(Failure::new(what).hint(hint).into());
        }
        self.close(end).await.err().unwrap_or(RunOutcome::Complete)
    }

    /// Commits offsets that have moved though no window was closed.
    async fn commit(&mut self) -> Result<(), RunOutcome> {
        self.committed_at = Instant::now();
        let moved = |run: &Self| {
            let positions = run.work.windows.positions();
            positions.iter().any(|position| run.committed.get(&position.partition) != Some(&position.resume))
        };
        if moved(self) && self.work.windows.missing_partitions().next().is_none() {
            self.publish(Vec::new()).await
        } else {
            Ok(())
        }
    }

    async fn last_commit(&mut self, ending: &RunOutcome) -> Result<(), RunOutcome> {
        match ending {
            RunOutcome::Complete | RunOutcome::Interrupted if !self.unpublished => self.commit().await,
            _ => Ok(()),
        }
    }

    /// Publishes messages and positions in one transaction; tries until it is committed.
    async fn publish(&mut self, messages: Vec<OutgoingMessage>) -> Result<(), RunOutcome> {
        let positions = self.work.windows.positions();
        let progress = |position: &crate::windows::tumbling::ResumePosition| OffsetCommit {
            partition: position.partition,
            next: position.resume,
            last: position.last,
        };
        let count = messages.len();
        let publication = Arc::new(Transaction { messages, progress: positions.iter().map(progress).collect() });
        let read: Arc<HashMap<Partition, i64>> =
            Arc::new(positions.iter().map(|position| (position.partition, position.read.0)).collect());
        let (closed, before) = (self.work.windows.closed(), self.work.last_output);
        let begun = Instant::now();
        let mut attempt = 0;
        let last = loop {
            attempt += 1;
            let asked = Instant::now();
            let (transactions, publication) = (Arc::clone(&self.work.transactions), Arc::clone(&publication));
            let (member, read) = (self.work.source.group_metadata(), Arc::clone(&read));
            let memo = move |partition: Partition, told: Option<(i32, i64)>| {
                RestartState { read: read.get(&partition).copied().unwrap_or(0), closed, last_output: told.or(before) }.text()
            };
            let call = async move {
                let member = member.await.map_err(TransactionError::Never)?;
                transactions.publish(publication, member, memo).await
            };
            match self.attend(call).await? {
                Ok(last) => {
                    self.work.observer.on(&Event::Responded { took: asked.elapsed(), batch: Some(begun.elapsed()) });
                    break last;
                }
                Err(TransactionError::Never(error)) => return Err(RunOutcome::Failed(error)),
                Err(TransactionError::Again(why)) => {
                    self.give_up(begun, "windows could not be published", &why)?;
                    self.wait(attempt, count, &Reason::new("not_published", why)).await?;
                }
            }
        };
        self.clear_trouble();
        self.work.last_output = last.filter(|_| self.work.formatter.has_totals()).or(before);
        self.committed = positions.iter().map(|position| (position.partition, position.resume)).collect();
        self.committed_at = Instant::now();
        let settled: Vec<_> = positions.iter().map(|position| (position.partition, position.resume)).collect();
        self.work.observer.on(&Event::Settled(&settled));
        self.work.observer.on(&Event::Committed(&settled));
        Ok(())
    }

    /// Waits before the next attempt.
    async fn wait(&mut self, attempt: u32, records: usize, reason: &Reason) -> Result<(), RunOutcome> {
        self.troubled = true;
        let pause = backoff(attempt, 0.5);
        self.work.observer.on(&Event::Retrying { records, attempt: attempt + 1, pause, reason });
        self.work.observer.on(&Event::Degraded(Some(reason.message())));
        self.work.observer.on(&Event::Stalled(true));
        self.attend(sleep(pause)).await
    }

    fn clear_trouble(&mut self) {
        if std::mem::take(&mut self.troubled) {
            self.work.observer.on(&Event::Stalled(false));
            self.work.observer.on(&Event::Degraded(None));
        }
    }

    /// Awaits something, and meanwhile hears what happens to the partitions. Told to stop, it goes on for as long as it may.
    async fn attend<T>(&mut self, future: impl Future<Output = T>) -> Result<T, RunOutcome> {
        let mut future = std::pin::pin!(future);
        loop {
            let until = self.deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let next = tokio::select! {
                biased;
                done = &mut future => Interruption::Done(done),
                signal = self.work.source.next(Demand::Signals) => Interruption::Signal(signal),
                _ = self.work.stop.wait_for(|stop| *stop), if self.deadline.is_none() => Interruption::Told,
                () = sleep_until(until), if self.deadline.is_some() => Interruption::Over,
            };
            match next {
                Interruption::Done(done) => return Ok(done),
                Interruption::Signal(signal) => self.on_signal(signal.map_err(RunOutcome::Failed)?),
                Interruption::Told => self.drain(),
                Interruption::Over => return Err(RunOutcome::Interrupted),
            }
        }
    }

    /// From now on only what is under way is waited for.
    fn drain(&mut self) {
        self.deadline = Some(Instant::now() + self.work.limits.shutdown_timeout);
        self.work.observer.on(&Event::Draining("interrupted"));
    }

    /// Refuses to share the partitions with another member: neither would ever see a whole window.
    fn refuse_sharing(&mut self) -> Result<(), RunOutcome> {
        let windows = &self.work.windows;
        let lacking: Vec<String> = windows.missing_partitions().map(|partition| partition.to_string()).collect();
        if lacking.is_empty() || windows.positions().is_empty() {
            self.shared_since = None;
            return Ok(());
        }
        if self.shared_since.get_or_insert_with(Instant::now).elapsed() < SHARING_TIMEOUT {
            return Ok(());
        }
        Err(RunOutcome::Failed(
            Refused {
                what: "some partitions are not read by this run, so that no window would be whole: another member of the group has them, or \
                       their topic is gone"
                    .to_owned(),
                numbers: lacking.iter().map(|partition| format!("not ours: {partition}")).collect(),
                hint: "one instance of a group is active; stop the other, or give it a --group of its own".to_owned(),
            }
            .into(),
        ))
    }
}
