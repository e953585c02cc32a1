//! Where a group resumes, and when it must not: pure.

use std::fmt;

use crate::connectors::kafka::commit_metadata::{CommitMetadata, CommittedOffset};
use crate::pipeline::{Refusal, RefusalReason};
use crate::record::{Fingerprint, NextOffset, Partition, Record};

/// How a group resumes.
#[derive(Clone, Debug)]
pub struct ResumeRules {
    /// For example `replicate local_kafka/orders`.
    pub flow: String,
    /// Whether to adopt offsets that another flow committed.
    pub adopt: bool,
    /// What to do if the committed offset is not in the log.
    pub on_gap: OnGap,
}

/// What to do if the next offset is not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnGap {
    /// Refuse, with the numbers.
    #[default]
    Refuse,
    /// Continue with the first record of the log.
    Earliest,
    /// Continue behind the last record.
    Latest,
}

/// Where a partition resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    pub(crate) next: NextOffset,
    pub(crate) reason: StartReason,
    /// Of the last record before `next`, from the commit.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// Why a partition starts at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// This flow committed it.
    Committed,
    /// Another program committed it, without naming a flow.
    CommittedElsewhere,
    /// The group has no commit.
    NoCommit,
    /// The user chose it.
    Requested,
    /// Records are missing, and the rules allow to continue.
    Gap,
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::CommittedElsewhere => "committed by another program",
            Self::NoCommit => "no commit: the beginning",
            Self::Requested => "as requested",
            Self::Gap => "after a gap",
        })
    }
}

/// Decides where a partition with the log `low..end` resumes.
///
/// # Errors
/// When another flow committed, or when the committed offset is not in the log.
pub(crate) fn resume(
    partition: Partition,
    committed: Option<&CommittedOffset>,
    low: i64,
    end: i64,
    topic_id: Option<&str>,
    rules: &ResumeRules,
) -> Result<ResumePoint, Refusal> {
    let Some(CommittedOffset { next, metadata }) = committed else {
        return Ok(ResumePoint { next: NextOffset(low), reason: StartReason::NoCommit, fingerprint: None });
    };
    let metadata = CommitMetadata::parse(metadata);
    if let Some(other) = metadata.as_ref().filter(|metadata| metadata.flow != rules.flow && !rules.adopt) {
        return Err(Refusal {
            reason: RefusalReason::OtherFlow,
            what: format!("the group's offsets of {partition} belong to another flow"),
            numbers: vec![format!("committed by: {}", other.flow), format!("this flow:    {}", rules.flow)],
        });
    }
    if let (Some(committed), Some(current)) = (metadata.as_ref().and_then(CommitMetadata::topic_id), topic_id)
        && committed != current
    {
        let point = |next| ResumePoint { next, reason: StartReason::Gap, fingerprint: None };
        return recreated(partition, next.0, committed, current, low, end, rules.on_gap).map(point);
    }
    if (low..=end).contains(&next.0) {
        let reason = if metadata.is_some() { StartReason::Committed } else { StartReason::CommittedElsewhere };
        return Ok(ResumePoint { next: *next, reason, fingerprint: metadata.and_then(|metadata| metadata.fingerprint()) });
    }
    gap(partition, next.0, low, end, rules.on_gap).map(|next| ResumePoint { next, reason: StartReason::Gap, fingerprint: None })
}

/// Logs that a partition continues behind a gap.
pub(crate) fn log_gap(partition: Partition, wanted: i64, next: NextOffset) {
    let skipped = next.0 - wanted;
    tracing::warn!(%partition, wanted, next = next.0, skipped, "Records are missing; the run continues behind the gap.");
}

/// Decides where to continue when the topic with the log `low..end` is not the one that was read up to `wanted`.
pub(crate) fn recreated(
    partition: Partition,
    wanted: i64,
    old_id: &str,
    new_id: &str,
    low: i64,
    end: i64,
    on_gap: OnGap,
) -> Result<NextOffset, Refusal> {
    match on_gap {
        OnGap::Earliest => Ok(NextOffset(low)),
        OnGap::Latest => Ok(NextOffset(end)),
        OnGap::Refuse => Err(Refusal {
            reason: RefusalReason::TopicRecreated,
            what: format!("{partition} is not the topic that the group has read: it was re-created"),
            numbers: vec![
                format!("topic id when read: {old_id}"),
                format!("topic id now:       {new_id}"),
                format!("next to read:       {wanted}"),
                format!("log now:            {low}..{end}"),
            ],
        }),
    }
}

/// Decides where to continue when `wanted` is not in the log `low..end`.
pub(crate) fn gap(partition: Partition, wanted: i64, low: i64, end: i64, on_gap: OnGap) -> Result<NextOffset, Refusal> {
    match on_gap {
        OnGap::Earliest => Ok(NextOffset(low)),
        OnGap::Latest => Ok(NextOffset(end)),
        OnGap::Refuse if wanted < low => Err(Refusal {
            reason: RefusalReason::RecordsDeleted,
            what: format!("records of {partition} were deleted before they were read"),
            numbers: vec![
                format!("next to read: {wanted}"),
                format!("first there:  {low}"),
                format!("missing:      {}", low - wanted),
            ],
        }),
        OnGap::Refuse => Err(Refusal {
            reason: RefusalReason::LogTruncated,
            what: format!("{partition} ends before the offset to read next: it was truncated or re-created"),
            numbers: vec![format!("next to read: {wanted}"), format!("log end:      {end}")],
        }),
    }
}

