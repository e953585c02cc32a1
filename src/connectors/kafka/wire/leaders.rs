//! Which broker leads which partition, of all that brokers say about it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::messages::error_code::{INCONSISTENT_TOPIC_ID, UNKNOWN_LEADER_EPOCH, UNKNOWN_TOPIC_ID};
use crate::connectors::kafka::wire::messages::{BrokerEndpoint, MetadataResponse, MetadataTopic, PartitionLeader, TopicRef};
use crate::record::Topic;

/// The id of a topic on a broker that knows no ids.
const NO_ID: [u8; 16] = [0; 16];

/// Brokers, topics and leaders. Brokers hear of changes at different times: older news never replaces newer.
#[derive(Debug, Default)]
pub struct LeaderTable {
    brokers: BTreeMap<i32, BrokerAddress>,
    topics: HashMap<Topic, TopicLeaders>,
}

#[derive(Debug, Default)]
struct TopicLeaders {
    id: [u8; 16],
    /// The ids of deleted topics of this name.
    retired: HashSet<[u8; 16]>,
    partitions: BTreeMap<i32, KnownLeader>,
}

#[derive(Clone, Copy, Debug)]
struct KnownLeader {
    leader: PartitionLeader,
    /// The leader has said that it is none; until the next metadata.
    is_rejected: bool,
}

/// Where to send the requests for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRoute {
    /// The leader.
    pub leader: PartitionLeader,
    /// Where clients reach it.
    pub address: BrokerAddress,
}

/// What metadata says about one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicNews {
    /// As before, or known for the first time.
    Known,
    /// The topic of this name was deleted and created again: its positions mean nothing any more.
    Recreated,
    /// The broker has not heard of the change that another broker has reported.
    Stale,
    /// The broker's error code.
    Failed(i16),
}

impl LeaderTable {
    /// Takes over what a broker says; returns the news of each topic.
    pub fn update(&mut self, response: &MetadataResponse) -> Vec<(Topic, TopicNews)> {
        if !response.brokers.is_empty() {
            self.brokers.clear();
            self.add_brokers(&response.brokers);
        }
        let named = response.topics.iter().filter_map(|topic| Some((Topic::named(topic.name.as_deref()?), topic)));
        named.map(|(name, topic)| (name, self.topics.entry(name).or_default().update(topic))).collect()
    }

    /// Returns where to send requests; `None` asks for new metadata.
    #[must_use]
    pub fn route(&self, topic: Topic, partition: i32) -> Option<PartitionRoute> {
        let known = self.topics.get(&topic)?.partitions.get(&partition).filter(|known| !known.is_rejected)?;
        let address = self.brokers.get(&known.leader.broker)?.clone();
        Some(PartitionRoute { leader: known.leader, address })
    }

    /// Returns name and id of a topic.
    #[must_use]
    pub fn topic(&self, name: Topic) -> Option<TopicRef> {
        self.topics.get(&name).map(|topic| TopicRef { name, id: topic.id })
    }

    /// Returns the number of partitions of a topic; 0 if it is unknown.
    #[must_use]
    pub fn partitions(&self, name: Topic) -> usize {
        self.topics.get(&name).map_or(0, |topic| topic.partitions.len())
    }

    /// Notes that the broker of `asked` has rejected a request with an error code that concerns its leadership. `named` and
    /// `brokers` are the new leader and its address, from brokers that name them.
    pub fn on_rejected(
        &mut self,
        topic: Topic,
        partition: i32,
        asked: PartitionLeader,
        code: i16,
        named: Option<PartitionLeader>,
        brokers: &[BrokerEndpoint],
    ) {
        self.add_brokers(brokers);
        let Some(known) = self.topics.get_mut(&topic).and_then(|topic| topic.partitions.get_mut(&partition)) else { return };
        if known.leader != asked || code == UNKNOWN_LEADER_EPOCH {
            // Newer news came meanwhile, or the broker is behind: it needs time.
            return;
        }
        match named.filter(|named| named.broker >= 0 && named.epoch > known.leader.epoch) {
            Some(leader) if code != UNKNOWN_TOPIC_ID && code != INCONSISTENT_TOPIC_ID => {
                *known = KnownLeader { leader, is_rejected: false };
            }
            _ => known.is_rejected = true,
        }
    }

    /// Notes that a broker cannot be reached: its partitions need new metadata.
    pub fn on_unreachable(&mut self, broker: i32) {
        let known = self.topics.values_mut().flat_map(|topic| topic.partitions.values_mut());
        for known in known.filter(|known| known.leader.broker == broker) {
            known.is_rejected = true;
        }
    }

    fn add_brokers(&mut self, brokers: &[BrokerEndpoint]) {
        self.brokers.extend(brokers.iter().map(|broker| (broker.id, BrokerAddress::new(&broker.host, broker.port))));
    }
}

