//! Shaping of JSON values: pure, JSON in, JSON out.
//!
//! | flag | key in `[shape.NAME]` | does |
//! |---|---|---|
//! | `--where 'device_type = iOS'` | `where`, `where.1`, ... | keeps the records that meet it: `=`, `!=`, `<`, `<=`, `>`, `>=`, `~` (regex), bare field = present; all must hold |
//! | `--default device_type=unknown` | `default.device_type = unknown` | fills a field that is missing; a value that is JSON (`0`, `true`, `"2"`) is taken as that, else as text |
//! | `--require user_id,timestamp:int` | `require` | makes a record bad that lacks a field or has another type there |
//! | `--date timestamp` | `date` | Unix seconds, milliseconds or ISO text becomes ISO 8601 in UTC |
//! | `--mask-ip ip` | `mask_ip` | an address becomes its network: `a.b.c.xxx` |
//! | `--mask user_id` | `mask` | a value becomes its HMAC-SHA-256 under the profile's `mask_key`, in hex |
//! | `--keep a,b` | `keep` | leaves only these fields |
//! | `--drop a,b` | `drop` | leaves these fields out |
//!
//! The rules apply in this order, independent of the order of the flags. A field is named with dots (`buyer.id`), a backslash
//! escapes the next character, and a path goes through arrays; but a value that is itself an array has no fields for
//! `--where` or `--require`. A null field counts as missing. The last of duplicate names counts, but all are changed. Other fields
//! keep their text: numbers of any size, order, escapes.
//!
//! A tombstone passes all rules: filtered out, it would leave the key's old value at the target.

mod condition;
mod decimal;
mod document;
mod fields;
mod mask;
mod match_counter;
mod path;
mod require;
mod result;
mod rules;
mod seen_fields;
mod select;
mod time;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;

use condition::Condition;
pub(crate) use condition::regex_error;
use document::MAX_DEPTH;
use document::{Node, ParseError, json_string};
pub(crate) use document::{is_walkable, json_error, without_bom};
pub(crate) use fields::SelectedFields;
use mask::Mask;
use match_counter::MatchCounter;
pub use match_counter::UnmatchedRule;
pub use path::Path as FieldPath;
use path::{Path, split_before};
use require::Requirement;
pub use result::{ShapeError, ShapeResult};
pub use rules::{InvalidRule, RuleKind, ShapeRules};
pub(crate) use seen_fields::{SEEN_RECORDS, SeenFields};
pub(crate) use select::FieldTree;
pub(crate) use time::{UtcTime, parse_any_duration};

/// The rules that are applied to every value.
#[derive(Debug)]
pub struct Shape {
    conditions: Vec<(Condition, MatchCounter)>,
    /// Paths and JSON texts.
    defaults: Vec<(Path, String)>,
    requirements: Vec<Requirement>,
    dates: Vec<Path>,
    addresses: Vec<Path>,
    masked: Vec<(Path, Mask)>,
    keep: Option<FieldTree>,
    drop: Vec<Path>,
    /// One per field of the other rules.
    field_counters: Vec<MatchCounter>,
    records: AtomicU64,
    /// The fields of the first records, for hints.
    seen_fields: Mutex<SeenFields>,
}

/// After this many records, [`Shape::unmatched`] is worth reporting.
pub(crate) const SAMPLE_RECORDS: u64 = 100_000;
/// Below this number of records it is not.
pub(crate) const MIN_RECORDS: u64 = 2;

impl Shape {
    /// Returns the shape that `rules` describe; of several defaults for a field the first counts.
    ///
    /// # Errors
    /// When a rule cannot be parsed, or a `mask` rule has no `mask_key`.
    pub fn parse(rules: &ShapeRules, mask_key: Option<&str>) -> Result<Self, InvalidRule> {
        let paths = |kind| rules.paths(kind);
        let keep = paths(RuleKind::Keep)?;
        let mask = match (rules.of_kind(RuleKind::Mask).next(), mask_key.filter(|key| !key.is_empty())) {
            (Some(rule), None) => {
                return Err(rule.missing("`mask_key`", "add `mask_key = ${env:MASK_KEY}` to the source's section of the profile"));
            }
            (_, key) => Mask::new(key.unwrap_or_default()),
        };
        Ok(Self {
            conditions: rules
                .of_kind(RuleKind::Where)
                .map(|rule| {
                    let conditions = Condition::parse(&rule.text).map_err(|why| rule.invalid(why, condition::GRAMMAR))?;
                    Ok(conditions.into_iter().map(|condition| {
                        let counter = MatchCounter::new(&rule.origin, &condition.path, true);
                        (condition, counter)
                    }))
                })
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .flatten()
                .collect(),
            defaults: rules
                .of_kind(RuleKind::Default)
                .map(|rule| default(&rule.text).map_err(|why| rule.invalid(why, "FIELD=VALUE: device_type=unknown")))
                .collect::<Result<_, _>>()?,
            requirements: rules
                .of_kind(RuleKind::Require)
                .flat_map(|rule| path::split(&rule.text, |c| c == ',').map(move |text| (rule, text)))
                .map(|(rule, text)| Requirement::parse(text).map_err(|why| rule.invalid(why, require::GRAMMAR)))
                .collect::<Result<_, _>>()?,
            dates: paths(RuleKind::Date)?,
            addresses: paths(RuleKind::MaskIp)?,
            masked: paths(RuleKind::Mask)?.into_iter().map(|path| (path, mask.clone())).collect(),
            keep: (!keep.is_empty()).then(|| FieldTree::new(&keep)),
            drop: paths(RuleKind::Drop)?,
            field_counters: rules.field_counters()?,
            records: AtomicU64::new(0),
            seen_fields: Mutex::default(),
        })
    }

