//! SASL logins: the messages of the mechanisms, without a connection.

mod login;
mod oauth;
mod scram;

pub use login::{LoginExchange, LoginStep, SaslLogin};
pub use oauth::{BearerToken, BearerTokenSource, TokenFuture};
pub use scram::{ScramExchange, ScramHash};
