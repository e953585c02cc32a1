//! Translations: the positions of a group on one cluster, as positions in the copies on another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::connectors::kafka::{Admin, CommittedOffset, CommittedPositions, Group, NextRecord, OffsetSpec, TopicInfo};
use crate::offsets::change::{OffsetChange, Offsets, committed, flows};
use crate::offsets::import::LeftOut;
use crate::pipeline::ConnectorError;
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, NextOffset, Partition, Record, Topic};
use crate::replication::{MapIdentity, MapPosition, MappedPosition, PartitionMap, TopicNames, parse_origin, read_map};

/// How a position was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundBy {
    Exact,
    NextCopied,
    NotCopiedYet,
    NoMap,
    OriginHeader,
    Time,
}

impl FoundBy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::NextCopied => "next copied",
            Self::NotCopiedYet => "not copied yet",
            Self::NoMap => "no map",
            Self::OriginHeader => "origin header",
            Self::Time => "by time",
        }
    }
}

/// What a translation may do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TranslateRules {
    /// Move a group back that a translation has moved.
    pub(crate) rewind: bool,
    /// Replace positions that another program has committed.
    pub(crate) overwrite: bool,
    /// Without a map and an origin header, look for the time of the next record.
    pub(crate) by_time: bool,
}

/// A position of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TranslatedPosition {
    pub(crate) source: Partition,
    pub(crate) committed: i64,
    /// Where the records are copied to, if known.
    pub(crate) target: Partition,
    pub(crate) found: Option<i64>,
    pub(crate) by: FoundBy,
    /// Why nothing is committed, though a position was found or should have been.
    pub(crate) note: Option<String>,
    /// What is committed, also if it is there already.
    pub(crate) change: Option<OffsetChange>,
}

impl TranslatedPosition {
    /// Returns whether the group can go on here.
    pub(crate) fn is_done(&self) -> bool {
        self.change.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TranslatedGroup {
    pub(crate) group: String,
    pub(crate) positions: Vec<TranslatedPosition>,
}

impl TranslatedGroup {
    pub(crate) fn changes(&self) -> Vec<OffsetChange> {
        self.positions.iter().filter_map(|position| position.change.clone()).collect()
    }
}

/// What a translation changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct TranslatePlan {
    pub(crate) groups: Vec<TranslatedGroup>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The metadata of a translated position.
#[derive(Debug, Serialize, Deserialize)]
struct TranslationMark {
    /// The version of this format.
    sdl_translated: u32,
    /// Cluster, topic and partition.
    from: String,
}

/// Returns whether a translation committed this position.
fn is_translated(committed: &CommittedOffset) -> bool {
    serde_json::from_str(&committed.metadata).is_ok_and(|mark: TranslationMark| mark.sdl_translated == 1)
}

/// Translates positions of one cluster to another, as often as asked.
pub(crate) struct Translator {
    from: Admin,
    to: Admin,
    /// Of the target.
    section: KafkaSection,
    map_topic: Topic,
    /// The names of copies without a map.
    names: TopicNames,
    position: MapPosition,
    maps: HashMap<MapIdentity, PartitionMap>,
    /// The fingerprints that are those of the records which they name.
    verified: HashSet<(Partition, Fingerprint)>,
}

/// The two clusters at the time of a translation.
struct BothClusters {
    to_topics: HashMap<Topic, i32>,
    from_ids: HashMap<Topic, String>,
    to_ids: HashMap<Topic, String>,
}

/// A position to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Wanted {
    source: Partition,
    target: Partition,
    committed: i64,
}

/// Where a position is, and why it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Located {
    found: Option<i64>,
    by: FoundBy,
    note: Option<String>,
}

impl Located {
    fn nothing(by: FoundBy, note: Option<String>) -> Self {
        Self { found: None, by, note }
    }
}

impl From<MappedPosition> for Located {
    fn from(position: MappedPosition) -> Self {
        let (found, by) = match position {
            MappedPosition::Exact(target) => (Some(target), FoundBy::Exact),
            MappedPosition::NextCopied(target) => (Some(target), FoundBy::NextCopied),
            MappedPosition::NotCopiedYet => (None, FoundBy::NotCopiedYet),
            MappedPosition::NoMap => (None, FoundBy::NoMap),
        };
        Self { found, by, note: None }
    }
}

