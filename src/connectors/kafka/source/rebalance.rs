//! Rebalances. The consumer's callback only passes the event on: the poller answers it between two polls.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::admin::{ListedOffset, OffsetSpec, PartitionOffset, describe_topics, partition_offsets};
use crate::connectors::kafka::client_log::{ClientLog, KeepsLog, LogContext};
use crate::connectors::kafka::commit_metadata::{CommitMetadata, CommittedOffset};
use crate::connectors::kafka::librdkafka::admin::TopicDescription;
use crate::connectors::kafka::librdkafka::{NativeError, leader_epochs, set_leader_epochs};
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::resume::{self, LogBefore, ResumeRules, StartReason};
use crate::connectors::kafka::source::read_history::ReadHistory;
use crate::pipeline::{Assignment, Commit, ConnectorError, Failure, Revocation, Signal};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Topic};

/// Timeout of one request about newly assigned partitions.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the brokers are asked again; it doubles with each attempt.
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(500);
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(5);

/// An event of the group that has to be answered with an assign or unassign call.
pub(crate) enum RebalanceEvent {
    Assigned(Vec<Partition>),
    /// `lost`: another member may own the partitions already.
    Revoked {
        partitions: Vec<Partition>,
        lost: bool,
    },
}

/// The consumer's callbacks.
#[derive(Clone)]
pub(crate) struct RebalanceContext {
    pub(crate) log: LogContext,
    pub(crate) events: mpsc::Sender<RebalanceEvent>,
    /// Whether the consumer is closing: no poller answers any more.
    pub(crate) closing: Arc<AtomicBool>,
    /// Whether librdkafka has seen another id of a topic since this was last reset. It says so before it fetches by that id.
    pub(crate) topic_changed: Arc<AtomicBool>,
    /// Whether debug lines are only wanted for [`Self::topic_changed`].
    pub(crate) is_quiet: bool,
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if self.is_quiet && matches!(level, RDKafkaLogLevel::Debug) {
            // A hint only: the brokers are asked for the id. The first id of a topic follows one of zeros.
            if facility == "METADATA" && message.contains(" changed id from ") && !message.contains(" from AAAAAAAAAAAAAAAAAAAAA")
            {
                self.topic_changed.store(true, Ordering::Relaxed);
            }
            return;
        }
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl KeepsLog for RebalanceContext {
    fn client_log(&self) -> Option<ClientLog> {
        self.log.client_log()
    }
}

impl ConsumerContext for RebalanceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|of| Partition::new(of.topic(), of.partition())).collect();
        if self.closing.load(Ordering::Relaxed) {
            return unassign(consumer, &partitions);
        }
        let event = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            RebalanceEvent::Assigned(partitions)
        } else {
            RebalanceEvent::Revoked { partitions, lost: consumer.assignment_lost() }
        };
        // The poller owns the receiver and outlives the last poll.
        let _ = self.events.send(event);
    }
}

/// Reads more partitions, from their starts. A start has the leader epoch of the log that it was compared with: when another leader is
/// elected, librdkafka asks it whether its log has as much of that epoch, also if no record is read meanwhile.
pub(crate) fn assign(
    consumer: &BaseConsumer<RebalanceContext>,
    starts: &[(Partition, NextOffset)],
    history: &ReadHistory,
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(starts.len());
    for (partition, start) in starts {
        list.add_partition_offset(partition.topic.name(), partition.index, Offset::Offset(start.0))?;
    }
    let epochs: Vec<_> = starts.iter().map(|(partition, start)| history.leader_epoch(*partition, start.0)).collect();
    set_leader_epochs(&mut list, &epochs);
    consumer.incremental_assign(&list)
}

/// Answers a revocation.
pub(crate) fn unassign(consumer: &BaseConsumer<RebalanceContext>, partitions: &[Partition]) {
    let outcome = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.assignment().and_then(|assigned| {
            // librdkafka refuses the whole list for one partition that is unassigned already.
            let is_assigned = |of: &&Partition| assigned.find_partition(of.topic.name(), of.index).is_some();
            consumer.incremental_unassign(&list(partitions.iter().filter(is_assigned)))
        }),
        _ => consumer.unassign(),
    };
    log_refusal("unassign", outcome);
}

/// Returns a list without offsets.
pub(crate) fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(partition.topic.name(), partition.index);
    }
    list
}

pub(crate) fn log_refusal(call: &str, outcome: KafkaResult<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "librdkafka refused to {call}.");
    }
}

