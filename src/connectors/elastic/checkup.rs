//! What a cluster says of itself, of its user and of an index: facts for an examination. Nothing here changes anything, except the
//! round trip.

use std::collections::BTreeMap;

use elasticsearch::http::Method;
use serde_json::{Map, Value, json};

use crate::connectors::connect_error::ConnectCause;
use crate::connectors::elastic::client::{ElasticClient, Reply, Request, RequestBody};
use crate::connectors::elastic::diagnosis;
use crate::connectors::elastic::index::{IndexKind, kind_of, trial_write};
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::reason::{clean, text};
use crate::connectors::elastic::response::{self, BulkAction, ItemVerdict};
use crate::pipeline::{ConnectorError, Failure, Outcome, Reason};
use crate::profile::ElasticSection;

/// What an index allows and requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexFacts {
    /// The blocks of writes that are set, by their names: `read_only_allow_delete`.
    pub(crate) blocks: Vec<String>,
    pub(crate) is_closed: bool,
    /// What is done with fields that the mapping lacks: `strict`, `false`, `runtime`; absent for the default, which adds them.
    pub(crate) dynamic: Option<String>,
    /// The top-level fields of the mapping.
    pub(crate) fields: Vec<String>,
    /// The ingest pipelines that every document goes through.
    pub(crate) pipelines: Vec<String>,
    /// The number of indices behind the name, if it is an alias without one to write to.
    pub(crate) ambiguous: Option<usize>,
}

/// The disk of a data node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeDisk {
    pub(crate) node: String,
    pub(crate) total: u64,
    pub(crate) available: u64,
}

/// Disks and shards of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterRoom {
    pub(crate) disks: Vec<NodeDisk>,
    /// The settings of the watermarks: `low`, `high`, `flood_stage`, and their `max_headroom`.
    pub(crate) watermarks: BTreeMap<String, String>,
    /// Shards, and the most that the cluster may have.
    pub(crate) shards: Option<(u64, u64)>,
    /// The blocks of the whole cluster that are set, by their names: `read_only`, `create_index`; absent if the user may not ask.
    pub(crate) blocks: Option<Vec<String>>,
    /// The time there and the time here, in milliseconds since the Unix epoch.
    pub(crate) times: Option<(i64, i64)>,
}

/// The settings that keep documents or indices out of a whole cluster, behind `cluster.blocks.`.
const CLUSTER_BLOCKS: [&str; 3] = ["read_only", "read_only_allow_delete", "create_index"];

/// Whether the user has each of several privileges on an index; nothing where the cluster does not tell.
pub(crate) type Privileges = Option<Vec<(String, bool)>>;

/// Returns the servers of the section's URLs, `host:port`, each with its URL.
pub(crate) fn servers(section: &ElasticSection) -> Vec<(String, String)> {
    let server = |url: &String| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let host = rest.split(['/', '?']).next().unwrap_or(rest);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if scheme == "https" { 443 } else { 80 };
        (if has_port { host.to_owned() } else { format!("{host}:{port}") }, url.clone())
    };
    section.urls.iter().map(server).collect()
}

/// Returns the failure to connect to one of the section's servers.
pub(crate) fn connect_failure(section: &ElasticSection, server: &str, cause: ConnectCause) -> Failure {
    diagnosis::connect_failure(section, server, cause)
}

