//! From the log of a librdkafka client to one clear failure. Pure.
//!
//! librdkafka reports failures of name resolution, connections, TLS and SASL as log lines only, without a code: [`meaning`] is the one
//! place of the connector that matches their text. Everything else goes by error codes.

use std::time::Duration;

use crate::connectors::kafka::librdkafka::certificate::CertificateFlaw;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;

/// The meaning of one line about a broker.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// `host:port`.
    server: String,
    /// The broker's id, once the cluster has advertised it.
    broker: Option<String>,
    step: &'static str,
    cause: String,
    hint: String,
    /// Whether waiting cannot help: a wrong password stays wrong, but a broker may be starting.
    lasting: bool,
}

/// Returns whether each of the section's servers has failed for a reason that waiting cannot change.
pub(crate) fn is_lasting(section: &KafkaSection, lines: &[String]) -> bool {
    let lasting: Vec<_> = findings(section, lines, None).into_iter().filter(|finding| finding.lasting).collect();
    let servers = || section.servers.split(',').map(str::trim).filter(|server| !server.is_empty());
    !lasting.is_empty() && servers().all(|server| lasting.iter().any(|finding| finding.server == with_port(server)))
}

/// Returns the failure behind `lines`, which are in order of time: a lasting one before one that may pass, a later one before an
/// earlier one.
pub(crate) fn diagnose(section: &KafkaSection, lines: &[String], flaw: Option<CertificateFlaw>, wait: Duration) -> Failure {
    let failure = Failure::new(format!("cannot connect to `{}`", section.name));
    let found = findings(section, lines, flaw);
    let Some(finding) = found.iter().rfind(|finding| finding.lasting).or(found.last()) else {
        let wait = humantime::format_duration(wait);
        return failure
            .because(format!("no answer from {} within {wait}", section.servers))
            .hint(format!("correct `servers` under [{}], or see whether a firewall is in between", section.name));
    };
    let broker = match &finding.broker {
        Some(broker) => format!("broker {broker}, advertised as {}", finding.server),
        None => finding.server.clone(),
    };
    failure.because(format!("{broker}: {}: {}", finding.step, finding.cause)).hint(finding.hint.clone())
}

/// Returns whether the certificate of a broker failed verification.
pub(crate) fn names_certificate(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains(CERTIFICATE_FAILED))
}

/// Returns the failure of a client that could not be created.
pub(crate) fn diagnose_creation(section: &KafkaSection, reason: &str) -> Failure {
    let name = &section.name;
    let failure = Failure::new(format!("cannot connect to `{name}`"));
    let keys = [
        ("ssl.ca.location", "ssl_ca_location", "is not a PEM certificate"),
        ("ssl.certificate.location", "ssl_certificate_location", "is not a PEM certificate"),
        ("ssl.key.location", "ssl_key_location", "is not the PEM key of the certificate, or `ssl_key_password` is wrong"),
    ];
    match keys.into_iter().find(|(property, ..)| reason.starts_with(property)) {
        Some((_, key, cause)) => {
            failure.because(format!("the file of `{key}` {cause}")).hint(format!("correct `{key}` under [{name}]"))
        }
        None => failure.because(without_secrets(section, reason)),
    }
}

/// Returns `text` without the section's secrets.
fn without_secrets(section: &KafkaSection, text: &str) -> String {
    let secrets = [&section.password, &section.ssl_key_password].into_iter().flatten();
    let properties = section.properties.iter().map(|(_, value)| value);
    let hide = |text: String, secret: &str| if secret.is_empty() { text } else { text.replace(secret, "***") };
    secrets.chain(properties).fold(text.to_owned(), |text, secret| hide(text, secret.reveal()))
}

fn findings(section: &KafkaSection, lines: &[String], flaw: Option<CertificateFlaw>) -> Vec<Finding> {
    lines.iter().filter_map(|line| finding(section, line, flaw)).collect()
}

/// Parses `[PROTOCOL://]HOST:PORT/BROKER: TEXT (in state STATE)`.
fn finding(section: &KafkaSection, line: &str, flaw: Option<CertificateFlaw>) -> Option<Finding> {
    let (server, text) = line.split_once(": ")?;
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let (server, broker) = server.rsplit_once('/')?;
    let broker = Some(broker).filter(|broker| *broker != "bootstrap").map(str::to_owned);
    let (text, state) = text.rsplit_once(" (in state ").unwrap_or((text, ""));
    let meaning = meaning(section, text, state.trim_end_matches(')'), flaw);
    let advertised = broker.is_some() && matches!(meaning.step, RESOLVE | CONNECT);
    let hint = if advertised { "correct `advertised.listeners` of the broker".to_owned() } else { meaning.hint };
    Some(Finding { server: server.to_owned(), broker, step: meaning.step, cause: meaning.cause, hint, lasting: meaning.lasting })
}

