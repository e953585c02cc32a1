//! One fetch at a time for each leader, and new metadata where a leader is not known.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::connection::{ConnectOptions, Connection};
use crate::connectors::kafka::wire::error::WireError;
use crate::connectors::kafka::wire::fetcher::cursor::{CursorError, PartitionCursor, PartitionRead, ReadBatch};
use crate::connectors::kafka::wire::leaders::{LeaderTable, PartitionRoute, TopicNews};
use crate::connectors::kafka::wire::messages::{
    DivergingEpoch, FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, IsolationLevel, MetadataRequest,
    MetadataResponse, OffsetForLeaderEpochRequest, PartitionLeader, PartitionQuery, TopicRef, error_code,
};
use crate::record::{Partition, Topic};

/// The version of Fetch from which a leader compares the epoch of the position with its log.
const COMPARES_EPOCHS: i16 = 12;

/// How to fetch.
#[derive(Clone)]
pub struct FetchOptions {
    /// For each connection.
    pub connect: ConnectOptions,
    /// For how long a broker may wait for records.
    pub max_wait: Duration,
    /// The bytes of a response.
    pub max_bytes: i32,
    /// The bytes of a partition in a response.
    pub partition_bytes: i32,
    /// Whether to read records of open transactions.
    pub isolation: IsolationLevel,
    /// The pause before what has failed is tried again.
    pub pause: Duration,
}

/// What happened to the partitions of a [`Fetcher`].
#[derive(Debug)]
pub enum FetchEvent {
    /// Batches, perhaps none; the position has moved to `next_offset`.
    Batches {
        /// The partition.
        partition: Partition,
        /// Without markers and aborted transactions.
        batches: Vec<ReadBatch>,
        /// The offset after them, and after all that was left out.
        next_offset: i64,
        /// The end of what can be read now.
        end_offset: i64,
    },
    /// The log does not have the position. The partition is not read until [`Fetcher::assign`] gives it another.
    OutOfRange {
        /// The partition.
        partition: Partition,
        /// The position.
        offset: i64,
    },
    /// The log was truncated below the position. The partition is not read until [`Fetcher::assign`] gives it another.
    Diverged {
        /// The partition.
        partition: Partition,
        /// The position.
        offset: i64,
        /// Up to where the log is the one that was read.
        diverging: DivergingEpoch,
    },
    /// The records cannot be read. The partition is not read until [`Fetcher::assign`] gives it another position.
    Unreadable {
        /// The partition.
        partition: Partition,
        /// The reason.
        error: CursorError,
    },
    /// The topic was deleted and created again: its partitions are not read until [`Fetcher::assign`] gives them positions.
    Recreated(Topic),
    /// A broker answers with an error code for this partition. It is asked again after the pause.
    Refused {
        /// The partition.
        partition: Partition,
        /// The code.
        code: i16,
    },
    /// A broker cannot be asked. It is tried again after the pause.
    Unavailable {
        /// The broker.
        broker: String,
        /// The reason.
        error: WireError,
    },
}

#[derive(Debug)]
struct AssignedPartition {
    cursor: PartitionCursor,
    /// The epoch of the last leader whose log was compared with the position.
    compared_epoch: i32,
    max_bytes: i32,
    state: ReadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    /// To be fetched.
    Idle,
    /// In a request.
    Fetching,
    /// Until the pause is over.
    Resting,
    /// Until there is a new position.
    Parked,
    /// At the wish of the caller.
    Paused,
}

/// Reads partitions. Dropping it ends everything.
pub struct Fetcher {
    options: FetchOptions,
    seeds: Vec<BrokerAddress>,
    leaders: LeaderTable,
    connections: HashMap<i32, Arc<Connection>>,
    /// Any connection, for metadata.
    control: Option<Arc<Connection>>,
    partitions: BTreeMap<Partition, AssignedPartition>,
    /// Brokers with a connection attempt or a request on its way.
    busy: BTreeSet<i32>,
    is_asking_metadata: bool,
    is_pausing: bool,
    next_seed: usize,
    work: JoinSet<Completed>,
    events: VecDeque<FetchEvent>,
}

