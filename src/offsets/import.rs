//! Imports: the positions of a file, group by group.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::connectors::kafka::{
    Admin, Bounds, CommittedOffset, CommittedPositions, Group, OffsetSpec, Pos, TopicInfo, flow_in_words,
};
use crate::offsets::change::{OffsetChange, Offsets, committed, flows};
use crate::offsets::file::GroupOffset;
use crate::pipeline::ConnectorError;
use crate::record::{NextOffset, Partition, Topic};

/// What an import changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImportPlan {
    /// By group.
    pub(crate) groups: Vec<GroupChanges>,
    pub(crate) left_out: Vec<LeftOut>,
    /// The groups of flows of this program, all of them left out.
    pub(crate) of_flows: BTreeSet<String>,
}

/// The changes of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupChanges {
    pub(crate) group: String,
    /// By partition, with those that stay.
    pub(crate) changes: Vec<OffsetChange>,
}

/// A group that is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) group: String,
    pub(crate) why: String,
}

/// Decides what to change; changes nothing.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn plan_import(admin: &Admin, offsets: Vec<GroupOffset>) -> Result<ImportPlan, ConnectorError> {
    let mut by_group: BTreeMap<String, Vec<GroupOffset>> = BTreeMap::new();
    for offset in offsets {
        by_group.entry(offset.group.clone()).or_default().push(offset);
    }
    let names: Vec<String> = by_group.keys().cloned().collect();
    let topics: HashMap<Topic, i32> =
        admin.topics().await?.into_iter().map(|TopicInfo { topic, partitions }| (topic, partitions)).collect();
    let requested: BTreeSet<Partition> = by_group.values().flatten().map(|offset| offset.partition).collect();
    let existing: Vec<Partition> = requested.into_iter().filter(|partition| exists(*partition, &topics).is_ok()).collect();
    let (low, end, groups, mut positions) = tokio::try_join!(
        admin.known_offsets(&existing, OffsetSpec::Start),
        admin.known_offsets(&existing, OffsetSpec::Log),
        admin.groups(&names),
        committed(admin, &names, &existing),
    )?;
    let logs = ClusterLogs { topics, low, end };
    let mut plan = ImportPlan::default();
    for ((name, offsets), group) in by_group.into_iter().zip(groups) {
        let before = positions.remove(&name).unwrap_or_else(|| Ok(Vec::new()));
        if before.as_ref().is_ok_and(|before| flow_of(&offsets, before).is_some()) {
            plan.of_flows.insert(name.clone());
        }
        match plan_group(&offsets, &logs, before, &group, admin.is_embedded()) {
            Ok(changes) => plan.groups.push(GroupChanges { group: name, changes }),
            Err(why) => plan.left_out.push(LeftOut { group: name, why }),
        }
    }
    Ok(plan)
}

/// The logs of the cluster.
struct ClusterLogs {
    /// Numbers of partitions.
    topics: HashMap<Topic, i32>,
    low: HashMap<Partition, Result<i64, String>>,
    end: HashMap<Partition, Result<i64, String>>,
}

/// Checks that a partition exists.
fn exists(partition: Partition, topics: &HashMap<Topic, i32>) -> Result<(), String> {
    match topics.get(&partition.topic) {
        None => Err(format!("topic `{}` does not exist", partition.topic)),
        Some(count) if partition.index >= *count => Err(format!("{partition} does not exist")),
        Some(_) => Ok(()),
    }
}

impl ClusterLogs {
    /// Returns the log of a partition, if `offset` is in it.
    fn holding(&self, partition: Partition, offset: i64) -> Result<(i64, i64), String> {
        exists(partition, &self.topics)?;
        let known = |offsets: &HashMap<Partition, Result<i64, String>>| {
            let known = offsets.get(&partition).cloned();
            known.unwrap_or_else(|| Err("its leader does not answer".to_owned())).map_err(|why| format!("{partition}: {why}"))
        };
        let (low, end) = (known(&self.low)?, known(&self.end)?);
        let bounds = Bounds { low, end, ..Bounds::default() };
        Pos::Offset(offset).offset(&bounds).map_err(|why| format!("{partition}: {why}"))?;
        Ok((low, end))
    }
}

/// Returns which flow of this program a group belongs to, by the file or by what it has committed.
fn flow_of(offsets: &[GroupOffset], before: &[(Partition, CommittedOffset)]) -> Option<String> {
    let new: Vec<CommittedOffset> = offsets.iter().map(new_offset).collect();
    if let Some(flow) = flows(&new).first() {
        return Some(format!("its positions in the file are those of the flow `{}`", flow_in_words(flow)));
    }
    let flow = flows(before.iter().map(|(_, before)| before)).pop_first()?;
    Some(format!("it is the group of the flow `{}`", flow_in_words(&flow)))
}

fn new_offset(offset: &GroupOffset) -> CommittedOffset {
    CommittedOffset { next: NextOffset(offset.offset), metadata: offset.metadata.clone(), leader_epoch: None }
}

