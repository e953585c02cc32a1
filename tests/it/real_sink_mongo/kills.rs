//! Ends, gentle or not: of a run, and of the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{FERRET, JAVA, Load};
use crate::harness::{Dice, setting, stack};

/// A run that holds few records in flight, at a rate that leaves time to hit it.
const STEADY: &str = "--rate 5000 --batch 200 --linger 20ms --in-flight 4 --instance-id one";

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_sigkill_neither_loses_nor_repeats_a_document() {
    for (server, quick) in [(FERRET, 5), (JAVA, 15)] {
        let load = Load::new(server, "killed", 4);
        // FerretDB scans the whole collection for each look-up of existing ids, and continues after the client has timed out.
        let (kills, count) = match server {
            FERRET => (quick, 5_000),
            _ => (setting("SDL_TEST_KILLS", quick), setting("SDL_TEST_MONGO_RECORDS", 20_000)),
        };
        load.fake(count);
        let mut dice = Dice::of_environment();
        for kill in 1..=kills {
            let mut running = load.sdl(STEADY).deadline(Duration::from_secs(300)).start();
            load.until_committed(&mut running, kill * count / (kills + 1));
            running.kill_within(Duration::from_millis(50), &mut dice);
        }
        load.catch_up("--instance-id one");
        load.assert_each_once();
        load.assert_committed();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_killed_and_restarted_server_has_every_document_once() {
    for kind in [FERRET, JAVA] {
        let load = Load::own(kind, "restarted", 4, &[]);
        let count = setting("SDL_TEST_MONGO_RECORDS", 20_000);
        load.fake(count);
        let mut running = load.sdl(&format!("{STEADY} --until-caught-up")).deadline(Duration::from_secs(300)).start();
        for restart in 1..=setting("SDL_TEST_RESTARTS", 2) {
            load.until_committed(&mut running, (restart * count / 4).min(count / 2));
            stack(&["kill", &load.server]);
            stack(&["start", &load.server]);
        }
        running.wait().expect(0);
        load.assert_each_once();
        load.assert_committed();
    }
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_server_that_loses_acknowledged_writes_is_detected() {
    let load = Load::own(JAVA, "forgetful", 2, &["forget.ms=3600000"]);
    load.fake(1_000);
    load.catch_up("");
    load.assert_each_once();
    stack(&["kill", &load.server]);
    stack(&["start", &load.server]);
    assert_eq!(load.wrong(), json!(["1000 are missing"]), "no other test could see a loss");
    // A re-read restores the lost documents.
    load.catch_up("--from-beginning");
    load.assert_each_once();
}

/// Documents whose ids come again, so that a write that a server carries out late is an older one; and 200 partitions with more
/// than memory may hold of them.
#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_a_silent_server_is_waited_for_with_membership_and_memory_kept() {
    let many = Load::own(FERRET, "frozen", 200, &[]);
    let keyed = Load::own(JAVA, "frozen", 2, &[]);
    let count = setting("SDL_TEST_MONGO_RECORDS", 40_000);
    many.fake(count);
    let updates: Vec<_> = (0..count / 2).map(|n| (format!("user-{}", n % 200), format!("{{\"n\": {n}}}"))).collect();
    keyed.send(&updates.iter().map(|(key, value)| (Some(key.as_str()), Some(value.as_str()))).collect::<Vec<_>>());

    // Both are in the middle when the servers fall silent: the first would take twenty seconds, the other forty.
    let deadline = Duration::from_secs(600);
    let (one, other) = (format!("--rate {} --batch 500", count / 20), format!("--rate {} --batch 200 --id key", count / 80));
    let mut one = many.sdl(&format!("--until-caught-up {one} --linger 20ms")).deadline(deadline).start();
    let mut other = keyed.sdl(&format!("--until-caught-up {other} --linger 20ms")).deadline(deadline).start();
    many.until_committed(&mut one, count / 50);
    keyed.until_committed(&mut other, count / 50);
    let servers = [many.freeze(), keyed.freeze()];
    let frozen = Instant::now();
    let most = Duration::from_secs(setting("SDL_TEST_SILENCE", 60));
    while frozen.elapsed() < most {
        for (load, running) in [(&many, &mut one), (&keyed, &mut other)] {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            assert_eq!(load.clusters.source.members(&load.group), 1, "the membership is kept");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let memory = one.peak_memory().expect("it runs");
    drop(servers);
    for (load, running) in [(&many, one), (&keyed, other)] {
        let finished = running.wait().expect(0);
        assert!(
            ["no response for", "does not answer"].iter().any(|silence| finished.stderr.contains(silence)),
            "{}",
            finished.stderr
        );
        load.assert_committed();
    }
    assert!(memory < 128, "{memory} MiB");
    many.assert_each_once();
    let left: BTreeMap<&str, u64> = (0..).zip(&updates).map(|(n, (key, _))| (key.as_str(), n)).collect();
    assert_eq!(keyed.python(&Value::Null, "answer = {d['_id']: d['n'] for d in collection.find({})}"), json!(left));
}

#[test]
#[ignore = "needs Kafka and MongoDB: scripts/test runs it"]
fn real_sink_mongo_sigterm_with_a_silent_server_exits_in_time_and_commits_only_delivered_records() {
    let load = Load::own(FERRET, "stuck", 2, &[]);
    load.fake(20_000);
    let mut running = load.sdl("--rate 1500 --batch 200 --linger 20ms --shutdown-timeout 3s").start();
    load.until_committed(&mut running, 3_000);
    let server = load.freeze();
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
}
