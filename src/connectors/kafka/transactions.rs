//! Messages and the offsets of what they were made of, in one transaction: both are there, or neither.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::client_log::LogContext;
use crate::connectors::kafka::commit_metadata::CommitMetadata;
use crate::connectors::kafka::config::client_config;
use crate::connectors::kafka::lookup::{self, LookupResult};
use crate::pipeline::{ConnectorError, Failure, Refused};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, NextOffset, Partition, Topic};

/// How long one call to the brokers may take before it is tried again.
const CALL: Duration = Duration::from_secs(10);
/// How long to wait until a full queue has room.
const ROOM: Duration = Duration::from_millis(10);

/// The member of a group on whose behalf offsets are committed: a transaction of one that lost its place is refused.
pub struct GroupMetadata(pub(crate) ConsumerGroupMetadata);

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// An offset that is committed with a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: Partition,
    /// Where to resume.
    pub next: NextOffset,
    /// The last record that was read.
    pub last: Option<Fingerprint>,
}

/// What is published at once.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// The messages, in order.
    pub messages: Vec<OutgoingMessage>,
    /// The offsets of the group.
    pub progress: Vec<OffsetCommit>,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub enum TransactionError {
    /// Something that passes: to be tried again, as it is.
    Again(String),
    /// It never will be.
    Never(ConnectorError),
}

/// A producer with transactions, of which there is one for each name.
pub struct TransactionalProducer {
    section: String,
    group: String,
    flow: String,
    topic: Topic,
    producer: Arc<BaseProducer<DeliveryReports>>,
    stage: Arc<Mutex<TransactionState>>,
}

/// How far a transaction has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum TransactionState {
    /// There is none.
    #[default]
    None,
    /// It is begun, and to be aborted before another is.
    Begun,
    /// Everything is in it, and it is being committed: it can only be committed any more. The last message is there.
    Committing(Option<(i32, i64)>),
}

/// What the brokers say of messages.
#[derive(Clone, Default)]
struct DeliveryReports {
    listening: LogContext,
    heard: Arc<Mutex<TransactionContext>>,
}

#[derive(Default)]
struct TransactionContext {
    error: Option<KafkaError>,
    /// The place of the message with the highest number.
    last: Option<(usize, i32, i64)>,
}

