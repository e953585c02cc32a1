//! Loads, and the documents that they store.

use serde_json::{Value, json};

use super::{BOTH, ELASTICSEARCH, OPENSEARCH, each};
use crate::harness::{eventually, read_with_kcat, setting};

/// Panics unless every document that was already there is of a retry: one after a time-out may find its document there.
#[track_caller]
fn assert_only_retries_are_there(summary: &Value) {
    assert!(summary["already_there"].as_u64() <= summary["retried"].as_u64(), "{summary}");
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_each_record_is_one_document_and_already_there_when_read_again() {
    each(BOTH, "loaded", 6, |load| {
        let count = setting("SDL_TEST_ES_RECORDS", 20_000);
        load.fake(count);
        let summary = load.catch_up("--time-field timestamp");
        assert_eq!((&summary["read"], &summary["delivered"]), (&json!(count), &json!(count)));
        assert_only_retries_are_there(&summary);
        load.assert_each_once();
        load.assert_committed();
        let sample = &load.server.documents(&load.topic, &json!({"term": {"_kafka_offset": 7}}))[0]["_source"];
        let seconds = sample["timestamp"].as_i64().unwrap();
        let time = jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        assert_eq!(sample["@timestamp"], time);
        assert!(sample["_kafka_key"] == sample["user_id"] && sample["_kafka_offset"] == 7, "{sample}");

        let again = load.catch_up("--time-field timestamp --from-beginning");
        assert_eq!((&again["delivered"], &again["already_there"]), (&json!(count), &json!(count)), "{}", load.server.name);
        assert_eq!(load.count(), count);
    });
}

/// Loads many records, then counts the documents and compares some on the server.
#[track_caller]
fn load_many(server: &'static str) {
    each([server], "many", 6, |load| {
        let count = setting("SDL_TEST_RECORDS", 200_000);
        load.fake(count);
        let summary = load.catch_up("");
        assert_eq!(summary["delivered"], json!(count));
        assert_only_retries_are_there(&summary);
        load.assert_committed();
        assert_eq!(load.count(), count);
        // As many distinct offsets below the end as records: none is missing.
        let offsets = json!({"extended_stats": {"field": "_kafka_offset"}});
        let partitions = json!({"terms": {"field": "_kafka_partition"}, "aggs": {"offsets": offsets}});
        let found = load.server.tell("POST", &format!("/{}/_search", load.topic), &json!({"size": 0, "aggs": {"p": partitions}}));
        let buckets = found["aggregations"]["p"]["buckets"].as_array().expect("buckets");
        let ends = load.ends();
        assert_eq!(buckets.len(), ends.len());
        for bucket in buckets {
            let end = ends[usize::try_from(bucket["key"].as_u64().unwrap()).unwrap()];
            let of = |name: &str| bucket["offsets"][name].as_f64().unwrap();
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            let n = end as f64;
            assert_eq!((of("count"), of("min"), of("max"), of("sum")), (n, 0.0, n - 1.0, n * (n - 1.0) / 2.0), "{bucket}");
            let squares = (n - 1.0) * n * (2.0 * n - 1.0) / 6.0;
            assert!((of("sum_of_squares") / squares - 1.0).abs() < 1e-9, "{bucket}");
        }
        let sent = read_with_kcat(&load.clusters.source, &load.topic);
        let sample: Vec<_> = sent.iter().step_by(usize::try_from(count / 1_000).unwrap().max(1)).collect();
        let ids: Vec<_> = sample.iter().map(|seen| format!("{}:{}:{}", load.topic, seen.partition, seen.offset)).collect();
        let shown = load.server.tell("POST", &format!("/{}/_mget", load.topic), &json!({ "ids": ids }));
        for (seen, shown) in sample.iter().zip(shown["docs"].as_array().expect("documents")) {
            let mut source = shown["_source"].as_object().unwrap_or_else(|| panic!("missing: {shown}")).clone();
            let mut take = |name: &str| source.remove(name).unwrap_or_else(|| panic!("`{name}` is missing: {shown}"));
            assert_eq!(take("_kafka_topic"), load.topic);
            assert_eq!((take("_kafka_partition"), take("_kafka_offset")), (json!(seen.partition), json!(seen.offset)));
            assert_eq!(take("_kafka_timestamp"), json!(seen.content.timestamp));
            assert_eq!(take("_kafka_key").as_str().map(str::as_bytes), seen.content.key.as_deref());
            let at = jiff::Timestamp::from_millisecond(seen.content.timestamp.unwrap()).unwrap();
            assert_eq!(take("@timestamp"), at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
            let processed: jiff::Timestamp = take("_processed_at").as_str().unwrap().parse().unwrap();
            assert!(processed >= at, "{shown}");
            let value: Value = serde_json::from_slice(seen.content.value.as_deref().unwrap()).unwrap();
            assert_eq!(Value::Object(source), value);
        }
        load.server.tell("DELETE", &format!("/{}", load.topic), &Value::Null);
        load.clusters.source.delete_topic(&load.topic);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_each_record_is_one_document_in_opensearch() {
    load_many(OPENSEARCH);
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_each_record_is_one_document_in_elasticsearch() {
    load_many(ELASTICSEARCH);
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_without_metadata_a_document_is_recognised_by_its_content() {
    each(BOTH, "bare", 1, |load| {
        load.send(&[(None, Some(r#"{"a": 1.50, "b": [1, 2]}"#)), (None, Some("[7]"))]);
        load.catch_up("--no-meta");
        let mut documents: Vec<Value> =
            load.server.documents(&load.topic, &json!({"match_all": {}})).iter().map(|hit| hit["_source"].clone()).collect();
        documents.sort_by_key(ToString::to_string);
        assert_eq!(documents, [json!({"a": 1.5, "b": [1, 2]}), json!({"original_data": [7]})]);
        assert_eq!(load.catch_up("--no-meta --from-beginning")["already_there"], json!(2));
        load.server.tell("PUT", &format!("/{0}/_doc/{0}:0:1", load.topic), &json!({"original_data": [8]}));
        let finished = load.sdl("--no-meta --from-beginning --until-caught-up").run().expect(5);
        assert!(finished.stderr.contains("remove --no-meta"), "{}", finished.stderr);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_names_are_made_of_records_and_never_more_than_allowed() {
    each(BOTH, "named", 2, |load| {
        let day = |day: u32| format!(r#"{{"at": "2026-01-{day:02}T12:00:00Z", "to": "eu"}}"#);
        let values: Vec<String> = (1..=3).map(day).chain([r#"{"at": 0, "to": "../_all"}"#.to_owned()]).collect();
        let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
        load.send(&values);
        let index = format!("--index {}-{{to}}-%Y.%m.%d --time-field at", load.topic);
        let finished = load.sdl(&format!("--until-caught-up {index} --dead-letters file:bad")).run().expect(3);
        assert_eq!(super::codes(&super::letters(&finished, "bad")), ["bad_name"]);
        for day in 1..=3 {
            assert_eq!(load.server.count(&format!("{}-eu-2026.01.{day:02}", load.topic)), 1);
        }
        let line = format!("--until-caught-up {index} --from-beginning --max-names 2 --dead-letters file:bad");
        let finished = load.sdl(&line).run().expect(3);
        assert_eq!(super::codes(&super::letters(&finished, "bad")), ["bad_name", "too_many_names"]);

        let odd = load.another("odd", 1);
        let long = "x".repeat(256);
        let names = [
            "../x", "*", "a*", "Upper", "-a", "_all", "+a", ".", "..", ".hidden", "a b", "a,b", "a#b", "a:b", "<now/d>", "",
            &long,
        ];
        let values: Vec<_> = names.iter().chain(&[odd.topic.as_str()]).map(|name| json!({"to": name}).to_string()).collect();
        odd.send(&values.iter().map(|value| (None, Some(value.as_str()))).collect::<Vec<_>>());
        let finished = odd.sdl("--index {to} --until-caught-up --dead-letters file:bad").run().expect(3);
        let bad = super::letters(&finished, "bad");
        assert_eq!(super::codes(&bad), vec!["bad_name"; names.len()]);
        assert_eq!(odd.count(), 1);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_data_stream_requires_a_template_and_its_records_are_already_there() {
    each(BOTH, "stream", 2, |load| {
        load.fake(500);
        let refused = load.sdl("--data-stream --until-caught-up").run().expect(5);
        assert!(refused.stderr.contains("--bootstrap user-login"), "{}", refused.stderr);
        assert_eq!(load.committed(), [0, 0]);
        load.catch_up("--data-stream --bootstrap user-login");
        load.assert_each_once();
        let again = load.catch_up("--data-stream --from-beginning");
        assert_eq!(again["already_there"], json!(500));
        let plain = load.sdl("--until-caught-up --from-beginning").run().expect(1);
        assert!(plain.stderr.contains("hint: add --data-stream"), "{}", plain.stderr);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_documents_go_through_a_pipeline_and_its_failures_are_bad_records() {
    each([OPENSEARCH], "piped", 1, |load| {
        let pipeline = json!({"processors": [
            {"set": {"field": "seen", "value": "yes"}},
            {"fail": {"if": "ctx.n == 2", "message": "two is not wanted"}},
        ]});
        let made = load.server.ask("PUT", &format!("/_ingest/pipeline/{}", load.topic), &pipeline);
        if made.to_string().contains("No processor type exists with name [set]") {
            // OpenSearch 2, used with an older Java, lacks the usual processors; the next test has one that fails.
            let about = load.server.ask("GET", "/", &Value::Null);
            assert!(about["version"]["number"].as_str().is_some_and(|version| version.starts_with("2.")), "{about}");
            return;
        }
        assert_eq!(made["acknowledged"], true, "{made}");
        load.send(&[(None, Some(r#"{"n": 1}"#)), (None, Some(r#"{"n": 2}"#)), (None, Some(r#"{"n": 3}"#))]);
        let line = format!("--until-caught-up --pipeline {} --dead-letters file:bad", load.topic);
        let finished = load.sdl(&line).run().expect(3);
        let bad = super::letters(&finished, "bad");
        assert_eq!(super::codes(&bad), ["fail_processor_exception"]);
        assert!(super::header(&bad[0], "__connect.errors.exception.message").contains("two is not wanted"));
        assert!(!finished.stderr.contains("two is not wanted"), "what the server says may quote the record");
        assert_eq!(load.server.documents(&load.topic, &json!({"match": {"seen": "yes"}})).len(), 2);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_missing_pipeline_stops_the_run_and_a_failing_one_makes_dead_letters() {
    each(BOTH, "unpiped", 1, |load| {
        load.send(&[(None, Some("{}"))]);
        let finished = load.sdl("--until-caught-up --pipeline nowhere").run().expect(1);
        assert!(finished.stderr.contains("hint: create the pipeline, or correct --pipeline"), "{}", finished.stderr);
    });
    each([ELASTICSEARCH], "broken-pipe", 1, |load| {
        let path = format!("/_ingest/pipeline/{}", load.topic);
        load.server.tell("PUT", &path, &json!({"processors": [{"set_security_user": {"field": "user"}}]}));
        load.send(&[(None, Some("{}"))]);
        let line = format!("--until-caught-up --pipeline {} --dead-letters file:bad", load.topic);
        let finished = load.sdl(&line).run().expect(3);
        assert_eq!(super::codes(&super::letters(&finished, "bad")), ["illegal_state_exception"]);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_documents_are_routed_and_random_ids_repeat_them() {
    each(BOTH, "routed", 1, |load| {
        let settings = json!({"settings": {"number_of_shards": 3}, "mappings": {"_routing": {"required": true}}});
        load.server.tell("PUT", &format!("/{}", load.topic), &settings);
        load.send(&[(None, Some(r#"{"user": "a"}"#)), (None, Some(r#"{"user": "b"}"#)), (None, Some(r#"{"user": ""}"#))]);
        let line = "--until-caught-up --routing {user} --dead-letters file:bad";
        let finished = load.sdl(line).run().expect(3);
        assert_eq!(super::codes(&super::letters(&finished, "bad")), ["empty_routing"]);
        let found = load.server.documents(&load.topic, &json!({"match_all": {}}));
        assert!(found.iter().all(|hit| hit["_routing"] == hit["_source"]["user"]) && found.len() == 2, "{found:?}");
        let again = load.sdl(&format!("{line} --from-beginning -o json")).run().expect(3).json();
        assert_eq!(again["already_there"], json!(2), "routed documents are looked up with their routing");
        let unrouted = load.sdl("--until-caught-up --from-beginning --dead-letters file:bad").run().expect(1);
        assert!(unrouted.stderr.contains("the index requires a routing value"), "{}", unrouted.stderr);
        assert!(unrouted.stderr.contains("hint: --routing"), "{}", unrouted.stderr);

        let random = load.another("random", 1);
        random.fake(50);
        random.catch_up("--id auto");
        random.catch_up("--id auto --from-beginning");
        assert_eq!(random.count(), 100, "random ids are there twice, as the help says");
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_dry_run_shows_the_plan_and_changes_nothing() {
    each([OPENSEARCH], "dry", 1, |load| {
        load.fake(10);
        let finished = load.sdl("--dry-run --bootstrap user-login").run().expect(0);
        for message in [
            "does not exist: it will be created",
            "writes to ",
            "(create)",
            ", OpenSearch ",
            &format!("index template sdl-{0} will be installed, for {0}", load.topic),
        ] {
            assert!(finished.stderr.contains(message), "`{message}` is not in stderr:\n{}", finished.stderr);
        }
        assert_eq!(load.server.ask("GET", &format!("/{}", load.topic), &Value::Null)["status"], 404);
        assert_eq!(load.server.ask("GET", &format!("/_index_template/sdl-{}", load.topic), &Value::Null)["status"], 404);
        let refused = load.sdl("--no-create --until-caught-up").run().expect(5);
        assert!(refused.stderr.contains("--no-create"), "{}", refused.stderr);
        assert_eq!(load.committed(), [0]);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_service_follows_until_sigterm() {
    each(BOTH, "followed", 2, |load| {
        load.fake(2_000);
        let mut running = load.sdl("--compress").start();
        load.until_committed(&mut running, 2_000);
        load.fake(2_000);
        load.until_committed(&mut running, 4_000);
        let memory = running.peak_memory().expect("it runs");
        running.end();
        load.assert_each_once();
        assert!(memory < 128, "{memory} MiB");
        eventually("the member has left", super::patience(), || (load.clusters.source.members(&load.group) == 0).then_some(()));
    });
}
