//! Records to send: edge cases, and numbered ones that the checker accounts for.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};

use super::Cluster;

const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The content of a record, without its coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    /// Milliseconds since 1970; `None` lets the client choose.
    pub(crate) timestamp: Option<i64>,
    /// The key.
    pub(crate) key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    /// The headers, in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Returns records with every key, value and header that is easy to get wrong.
pub(crate) fn edge_cases() -> Vec<Content> {
    let binary: Vec<u8> = (0..=255).collect();
    let parts = [None, Some(Vec::new()), Some(b"plain".to_vec()), Some(binary.clone())];
    let header = |name: &str, value: &Option<Vec<u8>>| (name.to_owned(), value.clone());
    let lists = [
        Vec::new(),
        vec![header("null", &None)],
        vec![header("same", &parts[2]), header("other", &parts[1]), header("same", &parts[3]), header("same", &None)],
        vec![header("", &parts[2]), header("näme 🦀", &parts[3])],
    ];
    let mut all = Vec::new();
    for (i, key) in parts.iter().enumerate() {
        for (j, value) in parts.iter().enumerate() {
            for (k, headers) in lists.iter().enumerate() {
                let at = i64::try_from(i * 100 + j * 10 + k).expect("a small number");
                let timestamp = Some(if k == 0 { 1 + at } else { 1_700_000_000_000 - at * 3_600_000 });
                all.push(Content { timestamp, key: key.clone(), value: value.clone(), headers: headers.clone() });
            }
        }
    }
    all
}

/// A value with producer, sequence number and checksum: `producer sequence crc padding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Numbered {
    /// The sender.
    pub(crate) producer: u32,
    /// As which of that producer's, from 0.
    pub(crate) sequence: u64,
}

impl Numbered {
    const HEAD: usize = 8 + 1 + 16 + 1 + 8 + 1;

    /// Returns the value, `size` bytes long but at least its head.
    pub(crate) fn value(self, size: usize) -> Vec<u8> {
        let padding: Vec<u8> = (b'a'..=b'z').cycle().take(size.saturating_sub(Self::HEAD)).collect();
        let crc = self.crc(&padding);
        let mut value = format!("{:08x} {:016x} {crc:08x} ", self.producer, self.sequence).into_bytes();
        value.extend_from_slice(&padding);
        value
    }

    /// Returns the number of a value, or `None` when the value is not as it was sent.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let (head, padding) = value.split_at_checked(Self::HEAD)?;
        let mut words = std::str::from_utf8(head).ok()?.split(' ');
        let producer = u32::from_str_radix(words.next()?, 16).ok()?;
        let sequence = u64::from_str_radix(words.next()?, 16).ok()?;
        let crc = u32::from_str_radix(words.next()?, 16).ok()?;
        let number = Self { producer, sequence };
        (number.crc(padding) == crc).then_some(number)
    }

    fn crc(self, padding: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.producer.to_be_bytes());
        crc.update(&self.sequence.to_be_bytes());
        crc.update(padding);
        crc.finalize()
    }
}

/// The time of the first numbered record, in milliseconds. A recent one: a broker that is killed forgets which batches of an idempotent
/// producer it has, if their records are older than its `producer.id.expiration.ms` (a day), and then takes them twice.
fn recent() -> i64 {
    static TIME: OnceLock<i64> = OnceLock::new();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    *TIME.get_or_init(|| i64::try_from(now()).expect("a small number") - 3_600_000)
}

/// Returns `count` numbered records of one producer, spread over the partitions in turn, each with a key and a header.
pub(crate) fn numbered(producer: u32, from: u64, count: u64, partitions: i32) -> Vec<(i32, Content)> {
    (from..from + count)
        .map(|sequence| {
            let partition = i32::try_from(sequence % u64::try_from(partitions).expect("a topic has partitions")).expect("small");
            let content = Content {
                timestamp: Some(recent() + i64::try_from(sequence).expect("a small number")),
                key: Some(format!("{producer}-{}", sequence % 1000).into_bytes()),
                value: Some(Numbered { producer, sequence }.value(120)),
                headers: vec![("sequence".to_owned(), Some(sequence.to_string().into_bytes()))],
            };
            (partition, content)
        })
        .collect()
}

/// Writes records and waits for every acknowledgement.
pub(crate) struct Sender {
    producer: BaseProducer<Acknowledged>,
}

struct Acknowledged;
impl ClientContext for Acknowledged {}
impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            // A test that fails drops its sender, which purges what is queued: a second panic would abort all tests.
            Err((error, message)) if !std::thread::panicking() => {
                panic!("a record for {}/{} was not taken: {error}", message.topic(), message.partition())
            }
            _ => {}
        }
    }
}

