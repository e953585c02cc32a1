//! Between the thread that polls and the engine that awaits: a bounded queue of records, and signals that overtake them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::pipeline::{ConnectorError, Demand, Signal};
use crate::record::{NextOffset, Partition, Record};

/// What comes in the order of the log.
enum QueueItem {
    Records(Vec<Record>),
    /// Behind the records before it: committed sooner, it would skip them.
    Position(Vec<(Partition, NextOffset)>),
    End,
}

#[derive(Default)]
struct QueueState {
    signals: VecDeque<Signal>,
    items: VecDeque<QueueItem>,
    records: usize,
    bytes: usize,
    failed: Option<ConnectorError>,
}

/// The queue between the two.
pub(crate) struct RecordQueue {
    queue: Mutex<QueueState>,
    space: Condvar,
    ready: Notify,
    most_records: usize,
    most_bytes: usize,
}

impl RecordQueue {
    /// Returns a queue that holds at most so many records and bytes, but always one batch.
    pub(crate) fn new(most_records: usize, most_bytes: usize) -> Self {
        Self { queue: Mutex::default(), space: Condvar::new(), ready: Notify::new(), most_records, most_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a batch over, or gives it back when there was no room within `patience`.
    pub(crate) fn offer(&self, records: Vec<Record>, patience: Duration) -> Result<(), Vec<Record>> {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        let full = |queue: &mut QueueState| {
            queue.records > 0 && (queue.records + records.len() > self.most_records || queue.bytes + bytes > self.most_bytes)
        };
        let waited = self.space.wait_timeout_while(self.lock(), patience, full);
        let (mut queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(records);
        }
        queue.records += records.len();
        queue.bytes += bytes;
        queue.items.push_back(QueueItem::Records(records));
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// Says that nothing lies between the records handed over so far and these offsets.
    pub(crate) fn positions(&self, positions: Vec<(Partition, NextOffset)>) {
        self.lock().items.push_back(QueueItem::Position(positions));
        self.ready.notify_one();
    }

    /// Says that everything asked for was handed over.
    pub(crate) fn end(&self) {
        self.lock().items.push_back(QueueItem::End);
        self.ready.notify_one();
    }

    /// Says something that overtakes records.
    pub(crate) fn signal(&self, signal: Signal) {
        self.lock().signals.push_back(signal);
        self.ready.notify_one();
    }

    /// Ends the feed with an error; the first counts.
    pub(crate) fn fail(&self, error: ConnectorError) {
        self.lock().failed.get_or_insert(error);
        self.ready.notify_one();
    }

    /// Takes back what was not yet taken of these partitions: they go to another member, which reads it again.
    pub(crate) fn forget(&self, partitions: &[Partition]) {
        let mut queue = self.lock();
        for item in &mut queue.items {
            match item {
                QueueItem::Records(records) => records.retain(|record| !partitions.contains(&record.partition)),
                QueueItem::Position(positions) => positions.retain(|(partition, _)| !partitions.contains(partition)),
                QueueItem::End => {}
            }
        }
        queue.items.retain(|item| !matches!(item, QueueItem::Records(records) if records.is_empty()));
        let every =
            || queue.items.iter().filter_map(|item| if let QueueItem::Records(records) = item { Some(records) } else { None });
        let (count, bytes) = (every().map(Vec::len).sum(), every().flatten().map(Record::bytes).sum());
        (queue.records, queue.bytes) = (count, bytes);
        drop(queue);
        self.space.notify_all();
    }

    /// Waits for what comes next. Cancel-safe: nothing is taken before it is returned.
    pub(crate) async fn next(&self, appetite: Demand) -> Result<Signal, ConnectorError> {
        loop {
            let mut ready = std::pin::pin!(self.ready.notified());
            ready.as_mut().enable(); // before looking, or a notice in between would be missed
            if let Some(next) = self.take(appetite) {
                return next;
            }
            ready.await;
        }
    }

    fn take(&self, appetite: Demand) -> Option<Result<Signal, ConnectorError>> {
        let mut queue = self.lock();
        if let Some(signal) = queue.signals.pop_front() {
            return Some(Ok(signal));
        }
        if let Some(error) = queue.failed.take() {
            return Some(Err(error));
        }
        let Demand::Records(most) = appetite else { return None };
        let signal = match queue.items.pop_front()? {
            QueueItem::Position(positions) => Signal::Position(positions),
            QueueItem::End => Signal::End,
            QueueItem::Records(mut records) => {
                if records.len() > most {
                    let rest = records.split_off(most);
                    queue.items.push_front(QueueItem::Records(rest));
                }
                queue.records -= records.len();
                queue.bytes -= records.iter().map(Record::bytes).sum::<usize>();
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
    use crate::pipeline::Failure;
    use bytes::Bytes;

    const P0: fn() -> Partition = || Partition::new("handover", 0);
    const P1: fn() -> Partition = || Partition::new("handover", 1);
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

    async fn offsets(handover: &RecordQueue, most: usize) -> Vec<i64> {
        match handover.next(Demand::Records(most)).await.unwrap() {
            Signal::Records(records) => records.iter().map(|record| record.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn signals_overtake_records_and_positions_do_not() {
        let handover = RecordQueue::new(10, 1000);
        handover.offer(records(P0(), 0..2), NOW).unwrap();
        handover.positions(vec![(P0(), NextOffset(5))]);
        handover.signal(Signal::Lost(vec![P1()]));
        assert!(matches!(handover.next(Demand::Signals).await, Ok(Signal::Lost(_))));
        assert_eq!(offsets(&handover, 10).await, [0, 1]);
        assert!(matches!(handover.next(Demand::Records(10)).await, Ok(Signal::Position(_))));
    }

    #[tokio::test]
    async fn a_batch_is_cut_to_the_appetite() {
        let handover = RecordQueue::new(10, 1000);
        handover.offer(records(P0(), 0..5), NOW).unwrap();
        assert_eq!(offsets(&handover, 3).await, [0, 1, 2]);
        assert_eq!(offsets(&handover, 3).await, [3, 4]);
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_batch_back_until_there_is_room() {
        let handover = RecordQueue::new(4, 1000);
        handover.offer(records(P0(), 0..9), NOW).expect("one batch always fits");
        let back = handover.offer(records(P0(), 9..10), NOW).unwrap_err();
        assert_eq!(back.len(), 1);
        offsets(&handover, 9).await;
        handover.offer(back, NOW).unwrap();
        handover.offer(records(P0(), 10..12), NOW).unwrap();
        let big = RecordQueue::new(100, 25);
        big.offer(records(P0(), 0..2), NOW).unwrap();
        big.offer(records(P0(), 2..3), NOW).expect_err("30 bytes are too many");
    }

    #[tokio::test]
    async fn what_goes_to_another_member_is_not_handed_over() {
        let handover = RecordQueue::new(4, 1000);
        let both: Vec<Record> = records(P0(), 0..2).into_iter().chain(records(P1(), 0..2)).collect();
        handover.offer(both, NOW).unwrap();
        handover.positions(vec![(P0(), NextOffset(7)), (P1(), NextOffset(8))]);
        handover.forget(&[P0()]);
        handover.offer(records(P1(), 2..4), NOW).expect("the room is free again");
        let Ok(Signal::Records(left)) = handover.next(Demand::Records(10)).await else { panic!() };
        assert!(left.iter().all(|record| record.partition == P1()));
        let Ok(Signal::Position(positions)) = handover.next(Demand::Records(10)).await else { panic!() };
        assert_eq!(positions, [(P1(), NextOffset(8))]);
    }

    #[tokio::test]
    async fn a_failure_comes_once_and_before_records() {
        let handover = RecordQueue::new(4, 1000);
        handover.offer(records(P0(), 0..1), NOW).unwrap();
        handover.fail(Failure::new("first").into());
        assert_eq!(handover.next(Demand::Signals).await.unwrap_err().to_string(), "first");
        assert_eq!(offsets(&handover, 1).await, [0]);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let handover = std::sync::Arc::new(RecordQueue::new(4, 1000));
        let waiting = tokio::spawn({
            let handover = std::sync::Arc::clone(&handover);
            async move { handover.next(Demand::Records(1)).await }
        });
        tokio::task::yield_now().await;
        handover.end();
        assert!(matches!(waiting.await.unwrap(), Ok(Signal::End)));
    }
}
