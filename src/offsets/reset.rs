//! Resets: a group's offsets in whole topics, moved to a position.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::connectors::kafka::{
    Admin, Bounds, CommitMetadata, CommittedOffset, OffsetSpec, Pos, TopicInfo, commit_extension, flow_in_words, list_partitions,
};
use crate::offsets::change::{OffsetChange, Offsets, committed, flows};
use crate::pipeline::{ConnectorError, Failure, Refusal, RefusalReason};
use crate::record::{NextOffset, Partition, Topic};

/// Where a group is moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResetTarget {
    Position(Pos),
    /// This many offsets from the committed one, within the log.
    Shift(i64),
    /// The committed offsets of this group.
    Group(String),
}

/// What the user asks to move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResetRequest<'a> {
    pub(crate) group: &'a str,
    /// Empty: the topics that the group, or the target's group, has committed in.
    pub(crate) topics: &'a [TopicInfo],
    /// Every topic of the cluster.
    pub(crate) all_topics: &'a [TopicInfo],
    /// Only these partitions of each topic.
    pub(crate) partitions: Option<&'a [i32]>,
    pub(crate) target: &'a ResetTarget,
    /// In milliseconds since the Unix epoch.
    pub(crate) now: i64,
}

/// What a reset changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResetPlan {
    /// By partition, with those that stay.
    pub(crate) changes: Vec<OffsetChange>,
    /// The flows of this program that committed the group's offsets.
    pub(crate) flows: BTreeSet<String>,
    /// Whether the group has no committed offset at all.
    pub(crate) is_new: bool,
    /// Topics of the group that do not exist any more.
    pub(crate) gone: Vec<Topic>,
}

/// Decides what to change; changes nothing.
///
/// # Errors
/// When the cluster does not answer, the position does not fit a partition, or a flow's restart state would be lost.
pub(crate) async fn plan_reset(admin: &Admin, request: &ResetRequest<'_>) -> Result<ResetPlan, ConnectorError> {
    let every: Vec<Partition> = request.all_topics.iter().flat_map(|topic| partitions_of(topic, None)).collect();
    let other = match request.target {
        ResetTarget::Group(name) => Some(name.clone()),
        _ => None,
    };
    let names: Vec<String> = std::iter::once(request.group.to_owned()).chain(other.clone()).collect();
    let positions = committed(admin, &names, &every).await?;
    let offsets = |group: &str| -> Result<Offsets, ConnectorError> {
        match positions.get(group).cloned().unwrap_or_else(|| Ok(Vec::new())) {
            Ok(committed) => Ok(committed.into_iter().collect()),
            Err(why) => Err(Failure::new(format!("cannot read the offsets of group `{group}` on `{}`", admin.section()))
                .because(why)
                .into()),
        }
    };
    let before = offsets(request.group)?;
    let other = other.map(|name| offsets(&name)).transpose()?;
    refuse_restart_state(request.group, &before)?;
    let flows = flows(before.values());
    let (partitions, gone) = chosen(request, &before, other.as_ref());
    let low = admin.ends(&partitions, OffsetSpec::Start).await?;
    // In this order, only an open transaction leaves the log end beyond the readable end.
    let log_end = admin.ends(&partitions, OffsetSpec::Log).await?;
    let end = admin.ends(&partitions, OffsetSpec::Stable).await?;
    let time = match request.target {
        ResetTarget::Position(pos) => pos.time(request.now),
        _ => None,
    };
    let at_time = match time {
        Some(time) => admin.ends(&partitions, OffsetSpec::Time(time)).await?,
        None => HashMap::new(),
    };
    let topics: BTreeSet<Topic> = partitions.iter().map(|partition| partition.topic).filter(|_| !flows.is_empty()).collect();
    let topic_ids = admin.topic_ids(&topics.into_iter().collect::<Vec<_>>()).await?;
    let (mut changes, mut unfit) = (Vec::with_capacity(partitions.len()), Vec::new());
    for partition in partitions {
        let (low, end, log_end) = (low[&partition], end[&partition], log_end[&partition].max(end[&partition]));
        let committed = before.get(&partition);
        let bounds = Bounds {
            low,
            end,
            committed: committed.map(|committed| committed.next.0),
            at_time: at_time.get(&partition).copied(),
        };
        let other = other.as_ref().and_then(|other| Some(other.get(&partition)?.next.0));
        let next = match resolve(request.target, &bounds, log_end, other) {
            Ok(Some(next)) => next,
            Ok(None) => continue,
            Err(why) => {
                unfit.push(format!("{partition}: {why}"));
                continue;
            }
        };
        let after = committed.filter(|committed| committed.next.0 == next).cloned().unwrap_or_else(|| {
            let metadata = moved_metadata(committed, &flows, topic_ids.get(&partition.topic).cloned());
            CommittedOffset { next: NextOffset(next), metadata, leader_epoch: None }
        });
        changes.push(OffsetChange { partition, low, end: log_end, before: committed.cloned(), after });
    }
    if !unfit.is_empty() {
        let what = "the position does not fit every partition".to_owned();
        return Err(Refusal { reason: RefusalReason::OffsetOutOfRange, what, numbers: list_partitions(unfit) }.into());
    }
    Ok(ResetPlan { changes, flows, is_new: before.is_empty(), gone })
}

