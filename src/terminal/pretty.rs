//! Records for people.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use serde::de::IgnoredAny;

use crate::record::RecordView;
use crate::shape;
use crate::terminal::escape::{escape_controls, escape_controls_json, escape_controls_text};
use crate::terminal::hex_dump::hex_dump;
use crate::terminal::json_layout::{self, JsonStyle};

/// The indentation of headers and values.
const MARGIN: usize = 2;

/// Formats records for people.
#[derive(Clone, Debug)]
pub(crate) struct PrettyPrinter {
    width: usize,
    place_style: Style,
    dim: Style,
    json_style: JsonStyle,
    zone: jiff::tz::TimeZone,
    binary_hint: &'static str,
}

impl PrettyPrinter {
    /// Returns a printer for a terminal of `width` columns; times are in `zone`. `binary_hint` is added where bytes are not text.
    #[must_use]
    pub(crate) fn new(width: usize, color: bool, zone: jiff::tz::TimeZone, binary_hint: &'static str) -> Self {
        let style = |style: Style| if color { style } else { Style::new() };
        Self {
            width: width.max(20),
            place_style: style(AnsiColor::Cyan.on_default().bold()),
            dim: style(Style::new().dimmed()),
            json_style: JsonStyle::new(color),
            zone,
            binary_hint,
        }
    }

    /// Appends the record: a line with its coordinates and time, then its headers and its value. Control characters are escaped.
    pub(crate) fn write(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(256);
        self.write_head(record, &mut text);
        self.write_value(record.value, &mut text);
        out.extend_from_slice(text.as_bytes());
    }

    /// Appends the record as a hex dump.
    pub(crate) fn dump(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        let quiet = self.dim;
        let mut text = String::with_capacity(256);
        self.write_place(record, &mut text);
        text.push('\n');
        let mut part = |name: &str, bytes: Option<&[u8]>| {
            let length = match bytes {
                None => "null".to_owned(),
                Some([_]) => "1 byte".to_owned(),
                Some(bytes) => format!("{} bytes", bytes.len()),
            };
            let _ = writeln!(text, "{:MARGIN$}{quiet}{name}: {length}{quiet:#}", "");
            hex_dump(bytes.unwrap_or_default(), MARGIN, &mut text);
        };
        part("key", record.key);
        record.headers.each(&mut |name, value| part(&format!("header {}", escape_controls(name)), value));
        part("value", record.value);
        out.extend_from_slice(text.as_bytes());
    }

    /// Appends the coordinates and the time.
    fn write_place(&self, record: &RecordView<'_>, text: &mut String) {
        let Self { place_style: place, dim: quiet, .. } = self;
        let topic = escape_controls(record.partition.topic.name());
        let _ = write!(text, "{place}{topic}/{}@{}{place:#}", record.partition.index, record.offset);
        if let Some(time) = record.timestamp {
            let _ = write!(text, "  {quiet}{}{quiet:#}", self.time(time));
        }
    }

    /// Returns a time in the printer's zone, to the millisecond.
    #[must_use]
    pub(crate) fn time(&self, time: i64) -> String {
        match jiff::Timestamp::from_millisecond(time) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            Err(_) => format!("{time} ms"),
        }
    }

    /// Appends the first line and the headers.
    fn write_head(&self, record: &RecordView<'_>, text: &mut String) {
        let quiet = self.dim;
        self.write_place(record, text);
        if let Some(key) = record.key {
            let _ = write!(text, "  {quiet}key{quiet:#} {}", self.one_line(key));
        }
        text.push('\n');
        record.headers.each(&mut |name, value| {
            let _ = write!(text, "{:MARGIN$}{quiet}{}:{quiet:#} ", "", escape_controls(name));
            match value {
                Some(value) => text.push_str(&self.one_line(value)),
                None => {
                    let _ = write!(text, "{quiet}null{quiet:#}");
                }
            }
            text.push('\n');
        });
    }

    fn one_line(&self, bytes: &[u8]) -> String {
        if bytes.is_empty() { format!("{0}(empty){0:#}", self.dim) } else { escape_controls(bytes).into_owned() }
    }

    fn write_value(&self, value: Option<&[u8]>, text: &mut String) {
        let quiet = self.dim;
        let remark = |remark: &str, text: &mut String| {
            let _ = writeln!(text, "{:MARGIN$}{quiet}({remark}){quiet:#}", "");
        };
        let Some(value) = value else { return remark("null", text) };
        if value.is_empty() {
            return remark("empty", text);
        }
        match std::str::from_utf8(value) {
            Ok(plain) if shape::is_walkable(plain) && serde_json::from_str::<IgnoredAny>(plain).is_ok() => {
                json_layout::lay_out(&escape_controls_json(plain), self.width, MARGIN, &self.json_style, text);
            }
            Ok(plain) => {
                for line in escape_controls_text(plain).lines() {
                    let _ = writeln!(text, "{:MARGIN$}{line}", "");
                }
            }
            Err(_) => {
                remark(&format!("{} bytes that are not text; {}", value.len(), self.binary_hint), text);
                for line in escape_controls(value).lines() {
                    let _ = writeln!(text, "{:MARGIN$}{line}", "");
                }
            }
        }
    }
}

/// Returns a time as ISO 8601 in UTC, to the millisecond.
#[must_use]
pub(crate) fn format_utc(time: i64) -> String {
    let known = jiff::Timestamp::from_millisecond(time);
    known.map_or_else(|_| time.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
