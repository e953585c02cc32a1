//! The read plan of a run: decided, checked and shown before anything is joined or changed.

use std::collections::HashMap;

use crate::connectors::kafka::admin::{Admin, OffsetSpec, TopicInfo};
use crate::connectors::kafka::commit_metadata::{CommitMetadata, CommittedOffset};
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::position::{Bounds, Pos};
use crate::connectors::kafka::resume::{self, LogBefore, ResumeRules, StartReason};
use crate::pipeline::{ConnectorError, Refusal, RefusalReason};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Topic};

/// What the user asks to read.
#[derive(Clone, Debug)]
pub struct ReadPlanRequest<'a> {
    pub(crate) group: &'a str,
    pub(crate) topics: &'a [TopicInfo],
    /// Only these partitions of each topic, without joining the group.
    pub(crate) partitions: Option<&'a [i32]>,
    /// Any start but [`Pos::Committed`] is committed before the run.
    pub(crate) start: Pos,
    /// Whether a committed position beyond the start counts.
    pub(crate) goes_on: bool,
    /// A run without a stop follows.
    pub(crate) stop: Option<Pos>,
    /// Whether to read records of open and aborted transactions.
    pub(crate) read_uncommitted: bool,
    pub(crate) rules: &'a ResumeRules,
    /// In milliseconds since the Unix epoch.
    pub(crate) now: i64,
}

/// What a run will read.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    pub(crate) group: String,
    /// The flow that reads.
    pub(crate) flow: String,
    pub(crate) partitions: Vec<PlannedPartition>,
}

/// What a run will read of one partition.
#[derive(Clone, Debug)]
pub struct PlannedPartition {
    pub(crate) partition: Partition,
    /// The log start offset.
    pub(crate) low: i64,
    /// The offset behind the last readable record.
    pub(crate) end: i64,
    /// The log end offset before `end` was looked up: beyond it if an open transaction hides records from the run.
    pub(crate) log_end: i64,
    pub(crate) committed: Option<CommittedOffset>,
    pub(crate) start: NextOffset,
    pub(crate) reason: StartReason,
    /// Absent where the brokers have no topic ids.
    pub(crate) topic_id: Option<String>,
    /// Exclusive.
    pub(crate) stop: Option<i64>,
}

impl ReadPlan {
    /// Decides what to read; changes nothing.
    ///
    /// # Errors
    /// When the cluster does not answer, or when it is not safe to resume.
    pub async fn make(admin: &Admin, section: &KafkaSection, request: &ReadPlanRequest<'_>) -> Result<Self, ConnectorError> {
        let partitions: Vec<Partition> = request.topics.iter().flat_map(|topic| of_topic(topic, request.partitions)).collect();
        let low = admin.ends(&partitions, OffsetSpec::Start).await?;
        // In this order, only an open transaction leaves the log end beyond the readable end.
        let log_end = admin.ends(&partitions, OffsetSpec::Log).await?;
        let end = if request.read_uncommitted { log_end.clone() } else { admin.ends(&partitions, OffsetSpec::Stable).await? };
        let mut at_time = HashMap::new();
        for pos in [Some(request.start), request.stop].into_iter().flatten() {
            if let Some(time) = pos.time(request.now) {
                at_time.insert(time, admin.ends(&partitions, OffsetSpec::Time(time)).await?);
            }
        }
        let committed = admin.group_offsets(request.group).await?;
        let topics: Vec<Topic> = request.topics.iter().map(|info| info.topic).collect();
        let topic_ids = admin.topic_ids(&topics).await?;
        let mut planned = Vec::with_capacity(partitions.len());
        let mut refused = Vec::new();
        for partition in partitions {
            let (low, end, log_end) = (low[&partition], end[&partition], log_end[&partition]);
            let committed = committed.get(&partition);
            let topic_id = topic_ids.get(&partition.topic).map(String::as_str);
            let bounds = |pos: Pos| Bounds {
                low,
                end,
                committed: committed.map(|committed| committed.next.0),
                at_time: pos.time(request.now).and_then(|time| at_time.get(&time)?.get(&partition).copied()),
            };
            let offset = |pos: Pos, name: &str| {
                pos.offset(&bounds(pos)).map_err(|why| Refusal {
                    reason: RefusalReason::OffsetOutOfRange,
                    what: format!("the {name} {pos} is outside {partition}"),
                    numbers: vec![why],
                })
            };
            let is_beyond = |committed: &CommittedOffset| {
                request.start.offset(&bounds(request.start)).is_ok_and(|start| committed.next.0 >= start)
            };
            let goes_on = request.goes_on && committed.is_some_and(is_beyond);
            let (start, reason) = if request.start == Pos::Committed || goes_on {
                match resume::resume_or_refused(partition, committed, (low, log_end.max(end)), topic_id, request.rules)? {
                    Ok(start) => (start.next, start.reason),
                    Err(partition) => {
                        refused.push(partition);
                        continue;
                    }
                }
            } else {
                // The run overwrites the group's offsets: they must be this flow's.
                resume::resume(
                    partition,
                    committed,
                    i64::MIN,
                    i64::MAX,
                    None,
                    &ResumeRules { on_gap: resume::OnGap::Earliest, ..request.rules.clone() },
                )?;
                (NextOffset(offset(request.start, "start")?), StartReason::Requested)
            };
            planned.push(PlannedPartition {
                partition,
                low,
                end,
                log_end,
                committed: committed.cloned(),
                start,
                reason,
                topic_id: topic_id.map(ToOwned::to_owned),
                stop: request.stop.map(|stop| offset(stop, "stop")).transpose()?,
            });
        }
        if let Some(refusal) = resume::merge_refusals(refused) {
            return Err(refusal.into());
        }
        let plan = Self { group: request.group.to_owned(), flow: request.rules.flow.clone(), partitions: planned };
        plan.verify_before(section, request.read_uncommitted).await?;
        Ok(plan)
    }

