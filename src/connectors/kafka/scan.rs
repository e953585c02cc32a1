//! Reading without a group or commits, and without copying the records. Blocking.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connectors::kafka::access::Authenticated;
use crate::connectors::kafka::acl::AclOperation;
use crate::connectors::kafka::admin::{
    OffsetSpec, TopicInfo, check_name, is_embedded, list_offsets, list_topics, listing_failure, partition_list, topic_to_read,
};
use crate::connectors::kafka::client_log::{LogContext, recent_lines};
use crate::connectors::kafka::config::{client_config, create_client, set_group_id};
use crate::connectors::kafka::connect::reach;
use crate::connectors::kafka::diagnosis;
use crate::connectors::kafka::librdkafka::bootstrap::{BootstrapServers, add_servers};
use crate::connectors::kafka::librdkafka::consume_queue::{ConsumeQueue, FetchedMessage};
use crate::connectors::kafka::librdkafka::{NativeError, UnansweredRequests, groups};
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, RecordView};

/// Timeout of one request, and of a bounded read without a response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the first answer before [`reach`] finds out the reason.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often new partitions are looked up.
const NEW_PARTITIONS_INTERVAL: Duration = Duration::from_secs(5);

/// The offsets `from..to` of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanRange {
    pub(crate) partition: Partition,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

pub(crate) enum ScanEvent<'a> {
    /// A record; those of a partition arrive in order.
    Record(&'a RecordView<'a>),
    /// No record waits: sent before each wait, several times a second.
    Idle,
    /// An error after which the scan continues.
    Degraded(String),
}

