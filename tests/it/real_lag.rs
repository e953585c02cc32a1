//! `sdl lag` on real clusters: its numbers are those of Kafka's own tool, and its times those of the records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::harness::{Cluster, Clusters, Content, Finished, Running, Sdl, Sender, unique, until};

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

/// Ten groups in ten states, and what keeps them in it.
struct Ten {
    clusters: Clusters,
    prefix: String,
    /// Dropped at the end: members, and the owner of an open transaction.
    _held: (Vec<rdkafka::consumer::BaseConsumer>, Sender),
}

impl Ten {
    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Returns the row of a group in a partition of a topic.
    #[track_caller]
    fn row<'r>(&self, rows: &'r [Value], group: &str, topic: &str, partition: i32) -> &'r Value {
        let (group, topic) = (self.name(group), self.name(topic));
        let found = rows.iter().find(|row| row["group"] == *group && row["topic"] == *topic && row["partition"] == partition);
        found.unwrap_or_else(|| panic!("there is no row of `{group}` in {topic}/{partition}: {rows:#?}"))
    }

    fn set_up() -> Self {
        let clusters = Clusters::shared();
        let cluster = clusters.source.clone();
        let prefix = unique("ten");
        let name = |name: &str| format!("{prefix}-{name}");
        for (topic, partitions) in [("orders", 3), ("other", 2), ("gone", 1), ("aborted", 1), ("open", 1)] {
            cluster.create_topic(&name(topic), partitions, &[]);
        }
        let sender = Sender::new(&cluster, &[]);
        (0..3).for_each(|partition| sender.send(&name("orders"), &records(partition, 0, 100)));
        (0..2).for_each(|partition| sender.send(&name("other"), &records(partition, 0, 10)));
        sender.send(&name("gone"), &records(0, 0, 10));

        commit(&cluster, &name("empty"), &name("orders"), &[0, 50, 100]);
        commit(&cluster, &name("behind"), &name("orders"), &[40, 40]);
        commit(&cluster, &name("behind-too"), &name("orders"), &[40, 41]);
        commit(&cluster, &name("caught-up"), &name("orders"), &[100, 100, 100]);
        commit(&cluster, &name("dead"), &name("orders"), &[1]);
        cluster.delete_group(&name("dead"));
        commit(&cluster, &name("on-gone"), &name("gone"), &[5]);
        cluster.delete_topic(&name("gone"));

        let aborting = Sender::transactional(&cluster, &name("aborting"));
        aborting.transaction(&name("aborted"), &records(0, 0, 10), true);
        aborting.transaction(&name("aborted"), &records(0, 10, 5), false);
        // Ten records and the marker of their commit.
        commit(&cluster, &name("on-aborted"), &name("aborted"), &[11]);
        let open = Sender::transactional(&cluster, &name("opening"));
        open.transaction(&name("open"), &records(0, 0, 10), true);
        open.open_transaction(&name("open"), &records(0, 10, 5));
        commit(&cluster, &name("on-open"), &name("open"), &[11]);
        commit(&cluster, &name("before-open"), &name("open"), &[4]);

        commit(&cluster, &name("stable"), &name("orders"), &[60, 70, 80]);
        commit(&cluster, &name("partly"), &name("other"), &[3, 4]);
        commit(&cluster, &name("partly"), &name("orders"), &[20, 20, 20]);
        let members = [("stable", "orders"), ("partly", "orders"), ("never", "orders")]
            .map(|(group, topic)| cluster.join(&name(group), &name(topic)));
        Self { clusters, prefix: prefix.clone(), _held: (members.into(), open) }
    }
}

