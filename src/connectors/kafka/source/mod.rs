//! Records out of Kafka. A thread of its own polls: rebalances happen on the thread that polls.

mod assignment_wait;
pub(crate) mod batch_builder;
mod committer;
mod given_up;
pub(crate) mod membership;
mod monitor;
mod partitions;
mod poller;
mod read_history;
mod rebalance;
mod record_queue;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use tokio::sync::oneshot;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::bootstrap::BootstrapServers;
use crate::connectors::kafka::plan::{PlannedPartition, ReadPlan};
use crate::connectors::kafka::resume::ResumeRules;
use crate::connectors::kafka::source::assignment_wait::AssignmentWait;
use crate::connectors::kafka::source::batch_builder::BatchBuilder;
use crate::connectors::kafka::source::committer::Committer;
use crate::connectors::kafka::source::membership::{GroupMetadata, Members};
use crate::connectors::kafka::source::monitor::Monitor;
use crate::connectors::kafka::source::partitions::{OwnedPartitions, PlannedStop, Stops, TopicIds};
use crate::connectors::kafka::source::poller::{LAST_COMMIT_TIMEOUT, Poller, PollerCommand, Reader};
use crate::connectors::kafka::source::read_history::ReadHistory;
use crate::connectors::kafka::source::rebalance::RebalanceContext;
use crate::connectors::kafka::source::record_queue::RecordQueue;
use crate::pipeline::transaction::TransactionSource;
use crate::pipeline::{Commit, ConnectorError, Demand, Failure, Signal, Source};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition};

pub use crate::connectors::kafka::source::poller::Subscription;

/// Timeout of leaving the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that a revocation waits for records in flight.
const MAX_REVOCATION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a source reads.
pub struct SourceOptions {
    /// The group to join, or at least to commit to.
    pub group: String,
    /// The `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Topics are read as a member of the group, partitions without joining it.
    pub subscription: Subscription,
    /// What a member does at committed offsets that it cannot use.
    pub rules: ResumeRules,
    /// Whether to read records of open and aborted transactions.
    pub read_uncommitted: bool,
    /// The most records in a batch.
    pub batch: usize,
    /// Bytes in the queue to the engine.
    pub buffer_bytes: usize,
    /// How often commits are sent; without it the target commits the offsets.
    pub commit_interval: Option<Duration>,
}

/// A Kafka cluster as a source.
pub struct KafkaSource {
    section: String,
    queue: Arc<RecordQueue>,
    commands: mpsc::Sender<PollerCommand>,
    members: Members,
    /// The group's member as of the last assignment that was handed over.
    member: Option<GroupMetadata>,
    stops: Stops,
    /// Assignments of each partition that the engine has seen: the epoch of its commits.
    epochs: HashMap<Partition, u64>,
    /// Closed when the consumer has left the group.
    left: oneshot::Receiver<()>,
}

impl KafkaSource {
    /// Joins the group, or assigns the partitions, and starts to read as planned.
    ///
    /// # Errors
    /// When the client cannot be created: a property that librdkafka does not know, an unreadable file.
    pub fn open(section: &KafkaSection, plan: &ReadPlan, options: SourceOptions) -> Result<Self, ConnectorError> {
        let (group, instance) = (&options.group, options.instance_id.as_deref());
        let mut config = consumer_config(section, group, instance, options.read_uncommitted)?;
        let (session, is_static) = (session_timeout(&config), config.get("group.instance.id").is_some());
        let is_quiet = config.get("debug").is_none();
        if is_quiet {
            config.set("debug", "metadata").set_log_level(RDKafkaLogLevel::Debug);
        }
        let stop = |planned: &PlannedPartition| Some(PlannedStop::new(planned.start, planned.stop?));
        let stops: HashMap<Partition, PlannedStop> =
            plan.partitions.iter().filter_map(|planned| Some((planned.partition, stop(planned)?))).collect();
        let partitions = OwnedPartitions::new(stops);
        let stops = partitions.stops();
        let verified = plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.committed.clone()?)));
        let (commands, received) = mpsc::channel();
        let (event_sender, events) = mpsc::channel();
        let context = RebalanceContext {
            log: LogContext::default(),
            events: event_sender,
            closing: Arc::default(),
            topic_changed: Arc::default(),
            is_quiet,
        };
        let consumer: Authenticated<BaseConsumer<RebalanceContext>> = create_client(section, &config, context)?;
        let queue = Arc::new(RecordQueue::new(2 * options.batch, options.buffer_bytes));
        let members = Members::default();
        let is_member = !matches!(options.subscription, Subscription::Assigned(_));
        let poller = Poller {
            members: members.clone(),
            committer: Committer::new(&consumer, &options.rules, options.commit_interval),
            consumer: Arc::new(consumer),
            commands: received,
            events,
            bootstrap: BootstrapServers::new(),
            queue: Arc::clone(&queue),
            partitions,
            monitor: Monitor::new(),
            reader: Reader {
                builder: BatchBuilder::default(),
                max_records: options.batch,
                max_bytes: (options.buffer_bytes / 8).max(1),
                current: None,
                dropped: BTreeSet::new(),
            },
            section: section.clone(),
            subscription: options.subscription,
            assignment_wait: is_member.then(|| AssignmentWait::new(session, is_static, Instant::now())),
            is_static,
            known_topics: plan.partitions.iter().map(|planned| planned.partition.topic).collect(),
            rules: options.rules,
            read_uncommitted: options.read_uncommitted,
            verified: Arc::new(verified.collect()),
            revocation_timeout: (session / 2).min(MAX_REVOCATION_TIMEOUT),
            revoking: None,
            starting: Vec::new(),
            restarts: Vec::new(),
            removals: Vec::new(),
            waiting: None,
            paused: false,
            last_flush: None,
            check: None,
            topic_ids: TopicIds::default(),
            given_up_of: HashMap::new(),
            history: ReadHistory::default(),
            ended: false,
            degraded: false,
            group_problem: None,
        };
        let (leaving, left) = oneshot::channel();
        std::thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || {
                poller.run();
                drop::<oneshot::Sender<()>>(leaving);
            })
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        let section = section.name.clone();
        Ok(Self { section, queue, commands, members, member: None, stops, epochs: HashMap::new(), left })
    }

    /// Checks that [`Self::open`] can create its client, without joining the group.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check_client(
        section: &KafkaSection,
        group: &str,
        instance_id: Option<&str>,
        read_uncommitted: bool,
    ) -> Result<(), ConnectorError> {
        let config = consumer_config(section, group, instance_id, read_uncommitted)?;
        let consumer: Authenticated<BaseConsumer<LogContext>> = create_client(section, &config, LogContext::default())?;
        drop(consumer);
        Ok(())
    }

    /// Sends a command with an answer, which is cancelled when the poller is gone.
    fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> PollerCommand) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        let _ = self.commands.send(command(sender));
        answer
    }

    fn gone(&self) -> ConnectorError {
        Failure::new(format!("the consumer of `{}` has ended", self.section)).into()
    }
}

