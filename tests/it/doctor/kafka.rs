//! The examination of Kafka clusters.

use super::{Steps, closed_port};
use crate::harness::{KafkaStub, Mock};
use crate::run::Folder;

const SKIPPED: [&str; 9] = [
    "login skipped",
    "versions skipped",
    "cluster skipped",
    "listeners skipped",
    "topics skipped",
    "rights skipped",
    "record_size skipped",
    "replicas skipped",
    "clock skipped",
];

#[test]
fn a_cluster_that_works_is_examined_to_the_end() {
    let mock = Mock::start(1);
    mock.create_topic("orders", 2);
    let servers = mock.cluster().servers;
    let profile =
        format!("[local_kafka]\nservers = {servers}\ndefault_consumer_topic = orders\ndefault_producer_topic = orders\n");
    let steps = Steps::of(&profile, "", 0);
    assert_eq!(
        steps.shown(),
        [
            "profile ok",
            "name ok",
            "tcp ok",
            "tls ok",
            "login ok",
            "versions ok",
            "cluster ok",
            "listeners ok",
            "topics ok",
            "rights skipped",
            "record_size skipped",
            "replicas ok",
            "clock skipped"
        ]
    );
    assert_eq!(steps.step("listeners"), [format!("ok reached broker 1 at {servers}")]);
    assert!(steps.step("topics").contains(&"ok `orders` has 2 partitions".to_owned()), "{:?}", steps.step("topics"));
}

#[test]
fn a_topic_name_that_the_commands_refuse_fails_its_step() {
    let mock = Mock::start(1);
    for key in ["default_consumer_topic", "default_producer_topic"] {
        let steps = Steps::of(&format!("[local_kafka]\nservers = {}\n{key} = eu/orders\n", mock.cluster().servers), "", 4);
        assert_eq!(
            steps.only("fail"),
            format!(
                "topics: `eu/orders` is not a valid topic name: correct `{key}` under [local_kafka]: use up to 249 letters, digits, \
                 dots, underscores and dashes"
            )
        );
    }
}

#[test]
fn a_name_that_does_not_resolve_and_a_closed_port_fail_their_steps() {
    let steps = Steps::of("[local_kafka]\nservers = broker.invalid\n", "", 4);
    assert_eq!(
        steps.only("fail"),
        "name: broker.invalid:9092: looking up the name: the name does not resolve: correct `servers` under [local_kafka]"
    );
    assert_eq!(steps.shown()[2..4], ["tcp skipped", "tls skipped"]);
    let server = closed_port();
    let steps = Steps::of(&format!("[local_kafka]\nservers = {server}\n"), "", 4);
    assert!(steps.only("fail").starts_with(&format!("tcp: {server}: connecting: connection refused: start the broker")));
    assert_eq!(steps.shown()[4..], SKIPPED);
}

#[test]
fn one_of_several_bootstrap_servers_is_enough() {
    let mock = Mock::start(1);
    let profile = format!("[local_kafka]\nservers = {},broker.invalid:9092,{}\n", closed_port(), mock.cluster().servers);
    let steps = Steps::of(&profile, "", 0);
    let warned = |name: &str| steps.step(name).iter().filter(|step| step.starts_with("warn ")).count();
    assert_eq!((warned("name"), warned("tcp")), (1, 1));
}

#[test]
fn a_refused_login_fails_the_login() {
    /// The error code of Kafka's protocol guide.
    const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    let broker = KafkaStub::refusing_logins(UNSUPPORTED_SASL_MECHANISM, &["SCRAM-SHA-512"]);
    let profile = format!("[local_kafka]\nservers = {}\nusername = u\npassword = canary\n", broker.servers());
    let steps = Steps::of(&profile, "", 4);
    assert_eq!(
        steps.only("fail"),
        format!(
            "login: {}: logging in: the broker does not offer PLAIN, but SCRAM-SHA-512: set `sasl_mechanism` under [local_kafka] to one of \
             SCRAM-SHA-512",
            broker.servers()
        )
    );
    assert_eq!(steps.shown()[3], "tls ok");
    assert_eq!(steps.shown()[5], "versions skipped");
}

#[test]
fn a_listener_that_advertises_a_name_that_does_not_resolve_is_named() {
    let broker = KafkaStub::advertising("kafka.invalid");
    let port = broker.servers().rsplit_once(':').unwrap().1.to_owned();
    let steps = Steps::of(&format!("[local_kafka]\nservers = {}\n", broker.servers()), "", 4);
    assert_eq!(
        steps.step("listeners"),
        [format!(
            "fail bootstrap answers, but broker 1 advertises kafka.invalid:{port}, and that name does not resolve here: set its \
             advertised.listeners, or run sdl where it resolves"
        )]
    );
    // The stub answers few requests.
    assert!(
        steps.step("versions")[0].starts_with("fail the brokers have no idempotent producers"),
        "{:?}",
        steps.step("versions")
    );
    assert_eq!(steps.step("cluster"), ["ok stub-cluster"]);
    assert_eq!(steps.shown().last().map(String::as_str), Some("clock skipped"));
}

#[test]
fn a_topic_that_does_not_exist_and_another_cluster_fail() {
    let mock = Mock::start(1);
    let servers = mock.cluster().servers;
    let profile = format!("[local_kafka]\nservers = {servers}\ndefault_consumer_topic = missing\n");
    let steps = Steps::of(&profile, "", 4);
    assert_eq!(
        steps.only("fail"),
        "topics: topic `missing` does not exist: correct `default_consumer_topic` under [local_kafka], or create the topic"
    );
    let steps = Steps::of(&format!("[local_kafka]\nservers = {servers}\ncluster_id = other\n"), "", 4);
    assert!(steps.only("fail").starts_with("cluster: `local_kafka` is not the cluster of the profile's `cluster_id`"));
}

#[test]
fn a_round_trip_needs_a_confirmation_where_the_profile_protects_the_cluster() {
    for (protect, stderr) in [
        ("readonly", "error: `local_kafka` is read-only (protect = readonly)\n  this would write a record to topic sdl-doctor-"),
        ("confirm", "error: `local_kafka` requires confirmation (protect = confirm), and there is no terminal\n"),
    ] {
        let profile = format!("[local_kafka]\nservers = {}\nprotect = {protect}\n", closed_port());
        let ended = Folder::with_profile(&profile).run("doctor --roundtrip");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(5), ""));
        assert!(ended.stderr.starts_with(stderr), "{}", ended.stderr);
        assert!(!ended.stderr.contains("--target"), "the command has no such flag: {}", ended.stderr);
    }
}

#[test]
fn embedded_brokers_create_no_topic_for_a_round_trip() {
    let mock = Mock::start(1);
    let steps = Steps::of(&format!("[local_kafka]\nservers = {}\n", mock.cluster().servers), "--roundtrip", 4);
    assert!(steps.only("fail").starts_with("roundtrip: cannot create topic `sdl-doctor-"), "{}", steps.only("fail"));
}