impl Translator {
    pub(crate) fn new(from: Admin, to: Admin, section: KafkaSection, map_topic: Topic, names: TopicNames) -> Self {
        let (position, maps, verified) = (MapPosition::default(), HashMap::new(), HashSet::new());
        Self { from, to, section, map_topic, names, position, maps, verified }
    }

    pub(crate) fn source(&self) -> &Admin {
        &self.from
    }

    pub(crate) fn target(&self) -> &Admin {
        &self.to
    }

    /// Decides what to commit for the groups on the target; commits nothing.
    ///
    /// # Errors
    /// When a cluster does not answer.
    pub(crate) async fn plan(&mut self, groups: &[String], rules: TranslateRules) -> Result<TranslatePlan, ConnectorError> {
        for admin in [&mut self.from, &mut self.to] {
            if admin.is_overdue() {
                *admin = admin.reconnected().await?;
            }
        }
        let all = self.from.topics().await?;
        let every: Vec<Partition> = all.iter().flat_map(partitions).collect();
        let mut positions = committed(&self.from, groups, &every).await?;
        let (mut left_out, mut chosen) = (Vec::new(), Vec::new());
        for group in groups {
            match movable(self.from.section(), positions.remove(group)) {
                Ok(offsets) => chosen.push((group.clone(), offsets)),
                Err(why) => left_out.push(LeftOut { group: group.clone(), why }),
            }
        }
        if chosen.is_empty() {
            return Ok(TranslatePlan { groups: Vec::new(), left_out });
        }
        self.read_maps().await?;
        let topics: BTreeSet<Topic> =
            chosen.iter().flat_map(|(_, offsets)| offsets.keys().map(|partition| partition.topic)).collect();
        let topics: Vec<Topic> = all.iter().map(|topic| topic.topic).filter(|topic| topics.contains(topic)).collect();
        let to_topics: HashMap<Topic, i32> =
            self.to.topics().await?.into_iter().map(|TopicInfo { topic, partitions }| (topic, partitions)).collect();
        let from_ids = self.from.topic_ids(&topics).await?;
        let targets: BTreeSet<Topic> = self.maps.keys().map(|identity| Topic::named(&identity.target)).collect();
        let targets: Vec<Topic> = targets.into_iter().filter(|topic| to_topics.contains_key(topic)).collect();
        let to_ids = self.to.topic_ids(&targets).await?;
        let state = BothClusters { to_topics, from_ids, to_ids };

        let names: Vec<String> = chosen.iter().map(|(group, _)| group.clone()).collect();
        let described = self.to.groups(&names).await?;
        let mut wanted: BTreeMap<String, Vec<Wanted>> = BTreeMap::new();
        for ((group, offsets), described) in chosen.into_iter().zip(described) {
            if let Err(why) = idle(&described, self.to.is_embedded()) {
                left_out.push(LeftOut { group, why });
                continue;
            }
            let of_group =
                offsets.iter().flat_map(|(source, committed)| self.wanted(*source, committed.next.0, &state)).collect();
            wanted.insert(group, of_group);
        }
        if wanted.is_empty() {
            return Ok(TranslatePlan { groups: Vec::new(), left_out });
        }
        let located = self.locate(wanted.values().flatten().copied().collect(), &state, rules).await?;
        let targets: BTreeSet<Partition> = wanted.values().flatten().map(|wanted| wanted.target).collect();
        let exists = |target: &Partition| state.to_topics.get(&target.topic).is_some_and(|count| target.index < *count);
        let targets: Vec<Partition> = targets.into_iter().filter(exists).collect();
        let names: Vec<String> = wanted.keys().cloned().collect();
        let (low, end, mut before) = tokio::try_join!(
            self.to.known_offsets(&targets, OffsetSpec::Start),
            self.to.known_offsets(&targets, OffsetSpec::Log),
            committed(&self.to, &names, &targets),
        )?;
        let log = |target: &Partition| Some((low.get(target)?.clone().ok()?, end.get(target)?.clone().ok()?));
        let mut groups = Vec::new();
        for (group, wanted) in wanted {
            let before: Offsets = match before.remove(&group).unwrap_or_else(|| Ok(Vec::new())) {
                Ok(before) => before.into_iter().collect(),
                Err(why) => {
                    left_out
                        .push(LeftOut { group, why: format!("its offsets on `{}` cannot be read: {why}", self.to.section()) });
                    continue;
                }
            };
            if let Some(flow) = flows(before.values()).first() {
                left_out.push(LeftOut { group, why: format!("on `{}` it is the group of the flow `{flow}`", self.to.section()) });
                continue;
            }
            let position = |wanted: &Wanted| {
                let located = located.get(wanted).cloned().unwrap_or_else(|| Located::nothing(FoundBy::NoMap, None));
                decide(*wanted, located, before.get(&wanted.target), log(&wanted.target), rules, self.from.cluster_id())
            };
            groups.push(TranslatedGroup { positions: wanted.iter().map(position).collect(), group });
        }
        left_out.sort_by(|one, other| one.group.cmp(&other.group));
        Ok(TranslatePlan { groups, left_out })
    }

