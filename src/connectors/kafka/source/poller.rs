//! The thread that polls. It alone owns the state of the source: the engine sends it commands, the consumer's callback events.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::connectors::kafka::admin::{OffsetSpec, list_offsets};
use crate::connectors::kafka::commit_metadata::CommittedOffset;
use crate::connectors::kafka::librdkafka::messages;
use crate::connectors::kafka::lookup;
use crate::connectors::kafka::resume::{self, OnGap, ResumeRules};
use crate::connectors::kafka::source::batch_builder::BatchBuilder;
use crate::connectors::kafka::source::committer::Committer;
use crate::connectors::kafka::source::membership::Members;
use crate::connectors::kafka::source::monitor::Monitor;
use crate::connectors::kafka::source::partitions::OwnedPartitions;
use crate::connectors::kafka::source::rebalance::{
    PendingRevocation, RebalanceContext, RebalanceEvent, ResolvedStarts, StartResolver, Starts, assign, list, log_refusal,
    unassign,
};
use crate::connectors::kafka::source::record_queue::RecordQueue;
use crate::pipeline::{Assignment, Commit, ConnectorError, Failure, Refusal, RefusalReason, Signal};
use crate::profile::KafkaSection;
use crate::record::{Fingerprint, NextOffset, Partition, Record, Topic};

/// How long one poll waits for a record.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// As [`POLL_TIMEOUT`], while a command or an answer is expected.
const SHORT_POLL_TIMEOUT: Duration = Duration::from_millis(1);
/// How long an open batch waits for more records.
const LINGER: Duration = Duration::from_millis(1);
/// How long one attempt to queue a batch waits for room.
const OFFER_TIMEOUT: Duration = Duration::from_millis(20);
/// After this long without room the partitions are paused, and the consumer is polled on: its membership depends on it.
const PAUSE_AFTER: Duration = Duration::from_millis(500);
/// How long one poll with paused partitions waits.
const PAUSED_POLL_TIMEOUT: Duration = Duration::from_millis(80);
/// For this long after a flush the next one is expected.
const FLUSH_EXPECTED: Duration = Duration::from_secs(1);
/// Timeout of the last commit.
pub(super) const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The topics or partitions to read.
pub enum Subscription {
    /// Topics, as a member of the group.
    Topics(Vec<String>),
    /// The topics that match, as a member of the group, including those that appear later.
    Matching(Box<dyn Fn(&str) -> bool + Send>),
    /// Partitions, without joining the group.
    Assigned(Vec<Partition>),
}

/// What the engine's side asks of the poller.
pub(super) enum PollerCommand {
    /// Watermarks, each with the epoch of the assignment that it belongs to.
    Commit(Vec<(Commit, u64)>),
    Flush(oneshot::Sender<Result<(), ConnectorError>>),
    Close(oneshot::Sender<Result<(), ConnectorError>>),
}

/// See the module.
pub(super) struct Poller {
    pub(super) members: Members,
    pub(super) consumer: Arc<BaseConsumer<RebalanceContext>>,
    pub(super) commands: mpsc::Receiver<PollerCommand>,
    pub(super) events: mpsc::Receiver<RebalanceEvent>,
    pub(super) queue: Arc<RecordQueue>,
    pub(super) committer: Committer,
    pub(super) partitions: OwnedPartitions,
    pub(super) monitor: Monitor,
    pub(super) reader: Reader,
    pub(super) section: KafkaSection,
    pub(super) subscription: Subscription,
    pub(super) known_topics: BTreeSet<Topic>,
    pub(super) rules: ResumeRules,
    pub(super) read_uncommitted: bool,
    pub(super) verified: Arc<HashMap<Partition, CommittedOffset>>,
    /// How long a revocation waits for records in flight.
    pub(super) revocation_timeout: Duration,
    /// The group's event that is not answered yet.
    pub(super) rebalance: Option<PendingRebalance>,
    /// Partitions whose log was truncated: they start again when the records before the truncation have settled.
    pub(super) restarts: Vec<(PendingRevocation, NextOffset)>,
    /// A batch that the queue had no room for, since when.
    pub(super) waiting: Option<(Instant, Vec<Record>)>,
    pub(super) paused: bool,
    pub(super) last_flush: Option<Instant>,
    pub(super) out_of_range: bool,
    pub(super) ended: bool,
    pub(super) degraded: bool,
}

