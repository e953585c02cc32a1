//! Whether a partition may be read on from where the group left off, and from where it is read: pure.

use std::fmt;

use crate::connectors::kafka::CommittedOffset;
use crate::connectors::kafka::commit_metadata::CommitMetadata;
use crate::pipeline::Refused;
use crate::record::{Fingerprint, NextOffset, Partition, Record};

/// What holds when a group resumes.
#[derive(Clone, Debug)]
pub struct ResumeRules {
    /// What the records are read for: `replicate local_kafka/orders`.
    pub flow: String,
    /// Whether the offsets that another flow committed are taken over.
    pub adopt: bool,
    /// What happens where records are missing between the commit and the log.
    pub on_gap: OnGap,
}

/// What happens where the committed offset is not in the log any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnGap {
    /// The run is refused, with the numbers.
    #[default]
    Refuse,
    /// Read on at the first record that is there.
    Earliest,
    /// Read on behind the last record.
    Latest,
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    pub(crate) next: NextOffset,
    pub(crate) why: StartReason,
    /// The record before `next` as an earlier commit described it.
    pub(crate) last: Option<Fingerprint>,
}

/// Why a partition is read from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// The group left off there.
    Committed,
    /// The group left off there, but did not say for which flow.
    CommittedElsewhere,
    /// The group has no commit.
    NoCommit,
    /// It was asked for.
    Asked,
    /// Records are missing, and it was asked to go on.
    Gap,
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::CommittedElsewhere => "committed by another program",
            Self::NoCommit => "no commit: the beginning",
            Self::Asked => "as asked",
            Self::Gap => "after a gap",
        })
    }
}

/// Decides where a partition with the log `low..end` is read from.
///
/// # Errors
/// When another flow committed, or when records are missing between the commit and the log.
pub(crate) fn resume(
    partition: Partition,
    committed: Option<&CommittedOffset>,
    low: i64,
    end: i64,
    rules: &ResumeRules,
) -> Result<ResumePoint, Refused> {
    let Some(CommittedOffset { next, metadata }) = committed else {
        return Ok(ResumePoint { next: NextOffset(low), why: StartReason::NoCommit, last: None });
    };
    let note = CommitMetadata::parse(metadata);
    if let Some(note) = note.as_ref().filter(|note| note.flow != rules.flow && !rules.adopt) {
        return Err(Refused {
            what: format!("the group's offsets of {partition} belong to another flow"),
            numbers: vec![format!("committed by: {}", note.flow), format!("this flow:    {}", rules.flow)],
            hint: "use a group of its own (--group NAME), or take these offsets over with --adopt-group".to_owned(),
        });
    }
    if (low..=end).contains(&next.0) {
        let why = if note.is_some() { StartReason::Committed } else { StartReason::CommittedElsewhere };
        return Ok(ResumePoint { next: *next, why, last: note.and_then(|note| note.last()) });
    }
    gap(partition, next.0, low, end, rules.on_gap).map(|next| ResumePoint { next, why: StartReason::Gap, last: None })
}

/// Decides where to go on when `wanted` is not in the log `low..end`.
pub(crate) fn gap(partition: Partition, wanted: i64, low: i64, end: i64, on_gap: OnGap) -> Result<NextOffset, Refused> {
    match on_gap {
        OnGap::Earliest => Ok(NextOffset(low)),
        OnGap::Latest => Ok(NextOffset(end)),
        OnGap::Refuse if wanted < low => Err(Refused {
            what: format!("records of {partition} were deleted before they were read"),
            numbers: vec![
                format!("next to read: {wanted}"),
                format!("first there:  {low}"),
                format!("missing:      {}", low - wanted),
            ],
            hint: "read on with the first record that is there with --on-gap earliest".to_owned(),
        }),
        OnGap::Refuse => Err(Refused {
            what: format!("{partition} ends before the offset to read next: it was truncated or re-created"),
            numbers: vec![format!("next to read: {wanted}"), format!("log end:      {end}")],
            hint: "read the topic anew with --from-beginning, or go on with --on-gap earliest or --on-gap latest".to_owned(),
        }),
    }
}

