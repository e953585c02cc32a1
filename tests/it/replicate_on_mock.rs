//! `sdl replicate` between two embedded clusters, with errors that a real cluster does not produce on demand.

use std::time::Duration;

use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::harness::{Cluster, CommitWatch, Content, Mock, Running, Sdl, Sender, check, eventually, numbered, read, setting};

const TOPIC: &str = "numbers";

/// Two clusters, a topic in each, and numbered records in the first.
struct Flow {
    source: Mock,
    target: Mock,
    sent: Vec<(i32, Content)>,
}

impl Flow {
    fn new(count: u64, partitions: i32) -> Self {
        Self::from(Mock::start(1), count, partitions)
    }

    /// As [`Self::new`], from this cluster.
    fn from(source: Mock, count: u64, partitions: i32) -> Self {
        let target = Mock::start(3);
        source.create_topic(TOPIC, partitions);
        target.create_topic(TOPIC, partitions);
        let sent = numbered(1, 0, count, partitions);
        Sender::new(&source.cluster(), &[]).send(TOPIC, &sent);
        Self { source, target, sent }
    }

    fn start(&self, flags: &str) -> Running {
        let profile = Cluster::profile(&self.source.cluster(), &self.target.cluster(), "group");
        Sdl::new(&format!("replicate {TOPIC} {flags}")).profile(&profile).start()
    }

    #[track_caller]
    fn assert_exact(&self) {
        let verdict = check(&self.sent, &read(&self.target.cluster(), TOPIC));
        assert!(verdict.is_exact(), "{verdict:?}");
        let ends: Vec<_> = self.source.cluster().offsets(TOPIC).into_iter().map(|(_, end)| Some(end)).collect();
        assert_eq!(self.source.cluster().committed("group", TOPIC), ends);
    }
}

#[test]
fn records_arrive_once_in_order_and_are_committed() {
    let flow = Flow::new(10_000, 3);
    flow.start("--until-caught-up").wait().expect(0);
    flow.assert_exact();
}

#[test]
fn transient_errors_lose_repeat_and_reorder_nothing() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as NOT_LEADER,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as TIMED_OUT,
    };
    let flow = Flow::new(20_000, 3);
    let mut running = flow.start("--until-caught-up --rate 5000");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 2_000);
    for (round, error) in (1..).zip([NOT_LEADER, TIMED_OUT, TRANSPORT]) {
        flow.target.faults().request_errors(RDKafkaApiKey::Produce, &[error; 3]);
        flow.source.faults().request_errors(RDKafkaApiKey::Fetch, &[error; 3]);
        running.wait_for_count(&flow.target.cluster(), TOPIC, 2_000 + round * 4_000);
    }
    running.wait().expect(0);
    flow.assert_exact();
}

#[test]
fn a_down_broker_and_a_moved_leader_are_waited_for() {
    let flow = Flow::new(20_000, 3);
    let mut running = flow.start("--until-caught-up --rate 5000");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 2_000);
    flow.target.faults().broker_down(1).expect("a broker goes down");
    std::thread::sleep(Duration::from_millis(1_500));
    flow.target.faults().broker_up(1).expect("the broker comes back");
    for partition in 0..3 {
        flow.target.faults().partition_leader(TOPIC, partition, Some(1 + (partition + 1) % 3)).expect("the leader moves");
    }
    running.wait().expect(0);
    flow.assert_exact();
}

#[test]
fn failed_commits_are_repeated_with_the_current_position_and_never_go_back() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as UNAVAILABLE,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as TIMED_OUT,
    };
    let flow = Flow::new(20_000, 3);
    let watch = CommitWatch::start(&flow.source.cluster(), "group", TOPIC);
    let mut running = flow.start("--until-caught-up --rate 5000");
    for round in 1..=setting("SDL_TEST_COMMIT_FAULTS", 3) {
        running.wait_for_count(&flow.target.cluster(), TOPIC, round * 4_000);
        flow.source.faults().request_errors(RDKafkaApiKey::OffsetCommit, &[LOADING, UNAVAILABLE, TIMED_OUT]);
    }
    let stderr = running.wait().expect(0).stderr;
    watch.assert_monotonic();
    flow.assert_exact();
    let said = |line: &str| stderr.matches(line).count();
    assert_eq!(said("Commits stalled."), said("Commits resumed."), "on a slow machine they take more than 3 s:\n{stderr}");
}

