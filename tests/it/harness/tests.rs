//! The tools agree with each other, on the embedded cluster and on a real one.

use super::*;

fn placed(contents: Vec<Content>) -> Vec<(i32, Content)> {
    contents.into_iter().map(|content| (0, content)).collect()
}

#[test]
fn the_mock_cluster_returns_the_sent_records() {
    let mock = Mock::start(1);
    mock.create_topic("awkward", 2);
    let cluster = mock.cluster();
    Sender::new(&cluster, &[]).send("awkward", &placed(edge_cases()));
    assert_same(&placed(edge_cases()), &read(&cluster, "awkward"));
    assert_eq!(cluster.offsets("awkward"), [(0, 64), (0, 0)]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_both_readers_read_the_sent_records_for_each_codec() {
    let clusters = Clusters::shared();
    let topic = unique("readers");
    clusters.source.create_topic(&topic, 1, &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        Sender::new(&clusters.source, &[("compression.type", codec)]).send(&topic, &placed(edge_cases()));
    }
    let sent: Vec<_> = std::iter::repeat_n(placed(edge_cases()), 5).flatten().collect();
    assert_same(&sent, &read(&clusters.source, &topic));
    assert_same(&sent, &read_with_kcat(&clusters.source, &topic));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aborted_records_are_not_read_and_the_group_tool_shows_a_commit() {
    let clusters = Clusters::shared();
    let topic = unique("aborted");
    clusters.source.create_topic(&topic, 1, &[]);
    let sent = numbered(1, 0, 30, 1);
    let sender = Sender::transactional(&clusters.source, &topic);
    sender.transaction(&topic, &sent[..10], true);
    sender.transaction(&topic, &sent[10..20], false);
    sender.transaction(&topic, &sent[20..], true);
    let seen = read_with_kcat(&clusters.source, &topic);
    assert_eq!(seen, read(&clusters.source, &topic));
    let verdict = check(&sent, &seen);
    assert_eq!(verdict, CheckReport { lost: 10, ..CheckReport::default() });
    assert_eq!(clusters.source.offsets(&topic), [(0, 33)], "three markers");
    clusters.source.commit(&topic, &topic, 0, 21, "a note");
    assert_eq!(clusters.source.commit_metadata(&topic, &topic, 0), "a note");
    let line =
        GroupLine { topic: topic.clone(), partition: 0, committed: Some(21), end: 33, lag: Some(12), host: None, client: None };
    assert_eq!(clusters.source.group(&topic), [line]);
    assert_eq!(clusters.source.committed(&topic, &topic), [Some(21)]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_idempotent_producer_writes_each_record_once_after_a_dropped_response() {
    let clusters = Clusters::shared();
    let topic = unique("proxied");
    clusters.target.create_topic(&topic, 1, &[]);
    let proxy = Proxy::before(&clusters.target);
    let sent = numbered(1, 0, 1000, 1);
    let sender = Sender::new(&clusters.target.through_proxy(), &[]);
    sender.send(&topic, &sent[..500]);
    proxy.drop_next_response(fault_proxy::PRODUCE);
    sender.send(&topic, &sent[500..]);
    assert_eq!(proxy.faults_applied(), 1);
    let verdict = check(&sent, &read_with_kcat(&clusters.target, &topic));
    assert!(verdict.is_exact(), "{verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_secured_cluster_accepts_each_login_mechanism() {
    let (patient, brief) = (Duration::from_secs(30), Duration::from_secs(2));
    let secure = |listener: &str, protocol: &str, settings: &[(&str, &str)], patience: Duration| {
        let mut config = Cluster::at(&cluster::stack_env(&format!("SDL_TEST_KAFKA_{listener}"))).client();
        config.set("security.protocol", protocol).set("ssl.ca.location", tls("ca.pem"));
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let client: rdkafka::consumer::BaseConsumer = config.create().unwrap();
        rdkafka::consumer::Consumer::fetch_metadata(&client, None, patience).is_ok()
    };
    let (user, password) = (cluster::stack_env("SDL_TEST_USERNAME"), cluster::stack_env("SDL_TEST_PASSWORD"));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
            let login = |password: &str, patience| {
                let settings = [("sasl.mechanism", mechanism), ("sasl.username", &*user), ("sasl.password", password)];
                secure(protocol, protocol, &settings, patience)
            };
            assert!(login(&password, patient), "{mechanism} on {protocol}");
            assert!(!login("wrong", brief), "{mechanism} on {protocol}: a wrong password");
        }
    }
    let client = |name: &str, patience| {
        let (certificate, key) = (tls(&format!("{name}.pem")), tls(&format!("{name}.key")));
        secure("SSL", "SSL", &[("ssl.certificate.location", &*certificate), ("ssl.key.location", &*key)], patience)
    };
    assert!(client("client", patient));
    assert!(!client("stranger", brief));
    for listener in ["SSL", "WRONG_NAME", "EXPIRED"] {
        assert!(!secure(listener, "SSL", &[], brief), "{listener}");
    }
}

fn tls(name: &str) -> String {
    format!("{}/{name}", cluster::stack_env("SDL_TEST_TLS"))
}
