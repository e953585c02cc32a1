//! Clusters with authentication and TLS.

use std::time::Duration;

use crate::harness::{Cluster, Sdl, Sender, assert_same, numbered, read, stack, stack_env, unique};

/// Returns the lines of a section for a listener of the secured cluster.
fn section(name: &str, listener: &str, lines: &str) -> String {
    format!("[{name}]\nservers = {}\n{lines}\n", stack_env(&format!("SDL_TEST_KAFKA_{listener}")))
}

fn login(mechanism: &str) -> String {
    let (user, password) = (stack_env("SDL_TEST_USERNAME"), stack_env("SDL_TEST_PASSWORD"));
    format!("username = {user}\npassword = {password}\nsasl_mechanism = {mechanism}")
}

fn file(name: &str) -> String {
    format!("{}/{name}", stack_env("SDL_TEST_TLS"))
}

/// The ways to log in that must work: listener, section lines.
fn ways() -> Vec<(&'static str, String)> {
    let mut ways = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        ways.push(("SASL_PLAINTEXT", format!("security_protocol = SASL_PLAINTEXT\n{}", login(mechanism))));
        let ca = file("ca.pem");
        ways.push(("SASL_SSL", format!("security_protocol = SASL_SSL\nssl_ca_location = {ca}\n{}", login(mechanism))));
    }
    ways.push((
        "SSL",
        format!(
            "security_protocol = SSL\nssl_ca_location = {}\nssl_certificate_location = {}\nssl_key_location = {}",
            file("ca.pem"),
            file("client.pem"),
            file("client.key")
        ),
    ));
    ways
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_each_login_mechanism_reads_and_writes() {
    let plain = Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT"));
    let topic = unique("secured");
    plain.create_topic(&topic, 2, &[]);
    let mut sent = numbered(1, 0, 200, 2);
    Sender::new(&plain, &[]).send(&topic, &sent);
    sent.sort_by_key(|(partition, _)| *partition);
    for (index, (listener, lines)) in ways().into_iter().enumerate() {
        let target = format!("{topic}-{index}");
        let profile = format!("{}\n{}", section("remote_kafka", listener, &lines), section("local_kafka", listener, &lines));
        let finished = Sdl::new(&format!("replicate {topic} --to-topic {target} --group {target} --until-caught-up"))
            .profile(&profile)
            .run();
        let finished = finished.expect(0);
        assert!(!finished.stderr.contains(&stack_env("SDL_TEST_PASSWORD")), "{}", finished.stderr);
        assert_same(&sent, &read(&plain, &target));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_wrong_login_fails_in_time_names_the_cause_and_leaks_nothing() {
    let ca = file("ca.pem");
    let wrong = login("PLAIN").replace(&stack_env("SDL_TEST_PASSWORD"), "wrong-canary");
    let cases = [
        ("wrong password", "SASL_PLAINTEXT", format!("security_protocol = SASL_PLAINTEXT\n{wrong}")),
        (
            "unknown authority",
            "SASL_SSL",
            format!("security_protocol = SASL_SSL\nssl_ca_location = {}\n{}", file("stranger-ca.pem"), login("PLAIN")),
        ),
        ("no client certificate", "SSL", format!("security_protocol = SSL\nssl_ca_location = {ca}")),
        ("certificate of another name", "WRONG_NAME", format!("security_protocol = SSL\nssl_ca_location = {ca}")),
        ("expired certificate", "EXPIRED", format!("security_protocol = SSL\nssl_ca_location = {ca}")),
        ("plain client, TLS port", "SSL", String::new()),
        ("TLS client, plain port", "PLAINTEXT", format!("security_protocol = SSL\nssl_ca_location = {ca}")),
        ("login, port without one", "PLAINTEXT", format!("security_protocol = SASL_PLAINTEXT\n{}", login("PLAIN"))),
    ];
    for (case, listener, lines) in cases {
        let good = section("local_kafka", "PLAINTEXT", "");
        let profile = format!("{}\n{good}", section("remote_kafka", listener, &lines));
        let finished = Sdl::new("replicate any --until-caught-up").profile(&profile).deadline(Duration::from_secs(30)).run();
        let (output, took) = (finished.stderr.clone(), finished.took);
        assert_eq!(finished.code(), Some(1), "{case}:\n{output}");
        assert!(took < Duration::from_secs(25), "{case}: {took:?}");
        assert_eq!(output.matches("error: ").count(), 1, "{case}: one clear error:\n{output}");
        assert!(output.contains("remote_kafka") && output.contains("hint: "), "{case}:\n{output}");
        assert!(!output.contains("wrong-canary") && !output.contains(&stack_env("SDL_TEST_PASSWORD")), "{case}:\n{output}");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_settings_that_may_not_be_read_are_named_before_anything_is_created() {
    let plain = Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT"));
    let (topic, target) = (unique("withheld"), unique("withheld-copy"));
    plain.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    let sent = numbered(1, 0, 20, 1);
    Sender::new(&plain, &[]).send(&topic, &sent);
    // Read includes Describe, and not DescribeConfigs.
    let user = format!("User:{}", stack_env("SDL_TEST_USERNAME"));
    let add = ["tool", "acls", "--bootstrap-server", &plain.servers, "--add"];
    stack(&[&add[..], &["--allow-principal", &user, "--operation", "Read", "--topic", &topic]].concat());
    let lines = format!("security_protocol = SASL_PLAINTEXT\n{}", login("SCRAM-SHA-256"));
    let sections = ["remote_kafka", "local_kafka"].map(|name| section(name, "SASL_PLAINTEXT", &lines));
    let named = format!(
        "{topic}: not allowed to read its settings (DESCRIBE_CONFIGS on the topic of `remote_kafka`): {target} gets the defaults of \
         `local_kafka`"
    );
    for flags in ["--dry-run", "--until-caught-up"] {
        let line = format!("replicate {topic} --to-topic {target} --group {target} {flags}");
        let finished = Sdl::new(&line).profile(&sections.join("\n")).run().expect(0);
        assert!(finished.stderr.contains(&named), "{}", finished.stderr);
    }
    assert_same(&sent, &read(&plain, &target));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_unknown_or_closed_address_fails_in_time() {
    let good = section("local_kafka", "PLAINTEXT", "");
    for servers in ["no-such-host.invalid:9092", "127.0.0.1:1"] {
        let profile = format!("[remote_kafka]\nservers = {servers}\n\n{good}");
        let finished =
            Sdl::new("replicate any --until-caught-up").profile(&profile).deadline(Duration::from_secs(30)).run().expect(1);
        let host = servers.split(':').next().expect("a host");
        assert!(finished.stderr.contains(host) && finished.stderr.contains("hint: "), "{}", finished.stderr);
        assert!(finished.took < Duration::from_secs(25), "{:?}", finished.took);
    }
}