    /// Refuses requested starts beyond the committed offsets.
    ///
    /// # Errors
    /// When there are any, with the numbers of records that they would skip.
    pub(crate) fn refuse_skips(&self) -> Result<(), Refusal> {
        let skips = self.requested_skips();
        if skips.is_empty() {
            return Ok(());
        }
        let line = |(partition, committed, start): &(Partition, i64, NextOffset)| {
            format!("{partition}: committed {committed}, start {}: {} skipped", start.0, start.0 - committed)
        };
        let mut numbers = resume::list_partitions(skips.iter().map(line).collect());
        if skips.len() > 1 {
            let total: i64 = skips.iter().map(|(_, committed, start)| start.0 - committed).sum();
            numbers.push(format!("skipped in total: {total}"));
        }
        Err(Refusal {
            reason: RefusalReason::RecordsSkipped,
            what: "the start lies beyond what the group has read: records would be skipped".to_owned(),
            numbers,
        })
    }

    /// Returns the partitions whose start the user requested and that skip records, with the committed offset and the start.
    fn requested_skips(&self) -> Vec<(Partition, i64, NextOffset)> {
        let mut requested = self.committed_and_start(StartReason::Requested);
        requested.retain(|(_, committed, start)| start.0 > *committed);
        requested
    }

    /// Returns the partitions that start for this reason and have a commit, with the committed offset and the start.
    fn committed_and_start(&self, reason: StartReason) -> Vec<(Partition, i64, NextOffset)> {
        let chosen = self.partitions.iter().filter(|planned| planned.reason == reason);
        chosen.filter_map(|planned| Some((planned.partition, planned.committed.as_ref()?.next.0, planned.start))).collect()
    }

    /// Logs what the run leaves out because the user asks for it.
    pub(crate) fn log_requested_skips(&self) {
        resume::log_requested_skips(&self.requested_skips());
    }

    /// Logs what the group leaves out because the rules allow it. In a run, each member logs the gaps of the partitions that it is
    /// assigned.
    pub(crate) fn log_gaps(&self) {
        resume::log_gaps(&self.committed_and_start(StartReason::Gap));
        for (partition, wanted, next) in self.committed_and_start(StartReason::Recreated).iter().take(resume::MAX_LISTED) {
            resume::log_recreated(*partition, *wanted, *next);
        }
    }

    /// Returns the partitions in which a run with a stop leaves records behind an open transaction, with their number of offsets.
    pub(crate) fn held_back(&self) -> impl Iterator<Item = (Partition, i64)> {
        let held = |planned: &PlannedPartition| {
            let stops_there = planned.stop.is_some_and(|stop| stop >= planned.end);
            (stops_there && planned.log_end > planned.end).then_some((planned.partition, planned.log_end - planned.end))
        };
        self.partitions.iter().filter_map(held)
    }

    /// Checks that the topics have not been re-created or truncated since the group committed.
    async fn verify_before(&self, section: &KafkaSection, read_uncommitted: bool) -> Result<(), ConnectorError> {
        let resumed = self.partitions.iter().filter(|planned| planned.reason == StartReason::Committed);
        let before = |planned: &PlannedPartition| {
            let committed = LogBefore::committed(planned.partition, planned.committed.as_ref()?, read_uncommitted);
            Some(committed.since(planned.low))
        };
        lookup::verify_before(section, resumed.filter_map(before).collect(), read_uncommitted).await
    }

    /// Returns `None` for a partition that the run does not read.
    #[must_use]
    pub fn of(&self, partition: Partition) -> Option<&PlannedPartition> {
        self.partitions.iter().find(|planned| planned.partition == partition)
    }

