//! Runs ended by signals: what they deliver and commit.

use std::time::{Duration, Instant};

use super::Flow;
use crate::harness::{Dice, eventually, setting};

/// A run that holds few records in flight, at a rate that leaves time to hit it.
const STEADY: &str = "--rate 20000 --batch 200 --in-flight 4 --instance-id one";

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_sigkill_loses_nothing_and_repeats_only_uncommitted_records() {
    let flow = Flow::new("killed", 4);
    let (kills, count) = (setting("SDL_TEST_KILLS", 20), setting("SDL_TEST_RECORDS", 100_000));
    let sent = flow.send(0, count);
    let (mut repeats, mut dice) = (0, Dice::of_environment());
    for kill in 1..=kills {
        let mut running = flow.sdl(STEADY).deadline(Duration::from_secs(120)).start();
        flow.until_delivered(&mut running, kill * count / (kills + 1) + repeats);
        eventually("a first commit", Duration::from_secs(30), || (flow.committed().iter().sum::<i64>() > 0).then_some(()));
        running.kill_within(Duration::from_millis(50), &mut dice);
        drop(running);
        repeats += settled_repeats(&flow, repeats);
    }
    flow.catch_up("--instance-id one");
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_complete(), "{verdict:?}");
    assert_eq!(verdict.duplicated, repeats, "exactly what was there and not committed is repeated: {verdict:?}");
    // Records in flight, and those delivered since the last commit.
    assert!(repeats / kills < 800 + 20_000, "{repeats} in {kills} kills");
    flow.assert_committed();
}

/// Returns how many records stand in the target beyond the commits, once the target has taken what was on its way. None may be
/// missing below them.
fn settled_repeats(flow: &Flow, repeats: u64) -> u64 {
    let count = flow.clusters.target.counter(&flow.topic);
    let (mut before, mut since) = (None, Instant::now());
    let there = eventually("the target settles", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(50));
        let stood = since.elapsed();
        let now = count();
        if before.replace(now) != Some(now) {
            since = Instant::now();
            return None;
        }
        (stood >= Duration::from_secs(1)).then_some(now)
    });
    let committed: i64 = flow.committed().iter().sum();
    let committed = u64::try_from(committed).expect("offsets are positive");
    (there - repeats).checked_sub(committed).unwrap_or_else(|| panic!("{committed} committed, {} there", there - repeats))
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_sigterm_under_load_exits_0_and_a_restart_repeats_nothing() {
    let flow = Flow::new("ended", 4);
    let sent = flow.send(0, 200_000);
    let stops = setting("SDL_TEST_STOPS", 4);
    for _ in 0..stops {
        let before = flow.clusters.target.count(&flow.topic);
        let mut running = flow.sdl("--rate 20000 -o json").start();
        flow.until_delivered(&mut running, before + 30_000 / stops);
        let summary = running.end().json();
        assert_eq!((&summary["undelivered"], &summary["read"]), (&0.into(), &summary["delivered"]), "{summary}");
        let committed: i64 = flow.committed().iter().sum();
        assert_eq!(
            u64::try_from(committed).expect("positive"),
            flow.clusters.target.count(&flow.topic),
            "all that is there is committed"
        );
    }
    flow.catch_up("");
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_sigterm_with_a_silent_target_exits_in_time_and_commits_only_delivered_records() {
    let flow = Flow::alone("dead-target", 2);
    let sent = flow.send(0, 40_000);
    let mut running = flow.sdl("--rate 10000 --shutdown-timeout 3s").start();
    flow.until_delivered(&mut running, 5_000);
    flow.clusters.target.server("freeze");
    // Enough for unanswered records in flight.
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    running.signal("TERM");
    let finished = running.wait();
    let took = asked.elapsed();
    flow.clusters.target.server("thaw");
    finished.expect(3);
    assert!(took < Duration::from_secs(15), "{took:?}");
    let repeats = settled_repeats(&flow, 0);
    flow.catch_up("");
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_complete() && verdict.duplicated == repeats, "{repeats} were there and not committed: {verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_second_interrupt_exits_at_once() {
    let flow = Flow::alone("twice", 2);
    flow.send(0, 40_000);
    let mut fastest = Duration::MAX;
    for _ in 0..setting("SDL_TEST_STOPS", 3) {
        let before = flow.clusters.target.count(&flow.topic);
        let mut running = flow.sdl("--rate 5000 --instance-id one").start();
        flow.until_delivered(&mut running, before + 500);
        eventually("a first commit", Duration::from_secs(30), || (flow.committed().iter().sum::<i64>() > 0).then_some(()));
        flow.clusters.target.server("freeze");
        std::thread::sleep(Duration::from_secs(1));
        running.signal("INT");
        // The frozen target keeps it from finishing.
        running.wait_for_stderr("Draining records in flight");
        assert!(running.is_running(), "it waits for what is in flight:\n{}", running.stderr());
        std::thread::sleep(Duration::from_millis(300)); // closer together they would be one
        let asked = Instant::now();
        running.signal("INT");
        let finished = running.wait();
        let took = asked.elapsed();
        flow.clusters.target.server("thaw");
        finished.expect(130);
        assert!(took < Duration::from_secs(10), "{took:?}");
        fastest = fastest.min(took);
    }
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_closed_pipe_ends_the_run_quietly() {
    let flow = Flow::new("pipe", 1);
    flow.send(0, 100);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let finished = flow.sdl("--until-caught-up -o json").stdout(writer).run().expect(0);
    assert!(!finished.stderr.contains("panicked") && !finished.stderr.contains("roken pipe"), "{}", finished.stderr);
    flow.assert_committed();
}
