//! Groups that are on another cluster of the profile than the one that was asked.

use std::time::Duration;

use futures_util::future::join_all;

use crate::commands::Context;
use crate::connectors::kafka::Admin;
use crate::offsets::committed;
use crate::profile::{KafkaSection, SectionKind};
use crate::record::Partition;

/// How long a look at another cluster may take: it only improves a hint.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns the first of the profile's other Kafka sections on whose cluster the group has committed offsets.
pub(super) async fn section_of(context: &Context, group: &str, asked: &str) -> Option<String> {
    let has = async |section: KafkaSection| {
        let is_there = tokio::time::timeout(LOOK_TIMEOUT, has_committed(&section, group)).await;
        is_there.is_ok_and(|found| found == Some(true)).then_some(section.name)
    };
    join_all(others(context, asked).into_iter().map(has)).await.into_iter().flatten().next()
}

/// Returns the profile's Kafka sections for other brokers than those of `asked`, as far as they can be used.
pub(super) fn others(context: &Context, asked: &str) -> Vec<KafkaSection> {
    let servers = context.profile.kafka(asked).map(|section| section.servers).unwrap_or_default();
    let names = context.profile.names_of(SectionKind::Kafka).filter(|name| *name != asked);
    let sections = names.filter_map(|name| context.profile.kafka(name).ok());
    sections.filter(|section| section.servers != servers).collect()
}

/// Returns whether the group has committed offsets; `None` if the cluster does not say.
async fn has_committed(section: &KafkaSection, group: &str) -> Option<bool> {
    let admin = Admin::connect(section, LOOK_TIMEOUT).await.ok()?;
    let topics = admin.topics().await.ok()?;
    let every = topics.into_iter().flat_map(|topic| (0..topic.partitions).map(move |index| (topic.topic, index)));
    let every: Vec<Partition> = every.map(|(topic, index)| Partition { topic, index }).collect();
    let positions = committed(&admin, &[group.to_owned()], &every).await.ok()?;
    Some(positions.values().flatten().any(|committed| !committed.is_empty()))
}

/// Returns the hint that names the section, with the flag that chooses it.
pub(super) fn hint(group: &str, section: &str, flag: &str) -> String {
    format!("group `{group}` is on `{section}`: {flag} {section}")
}
