//! Records into Kafka: idempotent, in order, and answered when the brokers have them.

mod copies;
mod producer_worker;
mod record_limits;
mod refusals;

use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::producer::Producer as _;
use tokio::sync::oneshot;

use crate::connectors::kafka::client_log::{ClientLog, LogContext};
use crate::connectors::kafka::config::client_config;
use crate::connectors::kafka::diagnosis;
pub(crate) use crate::connectors::kafka::sink::copies::{CopiedRun, OnCopied};
pub use crate::connectors::kafka::sink::producer_worker::Route;
use crate::connectors::kafka::sink::producer_worker::{Job, ProducerClient, ProducerFactory, ProducerWorker, QUEUE_KBYTES};
pub use crate::connectors::kafka::sink::record_limits::{Targets, TopicLimits};
use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Failure, Ordering, Outcome, Reason, Sink, TargetWatch};
use crate::profile::KafkaSection;
use crate::record::Partition;

/// How records are sent.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// How long the producer waits for a batch to fill.
    pub linger: Duration,
    /// Whether a record without a timestamp is bad, rather than stamped with the current time.
    pub keep_timestamps: bool,
}

/// Creates what newly assigned partitions need in the target.
pub type PrepareTargets = Box<dyn Fn(Vec<Partition>) -> BoxFuture<'static, Result<(), ConnectorError>> + Send + Sync>;

/// A Kafka cluster as a destination.
pub struct KafkaSink {
    section: Box<KafkaSection>,
    client: Arc<Mutex<ProducerClient>>,
    jobs: mpsc::Sender<Job>,
    /// Whether partitions were abandoned that the worker does not know of.
    abandoned: Arc<AtomicBool>,
    client_log: ClientLog,
    prepare: Option<PrepareTargets>,
    watch: TargetWatch,
}

impl KafkaSink {
    /// Opens a sink on `section`; `route` decides where each record goes.
    ///
    /// # Errors
    /// When the client cannot be created: a property that librdkafka does not know, an unreadable file.
    pub fn open(
        section: &KafkaSection,
        options: &ProducerOptions,
        targets: Targets,
        route: Route,
    ) -> Result<Self, ConnectorError> {
        Self::open_reporting(section, options, targets, route, None)
    }

    /// As [`Self::open`]; `on_copied` learns where each delivered record is, before the engine learns that it is delivered.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_reporting(
        section: &KafkaSection,
        options: &ProducerOptions,
        targets: Targets,
        route: Route,
        on_copied: Option<OnCopied>,
    ) -> Result<Self, ConnectorError> {
        let factory = factory(section, options, targets)?;
        let client = factory.create()?;
        let client_log = factory.log.client_log.clone();
        let shared = Arc::new(Mutex::new(client.clone()));
        let (jobs, received) = mpsc::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let watch = TargetWatch::default();
        let (client_of_worker, lost) = (Arc::clone(&shared), Arc::clone(&abandoned));
        let worker =
            ProducerWorker::new(factory, client_of_worker, lost, watch.clone(), route, options.keep_timestamps, on_copied);
        std::thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || worker.run(client, &received))
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        let section = Box::new(section.clone());
        Ok(Self { section, client: shared, jobs, abandoned, client_log, prepare: None, watch })
    }

    /// Checks that [`Self::open`] can create its client.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check_client(section: &KafkaSection, options: &ProducerOptions) -> Result<(), ConnectorError> {
        factory(section, options, Targets::default())?.create().map(drop)
    }

    /// Sets what prepares the target for newly assigned partitions.
    #[must_use]
    pub fn with_prepare(mut self, prepare: PrepareTargets) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// Returns what is known of the target topics, for those who watch them.
    #[must_use]
    pub fn watch(&self) -> TargetWatch {
        self.watch.clone()
    }

    fn client(&self) -> ProducerClient {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn factory(section: &KafkaSection, options: &ProducerOptions, targets: Targets) -> Result<ProducerFactory, Failure> {
    let mut config = client_config(section)?;
    config
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "true")
        .set("acks", "all")
        // The engine decides how long an outage may last.
        .set("message.timeout.ms", "0")
        .set("compression.codec", &options.compression)
        .set("linger.ms", options.linger.as_millis().to_string())
        .set("batch.num.messages", "100000")
        // The topics' limits count, not the client's.
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string());
    Ok(ProducerFactory { config, section: section.clone(), targets, log: LogContext::default() })
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        (self.jobs, _) = mpsc::channel();
        self.client().reports.wake();
    }
}

