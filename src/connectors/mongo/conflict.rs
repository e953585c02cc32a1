//! What it means that an id is taken: by our own earlier write, by a newer one, or by somebody else's. Pure.

use std::cmp::Ordering;

use mongodb::bson::{Bson, Document as Stored};

use crate::document::{Document, DocumentMapper, MetaNames, Version};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// Returns the metadata field that holds the version.
pub(super) fn version_field<'n>(names: &'n MetaNames, version: &Version) -> &'n str {
    match version {
        Version::Offset => &names.offset,
        Version::Timestamp => &names.timestamp,
        Version::Field(_) => &names.version,
    }
}

/// Returns the metadata fields that have to be looked at.
pub(super) fn fields(names: &MetaNames) -> [&str; 5] {
    [&names.topic, &names.partition, &names.offset, &names.timestamp, &names.version]
}

/// Returns what became of `record`, whose id has `stored`.
pub(super) fn judge(
    reading: &DocumentMapper,
    record: &Record,
    document: &Document,
    names: &MetaNames,
    stored: &Stored,
) -> Outcome {
    let same_time = number(stored, &names.timestamp) == record.timestamp;
    let (Some(version), Some(ours)) = (reading.version(), document.version) else {
        // Two that have no time are the same record only if they say so.
        let is_ours = same_time && (record.timestamp.is_some() || number(stored, &names.offset) == Some(record.offset));
        return if is_ours { Outcome::AlreadyThere } else { Outcome::Stop(foreign(record, false)) };
    };
    let Some(theirs) = number(stored, version_field(names, version)) else {
        return Outcome::Reject(without_version(version_field(names, version)));
    };
    let order = (theirs, number(stored, &names.offset).unwrap_or(0)).cmp(&(ours, record.offset));
    let same_place = stored.get_str(&names.topic).is_ok_and(|topic| topic == record.partition.topic.name())
        && number(stored, &names.partition) == Some(record.partition.index.into());
    match order {
        Ordering::Greater => Outcome::Superseded,
        // Of two writes of one version the first stays, unless they claim to be one and the same record.
        Ordering::Equal if !same_place => Outcome::Superseded,
        Ordering::Equal if same_time => Outcome::AlreadyThere,
        Ordering::Equal => Outcome::Stop(foreign(record, true)),
        Ordering::Less => Outcome::Retry(Reason::new("overtaken", "another write of the same id came in between")),
    }
}

/// Returns why a record of another topic or cluster stands where `record` belongs; `has_version` says that its id can come again.
pub(super) fn foreign(record: &Record, has_version: bool) -> Reason {
    let what = format!("the collection has another topic's or cluster's record under the id of record {record}");
    let tell_apart =
        if has_version { "let the later one win with --version timestamp" } else { "tell them apart with --id-prefix" };
    Reason::new("foreign_record", what).hint(format!("{tell_apart}, or name another collection with --collection")).refusal()
}

fn without_version(field: &str) -> Reason {
    let what = format!("a document without `{field}` has the id already, so nobody can say which is the newer one");
    Reason::new("document_without_version", what).hint(format!("to have such documents replaced, set their `{field}` to -1"))
}

/// Returns the whole number called `name`.
fn number(stored: &Stored, name: &str) -> Option<i64> {
    match stored.get(name)? {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        #[allow(clippy::cast_possible_truncation)] // whole, and as large as doubles are exact
        Bson::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;
    use crate::document::{Ids, MetadataFields, RawValues};
    use crate::record::Partition;

    fn outcome(ids: Ids, version: Version, stored: &Stored) -> Outcome {
        let reading = DocumentMapper::new(ids, version, MetadataFields::default(), RawValues::Bad, None, Vec::new());
        let record = Record {
            partition: Partition::new("t", 2),
            offset: 10,
            timestamp: Some(500),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let version = reading.version().map(|version| if *version == Version::Offset { 10 } else { 500 });
        let document = Document { id: "k".to_owned(), version, ..Document::default() };
        judge(&reading, &record, &document, reading.meta().names().unwrap(), stored)
    }

    fn stored(partition: i32, offset: i64, timestamp: i64) -> Stored {
        doc! {"_kafka_topic": "t", "_kafka_partition": partition, "_kafka_offset": offset, "_kafka_timestamp": timestamp}
    }

    #[test]
    fn an_offset_id_is_taken_by_ourselves_or_by_somebody_else() {
        let of = |stored: &Stored| outcome(Ids::Offset { prefix: String::new() }, Version::Offset, stored);
        assert_eq!(of(&stored(2, 10, 500)), Outcome::AlreadyThere);
        for other in [stored(2, 10, 501), doc! {}, doc! {"_kafka_timestamp": "500"}] {
            let Outcome::Stop(reason) = of(&other) else { panic!("{other} is foreign") };
            assert!(reason.is_refusal());
        }
    }

    #[test]
    fn what_has_no_time_is_ours_only_if_it_says_where_it_is_from() {
        let reading = DocumentMapper::new(
            Ids::Offset { prefix: String::new() },
            Version::Offset,
            MetadataFields::default(),
            RawValues::Bad,
            None,
            Vec::new(),
        );
        let record = Record {
            partition: Partition::new("t", 2),
            offset: 10,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let of = |stored: &Stored| judge(&reading, &record, &Document::default(), reading.meta().names().unwrap(), stored);
        assert_eq!(of(&doc! {"_kafka_offset": 10_i64}), Outcome::AlreadyThere);
        assert!(matches!(of(&doc! {"a": 1}), Outcome::Stop(_)));
    }

    #[test]
    fn of_a_key_the_newer_version_stays() {
        let offset = |stored: &Stored| outcome(Ids::Key, Version::Offset, stored);
        assert_eq!(offset(&stored(2, 11, 400)), Outcome::Superseded);
        assert_eq!(offset(&stored(2, 10, 500)), Outcome::AlreadyThere);
        assert!(matches!(offset(&stored(2, 9, 600)), Outcome::Retry(_)));
        assert!(matches!(offset(&stored(2, 10, 501)), Outcome::Stop(reason) if reason.is_refusal()));
        assert_eq!(offset(&stored(3, 10, 501)), Outcome::Superseded);
        assert!(matches!(offset(&doc! {"a": 1}), Outcome::Reject(_)));
        let time = |stored: &Stored| outcome(Ids::Key, Version::Timestamp, stored);
        assert_eq!(time(&stored(2, 9, 501)), Outcome::Superseded);
        assert_eq!(time(&stored(2, 11, 500)), Outcome::Superseded);
        assert!(matches!(time(&stored(2, 9, 500)), Outcome::Retry(_)));
        assert!(matches!(time(&stored(2, 99, 499)), Outcome::Retry(_)));
    }
}
