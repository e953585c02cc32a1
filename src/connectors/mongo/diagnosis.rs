//! From what the driver or the server said to one clear failure. Pure: text in, text out.

use std::time::Duration;

use crate::connectors::mongo::response::CommandError;
use crate::pipeline::Failure;
use crate::profile::{MongoSection, Secret};

/// Returns whether waiting cannot help: a wrong password stays wrong, a server may be starting.
pub(super) fn is_lasting(said: &CommandError) -> bool {
    match said {
        CommandError::Login(_) => true,
        CommandError::Command { code, .. } => matches!(code, 13 | 18),
        CommandError::Unreachable(text) => {
            ["peer certificate", "InvalidContentType", "wire version", "Unable to parse", "connection string"]
                .iter()
                .any(|part| text.contains(part))
        }
        CommandError::Closed(_) | CommandError::Late => false,
    }
}

/// Returns the failure of a first contact that was waited for so long.
pub(super) fn diagnose(section: &MongoSection, said: &CommandError, wait: Duration) -> Failure {
    let (cause, hint) = meaning(section, said, wait);
    Failure::new(format!("cannot connect to `{}`", section.name)).because(cause).hint(hint)
}

/// Returns the failure of a try to write.
pub(super) fn not_writable(section: &MongoSection, database: &str, collection: &str, said: &CommandError) -> Failure {
    let (cause, hint) = match said {
        CommandError::Command { code: 13, .. } if !logs_in(section) => (
            "nobody is logged in, and the server wants to know who writes".to_owned(),
            format!("set `username` and `password` under [{}]", section.name),
        ),
        CommandError::Command { code: 13, .. } => {
            let user = section.username.as_deref().unwrap_or("the user");
            (format!("`{user}` may not"), format!("grant `readWrite` on the database `{database}`"))
        }
        CommandError::Command { code: 73, .. } => {
            ("the server does not take the name".to_owned(), "name another with --database or --collection".to_owned())
        }
        CommandError::Command { code: 166, .. } => {
            (format!("`{collection}` is a view"), "name a collection with --collection".to_owned())
        }
        CommandError::Command { code: 10107 | 13435 | 13436, .. } => (
            "the server is a secondary".to_owned(),
            format!("set `uri` under [{}] to the whole replica set: mongodb://a,b,c/?replicaSet=NAME", section.name),
        ),
        CommandError::Command { code: 64 | 79 | 100, .. } => (
            "no majority of the replica set acknowledges a write".to_owned(),
            "see rs.status() and rs.conf() on the server".to_owned(),
        ),
        said => meaning(section, said, Duration::from_secs(30)),
    };
    Failure::new(format!("cannot write to `{database}.{collection}` of `{}`", section.name)).because(cause).hint(hint)
}

fn meaning(section: &MongoSection, said: &CommandError, wait: Duration) -> (String, String) {
    let name = &section.name;
    let host = if section.uri.is_some() { "uri" } else { "host" };
    let correct = format!("correct `{host}` under [{name}]");
    let at = address(section);
    match said {
        CommandError::Login(_) | CommandError::Command { code: 18, .. } => {
            let user = section.username.as_deref().map_or_else(|| "the user of `uri`".to_owned(), |user| format!("`{user}`"));
            let keys = if section.username.is_some() { "`username`, `password` or `auth_database`" } else { "`uri`" };
            (
                format!("{at}: logging in: the server does not take the password of {user}"),
                format!("correct {keys} under [{name}]"),
            )
        }
        CommandError::Command { code, name: code_name, message, .. } => {
            let said = if code_name.is_empty() { message } else { code_name };
            (format!("{at}: first command: {} ({code})", without_secrets(section, said)), correct)
        }
        CommandError::Late => (
            format!("{at}: no answer within {}", humantime::format_duration(wait)),
            format!("{correct}, or see whether a firewall is in between"),
        ),
        CommandError::Closed(why) => (format!("{at}: first command: the server hung up: {why}"), tls_hint(section)),
        CommandError::Unreachable(text) => unreachable(section, &at, &correct, innermost(text), text),
    }
}

