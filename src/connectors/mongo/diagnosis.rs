//! From an error of the driver or of the server to the failure that a user sees. Pure: text in, text out.

use std::time::Duration;

use crate::connectors::connect_error::{self, ConnectCause, ConnectError, ConnectStep, SectionKeys};
use crate::connectors::mongo::command_error::CommandError;
use crate::pipeline::Failure;
use crate::profile::{MongoSection, Secret};

/// Returns whether a retry cannot help.
pub(super) fn is_lasting(section: &MongoSection, error: &CommandError) -> bool {
    matches!(error, CommandError::Command { code: 13, .. }) || cause(section, error, Duration::ZERO).is_lasting()
}

/// Returns the failure of a first contact after this time.
pub(super) fn diagnose(section: &MongoSection, error: &CommandError, wait: Duration) -> Failure {
    ConnectError::new(address(section), cause(section, error, wait)).failure(&keys(section))
}

/// Returns the failure to connect to one of the section's servers.
pub(crate) fn connect_failure(section: &MongoSection, server: &str, cause: ConnectCause) -> Failure {
    ConnectError::new(server, cause).failure(&keys(section))
}

/// Returns how the section connects: whether with TLS, and whether with a login.
pub(crate) fn security(section: &MongoSection) -> (bool, bool) {
    (wants_tls(section), logs_in(section))
}

/// Returns the failure of the write probe.
pub(super) fn not_writable(section: &MongoSection, database: &str, collection: &str, error: &CommandError) -> Failure {
    let failure = Failure::new(format!("cannot write to `{database}.{collection}` of `{}`", section.name));
    let CommandError::Command { code, .. } = error else {
        let diagnosed = diagnose(section, error, Duration::from_secs(30));
        return Failure { what: failure.what, ..diagnosed };
    };
    let (cause, hint) = match code {
        13 if !logs_in(section) => {
            ("the server requires a login".to_owned(), format!("set `username` and `password` under [{}]", section.name))
        }
        13 => {
            let user = section.username.as_ref().map_or_else(|| "the user".to_owned(), |user| format!("`{user}`"));
            (format!("{user} is not authorized"), format!("grant `readWrite` on the database `{database}`"))
        }
        73 => ("the server rejects the name".to_owned(), "write to a database and a collection of another name".to_owned()),
        166 => (format!("`{collection}` is a view"), "write to a collection that is not a view".to_owned()),
        10107 | 13435 | 13436 => (
            "the server is a secondary".to_owned(),
            format!("set `uri` under [{}] to the whole replica set: mongodb://a,b,c/?replicaSet=NAME", section.name),
        ),
        64 | 79 | 100 => (
            "no majority of the replica set acknowledges a write".to_owned(),
            "see rs.status() and rs.conf() on the server".to_owned(),
        ),
        _ => {
            let diagnosed = diagnose(section, error, Duration::from_secs(30));
            return Failure { what: failure.what, ..diagnosed };
        }
    };
    failure.because(cause).hint(hint)
}

fn cause(section: &MongoSection, error: &CommandError, wait: Duration) -> ConnectCause {
    match error {
        CommandError::Login(_) | CommandError::Command { code: 18, .. } => {
            let user = section.username.as_ref().map_or_else(|| "the user of `uri`".to_owned(), |user| format!("`{user}`"));
            ConnectCause::AuthenticationFailed(user)
        }
        CommandError::Command { code, message, .. } if error.is_unknown_command() => ConnectCause::Other {
            step: Some(ConnectStep::Request),
            text: format!("the server does not know a command: {} ({code})", without_secrets(section, message)),
            hint: Some("use MongoDB 4.4 or newer, or a server that knows the command".to_owned()),
            is_lasting: false,
        },
        CommandError::Command { code, name, message, .. } => {
            let text = without_secrets(section, if name.is_empty() { message } else { name });
            ConnectCause::other(ConnectStep::Request, format!("{text} ({code})"))
        }
        CommandError::Unreadable(text) => ConnectCause::other(ConnectStep::Request, text.clone()),
        CommandError::TimedOut => ConnectCause::NoAnswer(Some(wait)),
        CommandError::Closed(_) => ConnectCause::Closed(ConnectStep::Request),
        CommandError::Unreachable(text) => unreachable(section, text),
    }
}

