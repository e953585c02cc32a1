//! Kafka to Kafka: the names of target topics, their creation, loops, the origin header, the offset map.

mod error;
mod offset_map;
mod origin;
mod topic_names;
mod topic_sync;

pub(crate) use error::ReplicationError;
pub(crate) use offset_map::{
    CopyRecorder, MAP_TOPIC, MapFlow, MapIdentity, MapPosition, MapWriterHandle, MappedPosition, MappedSource, PartitionMap,
    read_map,
};
pub(crate) use origin::{mark_origin, parse_origin};
pub(crate) use topic_names::TopicNames;
pub(crate) use topic_sync::{MissingTarget, TopicFilter, TopicSync, of_partitions};
