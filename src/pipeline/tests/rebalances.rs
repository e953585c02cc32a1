//! Partitions that come and go.

use super::destination::{Call, Reply, answers, why};
use super::stopping::failure;
use super::*;
use crate::pipeline::{Outcome, RunOutcome, RunSide, Signal};

/// A run that follows three partitions of 100 records.
fn three() -> Setup {
    let setup = follow();
    for index in 0..3 {
        setup.broker.partition(p(index), 0..100, 100);
    }
    setup.broker.assign(&[p(0), p(1), p(2)]);
    setup.broker.in_pieces(usize::MAX, 5);
    setup.limits(|limits| (limits.in_flight, limits.linger) = (4, ms(1)))
}

fn slow(by: Duration) -> Script {
    Box::new(move |call| call.answer(|_, _| Outcome::Delivered).after(by))
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_what_is_in_flight_and_commits_it() {
    let run = three().sink(slow(Duration::from_secs(4))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0), p(1)]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(run.broker.is_waiting());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!run.broker.is_waiting());
    let committed = run.broker.committed(p(0)) + run.broker.committed(p(1));
    assert!(committed > 0, "what was in flight is delivered and committed");
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!(finished.tally.undelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_wait_for_a_retry() {
    let run = three().sink(answers(|_, _| Outcome::Retry(why()))).start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    run.broker.revoke(&[p(0), p(1), p(2)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting(), "pauses between attempts are up to 30 s, and none is slept out");
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.released, finished.tally.undelivered), (finished.tally.read, 0));
}

