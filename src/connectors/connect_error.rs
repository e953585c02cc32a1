//! Connection errors of every kind of server: the step, the cause, and whether a retry can help. Pure: text in, text out.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub(crate) use crate::pipeline::ConnectStep;
use crate::pipeline::awaited::{CONNECT_TARGET, note_awaited};
use crate::pipeline::{Failure, FailureKind};
use crate::profile::Secret;

/// Why the certificate that a server shows is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateError {
    UnknownCa,
    Expired,
    NotYetValid,
    WrongName,
    /// Another reason, in the words of the TLS library; empty if it gives none.
    Other(String),
}

/// The cause of a failed step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConnectCause {
    NameNotResolved,
    ConnectionRefused,
    /// No answer came, within this time if it is known.
    NoAnswer(Option<Duration>),
    /// The server closed the connection in this step.
    Closed(ConnectStep),
    TlsNotSpoken,
    TlsRequired,
    /// TLS does not allow a dot at the end of the server's name.
    DotInName,
    Certificate(CertificateError),
    ClientCertificateRequired,
    ClientCertificateRejected,
    LoginRequired,
    /// The server closed the connection where a client logs in.
    LoginExpected,
    LoginNotOffered,
    /// The login of the user (or of the named credentials) is rejected.
    AuthenticationFailed(String),
    /// The server offers these mechanisms, and not the one of the section.
    MechanismNotOffered {
        wanted: String,
        offered: String,
    },
    /// Another kind of server answers.
    WrongServer(String),
    /// A file of the section cannot be used.
    File {
        key: &'static str,
        flaw: String,
    },
    /// Anything else, in the words of the server or of the client library.
    Other {
        step: Option<ConnectStep>,
        text: String,
        /// The hint; without one, to correct the address.
        hint: Option<String>,
        is_lasting: bool,
    },
}

