//! From the log of a librdkafka client to one clear failure. Pure.
//!
//! librdkafka reports failures of name resolution, connections, TLS and SASL as log lines only, without a code: [`known_cause`] is the
//! one place of the connector that matches their text. Everything else goes by error codes.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::connectors::connect_error::{self, CertificateError, ConnectCause, ConnectError, ConnectStep, SectionKeys};
use crate::connectors::kafka::librdkafka::certificate::CertificateFlaw;
use crate::connectors::kafka::librdkafka::token::TOKEN_FAILED;
use crate::pipeline::{Failure, FailureKind};
use crate::profile::{KafkaSection, MECHANISMS, TokenAccess, TokenSource};

/// The meaning of one line about a broker.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// `host:port`.
    server: String,
    /// The broker's id, once the cluster has advertised it.
    broker: Option<String>,
    /// Whether the connection is the one to a coordinator, which the cluster has advertised too.
    is_coordinator: bool,
    cause: ConnectCause,
    /// Whether the cause is known, rather than in librdkafka's words.
    is_known: bool,
    is_lasting: bool,
}

/// Returns whether each of the section's servers has failed for a reason that waiting cannot change.
pub(crate) fn is_lasting(section: &KafkaSection, lines: &[String]) -> bool {
    let lasting: Vec<_> = findings(section, lines, None).into_iter().filter(|finding| finding.is_lasting).collect();
    !lasting.is_empty() && servers(section).iter().all(|server| lasting.iter().any(|finding| finding.server == *server))
}

/// Returns the section's servers, each with its port.
pub(crate) fn servers(section: &KafkaSection) -> Vec<String> {
    section.servers.split(',').map(str::trim).filter(|server| !server.is_empty()).map(with_port).collect()
}

/// Returns the failure behind `lines`, which are in order of time: a lasting one before one that may pass, a later one before an
/// earlier one.
pub(crate) fn diagnose(section: &KafkaSection, lines: &[String], flaw: Option<CertificateFlaw>, wait: Duration) -> Failure {
    if let Some(why) = missing_token(section, lines) {
        return Failure::new(format!("cannot connect to `{}`", section.name)).because(why);
    }
    let mut found = findings(section, lines, flaw);
    let at = found.iter().rposition(|finding| finding.is_lasting).or(found.len().checked_sub(1));
    match at.map(|at| found.swap_remove(at)) {
        Some(finding) => finding.failure(section),
        None => failure(section, section.servers.clone(), ConnectCause::NoAnswer(Some(wait))),
    }
}

/// The most brokers that [`explain`] names.
const MAX_EXPLAINED: usize = 3;

/// Returns `failure`, of a request that no broker answered, with the brokers that cannot be reached: those that the cluster has
/// advertised, or else the section's servers.
pub(crate) fn explain(section: &KafkaSection, failure: Failure, lines: &[String]) -> Failure {
    let (advertised, bootstrap): (Vec<_>, Vec<_>) =
        findings(section, lines, None).into_iter().partition(|finding| finding.broker.is_some());
    let mut found = if advertised.is_empty() { bootstrap } else { advertised };
    found.reverse();
    let mut servers = HashSet::new();
    found.retain(|finding| servers.insert(finding.server.clone()));
    found.truncate(MAX_EXPLAINED);
    found.iter().fold(failure, |failure, finding| {
        let found = finding.failure(section);
        let failure = found.causes.into_iter().fold(failure, Failure::because);
        Failure { hint: failure.hint.or(found.hint), ..failure }
    })
}

/// The noun for the server.
const SERVER: &str = "broker";
/// The most brokers that [`outage`] names.
const MAX_NAMED: usize = 3;

/// Returns why brokers that were reached before cannot be reached now, by `lines`, which are in order of time: the newest cause, and
/// the brokers that have it. One outage has the same words, whichever connection meets it.
pub(crate) fn outage(section: &KafkaSection, lines: &[String]) -> Option<String> {
    if let Some(why) = missing_token(section, lines) {
        return Some(why);
    }
    let (advertised, bootstrap): (Vec<_>, Vec<_>) = findings(section, lines, None)
        .into_iter()
        .filter(|finding| finding.is_known)
        .partition(|finding| finding.broker.is_some() || finding.is_coordinator);
    let found = if advertised.is_empty() { bootstrap } else { advertised };
    let sentences = found.into_iter().map(|finding| (finding.server, in_outage(finding.cause).sentence(SERVER)));
    let sentences: Vec<(String, String)> = sentences.collect();
    let (_, newest) = sentences.last()?.clone();
    let last_of_each: BTreeMap<String, String> = sentences.into_iter().collect();
    let servers: Vec<String> = last_of_each.into_iter().filter(|(_, why)| *why == newest).map(|(server, _)| server).collect();
    Some(format!("{}: {newest}", named(&servers)))
}

