//! A Kafka section of the profile.

use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::keys::PROPERTY;
use crate::profile::secret::Secret;
use crate::profile::section::{Section, is_loopback};
use crate::profile::tokens::{AWS_MSK_IAM, OAUTHBEARER, TokenAccess};

/// The key of the `mask` rule, or why it cannot be read.
pub type MaskKey = Result<Secret, ProfileError>;

/// A Kafka cluster, and its defaults.
#[derive(Clone, Debug, Default)]
pub struct KafkaSection {
    /// As in the brackets of the profile: `local_kafka`.
    pub name: String,
    /// Bootstrap servers, `host:port` with commas.
    pub servers: String,
    /// SASL user.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<Secret>,
    /// `PLAINTEXT`, `SASL_PLAINTEXT`, `SSL` or `SASL_SSL`.
    pub security_protocol: Option<String>,
    /// One of `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER` and `AWS_MSK_IAM`.
    pub sasl_mechanism: Option<String>,
    /// The tokens of the mechanisms that log in with one.
    pub tokens: Option<TokenAccess>,
    /// The CA's file, PEM.
    pub ssl_ca_location: Option<String>,
    /// The client certificate's file, PEM.
    pub ssl_certificate_location: Option<String>,
    /// The client key's file, PEM.
    pub ssl_key_location: Option<String>,
    /// The client key's password.
    pub ssl_key_password: Option<Secret>,
    /// The consumer group of a run that names none.
    pub default_consumer_group_id: Option<String>,
    /// The default topic to read.
    pub default_consumer_topic: Option<String>,
    /// The default topic to write.
    pub default_producer_topic: Option<String>,
    /// The cluster id that commands insist on.
    pub cluster_id: Option<String>,
    /// The write protection.
    pub protect: Protect,
    /// The key of the `mask` rule; an error if its reference cannot be expanded, which concerns only who masks.
    pub mask_key: Option<MaskKey>,
    /// librdkafka properties in the order of the profile; some are secret.
    pub properties: Vec<(String, Secret)>,
}

const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"];
/// The values of `sasl_mechanism`.
pub(crate) const MECHANISMS: [&str; 5] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", OAUTHBEARER, AWS_MSK_IAM];

