//! A cluster that cannot be reached: one error, in time. Needs no server but the test's own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use sdl::connectors::kafka::reach;
use sdl::error::Error;
use sdl::profile::KafkaSection;
use serde_json::json;

use crate::harness::{KafkaStub, Sdl};
use crate::run::Folder;

/// Returns the error of a first contact that may take this long, and how long it took.
fn first_contact(servers: &str, wait: Duration) -> (String, Duration) {
    let section = KafkaSection { name: "local_kafka".to_owned(), servers: servers.to_owned(), ..KafkaSection::default() };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = runtime.block_on(reach(&section, wait)).unwrap_err();
    (Error::from(error).render(), started.elapsed())
}

/// Expects the same of a command with a producer and of one with a consumer.
#[track_caller]
fn fails(section: &str, stderr: &str, code: i32) {
    for command in ["produce-fake -n 1", "tail logins -n 1"] {
        let ended = Folder::with_profile(&format!("[local_kafka]\n{section}")).run(command);
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(code)), "{command}");
    }
}

#[test]
fn a_refused_connection_is_named() {
    // A port that was free a moment ago, on an address that nothing else binds.
    let server = TcpListener::bind("127.0.0.213:0").unwrap().local_addr().unwrap();
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: connecting: connection refused\n\
         hint: start the broker, or correct `servers` under [local_kafka]\n"
    );
    assert_eq!(first_contact(&server.to_string(), Duration::from_secs(1)).0, expected);
}

#[test]
fn an_ipv6_address_is_named_as_it_was_written() {
    // A port that was free a moment ago; a machine without IPv6 has none.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let server = listener.local_addr().unwrap();
    drop(listener);
    let (error, _) = first_contact(&server.to_string(), Duration::from_secs(1));
    assert!(error.contains(&format!("caused by: {server}: connecting: connection refused")), "{error}");
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let (error, _) = first_contact("broker.invalid", Duration::from_secs(5));
    let expected = "error: cannot connect to `local_kafka`\n  caused by: broker.invalid:9092: looking up the name: the name does not resolve\n\
                    hint: correct `servers` under [local_kafka]\n";
    assert_eq!(error, expected);
}

#[test]
fn a_server_that_never_answers_is_named_within_the_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: no answer within 1s\n\
         hint: correct `servers` under [local_kafka], or see whether a firewall is in between\n"
    );
    let (error, took) = first_contact(&server.to_string(), Duration::from_secs(1));
    assert_eq!(error, expected);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn the_protocol_of_another_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    // Ends with the test process: it waits for connections that no longer come.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: first request: the server speaks HTTP, not the Kafka protocol\n\
         hint: correct `servers` under [local_kafka]\n"
    );
    fails(&format!("servers = {server}\n"), &expected, 1);
}

#[test]
fn the_hint_for_a_refused_login_is_a_change_that_the_profile_accepts() {
    /// The error codes of Kafka's protocol guide.
    const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    const ILLEGAL_SASL_STATE: i16 = 34;
    let login = "username = u\npassword = p\n";
    for (code, offered, keys, cause, hint) in [
        (
            UNSUPPORTED_SASL_MECHANISM,
            &["GSSAPI", "SCRAM-SHA-512"][..],
            login.to_owned(),
            "the broker does not offer PLAIN, but GSSAPI,SCRAM-SHA-512",
            "set `sasl_mechanism` under [local_kafka] to one of SCRAM-SHA-512",
        ),
        (
            UNSUPPORTED_SASL_MECHANISM,
            &["SCRAM-SHA-256"],
            format!("{login}kafka.sasl.mechanism = PLAIN\n"),
            "the broker does not offer PLAIN, but SCRAM-SHA-256",
            "set `kafka.sasl.mechanism` under [local_kafka] to one of SCRAM-SHA-256",
        ),
        (
            UNSUPPORTED_SASL_MECHANISM,
            &["GSSAPI"],
            login.to_owned(),
            "the broker does not offer PLAIN, but GSSAPI",
            "use a listener of the broker for PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM",
        ),
        (
            ILLEGAL_SASL_STATE,
            &[],
            login.to_owned(),
            "the broker accepts no login on this port",
            "remove `username` and `password` under [local_kafka], or use the port that the broker has for logins",
        ),
        (
            ILLEGAL_SASL_STATE,
            &[],
            format!("{login}kafka.security.protocol = sasl_plaintext\n"),
            "the broker accepts no login on this port",
            "remove `kafka.security.protocol = SASL_PLAINTEXT`, `username` and `password` under [local_kafka], or use the port that \
             the broker has for logins",
        ),
    ] {
        let broker = KafkaStub::refusing_logins(code, offered);
        let server = broker.servers();
        let expected =
            format!("error: cannot connect to `local_kafka`\n  caused by: {server}: logging in: {cause}\nhint: {hint}\n");
        fails(&format!("servers = {server}\n{keys}"), &expected, 1);
    }
}

#[test]
fn a_missing_certificate_file_is_named() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: cannot read the file `/gone.pem` of `ssl_ca_location`: there is no such file
hint: correct `ssl_ca_location` under [local_kafka]
";
    fails("servers = 127.0.0.1:1\nsecurity_protocol = SSL\nssl_ca_location = /gone.pem\n", expected, 2);
}

