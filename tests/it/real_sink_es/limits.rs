//! Overload, blocks and size limits of servers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BOTH, OPENSEARCH, SMALL, codes, each, letters};
use crate::harness::{HttpStub, Reply, Running, created, eventually};

/// Waits until a line that the run has printed behind the first `seen` ones holds all of these words.
#[track_caller]
fn until_printed(running: &mut Running, seen: usize, words: &[&str]) {
    eventually(&format!("it prints {words:?}"), super::patience(), || {
        let is_running = running.is_running();
        let printed = running.stderr();
        let is_printed = printed.lines().skip(seen).any(|line| words.iter().all(|word| line.contains(word)));
        assert!(is_printed || is_running, "it ended before it printed {words:?}:\n{printed}");
        is_printed.then_some(())
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_too_large_requests_are_bisected_to_the_record() {
    each(SMALL, "large", 1, |load| {
        let of = |length: usize| format!(r#"{{"text": "{}"}}"#, "x".repeat(length));
        let (usual, large) = (of(20_000), of(2_000_000));
        let values: Vec<_> = (0..200).map(|at| (None, Some(if at == 77 { large.as_str() } else { usual.as_str() }))).collect();
        load.send(&values);
        let mapping = json!({"mappings": {"properties": {"text": {"type": "text", "index": false}}}});
        load.server.tell("PUT", &format!("/{}", load.topic), &mapping);
        let finished = load.sdl("--until-caught-up --dead-letters file:bad").run().expect(3);
        assert_eq!(codes(&letters(&finished, "bad")), ["too_large"]);
        assert_eq!(letters(&finished, "bad")[0]["offset"], 77);
        assert_eq!(load.count(), 199);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_busy_server_receives_every_record() {
    each(SMALL, "busy", 4, |load| {
        load.server.tell("PUT", &format!("/{}", load.topic), &json!({"settings": {"number_of_shards": 8}}));
        load.fake(20_000);
        let summary = load.catch_up("--batch 1000 --linger 20ms --in-flight 8 --dead-letters file:bad");
        assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&json!(20_000), &json!(0)));
        assert!(summary["retried"].as_u64().unwrap() > 0, "it was not busy: {summary}");
        load.assert_each_once();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_blocked_or_closed_index_is_a_stall_and_never_a_dead_letter() {
    each(BOTH, "blocked", 1, |load| {
        load.fake(500);
        let line = "--rate 1000 --batch 100 --linger 10ms --dead-letters file:bad";
        let mut running = load.sdl(line).start();
        load.until_committed(&mut running, 100);
        let mut seen = 0;
        for (setting, why) in [
            ("index.blocks.write", "cluster_block_exception"),
            ("index.blocks.read_only_allow_delete", "cluster_block_exception"),
        ] {
            let path = format!("/{}/_settings", load.topic);
            load.server.tell("PUT", &path, &json!({setting: true}));
            load.fake(500);
            until_printed(&mut running, seen, &["Delivery stalled.", why]);
            load.server.tell("PUT", &path, &json!({setting: Value::Null}));
            let ends = load.ends()[0].cast_unsigned();
            load.until_committed(&mut running, ends);
            until_printed(&mut running, seen, &["Delivery resumed."]);
            seen = running.stderr().lines().count();
        }
        load.server.tell("POST", &format!("/{}/_close", load.topic), &Value::Null);
        load.fake(500);
        running.wait_for_stderr("index_closed_exception");
        load.server.tell("POST", &format!("/{}/_open", load.topic), &Value::Null);
        let ends = load.ends()[0].cast_unsigned();
        load.until_committed(&mut running, ends);
        running.end();
        load.assert_each_once();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_the_shard_limit_is_a_stall() {
    each(SMALL, "full", 1, |load| {
        load.fake(500);
        load.server.setting("cluster.max_shards_per_node", &json!(1));
        let index = format!("--index {}-%Y", load.topic);
        let mut running = load.sdl(&format!("--until-caught-up {index} --dead-letters file:bad")).start();
        let stalled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            running.wait_for_stderr("the cluster has reached its shard limit");
        }));
        load.server.setting("cluster.max_shards_per_node", &Value::Null);
        stalled.expect("it says so");
        running.wait().expect(0);
        assert_eq!(load.server.count(&format!("{}-*", load.topic)), 500);
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_deleted_index_that_may_not_be_created_stops_the_run() {
    each(SMALL, "deleted", 1, |load| {
        load.fake(500);
        load.server.setting("action.auto_create_index", &json!("false"));
        let mut running = load.sdl("--rate 1000 --batch 100 --linger 10ms --dead-letters file:bad").start();
        load.until_committed(&mut running, 100);
        load.server.tell("DELETE", &format!("/{}", load.topic), &Value::Null);
        load.fake(100);
        let finished = running.wait();
        load.server.setting("action.auto_create_index", &Value::Null);
        let finished = finished.expect(5);
        let what = format!("error: index `{}` of `search` was deleted during the run: the documents", load.topic);
        assert!(finished.stderr.contains(&what) && finished.stderr.contains("--from-beginning"), "{}", finished.stderr);
        assert!(load.committed()[0] < load.ends()[0]);
        assert!(finished.took < Duration::from_secs(60));
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_an_index_that_is_deleted_in_mid_run_ends_it_also_if_the_server_creates_it_again() {
    for (flags, is_idle) in [("", false), ("--no-create", false), ("--no-create", true)] {
        each(BOTH, "deleted-in-mid-run", 1, |load| {
            load.server.tell("PUT", &format!("/{}", load.topic), &Value::Null);
            load.fake(2_000);
            let rate = if is_idle { "" } else { "--rate 200" };
            let mut running = load.sdl(&format!("{rate} --batch 50 --linger 10ms {flags}")).start();
            load.until_committed(&mut running, if is_idle { 2_000 } else { 100 });
            load.server.tell("DELETE", &format!("/{}", load.topic), &Value::Null);
            let finished = running.wait().expect(5);
            let what = format!("error: index `{}` of `search` was deleted", load.topic);
            assert!(finished.stderr.contains(&what) && finished.stderr.contains("during the run"), "{}", finished.stderr);
        });
    }
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_an_alias_that_rolls_over_or_moves_is_followed_and_one_that_is_deleted_creates_no_index() {
    each(BOTH, "alias-moves", 1, |load| {
        let (first, second) = (format!("{}-000001", load.topic), format!("{}-000002", load.topic));
        let mapping = json!({"mappings": {"properties": {"mapped": {"type": "keyword"}}}});
        load.server.tell("PUT", &format!("/{first}"), &mapping);
        load.server.tell("PUT", &format!("/{second}"), &mapping);
        let alias = |actions: Value| load.server.tell("POST", "/_aliases", &json!({ "actions": actions }));
        alias(json!([{"add": {"index": first, "alias": load.topic}}]));
        load.fake(2_000);
        let mut running = load.sdl("--rate 200 --batch 50 --linger 10ms").start();
        load.until_committed(&mut running, 100);
        alias(json!([
            {"remove": {"index": first, "alias": load.topic}},
            {"add": {"index": second, "alias": load.topic}},
        ]));
        load.until_committed(&mut running, 800); // three seconds and more
        alias(json!([{"remove": {"index": second, "alias": load.topic}}]));
        let finished = running.wait().expect(5);
        assert!(finished.stderr.contains("was deleted during the run"), "{}", finished.stderr);
        let found = load.server.ask("GET", &format!("/{}", load.topic), &Value::Null);
        assert_eq!(found["status"], 404, "the server has made no index of the name: {found}");
        let held = load.server.count(&first) + load.server.count(&second);
        assert!(held >= load.committed()[0].cast_unsigned(), "{held}");
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_two_hundred_partitions_and_a_silent_server_stay_within_the_memory_limit() {
    each([OPENSEARCH], "wide", 200, |load| {
        load.fake(600_000);
        let stub = HttpStub::search(|request| if request.is_bulk() { Reply::Silence } else { created(request) });
        let profile = load.profile().replace(&load.server.url, &stub.url());
        let line = format!("sink-es {0} --target search --index {0} --shutdown-timeout 1s", load.topic);
        let mut running = crate::harness::Sdl::new(&line).profile(&profile).deadline(super::patience()).start();
        running.wait_for_stderr("Delivery stalled.");
        // It reads ahead up to its limit.
        let mut before = (0, 0);
        eventually("it reads no more", super::patience(), || {
            std::thread::sleep(Duration::from_secs(1));
            let now = running.peak_memory().expect("it runs");
            before = if now == before.0 { (now, before.1 + 1) } else { (now, 0) };
            (before.1 == 3).then_some(())
        });
        running.signal("TERM");
        running.wait().expect(3);
        assert!(before.0 <= 128 * 12 / 10, "{} MiB", before.0);
        load.clusters.source.delete_topic(&load.topic);
    });
}
