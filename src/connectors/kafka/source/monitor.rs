//! Periodic checks of the polling thread: log ends, topics that appear or disappear, the end of a bounded run.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::connectors::kafka::librdkafka::admin::{OffsetQuery, TopicIdRequest, list_offsets};
use crate::connectors::kafka::librdkafka::commits::cached_watermarks;
use crate::connectors::kafka::source::partitions::OwnedPartitions;
use crate::connectors::kafka::source::rebalance::{RebalanceContext, list};
use crate::record::{Partition, Topic};

const LOG_END_INTERVAL: Duration = Duration::from_secs(1);
const END_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const TOPIC_ID_INTERVAL: Duration = Duration::from_secs(1);
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);
/// How often leaders are asked after a problem.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// How long a topic may be unknown: a broker that was restarted learns of it late.
const MISSING_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Monitor {
    log_ends: Instant,
    topics: Instant,
    end_check: Instant,
    recovery: Instant,
    topic_id_check: Instant,
    /// Dropped before the consumer.
    topic_id_request: Option<TopicIdRequest>,
    /// The ids of the topics of the owned partitions.
    topic_ids: HashMap<Topic, String>,
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
            topic_id_check: now,
            topic_id_request: None,
            topic_ids: HashMap::new(),
            unknown_since: None,
            said_waiting: false,
        }
    }

    /// Returns the log ends of the owned partitions, when they are due.
    pub(crate) fn log_ends(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
    ) -> Option<Vec<(Partition, i64)>> {
        let client = consumer.client();
        let end = |partition: Partition| Some((partition, cached_watermarks(client, partition.topic.name(), partition.index)?.1));
        is_due(&mut self.log_ends, LOG_END_INTERVAL).then(|| partitions.iter().filter_map(|(owned, _)| end(owned)).collect())
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

    /// Asks, when that is due, whether the leader of every owned partition answers: on an idle topic no record shows that a problem is
    /// over.
    pub(crate) fn leaders_answer(&mut self, consumer: &BaseConsumer<RebalanceContext>, partitions: &OwnedPartitions) -> bool {
        if !is_due(&mut self.recovery, RECOVERY_INTERVAL) {
            return false;
        }
        let owned: Vec<(&str, i32)> = partitions.iter().map(|(owned, _)| (owned.topic.name(), owned.index)).collect();
        if owned.is_empty() {
            return consumer.fetch_metadata(None, REQUEST_TIMEOUT).is_ok();
        }
        let offsets = list_offsets(consumer.client(), &owned, OffsetQuery::Latest, false, REQUEST_TIMEOUT);
        offsets.is_ok_and(|offsets| offsets.len() == owned.len() && offsets.iter().all(|of| of.error.is_none()))
    }

    /// Sets the ids that the positions of these topics are valid for.
    pub(crate) fn set_topic_ids(&mut self, ids: HashMap<Topic, String>) {
        self.topic_ids.extend(ids);
    }

    /// Returns a topic whose id has changed, with the old and the new id: it was deleted and created again, and librdkafka reads on
    /// in the new topic at the old offset. Never waits.
    pub(crate) fn recreated_topic(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        partitions: &OwnedPartitions,
    ) -> Option<(Topic, String, String)> {
        if let Some(request) = &self.topic_id_request {
            let answer = request.poll(Duration::ZERO)?;
            self.topic_id_request = None;
            for (name, id) in answer.ok()? {
                let Ok(Some(id)) = id else { continue };
                let topic = Topic::named(&name);
                if let Some(known) = self.topic_ids.get(&topic).filter(|known| **known != id).cloned() {
                    self.topic_ids.insert(topic, id.clone());
                    return Some((topic, known, id));
                }
            }
        } else if !self.topic_ids.is_empty() && is_due(&mut self.topic_id_check, TOPIC_ID_INTERVAL) {
            let topics: BTreeSet<Topic> = partitions.iter().map(|(partition, _)| partition.topic).collect();
            let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            if !names.is_empty() {
                self.topic_id_request = TopicIdRequest::send(consumer.client(), &names, REQUEST_TIMEOUT).ok();
            }
        }
        None
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
    /// of a member that has died come to this one when its session ends.
    pub(crate) fn others_are_done(&mut self, consumer: &BaseConsumer<RebalanceContext>, partitions: &OwnedPartitions) -> bool {
        let stops = partitions.unowned_stops();
        if stops.is_empty() && !partitions.is_empty() {
            return true;
        }
        if !is_due(&mut self.end_check, END_CHECK_INTERVAL) {
            return false; // nothing may have been assigned yet
        }
        let Ok(committed) = consumer.committed_offsets(list(stops.keys()), REQUEST_TIMEOUT) else { return false };
        let committed = committed.elements();
        let is_done = stops.iter().all(|(partition, stop)| {
            let is_reached = |next: Offset| matches!(next, Offset::Offset(next) if next >= *stop);
            let mut of = committed.iter().filter(|of| of.topic() == partition.topic.name() && of.partition() == partition.index);
            of.next().is_some_and(|of| of.error().is_ok() && is_reached(of.offset()))
        });
        if is_done {
            return true;
        }
        let topics: BTreeSet<Topic> = stops.keys().map(|partition| partition.topic).collect();
        if topics.into_iter().any(|topic| is_missing(consumer, topic)) {
            self.on_unknown_topic(); // with a pattern no error tells
        } else if !partitions.is_empty() && !std::mem::replace(&mut self.said_waiting, true) {
            tracing::info!(partitions = stops.len(), "Waiting for the other members of the group to read their partitions.");
        }
        false
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
