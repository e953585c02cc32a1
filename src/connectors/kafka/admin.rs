//! Topics, their settings and their offsets.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::client_log::{LogContext, recent_lines};
use crate::connectors::kafka::config::{client_config, create_client, set_group_id};
use crate::connectors::kafka::connect::reach;
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::admin::{DescribeTopicsRequest, TopicDescription};
use crate::connectors::kafka::librdkafka::bootstrap::{add_servers, has_controller};
use crate::connectors::kafka::librdkafka::{self, NativeError, UnansweredRequests};
use crate::connectors::kafka::sink::{Targets, TopicLimits};
use crate::connectors::kafka::topic_presence::{CreationVerdict, TopicListing, is_gone, of_creation};
use crate::pipeline::{ConnectorError, Failure, FailureKind};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// Timeout of one request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a request is sent again.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How often a topic is looked for that a broker does not list yet.
const LISTING_INTERVAL: Duration = Duration::from_millis(200);

/// How long a topic is looked for that is to be read: a loaded broker learns late of one that was just created. A wrong name waits as
/// long for its error.
const LATE_TOPIC: Duration = Duration::from_secs(3);

/// The names that Kafka allows.
pub(crate) const TOPIC_NAME_RULE: &str = "use up to 249 letters, digits, dots, underscores and dashes";

/// An admin client. Cheap to clone; every request has a deadline of 10 s.
#[derive(Clone)]
pub struct Admin {
    section: Arc<KafkaSection>,
    client: Arc<AdminConnection>,
    changes: Arc<Authenticated<AdminClient<LogContext>>>,
    cluster_id: String,
    /// For how long a request is sent again while a leader or coordinator moves.
    patience: Duration,
}

/// The client that asks, and what it has asked without an answer.
pub(super) struct AdminConnection {
    /// Dropped before the client.
    pub(super) unanswered: UnansweredRequests,
    client: Authenticated<BaseConsumer<LogContext>>,
}

impl Deref for AdminConnection {
    type Target = BaseConsumer<LogContext>;

    fn deref(&self) -> &BaseConsumer<LogContext> {
        &self.client
    }
}

/// A topic and its number of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub(crate) topic: Topic,
    pub(crate) partitions: i32,
}

/// The value of a topic setting, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSetting {
    pub(crate) value: String,
    /// Whether it is set on this topic rather than inherited.
    pub(crate) own: bool,
}

/// The settings of a topic by name, or why the broker withholds them.
pub(crate) type TopicSettings = Result<HashMap<String, TopicSetting>, NativeError>;

/// A topic to create.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    /// The replication factor; the cluster's default without.
    pub(crate) replication: Option<i32>,
    pub(crate) config: Vec<(String, String)>,
    /// Settings that a cluster may refuse, by its version or its policy: the topic is created without them.
    pub(crate) optional_config: Vec<(String, String)>,
}

/// An offset of a partition to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Start,
    /// The log end offset.
    Log,
    /// The last stable offset: the end for readers of committed records.
    Stable,
    /// The first at or after this time, in milliseconds since the Unix epoch; absent if there is none.
    Time(i64),
}

impl Admin {
    /// Connects to the cluster of `section` and waits up to `wait` for its first answer.
    ///
    /// # Errors
    /// When it does not answer, or is not the cluster that the section's `cluster_id` names.
    pub async fn connect(section: &KafkaSection, wait: Duration) -> Result<Self, ConnectorError> {
        let cluster = reach(section, wait).await?;
        let mut config = client_config(section)?;
        let admin: Authenticated<AdminClient<LogContext>> = create_client(section, &config, LogContext::default())?;
        set_group_id(&mut config, section, None);
        let client: Authenticated<BaseConsumer<LogContext>> = create_client(section, &config, LogContext::default())?;
        let client = AdminConnection { unanswered: UnansweredRequests::default(), client };
        let (section, client) = (Arc::new(section.clone()), Arc::new(client));
        let patience = wait.max(REQUEST_TIMEOUT);
        Ok(Self { section, client, changes: Arc::new(admin), cluster_id: cluster.id.unwrap_or_default(), patience })
    }