    /// Returns where a partition of the source is copied to: a topic for each flow that has a map, else the one that the names give.
    fn wanted(&self, source: Partition, committed: i64, state: &BothClusters) -> Vec<Wanted> {
        let cluster = self.from.cluster_id();
        // What was copied to a topic that was deleted since is of no use.
        let is_of = |identity: &&MapIdentity| {
            identity.cluster == cluster
                && (identity.topic.as_str(), identity.partition) == (source.topic.name(), source.index)
                && state.to_topics.contains_key(&Topic::named(&identity.target))
        };
        let mut targets: BTreeSet<Topic> =
            self.maps.keys().filter(is_of).map(|identity| Topic::named(&identity.target)).collect();
        if targets.is_empty() {
            targets.insert(self.names.target(source.topic));
        }
        let wanted = |topic| Wanted { source, target: Partition { topic, index: source.index }, committed };
        targets.into_iter().map(wanted).collect()
    }

    async fn read_maps(&mut self) -> Result<(), ConnectorError> {
        let cluster = self.from.cluster_id().to_owned();
        let (sender, chunks) = std::sync::mpsc::channel();
        let read = read_map(&self.section, self.map_topic, &mut self.position, move |key, value| {
            if key.identity.cluster == cluster {
                // Received below.
                let _ = sender.send((key, value.map(Bytes::copy_from_slice)));
            }
        })
        .await;
        for (key, value) in chunks {
            let map = self.maps.entry(key.identity.clone()).or_default();
            match value {
                Some(bytes) => map.insert(key.number, bytes),
                None => map.remove(key.number),
            }
            if map.is_empty() {
                self.maps.remove(&key.identity);
            }
        }
        read
    }

    /// Returns where each position is on the target.
    async fn locate(
        &mut self,
        wanted: BTreeSet<Wanted>,
        state: &BothClusters,
        rules: TranslateRules,
    ) -> Result<HashMap<Wanted, Located>, ConnectorError> {
        let exists =
            |wanted: &Wanted| state.to_topics.get(&wanted.target.topic).is_some_and(|count| wanted.target.index < *count);
        let (wanted, absent): (BTreeSet<Wanted>, BTreeSet<Wanted>) = wanted.into_iter().partition(exists);
        let mut located = HashMap::new();
        for wanted in absent {
            let note = format!("{} does not exist on `{}`", wanted.target, self.to.section());
            located.insert(wanted, Located::nothing(FoundBy::NoMap, Some(note)));
        }
        let pairs: BTreeSet<(Partition, Partition)> = wanted.iter().map(|wanted| (wanted.source, wanted.target)).collect();
        let maps: HashMap<(Partition, Partition), PartitionMap> =
            pairs.into_iter().filter_map(|(source, target)| Some(((source, target), self.map(source, target, state)?))).collect();
        let recreated = self.recreated(&maps).await?;
        let mut unmapped = Vec::new();
        for wanted in wanted {
            let key = (wanted.source, wanted.target);
            match (maps.get(&key), recreated.get(&key)) {
                (_, Some(why)) => drop(located.insert(wanted, Located::nothing(FoundBy::NoMap, Some(why.clone())))),
                (Some(map), None) => match map.find(wanted.committed) {
                    // Copied by an earlier version, or without a map.
                    MappedPosition::NoMap => unmapped.push(wanted),
                    found => drop(located.insert(wanted, found.into())),
                },
                (None, None) => unmapped.push(wanted),
            }
        }
        if !unmapped.is_empty() {
            let by_origin = self.by_origin(&unmapped).await?;
            let rest: Vec<Wanted> = unmapped.into_iter().filter(|wanted| !by_origin.contains_key(wanted)).collect();
            located.extend(by_origin);
            if rules.by_time && !rest.is_empty() {
                located.extend(self.by_time(&rest).await?);
            }
        }
        Ok(located)
    }

