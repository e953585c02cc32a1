//! Which partitions are ours: what happens on the polling thread when the group is rebalanced.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::connectors::kafka::admin::{OffsetSpec, list_ends};
use crate::connectors::kafka::client::LogContext;
use crate::connectors::kafka::commit_metadata::CommitMetadata;
use crate::connectors::kafka::committer::{FlushRequest, RETRY_BACKOFF, all_taken};
use crate::connectors::kafka::groups::CommittedOffset;
use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::commits::CommitQueue;
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::record_queue::RecordQueue;
use crate::connectors::kafka::resume::{self, ResumeRules, StartReason};
use crate::connectors::kafka::transactions::GroupMetadata;
use crate::pipeline::{Assignment, Commit, ConnectorError, Failure, Revocation, Signal};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition};

/// How long the broker may take over one question on the polling thread.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Called on the polling thread with partitions that are about to be read, before the first record of them: the place to make
/// sure that they can be delivered.
pub type Prepare = Box<dyn Fn(&[Partition]) -> Result<(), ConnectorError> + Send + Sync>;

/// How far one owned partition was handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionProgress {
    pub(crate) next: i64,
    pub(crate) stop: Option<i64>,
}

impl PartitionProgress {
    pub(crate) fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// What the polling thread, its callbacks and the engine's side share.
pub(crate) struct SourceState {
    pub(crate) section: KafkaSection,
    pub(crate) handover: RecordQueue,
    pub(crate) rules: ResumeRules,
    pub(crate) stops: HashMap<Partition, i64>,
    pub(crate) bounded: bool,
    pub(crate) read_uncommitted: bool,
    pub(crate) prepare: Option<Prepare>,
    /// How long a rebalance waits for what is in flight.
    pub(crate) patience: Duration,
    /// Commits that were checked when the run was planned.
    pub(crate) checked: HashMap<Partition, CommittedOffset>,
    pub(crate) progress: Mutex<HashMap<Partition, PartitionProgress>>,
    /// What was noted for commit and not yet confirmed.
    pub(crate) noted: Mutex<HashMap<Partition, Commit>>,
    /// Who waits for what was noted to be durable.
    pub(crate) flushes: Mutex<Vec<FlushRequest>>,
    /// Who asks for the member that this consumer is.
    pub(crate) callers: Mutex<Vec<oneshot::Sender<Option<GroupMetadata>>>>,
    /// Partitions that were taken away since the polling thread last looked.
    gone: Mutex<Vec<Partition>>,
    any_gone: AtomicBool,
    pub(crate) closing: AtomicBool,
}

impl SourceState {
    #[allow(clippy::too_many_arguments)] // the parts of one thing, named where it is made
    pub(crate) fn new(
        section: KafkaSection,
        handover: RecordQueue,
        rules: ResumeRules,
        stops: HashMap<Partition, i64>,
        bounded: bool,
        read_uncommitted: bool,
        prepare: Option<Prepare>,
        patience: Duration,
        checked: HashMap<Partition, CommittedOffset>,
    ) -> Self {
        Self {
            section,
            handover,
            rules,
            stops,
            bounded,
            read_uncommitted,
            prepare,
            patience,
            checked,
            progress: Mutex::default(),
            noted: Mutex::default(),
            flushes: Mutex::default(),
            callers: Mutex::default(),
            gone: Mutex::default(),
            any_gone: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Returns the progress of a partition that is about to be read. One that came up after a bounded run was planned is not part of
    /// it: it ends where it begins.
    pub(crate) fn begin(&self, partition: Partition, start: NextOffset) -> PartitionProgress {
        let stop = self.stops.get(&partition).copied();
        PartitionProgress { next: start.0, stop: stop.or(self.bounded.then_some(start.0)) }
    }

    /// Returns the partitions that were taken away since the last call.
    pub(crate) fn gone(&self) -> Option<Vec<Partition>> {
        self.any_gone.swap(false, Ordering::Relaxed).then(|| std::mem::take(&mut *lock(&self.gone)))
    }

    pub(crate) fn has_gone(&self) -> bool {
        self.any_gone.load(Ordering::Relaxed)
    }

    /// Takes back everything of these partitions that was not handed to the engine.
    pub(crate) fn forget(&self, partitions: &[Partition]) {
        self.handover.forget(partitions);
        lock(&self.progress).retain(|partition, _| !partitions.contains(partition));
        lock(&self.noted).retain(|partition, _| !partitions.contains(partition));
        lock(&self.gone).extend_from_slice(partitions);
        self.any_gone.store(true, Ordering::Relaxed);
    }

    /// Returns these commits as a list with their notes.
    pub(crate) fn list<'a>(&self, commits: impl IntoIterator<Item = &'a Commit>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for commit in commits {
            let mut element = list.add_partition(commit.partition.topic.name(), commit.partition.index);
            element.set_offset(Offset::Offset(commit.next.0)).expect("an offset is not negative");
            element.set_metadata(CommitMetadata::new(&self.rules.flow, commit.fingerprint).text());
        }
        list
    }
}

/// The consumer's callbacks.
#[derive(Clone)]
pub(crate) struct RebalanceContext {
    pub(crate) shared: Arc<SourceState>,
    pub(crate) listening: LogContext,
}

impl ClientContext for RebalanceContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.listening.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listening.error(error, reason);
    }
}

