//! Records into Kafka: idempotent, in order, and answered when the brokers have them.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::oneshot;

use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::client_log::ClientLog;
use crate::connectors::kafka::librdkafka::EventQueue;
use crate::connectors::kafka::librdkafka::messages::{self, NotQueued, Outgoing, ProducerTopic};
use crate::pipeline::{Answers, Batch, ConnectorError, Failure, Ordering, Outcome, Reason, Sink};
use crate::profile::KafkaSection;
use crate::record::{Record, Topic};

/// How long the thread waits for reports when nothing else is to be done; a new batch wakes it.
const IDLE: Duration = Duration::from_millis(500);
/// How many records are queued before reports are served in between.
const SERVE_EVERY: usize = 500;

/// How records are sent.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// How long the client waits for a batch to fill.
    pub linger: Duration,
}

/// Where a record goes: the topic, and the partition unless the key decides.
pub type Route = Box<dyn Fn(&Record) -> (Topic, Option<i32>) + Send>;

/// What the brokers take in one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Whether records without a key are refused, as in every compacted topic.
    pub needs_key: bool,
}

/// What is known of the topics that are written to; grows while a run meets new ones.
pub type Targets = Arc<RwLock<HashMap<Topic, TopicLimits>>>;

/// A Kafka cluster as a destination.
pub struct KafkaSink {
    section: String,
    producer: Arc<BaseProducer<LogContext>>,
    reports: Arc<EventQueue>,
    jobs: mpsc::Sender<Job>,
    client_log: ClientLog,
}

/// A batch on its way, and where its outcomes are awaited.
struct Job {
    batch: Batch,
    answer: oneshot::Sender<Vec<Outcome>>,
}

impl KafkaSink {
    /// Opens a sink on `section`; `route` says where each record goes and `targets` what is taken there.
    ///
    /// # Errors
    /// When the client cannot be made: a property that librdkafka does not know, an unreadable file.
    pub fn open(
        section: &KafkaSection,
        options: &ProducerOptions,
        targets: Targets,
        route: Route,
    ) -> Result<Self, ConnectorError> {
        let facts = targets.read().unwrap_or_else(PoisonError::into_inner);
        let smallest = facts.values().map(|facts| facts.max_message_bytes).min().unwrap_or(1_000_000);
        let largest = facts.values().map(|facts| facts.max_message_bytes).max().unwrap_or(1_000_000);
        drop(facts);
        let mut config = client::config(section)?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A record waits for as long as its destination is away; the engine decides when that is too long.
            .set("message.timeout.ms", "0")
            .set("compression.codec", &options.compression)
            .set("linger.ms", options.linger.as_millis().to_string())
            .set("batch.num.messages", "100000")
            // A batch above the topic's limit is refused as a whole, small records and all.
            .set("batch.size", (smallest / 10 * 9).clamp(1, 1_000_000).to_string())
            .set("message.max.bytes", largest.clamp(1_000_000, 1_000_000_000).to_string())
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536");
        let listening = LogContext::default();
        let producer: BaseProducer<LogContext> = config
            .create_with_context(listening.clone())
            .map_err(|error| Failure::new(format!("cannot make a producer for `{}`", section.name)).because(error))?;
        let producer = Arc::new(producer);
        let reports = Arc::new(EventQueue::of_producer(producer.client()));
        let (jobs, work) = mpsc::channel();
        let said = listening.client_log;
        let mut desk = ProducerWorker {
            reports: Arc::clone(&reports),
            route,
            targets,
            in_flight_batches: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            client_log: said.clone(),
        };
        let client = Arc::clone(&producer);
        std::thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || desk.work(&client, &work))
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        Ok(Self { section: section.name.clone(), producer, reports, jobs, client_log: said })
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        let (gone, _) = mpsc::channel();
        self.jobs = gone;
        self.reports.wake();
    }
}

impl Sink for KafkaSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let (answer, answers) = oneshot::channel();
        let count = batch.len();
        let gone = || Failure::new(format!("the producer of `{}` is gone", self.section));
        self.jobs.send(Job { batch, answer }).map_err(|_| gone())?;
        self.reports.wake();
        let section = self.section.clone();
        Ok(Box::pin(async move {
            answers.await.unwrap_or_else(|_| {
                vec![Outcome::Stop(Reason::new("producer_gone", format!("the producer of `{section}` is gone"))); count]
            })
        }))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let producer = Arc::clone(&self.producer);
        let fetched = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, Duration::from_secs(10)));
        match fetched.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(format!("cannot reach `{}`", self.section)).because(error).into()),
            Err(error) => Err(Failure::new(format!("cannot reach `{}`", self.section)).because(error).into()),
        }
    }

    fn ordering(&self) -> Ordering {
        Ordering::Overlapping // an idempotent producer keeps the order of its queue
    }

    fn degraded_reason(&self) -> Option<String> {
        self.client_log.last()
    }
}

/// The thread that alone talks to the producer: it queues batches in order and collects what the brokers say.
struct ProducerWorker {
    reports: Arc<EventQueue>,
    route: Route,
    targets: Targets,
    /// Batches in flight; a record's token is the place here and its place in the batch.
    in_flight_batches: Vec<Option<InFlightBatch>>,
    free: Vec<usize>,
    in_flight: usize,
    client_log: ClientLog,
}

struct InFlightBatch {
    outcomes: Vec<Outcome>,
    missing: usize,
    answer: oneshot::Sender<Vec<Outcome>>,
}

/// A topic's handle, and what the brokers take there.
struct Target<'c> {
    handle: ProducerTopic<'c>,
    facts: TopicLimits,
}

/// Bits of a token that say the place in the batch.
const PLACE_BITS: u32 = 32;