    /// Returns the chunks of every flow that copies `source` to `target`, as the two topics are now.
    fn map(&self, source: Partition, target: Partition, state: &BothClusters) -> Option<PartitionMap> {
        let (cluster, id) = (self.from.cluster_id(), state.from_ids.get(&source.topic));
        let is_of = |identity: &MapIdentity| {
            let is_same_topic = identity.topic_id.as_ref().zip(id).is_none_or(|(of, id)| of == id);
            identity.cluster == cluster
                && (identity.topic.as_str(), identity.partition) == (source.topic.name(), source.index)
                && identity.target == target.topic.name()
                && is_same_topic
        };
        let mut map = PartitionMap::default();
        for (identity, chunks) in &self.maps {
            if is_of(identity) {
                map.merge(chunks);
            }
        }
        if let Some(id) = state.to_ids.get(&target.topic) {
            map.keep_target(id);
        }
        (!map.is_empty()).then_some(map)
    }

    /// Returns the maps whose newest run names a record that is another one now, with the reason.
    async fn recreated(
        &mut self,
        maps: &HashMap<(Partition, Partition), PartitionMap>,
    ) -> Result<HashMap<(Partition, Partition), String>, ConnectorError> {
        let mut recreated = HashMap::new();
        let marks: Vec<_> = maps.iter().map(|((source, target), map)| (*source, *target, map.marks())).collect();
        let sides = [
            (
                self.from.clone(),
                marks.iter().map(|(source, target, (of, _))| ((*source, *target), *source, *of)).collect::<Vec<_>>(),
            ),
            (self.to.clone(), marks.iter().map(|(source, target, (_, of))| ((*source, *target), *target, *of)).collect()),
        ];
        for (admin, marks) in sides {
            let named = marks.iter().filter_map(|(key, partition, mark)| Some((*key, *partition, (*mark)?)));
            let named: Vec<_> = named.filter(|(_, partition, mark)| !self.verified.contains(&(*partition, *mark))).collect();
            let offsets: Vec<_> = named.iter().map(|(_, partition, mark)| (*partition, mark.offset)).collect();
            if offsets.is_empty() {
                continue;
            }
            let records = admin.first_records(offsets).await?;
            for (key, partition, mark) in named {
                // A record that is gone proves nothing.
                let record = records.get(&(partition, mark.offset)).filter(|record| record.offset == mark.offset);
                if record.is_some_and(|record| record.fingerprint().crc != mark.crc) {
                    let section = admin.section();
                    recreated.insert(key, format!("topic `{}` on `{section}` was created again since the copy", partition.topic));
                } else {
                    self.verified.insert((partition, mark));
                }
            }
        }
        Ok(recreated)
    }

