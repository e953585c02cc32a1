//! Single records, read by their offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::admin::{Admin, blocking};
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::consume_queue::ConsumeQueue;
use crate::connectors::kafka::resume::{self, LogBefore, RefusedPartition};
use crate::connectors::kafka::scan::view;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record, RecordView};

/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

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
    /// It could not be read, for this reason.
    Unknown(String),
}

/// Returns what `keep` extracts from the first record at or after each offset, and from its leader epoch. Blocking. Fetches once for each distant offset; offsets
/// with the same next record share it. Gives up after `timeout` without a record.
///
/// # Errors
/// When the client cannot be created. A partition that does not answer is [`LookupResult::Unknown`].
pub(crate) fn read<T: Clone>(
    section: &KafkaSection,
    offsets: &[(Partition, i64)],
    read_uncommitted: bool,
    timeout: Duration,
    keep: impl Fn(&RecordView<'_>, Option<i32>) -> T,
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
            let result = result.unwrap_or_else(|| LookupResult::Found(keep(&view(&message, partition), message.leader_epoch())));
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
    tracing::debug!(section = section.name, results = results.len(), took = ?started.elapsed(), "Looked up records by their offsets.");
    Ok(results)
}

impl Admin {
    /// Returns the first record at or after each offset; none where the log ends before one, or where the
    /// user may not read.
    ///
    /// # Errors
    /// When a partition does not answer.
    pub(crate) async fn first_records(
        &self,
        offsets: Vec<(Partition, i64)>,
    ) -> Result<HashMap<(Partition, i64), Record>, ConnectorError> {
        let section = self.profile_section();
        let found = blocking(move || read(&section, &offsets, true, RECORD_TIMEOUT, |record, _| record.to_record())).await??;
        let mut records = HashMap::with_capacity(found.len());
        for (position, result) in found {
            match result {
                LookupResult::Found(record) => drop(records.insert(position, record)),
                LookupResult::Unknown(why) => {
                    return Err(self
                        .failure("read single records of")
                        .because(format!("{}: {why}", position.0))
                        .passing()
                        .into());
                }
                LookupResult::Nothing | LookupResult::OutOfRange | LookupResult::Denied => {}
            }
        }
        Ok(records)
    }
}

fn consumer(section: &KafkaSection, read_uncommitted: bool) -> Result<Authenticated<BaseConsumer<LogContext>>, ConnectorError> {
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

/// Checks that the logs hold what they held before these positions.
///
/// # Errors
/// When another record has the offset of the last one, or a record is newer than what was read: the topic was re-created or truncated.
pub(crate) async fn verify_before(
    section: &KafkaSection,
    positions: Vec<LogBefore>,
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let section = section.clone();
    let checked = tokio::task::spawn_blocking(move || verify_before_blocking(&section, &positions, read_uncommitted)).await;
    checked.map_err(|error| Failure::new("a call of the Kafka client was cancelled").because(error))?
}

/// As [`verify_before`], blocking.
pub(crate) fn verify_before_blocking(
    section: &KafkaSection,
    positions: &[LogBefore],
    read_uncommitted: bool,
) -> Result<(), ConnectorError> {
    let offsets: Vec<_> = positions.iter().flat_map(offsets_before).collect();
    let found =
        read(section, &offsets, read_uncommitted, RECORD_TIMEOUT, |record, leader_epoch| (record.to_record(), leader_epoch))?;
    let mut refused = Vec::new();
    for before in positions {
        let partition = before.partition;
        let mut verified = Ok(());
        for (_, offset) in offsets_before(before) {
            let record: Option<&(Record, Option<i32>)> = match found.get(&(partition, offset)) {
                Some(LookupResult::Found(record)) => Some(record),
                Some(LookupResult::Unknown(why)) => {
                    let failure = Failure::new(format!("cannot read single records of `{}`", section.name));
                    return Err(failure.because(format!("{partition}: {why}")).passing().into());
                }
                Some(LookupResult::Denied) => {
                    return Err(AclOperation::ReadTopic(partition.topic.name()).denied(&section.name).into());
                }
                Some(LookupResult::Nothing | LookupResult::OutOfRange) | None => None,
            };
            let Some((record, leader_epoch)) = record else { continue };
            verified = verified.and_then(|()| resume::verify_leader_epoch(before, record.offset, *leader_epoch));
            verified = verified
                .and_then(|()| before.last.map_or(Ok(()), |last| resume::verify_fingerprint(partition, last, Some(record))));
        }
        if let Err(refusal) = verified {
            refused.push(RefusedPartition { partition, refusal, missing: 0 });
        }
    }
    resume::merge_refusals(refused).map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Returns the offsets to look at: the last record that is known, and the last before the position. The very last may be that of a
/// transaction's marker.
fn offsets_before(before: &LogBefore) -> impl Iterator<Item = (Partition, i64)> + use<> {
    let LogBefore { partition, next, low, last, leader_epoch } = *before;
    let last = last.map(|last| last.offset);
    let newest =
        [next - 2, next - 1].into_iter().filter(move |offset| leader_epoch.is_some() && *offset >= low && Some(*offset) != last);
    newest.chain(last).map(move |offset| (partition, offset))
}
