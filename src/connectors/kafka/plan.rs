//! What a run will read: decided, checked and shown before anything is joined or changed.

use std::collections::HashMap;

use crate::connectors::kafka::commit_metadata::{CommitMetadata, commit_extension};
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::position::{Bounds, Pos};
use crate::connectors::kafka::resume::{self, ResumeRules, StartReason};
use crate::connectors::kafka::{Admin, CommittedOffset, OffsetSpec, TopicInfo};
use crate::pipeline::{ConnectorError, Refused};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition};

/// What is to be read, as it was asked for.
#[derive(Clone, Debug)]
pub struct ReadPlanRequest<'a> {
    /// The group.
    pub group: &'a str,
    /// The topics.
    pub topics: &'a [TopicInfo],
    /// Only these partitions of each topic, without joining the group.
    pub partitions: Option<&'a [i32]>,
    /// Where to start; anything but [`Pos::Committed`] is committed before the run.
    pub start: Pos,
    /// Where to stop; a run without one follows.
    pub stop: Option<Pos>,
    /// Whether records of open and aborted transactions are read.
    pub read_uncommitted: bool,
    /// Whether a start beyond the committed position may skip records.
    pub may_skip: bool,
    /// What holds when the group resumes.
    pub rules: &'a ResumeRules,
    /// The time, in milliseconds since the Unix epoch.
    pub now: i64,
}

/// What a run will read.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// The group.
    pub group: String,
    /// Each partition, in order.
    pub partitions: Vec<PlannedPartition>,
}

/// What a run will read of one partition.
#[derive(Clone, Debug)]
pub struct PlannedPartition {
    /// The partition.
    pub partition: Partition,
    /// The first offset that is still there.
    pub low: i64,
    /// The end that a reader can reach now.
    pub end: i64,
    /// Where the group left off, with the commit's metadata.
    pub committed: Option<CommittedOffset>,
    /// Where reading starts.
    pub start: NextOffset,
    /// Why there.
    pub why: StartReason,
    /// Where reading stops, exclusive.
    pub stop: Option<i64>,
}

impl ReadPlan {
    /// Looks at the cluster and decides; changes nothing.
    ///
    /// # Errors
    /// When the cluster does not answer, or when reading on would not be safe.
    pub async fn make(admin: &Admin, section: &KafkaSection, request: &ReadPlanRequest<'_>) -> Result<Self, ConnectorError> {
        let partitions: Vec<Partition> = request.topics.iter().flat_map(|topic| of_topic(topic, request.partitions)).collect();
        let reachable = if request.read_uncommitted { OffsetSpec::Log } else { OffsetSpec::Stable };
        let low = admin.ends(&partitions, OffsetSpec::Start).await?;
        let end = admin.ends(&partitions, reachable).await?;
        let log_end = if request.read_uncommitted { end.clone() } else { admin.ends(&partitions, OffsetSpec::Log).await? };
        let mut at_time = HashMap::new();
        for pos in [Some(request.start), request.stop].into_iter().flatten() {
            if let Some(time) = pos.time(request.now) {
                at_time.insert(time, admin.ends(&partitions, OffsetSpec::Time(time)).await?);
            }
        }
        let committed = admin.group_offsets(request.group).await?;
        let mut planned = Vec::with_capacity(partitions.len());
        let mut skipping = Vec::new();
        for partition in partitions {
            let at = |ends: &HashMap<Partition, i64>| ends.get(&partition).copied().unwrap_or(0);
            let committed = committed.get(&partition);
            let bounds = |pos: Pos| Bounds {
                low: at(&low),
                end: at(&end),
                committed: committed.map(|committed| committed.next.0),
                at_time: pos.time(request.now).and_then(|time| at_time.get(&time)?.get(&partition).copied()),
            };
            let offset = |pos: Pos, flag: &str| {
                pos.offset(&bounds(pos)).map_err(|why| Refused {
                    what: format!("{flag} does not fit {partition}"),
                    numbers: vec![why],
                    hint: "name an offset that each partition has, or choose partitions with --partitions".to_owned(),
                })
            };
            let (start, why) = if request.start == Pos::Committed {
                let start = resume::resume(partition, committed, at(&low), at(&log_end), request.rules)?;
                (start.next, start.why)
            } else {
                // The group's offsets are about to be set, so at least they must be this flow's.
                resume::resume(
                    partition,
                    committed,
                    i64::MIN,
                    i64::MAX,
                    &ResumeRules { on_gap: resume::OnGap::Earliest, ..request.rules.clone() },
                )?;
                (NextOffset(offset(request.start, "--start")?), StartReason::Asked)
            };
            if let Some(committed) = committed.filter(|committed| why == StartReason::Asked && start > committed.next) {
                skipping.push(format!(
                    "{partition}: committed {}, start {}: {} skipped",
                    committed.next.0,
                    start.0,
                    start.0 - committed.next.0
                ));
            }
            planned.push(PlannedPartition {
                partition,
                low: at(&low),
                end: at(&end),
                committed: committed.cloned(),
                start,
                why,
                stop: request.stop.map(|stop| offset(stop, "--stop")).transpose()?,
            });
        }
        if !skipping.is_empty() && !request.may_skip {
            return Err(Refused {
                what: "the start lies beyond what the group has read: records would be skipped".to_owned(),
                numbers: skipping,
                hint: "say --yes when they are to be skipped, or use another group with --group NAME".to_owned(),
            }
            .into());
        }
        let plan = Self { group: request.group.to_owned(), partitions: planned };
        plan.verify_fingerprints(section, request.read_uncommitted).await?;
        Ok(plan)
    }

