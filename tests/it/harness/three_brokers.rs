//! The cluster of three brokers of `scripts/stack up kafka3`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::TopicReplication;
use rdkafka::consumer::Consumer as _;

use super::cluster::CLUSTER_TIMEOUT;
use super::{Cluster, Clusters, Proxy, eventually, stack, stack_env, unique};

/// Partitions of `__consumer_offsets` in the stack.
const OFFSETS_PARTITIONS: i32 = 4;
static BROKERS: Mutex<()> = Mutex::new(());

/// One cluster of three brokers, for one test at a time. Topics have three replicas and `min.insync.replicas` 2.
pub(crate) struct ThreeBrokers {
    /// The cluster at its plain listeners.
    pub(crate) cluster: Cluster,
    /// The clusters of one broker each, as other tests share them.
    pub(crate) others: Clusters,
    _hold: MutexGuard<'static, ()>,
}

#[allow(clippy::unused_self)] // who calls holds the cluster
impl ThreeBrokers {
    /// Waits until no other test uses the cluster, and returns it with all brokers up.
    #[track_caller]
    pub(crate) fn exclusive() -> Self {
        let others = Clusters::shared();
        let hold = BROKERS.lock().unwrap_or_else(PoisonError::into_inner);
        let brokers = Self { cluster: Cluster::at(&stack_env("SDL_TEST_KAFKA3")), others, _hold: hold };
        for number in 1..=3 {
            brokers.broker(number, "start");
        }
        brokers.wait_for_brokers(3);
        brokers.create_offsets_topic();
        brokers
    }

    /// Asks for the commits of a group, upon which the brokers create `__consumer_offsets`.
    fn create_offsets_topic(&self) {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition("none", 0);
        let consumer = self.cluster.consumer("none");
        eventually("a group has a coordinator", 2 * CLUSTER_TIMEOUT, || {
            consumer.committed_offsets(wanted.clone(), CLUSTER_TIMEOUT).ok()
        });
    }

    /// Returns the name of a new group that another broker coordinates.
    #[track_caller]
    pub(crate) fn group_not_coordinated_by(&self, number: i32, name: &str) -> String {
        let find = || {
            let mut names = std::iter::repeat_with(|| unique(name)).take(100);
            names.find(|group| self.coordinator(group) != number)
        };
        find().unwrap_or_else(|| {
            // One that was the last to be alive leads everything.
            let tool = ["tool", "org.apache.kafka.tools.LeaderElectionCommand", "--bootstrap-server", &self.cluster.servers];
            stack(&[&tool[..], &["--election-type", "preferred", "--all-topic-partitions"]].concat());
            eventually("other brokers coordinate groups", CLUSTER_TIMEOUT, find)
        })
    }

    /// Stops (`stop`, `kill`), starts, freezes or thaws one broker: a verb of `scripts/stack`.
    #[track_caller]
    pub(crate) fn broker(&self, number: i32, verb: &str) {
        stack(&[verb, &format!("kafka3-{number}")]);
    }

    /// Creates a topic of one partition, with replicas on these two brokers, that one of them may lead without what the other has.
    #[track_caller]
    pub(crate) fn create_topic_that_can_lose_records(&self, topic: &str, replicas: [i32; 2]) {
        let settings = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
        self.cluster.create_topic_as(topic, 1, TopicReplication::Variable(&[&replicas]), &settings);
    }

    /// Kills a broker, waits until no partition of the topic has it as leader, and starts it again.
    #[track_caller]
    pub(crate) fn kill_and_restart(&self, number: i32, topic: &str) {
        self.broker(number, "kill");
        self.wait_for_leaders_other_than(number, topic);
        self.broker(number, "start");
        self.wait_for_brokers(3);
    }

    /// Waits until every partition of a topic has a leader, and none has this broker.
    #[track_caller]
    pub(crate) fn wait_for_leaders_other_than(&self, number: i32, topic: &str) {
        eventually("other brokers lead", CLUSTER_TIMEOUT, || {
            let leaders = self.leaders(topic);
            (!leaders.is_empty() && leaders.iter().all(|leader| *leader > 0 && *leader != number)).then_some(())
        });
    }

    fn wait_for_brokers(&self, count: usize) {
        let consumer = self.cluster.consumer("none");
        eventually("all brokers are in the metadata", CLUSTER_TIMEOUT, || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            (metadata.brokers().len() == count).then_some(())
        });
    }

    /// Returns the leader of each partition of a topic; -1 where there is none.
    #[track_caller]
    pub(crate) fn leaders(&self, topic: &str) -> Vec<i32> {
        let consumer = self.cluster.consumer("none");
        let metadata =
            eventually("the metadata", CLUSTER_TIMEOUT, || consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).ok());
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let mut leaders: Vec<_> = found
            .into_iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
            .map(|one| (one.id(), one.leader()))
            .collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, leader)| leader).collect()
    }

    /// Returns the broker that coordinates a group: the leader of the group's partition of `__consumer_offsets`.
    #[track_caller]
    pub(crate) fn coordinator(&self, group: &str) -> i32 {
        let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let partition = usize::try_from((hash & i32::MAX) % OFFSETS_PARTITIONS).expect("not negative");
        self.leaders("__consumer_offsets")[partition]
    }

    /// Starts a proxy in front of each of these brokers. A broker without one cannot be reached through
    /// [`ThreeBrokers::through_proxies`].
    #[track_caller]
    pub(crate) fn proxies(&self, numbers: &[usize]) -> Vec<Proxy> {
        let addresses = |name: &str| stack_env(name).split(',').map(str::to_owned).collect::<Vec<_>>();
        let (listen, targets) = (addresses("SDL_TEST_KAFKA3_PROXY"), addresses("SDL_TEST_KAFKA3_PROXIED"));
        numbers.iter().map(|number| Proxy::start(&listen[number - 1], &targets[number - 1])).collect()
    }

    /// Returns the cluster whose brokers advertise the addresses of their proxies.
    pub(crate) fn through_proxies(&self) -> Cluster {
        Cluster::at(&stack_env("SDL_TEST_KAFKA3_PROXY"))
    }

    /// Returns the cluster whose third broker advertises the host name `kafka3-3.invalid`.
    pub(crate) fn unresolved(&self) -> Cluster {
        Cluster::at(&stack_env("SDL_TEST_KAFKA3_UNRESOLVED"))
    }
}

impl Drop for ThreeBrokers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
            for number in 1..=3 {
                let name = format!("kafka3-{number}");
                let _ = std::process::Command::new(script).args(["thaw", &name]).output();
                let _ = std::process::Command::new(script).args(["start", &name]).output();
            }
        }
    }
}
