//! `sdl produce-fake`.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use bytes::Bytes;
use sdl::connectors::ndjson::{ParsedLine, read as read_line, write};
use sdl::logins::event::Login;
use sdl::record::{Partition, Record};

use crate::harness::{Cluster, Clusters, Content, Finished, Mock, ReadRecord, Sdl, edge_cases, read, unique};

const FAULTS: &str =
    "--missing device_type=0.1,ip=0.1 --malformed 0.1:truncated,wrong-type,not-utf8,array,null --late 0.1:30s --duplicates 0.1";

fn profile(cluster: &Cluster) -> String {
    format!("[local_kafka]\nservers = {}\n", cluster.servers)
}

fn printed(finished: &Finished) -> Vec<Record> {
    let lines = std::str::from_utf8(&finished.stdout).expect("lines are text").lines();
    lines
        .map(|line| match read_line(line.as_bytes()) {
            Ok(ParsedLine::Record(record)) => record,
            other => panic!("{line} is {other:?}"),
        })
        .collect()
}

#[test]
fn neither_a_run_nor_a_dry_run_writes_to_a_protected_cluster() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = profile(&kafka.cluster()) + "protect = readonly\n";
    for (command, flag) in [("produce-fake logins -n 1", "--target"), ("aggregate logins --to-topic windows", "--source")] {
        for dry in ["", "--dry-run"] {
            let finished = Sdl::new(&format!("{command} {dry}")).profile(&profile).run().expect(5);
            let expected = "`local_kafka` is read-only (protect = readonly)";
            assert!(finished.stderr.contains(expected), "{command} {dry}: {}", finished.stderr);
            let hint = format!("hint: name another section with {flag}, or change `protect` in the profile\n");
            assert!(finished.stderr.ends_with(&hint), "{command}: {}", finished.stderr);
            assert!(
                !finished.stderr.contains("Produc") && !finished.stderr.contains("Would"),
                "what is refused is not said to happen: {}",
                finished.stderr
            );
        }
    }
}

#[test]
fn a_cluster_that_wants_a_confirmation_is_written_to_only_with_one() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = profile(&kafka.cluster()) + "protect = confirm\n";
    let refused = Sdl::new("produce-fake logins -n 1").profile(&profile).run().expect(5);
    let error = "error: `local_kafka` requires confirmation (protect = confirm), and there is no terminal\n";
    assert!(refused.stderr.contains(error) && refused.stderr.ends_with("hint: confirm with --yes\n"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("Producing"), "what is refused is not said to happen: {}", refused.stderr);
    let dry = Sdl::new("produce-fake logins -n 1 --dry-run").profile(&profile).run().expect(0);
    assert!(dry.stderr.contains("INFO Would produce events of "), "{}", dry.stderr);
    Sdl::new("produce-fake logins -n 1 --yes").profile(&profile).run().expect(0);
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let run = |arguments: &str| Sdl::new(&format!("produce-fake -n 5000 -o ndjson {FAULTS} {arguments}")).run().expect(0).stdout;
    let once = run("--seed 7");
    assert!(once == run("--seed 7"), "a seed gives the same bytes");
    assert!(once != run("--seed 8"), "another seed gives others");
    assert!(once != run("--seed 7 --start-time 2024-02-29"), "another time gives others");
    assert!(run("") != run(""), "without a seed no run is like the other");
}

#[test]
fn a_duration_with_a_seed_and_a_rate_is_a_number_of_records() {
    let finished = Sdl::new("produce-fake -o ndjson --seed 7 --rate 1000 --duration 50ms").run().expect(0);
    let records = printed(&finished);
    assert_eq!(records.len(), 50);
    let login = Login::parse(records[49].value.as_ref().unwrap()).unwrap();
    assert_eq!(login.timestamp, Some(1_694_479_551));
}

#[test]
fn without_a_seed_events_have_the_time_at_which_they_are_made() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let records = printed(&Sdl::new("produce-fake -o ndjson -n 3").run().expect(0));
    let range = i64::try_from(before).unwrap()..=i64::try_from(now()).unwrap();
    for record in records {
        let login = Login::parse(record.value.as_ref().unwrap()).unwrap();
        assert!(range.contains(&login.timestamp.unwrap()), "{login:?} is not of {range:?}");
    }
}

