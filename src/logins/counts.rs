//! How many events, which values, and what was missing. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::logins::projection::{EventFields, FieldValue};

/// The most values of one field that are counted each by itself: whoever writes events chooses the values.
pub const MOST_VALUES: usize = 1000;
/// The longest value that is counted by itself, in bytes; one with control characters is not.
pub const LONGEST_VALUE: usize = 100;
/// What every other value counts as.
pub const OTHER: &str = "(other)";

/// The counts of some events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many there are.
    pub events: u64,
    /// For each required field, how many lack it.
    missing: Vec<u64>,
    /// For each counted field, how many have which value.
    values: Vec<HashMap<Box<str>, u64>>,
}

impl Counts {
    /// Counts one event more.
    pub fn add(&mut self, sight: &EventFields<'_>) {
        self.events += 1;
        if sight.lacks() {
            let lacking = sight.missing();
            self.missing.resize(lacking.len(), 0);
            self.missing.iter_mut().zip(lacking).for_each(|(count, lacks)| *count += u64::from(*lacks));
        }
        let values = sight.values();
        if self.values.len() < values.len() {
            self.values.resize_with(values.len(), HashMap::new);
        }
        for (counts, value) in self.values.iter_mut().zip(values) {
            match value {
                FieldValue::Missing => {}
                // A control character is six times as long where it is told.
                FieldValue::Is(text) if text.len() <= LONGEST_VALUE && !text.contains(char::is_control) => count(counts, text, 1),
                FieldValue::Is(_) | FieldValue::Odd => count(counts, OTHER, 1),
            }
        }
    }

    /// Adds other counts of the same fields.
    pub fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.missing.resize(self.missing.len().max(other.missing.len()), 0);
        self.missing.iter_mut().zip(&other.missing).for_each(|(count, more)| *count += more);
        self.values.resize_with(self.values.len().max(other.values.len()), HashMap::new);
        for (counts, more) in self.values.iter_mut().zip(&other.values) {
            // In the order of the values: which ones still fit must not depend on how a map is laid out.
            for (value, more) in more.iter().collect::<BTreeMap<_, _>>() {
                count(counts, value, *more);
            }
        }
    }

    /// Returns how many events lack the required field at `index`.
    #[must_use]
    pub fn missing(&self, index: usize) -> u64 {
        self.missing.get(index).copied().unwrap_or(0)
    }

    /// Returns how many events have which value in the counted field at `index`, in the order of the values.
    #[must_use]
    pub fn values(&self, index: usize) -> BTreeMap<&str, u64> {
        self.values.get(index).into_iter().flatten().map(|(value, count)| (&**value, *count)).collect()
    }

    /// Returns counts that say this: events, per required field how many lack it, per counted field how many have which value.
    #[must_use]
    pub fn of(events: u64, missing: Vec<u64>, values: Vec<HashMap<Box<str>, u64>>) -> Self {
        Self { events, missing, values }
    }
}

fn count(counts: &mut HashMap<Box<str>, u64>, value: &str, more: u64) {
    if let Some(count) = counts.get_mut(value) {
        *count += more;
    } else if counts.len() < MOST_VALUES || value == OTHER {
        counts.insert(value.into(), more);
    } else {
        count(counts, OTHER, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logins::projection::FieldSelector;

    fn counts(events: &[String]) -> Counts {
        let sights = FieldSelector::new(&["kind".to_owned()], &["kind".to_owned(), "ip".to_owned()], None).unwrap();
        let mut counts = Counts::default();
        for event in events {
            counts.add(&sights.look(event.as_bytes()).unwrap());
        }
        counts
    }

    #[test]
    fn values_and_what_is_missing_are_counted() {
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
    fn whoever_writes_events_cannot_make_the_counts_grow_without_end() {
        let mut events: Vec<String> = (0..5 * MOST_VALUES).map(|n| format!(r#"{{"kind": "k{n}"}}"#)).collect();
        events.push(format!(r#"{{"kind": "{}"}}"#, "x".repeat(LONGEST_VALUE + 1)));
        events.push(r#"{"kind": {"a": 1}}"#.to_owned());
        let counts = counts(&events);
        let values = counts.values(0);
        assert_eq!(values.len(), MOST_VALUES + 1);
        assert_eq!(values.values().sum::<u64>(), counts.events);
        assert_eq!(values[OTHER], (4 * MOST_VALUES + 2) as u64);
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
