//! Periodic checks of the polling thread: log ends, topics that appear or disappear, the end of a bounded run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::admin::leader_of;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::admin::{DescribeTopicsRequest, ListOffsetsRequest, OffsetQuery, TopicDescription};
use crate::connectors::kafka::librdkafka::commits::cached_watermarks;
use crate::connectors::kafka::source::partitions::{OwnedPartitions, TopicIds};
use crate::connectors::kafka::source::rebalance::{PartitionFacts, RebalanceContext};
use crate::record::{Partition, Topic};

const LOG_END_INTERVAL: Duration = Duration::from_secs(1);
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const TOPIC_ID_INTERVAL: Duration = Duration::from_secs(1);
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);
/// How often leaders are asked after a problem.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// As [`RECOVERY_INTERVAL`], when records have been read since.
const READ_RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a topic may be unknown: a broker that was restarted learns of it late.
const MISSING_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the request for the name of a leader: short, because a lost partition must be noticed meanwhile.
const LEADER_TIMEOUT: Duration = Duration::from_millis(100);
/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// What changed in the topics since they were last described.
#[derive(Default)]
pub(crate) struct TopicChanges {
    pub(crate) recreated: Vec<Partition>,
    /// Partitions that were absent, and exist again.
    pub(crate) returned: Vec<Partition>,
}