fn unreachable(section: &MongoSection, text: &str) -> ConnectCause {
    let inner = innermost(text);
    let has = |part: &str| inner.contains(part) || text.contains(part);
    let lasting = |step, text: String, hint: Option<String>| ConnectCause::Other { step, text, hint, is_lasting: true };
    if let Some(cause) = ConnectCause::of_text(inner).or_else(|| ConnectCause::of_text(text)) {
        return cause;
    }
    if has("Unable to parse PEM") || has("No such file") {
        return ConnectCause::File { key: "tls_ca_file", flaw: "cannot be read, or is not a certificate in PEM".to_owned() };
    }
    if has("wire version") {
        let text = "the version of the server is not supported".to_owned();
        return lasting(Some(ConnectStep::Request), text, Some("use MongoDB 4.4 or newer".to_owned()));
    }
    if has("ReplicaSetNoPrimary") || has("RSSecondary") {
        return ConnectCause::Other {
            step: Some(ConnectStep::Request),
            text: "the replica set has no primary".to_owned(),
            hint: Some("see rs.status() on the server".to_owned()),
            is_lasting: false,
        };
    }
    if has("timed out") || has("deadline has elapsed") || has("imeout") && inner == text {
        return ConnectCause::NoAnswer(None);
    }
    if has("end of file") || has("eset by peer") || has("EOF") {
        return ConnectCause::Closed(ConnectStep::Connect);
    }
    let cleaned = without_secrets(section, inner);
    if has("connection string") || has("invalid argument") {
        return lasting(None, cleaned, None);
    }
    ConnectCause::Other { step: None, text: cleaned, hint: None, is_lasting: false }
}

fn keys(section: &MongoSection) -> SectionKeys<'_> {
    let name = &section.name;
    SectionKeys {
        section: name,
        server: "server",
        address: if section.uri.is_some() { "uri" } else { "host" },
        port: section.uri.is_none().then_some("port"),
        ca: "tls_ca_file",
        client_certificate: "`tlsCertificateKeyFile` in `uri`",
        login: if section.username.is_some() { "`username`, `password` or `auth_database`" } else { "`uri`" },
        new_login: "`username` and `password`",
        without_login: format!("remove `username` and `password` under [{}]", section.name),
        mechanism: ("", &[]),
        tls_on: if wants_tls(section) {
            format!("set `tls = false` under [{name}], or use the port that the server has for TLS")
        } else {
            format!("set `tls = true` under [{name}], or use the port that the server has without TLS")
        },
        tls_off: format!("set `tls = false` under [{name}], or use the port that the server has for TLS"),
    }
}

fn wants_tls(section: &MongoSection) -> bool {
    let in_uri = |uri: &Secret| ["tls=true", "ssl=true", "mongodb+srv:"].iter().any(|part| uri.reveal().contains(part));
    section.tls || section.tls_ca_file.is_some() || section.uri.as_ref().is_some_and(in_uri)
}

/// Returns whether the section names a user.
fn logs_in(section: &MongoSection) -> bool {
    let in_uri =
        |uri: &Secret| uri.reveal().split_once("://").is_some_and(|(_, rest)| rest.contains('@') || rest.contains("authMech"));
    section.username.is_some() || section.uri.as_ref().is_some_and(in_uri)
}

/// Returns the cause that the driver's message ends in: `... Error: Kind: CAUSE, labels: ...`.
pub(super) fn innermost(text: &str) -> &str {
    let cause = text.rsplit_once("Kind: ").map_or(text, |(_, cause)| cause);
    cause.split_once(", labels:").map_or(cause, |(cause, _)| cause)
}

/// Returns the section's servers, without the user and password that a connection string can hold.
fn address(section: &MongoSection) -> String {
    match (&section.uri, &section.host) {
        (Some(uri), _) => {
            let rest = uri.reveal().split_once("://").map_or("", |(_, rest)| rest);
            let rest = rest.split(['/', '?']).next().unwrap_or_default();
            // A password may hold an `@` that should have been escaped: everything up to the last one is left out.
            let host = uri.reveal().rsplit_once('@').map_or(rest, |(_, host)| host.split(['/', '?']).next().unwrap_or_default());
            if host.is_empty() { "the server of `uri`".to_owned() } else { host.to_owned() }
        }
        (None, Some(host)) => format!("{host}:{}", section.port),
        (None, None) => String::new(),
    }
}

