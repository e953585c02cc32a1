//! librdkafka's mock brokers: a Kafka cluster inside this process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::mock;
use crate::connectors::kafka::source::batch_builder::BatchBuilder;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Mock brokers on an ephemeral loopback port, until dropped. They keep at most 5 MiB or 100,000 batches of a partition, and support
/// neither transactions nor offsets by time nor admin requests; topics come from [`Self::create_topic`].
pub struct EmbeddedCluster {
    /// The client that owns the brokers.
    owner: BaseProducer<LogContext>,
}

impl EmbeddedCluster {
    /// Starts this many brokers on loopback ports that are free.
    ///
    /// # Errors
    /// When a broker cannot listen.
    pub fn start(brokers: u32) -> Result<Self, ConnectorError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", brokers.to_string());
        #[allow(clippy::disallowed_methods, reason = "the owner of the brokers connects to none")]
        let owner: BaseProducer<LogContext> = config
            .create_with_context(LogContext::default())
            .map_err(|error| Failure::new("cannot start the embedded brokers").because(error))?;
        mock::disable_rebalance_delay(owner.client());
        Ok(Self { owner })
    }

    /// Returns `host:port` of each broker, with commas.
    #[must_use]
    pub fn servers(&self) -> String {
        self.owner.client().mock_cluster().map_or_else(String::new, |cluster| cluster.bootstrap_servers())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When the name is invalid or exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ConnectorError> {
        let what = || Failure::new(format!("cannot create topic `{name}` on the embedded brokers"));
        let cluster = self.owner.client().mock_cluster().ok_or_else(what)?;
        cluster.create_topic(name, partitions, 1).map_err(|error| what().because(error).into())
    }
}

/// A digest of a partition: the number of records, and a CRC-32 over keys, values, headers and timestamps in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionDigest {
    pub(crate) records: u64,
    pub(crate) crc: u32,
}

/// Reads a whole topic, without a group, and returns the digest of each partition. Blocking; at most 30 s.
///
/// # Errors
/// When the cluster does not answer in time.
pub fn topic_digest(
    section: &KafkaSection,
    topic: &str,
    partitions: i32,
) -> Result<BTreeMap<Partition, PartitionDigest>, ConnectorError> {
    let failure = || Failure::new(format!("cannot read topic `{topic}` of `{}`", section.name));
    let mut config = client_config(section)?;
    config.set("group.id", "sdl-digest").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", "10").set("auto.offset.reset", "earliest");
    let consumer: Authenticated<BaseConsumer<LogContext>> = create_client(section, &config, LogContext::default())?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    list.set_all_offsets(Offset::Beginning).map_err(|error| failure().because(error))?;
    consumer.assign(&list).map_err(|error| failure().because(error))?;
    drop(list);
    let topic = Topic::named(topic);
    let mut digests: BTreeMap<Partition, (u64, crc32fast::Hasher)> =
        (0..partitions).map(|index| (Partition { topic, index }, Default::default())).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ended = 0;
    while ended < partitions {
        if Instant::now() > deadline {
            return Err(failure().because("timed out before the end of the topic").into());
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let partition = Partition { topic, index: message.partition() };
                let mut builder = BatchBuilder::default();
                builder.push(partition, &message);
                let (records, crc) = digests.entry(partition).or_default();
                for record in builder.take() {
                    *records += 1;
                    crc.update(&record.fingerprint().crc.to_le_bytes());
                    crc.update(&record.timestamp.unwrap_or(-1).to_le_bytes());
                    for (name, value) in &record.headers {
                        crc.update(name);
                        crc.update(value.as_deref().unwrap_or(b"null"));
                    }
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            _ => {}
        }
    }
    Ok(digests
        .into_iter()
        .map(|(partition, (records, crc))| (partition, PartitionDigest { records, crc: crc.finalize() }))
        .collect())
}
