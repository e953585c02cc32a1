//! The thread that polls: records into batches, batches to the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::connectors::kafka::batch_builder::BatchBuilder;
use crate::connectors::kafka::committer::Committer;
use crate::connectors::kafka::librdkafka::messages;
use crate::connectors::kafka::rebalance::{PartitionProgress, RebalanceContext, SourceState, lock, log_refusal};
use crate::connectors::kafka::source::{LAST_COMMIT, Subscription};
use crate::connectors::kafka::transactions::GroupMetadata;
use crate::pipeline::{ConnectorError, Failure, Signal};
use crate::record::{NextOffset, Partition, Topic};

/// How long one poll waits when nothing arrives.
const IDLE: Duration = Duration::from_millis(50);
/// How long an open batch waits for more.
const LINGER: Duration = Duration::from_millis(1);
/// How long a full queue is waited for before the partitions are paused, so that the group is polled on.
const BEFORE_PAUSE: Duration = Duration::from_millis(500);
/// For how long after a flush the next one is expected.
const ONE_BY_ONE: Duration = Duration::from_secs(1);

/// The thread that polls.
pub(super) struct Poller {
    pub(super) consumer: BaseConsumer<RebalanceContext>,
    pub(super) committer: Committer,
    pub(super) shared: Arc<SourceState>,
    pub(super) subscription: Subscription,
    pub(super) batch: usize,
    pub(super) batch_bytes: usize,
    pub(super) cutter: BatchBuilder,
    /// The place of the last message and what is known of it: records come in runs.
    pub(super) current: Option<((usize, i32), Partition, i64)>,
    pub(super) told_ends: Instant,
    pub(super) looked_for_topics: Instant,
    pub(super) looked_for_end: Instant,
    pub(super) known_topics: std::collections::BTreeSet<Topic>,
    /// When a flush was last asked for.
    pub(super) flushed: Option<Instant>,
    /// Since when a topic that is read may be gone.
    pub(super) missing_since: Option<Instant>,
    pub(super) ended: bool,
    pub(super) troubled: bool,
}

impl Poller {
    pub(super) fn run(mut self, done: oneshot::Sender<Result<(), ConnectorError>>) {
        if let Err(error) = self.join() {
            self.shared.handover.fail(error);
        }
        while !self.shared.is_closing() {
            self.committer.serve(&self.consumer, &self.shared);
            self.serve_callers();
            self.collect();
            self.forget_gone();
            if self.cutter.len() > 0 {
                self.hand_over();
            } else {
                self.tell_positions();
            }
            self.tell_ends();
            self.look_for_topics();
            self.look_for_missing();
            self.look_for_end();
        }
        let outcome = self.committer.flush(&self.consumer, &self.shared, Instant::now() + LAST_COMMIT);
        // Nobody may be waiting for it any more.
        let _ = done.send(outcome);
        drop(self.committer);
        drop(self.consumer);
    }

