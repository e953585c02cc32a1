use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::document::{MetadataFields, NamePattern, NameTemplate, RawValues};
use crate::record::Partition;
use crate::shape::FieldPath;

fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record {
        partition: Partition::new("logins", 3),
        offset: 42,
        timestamp: Some(1_694_479_551_123),
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
    }
}

fn template(pattern: &str) -> NameTemplate {
    NameTemplate::new(pattern.parse().unwrap(), |_| Ok(()), 10).unwrap()
}

fn offsets() -> Ids {
    Ids::Offset { prefix: String::new() }
}

fn mapper(ids: Ids, meta: MetadataFields, raw: RawValues, templates: Vec<NameTemplate>) -> DocumentMapper {
    DocumentMapper::new(ids, Version::Offset, meta, raw, None, templates)
}

fn format(ids: Ids, action: BulkAction) -> BulkFormat {
    BulkFormat::new(mapper(ids, MetadataFields::default(), RawValues::Bad, vec![template("logins")]), action, false, true)
}

/// Returns the lines of a body, and the codes of bad records.
fn lines(format: &BulkFormat, batch: &[Record]) -> (Vec<String>, Vec<String>) {
    let documents = format.parse(batch);
    let text = String::from_utf8(format.lines(&documents, 1_700_000_000_000, vec![b'x'; 10])).unwrap();
    let bad = (0..batch.len()).filter_map(|place| documents.get(place).err()).map(|reason| reason.code().to_owned()).collect();
    (text.lines().map(str::to_owned).collect(), bad)
}

