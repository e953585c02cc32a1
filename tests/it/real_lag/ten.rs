//! Ten groups in ten states: each number is that of Kafka's own tool, each time that of a record.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{THEN, commit, lag, now, records, rows};
use crate::harness::{Clusters, MetricsPage, Sender, unique};

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
        let open = Sender::long_transactional(&cluster, &name("opening"));
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
fn real_ten_groups_in_ten_states_agree_with_kafkas_own_tool_and_the_records() {
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

    // Not among the rows: the group without offsets, and the deleted group.
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
        dead.stderr.starts_with(&format!("error: group `{}` does not exist on `local_kafka`\n", ten.name("dead"))),
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

/// `empty` has its own position in partition 0; `behind` and `behind-too` share theirs.
fn each_position_is_read_once_and_only_where_there_is_lag(ten: &Ten) {
    let flags = "--by partition -o json -vv --log-format json";
    let all = lag(&ten.clusters, &format!("--groups {}-.* {flags}", ten.prefix)).expect(0);
    // Committed records, and what open transactions hold back.
    assert_eq!(all.stderr.matches("Looked up records by their offsets.").count(), 2, "{}", all.stderr);
    let requests: Vec<_> = all
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "Read a single record.")
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
    for (partition, offset) in requests {
        seen.entry(partition).or_default().push(offset);
    }
    for offsets in seen.values_mut() {
        offsets.sort_unstable();
    }
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
        format!("error: 1 group fails the check\n  caused by: `{behind}` on `local_kafka`: lag 120 exceeds 119 (--max-lag)\n");
    assert!(over.stderr.starts_with(&reason), "{}", over.stderr);
    assert!(over.stderr.contains("exceeds 1h (--max-time)"), "{}", over.stderr);
    lag(&ten.clusters, &format!("{} --max-lag 0 --max-time 0s", ten.name("caught-up"))).expect(0);
    lag(&ten.clusters, &format!("{} --max-time 1s", ten.name("on-aborted"))).expect(0);
}

fn prometheus_takes_the_page(ten: &Ten) {
    let page = lag(&ten.clusters, &format!("--groups {}-.* -o prom", ten.prefix)).expect(0);
    let page = String::from_utf8(page.stdout).expect("text");
    MetricsPage(page.clone()).assert_sound();
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