/// Refuses to move a group whose metadata holds the state of windows: it is valid for the committed offsets only.
fn refuse_restart_state(group: &str, before: &Offsets) -> Result<(), Refusal> {
    let holds_state = |committed: &&CommittedOffset| commit_extension(&committed.metadata).is_some();
    let Some(held) = before.values().find(holds_state) else { return Ok(()) };
    Err(Refusal {
        reason: RefusalReason::RestartState,
        what: format!("the offsets of group `{group}` belong to open windows and totals"),
        numbers: flows([held]).into_iter().map(|flow| format!("committed by: {}", flow_in_words(&flow))).collect(),
    })
}

/// Returns the partitions to move, and the topics that do not exist any more.
fn chosen(request: &ResetRequest<'_>, before: &Offsets, other: Option<&Offsets>) -> (Vec<Partition>, Vec<Topic>) {
    let committed = other.unwrap_or(before);
    let named: BTreeSet<Topic> = request.topics.iter().map(|topic| topic.topic).collect();
    let wanted: BTreeSet<Topic> =
        if named.is_empty() { committed.keys().map(|partition| partition.topic).collect() } else { named };
    let known: BTreeMap<Topic, &TopicInfo> =
        request.all_topics.iter().chain(request.topics).map(|topic| (topic.topic, topic)).collect();
    // A position stands in every partition; the others need a committed offset.
    let applies = |partition: &Partition| match request.target {
        ResetTarget::Position(_) => true,
        ResetTarget::Shift(_) | ResetTarget::Group(_) => committed.contains_key(partition),
    };
    let partitions =
        wanted.iter().filter_map(|topic| known.get(topic)).flat_map(|topic| partitions_of(topic, request.partitions));
    let partitions = partitions.filter(applies).collect();
    (partitions, wanted.into_iter().filter(|topic| !known.contains_key(topic)).collect())
}

fn partitions_of<'a>(topic: &TopicInfo, only: Option<&'a [i32]>) -> impl Iterator<Item = Partition> + use<'a> {
    let name = topic.topic;
    let is_chosen = move |index: &i32| only.is_none_or(|only| only.contains(index));
    (0..topic.partitions).filter(is_chosen).map(move |index| Partition { topic: name, index })
}

/// Returns the offset to commit in a partition; `None` to leave it as it is.
fn resolve(target: &ResetTarget, bounds: &Bounds, log_end: i64, other: Option<i64>) -> Result<Option<i64>, String> {
    match target {
        ResetTarget::Position(pos) => pos.offset(bounds).map(Some),
        ResetTarget::Shift(by) => {
            let shifted = |committed: i64| committed.saturating_add(*by).clamp(bounds.low, log_end.max(bounds.low));
            Ok(bounds.committed.map(shifted))
        }
        ResetTarget::Group(_) => {
            let bounds = Bounds { end: log_end, ..*bounds };
            other.map(|other| Pos::Offset(other).offset(&bounds)).transpose()
        }
    }
}

