//! `ListOffsets` and `OffsetForLeaderEpoch`: offsets by time and by leader epoch.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::connectors::kafka::wire::messages::fetch::IsolationLevel;
use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// A question about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionQuery {
    /// From 0.
    pub index: i32,
    /// The epoch of the leader that the client knows, -1 if none.
    pub leader_epoch: i32,
    /// A time, or -1 for the end and -2 for the start; the epoch in question.
    pub of: i64,
}

/// Asks for the first offset of a time.
#[derive(Clone, Debug)]
pub struct OffsetsByTimeRequest<'a> {
    /// Whether the end is before the first open transaction.
    pub isolation: IsolationLevel,
    /// The topic.
    pub topic: &'a str,
    /// The partitions.
    pub partitions: &'a [PartitionQuery],
}

/// The offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsByTime {
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The partitions.
    pub partitions: Vec<OffsetByTime>,
}

/// An offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetByTime {
    /// From 0.
    pub index: i32,
    /// The error for this partition.
    pub error: i16,
    /// The time of the record, -1 for the start and the end.
    pub timestamp: i64,
    /// The offset, -1 if no record is as new.
    pub offset: i64,
    /// The leader epoch of the record, -1 if unknown.
    pub leader_epoch: i32,
}

impl WireRequest for OffsetsByTimeRequest<'_> {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: RangeInclusive<i16> = 1..=7;
    const FLEXIBLE: i16 = 6;
    type Response = OffsetsByTime;

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        out.i32(-1);
        if version >= 2 {
            out.i8(self.isolation.number());
        }
        out.array(&[self.topic], |out, topic| {
            out.string(topic);
            out.array(self.partitions, |out, query| {
                out.i32(query.index);
                if version >= 4 {
                    out.i32(query.leader_epoch);
                }
                out.i64(query.of);
                out.no_tags();
            });
            out.no_tags();
        });
        out.no_tags();
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let throttle_ms = if version >= 2 { from.i32()? } else { 0 };
        let topics = from.array(|from| {
            from.string()?;
            let partitions = from.array(|from| {
                let (index, error, timestamp, offset) = (from.i32()?, from.i16()?, from.i64()?, from.i64()?);
                let leader_epoch = if version >= 4 { from.i32()? } else { -1 };
                from.skip_tags()?;
                Ok(OffsetByTime { index, error, timestamp, offset, leader_epoch })
            })?;
            from.skip_tags()?;
            Ok(partitions)
        })?;
        from.skip_tags()?;
        Ok(OffsetsByTime { throttle_ms, partitions: topics.concat() })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}

/// Asks a leader how far an epoch goes in its log.
#[derive(Clone, Debug)]
pub struct OffsetForLeaderEpochRequest<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partitions.
    pub partitions: &'a [PartitionQuery],
}

/// How far the epochs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochEndOffsets {
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The partitions.
    pub partitions: Vec<EpochEndOffset>,
}

/// How far an epoch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The error for this partition.
    pub error: i16,
    /// From 0.
    pub index: i32,
    /// The newest epoch of the log that is not newer than the one in question, -1 if there is none.
    pub epoch: i32,
    /// The offset after its last record, -1 if unknown.
    pub end_offset: i64,
}

impl WireRequest for OffsetForLeaderEpochRequest<'_> {
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: RangeInclusive<i16> = 2..=4;
    const FLEXIBLE: i16 = 4;
    type Response = EpochEndOffsets;

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        if version >= 3 {
            out.i32(-1);
        }
        out.array(&[self.topic], |out, topic| {
            out.string(topic);
            out.array(self.partitions, |out, query| {
                out.i32(query.index);
                out.i32(query.leader_epoch);
                out.i32(i32::try_from(query.of).unwrap_or(-1));
                out.no_tags();
            });
            out.no_tags();
        });
        out.no_tags();
    }

    fn decode(_: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let throttle_ms = from.i32()?;
        let topics = from.array(|from| {
            from.string()?;
            let partitions = from.array(|from| {
                let (error, index) = (from.i16()?, from.i32()?);
                let end = EpochEndOffset { error, index, epoch: from.i32()?, end_offset: from.i64()? };
                from.skip_tags()?;
                Ok(end)
            })?;
            from.skip_tags()?;
            Ok(partitions)
        })?;
        from.skip_tags()?;
        Ok(EpochEndOffsets { throttle_ms, partitions: topics.concat() })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}
