//! What a cluster says of itself and of its user: facts for an examination. Nothing here changes anything, except the round trip.

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, FutureProducer, FutureRecord, Producer as _};

use crate::connectors::connect_error::ConnectCause;
use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::admin::{Admin, REQUEST_TIMEOUT, TopicPlan, blocking};
use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::config::{base_config, client_config, create_client};
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::certificate;
use crate::connectors::kafka::librdkafka::rights::{self, AllowedOperations, Operation};
use crate::connectors::kafka::lookup::{self, LookupResult};
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// A transaction timeout that no broker allows by default. A broker looks at the user's rights first, and refuses it then: nothing is
/// changed, and no producer of the same id is fenced.
const REFUSED_TIMEOUT_MS: &str = "2147400000";

/// The replicas of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionReplicas {
    pub(crate) partition: i32,
    pub(crate) has_leader: bool,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
}

/// How long a first contact with one broker may take.
pub(crate) const CONTACT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection for a look at the certificate may take.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the user has a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RightAnswer {
    Allowed,
    Denied,
    /// The cluster does not say.
    Untold,
}

/// What the user may do with a topic to read, or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicRight {
    Read,
    Write,
    DescribeConfigs,
}

/// The time that the broker stamped on a record, in milliseconds since the Unix epoch, and the time here at the middle of the request.
pub(crate) type BrokerTime = Option<(i64, i64)>;

/// Returns the failure to connect to one of the section's servers.
pub(crate) fn connect_failure(section: &KafkaSection, server: &str, cause: ConnectCause) -> Failure {
    diagnosis::failure(section, server.to_owned(), cause)
}

/// Returns the last second in which the certificate of the first server to answer is valid, since the Unix epoch.
///
/// # Errors
/// When the call is cancelled.
pub(crate) async fn certificate_valid_until(section: &KafkaSection) -> Result<Option<i64>, ConnectorError> {
    let config = base_config(section);
    blocking(move || certificate::valid_until(config, CERTIFICATE_TIMEOUT)).await
}

