//! Consumer groups from outside, many at a time: state, members, committed offsets.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::admin::{
    Admin, OffsetSpec, PartitionOffset, REQUEST_TIMEOUT, RETRY_BACKOFF, TopicInfo, blocking, listing_failure, partition_list,
    partition_offsets,
};
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::commit_metadata::CommittedOffset;
use crate::connectors::kafka::config::{client_config, create_client};
use crate::connectors::kafka::librdkafka::commits::{CommitQueue, MAX_COMMIT_PARTITIONS};
use crate::connectors::kafka::librdkafka::groups::GroupDescription;
use crate::connectors::kafka::librdkafka::{self, NativeError, PartitionEntry};
use crate::connectors::kafka::lookup::{self, LookupResult};
use crate::pipeline::{ConnectorError, Failure};
use crate::record::{NextOffset, Partition, Topic};

/// Timeout of a single record that does not arrive, and of coordinators that move.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// `Stable`, `Empty`; absent if unknown.
    pub(crate) state: Option<String>,
    /// `classic` or `consumer`.
    pub(crate) protocol: Option<String>,
    /// Absent if unknown.
    pub(crate) members: Option<Vec<GroupMember>>,
    /// Why the group could not be described.
    pub(crate) error: Option<String>,
    /// Whether the error passes: the coordinator moves, or loads its groups.
    pub(crate) is_loading: bool,
}

impl Group {
    /// Returns whether the coordinator knows the group; of one that it does not know it says that it is dead.
    pub(crate) fn is_known(&self) -> bool {
        self.state.as_deref().is_some_and(|state| state != "Dead")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupMember {
    pub(crate) id: String,
    /// Of a static member.
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    /// Assigned to it.
    pub(crate) partitions: Vec<Partition>,
}

impl GroupMember {
    /// Returns the member of a group in this state for people: several may have the same client id and host.
    fn line(&self, state: &str) -> String {
        let Self { id, instance_id, client_id, host, .. } = self;
        let which = instance_id.as_ref().map_or_else(|| format!("member {id}"), |instance| format!("instance {instance}"));
        format!("{client_id} at {host}, {which} (group is {state})")
    }
}

/// Whether each partition of a topic has a leader, by the partition's number.
pub(crate) type Leaders = BTreeMap<Topic, Vec<bool>>;

/// The committed offsets of a group, or why they are unknown.
pub(crate) type CommittedPositions = Result<Vec<(Partition, CommittedOffset)>, String>;

/// The time of the first record at or after an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextRecord {
    /// In milliseconds since the Unix epoch.
    At(i64),
    /// There is no such record.
    None,
    /// It could not be read, for this reason.
    Unknown(String),
}

impl Admin {
    /// Returns the names of the consumer groups, sorted; `None` from embedded brokers.
    ///
    /// # Errors
    /// When no broker answers, or all deny the request.
    pub(crate) async fn group_names(&self) -> Result<Option<Vec<String>>, ConnectorError> {
        if self.is_embedded() {
            return Ok(None);
        }
        let listed = self.request(|client| {
            let listed = librdkafka::groups::names(client, REQUEST_TIMEOUT)?;
            // The groups of some brokers are better than none.
            match listed.errors.first() {
                Some(error) if listed.names.is_empty() || error.is_passing() => Err(error.clone()),
                _ => Ok(listed),
            }
        });
        let listed = listed.await?.map_err(|error| self.failed("look up the consumer groups of", error))?;
        for error in listed.errors {
            tracing::warn!(section = self.section(), %error, "A broker did not list its groups.");
        }
        let mut names = listed.names;
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    /// Returns these groups with state and members, in this order; without either from embedded brokers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn groups(&self, names: &[String]) -> Result<Vec<Group>, ConnectorError> {
        let unknown = |name: &String| Group { name: name.clone(), ..Group::default() };
        if self.is_embedded() {
            return Ok(names.iter().map(unknown).collect());
        }
        let (requested, deadline) = (names.to_vec(), Instant::now() + RECORD_TIMEOUT);
        let described = self.request_of_group(move |client, unanswered| {
            let answers = librdkafka::groups::describe(client, unanswered, &requested, REQUEST_TIMEOUT)?;
            if let Some(Err(error)) = answers.first().filter(|_| answers.iter().all(Result::is_err)) {
                return Err(error.clone());
            }
            let unknown =
                |name: &String, error| GroupDescription { name: name.clone(), error: Some(error), ..Default::default() };
            let described =
                requested.iter().zip(answers).map(|(name, answer)| answer.unwrap_or_else(|error| unknown(name, error)));
            let described: Vec<GroupDescription> = described.collect();
            let passing = described.iter().find_map(|group| group.error.clone().filter(NativeError::is_passing));
            // A coordinator that stays away must not hide the groups of the others.
            passing.filter(|_| Instant::now() < deadline).map_or(Ok(described), Err)
        });
        let described = described.await?.map_err(|error| self.failed("describe the groups of", error))?;
        let mut described: HashMap<_, _> = described.into_iter().map(|group| (group.name.clone(), group)).collect();
        Ok(names.iter().map(|name| described.remove(name).map_or_else(|| unknown(name), Group::from)).collect())
    }

