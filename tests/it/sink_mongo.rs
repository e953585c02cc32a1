//! What the MongoDB sink makes of answers that no real server gives on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use mongodb::bson::{Document, doc};
use sdl::connectors::mongo::{MongoClient, MongoSink, Write, collection_rule, database_rule};
use sdl::document::{Ids, Meta, Naming, RawValues, Reading, Version};
use sdl::pipeline::{EndError, Outcome, Sink};
use sdl::profile::{MongoSection, Secret};
use sdl::record::{Partition, Record};

use crate::harness::{Answer, MongoStub, all_well, failed, written};

fn section(uri: &str) -> MongoSection {
    MongoSection { name: "mongodb".to_owned(), uri: Some(Secret::new(uri.to_owned())), ..MongoSection::default() }
}

fn offsets() -> Ids {
    Ids::Offset { prefix: String::new() }
}

fn reading(ids: Ids, meta: Meta) -> Reading {
    let naming = |name: &str, rule| Naming::new(name.parse().unwrap(), rule, 100).unwrap();
    let names = vec![naming("d", database_rule), naming("{topic}", collection_rule)];
    Reading::new(ids, Version::Offset, meta, RawValues::Bad, None, names)
}

async fn sink(stub: &MongoStub, ids: Ids, deletes: bool) -> MongoSink {
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    MongoSink::new(client, reading(ids, Meta::default()), None, deletes).unwrap()
}

fn record(offset: i64, key: &str, value: Option<&str>) -> Record {
    Record {
        partition: Partition::new("t", 0),
        offset,
        timestamp: Some(1000 + offset),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn records(count: i64) -> Vec<Record> {
    (0..count).map(|offset| record(offset, "k", Some(&format!("{{\"n\": {offset}}}")))).collect()
}

async fn deliver(sink: &MongoSink, records: Vec<Record>) -> Vec<Outcome> {
    sink.submit(Arc::new(records)).await.unwrap().await
}

fn words(outcomes: &[Outcome]) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Delivered => 'd',
        Outcome::AlreadyThere => 'a',
        Outcome::Superseded => 's',
        Outcome::Retry(_) => 'r',
        Outcome::Reject(_) => 'b',
        Outcome::Suspect(_) => '?',
        Outcome::Stop(reason) if reason.is_refusal() => '!',
        Outcome::Stop(_) => 'S',
    };
    outcomes.iter().map(word).collect()
}

fn name(command: &Document) -> &str {
    command.keys().next().unwrap()
}

/// Returns the answer to a look that finds nothing.
fn nothing() -> Answer {
    Answer::Reply(doc! {"cursor": {"firstBatch": [], "id": 0_i64, "ns": "d.t"}, "ok": 1.0})
}

/// Returns a peer that pings well, takes a probe, finds nothing before anything was written, and leaves the rest to `script`.
fn peer(mut script: impl FnMut(&Document) -> Answer + Send + 'static) -> MongoStub {
    let mut is_fresh = true;
    MongoStub::start(move |command| {
        let is_probe = name(command) == "update" && !written(command)[0].get_bool("upsert").unwrap_or(true);
        if name(command) == "ping" || is_probe {
            return Answer::Reply(doc! {"n": 0, "ok": 1.0});
        }
        if name(command) == "find" && is_fresh {
            return nothing();
        }
        is_fresh = false;
        script(command)
    })
}

/// Returns a peer that answers every write with these errors.
fn erring(errors: Vec<Document>, concern: Option<Document>) -> MongoStub {
    peer(move |command| {
        if name(command) == "find" {
            return nothing();
        }
        let mut reply = doc! {"n": i32::try_from(written(command).len() - errors.len()).unwrap(), "ok": 1.0};
        if !errors.is_empty() {
            reply.insert("writeErrors", errors.clone());
        }
        if let Some(concern) = &concern {
            reply.insert("writeConcernError", concern.clone());
        }
        Answer::Reply(reply)
    })
}

