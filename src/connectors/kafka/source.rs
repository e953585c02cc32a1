//! Records out of Kafka: a thread of its own polls, because rebalances happen on the thread that polls and must be able to wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::connectors::kafka::admin::{EndOf, list_ends};
use crate::connectors::kafka::client::{self, Listening};
use crate::connectors::kafka::commits::Committer;
use crate::connectors::kafka::cutter::Cutter;
use crate::connectors::kafka::handover::Handover;
use crate::connectors::kafka::membership::{Membership, Prepare, Progress, Shared, lock, log_refusal};
use crate::connectors::kafka::native::commits::seen_ends;
use crate::connectors::kafka::native::messages;
use crate::connectors::kafka::plan::Plan;
use crate::connectors::kafka::resume::{self, ResumeRules};
use crate::pipeline::{Appetite, Assignment, Commit, EndError, Failure, Signal, Source};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Topic};

/// How long one poll waits when nothing arrives.
const IDLE: Duration = Duration::from_millis(50);
/// How long an open batch waits for more.
const LINGER: Duration = Duration::from_millis(1);
/// How long a full queue is waited for before the partitions are paused, so that the group is polled on.
const BEFORE_PAUSE: Duration = Duration::from_millis(500);
/// How often the ends of partitions are told.
const TELL_ENDS: Duration = Duration::from_secs(1);
/// How often the topics of a pattern are looked up.
const LOOK_FOR_TOPICS: Duration = Duration::from_secs(10);
/// How long a topic may seem to be gone, as it does while a broker that was restarted learns of it.
const MISSING: Duration = Duration::from_secs(10);
/// For how long after a flush the next one is expected.
const ONE_BY_ONE: Duration = Duration::from_secs(1);
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
    shared: Arc<Shared>,
    /// The outcome of the last commit.
    closed: oneshot::Receiver<Result<(), EndError>>,
    /// Gone when the group was left.
    left: oneshot::Receiver<()>,
}

impl KafkaSource {
    /// Joins the group, or takes the partitions, and begins to read as planned.
    ///
    /// # Errors
    /// When the client cannot be made: a property that librdkafka does not know, an unreadable file.
    pub fn open(section: &KafkaSection, plan: &Plan, options: SourceOptions) -> Result<Self, EndError> {
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
        let stops: HashMap<Partition, i64> =
            plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.stop?))).collect();
        let checked = plan.partitions.iter().filter_map(|planned| Some((planned.partition, planned.committed.clone()?)));
        let handover = Handover::new(2 * options.batch, options.buffer_bytes);
        let bounded = !stops.is_empty();
        let shared = Arc::new(Shared::new(
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
        let membership = Membership { shared: Arc::clone(&shared), listening: Listening::default() };
        let unmade = |error| Failure::new(format!("cannot make a consumer for `{}`", section.name)).because(error);
        let consumer: BaseConsumer<Membership> = config.create_with_context(membership).map_err(unmade)?;
        let (done, closed) = oneshot::channel();
        let (here, left) = oneshot::channel();
        let reader = Reader {
            committer: Committer::new(&consumer, options.commit_interval),
            consumer,
            shared: Arc::clone(&shared),
            subscription: options.subscription,
            batch: options.batch,
            batch_bytes: (options.buffer_bytes / 8).max(1),
            cutter: Cutter::default(),
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
                reader.run(done);
                drop(here);
            })
            .map_err(|error| Failure::new("cannot start a thread").because(error))?;
        Ok(Self { shared, closed, left })
    }
}

impl Source for KafkaSource {
    async fn next(&mut self, appetite: Appetite) -> Result<Signal, EndError> {
        self.shared.handover.next(appetite).await
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let progress = lock(&self.shared.progress);
        let owned = commits.into_iter().filter(|commit| progress.contains_key(&commit.partition));
        lock(&self.shared.noted).extend(owned.map(|commit| (commit.partition, commit)));
    }