/// A revocation that waits until the engine has settled what is in flight.
pub(crate) struct PendingRevocation {
    pub(crate) partitions: Vec<Partition>,
    released: mpsc::Receiver<Vec<Commit>>,
    deadline: Option<Instant>,
}

impl PendingRevocation {
    /// Returns a revocation, and the signal for the engine.
    pub(crate) fn new(partitions: Vec<Partition>, deadline: Option<Instant>) -> (Self, Signal) {
        let (revocation, released) = Revocation::new(partitions.clone());
        (Self { partitions, released, deadline }, Signal::Revoked(revocation))
    }

    /// Returns the last commits once the engine has released the partitions, or `None` in their place if it is too late.
    #[allow(clippy::option_option)] // whether it is over, and with which commits
    pub(crate) fn poll(&self) -> Option<Option<Vec<Commit>>> {
        match self.released.try_recv() {
            Ok(commits) => Some(Some(commits)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => self.deadline.is_some_and(|deadline| Instant::now() > deadline).then_some(None),
        }
    }
}

/// Decides where newly assigned partitions start. It asks the cluster, so it runs on a thread of its own: the poller keeps polling.
pub(crate) struct StartResolver {
    pub(crate) consumer: Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
    pub(crate) section: KafkaSection,
    pub(crate) rules: ResumeRules,
    pub(crate) read_uncommitted: bool,
    /// Commits that were verified when the run was planned.
    pub(crate) verified: Arc<HashMap<Partition, CommittedOffset>>,
}

/// The starts of newly assigned partitions, of each as soon as it is known. The resolver ends when this is dropped.
pub(crate) struct PendingStarts {
    /// The partitions without a known start.
    wanted: Arc<Mutex<BTreeSet<Partition>>>,
    events: mpsc::Receiver<StartEvent>,
    _stop: mpsc::Sender<()>,
    pub(crate) since: Instant,
    /// Why some starts are not known yet.
    pub(crate) reason: Option<String>,
}

/// An answer of the resolver.
pub(crate) enum StartEvent {
    Known(Vec<Start>),
    /// The brokers do not answer for some partitions; they are asked again.
    Waiting(NativeError),
    /// What the logs hold before some starts cannot be read for now; it is read again.
    Unread(ConnectorError),
    Failed(ConnectorError),
    /// Every start is known.
    Done,
}

/// Where a partition starts, and the id of its topic.
pub(crate) struct Start {
    pub(crate) assignment: Assignment,
    pub(crate) topic_id: Option<String>,
    /// The leader epoch in which the start was compared with the log.
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) reason: StartReason,
    /// The end of the log.
    pub(crate) end: i64,
    /// Whether it is committed again: another flow committed it, or the commit names no leader epoch.
    pub(crate) is_renewed: bool,
    /// Whether its commit names no target topic.
    pub(crate) is_unnamed: bool,
}

fn lock(partitions: &Mutex<BTreeSet<Partition>>) -> MutexGuard<'_, BTreeSet<Partition>> {
    partitions.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PendingStarts {
    /// Returns the next answer, without partitions that were taken away meanwhile; `None` if there is none yet.
    pub(crate) fn poll(&self) -> Option<StartEvent> {
        match self.events.try_recv() {
            Ok(StartEvent::Known(mut starts)) => {
                let mut wanted = lock(&self.wanted);
                starts.retain(|start| wanted.remove(&start.assignment.partition));
                Some(StartEvent::Known(starts))
            }
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(StartEvent::Done),
        }
    }

    /// Drops partitions that were taken away; returns whether others are left.
    pub(crate) fn forget(&self, partitions: &[Partition]) -> bool {
        let mut wanted = lock(&self.wanted);
        wanted.retain(|partition| !partitions.contains(partition));
        !wanted.is_empty()
    }

    /// Returns the partitions without a known start.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        lock(&self.wanted).iter().copied().collect()
    }
}

impl StartResolver {
    /// Starts to resolve.
    pub(crate) fn spawn(self, partitions: Vec<Partition>) -> PendingStarts {
        let (sender, events) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let wanted = Arc::new(Mutex::new(partitions.into_iter().collect()));
        let failed = sender.clone();
        let resolve = {
            let wanted = Arc::clone(&wanted);
            move || self.resolve(&wanted, &sender, &stopped)
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-assignment".to_owned()).spawn(resolve) {
            let _ = failed.send(StartEvent::Failed(Failure::new("cannot start a thread").because(error).into()));
        }
        PendingStarts { wanted, events, _stop: stop, since: Instant::now(), reason: None }
    }

