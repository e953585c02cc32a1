//! From what librdkafka said to one clear failure. Pure: text in, text out.

use std::time::Duration;

use crate::connectors::kafka::certificate::CertificateFlaw;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;

/// What one line means.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// `host:port`.
    server: String,
    /// The broker's number, once the cluster has named it.
    broker: Option<String>,
    step: &'static str,
    cause: String,
    hint: String,
    /// Whether waiting cannot help: a wrong password stays wrong, a broker may be starting.
    lasting: bool,
}

/// Returns whether librdkafka was told, by each of the section's servers, something that waiting cannot change.
pub(crate) fn is_lasting(section: &KafkaSection, lines: &[String]) -> bool {
    let lasting: Vec<_> = findings(section, lines, None).into_iter().filter(|finding| finding.lasting).collect();
    let servers = || section.servers.split(',').map(str::trim).filter(|server| !server.is_empty());
    !lasting.is_empty() && servers().all(|server| lasting.iter().any(|finding| finding.server == with_port(server)))
}

/// Returns the failure behind `lines`, the oldest first: what cannot pass before what may, the latest before earlier ones.
///
/// `flaw` is what is known of the broker's certificate, `wait` how long was waited.
pub(crate) fn diagnose(section: &KafkaSection, lines: &[String], flaw: Option<CertificateFlaw>, wait: Duration) -> Failure {
    let failure = Failure::new(format!("cannot connect to `{}`", section.name));
    let found = findings(section, lines, flaw);
    let Some(finding) = found.iter().rfind(|finding| finding.lasting).or(found.last()) else {
        let wait = humantime::format_duration(wait);
        return failure
            .because(format!("no answer from {} within {wait}", section.servers))
            .hint(format!("correct `servers` under [{}], or see whether a firewall is in between", section.name));
    };
    let who = match &finding.broker {
        Some(broker) => format!("broker {broker}, which the cluster says is at {}", finding.server),
        None => finding.server.clone(),
    };
    failure.because(format!("{who}: {}: {}", finding.step, finding.cause)).hint(finding.hint.clone())
}

