//! Where a group resumes, and when it must not: pure.

use std::fmt;

use crate::connectors::kafka::commit_metadata::{CommitMetadata, CommittedOffset, TargetIds, flow_in_words};
use crate::pipeline::{LOSS_TARGET, Refusal, RefusalReason};
use crate::record::{Fingerprint, NextOffset, Partition, Record};

/// The most partitions that a refusal lists, and for which a plan logs a line.
pub(crate) const MAX_LISTED: usize = 10;

/// How a group resumes.
#[derive(Clone, Debug)]
pub struct ResumeRules {
    /// For example `replicate local_kafka/orders`.
    pub flow: String,
    /// Whether to adopt offsets that another flow committed.
    pub adopt: bool,
    /// What to do if the committed offset is not in the log.
    pub on_gap: OnGap,
    /// The topics that the flow copies to, for its commits.
    pub target_ids: TargetIds,
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
    /// The topic was re-created, and the rules allow to continue.
    Recreated,
}

impl fmt::Display for StartReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::CommittedElsewhere => "committed by another client, or reset",
            Self::NoCommit => "no committed offset, from the beginning",
            Self::Requested => "as requested",
            Self::Gap => "after a gap",
            Self::Recreated => "the topic was re-created",
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
    let Some(CommittedOffset { next, metadata, .. }) = committed else {
        return Ok(ResumePoint { next: NextOffset(low), reason: StartReason::NoCommit, fingerprint: None });
    };
    let metadata = CommitMetadata::parse(metadata);
    if let Some(other) = metadata.as_ref().filter(|metadata| metadata.flow != rules.flow && !rules.adopt) {
        return Err(Refusal {
            reason: RefusalReason::OtherFlow,
            what: format!("the group's offsets of {partition} were committed by another command, or for another target"),
            numbers: vec![
                format!("committed by: {}", flow_in_words(&other.flow)),
                format!("this run:     {}", flow_in_words(&rules.flow)),
            ],
        });
    }
    if let (Some(committed), Some(current)) = (metadata.as_ref().and_then(CommitMetadata::topic_id), topic_id)
        && committed != current
    {
        let point = |next| ResumePoint { next, reason: StartReason::Recreated, fingerprint: None };
        return recreated(partition, next.0, committed, current, low, end, rules.on_gap).map(point);
    }
    if (low..=end).contains(&next.0) {
        let reason = if metadata.is_some() { StartReason::Committed } else { StartReason::CommittedElsewhere };
        return Ok(ResumePoint { next: *next, reason, fingerprint: metadata.and_then(|metadata| metadata.fingerprint()) });
    }
    gap(partition, next.0, low, end, rules.on_gap).map(|next| ResumePoint { next, reason: StartReason::Gap, fingerprint: None })
}

/// Returns where a partition with the log `low..end` resumes, or what keeps it from resuming: that of all partitions makes one
/// refusal.
///
/// # Errors
/// When another flow committed: then no partition resumes.
pub(crate) fn resume_or_refused(
    partition: Partition,
    committed: Option<&CommittedOffset>,
    (low, end): (i64, i64),
    topic_id: Option<&str>,
    rules: &ResumeRules,
) -> Result<Result<ResumePoint, RefusedPartition>, Refusal> {
    match resume(partition, committed, low, end, topic_id, rules) {
        Ok(start) => Ok(Ok(start)),
        Err(refusal) if refusal.reason == RefusalReason::OtherFlow => Err(refusal),
        Err(refusal) => {
            let wanted = committed.map_or(low, |committed| committed.next.0);
            Ok(Err(RefusedPartition::new(partition, refusal, wanted, low)))
        }
    }
}

/// Logs that a partition continues elsewhere than at `wanted`, which is not in its log.
pub(crate) fn log_gap(partition: Partition, wanted: i64, next: NextOffset) {
    let next = next.0;
    if next < wanted {
        return tracing::warn!(%partition, wanted, next, "The log ends before the position; the run reads it again.");
    }
    let skipped = next - wanted;
    tracing::warn!(
        target: LOSS_TARGET, %partition, wanted, next, skipped, "Records are missing; the run continues behind the gap."
    );
}

/// Logs the starts of a plan that the rules allow although the committed offset is not in the log, each as partition, committed
/// offset and start: the first of them, and how many offsets all skip.
pub(crate) fn log_gaps(gaps: &[(Partition, i64, NextOffset)]) {
    for (partition, wanted, next) in gaps.iter().take(MAX_LISTED) {
        log_gap(*partition, *wanted, *next);
    }
    let skipped = skipped_offsets(gaps);
    if gaps.len() > 1 && skipped > 0 {
        let partitions = gaps.len();
        tracing::warn!(target: LOSS_TARGET, partitions, skipped, "Records are missing; the run continues behind the gaps.");
    }
}

