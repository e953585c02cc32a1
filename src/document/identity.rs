//! The id of a document, and the version that orders the writes of an id.

use std::str::FromStr;

use crate::pipeline::Reason;
use crate::record::Record;
use crate::shape::FieldPath;

/// Origin of a document's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// `topic:partition:offset`: a record that is delivered again is the same document.
    Offset {
        /// Text in front of the topic.
        prefix: String,
    },
    /// The record's key, if it is text.
    Key,
    /// A field of the payload.
    Field(FieldPath),
    /// Made by the server or the driver: a record that is delivered again is another document.
    Random,
}

impl Ids {
    /// Returns whether two records can have the same id, and the order of their writes matters.
    #[must_use]
    pub fn can_repeat(&self) -> bool {
        matches!(self, Self::Key | Self::Field(_))
    }

    /// Appends the id of `record` to `id`; `field` is the JSON text of the id field.
    ///
    /// # Errors
    /// When the record has no such id.
    pub(super) fn write(&self, record: &Record, field: Option<&str>, id: &mut String) -> Result<(), Reason> {
        let start = id.len();
        match self {
            Self::Offset { prefix } => {
                id.push_str(prefix);
                id.push_str(record.partition.topic.name());
                id.push(':');
                id.push_str(itoa::Buffer::new().format(record.partition.index));
                id.push(':');
                id.push_str(itoa::Buffer::new().format(record.offset));
            }
            Self::Key => {
                let key =
                    record.key.as_deref().ok_or_else(|| Reason::new("missing_key", "the record has no key to be its id"))?;
                let key = std::str::from_utf8(key).map_err(|_| Reason::new("key_not_text", "the key is not UTF-8 text"))?;
                id.push_str(key);
            }
            Self::Field(path) => {
                let field = field.ok_or_else(|| missing(path, "its id"))?;
                let odd = || Reason::new("wrong_type", format!("`{path}` is neither text nor a number")).at(path.to_string());
                match field.as_bytes()[0] {
                    b'"' => id.push_str(&serde_json::from_str::<String>(field).map_err(|_| odd())?),
                    b'-' | b'0'..=b'9' => id.push_str(field),
                    _ => return Err(odd()),
                }
            }
            Self::Random => return Ok(()),
        }
        if id.len() == start {
            return Err(Reason::new("empty_id", "the id is empty"));
        }
        Ok(())
    }
}

/// The rule for which of two writes of an id is the newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The one with the higher offset: for one topic, each of whose ids stays in one partition.
    #[default]
    Offset,
    /// The one with the later timestamp.
    Timestamp,
    /// The one with the higher number in a field.
    Field(FieldPath),
}

impl Version {
    /// Returns the version of `record`; `field` is the JSON text of the version field.
    ///
    /// # Errors
    /// When the record has none.
    pub(super) fn of(&self, record: &Record, field: Option<&str>) -> Result<i64, Reason> {
        match self {
            Self::Offset => Ok(record.offset),
            Self::Timestamp => {
                let none = || Reason::new("missing_timestamp", "the record has no timestamp to be its version");
                record.timestamp.filter(|time| *time >= 0).ok_or_else(none)
            }
            Self::Field(path) => {
                let field = field.ok_or_else(|| missing(path, "its version"))?;
                let text = field.trim_matches('"');
                let number = i64::from_str(text).ok().filter(|number| *number >= 0);
                number.ok_or_else(|| {
                    let what = format!("`{path}` is not a whole number from 0 on");
                    Reason::new("wrong_type", what).at(path.to_string())
                })
            }
        }
    }
}

fn missing(path: &FieldPath, what: &str) -> Reason {
    Reason::new("missing_field", format!("`{path}` is missing, which holds {what}")).at(path.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Partition;

    fn record(key: Option<&'static [u8]>) -> Record {
        let key = key.map(Bytes::from_static);
        Record { partition: Partition::new("logins", 3), offset: 42, timestamp: Some(7), key, value: None, headers: Vec::new() }
    }

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    fn id(ids: &Ids, key: Option<&'static [u8]>, field: Option<&str>) -> Result<String, String> {
        let mut id = String::new();
        ids.write(&record(key), field, &mut id).map(|()| id).map_err(|reason| reason.code().to_owned())
    }

    #[test]
    fn an_id_is_made_of_coordinates_a_key_or_a_field() {
        assert_eq!(id(&Ids::Offset { prefix: "eu:".to_owned() }, None, None), Ok("eu:logins:3:42".to_owned()));
        assert_eq!(id(&Ids::Key, Some(b"k"), None), Ok("k".to_owned()));
        let field = Ids::Field(path("user.id"));
        assert_eq!(id(&field, None, Some(r#""a\n""#)), Ok("a\n".to_owned()));
        assert_eq!(id(&field, None, Some("12345678901234567890")), Ok("12345678901234567890".to_owned()));
        assert_eq!(id(&Ids::Random, None, None), Ok(String::new()));
    }

    #[test]
    fn a_record_without_its_id_is_bad() {
        let field = Ids::Field(path("user.id"));
        assert_eq!(id(&Ids::Key, None, None), Err("missing_key".to_owned()));
        assert_eq!(id(&Ids::Key, Some(b""), None), Err("empty_id".to_owned()));
        assert_eq!(id(&Ids::Key, Some(b"\xff"), None), Err("key_not_text".to_owned()));
        assert_eq!(id(&field, None, None), Err("missing_field".to_owned()));
        for odd in ["null", "true", "[1]", "{}"] {
            assert_eq!(id(&field, None, Some(odd)), Err("wrong_type".to_owned()), "{odd}");
        }
    }

    #[test]
    fn a_version_is_the_offset_the_timestamp_or_a_numeric_field() {
        let of = |version: Version, field| version.of(&record(None), field).map_err(|reason| reason.code().to_owned());
        assert_eq!(of(Version::Offset, None), Ok(42));
        assert_eq!(of(Version::Timestamp, None), Ok(7));
        assert_eq!(of(Version::Field(path("v")), Some("9")), Ok(9));
        assert_eq!(of(Version::Field(path("v")), Some("\"9\"")), Ok(9));
        assert_eq!(of(Version::Field(path("v")), None), Err("missing_field".to_owned()));
        for odd in ["-1", "1.5", "null", "\"x\"", "9223372036854775808"] {
            assert_eq!(of(Version::Field(path("v")), Some(odd)), Err("wrong_type".to_owned()), "{odd}");
        }
    }
}
