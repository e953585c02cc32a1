//! What was asked for, and where: flags and the keys of a profile's section.

use std::fmt;

/// What a rule does. The order is that of work: what a record was decides what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// Keeps the records that meet a condition.
    Where,
    /// Fills a field that is missing.
    Default,
    /// Insists on fields.
    Require,
    /// Makes fields ISO 8601.
    Date,
    /// Reduces addresses to their networks.
    MaskIp,
    /// Hides fields.
    Mask,
    /// Keeps only these fields.
    Keep,
    /// Leaves fields out.
    Drop,
}

impl RuleKind {
    const ALL: [(&'static str, &'static str, Self); 8] = [
        ("where", "where", Self::Where),
        ("default", "default", Self::Default),
        ("require", "require", Self::Require),
        ("date", "date", Self::Date),
        ("mask-ip", "mask_ip", Self::MaskIp),
        ("mask", "mask", Self::Mask),
        ("keep", "keep", Self::Keep),
        ("drop", "drop", Self::Drop),
    ];

    fn flag(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// The rules of a shape, as text.
#[derive(Clone, Debug, Default)]
pub struct ShapeRules(Vec<Rule>);

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) kind: RuleKind,
    pub(super) text: String,
    place: String,
}

impl ShapeRules {
    /// Adds what a flag says.
    pub fn flag(&mut self, kind: RuleKind, text: &str) {
        self.0.push(Rule { kind, text: text.to_owned(), place: format!("`--{} {text}`", kind.flag()) });
    }

    /// Adds what a key of the section `[section]` says.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn key(&mut self, section: &str, key: &str, value: &str) -> Result<(), BadRule> {
        let place = format!("`{key} = {value}` in [{section}]");
        let (name, field) = key.split_once('.').map_or((key, None), |(name, field)| (name, Some(field)));
        let (kind, text) = match (RuleKind::ALL.iter().find(|(_, known, _)| *known == name), field) {
            (Some((_, _, RuleKind::Default)), Some(field)) => (RuleKind::Default, format!("{field}={value}")),
            (Some((_, _, RuleKind::Where)), _) => (RuleKind::Where, value.to_owned()),
            (Some((_, _, kind)), None) if *kind != RuleKind::Default => (*kind, value.to_owned()),
            _ => {
                let hint = "the keys are where, where.1, where.2, ..., require, keep, drop, default.FIELD, mask, mask_ip, date";
                return Err(BadRule { what: format!("there is no key `{key}` in [{section}]"), hint: hint.to_owned() });
            }
        };
        self.0.push(Rule { kind, text, place });
        Ok(())
    }

    /// Returns the rules of one kind, in the order in which they were added.
    pub(super) fn of(&self, kind: RuleKind) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(move |rule| rule.kind == kind)
    }

    /// Returns whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rule {
    /// Returns an error that names the rule, says why it cannot be followed, and what to write.
    pub(super) fn wrong(&self, why: impl fmt::Display, grammar: &str) -> BadRule {
        BadRule { what: format!("cannot use {}: {why}", self.place), hint: format!("write {grammar}") }
    }

    /// Returns an error that names the rule and says what it lacks.
    pub(super) fn lacks(&self, what: &str, hint: &str) -> BadRule {
        BadRule { what: format!("cannot use {} without {what}", self.place), hint: hint.to_owned() }
    }
}

/// A rule that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadRule {
    /// The rule, where it stands, and what is wrong with it.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}
