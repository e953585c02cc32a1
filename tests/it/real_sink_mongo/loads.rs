//! Loads, and the documents that they store.

use std::time::Duration;

use serde_json::{Value, json};

use super::{FERRET, JAVA, Load};
use crate::harness::{read, setting};

/// Loads fake logins, then counts the documents and compares a sample with another client.
#[track_caller]
fn assert_load(load: &Load, count: u64) {
    load.fake(count);
    let running =
        load.sdl("--until-caught-up -o json --time-field timestamp").deadline(Duration::from_secs(600 + count / 500)).start();
    let (finished, peak) = running.wait_with_peak();
    let summary = finished.expect(0).json();
    assert_eq!(summary["delivered"].as_u64(), Some(count), "{summary}");
    // A retry after a time-out may find its document already there.
    assert!(summary["already_there"].as_u64() <= summary["retried"].as_u64(), "{summary}");
    assert!(peak < 128, "{peak} MiB");
    load.assert_committed();
    let seen = read(&load.clusters.source, &load.topic);
    assert_eq!(seen.len() as u64, count);
    let sample: Vec<Value> = seen
        .iter()
        .step_by(seen.len() / 100)
        .map(|seen| {
            let payload = String::from_utf8(seen.content.value.clone().unwrap()).unwrap();
            json!([seen.partition, seen.offset, seen.content.timestamp, payload])
        })
        .collect();
    let odd = load.python(
        &json!({"sample": sample, "count": count}),
        "
meta = ['_kafka_key', '_kafka_topic', '_kafka_partition', '_kafka_offset', '_kafka_timestamp', '_processed_at']
sample = {'%s:%d:%d' % (collection.name, s[0], s[1]): s for s in arg['sample']}
places = set(); answer = []; looked = 0
for d in collection.find({}, batch_size=20000):
    place = (d['_kafka_partition'], d['_kafka_offset']); places.add(place)
    ok = d['_id'] == '%s:%d:%d' % (collection.name, *place) and d['_kafka_topic'] == collection.name
    if d['_id'] in sample:
        looked += 1
        payload = json.loads(sample[d['_id']][3])
        ok = ok and list(d) == ['_id'] + list(payload) + meta
        ok = ok and d['_kafka_timestamp'] == sample[d['_id']][2] and d['_kafka_key'] == payload['user_id']
        ok = ok and d['timestamp'].timestamp() == payload.pop('timestamp')
        ok = ok and all(d[name] == value for name, value in payload.items())
        ok = ok and isinstance(d['_processed_at'], datetime.datetime)
    if not ok: answer.append(d)
counts = (len(places), collection.count_documents({}), looked)
if counts != (arg['count'], arg['count'], len(sample)): answer.append(counts)
answer = answer[-3:]",
    );
    assert_eq!(odd, json!([]));
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_each_record_is_one_document_in_ferretdb() {
    // This server takes the fewer a second the more it has: a million takes it many minutes.
    assert_load(&Load::own(FERRET, "many", 6, &[]), setting("SDL_TEST_FERRETDB_RECORDS", 50_000));
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_each_record_is_one_document_in_mongo_java() {
    assert_load(&Load::own(JAVA, "many", 6, &["heap=3g"]), setting("SDL_TEST_RECORDS", 200_000));
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_re_read_records_are_already_there() {
    for server in [FERRET, JAVA] {
        let (load, count) = (Load::new(server, "reread", 6), 5_000);
        assert_load(&load, count);
        let again = load.catch_up("--time-field timestamp --from-beginning");
        assert_eq!(again["already_there"].as_u64(), Some(count), "{server}");
        load.assert_each_once();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_templates_name_the_collections() {
    let load = Load::new(JAVA, "named", 2);
    load.fake(1_000);
    let template = format!("{}-{{device_type}}-%Y", load.topic);
    load.catch_up(&format!("--collection {template}"));
    let counts = load.python(
        &json!(load.topic),
        "answer = {n[len(arg):]: client['loads'][n].count_documents({}) for n in client['loads'].list_collection_names() if n.startswith(arg)}",
    );
    let counts = counts.as_object().unwrap();
    assert_eq!(counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 1_000, "{counts:?}");
    assert!(
        counts.len() == 2 && counts.keys().all(|name| name.starts_with("-android-20") || name.starts_with("-iOS-20")),
        "{counts:?}"
    );
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_uuids_are_new_on_each_delivery() {
    let load = Load::new(FERRET, "random", 2);
    load.fake(500);
    load.catch_up("--id uuid");
    load.catch_up("--id uuid --from-beginning");
    assert_eq!(load.count(), 1_000);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_dry_run_changes_nothing() {
    let load = Load::new(JAVA, "dry", 1);
    load.fake(10);
    let finished = load.sdl("--dry-run").run().expect(0);
    assert!(finished.stderr.contains("does not exist: the first document creates it"), "{}", finished.stderr);
    let there = load.python(&json!(load.topic), "answer = arg in client['loads'].list_collection_names()");
    assert_eq!((there, load.committed()), (json!(false), vec![0]));
}
