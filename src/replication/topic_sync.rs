//! The target topics: existence, missing partitions, and the route of each record.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::connectors::kafka::{
    Admin, OffsetSpec, ReadPlan, Route, TargetIds, Targets, TopicChange, TopicInfo, TopicLook, TopicPlan, partition_of,
};
use crate::record::{Partition, Record, Topic};
use crate::replication::{ReplicationError, TopicNames};

/// Settings that belong to a cluster rather than to a topic; MirrorMaker leaves them out too.
const NOT_COPIED: [&str; 6] = [
    "min.insync.replicas",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "unclean.leader.election.enable",
    "remote.storage.enable",
    "remote.log.copy.disable",
];

/// Returns whether the run reads topics of this name, now or when they are created.
pub(crate) type TopicFilter = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Keeps the target topics in line with the source topics.
pub(crate) struct TopicSync {
    source: Admin,
    target: Admin,
    names: TopicNames,
    reads: TopicFilter,
    may_create: bool,
    /// Whether the key chooses the target partition, instead of the source partition.
    repartition: bool,
    limits: Targets,
    /// The number of partitions of each target topic.
    partitions: Mutex<HashMap<Topic, i32>>,
    /// The source topics of the run, also those whose target has no known id.
    sources: Mutex<BTreeSet<Topic>>,
    /// By source topic.
    ids: TargetIds,
}

/// Topics and partitions missing in the target.
#[derive(Clone, Debug)]
pub(crate) enum MissingTarget {
    Topic(TopicPlan),
    Partitions { topic: Topic, has: i32, needs: i32 },
}

impl MissingTarget {
    /// Returns the name of a topic that does not exist.
    pub(crate) fn topic(&self) -> Option<&str> {
        match self {
            Self::Topic(plan) => Some(&plan.name),
            Self::Partitions { .. } => None,
        }
    }
}

impl fmt::Display for MissingTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(TopicPlan { name, partitions, config, .. }) => {
                write!(f, "{name}: will be created with {}", of_partitions(*partitions))?;
                config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))
            }
            Self::Partitions { topic, has, needs } => {
                write!(f, "{topic}: has {}, the source has {needs}", of_partitions(*has))
            }
        }
    }
}

/// Returns a number of partitions with its noun.
pub(crate) fn of_partitions(count: i32) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

impl TopicSync {
    pub(crate) fn new(
        source: Admin,
        target: Admin,
        names: TopicNames,
        reads: TopicFilter,
        may_create: bool,
        repartition: bool,
    ) -> Self {
        let (limits, partitions, ids) = (Targets::default(), Mutex::default(), TargetIds::default());
        let sources = Mutex::default();
        Self { source, target, names, reads, may_create, repartition, limits, partitions, sources, ids }
    }

    pub(crate) fn limits(&self) -> Targets {
        Arc::clone(&self.limits)
    }

    pub(crate) fn ids(&self) -> TargetIds {
        self.ids.clone()
    }

    pub(crate) fn names(&self) -> &TopicNames {
        &self.names
    }

    /// Checks the names of the target topics.
    ///
    /// # Errors
    /// When Kafka does not allow one of them.
    pub(crate) fn check_names(&self, topics: &[TopicInfo]) -> Result<(), ReplicationError> {
        topics.iter().try_for_each(|topic| self.names.valid_target(topic.topic).map(|_| ()))
    }

    /// Checks that no copy is read by the run that writes it.
    ///
    /// # Errors
    /// When a topic would be copied into itself, or into a topic that the run reads or will read.
    pub(crate) fn check_loops(&self, topics: &[TopicInfo]) -> Result<(), ReplicationError> {
        if self.source.cluster_id() != self.target.cluster_id() {
            return Ok(());
        }
        let cluster = || self.source.cluster_id().to_owned();
        let topics: Vec<Topic> = topics.iter().map(|topic| topic.topic).collect();
        match find_loop(&topics, &self.names, &self.reads) {
            None => Ok(()),
            Some((topic, target)) if topic == target => Err(ReplicationError::IntoItself {
                topic,
                from: self.source.section().to_owned(),
                to: self.target.section().to_owned(),
                cluster: cluster(),
            }),
            Some((topic, target)) => Err(ReplicationError::FeedsItself { topic, target, cluster: cluster() }),
        }
    }

