//! What it means that an id is taken: by our own earlier write, or by somebody else's. Pure.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use crate::connectors::elastic::metadata_json::MetadataJson;
use crate::connectors::elastic::reason::{clean, kind, text};
use crate::connectors::elastic::request::BulkFormat;
use crate::connectors::elastic::response::BulkAction;
use crate::document::{Document, MetaNames};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// Returns what is asked of a document that may be there.
pub(super) fn question(index: Option<&str>, document: &Document, has_routing: bool) -> Value {
    let mut question = Map::from_iter([("_id".to_owned(), json!(document.id))]);
    let index = index.or(document.names.first().map(String::as_str));
    question.extend(index.map(|index| ("_index".to_owned(), json!(index))));
    if has_routing {
        question.insert("routing".to_owned(), json!(document.names[1]));
    }
    Value::Object(question)
}

/// Returns what became of `record`, with which `action` was to be done, given the `answer` to who has its id.
pub(super) fn judge(writing: &BulkFormat, record: &Record, action: BulkAction, answer: &Value) -> Outcome {
    if let Some(error) = answer.get("error") {
        return unsaid(error);
    }
    if !is_found(answer) {
        return match action {
            // It was taken away by this very version.
            BulkAction::Delete => Outcome::AlreadyThere,
            _ => Outcome::Retry(Reason::new("conflict_is_gone", "what had the id was taken away meanwhile")),
        };
    }
    let stored = answer.get("_source").unwrap_or(&Value::Null);
    let has_version = writing.reading.version().is_some();
    let mut document = Document::default();
    let ours = writing.read(record, &mut document).ok().and(document.version);
    // What the record met may have been written over since.
    match answer.get("_version").and_then(Value::as_i64).zip(ours).map(|(theirs, ours)| theirs.cmp(&ours)) {
        Some(Ordering::Greater) => return Outcome::Superseded,
        Some(Ordering::Less) => return Outcome::Retry(Reason::new("conflict_is_gone", "what had the id was replaced meanwhile")),
        Some(Ordering::Equal) | None => {}
    }
    match writing.reading.meta().names() {
        None if action != BulkAction::Delete && is_what_we_write(writing, record, stored) => Outcome::AlreadyThere,
        None => Outcome::Stop(unlike(record, has_version)),
        // Of two writes of one version the first stays, unless they claim to be one and the same record.
        Some(names) if has_version && !is_of_same_place(record, stored, names) => Outcome::Superseded,
        Some(names) if action != BulkAction::Delete && is_of_same_time(record, stored, names) => Outcome::AlreadyThere,
        Some(names) => Outcome::Stop(foreign(record, stored, names, has_version)),
    }
}

/// Returns whether an answer says that there is a document.
pub(super) fn is_found(answer: &Value) -> bool {
    answer.get("found") == Some(&Value::Bool(true))
}

/// Returns what it means that the server does not say what is there.
pub(super) fn unsaid(error: &Value) -> Outcome {
    let said = clean(&text(error));
    match kind(error) {
        kind @ "security_exception" => {
            Outcome::Stop(Reason::new(kind, said).hint("grant the user or the key the right to read the index"))
        }
        // An alias of several indices, of which none is the one to look in.
        kind @ "illegal_argument_exception" => Outcome::Stop(Reason::new(kind, said).hint("name one index with --index")),
        _ => Outcome::Retry(Reason::new("not_looked_up", "the server does not say what has the id").detail(said)),
    }
}

/// Returns whether a document says that it comes from the partition of `record`.
pub(super) fn is_of_same_place(record: &Record, stored: &Value, names: &MetaNames) -> bool {
    stored.get(&names.topic).is_some_and(|topic| topic == record.partition.topic.name())
        && stored.get(&names.partition).and_then(Value::as_i64) == Some(record.partition.index.into())
}

/// Returns whether a document says that it has the timestamp of `record`.
pub(super) fn is_of_same_time(record: &Record, stored: &Value, names: &MetaNames) -> bool {
    // An index that keeps no sources makes them up from its mapping, where a date may be text.
    let number = |time: &Value| time.as_i64().or_else(|| time.as_str()?.parse().ok());
    stored
        .get(&names.timestamp)
        .is_some_and(|time| number(time) == record.timestamp && (time.is_null() == record.timestamp.is_none()))
}

