//! What keeps a document from being taken for ours, or from taking the place of a newer one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use sdl::connectors::elastic::{ElasticClient, ElasticSink, ElasticSinkOptions, Op, index_rule};
use sdl::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
use sdl::pipeline::Sink;
use serde_json::{Value, json};

use super::{reason, section, sink, sink_of};
use crate::harness::{
    HttpStub, Mock, Reply, Request, Sdl, Sender, created, deliver, items, numbered, outcome_codes, record, records,
};

/// Returns a server whose documents are given by `stored`, by their index in the request.
fn holding(stored: impl Fn(usize) -> Value + Send + 'static) -> HttpStub {
    HttpStub::start(move |request| match request.path.as_str() {
        "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
        path if path.contains("/_mget") => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            Reply::Json(200, json!({"docs": (0..asked["docs"].as_array().unwrap().len()).map(&stored).collect::<Vec<_>>()}))
        }
        _ => created(request),
    })
}

#[tokio::test]
async fn nothing_is_written_before_the_first_ids_of_a_partition_are_checked() {
    let stub =
        holding(|at| if at < 2 { json!({"found": false}) } else { json!({"found": true, "_source": {"_kafka_timestamp": 7}}) });
    let outcomes = deliver(&sink(&stub).await, records(5)).await;
    assert_eq!(outcome_codes(&outcomes), "!!!!!", "not even those whose ids are free");
    assert_eq!(reason(&outcomes[0]).code(), "foreign_record");
    assert_eq!(stub.bulks().len(), 0);

    let stub = holding(|at| json!({"found": true, "_source": {"_kafka_timestamp": 1000 + at}}));
    let sink = sink(&stub).await;
    assert_eq!(outcome_codes(&deliver(&sink, records(5)).await), "ddddd");
    assert_eq!(outcome_codes(&deliver(&sink, records(5)).await), "ddddd");
    let lookups = |stub: &HttpStub| stub.requests().iter().filter(|request| request.path.contains("/_mget")).count();
    assert_eq!((lookups(&stub), stub.bulks().len()), (1, 2), "once for a partition");
}

#[tokio::test]
async fn a_recreated_topic_with_equal_timestamps_is_detected_by_its_payloads() {
    for (payload, codes) in [(json!({"other": 1}), "!!!"), (json!({}), "ddd")] {
        let stub = HttpStub::start(move |request| match request.path.as_str() {
            "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
            path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
            "/logins" => Reply::Json(200, json!({"logins": {"settings": {"index": {"uuid": "u"}}, "mappings": {}}})),
            path if path.contains("/_mget") => {
                let found = |at: i64| {
                    let mut source = json!({"_kafka_timestamp": 1000 + at, "n": at});
                    if payload.get("other").is_some() {
                        source["n"] = json!("of another record");
                    }
                    json!({"found": true, "_source": source})
                };
                Reply::Json(200, json!({"docs": (0..3).map(found).collect::<Vec<_>>()}))
            }
            _ => created(request),
        });
        let sink = sink(&stub).await;
        sink.index().await.unwrap();
        assert_eq!(outcome_codes(&deliver(&sink, records(3)).await), codes);
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_recognised_by_its_metadata() {
    let stub = HttpStub::start(|request| match request.path.as_str() {
        "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
        "/logins" => Reply::Json(200, json!({"logins": {"settings": {"index": {"uuid": "u"}}, "mappings": {}}})),
        path if path.contains("/_mget") && path.contains("_source_includes") => {
            Reply::Json(200, json!({"docs": [{"found": true, "_source": {"_kafka_timestamp": 1000}}]}))
        }
        path if path.contains("/_mget") => Reply::Text(
            200,
            r#"{"docs":[{"found":true,"_source":{"_kafka_timestamp":1000,"original_data":1e400}},
                {"found":true,"_source":{"_kafka_timestamp":1001,"n":1}}]}"#,
        ),
        _ => created(request),
    });
    let sink = sink(&stub).await;
    sink.index().await.unwrap();
    assert_eq!(outcome_codes(&deliver(&sink, records(2)).await), "dd");
}

#[tokio::test]
async fn an_answer_that_does_not_say_whether_an_id_is_taken_proves_nothing() {
    let stub = holding(|_| json!({"_id": "t:0:0"}));
    assert_eq!(outcome_codes(&deliver(&sink(&stub).await, records(2)).await), "rr");
    assert_eq!(stub.bulks().len(), 0);
}

