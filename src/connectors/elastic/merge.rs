//! Documents that are merged into older versions.
//!
//! The servers keep no version of ours for such writes. So a document is looked at first, its metadata tells whether it is the
//! older one, and it is written only if nobody came in between.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use crate::connectors::elastic::concurrency::Permit;
use crate::connectors::elastic::conflict;
use crate::connectors::elastic::conflict_lookup::LOOKED_UP;
use crate::connectors::elastic::metadata_json::MetadataJson;
use crate::connectors::elastic::request::{BulkFormat, WriteGuard};
use crate::connectors::elastic::response::{BulkAction, ItemVerdict};
use crate::connectors::elastic::sink::{BulkWriter, Op, now};
use crate::document::{Document, MetaNames, ParsedPayload, Version};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// A record that is to be merged.
struct PendingMerge<'r> {
    at: usize,
    record: &'r Record,
    payload: ParsedPayload<'r>,
    document: Document,
}

/// The records of one id: each waits for the one before it.
struct MergeQueue<'r> {
    there: StoredDocument,
    entries: VecDeque<PendingMerge<'r>>,
}

/// What has an id.
#[derive(Debug)]
enum StoredDocument {
    Nothing,
    Something {
        /// Its sequence number and primary term.
        place: (i64, i64),
        /// Its metadata.
        stored: Value,
    },
    /// The server did not say.
    Unknown(Outcome),
}

/// What comes next for a record.
#[derive(Debug, PartialEq)]
enum MergeStep {
    Settled(Outcome),
    Send(BulkAction, WriteGuard),
}

