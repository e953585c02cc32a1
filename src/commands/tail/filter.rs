//! Which records are shown, and with which value.

use std::str::FromStr;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::commands::args::ReportingShape;
use crate::record::RecordView;
use crate::shape::ShapeResult;

/// Conditions on records, and the shape of their values.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) patterns: Vec<Regex>,
    pub(super) headers: Vec<HeaderTest>,
    pub(super) shape: Option<ReportingShape>,
}

/// A header that must be present, or have this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderTest {
    name: String,
    value: Option<String>,
}

impl FromStr for HeaderTest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        if name.is_empty() {
            return Err("the header name is missing: use NAME or NAME=VALUE, as in trace=4bf92f".to_owned());
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

/// How a record is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FilterResult {
    AsIs,
    WithValue(Bytes),
}

impl FilterResult {
    /// Returns the record as it is shown.
    pub(super) fn of<'a>(&'a self, record: &RecordView<'a>) -> RecordView<'a> {
        match self {
            Self::AsIs => *record,
            Self::WithValue(value) => RecordView { value: Some(value), ..*record },
        }
    }
}

impl Filter {
    /// Returns whether it can leave records out.
    pub(super) fn selects(&self) -> bool {
        !self.patterns.is_empty() || !self.headers.is_empty() || self.shape.is_some()
    }

    /// Returns how a record is shown, if at all. Patterns and headers are checked before the value is shaped.
    ///
    /// # Errors
    /// When its value cannot be shaped.
    pub(super) fn filter(&self, record: &RecordView<'_>) -> Result<Option<FilterResult>, String> {
        let matches = |pattern: &Regex| [record.key, record.value].into_iter().flatten().any(|part| pattern.is_match(part));
        if !self.patterns.iter().all(matches) || !self.headers.iter().all(|test| test.holds(record)) {
            return Ok(None);
        }
        let Some(shape) = &self.shape else { return Ok(Some(FilterResult::AsIs)) };
        // Elsewhere a tombstone passes because its key matters; here it lacks the fields of the conditions.
        if record.value.is_none() && shape.shape.has_conditions() {
            return Ok(None);
        }
        match shape.apply(record.value) {
            ShapeResult::Keep(changed) => Ok(Some(changed.map_or(FilterResult::AsIs, FilterResult::WithValue))),
            ShapeResult::Filtered => Ok(None),
            ShapeResult::Bad(fault) => Err(fault.message),
        }
    }
}

impl HeaderTest {
    fn holds(&self, record: &RecordView<'_>) -> bool {
        let mut holds = false;
        record.headers.each(&mut |name, value| {
            let same = self.value.as_ref().is_none_or(|wanted| value == Some(wanted.as_bytes()));
            holds |= name == self.name.as_bytes() && same;
        });
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Partition, Record};
    use crate::shape::{RuleKind, Shape, ShapeRules};

    fn record(key: Option<&'static str>, value: Option<&'static str>) -> Record {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let headers = vec![(bytes("h"), Some(bytes("v"))), (bytes("n"), None)];
        let (key, value) = (key.map(bytes), value.map(bytes));
        Record { partition: Partition::new("t", 0), offset: 0, timestamp: None, key, value, headers }
    }

    fn passes(filter: &Filter, record: &Record) -> bool {
        filter.filter(&record.view()).unwrap().is_some()
    }

    #[test]
    fn a_pattern_matches_key_or_value_and_all_must_match() {
        let filter = |patterns: &[&str]| Filter {
            patterns: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(),
            ..Filter::default()
        };
        assert!(passes(&filter(&["^a", "^b"]), &record(Some("a"), Some("b"))));
        assert!(!passes(&filter(&["^a", "^c"]), &record(Some("a"), Some("b"))));
        assert!(passes(&filter(&[r"(?-u)\xff"]), &Record { key: Some(Bytes::from_static(b"\xff")), ..record(None, None) }));
        assert!(!passes(&filter(&[""]), &record(None, None)), "there is neither key nor value");
    }

    #[test]
    fn a_header_test_matches_presence_or_value() {
        let passes = |test: &str| {
            let filter = Filter { headers: vec![test.parse().unwrap()], ..Filter::default() };
            passes(&filter, &record(None, None))
        };
        assert!(passes("h") && passes("h=v") && passes("n"));
        assert!(!passes("x") && !passes("h=") && !passes("n=") && !passes("h=w"));
        assert!("=v".parse::<HeaderTest>().is_err());
    }

    #[test]
    fn a_shape_changes_filters_and_rejects() {
        let shape = |flags: &[(RuleKind, &str)]| {
            let mut rules = ShapeRules::default();
            for (kind, text) in flags {
                rules.add(*kind, text, text);
            }
            Filter {
                shape: Some(ReportingShape { shape: Shape::parse(&rules, None).unwrap(), commits: false }),
                ..Filter::default()
            }
        };
        let filter = shape(&[(RuleKind::Where, "a > 1"), (RuleKind::Drop, "b")]);
        let filtered = |value| filter.filter(&record(None, value).view());
        assert_eq!(filtered(Some(r#"{"a":2,"b":1}"#)), Ok(Some(FilterResult::WithValue(Bytes::from_static(br#"{"a":2}"#)))));
        assert_eq!(filtered(Some(r#"{"a":2}"#)), Ok(Some(FilterResult::AsIs)));
        assert_eq!(filtered(Some(r#"{"a":1}"#)), Ok(None));
        assert_eq!(filtered(None), Ok(None), "a tombstone has no field");
        assert!(filtered(Some("no JSON")).is_err());
        assert_eq!(shape(&[(RuleKind::Drop, "b")]).filter(&record(None, None).view()), Ok(Some(FilterResult::AsIs)));
    }
}
