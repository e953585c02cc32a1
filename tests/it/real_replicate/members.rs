//! Several members of one group, and topics that grow.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::Flow;
use crate::harness::{Content, Proxy, Running, Sdl, Sender, eventually, numbered, setting};

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_members_that_join_and_leave_lose_nothing_and_keep_the_order() {
    let flow = Flow::new("members", 6).with("kafka.session.timeout.ms = 6000").with("kafka.heartbeat.interval.ms = 500");
    let rounds = setting("SDL_TEST_REBALANCES", 8) / 2;
    let count = rounds * 40_000;
    let sent = flow.send(0, count);
    let watch = flow.watch_commits();
    let mut steady = flow.sdl("--rate 4000").deadline(Duration::from_secs(900)).start();
    flow.until_delivered(&mut steady, 1_000);
    for round in 0..rounds {
        let mut guest = flow.sdl("--rate 4000").start();
        flow.clusters.source.wait_for_members(&flow.group, 2);
        let there = flow.clusters.target.count(&flow.topic);
        flow.until_delivered(&mut guest, (there + 8_000).min(count));
        // Every other guest leaves without a word.
        if round % 2 == 0 {
            guest.end();
        } else {
            guest.signal("KILL");
            drop(guest);
        }
        flow.clusters.source.wait_for_members(&flow.group, 1);
    }
    steady.end();
    flow.catch_up("");
    watch.assert_monotonic();
    flow.assert_complete(&sent);
    flow.assert_committed();
}

