//! The promises of the loop, on a source, a flow and a target in memory, on paused time. The flow is the simplest one: each record is
//! a message, and every 200 ms a transaction, as when a topic is copied exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::task::JoinHandle;

use super::*;
use crate::pipeline::{Answers, Batch, BreakerLimit, Commit, Ordering};

const TOPIC: &str = "transactions";

fn p(index: i32) -> Partition {
    Partition::new(TOPIC, index)
}

fn record(partition: i32, offset: i64) -> Record {
    let value = Some(Bytes::from(format!("{partition}@{offset}")));
    Record { partition: p(partition), offset, timestamp: None, key: None, value, headers: Headers::new() }
}

/// State shared by source, target and observer of a run.
#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    signals: VecDeque<Signal>,
    /// The generation of each assignment that was handed over; the last one is the member's.
    generation: u64,
    /// The group's own: offsets of an older one are refused.
    group_generation: u64,
    /// Scripted answers of the target, by call.
    script: VecDeque<(&'static str, Reply)>,
    calls: Vec<String>,
    open: Option<Vec<OutgoingMessage>>,
    offsets: Vec<OffsetCommit>,
    /// Committed records.
    committed: Vec<String>,
    positions: BTreeMap<Partition, i64>,
    /// Values that the broker rejects, with every message of their batch.
    poison: Vec<&'static str>,
    /// Messages of the open transaction that are not flushed yet.
    unflushed: Vec<usize>,
    events: Vec<String>,
    stops: Vec<(Partition, NextOffset)>,
    letters: Vec<i64>,
    letters_refused: usize,
    /// Whether the target is another one by now, and whether it turns out to be at the end.
    is_refused: bool,
    is_gone: bool,
}

enum Reply {
    Error(TransactionError),
    /// Answered after this time.
    Late(Duration),
    /// Done, and then the answer is lost.
    DoneAndLost,
    Never,
}

impl World {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn signal(&self, signal: Signal) {
        self.lock().signals.push_back(signal);
    }

    fn assign(&self, partition: i32, start: i64) {
        let assignment = Assignment { partition: p(partition), start: NextOffset(start), fingerprint: None, extension: None };
        self.lock().group_generation += 1;
        self.signal(Signal::Assigned(vec![assignment]));
    }

    fn records(&self, partition: i32, offsets: std::ops::Range<i64>) {
        self.signal(Signal::Records(offsets.map(|offset| record(partition, offset)).collect()));
    }

    fn script(&self, call: &'static str, reply: Reply) {
        self.lock().script.push_back((call, reply));
    }

    /// One call to the target: logs it and plays its script.
    async fn call(&self, call: &'static str) -> Result<bool, TransactionError> {
        let reply = {
            let mut state = self.lock();
            state.calls.push(call.to_owned());
            let at = state.script.iter().position(|(of, _)| *of == call);
            at.and_then(|at| state.script.remove(at)).map(|(_, reply)| reply)
        };
        match reply {
            None => Ok(true),
            Some(Reply::Error(error)) => Err(error),
            Some(Reply::Late(after)) => {
                sleep(after).await;
                Ok(true)
            }
            Some(Reply::DoneAndLost) => Ok(false),
            Some(Reply::Never) => std::future::pending().await,
        }
    }
}

fn lost_answer() -> TransactionError {
    TransactionError::Unclear("no answer".to_owned())
}

impl TransactionSink for World {
    type Member = u64;

    async fn begin(&self) -> Result<(), TransactionError> {
        self.call("begin").await?;
        let mut state = self.lock();
        assert!(state.open.is_none(), "a transaction is open already");
        state.open = Some(Vec::new());
        state.offsets.clear();
        Ok(())
    }

    async fn send(&self, messages: Messages) -> Result<(), TransactionError> {
        self.call("send").await?;
        let mut state = self.lock();
        let from = state.open.as_ref().expect("a transaction is open").len();
        state.unflushed.extend(from..from + messages.len());
        state.open.as_mut().expect("a transaction is open").extend(messages.iter().cloned());
        Ok(())
    }

