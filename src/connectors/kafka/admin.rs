//! Looking at a cluster, and preparing it: topics, configuration, ends, groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::librdkafka;
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};

/// How long one question may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection for questions and preparations. Cheap to clone; every call has a deadline of 10 s.
#[derive(Clone)]
pub struct Admin {
    section: Arc<KafkaSection>,
    client: Arc<BaseConsumer<LogContext>>,
    changes: Arc<AdminClient<LogContext>>,
    cluster_id: String,
}

/// A topic and its number of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic.
    pub topic: Topic,
    /// How many partitions it has.
    pub partitions: i32,
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSetting {
    /// Its value.
    pub value: String,
    /// Whether it was set on this very topic, rather than inherited.
    pub own: bool,
}

/// The settings of a topic by their names, or why they are not told.
pub type TopicSettings = Result<HashMap<String, TopicSetting>, RDKafkaErrorCode>;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas; the cluster's default without.
    pub replication: Option<i32>,
    /// Settings of its own.
    pub config: Vec<(String, String)>,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is still there.
    Start,
    /// The log end.
    Log,
    /// The last stable offset: the end for who reads committed records only.
    Stable,
    /// The first at or after this time, in milliseconds since the Unix epoch; absent when there is none.
    Time(i64),
}

impl Admin {
    /// Connects to the cluster of `section` and waits for its first answer, up to `wait`.
    ///
    /// # Errors
    /// When it does not answer, or is not the cluster that the section's `cluster_id` names.
    pub async fn connect(section: &KafkaSection, wait: Duration) -> Result<Self, ConnectorError> {
        let cluster = client::reach(section, wait).await?;
        let mut config = client::config(section)?;
        let unmade = |error| Failure::new(format!("cannot make a client for `{}`", section.name)).because(error);
        let admin: AdminClient<LogContext> = config.create_with_context(LogContext::default()).map_err(unmade)?;
        client::name_group(&mut config, section, None);
        let client: BaseConsumer<LogContext> = config.create_with_context(LogContext::default()).map_err(unmade)?;
        let (section, client) = (Arc::new(section.clone()), Arc::new(client));
        Ok(Self { section, client, changes: Arc::new(admin), cluster_id: cluster.id.unwrap_or_default() })
    }

