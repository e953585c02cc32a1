//! Bulk bodies: for each document a line that says what to do, and one with its source. Pure.
//!
//! A source is the payload's own text with the metadata in front of its end. It was validated as a whole, so that a line break
//! in it is space between tokens; as a blank it cannot begin a line of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::connectors::elastic::metadata_json::{Labels, MetadataJson, json};
use crate::connectors::elastic::response::BulkAction;
use crate::document::{Document, DocumentMapper, Ids, ParsedPayload, Version, WRAPPED};
use crate::pipeline::Reason;
use crate::record::Record;

/// The longest id that the servers take, in bytes.
const LONGEST_ID: usize = 512;
/// The field with the time of a document.
const TIME: &str = "@timestamp";

/// How documents are put into bodies.
#[derive(Debug)]
pub struct BulkFormat {
    pub(super) reading: DocumentMapper,
    /// What is done with a document that is not taken away.
    pub(super) action: BulkAction,
    /// Whether each line names the index; else the request does.
    names_index: bool,
    /// Whether there is a second name, the routing.
    pub(super) has_routing: bool,
    /// Whether documents get a time.
    has_time: bool,
    labels: Option<Labels>,
}

/// What guards a document that may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteGuard {
    /// Nothing.
    None,
    /// A version, which has to be above the one that is there.
    Above(i64),
    /// A version, which has to be the one that is there or above.
    From(i64),
    /// The sequence number and primary term that the document was found with.
    Place(i64, i64),
}

/// A body, and what became of each record.
#[derive(Debug, Default)]
pub struct BulkRequest {
    /// The lines.
    pub bytes: Vec<u8>,
    /// For each record what is to be done with its document, or why it is not sent.
    pub entries: Vec<Result<BulkAction, Reason>>,
}

impl BulkFormat {
    /// Returns how documents are written that `reading` reads: its first name is the index, and with `has_routing` the second is the
    /// routing. With `has_time` they get an `@timestamp`.
    #[must_use]
    pub fn new(reading: DocumentMapper, action: BulkAction, has_routing: bool, has_time: bool) -> Self {
        let names_index = reading.namings()[0].template().constant().is_none();
        let labels = reading.meta().names().map(Labels::new);
        let reading = if has_time { reading.detect_field(TIME) } else { reading };
        Self { reading, action, names_index, has_routing, has_time, labels }
    }

    /// Returns the body for a batch that is made at `now`, in milliseconds since the Unix epoch; `bytes` lends its memory.
    #[must_use]
    pub fn body(&self, batch: &[Record], now: i64, mut bytes: Vec<u8>) -> BulkRequest {
        bytes.clear();
        let (mut phrases, mut document) = (MetadataJson::at(now), Document::default());
        let entries = batch.iter().map(|record| self.add(record, &mut phrases, &mut document, &mut bytes)).collect();
        BulkRequest { bytes, entries }
    }

    /// Appends the lines of one record and returns what they do.
    fn add(
        &self,
        record: &Record,
        phrases: &mut MetadataJson,
        document: &mut Document,
        out: &mut Vec<u8>,
    ) -> Result<BulkAction, Reason> {
        let payload = self.read(record, document)?;
        let action = if payload == ParsedPayload::Tombstone { BulkAction::Delete } else { self.action };
        self.action_line(action, document, self.guard(document), out);
        if action != BulkAction::Delete {
            self.source(record, &payload, document, phrases, out);
            out.push(b'\n');
        }
        Ok(action)
    }

