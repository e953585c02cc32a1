//! The program's error: its text, hint and exit code.

pub(crate) mod hints;

use std::fmt::Write as _;

use crate::error::hints::with_hint;
use crate::pipeline::{ConnectorError, Failure, FailureKind, Refusal, RefusalReason, Refused};
use crate::profile::{ProfileError, ProfileHint, Replacement};
use crate::terminal::escape_controls;

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile is wrong: exit 2.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A section of the profile names an unusable file or property: exit 2.
    #[error("{0}")]
    Section(Failure),
    /// Invalid or conflicting flags or arguments: exit 2.
    #[error("{what}")]
    Usage {
        /// The text after `error:`.
        what: String,
        /// What to type instead.
        hint: String,
    },
    /// A source, a destination, the network or a time limit: exit 1.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A record needs attention: exit 3.
    #[error("{0}")]
    Record(Failure),
    /// A check did not hold: exit 4.
    #[error("{0}")]
    Check(Failure),
    /// Refused for safety: exit 5.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Standard output cannot be written to: exit 1; a closed pipe is not an error and exits 0.
    #[error("cannot write to standard output")]
    Output(#[from] std::io::Error),
}

impl From<ConnectorError> for Error {
    fn from(error: ConnectorError) -> Self {
        match error {
            ConnectorError::Failed(failure) if failure.kind == FailureKind::Profile => Self::Section(failure),
            ConnectorError::Failed(failure) => Self::Failed(with_hint(failure)),
            ConnectorError::Refused(refused) => Self::Refused(refused),
            ConnectorError::Refusal(Refusal { reason, what, numbers }) => {
                Self::Refused(Refused { what, numbers, hint: refusal_hint(reason).to_owned() })
            }
        }
    }
}

impl Error {
    /// Returns the exit code that scripts rely on.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Profile(_) | Self::Section(_) | Self::Usage { .. } => 2,
            Self::Record(_) => 3,
            Self::Check(_) => 4,
            Self::Refused(_) => 5,
        }
    }

    /// Returns the text after `hint:`: what to do about it; `None` where no remedy is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Profile(error) => Some(profile_hint(error.hint())),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Failed(failure) | Self::Section(failure) | Self::Record(failure) | Self::Check(failure) => failure.hint.clone(),
            Self::Refused(refused) => Some(refused.hint.clone()),
            Self::Output(_) => None,
        }
    }

    /// Returns the message and the causes, outermost first.
    #[must_use]
    pub fn what_and_causes(&self) -> (String, Vec<String>) {
        match self {
            Self::Failed(failure) | Self::Section(failure) | Self::Record(failure) | Self::Check(failure) => {
                (failure.what.clone(), failure.causes.clone())
            }
            Self::Profile(error) => (error.to_string(), error.causes()),
            Self::Usage { what, .. } => (what.clone(), Vec::new()),
            Self::Refused(refused) => (refused.what.clone(), Vec::new()),
            Self::Output(error) => (self.to_string(), vec![error.to_string()]),
        }
    }

    /// Returns the text for stderr: the error, its causes, the hint. Control characters, which a payload or a server may have sent, are
    /// escaped.
    #[must_use]
    pub fn render(&self) -> String {
        let (what, causes) = self.what_and_causes();
        // Errors quote names and values of records and answers of servers.
        let mut text = format!("error: {}\n", escape_controls(&what));
        for cause in causes {
            let _ = writeln!(text, "  caused by: {}", escape_controls(&cause));
        }
        if let Self::Refused(refused) = self {
            for number in &refused.numbers {
                let _ = writeln!(text, "  {}", escape_controls(number));
            }
        }
        if let Some(hint) = self.hint() {
            let _ = writeln!(text, "hint: {}", escape_controls(&hint));
        }
        text
    }
}

/// Returns the flags that override a refusal.
fn refusal_hint(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::OtherFlow => "use another group (--group NAME), or adopt these offsets with --adopt-group",
        RefusalReason::RecordsDeleted => "continue with the first record of the log with --on-gap earliest",
        RefusalReason::LogTruncated => {
            "re-read the topic with --from-beginning, or continue with --on-gap earliest or --on-gap latest"
        }
        RefusalReason::TopicRecreated => "re-read the topic with --from-beginning, or use another group with --group NAME",
        RefusalReason::OffsetOutOfRange => "name an offset that each partition has, or choose partitions with --partitions",
        RefusalReason::RecordsSkipped => "use --yes to skip them, or use another group with --group NAME",
        RefusalReason::ActiveMembers => {
            "stop them (static members, which have an --instance-id, and killed ones stay for the session timeout, 45 s), or use \
             another group with --group NAME"
        }
        RefusalReason::RestartState => "start it from there with `sdl aggregate --start POS`, which knows its windows and totals",
        RefusalReason::InstanceFenced => "give each running member an --instance-id of its own",
        RefusalReason::InconsistentProtocol => {
            "stop the other members, use another group with --group NAME, or set `kafka.partition.assignment.strategy`"
        }
    }
}

/// Returns the command line for `hint`.
fn profile_hint(hint: ProfileHint) -> String {
    match hint {
        ProfileHint::Text(text) => text,
        ProfileHint::CreateProfile => "create one with `sdl profile init`, or name another with --profile FILE".to_owned(),
        ProfileHint::CheckFile(path) => format!("see `ls -l {path}`, or name another file with --profile FILE"),
        ProfileHint::TrustFile(path) => {
            format!("read it; if it is meant, run `chown $USER {path} && chmod go-w {path}`, or name it with --profile {path}")
        }
        ProfileHint::CommandHelp(None) => "see `sdl --help` for the commands".to_owned(),
        ProfileHint::CommandHelp(Some(command)) => format!("see `sdl {command} --help` for the flags"),
        ProfileHint::Replace(instead) => match instead {
            Replacement::Servers => "use the key `servers`".to_owned(),
            Replacement::Group => "use --group, or the key `default_consumer_group_id`".to_owned(),
            Replacement::InstanceId => "use --instance-id".to_owned(),
            Replacement::Start => "use --start".to_owned(),
            Replacement::CommitInterval => "use --commit-interval".to_owned(),
            Replacement::RetryFor => "use --retry-for".to_owned(),
            Replacement::ReadUncommitted => "use --read-uncommitted".to_owned(),
            Replacement::Nothing(reason) => format!("remove it: {reason}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_control_the_terminal_or_forge_lines() {
        let steering = "\x1b]0;owned\x07\u{202e}\r\nhint: run this";
        let refused = Refused { what: steering.to_owned(), numbers: vec![steering.to_owned()], hint: steering.to_owned() };
        for error in [
            Error::Refused(refused),
            Error::Failed(Failure::new(steering).because(steering).hint(steering)),
            Error::Usage { what: steering.to_owned(), hint: steering.to_owned() },
        ] {
            let text = error.render();
            assert!(!text.contains(['\x1b', '\x07', '\u{202e}', '\r']), "{text:?}");
            assert_eq!(text.lines().filter(|line| line.starts_with("hint:")).count(), 1, "{text}");
            assert!(text.contains("\\x1b]0;owned\\x07\\u{202e}\\r\\nhint: run this"), "{text}");
        }
    }
}
