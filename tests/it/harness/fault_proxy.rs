//! A TCP proxy between a Kafka client and one broker that injects faults at the boundaries of requests and responses.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::Cluster;

#[cfg(test)]
mod tests;

/// The API key of Produce.
pub(crate) const PRODUCE: i16 = 0;
/// The API key of Fetch.
pub(crate) const FETCH: i16 = 1;
/// The API key of Metadata.
pub(super) const METADATA: i16 = 3;
/// The API key of `OffsetCommit`.
pub(crate) const OFFSET_COMMIT: i16 = 8;

/// What happens to the next response to a request of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ResponseFault {
    /// The broker handles the request, and the connection closes before the response arrives.
    Drop,
    /// Half of the response arrives, then the connection closes.
    Cut,
    /// The response arrives, and nothing after it: our side has stopped sending.
    HalfClose,
    /// The metadata response, of this version, lists no broker.
    NoBrokers(i16),
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
    faults: AtomicU64,
}

#[derive(Default)]
struct State {
    delay: Duration,
    silent: bool,
    refusing: bool,
    hides_brokers: bool,
    closed: bool,
    armed: Option<(i16, ResponseFault)>,
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

    /// Forwards nothing until [`Proxy::heal`]; the connections stay open and no byte is lost.
    pub(crate) fn black_hole(&self) {
        self.shared.state().silent = true;
    }

    /// Lets no metadata response list a broker until [`Proxy::heal`], as those of a broker that has just started.
    pub(crate) fn hide_brokers(&self) {
        let mut state = self.shared.state();
        (state.hides_brokers, state.refusing) = (true, false);
    }

