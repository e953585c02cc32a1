//! One look at the groups of one cluster, with as few questions as will do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::commands::lag::partition_lag::{AssignedMember, LogOffsets, PartitionLag};
use crate::commands::lag::selection::Selection;
use crate::connectors::kafka::{Admin, CommittedPositions, Group, Leaders, NextRecord, OffsetSpec, TopicSettings};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// How long to wait for a first answer.
const WAIT: Duration = Duration::from_secs(10);
/// How long to wait for the first answer of a cluster that did not answer the last time: the others are not to wait for it.
const WAIT_AGAIN: Duration = Duration::from_secs(1);

/// What was seen of one cluster.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The section of the profile.
    pub(super) section: String,
    /// When it was seen, in milliseconds since the Unix epoch.
    pub(super) at: i64,
    /// The selected groups, by name.
    pub(super) groups: Vec<GroupLag>,
    /// Every group that there is; of embedded brokers, which do not tell, those of the named ones that have committed.
    pub(super) all_groups: Vec<String>,
    /// Every topic that there is.
    pub(super) all_topics: Vec<Topic>,
}

/// A group and where it stands, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct GroupLag {
    pub(super) group: Group,
    pub(super) standings: Vec<PartitionLag>,
    /// Why something about the group cannot be told.
    pub(super) trouble: Option<String>,
}

impl GroupLag {
    /// Returns how far the group is behind in all of its partitions together; `None` when that is known of none.
    pub(super) fn lag(&self) -> Option<i64> {
        self.standings.iter().filter_map(PartitionLag::lag).reduce(i64::saturating_add)
    }
}

/// A cluster that is looked at again and again.
pub(super) struct SurveyedCluster {
    section: KafkaSection,
    admin: Option<Admin>,
    /// Whether it did not answer the last time.
    down: bool,
    /// What the last look found at positions: who stands still need not be read for again.
    known: HashMap<(Partition, i64, bool), NextRecord>,
    /// The ends that the last look saw.
    ends: HashMap<Partition, i64>,
}

impl SurveyedCluster {
    pub(super) fn new(section: KafkaSection) -> Self {
        Self { section, admin: None, down: false, known: HashMap::new(), ends: HashMap::new() }
    }

    /// Returns the name of its section.
    pub(super) fn name(&self) -> &str {
        &self.section.name
    }

    /// Takes a look. After an error the next one connects anew.
    pub(super) async fn survey(&mut self, selection: &Selection) -> Result<Survey, Error> {
        let admin = if let Some(admin) = self.admin.take() {
            admin
        } else {
            let connected = Admin::connect(&self.section, if self.down { WAIT_AGAIN } else { WAIT }).await;
            self.down = connected.is_err();
            connected?
        };
        let survey = self.look(&admin, selection).await?;
        self.admin = Some(admin);
        Ok(survey)
    }

    async fn look(&mut self, admin: &Admin, selection: &Selection) -> Result<Survey, Error> {
        let (leaders, listed) = tokio::try_join!(admin.leaders(), admin.group_names())?;
        let names = match &listed {
            Some(all) => selection.groups_of(all),
            None if selection.groups.is_empty() => {
                let failure = Failure::new(format!("cannot list the groups of `{}`", self.section.name));
                let failure = failure.because("embedded brokers do not tell their groups");
                return Err(failure.hint("name the group: sdl lag GROUP").into());
            }
            None => selection.groups.clone(),
        };
        // Embedded brokers want to be asked for each partition.
        let asked: Option<Vec<Partition>> = listed.is_none().then(|| every_partition(&leaders));
        let (groups, mut positions) = tokio::try_join!(admin.groups(&names), admin.positions(&names, asked.as_deref()))?;
        let has_committed =
            |name: &&String| positions.get(*name).is_some_and(|told| told.as_ref().map_or(true, |told| !told.is_empty()));
        let all_groups = listed.unwrap_or_else(|| names.iter().filter(has_committed).cloned().collect());
        let there: BTreeSet<&String> = all_groups.iter().collect();
        let groups = groups.into_iter().filter(|group| there.contains(&group.name)).map(|group| {
            let committed = positions.remove(&group.name).unwrap_or_else(|| Ok(Vec::new()));
            place(group, committed, &leaders, selection)
        });
        // Who has nothing in the topics that are looked at is not looked at either.
        let has_something = |group: &GroupLag| !group.standings.is_empty() || group.trouble.is_some();
        let mut groups: Vec<_> = groups.filter(|group| !selection.narrows() || has_something(group)).collect();
        self.measure(admin, &mut groups, selection.time).await?;
        let all_topics = leaders.into_keys().collect();
        let at = jiff::Timestamp::now().as_millisecond();
        Ok(Survey { section: self.section.name.clone(), at, groups, all_groups, all_topics })
    }

