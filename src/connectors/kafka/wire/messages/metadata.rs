//! `Metadata`: brokers, topics and leaders.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, PartitionLeader, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// Asks for topics by their names; a missing one is not created.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRequest<'a> {
    /// The names.
    pub topics: &'a [&'a str],
}

/// What one broker knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataResponse {
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The brokers.
    pub brokers: Vec<BrokerEndpoint>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The topics of the question.
    pub topics: Vec<MetadataTopic>,
}

/// A broker, where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// The broker's id.
    pub id: i32,
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl BrokerEndpoint {
    /// Reads a broker, with its rack.
    pub(super) fn read(from: &mut MessageReader) -> Result<Self, DecodeError> {
        let (id, host, port) = (from.i32()?, from.string()?, from.i32()?);
        from.nullable_string()?;
        from.skip_tags()?;
        Ok(Self { id, host, port: u16::try_from(port).map_err(|_| DecodeError("a port is out of range"))? })
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTopic {
    /// The error for this topic.
    pub error: i16,
    /// The name.
    pub name: Option<String>,
    /// Zeros where the broker knows no ids.
    pub id: [u8; 16],
    /// The partitions, in any order.
    pub partitions: Vec<MetadataPartition>,
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataPartition {
    /// The error for this partition.
    pub error: i16,
    /// From 0.
    pub index: i32,
    /// The leader; its epoch is -1 where the broker knows none.
    pub leader: PartitionLeader,
}

impl WireRequest for MetadataRequest<'_> {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: RangeInclusive<i16> = 4..=12;
    const FLEXIBLE: i16 = 9;
    type Response = MetadataResponse;

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        out.array(self.topics, |out, topic| {
            if version >= 10 {
                out.uuid([0; 16]);
            }
            out.string(topic);
            out.no_tags();
        });
        out.bool(false);
        if (8..=10).contains(&version) {
            out.bool(false);
        }
        if version >= 8 {
            out.bool(false);
        }
        out.no_tags();
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let throttle_ms = from.i32()?;
        let brokers = from.array(BrokerEndpoint::read)?;
        let cluster_id = from.nullable_string()?;
        let _controller = from.i32()?;
        let topics = from.array(|from| {
            let (error, name) = (from.i16()?, from.nullable_string()?);
            let id = if version >= 10 { from.uuid()? } else { [0; 16] };
            let _is_internal = from.bool()?;
            let partitions = from.array(|from| read_partition(version, from))?;
            if version >= 8 {
                from.i32()?;
            }
            from.skip_tags()?;
            Ok(MetadataTopic { error, name, id, partitions })
        })?;
        if (8..=10).contains(&version) {
            from.i32()?;
        }
        from.skip_tags()?;
        Ok(MetadataResponse { throttle_ms, brokers, cluster_id, topics })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}

fn read_partition(version: i16, from: &mut MessageReader) -> Result<MetadataPartition, DecodeError> {
    let (error, index, broker) = (from.i16()?, from.i32()?, from.i32()?);
    let epoch = if version >= 7 { from.i32()? } else { -1 };
    // Replicas, those in sync, and those offline.
    for _ in 0..if version >= 5 { 3 } else { 2 } {
        from.array(MessageReader::i32)?;
    }
    from.skip_tags()?;
    Ok(MetadataPartition { error, index, leader: PartitionLeader { broker, epoch } })
}