#[test]
fn commits_that_are_refused_for_seconds_are_a_stall() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING;
    let flow = Flow::new(2_000, 1);
    let mut running = flow.start("--rate 500");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 100);
    flow.source.faults().request_errors(RDKafkaApiKey::OffsetCommit, &[LOADING; 200]);
    running.wait_for_stderr("Commits stalled. reason=\"offset commit failed: the coordinator is still loading its groups; ");
    flow.source.faults().clear_request_errors(RDKafkaApiKey::OffsetCommit);
    running.wait_for_stderr("Commits resumed.");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 2_000);
    running.end();
    flow.assert_exact();
}

#[test]
fn a_rebalance_that_holds_up_the_commits_holds_up_new_deliveries() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS as REBALANCING;
    let flow = Flow::new(10_000, 1);
    let mut running = flow.start("--rate 500");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 100);
    flow.source.faults().request_errors(RDKafkaApiKey::OffsetCommit, &[REBALANCING; 2_000]);
    running.wait_for_stderr("nothing new is delivered until the group accepts commits again");
    let held = held(&flow.target.cluster());
    assert!(held < 10_000, "{held} records were delivered");
    flow.source.faults().clear_request_errors(RDKafkaApiKey::OffsetCommit);
    running.wait_for_stderr("Commits resumed.");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 10_000);
    running.end();
    flow.assert_exact();
}

/// Returns how many records a topic holds when no more arrive for a second.
fn held(target: &Cluster) -> u64 {
    let count = target.counter(TOPIC);
    eventually("what is in flight is delivered", Duration::from_secs(60), || {
        let before = count();
        std::thread::sleep(Duration::from_secs(1));
        (count() == before).then_some(before)
    })
}

#[test]
fn commits_that_are_not_answered_while_a_member_joins_hold_up_new_deliveries() {
    let flow = Flow::new(20_000, 2);
    // The mock's group waits for a session, less a second, for its members to join again, and answers no commit behind the request to join.
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
    let profile = profile.replacen("\n\n", "\nkafka.session.timeout.ms = 15000\n\n", 1);
    let member =
        || Sdl::new(&format!("replicate {TOPIC} --rate 200")).profile(&profile).deadline(Duration::from_secs(180)).start();
    let mut first = member();
    first.wait_for_count(&flow.target.cluster(), TOPIC, 100);
    let second = member();
    first.wait_for_stderr("nothing new is delivered until the group accepts commits again");
    let held = held(&flow.target.cluster());
    assert!(held < 10_000, "{held} records were delivered");
    first.wait_for_stderr("Commits resumed.");
    first.wait_for_count(&flow.target.cluster(), TOPIC, held + 100);
    drop((first, second));
}

#[test]
fn a_silent_coordinator_holds_up_new_deliveries_although_the_leaders_answer() {
    let source = Mock::start(2);
    source.faults().coordinator(MockCoordinator::Group("group".to_owned()), 2).expect("the group has a coordinator");
    let flow = Flow::from(source, 20_000, 1);
    flow.source.faults().partition_leader(TOPIC, 0, Some(1)).expect("another broker leads");
    let mut running = flow.start("--rate 500");
    running.wait_for_count(&flow.target.cluster(), TOPIC, 100);
    // Shorter than the session.
    flow.source.faults().broker_round_trip_time(2, Duration::from_secs(20)).expect("the coordinator is slow");
    running.wait_for_stderr(
        "the group's coordinator does not answer (it is away, or the group rebalances); nothing new is delivered",
    );
    let held = held(&flow.target.cluster());
    assert!(held < 15_000, "{held} records were delivered");
    flow.source.faults().broker_round_trip_time(2, Duration::ZERO).expect("the coordinator is back");
    running.wait_for_stderr("Commits resumed.");
    running.wait_for_count(&flow.target.cluster(), TOPIC, held + 500);
    running.end();
}

