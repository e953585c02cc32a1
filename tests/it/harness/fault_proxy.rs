//! A TCP proxy that hurts: it stands between a Kafka client and one broker and knows where a request and a response begin.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::Cluster;

/// The API key of Produce.
pub(crate) const PRODUCE: i16 = 0;
/// The API key of Fetch.
pub(crate) const FETCH: i16 = 1;
/// The API key of `OffsetCommit`.
pub(crate) const OFFSET_COMMIT: i16 = 8;

/// What happens to the next response to a request of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// The request is done, nobody hears of it, the connection is gone.
    Drop,
    /// Half of the response arrives, then the connection is gone.
    Cut,
    /// The response arrives, and nothing after it: our side has stopped sending.
    HalfClose,
}

/// A proxy in front of one address. Dropping it closes everything.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    blows: AtomicU64,
}

#[derive(Default)]
struct State {
    delay: Duration,
    silent: bool,
    refusing: bool,
    closed: bool,
    armed: Option<(i16, Blow)>,
    connections: Vec<(TcpStream, TcpStream)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts a proxy on `listen` (`127.0.0.1:0` for any port) that forwards to `target`.
    #[track_caller]
    pub(crate) fn start(listen: &str, target: &str) -> Self {
        let listener = TcpListener::bind(listen).expect("the proxy's port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let target: SocketAddr = target.parse().expect("an address with a port");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let mut state = accepting.state();
                if state.closed {
                    return;
                }
                if state.refusing {
                    abort(&client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                let pair = |one: &TcpStream| one.try_clone().expect("a socket can be shared");
                state.connections.push((pair(&client), pair(&server)));
                drop(state);
                connect(&accepting, &client, &server);
            }
        });
        Self { address, shared }
    }

