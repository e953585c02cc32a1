//! Records out of Kafka. A thread of its own polls: rebalances happen on the thread that polls.

pub(crate) mod batch_builder;
mod committer;
pub(crate) mod membership;
mod monitor;
mod partitions;
mod poller;
mod rebalance;
mod record_queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use tokio::sync::oneshot;

use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::client_config;
use crate::connectors::kafka::plan::{PlannedPartition, ReadPlan};
use crate::connectors::kafka::resume::ResumeRules;
use crate::connectors::kafka::source::batch_builder::BatchBuilder;
use crate::connectors::kafka::source::committer::Committer;
use crate::connectors::kafka::source::membership::{GroupMetadata, Members};
use crate::connectors::kafka::source::monitor::Monitor;
use crate::connectors::kafka::source::partitions::{OwnedPartitions, PlannedStop};
use crate::connectors::kafka::source::poller::{LAST_COMMIT_TIMEOUT, Poller, PollerCommand, Reader};
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
    /// The topics or partitions.
    pub subscription: Subscription,
    /// How the group resumes.
    pub rules: ResumeRules,
    /// Whether to read records of open and aborted transactions.
    pub read_uncommitted: bool,
    /// Records in a batch.
    pub batch: usize,
    /// Bytes in the queue to the engine.
    pub buffer_bytes: usize,
    /// How often commits are sent.
    pub commit_interval: Duration,
}

/// A Kafka cluster as a source.
pub struct KafkaSource {
    section: String,
    queue: Arc<RecordQueue>,
    commands: mpsc::Sender<PollerCommand>,
    members: Members,
    /// The group's member as of the last assignment that was handed over.
    member: Option<GroupMetadata>,
    stops: Vec<(Partition, NextOffset)>,
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
        let mut config = client_config(section)?;
        config
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A silent reset would skip records.
            .set("auto.offset.reset", "error")
            .set("isolation.level", if options.read_uncommitted { "read_uncommitted" } else { "read_committed" });
        for (name, value) in [
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "16384"),
            // A fetch response counts on top of the queue: with hundreds of partitions the default of 50 MB is too much.
            ("fetch.max.bytes", "8388608"),
            ("topic.metadata.refresh.interval.ms", "10000"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        if let Some(instance) = &options.instance_id {
            config.set("group.instance.id", instance);
        }
        let session = config
            .get("session.timeout.ms")
            .and_then(|text| text.parse().ok())
            .map_or(Duration::from_secs(45), Duration::from_millis);
        if config.get("heartbeat.interval.ms").is_none() {
            // A session shorter than the default of 3 s would expire between two heartbeats.
            config.set("heartbeat.interval.ms", (session.as_millis() / 4).clamp(1, 3000).to_string());
        }
        let stop = |planned: &PlannedPartition| Some(PlannedStop { start: planned.start.0, stop: planned.stop? });
        let stops: HashMap<Partition, PlannedStop> =
            plan.partitions.iter().filter_map(|planned| Some((planned.partition, stop(planned)?))).collect();
        let planned_stops = stops.iter().map(|(partition, planned)| (*partition, NextOffset(planned.stop))).collect();
        let verified = plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.committed.clone()?)));
        let (commands, received) = mpsc::channel();
        let (event_sender, events) = mpsc::channel();
        let context = RebalanceContext { log: LogContext::default(), events: event_sender, closing: Arc::default() };
        let not_created = |error| Failure::new(format!("cannot create a consumer for `{}`", section.name)).because(error);
        let consumer: BaseConsumer<RebalanceContext> = config.create_with_context(context).map_err(not_created)?;
        let queue = Arc::new(RecordQueue::new(2 * options.batch, options.buffer_bytes));
        let members = Members::default();
        let poller = Poller {
            members: members.clone(),
            committer: Committer::new(&consumer, options.rules.flow.clone(), options.commit_interval),
            consumer: Arc::new(consumer),
            commands: received,
            events,
            queue: Arc::clone(&queue),
            partitions: OwnedPartitions::new(stops),
            monitor: Monitor::new(),
            reader: Reader {
                builder: BatchBuilder::default(),
                max_records: options.batch,
                max_bytes: (options.buffer_bytes / 8).max(1),
                current: None,
            },
            section: section.clone(),
            subscription: options.subscription,
            known_topics: plan.partitions.iter().map(|planned| planned.partition.topic).collect(),
            rules: options.rules,
            read_uncommitted: options.read_uncommitted,
            verified: Arc::new(verified.collect()),
            revocation_timeout: (session / 2).min(MAX_REVOCATION_TIMEOUT),
            rebalance: None,
            restarts: Vec::new(),
            waiting: None,
            paused: false,
            last_flush: None,
            out_of_range: false,
            ended: false,
            degraded: false,
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
        Ok(Self { section, queue, commands, members, member: None, stops: planned_stops, epochs: HashMap::new(), left })
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
        self.stops.clone()
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
            tracing::debug!("The consumer did not leave the group in time; its partitions are free when the session times out.");
        }
        outcome
    }
}
