//! `sdl replicate` between two embedded clusters, with errors that a real cluster does not produce on demand.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::harness::{Cluster, CommitWatch, Content, Mock, Running, Sdl, Sender, check, numbered, read, setting};

const TOPIC: &str = "numbers";

/// Two clusters, a topic in each, and numbered records in the first.
struct Flow {
    source: Mock,
    target: Mock,
    sent: Vec<(i32, Content)>,
}

impl Flow {
    fn new(count: u64, partitions: i32) -> Self {
        let (source, target) = (Mock::start(1), Mock::start(3));
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
    for error in [NOT_LEADER, TIMED_OUT, TRANSPORT] {
        flow.target.faults().request_errors(RDKafkaApiKey::Produce, &[error; 3]);
        flow.source.faults().request_errors(RDKafkaApiKey::Fetch, &[error; 3]);
        let there = flow.target.cluster().count(TOPIC);
        running.wait_for_count(&flow.target.cluster(), TOPIC, there + 2_000);
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
    running.wait().expect(0);
    watch.assert_monotonic();
    flow.assert_exact();
}

#[test]
fn a_run_never_reads_what_it_writes() {
    let cluster = Mock::start(1);
    for topic in ["shop.a", "bad"] {
        cluster.create_topic(topic, 1);
    }
    let profile = Cluster::profile(&cluster.cluster(), &cluster.cluster(), "group");
    for (flags, what) in [
        ("--topics-matching .*shop.* --prefix c.", "topic `c.shop.a` would be read and written by the same run"),
        ("shop.a", "topic `shop.a` would be written into itself"),
        ("shop.a bad --prefix c. --dead-letters topic:bad", "topic `bad` of the dead letters would be read by the same run"),
        ("--topics-matching .* --exclude c.* --prefix c. --dead-letters topic:letters", "topic `letters` of the dead letters"),
        ("shop.a --to-topic copy --dead-letters topic:copy", "dead letters would be mixed with the records of topic `copy`"),
    ] {
        let run = Sdl::new(&format!("replicate {flags} --until-caught-up")).profile(&profile).start().wait();
        let stderr = run.expect(5).stderr;
        assert!(stderr.contains(what), "{flags}: {stderr}");
    }
}