    /// Asks the cluster until every start is known. A poller that closes does not wait for the answers.
    fn resolve(&self, wanted: &Mutex<BTreeSet<Partition>>, answers: &mpsc::Sender<StartEvent>, stopped: &mpsc::Receiver<()>) {
        let mut backoff = RETRY_BACKOFF;
        let mut known = BTreeSet::new();
        loop {
            let partitions: Vec<Partition> = lock(wanted).difference(&known).copied().collect();
            let (waiting, starts) = match PartitionFacts::fetch(&self.consumer, &partitions) {
                Ok(facts) => {
                    let waiting = partitions.iter().find_map(|partition| facts.of(*partition).err());
                    let answered: Vec<Partition> = partitions.into_iter().filter(|of| facts.of(*of).is_ok()).collect();
                    (waiting, self.decide(&answered, &facts))
                }
                Err(error) => (Some(error), Ok(Vec::new())),
            };
            let waiting = match starts {
                Ok(starts) => {
                    known.extend(starts.iter().map(|start| start.assignment.partition));
                    let _ = answers.send(StartEvent::Known(starts));
                    waiting.map(StartEvent::Waiting)
                }
                Err(error) if error.is_passing() => Some(StartEvent::Unread(error)),
                Err(error) => {
                    let _ = answers.send(StartEvent::Failed(error));
                    return;
                }
            };
            let Some(waiting) = waiting else { return };
            let _ = answers.send(waiting);
            if stopped.recv_timeout(backoff) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            backoff = (2 * backoff).min(MAX_RETRY_BACKOFF);
        }
    }

    /// Decides where the partitions start.
    ///
    /// # Errors
    /// When it is not safe to resume some of them, with the numbers of all; when the cluster does not answer.
    fn decide(&self, partitions: &[Partition], facts: &PartitionFacts) -> Result<Vec<Start>, ConnectorError> {
        let mut starts = Vec::with_capacity(partitions.len());
        let (mut unverified, mut refused) = (Vec::new(), Vec::new());
        let (mut gaps, mut recreated) = (Vec::new(), Vec::new());
        for partition in partitions {
            let (committed, low, end) = facts.of(*partition).expect("only those with an answer");
            let topic_id = facts.logs.topic_id(*partition);
            let start = match resume::resume_or_refused(*partition, committed, (low, end), topic_id, &self.rules)? {
                Ok(start) => start,
                Err(partition) => {
                    refused.push(partition);
                    continue;
                }
            };
            let resumed = committed.filter(|_| start.reason == StartReason::Committed);
            if let Some(committed) = resumed.filter(|committed| self.verified.get(partition) != Some(*committed)) {
                unverified.push(LogBefore::committed(*partition, committed, self.read_uncommitted).since(low));
            }
            let wanted = committed.map_or(low, |committed| committed.next.0);
            match start.reason {
                StartReason::Gap => gaps.push((*partition, wanted, start.next)),
                StartReason::Recreated => recreated.push((*partition, wanted, start.next)),
                _ => {}
            }
            let metadata = committed.and_then(|committed| CommitMetadata::parse(&committed.metadata));
            let kept = metadata.as_ref().filter(|_| start.reason == StartReason::Committed);
            let leader_epoch = facts.logs.leader_epoch(*partition);
            // A commit that an earlier version or the start of the group wrote names no leader epoch.
            let gets_epoch = leader_epoch.is_some() && committed.is_some_and(|committed| committed.leader_epoch.is_none());
            let is_renewed = kept.is_some_and(|metadata| gets_epoch || metadata.flow != self.rules.flow);
            // Of another topic: the user goes on in the one that took its place, with or without new records.
            let names_target = |named: &str| self.rules.target_ids.get(partition.topic).as_deref() == Some(named);
            let is_unnamed = kept.is_some_and(|metadata| !metadata.target_id().is_some_and(names_target));
            let extension = metadata.and_then(|metadata| metadata.extension().map(ToOwned::to_owned));
            let assignment = Assignment { partition: *partition, start: start.next, fingerprint: start.fingerprint, extension };
            let topic_id = topic_id.map(ToOwned::to_owned);
            starts.push(Start { assignment, topic_id, leader_epoch, reason: start.reason, end, is_renewed, is_unnamed });
        }
        if let Some(refusal) = resume::merge_refusals(refused) {
            return Err(refusal.into());
        }
        lookup::verify_before_blocking(&self.section, &unverified, self.read_uncommitted)?;
        resume::log_gaps(&gaps);
        for (partition, wanted, next) in recreated {
            resume::log_recreated(partition, wanted, next);
        }
        Ok(starts)
    }
}

