//! Writes and deletes of a few keys, and the documents that must remain.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Content, setting};

/// Returns writes and deletes of a hundred keys, each key in one partition, and the documents that must remain. Each value replaces
/// the one before; with `merged` its fields do, and nothing is deleted.
pub(crate) fn keyed_workload(count: u64, partitions: i32, merged: bool) -> (Vec<(i32, Content)>, BTreeMap<String, Value>) {
    let (mut records, mut left) = (Vec::new(), BTreeMap::<String, Value>::new());
    let mut random = setting("SDL_TEST_SEED", 1);
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for n in 0..count {
        let number = next(100);
        let key = format!("user-{number}");
        let partition = i32::try_from(number).expect("a small number") % partitions;
        let value = if next(5) == 0 && !merged {
            left.remove(&key);
            None
        } else {
            let value = if next(2) == 0 { json!({"n": n}) } else { json!({"n": n, "m": n}) };
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
