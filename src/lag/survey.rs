//! Surveys: the groups of a cluster and their lag, with as few requests as possible.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::connectors::kafka::{
    Admin, CommittedOffset, CommittedPositions, Group, Leaders, NextRecord, OffsetSpec, TopicSettings, is_denied,
};
use crate::lag::LagFilter;
use crate::lag::partition_lag::{AssignedMember, LogOffsets, PartitionLag};
use crate::pipeline::{ConnectorError, Failure, FailureKind};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Deadline of the first connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Deadline for a cluster that did not answer the previous survey: it must not delay the others.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The lag of one cluster's groups at one time.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) section: String,
    /// Whether ACLs may hide groups and topics: the user has logged in.
    pub(crate) has_login: bool,
    /// Whether the brokers are embedded: they do not list their groups.
    pub(crate) is_embedded: bool,
    /// Whether the user may not see the retention of a topic.
    pub(crate) settings_denied: bool,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    /// The selected groups, by name.
    pub(crate) groups: Vec<GroupLag>,
    /// Every group of the cluster; embedded brokers do not list groups: there, the named groups that have committed.
    pub(crate) all_groups: Vec<String>,
    pub(crate) all_topics: Vec<Topic>,
}

/// A group and its lag by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct GroupLag {
    pub(crate) group: Group,
    pub(crate) partitions: Vec<PartitionLag>,
    /// Why the group's offsets or members cannot be read.
    pub(crate) unreadable: Option<String>,
}

impl GroupLag {
    /// Returns the sum over all partitions whose lag is known; `None` if there is none.
    pub(crate) fn lag(&self) -> Option<i64> {
        self.partitions.iter().filter_map(PartitionLag::lag).reduce(i64::saturating_add)
    }
}

/// Surveys of all clusters at one time.
pub(crate) struct LagReport {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    pub(crate) surveys: Vec<Survey>,
    /// Sections whose survey failed.
    pub(crate) failures: Vec<(String, ConnectorError)>,
}

/// Surveys all clusters concurrently.
pub(crate) async fn survey_all(clusters: &mut [SurveyedCluster], filter: &LagFilter) -> LagReport {
    let surveys = clusters.iter_mut().map(async |cluster| (cluster.section.name.clone(), cluster.survey(filter).await));
    let surveys = join_all(surveys).await;
    let mut report = LagReport { at: jiff::Timestamp::now().as_millisecond(), surveys: Vec::new(), failures: Vec::new() };
    for (section, survey) in surveys {
        match survey {
            Ok(survey) => report.surveys.push(survey),
            Err(error) => report.failures.push((section, error)),
        }
    }
    report
}

/// A cluster that is surveyed repeatedly: keeps the connection and the records that later surveys would read again.
pub(crate) struct SurveyedCluster {
    section: KafkaSection,
    admin: Option<Admin>,
    /// Whether the last connection failed.
    down: bool,
    /// Records at the last known positions: partition, position and whether uncommitted records count.
    next_records: HashMap<(Partition, i64, bool), NextRecord>,
    /// Log ends that the leaders named last.
    ends: HashMap<Partition, i64>,
}

impl SurveyedCluster {
    pub(crate) fn new(section: KafkaSection) -> Self {
        Self { section, admin: None, down: false, next_records: HashMap::new(), ends: HashMap::new() }
    }

    /// Surveys the groups that `filter` selects. After an error the next survey connects again.
    pub(crate) async fn survey(&mut self, filter: &LagFilter) -> Result<Survey, ConnectorError> {
        let admin = if let Some(admin) = self.admin.take().filter(|admin| !admin.is_overdue()) {
            admin
        } else {
            let connected = Admin::connect(&self.section, if self.down { RECONNECT_TIMEOUT } else { CONNECT_TIMEOUT }).await;
            self.down = connected.is_err();
            connected?
        };
        let survey = self.collect(&admin, filter).await?;
        self.admin = Some(admin);
        Ok(survey)
    }