/// The topics of partitions and their logs, as the brokers know them now.
pub(crate) struct Logs {
    /// Empty on brokers without an admin interface.
    topics: HashMap<Topic, Result<TopicDescription, NativeError>>,
    low: HashMap<Partition, PartitionOffset>,
    end: HashMap<Partition, PartitionOffset>,
}

impl Logs {
    pub(crate) fn fetch(consumer: &BaseConsumer<RebalanceContext>, partitions: &[Partition]) -> Result<Self, NativeError> {
        let topics: BTreeSet<Topic> = partitions.iter().map(|partition| partition.topic).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        let topics = describe_topics(consumer.client(), &topics, REQUEST_TIMEOUT)?;
        let exists = |partition: &Partition| match topics.get(&partition.topic) {
            None => true,
            Some(topic) => topic.as_ref().is_ok_and(|topic| topic.has(*partition)),
        };
        let existing: Vec<Partition> = partitions.iter().copied().filter(exists).collect();
        let offsets = |of| partition_offsets(consumer.client(), &existing, of);
        let (low, end) = (offsets(OffsetSpec::Start)?, offsets(OffsetSpec::Log)?);
        Ok(Self { topics, low: low.into_iter().collect(), end: end.into_iter().collect() })
    }

    /// Returns the description of a partition's topic.
    pub(crate) fn topic(&self, partition: Partition) -> Option<&TopicDescription> {
        self.topics.get(&partition.topic)?.as_ref().ok()
    }

    pub(crate) fn topic_id(&self, partition: Partition) -> Option<&str> {
        self.topic(partition)?.id.as_deref()
    }

    /// Returns the leader epoch in which the log end offset of a partition was found.
    pub(crate) fn leader_epoch(&self, partition: Partition) -> Option<i32> {
        self.end.get(&partition)?.as_ref().ok()?.as_ref()?.leader_epoch
    }

    /// Returns the log start and end offsets of a partition, or why they are unknown.
    pub(crate) fn of(&self, partition: Partition) -> Result<(i64, i64), NativeError> {
        if let Some(Err(error)) = self.topics.get(&partition.topic) {
            return Err(error.clone());
        }
        let offset = |offsets: &HashMap<Partition, PartitionOffset>| match offsets.get(&partition) {
            Some(Ok(Some(ListedOffset { offset, .. }))) => Ok(*offset),
            Some(Err(error)) => Err(NativeError { text: format!("{partition}: {error}"), ..error.clone() }),
            Some(Ok(None)) | None => {
                let error = NativeError::no_answer();
                Err(NativeError { text: format!("{partition}: {error}"), ..error })
            }
        };
        Ok((offset(&self.low)?, offset(&self.end)?))
    }
}

/// What the brokers know about partitions, and the group's positions.
pub(crate) struct PartitionFacts {
    committed: HashMap<Partition, Result<CommittedOffset, NativeError>>,
    pub(crate) logs: Logs,
}

impl PartitionFacts {
    pub(crate) fn fetch(consumer: &BaseConsumer<RebalanceContext>, partitions: &[Partition]) -> Result<Self, NativeError> {
        let list = consumer.committed_offsets(list(partitions), REQUEST_TIMEOUT)?;
        let mut committed = HashMap::new();
        for (element, leader_epoch) in list.elements().into_iter().zip(leader_epochs(&list)) {
            let answer = match (element.error(), element.offset()) {
                (Err(error), _) => Err(error.into()),
                (Ok(()), Offset::Offset(next)) => {
                    Ok(CommittedOffset { next: NextOffset(next), metadata: element.metadata().to_owned(), leader_epoch })
                }
                (Ok(()), _) => continue,
            };
            committed.insert(Partition::new(element.topic(), element.partition()), answer);
        }
        Ok(Self { committed, logs: Logs::fetch(consumer, partitions)? })
    }

    /// Returns the group's position in a partition, if it is known.
    pub(crate) fn committed(&self, partition: Partition) -> Option<NextOffset> {
        self.committed.get(&partition)?.as_ref().ok().map(|committed| committed.next)
    }

    /// Returns the commit, and the log start and end offsets of a partition, or why they are unknown.
    pub(crate) fn of(&self, partition: Partition) -> Result<(Option<&CommittedOffset>, i64, i64), NativeError> {
        let committed = self.committed.get(&partition).map(|answer| answer.as_ref().map_err(Clone::clone)).transpose()?;
        let (low, end) = self.logs.of(partition)?;
        Ok((committed, low, end))
    }
}
