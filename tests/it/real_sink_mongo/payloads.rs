//! Payloads that are hostile, or that the server does not take: stored as data, or set aside alone.

use serde_json::{Value, json};

use super::{FERRET, JAVA, Load, codes, letters};

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_hostile_payloads_are_data_or_dead_letters() {
    let load = Load::new(JAVA, "hostile", 1);
    let deep = |levels: usize| format!("{{\"a\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(17 << 20));
    let values = [
        r#"{"n": 0, "nested": {"$where": "sleep(1000)", "a.b": {"$oid": "507f1f77bcf86cd799439011"}}}"#.to_owned(),
        r#"{"n": 1, "date": {"$date": {"$numberLong": "0"}}, "big": 9007199254740993}"#.to_owned(),
        "[1, 2]".to_owned(),
        deep(90),
        r#"{"n": 4}"#.to_owned(),
        deep(200),
        large,
        r#"{"a\u0000b": 1}"#.to_owned(),
        r#"{"_id": "mine"}"#.to_owned(),
        r#"{"_kafka_topic": "mine"}"#.to_owned(),
        r#"{"a": "#.to_owned(),
        r#"{"a": "\ud800"}"#.to_owned(),
    ];
    let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
    load.send(&values);
    let line = "--until-caught-up -o json --dead-letters file:letters --in-flight 1";
    let finished = load.sdl(line).run().expect(3);
    let summary = finished.json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&json!(5), &json!(7)), "{summary}");
    let expected = ["claimed_field", "document_too_large", "foreign_id", "not_json", "not_text", "nul_in_name", "too_deep"];
    assert_eq!(codes(&letters(&finished, "letters")), expected);
    let there = load.python(
        &Value::Null,
        "answer = [[n for n in d.items() if not n[0].startswith('_')] for d in collection.find({}).sort('_kafka_offset', 1)]",
    );
    assert_eq!(there[0][1][1], json!({"$where": "sleep(1000)", "a.b": {"$oid": "507f1f77bcf86cd799439011"}}));
    assert_eq!(there[1], json!([["n", 1], ["date", {"$date": {"$numberLong": "0"}}], ["big", 9_007_199_254_740_993_u64]]));
    assert_eq!(there[2], json!([["original_data", [1, 2]]]));
    assert_eq!(there[4], json!([["n", 4]]));
    load.assert_committed();
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_what_a_unique_index_refuses_is_set_aside_and_its_neighbours_are_stored() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "unique", 1);
        load.python(&Value::Null, "collection.create_index('email', unique=True)");
        let values: Vec<String> = (0..100).map(|n| format!("{{\"email\": \"{}@x\"}}", if n % 10 == 9 { 0 } else { n })).collect();
        let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
        load.send(&values);
        let finished = load.sdl("--until-caught-up --dead-letters file:letters").run().expect(3);
        let letters = letters(&finished, "letters");
        assert_eq!(codes(&letters), vec!["mongodb_11000"; 10], "{server}");
        assert!(!letters[0]["headers"].to_string().contains("0@x"), "no value is told: {}", letters[0]["headers"]);
        assert_eq!(load.count(), 90, "{server}");
        load.assert_committed();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_document_that_makes_the_server_hang_up_is_set_aside_alone() {
    let load = Load::new(FERRET, "poison", 1);
    // This server hangs up at a decimal128, which is what a number above 64 bits becomes.
    let values: Vec<String> =
        (0..64).map(|n| if n == 37 { "{\"n\": 18446744073709551615}".to_owned() } else { format!("{{\"n\": {n}}}") }).collect();
    let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
    load.send(&values);
    let finished =
        load.sdl("--until-caught-up --dead-letters file:letters").deadline(std::time::Duration::from_secs(120)).run().expect(3);
    let letters = letters(&finished, "letters");
    assert_eq!(codes(&letters), ["connection_closed"]);
    assert_eq!(load.count(), 63);
    load.assert_committed();
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_malformed_logins_are_set_aside_and_the_accounts_balance() {
    let load = Load::new(JAVA, "malformed", 3);
    let line = format!("produce-fake {} -n 5000 --seed 3 --malformed 0.01 --missing device_type=0.05", load.topic);
    crate::harness::Sdl::new(&line).profile(&load.profile()).run().expect(0);
    let flags = "--until-caught-up -o json --dead-letters file:letters --require user_id:string,timestamp:int";
    let finished = load.sdl(flags).run().expect(3);
    let summary = finished.json();
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(number("read"), 5_000);
    assert_eq!(number("delivered") + number("dead_lettered") + number("filtered"), 5_000, "{summary}");
    assert!(number("dead_lettered") > 0);
    assert_eq!(load.count(), number("delivered"));
    assert_eq!(letters(&finished, "letters").len() as u64, number("dead_lettered"));
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_names_out_of_payloads_are_checked_and_counted() {
    let load = Load::new(JAVA, "names", 1);
    let values = ["a", "../../etc", "x$y", "system.users", "b", "c", "a"];
    let values: Vec<String> = values.iter().map(|name| format!("{{\"to\": \"{name}\"}}")).collect();
    let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
    load.send(&values);
    let line = "--until-caught-up --collection {to} --database named --max-names 2 --dead-letters file:letters";
    let finished = load.sdl(line).run().expect(3);
    assert_eq!(codes(&letters(&finished, "letters")), ["bad_name", "bad_name", "bad_name", "too_many_names"]);
    let names = load.python(&Value::Null, "answer = sorted(client['named'].list_collection_names())");
    assert_eq!(names, json!(["a", "b"]));
}
