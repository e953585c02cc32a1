//! The nodes of a section, and calls to them: in turn, each with a deadline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use elasticsearch::Elasticsearch;
use elasticsearch::auth::{ClientCertificate, Credentials};
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::headers::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::connectors::connect_error::WaitLog;
use crate::connectors::elastic::cluster::ClusterInfo;
use crate::connectors::elastic::diagnosis::{self, CallError};
use crate::connectors::elastic::lenient_json;
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::signing::RequestSigner;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::{ElasticLogin, ElasticSection, HttpProxy};

/// The timeout of a short request.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node that did not answer is left out while there are others.
const NODE_BACKOFF: Duration = Duration::from_secs(10);
/// How long a node that was left out may take to answer again.
const NODE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between attempts of a first contact.
const CONNECT_BACKOFF: Duration = Duration::from_millis(250);
/// Why a node has no memory or thread left for a request.
const OVERLOADS: [&str; 3] = ["circuit_breaking_exception", "es_rejected_execution_exception", "rejected_execution_exception"];

/// A cluster that has answered.
pub struct ElasticClient {
    section: ElasticSection,
    nodes: Vec<ClusterNode>,
    next: AtomicUsize,
    server: ClusterInfo,
    /// How long the first contact may take.
    wait: Duration,
}

struct ClusterNode {
    /// Scheme, host and port.
    url: String,
    client: Elasticsearch,
    signer: Option<RequestSigner>,
    left_out_until: Mutex<Option<Instant>>,
}

#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<RequestBody>,
    pub(super) deadline: Duration,
}

#[derive(Debug)]
pub(super) enum RequestBody {
    Json(Bytes),
    Lines(Bytes),
    Gzip(Bytes),
}

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// Whether it has the header of Elasticsearch.
    pub(super) is_elastic: bool,
}

impl Reply {
    /// Returns the JSON body; null if it is not JSON.
    pub(super) fn json(&self) -> Value {
        lenient_json::value(&self.body)
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::Get, path, query: &[], body: None, deadline: QUESTION_TIMEOUT }
    }

    pub(super) fn put(path: &'a str, body: &Value) -> Self {
        Self { method: Method::Put, body: Some(RequestBody::Json(body.to_string().into())), ..Self::get(path) }
    }

    pub(super) fn post(path: &'a str, body: &Value) -> Self {
        Self { method: Method::Post, ..Self::put(path, body) }
    }

    pub(super) fn with(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }
}

/// Checks the files of a section.
///
/// # Errors
/// When a file cannot be read, or is not a certificate or key.
pub fn check(section: &ElasticSection) -> Result<(), Failure> {
    section.urls.iter().try_for_each(|url| ClusterNode::new(section, url, None).map(drop))
}

impl ElasticClient {
    /// Connects to the cluster of `section`; waits for an answer for up to `wait`.
    ///
    /// # Errors
    /// When no node answers in time, or the login is rejected, or the version is not supported.
    pub async fn connect(section: &ElasticSection, wait: Duration) -> Result<Self, ConnectorError> {
        let signer = RequestSigner::of(section);
        let node = |url: &String| ClusterNode::new(section, url, signer.clone());
        let nodes = section.urls.iter().map(node).collect::<Result<_, _>>()?;
        let mut client =
            Self { section: section.clone(), nodes, next: AtomicUsize::new(0), server: ClusterInfo::default(), wait };
        let until = Instant::now() + wait;
        let mut last: Option<CallError> = None;
        let mut lasting = 0;
        let mut log = WaitLog::new(&section.name, wait);
        loop {
            // One silent node leaves time for the others.
            let share = wait / u32::try_from(client.nodes.len()).unwrap_or(u32::MAX);
            let left = until.saturating_duration_since(Instant::now()).min(share);
            let left = left.clamp(Duration::from_millis(100), QUESTION_TIMEOUT);
            match client.identify(left).await {
                Ok(server) => {
                    client.server = server.require_supported(section)?;
                    return Ok(client);
                }
                Err(error) if error.cause.is_lasting() => {
                    // One bad node among several does not end the start.
                    lasting += 1;
                    if lasting >= client.nodes.len() {
                        return Err(diagnosis::diagnose(section, &error, wait).into());
                    }
                    client.next.store(lasting, Ordering::Relaxed);
                    last = Some(error);
                }
                Err(error) if error.is_unexplained() => _ = last.get_or_insert(error),
                Err(error) => last = Some(error),
            }
            if let Some(error) = &last {
                let failure = || diagnosis::diagnose(section, error, wait);
                if Instant::now() + CONNECT_BACKOFF >= until {
                    return Err(log.gave_up(failure()).into());
                }
                log.on_failed_attempt(failure);
            }
            tokio::time::sleep(CONNECT_BACKOFF).await;
        }
    }

