//! Records into Kafka: idempotent, in order, and answered when the brokers have them.
//!
//! A broker refuses a batch of the producer as one, for a record in it: with a timestamp out of range, or too large. The producer is
//! gapless: it stops at the refusal, so nothing behind the refused batch is written. The worker then finds the record by bisecting
//! the batch in order, rejects it alone, and sends the rest, again in order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::oneshot;

use crate::connectors::kafka::client_log::{ClientLog, LogContext};
use crate::connectors::kafka::config::client_config;
use crate::connectors::kafka::librdkafka::messages::{self, Outgoing, ProducerTopic};
use crate::connectors::kafka::librdkafka::{EventQueue, NativeError};
use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Failure, Ordering, Outcome, Reason, Sink};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record, Topic};

/// How long the worker waits for delivery reports; a new batch wakes it.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the worker waits for reports when the producer's queue is full or is being emptied.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(10);
/// Timeout of one request for the metadata of a topic whose partition the producer does not know, and the pause before the next.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA_PAUSE: Duration = Duration::from_millis(100);
/// How long the brokers may not list a partition: one that was restarted learns of it late.
const MISSING_TIMEOUT: Duration = Duration::from_secs(60);
/// How far the clocks of this machine and of a broker may differ, in milliseconds, for a timestamp to be refused unsent.
const CLOCK_SKEW: i64 = 600_000;
/// Records to queue before delivery reports are served.
const SERVE_EVERY: usize = 500;
/// The most bytes in the producer's queue.
const QUEUE_KBYTES: usize = 65536;

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

/// The target topic of a record, and the partition unless the key decides.
pub type Route = Box<dyn Fn(&Record) -> (Topic, Option<i32>) + Send>;

/// Creates what newly assigned partitions need in the target.
pub type PrepareTargets = Box<dyn Fn(Vec<Partition>) -> BoxFuture<'static, Result<(), ConnectorError>> + Send + Sync>;

