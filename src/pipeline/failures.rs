//! The failures that end a run.

use std::time::Duration;

use crate::number::counted;
use crate::pipeline::{BreakerLimit, ConnectorError, Failure, FailureKind, Reason, Refused};
use crate::record::{NextOffset, Partition, Record};

/// Returns the failure of a run that stops at a bad record: because that is its policy, or because the breaker tripped.
pub(crate) fn bad_record(record: &Record, reason: &Reason, tripped: Option<BreakerLimit>) -> Failure {
    let cause = format!("{reason} ({})", reason.code());
    if let Some(BreakerLimit { records, within }) = tripped {
        let (most, within) = (counted(records as u64, "bad record"), humantime::format_duration(within));
        let what = format!("more than {most} within {within}, the last one {record}");
        return Failure::new(what).because(cause).kind(FailureKind::TooManyBadRecords);
    }
    let failure = Failure::new(format!("record {record} cannot be delivered")).because(cause).kind(FailureKind::BadRecord);
    with_hint(failure, reason)
}

/// Returns the failure of a run whose dead letter is rejected.
pub(crate) fn rejected_dead_letter(record: &Record, reason: &Reason) -> Failure {
    let what = format!("the dead letter of record {record} was rejected");
    with_hint(Failure::new(what).because(reason).kind(FailureKind::DeadLetterRejected), reason)
}

/// Returns the failure of a run that delivered nothing for as long as it may.
pub(crate) fn gave_up(after: Duration, reason: &str) -> Failure {
    let what = format!("gave up after {} without a delivery", humantime::format_duration(after));
    Failure::new(what).because(reason).kind(FailureKind::GaveUp)
}

/// Returns the failure of a run whose source ended before these partitions were read to their stops: partition, position, stop.
pub(crate) fn ended_early(unreached: &[(Partition, NextOffset, NextOffset)]) -> Failure {
    let causes = unreached.iter().map(|(partition, next, stop)| format!("{partition}: read to {} of {}", next.0, stop.0));
    let failure = Failure::new(format!("the run ended before {} partitions were read to the end", unreached.len()));
    causes.fold(failure, super::failure::Failure::because).hint("start again: the next run continues at the committed offsets")
}

/// Returns why a run ends whose destination rejects everything.
pub(crate) fn stopped(reason: &Reason) -> ConnectorError {
    if reason.is_refusal() {
        let hint = reason.hinted().unwrap_or_default().to_owned();
        return Refused { what: reason.message().to_owned(), numbers: Vec::new(), hint }.into();
    }
    let failure = Failure::new("the destination rejects every write until its configuration is fixed").because(reason);
    with_hint(failure, reason).into()
}

fn with_hint(failure: Failure, reason: &Reason) -> Failure {
    match reason.hinted() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
