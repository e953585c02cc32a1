//! The topics of the target: what they are called, whether they are there, and what is to be made.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::commands::args::ReadArgs;
use crate::connectors::kafka::{Admin, OffsetSpec, PrepareTargets, ReadPlan, Route, Targets, TopicInfo, TopicPlan};
use crate::error::Error;
use crate::pipeline::{ConnectorError, Failure, Refused, Transform, TransformResult};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record, Topic};

/// What the topics of the target are called.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "What the target topics are called")]
#[group(multiple = false)]
pub(super) struct TopicNaming {
    /// This name, for a single topic
    #[arg(long, value_name = "NAME")]
    to_topic: Option<String>,
    /// The same name with this in front
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// A name made from the source's: `{topic}` stands for it
    #[arg(long, value_name = "TEMPLATE")]
    rename: Option<String>,
}

impl TopicNaming {
    /// Fills in what the profile says when no flag does, and checks that the names can be told apart.
    pub(super) fn or_default(mut self, select: &ReadArgs, target: &KafkaSection) -> Result<Self, Error> {
        let named = self.to_topic.is_some() || self.prefix.is_some() || self.rename.is_some();
        if !named && select.topics.names.is_empty() && select.topics.topics_matching.is_none() {
            self.to_topic.clone_from(&target.default_producer_topic);
        }
        let several = select.topics.names.len() > 1 || select.topics.topics_matching.is_some();
        let fixed = self.to_topic.is_some() || self.rename.as_ref().is_some_and(|template| !template.contains("{topic}"));
        if several && fixed {
            return Err(Error::Usage {
                what: "several topics cannot be written to one name".to_owned(),
                hint: "give each a name of its own with --prefix TEXT or --rename '{topic}-copy'".to_owned(),
            });
        }
        Ok(self)
    }

    /// Returns the name with `{topic}` for the source's.
    pub(super) fn pattern(&self) -> String {
        match (&self.to_topic, &self.prefix, &self.rename) {
            (Some(name), _, _) => name.clone(),
            (_, Some(prefix), _) => format!("{prefix}{{topic}}"),
            (_, _, Some(template)) => template.clone(),
            _ => "{topic}".to_owned(),
        }
    }

    fn name(&self, topic: Topic) -> Topic {
        Topic::named(&self.pattern().replace("{topic}", topic.name()))
    }
}

/// Settings that belong to a cluster rather than to a topic; MirrorMaker leaves them out too.
const NOT_COPIED: [&str; 6] = [
    "min.insync.replicas",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "unclean.leader.election.enable",
    "remote.storage.enable",
    "remote.log.copy.disable",
];

/// The target's side of a replication.
pub(super) struct Replica {
    source: Admin,
    target: Admin,
    naming: TopicNaming,
    create: bool,
    repartition: bool,
    targets: Targets,
    /// How many partitions each topic of the target has.
    partitions: Mutex<HashMap<Topic, i32>>,
}

/// What the target lacks.
#[derive(Clone, Debug)]
pub(super) enum MissingTarget {
    /// A topic.
    Topic(TopicPlan),
    /// Partitions of a topic that is there: how many there are, and how many there must be.
    Partitions { topic: Topic, has: i32, needs: i32 },
}

impl fmt::Display for MissingTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(TopicPlan { name, partitions, config, .. }) => {
                write!(f, "{name}: will be created with {partitions} partitions")?;
                config.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))
            }
            Self::Partitions { topic, has, needs } => write!(f, "{topic}: has {has} partitions, the source has {needs}"),
        }
    }
}

impl Replica {
    pub(super) fn new(source: Admin, target: Admin, naming: TopicNaming, create: bool, repartition: bool) -> Self {
        let (targets, partitions) = (Targets::default(), Mutex::default());
        Self { source, target, naming, create, repartition, targets, partitions }
    }

    pub(super) fn targets(&self) -> Targets {
        Arc::clone(&self.targets)
    }

    /// Returns the target's name with `{topic}` for the source's.
    pub(super) fn pattern(&self) -> String {
        self.naming.pattern()
    }

    /// Returns the names in the target.
    pub(super) fn names(&self, topics: &[TopicInfo]) -> Vec<String> {
        topics.iter().map(|topic| self.naming.name(topic.topic).to_string()).collect()
    }

    /// Refuses to write a topic into itself.
    pub(super) fn refuse_loops(&self, topics: &[TopicInfo]) -> Result<(), Error> {
        let (from, to) = (self.source.cluster_id(), self.target.cluster_id());
        let itself = topics.iter().find(|topic| from == to && self.naming.name(topic.topic) == topic.topic);
        let Some(itself) = itself else { return Ok(()) };
        Err(Error::Refused(Refused {
            what: format!("topic `{}` would be written into itself without end", itself.topic),
            numbers: vec![format!("`{}` and `{}` are the same cluster: {from}", self.source.section(), self.target.section())],
            hint: "name another section with --target, or another topic with --to-topic".to_owned(),
        }))
    }

