//! What the topics of a cluster hold, and which groups read them. Joins no group and commits nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::connectors::kafka::{Admin, Leaders, NextRecord, OffsetSpec};
use crate::pipeline::ConnectorError;
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Deadline of the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The topics of one cluster.
#[derive(Debug)]
pub(crate) struct TopicSurvey {
    pub(crate) section: String,
    /// Whether ACLs may hide topics and groups: the user has logged in.
    pub(crate) has_login: bool,
    /// The chosen topics, by name.
    pub(crate) topics: Vec<TopicSummary>,
    pub(crate) all_topics: Vec<Topic>,
    /// Groups whose offsets or members cannot be read, with the reason.
    pub(crate) unreadable: Vec<(String, String)>,
}

/// What is known of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSummary {
    pub(crate) topic: Topic,
    pub(crate) partitions: usize,
    /// Offsets from the log starts to the log ends of the partitions that answer; absent if none does.
    pub(crate) records: Option<i64>,
    /// The latest timestamp, in milliseconds since the Unix epoch.
    pub(crate) last_record: Option<i64>,
    /// The groups with a committed offset or a member in the topic; absent from embedded brokers, which list none.
    pub(crate) groups: Option<BTreeSet<String>>,
    /// Partitions whose leader does not answer.
    pub(crate) unanswered: usize,
}

/// Offsets of partitions, or why they are unknown.
type KnownOffsets = HashMap<Partition, Result<i64, String>>;

/// Returns the topics that `includes`, and the groups that read them.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn survey_topics(
    section: &KafkaSection,
    includes: impl Fn(&str) -> bool,
) -> Result<TopicSurvey, ConnectorError> {
    let admin = Admin::connect(section, CONNECT_TIMEOUT).await?;
    let leaders = admin.leaders().await?;
    let all_topics = leaders.keys().copied().collect();
    let chosen: Leaders = leaders.into_iter().filter(|(topic, _)| includes(topic.name())).collect();
    let led: Vec<Partition> = chosen.iter().flat_map(|(topic, leaders)| led_partitions(*topic, leaders)).collect();
    let (starts, ends, readers) = tokio::try_join!(
        admin.known_offsets(&led, OffsetSpec::Start),
        admin.known_offsets(&led, OffsetSpec::Log),
        readers(&admin),
    )?;
    let times = last_times(&admin, &led, &starts, &ends).await?;
    let Readers { by_topic, unreadable } = readers;
    let topics = chosen.iter().map(|(topic, leaders)| {
        let groups = by_topic.as_ref().map(|groups| groups.get(topic).cloned().unwrap_or_default());
        summarize(*topic, leaders.len(), groups, (&starts, &ends), &times)
    });
    let topics = topics.collect();
    Ok(TopicSurvey { section: section.name.clone(), has_login: section.has_login(), topics, all_topics, unreadable })
}

fn led_partitions(topic: Topic, leaders: &[bool]) -> impl Iterator<Item = Partition> {
    (0..).zip(leaders).filter(|(_, led)| **led).map(move |(index, _)| Partition { topic, index })
}

/// Returns the time of the last record of each partition that has one and a known time.
async fn last_times(
    admin: &Admin,
    led: &[Partition],
    starts: &KnownOffsets,
    ends: &KnownOffsets,
) -> Result<HashMap<Partition, i64>, ConnectorError> {
    let known = |offsets: &KnownOffsets, partition: &Partition| offsets.get(partition)?.as_ref().ok().copied();
    let holds_records = |partition: &&Partition| known(starts, partition) < known(ends, partition);
    let filled: Vec<Partition> = led.iter().filter(holds_records).copied().collect();
    let mut times = admin.latest_timestamps(&filled).await?;
    // Embedded brokers and old ones do not find the latest timestamp: the record at the end has it, unless it is a marker.
    let unknown = filled.into_iter().filter(|partition| !times.contains_key(partition));
    let ends = unknown.filter_map(|partition| Some((partition, known(ends, &partition)? - 1))).collect();
    for ((partition, _), record) in admin.next_records(ends, true).await? {
        if let NextRecord::At(time) = record {
            times.insert(partition, time);
        }
    }
    Ok(times)
}

