//! Bulk bodies: for each document a line that says what to do, and one with its source. Pure.
//!
//! A source is the payload's own text with the metadata in front of its end. It was validated as a whole, so that a line break
//! in it is space between tokens; as a blank it cannot begin a line of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::connectors::elastic::verdict::Action;
use crate::document::{Document, Ids, MetaNames, Payload, Reading, Version, WRAPPED};
use crate::pipeline::Reason;
use crate::record::Record;
use crate::shape;

/// The longest id that the servers take, in bytes.
const LONGEST_ID: usize = 512;
/// The field with the time of a document.
pub(super) const TIME: &str = "@timestamp";

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

/// The names of metadata fields as they stand in JSON, colon and all.
#[derive(Debug)]
struct Labels {
    key: String,
    key_base64: String,
    topic: String,
    partition: String,
    offset: String,
    timestamp: String,
    processed_at: String,
    version: String,
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
        Self { reading, action, names_index, has_routing, has_time, labels }
    }

    /// Returns the body for a batch that is made at `now`, in milliseconds since the Unix epoch; `bytes` lends its memory.
    #[must_use]
    pub fn body(&self, batch: &[Record], now: i64, mut bytes: Vec<u8>) -> Body {
        bytes.clear();
        let now = self.labels.as_ref().and_then(|_| time(now)).unwrap_or_default();
        let mut document = Document::default();
        let entries = batch.iter().map(|record| self.add(record, &now, &mut document, &mut bytes)).collect();
        Body { bytes, entries }
    }

    /// Appends the lines of one record and returns what they do.
    fn add(&self, record: &Record, now: &str, document: &mut Document, out: &mut Vec<u8>) -> Result<Action, Reason> {
        let payload = self.read(record, document)?;
        let action = if payload == Payload::Tombstone { Action::Delete } else { self.action };
        self.action_line(action, document, self.guard(document), out);
        if action != Action::Delete {
            self.source(record, &payload, document, now, out);
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
    pub(super) fn source(&self, record: &Record, payload: &Payload<'_>, document: &Document, now: &str, out: &mut Vec<u8>) {
        let begin = out.len();
        out.push(b'{');
        let mut own_time = false;
        match payload {
            Payload::Object(text) => {
                let text = text.trim_ascii();
                let inner = &text[1..text.len() - 1];
                own_time = self.has_time && has_time(text);
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
        let next = |out: &mut Vec<u8>, label: &str| {
            if out.len() > begin + 1 {
                out.push(b',');
            }
            out.extend_from_slice(label.as_bytes());
        };
        if self.has_time
            && !own_time
            && let Some(at) = document.time.and_then(time)
        {
            next(out, "\"@timestamp\":");
            json(out, &at);
        }
        if let Some(labels) = &self.labels {
            match record.key.as_deref().map(std::str::from_utf8) {
                None => {
                    next(out, &labels.key);
                    out.extend_from_slice(b"null");
                }
                Some(Ok(key)) => {
                    next(out, &labels.key);
                    json(out, key);
                }
                Some(Err(_)) => {
                    next(out, &labels.key_base64);
                    json(out, &BASE64.encode(record.key.as_deref().unwrap_or_default()));
                }
            }
            next(out, &labels.topic);
            json(out, record.partition.topic.name());
            next(out, &labels.partition);
            json(out, &record.partition.index);
            next(out, &labels.offset);
            json(out, &record.offset);
            next(out, &labels.timestamp);
            json(out, &record.timestamp);
            next(out, &labels.processed_at);
            json(out, now);
            // A merged document has no version of ours outside its source.
            if self.action == Action::Update && matches!(self.reading.version(), Some(Version::Field(_))) {
                next(out, &labels.version);
                json(out, &document.version);
            }
        }
        out.push(b'}');
    }
}

impl Labels {
    fn new(names: &MetaNames) -> Self {
        let label = |name: &str| {
            let mut label = Vec::new();
            json(&mut label, name);
            label.push(b':');
            String::from_utf8(label).expect("JSON is UTF-8")
        };
        Self {
            key: label(&names.key),
            key_base64: label(&names.key_base64),
            topic: label(&names.topic),
            partition: label(&names.partition),
            offset: label(&names.offset),
            timestamp: label(&names.timestamp),
            processed_at: label(&names.processed_at),
            version: label(&names.version),
        }
    }
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("text and numbers are JSON, and memory takes them");
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

/// Returns whether the payload says its time itself.
fn has_time(text: &str) -> bool {
    text.contains(TIME) && shape::inside(text, &[TIME.to_owned()]).is_some()
}

/// Returns a time in milliseconds since the Unix epoch as ISO 8601.
pub(super) fn time(milliseconds: i64) -> Option<String> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    let time = Timestamp::from_millisecond(milliseconds).ok()?;
    let mut text = String::with_capacity(24);
    PRINTER.print_timestamp(&time, &mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
