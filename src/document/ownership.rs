//! Owner of the document that is stored under an id: one decision table for every document sink. Pure.
//!
//! | ids | stored document | owner |
//! |---|---|---|
//! | come once | has the record's place and timestamp | this record |
//! | come once | anything else | another record |
//! | can repeat | has no version | unversioned |
//! | can repeat | has a higher version, or the same one and a higher offset | a newer write |
//! | can repeat | has a lower version, or the same one and a lower offset | an older write |
//! | can repeat | has the same version and offset, of another partition | a newer write: the first one stays |
//! | can repeat | has the same version, offset, partition and timestamp | this record |
//! | can repeat | has the same version, offset and partition, and another timestamp | another record |
//!
//! A tombstone stores no document and therefore owns none.

use std::cmp::Ordering;

use crate::document::{Document, MetaNames, ParsedPayload, Version};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredMetadata {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i64>,
    pub(crate) offset: Option<i64>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) version: Option<i64>,
}

/// Owner of the document that is stored under the id of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An earlier write of the same record.
    ThisRecord,
    Newer,
    Older,
    /// A record of another topic or cluster, or another writer.
    AnotherRecord,
    /// A document whose version is unknown.
    Unversioned,
}

/// Returns the fields that the decision needs.
pub(crate) fn deciding_fields(names: &MetaNames) -> [&str; 5] {
    [&names.topic, &names.partition, &names.offset, &names.timestamp, &names.version]
}

/// Returns the metadata field that holds a version.
pub(crate) fn version_field<'n>(names: &'n MetaNames, version: Option<&Version>) -> &'n str {
    match version {
        Some(Version::Timestamp) => &names.timestamp,
        Some(Version::Field(_)) => &names.version,
        Some(Version::Offset) | None => &names.offset,
    }
}

impl Owner {
    /// Returns the owner of the stored document that has the id of `document`.
    pub(crate) fn of(document: &Document<'_>, stored: &StoredMetadata) -> Self {
        let record = document.record;
        let is_place =
            |topic: &str, partition| topic == record.partition.topic.name() && partition == i64::from(record.partition.index);
        let place = stored.topic.as_deref().zip(stored.partition).map(|(topic, partition)| is_place(topic, partition));
        // Without a timestamp, the offset decides.
        let is_same_offset = stored.offset.map_or(record.timestamp.is_some(), |offset| offset == record.offset);
        let is_same_record = stored.timestamp == record.timestamp
            && is_same_offset
            && place != Some(false)
            && *document.payload != ParsedPayload::Tombstone;
        let claimed = if is_same_record { Self::ThisRecord } else { Self::AnotherRecord };
        let Some(ours) = document.version else { return claimed };
        let Some(theirs) = stored.version else { return Self::Unversioned };
        match (theirs, stored.offset.unwrap_or(record.offset)).cmp(&(ours, record.offset)) {
            Ordering::Less => Self::Older,
            Ordering::Equal if place == Some(true) => claimed,
            Ordering::Greater | Ordering::Equal => Self::Newer,
        }
    }

    /// Returns the owner of a stored document without metadata, which only its content can show.
    pub(crate) fn of_unmarked(is_same: bool) -> Self {
        if is_same { Self::ThisRecord } else { Self::AnotherRecord }
    }

    /// Returns the outcome of `document`, which was not written because its id exists.
    pub(crate) fn outcome(self, document: &Document<'_>, names: Option<&MetaNames>, version: Option<&Version>) -> Outcome {
        match self {
            Self::ThisRecord => Outcome::AlreadyThere,
            Self::Newer => Outcome::Superseded,
            Self::Older => Outcome::Retry(overtaken()),
            Self::AnotherRecord => Outcome::Stop(another_record(document.record, names, version)),
            Self::Unversioned => Outcome::Reject(unversioned(names.map_or("", |names| version_field(names, version)))),
        }
    }
}

/// Returns the reason of a write that lost a race after its look-up.
pub(crate) fn overtaken() -> Reason {
    Reason::new("overtaken", "another write of the same id came in between")
}

/// Returns the outcome of records whose look-up has the outcome that a write with the same answer would have.
///
/// A look-up that nobody could answer, or whose answer nobody could read, blames no record, however often it is repeated and whatever else
/// is delivered meanwhile. One that the server rejects may be about a record that it cannot look up: the neighbours tell.
pub(crate) fn of_failed_lookup(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Unclear(reason) => Outcome::Retry(reason),
        Outcome::BatchRejected(reason) | Outcome::Reject(reason) => Outcome::Unclear(reason),
        outcome => outcome,
    }
}

