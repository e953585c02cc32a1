//! Short HTTP requests to those that give out tokens and credentials.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, redirect};

use crate::connectors::connect_error::{ConnectCause, ConnectStep};

/// More than this is not read of an answer.
const MAX_BODY: usize = 1 << 20;

/// A client that follows no redirect and uses no proxy: what it sends is secret.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(Client);

/// A request.
#[derive(Debug)]
pub(crate) struct HttpCall<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: String,
    pub(crate) deadline: Duration,
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl HttpClient {
    /// Returns a client that trusts the CAs of this PEM file besides the well-known ones; `None` if it holds none.
    pub(crate) fn new(ca: Option<&[u8]>) -> Option<Self> {
        let mut builder = Client::builder().redirect(redirect::Policy::none()).no_proxy();
        if let Some(pem) = ca {
            let certificates = Certificate::from_pem_bundle(pem).ok().filter(|certificates| !certificates.is_empty())?;
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        builder = builder.user_agent(concat!("sdl/", env!("CARGO_PKG_VERSION")));
        builder.build().ok().map(Self)
    }

    /// Makes one request and reads its answer.
    ///
    /// # Errors
    /// When none comes within the deadline.
    pub(crate) async fn call(&self, call: HttpCall<'_>) -> Result<HttpAnswer, ConnectCause> {
        let HttpCall { method, url, headers, body, deadline } = call;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let (name, value) = (HeaderName::try_from(*name), HeaderValue::try_from(*value));
            let (Ok(name), Ok(mut value)) = (name, value) else {
                let text = "a credential has a character that is not allowed in a header".to_owned();
                return Err(ConnectCause::Other { step: None, text, hint: None, is_lasting: true });
            };
            value.set_sensitive(true);
            map.insert(name, value);
        }
        let request = self.0.request(method, url).headers(map).body(body).timeout(deadline);
        let failed = |error: reqwest::Error| cause(&error, deadline);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
            if body.len() == MAX_BODY {
                break;
            }
        }
        Ok(HttpAnswer { status, body })
    }
}

fn cause(error: &reqwest::Error, deadline: Duration) -> ConnectCause {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let all = causes.join(": ");
    if error.is_timeout() {
        return ConnectCause::NoAnswer(Some(deadline));
    }
    let is_closed =
        ["onnection closed", "eset by peer", "Broken pipe", "incomplete message"].iter().any(|part| all.contains(part));
    ConnectCause::of_text(&all).unwrap_or_else(|| match causes.last() {
        Some(_) if is_closed => ConnectCause::Closed(ConnectStep::Request),
        Some(last) => ConnectCause::other(ConnectStep::Connect, last.to_lowercase()),
        None => ConnectCause::Closed(ConnectStep::Request),
    })
}

/// Returns the body of a form.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{}={}", percent_encoded(name), percent_encoded(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

/// Returns `text` with every byte encoded that RFC 3986 does not leave unreserved.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