const GROUPS: [&str; 10] =
    ["stable", "empty", "behind", "behind-too", "caught-up", "on-aborted", "on-open", "before-open", "partly", "never"];

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_ten_groups_in_ten_states_are_as_kafkas_own_tool_and_the_records_say() {
    let ten = Ten::set_up();
    let before = now();
    let found = rows(&ten.clusters, &format!("--groups {}-.* --by partition", ten.prefix));
    let after = now();

    let names = GROUPS.map(|group| ten.name(group));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut compared = 0;
    for (group, lines) in ten.clusters.source.groups(&names) {
        let ours: Vec<_> = found.iter().filter(|row| row["group"] == *group).collect();
        assert_eq!(ours.len(), lines.len(), "{group}: {ours:#?}\n{lines:#?}");
        for (ours, line) in ours.iter().zip(&lines) {
            assert_eq!(ours["topic"], *line.topic);
            assert_eq!(ours["partition"], line.partition);
            let number = |name: &str| ours[name].as_i64();
            assert_eq!(
                (number("committed"), number("end"), number("lag")),
                (line.committed, Some(line.end), line.lag),
                "{group}: {line:?}"
            );
            assert_eq!(
                (ours["host"].as_str(), ours["client"].as_str()),
                (line.host.as_deref(), line.client.as_deref()),
                "{group}"
            );
            compared += 1;
        }
    }
    // orders: 3 + 3 + 2 + 2 + 3 + 3 + 3, other: 2, aborted and open: 3.
    assert_eq!(compared, 24, "the tool tells of every position");
    for (group, (state, members)) in ten.clusters.source.group_states(&names) {
        let ours = found.iter().find(|row| row["group"] == *group).expect("a row");
        assert_eq!((ours["state"].as_str(), ours["members"].as_u64()), (Some(state.as_str()), Some(members as u64)), "{group}");
        assert_eq!(ours["protocol"], "classic");
    }

    // Each group's next record, by the offset that it has committed.
    let seconds = |group: &str, topic: &str, partition| ten.row(&found, group, topic, partition)["time_lag_seconds"].as_f64();
    let mut ages = 0;
    for (group, topic, partition, record) in [
        ("stable", "orders", 0, 60),
        ("stable", "orders", 2, 80),
        ("empty", "orders", 0, 0),
        ("empty", "orders", 1, 50),
        ("behind", "orders", 0, 40),
        ("behind-too", "orders", 1, 41),
        ("partly", "other", 1, 4),
        ("before-open", "open", 0, 4),
        ("on-open", "open", 0, 10),
    ] {
        let time = THEN + record * 1000;
        let age = seconds(group, topic, partition).unwrap_or_else(|| panic!("{group} has a time lag"));
        let between = |millis: i64| f64::from(u32::try_from(millis / 1000).expect("some years"));
        assert!(between(before - time) <= age && age <= between(after - time) + 1.0, "{group} in {topic}/{partition}: {age}");
        ages += 1;
    }
    assert_eq!(ages, 9);
    assert_eq!(seconds("empty", "orders", 2), Some(0.0), "caught up");
    assert_eq!(seconds("on-aborted", "aborted", 0), Some(0.0), "only what an aborted transaction left is ahead");
    assert_eq!(ten.row(&found, "on-aborted", "aborted", 0)["lag"], 6);
    assert_eq!(seconds("never", "orders", 0), None);

    let notes = |group: &str, topic: &str, partition| ten.row(&found, group, topic, partition)["notes"].clone();
    assert_eq!(notes("on-open", "open", 0), serde_json::json!(["open_transaction"]));
    assert_eq!(ten.row(&found, "on-open", "open", 0)["stable_end"], 11);
    assert_eq!(notes("partly", "other", 0), serde_json::json!(["unassigned"]));
    assert_eq!(notes("partly", "orders", 0), serde_json::json!([]));
    assert_eq!(notes("stable", "orders", 0), serde_json::json!([]));

    // Not among the rows: the group without offsets, and the group that is no more.
    let groups: BTreeSet<_> = found.iter().map(|row| row["group"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(groups, names.iter().map(ToString::to_string).collect());
    let by_group = rows(&ten.clusters, &format!("--groups {}-.*", ten.prefix));
    let on_gone = by_group.iter().find(|row| row["group"] == *ten.name("on-gone")).expect("the group is there");
    assert_eq!(
        (&on_gone["partitions"], &on_gone["lag"]),
        (&Value::from(0), &Value::Null),
        "Kafka forgets offsets of a deleted topic"
    );
    let dead = lag(&ten.clusters, &ten.name("dead")).expect(1);
    assert!(
        dead.stderr.starts_with(&format!("error: group `{}` is not on `local_kafka`\n", ten.name("dead"))),
        "{}",
        dead.stderr
    );

    sums_are_the_sums_of_partitions(&ten, &found, &by_group);
    each_position_is_read_once_and_only_where_there_is_lag(&ten);
    a_limit_is_a_check(&ten);
    prometheus_takes_the_page(&ten);
}

fn sums_are_the_sums_of_partitions(ten: &Ten, found: &[Value], by_group: &[Value]) {
    for group in GROUPS {
        let group = ten.name(group);
        let parts = || found.iter().filter(|row| row["group"] == *group);
        let sum = by_group.iter().find(|row| row["group"] == *group).expect("a row");
        assert_eq!(
            sum["lag"].as_i64(),
            parts().filter_map(|row| row["lag"].as_i64()).reduce(|one, other| one + other),
            "{group}"
        );
        assert_eq!(sum["partitions"].as_u64(), Some(parts().count() as u64), "{group}");
        assert_eq!(sum["behind"].as_u64(), Some(parts().filter(|row| row["lag"].as_i64() > Some(0)).count() as u64), "{group}");
    }
    let topics = rows(&ten.clusters, &format!("{} --by topic", ten.name("partly")));
    let lags: Vec<_> = topics.iter().map(|row| (row["topic"].clone(), row["lag"].as_i64())).collect();
    assert_eq!(lags, [(ten.name("orders").into(), Some(240)), (ten.name("other").into(), Some(13))]);
    let one = rows(&ten.clusters, &format!("{0} --topic {1} --partitions 1", ten.name("partly"), ten.name("other")));
    assert_eq!(one.iter().map(|row| row["lag"].as_i64()).collect::<Vec<_>>(), [Some(6)]);
    let lagging = rows(&ten.clusters, &format!("--groups {}-.* --only-lagging --by partition", ten.prefix));
    assert!(lagging.iter().all(|row| row["lag"].as_i64() > Some(0)));
    assert_eq!(lagging.len(), found.iter().filter(|row| row["lag"].as_i64() > Some(0)).count());
}

/// The position of `empty` in partition 0 is where nobody else is, that of `behind` and `behind-too` in partition 0 is shared.
fn each_position_is_read_once_and_only_where_there_is_lag(ten: &Ten) {
    let flags = "--by partition -o json -vv --log-format json";
    let all = lag(&ten.clusters, &format!("--groups {}-.* {flags}", ten.prefix)).expect(0);
    // Committed records, and what open transactions hold back.
    assert_eq!(all.stderr.matches("Read single records.").count(), 2, "{}", all.stderr);
    let looks: Vec<_> = all
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "Looked at one record.")
        .map(|line| (line["partition"].as_str().expect("its place").to_owned(), line["offset"].as_i64().expect("its offset")))
        .collect();
    let mut expected = BTreeMap::new();
    for (topic, partition, offsets) in [
        ("orders", 0, vec![0, 20, 40, 60]),
        ("orders", 1, vec![20, 40, 41, 50, 70]),
        ("orders", 2, vec![20, 80]),
        ("other", 0, vec![3]),
        ("other", 1, vec![4]),
        ("aborted", 0, vec![11]),
        ("open", 0, vec![4, 11]),
    ] {
        expected.insert(format!("{}/{partition}", ten.name(topic)), offsets);
    }
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    looks.into_iter().for_each(|(partition, offset)| seen.entry(partition).or_default().push(offset));
    seen.values_mut().for_each(|offsets| offsets.sort_unstable());
    assert_eq!(seen, expected);
    let none = lag(&ten.clusters, &format!("{} --no-time {flags}", ten.name("behind"))).expect(0);
    assert!(!none.stderr.contains("single record"), "{}", none.stderr);
    let caught_up = lag(&ten.clusters, &format!("{} {flags}", ten.name("caught-up"))).expect(0);
    assert!(!caught_up.stderr.contains("single record"), "{}", caught_up.stderr);
}

fn a_limit_is_a_check(ten: &Ten) {
    let behind = ten.name("behind");
    // 60 in each of two partitions.
    lag(&ten.clusters, &format!("{behind} --max-lag 120 --max-time 100years")).expect(0);
    let over = lag(&ten.clusters, &format!("{behind} --max-lag 119 --max-time 1h")).expect(4);
    assert!(String::from_utf8_lossy(&over.stdout).starts_with("GROUP "), "the rows come first");
    let reason =
        format!("error: 1 group is over the limit\n  caused by: `{behind}` on `local_kafka`: lag 120 is over 119 (--max-lag)\n");
    assert!(over.stderr.starts_with(&reason), "{}", over.stderr);
    assert!(over.stderr.contains("is over 1h (--max-time)"), "{}", over.stderr);
    lag(&ten.clusters, &format!("{} --max-lag 0 --max-time 0s", ten.name("caught-up"))).expect(0);
    lag(&ten.clusters, &format!("{} --max-time 1s", ten.name("on-aborted"))).expect(0);
}

/// Returns whether a page of metrics is one that `promtool check metrics` has nothing to say about.
#[track_caller]
fn assert_metrics(page: &str) {
    let mut promtool =
        match Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(promtool) => promtool,
            Err(error) if std::env::var("CI").as_deref() != Ok("true") => {
                eprintln!("left out: promtool is not there: {error}");
                return;
            }
            Err(error) => panic!("promtool does not start: {error}"),
        };
    promtool.stdin.take().expect("its input").write_all(page.as_bytes()).expect("it takes the page");
    let said = promtool.wait_with_output().expect("promtool ends");
    assert!(said.status.success() && said.stderr.is_empty(), "{}\n{page}", String::from_utf8_lossy(&said.stderr));
}