    /// Identifies the cluster. An answer without details suffices: some users may not ask.
    async fn identify(&self, deadline: Duration) -> Result<ClusterInfo, CallError> {
        let root = self.call(Request { deadline, ..Request::get("/") }).await?;
        // AWS answers so to a signature that it does not accept.
        if root.status == 401 || root.status == 403 && matches!(self.section.login, ElasticLogin::Aws { .. }) {
            return Err(CallError::login(&self.section));
        }
        if matches!(root.status, 429 | 500..) {
            return Err(CallError::status(root.status, &root.json()));
        }
        let query = [("filter_path", "nodes.*.version,nodes.*.http.max_content_length_in_bytes")];
        let local = self.call(Request { deadline, ..Request::get("/_nodes/_local").with(&query) }).await?;
        if !root.is_success() && matches!(local.status, 401) {
            return Err(CallError::login(&self.section));
        }
        let (about, nodes) = (root.json(), local.json());
        if !root.is_elastic && about.get("version").is_none() && (root.is_success() || local.status == 404) {
            return Err(CallError::wrong_server());
        }
        Ok(ClusterInfo::of_answers(root.is_elastic || local.is_elastic, &about, &nodes))
    }

    /// Returns the name of the section that it is connected to.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.section.name
    }

    pub(super) fn section(&self) -> &ElasticSection {
        &self.section
    }

    /// Returns product, version and limits of the cluster.
    #[must_use]
    pub fn server(&self) -> &ClusterInfo {
        &self.server
    }

    /// Calls the next node, once.
    pub(super) async fn call(&self, call: Request<'_>) -> Result<Reply, CallError> {
        let node = self.next_node().await;
        let answered = node.call(call).await;
        let is_away = answered.as_ref().map_or(true, |reply| is_gateway_error(reply.status));
        *node.left_out_until() = is_away.then(|| Instant::now() + NODE_BACKOFF);
        answered
    }

    /// Calls the nodes in turn until one answers: each at least once, and for as long as the first contact may take. A node that has no
    /// memory or thread left for the request is asked again.
    ///
    /// # Errors
    /// When none does.
    pub(super) async fn ask<'c>(&self, call: impl Fn() -> Request<'c>) -> Result<Reply, Failure> {
        let until = Instant::now() + self.wait;
        for tries in 1.. {
            match self.call(call()).await {
                // A proxy whose node is away answers for that node alone.
                Ok(reply) if is_gateway_error(reply.status) && tries < self.nodes.len() => {}
                Ok(reply) if is_overload(&reply) && Instant::now() + CONNECT_BACKOFF < until => {
                    tokio::time::sleep(CONNECT_BACKOFF).await;
                }
                Ok(reply) => return Ok(reply),
                Err(error)
                    if tries >= self.nodes.len() && (error.cause.is_lasting() || Instant::now() + CONNECT_BACKOFF >= until) =>
                {
                    return Err(diagnosis::diagnose(&self.section, &error, self.wait.max(QUESTION_TIMEOUT)));
                }
                Err(_) if tries < self.nodes.len() => {}
                Err(_) => tokio::time::sleep(CONNECT_BACKOFF).await,
            }
        }
        unreachable!("the attempts end with an answer or an error")
    }

    /// Counts the documents of an index whose `field` is `value`, those that were written just now included.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn count(&self, index: &str, field: &str, value: i32) -> Result<i64, ConnectorError> {
        let (refresh, count) = (format!("/{}/_refresh", in_path(index)), format!("/{}/_count", in_path(index)));
        let query = json!({"query": {"term": {field: value}}});
        self.ask(|| Request::post(&refresh, &json!({}))).await?;
        let reply = self.ask(|| Request::post(&count, &query)).await?;
        reply.json()["count"].as_i64().ok_or_else(|| {
            let what = format!("cannot count the documents of `{index}` of `{}`", self.name());
            Failure::new(what).because(format!("status {}", reply.status)).into()
        })
    }

    /// Returns the next node that is not left out; the next one if all are.
    async fn next_node(&self) -> &ClusterNode {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let nodes = (0..self.nodes.len()).map(|at| &self.nodes[first.wrapping_add(at) % self.nodes.len()]);
        for node in nodes.clone() {
            if self.nodes.len() == 1 || node.is_up().await {
                return node;
            }
        }
        nodes.clone().next().expect("a section has at least one URL")
    }
}