#[tokio::test]
async fn each_document_is_judged_by_its_own_error() {
    for (code, word) in [
        (121, 'b'),
        (2, 'b'),
        (9, 'b'),
        (14, 'b'),
        (52, 'b'),
        (10334, 'b'),
        (17280, 'b'),
        (6, 'r'),
        (7, 'r'),
        (89, 'r'),
        (91, 'r'),
        (189, 'r'),
        (262, 'r'),
        (9001, 'r'),
        (10107, 'r'),
        (11600, 'r'),
        (11602, 'r'),
        (13435, 'r'),
        (13436, 'r'),
        (13, 'S'),
        (18, 'S'),
        (4242, 'r'),
    ] {
        let stub = erring(vec![doc! {"index": 1, "code": code, "errmsg": "no"}], None);
        let outcomes = deliver(&sink(&stub, offsets(), false).await, records(3)).await;
        assert_eq!(words(&outcomes), format!("d{word}d"), "{code}");
    }
}

#[tokio::test]
async fn a_whole_command_that_fails_blames_a_document_only_where_one_can_be_to_blame() {
    for (code, word) in
        [(2, '?'), (9, '?'), (10334, '?'), (10107, 'r'), (11600, 'r'), (91, 'r'), (64, 'r'), (4242, 'r'), (13, 'S'), (73, 'b')]
    {
        let stub = peer(move |_| failed(code));
        let outcomes = deliver(&sink(&stub, offsets(), false).await, records(2)).await;
        assert_eq!(words(&outcomes), word.to_string().repeat(2), "{code}");
    }
}

#[tokio::test]
async fn what_no_majority_acknowledged_is_not_delivered() {
    for (code, word) in [(64, 'r'), (91, 'r'), (79, 'S'), (100, 'S')] {
        let concern = Some(doc! {"code": code, "errmsg": "no"});
        let errors = vec![
            doc! {"index": 0, "code": 121, "errmsg": "no"},
            // What is there already may not be durable either.
            doc! {"index": 1, "code": 11000, "errmsg": "no", "keyPattern": {"_id": 1}},
        ];
        let stub = erring(errors, concern);
        let outcomes = deliver(&sink(&stub, offsets(), false).await, records(3)).await;
        assert_eq!(words(&outcomes), format!("b{word}{word}"), "{code}");
        assert_eq!(stub.heard(), ["ping", "find", "insert"], "nothing is looked up that may not be durable");
    }
}

#[tokio::test]
async fn a_server_that_does_not_count_every_document_has_not_taken_them() {
    let stub = peer(|_| Answer::Reply(doc! {"n": 2, "ok": 1.0}));
    let outcomes = deliver(&sink(&stub, offsets(), false).await, records(3)).await;
    assert_eq!(words(&outcomes), "rrr");
}

#[tokio::test]
async fn writes_ask_for_a_majority_and_go_on_after_an_error() {
    let stub = peer(|command| {
        assert_eq!(command.get_str("$db").unwrap(), "d");
        assert_eq!(command.get_str("insert").unwrap(), "t");
        assert!(!command.get_bool("ordered").unwrap());
        assert_eq!(command.get_document("writeConcern").unwrap().get_str("w").unwrap(), "majority");
        all_well(command)
    });
    assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(3)).await), "ddd");
}

/// Returns a peer on which ids are taken, by what `stored` says of an id.
fn taken(pattern: Option<Document>, stored: impl Fn(&str) -> Option<Document> + Send + 'static) -> MongoStub {
    peer(move |command| {
        if name(command) == "find" {
            let ids = command.get_document("filter").unwrap().get_document("_id").unwrap().get_array("$in").unwrap();
            let found: Vec<Document> = ids
                .iter()
                .filter_map(|id| {
                    let mut found = stored(id.as_str().unwrap())?;
                    found.insert("_id", id.clone());
                    Some(found)
                })
                .collect();
            return Answer::Reply(doc! {"cursor": {"firstBatch": found, "id": 0_i64, "ns": "d.t"}, "ok": 1.0});
        }
        let errors: Vec<Document> = (0..i32::try_from(written(command).len()).unwrap())
            .map(|index| {
                let mut error = doc! {"index": index, "code": 11000, "errmsg": "taken"};
                if let Some(pattern) = &pattern {
                    error.insert("keyPattern", pattern.clone());
                }
                error
            })
            .collect();
        Answer::Reply(doc! {"n": 0, "writeErrors": errors, "ok": 1.0})
    })
}

