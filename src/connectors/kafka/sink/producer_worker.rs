//! The thread that owns the producer.
//!
//! A broker refuses a batch of the producer as one, for a record in it: with a timestamp out of range, or too large. The producer is
//! gapless: it stops at the refusal, so nothing behind the refused batch is written. The worker then finds the record by bisecting
//! the batch in order, rejects it alone, and sends the rest, again in order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::oneshot;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::create_client;
use crate::connectors::kafka::librdkafka::bootstrap::BootstrapServers;
use crate::connectors::kafka::librdkafka::messages::{self, Outgoing, ProducerTopic};
use crate::connectors::kafka::librdkafka::{EventQueue, NativeError};
use crate::connectors::kafka::sink::copies::{Copies, OnCopied};
use crate::connectors::kafka::sink::record_limits::{Targets, TopicLimits, unwritable};
use crate::connectors::kafka::sink::refusals::{is_failure_of_producer, is_missing, lasting, located, refusal};
use crate::pipeline::{Batch, ConnectorError, Outcome, Reason, TargetWatch};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record, Topic};

/// How long the worker waits for delivery reports; a new batch wakes it.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the worker waits for reports when the producer's queue is full or is being emptied.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(10);
/// Timeout of one request for the metadata of a topic whose partition the producer does not know, and the pause before the next.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA_PAUSE: Duration = Duration::from_millis(100);
/// The pause before a new producer asks for a partition that the last one did not know.
const NEW_PRODUCER_PAUSE: Duration = Duration::from_secs(1);
/// How long the brokers may not list a partition: one that was restarted learns of it late.
const MISSING_TIMEOUT: Duration = Duration::from_secs(60);
/// The hint for a target that is missing for longer than that.
const CREATE_AGAIN: &str = "if it was deleted, start again: the start says how to copy what was in it";
/// A worker that did not run for this long was suspended, with the rest of the process: its partitions may be lost. Shorter than any
/// session that a broker accepts by default.
const SUSPENDED: Duration = Duration::from_secs(5);
/// How long nothing is sent after that, so that the source can tell which partitions are lost.
const SUSPENSION_PAUSE: Duration = Duration::from_secs(3);
/// Records to queue before delivery reports are served.
const SERVE_EVERY: usize = 500;

/// The most bytes in the producer's queue.
pub(super) const QUEUE_KBYTES: usize = 65536;

/// The target topic of a record, and the partition unless the key decides.
pub type Route = Box<dyn Fn(&Record) -> (Topic, Option<i32>) + Send>;

/// The present producer and the queue of its delivery reports.
#[derive(Clone)]
pub(super) struct ProducerClient {
    // Dropped before its client.
    pub(super) reports: Arc<EventQueue>,
    pub(super) producer: Arc<Authenticated<BaseProducer<LogContext>>>,
}

/// What the engine's side asks of the worker.
pub(super) enum Job {
    /// A batch, and the receiver of its outcomes.
    Send(Batch, oneshot::Sender<Vec<Outcome>>),
    /// Lost partitions: the records in earlier batches are not sent any more.
    Abandon(HashSet<Partition>),
}

/// Creates a producer, and another one after a refusal: a gapless producer writes nothing any more.
pub(super) struct ProducerFactory {
    pub(super) config: ClientConfig,
    pub(super) section: KafkaSection,
    pub(super) targets: Targets,
    pub(super) log: LogContext,
}

impl ProducerFactory {
    pub(super) fn create(&self) -> Result<ProducerClient, ConnectorError> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let smallest = targets.values().filter_map(|limits| limits.max_message_bytes).min().unwrap_or(1_000_000);
        drop(targets);
        let mut config = self.config.clone();
        // A batch above the topic's limit is refused with all its records, and split then.
        config.set("batch.size", (smallest / 10 * 9).clamp(1, 1_000_000).to_string());
        let producer: Authenticated<BaseProducer<LogContext>> = create_client(&self.section, &config, self.log.clone())?;
        Ok(ProducerClient { reports: Arc::new(EventQueue::of_producer(producer.client())), producer: Arc::new(producer) })
    }

    fn limits(&self, topic: Topic) -> TopicLimits {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.get(&topic).copied().unwrap_or_default()
    }
}

/// The thread that owns the producer: it queues batches in order and collects delivery reports.
pub(super) struct ProducerWorker {
    factory: ProducerFactory,
    client: Arc<Mutex<ProducerClient>>,
    bootstrap: BootstrapServers,
    abandoned: Arc<AtomicBool>,
    watch: TargetWatch,
    /// When the worker last looked at the clock.
    seen: Instant,
    /// Whether it did not run for so long before that partitions may be lost.
    was_suspended: bool,
    /// Whether records in flight belong to lost partitions.
    has_lost: bool,
    route: Route,
    keep_timestamps: bool,
    copies: Option<Copies>,
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
    /// Whether a target partition was unknown for too long, which ends the run: the records behind do not wait as long again.
    has_given_up: bool,
    /// When the last records were taken, in milliseconds since the Unix epoch.
    now: i64,
}

