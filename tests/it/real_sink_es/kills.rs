//! Ends, gentle or not: of a run, and of the server.

use std::time::{Duration, Instant};

use serde_json::json;

use super::keys::assert_left;
use super::{BOTH, Frozen, OPENSEARCH_SMALL, SMALL, each};
use crate::harness::{Dice, Sender, eventually, keyed_workload, setting, stack};

/// A run that holds few records in flight, at a rate that leaves time to hit it.
const STEADY: &str = "--rate 5000 --batch 200 --linger 20ms --in-flight 4 --instance-id one";

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_sigkill_neither_loses_nor_repeats_a_document() {
    each(BOTH, "killed", 4, |load| {
        let (kills, count) = (setting("SDL_TEST_KILLS", 10), setting("SDL_TEST_ES_RECORDS", 20_000));
        load.fake(count);
        let mut dice = Dice::of_environment();
        for kill in 1..=kills {
            let mut running = load.sdl(STEADY).start();
            load.until_committed(&mut running, kill * count / (kills + 1));
            running.kill_within(Duration::from_millis(50), &mut dice);
        }
        load.catch_up("--instance-id one");
        load.assert_each_once();
        load.assert_committed();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_killed_and_restarted_server_has_every_document_once() {
    each(SMALL, "restarted", 4, |load| {
        let count = setting("SDL_TEST_ES_RECORDS", 20_000);
        load.fake(count);
        let mut running = load.sdl(&format!("{STEADY} --until-caught-up --dead-letters file:bad")).start();
        for restart in 1..=setting("SDL_TEST_RESTARTS", 1) {
            load.until_committed(&mut running, (restart * count / 4).min(count / 2));
            stack(&["kill", load.server.name]);
            stack(&["start", load.server.name]);
        }
        running.wait().expect(0);
        load.assert_each_once();
        load.assert_committed();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_silent_server_is_waited_for_with_membership_kept() {
    each(SMALL, "frozen", 2, |load| {
        let count = setting("SDL_TEST_ES_RECORDS", 20_000);
        load.fake(count);
        let keyed = load.another("frozen-keys", 2);
        let (records, left) = keyed_workload(count, 2, false);
        Sender::new(&keyed.clusters.source, &[]).send(&keyed.topic, &records);
        // Both are in the middle when the server falls silent, however often it has too much to do: the first would take half a
        // minute more.
        let line = |rate: u64| format!("--rate {rate} --batch 200 --linger 20ms --until-caught-up");
        let mut of_keys = keyed.sdl(&format!("{} --id key --on-tombstone delete", line(count / 40))).start();
        keyed.until_committed(&mut of_keys, count / 100);
        let mut running = load.sdl(&line(count / 10)).start();
        load.until_committed(&mut running, count / 8);
        let server = Frozen::new(&load.server);
        let frozen = Instant::now();
        // Longer than a request may take: the server executes late a request that timed out and was sent again.
        let most = Duration::from_secs(setting("SDL_TEST_SILENCE", 63));
        while frozen.elapsed() < most {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            assert!(of_keys.is_running(), "it ended:\n{}", of_keys.stderr());
            for group in [&load.group, &keyed.group] {
                assert_eq!(load.clusters.source.members(group), 1, "the membership is kept");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        drop(server);
        let finished = running.wait().expect(0);
        let is_reported = ["no response for", "no answer within"].iter().any(|silence| finished.stderr.contains(silence));
        assert!(is_reported, "{}", finished.stderr);
        load.assert_each_once();
        load.assert_committed();
        of_keys.wait().expect(0);
        assert_left(&keyed, &left);
        keyed.assert_committed();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_stored_uncommitted_records_are_already_there_after_a_kill() {
    each(BOTH, "uncommitted", 2, |load| {
        load.fake(3_000);
        let mut running = load.sdl("--commit-interval 1h --batch 500 --instance-id one").start();
        // An index that is not there yet has no documents.
        eventually("documents arrive", super::patience(), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            let found = load.server.ask("GET", &format!("/{}/_search?size=0&track_total_hits=true", load.topic), &json!(null));
            (found["hits"]["total"]["value"] == 3_000).then_some(())
        });
        running.signal("KILL");
        assert_eq!(load.committed(), [0, 0]);
        let summary = load.catch_up("--instance-id one");
        assert_eq!((&summary["delivered"], &summary["already_there"]), (&json!(3_000), &json!(3_000)));
        load.assert_each_once();
        load.assert_committed();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_sigterm_with_a_silent_server_exits_in_time_and_commits_only_delivered_records() {
    each([OPENSEARCH_SMALL], "stuck", 2, |load| {
        load.fake(20_000);
        let mut running = load.sdl("--rate 1500 --batch 200 --linger 20ms --shutdown-timeout 3s").start();
        load.until_committed(&mut running, 3_000);
        let server = Frozen::new(&load.server);
        // Enough for unanswered records in flight.
        std::thread::sleep(Duration::from_secs(1));
        let asked = Instant::now();
        running.signal("TERM");
        let finished = running.wait();
        let took = asked.elapsed();
        drop(server);
        finished.expect(3);
        assert!(took < Duration::from_secs(15), "{took:?}");
        let committed: i64 = load.committed().iter().sum();
        assert!(committed.cast_unsigned() <= load.count(), "{committed} are committed");
        load.catch_up("");
        load.assert_each_once();
    });
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_a_server_that_is_away_at_the_start_is_waited_for_as_long_as_asked() {
    each([OPENSEARCH_SMALL], "away", 1, |load| {
        load.fake(100);
        stack(&["kill", load.server.name]);
        let failed = load.sdl("--wait 5s --until-caught-up").run();
        let running = load.sdl("--wait 120s --until-caught-up").start();
        stack(&["start", load.server.name]);
        let failed = failed.expect(1);
        assert!(failed.stderr.contains("connection refused") && failed.took < Duration::from_secs(30), "{}", failed.stderr);
        running.wait().expect(0);
        load.assert_each_once();
    });
}
