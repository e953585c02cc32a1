//! The thread that polls. It alone owns the state of the source: the engine sends it commands, the consumer's callback events.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::admin::topic_ids;
use crate::connectors::kafka::commit_metadata::CommittedOffset;
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::bootstrap::BootstrapServers;
use crate::connectors::kafka::librdkafka::messages;
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::resume::{self, RefusedPartition, ResumeRules, StartReason};
use crate::connectors::kafka::source::assignment_wait::AssignmentWait;
use crate::connectors::kafka::source::batch_builder::BatchBuilder;
use crate::connectors::kafka::source::committer::{Committer, KnownLogs};
use crate::connectors::kafka::source::given_up;
use crate::connectors::kafka::source::membership::Members;
use crate::connectors::kafka::source::monitor::{Monitor, is_missing};
use crate::connectors::kafka::source::partitions::{OwnedPartitions, TopicIds};
use crate::connectors::kafka::source::read_history::ReadHistory;
use crate::connectors::kafka::source::rebalance::{
    Logs, PendingRevocation, PendingStarts, RETRY_BACKOFF, RebalanceContext, RebalanceEvent, Start, StartEvent, StartResolver,
    assign, list, log_refusal, unassign,
};
use crate::connectors::kafka::source::record_queue::RecordQueue;
use crate::pipeline::{Assignment, Commit, ConnectorError, Failure, Refusal, RefusalReason, Signal};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Record, Topic};

/// How long one poll waits for a record.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// As [`POLL_TIMEOUT`], while a command or an answer is expected.
const SHORT_POLL_TIMEOUT: Duration = Duration::from_millis(1);
/// How long an open batch waits for more records.
const LINGER: Duration = Duration::from_millis(1);
/// How long one attempt to queue a batch waits for room.
const OFFER_TIMEOUT: Duration = Duration::from_millis(20);
/// After this long without room the partitions are paused, and the consumer is polled on: its membership depends on it.
const PAUSE_AFTER: Duration = Duration::from_millis(500);
/// How long one poll with paused partitions waits.
const PAUSED_POLL_TIMEOUT: Duration = Duration::from_millis(80);
/// For this long after a flush the next one is expected.
const FLUSH_EXPECTED: Duration = Duration::from_secs(1);
/// For this long after an assignment its starts are expected.
const START_EXPECTED: Duration = Duration::from_secs(1);
/// How often, and how long, the brokers are asked for the id of a topic that has changed.
const TOPIC_ID_ATTEMPTS: usize = 3;
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(2);
const TOPIC_ID_BACKOFF: Duration = Duration::from_millis(50);
/// The pause before a position that lies before its log is looked at again.
const BEHIND_BACKOFF: Duration = Duration::from_millis(200);
/// How long a source that closes waits for its threads.
const THREADS_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a member that ends during a rebalance joins again, to commit.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a source that closes asks the group for the commits of partitions that it has lost.
const GROUP_OFFSETS_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of the last commit.
pub(super) const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The topics or partitions to read.
pub enum Subscription {
    /// Topics, as a member of the group.
    Topics(Vec<String>),
    /// The topics that match, as a member of the group, including those that appear later.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
    /// Partitions, without joining the group.
    Assigned(Vec<Partition>),
}

/// What the engine's side asks of the poller.
pub(super) enum PollerCommand {
    /// Watermarks, each with the epoch of the assignment that it belongs to.
    Commit(Vec<(Commit, u64)>),
    Flush(oneshot::Sender<Result<(), ConnectorError>>),
    Close(oneshot::Sender<Result<(), ConnectorError>>),
}

pub(super) struct Poller {
    pub(super) members: Members,
    pub(super) consumer: Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
    pub(super) commands: mpsc::Receiver<PollerCommand>,
    pub(super) events: mpsc::Receiver<RebalanceEvent>,
    pub(super) bootstrap: BootstrapServers,
    pub(super) queue: Arc<RecordQueue>,
    pub(super) committer: Committer,
    pub(super) partitions: OwnedPartitions,
    pub(super) monitor: Monitor,
    pub(super) reader: Reader,
    pub(super) section: KafkaSection,
    pub(super) subscription: Subscription,
    /// The wait for partitions of a member of the group.
    pub(super) assignment_wait: Option<AssignmentWait>,
    /// Whether the member has a `group.instance.id`.
    pub(super) is_static: bool,
    pub(super) known_topics: BTreeSet<Topic>,
    pub(super) rules: ResumeRules,
    pub(super) read_uncommitted: bool,
    pub(super) verified: Arc<HashMap<Partition, CommittedOffset>>,
    /// How long a revocation waits for records in flight.
    pub(super) revocation_timeout: Duration,
    /// The revocation that is not answered yet.
    pub(super) revoking: Option<PendingRevocation>,
    /// Partitions of the member without a known start.
    pub(super) starting: Vec<PendingStarts>,
    /// Partitions whose log was truncated, or whose topic was re-created.
    pub(super) restarts: Vec<Restart>,
    /// Partitions that a re-created topic does not have, until the records read of them have settled.
    pub(super) removals: Vec<PendingRevocation>,
    /// A batch that the queue had no room for, since when.
    pub(super) waiting: Option<(Instant, Vec<Record>)>,
    pub(super) paused: bool,
    pub(super) last_flush: Option<Instant>,
    /// Positions that are to be compared with the logs.
    pub(super) check: Option<PositionCheck>,
    pub(super) topic_ids: TopicIds,
    /// The ids that the topics of partitions had when commits were given up.
    pub(super) given_up_of: HashMap<Partition, String>,
    pub(super) history: ReadHistory,
    pub(super) ended: bool,
    pub(super) degraded: bool,
    /// Why the group does not take this member in.
    pub(super) group_problem: Option<String>,
}

/// A partition that starts again when the records before have settled.
pub(super) struct Restart {
    pending: PendingRevocation,
    next: NextOffset,
    topic_id: Option<String>,
    leader_epoch: Option<i32>,
}

