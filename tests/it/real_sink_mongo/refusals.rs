//! What is refused, and what fails at once.

use std::time::Duration;

use serde_json::json;

use super::{FERRET, JAVA, Load};
use crate::harness::{Content, Sdl, Sender};

/// Sends records of another time to `topic` of a cluster.
fn send_others(cluster: &crate::harness::Cluster, topic: &str, count: i64) {
    let record = |n: i64| {
        let value = Some(format!("{{\"other\": {n}}}").into_bytes());
        (0, Content { timestamp: Some(1_600_000_000_000 + n), key: None, value, headers: Vec::new() })
    };
    Sender::new(cluster, &[]).send(topic, &(0..count).map(record).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_the_same_topic_of_another_cluster_is_refused_until_a_prefix_tells_them_apart() {
    for server in [FERRET, JAVA] {
        let load = Load::new(server, "twin", 1);
        load.fake(500);
        load.catch_up("");
        load.clusters.target.create_topic(&load.topic, 1, &[]);
        send_others(&load.clusters.target, &load.topic, 700);
        let other = format!("--source other_kafka --until-caught-up --batch 100 --group {}", load.topic);
        let finished = load.sdl(&other).run().expect(5);
        for word in ["another topic's or cluster's record", "--id-prefix"] {
            assert!(finished.stderr.contains(word), "{server}: `{word}` is not said:\n{}", finished.stderr);
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
fn real_sink_mongo_a_topic_created_again_is_refused() {
    let load = Load::new(JAVA, "again", 1);
    load.fake(300);
    load.catch_up("");
    load.clusters.source.delete_topic(&load.topic);
    load.clusters.source.create_topic(&load.topic, 1, &[]);
    send_others(&load.clusters.source, &load.topic, 300);
    for flags in ["--until-caught-up --from-beginning", "--until-caught-up --from-beginning --write replace"] {
        let finished = load.sdl(flags).run().expect(5);
        assert!(finished.stderr.contains("--id-prefix"), "{}", finished.stderr);
        assert_eq!(load.python(&json!(null), "answer = collection.count_documents({'other': {'$gte': 0}})"), json!(0));
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_certificate_that_is_not_trusted_is_named_within_seconds() {
    let uri = crate::harness::from_stack("SDL_TEST_MONGO_JAVA_SECURE");
    let address = uri.split("://").nth(1).unwrap().split(['/', '?']).next().unwrap().to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    let load = Load::new(JAVA, "tls", 1);
    load.fake(10);
    let run = |more: &str| {
        let section = format!("[secure]\ntype = mongodb\nhost = {host}\nport = {port}\ndefault_database = loads\n{more}\n");
        let line = format!("sink-mongo {} --collection {} --target secure --group {0} --until-caught-up", load.topic, load.topic);
        Sdl::new(&line).profile(&format!("{}\n{section}", load.profile())).run()
    };
    let failed = run("tls = true").expect(1);
    assert!(failed.stderr.contains("CA that is not trusted") && failed.stderr.contains("tls_ca_file"), "{}", failed.stderr);
    assert!(failed.took < Duration::from_secs(15), "{:?}", failed.took);
    let ca = format!("tls_ca_file = {}/ca.pem", crate::harness::from_stack("SDL_TEST_TLS"));
    run(&ca).expect(0);
    let plain = run("").expect(1);
    assert!(plain.took < Duration::from_secs(15), "{:?}\n{}", plain.took, plain.stderr);
}
