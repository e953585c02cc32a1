//! Transactions: messages, and the group's offsets that cover them, become visible together or not at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::admin::blocking;
use crate::connectors::kafka::client_log::{ClientLog, KeepsLog, LogContext};
use crate::connectors::kafka::commit_metadata::CommitMetadata;
use crate::connectors::kafka::config::{client_config, create_client, set_group_id};
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::bootstrap::add_servers;
use crate::connectors::kafka::librdkafka::commits::MAX_COMMIT_PARTITIONS;
use crate::connectors::kafka::lookup::{self, LookupResult};
use crate::connectors::kafka::source::membership::GroupMetadata;
use crate::pipeline::transaction::{Messages, OffsetCommit, OutgoingMessage, Receipt, TransactionError, TransactionSink};
use crate::pipeline::{ConnectorError, Failure, Reason, Refused, Watcher};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition};

/// Timeout of one request to the brokers. The loop asks again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call may take: librdkafka can wait without end for the coordinator of a transaction that moved, whatever its timeout.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait until a full queue has room.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(10);

/// A transactional producer. Of one transactional id, only the newest producer can write.
pub(crate) struct TransactionalProducer {
    client: TransactionalClient,
    /// One call at a time: a call goes on after its caller has stopped waiting.
    calls: Arc<Mutex<()>>,
    /// Looks at the topic that is written to.
    watcher: Option<Watcher>,
}

/// The parts that a call on a blocking thread needs.
#[derive(Clone)]
struct TransactionalClient {
    section: Arc<KafkaSection>,
    transactional_id: String,
    flow: String,
    producer: Arc<Authenticated<BaseProducer<DeliveryReports>>>,
}

/// The report of a message, once it has arrived.
type Report = Option<Result<Receipt, KafkaError>>;

