//! Reading single records by their offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::client::{self, Listening};
use crate::connectors::kafka::native::NativeError;
use crate::connectors::kafka::native::fetched::{self, Fetched, Message};
use crate::connectors::kafka::resume;
use crate::pipeline::{EndError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, Partition, Record};

/// How long all records together may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the record of a position that a run resumes from.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gap that is read through rather than jumped over.
const NEAR: i64 = 100;

/// What was found at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot<T> {
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
/// When the client cannot be made. A partition that does not answer is [`Spot::Unknown`].
pub(crate) fn read<T: Clone>(
    section: &KafkaSection,
    offsets: &[(Partition, i64)],
    read_uncommitted: bool,
    patience: Duration,
    keep: impl Fn(&Message) -> T,
) -> Result<HashMap<(Partition, i64), Spot<T>>, EndError> {
    let mut spots: HashMap<(Partition, i64), Spot<T>> = HashMap::with_capacity(offsets.len());
    let mut wanted: BTreeMap<Partition, BTreeSet<i64>> = BTreeMap::new();
    for (partition, offset) in offsets {
        wanted.entry(*partition).or_default().insert(*offset);
    }
    if wanted.is_empty() {
        return Ok(spots);
    }
    let failure = |error| Failure::new(format!("cannot read single records of `{}`", section.name)).because(error);
    let consumer = consumer(section, read_uncommitted)?;
    consumer.assign(&places(wanted.iter().map(|(partition, offsets)| (partition, offsets.first())))).map_err(failure)?;
    let started = Instant::now();
    let mut last = started;
    let mut trouble: HashMap<Partition, String> = HashMap::new();
    while !wanted.is_empty() && last.elapsed() < patience && started.elapsed() < TIMEOUT {
        let mut done = Vec::new();
        let mut further = Vec::new();
        let mut answer = |topic: &str, index: i32, below: i64, spot: &dyn Fn() -> Spot<T>| {
            let partition = Partition::new(topic, index);
            let Some(offsets) = wanted.get_mut(&partition) else { return };
            let rest = offsets.split_off(&below);
            let answered = std::mem::replace(offsets, rest);
            if answered.is_empty() {
                return;
            }
            last = Instant::now();
            let spot = spot();
            let reached = answered.last().copied();
            for offset in answered {
                tracing::trace!(%partition, offset, "Looked at one record.");
                spots.insert((partition, offset), spot.clone());
            }
            match offsets.first().copied() {
                None => {
                    wanted.remove(&partition);
                    done.push(partition);
                }
                Some(next) if reached.is_some_and(|reached| next - reached > NEAR) => further.push((partition, next)),
                Some(_) => {}
            }
        };
        fetched::poll(consumer.client(), Duration::from_millis(100), |fetched| match fetched {
            Fetched::Message(message) => {
                let spot = || Spot::Found(keep(message));
                answer(&message.topic(), message.partition(), message.offset() + 1, &spot);
            }
            Fetched::End(at) => answer(&at.topic, at.partition, i64::MAX, &|| Spot::Nothing),
            Fetched::Gone(at) => answer(&at.topic, at.partition, i64::MAX, &|| Spot::Gone),
            Fetched::Failed(at) => {
                let error = NativeError(at.error.unwrap_or_default());
                tracing::debug!(topic = at.topic, partition = at.partition, %error, "A single record cannot be read yet.");
                if error.is_final() {
                    answer(&at.topic, at.partition, i64::MAX, &|| Spot::Unknown(error.0.clone()));
                } else {
                    trouble.insert(Partition::new(&at.topic, at.partition), error.0);
                }
            }
        });
        if !done.is_empty() {
            consumer.pause(&places(done.iter().map(|partition| (partition, None)))).map_err(failure)?;
        }
        for (partition, next) in further {
            // Without waiting: what comes from before the jump is passed over.
            consumer.seek(partition.topic.name(), partition.index, Offset::Offset(next), Duration::ZERO).map_err(failure)?;
        }
    }
    for (partition, offsets) in wanted {
        let why = trouble.remove(&partition).unwrap_or_else(|| "no answer in time".to_owned());
        spots.extend(offsets.into_iter().map(|offset| ((partition, offset), Spot::Unknown(why.clone()))));
    }
    tracing::debug!(section = section.name, spots = spots.len(), took = ?started.elapsed(), "Read single records.");
    Ok(spots)
}

fn consumer(section: &KafkaSection, read_uncommitted: bool) -> Result<BaseConsumer<Listening>, EndError> {
    let mut config = client::config(section)?;
    config
        .set("group.id", "sdl-spot") // never joined and never committed to; the client wants a name
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // An offset that is gone by now is not to be taken for the end.
        .set("auto.offset.reset", "error")
        .set("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" })
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("max.partition.fetch.bytes", "16384");
    let made = config.create_with_context(Listening::default());
    Ok(made.map_err(|error| Failure::new(format!("cannot make a client for `{}`", section.name)).because(error))?)
}

fn places<'a>(partitions: impl Iterator<Item = (&'a Partition, Option<&'a i64>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        let mut place = list.add_partition(partition.topic.name(), partition.index);
        if let Some(offset) = offset {
            place.set_offset(Offset::Offset(*offset)).expect("an offset of a log is not negative");
        }
    }
    list
}

/// Checks that these records are still what an earlier commit said of them.
///
/// # Errors
/// When another record has the offset of one of them: the topic was re-created.
pub(crate) async fn recognise(
    section: &KafkaSection,
    noted: Vec<(Partition, Fingerprint)>,
    read_uncommitted: bool,
) -> Result<(), EndError> {
    let section = section.clone();
    let checked = tokio::task::spawn_blocking(move || recognise_now(&section, &noted, read_uncommitted)).await;
    checked.map_err(|error| Failure::new("a call of the Kafka client did not end").because(error))?
}

/// As [`recognise`], blocking.
pub(crate) fn recognise_now(
    section: &KafkaSection,
    noted: &[(Partition, Fingerprint)],
    read_uncommitted: bool,
) -> Result<(), EndError> {
    let offsets: Vec<_> = noted.iter().map(|(partition, last)| (*partition, last.offset)).collect();
    let there = read(section, &offsets, read_uncommitted, PATIENCE, Message::record)?;
    for (partition, last) in noted {
        let there: Option<&Record> = match there.get(&(*partition, last.offset)) {
            Some(Spot::Found(record)) => Some(record),
            Some(Spot::Unknown(why)) => {
                let failure = Failure::new(format!("cannot read single records of `{}`", section.name));
                return Err(failure.because(format!("{partition}: {why}")).into());
            }
            Some(Spot::Nothing | Spot::Gone) | None => None,
        };
        resume::recognise(*partition, *last, there)?;
    }
    Ok(())
}
