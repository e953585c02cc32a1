//! A section's values without its secrets.

use crate::profile::expand::is_reference;
use crate::profile::keys::{SectionKey, SectionKind};
use crate::profile::section::{Origin, Section};
use crate::profile::tokens::{AWS_MSK_IAM, OAUTHBEARER};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DisplayedValue {
    /// The key, by its first name.
    pub(crate) key: String,
    /// The value, or `***`.
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// Returns every value of the section, then the defaults of the keys that it leaves out. A reference is shown as it was written.
pub(crate) fn displayed_values(section: &Section) -> Vec<DisplayedValue> {
    let mut displayed: Vec<_> = section
        .values
        .iter()
        .map(|value| {
            let secret = section.is_secret(&value.key) || may_contain_password(&value.text);
            let text = match value.text.split_once(char::is_whitespace) {
                // The arguments may hold a password.
                Some((program, _)) if value.key == "oauth_token_command" => format!("{program} ***"),
                _ if secret && !value.text.is_empty() => "***".to_owned(),
                _ => value.text.clone(),
            };
            let key = section.kind.and_then(|kind| kind.key(&value.key)).map_or(value.key.as_str(), |key| key.name);
            DisplayedValue { key: key.to_owned(), value: text, origin: value.origin.clone() }
        })
        .collect();
    for (key, default) in section.kind.map_or_else(Vec::new, |kind| defaults(kind, &displayed)) {
        displayed.push(DisplayedValue { key: key.to_owned(), value: default.to_owned(), origin: Origin::Default });
    }
    displayed
}

/// Returns the addresses of the section's servers, without user and password; `None` if the section is not a server's.
pub(crate) fn server_addresses(section: &Section) -> Option<String> {
    let text = |key: &str| section.find(key).map(|value| value.text.clone());
    match section.kind? {
        SectionKind::Kafka => text("servers"),
        SectionKind::Elasticsearch | SectionKind::Opensearch => {
            text("url").map(|url| if may_contain_password(&url) { "***".to_owned() } else { url })
        }
        SectionKind::Mongodb => match (text("uri"), text("host")) {
            (Some(uri), _) => Some(hosts_of(&uri)),
            (None, host) => host.map(|host| format!("{host}:{}", text("port").unwrap_or_else(|| "27017".to_owned()))),
        },
        SectionKind::Shape | SectionKind::Run => None,
    }
}

fn defaults(kind: SectionKind, given: &[DisplayedValue]) -> Vec<(&'static str, &'static str)> {
    let has = |name: &str| given.iter().any(|shown| shown.key == name && !shown.value.is_empty());
    let is_token = |mechanism: &str| [OAUTHBEARER, AWS_MSK_IAM].iter().any(|known| known.eq_ignore_ascii_case(mechanism));
    let has_tokens = || given.iter().any(|shown| shown.key == "sasl_mechanism" && is_token(&shown.value));
    let default = |key: &'static SectionKey| {
        let sasl =
            || has("username") || given.iter().any(|shown| shown.key == "security_protocol" && shown.value.starts_with("SASL"));
        Some((
            key.name,
            match (kind, key.name) {
                (SectionKind::Kafka, "security_protocol") if has_tokens() => "SASL_SSL",
                (SectionKind::Kafka, "security_protocol") if has("username") => "SASL_PLAINTEXT",
                (SectionKind::Opensearch, "aws_service") if has("aws_region") => "es",
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
fn may_contain_password(text: &str) -> bool {
    text.contains('@') && text.contains("://")
}
