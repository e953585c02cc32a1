//! Refusals and immediate failures.

use std::time::Duration;

use serde_json::json;

use super::{FERRET, JAVA, Load};
use crate::harness::{Finished, Sdl, Sender, stack_env};

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_the_same_topic_of_another_cluster_is_refused_until_a_prefix_tells_them_apart() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "twin", 1);
        load.fake(500);
        load.catch_up("");
        load.clusters.target.create_topic(&load.topic, 1, &[]);
        Sender::new(&load.clusters.target, &[]).send_others(&load.topic, 700);
        let other = format!("--source other_kafka --until-caught-up --batch 100 --group {}", load.topic);
        let finished = load.sdl(&other).run().expect(5);
        for word in ["a record of another topic or cluster", "--id-prefix"] {
            assert!(finished.stderr.contains(word), "{server}: `{word}` is not in stderr:\n{}", finished.stderr);
        }
        let committed = load.clusters.target.committed(&load.topic, &load.topic);
        assert!(committed.iter().all(|offset| offset.is_none_or(|offset| offset == 0)), "{server}: {committed:?}");
        assert_eq!(load.count(), 500, "{server}: nothing is written");
        load.sdl(&format!("{other} --id-prefix eu:")).run().expect(0);
        let prefixed = load.python(&json!(null), "answer = collection.count_documents({'_id': {'$regex': '^eu:'}})");
        assert_eq!(prefixed, json!(700), "{server}");
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_collection_that_was_dropped_is_created_anew_with_a_warning_of_what_it_lacks() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "dropped", 1);
        load.fake(300);
        load.catch_up("");
        load.python(&json!(null), "collection.drop()");
        load.fake(10);
        let name = &load.topic;
        let warning =
            format!("collection `loads.{name}` does not exist, and the group has read 300 offsets that the topic still holds");
        for flags in ["--dry-run", "--until-caught-up -q"] {
            let finished = load.sdl(flags).run().expect(0);
            assert!(finished.stderr.contains(&warning), "{server}, {flags}: {}", finished.stderr);
        }
        assert_eq!(load.count(), 10, "{server}");
        load.catch_up("--from-beginning");
        assert_eq!(load.count(), 310, "{server}");
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_topic_created_again_is_refused() {
    let load = Load::new(JAVA, "again", 1);
    load.fake(300);
    load.catch_up("");
    load.clusters.source.delete_topic(&load.topic);
    load.clusters.source.create_topic(&load.topic, 1, &[]);
    Sender::new(&load.clusters.source, &[]).send_others(&load.topic, 300);
    for flags in ["--until-caught-up --from-beginning", "--until-caught-up --from-beginning --write replace"] {
        let finished = load.sdl(flags).run().expect(5);
        assert!(finished.stderr.contains("--id-prefix"), "{}", finished.stderr);
        assert_eq!(load.python(&json!(null), "answer = collection.count_documents({'other': {'$gte': 0}})"), json!(0));
    }
}

/// Returns a load and the host and port of its server.
fn secure(name: &str, settings: &[&str]) -> (Load, String, String) {
    let load = Load::own("mongo-java-secure", name, 1, settings);
    let address = load.uri.split("://").nth(1).unwrap().split(['/', '?']).next().unwrap().to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    load.fake(10);
    (load, host.to_owned(), port.to_owned())
}

/// Runs a load through its own section with more keys; it must end soon.
#[track_caller]
fn run(load: &Load, host: &str, port: &str, more: &str) -> Finished {
    let section = format!("[secure]\ntype = mongodb\nhost = {host}\nport = {port}\ndefault_database = loads\n{more}\n");
    let line = format!("sink-mongo {} --collection {} --target secure --group {0} --until-caught-up", load.topic, load.topic);
    let finished = Sdl::new(&line).profile(&format!("{}\n{section}", load.profile())).run();
    assert!(finished.took < Duration::from_secs(30), "{:?}\n{}", finished.took, finished.stderr);
    assert!(!finished.stderr.contains("canary"), "{}", finished.stderr);
    finished
}

#[track_caller]
fn assert_refused_with(finished: &Finished, words: &[&str]) {
    for word in words {
        assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_an_unusable_server_is_named_within_seconds() {
    let (load, host, port) = secure("tls", &[]);
    let tls = stack_env("SDL_TEST_TLS");
    let ca = format!("tls_ca_file = {tls}/ca.pem");
    assert_refused_with(&run(&load, &host, &port, "tls = true").expect(1), &["CA that is not trusted", "tls_ca_file", &port]);
    let wrong = format!("tls_ca_file = {tls}/stranger-ca.pem");
    assert_refused_with(&run(&load, &host, &port, &wrong).expect(1), &["CA that is not trusted", "tls_ca_file", &port]);
    assert_refused_with(&run(&load, &host, &port, "tls_ca_file = /no/such/file").expect(1), &["tls_ca_file"]);
    assert_refused_with(&run(&load, &host, &port, "").expect(1), &["set `tls = true`", &port]);
    run(&load, &host, &port, &ca).expect(0);
    assert_eq!(load.count(), 10);

    let plain = Load::new(JAVA, "plain", 1);
    plain.fake(10);
    let (_, address) = plain.uri.split_once("://").unwrap();
    let (host, port) = address.split_once(':').unwrap();
    assert_refused_with(&run(&plain, host, port, "tls = true").expect(1), &["no answer", "tls = false", port]);
    let unknown = "mongo.invalid";
    assert_refused_with(
        &run(&plain, unknown, "27017", "").expect(1),
        &["mongo.invalid:27017: looking up the name", "correct `host`"],
    );
    let lost = run(&plain, host, "1", "username = loader\npassword = canary").expect(1);
    assert_refused_with(&lost, &["127.0.0.1:1: connecting: connection refused", "start the server"]);
    // This server knows no users: it answers to a login as if the command did not exist.
    run(&plain, host, port, "username = loader\npassword = canary").expect(1);
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_certificate_that_is_expired_or_another_host_s_is_named_within_seconds() {
    let tls = stack_env("SDL_TEST_TLS");
    for (name, words) in [
        ("expired", ["has expired", "renew"]),
        ("early", ["is not valid yet", "correct this machine's clock"]),
        ("wrong-name", ["for another host name", "use the host name of the certificate in `host`"]),
    ] {
        let pair = [format!("tls.certificate={tls}/{name}.pem"), format!("tls.key={tls}/{name}.key")];
        let (load, host, port) = secure(name, &[&pair[0], &pair[1]]);
        let finished = run(&load, &host, &port, &format!("tls_ca_file = {tls}/ca.pem")).expect(1);
        assert_refused_with(&finished, &words);
    }
}
