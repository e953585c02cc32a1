//! Questions at the terminal.

use std::io::{Write as _, stderr, stdin};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::commands::stop_signal::StopSignal;

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// By Ctrl-C or a signal.
    Interrupted,
    Failed(dialoguer::Error),
}

/// Asks. A signal ends the question, not the process: what was not answered is not a yes, and the command ends as it does after a no.
///
/// # Errors
/// When there is no answer. The terminal is then as it was before: the keys are shown, and so is the cursor.
pub(crate) fn ask<T: Send + 'static>(
    stop: &StopSignal,
    question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
) -> Result<T, Unanswered> {
    let (send, answers) = channel();
    let interrupts = send.clone();
    stop.begin_question(move || drop(interrupts.send(None))).map_err(|error| Unanswered::Failed(error.into()))?;
    let terminal = TerminalModes::now();
    // The thread of a question that is interrupted ends with the process: it waits for a key.
    std::thread::spawn(move || {
        let answer = catch_unwind(AssertUnwindSafe(question));
        drop(send.send(Some(answer.unwrap_or_else(|_| Err(std::io::Error::other("the question failed").into())))));
    });
    let unanswered = match answers.recv() {
        Ok(Some(Ok(answer))) => {
            stop.end_question();
            return Ok(answer);
        }
        Ok(Some(Err(dialoguer::Error::IO(error)))) if error.kind() != std::io::ErrorKind::Interrupted => {
            stop.end_question();
            Unanswered::Failed(error.into())
        }
        // Ctrl-C is a key here, and also raises the signal: the question stays the one that it ends.
        _ => Unanswered::Interrupted,
    };
    terminal.restore();
    Err(unanswered)
}

/// The modes of the terminal before a question.
struct TerminalModes(Option<Termios>);

impl TerminalModes {
    fn now() -> Self {
        Self(tcgetattr(stdin()).ok())
    }

    /// Restores them, and shows the cursor at the beginning of a line: a question hides it.
    fn restore(&self) {
        self.0.iter().for_each(|before| _ = tcsetattr(stdin(), OptionalActions::Now, before));
        // A failed write to stderr cannot be reported.
        let _ = stderr().write_all(b"\x1b[?25h\n");
    }
}
