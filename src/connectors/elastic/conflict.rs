//! What it means that an id is taken: by our own earlier write, or by somebody else's. Pure.

use serde_json::{Map, Value, json};

use crate::connectors::elastic::body::Writing;
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

/// Returns what became of `record`, given the `answer` to who has its id.
pub(super) fn judge(writing: &Writing, record: &Record, answer: &Value) -> Outcome {
    if answer.get("error").is_some() {
        return Outcome::Retry(Reason::new("conflict_not_looked_up", "the server does not say what has the id"));
    }
    if answer.get("found") != Some(&Value::Bool(true)) {
        return Outcome::Retry(Reason::new("conflict_is_gone", "what had the id was taken away meanwhile"));
    }
    let stored = answer.get("_source").unwrap_or(&Value::Null);
    let Some(names) = writing.reading.meta().names() else { return compare(writing, record, stored) };
    let ours = stored.get(&names.timestamp).is_some_and(|time| time.as_i64() == record.timestamp);
    if ours { Outcome::AlreadyThere } else { Outcome::Stop(foreign(record, stored, names)) }
}

/// Without metadata only the document itself can tell: it is ours if it is what we would write.
fn compare(writing: &Writing, record: &Record, stored: &Value) -> Outcome {
    let mut document = Document::default();
    let mut source = Vec::new();
    if let Ok(payload) = writing.read(record, &mut document) {
        writing.source(record, &payload, &document, "", &mut source);
    }
    if serde_json::from_slice::<Value>(&source).is_ok_and(|source| source == *stored) {
        return Outcome::AlreadyThere;
    }
    let what = format!("another document has the id of record {record}, and without metadata nobody can say whose it is");
    let hint = "leave --no-meta out, or tell the ids apart with --id-prefix, or name another index with --index";
    Outcome::Stop(Reason::new("foreign_document", what).hint(hint).refusal())
}

pub(super) fn foreign(record: &Record, stored: &Value, names: &MetaNames) -> Reason {
    let what = if stored.get(&names.timestamp).is_some() {
        format!("the index has another topic's or cluster's record under the id of record {record}")
    } else {
        format!("the index has a document without `{}` under the id of record {record}", names.timestamp)
    };
    Reason::new("foreign_record", what).hint("tell them apart with --id-prefix, or name another index with --index").refusal()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::connectors::elastic::verdict::Action;
    use crate::document::{Ids, Meta, Naming, RawValues, Reading, Version};
    use crate::record::Partition;

    fn writing(meta: Meta) -> Writing {
        let ids = Ids::Offset { prefix: String::new() };
        let naming = Naming::new("logins".parse().unwrap(), |_| Ok(()), 1).unwrap();
        Writing::new(Reading::new(ids, Version::Offset, meta, RawValues::Bad, None, vec![naming]), Action::Create, false, false)
    }

    fn record(timestamp: Option<i64>) -> Record {
        let value = Some(Bytes::from_static(b"{\"a\": 1}"));
        Record { partition: Partition::new("logins", 3), offset: 42, timestamp, key: None, value, headers: Vec::new() }
    }

    #[test]
    fn an_id_is_taken_by_ourselves_or_by_somebody_else() {
        let judge = |timestamp, answer: Value| judge(&writing(Meta::default()), &record(timestamp), &answer);
        let found = |time: Value| json!({"found": true, "_source": {"_kafka_timestamp": time}});
        assert_eq!(judge(Some(500), found(json!(500))), Outcome::AlreadyThere);
        assert_eq!(judge(None, found(Value::Null)), Outcome::AlreadyThere);
        for answer in [
            found(json!(501)),
            found(json!("500")),
            found(Value::Null),
            json!({"found": true, "_source": {}}),
            json!({"found": true}),
        ] {
            let Outcome::Stop(reason) = judge(Some(500), answer.clone()) else { panic!("{answer} is foreign") };
            assert!(reason.is_refusal() && reason.hinted().unwrap().contains("--id-prefix"));
        }
        assert!(matches!(judge(Some(500), json!({"found": false})), Outcome::Retry(_)));
        assert!(matches!(judge(Some(500), json!({"error": {"type": "x"}})), Outcome::Retry(_)));
    }

    #[test]
    fn without_metadata_a_document_is_ours_if_it_is_what_we_would_write() {
        let judge = |source: Value| judge(&writing(Meta::none()), &record(Some(500)), &json!({"found": true, "_source": source}));
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
