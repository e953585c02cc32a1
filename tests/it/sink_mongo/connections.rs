//! Connections that are lost, and servers that do not let us in.

use serde_json::json;

use super::*;
use crate::harness::{Mock, Sdl, Sender, numbered};

#[tokio::test]
async fn a_lost_connection_proves_nothing_about_any_document() {
    // The server closes the connection, or is gone.
    for is_gone in [false, true] {
        let stub = MongoStub::start(move |command| match name(command) {
            "ping" => all_well(command),
            "find" => nothing(),
            _ if is_gone => Answer::Die,
            _ => Answer::Close,
        });
        let sink = sink(&stub, offset_ids(), false).await;
        assert_eq!(outcome_codes(&deliver(&sink, records(2)).await), "uu");
        assert_eq!(stub.received().iter().filter(|command| *command == "insert").count(), 1, "the engine sends again");
    }
}

#[test]
fn a_document_that_closes_the_connection_is_found_while_others_pass() {
    let kafka = Mock::start(1);
    kafka.create_topic("numbers", 1);
    let mut sent = numbered(1, 0, 20, 1);
    sent[7].1.value = Some(b"{\"poison\": 1}".to_vec());
    Sender::new(&kafka.cluster(), &[]).send("numbers", &sent);
    let stub = peer(|command| {
        let is_poison = name(command) == "insert" && written(command).iter().any(|document| document.contains_key("poison"));
        match name(command) {
            "find" => nothing(),
            _ if is_poison => Answer::Close,
            _ => all_well(command),
        }
    });
    let profile = format!(
        "[local_kafka]\nservers = {}\ndefault_consumer_group_id = g\n[mongodb]\nuri = {}\n",
        kafka.faults().bootstrap_servers(),
        stub.uri()
    );
    let run = Sdl::new(
        "sink-mongo numbers --database d --collection c --raw-value text --until-caught-up --dead-letters file:bad -o json",
    );
    // A verdict takes a minute.
    let finished = run.profile(&profile).deadline(Duration::from_secs(240)).run().expect(3);
    let summary = finished.json();
    assert_eq!((&summary["read"], &summary["delivered"], &summary["dead_lettered"]), (&json!(20), &json!(19), &json!(1)));
    assert!(std::fs::read_to_string(finished.path("bad")).unwrap().contains("poison"));
}

#[tokio::test]
async fn missing_answers_do_not_delay_a_server_that_is_back() {
    let silent = AtomicU32::new(0);
    let stub = peer(move |command| if silent.fetch_add(1, SeqCst) < 8 { Answer::Silence } else { all_well(command) });
    let client = MongoClient::connect(&section(&stub.uri()), 1, Duration::from_secs(5)).await.unwrap();
    let client = client.within(Duration::from_millis(1_500));
    let sink = MongoSink::new(client, reading(offset_ids(), MetadataFields::default()), None, false).unwrap();
    for _ in 0..8 {
        assert_eq!(outcome_codes(&deliver(&sink, records(1)).await), "u");
    }
    assert_eq!(outcome_codes(&deliver(&sink, records(1)).await), "d");
}

#[tokio::test]
async fn a_server_that_rejects_logins_while_it_shuts_down_is_waited_for() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let stub = MongoStub::start(move |command| match name(command) {
        "saslStart" => {
            counted.fetch_add(1, SeqCst);
            failed(91)
        }
        _ => all_well(command),
    });
    let uri = stub.uri().replace("mongodb://", "mongodb://loader:canary@");
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_secs(3)).await.unwrap_err();
    assert!(asked.load(SeqCst) > 1, "it is tried again");
    let ConnectorError::Failed(failure) = error else { panic!("a failure") };
    assert!(!failure.to_string().contains("password"), "{failure}");
}

#[tokio::test]
async fn a_read_only_server_is_detected_before_the_run() {
    for (code, cause) in [(13, "requires a login"), (10107, "secondary"), (166, "view"), (100, "majority")] {
        let stub = MongoStub::start(move |command| if name(command) == "ping" { all_well(command) } else { failed(code) });
        let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
        let naming = |name: &str, rule| NameTemplate::new(name.parse().unwrap(), rule, 1).unwrap();
        let names = vec![naming("d", database_rule), naming("c", collection_rule)];
        let reading = DocumentMapper::new(offset_ids(), Version::Offset, MetadataFields::default(), RawValues::Bad, None, names);
        let sink = MongoSink::new(client, reading, None, false).unwrap();
        let ConnectorError::Failed(failure) = sink.check().await.unwrap_err() else { panic!("a failure") };
        assert_eq!(failure.what, "cannot write to `d.c` of `mongodb`");
        assert!(failure.causes[0].contains(cause), "{failure}");
        assert!(failure.hint.is_some());
    }
}

#[tokio::test]
async fn a_wrong_password_stops_at_once_and_is_not_shown() {
    let stub = MongoStub::start(|command| match name(command) {
        "saslStart" => failed(18),
        _ => all_well(command),
    });
    let uri = stub.uri().replace("mongodb://", "mongodb://loader:canary@");
    let begun = std::time::Instant::now();
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_secs(60)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let ConnectorError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains("logging in"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn an_unreachable_server_is_waited_for_and_named() {
    let stub = MongoStub::start(all_well);
    let uri = stub.uri();
    drop(stub);
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_millis(600)).await.unwrap_err();
    let ConnectorError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains(uri.trim_start_matches("mongodb://")), "{failure}");
}

#[tokio::test]
async fn a_refused_connection_is_named_within_a_short_wait() {
    let refused = MongoClient::connect(&section("mongodb://127.0.0.1:1"), 1, Duration::from_secs(1)).await.unwrap_err();
    assert!(refused.to_string().ends_with("127.0.0.1:1: connecting: connection refused"), "{refused}");
}