    async fn flush(&mut self) -> Result<(), EndError> {
        let (request, flushed) = oneshot::channel();
        lock(&self.shared.flushes).push(request);
        let gone = || Failure::new(format!("the consumer of `{}` is gone", self.shared.section.name)).into();
        flushed.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn close(mut self) -> Result<(), EndError> {
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

/// The thread that polls.
struct Reader {
    consumer: BaseConsumer<Membership>,
    committer: Committer,
    shared: Arc<Shared>,
    subscription: Subscription,
    batch: usize,
    batch_bytes: usize,
    cutter: Cutter,
    /// The place of the last message and what is known of it: records come in runs.
    current: Option<((usize, i32), Partition, i64)>,
    told_ends: Instant,
    looked_for_topics: Instant,
    looked_for_end: Instant,
    known_topics: std::collections::BTreeSet<Topic>,
    /// When a flush was last asked for.
    flushed: Option<Instant>,
    /// Since when a topic that is read may be gone.
    missing_since: Option<Instant>,
    ended: bool,
    troubled: bool,
}

impl Reader {
    fn run(mut self, done: oneshot::Sender<Result<(), EndError>>) {
        if let Err(error) = self.join() {
            self.shared.handover.fail(error);
        }
        while !self.shared.is_closing() {
            self.committer.serve(&self.consumer, &self.shared);
            self.serve_flushes();
            self.collect();
            self.forget_gone();
            if self.cutter.len() > 0 {
                self.hand_over();
            } else {
                self.tell_positions();
            }
            self.tell_ends();
            self.look_for_topics();
            self.look_for_missing();
            self.look_for_end();
        }
        let outcome = self.committer.flush(&self.consumer, &self.shared, Instant::now() + LAST_COMMIT);
        // Nobody may be waiting for it any more.
        let _ = done.send(outcome);
        drop(self.committer);
        drop(self.consumer);
    }

    fn join(&self) -> Result<(), EndError> {
        let joined = match &self.subscription {
            Subscription::Topics(topics) => self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>()),
            Subscription::Matching(_) => {
                self.consumer.subscribe(&self.known_topics.iter().map(|topic| topic.name()).collect::<Vec<_>>())
            }
            Subscription::Assigned(partitions) => {
                self.consumer.context().assigned(&self.consumer, partitions);
                Ok(())
            }
        };
        let what = || Failure::new(format!("cannot subscribe on `{}`", self.shared.section.name));
        joined.map_err(|error| what().because(error).into())
    }

    /// Polls until a batch is full, or nothing more is there.
    fn collect(&mut self) {
        let mut opened: Option<Instant> = None;
        let mut patience = self.patience(IDLE);
        while self.cutter.len() < self.batch && self.cutter.bytes() < self.batch_bytes {
            match self.consumer.poll(patience) {
                Some(Ok(message)) => {
                    take(&self.shared, &self.consumer, &mut self.current, &mut self.cutter, &message);
                    patience = Duration::ZERO;
                }
                Some(Err(error)) => return self.complain(&error),
                None if self.cutter.len() == 0 => return,
                None => {
                    let opened = *opened.get_or_insert_with(Instant::now);
                    patience = LINGER.saturating_sub(opened.elapsed());
                    if patience.is_zero() {
                        break;
                    }
                }
            }
            if self.shared.has_gone() {
                return;
            }
        }
        if self.troubled {
            self.troubled = false;
            self.shared.handover.signal(Signal::Trouble(None));
        }
    }

    /// Returns how long to wait for records or room: as usual, unless commits are being waited for one by one.
    fn patience(&self, usual: Duration) -> Duration {
        if self.flushed.is_some_and(|at| at.elapsed() < ONE_BY_ONE) { Duration::from_millis(1) } else { usual }
    }

    fn forget_gone(&mut self) {
        if let Some(gone) = self.shared.gone() {
            self.cutter.forget(&gone);
            self.committer.forget(&gone);
            self.current = None;
        }
    }

    /// Hands the open batch to the engine; while there is no room, the group is polled on with everything paused.
    fn hand_over(&mut self) {
        let mut records = self.cutter.take();
        let begun = Instant::now();
        let mut paused = false;
        loop {
            let runs: Vec<(Partition, i64)> = records
                .iter()
                .enumerate()
                .filter(|(at, record)| records.get(at + 1).is_none_or(|next| next.partition != record.partition))
                .map(|(_, record)| (record.partition, record.offset + 1))
                .collect();
            match self.shared.handover.offer(records, self.patience(Duration::from_millis(20))) {
                Ok(()) => {
                    let mut progress = lock(&self.shared.progress);
                    for (partition, next) in runs {
                        if let Some(progress) = progress.get_mut(&partition) {
                            progress.next = next;
                        }
                    }
                    break;
                }
                Err(back) => records = back,
            }
            self.committer.serve(&self.consumer, &self.shared);
            self.serve_flushes();
            if self.shared.is_closing() {
                return;
            }
            if begun.elapsed() > BEFORE_PAUSE {
                self.for_all("pause", rdkafka::consumer::Consumer::pause);
                paused = true;
                match self.consumer.poll(self.patience(Duration::from_millis(80))) {
                    // What was under way before the pause follows the batch that waits.
                    Some(Ok(message)) => take(&self.shared, &self.consumer, &mut self.current, &mut self.cutter, &message),
                    Some(Err(error)) => self.complain(&error),
                    None => {}
                }
                if let Some(gone) = self.shared.gone() {
                    records.retain(|record| !gone.contains(&record.partition));
                    self.cutter.forget(&gone);
                    self.committer.forget(&gone);
                    self.current = None;
                }
            }
        }
        if paused {
            self.for_all("resume", rdkafka::consumer::Consumer::resume);
            self.nudge();
        }
        self.check_end();
    }

    /// Calls `what` with every assigned partition that is still to be read.
    fn for_all(
        &self,
        name: &str,
        what: impl Fn(&BaseConsumer<Membership>, &TopicPartitionList) -> rdkafka::error::KafkaResult<()>,
    ) {
        let mut list = TopicPartitionList::new();
        for (partition, progress) in lock(&self.shared.progress).iter() {
            if !progress.is_done() {
                list.add_partition(partition.topic.name(), partition.index);
            }
        }
        log_refusal(name, what(&self.consumer, &list));
    }

    /// Wakes the threads of librdkafka: after a resume they would sleep on for up to a second, but a request rouses them.
    fn nudge(&self) {
        let one_of_each: HashMap<Topic, Partition> =
            lock(&self.shared.progress).keys().map(|partition| (partition.topic, *partition)).collect();
        for partition in one_of_each.values() {
            let asked = self.consumer.fetch_watermarks(partition.topic.name(), partition.index, Duration::from_secs(1));
            if let Err(error) = asked {
                tracing::debug!(%error, %partition, "the broker did not answer a nudge");
            }
        }
    }

    /// Tells where each partition stands when nothing is to be read: past control records, at the end.
    fn tell_positions(&mut self) {
        let Ok(list) = self.consumer.position() else { return };
        let mut passed = Vec::new();
        let mut progress = lock(&self.shared.progress);
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let partition = Partition::new(element.topic(), element.partition());
            if let Some(progress) = progress.get_mut(&partition) {
                let position = progress.stop.map_or(position, |stop| position.min(stop.max(progress.next)));
                if position > progress.next {
                    progress.next = position;
                    passed.push((partition, NextOffset(position)));
                }
            }
        }
        drop(progress);
        if !passed.is_empty() {
            self.shared.handover.positions(passed);
        }
        self.check_end();
    }

    /// Says that the run is over once every partition has been read to its stop.
    fn check_end(&mut self) {
        if self.shared.bounded && !self.ended {
            let progress = lock(&self.shared.progress);
            if !progress.is_empty() && progress.values().all(Progress::is_done) {
                drop(progress);
                self.ended = true;
                self.shared.handover.end();
            }
        }
    }

    /// A member without partitions is done when the others have committed everything.
    fn look_for_end(&mut self) {
        if !self.shared.bounded
            || self.ended
            || self.looked_for_end.elapsed() < TELL_ENDS
            || !lock(&self.shared.progress).is_empty()
        {
            return;
        }
        self.looked_for_end = Instant::now();
        let mut list = TopicPartitionList::with_capacity(self.shared.stops.len());
        for partition in self.shared.stops.keys() {
            list.add_partition(partition.topic.name(), partition.index);
        }
        let Ok(committed) = self.consumer.committed_offsets(list, Duration::from_secs(1)) else { return };
        let done = committed.elements().iter().all(|element| {
            let stop = self.shared.stops.get(&Partition::new(element.topic(), element.partition())).copied().unwrap_or(0);
            stop == 0 || matches!(element.offset(), Offset::Offset(next) if next >= stop)
        });
        if done {
            self.ended = true;
            self.shared.handover.end();
        }
    }

    fn tell_ends(&mut self) {
        if self.told_ends.elapsed() >= TELL_ENDS {
            self.told_ends = Instant::now();
            let owned: Vec<Partition> = lock(&self.shared.progress).keys().copied().collect();
            let client = self.consumer.client();
            let end = |partition: Partition| Some((partition, seen_ends(client, partition.topic.name(), partition.index)?.1));
            self.shared.handover.signal(Signal::Ends(owned.into_iter().filter_map(end).collect()));
        }
    }

    /// Subscribes to topics that have come to fit the pattern.
    fn look_for_topics(&mut self) {
        let Subscription::Matching(fits) = &self.subscription else { return };
        if self.looked_for_topics.elapsed() < LOOK_FOR_TOPICS {
            return;
        }
        self.looked_for_topics = Instant::now();
        let Ok(metadata) = self.consumer.fetch_metadata(None, Duration::from_secs(2)) else { return };
        let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
        let fitting = names.filter(|name| fits(name)).map(Topic::named).collect();
        if fitting != self.known_topics {
            tracing::info!(topics = ?fitting, "The topics that fit the pattern have changed.");
            self.known_topics = fitting;
            if let Err(error) = self.join() {
                self.shared.handover.fail(error);
            }
        }
    }

    fn serve_flushes(&mut self) {
        for request in std::mem::take(&mut *lock(&self.shared.flushes)) {
            let flushed = self.committer.flush(&self.consumer, &self.shared, Instant::now() + LAST_COMMIT);
            self.flushed = Some(Instant::now());
            // The engine may have stopped waiting.
            let _ = request.send(flushed);
        }
    }

    /// Sorts an error of the consumer: what passes is told, what does not ends the feed.
    fn complain(&mut self, error: &KafkaError) {
        let section = &self.shared.section.name;
        let failure = |what: &str| Failure::new(format!("{what} `{section}`")).because(error);
        let KafkaError::MessageConsumption(code) = error else {
            if let KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId) = error {
                let fenced = failure("another member took over the instance id on");
                return self.shared.handover.fail(fenced.hint("give each running member an --instance-id of its own").into());
            }
            return self.shared.handover.fail(failure("cannot read from").into());
        };
        match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => self.mend_gaps(),
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                let refused = failure("not allowed to read from");
                self.shared.handover.fail(refused.hint("give the user READ on the topic and on the group").into());
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                self.missing_since.get_or_insert_with(Instant::now);
                self.tell_trouble(error);
            }
            _ => self.tell_trouble(error),
        }
    }

    fn tell_trouble(&mut self, error: &KafkaError) {
        self.troubled = true;
        let said = self.consumer.context().listening.said.last();
        self.shared.handover.signal(Signal::Trouble(Some(said.unwrap_or_else(|| error.to_string()))));
    }

    /// Fails when a topic that was to be read has been gone for too long.
    fn look_for_missing(&mut self) {
        if self.missing_since.is_none_or(|since| since.elapsed() < MISSING) {
            return;
        }
        self.missing_since = None;
        if matches!(self.subscription, Subscription::Matching(_)) {
            return; // what fits the pattern is looked up anyway
        }
        for topic in &self.known_topics {
            let there = self.consumer.fetch_metadata(Some(topic.name()), Duration::from_secs(2));
            if there.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.partitions().is_empty())) {
                let failure = Failure::new(format!("topic `{topic}` is gone from `{}`", self.shared.section.name));
                let hint = "create it again or leave it out; a topic that is created anew is read with --from-beginning";
                return self.shared.handover.fail(failure.hint(hint).into());
            }
        }
    }

    /// An offset that was to be read is not in the log: refuse, or go on where it was asked for.
    fn mend_gaps(&mut self) {
        let owned: Vec<(Partition, i64)> =
            lock(&self.shared.progress).iter().map(|(partition, at)| (*partition, at.next)).collect();
        let partitions: Vec<Partition> = owned.iter().map(|(partition, _)| *partition).collect();
        let ends = |of| list_ends(self.consumer.client(), &partitions, of);
        let (low, end) = match (ends(EndOf::Start), ends(EndOf::Log)) {
            (Ok(low), Ok(end)) => (low, end),
            (Err(error), _) | (_, Err(error)) => {
                let failure = Failure::new(format!("cannot read the ends of partitions of `{}`", self.shared.section.name));
                return self.shared.handover.fail(failure.because(error).into());
            }
        };
        for (partition, wanted) in owned {
            let at = |ends: &HashMap<Partition, i64>| ends.get(&partition).copied().unwrap_or(0);
            if (at(&low)..=at(&end)).contains(&wanted) {
                continue;
            }
            match resume::gap(partition, wanted, at(&low), at(&end), self.shared.rules.on_gap) {
                Ok(next) => self.jump(partition, next),
                Err(refused) => return self.shared.handover.fail(refused.into()),
            }
        }
    }

    /// Begins a new life of a partition behind a gap.
    fn jump(&mut self, partition: Partition, next: NextOffset) {
        tracing::warn!(%partition, offset = next.0, "Records are missing; reading goes on behind the gap.");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(partition.topic.name(), partition.index);
        log_refusal("unassign", self.consumer.incremental_unassign(&list));
        self.shared.forget(&[partition]);
        self.shared.handover.signal(Signal::Lost(vec![partition]));
        let begun = self.shared.begin(partition, next);
        lock(&self.shared.progress).insert(partition, begun);
        self.shared.handover.signal(Signal::Assigned(vec![Assignment { partition, start: next, last: None }]));
        list.set_all_offsets(Offset::Offset(next.0)).expect("an offset is not negative");
        log_refusal("assign", self.consumer.incremental_assign(&list));
    }
}

/// Puts a message into the open batch, unless it lies beyond the stop of its partition.
fn take(
    shared: &Shared,
    consumer: &BaseConsumer<Membership>,
    current: &mut Option<((usize, i32), Partition, i64)>,
    cutter: &mut Cutter,
    message: &BorrowedMessage<'_>,
) {
    let place = messages::place(message);
    let (partition, stop) = match current {
        Some((known, partition, stop)) if *known == place => (*partition, *stop),
        _ => {
            let partition = Partition::new(message.topic(), message.partition());
            let stop = lock(&shared.progress).get(&partition).and_then(|progress| progress.stop).unwrap_or(i64::MAX);
            *current = Some((place, partition, stop));
            (partition, stop)
        }
    };
    if message.offset() < stop {
        return cutter.push(partition, message);
    }
    // What lies behind the stop is not fetched any further.
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(partition.topic.name(), partition.index);
    log_refusal("pause", consumer.pause(&list));
}
