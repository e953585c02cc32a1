//! What a topic accepts, known before a record is sent.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use crate::connectors::kafka::sink::refusals::timestamp_hint;
use crate::pipeline::Reason;
use crate::record::{Record, Topic};

/// How far the clocks of this machine and of a broker may differ, in milliseconds, for a timestamp to be refused unsent.
const CLOCK_SKEW: i64 = 600_000;

/// What the brokers accept in a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// `max.message.bytes`; None where the broker does not tell.
    pub max_message_bytes: Option<usize>,
    /// Whether the topic is compacted, and refuses records without a key.
    pub needs_key: bool,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`: how far a timestamp may lie before and after the
    /// broker's time. None where the broker sets the timestamp, or does not tell.
    pub timestamps: Option<(i64, i64)>,
}

/// The limits of the target topics; topics are added while a run lasts.
pub type Targets = Arc<RwLock<HashMap<Topic, TopicLimits>>>;

/// Returns why a record can not be written as it is. It must be known before it is sent: a refusal holds up everything behind it, and
/// librdkafka changes some records without an error.
pub(super) fn unwritable(record: &Record, topic: Topic, limits: TopicLimits, keep_timestamps: bool, now: i64) -> Option<Reason> {
    let size = batch_size(record);
    if let Some(limit) = limits.max_message_bytes.filter(|limit| size > *limit) {
        let message = format!("the record has {size} bytes as a batch, above the {limit} of topic `{topic}`");
        return Some(Reason::new("record_too_large", message).hint(format!("raise `max.message.bytes` of `{topic}`")));
    }
    let replaced = "which librdkafka replaces by the current time";
    match record.timestamp {
        Some(0) => {
            Some(Reason::new("timestamp_zero", format!("the timestamp of the record is 0 (1970-01-01T00:00:00Z), {replaced}")))
        }
        None if keep_timestamps => {
            Some(Reason::new("timestamp_missing", format!("the record has no timestamp (-1), {replaced}")))
        }
        Some(time) if limits.timestamps.is_some_and(|limits| is_out_of_range(time, limits, now)) => {
            let message = format!("topic `{topic}` does not accept the timestamp of the record ({time} ms since 1970)");
            Some(Reason::new("timestamp_refused", message).hint(timestamp_hint(topic)))
        }
        _ if limits.needs_key && record.key.is_none() => {
            Some(Reason::new("key_missing", format!("the record has no key, and topic `{topic}` is compacted")))
        }
        _ => None,
    }
}

/// Returns whether a broker refuses a timestamp, whichever of both clocks is ahead; it decides near the limits.
fn is_out_of_range(time: i64, (before, after): (i64, i64), now: i64) -> bool {
    time < now.saturating_sub(before).saturating_sub(CLOCK_SKEW) || time > now.saturating_add(after).saturating_add(CLOCK_SKEW)
}

/// Returns the bytes of a batch of this record alone, uncompressed, as the broker compares them with `max.message.bytes`.
fn batch_size(record: &Record) -> usize {
    const BATCH_HEADER: usize = 61;
    let field = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint(bytes.len()) + bytes.len());
    let headers = record.headers.iter().map(|(name, value)| field(Some(name)) + field(value.as_deref()));
    // Attributes, timestamp delta and offset delta take a byte each.
    let body =
        3 + field(record.key.as_deref()) + field(record.value.as_deref()) + varint(record.headers.len()) + headers.sum::<usize>();
    BATCH_HEADER + varint(body) + body
}

/// Returns the bytes of a zigzag varint.
fn varint(value: usize) -> usize {
    let bits = usize::BITS - (value << 1).leading_zeros();
    (bits as usize).div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Partition;

    #[test]
    fn the_size_of_a_record_is_exact() {
        let record = |value: usize, headers: usize| Record {
            partition: Partition::new("sizes", 0),
            offset: 0,
            timestamp: Some(1),
            key: None,
            value: Some(Bytes::from(vec![b'x'; value])),
            headers: vec![(Bytes::from_static(b"h00"), Some(Bytes::from_static(b"v"))); headers],
        };
        // The largest values that a broker accepts with the default of 1,048,588 bytes.
        assert_eq!(batch_size(&record(1_048_516, 0)), 1_048_588);
        assert_eq!(batch_size(&record(1_048_516 - 30 * 6, 30)), 1_048_588);
        for (value, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3)] {
            assert_eq!(varint(value), bytes, "{value}");
        }
    }

    /// Of 28 November 2026, in milliseconds since the Unix epoch.
    const NOW: i64 = 1_795_900_000_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_record_that_librdkafka_would_change_or_the_broker_refuse_is_unwritable() {
        let limits = TopicLimits { needs_key: true, timestamps: Some((24 * HOUR, HOUR)), ..TopicLimits::default() };
        let topic = Topic::named("sizes");
        let record = |timestamp, key: Option<&'static [u8]>| Record {
            partition: Partition::new("sizes", 0),
            offset: 0,
            timestamp,
            key: key.map(Bytes::from_static),
            value: None,
            headers: Vec::new(),
        };
        let code = |record: &Record| unwritable(record, topic, limits, true, NOW).map(|reason| reason.code().to_owned());
        assert_eq!(code(&record(Some(0), Some(b"k"))).as_deref(), Some("timestamp_zero"));
        assert_eq!(code(&record(None, Some(b"k"))).as_deref(), Some("timestamp_missing"));
        assert_eq!(code(&record(Some(NOW), None)).as_deref(), Some("key_missing"));
        assert_eq!(code(&record(Some(NOW), Some(b"k"))), None);
        for outside in [1, NOW - 25 * HOUR, NOW + 2 * HOUR, i64::MAX] {
            assert_eq!(code(&record(Some(outside), Some(b"k"))).as_deref(), Some("timestamp_refused"), "{outside}");
        }
        // Within ten minutes of a limit the broker decides.
        for near in [NOW - 24 * HOUR - 1, NOW + HOUR + 1] {
            assert_eq!(code(&record(Some(near), Some(b"k"))), None, "{near}");
        }
        assert!([1, i64::MAX].into_iter().all(|time| !is_out_of_range(time, (i64::MAX, i64::MAX), NOW)), "no limits");
    }
}