    /// Returns the name of the section.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section.name
    }

    /// Returns the cluster's id; empty where the cluster has none.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Returns whether the brokers are librdkafka's mock, which leaves administrative questions without an answer.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.cluster_id.starts_with("mockCluster")
    }

    pub(super) fn client(&self) -> Arc<BaseConsumer<LogContext>> {
        Arc::clone(&self.client)
    }

    pub(super) fn profile_section(&self) -> Arc<KafkaSection> {
        Arc::clone(&self.section)
    }

    pub(super) fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Returns all topics, sorted by name.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>, ConnectorError> {
        self.metadata(None).await
    }

    /// Returns the topic called `name`, if it is there.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not allow the question.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, ConnectorError> {
        Ok(self.metadata(Some(name.to_owned())).await?.into_iter().next())
    }

    async fn metadata(&self, only: Option<String>) -> Result<Vec<TopicInfo>, ConnectorError> {
        let client = Arc::clone(&self.client);
        let fetched = blocking(move || list_topics(client.client(), only.as_deref(), TIMEOUT));
        fetched.await?.map_err(|error| self.failure("list the topics of").because(error).into())
    }

    /// Returns the settings of a topic; none where the brokers are embedded ones.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not allow the question.
    pub async fn settings(&self, topic: Topic) -> Result<HashMap<String, TopicSetting>, ConnectorError> {
        let mut answers = self.settings_of(&[topic]).await?;
        match answers.remove(&topic) {
            None => Ok(HashMap::new()),
            Some(Ok(settings)) => Ok(settings),
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed)) => {
                tracing::warn!(%topic, "Not allowed to read the topic's settings (DESCRIBE_CONFIGS); the defaults are assumed.");
                Ok(HashMap::new())
            }
            Some(Err(code)) => Err(self.failure(&format!("read the settings of topic `{topic}` of")).because(code).into()),
        }
    }

    /// Returns the settings of each of these topics, or why it does not tell them; nothing where the brokers are embedded ones.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn settings_of(&self, topics: &[Topic]) -> Result<HashMap<Topic, TopicSettings>, ConnectorError> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        if self.is_embedded() || topics.is_empty() {
            return Ok(HashMap::new());
        }
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic.name())).collect();
        let answers = self.changes.describe_configs(&resources, &options).await;
        let answers = answers.map_err(|error| self.failure("read the settings of topics of").because(error))?;
        let settings = |resource: rdkafka::admin::ConfigResource| {
            let settings = resource.entries.into_iter().filter_map(|entry| {
                Some((entry.name, TopicSetting { value: entry.value?, own: entry.source == ConfigSource::DynamicTopic }))
            });
            settings.collect()
        };
        Ok(topics.iter().copied().zip(answers.into_iter().map(|answer| answer.map(settings))).collect())
    }

    /// Creates a topic and waits until the cluster knows it.
    ///
    /// # Errors
    /// When the cluster refuses; a topic that is there already is refused too.
    pub async fn create_topic(&self, plan: &TopicPlan) -> Result<(), ConnectorError> {
        let replication = TopicReplication::Fixed(plan.replication.unwrap_or(-1));
        let mut new = NewTopic::new(&plan.name, plan.partitions, replication);
        for (key, value) in &plan.config {
            new = new.set(key, value);
        }
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let what = || self.failure(&format!("create topic `{}` on", plan.name));
        let answers = self.changes.create_topics([&new], &options).await.map_err(|error| what().because(error))?;
        for answer in answers {
            answer.map_err(|(_, code)| what().because(code))?;
        }
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        while self.topic(&plan.name).await?.is_none_or(|known| known.partitions < plan.partitions) {
            if tokio::time::Instant::now() > deadline {
                return Err(what().because("the cluster created it, but does not list it").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Gives a topic more partitions: `count` in all.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn grow_topic(&self, topic: Topic, count: i32) -> Result<(), ConnectorError> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let what = || self.failure(&format!("give topic `{topic}` {count} partitions on"));
        let new = NewPartitions::new(topic.name(), usize::try_from(count).unwrap_or(0));
        let answers = self.changes.create_partitions([&new], &options).await.map_err(|error| what().because(error))?;
        for answer in answers {
            answer.map_err(|(_, code)| what().because(code))?;
        }
        Ok(())
    }

    /// Returns one offset for each partition.
    ///
    /// # Errors
    /// When the cluster does not answer, or for one partition has no answer.
    pub async fn ends(&self, partitions: &[Partition], of: OffsetSpec) -> Result<HashMap<Partition, i64>, ConnectorError> {
        let partitions = partitions.to_vec();
        let listed = self.ask(move |client| list_ends(client, &partitions, of)).await?;
        listed.map_err(|error| self.failure("read the ends of partitions of").because(error).into())
    }

    /// Asks a question until it is answered, or for longer than a coordinator takes to come back after a restart.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Client<LogContext>) -> Result<T, librdkafka::NativeError> + Send + 'static,
    ) -> Result<Result<T, librdkafka::NativeError>, ConnectorError> {
        let client = Arc::clone(&self.client);
        blocking(move || {
            let deadline = std::time::Instant::now() + TIMEOUT;
            loop {
                match question(client.client()) {
                    Err(error) if error.is_passing() && std::time::Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }
}

/// Returns all topics, or the one called `only` if it is there, sorted by name. Blocking.
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

/// Asks for one offset of each partition. Blocking.
pub(crate) fn list_ends<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    partitions: &[Partition],
    of: OffsetSpec,
) -> Result<HashMap<Partition, i64>, librdkafka::NativeError> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.topic.name(), partition.index)).collect();
    let (spec, read_committed) = spec(of);
    let entries = librdkafka::admin::list_offsets(client, &asked, spec, read_committed, TIMEOUT)?;
    let mut ends = HashMap::with_capacity(entries.len());
    for entry in entries {
        if let Some(error) = entry.error {
            return Err(librdkafka::NativeError(format!("{}/{}: {error}", entry.topic, entry.partition)));
        }
        if entry.offset >= 0 {
            ends.insert(Partition::new(&entry.topic, entry.partition), entry.offset);
        }
    }
    Ok(ends)
}

/// Returns how an offset is asked for: which, and whether of committed records only.
pub(super) fn spec(of: OffsetSpec) -> (librdkafka::admin::OffsetQuery, bool) {
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
    done.map_err(|error| Failure::new("a call of the Kafka client did not end").because(error).into())
}
