//! Consumer groups as an onlooker sees them, many at a time: who is in them, what they have committed, and how far that is.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::connectors::kafka::admin::{TIMEOUT, blocking, spec};
use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::librdkafka::commits::CommitQueue;
use crate::connectors::kafka::librdkafka::{self, NativeError};
use crate::connectors::kafka::lookup::{self, LookupResult};
use crate::connectors::kafka::{Admin, OffsetSpec};
use crate::pipeline::ConnectorError;
use crate::record::{NextOffset, Partition, Topic};

/// How long to wait for the record of a position when nothing comes any more, and for coordinators that move.
const PATIENCE: Duration = Duration::from_secs(5);

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Kafka's word for its state: `Stable`, `Empty`; absent when it could not be asked for.
    pub state: Option<String>,
    /// Kafka's word for its protocol: `classic` or `consumer`.
    pub protocol: Option<String>,
    /// Its members; absent when they could not be asked for.
    pub members: Option<Vec<GroupMember>>,
    /// Why it could not be asked for.
    pub trouble: Option<String>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// What it calls itself.
    pub client_id: String,
    /// Where it is connected from.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<Partition>,
}

/// A committed offset and what was written beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where the group resumes.
    pub next: NextOffset,
    /// The commit's metadata.
    pub metadata: String,
}

/// The partitions of a topic, by number: whether each has a leader.
pub type Leaders = BTreeMap<Topic, Vec<bool>>;

/// What a group has committed, or why that cannot be told.
pub type CommittedPositions = Result<Vec<(Partition, NextOffset)>, String>;

/// The next record to read from a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextRecord {
    /// Its time, in milliseconds since the Unix epoch.
    At(i64),
    /// There is none.
    None,
    /// It cannot be told, and why.
    Unknown(String),
}

impl Admin {
    /// Returns the names of the consumer groups, sorted; `None` where the brokers are embedded ones, which do not tell.
    ///
    /// # Errors
    /// When no broker answers, or none allows the question.
    pub async fn group_names(&self) -> Result<Option<Vec<String>>, ConnectorError> {
        if self.is_embedded() {
            return Ok(None);
        }
        let listed = self.ask(|client| {
            let listed = librdkafka::groups::names(client, TIMEOUT)?;
            // Some brokers' groups are better than none.
            match listed.errors.first() {
                Some(error) if listed.names.is_empty() || error.is_passing() => Err(error.clone()),
                _ => Ok(listed),
            }
        });
        let listed = listed.await?.map_err(|error| self.failure("list the groups of").because(error))?;
        for error in listed.errors {
            tracing::warn!(section = self.section(), %error, "Not every broker told its groups.");
        }
        let mut names = listed.names;
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    /// Returns these groups with state and members, in this order; without either where the brokers are embedded ones.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn groups(&self, names: &[String]) -> Result<Vec<Group>, ConnectorError> {
        let unknown = |name: &String| Group { name: name.clone(), ..Group::default() };
        if self.is_embedded() {
            return Ok(names.iter().map(unknown).collect());
        }
        let (asked, patient_until) = (names.to_vec(), Instant::now() + PATIENCE);
        let described = self.ask(move |client| {
            let described = librdkafka::groups::describe(client, &asked, TIMEOUT)?;
            let passing = described.iter().find_map(|group| group.error.clone().filter(NativeError::is_passing));
            // A coordinator that stays away takes nothing from the groups of the others.
            passing.filter(|_| Instant::now() < patient_until).map_or(Ok(described), Err)
        });
        let described = described.await?.map_err(|error| self.failure("describe the groups of").because(error))?;
        let mut described: HashMap<_, _> = described.into_iter().map(|group| (group.name.clone(), group)).collect();
        Ok(names.iter().map(|name| described.remove(name).map_or_else(|| unknown(name), Group::from)).collect())
    }

