//! Requests and responses on one connection.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::auth::{LoginStep, SaslLogin};
use crate::connectors::kafka::wire::connection::in_flight::{InFlightRequests, UnansweredRequest};
use crate::connectors::kafka::wire::connection::stream;
use crate::connectors::kafka::wire::connection::transfer::{self, QueuedRequest};
use crate::connectors::kafka::wire::error::WireError;
use crate::connectors::kafka::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, MessageReader, SaslAuthenticateRequest, SaslHandshakeRequest, UNSUPPORTED_VERSION,
    WireRequest, encode_request,
};

/// Requests that may wait to be written.
const QUEUE: usize = 16;
/// The broker's code of a mechanism that it does not offer.
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
/// More messages than any mechanism has.
const LONGEST_LOGIN: usize = 8;

/// How to connect.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The name of this client in the broker's logs and quotas.
    pub client_id: String,
    /// For the connection until TLS is established, for each request of the login, and for each other request by default.
    pub timeout: Duration,
    /// The largest response.
    pub most_response_bytes: usize,
    /// TLS, if the listener has it.
    pub tls: Option<Arc<ClientConfig>>,
    /// The login, if the listener wants one.
    pub login: Option<SaslLogin>,
}

/// A connection to one broker. Dropping it closes it.
pub struct Connection {
    queue: mpsc::Sender<QueuedRequest>,
    in_flight: Arc<InFlightRequests>,
    versions: ApiVersionsResponse,
    next_id: AtomicI32,
    options: ConnectOptions,
    /// When to log in again; held while a login lasts, so that no request gets between its messages.
    login_again: Mutex<Option<Instant>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.in_flight.fail(&WireError::Closed);
    }
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When a step fails or lasts too long.
    pub async fn open(address: &BrokerAddress, options: ConnectOptions) -> Result<Self, WireError> {
        let connecting = tokio::time::timeout(options.timeout, stream::connect(address, options.timeout, options.tls.as_ref()));
        let (read, write) = connecting.await.unwrap_or(Err(WireError::NoAnswer(options.timeout)))?;
        Self::start(read, write, options).await
    }

    /// Begins to speak on a stream, and logs in.
    pub(super) async fn start(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        options: ConnectOptions,
    ) -> Result<Self, WireError> {
        let in_flight = Arc::new(InFlightRequests::default());
        let (queue, queued) = mpsc::channel(QUEUE);
        let tasks = [
            tokio::spawn(transfer::write_requests(write, queued, Arc::clone(&in_flight))),
            tokio::spawn(transfer::read_responses(read, options.most_response_bytes, Arc::clone(&in_flight))),
        ];
        let (versions, next_id, login_again) = (ApiVersionsResponse::default(), AtomicI32::new(1), Mutex::new(None));
        let mut connection = Self { queue, in_flight, versions, next_id, options, login_again, tasks };
        connection.versions = connection.ask_versions().await?;
        if let Some(login) = &connection.options.login {
            *connection.login_again.lock().await = connection.log_in(login).await?;
        }
        Ok(connection)
    }

    /// Returns the newest version of a request that the broker and this client know.
    #[must_use]
    pub fn version<R: WireRequest>(&self) -> Option<i16> {
        self.versions.common::<R>()
    }

    /// Returns why the connection can no longer be used.
    #[must_use]
    pub fn failure(&self) -> Option<WireError> {
        self.in_flight.failure()
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    /// When the connection fails, or the broker does not know the request.
    pub async fn call<R: WireRequest>(&self, request: &R) -> Result<R::Response, WireError> {
        self.send(request, self.options.timeout).await?.response().await
    }

    /// Puts a request into the queue of the connection; requests leave in the order of these calls. The response may last
    /// `timeout` from when the request leaves, without the time for which the broker throttles the client.
    ///
    /// # Errors
    /// When the connection fails, or the broker does not know the request.
    pub async fn send<R: WireRequest>(&self, request: &R, timeout: Duration) -> Result<PendingResponse<R>, WireError> {
        let version = self.versions.common_up_to::<R>(request.newest_version()).ok_or(WireError::Unsupported(R::KEY))?;
        let Some(login) = &self.options.login else { return self.enqueue(request, version, timeout).await };
        let mut login_again = self.login_again.lock().await;
        if login_again.is_some_and(|due| due <= Instant::now()) {
            *login_again = self.log_in(login).await?;
        }
        self.enqueue(request, version, timeout).await
    }

    async fn enqueue<R: WireRequest>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<PendingResponse<R>, WireError> {
        let correlation_id = self.next_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let parts = encode_request(request, version, correlation_id, &self.options.client_id);
        let (reply, response) = oneshot::channel();
        let request = UnansweredRequest { correlation_id, timeout, reply };
        if self.queue.send(QueuedRequest { parts, request }).await.is_err() {
            return Err(self.failure().unwrap_or(WireError::Closed));
        }
        Ok(PendingResponse { response, version, in_flight: Arc::clone(&self.in_flight), request: PhantomData })
    }

    async fn ask_versions(&self) -> Result<ApiVersionsResponse, WireError> {
        let newest = *ApiVersionsRequest::VERSIONS.end();
        let mut versions = self.enqueue(&ApiVersionsRequest, newest, self.options.timeout).await?.response().await?;
        if versions.error == UNSUPPORTED_VERSION {
            versions = self.enqueue(&ApiVersionsRequest, 0, self.options.timeout).await?.response().await?;
        }
        match versions.error {
            0 => Ok(versions),
            code => Err(WireError::Refused { request: ApiVersionsRequest::KEY, code }),
        }
    }

    /// Logs in; returns when to do so again.
    async fn log_in(&self, login: &SaslLogin) -> Result<Option<Instant>, WireError> {
        // A login that is dropped half-way leaves the broker in the middle of it.
        let mut interruption = LoginInterruption { in_flight: &self.in_flight, is_over: false };
        let result = self.exchange_login(login).await;
        interruption.is_over = true;
        result.inspect_err(|failure| self.in_flight.fail(failure))
    }

    async fn exchange_login(&self, login: &SaslLogin) -> Result<Option<Instant>, WireError> {
        let handshake = SaslHandshakeRequest { mechanism: login.mechanism() };
        let offered = self.exchange(&handshake).await?;
        match offered.error {
            0 => {}
            UNSUPPORTED_SASL_MECHANISM => {
                let wanted = login.mechanism().to_owned();
                return Err(WireError::MechanismNotOffered { wanted, offered: offered.mechanisms });
            }
            code => return Err(WireError::Refused { request: SaslHandshakeRequest::KEY, code }),
        }
        let starting = tokio::time::timeout(self.options.timeout, login.start()).await;
        let (mut exchange, mut message) =
            starting.unwrap_or_else(|_| Err(WireError::Credentials(format!("no token within {:?}", self.options.timeout))))?;
        for _ in 0..LONGEST_LOGIN {
            let asked = Instant::now();
            let answer = self.exchange(&SaslAuthenticateRequest { message: &message }).await?;
            if answer.error != 0 {
                let reason = answer.error_message.unwrap_or_else(|| format!("error code {}", answer.error));
                return Err(WireError::AuthenticationFailed(reason));
            }
            let (same, step) = exchange.next(&answer.message).await?;
            match step {
                LoginStep::Send(next) => (exchange, message) = (same, next),
                LoginStep::Done => {
                    // Early enough for a request that is on its way when the session ends.
                    let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or_default();
                    return Ok((lifetime > 0).then(|| asked + Duration::from_millis(lifetime / 10 * 8)));
                }
            }
        }
        Err(WireError::InvalidLogin("they do not end"))
    }

    async fn exchange<R: WireRequest>(&self, request: &R) -> Result<R::Response, WireError> {
        let version = self.version::<R>().ok_or(WireError::Unsupported(R::KEY))?;
        self.enqueue(request, version, self.options.timeout).await?.response().await
    }
}

