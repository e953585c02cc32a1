//! The kind and the version of a cluster.

use std::fmt;

use serde_json::Value;

use crate::pipeline::Failure;
use crate::profile::ElasticSection;

/// The product that answers, by its header, its distribution and its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Answers with the header `X-elastic-product`, or is older than it.
    Elasticsearch,
    /// Names itself as the distribution, or counts its versions from 1.
    OpenSearch,
    /// No version could be read.
    #[default]
    Unknown,
}

/// Product, version and limits of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// How it identifies itself.
    pub flavour: Flavour,
    /// The version; empty if it is not known.
    pub version: String,
    /// The longest request that it accepts, in bytes.
    pub(super) longest: Option<usize>,
}

impl fmt::Display for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.flavour {
            Flavour::Elasticsearch => "Elasticsearch",
            Flavour::OpenSearch => "OpenSearch",
            Flavour::Unknown => "a server of unknown kind",
        };
        f.write_str(name)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " {}", self.version) }
    }
}

impl ClusterInfo {
    /// Parses the answers to `/` and `/_nodes/_local`.
    pub(super) fn of_answers(is_elastic: bool, about: &Value, nodes: &Value) -> Self {
        let node = nodes.get("nodes").and_then(Value::as_object).and_then(|nodes| nodes.values().next());
        let version = about.pointer("/version/number").or_else(|| node?.get("version")).and_then(Value::as_str);
        let version = version.unwrap_or_default().to_owned();
        let is_opensearch = about.pointer("/version/distribution").is_some_and(|name| name == "opensearch");
        let flavour = match major(&version) {
            _ if is_elastic => Flavour::Elasticsearch,
            _ if is_opensearch => Flavour::OpenSearch,
            // The last Elasticsearch without the header was 5, and OpenSearch counts from 1.
            Some(5..) => Flavour::Elasticsearch,
            Some(_) => Flavour::OpenSearch,
            None => Flavour::Unknown,
        };
        let longest = node.and_then(|node| node.pointer("/http/max_content_length_in_bytes")).and_then(Value::as_u64);
        Self { flavour, version, longest: longest.and_then(|longest| usize::try_from(longest).ok()) }
    }

    /// Returns the cluster, unless its version is not supported.
    pub(super) fn require_supported(self, section: &ElasticSection) -> Result<Self, Failure> {
        if self.flavour == Flavour::Elasticsearch && major(&self.version).is_some_and(|major| major < 7) {
            return Err(Failure::new(format!("cannot write to `{}`", section.name))
                .because(format!("{self} is not supported"))
                .hint("use Elasticsearch 7 or newer, or OpenSearch"));
        }
        Ok(self)
    }

    /// Returns whether it has composable index templates.
    pub(super) fn has_composable_templates(&self) -> bool {
        self.flavour != Flavour::Elasticsearch || self.release() >= (7, 8)
    }

    /// Returns whether it knows `require_alias`.
    pub(super) fn has_require_alias(&self) -> bool {
        match self.flavour {
            Flavour::Elasticsearch => self.release() >= (7, 10),
            Flavour::OpenSearch => true,
            Flavour::Unknown => false,
        }
    }

    /// Returns the first two numbers of the version.
    fn release(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
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
    fn a_server_is_identified_by_its_answer_its_header_or_its_nodes() {
        let of = |is_elastic, about: &Value, nodes: &Value| ClusterInfo::of_answers(is_elastic, about, nodes).to_string();
        let opensearch = json!({"version": {"number": "3.6.0", "distribution": "opensearch"}});
        assert_eq!(of(false, &opensearch, &json!({})), "OpenSearch 3.6.0");
        let compatible = json!({"version": {"number": "7.10.2", "distribution": "opensearch"}});
        assert_eq!(of(false, &compatible, &json!({})), "OpenSearch 7.10.2");
        assert_eq!(of(false, &json!({"version": {"number": "7.10.2"}}), &json!({})), "Elasticsearch 7.10.2");
        let nodes = |version: &str| json!({"nodes": {"x": {"version": version}}});
        assert_eq!(of(true, &json!({"error": "405"}), &nodes("9.1.4")), "Elasticsearch 9.1.4");
        assert_eq!(of(false, &Value::Null, &nodes("2.19.6")), "OpenSearch 2.19.6");
        assert_eq!(of(true, &Value::Null, &Value::Null), "Elasticsearch");
        assert_eq!(ClusterInfo::of_answers(false, &Value::Null, &Value::Null).flavour, Flavour::Unknown);
        let sized = json!({"nodes": {"x": {"http": {"max_content_length_in_bytes": 1_048_576}}}});
        assert_eq!(ClusterInfo::of_answers(true, &Value::Null, &sized).longest, Some(1_048_576));
    }

    #[test]
    fn a_version_that_is_not_supported_is_not_written_to() {
        let section = ElasticSection { name: "es".to_owned(), ..ElasticSection::default() };
        let fit = |flavour, version: &str| {
            let server = ClusterInfo { flavour, version: version.to_owned(), longest: None };
            (server.has_composable_templates(), server.has_require_alias(), server.require_supported(&section).is_ok())
        };
        assert_eq!(fit(Flavour::Elasticsearch, "6.8.23"), (false, false, false));
        assert_eq!(fit(Flavour::Elasticsearch, "7.7.1"), (false, false, true));
        assert_eq!(fit(Flavour::Elasticsearch, "7.9.3"), (true, false, true));
        assert_eq!(fit(Flavour::Elasticsearch, "7.10.2"), (true, true, true));
        assert_eq!(fit(Flavour::OpenSearch, "1.3.0"), (true, true, true));
        assert_eq!(fit(Flavour::Unknown, ""), (true, false, true));
    }
}
