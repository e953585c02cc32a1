//! Where letters are replayed to.

use crate::commands::Context;
use crate::commands::args::{DeliveryArgs, KAFKA_DEFAULTS, NewTopic};
use crate::commands::dlq::reading::earlier_letters;
use crate::commands::session::{FlowNames, FlowTarget, Replay, Session};
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{protect, sink_es, sink_mongo};
use crate::connectors::kafka::{
    Admin, KafkaSink, ProducerOptions, ReadPlan, Route, Targets, TopicInfo, WatchedTopic, partition_of,
};
use crate::dlq::{LetterStats, SinkFlow};
use crate::error::Error;
use crate::pipeline::{Refused, Transform, WatchedSink};
use crate::profile::KafkaSection;
use crate::record::Topic;
use crate::report::counted;

/// The value of `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplayTarget {
    /// Without a section: of the letters' cluster.
    Topic {
        section: Option<String>,
        name: String,
    },
    Mongo,
    Elastic,
}

pub(super) fn parse_to(text: &str) -> Result<ReplayTarget, String> {
    let wrong = || "use topic:SECTION/NAME, mongo or es".to_owned();
    match text {
        "mongo" => return Ok(ReplayTarget::Mongo),
        "es" => return Ok(ReplayTarget::Elastic),
        _ => {}
    }
    let name = text.strip_prefix("topic:").ok_or_else(wrong)?;
    let (section, name) = name.split_once('/').map_or((None, name), |(section, name)| (Some(section.to_owned()), name));
    if Topic::is_valid_name(name) { Ok(ReplayTarget::Topic { section, name: name.to_owned() }) } else { Err(wrong()) }
}

/// A destination whose section and names are known.
pub(super) enum ReplayDestination {
    Topic { section: Box<KafkaSection>, name: String },
    Mongo { section: String, collection: sink_mongo::CollectionArgs, shown: String },
    Elastic { section: String, index: sink_es::IndexArgs, shown: String },
}

impl ReplayDestination {
    /// Returns the destination in the name of the group: one that reads the same letters for another destination is another group.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Topic { section, name } => format!("topic:{}/{name}", section.name),
            Self::Mongo { shown, .. } | Self::Elastic { shown, .. } => shown.clone(),
        }
    }
}

/// The most flows that a refusal names.
const MAX_FLOWS_SHOWN: usize = 10;

/// Returns the destination that the letters name: the sink of a flow.
///
/// # Errors
/// When they name none, or several.
pub(super) fn flow_of(stats: &LetterStats) -> Result<SinkFlow, Error> {
    let mut numbers: Vec<String> = stats
        .flows
        .iter()
        .take(MAX_FLOWS_SHOWN)
        .map(|(flow, count)| format!("{} of `{flow}`", counted(*count, "letter")))
        .collect();
    if stats.flows.len() > MAX_FLOWS_SHOWN {
        numbers.push(format!("and {} more flows", stats.flows.len() - MAX_FLOWS_SHOWN));
    }
    let flows: Vec<SinkFlow> = stats.flows.keys().filter_map(|flow| SinkFlow::parse(flow)).collect();
    let named: u64 = stats.flows.values().sum();
    match flows.as_slice() {
        [flow] if stats.flows.len() == 1 && named == stats.letters => Ok(flow.clone()),
        _ => {
            let hint = match stats.flows.keys().next().and_then(|flow| flow.strip_prefix("replicate ")) {
                Some(target) if stats.flows.len() == 1 => format!("name it, for example --to topic:{target}"),
                _ if numbers.is_empty() => "name it with --to topic:SECTION/NAME, --to mongo or --to es".to_owned(),
                _ => "name it with --to topic:SECTION/NAME, --to mongo or --to es, or select the letters of one sink".to_owned(),
            };
            let what = "the dead letters do not name one sink as their destination".to_owned();
            Err(Error::Refused(Refused { what, numbers, hint }))
        }
    }
}

/// The records of the topic: the letters are where they were.
const REPLAYED: LostContent = LostContent {
    missing: "",
    what: "the records that were replayed into it",
    hint: "replay the dead letters once more with --start beginning, or go on without these records",
};

/// A topic, while the command starts.
struct ReplayedTopic<'a> {
    names: FlowNames,
    section: &'a KafkaSection,
    topic: Topic,
    options: &'a ProducerOptions,
    admin: &'a Admin,
    /// What is created, if the topic is missing.
    create: Option<NewTopic>,
    limits: &'a Targets,
}

impl FlowTarget for ReplayedTopic<'_> {
    fn names(&self) -> &FlowNames {
        &self.names
    }

    async fn plan(&mut self, _: &ReadPlan) -> Result<Vec<String>, Error> {
        let created = self.create.map_or_else(String::new, |create| format!(", which {}", create.line()));
        Ok(vec![format!("writes to topic {} on {}{created}", self.topic, self.section.name)])
    }

    fn topics(&self) -> Vec<Topic> {
        vec![self.topic]
    }

    fn cluster(&self) -> Option<&KafkaSection> {
        Some(self.section)
    }

    fn check_client(&self) -> Result<(), Error> {
        Ok(KafkaSink::check_client(self.section, self.options)?)
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        if let Some(create) = self.create {
            create.create(self.admin, self.topic).await?;
            self.admin.load_topic_limits(self.topic, self.limits).await?;
        }
        Ok(())
    }
}