    /// Looks for what the target lacks, and learns what it takes in what is there.
    pub(super) async fn lacking(&self, topics: &[TopicInfo]) -> Result<Vec<MissingTarget>, Error> {
        let mut lacking = Vec::new();
        for topic in topics {
            lacking.extend(self.look(topic).await?);
        }
        Ok(lacking)
    }

    async fn look(&self, topic: &TopicInfo) -> Result<Option<MissingTarget>, Error> {
        let name = self.naming.name(topic.topic);
        check_name(name.name())?;
        let Some(there) = self.target.topic(name.name()).await? else {
            return Ok(Some(MissingTarget::Topic(self.plan(topic, name).await?)));
        };
        self.target.load_topic_limits(name, &self.targets).await?;
        self.lock().insert(name, there.partitions);
        let too_few = there.partitions < topic.partitions && !self.repartition;
        Ok(too_few.then_some(MissingTarget::Partitions { topic: name, has: there.partitions, needs: topic.partitions }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, i32>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how the topic is to be made: with the source's partitions and own settings.
    async fn plan(&self, topic: &TopicInfo, name: Topic) -> Result<TopicPlan, Error> {
        let settings = self.source.settings(topic.topic).await?;
        let is_copied = |key: &str| !NOT_COPIED.contains(&key) && !key.starts_with("message.timestamp.");
        let mut config: Vec<_> = settings
            .into_iter()
            .filter(|(key, setting)| setting.own && is_copied(key))
            .map(|(key, setting)| (key, setting.value))
            .collect();
        config.sort();
        Ok(TopicPlan { name: name.to_string(), partitions: topic.partitions, replication: None, config })
    }

    /// Refuses what is not to be made: topics with `--no-create`, and more partitions for a topic that is there.
    pub(super) fn refuse(&self, lacking: &[MissingTarget]) -> Result<(), Error> {
        for lack in lacking {
            match lack {
                MissingTarget::Partitions { topic, has, needs } => {
                    return Err(Error::Refused(Refused {
                        what: format!("topic `{topic}` on `{}` has fewer partitions than the source", self.target.section()),
                        numbers: vec![format!("source {needs}, target {has}")],
                        hint: "add partitions to it, or let keys choose the partition with --repartition".to_owned(),
                    }));
                }
                MissingTarget::Topic(plan) if !self.create => {
                    return Err(Error::Refused(Refused {
                        what: format!(
                            "topic `{}` is not on `{}`, and may not be created (--no-create)",
                            plan.name,
                            self.target.section()
                        ),
                        numbers: vec![format!("the source has it with {} partitions", plan.partitions)],
                        hint: "create it, or leave --no-create out".to_owned(),
                    }));
                }
                MissingTarget::Topic(_) => {}
            }
        }
        Ok(())
    }

    /// Makes the topics that the target lacks.
    pub(super) async fn prepare(&self, topics: &[TopicInfo], lacking: &[MissingTarget]) -> Result<(), Error> {
        self.refuse(lacking)?;
        for lack in lacking {
            if let MissingTarget::Topic(plan) = lack {
                self.target.create_topic(plan).await?;
            }
        }
        if !lacking.is_empty() {
            self.lacking(topics).await?; // learns what the new topics take
        }
        Ok(())
    }

    /// Returns for each planned partition whose counterpart holds records: its name and how many.
    pub(super) async fn held(&self, plan: &ReadPlan) -> Result<HashMap<Partition, (String, i64)>, Error> {
        let counterpart = |partition: Partition| Partition { topic: self.naming.name(partition.topic), ..partition };
        let known = self.lock().clone();
        let asked: Vec<Partition> = if self.repartition {
            let all =
                |(topic, count): (&Topic, &i32)| (0..*count).map(|index| Partition { topic: *topic, index }).collect::<Vec<_>>();
            known.iter().flat_map(all).collect()
        } else {
            let is_there = |partition: &Partition| known.get(&partition.topic).is_some_and(|count| partition.index < *count);
            plan.partitions.iter().map(|planned| counterpart(planned.partition)).filter(is_there).collect()
        };
        let (low, end) = (self.target.ends(&asked, OffsetSpec::Start).await?, self.target.ends(&asked, OffsetSpec::Log).await?);
        let records = |partition: &Partition| end.get(partition).unwrap_or(&0) - low.get(partition).unwrap_or(&0);
        let held = |target: Partition| {
            let full: Vec<_> = if self.repartition {
                asked.iter().filter(|asked| asked.topic == target.topic && records(asked) > 0).copied().collect()
            } else {
                [target].into_iter().filter(|target| records(target) > 0).collect()
            };
            full.first().map(|first| (first.to_string(), records(first)))
        };
        let of = |partition: Partition| Some((partition, held(counterpart(partition))?));
        Ok(plan.partitions.iter().filter_map(|planned| of(planned.partition)).collect())
    }

    /// Returns where each record goes.
    pub(super) fn route(self: &Arc<Self>) -> Route {
        let replica = Arc::clone(self);
        // Records come in runs of one topic: its target is looked up once for each.
        let last: Mutex<Option<(Topic, Topic, i32)>> = Mutex::new(None);
        Box::new(move |record| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let (_, name, count) = match *last {
                Some(known) if known.0 == record.partition.topic => known,
                _ => {
                    let name = replica.naming.name(record.partition.topic);
                    let count = replica.lock().get(&name).copied().unwrap_or(1);
                    *last.insert((record.partition.topic, name, count))
                }
            };
            let index = if replica.repartition { super::by_key(record, count) } else { record.partition.index };
            (name, Some(index))
        })
    }

    /// Returns the callback for newly assigned partitions: topics and partitions that appear during the run are created in the
    /// target too.
    pub(super) fn prepare_targets(self: &Arc<Self>) -> PrepareTargets {
        let replica = Arc::clone(self);
        Box::new(move |partitions| {
            let replica = Arc::clone(&replica);
            Box::pin(async move { replica.follow(&partitions).await })
        })
    }

    async fn follow(&self, partitions: &[Partition]) -> Result<(), ConnectorError> {
        let mut needs: HashMap<Topic, i32> = HashMap::new();
        for partition in partitions {
            let count = needs.entry(partition.topic).or_default();
            *count = (*count).max(partition.index + 1);
        }
        for (topic, count) in needs {
            let name = self.naming.name(topic);
            let known = self.lock().get(&name).copied();
            if known.is_some_and(|known| known >= count || self.repartition) {
                continue;
            }
            let source = self.source.topic(topic.name()).await?;
            let topic = source.unwrap_or(TopicInfo { topic, partitions: count });
            let failed = |error: Error| match error {
                Error::Refused(refused) => ConnectorError::Refused(refused),
                Error::Failed(failure) => failure.into(),
                other => Failure::new(other.to_string()).into(),
            };
            match self.look(&topic).await.map_err(failed)? {
                None => {}
                Some(MissingTarget::Partitions { topic, has, needs }) if self.create => {
                    tracing::info!(%topic, has, needs, "The source has more partitions now; the target gets them too.");
                    self.target.create_partitions(topic, needs).await?;
                    self.lock().insert(topic, needs);
                }
                Some(lack) => {
                    tracing::info!("{lack}");
                    self.prepare(&[topic], &[lack]).await.map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses a name that Kafka does not take.
fn check_name(name: &str) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal) {
        return Ok(());
    }
    Err(Error::Usage {
        what: format!("`{}` is no name for a Kafka topic", name.escape_debug()),
        hint: "use up to 249 letters, digits, dots, underscores and dashes".to_owned(),
    })
}

/// The header that says where a record came from.
const ORIGIN: &str = "sdl-origin";

/// Returns what marks records with their origin and leaves out those that come from the target.
pub(super) fn origin(source: String, target: &str) -> Transform {
    let home = format!("{target}/");
    Box::new(move |record: &mut Record| {
        let marked = record.headers.iter().find(|(name, _)| name == ORIGIN).and_then(|(_, value)| value.as_ref());
        match marked {
            Some(origin) if origin.starts_with(home.as_bytes()) => return TransformResult::Filtered,
            Some(_) => {}
            None => {
                let origin = format!("{source}/{}/{}/{}", record.partition.topic, record.partition.index, record.offset);
                record.headers.push((Bytes::from_static(ORIGIN.as_bytes()), Some(origin.into())));
            }
        }
        TransformResult::Keep
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[&'static str]) -> Record {
        let header = |value: &&'static str| (Bytes::from_static(ORIGIN.as_bytes()), Some(Bytes::from_static(value.as_bytes())));
        Record {
            partition: Partition::new("orders", 3),
            offset: 7,
            timestamp: None,
            key: None,
            value: None,
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn a_record_is_marked_once_and_does_not_return_home() {
        let mark = origin("east".to_owned(), "west");
        let mut fresh = record(&[]);
        assert_eq!(mark(&mut fresh), TransformResult::Keep);
        assert_eq!(fresh.headers, record(&["east/orders/3/7"]).headers);
        assert_eq!(mark(&mut record(&["west/orders/0/1"])), TransformResult::Filtered);
        let mut third = record(&["north/orders/0/1"]);
        assert_eq!(mark(&mut third), TransformResult::Keep);
        assert_eq!(third.headers, record(&["north/orders/0/1"]).headers);
        assert_eq!(mark(&mut record(&["western/orders/0/1"])), TransformResult::Keep, "another cluster's id begins alike");
    }

    #[test]
    fn names_are_made_as_asked() {
        let topic = Topic::named("orders");
        let naming = |to: Option<&str>, prefix: Option<&str>, rename: Option<&str>| TopicNaming {
            to_topic: to.map(Into::into),
            prefix: prefix.map(Into::into),
            rename: rename.map(Into::into),
        };
        for (naming, name) in [
            (naming(None, None, None), "orders"),
            (naming(Some("x"), None, None), "x"),
            (naming(None, Some("eu."), None), "eu.orders"),
            (naming(None, None, Some("{topic}-copy")), "orders-copy"),
        ] {
            assert_eq!(naming.name(topic).name(), name);
        }
        assert!(check_name("eu.orders_1-x").is_ok());
        for name in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
