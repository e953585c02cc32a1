//! Bulk bodies: for each document a line with the action, and one with its source. Pure.
//!
//! A source is the payload's own text with the metadata in front of its end. The payload was validated as a whole: a line break in it
//! is space between tokens, and as a blank it cannot begin a line of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value;

use crate::connectors::elastic::metadata_json::{Labels, MetadataJson, json};
use crate::connectors::elastic::response::BulkAction;
use crate::document::{Document, DocumentBatch, DocumentMapper, Ids, ParsedPayload, Version, WRAPPED};
use crate::pipeline::Reason;
use crate::record::Record;

/// The longest id that the servers accept, in bytes.
const MAX_ID_BYTES: usize = 512;
/// The field with the time of a document.
pub(super) const TIME_FIELD: &str = "@timestamp";

/// How documents are written into bodies.
#[derive(Debug)]
pub struct BulkFormat {
    pub(super) mapper: DocumentMapper,
    /// The action for a document that is not deleted.
    pub(super) action: BulkAction,
    /// Whether each line names the index; else the request does.
    names_index: bool,
    /// Whether the second name is the routing.
    pub(super) has_routing: bool,
    /// Whether documents get an `@timestamp`.
    pub(super) has_time: bool,
    labels: Option<Labels>,
}

/// The condition of a write over a stored document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteGuard {
    None,
    /// This version has to be above the stored one.
    Above(i64),
    /// This version has to be the stored one or above.
    From(i64),
    /// The stored document still has this sequence number and primary term.
    Unchanged(i64, i64),
}

impl BulkFormat {
    /// Returns how documents are written: their first name is the index, and with `has_routing` the second is the routing. With
    /// `has_time` they get an `@timestamp`.
    #[must_use]
    pub fn new(mapper: DocumentMapper, action: BulkAction, has_routing: bool, has_time: bool) -> Self {
        let names_index = mapper.templates()[0].pattern().constant().is_none();
        let labels = mapper.meta().names().map(Labels::new);
        let mapper = if has_time { mapper.detect_field(TIME_FIELD) } else { mapper };
        Self { mapper, action, names_index, has_routing, has_time, labels }
    }

    /// Returns the body for a batch that is processed at `now`, in milliseconds since the Unix epoch; `buffer` lends its memory.
    #[must_use]
    pub fn body(&self, batch: &[Record], now: i64, buffer: Vec<u8>) -> Vec<u8> {
        self.lines(&self.parse(batch), now, buffer)
    }

    pub(super) fn lines(&self, batch: &DocumentBatch<'_>, now: i64, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.clear();
        let mut metadata = MetadataJson::at(now);
        for (_, document) in batch.good() {
            let action = self.action(&document);
            self.action_line(action, &document, self.guard(&document), &mut buffer);
            if action != BulkAction::Delete {
                self.source(&document, &mut metadata, &mut buffer);
                buffer.push(b'\n');
            }
        }
        buffer
    }

    /// Returns the documents of `batch`; those that the server would reject with their neighbours are bad.
    pub(super) fn parse<'r>(&self, batch: &'r [Record]) -> DocumentBatch<'r> {
        self.mapper.read_batch(batch, |document| {
            if document.id.len() > MAX_ID_BYTES {
                let what = format!("the id has {} bytes, and the server accepts {MAX_ID_BYTES}", document.id.len());
                return Err(Reason::new("id_too_long", what));
            }
            if *document.payload == ParsedPayload::Tombstone && !self.mapper.ids().can_repeat() {
                return Err(Reason::new("tombstone", "the record has no value"));
            }
            if self.has_routing && document.names[1].is_empty() {
                return Err(Reason::new("empty_routing", "the routing is empty"));
            }
            Ok(())
        })
    }

    pub(super) fn action(&self, document: &Document<'_>) -> BulkAction {
        if *document.payload == ParsedPayload::Tombstone { BulkAction::Delete } else { self.action }
    }

    /// Returns whether the stored `source` is the one that `document` makes.
    pub(super) fn is_source(&self, document: &Document<'_>, source: &Value) -> bool {
        let mut ours = Vec::new();
        self.source(document, &mut MetadataJson::default(), &mut ours);
        serde_json::from_slice::<Value>(&ours).is_ok_and(|ours| ours == *source)
    }

    /// Returns whether the stored `source` has the fields of the payload of `document`.
    pub(super) fn has_payload(document: &Document<'_>, source: &Value) -> bool {
        let (text, wrapped) = match document.payload {
            ParsedPayload::Object(text) => (text.as_ref(), false),
            ParsedPayload::Json(text) => (*text, true),
            ParsedPayload::Text(_) | ParsedPayload::Binary(_) | ParsedPayload::Tombstone => return true,
        };
        // A number or a depth that cannot be compared proves nothing.
        match serde_json::from_str::<Value>(text) {
            Ok(value) if wrapped => source.get(WRAPPED) == Some(&value),
            Ok(Value::Object(fields)) => fields.iter().all(|(name, value)| source.get(name) == Some(value)),
            _ => true,
        }
    }

    /// Returns the guard that keeps a document from overwriting a newer one.
    fn guard(&self, document: &Document<'_>) -> WriteGuard {
        match (document.version, self.mapper.version()) {
            (Some(version), Some(Version::Offset)) => WriteGuard::Above(version),
            // Several records can have one time or number: the last of them counts.
            (Some(version), _) => WriteGuard::From(version),
            (None, _) => WriteGuard::None,
        }
    }

    /// Appends the line with the action, as `{"create":{"_id":"user-login:3:42"}}`.
    pub(super) fn action_line(&self, action: BulkAction, document: &Document<'_>, guard: WriteGuard, out: &mut Vec<u8>) {
        out.extend_from_slice(match action {
            BulkAction::Create => b"{\"create\":{",
            BulkAction::Index => b"{\"index\":{",
            BulkAction::Update => b"{\"update\":{",
            BulkAction::Delete => b"{\"delete\":{",
        });
        if *self.mapper.ids() != Ids::Random {
            member(out, "\"_id\":", document.id);
        }
        if self.names_index {
            member(out, "\"_index\":", document.names[0]);
        }
        if self.has_routing {
            member(out, "\"routing\":", document.names[1]);
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
            WriteGuard::Unchanged(sequence, term) => {
                member(out, "\"if_seq_no\":", &sequence);
                member(out, "\"if_primary_term\":", &term);
            }
        }
        out.extend_from_slice(b"}}\n");
    }

    /// Appends the source of a document, without a line break.
    pub(super) fn source(&self, document: &Document<'_>, metadata: &mut MetadataJson, out: &mut Vec<u8>) {
        let Document { record, payload, .. } = document;
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
            && !document.has_field
            && let Some(at) = document.time
        {
            let before = out.len();
            out.extend_from_slice(b",\"@timestamp\":\"");
            if metadata.time(at, out) {
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
            metadata.coordinates(labels, record, out);
            out.extend_from_slice(labels.timestamp.as_bytes());
            json(out, &record.timestamp);
            metadata.processed_at(labels, out);
            // A merged document has no version of ours outside its source.
            if self.action == BulkAction::Update && matches!(self.mapper.version(), Some(Version::Field(_))) {
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

/// Appends a member of an action line.
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
    // In a string, JSON has it escaped.
    for byte in &mut out[begin..] {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
