//! Reading single records by their offsets.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::connectors::kafka::client::{self, Listening};
use crate::connectors::kafka::cutter::Cutter;
use crate::connectors::kafka::resume;
use crate::pipeline::{EndError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, Partition, Record};

/// How long all records together may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the first record at or after each offset; a partition without one is absent. Blocking, one fetch for many partitions.
pub(crate) fn read(
    section: &KafkaSection,
    offsets: &[(Partition, i64)],
    read_uncommitted: bool,
) -> Result<HashMap<Partition, Record>, EndError> {
    let mut found = HashMap::with_capacity(offsets.len());
    if offsets.is_empty() {
        return Ok(found);
    }
    let failure = || Failure::new(format!("cannot read single records of `{}`", section.name));
    let mut config = client::config(section)?;
    config
        .set("group.id", "sdl-spot") // never joined and never committed to; the client wants a name
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" })
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("max.partition.fetch.bytes", "16384");
    let consumer: BaseConsumer<Listening> =
        config.create_with_context(Listening::default()).map_err(|error| failure().because(error))?;
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(partition.topic.name(), partition.index, Offset::Offset(*offset))
            .map_err(|error| failure().because(error))?;
    }
    consumer.assign(&list).map_err(|error| failure().because(error))?;
    drop(list);
    let deadline = Instant::now() + TIMEOUT;
    // The end of a partition is reported without its topic: it counts while a partition of that number is still wanted.
    let mut ends: Vec<i32> = Vec::new();
    while found.len() + ends.len() < offsets.len() {
        if Instant::now() > deadline {
            return Err(failure().because("no answer in time").into());
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let partition = Partition::new(message.topic(), message.partition());
                if !found.contains_key(&partition) {
                    let mut cutter = Cutter::default();
                    cutter.push(partition, &message);
                    found.extend(cutter.take().into_iter().map(|record| (partition, record)));
                    let mut done = TopicPartitionList::with_capacity(1);
                    done.add_partition(partition.topic.name(), partition.index);
                    consumer.pause(&done).map_err(|error| failure().because(error))?;
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(index))) => {
                let wanted = offsets.iter().filter(|(partition, _)| partition.index == index && !found.contains_key(partition));
                if ends.iter().filter(|end| **end == index).count() < wanted.count() {
                    ends.push(index);
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "a single record could not be read yet"),
            None => {}
        }
    }
    Ok(found)
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
    let there = read(section, &offsets, read_uncommitted)?;
    for (partition, last) in noted {
        resume::recognise(*partition, *last, there.get(partition))?;
    }
    Ok(())
}
