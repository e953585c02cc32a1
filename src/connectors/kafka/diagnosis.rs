//! What librdkafka said, and what it means.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::pipeline::Failure;
use crate::profile::KafkaSection;

/// How many lines are kept.
const KEPT: usize = 64;

/// The last lines that a librdkafka client said. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Said(Arc<Mutex<VecDeque<String>>>);

/// Returns the line without the thread in front and the time and state behind.
fn essence(line: &str) -> &str {
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, rest)| rest);
    line.rsplit_once(" (after ").map_or(line, |(line, _)| line)
}

impl Said {
    /// Keeps a log line.
    pub fn log(&self, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message);
        self.keep(message);
    }

    /// Keeps an error.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        self.keep(reason);
    }

    /// Keeps what an error event said.
    pub fn error_text(&self, reason: &str) {
        tracing::debug!(target: "librdkafka", reason);
        self.keep(reason);
    }

    fn keep(&self, line: &str) {
        let line = essence(line);
        if line.ends_with("brokers are down") {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|said| said != line);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// Returns the lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns the last line.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// Forgets the lines: what they complained about is over.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.lines().is_empty()
    }
    pub(crate) fn is_final(&self, _: &KafkaSection) -> bool {
        false
    }
}

pub(crate) fn diagnose(section: &KafkaSection, lines: &[String], _wait: Duration) -> Failure {
    lines.iter().fold(Failure::new(section.name.clone()), |f, l| f.because(l))
}
pub(crate) fn diagnose_creation(section: &KafkaSection, reason: &str) -> Failure {
    Failure::new(section.name.clone()).because(reason)
}
