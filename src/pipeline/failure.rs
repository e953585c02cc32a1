//! Failures and refusals.

use std::fmt;

/// Why a source or a sink cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// A failure: exit 1.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A refusal: exit 5.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// As [`Self::Refused`]; the command adds the hint.
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

impl ConnectorError {
    /// Returns whether the same call may succeed later: a failure marked with [`Failure::passing`].
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.passing)
    }
}

/// A failure: message, causes and hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The message, with the name of the section: "cannot reach `local_kafka`".
    pub what: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// What to do about it; `None` if no remedy is known.
    pub hint: Option<String>,
    /// Whether the cause may go away by itself, such as an unreachable server.
    pub passing: bool,
    /// The engine's kind of failure, from which a command derives the hint.
    pub kind: FailureKind,
}

/// What a hint can be given for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FailureKind {
    /// A failure of a connector or a command.
    #[default]
    Other,
    /// A section of the profile names an unusable file or property.
    Profile,
    /// A server cannot be reached or used: the step of the connection that failed.
    Connect(ConnectStep),
    /// Embedded brokers create no topics: this one is missing.
    NotCreatable(String),
    /// Embedded brokers list no groups: each must be named.
    GroupsNotListed,
    /// A destination that rejects every record, by the code of its reason.
    NotWritable(String),
    /// A bad record, where bad records stop the run.
    BadRecord,
    /// More bad records than the breaker allows.
    TooManyBadRecords,
    /// The destination of dead letters rejected one.
    DeadLetterRejected,
    /// No delivery for as long as deliveries may fail.
    GaveUp,
}

/// The steps of a connection until the first answer of the server, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectStep {
    /// The server's name becomes an address.
    NameLookup,
    /// The server accepts the connection.
    Connect,
    /// Both sides agree on encryption, and check certificates.
    TlsHandshake,
    /// The server accepts the user.
    Login,
    /// The server answers a request.
    Request,
}

impl fmt::Display for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameLookup => "looking up the name",
            Self::Connect => "connecting",
            Self::TlsHandshake => "TLS handshake",
            Self::Login => "logging in",
            Self::Request => "first request",
        })
    }
}

impl Failure {
    /// Returns a failure without causes or hint.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), causes: Vec::new(), hint: None, passing: false, kind: FailureKind::Other }
    }

    /// Adds a cause below those already there.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    #[must_use]
    pub(crate) fn kind(mut self, kind: FailureKind) -> Self {
        self.kind = kind;
        self
    }

    /// Marks the cause as transient: the engine repeats the call.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// Says what to do about it, in place of an earlier hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Failure {}

/// A refusal: continuing could lose or repeat records, and needs an explicit flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The refused action and the reason.
    pub what: String,
    /// The figures, a line each.
    pub numbers: Vec<String>,
    /// The flag that overrides the refusal.
    pub hint: String,
}

/// A refusal below the commands: it does not know the flags that its hint would name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Decides the hint.
    pub reason: RefusalReason,
    /// The refused action and the reason, for people.
    pub what: String,
    /// The facts behind it, a line each.
    pub numbers: Vec<String>,
}

/// Why a source refuses to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Another flow committed the group's offsets.
    OtherFlow,
    /// Records were deleted before they were read.
    RecordsDeleted,
    /// The log ends before the next offset.
    LogTruncated,
    /// The topic was deleted and created again.
    TopicRecreated,
    /// A requested offset is not in the log.
    OffsetOutOfRange,
    /// The requested start skips records.
    RecordsSkipped,
    /// The group has members.
    ActiveMembers,
    /// The metadata of the group's offsets holds the state of open windows.
    RestartState,
    /// Another member took over the `group.instance.id`.
    InstanceFenced,
    /// The other members of the group use another assignment strategy.
    InconsistentProtocol,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refused {}