/// The groups that read topics.
struct Readers {
    /// Absent from embedded brokers.
    by_topic: Option<BTreeMap<Topic, BTreeSet<String>>>,
    unreadable: Vec<(String, String)>,
}

async fn readers(admin: &Admin) -> Result<Readers, ConnectorError> {
    let Some(names) = admin.group_names().await? else { return Ok(Readers { by_topic: None, unreadable: Vec::new() }) };
    let (groups, mut positions) = tokio::try_join!(admin.groups(&names), admin.positions(&names, None))?;
    let (mut by_topic, mut unreadable) = (BTreeMap::<Topic, BTreeSet<String>>::new(), Vec::new());
    for group in groups {
        let mut read: BTreeSet<Topic> =
            group.members.iter().flatten().flat_map(|member| &member.partitions).map(|partition| partition.topic).collect();
        let mut unknown = group.error;
        match positions.remove(&group.name) {
            Some(Ok(committed)) => read.extend(committed.into_iter().map(|(partition, _)| partition.topic)),
            Some(Err(why)) => unknown = Some(why),
            None => {}
        }
        for topic in read {
            by_topic.entry(topic).or_default().insert(group.name.clone());
        }
        unreadable.extend(unknown.map(|why| (group.name, why)));
    }
    Ok(Readers { by_topic: Some(by_topic), unreadable })
}

fn summarize(
    topic: Topic,
    partitions: usize,
    groups: Option<BTreeSet<String>>,
    (starts, ends): (&KnownOffsets, &KnownOffsets),
    times: &HashMap<Partition, i64>,
) -> TopicSummary {
    let all = || (0..).take(partitions).map(|index| Partition { topic, index });
    let held = |partition: Partition| {
        let of = |offsets: &KnownOffsets| offsets.get(&partition)?.as_ref().ok().copied();
        Some((of(ends)? - of(starts)?).max(0))
    };
    let known: Vec<i64> = all().filter_map(held).collect();
    TopicSummary {
        topic,
        partitions,
        records: (!known.is_empty()).then(|| known.iter().sum()),
        last_record: all().filter_map(|partition| times.get(&partition).copied()).max(),
        groups,
        unanswered: partitions - known.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(offsets: &[Result<i64, &str>]) -> KnownOffsets {
        let answer = |(index, offset): (i32, &Result<i64, &str>)| (Partition::new("sums", index), offset.map_err(str::to_owned));
        (0..).zip(offsets).map(answer).collect()
    }

    #[test]
    fn a_topic_is_the_sum_of_the_partitions_that_answer() {
        let (starts, ends) = (offsets(&[Ok(5), Ok(0), Err("no leader")]), offsets(&[Ok(15), Ok(7), Err("no leader")]));
        let times = [(Partition::new("sums", 0), 70), (Partition::new("sums", 1), 90), (Partition::new("others", 0), 99)].into();
        let groups = Some(BTreeSet::from(["g".to_owned()]));
        let topic = Topic::named("sums");
        let expected = TopicSummary {
            topic,
            partitions: 3,
            records: Some(17),
            last_record: Some(90),
            groups: groups.clone(),
            unanswered: 1,
        };
        assert_eq!(summarize(topic, 3, groups, (&starts, &ends), &times), expected);
    }

    #[test]
    fn nothing_is_known_of_a_topic_without_leaders() {
        let (topic, none) = (Topic::named("sums"), offsets(&[Err("no leader")]));
        let expected = TopicSummary { topic, partitions: 1, records: None, last_record: None, groups: None, unanswered: 1 };
        assert_eq!(summarize(topic, 1, None, (&none, &none), &HashMap::new()), expected);
        let leaders: Vec<Partition> = led_partitions(topic, &[true, false, true]).collect();
        assert_eq!(leaders, [Partition::new("sums", 0), Partition::new("sums", 2)]);
    }
}
