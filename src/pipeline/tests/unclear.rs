//! Unclear answers, time-outs and overload.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rand_core::{RngCore as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::destination::{Call, Reply, Switch, answers, why};
use super::*;
use crate::pipeline::{BreakerLimit, Outcome, RunOutcome, RunSide};

/// A destination that gives no clear answer to a call with one of these records.
fn indigestible(poison: &'static [i64]) -> Script {
    Box::new(move |call| {
        let has_poison = call.records.iter().any(|record| poison.contains(&record.offset));
        call.answer(|_, _| if has_poison { Outcome::Unclear(why()) } else { Outcome::Delivered })
    })
}

#[tokio::test(start_paused = true)]
async fn a_record_that_keeps_failing_is_dead_lettered_and_the_run_continues() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        for poison in [&[0][..], &[29], &[7], &[3, 4], &[0, 9, 10, 25]] {
            let setup = run_of(30).ordering(ordering).sink(indigestible(poison)).letters(takes_all());
            let (finished, log) = setup.finish().await;
            let mut letters = log.taken(Destination::DeadLetters);
            letters.sort_unstable();
            assert_eq!(letters, poison, "{ordering:?}");
            assert_eq!(finished.tally.delivered, 30 - poison.len() as u64);
            assert!(finished.elapsed > Duration::from_secs(60), "a verdict takes a minute: {:?}", finished.elapsed);
            assert!(finished.elapsed < Duration::from_secs(200 * poison.len() as u64), "{:?}", finished.elapsed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_keeps_failing_stops_the_run_without_dead_letters() {
    let (finished, log) = run_of(30).sink(indigestible(&[14])).finish().await;
    let RunOutcome::Record(failure) = &finished.outcome else { panic!("{:?}", finished.outcome) };
    assert_eq!(failure.what, "record t/0@14 cannot be delivered");
    assert_eq!(log.commits(p(0)).last(), Some(&14));
}

#[tokio::test(start_paused = true)]
async fn a_single_unclear_record_in_a_batch_is_judged() {
    let sink = answers(|offset, _| if offset == 14 { Outcome::Unclear(why()) } else { Outcome::Delivered });
    let (finished, log) = run_of(30).sink(sink).letters(takes_all()).finish().await;
    assert_eq!((finished.tally.delivered, log.taken(Destination::DeadLetters)), (29, vec![14]));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_unclear_answers_makes_no_dead_letters() {
    let up = Switch::new(AtomicBool::new(false));
    let (switch, check) = (Arc::clone(&up), Arc::clone(&up));
    let outcome = move |_, _| if switch.load(SeqCst) { Outcome::Delivered } else { Outcome::Unclear(why()) };
    let setup = run_of(50).sink(answers(outcome)).letters(takes_all()).available(move || check.load(SeqCst));
    let run = setup.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(run.log.stalls(RunSide::Target), [true]);
    assert!(run.log.submitted(Destination::Sink).iter().all(|batch| batch.len() == 10), "nothing is bisected");
    up.store(true, SeqCst);
    let (finished, log) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (50, 0));
    assert_eq!(log.stalls(RunSide::Target).last(), Some(&false));
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_middle_of_a_load_makes_no_dead_letters() {
    let up = Switch::new(AtomicBool::new(true));
    let (switch, check) = (Arc::clone(&up), Arc::clone(&up));
    let sink: Script = Box::new(move |call| {
        let outcome = |_, _| if switch.load(SeqCst) { Outcome::Delivered } else { Outcome::Unclear(why()) };
        call.answer(outcome).after(ms(50))
    });
    let setup = run_of(2000).sink(sink).letters(takes_all()).available(move || check.load(SeqCst));
    let run = setup.start();
    for round in 0..5 {
        tokio::time::sleep(ms(900)).await;
        up.store(false, SeqCst);
        tokio::time::sleep(Duration::from_secs(600 * round)).await;
        up.store(true, SeqCst);
    }
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (2000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_half_the_time_makes_no_dead_letters() {
    for seed in 0..10 {
        let (mut calls, checks) = (Pcg64Mcg::seed_from_u64(seed), std::sync::Mutex::new(Pcg64Mcg::seed_from_u64(seed + 100)));
        let sink: Script = Box::new(move |call| {
            let breaks = calls.next_u32() % 2 == 0;
            call.answer(|_, _| if breaks { Outcome::Unclear(why()) } else { Outcome::Delivered })
        });
        let setup = run_of(500).sink(sink).letters(takes_all()).available(move || checks.lock().unwrap().next_u32() % 2 == 0);
        let (finished, _) = setup.finish().await;
        assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (500, 0), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_records_that_keep_failing_trips_the_breaker() {
    let limit = BreakerLimit { records: 3, within: Duration::from_secs(3600) };
    let poison: &[i64] = &[1, 11, 21, 31, 41, 51];
    let setup = run_of(60).sink(indigestible(poison)).letters(takes_all()).limits(|limits| limits.breaker = Some(limit));
    let (finished, _) = setup.finish().await;
    assert!(matches!(finished.outcome, RunOutcome::Record(_)), "{:?}", finished.outcome);
    assert_eq!(finished.tally.dead_lettered, 3);
}

/// A slow server: more than `most` records at once exceed its deadline of a minute.
fn slow(most: usize) -> Script {
    Box::new(move |call| match call.records.len() {
        count if count > most => call.answer(|_, _| Outcome::Unclear(why().time_out())).after(Duration::from_secs(60)),
        _ => call.answer(|_, _| Outcome::Delivered).after(Duration::from_secs(1)),
    })
}

#[tokio::test(start_paused = true)]
async fn time_outs_make_batches_smaller_until_answers_come() {
    for ordering in [Ordering::Overlapping, Ordering::OneByOne] {
        let setup = run_of(10_000).ordering(ordering).sink(slow(60)).letters(takes_all());
        let (finished, log) = setup.limits(|limits| limits.batch = 200).finish().await;
        assert_eq!((finished.tally.delivered, finished.tally.dead_lettered), (10_000, 0));
        let sizes: Vec<usize> = log.submitted(Destination::Sink).iter().map(Vec::len).collect();
        let late = sizes.iter().filter(|size| **size > 60).count();
        assert!(late * 15 < sizes.len(), "{late} of {} calls run into the deadline", sizes.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_times_out_alone_is_never_blamed_by_checks() {
    let run = run_of(1).sink(slow(0)).letters(takes_all()).start();
    tokio::time::sleep(Duration::from_secs(24 * 3600 - 60)).await;
    assert_eq!(run.log.stalls(RunSide::Target), [true]);
    run.stop();
    let (finished, _) = run.finish().await;
    assert_eq!((finished.tally.dead_lettered, finished.tally.undelivered), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn overload_lowers_the_number_of_batches_in_flight_and_answers_raise_it() {
    let (now, most, allowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(8)));
    let (running, peak, bears) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&allowed));
    let sink: Script = Box::new(move |call: &Call<'_>| {
        let running_now = running.fetch_add(1, SeqCst) + 1;
        peak.fetch_max(running_now, SeqCst);
        let reply = if running_now > bears.load(SeqCst) {
            call.answer(|_, _| Outcome::Retry(why().overload()))
        } else {
            call.answer(|_, _| Outcome::Delivered)
        };
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            tokio::time::sleep(ms(99)).await;
            running.fetch_sub(1, SeqCst);
        });
        Reply::after(reply, ms(100))
    });
    let run = run_of(4000).sink(sink).limits(|limits| (limits.in_flight, limits.batch) = (8, 2)).start();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(most.load(SeqCst), 8, "all that is allowed, when the server bears it");
    allowed.store(2, SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    most.store(0, SeqCst);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(most.load(SeqCst) <= 4, "{} at once", most.load(SeqCst));
    allowed.store(8, SeqCst);
    let (finished, _) = run.finish().await;
    assert_eq!(finished.tally.delivered, 4000);
    assert_eq!(most.load(SeqCst), 8);
}
