//! Documents that are merged into older versions.
//!
//! Updates take no external version. The stored document is looked up first, its metadata shows whether it is older, and the write
//! requires that it has not changed in between.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::connectors::elastic::bulk_writer::ElasticBulkWriter;
use crate::connectors::elastic::lookup::{self, ElasticLookup, LOOKUP_SIZE};
use crate::connectors::elastic::metadata_json::MetadataJson;
use crate::connectors::elastic::request::{BulkFormat, WriteGuard};
use crate::connectors::elastic::response::{BulkAction, ItemVerdict};
use crate::connectors::elastic::target::{ElasticTarget, Op};
use crate::document::{
    Contradiction, Document, DocumentBatch, MetaNames, Owner, ParsedPayload, StoredMetadata, overtaken, version_field,
};
use crate::pipeline::{Outcome, Reason};

/// The records of one id: each waits for the one before it.
struct MergeQueue<'b> {
    stored: StoredDocument,
    /// The documents with their places in the batch.
    documents: VecDeque<(usize, Document<'b>)>,
}

#[derive(Debug)]
enum StoredDocument {
    Missing,
    Present {
        /// Its sequence number and primary term.
        place: (i64, i64),
        metadata: StoredMetadata,
    },
    /// The lookup failed with this outcome.
    Unknown(Outcome),
}

#[derive(Debug, PartialEq)]
enum MergeStep {
    Settled(Outcome),
    Send(BulkAction, WriteGuard),
}