    /// Returns the name of the section that it is connected to.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section.name
    }

    /// Returns the cluster's id; empty where the cluster has none.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Returns whether the brokers are librdkafka's mock, which answers no admin requests.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        is_embedded(&self.cluster_id)
    }

    pub(super) fn client(&self) -> Arc<AdminConnection> {
        Arc::clone(&self.client)
    }

    pub(super) fn changes(&self) -> &AdminClient<LogContext> {
        &self.changes
    }

    pub(super) fn profile_section(&self) -> Arc<KafkaSection> {
        Arc::clone(&self.section)
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Returns the failure of a request. If no broker answered, it may be repeated, and names the brokers that cannot be reached.
    pub(super) fn failed(&self, what: &str, error: impl Into<NativeError>) -> Failure {
        let error = error.into();
        let failure = self.failure(what).because(&error);
        if !error.is_outage() {
            return failure;
        }
        add_servers(self.client.client());
        add_servers(self.changes.inner());
        let mut lines = recent_lines(&self.client);
        lines.extend(self.changes.inner().context().client_log.recent());
        diagnosis::explain(&self.section, failure.passing(), &lines)
    }

    /// Returns the failure of a request that needs a right.
    pub(super) fn denied_or_failed(&self, operation: AclOperation<'_>, what: &str, error: impl Into<NativeError>) -> Failure {
        let error = error.into();
        if error.is_denied() { operation.denied(self.section()) } else { self.failed(what, error) }
    }

    /// Returns all topics, sorted by name.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ConnectorError> {
        self.metadata(None).await
    }

    /// Returns the topic `name`, if it exists.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, ConnectorError> {
        Ok(self.metadata(Some(name.to_owned())).await?.into_iter().next())
    }

    /// Returns the topic `name`, which is to be read, if it exists; one that was just created is looked for again, for up to `wait`.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) async fn topic_to_read(&self, name: &str, wait: Duration) -> Result<Option<TopicInfo>, ConnectorError> {
        check_name(Some(name))?;
        let (client, only) = (Arc::clone(&self.client), name.to_owned());
        let found = blocking(move || topic_to_read(client.client(), &only, wait));
        let operation = AclOperation::DescribeTopic(name);
        found.await?.map_err(|error| self.denied_or_failed(operation, "list the topics of", error).into())
    }

    /// Returns the topic `name`; `None` only if it certainly does not exist, whatever the broker lists that is asked. For topics that
    /// are written to: what is done about a missing one cannot be taken back.
    ///
    /// # Errors
    /// When that cannot be found out, or the cluster denies the request.
    pub(crate) async fn find_topic(&self, name: &str) -> Result<Option<TopicInfo>, ConnectorError> {
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
        loop {
            let found = self.topic(name).await?;
            if found.is_some() || self.is_absent(Topic::named(name)).await? {
                return Ok(found);
            }
            if tokio::time::Instant::now() > deadline {
                let why = format!("a broker does not list topic `{name}`, which exists");
                return Err(self.failure("list the topics of").because(why).passing().into());
            }
            tokio::time::sleep(LISTING_INTERVAL).await;
        }
    }

    /// Returns whether a topic that a broker does not list does not exist; embedded brokers know.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(crate) async fn is_absent(&self, topic: Topic) -> Result<bool, ConnectorError> {
        if self.is_embedded() {
            return Ok(true);
        }
        match of_creation(self.validate_creation(topic.name()).await) {
            CreationVerdict::Exists => Ok(false),
            CreationVerdict::Absent => Ok(true),
            CreationVerdict::Outage(error) => Err(self.failed("ask the controller for a topic of", error).into()),
            CreationVerdict::Nothing => self.agree_that_gone(topic, None).await,
        }
    }

    /// Returns those topics that do not exist, out of those that a broker does not list.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(crate) async fn confirm_missing(&self, unlisted: Vec<Topic>) -> Result<Vec<Topic>, ConnectorError> {
        let mut missing = Vec::new();
        for topic in unlisted {
            // A broker that starts answers before it knows its cluster: the next look tells.
            if self.has_controller() && self.is_absent(topic).await? {
                missing.push(topic);
            }
        }
        Ok(missing)
    }

    /// Returns whether a topic of which the id is `known`, and that a broker lists with another one, was deleted and created again.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(crate) async fn is_replaced(&self, topic: Topic, known: &str) -> Result<bool, ConnectorError> {
        self.agree_that_gone(topic, Some(known.to_owned())).await
    }

    /// Returns the error with which the controller refuses to create the topic, which is not created.
    pub(super) async fn validate_creation(&self, name: &str) -> Option<NativeError> {
        let new = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
        // Without a timeout of the operation, librdkafka reports a controller that does not answer the broker as success.
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        match self.changes.create_topics([&new], &options.validate_only(true)).await {
            Ok(answers) => answers.into_iter().find_map(|answer| answer.err().map(|(_, code)| code.into())),
            Err(error) => Some(error.into()),
        }
    }

    /// Returns whether the brokers agree that a topic is gone, with its id if that is `known`.
    async fn agree_that_gone(&self, topic: Topic, known: Option<String>) -> Result<bool, ConnectorError> {
        let client = Arc::clone(&self.client);
        let listings = blocking(move || listings(client.client(), topic, REQUEST_TIMEOUT)).await?;
        let listings = listings.map_err(|error| self.failed("list the topics of", error))?;
        let too_few =
            || self.failure(&format!("look up topic `{topic}` of")).because("most of the brokers do not answer").passing();
        is_gone(known.as_deref(), &listings).ok_or_else(|| too_few().into())
    }

    async fn metadata(&self, only: Option<String>) -> Result<Vec<TopicInfo>, ConnectorError> {
        check_name(only.as_deref())?;
        let (client, name) = (Arc::clone(&self.client), only.clone().unwrap_or_default());
        let fetched = blocking(move || list_topics(client.client(), only.as_deref(), REQUEST_TIMEOUT));
        let operation = AclOperation::DescribeTopic(&name);
        fetched.await?.map_err(|error| self.denied_or_failed(operation, "list the topics of", error).into())
    }

    /// Returns the number of brokers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn broker_count(&self) -> Result<usize, ConnectorError> {
        let client = Arc::clone(&self.client);
        let fetched =
            blocking(move || client.client().fetch_metadata(None, REQUEST_TIMEOUT).map(|metadata| metadata.brokers().len()));
        fetched.await?.map_err(|error| self.failed("list the brokers of", error).into())
    }

    /// Returns the settings of a topic that exists, or `None` if the user may not read them; no settings from embedded brokers. A
    /// broker learns late of a topic that has just been created: it is asked again.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request for another reason.
    pub(crate) async fn settings(&self, topic: Topic) -> Result<Option<HashMap<String, TopicSetting>>, ConnectorError> {
        let what = || format!("describe the configuration of topic `{topic}` of");
        let deadline = std::time::Instant::now() + REQUEST_TIMEOUT;
        let answer = loop {
            match self.settings_of(&[topic]).await?.remove(&topic) {
                Some(Err(error))
                    if error.code == RDKafkaErrorCode::UnknownTopicOrPartition && std::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => break answer,
            }
        };
        match answer {
            None if self.is_embedded() => Ok(Some(HashMap::new())),
            None => {
                let error = NativeError { text: "no answer".to_owned(), ..NativeError::no_answer() };
                Err(self.failed(&what(), error).into())
            }
            Some(Ok(settings)) => Ok(Some(settings)),
            Some(Err(error)) if error.is_denied() => Ok(None),
            Some(Err(error)) => Err(self.failed(&what(), error).into()),
        }
    }

    /// Returns the settings of each topic, or why the broker withholds them; nothing from embedded brokers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn settings_of(&self, topics: &[Topic]) -> Result<HashMap<Topic, TopicSettings>, ConnectorError> {
        if self.is_embedded() || topics.is_empty() {
            return Ok(HashMap::new());
        }
        let topics = topics.to_vec();
        let described = self.request(move |client| {
            let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            librdkafka::admin::topic_configs(client, &names, REQUEST_TIMEOUT)
        });
        let described = described.await?.map_err(|error| self.failed("describe the configuration of topics of", error))?;
        let settings = |entries: Vec<librdkafka::admin::ConfigEntry>| {
            let settings = entries
                .into_iter()
                .filter_map(|entry| Some((entry.name, TopicSetting { value: entry.value?, own: entry.is_dynamic_topic })));
            settings.collect()
        };
        Ok(described.into_iter().map(|(topic, answer)| (Topic::named(&topic), answer.map(settings))).collect())
    }

    /// Looks up the limits of `topic` for records and adds them to `targets`.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn load_topic_limits(&self, topic: Topic, targets: &Targets) -> Result<(), ConnectorError> {
        let settings = self.settings(topic).await?;
        let is_withheld = settings.is_none();
        let settings = settings.unwrap_or_default();
        let value = |key: &str| settings.get(key).map(|setting| setting.value.as_str());
        let number = |key: &str| value(key)?.parse().ok();
        let limits = TopicLimits {
            max_message_bytes: value("max.message.bytes").and_then(|text| text.parse().ok()),
            needs_key: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            timestamps: number("message.timestamp.before.max.ms")
                .zip(number("message.timestamp.after.max.ms"))
                .filter(|_| value("message.timestamp.type") == Some("CreateTime")),
        };
        let known = targets.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(topic, limits);
        if known.is_none() && is_withheld {
            tracing::warn!(
                "{topic}: not allowed to read its settings (DESCRIBE_CONFIGS on the topic of `{}`): the broker, and not this \
                 program, finds the records that it does not accept",
                self.section.name
            );
        }
        if known.is_none() && value("message.timestamp.type") == Some("LogAppendTime") {
            tracing::warn!("{topic}: the broker replaces the timestamps of the records (message.timestamp.type=LogAppendTime)");
        }
        Ok(())
    }

    /// Checks that the cluster can create a topic, as far as that is known before it is asked to.
    ///
    /// # Errors
    /// When the brokers are embedded: they create none.
    pub(crate) fn check_creatable(&self, name: &str) -> Result<(), ConnectorError> {
        if !self.is_embedded() {
            return Ok(());
        }
        let failure = self.failure(&format!("create topic `{name}` on")).because("embedded brokers cannot create topics");
        Err(failure.kind(FailureKind::NotCreatable(name.to_owned())).into())
    }

    /// Creates a topic, unless it exists, and waits until the cluster lists it.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn create_topic(&self, plan: &TopicPlan) -> Result<(), ConnectorError> {
        self.check_creatable(&plan.name)?;
        let what = format!("create topic `{}` on", plan.name);
        let mut refusal = self.request_topic(plan, plan.config.iter().chain(&plan.optional_config)).await?;
        let refuses_settings = matches!(refusal, Some(RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::PolicyViolation));
        if refuses_settings && !plan.optional_config.is_empty() {
            refusal = self.request_topic(plan, plan.config.iter()).await?;
        }
        match refusal {
            // Another member of the group was faster.
            None | Some(RDKafkaErrorCode::TopicAlreadyExists) => {}
            Some(code) => return Err(self.denied_or_failed(AclOperation::CreateTopic(&plan.name), &what, code).into()),
        }
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
        while self.topic(&plan.name).await?.is_none_or(|known| known.partitions < plan.partitions) {
            if tokio::time::Instant::now() > deadline {
                return Err(self.failure(&what).because("the cluster does not list it").passing().into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Returns the code with which the cluster refuses to create a topic.
    async fn request_topic(
        &self,
        plan: &TopicPlan,
        config: impl Iterator<Item = &(String, String)>,
    ) -> Result<Option<RDKafkaErrorCode>, ConnectorError> {
        let replication = TopicReplication::Fixed(plan.replication.unwrap_or(-1));
        let new = NewTopic::new(&plan.name, plan.partitions, replication);
        let new = config.fold(new, |new, (key, value)| new.set(key, value));
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let answers = self.changes.create_topics([&new], &options).await;
        let answers = answers.map_err(|error| self.failed(&format!("create topic `{}` on", plan.name), error))?;
        Ok(answers.into_iter().find_map(|answer| answer.err().map(|(_, code)| code)))
    }

    /// Raises the number of partitions of a topic to `count`, unless it has as many.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn create_partitions(&self, topic: Topic, count: i32) -> Result<(), ConnectorError> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let what = format!("raise topic `{topic}` to {count} partitions on");
        let new = NewPartitions::new(topic.name(), usize::try_from(count).unwrap_or(0));
        let answers = self.changes.create_partitions([&new], &options).await.map_err(|error| self.failed(&what, error))?;
        for answer in answers {
            if let Err((_, code)) = answer {
                let known = self.topic(topic.name()).await?;
                if known.is_none_or(|known| known.partitions < count) {
                    return Err(self.denied_or_failed(AclOperation::AddPartitions(topic.name()), &what, code).into());
                }
            }
        }
        Ok(())
    }

    /// Returns one offset of each partition; with [`OffsetSpec::Time`], of each that has one.
    ///
    /// # Errors
    /// When the cluster does not answer for every partition.
    pub async fn ends(&self, partitions: &[Partition], of: OffsetSpec) -> Result<HashMap<Partition, i64>, ConnectorError> {
        let partitions = partitions.to_vec();
        let listed = self.request(move |client| list_offsets(client, &partitions, of)).await?;
        listed.map_err(|error| listing_failure(self.failed("list the offsets of", error.clone()), &error).into())
    }

    /// Returns the id of each topic that has one; none from embedded brokers.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn topic_ids(&self, topics: &[Topic]) -> Result<HashMap<Topic, String>, ConnectorError> {
        let topics = topics.to_vec();
        let described = self.request(move |client| topic_ids(client, &topics, REQUEST_TIMEOUT)).await?;
        described.map_err(|error| self.failed("describe the topics of", error).into())
    }

    /// Returns the ids of those topics that exist and have one, and the topics that do not exist; nothing from embedded brokers.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) async fn existing_ids(&self, topics: &[Topic]) -> Result<(HashMap<Topic, String>, Vec<Topic>), ConnectorError> {
        let topics = topics.to_vec();
        let described = self.request(move |client| describe_topics(client, &topics, REQUEST_TIMEOUT)).await?;
        let described = described.map_err(|error| self.failed("describe the topics of", error))?;
        let (mut ids, mut missing) = (HashMap::new(), Vec::new());
        for (topic, answer) in described {
            match answer {
                Ok(of) => ids.extend(of.id.map(|id| (topic, id))),
                Err(error) if error.code == RDKafkaErrorCode::UnknownTopicOrPartition => missing.push(topic),
                Err(error) => return Err(self.failed("describe the topics of", error).into()),
            }
        }
        Ok((ids, missing))
    }

    /// Returns whether the brokers' last answer is that of a cluster: without a controller, a topic that they do not list may exist.
    fn has_controller(&self) -> bool {
        has_controller(self.client.client())
    }

    /// Returns whether it should be replaced: a coordinator has not answered for a long time.
    #[must_use]
    pub(crate) fn is_overdue(&self) -> bool {
        self.client.unanswered.is_overdue()
    }

    /// Connects again, with clients of its own.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn reconnected(&self) -> Result<Self, ConnectorError> {
        Self::connect(&self.section, self.patience).await
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Sends a request again while a leader or coordinator moves, as long as the start may wait for the servers.
    pub(super) async fn request<T: Send + 'static>(
        &self,
        send: impl Fn(&Client<LogContext>) -> Result<T, NativeError> + Send + 'static,
    ) -> Result<Result<T, NativeError>, ConnectorError> {
        self.request_of_group(move |client, _| send(client)).await
    }

    /// As [`Self::request`], to the coordinators of groups.
    pub(super) async fn request_of_group<T: Send + 'static>(
        &self,
        send: impl Fn(&Client<LogContext>, &UnansweredRequests) -> Result<T, NativeError> + Send + 'static,
    ) -> Result<Result<T, NativeError>, ConnectorError> {
        let (client, deadline) = (Arc::clone(&self.client), std::time::Instant::now() + self.patience);
        blocking(move || {
            loop {
                match send(client.client(), &client.unanswered) {
                    Err(error) if error.is_passing() && std::time::Instant::now() < deadline => {
                        std::thread::sleep(RETRY_BACKOFF);
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }
}

/// Returns these partitions as librdkafka's list.
pub(super) fn partition_list(partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(partition.topic.name(), partition.index);
    }
    list
}

/// Checks the name of a topic to look up.
///
/// # Errors
/// When Kafka does not allow it.
pub(super) fn check_name(topic: Option<&str>) -> Result<(), Failure> {
    match topic.filter(|name| !Topic::is_valid_name(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::new(format!("`{name}` is not a valid topic name")).hint(TOPIC_NAME_RULE)),
    }
}

/// Returns all topics, or only one if it exists, sorted by name. Blocking.
pub(crate) fn list_topics<C: rdkafka::ClientContext>(
    client: &Client<C>,
    only: Option<&str>,
    timeout: Duration,
) -> Result<Vec<TopicInfo>, KafkaError> {
    let metadata = client.fetch_metadata(only, timeout)?;
    let mut topics = Vec::new();
    for topic in metadata.topics() {
        match topic.error().map(RDKafkaErrorCode::from) {
            None => topics.push(TopicInfo {
                topic: Topic::named(topic.name()),
                partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
            }),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
            Some(code) if only.is_some() => return Err(KafkaError::MetadataFetch(code)),
            Some(_) => {}
        }
    }
    topics.sort_by_key(|topic| topic.topic);
    Ok(topics)
}

/// Returns the topic `name`, if it exists; looked for again for up to `wait`, and [`LATE_TOPIC`]. Blocking.
pub(crate) fn topic_to_read<C: rdkafka::ClientContext>(
    client: &Client<C>,
    name: &str,
    wait: Duration,
) -> Result<Option<TopicInfo>, KafkaError> {
    let look = || Ok(list_topics(client, Some(name), REQUEST_TIMEOUT)?.into_iter().next());
    look_again(wait.min(LATE_TOPIC), LISTING_INTERVAL, look)
}

/// Looks until something is found, but not again later than `patience` after the first look has ended. Blocking.
fn look_again<T, E>(
    patience: Duration,
    interval: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut found = look()?;
    let begun = std::time::Instant::now();
    while found.is_none() && begun.elapsed() + interval <= patience {
        std::thread::sleep(interval);
        found = look()?;
    }
    Ok(found)
}

/// Returns whether the user may not see these settings.
pub(crate) fn is_denied(settings: &TopicSettings) -> bool {
    settings.as_ref().is_err_and(NativeError::is_denied)
}

/// Returns whether the id is that of embedded brokers.
pub(crate) fn is_embedded(cluster_id: &str) -> bool {
    cluster_id.starts_with("mockCluster")
}

/// Returns the id of each topic that has one; none from embedded brokers. Blocking.
pub(crate) fn topic_ids<C: rdkafka::ClientContext>(
    client: &Client<C>,
    topics: &[Topic],
    timeout: Duration,
) -> Result<HashMap<Topic, String>, NativeError> {
    let described = describe_topics(client, topics, timeout)?.into_iter();
    // The id of a topic with an error is unknown, not absent.
    described.filter_map(|(topic, answer)| answer.map(|of| Some((topic, of.id?))).transpose()).collect()
}

/// Returns the description of each topic, or why it is unknown; none from embedded brokers. Blocking.
///
/// While no broker can be reached, an admin request makes librdkafka 2.12 connect without a pause, on a whole core, until its timeout.
/// A request for metadata keeps to the back-off: it goes first.
pub(crate) fn describe_topics<C: rdkafka::ClientContext>(
    client: &Client<C>,
    topics: &[Topic],
    timeout: Duration,
) -> Result<HashMap<Topic, Result<TopicDescription, NativeError>>, NativeError> {
    if topics.is_empty() || client.fetch_cluster_id(timeout).is_some_and(|id| is_embedded(&id)) {
        return Ok(HashMap::new());
    }
    let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
    client.fetch_metadata(names.first().copied(), timeout)?;
    let described = librdkafka::admin::describe_topics(client, &names, timeout)?;
    Ok(described.into_iter().map(|(name, description)| (Topic::named(&name), description)).collect())
}

/// Returns what each broker of the metadata says of a topic. Blocking.
fn listings<C: rdkafka::ClientContext>(
    client: &Client<C>,
    topic: Topic,
    timeout: Duration,
) -> Result<Vec<TopicListing>, NativeError> {
    let metadata = client.fetch_metadata(Some(topic.name()), timeout)?;
    let ask = |broker: i32| DescribeTopicsRequest::send_to(client, Some(broker), &[topic.name()], timeout);
    let asked = metadata.brokers().iter().map(|broker| ask(broker.id())).collect::<Result<Vec<_>, _>>()?;
    let listing = |request: DescribeTopicsRequest| match request.poll(timeout + Duration::from_secs(1)) {
        Some(Ok(answers)) => match answers.into_iter().next() {
            Some((_, Ok(description))) => TopicListing::Listed(description.id),
            Some((_, Err(error))) if error.code == RDKafkaErrorCode::UnknownTopicOrPartition => TopicListing::Missing,
            _ => TopicListing::Unknown,
        },
        Some(Err(_)) | None => TopicListing::Unknown,
    };
    Ok(asked.into_iter().map(listing).collect())
}

/// Returns one offset of each partition; with [`OffsetSpec::Time`], of each that has one. Blocking.
pub(crate) fn list_offsets<C: rdkafka::ClientContext>(
    client: &Client<C>,
    partitions: &[Partition],
    of: OffsetSpec,
) -> Result<HashMap<Partition, i64>, NativeError> {
    let mut offsets = HashMap::with_capacity(partitions.len());
    for (partition, offset) in partition_offsets(client, partitions, of)? {
        let offset = offset.map_err(|error| NativeError { text: format!("{partition}: {error}"), ..error })?;
        offsets.extend(offset.map(|listed| (partition, listed.offset)));
    }
    Ok(offsets)
}

/// An offset, and the leader epoch in which the partition's leader found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListedOffset {
    pub(super) offset: i64,
    /// Absent on brokers without leader epochs.
    pub(super) leader_epoch: Option<i32>,
}

/// An offset, `None` if no record is as late as [`OffsetSpec::Time`], or why the offset is unknown, with the partition's leader.
pub(super) type PartitionOffset = Result<Option<ListedOffset>, NativeError>;

/// Returns an answer for every partition. Blocking.
pub(super) fn partition_offsets<C: rdkafka::ClientContext>(
    client: &Client<C>,
    partitions: &[Partition],
    of: OffsetSpec,
) -> Result<Vec<(Partition, PartitionOffset)>, NativeError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let is_by_time = matches!(of, OffsetSpec::Time(_));
    if is_by_time && client.fetch_cluster_id(REQUEST_TIMEOUT).is_some_and(|id| is_embedded(&id)) {
        return Err(NativeError::not_embedded("embedded brokers find no offsets by time"));
    }
    let requested: Vec<_> = partitions.iter().map(|partition| (partition.topic.name(), partition.index)).collect();
    let (spec, read_committed) = offset_query(of);
    let list = || librdkafka::admin::list_offsets(client, &requested, spec, read_committed, REQUEST_TIMEOUT);
    let mut answer = list();
    let is_stale = match &answer {
        Ok(entries) => entries.iter().any(|entry| entry.error.as_ref().is_some_and(NativeError::is_unknown_partition)),
        Err(error) => error.is_unknown_partition(),
    };
    if is_stale {
        // librdkafka looks for leaders in metadata that may be 15 minutes old: a partition can be newer.
        let topics: BTreeSet<&str> = requested.iter().map(|(topic, _)| *topic).collect();
        for topic in topics {
            client.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        }
        answer = list();
    }
    let entries = answer?;
    let listed = |entry: &librdkafka::PartitionEntry| ListedOffset { offset: entry.offset, leader_epoch: entry.leader_epoch };
    let mut offsets: HashMap<_, _> =
        entries.into_iter().map(|entry| (Partition::new(&entry.topic, entry.partition), (listed(&entry), entry.error))).collect();
    let mut metadata = HashMap::new();
    let answers = partitions.iter().map(|partition| {
        let answer = match offsets.remove(partition) {
            Some((listed, None)) if listed.offset >= 0 => Ok(Some(listed)),
            Some((_, None)) if is_by_time => Ok(None),
            answer => {
                let error = answer.and_then(|(_, error)| error).unwrap_or_else(NativeError::no_answer);
                let fetch = || client.fetch_metadata(Some(partition.topic.name()), REQUEST_TIMEOUT).ok();
                let leader = metadata.entry(partition.topic).or_insert_with(fetch).as_ref();
                let leader = leader.map_or(String::new(), |metadata| leader_of(metadata, *partition));
                let is_silent = error == NativeError::no_answer();
                let text = if is_silent && leader == NO_LEADER { LEADERLESS.to_owned() } else { format!("{error}{leader}") };
                Err(NativeError { text, ..error })
            }
        };
        (*partition, answer)
    });
    Ok(answers.collect())
}

/// Adds the hint of a request for offsets to its failure.
pub(super) fn listing_failure(failure: Failure, error: &NativeError) -> Failure {
    match error.code {
        RDKafkaErrorCode::NotImplemented => failure.hint("name an offset, `beginning` or `end`"),
        _ if error.is_denied() => failure.hint(AclOperation::DescribeTopic("").hint()),
        _ => failure,
    }
}

const LEADERLESS: &str = "the partition has no leader";
pub(super) const NO_LEADER: &str = " (the partition has no leader)";

/// Returns the leader of a partition as part of a sentence: id and advertised address.
pub(super) fn leader_of(metadata: &Metadata, partition: Partition) -> String {
    let topic = metadata.topics().iter().find(|topic| topic.name() == partition.topic.name());
    let known = topic.and_then(|topic| topic.partitions().iter().find(|known| known.id() == partition.index));
    let Some(known) = known else { return String::new() };
    let broker = metadata.brokers().iter().find(|broker| broker.id() == known.leader());
    broker.map_or_else(
        || NO_LEADER.to_owned(),
        |broker| format!(" (the leader is broker {}, advertised as {}:{})", broker.id(), broker.host(), broker.port()),
    )
}

/// Returns the query of a spec, and whether it is a read_committed one.
fn offset_query(of: OffsetSpec) -> (librdkafka::admin::OffsetQuery, bool) {
    use librdkafka::admin::OffsetQuery;
    match of {
        OffsetSpec::Start => (OffsetQuery::Earliest, false),
        OffsetSpec::Log => (OffsetQuery::Latest, false),
        OffsetSpec::Stable => (OffsetQuery::Latest, true),
        OffsetSpec::Time(time) => (OffsetQuery::At(time), false),
    }
}

/// Runs a blocking call of the client off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, ConnectorError> {
    let done = tokio::task::spawn_blocking(call).await;
    done.map_err(|error| Failure::new("a call of the Kafka client was cancelled").because(error).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_a_broker_learns_of_late_is_found() {
        let looks = |patience: Duration, found_at: usize| {
            let mut count = 0;
            let found = look_again(patience, Duration::ZERO, || {
                count += 1;
                Ok::<_, ()>((count >= found_at).then_some(count))
            });
            found.unwrap()
        };
        assert_eq!(looks(Duration::MAX, 1), Some(1));
        assert_eq!(looks(Duration::MAX, 5), Some(5));
        assert_eq!(looks(Duration::from_millis(1), usize::MAX), None, "the looks end");
        let once = look_again(Duration::ZERO, LISTING_INTERVAL, || Ok::<Option<()>, ()>(None));
        assert_eq!(once, Ok(None), "without patience the first look counts");
    }
}
