//! Dead letters: bad records, with the cause in their headers.
//!
//! The names under `__connect.errors.` are those of Kafka Connect's dead letter queues; the others begin with `sdl.dlq.`.

use bytes::Bytes;

use crate::pipeline::Reason;
use crate::record::{Headers, Record};

/// The header that counts replays of a dead letter; a record that fails again keeps it.
pub const REPLAYS_HEADER: &str = "sdl.dlq.replays";

/// The longest header value that a dead letter adds, in bytes: a reason may quote the whole payload.
pub const MAX_CAUSE_BYTES: usize = 1024;

/// The stage in which a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureStage {
    /// The transform of the record: Kafka Connect's `TRANSFORMATION`.
    Shaping,
    /// The write to the destination: Kafka Connect's `TASK_PUT`.
    Delivery,
}

impl FailureStage {
    /// Returns Kafka Connect's name of the stage.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shaping => "TRANSFORMATION",
            Self::Delivery => "TASK_PUT",
        }
    }
}

/// Why a record becomes a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterCause<'a> {
    /// The id of the run, for the header `sdl.dlq.run`.
    pub run: &'a str,
    /// The flow that failed, for the header `sdl.dlq.flow`: `sink-es elasticsearch/user-login`.
    pub flow: &'a str,
    /// Where the record failed.
    pub stage: FailureStage,
    /// Deliveries that were tried, for the header `sdl.dlq.attempts`.
    pub attempts: u32,
    /// Why the record is bad.
    pub reason: &'a Reason,
}

/// Returns `record` as a dead letter: coordinates, timestamp, key, value and headers as they were, followed by the headers that name
/// the cause.
///
/// A header of the record with one of these names is kept: of a repeated name, the last counts. Only [`REPLAYS_HEADER`] is not
/// repeated.
#[must_use]
pub fn dead_letter(record: &Record, cause: &DeadLetterCause<'_>) -> Record {
    let DeadLetterCause { run, flow, stage, attempts, reason } = *cause;
    let replays = record.headers.iter().rev().find(|(name, _)| name == REPLAYS_HEADER).and_then(|(_, value)| value.clone());
    let mut headers: Headers = record.headers.iter().filter(|(name, _)| name != REPLAYS_HEADER).cloned().collect();
    let mut add = |name: &'static str, value: Bytes| headers.push((Bytes::from_static(name.as_bytes()), Some(value)));

    add("__connect.errors.topic", Bytes::from_static(record.partition.topic.name().as_bytes()));
    add("__connect.errors.partition", record.partition.index.to_string().into());
    add("__connect.errors.offset", record.offset.to_string().into());
    add("__connect.errors.stage", Bytes::from_static(stage.name().as_bytes()));
    add("__connect.errors.exception.class.name", truncated_header(&format!("sdl.{}", reason.code())));
    let detail = reason.detailed().map(|detail| format!(": {detail}")).unwrap_or_default();
    add("__connect.errors.exception.message", truncated_header(&format!("{reason}{detail}")));
    add("sdl.dlq.run", truncated_header(run));
    add("sdl.dlq.flow", truncated_header(flow));
    add("sdl.dlq.attempts", attempts.to_string().into());
    add("sdl.dlq.code", truncated_header(reason.code()));
    if let Some(path) = reason.path() {
        add("sdl.dlq.path", truncated_header(path));
    }
    add(REPLAYS_HEADER, replays.unwrap_or(Bytes::from_static(b"0")));
    Record { headers, ..record.clone() }
}

/// Returns the start of `text` that fits a header, cut between characters.
pub(crate) fn truncated_header(text: &str) -> Bytes {
    let mut end = text.len().min(MAX_CAUSE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Bytes::copy_from_slice(&text.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;

    fn record(headers: &[(&'static str, Option<&'static str>)]) -> Record {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Record {
            partition: Partition::new("logins", 3),
            offset: 1042,
            timestamp: Some(1_694_479_551_000),
            key: None,
            value: Some(bytes("")),
            headers: headers.iter().map(|(name, value)| (bytes(name), value.map(bytes))).collect(),
        }
    }

    fn written(record: &Record, reason: &Reason) -> Record {
        dead_letter(
            record,
            &DeadLetterCause { run: "run-1", flow: "sink-es es/i", stage: FailureStage::Delivery, attempts: 3, reason },
        )
    }

    fn shown(headers: &Headers) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        headers.iter().map(|(name, value)| format!("{}={}", text(name), value.as_ref().map_or("null".into(), text))).collect()
    }

    #[test]
    fn a_dead_letter_names_coordinates_and_cause() {
        let reason = Reason::new("wrong_type", "`timestamp` is text").at("timestamp").hint("not part of a letter");
        let letter = written(&record(&[]), &reason);
        assert_eq!(
            shown(&letter.headers),
            [
                "__connect.errors.topic=logins",
                "__connect.errors.partition=3",
                "__connect.errors.offset=1042",
                "__connect.errors.stage=TASK_PUT",
                "__connect.errors.exception.class.name=sdl.wrong_type",
                "__connect.errors.exception.message=`timestamp` is text",
                "sdl.dlq.run=run-1",
                "sdl.dlq.flow=sink-es es/i",
                "sdl.dlq.attempts=3",
                "sdl.dlq.code=wrong_type",
                "sdl.dlq.path=timestamp",
                "sdl.dlq.replays=0",
            ]
        );
    }

    #[test]
    fn only_a_dead_letter_holds_the_server_message() {
        let reason = Reason::new("c", "`timestamp` is wrong").detail("Preview: 'abc'");
        assert_eq!(reason.to_string(), "`timestamp` is wrong");
        let headers = shown(&written(&record(&[]), &reason).headers);
        assert_eq!(headers[5], "__connect.errors.exception.message=`timestamp` is wrong: Preview: 'abc'");
    }

    #[test]
    fn a_dead_letter_keeps_every_field_of_its_record() {
        let record = record(&[("trace", Some("a")), ("trace", None), ("", Some(""))]);
        let letter = written(&record, &Reason::new("c", "m"));
        assert_eq!(shown(&letter.headers)[..3], ["trace=a", "trace=null", "="]);
        assert_eq!(Record { headers: record.headers.clone(), ..letter }, record);
    }

    #[test]
    fn the_number_of_replays_is_carried_on_and_not_repeated() {
        let record = record(&[("sdl.dlq.replays", Some("1")), ("x", None), ("sdl.dlq.replays", Some("2"))]);
        let headers = shown(&written(&record, &Reason::new("c", "m")).headers);
        let replays: Vec<_> = headers.iter().filter(|header| header.starts_with("sdl.dlq.replays")).collect();
        assert_eq!(replays, ["sdl.dlq.replays=2"]);
        assert_eq!(headers[0], "x=null");
    }

    #[test]
    fn a_dead_letter_that_failed_again_names_the_last_failure_last() {
        let once = written(&record(&[]), &Reason::new("first", "m"));
        let twice = written(&once, &Reason::new("second", "m"));
        let codes: Vec<_> = shown(&twice.headers).into_iter().filter(|header| header.starts_with("sdl.dlq.code")).collect();
        assert_eq!(codes, ["sdl.dlq.code=first", "sdl.dlq.code=second"]);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let reason = Reason::new("c", format!("a{}", "é".repeat(2000)));
        let letter = written(&record(&[]), &reason);
        let (_, message) = &letter.headers[5];
        let message = std::str::from_utf8(message.as_ref().unwrap()).unwrap();
        assert_eq!(message.len(), 1023);
        assert!(reason.message().starts_with(message));
    }
}
