//! A section with its values from the file and from environment variables.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::profile::environment::Environment;
use crate::profile::error::{ProfileError, ProfileErrorKind};
use crate::profile::expand::{expand, has_reference, is_reference};
use crate::profile::ini::{IniEntry, RawSection};
use crate::profile::keys::{
    PROPERTY, SERVER_KINDS, SectionKind, WELL_KNOWN, closest, foreign_key, is_secret_property, managed_property, reaches_out,
    variable_name, variable_part,
};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a line of the profile.
    File {
        /// The path of the profile, as it was found.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// In the environment variable of this name.
    Variable(String),
    /// Not set.
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

/// A section. Its keys are valid once [`Section::checked`] has returned it.
#[derive(Clone)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) path: Option<PathBuf>,
    /// Whether somebody else may have written the file.
    is_foreign: bool,
    pub(crate) line: Option<usize>,
    /// `None` if the keys do not determine it.
    pub(crate) kind: Option<SectionKind>,
    pub(crate) values: Vec<SectionValue>,
    /// Why no command can use the section: a wrong type or key.
    pub(crate) fault: Option<ProfileError>,
}

/// The file of a section.
#[derive(Clone, Copy)]
pub(crate) struct ProfileFile<'a> {
    pub(crate) path: &'a Path,
    /// Whether it was found in the working folder, and somebody else may have written it.
    pub(crate) is_foreign: bool,
}

/// A key and its value, before `${...}` is expanded.
#[derive(Clone)]
pub(crate) struct SectionValue {
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

impl Section {
    /// Returns the section from `raw` and the environment variables; a variable overrides the file.
    pub(crate) fn new(
        raw: RawSection,
        file: Option<ProfileFile<'_>>,
        others: &[String],
        inherited: &[IniEntry],
        from: &dyn Environment,
    ) -> Self {
        let line = Some(raw.line).filter(|line| *line > 0);
        let path = file.map(|file| file.path);
        let mut section = Self {
            kind: None,
            name: raw.name,
            path: path.map(Path::to_owned),
            is_foreign: file.is_some_and(|file| file.is_foreign),
            line,
            values: Vec::new(),
            fault: None,
        };
        let value = |entry: IniEntry| SectionValue {
            key: entry.key,
            text: entry.value,
            origin: Origin::File { path: path.unwrap_or(Path::new("")).to_owned(), line: entry.line },
        };
        section.values.extend(raw.entries.into_iter().map(value));
        section.apply_variables(others, from);
        section.fault = section.complete(inherited.iter().cloned().map(value)).err();
        section
    }

    /// Determines the type, inherits and checks the keys.
    ///
    /// # Errors
    /// On an unknown type or key, and on a key that is given under two names.
    fn complete(&mut self, inherited: impl Iterator<Item = SectionValue>) -> Result<(), ProfileError> {
        self.kind = self.detect_kind()?;
        if !self.name.contains('.') && self.line.is_some() {
            self.inherit(inherited)?;
        }
        if self.kind.is_some() { self.check_keys() } else { Ok(()) }
    }

    /// Returns the section for a command that uses it.
    ///
    /// # Errors
    /// When its type or a key is wrong.
    pub(crate) fn checked(self) -> Result<Self, ProfileError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }

    /// Adds the values of `[DEFAULT]` that the section does not have and that a section of its type can have.
    fn inherit(&mut self, defaults: impl Iterator<Item = SectionValue>) -> Result<(), ProfileError> {
        let own = self.values.len();
        let other_name = |key: &str| {
            let key = self.kind.and_then(|kind| kind.key(key))?;
            [Some(key.name), key.alias].into_iter().flatten().find(|name| self.find(name).is_some())
        };
        let missing: Vec<_> =
            defaults.filter(|value| self.find(&value.key).is_none() && other_name(&value.key).is_none()).collect();
        self.values.extend(missing);
        if self.kind.is_none() {
            self.kind = self.detect_kind()?;
        }
        let kind = self.kind;
        let mut index = 0;
        self.values.retain(|value| {
            index += 1;
            index <= own || kind.is_some_and(|kind| kind.knows(&value.key))
        });
        Ok(())
    }