    /// Returns the committed offsets of each group, of `partitions` or of all.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn positions(
        &self,
        groups: &[String],
        partitions: Option<&[Partition]>,
    ) -> Result<HashMap<String, CommittedPositions>, ConnectorError> {
        let (names, partitions) = (groups.to_vec(), partitions.map(<[Partition]>::to_vec));
        let deadline = Instant::now() + RECORD_TIMEOUT;
        let listed = self.request_of_group(move |client, unanswered| {
            let list = partitions.as_deref().map(partition_list);
            let answers = librdkafka::groups::offsets(client, unanswered, &names, list.as_ref(), REQUEST_TIMEOUT)?;
            let passing = answers.iter().find_map(|answer| answer.as_ref().err().filter(|error| error.is_passing()));
            // As above.
            passing.filter(|_| Instant::now() < deadline).cloned().map_or(Ok(answers), Err)
        });
        let listed = listed.await?.map_err(|error| self.failed("list the committed offsets of groups of", error))?;
        let positions = |entries: Vec<_>| entries.iter().map(position).collect();
        let answer = |(group, answer): (&String, Result<_, NativeError>)| {
            (group.clone(), answer.map(positions).map_err(|error| AclOperation::DescribeGroup(group).reason(&error)))
        };
        Ok(groups.iter().zip(listed).map(answer).collect())
    }

