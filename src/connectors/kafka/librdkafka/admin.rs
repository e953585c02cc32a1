//! Admin requests. Blocking: call off the async runtime.

use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::{EventQueue, NativeError, PartitionEntry, QueueEvent, entry, text};

pub(super) type Result<T> = std::result::Result<T, NativeError>;

/// The offset to list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OffsetQuery {
    Earliest,
    /// The last stable offset when read committed, else the log end.
    Latest,
    /// The first record at or after this time, in milliseconds since the Unix epoch; -1 if there is none.
    At(i64),
}

/// Returns a C array as a slice.
///
/// # Safety
/// `first` points to `count` elements that live during `'a`, or `count` is 0.
pub(super) unsafe fn slice<'a, T>(first: *mut *const T, count: usize) -> &'a [*const T] {
    // SAFETY: by the caller's word.
    if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// Calls `send` with the options of one admin request; its event will carry `number`.
///
/// # Safety
/// `client` is a live handle, and `send` starts the operation `op` with the options that it is given.
pub(super) unsafe fn request(
    client: *mut rd::rd_kafka_t,
    op: rd::rd_kafka_admin_op_t,
    timeout: Duration,
    read_committed: bool,
    number: usize,
    send: impl FnOnce(*const rd::rd_kafka_AdminOptions_t),
) {
    let mut error = [0 as c_char; 256];
    // SAFETY: a live handle; the options are made and destroyed here, and copied by the operation; the number is never followed.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(client, op);
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, error.as_mut_ptr(), error.len());
        rd::rd_kafka_AdminOptions_set_opaque(options, number as *mut c_void);
        if read_committed {
            let level = rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(options, level);
            if !refused.is_null() {
                rd::rd_kafka_error_destroy(refused);
            }
        }
        send(options);
        rd::rd_kafka_AdminOptions_destroy(options);
    }
}

/// Sends one admin request and reads its event.
///
/// # Safety
/// `send` starts the operation `op` on `client` with the options and the queue that it is given; `read` reads the event of
/// just that operation, copying what it returns.
pub(super) unsafe fn call<T>(
    client: *mut rd::rd_kafka_t,
    op: rd::rd_kafka_admin_op_t,
    timeout: Duration,
    read_committed: bool,
    send: impl FnOnce(*const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    read: impl FnOnce(*mut rd::rd_kafka_event_t) -> Result<T>,
) -> Result<T> {
    // SAFETY: a live handle, by the caller's word; the queue is made and destroyed here; the event is read before it goes.
    unsafe {
        let queue = EventQueue::new(client);
        request(client, op, timeout, read_committed, 0, |options| send(options, queue.0));
        let event = QueueEvent::wait(&queue, timeout + Duration::from_secs(1));
        let event = event.ok_or_else(NativeError::timed_out)?;
        event.error().map_or_else(|| read(event.0), Err)
    }
}

/// The id of a topic, `None` on brokers without ids, or why it is unknown.
pub(crate) type TopicId = Result<Option<String>>;

/// A request for topic ids whose answer is polled for. Must not outlive its client.
pub(crate) struct TopicIdRequest(EventQueue);

impl TopicIdRequest {
    /// Sends the request; returns at once.
    pub(crate) fn send<C: ClientContext>(client: &Client<C>, topics: &[&str], timeout: Duration) -> Result<Self> {
        let names = topics.iter().map(|name| CString::new(*name)).collect::<std::result::Result<Vec<_>, _>>();
        let names = names.map_err(|error| NativeError::invalid_name(&error))?;
        let mut names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let handle = client.native_ptr();
        let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        // SAFETY: a live handle; the names live during the call, which copies them; the collection is made and destroyed here.
        unsafe {
            let queue = EventQueue::new(handle);
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            request(handle, op, timeout, false, 0, |options| rd::rd_kafka_DescribeTopics(handle, topics, options, queue.0));
            rd::rd_kafka_TopicCollection_destroy(topics);
            Ok(Self(queue))
        }
    }

    /// Waits up to `timeout` for the names of the topics, and their ids if they have one.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Result<Vec<(String, TopicId)>>> {
        /// The id of topics on brokers without ids.
        const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAA";
        let event = QueueEvent::wait(&self.0, timeout)?;
        if let Some(error) = event.error() {
            return Some(Err(error));
        }
        // SAFETY: the event is of DescribeTopics, by the queue; what it refers to lives as long, and is copied.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeTopics_result(event.0);
            let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            let id = |topic: &*const rd::rd_kafka_TopicDescription_t| {
                let name = text(rd::rd_kafka_TopicDescription_name(*topic));
                let error = NativeError::copy(rd::rd_kafka_TopicDescription_error(*topic));
                if let Some(error) = error.filter(|error| error.code != RDKafkaErrorCode::NoError) {
                    return (name, Err(error));
                }
                let id = rd::rd_kafka_TopicDescription_topic_id(*topic);
                let id = (!id.is_null()).then(|| text(rd::rd_kafka_Uuid_base64str(id)).trim_end_matches('=').to_owned());
                (name, Ok(id.filter(|id| id != ZERO)))
            };
            Some(Ok(slice(topics, count).iter().map(id).collect()))
        }
    }
}

/// Returns names and ids of the topics that have one. A topic with an error fails the request: its id is unknown, not absent.
pub(crate) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<(String, String)>> {
    let request = TopicIdRequest::send(client, topics, timeout)?;
    let answers = request.poll(timeout + Duration::from_secs(1)).ok_or_else(NativeError::timed_out)??;
    let mut ids = Vec::with_capacity(answers.len());
    for (name, id) in answers {
        let id = id.map_err(|error| NativeError { text: format!("topic `{name}`: {error}"), ..error })?;
        ids.extend(id.map(|id| (name, id)));
    }
    Ok(ids)
}

/// Looks up one offset for each of many partitions, with few requests. A partition without an answer has an error.
pub(crate) fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    spec: OffsetQuery,
    read_committed: bool,
    timeout: Duration,
) -> Result<Vec<PartitionEntry>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let raw = match spec {
        OffsetQuery::Earliest => -2,
        OffsetQuery::Latest => -1,
        OffsetQuery::At(time) => time,
    };
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    // SAFETY: the list is ours and holds one element per partition; its offsets carry the question, as the call wants it.
    unsafe {
        if !partitions.is_empty() {
            for element in std::slice::from_raw_parts_mut((*list.ptr()).elems, partitions.len()) {
                element.offset = raw;
            }
        }
        call(
            handle,
            op,
            timeout,
            read_committed,
            |options, queue| rd::rd_kafka_ListOffsets(handle, list.ptr(), options, queue),
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_ListOffsets_result(event);
                let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
                let of = |info: &*const rd::rd_kafka_ListOffsetsResultInfo_t| {
                    let entry = entry(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
                    // librdkafka ignores the error of one leader, and leaves its partitions as they were.
                    let is_answered = entry.error.is_some() || entry.offset != i64::from(rd::RD_KAFKA_OFFSET_INVALID);
                    if is_answered { entry } else { PartitionEntry { error: Some(NativeError::no_answer()), ..entry } }
                };
                Ok(slice(infos, count).iter().map(of).collect())
            },
        )
    }
}
