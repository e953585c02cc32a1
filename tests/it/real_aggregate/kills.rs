//! Runs that are killed, and clusters.

use std::time::Duration;

use super::*;
use crate::harness::{Dice, eventually, setting};

/// Offsets 0 (first window), 1 (second), 2 (first): the first window is published, the run is killed, and the second run continues.
#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_events_of_a_closed_window_are_not_counted_again_after_a_kill() {
    let flow = Flow::new("three", 1);
    let at = |second: u64| format!("{{\"timestamp\": {}}}", BEGINNING + second);
    flow.send(&[at(1), at(16), at(2)]);
    let mut running = flow.sdl("--idle 5m").start();
    flow.until_published(&mut running, 1);
    running.signal("KILL");
    drop(running);
    assert_eq!(flow.clusters.source.committed(&flow.group(), &flow.topic), [Some(1)]);
    flow.send(&[at(3), at(12)]);
    // Its place in the group is not free at once.
    let summary = flow.catch_up("").json();
    let published: Vec<_> = flow
        .published()
        .iter()
        .map(|summary| (summary["timestamp_start"].as_u64().unwrap() - BEGINNING, summary["interval_messages_consumed"].clone()))
        .collect();
    assert_eq!(published, [(0, json!(2)), (10, json!(2))]);
    assert_eq!((&summary["replayed"], &summary["late"], &summary["delivered"]), (&json!(1), &json!(1), &json!(2)), "{summary}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_a_run_that_ends_during_the_replay_publishes_no_window() {
    let flow = Flow::new("cut-short", 1);
    let at = |second: u64| format!("{{\"timestamp\": {}}}", BEGINNING + second);
    flow.send(&[at(1), at(16), at(17), at(2)]);
    let mut running = flow.sdl("--idle 5m").start();
    flow.until_published(&mut running, 1);
    running.signal("KILL");
    drop(running);
    let ended = flow.sdl("--count 1").run().expect(1);
    assert!(ended.stderr.contains("before everything was read again"), "{}", ended.stderr);
    assert_eq!(flow.published().len(), 1);
    flow.catch_up("");
    let counts: Vec<_> = flow.published().iter().map(|summary| summary["interval_messages_consumed"].clone()).collect();
    assert_eq!(counts, [json!(2), json!(2)]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_sigkill_neither_loses_nor_repeats_an_event() {
    let (kills, count) = (setting("SDL_TEST_KILLS", 20), setting("SDL_TEST_RECORDS", 20_000));
    for (partitions, emit, kills) in [(1, "summary", kills / 4), (4, "summary", kills / 2), (12, "rows", kills / 4)] {
        let flow = Flow::new("killed", partitions);
        flow.send(&events(count, 1_000));
        let mut dice = Dice::of_environment();
        for kill in 1..=kills {
            let flags = format!("--emit {emit} --grace 30s --rate 10000 --instance-id one");
            let mut running = flow.sdl(&flags).deadline(Duration::from_secs(120)).start();
            let wanted = i64::try_from(kill * count / (kills + 1)).unwrap();
            eventually("windows are closed", Duration::from_secs(60), || {
                assert!(running.is_running(), "it ended:\n{}", running.stderr());
                let committed: i64 = flow.clusters.source.committed(&flow.group(), &flow.topic).into_iter().flatten().sum();
                (committed >= wanted).then_some(())
            });
            running.kill_within(Duration::from_millis(50), &mut dice);
        }
        let summary = flow.catch_up(&format!("--emit {emit} --grace 30s --instance-id one")).json();
        assert_eq!(summary.get("late"), None, "{summary}");
        flow.assert_recounted(emit, 10);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_killed_or_silent_brokers_lose_and_repeat_nothing() {
    let flow = Flow::alone("broker-killed", 4);
    flow.send(&events(20_000, 400));
    let mut running = flow.sdl("--grace 30s --rate 2500 -o json").deadline(Duration::from_secs(180)).start();
    flow.until_published(&mut running, 3);
    flow.clusters.source.server("kill");
    flow.clusters.source.server("start");
    flow.until_published(&mut running, 12);
    flow.clusters.source.server("freeze");
    // Longer than a call to the brokers may take, than --idle and --grace.
    std::thread::sleep(Duration::from_secs(14));
    flow.clusters.source.server("thaw");
    flow.until_published(&mut running, 30);
    let summary = running.end().json();
    assert_eq!(summary.get("late"), None, "{summary}");
    flow.catch_up("--grace 30s");
    flow.assert_recounted("summary", 10);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_sigterm_exits_0_and_the_next_run_counts_the_open_windows() {
    let flow = Flow::new("ended", 2);
    flow.send(&events(1_000, 100));
    let mut running = flow.sdl("--grace 30s -o json").start();
    flow.until_published(&mut running, 3);
    let summary = running.end().json();
    assert_eq!(summary["undelivered"], json!(0), "{summary}");
    assert_eq!(summary["read"].as_u64(), Some(summary["delivered"].as_u64().unwrap() + summary["released"].as_u64().unwrap()));
    flow.catch_up("--grace 30s");
    flow.assert_recounted("summary", 10);
}
