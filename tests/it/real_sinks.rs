//! Guarantees of every sink, on real servers. Their content is read by programs that share no code
//! with the project: kcat, Python's client of MongoDB, curl.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use sdl::document::Ids;
use sdl::pipeline::{Ordering, Outcome, Sink};
use sdl::record::{Partition, Record};

use crate::harness::{Clusters, setting, unique};
use subjects::{Elastic, Kafka, Mongo, Subject};

mod subjects;

/// How long a server that is back may take to take everything.
const LOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// Defines the tests of one sink. Kafka records have no ids: tests of ids are for documents.
macro_rules! keeps {
    ($name:ident, $subject:expr, [$($shared:ident),*], [$($alone:ident),*]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs real servers: scripts/test runs it"]
                async fn $shared() {
                    let subject = $subject;
                    let _held = Clusters::shared();
                    super::$shared(&subject).await;
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs real servers: scripts/test runs it"]
                async fn $alone() {
                    let _held = Clusters::exclusive();
                    super::$alone(&$subject).await;
                }
            )*
        }
    };
}

keeps!(
    kafka,
    Kafka::new(),
    [real_each_record_has_its_outcome_in_order, real_a_wrong_password_stops_the_run],
    [real_records_are_retried_while_the_server_is_away]
);
keeps!(
    ferretdb,
    Mongo::new("ferretdb"),
    [
        real_each_record_has_its_outcome_in_order,
        real_a_wrong_password_stops_the_run,
        real_a_repeated_write_stores_one_unchanged_document
    ],
    [real_records_are_retried_while_the_server_is_away]
);
keeps!(
    mongo_java,
    Mongo::new("mongo-java"),
    [
        real_each_record_has_its_outcome_in_order,
        real_a_wrong_password_stops_the_run,
        real_a_repeated_write_stores_one_unchanged_document,
        real_an_older_record_never_overwrites_a_newer_one,
        real_interrupted_and_restarted_runs_end_as_one_run
    ],
    [real_records_are_retried_while_the_server_is_away]
);
keeps!(
    opensearch,
    Elastic::new("opensearch"),
    [
        real_each_record_has_its_outcome_in_order,
        real_a_repeated_write_stores_one_unchanged_document,
        real_an_older_record_never_overwrites_a_newer_one,
        real_interrupted_and_restarted_runs_end_as_one_run
    ],
    [real_records_are_retried_while_the_server_is_away]
);
// Its queue is short, so that a part of every other request is refused for now.
keeps!(
    opensearch_small,
    Elastic::new("opensearch-small"),
    [
        real_a_repeated_write_stores_one_unchanged_document,
        real_an_older_record_never_overwrites_a_newer_one,
        real_interrupted_and_restarted_runs_end_as_one_run
    ],
    []
);
keeps!(
    elasticsearch,
    Elastic::new("elasticsearch"),
    [
        real_each_record_has_its_outcome_in_order,
        real_a_repeated_write_stores_one_unchanged_document,
        real_an_older_record_never_overwrites_a_newer_one,
        real_interrupted_and_restarted_runs_end_as_one_run
    ],
    [real_records_are_retried_while_the_server_is_away]
);
keeps!(elasticsearch_secure, Elastic::new("elasticsearch-secure"), [real_a_wrong_password_stops_the_run], []);

fn record(place: &str, offset: i64, key: &str, value: Option<String>) -> Record {
    Record {
        partition: Partition::new(place, 0),
        offset,
        timestamp: Some(1_700_000_000_000 + offset),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(Bytes::from),
        headers: Vec::new(),
    }
}

/// Returns records that each have a key and a number of their own.
fn numbered(place: &str, offsets: std::ops::Range<i64>) -> Vec<Record> {
    offsets.map(|offset| record(place, offset, &format!("k{offset}"), Some(format!("{{\"n\": {offset}}}")))).collect()
}

fn offsets() -> Ids {
    Ids::Offset { prefix: String::new() }
}

