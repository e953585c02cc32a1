//! The HTTP endpoint for monitoring: its listener, its connections and their limits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::pipeline::Failure;
use crate::report::pages::{Monitored, answer, busy, is_probe};

/// The most connections whose request has not arrived: one more takes the place of the oldest, which must not keep a probe waiting.
const MAX_ARRIVING: usize = 64;
/// The most connections that are sent a page; others are told to come again. Probes have nothing to do with them.
const MAX_PAGES: usize = 16;
/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection, of one request, may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEAD_BYTES: usize = 8 * 1024;

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
        let (arriving, pages) = (Arc::new(Arriving::default()), Arc::new(Semaphore::new(MAX_PAGES)));
        for number in 0_u64.. {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let place = ArrivingPlace { number, arriving: Arc::clone(&arriving) };
                    arriving.add(number, serve_connection(stream, place, Arc::clone(&pages), Arc::clone(&exposed)));
                }
                Err(error) => {
                    tracing::warn!(%error, "Accepting a connection failed.");
                    // A transient error, such as no free file descriptor.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// The connections whose request has not arrived, oldest first.
#[derive(Default)]
struct Arriving(Mutex<VecDeque<(u64, AbortHandle)>>);

impl Arriving {
    /// Starts a connection; ends the oldest if there are too many.
    fn add(&self, number: u64, connection: impl Future<Output = ()> + Send + 'static) {
        let mut arriving = self.queue();
        // Started under the lock: it leaves after it is added.
        arriving.push_back((number, tokio::spawn(connection).abort_handle()));
        if arriving.len() > MAX_ARRIVING
            && let Some((_, oldest)) = arriving.pop_front()
        {
            oldest.abort();
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection among those that arrive.
struct ArrivingPlace {
    number: u64,
    arriving: Arc<Arriving>,
}

impl ArrivingPlace {
    fn leave(&self) {
        self.arriving.queue().retain(|(number, _)| *number != self.number);
    }
}

impl Drop for ArrivingPlace {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Answers the one request of a connection. Once it is known to be for a page, the connection holds a slot for pages.
async fn serve_connection(stream: TcpStream, place: ArrivingPlace, pages: Arc<Semaphore>, exposed: Arc<dyn Monitored>) {
    let held = Mutex::new(None);
    let service = service_fn(|request| {
        place.leave();
        let slot = if is_probe(&request) { Ok(None) } else { Arc::clone(&pages).try_acquire_owned().map(Some) };
        let response = match slot {
            Ok(slot) => {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = slot;
                answer(&*exposed, &request)
            }
            Err(_) => busy(),
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client may disconnect in any way.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    async fn the_pages_of_monitoring_are_served_to_any_host_and_no_other() {
        let page = answer_to(StubPages(Ok(())), &get("/metrics")).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nup 1\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
        assert!(answer_to(StubPages(Ok(())), &get("/healthz")).await.ends_with("ok\n"));
        assert!(answer_to(StubPages(Ok(())), &get("/readyz")).await.starts_with("HTTP/1.1 200 "));
        let waiting = answer_to(StubPages(Err("no round yet".to_owned())), &get("/readyz")).await;
        assert!(waiting.starts_with("HTTP/1.1 503 ") && waiting.ends_with("not ready: no round yet\n"), "{waiting}");
        for path in ["/etc/passwd", "/", "/status.json"] {
            assert!(answer_to(StubPages(Ok(())), &get(path)).await.starts_with("HTTP/1.1 404 "), "there is no run: {path}");
        }
        let posted =
            answer_to(StubPages(Ok(())), b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .await;
        assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("allow: GET\r\n"), "{posted}");
    }

    /// Opens connections that ask for a page that is larger than their buffers, and read nothing of it.
    async fn slow_readers(endpoint: SocketAddr, count: usize) -> Vec<TcpStream> {
        let mut readers = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(endpoint).await.unwrap();
            stream.write_all(&get("/metrics")).await.unwrap();
            readers.push(stream);
        }
        readers
    }

    struct LargePage;

    impl Monitored for LargePage {
        fn metrics(&self) -> Bytes {
            vec![b'#'; 32 << 20].into()
        }

        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn probes_are_answered_while_readers_of_pages_take_every_slot_of_theirs() {
        let endpoint = Endpoint::listen(parse_address("0").unwrap()).await.unwrap();
        let address = endpoint.address();
        let serving = tokio::spawn(endpoint.serve(Arc::new(LargePage)));
        let readers = slow_readers(address, MAX_ARRIVING + MAX_PAGES).await;
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&get(path)).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            String::from_utf8(answer.to_vec()).unwrap()
        };
        while ask("/metrics").await != "HTTP/1.1 503" {}
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(path).await, "HTTP/1.1 200", "{path}");
        }
        drop(readers);
        while ask("/metrics").await != "HTTP/1.1 200" {}
        serving.abort();
    }

    #[tokio::test]
    async fn probes_are_answered_while_requests_of_others_never_arrive() {
        let endpoint = Endpoint::listen(parse_address("0").unwrap()).await.unwrap();
        let address = endpoint.address();
        let serving = tokio::spawn(endpoint.serve(Arc::new(StubPages(Ok(())))));
        let mut others = Vec::new();
        for _ in 0..3 * MAX_ARRIVING {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            others.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&get("/healthz")).await.unwrap();
        let mut answer = [0; 12];
        let answered = tokio::time::timeout(REQUEST_TIMEOUT / 2, stream.read_exact(&mut answer)).await;
        assert!(answered.is_ok_and(|read| read.is_ok()), "it waits for others");
        assert_eq!(&answer, b"HTTP/1.1 200");
        serving.abort();
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
