//! Payloads that are hostile, or that the server does not take: stored as data, or set aside alone.

use serde_json::{Value, json};

use super::{FERRET, JAVA, Load, codes, header, letters};

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
    let letters = letters(&finished, "letters");
    assert_eq!(codes(&letters), expected);
    // Each names the error and its path.
    let header = |code: &str, name: &str| {
        let letter = letters.iter().find(|letter| header(letter, "sdl.dlq.code").as_deref() == Some(code)).unwrap();
        header(letter, name)
    };
    for (code, path) in [
        ("claimed_field", Some("_kafka_topic")),
        ("foreign_id", Some("_id")),
        ("not_text", Some("a")),
        ("nul_in_name", Some("a\\u0000b")),
        ("document_too_large", None),
        ("not_json", None),
    ] {
        assert_eq!(header(code, "sdl.dlq.path").as_deref(), path, "{code}");
        assert!(header(code, "__connect.errors.exception.message").is_some_and(|cause| cause.len() > 10), "{code}");
        assert_eq!(header(code, "__connect.errors.topic"), Some(load.topic.clone()));
    }
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
fn real_sink_mongo_ids_that_are_numbers_stay_numbers_and_fields_of_date_are_dates() {
    let load = Load::new(JAVA, "typed", 1);
    let values = [
        r#"{"_id": 15792978561296882, "at": 1559757225159, "to": [{"at": "2019-06-05T19:53:45.159Z"}], "v": 1}"#,
        r#"{"_id": "17", "at": null, "v": 1}"#,
        r#"{"_id": 17, "at": "2019-06-05", "v": 1}"#,
        r#"{"_id": 17, "at": "2019-06-06", "v": 2}"#,
    ];
    load.send(&values.map(|value| (None, Some(value))));
    let flags = "--id field:_id --on-tombstone skip --date at,to.at";
    load.catch_up(flags);
    let there = || {
        load.python(
            &Value::Null,
            "answer = [[type(d['_id']).__name__, str(d['_id']), str(d['at']), [str(e['at']) for e in d.get('to', [])], d['v']] \
             for d in collection.find({}).sort('_kafka_offset', 1)]",
        )
    };
    let expected = json!([
        ["Int64", "15792978561296882", "2019-06-05 17:53:45.159000+00:00", ["2019-06-05 19:53:45.159000+00:00"], 1],
        ["str", "17", "None", [], 1],
        ["int", "17", "2019-06-06 00:00:00+00:00", [], 2],
    ]);
    assert_eq!(there(), expected);
    // Delivered again, each is found by its id.
    let again = load.catch_up(&format!("{flags} --from-beginning"));
    assert_eq!((&again["already_there"], &again["superseded"]), (&json!(3), &json!(1)), "{again}");
    assert_eq!(there(), expected);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_duplicates_in_a_unique_index_are_dead_lettered_alone() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "unique", 1);
        load.python(&Value::Null, "collection.create_index('email', unique=True)");
        let values: Vec<String> = (0..100).map(|n| format!("{{\"email\": \"{}@x\"}}", if n % 10 == 9 { 0 } else { n })).collect();
        let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
        load.send(&values);
        let finished = load.sdl("--until-caught-up --dead-letters file:letters").run().expect(3);
        let letters = letters(&finished, "letters");
        assert_eq!(codes(&letters), vec!["mongodb_11000"; 10], "{server}");
        assert!(!finished.stderr.contains("0@x"), "no value is told: {}", finished.stderr);
        assert_eq!(
            header(&letters[0], "sdl.dlq.path").as_deref(),
            (server == JAVA).then_some("email_1"),
            "the other does not tell"
        );
        assert_eq!(load.count(), 90, "{server}");
        load.assert_committed();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_document_that_closes_the_connection_is_dead_lettered_alone() {
    let load = Load::new(FERRET, "poison", 1);
    // This server closes the connection at a decimal128, the type of a number above 64 bits.
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
fn real_sink_mongo_rejected_documents_are_dead_lettered_alone() {
    let load = Load::new(FERRET, "refused", 1);
    // This server takes no array in an array, and no name with a dollar in front.
    let values: Vec<String> = (0..60)
        .map(|n| match n % 20 {
            7 => format!("{{\"n\": {n}, \"a\": [[1]]}}"),
            8 => format!("{{\"n\": {n}, \"$where\": \"sleep(1000)\"}}"),
            _ => format!("{{\"n\": {n}}}"),
        })
        .collect();
    let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
    load.send(&values);
    let finished = load.sdl("--until-caught-up --dead-letters file:letters").run().expect(3);
    assert_eq!(codes(&letters(&finished, "letters")), ["mongodb_2"; 6]);
    assert_eq!(load.count(), 54);
    load.assert_committed();
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_storm_of_bad_records_trips_the_breaker() {
    let load = Load::new(JAVA, "storm", 1);
    load.python(&Value::Null, "collection.create_index('same', unique=True)");
    let values: Vec<_> = (0..500).map(|_| (None, Some(r#"{"same": 1}"#))).collect();
    load.send(&values);
    let line = "--until-caught-up --batch 50 --dead-letters file:letters --dead-letter-limit 100/1m";
    let finished = load.sdl(line).run().expect(3);
    assert!(finished.stderr.contains("--dead-letter-limit"), "{}", finished.stderr);
    assert_eq!(codes(&letters(&finished, "letters")), ["mongodb_11000"; 100]);
    assert_eq!(load.count(), 1);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_malformed_logins_are_dead_lettered_and_the_counts_add_up() {
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
fn real_sink_mongo_names_from_payloads_are_checked_and_limited() {
    let load = Load::new(JAVA, "names", 1);
    let long = "x".repeat(300);
    let names = ["a", "../../etc", "x$y", "x\\u0000y", "system.users", "", &long, "*", "c", "a"];
    let values: Vec<String> = names.iter().map(|name| format!("{{\"to\": \"{name}\"}}")).collect();
    let values: Vec<_> = values.iter().map(|value| (None, Some(value.as_str()))).collect();
    load.send(&values);
    let line =
        format!("--until-caught-up --collection {{to}} --database {} --max-names 2 --dead-letters file:letters", load.topic);
    let finished = load.sdl(&line).run().expect(3);
    let mut expected = vec!["bad_name"; 6];
    expected.push("too_many_names");
    assert_eq!(codes(&letters(&finished, "letters")), expected);
    // A star is a name like any other for a collection, and none for a database.
    let found =
        load.python(&json!(load.topic), "answer = sorted(client[arg].list_collection_names()); client.drop_database(arg)");
    assert_eq!(found, json!(["*", "a"]));
    let line = format!("--until-caught-up --group {0}-2 --database {0}{{to}} --dead-letters file:letters", load.topic);
    let finished = load.sdl(&line).run().expect(3);
    assert_eq!(codes(&letters(&finished, "letters")), ["bad_name"; 6], "`..`, `$`, NUL, a dot, length, and `*`");
    let code = "names = [n for n in client.list_database_names() if n.startswith(arg)]; answer = sorted(n[len(arg):] for n in names); [client.drop_database(n) for n in names]";
    assert_eq!(load.python(&json!(load.topic), code), json!(["", "a", "c"]));
}
