//! Records that can never be delivered.

use super::destination::{answers, why};
use super::*;
use crate::pipeline::{BreakerLimit, Outcome, Reason, RunOutcome};

fn rejects(bad: i64) -> Script {
    answers(move |offset, _| if offset == bad { Outcome::Reject(why()) } else { Outcome::Delivered })
}

fn record_failure(finished: &RunReport) -> String {
    let RunOutcome::Record(failure) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    format!("{failure} | {:?} {}", failure.kind, failure.hint.as_deref().unwrap_or("no hint"))
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_stops_the_run_and_nothing_is_committed_past_it() {
    let (finished, log) = run_of(100).sink(rejects(14)).finish().await;
    assert_eq!(record_failure(&finished), "record t/0@14 cannot be delivered: the script says so (scripted) | BadRecord no hint");
    assert_eq!(log.commits(p(0)).last(), Some(&14));
    assert!(log.taken(Destination::Sink).contains(&19), "its neighbours are stored");
    assert_eq!(finished.tally.delivered + finished.tally.undelivered, finished.tally.read);
}

#[tokio::test(start_paused = true)]
async fn the_first_bad_record_of_a_partition_is_named_whatever_the_order_of_the_answers() {
    let bad = |offset| if [14, 17, 33, 52].contains(&offset) { Outcome::Reject(why()) } else { Outcome::Delivered };
    // The turn of each of six batches that are in flight together; the first bad record is in the second batch.
    for turns in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 1, 0, 4, 3], [4, 2, 0, 5, 3, 1]] {
        let sink: Script = Box::new(move |call| {
            let batch = usize::try_from(call.records[0].offset / 10).unwrap();
            call.answer(|offset, _| bad(offset)).after(ms(100 + 10 * turns[batch]))
        });
        let (finished, log) = run_of(60).sink(sink).limits(|limits| limits.in_flight = 6).finish().await;
        let named = record_failure(&finished);
        assert!(named.starts_with("record t/0@14 cannot be delivered"), "{turns:?}: {named}");
        assert_eq!(log.commits(p(0)).last(), Some(&14), "{turns:?}");
        assert_eq!(log.observed("draining"), ["draining stopped at a bad record"], "once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_rejected_when_it_is_sent_again_is_named_if_it_is_the_first() {
    let first = |outcome: fn() -> Outcome| {
        answers(move |offset, sent| match offset {
            3 if sent == 0 => outcome(),
            3 | 14 => Outcome::Reject(why()),
            _ => Outcome::Delivered,
        })
    };
    let outcomes: [fn() -> Outcome; 2] = [|| Outcome::Retry(why()), || Outcome::BatchRejected(why())];
    for outcome in outcomes {
        let (finished, log) = run_of(40).sink(first(outcome)).finish().await;
        assert!(record_failure(&finished).starts_with("record t/0@3 cannot be delivered"), "{:?}", finished.outcome);
        assert_eq!(log.commits(p(0)).last(), Some(&3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_rejected_before_one_that_the_transform_rejects_is_named() {
    let shape = |record: &mut Record| if record.offset == 15 { TransformResult::Bad(why()) } else { TransformResult::Keep };
    let (finished, log) = run_of(40).transform(shape).sink(rejects(4)).finish().await;
    assert!(record_failure(&finished).starts_with("record t/0@4 cannot be delivered"), "{:?}", finished.outcome);
    assert_eq!(log.commits(p(0)).last(), Some(&4));
}

#[tokio::test(start_paused = true)]
async fn of_two_partitions_the_one_that_was_found_bad_first_is_named() {
    let setup = follow();
    for index in [0, 1] {
        setup.broker.partition(p(index), 0..10, 10);
    }
    setup.broker.assign(&[p(0), p(1)]);
    setup.broker.end();
    let sink: Script = Box::new(|call| {
        let is_bad = |record: &Record| match record.partition.index {
            0 => record.offset == 2,
            _ => [7, 8].contains(&record.offset),
        };
        let judge = |record: &Record| if is_bad(record) { Outcome::Reject(why()) } else { Outcome::Delivered };
        let is_late = call.records.iter().any(|record| record.partition == p(0));
        let reply = super::destination::Reply::at_once(call.records.iter().map(judge).collect());
        reply.after(ms(if is_late { 100 } else { 10 }))
    });
    let (finished, log) = setup.ordering(Ordering::OneByOne).limits(|limits| limits.batch = 10).sink(sink).finish().await;
    assert!(record_failure(&finished).starts_with("record t/"), "{:?}", finished.outcome);
    let stops = [log.commits(p(0)).last().copied(), log.commits(p(1)).last().copied()];
    assert_eq!(stops, [Some(2), Some(7)], "each partition stops at its own first one");
    let named = if log.observed("bad")[0].starts_with("bad t/0@2") { "record t/0@2 " } else { "record t/1@7 " };
    assert!(record_failure(&finished).starts_with(named), "{named}: {:?}", finished.outcome);
}

#[tokio::test(start_paused = true)]
async fn the_first_rejected_dead_letter_of_a_partition_is_named() {
    // The record of the second batch is found bad first, and its letter is sent first.
    let sink: Script = Box::new(|call| {
        let is_late = call.records[0].offset == 0;
        let bad = |offset, _| if [3, 14].contains(&offset) { Outcome::Reject(why()) } else { Outcome::Delivered };
        call.answer(bad).after(ms(if is_late { 100 } else { 10 }))
    });
    let letters: Script = Box::new(|call| call.answer(|_, _| Outcome::Reject(why())).after(ms(500)));
    let (finished, log) = run_of(20).sink(sink).letters(letters).finish().await;
    assert_eq!(log.submitted(Destination::DeadLetters), [[14], [3]]);
    assert!(record_failure(&finished).starts_with("the dead letter of record t/0@3 was rejected"), "{:?}", finished.outcome);
    assert_eq!(log.commits(p(0)).last(), Some(&3));
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_reason_replaces_the_general_hint() {
    let sink = answers(|_, _| Outcome::Reject(Reason::new("key_missing", "no key").hint("name a key with --id")));
    let (finished, _) = run_of(1).sink(sink).finish().await;
    assert_eq!(
        record_failure(&finished),
        "record t/0@0 cannot be delivered: no key (key_missing) | BadRecord name a key with --id"
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_skipped_when_asked() {
    let (finished, log) = run_of(100).skipping().sink(rejects(14)).finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Complete));
    assert_eq!((finished.tally.delivered, finished.tally.skipped), (99, 1));
    assert_eq!(log.commits(p(0)).last(), Some(&100));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_delivered_before_its_record_is_committed() {
    let letters: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(5)));
    let (finished, log) = run_of(20).sink(rejects(3)).letters(letters).finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (19, 1));
    assert_eq!(log.taken(Destination::DeadLetters), [3]);
    let letter = |entry: &Entry| matches!(entry, Entry::Answered(Destination::DeadLetters, ..));
    let at = log.entries().iter().position(letter).unwrap();
    let past = |entry: &Entry| matches!(entry, Entry::Commit(_, next) if next.0 > 3);
    assert!(!log.entries()[..at].iter().any(past));
    assert_eq!(log.commits(p(0)).last(), Some(&20));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_transform_rejects_is_dead_lettered() {
    let shape = |record: &mut Record| if record.offset == 7 { TransformResult::Bad(why()) } else { TransformResult::Keep };
    let (finished, log) = run_of(20).transform(shape).letters(takes_all()).finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (19, 1));
    assert!(log.submitted(Destination::Sink).iter().all(|batch| !batch.contains(&7)));
    assert_eq!(log.submitted(Destination::DeadLetters), [[7]]);
}

#[tokio::test(start_paused = true)]
async fn pending_dead_letters_hold_back_the_commit_and_reading() {
    let letters = answers(|_, sent| if sent < 8 { Outcome::Retry(why()) } else { Outcome::Delivered });
    let run = run_of(1000).sink(rejects(3)).letters(letters).start();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(run.broker.committed(p(0)), 3);
    let (finished, log) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (999, 1));
    assert_eq!(log.commits(p(0)).last(), Some(&1000));
}

#[tokio::test(start_paused = true)]
async fn a_silent_destination_of_dead_letters_is_named() {
    let letters: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(20)));
    let (_, log) = run_of(20).sink(rejects(3)).letters(letters).finish().await;
    let states = ["dead_letters stalled: no response for more than 3 s", "dead_letters healthy"];
    assert_eq!((log.observed("dead_letters"), log.observed("target")), (states.map(str::to_owned).to_vec(), vec![]));
    let letters: Script = Box::new(|call| call.answer(|_, _| Outcome::Delivered).never());
    let setup = run_of(20).sink(rejects(3)).letters(letters);
    let (finished, _) = setup.limits(|limits| limits.retry_for = Some(Duration::from_secs(5))).finish().await;
    let RunOutcome::Failed(error) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    assert_eq!(error.to_string(), "gave up after 5s without a delivery: dead letters: no response for more than 3 s");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_dead_letter_stops_the_run() {
    let letters = answers(|_, _| Outcome::Reject(Reason::new("too_large", "the letter is too large")));
    let (finished, log) = run_of(100).sink(rejects(3)).letters(letters).finish().await;
    assert_eq!(
        record_failure(&finished),
        "the dead letter of record t/0@3 was rejected: the letter is too large | DeadLetterRejected no hint"
    );
    assert_eq!(log.commits(p(0)).last(), Some(&3));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_trips_at_its_limit_and_nothing_is_committed_past_that() {
    let limit = BreakerLimit { records: 5, within: Duration::from_secs(60) };
    let sink = || answers(|_, _| Outcome::Reject(why()));
    let (finished, log) =
        run_of(100).sink(sink()).letters(takes_all()).limits(|limits| limits.breaker = Some(limit)).finish().await;
    assert!(
        record_failure(&finished)
            .starts_with("more than 5 bad records within 1m, the last one t/0@5: the script says so (scripted) | TooMany")
    );
    assert_eq!(log.taken(Destination::DeadLetters), [0, 1, 2, 3, 4]);
    assert_eq!((log.commits(p(0)).last(), finished.tally.dead_lettered), (Some(&5), 5));
    let (finished, _) = run_of(100).sink(sink()).skipping().limits(|limits| limits.breaker = Some(limit)).finish().await;
    assert_eq!(finished.tally.skipped, 5);
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_a_bad_record_is_reported_once() {
    let (_, log) = run_of(100)
        .transform(|record| if record.offset >= 3 { TransformResult::Bad(why()) } else { TransformResult::Keep })
        .finish()
        .await;
    assert_eq!(log.observed("bad"), ["bad t/0@3 Stops"]);
}

/// A destination that rejects a whole batch with one of these records, without naming it.
fn poisoned_by(poison: &'static [i64]) -> Script {
    Box::new(move |call| {
        let poisoned = call.records.iter().any(|record| poison.contains(&record.offset));
        call.answer(|_, _| if poisoned { Outcome::BatchRejected(why()) } else { Outcome::Delivered })
    })
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_is_found_by_bisecting_and_dead_lettered_alone() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        for poison in [&[0][..], &[19], &[7], &[3, 4], &[0, 9, 10]] {
            let setup = run_of(30).ordering(ordering).sink(poisoned_by(poison)).letters(takes_all());
            let (finished, log) = setup.finish().await;
            let mut letters = log.taken(Destination::DeadLetters);
            letters.sort_unstable();
            assert_eq!(letters, poison);
            assert_eq!(finished.tally.delivered, 30 - poison.len() as u64);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bisecting_keeps_the_order_of_a_batch() {
    let (_, log) = run_of(10).sink(poisoned_by(&[4])).skipping().finish().await;
    assert_eq!(log.taken(Destination::Sink), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_record_is_sent_alone_before_it_is_rejected() {
    let sink = answers(|offset, sent| if offset == 4 && sent == 0 { Outcome::BatchRejected(why()) } else { Outcome::Delivered });
    let (finished, log) = run_of(10).sink(sink).finish().await;
    assert_eq!(finished.tally.delivered, 10);
    assert_eq!(log.submitted(Destination::Sink)[1], [4]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_may_hold_every_outcome_at_once() {
    let sink: Script = Box::new(|call| {
        let alone = call.records.len() == 1;
        call.answer(|offset, sent| match offset % 5 {
            1 if sent < 2 => Outcome::Retry(why()),
            2 => Outcome::Reject(why()),
            3 if !alone => Outcome::BatchRejected(why()),
            4 => Outcome::AlreadyThere,
            _ => Outcome::Delivered,
        })
    });
    let (finished, log) = run_of(20).sink(sink).letters(takes_all()).finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered, finished.tally.already_there), (16, 4, 4));
    assert_eq!(log.taken(Destination::DeadLetters), [2, 7, 12, 17]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_found_while_draining_is_the_outcome_of_the_run() {
    let sink: Script = Box::new(|call| {
        let outcome = |offset, _| if offset == 3 { Outcome::Reject(why()) } else { Outcome::Delivered };
        super::destination::Reply::after(call.answer(outcome), Duration::from_secs(1))
    });
    let run = run_of(10).sink(sink).start();
    tokio::time::sleep(ms(100)).await;
    run.stop();
    let (finished, _) = run.finish().await;
    assert!(record_failure(&finished).starts_with("record t/0@3 cannot be delivered"));
}