/// A step that has ended.
enum Completed {
    Pause,
    Metadata(BrokerAddress, Result<(Arc<Connection>, MetadataResponse), WireError>),
    Connection(i32, BrokerAddress, Result<Connection, WireError>),
    Fetch(SentFetch, Result<FetchResponse, WireError>),
    /// The partitions that diverge, if the brokers' comparison of epochs succeeds.
    Comparison(SentFetch, Result<Vec<(Partition, DivergingEpoch)>, WireError>),
}

/// What a request is about.
struct SentFetch {
    route: PartitionRoute,
    partitions: Vec<(Partition, TopicRef, PartitionCursor, PartitionLeader)>,
}

impl Fetcher {
    /// Returns a fetcher without partitions.
    #[must_use]
    pub fn new(seeds: Vec<BrokerAddress>, options: FetchOptions) -> Self {
        Self {
            options,
            seeds,
            leaders: LeaderTable::default(),
            connections: HashMap::new(),
            control: None,
            partitions: BTreeMap::new(),
            busy: BTreeSet::new(),
            is_asking_metadata: false,
            is_pausing: false,
            next_seed: 0,
            work: JoinSet::new(),
            events: VecDeque::new(),
        }
    }

    /// Reads a partition from this position on; a response for another position of it is dropped.
    pub fn assign(&mut self, partition: Partition, cursor: PartitionCursor) {
        let max_bytes = self.options.partition_bytes;
        let assigned = AssignedPartition { cursor, compared_epoch: -1, max_bytes, state: ReadState::Idle };
        self.partitions.insert(partition, assigned);
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, partition: Partition) {
        self.partitions.remove(&partition);
    }

    /// Stops or continues to read a partition, from where it is.
    pub fn set_paused(&mut self, partition: Partition, is_paused: bool) {
        if let Some(assigned) = self.partitions.get_mut(&partition) {
            match (assigned.state, is_paused) {
                (ReadState::Idle | ReadState::Fetching | ReadState::Resting, true) => assigned.state = ReadState::Paused,
                (ReadState::Paused, false) => assigned.state = ReadState::Idle,
                _ => {}
            }
        }
    }