/// Compares the fingerprint of a record in a commit with the record that is now in the log; a record that was compacted proves
/// nothing.
///
/// # Errors
/// When another record has its offset: the topic was re-created.
pub(crate) fn verify_fingerprint(partition: Partition, committed: Fingerprint, record: Option<&Record>) -> Result<(), Refusal> {
    let Some(found) = record.map(Record::fingerprint).filter(|found| found.offset == committed.offset && *found != committed)
    else {
        return Ok(());
    };
    let line = |what: &str, print: Fingerprint| {
        let time = print.timestamp.map_or_else(|| "none".to_owned(), |time| time.to_string());
        format!("{what} offset {}, timestamp {time}, crc {:08x}", print.offset, print.crc)
    };
    Err(Refusal {
        reason: RefusalReason::TopicRecreated,
        what: format!("{partition} is not the topic that the group has read: it was re-created"),
        numbers: vec![line("when committed:", committed), line("in the log:    ", found)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition::new("resume", 0)
    }

    fn rules(on_gap: OnGap, adopt: bool) -> ResumeRules {
        ResumeRules { flow: "replicate a/t".to_owned(), adopt, on_gap }
    }

    fn committed(next: i64, flow: Option<&str>) -> CommittedOffset {
        let last = Fingerprint { offset: next - 1, timestamp: Some(5), crc: 9 };
        let metadata = flow.map_or(String::new(), |flow| CommitMetadata::new(flow, Some(last)).to_json());
        CommittedOffset { next: NextOffset(next), metadata }
    }

    #[test]
    fn a_group_resumes_where_it_left_off() {
        let strict = rules(OnGap::Refuse, false);
        let start = resume(partition(), Some(&committed(50, Some("replicate a/t"))), 10, 100, None, &strict).unwrap();
        assert_eq!((start.next, start.reason), (NextOffset(50), StartReason::Committed));
        assert_eq!(start.fingerprint.unwrap().offset, 49);
        let start = resume(partition(), Some(&committed(100, None)), 10, 100, None, &strict).unwrap();
        assert_eq!((start.next, start.reason), (NextOffset(100), StartReason::CommittedElsewhere));
        let start = resume(partition(), None, 10, 100, None, &strict).unwrap();
        assert_eq!((start.next, start.reason), (NextOffset(10), StartReason::NoCommit));
    }

    #[test]
    fn another_flows_offsets_are_refused_unless_adopted() {
        let foreign = committed(50, Some("sink-es elastic/t"));
        let refused = resume(partition(), Some(&foreign), 10, 100, None, &rules(OnGap::Refuse, false)).unwrap_err();
        assert!(refused.numbers.iter().any(|line| line.ends_with("sink-es elastic/t")), "{refused:?}");
        assert_eq!(refused.reason, RefusalReason::OtherFlow);
        assert!(resume(partition(), Some(&foreign), 10, 100, None, &rules(OnGap::Refuse, true)).is_ok());
    }

    #[test]
    fn a_gap_is_refused_with_its_numbers_unless_the_rules_say_where_to_continue() {
        for (next, number) in [(9, "missing:      1"), (101, "log end:      100")] {
            let commit = committed(next, Some("replicate a/t"));
            let refused = resume(partition(), Some(&commit), 10, 100, None, &rules(OnGap::Refuse, false)).unwrap_err();
            assert!(refused.numbers.iter().any(|line| line == number), "{refused:?}");
            for (on_gap, at) in [(OnGap::Earliest, 10), (OnGap::Latest, 100)] {
                let start = resume(partition(), Some(&commit), 10, 100, None, &rules(on_gap, false)).unwrap();
                assert_eq!((start.next, start.reason), (NextOffset(at), StartReason::Gap));
            }
        }
    }

    #[test]
    fn a_commit_is_valid_for_one_topic_id() {
        let metadata = CommitMetadata::new("replicate a/t", None).with_topic_id(Some("old".to_owned())).to_json();
        let commit = CommittedOffset { next: NextOffset(50), metadata };
        let start = |id, on_gap| resume(partition(), Some(&commit), 10, 100, id, &rules(on_gap, false));
        for id in [Some("old"), None] {
            assert_eq!(start(id, OnGap::Refuse).unwrap().reason, StartReason::Committed, "{id:?}");
        }
        assert_eq!(start(Some("new"), OnGap::Refuse).unwrap_err().reason, RefusalReason::TopicRecreated);
        for (on_gap, at) in [(OnGap::Earliest, 10), (OnGap::Latest, 100)] {
            assert_eq!(start(Some("new"), on_gap).unwrap().next, NextOffset(at));
        }
    }

    #[test]
    fn a_recreated_topic_is_refused_and_a_compacted_record_proves_nothing() {
        let record = |offset, timestamp| Record {
            partition: partition(),
            offset,
            timestamp: Some(timestamp),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let committed = record(7, 1).fingerprint();
        assert!(verify_fingerprint(partition(), committed, Some(&record(7, 1))).is_ok());
        assert!(verify_fingerprint(partition(), committed, Some(&record(8, 2))).is_ok(), "offset 7 was compacted away");
        assert!(verify_fingerprint(partition(), committed, None).is_ok());
        let refused = verify_fingerprint(partition(), committed, Some(&record(7, 2))).unwrap_err();
        assert!(refused.what.contains("re-created"));
    }
}