    /// Applies `SDL_<SECTION>_<KEY>`. A variable belongs to the section with the longest matching name.
    fn apply_variables(&mut self, others: &[String], from: &dyn Environment) {
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
            if let Some(value) = self.values.iter_mut().find(|value| variable_part(&value.key) == rest) {
                (value.text, value.origin) = (text, origin);
                continue;
            }
            let mut key = rest.to_lowercase();
            if let Some(property) = key.strip_prefix("kafka_") {
                key = format!("{PROPERTY}{}", property.replace('_', "."));
            }
            self.values.push(SectionValue { key, text, origin });
        }
    }

    fn detect_kind(&self) -> Result<Option<SectionKind>, ProfileError> {
        if self.name.starts_with("shape.") {
            return Ok(Some(SectionKind::Shape));
        }
        if self.name.starts_with("run.") {
            return Ok(Some(SectionKind::Run));
        }
        if let Some(value) = self.find("type") {
            let kind = SERVER_KINDS.into_iter().find(|kind| kind.as_str() == value.text);
            let wanted = "one of `kafka`, `mongodb`, `elasticsearch`, `opensearch`".to_owned();
            let comment = trailing_comment(&value.text);
            return kind.map(Some).ok_or_else(|| self.error_at(value, ProfileErrorKind::Value { comment, wanted }));
        }
        let has = |key: &str| self.find(key).is_some();
        let well_known = WELL_KNOWN.iter().find(|(name, _)| *name == self.name).map(|(_, kind)| *kind);
        // Sections of other programs have a `host` or a `url` too; they have other keys besides.
        let if_all_known =
            |kind: SectionKind| (well_known.is_some() || self.values.iter().all(|value| kind.knows(&value.key))).then_some(kind);
        Ok(if has("servers") {
            Some(SectionKind::Kafka)
        } else if has("url") {
            let opensearch = self.name.contains("opensearch");
            if_all_known(if opensearch { SectionKind::Opensearch } else { SectionKind::Elasticsearch })
        } else if has("uri") || has("host") {
            if_all_known(SectionKind::Mongodb)
        } else {
            well_known
        })
    }

    fn check_keys(&self) -> Result<(), ProfileError> {
        let kinds: &[SectionKind] = match &self.kind {
            Some(SectionKind::Shape | SectionKind::Run) => return Ok(()),
            Some(kind) => std::slice::from_ref(kind),
            None => &SERVER_KINDS,
        };
        for value in &self.values {
            if self.is_of_stranger(value) && reaches_out(&value.key) {
                return Err(self.error_at(value, ProfileErrorKind::Foreign { what: format!("key `{}`", value.key) }));
            }
            if let (Some(property), true) = (value.key.strip_prefix(PROPERTY), kinds.contains(&SectionKind::Kafka)) {
                match managed_property(property) {
                    Some(instead) => return Err(self.error_at(value, ProfileErrorKind::ManagedProperty { instead })),
                    None => continue,
                }
            }
            let Some(key) = kinds.iter().find_map(|kind| kind.key(&value.key)) else {
                if kinds.contains(&SectionKind::Kafka) {
                    if let Some(key) = foreign_key(&value.key) {
                        return Err(self.error_at(value, ProfileErrorKind::ForeignKey { key }));
                    }
                    if value.key.contains('.') {
                        return Err(self.error_at(value, ProfileErrorKind::UnprefixedProperty));
                    }
                }
                let known = kinds.iter().flat_map(|kind| kind.keys()).map(|key| key.name);
                return Err(self.error_at(value, ProfileErrorKind::UnknownKey { meant: closest(&value.key, known) }));
            };
            if value.key != key.name && self.find(key.name).is_some() {
                return Err(self.error_at(value, ProfileErrorKind::DuplicateAlias { first: key.name.to_owned() }));
            }
        }
        Ok(())
    }

    /// Returns the section as one of the `wanted` types.
    ///
    /// # Errors
    /// When it has another type, or keys that the type does not have.
    pub(crate) fn of_kind(&self, wanted: &'static [SectionKind]) -> Result<Self, ProfileError> {
        match self.kind {
            Some(kind) if wanted.contains(&kind) => Ok(self.clone()),
            Some(kind) => Err(self.error(ProfileErrorKind::WrongKind { is: kind.as_str(), wanted })),
            None => {
                let section = Self { kind: Some(wanted[0]), ..self.clone() };
                section.check_keys()?;
                Ok(section)
            }
        }
    }

    /// Returns whether the section is certainly none of another program, whose keys can be those of a type too.
    pub(crate) fn is_own(&self) -> bool {
        let is_known = WELL_KNOWN.iter().any(|(name, _)| *name == self.name);
        is_known || self.kind == Some(SectionKind::Kafka) || self.find("type").is_some()
    }

    /// Returns the section with those values only that hold no reference.
    pub(crate) fn without_references(&self) -> Self {
        let mut section = self.clone();
        section.values.retain(|value| !has_reference(&value.text));
        section
    }

    pub(crate) fn find(&self, key: &str) -> Option<&SectionValue> {
        self.values.iter().find(|value| value.key == key)
    }

    pub(crate) fn error(&self, fault: ProfileErrorKind) -> ProfileError {
        ProfileError::new(fault).path(self.path.as_deref()).line(self.line).section(&self.name)
    }

    pub(crate) fn error_at(&self, value: &SectionValue, fault: ProfileErrorKind) -> ProfileError {
        let error = ProfileError::new(fault).path(self.path.as_deref()).section(&self.name).key(&value.key);
        match &value.origin {
            Origin::File { line, .. } => error.line(*line),
            Origin::Variable(name) => error.variable(name.clone()),
            Origin::Default => error,
        }
    }

    /// Returns the value of `key` under either of its names.
    fn find_named(&self, key: &str) -> Option<&SectionValue> {
        let alias = self.kind.and_then(|kind| kind.key(key)).and_then(|key| key.alias);
        self.find(key).or_else(|| alias.and_then(|alias| self.find(alias)))
    }

    /// Returns the expanded value of `key`; `None` when it is absent or empty.
    ///
    /// # Errors
    /// When a reference cannot be expanded, and when something like a comment stands behind a value that is not secret: a server
    /// would accept both together as a name.
    pub(crate) fn text(&self, key: &str, from: &dyn Environment) -> Result<Option<String>, ProfileError> {
        let Some(value) = self.find_named(key) else { return Ok(None) };
        if let Some(comment) = self.comment_in(value) {
            return Err(self.error_at(value, ProfileErrorKind::Comment { comment }));
        }
        self.unchecked_text(value, from)
    }

    fn unchecked_text(&self, value: &SectionValue, from: &dyn Environment) -> Result<Option<String>, ProfileError> {
        Ok(Some(self.expanded(value, from)?).filter(|text| !text.is_empty()))
    }

    /// Returns text of the file behind a value that is not secret, if other INI parsers read it as a comment.
    fn comment_in(&self, value: &SectionValue) -> Option<String> {
        let in_file = matches!(value.origin, Origin::File { .. });
        trailing_comment(&value.text).filter(|_| in_file && !self.is_secret(&value.key))
    }

    /// Returns the values with a comment that no check refuses: properties of librdkafka, rules and flags.
    pub(crate) fn commented(&self) -> Vec<(&SectionValue, String)> {
        let Some(kind) = self.kind else { return Vec::new() };
        let free = self.values.iter().filter(|value| kind.key(&value.key).is_none());
        let commented = free.filter_map(|value| Some((value, self.comment_in(value)?)));
        // A quoted part of a condition can hold either sign.
        commented.filter(|(_, comment)| !comment.contains(['"', '\''])).collect()
    }

    /// Returns the value of a required key.
    ///
    /// # Errors
    /// When it is missing.
    pub(crate) fn required(&self, key: &str, example: &'static str, from: &dyn Environment) -> Result<String, ProfileError> {
        self.text(key, from)?.ok_or_else(|| self.error(ProfileErrorKind::MissingKey { example }).key(key))
    }

    /// Returns the value of a key that takes one of `words`, ignoring case, in the spelling of `words`.
    ///
    /// # Errors
    /// When it is another value.
    pub(crate) fn one_of(&self, key: &str, words: &[&str], from: &dyn Environment) -> Result<Option<String>, ProfileError> {
        let parse = |text: &str| words.iter().find(|word| word.eq_ignore_ascii_case(text)).map(|word| (*word).to_owned());
        self.parsed(key, &format!("one of `{}`", words.join("`, `")), parse, from)
    }

    /// Returns the value of a boolean key; `false` by default.
    ///
    /// # Errors
    /// When [`parse_flag`] does not know it.
    pub(crate) fn flag(&self, key: &str, from: &dyn Environment) -> Result<bool, ProfileError> {
        Ok(self.parsed(key, "`true` or `false`", parse_flag, from)?.unwrap_or(false))
    }

    /// Parses the value of `key`.
    ///
    /// # Errors
    /// When `parse` returns `None`; `wanted` describes the valid values.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
        from: &dyn Environment,
    ) -> Result<Option<T>, ProfileError> {
        let Some(value) = self.find_named(key) else { return Ok(None) };
        let Some(text) = self.unchecked_text(value, from)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| self.invalid(key, wanted))
    }

    /// Returns whether the value is of a file that somebody else may have written.
    fn is_of_stranger(&self, value: &SectionValue) -> bool {
        self.is_foreign && matches!(value.origin, Origin::File { .. })
    }

    /// Returns the error of a key that does not go with others; `why` follows the key, and `hint` is what to do.
    pub(crate) fn conflict(&self, key: &str, why: &str, hint: &str) -> ProfileError {
        let fault = ProfileErrorKind::Conflict { why: why.to_owned(), hint: hint.to_owned() };
        match self.find(key) {
            Some(value) => self.error_at(value, fault),
            None => self.error(fault).key(key),
        }
    }

    /// Returns the error of an invalid value.
    pub(crate) fn invalid(&self, key: &str, wanted: &str) -> ProfileError {
        let value = self.find(key).filter(|_| !self.is_secret(key));
        let comment = value.and_then(|value| trailing_comment(&value.text));
        let fault = ProfileErrorKind::Value { comment, wanted: wanted.to_owned() };
        match self.find(key) {
            Some(value) => self.error_at(value, fault),
            None => self.error(fault).key(key),
        }
    }

    /// Returns the error of a key whose value is no list of `addresses`: of one with a port that does not exist, which it names, or of
    /// something else. What a reference stands for, and an address with a user, may hold a password, and is not shown.
    pub(crate) fn invalid_addresses<'a>(
        &self,
        key: &str,
        addresses: impl IntoIterator<Item = &'a str>,
        wanted: &str,
    ) -> ProfileError {
        let addresses: Vec<_> = addresses.into_iter().map(str::trim).collect();
        let may_be_secret = |value: &&SectionValue| has_reference(&value.text) || value.text.contains('@');
        let shown = self.find(key).filter(|value| !may_be_secret(value) && trailing_comment(&value.text).is_none());
        let Some(value) = shown else { return self.invalid(key, wanted) };
        let fault = if let Some(address) = addresses.iter().find(|address| has_port_above(address)) {
            ProfileErrorKind::Port { address: (*address).to_owned() }
        } else {
            let value = addresses.join(",");
            ProfileErrorKind::Addresses { remedy: remedy_of_addresses(&value), value, wanted: wanted.to_owned() }
        };
        self.error_at(value, fault)
    }

    /// Expands a value.
    ///
    /// # Errors
    /// When a reference cannot be expanded.
    pub(crate) fn expanded(&self, value: &SectionValue, from: &dyn Environment) -> Result<String, ProfileError> {
        if self.is_of_stranger(value) && has_reference(&value.text) {
            let what = format!("the reference in key `{}`", value.key);
            return Err(self.error_at(value, ProfileErrorKind::Foreign { what }));
        }
        expand(&value.text, from).map_err(|fault| self.error_at(value, fault))
    }

    /// Returns whether the value of `key` is secret.
    pub(crate) fn is_secret(&self, key: &str) -> bool {
        match key.strip_prefix(PROPERTY) {
            Some(property) => is_secret_property(property),
            None => match self.kind {
                Some(SectionKind::Shape | SectionKind::Run) => {
                    is_secret_property(&key.replace('-', "_")) || key.ends_with("_key")
                }
                Some(kind) => kind.key(key).is_none_or(|key| key.secret),
                None => SERVER_KINDS.iter().filter_map(|kind| kind.key(key)).any(|key| key.secret),
            },
        }
    }

    /// Returns the values in the file that Python's configparser would interpolate.
    pub(crate) fn interpolated(&self) -> impl Iterator<Item = &SectionValue> {
        let is_server = self.kind.is_some_and(|kind| SERVER_KINDS.contains(&kind));
        self.values.iter().filter(move |value| {
            let in_file = matches!(value.origin, Origin::File { .. });
            is_server && in_file && (value.text.contains("%%") || value.text.contains("%("))
        })
    }

    /// Returns whether the file holds a literal secret.
    pub(crate) fn has_literal_secret(&self) -> bool {
        self.values.iter().any(|value| {
            let in_file = matches!(value.origin, Origin::File { .. });
            // A connection string holds one behind a user's name only.
            let has_one = self.kind != Some(SectionKind::Mongodb) || value.key != "uri" || value.text.contains('@');
            in_file && has_one && self.is_secret(&value.key) && !value.text.is_empty() && !is_reference(&value.text)
        })
    }
}

/// Parses a boolean as Python's configparser does: `true`, `yes`, `on`, `1` and their opposites, in any case.
pub(crate) fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Returns what to do about a list of addresses that has too much: quotes or a scheme.
fn remedy_of_addresses(list: &str) -> Option<&'static str> {
    match list {
        quoted if quoted.contains(['"', '\'']) => Some("remove the quotes"),
        url if url.contains("://") => Some("remove the scheme"),
        _ => None,
    }
}

/// Returns whether an address, with or without a scheme and a path, has a port above 65535.
pub(crate) fn has_port_above(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((_, port)) = authority.rsplit_once(':') else { return false };
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_err()
}

/// Returns whether `server`, `host:port`, is a loopback address.
pub(crate) fn is_loopback(server: &str) -> bool {
    let server = server.trim();
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns text after a value, or in place of one, that other INI parsers read as a comment.
fn trailing_comment(text: &str) -> Option<String> {
    if ["# ", "; "].iter().any(|sign| text.starts_with(sign)) {
        return Some(text.to_owned());
    }
    let start = [" ;", " #", "\t;", "\t#"].iter().filter_map(|sign| text.find(sign)).min()?;
    Some(text[start..].trim().to_owned())
}
