//! Connections to a scripted broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::auth::{BearerToken, BearerTokenSource, SaslLogin, TokenFuture};
use crate::connectors::kafka::wire::error::WireError;
use crate::connectors::kafka::wire::messages::{ApiKey, InitProducerIdRequest, MetadataRequest};
use crate::connectors::kafka::wire::tls::TlsFiles;
use crate::profile::Secret;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The broker's end of a connection.
struct ScriptedBroker<S = DuplexStream>(S);

/// A request as it arrives.
#[derive(Debug)]
struct ArrivedRequest {
    key: i16,
    version: i16,
    correlation_id: i32,
    /// With the rest of the header.
    rest: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ScriptedBroker<S> {
    /// Returns the next request; `None` at the end of the connection.
    async fn request(&mut self) -> Option<ArrivedRequest> {
        let length = self.0.read_i32().await.ok()?;
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut bytes).await.ok()?;
        let i16_at = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let correlation_id = i32::from_be_bytes(bytes[4..8].try_into().unwrap());
        Some(ArrivedRequest { key: i16_at(0), version: i16_at(2), correlation_id, rest: bytes[8..].to_vec() })
    }

    async fn answer(&mut self, correlation_id: i32, body: &[u8]) {
        let length = i32::try_from(body.len() + 4).unwrap();
        let frame = [&length.to_be_bytes()[..], &correlation_id.to_be_bytes(), body].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// Answers `ApiVersions`: Metadata 4, InitProducerId 0, SaslHandshake 1, SaslAuthenticate 1.
    async fn answer_versions(&mut self) {
        let asked = self.request().await.unwrap();
        assert_eq!((asked.key, asked.version), (18, 3));
        let mut body = vec![0, 0, 5];
        for (key, version) in [(3, 4), (22, 0), (17, 1), (36, 1)] {
            body.extend_from_slice(&[0, key, 0, 0, 0, version, 0]);
        }
        body.extend_from_slice(&[0, 0, 0, 0, 0]);
        self.answer(asked.correlation_id, &body).await;
    }

    /// Answers a request of InitProducerId version 0.
    async fn answer_producer_id(&mut self, asked: &ArrivedRequest, throttle_ms: i32, id: i64) {
        assert_eq!(asked.key, 22);
        let body = [&throttle_ms.to_be_bytes()[..], &[0, 0], &id.to_be_bytes(), &[0, 0]].concat();
        self.answer(asked.correlation_id, &body).await;
    }

    /// Answers a handshake and one message; returns the message.
    async fn answer_login(&mut self, mechanism: &str, lifetime_ms: i64) -> Vec<u8> {
        let asked = self.request().await.unwrap();
        assert_eq!((asked.key, asked.version), (17, 1));
        assert!(asked.rest.ends_with(mechanism.as_bytes()));
        self.answer(asked.correlation_id, &[0, 0, 0, 0, 0, 0]).await;
        let asked = self.request().await.unwrap();
        assert_eq!((asked.key, asked.version), (36, 1));
        let body = [&[0, 0, 0xff, 0xff, 0, 0, 0, 0][..], &lifetime_ms.to_be_bytes()].concat();
        self.answer(asked.correlation_id, &body).await;
        asked.rest[2 + 3 + 4..].to_vec()
    }
}

fn options(login: Option<SaslLogin>) -> ConnectOptions {
    ConnectOptions { client_id: "sdl".to_owned(), timeout: TIMEOUT, most_response_bytes: 1 << 20, tls: None, login }
}

fn plain() -> SaslLogin {
    SaslLogin::Plain { username: "user".to_owned(), password: Secret::new("pass".to_owned()) }
}

/// Returns the broker's end, and the connection as soon as the broker has answered.
fn connect(login: Option<SaslLogin>) -> (ScriptedBroker, tokio::task::JoinHandle<Result<Connection, WireError>>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (read, write) = tokio::io::split(ours);
    (ScriptedBroker(theirs), tokio::spawn(Connection::start(read, write, options(login))))
}

async fn connected() -> (ScriptedBroker, Connection) {
    let (mut broker, connection) = connect(None);
    broker.answer_versions().await;
    (broker, connection.await.unwrap().unwrap())
}

fn producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 0, producer_id: -1, producer_epoch: -1 }
}