/// Returns why there is no token to log in with, unless the brokers cannot be reached for another reason since: without a token every step
/// from the login on fails, in many words.
fn missing_token(section: &KafkaSection, lines: &[String]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.starts_with(TOKEN_FAILED))?;
    let follows = |cause: &ConnectCause| {
        let is_reached = matches!(in_outage(cause.clone()).step(), Some(ConnectStep::Login | ConnectStep::Request));
        is_reached && !matches!(cause, ConnectCause::WrongServer(_))
    };
    let is_cause = findings(section, &lines[at..], None).iter().all(|finding| follows(&finding.cause));
    is_cause.then(|| without_secrets(section, &lines[at][TOKEN_FAILED.len()..]))
}

/// Returns that the section's server does not answer, where no line says why; `None` if the section has several, of which one may be
/// silent.
pub(crate) fn silence(section: &KafkaSection) -> Option<String> {
    let server = section.servers.trim();
    (!server.contains(',')).then(|| format!("{}: {}", with_port(server), ConnectCause::NoAnswer(None).sentence(SERVER)))
}

/// Returns the reason that a client has noted last: an outage as [`outage`] says it, anything else as it is.
pub(crate) fn last_reason(section: &KafkaSection, lines: &[String]) -> Option<String> {
    let last = lines.last()?;
    if let Some(why) = missing_token(section, lines) {
        return Some(why);
    }
    let is_outage = finding(section, last, None).is_some_and(|finding| finding.is_known);
    let outage = is_outage.then(|| outage(section, lines)).flatten();
    Some(outage.unwrap_or_else(|| without_secrets(section, last)))
}

/// Returns the cause as that of a broker that was connected before: one that stops closes the connection, and wants neither TLS nor a
/// login by it.
fn in_outage(cause: ConnectCause) -> ConnectCause {
    match cause {
        ConnectCause::LoginExpected | ConnectCause::TlsRequired | ConnectCause::TlsNotSpoken => {
            ConnectCause::Closed(ConnectStep::Request)
        }
        cause => cause,
    }
}

fn named(servers: &[String]) -> String {
    match servers.len().checked_sub(MAX_NAMED) {
        Some(others @ 1..) => format!("{} and {others} more", servers[..MAX_NAMED].join(", ")),
        _ => servers.join(", "),
    }
}

impl Finding {
    fn failure(&self, section: &KafkaSection) -> Failure {
        let Self { server, broker, cause, .. } = self;
        let is_unreachable = matches!(cause.step(), Some(ConnectStep::NameLookup | ConnectStep::Connect));
        let Some(broker) = broker else { return failure(section, server.clone(), cause.clone()) };
        let failure = failure(section, format!("broker {broker}, advertised as {server}"), cause.clone());
        match cause {
            ConnectCause::DotInName => {
                failure.hint("remove the dot at the end of the name in `advertised.listeners` of the broker")
            }
            ConnectCause::ConnectionRefused => failure.hint("start the broker, or correct its `advertised.listeners`"),
            _ if is_unreachable => failure.hint("correct `advertised.listeners` of the broker"),
            _ => failure,
        }
    }
}