impl ClusterNode {
    fn new(section: &ElasticSection, url: &str, signer: Option<RequestSigner>) -> Result<Self, Failure> {
        let wrong = |key: &str, why: String| {
            Failure::new(format!("cannot use `{key}` of `{}`", section.name))
                .because(why)
                .hint(format!("correct `{key}` under [{}]", section.name))
        };
        let read = |key: &str, path: &str| std::fs::read(path).map_err(|error| wrong(key, format!("`{path}`: {error}")));
        let parsed = url.parse().map_err(|_| wrong("url", format!("`{url}` is not a URL")))?;
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(parsed))
            .enable_meta_header(false)
            .header(USER_AGENT, HeaderValue::from_static(concat!("sdl/", env!("CARGO_PKG_VERSION"))))
            // The answers are short, and inflating them costs more than reading them.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        builder = match &section.proxy {
            // Not even that of the environment.
            None => builder.disable_proxy(),
            Some(HttpProxy { url, login }) => {
                let url = url.parse().map_err(|_| wrong("proxy", format!("`{url}` is not a URL")))?;
                let login = login.as_ref().map(|(username, password)| (username.as_str(), password.reveal()));
                builder.proxy(url, login.map(|(username, _)| username), login.map(|(_, password)| password))
            }
        };
        if let Some(login) = authorization(&section.login) {
            let mut value = HeaderValue::try_from(login)
                .map_err(|_| wrong(login_key(&section.login), "it has a character that is not allowed in a header".to_owned()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if section.insecure {
            builder = builder.cert_validation(CertificateValidation::None);
        } else if let Some(path) = &section.ca_file {
            let invalid = |_| wrong("ca_file", format!("`{path}` has no certificate in PEM"));
            let certificates = Certificate::from_pem(&read("ca_file", path)?).map_err(invalid)?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        match (&section.client_cert, &section.client_key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                let pem = [read("client_cert", certificate)?, b"\n".to_vec(), read("client_key", key)?].concat();
                builder = builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem)));
            }
            (Some(_), None) => return Err(wrong("client_key", "it is missing beside `client_cert`".to_owned())),
            (None, Some(_)) => return Err(wrong("client_cert", "it is missing beside `client_key`".to_owned())),
        }
        let key = if section.client_cert.is_some() { "client_cert" } else { "ca_file" };
        let transport = builder.build().map_err(|_| wrong(key, "its file has no certificate or key in PEM".to_owned()))?;
        Ok(Self { url: url.to_owned(), client: Elasticsearch::new(transport), signer, left_out_until: Mutex::new(None) })
    }

    /// Returns whether the node is not left out. After the back-off it is asked first: nothing long is sent to a node that is silent.
    async fn is_up(&self) -> bool {
        let now = Instant::now();
        {
            let mut left_out = self.left_out_until();
            match *left_out {
                None => return true,
                Some(until) if until > now => return false,
                Some(_) => *left_out = Some(now + NODE_BACKOFF),
            }
        }
        let is_up = self.call(Request { deadline: NODE_CHECK_TIMEOUT, ..Request::get("/") }).await.is_ok();
        if is_up {
            *self.left_out_until() = None;
        }
        is_up
    }

    fn left_out_until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.left_out_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, call: Request<'_>) -> Result<Reply, CallError> {
        let Request { method, path, query, body, deadline } = call;
        let mut headers = HeaderMap::new();
        let body = body.map(|body| match body {
            RequestBody::Json(bytes) => bytes,
            RequestBody::Lines(bytes) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
                bytes
            }
            RequestBody::Gzip(bytes) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                bytes
            }
        });
        let failed = |error: elasticsearch::Error| CallError::new(&self.url, &error, deadline);
        let (path, query) = match &self.signer {
            // The query is signed in one form, and must be sent in it.
            Some(signer) => {
                let body = body.as_deref().unwrap_or_default();
                let in_form = signer.sign(&mut headers, &self.url, (method, path, query), body).await;
                (in_form.map_err(|error| CallError::access(&error))?, None)
            }
            None => (path.to_owned(), Some(query)),
        };
        let response = self.client.send(method, &path, headers, query, body, Some(deadline)).await.map_err(failed)?;
        let status = response.status_code().as_u16();
        let is_elastic = response.headers().get("x-elastic-product").is_some_and(|name| name == "Elasticsearch");
        let body = response.bytes().await.map_err(failed)?;
        Ok(Reply { status, body, is_elastic })
    }
}

/// Returns whether a node refuses a request because it has too much to do.
fn is_overload(reply: &Reply) -> bool {
    let kind = |json: &serde_json::Value| json["error"]["type"].as_str().map(str::to_owned);
    reply.status == 429 && kind(&reply.json()).is_some_and(|kind| OVERLOADS.contains(&kind.as_str()))
}

/// Returns whether a proxy answers for an unreachable node.
fn is_gateway_error(status: u16) -> bool {
    matches!(status, 502 | 504)
}

/// Returns the header that logs in.
fn authorization(login: &ElasticLogin) -> Option<String> {
    match login {
        ElasticLogin::None | ElasticLogin::Aws { .. } => None,
        ElasticLogin::Basic { username, password } => {
            Some(format!("Basic {}", BASE64.encode(format!("{username}:{}", password.reveal()))))
        }
        ElasticLogin::ApiKey(key) => Some(format!("ApiKey {}", key.reveal())),
        ElasticLogin::Bearer(token) => Some(format!("Bearer {}", token.reveal())),
    }
}

fn login_key(login: &ElasticLogin) -> &'static str {
    match login {
        ElasticLogin::ApiKey(_) => "api_key",
        ElasticLogin::Bearer(_) => "bearer",
        _ => "password",
    }
}