impl ElasticClient {
    /// Returns which of these privileges the user has on an index.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn privileges(&self, index: &str, privileges: &[&str]) -> Result<Privileges, ConnectorError> {
        let body = json!({"index": [{"names": [index], "privileges": privileges}]});
        let reply = self.ask(|| Request::post("/_security/user/_has_privileges", &body)).await?;
        let answer = reply.json();
        let Some(told) = answer.get("index").and_then(|names| names.get(index)).filter(|_| reply.is_success()) else {
            return Ok(None);
        };
        let has = |name: &&str| told.get(*name).and_then(Value::as_bool).map(|has| ((*name).to_owned(), has));
        Ok(Some(privileges.iter().filter_map(has).collect()))
    }

    /// Returns what the cluster has under a name, and what that allows and requires.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn index_facts(&self, name: &str) -> Result<(IndexKind, IndexFacts), ConnectorError> {
        let path = format!("/{}", in_path(name));
        let reply = self.ask(|| Request::get(&path)).await?;
        Ok((kind_of(&reply), facts_of(name, &reply.json())))
    }

    /// Returns whether an ingest pipeline exists; nothing if the user may not ask.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn has_pipeline(&self, name: &str) -> Result<Option<bool>, ConnectorError> {
        let path = format!("/_ingest/pipeline/{}", in_path(name));
        let reply = self.ask(|| Request::get(&path)).await?;
        Ok(match reply.status {
            404 if reply.json().as_object().is_some_and(Map::is_empty) => Some(false),
            _ if reply.is_success() => Some(true),
            _ => None,
        })
    }

    /// Tries to write to an index that exists, by a write that cannot succeed; returns why the index rejects it, with whether that may
    /// pass.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn try_to_write(&self, index: &str) -> Result<Option<(Reason, bool)>, ConnectorError> {
        let path = format!("/{}/_bulk", in_path(index));
        let body = || Some(RequestBody::Lines(trial_write(false).into()));
        let reply = self.ask(|| Request { method: Method::Post, body: body(), ..Request::get(&path) }).await?;
        let outcome = match response::parse(&reply.body, 1) {
            Ok(answer) if reply.status == 200 => {
                match response::judge(BulkAction::Index, answer.items().next().expect("an item for one document"), false) {
                    ItemVerdict::Outcome(outcome) => outcome,
                    ItemVerdict::Conflict { .. } => return Ok(None),
                }
            }
            _ => response::whole(reply.status, &reply.body),
        };
        Ok(match outcome {
            Outcome::Stop(reason) | Outcome::Reject(reason) | Outcome::BatchRejected(reason) => Some((reason, false)),
            Outcome::Retry(reason) | Outcome::Unclear(reason) => Some((reason, true)),
            _ => None,
        })
    }

    /// Returns disks, shards and the time of the cluster, as far as the user may ask.
    ///
    /// # Errors
    /// When no node answers.
    pub(crate) async fn room(&self) -> Result<ClusterRoom, ConnectorError> {
        let query = [("filter_path", "nodes.*.timestamp,nodes.*.name,nodes.*.roles,nodes.*.fs.total")];
        let begun = jiff::Timestamp::now().as_millisecond();
        let stats = self.ask(|| Request::get("/_nodes/stats/fs").with(&query)).await?;
        let here = i64::midpoint(begun, jiff::Timestamp::now().as_millisecond());
        let query = [("include_defaults", "true"), ("flat_settings", "true")];
        let settings = self.ask(|| Request::get("/_cluster/settings").with(&query)).await?;
        let health = self.ask(|| Request::get("/_cluster/health")).await?;
        Ok(room_of(&stats, &settings, &health, here))
    }

    /// Writes a document with this id to an index that exists, reads it, and removes it, also when something fails. Returns whether
    /// nothing of it remains, too.
    pub(crate) async fn round_trip(&self, index: &str, id: &str) -> (Result<(), ConnectorError>, bool) {
        let path = format!("/{}/_doc/{}", in_path(index), in_path(id));
        let written = match self.write_probe(index, &path).await {
            Ok(ProbeWrite::Written) => Ok(()),
            Ok(ProbeWrite::Refused(error)) => return (Err(error), true),
            // Without an answer, it may have been written.
            Err(error) => Err(error),
        };
        let read = match written {
            Ok(()) => self.read_probe(index, &path).await,
            Err(error) => Err(error),
        };
        let deleted = self.ask(|| Request { method: Method::Delete, ..Request::get(&path) }).await;
        (read, deleted.is_ok_and(|reply| reply.is_success() || reply.status == 404))
    }

    async fn write_probe(&self, index: &str, path: &str) -> Result<ProbeWrite, ConnectorError> {
        let body = json!({});
        let query = [("op_type", "create")];
        let reply = self.ask(|| Request::put(path, &body).with(&query)).await?;
        let refused = || ProbeWrite::Refused(self.probe_failed("write to", index, &reply));
        // The id is random: a conflict is with an earlier attempt, which had no answer.
        Ok(if reply.is_success() || reply.status == 409 { ProbeWrite::Written } else { refused() })
    }

    async fn read_probe(&self, index: &str, path: &str) -> Result<(), ConnectorError> {
        let reply = self.ask(|| Request::get(path)).await?;
        if reply.is_success() { Ok(()) } else { Err(self.probe_failed("read from", index, &reply)) }
    }

    fn probe_failed(&self, what: &str, index: &str, reply: &Reply) -> ConnectorError {
        let answer = reply.json();
        let why = answer.get("error").map(|error| clean(&text(error))).filter(|why| !why.is_empty());
        let why = why.unwrap_or_else(|| format!("status {}", reply.status));
        Failure::new(format!("cannot {what} `{index}` of `{}`", self.name())).because(why).into()
    }
}