struct InFlightBatch {
    batch: Batch,
    states: Vec<RecordState>,
    unanswered: usize,
    /// Partitions that were lost since: their records are not sent any more.
    lost: HashSet<Partition>,
    answer: oneshot::Sender<Vec<Outcome>>,
}

impl InFlightBatch {
    fn is_lost(&self, at: usize) -> bool {
        self.lost.contains(&self.batch[at].partition)
    }
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
    /// A record was refused, or must not be sent any more.
    Interrupted,
}

/// The handles of the target topics of one producer.
type TopicHandles<'c> = HashMap<Topic, (ProducerTopic<'c>, TopicLimits)>;

impl ProducerWorker {
    pub(super) fn new(
        factory: ProducerFactory,
        client: Arc<Mutex<ProducerClient>>,
        abandoned: Arc<AtomicBool>,
        watch: TargetWatch,
        route: Route,
        keep_timestamps: bool,
        on_copied: Option<OnCopied>,
    ) -> Self {
        Self {
            factory,
            client,
            bootstrap: BootstrapServers::new(),
            abandoned,
            watch,
            seen: Instant::now(),
            was_suspended: false,
            has_lost: false,
            route,
            keep_timestamps,
            copies: on_copied.map(Copies::new),
            batches: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            unreported: 0,
            answered: 0,
            failure: None,
            has_given_up: false,
            now: 0,
        }
    }

    pub(super) fn run(mut self, mut client: ProducerClient, jobs: &mpsc::Receiver<Job>) {
        while let SessionEnd::Interrupted = self.session(&client, jobs) {
            self.stop_sending(&client, jobs);
            if let Some(reason) = self.refused() {
                while let Ok(job) = jobs.try_recv() {
                    self.register(job);
                }
                return self.stop_all(&reason);
            }
            if self.failure.is_none() && self.order.is_empty() {
                continue;
            }
            match self.judge(jobs) {
                Ok(new) => client = new,
                Err(reason) => return self.stop_all(&reason),
            }
        }
    }

    /// Sends batches until the producer must be stopped.
    fn session(&mut self, client: &ProducerClient, jobs: &mpsc::Receiver<Job>) -> SessionEnd {
        let mut topics = TopicHandles::new();
        while !self.is_interrupted() {
            // With an empty producer there is no report to wait for.
            let next = if self.unreported == 0 {
                jobs.recv_timeout(REPORT_TIMEOUT).map_err(|error| error == RecvTimeoutError::Disconnected)
            } else {
                jobs.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            };
            match next {
                Ok(Job::Send(batch, answer)) => {
                    let records = self.accept(batch, answer);
                    self.send(client, &mut topics, &records);
                }
                Ok(Job::Abandon(partitions)) => self.on_lost(&partitions),
                Err(true) => return SessionEnd::Closed,
                Err(false) => self.serve(client, REPORT_TIMEOUT),
            }
        }
        SessionEnd::Interrupted
    }

    /// Returns whether the producer must be stopped.
    fn is_interrupted(&mut self) -> bool {
        let now = Instant::now();
        self.was_suspended |= now - std::mem::replace(&mut self.seen, now) > SUSPENDED;
        self.failure.is_some() || self.may_have_lost() || self.watch.is_refused()
    }

    /// Returns why nothing more may be sent to the target topics.
    fn refused(&self) -> Option<Reason> {
        self.watch.refused().map(|refused| Reason::new("not_delivered", refused.what))
    }

    /// Returns whether records in flight belong to lost partitions, as far as known.
    fn may_have_lost(&self) -> bool {
        self.was_suspended || self.has_lost || self.abandoned.load(AtomicOrdering::Acquire)
    }

    /// Waits before a new producer is asked; less if records in flight may belong to lost partitions.
    fn pause(&mut self) {
        let until = Instant::now() + NEW_PRODUCER_PAUSE;
        while Instant::now() < until {
            std::thread::sleep(METADATA_PAUSE);
            self.is_interrupted(); // notes a suspension
            if self.may_have_lost() {
                return;
            }
        }
    }

