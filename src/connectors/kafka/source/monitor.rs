//! Periodic checks of the polling thread: log ends, topics that appear or disappear, the end of a bounded run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::admin::{NO_LEADER, leader_of};
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
/// How often a cluster is probed that does not answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
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

/// What became of a cluster whose session with this member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// It was not asked yet: this process may have been away, rather than the cluster.
    Unasked,
    /// It does not answer.
    Silent,
    /// It answers, and its group has given this member nothing yet. `was_silent`: not from the start.
    Joining { was_silent: bool },
}

impl Loss {
    /// Returns what follows from the answer of the cluster, or from its silence.
    fn asked(self, answers: bool) -> Self {
        match (answers, self) {
            (false, _) => Self::Silent,
            (true, Self::Joining { was_silent }) => Self::Joining { was_silent },
            (true, before) => Self::Joining { was_silent: before == Self::Silent },
        }
    }

    /// Returns whether nothing is read because the cluster was silent.
    fn is_outage(self) -> bool {
        matches!(self, Self::Silent | Self::Joining { was_silent: true })
    }
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
    /// Whether a request was not answered by any broker, and none has answered a probe since.
    is_silent: bool,
    probe_time: Instant,
    /// Whether a broker answers a request for metadata.
    probe: Option<mpsc::Receiver<bool>>,
    /// The partitions whose leader did not answer, when it was last asked.
    unanswered: BTreeMap<Partition, NativeError>,
    /// Since when a subscribed topic is unknown to the brokers, and which, if it was missing when they were last asked.
    unknown: Option<(Instant, Option<Topic>)>,
    /// What is known of the cluster since the partitions were lost.
    loss: Option<Loss>,
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
            is_silent: false,
            probe_time: now,
            probe: None,
            unanswered: BTreeMap::new(),
            unknown: None,
            loss: None,
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
        consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
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
            let is_unanswered = |partition: Partition| self.unanswered.get(&partition).is_some_and(Self::is_of_broker);
            self.is_silent = !partitions.is_empty() && partitions.iter().all(|(partition, _)| is_unanswered(partition));
            if let Some((partition, error)) = self.unanswered.iter_mut().next() {
                let metadata = consumer.fetch_metadata(Some(partition.topic.name()), LEADER_TIMEOUT);
                error.text += &metadata.map_or(String::new(), |metadata| leader_of(&metadata, *partition));
            }
            return true;
        }
        let is_wanted = is_degraded || !self.unanswered.is_empty() || self.loss == Some(Loss::Unasked);
        let interval = if self.has_read { READ_RECOVERY_INTERVAL } else { RECOVERY_INTERVAL };
        let is_now = self.loss == Some(Loss::Unasked) && partitions.is_empty();
        let may_ask = is_wanted && (partitions.is_empty() || self.may_ask(consumer));
        if !may_ask || !(is_due(&mut self.recovery, interval) || is_now) {
            return false;
        }
        self.has_read = false;
        if partitions.is_empty() {
            self.unanswered.clear();
            let answers = consumer.fetch_metadata(None, REQUEST_TIMEOUT).is_ok();
            self.loss = self.loss.map(|loss| loss.asked(answers));
            return answers || self.loss.is_some();
        }
        self.ask_leaders(consumer, partitions);
        false
    }

    /// Returns whether an admin request may be sent: not while no broker can be reached. Until its timeout librdkafka 2.12 would connect
    /// without a pause; a request for metadata keeps to the back-off. Never waits.
    fn may_ask(&mut self, consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>) -> bool {
        if let Some(probe) = &self.probe {
            match probe.try_recv() {
                Err(TryRecvError::Empty) => {}
                answer => {
                    self.probe = None;
                    self.is_silent = answer != Ok(true);
                }
            }
        } else if self.is_silent && is_due(&mut self.probe_time, PROBE_INTERVAL) {
            self.probe =
                ask_in_thread("kafka-probe", consumer, |consumer| consumer.fetch_metadata(None, REQUEST_TIMEOUT).is_ok());
        }
        !self.is_silent
    }

    /// Sends a request to the leaders of the owned partitions, unless one is on its way. Never waits.
    pub(crate) fn ask_leaders(&mut self, consumer: &BaseConsumer<RebalanceContext>, partitions: &OwnedPartitions) {
        let owned: Vec<(&str, i32)> = partitions.iter().map(|(owned, _)| (owned.topic.name(), owned.index)).collect();
        if self.leader_request.is_none() && !owned.is_empty() {
            let request = ListOffsetsRequest::send(consumer.client(), &owned, OffsetQuery::Latest, false, REQUEST_TIMEOUT);
            self.leader_request = Some(request);
        }
    }

    /// Returns an owned partition that is not read and why, as far as its leader was asked.
    pub(crate) fn problem(&self, partitions: &OwnedPartitions) -> Option<(Partition, &NativeError)> {
        let mut unanswered = self.unanswered.iter().filter(|(partition, _)| partitions.get(**partition).is_some());
        unanswered.next().map(|(partition, error)| (*partition, error))
    }

    /// Returns whether a problem is that of a broker: that of a leader, rather than that there is none.
    pub(crate) fn is_of_broker(error: &NativeError) -> bool {
        error.is_unanswered() || (error.is_no_answer() && !error.text.ends_with(NO_LEADER))
    }

    /// Returns the owned partitions of topics that were deleted and created again: librdkafka reads on in the new topic at the old
    /// offset; and the absent partitions that exist again. Never waits.
    pub(crate) fn topic_changes(
        &mut self,
        consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
        partitions: &OwnedPartitions,
        topic_ids: &TopicIds,
    ) -> TopicChanges {
        let with_id = || partitions.iter().map(|(partition, _)| partition).filter(|of| topic_ids.get(*of).is_some());
        if let Some(request) = &self.topic_id_request {
            let Some(answer) = request.poll(Duration::ZERO) else { return TopicChanges::default() };
            self.topic_id_request = None;
            self.is_silent |= answer.as_ref().is_err_and(NativeError::is_unanswered);
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
        if !topics.is_empty() && is_due(&mut self.topic_id_check, TOPIC_ID_INTERVAL) && self.may_ask(consumer) {
            let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            self.topic_id_request = DescribeTopicsRequest::send(consumer.client(), &names, REQUEST_TIMEOUT).ok();
        }
        TopicChanges::default()
    }

    /// Notes that the session of this member ended, and its partitions with it.
    pub(crate) fn on_lost(&mut self) {
        self.loss.get_or_insert(Loss::Unasked);
    }

    /// Notes that the group has given this member partitions that are read, or none. Returns whether an outage ends with it.
    pub(crate) fn on_assigned(&mut self) -> bool {
        self.loss.take().is_some_and(Loss::is_outage)
    }

    /// Returns whether nothing is read because the cluster did not answer until the session ended.
    pub(crate) fn is_lost_in_outage(&self) -> bool {
        self.loss.is_some_and(Loss::is_outage)
    }

    /// Returns whether the cluster answers and its group has given this member nothing since its session ended.
    pub(crate) fn is_joining_again(&self) -> bool {
        matches!(self.loss, Some(Loss::Joining { .. }))
    }

    /// Notes that the brokers do not know a topic, one of those `needed`.
    pub(crate) fn on_unknown_topic(&mut self, consumer: &BaseConsumer<RebalanceContext>, needed: impl Fn() -> BTreeSet<Topic>) {
        if self.unknown_topic().is_none() {
            let since = self.unknown.map_or_else(Instant::now, |(since, _)| since);
            self.unknown = Some((since, first_missing(consumer, needed())));
        }
    }

    /// Looks whether the unknown topic is still missing.
    pub(crate) fn check_unknown_topic(&mut self, consumer: &BaseConsumer<RebalanceContext>) {
        if let Some((_, topic)) = &mut self.unknown {
            *topic = topic.filter(|topic| is_missing(consumer, *topic));
        }
    }

    /// Returns a topic that the brokers do not know.
    pub(crate) fn unknown_topic(&self) -> Option<Topic> {
        self.unknown.and_then(|(_, topic)| topic)
    }

    /// Returns a topic that the brokers have not known for too long.
    pub(crate) fn missing_topic(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        needed: impl Fn() -> BTreeSet<Topic>,
    ) -> Option<Topic> {
        if self.unknown.as_ref().is_none_or(|(since, _)| since.elapsed() < MISSING_TIMEOUT) {
            return None;
        }
        self.unknown = None;
        needed().into_iter().find(|topic| is_missing(consumer, *topic))
    }

    /// Returns whether the other members of the group have committed their partitions up to the stops of a bounded run. The partitions
    /// of a member that has died come to this one when its session ends. Never waits.
    pub(crate) fn others_are_done(
        &mut self,
        consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
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
        if let Some(unknown) = stops.keys().find(|partition| is_unknown(partition)) {
            // With a pattern no error tells.
            self.on_unknown_topic(consumer, || BTreeSet::from([unknown.topic]));
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
    fn send(consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>, partitions: Vec<Partition>) -> Option<Self> {
        let asked = partitions.clone();
        let answer = ask_in_thread("kafka-group-end", consumer, move |consumer| PartitionFacts::fetch(consumer, &asked))?;
        Some(Self { partitions, answer })
    }
}

/// Starts a thread that asks the brokers; returns where its answer arrives.
fn ask_in_thread<T: Send + 'static>(
    name: &str,
    consumer: &Arc<Authenticated<BaseConsumer<RebalanceContext>>>,
    ask: impl FnOnce(&BaseConsumer<RebalanceContext>) -> T + Send + 'static,
) -> Option<mpsc::Receiver<T>> {
    let (sender, answer) = mpsc::channel();
    let consumer = Arc::clone(consumer);
    let run = move || {
        let answer = ask(&consumer);
        drop(consumer);
        let _ = sender.send(answer); // the source may have closed
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).ok()?;
    Some(answer)
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
pub(crate) fn is_missing(consumer: &BaseConsumer<RebalanceContext>, topic: Topic) -> bool {
    let metadata = consumer.fetch_metadata(Some(topic.name()), REQUEST_TIMEOUT);
    metadata.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.partitions().is_empty()))
}

