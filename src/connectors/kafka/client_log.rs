//! The last log lines and errors of a librdkafka client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use crate::connectors::kafka::librdkafka::plain_addresses;
use crate::connectors::kafka::librdkafka::token::TOKEN_FAILED;

/// How many lines are kept.
const CAPACITY: usize = 64;
/// How long a line is recent: librdkafka repeats the error of a connection every 30 s.
const RECENT: Duration = Duration::from_secs(60);

/// A line, and when it was logged last.
type LoggedLine = (Instant, String);

/// The last log lines and errors of a client. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ClientLog(Arc<Mutex<VecDeque<LoggedLine>>>);

impl ClientLog {
    /// Keeps a log line, and logs it at debug.
    pub fn log(&self, facility: &str, message: &str) {
        let message = &*plain_addresses(message);
        tracing::debug!(target: "librdkafka", facility, message, "librdkafka logged a line.");
        if facility != "CONFWARN" {
            self.keep(message);
        }
    }

    /// Keeps an error, and logs it at debug.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        let reason = &*plain_addresses(reason);
        tracing::debug!(target: "librdkafka", %error, reason, "librdkafka reported an error.");
        self.keep(reason);
    }

    /// Keeps the text of an error event, and logs it at debug.
    pub fn error_text(&self, reason: &str) {
        tracing::debug!(target: "librdkafka", reason, "librdkafka reported an error.");
        self.keep(reason);
    }

    /// Keeps why there is no token to log in with, until [`Self::token_given`].
    pub(crate) fn token_failed(&self, why: &str) {
        let line = format!("{TOKEN_FAILED}{why}");
        let mut lines = self.deque();
        if !lines.iter().any(|(_, kept)| *kept == line) {
            lines.retain(|line| !is_of_token(line));
            push(&mut lines, line);
        }
    }

    /// Forgets why there was no token.
    pub(crate) fn token_given(&self) {
        self.deque().retain(|line| !is_of_token(line));
    }

    /// Forgets the lines after the client has recovered. It has not for want of a token: what it asks on a connection from before is
    /// still answered.
    pub fn clear(&self) {
        self.deque().retain(is_of_token);
    }

    fn keep(&self, line: &str) {
        let line = normalize(line);
        // The line before it carries the reason. A token's failure is known from the one who told librdkafka.
        if line.ends_with("brokers are down") || line.starts_with(TOKEN_FAILED) {
            return;
        }
        let mut lines = self.deque();
        lines.retain(|(_, kept)| *kept != line);
        push(&mut lines, line);
    }

    fn deque(&self) -> MutexGuard<'_, VecDeque<LoggedLine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the distinct lines, oldest first, without thread and duration.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.deque().iter().map(|(_, line)| line.clone()).collect()
    }

    /// Returns the lines of the last minute, as [`Self::lines`], and why there is no token.
    #[must_use]
    pub(crate) fn recent(&self) -> Vec<String> {
        let is_recent = |line: &&LoggedLine| line.0.elapsed() < RECENT || is_of_token(line);
        self.deque().iter().filter(is_recent).map(|(_, line)| line.clone()).collect()
    }
}

fn is_of_token((_, line): &LoggedLine) -> bool {
    line.starts_with(TOKEN_FAILED)
}

fn push(lines: &mut VecDeque<LoggedLine>, line: String) {
    if lines.len() == CAPACITY {
        let oldest = lines.iter().position(|line| !is_of_token(line));
        lines.remove(oldest.unwrap_or_default());
    }
    lines.push_back((Instant::now(), line));
}

/// Returns `[thrd:NAME]: TEXT (after 3ms in state STATE, 1 identical error(s) suppressed)` as `TEXT (in state STATE)`.
fn normalize(line: &str) -> String {
    let line = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, rest)| rest);
    let Some((text, after)) = line.rsplit_once(" (after ") else { return line.to_owned() };
    let state = after.split_once("in state ").map_or("", |(_, state)| state).split([',', ')']).next().unwrap_or_default();
    format!("{text} (in state {state})")
}

