//! The examination of Elasticsearch and OpenSearch clusters.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Steps, closed_port};
use crate::harness::{HttpStub, Reply, Request, Sdl, items};

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

/// Answers with these persistent settings of the cluster.
fn with_settings(settings: Value) -> impl FnMut(&Request) -> Option<Reply> + Send + 'static {
    move |request| {
        let answer = || json!({"defaults": {"cluster.max_shards_per_node": "1000"}, "persistent": settings, "transient": {}});
        request.path.starts_with("/_cluster/settings").then(|| Reply::Json(200, answer()))
    }
}

#[test]
fn a_blocked_cluster_fails_with_and_without_the_index() {
    for block in ["read_only", "read_only_allow_delete", "create_index"] {
        let setting = format!("cluster.blocks.{block}");
        let mut settings = with_settings(json!({ setting.as_str(): "true" }));
        let missing = cluster(plain_index(), move |request| {
            let is_index = request.path == "/logs";
            settings(request)
                .or_else(|| is_index.then(|| Reply::Json(404, json!({"error": {"type": "index_not_found_exception"}}))))
        });
        let steps = Steps::of(&section(&missing), "", 4);
        assert!(steps.only("fail").starts_with("blocks: the cluster is blocked for ") && steps.only("fail").contains(&setting));
        assert_eq!(steps.step("index"), ["warn `logs` does not exist, and cannot be created now: see the step `blocks`"]);
    }
    let mut settings = with_settings(json!({"cluster.blocks.read_only": "true"}));
    let blocked = cluster(plain_index(), move |request| {
        let is_bulk = request.path.contains("_bulk");
        settings(request).or_else(|| is_bulk.then(|| Reply::Json(200, items([(403, "cluster_block_exception")]))))
    });
    let steps = Steps::of(&section(&blocked), "", 4);
    assert_eq!(
        steps.only("fail"),
        "blocks: the cluster is blocked for writes: `cluster.blocks.read_only`: set `cluster.blocks.read_only` in the settings of the \
         cluster to null"
    );
    assert!(steps.step("rights")[0].ends_with(": see the step `blocks`"), "{:?}", steps.step("rights"));
    // An index can be written to while no other may be created.
    let stub = cluster(plain_index(), with_settings(json!({"cluster.blocks.create_index": "true"})));
    assert_eq!(Steps::of(&section(&stub), "", 0).step("blocks"), ["ok none"]);
    // A section without an index writes to some index.
    let stub = cluster(plain_index(), with_settings(json!({"cluster.blocks.read_only": "true"})));
    let steps = Steps::of(&format!("[opensearch]\nurl = {}\n", stub.url()), "", 4);
    assert!(steps.only("fail").starts_with("blocks: the cluster is blocked for writes"), "{}", steps.only("fail"));
}

#[test]
fn a_closed_index_fails_also_where_its_settings_do_not_say_so() {
    let refused = |request: &Request| {
        let is_bulk = request.path.contains("_bulk");
        is_bulk.then(|| Reply::Json(200, items([(400, "index_closed_exception")])))
    };
    let closed = json!({"logs": {"aliases": {}, "mappings": {}, "settings": {"index": {"verified_before_close": "true"}}}});
    for index in [closed, plain_index()] {
        let steps = Steps::of(&section(&cluster(index, refused)), "", 4);
        assert_eq!(steps.only("fail"), "blocks: `logs` is closed: open `logs`: POST logs/_open");
        assert!(
            steps.step("rights")[0].starts_with("warn not accepted for now: the index is closed"),
            "{:?}",
            steps.step("rights")
        );
    }
}

#[test]
fn what_may_not_be_asked_for_is_skipped_and_a_refused_write_fails_nevertheless() {
    let denied = |request: &Request| {
        let is_denied = request.path.starts_with("/_cluster/settings");
        is_denied.then(|| Reply::Json(403, json!({"error": {"type": "security_exception"}, "status": 403})))
    };
    let missing = cluster(plain_index(), move |request| {
        denied(request).or_else(|| (request.path == "/logs").then(|| Reply::Json(404, json!({"error": {}}))))
    });
    let steps = Steps::of(&section(&missing), "", 0);
    assert_eq!(steps.step("blocks"), ["skipped the user may not ask for the settings of the cluster"]);
    let stub = cluster(plain_index(), move |request| {
        let is_bulk = request.path.contains("_bulk");
        denied(request).or_else(|| is_bulk.then(|| Reply::Json(200, items([(403, "cluster_block_exception")]))))
    });
    let steps = Steps::of(&section(&stub), "", 4);
    assert!(steps.only("fail").starts_with("blocks: the index is blocked for writes"), "{}", steps.only("fail"));
}