    pub(super) fn join(&self) -> Result<(), ConnectorError> {
        let joined = match &self.subscription {
            Subscription::Topics(topics) => self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>()),
            Subscription::Matching(_) => {
                self.consumer.subscribe(&self.known_topics.iter().map(|topic| topic.name()).collect::<Vec<_>>())
            }
            Subscription::Assigned(partitions) => {
                self.consumer.context().assigned(&self.consumer, partitions);
                Ok(())
            }
        };
        let what = || Failure::new(format!("cannot subscribe on `{}`", self.shared.section.name));
        joined.map_err(|error| what().because(error).into())
    }

    /// Polls until a batch is full, or nothing more is there.
    pub(super) fn collect(&mut self) {
        let mut opened: Option<Instant> = None;
        let mut patience = self.patience(IDLE);
        while self.cutter.len() < self.batch && self.cutter.bytes() < self.batch_bytes {
            match self.consumer.poll(patience) {
                Some(Ok(message)) => {
                    take(&self.shared, &self.consumer, &mut self.current, &mut self.cutter, &message);
                    patience = Duration::ZERO;
                }
                Some(Err(error)) => return self.on_consumer_error(&error),
                None if self.cutter.len() == 0 => return,
                None => {
                    let opened = *opened.get_or_insert_with(Instant::now);
                    patience = LINGER.saturating_sub(opened.elapsed());
                    if patience.is_zero() {
                        break;
                    }
                }
            }
            if self.shared.has_gone() {
                return;
            }
        }
        if self.troubled {
            self.troubled = false;
            self.shared.handover.signal(Signal::Degraded(None));
        }
    }

    /// Returns how long to wait for records or room: as usual, unless commits are being waited for one by one.
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        if self.flushed.is_some_and(|at| at.elapsed() < ONE_BY_ONE) { Duration::from_millis(1) } else { usual }
    }

    pub(super) fn forget_gone(&mut self) {
        if let Some(gone) = self.shared.gone() {
            self.cutter.forget(&gone);
            self.committer.forget(&gone);
            self.current = None;
        }
    }

    /// Hands the open batch to the engine; while there is no room, the group is polled on with everything paused.
    pub(super) fn hand_over(&mut self) {
        let mut records = self.cutter.take();
        let begun = Instant::now();
        let mut paused = false;
        loop {
            let runs: Vec<(Partition, i64)> = records
                .iter()
                .enumerate()
                .filter(|(at, record)| records.get(at + 1).is_none_or(|next| next.partition != record.partition))
                .map(|(_, record)| (record.partition, record.offset + 1))
                .collect();
            match self.shared.handover.offer(records, self.patience(Duration::from_millis(20))) {
                Ok(()) => {
                    let mut progress = lock(&self.shared.progress);
                    for (partition, next) in runs {
                        if let Some(progress) = progress.get_mut(&partition) {
                            progress.next = next;
                        }
                    }
                    break;
                }
                Err(back) => records = back,
            }
            self.committer.serve(&self.consumer, &self.shared);
            self.serve_callers();
            if self.shared.is_closing() {
                return;
            }
            if begun.elapsed() > BEFORE_PAUSE {
                self.for_all("pause", rdkafka::consumer::Consumer::pause);
                paused = true;
                match self.consumer.poll(self.patience(Duration::from_millis(80))) {
                    // What was under way before the pause follows the batch that waits.
                    Some(Ok(message)) => take(&self.shared, &self.consumer, &mut self.current, &mut self.cutter, &message),
                    Some(Err(error)) => self.on_consumer_error(&error),
                    None => {}
                }
                if let Some(gone) = self.shared.gone() {
                    records.retain(|record| !gone.contains(&record.partition));
                    self.cutter.forget(&gone);
                    self.committer.forget(&gone);
                    self.current = None;
                }
            }
        }
        if paused {
            self.for_all("resume", rdkafka::consumer::Consumer::resume);
            self.wake_fetchers();
        }
        self.check_end();
    }

    /// Calls `what` with every assigned partition that is still to be read.
    pub(super) fn for_all(
        &self,
        name: &str,
        what: impl Fn(&BaseConsumer<RebalanceContext>, &TopicPartitionList) -> rdkafka::error::KafkaResult<()>,
    ) {
        let mut list = TopicPartitionList::new();
        for (partition, progress) in lock(&self.shared.progress).iter() {
            if !progress.is_done() {
                list.add_partition(partition.topic.name(), partition.index);
            }
        }
        log_refusal(name, what(&self.consumer, &list));
    }

    /// Wakes the threads of librdkafka: after a resume they would sleep on for up to a second, but a request rouses them.
    pub(super) fn wake_fetchers(&self) {
        let one_of_each: HashMap<Topic, Partition> =
            lock(&self.shared.progress).keys().map(|partition| (partition.topic, *partition)).collect();
        for partition in one_of_each.values() {
            let asked = self.consumer.fetch_watermarks(partition.topic.name(), partition.index, Duration::from_secs(1));
            if let Err(error) = asked {
                tracing::debug!(%error, %partition, "the broker did not answer a nudge");
            }
        }
    }

    /// Tells where each partition stands when nothing is to be read: past control records, at the end.
    pub(super) fn tell_positions(&mut self) {
        let Ok(list) = self.consumer.position() else { return };
        let mut passed = Vec::new();
        let mut progress = lock(&self.shared.progress);
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let partition = Partition::new(element.topic(), element.partition());
            if let Some(progress) = progress.get_mut(&partition) {
                let position = progress.stop.map_or(position, |stop| position.min(stop.max(progress.next)));
                if position > progress.next {
                    progress.next = position;
                    passed.push((partition, NextOffset(position)));
                }
            }
        }
        drop(progress);
        if !passed.is_empty() {
            self.shared.handover.positions(passed);
        }
        self.check_end();
    }

    /// Says that the run is over once every partition has been read to its stop.
    pub(super) fn check_end(&mut self) {
        if self.shared.bounded && !self.ended {
            let progress = lock(&self.shared.progress);
            if !progress.is_empty() && progress.values().all(PartitionProgress::is_done) {
                drop(progress);
                self.ended = true;
                self.shared.handover.end();
            }
        }
    }

    pub(super) fn serve_callers(&mut self) {
        for request in std::mem::take(&mut *lock(&self.shared.flushes)) {
            let flushed = self.committer.flush(&self.consumer, &self.shared, Instant::now() + LAST_COMMIT);
            self.flushed = Some(Instant::now());
            // The engine may have stopped waiting.
            let _ = request.send(flushed);
        }
        for caller in std::mem::take(&mut *lock(&self.shared.callers)) {
            let _ = caller.send(self.consumer.group_metadata().map(GroupMetadata));
        }
    }
}

/// Puts a message into the open batch, unless it lies beyond the stop of its partition.
fn take(
    shared: &SourceState,
    consumer: &BaseConsumer<RebalanceContext>,
    current: &mut Option<((usize, i32), Partition, i64)>,
    cutter: &mut BatchBuilder,
    message: &BorrowedMessage<'_>,
) {
    let place = messages::place(message);
    let (partition, stop) = match current {
        Some((known, partition, stop)) if *known == place => (*partition, *stop),
        _ => {
            let partition = Partition::new(message.topic(), message.partition());
            let stop = lock(&shared.progress).get(&partition).and_then(|progress| progress.stop).unwrap_or(i64::MAX);
            *current = Some((place, partition, stop));
            (partition, stop)
        }
    };
    if message.offset() < stop {
        return cutter.push(partition, message);
    }
    // What lies behind the stop is not fetched any further.
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(partition.topic.name(), partition.index);
    log_refusal("pause", consumer.pause(&list));
}
