//! Refusals for safety: exit 5, with the numbers and a hint.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Flow;
use crate::harness::{Finished, Running, eventually, unique};

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
        let said = format!("{}/0 is not the topic that the group has read: it was re-created", flow.topic);
        refused(flow.sdl("--until-caught-up").run(), &[&said, number]);
        assert_eq!(flow.clusters.target.count(&flow.topic), 1_000, "nothing was written");
        flow.catch_up("--from-beginning");
        let verdict = flow.verdict(&sent);
        assert_eq!((verdict.lost, verdict.reordered), (0, 0), "{verdict:?}");
    }
}

/// Starts a run that follows a topic to its end, and re-creates the topic with `partitions`.
fn recreate_in_mid_run(flow: &Flow, flags: &str, partitions: i32) -> Running {
    let sent = flow.send(0, 3_000);
    let mut running = flow.sdl(flags).start();
    flow.until_delivered(&mut running, sent.len() as u64);
    flow.until_committed();
    flow.clusters.source.delete_topic(&flow.topic);
    flow.clusters.source.create_topic(&flow.topic, partitions, &[]);
    running
}

/// Sends 1,000 records to a topic that was re-created after 3,000 records, and panics unless the run delivers and commits them.
#[track_caller]
fn assert_new_topic_is_read(flow: &Flow, mut running: Running) -> Finished {
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut running, 4_000);
    // These offsets are lower than the commits before.
    flow.until_committed();
    let finished = running.end();
    assert_eq!(flow.verdict(&sent).lost, 0);
    finished
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_recreated_in_mid_run_is_read_and_committed_from_its_beginning() {
    let flow = Flow::new("re-created-on-gap", 2);
    let mut running = recreate_in_mid_run(&flow, "--on-gap earliest -v", 2);
    running.wait_for_stderr("The topic was re-created");
    let finished = assert_new_topic_is_read(&flow, running);
    assert!(!finished.stderr.contains("offset commit failed") && !finished.stderr.contains("skipped="), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches("The topic was re-created").count(), 2, "once in each partition: {}", finished.stderr);
    assert_eq!(flow.clusters.target.count(&flow.topic), 4_000, "no record is delivered twice");
    flow.catch_up(""); // the commits name the new topic
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_longer_after_it_is_recreated_in_mid_run_is_refused() {
    for is_suspended in [false, true] {
        let flow = Flow::new("re-created-longer", 1);
        flow.send(0, 1_000);
        let mut running = flow.sdl("").start();
        flow.until_delivered(&mut running, 1_000);
        flow.until_committed();
        if is_suspended {
            running.signal("STOP");
        }
        flow.clusters.source.delete_topic(&flow.topic);
        flow.clusters.source.create_topic(&flow.topic, 1, &[]);
        flow.send(10_000, 3_000);
        if is_suspended {
            running.signal("CONT");
        }
        refused(running.wait(), &[&flow.topic, "re-created", "topic id now", "--from-beginning"]);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_recreated_while_the_group_has_lost_its_partitions_is_refused() {
    for (flags, code) in [("-v", 5), ("--on-gap earliest -v", 0)] {
        let flow = Flow::new("re-created-slowly", 2).with("kafka.topic.metadata.refresh.interval.ms = 200");
        flow.send(0, 3_000);
        let mut running = flow.sdl(flags).start();
        flow.until_delivered(&mut running, 3_000);
        flow.until_committed();
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
        flow.until_committed();
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
    assert_new_topic_is_read(&flow, running);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_partitions_added_again_to_a_recreated_topic_are_read() {
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
    assert_new_topic_is_read(&flow, running);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_member_joins_others_that_have_not_yet_seen_that_the_topic_was_recreated() {
    let flow = Flow::new("re-created-unseen", 2);
    flow.send(0, 3_000);
    let mut running = flow.sdl("--on-gap earliest").start();
    flow.until_delivered(&mut running, 3_000);
    flow.until_committed();
    running.signal("STOP");
    flow.clusters.source.delete_topic(&flow.topic);
    flow.clusters.source.create_topic(&flow.topic, 2, &[]);
    let mut second = flow.sdl("--on-gap earliest").start();
    second.wait_for_stderr("to catch up");
    running.signal("CONT");
    let sent = flow.send(10_000, 1_000);
    flow.until_delivered(&mut second, 4_000);
    flow.until_committed();
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
    flow.assert_committed();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_records_deleted_by_retention_are_refused_with_their_number() {
    let flow = Flow::new("retention", 1);
    flow.send(0, 1_000);
    flow.catch_up("");
    let sent = flow.send(1_000, 1_000);
    flow.clusters.source.delete_records(&flow.topic, 0, 1_500);
    let said = format!("records of {}/0 were deleted before they were read", flow.topic);
    refused(flow.sdl("--until-caught-up").run(), &[&said, "1000", "1500"]);
    assert_eq!(flow.committed(), [1_000], "nothing is skipped silently");
    flow.catch_up("--on-gap earliest");
    let verdict = flow.verdict(&sent);
    assert_eq!((verdict.lost, verdict.duplicated), (500, 0), "{verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_positions_that_are_not_in_their_logs_are_refused_with_the_numbers_of_each() {
    let flow = Flow::new("beyond", 2);
    flow.send(0, 200);
    flow.catch_up("");
    let source = &flow.clusters.source;
    let notes = [0, 1].map(|partition| source.commit_metadata(&flow.group, &flow.topic, partition));
    source.commit(&flow.group, &flow.topic, 1, 5_000, &notes[1]);
    let one = format!("{}/1 ends before the offset to read next: it was truncated or re-created", flow.topic);
    refused(flow.sdl("--until-caught-up").run(), &[&one, "next to read: 5000", "log end:      100", "--on-gap earliest"]);
    source.commit(&flow.group, &flow.topic, 0, 5_000, &notes[0]);
    let both = "2 partitions end before the offset to read next: they were truncated or re-created";
    refused(flow.sdl("--until-caught-up").run(), &[both, "/0: next to read 5000, log end 100", "--on-gap earliest"]);
    source.commit(&flow.group, &flow.topic, 0, 100, &notes[0]);
    flow.send(200, 200);
    source.delete_records(&flow.topic, 0, 150);
    let mixed = "2 partitions do not have the offset to read next: records were deleted, or logs truncated";
    let numbers = ["/0: next to read 100, first there 150, missing 50", "/1: next to read 5000, log end 200"];
    refused(flow.sdl("--until-caught-up").run(), &[mixed, numbers[0], numbers[1], "missing in total: 50"]);
    assert_eq!(flow.clusters.target.count(&flow.topic), 200, "nothing was written");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_several_partitions_of_a_recreated_topic_are_refused_together() {
    let flow = Flow::new("re-created-together", 2);
    flow.send(0, 200);
    flow.catch_up("");
    let source = &flow.clusters.source;
    let notes = [0, 1].map(|partition| source.commit_metadata(&flow.group, &flow.topic, partition));
    source.delete_topic(&flow.topic);
    source.create_topic(&flow.topic, 2, &[]);
    // The brokers delete the commits with the topic; a restored broker or another implementation may not.
    eventually("the commits are gone", Duration::from_secs(60), || (flow.committed() == [0, 0]).then_some(()));
    for (partition, note) in (0..).zip(&notes) {
        source.commit(&flow.group, &flow.topic, partition, 50, note);
    }
    let what = "2 partitions are not those that the group has read: their topic was re-created or truncated";
    refused(flow.sdl("--until-caught-up").run(), &[what, "next to read 50, log now 0..0", "--from-beginning"]);
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
    flow.assert_committed();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_each_member_of_a_group_reports_the_gaps_of_the_partitions_that_it_is_assigned() {
    let flow = Flow::new("gaps-of-members", 4);
    flow.send(0, 400);
    flow.catch_up("");
    flow.send(400, 400);
    for partition in 0..4 {
        flow.clusters.source.delete_records(&flow.topic, partition, 150);
    }
    let mut members = [1, 2].map(|_| flow.sdl("--on-gap earliest -v").start());
    flow.until_delivered(&mut members[0], 600);
    flow.until_committed();
    let stderr = members.map(|running| running.end().stderr);
    let partitions = |stderr: &str, line: &str| -> BTreeSet<String> {
        let lines = stderr.lines().filter(|printed| printed.contains(line));
        lines.filter_map(|line| line.split_once("partition=")?.1.split(' ').next().map(str::to_owned)).collect()
    };
    for printed in &stderr {
        let (reported, assigned) = (partitions(printed, "Records are missing"), partitions(printed, "Partition assigned."));
        assert!(reported.is_subset(&assigned), "{reported:?} of {assigned:?}:\n{printed}");
    }
    let all: BTreeSet<String> = stderr.iter().flat_map(|printed| partitions(printed, "Records are missing")).collect();
    assert_eq!(all.len(), 4, "none is skipped silently: {all:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_records_deleted_in_several_partitions_during_a_run_are_refused_with_their_total() {
    let flow = Flow::new("retention-in-mid-run", 3);
    flow.send(0, 300);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 300);
    flow.until_committed();
    running.signal("STOP");
    flow.send(300, 300); // the answer to the request that is on its way
    flow.send(600, 900);
    for partition in 0..3 {
        flow.clusters.source.delete_records(&flow.topic, partition, 400);
    }
    running.signal("CONT");
    refused(
        running.wait(),
        &["records of 3 partitions were deleted", "first there 400", "missing in total: ", "--on-gap earliest"],
    );
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_of_another_flow_is_refused_until_adopted() {
    let flow = Flow::new("foreign", 1);
    flow.send(0, 100);
    flow.catch_up("--to-topic elsewhere-of-foreign --start beginning");
    let said = format!("the group's offsets of {}/0 were committed by another command, or for another target", flow.topic);
    refused(flow.sdl("--until-caught-up").run(), &[&said, "elsewhere-of-foreign", "--group"]);
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
    let said = "group `other-of-occupied` has no committed offset, and the target is not empty";
    refused(flow.sdl("--until-caught-up --group other-of-occupied").run(), &[said, &flow.topic, "--start"]);
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
    let said = "the start lies beyond what the group has read: records would be skipped";
    refused(flow.sdl("--until-caught-up --start 150").run(), &[said, "100", "150", "--yes"]);
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
    let said = format!("group `{}` has active members: its offsets cannot be committed", flow.group);
    refused(flow.sdl("--until-caught-up --from-beginning").run(), &[&said]);
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
    idle.wait_for_stderr("Waiting for partitions: the other members of the group have them all, or have not handed any over yet");
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
    let said = "has copied records to a topic that does not exist any more on `local_kafka`";
    refused(flow.sdl("--until-caught-up").run(), &[said, &flow.topic, "100 records", "--from-beginning", "--start committed"]);
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
    let what = "has copied records to a topic that was deleted and created again on `local_kafka`: the copied records are gone";
    let said = [what, &flow.topic, "100 records", "topic id", "--from-beginning", "--start committed"];
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
fn real_a_target_topic_that_is_given_up_is_not_refused_again_although_nothing_new_was_there() {
    for (name, flags) in [("given-up", String::new()), ("given-up-static", format!("--instance-id {}", unique("one")))] {
        let flow = Flow::new(name, 2);
        flow.send(0, 100);
        flow.catch_up(&flags);
        for create in [true, false] {
            flow.clusters.target.delete_topic(&flow.topic);
            if create {
                flow.clusters.target.create_topic(&flow.topic, 2, &[]);
            }
            refused(flow.sdl(&format!("--until-caught-up {flags}")).run(), &[&flow.topic, "100 records", "once, by hand"]);
            flow.catch_up(&format!("--start committed {flags}"));
            flow.catch_up(&flags);
            assert_eq!(flow.clusters.target.count(&flow.topic), 0);
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_that_is_adopted_for_a_new_target_warns_of_what_it_will_lack() {
    let flow = Flow::new("adopted-new", 2);
    flow.send(0, 100);
    flow.catch_up("");
    let copy = format!("{}-copy", flow.topic);
    let warning =
        format!("topic `{copy}` on `local_kafka` does not exist, and the group has read 100 offsets that the topic still holds");
    for flags in ["--dry-run", "--until-caught-up -q"] {
        let finished = flow.sdl(&format!("{flags} --to-topic {copy} --adopt-group")).run().expect(0);
        assert!(finished.stderr.contains(&warning), "{flags}: {}", finished.stderr);
    }
    let again = flow.sdl(&format!("--until-caught-up --to-topic {copy} --adopt-group")).run().expect(0);
    assert!(!again.stderr.contains("left out"), "{}", again.stderr);
}

/// Returns the metadata of a commit without the id of the target topic, as an earlier version writes it.
fn without_target(metadata: &str) -> String {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(metadata).expect("JSON");
    fields.remove("target_id").expect("the commit names its target");
    serde_json::Value::Object(fields).to_string()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_commit_that_names_no_target_topic_names_it_after_the_next_run() {
    let flow = Flow::new("unnamed-target", 1);
    flow.send(0, 100);
    flow.catch_up("");
    let named = || flow.clusters.source.commit_metadata(&flow.group, &flow.topic, 0);
    let metadata = named();
    flow.clusters.source.commit(&flow.group, &flow.topic, 0, 100, &without_target(&metadata));
    // It has nothing to copy.
    let running = flow.sdl("").start();
    eventually("the commit names its target", Duration::from_secs(60), || (named() == metadata).then_some(()));
    running.end();
    assert_eq!(flow.committed(), [100]);
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 1, &[]);
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "100 records", "created again"]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_an_adopted_group_is_refused_a_target_that_was_recreated_or_deleted_since() {
    let flow = Flow::new("adopted-target", 2);
    flow.send(0, 100);
    flow.catch_up("");
    flow.send(100, 100);
    let copy = format!("{}-copy", flow.topic);
    let adopted = format!("--to-topic {copy} --adopt-group");
    flow.catch_up(&adopted);
    flow.catch_up(&adopted); // the flag may stay in the profile
    flow.clusters.target.delete_topic(&copy);
    flow.clusters.target.create_topic(&copy, 2, &[]);
    refused(
        flow.sdl(&format!("--until-caught-up {adopted}")).run(),
        &[&copy, "200 records", "created again", "--start committed"],
    );
    flow.clusters.target.delete_topic(&copy);
    refused(flow.sdl(&format!("--until-caught-up {adopted}")).run(), &[&copy, "200 records", "--from-beginning"]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_topic_that_is_recreated_during_a_run_ends_it() {
    let flow = Flow::new("target-recreated-in-mid-run", 2);
    let mut sent = flow.send(0, 1_000);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 1_000);
    flow.until_committed();
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 2, &[]);
    let said = [flow.topic.as_str(), "was deleted and created again during the run", "topic id now", "--from-beginning"];
    while running.is_running() && sent.len() < 50_000 {
        let from = sent.len() as u64;
        sent.extend(flow.send(from, 100));
    }
    refused(running.wait(), &said);
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "still in the source topic"]);
    flow.catch_up("--from-beginning");
    assert_eq!(flow.verdict(&sent).lost, 0);

    // A run that has nothing to send ends by itself.
    let mut idle = flow.sdl("").start();
    idle.wait_for_stderr("nothing to catch up; waits for new records");
    flow.clusters.source.wait_for_members(&flow.group, 1);
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 1, &[]);
    refused(idle.wait(), &said);
    refused(flow.sdl("--until-caught-up").run(), &["still in the source topic"]); // rather than: fewer partitions
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_topic_that_is_deleted_during_a_run_ends_it() {
    let flow = Flow::new("target-deleted-in-mid-run", 2);
    let mut sent = flow.send(0, 1_000);
    // A drain that waits for a topic that is gone would not end before the test is given up.
    let mut running = flow.sdl("--shutdown-timeout 1h").start();
    flow.until_delivered(&mut running, 1_000);
    flow.until_committed();
    flow.clusters.target.delete_topic(&flow.topic);
    sent.extend(flow.send(1_000, 100));
    let said = [flow.topic.as_str(), "was deleted during the run", "topic id at the start", "--from-beginning"];
    refused(running.wait(), &said);
    let said_next = "has copied records to a topic that does not exist any more on `local_kafka`";
    refused(flow.sdl("--until-caught-up").run(), &[said_next, &flow.topic, "still in the source topic"]);
    flow.catch_up("--from-beginning");
    flow.assert_complete(&sent);

    // A run that has nothing to send ends by itself.
    let mut idle = flow.sdl("").start();
    idle.wait_for_stderr("nothing to catch up; waits for new records");
    flow.clusters.source.wait_for_members(&flow.group, 1);
    flow.clusters.target.delete_topic(&flow.topic);
    refused(idle.wait(), &said);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_target_topic_that_is_recreated_with_fewer_partitions_during_a_run_ends_it() {
    let flow = Flow::new("target-recreated-smaller", 4);
    let mut sent = flow.send(0, 1_000);
    // A drain that waits for partitions that are gone would not end before the test is given up.
    let mut running = flow.sdl("--shutdown-timeout 1h").start();
    flow.until_delivered(&mut running, 1_000);
    flow.until_committed();
    flow.clusters.target.delete_topic(&flow.topic);
    flow.clusters.target.create_topic(&flow.topic, 2, &[]);
    while running.is_running() && sent.len() < 50_000 {
        let from = sent.len() as u64;
        sent.extend(flow.send(from, 100));
    }
    let finished = running.wait();
    assert!(!finished.stderr.contains("if it was deleted, start again"), "found by the watch: {}", finished.stderr);
    refused(finished, &[&flow.topic, "created again", "during the run", "topic id now", "--from-beginning"]);
    // Rather than: fewer partitions.
    refused(flow.sdl("--until-caught-up").run(), &[&flow.topic, "still in the source topic"]);
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
    let said = "on `local_kafka` has fewer partitions than the source";
    refused(flow.sdl("--until-caught-up").run(), &[said, "source 4, target 2", "--repartition"]);
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
    assert!(missing.took < Duration::from_secs(15), "{:?}", missing.took);
}
