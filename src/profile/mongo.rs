//! A MongoDB section of the profile.

use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::secret::Secret;
use crate::profile::section::Section;

/// A MongoDB server, and its defaults.
#[derive(Clone, Debug, Default)]
pub struct MongoSection {
    /// The section's name in the profile.
    pub name: String,
    /// The connection string; it may contain a password.
    pub uri: Option<Secret>,
    /// The host, without a connection string.
    pub host: Option<String>,
    /// The port of `host`.
    pub port: u16,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The authentication database.
    pub auth_database: Option<String>,
    /// Whether to connect with TLS.
    pub tls: bool,
    /// The CA's file, PEM.
    pub tls_ca_file: Option<String>,
    /// The default database.
    pub default_database: Option<String>,
    /// The default collection.
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

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}