    /// Returns the positions whose copies have an origin header.
    async fn by_origin(&self, wanted: &[Wanted]) -> Result<HashMap<Wanted, Located>, ConnectorError> {
        let targets = targets(wanted);
        let low = self.to.known_offsets(&targets, OffsetSpec::Start).await?;
        let end = self.to.known_offsets(&targets, OffsetSpec::Log).await?;
        let bounds = |target: &Partition| Some((low.get(target)?.clone().ok()?, end.get(target)?.clone().ok()?));
        let mut searches: Vec<OriginSearch> = Vec::new();
        for wanted in wanted {
            let Some((low, end)) = bounds(&wanted.target).filter(|(low, end)| low < end) else { continue };
            searches.push(OriginSearch { wanted: *wanted, low, high: end, has_header: false, is_broken: false });
        }
        while searches.iter().any(OriginSearch::is_open) {
            let probes: Vec<_> = searches.iter().filter(|search| search.is_open()).map(OriginSearch::probe).collect();
            let records = self.to.first_records(probes).await?;
            for search in searches.iter_mut().filter(|search| search.is_open()) {
                let probe = search.probe();
                search.on_record(probe.1, records.get(&probe), self.from.cluster_id());
            }
        }
        Ok(searches.into_iter().filter_map(|search| Some((search.wanted, search.located()?))).collect())
    }

    /// Returns the positions by the times of the next records.
    async fn by_time(&self, wanted: &[Wanted]) -> Result<HashMap<Wanted, Located>, ConnectorError> {
        let targets = targets(wanted);
        // First: what is copied from now on is behind it.
        let ends = self.to.known_offsets(&targets, OffsetSpec::Log).await?;
        let positions: BTreeSet<(Partition, i64)> = wanted.iter().map(|wanted| (wanted.source, wanted.committed)).collect();
        let next = self.from.next_records(positions.into_iter().collect(), false).await?;
        let mut located = HashMap::new();
        for wanted in wanted {
            let found = match next.get(&(wanted.source, wanted.committed)) {
                Some(NextRecord::At(time)) => self
                    .to
                    .known_offsets(&[wanted.target], OffsetSpec::Time(*time))
                    .await?
                    .remove(&wanted.target)
                    .and_then(Result::ok),
                Some(NextRecord::None) => ends.get(&wanted.target).and_then(|end| end.clone().ok()),
                Some(NextRecord::Unknown(why)) => {
                    located.insert(*wanted, Located::nothing(FoundBy::NoMap, Some(why.clone())));
                    continue;
                }
                None => None,
            };
            let by = if found.is_some() { FoundBy::Time } else { FoundBy::NotCopiedYet };
            located.insert(*wanted, Located { found, by, note: None });
        }
        Ok(located)
    }
}

/// The search for the first copy whose origin is not before a position: copies are in the order of their origins.
struct OriginSearch {
    wanted: Wanted,
    /// The copy is in `low..=high`; at the end, `high`.
    low: i64,
    high: i64,
    has_header: bool,
    /// Records without the header are between.
    is_broken: bool,
}

impl OriginSearch {
    fn is_open(&self) -> bool {
        self.low < self.high && !self.is_broken
    }

    fn probe(&self) -> (Partition, i64) {
        (self.wanted.target, self.low + (self.high - self.low) / 2)
    }

    /// Takes the first record at or after the probed offset.
    fn on_record(&mut self, probed: i64, record: Option<&Record>, cluster: &str) {
        let Some(record) = record.filter(|record| record.offset < self.high) else {
            self.high = probed;
            return;
        };
        match parse_origin(record, cluster, self.wanted.source) {
            Some(origin) => {
                self.has_header = true;
                if origin >= self.wanted.committed {
                    self.high = probed;
                } else {
                    self.low = record.offset + 1;
                }
            }
            None => self.is_broken = true,
        }
    }

    fn located(&self) -> Option<Located> {
        // Of the last copies it is not known whether a record was left out behind them.
        (self.has_header && !self.is_broken).then_some(Located { found: Some(self.high), by: FoundBy::OriginHeader, note: None })
    }
}

/// Returns the target partition of each position, once: several groups read the same ones.
fn targets(wanted: &[Wanted]) -> Vec<Partition> {
    let targets: BTreeSet<Partition> = wanted.iter().map(|wanted| wanted.target).collect();
    targets.into_iter().collect()
}

fn partitions(topic: &TopicInfo) -> impl Iterator<Item = Partition> + use<> {
    let name = topic.topic;
    (0..topic.partitions).map(move |index| Partition { topic: name, index })
}

