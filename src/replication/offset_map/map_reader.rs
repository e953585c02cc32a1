//! Reading the topic of the map.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::connectors::kafka::{OffsetSpec, ScanEvent, ScanRange, Scanner};
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::replication::offset_map::chunk_key::ChunkKey;

/// Timeout of the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one read of the whole topic.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How far the topic has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapPosition(HashMap<Partition, i64>);

/// A chunk, or `None` for one that was deleted.
pub(crate) type StoredValue<'a> = Option<&'a [u8]>;

/// Reads the chunks of `topic` that are newer than `position`, in the order of each partition, and moves the position. A topic that
/// does not exist has none.
///
/// # Errors
/// When the cluster does not answer in time; what was read by then counts.
pub(crate) async fn read_map(
    section: &KafkaSection,
    topic: Topic,
    position: &mut MapPosition,
    mut each: impl FnMut(ChunkKey, StoredValue<'_>) + Send + 'static,
) -> Result<(), ConnectorError> {
    let scanner = Scanner::connect(section, None, true, CONNECT_TIMEOUT).await?;
    let (from, failure) = (position.clone(), Failure::new(format!("cannot read the offset map `{topic}` on `{}`", section.name)));
    let read = tokio::task::spawn_blocking(move || read_blocking(scanner, topic, from, failure, &mut each)).await;
    let (reached, ended) = read.map_err(|error| Failure::new("a call of the Kafka client was cancelled").because(error))?;
    *position = reached;
    ended
}

fn read_blocking(
    mut scanner: Scanner,
    topic: Topic,
    mut position: MapPosition,
    failure: Failure,
    each: &mut impl FnMut(ChunkKey, StoredValue<'_>),
) -> (MapPosition, Result<(), ConnectorError>) {
    let ranges = match ranges(&scanner, topic, &position) {
        Ok(ranges) => ranges,
        Err(error) => return (position, Err(error)),
    };
    let deadline = Instant::now() + READ_TIMEOUT;
    let ended = scanner.read(&ranges, |event| {
        if let ScanEvent::Record(record) = event {
            position.0.insert(record.partition, record.offset + 1);
            if let Some(key) = record.key.and_then(ChunkKey::parse) {
                each(key, record.value);
            }
        }
        if Instant::now() < deadline { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let ended = match ended {
        Ok(ControlFlow::Break(())) => Err(failure.because("it takes more than 60s").passing().into()),
        Ok(ControlFlow::Continue(())) => {
            position.0.extend(ranges.iter().map(|range| (range.partition, range.to)));
            Ok(())
        }
        Err(error) => Err(error),
    };
    (position, ended)
}

fn ranges(scanner: &Scanner, topic: Topic, position: &MapPosition) -> Result<Vec<ScanRange>, ConnectorError> {
    let Some(found) = scanner.topic_to_read(topic.name(), Duration::ZERO)? else { return Ok(Vec::new()) };
    let partitions: Vec<Partition> = (0..found.partitions).map(|index| Partition { topic, index }).collect();
    let (low, end) = (scanner.ends(&partitions, OffsetSpec::Start)?, scanner.ends(&partitions, OffsetSpec::Log)?);
    let range = |partition: Partition| {
        let (low, to) = (low[&partition], end[&partition]);
        // A topic that was deleted and created again is read from its beginning.
        let from = position.0.get(&partition).copied().filter(|from| (low..=to).contains(from)).unwrap_or(low);
        ScanRange { partition, from, to }
    };
    Ok(partitions.into_iter().map(range).filter(|range| range.from < range.to).collect())
}