/// Delivers records as the engine does, with retries until all are settled.
async fn settle(sink: &impl Sink, mut records: Vec<Record>) -> Vec<Outcome> {
    let begun = Instant::now();
    let mut settled: HashMap<i64, Outcome> = HashMap::new();
    let all: Vec<i64> = records.iter().map(|record| record.offset).collect();
    while !records.is_empty() {
        assert!(begun.elapsed() < LOAD_TIMEOUT, "{} records are not settled", records.len());
        let outcomes = sink.submit(Arc::new(records.clone())).await.expect("it takes batches").await;
        assert_eq!(outcomes.len(), records.len(), "one outcome a record");
        let mut again = Vec::new();
        for (record, outcome) in records.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Retry(_) | Outcome::Unclear(_) => again.push(record),
                outcome => drop(settled.insert(record.offset, outcome)),
            }
        }
        records = again;
        if !records.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    all.into_iter().map(|offset| settled[&offset].clone()).collect()
}

/// Panics unless every outcome is delivered, already there or superseded.
#[track_caller]
fn assert_there(outcomes: &[Outcome]) {
    let is_there = |outcome: &Outcome| matches!(outcome, Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded);
    let other = outcomes.iter().find(|outcome| !is_there(outcome));
    assert!(other.is_none(), "{other:?}");
}

async fn real_each_record_has_its_outcome_in_order(subject: &impl Subject) {
    let place = unique("answers");
    let sink = subject.open(&place, offsets(), false).await;
    sink.check().await.expect("it can be written to");
    let mut next = 0;
    for (count, unfit) in [(1, vec![]), (7, vec![2]), (500, vec![0, 1, 250, 499]), (1, vec![0])] {
        let mut batch = numbered(&place, next..next + count);
        next += count;
        for at in &unfit {
            let bad: &mut Record = &mut batch[*at];
            bad.value = Some(subject.unfit());
        }
        let outcomes = settle(&sink, batch).await;
        for (at, outcome) in outcomes.iter().enumerate() {
            let as_wanted =
                if unfit.contains(&at) { matches!(outcome, Outcome::Reject(_)) } else { *outcome == Outcome::Delivered };
            assert!(as_wanted, "{at} of {count}: {outcome:?}");
        }
    }
    let bad = [3, 8, 9, 258, 507, 508];
    let mut there: Vec<_> = subject.stored(&place).into_iter().map(|stored| stored.n).collect();
    there.sort_unstable();
    assert_eq!(there, (0..next).filter(|n| !bad.contains(n)).collect::<Vec<_>>());
}

async fn real_a_wrong_password_stops_the_run(subject: &impl Subject) {
    let begun = Instant::now();
    let error = subject.refused("hunter2-wrong").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("authentication failed for "), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

async fn real_records_are_retried_while_the_server_is_away(subject: &impl Subject) {
    let place = unique("away");
    let sink = subject.open(&place, offsets(), false).await;
    let mut all = 0;
    assert_there(&settle(&sink, numbered(&place, 0..100)).await);
    for (leaves, comes_back) in [("kill", "start"), ("freeze", "thaw")] {
        all += 100;
        tokio::task::block_in_place(|| subject.server(leaves));
        let batch = numbered(&place, all..all + 100);
        let mut answers = sink.submit(Arc::new(batch.clone())).await.expect("it takes batches");
        let early = tokio::time::timeout(Duration::from_secs(3), &mut answers).await;
        if let Ok(outcomes) = &early {
            let gives_up = outcomes.iter().find(|outcome| !matches!(outcome, Outcome::Retry(_) | Outcome::Unclear(_)));
            assert!(gives_up.is_none(), "{leaves}: {gives_up:?}");
        }
        tokio::task::block_in_place(|| subject.server(comes_back));
        let outcomes = match early {
            Ok(outcomes) => outcomes,
            Err(_) => tokio::time::timeout(LOAD_TIMEOUT, answers).await.expect("it answers once the server is back"),
        };
        let gives_up = outcomes.iter().find(|outcome| {
            !matches!(outcome, Outcome::Delivered | Outcome::AlreadyThere | Outcome::Retry(_) | Outcome::Unclear(_))
        });
        assert!(gives_up.is_none(), "{leaves}: {gives_up:?}");
        let again = batch.into_iter().zip(outcomes).filter(|(_, outcome)| !matches!(outcome, Outcome::Delivered));
        assert_there(&settle(&sink, again.map(|(record, _)| record).collect()).await);
    }
    let mut there: Vec<_> = subject.stored(&place).into_iter().map(|stored| stored.n).collect();
    there.sort_unstable();
    assert_eq!(there, (0..all + 100).collect::<Vec<_>>());
}

async fn real_a_repeated_write_stores_one_unchanged_document(subject: &impl Subject) {
    let place = unique("twice");
    let records = numbered(&place, 0..1000);
    let sink = subject.open(&place, offsets(), false).await;
    assert_there(&settle(&sink, records.clone()).await);
    let before = subject.stored(&place);
    let sink = subject.open(&place, offsets(), false).await;
    let halves = [records[..500].to_vec(), records[300..].to_vec()];
    for outcomes in [settle(&sink, halves[0].clone()).await, settle(&sink, halves[1].clone()).await] {
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::AlreadyThere), "{outcomes:?}");
    }
    let after = subject.stored(&place);
    assert_eq!(before.len(), 1000);
    assert_eq!(before, after);
}

