//! A broker that plays the settings of a topic, or a refused login, by script: embedded brokers have neither.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fault_proxy::{METADATA, read_frame};

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const DESCRIBE_CONFIGS: i16 = 32;
const SASL_AUTHENTICATE: i16 = 36;

/// Names and values of a topic's settings, or the error code of the broker.
pub(crate) type SettingsAnswer = Result<&'static [(&'static str, &'static str)], i16>;

/// The error code with which every login is refused, or 0, and the mechanisms that the broker offers.
type LoginAnswer = (i16, &'static [&'static str]);

/// The only broker of a cluster, which has no topics in its metadata.
pub(crate) struct KafkaStub {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    logins: Arc<Mutex<Vec<String>>>,
}

impl KafkaStub {
    /// Starts a broker on a free port. `answer` is called for each request for the settings of `topic`, with the number of the
    /// requests before it.
    pub(crate) fn start(topic: &'static str, answer: impl Fn(usize) -> SettingsAnswer + Send + Sync + 'static) -> Self {
        Self::start_with(topic, answer, None)
    }

    /// Starts a broker that refuses every login with this error code, and says that it offers these mechanisms.
    pub(crate) fn refusing_logins(code: i16, mechanisms: &'static [&'static str]) -> Self {
        Self::start_with("", |_| Ok(&[]), Some((code, mechanisms)))
    }

    /// Starts a broker that accepts every token.
    pub(crate) fn accepting_tokens() -> Self {
        Self::start_with("", |_| Ok(&[]), Some((0, &["OAUTHBEARER"])))
    }

    /// Returns what clients have sent to log in.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a broker that advertises this host instead of its own address.
    pub(crate) fn advertising(host: &'static str) -> Self {
        Self::start_as("", |_| Ok(&[]), None, Some(host))
    }

    fn start_with(
        topic: &'static str,
        answer: impl Fn(usize) -> SettingsAnswer + Send + Sync + 'static,
        login: Option<LoginAnswer>,
    ) -> Self {
        Self::start_as(topic, answer, login, None)
    }

    fn start_as(
        topic: &'static str,
        answer: impl Fn(usize) -> SettingsAnswer + Send + Sync + 'static,
        login: Option<LoginAnswer>,
        host: Option<&'static str>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let advertised = (host.map_or_else(|| address.ip().to_string(), str::to_owned), address.port());
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let logins = Arc::new(Mutex::new(Vec::new()));
        let (counting, noted) = (Arc::clone(&asked), Arc::clone(&logins));
        // Ends with the test process: it waits for connections that no longer come.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (counting, answer, noted) = (Arc::clone(&counting), Arc::clone(&answer), Arc::clone(&noted));
                let advertised = advertised.clone();
                std::thread::spawn(move || {
                    serve(connection, &advertised, (topic, || answer(counting.fetch_add(1, Ordering::SeqCst))), login, &noted);
                });
            }
        });
        Self { address, asked, logins }
    }

    /// Returns its `bootstrap.servers`.
    pub(crate) fn servers(&self) -> String {
        self.address.to_string()
    }

    /// Returns the number of requests for settings so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers the requests of a connection until it closes.
fn serve(
    mut connection: TcpStream,
    advertised: &(String, u16),
    (topic, answer): (&str, impl Fn() -> SettingsAnswer),
    login: Option<LoginAnswer>,
    logins: &Mutex<Vec<String>>,
) {
    while let Some(request) = read_frame(&mut connection) {
        let int = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let body = match (int(4), int(6)) {
            (API_VERSIONS, 3) => versions(),
            (METADATA, 2) => metadata(advertised),
            (DESCRIBE_CONFIGS, 0) => settings(topic, answer()),
            (SASL_HANDSHAKE, 0 | 1) => handshake(login.expect("a broker with logins")),
            (SASL_AUTHENTICATE, 0) => {
                logins.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&request).into_owned());
                vec![0, 0, 255, 255, 0, 0, 0, 0] // no error, no message, nothing more to say
            }
            (api, version) => panic!("request {api} of version {version}"),
        };
        let correlation = &request[8..12];
        let response = [correlation, body.as_slice()].concat();
        let length = u32::try_from(response.len()).expect("it is short");
        if connection.write_all(&[length.to_be_bytes().as_slice(), response.as_slice()].concat()).is_err() {
            return;
        }
    }
}

/// Returns a response of version 3, as Kafka's protocol guide has it, with the newest version of each request that is answered.
fn versions() -> Vec<u8> {
    let mut body = vec![0, 0, 6]; // no error, five requests
    let newest = [(METADATA, 2_i16), (SASL_HANDSHAKE, 1), (API_VERSIONS, 3), (DESCRIBE_CONFIGS, 0), (SASL_AUTHENTICATE, 0)];
    for (api, newest) in newest {
        body.extend(api.to_be_bytes());
        body.extend(0_i16.to_be_bytes());
        body.extend(newest.to_be_bytes());
        body.push(0);
    }
    body.extend([0; 5]); // throttle time, no tags
    body
}

/// Returns a response of version 2 with one broker, which is the controller, and no topic.
fn metadata((host, port): &(String, u16)) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes()); // one broker
    body.extend(1_i32.to_be_bytes());
    body.extend(string(host));
    body.extend(i32::from(*port).to_be_bytes());
    body.extend((-1_i16).to_be_bytes()); // no rack
    body.extend(string("stub-cluster"));
    body.extend(1_i32.to_be_bytes()); // the controller
    body.extend(0_i32.to_be_bytes()); // no topics
    body
}

/// Returns a response of version 0 that refuses a mechanism.
fn handshake((code, mechanisms): LoginAnswer) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend(i32::try_from(mechanisms.len()).expect("few mechanisms").to_be_bytes());
    for name in mechanisms {
        body.extend(string(name));
    }
    body
}

/// Returns a response of version 0 about one topic.
fn settings(topic: &str, answer: SettingsAnswer) -> Vec<u8> {
    let (code, entries): (i16, &[(&str, &str)]) = match answer {
        Ok(entries) => (0, entries),
        Err(code) => (code, &[]),
    };
    let mut body = vec![0; 4]; // throttle time
    body.extend(1_i32.to_be_bytes()); // one resource
    body.extend(code.to_be_bytes());
    body.extend((-1_i16).to_be_bytes()); // no message
    body.push(2); // a topic
    body.extend(string(topic));
    body.extend(i32::try_from(entries.len()).expect("few settings").to_be_bytes());
    for (name, value) in entries {
        body.extend(string(name));
        body.extend(string(value));
        body.extend([0; 3]); // writable, not a default, not sensitive
    }
    body
}

fn string(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [length.to_be_bytes().as_slice(), text.as_bytes()].concat()
}
