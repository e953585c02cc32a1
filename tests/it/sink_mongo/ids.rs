//! Ids that are taken, and ids that come again.

use super::*;

/// Returns a peer on which ids exist, with the documents given by `stored`.
fn taken(pattern: Option<Document>, stored: impl Fn(&str) -> Option<Document> + Send + 'static) -> MongoStub {
    peer(move |command| {
        if name(command) == "find" {
            let id = command.get_document("filter").unwrap().get("_id").unwrap();
            let one = vec![id.clone()];
            let ids = id.as_document().map_or(&one, |id| id.get_array("$in").unwrap());
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
async fn an_existing_id_is_looked_up_before_it_counts_as_already_there() {
    let by_timestamp = |time: i64| move |_: &str| Some(doc! {"_kafka_timestamp": time});
    let ours = taken(Some(doc! {"_id": 1}), by_timestamp(1000));
    assert_eq!(outcome_codes(&deliver(&sink(&ours, offset_ids(), false).await, records(1)).await), "a");
    let theirs = taken(None, by_timestamp(999));
    let outcomes = deliver(&sink(&theirs, offset_ids(), false).await, records(1)).await;
    assert_eq!(outcome_codes(&outcomes), "!");
    let Outcome::Stop(reason) = &outcomes[0] else { unreachable!() };
    assert_eq!(reason.code(), "foreign_record");
}

#[tokio::test]
async fn a_foreign_document_is_found_before_the_first_write() {
    let stub = MongoStub::start(|command| match name(command) {
        "find" => Answer::Reply(doc! {
            "cursor": {"firstBatch": [{"_id": "t:0:2", "_kafka_timestamp": 7_i64}], "id": 0_i64, "ns": "d.t"}, "ok": 1.0,
        }),
        _ => all_well(command),
    });
    let sink = sink(&stub, offset_ids(), false).await;
    assert_eq!(outcome_codes(&deliver(&sink, records(3)).await), "!!!");
    // A partition that was refused stays so.
    assert_eq!(outcome_codes(&deliver(&sink, records(3)).await), "!!!");
    assert!(stub.received()[1..].iter().all(|command| command == "find"), "{:?}", stub.received());
}

#[tokio::test]
async fn a_recreated_topic_with_equal_timestamps_is_detected_by_its_payloads() {
    for (n, codes) in [(7, "!"), (0, "d")] {
        let stub = MongoStub::start(move |command| match name(command) {
            "find" => {
                let stored = doc! {
                    "_id": "t:0:0", "n": n, "_kafka_key": "k", "_kafka_topic": "t", "_kafka_partition": 0,
                    "_kafka_offset": 0_i64, "_kafka_timestamp": 1000_i64,
                };
                Answer::Reply(doc! {"cursor": {"firstBatch": [stored], "id": 0_i64, "ns": "d.t"}, "ok": 1.0})
            }
            _ => all_well(command),
        });
        assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(1)).await), codes);
    }
}

#[tokio::test]
async fn a_lookup_that_never_agrees_with_the_write_stops_the_run() {
    // A collation finds the id taken that a look-up does not find.
    let stub = taken(Some(doc! {"_id": 1}), |_| None);
    let sink = sink(&stub, offset_ids(), false).await;
    let mut codes = String::new();
    while !codes.contains('!') {
        codes += &outcome_codes(&deliver(&sink, records(1)).await);
    }
    assert_eq!(codes, "rrrr!");
}

#[tokio::test]
async fn a_newer_document_that_an_unnamed_unique_index_rejects_is_bad() {
    let older =
        |_: &str| Some(doc! {"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_offset": 1_i64, "_kafka_timestamp": 1_i64});
    for (pattern, codes) in [(None, "rrrrb"), (Some(doc! {"_id": 1}), "rrrr!")] {
        let stub = taken(pattern, older);
        let sink = sink(&stub, Ids::Key, false).await;
        let mut seen = String::new();
        for _ in 0..5 {
            seen += &outcome_codes(&deliver(&sink, vec![record(5, "k", Some("{}"))]).await);
        }
        assert_eq!(seen, codes);
    }
}

#[tokio::test]
async fn a_lookup_that_cannot_be_read_blames_no_record() {
    type LookUp = (fn() -> Answer, &'static str);
    let answers: [LookUp; 3] = [
        (|| Answer::Reply(doc! {"ok": 1.0}), "without documents"),
        (|| failed(99_999), "an unknown error"),
        (|| Answer::Close, "none"),
    ];
    for (answer, what) in answers {
        let stub = MongoStub::start(move |command| match name(command) {
            "find" => answer(),
            _ => all_well(command),
        });
        assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(2)).await), "rr", "{what}");
        assert!(!stub.received().contains(&"insert".to_owned()), "{what}: {:?}", stub.received());
    }
}

