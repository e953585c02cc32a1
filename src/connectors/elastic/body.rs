//! Bulk bodies: for each document a line that says what to do, and one with its source. Pure.
//!
//! A source is the payload's own text with the metadata in front of its end. It was validated as a whole, so that a line break
//! in it is space between tokens; as a blank it cannot begin a line of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::connectors::elastic::phrases::{Labels, Phrases, json};
use crate::connectors::elastic::verdict::Action;
use crate::document::{Document, Ids, Payload, Reading, Version, WRAPPED};
use crate::pipeline::Reason;
use crate::record::Record;

/// The longest id that the servers take, in bytes.
const LONGEST_ID: usize = 512;
/// The field with the time of a document.
const TIME: &str = "@timestamp";

/// How documents are put into bodies.
#[derive(Debug)]
pub struct Writing {
    pub(super) reading: Reading,
    /// What is done with a document that is not taken away.
    pub(super) action: Action,
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
pub(super) enum Guard {
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
pub struct Body {
    /// The lines.
    pub bytes: Vec<u8>,
    /// For each record what is to be done with its document, or why it is not sent.
    pub entries: Vec<Result<Action, Reason>>,
}

impl Writing {
    /// Returns how documents are written that `reading` reads: its first name is the index, and with `has_routing` the second is the
    /// routing. With `has_time` they get an `@timestamp`.
    #[must_use]
    pub fn new(reading: Reading, action: Action, has_routing: bool, has_time: bool) -> Self {
        let names_index = reading.namings()[0].template().constant().is_none();
        let labels = reading.meta().names().map(Labels::new);
        let reading = if has_time { reading.noticing(TIME) } else { reading };
        Self { reading, action, names_index, has_routing, has_time, labels }
    }

    /// Returns the body for a batch that is made at `now`, in milliseconds since the Unix epoch; `bytes` lends its memory.
    #[must_use]
    pub fn body(&self, batch: &[Record], now: i64, mut bytes: Vec<u8>) -> Body {
        bytes.clear();
        let (mut phrases, mut document) = (Phrases::at(now), Document::default());
        let entries = batch.iter().map(|record| self.add(record, &mut phrases, &mut document, &mut bytes)).collect();
        Body { bytes, entries }
    }

    /// Appends the lines of one record and returns what they do.
    fn add(&self, record: &Record, phrases: &mut Phrases, document: &mut Document, out: &mut Vec<u8>) -> Result<Action, Reason> {
        let payload = self.read(record, document)?;
        let action = if payload == Payload::Tombstone { Action::Delete } else { self.action };
        self.action_line(action, document, self.guard(document), out);
        if action != Action::Delete {
            self.source(record, &payload, document, phrases, out);
            out.push(b'\n');
        }
        Ok(action)
    }

    /// Returns the payload of a record, and puts the rest into `document`.
    pub(super) fn read<'r>(&self, record: &'r Record, document: &mut Document) -> Result<Payload<'r>, Reason> {
        let payload = self.reading.read(record, document)?;
        if document.id.len() > LONGEST_ID {
            let what = format!("the id has {} bytes, and the server takes {LONGEST_ID}", document.id.len());
            return Err(Reason::new("id_too_long", what).hint("--id offset makes short ones"));
        }
        if payload == Payload::Tombstone && !self.reading.ids().repeat() {
            return Err(Reason::new("tombstone", "the record has no value").hint("--on-tombstone skip leaves it out"));
        }
        if self.has_routing && document.names[1].is_empty() {
            return Err(Reason::new("empty_routing", "the routing is empty").hint("correct --routing"));
        }
        Ok(payload)
    }

    /// Returns what keeps a document from overwriting a newer one.
    fn guard(&self, document: &Document) -> Guard {
        match (document.version, self.reading.version()) {
            (Some(version), Some(Version::Offset)) => Guard::Above(version),
            // Several records can have one time or number: of those, the last one counts.
            (Some(version), _) => Guard::From(version),
            (None, _) => Guard::None,
        }
    }

    /// Appends the line that says what to do, as `{"create":{"_id":"user-login:3:42"}}`.
    pub(super) fn action_line(&self, action: Action, document: &Document, guard: Guard, out: &mut Vec<u8>) {
        out.extend_from_slice(match action {
            Action::Create => b"{\"create\":{",
            Action::Index => b"{\"index\":{",
            Action::Update => b"{\"update\":{",
            Action::Delete => b"{\"delete\":{",
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
            Guard::None => {}
            Guard::Above(version) => {
                member(out, "\"version\":", &version);
                member(out, "\"version_type\":", "external");
            }
            Guard::From(version) => {
                member(out, "\"version\":", &version);
                member(out, "\"version_type\":", "external_gte");
            }
            Guard::Place(sequence, term) => {
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
        payload: &Payload<'_>,
        document: &Document,
        phrases: &mut Phrases,
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        let begin = out.len();
        match payload {
            Payload::Object(text) => {
                let text = text.trim_ascii();
                let inner = &text[1..text.len() - 1];
                if !inner.trim_ascii().is_empty() {
                    splice(out, inner);
                }
            }
            Payload::Json(text) => {
                label(out, WRAPPED);
                splice(out, text.trim_ascii());
            }
            Payload::Text(text) => {
                label(out, WRAPPED);
                json(out, text);
            }
            Payload::Binary(bytes) => {
                label(out, WRAPPED);
                json(out, &BASE64.encode(bytes));
            }
            Payload::Tombstone => {}
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
            if self.action == Action::Update && matches!(self.reading.version(), Some(Version::Field(_))) {
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
#[path = "body_tests.rs"]
mod tests;
