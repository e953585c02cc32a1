//! Preparing the sink for partitions that were assigned.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::pipeline::{Assignment, ConnectorError, Sink};
use crate::record::Partition;

type Prepare = Pin<Box<dyn Future<Output = Result<(), ConnectorError>> + Send>>;

/// The partitions that the sink is not prepared for yet. While there are any, no new batch is sent.
pub(super) struct Preparation<K> {
    sink: Arc<K>,
    pending: Vec<Assignment>,
    /// The call in progress, with its partitions.
    running: Option<(Vec<Assignment>, Prepare)>,
    /// When the next call may be made, and how many failed before it.
    retry_at: Option<Instant>,
    failures: u32,
    /// Since when something is pending.
    since: Option<Instant>,
}

impl<K: Sink + 'static> Preparation<K> {
    pub(super) fn new(sink: Arc<K>) -> Self {
        Self { sink, pending: Vec::new(), running: None, retry_at: None, failures: 0, since: None }
    }

    pub(super) fn assign(&mut self, assigned: &[Assignment], now: Instant) {
        self.forget(assigned.iter().map(|assignment| assignment.partition));
        self.pending.extend_from_slice(assigned);
        if !self.pending.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Removes revoked or lost partitions. A call in progress for them continues.
    pub(super) fn forget(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        for partition in partitions {
            let is_other = |assignment: &Assignment| assignment.partition != partition;
            self.pending.retain(is_other);
            if let Some((assigned, _)) = &mut self.running {
                assigned.retain(is_other);
            }
        }
        self.update_since();
    }

    fn update_since(&mut self) {
        if self.pending.is_empty() && self.running.as_ref().is_none_or(|(assigned, _)| assigned.is_empty()) {
            (self.since, self.retry_at, self.failures) = (None, None, 0);
        }
    }

    /// Returns since when partitions wait to be prepared.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Returns when [`Self::start`] is to be called again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.running.is_none() && !self.pending.is_empty())
    }

    /// Asks the sink to prepare the pending partitions, if due; returns an immediate answer.
    pub(super) fn start(&mut self, now: Instant) -> Option<Result<(), ConnectorError>> {
        if self.running.is_some() || self.pending.is_empty() || self.retry_at.is_some_and(|due| due > now) {
            return None;
        }
        let assigned = std::mem::take(&mut self.pending);
        let (sink, argument) = (Arc::clone(&self.sink), assigned.clone());
        let call: Prepare = Box::pin(async move { sink.prepare(&argument).await });
        let (_, call) = self.running.insert((assigned, call));
        call.as_mut().now_or_never()
    }

    /// Waits for the answer of the call under way. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<(), ConnectorError> {
        match &mut self.running {
            Some((_, call)) => call.await,
            None => std::future::pending().await,
        }
    }

    /// Handles the answer: after a transient failure, the same partitions are prepared again after the pause that `backoff` gives
    /// for the number of failures.
    ///
    /// # Errors
    /// When a permanent failure concerns partitions that are still owned.
    pub(super) fn on_answer(
        &mut self,
        answer: Result<(), ConnectorError>,
        backoff: impl FnOnce(u32) -> Instant,
    ) -> Result<Option<String>, ConnectorError> {
        let (assigned, _) = self.running.take().expect("an answer follows a call");
        let mut failed = None;
        match answer {
            Err(error) if assigned.is_empty() => drop(error),
            Err(error) if error.is_passing() => {
                self.failures += 1;
                self.retry_at = Some(backoff(self.failures));
                self.pending.extend(assigned);
                failed = Some(error.to_string());
            }
            Err(error) => return Err(error),
            Ok(()) => (self.failures, self.retry_at) = (0, None),
        }
        self.update_since();
        Ok(failed)
    }
}
