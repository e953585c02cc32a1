//! The last log lines and errors of a librdkafka client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The last log lines and errors of a client. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ClientLog(Arc<Mutex<VecDeque<(Instant, String)>>>);

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

    /// Forgets the lines after the client has recovered.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep(&self, line: &str) {
        let line = normalize(line);
        // The line before it carries the reason.
        if line.ends_with("brokers are down") {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(_, kept)| *kept != line);
        if lines.len() == CAPACITY {
            lines.pop_front();
        }
        lines.push_back((Instant::now(), line));
    }

    /// Returns the distinct lines, oldest first, without thread and duration.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, line)| line.clone()).collect()
    }

    /// Returns the lines of the last minute, as [`Self::lines`], and why there is no token: librdkafka says that once in an outage.
    #[must_use]
    pub(crate) fn recent(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |(at, line): &&(Instant, String)| at.elapsed() < RECENT || line.starts_with(TOKEN_FAILED);
        lines.iter().filter(is_recent).map(|(_, line)| line.clone()).collect()
    }
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
}