impl BulkWriter {
    /// Merges a batch and returns what became of each record.
    pub(super) async fn merge(&self, batch: &[Record], permit: &Permit) -> Vec<Outcome> {
        let names = self.writing.reading.meta().names().expect("a sink that merges has metadata");
        let mut outcomes: Vec<Outcome> = vec![Outcome::Delivered; batch.len()];
        let mut lines = self.lines(batch, &mut outcomes);
        self.look(&mut lines, names).await;
        let mut phrases = MetadataJson::at(now());
        loop {
            let (mut bytes, mut sent, mut actions) = (Vec::new(), Vec::new(), Vec::new());
            for (number, line) in lines.iter_mut().enumerate() {
                while let Some(entry) = line.entries.front() {
                    match step(&self.writing, self.op, entry, &line.there, names) {
                        MergeStep::Settled(outcome) => {
                            outcomes[entry.at] = outcome;
                            line.entries.pop_front();
                        }
                        MergeStep::Send(action, guard) => {
                            self.add(entry, action, guard, &mut phrases, &mut bytes);
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
            let mut said = Vec::with_capacity(sent.len());
            let answered = self.bulk(bytes, &actions, permit, |item, verdict| said.push((verdict, item.place))).await;
            if let Err(outcome) = answered {
                for entry in lines.iter().flat_map(|line| &line.entries) {
                    outcomes[entry.at] = outcome.clone();
                }
                return outcomes;
            }
            for ((number, action), (verdict, place)) in sent.into_iter().zip(actions).zip(said) {
                let line = &mut lines[number];
                let entry = line.entries.pop_front().expect("what was sent is first in its line");
                let outcome = match verdict {
                    ItemVerdict::Outcome(outcome) => outcome,
                    ItemVerdict::Unknown(reason) => self.patience().judge(entry.record, reason),
                    ItemVerdict::Taken { .. } => Outcome::Retry(overtaken()),
                };
                line.there = match (&outcome, action, place) {
                    (Outcome::Delivered, BulkAction::Delete, _) => StoredDocument::Nothing,
                    (Outcome::Delivered, _, Some(place)) => StoredDocument::Something { place, stored: as_stored(&entry, names) },
                    // What the server does not take changes nothing.
                    (Outcome::Reject(_), ..) => std::mem::replace(&mut line.there, StoredDocument::Nothing),
                    // Behind a record that is sent again, the others of its id wait.
                    _ => StoredDocument::Unknown(Outcome::Retry(overtaken())),
                };
                outcomes[entry.at] = outcome;
            }
        }
    }

    /// Returns the records of each id; what is bad in itself is settled.
    fn lines<'r>(&self, batch: &'r [Record], outcomes: &mut [Outcome]) -> Vec<MergeQueue<'r>> {
        let mut lines: Vec<MergeQueue<'r>> = Vec::new();
        let mut of_id: HashMap<(String, Vec<String>), usize> = HashMap::new();
        for (at, record) in batch.iter().enumerate() {
            let mut document = Document::default();
            match self.writing.read(record, &mut document) {
                Err(reason) => outcomes[at] = Outcome::Reject(reason),
                Ok(payload) => {
                    let number = *of_id.entry((document.id.clone(), document.names.clone())).or_insert(lines.len());
                    if number == lines.len() {
                        lines.push(MergeQueue { there: StoredDocument::Nothing, entries: VecDeque::new() });
                    }
                    lines[number].entries.push_back(PendingMerge { at, record, payload, document });
                }
            }
        }
        lines
    }

    /// Looks at what is there.
    async fn look(&self, lines: &mut [MergeQueue<'_>], names: &MetaNames) {
        let fields =
            [&names.topic, &names.partition, &names.offset, &names.timestamp, &names.version].map(String::as_str).join(",");
        for lines in lines.chunks_mut(LOOKED_UP) {
            let question = |line: &MergeQueue<'_>| conflict::question(None, &line.entries[0].document, self.writing.has_routing);
            let questions: Vec<Value> = lines.iter().map(question).collect();
            match self.find(&questions, Some(&fields)).await {
                Ok(answers) => lines.iter_mut().zip(answers).for_each(|(line, answer)| line.there = there(answer)),
                Err(outcome) => lines.iter_mut().for_each(|line| line.there = StoredDocument::Unknown(outcome.clone())),
            }
        }
    }

    fn add(
        &self,
        entry: &PendingMerge<'_>,
        action: BulkAction,
        guard: WriteGuard,
        phrases: &mut MetadataJson,
        out: &mut Vec<u8>,
    ) {
        self.writing.action_line(action, &entry.document, guard, out);
        if action == BulkAction::Delete {
            return;
        }
        if action == BulkAction::Update {
            out.extend_from_slice(b"{\"doc\":");
        }
        self.writing.source(entry.record, &entry.payload, &entry.document, phrases, out);
        out.extend_from_slice(if action == BulkAction::Update { b"}\n" } else { b"\n" });
    }
}

/// Returns what an answer to a question says is there.
fn there(mut answer: Value) -> StoredDocument {
    if let Some(error) = answer.get("error") {
        if error.get("type").is_some_and(|kind| kind == "index_not_found_exception") {
            return StoredDocument::Nothing;
        }
        return StoredDocument::Unknown(conflict::unsaid(error));
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_i64);
    match (answer.get("found").and_then(Value::as_bool), number("_seq_no").zip(number("_primary_term"))) {
        (Some(true), Some(place)) => {
            StoredDocument::Something { place, stored: answer.get_mut("_source").map(Value::take).unwrap_or_default() }
        }
        _ => StoredDocument::Nothing,
    }
}

fn step(writing: &BulkFormat, op: Op, entry: &PendingMerge<'_>, there: &StoredDocument, names: &MetaNames) -> MergeStep {
    let deletes = entry.payload == ParsedPayload::Tombstone;
    match there {
        StoredDocument::Unknown(outcome) => MergeStep::Settled(outcome.clone()),
        StoredDocument::Nothing if deletes => MergeStep::Settled(Outcome::Delivered),
        StoredDocument::Nothing if op == Op::Update => {
            let what = "there is no document with its id that could be updated";
            MergeStep::Settled(Outcome::Reject(Reason::new("document_missing", what).hint("--op upsert makes it then")))
        }
        StoredDocument::Nothing => MergeStep::Send(BulkAction::Create, WriteGuard::None),
        StoredDocument::Something { place, stored } => match settled(writing, entry, stored, names) {
            Some(outcome) => MergeStep::Settled(outcome),
            None => MergeStep::Send(
                if deletes { BulkAction::Delete } else { BulkAction::Update },
                WriteGuard::Place(place.0, place.1),
            ),
        },
    }
}

/// Returns what became of a record whose document is not the newer one.
fn settled(writing: &BulkFormat, entry: &PendingMerge<'_>, stored: &Value, names: &MetaNames) -> Option<Outcome> {
    let PendingMerge { record, document, .. } = entry;
    let number = |name: &str| stored.get(name).and_then(Value::as_i64);
    let field = match writing.reading.version() {
        Some(Version::Timestamp) => &names.timestamp,
        Some(Version::Field(_)) => &names.version,
        _ => &names.offset,
    };
    let Some(theirs) = number(field) else {
        let what = format!("a document without `{field}` has the id already, so nobody can say which is the newer one");
        let hint = format!("to have such documents merged into, set their `{field}` to -1");
        return Some(Outcome::Reject(Reason::new("document_without_version", what).hint(hint)));
    };
    let ours = document.version.expect("what is merged has a version");
    let same_place = conflict::is_of_same_place(record, stored, names);
    match (theirs, number(&names.offset).unwrap_or(0)).cmp(&(ours, record.offset)) {
        Ordering::Less => None,
        Ordering::Equal if same_place && conflict::is_of_same_time(record, stored, names) => Some(Outcome::AlreadyThere),
        Ordering::Equal if same_place => Some(Outcome::Stop(conflict::foreign(record, stored, names, true))),
        Ordering::Equal | Ordering::Greater => Some(Outcome::Superseded),
    }
}

/// Returns the metadata of a document that was just written.
fn as_stored(entry: &PendingMerge<'_>, names: &MetaNames) -> Value {
    let Record { partition, offset, timestamp, .. } = entry.record;
    json!({
        &names.topic: partition.topic.name(),
        &names.partition: partition.index,
        &names.offset: offset,
        &names.timestamp: timestamp,
        &names.version: entry.document.version,
    })
}

fn overtaken() -> Reason {
    Reason::new("overtaken", "another write of the same id came in between")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues};
    use crate::record::Partition;

    fn step_of(version: Version, op: Op, value: Option<&'static str>, there: &StoredDocument) -> MergeStep {
        let naming = NameTemplate::new("i".parse().unwrap(), |_| Ok(()), 1).unwrap();
        let reading = DocumentMapper::new(Ids::Key, version, MetadataFields::default(), RawValues::Bad, None, vec![naming]);
        let writing = BulkFormat::new(reading, BulkAction::Update, false, true);
        let record = Record {
            partition: Partition::new("t", 2),
            offset: 10,
            timestamp: Some(500),
            key: Some(Bytes::from_static(b"k")),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        };
        let mut document = Document::default();
        let payload = writing.read(&record, &mut document).unwrap();
        let entry = PendingMerge { at: 0, record: &record, payload, document };
        step(&writing, op, &entry, there, writing.reading.meta().names().unwrap())
    }

    fn something(partition: i32, offset: i64, timestamp: i64) -> StoredDocument {
        let stored =
            json!({"_kafka_topic": "t", "_kafka_partition": partition, "_kafka_offset": offset, "_kafka_timestamp": timestamp});
        StoredDocument::Something { place: (7, 1), stored }
    }

    #[test]
    fn what_is_not_there_is_made_or_missed() {
        let of = |op, value| step_of(Version::Offset, op, value, &StoredDocument::Nothing);
        assert_eq!(of(Op::Upsert, Some("{}")), MergeStep::Send(BulkAction::Create, WriteGuard::None));
        assert!(matches!(of(Op::Update, Some("{}")), MergeStep::Settled(Outcome::Reject(_))));
        assert_eq!(of(Op::Update, None), MergeStep::Settled(Outcome::Delivered));
        let unknown = StoredDocument::Unknown(Outcome::Retry(overtaken()));
        assert_eq!(step_of(Version::Offset, Op::Upsert, Some("{}"), &unknown), MergeStep::Settled(Outcome::Retry(overtaken())));
    }

    #[test]
    fn only_an_older_document_is_merged_into() {
        let offset = |there: &StoredDocument| step_of(Version::Offset, Op::Update, Some("{}"), there);
        assert_eq!(offset(&something(2, 9, 600)), MergeStep::Send(BulkAction::Update, WriteGuard::Place(7, 1)));
        assert_eq!(offset(&something(2, 11, 400)), MergeStep::Settled(Outcome::Superseded));
        assert_eq!(offset(&something(2, 10, 500)), MergeStep::Settled(Outcome::AlreadyThere));
        assert_eq!(offset(&something(3, 10, 500)), MergeStep::Settled(Outcome::Superseded));
        assert!(matches!(offset(&something(2, 10, 501)), MergeStep::Settled(Outcome::Stop(reason)) if reason.is_refusal()));
        let nobodys = StoredDocument::Something { place: (7, 1), stored: json!({}) };
        assert!(matches!(offset(&nobodys), MergeStep::Settled(Outcome::Reject(_))));
        let time = |there: &StoredDocument| step_of(Version::Timestamp, Op::Update, Some("{}"), there);
        assert_eq!(time(&something(2, 99, 499)), MergeStep::Send(BulkAction::Update, WriteGuard::Place(7, 1)));
        assert_eq!(time(&something(2, 9, 501)), MergeStep::Settled(Outcome::Superseded));
        let tombstone = step_of(Version::Offset, Op::Upsert, None, &something(2, 9, 1));
        assert_eq!(tombstone, MergeStep::Send(BulkAction::Delete, WriteGuard::Place(7, 1)));
    }

    #[test]
    fn an_answer_says_what_is_there() {
        let found = there(json!({"found": true, "_seq_no": 5, "_primary_term": 1, "_source": {"a": 1}}));
        assert!(matches!(found, StoredDocument::Something { place: (5, 1), stored } if stored == json!({"a": 1})));
        assert!(matches!(there(json!({"found": false})), StoredDocument::Nothing));
        assert!(matches!(there(json!({"error": {"type": "index_not_found_exception"}})), StoredDocument::Nothing));
        assert!(matches!(there(json!({"error": {"type": "other"}})), StoredDocument::Unknown(Outcome::Retry(_))));
    }
}
