//! The least that a client can do, to measure `sdl` against: read, write, wait for every acknowledgement; or read alone.
//!
//! It keeps key, value, headers, timestamp and partition, writes with acks=all and idempotence, and commits nothing.
//!
//! ```text
//! bare_loop fill SERVERS TOPIC PARTITIONS COUNT BYTES     writes COUNT records with values of BYTES bytes, a key and a header
//! bare_loop copy SERVERS TOPIC SERVERS TOPIC [COMPRESSION]
//! bare_loop read SERVERS TOPIC                            reads every record and does nothing with it
//! ```
#![allow(clippy::disallowed_methods)] // the loop is measured beside the product, and has nothing of it

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, DeliveryResult, Header, OwnedHeaders};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

type Outcome<T> = Result<T, Box<dyn Error>>;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", servers, topic, partitions, count, bytes] => {
            fill(servers, topic, partitions.parse()?, count.parse()?, bytes.parse()?)
        }
        ["copy", from, source, to, target] => copy((from, source), (to, target), "lz4"),
        ["copy", from, source, to, target, compression] => copy((from, source), (to, target), compression),
        ["read", servers, topic] => read(servers, topic),
        _ => {
            let usage =
                "fill SERVERS TOPIC PARTITIONS COUNT BYTES | copy SERVERS TOPIC SERVERS TOPIC [COMPRESSION] | read SERVERS TOPIC";
            Err(format!("usage: bare_loop {usage}").into())
        }
    }
}

fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

/// Counts acknowledgements; the opaque of a record is its offset in the source.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Count>);

#[derive(Default)]
struct Count {
    records: AtomicI64,
    highest: AtomicI64,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, offset: usize) {
        if let Err((error, message)) = result {
            eprintln!("record {offset} for partition {} was not taken: {error}", message.partition());
            std::process::exit(1);
        }
        self.0.records.fetch_add(1, Ordering::Relaxed);
        self.0.highest.fetch_max(i64::try_from(offset).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

fn producer(servers: &str, compression: &str) -> Outcome<BaseProducer<Acknowledged>> {
    let mut config = client(servers);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", compression)
        .set("message.timeout.ms", "0");
    config.set("linger.ms", "50").set("batch.size", "1000000").set("batch.num.messages", "100000");
    config.set("queue.buffering.max.messages", "100000").set("queue.buffering.max.kbytes", "65536");
    Ok(config.create_with_context(Acknowledged::default())?)
}

fn send(producer: &BaseProducer<Acknowledged>, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Outcome<()> {
    while let Err((error, back)) = producer.send(record) {
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        producer.poll(Duration::from_millis(1));
        record = back;
    }
    Ok(())
}

/// Returns a consumer of everything that a topic holds, and how many records that are.
fn consumer(servers: &str, topic: &str) -> Outcome<(BaseConsumer, i64)> {
    let mut config = client(servers);
    config.set("group.id", "bare-loop").set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("fetch.queue.backoff.ms", "100").set("queued.min.messages", "20000").set("queued.max.messages.kbytes", "16384");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let (mut assignment, mut records) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
        records += high - low;
    }
    consumer.assign(&assignment)?;
    Ok((consumer, records))
}

fn read(servers: &str, topic: &str) -> Outcome<()> {
    let (consumer, records) = consumer(servers, topic)?;
    let (mut left, mut bytes) = (records, 0);
    while left > 0 {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message?.payload().map_or(0, <[u8]>::len);
            left -= 1;
        }
    }
    println!("{records} records, {bytes} bytes of values");
    Ok(())
}

fn copy((from, source): (&str, &str), (to, target): (&str, &str), compression: &str) -> Outcome<()> {
    let (consumer, all) = consumer(from, source)?;
    let mut left = all;
    let producer = producer(to, compression)?;
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            producer.poll(Duration::ZERO);
            continue;
        };
        let message = message?;
        let offset = usize::try_from(message.offset())?;
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(target, offset).partition(message.partition());
        record.timestamp = message.timestamp().to_millis();
        record.key = message.key();
        record.payload = message.payload();
        record.headers = message.headers().map(BorrowedHeaders::detach);
        send(&producer, record)?;
        left -= 1;
        if left % 200 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    let count = &producer.context().0;
    let (records, highest) = (count.records.load(Ordering::Relaxed), count.highest.load(Ordering::Relaxed));
    println!("{records} records acknowledged, highest offset {highest}");
    if records == all { Ok(()) } else { Err(format!("{all} records were read").into()) }
}

fn fill(servers: &str, topic: &str, partitions: i32, count: u32, bytes: usize) -> Outcome<()> {
    let admin: AdminClient<DefaultClientContext> = client(servers).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for made in runtime.block_on(admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(PATIENCE))))? {
        made.map_err(|(topic, error)| format!("topic {topic}: {error}"))?;
    }
    let producer = producer(servers, "lz4")?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        let mut value = format!("{{\"number\":{number}").into_bytes();
        while value.len() < bytes {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            value.extend_from_slice(format!(",\"field\":\"{random:016x}\"").as_bytes());
        }
        value.truncate(bytes.saturating_sub(2));
        value.extend_from_slice(b"\"}");
        let key = format!("key-{:08}", number % 100_000);
        let record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, usize::try_from(number)?)
            .partition(i32::try_from(number)? % partitions)
            .timestamp(1_700_000_000_000 + i64::from(number))
            .key(key.as_bytes())
            .payload(&value)
            .headers(OwnedHeaders::new().insert(Header { key: "trace", value: Some("0123456789abcdef") }));
        send(&producer, record)?;
    }
    Ok(producer.flush(PATIENCE)?)
}
