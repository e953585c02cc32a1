//! A section's values as they may be shown.

use crate::profile::error::{ProfileError, ProfileErrorKind};
use crate::profile::expand::is_reference;
use crate::profile::keys::SectionKind;
use crate::profile::{Origin, Profile};

/// A value as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownValue {
    /// The key, by its first name.
    pub key: String,
    /// The value, or `***`.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

impl Profile {
    /// Returns every value of the section called `name`, then the defaults of the keys that it leaves out. A reference is shown
    /// as it was written.
    ///
    /// # Errors
    /// When there is no such section.
    pub fn shown(&self, name: &str) -> Result<Vec<ShownValue>, ProfileError> {
        let Some(section) = self.find(name)? else {
            let meant = super::keys::meant(name, self.section_names());
            let fault = ProfileErrorKind::NoSection { meant, searched: self.searched.clone(), example: None };
            return Err(ProfileError::new(fault).path(self.path()).section(name));
        };
        let mut shown: Vec<_> = section
            .values
            .iter()
            .map(|value| {
                let secret = section.is_secret(&value.key) || carries_password(&value.text);
                let hidden = secret && !value.text.is_empty();
                let text = if hidden { "***".to_owned() } else { value.text.clone() };
                let key = section.kind.and_then(|kind| kind.key(&value.key)).map_or(value.key.as_str(), |key| key.name);
                ShownValue { key: key.to_owned(), value: text, origin: value.origin.clone() }
            })
            .collect();
        for (key, default) in section.kind.map_or_else(Vec::new, |kind| defaults(kind, &shown)) {
            shown.push(ShownValue { key: key.to_owned(), value: default.to_owned(), origin: Origin::Default });
        }
        Ok(shown)
    }

    /// Returns where the section stands: `FILE:LINE`, or `variables`.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        let section = self.sections.iter().find(|section| section.name == name);
        match section.and_then(|section| section.path.as_ref().zip(section.line)) {
            Some((path, line)) => format!("{}:{line}", path.display()),
            None => "variables".to_owned(),
        }
    }

    /// Returns where the section's servers are, without user and password; `None` for a section of no server.
    #[must_use]
    pub fn servers(&self, name: &str) -> Option<String> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        let text = |key: &str| section.find(key).map(|value| value.text.clone());
        match section.kind? {
            SectionKind::Kafka => text("servers"),
            SectionKind::Elasticsearch | SectionKind::Opensearch => {
                text("url").map(|url| if carries_password(&url) { "***".to_owned() } else { url })
            }
            SectionKind::Mongodb => match (text("uri"), text("host")) {
                (Some(uri), _) => Some(hosts_of(&uri)),
                (None, host) => host.map(|host| format!("{host}:{}", text("port").unwrap_or_else(|| "27017".to_owned()))),
            },
            SectionKind::Shape | SectionKind::Run => None,
        }
    }
}

fn defaults(kind: SectionKind, given: &[ShownValue]) -> Vec<(&'static str, &'static str)> {
    let has = |name: &str| given.iter().any(|shown| shown.key == name && !shown.value.is_empty());
    let default = |key: &'static super::Key| {
        let sasl =
            || has("username") || given.iter().any(|shown| shown.key == "security_protocol" && shown.value.starts_with("SASL"));
        Some((
            key.name,
            match (kind, key.name) {
                (SectionKind::Kafka, "security_protocol") if has("username") => "SASL_PLAINTEXT",
                (SectionKind::Kafka, "sasl_mechanism") if sasl() => "PLAIN",
                (SectionKind::Mongodb, "port") if has("uri") => return None,
                _ => key.default?,
            },
        ))
    };
    kind.keys().iter().filter(|key| !has(key.name)).filter_map(default).collect()
}

/// Returns the hosts of a connection string; `***` where a part of the string could be mistaken for them.
fn hosts_of(uri: &str) -> String {
    if is_reference(uri) {
        return uri.to_owned();
    }
    let hosts = uri.split_once("://").and_then(|(scheme, rest)| match rest.split('@').collect::<Vec<_>>()[..] {
        [rest] | [_, rest] => Some(format!("{scheme}://{}", rest.split(['?', '/']).next().unwrap_or_default())),
        _ => None,
    });
    hosts.unwrap_or_else(|| "***".to_owned())
}

/// Returns whether `text` can be a URL with a password in it.
fn carries_password(text: &str) -> bool {
    text.contains('@') && text.contains("://")
}