/// A run whose session is short, for outages that are longer.
fn with_short_session(flow: &Flow, flags: &str) -> Running {
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
    let profile = profile.replacen("\n\n", "\nkafka.session.timeout.ms = 6000\n\n", 1);
    Sdl::new(&format!("replicate {TOPIC} {flags}")).profile(&profile).deadline(Duration::from_secs(180)).start()
}

#[test]
fn commits_that_end_with_the_session_are_given_up_and_a_stop_says_so() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING;
    let flow = Flow::new(100, 1);
    let mut running = with_short_session(&flow, "");
    let (source, target) = (flow.source.cluster(), flow.target.cluster());
    running.wait_for_count(&target, TOPIC, 100);
    eventually("the first records are committed", Duration::from_secs(60), || {
        (source.committed("group", TOPIC) == [Some(100)]).then_some(())
    });
    flow.source.faults().request_errors(RDKafkaApiKey::OffsetCommit, &vec![LOADING; 20_000]);
    Sender::new(&source, &[]).send(TOPIC, &numbered(1, 100, 2_000, 1));
    running.wait_for_count(&target, TOPIC, 2_100);
    running.wait_for_stderr("Commits stalled.");
    flow.source.faults().broker_down(1).expect("the broker goes down");
    running.wait_for_stderr(
        "Commits given up: the partitions were lost before 2,000 delivered records were committed; they will be read and delivered \
         again, unless their topic is gone.",
    );
    running.wait_for_stderr("the source has not answered for 6 s: its partitions were given up; waiting for it");
    running.signal("TERM");
    let stderr = running.wait().expect(1).stderr;
    assert!(stderr.contains("error: the offsets were not committed on `remote_kafka`"), "{stderr}");
    assert!(stderr.ends_with("hint: everything was delivered; the next run repeats what was not committed\n"), "{stderr}");
    let is_said = ["Commits resumed.", "Waiting for partitions: another member, or this process before the outage"];
    assert!(!is_said.iter().any(|line| stderr.contains(line)), "neither is true: {stderr}");
}

#[test]
fn an_outage_that_is_longer_than_the_session_is_over_when_partitions_are_read_again() {
    let flow = Flow::new(100, 1);
    let mut running = with_short_session(&flow, "");
    let (source, target) = (flow.source.cluster(), flow.target.cluster());
    running.wait_for_count(&target, TOPIC, 100);
    flow.source.faults().broker_down(1).expect("the broker goes down");
    running.wait_for_stderr("Reading stalled.");
    running.wait_for_stderr("the source has not answered for 6 s: its partitions were given up; waiting for it");
    flow.source.faults().broker_up(1).expect("the broker comes back");
    running.wait_for_stderr("Reading resumed.");
    Sender::new(&source, &[]).send(TOPIC, &numbered(1, 100, 100, 1));
    running.wait_for_count(&target, TOPIC, 200);
    let stderr = running.stderr();
    let reasons: Vec<_> = stderr.lines().filter(|line| line.contains("Reading stalled.")).collect();
    assert!(
        reasons.len() <= 3 && !reasons.iter().any(|line| line.contains("Coordinator") || line.contains("failed")),
        "{stderr}"
    );
    running.end();
}

