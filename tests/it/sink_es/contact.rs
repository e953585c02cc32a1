//! The first contact with a server, and the headers of every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use sdl::connectors::elastic::{ElasticClient, ElasticSink, ElasticSinkOptions};
use sdl::document::MetadataFields;
use sdl::pipeline::{ConnectorError, Sink};
use sdl::profile::{ElasticLogin, ElasticSection, Secret};
use serde_json::{Value, json};

use super::{reading, section, sink};
use crate::harness::{HttpStub, Reply, Request, created, deliver, offset_ids, outcome_codes, records};

#[tokio::test]
async fn an_unreachable_node_among_several_is_skipped() {
    let (first, second) = (HttpStub::search(|_| Reply::Hangup), HttpStub::search(created));
    let client = ElasticClient::connect(&section(&[first.url(), second.url()]), Duration::from_secs(5)).await.unwrap();
    let sink = ElasticSink::new(
        client,
        reading(offset_ids(), MetadataFields::default()),
        ElasticSinkOptions { in_flight: 1, ..ElasticSinkOptions::default() },
    )
    .unwrap();
    let mut outcomes = String::new();
    for _ in 0..6 {
        outcomes += &outcome_codes(&deliver(&sink, records(1)).await);
    }
    assert_eq!(outcomes.matches('u').count(), 1, "{outcomes}");
    assert_eq!(outcomes.matches('d').count(), 5, "{outcomes}");
}

#[tokio::test]
async fn a_node_that_is_another_kind_of_server_does_not_end_the_start() {
    let other = || HttpStub::start(|_| Reply::Text(200, "<html>welcome</html>"));
    let (bad, good) = (other(), HttpStub::search(created));
    for urls in [[bad.url(), good.url()], [good.url(), bad.url()]] {
        ElasticClient::connect(&section(&urls), Duration::from_secs(30)).await.unwrap();
    }
    let worse = other();
    let Err(ConnectorError::Failed(failure)) =
        ElasticClient::connect(&section(&[bad.url(), worse.url()]), Duration::from_secs(30)).await
    else {
        panic!("neither is a search server");
    };
    assert!(failure.to_string().contains("neither Elasticsearch nor OpenSearch"), "{failure}");
}

