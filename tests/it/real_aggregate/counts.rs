//! Counts of bounded runs.

use super::*;

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_equals_a_recount_in_both_forms_over_1_4_and_12_partitions() {
    for partitions in [1, 4, 12] {
        for emit in ["summary", "rows"] {
            let flow = Flow::new("counted", partitions);
            flow.send(&events(4_000, 200));
            let summary = flow.catch_up(&format!("--emit {emit} --grace 30s")).json();
            assert_eq!((&summary["read"], &summary["delivered"]), (&json!(4_000), &json!(4_000)), "{summary}");
            flow.assert_recounted(emit, 10);
            assert_eq!(flow.clusters.source.group(&flow.group()).iter().map(|line| line.lag.unwrap_or(-1)).sum::<i64>(), 0);
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_the_recount_detects_a_difference() {
    let flow = Flow::new("differs", 1);
    flow.send(&events(100, 20));
    flow.catch_up("--grace 30s --where device_type=iOS");
    assert_ne!(flow.differs("summary", 10), json!([]));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_totals_that_went_with_the_source_topic_are_refused_until_reset() {
    let flow = Flow::new("lost-totals", 1);
    let event = |second: u64| format!("{{\"timestamp\": {}}}", BEGINNING + second);
    flow.send(&[event(1), event(11)]);
    flow.catch_up("");
    let source = &flow.clusters.source;
    source.delete_topic(&flow.topic);
    source.create_topic(&flow.topic, 1, &[]);
    crate::harness::eventually("the commits are gone", std::time::Duration::from_secs(60), || {
        (source.committed(&flow.group(), &flow.topic) == [None]).then_some(())
    });
    flow.send(&[event(21)]);
    let stderr = flow.sdl("--until-caught-up").run().expect(5).stderr;
    let (group, windows) = (flow.group(), &flow.published);
    let what =
        format!("error: group `{group}` has no committed offset, and topic `{windows}` holds windows: the totals are lost\n");
    assert!(stderr.contains(&what) && stderr.ends_with("with --reset-totals\n"), "{stderr}");
    flow.catch_up("--reset-totals");
    let last = flow.published().pop().unwrap();
    assert_eq!(last["total_messages_consumed"], 1, "{last}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_totals_continue_after_a_restart_unless_reset() {
    let flow = Flow::new("totals", 2);
    let event = |second: u64| format!("{{\"timestamp\": {}}}", BEGINNING + second);
    let totals =
        || flow.published().iter().map(|summary| summary["total_messages_consumed"].as_u64().unwrap()).collect::<Vec<_>>();
    flow.send(&[event(1), event(2), event(11)]);
    flow.catch_up("");
    assert_eq!(totals(), [2, 3]);
    flow.send(&[event(21), event(22)]);
    flow.catch_up("");
    assert_eq!(totals(), [2, 3, 5]);
    flow.send(&[event(31)]);
    flow.catch_up("--reset-totals");
    assert_eq!(totals(), [2, 3, 5, 1]);
    // Counted events would be counted twice.
    let refused = flow.sdl("--until-caught-up --from-beginning").run().expect(5);
    for part in ["events that would be read again: they would count twice", "--reset-totals"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    flow.catch_up("--from-beginning --reset-totals");
    assert_eq!(totals()[4..], [2, 3, 5, 6]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_totals_do_not_restart_at_zero_when_the_source_topic_is_recreated() {
    let flow = Flow::new("totals-lost", 1);
    let event = |second: u64| format!("{{\"timestamp\": {}}}", BEGINNING + second);
    flow.send(&[event(1), event(2), event(11)]);
    flow.catch_up("");
    // The broker deletes the group's positions with the topic.
    flow.clusters.source.delete_topic(&flow.topic);
    flow.clusters.source.create_topic(&flow.topic, 1, &[]);
    for flags in ["--until-caught-up", "--until-caught-up --from-beginning"] {
        let refused = flow.sdl(flags).run().expect(5);
        assert!(refused.stderr.contains("--reset-totals") && refused.stderr.contains(&flow.published), "{}", refused.stderr);
    }
    flow.send(&[event(21)]);
    flow.sdl("--until-caught-up").run().expect(5);
    assert_eq!(flow.published().len(), 2, "nothing was written");
    flow.catch_up("--reset-totals");
    assert_eq!(flow.published()[2]["total_messages_consumed"], 1);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_late_events_count_as_late_and_future_events_count_now() {
    let flow = Flow::new("odd-times", 1);
    // The records themselves are of 2023-11-14T22:13:20Z.
    let at = |time: u64| format!("{{\"timestamp\": {time}}}");
    flow.send(&[at(1_700_000_000 - 30), at(7), at(1_700_000_000 + 86_400), "{}".to_owned(), at(1_700_000_000 - 25)]);
    let summary = flow.catch_up("--grace 0s").json();
    assert_eq!(
        (&summary["delivered"], summary.get("late")),
        (&json!(5), None),
        "one batch closes nothing before its end: {summary}"
    );
    let counted: Vec<_> = flow
        .published()
        .iter()
        .map(|summary| (summary["timestamp_start"].clone(), summary["interval_messages_consumed"].clone()))
        .collect();
    assert_eq!(counted, [(json!(0), json!(1)), (json!(1_699_999_970), json!(2)), (json!(1_700_000_000), json!(2))]);
    flow.send(&[at(7), at(1_700_000_000 - 30), at(1_700_000_000 + 10)]);
    let summary = flow.catch_up("--grace 0s").json();
    assert_eq!((&summary["read"], &summary["late"], &summary["delivered"]), (&json!(3), &json!(2), &json!(1)), "{summary}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_an_invalid_event_stops_the_run_or_is_dead_lettered_once() {
    let flow = Flow::new("bad", 1);
    let mut all = events(50, 5);
    all.insert(10, "{\"timestamp\": ".to_owned());
    all.insert(20, "[1, 2]".to_owned());
    flow.send(&all);
    let stopped = flow.sdl("--until-caught-up").run().expect(3);
    assert!(stopped.stderr.contains(&format!("{}/0@10", flow.topic)), "{}", stopped.stderr);
    assert!(flow.published().is_empty(), "a partial window is not published");
    let letters = format!("{}-letters", flow.topic);
    let run = flow.sdl(&format!("--until-caught-up -o json --dead-letters topic:{letters}")).run().expect(3);
    assert_eq!((&run.json()["dead_lettered"], &run.json()["delivered"]), (&json!(2), &json!(50)));
    let headers =
        |seen: crate::harness::ReadRecord| seen.content.headers.into_iter().find(|(name, _)| name == "sdl.dlq.code").unwrap().1;
    let codes: Vec<_> = crate::harness::read_with_kcat(&flow.clusters.source, &letters).into_iter().map(headers).collect();
    assert_eq!(codes, [Some(b"not_json".to_vec()), Some(b"not_an_object".to_vec())]);
    assert_eq!(flow.published().iter().map(|summary| summary["interval_messages_consumed"].as_u64().unwrap()).sum::<u64>(), 50);
}