    /// Waits for the next event. Cancel-safe. Without partitions it waits for ever.
    pub async fn next(&mut self) -> FetchEvent {
        loop {
            // The next requests leave before the caller works on what the last ones brought.
            self.start_work();
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.work.join_next().await {
                Some(Ok(completed)) => self.complete(completed),
                // Nothing aborts these tasks, and nothing in them panics.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn start_work(&mut self) {
        let mut by_leader: BTreeMap<i32, SentFetch> = BTreeMap::new();
        let mut has_unknown_leader = false;
        for (partition, assigned) in self.partitions.iter().filter(|(_, assigned)| assigned.state == ReadState::Idle) {
            let route = self.leaders.route(partition.topic, partition.index);
            let (Some(route), Some(topic)) = (route, self.leaders.topic(partition.topic)) else {
                has_unknown_leader = true;
                continue;
            };
            let leader = route.leader;
            let sent = by_leader.entry(leader.broker).or_insert_with(|| SentFetch { route, partitions: Vec::new() });
            sent.partitions.push((*partition, topic, assigned.cursor, leader));
        }
        if has_unknown_leader {
            self.ask_metadata();
        }
        for (broker, sent) in by_leader {
            if self.busy.contains(&broker) {
                continue;
            }
            match self.connections.get(&broker).filter(|connection| connection.failure().is_none()) {
                Some(connection) => {
                    let connection = Arc::clone(connection);
                    self.send(connection, sent);
                }
                None if self.is_pausing => continue,
                None => {
                    let (address, options) = (sent.route.address, self.options.connect.clone());
                    self.work.spawn(async move {
                        let opened = Connection::open(&address, options).await;
                        Completed::Connection(broker, address, opened)
                    });
                }
            }
            self.busy.insert(broker);
        }
    }

    fn ask_metadata(&mut self) {
        if self.is_asking_metadata || self.is_pausing || self.seeds.is_empty() {
            return;
        }
        self.is_asking_metadata = true;
        let topics: BTreeSet<Topic> = self.partitions.keys().map(|partition| partition.topic).collect();
        let connection = self.control.clone().filter(|connection| connection.failure().is_none());
        let address = self.seeds[self.next_seed % self.seeds.len()].clone();
        let options = self.options.connect.clone();
        self.work.spawn(async move {
            let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            let asked = async {
                let connection = match connection {
                    Some(connection) => connection,
                    None => Arc::new(Connection::open(&address, options).await?),
                };
                let response = connection.call(&MetadataRequest { topics: &names }).await?;
                Ok((connection, response))
            };
            let asked = asked.await;
            Completed::Metadata(address, asked)
        });
    }

    /// Sends a fetch; before, to brokers that do not compare epochs themselves, the question for the end of the epochs.
    fn send(&mut self, connection: Arc<Connection>, sent: SentFetch) {
        let is_compared_there = connection.version::<FetchRequest>().is_some_and(|version| version >= COMPARES_EPOCHS)
            || connection.version::<OffsetForLeaderEpochRequest<'_>>().is_none();
        let is_new = |(partition, _, cursor, leader): &(Partition, _, PartitionCursor, PartitionLeader)| {
            let compared = self.partitions.get(partition).map_or(i32::MAX, |assigned| assigned.compared_epoch);
            cursor.last_epoch >= 0 && leader.epoch > compared
        };
        if !is_compared_there && sent.partitions.iter().any(is_new) {
            self.work.spawn(async move {
                let compared = compare_epochs(&connection, &sent).await;
                Completed::Comparison(sent, compared)
            });
            return;
        }
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (partition, topic, cursor, leader) in &sent.partitions {
            let Some(assigned) = self.partitions.get_mut(partition) else { continue };
            assigned.state = ReadState::Fetching;
            let fetched = FetchPartition {
                index: partition.index,
                leader_epoch: leader.epoch,
                offset: cursor.offset,
                last_fetched_epoch: cursor.last_epoch,
                max_bytes: assigned.max_bytes,
            };
            match topics.last_mut().filter(|last| last.topic == *topic) {
                Some(last) => last.partitions.push(fetched),
                None => topics.push(FetchTopic { topic: *topic, partitions: vec![fetched] }),
            }
        }
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.options.max_bytes,
            isolation: self.options.isolation,
            topics,
        };
        let timeout = self.options.connect.timeout + self.options.max_wait;
        self.work.spawn(async move {
            let fetched = async { connection.send(&request, timeout).await?.response().await };
            let fetched = fetched.await;
            Completed::Fetch(sent, fetched)
        });
    }

    fn complete(&mut self, completed: Completed) {
        match completed {
            Completed::Pause => {
                self.is_pausing = false;
                let resting = self.partitions.values_mut().filter(|assigned| assigned.state == ReadState::Resting);
                resting.for_each(|assigned| assigned.state = ReadState::Idle);
            }
            Completed::Metadata(address, asked) => {
                self.is_asking_metadata = false;
                match asked {
                    Ok((connection, response)) => {
                        self.control = Some(connection);
                        self.on_metadata(&response);
                    }
                    Err(error) => {
                        self.control = None;
                        self.next_seed = self.next_seed.wrapping_add(1);
                        self.unavailable(address.to_string(), error);
                    }
                }
            }
            Completed::Connection(broker, address, opened) => {
                self.busy.remove(&broker);
                match opened {
                    Ok(connection) => drop(self.connections.insert(broker, Arc::new(connection))),
                    Err(error) => {
                        self.leaders.on_unreachable(broker);
                        self.unavailable(address.to_string(), error);
                    }
                }
            }
            Completed::Comparison(sent, Ok(diverging)) => {
                self.busy.remove(&sent.route.leader.broker);
                for (partition, _, cursor, leader) in &sent.partitions {
                    let Some(assigned) = self.partitions.get_mut(partition).filter(|now| now.cursor == *cursor) else { continue };
                    assigned.compared_epoch = leader.epoch;
                    if let Some((_, diverging)) = diverging.iter().find(|(diverged, _)| diverged == partition) {
                        assigned.state = ReadState::Parked;
                        let (partition, offset, diverging) = (*partition, cursor.offset, *diverging);
                        self.events.push_back(FetchEvent::Diverged { partition, offset, diverging });
                    }
                }
            }
            Completed::Fetch(sent, Ok(response)) => self.on_fetched(&sent, response),
            Completed::Comparison(sent, Err(error)) | Completed::Fetch(sent, Err(error)) => {
                let broker = sent.route.leader.broker;
                self.busy.remove(&broker);
                self.connections.remove(&broker);
                self.leaders.on_unreachable(broker);
                self.release(&sent, ReadState::Idle);
                self.unavailable(sent.route.address.to_string(), error);
            }
        }
    }

    fn on_metadata(&mut self, response: &MetadataResponse) {
        for (topic, news) in self.leaders.update(response) {
            match news {
                TopicNews::Known => {}
                TopicNews::Recreated => {
                    let of_topic = self.partitions.iter_mut().filter(|(partition, _)| partition.topic == topic);
                    of_topic.for_each(|(_, assigned)| assigned.state = ReadState::Parked);
                    self.events.push_back(FetchEvent::Recreated(topic));
                }
                TopicNews::Stale => self.rest(),
                TopicNews::Failed(code) => {
                    let of_topic = self.partitions.keys().copied().filter(|partition| partition.topic == topic);
                    self.events.extend(of_topic.map(|partition| FetchEvent::Refused { partition, code }));
                    self.rest();
                }
            }
        }
        // A partition without a leader is asked for again, but not at once.
        let has_leader = |partition: &Partition| self.leaders.route(partition.topic, partition.index).is_some();
        if !self.partitions.keys().all(has_leader) {
            self.rest();
        }
    }

    fn on_fetched(&mut self, sent: &SentFetch, response: FetchResponse) {
        self.busy.remove(&sent.route.leader.broker);
        if response.error != 0 {
            self.release(sent, ReadState::Resting);
            let error =
                WireError::Refused { request: crate::connectors::kafka::wire::messages::ApiKey::Fetch, code: response.error };
            self.unavailable(sent.route.address.to_string(), error);
            return;
        }
        // A partition that the response leaves out is fetched again.
        self.release(sent, ReadState::Idle);
        for (key, fetched) in response.partitions {
            let is_asked =
                |(partition, topic, ..): &&(Partition, TopicRef, _, _)| partition.index == fetched.index && key.is(topic);
            if let Some((partition, _, cursor, leader)) = sent.partitions.iter().find(is_asked) {
                self.on_partition(*partition, *cursor, *leader, fetched);
            }
        }
    }

    fn on_partition(&mut self, partition: Partition, asked: PartitionCursor, leader: PartitionLeader, fetched: FetchedPartition) {
        // The position may have changed, or the caller may want no more, since the request.
        let is_same = |assigned: &&mut AssignedPartition| assigned.cursor == asked && assigned.state == ReadState::Idle;
        let Some(assigned) = self.partitions.get_mut(&partition).filter(is_same) else { return };
        let end_offset = match self.options.isolation {
            IsolationLevel::ReadCommitted if fetched.last_stable_offset >= 0 => fetched.last_stable_offset,
            _ => fetched.high_watermark,
        };
        let named = fetched.leader;
        let park = |assigned: &mut AssignedPartition, event| {
            assigned.state = ReadState::Parked;
            event
        };
        let offset = asked.offset;
        let event = match assigned.cursor.read(fetched) {
            Ok(PartitionRead::Batches(batches)) => {
                assigned.max_bytes = self.options.partition_bytes;
                // What follows comes from the same log.
                assigned.compared_epoch = assigned.compared_epoch.max(leader.epoch);
                FetchEvent::Batches { partition, batches, next_offset: assigned.cursor.offset, end_offset }
            }
            Ok(PartitionRead::Incomplete) => {
                assigned.max_bytes = assigned.max_bytes.saturating_mul(2);
                return;
            }
            Ok(PartitionRead::OutOfRange) if asked.last_epoch >= 0 => {
                // A broker that has forgotten the epoch answers the same: without the epoch, the answer is about the offset.
                assigned.cursor.last_epoch = -1;
                return;
            }
            Ok(PartitionRead::OutOfRange) => park(assigned, FetchEvent::OutOfRange { partition, offset }),
            Ok(PartitionRead::Diverged(diverging)) => park(assigned, FetchEvent::Diverged { partition, offset, diverging }),
            Ok(PartitionRead::Failed(code)) => {
                assigned.state = ReadState::Resting;
                if concerns_leader(code) {
                    self.leaders.on_rejected(partition.topic, partition.index, leader, code, named, &[]);
                    // The new leader is asked at once if it is known.
                    let is_known =
                        self.leaders.route(partition.topic, partition.index).is_some_and(|route| route.leader != leader);
                    if let Some(assigned) = self.partitions.get_mut(&partition).filter(|_| is_known) {
                        assigned.state = ReadState::Idle;
                        return;
                    }
                }
                self.rest();
                FetchEvent::Refused { partition, code }
            }
            Err(error) => park(assigned, FetchEvent::Unreadable { partition, error }),
        };
        self.events.push_back(event);
    }

    /// Frees the partitions of a request that is over.
    fn release(&mut self, sent: &SentFetch, state: ReadState) {
        for (partition, ..) in &sent.partitions {
            if let Some(assigned) = self.partitions.get_mut(partition).filter(|now| now.state == ReadState::Fetching) {
                assigned.state = state;
            }
        }
    }

    fn unavailable(&mut self, broker: String, error: WireError) {
        self.events.push_back(FetchEvent::Unavailable { broker, error });
        self.rest();
    }

    /// Begins a pause.
    fn rest(&mut self) {
        if !self.is_pausing {
            self.is_pausing = true;
            let pause = self.options.pause;
            self.work.spawn(async move {
                tokio::time::sleep(pause).await;
                Completed::Pause
            });
        }
    }
}

fn concerns_leader(code: i16) -> bool {
    use error_code::{
        FENCED_LEADER_EPOCH, INCONSISTENT_TOPIC_ID, KAFKA_STORAGE_ERROR, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER,
        UNKNOWN_LEADER_EPOCH, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
    };
    [
        UNKNOWN_TOPIC_OR_PARTITION,
        LEADER_NOT_AVAILABLE,
        NOT_LEADER_OR_FOLLOWER,
        KAFKA_STORAGE_ERROR,
        FENCED_LEADER_EPOCH,
        UNKNOWN_LEADER_EPOCH,
        UNKNOWN_TOPIC_ID,
        INCONSISTENT_TOPIC_ID,
    ]
    .contains(&code)
}

/// Asks a leader for the end of the epochs of positions; returns the partitions whose logs diverge.
async fn compare_epochs(connection: &Connection, sent: &SentFetch) -> Result<Vec<(Partition, DivergingEpoch)>, WireError> {
    let mut diverging = Vec::new();
    for (partition, _, cursor, leader) in sent.partitions.iter().filter(|(_, _, cursor, _)| cursor.last_epoch >= 0) {
        let query = PartitionQuery { index: partition.index, leader_epoch: leader.epoch, of: cursor.last_epoch.into() };
        let request = OffsetForLeaderEpochRequest { topic: partition.topic.name(), partitions: &[query] };
        let ends = connection.call(&request).await?;
        let found = ends.partitions.iter().find(|end| end.index == partition.index).and_then(|end| cursor.divergence(end));
        diverging.extend(found.map(|found| (*partition, found)));
    }
    Ok(diverging)
}
