//! `Fetch`: reads records.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, PartitionLeader, TopicKey, TopicRef, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// The first version with topic ids in place of names.
const BY_ID: i16 = 13;

/// Whether a read ends before the first open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// No.
    ReadUncommitted,
    /// Yes, and the response lists the transactions that were aborted.
    ReadCommitted,
}

impl IsolationLevel {
    pub(super) fn number(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Asks for records, without a fetch session.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// For how long the broker may wait for records.
    pub max_wait_ms: i32,
    /// The bytes that end the wait.
    pub min_bytes: i32,
    /// The bytes of a response; the first batch may exceed them.
    pub max_bytes: i32,
    /// Whether to read records of open transactions.
    pub isolation: IsolationLevel,
    /// The topics.
    pub topics: Vec<FetchTopic>,
}

/// A topic of the request.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// The topic.
    pub topic: TopicRef,
    /// The partitions that the broker leads.
    pub partitions: Vec<FetchPartition>,
}

/// A partition of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// From 0.
    pub index: i32,
    /// The epoch of the leader that the client knows, -1 if none.
    pub leader_epoch: i32,
    /// The offset to read from.
    pub offset: i64,
    /// The leader epoch of the last record that was read, -1 if none. A log that diverges from it is reported.
    pub last_fetched_epoch: i32,
    /// The bytes for this partition; the first batch may exceed them.
    pub max_bytes: i32,
}

/// The records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The error for the whole request.
    pub error: i16,
    /// The partitions.
    pub partitions: Vec<(TopicKey, FetchedPartition)>,
}

/// A partition of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// From 0.
    pub index: i32,
    /// The error for this partition.
    pub error: i16,
    /// The end of what the replicas have.
    pub high_watermark: i64,
    /// The first offset of an open transaction, or the high watermark.
    pub last_stable_offset: i64,
    /// The first offset of the log, -1 if unknown.
    pub log_start_offset: i64,
    /// The aborted transactions among the records.
    pub aborted: Vec<AbortedTransaction>,
    /// Batches; the last may be cut.
    pub records: Bytes,
    /// Where the log diverges from the epoch of the request.
    pub diverging: Option<DivergingEpoch>,
    /// The new leader, of a broker that leads the partition no longer.
    pub leader: Option<PartitionLeader>,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
}

/// The last epoch that a log shares with its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The epoch.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

impl WireRequest for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSIONS: RangeInclusive<i16> = 4..=13;
    const FLEXIBLE: i16 = 12;
    type Response = FetchResponse;

    fn newest_version(&self) -> i16 {
        if self.topics.iter().all(|topic| topic.topic.has_id()) { *Self::VERSIONS.end() } else { BY_ID - 1 }
    }

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        // A consumer, not a replica.
        out.i32(-1);
        out.i32(self.max_wait_ms);
        out.i32(self.min_bytes);
        out.i32(self.max_bytes);
        out.i8(self.isolation.number());
        if version >= 7 {
            // Session id and epoch: none.
            out.i32(0);
            out.i32(-1);
        }
        out.array(&self.topics, |out, topic| {
            topic.topic.write(version >= BY_ID, out);
            out.array(&topic.partitions, |out, partition| {
                out.i32(partition.index);
                if version >= 9 {
                    out.i32(partition.leader_epoch);
                }
                out.i64(partition.offset);
                if version >= 12 {
                    out.i32(partition.last_fetched_epoch);
                }
                if version >= 5 {
                    // Of the log of a replica.
                    out.i64(-1);
                }
                out.i32(partition.max_bytes);
                out.no_tags();
            });
            out.no_tags();
        });
        if version >= 7 {
            out.array::<()>(&[], |_, ()| ());
        }
        if version >= 11 {
            out.string("");
        }
        out.no_tags();
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let throttle_ms = from.i32()?;
        let error = if version >= 7 { from.i16()? } else { 0 };
        if version >= 7 {
            from.i32()?;
        }
        let mut partitions = Vec::new();
        from.array(|from| {
            let topic = TopicKey::read(version >= BY_ID, from)?;
            let read = from.array(|from| read_partition(version, from))?;
            partitions.extend(read.into_iter().map(|partition| (topic.clone(), partition)));
            from.skip_tags()
        })?;
        from.skip_tags()?;
        Ok(FetchResponse { throttle_ms, error, partitions })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}

fn read_partition(version: i16, from: &mut MessageReader) -> Result<FetchedPartition, DecodeError> {
    let (index, error) = (from.i32()?, from.i16()?);
    let (high_watermark, last_stable_offset) = (from.i64()?, from.i64()?);
    let log_start_offset = if version >= 5 { from.i64()? } else { -1 };
    let aborted = from.array(|from| {
        let aborted = AbortedTransaction { producer_id: from.i64()?, first_offset: from.i64()? };
        from.skip_tags()?;
        Ok(aborted)
    })?;
    if version >= 11 {
        // The preferred replica: only a client that names its rack has one.
        from.i32()?;
    }
    let records = from.nullable_bytes()?.unwrap_or_default();
    let (mut diverging, mut leader) = (None, None);
    from.tags(|tag, from| {
        match tag {
            0 => {
                diverging = Some(DivergingEpoch { epoch: from.i32()?, end_offset: from.i64()? });
                from.skip_tags()?;
            }
            1 => leader = Some(PartitionLeader::read(from)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(FetchedPartition {
        index,
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        aborted,
        records,
        diverging,
        leader,
    })
}
