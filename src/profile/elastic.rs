//! An Elasticsearch or OpenSearch section of the profile.

use crate::profile::error::ProfileError;
use crate::profile::section::Section;
use crate::profile::{Environment, Secret};

/// An Elasticsearch or OpenSearch cluster, and the defaults of the commands that use it.
#[derive(Clone, Debug, Default)]
pub struct ElasticSection {
    /// The section's name in the profile.
    pub name: String,
    /// The nodes, without user or password.
    pub urls: Vec<String>,
    /// How to log in.
    pub login: ElasticLogin,
    /// The CA's file, PEM.
    pub ca_file: Option<String>,
    /// The client certificate's file, PEM.
    pub client_cert: Option<String>,
    /// The client key's file, PEM.
    pub client_key: Option<String>,
    /// Whether to take any certificate.
    pub insecure: bool,
    /// The index written when none is named.
    pub default_index: Option<String>,
    /// The group that a load into this cluster reads with.
    pub consumer_group_id: Option<String>,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ElasticLogin {
    /// Not at all.
    #[default]
    None,
    /// With a user and a password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// With an API key, as the cluster encoded it.
    ApiKey(Secret),
    /// With a bearer token.
    Bearer(Secret),
}

impl ElasticSection {
    /// Returns the section with its references expanded.
    ///
    /// # Errors
    /// When `url` is missing or carries a password, or there is more than one way to log in, or a reference leads nowhere,
    /// or a value is none of those its key takes.
    pub(crate) fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let text = |key: &str| section.text(key, from);
        let urls = section.required("url", "url = http://host:9200", from)?;
        let urls: Vec<_> = urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        if !urls.iter().all(|url| url.starts_with("http://") || url.starts_with("https://")) {
            return Err(section.wrong("url", "`http://host:9200` or `https://host:9200`, with commas between several"));
        }
        if urls.iter().any(|url| url.contains('@')) {
            return Err(section.wrong("url", "a URL without user and password, which have keys of their own"));
        }
        Ok(Self {
            name: section.name.clone(),
            urls,
            login: ElasticLogin::read(section, from)?,
            ca_file: text("ca_file")?,
            client_cert: text("client_cert")?,
            client_key: text("client_key")?,
            insecure: section.flag("insecure", from)?,
            default_index: text("default_index")?,
            consumer_group_id: text("consumer_group_id")?,
        })
    }

    /// Returns what the user should know before connecting, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warning = || format!("`{}` takes any certificate: whoever is in between can read and change everything", self.name);
        self.insecure.then(warning).into_iter().collect()
    }
}

impl ElasticLogin {
    fn read(section: &Section, from: &dyn Environment) -> Result<Self, ProfileError> {
        let (username, password) = (section.text("username", from)?, section.text("password", from)?.map(Secret::new));
        let api_key = section.text("api_key", from)?.map(Secret::new);
        let bearer = section.text("bearer", from)?.map(Secret::new);
        match (username, api_key, bearer) {
            (None, None, None) => Ok(Self::None),
            (Some(username), None, None) => {
                let password =
                    password.map_or_else(|| section.required("password", "password = ${env:NAME}", from).map(Secret::new), Ok)?;
                Ok(Self::Basic { username, password })
            }
            (None, Some(key), None) => Ok(Self::ApiKey(key)),
            (None, None, Some(token)) => Ok(Self::Bearer(token)),
            (_, Some(_), _) => Err(section.wrong("api_key", "wanted beside `username` or `bearer`")),
            (_, None, Some(_)) => Err(section.wrong("bearer", "wanted beside `username`")),
        }
    }
}
