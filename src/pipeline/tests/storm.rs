//! Random faults, checked against the invariants.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_core::{RngCore as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::destination::{Call, Reply, why};
use super::*;
use crate::pipeline::{Outcome, RunOutcome};

/// The random conditions of a run.
#[derive(Clone, Debug)]
struct Weather {
    seed: u64,
    /// Per partition: records, and one in how many offsets is a hole.
    partitions: Vec<(i64, i64)>,
    ordering: Ordering,
    bad_records: BadRecordPolicy,
    batch: usize,
    batch_bytes: usize,
    in_flight: usize,
    linger: u64,
    commit_each: bool,
    pieces: (usize, usize),
    /// Whether records are shaped; whether the sink may answer with a stop.
    shaping: bool,
    stops: bool,
    /// How slow the ends are, in milliseconds.
    slowness: u64,
    push_backs: bool,
    /// After how many milliseconds, what, to which partitions (a bit each), and how long a release is waited for.
    rebalances: Vec<(u64, Change, u8, u64)>,
    /// The time of the stop request.
    stop: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Revoke,
    /// The deadline passes, and the run is notified of lost partitions.
    RevokeAndLose,
    Lose,
    Assign,
}

fn weather() -> impl Strategy<Value = Weather> {
    let partitions = prop::collection::vec((0_i64..60, 2_i64..9), 1..5);
    let bad_records =
        prop_oneof![1 => Just(BadRecordPolicy::Stop), 2 => Just(BadRecordPolicy::Skip), 4 => Just(BadRecordPolicy::DeadLetters)];
    let ordering = prop_oneof![Just(Ordering::Overlapping), Just(Ordering::OneByOne)];
    let limits = (1_usize..9, prop_oneof![15_usize..120, Just(1 << 20)], 1_usize..5, 0_u64..30, prop::bool::weighted(0.1));
    let change = prop_oneof![Just(Change::Revoke), Just(Change::RevokeAndLose), Just(Change::Lose), Just(Change::Assign)];
    let rebalances = prop::collection::vec((1_u64..400, change, any::<u8>(), 1_u64..400), 0..8);
    let ends = (any::<bool>(), prop::bool::weighted(0.1), prop_oneof![Just(0_u64), 1_u64..300], any::<bool>());
    let stop = prop::option::weighted(0.3, 0_u64..2000);
    let pieces = (1_usize..20, 1_usize..8);
    (any::<u64>(), partitions, ordering, bad_records, limits, pieces, ends, rebalances, stop).prop_map(
        |(seed, partitions, ordering, bad_records, limits, pieces, ends, rebalances, stop)| {
            let (batch, batch_bytes, in_flight, linger, commit_each) = limits;
            let (shaping, stops, slowness, push_backs) = ends;
            Weather {
                seed,
                partitions,
                ordering,
                bad_records,
                batch,
                batch_bytes,
                in_flight,
                linger,
                commit_each,
                pieces,
                shaping,
                stops,
                slowness,
                push_backs,
                rebalances,
                stop,
            }
        },
    )
}

/// The final outcome of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Delivered,
    AlreadyThere,
    Superseded,
    /// Delivered after this many failed attempts.
    Late(u32),
    Rejected,
    /// Spoils every batch that it is in.
    Poison,
    /// No batch with it gets a clear answer.
    Indigestible,
    Stop,
    Filtered,
    Misshapen,
}

impl Weather {
    fn verdict(&self, partition: i32, offset: i64) -> Fate {
        let mixed =
            self.seed ^ u64::from(partition.unsigned_abs()).wrapping_mul(0x9E37_79B9) ^ offset.unsigned_abs().rotate_left(32);
        match Pcg64Mcg::seed_from_u64(mixed).next_u32() % 100 {
            0..3 => Fate::Rejected,
            3..5 => Fate::Poison,
            5 => Fate::Indigestible,
            6 if self.stops => Fate::Stop,
            7..20 => Fate::Late(1 + u32::try_from(offset % 4).unwrap()),
            20..30 => Fate::AlreadyThere,
            30..40 => Fate::Superseded,
            40..48 if self.shaping => Fate::Filtered,
            48..50 if self.shaping => Fate::Misshapen,
            _ => Fate::Delivered,
        }
    }

