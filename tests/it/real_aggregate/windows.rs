//! Windows of a following run, and concurrent instances.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::*;
use crate::harness::{Content, Scrape, Sender, eventually};

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Returns an event that happens now by the time of its record.
fn event_now() -> Content {
    let timestamp = Some(i64::try_from(now().as_millis()).unwrap());
    Content { timestamp, value: Some(b"{\"device_type\": \"iOS\"}".to_vec()), ..Content::default() }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_the_window_of_a_silent_topic_closes_in_time() {
    let flow = Flow::new("silent", 3);
    let mut running = flow.sdl("--window 2s --grace 1s --idle 1s --by device_type --metrics 0 -v").start();
    let scrape = Scrape::of(&mut running);
    scrape.wait_for_readyz(200);
    let device = format!("sdl_device_type_count{{device_type=\"iOS\",topic=\"{}\"}}", flow.topic);
    let sender = Sender::new(&flow.clusters.source, &[]);
    // Window, grace and idle time are 4 s; the ends of partitions are asked for every second.
    let longest = Duration::from_secs(4 + 3);
    let mut times: Vec<Duration> = Vec::new();
    while times.len() < 3 && times.last().is_none_or(|took| *took >= longest) {
        sender.send(&flow.topic, &[(0, event_now())]);
        let sent = Instant::now();
        scrape.wait_for("the window is published", |page| page.value(&device) == Some(1.0));
        times.push(sent.elapsed());
        scrape.wait_for("nothing happens any more", |page| page.value(&device) == Some(0.0));
    }
    running.end();
    assert!(times.iter().any(|took| *took < longest), "{times:?}");
    let counts: Vec<_> = flow.published().iter().map(|window| window["interval_device_type_count"].clone()).collect();
    assert_eq!(counts, vec![json!({"iOS": 1}); times.len()]);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_a_second_instance_is_refused_and_the_first_continues() {
    let flow = Flow::new("second", 2);
    let mut first = flow.sdl_with_session(10_000, "--window 1s --grace 0s --idle 1s").start();
    eventually("the first is a member", Duration::from_secs(20), || {
        (flow.clusters.source.members(&flow.group()) == 1).then_some(())
    });
    let second = flow.sdl_with_session(10_000, "").run().expect(5);
    assert!(second.stderr.contains("another instance of the group"), "{}", second.stderr);
    flow.send(&events(100, 3));
    flow.until_published(&mut first, 1);
    first.end();
}

/// Both of them see an empty group when they start; the one that opens its transactions first is shut out by the other.
#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_two_instances_never_both_publish_a_window() {
    let flow = Flow::new("fenced", 2);
    flow.send(&events(200, 60));
    let mut one = flow.sdl("--grace 30s --instance-id same --rate 20").start();
    flow.until_published(&mut one, 1);
    let other = flow.sdl("--grace 30s --instance-id same --until-caught-up").run().expect(0);
    let ended = one.wait();
    assert!(ended.code().is_some_and(|code| code == 1 || code == 5), "{:?}\n{}", ended.code(), other.stderr);
    flow.assert_recounted("summary", 10);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_of_instances_that_start_at_the_same_moment_one_goes_on() {
    for round in 0..3 {
        for instance in ["", "--instance-id same"] {
            let flow = Flow::new("same-moment", 2);
            flow.send(&events(200, 60));
            // With a rate, neither has a window to publish for a while.
            let mut running = [1, 2].map(|_| flow.sdl(&format!("--grace 1s --rate 20 {instance}")).start());
            eventually("one of them ends", Duration::from_secs(60), || {
                running.iter_mut().any(|run| !run.is_running()).then_some(())
            });
            let at = running
                .iter_mut()
                .position(Running::is_running)
                .unwrap_or_else(|| panic!("both have ended:\n{}\n{}", running[0].stderr(), running[1].stderr()));
            flow.until_published(&mut running[at], 3);
            running.into_iter().enumerate().for_each(|(number, run)| {
                if number == at {
                    run.end();
                } else {
                    let fenced = run.wait().expect(5);
                    let whys = [
                        "another instance has taken over",
                        "another instance of the group",
                        "another member took over the instance id",
                    ];
                    let is_named = whys.iter().any(|why| fenced.stderr.contains(why));
                    assert!(is_named, "round {round}, {instance}: {}", fenced.stderr);
                }
            });
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_a_target_topic_that_is_deleted_in_mid_run_ends_it() {
    for is_recreated in [true, false] {
        let flow = Flow::new("target-gone", 1);
        flow.send(&events(100, 30));
        let mut running = flow.sdl("--grace 0s --idle 1s").start();
        flow.until_published(&mut running, 1);
        flow.clusters.source.delete_topic(&flow.published);
        if is_recreated {
            flow.clusters.source.create_topic(&flow.published, 1, &[]);
        }
        let finished = running.wait().expect(5);
        let what = format!("error: topic `{}` on `local_kafka` was deleted", flow.published);
        for word in [what.as_str(), "during the run: the windows that were written to it", "--from-beginning --reset-totals"] {
            assert!(finished.stderr.contains(word), "`{word}` is not in stderr:\n{}", finished.stderr);
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_windows_of_another_flow_are_not_mixed_in() {
    let flow = Flow::new("other-kind", 1);
    flow.send(&events(100, 30));
    flow.catch_up("");
    let refused = flow.sdl("--until-caught-up --window 7s").run().expect(5);
    assert!(refused.stderr.contains("were committed by another command, or for another target"), "{}", refused.stderr);
    let looped = Sdl::new(&format!("aggregate {} --to-topic {}", flow.topic, flow.topic))
        .profile(&format!("[local_kafka]\nservers = {}\n", flow.clusters.source.servers))
        .run()
        .expect(2);
    assert!(looped.stderr.contains("would be read and written"), "{}", looped.stderr);
    let pattern = format!("aggregate --topics-matching {}.* --to-topic {}", flow.topic, flow.published);
    let profile = format!("[local_kafka]\nservers = {}\n", flow.clusters.source.servers);
    let looped = Sdl::new(&pattern).profile(&profile).run().expect(2);
    assert!(looped.stderr.contains("would be read and written"), "{}", looped.stderr);
    let letters = format!("{pattern}-out --exclude {0}-windows.* --dead-letters topic:{0}-letters", flow.topic);
    let looped = Sdl::new(&letters).profile(&profile).run().expect(2);
    assert!(looped.stderr.contains("of the dead letters would be read"), "{}", looped.stderr);
    let parts = flow.sdl("--partitions 0").run().expect(2);
    assert!(parts.stderr.contains("over all partitions"), "{}", parts.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_fields_that_no_event_has_are_named() {
    let flow = Flow::new("misspelt", 1);
    flow.send(&events(2_000, 3));
    let run = flow.catch_up("--keep user_id,app_version,gone --by device_typ --required user_id,contry --time-field tmestamp");
    let own = "none of 2,000 events has the fields `device_typ`, `contry`, `tmestamp`: they have `app_version`";
    for warning in [own, "events has a time in its time field", "none of 2,000 records has the field `gone`"] {
        assert!(run.stderr.contains(warning), "{}", run.stderr);
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_windows_go_on_being_closed_after_an_empty_partition_is_added() {
    let flow = Flow::new("grown", 2);
    let mut running = flow.sdl("--window 2s --grace 1s --idle 1s").start();
    let sender = Sender::new(&flow.clusters.source, &[]);
    let send_until = |what: &str, running: &mut Running, done: &dyn Fn() -> bool| {
        eventually(what, Duration::from_secs(60), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            sender.send(&flow.topic, &[(0, event_now()), (1, event_now())]);
            done().then_some(())
        });
    };
    send_until("a window is published", &mut running, &|| !flow.published().is_empty());
    flow.clusters.source.grow_topic(&flow.topic, 3);
    let is_read = || flow.clusters.source.committed(&flow.group(), &flow.topic).get(2) == Some(&Some(0));
    send_until("the new partition is read", &mut running, &is_read);
    let since = now().as_secs();
    let is_published = || flow.published().iter().any(|window| window["timestamp_start"].as_u64() > Some(since));
    send_until("a window that began later is published", &mut running, &is_published);
    running.end();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aggregate_commits_the_offsets_of_more_partitions_than_fit_into_a_request() {
    let flow = Flow::new("many-partitions", 1_100);
    flow.send(&events(2_200, 3));
    for _ in 0..2 {
        flow.sdl_with_session(10_000, "--until-caught-up").deadline(Duration::from_secs(300)).run().expect(0);
    }
    let committed = flow.clusters.source.committed(&flow.group(), &flow.topic);
    let missing = committed.iter().filter(|next| next.is_none()).count();
    assert_eq!((committed.len(), missing), (1_100, 0));
    flow.clusters.source.delete_topic(&flow.topic);
}