struct Meaning {
    step: &'static str,
    cause: String,
    hint: String,
    lasting: bool,
}

/// OpenSSL's words for it.
const CERTIFICATE_FAILED: &str = "certificate verify failed";
const RESOLVE: &str = "resolving the name";
const CONNECT: &str = "connecting";
const TLS: &str = "TLS handshake";
const AUTHENTICATION: &str = "SASL";
const FIRST_REQUEST: &str = "first request";

fn meaning(section: &KafkaSection, text: &str, state: &str, flaw: Option<CertificateFlaw>) -> Meaning {
    let name = &section.name;
    let has = |part: &str| text.contains(part);
    let passing = |step, cause: &str, hint: String| Meaning { step, cause: cause.to_owned(), hint, lasting: false };
    let lasting = |step, cause: String, hint: String| Meaning { step, cause, hint, lasting: true };
    let tls = section.protocol().ends_with("SSL");
    let sasl = section.protocol().starts_with("SASL");
    let protocol = |wanted: &str| format!("set `security_protocol = {wanted}` under [{name}], or use the listener for it");

    if has("Failed to resolve") {
        let cause = text.rsplit_once("': ").map_or("unknown host", |(_, cause)| cause);
        return passing(RESOLVE, &cause.to_lowercase(), format!("correct `servers` under [{name}]"));
    }
    if has(CERTIFICATE_FAILED) {
        return certificate(name, flaw);
    }
    if has("alert") && (has("certificate") || has("unknown ca") || has("handshake failure")) {
        return match section.ssl_certificate_location {
            None => lasting(
                TLS,
                "the broker requires a client certificate".to_owned(),
                format!("set `ssl_certificate_location` and `ssl_key_location` under [{name}]"),
            ),
            Some(_) => lasting(
                TLS,
                "the broker rejects the client certificate".to_owned(),
                format!("set `ssl_certificate_location` under [{name}] to one that is signed by the broker's CA"),
            ),
        };
    }
    // A broker without TLS closes the connection in the handshake. The text depends on which call meets the end of the connection,
    // the state does not.
    let closed_by_peer =
        ["isconnected", "SSL transport error", "unexpected eof", "Broken pipe", "Connection reset"].iter().any(|part| has(part));
    let in_handshake = state == "SSL_HANDSHAKE" || (tls && state == "CONNECT" && !text.starts_with("Connect to "));
    if (closed_by_peer && in_handshake) || has("wrong version number") || (tls && has("record layer failure")) {
        let wanted = if sasl { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
        return passing(TLS, "the listener does not speak TLS", protocol(wanted));
    }
    if has("mechanism handshake failed") {
        return mechanism(section, text);
    }
    if has("SASL authentication error") || has("Authentication failed") || has("AuthenticationFailed") {
        let (user, mechanism) = (section.username.as_deref().unwrap_or_default(), section.mechanism().unwrap_or_default());
        return lasting(
            AUTHENTICATION,
            format!("authentication failed for `{user}` ({mechanism})"),
            format!("correct `username`, `password` or `sasl_mechanism` under [{name}]"),
        );
    }
    if let Some(size) =
        text.split_once("Invalid response size ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<i64>().ok())
    {
        return foreign_response(section, size);
    }
    if has("timed out") && state == "CONNECT" {
        return passing(
            CONNECT,
            "no answer",
            format!("correct `servers` under [{name}], or see whether a firewall is in between"),
        );
    }
    if let Some((_, cause)) = text.split_once(" failed: ").filter(|_| text.starts_with("Connect to ")) {
        return passing(CONNECT, &cause.to_lowercase(), format!("start the broker, or correct `servers` under [{name}]"));
    }
    if has("isconnected") || has("Broken pipe") || has("Connection reset") {
        return closed_connection(section, state);
    }
    let cause = without_secrets(section, text);
    passing(
        if state == "CONNECT" { CONNECT } else { FIRST_REQUEST },
        &cause,
        format!("correct `servers` and `security_protocol` under [{name}]"),
    )
}

/// The meaning of a connection that the broker closed without a reason.
fn closed_connection(section: &KafkaSection, state: &str) -> Meaning {
    let (tls, sasl) = (section.protocol().ends_with("SSL"), section.protocol().starts_with("SASL"));
    let name = &section.name;
    let (cause, wanted) = match (tls, sasl, state) {
        // A SASL listener answers the first request, ApiVersions, and closes the connection at the next.
        (_, false, "UP" | "UPDATE") => {
            ("the broker closed the connection: the listener requires SASL", if tls { "SASL_SSL" } else { "SASL_PLAINTEXT" })
        }
        (false, _, _) => ("the broker closed the connection: the listener requires TLS", if sasl { "SASL_SSL" } else { "SSL" }),
        (true, ..) => {
            let hint = "see the log of the broker for the reason".to_owned();
            return Meaning { step: FIRST_REQUEST, cause: "the broker closed the connection".to_owned(), hint, lasting: false };
        }
    };
    let hint = format!("set `security_protocol = {wanted}` under [{name}], or use the listener for {}", section.protocol());
    Meaning { step: FIRST_REQUEST, cause: cause.to_owned(), hint, lasting: false }
}

/// The meaning of a response that is not from a Kafka broker: librdkafka logs its first four bytes as a size.
fn foreign_response(section: &KafkaSection, size: i64) -> Meaning {
    let name = &section.name;
    let bytes = u32::try_from(size).unwrap_or_default().to_be_bytes();
    // A TLS alert starts with its type, 21, and the version, 3.
    if bytes[..2] == [21, 3] {
        return Meaning { lasting: true, ..closed_connection(section, "") };
    }
    let cause = if &bytes == b"HTTP" {
        "the server speaks HTTP, not the Kafka protocol"
    } else {
        "the server does not speak the Kafka protocol"
    };
    Meaning { step: FIRST_REQUEST, cause: cause.to_owned(), hint: format!("correct `servers` under [{name}]"), lasting: true }
}

fn mechanism(section: &KafkaSection, text: &str) -> Meaning {
    let (name, mechanism) = (&section.name, section.mechanism().unwrap_or_default());
    let offered = text.rsplit_once("supported mechanisms:").map_or("", |(_, offered)| offered.trim());
    let (cause, hint) = if offered.is_empty() {
        let wanted = if section.protocol().ends_with("SSL") { "SSL" } else { "PLAINTEXT" };
        let hint = format!("set `security_protocol = {wanted}` under [{name}], or use the listener for SASL");
        ("the listener has no SASL".to_owned(), hint)
    } else {
        (
            format!("the broker does not offer {mechanism}, only {offered}"),
            format!("set `sasl_mechanism` under [{name}] to one of {offered}"),
        )
    };
    Meaning { step: AUTHENTICATION, cause, hint, lasting: true }
}

fn certificate(name: &str, flaw: Option<CertificateFlaw>) -> Meaning {
    let (cause, hint) = match flaw {
        Some(CertificateFlaw::UnknownCa) => (
            "the broker's certificate is signed by an untrusted CA".to_owned(),
            format!("set `ssl_ca_location` under [{name}] to the file of that CA"),
        ),
        Some(CertificateFlaw::Expired) => (
            "the broker's certificate has expired".to_owned(),
            "renew the certificate of the broker, or correct this machine's clock".to_owned(),
        ),
        Some(CertificateFlaw::NotYetValid) => (
            "the broker's certificate is not valid yet".to_owned(),
            "correct this machine's clock, or the certificate of the broker".to_owned(),
        ),
        Some(CertificateFlaw::OtherName) => (
            "the broker's certificate is for another host name".to_owned(),
            format!("name the broker in `servers` under [{name}] as its certificate does"),
        ),
        Some(CertificateFlaw::Other(code)) => (
            format!("the broker's certificate is not valid (OpenSSL verification code {code})"),
            format!("set `ssl_ca_location` under [{name}] to the file of the broker's CA"),
        ),
        None => (
            "the broker's certificate could not be verified".to_owned(),
            format!("set `ssl_ca_location` under [{name}] to the file of the broker's CA"),
        ),
    };
    Meaning { step: TLS, cause, hint, lasting: true }
}

/// Returns the server with a port, Kafka's default if it has none.
fn with_port(server: &str) -> String {
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { server.to_owned() } else { format!("{server}:9092") }
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
