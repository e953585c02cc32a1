//! Commits whose outcome is learned, in time.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

use super::{ErrorEntry, EventQueue, NativeError, QueueEvent, entries};

/// The answer to a commit: an entry for each partition, or why it failed as a whole.
pub(crate) type CommitResponse = Result<Vec<ErrorEntry>, NativeError>;

/// A place where the answers to commits arrive.
pub(crate) struct CommitQueue(EventQueue);

impl CommitQueue {
    /// Returns a queue for the commits of `client`, which must outlive it.
    pub(crate) fn new<C: ClientContext>(client: &Client<C>) -> Self {
        // SAFETY: the handle is live; whoever owns the consumer drops this first.
        Self(unsafe { EventQueue::new(client.native_ptr()) })
    }

    /// Asks the broker to commit `offsets`, or what was stored. Returns at once; the answer arrives in this queue.
    pub(crate) fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        offsets: Option<&TopicPartitionList>,
    ) -> Result<(), NativeError> {
        let list = offsets.map_or(std::ptr::null(), |offsets| offsets.ptr().cast_const());
        // SAFETY: handle, list and queue are live; librdkafka copies the list; no callback is given.
        let code = unsafe { rd::rd_kafka_commit_queue(client.native_ptr(), list, self.0.0, None, std::ptr::null_mut()) };
        if code as i32 == 0 { Ok(()) } else { Err(NativeError(super::code_text(code))) }
    }

    /// Waits for an answer; `None` when none came in time.
    pub(crate) fn answer(&self, timeout: Duration) -> Option<CommitResponse> {
        let event = QueueEvent::wait(&self.0, timeout)?;
        // SAFETY: the list belongs to the event and is copied.
        let committed = unsafe { entries(rd::rd_kafka_event_topic_partition_list(event.0)) };
        Some(match event.error() {
            // No offset: nothing was stored that is not committed, which is as good as done.
            None | Some((rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NO_OFFSET, _)) => Ok(committed),
            Some((_, text)) => Err(NativeError(text)),
        })
    }
}

/// Returns the ends of a partition that the consumer has seen in its fetches, without asking anyone: (low, high).
pub(crate) fn seen_ends<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Option<(i64, i64)> {
    let topic = std::ffi::CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: a live handle, a NUL-terminated name, two integers to write to.
    let code = unsafe {
        rd::rd_kafka_get_watermark_offsets(client.native_ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (code as i32 == 0 && high >= 0).then_some((low, high))
}