    /// Returns the payload of a record, and puts the rest into `document`.
    pub(super) fn read<'r>(&self, record: &'r Record, document: &mut Document) -> Result<ParsedPayload<'r>, Reason> {
        let payload = self.reading.read(record, document)?;
        if document.id.len() > LONGEST_ID {
            let what = format!("the id has {} bytes, and the server takes {LONGEST_ID}", document.id.len());
            return Err(Reason::new("id_too_long", what).hint("--id offset makes short ones"));
        }
        if payload == ParsedPayload::Tombstone && !self.reading.ids().repeat() {
            return Err(Reason::new("tombstone", "the record has no value").hint("--on-tombstone skip leaves it out"));
        }
        if self.has_routing && document.names[1].is_empty() {
            return Err(Reason::new("empty_routing", "the routing is empty").hint("correct --routing"));
        }
        Ok(payload)
    }

    /// Returns what keeps a document from overwriting a newer one.
    fn guard(&self, document: &Document) -> WriteGuard {
        match (document.version, self.reading.version()) {
            (Some(version), Some(Version::Offset)) => WriteGuard::Above(version),
            // Several records can have one time or number: of those, the last one counts.
            (Some(version), _) => WriteGuard::From(version),
            (None, _) => WriteGuard::None,
        }
    }

    /// Appends the line that says what to do, as `{"create":{"_id":"user-login:3:42"}}`.
    pub(super) fn action_line(&self, action: BulkAction, document: &Document, guard: WriteGuard, out: &mut Vec<u8>) {
        out.extend_from_slice(match action {
            BulkAction::Create => b"{\"create\":{",
            BulkAction::Index => b"{\"index\":{",
            BulkAction::Update => b"{\"update\":{",
            BulkAction::Delete => b"{\"delete\":{",
        });
        if *self.reading.ids() != Ids::Random {
            member(out, "\"_id\":", &document.id);
        }
        if self.names_index {
            member(out, "\"_index\":", &document.names[0]);
        }
        if self.has_routing {
            member(out, "\"routing\":", &document.names[1]);
        }
        match guard {
            WriteGuard::None => {}
            WriteGuard::Above(version) => {
                member(out, "\"version\":", &version);
                member(out, "\"version_type\":", "external");
            }
            WriteGuard::From(version) => {
                member(out, "\"version\":", &version);
                member(out, "\"version_type\":", "external_gte");
            }
            WriteGuard::Place(sequence, term) => {
                member(out, "\"if_seq_no\":", &sequence);
                member(out, "\"if_primary_term\":", &term);
            }
        }
        out.extend_from_slice(b"}}\n");
    }

    /// Appends the source of a document, without a line break.
    pub(super) fn source(
        &self,
        record: &Record,
        payload: &ParsedPayload<'_>,
        document: &Document,
        phrases: &mut MetadataJson,
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        let begin = out.len();
        match payload {
            ParsedPayload::Object(text) => {
                let text = text.trim_ascii();
                let inner = &text[1..text.len() - 1];
                if !inner.trim_ascii().is_empty() {
                    splice(out, inner);
                }
            }
            ParsedPayload::Json(text) => {
                label(out, WRAPPED);
                splice(out, text.trim_ascii());
            }
            ParsedPayload::Text(text) => {
                label(out, WRAPPED);
                json(out, text);
            }
            ParsedPayload::Binary(bytes) => {
                label(out, WRAPPED);
                json(out, &BASE64.encode(bytes));
            }
            ParsedPayload::Tombstone => {}
        }
        let end = out.len();
        if self.has_time
            && !document.noticed
            && let Some(at) = document.time
        {
            let before = out.len();
            out.extend_from_slice(b",\"@timestamp\":\"");
            if phrases.time(at, out) {
                out.push(b'"');
            } else {
                out.truncate(before);
            }
        }
        if let Some(labels) = &self.labels {
            match record.key.as_deref().map(|key| std::str::from_utf8(key).map_err(|_| key)) {
                None => {
                    out.extend_from_slice(labels.key.as_bytes());
                    out.extend_from_slice(b"null");
                }
                Some(Ok(key)) => {
                    out.extend_from_slice(labels.key.as_bytes());
                    json(out, key);
                }
                Some(Err(key)) => {
                    out.extend_from_slice(labels.key_base64.as_bytes());
                    json(out, &BASE64.encode(key));
                }
            }
            phrases.place(labels, record, out);
            out.extend_from_slice(labels.timestamp.as_bytes());
            json(out, &record.timestamp);
            phrases.processed_at(labels, out);
            // A merged document has no version of ours outside its source.
            if self.action == BulkAction::Update && matches!(self.reading.version(), Some(Version::Field(_))) {
                out.extend_from_slice(labels.version.as_bytes());
                json(out, &document.version);
            }
        }
        if begin == end && out.len() > end {
            out.remove(end); // the comma in front of the first field
        }
        out.push(b'}');
    }
}

fn label(out: &mut Vec<u8>, name: &str) {
    json(out, name);
    out.push(b':');
}

/// Appends a member of an action line; each but the first stands behind a comma.
fn member<T: Serialize + ?Sized>(out: &mut Vec<u8>, label: &str, value: &T) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(label.as_bytes());
    json(out, value);
}

/// Appends JSON text on one line.
fn splice(out: &mut Vec<u8>, text: &str) {
    let begin = out.len();
    out.extend_from_slice(text.as_bytes());
    // Within strings there is none: JSON has it escaped there.
    for byte in &mut out[begin..] {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
