//! Connections that are lost, and servers that do not let us in.

use super::*;

#[tokio::test]
async fn a_document_that_makes_the_server_hang_up_is_found_while_others_pass() {
    let stub = peer(|command| {
        let is_poison = |document: &Document| document.get_i32("n").is_ok_and(|n| n == 3);
        if written(command).iter().any(is_poison) { Answer::Close } else { all_well(command) }
    });
    let sink = sink(&stub, offsets(), false).await;
    assert_eq!(words(&deliver(&sink, records(4)).await), "????");
    assert_eq!(words(&deliver(&sink, records(3)).await), "ddd");
    assert_eq!(words(&deliver(&sink, records(4).split_off(3)).await), "?");
}

#[tokio::test]
async fn a_connection_that_is_lost_in_an_outage_blames_nobody() {
    // Nothing can be written, although the server is there; or it is gone.
    for is_gone in [false, true] {
        let stub = MongoStub::start(move |command| match name(command) {
            "ping" => all_well(command),
            "find" => nothing(),
            _ if is_gone => Answer::Die,
            _ => Answer::Close,
        });
        assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(2)).await), "rr");
        assert!(stub.heard().contains(&"insert".to_owned()));
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_once_is_no_matter() {
    let lost = AtomicU32::new(0);
    let stub = peer(move |command| if lost.fetch_add(1, SeqCst) == 0 { Answer::Close } else { all_well(command) });
    assert_eq!(words(&deliver(&sink(&stub, offsets(), false).await, records(1)).await), "d");
}

#[tokio::test]
async fn a_server_that_cannot_be_written_to_is_known_before_the_run() {
    for (code, cause) in [(13, "may not"), (10107, "secondary"), (166, "view"), (100, "majority")] {
        let stub = MongoStub::start(move |command| if name(command) == "ping" { all_well(command) } else { failed(code) });
        let client = MongoClient::connect(&section(&stub.uri()), 4, Duration::from_secs(5)).await.unwrap();
        let naming = |name: &str, rule| Naming::new(name.parse().unwrap(), rule, 1).unwrap();
        let names = vec![naming("d", database_rule), naming("c", collection_rule)];
        let reading = Reading::new(offsets(), Version::Offset, Meta::default(), RawValues::Bad, None, names);
        let sink = MongoSink::new(client, reading, None, false).unwrap();
        let EndError::Failed(failure) = sink.check().await.unwrap_err() else { panic!("a failure") };
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
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let EndError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains("logging in"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_named() {
    let stub = MongoStub::start(all_well);
    let uri = stub.uri();
    drop(stub);
    let error = MongoClient::connect(&section(&uri), 4, Duration::from_millis(600)).await.unwrap_err();
    let EndError::Failed(failure) = error else { panic!("a failure") };
    assert!(failure.causes[0].contains(uri.trim_start_matches("mongodb://")), "{failure}");
}
