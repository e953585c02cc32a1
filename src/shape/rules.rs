//! The rules of a shape as text, and where each was given.

use std::fmt;

use crate::shape::match_counter::MatchCounter;
use crate::shape::path::{Path, split, split_before};

/// How a list of fields is written.
const PATH_LIST: &str = "fields with commas, dots between the names of nested ones: user_id,buyer.id";

/// The kinds of rules, in the order of application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// Keeps the records that meet a condition.
    Where,
    /// Fills a field that is missing.
    Default,
    /// Requires fields.
    Require,
    /// Converts times to ISO 8601.
    Date,
    /// Truncates addresses to their networks.
    MaskIp,
    /// Replaces values by their keyed hash.
    Mask,
    /// Keeps only these fields.
    Keep,
    /// Removes fields.
    Drop,
}

impl RuleKind {
    /// The kinds with their keys in `[shape.NAME]`.
    const KEYS: [(&'static str, Self); 8] = [
        ("where", Self::Where),
        ("default", Self::Default),
        ("require", Self::Require),
        ("date", Self::Date),
        ("mask_ip", Self::MaskIp),
        ("mask", Self::Mask),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
    ];
}

/// The rules of a shape, as text.
#[derive(Clone, Debug, Default)]
pub struct ShapeRules(Vec<Rule>);

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) kind: RuleKind,
    pub(super) text: String,
    pub(super) origin: String,
}

impl ShapeRules {
    /// Adds a rule; `origin` names it in errors, with its backticks: "`drop = a`".
    pub fn add(&mut self, kind: RuleKind, text: &str, origin: &str) {
        self.0.push(Rule { kind, text: text.to_owned(), origin: origin.to_owned() });
    }

    /// Adds the rule of a key of a section; `location` names the section in errors, and where the key is set.
    ///
    /// # Errors
    /// When the key is unknown.
    pub(crate) fn key(&mut self, location: &str, key: &str, value: &str) -> Result<(), InvalidRule> {
        let origin = format!("`{key} = {value}` in {location}");
        let (name, field) = key.split_once('.').map_or((key, None), |(name, field)| (name, Some(field)));
        let (kind, text) = match (RuleKind::KEYS.iter().find(|(known, _)| *known == name), field) {
            (Some((_, RuleKind::Default)), Some(field)) => (RuleKind::Default, format!("{field}={value}")),
            (Some((_, RuleKind::Where)), _) => (RuleKind::Where, value.to_owned()),
            (Some((_, kind)), None) if *kind != RuleKind::Default => (*kind, value.to_owned()),
            _ => {
                let hint = "the keys are where, where.1, where.2, ..., require, keep, drop, default.FIELD, mask, mask_ip, date";
                return Err(InvalidRule { what: format!("unknown key `{key}` in {location}"), hint: hint.to_owned() });
            }
        };
        self.0.push(Rule { kind, text, origin });
        Ok(())
    }

    /// Returns the rules of one kind, in the order in which they were added.
    pub(super) fn of_kind(&self, kind: RuleKind) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(move |rule| rule.kind == kind)
    }

    /// Returns whether a rule needs the key of masks.
    pub(crate) fn masks(&self) -> bool {
        self.of_kind(RuleKind::Mask).next().is_some()
    }

    /// Returns the fields that the rules of one kind list.
    ///
    /// # Errors
    /// When a list of fields cannot be read.
    pub(crate) fn paths(&self, kind: RuleKind) -> Result<Vec<Path>, InvalidRule> {
        let lists = self.of_kind(kind).map(|rule| Path::list(&rule.text).map_err(|why| rule.invalid(why, PATH_LIST)));
        lists.collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
    }

    /// Returns a counter for each field of the rules that need one.
    ///
    /// # Errors
    /// When a list of fields cannot be parsed.
    pub(super) fn field_counters(&self) -> Result<Vec<MatchCounter>, InvalidRule> {
        let mut counters = Vec::new();
        for rule in self.0.iter().filter(|rule| !matches!(rule.kind, RuleKind::Where | RuleKind::Default)) {
            for field in split(&rule.text, |c| c == ',') {
                let name = if rule.kind == RuleKind::Require { split_before(field, |c| c == ':').0 } else { field };
                let path = Path::parse(name).map_err(|why| rule.invalid(why, PATH_LIST))?;
                counters.push(MatchCounter::new(&rule.origin, &path, false));
            }
        }
        Ok(counters)
    }

    /// Returns whether the shape has no rules.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    /// Returns the error of a rule that cannot be parsed; `grammar` is what to write.
    pub(super) fn invalid(&self, why: impl fmt::Display, grammar: &str) -> InvalidRule {
        InvalidRule { what: format!("cannot use {}: {why}", self.origin), hint: format!("write {grammar}") }
    }

    /// Returns the error of a rule that needs `what`.
    pub(super) fn missing(&self, what: &str, hint: &str) -> InvalidRule {
        InvalidRule { what: format!("cannot use {} without {what}", self.origin), hint: hint.to_owned() }
    }
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct InvalidRule {
    /// The rule, its position, and the error.
    pub what: String,
    /// A suggested correction.
    pub hint: String,
}