/// Positions that may not be in the logs, or not of the same topic.
#[derive(Default)]
pub(super) struct PositionCheck {
    /// At once, if there is none.
    due: Option<Instant>,
    partitions: BTreeSet<Partition>,
    out_of_range: bool,
    /// Positions that lay before their logs. Records before the gap may be on their way: they are handed over first.
    behind: HashMap<Partition, i64>,
}

/// The batch under construction.
pub(super) struct Reader {
    pub(super) builder: BatchBuilder,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
    /// The partition of the last message and its stop: messages come in runs.
    pub(super) current: Option<CurrentPartition>,
    /// Partitions of topics that were re-created: records of the new topic do not follow the old position.
    pub(super) dropped: BTreeSet<Partition>,
}

pub(super) struct CurrentPartition {
    key: (usize, i32),
    partition: Partition,
    /// None: not owned.
    stop: Option<i64>,
}

impl Reader {
    fn is_full(&self) -> bool {
        self.builder.len() >= self.max_records || self.builder.bytes() >= self.max_bytes
    }

    /// Adds a message, unless it lies beyond the stop of its partition, or belongs to a partition that is not owned.
    fn push(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
        history: &mut ReadHistory,
        message: &BorrowedMessage<'_>,
    ) {
        let key = messages::partition_key(message);
        let current = match self.current.take() {
            Some(current) if current.key == key => current,
            _ => {
                let partition = Partition::new(message.topic(), message.partition());
                let progress = partitions.get(partition).filter(|_| !self.dropped.contains(&partition));
                let stop = progress.map(|progress| progress.limit.unwrap_or(i64::MAX));
                CurrentPartition { key, partition, stop }
            }
        };
        match current.stop {
            Some(stop) if message.offset() < stop => {
                history.read(current.partition, message.offset(), messages::leader_epoch(message));
                self.builder.push(current.partition, message);
            }
            // Nothing beyond the stop is fetched any more.
            Some(_) => log_refusal("pause", consumer.pause(&list([&current.partition]))),
            None => {}
        }
        self.current = Some(current);
    }
}

impl Poller {
    pub(super) fn run(mut self) {
        if let Err(error) = self.subscribe() {
            self.queue.fail(error);
        }
        let closed = loop {
            if let Some(closed) = self.serve_commands() {
                break closed;
            }
            self.bootstrap.keep(self.consumer.client());
            self.serve_committer();
            self.serve_rebalance();
            self.serve_starts();
            if self.waiting.is_none() {
                self.poll();
            }
            self.hand_over();
            self.check_positions();
            self.run_checks();
        };
        self.note_restarts();
        let outcome = self.commit_before_leaving();
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        // The engine may have stopped waiting.
        let _ = closed.map(|closed| closed.send(outcome));
        self.starting.clear(); // their threads end
        self.leave_group();
        drop(self.committer); // its queue and the monitor's requests belong to the consumer
        drop(self.monitor);
        // The last owner closes the consumer, which leaves the group: threads that ask the brokers end first.
        let deadline = Instant::now() + THREADS_TIMEOUT;
        while Arc::strong_count(&self.consumer) > 1 && Instant::now() < deadline {
            std::thread::sleep(SHORT_POLL_TIMEOUT);
        }
        drop(self.consumer);
    }