    async fn flush(&self) -> Result<Vec<Receipt>, TransactionError> {
        self.call("flush").await?;
        let mut state = self.lock();
        let batch = std::mem::take(&mut state.unflushed);
        let open = state.open.as_ref().expect("a transaction is open");
        let is_poison = |at: &usize| state.poison.iter().any(|poison| open[*at].value.as_deref() == Some(poison.as_bytes()));
        if batch.iter().any(is_poison) {
            return Err(TransactionError::Rejected { messages: batch, reason: Reason::new("refused", "the broker refuses it") });
        }
        Ok((0..i64::try_from(open.len()).unwrap()).map(|offset| (0, offset)).collect())
    }

    async fn send_offsets(&self, member: u64, commits: Vec<OffsetCommit>) -> Result<(), TransactionError> {
        self.call("send_offsets").await?;
        let mut state = self.lock();
        if member != state.group_generation {
            return Err(TransactionError::Abort("illegal generation".to_owned()));
        }
        state.offsets = commits;
        Ok(())
    }

    async fn commit(&self) -> Result<(), TransactionError> {
        let answered = self.call("commit").await?;
        let mut state = self.lock();
        // The coordinator confirms a repeated commit.
        for message in state.open.take().unwrap_or_default() {
            state.committed.push(String::from_utf8(message.value.unwrap().to_vec()).unwrap());
        }
        for commit in std::mem::take(&mut state.offsets) {
            let before = state.positions.insert(commit.partition, commit.next.0);
            assert!(before.is_none_or(|before| before <= commit.next.0), "a position went back");
        }
        if answered { Ok(()) } else { Err(lost_answer()) }
    }

    fn refusal(&self) -> Option<ConnectorError> {
        self.lock().is_refused.then(|| Failure::new("the target is another one").into())
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        if self.lock().is_gone { Err(Failure::new("what was written is gone").into()) } else { Ok(()) }
    }

    async fn abort(&self) -> Result<(), TransactionError> {
        self.call("abort").await?;
        let mut state = self.lock();
        state.open.take().expect("a transaction is open");
        state.unflushed.clear();
        Ok(())
    }
}

