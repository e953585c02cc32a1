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
//! The rules are followed in this order, whatever the order of the flags. A field is named with dots (`buyer.id`), a backslash
//! takes the next character as it is, and a path goes through arrays; but a value that is itself an array has no field that
//! `--where` or `--require` could find. A field that is null counts as missing. Of a name that is
//! there twice the last counts, but all are changed. What no rule names keeps its text: numbers of any size, order, escapes.
//!
//! A tombstone passes whatever the rules: it has no field to look at, and without it the key would live on at the target.

mod condition;
mod decimal;
mod document;
mod fields;
mod mask;
mod path;
mod require;
mod result;
mod rules;
mod select;
mod time;

use std::borrow::Cow;

use serde_json::value::RawValue;

use condition::Condition;
use document::{Node, json_string};
pub(crate) use fields::SelectedFields;
use mask::Mask;
pub use path::Path as FieldPath;
use path::{Path, split_before};
use require::Requirement;
pub use result::{ShapeError, ShapeResult};
pub use rules::{InvalidRule, RuleKind, ShapeRules};
use select::FieldTree;

/// The rules that are applied to every value.
#[derive(Debug)]
pub struct Shape {
    conditions: Vec<Condition>,
    /// Paths and JSON texts.
    defaults: Vec<(Path, String)>,
    requirements: Vec<Requirement>,
    dates: Vec<Path>,
    addresses: Vec<Path>,
    masked: Vec<(Path, Mask)>,
    keep: Option<FieldTree>,
    drop: Vec<Path>,
}

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
                .map(|rule| Condition::parse(&rule.text).map_err(|why| rule.invalid(why, condition::GRAMMAR)))
                .collect::<Result<_, _>>()?,
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
        let mut document = match std::str::from_utf8(bytes).map_err(|error| error.to_string()).and_then(parse) {
            Ok(document) => document,
            Err(why) => return ShapeResult::Bad(not_json_error(bytes, &why)),
        };
        if !self.conditions.iter().all(|condition| condition.matches(&mut document)) {
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

    fn modify<'a>(&'a self, document: &mut Node<'a>) -> Result<(), ShapeError> {
        for (path, value) in &self.defaults {
            select::fill(document, &path.names, value).map_err(|()| {
                let message = format!("`{path}` cannot be filled: its parent is not an object");
                ShapeError::new("not_an_object", message).at(path)
            })?;
        }
        if let Some(fault) = self.requirements.iter().find_map(|requirement| requirement.check(document)) {
            return Err(fault);
        }
        for path in &self.dates {
            let not_a_date = |()| {
                let mut fault = ShapeError::new("not_a_date", format!("`{path}` is not a date")).at(path);
                fault.hint = Some(time::FORMATS.to_owned());
                fault
            };
            document.modify(&path.names, &mut |value| time::to_iso_8601(value).map_err(not_a_date))?;
        }
        let mut every = |path: &Path, with: &dyn Fn(&mut Cow<'a, str>)| {
            document.modify(&path.names, &mut |value| {
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
pub(crate) fn parse_time(value: &str) -> Option<jiff::Timestamp> {
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
    let mut document = parse(object).expect("the caller has read it");
    select::remove(&mut document, &[name.to_owned()]);
    let mut text = Vec::with_capacity(object.len());
    document.write(&mut text);
    String::from_utf8(text).expect("pieces of text are text")
}

fn parse(text: &str) -> Result<Node<'_>, String> {
    Node::parse(text).map_err(|error| error.to_string())
}

/// Returns the error of bytes that are not JSON, with a hint for the framing of schema registries.
#[must_use]
pub(crate) fn not_json_error(bytes: &[u8], why: &str) -> ShapeError {
    let mut fault = ShapeError::new("not_json", format!("the value is not JSON: {why}"));
    if let [0, a, b, c, d, ..] = *bytes {
        let schema = u32::from_be_bytes([a, b, c, d]);
        fault.hint =
            Some(format!("Confluent wire format (schema {schema}): shaping reads plain JSON, so leave the shaping flags out"));
    }
    fault
}

#[cfg(test)]
mod tests;