impl Sink for KafkaSink {
    async fn prepare(&self, assigned: &[Assignment]) -> Result<(), ConnectorError> {
        match &self.prepare {
            Some(prepare) => prepare(assigned.iter().map(|of| of.partition).collect()).await,
            None => Ok(()),
        }
    }

    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        if let Some(refused) = self.watch.refused() {
            return Err(refused.into());
        }
        let (answer, answers) = oneshot::channel();
        let count = batch.len();
        let gone = || Failure::new(format!("the producer of `{}` has ended", self.section.name));
        self.jobs.send(Job::Send(batch, answer)).map_err(|_| gone())?;
        self.client().reports.wake();
        let section = self.section.name.clone();
        Ok(Box::pin(async move {
            answers.await.unwrap_or_else(|_| {
                vec![Outcome::Stop(Reason::new("producer_gone", format!("the producer of `{section}` has ended"))); count]
            })
        }))
    }

    fn abandon(&self, partitions: &[Partition]) {
        // A worker that has ended sends nothing.
        let _ = self.jobs.send(Job::Abandon(partitions.iter().copied().collect()));
        self.abandoned.store(true, AtomicOrdering::Release);
        self.client().reports.wake();
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let producer = self.client().producer;
        let fetched = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, Duration::from_secs(10)));
        match fetched.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(format!("cannot reach `{}`", self.section.name)).because(error).into()),
            Err(error) => Err(Failure::new(format!("cannot reach `{}`", self.section.name)).because(error).into()),
        }
    }

    fn ordering(&self) -> Ordering {
        Ordering::Overlapping // an idempotent producer keeps the order of its queue
    }

    fn degraded_reason(&self) -> Option<String> {
        self.watch.problem().or_else(|| diagnosis::last_reason(&self.section, &self.client_log.lines()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::EmbeddedCluster;
    use crate::pipeline::Refused;
    use crate::record::{Record, Topic};

    #[tokio::test]
    async fn records_for_a_partition_that_is_gone_are_given_up_when_the_target_is_refused() {
        let cluster = EmbeddedCluster::start(1).unwrap();
        cluster.create_topic("smaller", 1).unwrap();
        let section = KafkaSection { name: "local_kafka".to_owned(), servers: cluster.servers(), ..KafkaSection::default() };
        let options = ProducerOptions { compression: "none".to_owned(), linger: Duration::ZERO, keep_timestamps: false };
        let topic = Topic::named("smaller");
        let route: Route = Box::new(move |record| (topic, Some(record.partition.index)));
        let sink = KafkaSink::open(&section, &options, Targets::default(), route).unwrap();
        let record = |index| Record {
            partition: Partition { topic, index },
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let delivered = sink.submit(Arc::new(vec![record(0)])).await.unwrap();
        assert_eq!(delivered.await, [Outcome::Delivered]);
        let waiting =
            [sink.submit(Arc::new(vec![record(1)])).await.unwrap(), sink.submit(Arc::new(vec![record(0)])).await.unwrap()];
        while sink.degraded_reason().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await; // until the producer has refused the unknown partition
        }
        let refused = Refused { what: "created again".to_owned(), numbers: Vec::new(), hint: String::new() };
        sink.watch().refuse(refused);
        for answers in waiting {
            match answers.await.as_slice() {
                // What gives up an unknown partition after a minute says something else.
                [Outcome::Stop(reason)] => assert_eq!(reason.to_string(), "created again"),
                other => panic!("{other:?}"),
            }
        }
        assert!(sink.submit(Arc::new(vec![record(0)])).await.is_err_and(|error| error.to_string().contains("created again")));
    }
}
