//! Partitions read without a group: many into one queue, a batch at a time, without copying the records.

use std::collections::HashMap;
use std::ffi::CString;
use std::marker::PhantomData;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::{EventQueue, NativeError, known_epoch, messages, plain_addresses, text};
use crate::record::{HeaderList, Partition, Topic, WithHeader};

/// Records in a batch.
const BATCH: usize = 1000;

/// The queue of the records of any number of partitions. Must not outlive its client.
pub(crate) struct ConsumeQueue {
    client: *mut rd::rd_kafka_t,
    queue: EventQueue,
    topics: HashMap<Topic, *mut rd::rd_kafka_topic_t>,
    started: Vec<Partition>,
    /// The current batch: owned until destroyed.
    batch: Vec<*mut rd::rd_kafka_message_t>,
}

// SAFETY: librdkafka's handles may be used from any thread; the messages are owned.
unsafe impl Send for ConsumeQueue {}

impl ConsumeQueue {
    /// Returns a queue of `client`, a consumer without a group that must outlive the queue.
    pub(crate) fn new<C: ClientContext>(client: &Client<C>) -> Self {
        let client = client.native_ptr();
        // SAFETY: a live handle; whoever owns the client drops this first.
        let queue = unsafe { EventQueue::new(client) };
        Self { client, queue, topics: HashMap::new(), started: Vec::new(), batch: Vec::with_capacity(BATCH) }
    }

    /// Starts to read a partition at an offset.
    pub(crate) fn start(&mut self, partition: Partition, offset: i64) -> Result<(), NativeError> {
        let topic = self.topic(partition.topic)?;
        // SAFETY: live handles; a partition is started only when it is not.
        let code = unsafe { rd::rd_kafka_consume_start_queue(topic, partition.index, offset, self.queue.0) };
        if code != 0 {
            // SAFETY: reads the error that the call left for this thread.
            return Err(NativeError::of(unsafe { rd::rd_kafka_last_error() }));
        }
        self.started.push(partition);
        Ok(())
    }

    /// Stops reading all partitions and drops the current batch.
    pub(crate) fn stop_all(&mut self) {
        self.forget();
        for partition in std::mem::take(&mut self.started) {
            self.stop_reading(partition);
        }
    }

    /// Stops reading a partition.
    pub(crate) fn stop(&mut self, partition: Partition) {
        if let Some(at) = self.started.iter().position(|started| *started == partition) {
            self.started.swap_remove(at);
            self.stop_reading(partition);
        }
    }

    fn stop_reading(&self, partition: Partition) {
        if let Some(topic) = self.topics.get(&partition.topic) {
            // SAFETY: a live topic handle, and a partition of it that was started.
            unsafe { rd::rd_kafka_consume_stop(*topic, partition.index) };
        }
    }

    fn topic(&mut self, topic: Topic) -> Result<*mut rd::rd_kafka_topic_t, NativeError> {
        if let Some(known) = self.topics.get(&topic) {
            return Ok(*known);
        }
        let name = CString::new(topic.name()).map_err(|error| NativeError::invalid_name(&error))?;
        // SAFETY: a live handle and a NUL-terminated name; a null configuration means the client's.
        let handle = unsafe { rd::rd_kafka_topic_new(self.client, name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            // SAFETY: reads the error that the call left for this thread.
            return Err(NativeError::of(unsafe { rd::rd_kafka_last_error() }));
        }
        self.topics.insert(topic, handle);
        Ok(handle)
    }

    /// Replaces the current batch by the records that have arrived, and returns their number; waits up to `timeout` for the first.
    pub(crate) fn poll(&mut self, timeout: Duration) -> usize {
        self.forget();
        self.fill(Duration::ZERO, BATCH);
        if self.batch.is_empty() && !timeout.is_zero() {
            // librdkafka waits the whole timeout for the second one.
            self.fill(timeout, 1);
            self.fill(Duration::ZERO, BATCH - 1);
        }
        self.batch.len()
    }

    fn fill(&mut self, timeout: Duration, most: usize) {
        let before = self.batch.len();
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: there is room for `most` pointers behind those that are there; librdkafka writes at most so many, and says
        // how many it wrote; -1 says that it wrote none.
        unsafe {
            self.batch.reserve(most);
            let room = self.batch.as_mut_ptr().add(before);
            let count = rd::rd_kafka_consume_batch_queue(self.queue.0, timeout, room, most);
            self.batch.set_len(before + usize::try_from(count).unwrap_or(0));
        }
    }

    fn forget(&mut self) {
        for message in self.batch.drain(..) {
            // SAFETY: taken from the queue, so owned; destroyed once.
            unsafe { rd::rd_kafka_message_destroy(message) }
        }
    }

    /// Returns the current batch.
    pub(crate) fn batch(&self) -> impl Iterator<Item = FetchedMessage<'_>> {
        self.batch.iter().map(|message| FetchedMessage { message: *message, life: PhantomData })
    }
}

