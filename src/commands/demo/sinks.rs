//! Servers that the demo loads the copy into.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::commands::run::random;
use crate::connectors::elastic::ElasticClient;
use crate::connectors::mongo::MongoClient;
use crate::error::Error;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::{ElasticLogin, ElasticSection, MongoSection, Secret};

/// How long to wait for the servers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The metadata field of the partition.
const PARTITION: &str = "_kafka_partition";
/// The database of the demo's collections.
const DATABASE: &str = "sdl-demo";

/// A server, and the new collection or index for the demo's documents.
pub(super) struct DemoSink {
    server: DemoServer,
    target: String,
}

enum DemoServer {
    Mongo(MongoSection),
    Elastic(ElasticSection),
}

impl DemoSink {
    /// Returns a new collection of the MongoDB at `uri`.
    pub(super) fn mongo(uri: String) -> Self {
        let uri = Some(Secret::new(uri));
        let server = DemoServer::Mongo(MongoSection { name: "mongodb".to_owned(), uri, ..MongoSection::default() });
        Self { server, target: format!("logins-{:08x}", random()) }
    }

    /// Returns a new index of the cluster at `url`, which may carry `user:password@`.
    pub(super) fn elastic(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (login, address) = rest.rsplit_once('@').map_or((None, rest), |(login, address)| (Some(login), address));
        let login = login.map_or(ElasticLogin::None, |login| {
            let (username, password) = login.split_once(':').unwrap_or((login, ""));
            ElasticLogin::Basic { username: username.to_owned(), password: Secret::new(password.to_owned()) }
        });
        let urls = vec![format!("{scheme}://{}", address.trim_end_matches('/'))];
        let server =
            DemoServer::Elastic(ElasticSection { name: "elasticsearch".to_owned(), urls, login, ..ElasticSection::default() });
        Self { server, target: format!("{DATABASE}-logins-{:08x}", random()) }
    }

    /// Returns the section of the server for a profile.
    pub(super) fn section(&self) -> String {
        let (name, keys) = match &self.server {
            DemoServer::Mongo(section) => {
                let uri = section.uri.as_ref().map_or("", Secret::reveal);
                (&section.name, format!("uri = {uri}\ndefault_database = {DATABASE}\ndefault_collection = {}\n", self.target))
            }
            DemoServer::Elastic(section) => {
                let login = match &section.login {
                    ElasticLogin::Basic { username, password } => {
                        format!("username = {username}\npassword = {}\n", password.reveal())
                    }
                    _ => String::new(),
                };
                (&section.name, format!("url = {}\n{login}default_index = {}\n", section.urls[0], self.target))
            }
        };
        format!("\n[{name}]\n{keys}consumer_group_id = demo-{name}\n")
    }

    /// Returns the name of its column in the result.
    pub(super) fn name(&self) -> &'static str {
        match self.server {
            DemoServer::Mongo(_) => "in mongodb",
            DemoServer::Elastic(_) => "in search",
        }
    }

    /// Returns the title of its step.
    pub(super) fn title(&self) -> &'static str {
        match self.server {
            DemoServer::Mongo(_) => "The copy is loaded into MongoDB: one document per record.",
            DemoServer::Elastic(_) => "The copy is loaded into an index: one document per record.",
        }
    }

    /// Returns the command line of its step.
    pub(super) fn arguments(&self, topic: &str) -> Vec<String> {
        let (command, [flag, value]) = match &self.server {
            DemoServer::Mongo(_) => ("sink-mongo", ["--collection", &self.target]),
            DemoServer::Elastic(_) => ("sink-es", ["--index", &self.target]),
        };
        [command, topic, flag, value, "--time-field", "timestamp", "--until-caught-up"].map(str::to_owned).to_vec()
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// When it does not answer. The hint names the flag: the user wrote no profile.
    pub(super) async fn reach(&self) -> Result<(), Error> {
        let (reached, flag) = match &self.server {
            DemoServer::Mongo(section) => (MongoClient::connect(section, 1, CONNECT_TIMEOUT).await.map(drop), "--mongo"),
            DemoServer::Elastic(section) => (ElasticClient::connect(section, CONNECT_TIMEOUT).await.map(drop), "--es"),
        };
        reached.map_err(|error| match error {
            ConnectorError::Failed(failure) => {
                let what = format!("cannot connect to the server of {flag}");
                Failure { what, hint: Some(format!("correct {flag}, or remove it")), ..failure }.into()
            }
            refused => refused.into(),
        })
    }

    /// Counts the documents of each partition.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn count(&self, partitions: i32) -> Result<BTreeMap<i32, i64>, Error> {
        let mut counts = BTreeMap::new();
        match &self.server {
            DemoServer::Mongo(section) => {
                let client = MongoClient::connect(section, 1, CONNECT_TIMEOUT).await?;
                for partition in 0..partitions {
                    counts.insert(partition, client.count(DATABASE, &self.target, PARTITION, partition).await?);
                }
            }
            DemoServer::Elastic(section) => {
                let client = ElasticClient::connect(section, CONNECT_TIMEOUT).await?;
                for partition in 0..partitions {
                    counts.insert(partition, client.count(&self.target, PARTITION, partition).await?);
                }
            }
        }
        Ok(counts)
    }

    /// Returns the line about the documents that remain.
    pub(super) fn farewell(&self) -> String {
        match self.server {
            DemoServer::Mongo(_) => format!("\nThe documents remain in {DATABASE}.{}.\n", self.target),
            DemoServer::Elastic(_) => format!("\nThe documents remain in the index {}.\n", self.target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_a_url_becomes_the_profile_keys() {
        let sink = DemoSink::elastic("https://elastic:p:w@host:9200/");
        let section = sink.section();
        assert!(section.contains("url = https://host:9200\nusername = elastic\npassword = p:w\n"), "{section}");
        assert!(!DemoSink::elastic("http://host:9200").section().contains("username"));
    }
}