#[tokio::test(start_paused = true)]
async fn requests_overlap_and_each_has_its_own_response() {
    let (mut broker, connection) = connected().await;
    let first = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let second = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let abandoned = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    drop(abandoned);
    let last = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(broker.request().await.unwrap());
    }
    for (asked, id) in asked.iter().zip(1..) {
        broker.answer_producer_id(asked, 0, id).await;
    }
    assert_eq!(last.response().await.unwrap().producer_id, 4);
    assert_eq!(second.response().await.unwrap().producer_id, 2);
    assert_eq!(first.response().await.unwrap().producer_id, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_ends_the_connection_and_all_requests() {
    let (mut broker, connection) = connected().await;
    let start = Instant::now();
    let short = connection.send(&producer_id(), Duration::from_secs(3)).await.unwrap();
    let long = connection.send(&producer_id(), Duration::from_secs(300)).await.unwrap();
    let failure = WireError::NoAnswer(Duration::from_secs(3));
    assert_eq!(short.response().await, Err(failure.clone()));
    assert_eq!(long.response().await, Err(failure.clone()), "answers come in order: this one cannot come either");
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(connection.call(&producer_id()).await, Err(failure.clone()));
    assert_eq!(connection.failure(), Some(failure));
    while broker.request().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stops_half_way_ends_the_connection() {
    let (mut broker, connection) = connected().await;
    let pending = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let asked = broker.request().await.unwrap();
    let start = [&100_i32.to_be_bytes()[..], &asked.correlation_id.to_be_bytes(), &[0; 10]].concat();
    broker.0.write_all(&start).await.unwrap();
    assert_eq!(pending.response().await, Err(WireError::NoAnswer(TIMEOUT)));
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_fails_what_is_in_flight_and_what_follows() {
    let (mut broker, connection) = connected().await;
    let pending = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    broker.request().await.unwrap();
    drop(broker);
    assert_eq!(pending.response().await, Err(WireError::Closed));
    assert_eq!(connection.call(&producer_id()).await, Err(WireError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_waits_and_takes_it_for_no_timeout() {
    let (mut broker, connection) = connected().await;
    let first = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let in_flight = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let (first_asked, second_asked) = (broker.request().await.unwrap(), broker.request().await.unwrap());
    broker.answer_producer_id(&first_asked, 60_000, 1).await;
    first.response().await.unwrap();
    let start = Instant::now();
    let later = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    // The broker reads and answers nothing for as long.
    tokio::time::sleep(Duration::from_secs(59)).await;
    broker.answer_producer_id(&second_asked, 0, 2).await;
    assert_eq!(in_flight.response().await.unwrap().producer_id, 2);
    let asked = broker.request().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(60), "{:?}", start.elapsed());
    broker.answer_producer_id(&asked, 0, 3).await;
    assert_eq!(later.response().await.unwrap().producer_id, 3);
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_response_ends_the_connection_and_is_no_answer() {
    let (mut broker, connection) = connected().await;
    let pending = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[1, 2, 3]).await;
    assert!(matches!(pending.response().await, Err(WireError::Decode(_))));
    assert!(matches!(connection.call(&producer_id()).await, Err(WireError::Decode(_))));
}

#[tokio::test(start_paused = true)]
async fn a_response_to_another_request_ends_the_connection() {
    let (mut broker, connection) = connected().await;
    let pending = connection.send(&producer_id(), TIMEOUT).await.unwrap();
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id + 1, &[0; 16]).await;
    let failure = WireError::Correlation { expected: asked.correlation_id, got: asked.correlation_id + 1 };
    assert_eq!(pending.response().await, Err(failure));
    let (mut broker, connection) = connected().await;
    broker.answer(9, &[0; 16]).await;
    while broker.request().await.is_some() {}
    assert_eq!(connection.failure(), Some(WireError::Correlation { expected: -1, got: 9 }));
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_protocol_is_no_reason_to_allocate() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0x15, 3, 3, 0, 2, 2, 40], &[0xff; 8], &[0, 0, 0, 1, 0]] {
        let (mut broker, connection) = connect(None);
        broker.request().await.unwrap();
        broker.0.write_all(bytes).await.unwrap();
        let result = connection.await.unwrap();
        assert!(matches!(result.err(), Some(WireError::ResponseTooLarge(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_know_the_newest_version_is_asked_in_the_oldest() {
    let (mut broker, connection) = connect(None);
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[0, 35, 0, 0, 0, 0]).await;
    let asked = broker.request().await.unwrap();
    assert_eq!((asked.key, asked.version), (18, 0));
    broker.answer(asked.correlation_id, &[0, 0, 0, 0, 0, 1, 0, 22, 0, 0, 0, 1]).await;
    let connection = connection.await.unwrap().unwrap();
    assert_eq!(connection.version::<InitProducerIdRequest>(), Some(1));
    let metadata = connection.call(&MetadataRequest { topics: &[] }).await;
    assert_eq!(metadata, Err(WireError::Unsupported(ApiKey::Metadata)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_about_to_end_is_renewed_between_requests() {
    let (mut broker, connection) = connect(Some(plain()));
    broker.answer_versions().await;
    assert_eq!(broker.answer_login("PLAIN", 10_000).await, b"\0user\0pass");
    let connection = Arc::new(connection.await.unwrap().unwrap());
    let ask = || {
        tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { connection.call(&producer_id()).await }
        })
    };
    let early = ask();
    let asked = broker.request().await.unwrap();
    broker.answer_producer_id(&asked, 0, 1).await;
    early.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let late = [ask(), ask()];
    broker.answer_login("PLAIN", 0).await;
    for id in [2, 3] {
        let asked = broker.request().await.unwrap();
        broker.answer_producer_id(&asked, 0, id).await;
    }
    for late in late {
        late.await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let unlimited = ask();
    let asked = broker.request().await.unwrap();
    broker.answer_producer_id(&asked, 0, 4).await;
    unlimited.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_abandoned_ends_the_connection() {
    let (mut broker, connection) = connect(Some(plain()));
    broker.answer_versions().await;
    broker.answer_login("PLAIN", 10_000).await;
    let connection = connection.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let request = producer_id();
    tokio::select! {
        _ = connection.call(&request) => panic!("the broker does not answer"),
        handshake = broker.request() => assert_eq!(handshake.unwrap().key, 17),
    }
    assert_eq!(connection.call(&producer_id()).await, Err(WireError::LoginInterrupted));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_login_says_why() {
    let (mut broker, connection) = connect(Some(plain()));
    broker.answer_versions().await;
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[&[0, 33, 0, 0, 0, 1, 0, 13][..], b"SCRAM-SHA-256"].concat()).await;
    let failure = connection.await.unwrap().err();
    let offered = vec!["SCRAM-SHA-256".to_owned()];
    assert_eq!(failure, Some(WireError::MechanismNotOffered { wanted: "PLAIN".to_owned(), offered }));

    let (mut broker, connection) = connect(Some(plain()));
    broker.answer_versions().await;
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[0, 0, 0, 0, 0, 0]).await;
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[&[0, 58, 0, 12][..], b"bad password", &[0; 12]].concat()).await;
    let failure = connection.await.unwrap().err();
    assert_eq!(failure, Some(WireError::AuthenticationFailed("bad password".to_owned())));
}

struct Tokens;

impl BearerTokenSource for Tokens {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(async { Ok(BearerToken { value: Secret::new("t0k3n".to_owned()), extensions: Vec::new() }) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_broker_explains_is_rejected_after_the_explanation() {
    let (mut broker, connection) = connect(Some(SaslLogin::OAuthBearer(Arc::new(Tokens))));
    broker.answer_versions().await;
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[0, 0, 0, 0, 0, 0]).await;
    let asked = broker.request().await.unwrap();
    assert!(asked.rest.ends_with(b"n,,\x01auth=Bearer t0k3n\x01\x01"));
    let json = br#"{"status":"invalid_token"}"#;
    let length = u8::try_from(json.len()).unwrap();
    broker.answer(asked.correlation_id, &[&[0, 0, 0xff, 0xff, 0, 0, 0, length][..], json, &[0; 8]].concat()).await;
    let asked = broker.request().await.unwrap();
    assert!(asked.rest.ends_with(&[0, 0, 0, 1, 1]));
    broker.answer(asked.correlation_id, &[&[0, 58, 0, 13][..], b"invalid_token", &[0; 12]].concat()).await;
    let failure = connection.await.unwrap().err();
    assert_eq!(failure, Some(WireError::AuthenticationFailed("invalid_token".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn any_bytes_from_a_broker_end_in_an_error() {
    let mut state = 7_u64;
    for _ in 0..300 {
        let (mut broker, connection) = connect(None);
        let asked = broker.request().await.unwrap();
        let mut bytes = Vec::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((state >> 60) as u8);
        }
        broker.answer(asked.correlation_id, &Bytes::from(bytes)).await;
        drop(broker);
        if let Ok(connection) = connection.await.unwrap() {
            assert!(connection.call(&producer_id()).await.is_err());
        }
    }
}

struct NoToken;

impl BearerTokenSource for NoToken {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_come_ends_the_login() {
    let (mut broker, connection) = connect(Some(SaslLogin::OAuthBearer(Arc::new(NoToken))));
    broker.answer_versions().await;
    let asked = broker.request().await.unwrap();
    broker.answer(asked.correlation_id, &[0, 0, 0, 0, 0, 0]).await;
    assert!(matches!(connection.await.unwrap().err(), Some(WireError::Credentials(_))));
}

fn testdata(file: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/connectors/kafka/wire/connection/testdata").join(file)
}

/// Accepts one TLS connection of a client that shows a certificate, and answers one request.
async fn tls_broker() -> (BrokerAddress, tokio::task::JoinHandle<()>) {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(testdata("ca.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(testdata("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = BrokerAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await else { return };
        let mut broker = ScriptedBroker(stream);
        broker.answer_versions().await;
        let asked = broker.request().await.unwrap();
        broker.answer_producer_id(&asked, 0, 7).await;
        // Until the client has gone.
        broker.request().await;
    });
    (address, served)
}

fn tls_options(files: &TlsFiles) -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_secs(60), tls: Some(files.load().unwrap()), ..options(None) }
}

#[tokio::test]
async fn a_client_with_a_certificate_speaks_tls() {
    let (address, served) = tls_broker().await;
    let client = Some((testdata("client.pem"), testdata("client.key")));
    let files = TlsFiles { ca: Some(testdata("ca.pem")), client };
    let connection = Connection::open(&address, tls_options(&files)).await.unwrap();
    assert_eq!(connection.call(&producer_id()).await.unwrap().producer_id, 7);
    drop(connection);
    served.await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_ca_or_for_another_name_is_refused() {
    let (address, served) = tls_broker().await;
    // The server's own certificate is no CA of it.
    let files = TlsFiles { ca: Some(testdata("client.pem")), client: None };
    let failure = Connection::open(&address, tls_options(&files)).await.err().expect("an unknown CA");
    assert!(
        matches!(&failure, WireError::Io { step: "TLS handshake", reason, .. } if reason.contains("certificate")),
        "{failure}"
    );
    served.await.unwrap();
    let (address, served) = tls_broker().await;
    let files = TlsFiles { ca: Some(testdata("ca.pem")), client: None };
    let other = BrokerAddress::new("127.0.0.2", address.port());
    let failure = Connection::open(&other, tls_options(&files)).await.err().expect("the certificate has another address");
    assert!(matches!(&failure, WireError::Io { step: "TLS handshake", reason, .. } if reason.contains("valid")), "{failure}");
    served.await.unwrap();
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    for files in [
        TlsFiles { ca: Some(testdata("missing.pem")), client: None },
        TlsFiles { ca: Some(testdata("server.key")), client: None },
        TlsFiles { ca: Some(testdata("ca.pem")), client: Some((testdata("client.pem"), testdata("ca.pem"))) },
    ] {
        let failure = files.load().expect_err("a file cannot be used").to_string();
        assert!(failure.contains(".pem") || failure.contains(".key"), "{failure}");
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BrokerAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
    drop(listener);
    let failure = Connection::open(&address, options(None)).await.err();
    assert!(matches!(failure, Some(WireError::Io { kind: std::io::ErrorKind::ConnectionRefused, .. })), "{failure:?}");
}
