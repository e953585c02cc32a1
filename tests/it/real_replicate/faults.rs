//! Servers that are killed, hang and restart during a run.

use std::time::Duration;

use super::Flow;
use crate::harness::{Scrape, setting};

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_killed_and_restarted_brokers_lose_and_repeat_nothing() {
    let flow = Flow::alone("restarts", 4);
    let count = setting("SDL_TEST_RECORDS", 80_000);
    let sent = flow.send(0, count);
    let mut running = flow.sdl("--until-caught-up --rate 4000 -v").deadline(Duration::from_secs(300)).start();
    flow.until_delivered(&mut running, count / 8);
    flow.clusters.target.server("kill");
    flow.clusters.target.server("start");
    flow.until_delivered(&mut running, count / 2);
    flow.clusters.source.server("kill");
    flow.clusters.source.server("start");
    flow.until_delivered(&mut running, count * 5 / 8);
    flow.clusters.target.server("stop");
    flow.clusters.target.server("start");
    let finished = running.wait().expect(0);
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_exact(), "{verdict:?}:\n{}", finished.stderr);
    assert_eq!(flow.committed(), flow.ends(), "{}", finished.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_run_that_waits_for_both_clusters_uses_next_to_no_processor_time() {
    const WINDOW: Duration = Duration::from_secs(30);
    let flow = Flow::alone("idle-outage", 4).with("kafka.session.timeout.ms = 6000").with("kafka.heartbeat.interval.ms = 1000");
    let mut sent = flow.send(0, 1_000);
    let mut running = flow.sdl("-v").deadline(Duration::from_secs(300)).start();
    flow.until_delivered(&mut running, 1_000);
    flow.until_committed();
    flow.clusters.target.server("kill");
    flow.clusters.source.server("kill");
    running.wait_for_stderr("its partitions were given up; waiting for it");
    let before = running.cpu_time();
    std::thread::sleep(WINDOW); // the time that is measured
    let used = running.cpu_time().saturating_sub(before);
    flow.clusters.target.server("start");
    flow.clusters.source.server("start");
    assert!(used < WINDOW / 20, "{used:?} of processor time in {WINDOW:?}:\n{}", running.stderr());
    sent.extend(flow.send(1_000, 1_000));
    flow.until_delivered(&mut running, 2_000);
    running.end();
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_silent_target_is_waited_for_with_membership_kept() {
    let flow = Flow::alone("silent", 4)
        .with("kafka.session.timeout.ms = 6000")
        .with("kafka.heartbeat.interval.ms = 1000")
        .with("kafka.max.poll.interval.ms = 8000");
    let count = setting("SDL_TEST_RECORDS", 200_000);
    let sent = flow.send(0, count);
    let mut running = flow.sdl("--until-caught-up --rate 20000 -v").deadline(Duration::from_secs(600)).start();
    flow.until_delivered(&mut running, count / 8);
    let before = running.peak_memory().expect("it runs");
    flow.clusters.target.server("freeze");
    std::thread::sleep(Duration::from_secs(setting("SDL_TEST_SILENCE", 15)));
    assert!(running.is_running(), "{}", running.stderr());
    assert_eq!(flow.clusters.source.members(&flow.group), 1, "longer than the session and the poll interval");
    flow.clusters.target.server("thaw");
    flow.until_delivered(&mut running, count / 4);
    let after = running.peak_memory().expect("it runs");
    assert!(after < before + 40 && after < 128, "{before} MiB, then {after} MiB");
    running.wait().expect(0);
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_idle_run_is_ready_again_when_its_source_has_restarted() {
    let flow = Flow::alone("idle", 1);
    flow.send(0, 10);
    let mut running = flow.sdl("--metrics 0").deadline(Duration::from_secs(300)).start();
    let scrape = Scrape::of(&mut running);
    flow.until_delivered(&mut running, 10);
    flow.until_committed();
    flow.clusters.source.server("stop");
    running.wait_for_stderr("Reading stalled.");
    flow.clusters.source.server("start");
    running.wait_for_stderr("Reading resumed.");
    scrape.wait_for_readyz(200);
    flow.send(10, 10);
    flow.until_delivered(&mut running, 20);
    running.end();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_unavailable_past_the_retry_limit_ends_the_run_and_commits_nothing_undelivered() {
    let flow = Flow::alone("gone", 2);
    let sent = flow.send(0, 40_000);
    let mut running = flow.sdl("--until-caught-up --rate 2000 --retry-for 4s").start();
    flow.until_delivered(&mut running, 2_000);
    flow.clusters.target.server("stop");
    let finished = running.wait();
    flow.clusters.target.server("start");
    let finished = finished.expect(1);
    assert!(finished.stderr.contains("local_kafka"), "it says which end: {}", finished.stderr);
    let delivered = flow.clusters.target.count(&flow.topic);
    let committed: i64 = flow.committed().iter().sum();
    assert!(u64::try_from(committed).expect("positive") <= delivered, "{committed} committed, {delivered} there");
    flow.catch_up("");
    flow.assert_complete(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_run_stopped_past_its_session_makes_no_stale_commit() {
    let flow = Flow::new("stopped", 4).with("kafka.session.timeout.ms = 6000").with("kafka.heartbeat.interval.ms = 1000");
    let sent = flow.send(0, 100_000);
    let watch = flow.watch_commits();
    let mut first = flow.sdl("--rate 5000").deadline(Duration::from_secs(300)).start();
    flow.until_delivered(&mut first, 10_000);
    first.signal("STOP");
    let mut second = flow.sdl("--rate 5000").deadline(Duration::from_secs(300)).start();
    // The second one takes over when the session of the first has run out.
    let stopped_at: i64 = flow.committed().iter().sum();
    crate::harness::eventually("the second one commits", Duration::from_secs(60), || {
        (flow.committed().iter().sum::<i64>() > stopped_at + 10_000).then_some(())
    });
    first.signal("CONT");
    flow.clusters.source.wait_for_members(&flow.group, 2);
    flow.until_delivered(&mut second, 60_000);
    first.signal("TERM");
    second.signal("TERM");
    first.wait().expect(0);
    second.wait().expect(0);
    flow.catch_up("");
    watch.assert_monotonic();
    let verdict = flow.verdict(&sent);
    assert_eq!((verdict.lost, verdict.corrupted, verdict.never_sent), (0, 0, 0), "{verdict:?}");
    flow.assert_committed();
}
