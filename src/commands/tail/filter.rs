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

/// How a record is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// As it is.
    AsIs,
    /// With this value.
    With(Bytes),
}

impl Shown {
    /// Returns the record as it is shown.
    pub(super) fn of<'a>(&'a self, record: &RecordRef<'a>) -> RecordRef<'a> {
        match self {
            Self::AsIs => *record,
            Self::With(value) => RecordRef { value: Some(value), ..*record },
        }
    }
}

impl Filter {
    /// Returns whether any record could be left out.
    pub(super) fn selects(&self) -> bool {
        !self.patterns.is_empty() || !self.headers.is_empty() || self.shape.is_some()
    }

    /// Returns how a record is shown, if it is. Patterns and headers are looked at before the value is shaped.
    ///
    /// # Errors
    /// When its value cannot be shaped: why not.
    pub(super) fn sift(&self, record: &RecordRef<'_>) -> Result<Option<Shown>, String> {
        let fits = |pattern: &Regex| [record.key, record.value].into_iter().flatten().any(|part| pattern.is_match(part));
        if !self.patterns.iter().all(fits) || !self.headers.iter().all(|test| test.holds(record)) {
            return Ok(None);
        }
        let Some(shape) = &self.shape else { return Ok(Some(Shown::AsIs)) };
        // Elsewhere a tombstone passes for its key's sake; here it has no field that was asked for.
        if record.value.is_none() && shape.has_conditions() {
            return Ok(None);
        }
        match shape.apply(record.value) {
            Verdict::Keep(changed) => Ok(Some(changed.map_or(Shown::AsIs, Shown::With))),
            Verdict::Filtered => Ok(None),
            Verdict::Bad(fault) => Err(fault.message),
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
