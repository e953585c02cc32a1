//! Logins, rights and certificates.

use std::time::Duration;

use serde_json::json;

use super::{Load, OPENSEARCH, Server, each, patience};
use crate::harness::{Finished, Sdl, TlsStub, stack_env};

const SECURE: &str = "elasticsearch-secure";

/// Runs a load with these keys in its section.
#[track_caller]
fn run(load: &Load<'_>, keys: &str, flags: &str) -> Finished {
    let section = format!("[secure]\nurl = {}\nconsumer_group_id = {}\n{keys}\n", load.server.url, load.group);
    let profile = format!("{}\n{section}", load.profile());
    let index = if flags.contains("--index") { String::new() } else { format!("--index {}", load.topic) };
    let line = format!("sink-es {} --target secure {index} --until-caught-up {flags}", load.topic);
    Sdl::new(&line).profile(&profile).deadline(patience()).run()
}

fn keys(username: &str, password: &str) -> String {
    format!("username = {username}\npassword = {password}\nca_file = {}/ca.pem", stack_env("SDL_TEST_TLS"))
}

/// Creates a user with only these privileges on some indices.
#[track_caller]
fn user(server: &Server, name: &str, indices: &[String], privileges: &[&str]) {
    let role = json!({"indices": [{"names": indices, "privileges": privileges}]});
    server.tell("PUT", &format!("/_security/role/{name}"), &role);
    server.tell("PUT", &format!("/_security/user/{name}"), &json!({"password": "long-enough", "roles": [name]}));
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_wrong_logins_and_certificates_fail_within_seconds() {
    each([SECURE], "logins", 1, |load| {
        load.fake(10);
        let ca = format!("{}/ca.pem", stack_env("SDL_TEST_TLS"));
        let wrong = [
            (keys("elastic", "hunter2-wrong"), "authentication failed for `elastic`"),
            (format!("ca_file = {ca}"), "the server requires a login"),
            (format!("api_key = bm8tc3VjaC1rZXk6eHh4\nca_file = {ca}"), "authentication failed for the API key"),
            ("username = elastic\npassword = loader-secret".to_owned(), "CA that is not trusted here"),
            (format!("bearer = hunter2-wrong\nca_file = {ca}"), "authentication failed for the bearer token"),
        ];
        for (keys, message) in wrong {
            let finished = run(&load, &keys, "").expect(1);
            assert!(finished.stderr.contains(message), "`{message}` is not in stderr:\n{}", finished.stderr);
            assert!(finished.took < Duration::from_secs(30), "{message}: {:?}", finished.took);
            assert!(!finished.stderr.contains("hunter2") && !finished.stderr.contains("loader-secret"), "{}", finished.stderr);
        }
        let missing = run(&load, "ca_file = nowhere.pem", "").expect(2);
        assert!(missing.stderr.contains("correct `ca_file` under [secure]"), "{}", missing.stderr);
        let plain = load.server.url.replace("https:", "http:");
        let finished = Sdl::new(&format!("sink-es {0} --target search --index {0} --wait 10s", load.topic));
        let finished = finished.profile(&load.profile().replace(&load.server.url, &plain)).run().expect(1);
        assert!(finished.stderr.contains("write `https://`"), "{}", finished.stderr);
        run(&load, &keys("elastic", "loader-secret"), "").expect(0);
        let insecure = run(&load, "username = elastic\npassword = loader-secret\ninsecure = true", "--from-beginning").expect(0);
        assert!(insecure.stderr.contains("accepts any certificate"), "{}", insecure.stderr);
        load.assert_each_once();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_invalid_hosts_and_certificates_fail_within_seconds() {
    each([OPENSEARCH], "hosts", 1, |load| {
        load.fake(10);
        let file = |name: &str| format!("{}/{name}", stack_env("SDL_TEST_TLS"));
        let ca = format!("ca_file = {}", file("ca.pem"));
        let client = format!("{ca}\nclient_cert = {}\nclient_key = {}", file("client.pem"), file("client.key"));
        let wrong = |url: &str, keys: &str, message: &str, hint: &str| {
            let section = format!("[search]\ntype = elasticsearch\nurl = {url}\nconsumer_group_id = {}\n{keys}\n", load.group);
            let profile = format!("{}\n{section}", load.profile().split("[search]").next().unwrap());
            let line = format!("sink-es {0} --target search --index {0}", load.topic);
            let finished = Sdl::new(&line).profile(&profile).deadline(patience()).run().expect(1);
            for part in [message, hint] {
                assert!(finished.stderr.contains(part), "`{part}` is not in stderr:\n{}", finished.stderr);
            }
            assert!(finished.took < Duration::from_secs(30), "{message}: {:?}", finished.took);
        };
        let expired = TlsStub::start("expired", false);
        wrong(&expired.url(), &ca, "the server's certificate has expired", "renew the certificate");
        let early = TlsStub::start("early", false);
        wrong(&early.url(), &ca, "the server's certificate is not valid yet", "correct this machine's clock");
        let elsewhere = TlsStub::start("wrong-name", false);
        wrong(
            &elsewhere.url(),
            &ca,
            "the server's certificate is for another host name",
            "use the host name of the certificate in `url`",
        );
        let strict = TlsStub::start("server", true);
        wrong(&strict.url(), &ca, "rejects the client certificate, or requires one", "set `client_cert` and `client_key`");
        // This server only speaks TLS: a client that connects finds no search server.
        wrong(&strict.url(), &client, "neither Elasticsearch nor OpenSearch", "correct `url` under [search]");
        wrong(
            "http://no-such-host.invalid:9200",
            "",
            "looking up the name: the name does not resolve",
            "correct `url` under [search]",
        );
        wrong("http://127.0.0.1:1", "", "connection refused", "start the server");
        let failover = load.profile().replace("url = ", "url = http://127.0.0.1:1,");
        let line = format!("sink-es {0} --target search --index {0} --until-caught-up", load.topic);
        Sdl::new(&line).profile(&failover).deadline(patience()).run().expect(0);
        load.assert_each_once();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_write_privileges_suffice_and_missing_ones_are_named() {
    each([SECURE], "rights", 1, |load| {
        load.fake(100);
        let own = [load.topic.clone()];
        user(
            &load.server,
            &format!("{}-writer", load.topic),
            &own,
            &["create_doc", "create_index", "view_index_metadata", "read"],
        );
        user(&load.server, &format!("{}-reader", load.topic), &own, &["read", "view_index_metadata", "create_index"]);
        let reader = run(&load, &keys(&format!("{}-reader", load.topic), "long-enough"), "").expect(1);
        assert!(reader.stderr.contains("grant it the index privileges create_doc"), "{}", reader.stderr);
        run(&load, &keys(&format!("{}-writer", load.topic), "long-enough"), "").expect(0);
        load.assert_each_once();
        let again = run(&load, &keys(&format!("{}-writer", load.topic), "long-enough"), "--from-beginning").expect(0);
        assert!(again.stderr.contains("100 already there"), "{}", again.stderr);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_missing_privilege_for_one_document_stops_the_run_and_its_neighbours_are_stored() {
    each([SECURE], "partly", 1, |load| {
        load.send(&[(None, Some(r#"{"to": "a"}"#)), (None, Some(r#"{"to": "b"}"#)), (None, Some(r#"{"to": "a"}"#))]);
        let name = format!("{}-half", load.topic);
        user(&load.server, &name, &[format!("{}-a", load.topic)], &["write", "create_index"]);
        let finished =
            run(&load, &keys(&name, "long-enough"), &format!("--index {}-{{to}} --dead-letters file:bad", load.topic)).expect(1);
        assert!(finished.stderr.contains("is unauthorized for user"), "{}", finished.stderr);
        assert_eq!(load.server.count(&format!("{}-a", load.topic)), 2);
        assert_eq!(load.committed(), [1], "nothing behind it is committed");
    });
}
