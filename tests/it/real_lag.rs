//! `sdl lag` on real clusters: its numbers are those of Kafka's own tool, and its times those of the records.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::harness::{Cluster, Clusters, Content, Finished, Sdl, Sender, eventually, unique};

mod serving;
mod ten;
mod terminal;

/// The time of record 0, a second before that of record 1.
const THEN: i64 = 1_700_000_000_000;

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    i64::try_from(now).expect("a small number")
}

/// Returns `count` records for one partition, a second apart.
fn records(partition: i32, from: i64, count: i64) -> Vec<(i32, Content)> {
    let content =
        |number| Content { timestamp: Some(THEN + number * 1000), value: Some(b"value".to_vec()), ..Content::default() };
    (from..from + count).map(|number| (partition, content(number))).collect()
}

fn profile(cluster: &Cluster) -> String {
    format!("[local_kafka]\nservers = {}\n", cluster.servers)
}

/// Runs `sdl lag` on the source cluster.
#[track_caller]
fn lag(clusters: &Clusters, arguments: &str) -> Finished {
    Sdl::new(&format!("lag {arguments}")).profile(&profile(&clusters.source)).run()
}

/// Returns the rows of `sdl lag -o json`.
#[track_caller]
fn rows(clusters: &Clusters, arguments: &str) -> Vec<Value> {
    let document = lag(clusters, &format!("{arguments} -o json")).expect(0).json();
    assert_eq!(document["schema"], 1);
    document["lags"].as_array().expect("rows").clone()
}

/// Commits offsets for a group without members.
fn commit(cluster: &Cluster, group: &str, topic: &str, offsets: &[i64]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(*offset)).expect("a valid offset");
    }
    cluster.consumer(group).commit(&list, CommitMode::Sync).expect("the commit is taken");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_retention_is_reported_before_and_after_deletion() {
    let clusters = Clusters::shared();
    let (kept, compacted, group) = (unique("kept"), unique("compacted"), unique("late"));
    clusters.source.create_topic(&kept, 1, &[("retention.ms", "3600000")]);
    clusters.source.create_topic(&compacted, 1, &[("cleanup.policy", "compact")]);
    let start = now();
    let content = Content { timestamp: Some(start), key: Some(b"k".to_vec()), value: Some(b"v".to_vec()), ..Content::default() };
    for topic in [&kept, &compacted] {
        Sender::new(&clusters.source, &[]).send(topic, &vec![(0, content.clone()); 10]);
        commit(&clusters.source, &group, topic, &[2]);
    }
    let of = |topic: &str| rows(&clusters, &format!("{group} --topic {topic}"))[0].clone();
    let left = of(&kept)["deleted_in_seconds"].as_f64().expect("the topic deletes");
    assert!((3_500.0..=3_600.0).contains(&left), "{left}");
    assert_eq!(of(&compacted)["deleted_in_seconds"], Value::Null, "the topic does not delete");
    clusters.source.delete_records(&kept, 0, 6);
    let row = of(&kept);
    assert_eq!((row["lag"].as_i64(), row["deleted_unread"].as_i64()), (Some(8), Some(4)));
    assert_eq!(row["notes"], serde_json::json!(["deleted_unread"]));
    assert!(row["time_lag_seconds"].as_f64().is_some(), "the next record is the first that is left");
}

/// A consumer of Kafka's own, which speaks the new protocol. Killed when dropped.
struct NewMember(Child);

impl NewMember {
    fn start(cluster: &Cluster, group: &str, topic: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack");
        let mut command = Command::new(script);
        command.args(["tool", "consume", "--bootstrap-server", &cluster.servers, "--topic", topic, "--group", group]);
        command.args(["--from-beginning", "--consumer-property", "group.protocol=consumer"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("scripts/stack starts"))
    }
}

impl Drop for NewMember {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_of_the_new_protocol_is_listed_like_any_other() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("new-protocol"), unique("new-group"));
    clusters.source.create_topic(&topic, 2, &[]);
    (0..2).for_each(|partition| Sender::new(&clusters.source, &[]).send(&topic, &records(partition, 0, 50)));
    let member = NewMember::start(&clusters.source, &group, &topic);
    eventually("the member has read and committed everything", Duration::from_secs(60), || {
        let document = lag(&clusters, &format!("{group} -o json"));
        let found = if document.code() == Some(0) { document.json()["lags"].as_array().cloned() } else { None }?;
        let ready = found.len() == 2 && found.iter().all(|row| row["lag"] == 0 && row["state"] == "Stable");
        ready.then_some(())
    });
    let found = rows(&clusters, &group);
    let lines = clusters.source.group(&group);
    for (row, line) in found.iter().zip(&lines) {
        assert_eq!((row["protocol"].as_str(), row["members"].as_i64()), (Some("consumer"), Some(1)), "{row}");
        assert_eq!((row["partition"].as_i64(), row["committed"].as_i64()), (Some(i64::from(line.partition)), line.committed));
        assert_eq!((row["host"].as_str(), row["client"].as_str()), (line.host.as_deref(), line.client.as_deref()));
        assert_eq!(row["notes"], serde_json::json!([]), "{row}");
    }
    assert_eq!((found.len(), lines.len()), (2, 2));
    drop(member);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_hundred_groups_in_a_hundred_partitions_take_less_than_two_seconds() {
    // No other test may take the brokers' time.
    let clusters = Clusters::exclusive();
    let (topic, prefix) = (unique("hundred"), unique("of-hundred"));
    clusters.source.create_topic(&topic, 100, &[]);
    let sender = Sender::new(&clusters.source, &[]);
    let each: Vec<_> = (0..100).flat_map(|partition| records(partition, 0, 3)).collect();
    sender.send(&topic, &each);
    std::thread::scope(|scope| {
        for part in 0..10 {
            let (cluster, topic, prefix) = (&clusters.source, &topic, &prefix);
            scope
                .spawn(move || (0..10).for_each(|number| commit(cluster, &format!("{prefix}-{part}{number}"), topic, &[1; 100])));
        }
    });
    let took = |flags: &str| {
        let finished = lag(&clusters, &format!("--groups {prefix}-.* --by partition -o ndjson {flags}")).expect(0);
        let lines: Vec<Value> =
            finished.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(lines.len(), 10_000);
        assert!(lines.iter().all(|line| line["lag"] == 2 && line["end"] == 3));
        if flags.is_empty() {
            assert!(lines.iter().all(|line| line["time_lag_seconds"].as_f64() > Some(1_000_000.0)), "each has its time");
        }
        finished.took
    };
    let (mut times, limit) = (Vec::new(), Duration::from_secs(2));
    let is_met = (0..10).any(|_| {
        times.push(took("--no-time"));
        times.last() < Some(&limit)
    });
    eprintln!("100 groups x 100 partitions: {times:?} without times, {:?} with them", took(""));
    assert!(is_met, "{times:?}");
}