#[test]
fn a_file_that_is_not_a_certificate_is_named() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: the file of `ssl_ca_location` is not a PEM certificate
hint: correct `ssl_ca_location` under [local_kafka]
";
    let section = "servers = 127.0.0.1:1\nsecurity_protocol = SSL\nssl_ca_location = database.ini\n";
    fails(section, expected, 2);
    for command in ["tail x", "lag g", "replicate x --source local_kafka --to-topic y"] {
        let ended = Folder::with_profile(&format!("[local_kafka]\n{section}")).run(command);
        assert!(ended.stderr.contains("the file of `ssl_ca_location` is not a PEM certificate"), "{command}: {}", ended.stderr);
        assert_eq!(ended.code, Some(2), "{command}: {}", ended.stderr);
    }
}

#[test]
fn a_property_or_value_that_librdkafka_rejects_is_named() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: librdkafka has no property `fetch.max.byte`
hint: correct `kafka.fetch.max.byte` under [local_kafka]; librdkafka's CONFIGURATION.md lists the properties
";
    fails("servers = 127.0.0.1:1\nkafka.fetch.max.byte = 1\n", expected, 2);
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: librdkafka rejects the value of `kafka.fetch.max.bytes`
hint: correct `kafka.fetch.max.bytes` under [local_kafka]; librdkafka's CONFIGURATION.md lists the properties
";
    fails("servers = 127.0.0.1:1\nkafka.fetch.max.bytes = many\n", expected, 2);
}

#[test]
fn invalid_servers_are_refused_before_any_connection() {
    for (servers, cause) in [
        ("\"127.0.0.1:1\"", ", `\"127.0.0.1:1\"`, is not a list of `host:port`\nhint: remove the quotes"),
        ("http://127.0.0.1:1", ", `http://127.0.0.1:1`, is not a list of `host:port`\nhint: remove the scheme"),
        ("http://u:canary@127.0.0.1:1", " is not a list of `host:port`\nhint: set `servers` to a list of `host:port`"),
        ("127.0.0.1:1, localhost:99999", ": the port of `localhost:99999` is above 65535"),
    ] {
        let begun = Instant::now();
        let ended = Folder::with_profile(&format!("[local_kafka]\nservers = {servers}\n")).run("produce-fake -n 1");
        assert!(ended.stderr.contains(&format!("key `servers` at ./database.ini:2{cause}\n")), "{}", ended.stderr);
        assert_eq!(ended.code, Some(2));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_section_for_another_command_names_it() {
    let expected = "\
error: cannot read section `elasticsearch`
  caused by: the section has type `elasticsearch`, but `kafka` is needed here
hint: name a section of type `kafka`; `sdl sink-es` writes to `elasticsearch`
";
    for profile in ["[remote_kafka]\nservers = a:1\n", "[remote_kafka]\nservers = a:1\n[elasticsearch]\nurl = http://a:1\n"] {
        let ended = Folder::with_profile(profile).run("replicate x --target elasticsearch");
        assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
    }
}

#[test]
fn a_signal_during_the_start_leaves_the_json_summary_of_an_interrupted_run() {
    for arguments in [
        "replicate x",
        "sink-mongo x --source remote_kafka --database d --collection c",
        "sink-es x --source remote_kafka --index i",
        "aggregate x",
        "produce-fake x",
    ] {
        for signal in ["INT", "TERM"] {
            // It accepts connections, and answers nothing.
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = silent.local_addr().unwrap();
            let sections = "[remote_kafka]\nservers = ADDRESS\n[local_kafka]\nservers = ADDRESS\n\
                            [mongodb]\nhost = 127.0.0.213\n[elasticsearch]\nurl = http://ADDRESS\n";
            let profile = sections.replace("ADDRESS", &address.to_string());
            let running = Sdl::new(&format!("{arguments} --wait 10m -o json")).profile(&profile).start();
            let _connection = silent.accept().unwrap();
            running.signal(signal);
            let finished = running.wait().expect(0);
            let summary: serde_json::Value = serde_json::from_slice(&finished.stdout).expect("one document");
            let command = arguments.split(' ').next().unwrap();
            let taken = if command == "produce-fake" { "produced" } else { "read" };
            let told = [&summary["command"], &summary["ended"], &summary[taken], &summary["schema"]];
            assert_eq!(told, [&json!(command), &json!("interrupted"), &json!(0), &json!(1)], "{signal}: {summary}");
        }
    }
}

#[test]
fn a_signal_during_the_start_ends_every_run_with_0() {
    for arguments in [
        "replicate x --wait 10m",
        "sink-mongo x --source remote_kafka --wait 10m --database d --collection c",
        "sink-es x --source remote_kafka --wait 10m --index i",
        "aggregate x --wait 10m",
        "produce-fake x --wait 10m",
        "tail x --follow",
        "lag --metrics 0",
        "lag --watch",
    ] {
        // It accepts connections, and answers nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let sections = "[remote_kafka]\nservers = ADDRESS\n[local_kafka]\nservers = ADDRESS\n\
                        [mongodb]\nhost = 127.0.0.213\n[elasticsearch]\nurl = http://ADDRESS\n";
        let running = Sdl::new(arguments).profile(&sections.replace("ADDRESS", &address.to_string())).start();
        let _connection = silent.accept().unwrap();
        let signalled = Instant::now();
        running.signal(if arguments.starts_with("tail") { "INT" } else { "TERM" });
        let finished = running.wait().expect(0);
        let is_named = finished.stderr.contains("Interrupted during the start: nothing was read.");
        assert!(is_named || arguments.starts_with("lag"), "{arguments}: {}", finished.stderr);
        assert!(signalled.elapsed() < Duration::from_secs(15), "{arguments}: {:?}", signalled.elapsed());
    }
}
