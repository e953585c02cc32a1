//! Records out of Kafka: a thread of its own polls, because rebalances happen on the thread that polls and must be able to wait.

mod monitor;
mod poller;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use tokio::sync::oneshot;

use crate::connectors::kafka::batch_builder::BatchBuilder;
use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::committer::Committer;
use crate::connectors::kafka::plan::ReadPlan;
use crate::connectors::kafka::rebalance::{Prepare, RebalanceContext, SourceState, lock};
use crate::connectors::kafka::record_queue::RecordQueue;
use crate::connectors::kafka::resume::ResumeRules;
use crate::connectors::kafka::source::poller::Poller;
use crate::connectors::kafka::transactions::GroupMetadata;
use crate::pipeline::{Commit, ConnectorError, Demand, Failure, Signal, Source};
use crate::profile::KafkaSection;
use crate::record::Partition;

/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(10);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(2);

/// Which topics are read.
pub enum Subscription {
    /// These topics, as a member of the group.
    Topics(Vec<String>),
    /// The topics that fit, as a member of the group; new ones are found while the run lasts.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
    /// These partitions, without joining the group.
    Assigned(Vec<Partition>),
}

/// How a source reads.
pub struct SourceOptions {
    /// The group that is joined, or at least committed to.
    pub group: String,
    /// The member's fixed name, for static membership.
    pub instance_id: Option<String>,
    /// Which topics.
    pub subscription: Subscription,
    /// What holds when the group resumes.
    pub rules: ResumeRules,
    /// Whether records of open and aborted transactions are read.
    pub read_uncommitted: bool,
    /// Records in a batch.
    pub batch: usize,
    /// Bytes that may wait to be taken.
    pub buffer_bytes: usize,
    /// How often commits are sent.
    pub commit_interval: Duration,
    /// Called with partitions before they are read.
    pub prepare: Option<Prepare>,
}

/// A Kafka cluster as a source.
pub struct KafkaSource {
    shared: Arc<SourceState>,
    /// The outcome of the last commit.
    closed: oneshot::Receiver<Result<(), ConnectorError>>,
    /// Gone when the group was left.
    left: oneshot::Receiver<()>,
}

impl KafkaSource {
    /// Joins the group, or takes the partitions, and begins to read as planned.
    ///
    /// # Errors
    /// When the client cannot be made: a property that librdkafka does not know, an unreadable file.
    pub fn open(section: &KafkaSection, plan: &ReadPlan, options: SourceOptions) -> Result<Self, ConnectorError> {
        let mut config = client::config(section)?;
        config
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A silent jump would lose records: an offset that is not there is an error.
            .set("auto.offset.reset", "error")
            .set("isolation.level", if options.read_uncommitted { "read_uncommitted" } else { "read_committed" });
        for (name, value) in [
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("fetch.queue.backoff.ms", "10"),
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "16384"),
            // What one answer may hold counts on top of the queue: with hundreds of partitions the default of 50 MB would show.
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
            // With the default of 3 s, a shorter session would be over between two of them.
            config.set("heartbeat.interval.ms", (session.as_millis() / 4).clamp(1, 3000).to_string());
        }
        let stops: HashMap<Partition, i64> =
            plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.stop?))).collect();
        let checked = plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.committed.clone()?)));
        let handover = RecordQueue::new(2 * options.batch, options.buffer_bytes);
        let bounded = !stops.is_empty();
        let shared = Arc::new(SourceState::new(
            section.clone(),
            handover,
            options.rules,
            stops,
            bounded,
            options.read_uncommitted,
            options.prepare,
            (session / 2).min(Duration::from_secs(10)),
            checked.collect(),
        ));
        let membership = RebalanceContext { shared: Arc::clone(&shared), listening: LogContext::default() };
        let unmade = |error| Failure::new(format!("cannot make a consumer for `{}`", section.name)).because(error);
        let consumer: BaseConsumer<RebalanceContext> = config.create_with_context(membership).map_err(unmade)?;
        let (done, closed) = oneshot::channel();
        let (here, left) = oneshot::channel();
        let poller = Poller {
            committer: Committer::new(&consumer, options.commit_interval),
            consumer,
            shared: Arc::clone(&shared),
            subscription: options.subscription,
            batch: options.batch,
            batch_bytes: (options.buffer_bytes / 8).max(1),
            cutter: BatchBuilder::default(),
            current: None,
            told_ends: Instant::now(),
            looked_for_topics: Instant::now(),
            looked_for_end: Instant::now(),
            known_topics: plan.partitions.iter().map(|planned| planned.partition.topic).collect(),
            flushed: None,
            missing_since: None,
            ended: false,
            troubled: false,
        };
        std::thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || {
                poller.run(done);
                drop(here);
            })
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        Ok(Self { shared, closed, left })
    }
}

impl KafkaSource {
    /// Returns who it is in its group, for a transaction that commits the group's offsets.
    ///
    /// # Errors
    /// When it reads no more.
    pub fn member(&self) -> impl Future<Output = Result<GroupMetadata, ConnectorError>> + Send + 'static {
        let (request, told) = oneshot::channel();
        lock(&self.shared.callers).push(request);
        let gone = Failure::new(format!("the consumer of `{}` is gone", self.shared.section.name));
        async move { told.await.ok().flatten().ok_or_else(|| gone.into()) }
    }
}

impl Source for KafkaSource {
    async fn next(&mut self, appetite: Demand) -> Result<Signal, ConnectorError> {
        self.shared.handover.next(appetite).await
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let progress = lock(&self.shared.progress);
        let owned = commits.into_iter().filter(|commit| progress.contains_key(&commit.partition));
        lock(&self.shared.noted).extend(owned.map(|commit| (commit.partition, commit)));
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let (request, flushed) = oneshot::channel();
        lock(&self.shared.flushes).push(request);
        let gone = || Failure::new(format!("the consumer of `{}` is gone", self.shared.section.name)).into();
        flushed.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn close(mut self) -> Result<(), ConnectorError> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let section = self.shared.section.name.clone();
        let failure = |why: &str| Failure::new(format!("cannot leave `{section}` in time")).because(why).into();
        // Committing and leaving wait for the broker; a silent one must not keep the program.
        let outcome = match tokio::time::timeout(LAST_COMMIT + Duration::from_secs(5), &mut self.closed).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(failure("its thread is gone")),
            Err(_) => Err(failure("the broker does not answer")),
        };
        // A member that does not leave keeps its partitions from others until its session times out.
        if tokio::time::timeout(LEAVE, &mut self.left).await.is_err() {
            tracing::debug!("The group was not left in time; its partitions are free when the session times out.");
        }
        outcome
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
    }
}