impl ProducerWorker {
    fn work(&mut self, producer: &BaseProducer<LogContext>, work: &mpsc::Receiver<Job>) {
        let mut topics: HashMap<Topic, Target<'_>> = HashMap::new();
        loop {
            // With nothing in flight there is nothing to report: wait for work alone.
            let next = if self.in_flight == 0 {
                work.recv_timeout(IDLE).map_err(|error| error == RecvTimeoutError::Disconnected)
            } else {
                work.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            };
            match next {
                Ok(job) => self.send(producer, &mut topics, job),
                Err(true) => return,
                Err(false) => self.serve(IDLE),
            }
        }
    }

    /// Queues a batch, record by record, in order.
    fn send<'c>(&mut self, producer: &'c BaseProducer<LogContext>, topics: &mut HashMap<Topic, Target<'c>>, job: Job) {
        let count = job.batch.len();
        let flying = InFlightBatch { outcomes: vec![Outcome::Delivered; count], missing: count, answer: job.answer };
        let slot = self.free.pop().unwrap_or(self.in_flight_batches.len());
        if slot == self.in_flight_batches.len() {
            self.in_flight_batches.push(Some(flying));
        } else {
            self.in_flight_batches[slot] = Some(flying);
        }
        self.in_flight += 1;
        if count == 0 {
            self.settle_empty(slot);
        }
        for (at, record) in job.batch.iter().enumerate() {
            let (name, partition) = (self.route)(record);
            let target = match topics.entry(name) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(unknown) => match ProducerTopic::new(producer.client(), name.name()) {
                    Ok(handle) => unknown.insert(Target { handle, facts: facts(&self.targets, name) }),
                    Err(error) => {
                        self.settle(slot, at, Some(Outcome::Stop(Reason::new("no_topic_handle", error.to_string()))));
                        continue;
                    }
                },
            };
            if let Some(reason) = exceeds_limits(record, name, target.facts) {
                self.settle(slot, at, Some(Outcome::Reject(reason)));
                continue;
            }
            let outgoing = Outgoing {
                partition,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
                token: slot << PLACE_BITS | at,
            };
            loop {
                match messages::produce(producer.client(), &target.handle, &outgoing) {
                    Ok(()) => break,
                    Err(NotQueued::Full) => self.serve(Duration::from_millis(10)),
                    Err(NotQueued::Refused(error)) => {
                        self.settle(slot, at, Some(Outcome::Stop(failed(name, &error.to_string()))));
                        break;
                    }
                }
            }
            if at % SERVE_EVERY == SERVE_EVERY - 1 {
                self.serve(Duration::ZERO);
            }
        }
    }

    /// Collects delivery reports; waits for the first up to `timeout`.
    fn serve(&mut self, timeout: Duration) {
        let reports = Arc::clone(&self.reports);
        let mut progress = false;
        let said = messages::reports(&reports, timeout, |token, error| {
            let outcome = error.map(|error| Outcome::Stop(Reason::new("not_delivered", error)));
            progress |= outcome.is_none();
            self.settle(token >> PLACE_BITS, token & ((1 << PLACE_BITS) - 1), outcome);
        });
        for line in said {
            self.client_log.error_text(&line);
        }
        if progress {
            self.client_log.clear();
        }
    }

    /// Notes the outcome of one record (`None`: delivered) and answers for the batch when it was the last.
    fn settle(&mut self, slot: usize, at: usize, outcome: Option<Outcome>) {
        let flying = self.in_flight_batches[slot].as_mut().expect("a report belongs to a batch in flight");
        if let Some(outcome) = outcome {
            flying.outcomes[at] = outcome;
        }
        flying.missing -= 1;
        if flying.missing == 0 {
            self.settle_empty(slot);
        }
    }

    fn settle_empty(&mut self, slot: usize) {
        if let Some(done) = self.in_flight_batches[slot].take() {
            self.free.push(slot);
            self.in_flight -= 1;
            // The engine may have given up waiting; what was written is then written again.
            let _ = done.answer.send(done.outcomes);
        }
    }
}

fn facts(targets: &Targets, topic: Topic) -> TopicLimits {
    let targets = targets.read().unwrap_or_else(PoisonError::into_inner);
    targets.get(&topic).copied().unwrap_or(TopicLimits { max_message_bytes: 1_000_000, needs_key: false })
}

/// Returns why the brokers would refuse `record`: it must be known before it is sent, because a refusal comes for the whole batch
/// of the client, and sending the rest again would break the order.
fn exceeds_limits(record: &Record, topic: Topic, facts: TopicLimits) -> Option<Reason> {
    // 61 bytes of batch header; at most 21 of lengths and offsets a record, and 10 a header.
    let size = record.bytes() + 82 + 10 * record.headers.len();
    if size > facts.max_message_bytes {
        let limit = facts.max_message_bytes;
        let message = format!("the record has {size} bytes with its framing, topic `{topic}` takes {limit}");
        let hint =
            format!("raise max.message.bytes of `{topic}`, or set such records aside elsewhere (--dead-letters file:PATH)");
        return Some(Reason::new("record_too_large", message).hint(hint));
    }
    if record.timestamp == Some(0) {
        let message =
            "the record's timestamp is 0 (1970-01-01T00:00:00Z), which the Kafka client would replace by the present time";
        return Some(Reason::new("timestamp_zero", message).hint("set such records aside with --dead-letters file:PATH"));
    }
    if facts.needs_key && record.key.is_none() {
        let message = format!("the record has no key, and topic `{topic}` is compacted");
        return Some(Reason::new("key_missing", message).hint("set such records aside with --dead-letters"));
    }
    None
}

/// Returns why a record could not be queued at all.
fn failed(topic: Topic, error: &str) -> Reason {
    Reason::new("not_queued", format!("topic `{topic}`: {error}"))
}
