//! What a client sends to log in, and what it makes of the broker's messages.

use std::fmt;
use std::sync::Arc;

use crate::connectors::kafka::wire::auth::oauth::{self, BearerTokenSource};
use crate::connectors::kafka::wire::auth::scram::{ScramExchange, ScramHash};
use crate::connectors::kafka::wire::error::WireError;
use crate::profile::Secret;

/// How a client logs in.
#[derive(Clone)]
pub enum SaslLogin {
    /// User and password as they are.
    Plain {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A proof of the password.
    Scram {
        /// The hash function.
        hash: ScramHash,
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    OAuthBearer(Arc<dyn BearerTokenSource>),
}

impl fmt::Debug for SaslLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mechanism())
    }
}

/// The next step of a login.
pub enum LoginStep {
    /// This message goes to the broker.
    Send(Vec<u8>),
    /// The broker has proved what it has to.
    Done,
}

/// A login in progress.
pub enum LoginExchange {
    /// One message, and no answer but the end.
    OneMessage,
    /// Two messages each.
    Scram(Box<ScramExchange>),
    /// One message; the broker may answer with an error as JSON.
    OAuthBearer,
}

impl SaslLogin {
    /// Returns the name of the mechanism.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash: ScramHash::Sha256, .. } => "SCRAM-SHA-256",
            Self::Scram { hash: ScramHash::Sha512, .. } => "SCRAM-SHA-512",
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }

    /// Begins a login; returns the first message.
    ///
    /// # Errors
    /// When no token can be had, or one that no message can hold.
    pub async fn start(&self) -> Result<(LoginExchange, Vec<u8>), WireError> {
        match self {
            Self::Plain { username, password } => {
                let message = format!("\0{username}\0{}", password.reveal());
                Ok((LoginExchange::OneMessage, message.into_bytes()))
            }
            Self::Scram { hash, username, password } => {
                let (exchange, message) = ScramExchange::start(*hash, username, password.clone())?;
                Ok((LoginExchange::Scram(Box::new(exchange)), message))
            }
            Self::OAuthBearer(source) => {
                let token = source.token().await.map_err(WireError::Credentials)?;
                Ok((LoginExchange::OAuthBearer, oauth::first_message(&token)?))
            }
        }
    }
}

impl LoginExchange {
    /// Returns what follows the broker's message.
    ///
    /// # Errors
    /// When the message is not valid, or the broker does not know the password.
    pub async fn next(self, message: &[u8]) -> Result<(Self, LoginStep), WireError> {
        match self {
            Self::OneMessage => Ok((self, LoginStep::Done)),
            Self::OAuthBearer if message.is_empty() => Ok((self, LoginStep::Done)),
            // The broker rejects the token after this message.
            Self::OAuthBearer => Ok((self, LoginStep::Send(vec![1]))),
            Self::Scram(mut exchange) => {
                let message = message.to_vec();
                // Thousands of rounds of a hash function are no work for a thread that serves connections.
                let next = tokio::task::spawn_blocking(move || exchange.next(&message).map(|step| (exchange, step)));
                let (exchange, step) = next.await.map_err(|_| WireError::LoginInterrupted)??;
                Ok((Self::Scram(exchange), step.map_or(LoginStep::Done, LoginStep::Send)))
            }
        }
    }
}
