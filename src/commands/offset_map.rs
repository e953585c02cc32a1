//! The offset map of `replicate`: its flag, its topic, and its start.

use crate::connectors::kafka::{Admin, TOPIC_NAME_RULE, TopicInfo, TopicPlan};
use crate::error::Error;
use crate::record::Topic;
use crate::replication::MAP_TOPIC;

/// The value of the flag that leaves the map out.
const OFF: &str = "off";
/// Of the topic that is created.
const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
const MAX_REPLICAS: usize = 3;

/// Which topic has the map.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OffsetMapArgs {
    /// Topic of the target that keeps where each offset was copied to, for `sdl offsets translate`; `off` for none
    #[arg(long, value_name = "TOPIC", default_value = MAP_TOPIC, value_parser = parse_map_topic)]
    offset_map: String,
}

pub(crate) fn parse_map_topic(name: &str) -> Result<String, String> {
    if Topic::is_valid_name(name) { Ok(name.to_owned()) } else { Err(format!("not a valid topic name: {TOPIC_NAME_RULE}")) }
}

/// The topic of the map during the start.
#[derive(Clone, Debug)]
pub(crate) enum MapTopic {
    /// The copy keeps no map.
    None,
    Exists(TopicInfo),
    Missing(Topic),
}

impl OffsetMapArgs {
    pub(crate) fn is_off(&self) -> bool {
        self.offset_map == OFF
    }

    pub(crate) fn topic(&self) -> Topic {
        Topic::named(&self.offset_map)
    }

    /// Looks for the topic; `may_create` says whether topics may be created.
    pub(crate) async fn look_up(&self, target: &Admin, may_create: bool) -> MapTopic {
        if self.is_off() {
            return MapTopic::None;
        }
        let (topic, section) = (self.topic(), target.section());
        match target.find_topic(topic.name()).await {
            Ok(Some(found)) => {
                warn_unless_compacted(target, topic).await;
                MapTopic::Exists(found)
            }
            // They have it if it was created with them.
            Ok(None) if target.is_embedded() => MapTopic::None,
            Ok(None) if may_create => MapTopic::Missing(topic),
            Ok(None) => without_map(&format!("topic `{topic}` does not exist on `{section}`, and may not be created")),
            Err(error) => without_map(&error.to_string()),
        }
    }
}

impl MapTopic {
    /// Returns the line of the plan.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::Missing(topic) => {
                Some(format!("{topic}: will be created with 1 partition, cleanup.policy=compact, for the offset map"))
            }
            Self::None | Self::Exists(_) => None,
        }
    }

    /// Creates the topic if it is missing. Without the right to, the copy goes on without a map.
    pub(crate) async fn create(&mut self, target: &Admin) {
        let Self::Missing(topic) = *self else { return };
        // The copy waits for this topic: it should outlive a broker, as its targets do.
        let replicas = target.broker_count().await.ok().and_then(|brokers| i32::try_from(brokers.clamp(1, MAX_REPLICAS)).ok());
        let plan = TopicPlan {
            name: topic.name().to_owned(),
            partitions: 1,
            replication: replicas,
            config: vec![("cleanup.policy".to_owned(), "compact".to_owned())],
            // Readers read the topic from its beginning, and what is in the last segment is not compacted.
            optional_config: vec![("segment.bytes".to_owned(), SEGMENT_BYTES.to_string())],
        };
        let mut created = target.create_topic(&plan).await;
        if created.is_err() {
            // A policy of the cluster may want another number.
            created = target.create_topic(&TopicPlan { replication: None, ..plan }).await;
        }
        *self = match created {
            Ok(()) => Self::Exists(TopicInfo { topic, partitions: 1 }),
            Err(error) => {
                let (what, causes) = Error::from(error).what_and_causes();
                without_map(&std::iter::once(what).chain(causes).collect::<Vec<_>>().join(": "))
            }
        };
    }

    /// Returns the topic if it exists.
    pub(crate) fn existing(self) -> Option<TopicInfo> {
        if let Self::Exists(found) = self { Some(found) } else { None }
    }
}

/// Warns of a topic whose retention deletes the map of partitions that are not written to.
async fn warn_unless_compacted(target: &Admin, topic: Topic) {
    let Ok(Some(settings)) = target.settings(topic).await else { return };
    let Some(policy) = settings.get("cleanup.policy").map(|policy| policy.value.as_str()) else { return };
    if policy != "compact" {
        let section = target.section();
        tracing::warn!(
            "the offset map `{topic}` on `{section}` has cleanup.policy={policy}: its retention deletes parts of the map; \
             set cleanup.policy=compact"
        );
    }
}

fn without_map(why: &str) -> MapTopic {
    tracing::warn!("the copy keeps no offset map, and `sdl offsets translate` has none: {why}");
    MapTopic::None
}
