//! What is known of the target topics while records are sent to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pipeline::Refused;

/// What is known of the target topics during a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TargetWatch(Arc<Mutex<TargetState>>);

#[derive(Debug, Default)]
struct TargetState {
    /// Why records may not arrive.
    problem: Option<String>,
    /// Why nothing more may be sent.
    refused: Option<Refused>,
}

impl TargetWatch {
    fn state(&self) -> MutexGuard<'_, TargetState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why records may not arrive.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Sets or clears the reason why records may not arrive.
    pub fn set_problem(&self, problem: Option<String>) {
        self.state().problem = problem;
    }

    /// Returns why nothing more may be sent.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.state().refused.clone()
    }

    /// Returns whether nothing more may be sent.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state().refused.is_some()
    }

    /// Has the sink accept no further batch, and give up the records that it has not sent.
    pub fn refuse(&self, refused: Refused) {
        self.state().refused = Some(refused);
    }
}