/// The letters of records that come from the topic which they are replayed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returning {
    pub(super) letters: u64,
    /// Those that have a later letter, which is replayed in their place.
    pub(super) earlier: u64,
}

impl Returning {
    /// Returns what returns: "10 records".
    fn records(self) -> String {
        let records = counted(self.letters - self.earlier, "record");
        match self.earlier {
            0 => records,
            earlier => format!("{records} of {} ({})", counted(self.letters, "dead letter"), earlier_letters(earlier)),
        }
    }
}

/// Replays letters into the topic `name`, which is created by `create` if it is missing. `returning` come from a topic of this name.
///
/// # Errors
/// When the run fails, or the return to the topic that the letters come from is not confirmed.
pub(super) async fn replay_to_topic(
    context: &Context,
    session: Session<'_>,
    (to, name, create): (&KafkaSection, &str, Option<NewTopic>),
    replay: &Replay,
    returning: Returning,
    delivery: &DeliveryArgs,
    (transform, count, dry_run): (Option<Transform>, Option<u64>, bool),
) -> Result<(), Error> {
    let admin = Admin::connect(to, delivery.failure.wait).await?;
    let topic = Topic::named(name);
    let existing = admin.find_topic(name).await?;
    let create = NewTopic::plan(create, &admin, topic, existing.as_ref()).await?;
    let is_same_cluster = admin.cluster_id() == session.admin.cluster_id();
    if is_same_cluster && session.topics.iter().any(|letters| letters.topic == topic) {
        let what = format!("dead letters cannot be replayed into their own topic `{name}`");
        return Err(Error::Usage { what, hint: "name another topic with --to".to_owned() });
    }
    if is_same_cluster && returning.letters > 0 && !dry_run {
        let what = format!("send {} back to topic `{name}`, which they come from", returning.records());
        protect::confirm_step(context, &to.name, &what)?;
    }
    let targets = Targets::default();
    if create.is_none() {
        admin.load_topic_limits(topic, &targets).await?;
    }
    let partitions = existing.map_or_else(|| create.map_or(1, |create| create.partitions), |topic| topic.partitions);
    let options =
        ProducerOptions { compression: "lz4".to_owned(), linger: delivery.linger(&KAFKA_DEFAULTS), keep_timestamps: false };
    let names = FlowNames::new(&to.name, name);
    let mut target = ReplayedTopic { names, section: to, topic, options: &options, admin: &admin, create, limits: &targets };
    let Some(session) = session.replaying(Some(replay)).start(&mut target).await? else { return Ok(()) };
    let limits = delivery.limits(&KAFKA_DEFAULTS, count);
    let sink = KafkaSink::open(to, &options, targets, route(&TopicInfo { topic, partitions }))?;
    let watcher = watch_topic(WatchedTopic::new(admin, topic), sink.watch(), REPLAYED, || false);
    let source_limits = delivery.source_limits(&limits);
    Box::pin(session.run(WatchedSink::new(sink, watcher), transform, limits, &source_limits)).await
}

/// Returns where a record goes: in its own topic to its own partition, in another to the partition of its key, as Java clients do.
fn route(target: &TopicInfo) -> Route {
    let TopicInfo { topic, partitions } = *target;
    Box::new(move |record| {
        let own = record.partition;
        let is_own = own.topic == topic && own.index < partitions;
        let index = if is_own { Some(own.index) } else { record.key.as_deref().map(|key| partition_of(key, partitions)) };
        (topic, index)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{Partition, Record};

    #[test]
    fn a_destination_is_a_topic_or_a_sink() {
        let topic =
            |section: Option<&str>| Ok(ReplayTarget::Topic { section: section.map(str::to_owned), name: "orders".to_owned() });
        assert_eq!(parse_to("topic:local_kafka/orders"), topic(Some("local_kafka")));
        assert_eq!(parse_to("topic:orders"), topic(None));
        assert_eq!((parse_to("mongo"), parse_to("es")), (Ok(ReplayTarget::Mongo), Ok(ReplayTarget::Elastic)));
        for wrong in ["", "orders", "topic:", "topic:a/", "topic:a/b/c", "file:x"] {
            assert!(parse_to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_record_keeps_its_partition_in_its_own_topic_and_follows_its_key_in_another() {
        let record = |topic: &str, index, key: Option<&'static [u8]>| Record {
            partition: Partition::new(topic, index),
            offset: 0,
            timestamp: None,
            key: key.map(Bytes::from_static),
            value: None,
            headers: Vec::new(),
        };
        let orders = Topic::named("orders");
        let route = route(&TopicInfo { topic: orders, partitions: 4 });
        assert_eq!(route(&record("orders", 3, Some(b"k"))), (orders, Some(3)));
        let of_key = partition_of(b"k", 4);
        assert_eq!(route(&record("orders", 4, Some(b"k"))), (orders, Some(of_key)), "a partition that is not there");
        assert_eq!(route(&record("shop-orders", 3, Some(b"k"))), (orders, Some(of_key)));
        assert_eq!(route(&record("shop-orders", 3, None)), (orders, None));
    }
}