#[test]
fn more_replicas_than_brokers_are_refused_with_the_number_that_fits() {
    let mock = Mock::start(1);
    let refused = Sdl::new("produce-fake new --create 3:2 -n 1").profile(&profile(&mock.cluster())).run().expect(1);
    let expected = "error: cannot create topic `new` on `local_kafka` with 2 replicas\n  caused by: the cluster has 1 broker\n\
                    hint: use --create 3:1\n";
    assert_eq!(refused.stderr, expected);
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let mut reader = Command::new("head").arg("-c1").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("head starts");
    let pipe = reader.stdin.take().expect("its input");
    let finished = Sdl::new("produce-fake -o ndjson --rate 10000").stdout(pipe).run().expect(0);
    assert_eq!(finished.stderr.lines().find(|line| line.starts_with("error")), None);
    assert!(reader.wait().expect("head ends").success());
}

#[test]
fn printed_records_are_read_back_from_a_file_and_a_pipe() {
    let first = Sdl::new(&format!("produce-fake -n 500 --seed 3 -o ndjson {FAULTS}")).run().expect(0);
    let contents = |finished: &Finished| printed(finished).into_iter().map(|r| (r.key, r.value)).collect::<Vec<_>>();
    let file = first.path("logins.ndjson");
    std::fs::write(&file, &first.stdout).expect("the lines are kept");
    let again = Sdl::new("produce-fake -o ndjson --file").arg(&file).run().expect(0);
    assert_eq!(contents(&again), contents(&first));
}

#[test]
fn a_bad_line_is_named_and_ends_the_run() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("lines");
    std::fs::write(&file, "{\"a\": 1}\n{\"a\":\n").expect("the lines are written");
    let finished = Sdl::new("produce-fake -o ndjson --file").arg(&file).run().expect(1);
    let expected = format!(
        "error: line 2 of `{}` is not a record\n  caused by: not JSON: EOF while parsing a value at line 1 column 5\n\
         hint: each line is one JSON value, or a record as written by `sdl tail -o ndjson`\n",
        file.display()
    );
    assert!(finished.stderr.ends_with(&expected), "{}", finished.stderr);
}

#[test]
fn an_invalid_argument_is_refused_with_its_syntax() {
    for (arguments, expected) in [
        ("--late 0.1", "write FRACTION:DURATION, as in 0.02:30s"),
        ("--missing device=0.1", "there is no field `device`: the fields are user_id, app_version, device_type, ip, locale"),
        ("--malformed 0.1:torn", "`torn` is not a kind: the kinds are truncated, wrong-type, not-utf8, array, huge, null"),
        ("--malformed 2", "`2` is not a fraction between 0 and 1, such as 0.01"),
        ("--duplicates often", "`often` is not a fraction between 0 and 1, such as 0.01"),
        ("--create 6", "use PARTITIONS:REPLICATION, as in 6:1"),
        ("--rate fast", "not a rate: use records per second, as in 5000, or bytes per second, as in 5MB"),
        ("--start-time yesterday", "use now, Unix seconds or milliseconds, a date, RFC 3339, or -1h"),
        ("--rate 1e-300", "a rate is 0.001 to 1000000000 records per second"),
        ("--wait 584542046090y", "at most 366d"),
        ("--rate 0", "a rate is 0.001 to 1000000000 records per second"),
        ("--wait ten", "not a duration: use numbers with units, as in 500ms, 30s or 1h30m"),
        ("--create 0:1", "a topic has at least 1 partition, as in 6:1"),
        ("--create 1:0", "a topic has at least 1 replica, as in 6:1"),
        ("--log-interval 0", "a whole number of at least 1 is needed"),
        ("--users 0", "a whole number of at least 1 is needed"),
        ("--seed 1e400", "invalid value '1e400' for '--seed <N>': a whole number is needed, such as 1000"),
        ("-n -5", "invalid value '-5' for '--count <N>': a whole number is needed, such as 1000"),
        ("--file x --seed 7", "the argument '--file <PATH>' cannot be used with '--seed <N>'"),
    ] {
        let finished = Sdl::new(&format!("produce-fake {arguments}")).run().expect(2);
        assert!(finished.stderr.contains(expected), "{arguments} printed\n{}", finished.stderr);
    }
}

