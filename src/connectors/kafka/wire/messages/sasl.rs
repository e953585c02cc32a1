//! `SaslHandshake` and `SaslAuthenticate`: the login of a connection.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::connectors::kafka::wire::messages::reader::{DecodeError, MessageReader};
use crate::connectors::kafka::wire::messages::request::{ApiKey, WireRequest};
use crate::connectors::kafka::wire::messages::writer::MessageWriter;

/// Chooses a mechanism.
#[derive(Clone, Copy, Debug)]
pub struct SaslHandshakeRequest<'a> {
    /// Its name.
    pub mechanism: &'a str,
}

/// Whether the broker offers the mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslHandshakeResponse {
    /// 33 if it does not.
    pub error: i16,
    /// The mechanisms that it offers.
    pub mechanisms: Vec<String>,
}

impl WireRequest for SaslHandshakeRequest<'_> {
    const KEY: ApiKey = ApiKey::SaslHandshake;
    const VERSIONS: RangeInclusive<i16> = 1..=1;
    const FLEXIBLE: i16 = i16::MAX;
    type Response = SaslHandshakeResponse;

    fn encode(&self, _: i16, out: &mut MessageWriter) {
        out.string(self.mechanism);
    }

    fn decode(_: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        Ok(SaslHandshakeResponse { error: from.i16()?, mechanisms: from.array(MessageReader::string)? })
    }

    fn throttle(_: &Self::Response) -> Duration {
        Duration::ZERO
    }
}

/// A message of the mechanism.
pub struct SaslAuthenticateRequest<'a> {
    /// The message; it may hold a password.
    pub message: &'a [u8],
}

/// The broker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslAuthenticateResponse {
    /// 58 if the broker rejects the login.
    pub error: i16,
    /// The reason.
    pub error_message: Option<String>,
    /// The message of the mechanism.
    pub message: Bytes,
    /// For how long the login is valid; 0 without an end.
    pub session_lifetime_ms: i64,
}

impl WireRequest for SaslAuthenticateRequest<'_> {
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    const VERSIONS: RangeInclusive<i16> = 0..=2;
    const FLEXIBLE: i16 = 2;
    type Response = SaslAuthenticateResponse;

    fn encode(&self, _: i16, out: &mut MessageWriter) {
        out.bytes(self.message);
        out.no_tags();
    }

    fn decode(version: i16, from: &mut MessageReader) -> Result<Self::Response, DecodeError> {
        let response = SaslAuthenticateResponse {
            error: from.i16()?,
            error_message: from.nullable_string()?,
            message: from.nullable_bytes()?.unwrap_or_default(),
            session_lifetime_ms: if version >= 1 { from.i64()? } else { 0 },
        };
        from.skip_tags()?;
        Ok(response)
    }

    fn throttle(_: &Self::Response) -> Duration {
        Duration::ZERO
    }
}