/// Returns the failure to connect to a server of the section.
pub(crate) fn failure(section: &KafkaSection, server: String, cause: ConnectCause) -> Failure {
    let (name, protocol) = (&section.name, section.protocol());
    let (is_tls, is_sasl) = (protocol.ends_with("SSL"), protocol.starts_with("SASL"));
    // A property takes the place of the key: a change of the key would have no effect.
    let key = |key: &str, properties: &[&str]| {
        let property = properties.iter().find(|property| section.property(property).is_some());
        property.map_or_else(|| key.to_owned(), |property| format!("kafka.{property}"))
    };
    let protocol_key = key("security_protocol", &["security.protocol"]);
    let set = |wanted: &str| format!("set `{protocol_key} = {wanted}` under [{name}], or use the listener for {protocol}");
    let (username, password) = (key("username", &["sasl.username"]), key("password", &["sasl.password"]));
    let mechanism = key("sasl_mechanism", &["sasl.mechanism", "sasl.mechanisms"]);
    let new_protocol = if is_tls { "SASL_SSL" } else { "SASL_PLAINTEXT" };
    let certificate = ["ssl.certificate.location", "ssl.certificate.pem"];
    let certificate =
        [key("ssl_certificate_location", &certificate), key("ssl_key_location", &["ssl.key.location", "ssl.key.pem"])];
    let keys = SectionKeys {
        section: name,
        server: SERVER,
        address: "servers",
        port: None,
        ca: &key("ssl_ca_location", &["ssl.ca.location", "ssl.ca.pem"]),
        client_certificate: &certificate.map(|key| format!("`{key}`")).join(" and "),
        login: &match section.tokens.as_ref().map(|tokens| &tokens.source) {
            None => format!("`{username}`, `{password}` or `{mechanism}`"),
            Some(TokenSource::Endpoint(_)) => "`oauth_client_id`, `oauth_scope` or `oauth_extensions`".to_owned(),
            Some(TokenSource::Command(_)) => "`oauth_token_command` or `oauth_extensions`".to_owned(),
            Some(TokenSource::File(_)) => "`oauth_token_file` or `oauth_extensions`".to_owned(),
            Some(TokenSource::Aws(_)) => "`aws_region`, or the rights of the AWS credentials,".to_owned(),
        },
        new_login: &format!("`{protocol_key} = {new_protocol}`, `{username}` and `{password}`"),
        without_login: without_login(section, &protocol_key),
        mechanism: (&mechanism, &MECHANISMS),
        tls_on: set(if is_sasl { "SASL_SSL" } else { "SSL" }),
        tls_off: set(if is_sasl { "SASL_PLAINTEXT" } else { "PLAINTEXT" }),
    };
    ConnectError::new(server, cause).failure(&keys)
}

/// Returns how to connect without the login that the section has. A protocol may follow from the username; with TLS it must be named,
/// since without one there would be no TLS.
fn without_login(section: &KafkaSection, protocol_key: &str) -> String {
    let keys = [
        ("username", section.username.is_some()),
        ("password", section.password.is_some()),
        ("sasl_mechanism", section.sasl_mechanism.is_some()),
    ];
    let keys = keys.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key.to_owned());
    let of_login = |property: &str| property.starts_with("sasl.");
    let properties = section.properties.iter().filter(|(property, _)| of_login(property));
    let login = keys.chain(properties.map(|(property, _)| format!("kafka.{property}")));
    let is_tls = section.protocol().ends_with("SSL");
    let is_named = section.security_protocol.is_some() || section.property("security.protocol").is_some();
    let protocol = (is_named && !is_tls).then(|| format!("{protocol_key} = {}", section.protocol()));
    let quoted: Vec<_> = protocol.into_iter().chain(login).map(|key| format!("`{key}`")).collect();
    let all = match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    let set_tls = is_tls.then(|| format!("set `{protocol_key} = SSL`"));
    let remove = (!all.is_empty()).then(|| format!("remove {all}"));
    format!("{} under [{}]", set_tls.into_iter().chain(remove).collect::<Vec<_>>().join(", and "), section.name)
}

/// Returns whether the certificate of a broker failed verification.
pub(crate) fn names_certificate(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains(CERTIFICATE_FAILED))
}

/// Returns the failure of a client that could not be created.
pub(crate) fn diagnose_creation(section: &KafkaSection, reason: &str) -> Failure {
    let keys = [
        ("ssl.ca.location", "ssl_ca_location", "is not a PEM certificate"),
        ("ssl.certificate.location", "ssl_certificate_location", "is not a PEM certificate"),
        ("ssl.key.location", "ssl_key_location", "is not the PEM key of the certificate, or `ssl_key_password` is wrong"),
    ];
    match keys.into_iter().find(|(property, ..)| reason.starts_with(property)) {
        Some((_, key, flaw)) => {
            failure(section, String::new(), ConnectCause::File { key, flaw: flaw.to_owned() }).kind(FailureKind::Profile)
        }
        None => Failure::new(format!("cannot connect to `{}`", section.name)).because(without_secrets(section, reason)),
    }
}

/// Returns `text` without the section's secrets.
fn without_secrets(section: &KafkaSection, text: &str) -> String {
    let secrets = [&section.password, &section.ssl_key_password].into_iter().flatten();
    let of_tokens = section.tokens.iter().flat_map(TokenAccess::secrets);
    connect_error::without_secrets(text, secrets.chain(of_tokens).chain(section.properties.iter().map(|(_, value)| value)))
}

