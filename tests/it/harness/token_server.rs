//! The token endpoint of an OpenID provider, by script.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::{HttpStub, Reply, Request};

/// The secret of the server's only client, which no output may show.
pub(crate) const CLIENT_SECRET: &str = "canary7f3a";

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Issue,
    Refuse,
    Hangup,
}

/// A server that gives out unsecured tokens, as Kafka's own validator for tests accepts them.
pub(crate) struct TokenServer {
    http: HttpStub,
    script: Arc<Mutex<Script>>,
    issued: Arc<AtomicU64>,
}

impl TokenServer {
    /// Starts a server whose tokens live this long.
    pub(crate) fn start(life: Duration) -> Self {
        let (script, issued) = (Arc::new(Mutex::new(Script::Issue)), Arc::new(AtomicU64::new(0)));
        let (of_server, counter) = (Arc::clone(&script), Arc::clone(&issued));
        let login = format!("Basic {}", STANDARD.encode(format!("loader:{CLIENT_SECRET}")));
        let http = HttpStub::start(move |request: &Request| {
            let is_client = request.headers.get("authorization") == Some(&login);
            match *of_server.lock().unwrap_or_else(PoisonError::into_inner) {
                Script::Hangup => Reply::Hangup,
                Script::Issue if is_client => {
                    counter.fetch_add(1, Ordering::SeqCst);
                    Reply::Json(200, json!({"access_token": token("loader", life), "expires_in": life.as_secs()}))
                }
                _ => Reply::Json(401, json!({"error": "invalid_client", "error_description": format!("wrong {CLIENT_SECRET}")})),
            }
        });
        Self { http, script, issued }
    }

    /// Refuses the client from now on.
    pub(crate) fn refuse(&self) {
        self.set(Script::Refuse);
    }

    /// Closes every connection without an answer from now on.
    pub(crate) fn hang_up(&self) {
        self.set(Script::Hangup);
    }

    /// Gives out tokens again.
    pub(crate) fn issue(&self) {
        self.set(Script::Issue);
    }

    fn set(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Returns the number of tokens until now.
    pub(crate) fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// Returns the requests until now.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.http.requests()
    }

    /// Returns the URL of the endpoint.
    pub(crate) fn url(&self) -> String {
        format!("{}/token", self.http.url())
    }

    /// Returns the keys of a section whose client is `id`, over a connection without TLS.
    pub(crate) fn keys(&self, id: &str) -> String {
        format!(
            "security_protocol = SASL_PLAINTEXT\nsasl_mechanism = OAUTHBEARER\noauth_token_url = {}\noauth_client_id = {id}\n\
             oauth_client_secret = {CLIENT_SECRET}\n",
            self.url()
        )
    }
}

/// Returns an unsecured token for `subject` that lives this long from now.
pub(crate) fn token(subject: &str, life: Duration) -> String {
    token_until(subject, SystemTime::now() + life)
}

/// Returns an unsecured token for `subject` that expires then.
pub(crate) fn token_until(subject: &str, expiry: SystemTime) -> String {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let claims = json!({"sub": subject, "exp": seconds(expiry), "scope": "kafka"});
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()))
}