async fn real_an_older_record_never_overwrites_a_newer_one(subject: &impl Subject) {
    let seed = seed();
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut below = |n: usize| usize::try_from(random.next_u64() % n as u64).expect("a small number");
    let place = unique("older");
    let records: Vec<Record> =
        (0..600).map(|offset| record(&place, offset, &format!("k{}", below(40)), Some(format!("{{\"n\": {offset}}}")))).collect();
    // Every record at least once, in no order.
    let mut batches: Vec<Vec<Record>> = records.chunks(20).map(<[Record]>::to_vec).collect();
    for _ in 0..20 {
        let from = below(580);
        batches.push(records[from..from + 20].to_vec());
    }
    for at in (1..batches.len()).rev() {
        batches.swap(at, below(at + 1));
    }
    let given_up: Vec<bool> = batches.iter().map(|_| below(4) == 0).collect();
    let sink = &subject.open(&place, Ids::Key, false).await;
    let at_once = if sink.ordering() == Ordering::Overlapping { 4 } else { 1 };
    stream::iter(batches.into_iter().zip(given_up))
        .for_each_concurrent(at_once, |(batch, given_up)| async move {
            if given_up {
                // What becomes of it is not known, and it is sent again.
                let answers = sink.submit(Arc::new(batch.clone())).await.expect("it takes batches");
                let _ = tokio::time::timeout(Duration::from_millis(2), answers).await;
            }
            assert_there(&settle(sink, batch).await);
        })
        .await;
    assert_eq!(newest(subject, &place), by_the_book(&records), "seed {seed}");
}

async fn real_interrupted_and_restarted_runs_end_as_one_run(subject: &impl Subject) {
    let seed = seed();
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut below = |n: usize| usize::try_from(random.next_u64() % n as u64).expect("a small number");
    let place = unique("replayed");
    let records: Vec<Record> = (0..600)
        .map(|offset| {
            let value = (below(4) > 0).then(|| format!("{{\"n\": {offset}}}"));
            record(&place, offset, &format!("k{}", below(40)), value)
        })
        .collect();
    let batches: Vec<Vec<Record>> = records.chunks(20).map(<[Record]>::to_vec).collect();
    let mut committed = 0;
    while committed < batches.len() {
        let sink = &subject.open(&place, Ids::Key, true).await;
        let at_once = if sink.ordering() == Ordering::Overlapping { 4 } else { 1 };
        let end = (committed + 1 + below(15)).min(batches.len());
        let written = batches[committed..end].iter().map(|batch| async move { assert_there(&settle(sink, batch.clone()).await) });
        stream::iter(written).buffered(at_once).collect::<Vec<()>>().await;
        // Some written records were not committed.
        committed = if end == batches.len() { end } else { end - below(end - committed + 1).min(8) };
    }
    assert_eq!(newest(subject, &place), by_the_book(&records), "seed {seed}");
}

/// Returns a seed that is another each time, unless one is asked for.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    setting("SDL_TEST_SEED", u64::from(now.subsec_nanos()))
}

/// Returns the number that stands under each key.
fn newest(subject: &impl Subject, place: &str) -> BTreeMap<String, i64> {
    let stored = subject.stored(place);
    let count = stored.len();
    let newest: BTreeMap<_, _> = stored.into_iter().map(|stored| (stored.id, stored.n)).collect();
    assert_eq!(newest.len(), count, "an id is there twice");
    newest
}

/// Returns what must be there once all records have been written, one after the other.
fn by_the_book(records: &[Record]) -> BTreeMap<String, i64> {
    let mut book = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.as_ref().expect("a key").to_vec()).expect("a key of text");
        if record.value.is_some() {
            book.insert(key, record.offset);
        } else {
            book.remove(&key);
        }
    }
    book
}
