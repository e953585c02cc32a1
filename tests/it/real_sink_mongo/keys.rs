//! Documents with repeating ids: the newest version stays, also after replays.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{JAVA, Load};
use crate::harness::{Sender, keyed_workload, replaced};

#[track_caller]
fn assert_left(load: &Load, left: &BTreeMap<String, Value>) {
    let code = "answer = {d['_id']: {n: v for n, v in d.items() if not n.startswith('_')} for d in collection.find({})}";
    let there: BTreeMap<String, Value> = serde_json::from_value(load.python(&Value::Null, code)).unwrap();
    assert_eq!(&there, left);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_partly_replayed_keys_end_in_the_expected_state() {
    for flags in ["--version offset", "--version timestamp", "--version field:n --on-tombstone skip"] {
        let deletes = !flags.contains("skip");
        let load = Load::new(JAVA, "keys", 3).with_short_session();
        let flags = if deletes { format!("{flags} --on-tombstone delete") } else { flags.to_owned() };
        let line = format!("--id key {flags} --batch 50 --linger 10ms --in-flight 4");
        let member = format!("{line} --instance-id one");
        let (records, left) = keyed_workload(3_000, 3, !deletes);
        let left = if deletes { left } else { replaced(&records) };
        Sender::new(&load.clusters.source, &[]).send(&load.topic, &records);
        for _ in 0..3 {
            let running = load.sdl(&format!("{member} --rate 2000")).start();
            std::thread::sleep(Duration::from_millis(700));
            running.signal("KILL");
        }
        load.catch_up(&member);
        assert_left(&load, &left);
        // A member with a name of its own is missed for a while.
        load.clusters.source.wait_for_members(&load.group, 0);
        for start in ["-300", "beginning", "-1"] {
            load.catch_up(&format!("{line} --start {start}"));
            assert_left(&load, &left);
        }
        load.assert_committed();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_an_update_leaves_other_fields_as_they_are() {
    let load = Load::new(JAVA, "merged", 1);
    let (records, left) = keyed_workload(1_000, 1, true);
    Sender::new(&load.clusters.source, &[]).send(&load.topic, &records);
    load.catch_up("--id key --write update --batch 50 --linger 10ms");
    assert_left(&load, &left);
    let again = load.catch_up("--id key --write update --start -200");
    assert_eq!(again["read"], json!(200));
    assert_left(&load, &left);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_the_first_tombstone_of_a_key_is_bad_without_on_tombstone() {
    let load = Load::new(JAVA, "tombstone", 1);
    load.send(&[(Some("a"), Some("{}")), (Some("a"), None)]);
    let finished = load.sdl("--until-caught-up --id key").run().expect(3);
    let planned = "tombstones: bad records, because --on-tombstone (delete, skip or fail) is not set";
    assert!(finished.stderr.contains(planned), "{}", finished.stderr);
    load.catch_up("--id key --on-tombstone delete");
    assert_eq!(load.count(), 0);
}