impl ClientContext for DeliveryReports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.listening.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listening.error(error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut heard = lock(&self.heard);
        match result {
            Ok(message) if heard.last.is_none_or(|(last, ..)| last <= number) => {
                heard.last = Some((number, message.partition(), message.offset()));
            }
            Ok(_) => {}
            Err((error, _)) => drop(heard.error.get_or_insert_with(|| error.clone())),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TransactionalProducer {
    /// Opens the one producer of `group`'s transactions to `topic`, whose offsets belong to `flow`: another one that is open is shut
    /// out, and what it had begun is aborted.
    ///
    /// # Errors
    /// When the client cannot be made, or the brokers do not let it have transactions within `wait`.
    pub async fn open(
        section: &KafkaSection,
        group: &str,
        flow: &str,
        topic: Topic,
        wait: Duration,
    ) -> Result<Self, ConnectorError> {
        let mut config = client_config(section)?;
        config
            .set("transactional.id", transactional_id(group))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", "lz4")
            .set("linger.ms", "0")
            // The topic has the last word.
            .set("message.max.bytes", "10000000")
            // As Java clients choose it, so that the messages of a key are in one partition whoever writes them.
            .set("partitioner", "murmur2_random");
        if config.get("transaction.timeout.ms").is_none() {
            // An outage that is longer ends the run; a run that was killed is followed by one that ends its transaction at once.
            config.set("transaction.timeout.ms", "300000");
        }
        let failure = || Failure::new(format!("cannot begin transactions on `{}`", section.name));
        let producer: BaseProducer<DeliveryReports> =
            config.create_with_context(DeliveryReports::default()).map_err(|error| failure().because(error))?;
        let producer = Arc::new(producer);
        let asked = Arc::clone(&producer);
        let begun = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + wait;
            loop {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
                match asked.init_transactions(left) {
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    done => return done,
                }
            }
        });
        begun.await.map_err(|error| failure().because(error))?.map_err(|error| {
            let failure = failure().because(&error);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
                    failure
                        .hint(format!("give the user WRITE and DESCRIBE on the transactional id `{}`", transactional_id(group)))
                }
                _ => failure,
            }
        })?;
        Ok(Self {
            section: section.name.clone(),
            group: group.to_owned(),
            flow: flow.to_owned(),
            topic,
            producer,
            stage: Arc::default(),
        })
    }

    /// Publishes everything in one transaction, with `memo` in the metadata of each offset, and returns partition and offset of the
    /// last message. One that was tried and not committed must be tried again as it is.
    ///
    /// `memo` is called with the place of the last message.
    ///
    /// # Errors
    /// When it was not committed.
    pub async fn publish(
        &self,
        publication: Arc<Transaction>,
        member: GroupMetadata,
        memo: impl Fn(Partition, Option<(i32, i64)>) -> String + Send + 'static,
    ) -> Result<Option<(i32, i64)>, TransactionError> {
        let attempt = TransactionAttempt {
            producer: Arc::clone(&self.producer),
            stage: Arc::clone(&self.stage),
            flow: self.flow.clone(),
            topic: self.topic,
        };
        let done = tokio::task::spawn_blocking(move || attempt.publish(&publication, &member, &memo)).await;
        let failure = || Failure::new(format!("cannot write to `{}` of `{}`", self.topic, self.section));
        match done {
            Err(error) => Err(TransactionError::Never(failure().because(error).into())),
            Ok(Ok(last)) => Ok(last),
            Ok(Err(error)) => Err(self.sort(&error)),
        }
    }

    /// Says what an error means for the transaction.
    fn sort(&self, error: &KafkaError) -> TransactionError {
        use RDKafkaErrorCode as Code;
        let failure = || Failure::new(format!("cannot write to `{}` of `{}`", self.topic, self.section)).because(error);
        match error.rdkafka_error_code() {
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => TransactionError::Never(
                Refused {
                    what: format!(
                        "another instance has taken over the group `{}`, or its transaction was open for too long",
                        self.group
                    ),
                    numbers: vec![format!("one transaction at a time: {}", transactional_id(&self.group))],
                    hint:
                        "start again if there is no other; one instance of a group is active, give another a --group of its own"
                            .to_owned(),
                }
                .into(),
            ),
            Some(Code::MessageSizeTooLarge) => TransactionError::Never(
                failure().hint("raise `max.message.bytes` of the topic, or count fewer fields with --by").into(),
            ),
            Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
                let hint = "give the user WRITE on the topic and READ on the group";
                TransactionError::Never(failure().hint(hint).into())
            }
            Some(Code::TransactionalIdAuthorizationFailed) => {
                let hint =
                    format!("give the user WRITE and DESCRIBE on the transactional id `{}`", transactional_id(&self.group));
                TransactionError::Never(failure().hint(hint).into())
            }
            _ => match error {
                KafkaError::Transaction(inner) if inner.is_fatal() => TransactionError::Never(failure().into()),
                _ => TransactionError::Again(
                    self.producer.context().listening.client_log.last().unwrap_or_else(|| error.to_string()),
                ),
            },
        }
    }
}

fn transactional_id(group: &str) -> String {
    format!("sdl-aggregate-{group}")
}

struct TransactionAttempt {
    producer: Arc<BaseProducer<DeliveryReports>>,
    stage: Arc<Mutex<TransactionState>>,
    flow: String,
    topic: Topic,
}