/// Compares what an earlier commit said of a record with what is there now; a record that is gone (compacted) says nothing.
///
/// # Errors
/// When another record has its offset: the topic was re-created.
pub(crate) fn verify_fingerprint(partition: Partition, noted: Fingerprint, there: Option<&Record>) -> Result<(), Refused> {
    let Some(found) = there.map(Record::fingerprint).filter(|found| found.offset == noted.offset && *found != noted) else {
        return Ok(());
    };
    let line = |what: &str, print: Fingerprint| {
        let time = print.timestamp.map_or_else(|| "none".to_owned(), |time| time.to_string());
        format!("{what} offset {}, timestamp {time}, crc {:08x}", print.offset, print.crc)
    };
    Err(Refused {
        what: format!("{partition} is not the topic that the group has read: it was re-created"),
        numbers: vec![line("when committed:", noted), line("now there:     ", found)],
        hint: "read the topic anew with --from-beginning, or use another group with --group NAME".to_owned(),
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
        let metadata = flow.map_or(String::new(), |flow| CommitMetadata::new(flow, Some(last)).text());
        CommittedOffset { next: NextOffset(next), metadata }
    }

    #[test]
    fn a_group_resumes_where_it_left_off() {
        let strict = rules(OnGap::Refuse, false);
        let start = resume(partition(), Some(&committed(50, Some("replicate a/t"))), 10, 100, &strict).unwrap();
        assert_eq!((start.next, start.why), (NextOffset(50), StartReason::Committed));
        assert_eq!(start.last.unwrap().offset, 49);
        let start = resume(partition(), Some(&committed(100, None)), 10, 100, &strict).unwrap();
        assert_eq!((start.next, start.why), (NextOffset(100), StartReason::CommittedElsewhere));
        let start = resume(partition(), None, 10, 100, &strict).unwrap();
        assert_eq!((start.next, start.why), (NextOffset(10), StartReason::NoCommit));
    }

    #[test]
    fn another_flows_offsets_are_refused_unless_adopted() {
        let foreign = committed(50, Some("sink-es elastic/t"));
        let refused = resume(partition(), Some(&foreign), 10, 100, &rules(OnGap::Refuse, false)).unwrap_err();
        assert!(refused.numbers.iter().any(|line| line.ends_with("sink-es elastic/t")), "{refused:?}");
        assert!(refused.hint.contains("--adopt-group"));
        assert!(resume(partition(), Some(&foreign), 10, 100, &rules(OnGap::Refuse, true)).is_ok());
    }

    #[test]
    fn a_gap_is_refused_with_its_numbers_unless_told_how_to_go_on() {
        for (next, number) in [(9, "missing:      1"), (101, "log end:      100")] {
            let commit = committed(next, Some("replicate a/t"));
            let refused = resume(partition(), Some(&commit), 10, 100, &rules(OnGap::Refuse, false)).unwrap_err();
            assert!(refused.numbers.iter().any(|line| line == number), "{refused:?}");
            for (on_gap, at) in [(OnGap::Earliest, 10), (OnGap::Latest, 100)] {
                let start = resume(partition(), Some(&commit), 10, 100, &rules(on_gap, false)).unwrap();
                assert_eq!((start.next, start.why), (NextOffset(at), StartReason::Gap));
            }
        }
    }

    #[test]
    fn a_recreated_topic_is_recognised_and_a_compacted_record_is_not_mistaken_for_one() {
        let record = |offset, timestamp| Record {
            partition: partition(),
            offset,
            timestamp: Some(timestamp),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let noted = record(7, 1).fingerprint();
        assert!(verify_fingerprint(partition(), noted, Some(&record(7, 1))).is_ok());
        assert!(verify_fingerprint(partition(), noted, Some(&record(8, 2))).is_ok(), "offset 7 was compacted away");
        assert!(verify_fingerprint(partition(), noted, None).is_ok());
        let refused = verify_fingerprint(partition(), noted, Some(&record(7, 2))).unwrap_err();
        assert!(refused.what.contains("re-created"));
    }
}