/// What the brokers accept in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// Whether the topic is compacted, and refuses records without a key.
    pub needs_key: bool,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`: how far a timestamp may lie before and after the
    /// broker's time. None where the broker sets the timestamp, or does not tell.
    pub timestamps: Option<(i64, i64)>,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self { max_message_bytes: 1_000_000, needs_key: false, timestamps: None }
    }
}

/// The limits of the target topics; topics are added while a run lasts.
pub type Targets = Arc<RwLock<HashMap<Topic, TopicLimits>>>;

/// A Kafka cluster as a destination.
pub struct KafkaSink {
    section: String,
    client: Arc<Mutex<ProducerClient>>,
    jobs: mpsc::Sender<Job>,
    client_log: ClientLog,
    prepare: Option<PrepareTargets>,
}

/// The present producer and the queue of its delivery reports.
#[derive(Clone)]
struct ProducerClient {
    // Dropped before its client.
    reports: Arc<EventQueue>,
    producer: Arc<BaseProducer<LogContext>>,
}

/// A batch, and the receiver of its outcomes.
struct Job {
    batch: Batch,
    answer: oneshot::Sender<Vec<Outcome>>,
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
        let factory = ProducerFactory { config, section: section.name.clone(), targets, log: LogContext::default() };
        let client = factory.create()?;
        let client_log = factory.log.client_log.clone();
        let shared = Arc::new(Mutex::new(client.clone()));
        let (jobs, received) = mpsc::channel();
        let worker = ProducerWorker {
            factory,
            client: Arc::clone(&shared),
            route,
            keep_timestamps: options.keep_timestamps,
            batches: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            unreported: 0,
            answered: 0,
            failure: None,
            now: 0,
        };
        std::thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || worker.run(client, &received))
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        Ok(Self { section: section.name.clone(), client: shared, jobs, client_log, prepare: None })
    }

    /// Sets what prepares the target for newly assigned partitions.
    #[must_use]
    pub fn with_prepare(mut self, prepare: PrepareTargets) -> Self {
        self.prepare = Some(prepare);
        self
    }

    fn client(&self) -> ProducerClient {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
        let (answer, answers) = oneshot::channel();
        let count = batch.len();
        let gone = || Failure::new(format!("the producer of `{}` has ended", self.section));
        self.jobs.send(Job { batch, answer }).map_err(|_| gone())?;
        self.client().reports.wake();
        let section = self.section.clone();
        Ok(Box::pin(async move {
            answers.await.unwrap_or_else(|_| {
                vec![Outcome::Stop(Reason::new("producer_gone", format!("the producer of `{section}` has ended"))); count]
            })
        }))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        let producer = self.client().producer;
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

/// Creates a producer, and another one after a refusal: a gapless producer writes nothing any more.
struct ProducerFactory {
    config: ClientConfig,
    section: String,
    targets: Targets,
    log: LogContext,
}

impl ProducerFactory {
    fn create(&self) -> Result<ProducerClient, ConnectorError> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let smallest = targets.values().map(|limits| limits.max_message_bytes).min().unwrap_or(1_000_000);
        drop(targets);
        let mut config = self.config.clone();
        // A batch above the topic's limit is refused with all its records, and split then.
        config.set("batch.size", (smallest / 10 * 9).clamp(1, 1_000_000).to_string());
        let producer: BaseProducer<LogContext> = config
            .create_with_context(self.log.clone())
            .map_err(|error| Failure::new(format!("cannot create a producer for `{}`", self.section)).because(error))?;
        Ok(ProducerClient { reports: Arc::new(EventQueue::of_producer(producer.client())), producer: Arc::new(producer) })
    }

    fn limits(&self, topic: Topic) -> TopicLimits {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.get(&topic).copied().unwrap_or_default()
    }
}

/// The thread that owns the producer: it queues batches in order and collects delivery reports.
struct ProducerWorker {
    factory: ProducerFactory,
    client: Arc<Mutex<ProducerClient>>,
    route: Route,
    keep_timestamps: bool,
    /// Batches in flight, by slot.
    batches: Vec<Option<InFlightBatch>>,
    free: Vec<usize>,
    /// The slots of the batches, oldest first.
    order: VecDeque<usize>,
    /// Records in the producer.
    unreported: usize,
    /// Records with an outcome.
    answered: u64,
    /// Why the present producer writes nothing any more.
    failure: Option<NativeError>,
    /// When the last records were taken, in milliseconds since the Unix epoch.
    now: i64,
}

struct InFlightBatch {
    batch: Batch,
    states: Vec<RecordState>,
    unanswered: usize,
    answer: oneshot::Sender<Vec<Outcome>>,
}

#[derive(Debug)]
enum RecordState {
    /// In the producer.
    Queued,
    /// Not written, and not to blame: sent again.
    Unsent,
    /// Of a batch that the broker refused.
    Refused(Reason),
    /// Of a batch that the broker refused for other records, which it named.
    NotToBlame,
    Answered(Outcome),
}

/// A record in flight. It is the token of the delivery report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordId {
    slot: usize,
    at: usize,
}

/// Bits of a token for the place in the batch.
const PLACE_BITS: u32 = 32;

impl RecordId {
    fn token(self) -> usize {
        self.slot << PLACE_BITS | self.at
    }

    fn of(token: usize) -> Self {
        Self { slot: token >> PLACE_BITS, at: token & ((1 << PLACE_BITS) - 1) }
    }
}

/// Records to send in order.
struct OrderedRecords {
    records: Vec<RecordId>,
    /// Whether the broker has refused them as one.
    is_refused: bool,
}

/// Why a session with a producer ended.
enum SessionEnd {
    /// The sink was dropped.
    Closed,
    /// A record was refused; nothing is in the producer any more.
    Refused,
}

/// The handles of the target topics of one producer.
type TopicHandles<'c> = HashMap<Topic, (ProducerTopic<'c>, TopicLimits)>;

impl ProducerWorker {
    fn run(mut self, mut client: ProducerClient, jobs: &mpsc::Receiver<Job>) {
        while let SessionEnd::Refused = self.session(&client, jobs) {
            match self.judge() {
                Ok(new) => client = new,
                Err(error) => return self.stop_all(&Reason::new("not_delivered", error.to_string())),
            }
        }
    }

    /// Sends batches until a record is refused.
    fn session(&mut self, client: &ProducerClient, jobs: &mpsc::Receiver<Job>) -> SessionEnd {
        let mut topics = TopicHandles::new();
        while self.failure.is_none() {
            // With an empty producer there is no report to wait for.
            let next = if self.unreported == 0 {
                jobs.recv_timeout(REPORT_TIMEOUT).map_err(|error| error == RecvTimeoutError::Disconnected)
            } else {
                jobs.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            };
            match next {
                Ok(job) => {
                    let records = self.accept(job);
                    self.send(client, &mut topics, &records);
                }
                Err(true) => return SessionEnd::Closed,
                Err(false) => self.serve(client, REPORT_TIMEOUT),
            }
        }
        self.empty(client);
        SessionEnd::Refused
    }

    /// Finds the refused records among those in flight and sends the others, in order. Returns the producer to go on with.
    fn judge(&mut self) -> Result<ProducerClient, ConnectorError> {
        // Of a partition, everything before a refused batch has been written, and nothing behind it.
        self.reject_named();
        let mut groups = self.unanswered();
        let mut client = self.new_client()?;
        while let Some(group) = groups.pop() {
            if group.is_refused {
                groups.extend(self.split(group));
                continue;
            }
            let before = self.answered;
            self.send(&client, &mut TopicHandles::new(), &group.records);
            while self.unreported > 0 && self.failure.is_none() {
                self.serve(&client, REPORT_TIMEOUT);
            }
            if let Some(failure) = self.failure.clone() {
                self.empty(&client);
                self.reject_named();
                let rest = self.groups(&group.records);
                if self.answered == before && !rest.iter().any(|group| group.is_refused) {
                    return Err(Failure::new(format!("cannot write to `{}`", self.factory.section)).because(failure).into());
                }
                groups.extend(rest);
                client = self.new_client()?;
            }
        }
        Ok(client)
    }

    fn new_client(&mut self) -> Result<ProducerClient, ConnectorError> {
        let client = self.factory.create()?;
        self.failure = None;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client.clone();
        Ok(client)
    }

    /// Halves a group that was refused as one; a single record is bad.
    fn split(&mut self, group: OrderedRecords) -> Vec<OrderedRecords> {
        let mut first = group.records;
        for id in &first {
            let state = self.state(*id);
            if let RecordState::Refused(reason) = std::mem::replace(state, RecordState::Unsent)
                && first.len() == 1
            {
                self.settle(*id, Outcome::Reject(reason));
                return Vec::new();
            }
        }
        let second = first.split_off(first.len() / 2);
        [second, first].map(|records| OrderedRecords { records, is_refused: false }).into()
    }

    /// Returns the records in flight as groups, the first to send last.
    fn unanswered(&mut self) -> Vec<OrderedRecords> {
        let batch = |slot: &usize| {
            let count = self.batches[*slot].as_ref().map_or(0, |batch| batch.batch.len());
            (0..count).map(|at| RecordId { slot: *slot, at }).collect::<Vec<_>>()
        };
        self.groups(&self.order.iter().flat_map(batch).collect::<Vec<_>>())
    }

    fn groups(&mut self, records: &[RecordId]) -> Vec<OrderedRecords> {
        let of = |is_wanted: fn(&RecordState) -> bool| {
            let is_wanted = |id: &&RecordId| self.batches[id.slot].as_ref().is_some_and(|batch| is_wanted(&batch.states[id.at]));
            records.iter().filter(is_wanted).copied().collect::<Vec<_>>()
        };
        let unsent = OrderedRecords { records: of(|state| matches!(state, RecordState::Unsent)), is_refused: false };
        let cleared = OrderedRecords { records: of(|state| matches!(state, RecordState::NotToBlame)), is_refused: false };
        let refused = OrderedRecords { records: of(|state| matches!(state, RecordState::Refused(_))), is_refused: true };
        // The broker cleared them of this refusal, not of the next.
        cleared.records.iter().for_each(|id| *self.state(*id) = RecordState::Unsent);
        [unsent, cleared, refused].into_iter().filter(|group| !group.records.is_empty()).collect()
    }

    /// Rejects the records that the broker named. It names them if there are several in a batch, and a partition has one refused
    /// batch; of another batch every record is refused alike.
    fn reject_named(&mut self) {
        let (mut cleared, mut refused) = (HashSet::new(), Vec::new());
        for slot in &self.order {
            let Some(batch) = &self.batches[*slot] else { continue };
            for (at, state) in batch.states.iter().enumerate() {
                // Without a partition the key decides: such records are found by bisecting.
                let target = || {
                    let (topic, partition) = (self.route)(&batch.batch[at]);
                    partition.map(|partition| (topic, partition))
                };
                match state {
                    RecordState::NotToBlame => cleared.extend(target()),
                    RecordState::Refused(reason) => refused.push((RecordId { slot: *slot, at }, target(), reason.clone())),
                    _ => {}
                }
            }
        }
        for (id, target, reason) in refused {
            if target.is_some_and(|target| cleared.contains(&target)) {
                self.settle(id, Outcome::Reject(reason));
            }
        }
    }

    /// Registers a batch.
    fn accept(&mut self, job: Job) -> Vec<RecordId> {
        let count = job.batch.len();
        let states = (0..count).map(|_| RecordState::Unsent).collect();
        let batch = InFlightBatch { batch: job.batch, states, unanswered: count, answer: job.answer };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.batches.push(None);
            self.batches.len() - 1
        });
        self.batches[slot] = Some(batch);
        self.order.push_back(slot);
        if count == 0 {
            self.answer(slot);
        }
        (0..count).map(|at| RecordId { slot, at }).collect()
    }

    /// Queues records in order, until the producer fails.
    fn send<'c>(&mut self, client: &'c ProducerClient, topics: &mut TopicHandles<'c>, records: &[RecordId]) {
        self.now = jiff::Timestamp::now().as_millisecond();
        for (number, id) in records.iter().enumerate() {
            if self.failure.is_some() {
                return;
            }
            if let Err(outcome) = self.queue(client, topics, *id) {
                self.settle(*id, outcome);
            }
            if number % SERVE_EVERY == SERVE_EVERY - 1 {
                self.serve(client, Duration::ZERO);
            }
        }
    }

    /// Queues one record, unless that is impossible for the record itself. Waits for a full queue, and for a partition that the
    /// producer does not know yet: the records behind it must not overtake it.
    fn queue<'c>(&mut self, client: &'c ProducerClient, topics: &mut TopicHandles<'c>, id: RecordId) -> Result<(), Outcome> {
        let Some(batch) = &self.batches[id.slot] else { return Ok(()) };
        let batch = Arc::clone(&batch.batch);
        let record = &batch[id.at];
        let (topic, partition) = (self.route)(record);
        let (handle, limits) = match topics.entry(topic) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let handle = ProducerTopic::new(client.producer.client(), topic.name());
                let handle =
                    handle.map_err(|error| Outcome::Stop(Reason::new("not_queued", format!("topic `{topic}`: {error}"))))?;
                new.insert((handle, self.factory.limits(topic)))
            }
        };
        if let Some(reason) = unwritable(record, topic, *limits, self.keep_timestamps, self.now) {
            return Err(Outcome::Reject(reason));
        }
        let outgoing = Outgoing {
            partition,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            token: id.token(),
        };
        let mut missing_since = Instant::now();
        loop {
            let Err(error) = messages::produce(client.producer.client(), handle, &outgoing) else {
                *self.state(id) = RecordState::Queued;
                self.unreported += 1;
                return Ok(());
            };
            match error.code {
                RDKafkaErrorCode::QueueFull if self.unreported > 0 => self.serve(client, QUEUE_TIMEOUT),
                RDKafkaErrorCode::QueueFull => {
                    let message = format!("the record is larger than the queue of the producer ({QUEUE_KBYTES} KiB)");
                    return Err(Outcome::Reject(Reason::new("record_too_large", message)));
                }
                RDKafkaErrorCode::Fatal => {
                    self.failure.get_or_insert(error);
                    return Ok(());
                }
                _ if error.is_unknown_partition() && missing_since.elapsed() < MISSING_TIMEOUT && self.is_awaited(id) => {
                    self.factory.log.client_log.error_text(&format!("topic `{topic}`: {}", error.summary()));
                    // The producer's metadata may be 5 minutes old: another client has created the partition since.
                    if client.producer.client().fetch_metadata(Some(topic.name()), METADATA_TIMEOUT).is_err() {
                        missing_since = Instant::now();
                    }
                    self.serve(client, METADATA_PAUSE);
                }
                _ => match refusal(&error, topic) {
                    Some(reason) => return Err(Outcome::Reject(reason)),
                    None => return Err(Outcome::Stop(lasting("not_queued", &error, topic))),
                },
            }
            if self.failure.is_some() {
                return Ok(());
            }
        }
    }

    /// Returns whether the engine still waits for the record's outcome.
    fn is_awaited(&self, id: RecordId) -> bool {
        self.batches[id.slot].as_ref().is_some_and(|batch| !batch.answer.is_closed())
    }

    /// Collects delivery reports; waits up to `timeout` for the first.
    fn serve(&mut self, client: &ProducerClient, timeout: Duration) {
        let mut delivered = false;
        let errors = messages::reports(&client.reports, timeout, |token, error| {
            self.unreported -= 1;
            let id = RecordId::of(token);
            match error {
                None => {
                    delivered = true;
                    self.settle(id, Outcome::Delivered);
                }
                Some(error) => self.on_undelivered(id, error),
            }
        });
        for error in errors {
            self.factory.log.client_log.error_text(&error.text);
            if error.code == RDKafkaErrorCode::Fatal {
                self.failure.get_or_insert(error);
            }
        }
        if delivered {
            self.factory.log.client_log.clear();
        }
    }

    fn on_undelivered(&mut self, id: RecordId, error: NativeError) {
        use RDKafkaErrorCode as Code;
        let is_unsent = error.is_unknown_partition()
            || matches!(
                error.code,
                Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee | Code::OutOfOrderSequenceNumber
            );
        let Some(batch) = &self.batches[id.slot] else { return };
        let topic = (self.route)(&batch.batch[id.at]).0;
        match refusal(&error, topic) {
            Some(reason) => *self.state(id) = RecordState::Refused(reason),
            None if error.code == Code::InvalidDifferentRecord => *self.state(id) = RecordState::NotToBlame,
            None if is_unsent => *self.state(id) = RecordState::Unsent,
            None => self.settle(id, Outcome::Stop(lasting("not_delivered", &error, topic))),
        }
        // What was purged was purged for a failure of another record.
        let is_purge = |error: &NativeError| matches!(error.code, Code::PurgeQueue | Code::PurgeInflight);
        let known = self.failure.take().filter(|known| !is_purge(known) || is_purge(&error));
        self.failure = Some(known.unwrap_or(error));
    }

    /// Takes everything out of a failed producer, and waits for the reports of what was on its way.
    fn empty(&mut self, client: &ProducerClient) {
        while self.unreported > 0 {
            messages::purge_queue(client.producer.client());
            self.serve(client, QUEUE_TIMEOUT);
        }
    }

    fn state(&mut self, id: RecordId) -> &mut RecordState {
        &mut self.batches[id.slot].as_mut().expect("the batch of a record in flight").states[id.at]
    }

    /// Notes the outcome of one record, and answers for the batch when it was the last.
    fn settle(&mut self, id: RecordId, outcome: Outcome) {
        *self.state(id) = RecordState::Answered(outcome);
        self.answered += 1;
        let batch = self.batches[id.slot].as_mut().expect("the batch of a record in flight");
        batch.unanswered -= 1;
        if batch.unanswered == 0 {
            self.answer(id.slot);
        }
    }

    fn answer(&mut self, slot: usize) {
        let Some(batch) = self.batches[slot].take() else { return };
        self.free.push(slot);
        self.order.retain(|other| *other != slot);
        let outcomes = batch.states.into_iter().map(|state| match state {
            RecordState::Answered(outcome) => outcome,
            other => unreachable!("{other:?} in an answered batch"),
        });
        // The engine may have stopped waiting.
        let _ = batch.answer.send(outcomes.collect());
    }

    fn stop_all(mut self, reason: &Reason) {
        for group in self.unanswered() {
            group.records.into_iter().for_each(|id| self.settle(id, Outcome::Stop(reason.clone())));
        }
    }
}

/// Returns why a record can not be written as it is. It must be known before it is sent: a refusal holds up everything behind it, and
/// librdkafka changes some records without an error.
fn unwritable(record: &Record, topic: Topic, limits: TopicLimits, keep_timestamps: bool, now: i64) -> Option<Reason> {
    let size = batch_size(record);
    let limit = limits.max_message_bytes;
    if size > limit {
        let message = format!("the record has {size} bytes as a batch, above the {limit} of topic `{topic}`");
        return Some(Reason::new("record_too_large", message).hint(format!("raise `max.message.bytes` of `{topic}`")));
    }
    let replaced = "which librdkafka replaces by the current time";
    match record.timestamp {
        Some(0) => {
            Some(Reason::new("timestamp_zero", format!("the timestamp of the record is 0 (1970-01-01T00:00:00Z), {replaced}")))
        }
        None if keep_timestamps => {
            Some(Reason::new("timestamp_missing", format!("the record has no timestamp (-1), {replaced}")))
        }
        Some(time) if limits.timestamps.is_some_and(|limits| is_out_of_range(time, limits, now)) => {
            let message = format!("topic `{topic}` does not accept the timestamp of the record ({time} ms since 1970)");
            Some(Reason::new("timestamp_refused", message).hint(timestamp_hint(topic)))
        }
        _ if limits.needs_key && record.key.is_none() => {
            Some(Reason::new("key_missing", format!("the record has no key, and topic `{topic}` is compacted")))
        }
        _ => None,
    }
}

/// Returns whether a broker refuses a timestamp, whichever of both clocks is ahead; it decides near the limits.
fn is_out_of_range(time: i64, (before, after): (i64, i64), now: i64) -> bool {
    time < now.saturating_sub(before).saturating_sub(CLOCK_SKEW) || time > now.saturating_add(after).saturating_add(CLOCK_SKEW)
}

fn timestamp_hint(topic: Topic) -> String {
    format!("see `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of `{topic}`")
}