fn prometheus_takes_the_page(ten: &Ten) {
    let page = lag(&ten.clusters, &format!("--groups {}-.* -o prom", ten.prefix)).expect(0);
    let page = String::from_utf8(page.stdout).expect("text");
    assert_metrics(&page);
    let (group, topic) = (ten.name("behind"), ten.name("orders"));
    let place = format!("{{section=\"local_kafka\",group=\"{group}\",topic=\"{topic}\",partition=\"0\"}}");
    assert!(page.contains(&format!("sdl_group_lag_records{place} 60\n")), "{page}");
    assert!(page.contains(&format!("sdl_group_committed_offset{place} 40\n")), "{page}");
    assert!(page.contains(&format!("sdl_group_lag_seconds{place} ")), "{page}");
    assert!(
        page.contains(&format!("sdl_partition_end_offset{{section=\"local_kafka\",topic=\"{topic}\",partition=\"0\"}} 100\n")),
        "{page}"
    );
    assert!(
        page.contains(&format!("sdl_group_members{{section=\"local_kafka\",group=\"{}\"}} 1\n", ten.name("stable"))),
        "{page}"
    );
    let state = format!("sdl_group_state{{section=\"local_kafka\",group=\"{group}\",state=\"Empty\"}} 1\n");
    assert!(page.contains(&state), "{page}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_retention_is_told_before_and_after_it_strikes() {
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
fn real_a_group_of_the_new_protocol_is_told_like_any_other() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("new-protocol"), unique("new-group"));
    clusters.source.create_topic(&topic, 2, &[]);
    (0..2).for_each(|partition| Sender::new(&clusters.source, &[]).send(&topic, &records(partition, 0, 50)));
    let member = NewMember::start(&clusters.source, &group, &topic);
    until("the member has read and committed everything", Duration::from_secs(60), || {
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
    let clusters = Clusters::shared();
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
        let runs = (0..3).map(|_| {
            let finished = lag(&clusters, &format!("--groups {prefix}-.* --by partition -o ndjson {flags}")).expect(0);
            let lines: Vec<Value> =
                finished.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
            assert_eq!(lines.len(), 10_000);
            assert!(lines.iter().all(|line| line["lag"] == 2 && line["end"] == 3));
            if flags.is_empty() {
                assert!(lines.iter().all(|line| line["time_lag_seconds"].as_f64() > Some(1_000_000.0)), "each has its time");
            }
            finished.took
        });
        runs.min().expect("three runs")
    };
    let (without, with) = (took("--no-time"), took(""));
    eprintln!("100 groups x 100 partitions: {without:?} without times, {with:?} with them");
    assert!(without < Duration::from_secs(2), "{without:?}");
}

/// Returns status line, head and body of what is at `path`.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the exporter listens");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_exporter_goes_on_when_a_cluster_is_down_and_ends_when_interrupted() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("exported"), unique("exported"));
    clusters.source.create_topic(&topic, 1, &[]);
    Sender::new(&clusters.source, &[]).send(&topic, &records(0, 0, 10));
    commit(&clusters.source, &group, &topic, &[4]);
    // Nobody listens on this address.
    let both = format!("{}\n[remote_kafka]\nservers = 127.0.0.213:9\n", profile(&clusters.source));
    let mut running = Sdl::new("lag --metrics 0 --interval 200ms").profile(&both).start();
    running.until_stderr("Serving metrics at http://");
    let address =
        running.stderr().split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("its address").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    let value = |lag: i64| {
        format!("sdl_group_lag_records{{section=\"local_kafka\",group=\"{group}\",topic=\"{topic}\",partition=\"0\"}} {lag}\n")
    };
    let page = until("the first look is over", Duration::from_secs(40), || {
        Some(get(&address, "/metrics")).filter(|page| page.contains(&value(6)))
    });
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 200"));
    assert_metrics(page.split("\r\n\r\n").nth(1).expect("a body"));
    assert!(page.contains("sdl_section_up{section=\"local_kafka\"} 1\nsdl_section_up{section=\"remote_kafka\"} 0\n"), "{page}");
    commit(&clusters.source, &group, &topic, &[9]);
    until("the page follows", Duration::from_secs(40), || get(&address, "/metrics").contains(&value(1)).then_some(()));
    running.signal("INT");
    let finished = running.wait().expect(0);
    assert_eq!(finished.stderr.matches("cannot connect to `remote_kafka`").count(), 1, "said once: {}", finished.stderr);
}