impl Source for World {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        loop {
            {
                let mut state = self.lock();
                let is_wanted =
                    |signal: &Signal| demand != Demand::Signals || !matches!(signal, Signal::Records(_) | Signal::End);
                if state.signals.front().is_some_and(is_wanted) {
                    let signal = state.signals.pop_front().unwrap();
                    if matches!(signal, Signal::Assigned(_)) {
                        state.generation += 1;
                    }
                    return Ok(signal);
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn stops(&self) -> Vec<(Partition, NextOffset)> {
        self.lock().stops.clone()
    }

    fn commit(&mut self, _: Vec<Commit>) {
        panic!("positions are committed by transactions");
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        panic!("positions are committed by transactions");
    }

    async fn close(self) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl TransactionSource for World {
    type Member = u64;

    fn member(&self) -> Option<u64> {
        Some(self.lock().generation)
    }
}

impl Observer for World {
    fn on(&self, event: &Event<'_>) {
        let text = match event {
            Event::Problem { side, problem: None } => format!("{} healthy", side.name()),
            Event::Problem { side, problem: Some(problem) } => format!("{} stalled: {}", side.name(), problem.reason),
            Event::Retrying { attempt, .. } => format!("retrying attempt {attempt}"),
            Event::Bisecting { records, .. } => format!("bisecting {records}"),
            Event::Bad { record, action, .. } => format!("bad {} {action:?}", record.offset),
            Event::Draining(_) => "draining".to_owned(),
            _ => return,
        };
        self.lock().events.push(text);
    }
}

/// The dead letters.
impl Sink for World {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let mut state = self.lock();
        let outcome = if state.letters_refused > 0 {
            state.letters_refused -= 1;
            Outcome::Retry(Reason::new("away", "the dead-letter topic is away"))
        } else {
            state.letters.extend(batch.iter().map(|letter| letter.offset));
            Outcome::Delivered
        };
        Ok(Box::pin(std::future::ready(vec![outcome; batch.len()])))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn ordering(&self) -> Ordering {
        Ordering::Overlapping
    }
}

/// Copies records.
struct Copy {
    next: BTreeMap<Partition, i64>,
    due: Option<Instant>,
    /// Whether messages are sent as they come.
    streams: bool,
    taken: Vec<OutgoingMessage>,
    /// Whether it needs proof that it is the only writer.
    must_prove: bool,
}

impl Copy {
    fn message(record: Record) -> OutgoingMessage {
        OutgoingMessage {
            topic: record.partition.topic,
            partition: Some(record.partition.index),
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            origin: Some(Box::new(record)),
        }
    }
}

impl TransactionFlow for Copy {
    fn on_assigned(&mut self, assigned: &[Assignment]) -> u64 {
        self.next.extend(assigned.iter().map(|assignment| (assignment.partition, assignment.start.0)));
        0
    }

    fn on_removed(&mut self, partitions: &[Partition], lost: bool, pending: &mut Vec<Messages>) -> u64 {
        self.next.retain(|partition, _| !partitions.contains(partition));
        let mut dropped = 0;
        if lost {
            for messages in pending.iter_mut() {
                let messages = Arc::make_mut(messages);
                let before = messages.len();
                messages.retain(|message| !partitions.contains(&message.origin.as_ref().unwrap().partition));
                dropped += before - messages.len();
            }
            pending.retain(|messages| !messages.is_empty());
        }
        let before = self.taken.len();
        self.taken.retain(|message| !partitions.contains(&message.origin.as_ref().unwrap().partition));
        (dropped + before - self.taken.len()) as u64
    }

    fn on_positions(&mut self, positions: &[(Partition, NextOffset)]) {
        self.next.extend(positions.iter().map(|(partition, next)| (*partition, next.0)));
    }

    fn on_log_end_offsets(&mut self, _: &[(Partition, Option<i64>)]) {}

    fn on_records(&mut self, records: Vec<Record>, transform: Option<&Transform>) -> TransactionIntake {
        let mut intake = TransactionIntake::default();
        for mut record in records {
            self.next.insert(record.partition, record.offset + 1);
            match transform.map_or(crate::pipeline::TransformResult::Keep, |transform| transform(&mut record)) {
                crate::pipeline::TransformResult::Keep if self.streams => intake.messages.push(Self::message(record)),
                crate::pipeline::TransformResult::Keep => self.taken.push(Self::message(record)),
                crate::pipeline::TransformResult::Filtered => intake.filtered += 1,
                crate::pipeline::TransformResult::Bad(reason) => intake.bad.push((record, reason)),
            }
        }
        self.due.get_or_insert_with(|| Instant::now() + Duration::from_millis(200));
        intake
    }

    fn due(&mut self) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        Ok(is_due.then(|| {
            self.due = None;
            std::mem::take(&mut self.taken)
        }))
    }

    fn proof(&mut self) -> Option<Vec<OffsetCommit>> {
        (!self.next.is_empty() && std::mem::take(&mut self.must_prove)).then(|| self.commits(&[]))
    }

    fn finish(&mut self, _: bool) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError> {
        Ok(self.due.take().map(|_| std::mem::take(&mut self.taken)))
    }

    fn commits(&self, _: &[Receipt]) -> Vec<OffsetCommit> {
        let commit = |(partition, next): (&Partition, &i64)| OffsetCommit {
            partition: *partition,
            next: NextOffset(*next),
            fingerprint: None,
            extension: None,
        };
        self.next.iter().map(commit).collect()
    }

    fn positions(&self) -> Vec<(Partition, NextOffset)> {
        self.next.iter().map(|(partition, next)| (*partition, NextOffset(*next))).collect()
    }

    fn on_committed(&mut self, receipts: &[Receipt]) -> u64 {
        receipts.len() as u64
    }

    fn held(&self) -> u64 {
        0
    }
}

struct Run {
    stop: watch::Sender<bool>,
    run: JoinHandle<RunReport>,
}

impl Run {
    /// Starts to copy one partition with records 0 to 9.
    fn start(world: &World, change: impl FnOnce(&mut TransactionLoop<World, Copy, World, World>)) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut run = TransactionLoop {
            source: world.clone(),
            flow: Copy { next: BTreeMap::new(), due: None, streams: true, taken: Vec::new(), must_prove: false },
            target: world.clone(),
            dead_letters: Some(DeadLetters { sink: world.clone(), build: Box::new(|record, _, _| record.clone()) }),
            transform: None,
            bad_records: BadRecordPolicy::Stop,
            limits: Limits {
                batch: 10,
                batch_bytes: usize::MAX,
                linger: Duration::ZERO,
                in_flight: 1,
                rate: None,
                count: None,
                commit_each: false,
                retry_for: None,
                breaker: None,
                shutdown_timeout: Duration::from_secs(25),
            },
            observer: Arc::new(world.clone()),
            stop: stopped,
        };
        change(&mut run);
        Self { stop, run: tokio::spawn(run.run()) }
    }