/// Returns the bytes of a batch of this record alone, uncompressed, as the broker compares them with `max.message.bytes`.
fn batch_size(record: &Record) -> usize {
    const BATCH_HEADER: usize = 61;
    let field = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint(bytes.len()) + bytes.len());
    let headers = record.headers.iter().map(|(name, value)| field(Some(name)) + field(value.as_deref()));
    // Attributes, timestamp delta and offset delta take a byte each.
    let body =
        3 + field(record.key.as_deref()) + field(record.value.as_deref()) + varint(record.headers.len()) + headers.sum::<usize>();
    BATCH_HEADER + varint(body) + body
}

/// Returns the bytes of a zigzag varint.
fn varint(value: usize) -> usize {
    let bits = usize::BITS - (value << 1).leading_zeros();
    (bits as usize).div_ceil(7).max(1)
}

/// Returns the reason of an error that every record meets until a person acts.
fn lasting(code: &'static str, error: &NativeError, topic: Topic) -> Reason {
    if error.code == RDKafkaErrorCode::TopicAuthorizationFailed {
        return Reason::new("not_authorized", format!("not allowed to write to topic `{topic}`"))
            .hint("give the user WRITE on the topic");
    }
    Reason::new(code, format!("topic `{topic}`: {}", error.summary()))
}