/// Grows the source topic, of 4,000 records, to 8 partitions, and panics unless the run delivers 4,000 more of all partitions once.
#[track_caller]
fn assert_exact_after_growth(flow: &Flow, mut running: Running, mut sent: Vec<(i32, Content)>) {
    flow.clusters.source.grow_topic(&flow.topic, 8);
    let more = numbered(2, 0, 4_000, 8);
    Sender::new(&flow.clusters.source, &[]).send(&flow.topic, &more);
    flow.until_delivered(&mut running, 8_000);
    running.end();
    sent.extend(more);
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_partitions_added_during_a_run_are_created_in_the_target_of_a_producer_that_does_not_know_them() {
    let flow = Flow::new("grown-target", 4);
    let sent = flow.send(0, 4_000);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 4_000);
    assert_exact_after_growth(&flow, running, sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_partitions_added_during_a_run_are_read_from_their_beginning() {
    let flow = Flow::new("grown", 4).with("kafka.topic.metadata.refresh.interval.ms = 500");
    let sent = flow.send(0, 4_000);
    flow.catch_up("");
    let running = flow.sdl("").start();
    flow.clusters.source.wait_for_members(&flow.group, 1);
    flow.clusters.target.grow_topic(&flow.topic, 8);
    assert_exact_after_growth(&flow, running, sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_topics_and_partitions_that_appear_while_the_target_is_away_are_copied_when_it_is_back() {
    let flow = Flow::alone("appearing", 2).with("kafka.topic.metadata.refresh.interval.ms = 500");
    let mut sent = flow.send(0, 100);
    let new = format!("{}-new", flow.topic);
    let line = format!("replicate --topics-matching {}.* --group {} -vv", flow.topic, flow.group);
    let mut running = Sdl::new(&line).profile(&flow.profile()).deadline(Duration::from_secs(300)).start();
    flow.until_delivered(&mut running, 100);
    flow.clusters.target.server("stop");
    flow.clusters.source.create_topic(&new, 1, &[]);
    flow.clusters.source.grow_topic(&flow.topic, 4);
    let sender = Sender::new(&flow.clusters.source, &[]);
    sender.send(&new, &numbered(2, 0, 100, 1));
    let more = numbered(3, 0, 400, 4);
    sender.send(&flow.topic, &more);
    for partition in [format!("{new}/0"), format!("{}/3", flow.topic)] {
        running.wait_for_stderr(&format!("Partition assigned. partition={partition} "));
    }
    running.wait_for_stderr("Delivery stalled.");
    flow.clusters.target.server("start");
    running.wait_for_count(&flow.clusters.target, &new, 100);
    flow.until_delivered(&mut running, 500);
    running.end();
    sent.extend(more);
    flow.assert_exact(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_members_that_find_the_same_new_topic_or_partitions_all_go_on() {
    let flow = Flow::new("found-together", 3)
        .with("kafka.session.timeout.ms = 6000")
        .with("kafka.topic.metadata.refresh.interval.ms = 500");
    let line = format!("replicate --topics-matching {}.* --group {}", flow.topic, flow.group);
    let mut members = [1, 2, 3].map(|_| Sdl::new(&line).profile(&flow.profile()).deadline(Duration::from_secs(300)).start());
    flow.clusters.source.wait_for_members(&flow.group, 3);
    let mut sent = Vec::new();
    for round in 1_i32..=3 {
        let partitions = 3 + 3 * round;
        flow.clusters.source.grow_topic(&flow.topic, partitions);
        let sender = Sender::new(&flow.clusters.source, &[]); // an older one may not know of the new partitions
        let more = numbered(round.unsigned_abs(), 0, 300, partitions);
        sender.send(&flow.topic, &more);
        sent.extend(more);
        let new = format!("{}-{round}", flow.topic);
        flow.clusters.source.create_topic(&new, 6, &[]);
        sender.send(&new, &numbered(1, 0, 60, 6));
        members[0].wait_for_count(&flow.clusters.target, &new, 60);
        flow.until_delivered(&mut members[0], sent.len() as u64);
        for member in &mut members {
            assert!(member.is_running(), "{}", member.stderr());
        }
    }
    for member in &members {
        member.signal("TERM");
    }
    for member in members {
        member.wait().expect(0);
    }
    flow.assert_complete(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_bounded_run_waits_for_the_partitions_of_a_static_member_that_is_away() {
    let flow = Flow::new("away", 4).with("kafka.session.timeout.ms = 20000");
    let mut sent = flow.send(0, 400);
    let mut members = ["one", "other"].map(|name| flow.sdl(&format!("--instance-id {name} -vv")).start());
    for member in &mut members {
        member.wait_for_stderr("Partition assigned.");
    }
    flow.until_delivered(&mut members[0], 400);
    for member in &mut members {
        member.signal("TERM");
    }
    for member in members {
        member.wait().expect(0);
    }
    sent.extend(flow.send(400, 400));
    // The group gives the member its former partitions at once, and those of the other when its session ends.
    let finished = flow.catch_up("--instance-id one");
    assert!(finished.stderr.contains("Waiting for the other members of the group"), "{}", finished.stderr);
    flow.assert_complete(&sent);
    flow.assert_committed();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_run_without_an_instance_id_names_the_static_member_that_is_still_in_the_group() {
    let flow = Flow::new("static-left", 2).with("kafka.session.timeout.ms = 10000");
    let mut sent = flow.send(0, 100);
    let mut left = flow.sdl("--instance-id tour-1").start();
    flow.until_delivered(&mut left, 100);
    left.signal("TERM");
    left.wait().expect(0);
    sent.extend(flow.send(100, 100));
    let finished = flow.catch_up("");
    let line = format!("Group `{}` has the static member `tour-1`, which keeps its partitions", flow.group);
    assert!(finished.stderr.contains(&line), "{}", finished.stderr);
    flow.assert_complete(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_run_that_waits_for_the_session_of_a_killed_member_says_so() {
    // Long enough for the next runs to join well before it ends.
    let flow = Flow::new("waits-for-session", 2).with("kafka.session.timeout.ms = 30000");
    let mut sent = flow.send(0, 100);
    let mut killed = flow.sdl("").start();
    flow.until_delivered(&mut killed, 100);
    flow.until_committed();
    killed.signal("KILL");
    drop(killed.wait());
    sent.extend(flow.send(100, 100));
    let [waiting, quiet] = ["-v", "-q"].map(|flags| flow.sdl(&format!("--until-caught-up {flags}")).start());
    let waiting = waiting.wait().expect(0).stderr;
    let line = "Waiting for partitions: another member of the group may have died; its session ends within 30 s \
                (--instance-id avoids this)";
    assert_eq!(waiting.matches(line).count(), 1, "{waiting}");
    let quiet = quiet.wait().expect(0).stderr;
    assert!(!quiet.contains("Waiting for partitions"), "{quiet}");
    flow.assert_complete(&sent);
    flow.assert_committed();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_whose_instance_id_is_taken_over_ends_and_says_so() {
    let flow = Flow::new("same-id", 1);
    flow.send(0, 10);
    let mut first = flow.sdl("--instance-id same").start();
    flow.until_delivered(&mut first, 10);
    let second = flow.sdl("--instance-id same").start();
    let stderr = first.wait().expect(5).stderr;
    let error = "error: another member took over the instance id on `remote_kafka`\n\
                 hint: give each running member an --instance-id of its own\n";
    assert!(stderr.ends_with(error), "{stderr}");
    second.end();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_that_lost_its_partition_writes_nothing_after_the_next_owner() {
    let mut flow = Flow::alone("lost", 1).with("kafka.session.timeout.ms = 6000");
    let sent = flow.send(0, 30_000);
    let direct = (flow.clusters.source.clone(), flow.clusters.target.clone());
    let lines = [Proxy::before(&direct.0), Proxy::before(&direct.1)];
    (flow.clusters.source, flow.clusters.target) = (direct.0.through_proxy(), direct.1.through_proxy());
    let mut cut_off = flow.sdl("--rate 3000 -v -o json").start();
    (flow.clusters.source, flow.clusters.target) = direct;
    flow.until_delivered(&mut cut_off, 3_000);
    lines[1].refuse();
    // Its producer's queue fills.
    std::thread::sleep(Duration::from_secs(3));
    lines[0].refuse();
    flow.clusters.source.wait_for_members(&flow.group, 0);
    flow.catch_up("");
    let there = flow.clusters.target.count(&flow.topic);
    cut_off.wait_for_stderr("Partitions revoked.");
    lines[1].heal();
    std::thread::sleep(Duration::from_secs(5));
    lines[0].heal();
    flow.clusters.source.wait_for_members(&flow.group, 1);
    let summary = cut_off.end().json();
    assert!(summary["released"].as_u64() > Some(3_000), "records were in flight: {summary}");
    assert_eq!(flow.clusters.target.count(&flow.topic), there, "{summary}");
    flow.assert_complete(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_partitions_revoked_during_a_stall_are_resumed_when_they_are_assigned_again() {
    let flow = Flow::alone("moved", 2).with("kafka.session.timeout.ms = 6000");
    let sent = flow.send(0, 60_000);
    let mut steady = flow.sdl("--rate 5000").deadline(Duration::from_secs(300)).start();
    flow.until_delivered(&mut steady, 2_000);
    flow.clusters.target.server("freeze");
    steady.wait_for_stderr("Delivery stalled.");
    // Another client: `sdl` would wait for the target.
    let guest: BaseConsumer = flow
        .clusters
        .source
        .client()
        .set("group.id", &flow.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    guest.subscribe(&[&flow.topic]).unwrap();
    eventually("the guest has a partition", Duration::from_secs(60), || {
        let _ = guest.poll(Duration::from_millis(100));
        (guest.assignment().unwrap().count() > 0).then_some(())
    });
    flow.clusters.target.server("thaw");
    drop(guest);
    flow.until_committed();
    steady.end();
    flow.assert_complete(&sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_bounded_run_of_a_pattern_ends_when_one_of_its_topics_is_deleted() {
    let flow = Flow::new("vanishing", 1);
    flow.send(0, 20_000);
    let other = format!("{}-other", flow.topic);
    flow.clusters.source.create_topic(&other, 1, &[]);
    Sender::new(&flow.clusters.source, &[]).send(&other, &numbered(1, 0, 20_000, 1));
    let line = format!("replicate --topics-matching {}.* --group {} --until-caught-up --rate 2000", flow.topic, flow.group);
    let mut running = Sdl::new(&line).profile(&flow.profile()).start();
    flow.until_delivered(&mut running, 1_000);
    flow.clusters.source.delete_topic(&other);
    let finished = running.wait().expect(1);
    let message = format!("topic `{other}` does not exist on `remote_kafka` any more");
    assert!(finished.stderr.contains(&message), "{}", finished.stderr);
    assert_eq!(flow.committed(), flow.ends(), "the other topic is read");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_that_ends_during_a_rebalance_commits_what_it_has_delivered() {
    for milliseconds in [0, 400, 800, 1_600, 2_400, 3_200] {
        let flow = Flow::new("ending", 2);
        let sent = flow.send(0, 4_000);
        let mut first = flow.sdl("--rate 500").start();
        flow.until_delivered(&mut first, 300);
        let mut second = flow.sdl("--rate 500").start();
        std::thread::sleep(Duration::from_millis(milliseconds));
        first.end();
        // It listens to signals by now.
        second.wait_for_stderr("to catch up");
        second.end();
        flow.catch_up("");
        flow.assert_exact(&sent);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_bounded_run_in_a_group_with_another_assignment_strategy_is_refused() {
    let flow = Flow::new("another-assignor", 1);
    flow.send(0, 10);
    let guest: BaseConsumer = flow
        .clusters
        .source
        .client()
        .set("group.id", &flow.group)
        .set("partition.assignment.strategy", "range")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    guest.subscribe(&[&flow.topic]).unwrap();
    eventually("the guest has the partition", Duration::from_secs(60), || {
        let _ = guest.poll(Duration::from_millis(100));
        (guest.assignment().unwrap().count() > 0).then_some(())
    });
    let finished = flow.sdl("--until-caught-up").run().expect(5);
    let message = "the other members of the group on `remote_kafka` use another assignment strategy";
    assert!(finished.stderr.contains(message), "{}", finished.stderr);
    assert_eq!(flow.clusters.source.committed(&flow.group, &flow.topic), [None]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_session_timeout_that_the_brokers_refuse_ends_the_run() {
    let flow =
        Flow::new("long-session", 1).with("kafka.session.timeout.ms = 3600000").with("kafka.max.poll.interval.ms = 3600000");
    flow.send(0, 10);
    let finished = flow.sdl("").run().expect(1);
    assert!(finished.stderr.contains("cannot join the group on `remote_kafka`"), "{}", finished.stderr);
    assert!(finished.stderr.contains("hint: set `kafka.session.timeout.ms`"), "{}", finished.stderr);
}
