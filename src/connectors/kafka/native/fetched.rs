//! What a consumer was sent, with the topic of everything: rdkafka names neither that of an end nor that of an error.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

use super::{Entry, Event, Queue, entry, messages, text};
use crate::record::{Partition, Record};

/// What arrives at a consumer.
pub(crate) enum Fetched<'a> {
    Message(&'a Message),
    /// There is no more for now: topic, partition, and the offset that was reached.
    End(Entry),
    /// The offset that was wanted is not there.
    Gone(Entry),
    /// A partition cannot be read, or not now: why is its `error`.
    Failed(Entry),
}

/// A message, as librdkafka keeps it.
#[repr(transparent)]
pub(crate) struct Message(rd::rd_kafka_message_t);

impl Message {
    /// Returns the name of its topic.
    pub(crate) fn topic(&self) -> String {
        // SAFETY: the topic handle lives as long as the message; its name is NUL-terminated.
        unsafe { text(rd::rd_kafka_topic_name(self.0.rkt)) }
    }

    /// Returns the number of its partition.
    pub(crate) fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Returns its offset.
    pub(crate) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Returns its time in milliseconds since the Unix epoch.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a live message and a place to write to.
        let time = unsafe { rd::rd_kafka_message_timestamp(&raw const self.0, &raw mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time >= 0).then_some(time)
    }

    /// Returns a copy.
    pub(crate) fn record(&self) -> Record {
        let part = |start: *mut std::ffi::c_void, length| {
            // SAFETY: librdkafka keeps `length` bytes there for as long as the message, unless it is null.
            (!start.is_null()).then(|| unsafe { Bytes::copy_from_slice(std::slice::from_raw_parts(start.cast::<u8>(), length)) })
        };
        let mut headers = Vec::new();
        // SAFETY: a live message.
        unsafe {
            messages::headers_of(&raw const self.0, |name, value| {
                headers.push((Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice)));
            });
        }
        Record {
            partition: Partition::new(&self.topic(), self.partition()),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: part(self.0.key, self.0.key_len),
            value: part(self.0.payload, self.0.len),
            headers,
        }
    }
}

/// Waits up to `timeout` for what arrives at the consumer next, and calls `each` with it. Returns whether something arrived.
pub(crate) fn poll<C: ClientContext>(client: &Client<C>, timeout: Duration, mut each: impl FnMut(Fetched<'_>)) -> bool {
    // SAFETY: a live handle; the queue is ours to destroy, and before the client.
    let queue = Queue(unsafe { rd::rd_kafka_queue_get_consumer(client.native_ptr()) });
    let Some(event) = Event::wait(&queue, timeout) else { return false };
    // SAFETY: the event is live, and so are its messages and its topic partition, which is ours to destroy.
    unsafe {
        match event.kind() {
            rd::RD_KAFKA_EVENT_FETCH => {
                while let Some(message) = rd::rd_kafka_event_message_next(event.0).cast::<Message>().as_ref() {
                    each(Fetched::Message(message));
                }
            }
            rd::RD_KAFKA_EVENT_ERROR => {
                let place = rd::rd_kafka_event_topic_partition(event.0);
                if let (false, Some((code, _))) = (place.is_null(), event.error()) {
                    let at = entry(&*place);
                    rd::rd_kafka_topic_partition_destroy(place);
                    each(match code {
                        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => Fetched::End(at),
                        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => Fetched::Gone(at),
                        _ => Fetched::Failed(at),
                    });
                }
            }
            _ => {}
        }
    }
    true
}