    /// Returns what each of these groups has committed, of `partitions` or of all.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn positions(
        &self,
        groups: &[String],
        partitions: Option<&[Partition]>,
    ) -> Result<HashMap<String, CommittedPositions>, ConnectorError> {
        let (names, partitions) = (groups.to_vec(), partitions.map(<[Partition]>::to_vec));
        let patient_until = Instant::now() + PATIENCE;
        let listed = self.ask(move |client| {
            let list = partitions.as_deref().map(|partitions| {
                let mut list = TopicPartitionList::with_capacity(partitions.len());
                for partition in partitions {
                    list.add_partition(partition.topic.name(), partition.index);
                }
                list
            });
            let answers = librdkafka::groups::offsets(client, &names, list.as_ref(), TIMEOUT)?;
            let passing = answers.iter().find_map(|answer| answer.as_ref().err().filter(|error| error.is_passing()));
            // As above.
            passing.filter(|_| Instant::now() < patient_until).cloned().map_or(Ok(answers), Err)
        });
        let listed = listed.await?.map_err(|error| self.failure("read the offsets of groups of").because(error))?;
        let positions = |entries: Vec<librdkafka::ErrorEntry>| {
            let committed = entries.into_iter().filter(|entry| entry.offset >= 0 && entry.error.is_none());
            committed.map(|entry| (Partition::new(&entry.topic, entry.partition), NextOffset(entry.offset))).collect()
        };
        let answers = listed.into_iter().map(|answer| answer.map(positions).map_err(|error| plain(&error.0)));
        Ok(groups.iter().cloned().zip(answers).collect())
    }

    /// Returns the state of a group and a description of its members; `None` where the brokers are embedded ones.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn group_members(&self, group: &str) -> Result<Option<Vec<String>>, ConnectorError> {
        if self.is_embedded() {
            return Ok(None);
        }
        let described = self.groups(&[group.to_owned()]).await?.pop().unwrap_or_default();
        if let Some(trouble) = described.trouble {
            return Err(self.failure("describe the group on").because(trouble).into());
        }
        let state = described.state.unwrap_or_default();
        let member = |member: GroupMember| format!("{} at {} (group is {state})", member.client_id, member.host);
        Ok(described.members.map(|members| members.into_iter().map(member).collect()))
    }

    /// Returns every committed offset of a group.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not allow the question.
    pub async fn group_offsets(&self, group: &str) -> Result<HashMap<Partition, CommittedOffset>, ConnectorError> {
        let name = group.to_owned();
        let listed = self.ask(move |client| {
            let mut listed = librdkafka::groups::offsets(client, std::slice::from_ref(&name), None, TIMEOUT)?;
            listed.pop().unwrap_or_else(|| Ok(Vec::new()))
        });
        let listed = listed.await?;
        let listed = listed.map_err(|error| self.failure(&format!("read the offsets of group `{group}` on")).because(error))?;
        let committed = listed.into_iter().filter(|entry| entry.offset >= 0).map(|entry| {
            let metadata = String::from_utf8_lossy(&entry.metadata).into_owned();
            (Partition::new(&entry.topic, entry.partition), CommittedOffset { next: NextOffset(entry.offset), metadata })
        });
        Ok(committed.collect())
    }

    /// Commits these offsets for a group without members: the one commit that may go backwards.
    ///
    /// # Errors
    /// When the cluster refuses, as it does while the group has members.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: Vec<(Partition, NextOffset, String)>,
    ) -> Result<(), ConnectorError> {
        let mut config = client::config(&self.profile_section())?;
        config.set("group.id", group).set("enable.auto.commit", "false");
        let what = self.failure(&format!("set the offsets of group `{group}` on"));
        let refused = what.clone();
        let done = blocking(move || {
            let consumer: BaseConsumer<LogContext> =
                config.create_with_context(LogContext::default()).map_err(|error| error.to_string())?;
            let mut list = TopicPartitionList::with_capacity(offsets.len());
            for (partition, next, metadata) in offsets {
                let mut element = list.add_partition(partition.topic.name(), partition.index);
                element.set_offset(rdkafka::Offset::Offset(next.0)).map_err(|error| error.to_string())?;
                element.set_metadata(metadata);
            }
            let answers = CommitQueue::new(consumer.client());
            answers.commit(consumer.client(), Some(&list)).map_err(|error| error.to_string())?;
            let answer = answers.answer(TIMEOUT).ok_or("no answer in time")?.map_err(|error| error.to_string())?;
            drop(answers);
            answer.into_iter().find_map(|entry| entry.error).map_or(Ok(()), Err)
        });
        done.await?.map_err(|error: String| refused.because(error).into())
    }

    /// Returns all topics with their partitions.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn leaders(&self) -> Result<Leaders, ConnectorError> {
        let client = self.client();
        let fetched = blocking(move || {
            let metadata = client.client().fetch_metadata(None, TIMEOUT)?;
            let leaders = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| {
                let mut partitions = vec![false; topic.partitions().len()];
                for partition in topic.partitions() {
                    if let Some(led) = usize::try_from(partition.id()).ok().and_then(|index| partitions.get_mut(index)) {
                        *led = partition.leader() >= 0;
                    }
                }
                (Topic::named(topic.name()), partitions)
            });
            Ok(leaders.collect())
        });
        fetched.await?.map_err(|error: rdkafka::error::KafkaError| self.failure("list the topics of").because(error).into())
    }

    /// Returns one offset for each partition that has one to tell.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn known_ends(&self, partitions: &[Partition], of: OffsetSpec) -> Result<HashMap<Partition, i64>, ConnectorError> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let partitions = partitions.to_vec();
        let listed = self.ask(move |client| {
            let asked: Vec<_> = partitions.iter().map(|partition| (partition.topic.name(), partition.index)).collect();
            let (spec, read_committed) = spec(of);
            librdkafka::admin::list_offsets(client, &asked, spec, read_committed, TIMEOUT)
        });
        let entries = listed.await?.map_err(|error| self.failure("read the ends of partitions of").because(error))?;
        let known = entries.into_iter().filter_map(|entry| {
            if let Some(error) = entry.error {
                tracing::debug!(topic = entry.topic, partition = entry.partition, error, "A partition did not tell its end.");
                return None;
            }
            (entry.offset >= 0).then(|| (Partition::new(&entry.topic, entry.partition), entry.offset))
        });
        Ok(known.collect())
    }

    /// Returns the time of the first record at or after each offset. A position is read once, however often it is named.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub async fn next_records(
        &self,
        positions: Vec<(Partition, i64)>,
        read_uncommitted: bool,
    ) -> Result<HashMap<(Partition, i64), NextRecord>, ConnectorError> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        let section = self.profile_section();
        let read = blocking(move || lookup::read(&section, &positions, read_uncommitted, PATIENCE, |record| record.timestamp));
        let next = |spot| match spot {
            LookupResult::Found(Some(time)) => NextRecord::At(time),
            LookupResult::Found(None) => NextRecord::Unknown("the next record has no timestamp".to_owned()),
            LookupResult::Nothing => NextRecord::None,
            LookupResult::Gone => NextRecord::Unknown("the next record was deleted meanwhile".to_owned()),
            LookupResult::Unknown(why) => NextRecord::Unknown(format!("the next record cannot be read: {}", plain(&why))),
        };
        Ok(read.await??.into_iter().map(|(position, spot)| (position, next(spot))).collect())
    }
}

/// Returns what a broker said, without who passed it on, as part of a sentence.
fn plain(said: &str) -> String {
    let said = said.rsplit("Broker: ").next().unwrap_or(said);
    said.trim_start_matches("Local: ").to_lowercase()
}

impl From<librdkafka::groups::GroupDescription> for Group {
    fn from(group: librdkafka::groups::GroupDescription) -> Self {
        let librdkafka::groups::GroupDescription { name, state, protocol, members, error } = group;
        if let Some(error) = error {
            return Self { name, trouble: Some(plain(&error.0)), ..Self::default() };
        }
        let member = |member: librdkafka::groups::MemberDescription| GroupMember {
            client_id: member.client_id,
            host: member.host.trim_start_matches('/').to_owned(),
            partitions: member.reads.iter().map(|(topic, index)| Partition::new(topic, *index)).collect(),
        };
        Self {
            name,
            state: Some(state),
            protocol: Some(protocol.to_lowercase()).filter(|protocol| protocol != "unknown"),
            members: Some(members.into_iter().map(member).collect()),
            trouble: None,
        }
    }
}