/// What a server does with the document of a round trip.
enum ProbeWrite {
    Written,
    Refused(ConnectorError),
}

/// Parses an answer to `GET /name`.
fn facts_of(name: &str, answer: &Value) -> IndexFacts {
    let Some(indices) = answer.as_object() else { return IndexFacts::default() };
    let writes =
        |index: &Value| index.pointer(&format!("/aliases/{name}/is_write_index")).and_then(Value::as_bool).unwrap_or(false);
    let is_alias = |index: &Value| index.get("aliases").is_some_and(|aliases| aliases.get(name).is_some());
    let write_index = indices.values().find(|index| writes(index));
    let ambiguous = (indices.len() > 1 && write_index.is_none() && indices.values().all(is_alias)).then_some(indices.len());
    // Of a data stream, the last index is written to.
    let Some(index) = write_index.or_else(|| indices.values().next_back()) else { return IndexFacts::default() };
    let settings = index.pointer("/settings/index").unwrap_or(&Value::Null);
    let set = |block: &&str| settings.pointer(&format!("/blocks/{block}")).is_some_and(|value| value == "true" || value == true);
    let blocks = ["write", "read_only", "read_only_allow_delete"].into_iter().filter(set).map(str::to_owned);
    let pipeline = |key: &str| settings.get(key).and_then(Value::as_str).filter(|name| *name != "_none");
    let dynamic = match index.pointer("/mappings/dynamic") {
        Some(Value::String(dynamic)) => Some(dynamic.clone()),
        Some(Value::Bool(dynamic)) => Some(dynamic.to_string()),
        _ => None,
    };
    let fields = index.pointer("/mappings/properties").and_then(Value::as_object);
    IndexFacts {
        blocks: blocks.collect(),
        // Servers set it when they close an index, and remove it when they open one.
        is_closed: settings.get("verified_before_close").is_some_and(|value| value == "true" || value == true),
        dynamic: dynamic.filter(|dynamic| dynamic != "true"),
        fields: fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default(),
        pipelines: ["default_pipeline", "final_pipeline"].into_iter().filter_map(pipeline).map(str::to_owned).collect(),
        ambiguous,
    }
}

