//! `InitProducerId`: a producer's id and epoch.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// Asks for an id, or for the next epoch of one.
#[derive(Clone, Debug)]
pub struct InitProducerIdRequest {
    /// Without one, the producer is idempotent only.
    pub transactional_id: Option<String>,
    /// After which the coordinator aborts an open transaction.
    pub transaction_timeout_ms: i32,
    /// The id that is to have a new epoch, -1 for a new id.
    pub producer_id: i64,
    /// Its epoch, -1 for a new id.
    pub producer_epoch: i16,
}

/// The producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// For how long to send nothing.
    pub throttle_ms: i32,
    /// The error.
    pub error: i16,
    /// The id.
    pub producer_id: i64,
    /// The epoch.
    pub producer_epoch: i16,
}

impl WireRequest for InitProducerIdRequest {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    const FLEXIBLE: i16 = 2;
    type Response = InitProducerIdResponse;

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        out.nullable_string(self.transactional_id.as_deref());
        out.i32(self.transaction_timeout_ms);
        if version >= 3 {
            out.i64(self.producer_id);
            out.i16(self.producer_epoch);
        }
        out.no_tags();
    }

    fn decode(_: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let response = InitProducerIdResponse {
            throttle_ms: from.i32()?,
            error: from.i16()?,
            producer_id: from.i64()?,
            producer_epoch: from.i16()?,
        };
        from.skip_tags()?;
        Ok(response)
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}
