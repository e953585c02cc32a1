//! What a run does, as Prometheus reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::pipeline::{Event, Observer, Tally};
use crate::record::Partition;
use crate::report::{Exposed, Exposition, Histogram, MetricKind, RunStatus};

/// The most partitions that are told by name: a monitoring system keeps a series for each that it has ever seen. Beyond that,
/// those that come first in the order of their names are told.
const PARTITIONS: usize = 10_000;

/// Adds the metrics of one command to the page of every run.
pub type Appendix = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// The metrics of a run. It counts events, which come by the batch, and leaves what the journal knows to the journal, which must
/// hear of the same events.
pub struct Metrics {
    journal: Arc<RunStatus>,
    counts: Mutex<MetricCounts>,
    appendix: Option<Appendix>,
}

/// What is counted besides the accounts of the run.
#[derive(Clone, Debug, Default)]
struct MetricCounts {
    read_bytes: u64,
    bad: u64,
    retries: u64,
    halved: u64,
    troubles: u64,
    consume: Histogram,
    transform: Histogram,
    response: Histogram,
    batch: Histogram,
    /// Something is wrong that may pass.
    troubled: bool,
    stalled: bool,
    draining: bool,
}

impl Metrics {
    /// Returns the metrics of the run that `journal` is about; `appendix` adds those of its command.
    #[must_use]
    pub fn new(journal: Arc<RunStatus>, appendix: Option<Appendix>) -> Self {
        Self { journal, counts: Mutex::default(), appendix }
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
                counts.consume.note(*waited);
                if let Some(shaping) = shaping {
                    counts.transform.note(*shaping);
                }
            }
            Event::Responded { took, batch } => {
                let counts = &mut *self.counts();
                counts.response.note(*took);
                if let Some(batch) = batch {
                    counts.batch.note(*batch);
                }
            }
            Event::Retrying { .. } => self.counts().retries += 1,
            Event::Bisecting { .. } => self.counts().halved += 1,
            Event::Bad { .. } => self.counts().bad += 1,
            Event::Degraded(trouble) => {
                let counts = &mut *self.counts();
                let begins = trouble.is_some() && !counts.troubled;
                counts.troubles += u64::from(begins);
                counts.troubled = trouble.is_some();
            }
            Event::Stalled(stalled) => self.counts().stalled = *stalled,
            Event::Draining(_) => self.counts().draining = true,
            _ => {}
        }
    }
}

impl Exposed for Metrics {
    fn metrics(&self) -> Bytes {
        let entries = self.journal.entries();
        let (tally, lags) = (entries.tally.clone(), entries.lags().take(PARTITIONS).collect::<Vec<_>>());
        drop(entries);
        let mut page = Exposition::default();
        tell(&mut page, &tally, &lags, &self.counts().clone());
        if let Some(appendix) = &self.appendix {
            appendix(&mut page);
        }
        page.text().into()
    }

    fn ready(&self) -> Result<(), String> {
        let (stalled, draining) = {
            let counts = self.counts();
            (counts.stalled, counts.draining)
        };
        let entries = self.journal.entries();
        if draining {
            Err("stopping, what is in flight is waited for".to_owned())
        } else if entries.settled.is_empty() {
            Err("no partition is assigned".to_owned())
        } else if stalled {
            Err(format!("stalled, {}", entries.trouble.as_deref().unwrap_or("nothing is delivered")))
        } else {
            Ok(())
        }
    }
}

fn tell(page: &mut Exposition, tally: &Tally, lags: &[(Partition, u64)], counts: &MetricCounts) {
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
        "Records that were read and accounted for, each by one outcome; who gets their partition reads the released ones again.",
        labelled("outcome", outcomes),
    );
    let errors = [("bad_record", counts.bad), ("retry", counts.retries), ("halved", counts.halved), ("trouble", counts.troubles)];
    page.family(
        "sdl_errors_total",
        MetricKind::Counter,
        "Bad records (bad_record), answers after which records are sent again (retry), batches that failed as one and were \
         halved (halved), and times that an end began to fail or to be silent (trouble).",
        labelled("kind", errors),
    );
    let histograms = [
        ("sdl_consume_duration_seconds", "Waiting for a batch of records from the source.", &counts.consume),
        ("sdl_transform_duration_seconds", "Shaping a batch of records.", &counts.transform),
        ("sdl_response_duration_seconds", "One call to the destination, until its answer.", &counts.response),
        (
            "sdl_batch_processing_duration_seconds",
            "A batch from its first sending until the destination has answered for each record for good, retries included.",
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
        "Offsets between what is settled and the end, of the partitions that are assigned.",
        lags.iter().map(|(topic, partition, lag)| (vec![("topic", *topic), ("partition", partition.as_str())], lag)),
    );
    let gauges = [
        ("sdl_in_flight", "Records that were read and are not accounted for yet.", tally.unsettled()),
        ("sdl_sink_stalled", "Whether nothing is taken by a destination that was sent something.", u64::from(counts.stalled)),
    ];
    for (name, help, value) in gauges {
        page.family(name, MetricKind::Gauge, help, [(vec![], value)]);
    }
    let counters = [
        ("sdl_retries_total", "Records that were sent again, each time.", tally.retried),
        ("sdl_dead_letters_total", "Records that are among the dead letters.", tally.dead_lettered),
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

/// Returns a sample for each value of a label.
fn labelled<'l, const N: usize>(label: &'l str, values: [(&'l str, u64); N]) -> [(Vec<(&'l str, &'l str)>, u64); N] {
    values.map(|(name, value)| (vec![(label, name)], value))
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
