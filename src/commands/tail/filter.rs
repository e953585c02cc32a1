//! Which records are shown, and what of them.

use std::str::FromStr;

use bytes::Bytes;
use regex::bytes::Regex;

use crate::record::RecordRef;
use crate::shape::{Shape, Verdict};

/// What a record must be like to be shown, and what becomes of its value.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) patterns: Vec<Regex>,
    pub(super) headers: Vec<HeaderTest>,
    pub(super) shape: Option<Shape>,
}

/// What a header must be: there, or there with this value.
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
            return Err("a header has a name: trace, or trace=4bf92f".to_owned());
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sifted {
    /// It is shown as it is.
    AsIs,
    /// It is shown with this value.
    With(Bytes),
    /// It was not asked for.
    Unwanted,
    /// The shaping flags cannot be followed: why not.
    Bad(String),
}

impl Filter {
    /// Returns whether any record could be left out.
    pub(super) fn selects(&self) -> bool {
        !self.patterns.is_empty() || !self.headers.is_empty() || self.shape.is_some()
    }

    /// Returns what becomes of a record. Patterns and headers are looked at before the value is shaped.
    pub(super) fn sift(&self, record: &RecordRef<'_>) -> Sifted {
        let fits = |pattern: &Regex| [record.key, record.value].into_iter().flatten().any(|part| pattern.is_match(part));
        if !self.patterns.iter().all(fits) || !self.headers.iter().all(|test| test.holds(record)) {
            return Sifted::Unwanted;
        }
        let Some(shape) = &self.shape else { return Sifted::AsIs };
        // Elsewhere a tombstone passes for its key's sake; here it has no field that was asked for.
        if record.value.is_none() && shape.has_conditions() {
            return Sifted::Unwanted;
        }
        match shape.apply(record.value) {
            Verdict::Keep(None) => Sifted::AsIs,
            Verdict::Keep(Some(changed)) => Sifted::With(changed),
            Verdict::Filtered => Sifted::Unwanted,
            Verdict::Bad(fault) => Sifted::Bad(fault.message),
        }
    }
}

impl HeaderTest {
    fn holds(&self, record: &RecordRef<'_>) -> bool {
        let mut holds = false;
        record.headers.each(&mut |name, value| {
            let same = self.value.as_ref().is_none_or(|wanted| value == Some(wanted.as_bytes()));
            holds |= name == self.name.as_bytes() && same;
        });
        holds
    }
}