#[tokio::test]
async fn a_duplicate_in_another_unique_index_is_bad() {
    for pattern in [Some(doc! {"email": 1}), None] {
        let stub = taken(pattern, |_| None);
        assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(2)).await), "bb");
    }
    // The id was taken, and was free when it was looked up.
    let stub = taken(Some(doc! {"_id": 1}), |_| None);
    assert_eq!(outcome_codes(&deliver(&sink(&stub, offset_ids(), false).await, records(2)).await), "rr");
}

#[tokio::test]
async fn without_metadata_only_the_same_document_is_ours() {
    let stub = taken(Some(doc! {"_id": 1}), |id| match id {
        "t:0:0" => Some(doc! {"_id": id, "n": 0}),
        _ => Some(doc! {"_id": id, "n": 7}),
    });
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    let sink = MongoSink::new(client, reading(offset_ids(), MetadataFields::none()), None, false).unwrap();
    assert_eq!(outcome_codes(&deliver(&sink, records(2)).await), "a!");
}

#[tokio::test]
async fn the_newest_version_of_a_key_stays_and_a_lost_race_is_retried() {
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
    assert_eq!(outcome_codes(&deliver(&sink(&stub, Ids::Key, false).await, batch).await), "sar!b");
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
    assert_eq!(outcome_codes(&deliver(&sink(&stub, Ids::Key, false).await, batch).await), "d");
}

#[tokio::test]
async fn an_update_sets_fields_and_does_not_interpret_names() {
    let stub = peer(|command| {
        let update = &written(command)[0];
        let set = update.get_document("u").unwrap().get_document("$set").unwrap();
        assert_eq!(set.get("a"), Some(&doc! {"$inc": 1}.into()));
        assert!(!set.contains_key("_id"));
        all_well(command)
    });
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    let sink = MongoSink::new(client, reading(Ids::Key, MetadataFields::default()), Some(Write::Update), false).unwrap();
    let values = [r#"{"a": {"$inc": 1}}"#, r#"{"$inc": {"a": 1}}"#, r#"{"a.b": 1}"#, r#"{"": 1}"#];
    let batch = (0..).zip(values).map(|(offset, value)| record(offset, &offset.to_string(), Some(value))).collect();
    assert_eq!(outcome_codes(&deliver(&sink, batch).await), "dbbb");
}

#[tokio::test]
async fn deletes_and_writes_of_a_document_keep_the_record_order() {
    let stub = peer(all_well);
    let sink = sink(&stub, Ids::Key, true).await;
    let batch = vec![
        record(0, "a", Some("{}")),
        record(1, "b", None),
        record(2, "a", None),
        record(3, "c", None),
        record(4, "a", Some("{}")),
    ];
    assert_eq!(outcome_codes(&deliver(&sink, batch).await), "ddddd");
    assert_eq!(stub.received()[1..], ["update", "delete", "delete", "update"]);
}

#[tokio::test]
async fn a_delete_does_not_overtake_a_retried_write() {
    let stub = erring(vec![doc! {"index": 0, "code": 11600, "errmsg": "no"}], None);
    let sink = sink(&stub, Ids::Key, true).await;
    let batch = vec![record(0, "a", Some("{}")), record(1, "b", Some("{}")), record(2, "a", None)];
    let outcomes = deliver(&sink, batch).await;
    assert_eq!(outcome_codes(&outcomes), "rdr");
    assert!(!stub.received().contains(&"delete".to_owned()));
}

#[tokio::test]
async fn write_modes_that_conflict_with_the_ids_are_refused() {
    let stub = peer(all_well);
    let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
    for (ids, meta, write, fits) in [
        (offset_ids(), MetadataFields::default(), None, true),
        (offset_ids(), MetadataFields::default(), Some(Write::Replace), true),
        (offset_ids(), MetadataFields::none(), None, true),
        (offset_ids(), MetadataFields::none(), Some(Write::Update), false),
        (Ids::Key, MetadataFields::default(), None, true),
        (Ids::Key, MetadataFields::none(), None, false),
        (Ids::Key, MetadataFields::default(), Some(Write::Insert), false),
        (Ids::Random, MetadataFields::none(), None, true),
        (Ids::Random, MetadataFields::default(), Some(Write::Replace), false),
    ] {
        let made = MongoSink::new(client.clone(), reading(ids.clone(), meta), write, false);
        assert_eq!(made.is_ok(), fits, "{ids:?} {write:?}");
    }
}
