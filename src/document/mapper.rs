//! From a record to a document, in one look at its payload.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::document::{Ids, MetadataFields, NameTemplate, Version};
use crate::pipeline::Reason;
use crate::record::Record;
use crate::shape::{self, FieldPath};

/// What is done with values that are not JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RawValues {
    /// They are bad records.
    #[default]
    Bad,
    /// They are wrapped as text; what is not UTF-8 is a bad record.
    Text,
    /// They are wrapped as bytes.
    Binary,
}

/// How records become documents.
#[derive(Debug)]
pub struct DocumentMapper {
    ids: Ids,
    /// Of documents whose id can come again.
    version: Option<Version>,
    meta: MetadataFields,
    raw: RawValues,
    time: Option<FieldPath>,
    namings: Vec<NameTemplate>,
    /// The fields whose values are wanted, each once.
    wanted: Vec<FieldPath>,
    /// A field of which only is told whether a payload has it.
    noticed: Option<&'static str>,
    /// The first bytes of names that mean something; of most names it is seen at once that they do not.
    firsts: ByteSet,
}

/// A set of bytes.
#[derive(Debug)]
struct ByteSet([bool; 256]);

impl ByteSet {
    /// Returns the first bytes of these names; of an empty one, every byte.
    fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut firsts = [false; 256];
        for name in names {
            match name.as_bytes().first() {
                Some(first) => firsts[usize::from(*first)] = true,
                None => firsts = [true; 256],
            }
        }
        Self(firsts)
    }

    /// Returns whether `name` may begin as one of the names.
    fn fit(&self, name: &str) -> bool {
        name.as_bytes().first().is_none_or(|first| self.0[usize::from(*first)])
    }
}

/// Settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOptions {
    /// What is wrong.
    pub what: String,
    /// What to type instead.
    pub hint: String,
}

impl InvalidOptions {
    /// Returns what is wrong, and what to type instead.
    #[must_use]
    pub fn new(what: &str, hint: &str) -> Self {
        Self { what: what.to_owned(), hint: hint.to_owned() }
    }
}

/// What there is to know of a document besides its payload. Kept and filled again for the next record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Its id; empty where it gets one elsewhere.
    pub id: String,
    /// Its version, of documents whose id can come again.
    pub version: Option<i64>,
    /// When it happened, in milliseconds since the Unix epoch: the time field's, or else the record's.
    pub time: Option<i64>,
    /// The names that the templates made, in their order.
    pub names: Vec<String>,
    /// Whether the payload is an object with the field that is to be noticed.
    pub noticed: bool,
}