/// The keys of a profile section, for hints.
#[derive(Clone, Debug)]
pub(crate) struct SectionKeys<'s> {
    pub(crate) section: &'s str,
    /// The noun for the server: `server` or `broker`.
    pub(crate) server: &'static str,
    /// The key with its address.
    pub(crate) address: &'static str,
    /// The key with its port, if it has one of its own.
    pub(crate) port: Option<&'static str>,
    /// The key with the file of trusted CAs.
    pub(crate) ca: &'s str,
    /// The keys of the client certificate, in backticks.
    pub(crate) client_certificate: &'s str,
    /// The keys of a login that may be wrong, in backticks.
    pub(crate) login: &'s str,
    /// The keys of a login that is missing, in backticks.
    pub(crate) new_login: &'s str,
    /// How to connect without the login that the section has: ``remove `username` and `password` under [mongodb]``.
    pub(crate) without_login: String,
    /// The key with the mechanism of a login, and the mechanisms that it can have.
    pub(crate) mechanism: (&'s str, &'s [&'s str]),
    /// How to enable TLS: ``set `tls = true` under [mongodb]``.
    pub(crate) tls_on: String,
    /// How to disable it.
    pub(crate) tls_off: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectError {
    /// The server's address, `db:27017`; empty if the cause names none.
    pub(crate) server: String,
    pub(crate) cause: ConnectCause,
}

impl ConnectCause {
    /// Returns a transient cause without a hint.
    pub(crate) fn other(step: ConnectStep, text: impl Into<String>) -> Self {
        Self::Other { step: Some(step), text: text.into(), hint: None, is_lasting: false }
    }

    /// Parses the error text of rustls or of the operating system.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let has = |part: &str| text.contains(part);
        Some(if has("UnknownIssuer") || has("CaUsedAsEndEntity") {
            Self::Certificate(CertificateError::UnknownCa)
        } else if has("NotValidForName") || has("not valid for name") {
            Self::Certificate(CertificateError::WrongName)
        } else if has("certificate: Expired") || has("certificate expired") {
            Self::Certificate(CertificateError::Expired)
        } else if has("NotValidYet") || has("certificate not valid yet") {
            Self::Certificate(CertificateError::NotYetValid)
        } else if let Some((_, flaw)) = text.split_once("peer certificate: ") {
            Self::Certificate(CertificateError::Other(flaw.to_owned()))
        } else if has("peer certificate") {
            Self::Certificate(CertificateError::Other(String::new()))
        } else if has("InvalidContentType") {
            Self::TlsNotSpoken
        } else if has("received fatal alert") {
            Self::ClientCertificateRejected
        } else if ["dns error", "failed to lookup address", "DNS resolution", "Name or service not known"].into_iter().any(has) {
            Self::NameNotResolved
        } else if has("Connection refused") {
            Self::ConnectionRefused
        } else {
            return None;
        })
    }

    pub(crate) fn step(&self) -> Option<ConnectStep> {
        Some(match self {
            Self::NameNotResolved => ConnectStep::NameLookup,
            Self::ConnectionRefused | Self::NoAnswer(None) => ConnectStep::Connect,
            Self::Closed(step) => *step,
            Self::TlsNotSpoken
            | Self::DotInName
            | Self::Certificate(_)
            | Self::ClientCertificateRequired
            | Self::ClientCertificateRejected => ConnectStep::TlsHandshake,
            Self::LoginRequired | Self::LoginNotOffered | Self::AuthenticationFailed(_) | Self::MechanismNotOffered { .. } => {
                ConnectStep::Login
            }
            Self::TlsRequired | Self::LoginExpected | Self::WrongServer(_) => ConnectStep::Request,
            Self::NoAnswer(Some(_)) | Self::File { .. } => return None,
            Self::Other { step, .. } => return *step,
        })
    }

    /// Returns the step whose keys have to be changed: a server may close the connection a step later. Of a server that is silent, the
    /// last one that it has answered.
    fn step_at_fault(&self) -> ConnectStep {
        match self {
            Self::TlsRequired => ConnectStep::TlsHandshake,
            Self::LoginExpected => ConnectStep::Login,
            Self::NoAnswer(_) => ConnectStep::Connect,
            Self::File { key, .. } if key.contains("ssl") || key.contains("tls") => ConnectStep::TlsHandshake,
            cause => cause.step().unwrap_or(ConnectStep::Request),
        }
    }

    /// Returns whether a retry cannot help: a wrong password stays wrong, but a server may be starting.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::TlsNotSpoken
            | Self::DotInName
            | Self::Certificate(_)
            | Self::ClientCertificateRequired
            | Self::LoginRequired
            | Self::LoginNotOffered
            | Self::AuthenticationFailed(_)
            | Self::MechanismNotOffered { .. }
            | Self::WrongServer(_)
            | Self::File { .. } => true,
            Self::NameNotResolved
            | Self::ConnectionRefused
            | Self::NoAnswer(_)
            | Self::Closed(_)
            | Self::ClientCertificateRejected
            | Self::TlsRequired
            | Self::LoginExpected => false,
            Self::Other { is_lasting, .. } => *is_lasting,
        }
    }

    /// Returns the sentence about the cause; `server` is the noun for the server.
    pub(crate) fn sentence(&self, server: &str) -> String {
        match self {
            Self::NameNotResolved => "the name does not resolve".to_owned(),
            Self::ConnectionRefused => "connection refused".to_owned(),
            Self::NoAnswer(None) => "no answer".to_owned(),
            Self::NoAnswer(Some(within)) => format!("no answer within {}", humantime::format_duration(*within)),
            Self::Closed(_) => format!("the {server} closed the connection"),
            Self::TlsNotSpoken => format!("the {server} does not speak TLS on this port"),
            Self::TlsRequired => format!("the {server} closed the connection: it requires TLS on this port"),
            Self::DotInName => "the name ends with a dot, which TLS does not allow".to_owned(),
            Self::Certificate(flaw) => match flaw {
                CertificateError::UnknownCa => format!("the {server}'s certificate is signed by a CA that is not trusted here"),
                CertificateError::Expired => format!("the {server}'s certificate has expired"),
                CertificateError::NotYetValid => format!("the {server}'s certificate is not valid yet"),
                CertificateError::WrongName => format!("the {server}'s certificate is for another host name"),
                CertificateError::Other(flaw) if flaw.is_empty() => format!("the {server}'s certificate is not valid"),
                CertificateError::Other(flaw) => format!("the {server}'s certificate is not valid ({flaw})"),
            },
            Self::ClientCertificateRequired => format!("the {server} requires a client certificate"),
            Self::ClientCertificateRejected => format!("the {server} rejects the client certificate, or requires one"),
            Self::LoginRequired => format!("the {server} requires a login"),
            Self::LoginExpected => format!("the {server} closed the connection: it requires a login"),
            Self::LoginNotOffered => format!("the {server} accepts no login on this port"),
            Self::AuthenticationFailed(of) => format!("authentication failed for {of}"),
            Self::MechanismNotOffered { wanted, offered } => format!("the {server} does not offer {wanted}, but {offered}"),
            Self::WrongServer(text) | Self::Other { text, .. } => text.clone(),
            Self::File { key, flaw } => format!("the file of `{key}` {flaw}"),
        }
    }

    fn hint(&self, keys: &SectionKeys<'_>) -> String {
        let SectionKeys { section, server, address, port, ca, client_certificate, login, new_login, tls_on, tls_off, .. } = keys;
        let address_and_port = port.map_or_else(|| format!("`{address}`"), |port| format!("`{address}` or `{port}`"));
        let correct = format!("correct {address_and_port} under [{section}]");
        match self {
            Self::Other { hint: Some(hint), .. } => hint.clone(),
            Self::NameNotResolved => format!("correct `{address}` under [{section}]"),
            Self::WrongServer(_) | Self::Other { .. } => correct,
            Self::ConnectionRefused => format!("start the {server}, or {correct}"),
            // A server without TLS may wait for more bytes of the handshake instead of answering.
            Self::NoAnswer(_) if tls_on == tls_off => {
                format!("{correct}, see whether a firewall is in between, or {tls_off}")
            }
            Self::NoAnswer(_) => format!("{correct}, or see whether a firewall is in between"),
            Self::DotInName => format!("remove the dot at the end of the name in `{address}` under [{section}]"),
            Self::TlsNotSpoken => tls_off.clone(),
            Self::Closed(_) | Self::TlsRequired => tls_on.clone(),
            Self::Certificate(flaw) => match flaw {
                CertificateError::Expired => format!("renew the certificate of the {server}, or correct this machine's clock"),
                CertificateError::NotYetValid => format!("correct this machine's clock, or the certificate of the {server}"),
                CertificateError::WrongName => {
                    format!("use the host name of the certificate in `{address}` under [{section}]")
                }
                CertificateError::UnknownCa => format!("set `{ca}` under [{section}] to the file of the {server}'s CA"),
                // Any of its parts may be at fault.
                CertificateError::Other(_) => format!(
                    "see its dates, names and CA with openssl s_client -connect HOST:PORT, and renew it or set `{ca}` under \
                     [{section}] to the file of the {server}'s CA"
                ),
            },
            Self::ClientCertificateRequired => format!("set {client_certificate} under [{section}]"),
            Self::ClientCertificateRejected => {
                format!("set {client_certificate} under [{section}] to one that the {server}'s CA has signed")
            }
            Self::LoginRequired | Self::LoginExpected => format!("set {new_login} under [{section}]"),
            Self::LoginNotOffered => format!("{}, or use the port that the {server} has for logins", keys.without_login),
            Self::AuthenticationFailed(_) => format!("correct {login} under [{section}]"),
            Self::MechanismNotOffered { offered, .. } => {
                let (key, known) = keys.mechanism;
                let possible: Vec<_> = offered.split(',').map(str::trim).filter(|offered| known.contains(offered)).collect();
                match possible.as_slice() {
                    [] => format!("use a listener of the {server} for {}", known.join(", ")),
                    possible => format!("set `{key}` under [{section}] to one of {}", possible.join(", ")),
                }
            }
            Self::File { key, .. } => format!("correct `{key}` under [{section}]"),
        }
    }
}

