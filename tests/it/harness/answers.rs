//! Batches for a sink that is called without the engine, and its outcomes.

use std::sync::Arc;

use bytes::Bytes;
use sdl::document::Ids;
use sdl::pipeline::{Outcome, Sink};
use sdl::record::{Partition, Record};

/// Returns ids made of offsets.
pub(crate) fn offset_ids() -> Ids {
    Ids::Offset { prefix: String::new() }
}

/// Returns a record of one partition.
pub(crate) fn record(offset: i64, key: &str, value: Option<&str>) -> Record {
    Record {
        partition: Partition::new("t", 0),
        offset,
        timestamp: Some(1000 + offset),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Returns the first records of that partition.
pub(crate) fn records(count: i64) -> Vec<Record> {
    (0..count).map(|offset| record(offset, "k", Some(&format!("{{\"n\": {offset}}}")))).collect()
}

/// Sends a batch and returns its outcomes.
pub(crate) async fn deliver(sink: &impl Sink, records: Vec<Record>) -> Vec<Outcome> {
    sink.submit(Arc::new(records)).await.unwrap().await
}

/// Returns a letter for each outcome: delivered, already there, superseded, retry, unclear, bad, `?` for suspect,
/// `!` for a refusal, Stop.
pub(crate) fn outcome_codes(outcomes: &[Outcome]) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Delivered => 'd',
        Outcome::AlreadyThere => 'a',
        Outcome::Superseded => 's',
        Outcome::Retry(_) => 'r',
        Outcome::Unclear(_) => 'u',
        Outcome::Reject(_) => 'b',
        Outcome::BatchRejected(_) => '?',
        Outcome::Stop(reason) if reason.is_refusal() => '!',
        Outcome::Stop(_) => 'S',
    };
    outcomes.iter().map(word).collect()
}