    /// Commits everything that has settled. While the group rebalances, a commit is refused until the member has joined again.
    fn commit_before_leaving(&mut self) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + REJOIN_TIMEOUT;
        let mut refused = Ok(());
        loop {
            refused = refused.and(self.answer_last_rebalance());
            let flushed = self.try_flush();
            if !flushed.as_ref().is_err_and(NativeError::is_of_rebalance) || Instant::now() > deadline {
                flushed.and(refused).map_err(|error| self.not_committed(&error))?;
                return self.repeated().map_or(Ok(()), |why| Err(self.not_committed(&why)));
            }
            drop(self.consumer.poll(POLL_TIMEOUT)); // what it returns is of the next run
        }
    }

    /// Answers the events of a rebalance when the engine has ended. Returns why a last commit was refused.
    fn answer_last_rebalance(&mut self) -> Result<(), NativeError> {
        let mut committed = Ok(());
        if let Some(pending) = self.revoking.take() {
            if let Some(Some(commits)) = pending.poll() {
                committed = self.finish_revocation(&pending.partitions, Some(commits));
            } else {
                self.give_up_commits(&pending.partitions, &[]);
                unassign(&self.consumer, &pending.partitions);
            }
        }
        while let Ok(event) = self.events.try_recv() {
            match event {
                RebalanceEvent::Assigned(_) => self.assign(&[]),
                RebalanceEvent::Revoked { partitions, lost } => {
                    let last = self.committer.watermarks(&partitions);
                    self.forget(&partitions);
                    if lost {
                        self.give_up_commits(&partitions, &last);
                        unassign(&self.consumer, &partitions);
                    } else {
                        committed = committed.and(self.finish_revocation(&partitions, Some(last)));
                    }
                }
            }
        }
        committed
    }

    /// Leaves the group, unless the member is static. Closing alone does not leave it in every state: not without partitions, and not
    /// while the member joins again; the others would wait for its session to end.
    fn leave_group(&self) {
        if !self.is_static {
            self.consumer.unsubscribe();
        }
    }

    fn subscribe(&mut self) -> Result<(), ConnectorError> {
        let subscribed = match &self.subscription {
            Subscription::Topics(topics) => self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>()),
            Subscription::Matching(_) => {
                self.consumer.subscribe(&self.known_topics.iter().map(|topic| topic.name()).collect::<Vec<_>>())
            }
            Subscription::Assigned(partitions) => {
                let partitions = partitions.clone();
                let starts = self.resolver().spawn(partitions);
                self.starting.push(starts);
                Ok(())
            }
        };
        subscribed.map_err(|error| self.failure("subscribe on").because(error).into())
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Carries out the engine's commands; returns the receiver of the outcome when the source closes.
    #[allow(clippy::option_option)] // whether to close, and who waits for the outcome
    fn serve_commands(&mut self) -> Option<Option<oneshot::Sender<Result<(), ConnectorError>>>> {
        loop {
            match self.commands.try_recv() {
                Ok(PollerCommand::Commit(commits)) => {
                    for (commit, epoch) in commits {
                        if self.partitions.get(commit.partition).is_some_and(|progress| progress.epoch == epoch) {
                            self.history.settle(commit.partition, commit.next.0);
                            self.committer.note(commit);
                        }
                    }
                }
                Ok(PollerCommand::Flush(answer)) => {
                    let outcome = self.flush();
                    self.last_flush = Some(Instant::now());
                    // The engine may have stopped waiting.
                    let _ = answer.send(outcome);
                }
                Ok(PollerCommand::Close(answer)) => return Some(Some(answer)),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(None),
            }
        }
    }

    fn serve_committer(&mut self) {
        let logs = KnownLogs { topic_ids: &self.topic_ids, history: &self.history };
        for signal in self.committer.serve(&self.consumer, logs) {
            self.queue.signal(signal);
        }
    }

    /// Commits everything that has settled. What was taken away before it was committed is not confirmed by a commit of nothing.
    fn flush(&mut self) -> Result<(), ConnectorError> {
        let flushed = self.try_flush().and_then(|()| self.committer.refuse_unresolved());
        flushed.map_err(|error| self.not_committed(&error))
    }

    /// Returns which delivered records are read again because their partitions were lost before they were committed. What another
    /// member has committed since is settled, and what a topic held that was deleted, or re-created, is not read again.
    fn repeated(&self) -> Option<String> {
        let given_up = self.committer.given_up();
        let wanted: Vec<(Partition, NextOffset)> = given_up.iter().collect();
        let partitions: Vec<Partition> = wanted.iter().map(|(partition, _)| *partition).collect();
        if partitions.is_empty() {
            return None;
        }
        let Ok(committed) = self.consumer.committed_offsets(list(&partitions), GROUP_OFFSETS_TIMEOUT) else {
            return given_up.reason(&partitions);
        };
        let logs = Logs::fetch(&self.consumer, &partitions).ok();
        let is_replaced = |partition: &Partition| {
            let now = logs.as_ref().and_then(|logs| logs.topic_id(*partition));
            now.zip(self.given_up_of.get(partition)).is_some_and(|(now, then)| now != then)
        };
        let is_settled = |(partition, next): &(Partition, NextOffset)| {
            let found = committed.find_partition(partition.topic.name(), partition.index);
            match found.map(|element| element.offset()) {
                Some(Offset::Offset(committed)) => committed >= next.0 || is_replaced(partition),
                _ => is_missing(&self.consumer, partition.topic) || is_replaced(partition),
            }
        };
        let open: Vec<Partition> = wanted.iter().filter(|of| !is_settled(of)).map(|(partition, _)| *partition).collect();
        given_up.reason(&open)
    }

    /// Gives up the commits of partitions that are taken away; returns how many delivered records they would have covered.
    fn give_up(&mut self, partitions: &[Partition], last: &[Commit]) -> u64 {
        let ids = partitions.iter().filter_map(|partition| Some((*partition, self.topic_ids.get(*partition)?.to_owned())));
        self.given_up_of.extend(ids);
        self.committer.give_up(partitions, last)
    }

    /// Gives up the commits of partitions that are lost, and says how many records repeat.
    fn give_up_commits(&mut self, partitions: &[Partition], last: &[Commit]) {
        let records = self.give_up(partitions, last);
        if records > 0 {
            tracing::warn!("{}", given_up::warning(records));
        }
    }

    fn not_committed(&self, error: impl std::fmt::Display) -> ConnectorError {
        Failure::new(format!("the offsets were not committed on `{}`", self.section.name)).because(error).into()
    }

    fn try_flush(&mut self) -> Result<(), NativeError> {
        let mut signals = Vec::new();
        let logs = KnownLogs { topic_ids: &self.topic_ids, history: &self.history };
        let flushed = self.committer.flush(&self.consumer, logs, Instant::now() + LAST_COMMIT_TIMEOUT, &mut signals);
        for signal in signals {
            self.queue.signal(signal);
        }
        flushed
    }

    /// Reports and returns why some partitions are not read.
    fn degrade(&mut self, reason: String) -> String {
        self.degraded = true;
        self.queue.signal(Signal::Degraded(Some(reason.clone())));
        reason
    }

    /// Returns why some partitions are not read.
    fn problem(&self) -> Option<String> {
        let starting = self.starting.iter().find_map(|starts| starts.reason.clone());
        let unanswered = || {
            let (partition, error) = self.monitor.problem(&self.partitions)?;
            let known = Monitor::is_of_broker(error).then(|| self.outage()).flatten();
            let text = || NativeError { text: format!("{partition}: {error}"), ..error.clone() };
            Some(known.unwrap_or_else(|| self.reason(&text())))
        };
        let unknown = || self.monitor.unknown_topic().map(|topic| self.missing(topic));
        let lost = || self.monitor.is_lost_in_outage().then(|| self.lost_reason());
        starting.or_else(|| self.group_problem.clone()).or_else(unknown).or_else(lost).or_else(unanswered)
    }

    fn missing(&self, topic: Topic) -> String {
        format!("topic `{topic}` does not exist on `{}` any more", self.section.name)
    }

    /// Returns the reason of a stall that has lasted longer than the session of the member.
    fn lost_reason(&self) -> String {
        let session = self.assignment_wait.as_ref().map_or(Duration::ZERO, AssignmentWait::session_timeout);
        let seconds = session.as_millis().div_ceil(1000);
        format!("the source has not answered for {seconds} s: its partitions were given up; waiting for it")
    }

    /// Returns why brokers cannot be reached, as far as the client's log tells.
    fn outage(&self) -> Option<String> {
        diagnosis::outage(&self.section, &self.consumer.context().log.client_log.recent())
    }

    /// Returns the reason of a stall behind an error: the same for each request that a broker does not answer.
    fn reason(&self, error: &NativeError) -> String {
        // Without a token no broker is asked.
        let is_silent = error.is_unanswered() || error.code == RDKafkaErrorCode::Authentication;
        let known = is_silent.then(|| self.outage().or_else(|| diagnosis::silence(&self.section))).flatten();
        known.unwrap_or_else(|| error.to_string())
    }

    /// Returns a resolver of starts. What was verified when the run was planned holds for the first of them only: a log can change before
    /// a partition is assigned again at the same commit.
    fn resolver(&mut self) -> StartResolver {
        StartResolver {
            consumer: Arc::clone(&self.consumer),
            section: self.section.clone(),
            rules: self.rules.clone(),
            read_uncommitted: self.read_uncommitted,
            verified: std::mem::take(&mut self.verified),
        }
    }

    fn serve_rebalance(&mut self) {
        if let Some(pending) = self.revoking.take() {
            match pending.poll() {
                // A refusal was logged: the run goes on, and the next owner repeats.
                Some(commits) => drop(self.finish_revocation(&pending.partitions, commits)),
                None => self.revoking = Some(pending),
            }
        }
        if self.revoking.is_none()
            && let Ok(event) = self.events.try_recv()
        {
            self.on_rebalance(event);
        }
        self.removals.retain(|pending| pending.poll().is_none());
        for restart in std::mem::take(&mut self.restarts) {
            match restart.pending.poll() {
                // The last watermark counts offsets of a log that is gone.
                Some(_) => restart.pending.partitions.iter().for_each(|partition| self.start_again(*partition, &restart)),
                None => self.restarts.push(restart),
            }
        }
    }

    fn on_rebalance(&mut self, event: RebalanceEvent) {
        match event {
            RebalanceEvent::Assigned(partitions) => {
                if let Some(wait) = &mut self.assignment_wait {
                    wait.on_assigned(Instant::now());
                }
                self.committer.on_assigned();
                if self.group_problem.take().is_some() {
                    self.show_problem();
                }
                self.assign(&[]); // the partitions that are kept are read on meanwhile
                self.signal_assigned(Vec::new()); // in this generation
                if partitions.is_empty() {
                    self.end_loss();
                } else {
                    let starts = self.resolver().spawn(partitions);
                    self.starting.push(starts);
                }
            }
            RebalanceEvent::Revoked { partitions, lost } => {
                if let Some(wait) = &mut self.assignment_wait {
                    wait.on_revoked(lost, Instant::now());
                }
                self.forget(&partitions);
                if lost {
                    self.monitor.on_lost();
                    self.give_up_commits(&partitions, &[]);
                    self.queue.signal(Signal::Lost(partitions.clone()));
                    unassign(&self.consumer, &partitions);
                } else {
                    let deadline = Instant::now() + self.revocation_timeout;
                    let (pending, signal) = PendingRevocation::new(partitions, Some(deadline));
                    self.queue.signal(signal);
                    self.revoking = Some(pending);
                }
            }
        }
    }

    /// Has the starts of partitions that were about to start again committed: the next run goes on there.
    fn note_restarts(&mut self) {
        for Restart { pending, next, topic_id, leader_epoch } in std::mem::take(&mut self.restarts) {
            for partition in pending.partitions {
                self.history.begin(partition, None, leader_epoch);
                log_refusal("assign", assign(&self.consumer, &[(partition, next)], &self.history)); // for the commit only
                self.topic_ids.set(partition, topic_id.clone());
                self.committer.note_start(partition, next);
            }
        }
    }

    /// Begins to read the partitions whose start has become known.
    fn serve_starts(&mut self) {
        if self.starting.is_empty() || self.consumer.assignment_lost() {
            return; // the event that takes lost partitions away follows
        }
        for mut starts in std::mem::take(&mut self.starting) {
            let is_done = loop {
                match starts.poll() {
                    None => break false,
                    Some(StartEvent::Known(known)) => self.start(known),
                    Some(StartEvent::Waiting(error)) => starts.reason = Some(self.degrade(self.reason(&error))),
                    Some(StartEvent::Unread(error)) => starts.reason = Some(self.degrade(error.to_string())),
                    Some(StartEvent::Failed(error)) => self.queue.fail(error),
                    Some(StartEvent::Done) => break true,
                }
            };
            if !is_done {
                self.starting.push(starts);
            } else if starts.reason.is_some() {
                self.show_problem();
            }
        }
    }

    /// Notes that what the group has given this member is read again.
    fn end_loss(&mut self) {
        if self.monitor.on_assigned() {
            self.show_problem();
        }
    }

    /// Shows the problem that is left, or that there is none any more.
    fn show_problem(&mut self) {
        if self.queue.has_failed() {
            return; // nothing is read any more
        }
        let problem = self.problem();
        self.degraded = problem.is_some();
        if !self.degraded {
            self.consumer.context().log.client_log.clear(); // its lines are about an outage that is over
        }
        self.queue.signal(Signal::Degraded(problem));
    }

    fn start(&mut self, mut starts: Vec<Start>) {
        if starts.is_empty() {
            return;
        }
        let refused = starts.iter_mut().filter_map(|start| self.check_start(start).err()).collect();
        if let Some(refusal) = resume::merge_refusals(refused) {
            return self.queue.fail(refusal.into());
        }
        let mut assignments = Vec::with_capacity(starts.len());
        for Start { assignment, topic_id, leader_epoch, reason, end, is_renewed, is_unnamed } in starts {
            let (partition, start) = (assignment.partition, assignment.start);
            self.history.begin(partition, assignment.fingerprint, leader_epoch);
            self.partitions.limit_stop(partition, end); // another member may have found that out, and gone on
            self.committer.on_start(partition, start, reason == StartReason::Recreated);
            if self.partitions.add(partition, start) > 1 {
                self.committer.rewind(partition); // another member may have gone back meanwhile
            }
            self.topic_ids.set(partition, topic_id);
            // Even if nothing is read there: the next run goes on there, and the other members of a bounded run wait for it.
            if matches!(reason, StartReason::NoCommit | StartReason::Gap | StartReason::Recreated) {
                self.committer.note_start(partition, start);
            }
            let commit = Commit { partition, next: start, fingerprint: assignment.fingerprint, delivered: 0 };
            if is_renewed {
                self.committer.renew(commit);
            } else if is_unnamed {
                self.committer.note_unnamed(commit);
            }
            assignments.push(assignment);
        }
        let starts: Vec<(Partition, NextOffset)> = assignments.iter().map(|of| (of.partition, of.start)).collect();
        self.reader.current = None;
        self.signal_assigned(assignments);
        self.assign(&starts);
        self.end_loss();
    }

    /// Decides where a partition starts whose topic was deleted, with the commits of the group, and created again while the group
    /// had lost it.
    fn check_start(&self, start: &mut Start) -> Result<(), RefusedPartition> {
        let partition = start.assignment.partition;
        let (StartReason::NoCommit, Some(wanted), Some(new)) =
            (start.reason, self.partitions.left_at(partition), start.topic_id.as_deref())
        else {
            return Ok(());
        };
        if let Some(old) = self.topic_ids.replaced(partition, Some(new)) {
            let low = start.assignment.start.0;
            let next = resume::recreated(partition, wanted, old, new, low, start.end, self.rules.on_gap)
                .map_err(|refusal| RefusedPartition::new(partition, refusal, wanted, low))?;
            resume::log_recreated(partition, wanted, next);
            (start.assignment.start, start.reason) = (next, StartReason::Recreated);
        }
        Ok(())
    }

    fn assign(&self, starts: &[(Partition, NextOffset)]) {
        if let Err(error) = assign(&self.consumer, starts, &self.history) {
            self.queue.fail(self.failure("start to read from").because(error).into());
        }
        let partitions: Vec<Partition> = starts.iter().map(|(partition, _)| *partition).collect();
        self.pause_like_the_others(&partitions);
    }

    /// Answers a revocation; `commits` are the last ones of its partitions, if they settled in time. Returns why they were refused.
    fn finish_revocation(&mut self, partitions: &[Partition], commits: Option<Vec<Commit>>) -> Result<(), NativeError> {
        let mut committed = Ok(());
        if let Some(commits) = commits {
            let logs = KnownLogs { topic_ids: &self.topic_ids, history: &self.history };
            committed = self.committer.commit_revoked(&self.consumer, logs, &commits);
            match &committed {
                Ok(()) => {
                    self.committer.on_last_confirmed(&commits);
                    let confirmed = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
                    self.queue.signal(Signal::Committed(confirmed));
                }
                Err(error) => {
                    let records = self.give_up(partitions, &commits);
                    tracing::warn!(%error, records, "The last commit of revoked partitions was refused; delivered records repeat.");
                }
            }
        } else {
            let records = self.give_up(partitions, &[]);
            let names = partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::warn!(
                partitions = names,
                records,
                "Records in flight did not settle in time; the next owner reads them again."
            );
            self.queue.signal(Signal::Lost(partitions.to_vec()));
        }
        unassign(&self.consumer, partitions);
        committed
    }

    /// Drops everything of these partitions that the engine has not got.
    fn forget(&mut self, partitions: &[Partition]) {
        self.ended = false;
        self.queue.forget(partitions);
        self.reader.builder.forget(partitions);
        self.reader.current = None;
        if let Some((_, records)) = &mut self.waiting {
            records.retain(|record| !partitions.contains(&record.partition));
        }
        self.committer.take_away(partitions);
        self.partitions.remove(partitions);
        self.reader.dropped.retain(|partition| !partitions.contains(partition));
        self.starting.retain(|starts| starts.forget(partitions));
        self.restarts.retain(|restart| !restart.pending.partitions.iter().any(|of| partitions.contains(of)));
        self.removals.retain(|pending| !pending.partitions.iter().any(|of| partitions.contains(of)));
    }

    /// Returns how long to wait for records or room: briefly, while an answer or a command is expected.
    fn timeout(&self, usual: Duration) -> Duration {
        let is_expected = self.revoking.is_some()
            || self.starting.iter().any(|starts| starts.since.elapsed() < START_EXPECTED)
            || !self.restarts.is_empty()
            || !self.removals.is_empty()
            || self.last_flush.is_some_and(|last| last.elapsed() < FLUSH_EXPECTED);
        if is_expected { SHORT_POLL_TIMEOUT } else { usual }
    }

    /// Polls until the batch is full, or no record is left.
    fn poll(&mut self) {
        if self.queue.has_failed() {
            return self.poll_paused();
        }
        let mut opened: Option<Instant> = None;
        let mut timeout = self.timeout(POLL_TIMEOUT);
        let consumer = Arc::clone(&self.consumer);
        while !self.reader.is_full() {
            match consumer.poll(timeout) {
                Some(Ok(message)) => {
                    self.check_topic_ids();
                    self.reader.push(&consumer, &self.partitions, &mut self.history, &message);
                    if self.reader.current.as_ref().is_some_and(|current| current.stop.is_none()) {
                        break; // dropped, and perhaps so are all that follow until the position is checked
                    }
                    timeout = Duration::ZERO;
                }
                Some(Err(error)) => return self.on_consumer_error(&error),
                None if self.reader.builder.len() == 0 => return,
                None => {
                    let opened = *opened.get_or_insert_with(Instant::now);
                    timeout = LINGER.saturating_sub(opened.elapsed());
                    if timeout.is_zero() {
                        break;
                    }
                }
            }
        }
        if self.degraded {
            self.monitor.on_read(); // perhaps fetched before the problem: the leaders tell whether it is over
        }
    }

    /// Polls on without reading, to stay a member.
    fn poll_paused(&mut self) {
        if !std::mem::replace(&mut self.paused, true) {
            self.with_unfinished("pause", rdkafka::consumer::Consumer::pause);
        }
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(self.timeout(PAUSED_POLL_TIMEOUT)) {
            // Fetched before the pause: it follows the batch that waits.
            Some(Ok(message)) => {
                self.check_topic_ids();
                self.reader.push(&consumer, &self.partitions, &mut self.history, &message);
            }
            Some(Err(error)) => self.on_consumer_error(&error),
            None => {}
        }
    }

    /// Queues the batch for the engine; without room it waits, and the consumer is polled on with all partitions paused.
    fn hand_over(&mut self) {
        let (since, records) = match self.waiting.take() {
            Some(waiting) => waiting,
            None if self.reader.builder.len() > 0 => (Instant::now(), self.reader.builder.take()),
            None => return self.report_positions(),
        };
        let runs: Vec<(Partition, i64)> = records
            .iter()
            .enumerate()
            .filter(|(at, record)| records.get(at + 1).is_none_or(|next| next.partition != record.partition))
            .map(|(_, record)| (record.partition, record.offset + 1))
            .collect();
        match self.queue.offer(records, self.timeout(OFFER_TIMEOUT)) {
            Ok(()) => {
                for (partition, next) in runs {
                    self.partitions.advance(partition, next);
                }
                if std::mem::take(&mut self.paused) {
                    self.with_unfinished("resume", rdkafka::consumer::Consumer::resume);
                    // After a resume the fetching threads of librdkafka sleep for up to a second, unless a request is sent.
                    self.monitor.ask_leaders(&self.consumer, &self.partitions);
                }
                self.check_end();
            }
            Err(records) => {
                self.waiting = Some((since, records));
                if since.elapsed() > PAUSE_AFTER {
                    self.poll_paused();
                }
            }
        }
    }

    /// Pauses partitions that have just been assigned if the others are paused, and resumes them if not: librdkafka keeps the pause
    /// of a partition while another member owns it.
    fn pause_like_the_others(&self, partitions: &[Partition]) {
        let list = list(partitions);
        if self.paused {
            log_refusal("pause", self.consumer.pause(&list));
        } else {
            log_refusal("resume", self.consumer.resume(&list));
        }
    }

    fn with_unfinished(
        &self,
        name: &str,
        call: impl Fn(&BaseConsumer<RebalanceContext>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let unfinished: Vec<Partition> = self.partitions.unfinished().collect();
        log_refusal(name, call(&self.consumer, &list(&unfinished)));
    }

    /// Reports how far the consumer has passed offsets without records.
    fn report_positions(&mut self) {
        let Ok(list) = self.consumer.position() else { return };
        let mut passed = Vec::new();
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let partition = Partition::new(element.topic(), element.partition());
            if self.reader.dropped.contains(&partition) {
                continue; // it has passed records
            }
            passed.extend(self.partitions.pass(partition, position).map(|next| (partition, next)));
        }
        if !passed.is_empty() {
            self.queue.positions(passed);
        }
        self.check_end();
    }

    /// Ends a bounded run once every planned partition has been read to its stop, by this member or by others.
    fn check_end(&mut self) {
        let is_waiting = self.revoking.is_some() || !self.starting.is_empty() || !self.restarts.is_empty();
        let is_settled = !self.ended && !is_waiting && self.removals.is_empty() && self.check.is_none();
        if is_settled && self.partitions.all_done() && self.monitor.others_are_done(&self.consumer, &self.partitions) {
            self.ended = true;
            self.queue.signal_in_order(Signal::End);
        }
    }

    fn run_checks(&mut self) {
        if let Some(mut ends) = self.monitor.log_ends(&self.consumer, &self.partitions) {
            let starting = self.starting.iter().flat_map(PendingStarts::partitions);
            ends.extend(starting.map(|partition| (partition, None)));
            self.queue.signal(Signal::LogEndOffsets(ends));
        }
        if self.monitor.has_asked_leaders(&self.consumer, &self.partitions, self.degraded) {
            self.monitor.check_unknown_topic(&self.consumer);
            self.show_problem();
        }
        if self.ended {
            return;
        }
        self.report_unassigned();
        let changes = self.monitor.topic_changes(&self.consumer, &self.partitions, &self.topic_ids);
        if !changes.recreated.is_empty() {
            self.request_check(changes.recreated, false);
        }
        if !changes.returned.is_empty() {
            // The group has not taken them from this member.
            self.partitions.remove(&changes.returned);
            let starts = self.resolver().spawn(changes.returned);
            self.starting.push(starts);
        }
        if let Subscription::Matching(matches) = &self.subscription
            && let Some(topics) = self.monitor.matching_topics(&self.consumer, matches)
            && topics != self.known_topics
        {
            tracing::info!(?topics, "The topics that match the pattern have changed.");
            self.known_topics = topics;
            if let Err(error) = self.subscribe() {
                self.queue.fail(error);
            }
        }
        // A topic of a pattern may disappear, but a bounded run has to read the planned ones.
        let needed = || match &self.subscription {
            Subscription::Matching(_) => self.partitions.planned_topics(),
            _ => self.known_topics.clone(),
        };
        if let Some(topic) = self.monitor.missing_topic(&self.consumer, needed) {
            let failure = Failure::new(self.missing(topic));
            self.queue.fail(failure.hint("create it again, or omit it").into());
        }
        self.check_end();
    }

    /// Reports that the group has given this member no partition for a while.
    fn report_unassigned(&mut self) {
        let has_partitions = !self.partitions.is_empty()
            || !self.partitions.absent().is_empty()
            || !self.starting.is_empty()
            || !self.restarts.is_empty()
            || self.revoking.is_some();
        // An outage is reported as such, and a pattern without topics subscribes to nothing.
        let is_outage = self.degraded && !self.monitor.is_joining_again();
        let is_over = has_partitions || is_outage || self.known_topics.is_empty();
        let reason = self.assignment_wait.as_mut().and_then(|wait| wait.report(is_over, Instant::now()));
        if let Some(reason) = reason {
            self.queue.signal(Signal::Unassigned(reason));
        }
    }

    /// Reports an error that passes, and fails with any other.
    fn on_consumer_error(&mut self, error: &KafkaError) {
        let section = &self.section.name;
        let failure = |what: &str| Failure::new(format!("{what} `{section}`")).because(error);
        let KafkaError::MessageConsumption(code) = error else {
            if let KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId) = error {
                return self.on_fenced();
            }
            return self.queue.fail(failure("cannot read from").into());
        };
        match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => {
                let owned: Vec<Partition> = self.partitions.iter().map(|(partition, _)| partition).collect();
                self.request_check(owned, true);
            }
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                let denied = failure("not allowed to read from");
                self.queue.fail(denied.hint("give the user READ on the topic and on the group").into());
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                self.on_unknown_topic();
                self.report_degraded(&error.clone().into());
            }
            RDKafkaErrorCode::InconsistentGroupProtocol => self.on_inconsistent_protocol(),
            RDKafkaErrorCode::InvalidSessionTimeout => {
                let refused = failure("cannot join the group on").hint(
                    "set `kafka.session.timeout.ms` between `group.min.session.timeout.ms` and `group.max.session.timeout.ms` of \
                     the brokers",
                );
                self.queue.fail(refused.into());
            }
            _ => self.report_degraded(&error.clone().into()),
        }
    }

    /// Another member has the partitions already: nothing of them may be written or committed any more.
    fn on_fenced(&mut self) {
        let partitions: Vec<Partition> = self.partitions.iter().map(|(partition, _)| partition).collect();
        self.forget(&partitions);
        self.queue.signal(Signal::Lost(partitions));
        let refusal = Refusal {
            reason: RefusalReason::InstanceFenced,
            what: format!("another member took over the instance id on `{}`", self.section.name),
            numbers: Vec::new(),
        };
        self.queue.fail(refusal.into());
    }

    /// The members of a group must share an assignment strategy. They may go away, but a bounded run does not wait for that.
    fn on_inconsistent_protocol(&mut self) {
        let refusal = Refusal {
            reason: RefusalReason::InconsistentProtocol,
            what: format!("the other members of the group on `{}` use another assignment strategy", self.section.name),
            numbers: Vec::new(),
        };
        if self.partitions.is_bounded() {
            self.queue.fail(refusal.into());
        } else {
            self.group_problem = Some(refusal.what);
            self.show_problem();
        }
    }

    /// Notes that the brokers do not know a topic; the run ends if that lasts.
    fn on_unknown_topic(&mut self) {
        let needed = || self.known_topics.clone();
        self.monitor.on_unknown_topic(&self.consumer, needed);
    }

    /// Shows that something is not read for now. A problem that is known says more than its consequences.
    fn report_degraded(&mut self, error: &NativeError) {
        self.degrade(self.problem().unwrap_or_else(|| self.reason(error)));
    }

    /// Drops what is read of topics that were re-created, once librdkafka has seen another id: the records that follow are those of the
    /// new topic at the old position.
    fn check_topic_ids(&mut self) {
        let changed = &self.consumer.context().topic_changed;
        if !changed.load(Ordering::Relaxed) {
            return;
        }
        changed.store(false, Ordering::Relaxed);
        let with_id = self.partitions.iter().map(|(partition, _)| partition).filter(|of| self.topic_ids.get(*of).is_some());
        let with_id: Vec<Partition> = with_id.collect();
        let topics: BTreeSet<Topic> = with_id.iter().map(|partition| partition.topic).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        // Another broker may learn of the new topic a moment later.
        for _ in 0..TOPIC_ID_ATTEMPTS {
            let ids = topic_ids(self.consumer.client(), &topics, TOPIC_ID_TIMEOUT).unwrap_or_default();
            let id = |partition: &Partition| ids.get(&partition.topic).map(String::as_str);
            let replaced = with_id.iter().filter(|partition| self.topic_ids.replaced(**partition, id(partition)).is_some());
            let replaced: Vec<Partition> = replaced.copied().collect();
            if !replaced.is_empty() {
                self.reader.current = None;
                self.reader.dropped.extend(&replaced);
                self.request_check(replaced, true);
                break;
            }
            std::thread::sleep(TOPIC_ID_BACKOFF);
        }
    }

    /// Has the positions of these partitions compared with their logs. `out_of_range`: librdkafka has stopped to read some of them.
    fn request_check(&mut self, partitions: impl IntoIterator<Item = Partition>, out_of_range: bool) {
        let check = self.check.get_or_insert_with(PositionCheck::default);
        check.partitions.extend(partitions);
        check.out_of_range |= out_of_range;
    }

    /// Compares positions with the logs: refuses to go on in a topic that was re-created and at an offset that is not in the log, or
    /// goes on where the rules say. The records before have been handed over.
    fn check_positions(&mut self) {
        let is_due = self.check.as_ref().is_some_and(|check| check.due.is_none_or(|due| due <= Instant::now()));
        // What changes behind the end is of the next run.
        if !is_due || self.ended || self.waiting.is_some() || self.reader.builder.len() > 0 || self.queue.has_failed() {
            return;
        }
        let check = self.check.take().expect("it is due");
        let partitions: Vec<Partition> = check.partitions.into_iter().filter(|of| self.partitions.get(*of).is_some()).collect();
        let logs = match Logs::fetch(&self.consumer, &partitions) {
            Ok(logs) => logs,
            Err(error) => return self.check_again(partitions, check.out_of_range, &error),
        };
        if let Err(error) = self.verify_before(&partitions, &logs) {
            return self.queue.fail(error);
        }
        let (mut unanswered, mut why) = (Vec::new(), None);
        let (mut refused, mut behind) = (Vec::new(), HashMap::new());
        for partition in partitions {
            let wanted = self.partitions.get(partition).expect("filtered above").next;
            let (topic, id) = (logs.topic(partition), logs.topic_id(partition));
            let replaced = self.topic_ids.replaced(partition, id).zip(id);
            let decided = match (logs.of(partition), replaced) {
                (Ok((low, end)), Some((old, new))) => {
                    let next = resume::recreated(partition, wanted, old, new, low, end, self.rules.on_gap);
                    next.map(|next| {
                        resume::log_recreated(partition, wanted, next);
                        self.partitions.limit_stop(partition, end);
                        self.restart(partition, next, id.map(ToOwned::to_owned), &logs);
                    })
                }
                (Ok((low, end)), None) if (low..=end).contains(&wanted) => {
                    if check.out_of_range {
                        self.reader.dropped.remove(&partition);
                        self.unassign(partition);
                        self.read_on_from(partition, NextOffset(wanted), &logs);
                    }
                    Ok(())
                }
                (Ok((low, _)), None) if wanted < low && check.behind.get(&partition) != Some(&wanted) => {
                    behind.insert(partition, wanted);
                    Ok(())
                }
                (Ok((low, end)), None) => resume::gap(partition, wanted, low, end, self.rules.on_gap)
                    .map(|next| self.go_on_behind_gap(partition, wanted, next, &logs)),
                (Err(_), Some((old, new))) if topic.is_some_and(|topic| !topic.has(partition)) => {
                    let count = topic.map_or(0, |topic| topic.partitions);
                    resume::removed(partition, wanted, old, new, count, self.rules.on_gap).map(|()| self.on_removed(partition))
                }
                (Err(error), _) => {
                    unanswered.push(partition);
                    why = Some(error);
                    Ok(())
                }
            };
            if let Err(refusal) = decided {
                let low = logs.of(partition).map_or(wanted, |(low, _)| low);
                refused.push(RefusedPartition::new(partition, refusal, wanted, low));
            }
        }
        if let Some(refusal) = resume::merge_refusals(refused) {
            return self.queue.fail(refusal.into());
        }
        if !behind.is_empty() {
            self.request_check(behind.keys().copied(), check.out_of_range);
            let again = self.check.as_mut().expect("just requested");
            again.due = Some(Instant::now() + BEHIND_BACKOFF);
            again.behind = behind;
        }
        if let Some(error) = why {
            self.check_again(unanswered, check.out_of_range, &error);
        }
        self.check_end();
    }

    /// Repeats a check that no broker answered; fails if waiting does not help.
    fn check_again(&mut self, partitions: Vec<Partition>, out_of_range: bool, error: &NativeError) {
        let is_unknown = error.is_unknown_partition() || error.code == RDKafkaErrorCode::UnknownTopicOrPartition;
        if !error.is_outage() && !is_unknown {
            return self.queue.fail(self.failure("list the offsets of").because(error).into());
        }
        self.request_check(partitions, out_of_range);
        self.check.as_mut().expect("just requested").due = Some(Instant::now() + RETRY_BACKOFF);
        if is_unknown {
            self.on_unknown_topic();
        }
        self.report_degraded(error);
    }

    /// Compares what was before the positions with what the logs hold there: a log that was truncated and has grown again holds other
    /// records at the same offsets.
    fn verify_before(&self, partitions: &[Partition], logs: &Logs) -> Result<(), ConnectorError> {
        let before = |partition: &Partition| {
            let (low, end) = logs.of(*partition).ok()?;
            let is_replaced = self.topic_ids.replaced(*partition, logs.topic_id(*partition)).is_some();
            let next = self.partitions.get(*partition)?.next;
            let mut before = self.history.before(*partition, next, self.committer.fingerprint(*partition)).since(low);
            before.last = before.last.filter(|last| last.offset < end);
            before.leader_epoch = before.leader_epoch.filter(|_| next <= end); // else the log is shorter
            (!is_replaced).then_some(before)
        };
        let before: Vec<_> = partitions.iter().filter_map(before).collect();
        lookup::verify_before_blocking(&self.section, &before, self.read_uncommitted)
    }

    /// Goes on at `next`, which is where the log begins again, or its end.
    fn go_on_behind_gap(&mut self, partition: Partition, wanted: i64, next: NextOffset, logs: &Logs) {
        resume::log_gap(partition, wanted, next);
        if next.0 < wanted {
            if let Ok((_, end)) = logs.of(partition) {
                self.partitions.limit_stop(partition, end);
            }
            return self.restart(partition, next, self.topic_ids.get(partition).map(ToOwned::to_owned), logs);
        }
        // The records before the gap settle and are committed as ever.
        self.reader.dropped.remove(&partition);
        self.unassign(partition);
        self.partitions.advance(partition, next.0);
        self.queue.positions(vec![(partition, next)]);
        self.read_on_from(partition, next, logs);
    }

    /// Reads no more of a partition that the re-created topic does not have.
    fn on_removed(&mut self, partition: Partition) {
        tracing::warn!(%partition, "The topic was re-created without this partition; the run reads the others.");
        let revocation = self.release_in_order(partition);
        self.removals.push(revocation);
        self.partitions.note_absent(partition);
    }

    /// Starts a partition again at `next` in the topic with this id, once the records before have settled.
    fn restart(&mut self, partition: Partition, next: NextOffset, topic_id: Option<String>, logs: &Logs) {
        let pending = self.release_in_order(partition);
        self.restarts.push(Restart { pending, next, topic_id, leader_epoch: logs.leader_epoch(partition) });
    }

    /// Takes a partition out of the run behind the records that were read of it.
    fn release_in_order(&mut self, partition: Partition) -> PendingRevocation {
        self.unassign(partition);
        self.reader.dropped.remove(&partition);
        self.committer.forget(&[partition]);
        self.partitions.remove(&[partition]);
        let (pending, signal) = PendingRevocation::new(vec![partition], None);
        self.queue.signal_in_order(signal);
        pending
    }

    fn unassign(&mut self, partition: Partition) {
        self.reader.current = None;
        log_refusal("unassign", self.consumer.incremental_unassign(&list([&partition])));
    }

    /// Hands an assignment over, with the group's member in this generation.
    fn signal_assigned(&self, assigned: Vec<Assignment>) {
        self.members.push(self.consumer.group_metadata());
        self.queue.signal(Signal::Assigned(assigned));
    }

    fn start_again(&mut self, partition: Partition, restart: &Restart) {
        let start = restart.next;
        self.partitions.add(partition, start);
        self.topic_ids.set(partition, restart.topic_id.clone());
        self.history.begin(partition, None, restart.leader_epoch);
        self.committer.note_start(partition, start);
        self.signal_assigned(vec![Assignment { partition, start, fingerprint: None, extension: None }]);
        self.read_from(partition, start);
    }

    /// Reads a partition from a position that was compared with its log just now.
    fn read_on_from(&mut self, partition: Partition, next: NextOffset, logs: &Logs) {
        let before = self.history.before(partition, next.0, None);
        self.history.begin(partition, before.last, logs.leader_epoch(partition));
        self.read_from(partition, next);
    }

    fn read_from(&self, partition: Partition, start: NextOffset) {
        if self.consumer.assignment_lost() {
            return; // the event that takes it away follows
        }
        log_refusal("assign", assign(&self.consumer, &[(partition, start)], &self.history));
        self.pause_like_the_others(&[partition]);
    }
}