fn findings(section: &KafkaSection, lines: &[String], flaw: Option<CertificateFlaw>) -> Vec<Finding> {
    lines.iter().filter_map(|line| finding(section, line, flaw)).collect()
}

/// librdkafka's names for the connections to coordinators, before their addresses.
const COORDINATORS: [&str; 2] = ["GroupCoordinator: ", "TxnCoordinator: "];

/// Parses `[PROTOCOL://]HOST:PORT/BROKER: TEXT (in state STATE)`, and `GroupCoordinator: [PROTOCOL://]HOST:PORT: TEXT (in state STATE)`.
fn finding(section: &KafkaSection, line: &str, flaw: Option<CertificateFlaw>) -> Option<Finding> {
    let of_coordinator = COORDINATORS.iter().find_map(|name| line.strip_prefix(name));
    let is_coordinator = of_coordinator.is_some();
    let (server, text) = of_coordinator.unwrap_or(line).split_once(": ")?;
    let server = server.split_once("://").map_or(server, |(_, server)| server);
    let (server, broker) = match server.rsplit_once('/') {
        Some((server, broker)) => (server, Some(broker).filter(|broker| *broker != "bootstrap").map(str::to_owned)),
        None if is_coordinator && server.contains(':') => (server, None),
        None => return None,
    };
    let (text, state) = text.rsplit_once(" (in state ").unwrap_or((text, ""));
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let state = state.trim_end_matches(')');
    let known = known_cause(section, text, state, flaw);
    let is_known = known.is_some();
    let cause = match known.unwrap_or_else(|| unknown_cause(section, text, state)) {
        // OpenSSL sends the dot in the server name, which TLS forbids.
        cause if host.ends_with('.') && text.contains(ILLEGAL_PARAMETER) => {
            tracing::debug!(?cause, "A TLS handshake failed with a dot at the end of the name.");
            ConnectCause::DotInName
        }
        cause => cause,
    };
    let is_lasting = match cause {
        // A broker that stops closes the connection as well.
        ConnectCause::TlsNotSpoken => false,
        // The broker says it in an alert.
        ConnectCause::ClientCertificateRejected => true,
        ConnectCause::TlsRequired => text.contains(RESPONSE_SIZE),
        _ => cause.is_lasting(),
    };
    Some(Finding { server: server.to_owned(), broker, is_coordinator, cause, is_known, is_lasting })
}

/// The alert of a server to a name with a dot at its end.
const ILLEGAL_PARAMETER: &str = "alert illegal parameter";
/// OpenSSL's words for it.
const CERTIFICATE_FAILED: &str = "certificate verify failed";
/// librdkafka takes the first four bytes of a response for its size.
const RESPONSE_SIZE: &str = "Invalid response size ";

