//! An Elasticsearch or OpenSearch section of the profile.

use crate::profile::aws::AwsAccess;
use crate::profile::environment::Environment;
use crate::profile::error::ProfileError;
use crate::profile::keys::SectionKind;
use crate::profile::secret::Secret;
use crate::profile::section::{Section, has_port_above};

/// An Elasticsearch or OpenSearch cluster, and its defaults.
#[derive(Clone, Debug, Default)]
pub struct ElasticSection {
    /// As in the brackets of the profile: `elasticsearch`.
    pub name: String,
    /// The node URLs, without user and password.
    pub urls: Vec<String>,
    /// How each request logs in.
    pub login: ElasticLogin,
    /// The CA's file, PEM.
    pub ca_file: Option<String>,
    /// The client certificate's file, PEM.
    pub client_cert: Option<String>,
    /// The client key's file, PEM.
    pub client_key: Option<String>,
    /// Whether to accept any certificate.
    pub insecure: bool,
    /// The proxy between this machine and the nodes.
    pub proxy: Option<HttpProxy>,
    /// The name template of a run that names no index.
    pub default_index: Option<String>,
    /// The consumer group of loads into this cluster.
    pub consumer_group_id: Option<String>,
}

/// The way in which each request logs in; a section has at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ElasticLogin {
    /// No authentication.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// The key `username`.
        username: String,
        /// The key `password`.
        password: Secret,
    },
    /// An encoded API key.
    ApiKey(Secret),
    /// A bearer token.
    Bearer(Secret),
    /// A signature of AWS for each request.
    Aws {
        /// The region, and the environment of the credentials.
        access: AwsAccess,
        /// `es` for a domain, `aoss` for a serverless collection.
        service: String,
    },
}

/// A proxy for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProxy {
    /// The key `proxy`.
    pub url: String,
    /// The keys `proxy_username` and `proxy_password`.
    pub login: Option<(String, Secret)>,
}

impl ElasticSection {
    /// Reads and validates the section.
    ///
    /// # Errors
    /// When `url` is missing or has a password, several authentications are given, a reference cannot be expanded, or a value is
    /// invalid.
    pub(crate) fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let text = |key: &str| section.text(key, from);
        let urls = section.required("url", "url = http://host:9200", from)?;
        let urls = split_urls(&urls);
        if !urls.iter().all(|url| is_http(url)) {
            return Err(section.invalid("url", "`http://host:9200` or `https://host:9200`, with commas between several"));
        }
        if urls.iter().any(|url| has_port_above(url)) {
            return Err(section.invalid_addresses("url", urls.iter().map(String::as_str), "a URL with a port"));
        }
        if urls.iter().any(|url| url.contains('@')) {
            return Err(section.invalid("url", "a URL without user and password, which have keys of their own"));
        }
        if text("client_cert")?.is_some() {
            section.required("client_key", "client_key = CLIENT.key", from)?;
        }
        if text("client_key")?.is_some() {
            section.required("client_cert", "client_cert = CLIENT.pem", from)?;
        }
        Ok(Self {
            name: section.name.clone(),
            urls,
            login: ElasticLogin::read(section, from)?,
            ca_file: text("ca_file")?,
            client_cert: text("client_cert")?,
            client_key: text("client_key")?,
            insecure: section.flag("insecure", from)?,
            proxy: HttpProxy::read(section, from)?,
            default_index: text("default_index")?,
            consumer_group_id: text("consumer_group_id")?,
        })
    }

    /// Returns the warnings to print before connecting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warning = || format!("`{}` accepts any certificate: a man in the middle can read and change everything", self.name);
        self.insecure.then(warning).into_iter().collect()
    }
}

/// Returns the URLs of a list with commas.
pub(crate) fn split_urls(text: &str) -> Vec<String> {
    text.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect()
}

pub(crate) fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

impl HttpProxy {
    fn read(section: &Section, from: &dyn Environment) -> Result<Option<Self>, ProfileError> {
        let Some(url) = section.text("proxy", from)? else {
            let given = |key: &&&str| section.find(key).is_some_and(|value| !value.text.is_empty());
            return match ["proxy_username", "proxy_password"].iter().find(given) {
                Some(key) => Err(section.conflict(key, "has no use without `proxy`", "set `proxy`, or remove it")),
                None => Ok(None),
            };
        };
        if url.contains('@') {
            return Err(
                section.invalid("proxy", "a URL without user and password: `proxy_username` and `proxy_password` hold them")
            );
        }
        let host = url.split_once("://").map(|(_, host)| host.trim_end_matches('/'));
        if !is_http(&url) || host.is_none_or(|host| host.is_empty() || host.contains(['/', ' '])) || has_port_above(&url) {
            return Err(section.invalid("proxy", "`http://host:3128` or `https://host:3128`"));
        }
        let login = match section.text("proxy_username", from)? {
            Some(username) => {
                let password = section.required("proxy_password", "proxy_password = ${env:NAME}", from)?;
                Some((username, Secret::new(password)))
            }
            None if section.text("proxy_password", from)?.is_some() => {
                section.required("proxy_username", "proxy_username = NAME", from)?;
                None
            }
            None => None,
        };
        Ok(Some(Self { url, login }))
    }
}

impl ElasticLogin {
    fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let given = |key: &str| section.find(key).is_some_and(|value| !value.text.is_empty());
        if given("aws_service") && !given("aws_region") {
            return Err(section.conflict("aws_service", "has no use without `aws_region`", "set `aws_region`, or remove it"));
        }
        if given("aws_region") {
            if section.kind == Some(SectionKind::Elasticsearch) {
                let why = "is for OpenSearch: Elasticsearch knows no signatures of AWS";
                return Err(section.conflict("aws_region", why, "set `type = opensearch`, or remove it"));
            }
            if let Some(key) = ["username", "password", "api_key", "bearer"].into_iter().find(|key| given(key)) {
                return Err(section.conflict(key, "stands beside `aws_region`", "remove one of the two ways to log in"));
            }
            let service = section.one_of("aws_service", &["es", "aoss"], from)?.unwrap_or_else(|| "es".to_owned());
            return Ok(Self::Aws { access: AwsAccess::read(section, from)?, service });
        }
        let (username, password) = (section.text("username", from)?, section.text("password", from)?.map(Secret::new));
        let api_key = section.text("api_key", from)?.map(Secret::new);
        let bearer = section.text("bearer", from)?.map(Secret::new);
        if password.is_some() && username.is_none() {
            if api_key.is_some() || bearer.is_some() {
                return Err(section.invalid("password", "wanted beside `api_key` or `bearer`"));
            }
            section.required("username", "username = NAME", from)?;
        }
        match (username, api_key, bearer) {
            (None, None, None) => Ok(Self::None),
            (Some(username), None, None) => {
                let password =
                    password.map_or_else(|| section.required("password", "password = ${env:NAME}", from).map(Secret::new), Ok)?;
                Ok(Self::Basic { username, password })
            }
            (None, Some(key), None) => Ok(Self::ApiKey(key)),
            (None, None, Some(token)) => Ok(Self::Bearer(token)),
            (_, Some(_), _) => Err(section.invalid("api_key", "wanted beside `username` or `bearer`")),
            (_, None, Some(_)) => Err(section.invalid("bearer", "wanted beside `username`")),
        }
    }
}
