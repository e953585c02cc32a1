//! A cluster that cannot be reached: one error, in time. Needs no server but the test's own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use sdl::connectors::kafka::reach;
use sdl::error::Error;
use sdl::profile::KafkaSection;

use crate::run::Folder;

/// Returns the error of a first contact that may take a second, and how long it took.
fn first_contact(servers: &str) -> (String, Duration) {
    let section = KafkaSection { name: "local_kafka".to_owned(), servers: servers.to_owned(), ..KafkaSection::default() };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = runtime.block_on(reach(&section, Duration::from_secs(1))).unwrap_err();
    (Error::from(error).render(), started.elapsed())
}

#[track_caller]
fn fails(section: &str, stderr: &str, code: i32) {
    let ended = Folder::with_profile(&format!("[local_kafka]\n{section}")).run("produce-fake -n 1");
    assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(code)));
}

#[test]
fn a_connection_refused() {
    // A port that was free a moment ago, on an address that nothing else binds.
    let server = TcpListener::bind("127.0.0.213:0").unwrap().local_addr().unwrap();
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: connecting: connection refused\n\
         hint: start the broker, or correct `servers` under [local_kafka]\n"
    );
    assert_eq!(first_contact(&server.to_string()).0, expected);
}

#[test]
fn a_name_that_does_not_exist() {
    let (error, _) = first_contact("broker.invalid");
    let expected = "error: cannot connect to `local_kafka`\n  caused by: broker.invalid:9092: looking up the name: the name does not resolve\n\
                    hint: correct `servers` under [local_kafka]\n";
    assert_eq!(error, expected);
}

#[test]
fn a_server_that_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: no answer within 1s\n\
         hint: correct `servers` under [local_kafka], or see whether a firewall is in between\n"
    );
    let (error, took) = first_contact(&server.to_string());
    assert_eq!(error, expected);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_server_of_another_kind() {
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
fn a_file_that_is_not_there() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: cannot read the file `/gone.pem` of `ssl_ca_location`: there is no such file
hint: correct `ssl_ca_location` under [local_kafka]
";
    fails("servers = 127.0.0.1:1\nsecurity_protocol = SSL\nssl_ca_location = /gone.pem\n", expected, 2);
}

#[test]
fn a_file_that_is_no_certificate() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: the file of `ssl_ca_location` is not a PEM certificate
hint: correct `ssl_ca_location` under [local_kafka]
";
    fails("servers = 127.0.0.1:1\nsecurity_protocol = SSL\nssl_ca_location = database.ini\n", expected, 1);
}

#[test]
fn a_property_that_librdkafka_does_not_know() {
    let expected = "\
error: cannot connect to `local_kafka`
  caused by: librdkafka rejects the value of `kafka.fetch.max.byte`
hint: correct `kafka.fetch.max.byte` under [local_kafka]; librdkafka's CONFIGURATION.md lists the properties
";
    fails("servers = 127.0.0.1:1\nkafka.fetch.max.byte = 1\n", expected, 2);
}
