//! The token of SASL/OAUTHBEARER, set from outside: clients that nobody polls need one too, and rdkafka passes no extensions.

use std::ffi::{CString, c_char};

use rdkafka::admin::AdminClient;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::producer::{BaseProducer, FutureProducer, Producer as _, ProducerContext};

/// What librdkafka puts before the reason that [`TokenReceiver::fail`] is given.
pub(crate) const TOKEN_FAILED: &str = "Failed to acquire SASL OAUTHBEARER token: ";

/// A client that logs in with tokens.
pub(crate) trait LogsIn {
    /// Returns what takes the tokens; must not outlive the client.
    fn token_receiver(&self) -> TokenReceiver;
}

impl<C: ConsumerContext> LogsIn for BaseConsumer<C> {
    fn token_receiver(&self) -> TokenReceiver {
        TokenReceiver(self.client().native_ptr())
    }
}

impl<C: ProducerContext> LogsIn for BaseProducer<C> {
    fn token_receiver(&self) -> TokenReceiver {
        TokenReceiver(self.client().native_ptr())
    }
}

impl<C: ClientContext + 'static> LogsIn for FutureProducer<C> {
    fn token_receiver(&self) -> TokenReceiver {
        TokenReceiver(self.client().native_ptr())
    }
}

impl<C: ClientContext> LogsIn for AdminClient<C> {
    fn token_receiver(&self) -> TokenReceiver {
        TokenReceiver(self.inner().native_ptr())
    }
}

/// Takes the tokens of one client.
#[derive(Debug)]
pub(crate) struct TokenReceiver(*mut rd::rd_kafka_t);

// SAFETY: librdkafka's calls for tokens lock inside and may be made from any thread.
unsafe impl Send for TokenReceiver {}

impl TokenReceiver {
    /// Replaces the client's token. Connections log in with it from now on, and again before their session ends.
    ///
    /// # Errors
    /// When the token is expired, or has a character that the protocol does not allow.
    pub(crate) fn set(
        &self,
        token: &str,
        expires_at: i64,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), String> {
        let text = |text: &str| CString::new(text).map_err(|_| "it contains a NUL".to_owned());
        let (token, principal) = (text(token)?, text(principal)?);
        let texts = extensions.iter().flat_map(|(name, value)| [text(name), text(value)]).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let mut error = [0 as c_char; 256];
        // SAFETY: a live client, by the contract of `LogsIn`; the texts live during the call, which copies them.
        let code = unsafe {
            rd::rd_kafka_oauthbearer_set_token(
                self.0,
                token.as_ptr(),
                expires_at,
                principal.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                error.as_mut_ptr(),
                error.len(),
            )
        };
        // librdkafka's text can quote the token.
        if code as i32 == 0 { Ok(()) } else { Err("it is expired, or has a character that SASL does not allow".to_owned()) }
    }

    /// Tells the client why there is no valid token: it reports an error, once for each reason.
    pub(crate) fn fail(&self, why: &str) {
        let why = CString::new(why.replace('\0', "")).unwrap_or_default();
        // SAFETY: as above.
        unsafe { rd::rd_kafka_oauthbearer_set_token_failure(self.0, why.as_ptr()) };
    }
}
