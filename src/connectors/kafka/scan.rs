//! Reading for someone who only looks: no group, no commit, each record shown where it lies. Blocking throughout.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connectors::kafka::admin::{OffsetSpec, TopicInfo, list_ends, list_topics};
use crate::connectors::kafka::client::{self, LogContext};
use crate::connectors::kafka::librdkafka::consume_queue::{ConsumeQueue, FetchedMessage};
use crate::connectors::kafka::librdkafka::{NativeError, groups};
use crate::pipeline::{ConnectorError, Failure};
use crate::profile::KafkaSection;
use crate::record::{Partition, RecordView};

/// How long one question may take, and reading up to an end without a sign of life.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the first answer is waited for before it is found out what is wrong.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// How long one look for records waits.
const IDLE: Duration = Duration::from_millis(100);
/// How often it is asked for more partitions.
const LOOK_FOR_MORE: Duration = Duration::from_secs(5);

/// What is read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanRange {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
}

/// What happens while partitions are read.
pub enum ScanEvent<'a> {
    /// A record came; within a partition they come in order.
    Record(&'a RecordView<'a>),
    /// Nothing more waits to be looked at: said before each wait, several times a second.
    Idle,
    /// The cluster cannot be read at the moment; it is tried again.
    Trouble(String),
}

/// What is told of what happens, and says whether to go on.
pub trait OnScanEvent: FnMut(ScanEvent<'_>) -> ControlFlow<()> {}

impl<T: FnMut(ScanEvent<'_>) -> ControlFlow<()>> OnScanEvent for T {}

/// What is asked now and then for partitions that are to be read too.
type LookForMore<'a> = dyn FnMut(&Scanner) -> Vec<Partition> + 'a;

/// A connection that looks at topics and reads partitions. It joins no group and commits nothing.
pub struct Scanner {
    // Dropped before the client that it belongs to.
    intake: ConsumeQueue,
    consumer: BaseConsumer<LogContext>,
    section: KafkaSection,
    read_uncommitted: bool,
}

/// A partition that is being read.
struct ScanProgress {
    to: i64,
    done: bool,
}

impl Scanner {
    /// Connects to the cluster of `section`; what its first answer needs is waited for up to `wait`. `group` is one whose offsets
    /// will be asked for.
    ///
    /// # Errors
    /// When it does not answer, or is not the cluster that the section's `cluster_id` names.
    pub async fn connect(
        section: &KafkaSection,
        group: Option<&str>,
        read_uncommitted: bool,
        wait: Duration,
    ) -> Result<Self, ConnectorError> {
        let mut config = client::config(section)?;
        match group {
            Some(group) => client::name_group(&mut config, section, Some(group)),
            // A group would be looked for, if never joined.
            None => drop(config.remove("group.id")),
        }
        for (name, value) in [
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", if read_uncommitted { "read_uncommitted" } else { "read_committed" }),
            // What retention took away in the meantime is passed over.
            ("auto.offset.reset", "earliest"),
        ] {
            config.set(name, value);
        }
        for (name, value) in [
            ("fetch.queue.backoff.ms", "10"),
            // A fetch that waits for records holds up the first one of the next span.
            ("fetch.wait.max.ms", "100"),
            ("fetch.max.bytes", "2097152"),
            // A small record costs more memory than its bytes while it waits.
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "8192"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let unmade = |error| Failure::new(format!("cannot make a consumer for `{}`", section.name)).because(error);
        let consumer: BaseConsumer<LogContext> = config.create_with_context(LogContext::default()).map_err(unmade)?;
        let reader = Self { intake: ConsumeQueue::new(consumer.client()), consumer, section: section.clone(), read_uncommitted };
        let first_look = move || {
            let answers = reader.consumer.client().fetch_cluster_id(FIRST_ANSWER).is_some();
            (reader, answers)
        };
        let failed = |error| Failure::new("a call of the Kafka client did not end").because(error);
        let (reader, answers) = tokio::task::spawn_blocking(first_look).await.map_err(failed)?;
        if !answers || section.cluster_id.is_some() {
            client::reach(section, wait.saturating_sub(FIRST_ANSWER)).await?;
        }
        Ok(reader)
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Returns all topics, sorted by name, or the one called `only`, if it is there.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not allow the question.
    pub fn topics(&self, only: Option<&str>) -> Result<Vec<TopicInfo>, ConnectorError> {
        list_topics(self.consumer.client(), only, PATIENCE).map_err(|error| match (error, only) {
            (KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed), Some(topic)) => {
                let failure = Failure::new(format!("not allowed to look at topic `{topic}` of `{}`", self.section.name));
                failure.hint("give the user DESCRIBE and READ on the topic").into()
            }
            (error, _) => self.failure("list the topics of").because(error).into(),
        })
    }

    /// Returns one offset for each partition.
    ///
    /// # Errors
    /// When the cluster does not answer, or for one partition has no answer.
    pub fn ends(&self, partitions: &[Partition], of: OffsetSpec) -> Result<HashMap<Partition, i64>, ConnectorError> {
        self.ask("read the ends of partitions of", || list_ends(self.consumer.client(), partitions, of))
    }

    /// Returns the end of each partition that a reader of this kind can reach.
    ///
    /// # Errors
    /// As [`Self::ends`].
    pub fn reachable(&self, partitions: &[Partition]) -> Result<HashMap<Partition, i64>, ConnectorError> {
        self.ends(partitions, if self.read_uncommitted { OffsetSpec::Log } else { OffsetSpec::Stable })
    }

    /// Returns where a group has left off; nothing of it is changed.
    ///
    /// # Errors
    /// When the cluster does not answer, or does not allow the question.
    pub fn committed(&self, group: &str) -> Result<HashMap<Partition, i64>, ConnectorError> {
        let what = format!("read the offsets of group `{group}` on");
        let group = [group.to_owned()];
        let listed = self.ask(&what, || groups::offsets(self.consumer.client(), &group, None, PATIENCE)?.remove(0))?;
        let committed = listed.into_iter().filter(|entry| entry.offset >= 0);
        Ok(committed.map(|entry| (Partition::new(&entry.topic, entry.partition), entry.offset)).collect())
    }

    /// Asks until there is an answer, or the cluster had the time that a leader needs to move.
    fn ask<T>(&self, what: &str, question: impl Fn() -> Result<T, NativeError>) -> Result<T, ConnectorError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match question() {
                Err(error) if error.is_passing() && Instant::now() < deadline => std::thread::sleep(IDLE),
                answer => return answer.map_err(|error| self.failure(what).because(error).into()),
            }
        }
    }

    /// Reads each span to its end and tells what happens, until `each` breaks off. A partition is in one span at most.
    ///
    /// # Errors
    /// When a partition cannot be read, or an end is not reached because the cluster no longer answers.
    pub fn read(&mut self, spans: &[ScanRange], mut each: impl OnScanEvent) -> Result<ControlFlow<()>, ConnectorError> {
        let ended = self.begin(spans).and_then(|mut open| self.read_open(&mut open, None, &mut each));
        self.intake.stop_all();
        ended
    }

    /// Reads partitions from these offsets on and tells what happens, until `each` breaks off. Now and then `look_for_more` is asked
    /// for partitions that are to be read too.
    ///
    /// # Errors
    /// When a partition cannot be read.
    pub fn follow(
        &mut self,
        from: &[(Partition, i64)],
        mut look_for_more: impl FnMut(&Self) -> Vec<Partition>,
        mut each: impl OnScanEvent,
    ) -> Result<(), ConnectorError> {
        let spans: Vec<ScanRange> =
            from.iter().map(|(partition, from)| ScanRange { partition: *partition, from: *from, to: i64::MAX }).collect();
        let ended = self.begin(&spans).and_then(|mut open| self.read_open(&mut open, Some(&mut look_for_more), &mut each));
        self.intake.stop_all();
        ended.map(|_| ())
    }

    fn begin(&mut self, spans: &[ScanRange]) -> Result<HashMap<Partition, ScanProgress>, ConnectorError> {
        let mut open = HashMap::with_capacity(spans.len());
        for span in spans.iter().filter(|span| span.from < span.to) {
            self.intake.start(span.partition, span.from).map_err(|error| self.failure("read from").because(error))?;
            open.insert(span.partition, ScanProgress { to: span.to, done: false });
        }
        Ok(open)
    }

    fn read_open(
        &mut self,
        open: &mut HashMap<Partition, ScanProgress>,
        mut look_for_more: Option<&mut LookForMore<'_>>,
        each: &mut impl OnScanEvent,
    ) -> Result<ControlFlow<()>, ConnectorError> {
        let bounded = look_for_more.is_none();
        let mut left = open.len();
        let (mut alive, mut looked) = (Instant::now(), Instant::now());
        // What is known of the last record's partition: records come in runs.
        let mut current: Option<((usize, i32), Partition, i64)> = None;
        while !bounded || left > 0 {
            if self.intake.take(Duration::ZERO) == 0 {
                if each(ScanEvent::Idle).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.intake.take(IDLE);
            }
            self.listen(bounded, each)?;
            if let Some(look_for_more) = look_for_more.as_mut().filter(|_| looked.elapsed() > LOOK_FOR_MORE) {
                looked = Instant::now();
                let found: Vec<Partition> = look_for_more(self).into_iter().filter(|found| !open.contains_key(found)).collect();
                if !found.is_empty() {
                    let spans: Vec<ScanRange> =
                        found.into_iter().map(|partition| ScanRange { partition, from: 0, to: i64::MAX }).collect();
                    open.extend(self.begin(&spans)?);
                }
            }
            let (mut finished, mut sign) = (Vec::new(), false);
            for arrived in self.intake.taken() {
                if let Some(code) = arrived.error() {
                    let partition = arrived.partition();
                    match code {
                        RDKafkaErrorCode::PartitionEOF => {
                            sign = true;
                            finished.push(partition);
                        }
                        RDKafkaErrorCode::TopicAuthorizationFailed => {
                            let what = format!("not allowed to read topic `{}` of `{}`", partition.topic, self.section.name);
                            return Err(Failure::new(what).hint("give the user READ on the topic").into());
                        }
                        _ => {
                            let told = each(ScanEvent::Trouble(format!("{partition}: {}", arrived.error_text())));
                            if told.is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                    continue;
                }
                sign = true;
                let place = arrived.place();
                let (partition, to) = match current {
                    Some((known, partition, to)) if known == place => (partition, to),
                    _ => {
                        let partition = arrived.partition();
                        let to = open.get(&partition).filter(|progress| !progress.done).map_or(i64::MIN, |progress| progress.to);
                        current = Some((place, partition, to));
                        (partition, to)
                    }
                };
                let offset = arrived.offset();
                if offset < to && each(ScanEvent::Record(&view(&arrived, partition))).is_break() {
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
                    self.intake.stop(partition);
                }
            }
            if sign {
                alive = Instant::now();
            }
            if bounded && left > 0 && alive.elapsed() > PATIENCE {
                let said = self.consumer.context().client_log.last();
                let why = said.unwrap_or_else(|| format!("no answer from {} within 10s", self.section.servers));
                return Err(self.failure("read on in").because(why).into());
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hears what the client has to say besides records.
    fn listen(&self, bounded: bool, each: &mut impl OnScanEvent) -> Result<(), ConnectorError> {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            let said = self.consumer.context().client_log.last();
            // Reading up to an end fails by itself when nothing comes for too long.
            if !bounded {
                let _ = each(ScanEvent::Trouble(said.unwrap_or_else(|| error.to_string())));
            } else if let KafkaError::MessageConsumptionFatal(_) = error {
                return Err(self.failure("read from").because(error).into());
            }
        }
        Ok(())
    }
}

pub(super) fn view<'a>(arrived: &'a FetchedMessage<'a>, partition: Partition) -> RecordView<'a> {
    let (timestamp, appended) = arrived.timestamp();
    let (key, value) = (arrived.key(), arrived.value());
    RecordView { partition, offset: arrived.offset(), timestamp, appended, key, value, headers: arrived }
}
