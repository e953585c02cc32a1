//! Commits with a response and a timeout.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

use super::{EventQueue, NativeError, PartitionEntry, QueueEvent, entries};

/// The most partitions in one commit request: with their metadata they stay below `socket.request.max.bytes` and the broker's batch
/// limit.
pub(crate) const MAX_COMMIT_PARTITIONS: usize = 500;

/// The answer to a commit: an entry for each partition, or the error of the whole request.
pub(crate) type CommitResponse = Result<Vec<PartitionEntry>, NativeError>;

/// Fails with the first error of a partition.
pub(crate) fn fully_committed(response: CommitResponse) -> Result<(), NativeError> {
    response?.into_iter().find_map(|entry| entry.error).map_or(Ok(()), Err)
}

/// The queue of the answers to commits.
pub(crate) struct CommitQueue(EventQueue);

impl CommitQueue {
    /// Returns a queue for the commits of `client`, which must outlive the queue.
    pub(crate) fn new<C: ClientContext>(client: &Client<C>) -> Self {
        // SAFETY: the handle is live; whoever owns the consumer drops this first.
        Self(unsafe { EventQueue::new(client.native_ptr()) })
    }

    /// Sends a commit of `offsets`, or of the stored ones. Returns at once; the response arrives in this queue.
    pub(crate) fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        offsets: Option<&TopicPartitionList>,
    ) -> Result<(), NativeError> {
        let list = offsets.map_or(std::ptr::null(), |offsets| offsets.ptr().cast_const());
        // SAFETY: handle, list and queue are live; librdkafka copies the list; no callback is given.
        let code = unsafe { rd::rd_kafka_commit_queue(client.native_ptr(), list, self.0.0, None, std::ptr::null_mut()) };
        if code as i32 == 0 { Ok(()) } else { Err(NativeError::of(code)) }
    }

    /// Returns `None` if no broker answers within `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<CommitResponse> {
        let event = QueueEvent::wait(&self.0, timeout)?;
        // SAFETY: the list belongs to the event and is copied.
        let committed = unsafe { entries(rd::rd_kafka_event_topic_partition_list(event.0)) };
        Some(event.error().map_or(Ok(committed), Err))
    }
}

/// Returns low and high watermark of a partition from the last fetch response, without a request.
pub(crate) fn cached_watermarks<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<(i64, i64)> {
    let topic = std::ffi::CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: a live handle, a NUL-terminated name, two integers to write to.
    let code = unsafe {
        rd::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (code as i32 == 0 && high >= 0).then_some((low, high))
}
