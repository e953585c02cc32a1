//! `sdl doctor` on real Kafka.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, Dice, Sdl, eventually, stack, stack_env, unique};

/// Returns the lines of a section for a listener of the secured cluster.
fn section(listener: &str, lines: &str) -> String {
    format!("[local_kafka]\nservers = {}\n{lines}\n", stack_env(&format!("SDL_TEST_KAFKA_{listener}")))
}

fn login(password: &str) -> String {
    let user = stack_env("SDL_TEST_USERNAME");
    format!("security_protocol = SASL_PLAINTEXT\nsasl_mechanism = SCRAM-SHA-512\nusername = {user}\npassword = {password}\n")
}

/// Runs the examination; returns the steps that have this status, as `name: finding`.
#[track_caller]
fn examine(profile: &str, arguments: &str, code: i32, status: &str) -> Vec<String> {
    let finished = Sdl::new(&format!("doctor -o json {arguments}")).profile(profile).run().expect(code);
    let document = finished.json();
    let steps = document["steps"].as_array().expect("a list of steps").clone();
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let chosen = steps.iter().filter(|step| step["status"] == status);
    chosen.map(|step| format!("{}: {}", text(step, "step"), text(step, "finding"))).collect()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_wrong_password_and_wrong_certificates_fail_their_steps() {
    let failed = examine(&section("SASL_PLAINTEXT", &login("wrong-canary")), "", 4, "fail");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].starts_with("login: ") && failed[0].contains("authentication failed for `loader` (SCRAM-SHA-512)"),
        "{failed:?}"
    );
    let ca = format!("security_protocol = SSL\nssl_ca_location = {}/ca.pem", stack_env("SDL_TEST_TLS"));
    for (listener, cause) in [
        ("EXPIRED", "the broker's certificate has expired"),
        ("WRONG_NAME", "the broker's certificate is for another host name"),
        ("SSL", "the broker requires a client certificate"),
    ] {
        let failed = examine(&section(listener, &ca), "", 4, "fail");
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with("tls: ") && failed[0].ends_with(cause), "{failed:?}");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_may_not_be_written_is_named_and_nothing_is_written() {
    let plain = Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT"));
    let topic = unique("readable");
    plain.create_topic(&topic, 1, &[]);
    let user = format!("User:{}", stack_env("SDL_TEST_USERNAME"));
    let add = ["tool", "acls", "--bootstrap-server", &plain.servers, "--add"];
    stack(&[&add[..], &["--allow-principal", &user, "--operation", "Read", "--topic", &topic]].concat());
    let keys = format!(
        "{}default_consumer_topic = {topic}\ndefault_producer_topic = {topic}\ndefault_consumer_group_id = {topic}\n",
        login(&stack_env("SDL_TEST_PASSWORD"))
    );
    let profile = section("SASL_PLAINTEXT", &keys);
    assert_eq!(examine(&profile, "", 4, "fail"), [format!("rights: not allowed to write to topic `{topic}`")]);
    let ok = examine(&profile, "", 4, "ok");
    for right in [format!("may read topic `{topic}`"), format!("may use group `{topic}`")] {
        assert!(ok.contains(&format!("rights: {right}")), "{ok:?}");
    }
    let id = format!("transactional id `sdl-aggregate-{topic}`");
    assert!(!ok.iter().any(|step| step.contains(&id)), "only a round trip asks for it: {ok:?}");
    let ok = examine(&profile, "--roundtrip", 4, "ok");
    assert!(ok.contains(&format!("rights: may use {id}")), "{ok:?}");
    assert_eq!(plain.count(&topic), 0, "nothing is written");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_round_trip_leaves_no_topic_behind() {
    let profile = section("PLAINTEXT", "");
    let ok = examine(&profile, "--roundtrip", 0, "ok");
    let trip = ok.iter().find(|step| step.starts_with("roundtrip: ")).unwrap_or_else(|| panic!("{ok:?}"));
    assert!(trip.ends_with("the topic is deleted again"), "{trip}");
    assert!(ok.iter().any(|step| step.starts_with("clock: that of the broker differs by ")), "{ok:?}");
    let topic = trip.split('`').nth(1).expect("the topic is named");
    assert_eq!(Cluster::at(&stack_env("SDL_TEST_KAFKA_PLAINTEXT")).partitions(topic), 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_interrupted_round_trip_leaves_no_topic_behind() {
    let (profile, mut dice) = (section("PLAINTEXT", ""), Dice::of_environment());
    for number in 0..6 {
        let mut running = Sdl::new("doctor --roundtrip").profile(&profile).start();
        std::thread::sleep(Duration::from_millis(dice.between(100, 1_600)));
        if running.is_running() {
            running.signal(if number % 2 == 0 { "INT" } else { "TERM" });
        }
        let finished = running.wait();
        // Before it listens, a signal ends it at once.
        assert!(matches!(finished.code(), Some(0 | 130) | None), "{:?}: {}", finished.code(), finished.stderr);
        assert!(!finished.stderr.contains("left behind"), "{}", finished.stderr);
    }
    // Those of other tests are gone soon, too.
    eventually("no topic of a round trip is left", Duration::from_secs(30), || {
        let listed = Sdl::new("topics --source local_kafka --all -o json").profile(&profile).run().expect(0);
        (!String::from_utf8_lossy(&listed.stdout).contains("sdl-doctor-")).then_some(())
    });
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_listener_that_advertises_a_name_that_does_not_resolve_is_named() {
    let servers = stack_env("SDL_TEST_KAFKA3_UNRESOLVED");
    let failed = examine(&format!("[local_kafka]\nservers = {servers}\n"), "", 4, "fail");
    assert_eq!(failed.len(), 1, "{failed:?}");
    let begin = "listeners: bootstrap answers, but broker 3 advertises kafka3-3.invalid:";
    assert!(failed[0].starts_with(begin) && failed[0].ends_with(", and that name does not resolve here"), "{failed:?}");
}