/// A callback for scan events that decides whether the scan continues.
pub(crate) trait OnScanEvent: FnMut(ScanEvent<'_>) -> ControlFlow<()> {}

impl<T: FnMut(ScanEvent<'_>) -> ControlFlow<()>> OnScanEvent for T {}

/// Returns partitions to read in addition.
type NewPartitions<'a> = dyn FnMut(&Scanner) -> Vec<Partition> + 'a;

/// A consumer without a group, which commits nothing.
pub(crate) struct Scanner {
    // Dropped before its client.
    queue: ConsumeQueue,
    consumer: Authenticated<BaseConsumer<LogContext>>,
    section: KafkaSection,
    read_uncommitted: bool,
}

struct ScanProgress {
    to: i64,
    done: bool,
}

impl Scanner {
    /// Connects to the cluster of `section` and waits up to `wait` for its first answer. `group` is the one for [`Self::committed`].
    ///
    /// # Errors
    /// When it does not answer, or is not the cluster that the section's `cluster_id` names.
    pub(crate) async fn connect(
        section: &KafkaSection,
        group: Option<&str>,
        read_uncommitted: bool,
        wait: Duration,
    ) -> Result<Self, ConnectorError> {
        let mut config = client_config(section)?;
        match group {
            Some(group) => set_group_id(&mut config, section, Some(group)),
            // librdkafka looks up the coordinator of a group even if it never joins.
            None => drop(config.remove("group.id")),
        }
        for (name, value) in [
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" }),
            // Skips records that retention deletes in the meantime.
            ("auto.offset.reset", "earliest"),
        ] {
            config.set(name, value);
        }
        for (name, value) in [
            ("fetch.queue.backoff.ms", "10"),
            // A fetch that waits for records delays the first record of the next range.
            ("fetch.wait.max.ms", "100"),
            ("fetch.max.bytes", "2097152"),
            // A queued record needs about 300 bytes more than its payload; on top comes what one response holds decompressed.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "4096"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let consumer: Authenticated<BaseConsumer<LogContext>> = create_client(section, &config, LogContext::default())?;
        let scanner = Self { queue: ConsumeQueue::new(consumer.client()), consumer, section: section.clone(), read_uncommitted };
        let first_request = move || {
            let answers = scanner.consumer.client().fetch_cluster_id(FIRST_ANSWER_TIMEOUT).is_some();
            (scanner, answers)
        };
        let failed = |error| Failure::new("a call of the Kafka client was cancelled").because(error);
        let (scanner, answers) = tokio::task::spawn_blocking(first_request).await.map_err(failed)?;
        if !answers || section.cluster_id.is_some() {
            reach(section, wait.saturating_sub(FIRST_ANSWER_TIMEOUT)).await?;
        }
        Ok(scanner)
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Returns the failure of a request; if no broker answered, with the brokers that cannot be reached.
    fn failed(&self, what: &str, error: impl Into<NativeError>) -> Failure {
        let error = error.into();
        let failure = self.failure(what).because(&error);
        if !error.is_outage() {
            return failure;
        }
        add_servers(self.consumer.client());
        diagnosis::explain(&self.section, failure, &recent_lines(&self.consumer))
    }

    /// Returns all topics, or only one if it exists, sorted by name.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) fn topics(&self) -> Result<Vec<TopicInfo>, ConnectorError> {
        let listed = list_topics(self.consumer.client(), None, REQUEST_TIMEOUT);
        listed.map_err(|error| self.denied_or_failed(AclOperation::DescribeTopic(""), "list the topics of", error))
    }

    /// Returns the topic `name`, if it exists; one that was just created is looked for again, for up to `wait`.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) fn topic_to_read(&self, name: &str, wait: Duration) -> Result<Option<TopicInfo>, ConnectorError> {
        check_name(Some(name))?;
        let found = topic_to_read(self.consumer.client(), name, wait);
        found.map_err(|error| self.denied_or_failed(AclOperation::DescribeTopic(name), "list the topics of", error))
    }

    /// Returns one offset of each partition; with [`OffsetSpec::Time`], of each that has one.
    ///
    /// # Errors
    /// When the cluster does not answer for every partition.
    pub(crate) fn ends(&self, partitions: &[Partition], of: OffsetSpec) -> Result<HashMap<Partition, i64>, ConnectorError> {
        let listed = request(|| list_offsets(self.consumer.client(), partitions, of));
        listed.map_err(|error| listing_failure(self.failed("list the offsets of", error.clone()), &error).into())
    }

    /// Returns the offset behind the last readable record of each partition.
    ///
    /// # Errors
    /// As [`Self::ends`].
    pub(crate) fn reachable(&self, partitions: &[Partition]) -> Result<HashMap<Partition, i64>, ConnectorError> {
        self.ends(partitions, if self.read_uncommitted { OffsetSpec::Log } else { OffsetSpec::Stable })
    }

    /// Returns the committed offsets of a group in these partitions. Embedded brokers give those of partitions that are named only.
    ///
    /// # Errors
    /// When the cluster does not answer, or denies the request.
    pub(crate) fn committed(&self, group: &str, partitions: &[Partition]) -> Result<HashMap<Partition, i64>, ConnectorError> {
        let what = format!("list the committed offsets of group `{group}` on");
        let name = [group.to_owned()];
        let named = partition_list(partitions);
        let unanswered = UnansweredRequests::default();
        let ask = || groups::offsets(self.consumer.client(), &unanswered, &name, Some(&named), REQUEST_TIMEOUT)?.remove(0);
        let listed = request(ask);
        let listed = listed.map_err(|error| self.denied_or_failed(AclOperation::DescribeGroup(group), &what, error))?;
        Ok(listed.into_iter().map(|entry| (Partition::new(&entry.topic, entry.partition), entry.offset)).collect())
    }

    /// Returns the names of all consumer groups; `None` if a broker does not list its groups.
    pub(crate) fn group_names(&self) -> Option<Vec<String>> {
        let client = self.consumer.client();
        // Embedded brokers do not answer the request.
        client.fetch_cluster_id(REQUEST_TIMEOUT).filter(|id| !is_embedded(id))?;
        let listed = request(|| groups::names(client, REQUEST_TIMEOUT)).ok()?;
        listed.errors.is_empty().then_some(listed.names)
    }

    fn denied_or_failed(&self, operation: AclOperation<'_>, what: &str, error: impl Into<NativeError>) -> ConnectorError {
        let error = error.into();
        if error.is_denied() { operation.denied(&self.section.name).into() } else { self.failed(what, error).into() }
    }

    /// Reads each range to its end, until `each` breaks off. A partition is in one range at most.
    ///
    /// # Errors
    /// When a partition cannot be read, or the cluster stops answering before the end.
    pub(crate) fn read(&mut self, ranges: &[ScanRange], mut each: impl OnScanEvent) -> Result<ControlFlow<()>, ConnectorError> {
        let ended = self.begin(ranges).and_then(|mut open| self.read_open(&mut open, None, &mut each));
        self.queue.stop_all();
        ended
    }

    /// Reads partitions from these offsets on, until `each` breaks off. Calls `new_partitions` now and then.
    ///
    /// # Errors
    /// When a partition cannot be read.
    pub(crate) fn follow(
        &mut self,
        from: &[(Partition, i64)],
        mut new_partitions: impl FnMut(&Self) -> Vec<Partition>,
        mut each: impl OnScanEvent,
    ) -> Result<(), ConnectorError> {
        let ranges: Vec<ScanRange> =
            from.iter().map(|(partition, from)| ScanRange { partition: *partition, from: *from, to: i64::MAX }).collect();
        let ended = self.begin(&ranges).and_then(|mut open| self.read_open(&mut open, Some(&mut new_partitions), &mut each));
        self.queue.stop_all();
        ended.map(|_| ())
    }

    fn begin(&mut self, ranges: &[ScanRange]) -> Result<HashMap<Partition, ScanProgress>, ConnectorError> {
        let mut open = HashMap::with_capacity(ranges.len());
        for range in ranges.iter().filter(|range| range.from < range.to) {
            self.queue.start(range.partition, range.from).map_err(|error| self.failure("read from").because(error))?;
            open.insert(range.partition, ScanProgress { to: range.to, done: false });
        }
        Ok(open)
    }

    fn read_open(
        &mut self,
        open: &mut HashMap<Partition, ScanProgress>,
        mut new_partitions: Option<&mut NewPartitions<'_>>,
        each: &mut impl OnScanEvent,
    ) -> Result<ControlFlow<()>, ConnectorError> {
        let bounded = new_partitions.is_none();
        let mut left = open.len();
        let (mut last_response, mut last_lookup, mut bootstrap) = (Instant::now(), Instant::now(), BootstrapServers::new());
        // The last partition: records come in runs.
        let mut current: Option<((usize, i32), Partition, i64)> = None;
        while !bounded || left > 0 {
            bootstrap.keep(self.consumer.client());
            if self.queue.poll(Duration::ZERO) == 0 {
                if each(ScanEvent::Idle).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.queue.poll(POLL_TIMEOUT);
            }
            self.on_consumer_errors(bounded, each)?;
            if let Some(new_partitions) = new_partitions.as_mut().filter(|_| last_lookup.elapsed() > NEW_PARTITIONS_INTERVAL) {
                last_lookup = Instant::now();
                let found: Vec<Partition> = new_partitions(self).into_iter().filter(|found| !open.contains_key(found)).collect();
                if !found.is_empty() {
                    let ranges: Vec<ScanRange> =
                        found.into_iter().map(|partition| ScanRange { partition, from: 0, to: i64::MAX }).collect();
                    open.extend(self.begin(&ranges)?);
                }
            }
            let (mut finished, mut responded) = (Vec::new(), false);
            for message in self.queue.batch() {
                if let Some(code) = message.error() {
                    let partition = message.partition();
                    match code {
                        RDKafkaErrorCode::PartitionEOF => {
                            responded = true;
                            finished.push(partition);
                        }
                        RDKafkaErrorCode::TopicAuthorizationFailed => {
                            return Err(AclOperation::ReadTopic(partition.topic.name()).denied(&self.section.name).into());
                        }
                        _ => {
                            let degraded = ScanEvent::Degraded(format!("{partition}: {}", message.error_text()));
                            if each(degraded).is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                    continue;
                }
                responded = true;
                let key = message.partition_key();
                let (partition, to) = match current {
                    Some((known, partition, to)) if known == key => (partition, to),
                    _ => {
                        let partition = message.partition();
                        let to = open.get(&partition).filter(|progress| !progress.done).map_or(i64::MIN, |progress| progress.to);
                        current = Some((key, partition, to));
                        (partition, to)
                    }
                };
                let offset = message.offset();
                if offset < to && each(ScanEvent::Record(&view(&message, partition))).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                if offset >= to - 1 {
                    finished.push(partition);
                }
            }
            for partition in finished {
                if let Some(progress) = open.get_mut(&partition).filter(|progress| !progress.done && progress.to != i64::MAX) {
                    progress.done = true;
                    left -= 1;
                    current = None;
                    self.queue.stop(partition);
                }
            }
            if responded {
                last_response = Instant::now();
            }
            if bounded && left > 0 && last_response.elapsed() > REQUEST_TIMEOUT {
                let reason = self.last_reason();
                let why = reason.unwrap_or_else(|| format!("no answer from {} within 10s", self.section.servers));
                return Err(self.failure("read on in").because(why).into());
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the reason that the client has noted last.
    fn last_reason(&self) -> Option<String> {
        diagnosis::last_reason(&self.section, &self.consumer.context().client_log.lines())
    }

    fn on_consumer_errors(&self, bounded: bool, each: &mut impl OnScanEvent) -> Result<(), ConnectorError> {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            let reason = self.last_reason();
            // A bounded read has a timeout of its own.
            if !bounded {
                let _ = each(ScanEvent::Degraded(reason.unwrap_or_else(|| error.to_string())));
            } else if let KafkaError::MessageConsumptionFatal(_) = error {
                return Err(self.failure("read from").because(error).into());
            }
        }
        Ok(())
    }
}

/// Sends a request again while a leader or coordinator moves, until its timeout.
fn request<T>(send: impl Fn() -> Result<T, NativeError>) -> Result<T, NativeError> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        match send() {
            Err(error) if error.is_passing() && Instant::now() < deadline => std::thread::sleep(POLL_TIMEOUT),
            answer => return answer,
        }
    }
}

pub(super) fn view<'a>(message: &'a FetchedMessage<'a>, partition: Partition) -> RecordView<'a> {
    let (timestamp, appended) = message.timestamp();
    let (key, value) = (message.key(), message.value());
    RecordView { partition, offset: message.offset(), timestamp, appended, key, value, headers: message }
}
