//! Makes what was noted durable: one commit at a time, its answer awaited, the newest watermark sent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::oneshot;

use crate::connectors::kafka::librdkafka::NativeError;
use crate::connectors::kafka::librdkafka::commits::{CommitQueue, CommitResponse};
use crate::connectors::kafka::rebalance::{RebalanceContext, SourceState, lock};
use crate::pipeline::{Commit, ConnectorError, Failure, Signal};
use crate::record::{NextOffset, Partition};

/// How long the broker may take to answer a commit before that is said to be trouble.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before a refused commit is sent again while something waits for it.
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// Who waits for everything noted so far to be durable.
pub(crate) type FlushRequest = oneshot::Sender<Result<(), ConnectorError>>;

/// Returns whether a commit was taken for each of its partitions.
pub(crate) fn all_taken(answer: CommitResponse) -> Result<(), NativeError> {
    answer?.into_iter().find_map(|entry| entry.error).map_or(Ok(()), |error| Err(NativeError(error)))
}

/// Commits on behalf of the polling thread.
pub(crate) struct Committer {
    answers: CommitQueue,
    interval: Duration,
    last_sent: Instant,
    /// What the broker confirmed.
    confirmed: HashMap<Partition, NextOffset>,
    /// What is being committed, since when.
    outstanding: Option<(Instant, Vec<Commit>)>,
    /// When it was last said that the outstanding commit is not answered.
    complained: Option<Instant>,
    refused: u32,
}

impl Committer {
    pub(crate) fn new(consumer: &BaseConsumer<RebalanceContext>, interval: Duration) -> Self {
        let answers = CommitQueue::new(consumer.client());
        Self {
            answers,
            interval,
            last_sent: Instant::now(),
            confirmed: HashMap::new(),
            outstanding: None,
            complained: None,
            refused: 0,
        }
    }

    /// Sends what is due and takes answers that have arrived; never waits.
    pub(crate) fn serve(&mut self, consumer: &BaseConsumer<RebalanceContext>, shared: &SourceState) {
        // What is not settled with the broker yet is looked at now.
        let _ = self.take_answer(shared, Duration::ZERO);
        if self.outstanding.is_none() && self.last_sent.elapsed() >= self.interval {
            self.send(consumer, shared);
        }
    }

    /// Waits until everything noted is durable, at most until `deadline`.
    pub(crate) fn flush(
        &mut self,
        consumer: &BaseConsumer<RebalanceContext>,
        shared: &SourceState,
        deadline: Instant,
    ) -> Result<(), ConnectorError> {
        loop {
            if self.outstanding.is_none() {
                self.send(consumer, shared);
            }
            if self.outstanding.is_none() {
                return Ok(()); // nothing is left to commit
            }
            let failure = || Failure::new(format!("the offsets were not committed on `{}`", shared.section.name));
            match self.take_answer(shared, Duration::from_millis(100)) {
                Some(Err(error)) if error.is_final() || Instant::now() > deadline => return Err(failure().because(error).into()),
                // A coordinator that moves or loads takes the same watermark, or by then a newer one, a moment later.
                Some(Err(_)) => std::thread::sleep(RETRY_BACKOFF),
                None if Instant::now() > deadline => return Err(failure().because("the broker does not answer").into()),
                Some(Ok(())) | None => {}
            }
        }
    }

    fn send(&mut self, consumer: &BaseConsumer<RebalanceContext>, shared: &SourceState) {
        self.last_sent = Instant::now();
        let noted = lock(&shared.noted);
        let dirty: Vec<Commit> =
            noted.values().filter(|commit| self.confirmed.get(&commit.partition) != Some(&commit.next)).copied().collect();
        drop(noted);
        if dirty.is_empty() {
            return;
        }
        let list = shared.list(&dirty);
        // A partition that was lost meanwhile is refused here, on this side of the wire.
        let stored = consumer.store_offsets(&list);
        let refused: Vec<Partition> = list
            .elements()
            .iter()
            .filter(|element| element.error().is_err())
            .map(|element| Partition::new(element.topic(), element.partition()))
            .collect();
        if !refused.is_empty() {
            lock(&shared.noted).retain(|partition, _| !refused.contains(partition));
        }
        let dirty: Vec<Commit> = dirty.into_iter().filter(|commit| !refused.contains(&commit.partition)).collect();
        if stored.is_err() || dirty.is_empty() {
            return;
        }
        match self.answers.commit(consumer.client(), None) {
            Ok(()) => self.outstanding = Some((Instant::now(), dirty)),
            Err(error) => self.refuse(shared, &error.to_string()),
        }
    }

    /// Takes the answer to the outstanding commit, if it comes within `patience`.
    fn take_answer(&mut self, shared: &SourceState, patience: Duration) -> Option<Result<(), NativeError>> {
        let (since, _) = self.outstanding.as_ref()?;
        let Some(answer) = self.answers.answer(patience) else {
            // It is not sent again meanwhile: librdkafka keeps it, and the late answer to one commit is not the answer to another.
            if self.complained.unwrap_or(*since).elapsed() > RESPONSE_TIMEOUT {
                self.complained = Some(Instant::now());
                self.refuse(shared, "the broker does not answer");
            }
            return None;
        };
        self.complained = None;
        let (_, sent) = self.outstanding.take().expect("looked at above");
        if let Err(error) = all_taken(answer) {
            self.refuse(shared, &error.to_string());
            return Some(Err(error));
        }
        let confirmed: Vec<_> = sent.iter().map(|commit| (commit.partition, commit.next)).collect();
        self.confirmed.extend(confirmed.iter().copied());
        if self.refused > 0 {
            self.refused = 0;
            shared.handover.signal(Signal::Degraded(None));
        }
        shared.handover.signal(Signal::Committed(confirmed));
        Some(Ok(()))
    }

    fn refuse(&mut self, shared: &SourceState, error: &str) {
        self.refused += 1;
        let times = self.refused;
        shared.handover.signal(Signal::Degraded(Some(format!("commit refused ({times}x): {error}"))));
    }

    /// Forgets what is known of partitions that were taken away: their next life begins with what the broker has.
    pub(crate) fn forget(&mut self, partitions: &[Partition]) {
        self.confirmed.retain(|partition, _| !partitions.contains(partition));
    }
}