/// An event of the group that the poller is answering.
pub(super) enum PendingRebalance {
    Assignment(ResolvedStarts),
    Revocation(PendingRevocation),
}

/// The batch under construction.
pub(super) struct Reader {
    pub(super) builder: BatchBuilder,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
    /// The partition of the last message and its stop: messages come in runs.
    pub(super) current: Option<CurrentPartition>,
}

pub(super) struct CurrentPartition {
    key: (usize, i32),
    partition: Partition,
    /// None: not owned.
    stop: Option<i64>,
}

impl Reader {
    fn is_full(&self) -> bool {
        self.builder.len() >= self.max_records || self.builder.bytes() >= self.max_bytes
    }

    /// Adds a message, unless it lies beyond the stop of its partition, or belongs to a partition that is not owned.
    fn push(&mut self, consumer: &BaseConsumer<RebalanceContext>, partitions: &OwnedPartitions, message: &BorrowedMessage<'_>) {
        let key = messages::partition_key(message);
        let current = match self.current.take() {
            Some(current) if current.key == key => current,
            _ => {
                let partition = Partition::new(message.topic(), message.partition());
                let stop = partitions.get(partition).map(|progress| progress.stop.unwrap_or(i64::MAX));
                CurrentPartition { key, partition, stop }
            }
        };
        match current.stop {
            Some(stop) if message.offset() < stop => self.builder.push(current.partition, message),
            // Nothing beyond the stop is fetched any more.
            Some(_) => log_refusal("pause", consumer.pause(&list([&current.partition]))),
            None => {}
        }
        self.current = Some(current);
    }
}

impl Poller {
    pub(super) fn run(mut self) {
        if let Err(error) = self.subscribe() {
            self.queue.fail(error);
        }
        let closed = loop {
            if let Some(closed) = self.serve_commands() {
                break closed;
            }
            self.serve_committer();
            self.serve_rebalance();
            if self.waiting.is_none() {
                self.poll();
            }
            self.hand_over();
            self.handle_out_of_range();
            self.run_checks();
        };
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        let outcome = self.flush();
        // The engine may have stopped waiting.
        let _ = closed.map(|closed| closed.send(outcome));
        if self.rebalance.is_some() {
            log_refusal("unassign", self.consumer.unassign()); // closing waits for the answer to the event
        }
        drop(self.committer); // its queue and the monitor's request belong to the consumer
        drop(self.monitor);
        drop(self.consumer);
    }