#[test]
fn a_new_partition_without_a_leader_does_not_hold_up_the_others() {
    const NEW: &str = "numbers-more";
    let flow = Flow::new(1_000, 2);
    flow.target.create_topic(NEW, 2);
    let (source, target) = (flow.source.cluster(), flow.target.cluster());
    // The mock's group gives out a new topic when a session has passed.
    let profile = Cluster::profile(&source, &target, "group").replacen("\n\n", "\nkafka.session.timeout.ms = 6000\n\n", 1);
    let mut running =
        Sdl::new("replicate --topics-matching numbers.* -v").profile(&profile).deadline(Duration::from_secs(120)).start();
    running.wait_for_count(&target, TOPIC, 1_000);
    flow.source.create_topic(NEW, 2);
    flow.source.faults().partition_leader(NEW, 0, None).expect("the leader goes away");
    let (waiting, read): (Vec<_>, Vec<_>) = numbered(2, 0, 200, 2).into_iter().partition(|(partition, _)| *partition == 0);
    Sender::new(&source, &[]).send(NEW, &read);
    running.wait_for_count(&target, NEW, 100);
    running.wait_for_stderr("numbers-more/0: ");
    Sender::new(&source, &[]).send(TOPIC, &numbered(1, 1_000, 100, 2));
    running.wait_for_count(&target, TOPIC, 1_100);
    flow.source.faults().partition_leader(NEW, 0, Some(1)).expect("the leader comes back");
    Sender::new(&source, &[]).send(NEW, &waiting);
    running.wait_for_count(&target, NEW, 200);
    running.wait_for_stderr("Reading stalled.");
    running.wait_for_stderr("Reading resumed.");
    let stderr = running.stderr();
    let stalls = || stderr.lines().filter(|line| line.contains("numbers-more/0: ") && line.contains("stalled."));
    assert!(
        stalls().next().is_some() && stalls().all(|line| line.contains("Reading stalled.")),
        "the target is healthy: {stderr}"
    );
    running.end();
    assert_eq!(source.committed("group", NEW), [Some(100), Some(100)]);
}