impl Drop for ConsumeQueue {
    fn drop(&mut self) {
        self.stop_all();
        for (_, topic) in self.topics.drain() {
            // SAFETY: owned, destroyed once, before its client by the caller's word.
            unsafe { rd::rd_kafka_topic_destroy(topic) }
        }
    }
}

/// A record, or an error of a partition, in librdkafka's memory.
pub(crate) struct FetchedMessage<'a> {
    message: *const rd::rd_kafka_message_t,
    life: PhantomData<&'a ()>,
}

impl<'a> FetchedMessage<'a> {
    fn raw(&self) -> &'a rd::rd_kafka_message_t {
        // SAFETY: the message lives as long as the batch, which is borrowed.
        unsafe { &*self.message }
    }

    /// Returns the error that arrived instead of a record.
    pub(crate) fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.raw().err;
        (code as i32 != 0).then(|| code.into())
    }

    pub(crate) fn error_text(&self) -> String {
        // SAFETY: a live message; the string belongs to it.
        plain_addresses(&unsafe { text(rd::rd_kafka_message_errstr(self.message)) })
    }

    /// Returns a key of topic and partition within one client, cheaper than the topic's name.
    pub(crate) fn partition_key(&self) -> (usize, i32) {
        (self.raw().rkt as usize, self.raw().partition)
    }

    pub(crate) fn partition(&self) -> Partition {
        // SAFETY: a live topic handle, if it is not null; its name lives as long.
        let name =
            unsafe { if self.raw().rkt.is_null() { String::new() } else { text(rd::rd_kafka_topic_name(self.raw().rkt)) } };
        Partition::new(&name, self.raw().partition)
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Returns the leader epoch in which the record was written.
    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: a live message.
        known_epoch(unsafe { rd::rd_kafka_message_leader_epoch(self.message) })
    }

    /// Returns milliseconds since the Unix epoch, and whether the broker set them.
    pub(crate) fn timestamp(&self) -> (Option<i64>, bool) {
        use rd::rd_kafka_timestamp_type_t as kind;
        let mut set_by = kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message and a place to write to.
        let time = unsafe { rd::rd_kafka_message_timestamp(self.message, &raw mut set_by) };
        let known = time >= 0 && set_by != kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (known.then_some(time), set_by == kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME)
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka keeps `key_len` bytes there for as long as the message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka keeps `len` bytes there for as long as the message.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }
}

impl HeaderList for FetchedMessage<'_> {
    fn each(&self, with: &mut WithHeader<'_>) {
        // SAFETY: a live message.
        unsafe { messages::headers_of(self.message.cast_mut(), with) }
    }
}

/// Returns a part of a message; null is none.
///
/// # Safety
/// `at` is null or points to `length` bytes that live during `'a`.
unsafe fn bytes<'a>(at: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's word.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
}
