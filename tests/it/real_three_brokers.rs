//! The moving commands on a cluster of three brokers: leaders and coordinators that move, brokers that are away, and brokers that
//! clients cannot reach.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{
    Cluster, CommitWatch, Content, Dice, Finished, HttpStub, Proxy, Reply, Running, Scrape, Sdl, Sender, ThreeBrokers, check,
    created, eventually, numbered, read_with_kcat, setting, unique,
};

/// A topic of the three brokers, and a group that reads it.
struct Source {
    brokers: ThreeBrokers,
    topic: String,
    sent: Vec<(i32, Content)>,
}

impl Source {
    #[track_caller]
    fn filled(name: &str, partitions: i32, count: u64) -> Self {
        let (brokers, topic) = (ThreeBrokers::exclusive(), unique(name));
        brokers.cluster.create_topic(&topic, partitions, &[]);
        let sent = numbered(1, 0, count, partitions);
        Sender::new(&brokers.cluster, &[]).send(&topic, &sent);
        Self { brokers, topic, sent }
    }

    /// Returns `sdl replicate` of the topic, read at `source`'s listeners, into the topic `to` of `target`.
    fn replicate(&self, source: &Cluster, target: &Cluster, to: &str, flags: &str) -> Sdl {
        let arguments = format!("replicate {} --to-topic {to} --group {} {flags}", self.topic, self.topic);
        Sdl::new(&arguments).profile(&Cluster::profile(source, target, &self.topic)).deadline(Duration::from_secs(300))
    }

    /// Returns `sdl sink-es` of the topic into a scripted server.
    fn sink_es(&self, source: &Cluster, stub: &HttpStub, flags: &str) -> Sdl {
        let profile = format!(
            "[local_kafka]\nservers = {}\n\n[opensearch]\nurl = {}\ndefault_index = i\nconsumer_group_id = {}\n",
            source.servers,
            stub.url(),
            self.topic
        );
        Sdl::new(&format!("sink-es {} --raw-value text {flags}", self.topic)).profile(&profile).deadline(Duration::from_secs(300))
    }

    #[track_caller]
    fn assert_committed(&self, finished: &Finished) {
        let ends: Vec<_> = self.brokers.cluster.offsets(&self.topic).into_iter().map(|(_, end)| Some(end)).collect();
        assert_eq!(self.brokers.cluster.committed(&self.topic, &self.topic), ends, "{}", finished.stderr);
    }

    /// Waits until the group has committed this many records.
    #[track_caller]
    fn wait_for_committed(&self, running: &mut Running, count: u64) {
        eventually("records are committed", Duration::from_secs(120), || {
            let was_running = running.is_running();
            let committed = self.brokers.cluster.committed(&self.topic, &self.topic);
            let is_reached = committed.into_iter().flatten().sum::<i64>().cast_unsigned() >= count;
            assert!(is_reached || was_running, "it ended:\n{}", running.stderr());
            is_reached.then_some(())
        });
    }

    /// Returns a partition's leader that does not coordinate the group, if there is one.
    fn leader(&self) -> i32 {
        let (leaders, coordinator) = (self.brokers.leaders(&self.topic), self.brokers.coordinator(&self.topic));
        leaders.iter().copied().find(|leader| *leader != coordinator).unwrap_or(leaders[0])
    }

    /// Returns the distinct ids that a scripted server has stored.
    fn stored(stub: &HttpStub) -> BTreeSet<String> {
        stub.bulks().into_iter().flatten().collect()
    }

    fn ids(&self) -> BTreeSet<String> {
        let ends = self.brokers.cluster.offsets(&self.topic);
        (0..)
            .zip(ends)
            .flat_map(|(partition, (_, end))| (0..end).map(move |offset| (partition, offset)))
            .map(|(partition, offset): (i32, i64)| format!("{}:{partition}:{offset}", self.topic))
            .collect()
    }
}