    fn is_bad(&self, partition: i32, offset: i64) -> bool {
        matches!(self.verdict(partition, offset), Fate::Rejected | Fate::Poison | Fate::Indigestible | Fate::Misshapen)
    }

    fn offsets(&self, partition: usize) -> (Vec<i64>, i64) {
        let (count, hole) = self.partitions[partition];
        let offsets: Vec<i64> = (10..).filter(|offset| offset % hole != 1).take(usize::try_from(count).unwrap()).collect();
        let end = offsets.last().map_or(10, |last| last + 1) + hole % 3;
        (offsets, end)
    }

    fn sink(&self) -> Script {
        let (weather, mut dice) = (self.clone(), Pcg64Mcg::seed_from_u64(self.seed));
        Box::new(move |call: &Call<'_>| {
            let verdict = |record: &Record| weather.verdict(record.partition.index, record.offset);
            let indigestible = call.records.iter().any(|record| verdict(record) == Fate::Indigestible);
            let poisoned = call.records.iter().any(|record| verdict(record) == Fate::Poison);
            let outcome = |record: &Record, sent: u32| match verdict(record) {
                _ if indigestible => Outcome::Unclear(why()),
                _ if poisoned => Outcome::BatchRejected(why()),
                Fate::Late(after) if sent < after => match (record.offset % 5, sent) {
                    (1 | 2, _) => Outcome::Unclear(why()),
                    (3, _) => Outcome::Unclear(why().time_out()),
                    (4, 0) => Outcome::Retry(why().overload()),
                    _ => Outcome::Retry(why()),
                },
                Fate::Rejected => Outcome::Reject(why()),
                Fate::Stop => Outcome::Stop(why()),
                Fate::AlreadyThere => Outcome::AlreadyThere,
                Fate::Superseded => Outcome::Superseded,
                Fate::Filtered | Fate::Misshapen => panic!("{record} should have been left out"),
                _ => Outcome::Delivered,
            };
            let outcomes = call.records.iter().zip(call.sent).map(|(record, sent)| outcome(record, *sent)).collect();
            weather.delayed(&mut dice, Reply::at_once(outcomes))
        })
    }

    fn letters(&self) -> Script {
        let (weather, mut dice) = (self.clone(), Pcg64Mcg::seed_from_u64(!self.seed));
        Box::new(move |call: &Call<'_>| {
            let outcome = |offset, sent| if offset % 3 == 0 && sent < 2 { Outcome::Retry(why()) } else { Outcome::Delivered };
            weather.delayed(&mut dice, call.answer(outcome))
        })
    }

    fn delayed(&self, dice: &mut Pcg64Mcg, reply: Reply) -> Reply {
        let mut throw = |most: u64| ms(if most == 0 { 0 } else { dice.next_u64() % most });
        let reply = reply.after(throw(self.slowness));
        if self.push_backs && throw(4) == ms(0) { reply.pushing_back(throw(self.slowness)) } else { reply }
    }

    fn setup(&self) -> Setup {
        let mut setup = follow().ordering(self.ordering).sink(self.sink()).letters(self.letters()).limits(|limits| {
            (limits.batch, limits.batch_bytes, limits.in_flight) = (self.batch, self.batch_bytes, self.in_flight);
            (limits.linger, limits.commit_each) = (ms(self.linger), self.commit_each);
        });
        setup.bad_records = self.bad_records;
        setup.broker.in_pieces(self.pieces.0, self.pieces.1);
        for at in 0..self.partitions.len() {
            let (offsets, end) = self.offsets(at);
            setup.broker.partition(p(i32::try_from(at).unwrap()), offsets, end);
        }
        let weather = self.clone();
        let shape = move |record: &mut Record| match weather.verdict(record.partition.index, record.offset) {
            Fate::Filtered => TransformResult::Filtered,
            Fate::Misshapen => TransformResult::Bad(why()),
            _ => TransformResult::Keep,
        };
        if self.shaping { setup.transform(shape) } else { setup }
    }

    async fn rebalance(&self, broker: &Broker) {
        for (after, change, bits, deadline) in &self.rebalances {
            tokio::time::sleep(ms(*after)).await;
            let (owned, others) = broker.owned();
            let chosen = |of: Vec<Partition>| of.into_iter().filter(|p| bits >> p.index & 1 == 1).collect::<Vec<_>>();
            match change {
                Change::Assign => broker.assign(&chosen(if bits >> 7 == 0 { others } else { owned })),
                Change::Lose => broker.lose(&chosen(owned)),
                Change::Revoke | Change::RevokeAndLose => {
                    let chosen = chosen(owned);
                    broker.revoke(&chosen);
                    for _ in 0..*deadline {
                        tokio::time::sleep(ms(1)).await;
                        if !broker.is_waiting() {
                            break;
                        }
                    }
                    if broker.is_waiting() && matches!(change, Change::RevokeAndLose) {
                        broker.lose(&chosen);
                    }
                    broker.give_up_waiting();
                }
            }
        }
        tokio::time::sleep(ms(1)).await;
        broker.assign(&broker.owned().1);
        broker.end();
    }
}

