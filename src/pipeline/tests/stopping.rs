//! How a run ends.

use super::destination::{answers, why};
use super::*;
use crate::pipeline::{Ending, Outcome};

fn failure(finished: &Finished) -> String {
    let Ending::Failed(error) = &finished.ending else { panic!("{:?}", finished.ending) };
    error.to_string()
}

fn slow(by: Duration) -> Script {
    Box::new(move |call| call.answer(|_, _| Outcome::Delivered).after(by))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_drained_when_the_run_is_told_to_stop() {
    let run = run_of(1000).sink(slow(Duration::from_secs(5))).start();
    tokio::time::sleep(ms(10)).await;
    run.stop();
    let (finished, log) = run.finish().await;
    assert!(matches!(finished.ending, Ending::Interrupted));
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
async fn a_destination_that_says_stop_ends_the_run_and_keeps_the_other_answers() {
    let sink = answers(|offset, _| if offset == 4 { Outcome::Stop(why().hint("grant `write`")) } else { Outcome::Delivered });
    let (finished, log) = run_of(10).sink(sink).finish().await;
    assert_eq!(failure(&finished), "the destination takes nothing until something is changed there: the script says so");
    assert_eq!((finished.tally.delivered, finished.tally.undelivered), (9, 1));
    assert_eq!(log.commits(p(0)), [4]);
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
async fn a_failure_while_draining_is_what_the_run_ended_with() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Stop(why())).after(ms(500)));
    let run = run_of(10).sink(sink).start();
    tokio::time::sleep(ms(100)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(failure(&finished).starts_with("the destination takes nothing"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_began_reads_nothing() {
    let setup = run_of(10);
    let run = setup.start();
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.ending, Ending::Interrupted));
    assert_eq!(finished.tally.read, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_stop_switch_is_gone_goes_on() {
    let Run { engine, stop, .. } = run_of(100).start();
    drop(stop);
    assert_eq!(engine.await.unwrap().tally.delivered, 100);
}
