//! From a document to its BSON bytes. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::{Bson as Value, Uuid};

use crate::connectors::mongo::bson::{Bson, GENERIC, UUID};
use crate::document::{Document, DocumentMapper, ParsedPayload, Version, WRAPPED};
use crate::pipeline::Reason;
use crate::record::Record;
use crate::shape::FieldTree;

/// The largest document: 16 MiB.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;

/// Writes the field `_id`: the document's id, which stays a number if it is one, or a new one.
///
/// # Errors
/// When BSON cannot hold the number.
pub(super) fn id(out: &mut Bson, document: &Document<'_>) -> Result<(), Reason> {
    id_as(out, "_id", document)
}

/// Writes the id as the field `name`, as [`id`] does.
///
/// # Errors
/// When BSON cannot hold the number.
pub(super) fn id_as(out: &mut Bson, name: &str, document: &Document<'_>) -> Result<(), Reason> {
    if document.id.is_empty() {
        out.binary(name, UUID, &Uuid::new().bytes());
    } else if document.is_number_id {
        out.json(name, document.id, 1, &FieldTree::default())?;
    } else {
        out.text(name, document.id);
    }
    Ok(())
}

/// An id as the server compares it: numbers by value, whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum IdKey {
    Text(String),
    Number(String),
}

impl IdKey {
    pub(super) fn of(document: &Document<'_>) -> Self {
        let text = document.id;
        if !document.is_number_id {
            return Self::Text(text.to_owned());
        }
        let is_integer = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        match text.parse::<i64>() {
            Ok(number) => Self::Number(number.to_string()),
            Err(_) if is_integer => Self::Number(text.to_owned()),
            Err(_) => Self::of_double(text.parse().unwrap_or(f64::NAN)),
        }
    }

    /// Returns the key of a stored `_id`; none of a type that this sink does not write.
    pub(super) fn of_stored(id: &Value) -> Option<Self> {
        Some(match id {
            Value::String(text) => Self::Text(text.clone()),
            Value::Int32(number) => Self::Number(number.to_string()),
            Value::Int64(number) => Self::Number(number.to_string()),
            Value::Double(number) => Self::of_double(*number),
            Value::Decimal128(number) => Self::Number(number.to_string()),
            _ => return None,
        })
    }

    fn of_double(number: f64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // whole, and within the range
        let whole = (number.fract() == 0.0 && number.abs() < 1e38).then_some(number as i128);
        Self::Number(whole.map_or_else(|| number.to_string(), |whole| whole.to_string()))
    }
}

/// Writes the fields of the payload, and the metadata behind them; `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// When BSON cannot hold the payload.
pub(super) fn fields(out: &mut Bson, mapper: &DocumentMapper, document: &Document<'_>, now: i64) -> Result<(), Reason> {
    let Document { record, payload, .. } = document;
    match payload {
        ParsedPayload::Object(text) => {
            out.fields(text, mapper.dates())?;
        }
        ParsedPayload::Json(text) => out.json(WRAPPED, text, 1, mapper.dates())?,
        ParsedPayload::Text(text) => out.text(WRAPPED, text),
        ParsedPayload::Binary(bytes) => out.binary(WRAPPED, GENERIC, bytes),
        ParsedPayload::Tombstone => {}
    }
    let Some(names) = mapper.meta().names() else { return Ok(()) };
    match record.key.as_deref().map(|key| std::str::from_utf8(key).map_err(|_| key)) {
        None => {}
        Some(Ok(key)) => out.text(&names.key, key),
        Some(Err(key)) => out.text(&names.key_base64, &STANDARD.encode(key)),
    }
    out.text(&names.topic, record.partition.topic.name());
    out.int32(&names.partition, record.partition.index);
    out.int64(&names.offset, record.offset);
    if let Some(timestamp) = record.timestamp {
        out.int64(&names.timestamp, timestamp);
    }
    out.date(&names.processed_at, now);
    if let (Some(Version::Field(_)), Some(version)) = (mapper.version(), document.version) {
        out.int64(&names.version, version);
    }
    Ok(())
}

/// Returns the BSON bytes of the document of `record`; `now` is in milliseconds since the Unix epoch.
///
/// # Errors
/// When the record is bad.
pub fn document(mapper: &DocumentMapper, record: &Record, now: i64) -> Result<Vec<u8>, Reason> {
    let batch = mapper.read_batch(std::slice::from_ref(record), |_| Ok(()));
    let document = batch.get(0).map_err(Reason::clone)?;
    bytes(mapper, &document, now)
}

