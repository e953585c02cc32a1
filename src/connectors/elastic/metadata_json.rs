//! Metadata fields as JSON text, made once for many documents. Pure.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::document::MetaNames;
use crate::record::{Partition, Record};

/// The names of metadata fields with the comma in front and the colon behind.
#[derive(Debug)]
pub(super) struct Labels {
    pub(super) key: String,
    pub(super) key_base64: String,
    topic: String,
    partition: String,
    offset: String,
    pub(super) timestamp: String,
    processed_at: String,
    pub(super) version: String,
}

impl Labels {
    pub(super) fn new(names: &MetaNames) -> Self {
        let label = |name: &str| {
            let mut label = vec![b','];
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

/// Text that the next document probably shares with the last one.
#[derive(Debug, Default)]
pub(super) struct MetadataJson {
    /// The time of processing, in milliseconds since the Unix epoch.
    now: i64,
    /// The field with that time; empty until it is needed.
    processed_at: Vec<u8>,
    /// The partition in `coordinates`, whose text ends before the number of an offset.
    partition: Option<Partition>,
    coordinates: Vec<u8>,
    /// The minute in `to_the_minute`, since the Unix epoch.
    minute: Option<i64>,
    to_the_minute: String,
}

impl MetadataJson {
    /// Returns the metadata of documents that are processed at `now`, in milliseconds since the Unix epoch.
    pub(super) fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Appends the coordinates of a record, as `,"_kafka_topic":"logins","_kafka_partition":3,"_kafka_offset":42`.
    pub(super) fn coordinates(&mut self, labels: &Labels, record: &Record, out: &mut Vec<u8>) {
        if self.partition != Some(record.partition) {
            self.partition = Some(record.partition);
            self.coordinates.clear();
            self.coordinates.extend_from_slice(labels.topic.as_bytes());
            json(&mut self.coordinates, record.partition.topic.name());
            self.coordinates.extend_from_slice(labels.partition.as_bytes());
            json(&mut self.coordinates, &record.partition.index);
            self.coordinates.extend_from_slice(labels.offset.as_bytes());
        }
        out.extend_from_slice(&self.coordinates);
        json(out, &record.offset);
    }

    /// Appends the time of processing, as `,"_processed_at":"2023-09-12T00:45:51.000Z"`.
    pub(super) fn processed_at(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        if self.processed_at.is_empty() {
            let mut text = labels.processed_at.clone().into_bytes();
            text.push(b'"');
            self.time(self.now, &mut text);
            text.push(b'"');
            self.processed_at = text;
        }
        out.extend_from_slice(&self.processed_at);
    }

    /// Appends a time in milliseconds since the Unix epoch as ISO 8601, without quotes; returns false if it is out of range.
    pub(super) fn time(&mut self, milliseconds: i64, out: &mut Vec<u8>) -> bool {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        const MINUTE: i64 = 60_000;
        let minute = milliseconds.div_euclid(MINUTE);
        if self.minute != Some(minute) {
            self.minute = None;
            self.to_the_minute.clear();
            let Ok(begun) = Timestamp::from_millisecond(minute.saturating_mul(MINUTE)) else { return false };
            if PRINTER.print_timestamp(&begun, &mut self.to_the_minute).is_err() {
                return false;
            }
            let seconds = "00.000Z".len();
            self.to_the_minute.truncate(self.to_the_minute.len() - seconds);
            self.minute = Some(minute);
        }
        let past = milliseconds.rem_euclid(MINUTE);
        let digit = |of: i64| b'0' + u8::try_from(past / of % 10).expect("a digit");
        out.extend_from_slice(self.to_the_minute.as_bytes());
        out.extend_from_slice(&[digit(10_000), digit(1000), b'.', digit(100), digit(10), digit(1), b'Z']);
        true
    }
}

/// Appends a value as JSON.
pub(super) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("text and numbers are JSON, and memory takes them");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(metadata: &mut MetadataJson, milliseconds: i64) -> Option<String> {
        let mut out = Vec::new();
        metadata.time(milliseconds, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    proptest! {
        #[test]
        fn a_written_time_is_read_back_after_any_other(times in prop::collection::vec(-62_135_596_800_000..253_402_207_200_000_i64, 1..5), near in 0..100_000_i64) {
            let mut metadata = MetadataJson::default();
            for time in times.into_iter().flat_map(|time| [time, time - near, time + near]) {
                let written = text(&mut metadata, time);
                prop_assert_eq!(written.map(|text| (text.len() >= 24, text.parse::<Timestamp>().unwrap().as_millisecond())), Some((true, time)));
            }
        }
    }

    #[test]
    fn a_time_out_of_range_is_not_written() {
        let mut metadata = MetadataJson::default();
        assert_eq!(text(&mut metadata, 0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(text(&mut metadata, i64::MAX), None);
        assert_eq!(text(&mut metadata, i64::MIN), None);
        assert_eq!(text(&mut metadata, -1).as_deref(), Some("1969-12-31T23:59:59.999Z"));
    }
}
