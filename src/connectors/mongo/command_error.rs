//! Why a command has no answer with `ok: 1`.

/// The error of a command as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// The server rejected the command.
    Command {
        /// The code; 0 without one.
        code: i32,
        /// Its name; empty without one.
        name: String,
        message: String,
        /// Whether the server labels the error as transient.
        is_transient: bool,
    },
    /// The connection ended in the middle of the command: it may have been carried out, or not.
    Closed(String),
    /// No answer came in time: the command may have been carried out, or may still be.
    TimedOut,
    /// The command was not sent: no server was available.
    Unreachable(String),
    /// The server rejected the login.
    Login(String),
    /// The answer cannot be read: the command may have been carried out, or not.
    Unreadable(String),
}

/// The code of a command that the server does not know.
const COMMAND_NOT_FOUND: i32 = 59;

impl CommandError {
    /// Returns whether the server does not know the command: it has answered, and the connection is in order.
    pub(super) fn is_unknown_command(&self) -> bool {
        matches!(self, Self::Command { code, message, .. } if *code == COMMAND_NOT_FOUND || message.starts_with("no such command"))
    }
}

/// Returns the cause at the end of the driver's message: `... Error: Kind: CAUSE, labels: ...`.
pub(super) fn innermost(text: &str) -> &str {
    let cause = text.rsplit_once("Kind: ").map_or(text, |(_, cause)| cause);
    cause.split_once(", labels:").map_or(cause, |(cause, _)| cause)
}
