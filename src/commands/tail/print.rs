//! The forms in which records are written.

use crate::connectors::lines;
use crate::record::RecordRef;
use crate::terminal::{LineFormat, Pretty, Writing, harmless_json};

/// A form and its state.
pub(super) enum Printer {
    /// As a format says.
    Format(LineFormat, Writing),
    /// For a person.
    Pretty(Pretty),
    /// A JSON object a line.
    Ndjson,
}

impl Printer {
    /// Appends a record.
    pub(super) fn write(&mut self, record: &RecordRef<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Format(format, writing) => format.write(record, *writing, out),
            Self::Pretty(pretty) => pretty.write(record, out),
            Self::Ndjson => ndjson(record, out),
        }
    }
}

/// Appends the line; what could steer a terminal is escaped as JSON does, so that it means the same.
fn ndjson(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    lines::write(record, out);
    if out[start..].iter().all(|byte| *byte < 0x7f) {
        return;
    }
    let line = std::str::from_utf8(&out[start..]).expect("JSON is text");
    if let std::borrow::Cow::Owned(harmless) = harmless_json(line) {
        out.truncate(start);
        out.extend_from_slice(harmless.as_bytes());
    }
}
