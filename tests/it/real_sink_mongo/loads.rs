//! What a load leaves.

use serde_json::{Value, json};

use super::{FERRET, JAVA, Load};
use crate::harness::{read_independently, setting};

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_every_record_is_one_document_with_its_metadata() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "whole", 6);
        let count = setting("SDL_TEST_MONGO_RECORDS", 20_000);
        load.fake(count);
        let summary = load.catch_up("--time-field timestamp");
        assert_eq!((summary["delivered"].as_u64(), summary["already_there"].as_u64()), (Some(count), Some(0)), "{server}");
        load.assert_each_once();
        load.assert_committed();
        let seen = read_independently(&load.clusters.source, &load.topic);
        let sample: Vec<Value> = seen
            .iter()
            .step_by(seen.len() / 100)
            .map(|seen| {
                let payload = String::from_utf8(seen.content.value.clone().unwrap()).unwrap();
                json!([seen.partition, seen.offset, seen.content.timestamp, payload])
            })
            .collect();
        let odd = load.python(
            &json!(sample),
            "
meta = ['_kafka_key', '_kafka_topic', '_kafka_partition', '_kafka_offset', '_kafka_timestamp', '_processed_at']
answer = []
for partition, offset, timestamp, payload in arg:
    payload = json.loads(payload)
    d = collection.find_one({'_id': '%s:%d:%d' % (collection.name, partition, offset)})
    ok = list(d) == ['_id'] + list(payload) + meta
    ok = ok and d['_kafka_timestamp'] == timestamp and d['_kafka_key'] == payload['user_id']
    ok = ok and d['timestamp'].timestamp() == payload.pop('timestamp')
    ok = ok and all(d[name] == value for name, value in payload.items())
    if not ok: answer.append(d)
answer = answer[:3]",
        );
        assert_eq!(odd, json!([]), "{server}");
        let again = load.catch_up("--time-field timestamp --from-beginning");
        assert_eq!(again["already_there"].as_u64(), Some(count), "{server}");
        assert_eq!(load.count(), count, "{server}");
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_templates_make_the_names() {
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
fn real_sink_mongo_ids_of_their_own_are_new_each_time() {
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
    assert!(finished.stderr.contains("is not there: the first document creates it"), "{}", finished.stderr);
    let there = load.python(&json!(load.topic), "answer = arg in client['loads'].list_collection_names()");
    assert_eq!((there, load.committed()), (json!(false), vec![0]));
}
