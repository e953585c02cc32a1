//! Records in and out of librdkafka with one copy each, and headers of any bytes.

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::message::BorrowedMessage;

use super::{EventQueue, NativeError, QueueEvent, known_epoch};

/// Calls `each` with name and value of every header of `message`, in order.
///
/// rdkafka's own iterator panics on a name that is not UTF-8.
pub(crate) fn headers(message: &BorrowedMessage<'_>, each: impl FnMut(&[u8], Option<&[u8]>)) {
    // SAFETY: a borrowed message is a live one.
    unsafe { headers_of(message.ptr(), each) }
}

/// As [`headers`].
///
/// # Safety
/// The message lives during the call.
pub(super) unsafe fn headers_of(message: *const rd::rd_kafka_message_t, each: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message is live; librdkafka keeps the headers for as long.
    let code = unsafe { rd::rd_kafka_message_headers(message, &raw mut headers) };
    if code as i32 == 0 {
        // SAFETY: as above.
        unsafe { each_header(headers, each) }
    }
}

/// Calls `each` with name and value of every header, in order.
///
/// # Safety
/// The list lives during the call.
unsafe fn each_header(headers: *const rd::rd_kafka_headers_t, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    for index in 0.. {
        let (mut name, mut value, mut size) = (std::ptr::null::<c_char>(), std::ptr::null::<c_void>(), 0_usize);
        // SAFETY: live headers and three places to write to.
        let code = unsafe { rd::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if code as i32 != 0 {
            return;
        }
        // SAFETY: `name` is NUL-terminated and `value`, if not null, has `size` bytes; both live as long as the message.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (std::slice::from_raw_parts(name.cast::<u8>(), name_length(name)), value)
        };
        each(name, value);
    }
}

/// Returns the length of a header's name. librdkafka passes names on as C strings, which end at the first NUL, and keeps the length in
/// front of the name: `size_t ser_size, value_size, name_size; char *value; char name[]`.
///
/// # Safety
/// `name` is the name of a header that lives during the call.
unsafe fn name_length(name: *const c_char) -> usize {
    // SAFETY: librdkafka allocates the name as the last field of this structure, aligned as its first.
    unsafe { name.byte_sub(2 * size_of::<usize>()).cast::<usize>().read_unaligned() }
}

/// Returns a key of topic and partition within one consumer, cheaper than the topic's name.
pub(crate) fn partition_key(message: &BorrowedMessage<'_>) -> (usize, i32) {
    (message.topic_ptr() as usize, message.partition())
}

/// Returns the leader epoch in which a message was written.
pub(crate) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: a borrowed message is a live one.
    known_epoch(unsafe { rd::rd_kafka_message_leader_epoch(message.ptr()) })
}

/// A topic of a producer, looked up once instead of for each record.
pub(crate) struct ProducerTopic<'c> {
    handle: *mut rd::rd_kafka_topic_t,
    client: PhantomData<&'c ()>,
}

impl<'c> ProducerTopic<'c> {
    /// Returns the topic called `name` of `client`.
    pub(crate) fn new<C: ClientContext>(client: &'c Client<C>, name: &str) -> Result<Self, NativeError> {
        let name = CString::new(name).map_err(|error| NativeError::invalid_name(&error))?;
        // SAFETY: a live handle and a NUL-terminated name; a null configuration means the default one.
        let handle = unsafe { rd::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            // SAFETY: reads the error that the call left for this thread.
            return Err(NativeError::of(unsafe { rd::rd_kafka_last_error() }));
        }
        Ok(Self { handle, client: PhantomData })
    }
}

impl Drop for ProducerTopic<'_> {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once, before its client by its lifetime.
        unsafe { rd::rd_kafka_topic_destroy(self.handle) }
    }
}

/// A record to produce.
pub(crate) struct Outgoing<'a> {
    /// Without one, librdkafka chooses by the key.
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(Bytes, Option<Bytes>)],
    /// Comes back with the delivery report.
    pub(crate) token: usize,
}

