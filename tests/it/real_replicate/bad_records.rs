//! Records that cannot be delivered, and where they go.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Flow, records};
use crate::harness::{Content, Proxy, Sender, eventually, numbered, read_with_kcat};

const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A flow whose target takes records up to 100 kB, with one record of twice that in the middle of `count` good ones.
fn with_a_large_record(name: &str, count: usize) -> (Flow, Vec<(i32, Content)>) {
    let flow = Flow::new(name, 1);
    flow.clusters.target.create_topic(&flow.topic, 1, &[("max.message.bytes", "100000")]);
    let good = numbered(1, 0, count as u64, 1);
    let mut all = good.clone();
    let large =
        Content { timestamp: Some(5), key: Some(b"large".to_vec()), value: Some(vec![b'x'; 200_000]), headers: Vec::new() };
    all.insert(count / 2, (0, large));
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &all);
    (flow, good)
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_too_large_record_stops_the_run_at_its_coordinates() {
    let (flow, good) = with_a_large_record("large", 1_000);
    for _ in 0..2 {
        let finished = flow.sdl("--until-caught-up").run().expect(3);
        let (coordinates, limit) = (format!("{}/0@500", flow.topic), "bytes as a batch, above the 100000 of topic");
        for word in
            [coordinates.as_str(), "caused by: the record has 200", limit, "--skip-bad-records; raise `max.message.bytes` of"]
        {
            assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
        }
        assert_eq!(flow.committed(), [500], "everything before it, and not it");
    }
    let verdict = flow.verdict(&good[..500]);
    assert_eq!((verdict.lost, verdict.reordered), (0, 0), "{verdict:?}");
    flow.sdl("--until-caught-up --skip-bad-records").run().expect(3);
    flow.assert_complete(&good);
    assert_eq!(flow.committed(), [1_001]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_record_as_large_as_the_target_accepts_is_copied() {
    let flow = Flow::new("fitting", 1);
    let headers = (0..30).map(|n| (format!("h{n:02}"), Some(b"v".to_vec()))).collect();
    let record = Content { timestamp: Some(5), key: Some(b"k".to_vec()), value: Some(vec![b'x'; 200_000]), headers };
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &[(0, record)]);
    let copied_with_limit = |limit: u64| {
        let target = format!("{}-{limit}", flow.topic);
        flow.clusters.target.create_topic(&target, 1, &[("max.message.bytes", &limit.to_string())]);
        flow.sdl(&format!("--until-caught-up --compression none --to-topic {target} --group {target}")).run()
    };
    let refused = copied_with_limit(100_000).expect(3).stderr;
    let size = refused.split("the record has ").nth(1).and_then(|rest| rest.split(' ').next());
    let size: u64 = size.and_then(|size| size.parse().ok()).unwrap_or_else(|| panic!("no size in stderr:\n{refused}"));
    copied_with_limit(size - 1).expect(3);
    copied_with_limit(size).expect(0);
    assert_eq!(flow.clusters.target.count(&format!("{}-{size}", flow.topic)), 1);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_run_that_stops_names_the_first_bad_record_each_time() {
    let flow = Flow::new("first-bad", 1);
    flow.clusters.target.create_topic(&flow.topic, 1, &[("max.message.bytes", "100000")]);
    let mut all = numbered(1, 0, 10_000, 1);
    for offset in [2_304, 5_288, 9_969] {
        all[offset].1.value = Some(vec![b'x'; 200_000]);
    }
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &all);
    for _ in 0..3 {
        let finished = flow.sdl("--until-caught-up --batch 500").run().expect(3);
        let named = format!("error: record {}/0@2304 cannot be delivered", flow.topic);
        assert!(finished.stderr.contains(&named), "`{named}` is not in stderr:\n{}", finished.stderr);
        assert_eq!(flow.committed(), [2_304]);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_small_records_fit_a_target_with_a_small_message_limit() {
    let flow = Flow::new("small", 2);
    flow.clusters.target.create_topic(&flow.topic, 2, &[("max.message.bytes", "100000")]);
    let sent = flow.send(0, 50_000);
    flow.catch_up("");
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_dead_letter_names_the_origin_of_its_record() {
    let (flow, good) = with_a_large_record("letters", 1_000);
    let letters = format!("{}-dead", flow.topic);
    flow.clusters.target.create_topic(&letters, 1, &[("max.message.bytes", "1000000")]);
    let finished = flow.sdl(&format!("--until-caught-up -o json --dead-letters topic:{letters}")).run().expect(3);
    let summary = finished.json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&1_000.into(), &1.into()), "{summary}");
    assert!(flow.verdict(&good).is_exact());
    assert_eq!(flow.committed(), [1_001]);
    let found = read_with_kcat(&flow.clusters.target, &letters);
    let letter = &found[0].content;
    assert_eq!(
        (found.len(), letter.key.as_deref(), letter.value.as_ref().map(Vec::len)),
        (1, Some(&b"large"[..]), Some(200_000))
    );
    assert_eq!(letter.timestamp, Some(5));
    let header = |name: &str| letter.headers.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.clone());
    for (name, value) in [("topic", flow.topic.as_str()), ("partition", "0"), ("offset", "500")] {
        assert_eq!(header(&format!("__connect.errors.{name}")), Some(value.as_bytes().to_vec()), "{:?}", letter.headers);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_record_without_key_is_bad_for_a_compacted_target() {
    let flow = Flow::new("keyless", 1);
    flow.clusters.target.create_topic(&flow.topic, 1, &[("cleanup.policy", "compact")]);
    let contents = [(Some("a"), Some("1".to_owned())), (None, Some("2".to_owned())), (Some("b"), Some("3".to_owned()))];
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &records(contents, 1));
    let finished = flow.sdl("--until-caught-up").run().expect(3);
    let cause = format!("the record has no key, and topic `{}` is compacted (key_missing)", flow.topic);
    for word in [format!("{}/0@1 ", flow.topic), cause] {
        assert!(finished.stderr.contains(&word), "`{word}` is not in stderr:\n{}", finished.stderr);
    }
    flow.sdl("--until-caught-up --skip-bad-records").run().expect(3);
    // What came after the bad one may have arrived with the first run already.
    let seen = read_with_kcat(&flow.clusters.target, &flow.topic);
    let values: std::collections::BTreeSet<_> = seen.iter().map(|seen| seen.content.value.as_deref()).collect();
    assert_eq!(values, [Some(&b"1"[..]), Some(&b"3"[..])].into());
    assert_eq!(flow.committed(), [3]);
}

/// A flow of JSON values; every `nth` lacks the required field.
fn with_poison(name: &str, count: usize, nth: usize) -> Flow {
    let flow = Flow::new(name, 2);
    let value = |i: usize| if i % nth == nth / 2 { format!("{{\"n\":{i}}}") } else { format!("{{\"user_id\":\"u\",\"n\":{i}}}") };
    let contents = (0..count).map(|i| (Some("k"), Some(value(i))));
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &records(contents, 2));
    flow
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_dead_letter_file_has_whole_lines_after_a_torn_one() {
    let flow = with_poison("file", 1_000, 100);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dead.ndjson");
    let flags = format!("--until-caught-up -o json --require user_id --dead-letters file:{}", path.display());
    let summary = flow.sdl(&flags).run().expect(3).json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&990.into(), &10.into()), "{summary}");
    flow.assert_committed();
    assert_eq!(letters(&path), 10);
    // As if the machine had died in the middle of a write.
    let torn = std::fs::OpenOptions::new().write(true).open(&path).expect("the letters are there");
    torn.set_len(torn.metadata().expect("a length").len() - 20).expect("the last line is torn");
    let poison = (0..4).map(|_| (Some("k"), Some("{}".to_owned())));
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &records(poison, 2));
    flow.sdl(&flags).run().expect(3);
    assert_eq!(letters(&path), 9 + 4);
}

