//! Events for metrics.

use super::destination::{answers, why};
use super::*;
use crate::pipeline::{Outcome, RunSide, Signal, Tally, UnassignedReason};

#[tokio::test(start_paused = true)]
async fn reads_are_reported_with_bytes_and_waiting_time() {
    for shapes in [false, true] {
        let setup = follow();
        setup.broker.partition(p(0), [], 0);
        setup.broker.assign(&[p(0)]);
        let run = if shapes { setup.transform(|_| TransformResult::Keep) } else { setup }.start();
        for (pause, records) in [(500, 3), (250, 1)] {
            tokio::time::sleep(ms(pause)).await;
            run.broker.append(p(0), records);
        }
        tokio::time::sleep(ms(1)).await;
        run.stop();
        let (_, log) = run.finish().await;
        let shaping = if shapes { "Some(0ns)" } else { "None" };
        assert_eq!(
            log.observed("read"),
            [
                format!("read 30 bytes after 500ms, shaped in {shaping}"),
                format!("read 10 bytes after 250ms, shaped in {shaping}")
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_engine_does_not_wait_for_records() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(1)));
    let (_, log) = run_of(40).sink(sink).finish().await;
    let events = log.observed("read");
    assert!(events.len() > 1 && events.iter().all(|events| events.contains("after 0ns")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn each_call_is_timed_and_the_batch_from_its_first_to_its_last() {
    let outcome = |offset, sent| if offset == 4 && sent == 0 { Outcome::Retry(why()) } else { Outcome::Delivered };
    let begun = tokio::time::Instant::now();
    let sink: Script = Box::new(move |call| call.answer(outcome).after(ms(20)).pushing_back(ms(5)));
    let (_, log) = run_of(10).sink(sink).finish().await;
    let events = log.observed("responded");
    assert_eq!(events[0], "responded in 25ms, batch None");
    let batch = events[1].strip_prefix("responded in 25ms, batch Some(").and_then(|rest| rest.strip_suffix(")")).unwrap();
    let batch: f64 = batch.strip_suffix("ms").unwrap().parse().unwrap();
    assert!((51.0..begun.elapsed().as_secs_f64() * 1000.0 + 1.0).contains(&batch), "two calls and a pause: {batch}");
    assert_eq!(events.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_batches_with_final_answers_are_reported_as_complete() {
    let batches = |log: &Log| log.observed("responded").iter().filter(|events| events.contains("Some")).count();
    let (_, log) = run_of(10).sink(answers(|_, _| Outcome::Stop(why()))).finish().await;
    assert_eq!((log.observed("responded").len(), batches(&log)), (1, 0), "stopped");
    let setup = run_of(8).letters(takes_all());
    let sink: Script = Box::new(move |call| {
        let to_blame = call.records.iter().any(|record| record.offset == 3);
        call.answer(|_, _| if to_blame { Outcome::BatchRejected(why()) } else { Outcome::Delivered })
    });
    let (finished, log) = setup.sink(sink).finish().await;
    assert_eq!(finished.tally.dead_lettered, 1);
    assert_eq!(
        (log.observed("responded").len(), batches(&log)),
        (7, 1),
        "8 are halved thrice; the letter is no call to the sink"
    );
}

#[tokio::test(start_paused = true)]
async fn a_revoked_batch_is_not_reported_as_complete() {
    let run = run_of(10).sink(Box::new(|call| call.answer(|_, _| Outcome::Retry(why())).after(ms(20)))).start();
    tokio::time::sleep(ms(10)).await;
    run.broker.revoke(&[p(0)]);
    let (finished, log) = run.finish().await;
    assert_eq!(finished.tally.released, 10);
    assert_eq!(log.observed("responded"), ["responded in 20ms, batch None"]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_and_its_end_are_reported() {
    let stalls = |log: &Log| log.stalls(RunSide::Target);
    let outage = answers(|_, sent| if sent < 5 { Outcome::Retry(why()) } else { Outcome::Delivered });
    let (_, log) = run_of(50).sink(outage).finish().await;
    assert_eq!((stalls(&log).first(), stalls(&log).last()), (Some(&true), Some(&false)));
    let partly = answers(|offset, sent| if offset >= 5 && sent == 0 { Outcome::Retry(why()) } else { Outcome::Delivered });
    let (_, log) = run_of(10).sink(partly).finish().await;
    let states = ["target degraded: the script says so", "target healthy"];
    assert_eq!(log.observed("target"), states, "something was taken");
    let slow: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(20)));
    let (_, log) = run_of(10).sink(slow).finish().await;
    assert_eq!(stalls(&log), [true, false], "no answer for long");
}

#[tokio::test(start_paused = true)]
async fn each_side_stalls_and_recovers_by_itself() {
    let sides = [RunSide::Source, RunSide::Target, RunSide::DeadLetters, RunSide::Commits];
    let stalls = |log: &Log| sides.map(|side| log.stalls(side));
    // One record is bad; the destinations answer after 20 s and 60 s.
    let reject = |offset, _| if offset == 5 { Outcome::Reject(why()) } else { Outcome::Delivered };
    let sink: Script = Box::new(move |call| call.answer(reject).after(Duration::from_secs(20)));
    let letters: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(60)));
    let setup = follow();
    setup.broker.partition(p(0), 0..20, 20);
    setup.broker.assign(&[p(0)]);
    let run = setup.sink(sink).letters(letters).start();
    run.broker.signal(Signal::Degraded(Some("a broker is down".to_owned())));
    tokio::time::sleep(ms(900)).await;
    assert!(stalls(&run.log).concat().is_empty(), "it has not lasted");
    tokio::time::sleep(ms(600)).await;
    assert_eq!(stalls(&run.log), [vec![true], vec![], vec![], vec![]], "the source alone");
    tokio::time::sleep(ms(8_500)).await;
    assert_eq!(stalls(&run.log), [vec![true], vec![true], vec![], vec![]], "the target too");
    run.broker.signal(Signal::CommitsDegraded(Some("no coordinator".to_owned())));
    run.broker.signal(Signal::Degraded(None));
    tokio::time::sleep(ms(1_500)).await;
    assert_eq!(stalls(&run.log), [vec![true, false], vec![true], vec![], vec![true]], "the source has recovered");
    tokio::time::sleep(ms(28_500)).await;
    let recovered = [vec![true, false], vec![true, false], vec![true], vec![true]];
    assert_eq!(stalls(&run.log), recovered, "the target has, and waits for the dead letters");
    run.broker.signal(Signal::CommitsDegraded(None));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(stalls(&run.log), [(); 4].map(|()| vec![true, false]));
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (19, 1));
}

#[tokio::test(start_paused = true)]
async fn revoked_records_are_counted_at_once() {
    let setup = follow();
    setup.broker.partition(p(0), 0..10, 10);
    setup.broker.assign(&[p(0)]);
    let run = setup.sink(answers(|_, _| Outcome::Retry(why()))).start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.broker.revoke(&[p(0)]);
    tokio::time::sleep(ms(1)).await;
    let mut tallies = run.log.entries().into_iter().filter_map(|entry| match entry {
        Entry::Tally(tally) => Some(tally),
        _ => None,
    });
    let last: Tally = tallies.next_back().unwrap();
    assert_eq!((last.read, last.released, last.unsettled()), (10, 10, 0));
    run.stop();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_partitions_is_reported() {
    let run = follow().start();
    let session_timeout = Duration::from_secs(45);
    run.broker.signal(Signal::Unassigned(UnassignedReason::Rebalancing {
        session_timeout,
        after_outage: true,
        is_static: false,
    }));
    run.broker.signal(Signal::Unassigned(UnassignedReason::NoneLeft));
    tokio::time::sleep(ms(1)).await;
    run.stop();
    let (_, log) = run.finish().await;
    assert_eq!(
        log.observed("unassigned"),
        ["unassigned Rebalancing { session_timeout: 45s, after_outage: true, is_static: false }", "unassigned NoneLeft"]
    );
}