/// Queues one record for delivery; the bytes are copied.
pub(crate) fn produce<C: ClientContext>(
    client: &Client<C>,
    topic: &ProducerTopic<'_>,
    record: &Outgoing<'_>,
) -> Result<(), NativeError> {
    use rd::rd_kafka_vtype_t as vtype;
    let bytes = |part: Option<&[u8]>| rd::rd_kafka_vu_s__bindgen_ty_1 {
        mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: part.map_or(std::ptr::null_mut(), |part| part.as_ptr().cast_mut().cast()),
            size: part.map_or(0, <[u8]>::len),
        },
    };
    let field = |vtype, u| rd::rd_kafka_vu_t { vtype, u };
    let mut headers = std::ptr::null_mut();
    if !record.headers.is_empty() {
        // SAFETY: a new list, filled from slices that live during the calls, which copy them.
        unsafe {
            headers = rd::rd_kafka_headers_new(record.headers.len());
            for (name, value) in record.headers {
                let (value, size) = value.as_ref().map_or((std::ptr::null(), 0), |value| (value.as_ptr().cast(), value.len()));
                rd::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len().cast_signed(), value, size.cast_signed());
            }
        }
    }
    let fields = [
        field(vtype::RD_KAFKA_VTYPE_RKT, rd::rd_kafka_vu_s__bindgen_ty_1 { rkt: topic.handle }),
        field(vtype::RD_KAFKA_VTYPE_PARTITION, rd::rd_kafka_vu_s__bindgen_ty_1 { i32_: record.partition.unwrap_or(-1) }),
        field(vtype::RD_KAFKA_VTYPE_MSGFLAGS, rd::rd_kafka_vu_s__bindgen_ty_1 { i: rd::RD_KAFKA_MSG_F_COPY }),
        field(vtype::RD_KAFKA_VTYPE_KEY, bytes(record.key)),
        field(vtype::RD_KAFKA_VTYPE_VALUE, bytes(record.value)),
        field(vtype::RD_KAFKA_VTYPE_TIMESTAMP, rd::rd_kafka_vu_s__bindgen_ty_1 { i64_: record.timestamp.unwrap_or(0) }),
        field(vtype::RD_KAFKA_VTYPE_OPAQUE, rd::rd_kafka_vu_s__bindgen_ty_1 { ptr: record.token as *mut c_void }),
        field(vtype::RD_KAFKA_VTYPE_HEADERS, rd::rd_kafka_vu_s__bindgen_ty_1 { headers }),
    ];
    let used = if headers.is_null() { fields.len() - 1 } else { fields.len() };
    // SAFETY: live handles; `used` fields, each with the member that its type names; key and value are copied (F_COPY);
    // on success librdkafka owns the headers, on failure they stay ours.
    unsafe {
        let error = rd::rd_kafka_produceva(client.native_ptr(), fields.as_ptr(), used);
        if error.is_null() {
            return Ok(());
        }
        let refused = NativeError::copy(error);
        rd::rd_kafka_error_destroy(error);
        if !headers.is_null() {
            rd::rd_kafka_headers_destroy(headers);
        }
        refused.map_or(Ok(()), Err)
    }
}

/// Fails every record in the queue of a producer that has not been sent, and with `in_flight` those whose fate is not known; the
/// delivery reports say so.
pub(crate) fn purge<C: ClientContext>(client: &Client<C>, in_flight: bool) {
    let flags = rd::RD_KAFKA_PURGE_F_QUEUE | if in_flight { rd::RD_KAFKA_PURGE_F_INFLIGHT } else { 0 };
    // SAFETY: a live handle. It refuses clients that are not producers, and nothing else.
    let _ = unsafe { rd::rd_kafka_purge(client.native_ptr(), flags) };
}

/// Serves delivery reports: waits up to `timeout` for the first, and calls `each` with the token of every record that is answered by
/// then, and its offset, which is negative if the broker did not tell, or its error. Returns the client's other errors.
pub(crate) fn reports(
    queue: &EventQueue,
    timeout: Duration,
    mut each: impl FnMut(usize, Result<i64, NativeError>),
) -> Vec<NativeError> {
    let mut errors = Vec::new();
    let mut timeout = timeout;
    let mut messages: Vec<*const rd::rd_kafka_message_t> = Vec::new();
    while let Some(event) = QueueEvent::wait(queue, timeout) {
        timeout = Duration::ZERO;
        if event.kind() != rd::RD_KAFKA_EVENT_DR {
            errors.extend(event.error());
            continue;
        }
        // SAFETY: the event is live; librdkafka writes at most as many pointers as there is room for, and keeps the messages
        // for as long as the event.
        unsafe {
            let count = rd::rd_kafka_event_message_count(event.0);
            messages.clear();
            messages.resize(count, std::ptr::null());
            let count = rd::rd_kafka_event_message_array(event.0, messages.as_mut_ptr(), count);
            for message in &messages[..count] {
                let token = (**message)._private as usize;
                // The broker's own words (`rd_kafka_message_produce_errstr`) are freed with its answer, before the event.
                let is_written = (**message).err as i32 == 0;
                each(token, if is_written { Ok((**message).offset) } else { Err(NativeError::of((**message).err)) });
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_name_with_a_nul_byte_is_whole() {
        let sent: [(&[u8], Option<&[u8]>); 4] =
            [(b"a\0b", Some(b"1")), (b"", None), (b"\xff\0", Some(b"")), (b"plain", Some(b"\0x"))];
        let mut found: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        // SAFETY: a new list, filled from slices that live during the calls, which copy them; destroyed once.
        unsafe {
            let headers = rd::rd_kafka_headers_new(sent.len());
            for (name, value) in sent {
                let (value, size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr().cast(), value.len()));
                rd::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len().cast_signed(), value, size.cast_signed());
            }
            each_header(headers, |name, value| found.push((name.to_vec(), value.map(<[u8]>::to_vec))));
            rd::rd_kafka_headers_destroy(headers);
        }
        let sent: Vec<_> = sent.into_iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        assert_eq!(found, sent);
    }
}