impl ConnectError {
    pub(crate) fn new(server: impl Into<String>, cause: ConnectCause) -> Self {
        Self { server: server.into(), cause }
    }

    /// Returns the server, the step and the cause: `db:27017: connecting: connection refused`.
    pub(crate) fn sentence(&self, keys: &SectionKeys<'_>) -> String {
        let server =
            Some(self.server.clone()).filter(|server| !server.is_empty() && !matches!(self.cause, ConnectCause::File { .. }));
        let parts = [server, self.cause.step().map(|step| step.to_string()), Some(self.cause.sentence(keys.server))];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }

    /// Returns the failure to connect to the section.
    pub(crate) fn failure(&self, keys: &SectionKeys<'_>) -> Failure {
        let failure = Failure::new(format!("cannot connect to `{}`", keys.section)).because(self.sentence(keys));
        failure.hint(self.cause.hint(keys)).kind(FailureKind::Connect(self.cause.step_at_fault()))
    }
}

/// How often a start that waits for a server says so.
const WAIT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long a connection may take in silence.
const SILENCE: Duration = Duration::from_secs(1);

/// The log lines of a start that waits for a server.
pub(crate) struct WaitLog<'s> {
    section: &'s str,
    wait: Duration,
    due: Instant,
    /// Says what is connected to, when that takes time.
    announcement: Option<AbortHandle>,
}