    /// Returns whether records can be filtered.
    #[must_use]
    pub(crate) fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }

    /// Applies the rules to `value`; a tombstone (`None`) passes unchanged.
    #[must_use]
    pub fn apply(&self, value: Option<&[u8]>) -> ShapeResult {
        let Some(bytes) = value else {
            return ShapeResult::Keep(None);
        };
        let number = self.records.fetch_add(1, Ordering::Relaxed);
        let not_json = |error: std::str::Utf8Error| ParseError::NotJson(error.to_string());
        let mut document = match std::str::from_utf8(bytes).map_err(not_json).and_then(Node::parse) {
            Ok(document) => document,
            Err(ParseError::NotJson(why)) => return ShapeResult::Bad(not_json_error(bytes, &why)),
            Err(ParseError::TooDeep) => {
                let message = format!("the value is nested more than {MAX_DEPTH} levels deep");
                return ShapeResult::Bad(ShapeError::new("too_deep", message));
            }
        };
        if number < SEEN_RECORDS {
            self.seen_fields.lock().unwrap_or_else(PoisonError::into_inner).add(document.names());
        }
        let matches = |(condition, counter): &(Condition, MatchCounter)| {
            let matches = condition.matches(&mut document);
            counter.compared(matches, &mut document);
            matches
        };
        if !self.conditions.iter().all(matches) {
            return ShapeResult::Filtered;
        }
        match self.modify(&mut document) {
            Err(fault) => ShapeResult::Bad(fault),
            Ok(()) if !document.is_changed() => ShapeResult::Keep(None),
            Ok(()) => {
                let mut text = Vec::with_capacity(bytes.len() + 64);
                document.write(&mut text);
                ShapeResult::Keep(Some(text.into()))
            }
        }
    }

    /// Returns how many values were shaped.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Returns the rules that matched none of the records so far.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = UnmatchedRule> {
        let fields = self.seen_fields.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let conditions = self.conditions.iter().map(|(_, counter)| counter);
        conditions.chain(&self.field_counters).filter_map(move |counter| counter.unmatched(&fields))
    }

    fn modify<'a>(&'a self, document: &mut Node<'a>) -> Result<(), ShapeError> {
        for (path, value) in &self.defaults {
            select::fill(document, &path.names, value).map_err(|()| {
                let message = format!("`{path}` cannot be filled: its parent is not an object");
                ShapeError::new("not_an_object", message).at(path)
            })?;
        }
        self.field_counters.iter().for_each(|counter| counter.looked_up(document));
        if let Some(fault) = self.requirements.iter().find_map(|requirement| requirement.check(document)) {
            return Err(fault);
        }
        for path in &self.dates {
            let not_a_date = |()| {
                let mut fault = ShapeError::new("not_a_date", format!("`{path}` is not a date")).at(path);
                fault.hint = Some(time::FORMATS.to_owned());
                fault
            };
            document.modify(&path.names, true, &mut |value| time::to_iso_8601(value).map_err(not_a_date))?;
        }
        let mut every = |path: &Path, with: &dyn Fn(&mut Cow<'a, str>)| {
            document.modify(&path.names, false, &mut |value| {
                with(value);
                Ok(())
            })
        };
        self.addresses.iter().try_for_each(|path| every(path, &mask::mask_ip))?;
        self.masked.iter().try_for_each(|(path, mask)| every(path, &|value| mask.apply(value)))?;
        if let Some(kept) = &self.keep {
            kept.apply(document)
                .map_err(|()| ShapeError::new("not_an_object", "the value is not an object, it has no field to keep"))?;
        }
        self.drop.iter().for_each(|path| select::remove(document, &path.names));
        Ok(())
    }
}

/// Returns the field and the JSON text of `FIELD=VALUE`.
fn default(text: &str) -> Result<(Path, String), String> {
    let (path, value) = split_before(text, |c| c == '=');
    let value = value.strip_prefix('=').ok_or("a value is missing")?.trim();
    let json = match serde_json::from_str::<&RawValue>(value) {
        Ok(json) => json.get().to_owned(),
        Err(_) => json_string(value),
    };
    Ok((Path::parse(path)?, json))
}

/// Returns the time in a JSON value, as `--date` parses it.
#[must_use]
pub(crate) fn parse_time(value: &str) -> Option<UtcTime> {
    time::parse_time(value)
}

/// Returns the JSON text of the value at `names` inside the JSON `value`; of a name that is there twice, the last counts.
#[must_use]
pub(crate) fn value_at<'a>(value: &'a str, names: &[String]) -> Option<&'a str> {
    document::value_at(value, names)
}

/// Returns the JSON object `object` without its field `name`.
#[must_use]
pub(crate) fn without_field(object: &str, name: &str) -> String {
    let mut document = Node::of_object(object);
    select::remove(&mut document, &[name.to_owned()]);
    let mut text = Vec::with_capacity(object.len());
    document.write(&mut text);
    String::from_utf8(text).expect("pieces of text are text")
}

/// Returns the error of bytes that are not JSON; the framing of schema registries is named.
#[must_use]
pub(crate) fn not_json_error(bytes: &[u8], why: &str) -> ShapeError {
    if let [0, a, b, c, d, ..] = *bytes {
        let schema = u32::from_be_bytes([a, b, c, d]);
        let message = format!(
            "the value is not plain JSON: it is in the Confluent wire format (magic byte 0, schema {schema}) of a schema registry"
        );
        let mut error = ShapeError::new("not_json", message);
        error.hint = Some("deserialize the records into plain JSON first, for example with a stream processor".to_owned());
        return error;
    }
    ShapeError::new("not_json", format!("the value is not JSON: {why}"))
}

#[cfg(test)]
mod tests;