impl ConsumerContext for RebalanceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions(list);
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, &partitions);
        } else {
            self.revoked(consumer, &partitions);
            let left = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            log_refusal("unassign", left);
        }
    }
}

impl RebalanceContext {
    /// Begins to read partitions that became ours, each from where it is to be read.
    pub(crate) fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition]) {
        let starts = if self.shared.is_closing() { Ok(Vec::new()) } else { self.starts(consumer, partitions) };
        let starts = starts.unwrap_or_else(|error| {
            self.shared.handover.fail(error);
            Vec::new()
        });
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for Assignment { partition, start, .. } in &starts {
            list.add_partition_offset(partition.topic.name(), partition.index, Offset::Offset(start.0))
                .expect("an offset is not negative");
        }
        let mut progress = lock(&self.shared.progress);
        for Assignment { partition, start, .. } in &starts {
            progress.insert(*partition, self.shared.begin(*partition, *start));
        }
        drop(progress);
        self.shared.handover.signal(Signal::Assigned(starts));
        let begun = match consumer.rebalance_protocol() {
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&list),
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&list),
        };
        if let Err(error) = begun {
            self.shared.handover.fail(self.failure("start to read from").because(error).into());
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.shared.section.name))
    }

    /// Decides where each partition is read from; asks until the broker answers.
    fn starts(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition]) -> Result<Vec<Assignment>, ConnectorError> {
        if let Some(prepare) = &self.shared.prepare {
            prepare(partitions)?;
        }
        loop {
            match Self::ask(consumer, partitions) {
                Ok(known) => return self.decide(partitions, &known),
                Err(error) if self.shared.is_closing() => return Err(self.failure("resume on").because(error).into()),
                Err(error) => self.shared.handover.signal(Signal::Degraded(Some(error))),
            }
        }
    }

    /// Asks for commit, first offset and log end of each partition.
    fn ask(consumer: &BaseConsumer<Self>, partitions: &[Partition]) -> Result<PartitionFacts, String> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(partition.topic.name(), partition.index);
        }
        let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT).map_err(|error| error.to_string())?;
        let committed = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(next) => Some((
                Partition::new(element.topic(), element.partition()),
                CommittedOffset { next: NextOffset(next), metadata: element.metadata().to_owned() },
            )),
            _ => None,
        });
        let ends = |of| list_ends(consumer.client(), partitions, of).map_err(|error| error.to_string());
        Ok(PartitionFacts { committed: committed.collect(), low: ends(OffsetSpec::Start)?, end: ends(OffsetSpec::Log)? })
    }

    fn decide(&self, partitions: &[Partition], known: &PartitionFacts) -> Result<Vec<Assignment>, ConnectorError> {
        let mut starts = Vec::with_capacity(partitions.len());
        let mut unchecked = Vec::new();
        for partition in partitions {
            let committed = known.committed.get(partition);
            let at = |ends: &HashMap<Partition, i64>| ends.get(partition).copied().unwrap_or(0);
            let start = resume::resume(*partition, committed, at(&known.low), at(&known.end), &self.shared.rules)?;
            let checked = self.shared.checked.get(partition) == committed;
            unchecked.extend(start.last.filter(|last| !checked && last.offset >= at(&known.low)).map(|last| (*partition, last)));
            if start.why == StartReason::Gap {
                tracing::warn!(%partition, offset = start.next.0, "Records are missing; reading goes on behind the gap.");
            }
            let note = committed.and_then(|committed| CommitMetadata::parse(&committed.metadata));
            let memo = note.and_then(|note| note.extension().map(ToOwned::to_owned));
            starts.push(Assignment { partition: *partition, start: start.next, fingerprint: start.last, extension: memo });
        }
        lookup::verify_fingerprint_blocking(&self.shared.section, &unchecked, self.shared.read_uncommitted)?;
        Ok(starts)
    }

    /// Gives partitions up: what is in flight settles first, and is committed, unless another member has them already.
    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition]) {
        self.shared.forget(partitions);
        if self.shared.is_closing() {
            return; // everything was committed before, and the broker may be silent now
        }
        if consumer.assignment_lost() {
            self.shared.handover.signal(Signal::Lost(partitions.to_vec()));
            return;
        }
        let (revocation, released) = Revocation::new(partitions.to_vec());
        self.shared.handover.signal(Signal::Revoked(revocation));
        if let Some(commits) = self.wait(&released) {
            self.commit_last(consumer, &commits);
        } else {
            tracing::warn!(?partitions, "What was in flight did not settle in time; the next owner reads it again.");
            self.shared.handover.signal(Signal::Lost(partitions.to_vec()));
        }
    }

    /// Waits for the engine to let go of partitions, at most as long as the session allows.
    fn wait(&self, released: &mpsc::Receiver<Vec<Commit>>) -> Option<Vec<Commit>> {
        let deadline = Instant::now() + self.shared.patience;
        while Instant::now() < deadline {
            // An engine that waits for a flush cannot let go, and this thread, which would flush, waits for the engine.
            for request in std::mem::take(&mut *lock(&self.shared.flushes)) {
                // Whoever asked may be gone.
                let _ = request.send(Err(self.failure("commit during a rebalance on").into()));
            }
            match released.recv_timeout(Duration::from_millis(20)) {
                Ok(commits) => return Some(commits),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    /// Commits partitions that are being given up, and only these.
    fn commit_last(&self, consumer: &BaseConsumer<Self>, commits: &[Commit]) {
        let list = self.shared.list(commits);
        if list.count() == 0 {
            return;
        }
        let answers = CommitQueue::new(consumer.client());
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let attempt = || {
            consumer.store_offsets(&list).map_err(|error| NativeError(error.to_string()))?;
            answers.commit(consumer.client(), Some(&list))?;
            let left = deadline.saturating_duration_since(Instant::now());
            answers.answer(left).map_or_else(|| Err(NativeError("no answer in time".to_owned())), all_taken)
        };
        let mut answer = attempt();
        while answer.as_ref().is_err_and(|error| !error.is_final()) && Instant::now() + RETRY_BACKOFF < deadline {
            std::thread::sleep(RETRY_BACKOFF);
            answer = attempt();
        }
        match answer {
            Ok(()) => {
                let confirmed = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
                self.shared.handover.signal(Signal::Committed(confirmed));
            }
            Err(error) => tracing::warn!(%error, "The last commit of revoked partitions was refused; some records repeat."),
        }
    }
}

/// What the broker said of partitions that became ours.
struct PartitionFacts {
    committed: HashMap<Partition, CommittedOffset>,
    low: HashMap<Partition, i64>,
    end: HashMap<Partition, i64>,
}

pub(crate) fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(element.topic(), element.partition())).collect()
}

pub(crate) fn log_refusal(what: &str, outcome: KafkaResult<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "Kafka refused to {what}.");
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
