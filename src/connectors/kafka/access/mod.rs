//! The tokens that sections log in with: one task per section fetches them, and gives each to every living client of the section.

mod command;
mod endpoint;
mod fetcher;
mod jwt;
mod keeper;
mod msk;
mod renewal;

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::connectors::access_error::AccessError;
use crate::connectors::kafka::access::keeper::{TokenClient, TokenKeeper};
use crate::connectors::kafka::client_log::ClientLog;
use crate::connectors::kafka::librdkafka::token::LogsIn;
use crate::pipeline::{Failure, FailureKind};
use crate::profile::KafkaSection;

/// Every section that logs in with tokens.
static KEEPERS: Mutex<Vec<Arc<TokenKeeper>>> = Mutex::new(Vec::new());

/// Returns the keeper of the section's tokens; `None` if it logs in otherwise, or not at all.
pub(super) fn keeper(section: &KafkaSection) -> Result<Option<Arc<TokenKeeper>>, Failure> {
    let Some(access) = section.tokens.as_ref().filter(|_| section.mechanism().is_some()) else { return Ok(None) };
    let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(keeper) = keepers.iter().find(|keeper| keeper.is_of(&section.name, access)) {
        return Ok(Some(Arc::clone(keeper)));
    }
    let keeper =
        TokenKeeper::start(&section.name, access).map_err(|error| failure(section, &error).kind(FailureKind::Profile))?;
    keepers.push(Arc::clone(&keeper));
    Ok(Some(keeper))
}

/// Returns the failure of a first contact for want of a token.
pub(super) fn failure(section: &KafkaSection, error: &AccessError) -> Failure {
    let hint = error.hint.replace("[]", &format!("[{}]", section.name));
    Failure::new(format!("cannot connect to `{}`", section.name)).because(&error.text).hint(hint)
}

/// A client that has the tokens of its section for as long as it lives.
pub(crate) struct Authenticated<T> {
    /// Dropped before the client.
    _registration: Option<TokenRegistration>,
    client: T,
}

impl<T: LogsIn> Authenticated<T> {
    /// Gives `client` the token of the section, if there is one already, and every later one; notes in its `log` why there is none.
    pub(super) fn new(section: &KafkaSection, client: T, log: Option<ClientLog>) -> Result<Self, Failure> {
        let register = |keeper: Arc<TokenKeeper>| {
            let number = keeper.register(TokenClient { receiver: client.token_receiver(), log: log.unwrap_or_default() });
            TokenRegistration { keeper, number }
        };
        Ok(Self { _registration: keeper(section)?.map(register), client })
    }
}

impl<T> Deref for Authenticated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

struct TokenRegistration {
    keeper: Arc<TokenKeeper>,
    number: u64,
}

impl Drop for TokenRegistration {
    fn drop(&mut self) {
        self.keeper.unregister(self.number);
    }
}
