//! `sdl offsets` and `sdl topics` on real clusters, checked by Kafka's own tool.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Clusters, Content, Finished, Sdl, Sender, eventually, unique};

/// The time of record 0, a second before that of record 1.
const THEN: i64 = 1_700_000_000_000;

/// The clusters, with a topic of two partitions on the source, a hundred records in each, and a group that has committed 40 and 100.
struct Orders {
    clusters: Clusters,
    topic: String,
    group: String,
}

impl Orders {
    fn new() -> Self {
        let (clusters, topic, group) = (Clusters::shared(), unique("orders"), unique("billing"));
        let orders = Self { clusters, topic, group };
        orders.create(true);
        orders.commit(&orders.group, &[40, 100]);
        orders
    }

    /// Creates and fills the topic on the source cluster, or on the target.
    fn create(&self, on_source: bool) {
        let cluster = if on_source { &self.clusters.source } else { &self.clusters.target };
        cluster.create_topic(&self.topic, 2, &[]);
        let content =
            |number: i64| Content { timestamp: Some(THEN + number * 1000), value: Some(b"v".to_vec()), ..Content::default() };
        let records: Vec<_> = (0..200).map(|number| (i32::from(number >= 100), content(number % 100))).collect();
        Sender::new(cluster, &[]).send(&self.topic, &records);
    }

    fn commit(&self, group: &str, offsets: &[i64]) {
        for (partition, offset) in (0..).zip(offsets) {
            self.clusters.source.commit(group, &self.topic, partition, *offset, "");
        }
    }

    #[track_caller]
    fn run(&self, arguments: &str, code: i32) -> Finished {
        Sdl::new(arguments).profile(&self.clusters.profile("unused")).run().expect(code)
    }

    /// Runs `sdl offsets reset` on the source cluster.
    #[track_caller]
    fn reset(&self, arguments: &str, code: i32) -> Finished {
        self.run(&format!("offsets reset {arguments} --target remote_kafka"), code)
    }