impl<'s> WaitLog<'s> {
    /// Begins to wait for the server of this section, for up to `wait`.
    pub(crate) fn new(section: &'s str, wait: Duration) -> Self {
        let name = section.to_owned();
        let announcement = Handle::try_current().ok().map(|runtime| {
            let line = async move {
                tokio::time::sleep(SILENCE).await;
                tracing::info!(target: CONNECT_TARGET, "Connecting to `{name}` ...");
            };
            runtime.spawn(line).abort_handle()
        });
        Self { section, wait, due: Instant::now() + Duration::from_secs(3), announcement }
    }

    /// Logs why the server cannot be used yet: after 3 s, and then every 10 s. The error that ends a short wait says enough.
    pub(crate) fn on_failed_attempt(&mut self, failure: impl FnOnce() -> Failure) {
        let now = Instant::now();
        if now < self.due || self.wait <= WAIT_LOG_INTERVAL {
            return;
        }
        self.due = now + WAIT_LOG_INTERVAL;
        let (section, reason) = (self.section, failure().causes.join(": "));
        let wait = humantime::format_duration(self.wait).to_string();
        note_awaited(Some(format!("waiting for `{section}`: {reason}")));
        tracing::warn!(reason, wait, "Waiting for `{section}`.");
    }

    /// Returns the failure of a start that has waited in vain: with its time, unless that is the usual one.
    pub(crate) fn gave_up(&self, mut failure: Failure) -> Failure {
        if self.wait > WAIT_LOG_INTERVAL {
            failure.what = format!("{} within {}", failure.what, humantime::format_duration(self.wait));
        }
        failure
    }
}

impl Drop for WaitLog<'_> {
    fn drop(&mut self) {
        self.announcement.iter().for_each(AbortHandle::abort);
        note_awaited(None);
    }
}