    fn subscribe(&mut self) -> Result<(), ConnectorError> {
        let subscribed = match &self.subscription {
            Subscription::Topics(topics) => self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>()),
            Subscription::Matching(_) => {
                self.consumer.subscribe(&self.known_topics.iter().map(|topic| topic.name()).collect::<Vec<_>>())
            }
            Subscription::Assigned(partitions) => {
                self.rebalance = Some(PendingRebalance::Assignment(self.resolver().spawn(partitions.clone())));
                Ok(())
            }
        };
        subscribed.map_err(|error| self.failure("subscribe on").because(error).into())
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("cannot {what} `{}`", self.section.name))
    }

    /// Carries out the engine's commands; returns the receiver of the outcome when the source closes.
    #[allow(clippy::option_option)] // whether to close, and who waits for the outcome
    fn serve_commands(&mut self) -> Option<Option<oneshot::Sender<Result<(), ConnectorError>>>> {
        loop {
            match self.commands.try_recv() {
                Ok(PollerCommand::Commit(commits)) => {
                    for (commit, epoch) in commits {
                        if self.partitions.get(commit.partition).is_some_and(|progress| progress.epoch == epoch) {
                            self.committer.note(commit);
                        }
                    }
                }
                Ok(PollerCommand::Flush(answer)) => {
                    let outcome = self.flush();
                    self.last_flush = Some(Instant::now());
                    // The engine may have stopped waiting.
                    let _ = answer.send(outcome);
                }
                Ok(PollerCommand::Close(answer)) => return Some(Some(answer)),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return Some(None),
            }
        }
    }

    fn serve_committer(&mut self) {
        for signal in self.committer.serve(&self.consumer) {
            self.queue.signal(signal);
        }
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        let mut signals = Vec::new();
        let flushed = self.committer.flush(&self.consumer, Instant::now() + LAST_COMMIT_TIMEOUT, &mut signals);
        for signal in signals {
            self.queue.signal(signal);
        }
        let failure = || Failure::new(format!("the offsets were not committed on `{}`", self.section.name));
        flushed.map_err(|error| failure().because(error).into())
    }

    fn resolver(&self) -> StartResolver {
        StartResolver {
            consumer: Arc::clone(&self.consumer),
            section: self.section.clone(),
            rules: self.rules.clone(),
            read_uncommitted: self.read_uncommitted,
            verified: Arc::clone(&self.verified),
            queue: Arc::clone(&self.queue),
        }
    }

    fn serve_rebalance(&mut self) {
        match self.rebalance.take() {
            None => {}
            Some(PendingRebalance::Assignment(starts)) => match starts.try_recv() {
                Ok(starts) => self.finish_assignment(starts),
                Err(TryRecvError::Empty) => self.rebalance = Some(PendingRebalance::Assignment(starts)),
                Err(TryRecvError::Disconnected) => unreachable!("the resolver sends an answer before it ends"),
            },
            Some(PendingRebalance::Revocation(pending)) => match pending.poll() {
                Some(commits) => self.finish_revocation(&pending.partitions, commits),
                None => self.rebalance = Some(PendingRebalance::Revocation(pending)),
            },
        }
        if self.rebalance.is_none()
            && let Ok(event) = self.events.try_recv()
        {
            self.on_rebalance(event);
        }
        for (pending, next) in std::mem::take(&mut self.restarts) {
            match pending.poll() {
                // The last watermark counts offsets of a log that is gone.
                Some(_) => pending.partitions.iter().for_each(|partition| self.start_again(*partition, next)),
                None => self.restarts.push((pending, next)),
            }
        }
    }

    fn on_rebalance(&mut self, event: RebalanceEvent) {
        match event {
            RebalanceEvent::Assigned(partitions) => {
                self.rebalance = Some(PendingRebalance::Assignment(self.resolver().spawn(partitions)));
            }
            RebalanceEvent::Revoked { partitions, lost } => {
                self.forget(&partitions);
                if lost {
                    self.queue.signal(Signal::Lost(partitions.clone()));
                    unassign(&self.consumer, &partitions);
                } else {
                    let deadline = Instant::now() + self.revocation_timeout;
                    let (pending, signal) = PendingRevocation::new(partitions, Some(deadline));
                    self.queue.signal(signal);
                    self.rebalance = Some(PendingRebalance::Revocation(pending));
                }
            }
        }
    }

    fn finish_assignment(&mut self, starts: Result<Starts, ConnectorError>) {
        let Starts { assignments, topic_ids } = starts.unwrap_or_else(|error| {
            self.queue.fail(error);
            Starts::default()
        });
        self.committer.set_topic_ids(topic_ids.clone());
        self.monitor.set_topic_ids(topic_ids);
        let list: Vec<(Partition, NextOffset)> = assignments.iter().map(|of| (of.partition, of.start)).collect();
        for (partition, start) in &list {
            self.partitions.add(*partition, *start);
        }
        self.reader.current = None;
        self.signal_assigned(assignments);
        if let Err(error) = assign(&self.consumer, &list) {
            self.queue.fail(self.failure("start to read from").because(error).into());
        }
        let partitions: Vec<Partition> = list.iter().map(|(partition, _)| *partition).collect();
        self.pause_like_the_others(&partitions);
    }

    /// Answers a revocation; `commits` are the last ones of its partitions, if they settled in time.
    fn finish_revocation(&mut self, partitions: &[Partition], commits: Option<Vec<Commit>>) {
        if let Some(commits) = commits {
            match self.committer.commit_revoked(&self.consumer, &commits) {
                Ok(()) => {
                    let confirmed = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
                    self.queue.signal(Signal::Committed(confirmed));
                }
                Err(error) => tracing::warn!(%error, "The last commit of revoked partitions was refused; some records repeat."),
            }
        } else {
            tracing::warn!(?partitions, "Records in flight did not settle in time; the next owner reads them again.");
            self.queue.signal(Signal::Lost(partitions.to_vec()));
        }
        unassign(&self.consumer, partitions);
    }

    /// Drops everything of these partitions that the engine has not got.
    fn forget(&mut self, partitions: &[Partition]) {
        self.ended = false;
        self.queue.forget(partitions);
        self.reader.builder.forget(partitions);
        self.reader.current = None;
        if let Some((_, records)) = &mut self.waiting {
            records.retain(|record| !partitions.contains(&record.partition));
        }
        self.committer.forget(partitions);
        self.partitions.remove(partitions);
        self.restarts.retain(|(pending, _)| !pending.partitions.iter().any(|of| partitions.contains(of)));
    }

    /// Returns how long to wait for records or room: briefly, while an answer or a command is expected.
    fn timeout(&self, usual: Duration) -> Duration {
        let is_expected = self.rebalance.is_some()
            || !self.restarts.is_empty()
            || self.last_flush.is_some_and(|last| last.elapsed() < FLUSH_EXPECTED);
        if is_expected { SHORT_POLL_TIMEOUT } else { usual }
    }

    /// Polls until the batch is full, or no record is left.
    fn poll(&mut self) {
        if self.queue.has_failed() {
            return self.poll_paused();
        }
        let mut opened: Option<Instant> = None;
        let mut timeout = self.timeout(POLL_TIMEOUT);
        while !self.reader.is_full() {
            match self.consumer.poll(timeout) {
                Some(Ok(message)) => {
                    self.reader.push(&self.consumer, &self.partitions, &message);
                    timeout = Duration::ZERO;
                }
                Some(Err(error)) => return self.on_consumer_error(&error),
                None if self.reader.builder.len() == 0 => return,
                None => {
                    let opened = *opened.get_or_insert_with(Instant::now);
                    timeout = LINGER.saturating_sub(opened.elapsed());
                    if timeout.is_zero() {
                        break;
                    }
                }
            }
        }
        if std::mem::take(&mut self.degraded) {
            self.queue.signal(Signal::Degraded(None));
        }
    }

    /// Polls on without reading, to stay a member.
    fn poll_paused(&mut self) {
        if !std::mem::replace(&mut self.paused, true) {
            self.with_unfinished("pause", rdkafka::consumer::Consumer::pause);
        }
        match self.consumer.poll(self.timeout(PAUSED_POLL_TIMEOUT)) {
            // Fetched before the pause: it follows the batch that waits.
            Some(Ok(message)) => self.reader.push(&self.consumer, &self.partitions, &message),
            Some(Err(error)) => self.on_consumer_error(&error),
            None => {}
        }
    }

    /// Queues the batch for the engine; without room it waits, and the consumer is polled on with all partitions paused.
    fn hand_over(&mut self) {
        let (since, records) = match self.waiting.take() {
            Some(waiting) => waiting,
            None if self.reader.builder.len() > 0 => (Instant::now(), self.reader.builder.take()),
            None => return self.report_positions(),
        };
        let runs: Vec<(Partition, i64)> = records
            .iter()
            .enumerate()
            .filter(|(at, record)| records.get(at + 1).is_none_or(|next| next.partition != record.partition))
            .map(|(_, record)| (record.partition, record.offset + 1))
            .collect();
        match self.queue.offer(records, self.timeout(OFFER_TIMEOUT)) {
            Ok(()) => {
                for (partition, next) in runs {
                    self.partitions.advance(partition, next);
                }
                if std::mem::take(&mut self.paused) {
                    self.with_unfinished("resume", rdkafka::consumer::Consumer::resume);
                    self.wake_fetchers();
                }
                self.check_end();
            }
            Err(records) => {
                self.waiting = Some((since, records));
                if since.elapsed() > PAUSE_AFTER {
                    self.poll_paused();
                }
            }
        }
    }

    /// Pauses partitions that have just been assigned if the others are paused, and resumes them if not: librdkafka keeps the pause
    /// of a partition while another member owns it.
    fn pause_like_the_others(&self, partitions: &[Partition]) {
        let list = list(partitions);
        if self.paused {
            log_refusal("pause", self.consumer.pause(&list));
        } else {
            log_refusal("resume", self.consumer.resume(&list));
        }
    }

    fn with_unfinished(
        &self,
        name: &str,
        call: impl Fn(&BaseConsumer<RebalanceContext>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let unfinished: Vec<Partition> = self.partitions.unfinished().collect();
        log_refusal(name, call(&self.consumer, &list(&unfinished)));
    }

    /// Wakes the threads of librdkafka: after a resume they sleep for up to a second, unless a request is sent.
    fn wake_fetchers(&self) {
        let one_of_each: HashMap<Topic, Partition> = self.partitions.iter().map(|(of, _)| (of.topic, of)).collect();
        for partition in one_of_each.values() {
            let watermarks = self.consumer.fetch_watermarks(partition.topic.name(), partition.index, Duration::from_secs(1));
            if let Err(error) = watermarks {
                tracing::debug!(%error, %partition, "The broker did not answer a request for watermarks.");
            }
        }
    }

    /// Reports how far the consumer has passed offsets without records.
    fn report_positions(&mut self) {
        let Ok(list) = self.consumer.position() else { return };
        let mut passed = Vec::new();
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let partition = Partition::new(element.topic(), element.partition());
            passed.extend(self.partitions.pass(partition, position).map(|next| (partition, next)));
        }
        if !passed.is_empty() {
            self.queue.positions(passed);
        }
        self.check_end();
    }

    /// Ends a bounded run once every planned partition has been read to its stop, by this member or by others.
    fn check_end(&mut self) {
        let is_settled = !self.ended && self.rebalance.is_none() && self.restarts.is_empty();
        if is_settled && self.partitions.all_done() && self.monitor.others_are_done(&self.consumer, &self.partitions) {
            self.ended = true;
            self.queue.signal_in_order(Signal::End);
        }
    }

    fn run_checks(&mut self) {
        if let Some(ends) = self.monitor.log_ends(&self.consumer, &self.partitions) {
            self.queue.signal(Signal::LogEndOffsets(ends));
        }
        if self.degraded && self.monitor.leaders_answer(&self.consumer, &self.partitions) {
            self.degraded = false;
            self.queue.signal(Signal::Degraded(None));
        }
        if let Some((topic, old_id, new_id)) = self.monitor.recreated_topic(&self.consumer, &self.partitions)
            && !self.queue.has_failed()
        {
            self.on_recreated(topic, &old_id, &new_id);
        }
        if let Subscription::Matching(matches) = &self.subscription
            && let Some(topics) = self.monitor.matching_topics(&self.consumer, matches)
            && topics != self.known_topics
        {
            tracing::info!(?topics, "The topics that match the pattern have changed.");
            self.known_topics = topics;
            if let Err(error) = self.subscribe() {
                self.queue.fail(error);
            }
        }
        // A topic of a pattern may disappear, but a bounded run has to read the planned ones.
        let needed = || match &self.subscription {
            Subscription::Matching(_) => self.partitions.planned_topics(),
            _ => self.known_topics.clone(),
        };
        if let Some(topic) = self.monitor.missing_topic(&self.consumer, needed) {
            let failure = Failure::new(format!("topic `{topic}` does not exist on `{}` any more", self.section.name));
            self.queue.fail(failure.hint("create it again, or leave it out").into());
        }
        self.check_end();
    }

    /// Reports an error that passes, and fails with any other.
    fn on_consumer_error(&mut self, error: &KafkaError) {
        let section = &self.section.name;
        let failure = |what: &str| Failure::new(format!("{what} `{section}`")).because(error);
        let KafkaError::MessageConsumption(code) = error else {
            if let KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId) = error {
                return self.on_fenced();
            }
            return self.queue.fail(failure("cannot read from").into());
        };
        match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => self.out_of_range = true,
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                let denied = failure("not allowed to read from");
                self.queue.fail(denied.hint("give the user READ on the topic and on the group").into());
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                self.monitor.on_unknown_topic();
                self.report_degraded(error);
            }
            RDKafkaErrorCode::InconsistentGroupProtocol => self.on_inconsistent_protocol(),
            _ => self.report_degraded(error),
        }
    }

    /// Another member has the partitions already: nothing of them may be written or committed any more.
    fn on_fenced(&mut self) {
        let partitions: Vec<Partition> = self.partitions.iter().map(|(partition, _)| partition).collect();
        self.forget(&partitions);
        self.queue.signal(Signal::Lost(partitions));
        let refusal = Refusal {
            reason: RefusalReason::InstanceFenced,
            what: format!("another member took over the instance id on `{}`", self.section.name),
            numbers: Vec::new(),
        };
        self.queue.fail(refusal.into());
    }

    /// The members of a group must share an assignment strategy. They may go away, but a bounded run does not wait for that.
    fn on_inconsistent_protocol(&mut self) {
        let refusal = Refusal {
            reason: RefusalReason::InconsistentProtocol,
            what: format!("the other members of the group on `{}` use another assignment strategy", self.section.name),
            numbers: Vec::new(),
        };
        if self.partitions.is_bounded() {
            self.queue.fail(refusal.into());
        } else {
            self.degraded = true;
            self.queue.signal(Signal::Degraded(Some(refusal.what)));
        }
    }

    fn report_degraded(&mut self, error: &KafkaError) {
        self.degraded = true;
        let reason = self.consumer.context().log.client_log.last();
        self.queue.signal(Signal::Degraded(Some(reason.unwrap_or_else(|| error.to_string()))));
    }

    /// Refuses to go on at an offset that is not in the log, or goes on behind the gap if the rules say where. The records before
    /// the gap have been handed over.
    fn handle_out_of_range(&mut self) {
        if !self.out_of_range || self.waiting.is_some() || self.reader.builder.len() > 0 {
            return;
        }
        self.out_of_range = false;
        let wanted: Vec<(Partition, i64)> = self.partitions.iter().map(|(of, progress)| (of, progress.next)).collect();
        let partitions: Vec<Partition> = wanted.iter().map(|(partition, _)| *partition).collect();
        let offsets = |of| list_offsets(self.consumer.client(), &partitions, of);
        let (low, end) = match (offsets(OffsetSpec::Start), offsets(OffsetSpec::Log)) {
            (Ok(low), Ok(end)) => (low, end),
            (Err(error), _) | (_, Err(error)) if error.is_passing() => {
                self.out_of_range = true;
                return self.queue.signal(Signal::Degraded(Some(error.to_string())));
            }
            (Err(error), _) | (_, Err(error)) => {
                return self.queue.fail(self.failure("list the offsets of").because(error).into());
            }
        };
        // A log that was truncated and has grown again holds other records at the same offsets.
        let in_range = |(partition, last): &(Partition, Fingerprint)| {
            low.get(partition).is_some_and(|low| *low <= last.offset) && end.get(partition).is_some_and(|end| last.offset < *end)
        };
        let last: Vec<_> = self.committer.fingerprints().into_iter().filter(in_range).collect();
        if let Err(error) = lookup::verify_fingerprint_blocking(&self.section, &last, self.read_uncommitted) {
            return self.queue.fail(error);
        }
        for (partition, wanted) in wanted {
            let (low, end) = (low[&partition], end[&partition]);
            if (low..=end).contains(&wanted) {
                // librdkafka stops to read a partition that was out of range, also if the offset is in range again.
                log_refusal("unassign", self.consumer.incremental_unassign(&list([&partition])));
                self.read_from(partition, NextOffset(wanted));
                continue;
            }
            match resume::gap(partition, wanted, low, end, self.rules.on_gap) {
                Ok(next) => self.go_on_behind_gap(partition, wanted, next),
                Err(refused) => return self.queue.fail(refused.into()),
            }
        }
        self.reader.current = None;
    }

    /// Refuses to go on in a topic that was created again, or reads it anew if the rules say where.
    fn on_recreated(&mut self, topic: Topic, old_id: &str, new_id: &str) {
        let owned: Vec<_> = self.partitions.iter().filter(|(partition, _)| partition.topic == topic).collect();
        let wanted: Vec<(Partition, i64)> = owned.into_iter().map(|(partition, progress)| (partition, progress.next)).collect();
        let partitions: Vec<Partition> = wanted.iter().map(|(partition, _)| *partition).collect();
        // What was fetched is delivered, and committed under the old id: then the next run refuses too.
        let offsets = |of| list_offsets(self.consumer.client(), &partitions, of);
        let (low, end) = match (offsets(OffsetSpec::Start), offsets(OffsetSpec::Log)) {
            (Ok(low), Ok(end)) => (low, end),
            (Err(error), _) | (_, Err(error)) => {
                return self.queue.fail(self.failure("list the offsets of").because(error).into());
            }
        };
        if self.rules.on_gap != OnGap::Refuse {
            self.committer.set_topic_ids(HashMap::from([(topic, new_id.to_owned())]));
        }
        for (partition, wanted) in wanted {
            let (low, end) = (low[&partition], end[&partition]);
            match resume::recreated(partition, wanted, old_id, new_id, low, end, self.rules.on_gap) {
                Ok(next) => {
                    resume::log_gap(partition, wanted, next);
                    log_refusal("unassign", self.consumer.incremental_unassign(&list([&partition])));
                    self.restart(partition, next);
                }
                Err(refusal) => {
                    self.committer.forget(&partitions);
                    return self.queue.fail(refusal.into());
                }
            }
        }
    }

    fn go_on_behind_gap(&mut self, partition: Partition, wanted: i64, next: NextOffset) {
        resume::log_gap(partition, wanted, next);
        log_refusal("unassign", self.consumer.incremental_unassign(&list([&partition])));
        self.reader.current = None;
        if next.0 >= wanted {
            // The records before the gap settle and are committed as ever.
            self.partitions.advance(partition, next.0);
            self.queue.positions(vec![(partition, next)]);
            self.read_from(partition, next);
            return self.check_end();
        }
        self.restart(partition, next);
    }

    /// Starts a partition again at `next`, once the records before have settled.
    fn restart(&mut self, partition: Partition, next: NextOffset) {
        self.reader.current = None;
        self.committer.forget(&[partition]);
        self.partitions.remove(&[partition]);
        let (pending, signal) = PendingRevocation::new(vec![partition], None);
        self.queue.signal_in_order(signal);
        self.restarts.push((pending, next));
    }

    /// Hands an assignment over, with the group's member in this generation.
    fn signal_assigned(&self, assigned: Vec<Assignment>) {
        self.members.push(self.consumer.group_metadata());
        self.queue.signal(Signal::Assigned(assigned));
    }

    fn start_again(&mut self, partition: Partition, start: NextOffset) {
        self.partitions.add(partition, start);
        self.signal_assigned(vec![Assignment { partition, start, fingerprint: None, extension: None }]);
        self.read_from(partition, start);
    }

    fn read_from(&self, partition: Partition, start: NextOffset) {
        let mut list = list([&partition]);
        list.set_all_offsets(Offset::Offset(start.0)).expect("an offset is not negative");
        log_refusal("assign", self.consumer.incremental_assign(&list));
        self.pause_like_the_others(&[partition]);
    }
}