    /// Starts the proxy of a cluster of `scripts/stack`; `cluster.through_proxy()` then leads through it. One at a time.
    #[track_caller]
    pub(crate) fn before(cluster: &Cluster) -> Self {
        let (target, listen) = cluster.proxy_addresses();
        Self::start(&listen, &target)
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Delays every request and every response.
    pub(crate) fn slow(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Swallows everything until [`Proxy::heal`], as a dead cable does: nothing is lost, and nothing arrives.
    pub(crate) fn black_hole(&self) {
        self.shared.state().silent = true;
    }

    /// Ends latency, black hole and refusal.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state();
        (state.delay, state.silent, state.refusing) = (Duration::ZERO, false, false);
        self.shared.changed.notify_all();
    }

    /// Resets every connection.
    pub(crate) fn reset(&self) {
        for (client, server) in self.shared.state().connections.drain(..) {
            abort(&client);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// Resets every connection, and new ones too until [`Proxy::heal`].
    pub(crate) fn refuse(&self) {
        self.shared.state().refusing = true;
        self.reset();
    }

    /// Lets the next request of that kind through and drops its response with the connection.
    pub(crate) fn drop_next_response(&self, api: i16) {
        self.shared.state().armed = Some((api, Blow::Drop));
    }

    /// Cuts the connection in the middle of the next response of that kind.
    pub(crate) fn cut_next_response(&self, api: i16) {
        self.shared.state().armed = Some((api, Blow::Cut));
    }

    /// Stops sending after the next response of that kind, with the other direction left open.
    pub(crate) fn half_close_after(&self, api: i16) {
        self.shared.state().armed = Some((api, Blow::HalfClose));
    }

    /// Returns how many of the armed blows have fallen.
    pub(crate) fn blows(&self) -> u64 {
        self.shared.blows.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        self.reset();
        // Wakes the thread that accepts, so that it sees the end and frees the port.
        let _ = TcpStream::connect(self.address);
    }
}

/// Closes a socket with a reset: the last holder's close sends it.
fn abort(socket: &TcpStream) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Read);
}

/// The requests that a response is awaited for and that a blow is meant for, by correlation id.
type Marked = Arc<Mutex<HashMap<i32, Blow>>>;

fn connect(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
    let marked = Marked::default();
    let (marking, striking) = (Arc::clone(&marked), marked);
    let (arming, counting) = (Arc::clone(shared), Arc::clone(shared));
    let pair = |one: &TcpStream| one.try_clone().expect("a socket can be shared");
    let (from_client, to_client, from_server, to_server) = (pair(client), pair(client), pair(server), pair(server));
    pump(shared, from_client, to_server, move |frame, to| {
        let mut state = arming.state();
        if let Some((api, blow)) = state.armed
            && number(frame, 4).map(i16::from_be_bytes) == Some(api)
            && let Some(correlation) = number(frame, 8).map(i32::from_be_bytes)
        {
            state.armed = None;
            marking.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation, blow);
        }
        drop(state);
        to.write_all(frame).is_ok()
    });
    pump(shared, from_server, to_client, move |frame, to| {
        let correlation = number(frame, 4).map(i32::from_be_bytes);
        let blow = correlation.and_then(|id| striking.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
        let goes_on = match blow {
            None => return to.write_all(frame).is_ok(),
            Some(Blow::Drop) => false,
            Some(Blow::Cut) => {
                let _ = to.write_all(&frame[..frame.len() / 2]);
                false
            }
            Some(Blow::HalfClose) => {
                let _ = to.write_all(frame);
                let _ = to.shutdown(Shutdown::Write);
                true
            }
        };
        counting.blows.fetch_add(1, Ordering::SeqCst);
        goes_on
    });
}

/// Carries frames of one direction, one thread reading and one writing, until either end closes or `carry` says no.
fn pump(
    shared: &Arc<Shared>,
    mut from: TcpStream,
    mut to: TcpStream,
    mut carry: impl FnMut(&[u8], &mut TcpStream) -> bool + Send + 'static,
) {
    let (frames, arriving) = mpsc::sync_channel::<(Instant, Vec<u8>)>(64);
    let (reading, writing) = (Arc::clone(shared), Arc::clone(shared));
    std::thread::spawn(move || {
        while let Some(frame) = read_frame(&mut from) {
            let due = Instant::now() + reading.state().delay;
            if frames.send((due, frame)).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, frame) in arriving {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut state = writing.state();
            while state.silent && !state.closed {
                state = writing.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            if !carry(&frame, &mut to) {
                break;
            }
        }
        // A proper end would take the reset's place.
        if sockopt::socket_linger(&to) != Ok(Some(Duration::ZERO)) {
            let _ = to.shutdown(Shutdown::Both);
        }
    });
}

/// Returns a frame with its four bytes of length, or `None` at the end of the stream.
fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frame.resize(4 + usize::try_from(length).ok()?, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn number<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with its correlation id and `answer`, and tells what it was asked.
    fn server() -> (String, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, counting) = (connection.unwrap(), Arc::clone(&counting));
                std::thread::spawn(move || {
                    while let Some(request) = read_frame(&mut connection) {
                        counting.fetch_add(1, Ordering::SeqCst);
                        let mut response = vec![0, 0, 0, 10];
                        response.extend_from_slice(&request[8..12]);
                        response.extend_from_slice(b"answer");
                        if connection.write_all(&response).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, asked)
    }

    struct Client(TcpStream);

    impl Client {
        fn of(proxy: &Proxy) -> Self {
            let stream = TcpStream::connect(proxy.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Self(stream)
        }

        fn ask(&mut self, api: i16, correlation: i32) {
            let mut request = vec![0, 0, 0, 8];
            request.extend_from_slice(&api.to_be_bytes());
            request.extend_from_slice(&[0, 1]);
            request.extend_from_slice(&correlation.to_be_bytes());
            self.0.write_all(&request).unwrap();
        }

        /// What arrives until the end of the stream, or the error that ends it.
        fn rest(&mut self) -> Result<Vec<u8>, std::io::ErrorKind> {
            let mut all = Vec::new();
            self.0.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind())
        }

        fn hear(&mut self) -> Option<Vec<u8>> {
            read_frame(&mut self.0)
        }
    }

    fn answer(correlation: u8) -> Vec<u8> {
        [&[0, 0, 0, 10, 0, 0, 0, correlation], &b"answer"[..]].concat()
    }

    #[test]
    fn without_a_fault_everything_passes_as_it_is() {
        let proxy = Proxy::start("127.0.0.1:0", &server().0);
        let mut client = Client::of(&proxy);
        for correlation in 0..200 {
            client.ask(FETCH, correlation);
        }
        for correlation in 0..200 {
            assert_eq!(client.hear(), Some(answer(correlation)));
        }
        assert_eq!(proxy.blows(), 0);
    }

    #[test]
    fn a_slow_line_delays_both_ways_without_adding_up() {
        let proxy = Proxy::start("127.0.0.1:0", &server().0);
        proxy.slow(Duration::from_millis(100));
        let mut client = Client::of(&proxy);
        let start = Instant::now();
        for correlation in 0..10 {
            client.ask(FETCH, correlation);
        }
        for correlation in 0..10 {
            assert_eq!(client.hear(), Some(answer(correlation)));
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(1), "{took:?}");
    }

    #[test]
    fn a_black_hole_is_silent_until_it_heals() {
        let (target, asked) = server();
        let proxy = Proxy::start("127.0.0.1:0", &target);
        let mut client = Client::of(&proxy);
        proxy.black_hole();
        client.ask(FETCH, 1);
        client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert_eq!((client.hear(), asked.load(Ordering::SeqCst)), (None, 0));
        proxy.heal();
        client.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(client.hear(), Some(answer(1)));
    }

    #[test]
    fn a_reset_is_seen_as_one_and_new_connections_pass_unless_refused() {
        let proxy = Proxy::start("127.0.0.1:0", &server().0);
        let mut client = Client::of(&proxy);
        client.ask(FETCH, 1);
        assert_eq!(client.hear(), Some(answer(1)));
        proxy.reset();
        assert_eq!(client.rest(), Err(std::io::ErrorKind::ConnectionReset));
        let mut client = Client::of(&proxy);
        client.ask(FETCH, 2);
        assert_eq!(client.hear(), Some(answer(2)));
        proxy.refuse();
        assert_eq!(client.rest(), Err(std::io::ErrorKind::ConnectionReset));
        assert_eq!(Client::of(&proxy).rest(), Err(std::io::ErrorKind::ConnectionReset));
        proxy.heal();
        let mut client = Client::of(&proxy);
        client.ask(FETCH, 3);
        assert_eq!(client.hear(), Some(answer(3)));
    }

    #[test]
    fn a_dropped_response_leaves_the_request_done_and_the_client_in_the_dark() {
        let (target, asked) = server();
        let proxy = Proxy::start("127.0.0.1:0", &target);
        proxy.drop_next_response(PRODUCE);
        let mut client = Client::of(&proxy);
        client.ask(FETCH, 1);
        assert_eq!(client.hear(), Some(answer(1)), "another kind passes");
        client.ask(PRODUCE, 2);
        assert_eq!(client.rest(), Ok(Vec::new()));
        assert_eq!((asked.load(Ordering::SeqCst), proxy.blows()), (2, 1));
        let mut client = Client::of(&proxy);
        client.ask(PRODUCE, 3);
        assert_eq!(client.hear(), Some(answer(3)), "only the next one is dropped");
    }

    #[test]
    fn a_cut_response_ends_in_its_middle() {
        let proxy = Proxy::start("127.0.0.1:0", &server().0);
        proxy.cut_next_response(PRODUCE);
        let mut client = Client::of(&proxy);
        client.ask(PRODUCE, 2);
        assert_eq!(client.rest(), Ok(answer(2)[..7].to_vec()));
        assert_eq!(proxy.blows(), 1);
    }

    #[test]
    fn a_half_closed_connection_takes_requests_and_answers_none() {
        let (target, asked) = server();
        let proxy = Proxy::start("127.0.0.1:0", &target);
        proxy.half_close_after(PRODUCE);
        let mut client = Client::of(&proxy);
        client.ask(PRODUCE, 1);
        assert_eq!(client.rest(), Ok(answer(1)));
        client.ask(PRODUCE, 2);
        super::super::until("the request arrives", Duration::from_secs(10), || (asked.load(Ordering::SeqCst) == 2).then_some(()));
    }
}
