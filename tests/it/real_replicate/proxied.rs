//! A bad line between a run and its clusters.

use std::time::Duration;

use super::Flow;
use crate::harness::{Content, FETCH, OFFSET_COMMIT, PRODUCE, Proxy, Running, eventually, setting};

/// Deals a blow and waits until it has fallen.
#[track_caller]
fn strike(proxy: &Proxy, running: &mut Running, deal: impl FnOnce(&Proxy)) {
    let before = proxy.faults_applied();
    deal(proxy);
    eventually("the blow falls", Duration::from_secs(30), || {
        assert!(running.is_running(), "it gave up:\n{}", running.stderr());
        (proxy.faults_applied() > before).then_some(())
    });
}

fn send_more(flow: &Flow, sent: &mut Vec<(i32, Content)>, count: u64) {
    let more = flow.send(sent.len() as u64, count);
    sent.extend(more);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_faulty_connection_to_the_target_loses_repeats_and_reorders_nothing() {
    let mut flow = Flow::alone("bad-target-line", 2);
    let proxy = Proxy::before(&flow.clusters.target);
    let direct = flow.clusters.target.clone();
    flow.clusters.target = direct.through_proxy();
    let mut sent = flow.send(0, 6_000);
    let mut running = flow.sdl("--rate 6000").deadline(Duration::from_secs(300)).start();
    flow.clusters.target = direct;
    flow.until_delivered(&mut running, 2_000);
    for _ in 0..3 {
        for blow in [Proxy::drop_next_response, Proxy::cut_next_response, Proxy::half_close_after] {
            strike(&proxy, &mut running, |proxy| {
                blow(proxy, PRODUCE);
                send_more(&flow, &mut sent, 3_000);
            });
        }
        proxy.reset();
    }
    proxy.slow(Duration::from_millis(150));
    let there = flow.clusters.target.count(&flow.topic);
    send_more(&flow, &mut sent, 6_000);
    flow.until_delivered(&mut running, there + 2_000);
    proxy.black_hole();
    send_more(&flow, &mut sent, 3_000);
    std::thread::sleep(Duration::from_secs(3));
    proxy.heal();
    flow.until_delivered(&mut running, sent.len() as u64);
    running.end();
    flow.assert_exact(&sent);
}

/// A broker that starts answers before the cluster lists it: librdkafka then forgets the only broker, and may never connect again.
#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_brokers_that_a_metadata_response_does_not_list_are_found_again() {
    let mut flow = Flow::alone("unlisted", 2);
    let proxies = [Proxy::before(&flow.clusters.source), Proxy::before(&flow.clusters.target)];
    let direct = (flow.clusters.source.clone(), flow.clusters.target.clone());
    (flow.clusters.source, flow.clusters.target) = (direct.0.through_proxy(), direct.1.through_proxy());
    let often = "kafka.topic.metadata.refresh.interval.ms = 200\n";
    let profile = flow.profile().replacen("\n\n", &format!("\n{often}\n"), 1) + often;
    let mut running = flow.sdl("-v").profile(&profile).deadline(Duration::from_secs(600)).start();
    (flow.clusters.source, flow.clusters.target) = direct;
    let mut sent = Vec::new();
    for _ in 0..setting("SDL_TEST_UNLISTED", 10) {
        send_more(&flow, &mut sent, 500);
        flow.until_delivered(&mut running, sent.len() as u64);
        proxies.iter().for_each(Proxy::refuse);
        send_more(&flow, &mut sent, 500);
        std::thread::sleep(Duration::from_secs(1));
        proxies.iter().for_each(Proxy::hide_brokers);
        std::thread::sleep(Duration::from_millis(1_500));
        proxies.iter().for_each(Proxy::heal);
        flow.until_delivered(&mut running, sent.len() as u64);
    }
    // Stopped before, it would say that it hands back what is delivered and not committed, and end with 1.
    flow.until_committed();
    running.end();
    // The response lists no topic of the group either: it may lose its partitions, and repeats what was not committed.
    let verdict = flow.verdict(&sent);
    assert_eq!((verdict.lost, verdict.reordered, verdict.corrupted), (0, 0, 0), "{verdict:?}");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_commits_with_lost_answers_are_repeated_and_never_go_back() {
    let mut flow = Flow::alone("bad-source-line", 2);
    let watch = flow.watch_commits();
    let proxy = Proxy::before(&flow.clusters.source);
    let direct = flow.clusters.source.clone();
    flow.clusters.source = direct.through_proxy();
    let mut running = flow.sdl("").deadline(Duration::from_secs(180)).start();
    flow.clusters.source = direct;
    let mut sent = Vec::new();
    for round in 0..setting("SDL_TEST_COMMIT_FAULTS", 3) {
        strike(&proxy, &mut running, |proxy| {
            proxy.drop_next_response(OFFSET_COMMIT);
            sent.extend(flow.send(round * 5_000, 5_000));
        });
        strike(&proxy, &mut running, |proxy| proxy.cut_next_response(FETCH));
        proxy.reset();
        flow.until_delivered(&mut running, sent.len() as u64);
        flow.until_committed();
    }
    running.end();
    watch.assert_monotonic();
    flow.assert_exact(&sent);
}
