//! A Kafka record: its coordinates and its bytes.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;

/// A topic's name.
///
/// Names are interned for the lifetime of the process: a topic is two words, free to copy and to compare, and no record pays for a
/// reference count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(&'static str);

impl Topic {
    /// Returns whether Kafka allows this name for a topic.
    pub(crate) fn is_valid_name(name: &str) -> bool {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !matches!(name, "" | "." | "..") && name.len() <= 249 && name.chars().all(is_legal)
    }

    /// Interns the name. Whether Kafka allows it is not checked.
    #[must_use]
    pub fn named(name: &str) -> Self {
        static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
        let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Self(known);
        }
        let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
        names.insert(kept);
        Self(kept)
    }

    /// Returns the interned name, which lives as long as the process.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A partition of a topic. Shown as `topic/3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition {
    pub(crate) topic: Topic,
    /// From 0.
    pub(crate) index: i32,
}

impl Partition {
    /// Interns the name of the topic.
    #[must_use]
    pub fn new(topic: &str, index: i32) -> Self {
        Self { topic: Topic::named(topic), index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// The offset to resume a partition from: one above the last settled record.
///
/// A type of its own because `store_offset` of librdkafka adds that one itself, and `store_offsets` and `commit` do not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NextOffset(pub i64);

/// A record's headers in their order: names may repeat, values may be null, empty or binary.
///
/// A name is bytes: some clients write names that are not UTF-8.
pub type Headers = Vec<(Bytes, Option<Bytes>)>;

/// One record. Key, value and headers are cut from the buffer of the batch it was read in, so a clone copies no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition that the record was read from.
    pub partition: Partition,
    /// The offset in that partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; `None` if the broker has none.
    pub timestamp: Option<i64>,
    /// The key; `None` is null, which is not the empty key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In order; a name may repeat, and a value may be null.
    pub headers: Headers,
}

/// A visitor of headers: name and value.
pub type WithHeader<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// Headers, owned or borrowed.
pub trait HeaderList {
    /// Calls `with` for each header, in order.
    fn each(&self, with: &mut WithHeader<'_>);
}

impl HeaderList for Headers {
    fn each(&self, with: &mut WithHeader<'_>) {
        for (name, value) in self {
            with(name, value.as_deref());
        }
    }
}

/// A borrowed record.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    /// The partition that the record was read from.
    pub partition: Partition,
    /// The offset in that partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; `None` if the broker has none.
    pub timestamp: Option<i64>,
    /// Whether the timestamp is the time of the append (`LogAppendTime`).
    pub appended: bool,
    /// The key; `None` is null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; a name may repeat, and a value may be null.
    pub headers: &'a dyn HeaderList,
}

impl RecordView<'_> {
    /// Returns an owned copy.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let mut headers = Headers::new();
        self.headers.each(&mut |name, value| {
            headers.push((Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice)));
        });
        Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(Bytes::copy_from_slice),
            value: self.value.map(Bytes::copy_from_slice),
            headers,
        }
    }
}

impl Record {
    /// Returns a view; the timestamp counts as the producer's.
    #[must_use]
    pub fn view(&self) -> RecordView<'_> {
        RecordView {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            appended: false,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }

    /// Returns the number of bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        of(&self.key) + of(&self.value) + self.headers.iter().map(|(name, value)| name.len() + of(value)).sum::<usize>()
    }

    /// Returns the fingerprint, which differs from that of a record with the same offset in a re-created topic.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut crc = crc32fast::Hasher::new();
        for part in [&self.key, &self.value] {
            match part {
                // The length keeps ("ab", "c") and ("a", "bc") apart; null has no length.
                Some(bytes) => {
                    crc.update(&(bytes.len() as u64).to_le_bytes());
                    crc.update(bytes);
                }
                None => crc.update(b"-"),
            }
        }
        Fingerprint { offset: self.offset, timestamp: self.timestamp, crc: crc.finalize() }
    }
}

impl fmt::Display for Record {
    /// The coordinates: `topic/3@1042`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// A record in a few bytes: stored in the commit's metadata to recognise a re-created topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    pub(crate) offset: i64,
    /// Milliseconds since the Unix epoch; `None` if the broker has none.
    pub(crate) timestamp: Option<i64>,
    /// CRC-32 of key and value, each preceded by its length.
    pub(crate) crc: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&'static str>, value: Option<&'static str>) -> Record {
        Record {
            partition: Partition::new("t", 0),
            offset: 7,
            timestamp: Some(1),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    #[test]
    fn topics_are_equal_if_their_names_are() {
        assert_eq!(Topic::named("a"), Topic::named(&String::from("a")));
        assert_ne!(Topic::named("a"), Topic::named("b"));
    }

    #[test]
    fn a_fingerprint_tells_null_from_empty_and_key_from_value() {
        let prints: Vec<_> = [
            (None, Some("x")),
            (Some(""), Some("x")),
            (Some("x"), None),
            (Some("x"), Some("")),
            (Some("ab"), Some("c")),
            (Some("a"), Some("bc")),
        ]
        .map(|(key, value)| record(key, value).fingerprint().crc)
        .into();
        for (i, one) in prints.iter().enumerate() {
            assert!(!prints[i + 1..].contains(one), "{i} occurs again in {prints:?}");
        }
    }

    #[test]
    fn a_record_is_named_by_its_coordinates() {
        assert_eq!(record(None, None).to_string(), "t/0@7");
    }
}
