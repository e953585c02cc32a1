//! What answers: Elasticsearch or OpenSearch, and which version.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::connectors::elastic::client::{Call, ElasticClient};
use crate::connectors::elastic::diagnosis::CallError;
use crate::pipeline::Failure;
use crate::profile::ElasticSection;

/// Who made a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
    /// It does not say.
    #[default]
    Unknown,
}

/// What a cluster says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Who made it.
    pub flavour: Flavour,
    /// Its version; empty if it does not say.
    pub version: String,
    /// The longest request that it takes, in bytes.
    pub(super) longest: Option<usize>,
}

impl fmt::Display for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.flavour {
            Flavour::Elasticsearch => "Elasticsearch",
            Flavour::OpenSearch => "OpenSearch",
            Flavour::Unknown => "a server that does not say what it is",
        };
        f.write_str(name)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " {}", self.version) }
    }
}

impl ClusterInfo {
    /// Asks what answers. A server that says no more than that it is there will do: some users may not ask.
    pub(super) async fn meet(client: &ElasticClient, deadline: Duration) -> Result<Self, CallError> {
        let root = client.call(Call { deadline, ..Call::get("/") }).await?;
        if root.status == 401 {
            return Err(CallError::login());
        }
        if matches!(root.status, 429 | 500..) {
            return Err(CallError::status(root.status, &root.json()));
        }
        let query = [("filter_path", "nodes.*.version,nodes.*.http.max_content_length_in_bytes")];
        let local = client.call(Call { deadline, ..Call::get("/_nodes/_local").with(&query) }).await?;
        if !root.is_good() && matches!(local.status, 401) {
            return Err(CallError::login());
        }
        let (about, nodes) = (root.json(), local.json());
        if !root.is_elastic && about.get("version").is_none() && (root.is_good() || local.status == 404) {
            return Err(CallError::foreign());
        }
        Ok(Self::told(root.is_elastic || local.is_elastic, &about, &nodes))
    }

    /// Returns what the answers tell.
    fn told(is_elastic: bool, about: &Value, nodes: &Value) -> Self {
        let node = nodes.get("nodes").and_then(Value::as_object).and_then(|nodes| nodes.values().next());
        let version = about.pointer("/version/number").or_else(|| node?.get("version")).and_then(Value::as_str);
        let version = version.unwrap_or_default().to_owned();
        let is_opensearch = about.pointer("/version/distribution").is_some_and(|name| name == "opensearch");
        let flavour = match major(&version) {
            _ if is_elastic => Flavour::Elasticsearch,
            _ if is_opensearch => Flavour::OpenSearch,
            // Elasticsearch was at 5 when it was last without a header, and OpenSearch counts from 1.
            Some(5..) => Flavour::Elasticsearch,
            Some(_) => Flavour::OpenSearch,
            None => Flavour::Unknown,
        };
        let longest = node.and_then(|node| node.pointer("/http/max_content_length_in_bytes")).and_then(Value::as_u64);
        Self { flavour, version, longest: longest.and_then(|longest| usize::try_from(longest).ok()) }
    }

    /// Returns the server, unless it is too old.
    pub(super) fn fit(self, section: &ElasticSection) -> Result<Self, Failure> {
        if self.flavour == Flavour::Elasticsearch && major(&self.version).is_some_and(|major| major < 7) {
            return Err(Failure::new(format!("cannot write to `{}`", section.name))
                .because(format!("{self} is too old"))
                .hint("use Elasticsearch 7 or newer, or OpenSearch"));
        }
        Ok(self)
    }

    /// Returns whether it knows composable index templates.
    pub(super) fn has_composable_templates(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        self.flavour != Flavour::Elasticsearch || version >= (7, 8)
    }
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_known_by_what_it_says_or_by_its_header_and_its_nodes() {
        let told = |is_elastic, about: &Value, nodes: &Value| ClusterInfo::told(is_elastic, about, nodes).to_string();
        let opensearch = json!({"version": {"number": "3.6.0", "distribution": "opensearch"}});
        assert_eq!(told(false, &opensearch, &json!({})), "OpenSearch 3.6.0");
        let compatible = json!({"version": {"number": "7.10.2", "distribution": "opensearch"}});
        assert_eq!(told(false, &compatible, &json!({})), "OpenSearch 7.10.2");
        assert_eq!(told(false, &json!({"version": {"number": "7.10.2"}}), &json!({})), "Elasticsearch 7.10.2");
        let nodes = |version: &str| json!({"nodes": {"x": {"version": version}}});
        assert_eq!(told(true, &json!({"error": "405"}), &nodes("9.1.4")), "Elasticsearch 9.1.4");
        assert_eq!(told(false, &Value::Null, &nodes("2.19.6")), "OpenSearch 2.19.6");
        assert_eq!(told(true, &Value::Null, &Value::Null), "Elasticsearch");
        assert_eq!(ClusterInfo::told(false, &Value::Null, &Value::Null).flavour, Flavour::Unknown);
        let sized = json!({"nodes": {"x": {"http": {"max_content_length_in_bytes": 1_048_576}}}});
        assert_eq!(ClusterInfo::told(true, &Value::Null, &sized).longest, Some(1_048_576));
    }

    #[test]
    fn a_server_that_is_too_old_is_not_written_to() {
        let section = ElasticSection { name: "es".to_owned(), ..ElasticSection::default() };
        let fit = |flavour, version: &str| {
            let server = ClusterInfo { flavour, version: version.to_owned(), longest: None };
            (server.has_composable_templates(), server.fit(&section).is_ok())
        };
        assert_eq!(fit(Flavour::Elasticsearch, "6.8.23"), (false, false));
        assert_eq!(fit(Flavour::Elasticsearch, "7.7.1"), (false, true));
        assert_eq!(fit(Flavour::Elasticsearch, "7.10.2"), (true, true));
        assert_eq!(fit(Flavour::OpenSearch, "1.3.0"), (true, true));
        assert_eq!(fit(Flavour::Unknown, ""), (true, true));
    }
}
