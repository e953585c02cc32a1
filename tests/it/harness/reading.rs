//! Reads a topic with a client of the test's own, and with kcat, which shares no code with the project.

use std::process::Command;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::Deserialize;

use super::{Cluster, Content, eventually};

/// A record in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
    /// Everything else.
    pub(crate) content: Content,
}

/// Panics at the first record with another partition or content than was sent; both are ordered within each partition.
#[track_caller]
pub(crate) fn assert_same(sent: &[(i32, Content)], seen: &[ReadRecord]) {
    let shown = |content: &Content| format!("{content:?}").chars().take(400).collect::<String>();
    for (index, ((partition, content), seen)) in sent.iter().zip(seen).enumerate() {
        assert_eq!(*partition, seen.partition, "the partition of record {index}");
        let (was, is) = (shown(content), shown(&seen.content));
        assert!(*content == seen.content, "record {index}, {partition}@{}:\n was {was}\n  is {is}", seen.offset);
    }
    assert_eq!(sent.len(), seen.len(), "records");
}

/// Returns all committed records of a topic, partition by partition, up to the ends that it has now.
#[track_caller]
pub(crate) fn read(cluster: &Cluster, topic: &str) -> Vec<ReadRecord> {
    let mut config = cluster.client();
    config.set("group.id", "reader").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("auto.offset.reset", "earliest").set("check.crcs", "true").set("fetch.queue.backoff.ms", "50");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    let partitions = cluster.partitions(topic);
    for partition in 0..partitions {
        wanted.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&wanted).expect("the partitions are assigned");
    let (mut seen, mut ended) = (Vec::new(), 0);
    while ended < partitions {
        match consumer.poll(Duration::from_secs(30)).expect("the cluster responds") {
            Ok(message) => seen.push(ReadRecord {
                partition: message.partition(),
                offset: message.offset(),
                content: Content {
                    timestamp: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map_or_else(Vec::new, |headers| {
                        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
                    }),
                },
            }),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("`{topic}` cannot be read: {error}"),
        }
    }
    seen.sort_by_key(|seen| (seen.partition, seen.offset));
    seen
}

/// Returns all committed records of a topic as kcat prints them, partition by partition.
#[track_caller]
pub(crate) fn read_with_kcat(cluster: &Cluster, topic: &str) -> Vec<ReadRecord> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-b", &cluster.servers, "-t", topic, "-o", "beginning", "-e", "-q", "-J", "-X", "check.crcs=true"]);
    // A cluster that was disturbed may not answer at once.
    let output = eventually("kcat reads the topic", Duration::from_secs(30), || {
        let ran = kcat.output().expect("kcat starts");
        if !ran.status.success() {
            eprintln!("kcat: {}", String::from_utf8_lossy(&ran.stderr));
            return None;
        }
        Some(ran.stdout)
    });
    let mut seen: Vec<_> = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect();
    seen.sort_by_key(|seen| (seen.partition, seen.offset));
    seen
}

/// Returns what kcat reads as the only member of a group, from the group's positions to the end. Every partition needs one.
#[track_caller]
pub(crate) fn read_as_group_with_kcat(cluster: &Cluster, group: &str, topic: &str) -> Vec<ReadRecord> {
    let ran = Command::new("kcat")
        .args(["-b", &cluster.servers, "-G", group, "-e", "-q", "-J"])
        .args(["-X", "auto.offset.reset=error", "-X", "enable.auto.commit=false", topic])
        .output()
        .expect("kcat starts");
    assert!(ran.status.success(), "kcat -G {group}: {}", String::from_utf8_lossy(&ran.stderr));
    let mut seen: Vec<_> = ran.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect();
    seen.sort_by_key(|seen| (seen.partition, seen.offset));
    seen
}

#[derive(Deserialize)]
struct Line {
    partition: i32,
    offset: i64,
    ts: Option<i64>,
    key: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    headers: Vec<Option<String>>,
}

/// Returns the record of a line of `kcat -J`, which writes the bytes of a record as they are: each byte is taken for one character,
/// so that none is lost.
fn parse(line: &[u8]) -> ReadRecord {
    let characters: String = line.iter().map(|byte| char::from(*byte)).collect();
    let line: Line = serde_json::from_str(&characters).unwrap_or_else(|error| panic!("kcat wrote {characters}: {error}"));
    let bytes = |text: String| text.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte")).collect::<Vec<u8>>();
    let mut headers = Vec::new();
    let mut parts = line.headers.into_iter();
    while let Some(name) = parts.next() {
        let value = parts.next().expect("a header has a value, if only null");
        let name = String::from_utf8(bytes(name.expect("a header has a name"))).expect("the tests use readable names");
        headers.push((name, value.map(bytes)));
    }
    ReadRecord {
        partition: line.partition,
        offset: line.offset,
        content: Content { timestamp: line.ts, key: line.key.map(bytes), value: line.payload.map(bytes), headers },
    }
}

#[test]
fn lines_of_kcat_distinguish_null_empty_and_binary() {
    let line = b"{\"topic\":\"t\",\"partition\":1,\"offset\":7,\"tstype\":\"create\",\"ts\":5,\"broker\":1,\"headers\":[\"h\",\"\xff\",\"h\",\"\",\"n\",null],\"key\":\"\",\"payload\":\"\\\"\\u0001\xc3\xa9\"}";
    let seen = parse(line);
    assert_eq!((seen.partition, seen.offset, seen.content.timestamp), (1, 7, Some(5)));
    assert_eq!(seen.content.key.as_deref(), Some(&b""[..]));
    assert_eq!(seen.content.value.as_deref(), Some(&b"\"\x01\xc3\xa9"[..]));
    let headers = [("h", Some(vec![0xff])), ("h", Some(vec![])), ("n", None)];
    assert_eq!(seen.content.headers, headers.map(|(name, value)| (name.to_owned(), value)));
    let null = parse(br#"{"topic":"t","partition":0,"offset":0,"tstype":"create","ts":5,"broker":1,"key":null,"payload":null}"#);
    assert_eq!((null.content.key, null.content.value), (None, None));
}