pub(crate) struct Monitor {
    log_ends: Instant,
    topics: Instant,
    end_check: Instant,
    recovery: Instant,
    /// Whether records were read since leaders were last asked.
    has_read: bool,
    topic_id_check: Instant,
    /// Dropped before the consumer.
    topic_id_request: Option<DescribeTopicsRequest>,
    /// Dropped before the consumer.
    leader_request: Option<ListOffsetsRequest>,
    others: Option<OthersRequest>,
    /// The partitions whose leader did not answer, when it was last asked.
    unanswered: BTreeMap<Partition, NativeError>,
    /// Since when a subscribed topic is unknown to the brokers.
    unknown_since: Option<Instant>,
    said_waiting: bool,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            log_ends: now,
            topics: now,
            end_check: now,
            recovery: now,
            has_read: false,
            topic_id_check: now,
            topic_id_request: None,
            leader_request: None,
            others: None,
            unanswered: BTreeMap::new(),
            unknown_since: None,
            said_waiting: false,
        }
    }

    /// Returns the log ends of the owned partitions, when they are due; of those without an answer, none.
    pub(crate) fn log_ends(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
    ) -> Option<Vec<(Partition, Option<i64>)>> {
        let (client, unanswered) = (consumer.client(), &self.unanswered);
        let end = |partition: Partition| {
            let watermarks = cached_watermarks(client, partition.topic.name(), partition.index);
            watermarks.filter(|_| !unanswered.contains_key(&partition)).map(|(_, end)| end)
        };
        is_due(&mut self.log_ends, LOG_END_INTERVAL).then(|| partitions.iter().map(|(owned, _)| (owned, end(owned))).collect())
    }

    /// Returns the topics that match a pattern, when they are due.
    pub(crate) fn matching_topics(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        matches: &dyn Fn(&str) -> bool,
    ) -> Option<BTreeSet<Topic>> {
        if !is_due(&mut self.topics, TOPICS_INTERVAL) {
            return None;
        }
        let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).ok()?;
        let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
        Some(names.filter(|name| matches(name)).map(Topic::named).collect())
    }

    /// Notes that records were read while there is a problem.
    pub(crate) fn on_read(&mut self) {
        self.has_read = true;
    }

    /// Asks the leaders of the owned partitions while there is a problem: a record may have been fetched before it, and an idle topic
    /// has none. Returns whether they have just answered.
    pub(crate) fn has_asked_leaders(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
        is_degraded: bool,
    ) -> bool {
        if let Some(request) = &self.leader_request {
            let Some(answer) = request.poll(Duration::ZERO) else { return false };
            self.leader_request = None;
            self.unanswered = match answer {
                Ok(entries) => {
                    entries.into_iter().filter_map(|of| Some((Partition::new(&of.topic, of.partition), of.error?))).collect()
                }
                Err(error) => partitions.iter().map(|(partition, _)| (partition, error.clone())).collect(),
            };
            if let Some((partition, error)) = self.unanswered.iter_mut().next() {
                let metadata = consumer.fetch_metadata(Some(partition.topic.name()), LEADER_TIMEOUT);
                error.text += &metadata.map_or(String::new(), |metadata| leader_of(&metadata, *partition));
            }
            return true;
        }
        let is_wanted = is_degraded || !self.unanswered.is_empty();
        let interval = if self.has_read { READ_RECOVERY_INTERVAL } else { RECOVERY_INTERVAL };
        if !is_wanted || !is_due(&mut self.recovery, interval) {
            return false;
        }
        self.has_read = false;
        if partitions.is_empty() {
            self.unanswered.clear();
            return consumer.fetch_metadata(None, REQUEST_TIMEOUT).is_ok();
        }
        self.ask_leaders(consumer, partitions);
        false
    }

    /// Sends a request to the leaders of the owned partitions, unless one is on its way. Never waits.
    pub(crate) fn ask_leaders(&mut self, consumer: &BaseConsumer<RebalanceContext>, partitions: &OwnedPartitions) {
        let owned: Vec<(&str, i32)> = partitions.iter().map(|(owned, _)| (owned.topic.name(), owned.index)).collect();
        if self.leader_request.is_none() && !owned.is_empty() {
            let request = ListOffsetsRequest::send(consumer.client(), &owned, OffsetQuery::Latest, false, REQUEST_TIMEOUT);
            self.leader_request = Some(request);
        }
    }

    /// Returns why an owned partition is not read, as far as its leader was asked.
    pub(crate) fn problem(&self, partitions: &OwnedPartitions) -> Option<String> {
        let mut unanswered = self.unanswered.iter().filter(|(partition, _)| partitions.get(**partition).is_some());
        unanswered.next().map(|(partition, error)| format!("{partition}: {error}"))
    }

    /// Returns the owned partitions of topics that were deleted and created again: librdkafka reads on in the new topic at the old
    /// offset; and the absent partitions that exist again. Never waits.
    pub(crate) fn topic_changes(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
        topic_ids: &TopicIds,
    ) -> TopicChanges {
        let with_id = || partitions.iter().map(|(partition, _)| partition).filter(|of| topic_ids.get(*of).is_some());
        if let Some(request) = &self.topic_id_request {
            let Some(answer) = request.poll(Duration::ZERO) else { return TopicChanges::default() };
            self.topic_id_request = None;
            let described = answer.unwrap_or_default().into_iter();
            let topics: HashMap<Topic, TopicDescription> =
                described.filter_map(|(name, of)| Some((Topic::named(&name), of.ok()?))).collect();
            let id = |partition: Partition| topics.get(&partition.topic).and_then(|topic| topic.id.as_deref());
            let exists = |partition: &Partition| topics.get(&partition.topic).is_some_and(|topic| topic.has(*partition));
            return TopicChanges {
                recreated: with_id().filter(|partition| topic_ids.replaced(*partition, id(*partition)).is_some()).collect(),
                returned: partitions.absent().iter().copied().filter(exists).collect(),
            };
        }
        let topics: BTreeSet<Topic> =
            with_id().chain(partitions.absent().iter().copied()).map(|partition| partition.topic).collect();
        if !topics.is_empty() && is_due(&mut self.topic_id_check, TOPIC_ID_INTERVAL) {
            let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            self.topic_id_request = DescribeTopicsRequest::send(consumer.client(), &names, REQUEST_TIMEOUT).ok();
        }
        TopicChanges::default()
    }

    /// Notes that the brokers do not know a topic.
    pub(crate) fn on_unknown_topic(&mut self) {
        self.unknown_since.get_or_insert_with(Instant::now);
    }

    /// Returns a topic that the brokers have not known for too long.
    pub(crate) fn missing_topic(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        needed: impl Fn() -> BTreeSet<Topic>,
    ) -> Option<Topic> {
        if self.unknown_since.is_none_or(|since| since.elapsed() < MISSING_TIMEOUT) {
            return None;
        }
        self.unknown_since = None;
        needed().into_iter().find(|topic| is_missing(consumer, *topic))
    }

    /// Returns whether the other members of the group have committed their partitions up to the stops of a bounded run. The partitions
    /// of a member that has died come to this one when its session ends. Never waits.
    pub(crate) fn others_are_done(
        &mut self,
        consumer: &Arc<BaseConsumer<RebalanceContext>>,
        partitions: &OwnedPartitions,
    ) -> bool {
        let stops = partitions.unowned_stops();
        if stops.is_empty() && !partitions.is_empty() {
            return true;
        }
        let Some(request) = &self.others else {
            if is_due(&mut self.end_check, END_CHECK_INTERVAL) {
                self.others = OthersRequest::send(consumer, stops.into_keys().collect());
            }
            return false; // nothing may have been assigned yet
        };
        let facts = match request.answer.try_recv() {
            Err(TryRecvError::Empty) => return false,
            Ok(Ok(facts)) => Some(facts),
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => None,
        };
        let asked = self.others.take().expect("it was answered").partitions;
        self.end_check = Instant::now();
        let Some(facts) = facts else { return false };
        limit_stops(&facts, partitions, &asked);
        let stops = partitions.unowned_stops();
        let is_reached = |(partition, stop): (&Partition, &i64)| {
            // A commit beyond the end is of a log that is gone.
            let end = facts.logs.of(*partition).map_or(i64::MAX, |(_, end)| end);
            facts.committed(*partition).is_some_and(|next| (*stop..=end).contains(&next.0))
        };
        if stops.iter().all(is_reached) {
            return true;
        }
        let is_unknown = |partition: &Partition| {
            facts.of(*partition).is_err_and(|error| error.code == RDKafkaErrorCode::UnknownTopicOrPartition)
        };
        if stops.keys().any(is_unknown) {
            self.on_unknown_topic(); // with a pattern no error tells
        } else if !partitions.is_empty() && !std::mem::replace(&mut self.said_waiting, true) {
            tracing::info!(partitions = stops.len(), "Waiting for the other members of the group to read their partitions.");
        }
        false
    }
}

