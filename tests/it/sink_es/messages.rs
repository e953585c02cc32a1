//! The messages of `sdl sink-es` about a server that refuses, as a run prints them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::harness::{HttpStub, Mock, Reply, Sdl, Sender, created, taken_id_errors};

/// A record in an embedded cluster, for a scripted server.
struct Load {
    kafka: Mock,
    stub: HttpStub,
}

impl Load {
    fn new(stub: HttpStub) -> Self {
        let kafka = Mock::start(1);
        kafka.create_topic("logins", 1);
        Sender::new(&kafka.cluster(), &[]).send_values("logins", 1, &[(Some("k"), Some(r#"{"n": 1}"#))]);
        Self { kafka, stub }
    }

    fn sdl(&self, flags: &str) -> Sdl {
        self.following(&format!("--until-caught-up {flags}"))
    }

    /// Returns a run that goes on with new records.
    fn following(&self, flags: &str) -> Sdl {
        let (servers, url) = (self.kafka.cluster().servers, self.stub.url());
        let profile =
            format!("[local_kafka]\nservers = {servers}\ndefault_consumer_group_id = g\n[elasticsearch]\nurl = {url}\n");
        Sdl::new(&format!("sink-es logins --index logins {flags}")).profile(&profile)
    }

    /// Expects this error, last on standard error.
    #[track_caller]
    fn fails(&self, flags: &str, code: i32, error: &str) {
        let stderr = self.sdl(flags).run().expect(code).stderr;
        assert!(stderr.ends_with(error), "{flags}: {error} is not the end of stderr:\n{stderr}");
    }
}

/// Returns a server without an index that answers each document with `item`.
fn answering(item: Value) -> HttpStub {
    HttpStub::search(move |request| {
        if request.is_bulk() {
            Reply::Json(200, json!({"items": vec![item.clone(); request.ids().len()]}))
        } else {
            Reply::Text(404, "")
        }
    })
}

fn failed(status: u16, kind: &str, reason: &str) -> Value {
    json!({"create": {"status": status, "error": {"type": kind, "reason": reason, "index": "real"}}})
}

const UNMAPPED: &str = "failed to parse field [user.age] of type [long] in document with id 'x'";
const STRICT: &str = "mapping set to strict, dynamic introduction of [extra] within [_doc] is not allowed";

#[test]
fn a_record_that_the_server_does_not_store_is_named_with_the_cause() {
    let set_aside = "set bad records aside with --dead-letters topic:NAME or file:PATH, or omit them with --skip-bad-records";
    for (item, cause, hint) in [
        (
            failed(400, "mapper_parsing_exception", UNMAPPED),
            "field `user.age` does not fit the mapping (mapper_parsing_exception)",
            set_aside,
        ),
        (
            failed(400, "strict_dynamic_mapping_exception", STRICT),
            "the mapping does not allow a field `extra` (strict_dynamic_mapping_exception)",
            set_aside,
        ),
        (
            json!({"create": {"status": 201, "failure_store": "used"}}),
            "the document is in the failure store of its data stream (failure_store)",
            format!("{set_aside}; look up the error in the failure store").as_str(),
        ),
        (
            json!({"create": {"status": 200}}),
            "the ingest pipeline dropped the document (dropped_by_pipeline)",
            format!("{set_aside}; correct the pipeline, or write without it").as_str(),
        ),
    ] {
        let load = Load::new(answering(item));
        load.fails("", 3, &format!("error: record logins/0@0 cannot be delivered\n  caused by: {cause}\nhint: {hint}\n"));
    }
}

#[test]
fn a_record_that_is_too_large_for_the_server_is_named() {
    let load = Load::new(HttpStub::search(|request| if request.is_bulk() { Reply::Text(413, "") } else { Reply::Text(404, "") }));
    let error = "error: record logins/0@0 cannot be delivered\n  caused by: the request is too large for the server (413) (too_large)\n\
                 hint: set bad records aside with --dead-letters topic:NAME or file:PATH, or omit them with --skip-bad-records; \
                 raise `http.max_content_length` of the server\n";
    load.fails("", 3, error);
}

#[test]
fn a_run_with_dead_letters_is_complete_and_says_that_there_are_some() {
    let load = Load::new(answering(failed(400, "strict_dynamic_mapping_exception", STRICT)));
    let finished = load.sdl("--dead-letters file:bad").run().expect(3);
    let error =
        "error: bad records were found: 1 dead-lettered\nhint: nothing else was read; see the causes: sdl dlq stats file:bad\n";
    assert!(finished.stderr.ends_with(error), "{}", finished.stderr);
    let letter = std::fs::read_to_string(finished.path("bad")).unwrap();
    assert!(letter.contains(&format!("the mapping does not allow a field `extra`: {STRICT}")), "{letter}");
}

#[test]
fn an_index_that_may_not_be_created_ends_the_run() {
    let load = Load::new(answering(failed(404, "index_not_found_exception", "no such index [logins]")));
    let error = "error: the destination rejects every write until its configuration is fixed\n\
                 \x20 caused by: the index does not exist, and the server may not create it\n\
                 hint: create it, or allow it in `action.auto_create_index` of the cluster\n";
    load.fails("", 1, error);
}

/// Returns a server on which every id is taken, by this document if there is one.
fn taken(stored: Option<Value>) -> HttpStub {
    HttpStub::search(move |request| {
        if request.is_bulk() {
            let conflict = failed(409, "version_conflict_engine_exception", "taken");
            return Reply::Json(200, json!({"items": vec![conflict; request.ids().len()]}));
        }
        if !request.path.contains("/_mget") {
            return Reply::Text(404, "");
        }
        let found = stored.as_ref().map_or_else(|| json!({"found": false}), |stored| json!({"found": true, "_source": stored}));
        Reply::Json(200, json!({"docs": [found]}))
    })
}

#[test]
fn an_id_that_is_taken_is_refused_with_the_record() {
    let stored = [Some(json!({"_kafka_timestamp": 7})), Some(json!({"a": 1})), None];
    for (stored, (flags, error)) in stored.into_iter().zip(taken_id_errors()) {
        Load::new(taken(stored)).fails(flags, 5, &error);
    }
}

#[test]
fn an_index_is_not_written_to_as_a_data_stream_nor_the_reverse() {
    let holding = |name: &'static str, index: Value| {
        HttpStub::search(move |request| match request.path.as_str() {
            "/logins" => Reply::Json(200, json!({name: index})),
            _ => created(request),
        })
    };
    let load = Load::new(holding(".ds-logins-000001", json!({"data_stream": "logins", "mappings": {}, "settings": {}})));
    load.fails("", 1, "error: `logins` of `elasticsearch` is a data stream\nhint: add --data-stream\n");
    let load = Load::new(holding("logins", json!({"mappings": {}, "settings": {}})));
    load.fails("--data-stream", 1, "error: `logins` of `elasticsearch` is not a data stream\nhint: remove --data-stream\n");
}

/// Returns a server whose index has this uuid once a document was written, or is gone; before, `first`. It takes a document when it
/// was asked for the uuid.
fn replacing(path: &'static str, first: Value, then: Option<Value>) -> HttpStub {
    let (is_asked, is_written) = (AtomicBool::new(false), AtomicBool::new(false));
    HttpStub::search(move |request| {
        if request.is_bulk() {
            if !is_asked.load(SeqCst) {
                return Reply::Text(429, "");
            }
            is_written.store(true, SeqCst);
            return created(request);
        }
        if request.path != path {
            return Reply::Text(404, "");
        }
        is_asked.store(true, SeqCst);
        match &then {
            _ if !is_written.load(SeqCst) => Reply::Json(200, first.clone()),
            Some(then) => Reply::Json(200, then.clone()),
            None => Reply::Json(404, json!({"error": {"type": "index_not_found_exception", "reason": "no such index [logins]"}})),
        }
    })
}

#[test]
fn an_index_that_is_deleted_or_created_again_in_mid_run_ends_the_run() {
    let path = "/logins/_settings/index.uuid";
    let of = |index: &str, uuid: &str| json!({index: {"settings": {"index": {"uuid": uuid}}}});
    let hint = "hint: load them again with --from-beginning, or start again without it, to go on without them\n";
    let gone = format!(
        "error: index `logins` of `elasticsearch` was deleted during the run: the documents that were stored in it are gone\n\
         \x20 id at the start: u1 (logins), not listed now\n{hint}"
    );
    let again = format!(
        "error: index `logins` of `elasticsearch` was deleted and created again during the run: the documents that were stored in it \
         before are gone\n  id at the start: u1 (logins)\n  id now:          u2 (logins)\n{hint}"
    );
    for (then, error) in [(None, gone), (Some(of("logins", "u2")), again)] {
        let load = Load::new(replacing(path, of("logins", "u1"), then.clone()));
        load.fails("", 5, &error);
        // A run that follows ends by itself, without a further record.
        let load = Load::new(replacing(path, of("logins", "u1"), then));
        let stderr = load.following("").run().expect(5).stderr;
        assert!(stderr.ends_with(&error), "{stderr}");
    }
}

#[test]
fn an_index_that_may_not_be_looked_at_or_gains_another_one_is_written_to() {
    let path = "/logins/_settings/index.uuid";
    let of = |index: &str| json!({index: {"settings": {"index": {"uuid": index}}}});
    let load = Load::new(replacing(path, of("logins-1"), Some(of("logins-2"))));
    load.sdl("").run().expect(0);
    let asked = std::sync::Arc::new(AtomicBool::new(false));
    let is_asked = Arc::clone(&asked);
    let load = Load::new(HttpStub::search(move |request| {
        if request.is_bulk() {
            return if is_asked.load(SeqCst) { created(request) } else { Reply::Text(429, "") };
        }
        is_asked.fetch_or(request.path == path, SeqCst);
        Reply::Json(
            if request.path == path { 403 } else { 404 },
            json!({"error": {"type": "security_exception", "reason": "no"}}),
        )
    }));
    load.sdl("").run().expect(0);
    let looks = load.stub.requests().iter().filter(|request| request.path == path).count();
    assert!((1..=2).contains(&looks), "the watch asks once, and the end of the run: {looks}");
}

#[test]
fn an_alias_is_written_to_as_an_alias() {
    let alias = json!({"logins-1": {"aliases": {"logins": {}}, "mappings": {}, "settings": {"index": {"uuid": "u"}}}});
    for (found, is_guarded) in [(alias, true), (json!({"logins": {"aliases": {}, "mappings": {}, "settings": {}}}), false)] {
        let load = Load::new(HttpStub::search(move |request| match request.path.as_str() {
            "/logins" => Reply::Json(200, found.clone()),
            _ if request.is_bulk() => created(request),
            _ => Reply::Text(404, ""),
        }));
        load.sdl("").run().expect(0);
        let bulks: Vec<_> = load.stub.requests().into_iter().filter(crate::harness::Request::is_bulk).collect();
        assert!(!bulks.is_empty());
        assert!(bulks.iter().all(|bulk| bulk.path.contains("require_alias=true") == is_guarded), "{bulks:?}");
    }
}

#[test]
fn an_alias_of_several_indices_is_refused_unless_documents_may_repeat() {
    let index = || json!({"aliases": {"logins": {}}, "mappings": {}, "settings": {}});
    let load = Load::new(HttpStub::search(move |request| match request.path.as_str() {
        "/logins" => Reply::Json(200, json!({"logins-1": index(), "logins-2": index()})),
        _ => created(request),
    }));
    let error = "error: `logins` of `elasticsearch` is an alias of several indices: a repeated record would be stored in each\n\
                 hint: write to one index, or use --id uuid if repeated documents do not matter\n";
    for flags in ["", "--id key"] {
        load.fails(flags, 5, error);
    }
    load.sdl("--id uuid --dry-run").run().expect(0);
}

const SHARDS: &str = "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has [1000]/[1000] \
                      maximum shards open;";

#[test]
fn a_server_that_takes_nothing_for_now_is_waited_for_with_the_reason() {
    for (item, reason) in [
        (failed(403, "cluster_block_exception", "blocked"), "the index is blocked for writes (cluster_block_exception)"),
        (failed(429, "es_rejected_execution_exception", "full"), "the server is overloaded (es_rejected_execution_exception)"),
        (failed(429, "circuit_breaking_exception", "full"), "the server is short of memory (circuit_breaking_exception)"),
        (failed(400, "validation_exception", SHARDS), "the cluster has reached its shard limit (validation_exception)"),
    ] {
        let is_well = Arc::new(AtomicBool::new(false));
        let heals = Arc::clone(&is_well);
        let load = Load::new(HttpStub::search(move |request| {
            if !request.is_bulk() {
                return Reply::Text(404, "");
            }
            if heals.load(SeqCst) {
                return created(request);
            }
            Reply::Json(200, json!({"items": vec![item.clone(); request.ids().len()]}))
        }));
        let mut running = load.sdl("").start();
        running.wait_for_stderr(&format!("Delivery stalled. reason=\"{reason}\""));
        is_well.store(true, SeqCst);
        let stderr = running.wait().expect(0).stderr;
        assert!(stderr.contains("Delivery resumed."), "{stderr}");
    }
}

#[test]
fn records_that_alone_are_refused_for_now_are_no_stall() {
    let full = failed(429, "es_rejected_execution_exception", "full");
    let load = Load::new(HttpStub::search(move |request| {
        if !request.is_bulk() {
            return Reply::Text(404, "");
        }
        let Reply::Json(status, mut answer) = created(request) else { panic!("documents are created") };
        // The second record is accepted alone only.
        if request.ids().len() > 1 {
            answer["items"][1] = full.clone();
        }
        Reply::Json(status, answer)
    }));
    Sender::new(&load.kafka.cluster(), &[]).send_values("logins", 1, &[(Some("k"), Some(r#"{"n": 2}"#))]);
    let stderr = load.sdl("").run().expect(0).stderr;
    assert!(stderr.contains("Some records are refused for now, and sent again. reason=\"the server is overloaded"), "{stderr}");
    assert!(!stderr.contains("stalled"), "{stderr}");
}

#[test]
fn a_server_that_is_not_waited_for_any_longer_ends_the_run_with_the_reason() {
    let load = Load::new(answering(failed(429, "es_rejected_execution_exception", "full")));
    let error = "error: gave up after 2s without a delivery\n\
                 \x20 caused by: the server is overloaded (es_rejected_execution_exception)\n\
                 hint: start again when the destination is back, or raise --retry-for\n";
    load.fails("--retry-for 2s", 1, error);
}

#[test]
fn a_run_that_is_stopped_while_the_server_is_silent_counts_what_it_did_not_deliver() {
    let stub = HttpStub::search(|request| if request.is_bulk() { Reply::Silence } else { Reply::Text(404, "") });
    let load = Load::new(stub);
    let mut running = load.sdl("--shutdown-timeout 1s").start();
    running.wait_for_stderr("Delivery stalled. reason=\"no response for more than 3 s\"");
    running.signal("TERM");
    let stderr = running.wait().expect(3).stderr;
    let error = "error: 1 record was read and not delivered\n  caused by: delivery stalled: no response for more than 3 s\n\
                 hint: start again when the target responds: they are not committed, and are read once more\n";
    assert!(stderr.ends_with(error), "{stderr}");
}

#[test]
fn a_server_that_cannot_be_used_is_named_with_the_step() {
    type Answer = fn() -> Reply;
    let answers: [(Answer, &str, &str); 4] = [
        (
            || Reply::Text(200, "<html>log in</html>"),
            "first request: the server is neither Elasticsearch nor OpenSearch",
            "correct `url` under [elasticsearch]",
        ),
        (
            || Reply::Hangup,
            "first request: the server closed the connection",
            "write `https://` in `url` under [elasticsearch], if the server requires TLS",
        ),
        (
            || Reply::Silence,
            "no answer within 1s",
            "correct `url` under [elasticsearch], or see whether a firewall is in between",
        ),
        (
            || Reply::Json(401, json!({})),
            "logging in: the server requires a login",
            "set `username` and `password`, or `api_key`, under [elasticsearch]",
        ),
    ];
    for (answer, cause, hint) in answers {
        let load = Load::new(HttpStub::start(move |_| answer()));
        let url = load.stub.url();
        load.fails(
            "--wait 1s",
            1,
            &format!("error: cannot connect to `elasticsearch`\n  caused by: {url}: {cause}\nhint: {hint}\n"),
        );
    }
}