#[tokio::test]
async fn an_id_that_is_taken_is_looked_up_before_it_counts_as_there() {
    let by_timestamp = |time: i64| move |_: &str| Some(doc! {"_kafka_timestamp": time});
    let ours = taken(Some(doc! {"_id": 1}), by_timestamp(1000));
    assert_eq!(words(&deliver(&sink(&ours, offsets(), false).await, records(1)).await), "a");
    let theirs = taken(None, by_timestamp(999));
    let outcomes = deliver(&sink(&theirs, offsets(), false).await, records(1)).await;
    assert_eq!(words(&outcomes), "!");
    let Outcome::Stop(reason) = &outcomes[0] else { unreachable!() };
    assert!(reason.hinted().unwrap().contains("--id-prefix"));
}

#[tokio::test]
async fn a_foreign_record_is_found_before_anything_is_written() {
    let stub = MongoStub::start(|command| match name(command) {
        "find" => Answer::Reply(doc! {
            "cursor": {"firstBatch": [{"_id": "t:0:0", "_kafka_timestamp": 7_i64}], "id": 0_i64, "ns": "d.t"}, "ok": 1.0,
        }),
        _ => all_well(command),
    });
    let sink = sink(&stub, offsets(), false).await;
    assert_eq!(words(&deliver(&sink, records(3)).await), "!!!");
    // A partition that was refused stays so.
    assert_eq!(words(&deliver(&sink, records(3)).await), "!!!");
    assert_eq!(stub.heard(), ["ping", "find", "find"]);
}

#[tokio::test]
async fn a_duplicate_in_another_unique_index_is_bad() {
    for pattern in [Some(doc! {"email": 1}), None] {
        let stub = taken(pattern, |_| None);
        assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(2)).await), "bb");
    }
    // The id was taken, and was free when it was looked up.
    let stub = taken(Some(doc! {"_id": 1}), |_| None);
    assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(2)).await), "rr");
}

#[tokio::test]
async fn without_metadata_only_the_same_document_is_ours() {
    let stub = taken(Some(doc! {"_id": 1}), |id| match id {
        "t:0:0" => Some(doc! {"_id": id, "n": 0}),
        _ => Some(doc! {"_id": id, "n": 7}),
    });
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    let sink = MongoSink::new(client, reading(offsets(), Meta::none()), None, false).unwrap();
    assert_eq!(words(&deliver(&sink, records(2)).await), "a!");
}

#[tokio::test]
async fn of_a_key_what_is_newer_stays_and_a_lost_race_is_run_again() {
    let stored = |offset: i64, timestamp: i64| {
        doc! {"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_offset": offset, "_kafka_timestamp": timestamp}
    };
    let stub = taken(Some(doc! {"_id": 1}), move |id| match id {
        "newer" => Some(stored(99, 1)),
        "same" | "older" => Some(stored(1, 1001)),
        "other" => Some(stored(3, 7)),
        _ => Some(doc! {"a": 1}),
    });
    let batch = ["newer", "same", "older", "other", "unknown"];
    let batch = (0..).zip(batch).map(|(offset, key)| record(offset, key, Some("{}"))).collect();
    assert_eq!(words(&deliver(&sink(&stub, Ids::Key, false).await, batch).await), "sar!b");
}

