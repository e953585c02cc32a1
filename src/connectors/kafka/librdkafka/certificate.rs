//! Why the verification of a broker's certificate fails: librdkafka's log does not say, its verification callback does.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
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
pub(crate) fn flaw(config: ClientConfig, wait: Duration) -> Option<CertificateFlaw> {
    let flaw = |log: &VerificationLog| CertificateFlaw::of(log.first_error.load(Ordering::Relaxed));
    verify(config, wait, |log, answered| (answered || flaw(log).is_some()).then(|| flaw(log))).flatten()
}

/// Connects without logging in and returns the last second in which the certificate of the first server that answers within `wait` is
/// valid, since the Unix epoch.
pub(crate) fn valid_until(config: ClientConfig, wait: Duration) -> Option<i64> {
    verify(config, wait, |log, _| Some(log.not_after.load(Ordering::Relaxed)).filter(|time| *time != 0))
}

/// Connects until `look` returns something, for up to `wait` from when the looks before it have ended; it is given what the
/// verification has noted, and whether a server has answered.
fn verify<T>(mut config: ClientConfig, wait: Duration, look: impl Fn(&VerificationLog, bool) -> Option<T>) -> Option<T> {
    // Looks at several clusters at once would take each other's time: a client reads all CAs of the machine when it is created.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    config.set("security.protocol", "ssl");
    let native = config.create_native_config().ok()?;
    // SAFETY: the configuration is alive, and `note_verification` has the type that librdkafka expects.
    unsafe { rd::rd_kafka_conf_set_ssl_cert_verify_cb(native.ptr(), Some(note_verification)) };
    let client = Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, VerificationLog::default()).ok()?;
    let deadline = Instant::now() + wait;
    loop {
        let answered = client.fetch_cluster_id(Duration::from_millis(50)).is_some();
        let found = look(client.context(), answered);
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
    }
}

/// What the verification of certificates met.
#[derive(Default)]
struct VerificationLog {
    /// The first error: an OpenSSL code, 0 for none.
    first_error: AtomicI32,
    /// The end of the validity of a server's own certificate, in seconds since the Unix epoch; 0 if none was seen.
    not_after: AtomicI64,
}

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
    depth: c_int,
    certificate: *const c_char,
    size: usize,
    _text: *mut c_char,
    _text_size: usize,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka passes a pointer to an integer on its stack.
    let code = unsafe { *x509_error };
    // SAFETY: rdkafka sets the opaque pointer of every client to its context, which lives as long as the client's threads.
    if let Some(log) = unsafe { opaque.cast::<VerificationLog>().as_ref() } {
        let _ = log.first_error.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
        if depth == 0 && !certificate.is_null() {
            // SAFETY: librdkafka passes the certificate, DER, of this size.
            let certificate = unsafe { std::slice::from_raw_parts(certificate.cast::<u8>(), size) };
            log.not_after.store(not_after(certificate).unwrap_or_default(), Ordering::Relaxed);
        }
    }
    c_int::from(code == 0)
}

/// Returns the end of the validity of an X.509 certificate in DER, in seconds since the Unix epoch.
fn not_after(certificate: &[u8]) -> Option<i64> {
    const INTEGER: u8 = 0x02;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = tagged(SEQUENCE, certificate)?;
    let (mut fields, _) = tagged(SEQUENCE, certificate)?;
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, signature algorithm and issuer stand before the validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = tagged(tag, fields)?;
    }
    let (validity, _) = tagged(SEQUENCE, fields)?;
    let (_, _, second) = element(validity)?;
    let (tag, time, _) = element(second)?;
    let time = std::str::from_utf8(time).ok()?;
    let time = match tag {
        GENERALIZED_TIME => time.to_owned(),
        // Two digits of a year from 1950 to 2049.
        UTC_TIME if *time.as_bytes().first()? >= b'5' => format!("19{time}"),
        UTC_TIME => format!("20{time}"),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &time).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Parses the first element of `bytes`, which must have this tag; returns its content, and what follows it.
fn tagged(wanted: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// Tag and content of an element of DER, and what follows it.
type Element<'a> = (u8, &'a [u8], &'a [u8]);

/// Parses the first element of `bytes`.
fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length in so many bytes: four are enough.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let pem = include_str!("../../../../tests/it/deploy/ca.pem");
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
        assert_eq!(not_after(&der), Some(4_948_888_317));
        // Cut anywhere, it is no certificate, and no panic.
        let whole = (0..der.len()).filter(|length| not_after(&der[..*length]).is_some());
        assert_eq!(whole.count(), 0);
    }
}