fn search() -> HttpStub {
    HttpStub::search(|request| if request.is_bulk() { created(request) } else { Reply::Json(200, serde_json::json!({})) })
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_replicate_outlives_each_broker_killed_and_restarted() {
    let source = Source::filled("rolling", 6, 40_000);
    let cluster = &source.brokers.cluster;
    let copy = format!("{}-copy", source.topic);
    let watch = CommitWatch::start(cluster, &source.topic, &source.topic);
    let mut running = source.replicate(cluster, cluster, &copy, "--until-caught-up --rate 1500").start();
    running.wait_for_count(cluster, &copy, 2_000);
    // One of them leads, one coordinates the group, one may do both.
    for number in 1..=3 {
        source.brokers.kill_and_restart(number, &source.topic);
    }
    let finished = running.wait().expect(0);
    watch.assert_monotonic();
    let report = check(&source.sent, &read_with_kcat(cluster, &copy));
    assert!(report.is_exact(), "{report:?}:\n{}", finished.stderr);
    source.assert_committed(&finished);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_replicate_outlives_a_coordinator_that_moves() {
    let mut source = Source::filled("coordinator", 3, 20_000);
    let (cluster, target) = (&source.brokers.cluster, &source.brokers.others.target);
    let copy = format!("{}-copy", source.topic);
    let watch = CommitWatch::start(cluster, &source.topic, &source.topic);
    let mut running = source.replicate(cluster, target, &copy, "--rate 1000").start();
    source.wait_for_committed(&mut running, 1_000);
    for _ in 0..2 {
        let coordinator = source.brokers.coordinator(&source.topic);
        source.brokers.broker(coordinator, "kill");
        eventually("another broker coordinates", Duration::from_secs(30), || {
            let now = source.brokers.coordinator(&source.topic);
            (now > 0 && now != coordinator).then_some(())
        });
        let before: i64 = cluster.committed(&source.topic, &source.topic).into_iter().flatten().sum();
        let more = numbered(1, source.sent.len() as u64, 1_000, 3);
        Sender::new(cluster, &[]).send(&source.topic, &more);
        source.sent.extend(more);
        source.wait_for_committed(&mut running, before.cast_unsigned() + 500);
        source.brokers.broker(coordinator, "start");
    }
    source.wait_for_committed(&mut running, source.sent.len() as u64);
    let finished = running.end();
    watch.assert_monotonic();
    let report = check(&source.sent, &read_with_kcat(target, &copy));
    assert!(report.is_exact(), "{report:?}:\n{}", finished.stderr);
    source.assert_committed(&finished);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_sink_es_outlives_a_leader_killed_and_restarted() {
    let source = Source::filled("sink-leader", 6, 20_000);
    let cluster = &source.brokers.cluster;
    let stub = search();
    let watch = CommitWatch::start(cluster, &source.topic, &source.topic);
    let flags = "--until-caught-up --rate 1500 --batch 200 --linger 20ms";
    let mut running = source.sink_es(cluster, &stub, flags).start();
    source.wait_for_committed(&mut running, 2_000);
    source.brokers.kill_and_restart(source.leader(), &source.topic);
    let finished = running.wait().expect(0);
    watch.assert_monotonic();
    assert_eq!(Source::stored(&stub), source.ids(), "{}", finished.stderr);
    source.assert_committed(&finished);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_runs_are_complete_with_one_broker_away() {
    let source = Source::filled("two-of-three", 6, 6_000);
    let cluster = &source.brokers.cluster;
    let leader = source.brokers.leaders(&source.topic)[0];
    source.brokers.broker(leader, "kill");
    source.brokers.wait_for_leaders_other_than(leader, &source.topic);
    let copy = format!("{}-copy", source.topic);
    let finished = source.replicate(cluster, &source.brokers.others.target, &copy, "--until-caught-up").run().expect(0);
    let report = check(&source.sent, &read_with_kcat(&source.brokers.others.target, &copy));
    assert!(report.is_exact(), "{report:?}:\n{}", finished.stderr);
    source.assert_committed(&finished);
    let stub = search();
    let finished = source.sink_es(cluster, &stub, "--group two-of-three --from-beginning --until-caught-up").run().expect(0);
    assert_eq!(Source::stored(&stub), source.ids(), "{}", finished.stderr);
    source.brokers.broker(leader, "start");
}

/// Panics unless a bounded run failed, and named a broker that cannot be reached.
#[track_caller]
fn assert_incomplete(finished: &Finished, named: &str) {
    assert!(!finished.stderr.contains("complete after"), "{}", finished.stderr);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(named), "`{named}` is named: {}", finished.stderr);
}

/// Runs the movers and `tail` to the end of a topic with unreachable partitions of one broker.
#[track_caller]
fn assert_all_incomplete(source: &Source, at: &Cluster, named: &str) {
    let copy = format!("{}-copy", source.topic);
    let target = &source.brokers.others.target;
    // The coordinator can be reached: only the partitions of the third broker cannot.
    let group = || source.brokers.group_not_coordinated_by(3, "reachable");
    let bounded = || format!("--until-caught-up --wait 8s --retry-for 5s --group {}", group());
    let arguments = format!("replicate {} --to-topic {copy} {}", source.topic, bounded());
    assert_incomplete(&Sdl::new(&arguments).profile(&Cluster::profile(at, target, "none")).run(), named);
    assert_incomplete(&source.sink_es(at, &search(), &bounded()).run(), named);
    let profile = Cluster::profile(at, target, "none");
    let tail = Sdl::new(&format!("tail {} --source remote_kafka --start beginning", source.topic)).profile(&profile).run();
    assert_eq!(tail.code(), Some(1), "{}", tail.stderr);
    assert!(tail.stderr.contains(named), "`{named}` is named: {}", tail.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_bounded_runs_are_not_complete_while_a_leader_is_unreachable() {
    let source = Source::filled("unreachable", 6, 6_000);
    let _reachable = source.brokers.proxies(&[1, 2]);
    let at = source.brokers.through_proxies();
    let address = at.servers.split(',').nth(2).expect("three brokers");
    assert!(source.brokers.leaders(&source.topic).contains(&3), "the third broker leads a partition");
    assert_all_incomplete(&source, &at, &format!("the leader is broker 3, advertised as {address}"));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_bounded_runs_are_not_complete_while_a_leader_s_name_does_not_resolve() {
    let source = Source::filled("unresolved", 6, 6_000);
    assert!(source.brokers.leaders(&source.topic).contains(&3), "the third broker leads a partition");
    assert_all_incomplete(&source, &source.brokers.unresolved(), "the leader is broker 3, advertised as kafka3-3.invalid:");
    let profile = Cluster::profile(&source.brokers.unresolved(), &source.brokers.others.target, "none");
    let tail = Sdl::new(&format!("tail {} --source remote_kafka -n 1", source.topic)).profile(&profile).run().expect(1);
    let causes: Vec<_> =
        tail.stderr.lines().filter(|line| line.contains("looking up the name: the name does not resolve")).collect();
    assert!(
        causes.iter().all(|line| line.starts_with("  caused by: broker 3, advertised as kafka3-3.invalid:")),
        "{}",
        tail.stderr
    );
    assert_eq!(causes.len(), 1, "{}", tail.stderr);
    assert!(tail.stderr.ends_with("hint: correct `advertised.listeners` of the broker\n"), "{}", tail.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_leader_that_is_unreachable_for_a_while_is_waited_for() {
    let source = Source::filled("reachable-again", 6, 40_000);
    let target = &source.brokers.others.target;
    let proxies = source.brokers.proxies(&[1, 2, 3]);
    let copy = format!("{}-copy", source.topic);
    let arguments = format!("replicate {} --to-topic {copy} --until-caught-up --rate 2000", source.topic);
    // Few records are fetched ahead.
    let few = "kafka.queued.min.messages = 100\nkafka.fetch.message.max.bytes = 20000\n\n[local_kafka]";
    let profile = Cluster::profile(&source.brokers.through_proxies(), target, &source.topic).replace("\n[local_kafka]", few);
    let mut running = Sdl::new(&arguments).profile(&profile).deadline(Duration::from_secs(300)).start();
    source.wait_for_committed(&mut running, 2_000);
    let leader = usize::try_from(source.leader()).expect("a broker");
    proxies[leader - 1].refuse();
    std::thread::sleep(Duration::from_secs(10));
    assert!(running.is_running(), "{}", running.stderr());
    proxies[leader - 1].heal();
    let finished = running.wait().expect(0);
    let report = check(&source.sent, &read_with_kcat(target, &copy));
    assert!(report.is_exact(), "{report:?}:\n{}", finished.stderr);
    source.assert_committed(&finished);
}

/// What a run has read of a log of 200 records when an unclean election takes the last 100 away.
#[derive(Clone, Copy, PartialEq)]
enum HasRead {
    All,
    /// Another run has read all.
    NoneAfterAnother,
    /// The group begins at the end.
    NoneFromTheEnd,
}

/// Has a run wait at the end of a log that loses records that were there, and gets `again` others. `suspended`: the run sees that only
/// when the others are there.
fn lose_records(has_read: HasRead, suspended: bool, again: u64) {
    let (brokers, topic) = (ThreeBrokers::exclusive(), unique("lost"));
    let source = Source { brokers, topic, sent: Vec::new() };
    let (brokers, topic) = (&source.brokers, &source.topic);
    let (cluster, target) = (&brokers.cluster, &brokers.others.target);
    brokers.create_topic_that_can_lose_records(topic, [1, 2]);
    Sender::new(cluster, &[]).send(topic, &numbered(1, 0, 100, 1));
    brokers.broker(2, "kill");
    brokers.wait_for_leaders_other_than(2, topic);
    Sender::new(cluster, &[]).send(topic, &numbered(1, 100, 100, 1));
    let copy = format!("{topic}-copy");
    let flags = if has_read == HasRead::NoneFromTheEnd { "--start end -v" } else { "-v" };
    let mut running = source.replicate(cluster, target, &copy, flags).start();
    match has_read {
        HasRead::All => source.wait_for_committed(&mut running, 200),
        HasRead::NoneAfterAnother => {
            source.wait_for_committed(&mut running, 200);
            running.end();
            running = source.replicate(cluster, target, &copy, "-v").start();
            running.wait_for_stderr("Partition assigned.");
        }
        HasRead::NoneFromTheEnd => running.wait_for_stderr(" Committed."),
    }
    if suspended {
        running.signal("STOP");
    }
    brokers.broker(1, "kill");
    brokers.broker(2, "start");
    brokers.wait_for_leaders_other_than(1, topic);
    Sender::new(cluster, &[]).send(topic, &numbered(2, 0, again, 1));
    if suspended {
        running.signal("CONT");
    }
    for finished in [running.wait(), source.replicate(cluster, target, &copy, "--until-caught-up").run()] {
        let finished = finished.expect(5);
        for word in [topic.as_str(), "truncated", "hint: "] {
            assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
        }
    }
    let copied = if has_read == HasRead::NoneFromTheEnd { 0 } else { 200 };
    assert_eq!(target.count(&copy), copied, "nothing of the other log was copied");
    brokers.broker(1, "start");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_log_that_becomes_shorter_than_what_was_read_is_refused() {
    lose_records(HasRead::All, false, 20);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_log_with_other_records_than_those_that_were_read_is_refused() {
    for suspended in [false, true] {
        lose_records(HasRead::All, suspended, 500);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_log_with_other_records_is_refused_by_a_run_that_has_read_none() {
    for suspended in [false, true] {
        lose_records(HasRead::NoneAfterAnother, suspended, 500);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_log_with_other_records_is_refused_by_a_group_that_has_read_none() {
    for suspended in [false, true] {
        lose_records(HasRead::NoneFromTheEnd, suspended, 500);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_group_exists_while_its_coordinator_moves_and_loads() {
    let source = Source::filled("lag-moves", 3, 300);
    let cluster = &source.brokers.cluster;
    source.replicate(cluster, cluster, &format!("{}-copy", source.topic), "--until-caught-up").run().expect(0);
    let profile = format!("[local_kafka]\nservers = {}\n", cluster.servers);
    let lag = || Sdl::new(&format!("lag {} --no-time", source.topic)).profile(&profile).run();
    let coordinator = source.brokers.coordinator(&source.topic);
    for verb in ["kill", "start"] {
        source.brokers.broker(coordinator, verb);
        for _ in 0..3 {
            let finished = lag();
            assert!(!finished.stderr.contains("does not exist"), "after {verb}:\n{}", finished.stderr);
        }
    }
    let shown = || Some(lag()).filter(|finished| String::from_utf8_lossy(&finished.stdout).contains(&source.topic));
    eventually("the group is shown", Duration::from_secs(60), shown);
}

/// librdkafka before 2.14.2 can crash when the coordinator of its group is away as it closes.
#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_a_coordinator_that_goes_away_while_a_run_ends_crashes_nothing() {
    let source = Source::filled("closing", 2, 200);
    let (at, direct) = (source.brokers.through_proxies(), &source.brokers.cluster);
    let proxies = source.brokers.proxies(&[1, 2, 3]);
    let mut dice = Dice::of_environment();
    for round in 0..setting("SDL_TEST_CLOSES", 3) {
        let group = unique("closing");
        let line = format!("replicate {} --to-topic {group} --group {group}", source.topic);
        let profile = Cluster::profile(&at, direct, &group);
        let mut running = Sdl::new(&line).profile(&profile).deadline(Duration::from_secs(120)).start();
        running.wait_for_count(direct, &group, 200);
        let coordinator = &proxies[usize::try_from(source.brokers.coordinator(&group) - 1).expect("a broker")];
        let pause = Duration::from_millis(dice.below(60));
        if round % 2 == 0 {
            running.signal("TERM");
            std::thread::sleep(pause);
            coordinator.refuse();
        } else {
            coordinator.refuse();
            std::thread::sleep(pause);
            running.signal("TERM");
        }
        let finished = running.wait();
        // 1: what is delivered and not committed is handed back.
        assert!(matches!(finished.code(), Some(0 | 1)), "{:?}:\n{}", finished.code(), finished.stderr);
        coordinator.heal();
        let verdict = check(&source.sent, &read_with_kcat(direct, &group));
        assert!(verdict.is_exact(), "{verdict:?}:\n{}", finished.stderr);
    }
}

/// librdkafka aborts if an admin request to a coordinator times out while none can be reached, and one answers later.
#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_three_brokers_lag_outlives_coordinators_that_are_away_for_longer_than_it_waits() {
    let source = Source::filled("away", 1, 20);
    let (at, direct) = (source.brokers.through_proxies(), &source.brokers.cluster);
    let proxies = source.brokers.proxies(&[1, 2, 3]);
    source.replicate(direct, direct, &format!("{}-copy", source.topic), "--until-caught-up").run().expect(0);
    let profile = format!("[local_kafka]\nservers = {}\n", at.servers);
    let mut running = Sdl::new("lag --metrics 0 --interval 1s").profile(&profile).deadline(Duration::from_secs(240)).start();
    let scrape = Scrape::of(&mut running);
    let group = &source.topic;
    let lag = |lag: u64| {
        format!("sdl_group_lag_records{{section=\"local_kafka\",group=\"{group}\",topic=\"{group}\",partition=\"0\"}} {lag}\n")
    };
    scrape.wait_for("the group is known", |page| page.0.contains(&lag(0)));
    for round in 1..=setting("SDL_TEST_OUTAGES", 1) {
        proxies.iter().for_each(Proxy::refuse);
        Sender::new(direct, &[]).send(&source.topic, &numbered(1, 20 * round, 20, 1));
        scrape.wait_for("the outage is seen", |page| page.0.contains("sdl_section_up{section=\"local_kafka\"} 0\n"));
        std::thread::sleep(Duration::from_secs(4));
        proxies.iter().for_each(Proxy::heal);
        scrape.wait_for("the group is known again", |page| page.0.contains(&lag(20 * round)));
    }
    running.signal("INT");
    running.wait().expect(0);
}