fn known_cause(section: &KafkaSection, text: &str, state: &str, flaw: Option<CertificateFlaw>) -> Option<ConnectCause> {
    let has = |part: &str| text.contains(part);
    let (is_tls, mechanism) = (section.protocol().ends_with("SSL"), section.mechanism().unwrap_or_default());

    if has("Failed to resolve") {
        return Some(ConnectCause::NameNotResolved);
    }
    if has(CERTIFICATE_FAILED) {
        return Some(certificate(flaw));
    }
    if has("alert") && (has("certificate") || has("unknown ca") || has("handshake failure")) {
        let by_property = ["ssl.certificate.location", "ssl.certificate.pem"].iter().any(|name| section.property(name).is_some());
        let has_certificate = by_property || section.ssl_certificate_location.is_some();
        return Some(if has_certificate {
            ConnectCause::ClientCertificateRejected
        } else {
            ConnectCause::ClientCertificateRequired
        });
    }
    // A broker without TLS closes the connection in the handshake. The text depends on which call meets the end of the connection,
    // the state does not.
    let closed_by_peer =
        ["isconnected", "SSL transport error", "unexpected eof", "Broken pipe", "Connection reset"].iter().any(|part| has(part));
    let in_handshake = state == "SSL_HANDSHAKE" || (is_tls && state == "CONNECT" && !text.starts_with("Connect to "));
    if (closed_by_peer && in_handshake) || has("wrong version number") || (is_tls && has("record layer failure")) {
        return Some(ConnectCause::TlsNotSpoken);
    }
    if has("mechanism handshake failed") {
        let offered = text.rsplit_once("supported mechanisms:").map_or("", |(_, offered)| offered.trim());
        return Some(match offered {
            "" => ConnectCause::LoginNotOffered,
            offered => ConnectCause::MechanismNotOffered { wanted: mechanism.to_owned(), offered: offered.to_owned() },
        });
    }
    // librdkafka prints the answer of the broker in two forms, by who speaks last.
    if section.tokens.is_some() && (has("SASL authentication error") || has("SASL OAUTHBEARER authentication failed")) {
        return Some(ConnectCause::AuthenticationFailed(token_of(section, mechanism)));
    }
    if has("SASL authentication error") || has("Authentication failed") || has("AuthenticationFailed") {
        let user = section.property("sasl.username").or(section.username.as_deref()).unwrap_or_default();
        return Some(ConnectCause::AuthenticationFailed(format!("`{user}` ({mechanism})")));
    }
    if let Some(size) = text.split_once(RESPONSE_SIZE).and_then(|(_, rest)| rest.split(' ').next()?.parse::<i64>().ok()) {
        return Some(foreign_response(size));
    }
    // Of a connection, a request, or the question for the broker's version: librdkafka takes its silence for an old broker.
    if has("timed out") || has("Timed out") {
        return Some(ConnectCause::NoAnswer(None));
    }
    if has("Connection refused") {
        return Some(ConnectCause::ConnectionRefused);
    }
    if let Some((_, reason)) = text.split_once(" failed: ").filter(|_| text.starts_with("Connect to ")) {
        return Some(ConnectCause::other(ConnectStep::Connect, reason.to_lowercase()));
    }
    if has("isconnected") || has("Broken pipe") || has("Connection reset") {
        let is_sasl = section.protocol().starts_with("SASL");
        return Some(match (is_tls, is_sasl, state) {
            // A SASL listener answers the first request, ApiVersions, and closes the connection at the next.
            (_, false, "UP" | "UPDATE") => ConnectCause::LoginExpected,
            (false, ..) => ConnectCause::TlsRequired,
            (true, ..) => ConnectCause::Other {
                step: Some(ConnectStep::Request),
                text: "the broker closed the connection".to_owned(),
                hint: Some("see the log of the broker for the reason".to_owned()),
                is_lasting: false,
            },
        });
    }
    None
}

/// Returns whose token a broker refuses.
fn token_of(section: &KafkaSection, mechanism: &str) -> String {
    match section.tokens.as_ref().map(|tokens| &tokens.source) {
        Some(TokenSource::Endpoint(endpoint)) => format!("the token of client `{}` ({mechanism})", endpoint.client_id),
        Some(TokenSource::Aws(_)) => format!("the AWS credentials ({mechanism})"),
        _ => format!("the token ({mechanism})"),
    }
}

fn unknown_cause(section: &KafkaSection, text: &str, state: &str) -> ConnectCause {
    let step = if state == "CONNECT" { ConnectStep::Connect } else { ConnectStep::Request };
    ConnectCause::Other {
        step: Some(step),
        text: without_secrets(section, text),
        hint: Some(format!("correct `servers` and `security_protocol` under [{}]", section.name)),
        is_lasting: false,
    }
}

/// Returns the cause of a response that is not from a Kafka broker, by its first four bytes.
fn foreign_response(size: i64) -> ConnectCause {
    let bytes = u32::try_from(size).unwrap_or_default().to_be_bytes();
    match &bytes {
        // A TLS alert starts with its type, 21, and the version, 3.
        [21, 3, ..] => ConnectCause::TlsRequired,
        b"HTTP" => ConnectCause::WrongServer("the server speaks HTTP, not the Kafka protocol".to_owned()),
        _ => ConnectCause::WrongServer("the server does not speak the Kafka protocol".to_owned()),
    }
}

fn certificate(flaw: Option<CertificateFlaw>) -> ConnectCause {
    ConnectCause::Certificate(match flaw {
        Some(CertificateFlaw::UnknownCa) => CertificateError::UnknownCa,
        Some(CertificateFlaw::Expired) => CertificateError::Expired,
        Some(CertificateFlaw::NotYetValid) => CertificateError::NotYetValid,
        Some(CertificateFlaw::OtherName) => CertificateError::WrongName,
        Some(CertificateFlaw::Other(code)) => CertificateError::Other(format!("OpenSSL verification code {code}")),
        None => CertificateError::Other(String::new()),
    })
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
