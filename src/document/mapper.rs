//! From records to documents: each payload is parsed once.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::document::field_check::TimeFieldCheck;
use crate::document::{Ids, MetadataFields, NameTemplate, Version};
use crate::pipeline::Reason;
use crate::record::Record;
use crate::shape::{self, FieldPath, FieldTree};

/// Handling of values that are not JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RawValues {
    /// They are bad records.
    #[default]
    Bad,
    /// They are wrapped as text; a value that is not UTF-8 is a bad record.
    Text,
    /// They are wrapped as bytes.
    Binary,
}

/// How records become documents.
#[derive(Debug)]
pub struct DocumentMapper {
    ids: Ids,
    /// Set if ids can repeat.
    version: Option<Version>,
    meta: MetadataFields,
    raw: RawValues,
    time: Option<FieldPath>,
    time_check: Option<TimeFieldCheck>,
    /// The fields that become dates where the destination has dates.
    dates: FieldTree,
    templates: Vec<NameTemplate>,
    /// The fields whose values are needed, each once.
    wanted: Vec<FieldPath>,
    /// A top-level field whose presence is recorded.
    detected: Option<&'static str>,
    /// The first bytes of the needed names: the first byte rules out most fields.
    first_bytes: ByteSet,
}

#[derive(Debug)]
struct ByteSet([bool; 256]);

impl ByteSet {
    /// Returns the first bytes of these names: every byte if one is empty.
    fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut first_bytes = [false; 256];
        for name in names {
            match name.as_bytes().first() {
                Some(first) => first_bytes[usize::from(*first)] = true,
                None => first_bytes = [true; 256],
            }
        }
        Self(first_bytes)
    }

    /// Returns whether the first byte of `name` is one of them.
    fn may_match(&self, name: &str) -> bool {
        name.as_bytes().first().is_none_or(|first| self.0[usize::from(*first)])
    }
}

/// A mapped record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'b> {
    pub(crate) record: &'b Record,
    pub(crate) payload: &'b ParsedPayload<'b>,
    /// Its id; empty if the server or the driver makes one.
    pub(crate) id: &'b str,
    /// Whether the id is a number in the payload.
    pub(crate) is_number_id: bool,
    /// Its version, if its id can repeat.
    pub(crate) version: Option<i64>,
    /// The time of the event in milliseconds since the Unix epoch: the time field's, else the record's.
    pub(crate) time: Option<i64>,
    /// The names that the templates make, in their order; empty without a template.
    pub(crate) names: [&'b str; 2],
    /// Whether the payload is an object with the detected field.
    pub(crate) has_field: bool,
}

/// The documents of a batch. Each record is parsed once, for all later steps; ids and names share one buffer.
#[derive(Debug)]
pub(crate) struct DocumentBatch<'r> {
    records: &'r [Record],
    parsed: Vec<Result<ParsedRecord<'r>, Reason>>,
    text: String,
}

#[derive(Debug)]
struct ParsedRecord<'r> {
    payload: ParsedPayload<'r>,
    is_number_id: bool,
    version: Option<i64>,
    time: Option<i64>,
    has_field: bool,
    /// Where the id begins in the buffer of the batch, where it ends, and where the names behind it end.
    ends: [usize; 4],
}

impl<'r> DocumentBatch<'r> {
    /// Returns the document of the record at `place`.
    ///
    /// # Errors
    /// When the record is bad: the reason.
    pub(crate) fn get(&self, place: usize) -> Result<Document<'_>, &Reason> {
        let parsed = self.parsed[place].as_ref()?;
        let [start, id, first, second] = parsed.ends;
        Ok(Document {
            record: &self.records[place],
            payload: &parsed.payload,
            id: &self.text[start..id],
            is_number_id: parsed.is_number_id,
            version: parsed.version,
            time: parsed.time,
            names: [&self.text[id..first], &self.text[first..second]],
            has_field: parsed.has_field,
        })
    }

    pub(crate) fn records(&self) -> &'r [Record] {
        self.records
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the documents of the good records, each with its place in the batch.
    pub(crate) fn good(&self) -> impl Iterator<Item = (usize, Document<'_>)> {
        (0..self.len()).filter_map(|place| Some((place, self.get(place).ok()?)))
    }
}

