//! The oracle: compares the records of the source with those of the target.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::target::Document;
use crate::harness::{Content, ReadRecord};

/// A record's place: partition, incarnation of the topic, offset.
pub(super) type Place = (i32, u32, i64);

/// All records that the source ever showed to readers of committed records.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) incarnation: u32,
    pub(super) records: BTreeMap<Place, Content>,
}

impl Ledger {
    /// Adds the present records of the source.
    pub(super) fn absorb(&mut self, seen: Vec<ReadRecord>) {
        for ReadRecord { partition, offset, content } in seen {
            let before = self.records.insert((partition, self.incarnation, offset), content.clone());
            assert!(before.is_none_or(|before| before == content), "the source changed {partition}@{offset}");
        }
    }
}

/// Content of the target.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Not in the target.
    pub(super) missing: Vec<Place>,
    /// Stretches that are repeated: partition, the last record before, and the first that is there again.
    pub(super) rewinds: Vec<(Place, Place)>,
    pub(super) repeated: u64,
    /// Anything else that must not be.
    pub(super) wrong: Vec<String>,
}

/// Compares a topic with the ledger; both are ordered within each partition.
pub(super) fn compare(ledger: &Ledger, seen: &[ReadRecord]) -> Findings {
    let mut places = HashMap::new();
    for (place, content) in &ledger.records {
        let before = places.insert((place.0, content), *place);
        assert!(before.is_none(), "{place:?} and {before:?} are equal: {}", shown(content));
    }
    let mut findings = Findings::default();
    let mut found = Vec::new();
    for ReadRecord { partition, offset, content } in seen {
        match places.get(&(*partition, content)) {
            Some(place) => found.push((*offset, *place)),
            None => findings.wrong.push(stranger(ledger, *partition, *offset, content)),
        }
    }
    let present: HashSet<Place> = found.iter().map(|(_, place)| *place).collect();
    findings.missing = ledger.records.keys().filter(|place| !present.contains(place)).copied().collect();
    findings.repeated = (found.len() - present.len()) as u64;
    let mut last = HashMap::<i32, Place>::new();
    for (offset, place) in found {
        let Some(before) = last.insert(place.0, place) else {
            let skipped = ledger.records.range((place.0, 0, 0)..place).find(|(skipped, _)| present.contains(skipped));
            if let Some((skipped, _)) = skipped {
                findings.wrong.push(format!("out of order: {place:?} stands first, at {offset}, and {skipped:?} behind it"));
            }
            continue;
        };
        if place <= before {
            findings.rewinds.push((before, place));
        } else {
            let after = (before.0, before.1, before.2 + 1);
            let skipped = ledger.records.range(after..place).find(|(skipped, _)| present.contains(skipped));
            if let Some((skipped, _)) = skipped {
                findings
                    .wrong
                    .push(format!("out of order: {place:?} stands behind {before:?}, at {offset}, without {skipped:?}"));
            }
        }
    }
    findings
}

/// Explains a record that the source did not hold.
fn stranger(ledger: &Ledger, partition: i32, offset: i64, content: &Content) -> String {
    let alike = ledger.records.iter().find(|(_, known)| {
        let same = |equal: bool| u8::from(equal);
        let equal = same(known.timestamp == content.timestamp)
            + same(known.key == content.key)
            + same(known.value == content.value)
            + same(known.headers == content.headers);
        equal == 3
    });
    let content = shown(content);
    match alike {
        Some((place, known)) => format!("changed: {place:?} was {}, and {partition}@{offset} is {content}", shown(known)),
        None => format!("not shown by the source (aborted, of another partition, or invented): {partition}@{offset} {content}"),
    }
}

fn shown(content: &Content) -> String {
    let bytes = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .map_or("null".to_owned(), |bytes| format!("{} B {}", bytes.len(), bytes[..bytes.len().min(60)].escape_ascii()))
    };
    let headers: Vec<_> = content.headers.iter().map(|(name, value)| format!("{name:?}: {}", bytes(value))).collect();
    format!("[time {:?}, key {}, value {}, headers {headers:?}]", content.timestamp, bytes(&content.key), bytes(&content.value))
}

/// Compares documents with ids of offsets with the ledger.
pub(super) fn compare_documents(ledger: &Ledger, topic: &str, documents: &[Document]) -> Findings {
    let mut findings = Findings::default();
    let mut present = HashSet::new();
    for document in documents {
        let Document { id, topic: of, partition, offset, n } = document;
        let place = (*partition, 0, *offset);
        let known = ledger.records.get(&place).map(|content| {
            let value: serde_json::Value =
                serde_json::from_slice(content.value.as_deref().unwrap_or_default()).expect("the records are JSON");
            value["n"].as_i64()
        });
        if *id != format!("{topic}:{partition}:{offset}") || of != topic || known != Some(Some(*n)) {
            findings.wrong.push(format!("{document:?}, where the source has {known:?}"));
        }
        if !present.insert(place) {
            findings.wrong.push(format!("{document:?} is there twice"));
        }
    }
    findings.missing = ledger.records.keys().filter(|place| !present.contains(place)).copied().collect();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: i64) -> ReadRecord {
        ReadRecord { partition: 0, offset: n, content: Content { timestamp: Some(n), ..Content::default() } }
    }

    fn compared(order: &[i64]) -> Findings {
        let mut ledger = Ledger::default();
        ledger.absorb([0, 1, 3, 4, 7].map(record).into());
        compare(&ledger, &order.iter().map(|n| record(*n)).collect::<Vec<_>>())
    }

    #[test]
    fn offset_gaps_are_not_disorder() {
        let findings = compared(&[0, 1, 3, 4, 7]);
        assert!(findings.wrong.is_empty() && findings.missing.is_empty() && findings.rewinds.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_repeated_range_is_a_rewind() {
        let findings = compared(&[0, 1, 3, 1, 3, 4, 7]);
        assert_eq!((findings.repeated, findings.rewinds), (2, vec![((0, 0, 3), (0, 0, 1))]));
        assert!(findings.wrong.is_empty(), "{:?}", findings.wrong);
    }

    #[test]
    fn records_of_a_late_writer_are_disorder() {
        assert_eq!(compared(&[0, 1, 3, 4, 1, 7]).wrong.len(), 1, "7 follows 1");
        assert_eq!(compared(&[1, 0, 3, 4, 7]).wrong.len(), 2, "1 stands before 0, and 3 follows 0");
    }

    #[test]
    fn missing_changed_and_invented_records_are_named() {
        let findings = compared(&[0, 1, 4, 9]);
        assert_eq!(findings.missing, [(0, 0, 3), (0, 0, 7)]);
        assert_eq!(findings.wrong.len(), 1);
    }
}
