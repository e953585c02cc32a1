//! Rebalances. The consumer's callback only passes the event on: the poller answers it between two polls.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::admin::{OffsetSpec, list_offsets, topic_ids};
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::commit_metadata::{CommitMetadata, CommittedOffset};
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::resume::{self, ResumeRules, StartReason};
use crate::connectors::kafka::source::record_queue::RecordQueue;
use crate::pipeline::{Assignment, Commit, ConnectorError, Failure, Revocation, Signal};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Topic};

/// Timeout of one request about newly assigned partitions.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the brokers are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

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
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
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

/// Answers an assignment: reads each partition from its start.
pub(crate) fn assign(consumer: &BaseConsumer<RebalanceContext>, starts: &[(Partition, NextOffset)]) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(starts.len());
    for (partition, start) in starts {
        list.add_partition_offset(partition.topic.name(), partition.index, Offset::Offset(start.0))?;
    }
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&list),
        RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
    }
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
    pub(crate) consumer: Arc<BaseConsumer<RebalanceContext>>,
    pub(crate) section: KafkaSection,
    pub(crate) rules: ResumeRules,
    pub(crate) read_uncommitted: bool,
    /// Commits that were verified when the run was planned.
    pub(crate) verified: Arc<HashMap<Partition, CommittedOffset>>,
    pub(crate) queue: Arc<RecordQueue>,
}

/// The starts of newly assigned partitions, once they are known.
pub(crate) type ResolvedStarts = mpsc::Receiver<Result<Starts, ConnectorError>>;

/// Where newly assigned partitions start, and the ids of their topics.
#[derive(Default)]
pub(crate) struct Starts {
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) topic_ids: HashMap<Topic, String>,
}

impl StartResolver {
    /// Starts to resolve.
    pub(crate) fn spawn(self, partitions: Vec<Partition>) -> ResolvedStarts {
        let (sender, resolved) = mpsc::channel();
        let failed = sender.clone();
        let resolve = move || {
            // A poller that closes does not wait.
            let _ = sender.send(self.resolve(&partitions));
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-assignment".to_owned()).spawn(resolve) {
            let _ = failed.send(Err(Failure::new("cannot start a thread").because(error).into()));
        }
        resolved
    }

    fn resolve(&self, partitions: &[Partition]) -> Result<Starts, ConnectorError> {
        let mut degraded = false;
        loop {
            match PartitionFacts::fetch(&self.consumer, partitions) {
                Ok(facts) => {
                    if degraded {
                        self.queue.signal(Signal::Degraded(None));
                    }
                    let assignments = self.decide(partitions, &facts)?;
                    return Ok(Starts { assignments, topic_ids: facts.topic_ids });
                }
                Err(error) if self.consumer.context().closing.load(Ordering::Relaxed) => {
                    return Err(Failure::new(format!("cannot resume on `{}`", self.section.name)).because(error).into());
                }
                Err(error) => {
                    degraded = true;
                    self.queue.signal(Signal::Degraded(Some(error.to_string())));
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    fn decide(&self, partitions: &[Partition], facts: &PartitionFacts) -> Result<Vec<Assignment>, ConnectorError> {
        let mut starts = Vec::with_capacity(partitions.len());
        let mut unverified = Vec::new();
        for partition in partitions {
            let committed = facts.committed.get(partition);
            let (low, end) = (facts.low[partition], facts.end[partition]);
            let topic_id = facts.topic_ids.get(&partition.topic).map(String::as_str);
            let start = resume::resume(*partition, committed, low, end, topic_id, &self.rules)?;
            let verified = self.verified.get(partition) == committed;
            let fingerprint = start.fingerprint.filter(|last| !verified && last.offset >= low);
            unverified.extend(fingerprint.map(|last| (*partition, last)));
            if start.reason == StartReason::Gap {
                resume::log_gap(*partition, committed.map_or(low, |committed| committed.next.0), start.next);
            }
            let metadata = committed.and_then(|committed| CommitMetadata::parse(&committed.metadata));
            let extension = metadata.and_then(|metadata| metadata.extension().map(ToOwned::to_owned));
            starts.push(Assignment { partition: *partition, start: start.next, fingerprint: start.fingerprint, extension });
        }
        lookup::verify_fingerprint_blocking(&self.section, &unverified, self.read_uncommitted)?;
        Ok(starts)
    }
}

/// What the brokers know about partitions.
struct PartitionFacts {
    committed: HashMap<Partition, CommittedOffset>,
    low: HashMap<Partition, i64>,
    end: HashMap<Partition, i64>,
    topic_ids: HashMap<Topic, String>,
}

impl PartitionFacts {
    fn fetch(consumer: &BaseConsumer<RebalanceContext>, partitions: &[Partition]) -> Result<Self, NativeError> {
        let committed = consumer.committed_offsets(list(partitions), REQUEST_TIMEOUT)?;
        let mut known = HashMap::new();
        for element in committed.elements() {
            element.error()?;
            if let Offset::Offset(next) = element.offset() {
                let committed = CommittedOffset { next: NextOffset(next), metadata: element.metadata().to_owned() };
                known.insert(Partition::new(element.topic(), element.partition()), committed);
            }
        }
        let topics: BTreeSet<Topic> = partitions.iter().map(|partition| partition.topic).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        let topic_ids = topic_ids(consumer.client(), &topics, REQUEST_TIMEOUT)?;
        let offsets = |of| list_offsets(consumer.client(), partitions, of);
        Ok(Self { committed: known, low: offsets(OffsetSpec::Start)?, end: offsets(OffsetSpec::Log)?, topic_ids })
    }
}