/// Collects the reports of the messages of one transaction, by their index.
#[derive(Clone, Default)]
struct DeliveryReports {
    log: LogContext,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl ClientContext for DeliveryReports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl KeepsLog for DeliveryReports {
    fn client_log(&self) -> Option<ClientLog> {
        self.log.client_log()
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        // A report of an aborted transaction can arrive when its messages are forgotten.
        if let Some(report) = lock(&self.reports).get_mut(index) {
            *report = Some(match result {
                Ok(message) => Ok((message.partition(), message.offset())),
                Err((error, _)) => Err(error.clone()),
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn producer_config(section: &KafkaSection, transactional_id: &str) -> Result<ClientConfig, Failure> {
    let mut config = client_config(section)?;
    config
        .set("transactional.id", transactional_id)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", "lz4")
        .set("linger.ms", "0")
        // The topic has the last word.
        .set("message.max.bytes", "10000000")
        // As Java clients partition, so that a key has one partition whatever program writes it.
        .set("partitioner", "murmur2_random");
    if config.get("transaction.timeout.ms").is_none() {
        // A longer outage ends the run. A killed run does not wait for this: the next one ends its transaction at once.
        config.set("transaction.timeout.ms", "300000");
    }
    Ok(config)
}

impl TransactionalProducer {
    /// Checks that [`Self::open`] can create its client, without contacting a transaction coordinator.
    ///
    /// # Errors
    /// When a property of the section is wrong.
    pub(crate) fn check_client(section: &KafkaSection, transactional_id: &str) -> Result<(), ConnectorError> {
        let config = producer_config(section, transactional_id)?;
        let producer: Authenticated<BaseProducer<DeliveryReports>> = create_client(section, &config, DeliveryReports::default())?;
        drop(producer);
        Ok(())
    }

    /// Opens the producer with this transactional id: fences an older one, and aborts the transaction that it left open. Commits carry
    /// the name of `flow`.
    ///
    /// # Errors
    /// When the client cannot be created, or the brokers do not initialize transactions within `wait`.
    pub(crate) async fn open(
        section: &KafkaSection,
        transactional_id: String,
        flow: String,
        wait: Duration,
    ) -> Result<Self, ConnectorError> {
        let config = producer_config(section, &transactional_id)?;
        let failure = || Failure::new(format!("cannot initialize transactions on `{}`", section.name));
        let producer: Authenticated<BaseProducer<DeliveryReports>> = create_client(section, &config, DeliveryReports::default())?;
        let client =
            TransactionalClient { section: Arc::new(section.clone()), transactional_id, flow, producer: Arc::new(producer) };
        let producer = Arc::clone(&client.producer);
        let initialized = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + wait;
            loop {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
                match producer.init_transactions(left) {
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                        add_servers(producer.client());
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    done => return done,
                }
            }
        });
        initialized.await.map_err(|error| failure().because(error))?.map_err(|error| {
            if let Some(denied) = client.denied(&error) {
                return denied;
            }
            let failure = failure().because(&error);
            if !NativeError::from(error).is_outage() {
                return failure;
            }
            client.producer.poll(Duration::ZERO);
            diagnosis::explain(section, failure, &client.producer.context().log.client_log.recent())
        })?;
        Ok(Self { client, calls: Arc::default(), watcher: None })
    }

    /// Writes only as long as the watcher does not refuse.
    #[must_use]
    pub(crate) fn watched_by(self, watcher: Watcher) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// Checks that no newer producer has the transactional id, by offsets that are never committed: of two instances that start at the
    /// same moment, the one that is fenced must not join the group, where it could take the place of the other.
    ///
    /// # Errors
    /// When a newer one has, or transactions cannot be aborted.
    pub(crate) async fn prove_newest(&self, group: &str, partition: Partition) -> Result<(), ConnectorError> {
        let mut config = client_config(&self.client.section)?;
        set_group_id(&mut config, &self.client.section, Some(group));
        let consumer: Authenticated<BaseConsumer<LogContext>> =
            create_client(&self.client.section, &config, LogContext::default())?;
        let Some(outsider) = blocking(move || consumer.group_metadata()).await? else { return Ok(()) };
        let offsets = OffsetCommit { partition, next: NextOffset(0), fingerprint: None, extension: None };
        let failed = |error| match error {
            TransactionError::Fatal(error) => error,
            TransactionError::Unclear(why) | TransactionError::Abort(why) => self.client.failure().because(why).into(),
            TransactionError::Rejected { reason, .. } => self.client.failure().because(reason).into(),
        };
        self.begin().await.map_err(failed)?;
        match self.send_offsets(GroupMetadata::new(outsider), vec![offsets]).await {
            Err(TransactionError::Fatal(error)) => Err(error),
            // What failed for another reason fails again with the first window.
            _ => self.abort().await.map_err(failed),
        }
    }

    /// Makes a call on the blocking pool.
    async fn call<R: Send + 'static>(
        &self,
        call: impl FnOnce(&TransactionalClient) -> Result<R, TransactionError> + Send + 'static,
    ) -> Result<R, TransactionError> {
        let (client, calls) = (self.client.clone(), Arc::clone(&self.calls));
        let done = tokio::task::spawn_blocking(move || {
            let _only_one = lock(&calls);
            call(&client)
        });
        let lost = |failure: Failure| Err(TransactionError::Fatal(failure.into()));
        let Ok(done) = tokio::time::timeout(CALL_TIMEOUT, done).await else {
            let cause = format!("a call of the transaction has not returned for {} s", CALL_TIMEOUT.as_secs());
            return lost(self.client.failure().because(cause).hint("start again: the cluster aborts the open transaction"));
        };
        done.unwrap_or_else(|error| lost(self.client.failure().because(error)))
    }
}

impl TransactionSink for TransactionalProducer {
    type Member = GroupMetadata;

    async fn begin(&self) -> Result<(), TransactionError> {
        self.call(|client| {
            lock(&client.producer.context().reports).clear();
            client.producer.begin_transaction().map_err(|error| client.abort_or_fatal(&error))
        })
        .await
    }

    async fn send(&self, messages: Messages) -> Result<(), TransactionError> {
        self.call(move |client| messages.iter().try_for_each(|message| client.enqueue(message))).await
    }

    async fn flush(&self) -> Result<Vec<Receipt>, TransactionError> {
        self.call(TransactionalClient::flush).await
    }

    async fn send_offsets(&self, member: GroupMetadata, commits: Vec<OffsetCommit>) -> Result<(), TransactionError> {
        self.call(move |client| {
            // The transaction adds up the offsets of several requests.
            for commits in commits.chunks(MAX_COMMIT_PARTITIONS) {
                let mut offsets = TopicPartitionList::with_capacity(commits.len());
                for commit in commits {
                    let mut element = offsets.add_partition(commit.partition.topic.name(), commit.partition.index);
                    element.set_offset(Offset::Offset(commit.next.0)).expect("an offset is not negative");
                    let metadata = CommitMetadata::new(&client.flow, commit.fingerprint);
                    let extension = commit.extension.clone();
                    element.set_metadata(extension.into_iter().fold(metadata, CommitMetadata::with_extension).to_json());
                }
                let sent = client.producer.send_offsets_to_transaction(&offsets, member.native(), REQUEST_TIMEOUT);
                sent.map_err(|error| client.abort_or_fatal(&error))?;
            }
            Ok(())
        })
        .await
    }

    async fn commit(&self) -> Result<(), TransactionError> {
        self.call(|client| {
            client.producer.commit_transaction(REQUEST_TIMEOUT).map_err(|error| match &error {
                KafkaError::Transaction(inner) if inner.txn_requires_abort() => TransactionError::Abort(client.text(&error)),
                _ => match client.abort_or_fatal(&error) {
                    TransactionError::Abort(text) => TransactionError::Unclear(text),
                    other => other,
                },
            })
        })
        .await
    }

    fn refusal(&self) -> Option<ConnectorError> {
        self.watcher.as_ref()?.refusal()
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        match &self.watcher {
            Some(watcher) => watcher.confirm().await,
            None => Ok(()),
        }
    }

    async fn abort(&self) -> Result<(), TransactionError> {
        self.call(|client| {
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            loop {
                match client.producer.abort_transaction(Duration::from_secs(1)) {
                    Ok(()) => return Ok(()),
                    // It ends only when the delivery reports of the purged messages have been served.
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                        client.producer.poll(Duration::from_millis(100));
                    }
                    Err(error) => return Err(client.abort_or_fatal(&error)),
                }
            }
        })
        .await
    }
}

impl TransactionalClient {
    fn enqueue(&self, message: &OutgoingMessage) -> Result<(), TransactionError> {
        let index = {
            let mut reports = lock(&self.producer.context().reports);
            reports.push(None);
            reports.len() - 1
        };
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(message.topic.name(), index);
        record.partition = message.partition;
        record.timestamp = message.timestamp;
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (name, value) in &message.headers {
                let Ok(key) = std::str::from_utf8(name) else {
                    let reason = Reason::new("header_name", "a header name is not UTF-8");
                    return Err(TransactionError::Rejected { messages: vec![index], reason });
                };
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            record.headers = Some(headers);
        }
        while let Err((error, returned)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.rejected(&error, vec![index]).unwrap_or_else(|| self.abort_or_fatal(&error)));
            }
            self.producer.poll(QUEUE_TIMEOUT);
            record = returned;
        }
        Ok(())
    }