/// Returns `text` without the section's secrets.
fn without_secrets(section: &MongoSection, text: &str) -> String {
    let in_uri = section.uri.as_ref().and_then(|uri| {
        let (user, _) = uri.reveal().rsplit_once('@')?;
        let (_, password) = user.rsplit_once("://").map_or(user, |(_, user)| user).split_once(':')?;
        Some(Secret::new(password.to_owned()))
    });
    connect_error::without_secrets(text, [&section.password, &section.uri, &in_uri].into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(uri: Option<&str>) -> MongoSection {
        let uri = uri.map(|uri| Secret::new(uri.to_owned()));
        let host = uri.is_none().then(|| "db".to_owned());
        let password = host.is_some().then(|| Secret::new("canary".to_owned()));
        let username = host.is_some().then(|| "loader".to_owned());
        MongoSection { name: "mongodb".to_owned(), uri, host, port: 27017, username, password, ..MongoSection::default() }
    }

    fn cause(error: &CommandError) -> (String, String) {
        let failure = diagnose(&section(None), error, Duration::from_secs(10));
        assert_eq!(failure.what, "cannot connect to `mongodb`");
        (failure.causes[0].clone(), failure.hint.unwrap())
    }

    fn selection(cause: &str) -> CommandError {
        CommandError::Unreachable(format!(
            "Server selection timeout: No available servers. Topology: {{ Type: Unknown, Servers: [ {{ Address: db:27017, Type: \
             Unknown, Error: Kind: {cause}, labels: {{}} }} ] }}"
        ))
    }

    #[test]
    fn a_failure_names_the_server_step_and_remedy() {
        for (error, expected, hint) in [
            (
                selection("I/O error: Connection refused (os error 111)"),
                "db:27017: connecting: connection refused",
                "start the server, or correct `host` or `port` under [mongodb]",
            ),
            (
                selection("I/O error: failed to lookup address information: Name or service not known"),
                "db:27017: looking up the name: the name does not resolve",
                "correct `host` under [mongodb]",
            ),
            (
                selection("I/O error: invalid peer certificate: UnknownIssuer"),
                "db:27017: TLS handshake: the server's certificate is signed by a CA that is not trusted here",
                "set `tls_ca_file`",
            ),
            (
                selection(
                    "I/O error: invalid peer certificate: certificate not valid for name \"db\"; certificate is only valid for DnsName(\"x\")",
                ),
                "db:27017: TLS handshake: the server's certificate is for another host name",
                "use the host name of the certificate in `host` under",
            ),
            (
                selection("I/O error: received corrupt message of type InvalidContentType"),
                "db:27017: TLS handshake: the server does not speak TLS on this port",
                "set `tls = false`",
            ),
            (
                CommandError::Login("SCRAM failure: Authentication failed.".to_owned()),
                "db:27017: logging in: authentication failed for `loader`",
                "correct `username`, `password` or `auth_database` under [mongodb]",
            ),
            (CommandError::TimedOut, "db:27017: no answer within 10s", "correct `host` or `port` under [mongodb]"),
            (
                CommandError::Closed("unexpected end of file".to_owned()),
                "db:27017: first request: the server closed the connection",
                "set `tls = true`",
            ),
        ] {
            let (what, helps) = cause(&error);
            assert!(what.starts_with(expected), "{what}");
            assert!(helps.starts_with(hint), "{helps}");
        }
    }

    #[test]
    fn a_missing_login_and_a_missing_privilege_are_distinguished() {
        let refused =
            CommandError::Command { code: 13, name: "Unauthorized".to_owned(), message: "no".to_owned(), is_transient: false };
        for (uri, cause, hint) in [
            (None, "`loader` is not authorized", "grant `readWrite`"),
            (Some("mongodb://db:27017"), "the server requires a login", "set `username` and `password` under [mongodb]"),
            (Some("mongodb://loader:canary@db:27017"), "the user is not authorized", "grant `readWrite`"),
        ] {
            let failure = not_writable(&section(uri), "d", "c", &refused);
            assert!(failure.causes[0].starts_with(cause), "{failure}");
            assert!(failure.hint.unwrap().starts_with(hint));
        }
    }

    #[test]
    fn a_wrong_password_or_certificate_is_not_retried() {
        assert!(is_lasting(&section(None), &CommandError::Login("no".to_owned())));
        assert!(is_lasting(&section(None), &selection("I/O error: invalid peer certificate: UnknownIssuer")));
        assert!(!is_lasting(&section(None), &selection("I/O error: Connection refused (os error 111)")));
        assert!(!is_lasting(&section(None), &CommandError::TimedOut));
    }

    #[test]
    fn no_secret_is_shown() {
        for uri in
            ["mongodb://loader:canary@db:27017/x?tls=true", "mongodb://loader:canary@canary@db:27017", "mongodb://db:27017"]
        {
            let section = section(Some(uri));
            for error in [
                CommandError::Unreachable(format!("odd: {uri} and canary@canary")),
                CommandError::Command { code: 1, name: String::new(), message: format!("odd {uri}"), is_transient: false },
                CommandError::Login("canary".to_owned()),
            ] {
                let failure = diagnose(&section, &error, Duration::ZERO);
                if uri.contains("canary") {
                    assert!(!failure.to_string().contains("canary"), "{failure}");
                }
                assert!(failure.causes[0].contains("db:27017"), "{failure}");
            }
        }
    }
}