    /// Returns a description of each member of a group; `None` from embedded brokers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn group_members(&self, group: &str) -> Result<Option<Vec<String>>, ConnectorError> {
        if self.is_embedded() {
            return Ok(None);
        }
        let described = self.groups(&[group.to_owned()]).await?.pop().unwrap_or_default();
        let what = format!("describe group `{group}` on");
        if let Some(error) = described.error {
            return Err(self.failure(&what).because(error).into());
        }
        // Members that are not known are not absent.
        let Some((state, members)) = described.state.zip(described.members) else {
            return Err(self.failed(&what, NativeError::no_answer()).into());
        };
        Ok(Some(members.iter().map(|member| member.line(&state)).collect()))
    }

    /// Returns every committed offset of a group.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) async fn group_offsets(&self, group: &str) -> Result<HashMap<Partition, CommittedOffset>, ConnectorError> {
        let name = group.to_owned();
        // Embedded brokers give the offsets of partitions that are named, and list none.
        let topics = if self.is_embedded() { Some(self.topics().await?) } else { None };
        let listed = self.request_of_group(move |client, unanswered| {
            let named = topics.as_ref().map(|topics| {
                let mut list = TopicPartitionList::new();
                for TopicInfo { topic, partitions } in topics {
                    list.add_partition_range(topic.name(), 0, partitions - 1);
                }
                list
            });
            let asked = std::slice::from_ref(&name);
            librdkafka::groups::offsets(client, unanswered, asked, named.as_ref(), REQUEST_TIMEOUT)?.remove(0)
        });
        let listed = listed.await?;
        let what = format!("list the committed offsets of group `{group}` on");
        let listed = listed.map_err(|error| self.denied_or_failed(AclOperation::ReadGroup(group), &what, error))?;
        Ok(listed.iter().map(position).collect())
    }

    /// Commits these offsets for a group without members: the only commit that may go backwards. After an error some of them may be
    /// committed.
    ///
    /// # Errors
    /// When the cluster refuses, as it does for a group with members.
    pub(crate) async fn set_group_offsets(
        &self,
        group: &str,
        offsets: Vec<(Partition, NextOffset, String)>,
    ) -> Result<(), ConnectorError> {
        let mut config = client_config(&self.profile_section())?;
        config.set("group.id", group).set("enable.auto.commit", "false");
        let consumer: Authenticated<BaseConsumer<LogContext>> =
            create_client(&self.profile_section(), &config, LogContext::default())?;
        let until = Instant::now() + self.patience();
        let done = blocking(move || {
            let mut chunks = offsets.chunks(MAX_COMMIT_PARTITIONS);
            let outcome = chunks.try_for_each(|offsets| commit_until(&consumer, offsets, until));
            // A consumer that closes waits for the answer to what it has sent.
            std::thread::spawn(move || drop(consumer));
            outcome
        });
        let what = format!("commit the offsets of group `{group}` on");
        done.await?.map_err(|error: RefusedOffset| {
            let had_members = self.is_embedded() && error.error.code == RDKafkaErrorCode::UnknownMemberId;
            let failure = self.refused_offsets(AclOperation::ReadGroup(group), &what, error);
            let hint = "embedded brokers change only the offsets of groups that never had members: name another group";
            if had_members { failure.hint(hint).into() } else { failure.into() }
        })
    }

    /// Deletes a group without members, with its offsets.
    ///
    /// # Errors
    /// When the cluster refuses, as it does for a group with members, or the brokers are embedded.
    pub async fn delete_group(&self, group: &str) -> Result<(), ConnectorError> {
        let what = format!("delete group `{group}` of");
        self.refuse_embedded(&what)?;
        let name = group.to_owned();
        let delete = move |client: &_, unanswered: &_| librdkafka::groups::delete(client, unanswered, &name, REQUEST_TIMEOUT);
        let deleted = self.request_of_group(delete).await?;
        deleted.map_err(|error| self.denied_or_failed(AclOperation::DeleteGroup(group), &what, error).into())
    }

    /// Deletes the committed offsets of a group in these partitions. After an error some of them may be deleted.
    ///
    /// # Errors
    /// When the cluster refuses, as it does for topics that members of the group read, or the brokers are embedded.
    pub async fn delete_group_offsets(&self, group: &str, partitions: &[Partition]) -> Result<(), ConnectorError> {
        let what = format!("delete offsets of group `{group}` of");
        self.refuse_embedded(&what)?;
        let (name, partitions) = (group.to_owned(), partitions.to_vec());
        let deleted = self.request_of_group(move |client, unanswered| {
            for partitions in partitions.chunks(MAX_COMMIT_PARTITIONS) {
                let list = partition_list(partitions);
                let refused =
                    first_refused(librdkafka::groups::delete_offsets(client, unanswered, &name, &list, REQUEST_TIMEOUT)?);
                if refused.is_err() {
                    return Ok(refused);
                }
            }
            Ok(Ok(()))
        });
        let deleted = deleted.await?.unwrap_or_else(|error| Err(error.into()));
        deleted.map_err(|refused| self.refused_offsets(AclOperation::DeleteGroup(group), &what, refused).into())
    }

    fn refuse_embedded(&self, what: &str) -> Result<(), ConnectorError> {
        if !self.is_embedded() {
            return Ok(());
        }
        Err(self.failure(what).because("embedded brokers have no admin API").into())
    }

    /// Returns the failure of a change of offsets.
    fn refused_offsets(&self, operation: AclOperation<'_>, what: &str, refused: RefusedOffset) -> Failure {
        let RefusedOffset { partition, error } = refused;
        match partition {
            _ if error.code == RDKafkaErrorCode::GroupAuthorizationFailed => operation.denied(self.section()),
            Some(partition) if error.is_denied() => AclOperation::ReadTopic(partition.topic.name()).denied(self.section()),
            Some(partition) => self.failed(what, NativeError { text: format!("{partition}: {error}"), ..error }),
            None if error.is_denied() => self.failed(what, error).hint(AclOperation::ReadTopic("").hint()),
            None => self.failed(what, error),
        }
    }

    /// Returns for each topic which of its partitions have a leader.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn leaders(&self) -> Result<Leaders, ConnectorError> {
        let client = self.client();
        let fetched = blocking(move || {
            let metadata = client.client().fetch_metadata(None, REQUEST_TIMEOUT)?;
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
        fetched.await?.map_err(|error: rdkafka::error::KafkaError| self.failed("list the topics of", error).into())
    }

    /// Returns one offset of each partition, or why it is unknown.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn known_offsets(
        &self,
        partitions: &[Partition],
        of: OffsetSpec,
    ) -> Result<HashMap<Partition, Result<i64, String>>, ConnectorError> {
        let partitions = partitions.to_vec();
        let listed = self.request(move |client| partition_offsets(client, &partitions, of)).await?;
        let answers =
            listed.map_err(|error| listing_failure(self.failed("list the offsets of", error.clone()), &error))?.into_iter();
        let known = |(partition, listed): (_, PartitionOffset)| {
            Some((partition, listed.map_err(|error| error.text).transpose()?.map(|listed| listed.offset)))
        };
        Ok(answers.filter_map(known).collect())
    }

    /// Returns the latest timestamp of each partition that has one, in milliseconds since the Unix epoch. Embedded brokers and those
    /// before Kafka 3.0 return none.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn latest_timestamps(&self, partitions: &[Partition]) -> Result<HashMap<Partition, i64>, ConnectorError> {
        if partitions.is_empty() {
            return Ok(HashMap::new());
        }
        let requested = partitions.to_vec();
        let listed = self.request(move |client| {
            let requested: Vec<_> = requested.iter().map(|partition| (partition.topic.name(), partition.index)).collect();
            librdkafka::admin::latest_timestamps(client, &requested, REQUEST_TIMEOUT)
        });
        let listed = listed.await?.map_err(|error| listing_failure(self.failed("list the offsets of", error.clone()), &error))?;
        let time = |(entry, time): (PartitionEntry, i64)| {
            let is_known = entry.error.is_none() && time >= 0;
            is_known.then(|| (Partition::new(&entry.topic, entry.partition), time))
        };
        Ok(listed.into_iter().filter_map(time).collect())
    }

    /// Returns the time of the first record at or after each offset. Repeated positions are read once.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) async fn next_records(
        &self,
        positions: Vec<(Partition, i64)>,
        read_uncommitted: bool,
    ) -> Result<HashMap<(Partition, i64), NextRecord>, ConnectorError> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        let section = self.profile_section();
        let read =
            blocking(move || lookup::read(&section, &positions, read_uncommitted, RECORD_TIMEOUT, |record, _| record.timestamp));
        let next = |partition: Partition, found| match found {
            LookupResult::Found(Some(time)) => NextRecord::At(time),
            LookupResult::Found(None) => NextRecord::Unknown("the next record has no timestamp".to_owned()),
            LookupResult::Nothing => NextRecord::None,
            LookupResult::OutOfRange => NextRecord::Unknown("the next record has been deleted".to_owned()),
            LookupResult::Denied => {
                let right = AclOperation::ReadTopic(partition.topic.name());
                NextRecord::Unknown(format!("the next record cannot be read: not allowed to {right}: {}", right.hint()))
            }
            LookupResult::Unknown(why) => NextRecord::Unknown(format!("the next record cannot be read: {why}")),
        };
        Ok(read.await??.into_iter().map(|(position, found)| (position, next(position.0, found))).collect())
    }
}