    async fn collect(&mut self, admin: &Admin, filter: &LagFilter) -> Result<Survey, ConnectorError> {
        let (leaders, listed) = tokio::try_join!(admin.leaders(), admin.group_names())?;
        let names = match &listed {
            // A broker that was just started lists groups late: the coordinator of a named one decides whether it exists.
            Some(all) => [filter.select_groups(all), filter.unlisted(all)].concat(),
            None if filter.groups.is_empty() => {
                let failure = Failure::new(format!("cannot list the groups of `{}`", self.section.name));
                let failure = failure.because("embedded brokers do not list their groups");
                return Err(failure.kind(FailureKind::GroupsNotListed).into());
            }
            None => filter.groups.clone(),
        };
        // Embedded brokers answer only for named partitions.
        let requested: Option<Vec<Partition>> = listed.is_none().then(|| every_partition(&leaders));
        let (groups, mut positions) = tokio::try_join!(admin.groups(&names), admin.positions(&names, requested.as_deref()))?;
        let has_committed = |name: &&String| {
            positions.get(*name).is_some_and(|committed| committed.as_ref().map_or(true, |committed| !committed.is_empty()))
        };
        let is_embedded = listed.is_none();
        let mut all_groups = listed.unwrap_or_else(|| names.iter().filter(has_committed).cloned().collect());
        let known = groups.iter().filter(|group| group.is_known() && !all_groups.contains(&group.name));
        let known: Vec<String> = known.map(|group| group.name.clone()).collect();
        all_groups.extend(known);
        let existing: BTreeSet<&String> = all_groups.iter().collect();
        let is_there = |group: &Group| group.is_loading || existing.contains(&group.name);
        let groups = groups.into_iter().filter(is_there).map(|group| {
            let committed = positions.remove(&group.name).unwrap_or_else(|| Ok(Vec::new()));
            group_lag(group, committed, &leaders, filter)
        });
        // A filter on topics or partitions leaves out groups without a position there.
        let has_position = |group: &GroupLag| !group.partitions.is_empty() || group.unreadable.is_some();
        let mut groups: Vec<_> = groups.filter(|group| !filter.restricts_partitions() || has_position(group)).collect();
        let settings_denied = self.measure(admin, &mut groups, filter.read_times).await?;
        let all_topics = leaders.into_keys().collect();
        let at = jiff::Timestamp::now().as_millisecond();
        let (section, has_login) = (self.section.name.clone(), self.section.has_login());
        Ok(Survey { section, has_login, is_embedded, settings_denied, at, groups, all_groups, all_topics })
    }