/// Returns the rows that a watch in a pipe has written.
fn watched(running: &Running) -> Vec<Value> {
    running.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_watch_in_a_pipe_tells_the_pace_and_who_is_stalled() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("watched"), unique("watched"));
    clusters.source.create_topic(&topic, 1, &[]);
    Sender::new(&clusters.source, &[]).send(&topic, &records(0, 0, 100));
    commit(&clusters.source, &group, &topic, &[10]);
    let command = format!("lag {group} --watch --interval 200ms -o ndjson");
    let mut running = Sdl::new(&command).profile(&profile(&clusters.source)).start();
    let stalled =
        until("it is stalled", Duration::from_secs(30), || watched(&running).into_iter().find(|row| row["stalled"] == 1));
    assert_eq!((stalled["lag"].as_i64(), stalled["rate"].as_f64(), &stalled["eta_seconds"]), (Some(90), Some(0.0), &Value::Null));
    assert_eq!(stalled["notes"], serde_json::json!(["stalled"]));
    let before = watched(&running);
    assert!(before.len() > 3 && before[..3].iter().all(|row| row["stalled"] == 0), "{before:#?}");
    commit(&clusters.source, &group, &topic, &[60]);
    let moving =
        until("it moves", Duration::from_secs(30), || watched(&running).into_iter().find(|row| row["rate"].as_f64() > Some(0.0)));
    assert_eq!((moving["lag"].as_i64(), moving["stalled"].as_i64()), (Some(40), Some(0)));
    assert!(moving["eta_seconds"].as_f64() > Some(0.0), "{moving}");
    assert!(moving["time"].as_str() > stalled["time"].as_str());
    assert!(running.is_running());
    running.signal("INT");
    running.wait().expect(0);
}
