//! The forms in which records are written.

use std::borrow::Cow;

use crate::connectors::ndjson;
use crate::record::RecordView;
use crate::shape::SelectedFields;
use crate::terminal::{
    ByteEncoding, LineFormat, PrettyPrinter, StreamingTable, escape_controls, escape_controls_json, format_utc,
};

/// A form and its state.
pub(super) enum Printer {
    /// As a format says.
    Format(LineFormat, ByteEncoding),
    /// For a person.
    Pretty(PrettyPrinter),
    /// For a person who wants to see every byte.
    Dump(PrettyPrinter),
    /// A JSON object a line.
    Ndjson,
    /// A row each.
    Table(Columns, StreamingTable, PrettyPrinter),
    /// A line each with commas and quotes; the names stand above the first.
    Csv { columns: Columns, writing: ByteEncoding, begun: bool },
}

/// What stands in a row besides its place and time: fields of the value, or without any the whole value.
pub(super) struct Columns(pub(super) Option<SelectedFields>);

impl Columns {
    /// Returns the names of the last columns.
    fn names(&self) -> Vec<String> {
        match &self.0 {
            Some(fields) => fields.names().collect(),
            None => vec!["key".to_owned(), "value".to_owned()],
        }
    }

    /// Returns what stands in the last columns.
    fn of(&self, record: &RecordView<'_>, writing: ByteEncoding) -> Vec<Option<Vec<u8>>> {
        let written = |text: &[u8]| match writing {
            ByteEncoding::Escaped => escape_controls(text).into_owned().into_bytes(),
            ByteEncoding::Raw | ByteEncoding::Base64 => text.to_vec(),
        };
        match &self.0 {
            Some(fields) => {
                fields.values(record.value).into_iter().map(|cell| cell.map(|cell| written(cell.as_bytes()))).collect()
            }
            None => vec![record.key.map(written), record.value.map(written)],
        }
    }
}

impl Printer {
    /// Returns a table for people.
    pub(super) fn table(columns: Columns, pretty: PrettyPrinter) -> Self {
        let place = [("partition", false), ("offset", true), ("time", false)].map(|(name, right)| (name.to_owned(), right));
        let rows = StreamingTable::new(place.into_iter().chain(columns.names().into_iter().map(|name| (name, false))));
        Self::Table(columns, rows, pretty)
    }

    /// Appends a record.
    pub(super) fn write(&mut self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Format(format, writing) => format.write(record, *writing, out),
            Self::Pretty(pretty) => pretty.write(record, out),
            Self::Dump(pretty) => pretty.dump(record, out),
            Self::Ndjson => ndjson(record, out),
            Self::Table(columns, rows, pretty) => {
                let place = [
                    Some(record.partition.to_string()),
                    Some(record.offset.to_string()),
                    record.timestamp.map(|time| pretty.time(time)),
                ];
                let cells = columns.of(record, ByteEncoding::Escaped);
                let text = |cell: Vec<u8>| String::from_utf8_lossy(&cell).into_owned();
                rows.push(place.into_iter().chain(cells.into_iter().map(|cell| cell.map(text))), out);
            }
            Self::Csv { columns, writing, begun } => {
                let place = ["topic", "partition", "offset", "timestamp"];
                if !std::mem::replace(begun, true) {
                    let names = place.iter().map(|name| Some(name.as_bytes().to_vec()));
                    csv(names.chain(columns.names().into_iter().map(|name| Some(name.into_bytes()))), out);
                }
                let place = [
                    Some(record.partition.topic.name().to_owned()),
                    Some(record.partition.index.to_string()),
                    Some(record.offset.to_string()),
                    record.timestamp.map(format_utc),
                ];
                csv(place.into_iter().map(|cell| cell.map(String::into_bytes)).chain(columns.of(record, *writing)), out);
            }
        }
    }

    /// Appends what was kept back: nothing more comes for now.
    pub(super) fn settle(&mut self, out: &mut Vec<u8>) {
        if let Self::Table(_, rows, _) = self {
            rows.flush(out);
        }
    }
}

/// Appends the line; what could steer a terminal is escaped as JSON does, so that it means the same.
fn ndjson(record: &RecordView<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    ndjson::write(record, out);
    if out[start..].iter().all(|byte| *byte < 0x7f) {
        return;
    }
    let line = std::str::from_utf8(&out[start..]).expect("JSON is text");
    if let Cow::Owned(escaped) = escape_controls_json(line) {
        out.truncate(start);
        out.extend_from_slice(escaped.as_bytes());
    }
}

/// Appends a line as RFC 4180 has it; what is not there is empty.
fn csv(cells: impl Iterator<Item = Option<Vec<u8>>>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let cell = cell.unwrap_or_default();
        if cell.iter().any(|byte| b"\",\r\n".contains(byte)) {
            out.push(b'"');
            for byte in cell {
                out.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(&cell);
        }
    }
    out.extend_from_slice(b"\r\n");
}