/// Without metadata only the document itself can tell: it is ours if it is what we would write.
fn is_what_we_write(writing: &BulkFormat, record: &Record, stored: &Value) -> bool {
    let mut document = Document::default();
    let mut source = Vec::new();
    if let Ok(payload) = writing.read(record, &mut document) {
        writing.source(record, &payload, &document, &mut MetadataJson::default(), &mut source);
    }
    serde_json::from_slice::<Value>(&source).is_ok_and(|source| source == *stored)
}

fn unlike(record: &Record, has_version: bool) -> Reason {
    let what = format!("another document has the id of record {record}, and without metadata nobody can say whose it is");
    let hint = format!("leave --no-meta out, or {}, or name another index with --index", tell_apart(has_version));
    Reason::new("foreign_document", what).hint(hint).refusal()
}

/// Returns why a record stops the run whose place another one has; `has_version` says that its id can come again.
pub(super) fn foreign(record: &Record, stored: &Value, names: &MetaNames, has_version: bool) -> Reason {
    let what = if stored.get(&names.timestamp).is_some() {
        format!("the index has another topic's or cluster's record under the id of record {record}")
    } else {
        format!("the index has a document without `{}` under the id of record {record}", names.timestamp)
    };
    let hint = format!("{}, or name another index with --index", tell_apart(has_version));
    Reason::new("foreign_record", what).hint(hint).refusal()
}