    /// Fills in log offsets, retention and the next records. Returns whether the cluster denies the settings of a topic.
    async fn measure(&mut self, admin: &Admin, groups: &mut [GroupLag], time: bool) -> Result<bool, ConnectorError> {
        let partitions = |groups: &[GroupLag], wanted: fn(&PartitionLag) -> bool| -> Vec<Partition> {
            let all = groups.iter().flat_map(|group| &group.partitions).filter(|partition| wanted(partition));
            all.map(|partition| partition.partition).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let led = partitions(groups, |partition| partition.end().is_some());
        let ends = admin.known_offsets(&led, OffsetSpec::Log).await?;
        // A log that became shorter was re-created or truncated: its offsets name other records now.
        let shorter = |partition: &Partition| match (ends.get(partition), self.ends.get(partition)) {
            (Some(Ok(now)), Some(then)) => now < then,
            _ => false,
        };
        self.next_records.retain(|(partition, ..), _| !shorter(partition));
        for partition in groups.iter_mut().flat_map(|group| &mut group.partitions).filter(|partition| partition.end().is_some()) {
            partition.log = match ends.get(&partition.partition) {
                Some(Ok(end)) => LogOffsets::Ends { end: *end, low: None, stable: None },
                Some(Err(why)) => LogOffsets::NoLeader(why.clone()),
                None => LogOffsets::NoLeader("the leader of the partition does not answer".to_owned()),
            };
        }
        let silent = without_leader(groups);
        self.ends.retain(|partition, _| silent.contains(partition));
        self.ends.extend(ends.into_iter().filter_map(|(partition, end)| Some((partition, end.ok()?))));
        let behind = partitions(groups, PartitionLag::is_behind);
        let topics: BTreeSet<Topic> = behind.iter().map(|partition| partition.topic).filter(|_| time).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        let (low, stable, settings) = tokio::try_join!(
            admin.known_offsets(&behind, OffsetSpec::Start),
            admin.known_offsets(&behind, OffsetSpec::Stable),
            admin.settings_of(&topics),
        )?;
        let retention: HashMap<Topic, i64> =
            settings.iter().filter_map(|(topic, settings)| Some((*topic, retention(settings)?))).collect();
        for partition in groups.iter_mut().flat_map(|group| &mut group.partitions) {
            if let LogOffsets::Ends { end, .. } = partition.log {
                let of =
                    |known: &HashMap<Partition, Result<i64, String>>| known.get(&partition.partition)?.as_ref().ok().copied();
                partition.log = LogOffsets::Ends { end, low: of(&low), stable: of(&stable) };
                partition.retention = retention.get(&partition.partition.topic).copied();
            }
        }
        if time {
            self.read_times(admin, groups).await?;
        }
        Ok(settings.values().any(is_denied))
    }

    /// Reads the record at each position: a committed one first; behind an open transaction, the first uncommitted one.
    async fn read_times(&mut self, admin: &Admin, groups: &mut [GroupLag]) -> Result<(), ConnectorError> {
        let mut known = HashMap::new();
        for read_uncommitted in [false, true] {
            let position = |partition: &PartitionLag| {
                let (position, held) = (partition.position()?, partition.held_at());
                let beyond = held.is_some_and(|held| position >= held);
                let nothing_before = partition.next == Some(NextRecord::None);
                match read_uncommitted {
                    false => (!beyond).then_some(position),
                    true if beyond => Some(position),
                    true => held.filter(|_| nothing_before),
                }
            };
            let all = || groups.iter().flat_map(|group| &group.partitions);
            let wanted = all().filter_map(|partition| Some((partition.partition, position(partition)?)));
            let wanted: BTreeSet<(Partition, i64)> = wanted.collect();
            let before = |(partition, at): &(Partition, i64)| self.next_records.get(&(*partition, *at, read_uncommitted));
            let mut found: HashMap<_, _> =
                wanted.iter().filter_map(|position| Some((*position, before(position)?.clone()))).collect();
            let unread = wanted.into_iter().filter(|position| !found.contains_key(position)).collect();
            found.extend(admin.next_records(unread, read_uncommitted).await?);
            for partition in groups.iter_mut().flat_map(|group| &mut group.partitions) {
                let Some(at) = position(partition) else { continue };
                let Some(next) = found.get(&(partition.partition, at)) else { continue };
                partition.next = Some(next.clone());
            }
            // A record does not change; its absence or a missing answer may.
            let lasting = found.into_iter().filter(|(_, next)| matches!(next, NextRecord::At(_)));
            known.extend(lasting.map(|((partition, at), next)| ((partition, at, read_uncommitted), next)));
        }
        let silent = without_leader(groups);
        self.next_records.retain(|(partition, ..), _| silent.contains(partition));
        self.next_records.extend(known);
        Ok(())
    }
}

/// Returns the partitions whose leader has not answered: what is known of their logs stays so.
fn without_leader(groups: &[GroupLag]) -> HashSet<Partition> {
    let all = groups.iter().flat_map(|group| &group.partitions);
    all.filter(|partition| matches!(partition.log, LogOffsets::NoLeader(_))).map(|partition| partition.partition).collect()
}

fn every_partition(leaders: &Leaders) -> Vec<Partition> {
    let partitions =
        leaders.iter().flat_map(|(topic, leaders)| (0..).zip(leaders).map(|(index, _)| Partition { topic: *topic, index }));
    partitions.collect()
}

/// Returns the group's committed offsets and assignments, without log offsets yet.
fn group_lag(group: Group, committed: CommittedPositions, leaders: &Leaders, filter: &LagFilter) -> GroupLag {
    let mut unreadable = group.error.clone().map(|why| format!("cannot be described: {why}"));
    let committed: BTreeMap<Partition, CommittedOffset> = match committed {
        Ok(committed) => committed.into_iter().collect(),
        Err(why) => {
            unreadable = Some(format!("its offsets cannot be read: {why}"));
            BTreeMap::new()
        }
    };
    let members = group.members.as_deref().unwrap_or_default();
    let mut assigned: BTreeMap<Partition, Arc<AssignedMember>> = BTreeMap::new();
    for member in members {
        let reader = Arc::new(AssignedMember { client_id: member.client_id.clone(), host: member.host.clone() });
        assigned.extend(member.partitions.iter().map(|partition| (*partition, Arc::clone(&reader))));
    }
    // During a rebalance no partition has a member; that is not a flag.
    let settled = group.state.as_deref() == Some("Stable") && !members.is_empty();
    let partitions: BTreeSet<Partition> = committed.keys().chain(assigned.keys()).copied().collect();
    let lag = |partition: Partition| {
        let member = assigned.get(&partition).map(|member| (**member).clone());
        let log = match leaders.get(&partition.topic) {
            None => LogOffsets::NoTopic,
            Some(leaders) => match usize::try_from(partition.index).ok().and_then(|index| leaders.get(index)) {
                None => LogOffsets::NoPartition,
                Some(false) => LogOffsets::NoLeader("the partition has no leader".to_owned()),
                Some(true) => LogOffsets::Ends { end: 0, low: None, stable: None },
            },
        };
        let unassigned = settled && member.is_none();
        let (committed, metadata) = match committed.get(&partition) {
            Some(committed) => (Some(committed.next.0), Some(committed.metadata.clone())),
            None => (None, None),
        };
        PartitionLag { partition, committed, metadata, unassigned, member, log, next: None, retention: None, throughput: None }
    };
    let partitions = partitions.into_iter().filter(|partition| filter.includes(*partition)).map(lag).collect();
    GroupLag { group, partitions, unreadable }
}

/// Returns the topic's retention in milliseconds; `None` if it is unlimited or not known.
fn retention(settings: &TopicSettings) -> Option<i64> {
    let settings = settings.as_ref().ok()?;
    let value = |name: &str| settings.get(name).map(|setting| setting.value.as_str());
    let deletes = value("cleanup.policy")?.split(',').any(|policy| policy.trim() == "delete");
    let retention: i64 = value("retention.ms")?.parse().ok()?;
    (deletes && retention >= 0).then_some(retention)
}