fn unreachable(section: &MongoSection, at: &str, correct: &str, inner: &str, text: &str) -> (String, String) {
    let name = &section.name;
    let has = |part: &str| inner.contains(part) || text.contains(part);
    let file = || format!("set `tls_ca_file` under [{name}] to the file of the server's CA");
    if has("UnknownIssuer") {
        return (format!("{at}: TLS handshake: the server's certificate is of a CA that is not trusted here"), file());
    }
    if has("not valid for name") {
        let host = if section.uri.is_some() { "uri" } else { "host" };
        let hint = format!("name the server in `{host}` under [{name}] as its certificate does");
        return (format!("{at}: TLS handshake: the server's certificate is for another host name"), hint);
    }
    if has("certificate: Expired") || has("certificate expired") {
        let hint = "renew the certificate of the server, or correct this machine's clock".to_owned();
        return (format!("{at}: TLS handshake: the server's certificate has expired"), hint);
    }
    if has("peer certificate") {
        return (format!("{at}: TLS handshake: the server's certificate is not good"), file());
    }
    if has("InvalidContentType") {
        let hint = format!("set `tls = false` under [{name}], or use the port that the server has for TLS");
        return (format!("{at}: TLS handshake: the server does not speak TLS on this port"), hint);
    }
    if has("Unable to parse PEM") || has("No such file") {
        return (
            "the file of `tls_ca_file` cannot be read, or is no certificate in PEM".to_owned(),
            format!("correct `tls_ca_file` under [{name}]"),
        );
    }
    if has("failed to lookup address") || has("DNS resolution") || has("Name or service not known") {
        return (format!("{at}: looking up the name: it is not known here"), correct.to_owned());
    }
    if has("Connection refused") {
        return (format!("{at}: connecting: connection refused"), format!("start the server, or {correct}"));
    }
    if has("wire version") {
        return (format!("{at}: the server is too old, or too new"), "use MongoDB 4.4 or newer".to_owned());
    }
    if has("ReplicaSetNoPrimary") || has("RSSecondary") {
        return (format!("{at}: the replica set has no primary now"), "see rs.status() on the server".to_owned());
    }
    if has("timed out") || has("deadline has elapsed") || has("imeout") && inner == text {
        let or = if wants_tls(section) { format!(", or set `tls = false` under [{name}]") } else { String::new() };
        return (format!("{at}: connecting: no answer"), format!("{correct}, see whether a firewall is in between{or}"));
    }
    if has("end of file") || has("eset by peer") || has("EOF") {
        return (format!("{at}: connecting: the server hung up"), tls_hint(section));
    }
    (format!("{at}: {}", without_secrets(section, inner)), correct.to_owned())
}

fn wants_tls(section: &MongoSection) -> bool {
    let in_uri = |uri: &Secret| ["tls=true", "ssl=true", "mongodb+srv:"].iter().any(|part| uri.reveal().contains(part));
    section.tls || section.tls_ca_file.is_some() || section.uri.as_ref().is_some_and(in_uri)
}

