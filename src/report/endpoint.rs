//! The HTTP endpoint that a monitoring system asks: `/metrics`, `/healthz` and `/readyz`, and nothing else.

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

/// The most connections at a time; more of them wait.
const CONNECTIONS: usize = 16;
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a connection may last, used or not.
const CONNECTION: Duration = Duration::from_secs(60);
/// The most bytes of a request's head.
const HEAD: usize = 8 * 1024;

/// What is told.
pub trait Exposed: Send + Sync + 'static {
    /// Returns the page of metrics.
    fn metrics(&self) -> Bytes;

    /// Returns whether the work is being done.
    ///
    /// # Errors
    /// When it is not, with the reason.
    fn ready(&self) -> Result<(), String>;
}

/// An address to listen on that is bound.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

/// Reads an address: `9464` or `:9464` is that port of the loopback interface, `0.0.0.0:9464` is open to all.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port: &str| port.parse().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).ok();
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let wrong = || "not an address: use a port, as in 9464, or an address and a port, as in 0.0.0.0:9464".to_owned();
    loopback(port).or_else(|| text.parse().ok()).ok_or_else(wrong)
}

impl Endpoint {
    /// Listens; port 0 is any that is free.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(address: SocketAddr) -> Result<Self, Failure> {
        let failure = |error: std::io::Error| {
            let failure = Failure::new(format!("cannot serve metrics at {address}"));
            match error.kind() {
                std::io::ErrorKind::AddrInUse => failure.because("the port is in use").hint("choose another with --metrics PORT"),
                _ => failure.because(error).hint("choose another address with --metrics ADDR"),
            }
        };
        let listener = TcpListener::bind(address).await.map_err(failure)?;
        let address = listener.local_addr().map_err(failure)?;
        Ok(Self { listener, address })
    }

    /// Returns the address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until it is dropped.
    pub async fn serve(self, exposed: Arc<dyn Exposed>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "A connection was not accepted.");
                    // Out of file descriptors, say: it passes, but not by trying at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let exposed = Arc::clone(&exposed);
            tokio::spawn(async move {
                let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&*exposed, &request))));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST)
                    .max_buf_size(HEAD)
                    .serve_connection(TokioIo::new(stream), service);
                // How a client leaves is its own affair.
                let _ = tokio::time::timeout(CONNECTION, connection).await;
                drop(place);
            });
        }
    }
}

fn answer(exposed: &dyn Exposed, request: &Request<Incoming>) -> Response<Full<Bytes>> {
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

    struct Told(Result<(), String>);

    impl Exposed for Told {
        fn metrics(&self) -> Bytes {
            Bytes::from_static(b"up 1\n")
        }

        fn ready(&self) -> Result<(), String> {
            self.0.clone()
        }
    }

    /// Returns what an endpoint answers to a request, which closes the connection.
    async fn asked(told: Told, request: &[u8]) -> String {
        let endpoint = Endpoint::listen(address("0").unwrap()).await.unwrap();
        let mut stream = TcpStream::connect(endpoint.address()).await.unwrap();
        let serving = tokio::spawn(endpoint.serve(Arc::new(told)));
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
    async fn three_pages_are_told_and_no_other() {
        let page = asked(Told(Ok(())), &get("/metrics")).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nup 1\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        assert!(asked(Told(Ok(())), &get("/healthz")).await.ends_with("ok\n"));
        assert!(asked(Told(Ok(())), &get("/readyz")).await.starts_with("HTTP/1.1 200 "));
        let waiting = asked(Told(Err("no round yet".to_owned())), &get("/readyz")).await;
        assert!(waiting.starts_with("HTTP/1.1 503 ") && waiting.ends_with("not ready: no round yet\n"), "{waiting}");
        assert!(asked(Told(Ok(())), &get("/etc/passwd")).await.starts_with("HTTP/1.1 404 "));
        let posted =
            asked(Told(Ok(())), b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("allow: GET\r\n"), "{posted}");
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_or_none_is_not_answered_with_a_page() {
        let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nPadding: {}\r\n\r\n", "x".repeat(2 * HEAD));
        for request in [large.into_bytes(), b"\x16\x03\x01\x00\xff\r\n\r\n".to_vec()] {
            let answer = asked(Told(Ok(())), &request).await;
            assert!(!answer.contains("200 OK") && !answer.contains("up 1"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_hung_up_on() {
        assert!(!asked(Told(Ok(())), b"GET /metrics HTTP/1.1\r\nHost:").await.contains("up 1"));
    }

    #[tokio::test]
    async fn an_address_in_use_is_said_to_be() {
        let endpoint = Endpoint::listen(address("0").unwrap()).await.unwrap();
        let failure = Endpoint::listen(endpoint.address()).await.unwrap_err();
        assert_eq!(failure.what, format!("cannot serve metrics at {}", endpoint.address()));
        assert_eq!(failure.causes, ["the port is in use"]);
    }

    #[test]
    fn only_a_full_address_is_open_to_others() {
        let read = |text: &str| address(text).map(|address| address.to_string());
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