    /// Ends latency, black hole and refusal, and lists the brokers again.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state();
        (state.delay, state.silent, state.refusing, state.hides_brokers) = (Duration::ZERO, false, false, false);
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
        self.shared.state().armed = Some((api, ResponseFault::Drop));
    }

    /// Cuts the connection in the middle of the next response of that kind.
    pub(crate) fn cut_next_response(&self, api: i16) {
        self.shared.state().armed = Some((api, ResponseFault::Cut));
    }

    /// Stops sending after the next response of that kind, with the other direction left open.
    pub(crate) fn half_close_after(&self, api: i16) {
        self.shared.state().armed = Some((api, ResponseFault::HalfClose));
    }

    /// Returns the number of armed faults that were applied.
    pub(crate) fn faults_applied(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
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

/// The requests of a connection whose response gets a fault.
#[derive(Default)]
struct Marks {
    /// A response has got one: no response arrives any more that another fault could hit.
    over: bool,
    /// By correlation id.
    requests: HashMap<i32, ResponseFault>,
}

fn connect(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
    let marked = Arc::new(Mutex::new(Marks::default()));
    let (marking, striking) = (Arc::clone(&marked), marked);
    let (arming, counting) = (Arc::clone(shared), Arc::clone(shared));
    let pair = |one: &TcpStream| one.try_clone().expect("a socket can be shared");
    let (from_client, to_client, from_server, to_server) = (pair(client), pair(client), pair(server), pair(server));
    pump(shared, from_client, to_server, move |frame, to| {
        let mut state = arming.state();
        let mut marks = marking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = None;
        if let Some((api, fault)) = state.armed
            && !marks.over
            && number(frame, 4).map(i16::from_be_bytes) == Some(api)
            && let Some(correlation) = number(frame, 8).map(i32::from_be_bytes)
        {
            taken = state.armed.take();
            marks.requests.insert(correlation, fault);
        }
        if state.hides_brokers
            && number(frame, 4).map(i16::from_be_bytes) == Some(METADATA)
            && let (Some(version), Some(correlation)) = (number(frame, 6), number(frame, 8))
        {
            let fault = ResponseFault::NoBrokers(i16::from_be_bytes(version));
            marks.requests.insert(i32::from_be_bytes(correlation), fault);
        }
        drop((state, marks));
        let is_sent = to.write_all(frame).is_ok();
        if !is_sent && taken.is_some() {
            // The connection was reset: the fault is for the next one.
            arming.state().armed = taken;
        }
        is_sent
    });
    pump(shared, from_server, to_client, move |frame, to| {
        let correlation = number(frame, 4).map(i32::from_be_bytes);
        let mut marks = striking.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = correlation.and_then(|id| marks.requests.remove(&id));
        marks.over |= fault.is_some_and(|fault| !matches!(fault, ResponseFault::NoBrokers(_)));
        drop(marks);
        let stays_open = match fault {
            None => return to.write_all(frame).is_ok(),
            Some(ResponseFault::Drop) => false,
            Some(ResponseFault::Cut) => {
                let _ = to.write_all(&frame[..frame.len() / 2]);
                false
            }
            Some(ResponseFault::HalfClose) => {
                let _ = to.write_all(frame);
                let _ = to.shutdown(Shutdown::Write);
                true
            }
            Some(ResponseFault::NoBrokers(version)) => to.write_all(&without_brokers(version, frame)).is_ok(),
        };
        counting.faults.fetch_add(1, Ordering::SeqCst);
        stays_open
    });
}

/// Returns a metadata response of this version (Kafka's protocol guide, 9 to 13) as a broker sends it that has just started: it knows
/// the topics, and no broker that could lead them.
///
/// librdkafka disregards a response without brokers and topics: where no topic was asked for, there is one. It lists no topic that was
/// not asked for beside others: librdkafka then reads memory that it has freed.
fn without_brokers(version: i16, frame: &[u8]) -> Vec<u8> {
    const LEADER_NOT_AVAILABLE: [u8; 2] = 5_i16.to_be_bytes();
    const NONE: [u8; 4] = (-1_i32).to_be_bytes();
    assert!((9..=13).contains(&version), "metadata request of version {version}");
    let has_topic_ids = version >= 10;
    let mut response = Editor { bytes: frame.to_vec(), at: 8 };
    response.skip_tags();
    response.skip(4); // throttle time
    let brokers = response.at;
    response.for_each(|broker| {
        broker.skip(4); // id
        broker.skip_text(); // host
        broker.skip(4); // port
        broker.skip_text(); // rack
        broker.skip_tags();
    });
    response.bytes.splice(brokers..response.at, [1]);
    response.at = brokers + 1;
    response.skip_text(); // cluster id
    response.put(&NONE); // controller
    let topics = response.at;
    let count = response.for_each(|topic| {
        topic.skip(2); // error
        topic.skip_text(); // name
        topic.skip(if has_topic_ids { 17 } else { 1 }); // id, whether it is internal
        topic.for_each(|partition| {
            partition.put(&LEADER_NOT_AVAILABLE);
            partition.skip(4); // number
            partition.put(&NONE); // leader
            partition.skip(4); // leader epoch
            for _ in ["replicas", "in sync", "offline"] {
                partition.for_each(|replica| replica.skip(4));
            }
            partition.skip_tags();
        });
        topic.skip(4); // operations
        topic.skip_tags();
    });
    if count == 0 {
        let id = vec![0; if has_topic_ids { 16 } else { 0 }];
        let operations = i32::MIN.to_be_bytes();
        let topic = [&[2][..], &LEADER_NOT_AVAILABLE, &b"\x07hidden"[..], &id, &[0, 1], &operations, &[0]].concat();
        response.bytes.splice(topics..=topics, topic);
    }
    let length = u32::try_from(response.bytes.len() - 4).expect("it is short");
    response.bytes.splice(..4, length.to_be_bytes());
    response.bytes
}

/// Walks over the fields of a response and changes some.
struct Editor {
    bytes: Vec<u8>,
    at: usize,
}

impl Editor {
    fn skip(&mut self, count: usize) {
        self.at += count;
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.skip(field.len());
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.bytes[self.at]);
            self.skip(1);
            value |= (byte & 127) << shift;
            if byte < 128 {
                return value;
            }
            shift += 7;
        }
    }

    fn skip_text(&mut self) {
        let length = self.varint().saturating_sub(1);
        self.skip(length);
    }

    fn skip_tags(&mut self) {
        for _ in 0..self.varint() {
            self.varint();
            let length = self.varint();
            self.skip(length);
        }
    }

    /// Calls `walk` at each element of an array; returns their number.
    fn for_each(&mut self, walk: impl Fn(&mut Self)) -> usize {
        let count = self.varint().saturating_sub(1);
        (0..count).for_each(|_| walk(self));
        count
    }
}

/// Carries frames of one direction, one thread reading and one writing, until either end closes or `carry` returns false.
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
pub(super) fn read_frame(from: &mut TcpStream) -> Option<Vec<u8>> {
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
