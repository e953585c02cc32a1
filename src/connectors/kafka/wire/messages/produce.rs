//! `Produce`: writes batches.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::connectors::kafka::wire::messages::metadata::BrokerEndpoint;
use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, PartitionLeader, TopicKey, TopicRef, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// The first version with topic ids in place of names.
const BY_ID: i16 = 13;

/// Writes batches, with an acknowledgement of all replicas in sync.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The transaction that the batches belong to.
    pub transactional_id: Option<String>,
    /// For how long the leader may wait for the replicas.
    pub timeout_ms: i32,
    /// The topics.
    pub topics: Vec<ProduceTopic>,
}

/// A topic of the request.
#[derive(Clone, Debug)]
pub struct ProduceTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Each partition once: of two entries, brokers lose one without an error.
    pub partitions: Vec<ProducePartition>,
}

/// A partition of the request.
#[derive(Clone, Debug)]
pub struct ProducePartition {
    /// From 0.
    pub index: i32,
    /// The header of one batch.
    pub header: Bytes,
    /// The records of the batch.
    pub body: Bytes,
}

/// What became of the batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The partitions.
    pub partitions: Vec<(TopicKey, ProducedPartition)>,
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The brokers of new leaders.
    pub brokers: Vec<BrokerEndpoint>,
}

/// A partition of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedPartition {
    /// From 0.
    pub index: i32,
    /// The error for this partition.
    pub error: i16,
    /// The offset of the first record, -1 if unknown.
    pub base_offset: i64,
    /// The time of the append, -1 unless the topic has it.
    pub log_append_time_ms: i64,
    /// The first offset of the log, -1 if unknown.
    pub log_start_offset: i64,
    /// The records at fault.
    pub record_errors: Vec<RecordError>,
    /// The reason of the error.
    pub error_message: Option<String>,
    /// The new leader, of a broker that leads the partition no longer.
    pub leader: Option<PartitionLeader>,
}

/// A record that made a broker reject its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The index in the batch.
    pub index: i32,
    /// The reason.
    pub message: Option<String>,
}

impl WireRequest for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: RangeInclusive<i16> = 3..=13;
    const FLEXIBLE: i16 = 9;
    type Response = ProduceResponse;

    fn newest_version(&self) -> i16 {
        if self.topics.iter().all(|topic| topic.topic.has_id()) { *Self::VERSIONS.end() } else { BY_ID - 1 }
    }

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        out.nullable_string(self.transactional_id.as_deref());
        // All replicas in sync.
        out.i16(-1);
        out.i32(self.timeout_ms);
        out.array(&self.topics, |out, topic| {
            topic.topic.write(version >= BY_ID, out);
            out.array(&topic.partitions, |out, partition| {
                out.i32(partition.index);
                out.joined(&[partition.header.clone(), partition.body.clone()]);
                out.no_tags();
            });
            out.no_tags();
        });
        out.no_tags();
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let mut partitions = Vec::new();
        from.array(|from| {
            let topic = TopicKey::read(version >= BY_ID, from)?;
            let read = from.array(|from| read_partition(version, from))?;
            partitions.extend(read.into_iter().map(|partition| (topic.clone(), partition)));
            from.skip_tags()
        })?;
        let throttle_ms = from.i32()?;
        let mut brokers = Vec::new();
        from.tags(|tag, from| {
            if tag == 0 {
                brokers = from.array(BrokerEndpoint::read)?;
            }
            Ok(())
        })?;
        Ok(ProduceResponse { partitions, throttle_ms, brokers })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}

fn read_partition(version: i16, from: &mut MessageReader) -> Result<ProducedPartition, DecodeError> {
    let (index, error) = (from.i32()?, from.i16()?);
    let (base_offset, log_append_time_ms) = (from.i64()?, from.i64()?);
    let log_start_offset = if version >= 5 { from.i64()? } else { -1 };
    let (mut record_errors, mut error_message, mut leader) = (Vec::new(), None, None);
    if version >= 8 {
        record_errors = from.array(|from| {
            let error = RecordError { index: from.i32()?, message: from.nullable_string()? };
            from.skip_tags()?;
            Ok(error)
        })?;
        error_message = from.nullable_string()?;
    }
    from.tags(|tag, from| {
        if tag == 0 {
            leader = Some(PartitionLeader::read(from)?);
        }
        Ok(())
    })?;
    Ok(ProducedPartition {
        index,
        error,
        base_offset,
        log_append_time_ms,
        log_start_offset,
        record_errors,
        error_message,
        leader,
    })
}
