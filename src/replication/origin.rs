//! The origin header, which stops loops between clusters that are replicated into each other.

use bytes::Bytes;

use crate::pipeline::{Transform, TransformResult};
use crate::record::{Partition, Record};

/// `cluster/topic/partition/offset` of the record that was copied first.
const ORIGIN: &str = "sdl-origin";

/// Returns a transform that adds the origin header to records without one, and filters records whose origin is `target`.
/// `source` and `target` are cluster ids.
pub(crate) fn mark_origin(source: String, target: &str) -> Transform {
    let from_target = format!("{target}/");
    Box::new(move |record: &mut Record| {
        let origin = record.headers.iter().find(|(name, _)| name == ORIGIN).and_then(|(_, value)| value.as_ref());
        match origin {
            Some(origin) if origin.starts_with(from_target.as_bytes()) => return TransformResult::Filtered,
            Some(_) => {}
            None => {
                let origin = format!("{source}/{}/{}/{}", record.partition.topic, record.partition.index, record.offset);
                record.headers.push((Bytes::from_static(ORIGIN.as_bytes()), Some(origin.into())));
            }
        }
        TransformResult::Keep
    })
}

/// Returns the source offset in the origin header of a record that was copied from this partition of the cluster.
pub(crate) fn parse_origin(record: &Record, cluster: &str, partition: Partition) -> Option<i64> {
    let (_, origin) = record.headers.iter().find(|(name, _)| name == ORIGIN)?;
    let origin = std::str::from_utf8(origin.as_ref()?).ok()?;
    let place = origin.strip_prefix(cluster)?.strip_prefix('/')?.strip_prefix(partition.topic.name())?;
    place.strip_prefix('/')?.strip_prefix(&partition.index.to_string())?.strip_prefix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[&'static str]) -> Record {
        let header = |value: &&'static str| (Bytes::from_static(ORIGIN.as_bytes()), Some(Bytes::from_static(value.as_bytes())));
        Record {
            partition: Partition::new("orders", 3),
            offset: 7,
            timestamp: None,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn the_offset_is_that_of_the_partition_and_cluster_asked_for() {
        let of = |header: &'static str, index| parse_origin(&record(&[header]), "east", Partition::new("orders", index));
        assert_eq!(of("east/orders/3/7", 3), Some(7));
        for header in ["west/orders/3/7", "east/orders/31/7", "east/others/3/7", "east/orders/3/", "east", ""] {
            assert_eq!(of(header, 3), None, "{header}");
        }
        assert_eq!(parse_origin(&record(&[]), "east", Partition::new("orders", 3)), None);
    }

    #[test]
    fn a_record_is_marked_once_and_filtered_on_its_way_back_to_its_origin() {
        let mark = mark_origin("east".to_owned(), "west");
        let mut fresh = record(&[]);
        assert_eq!(mark(&mut fresh), TransformResult::Keep);
        assert_eq!(fresh.headers, record(&["east/orders/3/7"]).headers);
        assert_eq!(mark(&mut record(&["west/orders/0/1"])), TransformResult::Filtered);
        let mut third = record(&["north/orders/0/1"]);
        assert_eq!(mark(&mut third), TransformResult::Keep);
        assert_eq!(third.headers, record(&["north/orders/0/1"]).headers);
        assert_eq!(mark(&mut record(&["western/orders/0/1"])), TransformResult::Keep, "another cluster's id begins alike");
    }
}