/// Returns the failure of a client that could not be made.
pub(crate) fn diagnose_creation(section: &KafkaSection, reason: &str) -> Failure {
    let name = &section.name;
    let failure = Failure::new(format!("cannot connect to `{name}`"));
    let keys = [
        ("ssl.ca.location", "ssl_ca_location", "is no certificate in PEM"),
        ("ssl.certificate.location", "ssl_certificate_location", "is no certificate in PEM"),
        (
            "ssl.key.location",
            "ssl_key_location",
            "is not the key of the certificate, or is no key in PEM, or `ssl_key_password` is wrong",
        ),
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

/// Returns what `[PROTOCOL://]HOST:PORT/BROKER: TEXT (in state STATE)` means.
fn finding(section: &KafkaSection, line: &str, flaw: Option<CertificateFlaw>) -> Option<Finding> {
    let (server, text) = line.split_once(": ")?;
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let (server, broker) = server.rsplit_once('/')?;
    let broker = Some(broker).filter(|broker| *broker != "bootstrap").map(str::to_owned);
    let (text, state) = text.rsplit_once(" (in state ").unwrap_or((text, ""));
    let meaning = meaning(section, text, state.trim_end_matches(')'), flaw);
    let advertised = broker.is_some() && matches!(meaning.step, LOOK_UP | CONNECT);
    let hint = if advertised { "correct `advertised.listeners` of the broker".to_owned() } else { meaning.hint };
    Some(Finding { server: server.to_owned(), broker, step: meaning.step, cause: meaning.cause, hint, lasting: meaning.lasting })
}

struct Meaning {
    step: &'static str,
    cause: String,
    hint: String,
    lasting: bool,
}

const LOOK_UP: &str = "looking up the name";
const CONNECT: &str = "connecting";
const TLS: &str = "TLS handshake";
const LOGIN: &str = "logging in";
const FIRST_REQUEST: &str = "first request";

fn meaning(section: &KafkaSection, text: &str, state: &str, flaw: Option<CertificateFlaw>) -> Meaning {
    let name = &section.name;
    let has = |part: &str| text.contains(part);
    let passing = |step, cause: &str, hint: String| Meaning { step, cause: cause.to_owned(), hint, lasting: false };
    let lasting = |step, cause: String, hint: String| Meaning { step, cause, hint, lasting: true };
    let tls = section.protocol().ends_with("SSL");
    let sasl = section.protocol().starts_with("SASL");
    let protocol =
        |wanted: &str| format!("set `security_protocol = {wanted}` under [{name}], or use the port that the broker has for it");

    if has("Failed to resolve") {
        let cause = text.rsplit_once("': ").map_or("it is not known here", |(_, cause)| cause);
        return passing(LOOK_UP, &cause.to_lowercase(), format!("correct `servers` under [{name}]"));
    }
    if has("certificate verify failed") {
        return certificate(name, flaw);
    }
    if has("alert") && (has("certificate") || has("unknown ca") || has("handshake failure")) {
        return match section.ssl_certificate_location {
            None => lasting(
                TLS,
                "the broker wants a client certificate".to_owned(),
                format!("set `ssl_certificate_location` and `ssl_key_location` under [{name}]"),
            ),
            Some(_) => lasting(
                TLS,
                "the broker does not take the client certificate".to_owned(),
                format!("set `ssl_certificate_location` under [{name}] to one that the broker's CA has signed"),
            ),
        };
    }
    // A broker without TLS hangs up in the handshake. What librdkafka says of it is a matter of timing: that depends on which of its
    // calls meets the end of the connection. The state in which it happened does not.
    let hung_up =
        ["isconnected", "SSL transport error", "unexpected eof", "Broken pipe", "Connection reset"].iter().any(|part| has(part));
    let in_handshake = state == "SSL_HANDSHAKE" || (tls && state == "CONNECT" && !text.starts_with("Connect to "));
    if (hung_up && in_handshake) || has("wrong version number") || (tls && has("record layer failure")) {
        let wanted = if sasl { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
        return passing(TLS, "the broker does not speak TLS on this port", protocol(wanted));
    }
    if has("mechanism handshake failed") {
        return mechanism(section, text);
    }
    if has("SASL authentication error") || has("Authentication failed") || has("AuthenticationFailed") {
        let (user, mechanism) = (section.username.as_deref().unwrap_or_default(), section.mechanism().unwrap_or_default());
        return lasting(
            LOGIN,
            format!("the broker does not take the password of `{user}` ({mechanism})"),
            format!("correct `username`, `password` or `sasl_mechanism` under [{name}]"),
        );
    }
    if let Some(size) =
        text.split_once("Invalid response size ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<i64>().ok())
    {
        return foreign_answer(section, size);
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
        return closed(section, state);
    }
    let cause = without_secrets(section, text);
    passing(
        if state == "CONNECT" { CONNECT } else { FIRST_REQUEST },
        &cause,
        format!("correct `servers` and `security_protocol` under [{name}]"),
    )
}

/// What a connection that the broker closed without a word means.
fn closed(section: &KafkaSection, state: &str) -> Meaning {
    let (tls, sasl) = (section.protocol().ends_with("SSL"), section.protocol().starts_with("SASL"));
    let name = &section.name;
    let (cause, wanted) = match (tls, sasl, state) {
        // A listener with SASL answers which versions it speaks, and hangs up at whatever comes next.
        (_, false, "UP" | "UPDATE") => ("the broker hung up: it wants a login", if tls { "SASL_SSL" } else { "SASL_PLAINTEXT" }),
        (false, _, _) => ("the broker hung up: it wants TLS on this port", if sasl { "SASL_SSL" } else { "SSL" }),
        (true, ..) => {
            let hint = "see the log of the broker for why it hung up".to_owned();
            return Meaning { step: FIRST_REQUEST, cause: "the broker hung up".to_owned(), hint, lasting: false };
        }
    };
    let hint = format!(
        "set `security_protocol = {wanted}` under [{name}], or use the port that the broker has for {}",
        section.protocol()
    );
    Meaning { step: FIRST_REQUEST, cause: cause.to_owned(), hint, lasting: false }
}

/// What bytes that are no answer of a Kafka broker mean: librdkafka shows the first four as a size.
fn foreign_answer(section: &KafkaSection, size: i64) -> Meaning {
    let name = &section.name;
    let bytes = u32::try_from(size).unwrap_or_default().to_be_bytes();
    // A TLS alert starts with its type, 21, and the version, 3.
    if bytes[..2] == [21, 3] {
        return Meaning { lasting: true, ..closed(section, "") };
    }
    let cause = if &bytes == b"HTTP" { "what answers is an HTTP server" } else { "what answers is no Kafka broker" };
    Meaning { step: FIRST_REQUEST, cause: cause.to_owned(), hint: format!("correct `servers` under [{name}]"), lasting: true }
}

fn mechanism(section: &KafkaSection, text: &str) -> Meaning {
    let (name, mechanism) = (&section.name, section.mechanism().unwrap_or_default());
    let offered = text.rsplit_once("supported mechanisms:").map_or("", |(_, offered)| offered.trim());
    let (cause, hint) = if offered.is_empty() {
        let wanted = if section.protocol().ends_with("SSL") { "SSL" } else { "PLAINTEXT" };
        let hint = format!("set `security_protocol = {wanted}` under [{name}], or use the port that the broker has for logins");
        ("the broker takes no login on this port".to_owned(), hint)
    } else {
        (
            format!("the broker does not offer {mechanism}, but {offered}"),
            format!("set `sasl_mechanism` under [{name}] to one of {offered}"),
        )
    };
    Meaning { step: LOGIN, cause, hint, lasting: true }
}

fn certificate(name: &str, flaw: Option<CertificateFlaw>) -> Meaning {
    let (cause, hint) = match flaw {
        Some(CertificateFlaw::UnknownCa) => (
            "the broker's certificate is of a CA that is not trusted here".to_owned(),
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
            format!("the broker's certificate is not good (OpenSSL verification code {code})"),
            format!("set `ssl_ca_location` under [{name}] to the file of the broker's CA"),
        ),
        None => (
            "the broker's certificate could not be verified".to_owned(),
            format!("set `ssl_ca_location` under [{name}] to the file of the broker's CA"),
        ),
    };
    Meaning { step: TLS, cause, hint, lasting: true }
}

/// Returns the server with Kafka's port, if it names none.
fn with_port(server: &str) -> String {
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { server.to_owned() } else { format!("{server}:9092") }
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