#[tokio::test]
async fn writes_of_keys_are_guarded_by_their_version() {
    let stub = peer(|command| {
        let update = &written(command)[0];
        assert_eq!(update.get_document("q").unwrap(), &doc! {"_id": "k", "_kafka_offset": {"$lt": 5_i64}});
        assert_eq!(update.get_document("u").unwrap().keys().next().unwrap(), "_id");
        assert!(update.get_bool("upsert").unwrap());
        all_well(command)
    });
    let batch = vec![record(5, "k", Some(r#"{"$set": {"a": 1}}"#))];
    assert_eq!(words(&deliver(&sink(&stub, Ids::Key, false).await, batch).await), "d");
}

#[tokio::test]
async fn an_update_sets_fields_and_takes_no_name_for_more_than_a_name() {
    let stub = peer(|command| {
        let update = &written(command)[0];
        let set = update.get_document("u").unwrap().get_document("$set").unwrap();
        assert_eq!(set.get("a"), Some(&doc! {"$inc": 1}.into()));
        assert!(!set.contains_key("_id"));
        all_well(command)
    });
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    let sink = MongoSink::new(client, reading(Ids::Key, Meta::default()), Some(Write::Update), false).unwrap();
    let values = [r#"{"a": {"$inc": 1}}"#, r#"{"$inc": {"a": 1}}"#, r#"{"a.b": 1}"#, r#"{"": 1}"#];
    let batch = (0..).zip(values).map(|(offset, value)| record(offset, &offset.to_string(), Some(value))).collect();
    assert_eq!(words(&deliver(&sink, batch).await), "dbbb");
}

#[tokio::test]
async fn a_document_that_makes_the_server_hang_up_is_found_while_others_pass() {
    let stub = peer(|command| {
        let is_poison = |document: &Document| document.get_i32("n").is_ok_and(|n| n == 3);
        if written(command).iter().any(is_poison) { Answer::Close } else { all_well(command) }
    });
    let sink = sink(&stub, offsets(), false).await;
    assert_eq!(words(&deliver(&sink, records(4)).await), "????");
    assert_eq!(words(&deliver(&sink, records(3)).await), "ddd");
    assert_eq!(words(&deliver(&sink, records(4).split_off(3)).await), "?");
}

#[tokio::test]
async fn a_connection_that_is_lost_in_an_outage_blames_nobody() {
    // Nothing can be written, although the server is there; or it is gone.
    for is_gone in [false, true] {
        let stub = MongoStub::start(move |command| match name(command) {
            "ping" => all_well(command),
            "find" => nothing(),
            _ if is_gone => Answer::Die,
            _ => Answer::Close,
        });
        assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(2)).await), "rr");
        assert!(stub.heard().contains(&"insert".to_owned()));
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_once_is_no_matter() {
    let lost = AtomicU32::new(0);
    let stub = peer(move |command| if lost.fetch_add(1, SeqCst) == 0 { Answer::Close } else { all_well(command) });
    assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(1)).await), "d");
}

#[tokio::test]
async fn a_document_that_is_deleted_and_written_is_so_in_the_order_of_its_records() {
    let stub = peer(all_well);
    let sink = sink(&stub, Ids::Key, true).await;
    let batch = vec![
        record(0, "a", Some("{}")),
        record(1, "b", None),
        record(2, "a", None),
        record(3, "c", None),
        record(4, "a", Some("{}")),
    ];
    assert_eq!(words(&deliver(&sink, batch).await), "ddddd");
    assert_eq!(stub.heard()[1..], ["update", "delete", "delete", "update"]);
}

#[tokio::test]
async fn a_delete_does_not_overtake_a_write_that_is_tried_again() {
    let stub = erring(vec![doc! {"index": 0, "code": 11600, "errmsg": "no"}], None);
    let sink = sink(&stub, Ids::Key, true).await;
    let batch = vec![record(0, "a", Some("{}")), record(1, "b", Some("{}")), record(2, "a", None)];
    let outcomes = deliver(&sink, batch).await;
    assert_eq!(words(&outcomes), "rdr");
    assert!(!stub.heard().contains(&"delete".to_owned()));
}