/// Parses the answers about the nodes, the settings and the health of a cluster; an answer with an error tells nothing.
fn room_of(stats: &Reply, settings: &Reply, health: &Reply, here: i64) -> ClusterRoom {
    let (stats, settings, health) = (stats.json(), settings.json(), health.json());
    let nodes = stats.get("nodes").and_then(Value::as_object);
    let nodes: Vec<&Value> = nodes.map(|nodes| nodes.values().collect()).unwrap_or_default();
    let disk = |node: &&Value| {
        let bytes = |key: &str| node.pointer(&format!("/fs/total/{key}")).and_then(Value::as_u64);
        let name = node.get("name").and_then(Value::as_str).unwrap_or("a node");
        Some(NodeDisk { node: name.to_owned(), total: bytes("total_in_bytes")?, available: bytes("available_in_bytes")? })
    };
    // A setting of today wins over one that survives a restart, and both over a default.
    let setting = |name: &str| {
        ["transient", "persistent", "defaults"].into_iter().find_map(|level| settings.get(level)?.get(name)?.as_str())
    };
    let key = |name: &str| format!("cluster.routing.allocation.disk.watermark.{name}");
    let names = ["low", "high", "flood_stage", "low.max_headroom", "high.max_headroom", "flood_stage.max_headroom"];
    let watermarks = names.into_iter().filter_map(|name| Some((name.to_owned(), setting(&key(name))?.to_owned())));
    let number = |key: &str| health.get(key).and_then(Value::as_u64);
    let shards = || {
        let per_node: u64 = setting("cluster.max_shards_per_node")?.parse().ok()?;
        let most = per_node.checked_mul(number("number_of_data_nodes")?)?;
        Some((number("active_shards")? + number("unassigned_shards").unwrap_or(0), most))
    };
    let is_set = |block: &&&str| setting(&format!("cluster.blocks.{block}")) == Some("true");
    let blocks = || CLUSTER_BLOCKS.iter().filter(is_set).map(|block| (*block).to_owned()).collect();
    // An answer with an error has no levels of settings.
    let has_settings = settings.get("persistent").is_some() && settings.get("transient").is_some();
    let there = nodes.iter().filter_map(|node| node.get("timestamp")?.as_i64()).max();
    ClusterRoom {
        disks: nodes.iter().filter_map(disk).collect(),
        watermarks: watermarks.collect(),
        shards: shards(),
        blocks: has_settings.then(blocks),
        times: there.map(|there| (there, here)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(answer: &Value) -> Reply {
        Reply { status: 200, body: answer.to_string().into(), is_elastic: false }
    }

    #[test]
    fn a_url_names_a_server_with_a_port() {
        let urls = ["http://a:9200", "https://b/proxy", "http://[::1]:9200", "http://c"].map(str::to_owned).to_vec();
        let servers = servers(&ElasticSection { urls, ..ElasticSection::default() });
        let servers: Vec<_> = servers.iter().map(|(server, _)| server.as_str()).collect();
        assert_eq!(servers, ["a:9200", "b:443", "[::1]:9200", "c:80"]);
    }

    #[test]
    fn an_index_tells_its_blocks_its_mapping_and_its_pipelines() {
        let answer = json!({"i": {
            "aliases": {},
            "mappings": {"dynamic": "strict", "properties": {"user_id": {"type": "keyword"}}},
            "settings": {"index": {"blocks": {"read_only_allow_delete": "true", "write": "false"}, "default_pipeline": "geo", "final_pipeline": "_none"}}
        }});
        let facts = facts_of("i", &answer);
        assert_eq!(
            facts,
            IndexFacts {
                blocks: vec!["read_only_allow_delete".to_owned()],
                is_closed: false,
                dynamic: Some("strict".to_owned()),
                fields: vec!["user_id".to_owned()],
                pipelines: vec!["geo".to_owned()],
                ambiguous: None,
            }
        );
        let of_alias = |writes: bool| json!({"a": {"aliases": {"x": {}}}, "b": {"aliases": {"x": {"is_write_index": writes}}}});
        assert_eq!(facts_of("x", &of_alias(false)).ambiguous, Some(2));
        assert_eq!(facts_of("x", &of_alias(true)).ambiguous, None);
        assert_eq!(facts_of("x", &json!({"error": "no", "status": 404})).blocks, [""; 0]);
        assert!(facts_of("i", &json!({"i": {"settings": {"index": {"verified_before_close": "true"}}}})).is_closed);
    }

    #[test]
    fn a_cluster_tells_its_disks_watermarks_shards_and_time() {
        let stats = json!({"nodes": {"n": {"name": "one", "timestamp": 5, "fs": {"total": {"total_in_bytes": 100, "available_in_bytes": 10}}}}});
        let settings = json!({
            "persistent": {"cluster.max_shards_per_node": "2"},
            "transient": {},
            "defaults": {"cluster.max_shards_per_node": "1000", "cluster.routing.allocation.disk.watermark.low": "85%"}
        });
        let health = json!({"number_of_data_nodes": 3, "active_shards": 4, "unassigned_shards": 1});
        let room = room_of(&reply(&stats), &reply(&settings), &reply(&health), 7);
        assert_eq!(room.disks, [NodeDisk { node: "one".to_owned(), total: 100, available: 10 }]);
        assert_eq!((room.shards, room.times), (Some((5, 6)), Some((5, 7))));
        assert_eq!(room.blocks, Some(Vec::new()));
        assert_eq!(room.watermarks.get("low").map(String::as_str), Some("85%"));
        let denied = reply(&json!({"error": {"type": "security_exception"}, "status": 403}));
        assert_eq!(room_of(&denied, &denied, &denied, 7), ClusterRoom::default());
    }

    #[test]
    fn a_setting_of_today_decides_whether_a_cluster_is_blocked() {
        let blocks = |persistent: &Value, transient: &Value| {
            let defaults = json!({"cluster.blocks.read_only": "false", "cluster.blocks.create_index": "false"});
            let settings = json!({"persistent": persistent, "transient": transient, "defaults": defaults});
            room_of(&reply(&json!({})), &reply(&settings), &reply(&json!({})), 7).blocks.unwrap()
        };
        let (set, unset) = (json!({"cluster.blocks.read_only": "true"}), json!({"cluster.blocks.read_only": "false"}));
        assert_eq!(blocks(&json!({}), &json!({})), [""; 0]);
        assert_eq!(blocks(&set, &json!({})), ["read_only"]);
        assert_eq!(blocks(&unset, &set), ["read_only"]);
        assert_eq!(blocks(&set, &unset), [""; 0]);
        let both = json!({"cluster.blocks.create_index": "true", "cluster.blocks.read_only_allow_delete": "true"});
        assert_eq!(blocks(&both, &json!({})), ["read_only_allow_delete", "create_index"]);
    }
}
