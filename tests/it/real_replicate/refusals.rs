//! Refusals for safety: exit 5, with the numbers and a hint.

use std::time::Duration;

use super::Flow;
use crate::harness::{Finished, Running, eventually};

/// Panics unless a run was refused with all these texts.
#[track_caller]
fn refused(finished: Finished, words: &[&str]) {
    let finished = finished.expect(5);
    for word in words {
        assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
    }
    assert!(finished.stderr.contains("hint: "), "no hint:\n{}", finished.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_recreated_topic_is_refused_whether_shorter_or_longer() {
    for (again, number) in [(500, "1000"), (3_000, "0..3000")] {
        let flow = Flow::new("re-created", 1);
        flow.send(0, 1_000);
        flow.catch_up("");
        let note = flow.clusters.source.commit_metadata(&flow.group, &flow.topic, 0);
        flow.clusters.source.delete_topic(&flow.topic);
        flow.clusters.source.create_topic(&flow.topic, 1, &[]);
        let sent = flow.send(10_000, again);
        refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "--from-beginning"]);
        // Apache Kafka deletes the offsets of a deleted topic; a restored broker or another implementation may not.
        flow.clusters.source.commit(&flow.group, &flow.topic, 0, 1_000, &note);
        refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, number]);
        assert_eq!(flow.clusters.target.count(&flow.topic), 1_000, "nothing was written");
        flow.catch_up("--from-beginning");
        let verdict = flow.verdict(&sent);
        assert_eq!((verdict.lost, verdict.reordered), (0, 0), "{verdict:?}");
    }
}

fn until_all_is_committed(flow: &Flow) {
    eventually("the commits arrive", Duration::from_secs(30), || (flow.committed() == flow.ends()).then_some(()));
}