#[test]
fn a_name_that_the_load_refuses_fails_its_step() {
    for (name, why) in [("Bad", "the name of an index cannot have capitals"), ("%Q-x", "`%Q` is not a part of a date")] {
        let stub = cluster(plain_index(), |_| None);
        let steps = Steps::of(&format!("[opensearch]\nurl = {}\ndefault_index = {name}\n", stub.url()), "", 4);
        let failed = steps.only("fail");
        assert!(failed.starts_with(&format!("index: cannot use `{name}`: {why}")), "{failed}");
        assert!(failed.ends_with(": correct `default_index` under [opensearch]"), "{failed}");
        assert_eq!(steps.step("rights"), ["skipped index failed"]);
    }
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

/// Interrupts a round trip between its write and its removal, which is answered with this status; returns what it printed.
#[track_caller]
fn interrupted(removal: u16) -> (String, Vec<String>) {
    let (written, was_written) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let stub = cluster(plain_index(), move |request| {
        let is_probe = request.path.starts_with("/logs/_doc/sdl-doctor-");
        is_probe.then(|| match request.method.as_str() {
            "PUT" => Reply::Json(201, json!({"result": "created"})),
            "GET" => {
                written.send(()).unwrap();
                released.recv_timeout(Duration::from_secs(60)).unwrap();
                Reply::Json(200, json!({"found": true}))
            }
            _ => Reply::Json(removal, json!({})),
        })
    });
    let mut running = Sdl::new("doctor --roundtrip").profile(&section(&stub)).start();
    was_written.recv_timeout(Duration::from_secs(60)).unwrap();
    running.signal("TERM");
    running.wait_for_stderr("Interrupted: waiting until document `sdl-doctor-");
    release.send(()).unwrap();
    let finished = running.wait().expect(130);
    let probes = stub.requests().into_iter().filter(|request| request.path.contains("_doc/"));
    (finished.stderr, probes.map(|request| request.method).collect())
}

#[test]
fn an_interrupted_round_trip_removes_its_document() {
    let (stderr, methods) = interrupted(200);
    assert!(stderr.ends_with("interrupted: the examination is not complete\n"), "{stderr}");
    assert_eq!(methods, ["PUT", "GET", "DELETE"]);
}

#[test]
fn an_interrupted_round_trip_names_what_it_cannot_remove() {
    let (stderr, methods) = interrupted(403);
    let (_, left) = stderr.split_once("left behind: document `sdl-doctor-").unwrap_or_else(|| panic!("{stderr}"));
    assert!(left.ends_with("` in `logs` of `opensearch`: remove it\n"), "{stderr}");
    assert_eq!(methods, ["PUT", "GET", "DELETE"]);
}

#[test]
fn a_round_trip_that_fails_names_what_it_cannot_remove() {
    let stub = cluster(plain_index(), |request| {
        request.path.starts_with("/logs/_doc/sdl-doctor-").then(|| match request.method.as_str() {
            "PUT" => Reply::Json(201, json!({"result": "created"})),
            _ => Reply::Json(403, json!({})),
        })
    });
    let steps = Steps::of(&section(&stub), "--roundtrip", 4);
    let found = steps.step("roundtrip");
    assert_eq!((found.len(), found[0].as_str()), (2, "fail cannot read from `logs` of `opensearch`: status 403"));
    assert!(
        found[1].starts_with("warn document `sdl-doctor-") && found[1].ends_with(" may be left behind: remove it"),
        "{found:?}"
    );
}

#[test]
fn a_document_whose_write_had_no_answer_is_removed_again() {
    let mut writes = 0;
    let stub = cluster(plain_index(), move |request| {
        request.path.starts_with("/logs/_doc/sdl-doctor-").then(|| match request.method.as_str() {
            "PUT" => {
                writes += 1;
                if writes == 1 {
                    Reply::Hangup
                } else {
                    Reply::Json(409, json!({"error": {"type": "version_conflict_engine_exception"}}))
                }
            }
            _ => Reply::Json(200, json!({"found": true})),
        })
    });
    let steps = Steps::of(&section(&stub), "--roundtrip", 0);
    assert_eq!(steps.step("roundtrip"), ["ok wrote a document to `logs` and read it; it is removed again"]);
    assert!(stub.requests().iter().any(|request| request.method == "DELETE"));
}
