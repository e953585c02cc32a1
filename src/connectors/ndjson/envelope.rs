//! Records as lines of JSON.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::record::{Headers, Partition, Record, RecordView};
use crate::shape::json_error;

/// Appends `record` to `out` as one line, its line feed included.
pub fn write(record: &RecordView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    text(record.partition.topic.name(), out);
    let (kind, time) = match record.timestamp {
        None => ("unknown", -1),
        Some(time) => (if record.appended { "logappend" } else { "create" }, time),
    };
    out.extend_from_slice(b",\"partition\":");
    number(record.partition.index.into(), out);
    out.extend_from_slice(b",\"offset\":");
    number(record.offset, out);
    out.extend_from_slice(b",\"tstype\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"ts\":");
    number(time, out);
    let mut first = true;
    record.headers.each(&mut |name, value| {
        out.extend_from_slice(if std::mem::take(&mut first) { b",\"headers\":[" } else { b"," });
        header(Some(name), out);
        out.push(b',');
        header(value, out);
    });
    if !first {
        out.push(b']');
    }
    field("key", record.key, out);
    field("payload", record.value, out);
    out.extend_from_slice(b"}\n");
}

fn text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string serializes to memory");
}

fn number(number: i64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &number).expect("a number serializes to memory");
}

fn field(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let write_name = |suffix: &str, out: &mut Vec<u8>| {
        for part in [",\"", name, suffix, "\":"] {
            out.extend_from_slice(part.as_bytes());
        }
    };
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => {
            write_name("", out);
            out.extend_from_slice(b"null");
        }
        Some(Ok(utf8)) => {
            write_name("", out);
            text(utf8, out);
        }
        Some(Err(binary)) => {
            write_name("_base64", out);
            text(&BASE64_STANDARD.encode(binary), out);
        }
    }
}

fn header(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => out.extend_from_slice(b"null"),
        Some(Ok(utf8)) => text(utf8, out),
        Some(Err(binary)) => {
            out.extend_from_slice(b"{\"base64\":");
            text(&BASE64_STANDARD.encode(binary), out);
            out.push(b'}');
        }
    }
}

/// Content of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedLine {
    /// A record with its coordinates.
    Record(Record),
    /// Any other JSON, unchanged: the value of a record.
    Value(Bytes),
}

/// Fields of a record's line, unparsed: a user's event may use the same names with other types.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    topic: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    partition: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    offset: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ts: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    headers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key_base64: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload_base64: Option<&'a RawValue>,
}

/// Distinguishes a null field from an absent one.
fn present<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(field).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EnvelopePart {
    Text(String),
    Binary { base64: String },
}

/// Parses `line`, which has no line feed.
///
/// An object with `topic`, `partition`, `offset` and `payload` or `payload_base64` is a record. A payload that is neither a
/// string nor null is kept as JSON (kcat writes decoded payloads this way). Any other JSON is a value.
///
/// # Errors
/// When the line is not JSON, or has the fields of a record with other types.
pub fn read(line: &[u8]) -> Result<ParsedLine, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    if let Some(fields) = serde_json::from_str(line).ok().filter(Fields::are_a_record) {
        return fields.record().map(ParsedLine::Record);
    }
    let value: &RawValue = serde_json::from_str(line).map_err(|error| format!("not JSON: {}", json_error(&error)))?;
    Ok(ParsedLine::Value(Bytes::copy_from_slice(value.get().as_bytes())))
}

impl Fields<'_> {
    fn are_a_record(&self) -> bool {
        let coordinates = self.topic.is_some() && self.partition.is_some() && self.offset.is_some();
        coordinates && (self.payload.is_some() || self.payload_base64.is_some())
    }

    fn record(&self) -> Result<Record, String> {
        let topic: String = typed("topic", "text", self.topic)?;
        let index = typed("partition", "a partition's number", self.partition)?;
        let time: Option<i64> = typed("ts", "a whole number", self.ts)?;
        let headers: Option<Vec<Option<EnvelopePart>>> = typed("headers", "a list of names and values", self.headers)?;
        Ok(Record {
            partition: Partition::new(&topic, index),
            offset: typed("offset", "a whole number", self.offset)?,
            timestamp: time.filter(|time| *time >= 0),
            key: bytes("key", self.key, self.key_base64)?,
            value: bytes("payload", self.payload, self.payload_base64)?,
            headers: pairs(headers.unwrap_or_default())?,
        })
    }
}

/// Parses a field; an absent field counts as null.
fn typed<T: DeserializeOwned>(name: &str, kind: &str, field: Option<&RawValue>) -> Result<T, String> {
    serde_json::from_str(field.map_or("null", RawValue::get)).map_err(|_| format!("`{name}` is not {kind}"))
}

fn bytes(name: &str, plain: Option<&RawValue>, base64: Option<&RawValue>) -> Result<Option<Bytes>, String> {
    if let Some(base64) = base64 {
        let name = format!("{name}_base64");
        return decode(&name, &typed::<String>(&name, "text", Some(base64))?).map(Some);
    }
    let Some(plain) = plain.map(RawValue::get).filter(|plain| *plain != "null") else {
        return Ok(None);
    };
    Ok(Some(match serde_json::from_str::<String>(plain) {
        Ok(text) => text.into(),
        // An invalid string, such as one with a lone surrogate, must not be kept as raw JSON.
        Err(_) if plain.starts_with('"') => return Err(format!("`{name}` is not text")),
        Err(_) => Bytes::copy_from_slice(plain.as_bytes()),
    }))
}