/// Returns the metadata of a moved offset: that of a flow of this program stays the flow's, without the fingerprint of the record that
/// was before it. Every other program starts without metadata, as after a reset by Kafka's own tool.
fn moved_metadata(before: Option<&CommittedOffset>, flows: &BTreeSet<String>, topic_id: Option<String>) -> String {
    let parsed = before.and_then(|before| CommitMetadata::parse(&before.metadata));
    let only = || flows.first().filter(|_| before.is_none() && flows.len() == 1);
    let Some(flow) = parsed.as_ref().map(|parsed| &parsed.flow).or_else(only) else { return String::new() };
    let target_id = parsed.as_ref().and_then(CommitMetadata::target_id).map(str::to_owned);
    CommitMetadata::new(flow, None).with_topic_id(topic_id).with_target_id(target_id).to_json()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::change::tests::at;
    use crate::record::Fingerprint;

    fn topic(name: &str, partitions: i32) -> TopicInfo {
        TopicInfo { topic: Topic::named(name), partitions }
    }

    fn offsets(offsets: &[(&str, i32, i64)]) -> Offsets {
        offsets.iter().map(|(topic, index, next)| (Partition::new(topic, *index), at(*next))).collect()
    }

    fn names(partitions: &[Partition]) -> Vec<String> {
        partitions.iter().map(Partition::to_string).collect()
    }

    #[test]
    fn a_position_moves_every_partition_and_a_shift_only_those_with_a_commit() {
        let all = [topic("r-a", 2), topic("r-b", 1)];
        let before = offsets(&[("r-a", 0, 5), ("r-gone", 0, 5)]);
        let request =
            |topics, partitions, target| ResetRequest { group: "g", topics, all_topics: &all, partitions, target, now: 0 };
        let (end, shift) = (ResetTarget::Position(Pos::End), ResetTarget::Shift(-1));
        let (partitions, gone) = chosen(&request(&[], None, &end), &before, None);
        assert_eq!((names(&partitions), gone), (vec!["r-a/0".to_owned(), "r-a/1".to_owned()], vec![Topic::named("r-gone")]));
        assert_eq!(names(&chosen(&request(&[], None, &shift), &before, None).0), ["r-a/0"]);
        assert_eq!(names(&chosen(&request(&all[1..], None, &end), &before, None).0), ["r-b/0"]);
        assert_eq!(names(&chosen(&request(&all[1..], None, &shift), &before, None).0), [] as [&str; 0]);
        assert_eq!(names(&chosen(&request(&[], Some(&[1]), &end), &before, None).0), ["r-a/1"]);
        let to = ResetTarget::Group("other".to_owned());
        let other = offsets(&[("r-a", 1, 7), ("r-b", 0, 7)]);
        assert_eq!(names(&chosen(&request(&[], None, &to), &before, Some(&other)).0), ["r-a/1", "r-b/0"]);
        assert_eq!(names(&chosen(&request(&all[..1], None, &to), &before, Some(&other)).0), ["r-a/1"]);
    }

    #[test]
    fn a_target_is_an_offset_of_the_log() {
        let bounds = Bounds { low: 10, end: 90, committed: Some(50), at_time: Some(70) };
        let at = |target: ResetTarget, other| resolve(&target, &bounds, 100, other);
        assert_eq!(at(ResetTarget::Position(Pos::End), None), Ok(Some(90)), "before the open transaction");
        assert_eq!(at(ResetTarget::Position(Pos::Ago(1)), None), Ok(Some(70)));
        assert_eq!(at(ResetTarget::Position(Pos::Offset(5)), None), Err("offset 5 is not between 10 and 90".to_owned()));
        assert_eq!(at(ResetTarget::Shift(-15), None), Ok(Some(35)));
        assert_eq!(at(ResetTarget::Shift(-100), None), Ok(Some(10)), "not before the log start");
        assert_eq!(at(ResetTarget::Shift(i64::MAX), None), Ok(Some(100)), "not beyond the log end");
        let to = || ResetTarget::Group("other".to_owned());
        assert_eq!(at(to(), Some(95)), Ok(Some(95)), "a group may be behind an open transaction");
        assert_eq!(at(to(), None), Ok(None));
        assert_eq!(at(to(), Some(101)), Err("offset 101 is not between 10 and 100".to_owned()));
        let none = Bounds { committed: None, ..bounds };
        assert_eq!(resolve(&ResetTarget::Shift(1), &none, 100, None), Ok(None), "there is nothing to shift");
    }

    #[test]
    fn a_flow_keeps_its_group_without_the_fingerprint() {
        let last = Fingerprint { offset: 41, timestamp: Some(1), crc: 7 };
        let metadata = CommitMetadata::new("replicate a/t", Some(last)).with_target_id(Some("target".to_owned())).to_json();
        let before = CommittedOffset { metadata, ..at(42) };
        let flows = BTreeSet::from(["replicate a/t".to_owned()]);
        let moved = |before| CommitMetadata::parse(&moved_metadata(before, &flows, Some("id".to_owned()))).unwrap();
        let kept = moved(Some(&before));
        assert_eq!((kept.flow.as_str(), kept.topic_id(), kept.target_id()), ("replicate a/t", Some("id"), Some("target")));
        assert_eq!(kept.fingerprint(), None);
        assert_eq!(moved(None).flow, "replicate a/t", "a partition without a commit");
        assert_eq!(moved_metadata(Some(&at(42)), &flows, None), "", "a commit of another program");
        assert_eq!(moved_metadata(None, &BTreeSet::new(), None), "");
        let two = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(moved_metadata(None, &two, None), "", "it is not known which of the two reads it");
    }

    #[test]
    fn the_state_of_windows_is_not_moved() {
        let metadata = CommitMetadata::new("aggregate local_kafka/x", None).with_extension("{\"read\":7}".to_owned()).to_json();
        let mut before = offsets(&[("r-a", 0, 5)]);
        assert_eq!(refuse_restart_state("g", &before), Ok(()));
        before.insert(Partition::new("r-a", 1), CommittedOffset { metadata, ..at(5) });
        let refusal = refuse_restart_state("g", &before).unwrap_err();
        assert_eq!(refusal.numbers, ["committed by: aggregate local_kafka/x"]);
    }

    proptest! {
        #[test]
        fn a_shifted_offset_stays_within_the_log(by in any::<i64>(), low in 0..100_i64, size in 0..100_i64, committed in any::<i64>()) {
            let bounds = Bounds { low, end: low + size, committed: Some(committed), at_time: None };
            let next = resolve(&ResetTarget::Shift(by), &bounds, low + size, None).unwrap().unwrap();
            prop_assert!((low..=low + size).contains(&next));
        }
    }
}