    /// Takes everything out of the producer that is not on its way, waits for the reports of what is, and gives up the records of
    /// lost partitions. Batches that arrive meanwhile are registered.
    fn stop_sending(&mut self, client: &ProducerClient, jobs: &mpsc::Receiver<Job>) {
        messages::purge(client.producer.client(), false);
        if std::mem::take(&mut self.was_suspended) {
            let deadline = Instant::now() + SUSPENSION_PAUSE;
            while let Ok(job) = jobs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                self.register(job);
            }
        }
        loop {
            if self.abandoned.swap(false, AtomicOrdering::AcqRel) {
                while let Ok(job) = jobs.try_recv() {
                    self.register(job);
                }
            }
            if self.unreported == 0 {
                break;
            }
            // What is on its way may have been written: it is sent again if it is given up only where nothing else is.
            let gives_up_all = self.watch.is_refused() || (self.has_lost && self.is_all_lost());
            messages::purge(client.producer.client(), gives_up_all);
            self.serve(client, QUEUE_TIMEOUT);
            self.seen = Instant::now();
        }
        if std::mem::take(&mut self.has_lost) {
            for id in self.in_flight(InFlightBatch::is_lost) {
                self.settle(id, Outcome::Retry(Reason::new("partition_lost", "another member reads the partition")));
            }
        }
        self.seen = Instant::now();
    }

    /// Takes a job without sending anything.
    fn register(&mut self, job: Job) {
        match job {
            Job::Send(batch, answer) => drop(self.accept(batch, answer)),
            Job::Abandon(partitions) => self.on_lost(&partitions),
        }
    }

    /// Marks the records in flight of these partitions.
    fn on_lost(&mut self, partitions: &HashSet<Partition>) {
        for slot in &self.order {
            let batch = self.batches[*slot].as_mut().expect("a batch in flight");
            batch.lost.extend(partitions);
        }
        self.has_lost |= !self.in_flight(InFlightBatch::is_lost).is_empty();
    }

    fn is_all_lost(&self) -> bool {
        self.in_flight(|batch, at| !batch.is_lost(at)).is_empty()
    }

    /// Returns the records without an outcome for which `is_wanted` holds, in order.
    fn in_flight(&self, is_wanted: impl Fn(&InFlightBatch, usize) -> bool) -> Vec<RecordId> {
        let mut found = Vec::new();
        for slot in &self.order {
            let batch = self.batches[*slot].as_ref().expect("a batch in flight");
            let is_wanted = |at: &usize| !matches!(batch.states[*at], RecordState::Answered(_)) && is_wanted(batch, *at);
            found.extend((0..batch.states.len()).filter(is_wanted).map(|at| RecordId { slot: *slot, at }));
        }
        found
    }

    /// Finds the refused records among those in flight and sends the others, in order. Returns the producer to go on with.
    fn judge(&mut self, jobs: &mpsc::Receiver<Job>) -> Result<ProducerClient, Reason> {
        // Of a partition, everything before a refused batch has been written, and nothing behind it.
        self.reject_named();
        let mut groups = self.unanswered();
        let mut client = self.new_client()?;
        let mut missing_since = Instant::now();
        while let Some(group) = groups.pop() {
            if group.is_refused {
                groups.extend(self.split(group));
                continue;
            }
            let before = self.answered;
            self.send(&client, &mut TopicHandles::new(), &group.records);
            while self.unreported > 0 && !self.is_interrupted() {
                self.serve(&client, REPORT_TIMEOUT);
            }
            if let Some(reason) = self.refused() {
                self.stop_sending(&client, jobs);
                return Err(reason);
            }
            if self.may_have_lost() {
                self.stop_sending(&client, jobs);
                self.reject_named();
                groups = self.unanswered();
                client = self.new_client()?;
            } else if let Some(failure) = self.failure.clone() {
                self.stop_sending(&client, jobs);
                self.reject_named();
                let rest = self.groups(&group.records);
                if self.answered > before || rest.iter().any(|group| group.is_refused) {
                    missing_since = Instant::now();
                } else if is_missing(&failure) && missing_since.elapsed() < MISSING_TIMEOUT && self.is_any_awaited() {
                    self.factory.log.client_log.error_text(&failure.text);
                    self.pause();
                    if self.may_have_lost() {
                        self.stop_sending(&client, jobs);
                        groups = self.unanswered();
                        client = self.new_client()?;
                        continue;
                    }
                } else {
                    let what = format!("cannot write to `{}`: {failure}", self.factory.section.name);
                    let reason = Reason::new("not_delivered", what);
                    return Err(if is_missing(&failure) { reason.hint(CREATE_AGAIN) } else { reason });
                }
                groups.extend(rest);
                client = self.new_client()?;
            }
        }
        Ok(client)
    }

    fn new_client(&mut self) -> Result<ProducerClient, Reason> {
        let client = self.factory.create().map_err(|error| Reason::new("not_delivered", error.to_string()))?;
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
        self.groups(&self.in_flight(|_, _| true))
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

    fn accept(&mut self, batch: Batch, answer: oneshot::Sender<Vec<Outcome>>) -> Vec<RecordId> {
        let count = batch.len();
        let states = (0..count).map(|_| RecordState::Unsent).collect();
        let batch = InFlightBatch { batch, states, unanswered: count, lost: HashSet::new(), answer };
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

    /// Queues records in order, until the producer must be stopped.
    fn send<'c>(&mut self, client: &'c ProducerClient, topics: &mut TopicHandles<'c>, records: &[RecordId]) {
        self.now = jiff::Timestamp::now().as_millisecond();
        for (number, id) in records.iter().enumerate() {
            // A record behind one that was not queued must not overtake it.
            if self.failure.is_some() || self.may_have_lost() {
                return;
            }
            if let Err(outcome) = self.queue(client, topics, *id) {
                self.settle(*id, outcome);
            }
            if number % SERVE_EVERY == SERVE_EVERY - 1 {
                self.serve(client, Duration::ZERO);
                if self.is_interrupted() {
                    return;
                }
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
                // A producer that has failed refuses records with the code of its failure.
                _ if is_failure_of_producer(&error) => {
                    self.failure.get_or_insert(error);
                    return Ok(());
                }
                _ if error.is_unknown_partition() && !self.has_given_up && self.is_awaited(id) => {
                    self.factory.log.client_log.error_text(&located(&error, topic, partition).text);
                    // The producer's metadata may be 5 minutes old: another client has created the partition since.
                    if client.producer.client().fetch_metadata(Some(topic.name()), METADATA_TIMEOUT).is_err() {
                        missing_since = Instant::now();
                    }
                    self.has_given_up = missing_since.elapsed() > MISSING_TIMEOUT;
                    self.seen = Instant::now();
                    self.serve(client, METADATA_PAUSE);
                }
                _ => match refusal(&error, topic) {
                    Some(reason) => return Err(Outcome::Reject(reason)),
                    None if error.is_unknown_partition() => {
                        return Err(Outcome::Stop(lasting("not_queued", &error, topic, partition).hint(CREATE_AGAIN)));
                    }
                    None => return Err(Outcome::Stop(lasting("not_queued", &error, topic, partition))),
                },
            }
            if self.is_interrupted() {
                return Ok(());
            }
        }
    }

    /// Returns whether the engine still waits for any outcome.
    fn is_any_awaited(&self) -> bool {
        self.batches.iter().flatten().any(|batch| !batch.answer.is_closed())
    }

    /// Returns whether the engine still waits for the record's outcome.
    fn is_awaited(&self, id: RecordId) -> bool {
        self.batches[id.slot].as_ref().is_some_and(|batch| !batch.answer.is_closed())
    }

    /// Collects delivery reports; waits up to `timeout` for the first.
    fn serve(&mut self, client: &ProducerClient, timeout: Duration) {
        let mut delivered = false;
        let errors = messages::reports(&client.reports, timeout, |token, written| {
            self.unreported -= 1;
            let id = RecordId::of(token);
            match written {
                Ok(offset) => {
                    delivered = true;
                    if let (Some(copies), Some(batch)) = (&mut self.copies, &self.batches[id.slot]) {
                        copies.note(&batch.batch[id.at], offset);
                    }
                    self.settle(id, Outcome::Delivered);
                }
                Err(error) => self.on_undelivered(id, &error),
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
        } else {
            self.bootstrap.keep(client.producer.client());
        }
    }

    fn on_undelivered(&mut self, id: RecordId, error: &NativeError) {
        use RDKafkaErrorCode as Code;
        let is_purge = |error: &NativeError| matches!(error.code, Code::PurgeQueue | Code::PurgeInflight);
        let is_unsent = is_missing(error) || is_purge(error) || is_failure_of_producer(error);
        let Some(batch) = &self.batches[id.slot] else { return };
        let (topic, partition) = (self.route)(&batch.batch[id.at]);
        match refusal(error, topic) {
            Some(reason) => *self.state(id) = RecordState::Refused(reason),
            None if error.code == Code::InvalidDifferentRecord => *self.state(id) = RecordState::NotToBlame,
            None if is_unsent => *self.state(id) = RecordState::Unsent,
            None => self.settle(id, Outcome::Stop(lasting("not_delivered", error, topic, partition))),
        }
        // What was purged was purged for a failure of another record.
        let known = self.failure.take().filter(|known| !is_purge(known) || is_purge(error));
        self.failure = Some(known.unwrap_or_else(|| located(error, topic, partition)));
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
        if let Some(copies) = &mut self.copies {
            copies.report(batch.batch.last());
        }
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
