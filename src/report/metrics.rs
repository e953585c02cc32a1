//! The Prometheus metrics of a run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::pipeline::awaited::awaited;
use crate::pipeline::{Event, Observer, RunSide, Tally};
use crate::record::Partition;
use crate::report::exposition::{Exposition, MetricKind};
use crate::report::histogram::{Histogram, RecentHistogram};
use crate::report::pages::Monitored;
use crate::report::run_status::{RunStatus, StatusFields};
use crate::report::status_document::StatusDocument;

/// The most partitions with a series of their own; further partitions, in the order of their names, are left out.
const MAX_PARTITIONS: usize = 10_000;

/// Adds the metrics of one command to the page.
pub(crate) type ExtraMetrics = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// The metrics of a run. Counts events; the rest is read from `status`, which must observe the same events.
pub(crate) struct Metrics {
    status: Arc<RunStatus>,
    counts: Mutex<MetricCounts>,
    recent_responses: Mutex<RecentHistogram>,
    extra: Option<ExtraMetrics>,
}

/// Counts that the tally of the run does not have.
#[derive(Clone, Debug, Default)]
struct MetricCounts {
    read_bytes: u64,
    bad: u64,
    retries: u64,
    bisected: u64,
    times_degraded: u64,
    consume: Histogram,
    transform: Histogram,
    response: Histogram,
    batch: Histogram,
    /// The sides that have a problem now.
    degraded: BTreeSet<RunSide>,
}

impl Metrics {
    /// Returns the metrics of the run behind `status`; `extra` adds those of its command.
    #[must_use]
    pub(crate) fn new(journal: Arc<RunStatus>, appendix: Option<ExtraMetrics>) -> Self {
        let recent_responses = Mutex::new(RecentHistogram::new(Instant::now()));
        Self { status: journal, counts: Mutex::default(), recent_responses, extra: appendix }
    }

    fn counts(&self) -> MutexGuard<'_, MetricCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Read { bytes, waited, shaping } => {
                let counts = &mut *self.counts();
                counts.read_bytes += bytes;
                counts.consume.observe(*waited);
                if let Some(shaping) = shaping {
                    counts.transform.observe(*shaping);
                }
            }
            Event::Responded { took, batch } => {
                self.recent_responses.lock().unwrap_or_else(PoisonError::into_inner).observe(*took, Instant::now());
                let counts = &mut *self.counts();
                counts.response.observe(*took);
                if let Some(batch) = batch {
                    counts.batch.observe(*batch);
                }
            }
            Event::Retrying { .. } => self.counts().retries += 1,
            Event::Bisecting { .. } => self.counts().bisected += 1,
            Event::Bad { .. } => self.counts().bad += 1,
            Event::Problem { side, problem: Some(_) } => {
                let counts = &mut *self.counts();
                counts.times_degraded += u64::from(counts.degraded.insert(*side));
            }
            Event::Problem { side, problem: None } => _ = self.counts().degraded.remove(side),
            _ => {}
        }
    }
}

impl Monitored for Metrics {
    fn metrics(&self) -> Bytes {
        let entries = self.status.lock();
        let (tally, lags) = (entries.tally.clone(), entries.lags().take(MAX_PARTITIONS).collect::<Vec<_>>());
        let stalls = stalls(&entries);
        drop(entries);
        let mut page = Exposition::default();
        write_page(&mut page, &tally, &lags, stalls, &self.counts().clone());
        if let Some(appendix) = &self.extra {
            appendix(&mut page);
        }
        page.into_text().into()
    }

    fn status(&self) -> Option<Bytes> {
        let now = Instant::now();
        let responses = self.recent_responses.lock().unwrap_or_else(PoisonError::into_inner).durations(now);
        Some(StatusDocument::new(&self.status.lock(), &responses, now).json().into())
    }

    fn ready(&self) -> Result<(), String> {
        let entries = self.status.lock();
        // A source that is away is away for every instance, and its records wait: of the stalls, only those of the destinations count.
        let destinations = [RunSide::Target, RunSide::DeadLetters];
        let stalled = destinations.into_iter().find_map(|side| Some((side, entries.stalled(side)?)));
        if entries.draining.is_some() {
            Err("draining records in flight".to_owned())
        } else if !entries.has_started {
            let why = awaited().unwrap_or_else(|| "no partition is assigned yet".to_owned());
            Err(format!("starting, {why}"))
        } else if entries.settled.is_empty() {
            let reason = entries.unassigned_reason().map(|reason| format!(" ({reason})"));
            Err(format!("no partition is assigned{}", reason.unwrap_or_default()))
        } else if let Some((side, reason)) = stalled {
            Err(format!("{} stalled, {reason}", side.activity()))
        } else {
            Ok(())
        }
    }
}

