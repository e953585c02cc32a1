//! librdkafka's embedded cluster.
#![allow(unsafe_code, reason = "the delay before a group's first assignment can only be set through the bindings")]

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use super::Cluster;

/// A cluster inside this process. It keeps 5 MiB or 100,000 batches of a partition and has no admin, no group listing, no
/// offsets by time and no transactions that mean anything.
pub(crate) struct Mock {
    // The producer whose cluster it is.
    owner: BaseProducer,
}

impl Mock {
    /// Starts a cluster with this number of brokers; groups assign without a delay.
    pub(crate) fn start(brokers: u32) -> Self {
        let mut config = ClientConfig::new();
        let owner: BaseProducer = config.set("test.mock.num.brokers", brokers.to_string()).create().expect("a mock cluster");
        let mock = Self { owner };
        mock.group_delay(Duration::ZERO);
        mock
    }

    /// Sets how long a group waits for its first members.
    pub(crate) fn group_delay(&self, delay: Duration) {
        let milliseconds = i32::try_from(delay.as_millis()).expect("a short delay");
        // SAFETY: the client lives as long as `self` and was made with `test.mock.num.brokers`, so the handle is its cluster.
        unsafe {
            let cluster = rdkafka::bindings::rd_kafka_handle_mock_cluster(self.owner.client().native_ptr());
            rdkafka::bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, milliseconds);
        }
    }

    /// Returns the handle to inject errors, take brokers down and move leaders.
    pub(crate) fn faults(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.owner.client().mock_cluster().expect("the producer has a mock cluster")
    }

    /// Returns the cluster as a client sees it.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::at(&self.faults().bootstrap_servers())
    }

    /// Creates a topic: the only way, since the cluster has no admin.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.faults().create_topic(topic, partitions, 1).expect("the mock cluster creates a topic");
    }
}