/// Commits offsets of a group without members; again while its coordinator moves, loads or does not answer.
fn commit_until(
    consumer: &BaseConsumer<LogContext>,
    offsets: &[(Partition, NextOffset, String)],
    until: Instant,
) -> Result<(), RefusedOffset> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next, metadata) in offsets {
        let mut element = list.add_partition(partition.topic.name(), partition.index);
        element.set_offset(rdkafka::Offset::Offset(next.0))?;
        element.set_metadata(metadata);
    }
    let attempt = || {
        // A late response to one attempt is not that to the next.
        let responses = CommitQueue::new(consumer.client());
        responses.commit(consumer.client(), Some(&list))?;
        first_refused(responses.wait(REQUEST_TIMEOUT).ok_or_else(NativeError::timed_out)??)
    };
    loop {
        match attempt() {
            Err(refused) if refused.error.is_outage() && Instant::now() < until => std::thread::sleep(RETRY_BACKOFF),
            outcome => return outcome,
        }
    }
}

/// An offset that the broker did not take or delete; without a partition, none was.
struct RefusedOffset {
    partition: Option<Partition>,
    error: NativeError,
}

impl From<NativeError> for RefusedOffset {
    fn from(error: NativeError) -> Self {
        Self { partition: None, error }
    }
}

impl From<KafkaError> for RefusedOffset {
    fn from(error: KafkaError) -> Self {
        NativeError::from(error).into()
    }
}