/// Starts a run that follows a topic to its end, and re-creates the topic with `partitions`.
fn recreate_in_mid_run(flow: &Flow, flags: &str, partitions: i32) -> Running {
    let sent = flow.send(0, 3_000);
    let mut running = flow.sdl(flags).start();
    flow.until_delivered(&mut running, sent.len() as u64);
    until_all_is_committed(flow);
    flow.clusters.source.delete_topic(&flow.topic);
    flow.clusters.source.create_topic(&flow.topic, partitions, &[]);
    running
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_recreated_in_mid_run_is_read_and_committed_from_its_beginning() {
    let flow = Flow::new("re-created-on-gap", 2);
    let mut running = recreate_in_mid_run(&flow, "--on-gap earliest -v", 2);
    running.wait_for_stderr("The topic was re-created");
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut running, 4_000);
    // These offsets are lower than the commits before.
    until_all_is_committed(&flow);
    let finished = running.end();
    assert!(!finished.stderr.contains("offset commit failed") && !finished.stderr.contains("skipped="), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches("The topic was re-created").count(), 2, "once in each partition: {}", finished.stderr);
    assert_eq!(flow.clusters.target.count(&flow.topic), 4_000, "no record is delivered twice");
    assert_eq!(flow.verdict(&sent).lost, 0);
    flow.catch_up(""); // the commits name the new topic
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_recreated_while_the_group_has_lost_its_partitions_is_refused() {
    for (flags, code) in [("-v", 5), ("--on-gap earliest -v", 0)] {
        let flow = Flow::new("re-created-slowly", 2).with("kafka.topic.metadata.refresh.interval.ms = 200");
        flow.send(0, 3_000);
        let mut running = flow.sdl(flags).start();
        flow.until_delivered(&mut running, 3_000);
        until_all_is_committed(&flow);
        flow.clusters.source.delete_topic(&flow.topic);
        // The client sees that the topic is gone, and the brokers delete the commits of the group with it.
        running.wait_for_stderr("lost=true");
        flow.clusters.source.create_topic(&flow.topic, 2, &[]);
        let sent = flow.send(10_000, 1_000);
        if code == 5 {
            refused(running.wait(), &[&flow.topic, "re-created", "next to read", "topic id now", "--from-beginning"]);
            assert_eq!(flow.clusters.target.count(&flow.topic), 3_000, "nothing of the new topic is delivered");
            continue;
        }
        running.wait_for_stderr("The topic was re-created; the run reads the new topic.");
        flow.until_delivered(&mut running, 4_000);
        until_all_is_committed(&flow);
        running.end();
        assert_eq!(flow.verdict(&sent).lost, 0);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_recreated_in_mid_run_with_fewer_partitions_is_refused_or_read_as_far_as_it_exists() {
    let flow = Flow::new("fewer", 4);
    refused(recreate_in_mid_run(&flow, "", 2).wait(), &[&flow.topic, "re-created", "topic id now", "--from-beginning"]);
    let flow = Flow { partitions: 2, ..Flow::new("fewer-on-gap", 4) };
    let mut running = recreate_in_mid_run(&flow, "--on-gap earliest -v", 2);
    running.wait_for_stderr("The topic was re-created");
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut running, 4_000);
    until_all_is_committed(&flow);
    running.end();
    assert_eq!(flow.verdict(&sent).lost, 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_partitions_that_a_recreated_topic_gets_back_are_read() {
    let flow = Flow::new("regrown", 4);
    let mut running = recreate_in_mid_run(&flow, "--on-gap earliest -v", 2);
    for partition in [2, 3].map(|partition| format!("{}/{partition}", flow.topic)) {
        let absent = format!("without this partition; the run reads the others. partition={partition}");
        // The group may take it away first.
        let is_released = |line: &str| line.contains("Partitions revoked.") && line.contains(&partition);
        running.wait_until_stderr(&format!("says that {partition} is left"), |printed| {
            printed.contains(&absent) || printed.lines().any(is_released)
        });
    }
    flow.clusters.source.grow_topic(&flow.topic, 4);
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut running, 4_000);
    until_all_is_committed(&flow);
    running.end();
    assert_eq!(flow.verdict(&sent).lost, 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_joins_others_that_have_not_yet_seen_that_the_topic_was_recreated() {
    let flow = Flow::new("re-created-unseen", 2);
    flow.send(0, 3_000);
    let mut running = flow.sdl("--on-gap earliest").start();
    flow.until_delivered(&mut running, 3_000);
    until_all_is_committed(&flow);
    running.signal("STOP");
    flow.clusters.source.delete_topic(&flow.topic);
    flow.clusters.source.create_topic(&flow.topic, 2, &[]);
    let mut second = flow.sdl("--on-gap earliest").start();
    second.wait_for_stderr("continues with new records");
    running.signal("CONT");
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut second, 4_000);
    until_all_is_committed(&flow);
    running.end();
    second.end();
    assert_eq!(flow.verdict(&sent).lost, 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_members_of_a_bounded_run_agree_on_the_ends_of_a_recreated_topic() {
    for partitions in [4, 2] {
        let flow = Flow::new("re-created-bounded", 4);
        flow.send(0, 40_000);
        let mut members = [1, 2].map(|_| flow.sdl("--until-caught-up --on-gap earliest --rate 1000 -v").start());
        flow.clusters.source.wait_for_members(&flow.group, 2);
        flow.until_delivered(&mut members[0], 4_000);
        flow.clusters.source.delete_topic(&flow.topic);
        flow.clusters.source.create_topic(&flow.topic, partitions, &[]);
        let flow = Flow { partitions, ..flow };
        // Each member finds another end of the log.
        let sent: Vec<_> = (0..10).flat_map(|chunk| flow.send(100_000 + chunk * 100, 100)).collect();
        for member in members {
            member.wait().expect(0);
        }
        flow.catch_up("--on-gap earliest");
        assert_eq!((flow.committed(), flow.verdict(&sent).lost), (flow.ends(), 0));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_recreated_just_before_the_end_of_a_run_is_read_by_the_next_one() {
    for partitions in [1, 2, 4] {
        let flow = Flow::new("re-created-at-end", partitions);
        flow.send(0, 4_000);
        let mut running = flow.sdl("--on-gap earliest").start();
        flow.until_delivered(&mut running, 4_000);
        flow.clusters.source.delete_topic(&flow.topic);
        flow.clusters.source.create_topic(&flow.topic, partitions, &[]);
        for partition in 0..partitions {
            running.wait_for_stderr(&format!("the run reads the new topic. partition={}/{partition}", flow.topic));
        }
        running.end();
        assert_eq!(
            flow.clusters.source.committed(&flow.group, &flow.topic),
            [Some(0)].repeat(usize::try_from(partitions).unwrap())
        );
        let sent = flow.send(100_000, 1_000);
        flow.catch_up("--on-gap earliest");
        assert_eq!((flow.committed(), flow.verdict(&sent).lost), (flow.ends(), 0));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_members_that_take_over_partitions_whose_records_were_deleted_do_not_wait_for_each_other() {
    let flow = Flow::new("taken-over", 6).with("kafka.session.timeout.ms = 6000").with("kafka.heartbeat.interval.ms = 500");
    flow.send(0, 12_000);
    let mut members = [1, 2, 3].map(|_| flow.sdl("--until-caught-up --on-gap earliest --rate 200 --batch 50").start());
    flow.clusters.source.wait_for_members(&flow.group, 3);
    flow.until_delivered(&mut members[0], 1_000);
    let [killed, second, third] = members;
    killed.signal("KILL");
    for partition in 0..6 {
        flow.clusters.source.delete_records(&flow.topic, partition, 2_000);
    }
    for member in [second, third] {
        member.wait().expect(0);
    }
    assert_eq!(flow.committed(), flow.ends());
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_records_deleted_by_retention_are_refused_with_their_number() {
    let flow = Flow::new("retention", 1);
    flow.send(0, 1_000);
    flow.catch_up("");
    let sent = flow.send(1_000, 1_000);
    flow.clusters.source.delete_records(&flow.topic, 0, 1_500);
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "1000", "1500"]);
    assert_eq!(flow.committed(), [1_000], "nothing is skipped silently");
    flow.catch_up("--on-gap earliest");
    let verdict = flow.verdict(&sent);
    assert_eq!((verdict.lost, verdict.duplicated), (500, 0), "{verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_records_deleted_in_several_partitions_are_refused_and_passed_with_their_total() {
    let flow = Flow::new("retention-of-several", 3);
    flow.send(0, 300);
    flow.catch_up("");
    flow.send(300, 1_500);
    for (partition, below) in (0..).zip([200, 300, 600]) {
        flow.clusters.source.delete_records(&flow.topic, partition, below);
    }
    let numbers = ["/0: next to read 100, first there 200, missing 100", "/2: next to read 100, first there 600, missing 500"];
    let words = ["records of 3 partitions were deleted", numbers[0], numbers[1], "missing in total: 800", "--on-gap earliest"];
    refused(flow.sdl("--until-caught-up").run(), &words);
    assert_eq!(flow.committed(), [100; 3], "nothing is skipped silently");
    let finished = flow.catch_up("--on-gap earliest -q");
    for warning in ["wanted=100 next=300 skipped=200", "the run continues behind the gaps. partitions=3 skipped=800"] {
        assert!(finished.stderr.contains(warning), "`{warning}` is not in stderr:\n{}", finished.stderr);
    }
    assert_eq!(flow.committed(), flow.ends());
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_of_another_flow_is_refused_until_adopted() {
    let flow = Flow::new("foreign", 1);
    flow.send(0, 100);
    flow.catch_up("--to-topic elsewhere-of-foreign --start beginning");
    refused(flow.sdl("--until-caught-up").run(), &["elsewhere-of-foreign", "--group"]);
    let sent = flow.send(100, 100);
    flow.catch_up("--adopt-group");
    assert!(flow.verdict(&sent).is_exact(), "an adopted group goes on where it was");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_with_records_is_refused_to_a_new_group_without_a_start() {
    let flow = Flow::new("occupied", 1);
    let sent = flow.send(0, 100);
    flow.catch_up("");
    refused(flow.sdl("--until-caught-up --group other-of-occupied").run(), &[&flow.topic, "--start"]);
    flow.catch_up("--group other-of-occupied --start -40");
    assert_eq!(flow.verdict(&sent).duplicated, 40);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_start_that_skips_records_needs_confirmation() {
    let flow = Flow::new("skipping", 1);
    flow.send(0, 100);
    flow.catch_up("");
    let sent = flow.send(100, 100);
    refused(flow.sdl("--until-caught-up --start 150").run(), &["100", "150", "--yes"]);
    assert_eq!(flow.committed(), [100]);
    flow.catch_up("--start 150 --yes");
    assert_eq!(flow.verdict(&sent).lost, 50);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_start_that_skips_records_counts_them_in_the_refusal_and_in_a_quiet_run() {
    let flow = Flow::new("skipping-quietly", 2);
    flow.send(0, 1_000);
    flow.catch_up("");
    flow.send(1_000, 300);
    let skipped: i64 = flow.ends().iter().zip(flow.committed()).map(|(end, committed)| end - committed).sum();
    refused(
        flow.sdl("--until-caught-up --start end").run(),
        &["/1: committed", &format!("skipped in total: {skipped}"), "--yes"],
    );
    let finished = flow.sdl("--until-caught-up --start end --yes -q").run().expect(0);
    let warning =
        format!("WARN The start lies beyond what the group has read; records are skipped. partitions=2 skipped={skipped}");
    assert!(finished.stderr.contains(&warning), "{}", finished.stderr);
    assert_eq!(flow.clusters.target.count(&flow.topic), 1_000);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_start_is_refused_while_the_group_has_members() {
    let flow = Flow::new("busy", 1);
    flow.send(0, 100);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 100);
    refused(flow.sdl("--until-caught-up --from-beginning").run(), &[&flow.group]);
    running.end();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_without_partitions_leaves_the_group_when_it_ends() {
    let flow = Flow::new("idle-member", 1);
    flow.send(0, 100);
    let mut reading = flow.sdl("").start();
    flow.until_delivered(&mut reading, 100);
    let mut idle = flow.sdl("").start();
    idle.wait_for_stderr("continues with new records");
    std::thread::sleep(std::time::Duration::from_secs(5)); // of the join
    idle.end();
    reading.end();
    // Refused while the group has members.
    flow.catch_up("--from-beginning --yes");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_deleted_target_topic_is_refused_with_what_the_group_has_copied() {
    let flow = Flow::new("deleted-target", 2);
    let before = flow.send(0, 100);
    flow.catch_up("");
    flow.clusters.target.delete_topic(&flow.topic);
    let after = flow.send(100, 10);
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "100 offsets", "--from-beginning", "--start committed"]);
    flow.catch_up("--start committed");
    assert_eq!(flow.clusters.target.count(&flow.topic), after.len() as u64);
    flow.catch_up("--from-beginning");
    assert_eq!(flow.verdict(&[before, after].concat()).lost, 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_topic_that_was_recreated_between_runs_is_refused_with_what_the_group_has_copied() {
    let flow = Flow::new("recreated-target", 2);
    let before = flow.send(0, 100);
    flow.catch_up("");
    let recreate = || {
        flow.clusters.target.delete_topic(&flow.topic);
        flow.clusters.target.create_topic(&flow.topic, 2, &[]);
    };
    recreate();
    let after = flow.send(100, 10);
    let said = [flow.topic.as_str(), "100 offsets", "created again", "topic id", "--from-beginning", "--start committed"];
    for _ in 0..2 {
        refused(flow.sdl("--until-caught-up").run(), &said);
    }
    flow.catch_up("--start committed");
    assert_eq!(flow.clusters.target.count(&flow.topic), after.len() as u64);
    flow.catch_up(""); // the commits name the new topic
    recreate();
    flow.catch_up("--from-beginning");
    flow.catch_up("");
    assert_eq!(flow.verdict(&[before, after].concat()).lost, 0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_topic_that_is_recreated_during_a_run_ends_it() {
    let flow = Flow::new("target-recreated-in-mid-run", 2);
    let mut sent = flow.send(0, 1_000);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 1_000);
    until_all_is_committed(&flow);
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 2, &[]);
    let said = [flow.topic.as_str(), "created again", "during the run", "topic id now", "--from-beginning"];
    while running.is_running() && sent.len() < 50_000 {
        let from = sent.len() as u64;
        sent.extend(flow.send(from, 100));
    }
    refused(running.wait(), &said);
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "offsets that its source still holds"]);
    flow.catch_up("--from-beginning");
    assert_eq!(flow.verdict(&sent).lost, 0);

    // A run that has nothing to send says it, and does not end well.
    let mut idle = flow.sdl("").start();
    idle.wait_for_stderr("continues with new records");
    flow.clusters.source.wait_for_members(&flow.group, 1);
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 1, &[]);
    idle.wait_for_stderr("the run ends with the next record");
    idle.signal("TERM");
    refused(idle.wait(), &said);
    refused(flow.sdl("--until-caught-up").run(), &["offsets that its source still holds"]); // rather than: fewer partitions
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_is_not_replicated_onto_itself_nor_into_fewer_partitions() {
    let flow = Flow::new("itself", 4);
    let sent = flow.send(0, 100);
    let same = flow.clusters.profile(&flow.group).replace(&flow.clusters.target.servers, &flow.clusters.source.servers);
    refused(flow.sdl("--until-caught-up").profile(&same).run(), &[&flow.topic]);
    assert_eq!(flow.clusters.source.count(&flow.topic), 100);
    flow.clusters.target.create_topic(&flow.topic, 2, &[]);
    refused(flow.sdl("--until-caught-up").run(), &["2", "4", "--repartition"]);
    flow.catch_up("--repartition");
    assert_eq!(flow.clusters.target.count(&flow.topic), sent.len() as u64);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_missing_topic_on_either_side_fails_at_once() {
    let flow = Flow::new("present", 1);
    refused(flow.sdl("--until-caught-up --no-create").run(), &[&flow.topic, "--no-create"]);
    let missing = crate::harness::Sdl::new("replicate no-such-topic --until-caught-up").profile(&flow.profile()).run();
    assert_ne!(missing.code(), Some(0));
    assert!(missing.stderr.contains("no-such-topic") && missing.stderr.contains("hint: "), "{}", missing.stderr);
    assert!(missing.took < std::time::Duration::from_secs(15), "{:?}", missing.took);
}