impl TransactionAttempt {
    fn publish(
        &self,
        publication: &Transaction,
        member: &GroupMetadata,
        memo: &dyn Fn(Partition, Option<(i32, i64)>) -> String,
    ) -> Result<Option<(i32, i64)>, KafkaError> {
        let stage = lock(&self.stage).clone();
        let last = if let TransactionState::Committing(last) = stage {
            last
        } else {
            if stage == TransactionState::Begun {
                self.abort()?;
            }
            self.producer.begin_transaction()?;
            *lock(&self.stage) = TransactionState::Begun;
            match self.fill(publication, member, memo) {
                Ok(last) => {
                    *lock(&self.stage) = TransactionState::Committing(last);
                    last
                }
                Err(error) => {
                    // If it cannot be aborted now, it is before the next is begun.
                    let _ = self.abort();
                    return Err(error);
                }
            }
        };
        match self.producer.commit_transaction(CALL) {
            Ok(()) => {
                *lock(&self.stage) = TransactionState::None;
                Ok(last)
            }
            Err(error) => {
                if let KafkaError::Transaction(inner) = &error
                    && inner.txn_requires_abort()
                {
                    *lock(&self.stage) = TransactionState::Begun;
                    let _ = self.abort();
                }
                Err(error)
            }
        }
    }

    /// Puts everything into the transaction.
    fn fill(
        &self,
        publication: &Transaction,
        member: &GroupMetadata,
        memo: &dyn Fn(Partition, Option<(i32, i64)>) -> String,
    ) -> Result<Option<(i32, i64)>, KafkaError> {
        *lock(&self.producer.context().heard) = TransactionContext::default();
        for (number, message) in publication.messages.iter().enumerate() {
            let mut record = BaseRecord::with_opaque_to(self.topic.name(), number).key(&message.key).payload(&message.value);
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                self.producer.poll(ROOM);
                record = back;
            }
        }
        self.producer.flush(CALL)?;
        let heard = std::mem::take(&mut *lock(&self.producer.context().heard));
        if let Some(error) = heard.error {
            return Err(error);
        }
        let last = heard.last.map(|(_, partition, offset)| (partition, offset));
        let mut offsets = TopicPartitionList::with_capacity(publication.progress.len());
        for progress in &publication.progress {
            let mut element = offsets.add_partition(progress.partition.topic.name(), progress.partition.index);
            element.set_offset(Offset::Offset(progress.next.0)).expect("an offset is not negative");
            let note = CommitMetadata::new(&self.flow, progress.last).with_extension(memo(progress.partition, last));
            element.set_metadata(note.to_json());
        }
        self.producer.send_offsets_to_transaction(&offsets, &member.0, CALL)?;
        Ok(last)
    }

    fn abort(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + CALL;
        loop {
            match self.producer.abort_transaction(Duration::from_secs(1)) {
                Ok(()) => break,
                // It is over only when the reports of what was dropped have been taken.
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                    self.producer.poll(Duration::from_millis(100));
                }
                Err(error) => return Err(error),
            }
        }
        *lock(&self.stage) = TransactionState::None;
        Ok(())
    }
}

/// Returns the value of the record at `offset`; none if it is not there any more.
///
/// # Errors
/// When the cluster does not answer.
pub async fn value_at(section: &KafkaSection, partition: Partition, offset: i64) -> Result<Option<Vec<u8>>, ConnectorError> {
    let section = section.clone();
    let failure = |why: String| Failure::new(format!("cannot read the record at offset {offset} of {partition}")).because(why);
    let read = tokio::task::spawn_blocking(move || {
        lookup::read(&section, &[(partition, offset)], false, CALL, |record| {
            (record.offset == offset).then(|| record.value.map(<[u8]>::to_vec)).flatten()
        })
    });
    let mut read = read.await.map_err(|error| failure(error.to_string()))??;
    match read.remove(&(partition, offset)) {
        Some(LookupResult::Found(value)) => Ok(value),
        Some(LookupResult::Nothing | LookupResult::OutOfRange) => Ok(None),
        Some(LookupResult::Unknown(why)) => Err(failure(why).into()),
        None => Err(failure("no answer".to_owned()).into()),
    }
}
