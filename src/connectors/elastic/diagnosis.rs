//! Why a call fails, and the failure that a user sees. Pure: text in, text out.

use std::error::Error;
use std::time::Duration;

use serde_json::Value;

use crate::connectors::access_error::AccessError;
use crate::connectors::connect_error::{ConnectCause, ConnectError, ConnectStep, SectionKeys};
use crate::connectors::elastic::reason::{clean, kind, text};
use crate::pipeline::Failure;
use crate::profile::{ElasticLogin, ElasticSection};

/// A call without a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallError {
    /// The node's URL; any node of the section without it.
    node: Option<String>,
    pub(super) cause: ConnectCause,
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
        let has = |part: &str| all.contains(part);
        let cause = if has("timed out") && !has("os error") {
            ConnectCause::NoAnswer(Some(deadline))
        } else if let Some(cause) = ConnectCause::of_text(&all) {
            cause
        } else if has("connection was not ready") {
            ConnectCause::Closed(ConnectStep::Connect)
        } else if ["onnection closed", "eset by peer", "Broken pipe", "incomplete message"].into_iter().any(has) {
            ConnectCause::Closed(ConnectStep::Request)
        } else {
            ConnectCause::other(ConnectStep::Connect, clean(causes.last().map_or("", String::as_str)).to_lowercase())
        };
        Self { node: Some(url.to_owned()), cause }
    }

    /// Returns the error of a login that the server rejects, or requires.
    pub(super) fn login(section: &ElasticSection) -> Self {
        let cause = match &section.login {
            ElasticLogin::None => ConnectCause::LoginRequired,
            ElasticLogin::Basic { username, .. } => ConnectCause::AuthenticationFailed(format!("`{username}`")),
            ElasticLogin::ApiKey(_) => ConnectCause::AuthenticationFailed("the API key".to_owned()),
            ElasticLogin::Bearer(_) => ConnectCause::AuthenticationFailed("the bearer token".to_owned()),
            ElasticLogin::Aws { .. } => ConnectCause::AuthenticationFailed("the AWS credentials".to_owned()),
        };
        Self { node: None, cause }
    }

    /// Returns the error of a request that cannot be signed.
    pub(super) fn access(error: &AccessError) -> Self {
        let cause = ConnectCause::Other {
            step: Some(ConnectStep::Login),
            text: error.text.clone(),
            hint: Some(error.hint.clone()),
            is_lasting: error.is_lasting,
        };
        Self { node: None, cause }
    }

    pub(super) fn wrong_server() -> Self {
        let text = "the server is neither Elasticsearch nor OpenSearch".to_owned();
        Self { node: None, cause: ConnectCause::WrongServer(text) }
    }

    pub(super) fn status(status: u16, answer: &Value) -> Self {
        let error = answer.get("error");
        let quoted = error.map_or_else(String::new, |error| format!(": {} ({})", clean(&text(error)), clean(kind(error))));
        let cause = ConnectCause::Other {
            step: Some(ConnectStep::Request),
            text: format!("the server answers with status {status}{quoted}"),
            hint: Some("see the log of the server".to_owned()),
            is_lasting: false,
        };
        Self { node: None, cause }
    }

    pub(super) fn is_time_out(&self) -> bool {
        matches!(self.cause, ConnectCause::NoAnswer(_))
    }

    /// Returns whether the connection ended before the request was sent: another attempt may learn why.
    pub(super) fn is_unexplained(&self) -> bool {
        self.cause == ConnectCause::Closed(ConnectStep::Connect)
    }

    /// Returns the node and the cause in one line.
    pub(super) fn summary(&self, section: &ElasticSection) -> String {
        let node = self.node.clone().unwrap_or_else(|| section.name.clone());
        ConnectError::new(node, self.cause.clone()).sentence(&keys(section))
    }
}

/// Returns the failure of a first contact after this time.
pub(super) fn diagnose(section: &ElasticSection, error: &CallError, wait: Duration) -> Failure {
    let cause = match &error.cause {
        ConnectCause::NoAnswer(_) => ConnectCause::NoAnswer(Some(wait)),
        cause => cause.clone(),
    };
    let node = error.node.clone().unwrap_or_else(|| section.urls.join(", "));
    ConnectError::new(node, cause).failure(&keys(section))
}

/// Returns the failure to connect to one of the section's servers.
pub(super) fn connect_failure(section: &ElasticSection, server: &str, cause: ConnectCause) -> Failure {
    ConnectError::new(server, cause).failure(&keys(section))
}

fn keys(section: &ElasticSection) -> SectionKeys<'_> {
    let name = &section.name;
    SectionKeys {
        section: name,
        server: "server",
        address: "url",
        port: None,
        ca: "ca_file",
        client_certificate: "`client_cert` and `client_key`",
        login: match &section.login {
            ElasticLogin::ApiKey(_) => "`api_key`",
            ElasticLogin::Bearer(_) => "`bearer`",
            ElasticLogin::Aws { .. } => "the AWS credentials, `aws_region` or `aws_service`",
            ElasticLogin::None | ElasticLogin::Basic { .. } => "`username` or `password`",
        },
        new_login: "`username` and `password`, or `api_key`,",
        without_login: format!("remove `username` and `password`, or `api_key`, under [{}]", section.name),
        mechanism: ("", &[]),
        tls_on: if section.urls.iter().any(|url| url.starts_with("https:")) {
            format!("correct `url` under [{name}]")
        } else {
            format!("write `https://` in `url` under [{name}], if the server requires TLS")
        },
        tls_off: format!("write `http://` in `url` under [{name}]"),
    }
}
