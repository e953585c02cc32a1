//! The bounded queue between the polling thread and the engine. Signals overtake records, failures do not.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::pipeline::{ConnectorError, Demand, Signal};
use crate::record::{NextOffset, Partition, Record};

/// An item that keeps its place behind the records before it.
enum QueueItem {
    Records(Vec<Record>),
    /// Committed earlier, the position would skip the records before it.
    Position(Vec<(Partition, NextOffset)>),
    Signal(Signal),
    Failure(ConnectorError),
}

#[derive(Default)]
struct QueueState {
    signals: VecDeque<Signal>,
    items: VecDeque<QueueItem>,
    records: usize,
    bytes: usize,
    failed: bool,
}

pub(crate) struct RecordQueue {
    state: Mutex<QueueState>,
    space: Condvar,
    ready: Notify,
    max_records: usize,
    max_bytes: usize,
}

impl RecordQueue {
    /// Returns a queue of at most these records and bytes, with room for one batch of any size.
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), space: Condvar::new(), ready: Notify::new(), max_records, max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a batch, or returns it if there is no room within `timeout`.
    pub(crate) fn offer(&self, records: Vec<Record>, timeout: Duration) -> Result<(), Vec<Record>> {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        let full = |state: &mut QueueState| {
            state.records > 0 && (state.records + records.len() > self.max_records || state.bytes + bytes > self.max_bytes)
        };
        let waited = self.space.wait_timeout_while(self.lock(), timeout, full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(records);
        }
        state.records += records.len();
        state.bytes += bytes;
        state.items.push_back(QueueItem::Records(records));
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues a signal that overtakes records.
    pub(crate) fn signal(&self, signal: Signal) {
        self.lock().signals.push_back(signal);
        self.ready.notify_one();
    }

    /// Queues a signal behind the records before it.
    pub(crate) fn signal_in_order(&self, signal: Signal) {
        self.push(QueueItem::Signal(signal));
    }

    /// Queues positions: no record lies between the last queued one and these offsets.
    pub(crate) fn positions(&self, positions: Vec<(Partition, NextOffset)>) {
        self.push(QueueItem::Position(positions));
    }

    /// Queues a failure behind the records before it; only the first counts.
    pub(crate) fn fail(&self, error: ConnectorError) {
        if !std::mem::replace(&mut self.lock().failed, true) {
            self.push(QueueItem::Failure(error));
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    fn push(&self, item: QueueItem) {
        self.lock().items.push_back(item);
        self.ready.notify_one();
    }

    /// Drops what is queued of these partitions: their next owner reads it again, and the end is not reached.
    pub(crate) fn forget(&self, partitions: &[Partition]) {
        let mut state = self.lock();
        for item in &mut state.items {
            match item {
                QueueItem::Records(records) => records.retain(|record| !partitions.contains(&record.partition)),
                QueueItem::Position(positions) => positions.retain(|(partition, _)| !partitions.contains(partition)),
                QueueItem::Signal(Signal::Revoked(revocation)) => revocation.partitions.retain(|own| !partitions.contains(own)),
                QueueItem::Signal(_) | QueueItem::Failure(_) => {}
            }
        }
        state.items.retain(|item| match item {
            QueueItem::Records(records) => !records.is_empty(),
            QueueItem::Signal(Signal::Revoked(revocation)) => !revocation.partitions.is_empty(),
            QueueItem::Signal(Signal::End) => false,
            _ => true,
        });
        let records =
            || state.items.iter().filter_map(|item| if let QueueItem::Records(records) = item { Some(records) } else { None });
        let (count, bytes) = (records().map(Vec::len).sum(), records().flatten().map(Record::bytes).sum());
        (state.records, state.bytes) = (count, bytes);
        drop(state);
        self.space.notify_all();
    }

    /// Waits for the next signal. Cancel-safe: nothing leaves the queue before it is returned.
    pub(crate) async fn next(&self, demand: Demand) -> Result<Signal, ConnectorError> {
        loop {
            let mut ready = std::pin::pin!(self.ready.notified());
            ready.as_mut().enable(); // before the look at the queue, or a notification in between would be missed
            if let Some(next) = self.pop(demand) {
                return next;
            }
            ready.await;
        }
    }

    fn pop(&self, demand: Demand) -> Option<Result<Signal, ConnectorError>> {
        let mut state = self.lock();
        if let Some(signal) = state.signals.pop_front() {
            return Some(Ok(signal));
        }
        let Demand::Records(max) = demand else {
            // No records are in front of it that the engine could still ask for.
            let QueueItem::Failure(_) = state.items.front()? else { return None };
            let Some(QueueItem::Failure(error)) = state.items.pop_front() else { return None };
            return Some(Err(error));
        };
        let signal = match state.items.pop_front()? {
            QueueItem::Position(positions) => Signal::Position(positions),
            QueueItem::Signal(signal) => signal,
            QueueItem::Failure(error) => return Some(Err(error)),
            QueueItem::Records(mut records) => {
                if records.len() > max {
                    let rest = records.split_off(max);
                    state.items.push_front(QueueItem::Records(rest));
                }
                state.records -= records.len();
                state.bytes -= records.iter().map(Record::bytes).sum::<usize>();
                self.space.notify_one();
                Signal::Records(records)
            }
        };
        Some(Ok(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Failure, Revocation};
    use bytes::Bytes;

    const P0: fn() -> Partition = || Partition::new("queue", 0);
    const P1: fn() -> Partition = || Partition::new("queue", 1);
    const NOW: Duration = Duration::ZERO;

    fn records(partition: Partition, offsets: std::ops::Range<i64>) -> Vec<Record> {
        let record = |offset| Record {
            partition,
            offset,
            timestamp: None,
            key: None,
            value: Some(Bytes::from_static(b"0123456789")),
            headers: Vec::new(),
        };
        offsets.map(record).collect()
    }

    async fn offsets(queue: &RecordQueue, max: usize) -> Vec<i64> {
        match queue.next(Demand::Records(max)).await.unwrap() {
            Signal::Records(records) => records.iter().map(|record| record.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn signals_overtake_records_and_positions_do_not() {
        let queue = RecordQueue::new(10, 1000);
        queue.offer(records(P0(), 0..2), NOW).unwrap();
        queue.positions(vec![(P0(), NextOffset(5))]);
        queue.signal(Signal::Lost(vec![P1()]));
        assert!(matches!(queue.next(Demand::Signals).await, Ok(Signal::Lost(_))));
        assert_eq!(offsets(&queue, 10).await, [0, 1]);
        assert!(matches!(queue.next(Demand::Records(10)).await, Ok(Signal::Position(_))));
    }

    #[tokio::test]
    async fn a_batch_is_split_to_the_demand() {
        let queue = RecordQueue::new(10, 1000);
        queue.offer(records(P0(), 0..5), NOW).unwrap();
        assert_eq!(offsets(&queue, 3).await, [0, 1, 2]);
        assert_eq!(offsets(&queue, 3).await, [3, 4]);
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_batch_back_until_there_is_room() {
        let queue = RecordQueue::new(4, 1000);
        queue.offer(records(P0(), 0..9), NOW).expect("one batch always fits");
        let back = queue.offer(records(P0(), 9..10), NOW).unwrap_err();
        assert_eq!(back.len(), 1);
        offsets(&queue, 9).await;
        queue.offer(back, NOW).unwrap();
        queue.offer(records(P0(), 10..12), NOW).unwrap();
        let big = RecordQueue::new(100, 25);
        big.offer(records(P0(), 0..2), NOW).unwrap();
        big.offer(records(P0(), 2..3), NOW).expect_err("30 bytes are too many");
    }

    #[tokio::test]
    async fn records_of_revoked_partitions_are_dropped() {
        let queue = RecordQueue::new(4, 1000);
        let both: Vec<Record> = records(P0(), 0..2).into_iter().chain(records(P1(), 0..2)).collect();
        queue.offer(both, NOW).unwrap();
        queue.positions(vec![(P0(), NextOffset(7)), (P1(), NextOffset(8))]);
        queue.forget(&[P0()]);
        queue.offer(records(P1(), 2..4), NOW).expect("the room is free again");
        let Ok(Signal::Records(left)) = queue.next(Demand::Records(10)).await else { panic!() };
        assert!(left.iter().all(|record| record.partition == P1()));
        let Ok(Signal::Position(positions)) = queue.next(Demand::Records(10)).await else { panic!() };
        assert_eq!(positions, [(P1(), NextOffset(8))]);
    }

    #[tokio::test]
    async fn a_failure_follows_the_records_before_it() {
        let queue = RecordQueue::new(4, 1000);
        queue.offer(records(P0(), 0..1), NOW).unwrap();
        queue.fail(Failure::new("first").into());
        queue.fail(Failure::new("second").into());
        assert!(queue.pop(Demand::Signals).is_none(), "a record is in front of it");
        assert_eq!(offsets(&queue, 1).await, [0]);
        assert_eq!(queue.next(Demand::Signals).await.unwrap_err().to_string(), "first");
        assert!(queue.pop(Demand::Records(1)).is_none());
    }

    #[tokio::test]
    async fn a_signal_in_order_follows_records_and_goes_with_its_partition() {
        let queue = RecordQueue::new(4, 1000);
        queue.offer(records(P0(), 0..1), NOW).unwrap();
        queue.signal_in_order(Signal::Revoked(Revocation::new(vec![P0()]).0));
        assert_eq!(offsets(&queue, 1).await, [0]);
        queue.forget(&[P1()]);
        assert!(matches!(queue.next(Demand::Records(1)).await, Ok(Signal::Revoked(_))));
        let (revocation, released) = Revocation::new(vec![P0()]);
        queue.signal_in_order(Signal::Revoked(revocation));
        queue.forget(&[P0()]);
        assert!(released.recv().is_err(), "dropped unreleased");
    }

    #[tokio::test]
    async fn a_signal_wakes_a_waiting_reader() {
        let queue = std::sync::Arc::new(RecordQueue::new(4, 1000));
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.next(Demand::Records(1)).await }
        });
        tokio::task::yield_now().await;
        queue.signal_in_order(Signal::End);
        assert!(matches!(waiting.await.unwrap(), Ok(Signal::End)));
    }
}
