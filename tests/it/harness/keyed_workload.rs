//! Writes and deletes of a few keys, and the documents that must remain.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Content, Dice};

/// Returns writes and deletes of a hundred keys, each key in one partition, and the documents that must remain. Each value replaces
/// the one before; with `merged` its fields do, and nothing is deleted.
pub(crate) fn keyed_workload(count: u64, partitions: i32, merged: bool) -> (Vec<(i32, Content)>, BTreeMap<String, Value>) {
    let (mut records, mut left) = (Vec::new(), BTreeMap::<String, Value>::new());
    let mut dice = Dice::of_environment();
    for n in 0..count {
        let number = dice.below(100);
        let key = format!("user-{number}");
        let partition = i32::try_from(number).expect("a small number") % partitions;
        let value = if dice.below(5) == 0 && !merged {
            left.remove(&key);
            None
        } else {
            let value = if dice.below(2) == 0 { json!({"n": n}) } else { json!({"n": n, "m": n}) };
            let fields = left.entry(key.clone()).or_insert_with(|| json!({}));
            if merged {
                fields.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
            } else {
                *fields = value.clone();
            }
            Some(value.to_string().into_bytes())
        };
        let timestamp = Some(1_700_000_000_000 + n.cast_signed() / 10);
        records.push((partition, Content { timestamp, key: Some(key.into_bytes()), value, headers: Vec::new() }));
    }
    (records, left)
}

/// Returns the documents that must remain of a workload without deletes when each value replaces the one before.
pub(crate) fn replaced(records: &[(i32, Content)]) -> BTreeMap<String, Value> {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    records.iter().map(|(_, content)| (text(&content.key), serde_json::from_str(&text(&content.value)).unwrap())).collect()
}