fn tls_hint(section: &MongoSection) -> String {
    if wants_tls(section) {
        format!("set `tls = false` under [{}], or use the port that the server has for TLS", section.name)
    } else {
        format!("set `tls = true` under [{}], or use the port that the server has without TLS", section.name)
    }
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
    let secrets = [&section.password, &section.uri].into_iter().flatten();
    let mut text = secrets.fold(text.to_owned(), |text, secret| match secret.reveal() {
        "" => text,
        secret => text.replace(secret, "***"),
    });
    if let Some(uri) = &section.uri
        && let Some((user, _)) = uri.reveal().rsplit_once('@')
        && let Some((_, password)) = user.rsplit_once("://").map_or(user, |(_, user)| user).split_once(':')
        && !password.is_empty()
    {
        text = text.replace(password, "***");
    }
    text
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

    fn cause(said: &CommandError) -> (String, String) {
        let failure = diagnose(&section(None), said, Duration::from_secs(10));
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
    fn a_failure_names_the_server_the_step_and_what_helps() {
        for (said, expected, hint) in [
            (
                selection("I/O error: Connection refused (os error 111)"),
                "db:27017: connecting: connection refused",
                "start the server",
            ),
            (
                selection("I/O error: failed to lookup address information: Name or service not known"),
                "db:27017: looking up the name: it is not known here",
                "correct `host` under [mongodb]",
            ),
            (
                selection("I/O error: invalid peer certificate: UnknownIssuer"),
                "db:27017: TLS handshake: the server's certificate is of a CA that is not trusted here",
                "set `tls_ca_file`",
            ),
            (
                selection(
                    "I/O error: invalid peer certificate: certificate not valid for name \"db\"; certificate is only valid for DnsName(\"x\")",
                ),
                "db:27017: TLS handshake: the server's certificate is for another host name",
                "name the server in `host`",
            ),
            (
                selection("I/O error: received corrupt message of type InvalidContentType"),
                "db:27017: TLS handshake: the server does not speak TLS on this port",
                "set `tls = false`",
            ),
            (
                CommandError::Login("SCRAM failure: Authentication failed.".to_owned()),
                "db:27017: logging in: the server does not take the password of `loader`",
                "correct `username`, `password` or `auth_database` under [mongodb]",
            ),
            (CommandError::Late, "db:27017: no answer within 10s", "correct `host`"),
            (
                CommandError::Closed("unexpected end of file".to_owned()),
                "db:27017: first command: the server hung up",
                "set `tls = true`",
            ),
        ] {
            let (what, helps) = cause(&said);
            assert!(what.starts_with(expected), "{what}");
            assert!(helps.starts_with(hint), "{helps}");
        }
    }

    #[test]
    fn who_may_not_write_is_told_whether_he_is_known_at_all() {
        let refused =
            CommandError::Command { code: 13, name: "Unauthorized".to_owned(), message: "no".to_owned(), passes: false };
        for (uri, cause, hint) in [
            (None, "`loader` may not", "grant `readWrite`"),
            (Some("mongodb://db:27017"), "nobody is logged in", "set `username` and `password` under [mongodb]"),
            (Some("mongodb://loader:canary@db:27017"), "`the user` may not", "grant `readWrite`"),
        ] {
            let failure = not_writable(&section(uri), "d", "c", &refused);
            assert!(failure.causes[0].starts_with(cause), "{failure}");
            assert!(failure.hint.unwrap().starts_with(hint));
        }
    }

    #[test]
    fn waiting_does_not_help_against_a_wrong_password_or_certificate() {
        assert!(is_lasting(&CommandError::Login("no".to_owned())));
        assert!(is_lasting(&selection("I/O error: invalid peer certificate: UnknownIssuer")));
        assert!(!is_lasting(&selection("I/O error: Connection refused (os error 111)")));
        assert!(!is_lasting(&CommandError::Late));
    }

    #[test]
    fn no_secret_is_shown() {
        for uri in
            ["mongodb://loader:canary@db:27017/x?tls=true", "mongodb://loader:canary@canary@db:27017", "mongodb://db:27017"]
        {
            let section = section(Some(uri));
            for said in [
                CommandError::Unreachable(format!("odd: {uri} and canary@canary")),
                CommandError::Command { code: 1, name: String::new(), message: format!("odd {uri}"), passes: false },
                CommandError::Login("canary".to_owned()),
            ] {
                let failure = diagnose(&section, &said, Duration::ZERO);
                if uri.contains("canary") {
                    assert!(!failure.to_string().contains("canary"), "{failure}");
                }
                assert!(failure.causes[0].contains("db:27017"), "{failure}");
            }
        }
    }
}
