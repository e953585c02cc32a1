//! What all requests have in common.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;
use crate::record::Topic;

/// The number of a kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Writes records.
    Produce = 0,
    /// Reads records.
    Fetch = 1,
    /// Finds offsets by time.
    ListOffsets = 2,
    /// Lists brokers, topics and leaders.
    Metadata = 3,
    /// Chooses a SASL mechanism.
    SaslHandshake = 17,
    /// Lists the requests that a broker knows.
    ApiVersions = 18,
    /// Asks for a producer id.
    InitProducerId = 22,
    /// Finds the end of an epoch in a leader's log.
    OffsetForLeaderEpoch = 23,
    /// Carries a message of a SASL mechanism.
    SaslAuthenticate = 36,
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A kind of request.
pub trait WireRequest {
    /// Its number.
    const KEY: ApiKey;
    /// The versions that are implemented.
    const VERSIONS: RangeInclusive<i16>;
    /// The first flexible version.
    const FLEXIBLE: i16;
    /// What a broker answers.
    type Response;

    /// Returns the newest version that can carry this request.
    fn newest_version(&self) -> i16 {
        *Self::VERSIONS.end()
    }

    /// Writes everything after the header.
    fn encode(&self, version: i16, out: &mut MessageWriter);

    /// Reads everything after the header.
    ///
    /// # Errors
    /// When the bytes are not a response of this version.
    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError>;

    /// Returns for how long the broker wants no further request on the connection.
    fn throttle(response: &Self::Response) -> Duration;

    /// Returns whether the header of a response has tagged fields. A client cannot know the version that answers `ApiVersions`.
    #[must_use]
    fn has_flexible_header(version: i16) -> bool {
        version >= Self::FLEXIBLE && Self::KEY != ApiKey::ApiVersions
    }
}

/// Returns a request as it travels, in parts.
#[must_use]
pub fn encode_request<R: WireRequest>(request: &R, version: i16, correlation_id: i32, client_id: &str) -> Vec<Bytes> {
    let mut out = MessageWriter::new(version >= R::FLEXIBLE);
    out.i16(R::KEY as i16);
    out.i16(version);
    out.i32(correlation_id);
    out.old_string(client_id);
    out.no_tags();
    request.encode(version, &mut out);
    out.finish()
}

/// A topic, for versions that know it by its name and for those that know it by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicRef {
    /// The name.
    pub name: Topic,
    /// The id; zeros where the broker knows no ids.
    pub id: [u8; 16],
}

/// How a response names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// Old versions.
    Name(String),
    /// From version 13 of Fetch and Produce on.
    Id([u8; 16]),
}

impl TopicKey {
    /// Returns whether the response means this topic.
    #[must_use]
    pub fn is(&self, topic: &TopicRef) -> bool {
        match self {
            Self::Name(name) => name == topic.name.name(),
            Self::Id(id) => *id == topic.id,
        }
    }

    pub(super) fn read(by_id: bool, from: &mut MessageReader) -> Result<Self, DecodeError> {
        Ok(if by_id { Self::Id(from.uuid()?) } else { Self::Name(from.string()?) })
    }
}

impl TopicRef {
    /// Returns whether the broker has named an id.
    pub(super) fn has_id(&self) -> bool {
        self.id != [0; 16]
    }

    pub(super) fn write(&self, by_id: bool, out: &mut MessageWriter) {
        if by_id { out.uuid(self.id) } else { out.string(self.name.name()) }
    }
}

/// The leader of a partition, as a broker that leads it no longer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLeader {
    /// The broker's id; -1 if unknown.
    pub broker: i32,
    /// The epoch of its leadership.
    pub epoch: i32,
}

impl PartitionLeader {
    pub(super) fn read(from: &mut MessageReader) -> Result<Self, DecodeError> {
        let leader = Self { broker: from.i32()?, epoch: from.i32()? };
        from.skip_tags()?;
        Ok(leader)
    }
}

/// Returns the duration of a field `throttle_time_ms`.
pub(super) fn throttle(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