/// Returns the changes of a group, or why it is left out.
fn plan_group(
    offsets: &[GroupOffset],
    logs: &ClusterLogs,
    before: CommittedPositions,
    group: &Group,
    is_embedded: bool,
) -> Result<Vec<OffsetChange>, String> {
    let before = before.map_err(|why| format!("its offsets cannot be read: {why}"))?;
    if let Some(why) = flow_of(offsets, &before) {
        return Err(why);
    }
    let before: Offsets = before.into_iter().collect();
    let new: Vec<(Partition, CommittedOffset)> = offsets.iter().map(|offset| (offset.partition, new_offset(offset))).collect();
    if let Some(why) = &group.error {
        return Err(format!("it cannot be described: {why}"));
    }
    match group.members.as_deref() {
        // Embedded brokers do not tell; the commit is refused then.
        None if is_embedded => {}
        None => return Err("its members are not known".to_owned()),
        Some([]) => {}
        Some(members) => {
            let names: Vec<String> = members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
            return Err(format!("it has active members: {}", names.join(", ")));
        }
    }
    let (mut changes, mut wrong) = (Vec::with_capacity(new.len()), Vec::new());
    for (partition, after) in new {
        match logs.holding(partition, after.next.0) {
            Ok((low, end)) => {
                changes.push(OffsetChange { partition, low, end, before: before.get(&partition).cloned(), after });
            }
            Err(why) => wrong.push(why),
        }
    }
    changes.sort_by_key(|change| change.partition);
    match wrong.len() {
        0 => Ok(changes),
        1 => Err(wrong.remove(0)),
        more => Err(format!("{}, and {} more of its positions do not fit", wrong[0], more - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::{CommitMetadata, GroupMember};
    use crate::offsets::change::tests::at;

    fn logs() -> ClusterLogs {
        let partition = |index| Partition::new("imported", index);
        ClusterLogs {
            topics: [(Topic::named("imported"), 3)].into(),
            low: [(partition(0), Ok(10)), (partition(1), Ok(0)), (partition(2), Err("no leader".to_owned()))].into(),
            end: [(partition(0), Ok(100)), (partition(1), Ok(50)), (partition(2), Err("no leader".to_owned()))].into(),
        }
    }

    fn offset(topic: &str, index: i32, offset: i64) -> GroupOffset {
        let partition = Partition::new(topic, index);
        GroupOffset { group: "g".to_owned(), partition, offset, end: None, metadata: String::new() }
    }

    fn empty() -> Group {
        Group { name: "g".to_owned(), members: Some(Vec::new()), ..Group::default() }
    }

    fn planned(offsets: &[GroupOffset]) -> Result<Vec<OffsetChange>, String> {
        plan_group(offsets, &logs(), Ok(Vec::new()), &empty(), false)
    }

    #[test]
    fn each_position_becomes_a_change_from_what_is_committed() {
        let before = vec![(Partition::new("imported", 0), at(20)), (Partition::new("other", 0), at(1))];
        let rows = [offset("imported", 1, 50), GroupOffset { metadata: "streams".to_owned(), ..offset("imported", 0, 40) }];
        let changes = plan_group(&rows, &logs(), Ok(before), &empty(), false).unwrap();
        let shown: Vec<_> = changes
            .iter()
            .map(|change| {
                let before = change.before.as_ref().map(|before| before.next.0);
                (change.partition.index, before, change.after.next.0, change.after.metadata.as_str())
            })
            .collect();
        assert_eq!(shown, [(0, Some(20), 40, "streams"), (1, None, 50, "")]);
    }

    #[test]
    fn a_position_that_does_not_fit_leaves_the_group_out() {
        for (rows, why) in [
            (vec![offset("imported", 0, 9)], "imported/0: offset 9 is not between 10 and 100"),
            (vec![offset("imported", 0, 101)], "imported/0: offset 101 is not between 10 and 100"),
            (vec![offset("imported", 3, 0)], "imported/3 does not exist"),
            (vec![offset("imported", 2, 0)], "imported/2: no leader"),
            (vec![offset("gone", 0, 0)], "topic `gone` does not exist"),
            (
                vec![offset("imported", 1, 5), offset("gone", 0, 0), offset("gone", 1, 0)],
                "topic `gone` does not exist, and 1 more of its positions do not fit",
            ),
        ] {
            assert_eq!(planned(&rows), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_group_of_a_flow_is_left_out_on_either_side() {
        let flow = CommitMetadata::new("sink-es elasticsearch/x", None).to_json();
        let rows = [GroupOffset { metadata: flow.clone(), ..offset("imported", 0, 40) }];
        assert_eq!(planned(&rows), Err("its positions in the file are those of the flow `sink-es elasticsearch/x`".to_owned()));
        let before = vec![(Partition::new("other", 0), CommittedOffset { metadata: flow, ..at(1) })];
        let left = plan_group(&[offset("imported", 0, 40)], &logs(), Ok(before), &empty(), false);
        assert_eq!(left, Err("it is the group of the flow `sink-es elasticsearch/x`".to_owned()));
    }

    #[test]
    fn a_group_with_members_or_unknown_ones_is_left_out() {
        let rows = [offset("imported", 0, 40)];
        let member = |id: &str| GroupMember { client_id: id.to_owned(), host: "h".to_owned(), ..GroupMember::default() };
        let of = |group: Group, embedded| plan_group(&rows, &logs(), Ok(Vec::new()), &group, embedded);
        let busy = Group { members: Some(vec![member("a"), member("b")]), ..empty() };
        assert_eq!(of(busy, false), Err("it has active members: a at h, b at h".to_owned()));
        let unknown = || Group { members: None, ..empty() };
        assert_eq!(of(unknown(), false), Err("its members are not known".to_owned()));
        assert_eq!(of(unknown(), true).map(|changes| changes.len()), Ok(1), "embedded brokers have no members to show");
        let denied = Group { error: Some("denied".to_owned()), ..unknown() };
        assert_eq!(of(denied, false), Err("it cannot be described: denied".to_owned()));
        let unreadable = plan_group(&rows, &logs(), Err("why".to_owned()), &empty(), false);
        assert_eq!(unreadable, Err("its offsets cannot be read: why".to_owned()));
    }
}
