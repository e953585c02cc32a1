//! Single records, read by their offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::consume_queue::ConsumeQueue;
use crate::connectors::kafka::resume::{self, RefusedPartition};
use crate::connectors::kafka::scan::view;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, Partition, Record, RecordView};

/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Timeout of a lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout of the record before a position that a run resumes from.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest gap to read through rather than seek over.
const MAX_READ_THROUGH: i64 = 100;

/// The first record at or after an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookupResult<T> {
    Found(T),
    /// The log ends without another record, perhaps with transaction markers.
    Nothing,
    /// The offset is not in the log.
    OutOfRange,
    /// The user may not read the topic.
    Denied,
    /// With the reason.
    Unknown(String),
}

/// Returns what `keep` extracts from the first record at or after each offset. Blocking. Fetches once for each distant offset; offsets
/// with the same next record share it. Gives up after `timeout` without a record.
///
/// # Errors
/// When the client cannot be created. A partition that does not answer is [`LookupResult::Unknown`].
pub(crate) fn read<T: Clone>(
    section: &KafkaSection,
    offsets: &[(Partition, i64)],
    read_uncommitted: bool,
    timeout: Duration,
    keep: impl Fn(&RecordView<'_>) -> T,
) -> Result<HashMap<(Partition, i64), LookupResult<T>>, ConnectorError> {
    let mut results: HashMap<(Partition, i64), LookupResult<T>> = HashMap::with_capacity(offsets.len());
    let mut wanted: BTreeMap<Partition, BTreeSet<i64>> = BTreeMap::new();
    for (partition, offset) in offsets {
        wanted.entry(*partition).or_default().insert(*offset);
    }
    if wanted.is_empty() {
        return Ok(results);
    }
    let consumer = consumer(section, read_uncommitted)?;
    // Dropped before its client.
    let mut queue = ConsumeQueue::new(consumer.client());
    let failure = |error| Failure::new(format!("cannot read single records of `{}`", section.name)).because(error);
    for (partition, offsets) in &wanted {
        let first = offsets.first().copied().unwrap_or_default();
        queue.start(*partition, first).map_err(failure)?;
    }
    let started = Instant::now();
    let mut last = started;
    let mut errors: HashMap<Partition, String> = HashMap::new();
    while !wanted.is_empty() && last.elapsed() < timeout && started.elapsed() < LOOKUP_TIMEOUT {
        let (mut done, mut further) = (Vec::new(), Vec::new());
        queue.poll(POLL_TIMEOUT);
        for message in queue.batch() {
            let partition = message.partition();
            let (below, result) = match message.error() {
                None => (message.offset() + 1, None),
                Some(RDKafkaErrorCode::PartitionEOF) => (i64::MAX, Some(LookupResult::Nothing)),
                Some(RDKafkaErrorCode::AutoOffsetReset) => (i64::MAX, Some(LookupResult::OutOfRange)),
                Some(code) => {
                    let error = NativeError { code, text: message.error_text() };
                    tracing::debug!(%partition, %error, "A single record is not readable yet.");
                    if !error.is_denied() {
                        errors.insert(partition, error.summary());
                        continue;
                    }
                    (i64::MAX, Some(LookupResult::Denied))
                }
            };
            let Some(offsets) = wanted.get_mut(&partition) else { continue };
            let rest = offsets.split_off(&below);
            let found = std::mem::replace(offsets, rest);
            let Some(reached) = found.last().copied() else { continue };
            last = Instant::now();
            let result = result.unwrap_or_else(|| LookupResult::Found(keep(&view(&message, partition))));
            for offset in found {
                tracing::trace!(%partition, offset, "Read a single record.");
                results.insert((partition, offset), result.clone());
            }
            match offsets.first().copied() {
                None => {
                    wanted.remove(&partition);
                    done.push(partition);
                }
                Some(next) if next - reached > MAX_READ_THROUGH => further.push((partition, next)),
                Some(_) => {}
            }
        }
        for partition in done {
            queue.stop(partition);
        }
        for (partition, next) in further.into_iter().filter(|(partition, _)| wanted.contains_key(partition)) {
            queue.stop(partition);
            queue.start(partition, next).map_err(failure)?;
        }
    }
    for (partition, offsets) in wanted {
        let why = errors.remove(&partition).unwrap_or_else(|| "no answer in time".to_owned());
        results.extend(offsets.into_iter().map(|offset| ((partition, offset), LookupResult::Unknown(why.clone()))));
    }
    tracing::debug!(section = section.name, results = results.len(), took = ?started.elapsed(), "Read single records.");
    Ok(results)
}

fn consumer(section: &KafkaSection, read_uncommitted: bool) -> Result<BaseConsumer<LogContext>, ConnectorError> {
    let mut config = client_config(section)?;
    // librdkafka looks up the coordinator of a group even if it never joins.
    config.remove("group.id");
    config
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // An offset out of range must not look like the end.
        .set("auto.offset.reset", "error")
        .set("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" })
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("max.partition.fetch.bytes", "16384");
    Ok(create_client(section, &config, LogContext::default())?)
}

/// Checks that the records of these fingerprints are still in the log.
///
/// # Errors
/// When another record has one of the offsets: the topic was re-created.
pub(crate) async fn verify_fingerprint(
    section: &KafkaSection,
    fingerprints: Vec<(Partition, Fingerprint)>,
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let section = section.clone();
    let checked =
        tokio::task::spawn_blocking(move || verify_fingerprint_blocking(&section, &fingerprints, read_uncommitted)).await;
    checked.map_err(|error| Failure::new("a call of the Kafka client was cancelled").because(error))?
}

/// As [`verify_fingerprint`], blocking.
pub(crate) fn verify_fingerprint_blocking(
    section: &KafkaSection,
    fingerprints: &[(Partition, Fingerprint)],
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let offsets: Vec<_> = fingerprints.iter().map(|(partition, last)| (*partition, last.offset)).collect();
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method itself is not one for every lifetime")]
    let found = read(section, &offsets, read_uncommitted, RECORD_TIMEOUT, |record| record.to_record())?;
    let mut refused = Vec::new();
    for (partition, last) in fingerprints {
        let record: Option<&Record> = match found.get(&(*partition, last.offset)) {
            Some(LookupResult::Found(record)) => Some(record),
            Some(LookupResult::Unknown(why)) => {
                let failure = Failure::new(format!("cannot read single records of `{}`", section.name));
                return Err(failure.because(format!("{partition}: {why}")).into());
            }
            Some(LookupResult::Denied) => {
                return Err(AclOperation::ReadTopic(partition.topic.name()).denied(&section.name).into());
            }
            Some(LookupResult::Nothing | LookupResult::OutOfRange) | None => None,
        };
        if let Err(refusal) = resume::verify_fingerprint(*partition, *last, record) {
            refused.push(RefusedPartition { partition: *partition, refusal, missing: 0 });
        }
    }
    resume::merge_refusals(refused).map_or(Ok(()), |refusal| Err(refusal.into()))
}
