//! The token task of one section.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use crate::connectors::access_error::AccessError;
use crate::connectors::kafka::access::fetcher::TokenFetcher;
use crate::connectors::kafka::access::jwt::AccessToken;
use crate::connectors::kafka::access::renewal::{MAX_BACKOFF, pause};
use crate::connectors::kafka::client_log::ClientLog;
use crate::connectors::kafka::librdkafka::token::TokenReceiver;
use crate::pipeline::backoff;
use crate::profile::TokenAccess;

/// How often a pause looks at the clock.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps a token that is valid, and gives it to the clients of the section. Its thread rests while there are none.
pub(in crate::connectors::kafka) struct TokenKeeper {
    section: String,
    access: TokenAccess,
    state: Mutex<KeeperState>,
    /// Signalled after every attempt.
    attempted: Condvar,
    /// Wakes the thread.
    wanted: Notify,
}

#[derive(Default)]
struct KeeperState {
    token: Option<AccessToken>,
    /// Why the last attempt failed.
    failure: Option<AccessError>,
    attempts: u64,
    waiting: usize,
    clients: HashMap<u64, TokenClient>,
    next_number: u64,
}

/// A client of the section.
pub(super) struct TokenClient {
    pub(super) receiver: TokenReceiver,
    /// Where the client's failures are looked up.
    pub(super) log: ClientLog,
}

impl TokenClient {
    fn fail(&self, why: &str) {
        self.log.token_failed(why);
        self.receiver.fail(why);
    }
}

impl KeeperState {
    fn valid(&self) -> Option<&AccessToken> {
        self.token.as_ref().filter(|token| token.expires_at > now())
    }

    fn is_wanted(&self) -> bool {
        self.waiting > 0 || !self.clients.is_empty()
    }
}

impl TokenKeeper {
    /// Starts the thread. It ends with the process.
    ///
    /// # Errors
    /// When a file of the section cannot be used.
    pub(super) fn start(section: &str, access: &TokenAccess) -> Result<Arc<Self>, AccessError> {
        let fetcher = TokenFetcher::new(access)?;
        let keeper = Arc::new(Self {
            section: section.to_owned(),
            access: access.clone(),
            state: Mutex::default(),
            attempted: Condvar::new(),
            wanted: Notify::new(),
        });
        let keeping = Arc::clone(&keeper);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be created").block_on(keeping.keep(&fetcher));
        };
        let spawned = std::thread::Builder::new().name("kafka-tokens".to_owned()).spawn(run);
        spawned.map_err(|error| AccessError::passing(format!("cannot start a thread: {error}"), "raise the limit of threads"))?;
        Ok(keeper)
    }

    pub(super) fn is_of(&self, section: &str, access: &TokenAccess) -> bool {
        self.section == section && self.access == *access
    }

    /// Gives the client every token from now on, until [`Self::unregister`].
    pub(super) fn register(&self, client: TokenClient) -> u64 {
        let mut state = self.state();
        match (state.valid(), &state.failure) {
            (Some(token), _) => self.give(&client, token),
            (None, Some(failure)) => client.fail(&failure.text),
            (None, None) => {}
        }
        let number = state.next_number;
        state.next_number += 1;
        state.clients.insert(number, client);
        drop(state);
        self.wanted.notify_one();
        number
    }

    pub(super) fn unregister(&self, number: u64) {
        self.state().clients.remove(&number);
    }

    /// Waits until there is a valid token. Blocking; tells `on_failure` of each failed attempt.
    ///
    /// # Errors
    /// When an attempt fails for a reason that lasts, or there is none until the deadline.
    pub(in crate::connectors::kafka) fn wait(
        &self,
        until: Instant,
        mut on_failure: impl FnMut(&AccessError),
    ) -> Result<(), AccessError> {
        let mut state = self.state();
        state.waiting += 1;
        self.wanted.notify_one();
        let mut seen = state.attempts;
        let outcome = loop {
            if state.valid().is_some() {
                break Ok(());
            }
            if let Some(failure) = state.failure.clone().filter(|_| state.attempts > seen) {
                seen = state.attempts;
                if failure.is_lasting {
                    break Err(failure);
                }
                on_failure(&failure);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let silent = || AccessError::passing("no token arrives in time", "see whether the issuer of the tokens is up");
                break Err(state.failure.clone().unwrap_or_else(silent));
            }
            state = self.attempted.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting -= 1;
        outcome
    }

    async fn keep(&self, fetcher: &TokenFetcher) {
        let mut failures = 0;
        loop {
            while !self.state().is_wanted() {
                self.wanted.notified().await;
            }
            let started = now();
            let left = self.state().valid().map(|token| life(token, started));
            self.on_expiry();
            match fetcher.fetch(started, left).await {
                Ok(token) => {
                    failures = 0;
                    let renew_at = now() + i64::try_from(pause(life(&token, now())).as_millis()).unwrap_or_default();
                    self.on_token(token);
                    // The clock of a timer may stand while the machine sleeps.
                    while now() < renew_at {
                        let left = u64::try_from(renew_at - now()).unwrap_or_default();
                        tokio::time::sleep(Duration::from_millis(left).min(CLOCK_INTERVAL)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.on_failure(error);
                    let pause = backoff(failures + 1, jitter()).min(MAX_BACKOFF);
                    // The clients learn of the expiry when it comes.
                    let left = self.state().valid().map(|token| life(token, now()));
                    let pause = left.map_or(pause, |left| pause.min(left + Duration::from_millis(1)));
                    // A start that waits need not wait for this.
                    let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
                }
            }
        }
    }

    fn on_token(&self, token: AccessToken) {
        let mut state = self.state();
        if state.failure.take().is_some() && state.token.is_some() {
            tracing::info!("The token of `{}` is renewed.", self.section);
        }
        state.clients.values().for_each(|client| self.give(client, &token));
        state.attempts += 1;
        state.token = Some(token);
        self.attempted.notify_all();
    }

    /// Tells the clients why they have no valid token, if the last attempt failed.
    fn on_expiry(&self) {
        let state = self.state();
        if let (None, Some(failure)) = (state.valid(), &state.failure) {
            state.clients.values().for_each(|client| client.fail(&failure.text));
        }
    }

    fn on_failure(&self, error: AccessError) {
        let mut state = self.state();
        let is_new = state.failure.as_ref() != Some(&error);
        if state.valid().is_none() {
            state.clients.values().for_each(|client| client.fail(&error.text));
        }
        if is_new && let Some(token) = &state.token {
            let left = humantime::format_duration(Duration::from_secs(life(token, now()).as_secs())).to_string();
            tracing::warn!(reason = error.text, left, "Cannot renew the token of `{}`.", self.section);
        }
        state.failure = Some(error);
        state.attempts += 1;
        self.attempted.notify_all();
    }

    fn give(&self, client: &TokenClient, token: &AccessToken) {
        let receiver = &client.receiver;
        match receiver.set(token.value.reveal(), token.expires_at, &token.principal, &self.access.extensions) {
            Ok(()) => client.log.token_given(),
            Err(why) => client.fail(&format!("the token of `{}` cannot be used: {why}", self.section)),
        }
    }

    fn state(&self) -> MutexGuard<'_, KeeperState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how long the token is still valid.
fn life(token: &AccessToken, now: i64) -> Duration {
    Duration::from_millis(u64::try_from(token.expires_at - now).unwrap_or_default())
}

/// Returns the time in milliseconds since the Unix epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns a number between 0 and 1 that differs between processes.
fn jitter() -> f64 {
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    f64::from(nanoseconds % 1000) / 1000.0
}
