//! A section with its values, from the file and from variables.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::profile::environment::Environment;
use crate::profile::error::{ProfileError, ProfileErrorKind};
use crate::profile::expand::{expand, is_reference};
use crate::profile::ini::RawSection;
use crate::profile::keys::{PROPERTY, SectionKind, meant, owned_property, secret_property};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the profile.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In a variable.
    Variable(String),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A section whose keys are known to be right.
#[derive(Clone)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) path: Option<PathBuf>,
    pub(crate) line: Option<usize>,
    /// `None` until its keys, or who asks for it, tell.
    pub(crate) kind: Option<SectionKind>,
    pub(crate) values: Vec<Value>,
}

/// A key and its value, before `${...}` is expanded.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.values.iter().map(|value| value.key.as_str()).collect();
        f.debug_struct("Section").field("name", &self.name).field("kind", &self.kind).field("keys", &keys).finish_non_exhaustive()
    }
}

/// Returns the variable that stands for a key: `SDL_<SECTION>_<KEY>`.
pub(crate) fn variable_name(section: &str, key: &str) -> String {
    format!("SDL_{}_{}", in_capitals(section), in_capitals(key))
}

fn in_capitals(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

impl Section {
    /// Returns the section that `raw` and the variables make: a variable wins.
    ///
    /// # Errors
    /// On a key that a section of its type does not have, and on one that is given under two names.
    pub(crate) fn new(
        raw: RawSection,
        path: Option<&Path>,
        others: &[String],
        from: &dyn Environment,
    ) -> Result<Self, ProfileError> {
        let line = Some(raw.line).filter(|line| *line > 0);
        let mut section = Self { kind: None, name: raw.name, path: path.map(Path::to_owned), line, values: Vec::new() };
        for entry in raw.entries {
            let origin = Origin::File { path: path.unwrap_or(Path::new("")).to_owned(), line: entry.line };
            section.values.push(Value { key: entry.key, text: entry.value, origin });
        }
        section.overlay(others, from);
        section.kind = section.tell_kind()?;
        section.check_keys()?;
        Ok(section)
    }

    /// Lets `SDL_<SECTION>_<KEY>` win over the file. A variable belongs to the section with the longest fitting name.
    fn overlay(&mut self, others: &[String], from: &dyn Environment) {
        let prefix = variable_name(&self.name, "");
        for name in from.variable_names() {
            let Some(rest) = name.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
            let longer = |other: &String| {
                let other = variable_name(other, "");
                other.len() > prefix.len() && name.len() > other.len() && name.starts_with(&other)
            };
            if others.iter().any(longer) {
                continue;
            }
            let Some(text) = from.variable(&name) else { continue };
            let origin = Origin::Variable(name.clone());
            if let Some(value) = self.values.iter_mut().find(|value| in_capitals(&value.key) == rest) {
                (value.text, value.origin) = (text, origin);
                continue;
            }
            let mut key = rest.to_lowercase();
            if let Some(property) = key.strip_prefix("kafka_") {
                key = format!("{PROPERTY}{}", property.replace('_', "."));
            }
            self.values.push(Value { key, text, origin });
        }
    }

    fn tell_kind(&self) -> Result<Option<SectionKind>, ProfileError> {
        if self.name.starts_with("shape.") {
            return Ok(Some(SectionKind::Shape));
        }
        if self.name.starts_with("run.") {
            return Ok(Some(SectionKind::Run));
        }
        if let Some(value) = self.find("type") {
            let kind = super::keys::SERVERS.into_iter().find(|kind| kind.as_str() == value.text);
            let wanted = "one of `kafka`, `mongodb`, `elasticsearch`, `opensearch`".to_owned();
            return kind.map(Some).ok_or_else(|| self.fault_at(value, ProfileErrorKind::Value { wanted }));
        }
        let has = |key: &str| self.find(key).is_some();
        Ok(if has("servers") {
            Some(SectionKind::Kafka)
        } else if has("url") {
            Some(if self.name.contains("opensearch") { SectionKind::Opensearch } else { SectionKind::Elasticsearch })
        } else if has("uri") || has("host") {
            Some(SectionKind::Mongodb)
        } else {
            super::keys::WELL_KNOWN.iter().find(|(name, _)| *name == self.name).map(|(_, kind)| *kind)
        })
    }

    fn check_keys(&self) -> Result<(), ProfileError> {
        let kinds: &[SectionKind] = match &self.kind {
            Some(SectionKind::Shape | SectionKind::Run) => return Ok(()),
            Some(kind) => std::slice::from_ref(kind),
            None => &super::keys::SERVERS,
        };
        for value in &self.values {
            if let (Some(property), true) = (value.key.strip_prefix(PROPERTY), kinds.contains(&SectionKind::Kafka)) {
                match owned_property(property) {
                    Some(instead) => return Err(self.fault_at(value, ProfileErrorKind::Owned { instead })),
                    None => continue,
                }
            }
            let Some(key) = kinds.iter().find_map(|kind| kind.key(&value.key)) else {
                let known = kinds.iter().flat_map(|kind| kind.keys()).map(|key| key.name);
                return Err(self.fault_at(value, ProfileErrorKind::UnknownKey { meant: meant(&value.key, known) }));
            };
            if value.key != key.name && self.find(key.name).is_some() {
                return Err(self.fault_at(value, ProfileErrorKind::DuplicateAlias { first: key.name.to_owned() }));
            }
        }
        Ok(())
    }

    /// Returns the section as one of `kind`.
    ///
    /// # Errors
    /// When it is known to be of another type, or has keys that `kind` lacks.
    pub(crate) fn of_kind(&self, wanted: &[SectionKind]) -> Result<Self, ProfileError> {
        match self.kind {
            Some(kind) if wanted.contains(&kind) => Ok(self.clone()),
            Some(kind) => Err(self.fault(ProfileErrorKind::WrongKind { is: kind.as_str(), wanted: wanted[0].as_str() })),
            None => {
                let section = Self { kind: Some(wanted[0]), ..self.clone() };
                section.check_keys()?;
                Ok(section)
            }
        }
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.key == key)
    }

    pub(crate) fn fault(&self, fault: ProfileErrorKind) -> ProfileError {
        ProfileError::new(fault).path(self.path.as_deref()).line(self.line).section(&self.name)
    }

    pub(crate) fn fault_at(&self, value: &Value, fault: ProfileErrorKind) -> ProfileError {
        let error = ProfileError::new(fault).path(self.path.as_deref()).section(&self.name).key(&value.key);
        match &value.origin {
            Origin::File { line, .. } => error.line(*line),
            Origin::Variable(name) => error.variable(name.clone()),
            Origin::Default => error,
        }
    }

    /// Returns the value of `key` with its `${...}` expanded; `None` when it is absent or empty.
    ///
    /// # Errors
    /// When what it refers to is not there.
    pub(crate) fn text(&self, key: &str, from: &dyn Environment) -> Result<Option<String>, ProfileError> {
        let alias = self.kind.and_then(|kind| kind.key(key)).and_then(|key| key.alias);
        let value = self.find(key).or_else(|| alias.and_then(|alias| self.find(alias)));
        let Some(value) = value else { return Ok(None) };
        Ok(Some(self.expanded(value, from)?).filter(|text| !text.is_empty()))
    }

    /// Returns the value of a key that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn required(&self, key: &str, example: &'static str, from: &dyn Environment) -> Result<String, ProfileError> {
        self.text(key, from)?.ok_or_else(|| self.fault(ProfileErrorKind::MissingKey { example }).key(key))
    }

    /// Returns the value of a key that takes one of `words`, in the spelling of `words`.
    ///
    /// # Errors
    /// When it is none of them.
    pub(crate) fn one_of(&self, key: &str, words: &[&str], from: &dyn Environment) -> Result<Option<String>, ProfileError> {
        let parse = |text: &str| words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| (*word).to_owned());
        self.parsed(key, &format!("one of `{}`", words.join("`, `")), parse, from)
    }

    /// Returns the value of a key that takes `true` or `false`; `false` when it is not given.
    ///
    /// # Errors
    /// When it is neither.
    pub(crate) fn flag(&self, key: &str, from: &dyn Environment) -> Result<bool, ProfileError> {
        Ok(self.one_of(key, &["true", "false"], from)?.as_deref() == Some("true"))
    }

    /// Returns what `parse` makes of the value of `key`.
    ///
    /// # Errors
    /// When it makes nothing of it; `wanted` says what is taken.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
        from: &dyn Environment,
    ) -> Result<Option<T>, ProfileError> {
        let Some(text) = self.text(key, from)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| self.wrong(key, wanted))
    }

    /// Returns the error of a value that is not what its key takes.
    pub(crate) fn wrong(&self, key: &str, wanted: &str) -> ProfileError {
        let fault = ProfileErrorKind::Value { wanted: wanted.to_owned() };
        match self.find(key) {
            Some(value) => self.fault_at(value, fault),
            None => self.fault(fault).key(key),
        }
    }

    /// Returns the value with its `${...}` expanded.
    ///
    /// # Errors
    /// When what it refers to is not there.
    pub(crate) fn expanded(&self, value: &Value, from: &dyn Environment) -> Result<String, ProfileError> {
        expand(&value.text, from).map_err(|fault| self.fault_at(value, fault))
    }

    /// Returns whether the value of `key` must not be seen.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        match key.strip_prefix(PROPERTY) {
            Some(property) => secret_property(property),
            None => match self.kind {
                Some(SectionKind::Shape | SectionKind::Run) => secret_property(&key.replace('-', "_")) || key.ends_with("_key"),
                Some(kind) => kind.key(key).is_none_or(|key| key.secret),
                None => super::keys::SERVERS.iter().filter_map(|kind| kind.key(key)).any(|key| key.secret),
            },
        }
    }

    /// Returns whether a secret stands in the file itself.
    pub(crate) fn has_literal_secret(&self) -> bool {
        self.values.iter().any(|value| {
            let in_file = matches!(value.origin, Origin::File { .. });
            in_file && self.is_secret(&value.key) && !value.text.is_empty() && !is_reference(&value.text)
        })
    }
}