    /// Checks that the topics are the ones that the group has read.
    async fn verify_fingerprints(&self, section: &KafkaSection, read_uncommitted: bool) -> Result<(), ConnectorError> {
        let resumed = self.partitions.iter().filter(|planned| planned.why == StartReason::Committed);
        let noted: Vec<_> = resumed
            .filter_map(|planned| {
                Some((planned.partition, CommitMetadata::parse(&planned.committed.as_ref()?.metadata)?.last()?))
            })
            .filter(|(partition, last)| self.of(*partition).is_some_and(|planned| last.offset >= planned.low))
            .collect();
        lookup::verify_fingerprint(section, noted, read_uncommitted).await
    }

    /// Returns what is planned for a partition.
    #[must_use]
    pub fn of(&self, partition: Partition) -> Option<&PlannedPartition> {
        self.partitions.iter().find(|planned| planned.partition == partition)
    }

    /// Returns how many offsets lie between start and stop, or start and the present end. Holes count.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let of = |planned: &PlannedPartition| u64::try_from(planned.stop.unwrap_or(planned.end) - planned.start.0).unwrap_or(0);
        self.partitions.iter().map(of).sum()
    }

    /// Writes down where the run begins, before it does: positions that were asked for, and those of partitions without a commit.
    ///
    /// A run that is killed before its first commit is then known as this flow's when it is started again.
    ///
    /// # Errors
    /// When positions are to be set while the group has members, which would go on committing their own.
    pub async fn begin(&self, admin: &Admin, flow: &str) -> Result<(), ConnectorError> {
        let set = |why: &[StartReason]| {
            let chosen = self.partitions.iter().filter(|planned| why.contains(&planned.why));
            let note = |planned: &PlannedPartition| {
                // Behind a gap the flow goes on with what it noted; what it reads again, it notes anew.
                let committed = planned.committed.as_ref().filter(|committed| planned.start > committed.next);
                let memo = committed
                    .filter(|_| planned.why == StartReason::Gap)
                    .and_then(|committed| commit_extension(&committed.metadata));
                memo.into_iter().fold(CommitMetadata::new(flow, None), CommitMetadata::with_extension).text()
            };
            chosen.map(|planned| (planned.partition, planned.start, note(planned))).collect::<Vec<_>>()
        };
        let asked = set(&[StartReason::Asked, StartReason::Gap]);
        if !asked.is_empty() {
            require_empty(admin, &self.group, "its positions cannot be set").await?;
        }
        let offsets = set(&[StartReason::Asked, StartReason::Gap, StartReason::NoCommit]);
        if offsets.is_empty() {
            return Ok(());
        }
        let written = admin.set_group_offsets(&self.group, offsets).await;
        // A group with members has begun already, and goes on to commit for itself.
        let has_begun = asked.is_empty() && admin.group_members(&self.group).await?.is_some_and(|members| !members.is_empty());
        if has_begun { Ok(()) } else { written }
    }
}

/// Refuses to go on while the group has members.
///
/// # Errors
/// When it has, with who they are.
pub async fn require_empty(admin: &Admin, group: &str, why: &str) -> Result<(), ConnectorError> {
    match admin.group_members(group).await? {
        Some(members) if !members.is_empty() => Err(Refused {
            what: format!("group `{group}` has active members: {why}"),
            numbers: members,
            hint: "stop them first, or use another group with --group NAME".to_owned(),
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
