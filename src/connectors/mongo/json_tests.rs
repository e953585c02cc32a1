use mongodb::bson::{Bson as Value, Document, RawDocumentBuf, doc};
use proptest::prelude::*;

use super::*;
use crate::shape::FieldPath;

/// Returns the document with the fields of `json`, as the bson crate reads it.
fn read(json: &str) -> Result<Document, Reason> {
    dated(json, &[])
}

fn dated(json: &str, dates: &[&str]) -> Result<Document, Reason> {
    let dates: Vec<FieldPath> = dates.iter().map(|path| FieldPath::parse(path).unwrap()).collect();
    let mut out = Bson::default();
    let document = out.begin();
    out.fields(json, &FieldTree::new(&dates))?;
    out.end(document);
    let raw = RawDocumentBuf::from_bytes(out.bytes).unwrap();
    Ok(Document::try_from(&raw).unwrap())
}

fn flaw(json: &str) -> (String, String) {
    let reason = read(json).unwrap_err();
    (reason.code().to_owned(), reason.path().unwrap_or_default().to_owned())
}

/// Returns the expected BSON of a JSON value whose numbers are 64-bit integers or doubles.
fn expected(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => i32::try_from(number).map_or(Value::Int64(number), Value::Int32),
            None if number.is_u64() => Value::Decimal128(number.to_string().parse().unwrap()),
            None => Value::Double(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(expected).collect()),
        serde_json::Value::Object(fields) => {
            Value::Document(fields.iter().map(|(name, value)| (name.clone(), expected(value))).collect())
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
            proptest::collection::vec((name(), inner), 0..20).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|name| name.replace('\0', "")),
        prop_oneof![Just("$where"), Just("$oid"), Just("$date"), Just("a.b"), Just(""), Just("_id")].prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn bson_holds_the_values_of_the_json(fields in proptest::collection::btree_map(name(), json(), 0..20), pretty in any::<bool>()) {
        let value: serde_json::Value = fields.into_iter().collect();
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(Value::Document(read(&text).unwrap()), expected(&value));
    }

    #[test]
    fn any_text_becomes_a_document_or_an_error(text in ".{0,40}") {
        let _ = read(&text);
        let _ = read(&format!("{{{text}}}"));
        let _ = read(&format!("{{\"a\":{text}}}"));
    }
}

#[test]
fn numbers_are_exact() {
    let read = read(
        r#"{"a": 1, "b": -2147483649, "c": 9223372036854775807, "d": 18446744073709551615, "e": 1.0, "f": 0.1,
            "g": 1e3, "h": -0, "i": 1234567890123456789012345678901234, "j": 2.2250738585072014e-308, "k": 1e-400}"#,
    );
    let expected = doc! {
        "a": 1, "b": -2_147_483_649_i64, "c": i64::MAX, "d": Value::Decimal128("18446744073709551615".parse().unwrap()),
        "e": 1.0, "f": 0.1, "g": 1000.0, "h": -0.0,
        "i": Value::Decimal128("1234567890123456789012345678901234".parse().unwrap()), "j": f64::MIN_POSITIVE, "k": 0.0,
    };
    assert_eq!(read.unwrap(), expected);
}

#[test]
fn names_and_extended_json_are_plain_data() {
    let read = read(
        r#"{"$where": "1", "a.b": {"$oid": "507f1f77bcf86cd799439011"}, "": {"$date": 0}, "\u0024set": {"$numberLong": "1"}}"#,
    );
    let expected = doc! {
        "$where": "1", "a.b": {"$oid": "507f1f77bcf86cd799439011"}, "": {"$date": 0}, "$set": {"$numberLong": "1"},
    };
    assert_eq!(read.unwrap(), expected);
}

#[test]
fn strings_keep_their_characters() {
    let read = read(r#"{"a": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0000é", "b\n": ""}"#).unwrap();
    assert_eq!(read, doc! {"a": "\"\\/\u{8}\u{c}\n\r\té😀\0é", "b\n": ""});
}

#[test]
fn values_that_bson_cannot_hold_are_rejected_with_their_path() {
    let error = |code: &str, path: &str| (code.to_owned(), path.to_owned());
    assert_eq!(flaw(r#"{"a": [0, {"b\u0000": 1}]}"#), error("nul_in_name", "a.1.b\\u0000"));
    assert_eq!(flaw(r#"{"a": {"b": 1, "c": 2, "\u0062": 3}}"#), error("repeated_name", "a.b"));
    assert_eq!(flaw(r#"{"a": 1e400}"#), error("number_too_large", "a"));
    assert_eq!(flaw(r#"{"a": 12345678901234567890123456789012345}"#), error("number_too_long", "a"));
    assert_eq!(flaw(r#"{"a": "\ud800"}"#), error("not_text", "a"));
    assert_eq!(flaw(r#"{"a": x}"#), error("not_json", "a"));
}

#[test]
fn a_duplicate_name_among_many_is_found() {
    let fields = |last: &str| {
        let mut names: Vec<String> = (0..1000).map(|n| format!("\"f{n}\":{n}")).collect();
        names.push(format!("\"{last}\":1"));
        format!("{{{}}}", names.join(","))
    };
    assert_eq!(read(&fields("x")).unwrap().len(), 1001);
    assert_eq!(flaw(&fields("f500")), ("repeated_name".to_owned(), "f500".to_owned()));
}

#[test]
fn a_document_nests_up_to_the_limit() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert!(read(&nested(MAX_LEVELS)).is_ok());
    assert_eq!(read(&nested(MAX_LEVELS + 1)).unwrap_err().code(), "too_deep");
    assert_eq!(read(&nested(100_000)).unwrap_err().code(), "too_deep");
}

#[test]
fn times_become_dates_also_in_arrays_of_objects() {
    let date = |millis| Value::DateTime(mongodb::bson::DateTime::from_millis(millis));
    for (json, expected) in [
        (r#"{"t": 1, "at": {"t": 1694479551, "u": 2}}"#, doc! {"t": 1, "at": {"t": date(1_694_479_551_000), "u": 2}}),
        (r#"{"at": {"t": "2023-09-12", "at": {"t": 3}}}"#, doc! {"at": {"t": date(1_694_476_800_000), "at": {"t": 3}}}),
        (r#"{"at": {"t": null}, "b": "2019-06-05T19:53:45.159Z"}"#, doc! {"at": {"t": null}, "b": date(1_559_764_425_159)}),
        (
            r#"{"at": [{"t": 4}, {"t": 1559757225159, "u": 5}]}"#,
            doc! {"at": [{"t": date(4000)}, {"t": date(1_559_757_225_159), "u": 5}]},
        ),
        (r#"{"at": {"t": ["2023-09-12"]}, "b": {"c": 1}}"#, doc! {"at": {"t": ["2023-09-12"]}, "b": {"c": 1}}),
    ] {
        assert_eq!(dated(json, &["at.t", "b"]).unwrap(), expected, "{json}");
    }
}

#[test]
fn a_partly_written_document_can_be_truncated() {
    let mut out = Bson::default();
    let document = out.begin();
    out.int32("a", 1);
    let length = out.bytes.len();
    assert!(out.fields(r#"{"b": {"c": 1, "d": x}}"#, &FieldTree::default()).is_err());
    out.truncate(length);
    out.fields(r#"{"c": 2}"#, &FieldTree::default()).unwrap();
    out.end(document);
    let read = Document::try_from(&RawDocumentBuf::from_bytes(out.bytes).unwrap()).unwrap();
    assert_eq!(read, doc! {"a": 1, "c": 2});
}
