//! What librdkafka said: the last lines of its log and its errors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::error::KafkaError;

/// How many lines are kept.
const KEPT: usize = 64;

/// The last lines that a librdkafka client said. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ClientLog(Arc<Mutex<VecDeque<String>>>);

impl ClientLog {
    /// Keeps a log line, and logs it at debug.
    pub fn log(&self, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message, "librdkafka said.");
        if facility != "CONFWARN" {
            self.keep(message);
        }
    }

    /// Keeps an error, and logs it at debug.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "librdkafka met an error.");
        self.keep(reason);
    }

    /// Keeps what an error event said, and logs it at debug.
    pub fn error_text(&self, reason: &str) {
        tracing::debug!(target: "librdkafka", reason, "librdkafka met an error.");
        self.keep(reason);
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

    fn keep(&self, line: &str) {
        let line = essence(line);
        // It follows the line that says why.
        if line.ends_with("brokers are down") {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|said| *said != line);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns the lines, oldest first and each once: without the thread in front and the duration behind.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Returns `[thrd:NAME]: TEXT (after 3ms in state STATE, 1 identical error(s) suppressed)` as `TEXT (in state STATE)`.
fn essence(line: &str) -> String {
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, rest)| rest);
    let Some((text, after)) = line.rsplit_once(" (after ") else { return line.to_owned() };
    let state = after.split_once("in state ").map_or("", |(_, state)| state).split([',', ')']).next().unwrap_or_default();
    format!("{text} (in state {state})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_once_without_thread_and_duration() {
        let said = ClientLog::default();
        said.log("FAIL", "[thrd:a:1/bootstrap]: a:1/bootstrap: Connect failed: refused (after 3ms in state CONNECT)");
        said.log("FAIL", "[thrd:b:1/bootstrap]: b:1/bootstrap: Connect failed: refused (after 3ms in state CONNECT)");
        said.log("FAIL", "[thrd:a:1/bootstrap]: a:1/bootstrap: Connect failed: refused (after 7ms in state CONNECT, 1 identical error(s) suppressed)");
        said.log("CONFWARN", "[thrd:app]: Configuration property fetch.max.bytes is a consumer property");
        said.log("ERROR", "[thrd:app]: rdkafka#producer-1: 1/1 brokers are down");
        assert_eq!(
            said.lines(),
            [
                "b:1/bootstrap: Connect failed: refused (in state CONNECT)",
                "a:1/bootstrap: Connect failed: refused (in state CONNECT)"
            ]
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let said = ClientLog::default();
        (0..200).for_each(|number| said.log("FAIL", &format!("line {number}")));
        assert_eq!(said.lines().len(), KEPT);
        assert_eq!(said.lines().last().map(String::as_str), Some("line 199"));
    }
}