/// Merges a batch and returns the outcomes of its good records, each with its place.
pub(super) async fn merge(
    target: &ElasticTarget,
    writer: &ElasticBulkWriter,
    lookup: &ElasticLookup,
    batch: &DocumentBatch<'_>,
    now: i64,
) -> Vec<(usize, Outcome)> {
    let names = target.format.mapper.meta().names().expect("a sink that merges has metadata");
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut queues = queues(batch);
    find(target, lookup, &mut queues, names).await;
    let mut metadata = MetadataJson::at(now);
    loop {
        let (mut bytes, mut sent, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        for (number, queue) in queues.iter_mut().enumerate() {
            while let Some((place, document)) = queue.documents.front() {
                match step(&target.format, target.op, document, &queue.stored, names) {
                    MergeStep::Settled(outcome) => {
                        outcomes.push((*place, outcome));
                        queue.documents.pop_front();
                    }
                    MergeStep::Send(action, guard) => {
                        write(&target.format, document, action, guard, &mut metadata, &mut bytes);
                        sent.push(number);
                        actions.push(action);
                        break;
                    }
                }
            }
        }
        if sent.is_empty() {
            return outcomes;
        }
        let items = match writer.send(bytes, &actions).await {
            Ok(items) => items,
            Err(outcome) => {
                let rest = queues.iter().flat_map(|queue| &queue.documents);
                outcomes.extend(rest.map(|(place, _)| (*place, outcome.clone())));
                return outcomes;
            }
        };
        for ((number, action), (verdict, stored_at)) in sent.into_iter().zip(actions).zip(items) {
            let queue = &mut queues[number];
            let (place, document) = queue.documents.pop_front().expect("a document that is sent is the first of its queue");
            let outcome = match verdict {
                ItemVerdict::Conflict { .. } => lookup.disagree(&document, Contradiction::Nothing),
                // It was looked up just now.
                ItemVerdict::Outcome(Outcome::Reject(reason))
                    if action == BulkAction::Update && reason.code() == "document_missing_exception" =>
                {
                    lookup.disagree(&document, Contradiction::Document)
                }
                ItemVerdict::Outcome(outcome) => {
                    lookup.agree(&document);
                    outcome
                }
            };
            queue.stored = match (&outcome, action, stored_at) {
                (Outcome::Delivered, BulkAction::Delete, _) => StoredDocument::Missing,
                (Outcome::Delivered, _, Some(place)) => StoredDocument::Present { place, metadata: written(&document) },
                // A rejected document changes nothing.
                (Outcome::Reject(_), ..) => std::mem::replace(&mut queue.stored, StoredDocument::Missing),
                // Behind a record that is sent again, the others of its id wait.
                _ => StoredDocument::Unknown(Outcome::Retry(overtaken())),
            };
            outcomes.push((place, outcome));
        }
    }
}

/// Returns the documents of each id, in order.
fn queues<'b>(batch: &'b DocumentBatch<'_>) -> Vec<MergeQueue<'b>> {
    let mut queues: Vec<MergeQueue<'b>> = Vec::new();
    let mut of_id: HashMap<(&str, [&str; 2]), usize> = HashMap::new();
    for (place, document) in batch.good() {
        let number = *of_id.entry((document.id, document.names)).or_insert(queues.len());
        if number == queues.len() {
            queues.push(MergeQueue { stored: StoredDocument::Missing, documents: VecDeque::new() });
        }
        queues[number].documents.push_back((place, document));
    }
    queues
}

/// Looks up the stored documents.
async fn find(target: &ElasticTarget, lookup: &ElasticLookup, queues: &mut [MergeQueue<'_>], names: &MetaNames) {
    let version = version_field(names, target.format.mapper.version());
    for queues in queues.chunks_mut(LOOKUP_SIZE) {
        let questions = queues.iter().map(|queue| lookup.question(&queue.documents[0].1, None)).collect();
        match lookup.find(questions).await {
            Ok(answers) => {
                queues.iter_mut().zip(answers).for_each(|(queue, answer)| queue.stored = stored(&answer, names, version));
            }
            Err(outcome) => queues.iter_mut().for_each(|queue| queue.stored = StoredDocument::Unknown(outcome.clone())),
        }
    }
}

fn write(
    format: &BulkFormat,
    document: &Document<'_>,
    action: BulkAction,
    guard: WriteGuard,
    metadata: &mut MetadataJson,
    out: &mut Vec<u8>,
) {
    format.action_line(action, document, guard, out);
    if action == BulkAction::Delete {
        return;
    }
    if action == BulkAction::Update {
        out.extend_from_slice(b"{\"doc\":");
    }
    format.source(document, metadata, out);
    out.extend_from_slice(if action == BulkAction::Update { b"}\n" } else { b"\n" });
}

fn stored(answer: &Value, names: &MetaNames, version: &str) -> StoredDocument {
    if let Some(error) = answer.get("error") {
        if error.get("type").is_some_and(|kind| kind == "index_not_found_exception") {
            return StoredDocument::Missing;
        }
        return StoredDocument::Unknown(lookup::lookup_failed(error));
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_i64);
    let found = answer.get("found").and_then(Value::as_bool);
    match (found, number("_seq_no").zip(number("_primary_term"))) {
        (Some(true), Some(place)) => {
            let source = answer.get("_source").unwrap_or(&Value::Null);
            StoredDocument::Present { place, metadata: lookup::stored_metadata(source, names, version) }
        }
        (Some(false), _) => StoredDocument::Missing,
        _ => StoredDocument::Unknown(lookup::not_looked_up(200)),
    }
}

fn step(format: &BulkFormat, op: Op, document: &Document<'_>, stored: &StoredDocument, names: &MetaNames) -> MergeStep {
    let deletes = *document.payload == ParsedPayload::Tombstone;
    match stored {
        StoredDocument::Unknown(outcome) => MergeStep::Settled(outcome.clone()),
        StoredDocument::Missing if deletes => MergeStep::Settled(Outcome::Delivered),
        StoredDocument::Missing if op == Op::Update => {
            let what = "there is no document with its id to update";
            MergeStep::Settled(Outcome::Reject(Reason::new("document_missing", what)))
        }
        StoredDocument::Missing => MergeStep::Send(BulkAction::Create, WriteGuard::None),
        StoredDocument::Present { place: (sequence, term), metadata } => match Owner::of(document, metadata) {
            Owner::Older => {
                let action = if deletes { BulkAction::Delete } else { BulkAction::Update };
                MergeStep::Send(action, WriteGuard::Unchanged(*sequence, *term))
            }
            owner => MergeStep::Settled(owner.outcome(document, Some(names), format.mapper.version())),
        },
    }
}

/// Returns the metadata of a document that was just written.
fn written(document: &Document<'_>) -> StoredMetadata {
    let record = document.record;
    StoredMetadata {
        topic: Some(record.partition.topic.name().to_owned()),
        partition: Some(record.partition.index.into()),
        offset: Some(record.offset),
        timestamp: record.timestamp,
        version: document.version,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
    use crate::record::{Partition, Record};

    fn step_of(version: Version, op: Op, value: Option<&'static str>, stored: &StoredDocument) -> MergeStep {
        let template = NameTemplate::new("i".parse().unwrap(), |_| Ok(()), 1).unwrap();
        let mapper = DocumentMapper::new(Ids::Key, version, MetadataFields::default(), RawValues::Bad, None, vec![template]);
        let format = BulkFormat::new(mapper, BulkAction::Update, false, true);
        let record = Record {
            partition: Partition::new("t", 2),
            offset: 10,
            timestamp: Some(500),
            key: Some(Bytes::from_static(b"k")),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        };
        let batch = format.parse(std::slice::from_ref(&record));
        step(&format, op, &batch.get(0).unwrap(), stored, format.mapper.meta().names().unwrap())
    }

    fn present(partition: i64, offset: i64, timestamp: i64, version: i64) -> StoredDocument {
        let metadata = StoredMetadata {
            topic: Some("t".to_owned()),
            partition: Some(partition),
            offset: Some(offset),
            timestamp: Some(timestamp),
            version: Some(version),
        };
        StoredDocument::Present { place: (7, 1), metadata }
    }

    #[test]
    fn a_missing_document_is_created_or_fails_an_update() {
        let of = |op, value| step_of(Version::Offset, op, value, &StoredDocument::Missing);
        assert_eq!(of(Op::Upsert, Some("{}")), MergeStep::Send(BulkAction::Create, WriteGuard::None));
        assert!(matches!(of(Op::Update, Some("{}")), MergeStep::Settled(Outcome::Reject(_))));
        assert_eq!(of(Op::Update, None), MergeStep::Settled(Outcome::Delivered));
        let unknown = StoredDocument::Unknown(Outcome::Retry(overtaken()));
        assert_eq!(step_of(Version::Offset, Op::Upsert, Some("{}"), &unknown), MergeStep::Settled(Outcome::Retry(overtaken())));
    }

    #[test]
    fn only_an_older_document_is_updated_by_a_merge() {
        let offset = |stored: &StoredDocument| step_of(Version::Offset, Op::Update, Some("{}"), stored);
        assert_eq!(offset(&present(2, 9, 600, 9)), MergeStep::Send(BulkAction::Update, WriteGuard::Unchanged(7, 1)));
        assert_eq!(offset(&present(2, 11, 400, 11)), MergeStep::Settled(Outcome::Superseded));
        assert_eq!(offset(&present(2, 10, 500, 10)), MergeStep::Settled(Outcome::AlreadyThere));
        assert_eq!(offset(&present(3, 10, 500, 10)), MergeStep::Settled(Outcome::Superseded));
        assert!(matches!(offset(&present(2, 10, 501, 10)), MergeStep::Settled(Outcome::Stop(reason)) if reason.is_refusal()));
        let unversioned = StoredDocument::Present { place: (7, 1), metadata: StoredMetadata::default() };
        assert!(matches!(offset(&unversioned), MergeStep::Settled(Outcome::Reject(_))));
        let time = |stored: &StoredDocument| step_of(Version::Timestamp, Op::Update, Some("{}"), stored);
        assert_eq!(time(&present(2, 99, 499, 499)), MergeStep::Send(BulkAction::Update, WriteGuard::Unchanged(7, 1)));
        assert_eq!(time(&present(2, 9, 501, 501)), MergeStep::Settled(Outcome::Superseded));
        let tombstone = step_of(Version::Offset, Op::Upsert, None, &present(2, 9, 1, 9));
        assert_eq!(tombstone, MergeStep::Send(BulkAction::Delete, WriteGuard::Unchanged(7, 1)));
    }

    #[test]
    fn an_answer_holds_the_stored_document() {
        let names = MetadataFields::default();
        let of = |answer: Value| stored(&answer, names.names().unwrap(), "_kafka_offset");
        let found = of(json!({"found": true, "_seq_no": 5, "_primary_term": 1, "_source": {"_kafka_offset": 3}}));
        assert!(matches!(found, StoredDocument::Present { place: (5, 1), metadata } if metadata.version == Some(3)));
        assert!(matches!(of(json!({"found": false})), StoredDocument::Missing));
        assert!(matches!(of(json!({"error": {"type": "index_not_found_exception"}})), StoredDocument::Missing));
        assert!(matches!(of(json!({"error": {"type": "other"}})), StoredDocument::Unknown(Outcome::Retry(_))));
        // A document that is there and cannot be read is not missing: an update would be a bad record, a delete would be lost.
        for unreadable in [json!({"found": true}), json!({"_id": "k"}), Value::Null] {
            assert!(matches!(of(unreadable), StoredDocument::Unknown(Outcome::Retry(_))));
        }
    }
}
