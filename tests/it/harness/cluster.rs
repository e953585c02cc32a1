//! Kafka clusters: those of `scripts/stack`, or any other by its address.

use std::cell::Cell;
use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::eventually;

pub(super) const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns a variable that `scripts/stack env` sets.
#[track_caller]
pub(crate) fn stack_env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `scripts/test`, or `eval \"$(scripts/stack env)\"` first"))
}

/// Runs `scripts/stack` and returns its standard output.
#[track_caller]
pub(crate) fn stack(arguments: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
    let ran = Command::new(script).args(arguments).output().expect("scripts/stack starts");
    assert!(ran.status.success(), "scripts/stack {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// The two real clusters, locked against tests that disturb the servers.
pub(crate) struct Clusters {
    /// Where records come from.
    pub(crate) source: Cluster,
    /// Where records go.
    pub(crate) target: Cluster,
    _lock: ServerLock,
}

/// Who uses the servers of the stack.
struct ServerUse {
    sharing: usize,
    /// Tests that wait to be alone: no other thread begins to share.
    waiting: usize,
    is_alone: bool,
}

static USE: Mutex<ServerUse> = Mutex::new(ServerUse { sharing: 0, waiting: 0, is_alone: false });
static CHANGED: Condvar = Condvar::new();
thread_local! {
    /// How often this thread shares the servers: it does not wait behind a test that waits for it.
    static SHARED: Cell<usize> = const { Cell::new(0) };
}

/// A lock of the servers; several of a thread are one.
enum ServerLock {
    Shared,
    Alone,
}

impl ServerLock {
    fn shared() -> Self {
        let held = SHARED.get();
        SHARED.set(held + 1);
        let all = USE.lock().unwrap_or_else(PoisonError::into_inner);
        let blocked = |all: &mut ServerUse| all.is_alone || (all.waiting > 0 && held == 0);
        CHANGED.wait_while(all, blocked).unwrap_or_else(PoisonError::into_inner).sharing += 1;
        Self::Shared
    }

    fn alone() -> Self {
        let mut all = USE.lock().unwrap_or_else(PoisonError::into_inner);
        all.waiting += 1;
        let blocked = |all: &mut ServerUse| all.is_alone || all.sharing > 0;
        let mut all = CHANGED.wait_while(all, blocked).unwrap_or_else(PoisonError::into_inner);
        all.waiting -= 1;
        all.is_alone = true;
        Self::Alone
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        let mut all = USE.lock().unwrap_or_else(PoisonError::into_inner);
        match self {
            Self::Shared => {
                all.sharing -= 1;
                SHARED.set(SHARED.get().saturating_sub(1));
            }
            Self::Alone => all.is_alone = false,
        }
        CHANGED.notify_all();
    }
}

impl Clusters {
    /// Returns the clusters for a test that leaves the servers alone.
    #[track_caller]
    pub(crate) fn shared() -> Self {
        Self::locked(ServerLock::shared())
    }

    /// Returns the clusters for a test that stops, kills or freezes servers: it runs alone.
    #[track_caller]
    pub(crate) fn exclusive() -> Self {
        Self::locked(ServerLock::alone())
    }

    #[track_caller]
    fn locked(lock: ServerLock) -> Self {
        let pick = |name: &str| stack_env(name).split(',').map(str::to_owned).collect::<Vec<_>>();
        let (servers, proxied, proxy) = (pick("SDL_TEST_KAFKA"), pick("SDL_TEST_KAFKA_PROXIED"), pick("SDL_TEST_KAFKA_PROXY"));
        assert!(servers.len() >= 2, "the tests need two clusters: scripts/stack up kafka 2");
        let cluster = |index: usize| Cluster {
            servers: servers[index].clone(),
            server: Some(Server {
                name: format!("kafka-{}", index + 1),
                proxied: proxied[index].clone(),
                proxy: proxy[index].clone(),
            }),
        };
        Self { source: cluster(0), target: cluster(1), _lock: lock }
    }

    /// Returns a profile whose two Kafka sections are these clusters, with `group` as the source's.
    pub(crate) fn profile(&self, group: &str) -> String {
        Cluster::profile(&self.source, &self.target, group)
    }
}

/// A Kafka cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Its bootstrap servers.
    pub(crate) servers: String,
    server: Option<Server>,
}

#[derive(Clone)]
struct Server {
    name: String,
    proxied: String,
    proxy: String,
}

impl Cluster {
    /// Returns the cluster at these bootstrap servers.
    pub(crate) fn at(servers: &str) -> Self {
        Self { servers: servers.to_owned(), server: None }
    }

    /// Returns a profile with `source` as the remote and `target` as the local section.
    pub(crate) fn profile(source: &Self, target: &Self, group: &str) -> String {
        format!(
            "[remote_kafka]\nservers = {}\ndefault_consumer_group_id = {group}\n\n[local_kafka]\nservers = {}\ndefault_consumer_group_id = {group}\n",
            source.servers, target.servers
        )
    }

    /// Stops (`stop`, `kill`), starts, freezes or thaws the server: a verb of `scripts/stack`.
    #[track_caller]
    pub(crate) fn server(&self, verb: &str) {
        stack(&[verb, &self.real().name]);
    }

    /// Returns the address that a fault proxy forwards to, and the one that it must listen on.
    #[track_caller]
    pub(crate) fn proxy_addresses(&self) -> (String, String) {
        (self.real().proxied.clone(), self.real().proxy.clone())
    }

    /// Returns this cluster behind its proxy.
    #[track_caller]
    pub(crate) fn through_proxy(&self) -> Self {
        Self { servers: self.real().proxy.clone(), server: self.server.clone() }
    }

    #[track_caller]
    fn real(&self) -> &Server {
        self.server.as_ref().expect("a cluster of scripts/stack")
    }

    /// Returns the configuration of a client of this cluster.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("reconnect.backoff.max.ms", "500");
        config
    }

    /// Creates a topic with settings such as `("cleanup.policy", "compact")`, and waits until it is there.
    #[track_caller]
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.create_topic_as(topic, partitions, TopicReplication::Fixed(-1), settings);
    }

    /// As [`Self::create_topic`], with these replicas.
    #[track_caller]
    pub(super) fn create_topic_as(
        &self,
        topic: &str,
        partitions: i32,
        replicas: TopicReplication<'_>,
        settings: &[(&str, &str)],
    ) {
        let mut new = NewTopic::new(topic, partitions, replicas);
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let (admin, mut is_unanswered) = (self.admin(), false);
        eventually("the topic is created", 3 * CLUSTER_TIMEOUT, || {
            match answer(admin.create_topics([&new], &options())).map(|mut made| made.remove(0)) {
                Ok(Ok(_)) => Some(()),
                Ok(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) if is_unanswered => Some(()),
                // A broker that had no processor time for a while is fenced, and takes no replica.
                Ok(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => None,
                Ok(Err(refusal)) => panic!("the topic is created: {refusal:?}"),
                Err(_) => {
                    is_unanswered = true;
                    None
                }
            }
        });
        self.wait_for_partitions(topic, partitions);
    }

    /// Sets the settings of a topic; it has no others of its own then.
    #[track_caller]
    pub(crate) fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let new = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let changed = answered(self.admin().alter_configs([&new], &options()));
        changed[0].as_ref().expect("the topic is changed");
    }

    /// Gives a topic more partitions.
    #[track_caller]
    pub(crate) fn grow_topic(&self, topic: &str, partitions: i32) {
        let wanted = usize::try_from(partitions).expect("a positive number");
        let new = NewPartitions::new(topic, wanted);
        let grown = answered(self.admin().create_partitions([&new], &options()));
        grown[0].as_ref().expect("the topic grows");
        self.wait_for_partitions(topic, partitions);
    }

    /// Deletes a topic and waits until it is gone.
    #[track_caller]
    pub(crate) fn delete_topic(&self, topic: &str) {
        let gone = answered(self.admin().delete_topics(&[topic], &options()));
        gone[0].as_ref().expect("the topic is deleted");
        eventually("the topic is gone", CLUSTER_TIMEOUT, || (self.partitions(topic) == 0).then_some(()));
    }

    /// Deletes the records of a partition below `offset`, as retention does.
    #[track_caller]
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        answered(self.admin().delete_records(&below, &options()));
    }

    pub(super) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    fn wait_for_partitions(&self, topic: &str, partitions: i32) {
        eventually("the topic is there", CLUSTER_TIMEOUT, || (self.partitions(topic) == partitions).then_some(()));
    }

    /// Returns a consumer that belongs to no group's members but may ask for `group`'s offsets.
    pub(crate) fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("auto.offset.reset", "earliest").create().expect("a consumer")
    }

    /// Returns the number of partitions of a topic, 0 where there is none.
    #[track_caller]
    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        partitions(&self.consumer("none"), topic)
    }

    /// Returns the first and the next offset of each partition of a topic.
    #[track_caller]
    pub(crate) fn offsets(&self, topic: &str) -> Vec<(i64, i64)> {
        offsets(&self.consumer("none"), topic)
    }

    /// Returns a function that counts the offsets of a topic.
    pub(crate) fn counter(&self, topic: &str) -> impl Fn() -> u64 {
        let (consumer, topic) = (self.consumer("none"), topic.to_owned());
        move || count(&consumer, &topic)
    }

    /// Returns the number of offsets of a topic, transaction markers included.
    #[track_caller]
    pub(crate) fn count(&self, topic: &str) -> u64 {
        count(&self.consumer("none"), topic)
    }

    /// Returns the number of members of a group, once none is joining or leaving.
    #[track_caller]
    pub(crate) fn members(&self, group: &str) -> usize {
        let consumer = self.consumer("none");
        eventually(&format!("group `{group}` settles"), CLUSTER_TIMEOUT, || {
            let groups = consumer.fetch_group_list(Some(group), CLUSTER_TIMEOUT).ok()?;
            let Some(found) = groups.groups().first() else { return Some(0) };
            matches!(found.state(), "Stable" | "Empty" | "Dead").then(|| found.members().len())
        })
    }

    /// Waits until a group has this number of members and none is joining or leaving.
    #[track_caller]
    pub(crate) fn wait_for_members(&self, group: &str, wanted: usize) {
        eventually(&format!("group `{group}` has {wanted} members"), 2 * CLUSTER_TIMEOUT, || {
            (self.members(group) == wanted).then_some(())
        });
    }

    /// Returns the offset that `group` has committed for each partition of a topic.
    #[track_caller]
    pub(crate) fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let mut wanted = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            wanted.add_partition(topic, partition);
        }
        let consumer = self.consumer(group);
        // A coordinator that moves refuses the question for a while.
        let found = eventually("the commits of a group", 2 * CLUSTER_TIMEOUT, || {
            consumer.committed_offsets(wanted.clone(), CLUSTER_TIMEOUT).ok()
        });
        found.elements().iter().map(|one| if let Offset::Offset(offset) = one.offset() { Some(offset) } else { None }).collect()
    }

    /// Commits an offset for `group`, once it has no members.
    #[track_caller]
    pub(crate) fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        self.wait_for_members(group, 0);
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, partition).set_metadata(metadata);
        wanted.set_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        self.consumer(group).commit(&wanted, CommitMode::Sync).expect("the commit is taken");
    }

    /// Returns the metadata of `group`'s commit of a partition.
    #[track_caller]
    pub(crate) fn commit_metadata(&self, group: &str, topic: &str, partition: i32) -> String {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, partition);
        let found = self.consumer(group).committed_offsets(wanted, CLUSTER_TIMEOUT).expect("the cluster returns commits");
        found.elements()[0].metadata().to_owned()
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = eventually("metadata of the topic", CLUSTER_TIMEOUT, || {
        consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()
    });
    let found = metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    i32::try_from(found).expect("a number of partitions")
}

fn offsets(consumer: &BaseConsumer, topic: &str) -> Vec<(i64, i64)> {
    // A partition that was created just now may have no leader yet.
    let of = |partition| {
        eventually("offsets of the topic", CLUSTER_TIMEOUT, || consumer.fetch_watermarks(topic, partition, CLUSTER_TIMEOUT).ok())
    };
    (0..partitions(consumer, topic)).map(of).collect()
}

fn count(consumer: &BaseConsumer, topic: &str) -> u64 {
    offsets(consumer, topic).iter().map(|(low, high)| u64::try_from(high - low).expect("low is not above high")).sum()
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(CLUSTER_TIMEOUT)).request_timeout(Some(CLUSTER_TIMEOUT))
}

#[track_caller]
pub(super) fn answered<T>(request: impl Future<Output = KafkaResult<T>>) -> T {
    answer(request).expect("the cluster answers")
}

fn answer<T>(request: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(request)
}
