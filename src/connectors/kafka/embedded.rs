//! A Kafka cluster inside this process: librdkafka's mock brokers, for trying things out without a server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::connectors::kafka::batch_builder::BatchBuilder;
use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::librdkafka::mock;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Brokers on an ephemeral loopback port; gone when dropped. They keep at most 5 MiB or 100,000 batches of a partition, and know
/// no transactions, no offsets by time and no administration but [`Self::create_topic`].
pub struct EmbeddedCluster {
    /// The client that they live in.
    owner: BaseProducer<LogContext>,
}

impl EmbeddedCluster {
    /// Starts so many brokers.
    ///
    /// # Errors
    /// When they cannot listen.
    pub fn start(brokers: u32) -> Result<Self, ConnectorError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", brokers.to_string());
        let owner: BaseProducer<LogContext> = config
            .create_with_context(LogContext::default())
            .map_err(|error| Failure::new("cannot start the embedded brokers").because(error))?;
        mock::assign_at_once(owner.client());
        Ok(Self { owner })
    }

    /// Returns where they listen: `host:port` with commas.
    #[must_use]
    pub fn servers(&self) -> String {
        self.owner.client().mock_cluster().map_or_else(String::new, |cluster| cluster.bootstrap_servers())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When the name is not taken.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ConnectorError> {
        let what = || Failure::new(format!("cannot create topic `{name}` on the embedded brokers"));
        let cluster = self.owner.client().mock_cluster().ok_or_else(what)?;
        cluster.create_topic(name, partitions, 1).map_err(|error| what().because(error).into())
    }
}

/// What one partition holds, for comparison: how many records, and a checksum over each key, value, header and timestamp in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Records.
    pub records: u64,
    /// CRC-32 of all of them.
    pub crc: u32,
}

/// Reads a whole topic, without a group, and returns what each partition holds. Blocking; at most 30 s.
///
/// # Errors
/// When the cluster does not answer in time.
pub fn take_stock(section: &KafkaSection, topic: &str, partitions: i32) -> Result<BTreeMap<Partition, Holdings>, ConnectorError> {
    let failure = || Failure::new(format!("cannot read topic `{topic}` of `{}`", section.name));
    let mut config = client::config(section)?;
    config.set("group.id", "sdl-stock").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", "10").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer<LogContext> =
        config.create_with_context(LogContext::default()).map_err(|error| failure().because(error))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    list.set_all_offsets(Offset::Beginning).map_err(|error| failure().because(error))?;
    consumer.assign(&list).map_err(|error| failure().because(error))?;
    drop(list);
    let topic = Topic::named(topic);
    let mut holdings: BTreeMap<Partition, (u64, crc32fast::Hasher)> =
        (0..partitions).map(|index| (Partition { topic, index }, Default::default())).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ended = 0;
    while ended < partitions {
        if Instant::now() > deadline {
            return Err(failure().because("no end in time").into());
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let partition = Partition { topic, index: message.partition() };
                let mut cutter = BatchBuilder::default();
                cutter.push(partition, &message);
                let (records, crc) = holdings.entry(partition).or_default();
                for record in cutter.take() {
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
    Ok(holdings.into_iter().map(|(partition, (records, crc))| (partition, Holdings { records, crc: crc.finalize() })).collect())
}