#[tokio::test]
async fn a_record_that_is_bad_by_itself_is_never_sent() {
    let stub = peer(|command| {
        assert_eq!(written(command).len(), 2);
        all_well(command)
    });
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(17 << 20));
    let values = [
        "{}",
        r#"{"a\u0000b": 1}"#,
        &deep,
        &large,
        "{",
        r#"{"_kafka_offset": 1}"#,
        r#"{"a": 1, "a": 2}"#,
        r#"{"$where": {"$oid": "x"}}"#,
    ];
    let batch = (0..).zip(values).map(|(offset, value)| record(offset, "k", Some(value))).collect();
    let outcomes = deliver(&sink(&stub, offsets(), false).await, batch).await;
    assert_eq!(words(&outcomes), "dbbbbbbd");
    let codes: Vec<&str> =
        outcomes.iter().filter_map(|o| if let Outcome::Reject(r) = o { Some(r.code()) } else { None }).collect();
    assert_eq!(codes, ["nul_in_name", "too_deep", "document_too_large", "not_json", "claimed_field", "repeated_name"]);
}

#[tokio::test]
async fn large_documents_are_spread_over_commands() {
    let stub = peer(all_well);
    let value = format!("{{\"a\": \"{}\"}}", "x".repeat(7 << 20));
    let batch = (0..5).map(|offset| record(offset, "k", Some(&value))).collect();
    assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, batch).await), "ddddd");
    assert_eq!(stub.heard()[2..], ["insert", "insert", "insert"]);
}

#[tokio::test]
async fn a_server_that_cannot_be_written_to_is_known_before_the_run() {
    for (code, cause) in [(13, "may not"), (10107, "secondary"), (166, "view"), (100, "majority")] {
        let stub = MongoStub::start(move |command| if name(command) == "ping" { all_well(command) } else { failed(code) });
        let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
        let naming = |name: &str, rule| Naming::new(name.parse().unwrap(), rule, 1).unwrap();
        let names = vec![naming("d", database_rule), naming("c", collection_rule)];
        let reading = Reading::new(offsets(), Version::Offset, Meta::default(), RawValues::Bad, None, names);
        let sink = MongoSink::new(client, reading, None, false).unwrap();
        let EndError::Failed(failure) = sink.check().await.unwrap_err() else { panic!("a failure") };
        assert_eq!(failure.what, "cannot write to `d.c` of `mongodb`");
        assert!(failure.causes[0].contains(cause), "{failure}");
        assert!(failure.hint.is_some());
    }
}

#[tokio::test]
async fn a_wrong_password_stops_at_once_and_is_not_shown() {
    let stub = MongoStub::start(|command| match name(command) {
        "saslStart" => failed(18),
        _ => all_well(command),
    });
    let uri = stub.uri().replace("mongodb://", "mongodb://loader:canary@");
    let begun = std::time::Instant::now();
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_secs(60)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let EndError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains("logging in"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_named() {
    let stub = MongoStub::start(all_well);
    let uri = stub.uri();
    drop(stub);
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_millis(600)).await.unwrap_err();
    let EndError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains(uri.trim_start_matches("mongodb://")), "{failure}");
}

#[tokio::test]
async fn ways_of_writing_that_do_not_go_with_the_ids_are_refused() {
    let stub = peer(all_well);
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    for (ids, meta, write, fits) in [
        (offsets(), Meta::default(), None, true),
        (offsets(), Meta::default(), Some(Write::Replace), true),
        (offsets(), Meta::none(), None, true),
        (offsets(), Meta::none(), Some(Write::Update), false),
        (Ids::Key, Meta::default(), None, true),
        (Ids::Key, Meta::none(), None, false),
        (Ids::Key, Meta::default(), Some(Write::Insert), false),
        (Ids::Random, Meta::none(), None, true),
        (Ids::Random, Meta::default(), Some(Write::Replace), false),
    ] {
        let made = MongoSink::new(client.clone(), reading(ids.clone(), meta), write, false);
        assert_eq!(made.is_ok(), fits, "{ids:?} {write:?}");
    }
}