/// Logs that the requested starts of these partitions leave out what the group has not read.
pub(crate) fn log_requested_skips(skips: &[(Partition, i64, NextOffset)]) {
    let (partitions, skipped) = (skips.len(), skipped_offsets(skips));
    if skipped > 0 {
        tracing::warn!(
            target: LOSS_TARGET, partitions, skipped, "The start lies beyond what the group has read; records are skipped."
        );
    }
}

fn skipped_offsets(starts: &[(Partition, i64, NextOffset)]) -> i64 {
    starts.iter().map(|(_, committed, next)| (next.0 - committed).max(0)).sum()
}

/// Logs that a partition of a re-created topic is read from `next`.
pub(crate) fn log_recreated(partition: Partition, wanted: i64, next: NextOffset) {
    tracing::warn!(%partition, wanted, next = next.0, "The topic was re-created; the run reads the new topic.");
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
        OnGap::Refuse => Err(refuse_recreated(partition, wanted, old_id, new_id, format!("log now:            {low}..{end}"))),
    }
}

/// Decides whether to continue without a partition that the re-created topic does not have.
pub(crate) fn removed(
    partition: Partition,
    wanted: i64,
    old_id: &str,
    new_id: &str,
    partitions: usize,
    on_gap: OnGap,
) -> Result<(), Refusal> {
    match on_gap {
        OnGap::Earliest | OnGap::Latest => Ok(()),
        OnGap::Refuse => Err(refuse_recreated(partition, wanted, old_id, new_id, format!("partitions now:     {partitions}"))),
    }
}