/// A record's value, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedPayload<'r> {
    /// A JSON object; an `_id` that is the id has been taken out.
    Object(Cow<'r, str>),
    /// Any other JSON, to be wrapped.
    Json(&'r str),
    /// Text that is no JSON, to be wrapped.
    Text(&'r str),
    /// Bytes, to be wrapped.
    Binary(&'r [u8]),
    /// Null: the document is to go.
    Tombstone,
}

/// The field that holds what had to be wrapped.
pub const WRAPPED: &str = "original_data";

impl DocumentMapper {
    /// Returns the reading of records into documents with these ids, versions where ids can come again, metadata, and names.
    #[must_use]
    pub fn new(
        ids: Ids,
        version: Version,
        meta: MetadataFields,
        raw: RawValues,
        time: Option<FieldPath>,
        namings: Vec<NameTemplate>,
    ) -> Self {
        let version = ids.repeat().then_some(version);
        let mut wanted: Vec<FieldPath> = Vec::new();
        let id = if let Ids::Field(path) = &ids { Some(path) } else { None };
        let of_version = if let Some(Version::Field(path)) = &version { Some(path) } else { None };
        let named = namings.iter().flat_map(|naming| naming.template().fields());
        for path in id.into_iter().chain(of_version).chain(&time).chain(named) {
            if !wanted.contains(path) {
                wanted.push(path.clone());
            }
        }
        let firsts = ByteSet::of(["_id", meta.prefix()].into_iter().chain(wanted.iter().map(|path| path.names()[0].as_str())));
        Self { ids, version, meta, raw, time, namings, wanted, noticed: None, firsts }
    }

    /// Returns the same reading, which also tells whether an object has this field.
    #[must_use]
    pub fn detect_field(mut self, field: &'static str) -> Self {
        self.noticed = Some(field);
        self.firsts.0[usize::from(field.as_bytes()[0])] = true;
        self
    }

    /// Returns where ids come from.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Returns what says which write of an id is the newer one, where ids can come again.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Returns the field with the time of the event, if one is named.
    #[must_use]
    pub fn time_field(&self) -> Option<&FieldPath> {
        self.time.as_ref()
    }

    /// Returns the names of the metadata fields.
    #[must_use]
    pub fn meta(&self) -> &MetadataFields {
        &self.meta
    }

    /// Returns the names of what is written to.
    #[must_use]
    pub fn namings(&self) -> &[NameTemplate] {
        &self.namings
    }

    /// Returns the payload of `record`, and puts the rest into `document`.
    ///
    /// # Errors
    /// When the record is bad: what is wrong with it.
    pub fn read<'r>(&self, record: &'r Record, document: &mut Document) -> Result<ParsedPayload<'r>, Reason> {
        document.id.clear();
        document.noticed = false;
        let mut fields: Vec<Option<&'r str>> = vec![None; self.wanted.len()];
        let mut own_id = None;
        let mut payload = match record.value.as_deref() {
            None => ParsedPayload::Tombstone,
            Some(bytes) => self.look(bytes, &mut fields, &mut own_id, &mut document.noticed)?,
        };
        let field = |path: &FieldPath| fields[self.wanted.iter().position(|wanted| wanted == path)?];
        document.time = record.timestamp;
        if let Some(path) = &self.time
            && let Some(text) = field(path).filter(|text| *text != "null")
        {
            let time = shape::parse_time(text).ok_or_else(|| {
                Reason::new("not_a_date", format!("`{path}` is no time"))
                    .at(path.to_string())
                    .hint("--time-field takes Unix seconds or milliseconds and ISO 8601")
            })?;
            document.time = Some(time.as_millisecond());
        }
        let of_id = if let Ids::Field(path) = &self.ids { field(path) } else { None };
        self.ids.write(record, of_id, &mut document.id)?;
        let of_version = if let Some(Version::Field(path)) = &self.version { field(path) } else { None };
        document.version = self.version.as_ref().map(|version| version.of(record, of_version)).transpose()?;
        document.names.resize(self.namings.len(), String::new());
        for (naming, name) in self.namings.iter().zip(&mut document.names) {
            name.clear();
            naming.write(record.partition.topic, document.time, field, name)?;
        }
        if let Some(own) = own_id {
            if !is_text(own, &document.id) {
                let what = "the payload has an `_id` that is not the document's id";
                return Err(Reason::new("foreign_id", what)
                    .at("_id")
                    .hint("--id field:_id takes it for the id; --drop _id leaves it out"));
            }
            if let ParsedPayload::Object(text) = &mut payload {
                *text = Cow::Owned(shape::without_field(text, "_id"));
            }
        }
        Ok(payload)
    }

    /// Looks through a value: takes the wanted fields and an `_id` out of an object, and refuses what would be hidden.
    fn look<'r>(
        &self,
        bytes: &'r [u8],
        fields: &mut [Option<&'r str>],
        own_id: &mut Option<&'r str>,
        noticed: &mut bool,
    ) -> Result<ParsedPayload<'r>, Reason> {
        let not_json = |why: &str| match (self.raw, std::str::from_utf8(bytes)) {
            (RawValues::Text, Ok(text)) => Ok(ParsedPayload::Text(text)),
            (RawValues::Binary, _) => Ok(ParsedPayload::Binary(bytes)),
            _ => {
                let mut fault = shape::not_json_error(bytes, why);
                fault.hint.get_or_insert_with(|| "--raw-value text or binary wraps what is not JSON".to_owned());
                Err(Reason::from(fault))
            }
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return not_json(&error.to_string()),
        };
        let is_object = text.trim_start().starts_with('{');
        let mut json = serde_json::Deserializer::from_str(text);
        let mut claimed = None;
        let looked = if is_object {
            json.deserialize_map(PayloadVisitor { reading: self, fields, own_id, noticed, claimed: &mut claimed })
        } else {
            json.deserialize_ignored_any(IgnoredAny).map(drop)
        };
        if let Err(error) = looked.and_then(|()| json.end()) {
            return not_json(&error.to_string());
        }
        if let Some(name) = claimed {
            let what = format!("the payload has a field `{name}`, which is ours");
            return Err(Reason::new("claimed_field", what)
                .at(name)
                .hint("--meta-prefix names ours otherwise; --no-meta leaves them out"));
        }
        Ok(if is_object { ParsedPayload::Object(Cow::Borrowed(text)) } else { ParsedPayload::Json(text) })
    }
}