    /// Returns the missing topics and partitions, and loads the limits of existing topics.
    ///
    /// # Errors
    /// When a cluster does not answer, or a name is not valid.
    pub(crate) async fn missing(&self, topics: &[TopicInfo]) -> Result<Vec<MissingTarget>, ReplicationError> {
        let mut missing = Vec::new();
        for topic in topics {
            missing.extend(self.missing_of(topic).await?);
        }
        self.note_ids(topics).await?;
        Ok(missing)
    }

    /// Notes the ids of the target topics that exist.
    async fn note_ids(&self, topics: &[TopicInfo]) -> Result<(), ReplicationError> {
        self.sources().extend(topics.iter().map(|of| of.topic));
        let targets: Vec<Topic> = topics.iter().map(|of| self.names.target(of.topic)).collect();
        let (found, _) = self.target.existing_ids(&targets).await?;
        for of in topics {
            if let Some(id) = found.get(&self.names.target(of.topic)) {
                self.ids.note(of.topic, id.clone());
            }
        }
        Ok(())
    }

    /// Looks whether the target topics are still those that the run writes to, and notes the ids that the brokers did not list
    /// before; returns the topics that do not exist.
    ///
    /// # Errors
    /// When one was created again, or its id was known and it does not exist; when that cannot be found out. What one broker lists is
    /// confirmed first: it may be late.
    pub(crate) async fn check_targets(&self) -> Result<Vec<Topic>, ReplicationError> {
        let sources: Vec<Topic> = self.sources().iter().copied().collect();
        let known: Vec<_> = sources.iter().map(|source| (self.names.target(*source), self.ids.get(*source))).collect();
        let TopicLook { missing, new_ids, change } = self.target.look_at(&known).await?;
        for (topic, id) in new_ids {
            let noted = sources.iter().filter(|source| self.names.target(**source) == topic);
            noted.for_each(|source| self.ids.note(*source, id.clone()));
        }
        let section = || self.target.section().to_owned();
        match change {
            None => Ok(missing),
            Some(TopicChange::Recreated { topic, old, new }) => {
                Err(ReplicationError::TargetRecreated { topic, section: section(), old, new })
            }
            Some(TopicChange::Deleted(topics)) => Err(ReplicationError::TargetsDeleted { topics, section: section() }),
        }
    }