/// A record's value, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParsedPayload<'r> {
    /// A JSON object, without an `_id` that is the document's id.
    Object(Cow<'r, str>),
    /// Any other JSON, to be wrapped.
    Json(&'r str),
    /// Text that is not JSON, to be wrapped.
    Text(&'r str),
    /// Bytes, to be wrapped.
    Binary(&'r [u8]),
    /// Null.
    Tombstone,
}

/// The field that holds a wrapped value.
pub(crate) const WRAPPED: &str = "original_data";

impl DocumentMapper {
    /// Returns a mapper of records to documents; `version` counts if ids can repeat.
    #[must_use]
    pub fn new(
        ids: Ids,
        version: Version,
        meta: MetadataFields,
        raw: RawValues,
        time: Option<FieldPath>,
        templates: Vec<NameTemplate>,
    ) -> Self {
        let version = ids.can_repeat().then_some(version);
        let mut wanted: Vec<FieldPath> = Vec::new();
        let id = if let Ids::Field(path) = &ids { Some(path) } else { None };
        let of_version = if let Some(Version::Field(path)) = &version { Some(path) } else { None };
        let named = templates.iter().flat_map(|template| template.pattern().fields());
        for path in id.into_iter().chain(of_version).chain(&time).chain(named) {
            if !wanted.contains(path) {
                wanted.push(path.clone());
            }
        }
        let first_bytes =
            ByteSet::of(["_id", meta.prefix()].into_iter().chain(wanted.iter().map(|path| path.names()[0].as_str())));
        let dates = FieldTree::new(time.as_slice());
        let time_check = time.clone().map(TimeFieldCheck::new);
        Self { ids, version, meta, raw, time, time_check, dates, templates, wanted, detected: None, first_bytes }
    }

    /// Makes the mapper record whether an object has this field.
    #[must_use]
    pub(crate) fn detect_field(mut self, field: &'static str) -> Self {
        self.detected = Some(field);
        self.first_bytes.0[usize::from(field.as_bytes()[0])] = true;
        self
    }

    /// Makes these fields dates too, where the destination has dates.
    #[must_use]
    pub fn with_dates(mut self, mut dates: Vec<FieldPath>) -> Self {
        dates.extend(self.time.clone());
        self.dates = FieldTree::new(&dates);
        self
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Returns the rule for which write of an id is the newer one, if ids can repeat.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    pub(crate) fn time_field(&self) -> Option<&FieldPath> {
        self.time.as_ref()
    }

    pub(crate) fn dates(&self) -> &FieldTree {
        &self.dates
    }

    pub(crate) fn meta(&self) -> &MetadataFields {
        &self.meta
    }

    pub(crate) fn templates(&self) -> &[NameTemplate] {
        &self.templates
    }

    /// Returns the documents of `records`; those that fail `check` are bad too.
    pub(crate) fn read_batch<'r>(
        &self,
        records: &'r [Record],
        check: impl Fn(&Document<'_>) -> Result<(), Reason>,
    ) -> DocumentBatch<'r> {
        let mut batch = DocumentBatch { records, parsed: Vec::with_capacity(records.len()), text: String::new() };
        for (place, record) in records.iter().enumerate() {
            let parsed = self.read(record, &mut batch.text);
            batch.parsed.push(parsed);
            if let Ok(document) = batch.get(place)
                && let Err(reason) = check(&document)
            {
                batch.parsed[place] = Err(reason);
            }
        }
        batch
    }

    /// Parses a record, and appends its id and names to `text`.
    fn read<'r>(&self, record: &'r Record, text: &mut String) -> Result<ParsedRecord<'r>, Reason> {
        let mut fields: Vec<Option<&'r str>> = vec![None; self.wanted.len()];
        let (mut own_id, mut has_field) = (None, false);
        let mut payload = match record.value.as_deref() {
            None => ParsedPayload::Tombstone,
            Some(bytes) => self.parse(bytes, &mut fields, &mut own_id, &mut has_field)?,
        };
        let field = |path: &FieldPath| fields[self.wanted.iter().position(|wanted| wanted == path)?];
        let mut time = record.timestamp;
        if let (Some(check), Some(path), ParsedPayload::Object(_)) = (&self.time_check, &self.time, &payload) {
            check.looked_up(field(path).is_some());
        }
        if let Some(path) = &self.time
            && let Some(text) = field(path).filter(|text| *text != "null")
        {
            let instant = shape::parse_time(text)
                .ok_or_else(|| Reason::new("not_a_date", format!("`{path}` is not a time")).at(path.to_string()))?;
            time = Some(instant.as_millisecond());
        }
        let start = text.len();
        let of_id = if let Ids::Field(path) = &self.ids { field(path) } else { None };
        self.ids.write(record, of_id, text)?;
        let mut ends = [start, text.len(), text.len(), text.len()];
        let of_version = if let Some(Version::Field(path)) = &self.version { field(path) } else { None };
        let version = self.version.as_ref().map(|version| version.of(record, of_version)).transpose()?;
        for (at, template) in self.templates.iter().enumerate() {
            template.write(record.partition.topic, time, field, text)?;
            ends[at + 2..].fill(text.len());
        }
        if let Some(own) = own_id {
            if !is_text(own, &text[start..ends[1]]) {
                let what = "the payload has an `_id` that is not the document's id";
                return Err(Reason::new("foreign_id", what).at("_id"));
            }
            if let ParsedPayload::Object(text) = &mut payload {
                *text = Cow::Owned(shape::without_field(text, "_id"));
            }
        }
        let is_number_id = of_id.is_some_and(|id| !id.starts_with('"'));
        Ok(ParsedRecord { payload, is_number_id, version, time, has_field, ends })
    }

    /// Parses a value: takes the wanted fields and an `_id` out of an object, and rejects a field that metadata would hide.
    fn parse<'r>(
        &self,
        bytes: &'r [u8],
        fields: &mut [Option<&'r str>],
        own_id: &mut Option<&'r str>,
        has_field: &mut bool,
    ) -> Result<ParsedPayload<'r>, Reason> {
        let not_json = |why: &str| match (self.raw, std::str::from_utf8(bytes)) {
            (RawValues::Text, Ok(text)) => Ok(ParsedPayload::Text(text)),
            (RawValues::Binary, _) => Ok(ParsedPayload::Binary(bytes)),
            _ => Err(Reason::from(shape::not_json_error(bytes, why))),
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => shape::without_bom(text),
            Err(error) => return not_json(&error.to_string()),
        };
        let is_object = text.trim_start().starts_with('{');
        let mut json = serde_json::Deserializer::from_str(text);
        let mut claimed = None;
        let walked = if is_object {
            json.deserialize_map(PayloadVisitor { mapper: self, fields, own_id, has_field, claimed: &mut claimed })
        } else {
            json.deserialize_ignored_any(IgnoredAny).map(drop)
        };
        if let Err(error) = walked.and_then(|()| json.end()) {
            return not_json(&error.to_string());
        }
        if let Some(name) = claimed {
            let what = format!("the payload has a field `{name}`, which is the name of a metadata field");
            return Err(Reason::new("claimed_field", what).at(name));
        }
        Ok(if is_object { ParsedPayload::Object(Cow::Borrowed(text)) } else { ParsedPayload::Json(text) })
    }
}