/// Returns whether the JSON `value` is text or a number that says `text`.
fn is_text(value: &str, text: &str) -> bool {
    value == text || serde_json::from_str::<String>(value).is_ok_and(|value| value == text)
}

struct PayloadVisitor<'a, 'r> {
    reading: &'a DocumentMapper,
    fields: &'a mut [Option<&'r str>],
    own_id: &'a mut Option<&'r str>,
    noticed: &'a mut bool,
    claimed: &'a mut Option<String>,
}

impl<'r> Visitor<'r> for PayloadVisitor<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(FieldName)? {
            if !self.reading.firsts.fit(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let is_wanted = |path: &FieldPath| path.names()[0] == *name;
            let is_id = name == "_id";
            *self.noticed |= self.reading.noticed.is_some_and(|field| name == field);
            if self.reading.meta.claims(&name) {
                *self.claimed = Some(name.into_owned());
                map.next_value::<IgnoredAny>()?;
            } else if is_id || self.reading.wanted.iter().any(is_wanted) {
                let value = map.next_value::<&'r RawValue>()?.get();
                for (path, field) in self.reading.wanted.iter().zip(&mut *self.fields).filter(|(path, _)| is_wanted(path)) {
                    *field = shape::value_at(value, &path.names()[1..]);
                }
                if is_id {
                    *self.own_id = Some(value);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A name, borrowed where it is written without escapes.
struct FieldName;

impl<'r> DeserializeSeed<'r> for FieldName {
    type Value = Cow<'r, str>;

    fn deserialize<D: serde::Deserializer<'r>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'r> Visitor<'r> for FieldName {
    type Value = Cow<'r, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'r str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Partition;

    fn record(value: Option<&[u8]>) -> Record {
        Record {
            partition: Partition::new("logins", 3),
            offset: 42,
            timestamp: Some(1000),
            key: Some(Bytes::from_static(b"k")),
            value: value.map(Bytes::copy_from_slice),
            headers: Vec::new(),
        }
    }

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    fn offsets() -> DocumentMapper {
        DocumentMapper::new(
            Ids::Offset { prefix: String::new() },
            Version::Offset,
            MetadataFields::default(),
            RawValues::Bad,
            None,
            Vec::new(),
        )
    }

    fn code(reading: &DocumentMapper, value: &[u8]) -> String {
        reading.read(&record(Some(value)), &mut Document::default()).unwrap_err().code().to_owned()
    }

    #[test]
    fn an_object_is_taken_as_it_is() {
        let record = record(Some(b" {\"a\": {\"_id\": 1}, \"b\":[1e400, 18446744073709551616]} "));
        let mut document = Document::default();
        let payload = offsets().read(&record, &mut document).unwrap();
        assert_eq!(payload, ParsedPayload::Object(std::str::from_utf8(record.value.as_deref().unwrap()).unwrap().into()));
        let expected =
            Document { id: "logins:3:42".to_owned(), version: None, time: Some(1000), names: Vec::new(), noticed: false };
        assert_eq!(document, expected);
    }

    #[test]
    fn fields_give_id_version_time_and_names() {
        let index = NameTemplate::new("{topic}-{to.country}-%Y".parse().unwrap(), |_| Ok(()), 10).unwrap();
        let version = Version::Field(path("v"));
        let reading = DocumentMapper::new(
            Ids::Field(path("user.id")),
            version,
            MetadataFields::default(),
            RawValues::Bad,
            Some(path("at")),
            vec![index],
        );
        let value = br#"{"v": 7, "user": {"name": "x", "id": "u1"}, "at": "2023-09-12T00:45:51Z", "to": {"c\u006funtry": "de"}}"#;
        let mut document = Document::default();
        reading.read(&record(Some(value)), &mut document).unwrap();
        let names = vec!["logins-de-2023".to_owned()];
        assert_eq!(
            document,
            Document { id: "u1".to_owned(), version: Some(7), time: Some(1_694_479_551_000), names, noticed: false }
        );
        assert_eq!(code(&reading, br#"{"v": 7, "at": "soon"}"#), "not_a_date");
        assert_eq!(code(&reading, br#"{"v": 7}"#), "missing_field");
        assert_eq!(code(&reading, b"[1]"), "missing_field");
    }

    #[test]
    fn what_is_no_object_is_wrapped_and_a_null_value_is_a_tombstone() {
        let mut document = Document::default();
        for text in ["[1, 2]", "null", "\"text\"", "7"] {
            let record = record(Some(text.as_bytes()));
            assert_eq!(offsets().read(&record, &mut document), Ok(ParsedPayload::Json(text)));
        }
        assert_eq!(offsets().read(&record(None), &mut document), Ok(ParsedPayload::Tombstone));
        assert_eq!(document.id, "logins:3:42");
    }

    #[test]
    fn what_is_not_json_is_bad_unless_it_is_wrapped() {
        for bytes in [&b"{"[..], b"", b"{\"a\":1} x", b"{\"a\": \"\xff\"}", b"\0\0\0\0\x07x"] {
            assert_eq!(code(&offsets(), bytes), "not_json");
        }
        let raw = |raw| DocumentMapper { raw, ..offsets() };
        let mut document = Document::default();
        assert_eq!(raw(RawValues::Text).read(&record(Some(b"{")), &mut document), Ok(ParsedPayload::Text("{")));
        assert_eq!(code(&raw(RawValues::Text), b"\xff"), "not_json");
        assert_eq!(raw(RawValues::Binary).read(&record(Some(b"\xff")), &mut document), Ok(ParsedPayload::Binary(b"\xff")));
        assert_eq!(raw(RawValues::Binary).read(&record(Some(b"7")), &mut document), Ok(ParsedPayload::Json("7")));
    }

    #[test]
    fn a_field_of_ours_or_a_foreign_id_in_the_payload_is_bad() {
        assert_eq!(code(&offsets(), br#"{"_kafka_offset": 1}"#), "claimed_field");
        assert_eq!(code(&offsets(), br#"{"_kafka\u005foffset": 1}"#), "claimed_field");
        assert_eq!(code(&offsets(), br#"{"_id": "other"}"#), "foreign_id");
        let unmarked = |value| {
            let reading =
                DocumentMapper::new(Ids::Random, Version::Offset, MetadataFields::prefixed(""), RawValues::Bad, None, Vec::new());
            code(&reading, value)
        };
        assert_eq!(unmarked(br#"{"a": 1, "": 2, "kafka_offset": 1}"#), "claimed_field");
        assert_eq!(unmarked(br#"{"processed_at": 1}"#), "claimed_field");
        let mut document = Document::default();
        let none = DocumentMapper { meta: MetadataFields::none(), ..offsets() };
        assert!(none.read(&record(Some(br#"{"_kafka_offset": 1}"#)), &mut document).is_ok());
    }

    #[test]
    fn a_field_that_is_to_be_noticed_is_noticed_where_it_stands_outermost() {
        let reading = offsets().detect_field("@timestamp");
        let mut document = Document::default();
        for (value, noticed) in [
            (r#"{"a": 1, "@timestamp": null}"#, true),
            (r#"{"\u0040timestamp": 1}"#, true),
            (r#"{"a": {"@timestamp": 1}, "b": "@timestamp", "@": 1}"#, false),
            (r#"["@timestamp"]"#, false),
        ] {
            reading.read(&record(Some(value.as_bytes())), &mut document).unwrap();
            assert_eq!(document.noticed, noticed, "{value}");
        }
    }

    #[test]
    fn an_id_of_its_own_that_is_the_id_is_taken_out() {
        let mut document = Document::default();
        let reading = DocumentMapper::new(
            Ids::Field(path("_id")),
            Version::Offset,
            MetadataFields::default(),
            RawValues::Bad,
            None,
            Vec::new(),
        );
        let record = record(Some(br#"{"a": 1, "_id": 17, "b": 2}"#));
        assert_eq!(reading.read(&record, &mut document), Ok(ParsedPayload::Object(r#"{"a":1,"b":2}"#.into())));
        assert_eq!((document.id.as_str(), document.version), ("17", Some(42)));
    }
}
