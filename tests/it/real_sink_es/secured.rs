//! Logins, rights and certificates.

use std::time::Duration;

use serde_json::json;

use super::{Load, Server, patience};
use crate::harness::{Finished, Sdl, from_stack};

const SECURE: &str = "elasticsearch-secure";

/// Runs a load with these keys in its section.
#[track_caller]
fn run(load: &Load, keys: &str, flags: &str) -> Finished {
    let section = format!("[secure]\nurl = {}\nconsumer_group_id = {}\n{keys}\n", load.server.url, load.group);
    let profile = format!("{}\n{section}", load.profile());
    let index = if flags.contains("--index") { String::new() } else { format!("--index {}", load.topic) };
    let line = format!("sink-es {} --target secure {index} --until-caught-up {flags}", load.topic);
    Sdl::new(&line).profile(&profile).deadline(patience()).run()
}

fn keys(username: &str, password: &str) -> String {
    format!("username = {username}\npassword = {password}\nca_file = {}/ca.pem", from_stack("SDL_TEST_TLS"))
}

/// Makes a user that may do this with some indices, and nothing else.
#[track_caller]
fn user(server: &Server, name: &str, indices: &[String], privileges: &[&str]) {
    let role = json!({"indices": [{"names": indices, "privileges": privileges}]});
    server.tell("PUT", &format!("/_security/role/{name}"), &role);
    server.tell("PUT", &format!("/_security/user/{name}"), &json!({"password": "long-enough", "roles": [name]}));
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_wrong_logins_and_certificates_are_named_within_seconds() {
    let load = Load::new(SECURE, "logins", 1);
    load.fake(10);
    let ca = format!("{}/ca.pem", from_stack("SDL_TEST_TLS"));
    let wrong = [
        (keys("elastic", "hunter2-wrong"), "does not take the password of `elastic`"),
        (format!("ca_file = {ca}"), "the server wants a login"),
        (format!("api_key = bm8tc3VjaC1rZXk6eHh4\nca_file = {ca}"), "does not take the API key"),
        ("username = elastic\npassword = loader-secret".to_owned(), "CA that is not trusted here"),
        (format!("bearer = hunter2-wrong\nca_file = {ca}"), "does not take the bearer token"),
    ];
    for (keys, said) in wrong {
        let finished = run(&load, &keys, "").expect(1);
        assert!(finished.stderr.contains(said), "`{said}` is not said:\n{}", finished.stderr);
        assert!(finished.took < Duration::from_secs(15), "{said}: {:?}", finished.took);
        assert!(!finished.stderr.contains("hunter2") && !finished.stderr.contains("loader-secret"), "{}", finished.stderr);
    }
    let missing = run(&load, "ca_file = nowhere.pem", "").expect(2);
    assert!(missing.stderr.contains("correct `ca_file` under [secure]"), "{}", missing.stderr);
    let plain = load.server.url.replace("https:", "http:");
    let finished = Sdl::new(&format!("sink-es {0} --target search --index {0} --wait 2s", load.topic));
    let finished = finished.profile(&load.profile().replace(&load.server.url, &plain)).run().expect(1);
    assert!(finished.stderr.contains("write `https://`"), "{}", finished.stderr);
    run(&load, &keys("elastic", "loader-secret"), "").expect(0);
    let insecure = run(&load, "username = elastic\npassword = loader-secret\ninsecure = true", "--from-beginning").expect(0);
    assert!(insecure.stderr.contains("takes any certificate"), "{}", insecure.stderr);
    load.assert_each_once();
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_user_with_the_right_to_write_is_enough_and_one_without_is_told() {
    let load = Load::new(SECURE, "rights", 1);
    load.fake(100);
    let own = [load.topic.clone()];
    user(&load.server, &format!("{}-writer", load.topic), &own, &["create_doc", "create_index", "view_index_metadata", "read"]);
    user(&load.server, &format!("{}-reader", load.topic), &own, &["read", "view_index_metadata", "create_index"]);
    let reader = run(&load, &keys(&format!("{}-reader", load.topic), "long-enough"), "").expect(1);
    assert!(reader.stderr.contains("grant it the index privileges create_doc"), "{}", reader.stderr);
    run(&load, &keys(&format!("{}-writer", load.topic), "long-enough"), "").expect(0);
    load.assert_each_once();
    let again = run(&load, &keys(&format!("{}-writer", load.topic), "long-enough"), "--from-beginning").expect(0);
    assert!(again.stderr.contains("100 already there"), "{}", again.stderr);
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_missing_right_for_one_document_stops_the_run_and_its_neighbours_are_kept() {
    let load = Load::new(SECURE, "partly", 1);
    load.send(&[(None, Some(r#"{"to": "a"}"#)), (None, Some(r#"{"to": "b"}"#)), (None, Some(r#"{"to": "a"}"#))]);
    let name = format!("{}-half", load.topic);
    user(&load.server, &name, &[format!("{}-a", load.topic)], &["write", "create_index"]);
    let finished =
        run(&load, &keys(&name, "long-enough"), &format!("--index {}-{{to}} --dead-letters file:bad", load.topic)).expect(1);
    assert!(finished.stderr.contains("is unauthorized for user"), "{}", finished.stderr);
    assert_eq!(load.server.count(&format!("{}-a", load.topic)), 2);
    assert_eq!(load.committed(), [1], "nothing behind it is committed");
}
