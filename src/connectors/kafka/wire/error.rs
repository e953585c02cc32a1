//! Why a connection to a broker cannot be used.

use std::time::Duration;

use crate::connectors::kafka::wire::messages::{ApiKey, DecodeError};

/// Why a connection, or a request on it, failed. Each error but [`Self::Unsupported`] ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The name of the broker has no address.
    #[error("cannot resolve the name `{0}`")]
    NameNotResolved(String),
    /// The operating system cannot connect, read or write.
    #[error("{step}: {reason}")]
    Io {
        /// What was done.
        step: &'static str,
        /// The kind of error.
        kind: std::io::ErrorKind,
        /// In the words of the operating system or of rustls.
        reason: String,
    },
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker did not answer in time.
    #[error("no answer of the broker within {0:?}")]
    NoAnswer(Duration),
    /// The broker's bytes are no response to the request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The broker answers another request than the oldest.
    #[error("the broker's response has the correlation id {got}, not {expected}")]
    Correlation {
        /// Of the oldest request.
        expected: i32,
        /// Of the response.
        got: i32,
    },
    /// The response exceeds the limit. Servers of other protocols seem to announce such a response.
    #[error("the broker announces a response of {0} bytes")]
    ResponseTooLarge(i64),
    /// Broker and client have no version of the request in common.
    #[error("the broker does not support a version of {0} that this client knows")]
    Unsupported(ApiKey),
    /// The broker answers with an error code where that ends the connection.
    #[error("{request}: error code {code} of the broker")]
    Refused {
        /// The request.
        request: ApiKey,
        /// The broker's code.
        code: i16,
    },
    /// The broker offers other mechanisms.
    #[error("the broker does not offer the SASL mechanism {wanted}, but {}", offered.join(", "))]
    MechanismNotOffered {
        /// The mechanism of the section.
        wanted: String,
        /// The broker's.
        offered: Vec<String>,
    },
    /// The broker rejects the login.
    #[error("authentication failed: {0}")]
    AuthenticationFailed(String),
    /// The broker does not know the password that it is to check, or is another server.
    #[error("the broker's login messages are invalid: {0}")]
    InvalidLogin(&'static str),
    /// A token or a file of the login cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// A login was abandoned before its end.
    #[error("the login was interrupted")]
    LoginInterrupted,
}

impl WireError {
    /// Returns the error of a step of the operating system.
    pub(super) fn io(step: &'static str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::BrokenPipe => Self::Closed,
            kind => Self::Io { step, kind, reason: error.to_string() },
        }
    }
}