    /// Returns what Kafka's own tool says of a group in the partitions of the topic.
    #[track_caller]
    fn described(&self, group: &str) -> Vec<(i32, Option<i64>, Option<i64>)> {
        let lines = self.clusters.source.group(group);
        let of_topic = lines.into_iter().filter(|line| line.topic == self.topic);
        of_topic.map(|line| (line.partition, line.committed, line.lag)).collect()
    }
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).expect("text")
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_reset_moves_a_group_to_each_position_as_kafkas_own_tool_reports() {
    let orders = Orders::new();
    let other = unique("other");
    orders.commit(&other, &[7]);
    let dry = orders.reset(&format!("{} --position end", orders.group), 0);
    assert!(dry.stderr.ends_with("dry run: nothing was changed; add --yes to apply\n"), "{}", dry.stderr);
    assert_eq!(orders.described(&orders.group), [(0, Some(40), Some(60)), (1, Some(100), Some(0))]);
    for (arguments, after) in [
        ("--position beginning".to_owned(), [0, 0]),
        ("--position end --partitions 1".to_owned(), [0, 100]),
        (format!("{} --position 30 --partitions 0", orders.topic), [30, 100]),
        ("--position -10".to_owned(), [90, 90]),
        (format!("--position @{}", THEN + 55_500), [56, 56]),
        ("--shift -6".to_owned(), [50, 50]),
        ("--shift 1000".to_owned(), [100, 100]),
        (format!("--to-group {other}"), [7, 100]),
    ] {
        orders.reset(&format!("{} {arguments} --yes", orders.group), 0);
        let expected: Vec<_> = (0..).zip(after).map(|(partition, at)| (partition, Some(at), Some(100 - at))).collect();
        assert_eq!(orders.described(&orders.group), expected, "{arguments}");
    }
    let new = unique("new");
    let created = orders.reset(&format!("{new} {} --position 5 --yes", orders.topic), 0);
    assert!(
        created.stderr.contains(&format!("group `{new}` has committed nothing yet: this creates it\n")),
        "{}",
        created.stderr
    );
    assert_eq!(orders.described(&new), [(0, Some(5), Some(95)), (1, Some(5), Some(95))]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_with_members_keeps_its_offsets_and_the_refusal_names_them() {
    let orders = Orders::new();
    let group = &orders.group;
    let saved = stdout(&orders.run(&format!("offsets export {group} --source remote_kafka"), 0)).replace(",40,", ",50,");
    let member = orders.clusters.source.join(group, &orders.topic);
    for yes in ["", " --yes"] {
        let refused = orders.reset(&format!("{group} --position beginning{yes}"), 5);
        assert!(stdout(&refused).starts_with("TOPIC "), "the table is shown: {}", stdout(&refused));
        let expected =
            format!("error: group `{group}` has active members: its offsets cannot be changed\n  member-of-{group} at ");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
        let hint = "hint: stop them first; static members and killed ones stay for the session timeout, 45 s\n";
        assert!(refused.stderr.ends_with(hint), "{}", refused.stderr);
        let refused = orders.run(&format!("offsets delete {group} --target remote_kafka{yes}"), 5);
        assert!(refused.stderr.contains("has active members: it cannot be deleted\n"), "{}", refused.stderr);
        let import = Sdl::new(&format!("offsets import saved.csv --target remote_kafka{yes}"));
        std::fs::write(import.home().join("saved.csv"), &saved).expect("the file is written");
        let refused = import.profile(&orders.clusters.profile("unused")).run().expect(5);
        let expected = format!("error: the group was not imported\n  `{group}`: it has active members: member-of-{group} at ");
        assert!(refused.stderr.starts_with(&expected), "{}", refused.stderr);
    }
    assert_eq!(orders.clusters.source.committed(group, &orders.topic), [Some(40), Some(100)]);
    drop(member);
    orders.clusters.source.wait_for_members(group, 0);
    orders.reset(&format!("{group} --position beginning --yes"), 0);
    assert_eq!(orders.described(group), [(0, Some(0), Some(100)), (1, Some(0), Some(100))]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_exported_offsets_are_imported_on_another_cluster() {
    let orders = Orders::new();
    orders.create(false);
    let (streams, far) = (unique("streams"), unique("far"));
    orders.clusters.source.commit(&streams, &orders.topic, 1, 12, "AgAAAYb,\"x\"");
    orders.commit(&far, &[99]);
    let groups = [&orders.group, &streams, &far].map(String::as_str).join(" ");
    for format in ["csv", "ndjson"] {
        let saved = stdout(&orders.run(&format!("offsets export {groups} --source remote_kafka -o {format}"), 0));
        let import = |yes: &str| {
            let run = Sdl::new(&format!("offsets import saved -o json {yes}"));
            std::fs::write(run.home().join("saved"), &saved).expect("the file is written");
            run.profile(&orders.clusters.profile("unused")).run().expect(0)
        };
        let changes = import("").json()["changes"].as_array().expect("rows").len();
        assert_eq!(changes, 4);
        import("--yes");
    }
    let target = &orders.clusters.target;
    for (group, expected) in [(&orders.group, [Some(40), Some(100)]), (&streams, [None, Some(12)]), (&far, [Some(99), None])] {
        assert_eq!(target.committed(group, &orders.topic), expected);
    }
    assert_eq!(target.commit_metadata(&streams, &orders.topic, 1), "AgAAAYb,\"x\"", "with its metadata");
    let lines = target.group(&orders.group);
    assert_eq!(lines.iter().map(|line| line.lag).collect::<Vec<_>>(), [Some(60), Some(0)]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_deleted_group_is_gone_and_deleted_offsets_leave_the_others() {
    let orders = Orders::new();
    let cluster = &orders.clusters.source;
    let second = unique("second");
    cluster.create_topic(&second, 1, &[]);
    cluster.commit(&orders.group, &second, 0, 0, "");
    let delete = |arguments: &str| orders.run(&format!("offsets delete {} {arguments} --target remote_kafka", orders.group), 0);
    delete("");
    delete(&format!("{} --partitions 1", orders.topic));
    assert_eq!(cluster.committed(&orders.group, &orders.topic), [Some(40), Some(100)], "a dry run");
    let some = delete(&format!("{} --partitions 1 --yes", orders.topic));
    assert_eq!(some.stderr, format!("deleted 1 committed offset of group `{}`\n", orders.group));
    assert_eq!(cluster.committed(&orders.group, &orders.topic), [Some(40), None]);
    assert_eq!(cluster.committed(&orders.group, &second), [Some(0)]);
    cluster.delete_topic(&second);
    let all = delete("--yes");
    assert!(all.stderr.starts_with(&format!("deleted group `{}` with ", orders.group)), "{}", all.stderr);
    assert_eq!(cluster.committed(&orders.group, &orders.topic), [None, None]);
    let gone = orders.run(&format!("offsets show {} --source remote_kafka", orders.group), 1);
    assert!(
        gone.stderr.starts_with(&format!("error: group `{}` does not exist on `remote_kafka`\n", orders.group)),
        "{}",
        gone.stderr
    );
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_flow_goes_on_where_its_group_was_moved_to() {
    let orders = Orders::new();
    let (flow, copy) = (unique("copying"), unique("copy"));
    let replicate = |flags: &str| {
        orders.run(&format!("replicate {} --to-topic {copy} --group {flow} --until-caught-up {flags}", orders.topic), 0)
    };
    replicate("");
    assert_eq!(orders.clusters.target.count(&copy), 200);
    orders.clusters.source.wait_for_members(&flow, 0);
    let moved = orders.reset(&format!("{flow} --shift -3 --yes"), 0);
    assert!(moved.stderr.contains("belongs to the flow `replicate local_kafka/"), "{}", moved.stderr);
    replicate("");
    assert_eq!(orders.clusters.target.count(&copy), 206, "three records of each partition are copied again");
    orders.clusters.source.wait_for_members(&flow, 0);
    let saved = stdout(&orders.run(&format!("offsets export {flow} --source remote_kafka"), 0));
    let import = Sdl::new("offsets import saved --target remote_kafka");
    std::fs::write(import.home().join("saved"), &saved).expect("the file is written");
    let refused = import.profile(&orders.clusters.profile("unused")).run().expect(5);
    assert!(
        refused.stderr.contains("its positions in the file are those of the flow `replicate local_kafka/"),
        "{}",
        refused.stderr
    );
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_topics_are_listed_with_their_records_times_and_groups() {
    let orders = Orders::new();
    let (other, member) = (unique("other"), unique("member"));
    orders.commit(&other, &[1]);
    let joined = orders.clusters.source.join(&member, &orders.topic);
    let row = |arguments: &str| -> Value {
        let document = orders.run(&format!("topics {arguments} --source remote_kafka -o json"), 0).json();
        assert_eq!(document["schema"], 1);
        document["topics"][0].clone()
    };
    let mut groups = [orders.group.clone(), other, member];
    groups.sort_unstable();
    let listed = eventually("the groups are listed", Duration::from_secs(30), || {
        let row = row(&orders.topic);
        (row["groups"] == json!(groups)).then_some(row)
    });
    let expected = json!({
        "section": "remote_kafka", "topic": orders.topic, "partitions": 2, "records": 200, "bytes": null,
        "last_record": "2023-11-14T22:14:59Z", "groups": groups, "notes": [],
    });
    assert_eq!(listed, expected);
    orders.clusters.source.delete_records(&orders.topic, 0, 30);
    assert_eq!(row(&orders.topic)["records"], 170, "the log of a partition begins later");
    let names = |flags: &str| {
        let rows = orders.run(&format!("topics --source remote_kafka -o json {flags}"), 0).json();
        let rows = rows["topics"].as_array().expect("rows").clone();
        rows.iter().map(|row| row["topic"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let has_offsets = |names: Vec<String>| names.iter().any(|name| name == "__consumer_offsets");
    assert!(!has_offsets(names("")) && has_offsets(names("--all")));
    drop(joined);
}