#[test]
fn a_producer_reports_what_it_produced_without_a_lag() {
    let mock = Mock::start(1);
    mock.create_topic("logins", 3);
    let command = "produce-fake logins -n 3000 --seed 7 --log-interval 1000 -o json";
    let finished = Sdl::new(command).profile(&profile(&mock.cluster())).run().expect(0);
    let summary: serde_json::Value = serde_json::from_slice(&finished.stdout).expect("a summary");
    assert_eq!((&summary["produced"], &summary["delivered"], summary.get("read")), (&3000.into(), &3000.into(), None));
    assert!(finished.stderr.contains("INFO Producing events of seed 7 to local_kafka/logins\n"), "{}", finished.stderr);
    assert!(finished.stderr.contains("Status. produced="), "{}", finished.stderr);
    assert!(!finished.stderr.contains("lag=") && !finished.stderr.contains("read="), "{}", finished.stderr);
}

#[test]
fn logins_arrive_under_their_keys() {
    let mock = Mock::start(1);
    mock.create_topic("logins", 3);
    let cluster = mock.cluster();
    Sdl::new("produce-fake logins -n 3000 --seed 7 --users 50").profile(&profile(&cluster)).run().expect(0);
    let expected: HashMap<_, usize> = printed(&Sdl::new("produce-fake -n 3000 --seed 7 --users 50 -o ndjson").run().expect(0))
        .into_iter()
        .fold(HashMap::new(), |mut counts, record| {
            *counts.entry((record.key, record.value)).or_default() += 1;
            counts
        });
    let seen = read(&cluster, "logins");
    let mut counts: HashMap<_, usize> = HashMap::new();
    let mut partitions = HashMap::new();
    for ReadRecord { partition, content, .. } in seen {
        let key = content.key.map(Bytes::from);
        assert_eq!(*partitions.entry(key.clone()).or_insert(partition), partition, "a user keeps to one partition");
        *counts.entry((key, content.value.map(Bytes::from))).or_default() += 1;
    }
    assert!(counts == expected, "what arrived is what the seed gives");
}

#[test]
fn records_of_a_file_arrive_unchanged() {
    let mock = Mock::start(1);
    mock.create_topic("copy", 1);
    let cluster = mock.cluster();
    let mut lines = Vec::new();
    for Content { timestamp, key, value, headers } in edge_cases() {
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value.map(Bytes::from))).collect();
        let (key, value) = (key.map(Bytes::from), value.map(Bytes::from));
        write(&Record { partition: Partition::new("original", 4), offset: 9, timestamp, key, value, headers }.view(), &mut lines);
    }
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("records.ndjson");
    std::fs::write(&file, lines).expect("the lines are written");
    Sdl::new("produce-fake copy --file").arg(&file).profile(&profile(&cluster)).run().expect(0);
    let seen: Vec<_> = read(&cluster, "copy").into_iter().map(|seen| seen.content).collect();
    assert_eq!(seen, edge_cases());
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_is_created_when_asked_for_and_filled() {
    let clusters = Clusters::shared();
    let topic = unique("logins");
    let profile = profile(&clusters.source);
    let finished = Sdl::new(&format!("produce-fake {topic} -n 10")).profile(&profile).run().expect(1);
    let expected = format!(
        "error: topic `{topic}` does not exist on `local_kafka`\nhint: add --create 6:1, for 6 partitions with one replica each\n"
    );
    assert!(finished.stderr.ends_with(&expected), "{}", finished.stderr);
    for partitions in [6, 3] {
        let command = format!("produce-fake {topic} -n 1000 --create {partitions}:1");
        let finished = Sdl::new(&command).profile(&profile).run().expect(0);
        let noted = finished.stderr.contains(&format!("{topic}: exists with 6 partitions; --create has no effect"));
        assert_eq!(noted, partitions == 3, "{}", finished.stderr);
    }
    assert_eq!(clusters.source.partitions(&topic), 6);
    assert_eq!(clusters.source.count(&topic), 2000);
}
