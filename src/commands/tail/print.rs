//! The output formats.

use std::borrow::Cow;

use crate::connectors::ndjson;
use crate::record::RecordView;
use crate::shape::SelectedFields;
use crate::terminal::{
    ByteEncoding, LineFormat, PrettyPrinter, StreamingTable, escape_controls, escape_controls_json, format_utc,
};

/// An output format and its state.
pub(super) enum Printer {
    Format(LineFormat, ByteEncoding),
    Pretty(PrettyPrinter),
    /// A hex dump.
    Dump(PrettyPrinter),
    Ndjson,
    Table(Columns, StreamingTable, PrettyPrinter),
    Csv {
        columns: Columns,
        encoding: ByteEncoding,
        header_written: bool,
    },
}

/// The columns after partition, offset and time: fields of the value, or else key and value.
pub(super) struct Columns(pub(super) Option<SelectedFields>);

impl Columns {
    fn names(&self) -> Vec<String> {
        match &self.0 {
            Some(fields) => fields.names().collect(),
            None => vec!["key".to_owned(), "value".to_owned()],
        }
    }

    fn cells(&self, record: &RecordView<'_>, encoding: ByteEncoding) -> Vec<Option<Vec<u8>>> {
        let written = |text: &[u8]| match encoding {
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
    pub(super) fn table(columns: Columns, pretty: PrettyPrinter) -> Self {
        let place = [("partition", false), ("offset", true), ("time", false)].map(|(name, right)| (name.to_owned(), right));
        let rows = StreamingTable::new(place.into_iter().chain(columns.names().into_iter().map(|name| (name, false))));
        Self::Table(columns, rows, pretty)
    }

    pub(super) fn write(&mut self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Format(format, encoding) => format.write(record, *encoding, out),
            Self::Pretty(pretty) => pretty.write(record, out),
            Self::Dump(pretty) => pretty.dump(record, out),
            Self::Ndjson => ndjson(record, out),
            Self::Table(columns, rows, pretty) => {
                let place = [
                    Some(record.partition.to_string()),
                    Some(record.offset.to_string()),
                    record.timestamp.map(|time| pretty.time(time)),
                ];
                let cells = columns.cells(record, ByteEncoding::Escaped);
                let text = |cell: Vec<u8>| String::from_utf8_lossy(&cell).into_owned();
                rows.push(place.into_iter().chain(cells.into_iter().map(|cell| cell.map(text))), out);
            }
            Self::Csv { columns, encoding, header_written } => {
                let place = ["topic", "partition", "offset", "timestamp"];
                if !std::mem::replace(header_written, true) {
                    let names = place.iter().map(|name| Some(name.as_bytes().to_vec()));
                    csv(names.chain(columns.names().into_iter().map(|name| Some(name.into_bytes()))), out);
                }
                let place = [
                    Some(record.partition.topic.name().to_owned()),
                    Some(record.partition.index.to_string()),
                    Some(record.offset.to_string()),
                    record.timestamp.map(format_utc),
                ];
                csv(place.into_iter().map(|cell| cell.map(String::into_bytes)).chain(columns.cells(record, *encoding)), out);
            }
        }
    }

    /// Appends rows that were held back to align columns: no more records for now.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Self::Table(_, rows, _) = self {
            rows.flush(out);
        }
    }
}

/// Appends the line. Control characters are escaped as JSON escapes them, which keeps the meaning.
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

/// Appends a line of RFC 4180; null is empty.
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