/// Returns the positions of a group that may be translated.
fn movable(section: &str, positions: Option<CommittedPositions>) -> Result<Offsets, String> {
    let positions =
        positions.unwrap_or_else(|| Ok(Vec::new())).map_err(|why| format!("its offsets on `{section}` cannot be read: {why}"))?;
    let offsets: Offsets = positions.into_iter().collect();
    if let Some(flow) = flows(offsets.values()).first() {
        return Err(format!("it is the group of the flow `{flow}`"));
    }
    if offsets.is_empty() { Err(format!("it has committed nothing on `{section}`")) } else { Ok(offsets) }
}

/// Checks that the group has no members, which would go on committing their own positions.
fn idle(group: &Group, is_embedded: bool) -> Result<(), String> {
    if let Some(why) = &group.error {
        return Err(format!("it cannot be described: {why}"));
    }
    match group.members.as_deref() {
        // Embedded brokers do not tell; the commit is refused then.
        None if is_embedded => Ok(()),
        None => Err("its members are not known".to_owned()),
        Some([]) => Ok(()),
        Some(members) => {
            let names: Vec<String> = members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
            Err(format!("it has active members: {}", names.join(", ")))
        }
    }
}

/// Decides what is committed for one position; `log` is the target partition's.
fn decide(
    wanted: Wanted,
    located: Located,
    before: Option<&CommittedOffset>,
    log: Option<(i64, i64)>,
    rules: TranslateRules,
    cluster: &str,
) -> TranslatedPosition {
    let Wanted { source, target, committed } = wanted;
    let Located { found, by, note } = located;
    let position = |note, change| TranslatedPosition { source, committed, target, found, by, note, change };
    let Some(next) = found else { return position(note, None) };
    let Some((low, end)) = log else { return position(Some("its leader does not answer".to_owned()), None) };
    if next > end {
        return position(Some(format!("the target ends at {end}")), None);
    }
    if next < low {
        return position(Some(format!("the target begins at {low}")), None);
    }
    match before {
        Some(before) if !is_translated(before) && !rules.overwrite => {
            return position(Some(format!("its consumers there have committed {}", before.next.0)), None);
        }
        Some(before) if next < before.next.0 && !rules.rewind => {
            return position(Some(format!("it is at {} there", before.next.0)), None);
        }
        _ => {}
    }
    let mark = TranslationMark { sdl_translated: 1, from: format!("{cluster}/{}/{}", source.topic, source.index) };
    let metadata = serde_json::to_string(&mark).expect("strings and numbers are JSON");
    let after = CommittedOffset { next: NextOffset(next), metadata, leader_epoch: None };
    position(None, Some(OffsetChange { partition: target, low, end, before: before.cloned(), after }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::{CommitMetadata, GroupMember};
    use crate::offsets::change::tests::at;

    fn wanted() -> Wanted {
        Wanted { source: Partition::new("orders", 1), target: Partition::new("eu.orders", 1), committed: 40 }
    }

    fn decided(found: i64, before: Option<&CommittedOffset>, rules: TranslateRules) -> (Option<i64>, Option<String>) {
        let located = Located { found: Some(found), by: FoundBy::Exact, note: None };
        let position = decide(wanted(), located, before, Some((10, 100)), rules, "east");
        (position.change.map(|change| change.after.next.0), position.note)
    }

    fn translated(next: i64) -> CommittedOffset {
        let located = Located { found: Some(next), by: FoundBy::Exact, note: None };
        decide(wanted(), located, None, Some((0, 1000)), TranslateRules::default(), "east").change.unwrap().after
    }

    #[test]
    fn a_position_moves_forward_and_only_if_a_translation_has_committed_it() {
        let rules = TranslateRules::default();
        assert_eq!(decided(50, None, rules), (Some(50), None));
        assert_eq!(decided(50, Some(&translated(40)), rules), (Some(50), None));
        assert_eq!(decided(50, Some(&translated(50)), rules), (Some(50), None));
        assert_eq!(decided(50, Some(&translated(60)), rules), (None, Some("it is at 60 there".to_owned())));
        assert_eq!(decided(50, Some(&translated(60)), TranslateRules { rewind: true, ..rules }), (Some(50), None));
        let theirs = (None, Some("its consumers there have committed 40".to_owned()));
        assert_eq!(decided(50, Some(&at(40)), rules), theirs);
        assert_eq!(decided(50, Some(&at(40)), TranslateRules { rewind: true, ..rules }), theirs);
        let overwrite = TranslateRules { overwrite: true, ..rules };
        assert_eq!(decided(50, Some(&at(40)), overwrite), (Some(50), None));
        assert_eq!(decided(50, Some(&at(60)), overwrite), (None, Some("it is at 60 there".to_owned())));
        assert_eq!(decided(101, None, rules), (None, Some("the target ends at 100".to_owned())));
        assert_eq!(decided(9, None, rules), (None, Some("the target begins at 10".to_owned())));
    }

    #[test]
    fn a_partition_that_several_groups_read_is_asked_for_once() {
        let later = Wanted { committed: 41, ..wanted() };
        assert_eq!(targets(&[wanted(), later]), [wanted().target]);
    }

    #[test]
    fn a_translated_position_is_not_one_of_a_flow() {
        let committed = translated(5);
        assert_eq!(committed.metadata, r#"{"sdl_translated":1,"from":"east/orders/1"}"#);
        assert!(is_translated(&committed) && flows([&committed]).is_empty());
        let flow = CommittedOffset { metadata: CommitMetadata::new("replicate a/t", None).to_json(), ..at(5) };
        assert!(!is_translated(&flow) && !is_translated(&at(5)));
        let of = |committed: CommittedOffset| movable("east", Some(Ok(vec![(Partition::new("orders", 0), committed)])));
        assert_eq!(of(flow), Err("it is the group of the flow `replicate a/t`".to_owned()));
        assert_eq!(of(at(5)).map(|offsets| offsets.len()), Ok(1));
        assert_eq!(movable("east", None), Err("it has committed nothing on `east`".to_owned()));
        let denied = movable("east", Some(Err("denied".to_owned())));
        assert_eq!(denied, Err("its offsets on `east` cannot be read: denied".to_owned()));
    }

    #[test]
    fn a_group_with_members_is_left_out_and_they_are_named() {
        let member = |id: &str| GroupMember { client_id: id.to_owned(), host: "h".to_owned(), ..GroupMember::default() };
        let of = |members, embedded| idle(&Group { members, ..Group::default() }, embedded);
        assert_eq!(of(Some(vec![member("a"), member("b")]), false), Err("it has active members: a at h, b at h".to_owned()));
        assert_eq!(of(None, false), Err("its members are not known".to_owned()));
        assert_eq!([of(None, true), of(Some(Vec::new()), false)], [Ok(()), Ok(())]);
    }

    #[test]
    fn the_first_copy_from_a_position_on_is_found_by_its_origin() {
        // The target has the source offsets 0, 2, 4 and so on, with markers between from its offset 30 on.
        let copy = |target: i64| Record {
            partition: wanted().target,
            offset: target,
            timestamp: None,
            key: None,
            value: None,
            headers: vec![("sdl-origin".into(), Some(format!("east/orders/1/{}", target * 2).into()))],
        };
        for (committed, expected) in [(0, 10), (19, 10), (20, 10), (21, 11), (22, 11), (98, 49), (99, 50), (500, 50)] {
            let wanted = Wanted { committed, ..wanted() };
            let mut search = OriginSearch { wanted, low: 10, high: 50, has_header: false, is_broken: false };
            while search.is_open() {
                let (_, probe) = search.probe();
                search.on_record(probe, (probe < 50).then(|| copy(probe)).as_ref(), "east");
            }
            assert_eq!(search.located().and_then(|located| located.found), Some(expected), "{committed}");
        }
        let mut search = OriginSearch { wanted: wanted(), low: 10, high: 50, has_header: false, is_broken: false };
        search.on_record(30, Some(&copy(30)), "west");
        assert!(!search.is_open() && search.located().is_none(), "a record of another cluster");
    }
}
