//! `ApiVersions`: the requests that a broker knows.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{self, ApiKey, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// The code of a broker that does not know the version of a request.
pub const UNSUPPORTED_VERSION: i16 = 35;

/// Asks for the versions.
#[derive(Clone, Copy, Debug)]
pub struct ApiVersionsRequest;

/// The versions of one kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersionRange {
    /// The number of the kind.
    pub key: i16,
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

/// The versions of a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// [`UNSUPPORTED_VERSION`] if the broker does not know the version of the question. It answers in another version then, which is
    /// not read any further.
    pub error: i16,
    /// One for each kind of request.
    pub ranges: Vec<ApiVersionRange>,
    /// For how long to send nothing.
    pub throttle_ms: i32,
}

impl ApiVersionsResponse {
    /// Returns the newest version that the broker and this client know.
    #[must_use]
    pub fn common<R: WireRequest>(&self) -> Option<i16> {
        self.common_up_to::<R>(*R::VERSIONS.end())
    }

    /// Returns the newest version up to `newest` that the broker and this client know.
    #[must_use]
    pub fn common_up_to<R: WireRequest>(&self, newest: i16) -> Option<i16> {
        let theirs = self.ranges.iter().find(|range| range.key == R::KEY as i16)?;
        let newest = theirs.max.min(newest);
        (newest >= theirs.min.max(*R::VERSIONS.start())).then_some(newest)
    }
}

impl WireRequest for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: RangeInclusive<i16> = 0..=3;
    const FLEXIBLE: i16 = 3;
    type Response = ApiVersionsResponse;

    fn encode(&self, version: i16, out: &mut MessageWriter) {
        if version >= 3 {
            out.string(env!("CARGO_PKG_NAME"));
            out.string(env!("CARGO_PKG_VERSION"));
            out.no_tags();
        }
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let error = from.i16()?;
        if error == UNSUPPORTED_VERSION {
            return Ok(ApiVersionsResponse { error, ..ApiVersionsResponse::default() });
        }
        let ranges = from.array(|from| {
            let range = ApiVersionRange { key: from.i16()?, min: from.i16()?, max: from.i16()? };
            from.skip_tags()?;
            Ok(range)
        })?;
        let throttle_ms = if version >= 1 { from.i32()? } else { 0 };
        from.skip_tags()?;
        Ok(ApiVersionsResponse { error, ranges, throttle_ms })
    }

    fn throttle(response: &Self::Response) -> Duration {
        request::throttle(response.throttle_ms)
    }
}