    /// Returns whether the target of `source`, which had the id `before`, was deleted and created again since; else the broker that
    /// lists another id is late, and the id is noted.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(crate) async fn is_replaced(&self, source: Topic, before: &str) -> Result<bool, ReplicationError> {
        let is_replaced = self.target.is_replaced(self.names.target(source), before).await?;
        if !is_replaced {
            self.ids.correct(source, before.to_owned());
        }
        Ok(is_replaced)
    }

    /// Returns whether the ids of all target topics are known; never on brokers without ids.
    pub(crate) fn knows_all_ids(&self) -> bool {
        self.sources().iter().all(|source| self.ids.knows(*source))
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, BTreeSet<Topic>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn missing_of(&self, topic: &TopicInfo) -> Result<Option<MissingTarget>, ReplicationError> {
        let name = self.names.valid_target(topic.topic)?;
        let Some(existing) = self.target.find_topic(name.name()).await? else {
            return Ok(Some(MissingTarget::Topic(self.topic_plan(topic, name).await?)));
        };
        self.target.load_topic_limits(name, &self.limits).await?;
        self.lock().insert(name, existing.partitions);
        let too_few = existing.partitions < topic.partitions && !self.repartition;
        Ok(too_few.then_some(MissingTarget::Partitions { topic: name, has: existing.partitions, needs: topic.partitions }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, i32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the plan of a target topic with the partitions and the non-default settings of the source topic.
    async fn topic_plan(&self, topic: &TopicInfo, name: Topic) -> Result<TopicPlan, ReplicationError> {
        let settings = self.source.settings(topic.topic).await?;
        if settings.is_none() {
            tracing::warn!(
                "{}: not allowed to read its settings (DESCRIBE_CONFIGS on the topic of `{}`): {name} gets the defaults of `{}`",
                topic.topic,
                self.source.section(),
                self.target.section()
            );
        }
        let settings = settings.unwrap_or_default();
        let is_copied = |key: &str| !NOT_COPIED.contains(&key) && !key.starts_with("message.timestamp.");
        let mut config: Vec<_> = settings
            .into_iter()
            .filter(|(key, setting)| setting.own && is_copied(key))
            .map(|(key, setting)| (key, setting.value))
            .collect();
        config.sort();
        Ok(TopicPlan {
            name: name.to_string(),
            partitions: topic.partitions,
            replication: None,
            config,
            optional_config: Vec::new(),
        })
    }

    /// Checks that missing topics may be created. Partitions are never added to a topic that exists when the run starts.
    ///
    /// # Errors
    /// When a missing topic may not or cannot be created.
    pub(crate) fn check_missing(&self, missing: &[MissingTarget]) -> Result<(), ReplicationError> {
        let section = || self.target.section().to_owned();
        for missing in missing {
            match missing {
                MissingTarget::Partitions { topic, has, needs } => {
                    let (topic, has, needs) = (*topic, *has, *needs);
                    return Err(ReplicationError::TooFewPartitions { topic, section: section(), has, needs });
                }
                MissingTarget::Topic(TopicPlan { name, partitions, .. }) if !self.may_create => {
                    let (topic, partitions) = (name.clone(), *partitions);
                    return Err(ReplicationError::MissingTopic { topic, section: section(), partitions });
                }
                MissingTarget::Topic(TopicPlan { name, .. }) => self.target.check_creatable(name)?,
            }
        }
        Ok(())
    }

    /// Creates the topics that the target lacks.
    ///
    /// # Errors
    /// When something may not be created, or the cluster refuses.
    pub(crate) async fn create(&self, topics: &[TopicInfo], missing: &[MissingTarget]) -> Result<(), ReplicationError> {
        self.check_missing(missing)?;
        for missing in missing {
            if let MissingTarget::Topic(plan) = missing {
                self.target.create_topic(plan).await?;
            }
        }
        if !missing.is_empty() {
            self.missing(topics).await?; // loads the limits of the new topics
        }
        Ok(())
    }

    /// Returns for each planned partition whose target partition holds records: a target partition and its number of records.
    ///
    /// # Errors
    /// When the target does not answer.
    pub(crate) async fn held(&self, plan: &ReadPlan) -> Result<HashMap<Partition, (Partition, i64)>, ReplicationError> {
        let target = |partition: Partition| Partition { topic: self.names.target(partition.topic), ..partition };
        let known = self.lock().clone();
        let asked: Vec<Partition> = if self.repartition {
            let all =
                |(topic, count): (&Topic, &i32)| (0..*count).map(|index| Partition { topic: *topic, index }).collect::<Vec<_>>();
            known.iter().flat_map(all).collect()
        } else {
            let exists = |partition: &Partition| known.get(&partition.topic).is_some_and(|count| partition.index < *count);
            plan.partitions.iter().map(|planned| target(planned.partition)).filter(exists).collect()
        };
        let (low, end) = (self.target.ends(&asked, OffsetSpec::Start).await?, self.target.ends(&asked, OffsetSpec::Log).await?);
        let records = |partition: &Partition| end[partition] - low[partition];
        let held = |target: Partition| {
            let candidate = |asked: &&Partition| {
                if self.repartition { asked.topic == target.topic } else { **asked == target }
            };
            let first = asked.iter().filter(candidate).find(|asked| records(asked) > 0)?;
            Some((*first, records(first)))
        };
        Ok(plan.partitions.iter().filter_map(|planned| Some((planned.partition, held(target(planned.partition))?))).collect())
    }

    /// Returns the route of each record to its target partition.
    pub(crate) fn route(self: &Arc<Self>) -> Route {
        let sync = Arc::clone(self);
        // Records come in runs of one topic: one lookup per run.
        let last: Mutex<Option<(Topic, Topic, i32)>> = Mutex::new(None);
        Box::new(move |record| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let (_, name, count) = match *last {
                Some(known) if known.0 == record.partition.topic => known,
                _ => {
                    let name = sync.names.target(record.partition.topic);
                    let count = sync.lock().get(&name).copied().unwrap_or(1);
                    *last.insert((record.partition.topic, name, count))
                }
            };
            let index = if sync.repartition { partition_by_key(record, count) } else { record.partition.index };
            (name, Some(index))
        })
    }

    /// Creates the target topics and partitions of source partitions that appeared during the run.
    ///
    /// # Errors
    /// When something may not be created, or a cluster does not answer.
    pub(crate) async fn prepare(&self, partitions: &[Partition]) -> Result<(), ReplicationError> {
        let mut needs: HashMap<Topic, i32> = HashMap::new();
        for partition in partitions {
            let count = needs.entry(partition.topic).or_default();
            *count = (*count).max(partition.index + 1);
        }
        for (topic, count) in needs {
            let known = self.lock().get(&self.names.target(topic)).copied();
            if known.is_some_and(|known| known >= count || self.repartition) {
                continue;
            }
            let source = self.source.topic(topic.name()).await?;
            let topic = source.unwrap_or(TopicInfo { topic, partitions: count });
            self.check_loops(std::slice::from_ref(&topic))?;
            match self.missing_of(&topic).await? {
                None => {}
                Some(MissingTarget::Partitions { topic, has, needs }) if self.may_create => {
                    tracing::info!(%topic, has, needs, "The source has more partitions now: adding them to the target topic.");
                    self.target.create_partitions(topic, needs).await?;
                    self.lock().insert(topic, needs);
                }
                Some(missing) => {
                    tracing::info!("{missing}");
                    self.create(std::slice::from_ref(&topic), &[missing]).await?;
                }
            }
            self.note_ids(&[topic]).await?;
        }
        Ok(())
    }
}

/// Returns a source topic and its target topic if the target topic is read too.
fn find_loop(topics: &[Topic], names: &TopicNames, reads: impl Fn(&str) -> bool) -> Option<(Topic, Topic)> {
    let pairs = topics.iter().map(|topic| (*topic, names.target(*topic)));
    pairs.into_iter().find(|(_, target)| topics.contains(target) || reads(target.name()))
}

/// Returns the partition that the key chooses. Records without a key keep their order: the source partition chooses.
fn partition_by_key(record: &Record, partitions: i32) -> i32 {
    record.key.as_ref().map_or(record.partition.index % partitions.max(1), |key| partition_of(key, partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_topic_that_the_run_reads_is_a_loop() {
        let orders = Topic::named("orders");
        let shops = |name: &str| name.starts_with("shop.");
        let found = |topics: &[&str], names: TopicNames, reads: fn(&str) -> bool| {
            let topics: Vec<_> = topics.iter().map(|name| Topic::named(name)).collect();
            find_loop(&topics, &names, reads).map(|(topic, target)| format!("{topic} -> {target}"))
        };
        assert_eq!(find_loop(&[orders], &TopicNames::same(), |_| false), Some((orders, orders)));
        assert_eq!(found(&["orders"], TopicNames::prefixed("c."), |_| false), None);
        assert_eq!(found(&["shop.a"], TopicNames::template("{topic}.copy"), shops).as_deref(), Some("shop.a -> shop.a.copy"));
        assert_eq!(found(&["shop.a"], TopicNames::prefixed("c."), shops), None);
        assert_eq!(
            found(&["a", "c.a"], TopicNames::prefixed("c."), |_| false).as_deref(),
            Some("a -> c.a"),
            "named topics are read too"
        );
    }
}