impl KafkaSection {
    /// Reads and validates the section.
    ///
    /// # Errors
    /// When `servers` or a part of the login is missing, a reference cannot be expanded, or a value is invalid.
    pub(crate) fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let mut read = Self::read_values(section, from)?;
        // Other mechanisms authenticate with properties of their own.
        let otherwise = read.properties.iter().any(|(name, _)| name.starts_with("sasl."));
        let wants_login = read.password.is_some() || read.sasl_mechanism.is_some();
        let is_property = read.properties.iter().any(|(property, _)| property == "security.protocol");
        let is_default = read.security_protocol.is_none() && !is_property;
        let is_login = read.protocol().starts_with("SASL") || is_default && wants_login;
        if is_login && !otherwise && !read.has_token_mechanism() {
            section.required("username", "username = NAME", from)?;
            section.required("password", "password = ${env:NAME}", from)?;
        }
        let has_property = |name: &str| read.properties.iter().any(|(property, _)| property == name);
        if read.ssl_certificate_location.is_some() && !has_property("ssl.key.location") && !has_property("ssl.key.pem") {
            section.required("ssl_key_location", "ssl_key_location = CLIENT.key", from)?;
        }
        if read.ssl_key_location.is_some() && !["ssl.certificate.location", "ssl.certificate.pem"].into_iter().any(has_property) {
            section.required("ssl_certificate_location", "ssl_certificate_location = CLIENT.pem", from)?;
        }
        // librdkafka makes unsecured tokens by itself, for tests.
        if read.property("enable.sasl.oauthbearer.unsecure.jwt").is_none() {
            read.tokens = TokenAccess::read(section, read.sasl_mechanism.as_deref(), from)?;
        }
        Ok(read)
    }

    /// Returns whether `sasl_mechanism` is one that logs in with tokens.
    fn has_token_mechanism(&self) -> bool {
        matches!(self.sasl_mechanism.as_deref(), Some(OAUTHBEARER | AWS_MSK_IAM))
    }

    fn read_values(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let text = |key: &str| section.text(key, from);
        let secret = |key: &str| Ok::<_, ProfileError>(text(key)?.map(Secret::new));
        let properties = section.values.iter().filter_map(|value| Some((value.key.strip_prefix(PROPERTY)?, value)));
        let listed = section.required("servers", "servers = host:9092", from)?;
        let wanted = "a list of `host:port`";
        Ok(Self {
            name: section.name.clone(),
            servers: servers(&listed).ok_or_else(|| section.invalid_addresses("servers", listed.split([',', '\n']), wanted))?,
            username: text("username")?,
            password: secret("password")?,
            security_protocol: section.one_of("security_protocol", &PROTOCOLS, from)?,
            sasl_mechanism: section.one_of("sasl_mechanism", &MECHANISMS, from)?,
            tokens: None,
            ssl_ca_location: text("ssl_ca_location")?,
            ssl_certificate_location: text("ssl_certificate_location")?,
            ssl_key_location: text("ssl_key_location")?,
            ssl_key_password: secret("ssl_key_password")?,
            default_consumer_group_id: text("default_consumer_group_id")?,
            default_consumer_topic: text("default_consumer_topic")?,
            default_producer_topic: text("default_producer_topic")?,
            cluster_id: text("cluster_id")?,
            protect: match section.one_of("protect", &["off", "confirm", "readonly"], from)?.as_deref() {
                Some("confirm") => Protect::Confirm,
                Some("readonly") => Protect::ReadOnly,
                _ => Protect::Off,
            },
            mask_key: secret("mask_key").transpose(),
            properties: properties
                .map(|(name, value)| Ok((name.to_owned(), Secret::new(section.expanded(value, from)?))))
                .collect::<Result<_, ProfileError>>()?,
        })
    }

    /// Returns the effective security protocol: by default `SASL_PLAINTEXT` when there is a username, and `SASL_SSL` with tokens, which
    /// are as good as a password and never sent unencrypted unless the profile says so.
    #[must_use]
    pub fn protocol(&self) -> &str {
        let by_property = self.property("security.protocol");
        let by_property = PROTOCOLS.into_iter().find(|known| by_property.is_some_and(|set| set.eq_ignore_ascii_case(known)));
        match (by_property, &self.security_protocol, &self.username) {
            (Some(protocol), ..) => protocol,
            (None, Some(protocol), _) => protocol,
            (None, None, _) if self.has_token_mechanism() => "SASL_SSL",
            (None, None, Some(_)) => "SASL_PLAINTEXT",
            (None, None, None) => "PLAINTEXT",
        }
    }

    /// Returns the effective SASL mechanism, PLAIN by default; `None` without SASL.
    #[must_use]
    pub fn mechanism(&self) -> Option<&str> {
        let by_property = || self.property("sasl.mechanism").or_else(|| self.property("sasl.mechanisms"));
        let mechanism = || by_property().or(self.sasl_mechanism.as_deref()).unwrap_or("PLAIN");
        self.protocol().starts_with("SASL").then(mechanism)
    }

    /// Returns the name of the mechanism on the wire: brokers take the tokens of AWS as those of any issuer.
    #[must_use]
    pub(crate) fn wire_mechanism(&self) -> Option<&str> {
        self.mechanism().map(|mechanism| if mechanism == AWS_MSK_IAM { OAUTHBEARER } else { mechanism })
    }

    /// Returns the value of a librdkafka property, which takes the place of the key for the same.
    #[must_use]
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(property, _)| property == name).map(|(_, value)| value.reveal())
    }

    /// Returns whether the client tells the brokers who it is.
    #[must_use]
    pub(crate) fn has_login(&self) -> bool {
        self.mechanism().is_some() || self.ssl_certificate_location.is_some()
    }

    /// Returns the warnings to print before connecting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let mut warnings = Vec::new();
        if self.security_protocol.is_none() && self.username.is_some() && !self.servers.split(',').all(is_loopback) {
            warnings.push(format!(
                "`{name}` sends its password unencrypted: set `security_protocol = SASL_SSL`, or SASL_PLAINTEXT to confirm"
            ));
        }
        let protocol = self.protocol();
        // The property takes the place of the key.
        let is_by_key = !self.properties.iter().any(|(name, _)| name == "security.protocol");
        if is_by_key && self.mechanism().is_none() && (self.username.is_some() || self.password.is_some()) {
            warnings
                .push(format!("`{name}` ignores `username` and `password`: `security_protocol` is {protocol}, without login"));
        }
        warnings.extend(self.tokens.as_ref().and_then(|tokens| tokens.warning(name)));
        let files = [&self.ssl_ca_location, &self.ssl_certificate_location, &self.ssl_key_location];
        if is_by_key && !protocol.ends_with("SSL") && files.into_iter().any(Option::is_some) {
            warnings.push(format!("`{name}` ignores its TLS files: `security_protocol` is {protocol}, without encryption"));
        }
        let is =
            |property: &str, value: &str| self.properties.iter().any(|(name, set)| name == property && set.reveal() == value);
        if is("enable.ssl.certificate.verification", "false") || is("ssl.endpoint.identification.algorithm", "none") {
            warnings.push(format!("`{name}` does not verify certificates: a man in the middle can read and change everything"));
        }
        warnings
    }
}

/// Returns the list without blanks and line breaks around its commas, if every server is a host with or without a port.
pub(crate) fn servers(text: &str) -> Option<String> {
    let servers: Vec<_> = text.split([',', '\n']).map(str::trim).filter(|server| !server.is_empty()).collect();
    (!servers.is_empty() && servers.iter().all(|server| is_server(server))).then(|| servers.join(","))
}

fn is_server(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an IPv6 address without a port.
        Some((_, rest)) if rest.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_foreign = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '/');
    !host.is_empty() && !host.contains(is_foreign) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The write protection of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protect {
    /// Writes are allowed.
    #[default]
    Off,
    /// Writes need a confirmation.
    Confirm,
    /// Writes are refused.
    ReadOnly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        for (text, list) in [
            ("a:1", "a:1"),
            ("a", "a"),
            (" a:1 ,\n b:9092,", "a:1,b:9092"),
            ("[::1]:9092,[::1],127.0.0.1:1", "[::1]:9092,[::1],127.0.0.1:1"),
        ] {
            assert_eq!(servers(text).as_deref(), Some(list), "{text}");
        }
        for text in [
            ",",
            "\"host:9092\"",
            "'host:9092'",
            "http://localhost:9092",
            "SASL_SSL://a:1",
            "a:0",
            "a:",
            "a:port",
            ":1",
            "a:1 b:2",
        ] {
            assert_eq!(servers(text), None, "{text}");
        }
    }
}
