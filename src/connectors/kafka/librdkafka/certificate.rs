//! Why the verification of a broker's certificate fails: librdkafka's log does not say, its verification callback does.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaType;
use rdkafka::{ClientConfig, ClientContext};

/// Why the verification failed, after OpenSSL's `X509_V_ERR` codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFlaw {
    UnknownCa,
    Expired,
    NotYetValid,
    /// Issued to another host name.
    OtherName,
    Other(c_int),
}

impl CertificateFlaw {
    fn of(code: c_int) -> Option<Self> {
        Some(match code {
            0 => return None,
            2 | 18..=21 => Self::UnknownCa,
            9 => Self::NotYetValid,
            10 => Self::Expired,
            62..=64 => Self::OtherName,
            other => Self::Other(other),
        })
    }
}

/// Connects without logging in and returns the flaw of the certificate that the servers present; `None` if it is valid, or if no
/// server answers within `wait`.
pub(crate) fn flaw(mut config: ClientConfig, wait: Duration) -> Option<CertificateFlaw> {
    config.set("security.protocol", "ssl");
    let native = config.create_native_config().ok()?;
    // SAFETY: the configuration is alive, and `note_verification` has the type that librdkafka expects.
    unsafe { rd::rd_kafka_conf_set_ssl_cert_verify_cb(native.ptr(), Some(note_verification)) };
    let client = Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, VerificationLog::default()).ok()?;
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline {
        let answered = client.fetch_cluster_id(Duration::from_millis(50)).is_some();
        let flaw = CertificateFlaw::of(client.context().0.load(Ordering::Relaxed));
        if answered || flaw.is_some() {
            return flaw;
        }
    }
    None
}

/// The first error that the verification met: an OpenSSL code, 0 for none.
#[derive(Default)]
struct VerificationLog(AtomicI32);

impl ClientContext for VerificationLog {
    // The first connection has logged the same lines.
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

/// Notes OpenSSL's result without changing it.
unsafe extern "C" fn note_verification(
    _client: *mut rd::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    _text: *mut c_char,
    _text_size: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka passes a pointer to an integer on its stack.
    let code = unsafe { *x509_error };
    // SAFETY: rdkafka sets the opaque pointer of every client to its context, which lives as long as the client's threads.
    if let Some(log) = unsafe { opaque.cast::<VerificationLog>().as_ref() } {
        let _ = log.0.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }
    c_int::from(code == 0)
}