/// Returns the recent lines of a consumer that is not polled otherwise.
pub(crate) fn recent_lines(consumer: &BaseConsumer<LogContext>) -> Vec<String> {
    // Each poll serves one line.
    (0..CAPACITY).for_each(|_| drop(consumer.poll(Duration::ZERO)));
    consumer.context().client_log.recent()
}

/// A client context that may keep log lines and errors.
pub(crate) trait KeepsLog: ClientContext {
    /// Returns where they are kept.
    fn client_log(&self) -> Option<ClientLog>;
}

/// A client context that keeps log lines and errors, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct LogContext {
    pub(crate) client_log: ClientLog,
}

impl ClientContext for LogContext {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client_log.log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client_log.error(&error, reason);
    }
}

impl KeepsLog for LogContext {
    fn client_log(&self) -> Option<ClientLog> {
        Some(self.client_log.clone())
    }
}

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_kept_once_without_thread_and_duration() {
        let log = ClientLog::default();
        log.log("FAIL", "[thrd:a:1/bootstrap]: a:1/bootstrap: Connect failed: refused (after 3ms in state CONNECT)");
        log.log("FAIL", "[thrd:b:1/bootstrap]: b:1/bootstrap: Connect failed: refused (after 3ms in state CONNECT)");
        log.log("FAIL", "[thrd:a:1/bootstrap]: a:1/bootstrap: Connect failed: refused (after 7ms in state CONNECT, 1 identical error(s) suppressed)");
        log.log("CONFWARN", "[thrd:app]: Configuration property fetch.max.bytes is a consumer property");
        log.log("ERROR", "[thrd:app]: rdkafka#producer-1: 1/1 brokers are down");
        assert_eq!(
            log.lines(),
            [
                "b:1/bootstrap: Connect failed: refused (in state CONNECT)",
                "a:1/bootstrap: Connect failed: refused (in state CONNECT)"
            ]
        );
    }

    #[test]
    fn addresses_are_kept_as_people_write_them() {
        let log = ClientLog::default();
        log.log(
            "FAIL",
            "[thrd:a:1/1]: a:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
        );
        log.error(
            &KafkaError::Canceled,
            "b:1/2: Connect to ipv6#[::1]:1 failed: Connection refused (after 0ms in state CONNECT)",
        );
        let refused = "failed: Connection refused (in state CONNECT)";
        assert_eq!(
            log.lines(),
            [format!("a:1/1: Connect to 127.0.0.1:1 {refused}"), format!("b:1/2: Connect to [::1]:1 {refused}")]
        );
    }

    #[test]
    fn only_the_last_log_lines_are_kept() {
        let log = ClientLog::default();
        (0..200).for_each(|number| log.log("FAIL", &format!("line {number}")));
        assert_eq!(log.lines().len(), CAPACITY);
        assert_eq!(log.lines().last().map(String::as_str), Some("line 199"));
    }
    #[test]
    fn why_there_is_no_token_is_kept_until_there_is_one() {
        let log = ClientLog::default();
        log.token_failed("connection refused");
        log.clear();
        (0..200).for_each(|number| log.log("FAIL", &format!("line {number}")));
        log.error_text(&format!("{TOKEN_FAILED}connection refused"));
        assert_eq!((log.lines().len(), log.lines()[0].as_str()), (CAPACITY, &*format!("{TOKEN_FAILED}connection refused")));
        log.token_failed("timed out");
        assert_eq!(log.lines().iter().filter(|line| line.starts_with(TOKEN_FAILED)).count(), 1);
        log.token_given();
        log.error_text(&format!("{TOKEN_FAILED}timed out"));
        assert!(!log.lines().iter().any(|line| line.starts_with(TOKEN_FAILED)), "librdkafka may say it late");
    }
}