/// Returns how many lines a file of letters holds; each must be whole.
fn letters(path: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(path).expect("the letters are there");
    assert!(text.ends_with('\n'), "{text}");
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    text.lines().count()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_storm_of_bad_records_trips_the_breaker() {
    let flow = with_poison("storm", 5_000, 1);
    let letters = format!("{}-dead", flow.topic);
    flow.clusters.target.create_topic(&letters, 1, &[]);
    let flags = format!("--until-caught-up --require user_id --dead-letters topic:{letters} --dead-letter-limit 100/1m");
    let finished = flow.sdl(&flags).run().expect(3);
    for word in ["error: more than 100 bad records within 1m, the last one", "--dead-letter-limit"] {
        assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
    }
    let written = flow.clusters.target.count(&letters);
    let committed: i64 = flow.committed().iter().sum();
    assert!(
        (1..=200).contains(&written) && u64::try_from(committed).expect("positive") <= written,
        "{written} letters, {committed}"
    );
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_full_disk_under_the_dead_letter_file_stalls_and_commits_nothing() {
    let flow = with_poison("full", 1_000, 1_000);
    let finished = flow.sdl("--until-caught-up --require user_id --dead-letters file:/dev/full --retry-for 3s").run();
    let finished = finished.expect(1);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
    let committed = flow.committed();
    assert!(committed[0] <= 250 && committed[1] <= 250 + 250, "record 500 is not committed: {committed:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_dead_letters_wait_for_a_silent_broker() {
    let flow = Flow::alone("letters-wait", 1);
    let proxy = Proxy::before(&flow.clusters.target);
    let letters = format!("{}-dead", flow.topic);
    flow.clusters.target.create_topic(&letters, 1, &[]);
    let sender = Sender::new(&flow.clusters.source, &[]);
    let good = |count: usize| records((0..count).map(|i| (Some("k"), Some(format!("{{\"n\":{i}}}")))), 1);
    sender.send(&flow.topic, &good(1_000));
    let profile = format!("{}\n[letters_kafka]\nservers = {}\n", flow.profile(), flow.clusters.target.through_proxy().servers);
    let flags = format!("--require n --dead-letters topic:letters_kafka/{letters}");
    let mut running = flow.sdl(&flags).profile(&profile).start();
    eventually("the good ones are committed", READ_TIMEOUT, || (flow.committed() == [1_000]).then_some(()));
    proxy.black_hole();
    sender.send(&flow.topic, &records([(Some("k"), Some("{}".to_owned()))], 1));
    sender.send(&flow.topic, &good(100));
    flow.until_delivered(&mut running, 1_001);
    running.wait_for_stderr("Dead letters stalled.");
    assert!(running.is_running(), "{}", running.stderr());
    assert_eq!(
        (flow.committed(), flow.clusters.target.count(&letters)),
        (vec![1_000], 0),
        "nothing is committed past a letter on its way"
    );
    proxy.heal();
    eventually("the rest is committed", READ_TIMEOUT, || (flow.committed() == [1_101]).then_some(()));
    running.end();
    assert_eq!((flow.clusters.target.count(&letters), flow.clusters.target.count(&flow.topic)), (1, 1_100));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_dead_letter_topic_that_was_deleted_during_the_run_is_named_by_the_stall() {
    let flow = Flow::new("letters-deleted", 1);
    let letters = format!("{}-dead", flow.topic);
    let sender = Sender::new(&flow.clusters.source, &[]);
    let value = |text: &str| records([(Some("k"), Some(text.to_owned()))], 1);
    sender.send(&flow.topic, &value("{\"n\":1}"));
    let mut running = flow.sdl(&format!("--require n --dead-letters topic:{letters} --shutdown-timeout 1s")).start();
    flow.until_delivered(&mut running, 1);
    flow.until_committed();
    flow.clusters.target.delete_topic(&letters);
    sender.send(&flow.topic, &value("{}"));
    let name = format!("topic `{letters}`");
    running.wait_until_stderr("names the topic", |printed| {
        printed.lines().any(|line| line.contains("Dead letters stalled.") && line.contains(&name))
    });
    running.signal("TERM");
    running.wait().expect(3);
    assert_eq!(flow.committed(), [1], "nothing is committed past a record without its letter");
    flow.sdl(&format!("--until-caught-up --require n --dead-letters topic:{letters}")).run().expect(3);
    assert_eq!((flow.committed(), flow.clusters.target.count(&letters)), (vec![2], 1), "the start has created the topic again");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_dead_letter_topic_that_is_deleted_with_letters_in_it_ends_the_run() {
    for is_recreated in [true, false] {
        let flow = Flow::new("letters-gone", 1);
        let letters = format!("{}-dead", flow.topic);
        let sender = Sender::new(&flow.clusters.source, &[]);
        sender.send(&flow.topic, &records([(Some("k"), Some("{}".to_owned()))], 1));
        let running = flow.sdl(&format!("--require n --dead-letters topic:{letters}")).start();
        eventually("the letter is committed", READ_TIMEOUT, || (flow.committed() == [1]).then_some(()));
        assert_eq!(flow.clusters.target.count(&letters), 1);
        flow.clusters.target.delete_topic(&letters);
        if is_recreated {
            flow.clusters.target.create_topic(&letters, 1, &[]);
        }
        // Nothing more is sent: the watch finds it.
        let finished = running.wait().expect(5);
        let what = format!("error: topic `{letters}` on `local_kafka` was deleted");
        for word in [what.as_str(), "during the run: the dead letters that were written to it", "--from-beginning"] {
            assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_rejected_dead_letter_stops_the_run() {
    let (flow, good) = with_a_large_record("large-letter", 1_000);
    let letters = format!("{}-dead", flow.topic);
    flow.clusters.target.create_topic(&letters, 1, &[("max.message.bytes", "50000")]);
    let finished = flow.sdl(&format!("--until-caught-up --dead-letters topic:{letters}")).run().expect(3);
    let what = format!("error: the dead letter of record {}/0@500 was rejected", flow.topic);
    for word in [what, format!("hint: raise `max.message.bytes` of `{letters}`")] {
        assert!(finished.stderr.contains(&word), "`{word}` is not in stderr:\n{}", finished.stderr);
    }
    assert_eq!((flow.committed(), flow.clusters.target.count(&letters)), (vec![500], 0));
    let verdict = flow.verdict(&good[..500]);
    assert_eq!((verdict.lost, verdict.reordered), (0, 0), "{verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_timestamps_that_the_target_refuses_are_dead_lettered_and_the_order_is_kept() {
    let flow = Flow::new("refused-times", 1);
    flow.clusters.target.create_topic(&flow.topic, 1, &[("message.timestamp.before.max.ms", "3600000")]);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    // Ten days are refused unsent; 65 minutes by the broker, one record of a batch or several of them.
    let age = |n: i64| match n {
        100 | 101 => 10 * 86_400_000,
        1_000 | 2_000 | 2_010 | 2_020 => 65 * 60_000,
        _ => 0,
    };
    let record = |n: i64| {
        (0, Content { timestamp: Some(now - age(n)), key: None, value: Some(n.to_string().into_bytes()), headers: Vec::new() })
    };
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &(0..3_000).map(record).collect::<Vec<_>>());
    let letters = format!("{}-dead", flow.topic);
    let finished = flow.sdl(&format!("--until-caught-up -o json --dead-letters topic:{letters}")).run().expect(3);
    let summary = finished.json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&2_994.into(), &6.into()), "{summary}");
    let found =
        |topic: &str| read_with_kcat(&flow.clusters.target, topic).into_iter().map(|seen| seen.content).collect::<Vec<_>>();
    let numbers = |contents: &[Content]| -> Vec<i64> {
        contents.iter().map(|content| String::from_utf8_lossy(content.value.as_deref().unwrap()).parse().unwrap()).collect()
    };
    assert_eq!(numbers(&found(&flow.topic)), (0..3_000).filter(|n| age(*n) == 0).collect::<Vec<_>>());
    // The new topic keeps letters of any time, as old as they are.
    let letters = found(&letters);
    assert_eq!(numbers(&letters), [100, 101, 1_000, 2_000, 2_010, 2_020]);
    assert!(letters.iter().zip(numbers(&letters)).all(|(letter, n)| letter.timestamp == Some(now - age(n))));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_refused_timestamps_in_every_batch_are_dead_lettered_and_the_run_goes_on() {
    let flow = Flow::new("refused-often", 3);
    flow.clusters.target.create_topic(&flow.topic, 3, &[("message.timestamp.before.max.ms", "3600000")]);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    // The broker, not the program, decides so near to the limit.
    let age = |n: i64| if n % 3_001 == 3_000 { 65 * 60_000 } else { 0 };
    let record = |n: i64| {
        let value = Some(n.to_string().into_bytes());
        (i32::try_from(n % 3).unwrap(), Content { timestamp: Some(now - age(n)), key: None, value, headers: Vec::new() })
    };
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &(0..120_000).map(record).collect::<Vec<_>>());
    let line = format!("--until-caught-up -o json --batch 5000 --dead-letters topic:{}-dead", flow.topic);
    let summary = flow.sdl(&line).deadline(Duration::from_secs(180)).run().expect(3).json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&119_961.into(), &39.into()), "{summary}");
    assert_eq!(flow.clusters.target.count(&flow.topic), 119_961);
}
