//! The data of the status page, from the counters of the progress bar and the metrics.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pipeline::Tally;
use crate::record::{NextOffset, Partition};
use crate::report::histogram::Histogram;
use crate::report::run_status::{Standstill, StatusFields};
use crate::terminal::escape_controls_json;

/// The most partitions in the document: those that are furthest behind.
const MAX_PARTITIONS: usize = 200;

/// A run as it is now. Its JSON is a contract, versioned by `schema`. It names causes by their codes: reasons may quote records.
#[derive(Debug, Serialize)]
pub(crate) struct StatusDocument {
    schema: u32,
    version: &'static str,
    command: Option<&'static str>,
    run: Option<String>,
    /// Source and destination.
    flow: Option<String>,
    seconds: u64,
    state: RunState,
    /// Why nothing moves, in words.
    waiting: Option<String>,
    problems: Vec<ProblemStatus>,
    /// In the last seconds.
    records_per_second: f64,
    in_flight: u64,
    lag: Option<u64>,
    response_ms: ResponseTimes,
    records: Tally,
    /// The records that go to the dead letters, by cause; the most frequent first.
    causes: Vec<CauseCount>,
    partition_count: usize,
    partitions: Vec<PartitionStatus>,
}

/// What the page shows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum RunState {
    Starting,
    Waiting,
    Running,
    CaughtUp,
    Degraded,
    Stalled,
    Draining,
}

#[derive(Debug, Serialize)]
struct ProblemStatus {
    side: &'static str,
    stalled: bool,
    code: String,
    seconds: u64,
}

/// Of the last minute; a batch is one call.
#[derive(Debug, Serialize)]
struct ResponseTimes {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize)]
struct CauseCount {
    code: String,
    records: u64,
}

#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // the names are the document's
struct PartitionStatus {
    topic: &'static str,
    partition: i32,
    position: i64,
    committed: Option<i64>,
    lag: Option<u64>,
}

impl StatusDocument {
    /// Returns the state of a run; `responses` are the recent times of calls to its destination.
    pub(crate) fn new(status: &StatusFields, responses: &Histogram, now: Instant) -> Self {
        let standstill = status.standstill(now);
        let millis = |fraction| responses.quantile(fraction).map(|took| (took.as_secs_f64() * 1e4).round() / 10.0);
        let info = status.info.as_ref();
        Self {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            command: info.map(|info| info.command),
            run: info.map(|info| info.run.clone()),
            flow: info.map(|info| info.route.clone()),
            seconds: (now - status.begun).as_secs(),
            state: state(status, standstill.as_ref()),
            waiting: standstill.as_ref().map(without_reason),
            problems: problems(status, now),
            records_per_second: (status.rate.per_second(now).unwrap_or(0.0) * 10.0).round() / 10.0,
            in_flight: status.tally.unsettled(),
            lag: status.lag(),
            response_ms: ResponseTimes { p50: millis(0.5), p99: millis(0.99) },
            records: status.tally.clone(),
            causes: causes(status),
            partition_count: status.settled.len(),
            partitions: partitions(status),
        }
    }

    /// Returns the document. Foreign names are in strings without control characters.
    pub(crate) fn json(&self) -> String {
        escape_controls_json(&serde_json::to_string(self).expect("numbers and strings are JSON")).into_owned()
    }
}

fn state(status: &StatusFields, standstill: Option<&Standstill>) -> RunState {
    if status.draining.is_some() {
        RunState::Draining
    } else if status.problems.values().any(|problem| problem.is_stalled) {
        RunState::Stalled
    } else if !status.problems.is_empty() {
        RunState::Degraded
    } else {
        match standstill {
            Some(Standstill::Starting(_)) => RunState::Starting,
            Some(Standstill::Unassigned | Standstill::FirstRecords) => RunState::Waiting,
            Some(Standstill::CaughtUp) => RunState::CaughtUp,
            None => RunState::Running,
        }
    }
}

/// Returns the words without what a server said.
fn without_reason(standstill: &Standstill) -> String {
    let text = standstill.text();
    text.split_once("`: ").map_or(text.clone(), |(what, _)| format!("{what}`"))
}

fn problems(status: &StatusFields, now: Instant) -> Vec<ProblemStatus> {
    let since = |side| status.problems_since.get(side).map_or(Duration::ZERO, |since| now - *since);
    let problems = status.problems.iter().map(|(side, problem)| ProblemStatus {
        side: side.name(),
        stalled: problem.is_stalled,
        code: problem.code.clone(),
        seconds: since(side).as_secs(),
    });
    problems.collect()
}

fn causes(status: &StatusFields) -> Vec<CauseCount> {
    let mut causes: Vec<_> =
        status.causes.iter().map(|(code, records)| CauseCount { code: code.clone(), records: *records }).collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.records));
    causes
}

fn partitions(status: &StatusFields) -> Vec<PartitionStatus> {
    let partition = |(partition, next): (&Partition, &NextOffset)| PartitionStatus {
        topic: partition.topic.name(),
        partition: partition.index,
        position: next.0,
        committed: status.committed.get(partition).map(|next| next.0),
        lag: status.ends.get(partition).copied().flatten().map(|end| u64::try_from(end - next.0).unwrap_or(0)),
    };
    let mut partitions: Vec<_> = status.settled.iter().map(partition).collect();
    partitions.sort_by_key(|partition| std::cmp::Reverse(partition.lag));
    partitions.truncate(MAX_PARTITIONS);
    partitions
}