#[tokio::test(start_paused = true)]
async fn retries_of_the_retained_partitions_continue() {
    let sink: Script = Box::new(|call| {
        let outcome =
            |record: &Record, sent| if record.partition == p(0) || sent < 6 { Outcome::Retry(why()) } else { Outcome::Delivered };
        let outcomes = call.records.iter().zip(call.sent).map(|(record, sent)| outcome(record, *sent)).collect();
        super::destination::Reply::at_once(outcomes)
    });
    let run = three().sink(sink).start();
    tokio::time::sleep(ms(500)).await;
    run.broker.revoke(&[p(0)]);
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.undelivered), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_is_not_committed_after_late_answers() {
    let run = three().sink(slow(Duration::from_secs(4))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.lose(&[p(0)]);
    run.broker.end();
    let (finished, log) = run.finish().await;
    assert!(log.commits(p(0)).is_empty());
    assert!(log.entries().iter().any(|entry| matches!(entry, Entry::Abandoned(lost) if *lost == [p(0)])));
    assert!(finished.tally.released > 0);
    assert_eq!((finished.tally.delivered, finished.tally.undelivered), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_record_whose_partition_is_lost_changes_nothing() {
    for outcome in [Outcome::Retry(why()), Outcome::Unclear(why()), Outcome::Reject(why()), Outcome::Stop(why())] {
        let script = move |call: &Call<'_>| {
            let outcomes =
                call.records.iter().map(|record| if record.partition == p(0) { outcome.clone() } else { Outcome::Delivered });
            Reply::at_once(outcomes.collect()).after(Duration::from_secs(4))
        };
        let run = three().sink(Box::new(script)).start();
        tokio::time::sleep(ms(100)).await;
        run.broker.lose(&[p(0)]);
        run.broker.end();
        let (finished, log) = run.finish().await;
        assert!(matches!(finished.outcome, RunOutcome::Complete), "{:?}", finished.outcome);
        assert_eq!((finished.tally.delivered, finished.tally.retried, finished.tally.undelivered), (200, 0, 0));
        assert!(!log.entries().iter().any(|entry| matches!(entry, Entry::Bad(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_loses_a_partition_after_its_source_ended_is_not_complete() {
    let setup = three().sink(slow(Duration::from_secs(4))).limits(|limits| limits.batch = 1000);
    (0..3).for_each(|index| setup.broker.plan(p(index), 100));
    let run = setup.start();
    run.broker.end();
    tokio::time::sleep(ms(100)).await;
    run.broker.lose(&[p(0)]);
    let (finished, _) = run.finish().await;
    assert!(finished.tally.released > 0);
    assert_eq!(failure(&finished), "the run ended before 1 partitions were read to the end: t/0: read to 0 of 100");
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_an_earlier_epoch_does_not_settle_the_next() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        let run = three().ordering(ordering).sink(slow(Duration::from_secs(4))).start();
        tokio::time::sleep(ms(100)).await;
        run.broker.lose(&[p(0)]);
        run.broker.assign(&[p(0)]);
        run.broker.end();
        let (finished, _) = run.finish().await;
        assert_eq!((finished.tally.delivered, finished.tally.undelivered), (300, 0));
        assert!(finished.tally.released > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_can_return_before_its_revocation_completes() {
    let run = three().sink(slow(Duration::from_secs(20))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0), p(1)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(run.broker.is_waiting());
    run.broker.give_up_waiting();
    run.broker.assign(&[p(0)]);
    run.broker.end();
    let (finished, log) = run.finish().await;
    assert_eq!(finished.tally.undelivered, 0);
    assert_eq!(log.commits(p(0)).last(), Some(&100), "its new life is not ended by the old revocation");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lost_while_it_is_revoked_does_not_hold_up_the_others() {
    let run = three().sink(slow(Duration::from_secs(4))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0), p(1)]);
    tokio::time::sleep(ms(100)).await;
    run.broker.lose(&[p(0)]);
    tokio::time::sleep(ms(100)).await;
    assert!(run.broker.is_waiting(), "the other is still in flight");
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!run.broker.is_waiting());
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!(finished.tally.undelivered, 0, "what was taken away is released, not undelivered");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_a_revoked_partition_are_delivered_first() {
    let setup = three().sink(answers(|offset, _| if offset % 10 == 0 { Outcome::Reject(why()) } else { Outcome::Delivered }));
    let run = setup.letters(slow(Duration::from_secs(2))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0), p(1), p(2)]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!run.broker.is_waiting());
    let committed: i64 = (0..3).map(|index| run.broker.committed(p(index))).sum();
    assert!(committed > 0);
    run.broker.end();
    run.finish().await;
}

#[tokio::test(start_paused = true)]
async fn stalled_dead_letters_do_not_delay_a_release() {
    let setup = three().sink(answers(|offset, _| if offset % 10 == 5 { Outcome::Reject(why()) } else { Outcome::Delivered }));
    let run = setup.letters(answers(|_, _| Outcome::Retry(why()))).start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    run.broker.revoke(&[p(0)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting());
    run.broker.revoke(&[p(1), p(2)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting());
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.dead_lettered, finished.tally.undelivered), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_is_handled_while_the_destination_pushes_back() {
    let sink: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).pushing_back(Duration::from_secs(3600)));
    let setup = follow();
    setup.broker.partition(p(0), 0..100, 100);
    setup.broker.partition(p(1), 0..100, 100);
    setup.broker.assign(&[p(0)]);
    let run = setup.sink(sink).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.assign(&[p(1)]);
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(1)]);
    tokio::time::sleep(ms(1)).await;
    assert!(!run.broker.is_waiting(), "nothing of it was sent");
    run.broker.lose(&[p(0)]);
    run.broker.end();
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!(finished.tally.undelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_during_the_drain_is_released() {
    let run = three().sink(slow(Duration::from_secs(10))).start();
    tokio::time::sleep(ms(100)).await;
    run.stop();
    tokio::time::sleep(ms(100)).await;
    run.broker.revoke(&[p(0)]);
    let (finished, log) = run.finish().await;
    assert_eq!(finished.tally.undelivered, 0);
    let gone = |entry: &Entry| matches!(entry, Entry::Gone(partition, Some(_)) if *partition == p(0));
    assert!(log.entries().iter().any(gone), "whoever waits for the release gets it");
}

#[tokio::test(start_paused = true)]
async fn a_new_partition_is_read_from_its_start() {
    let run = three().start();
    run.broker.partition(p(7), 50..60, 60);
    tokio::time::sleep(Duration::from_secs(10)).await;
    run.broker.assign(&[p(7)]);
    run.broker.append(p(0), 5);
    run.broker.end();
    let (finished, log) = run.finish().await;
    assert_eq!(finished.tally.delivered, 315);
    assert_eq!(log.commits(p(7)).last(), Some(&60));
}

#[tokio::test(start_paused = true)]
async fn records_of_a_revoked_partition_are_released_and_not_sent() {
    let run = three().sink(slow(Duration::from_secs(4))).start();
    let late =
        |index, offset| Record { partition: p(index), offset, timestamp: Some(0), key: None, value: None, headers: Vec::new() };
    tokio::time::sleep(Duration::from_secs(60)).await;
    run.broker.append(p(0), 1);
    tokio::time::sleep(ms(100)).await;
    run.broker.lose(&[p(1)]);
    run.broker.revoke(&[p(0)]);
    run.broker.signal(Signal::Records(vec![late(0, 101), late(1, 100)]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!run.broker.is_waiting());
    assert_eq!(run.broker.committed(p(0)), 101);
    run.stop();
    let finished = run.engine.await.unwrap();
    assert_eq!((finished.tally.read, finished.tally.delivered, finished.tally.released), (303, 301, 2));
}

#[tokio::test(start_paused = true)]
async fn degradation_ends_when_the_failed_records_are_revoked() {
    let run = three().sink(answers(|_, _| Outcome::Retry(why()))).start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(run.log.observed("target").last().unwrap(), "target stalled: the script says so");
    run.broker.revoke(&[p(0), p(1), p(2)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(run.log.observed("target").last().unwrap(), "target healthy");
    run.broker.end();
    run.finish().await;
}

/// The group has accepted no commit for a while.
fn commits_refused() -> Signal {
    Signal::CommitsDegraded(Some("refused".to_owned()))
}

/// A run that follows a partition of 1,000 records.
fn thousand() -> Setup {
    let setup = follow();
    setup.broker.partition(p(0), 0..1000, 1000);
    setup.broker.assign(&[p(0)]);
    setup
}

#[tokio::test(start_paused = true)]
async fn nothing_new_is_delivered_while_the_group_accepts_no_commits() {
    let run = thousand().sink(slow(ms(100))).start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.broker.signal(commits_refused());
    tokio::time::sleep(ms(200)).await;
    let before = run.log.taken(Destination::Sink).len();
    assert!((1..1000).contains(&before), "{before}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(run.log.taken(Destination::Sink).len(), before);
    assert_eq!(run.log.stalls(RunSide::Commits), [true]);
    assert!(run.log.stalls(RunSide::Target).is_empty(), "the target is not at fault");
    run.broker.signal(Signal::CommitsDegraded(None));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(run.log.taken(Destination::Sink).len(), 1000);
    run.stop();
    let (_, log) = run.finish().await;
    assert_eq!(log.stalls(RunSide::Commits), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_up_when_commits_hold_up_what_waits_for_longer_than_it_retries() {
    let run = thousand().sink(slow(ms(100))).limits(|limits| limits.retry_for = Some(Duration::from_secs(60))).start();
    tokio::time::sleep(ms(150)).await;
    run.broker.signal(commits_refused());
    tokio::time::sleep(Duration::from_secs(30)).await;
    run.broker.signal(Signal::CommitsDegraded(None));
    tokio::time::sleep(ms(150)).await;
    run.broker.signal(commits_refused());
    let (finished, _) = run.finish().await;
    assert!((1..1000).contains(&finished.tally.delivered), "{:?}", finished.tally);
    let outcome = format!("{:?}", finished.outcome);
    assert!(outcome.contains("gave up after 1m without a delivery"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_commits_were_held_up_is_retried_and_dead_lettered() {
    let outcome = |offset: i64, sent: u32| match (offset, sent) {
        (5, 5..) => Outcome::Reject(why()),
        (_, 5..) => Outcome::Delivered,
        _ => Outcome::Retry(why()),
    };
    let run = thousand().sink(answers(outcome)).letters(takes_all()).start();
    tokio::time::sleep(ms(10)).await;
    run.broker.signal(commits_refused());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((run.log.taken(Destination::Sink).len(), run.log.taken(Destination::DeadLetters)), (19, vec![5]));
    run.broker.signal(Signal::CommitsDegraded(None));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (999, 1));
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_held_up_do_not_hold_up_a_rebalance() {
    let setup = three().sink(answers(|offset, _| if offset % 10 == 0 { Outcome::Reject(why()) } else { Outcome::Delivered }));
    let run = setup.letters(slow(Duration::from_secs(2))).start();
    tokio::time::sleep(ms(100)).await;
    run.broker.signal(commits_refused());
    run.broker.revoke(&[p(0), p(1)]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!run.broker.is_waiting(), "what is in flight is delivered, and its dead letters");
    run.broker.revoke(&[p(2)]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!run.broker.is_waiting());
    run.broker.assign(&[p(0), p(1), p(2)]);
    tokio::time::sleep(ms(100)).await;
    run.broker.signal(Signal::CommitsDegraded(None));
    run.broker.end();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.undelivered, (0..3).map(|index| run_end(&finished, index)).sum::<i64>()), (0, 300));
}

fn run_end(finished: &RunReport, index: i32) -> i64 {
    finished.positions.iter().find(|(partition, _)| *partition == p(index)).map_or(0, |(_, next)| next.0)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_reads_no_more_delivers_the_rest_while_its_commits_are_held_up() {
    for ends in [true, false] {
        let run = thousand().sink(slow(ms(100))).limits(|limits| limits.batch = if ends { 1000 } else { 10 }).start();
        tokio::time::sleep(ms(150)).await;
        run.broker.signal(commits_refused());
        tokio::time::sleep(ms(1)).await;
        if ends {
            run.broker.append(p(0), 10);
            tokio::time::sleep(Duration::from_secs(1)).await;
            run.broker.end();
        } else {
            run.stop();
        }
        let (finished, _) = run.finish().await;
        assert_eq!((finished.tally.undelivered, finished.tally.released), (0, 0));
        assert_eq!(finished.tally.delivered, finished.tally.read);
    }
}
