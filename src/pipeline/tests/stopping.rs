//! How a run ends.

use super::destination::{answers, why};
use super::*;
use crate::pipeline::{ConnectorError, Outcome, RunOutcome};

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
