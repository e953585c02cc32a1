//! Counts of events: how many, by value of the counted fields, and how many lack a required field. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::windows::projection::{EventFields, FieldValue};

/// The largest number of values that one field is counted by: producers choose the values.
const MAX_VALUES: usize = 1000;
/// The longest value that is counted under its own name, in bytes.
const MAX_VALUE_BYTES: usize = 100;
/// Collects the values that are not counted under their own name.
pub(crate) const OTHER: &str = "(other)";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    /// For each required field: events that lack it.
    missing: Vec<u64>,
    /// For each counted field: events by value.
    values: Vec<HashMap<Box<str>, u64>>,
}

impl Counts {
    /// Returns totals; `missing` and `values` hold one entry for each required and for each counted field.
    pub(crate) fn new(events: u64, missing: Vec<u64>, values: Vec<HashMap<Box<str>, u64>>) -> Self {
        Self { events, missing, values }
    }

    pub(crate) fn add(&mut self, fields: &EventFields<'_>) {
        self.events += 1;
        if fields.has_missing() {
            let missing = fields.missing();
            self.missing.resize(missing.len(), 0);
            self.missing.iter_mut().zip(missing).for_each(|(count, is_missing)| *count += u64::from(*is_missing));
        }
        let values = fields.values();
        if self.values.len() < values.len() {
            self.values.resize_with(values.len(), HashMap::new);
        }
        for (counts, value) in self.values.iter_mut().zip(values) {
            match value {
                FieldValue::Missing => {}
                // JSON escapes a control character to six bytes.
                FieldValue::Scalar(text) if text.len() <= MAX_VALUE_BYTES && !text.contains(char::is_control) => {
                    count(counts, text, 1);
                }
                FieldValue::Scalar(_) | FieldValue::Nested => count(counts, OTHER, 1),
            }
        }
    }

    /// Adds counts of the same fields.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.missing.resize(self.missing.len().max(other.missing.len()), 0);
        self.missing.iter_mut().zip(&other.missing).for_each(|(count, more)| *count += more);
        self.values.resize_with(self.values.len().max(other.values.len()), HashMap::new);
        for (counts, more) in self.values.iter_mut().zip(&other.values) {
            // In the order of the values: which of them still fit must not depend on the layout of a map.
            for (value, more) in more.iter().collect::<BTreeMap<_, _>>() {
                count(counts, value, *more);
            }
        }
    }

    /// Returns the number of events that lack the required field at `index`.
    pub(crate) fn missing(&self, index: usize) -> u64 {
        self.missing.get(index).copied().unwrap_or(0)
    }

    /// Returns the events by value of the counted field at `index`, sorted by value.
    pub(crate) fn values(&self, index: usize) -> BTreeMap<&str, u64> {
        self.values.get(index).into_iter().flatten().map(|(value, count)| (&**value, *count)).collect()
    }
}

fn count(counts: &mut HashMap<Box<str>, u64>, value: &str, more: u64) {
    if let Some(count) = counts.get_mut(value) {
        *count += more;
    } else if counts.len() < MAX_VALUES || value == OTHER {
        counts.insert(value.into(), more);
    } else {
        count(counts, OTHER, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::projection::FieldSelector;

    fn counts(events: &[String]) -> Counts {
        let selector = FieldSelector::new(&["kind".to_owned()], &["kind".to_owned(), "ip".to_owned()], None).unwrap();
        let mut counts = Counts::default();
        for event in events {
            counts.add(&selector.select(event.as_bytes()).unwrap());
        }
        counts
    }

    #[test]
    fn values_and_missing_fields_are_counted() {
        let counts = counts(&[
            r#"{"kind": "a", "ip": "x"}"#.to_owned(),
            r#"{"kind": "b", "ip": null}"#.to_owned(),
            r#"{"kind": "a"}"#.to_owned(),
            "{}".to_owned(),
        ]);
        assert_eq!(counts.events, 4);
        assert_eq!(counts.values(0), BTreeMap::from([("a", 2), ("b", 1)]));
        assert_eq!((counts.missing(0), counts.missing(1)), (1, 3));
    }

    #[test]
    fn counts_are_bounded_for_any_input() {
        let mut events: Vec<String> = (0..5 * MAX_VALUES).map(|n| format!(r#"{{"kind": "k{n}"}}"#)).collect();
        events.push(format!(r#"{{"kind": "{}"}}"#, "x".repeat(MAX_VALUE_BYTES + 1)));
        events.push(r#"{"kind": {"a": 1}}"#.to_owned());
        let counts = counts(&events);
        let values = counts.values(0);
        assert_eq!(values.len(), MAX_VALUES + 1);
        assert_eq!(values.values().sum::<u64>(), counts.events);
        assert_eq!(values[OTHER], (4 * MAX_VALUES + 2) as u64);
    }

    #[test]
    fn counts_of_parts_are_the_counts_of_the_whole() {
        let events: Vec<String> = (0..900).map(|n| format!(r#"{{"kind": "k{}", "ip": 1}}"#, n % 7)).collect();
        let mut merged = counts(&events[..300]);
        merged.merge(&counts(&events[300..]));
        assert_eq!(merged, counts(&events));
        let mut empty = Counts::default();
        empty.merge(&merged);
        assert_eq!(empty, merged);
    }
}
