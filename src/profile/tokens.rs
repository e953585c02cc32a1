//! The tokens that a Kafka section logs in with: `sasl_mechanism = OAUTHBEARER` or `AWS_MSK_IAM`.

use crate::profile::aws::AwsAccess;
use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::secret::Secret;
use crate::profile::section::{Section, is_loopback};

/// The mechanism with tokens of any issuer.
pub(crate) const OAUTHBEARER: &str = "OAUTHBEARER";
/// The mechanism with tokens that AWS credentials sign.
pub(crate) const AWS_MSK_IAM: &str = "AWS_MSK_IAM";

/// The keys that only OAUTHBEARER has.
const OAUTH_KEYS: [&str; 8] = [
    "oauth_token_url",
    "oauth_token_command",
    "oauth_token_file",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "oauth_ca_location",
    "oauth_extensions",
];
/// The keys that only `oauth_token_url` needs.
const ENDPOINT_KEYS: [&str; 4] = ["oauth_client_id", "oauth_client_secret", "oauth_scope", "oauth_ca_location"];

/// How a section gets its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAccess {
    /// Where they come from.
    pub source: TokenSource,
    /// SASL extensions that go with each token.
    pub extensions: Vec<(String, String)>,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The token endpoint of an OpenID provider, by client credentials.
    Endpoint(TokenEndpoint),
    /// The output of a command: the program and its arguments.
    Command(Vec<String>),
    /// A file that another program renews.
    File(String),
    /// A request that AWS credentials sign.
    Aws(AwsAccess),
}

/// A token endpoint and the client's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// The key `oauth_token_url`.
    pub url: String,
    /// The key `oauth_client_id`.
    pub client_id: String,
    /// The key `oauth_client_secret`.
    pub client_secret: Secret,
    /// The key `oauth_scope`.
    pub scope: Option<String>,
    /// The CA's file, PEM.
    pub ca_location: Option<String>,
}

impl TokenAccess {
    /// Reads how a section with this mechanism gets its tokens; `None` for a mechanism without.
    ///
    /// # Errors
    /// When a key is missing or invalid, or belongs to another way to log in.
    pub(crate) fn read(section: &Section, mechanism: Option<&str>, from: &dyn Environment) -> Result<Option<Self>, ProfileError> {
        let given = |key: &&&str| section.find(key).is_some_and(|value| !value.text.is_empty());
        let has_oauth = OAUTH_KEYS.iter().find(given);
        let (is_oauth, is_aws) = (mechanism == Some(OAUTHBEARER), mechanism == Some(AWS_MSK_IAM));
        if let Some(key) = has_oauth.filter(|_| !is_oauth) {
            let (why, hint) = (format!("is for `sasl_mechanism = {OAUTHBEARER}` only"), "`sasl_mechanism`, or remove it");
            return Err(section.conflict(key, &why, &format!("set {hint}")));
        }
        if let Some(key) = ["aws_region"].iter().find(given).filter(|_| !is_aws) {
            let why = format!("is for `sasl_mechanism = {AWS_MSK_IAM}` only");
            return Err(section.conflict(key, &why, "set `sasl_mechanism`, or remove it"));
        }
        if !is_oauth && !is_aws {
            return Ok(None);
        }
        if let Some(key) = ["username", "password"].iter().find(given) {
            let why = format!("has no use with `sasl_mechanism = {}`", mechanism.unwrap_or_default());
            return Err(section.conflict(key, &why, "remove it, or use another mechanism"));
        }
        if is_aws {
            let source = TokenSource::Aws(AwsAccess::read(section, from)?);
            return Ok(Some(Self { source, extensions: Vec::new() }));
        }
        let ways = ["oauth_token_url", "oauth_token_command", "oauth_token_file"];
        let mut given_ways = ways.iter().filter(given);
        let way = given_ways.next();
        if let (Some(first), Some(second)) = (way, given_ways.next()) {
            return Err(section.conflict(second, &format!("stands beside `{first}`"), "remove one of the two"));
        }
        if way != Some(&"oauth_token_url")
            && let (Some(way), Some(key)) = (way, ENDPOINT_KEYS.iter().find(given))
        {
            return Err(section.conflict(key, &format!("has no use with `{way}`"), "remove it, or set `oauth_token_url`"));
        }
        let extensions = section.parsed("oauth_extensions", EXTENSIONS, parse_extensions, from)?.unwrap_or_default();
        let source = match way {
            Some(&"oauth_token_command") => {
                let command = section.required("oauth_token_command", "oauth_token_command = PROGRAM", from)?;
                TokenSource::Command(command.split_whitespace().map(str::to_owned).collect())
            }
            Some(&"oauth_token_file") => {
                TokenSource::File(section.required("oauth_token_file", "oauth_token_file = /path", from)?)
            }
            _ => TokenSource::Endpoint(TokenEndpoint::read(section, from)?),
        };
        Ok(Some(Self { source, extensions }))
    }

    /// Returns the warning about secrets that are sent unencrypted.
    pub(crate) fn warning(&self, section: &str) -> Option<String> {
        let TokenSource::Endpoint(TokenEndpoint { url, .. }) = &self.source else { return None };
        let host = url.strip_prefix("http://")?.split('/').next().unwrap_or_default();
        (!is_loopback(host))
            .then(|| format!("`{section}` sends its client secret unencrypted: use `https://` in `oauth_token_url`"))
    }

    /// Returns the secrets, which no message may hold.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        match &self.source {
            TokenSource::Endpoint(endpoint) => Some(&endpoint.client_secret),
            _ => None,
        }
        .into_iter()
    }
}

impl TokenEndpoint {
    fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let url = section.required("oauth_token_url", "oauth_token_url = https://host/token", from)?;
        let is_url = url.split_once("://").is_some_and(|(scheme, rest)| {
            ["http", "https"].contains(&scheme) && !rest.is_empty() && !rest.contains(['@', ' ', '\n'])
        });
        if !is_url {
            return Err(section.invalid("oauth_token_url", "a URL such as `https://host/token`, without user and password"));
        }
        let secret = section.required("oauth_client_secret", "oauth_client_secret = ${env:NAME}", from);
        Ok(Self {
            url,
            client_id: section.required("oauth_client_id", "oauth_client_id = NAME", from)?,
            client_secret: secret.map(Secret::new)?,
            scope: section.text("oauth_scope", from)?,
            ca_location: section.text("oauth_ca_location", from)?,
        })
    }
}

const EXTENSIONS: &str = "a list of `name=value` with commas, the names of letters";

/// Parses `logicalCluster=lkc-1,identityPoolId=pool-2`. The names are of letters, and not `auth`, as RFC 7628 wants it.
fn parse_extensions(text: &str) -> Option<Vec<(String, String)>> {
    let extension = |part: &str| {
        let (name, value) = part.trim().split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) && name != "auth";
        let is_value = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        (is_name && is_value).then(|| (name.to_owned(), value.to_owned()))
    };
    text.split(',').map(extension).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_names_of_letters_with_values() {
        let pairs = |text: &str| {
            let pairs = parse_extensions(text)?;
            Some(pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(pairs("logicalCluster=lkc-1, pool=a=b").as_deref(), Some("logicalCluster:lkc-1 pool:a=b"));
        for text in ["", "a", "=b", "a1=b", "auth=b", "a=b,", "a=\u{7}"] {
            assert_eq!(pairs(text), None, "{text}");
        }
    }
}