#[test]
fn a_header_name_with_a_nul_byte_is_copied_whole() {
    let flow = Flow::new(0, 1);
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
    let produce = Sdl::new(&format!("produce-fake {TOPIC} --target remote_kafka --file lines")).profile(&profile);
    let headers = r#"["a\u0000b","1","a\u0000c","2","\u0000","3"]"#;
    let line = format!(r#"{{"topic":"{TOPIC}","partition":0,"offset":0,"headers":{headers},"key":null,"payload":"v"}}"#);
    std::fs::write(produce.home().join("lines"), line).expect("the line is written");
    produce.run().expect(0);
    flow.start("--until-caught-up").wait().expect(0);
    let shown = Sdl::new(&format!("tail {TOPIC} -o ndjson")).profile(&profile).run().expect(0).stdout;
    let shown = String::from_utf8(shown).expect("text");
    assert!(shown.contains(&format!("\"headers\":{headers},")), "{shown}");
}

#[test]
fn a_run_never_reads_what_it_writes() {
    let cluster = Mock::start(1);
    for topic in ["shop.a", "bad"] {
        cluster.create_topic(topic, 1);
    }
    let profile = Cluster::profile(&cluster.cluster(), &cluster.cluster(), "group");
    // A cluster can have two sections.
    let profile = format!("{profile}\n[again]\nservers = {}\n", cluster.cluster().servers);
    for (flags, what) in [
        ("--topics-matching .*shop.* --prefix c.", "topic `c.shop.a` would be read and written by the same run"),
        ("shop.a", "replication loop: source and target are the same topic `shop.a`"),
        ("shop.a bad --prefix c. --dead-letters topic:bad", "topic `bad` of the dead letters would be read by the same run"),
        ("--topics-matching .* --exclude c.* --prefix c. --dead-letters topic:letters", "topic `letters` of the dead letters"),
        ("shop.a --to-topic copy --dead-letters topic:copy", "dead letters would be mixed with the records of topic `copy`"),
        (
            "shop.a --to-topic copy --dead-letters topic:again/copy",
            "dead letters would be mixed with the records of topic `copy`",
        ),
        (
            "--topics-matching shop.* --prefix c. --dead-letters topic:c.shop.later",
            "dead letters would be mixed with the records of topic `c.shop.later`",
        ),
    ] {
        let run = Sdl::new(&format!("replicate {flags} --until-caught-up")).profile(&profile).start().wait();
        let stderr = run.expect(5).stderr;
        assert!(stderr.contains(what), "{flags}: {stderr}");
        let reads_several = flags.contains("matching") || flags.contains("bad");
        assert_eq!(stderr.contains("with --exclude"), reads_several, "{flags}: {stderr}");
    }
}

#[test]
fn an_invalid_name_of_the_target_topic_is_the_first_error_also_for_a_group_with_offsets() {
    let flow = Flow::new(10, 1);
    flow.start("--until-caught-up").wait().expect(0);
    for (flags, error) in [
        ("--to-topic a/b", "error: `a/b` is not a valid topic name\nhint: use up to 249 letters"),
        (
            "--rename {topik}",
            "error: unknown placeholder `{topik}` in the name of the target topic `{topik}`\nhint: write {topic}",
        ),
        ("--rename {topic}-{n}", "error: unknown placeholder `{n}` in the name of the target topic `{topic}-{n}`\n"),
    ] {
        let stderr = flow.start(&format!("{flags} --until-caught-up")).wait().expect(2).stderr;
        assert!(stderr.contains(error), "{flags}: {stderr}");
    }
}

#[test]
fn a_start_after_the_stop_is_refused_and_a_partition_of_which_nothing_is_read_is_named() {
    let flow = Flow::new(20, 2);
    let refused = flow.start("--start -2 --stop 3").wait().expect(2).stderr;
    let what = "error: --start (2 before the end) is after --stop (offset 3): no record is between them; in numbers/0 offset 8 is \
                after offset 3\nhint: swap the two positions, or remove --stop\n";
    assert!(refused.ends_with(what), "{refused}");
    assert_eq!(flow.source.cluster().committed("group", TOPIC), [None, None], "nothing was changed");
    Sender::new(&flow.source.cluster(), &[]).send(TOPIC, &numbered(2, 0, 10, 1));
    // Partition 0 now has 20 records, of which it would start behind the stop.
    let stderr = flow.start("--start -10 --stop 9").wait().expect(0).stderr;
    assert!(stderr.contains("numbers/0: nothing to read: its start, 10, is after its stop, 9"), "{stderr}");
    assert_eq!(flow.target.cluster().offsets(TOPIC), [(0, 0), (0, 9)]);
}

#[test]
fn dead_letters_are_not_written_to_a_protected_cluster() {
    let flow = Flow::new(0, 1);
    flow.source.create_topic("letters", 1);
    let profile = |protect: &str| {
        let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
        profile.replacen("[remote_kafka]\n", &format!("[remote_kafka]\nprotect = {protect}\n"), 1)
    };
    let run = |protect: &str, flags: &str| {
        let command = format!("replicate {TOPIC} --until-caught-up --dead-letters topic:remote_kafka/letters {flags}");
        Sdl::new(&command).profile(&profile(protect)).run()
    };
    for dry in ["", "--dry-run"] {
        let refused = run("readonly", &format!("--yes {dry}")).expect(5).stderr;
        let expected =
            ["`remote_kafka` is read-only (protect = readonly)", "write to letters", "--dead-letters topic:SECTION/NAME"];
        assert!(expected.iter().all(|text| refused.contains(text)), "{refused}");
    }
    let refused = run("confirm", "").expect(5).stderr;
    assert!(refused.contains("`remote_kafka` requires confirmation") && refused.contains("write to letters"), "{refused}");
    run("confirm", "--yes").expect(0);
    run("confirm", "--dry-run").expect(0);
}

#[test]
fn the_plan_names_the_dead_letters() {
    let flow = Flow::new(10, 1);
    flow.target.create_topic("bad", 1);
    let planned = |place: &str| flow.start(&format!("--dry-run --dead-letters {place}")).wait().expect(0).stderr;
    assert!(planned("topic:bad").contains("dead letters: topic bad on local_kafka\n"), "{}", planned("topic:bad"));
    let other = flow.start("--dry-run --dead-letters topic:remote_kafka/other").wait().expect(1).stderr;
    assert!(other.contains("error: cannot create topic `other` on `remote_kafka`\n  caused by: embedded brokers"), "{other}");
    assert!(planned("file:bad.ndjson").contains("dead letters: file bad.ndjson\n"));
}

#[test]
fn a_dry_run_creates_nothing_and_shows_the_limit() {
    let flow = Flow::new(10, 1);
    let planned = flow.start("--dry-run -n 5 --log-dir new/logs --dead-letters file:bad.ndjson").wait().expect(0);
    assert!(planned.stderr.contains("the end is at 10, stops after 5 records in all\n"), "{}", planned.stderr);
    assert!(!planned.path("new").exists() && !planned.path("bad.ndjson").exists(), "nothing is created");
    let started = flow.start("-n 5").wait().expect(0);
    assert!(started.stderr.contains("; has at most 10 records, stops after 5 records in all\n"), "{}", started.stderr);
}

#[test]
fn a_dry_run_refuses_the_files_that_a_start_cannot_write() {
    let flow = Flow::new(10, 1);
    for (flags, what) in [
        ("--dead-letters file:/no/such/folder/x", "cannot write dead letters to `/no/such/folder/x`"),
        ("--dead-letters file:/tmp", "Is a directory"),
        ("--dead-letters file:database.ini", "its first line is not a dead letter"),
        ("--log-dir database.ini/logs", "cannot write the log file `database.ini/logs/"),
    ] {
        for run in ["--dry-run", "--until-caught-up"] {
            let stderr = flow.start(&format!("{run} {flags}")).wait().expect(1).stderr;
            assert!(stderr.contains(what) && stderr.contains("\nhint: name a "), "{run} {flags}: {stderr}");
        }
    }
    assert_eq!(flow.source.cluster().committed("group", TOPIC), [None]);
}

#[test]
fn a_dry_run_refuses_a_property_that_only_the_client_of_a_start_rejects() {
    let flow = Flow::new(10, 1);
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
    // With idempotence librdkafka allows five requests in flight.
    let profile = profile.replace("[local_kafka]", "[local_kafka]\nkafka.max.in.flight = 6");
    for run in ["--dry-run", "--until-caught-up"] {
        let finished = Sdl::new(&format!("replicate {TOPIC} {run}")).profile(&profile).run();
        assert!(!matches!(finished.code(), Some(0)), "{run}: {}", finished.stderr);
        assert!(finished.stderr.contains("cannot connect to `local_kafka`"), "{run}: {}", finished.stderr);
    }
}

#[test]
fn a_target_topic_that_the_brokers_do_not_know_for_a_while_is_waited_for() {
    let flow = Flow::new(10_000, 3);
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "group");
    // The producer gives up a topic that the brokers do not list after this time.
    let profile = profile.replace("[local_kafka]", "[local_kafka]\nkafka.topic.metadata.propagation.max.ms = 100");
    let sdl = Sdl::new(&format!("replicate {TOPIC} --until-caught-up --rate 4000")).profile(&profile);
    let mut running = sdl.start();
    running.wait_for_count(&flow.target.cluster(), TOPIC, 2_000);
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    flow.target.faults().topic_error(TOPIC, unknown).unwrap();
    flow.target.faults().request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3]);
    std::thread::sleep(Duration::from_secs(2));
    flow.target.faults().topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    running.wait().expect(0);
    flow.assert_exact();
}