    /// Returns whether a partition resumes where this flow left off, rather than at a position that it adopts.
    #[must_use]
    pub fn resumes_own(&self, planned: &PlannedPartition) -> bool {
        let committed = planned.committed.as_ref().filter(|_| planned.reason == StartReason::Committed);
        let metadata = committed.and_then(|committed| CommitMetadata::parse(&committed.metadata));
        metadata.is_some_and(|metadata| metadata.flow == self.flow)
    }

    /// Returns the number of offsets from the starts to the stops, or to the log ends. Holes count.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let of = |planned: &PlannedPartition| u64::try_from(planned.stop.unwrap_or(planned.end) - planned.start.0).unwrap_or(0);
        self.partitions.iter().map(of).sum()
    }

    /// Commits the starts of a run before it reads: requested ones, those of partitions without a commit, and those of a flow that goes
    /// on in a target topic that was re-created.
    ///
    /// A run that is killed before its first commit is then recognized as this flow's. The members of a group that is running find
    /// the starts that nobody requested for themselves, each for its partitions, and commit them; so does every member with the
    /// starts behind a gap, which are reported by the member that is assigned the partition.
    ///
    /// # Errors
    /// When requested starts would have to be committed while the group has members, which go on committing their own.
    pub async fn begin(&self, admin: &Admin, rules: &ResumeRules) -> Result<(), ConnectorError> {
        let has_other_target = |planned: &PlannedPartition| {
            let committed = planned.committed.as_ref().filter(|_| planned.reason == StartReason::Committed);
            committed.is_some_and(|committed| rules.target_ids.replaced(planned.partition.topic, committed).is_some())
        };
        let offsets = |reasons: &[StartReason]| {
            let is_chosen = |planned: &&PlannedPartition| reasons.contains(&planned.reason) || has_other_target(planned);
            let chosen = self.partitions.iter().filter(is_chosen);
            let metadata = |planned: &PlannedPartition| {
                let metadata = CommitMetadata::new(&rules.flow, None).with_topic_id(planned.topic_id.clone());
                metadata.with_target_id(rules.target_ids.get(planned.partition.topic)).to_json()
            };
            chosen.map(|planned| (planned.partition, planned.start, metadata(planned))).collect::<Vec<_>>()
        };
        let is_requested = self.partitions.iter().any(|planned| planned.reason == StartReason::Requested);
        if is_requested {
            require_empty(admin, &self.group, "its offsets cannot be committed").await?;
        }
        let offsets = offsets(&[StartReason::Requested, StartReason::NoCommit]);
        if offsets.is_empty() {
            return Ok(());
        }
        let written = admin.set_group_offsets(&self.group, offsets).await;
        let has_begun = !is_requested && admin.group_members(&self.group).await?.is_some_and(|members| !members.is_empty());
        if has_begun { Ok(()) } else { written }
    }
}

/// Refuses to continue while the group has members.
///
/// # Errors
/// When it has, with their names.
pub async fn require_empty(admin: &Admin, group: &str, why: &str) -> Result<(), ConnectorError> {
    match admin.group_members(group).await? {
        Some(members) if !members.is_empty() => Err(Refusal {
            reason: RefusalReason::ActiveMembers,
            what: format!("group `{group}` has active members: {why}"),
            numbers: members,
        }
        .into()),
        _ => Ok(()),
    }
}

fn of_topic(topic: &TopicInfo, only: Option<&[i32]>) -> Vec<Partition> {
    (0..topic.partitions)
        .filter(|index| only.is_none_or(|only| only.contains(index)))
        .map(|index| Partition { topic: topic.topic, index })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_another_flow_or_program_is_not_the_flows_own() {
        let planned = |metadata: Option<String>, reason| PlannedPartition {
            partition: Partition::new("plan", 0),
            low: 0,
            end: 9,
            log_end: 9,
            committed: metadata.map(|metadata| CommittedOffset { next: NextOffset(5), metadata, leader_epoch: None }),
            start: NextOffset(5),
            reason,
            topic_id: None,
            stop: None,
        };
        let plan = ReadPlan { group: "g".to_owned(), flow: "replicate b/t".to_owned(), partitions: Vec::new() };
        let by = |flow: &str| Some(CommitMetadata::new(flow, None).to_json());
        assert!(plan.resumes_own(&planned(by("replicate b/t"), StartReason::Committed)));
        for (metadata, reason) in [
            (by("replicate a/t"), StartReason::Committed),
            (by("replicate b/t"), StartReason::Requested),
            (Some(String::new()), StartReason::CommittedElsewhere),
            (None, StartReason::NoCommit),
        ] {
            assert!(!plan.resumes_own(&planned(metadata.clone(), reason)), "{metadata:?}, {reason}");
        }
    }
}