/// Returns whether the JSON `value` is a string or a number that reads as `text`.
fn is_text(value: &str, text: &str) -> bool {
    value == text || serde_json::from_str::<String>(value).is_ok_and(|value| value == text)
}

struct PayloadVisitor<'a, 'r> {
    mapper: &'a DocumentMapper,
    fields: &'a mut [Option<&'r str>],
    own_id: &'a mut Option<&'r str>,
    has_field: &'a mut bool,
    claimed: &'a mut Option<String>,
}

impl<'r> Visitor<'r> for PayloadVisitor<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(FieldName)? {
            if !self.mapper.first_bytes.may_match(&name) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let is_wanted = |path: &FieldPath| path.names()[0] == *name;
            let is_id = name == "_id";
            *self.has_field |= self.mapper.detected.is_some_and(|field| name == field);
            if self.mapper.meta.claims(&name) {
                *self.claimed = Some(name.into_owned());
                map.next_value::<IgnoredAny>()?;
            } else if is_id || self.mapper.wanted.iter().any(is_wanted) {
                let value = map.next_value::<&'r RawValue>()?.get();
                for (path, field) in self.mapper.wanted.iter().zip(&mut *self.fields).filter(|(path, _)| is_wanted(path)) {
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

/// A field name, borrowed unless it has escapes.
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

    fn code(mapper: &DocumentMapper, value: &[u8]) -> String {
        let record = [record(Some(value))];
        let batch = mapper.read_batch(&record, |_| Ok(()));
        batch.get(0).unwrap_err().code().to_owned()
    }

    #[test]
    fn an_object_is_kept_unchanged() {
        let records = [record(Some(b" {\"a\": {\"_id\": 1}, \"b\":[1e400, 18446744073709551616]} "))];
        let batch = offsets().read_batch(&records, |_| Ok(()));
        let text = std::str::from_utf8(records[0].value.as_deref().unwrap()).unwrap();
        let (record, payload) = (&records[0], &ParsedPayload::Object(text.into()));
        let expected = Document {
            record,
            payload,
            id: "logins:3:42",
            is_number_id: false,
            version: None,
            time: Some(1000),
            names: ["", ""],
            has_field: false,
        };
        assert_eq!(batch.get(0), Ok(expected));
    }

    #[test]
    fn fields_give_id_version_time_and_names() {
        let index = NameTemplate::new("{topic}-{to.country}-%Y".parse().unwrap(), |_| Ok(()), 10).unwrap();
        let version = Version::Field(path("v"));
        let mapper = DocumentMapper::new(
            Ids::Field(path("user.id")),
            version,
            MetadataFields::default(),
            RawValues::Bad,
            Some(path("at")),
            vec![index],
        );
        let value = br#"{"v": 7, "user": {"name": "x", "id": "u1"}, "at": "2023-09-12T00:45:51Z", "to": {"c\u006funtry": "de"}}"#;
        let records = [record(None), record(Some(value)), record(Some(value))];
        let batch = mapper.read_batch(&records, |_| Ok(()));
        assert!(batch.get(0).is_err());
        for place in [1, 2] {
            let Document { id, version, time, names, .. } = batch.get(place).unwrap();
            assert_eq!((id, version, time, names), ("u1", Some(7), Some(1_694_479_551_000), ["logins-de-2023", ""]));
        }
        assert_eq!(code(&mapper, br#"{"v": 7, "at": "soon"}"#), "not_a_date");
        assert_eq!(code(&mapper, br#"{"v": 7}"#), "missing_field");
        assert_eq!(code(&mapper, b"[1]"), "missing_field");
    }

    fn payload<'r>(mapper: &DocumentMapper, record: &'r Record) -> ParsedPayload<'r> {
        let batch = mapper.read_batch(std::slice::from_ref(record), |_| Ok(()));
        let DocumentBatch { parsed, .. } = batch;
        parsed.into_iter().next().unwrap().unwrap().payload
    }

    #[test]
    fn a_value_that_is_not_an_object_is_wrapped_and_a_null_value_is_a_tombstone() {
        for text in ["[1, 2]", "null", "\"text\"", "7"] {
            assert_eq!(payload(&offsets(), &record(Some(text.as_bytes()))), ParsedPayload::Json(text));
        }
        assert_eq!(payload(&offsets(), &record(None)), ParsedPayload::Tombstone);
    }

    #[test]
    fn a_value_that_is_not_json_is_bad_unless_it_is_wrapped() {
        for bytes in [&b"{"[..], b"", b"{\"a\":1} x", b"{\"a\": \"\xff\"}", b"\0\0\0\0\x07x"] {
            assert_eq!(code(&offsets(), bytes), "not_json");
        }
        let raw = |raw| DocumentMapper { raw, ..offsets() };
        assert_eq!(payload(&raw(RawValues::Text), &record(Some(b"{"))), ParsedPayload::Text("{"));
        assert_eq!(code(&raw(RawValues::Text), b"\xff"), "not_json");
        assert_eq!(payload(&raw(RawValues::Binary), &record(Some(b"\xff"))), ParsedPayload::Binary(b"\xff"));
        assert_eq!(payload(&raw(RawValues::Binary), &record(Some(b"7"))), ParsedPayload::Json("7"));
    }

    #[test]
    fn a_metadata_field_or_a_foreign_id_in_the_payload_is_bad() {
        assert_eq!(code(&offsets(), br#"{"_kafka_offset": 1}"#), "claimed_field");
        assert_eq!(code(&offsets(), br#"{"_kafka\u005foffset": 1}"#), "claimed_field");
        assert_eq!(code(&offsets(), br#"{"_id": "other"}"#), "foreign_id");
        let unmarked = |value| {
            let mapper =
                DocumentMapper::new(Ids::Random, Version::Offset, MetadataFields::prefixed(""), RawValues::Bad, None, Vec::new());
            code(&mapper, value)
        };
        assert_eq!(unmarked(br#"{"a": 1, "": 2, "kafka_offset": 1}"#), "claimed_field");
        assert_eq!(unmarked(br#"{"processed_at": 1}"#), "claimed_field");
        let none = DocumentMapper { meta: MetadataFields::none(), ..offsets() };
        let records = [record(Some(br#"{"_kafka_offset": 1}"#))];
        assert!(none.read_batch(&records, |_| Ok(())).get(0).is_ok());
    }

    #[test]
    fn the_presence_of_a_top_level_field_is_recorded() {
        let mapper = offsets().detect_field("@timestamp");
        for (value, has_field) in [
            (r#"{"a": 1, "@timestamp": null}"#, true),
            (r#"{"\u0040timestamp": 1}"#, true),
            (r#"{"a": {"@timestamp": 1}, "b": "@timestamp", "@": 1}"#, false),
            (r#"["@timestamp"]"#, false),
        ] {
            let records = [record(Some(value.as_bytes()))];
            assert_eq!(mapper.read_batch(&records, |_| Ok(())).get(0).unwrap().has_field, has_field, "{value}");
        }
    }

    #[test]
    fn an_id_field_that_gives_the_id_is_removed_from_the_payload() {
        let mapper = DocumentMapper::new(
            Ids::Field(path("_id")),
            Version::Offset,
            MetadataFields::default(),
            RawValues::Bad,
            None,
            Vec::new(),
        );
        let records = [record(Some(br#"{"a": 1, "_id": 17, "b": 2}"#))];
        let batch = mapper.read_batch(&records, |_| Ok(()));
        let document = batch.get(0).unwrap();
        assert_eq!(*document.payload, ParsedPayload::Object(r#"{"a":1,"b":2}"#.into()));
        assert_eq!((document.id, document.is_number_id, document.version), ("17", true, Some(42)));
    }
}
