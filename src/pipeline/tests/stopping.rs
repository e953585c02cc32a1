//! How a run ends.

use super::destination::{Reply, answers, why};
use super::*;
use crate::pipeline::{ConnectorError, Outcome, RunOutcome, RunSide};

pub(super) fn failure(finished: &RunReport) -> String {
    let RunOutcome::Failed(error) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    error.to_string()
}

fn slow(by: Duration) -> Script {
    Box::new(move |call| call.answer(|_, _| Outcome::Delivered).after(by))
}

#[tokio::test(start_paused = true)]
async fn a_stop_request_drains_the_read_records() {
    let run = run_of(1000).sink(slow(Duration::from_secs(5))).start();
    tokio::time::sleep(ms(10)).await;
    run.stop();
    let (finished, log) = run.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Interrupted));
    assert_eq!((finished.tally.read, finished.tally.delivered, finished.tally.undelivered), (20, 20, 0));
    assert_eq!(log.commits(p(0)).last(), Some(&20));
    assert!(finished.elapsed < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_lingers_at_once() {
    let run = run_of(3).limits(|limits| limits.linger = Duration::from_secs(3600)).start();
    tokio::time::sleep(ms(1)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!(finished.tally.delivered, 3);
    assert!(finished.elapsed < ms(10));
}

#[tokio::test(start_paused = true)]
async fn undrained_records_are_counted_and_not_committed() {
    let sinks: [fn() -> Script; 3] = [
        || slow(Duration::from_secs(60)),
        || answers(|_, _| Outcome::Retry(why())),
        || Box::new(|call| call.answer(|_, _| Outcome::Delivered).pushing_back(Duration::from_secs(3600))),
    ];
    for sink in sinks {
        let run = run_of(1000).sink(sink()).start();
        tokio::time::sleep(ms(100)).await;
        run.stop();
        let (finished, log) = run.finish().await;
        assert!(matches!(finished.outcome, RunOutcome::Interrupted));
        assert_eq!((finished.tally.delivered, finished.tally.undelivered), (0, 20));
        assert!(log.commits(p(0)).is_empty());
        assert_eq!(finished.elapsed.as_secs(), 25);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_up_while_the_destination_takes_no_batch() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).pushing_back(Duration::from_secs(3600)));
    let (finished, _) = run_of(100).sink(sink).limits(|limits| limits.retry_for = Some(Duration::from_secs(60))).finish().await;
    assert!(failure(&finished).starts_with("gave up after 1m"));
    assert!((60..62).contains(&finished.elapsed.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_pushes_back_gets_the_batches_in_order() {
    let sink: Script = Box::new(|call| {
        let push_back = if call.records[0].offset % 20 == 0 { ms(700) } else { Duration::ZERO };
        call.answer(|_, _| Outcome::Delivered).pushing_back(push_back)
    });
    let (finished, log) = run_of(100).sink(sink).finish().await;
    assert_eq!(finished.tally.delivered, 100);
    assert_eq!(log.taken(Destination::Sink), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_run_under_back_pressure_wakes_at_most_twice_a_second() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).pushing_back(Duration::from_secs(3600)));
    let run = run_of(100).sink(sink).start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = run.broker.asked();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let turns = run.broker.asked() - before;
    assert!(turns <= 201, "{turns} turns in 100 seconds");
    assert_eq!(run.log.observed("target"), ["target stalled: no response for more than 3 s"]);
    run.stop();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_outcome_ends_the_run_and_keeps_the_other_answers() {
    let sink = answers(|offset, _| if offset == 4 { Outcome::Stop(why().hint("grant `write`")) } else { Outcome::Delivered });
    let (finished, log) = run_of(10).sink(sink).finish().await;
    assert_eq!(failure(&finished), "the destination rejects every write until its configuration is fixed: the script says so");
    assert_eq!((finished.tally.delivered, finished.tally.undelivered), (9, 1));
    assert_eq!(log.commits(p(0)), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_ends_the_run_with_a_refusal() {
    let foreign = || why().hint("--id-prefix").refusal();
    let sink = answers(move |offset, _| if offset == 4 { Outcome::Stop(foreign()) } else { Outcome::Delivered });
    let (finished, log) = run_of(10).sink(sink).finish().await;
    let RunOutcome::Failed(ConnectorError::Refused(refused)) = &finished.outcome else {
        panic!("ended with {:?}", finished.outcome)
    };
    assert_eq!((refused.what.as_str(), refused.hint.as_str()), ("the script says so", "--id-prefix"));
    assert_eq!(log.commits(p(0)), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_takes_no_more_batches_ends_the_run() {
    let sink: Script = Box::new(|call| match call.records[0].offset {
        20 => super::destination::Reply::failing("the target is gone"),
        _ => call.answer(|_, _| Outcome::Delivered).after(ms(10)),
    });
    let (finished, log) = run_of(100).sink(sink).finish().await;
    assert_eq!(failure(&finished), "the target is gone");
    assert_eq!(log.commits(p(0)).last(), Some(&20));
    assert_eq!(finished.tally.delivered + finished.tally.undelivered, finished.tally.read);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_ends_the_run_after_what_is_in_flight() {
    let run = run_of(1000).sink(slow(ms(500))).start();
    tokio::time::sleep(ms(10)).await;
    run.broker.fail("the brokers are gone");
    let (finished, log) = run.finish().await;
    assert_eq!(failure(&finished), "the brokers are gone");
    assert_eq!(finished.tally.delivered, 20);
    assert_eq!(log.commits(p(0)).last(), Some(&20));
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_draining_is_the_outcome_of_the_run() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Stop(why())).after(ms(500)));
    let run = run_of(10).sink(sink).start();
    tokio::time::sleep(ms(100)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(failure(&finished).starts_with("the destination rejects every write"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_began_reads_nothing() {
    let setup = run_of(10);
    let run = setup.start();
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Interrupted));
    assert_eq!(finished.tally.read, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_dropped_stop_handle_continues() {
    let Run { engine, stop, .. } = run_of(100).start();
    drop(stop);
    assert_eq!(engine.await.unwrap().tally.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_short_of_its_plan_is_not_complete() {
    let setup = run_of(10);
    setup.broker.plan(p(0), 12);
    setup.broker.plan(p(1), 5); // of another member
    let (finished, log) = setup.finish().await;
    assert_eq!(failure(&finished), "the run ended before 1 partitions were read to the end: t/0: read to 10 of 12");
    assert_eq!((finished.tally.delivered, log.commits(p(0)).last()), (10, Some(&10)));
    let setup = run_of(10);
    setup.broker.plan(p(0), 10);
    assert!(matches!(setup.finish().await.0.outcome, RunOutcome::Complete));
    let setup = run_of(10).limits(|limits| limits.count = Some(3));
    setup.broker.plan(p(0), 10);
    assert!(matches!(setup.finish().await.0.outcome, RunOutcome::Complete), "no more was asked for");
}

#[tokio::test(start_paused = true)]
async fn records_read_before_the_source_failed_are_delivered_by_a_slow_sink() {
    let run = run_of(1000).sink(slow(Duration::from_secs(10))).start();
    tokio::time::sleep(ms(10)).await;
    run.broker.fail("the log has a gap");
    let (finished, log) = run.finish().await;
    assert_eq!(failure(&finished), "the log has a gap");
    assert_eq!((finished.tally.read, finished.tally.delivered), (20, 20));
    assert_eq!(log.commits(p(0)).last(), Some(&20));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_records_are_gone_at_its_end_is_not_complete() {
    let (finished, _) = run_of(30).gone_at_the_end().finish().await;
    let RunOutcome::Failed(error) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    assert_eq!((error.to_string().as_str(), finished.tally.delivered), ("what was written is gone", 30));
}

#[tokio::test(start_paused = true)]
async fn a_stall_that_ends_in_a_refusal_is_not_over() {
    let stops = || answers(|_, sent| if sent < 8 { Outcome::Retry(why()) } else { Outcome::Stop(why()) });
    let stops_in_part = || {
        answers(|offset, sent| match sent {
            0..8 => Outcome::Retry(why()),
            _ if offset % 10 == 0 => Outcome::Delivered,
            _ => Outcome::Stop(why()),
        })
    };
    let takes_no_batch = || -> Script {
        Box::new(|call| match call.sent[0] {
            0..8 => call.answer(|_, _| Outcome::Retry(why())),
            _ => Reply::failing("the target topic was deleted"),
        })
    };
    for sink in [stops(), stops_in_part(), takes_no_batch()] {
        let (finished, log) = run_of(50).sink(sink).finish().await;
        assert!(matches!(finished.outcome, RunOutcome::Failed(_)), "{:?}", finished.outcome);
        assert_eq!(log.stalls(RunSide::Target), [true]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_that_ends_with_the_run_is_not_over() {
    for revoked in [false, true] {
        let run = run_of(50).sink(answers(|_, _| Outcome::Retry(why()))).start();
        tokio::time::sleep(Duration::from_secs(10)).await;
        run.stop();
        tokio::time::sleep(ms(100)).await;
        if revoked {
            run.broker.revoke(&[p(0)]);
        }
        let (_, log) = run.finish().await;
        assert_eq!(log.stalls(RunSide::Target), [true]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_rebalance_takes_from_a_run_that_stops_is_released_and_not_committed() {
    let run = run_of(50).sink(answers(|_, _| Outcome::Retry(why()))).start();
    let broker = run.broker.clone();
    tokio::time::sleep(Duration::from_secs(10)).await;
    run.broker.revoke(&[p(0)]);
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Interrupted), "{:?}", finished.outcome);
    assert_eq!((finished.tally.read, finished.tally.released, finished.tally.undelivered), (20, 20, 0));
    assert_eq!(broker.committed(p(0)), 0, "its next owner reads all of it");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_looks_at_what_it_has_written_and_a_failed_one_keeps_its_reason() {
    let run = follow_of(30).gone_at_the_end().start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!((failure(&finished).as_str(), finished.tally.delivered), ("what was written is gone", 30));

    let run = follow_of(30).gone_at_the_end().start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.broker.fail("the log has a gap");
    assert_eq!(failure(&run.finish().await.0), "the log has a gap");

    let rejecting = answers(|_, _| Outcome::Stop(why()));
    let (finished, _) = run_of(30).sink(rejecting).gone_at_the_end().finish().await;
    assert_eq!(failure(&finished), "what was written is gone", "that is why it was rejected");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_dead_letters_are_gone_at_its_end_is_not_complete() {
    let bad = answers(|offset, _| if offset == 3 { Outcome::Reject(why()) } else { Outcome::Delivered });
    let (finished, _) = run_of(30).sink(bad).letters(takes_all()).letters_gone_at_the_end().finish().await;
    assert_eq!((failure(&finished).as_str(), finished.tally.dead_lettered), ("what was written is gone", 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_without_records_ends_when_its_destination_is_another_one() {
    let is_refused = Switch::default();
    let run = follow_of(30).refused(&is_refused).start();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!run.engine.is_finished());
    is_refused.store(true, std::sync::atomic::Ordering::SeqCst);
    let (finished, log) = run.finish().await;
    assert_eq!((failure(&finished).as_str(), finished.tally.delivered), ("the destination is another one", 30));
    assert_eq!(log.commits(p(0)).last(), Some(&30));
    assert!(finished.elapsed < Duration::from_secs(12), "{:?}", finished.elapsed);
}

/// Returns a run with these records, which follows.
fn follow_of(records: i64) -> Setup {
    let setup = follow();
    setup.broker.partition(p(0), 0..records, records);
    setup.broker.assign(&[p(0)]);
    setup
}