impl Admin {
    /// Returns the replicas of each partition of a topic that exists.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn replicas(&self, topic: Topic) -> Result<Vec<PartitionReplicas>, ConnectorError> {
        let client = self.client();
        let fetched = blocking(move || client.client().fetch_metadata(Some(topic.name()), REQUEST_TIMEOUT)).await?;
        let metadata = fetched.map_err(|error| self.failed("list the replicas of", error))?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let replicas = partitions.map(|partition| PartitionReplicas {
            partition: partition.id(),
            has_leader: partition.leader() >= 0,
            replicas: partition.replicas().len(),
            in_sync: partition.isr().len(),
        });
        Ok(replicas.collect())
    }

    /// Returns whether the user has each of these rights on a topic that exists, by asking.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn topic_rights(&self, topic: Topic, asked: &[TopicRight]) -> Result<Vec<RightAnswer>, ConnectorError> {
        let told = self.request(move |client| rights::on_topic(client, topic.name(), REQUEST_TIMEOUT)).await?;
        let told = denied_or(told).map_err(|error| self.failed("ask for the user's rights on a topic of", error))?;
        let operation = |right: &TopicRight| match right {
            TopicRight::Read => Operation::Read,
            TopicRight::Write => Operation::Write,
            TopicRight::DescribeConfigs => Operation::DescribeConfigs,
        };
        Ok(asked.iter().map(|right| told.answer(operation(right))).collect())
    }

    /// Returns whether the user may join a group and commit its offsets, by asking.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn may_use_group(&self, group: &str) -> Result<RightAnswer, ConnectorError> {
        let name = group.to_owned();
        let told =
            self.request_of_group(move |client, unanswered| rights::on_group(client, unanswered, &name, REQUEST_TIMEOUT)).await?;
        let told = denied_or(told).map_err(|error| self.failed("ask for the user's rights on a group of", error))?;
        Ok(told.answer(Operation::Read))
    }

    /// Returns whether the user may write transactions under this id: by a request that a broker refuses after it has looked at the
    /// rights.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn may_use_transactional_id(&self, id: &str) -> Result<RightAnswer, ConnectorError> {
        let section = self.profile_section();
        let mut config = client_config(&section)?;
        config.set("transactional.id", id).set("transaction.timeout.ms", REFUSED_TIMEOUT_MS).set("socket.timeout.ms", "10000");
        config.set("enable.idempotence", "true").set("acks", "all");
        let producer: Authenticated<BaseProducer<LogContext>> = create_client(&section, &config, LogContext::default())?;
        let answer = blocking(move || producer.init_transactions(REQUEST_TIMEOUT)).await?;
        match answer.err().and_then(|error| error.rdkafka_error_code()) {
            None | Some(RDKafkaErrorCode::InvalidTransactionTimeout) => Ok(RightAnswer::Allowed),
            Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
                Ok(RightAnswer::Denied)
            }
            Some(code) => Err(self.failed("initialize transactions on", code).into()),
        }
    }

    /// Writes a record to a topic of its own, reads it, and deletes the topic, also when something fails. Returns the broker's time, and
    /// whether nothing of the topic remains.
    pub(crate) async fn round_trip(&self, topic: &str) -> (Result<BrokerTime, ConnectorError>, bool) {
        let config = vec![("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())];
        let plan =
            TopicPlan { name: topic.to_owned(), partitions: 1, replication: None, config: Vec::new(), optional_config: config };
        if let Err(error) = self.create_topic(&plan).await {
            // One without an answer may have been created.
            let is_unclear = matches!(&error, ConnectorError::Failed(failure) if failure.passing);
            let is_removed = !is_unclear || self.delete_topic(topic).await;
            return (Err(error), is_removed);
        }
        let written = self.write_and_read(topic).await;
        (written, self.delete_topic(topic).await)
    }

    async fn write_and_read(&self, topic: &str) -> Result<BrokerTime, ConnectorError> {
        let section = self.profile_section();
        let mut config = client_config(&section)?;
        config.set("enable.idempotence", "true").set("acks", "all").set("message.timeout.ms", "10000").set("linger.ms", "0");
        let producer: Authenticated<FutureProducer<LogContext>> = create_client(&section, &config, LogContext::default())?;
        let what = format!("write to topic `{topic}` of");
        let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).partition(0).key("sdl").payload("doctor");
        let begun = jiff::Timestamp::now().as_millisecond();
        let sent = producer.send(record, REQUEST_TIMEOUT).await;
        let ended = jiff::Timestamp::now().as_millisecond();
        let offset = match sent {
            Ok(delivery) => delivery.offset,
            Err((error, _)) => return Err(self.denied_or_failed(AclOperation::WriteTopic(topic), &what, error).into()),
        };
        let place = (Partition::new(topic, 0), offset);
        let found = blocking(move || {
            lookup::read(&section, &[place], false, REQUEST_TIMEOUT, |record, _| {
                (record.value == Some(b"doctor".as_slice()), record.timestamp)
            })
        });
        let what = format!("read topic `{topic}` of");
        match found.await??.remove(&place) {
            Some(LookupResult::Found((true, time))) => Ok(time.map(|time| (time, i64::midpoint(begun, ended)))),
            Some(LookupResult::Denied) => Err(AclOperation::ReadTopic(topic).denied(self.section()).into()),
            Some(LookupResult::Unknown(why)) => Err(self.failure(&what).because(why).into()),
            _ => Err(self.failure(&what).because("the record that was written is not there").into()),
        }
    }

    /// Deletes a topic; returns whether it is gone.
    async fn delete_topic(&self, topic: &str) -> bool {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let deleted = self.changes().delete_topics(&[topic], &options).await;
        let is_gone = |answer: &Result<String, (String, RDKafkaErrorCode)>| match answer {
            Ok(_) => true,
            Err((_, code)) => *code == RDKafkaErrorCode::UnknownTopicOrPartition,
        };
        deleted.is_ok_and(|answers| answers.iter().all(is_gone))
    }

    /// Returns whether the user may create a topic that does not exist, by asking the controller to check its creation.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub(crate) async fn may_create(&self, name: &str) -> Result<RightAnswer, ConnectorError> {
        Ok(match self.validate_creation(name).await {
            Some(error) if error.is_denied() => RightAnswer::Denied,
            Some(error) if error.is_outage() => return Err(self.failed("ask the controller for a topic of", error).into()),
            _ => RightAnswer::Allowed,
        })
    }
}

/// The operations of a user on a resource that it may or may not see.
enum ToldOperations {
    Told(AllowedOperations),
    Denied,
    Untold,
}

impl ToldOperations {
    fn answer(&self, operation: Operation) -> RightAnswer {
        match self {
            Self::Told(allowed) if allowed.allow(operation) => RightAnswer::Allowed,
            Self::Told(_) | Self::Denied => RightAnswer::Denied,
            Self::Untold => RightAnswer::Untold,
        }
    }
}

/// Returns the operations; a user that may not see the resource may do nothing with it.
fn denied_or(told: Result<Option<AllowedOperations>, NativeError>) -> Result<ToldOperations, NativeError> {
    match told {
        Ok(Some(allowed)) => Ok(ToldOperations::Told(allowed)),
        Ok(None) => Ok(ToldOperations::Untold),
        Err(error) if error.is_denied() => Ok(ToldOperations::Denied),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_may_not_see_a_resource_may_do_nothing_with_it() {
        let told = |answer| denied_or(answer).map(|told| (told.answer(Operation::Read), told.answer(Operation::Write)));
        let allowed = AllowedOperations::of(&[Operation::Read]);
        assert_eq!(told(Ok(Some(allowed))), Ok((RightAnswer::Allowed, RightAnswer::Denied)));
        assert_eq!(told(Ok(None)), Ok((RightAnswer::Untold, RightAnswer::Untold)));
        let denied = Err(RDKafkaErrorCode::GroupAuthorizationFailed.into());
        assert_eq!(told(denied), Ok((RightAnswer::Denied, RightAnswer::Denied)));
        assert!(told(Err(NativeError::timed_out())).is_err());
    }
}