    fn flush(&self) -> Result<Vec<Receipt>, TransactionError> {
        let flushed = self.producer.flush(REQUEST_TIMEOUT);
        let reports = lock(&self.producer.context().reports);
        let failed = || reports.iter().enumerate().filter_map(|(index, report)| Some((index, report.as_ref()?.as_ref().err()?)));
        // After a refusal, librdkafka fails the messages behind it as well: theirs is another error.
        if let Some((_, error)) = failed().find(|(_, error)| self.rejected(error, Vec::new()).is_some()) {
            let same = failed().filter(|(_, other)| other.rdkafka_error_code() == error.rdkafka_error_code());
            return Err(self.rejected(error, same.map(|(index, _)| index).collect()).expect("it is a refusal"));
        }
        if let Some((_, error)) = failed().next() {
            return Err(self.abort_or_fatal(error));
        }
        flushed.map_err(|error| self.abort_or_fatal(&error))?;
        let receipts = reports.iter().map(|report| report.as_ref().and_then(|report| report.as_ref().ok().copied()));
        let missing = || TransactionError::Abort("a message was not acknowledged".to_owned());
        receipts.collect::<Option<_>>().ok_or_else(missing)
    }

    /// Returns the refusal of these messages if the error blames one of them.
    fn rejected(&self, error: &KafkaError, messages: Vec<usize>) -> Option<TransactionError> {
        use RDKafkaErrorCode as Code;
        let (code, hint) = match error.rdkafka_error_code()? {
            Code::MessageSizeTooLarge => ("record_too_large", Some("raise `max.message.bytes` of the topic")),
            Code::InvalidTimestamp => ("timestamp_out_of_range", None),
            Code::InvalidRecord | Code::InvalidMessage => ("invalid_record", None),
            _ => return None,
        };
        let reason = Reason::new(code, format!("`{}` does not accept the message: {error}", self.section.name));
        Some(TransactionError::Rejected { messages, reason: hint.into_iter().fold(reason, Reason::hint) })
    }

