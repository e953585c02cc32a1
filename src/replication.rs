//! Kafka to Kafka: the names of target topics, their creation, loops, the origin header.

mod error;
mod origin;
mod topic_names;
mod topic_sync;

pub(crate) use error::ReplicationError;
pub(crate) use origin::mark_origin;
pub(crate) use topic_names::TopicNames;
pub(crate) use topic_sync::{MissingTarget, TopicFilter, TopicSync, of_partitions};