fn tell_apart(has_version: bool) -> &'static str {
    if has_version { "let the later one win with --version timestamp" } else { "tell them apart with --id-prefix" }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
    use crate::record::Partition;

    fn writing(meta: MetadataFields) -> BulkFormat {
        let ids = Ids::Offset { prefix: String::new() };
        let naming = NameTemplate::new("logins".parse().unwrap(), |_| Ok(()), 1).unwrap();
        BulkFormat::new(
            DocumentMapper::new(ids, Version::Offset, meta, RawValues::Bad, None, vec![naming]),
            BulkAction::Create,
            false,
            false,
        )
    }

    fn record(timestamp: Option<i64>) -> Record {
        let value = Some(Bytes::from_static(b"{\"a\": 1}"));
        Record { partition: Partition::new("logins", 3), offset: 42, timestamp, key: None, value, headers: Vec::new() }
    }

    #[test]
    fn an_id_is_taken_by_ourselves_or_by_somebody_else() {
        let judge = |timestamp, answer: Value| {
            judge(&writing(MetadataFields::default()), &record(timestamp), BulkAction::Create, &answer)
        };
        let found = |time: Value| json!({"found": true, "_source": {"_kafka_timestamp": time}});
        assert_eq!(judge(Some(500), found(json!(500))), Outcome::AlreadyThere);
        assert_eq!(judge(Some(500), found(json!("500"))), Outcome::AlreadyThere);
        assert_eq!(judge(None, found(Value::Null)), Outcome::AlreadyThere);
        for answer in [
            found(json!(501)),
            found(json!("501")),
            found(Value::Null),
            json!({"found": true, "_source": {}}),
            json!({"found": true}),
        ] {
            let Outcome::Stop(reason) = judge(Some(500), answer.clone()) else { panic!("{answer} is foreign") };
            assert!(reason.is_refusal() && reason.hinted().unwrap().contains("--id-prefix"));
        }
        assert!(matches!(judge(Some(500), json!({"found": false})), Outcome::Retry(_)));
        assert!(matches!(judge(Some(500), json!({"error": {"type": "x"}})), Outcome::Retry(_)));
        let denied = judge(Some(500), json!({"error": {"type": "security_exception", "reason": "unauthorized"}}));
        assert!(matches!(denied, Outcome::Stop(reason) if reason.hinted().unwrap().contains("right to read")));
    }

    #[test]
    fn an_equal_version_is_ours_or_of_the_same_record_or_of_another_one() {
        let naming = NameTemplate::new("logins".parse().unwrap(), |_| Ok(()), 1).unwrap();
        let of = |meta| DocumentMapper::new(Ids::Key, Version::Offset, meta, RawValues::Bad, None, vec![naming]);
        let writing = BulkFormat::new(of(MetadataFields::default()), BulkAction::Index, false, false);
        let at = |partition: i32, version: i64, time: i64| {
            let source = json!({"_kafka_topic": "logins", "_kafka_partition": partition, "_kafka_timestamp": time});
            json!({"found": true, "_version": version, "_source": source})
        };
        let stored = |partition, time| at(partition, 42, time);
        let keyed = Record { key: Some(Bytes::from_static(b"k")), ..record(Some(500)) };
        let judge = |action, answer: Value| judge(&writing, &keyed, action, &answer);
        assert_eq!(judge(BulkAction::Index, stored(3, 500)), Outcome::AlreadyThere);
        assert_eq!(judge(BulkAction::Index, stored(4, 501)), Outcome::Superseded);
        assert!(matches!(judge(BulkAction::Index, stored(3, 501)), Outcome::Stop(reason) if reason.is_refusal()));
        assert!(matches!(judge(BulkAction::Delete, stored(3, 500)), Outcome::Stop(reason) if reason.is_refusal()));
        // Between the conflict and the look, a newer one came.
        assert_eq!(judge(BulkAction::Index, at(3, 43, 501)), Outcome::Superseded);
        assert_eq!(judge(BulkAction::Delete, at(3, 43, 501)), Outcome::Superseded);
        assert!(matches!(judge(BulkAction::Index, at(3, 41, 501)), Outcome::Retry(_)));
        assert_eq!(judge(BulkAction::Delete, json!({"found": false})), Outcome::AlreadyThere);
        assert!(matches!(judge(BulkAction::Index, json!({"found": false})), Outcome::Retry(_)));
    }

    #[test]
    fn without_metadata_an_equal_version_is_ours_if_it_is_what_we_would_write() {
        let naming = NameTemplate::new("logins".parse().unwrap(), |_| Ok(()), 1).unwrap();
        let reading = DocumentMapper::new(Ids::Key, Version::Offset, MetadataFields::none(), RawValues::Bad, None, vec![naming]);
        let writing = BulkFormat::new(reading, BulkAction::Index, false, false);
        let keyed = Record { key: Some(Bytes::from_static(b"k")), ..record(Some(500)) };
        let judge = |action, version, source: Value| {
            judge(&writing, &keyed, action, &json!({"found": true, "_version": version, "_source": source}))
        };
        assert_eq!(judge(BulkAction::Index, 42, json!({"a": 1})), Outcome::AlreadyThere);
        assert_eq!(judge(BulkAction::Index, 43, json!({"a": 2})), Outcome::Superseded);
        let Outcome::Stop(reason) = judge(BulkAction::Index, 42, json!({"a": 2})) else { panic!("it is foreign") };
        assert!(reason.hinted().unwrap().contains("--version timestamp"), "--id-prefix is for ids of offsets");
        assert!(matches!(judge(BulkAction::Delete, 42, json!({"a": 1})), Outcome::Stop(_)));
    }

    #[test]
    fn without_metadata_a_document_is_ours_if_it_is_what_we_would_write() {
        let judge = |source: Value| {
            judge(
                &writing(MetadataFields::none()),
                &record(Some(500)),
                BulkAction::Create,
                &json!({"found": true, "_source": source}),
            )
        };
        assert_eq!(judge(json!({"a": 1})), Outcome::AlreadyThere);
        for other in [json!({"a": 2}), json!({"a": 1, "b": 1}), Value::Null] {
            assert!(matches!(judge(other), Outcome::Stop(reason) if reason.is_refusal()));
        }
    }

    #[test]
    fn a_document_is_asked_for_where_it_was_met() {
        let names = vec!["alias".to_owned(), "r".to_owned()];
        let document = Document { id: "k".to_owned(), names, ..Document::default() };
        assert_eq!(question(Some(".ds-1"), &document, true), json!({"_id": "k", "_index": ".ds-1", "routing": "r"}));
        assert_eq!(question(None, &document, false), json!({"_id": "k", "_index": "alias"}));
    }
}