/// Ends the connection when it is dropped before the login is over.
struct LoginInterruption<'a> {
    in_flight: &'a InFlightRequests,
    is_over: bool,
}

impl Drop for LoginInterruption<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.in_flight.fail(&WireError::LoginInterrupted);
        }
    }
}

/// The response to a request that was sent. Dropping it does not withdraw the request.
pub struct PendingResponse<R> {
    response: oneshot::Receiver<Result<Bytes, WireError>>,
    version: i16,
    in_flight: Arc<InFlightRequests>,
    request: PhantomData<fn() -> R>,
}

impl<R: WireRequest> PendingResponse<R> {
    /// Waits for the response.
    ///
    /// # Errors
    /// When the connection fails, or the bytes are no response; the connection has ended then.
    pub async fn response(self) -> Result<R::Response, WireError> {
        let received = self.response.await;
        let bytes = received.unwrap_or_else(|_| Err(self.in_flight.failure().unwrap_or(WireError::Closed)))?;
        let mut header = MessageReader::new(bytes, R::has_flexible_header(self.version));
        let decoded = header.skip_tags().and_then(|()| {
            let mut body = header.with_flexibility(self.version >= R::FLEXIBLE);
            R::decode(self.version, &mut body)
        });
        let response = decoded.map_err(WireError::from).inspect_err(|error| self.in_flight.fail(error))?;
        self.in_flight.mute(R::throttle(&response));
        Ok(response)
    }
}
