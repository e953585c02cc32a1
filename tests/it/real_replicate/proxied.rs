//! A bad line between a run and its clusters.

use std::time::Duration;

use super::Flow;
use crate::harness::{FETCH, OFFSET_COMMIT, PRODUCE, Proxy, Running, eventually, setting};

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

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_faulty_connection_to_the_target_loses_repeats_and_reorders_nothing() {
    let mut flow = Flow::alone("bad-target-line", 2);
    let proxy = Proxy::before(&flow.clusters.target);
    let direct = flow.clusters.target.clone();
    flow.clusters.target = direct.through_proxy();
    let sent = flow.send(0, 60_000);
    let mut running = flow.sdl("--until-caught-up --rate 6000").deadline(Duration::from_secs(180)).start();
    flow.clusters.target = direct;
    flow.until_delivered(&mut running, 2_000);
    for _ in 0..3 {
        strike(&proxy, &mut running, |proxy| proxy.drop_next_response(PRODUCE));
        strike(&proxy, &mut running, |proxy| proxy.cut_next_response(PRODUCE));
        strike(&proxy, &mut running, |proxy| proxy.half_close_after(PRODUCE));
        proxy.reset();
    }
    proxy.slow(Duration::from_millis(150));
    flow.until_delivered(&mut running, flow.clusters.target.count(&flow.topic) + 2_000);
    proxy.black_hole();
    std::thread::sleep(Duration::from_secs(3));
    proxy.heal();
    running.wait().expect(0);
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_exact(), "{verdict:?}");
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
        eventually("the commits catch up", Duration::from_secs(30), || (flow.committed() == flow.ends()).then_some(()));
    }
    running.signal("TERM");
    running.wait().expect(0);
    watch.assert_monotonic();
    let verdict = flow.verdict(&sent);
    assert!(verdict.is_exact(), "{verdict:?}");
}
