//! The MongoDB sink with answers that no real server gives on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use sdl::connectors::mongo::{MongoClient, MongoSink, Write, collection_rule, database_rule};
use sdl::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
use sdl::pipeline::{ConnectorError, Outcome, Sink};
use sdl::profile::{MongoSection, Secret};

use crate::harness::{Answer, MongoStub, all_well, deliver, failed, offset_ids, outcome_codes, record, records, written};

mod connections;
mod ids;
mod messages;

fn section(uri: &str) -> MongoSection {
    MongoSection { name: "mongodb".to_owned(), uri: Some(Secret::new(uri.to_owned())), ..MongoSection::default() }
}

fn reading(ids: Ids, meta: MetadataFields) -> DocumentMapper {
    let naming = |name: &str, rule| NameTemplate::new(name.parse().unwrap(), rule, 100).unwrap();
    let names = vec![naming("d", database_rule), naming("{topic}", collection_rule)];
    DocumentMapper::new(ids, Version::Offset, meta, RawValues::Bad, None, names)
}

async fn sink(stub: &MongoStub, ids: Ids, deletes: bool) -> MongoSink {
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    MongoSink::new(client, reading(ids, MetadataFields::default()), None, deletes).unwrap()
}

fn name(command: &Document) -> &str {
    command.keys().next().unwrap()
}

/// Returns the answer to a look that finds nothing.
fn nothing() -> Answer {
    Answer::Reply(doc! {"cursor": {"firstBatch": [], "id": 0_i64, "ns": "d.t"}, "ok": 1.0})
}

/// Returns a peer that pings well, takes a probe, has no collection, finds nothing before anything was written, and leaves the rest to `script`.
fn peer(mut script: impl FnMut(&Document) -> Answer + Send + 'static) -> MongoStub {
    let mut is_fresh = true;
    MongoStub::start(move |command| {
        let is_probe = name(command) == "update" && !written(command)[0].get_bool("upsert").unwrap_or(true);
        if name(command) == "ping" || is_probe {
            return Answer::Reply(doc! {"n": 0, "ok": 1.0});
        }
        if name(command) == "listCollections" || (name(command) == "find" && is_fresh) {
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
        (4242, 'u'),
    ] {
        let stub = erring(vec![doc! {"index": 1, "code": code, "errmsg": "no"}], None);
        let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(3)).await;
        assert_eq!(outcome_codes(&outcomes), format!("d{word}d"), "{code}");
    }
}

#[tokio::test]
async fn a_failed_command_is_bisected_only_if_a_document_can_be_the_cause() {
    for (code, word) in
        [(2, '?'), (9, '?'), (10334, '?'), (10107, 'r'), (11600, 'r'), (91, 'r'), (64, 'r'), (4242, 'u'), (13, 'S'), (73, 'b')]
    {
        let stub = peer(move |_| failed(code));
        let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(2)).await;
        assert_eq!(outcome_codes(&outcomes), word.to_string().repeat(2), "{code}");
    }
}

#[tokio::test]
async fn a_write_without_majority_is_not_delivered() {
    for (code, word) in [(64, 'r'), (91, 'r'), (79, 'S'), (100, 'S')] {
        let concern = Some(doc! {"code": code, "errmsg": "no"});
        let errors = vec![
            doc! {"index": 0, "code": 121, "errmsg": "no"},
            // An existing document may not be durable either.
            doc! {"index": 1, "code": 11000, "errmsg": "no", "keyPattern": {"_id": 1}},
        ];
        let stub = erring(errors, concern);
        let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(3)).await;
        assert_eq!(outcome_codes(&outcomes), format!("b{word}{word}"), "{code}");
        assert_eq!(stub.received(), ["ping", "find", "find", "find", "insert"], "nothing is looked up that may not be durable");
    }
}

#[tokio::test]
async fn a_short_count_is_not_a_delivery() {
    let stub = peer(|_| Answer::Reply(doc! {"n": 2, "ok": 1.0}));
    let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(3)).await;
    assert_eq!(outcome_codes(&outcomes), "uuu");
}

#[tokio::test]
async fn a_command_cut_off_at_a_document_is_sent_with_fewer() {
    // Of five, it wrote three and left off at the fourth; but it blames the first.
    let stub = peer(|_| Answer::Reply(doc! {"n": 3, "writeErrors": [{"index": 0, "code": 2, "errmsg": "no"}], "ok": 1.0}));
    assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(5)).await), "?????");
}