#[tokio::test]
async fn a_silent_node_or_a_gateway_without_its_server_does_not_end_the_start() {
    let silent = HttpStub::start(|_| Reply::Silence);
    let gateway = HttpStub::start(|_| Reply::Text(502, "<html>bad gateway</html>"));
    let good = HttpStub::search(created);
    for bad in [silent.url(), gateway.url()] {
        for urls in [[bad.clone(), good.url()], [good.url(), bad.clone()]] {
            ElasticClient::connect(&section(&urls), Duration::from_secs(8)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_idle_node_is_checked_before_a_large_request() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    let first = HttpStub::start(move |request| match request.path.as_str() {
        _ if silent.load(SeqCst) => Reply::Silence,
        "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
        _ if request.is_bulk() => Reply::Hangup,
        _ => created(request),
    });
    let second = HttpStub::search(created);
    let client = ElasticClient::connect(&section(&[first.url(), second.url()]), Duration::from_secs(5)).await.unwrap();
    let options = ElasticSinkOptions { in_flight: 1, ..ElasticSinkOptions::default() };
    let sink = ElasticSink::new(client, reading(offset_ids(), MetadataFields::default()), options).unwrap();
    let mut outcomes = String::new();
    while !outcomes.contains('u') {
        outcomes += &outcome_codes(&deliver(&sink, records(1)).await);
    }
    is_silent.store(true, SeqCst);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let started = std::time::Instant::now();
    for _ in 0..4 {
        assert_eq!(outcome_codes(&deliver(&sink, records(1)).await), "d");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn api_keys_and_bearer_tokens_are_sent_in_the_authorization_header() {
    for (login, header) in [
        (ElasticLogin::ApiKey(Secret::new("a2V5".to_owned())), "ApiKey a2V5"),
        (ElasticLogin::Bearer(Secret::new("t0k.en".to_owned())), "Bearer t0k.en"),
    ] {
        let stub = HttpStub::search(created);
        let section = ElasticSection { login, ..section(&[stub.url()]) };
        ElasticClient::connect(&section, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stub.requests()[0].headers["authorization"], header);
    }
}

#[tokio::test]
async fn settings_reach_the_server_and_secrets_only_their_header() {
    let stub = HttpStub::search(created);
    let mut section = section(&[stub.url()]);
    section.login = ElasticLogin::Basic { username: "loader".to_owned(), password: Secret::new("hunter2".to_owned()) };
    let client = ElasticClient::connect(&section, Duration::from_secs(5)).await.unwrap();
    let options = ElasticSinkOptions { pipeline: Some("a b&c".to_owned()), in_flight: 1, ..ElasticSinkOptions::default() };
    let sink = ElasticSink::new(client, reading(offset_ids(), MetadataFields::default()), options).unwrap();
    sink.check().await.unwrap();
    assert_eq!(outcome_codes(&deliver(&sink, records(1)).await), "d");
    for request in stub.requests() {
        assert_eq!(request.headers["authorization"], "Basic bG9hZGVyOmh1bnRlcjI=");
        assert_eq!(request.headers["accept-encoding"], "identity");
        assert!(!request.headers.contains_key("x-elastic-client-meta"));
    }
    let bulk = stub.requests().into_iter().find(Request::is_bulk).unwrap();
    assert!(bulk.path.starts_with("/logins/_bulk?filter_path="), "{}", bulk.path);
    assert!(bulk.path.ends_with("&pipeline=a+b%26c"), "{}", bulk.path);
    assert_eq!(bulk.headers["content-type"], "application/x-ndjson");
}

#[tokio::test]
async fn a_failed_first_contact_names_the_address_and_a_remedy() {
    let failure = |stub: &HttpStub, login: ElasticLogin, wait: Duration| {
        let section = ElasticSection { login, ..section(&[stub.url()]) };
        async move {
            match ElasticClient::connect(&section, wait).await {
                Err(ConnectorError::Failed(failure)) => (failure.to_string(), failure.hint.unwrap_or_default()),
                Err(refused) => panic!("refused: {refused}"),
                Ok(_) => panic!("connected"),
            }
        }
    };
    // A lasting cause is told at once, whatever the wait.
    let (long, short) = (Duration::from_secs(5), Duration::from_secs(1));
    let stub = HttpStub::start(|_| Reply::Json(401, json!({"error": {"type": "security_exception"}})));
    let login = ElasticLogin::Basic { username: "loader".to_owned(), password: Secret::new("hunter2".to_owned()) };
    let (what, hint) = failure(&stub, login, long).await;
    let url = stub.url();
    assert_eq!(what, format!("cannot connect to `elasticsearch`: {url}: logging in: authentication failed for `loader`"));
    assert_eq!(hint, "correct `username` or `password` under [elasticsearch]");
    let (what, hint) = failure(&stub, ElasticLogin::None, long).await;
    assert!(what.ends_with("logging in: the server requires a login"), "{what}");
    assert_eq!(hint, "set `username` and `password`, or `api_key`, under [elasticsearch]");

    let stub = HttpStub::start(|_| Reply::Text(404, "not here"));
    let (what, _) = failure(&stub, ElasticLogin::None, long).await;
    assert!(what.ends_with("the server is neither Elasticsearch nor OpenSearch"), "{what}");
    let stub = HttpStub::start(|_| Reply::Text(200, "<html>welcome</html>"));
    let (what, _) = failure(&stub, ElasticLogin::None, long).await;
    assert!(what.ends_with("the server is neither Elasticsearch nor OpenSearch"), "{what}");
    let stub = HttpStub::start(|_| Reply::Hangup);
    let (what, hint) = failure(&stub, ElasticLogin::None, short).await;
    assert!(what.ends_with("the server closed the connection"), "{what}");
    assert!(hint.contains("https://"), "{hint}");
    let stub = HttpStub::start(|_| Reply::Silence);
    let (what, _) = failure(&stub, ElasticLogin::None, Duration::from_millis(300)).await;
    assert!(what.ends_with("no answer within 300ms"), "{what}");
    let stub =
        HttpStub::start(|_| Reply::Json(503, json!({"error": {"type": "master_not_discovered_exception", "reason": "null"}})));
    let (what, _) = failure(&stub, ElasticLogin::None, short).await;
    assert!(what.contains("503"), "{what}");
    let gone = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let Err(ConnectorError::Failed(failure)) = ElasticClient::connect(&section(&[gone]), Duration::ZERO).await else {
        panic!("connected")
    };
    assert!(failure.to_string().ends_with("connecting: connection refused"), "{failure}");
}

#[tokio::test]
async fn a_check_writes_nothing_and_finds_obstacles_to_writing() {
    let check = |status: u16, error: Value| async move {
        let stub = HttpStub::start(move |request| match request.path.as_str() {
            "/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
            path if path.starts_with("/_nodes") => Reply::Json(200, json!({})),
            _ => Reply::Json(200, json!({"items": [{"index": {"status": status, "error": error}}]})),
        });
        let checked = sink(&stub).await.check().await.map_err(|error| error.to_string());
        let tried = stub.requests().into_iter().find(|request| request.path.contains("_bulk")).unwrap().actions();
        assert_eq!(tried[0].1["if_seq_no"], 9_007_199_254_740_991_i64);
        checked
    };
    let of = |kind: &str, reason: &str| json!({"type": kind, "reason": reason});
    assert_eq!(check(409, of("version_conflict_engine_exception", "")).await, Ok(()));
    assert_eq!(check(403, of("cluster_block_exception", "")).await, Ok(()), "a block passes");
    let denied = check(403, of("security_exception", "action is unauthorized for user [x]")).await.unwrap_err();
    assert_eq!(denied, "cannot write to `logins` of `elasticsearch`: action is unauthorized for user [x]");
    let missing = check(400, of("illegal_argument_exception", "pipeline with id [p] does not exist")).await.unwrap_err();
    assert!(missing.ends_with("pipeline with id [p] does not exist"), "{missing}");
}