fn consumer_config(
    section: &KafkaSection,
    group: &str,
    instance_id: Option<&str>,
    read_uncommitted: bool,
) -> Result<ClientConfig, Failure> {
    let mut config = client_config(section)?;
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A silent reset would skip records.
        .set("auto.offset.reset", "error")
        .set("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" });
    for (name, value) in [
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("fetch.queue.backoff.ms", "10"),
        ("queued.min.messages", "10000"),
        ("queued.max.messages.kbytes", "8192"),
        // What one response holds after decompression counts on top of the queue, and lz4 can shrink records to a fifteenth.
        ("fetch.max.bytes", "1572864"),
        ("topic.metadata.refresh.interval.ms", "10000"),
    ] {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    if let Some(instance) = instance_id {
        config.set("group.instance.id", instance);
    }
    if config.get("heartbeat.interval.ms").is_none() {
        // A session shorter than the default of 3 s would expire between two heartbeats.
        let session = session_timeout(&config);
        config.set("heartbeat.interval.ms", (session.as_millis() / 4).clamp(1, 3000).to_string());
    }
    Ok(config)
}

fn session_timeout(config: &ClientConfig) -> Duration {
    let milliseconds = config.get("session.timeout.ms").and_then(|text| text.parse().ok());
    milliseconds.map_or(Duration::from_secs(45), Duration::from_millis)
}

impl TransactionSource for KafkaSource {
    type Member = GroupMetadata;

    fn member(&self) -> Option<GroupMetadata> {
        self.member.clone()
    }
}

impl Source for KafkaSource {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        let signal = self.queue.next(demand).await?;
        if let Signal::Assigned(assigned) = &signal {
            self.member = self.members.pop();
            for of in assigned {
                *self.epochs.entry(of.partition).or_default() += 1;
            }
        }
        Ok(signal)
    }

    fn stops(&self) -> Vec<(Partition, NextOffset)> {
        let stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.iter().map(|(partition, planned)| (*partition, planned.stop())).collect()
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let epoch = |commit: Commit| Some((commit, *self.epochs.get(&commit.partition)?));
        let _ = self.commands.send(PollerCommand::Commit(commits.into_iter().filter_map(epoch).collect()));
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.send(PollerCommand::Flush).await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn close(mut self) -> Result<(), ConnectorError> {
        let failure = |why: &str| Failure::new(format!("cannot leave `{}` in time", self.section)).because(why).into();
        // Committing and leaving wait for the broker, the program does not.
        let closed = tokio::time::timeout(LAST_COMMIT_TIMEOUT + Duration::from_secs(5), self.send(PollerCommand::Close)).await;
        let outcome = match closed {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(failure("its thread has ended")),
            Err(_) => Err(failure("the broker does not answer")),
        };
        if tokio::time::timeout(LEAVE_TIMEOUT, &mut self.left).await.is_err() {
            tracing::warn!(
                "The consumer did not leave the group in time: its partitions are free when its session ends, after 45 s by default."
            );
        }
        outcome
    }
}