/// Returns 1 for each side that is stalled, and 0 for the others.
fn stalls(status: &StatusFields) -> [(&'static str, u64); 4] {
    RunSide::ALL.map(|side| (side.name(), u64::from(status.stalled(side).is_some())))
}

fn write_page(
    page: &mut Exposition,
    tally: &Tally,
    lags: &[(Partition, u64)],
    stalls: [(&'static str, u64); 4],
    counts: &MetricCounts,
) {
    page.family(
        "sdl_build_info",
        MetricKind::Gauge,
        "The version of sdl; always 1.",
        [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)],
    );
    let outcomes = [
        ("delivered", tally.delivered - tally.already_there - tally.superseded),
        ("already_there", tally.already_there),
        ("superseded", tally.superseded),
        ("dead_lettered", tally.dead_lettered),
        ("skipped", tally.skipped),
        ("filtered", tally.filtered),
        ("released", tally.released),
    ];
    page.family(
        "sdl_messages_processed_total",
        MetricKind::Counter,
        "Records by their final outcome; released: handed back with their partition, whose next owner reads them again.",
        labelled("outcome", outcomes),
    );
    let errors = [
        ("bad_record", counts.bad),
        ("retry", counts.retries),
        ("bisected", counts.bisected),
        ("degraded", counts.times_degraded),
    ];
    page.family(
        "sdl_errors_total",
        MetricKind::Counter,
        "Bad records (bad_record), responses that led to a retry (retry), batches that failed as a whole and were bisected \
         (bisected), and times that the source, a destination or the commits began to fail or to time out (degraded).",
        labelled("kind", errors),
    );
    let histograms = [
        ("sdl_consume_duration_seconds", "Time to receive a batch of records from the source.", &counts.consume),
        ("sdl_transform_duration_seconds", "Time to shape a batch of records.", &counts.transform),
        ("sdl_response_duration_seconds", "Time from a request to the destination until its response.", &counts.response),
        (
            "sdl_batch_processing_duration_seconds",
            "Time from the first attempt of a batch until each of its records has its final outcome, retries included.",
            &counts.batch,
        ),
    ];
    for (name, help, histogram) in histograms {
        page.histogram(name, help, histogram);
    }
    let lags: Vec<_> = lags.iter().map(|(partition, lag)| (partition.topic.name(), partition.index.to_string(), lag)).collect();
    page.family(
        "sdl_consumer_lag",
        MetricKind::Gauge,
        "Offsets between the position up to which every record has its outcome and the log end, of the assigned partitions.",
        lags.iter().map(|(topic, partition, lag)| (vec![("topic", *topic), ("partition", partition.as_str())], lag)),
    );
    page.family(
        "sdl_in_flight",
        MetricKind::Gauge,
        "Records that were read and have no final outcome yet.",
        [(vec![], tally.unsettled())],
    );
    page.family(
        "sdl_stalled",
        MetricKind::Gauge,
        "Whether a side makes no progress: source (reading), target (delivery), dead_letters, commits (of offsets).",
        labelled("side", stalls),
    );
    let counters = [
        ("sdl_retries_total", "Retries of records.", tally.retried),
        ("sdl_dead_letters_total", "Dead-lettered records.", tally.dead_lettered),
    ];
    for (name, help, value) in counters {
        page.family(name, MetricKind::Counter, help, [(vec![], value)]);
    }
    page.family(
        "sdl_bytes_total",
        MetricKind::Counter,
        "Bytes of keys, values and headers that were read (in) and delivered (out).",
        labelled("direction", [("in", counts.read_bytes), ("out", tally.bytes)]),
    );
}

/// Returns one sample per value of a label.
fn labelled<'l, const N: usize>(label: &'l str, values: [(&'l str, u64); N]) -> [(Vec<(&'l str, &'l str)>, u64); N] {
    values.map(|(name, value)| (vec![(label, name)], value))
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
