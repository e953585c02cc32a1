//! A secured cluster: every supported login, and the errors of rejected ones.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{TlsStub, stack_env, unique};
use crate::run::{Ended, Folder};

/// Every rejected login is reported within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// A wrong password, which must never be printed.
const CANARY: &str = "canary7f3a";

/// Runs a small load into the listener with these keys in its section.
fn load(listener: &str, keys: &str) -> Ended {
    let servers = stack_env(&format!("SDL_TEST_KAFKA_{listener}"));
    load_into(&servers, keys)
}

fn load_into(servers: &str, keys: &str) -> Ended {
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = {servers}\n{keys}"));
    let started = Instant::now();
    let ended = folder.run(&format!("produce-fake {} --create 1:1 -n 100", unique("secured")));
    assert!(started.elapsed() < TOLD_WITHIN, "it took {:?}", started.elapsed());
    for secret in [CANARY, stack_env("SDL_TEST_PASSWORD").as_str()] {
        assert!(!ended.stderr.contains(secret) && !ended.stdout.contains(secret), "{ended:?}");
    }
    ended
}

#[track_caller]
fn works(listener: &str, keys: &str) {
    let ended = load(listener, keys);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Expects exit 1 and exactly one error: the cause after the server's name, and the hint.
#[track_caller]
fn fails(listener: &str, keys: &str, cause: &str, hint: &str) {
    fails_at(&stack_env(&format!("SDL_TEST_KAFKA_{listener}")), keys, cause, hint);
}

/// Expects the same of the server at this address.
#[track_caller]
fn fails_at(server: &str, keys: &str, cause: &str, hint: &str) {
    let ended = load_into(server, keys);
    let expected = format!("error: cannot connect to `local_kafka`\n  caused by: {server}: {cause}\nhint: {hint}\n");
    assert_eq!((ended.stderr.as_str(), ended.code), (expected.as_str(), Some(1)));
}

fn tls(name: &str) -> String {
    format!("{}/{name}", stack_env("SDL_TEST_TLS"))
}

/// Returns the keys of a login.
fn login(protocol: &str, mechanism: &str, password: &str) -> String {
    let user = stack_env("SDL_TEST_USERNAME");
    // Without TLS the file would be ignored, with a warning.
    let trusted = if protocol.ends_with("SSL") { trust("ca") } else { String::new() };
    format!("security_protocol = {protocol}\nsasl_mechanism = {mechanism}\nusername = {user}\npassword = {password}\n{trusted}")
}

fn trust(authority: &str) -> String {
    format!("ssl_ca_location = {}\n", tls(&format!("{authority}.pem")))
}

fn certificate(name: &str) -> String {
    let (certificate, key) = (tls(&format!("{name}.pem")), tls(&format!("{name}.key")));
    format!("security_protocol = SSL\n{}ssl_certificate_location = {certificate}\nssl_key_location = {key}\n", trust("ca"))
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_every_mechanism_logs_in_with_and_without_tls() {
    let password = stack_env("SDL_TEST_PASSWORD");
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            works(protocol, &login(protocol, mechanism, &password));
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_user_without_a_protocol_logs_in_with_sasl_plaintext() {
    let (user, password) = (stack_env("SDL_TEST_USERNAME"), stack_env("SDL_TEST_PASSWORD"));
    works("SASL_PLAINTEXT", &format!("username = {user}\npassword = {password}\n"));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_client_certificate_is_presented() {
    works("SSL", &certificate("client"));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_client_certificate_is_presented_with_its_intermediate_ca() {
    works("SSL", &certificate("deep"));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_client_key_in_each_form_of_pem_is_read() {
    let (folder, key) = (tempfile::tempdir().unwrap(), tls("client.key"));
    for (name, form) in [
        ("pkcs1", "rsa -traditional".to_owned()),
        ("pkcs8", "pkcs8 -topk8 -nocrypt".to_owned()),
        ("pkcs1-encrypted", format!("rsa -traditional -aes128 -passout pass:{CANARY}")),
        ("pkcs8-encrypted", format!("pkcs8 -topk8 -v2 aes-256-cbc -passout pass:{CANARY}")),
    ] {
        let file = folder.path().join(name).display().to_string();
        let made = Command::new("openssl").args(form.split(' ')).args(["-in", &key, "-out", &file]).output();
        assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{name}: {made:?}");
        works("SSL", &format!("{}ssl_key_password = {CANARY}\n", certificate("client").replace(&key, &file)));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_wrong_password_is_named() {
    for (protocol, mechanism) in [("SASL_PLAINTEXT", "PLAIN"), ("SASL_PLAINTEXT", "SCRAM-SHA-256"), ("SASL_SSL", "SCRAM-SHA-512")]
    {
        let cause = format!("logging in: authentication failed for `loader` ({mechanism})");
        let hint = "correct `username`, `password` or `sasl_mechanism` under [local_kafka]";
        fails(protocol, &login(protocol, mechanism, CANARY), &cause, hint);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_invalid_certificate_is_named() {
    let ssl = |authority: &str| format!("security_protocol = SSL\n{}", trust(authority));
    let unknown = (
        "TLS handshake: the broker's certificate is signed by a CA that is not trusted here",
        "set `ssl_ca_location` under [local_kafka] to the file of the broker's CA",
    );
    fails("SSL", &ssl("stranger-ca"), unknown.0, unknown.1);
    // The CAs of this machine do not know the test's either.
    fails("SSL", "security_protocol = SSL\n", unknown.0, unknown.1);
    let hint = "use the host name of the certificate in `servers` under [local_kafka]";
    fails("WRONG_NAME", &ssl("ca"), "TLS handshake: the broker's certificate is for another host name", hint);
    let hint = "renew the certificate of the broker, or correct this machine's clock";
    fails("EXPIRED", &ssl("ca"), "TLS handshake: the broker's certificate has expired", hint);
    let (early, hint) = (TlsStub::start("early", false), "correct this machine's clock, or the certificate of the broker");
    let server = early.url().replace("https://", "");
    fails_at(&server, &ssl("ca"), "TLS handshake: the broker's certificate is not valid yet", hint);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_examination_of_many_sections_finds_why_each_certificate_is_not_valid() {
    let servers = stack_env("SDL_TEST_KAFKA_EXPIRED");
    let section = |number: u32| format!("[kafka_{number}]\nservers = {servers}\nsecurity_protocol = SSL\n{}", trust("ca"));
    let ended = Folder::with_profile(&(0..12).map(section).collect::<String>()).run("doctor");
    let expired = "the broker's certificate has expired: renew the certificate of the broker, or correct this machine's clock\n";
    assert_eq!((ended.stdout.matches(expired).count(), ended.code), (12, Some(4)), "{}", ended.stdout);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_missing_or_untrusted_client_certificate_is_named() {
    let none = format!("security_protocol = SSL\n{}", trust("ca"));
    let hint = "set `ssl_certificate_location` and `ssl_key_location` under [local_kafka]";
    fails("SSL", &none, "TLS handshake: the broker requires a client certificate", hint);
    let hint = "set `ssl_certificate_location` and `ssl_key_location` under [local_kafka] to one that the broker's CA has signed";
    fails("SSL", &certificate("stranger"), "TLS handshake: the broker rejects the client certificate, or requires one", hint);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_wrong_protocol_for_a_port_is_named() {
    let tls_wanted = "first request: the broker closed the connection: it requires TLS on this port";
    let hint = "set `security_protocol = SSL` under [local_kafka], or use the listener for PLAINTEXT";
    fails("SSL", "", tls_wanted, hint);
    let hint = "set `security_protocol = SASL_SSL` under [local_kafka], or use the listener for SASL_PLAINTEXT";
    fails("SASL_SSL", &login("SASL_PLAINTEXT", "PLAIN", CANARY), tls_wanted, hint);

    let no_tls = "TLS handshake: the broker does not speak TLS on this port";
    let hint = "set `security_protocol = PLAINTEXT` under [local_kafka], or use the listener for SSL";
    fails("PLAINTEXT", &format!("security_protocol = SSL\n{}", trust("ca")), no_tls, hint);

    let hint = "remove `security_protocol = SASL_PLAINTEXT`, `username`, `password` and `sasl_mechanism` under [local_kafka], or use \
                the port that the broker has for logins";
    let cause = "logging in: the broker accepts no login on this port";
    fails("PLAINTEXT", &login("SASL_PLAINTEXT", "PLAIN", CANARY), cause, hint);

    // Without a protocol there would be no TLS either.
    let hint = "set `security_protocol = SSL`, and remove `username`, `password` and `sasl_mechanism` under [local_kafka], or use \
                the port that the broker has for logins";
    let with_certificate = certificate("client").replace("security_protocol = SSL\n", "");
    let keys = login("SASL_SSL", "PLAIN", CANARY).replace(&trust("ca"), "") + &with_certificate;
    fails("SSL", &keys, cause, hint);
    works("SSL", &certificate("client"));

    let hint = "set `security_protocol = SASL_PLAINTEXT` under [local_kafka], or use the listener for SASL_SSL";
    fails("SASL_PLAINTEXT", &login("SASL_SSL", "PLAIN", &stack_env("SDL_TEST_PASSWORD")), no_tls, hint);
    works("SASL_PLAINTEXT", &login("SASL_PLAINTEXT", "PLAIN", &stack_env("SDL_TEST_PASSWORD")));

    // The property takes the place of the key.
    let hint = "set `kafka.security.protocol = PLAINTEXT` under [local_kafka], or use the listener for SSL";
    fails("PLAINTEXT", &format!("kafka.security.protocol = ssl\n{}", trust("ca")), no_tls, hint);
    works("PLAINTEXT", "kafka.security.protocol = PLAINTEXT\n");

    let hint = "set `security_protocol = SASL_PLAINTEXT`, `username` and `password` under [local_kafka]";
    fails("SASL_PLAINTEXT", "", "first request: the broker closed the connection: it requires a login", hint);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_another_cluster_than_the_named_one_is_refused() {
    let ended = load("PLAINTEXT", "cluster_id = another\n");
    assert_eq!(ended.code, Some(5));
    let first = "error: `local_kafka` is not the cluster of the profile's `cluster_id`\n  cluster_id in the profile: another\n";
    assert!(ended.stderr.starts_with(first), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("hint: correct `servers` or `cluster_id` under [local_kafka]\n"), "{}", ended.stderr);
}
