//! Refusals for safety: exit 5, with the numbers and a hint.

use super::Flow;
use crate::harness::Finished;

/// Panics unless a run was refused with all these texts.
#[track_caller]
fn refused(finished: Finished, words: &[&str]) {
    let finished = finished.expect(5);
    for word in words {
        assert!(finished.stderr.contains(word), "`{word}` is not said:\n{}", finished.stderr);
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
fn real_a_start_is_refused_while_the_group_has_members() {
    let flow = Flow::new("busy", 1);
    flow.send(0, 100);
    let mut running = flow.sdl("").start();
    flow.until_delivered(&mut running, 100);
    refused(flow.sdl("--until-caught-up --from-beginning").run(), &[&flow.group]);
    running.signal("TERM");
    running.wait().expect(0);
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