pub(super) fn bytes(mapper: &DocumentMapper, document: &Document<'_>, now: i64) -> Result<Vec<u8>, Reason> {
    let mut out = Bson::with_capacity(document.record.bytes() + 256);
    let begun = out.begin();
    id(&mut out, document)?;
    fields(&mut out, mapper, document, now)?;
    out.end(begun);
    check_size(out.bytes.len())?;
    Ok(out.bytes)
}

/// Rejects a document that is too large.
pub(super) fn check_size(bytes: usize) -> Result<(), Reason> {
    if bytes <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    let what = format!("the document has {bytes} bytes with its metadata, and MongoDB accepts {MAX_DOCUMENT_BYTES}");
    Err(Reason::new("document_too_large", what))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mongodb::bson::{DateTime, Document as Read, RawDocumentBuf, doc};

    use super::*;
    use crate::document::{Ids, MetadataFields, RawValues};
    use crate::record::Partition;
    use crate::shape::FieldPath;

    fn record(key: Option<&'static [u8]>, value: &'static [u8]) -> Record {
        Record {
            partition: Partition::new("logins", 3),
            offset: 42,
            timestamp: Some(1000),
            key: key.map(Bytes::from_static),
            value: Some(Bytes::from_static(value)),
            headers: Vec::new(),
        }
    }

    fn mapper(ids: Ids, version: Version, meta: MetadataFields, time: Option<&str>) -> DocumentMapper {
        let time = time.map(|path| FieldPath::parse(path).unwrap());
        DocumentMapper::new(ids, version, meta, RawValues::Binary, time, Vec::new())
    }

    fn offsets() -> DocumentMapper {
        mapper(Ids::Offset { prefix: String::new() }, Version::Offset, MetadataFields::default(), None)
    }

    fn made(mapper: &DocumentMapper, record: &Record) -> Read {
        let bytes = document(mapper, record, 2000).unwrap();
        Read::try_from(&RawDocumentBuf::from_bytes(bytes).unwrap()).unwrap()
    }

    fn date(time: i64) -> Value {
        DateTime::from_millis(time).into()
    }

    #[test]
    fn a_document_is_its_id_its_payload_and_its_metadata() {
        let expected = doc! {
            "_id": "logins:3:42", "a": 1, "_kafka_key": "k", "_kafka_topic": "logins", "_kafka_partition": 3,
            "_kafka_offset": 42_i64, "_kafka_timestamp": 1000_i64, "_processed_at": date(2000),
        };
        assert_eq!(made(&offsets(), &record(Some(b"k"), b"{\"a\": 1}")), expected);
        assert_eq!(expected.keys().next().unwrap(), "_id");
    }

    #[test]
    fn a_binary_key_is_kept_in_base64_and_a_payload_that_is_not_an_object_is_wrapped() {
        let made = made(&offsets(), &record(Some(b"\xff"), b"[1, {\"a\": 2}]"));
        assert_eq!(made.get_str("_kafka_key_base64").unwrap(), "/w==");
        assert_eq!(made.get_array("original_data").unwrap(), &vec![Value::from(1), doc! {"a": 2}.into()]);
        assert!(!made.contains_key("_kafka_key"));
    }

    #[test]
    fn bytes_are_wrapped_as_bytes() {
        let made = made(&offsets(), &record(None, b"\xfe\xff"));
        assert_eq!(made.get_binary_generic("original_data").unwrap(), b"\xfe\xff");
    }

    #[test]
    fn the_time_field_is_a_date_and_a_version_of_a_field_is_kept() {
        let version = Version::Field(FieldPath::parse("v").unwrap());
        let made = made(
            &mapper(Ids::Key, version, MetadataFields::prefixed("m_"), Some("at")),
            &record(Some(b"k"), br#"{"at": 1694479551, "v": "7"}"#),
        );
        assert_eq!(made.get("at"), Some(&date(1_694_479_551_000)));
        assert_eq!((made.get_str("v").unwrap(), made.get_i64("m_kafka_version").unwrap()), ("7", 7));
    }

    #[test]
    fn an_id_that_is_a_number_stays_a_number() {
        let ids = mapper(Ids::Field(FieldPath::parse("_id").unwrap()), Version::Offset, MetadataFields::default(), None);
        let id = |value: &'static str| made(&ids, &record(None, value.as_bytes())).get("_id").cloned().unwrap();
        assert_eq!(id(r#"{"_id": 15792978561296882}"#), Value::Int64(15_792_978_561_296_882));
        assert_eq!(id(r#"{"_id": 17}"#), Value::Int32(17));
        assert_eq!(id(r#"{"_id": "17"}"#), Value::from("17"));
        assert_eq!(id(r#"{"_id": 1.5}"#), Value::Double(1.5));
        assert_eq!(id(r#"{"_id": 18446744073709551615}"#), Value::Decimal128("18446744073709551615".parse().unwrap()));
        assert_eq!(document(&ids, &record(None, br#"{"_id": 1e400}"#), 0).unwrap_err().code(), "number_too_large");
    }

    #[test]
    fn a_stored_id_is_found_by_its_value_whatever_its_type() {
        let ids = mapper(Ids::Field(FieldPath::parse("n").unwrap()), Version::Offset, MetadataFields::default(), None);
        let key = |value: &'static str| {
            let records = [record(None, value.as_bytes())];
            let batch = ids.read_batch(&records, |_| Ok(()));
            IdKey::of(&batch.get(0).unwrap())
        };
        for stored in [Value::Int32(17), Value::Int64(17), Value::Double(17.0)] {
            assert_eq!(Some(key(r#"{"n": 17}"#)), IdKey::of_stored(&stored));
            assert_eq!(Some(key(r#"{"n": 17.0}"#)), IdKey::of_stored(&stored));
            assert_ne!(Some(key(r#"{"n": "17"}"#)), IdKey::of_stored(&stored));
        }
        assert_eq!(Some(key(r#"{"n": 1.5e0}"#)), IdKey::of_stored(&Value::Double(1.5)));
        let large = Value::Decimal128("18446744073709551615".parse().unwrap());
        assert_eq!(Some(key(r#"{"n": 18446744073709551615}"#)), IdKey::of_stored(&large));
        assert_eq!(Some(key(r#"{"n": 1152921504606846976}"#)), IdKey::of_stored(&Value::Double(1_152_921_504_606_846_976.0)));
        assert_eq!(Some(key(r#"{"n": 18446744073709551616}"#)), IdKey::of_stored(&Value::Double(18_446_744_073_709_551_616.0)));
        assert_eq!(Some(key(r#"{"n": "a"}"#)), IdKey::of_stored(&Value::from("a")));
    }

    #[test]
    fn fields_of_date_rules_are_dates() {
        let dates = ["a", "b.c"].map(|path| FieldPath::parse(path).unwrap()).to_vec();
        let made = made(
            &offsets().with_dates(dates),
            &record(None, br#"{"a": 1559757225159, "b": {"c": "2019-06-05"}, "d": "2019-06-05"}"#),
        );
        assert_eq!((made.get("a"), made.get("d")), (Some(&date(1_559_757_225_159)), Some(&Value::from("2019-06-05"))));
        assert_eq!(made.get_document("b").unwrap().get("c"), Some(&date(1_559_692_800_000)));
    }

    #[test]
    fn without_metadata_a_document_is_the_payload_alone() {
        let mapper = mapper(Ids::Random, Version::Offset, MetadataFields::none(), None);
        let (one, other) = (made(&mapper, &record(None, b"{}")), made(&mapper, &record(None, b"{}")));
        let id = |document: &Read| matches!(document.get("_id"), Some(Value::Binary(binary)) if binary.bytes.len() == 16);
        assert!(id(&one) && id(&other) && one.len() == 1);
        assert_ne!(one, other);
    }

    #[test]
    fn the_size_of_a_document_includes_its_metadata() {
        let payload = |bytes: usize| Bytes::from(format!("{{\"a\": \"{}\"}}", "x".repeat(bytes)));
        let of = |bytes| document(&offsets(), &Record { value: Some(payload(bytes)), ..record(None, b"") }, 0);
        let rest = of(0).unwrap().len();
        assert_eq!(of(MAX_DOCUMENT_BYTES - rest).unwrap().len(), MAX_DOCUMENT_BYTES);
        assert_eq!(of(MAX_DOCUMENT_BYTES - rest + 1).unwrap_err().code(), "document_too_large");
    }
}
