//! Finds rules that match no record: most likely a typing error.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::number::none_of;
use crate::shape::document::Node;
use crate::shape::path::Path;
use crate::shape::seen_fields::SeenFields;

/// The most sample values, and the most characters of each.
const SAMPLES: usize = 5;
const SAMPLE_CHARS: usize = 40;

/// Counts the records that a rule saw before the first match; from then on it costs one relaxed load per record.
#[derive(Debug)]
pub(super) struct MatchCounter {
    /// The rule as errors name it.
    rule: String,
    path: Path,
    /// Whether the rule compares the field with a value.
    compares: bool,
    seen: AtomicU64,
    matched: AtomicBool,
    samples: Mutex<Vec<String>>,
}

/// A rule that no record matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmatchedRule {
    rule: String,
    field: String,
    compares: bool,
    records: u64,
    /// Values that the field holds.
    values: Vec<String>,
    /// Fields that the records have.
    fields: SeenFields,
}

impl MatchCounter {
    pub(super) fn new(rule: &str, path: &Path, compares: bool) -> Self {
        Self {
            rule: rule.to_owned(),
            path: path.clone(),
            compares,
            seen: AtomicU64::new(0),
            matched: AtomicBool::new(false),
            samples: Mutex::default(),
        }
    }

    /// Counts a record that the rule compared; `matched` is the result.
    pub(super) fn compared(&self, matched: bool, document: &mut Node<'_>) {
        if self.matched.load(Ordering::Relaxed) {
            return;
        }
        self.matched.store(matched, Ordering::Relaxed);
        self.seen.fetch_add(1, Ordering::Relaxed);
        if !matched {
            document.visit(&self.path.names, &mut |value| {
                if let Some(value) = value {
                    self.sample(&value.plain());
                }
            });
        }
    }

    /// Counts a record in which the rule looks for its field.
    pub(super) fn looked_up(&self, document: &mut Node<'_>) {
        if !self.matched.load(Ordering::Relaxed) {
            self.matched.store(document.contains(&self.path.names), Ordering::Relaxed);
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sample(&self, value: &str) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < SAMPLES {
            let mut short: String = value.chars().take(SAMPLE_CHARS).collect();
            if short.len() < value.len() {
                short.push_str("...");
            }
            if !samples.contains(&short) {
                samples.push(short);
            }
        }
    }

    /// Returns the rule, if it saw records and matched none; `fields` are those of the records.
    pub(super) fn unmatched(&self, fields: &SeenFields) -> Option<UnmatchedRule> {
        let records = self.seen.load(Ordering::Relaxed);
        (records > 0 && !self.matched.load(Ordering::Relaxed)).then(|| UnmatchedRule {
            rule: self.rule.clone(),
            field: self.path.to_string(),
            compares: self.compares,
            records,
            values: self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            fields: fields.clone(),
        })
    }
}

impl UnmatchedRule {
    /// Returns whether it is a condition: the records that do not match it are left out.
    pub(crate) fn is_condition(&self) -> bool {
        self.compares
    }
}

impl fmt::Display for UnmatchedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, field, records, .. } = self;
        let none = |verb: &str, negated: &str| none_of(*records, "record", verb, negated);
        let quoted = |names: &[String]| format!("`{}`", names.join("`, `"));
        if self.compares && !self.values.is_empty() {
            return write!(f, "{} {rule}: `{field}` holds {}", none("matches", "does not match"), quoted(&self.values));
        }
        write!(f, "{} the field `{field}` of {rule}", none("has", "does not have"))?;
        let has = if *records == 1 { "it has" } else { "they have" };
        write!(f, ": {has} {}{}", self.fields.listed(), self.fields.question(std::slice::from_ref(field)))
    }
}