fn refuse_recreated(partition: Partition, wanted: i64, old_id: &str, new_id: &str, now: String) -> Refusal {
    Refusal {
        reason: RefusalReason::TopicRecreated,
        what: format!("{partition} is not the topic that the group has read: it was re-created"),
        numbers: vec![
            format!("topic id when read: {old_id}"),
            format!("topic id now:       {new_id}"),
            format!("next to read:       {wanted}"),
            now,
        ],
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

/// A partition that a run does not resume, and why.
#[derive(Debug)]
pub(crate) struct RefusedPartition {
    pub(crate) partition: Partition,
    pub(crate) refusal: Refusal,
    /// The number of offsets that were deleted before they were read.
    pub(crate) missing: i64,
}

/// Returns one refusal for all these partitions, with the numbers of the first and the sum of what is missing; that of a single
/// partition is unchanged.
pub(crate) fn merge_refusals(refused: Vec<RefusedPartition>) -> Option<Refusal> {
    if refused.len() < 2 {
        return refused.into_iter().next().map(|only| only.refusal);
    }
    let all = |reason: RefusalReason| refused.iter().all(|it| it.refusal.reason == reason);
    let any = |reason: RefusalReason| refused.iter().any(|it| it.refusal.reason == reason);
    let count = refused.len();
    let (reason, what) = if all(RefusalReason::RecordsDeleted) {
        (RefusalReason::RecordsDeleted, format!("records of {count} partitions were deleted before they were read"))
    } else if all(RefusalReason::TopicRecreated) {
        let what = format!("{count} partitions are not those that the group has read: their topic was re-created or truncated");
        (RefusalReason::TopicRecreated, what)
    } else if all(RefusalReason::LogTruncated) {
        let what = format!("{count} partitions end before the offset to read next: they were truncated or re-created");
        (RefusalReason::LogTruncated, what)
    } else {
        let recreated = any(RefusalReason::TopicRecreated);
        let reason = if recreated { RefusalReason::TopicRecreated } else { RefusalReason::LogTruncated };
        (reason, format!("{count} partitions do not have the offset to read next: records were deleted, or logs truncated"))
    };
    let missing: i64 = refused.iter().map(|it| it.missing).sum();
    let mut numbers = list_partitions(refused.iter().map(RefusedPartition::line).collect());
    if missing > 0 {
        numbers.push(format!("missing in total: {missing}"));
    }
    Some(Refusal { reason, what, numbers })
}

/// Returns the first lines, each about a partition, and the number of the others.
pub(crate) fn list_partitions(lines: Vec<String>) -> Vec<String> {
    let others = match lines.len().saturating_sub(MAX_LISTED) {
        0 => None,
        1 => Some("and 1 more partition".to_owned()),
        more => Some(format!("and {more} more partitions")),
    };
    lines.into_iter().take(MAX_LISTED).chain(others).collect()
}

impl RefusedPartition {
    /// Returns a partition whose log begins at `low`, and that was to be read from `wanted`.
    pub(crate) fn new(partition: Partition, refusal: Refusal, wanted: i64, low: i64) -> Self {
        let missing = if refusal.reason == RefusalReason::RecordsDeleted { low - wanted } else { 0 };
        Self { partition, refusal, missing }
    }

    /// Returns the numbers of the refusal in one line.
    fn line(&self) -> String {
        let number = |number: &String| match number.split_once(':') {
            Some((name, value)) => format!("{name} {}", value.trim_start()),
            None => number.clone(),
        };
        let numbers: Vec<String> = self.refusal.numbers.iter().map(number).collect();
        format!("{}: {}", self.partition, numbers.join(", "))
    }
}

/// What a log holds before a position, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogBefore {
    pub(crate) partition: Partition,
    /// The position.
    pub(crate) next: i64,
    /// Where the log begins.
    pub(crate) low: i64,
    /// The newest known record.
    pub(crate) last: Option<Fingerprint>,
    /// The newest leader epoch: no record before the position was written in a later one.
    pub(crate) leader_epoch: Option<i32>,
}

impl LogBefore {
    /// Returns what is known of the log before a committed position. That of another program tells nothing: it may commit any epoch. Nor
    /// does an epoch tell anything to a run that reads uncommitted records, which the flow may have passed over.
    pub(crate) fn committed(partition: Partition, committed: &CommittedOffset, read_uncommitted: bool) -> Self {
        let metadata = CommitMetadata::parse(&committed.metadata);
        let leader_epoch = committed.leader_epoch.filter(|_| metadata.is_some() && !read_uncommitted);
        let last = metadata.and_then(|metadata| metadata.fingerprint());
        Self { partition, next: committed.next.0, low: 0, last, leader_epoch }
    }

    /// Returns what can be compared with a log that begins at `low`.
    pub(crate) fn since(self, low: i64) -> Self {
        Self { low, last: self.last.filter(|last| last.offset >= low), ..self }
    }
}

/// Compares the leader epoch of a record before a position with the newest one that was there.
///
/// # Errors
/// When the record was written later: the log was truncated, and has grown again.
pub(crate) fn verify_leader_epoch(before: &LogBefore, offset: i64, leader_epoch: Option<i32>) -> Result<(), Refusal> {
    let (Some(known), Some(found)) = (before.leader_epoch, leader_epoch.filter(|_| offset < before.next)) else { return Ok(()) };
    if found <= known {
        return Ok(());
    }
    Err(Refusal {
        reason: RefusalReason::TopicRecreated,
        what: format!("{} is not the topic that the group has read: it was truncated", before.partition),
        numbers: vec![
            format!("next to read:           {}", before.next),
            format!("leader epoch when read: {known}"),
            format!("offset {offset} is of epoch:  {found}"),
        ],
    })
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
        ResumeRules { flow: "replicate a/t".to_owned(), adopt, on_gap, target_ids: TargetIds::default() }
    }

    fn committed(next: i64, flow: Option<&str>) -> CommittedOffset {
        let last = Fingerprint { offset: next - 1, timestamp: Some(5), crc: 9 };
        let metadata = flow.map_or(String::new(), |flow| CommitMetadata::new(flow, Some(last)).to_json());
        CommittedOffset { next: NextOffset(next), metadata, leader_epoch: None }
    }

    #[test]
    fn a_group_resumes_at_its_committed_offsets() {
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

    fn refused(index: i32, next: i64, low: i64, end: i64) -> RefusedPartition {
        let partition = Partition::new("gaps", index);
        let refusal = gap(partition, next, low, end, OnGap::Refuse).unwrap_err();
        RefusedPartition::new(partition, refusal, next, low)
    }

    #[test]
    fn the_gap_of_one_partition_is_refused_in_its_own_words() {
        assert_eq!(merge_refusals(Vec::new()), None);
        let only = refused(0, 100, 500, 900);
        let refusal = only.refusal.clone();
        assert_eq!(merge_refusals(vec![only]), Some(refusal));
    }

    #[test]
    fn the_gaps_of_several_partitions_are_refused_together_with_their_total() {
        let three = [(100, 500), (0, 500), (100, 1000)];
        let three = (0..).zip(three).map(|(index, (next, low))| refused(index, next, low, 2000)).collect();
        let refusal = merge_refusals(three).unwrap();
        assert_eq!(refusal.reason, RefusalReason::RecordsDeleted);
        assert_eq!(refusal.what, "records of 3 partitions were deleted before they were read");
        assert_eq!(
            refusal.numbers,
            [
                "gaps/0: next to read 100, first there 500, missing 400",
                "gaps/1: next to read 0, first there 500, missing 500",
                "gaps/2: next to read 100, first there 1000, missing 900",
                "missing in total: 1800",
            ]
        );
    }

    #[test]
    fn at_most_ten_partitions_are_listed_and_all_are_counted() {
        for (count, others) in [(11, "and 1 more partition"), (12, "and 2 more partitions")] {
            let refusal = merge_refusals((0..count).map(|index| refused(index, 0, 5, 9)).collect()).unwrap();
            assert_eq!(refusal.numbers.len(), 12);
            assert_eq!(refusal.numbers[10..], [others.to_owned(), format!("missing in total: {}", 5 * count)]);
        }
        assert_eq!(merge_refusals((0..10).map(|index| refused(index, 0, 5, 9)).collect()).unwrap().numbers.len(), 11);
    }

    #[test]
    fn truncated_logs_are_refused_together_and_beside_deleted_records() {
        let refusal = merge_refusals(vec![refused(0, 10, 0, 5), refused(1, 20, 0, 5)]).unwrap();
        assert_eq!(refusal.reason, RefusalReason::LogTruncated);
        assert_eq!(refusal.numbers, ["gaps/0: next to read 10, log end 5", "gaps/1: next to read 20, log end 5"]);
        let refusal = merge_refusals(vec![refused(0, 1, 3, 5), refused(1, 20, 0, 5)]).unwrap();
        assert_eq!((refusal.reason, refusal.numbers.len()), (RefusalReason::LogTruncated, 3));
        assert_eq!(refusal.numbers[2], "missing in total: 2");
    }

    #[test]
    fn recreated_topics_are_refused_together() {
        let partition = |index| {
            let partition = Partition::new("gaps", index);
            let refusal = recreated(partition, 50, "old", "new", 0, 9, OnGap::Refuse).unwrap_err();
            RefusedPartition { partition, refusal, missing: 0 }
        };
        let refusal = merge_refusals(vec![partition(0), partition(1)]).unwrap();
        assert_eq!(refusal.reason, RefusalReason::TopicRecreated);
        assert_eq!(refusal.numbers[1], "gaps/1: topic id when read old, topic id now new, next to read 50, log now 0..9");
    }

    #[test]
    fn skipped_offsets_are_counted_without_those_that_are_read_again() {
        let start = |index, committed, next| (Partition::new("gaps", index), committed, NextOffset(next));
        assert_eq!(skipped_offsets(&[start(0, 100, 500), start(1, 0, 500), start(2, 100, 1000), start(3, 50, 0)]), 1800);
    }

    #[test]
    fn a_commit_is_valid_for_one_topic_id() {
        let metadata = CommitMetadata::new("replicate a/t", None).with_topic_id(Some("old".to_owned())).to_json();
        let commit = CommittedOffset { next: NextOffset(50), metadata, leader_epoch: None };
        let start = |id, on_gap| resume(partition(), Some(&commit), 10, 100, id, &rules(on_gap, false));
        for id in [Some("old"), None] {
            assert_eq!(start(id, OnGap::Refuse).unwrap().reason, StartReason::Committed, "{id:?}");
        }
        assert_eq!(start(Some("new"), OnGap::Refuse).unwrap_err().reason, RefusalReason::TopicRecreated);
        for (on_gap, at) in [(OnGap::Earliest, 10), (OnGap::Latest, 100)] {
            let start = start(Some("new"), on_gap).unwrap();
            assert_eq!((start.next, start.reason), (NextOffset(at), StartReason::Recreated));
        }
    }

    #[test]
    fn a_record_before_the_position_that_is_newer_than_what_was_read_is_refused() {
        let before = LogBefore { partition: partition(), next: 10, low: 0, last: None, leader_epoch: Some(3) };
        for (offset, epoch) in [(9, Some(3)), (9, Some(1)), (9, None), (10, Some(4))] {
            assert!(verify_leader_epoch(&before, offset, epoch).is_ok(), "offset {offset}, epoch {epoch:?}");
        }
        assert!(verify_leader_epoch(&LogBefore { leader_epoch: None, ..before }, 9, Some(4)).is_ok(), "nothing is known");
        let refused = verify_leader_epoch(&before, 9, Some(4)).unwrap_err();
        assert_eq!(refused.what, "resume/0 is not the topic that the group has read: it was truncated");
        assert_eq!(refused.numbers[1..], ["leader epoch when read: 3", "offset 9 is of epoch:  4"]);
    }

    #[test]
    fn the_epoch_of_a_commit_counts_only_where_the_flow_committed_it() {
        let of = |flow, read_uncommitted| {
            let committed = CommittedOffset { leader_epoch: Some(3), ..committed(50, flow) };
            LogBefore::committed(partition(), &committed, read_uncommitted)
        };
        let before = of(Some("x"), false);
        assert_eq!((before.next, before.last.unwrap().offset, before.leader_epoch), (50, 49, Some(3)));
        assert_eq!((of(Some("x"), true).leader_epoch, of(None, false).leader_epoch), (None, None));
        assert_eq!((before.since(49).last, before.since(50).last), (before.last, None), "what was deleted cannot be compared");
    }

    #[test]
    fn a_fingerprint_of_another_record_is_refused_and_a_compacted_record_is_not() {
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