/// Fails with the first partition that has an error.
fn first_refused(entries: Vec<PartitionEntry>) -> Result<(), RefusedOffset> {
    let refused = |entry: PartitionEntry| {
        let partition = Some(Partition::new(&entry.topic, entry.partition));
        entry.error.map(|error| RefusedOffset { partition, error })
    };
    entries.into_iter().find_map(refused).map_or(Ok(()), Err)
}

fn position(entry: &PartitionEntry) -> (Partition, CommittedOffset) {
    let metadata = String::from_utf8_lossy(&entry.metadata).into_owned();
    let committed = CommittedOffset { next: NextOffset(entry.offset), metadata, leader_epoch: entry.leader_epoch };
    (Partition::new(&entry.topic, entry.partition), committed)
}

impl From<GroupDescription> for Group {
    fn from(group: GroupDescription) -> Self {
        let GroupDescription { name, state, protocol, members, error } = group;
        if let Some(error) = error {
            let is_loading = error.is_passing();
            let error = Some(AclOperation::DescribeGroup(&name).reason(&error));
            return Self { name, error, is_loading, ..Self::default() };
        }
        let member = |member: librdkafka::groups::MemberDescription| GroupMember {
            id: member.id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.host.trim_start_matches('/').to_owned(),
            partitions: member.assignment.iter().map(|(topic, index)| Partition::new(topic, *index)).collect(),
        };
        Self {
            name,
            state: Some(state),
            protocol: Some(protocol.to_lowercase()).filter(|protocol| protocol != "unknown"),
            members: Some(members.into_iter().map(member).collect()),
            error: None,
            is_loading: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_on_one_host_are_told_apart() {
        let member = |instance: Option<&str>| GroupMember {
            id: "sdl-7f".to_owned(),
            instance_id: instance.map(str::to_owned),
            client_id: "sdl".to_owned(),
            host: "127.0.0.1".to_owned(),
            partitions: Vec::new(),
        };
        assert_eq!(member(None).line("Stable"), "sdl at 127.0.0.1, member sdl-7f (group is Stable)");
        assert_eq!(member(Some("copy-1")).line("Empty"), "sdl at 127.0.0.1, instance copy-1 (group is Empty)");
    }
}