#[tokio::test]
async fn a_rejected_configured_name_stops_the_run() {
    for code in [73, 13297] {
        let stub = peer(move |_| failed(code));
        let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
        let naming = |name: &str, rule| NameTemplate::new(name.parse().unwrap(), rule, 100).unwrap();
        let names = vec![naming("d", database_rule), naming("t", collection_rule)];
        let reading = DocumentMapper::new(offset_ids(), Version::Offset, MetadataFields::default(), RawValues::Bad, None, names);
        let sink = MongoSink::new(client, reading, None, false).unwrap();
        assert_eq!(outcome_codes(&deliver(&sink, records(2)).await), "SS", "{code}");
    }
}

#[tokio::test]
async fn an_error_for_an_unknown_index_leaves_every_outcome_unclear() {
    for errors in [
        vec![doc! {"index": 7, "code": 2}],
        vec![doc! {"code": 2}],
        vec![doc! {"index": "1", "code": 2}],
        vec![doc! {"index": 1, "code": 2}; 2],
    ] {
        let stub = erring(errors, None);
        assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(3)).await), "uuu");
    }
}

#[tokio::test]
async fn an_answer_with_a_text_that_is_cut_within_a_character_is_judged_document_by_document() {
    for (code, word) in [(121, 'b'), (11600, 'r'), (13, 'S'), (4242, 'u')] {
        let error = doc! {"index": 1, "code": code, "errmsg": "not this: é"};
        let stub = peer(move |_| Answer::Cut(doc! {"n": 2, "writeErrors": [error.clone()], "ok": 1.0}));
        let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(3)).await;
        assert_eq!(outcome_codes(&outcomes), format!("d{word}d"), "{code}");
    }
    for (code, word) in [(2, '?'), (10107, 'r'), (13, 'S')] {
        let stub = peer(move |_| Answer::Cut(doc! {"ok": 0.0, "code": code, "errmsg": "é"}));
        let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(2)).await;
        assert_eq!(outcome_codes(&outcomes), word.to_string().repeat(2), "{code}");
    }
    let stub = peer(|command| match name(command) {
        "find" => {
            let stored = doc! {"_id": "t:0:0", "_kafka_key": "é", "_kafka_timestamp": 1000_i64};
            Answer::Cut(doc! {"cursor": {"firstBatch": [stored], "id": 0_i64, "ns": "d.t"}, "ok": 1.0})
        }
        _ => Answer::Cut(doc! {"n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "é"}], "ok": 1.0}),
    });
    assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(1)).await), "a");
}

#[tokio::test]
async fn server_quotes_appear_only_in_dead_letters() {
    let stub = erring(vec![doc! {"index": 0, "code": 2, "errmsg": "bad value: { card: \"4111\" }"}], None);
    let outcomes = deliver(&sink(&stub, offset_ids(), false).await, records(1)).await;
    let Outcome::Reject(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(!reason.message().contains("4111") && reason.detailed().unwrap().contains("4111"), "{reason:?}");
}

#[tokio::test]
async fn writes_use_majority_and_are_unordered() {
    let stub = peer(|command| {
        assert_eq!(command.get_str("$db").unwrap(), "d");
        assert_eq!(command.get_str("insert").unwrap(), "t");
        assert!(!command.get_bool("ordered").unwrap());
        assert_eq!(command.get_document("writeConcern").unwrap().get_str("w").unwrap(), "majority");
        all_well(command)
    });
    assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(3)).await), "ddd");
}

#[tokio::test]
async fn a_record_that_is_bad_by_itself_is_never_sent() {
    let stub = peer(|command| {
        let is_good = |document: &Document| matches!(document.get_str("_id"), Ok("t:0:0" | "t:0:7"));
        assert!(written(command).iter().all(is_good));
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
    let outcomes = deliver(&sink(&stub, offset_ids(), false).await, batch).await;
    assert_eq!(outcome_codes(&outcomes), "dbbbbbbd");
    let codes: Vec<&str> =
        outcomes.iter().filter_map(|o| if let Outcome::Reject(r) = o { Some(r.code()) } else { None }).collect();
    assert_eq!(codes, ["nul_in_name", "too_deep", "document_too_large", "not_json", "claimed_field", "repeated_name"]);
}

#[tokio::test]
async fn large_documents_are_split_over_commands() {
    let stub = peer(all_well);
    let value = format!("{{\"a\": \"{}\"}}", "x".repeat(7 << 20));
    let batch = (0..5).map(|offset| record(offset, "k", Some(&value))).collect();
    assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, batch).await), "ddddd");
    assert_eq!(stub.received()[5..], ["insert"; 5]);
}