/// Returns why a broker refuses a record of the batch, if it does because of a record.
fn refusal(error: &NativeError, topic: Topic) -> Option<Reason> {
    use RDKafkaErrorCode as Code;
    let (code, hint) = match error.code {
        Code::InvalidTimestamp => ("timestamp_refused", timestamp_hint(topic)),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            ("record_too_large", format!("raise `max.message.bytes` of `{topic}`"))
        }
        Code::InvalidRecord | Code::InvalidMessage | Code::PolicyViolation | Code::UnsupportedForMessageFormat => {
            ("record_refused", format!("see the configuration of topic `{topic}` and the log of the broker"))
        }
        _ => return None,
    };
    Some(Reason::new(code, format!("topic `{topic}` does not accept the record: {}", error.summary())).hint(hint))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_size_of_a_record_is_exact() {
        let record = |value: usize, headers: usize| Record {
            partition: Partition::new("sizes", 0),
            offset: 0,
            timestamp: Some(1),
            key: None,
            value: Some(Bytes::from(vec![b'x'; value])),
            headers: vec![(Bytes::from_static(b"h00"), Some(Bytes::from_static(b"v"))); headers],
        };
        // The largest values that a broker accepts with the default of 1,048,588 bytes.
        assert_eq!(batch_size(&record(1_048_516, 0)), 1_048_588);
        assert_eq!(batch_size(&record(1_048_516 - 30 * 6, 30)), 1_048_588);
        for (value, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3)] {
            assert_eq!(varint(value), bytes, "{value}");
        }
    }

    /// Of 28 November 2026, in milliseconds since the Unix epoch.
    const NOW: i64 = 1_795_900_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_record_that_librdkafka_would_change_or_the_broker_refuse_is_unwritable() {
        let limits = TopicLimits { needs_key: true, timestamps: Some((24 * HOUR, HOUR)), ..TopicLimits::default() };
        let topic = Topic::named("sizes");
        let record = |timestamp, key: Option<&'static [u8]>| Record {
            partition: Partition::new("sizes", 0),
            offset: 0,
            timestamp,
            key: key.map(Bytes::from_static),
            value: None,
            headers: Vec::new(),
        };
        let code = |record: &Record| unwritable(record, topic, limits, true, NOW).map(|reason| reason.code().to_owned());
        assert_eq!(code(&record(Some(0), Some(b"k"))).as_deref(), Some("timestamp_zero"));
        assert_eq!(code(&record(None, Some(b"k"))).as_deref(), Some("timestamp_missing"));
        assert_eq!(code(&record(Some(NOW), None)).as_deref(), Some("key_missing"));
        assert_eq!(code(&record(Some(NOW), Some(b"k"))), None);
        for outside in [1, NOW - 25 * HOUR, NOW + 2 * HOUR, i64::MAX] {
            assert_eq!(code(&record(Some(outside), Some(b"k"))).as_deref(), Some("timestamp_refused"), "{outside}");
        }
        // Within ten minutes of a limit the broker decides.
        for near in [NOW - 24 * HOUR - 1, NOW + HOUR + 1] {
            assert_eq!(code(&record(Some(near), Some(b"k"))), None, "{near}");
        }
        assert!([1, i64::MAX].into_iter().all(|time| !is_out_of_range(time, (i64::MAX, i64::MAX), NOW)), "no limits");
    }
}
