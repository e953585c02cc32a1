//! Reading single records by their offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::librdkafka::consume_queue::ConsumeQueue;
use crate::connectors::kafka::resume;
use crate::connectors::kafka::scan::view;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, Partition, Record, RecordView};

/// How long one look for records waits.
const IDLE: Duration = Duration::from_millis(100);

/// How long all records together may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the record of a position that a run resumes from.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gap that is read through rather than jumped over.
const NEAR: i64 = 100;

/// What was found at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookupResult<T> {
    /// The first record at or after it.
    Found(T),
    /// There is none: only what transactions left behind, or nothing at all.
    Nothing,
    /// The offset is not in the log.
    Gone,
    /// It cannot be told, and why.
    Unknown(String),
}

/// Returns what `keep` keeps of the first record at or after each offset. Blocking; one connection and as few fetches as can be: each
/// partition is fetched from once for each offset, and offsets that one record answers share it. Gives up when nothing came for
/// `patience`.
///
/// # Errors
/// When the client cannot be made. A partition that does not answer is [`LookupResult::Unknown`].
pub(crate) fn read<T: Clone>(
    section: &KafkaSection,
    offsets: &[(Partition, i64)],
    read_uncommitted: bool,
    patience: Duration,
    keep: impl Fn(&RecordView<'_>) -> T,
) -> Result<HashMap<(Partition, i64), LookupResult<T>>, ConnectorError> {
    let mut spots: HashMap<(Partition, i64), LookupResult<T>> = HashMap::with_capacity(offsets.len());
    let mut wanted: BTreeMap<Partition, BTreeSet<i64>> = BTreeMap::new();
    for (partition, offset) in offsets {
        wanted.entry(*partition).or_default().insert(*offset);
    }
    if wanted.is_empty() {
        return Ok(spots);
    }
    let consumer = consumer(section, read_uncommitted)?;
    // Dropped before the client that it belongs to.
    let mut intake = ConsumeQueue::new(consumer.client());
    let failure = |error| Failure::new(format!("cannot read single records of `{}`", section.name)).because(error);
    for (partition, offsets) in &wanted {
        let first = offsets.first().copied().unwrap_or_default();
        intake.start(*partition, first).map_err(failure)?;
    }
    let started = Instant::now();
    let mut last = started;
    let mut trouble: HashMap<Partition, String> = HashMap::new();
    while !wanted.is_empty() && last.elapsed() < patience && started.elapsed() < TIMEOUT {
        let (mut done, mut further) = (Vec::new(), Vec::new());
        intake.take(IDLE);
        for arrived in intake.taken() {
            let partition = arrived.partition();
            let (below, spot) = match arrived.error() {
                None => (arrived.offset() + 1, None),
                Some(RDKafkaErrorCode::PartitionEOF) => (i64::MAX, Some(LookupResult::Nothing)),
                Some(RDKafkaErrorCode::AutoOffsetReset) => (i64::MAX, Some(LookupResult::Gone)),
                Some(code) => {
                    let why = arrived.error_text();
                    tracing::debug!(%partition, why, "A single record cannot be read yet.");
                    if code != RDKafkaErrorCode::TopicAuthorizationFailed {
                        trouble.insert(partition, why);
                        continue;
                    }
                    (i64::MAX, Some(LookupResult::Unknown(why)))
                }
            };
            let Some(offsets) = wanted.get_mut(&partition) else { continue };
            let rest = offsets.split_off(&below);
            let answered = std::mem::replace(offsets, rest);
            let Some(reached) = answered.last().copied() else { continue };
            last = Instant::now();
            let spot = spot.unwrap_or_else(|| LookupResult::Found(keep(&view(&arrived, partition))));
            for offset in answered {
                tracing::trace!(%partition, offset, "Looked at one record.");
                spots.insert((partition, offset), spot.clone());
            }
            match offsets.first().copied() {
                None => {
                    wanted.remove(&partition);
                    done.push(partition);
                }
                Some(next) if next - reached > NEAR => further.push((partition, next)),
                Some(_) => {}
            }
        }
        for partition in done {
            intake.stop(partition);
        }
        for (partition, next) in further.into_iter().filter(|(partition, _)| wanted.contains_key(partition)) {
            // What comes from before the jump is passed over.
            intake.stop(partition);
            intake.start(partition, next).map_err(failure)?;
        }
    }
    for (partition, offsets) in wanted {
        let why = trouble.remove(&partition).unwrap_or_else(|| "no answer in time".to_owned());
        spots.extend(offsets.into_iter().map(|offset| ((partition, offset), LookupResult::Unknown(why.clone()))));
    }
    tracing::debug!(section = section.name, spots = spots.len(), took = ?started.elapsed(), "Read single records.");
    Ok(spots)
}

fn consumer(section: &KafkaSection, read_uncommitted: bool) -> Result<BaseConsumer<LogContext>, ConnectorError> {
    let mut config = client::config(section)?;
    // A group would be looked for, if never joined.
    config.remove("group.id");
    config
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // An offset that is gone by now is not to be taken for the end.
        .set("auto.offset.reset", "error")
        .set("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" })
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("max.partition.fetch.bytes", "16384");
    let made = config.create_with_context(LogContext::default());
    Ok(made.map_err(|error| Failure::new(format!("cannot make a client for `{}`", section.name)).because(error))?)
}

/// Checks that these records are still what an earlier commit said of them.
///
/// # Errors
/// When another record has the offset of one of them: the topic was re-created.
pub(crate) async fn verify_fingerprint(
    section: &KafkaSection,
    noted: Vec<(Partition, Fingerprint)>,
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let section = section.clone();
    let checked = tokio::task::spawn_blocking(move || verify_fingerprint_blocking(&section, &noted, read_uncommitted)).await;
    checked.map_err(|error| Failure::new("a call of the Kafka client did not end").because(error))?
}

/// As [`recognise`], blocking.
pub(crate) fn verify_fingerprint_blocking(
    section: &KafkaSection,
    noted: &[(Partition, Fingerprint)],
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let offsets: Vec<_> = noted.iter().map(|(partition, last)| (*partition, last.offset)).collect();
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is not one for every lifetime")]
    let there = read(section, &offsets, read_uncommitted, PATIENCE, |record| record.to_record())?;
    for (partition, last) in noted {
        let there: Option<&Record> = match there.get(&(*partition, last.offset)) {
            Some(LookupResult::Found(record)) => Some(record),
            Some(LookupResult::Unknown(why)) => {
                let failure = Failure::new(format!("cannot read single records of `{}`", section.name));
                return Err(failure.because(format!("{partition}: {why}")).into());
            }
            Some(LookupResult::Nothing | LookupResult::Gone) | None => None,
        };
        resume::verify_fingerprint(*partition, *last, there)?;
    }
    Ok(())
}