/// Returns the first of these topics that the brokers do not know.
fn first_missing(consumer: &BaseConsumer<RebalanceContext>, topics: BTreeSet<Topic>) -> Option<Topic> {
    let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).ok()?;
    let known = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
    let known: BTreeSet<&str> = known.map(rdkafka::metadata::MetadataTopic::name).collect();
    topics.into_iter().find(|topic| !known.contains(topic.name()))
}

/// Returns whether `interval` has passed, and starts the next one then.
fn is_due(last: &mut Instant, interval: Duration) -> bool {
    let due = last.elapsed() >= interval;
    if due {
        *last = Instant::now();
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_an_outage_if_the_cluster_was_silent_until_partitions_are_assigned() {
        let after = |answers: &[bool]| answers.iter().fold(Loss::Unasked, |loss, answers| loss.asked(*answers));
        assert!(!after(&[]).is_outage(), "this process may have been suspended");
        assert_eq!(after(&[true, true]), Loss::Joining { was_silent: false });
        assert!(!after(&[true]).is_outage());
        assert_eq!(after(&[false, false]), Loss::Silent);
        for back in [&[false, true][..], &[false, true, true]] {
            assert_eq!(after(back), Loss::Joining { was_silent: true });
            assert!(after(back).is_outage(), "nothing is read yet");
        }
        assert_eq!(after(&[true, false]), Loss::Silent);
    }
}