impl TopicLeaders {
    fn update(&mut self, topic: &MetadataTopic) -> TopicNews {
        if topic.error != 0 && topic.partitions.is_empty() {
            return TopicNews::Failed(topic.error);
        }
        if self.retired.contains(&topic.id) {
            return TopicNews::Stale;
        }
        let is_recreated = self.id != NO_ID && topic.id != NO_ID && self.id != topic.id;
        if is_recreated {
            self.retired.insert(self.id);
            self.partitions.clear();
        }
        if topic.id != NO_ID {
            self.id = topic.id;
        }
        for partition in &topic.partitions {
            let news = KnownLeader { leader: partition.leader, is_rejected: false };
            let known = self.partitions.entry(partition.index).or_insert(news);
            // A broker without epochs has no other order than that of its answers.
            if partition.leader.epoch < 0 || partition.leader.epoch >= known.leader.epoch {
                *known = news;
            }
        }
        if is_recreated { TopicNews::Recreated } else { TopicNews::Known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::wire::messages::MetadataPartition;
    use crate::connectors::kafka::wire::messages::error_code::{
        FENCED_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION,
    };

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];

    fn broker(id: i32) -> BrokerEndpoint {
        BrokerEndpoint { id, host: if id == 2 { "::1".to_owned() } else { format!("b{id}") }, port: 9092 }
    }

    fn metadata(id: [u8; 16], broker_id: i32, epoch: i32) -> MetadataResponse {
        let leader = PartitionLeader { broker: broker_id, epoch };
        let partitions = vec![MetadataPartition { error: 0, index: 0, leader }];
        let topics = vec![MetadataTopic { error: 0, name: Some("t".to_owned()), id, partitions }];
        MetadataResponse { brokers: vec![broker(1), broker(2)], topics, ..MetadataResponse::default() }
    }

    fn route(table: &LeaderTable) -> Option<(i32, i32, String)> {
        let route = table.route(Topic::named("t"), 0)?;
        Some((route.leader.broker, route.leader.epoch, route.address.to_string()))
    }

    fn news(table: &mut LeaderTable, response: &MetadataResponse) -> TopicNews {
        table.update(response)[0].1
    }

    fn reject(table: &mut LeaderTable, code: i16, named: Option<PartitionLeader>) {
        let asked = table.route(Topic::named("t"), 0).unwrap().leader;
        table.on_rejected(Topic::named("t"), 0, asked, code, named, &[broker(3)]);
    }

    #[test]
    fn an_older_epoch_replaces_no_newer_one() {
        let mut table = LeaderTable::default();
        assert_eq!(route(&table), None);
        table.update(&metadata(A, 1, 5));
        assert_eq!(route(&table), Some((1, 5, "b1:9092".to_owned())));
        table.update(&metadata(A, 2, 4));
        assert_eq!(route(&table), Some((1, 5, "b1:9092".to_owned())));
        table.update(&metadata(A, 2, 6));
        assert_eq!(route(&table), Some((2, 6, "[::1]:9092".to_owned())));
        table.update(&metadata(A, 1, -1));
        assert_eq!(route(&table), Some((1, -1, "b1:9092".to_owned())), "a broker without epochs is believed");
    }

    #[test]
    fn a_topic_that_was_created_again_starts_over_and_its_old_id_does_not_come_back() {
        let mut table = LeaderTable::default();
        assert_eq!(news(&mut table, &metadata(A, 1, 50)), TopicNews::Known);
        assert_eq!(news(&mut table, &metadata(B, 2, 0)), TopicNews::Recreated);
        assert_eq!(route(&table), Some((2, 0, "[::1]:9092".to_owned())), "an epoch of another log means nothing");
        assert_eq!(news(&mut table, &metadata(A, 1, 51)), TopicNews::Stale);
        assert_eq!(table.topic(Topic::named("t")).unwrap().id, B);
        assert_eq!(route(&table), Some((2, 0, "[::1]:9092".to_owned())));
    }

    #[test]
    fn a_rejected_leader_is_asked_again_after_new_metadata_only() {
        let mut table = LeaderTable::default();
        table.update(&metadata(A, 1, 5));
        reject(&mut table, NOT_LEADER_OR_FOLLOWER, None);
        assert_eq!(route(&table), None);
        table.update(&metadata(A, 1, 5));
        assert!(route(&table).is_some(), "it may not have known yet that it leads");
        reject(&mut table, FENCED_LEADER_EPOCH, None);
        assert_eq!(route(&table), None);
        table.update(&metadata(A, 2, 6));
        assert_eq!(route(&table).unwrap().1, 6);
        reject(&mut table, UNKNOWN_LEADER_EPOCH, None);
        assert_eq!(route(&table).unwrap().1, 6, "the broker is behind");
    }

    #[test]
    fn a_named_leader_is_taken_if_it_is_newer() {
        let mut table = LeaderTable::default();
        table.update(&metadata(A, 1, 5));
        reject(&mut table, NOT_LEADER_OR_FOLLOWER, Some(PartitionLeader { broker: 3, epoch: 6 }));
        assert_eq!(route(&table), Some((3, 6, "b3:9092".to_owned())));
        reject(&mut table, NOT_LEADER_OR_FOLLOWER, Some(PartitionLeader { broker: 1, epoch: 6 }));
        assert_eq!(route(&table), None);
        table.update(&metadata(A, 1, 7));
        let old = PartitionLeader { broker: 3, epoch: 6 };
        table.on_rejected(Topic::named("t"), 0, old, NOT_LEADER_OR_FOLLOWER, None, &[]);
        assert_eq!(route(&table).unwrap().1, 7, "the rejection was of the leader before");
    }

    #[test]
    fn an_unreachable_broker_and_a_failed_look_leave_what_is_known() {
        let mut table = LeaderTable::default();
        table.update(&metadata(A, 1, 5));
        table.on_unreachable(2);
        assert!(route(&table).is_some());
        table.on_unreachable(1);
        assert_eq!(route(&table), None);
        let mut missing = metadata(A, 1, 5);
        (missing.topics[0].error, missing.topics[0].partitions) = (UNKNOWN_TOPIC_OR_PARTITION, Vec::new());
        assert_eq!(news(&mut table, &missing), TopicNews::Failed(UNKNOWN_TOPIC_OR_PARTITION));
        assert_eq!((table.partitions(Topic::named("t")), table.partitions(Topic::named("u"))), (1, 0));
        table.update(&metadata(A, -1, 6));
        assert_eq!(route(&table), None, "no leader");
    }
}
