//! Records in and out without a copy or an allocation more than needed, and headers whatever their bytes.

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message as _;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::message::BorrowedMessage;

use super::{EventQueue, NativeError, QueueEvent};

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
pub(super) unsafe fn headers_of(message: *const rd::rd_kafka_message_t, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message is live; librdkafka keeps the headers for as long.
    let code = unsafe { rd::rd_kafka_message_headers(message, &raw mut headers) };
    if code as i32 != 0 {
        return;
    }
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
            (std::ffi::CStr::from_ptr(name).to_bytes(), value)
        };
        each(name, value);
    }
}

/// Returns what identifies the message's topic and partition within one consumer, cheaper than its name.
pub(crate) fn place(message: &BorrowedMessage<'_>) -> (usize, i32) {
    (message.topic_ptr() as usize, message.partition())
}

/// A topic of a producer, looked up once instead of for each record.
pub(crate) struct ProducerTopic<'c> {
    handle: *mut rd::rd_kafka_topic_t,
    client: PhantomData<&'c ()>,
}

impl<'c> ProducerTopic<'c> {
    /// Returns the topic called `name` of `client`.
    pub(crate) fn new<C: ClientContext>(client: &'c Client<C>, name: &str) -> Result<Self, NativeError> {
        let name = CString::new(name).map_err(|error| NativeError(error.to_string()))?;
        // SAFETY: a live handle and a NUL-terminated name; a null configuration means the default one.
        let handle = unsafe { rd::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            return Err(NativeError("the topic handle could not be made".to_owned()));
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

/// What is to be written.
pub(crate) struct Outgoing<'a> {
    /// None: librdkafka chooses by the key.
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(Bytes, Option<Bytes>)],
    /// Comes back with the delivery report.
    pub(crate) token: usize,
}

/// Why a record was not queued.
#[derive(Debug)]
pub(crate) enum NotQueued {
    /// The queue is full: serve delivery reports and try again.
    Full,
    /// It never will be.
    Refused(NativeError),
}

/// Queues one record for delivery; the bytes are copied.
pub(crate) fn produce<C: ClientContext>(
    client: &Client<C>,
    topic: &ProducerTopic<'_>,
    record: &Outgoing<'_>,
) -> Result<(), NotQueued> {
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
        let full = rd::rd_kafka_error_code(error) == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL;
        let text = super::text(rd::rd_kafka_error_string(error));
        rd::rd_kafka_error_destroy(error);
        if !headers.is_null() {
            rd::rd_kafka_headers_destroy(headers);
        }
        Err(if full { NotQueued::Full } else { NotQueued::Refused(NativeError(text)) })
    }
}

/// Serves delivery reports: waits up to `timeout` for the first, takes what is there, and calls `each` with a record's token and
/// the reason why it failed, if it did. Returns what the client says beyond reports.
pub(crate) fn reports(queue: &EventQueue, timeout: Duration, mut each: impl FnMut(usize, Option<&str>)) -> Vec<String> {
    let mut said = Vec::new();
    let mut timeout = timeout;
    let mut messages: Vec<*const rd::rd_kafka_message_t> = Vec::new();
    while let Some(event) = QueueEvent::wait(queue, timeout) {
        timeout = Duration::ZERO;
        if event.kind() != rd::RD_KAFKA_EVENT_DR {
            said.extend(event.error().map(|(_, text)| text));
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
                if (**message).err as i32 == 0 {
                    each(token, None);
                } else {
                    each(token, Some(&super::code_text((**message).err)));
                }
            }
        }
    }
    said
}
