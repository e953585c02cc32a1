//! The examination of Elasticsearch and OpenSearch clusters.

use serde_json::{Value, json};

use super::{Steps, closed_port};
use crate::harness::{HttpStub, Reply, Request, items};

fn section(stub: &HttpStub) -> String {
    format!("[opensearch]\nurl = {}\ndefault_index = logs\n", stub.url())
}

fn plain_index() -> Value {
    json!({"logs": {"aliases": {}, "mappings": {}, "settings": {"index": {}}}})
}

/// Starts an OpenSearch with this index; `script` answers what it knows better.
fn cluster(index: Value, mut script: impl FnMut(&Request) -> Option<Reply> + Send + 'static) -> HttpStub {
    HttpStub::start(move |request| {
        if let Some(reply) = script(request) {
            return reply;
        }
        let path = request.path.split('?').next().unwrap();
        match (request.method.as_str(), path) {
            ("GET", "/") => Reply::Json(200, json!({"version": {"number": "2.19.0", "distribution": "opensearch"}})),
            ("GET", "/_nodes/stats/fs") => Reply::Json(200, stats(50)),
            ("GET", "/_cluster/settings") => {
                Reply::Json(200, json!({"defaults": {"cluster.max_shards_per_node": "1000"}, "persistent": {}, "transient": {}}))
            }
            ("GET", "/_cluster/health") => {
                Reply::Json(200, json!({"number_of_data_nodes": 1, "active_shards": 3, "unassigned_shards": 0}))
            }
            ("GET", "/logs") => Reply::Json(200, index.clone()),
            ("POST", "/logs/_bulk") => Reply::Json(200, items([(409, "version_conflict_engine_exception")])),
            _ => Reply::Json(404, json!({})),
        }
    })
}

/// Returns the statistics of a node with this share of its disk available.
fn stats(available: u64) -> Value {
    let now = jiff::Timestamp::now().as_millisecond();
    json!({"nodes": {"n": {"name": "node-1", "timestamp": now, "fs": {"total": {"total_in_bytes": 100, "available_in_bytes": available}}}}})
}

#[test]
fn a_cluster_that_works_is_examined_to_the_end() {
    let stub = cluster(plain_index(), |_| None);
    let steps = Steps::of(&section(&stub), "", 0);
    assert_eq!(
        steps.shown(),
        [
            "profile ok",
            "name ok",
            "tcp ok",
            "tls ok",
            "login ok",
            "version ok",
            "nodes ok",
            "clock ok",
            "disk ok",
            "shards ok",
            "index ok",
            "rights ok",
            "blocks ok",
            "mapping ok",
            "pipeline ok"
        ]
    );
    assert_eq!(steps.step("version"), ["ok OpenSearch 2.19.0"]);
    let writes = stub.requests().into_iter().filter(|request| request.method == "PUT" || request.is_bulk()).count();
    assert_eq!(writes, 0, "nothing is changed");
}

#[test]
fn blocks_full_disks_and_missing_pipelines_fail() {
    let blocked = json!({"logs": {"aliases": {}, "mappings": {}, "settings": {"index": {"blocks": {"write": "true"}}}}});
    let steps = Steps::of(&section(&cluster(blocked, |_| None)), "", 4);
    assert_eq!(
        steps.only("fail"),
        "blocks: `logs` is blocked for writes: `index.blocks.write`: set `index.blocks.write` of the index to false"
    );
    let full = cluster(plain_index(), |request| request.path.starts_with("/_nodes/stats").then(|| Reply::Json(200, stats(4))));
    let steps = Steps::of(&section(&full), "", 4);
    assert_eq!(
        steps.only("fail"),
        "disk: the disk of node-1 is 96 % full, above the flood stage: its indices are blocked for writes: free disk space, or add nodes"
    );
    let piped = json!({"logs": {"aliases": {}, "mappings": {}, "settings": {"index": {"default_pipeline": "geo"}}}});
    let steps = Steps::of(&section(&cluster(piped, |_| None)), "", 4);
    assert!(steps.only("fail").starts_with("pipeline: `logs` sends documents through `geo`, which does not exist"));
}

#[test]
fn a_strict_mapping_without_the_metadata_fields_fails() {
    let strict = json!({"logs": {"aliases": {}, "mappings": {"dynamic": "strict", "properties": {"user_id": {}}}, "settings": {"index": {}}}});
    let steps = Steps::of(&section(&cluster(strict, |_| None)), "", 4);
    assert!(steps.only("fail").starts_with("mapping: strict, and without the metadata fields _kafka_key, _kafka_topic"));
}

#[test]
fn a_privilege_that_is_missing_is_named() {
    let told = |create: bool| json!({"has_all_requested": create, "index": {"logs": {"create_doc": create, "index": create, "read": true}}});
    let stub = cluster(plain_index(), move |request| {
        request.path.starts_with("/_security/user/_has_privileges").then(|| Reply::Json(200, told(false)))
    });
    let steps = Steps::of(&section(&stub), "", 4);
    assert_eq!(
        steps.only("fail"),
        "rights: the user or key lacks the right create_doc and index on `logs`: grant it the index privileges create_doc, index for `logs`"
    );
}

#[test]
fn a_refused_login_and_nodes_that_are_away_are_told() {
    let stub = HttpStub::start(|_| Reply::Json(401, json!({})));
    let profile = format!("[elasticsearch]\nurl = {}\nusername = loader\npassword = canary\n", stub.url());
    let steps = Steps::of(&profile, "", 4);
    assert!(steps.only("fail").contains("logging in: authentication failed for `loader`: correct `username` or `password`"));
    assert_eq!(steps.step("version"), ["skipped login failed"]);
    let (stub, away) = (cluster(plain_index(), |_| None), closed_port());
    let profile = format!("[opensearch]\nurl = http://{away}, {}\ndefault_index = logs\n", stub.url());
    let steps = Steps::of(&profile, "", 0);
    assert!(steps.only("warn").starts_with(&format!("tcp: {away}: connecting: connection refused")), "{}", steps.only("warn"));
    let steps = Steps::of(&format!("[opensearch]\nurl = http://{away}\n"), "", 4);
    assert!(steps.only("fail").starts_with(&format!("tcp: {away}: connecting: connection refused: start the server")));
}

#[test]
fn a_round_trip_writes_a_document_and_removes_it() {
    let stub = cluster(plain_index(), |request| {
        request.path.starts_with("/logs/_doc/sdl-doctor-").then(|| match request.method.as_str() {
            "PUT" => Reply::Json(201, json!({"result": "created"})),
            _ => Reply::Json(200, json!({"found": true})),
        })
    });
    let steps = Steps::of(&section(&stub), "--roundtrip", 0);
    assert_eq!(steps.step("roundtrip"), ["ok wrote a document to `logs` and read it; it is removed again"]);
    let methods: Vec<_> =
        stub.requests().into_iter().filter(|request| request.path.contains("_doc/")).map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "GET", "DELETE"]);
}