    async fn finish(self) -> RunReport {
        let report = tokio::time::timeout(Duration::from_secs(24 * 3600), self.run).await.expect("the run hangs").unwrap();
        report.tally.assert_balanced();
        report
    }

    async fn stop_after(self, after: Duration) -> RunReport {
        sleep(after).await;
        self.stop.send_replace(true);
        self.finish().await
    }
}

/// Returns a source of records 0 to 9 of one partition, which ends.
fn ten() -> World {
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    world.signal(Signal::End);
    world
}

fn values(partition: i32, offsets: std::ops::Range<i64>) -> Vec<String> {
    offsets.map(|offset| format!("{partition}@{offset}")).collect()
}

fn away() -> TransactionError {
    TransactionError::Abort("the broker is away".to_owned())
}

#[tokio::test(start_paused = true)]
async fn records_and_positions_are_committed_together() {
    for streams in [true, false] {
        let world = ten();
        let report = Run::start(&world, |run| run.flow.streams = streams).finish().await;
        assert!(matches!(report.outcome, RunOutcome::Complete), "{:?}", report.outcome);
        let state = world.lock();
        assert_eq!((state.committed.clone(), state.positions[&p(0)]), (values(0, 0..10), 10));
        assert_eq!(state.calls, ["begin", "send", "flush", "send_offsets", "commit"]);
        assert_eq!((report.tally.read, report.tally.delivered, report.tally.undelivered), (10, 10, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_commit_is_only_committed_again() {
    let world = ten();
    world.script("commit", Reply::DoneAndLost);
    world.script("commit", Reply::Error(lost_answer()));
    let report = Run::start(&world, |_| {}).finish().await;
    assert_eq!((report.tally.delivered, world.lock().committed.clone()), (10, values(0, 0..10)));
    assert_eq!(world.lock().calls, ["begin", "send", "flush", "send_offsets", "commit", "commit", "commit"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_fails_at_any_step_is_aborted_and_sent_again_unchanged() {
    for call in ["send", "flush", "send_offsets", "commit"] {
        let world = ten();
        for _ in 0..6 {
            world.script(call, Reply::Error(away()));
        }
        // An abort can fail too.
        world.script("abort", Reply::Error(away()));
        let report = Run::start(&world, |_| {}).finish().await;
        let state = world.lock();
        assert_eq!((report.tally.delivered, state.committed.clone()), (10, values(0, 0..10)), "{call}");
        assert_eq!(state.calls.iter().filter(|call| *call == "abort").count(), 7, "{call}: {:?}", state.calls);
        assert_eq!(state.events.last().map(String::as_str), Some("target healthy"), "{call}: {:?}", state.events);
        assert!(state.events.iter().any(|event| event.starts_with("target stalled: ")), "{call}: {:?}", state.events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_needs_proof_adds_offsets_and_aborts_before_it_publishes_and_a_fenced_one_ends_without_a_record() {
    let world = World::default();
    world.assign(0, 0);
    let run = Run::start(&world, |run| run.flow.must_prove = true);
    sleep(Duration::from_secs(1)).await;
    {
        let state = world.lock();
        assert_eq!(
            (state.calls.as_slice(), state.positions.len()),
            (&["begin", "send_offsets", "abort"].map(str::to_owned)[..], 0)
        );
    }
    world.records(0, 0..10);
    world.signal(Signal::End);
    assert_eq!(run.finish().await.tally.delivered, 10);
    assert_eq!(world.lock().committed, values(0, 0..10));

    let world = World::default();
    world.script("send_offsets", Reply::Error(TransactionError::Fatal(Failure::new("fenced").into())));
    world.assign(0, 0);
    let report = Run::start(&world, |run| run.flow.must_prove = true).finish().await;
    assert!(matches!(&report.outcome, RunOutcome::Failed(error) if error.to_string() == "fenced"), "{:?}", report.outcome);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_target_is_another_one_ends_without_a_record_and_one_whose_messages_are_gone_is_not_complete() {
    let world = ten();
    world.lock().is_gone = true;
    let report = Run::start(&world, |_| {}).finish().await;
    let RunOutcome::Failed(error) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!((error.to_string().as_str(), report.tally.delivered), ("what was written is gone", 10));

    let world = World::default();
    let run = Run::start(&world, |_| {});
    sleep(Duration::from_secs(1)).await;
    world.lock().is_refused = true;
    let report = run.finish().await;
    let RunOutcome::Failed(error) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(error.to_string(), "the target is another one");
}

#[tokio::test(start_paused = true)]
async fn a_fenced_producer_ends_the_run_and_nothing_is_committed() {
    let world = ten();
    let fenced =
        || ConnectorError::from(crate::pipeline::Refused { what: "fenced".into(), numbers: vec![], hint: String::new() });
    world.script("commit", Reply::Error(TransactionError::Fatal(fenced())));
    let report = Run::start(&world, |_| {}).finish().await;
    assert!(matches!(report.outcome, RunOutcome::Failed(ConnectorError::Refused(_))), "{:?}", report.outcome);
    {
        let state = world.lock();
        assert_eq!((report.tally.undelivered, state.committed.len(), state.positions.len()), (10, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_reported_and_fails_the_run_after_the_limit() {
    let world = ten();
    world.script("flush", Reply::Late(Duration::from_secs(4)));
    Run::start(&world, |_| {}).finish().await;
    let seen = ["target stalled: no response for more than 3 s", "target healthy"];
    assert_eq!(world.lock().events[..2], seen, "it has answered, whatever the transaction does next");
    let world = ten();
    for _ in 0..100 {
        world.script("begin", Reply::Error(away()));
    }
    let report = Run::start(&world, |run| run.limits.retry_for = Some(Duration::from_secs(20))).finish().await;
    let RunOutcome::Failed(error) = report.outcome else { panic!("{:?}", report.outcome) };
    assert!(error.to_string().starts_with("gave up after 20s without a delivery"), "{error}");
    assert_eq!(report.tally.undelivered, 10);
}

#[tokio::test(start_paused = true)]
async fn bad_records_are_set_aside_before_the_positions_that_cover_them() {
    let world = ten();
    world.lock().letters_refused = 2;
    let report = Run::start(&world, |run| {
        run.bad_records = BadRecordPolicy::DeadLetters;
        run.transform = Some(Box::new(|record| match record.offset {
            3 | 7 => crate::pipeline::TransformResult::Bad(Reason::new("bad", "bad")),
            5 => crate::pipeline::TransformResult::Filtered,
            _ => crate::pipeline::TransformResult::Keep,
        }));
    })
    .finish()
    .await;
    let tally = &report.tally;
    assert_eq!((tally.delivered, tally.dead_lettered, tally.filtered), (7, 2, 1));
    {
        let state = world.lock();
        assert_eq!((state.letters.clone(), state.positions[&p(0)]), (vec![3, 7], 10));
    }
}

#[tokio::test(start_paused = true)]
async fn one_or_too_many_bad_records_stop_the_run() {
    let bad: fn() -> Transform = || Box::new(|_| crate::pipeline::TransformResult::Bad(Reason::new("bad", "bad")));
    let world = ten();
    let report = Run::start(&world, |run| run.transform = Some(bad())).finish().await;
    assert!(matches!(report.outcome, RunOutcome::Record(_)), "{:?}", report.outcome);
    assert!(world.lock().positions.is_empty());
    let world = ten();
    let report = Run::start(&world, |run| {
        run.transform = Some(bad());
        run.bad_records = BadRecordPolicy::Skip;
        run.limits.breaker = Some(BreakerLimit { records: 4, within: Duration::from_secs(60) });
    })
    .finish()
    .await;
    assert!(matches!(report.outcome, RunOutcome::Record(_)), "{:?}", report.outcome);
    assert_eq!((report.tally.skipped, world.lock().positions.len()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_found_and_its_record_is_bad() {
    let world = ten();
    world.lock().poison = vec!["0@2", "0@9"];
    let report = Run::start(&world, |run| run.bad_records = BadRecordPolicy::DeadLetters).finish().await;
    {
        let state = world.lock();
        let copied: Vec<String> = values(0, 0..10).into_iter().filter(|value| value != "0@2" && value != "0@9").collect();
        assert_eq!((state.committed.clone(), state.letters.clone(), state.positions[&p(0)]), (copied, vec![2, 9], 10));
        assert_eq!((report.tally.delivered, report.tally.dead_lettered), (8, 2));
    }
    let world = ten();
    world.lock().poison = vec!["0@2"];
    let report = Run::start(&world, |_| {}).finish().await;
    assert!(matches!(report.outcome, RunOutcome::Record(_)), "{:?}", report.outcome);
    {
        let state = world.lock();
        assert_eq!((state.committed.len(), state.open.is_none()), (0, true), "nothing stays open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_the_end_of_the_transaction() {
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    let (revocation, released) = Revocation::new(vec![p(0)]);
    world.signal(Signal::Revoked(revocation));
    world.script("commit", Reply::Late(Duration::from_secs(1)));
    let run = Run::start(&world, |_| {});
    sleep(Duration::from_millis(900)).await;
    assert!(released.try_recv().is_err(), "the transaction is still open");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(released.try_recv(), Ok(Vec::new()));
    {
        let state = world.lock();
        assert_eq!((state.committed.clone(), state.positions[&p(0)]), (values(0, 0..10), 10));
    }
    assert!(matches!(run.stop_after(Duration::ZERO).await.outcome, RunOutcome::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_takes_its_messages_out_of_the_transaction() {
    let world = World::default();
    world.assign(0, 0);
    world.assign(1, 0);
    world.records(0, 0..10);
    world.records(1, 0..10);
    world.signal(Signal::Lost(vec![p(0)]));
    // The new owner committed first.
    world.signal(Signal::End);
    let report = Run::start(&world, |_| {}).finish().await;
    let state = world.lock();
    assert_eq!((state.committed.clone(), state.positions.clone()), (values(1, 0..10), BTreeMap::from([(p(1), 10)])));
    assert_eq!((report.tally.delivered, report.tally.released), (10, 10));
    assert!(state.calls.contains(&"abort".to_owned()), "{:?}", state.calls);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_loses_a_partition_after_the_source_ended_is_complete_only_if_it_was_committed() {
    for (call, is_complete) in [("flush", false), ("commit", true)] {
        let world = ten();
        world.lock().stops = vec![(p(0), NextOffset(10))];
        world.script(call, Reply::Late(Duration::from_secs(1)));
        world.signal(Signal::Lost(vec![p(0)]));
        let report = Run::start(&world, |_| {}).finish().await;
        assert_eq!(matches!(report.outcome, RunOutcome::Complete), is_complete, "{call}: {:?}", report.outcome);
        assert_eq!(report.tally.delivered, if is_complete { 10 } else { 0 }, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_lost_during_a_commit_is_committed_atomically() {
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    world.script("commit", Reply::DoneAndLost);
    let run = Run::start(&world, |_| {});
    sleep(Duration::from_millis(210)).await;
    world.signal(Signal::Lost(vec![p(0)]));
    world.assign(0, 10);
    world.records(0, 10..12);
    let report = run.stop_after(Duration::from_secs(5)).await;
    assert_eq!((world.lock().committed.clone(), report.tally.delivered), (values(0, 0..12), 12));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_an_old_generation_are_refused_and_the_new_owner_continues() {
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    let run = Run::start(&world, |_| {});
    sleep(Duration::from_millis(50)).await;
    // The member has rejoined, which the loop has not seen yet.
    world.lock().group_generation += 1;
    sleep(Duration::from_secs(1)).await;
    assert!(world.lock().committed.is_empty());
    world.lock().group_generation -= 1;
    world.signal(Signal::Lost(vec![p(0)]));
    world.assign(0, 0);
    world.records(0, 0..10);
    let report = run.stop_after(Duration::from_secs(30)).await;
    assert_eq!((world.lock().committed.clone(), report.tally.delivered, report.tally.released), (values(0, 0..10), 10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_stop_commits_the_open_transaction_within_the_deadline_or_abandons_it() {
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    let report = Run::start(&world, |_| {}).stop_after(Duration::from_millis(100)).await;
    assert!(matches!(report.outcome, RunOutcome::Interrupted));
    assert_eq!((world.lock().committed.clone(), report.tally.undelivered), (values(0, 0..10), 0));
    let world = World::default();
    world.assign(0, 0);
    world.records(0, 0..10);
    world.script("flush", Reply::Never);
    let report = Run::start(&world, |_| {}).stop_after(Duration::from_secs(2)).await;
    assert!(matches!(report.outcome, RunOutcome::Interrupted));
    assert_eq!((world.lock().committed.len(), report.tally.undelivered), (0, 10));
    assert!(report.elapsed >= Duration::from_secs(27) && report.elapsed < Duration::from_secs(31), "{:?}", report.elapsed);
    assert_eq!(world.lock().calls.last().map(String::as_str), Some("abort"), "an open transaction holds readers up");
}