    /// Fills in ends, and what follows from them.
    async fn measure(&mut self, admin: &Admin, groups: &mut [GroupLag], time: bool) -> Result<(), Error> {
        let partitions = |groups: &[GroupLag], wanted: fn(&PartitionLag) -> bool| -> Vec<Partition> {
            let standings = groups.iter().flat_map(|group| &group.standings).filter(|standing| wanted(standing));
            standings.map(|standing| standing.partition).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let led = partitions(groups, |standing| standing.end().is_some());
        let ends = admin.known_ends(&led, OffsetSpec::Log).await?;
        // A log that has become shorter was created again or truncated: other records have the old offsets.
        let shorter =
            |partition: &Partition| ends.get(partition).zip(self.ends.get(partition)).is_some_and(|(now, then)| now < then);
        self.known.retain(|(partition, ..), _| !shorter(partition));
        for standing in groups.iter_mut().flat_map(|group| &mut group.standings).filter(|standing| standing.end().is_some()) {
            standing.log = match ends.get(&standing.partition) {
                Some(end) => LogOffsets::Ends { end: *end, low: None, stable: None },
                None => LogOffsets::NoLeader,
            };
        }
        self.ends = ends;
        let behind = partitions(groups, PartitionLag::is_behind);
        let topics: BTreeSet<Topic> = behind.iter().map(|partition| partition.topic).filter(|_| time).collect();
        let topics: Vec<Topic> = topics.into_iter().collect();
        let (low, stable, settings) = tokio::try_join!(
            admin.known_ends(&behind, OffsetSpec::Start),
            admin.known_ends(&behind, OffsetSpec::Stable),
            admin.settings_of(&topics),
        )?;
        let retention: HashMap<Topic, i64> =
            settings.iter().filter_map(|(topic, settings)| Some((*topic, retention(settings)?))).collect();
        for standing in groups.iter_mut().flat_map(|group| &mut group.standings) {
            if let LogOffsets::Ends { end, .. } = standing.log {
                let of = |ends: &HashMap<Partition, i64>| ends.get(&standing.partition).copied();
                standing.log = LogOffsets::Ends { end, low: of(&low), stable: of(&stable) };
                standing.retention = retention.get(&standing.partition.topic).copied();
            }
        }
        if time { self.read_times(admin, groups).await } else { Ok(()) }
    }

    /// Reads the record at each position: of committed records first, and where an open transaction holds them back its first.
    async fn read_times(&mut self, admin: &Admin, groups: &mut [GroupLag]) -> Result<(), Error> {
        let mut known = HashMap::new();
        for read_uncommitted in [false, true] {
            let position = |standing: &PartitionLag| {
                let (position, held) = (standing.position()?, standing.held_at());
                let beyond = held.is_some_and(|held| position >= held);
                let nothing_before = standing.next == Some(NextRecord::None);
                match read_uncommitted {
                    false => (!beyond).then_some(position),
                    true if beyond => Some(position),
                    true => held.filter(|_| nothing_before),
                }
            };
            let standings = || groups.iter().flat_map(|group| &group.standings);
            let wanted = standings().filter_map(|standing| Some((standing.partition, position(standing)?)));
            let wanted: BTreeSet<(Partition, i64)> = wanted.collect();
            let before = |(partition, at): &(Partition, i64)| self.known.get(&(*partition, *at, read_uncommitted));
            let mut found: HashMap<_, _> =
                wanted.iter().filter_map(|position| Some((*position, before(position)?.clone()))).collect();
            let unread = wanted.into_iter().filter(|position| !found.contains_key(position)).collect();
            found.extend(admin.next_records(unread, read_uncommitted).await?);
            for standing in groups.iter_mut().flat_map(|group| &mut group.standings) {
                let Some(at) = position(standing) else { continue };
                let Some(next) = found.get(&(standing.partition, at)) else { continue };
                standing.next = Some(next.clone());
            }
            // Only a record stays what it is.
            let lasting = found.into_iter().filter(|(_, next)| matches!(next, NextRecord::At(_)));
            known.extend(lasting.map(|((partition, at), next)| ((partition, at, read_uncommitted), next)));
        }
        self.known = known;
        Ok(())
    }
}

fn every_partition(leaders: &Leaders) -> Vec<Partition> {
    let partitions =
        leaders.iter().flat_map(|(topic, leaders)| (0..).zip(leaders).map(|(index, _)| Partition { topic: *topic, index }));
    partitions.collect()
}

/// Returns where a group stands before anything was measured: what it has committed, and what its members read.
fn place(group: Group, committed: CommittedPositions, leaders: &Leaders, selection: &Selection) -> GroupLag {
    let mut trouble = group.trouble.clone().map(|why| format!("cannot be described: {why}"));
    let committed: BTreeMap<Partition, i64> = match committed {
        Ok(committed) => committed.into_iter().map(|(partition, next)| (partition, next.0)).collect(),
        Err(why) => {
            trouble = Some(format!("its offsets cannot be read: {why}"));
            BTreeMap::new()
        }
    };
    let members = group.members.as_deref().unwrap_or_default();
    let mut readers: BTreeMap<Partition, Arc<AssignedMember>> = BTreeMap::new();
    for member in members {
        let reader = Arc::new(AssignedMember { client_id: member.client_id.clone(), host: member.host.clone() });
        readers.extend(member.partitions.iter().map(|partition| (*partition, Arc::clone(&reader))));
    }
    // While members come and go nobody reads anything, and that is nothing to mark.
    let settled = group.state.as_deref() == Some("Stable") && !members.is_empty();
    let partitions: BTreeSet<Partition> = committed.keys().chain(readers.keys()).copied().collect();
    let standing = |partition: Partition| {
        let reader = readers.get(&partition).map(|reader| (**reader).clone());
        let log = match leaders.get(&partition.topic) {
            None => LogOffsets::NoTopic,
            Some(leaders) => match usize::try_from(partition.index).ok().and_then(|index| leaders.get(index)) {
                None => LogOffsets::NoPartition,
                Some(false) => LogOffsets::NoLeader,
                Some(true) => LogOffsets::Ends { end: 0, low: None, stable: None },
            },
        };
        let (committed, unassigned) = (committed.get(&partition).copied(), settled && reader.is_none());
        PartitionLag { partition, committed, unassigned, reader, log, next: None, retention: None, pace: None }
    };
    let standings = partitions.into_iter().filter(|partition| selection.has(*partition)).map(standing).collect();
    GroupLag { group, standings, trouble }
}

/// Returns for how many milliseconds a topic keeps its records; `None` when for ever, or when that is not told.
fn retention(settings: &TopicSettings) -> Option<i64> {
    let settings = settings.as_ref().ok()?;
    let value = |name: &str| settings.get(name).map(|setting| setting.value.as_str());
    let deletes = value("cleanup.policy")?.split(',').any(|policy| policy.trim() == "delete");
    let retention: i64 = value("retention.ms")?.parse().ok()?;
    (deletes && retention >= 0).then_some(retention)
}