impl Sender {
    /// Returns a sender with client settings such as `("compression.type", "zstd")`.
    pub(crate) fn new(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let mut config = cluster.client();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("message.max.bytes", "8000000");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Self { producer: config.create_with_context(Acknowledged).expect("a producer") }
    }

    /// Sends records, each to its partition, and returns when all are acknowledged.
    #[track_caller]
    pub(crate) fn send(&self, topic: &str, records: &[(i32, Content)]) {
        for (partition, content) in records {
            self.queue(topic, *partition, content);
        }
        self.producer.flush(SEND_TIMEOUT).expect("the cluster takes the records");
    }

    /// Sends values, each with a key of its own if one is given, to as many partitions in turn.
    #[track_caller]
    pub(crate) fn send_values(&self, topic: &str, partitions: i32, values: &[(Option<&str>, Option<&str>)]) {
        let records: Vec<(i32, Content)> = (0..)
            .zip(values)
            .map(|(index, (key, value))| {
                let bytes = |text: &str| text.as_bytes().to_vec();
                let timestamp = Some(1_700_000_000_000 + i64::from(index));
                let content = Content { timestamp, key: key.map(bytes), value: value.map(bytes), headers: Vec::new() };
                (index % partitions, content)
            })
            .collect();
        self.send(topic, &records);
    }

    /// Sends records of another time than all others to one partition.
    #[track_caller]
    pub(crate) fn send_others(&self, topic: &str, count: i64) {
        let record = |n: i64| {
            let value = Some(format!("{{\"other\": {n}}}").into_bytes());
            (0, Content { timestamp: Some(1_600_000_000_000 + n), key: None, value, headers: Vec::new() })
        };
        self.send(topic, &(0..count).map(record).collect::<Vec<_>>());
    }

    fn queue(&self, topic: &str, partition: i32, content: &Content) {
        let mut record = BaseRecord::<[u8], [u8], ()>::to(topic).partition(partition);
        record.timestamp = content.timestamp;
        record.key = content.key.as_deref();
        record.payload = content.value.as_deref();
        if !content.headers.is_empty() {
            let headers = content
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
            record.headers = Some(headers);
        }
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "a record is queued");
            self.producer.poll(Duration::from_millis(10));
            record = back;
        }
        self.producer.poll(Duration::ZERO);
    }

    /// Sends records in one transaction and commits or aborts it. The sender needs a `transactional.id`.
    #[track_caller]
    pub(crate) fn transaction(&self, topic: &str, records: &[(i32, Content)], commit: bool) {
        self.producer.begin_transaction().expect("a transaction begins");
        self.send(topic, records);
        if commit {
            self.producer.commit_transaction(SEND_TIMEOUT).expect("the transaction is committed");
        } else {
            self.producer.abort_transaction(SEND_TIMEOUT).expect("the transaction is aborted");
        }
    }

    /// Begins a transaction, sends records in it and leaves it open until the sender is dropped or its transaction timeout expires.
    #[track_caller]
    pub(crate) fn open_transaction(&self, topic: &str, records: &[(i32, Content)]) {
        self.producer.begin_transaction().expect("a transaction begins");
        self.send(topic, records);
    }

    /// Returns a sender of transactions.
    pub(crate) fn transactional(cluster: &Cluster, id: &str) -> Self {
        let sender = Self::new(cluster, &[("transactional.id", id)]);
        sender.producer.init_transactions(SEND_TIMEOUT).expect("transactions are set up");
        sender
    }

    /// Returns a sender of transactions that may stay open for ten minutes.
    pub(crate) fn long_transactional(cluster: &Cluster, id: &str) -> Self {
        let sender = Self::new(cluster, &[("transactional.id", id), ("transaction.timeout.ms", "600000")]);
        sender.producer.init_transactions(SEND_TIMEOUT).expect("transactions are set up");
        sender
    }

    /// Commits or aborts the transaction that [`Sender::open_transaction`] began.
    #[track_caller]
    pub(crate) fn end_transaction(&self, commit: bool) {
        let ended =
            if commit { self.producer.commit_transaction(SEND_TIMEOUT) } else { self.producer.abort_transaction(SEND_TIMEOUT) };
        ended.expect("the transaction ends");
    }
}

#[test]
fn a_numbered_value_shows_its_number_and_any_damage() {
    let number = Numbered { producer: 3, sequence: 70_000 };
    for size in [0, Numbered::HEAD, 200] {
        let value = number.value(size);
        assert_eq!(Numbered::of(&value), Some(number));
        for damaged in 0..value.len() {
            let mut value = value.clone();
            value[damaged] ^= 0x55;
            assert_eq!(Numbered::of(&value), None, "byte {damaged} of {size}");
        }
    }
    assert_eq!(Numbered::of(b"short"), None);
}