/// A question about partitions that other members read. A thread of its own asks: the answers of several brokers take a while.
struct OthersRequest {
    partitions: Vec<Partition>,
    answer: mpsc::Receiver<Result<PartitionFacts, NativeError>>,
}

impl OthersRequest {
    fn send(consumer: &Arc<BaseConsumer<RebalanceContext>>, partitions: Vec<Partition>) -> Option<Self> {
        let (sender, answer) = mpsc::channel();
        let (consumer, asked) = (Arc::clone(consumer), partitions.clone());
        let ask = move || {
            let facts = PartitionFacts::fetch(&consumer, &asked);
            drop(consumer);
            let _ = sender.send(facts); // the source may have closed
        };
        std::thread::Builder::new().name("kafka-group-end".to_owned()).spawn(ask).ok()?;
        Some(Self { partitions, answer })
    }
}

/// Moves the stops of partitions that other members read to the ends of their logs, if they are shorter than planned.
fn limit_stops(facts: &PartitionFacts, partitions: &OwnedPartitions, asked: &[Partition]) {
    for partition in asked {
        match facts.logs.of(*partition) {
            Ok((_, end)) => partitions.limit_stop(*partition, end),
            Err(_) if facts.logs.topic(*partition).is_some_and(|topic| !topic.has(*partition)) => {
                partitions.remove_stop(*partition);
            }
            Err(_) => {}
        }
    }
}

/// Returns whether the brokers do not know a topic.
fn is_missing(consumer: &BaseConsumer<RebalanceContext>, topic: Topic) -> bool {
    let metadata = consumer.fetch_metadata(Some(topic.name()), REQUEST_TIMEOUT);
    metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.partitions().is_empty()))
}

/// Returns whether `interval` has passed, and starts the next one then.
fn is_due(last: &mut Instant, interval: Duration) -> bool {
    let due = last.elapsed() >= interval;
    if due {
        *last = Instant::now();
    }
    due
}