/// Returns a server that finds every id taken, and answers look-ups as `looked_up` says; the first look finds nothing unless
/// `also_first`.
fn looking_up(looked_up: fn() -> Reply, also_first: bool) -> HttpStub {
    // The place of the stored document tells its look-up from the first look.
    let conflict = json!({"type": "version_conflict_engine_exception", "reason": "r", "index": "real"});
    let taken = move || Reply::Json(200, json!({"items": [{"create": {"status": 409, "error": conflict}}]}));
    if !also_first {
        return HttpStub::search(move |request| if request.path.contains("/_mget") { looked_up() } else { taken() });
    }
    HttpStub::start(move |request| match request.path.as_str() {
        "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
        path if path.contains("/_mget") => looked_up(),
        _ => taken(),
    })
}

/// A record that is sent again as after an outage is never a dead letter, however long that lasts.
#[tokio::test]
async fn a_lookup_that_cannot_be_read_blames_no_record() {
    type LookUp = (fn() -> Reply, &'static str);
    let answers: [LookUp; 8] = [
        (|| Reply::Json(200, json!({"docs": []})), "one document too few"),
        (|| Reply::Json(200, json!({"docs": [{"_id": "t:0:0"}]})), "neither found nor missing"),
        (|| Reply::Json(200, json!({"docs": [{"error": {"type": "other_exception", "reason": "r"}}]})), "an unknown error"),
        (|| Reply::Text(200, ""), "empty"),
        (|| Reply::Text(200, "<html>welcome</html>"), "of a proxy"),
        (|| Reply::Text(400, "<html>bad request</html>"), "an error of a proxy"),
        (|| Reply::Json(500, json!({})), "an error of the server"),
        (|| Reply::Hangup, "none"),
    ];
    for (answer, what) in answers {
        for also_first in [true, false] {
            let stub = looking_up(answer, also_first);
            let sink = sink(&stub).await;
            for _ in 0..2 {
                let outcomes = outcome_codes(&deliver(&sink, records(1)).await);
                assert_eq!(outcomes, "r", "{what}, the first look: {also_first}");
            }
        }
    }
}

#[tokio::test]
async fn a_lookup_that_the_server_rejects_may_be_the_record_s() {
    let rejects = || Reply::Json(400, json!({"error": {"type": "parsing_exception", "reason": "r"}}));
    let stub = looking_up(rejects, false);
    assert_eq!(outcome_codes(&deliver(&sink(&stub).await, records(1)).await), "u");
}

#[tokio::test]
async fn a_lookup_that_never_agrees_with_the_write_stops_the_run() {
    // A pipeline changes the id: the id that is sent is never found.
    let stub = HttpStub::search(|request| {
        if request.path.contains("/_mget") {
            return Reply::Json(200, json!({"docs": [{"found": false}]}));
        }
        Reply::Json(200, items([(409, "version_conflict_engine_exception")]))
    });
    let sink = sink(&stub).await;
    let mut codes = String::new();
    while !codes.contains('!') {
        codes += &outcome_codes(&deliver(&sink, records(1)).await);
    }
    assert_eq!(codes, "rrrr!");
}

/// Returns the codes of the same record, delivered again until the run stops.
async fn codes_until_stopped(sink: &ElasticSink) -> String {
    let mut codes = String::new();
    while !codes.contains('!') && codes.len() < 20 {
        codes += &outcome_codes(&deliver(sink, vec![record(5, "k", Some("{}"))]).await);
    }
    codes
}

#[tokio::test]
async fn a_merge_whose_lookup_never_agrees_with_the_write_stops_the_run() {
    for (found, action, status, kind) in
        [(false, "create", 409, "version_conflict_engine_exception"), (true, "update", 404, "document_missing_exception")]
    {
        let stub = HttpStub::search(move |request| {
            if request.path.contains("/_mget") {
                let stored = json!({"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_offset": 1, "_kafka_timestamp": 1});
                return Reply::Json(
                    200,
                    json!({"docs": [{"found": found, "_seq_no": 4, "_primary_term": 1, "_source": stored}]}),
                );
            }
            let error = json!({"type": kind, "reason": "as the script says"});
            Reply::Json(200, json!({"items": [{action: {"status": status, "error": error}}]}))
        });
        let options = ElasticSinkOptions { op: Some(Op::Upsert), ..ElasticSinkOptions::default() };
        let sink = sink_of(&stub, Ids::Key, options).await;
        assert_eq!(codes_until_stopped(&sink).await, "rrrr!", "{kind}");
    }
}

#[tokio::test]
async fn a_version_that_another_client_raised_stops_the_run() {
    // Its `_update_by_query` gave the document of offset 4 the version 5.
    let stub = HttpStub::search(|request| {
        if request.path.contains("/_mget") {
            let stored = json!({"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_offset": 4, "_kafka_timestamp": 1});
            return Reply::Json(200, json!({"docs": [{"found": true, "_version": 5, "_source": stored}]}));
        }
        let reason = "[k]: version conflict, current version [5] is higher or equal to the one provided [5]";
        let error = json!({"type": "version_conflict_engine_exception", "reason": reason});
        Reply::Json(200, json!({"items": [{"index": {"status": 409, "error": error}}]}))
    });
    let sink = sink_of(&stub, Ids::Key, ElasticSinkOptions::default()).await;
    assert_eq!(codes_until_stopped(&sink).await, "rrrr!");
}

#[tokio::test]
async fn a_version_that_was_deleted_is_waited_for() {
    // The server remembers the tombstone of the same version for a while.
    let stub = HttpStub::search(|request| {
        if request.path.contains("/_mget") {
            return Reply::Json(200, json!({"docs": [{"found": false}]}));
        }
        let error = json!({"type": "version_conflict_engine_exception", "reason": "as the script says"});
        Reply::Json(200, json!({"items": [{"index": {"status": 409, "error": error}}]}))
    });
    let sink = sink_of(&stub, Ids::Key, ElasticSinkOptions { deletes: true, ..ElasticSinkOptions::default() }).await;
    assert_eq!(codes_until_stopped(&sink).await, "r".repeat(20));
}

#[tokio::test]
async fn a_body_for_one_index_names_none() {
    // Servers can forbid it: `rest.action.multi.allow_explicit_index: false`.
    let stub = HttpStub::search(|request| {
        if request.path.contains("/_mget") {
            return Reply::Json(200, json!({"docs": [{"found": true, "_source": {"_kafka_timestamp": 1001}}]}));
        }
        let conflict = json!({"type": "version_conflict_engine_exception", "reason": "taken", "index": "real"});
        Reply::Json(200, json!({"items": [{"create": {"status": 201}}, {"create": {"status": 409, "error": conflict}}]}))
    });
    assert_eq!(outcome_codes(&deliver(&sink(&stub).await, records(2)).await), "da");
    let posted: Vec<Request> = stub.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!(posted.len(), 3, "a first look, a bulk, and a look-up");
    for Request { path, body, .. } in &posted {
        let names_index = String::from_utf8_lossy(body).contains("\"_index\"");
        assert!((path.starts_with("/logins/") || path.starts_with("/real/")) && !names_index, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_forbids_indices_in_a_body_stops_a_run_that_needs_them() {
    let forbidden = json!({"error": {"type": "illegal_argument_exception", "reason": "explicit index in bulk is not allowed"}});
    let stub = HttpStub::search(move |_| Reply::Json(400, forbidden.clone()));
    let client = ElasticClient::connect(&section(&[stub.url()]), Duration::from_secs(5)).await.unwrap();
    let naming = NameTemplate::new("{to}".parse().unwrap(), index_rule, 10).unwrap();
    let meta = MetadataFields::default();
    let mapper = DocumentMapper::new(Ids::Random, Version::Offset, meta, RawValues::Bad, None, vec![naming]);
    let sink = ElasticSink::new(client, mapper, ElasticSinkOptions { in_flight: 1, ..ElasticSinkOptions::default() }).unwrap();
    let outcomes = deliver(&sink, vec![record(0, "k", Some(r#"{"to": "a"}"#)), record(1, "k", Some(r#"{"to": "b"}"#))]).await;
    assert_eq!(outcome_codes(&outcomes), "SS");
    assert!(reason(&outcomes[0]).hinted().is_some_and(|hint| hint.contains("rest.action.multi.allow_explicit_index")));
}

#[tokio::test]
async fn an_alias_is_looked_up_with_its_routing() {
    let stub = HttpStub::search(|request| match request.path.as_str() {
        "/logins" => Reply::Json(200, json!({"i-1": {"aliases": {"logins": {"index_routing": "tenant"}}}})),
        path if path.contains("/_mget") => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(asked["docs"][0]["routing"], "tenant");
            Reply::Json(200, json!({"docs": [{"found": true, "_source": {"_kafka_timestamp": 1000}}]}))
        }
        _ => {
            let conflict = json!({"type": "version_conflict_engine_exception", "index": "real"});
            Reply::Json(200, json!({"items": [{"create": {"status": 409, "error": conflict}}]}))
        }
    });
    let sink = sink(&stub).await;
    sink.index().await.unwrap();
    assert_eq!(outcome_codes(&deliver(&sink, records(1)).await), "a");
}

#[tokio::test]
async fn a_failed_lookup_is_retried_and_a_forbidden_one_does_not_prevent_writes() {
    let answered = |status: u16| async move {
        let error = json!({"error": {"type": "security_exception", "reason": "unauthorized"}});
        let stub = HttpStub::start(move |request| match request.path.as_str() {
            "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
            path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
            path if path.contains("/_mget") => Reply::Json(status, error.clone()),
            _ => created(request),
        });
        outcome_codes(&deliver(&sink(&stub).await, records(2)).await)
    };
    assert_eq!(answered(503).await, "rr");
    assert_eq!(answered(401).await, "SS");
    assert_eq!(answered(403).await, "dd");
    let denied = json!({"error": {"type": "security_exception", "reason": "unauthorized"}});
    let stub = holding(move |_| denied.clone());
    assert_eq!(outcome_codes(&deliver(&sink(&stub).await, records(2)).await), "dd");
}

#[tokio::test]
async fn an_equal_version_is_looked_up_before_it_counts_as_ours() {
    let stored = |time: i64| json!({"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_timestamp": time});
    let stub = HttpStub::search(move |request| {
        if request.path.contains("/_mget") {
            let found = |time| json!({"found": true, "_source": stored(time)});
            return Reply::Json(200, json!({"docs": [found(1000), found(5), {"found": false}]}));
        }
        let conflict = |name: &str, version: i64| {
            let why =
                format!("[k]: version conflict, current version [{version}] is higher or equal to the one provided [{version}]");
            json!({name: {"status": 409, "error": {"type": "version_conflict_engine_exception", "index": "real", "reason": why}}})
        };
        Reply::Json(200, json!({"items": [conflict("index", 0), conflict("index", 1), conflict("delete", 2)]}))
    });
    let sink = sink_of(&stub, Ids::Key, ElasticSinkOptions { deletes: true, ..ElasticSinkOptions::default() }).await;
    let batch = vec![record(0, "a", Some("{}")), record(1, "b", Some("{}")), record(2, "c", None)];
    assert_eq!(outcome_codes(&deliver(&sink, batch).await), "a!a");
}

#[tokio::test]
async fn a_failed_record_never_replaces_a_later_one_with_its_id() {
    let stub = HttpStub::search(|_| {
        let failed = (429, "es_rejected_execution_exception");
        Reply::Json(200, items([failed, (200, ""), failed, (200, ""), failed]))
    });
    let client = ElasticClient::connect(&section(&[stub.url()]), Duration::from_secs(5)).await.unwrap();
    let naming = NameTemplate::new("logins".parse().unwrap(), index_rule, 10).unwrap();
    let reading =
        DocumentMapper::new(Ids::Key, Version::Timestamp, MetadataFields::default(), RawValues::Bad, None, vec![naming]);
    let options = ElasticSinkOptions { op: Some(Op::Index), in_flight: 1, ..ElasticSinkOptions::default() };
    let sink = ElasticSink::new(client, reading, options).unwrap();
    let at = |offset: i64, key: &str, time: i64| sdl::record::Record { timestamp: Some(time), ..record(offset, key, Some("{}")) };
    let batch = vec![at(0, "a", 5), at(1, "a", 5), at(2, "b", 9), at(3, "b", 8), at(4, "a", 5)];
    // The first `a` is as old as the second, which is there; the first `b` is newer than the second.
    assert_eq!(outcome_codes(&deliver(&sink, batch).await), "sdrdr");
    assert_eq!(sink.ordering(), sdl::pipeline::Ordering::OneByOne, "the next batch waits until this one is settled");
}

#[tokio::test]
async fn a_failed_write_is_not_retried_after_its_document_is_deleted() {
    let stub = HttpStub::search(|_| Reply::Json(200, items([(500, "timeout_exception"), (200, "")])));
    let sink = sink_of(&stub, Ids::Key, ElasticSinkOptions { deletes: true, ..ElasticSinkOptions::default() }).await;
    // The server forgets the version of a deleted document after a while: the write would restore it.
    assert_eq!(outcome_codes(&deliver(&sink, vec![record(0, "a", Some("{}")), record(1, "a", None)]).await), "sd");
}

#[test]
fn a_name_that_the_topic_forbids_is_refused_before_anything_is_read() {
    let mock = Mock::start(1);
    mock.create_topic("Logins", 1);
    Sender::new(&mock.cluster(), &[]).send("Logins", &numbered(1, 0, 2, 1));
    let stub = holding(|_| json!({"found": false}));
    let kafka = format!("[local_kafka]\nservers = {}\ndefault_consumer_group_id = g\n", mock.cluster().servers);
    let profile = format!("{kafka}[elasticsearch]\nurl = {}\n", stub.url());
    let run = |index: &str| {
        Sdl::new(&format!("sink-es Logins --raw-value text --until-caught-up --dead-letters file:bad --index {index}"))
    };
    let refused = run("logs-{topic}").profile(&profile).run().expect(2);
    assert_eq!(
        refused.stderr,
        "error: cannot use `logs-{topic}` for topic `Logins`: the name of an index cannot have capitals\n\
         hint: use `logs-{topic:lower}`\n"
    );
    assert!(stub.requests().is_empty() && !refused.path("bad").exists());
    run("logs-{topic:lower}").profile(&profile).run().expect(0);
}

#[test]
fn a_server_that_rejects_a_third_of_all_writes_stores_each_document_once() {
    let kafka = Mock::start(1);
    kafka.create_topic("numbers", 2);
    Sender::new(&kafka.cluster(), &[]).send("numbers", &numbered(1, 0, 600, 2));
    let (asked, taken) = (AtomicUsize::new(0), Arc::new(std::sync::Mutex::new(Vec::new())));
    let stored = Arc::clone(&taken);
    let stub = HttpStub::search(move |request: &Request| {
        if !request.is_bulk() {
            return Reply::Text(404, "");
        }
        if asked.fetch_add(1, SeqCst) % 10 == 3 {
            return Reply::Json(429, json!({"error": {"type": "es_rejected_execution_exception", "reason": "r"}}));
        }
        let mut stored = stored.lock().unwrap();
        let item = |id: String| {
            if asked.fetch_add(1, SeqCst) % 3 == 0 {
                return (429, "rejected_execution_exception");
            }
            stored.push(id);
            (201, "")
        };
        Reply::Json(200, items(request.ids().into_iter().map(item).collect::<Vec<_>>()))
    });
    let profile = format!(
        "[local_kafka]\nservers = {}\ndefault_consumer_group_id = g\n[elasticsearch]\nurl = {}\n",
        kafka.faults().bootstrap_servers(),
        stub.url()
    );
    let line = "sink-es numbers --index numbers --raw-value text --until-caught-up --batch 200 --dead-letters file:bad -o json";
    let summary = Sdl::new(line).profile(&profile).deadline(Duration::from_secs(120)).run().expect(0).json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&json!(600), &json!(0)));
    let mut taken = taken.lock().unwrap().clone();
    taken.sort();
    assert_eq!(taken.len(), 600, "what was taken is not sent again");
    taken.dedup();
    assert_eq!(taken.len(), 600);
}

#[tokio::test]
async fn a_node_without_memory_for_a_request_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let stub = HttpStub::search(move |_| match counter.fetch_add(1, SeqCst) {
        0 | 1 => Reply::Json(429, json!({"error": {"type": "circuit_breaking_exception", "reason": "r"}})),
        _ => Reply::Json(200, json!({"count": 7})),
    });
    let client = ElasticClient::connect(&section(&[stub.url()]), Duration::from_secs(5)).await.unwrap();
    assert_eq!(client.count("numbers", "n", 1).await.unwrap(), 7);
    assert!(asked.load(SeqCst) >= 4, "it was refused twice");
}
