//! The HTTP endpoint for monitoring: `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::pipeline::Failure;

/// The most concurrent connections; others wait.
const MAX_CONNECTIONS: usize = 16;
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// A run or an exporter that the endpoint reports on.
pub(crate) trait Monitored: Send + Sync + 'static {
    /// Returns the page of metrics.
    fn metrics(&self) -> Bytes;

    /// Returns whether it is ready.
    ///
    /// # Errors
    /// The reason, when it is not ready.
    fn ready(&self) -> Result<(), String>;
}

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// Parses an address: `9464` or `:9464` is a port of the loopback interface, `0.0.0.0:9464` is open to all.
///
/// # Errors
/// When it is not an address.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port: &str| port.parse().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).ok();
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let wrong = || "not an address: use a port, as in 9464, or an address and a port, as in 0.0.0.0:9464".to_owned();
    loopback(port).or_else(|| text.parse().ok()).ok_or_else(wrong)
}

impl Endpoint {
    /// Listens; port 0 is any free port.
    ///
    /// # Errors
    /// When the listener cannot be bound.
    pub(crate) async fn listen(address: SocketAddr) -> Result<Self, Failure> {
        let failure = |error: std::io::Error| {
            let failure = Failure::new(format!("cannot serve metrics at {address}"));
            match error.kind() {
                std::io::ErrorKind::AddrInUse => failure.because("the port is in use"),
                _ => failure.because(error),
            }
        };
        let listener = TcpListener::bind(address).await.map_err(failure)?;
        let address = listener.local_addr().map_err(failure)?;
        Ok(Self { listener, address })
    }

    /// Returns the bound address.
    #[must_use]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until it is dropped.
    pub(crate) async fn serve(self, exposed: Arc<dyn Monitored>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "Accepting a connection failed.");
                    // A transient error, such as no free file descriptor.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let exposed = Arc::clone(&exposed);
            tokio::spawn(async move {
                let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&*exposed, &request))));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST_TIMEOUT)
                    .max_buf_size(MAX_HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                // A client may disconnect in any way.
                let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                drop(place);
            });
        }
    }
}

fn answer(exposed: &dyn Monitored, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: Bytes| {
        let mut response = Response::new(Full::new(text));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8".parse().expect("a header's value"));
        response
    };
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        response.headers_mut().insert(ALLOW, "GET".parse().expect("a header's value"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, exposed.metrics()),
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match exposed.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n".into()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n").into()),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    struct StubPages(Result<(), String>);

    impl Monitored for StubPages {
        fn metrics(&self) -> Bytes {
            Bytes::from_static(b"up 1\n")
        }

        fn ready(&self) -> Result<(), String> {
            self.0.clone()
        }
    }

    /// Returns the response to a request; it closes the connection.
    async fn answer_to(pages: StubPages, request: &[u8]) -> String {
        let endpoint = Endpoint::listen(parse_address("0").unwrap()).await.unwrap();
        let mut stream = TcpStream::connect(endpoint.address()).await.unwrap();
        let serving = tokio::spawn(endpoint.serve(Arc::new(pages)));
        let mut answer = Vec::new();
        // The endpoint may hang up on a request before it was sent whole.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut answer).await;
        serving.abort();
        String::from_utf8(answer).unwrap()
    }

    fn get(path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn three_pages_are_served_and_no_other() {
        let page = answer_to(StubPages(Ok(())), &get("/metrics")).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nup 1\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        assert!(answer_to(StubPages(Ok(())), &get("/healthz")).await.ends_with("ok\n"));
        assert!(answer_to(StubPages(Ok(())), &get("/readyz")).await.starts_with("HTTP/1.1 200 "));
        let waiting = answer_to(StubPages(Err("no round yet".to_owned())), &get("/readyz")).await;
        assert!(waiting.starts_with("HTTP/1.1 503 ") && waiting.ends_with("not ready: no round yet\n"), "{waiting}");
        assert!(answer_to(StubPages(Ok(())), &get("/etc/passwd")).await.starts_with("HTTP/1.1 404 "));
        let posted =
            answer_to(StubPages(Ok(())), b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .await;
        assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("allow: GET\r\n"), "{posted}");
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_or_invalid_is_not_answered_with_a_page() {
        let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nPadding: {}\r\n\r\n", "x".repeat(2 * MAX_HEAD_BYTES));
        for request in [large.into_bytes(), b"\x16\x03\x01\x00\xff\r\n\r\n".to_vec()] {
            let answer = answer_to(StubPages(Ok(())), &request).await;
            assert!(!answer.contains("200 OK") && !answer.contains("up 1"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_disconnected() {
        assert!(!answer_to(StubPages(Ok(())), b"GET /metrics HTTP/1.1\r\nHost:").await.contains("up 1"));
    }

    #[tokio::test]
    async fn an_address_in_use_is_reported() {
        let endpoint = Endpoint::listen(parse_address("0").unwrap()).await.unwrap();
        let failure = Endpoint::listen(endpoint.address()).await.unwrap_err();
        assert_eq!(failure.what, format!("cannot serve metrics at {}", endpoint.address()));
        assert_eq!(failure.causes, ["the port is in use"]);
    }

    #[test]
    fn only_a_full_address_is_open_to_others() {
        let read = |text: &str| parse_address(text).map(|address| address.to_string());
        for text in ["9464", ":9464", "localhost:9464", "127.0.0.1:9464"] {
            assert_eq!(read(text).as_deref(), Ok("127.0.0.1:9464"), "{text}");
        }
        assert_eq!(read("0.0.0.0:9464").as_deref(), Ok("0.0.0.0:9464"));
        assert_eq!(read("[::1]:9464").as_deref(), Ok("[::1]:9464"));
        for text in ["", "host", "0.0.0.0", "70000", "example.com:80"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