async fn weathered(weather: Weather) {
    let setup = weather.setup();
    setup.broker.assign(&(0..weather.partitions.len()).map(|at| p(i32::try_from(at).unwrap())).collect::<Vec<_>>());
    let run = setup.start();
    let (stop, broker) = (run.stop.clone(), run.broker.clone());
    let stopping = weather.stop.map(|after| {
        tokio::spawn(async move {
            tokio::time::sleep(ms(after)).await;
            stop.send_replace(true);
        })
    });
    let climate = weather.clone();
    let rebalances = tokio::spawn(async move { climate.rebalance(&broker).await });
    let (finished, log) = run.finish().await;
    rebalances.abort();
    if let Some(stopping) = stopping {
        stopping.abort();
    }
    let (mut there, mut letters) = (BTreeSet::new(), BTreeSet::new());
    for entry in log.entries() {
        if let Entry::Answered(to, _, answers) = entry {
            let taken = answers.into_iter().filter(|(_, outcome)| log::is_there(outcome)).map(|(record, _)| (record.0, record.1));
            if to == Destination::Sink { there.extend(taken) } else { letters.extend(taken) }
        }
    }
    for (partition, offset) in &letters {
        assert!(weather.is_bad(partition.index, *offset), "{partition}@{offset} is among the dead letters and is not bad");
    }
    match &finished.outcome {
        RunOutcome::Complete => {
            let all = (0..weather.partitions.len()).flat_map(|at| {
                let partition = p(i32::try_from(at).unwrap());
                weather.offsets(at).0.into_iter().map(move |offset| (partition, offset))
            });
            for (partition, offset) in all {
                let (verdict, record) = (weather.verdict(partition.index, offset), (partition, offset));
                let bad = weather.is_bad(partition.index, offset);
                assert!(!bad || weather.bad_records != BadRecordPolicy::Stop, "{record:?} should have stopped the run");
                assert_eq!(there.contains(&record), !bad && verdict != Fate::Filtered, "{record:?}: {verdict:?}");
                assert_eq!(
                    letters.contains(&record),
                    bad && weather.bad_records == BadRecordPolicy::DeadLetters,
                    "{record:?}: {verdict:?}"
                );
            }
            assert_eq!(finished.tally.undelivered, 0);
        }
        RunOutcome::Record(_) => assert_eq!(weather.bad_records, BadRecordPolicy::Stop),
        RunOutcome::Failed(error) => assert!(weather.stops, "{error}"),
        RunOutcome::Interrupted => assert!(weather.stop.is_some()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_or_committed_too_early_under_random_faults(weather in weather()) {
        let time = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        time.block_on(weathered(weather));
    }
}
