//! Combinations of ids, versions, names and deletes that guarantee that the newest record of an id is the one stored.
//! One table, checked before anything is read. Pure.
//!
//! | ids | version | names | tombstones delete | sound |
//! |---|---|---|---|---|
//! | `offset`, `uuid` | | any | no | yes |
//! | `offset`, `uuid`, `field` | any | any | yes | no: a tombstone does not identify its document |
//! | `key` | `offset` | any | no | one topic: each key stays in one partition |
//! | `field` | `offset` | any | no | one partition |
//! | `key`, `field` | `timestamp`, `field` | any | no | yes |
//! | `key` | `offset` | constant, `{topic}` | yes | as without deletes |
//! | `key` | `timestamp` | constant, `{topic}` | yes | yes, but an older record behind a tombstone restores the document: docs/limits.md |
//! | `key` | `field` | any | yes | no: a tombstone has no version |
//! | `key` | any | with a field or a date | yes | no: a tombstone has another name than its document |

use crate::document::{Ids, NameTemplate, Version};
use crate::shape::FieldPath;

/// The reason why a combination is not sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Offsets of several topics are compared.
    #[error("one id can occur in several topics, whose offsets are not comparable")]
    OffsetsOfTopics,
    /// Offsets of several partitions are compared.
    #[error("one id can occur in several partitions, whose offsets are not comparable")]
    OffsetsOfPartitions,
    /// The id of a tombstone is not that of its document.
    #[error("only ids made of keys tell which document a tombstone deletes")]
    DeletesWithoutKey,
    /// A tombstone has no payload.
    #[error("a tombstone has no `{0}` that would tell whether it is the newer write")]
    DeletesByFieldVersion(FieldPath),
    /// A tombstone has no payload.
    #[error("a tombstone has no field that would tell where its document is")]
    DeletesByFieldName,
    /// A tombstone is later than its document.
    #[error("a tombstone has another date than its document, and does not tell where that is")]
    DeletesByDatedName,
}

/// Checks ids, versions, names and deletes against each other.
///
/// # Errors
/// When they are not sound together.
pub fn check_deletes(ids: &Ids, version: &Version, templates: &[NameTemplate], deletes: bool) -> Result<(), Unsound> {
    if !deletes {
        return Ok(());
    }
    if *ids != Ids::Key {
        return Err(Unsound::DeletesWithoutKey);
    }
    if let Version::Field(path) = version {
        return Err(Unsound::DeletesByFieldVersion(path.clone()));
    }
    if templates.iter().any(|template| template.pattern().fields().next().is_some()) {
        return Err(Unsound::DeletesByFieldName);
    }
    if templates.iter().any(|template| template.pattern().is_dated()) {
        return Err(Unsound::DeletesByDatedName);
    }
    Ok(())
}

/// Checks ids and versions against the number of partitions of each topic; a pattern may match more topics later.
///
/// # Errors
/// When they are not sound together.
pub fn check_topics(ids: &Ids, version: &Version, partitions: &[i32], is_pattern: bool) -> Result<(), Unsound> {
    if !ids.can_repeat() || *version != Version::Offset {
        return Ok(());
    }
    if is_pattern || partitions.len() > 1 {
        return Err(Unsound::OffsetsOfTopics);
    }
    if matches!(ids, Ids::Field(_)) && partitions.iter().any(|count| *count > 1) {
        return Err(Unsound::OffsetsOfPartitions);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_that_loses_the_newest_record_is_refused() {
        let field = || FieldPath::parse("user").unwrap();
        let template = |pattern: &str| NameTemplate::new(pattern.parse().unwrap(), |_| Ok(()), 1).unwrap();
        let deletes = |ids: Ids, version: Version, pattern: &str| check_deletes(&ids, &version, &[template(pattern)], true);
        assert_eq!(deletes(Ids::Key, Version::Offset, "i-{topic}"), Ok(()));
        assert_eq!(deletes(Ids::Key, Version::Timestamp, "i"), Ok(()));
        assert_eq!(deletes(Ids::Field(field()), Version::Offset, "i"), Err(Unsound::DeletesWithoutKey));
        assert_eq!(deletes(Ids::Random, Version::Offset, "i"), Err(Unsound::DeletesWithoutKey));
        assert_eq!(deletes(Ids::Key, Version::Field(field()), "i"), Err(Unsound::DeletesByFieldVersion(field())));
        assert_eq!(deletes(Ids::Key, Version::Offset, "i-{country}"), Err(Unsound::DeletesByFieldName));
        assert_eq!(deletes(Ids::Key, Version::Offset, "i-%Y-%m"), Err(Unsound::DeletesByDatedName));
        assert_eq!(check_deletes(&Ids::Random, &Version::Offset, &[template("i-%Y")], false), Ok(()));

        let topics = |ids: Ids, version: Version, partitions: &[i32]| check_topics(&ids, &version, partitions, false);
        assert_eq!(topics(Ids::Key, Version::Offset, &[6]), Ok(()));
        assert_eq!(topics(Ids::Key, Version::Offset, &[1, 1]), Err(Unsound::OffsetsOfTopics));
        assert_eq!(topics(Ids::Field(field()), Version::Offset, &[1]), Ok(()));
        assert_eq!(topics(Ids::Field(field()), Version::Offset, &[2]), Err(Unsound::OffsetsOfPartitions));
        assert_eq!(topics(Ids::Field(field()), Version::Timestamp, &[2, 2]), Ok(()));
        assert_eq!(topics(Ids::Random, Version::Offset, &[2, 2]), Ok(()));
        assert_eq!(check_topics(&Ids::Key, &Version::Offset, &[1], true), Err(Unsound::OffsetsOfTopics));
    }
}
