//! A MongoDB section of the profile.

use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::secret::Secret;
use crate::profile::section::Section;

/// A MongoDB server, and its defaults.
#[derive(Clone, Debug, Default)]
pub struct MongoSection {
    /// As in the brackets of the profile: `mongodb`.
    pub name: String,
    /// The connection string; it may contain a password.
    pub uri: Option<Secret>,
    /// The host, without a connection string.
    pub host: Option<String>,
    /// The port of `host`.
    pub port: u16,
    /// The user that logs in; nobody does without.
    pub username: Option<String>,
    /// The password of `username`, which it requires.
    pub password: Option<Secret>,
    /// Where the user is defined; the driver's default without.
    pub auth_database: Option<String>,
    /// Whether to connect with TLS.
    pub tls: bool,
    /// The CA's file, PEM.
    pub tls_ca_file: Option<String>,
    /// The name template of a run that names no database.
    pub default_database: Option<String>,
    /// The name template of a run that names no collection.
    pub default_collection: Option<String>,
    /// The consumer group of loads into this server.
    pub consumer_group_id: Option<String>,
}

impl MongoSection {
    /// Reads and validates the section.
    ///
    /// # Errors
    /// When it has neither `uri` nor `host`, or both, a reference cannot be expanded, or a value is invalid.
    pub(crate) fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let text = |key: &str| section.text(key, from);
        let (uri, host) = (text("uri")?, text("host")?);
        if uri.is_some() && host.is_some() {
            return Err(section.invalid("host", "wanted beside `uri`"));
        }
        if uri.is_none() && host.is_none() {
            section.required("uri", "uri = mongodb://host:27017", from)?;
        }
        if uri.as_ref().is_some_and(|uri| !is_connection_string(uri)) {
            return Err(section.invalid("uri", "a connection string, `mongodb://host:27017`"));
        }
        if host.as_deref().is_some_and(|host| !is_host(host)) {
            return Err(section.invalid("host", "a name or an address; a connection string belongs to `uri`"));
        }
        if text("password")?.is_some() {
            section.required("username", "username = NAME", from)?;
        }
        Ok(Self {
            name: section.name.clone(),
            uri: uri.map(Secret::new),
            host,
            port: section.parsed("port", "a port between 1 and 65535", port, from)?.unwrap_or(27017),
            username: text("username")?,
            password: text("password")?.map(Secret::new),
            auth_database: text("auth_database")?,
            tls: section.flag("tls", from)?,
            tls_ca_file: text("tls_ca_file")?,
            default_database: text("default_database")?,
            default_collection: text("default_collection")?,
            consumer_group_id: text("consumer_group_id")?,
        })
    }
}

pub(crate) fn is_connection_string(text: &str) -> bool {
    ["mongodb://", "mongodb+srv://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Returns whether `text` can be the name or address of one host, without a port.
pub(crate) fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let without_zone = bare.split_once('%').map_or(bare, |(address, _)| address);
    let is_address = without_zone.parse::<std::net::Ipv6Addr>().is_ok();
    is_address || !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | '@' | '"' | '\'' | ':'))
}

pub(crate) fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}
