//! Hostile and invalid payloads: stored unchanged, or dead-lettered.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{BOTH, ELASTICSEARCH, OPENSEARCH, codes, each, header, letters};
use crate::harness::{ReadRecord, Sdl, read_with_kcat, setting};

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_documents_that_violate_a_strict_mapping_are_dead_lettered_once() {
    each(BOTH, "strict", 3, |load| {
        let count = setting("SDL_TEST_ES_RECORDS", 20_000);
        load.fake_with(count, "--malformed 0.01 --missing device_type=0.05");
        let line = format!(
            "--until-caught-up --bootstrap user-login --on-tombstone fail --dead-letters topic:{}-bad -o json",
            load.topic
        );
        let summary = load.sdl(&line).run().expect(3).json();
        let (delivered, dead) = (summary["delivered"].as_u64().unwrap(), summary["dead_lettered"].as_u64().unwrap());
        assert_eq!(delivered + dead, count, "{summary}");
        assert!(dead > count / 200 && dead < count / 50, "{dead} are bad");
        assert_eq!(load.count(), delivered);
        load.assert_committed();
        let letters = read_with_kcat(&load.clusters.source, &format!("{}-bad", load.topic));
        let told = |seen: &ReadRecord, name: &str| {
            let value = seen.content.headers.iter().find(|(header, _)| header == name).and_then(|(_, value)| value.clone());
            value.map(|value| String::from_utf8(value).expect("text"))
        };
        let place = |seen: &ReadRecord| {
            let part = |name: &str| told(seen, &format!("__connect.errors.{name}")).expect("a place");
            format!("{}:{}:{}", part("topic"), part("partition"), part("offset"))
        };
        let places: BTreeSet<String> = letters.iter().map(place).collect();
        assert_eq!((letters.len() as u64, places.len() as u64), (dead, dead), "each once");
        let both = json!({"query": {"ids": {"values": places}}});
        let found = load.server.tell("POST", &format!("/{}/_search", load.topic), &both);
        assert_eq!(found["hits"]["total"]["value"], 0, "what is bad is not stored");
        for letter in &letters {
            let code = told(letter, "sdl.dlq.code").expect("a code");
            let of_mapping = ["mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception"];
            assert!(of_mapping.contains(&code.as_str()) || ["not_json", "tombstone"].contains(&code.as_str()), "{code}");
            assert!(told(letter, "__connect.errors.exception.message").is_some_and(|message| !message.is_empty()));
            if of_mapping.contains(&code.as_str()) {
                let path = told(letter, "sdl.dlq.path").expect("the mapping names a field");
                let value = String::from_utf8(letter.content.value.clone().unwrap()).unwrap();
                assert!(value.contains(&format!("\"{path}\"")), "{path}: {value}");
            }
        }
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_no_first_record_decides_the_type_of_a_field_that_the_sink_adds() {
    each(BOTH, "own-fields", 1, |load| {
        let values = ["42", r#""text""#, "true", "[1]"];
        let keys = ["2024-01-15", "user-1", "7", "1.5"];
        load.send(&keys.into_iter().zip(values).map(|(key, value)| (Some(key), Some(value))).collect::<Vec<_>>());
        load.catch_up("");
        load.assert_each_once();
        let mapping = load.server.tell("GET", &format!("/{}/_mapping", load.topic), &Value::Null);
        assert_eq!(mapping[load.topic.as_str()]["mappings"]["properties"]["_kafka_key"]["type"], "keyword", "{mapping}");
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_time_of_a_login_is_found_on_its_day_or_dead_lettered() {
    each(BOTH, "times", 1, |load| {
        let times = ["1694479551", r#""1694479551""#, r#""2023-09-12T00:45:51Z""#, "1694479551123", r#""1694479551123""#];
        let logins = times.map(|time| format!(r#"{{"user_id": "u", "timestamp": {time}}}"#));
        load.send(&logins.iter().map(|login| (None, Some(login.as_str()))).collect::<Vec<_>>());
        let flags = "--until-caught-up --bootstrap user-login --time-field timestamp --dead-letters file:bad";
        let on_the_day = |index: &str, field: &str| {
            let day = json!({"range": { field: {"gte": "2023-09-12", "lt": "2023-09-13"}}});
            let found = load.server.documents(index, &day);
            found.iter().map(|hit| hit["_source"]["_kafka_offset"].as_u64().unwrap()).collect::<BTreeSet<_>>()
        };
        let bad = letters(&load.sdl(flags).run().expect(3), "bad");
        assert_eq!(bad.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4]);
        assert!(bad.iter().all(|letter| header(letter, "sdl.dlq.path") == "timestamp"), "{bad:?}");
        let converted = format!("{}-converted", load.topic);
        load.sdl(&format!("{flags} --date timestamp --index {converted} --group {converted}")).run().expect(0);
        for field in ["timestamp", "@timestamp"] {
            assert_eq!(on_the_day(&load.topic, field), [0, 1, 2].into(), "{field}");
            assert_eq!(on_the_day(&converted, field), [0, 1, 2, 3, 4].into(), "{field}");
        }
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_hostile_payloads_are_data_or_bad_and_never_interpreted() {
    each(BOTH, "hostile", 1, |load| {
        let deep = format!(r#"{{"deep": {}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        let huge = format!(r#"{{"huge": "{}"}}"#, "x".repeat(8 << 20));
        let smuggled = "{\"s\": 1,\n\"t\":\r\n 2}\n";
        let injected = format!("{{\"s\": 1}}\n{{\"delete\": {{\"_id\": \"{}:0:0\"}}}}\n", load.topic);
        let good = [
            r#"{"kept": true}"#,
            smuggled,
            r#"{"x": {"$where": "sleep(1000)", "$oid": {"$oid": "1"}}}"#,
            r#"{"text": "\n{\"delete\":{\"_id\":\"1\"}}\n"}"#,
            huge.as_str(),
        ];
        let bad = [
            injected.as_str(),
            r#"{"_id": "mine"}"#,
            r#"{"_kafka_offset": 5}"#,
            r#"{"": 1}"#,
            r#"{"_index": "elsewhere"}"#,
            r#"{"a": 1, "a": 2}"#,
            r#"{"n": 1e999}"#,
            deep.as_str(),
            "\u{0}\u{0}\u{0}\u{0}\u{7}avro",
        ];
        let values: Vec<_> = good.iter().chain(&bad).map(|value| (Some("k"), Some(*value))).collect();
        load.send(&values);
        let finished = load.sdl("--until-caught-up --batch 3 --dead-letters file:bad").run().expect(3);
        let bad_letters = letters(&finished, "bad");
        let offsets: Vec<_> = bad_letters.iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets.len(), bad.len(), "{offsets:?}");
        assert!(offsets.iter().all(|offset| *offset >= good.len() as u64), "{offsets:?}");
        let of = |offset: usize| bad_letters.iter().find(|letter| letter["offset"] == good.len() + offset).unwrap();
        assert_eq!(header(of(0), "sdl.dlq.code"), "not_json");
        assert_eq!(header(of(1), "sdl.dlq.code"), "foreign_id");
        assert_eq!(header(of(2), "sdl.dlq.path"), "_kafka_offset");
        assert_eq!(load.count(), good.len() as u64);
        let stored = |offset: usize| {
            let found = load.server.ask("GET", &format!("/{0}/_doc/{0}:0:{offset}", load.topic), &Value::Null);
            found["_source"].clone()
        };
        assert_eq!((&stored(0)["kept"], &stored(1)["t"]), (&json!(true), &json!(2)));
        assert_eq!(stored(2)["x"]["$where"], "sleep(1000)");
        assert_eq!(stored(3)["text"], "\n{\"delete\":{\"_id\":\"1\"}}\n");
        assert_eq!(stored(4)["huge"].as_str().unwrap().len(), 8 << 20);
        assert!(!finished.stderr.contains("avro"), "no payload is logged");
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_documents_over_the_server_s_memory_are_stored_elsewhere_or_dead_lettered() {
    each(BOTH, "huge", 1, |load| {
        let huge = format!(r#"{{"huge": "{}"}}"#, "x".repeat(17 << 20));
        load.send(&[(None, Some("{}")), (None, Some(huge.as_str())), (None, Some("{}"))]);
        let finished = load.sdl("--until-caught-up --dead-letters file:bad -o json").run();
        let dead = finished.json()["dead_lettered"].as_u64().expect("a number");
        // Elasticsearch 9 accounts four times the length, with a limit of a tenth of the heap; the others accept it.
        assert!(dead == 0 || dead == 1 && load.server.name == ELASTICSEARCH, "{}: {dead}", load.server.name);
        let finished = finished.expect(if dead > 0 { 3 } else { 0 });
        assert_eq!(load.count(), 3 - dead);
        if dead > 0 {
            assert_eq!(codes(&letters(&finished, "bad")), ["too_large_for_memory"]);
        }
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_the_first_bad_record_stops_the_run_and_is_named_by_coordinates_only() {
    each(BOTH, "stops", 1, |load| {
        let mapping = json!({"mappings": {"properties": {"n": {"type": "long"}}}});
        load.server.tell("PUT", &format!("/{}", load.topic), &mapping);
        load.send(&[(None, Some(r#"{"n": 1}"#)), (None, Some(r#"{"n": "SECRET"}"#)), (None, Some(r#"{"n": 3}"#))]);
        let finished = load.sdl("--until-caught-up").run().expect(3);
        let place = format!("record {}/0@1 cannot be delivered", load.topic);
        assert!(finished.stderr.contains(&place) && finished.stderr.contains("`n`"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("SECRET"), "{}", finished.stderr);
        assert_eq!(load.committed(), [1]);
        let skipped = load.sdl("--until-caught-up --skip-bad-records -o json").run().expect(3).json();
        assert_eq!((&skipped["skipped"], load.committed()), (&json!(1), vec![3]));
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_storm_of_bad_records_trips_the_breaker() {
    each([OPENSEARCH], "storm", 1, |load| {
        load.server.tell("PUT", &format!("/{}", load.topic), &json!({"mappings": {"dynamic": "strict"}}));
        Sdl::new(&format!("produce-fake {} -n 5000", load.topic)).profile(&load.profile()).run().expect(0);
        let line = "--until-caught-up --batch 100 --dead-letters file:bad --dead-letter-limit 300/1m";
        let finished = load.sdl(line).run().expect(3);
        assert!(finished.stderr.contains("--dead-letter-limit"), "{}", finished.stderr);
        assert_eq!(letters(&finished, "bad").len(), 300);
        assert_eq!(codes(&letters(&finished, "bad"))[0], "strict_dynamic_mapping_exception");
    });
}