fn decode(name: &str, base64: &str) -> Result<Bytes, String> {
    BASE64_STANDARD.decode(base64).map(Bytes::from).map_err(|_| format!("`{name}` is not base64"))
}

fn pairs(parts: Vec<Option<EnvelopePart>>) -> Result<Headers, String> {
    if parts.len() % 2 == 1 {
        return Err("`headers` has a name without a value".to_owned());
    }
    let mut headers = Headers::with_capacity(parts.len() / 2);
    let mut parts = parts.into_iter().map(|part| {
        part.map(|part| match part {
            EnvelopePart::Text(text) => Ok(text.into()),
            EnvelopePart::Binary { base64 } => decode("base64", &base64),
        })
        .transpose()
    });
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let name = name?.ok_or_else(|| "`headers` has a name that is null".to_owned())?;
        headers.push((name, value?));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn written(record: &Record) -> String {
        let mut line = Vec::new();
        write(&record.view(), &mut line);
        String::from_utf8(line).unwrap()
    }

    fn record() -> Record {
        Record {
            partition: Partition::new("logins", 3),
            offset: 1042,
            timestamp: Some(1_694_479_551_000),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"{\"a\": 1}")),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_line_uses_the_field_names_of_kcat() {
        let headers = vec![(Bytes::from_static(b"trace"), Some(Bytes::from_static(b"x"))), (Bytes::from_static(b"trace"), None)];
        assert_eq!(
            written(&Record { headers, ..record() }),
            r#"{"topic":"logins","partition":3,"offset":1042,"tstype":"create","ts":1694479551000,"headers":["trace","x","trace",null],"key":"k","payload":"{\"a\": 1}"}"#
                .to_owned()
                + "\n"
        );
    }

    #[test]
    fn binary_data_is_base64_and_null_is_null() {
        let headers = vec![(Bytes::from_static(b"\xff"), Some(Bytes::from_static(b"\xfe")))];
        let record = Record { key: Some(Bytes::from_static(b"\xff")), value: None, timestamp: None, headers, ..record() };
        assert_eq!(
            written(&record),
            r#"{"topic":"logins","partition":3,"offset":1042,"tstype":"unknown","ts":-1,"headers":[{"base64":"/w=="},{"base64":"/g=="}],"key_base64":"/w==","payload":null}"#
                .to_owned()
                + "\n"
        );
    }

    #[test]
    fn a_kcat_line_is_a_record() {
        let line = r#"{"topic":"logins","partition":3,"offset":1042,"tstype":"create","ts":1694479551000,"broker":1,"key":"k","payload":"{\"a\": 1}"}"#;
        assert_eq!(read(line.as_bytes()), Ok(ParsedLine::Record(record())));
        let decoded = r#"{"topic":"logins","partition":3,"offset":1042,"ts":1694479551000,"key":"k","payload":{"a": 1}}"#;
        assert_eq!(read(decoded.as_bytes()), Ok(ParsedLine::Record(record())));
    }

    #[test]
    fn any_other_json_is_a_value_unchanged() {
        for line in [r#"{"user_id": 1e400, "topic": "music", "key": 7}"#, "[1, 2]", "null", r#""text""#] {
            assert_eq!(read(format!(" {line}\r").as_bytes()), Ok(ParsedLine::Value(line.to_owned().into())));
        }
    }

    #[test]
    fn the_error_for_a_bad_line_names_the_cause() {
        let wrong = |line: &[u8]| read(line).unwrap_err();
        let with = |field: &str| format!(r#"{{"topic":"t","partition":0,"offset":1,"payload":"x",{field}}}"#);
        assert_eq!(wrong(b"\xff"), "not UTF-8");
        assert_eq!(wrong(b"{\"a\":"), "not JSON: EOF while parsing a value at line 1 column 5");
        assert_eq!(wrong(with(r#""ts":"soon""#).as_bytes()), "`ts` is not a whole number");
        assert_eq!(wrong(with(r#""key_base64":"?""#).as_bytes()), "`key_base64` is not base64");
        assert_eq!(wrong(with(r#""headers":["a"]"#).as_bytes()), "`headers` has a name without a value");
        assert_eq!(wrong(with(r#""headers":[null,"a"]"#).as_bytes()), "`headers` has a name that is null");
        assert_eq!(wrong(with(r#""key":"\ud800""#).as_bytes()), "`key` is not text");
        let nowhere = r#"{"topic":"t","partition":"first","offset":1,"payload":"x"}"#;
        assert_eq!(wrong(nowhere.as_bytes()), "`partition` is not a partition's number");
    }

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        prop_oneof![vec(any::<u8>(), 0..20).prop_map(Bytes::from), any::<String>().prop_map(Bytes::from)]
    }

    proptest! {
        #[test]
        fn a_written_record_is_read_back(
            offset in any::<i64>(),
            timestamp in option::of(0..i64::MAX),
            key in option::of(any_bytes()),
            value in option::of(any_bytes()),
            headers in vec((any_bytes(), option::of(any_bytes())), 0..5),
        ) {
            let partition = Partition::new("t", 2);
            let record = Record { partition, offset, timestamp, key, value, headers };
            let line = written(&record);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(read(line.trim_end().as_bytes()), Ok(ParsedLine::Record(record)));
        }

        #[test]
        fn any_line_is_parsed_or_refused(line in vec(any::<u8>(), 0..200)) {
            let _ = read(&line);
        }
    }
}
