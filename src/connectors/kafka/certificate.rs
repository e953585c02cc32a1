//! Why a broker's certificate is not good: librdkafka's log does not tell, its verification callback does.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaType;

use crate::connectors::kafka::client::base_config;
use crate::profile::KafkaSection;

/// What is wrong with a certificate, after OpenSSL's `X509_V_ERR` codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFlaw {
    /// No CA that is trusted here has signed it.
    UnknownCa,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It was issued to another host.
    OtherName,
    /// Something else, by its code.
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

/// Returns what is wrong with the certificate that the section's servers show; `None` when nothing is, or none came within `wait`.
///
/// Connects without logging in.
pub(crate) fn flaw(section: &KafkaSection, wait: Duration) -> Option<CertificateFlaw> {
    let mut config = base_config(section);
    config.set("security.protocol", "ssl");
    let native = config.create_native_config().ok()?;
    // SAFETY: the configuration is alive, and `judge` has the type that librdkafka expects.
    unsafe { bindings::rd_kafka_conf_set_ssl_cert_verify_cb(native.ptr(), Some(judge)) };
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
    // What it has to say was heard when the first connection failed.
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

/// Notes OpenSSL's verdict and leaves it as it is.
unsafe extern "C" fn judge(
    _client: *mut bindings::rd_kafka_t,
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
    if let Some(verdict) = unsafe { opaque.cast::<VerificationLog>().as_ref() } {
        let _ = verdict.0.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }
    c_int::from(code == 0)
}
