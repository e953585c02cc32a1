//! A record as a person likes to see it.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use serde::de::IgnoredAny;

use crate::record::RecordView;
use crate::terminal::dump::dump;
use crate::terminal::json::{self, JsonStyle};
use crate::terminal::{escape_controls, escape_controls_json, escape_controls_text};

/// How far a value stands below its record's first line.
const MARGIN: usize = 2;

/// How records are shown to a person.
#[derive(Clone, Debug)]
pub struct Pretty {
    width: usize,
    place: Style,
    quiet: Style,
    look: JsonStyle,
    zone: jiff::tz::TimeZone,
}

impl Pretty {
    /// Returns the form for a terminal that is so many columns wide; times are told in `zone`.
    #[must_use]
    pub fn new(width: usize, color: bool, zone: jiff::tz::TimeZone) -> Self {
        let style = |style: Style| if color { style } else { Style::new() };
        Self {
            width: width.max(20),
            place: style(AnsiColor::Cyan.on_default().bold()),
            quiet: style(Style::new().dimmed()),
            look: JsonStyle::new(color),
            zone,
        }
    }

    /// Appends the record: a line that says where and when, then its headers and its value. Nothing of it can steer a terminal.
    pub fn write(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        let mut text = String::with_capacity(256);
        self.head(record, &mut text);
        self.value(record.value, &mut text);
        out.extend_from_slice(text.as_bytes());
    }

    /// Appends the record with its bytes as offset, hex and ASCII.
    pub fn dump(&self, record: &RecordView<'_>, out: &mut Vec<u8>) {
        let quiet = self.quiet;
        let mut text = String::with_capacity(256);
        self.place(record, &mut text);
        text.push('\n');
        let mut part = |name: &str, bytes: Option<&[u8]>| {
            let length = match bytes {
                None => "null".to_owned(),
                Some([_]) => "1 byte".to_owned(),
                Some(bytes) => format!("{} bytes", bytes.len()),
            };
            let _ = writeln!(text, "{:MARGIN$}{quiet}{name}: {length}{quiet:#}", "");
            dump(bytes.unwrap_or_default(), MARGIN, &mut text);
        };
        part("key", record.key);
        record.headers.each(&mut |name, value| part(&format!("header {}", escape_controls(name)), value));
        part("value", record.value);
        out.extend_from_slice(text.as_bytes());
    }

    /// Appends where and when.
    fn place(&self, record: &RecordView<'_>, text: &mut String) {
        let Self { place, quiet, .. } = self;
        let topic = escape_controls(record.partition.topic.name());
        let _ = write!(text, "{place}{topic}/{}@{}{place:#}", record.partition.index, record.offset);
        if let Some(time) = record.timestamp {
            let _ = write!(text, "  {quiet}{}{quiet:#}", self.time(time));
        }
    }

    /// Returns a time in the form's zone, to the millisecond.
    #[must_use]
    pub fn time(&self, time: i64) -> String {
        match jiff::Timestamp::from_millisecond(time) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            Err(_) => format!("{time} ms"),
        }
    }

    /// Appends the line that says where and when, and the headers.
    fn head(&self, record: &RecordView<'_>, text: &mut String) {
        let quiet = self.quiet;
        self.place(record, text);
        if let Some(key) = record.key {
            let _ = write!(text, "  {quiet}key{quiet:#} {}", self.short(key));
        }
        text.push('\n');
        record.headers.each(&mut |name, value| {
            let _ = write!(text, "{:MARGIN$}{quiet}{}:{quiet:#} ", "", escape_controls(name));
            match value {
                Some(value) => text.push_str(&self.short(value)),
                None => {
                    let _ = write!(text, "{quiet}null{quiet:#}");
                }
            }
            text.push('\n');
        });
    }

    fn short(&self, bytes: &[u8]) -> String {
        if bytes.is_empty() { format!("{0}(empty){0:#}", self.quiet) } else { escape_controls(bytes).into_owned() }
    }

    fn value(&self, value: Option<&[u8]>, text: &mut String) {
        let quiet = self.quiet;
        let remark = |remark: &str, text: &mut String| {
            let _ = writeln!(text, "{:MARGIN$}{quiet}({remark}){quiet:#}", "");
        };
        let Some(value) = value else { return remark("null", text) };
        if value.is_empty() {
            return remark("empty", text);
        }
        match std::str::from_utf8(value) {
            Ok(plain) if serde_json::from_str::<IgnoredAny>(plain).is_ok() => {
                json::lay_out(&escape_controls_json(plain), self.width, MARGIN, &self.look, text);
            }
            Ok(plain) => {
                for line in escape_controls_text(plain).lines() {
                    let _ = writeln!(text, "{:MARGIN$}{line}", "");
                }
            }
            Err(_) => {
                remark(&format!("{} bytes that are not text; --hex shows them", value.len()), text);
                for line in escape_controls(value).lines() {
                    let _ = writeln!(text, "{:MARGIN$}{line}", "");
                }
            }
        }
    }
}

/// Returns a time as ISO 8601 in UTC, to the millisecond.
#[must_use]
pub fn utc(time: i64) -> String {
    let known = jiff::Timestamp::from_millisecond(time);
    known.map_or_else(|_| time.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
