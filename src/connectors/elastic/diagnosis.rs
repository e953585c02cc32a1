//! From a call that came to nothing to one clear failure. Pure: text in, text out.

use std::error::Error;
use std::time::Duration;

use serde_json::Value;

use crate::connectors::elastic::reason::{clean, kind, text};
use crate::pipeline::Failure;
use crate::profile::{ElasticLogin, ElasticSection};

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallError {
    /// The node's URL, if it was a node's doing.
    node: Option<String>,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// There was no answer in time.
    Late(Duration),
    /// The connection could not be made, or did not last.
    Broken(String),
    /// The login is not taken.
    Login,
    /// The server answers, and cannot do it now.
    Status(u16, String),
    /// What answers is neither Elasticsearch nor OpenSearch.
    Foreign,
}

impl CallError {
    pub(super) fn new(url: &str, error: &dyn Error, deadline: Duration) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let all = causes.join(": ");
        let late = all.contains("timed out") && !all.contains("os error");
        let why = if late { Why::Late(deadline) } else { Why::Broken(clean(&all)) };
        Self { node: Some(url.to_owned()), why }
    }

    pub(super) fn login() -> Self {
        Self { node: None, why: Why::Login }
    }

    pub(super) fn foreign() -> Self {
        Self { node: None, why: Why::Foreign }
    }

    pub(super) fn status(status: u16, answer: &Value) -> Self {
        let said =
            answer.get("error").map_or_else(String::new, |error| format!(": {} ({})", clean(&text(error)), clean(kind(error))));
        Self { node: None, why: Why::Status(status, said) }
    }

    /// Returns whether waiting cannot help: a wrong password stays wrong, a server may be starting.
    pub(super) fn is_lasting(&self) -> bool {
        match &self.why {
            Why::Login | Why::Foreign => true,
            Why::Broken(text) => text.contains("peer certificate") || text.contains("InvalidContentType"),
            Why::Late(_) | Why::Status(..) => false,
        }
    }

    /// Returns what happened, in a few words.
    pub(super) fn summary(&self, section: &ElasticSection) -> String {
        let (cause, _) = self.meaning(section);
        format!("{}: {cause}", self.node.as_deref().unwrap_or(&section.name))
    }

    /// Returns the cause, after the step, and what helps.
    fn meaning(&self, section: &ElasticSection) -> (String, String) {
        let name = &section.name;
        let correct = format!("correct `url` under [{name}]");
        match &self.why {
            Why::Login => login(section),
            Why::Late(deadline) => (
                format!("no answer within {}", humantime::format_duration(*deadline)),
                format!("{correct}, or see whether a firewall is in between"),
            ),
            Why::Status(status, said) => {
                (format!("first request: the server answers with status {status}{said}"), "see the log of the server".to_owned())
            }
            Why::Foreign => ("first request: what answers is neither Elasticsearch nor OpenSearch".to_owned(), correct),
            Why::Broken(text) => self.broken(section, text, correct),
        }
    }

    fn broken(&self, section: &ElasticSection, text: &str, correct: String) -> (String, String) {
        let name = &section.name;
        let has = |part: &str| text.contains(part);
        let said = |step: &str, cause: &str| format!("{step}: {cause}");
        let tls = |cause: &str| said("TLS handshake", cause);
        let ca = || format!("set `ca_file` under [{name}] to the file of the server's CA");
        let is_https = self.node.as_deref().is_some_and(|url| url.starts_with("https:"));
        if has("UnknownIssuer") || has("CaUsedAsEndEntity") {
            return (tls("the server's certificate is of a CA that is not trusted here"), ca());
        }
        if has("NotValidForName") || has("not valid for name") {
            let hint = format!("name the server in `url` under [{name}] as its certificate does");
            return (tls("the server's certificate is for another host name"), hint);
        }
        if has("certificate: Expired") || has("certificate expired") {
            let hint = "renew the certificate of the server, or correct this machine's clock".to_owned();
            return (tls("the server's certificate has expired"), hint);
        }
        if has("peer certificate") {
            return (tls("the server's certificate is not good"), ca());
        }
        if has("InvalidContentType") {
            return (tls("the server does not speak TLS on this port"), format!("write `http://` in `url` under [{name}]"));
        }
        if has("received fatal alert") {
            let hint = format!("set `client_cert` and `client_key` under [{name}]");
            return (tls("the server does not take the client's certificate, or wants one"), hint);
        }
        if has("dns error") || has("failed to lookup address") {
            return (said("looking up the name", "it is not known here"), correct);
        }
        if has("Connection refused") {
            return (said("connecting", "connection refused"), format!("start the server, or {correct}"));
        }
        if has("onnection closed") || has("eset by peer") || has("Broken pipe") || has("incomplete message") {
            let hint =
                if is_https { correct } else { format!("write `https://` in `url` under [{name}], if the server wants TLS") };
            return (said("request", "the server hung up"), hint);
        }
        let cause = text.rsplit(": ").next().unwrap_or(text).to_lowercase();
        (said("connecting", &cause), correct)
    }
}

fn login(section: &ElasticSection) -> (String, String) {
    let name = &section.name;
    let (what, keys) = match &section.login {
        ElasticLogin::None => {
            let hint = format!("set `username` and `password`, or `api_key`, under [{name}]");
            return ("logging in: the server wants a login".to_owned(), hint);
        }
        ElasticLogin::Basic { username, .. } => (format!("the password of `{username}`"), "`username` or `password`"),
        ElasticLogin::ApiKey(_) => ("the API key".to_owned(), "`api_key`"),
        ElasticLogin::Bearer(_) => ("the bearer token".to_owned(), "`bearer`"),
    };
    (format!("logging in: the server does not take {what}"), format!("correct {keys} under [{name}]"))
}

/// Returns the failure of a contact that was waited for so long.
pub(super) fn diagnose(section: &ElasticSection, lost: &CallError, wait: Duration) -> Failure {
    let (cause, hint) = match &lost.why {
        Why::Late(_) => CallError { node: lost.node.clone(), why: Why::Late(wait) }.meaning(section),
        _ => lost.meaning(section),
    };
    let at = lost.node.clone().unwrap_or_else(|| section.urls.join(", "));
    Failure::new(format!("cannot connect to `{}`", section.name)).because(format!("{at}: {cause}")).hint(hint)
}