#[test]
fn a_record_is_an_action_and_its_payload_with_metadata() {
    let (lines, bad) =
        lines(&format(offsets(), BulkAction::Create), &[record(Some(b"k\n"), Some(b" {\"a\":1.0,\n \"b\":[ ]\r\n} "))]);
    assert!(bad.is_empty());
    assert_eq!(lines[0], r#"{"create":{"_id":"logins:3:42"}}"#);
    assert_eq!(
        lines[1],
        r#"{"a":1.0,  "b":[ ]  ,"@timestamp":"2023-09-12T00:45:51.123Z","_kafka_key":"k\n","_kafka_topic":"logins","_kafka_partition":3,"_kafka_offset":42,"_kafka_timestamp":1694479551123,"_processed_at":"2023-11-14T22:13:20.000Z"}"#
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn an_empty_object_has_metadata_alone() {
    let (lines, _) = lines(&format(offsets(), BulkAction::Create), &[record(None, Some(b"{ }"))]);
    let source: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(source["_kafka_key"], Value::Null);
    assert!(lines[1].starts_with(r#"{"@timestamp":"#), "{}", lines[1]);
}

#[test]
fn records_of_several_partitions_and_times_have_their_own_metadata() {
    let at = |index, offset, timestamp| Record {
        partition: Partition::new("logins", index),
        offset,
        timestamp,
        ..record(None, Some(b"{}"))
    };
    let batch =
        [at(1, 5, Some(59_999)), at(2, 6, None), at(1, 7, Some(60_000)), at(1, 8, Some(i64::MAX)), at(1, 9, Some(61_000))];
    let (lines, bad) = lines(&format(offsets(), BulkAction::Create), &batch);
    assert!(bad.is_empty());
    for (record, pair) in batch.iter().zip(lines.chunks(2)) {
        let source: Value = serde_json::from_str(&pair[1]).unwrap();
        assert_eq!(source["_kafka_partition"], json!(record.partition.index));
        assert_eq!((&source["_kafka_offset"], &source["_kafka_timestamp"]), (&json!(record.offset), &json!(record.timestamp)));
    }
    let time = |pair: usize| serde_json::from_str::<Value>(&lines[2 * pair + 1]).unwrap()["@timestamp"].clone();
    let expected = [
        json!("1970-01-01T00:00:59.999Z"),
        Value::Null,
        json!("1970-01-01T00:01:00.000Z"),
        Value::Null,
        json!("1970-01-01T00:01:01.000Z"),
    ];
    assert_eq!([0, 1, 2, 3, 4].map(time), expected);
}

#[test]
fn without_metadata_the_payload_is_the_source() {
    let bare = |has_time| {
        let mapper = mapper(offsets(), MetadataFields::none(), RawValues::Bad, vec![template("logins")]);
        lines(&BulkFormat::new(mapper, BulkAction::Create, false, has_time), &[record(None, Some(br#"{"a": 1}"#))]).0[1].clone()
    };
    assert_eq!(bare(false), r#"{"a": 1}"#);
    assert_eq!(bare(true), r#"{"a": 1,"@timestamp":"2023-09-12T00:45:51.123Z"}"#);
}

#[test]
fn a_payload_with_a_timestamp_keeps_it() {
    let (lines, _) = lines(
        &format(offsets(), BulkAction::Create),
        &[record(None, Some(br#"{"@timestamp": 5}"#)), record(None, Some(br#"{"a": "@timestamp"}"#))],
    );
    let time = |line: &str| serde_json::from_str::<Value>(line).unwrap()["@timestamp"].clone();
    assert_eq!(lines[1].matches("@timestamp").count(), 1);
    assert_eq!((time(&lines[1]), time(&lines[3])), (json!(5), json!("2023-09-12T00:45:51.123Z")));
}

#[test]
fn a_value_that_is_not_an_object_is_wrapped_and_a_binary_key_is_kept_in_base64() {
    let wrapped = |raw, value: &[u8]| {
        let format = BulkFormat::new(
            mapper(offsets(), MetadataFields::default(), raw, vec![template("l")]),
            BulkAction::Create,
            false,
            true,
        );
        let (lines, bad) = lines(&format, &[record(Some(b"\xff"), Some(value))]);
        lines.get(1).map_or_else(|| json!(bad), |line| serde_json::from_str::<Value>(line).unwrap())
    };
    assert_eq!(wrapped(RawValues::Bad, b"[1,\n2]")["original_data"], json!([1, 2]));
    assert_eq!(wrapped(RawValues::Text, b"x\n{")["original_data"], json!("x\n{"));
    assert_eq!(wrapped(RawValues::Binary, b"\xff")["original_data"], json!("/w=="));
    assert_eq!(wrapped(RawValues::Binary, b"\xff")["_kafka_key_base64"], json!("/w=="));
    assert_eq!(wrapped(RawValues::Bad, b"{"), json!(["not_json"]));
}

#[test]
fn key_ids_carry_a_version_and_a_tombstone_deletes() {
    let key = || record(Some(b"k\"1"), Some(b"{}"));
    let (of_offsets, _) = lines(&format(Ids::Key, BulkAction::Index), &[key(), record(Some(b"k"), None)]);
    assert_eq!(of_offsets[0], r#"{"index":{"_id":"k\"1","version":42,"version_type":"external"}}"#);
    assert_eq!(of_offsets[2], r#"{"delete":{"_id":"k","version":42,"version_type":"external"}}"#);
    assert_eq!(of_offsets.len(), 3);
    let times =
        DocumentMapper::new(Ids::Key, Version::Timestamp, MetadataFields::default(), RawValues::Bad, None, vec![template("l")]);
    let (of_times, _) = lines(&BulkFormat::new(times, BulkAction::Index, false, true), &[key()]);
    assert_eq!(of_times[0], r#"{"index":{"_id":"k\"1","version":1694479551123,"version_type":"external_gte"}}"#);
}

#[test]
fn names_from_records_are_in_each_action_and_server_ids_in_none() {
    let free = NameTemplate::unchecked("{user}".parse::<NamePattern>().unwrap());
    let mapper = DocumentMapper::new(
        Ids::Field(FieldPath::parse("user").unwrap()),
        Version::Offset,
        MetadataFields::none(),
        RawValues::Bad,
        None,
        vec![template("logins-%Y"), free],
    );
    let (with_names, bad) = lines(
        &BulkFormat::new(mapper, BulkAction::Index, true, false),
        &[record(None, Some(br#"{"user":"u"}"#)), record(None, Some(br#"{"user":""}"#))],
    );
    let action = r#"{"index":{"_id":"u","_index":"logins-2023","routing":"u","version":42,"version_type":"external"}}"#;
    assert_eq!(with_names[0], action);
    assert_eq!(bad, ["empty_id"]);
    let (without, _) = lines(&format(Ids::Random, BulkAction::Create), &[record(None, Some(b"{}"))]);
    assert_eq!(without[0], r#"{"create":{}}"#);
}

#[test]
fn a_record_that_invalidates_the_whole_request_is_bad() {
    let long = [b'k'; 513];
    let (sent, bad) = lines(
        &format(Ids::Key, BulkAction::Index),
        &[record(Some(&long), Some(b"{}")), record(Some(&long[..512]), Some(b"{}")), record(None, Some(b"{}"))],
    );
    assert_eq!((sent.len(), bad), (2, vec!["id_too_long".to_owned(), "missing_key".to_owned()]));
    let (sent, bad) = lines(&format(offsets(), BulkAction::Create), &[record(None, None)]);
    assert_eq!((sent.len(), bad), (0, vec!["tombstone".to_owned()]));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(|number: f64| json!(number)),
        any::<String>().prop_map(Value::from),
        Just(json!("\n{\"delete\":{\"_id\":\"1\"}}\n")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_is_written_as_two_lines_with_its_value_unchanged(
        fields in prop::collection::btree_map(any::<String>(), value(), 0..6),
        key in prop::option::of(any::<Vec<u8>>()),
        pretty: bool,
    ) {
        let object = Value::Object(fields.into_iter().filter(|(name, _)| !name.starts_with(['_', '@'])).collect());
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let text = if pretty { text.replace('\n', "\r\n\n") } else { text };
        let record = record(key.as_deref(), Some(text.as_bytes()));
        let (lines, bad) = lines(&format(offsets(), BulkAction::Create), &[record.clone(), record]);
        prop_assert!(bad.is_empty());
        prop_assert_eq!(lines.len(), 4);
        prop_assert_eq!(&lines[2], r#"{"create":{"_id":"logins:3:42"}}"#);
        let mut source: serde_json::Map<String, Value> = serde_json::from_str(&lines[3]).unwrap();
        source.retain(|name, _| !name.starts_with(['_', '@']));
        let object: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Value::Object(source), object);
    }

    #[test]
    fn any_bytes_are_whole_documents_or_bad_records(
        values in prop::collection::vec(prop_oneof![any::<Vec<u8>>(), "[{}\\[\\]\":,a1\n\r \\\\]{0,12}".prop_map(String::into_bytes)], 1..8),
        text: bool,
    ) {
        let raw = if text { RawValues::Text } else { RawValues::Bad };
        let format = BulkFormat::new(mapper(offsets(), MetadataFields::default(), raw, vec![template("l")]), BulkAction::Create, false, true);
        let batch: Vec<_> = values.iter().map(|value| record(None, Some(value))).collect();
        let (lines, bad) = lines(&format, &batch);
        prop_assert_eq!(lines.len(), 2 * (batch.len() - bad.len()));
        for pair in lines.chunks(2) {
            prop_assert_eq!(&pair[0], r#"{"create":{"_id":"logins:3:42"}}"#);
            let source: Value = serde_json::from_str(&pair[1]).unwrap();
            prop_assert_eq!(&source["_kafka_offset"], &json!(42));
        }
    }
}
