//! Why a token or credentials cannot be had.

use crate::connectors::connect_error::ConnectCause;

/// The reason in one sentence, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessError {
    pub(crate) text: String,
    pub(crate) hint: String,
    /// Whether a retry cannot help: a client that is not accepted stays so, but a server may be starting.
    pub(crate) is_lasting: bool,
}

impl AccessError {
    /// Returns an error that another attempt cannot help.
    pub(crate) fn lasting(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: hint.into(), is_lasting: true }
    }

    /// Returns an error that may pass by itself.
    pub(crate) fn passing(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_lasting: false, ..Self::lasting(text, hint) }
    }

    /// Returns the error of a server, a noun such as `token endpoint`, that did not answer at `url`.
    pub(crate) fn of_cause(server: &str, url: &str, cause: &ConnectCause, hint: impl Into<String>) -> Self {
        let step = cause.step().map_or_else(String::new, |step| format!("{step}: "));
        let text = format!("{url}: {step}{}", cause.sentence(server));
        Self { text, hint: hint.into(), is_lasting: cause.is_lasting() }
    }
}