    fn abort_or_fatal(&self, error: &KafkaError) -> TransactionError {
        use RDKafkaErrorCode as Code;
        if let Some(denied) = self.denied(error) {
            return TransactionError::Fatal(denied.into());
        }
        match error.rdkafka_error_code() {
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
                let refused = Refused {
                    what: "another instance has taken over, or the transaction was open for too long".to_owned(),
                    numbers: vec![format!("transactional id: {}", self.transactional_id)],
                    hint: "start again if there is no other instance: only one instance of a group can be active".to_owned(),
                };
                TransactionError::Fatal(refused.into())
            }
            _ => match error {
                KafkaError::Transaction(inner) if inner.is_fatal() => {
                    TransactionError::Fatal(self.failure().because(error).into())
                }
                _ => {
                    add_servers(self.producer.client());
                    TransactionError::Abort(self.text(error))
                }
            },
        }
    }

    /// Returns the failure of a missing right, if that is the error.
    fn denied(&self, error: &KafkaError) -> Option<Failure> {
        use RDKafkaErrorCode as Code;
        let denied = |what: &str| Failure::new(format!("not allowed to {what} `{}`", self.section.name));
        match error.rdkafka_error_code()? {
            Code::TopicAuthorizationFailed => {
                Some(denied("write to the target topic of").hint(AclOperation::WriteTopic("").hint()))
            }
            Code::GroupAuthorizationFailed => {
                Some(denied("commit the offsets of the group on").hint(AclOperation::ReadGroup("").hint()))
            }
            Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                Some(AclOperation::UseTransactionalId(&self.transactional_id).denied(&self.section.name))
            }
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        Failure::new(format!("cannot write to `{}`", self.section.name))
    }

    /// Returns why the brokers do not answer, as far as the client's log tells.
    fn text(&self, error: &KafkaError) -> String {
        let lines = self.producer.context().log.client_log.lines();
        diagnosis::last_reason(&self.section, &lines).unwrap_or_else(|| error.to_string())
    }
}

/// Returns the value of the record at `offset`, or `None` if it is gone.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn value_at(
    section: &KafkaSection,
    partition: Partition,
    offset: i64,
) -> Result<Option<Vec<u8>>, ConnectorError> {
    let (section, section_name) = (section.clone(), section.name.clone());
    let failure = |why: String| Failure::new(format!("cannot read the record at offset {offset} of {partition}")).because(why);
    let read = tokio::task::spawn_blocking(move || {
        lookup::read(&section, &[(partition, offset)], false, REQUEST_TIMEOUT, |record, _| {
            (record.offset == offset).then(|| record.value.map(<[u8]>::to_vec)).flatten()
        })
    });
    let mut read = read.await.map_err(|error| failure(error.to_string()))??;
    match read.remove(&(partition, offset)) {
        Some(LookupResult::Denied) => Err(AclOperation::ReadTopic(partition.topic.name()).denied(&section_name).into()),
        Some(LookupResult::Found(value)) => Ok(value),
        Some(LookupResult::Nothing | LookupResult::OutOfRange) => Ok(None),
        Some(LookupResult::Unknown(why)) => Err(failure(why).into()),
        None => Err(failure("no answer".to_owned()).into()),
    }
}
