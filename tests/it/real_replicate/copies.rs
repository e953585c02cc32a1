//! Copies are exact: bytes, order, partitions, timestamps, configuration.

use std::time::Duration;

use super::{Flow, records};
use crate::harness::{Content, Sdl, Sender, assert_same, edge_cases, numbered, read, read_with_kcat, setting, stack, unique};

fn placed(contents: Vec<Content>, partitions: i32) -> Vec<(i32, Content)> {
    let mut placed: Vec<_> = (0..).zip(contents).map(|(index, content)| (index % partitions, content)).collect();
    placed.sort_by_key(|(partition, _)| *partition);
    placed
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_every_byte_arrives_for_each_codec_of_either_side() {
    let flow = Flow::new("bytes", 3);
    let mut sent = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let mut part = placed(edge_cases(), 3);
        let large = Content { timestamp: Some(7), value: Some(vec![b'x'; 900_000]), ..Content::default() };
        part.push((1, large));
        Sender::new(&flow.clusters.source, &[("compression.type", codec)]).send(&flow.topic, &part);
        sent.extend(part);
    }
    sent.sort_by_key(|(partition, _)| *partition);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let target = format!("{}-{codec}", flow.topic);
        flow.catch_up(&format!("--to-topic {target} --compression {codec} --start beginning --group {target}"));
        assert_same(&sent, &read_with_kcat(&flow.clusters.target, &target));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_million_fake_records_arrive_equal_and_in_order_within_the_memory() {
    let flow = Flow::new("million", 6);
    let count = setting("SDL_TEST_RECORDS", 1_000_000);
    let source_only = format!("[local_kafka]\nservers = {}\n", flow.clusters.source.servers);
    let produce = Sdl::new(&format!("produce-fake {} -n {count} --seed 7", flow.topic)).profile(&source_only);
    produce.deadline(Duration::from_secs(300)).run().expect(0);
    assert_eq!(flow.clusters.source.count(&flow.topic), count, "produce-fake wrote what it was asked for");
    let running = flow.sdl("--until-caught-up -o json").deadline(Duration::from_secs(300)).start();
    let (finished, peak) = running.wait_with_peak();
    let summary = finished.expect(0).json();
    assert_eq!(summary["delivered"], count, "{summary}");
    assert!(peak < 128, "{peak} MiB");
    let sent: Vec<_> = read(&flow.clusters.source, &flow.topic).into_iter().map(|seen| (seen.partition, seen.content)).collect();
    assert_eq!(sent.len() as u64, count);
    assert_same(&sent, &read_with_kcat(&flow.clusters.target, &flow.topic));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_records_that_compress_to_a_tenth_are_copied_within_the_memory() {
    let flow = Flow::new("compressed", 6);
    let sender =
        Sender::new(&flow.clusters.source, &[("compression.type", "lz4"), ("linger.ms", "50"), ("batch.size", "1000000")]);
    let padded = |(partition, mut content): (i32, Content)| {
        content.value.as_mut().expect("numbered records have values").resize(400, b'.');
        (partition, content)
    };
    let (count, chunk) = (setting("SDL_TEST_RECORDS", 600_000), 50_000);
    for from in (0..count).step_by(50_000) {
        let records: Vec<_> = numbered(1, from, chunk, 6).into_iter().map(padded).collect();
        sender.send(&flow.topic, &records);
    }
    let running = flow.sdl("--until-caught-up -o json").deadline(Duration::from_secs(300)).start();
    let (finished, peak) = running.wait_with_peak();
    let summary = finished.expect(0).json();
    assert_eq!(summary["delivered"].as_u64(), Some(count.next_multiple_of(chunk)), "{summary}");
    assert!(peak < 128, "{peak} MiB");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aborted_transactions_are_skipped_and_the_lag_past_their_markers_is_0() {
    let flow = Flow::new("aborted", 2);
    let records = numbered(1, 0, 40, 2);
    let sender = Sender::transactional(&flow.clusters.source, &flow.topic);
    let mut committed = Vec::new();
    for (index, chunk) in records.chunks(10).enumerate() {
        sender.transaction(&flow.topic, chunk, index % 2 == 0);
        if index % 2 == 0 {
            committed.extend_from_slice(chunk);
        }
    }
    flow.catch_up("");
    assert!(flow.verdict(&committed).is_exact(), "{:?}", flow.verdict(&committed));
    let lags: Vec<_> = flow.clusters.source.group(&flow.group).iter().map(|line| line.lag).collect();
    assert_eq!(lags, [Some(0), Some(0)]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_open_transaction_does_not_hold_up_a_run_until_caught_up() {
    let flow = Flow::new("open", 1);
    let records = numbered(1, 0, 20, 1);
    let sender = Sender::long_transactional(&flow.clusters.source, &flow.topic);
    sender.transaction(&flow.topic, &records[..10], true);
    sender.open_transaction(&flow.topic, &records[10..]);
    let finished = flow.catch_up("");
    let named =
        "an open transaction holds readers back in 1 partition: the last 10 offsets are not read; --read-uncommitted reads them";
    assert!(finished.stderr.contains(named), "{}", finished.stderr);
    assert!(flow.verdict(&records[..10]).is_exact());
    assert_eq!(flow.committed(), [11], "ten records and a marker, and nothing of the open transaction");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_compacted_offsets_are_passed_and_the_lag_is_0() {
    let flow = Flow::new("holes", 1);
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0.01")];
    let topic = unique("compacted");
    flow.clusters.source.create_topic(&topic, 1, &settings);
    let sender = Sender::new(&flow.clusters.source, &[]);
    let values = ["a", "b", "c"].into_iter().cycle().zip(0..600).map(|(key, i)| (Some(key), Some(i.to_string())));
    // Time is the records' own: a segment is closed by a record that is a second younger than its first.
    for record in records(values, 1).chunks(60) {
        sender.send(&topic, record);
    }
    crate::harness::eventually("the log is compacted", Duration::from_secs(60), || {
        (read(&flow.clusters.source, &topic).len() < 300).then_some(())
    });
    let sdl = Sdl::new(&format!("replicate {topic} --group {topic} --until-caught-up -o json")).profile(&flow.profile());
    sdl.run().expect(0);
    let seen = read(&flow.clusters.source, &topic);
    let arrived = read_with_kcat(&flow.clusters.target, &topic);
    let keys = |seen: &[crate::harness::ReadRecord]| seen.last().map(|seen| seen.content.clone());
    assert_eq!(keys(&arrived), keys(&seen));
    assert_eq!(flow.clusters.source.group(&topic)[0].lag, Some(0));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_missing_target_topic_is_created_like_the_source_without_cluster_settings() {
    let flow = Flow::new("unused", 1);
    let topic = unique("configured");
    let settings = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "86400000000"),
        ("max.message.bytes", "2000000"),
        ("min.insync.replicas", "2"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    flow.clusters.source.create_topic(&topic, 5, &settings);
    Sdl::new(&format!("replicate {topic} --group {topic} --until-caught-up")).profile(&flow.profile()).run().expect(0);
    assert_eq!(flow.clusters.target.partitions(&topic), 5);
    let output = stack(&["tool", "topics", "--bootstrap-server", &flow.clusters.target.servers, "--describe", "--topic", &topic]);
    for (name, value) in &settings[..3] {
        assert!(output.contains(&format!("{name}={value}")), "{name} in {output}");
    }
    for (name, value) in &settings[3..] {
        assert!(!output.contains(&format!("{name}={value}")), "{name} in {output}");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_offsets_of_more_partitions_than_fit_into_a_commit_are_committed() {
    let flow = Flow::new("many-partitions", 1_100);
    flow.clusters.target.create_topic(&flow.topic, 1, &[]);
    flow.send(0, 2_200);
    flow.sdl("--until-caught-up --repartition").deadline(Duration::from_secs(300)).run().expect(0);
    flow.assert_committed();
    assert_eq!(flow.clusters.target.count(&flow.topic), 2_200);
    flow.clusters.source.delete_topic(&flow.topic);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_killed_re_read_continues_without_the_flag() {
    let flow = Flow::new("again", 2);
    let sent = flow.send(0, 40_000);
    flow.catch_up("");
    let mut running = flow.sdl("--from-beginning --rate 10000 --instance-id a").start();
    flow.until_delivered(&mut running, 40_000 + 15_000);
    assert!(running.is_running());
    running.signal("KILL");
    drop(running);
    flow.catch_up("--instance-id a");
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_complete() && verdict.duplicated >= 40_000, "{verdict:?}");
    flow.assert_committed();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_that_sets_the_timestamps_is_named_before_anything_is_copied() {
    let flow = Flow::new("append-time", 1);
    flow.clusters.target.create_topic(&flow.topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    flow.send(0, 10);
    let finished = flow.catch_up("--dry-run");
    let warning = format!("{}: the broker replaces the timestamps of the records", flow.topic);
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);
    assert_eq!(flow.clusters.target.count(&flow.topic), 0);
}
