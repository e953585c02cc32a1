//! Documents with repeating ids: the newest version stays, also after replays.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{BOTH, Load, OPENSEARCH, each, together};
use crate::harness::{Sender, keyed_workload, replaced};

#[track_caller]
pub(super) fn assert_left(load: &Load<'_>, left: &BTreeMap<String, Value>) {
    let ours = |name: &str| name.starts_with(['_', '@']);
    let fields = |source: &Value| -> Value {
        source.as_object().unwrap().iter().filter(|(name, _)| !ours(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    let found = load.server.documents(&load.topic, &json!({"match_all": {}}));
    let there: BTreeMap<String, Value> =
        found.iter().map(|hit| (hit["_id"].as_str().unwrap().to_owned(), fields(&hit["_source"]))).collect();
    assert_eq!(&there, left);
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_partly_replayed_keys_end_in_the_expected_state() {
    let versions = ["--version offset", "--version timestamp", "--version field:n --on-tombstone skip"];
    each(BOTH, "keys", 3, |load| {
        together(versions, |flags| replay_in_part(&load.another("keys", 3).with_short_session(), flags));
    });
}

/// Loads by key, with kills and replays in between, and panics unless the final state is as expected.
#[track_caller]
fn replay_in_part(load: &Load<'_>, flags: &str) {
    let deletes = !flags.contains("skip");
    let flags = if deletes { format!("{flags} --on-tombstone delete") } else { flags.to_owned() };
    let line = format!("--id key {flags} --batch 50 --linger 10ms --in-flight 4 --instance-id one");
    let (records, left) = keyed_workload(2_000, 3, !deletes);
    let left = if deletes { left } else { replaced(&records) };
    Sender::new(&load.clusters.source, &[]).send(&load.topic, &records);
    for _ in 0..2 {
        let running = load.sdl(&format!("{line} --rate 2000")).start();
        std::thread::sleep(Duration::from_millis(700));
        running.signal("KILL");
    }
    load.catch_up(&line);
    assert_left(load, &left);
    for start in ["-300", "beginning", "-1"] {
        // A member with a name of its own is missed for a while.
        load.clusters.source.wait_for_members(&load.group, 0);
        load.catch_up(&format!("{line} --start {start}"));
        assert_left(load, &left);
    }
    load.assert_committed();
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_an_upsert_leaves_other_fields_as_they_are() {
    each(BOTH, "merged", 2, |load| {
        let (records, left) = keyed_workload(1_000, 2, true);
        Sender::new(&load.clusters.source, &[]).send(&load.topic, &records);
        load.catch_up("--id key --op upsert --batch 50 --linger 10ms");
        assert_left(&load, &left);
        let again = load.catch_up("--id key --op upsert --start -200");
        assert_eq!(again["read"], json!(400));
        let (there, superseded) = (again["already_there"].as_u64().unwrap(), again["superseded"].as_u64().unwrap());
        assert_eq!(there + superseded, 400, "{again}");
        assert_left(&load, &left);
        let elsewhere = format!("--until-caught-up --index {0}-other --group {0}-other --dead-letters file:bad", load.topic);
        let finished = load.sdl(&format!("--id key --op update {elsewhere}")).run().expect(3);
        let codes = super::codes(&super::letters(&finished, "bad"));
        assert_eq!(codes, vec!["document_missing"; 1_000]);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_newer_stored_document_stays_and_older_records_are_superseded() {
    each(BOTH, "newer", 1, |load| {
        let path = |id: &str, version: u32| format!("/{}/_doc/{id}?version={version}&version_type=external", load.topic);
        load.server.tell("PUT", &path("a", 90), &json!({"by": "somebody else"}));
        load.send(&[(Some("a"), Some(r#"{"n": 0}"#)), (Some("b"), Some(r#"{"n": 1}"#)), (Some("a"), None)]);
        let summary = load.catch_up("--id key --on-tombstone delete");
        assert_eq!((&summary["delivered"], &summary["superseded"]), (&json!(3), &json!(2)));
        let found = load.server.documents(&load.topic, &json!({"match": {"_id": "a"}}));
        assert_eq!(found[0]["_source"], json!({"by": "somebody else"}));
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_the_first_tombstone_of_a_key_is_bad_without_on_tombstone() {
    each([OPENSEARCH], "tombstone", 1, |load| {
        load.send(&[(Some("a"), Some("{}")), (Some("a"), None)]);
        let finished = load.sdl("--until-caught-up --id key").run().expect(3);
        let planned = "tombstones: bad records, because --on-tombstone (delete, skip or fail) is not set";
        assert!(finished.stderr.contains(planned), "{}", finished.stderr);
        load.catch_up("--id key --on-tombstone delete");
        assert_eq!(load.count(), 0);
    });
}
