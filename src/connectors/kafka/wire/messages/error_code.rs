//! Codes of brokers that the data path acts on. Numbers of the protocol.

/// The offset is before the start or after the end of the log.
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
/// The broker does not know the topic or the partition, perhaps not yet.
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// The partition has no leader.
pub const LEADER_NOT_AVAILABLE: i16 = 5;
/// Another broker leads the partition.
pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// The disk of the partition failed.
pub const KAFKA_STORAGE_ERROR: i16 = 56;
/// The client knows an older leader.
pub const FENCED_LEADER_EPOCH: i16 = 74;
/// The client knows a newer leader than the broker.
pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
/// A new leader does not know the end of its log yet.
pub const OFFSET_NOT_AVAILABLE: i16 = 78;
/// The broker does not know the topic id.
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// The topic of this name has another id.
pub const INCONSISTENT_TOPIC_ID: i16 = 103;
