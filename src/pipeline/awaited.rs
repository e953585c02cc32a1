//! The server that the start of this process waits for. A connection is tried long before a run has an observer, and a probe asks
//! meanwhile: it is state of the process.

use std::sync::{Mutex, PoisonError};

/// The target of the log lines that say what a start connects to; shown to people on a terminal.
pub(crate) const CONNECT_TARGET: &str = "sdl::connecting";

static AWAITED: Mutex<Option<String>> = Mutex::new(None);

/// Notes the server that the start waits for, and why, in words; `None` when the wait is over.
pub(crate) fn note_awaited(server: Option<String>) {
    *AWAITED.lock().unwrap_or_else(PoisonError::into_inner) = server;
}

/// Returns the server that the start waits for, and why, in words.
pub(crate) fn awaited() -> Option<String> {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
