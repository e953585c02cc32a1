//! Reading, batching, retrying and committing.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::destination::{Switch, answers, why};
use super::*;
use crate::pipeline::{Outcome, Rate, RunOutcome};
use crate::record::NextOffset;

#[tokio::test(start_paused = true)]
async fn everything_is_delivered_in_order_and_committed() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        let (finished, log) = run_of(95).ordering(ordering).finish().await;
        assert!(matches!(finished.outcome, RunOutcome::Complete));
        assert_eq!((finished.tally.read, finished.tally.delivered, finished.tally.batches), (95, 95, 10));
        assert_eq!(finished.tally.bytes, 950);
        assert_eq!(log.taken(Destination::Sink), (0..95).collect::<Vec<_>>());
        assert_eq!(finished.positions, [(p(0), NextOffset(95))]);
    }
}

#[tokio::test(start_paused = true)]
async fn already_there_and_superseded_count_as_delivered() {
    let outcome = |offset, _| match offset % 3 {
        0 => Outcome::Delivered,
        1 => Outcome::AlreadyThere,
        _ => Outcome::Superseded,
    };
    let (finished, _) = run_of(30).sink(answers(outcome)).finish().await;
    let tally = finished.tally;
    assert_eq!((tally.delivered, tally.already_there, tally.superseded), (30, 10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_the_linger_and_not_longer() {
    let setup = follow();
    setup.broker.partition(p(0), 0..3, 3);
    setup.broker.assign(&[p(0)]);
    let run = setup.start();
    tokio::time::sleep(ms(49)).await;
    assert!(run.log.submitted(Destination::Sink).is_empty());
    tokio::time::sleep(ms(3)).await;
    assert_eq!(run.log.submitted(Destination::Sink), [[0, 1, 2]]);
    run.stop();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn small_reads_are_combined_into_full_batches() {
    let setup = run_of(100);
    setup.broker.in_pieces(3, 3);
    let (_, log) = setup.limits(|limits| limits.in_flight = 4).finish().await;
    let sizes: Vec<usize> = log.submitted(Destination::Sink).iter().map(Vec::len).collect();
    assert_eq!(sizes, [10; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_limits_reads_to_its_batches_in_flight() {
    let (finished, log) = run_of(500).sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(ms(100)))).finish().await;
    assert_eq!(finished.tally.delivered, 500);
    let reads: Vec<usize> = log
        .entries()
        .iter()
        .filter_map(|entry| if let Entry::Read(records) = entry { Some(records.len()) } else { None })
        .collect();
    assert_eq!(reads[0], 20, "two batches of ten are asked for, not all of the partition");
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_bounds_batches() {
    let setup = run_of(100).limits(|limits| limits.batch_bytes = 45);
    setup.broker.in_pieces(1, 1);
    let (_, log) = setup.sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(ms(10)))).finish().await;
    assert!(log.submitted(Destination::Sink).iter().all(|batch| batch.len() <= 4), "records have 10 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_for_the_failed_records_only() {
    let outcome = |offset, sent| if offset == 4 && sent < 5 { Outcome::Retry(why()) } else { Outcome::Delivered };
    let (finished, log) = run_of(10).sink(answers(outcome)).finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.retried), (10, 5));
    let mut sent = vec![(0..10).collect::<Vec<_>>()];
    sent.extend(std::iter::repeat_n(vec![4], 5));
    assert_eq!(log.submitted(Destination::Sink), sent);
    let commits = log.commits(p(0));
    assert_eq!(commits, [4, 10], "first up to the failed record, then to the end");
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_its_end_are_reported_and_nothing_is_dead_lettered() {
    let up = Switch::new(AtomicBool::new(false));
    let switch = Arc::clone(&up);
    let outcome = move |_, _| if switch.load(SeqCst) { Outcome::Delivered } else { Outcome::Retry(why()) };
    let run = run_of(50).sink(answers(outcome)).letters(takes_all()).start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(run.log.observed("target").last().unwrap(), "target stalled: the script says so");
    up.store(true, SeqCst);
    let (finished, log) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (50, 0));
    assert_eq!(log.observed("target").last().unwrap(), "target healthy");
}

#[tokio::test(start_paused = true)]
async fn a_silent_destination_is_reported_while_the_source_is_active() {
    let run = run_of(10).sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(20)))).start();
    for _ in 0..60 {
        tokio::time::sleep(ms(100)).await;
        run.broker.signal(crate::pipeline::Signal::LogEndOffsets(vec![(p(0), Some(10))]));
    }
    assert_eq!(run.log.observed("target"), ["target stalled: no response for more than 3 s"]);
    let (_, log) = run.finish().await;
    assert_eq!(log.observed("target").last().unwrap(), "target healthy");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_gives_up_commits_nothing_past_the_stall() {
    let outcome = |offset, _| if offset >= 5 { Outcome::Retry(why()) } else { Outcome::Delivered };
    let setup = run_of(100).sink(answers(outcome)).limits(|limits| limits.retry_for = Some(Duration::from_secs(60)));
    let begun = tokio::time::Instant::now();
    let (finished, log) = setup.finish().await;
    let RunOutcome::Failed(error) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    assert_eq!(error.to_string(), "gave up after 1m without a delivery: the script says so");
    assert!((60..62).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!((log.commits(p(0)), finished.tally.delivered, finished.tally.undelivered), (vec![5], 5, 20));
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_up_while_the_source_keeps_sending_signals() {
    let setup = run_of(10).sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).never()));
    let run = setup.limits(|limits| limits.retry_for = Some(Duration::from_secs(5))).start();
    for _ in 0..100 {
        tokio::time::sleep(ms(100)).await;
        run.broker.signal(crate::pipeline::Signal::LogEndOffsets(vec![(p(0), Some(10))]));
    }
    assert!(run.engine.is_finished(), "10 s have passed, 5 s are borne");
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_count_reads_exactly_that_many_records() {
    let setup = run_of(100).limits(|limits| limits.count = Some(37));
    let (finished, log) = setup.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Complete));
    assert_eq!((finished.tally.read, finished.tally.delivered, log.commits(p(0)).last()), (37, 37, Some(&37)));
    let (finished, _) = run_of(100).limits(|limits| limits.count = Some(0)).finish().await;
    assert_eq!(finished.tally.read, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_rate_limit() {
    let begun = tokio::time::Instant::now();
    let (finished, _) = run_of(1000).limits(|limits| limits.rate = Some(Rate::Records(100.0))).finish().await;
    assert_eq!(finished.tally.delivered, 1000);
    assert!((9.5..10.5).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_position_past_an_offset_gap_is_committed_when_nothing_is_pending() {
    let setup = follow();
    setup.broker.partition(p(0), [0, 1, 5], 9);
    setup.broker.partition(p(1), [], 4);
    setup.broker.assign(&[p(0), p(1)]);
    setup.broker.end();
    let (finished, log) = setup.sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(ms(500)))).finish().await;
    assert_eq!(finished.positions, [(p(0), NextOffset(9)), (p(1), NextOffset(4))]);
    assert_eq!(log.commits(p(0)), [9], "the position was known before the records were settled");
}

#[tokio::test(start_paused = true)]
async fn commit_each_sends_the_next_record_when_the_broker_has_answered() {
    let setup = run_of(4).limits(|limits| limits.commit_each = true);
    let refused = 8; // longer than a second: the commits are shown as stalled
    setup.broker.refuse_flushes(refused);
    let (finished, log) = setup.finish().await;
    assert_eq!(finished.tally.delivered, 4);
    let steps: Vec<String> = log
        .entries()
        .iter()
        .filter_map(|entry| match entry {
            Entry::Submitted(_, _, records) => Some(format!("send {}", records[0].1)),
            Entry::Commit(_, next) => Some(format!("commit {}", next.0)),
            Entry::Flushed(confirmed) => Some(format!("confirmed {confirmed}")),
            _ => None,
        })
        .collect();
    let (before, after) = steps.split_at(2 + refused as usize);
    assert_eq!(before[..2], ["send 0", "commit 1"]);
    assert!(before[2..].iter().all(|step| step == "confirmed false"), "{before:?}");
    assert_eq!(after[..4], ["confirmed true", "send 1", "commit 2", "confirmed true"]);
    assert_eq!(log.observed("commits").last().unwrap(), "commits healthy");
    assert!(log.observed("target").is_empty(), "the target has accepted everything");
}

#[tokio::test(start_paused = true)]
async fn commit_each_handles_a_rebalance_while_the_broker_refuses() {
    let setup = run_of(4).limits(|limits| limits.commit_each = true);
    setup.broker.refuse_flushes(u32::MAX);
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    run.broker.revoke(&[p(0)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting(), "nothing of the partition is in flight");
    assert_eq!(run.broker.committed(p(0)), 1);
    run.broker.refuse_flushes(0);
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_commit_of_a_run_is_repeated_until_confirmed() {
    let setup = run_of(4);
    setup.broker.refuse_flushes(20);
    let begun = tokio::time::Instant::now();
    let (finished, _) = setup.start().finish().await;
    assert!(begun.elapsed() > Duration::from_secs(60), "20 refusals with growing pauses take minutes");
    assert!(matches!(finished.outcome, RunOutcome::Complete), "{:?}", finished.outcome);
    assert_eq!((finished.tally.read, finished.tally.delivered), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_refused_last_commit_stops_on_request() {
    let setup = run_of(4);
    setup.broker.refuse_flushes(u32::MAX);
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!run.engine.is_finished(), "an outage is waited out");
    run.stop();
    tokio::time::sleep(ms(1)).await;
    assert!(run.engine.is_finished());
    let (finished, _) = run.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Interrupted), "{:?}", finished.outcome);
}

#[tokio::test(start_paused = true)]
async fn commit_each_stops_on_request_while_the_broker_refuses() {
    let setup = run_of(4).limits(|limits| limits.commit_each = true);
    setup.broker.refuse_flushes(u32::MAX);
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    run.stop();
    tokio::time::sleep(ms(1)).await;
    assert!(run.engine.is_finished());
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.read, finished.tally.undelivered), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_run_wakes_at_most_twice_a_second() {
    let setup = follow();
    setup.broker.partition(p(0), 0..3, 3);
    setup.broker.assign(&[p(0)]);
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = run.broker.asked();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let turns = run.broker.asked() - before;
    assert!(turns <= 201, "{turns} turns in 100 idle seconds");
    run.stop();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_run_wakes_at_most_twice_a_second() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        let setup = run_of(1000).ordering(ordering).sink(Box::new(|call| call.answer(|_, _| Outcome::Delivered).never()));
        let run = setup.start();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = run.broker.asked();
        tokio::time::sleep(Duration::from_secs(100)).await;
        let turns = run.broker.asked() - before;
        assert!(turns <= 201, "{turns} turns in 100 stalled seconds");
        run.stop();
        run.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_by_one_does_not_send_past_a_batch_that_is_retried() {
    let outcome = |offset, sent| if offset == 0 && sent < 3 { Outcome::Retry(why()) } else { Outcome::Delivered };
    let (finished, log) = run_of(30).ordering(Ordering::OneByOne).sink(answers(outcome)).finish().await;
    assert_eq!(finished.tally.delivered, 30);
    assert_eq!(log.submitted(Destination::Sink)[1..4], [[0], [0], [0]]);
}

#[tokio::test(start_paused = true)]
async fn filtered_records_are_passed_and_committed() {
    let shape = |record: &mut Record| if record.offset % 2 == 0 { TransformResult::Keep } else { TransformResult::Filtered };
    let (finished, log) = run_of(40).transform(shape).finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.filtered), (20, 20));
    assert_eq!(log.commits(p(0)).last(), Some(&40));
}

#[tokio::test(start_paused = true)]
async fn source_degradation_outlasts_answers_of_the_destination() {
    let trouble = |what: Option<&str>| crate::pipeline::Signal::Degraded(what.map(ToOwned::to_owned));
    let sink = answers(|_, sent| if sent < 8 { Outcome::Retry(why()) } else { Outcome::Delivered });
    let setup = follow();
    setup.broker.partition(p(0), 0..5, 5);
    setup.broker.assign(&[p(0)]);
    let run = setup.sink(sink).start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.broker.signal(trouble(Some("a broker is down")));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(run.log.taken(Destination::Sink).len(), 5);
    assert_eq!(run.log.observed("target").last().unwrap(), "target healthy");
    assert_eq!(run.log.observed("source"), ["source stalled: a broker is down"]);
    run.broker.signal(trouble(None));
    tokio::time::sleep(ms(1)).await;
    assert_eq!(run.log.observed("source").last().unwrap(), "source healthy");
    run.stop();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn limits_at_the_edge_of_what_a_number_holds_do_not_overflow() {
    let all = |limits: &mut Limits| (limits.batch_bytes, limits.in_flight) = (usize::MAX, usize::MAX);
    let (finished, ()) = run_of(100).limits(all).start().engine.await.map(|finished| (finished, ())).unwrap();
    assert_eq!(finished.tally.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_commit_counts_the_delivered_records_below_it_in_each_assignment() {
    let filter = |record: &mut Record| if record.offset % 2 == 0 { TransformResult::Filtered } else { TransformResult::Keep };
    let setup = follow().transform(filter);
    setup.broker.partition(p(0), 0..100, 100);
    setup.broker.assign(&[p(0)]);
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((run.broker.committed(p(0)), run.broker.delivered(p(0))), (100, 50), "the others are left out");
    run.broker.lose(&[p(0)]);
    run.broker.assign(&[p(0)]);
    run.broker.append(p(0), 10);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((run.broker.committed(p(0)), run.broker.delivered(p(0))), (110, 5));
    run.stop();
    run.finish().await;
}