/// Returns `text` with `***` in the place of each secret.
pub(crate) fn without_secrets<'s>(text: &str, secrets: impl IntoIterator<Item = &'s Secret>) -> String {
    let hide = |text: String, secret: &Secret| match secret.reveal() {
        "" => text,
        secret => text.replace(secret, "***"),
    };
    secrets.into_iter().fold(text.to_owned(), hide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> SectionKeys<'static> {
        SectionKeys {
            section: "db",
            server: "server",
            address: "host",
            port: Some("port"),
            ca: "tls_ca_file",
            client_certificate: "`client_cert` and `client_key`",
            login: "`username` or `password`",
            new_login: "`username` and `password`",
            without_login: "remove `username` under [db]".to_owned(),
            mechanism: ("mechanism", &["PLAIN", "OTHER"]),
            tls_on: "set `tls = true` under [db]".to_owned(),
            tls_off: "set `tls = false` under [db]".to_owned(),
        }
    }

    #[test]
    fn a_start_that_waited_longer_than_usual_says_how_long() {
        let what = |seconds| WaitLog::new("s", Duration::from_secs(seconds)).gave_up(Failure::new("cannot connect to `s`")).what;
        assert_eq!([what(10), what(600)], ["cannot connect to `s`", "cannot connect to `s` within 10m"]);
    }

    #[test]
    fn a_failure_names_the_server_step_cause_and_remedy() {
        for (text, sentence, hint) in [
            (
                "Connection refused (os error 111)",
                "connecting: connection refused",
                "start the server, or correct `host` or `port` under [db]",
            ),
            ("dns error: x", "looking up the name: the name does not resolve", "correct `host` under [db]"),
            (
                "invalid peer certificate: UnknownIssuer",
                "TLS handshake: the server's certificate is signed by a CA that is not trusted here",
                "set `tls_ca_file` under [db] to the file of the server's CA",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"db\"",
                "TLS handshake: the server's certificate is for another host name",
                "use the host name of the certificate in `host` under [db]",
            ),
            (
                "invalid peer certificate: Expired",
                "TLS handshake: the server's certificate has expired",
                "renew the certificate of the server, or correct this machine's clock",
            ),
            (
                "invalid peer certificate: BadSignature",
                "TLS handshake: the server's certificate is not valid (BadSignature)",
                "see its dates, names and CA with openssl s_client -connect HOST:PORT, and renew it or set `tls_ca_file` under [db] to \
                 the file of the server's CA",
            ),
            (
                "received corrupt message of type InvalidContentType",
                "TLS handshake: the server does not speak TLS on this port",
                "set `tls = false` under [db]",
            ),
        ] {
            let failure = ConnectError::new("a:1", ConnectCause::of_text(text).unwrap()).failure(&keys());
            assert_eq!(failure.what, "cannot connect to `db`");
            assert_eq!((failure.causes[0].as_str(), failure.hint.as_deref()), (&*format!("a:1: {sentence}"), Some(hint)));
        }
        let failed = ConnectError::new("a:1", ConnectCause::AuthenticationFailed("`loader`".to_owned()));
        assert_eq!(failed.sentence(&keys()), "a:1: logging in: authentication failed for `loader`");
        let hint = |offered: &str| {
            let (wanted, offered) = ("X".to_owned(), offered.to_owned());
            ConnectCause::MechanismNotOffered { wanted, offered }.hint(&keys())
        };
        assert_eq!(hint("GSSAPI, OTHER,PLAIN"), "set `mechanism` under [db] to one of OTHER, PLAIN");
        assert_eq!(hint("GSSAPI,OAUTHBEARER"), "use a listener of the server for PLAIN, OTHER", "the key cannot have these");
        let hint = ConnectCause::LoginNotOffered.hint(&keys());
        assert_eq!(hint, "remove `username` under [db], or use the port that the server has for logins");
        let late = ConnectError::new("a:1", ConnectCause::NoAnswer(Some(Duration::from_secs(10))));
        assert_eq!(late.sentence(&keys()), "a:1: no answer within 10s");
    }

    #[test]
    fn a_wrong_password_or_certificate_is_not_retried() {
        let is_lasting = |text| ConnectCause::of_text(text).unwrap().is_lasting();
        assert!(ConnectCause::AuthenticationFailed(String::new()).is_lasting());
        assert!(is_lasting("invalid peer certificate: UnknownIssuer"));
        assert!(!is_lasting("Connection refused (os error 111)"));
        assert!(!ConnectCause::NoAnswer(None).is_lasting());
    }
}