fn another_record(record: &Record, names: Option<&MetaNames>, version: Option<&Version>) -> Reason {
    let what = match names {
        Some(_) => format!(
            "a record of another topic or cluster, or of this topic before it was re-created, is stored under the id of record {record}"
        ),
        None => format!("another document is stored under the id of record {record}, and without metadata its origin is unknown"),
    };
    let code = match (names, version) {
        (Some(_), None) => "foreign_record",
        (Some(_), Some(_)) => "foreign_version",
        (None, None) => "foreign_document",
        (None, Some(_)) => "foreign_document_version",
    };
    Reason::new(code, what).refusal()
}

fn unversioned(field: &str) -> Reason {
    let what = format!("a document without `{field}` is stored under the id, and its version is unknown");
    let hint = format!("set `{field}` of such documents to -1 to have them written over");
    Reason::new("document_without_version", what).hint(hint)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::document::{DocumentMapper, Ids, MetadataFields, RawValues};
    use crate::record::Partition;

    fn record(timestamp: Option<i64>, value: Option<&'static str>) -> Record {
        let (key, value) = (Some(Bytes::from_static(b"k")), value.map(Bytes::from));
        Record { partition: Partition::new("t", 2), offset: 10, timestamp, key, value, headers: Vec::new() }
    }

    fn owner(ids: Ids, version: Version, record: &Record, stored: &StoredMetadata) -> Owner {
        let mapper = DocumentMapper::new(ids, version, MetadataFields::default(), RawValues::Bad, None, Vec::new());
        let batch = mapper.read_batch(std::slice::from_ref(record), |_| Ok(()));
        Owner::of(&batch.get(0).unwrap(), stored)
    }

    fn stored(partition: i64, offset: i64, timestamp: i64, version: i64) -> StoredMetadata {
        let topic = Some("t".to_owned());
        StoredMetadata {
            topic,
            partition: Some(partition),
            offset: Some(offset),
            timestamp: Some(timestamp),
            version: Some(version),
        }
    }

    #[test]
    fn a_document_under_an_offset_id_belongs_to_this_record_or_to_another() {
        let of = |timestamp, stored: StoredMetadata| {
            owner(Ids::Offset { prefix: String::new() }, Version::Offset, &record(timestamp, Some("{}")), &stored)
        };
        assert_eq!(of(Some(500), stored(2, 10, 500, 10)), Owner::ThisRecord);
        let only_time = StoredMetadata { timestamp: Some(500), ..StoredMetadata::default() };
        assert_eq!(of(Some(500), only_time), Owner::ThisRecord);
        for other in [stored(2, 10, 501, 10), stored(2, 9, 500, 9), stored(3, 10, 500, 10), StoredMetadata::default()] {
            assert_eq!(of(Some(500), other), Owner::AnotherRecord);
        }
        let timeless = StoredMetadata { timestamp: None, ..stored(2, 10, 0, 10) };
        assert_eq!(of(None, timeless), Owner::ThisRecord);
        assert_eq!(of(None, StoredMetadata::default()), Owner::AnotherRecord, "without a timestamp the offset has to tell");
    }

    #[test]
    fn the_newer_version_owns_the_document_of_a_repeated_id() {
        let record = record(Some(500), Some("{}"));
        let offset = |stored| owner(Ids::Key, Version::Offset, &record, &stored);
        assert_eq!(offset(stored(2, 11, 400, 11)), Owner::Newer);
        assert_eq!(offset(stored(2, 10, 500, 10)), Owner::ThisRecord);
        assert_eq!(offset(stored(2, 9, 600, 9)), Owner::Older);
        assert_eq!(offset(stored(2, 10, 501, 10)), Owner::AnotherRecord);
        assert_eq!(offset(stored(3, 10, 501, 10)), Owner::Newer);
        assert_eq!(offset(StoredMetadata::default()), Owner::Unversioned);
        let time = |stored| owner(Ids::Key, Version::Timestamp, &record, &stored);
        assert_eq!(time(stored(2, 9, 501, 501)), Owner::Newer);
        assert_eq!(time(stored(2, 11, 500, 500)), Owner::Newer);
        assert_eq!(time(stored(2, 9, 500, 500)), Owner::Older);
        assert_eq!(time(stored(2, 99, 499, 499)), Owner::Older);
    }

    #[test]
    fn a_tombstone_owns_no_document() {
        let record = record(Some(500), None);
        assert_eq!(owner(Ids::Key, Version::Offset, &record, &stored(2, 10, 500, 10)), Owner::AnotherRecord);
        assert_eq!(owner(Ids::Key, Version::Offset, &record, &stored(2, 11, 500, 11)), Owner::Newer);
    }
}
