//! Admin requests. Blocking: call off the async runtime.

use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::record::Partition;

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
    /// The record with the latest timestamp; -1 if there is none. Brokers before 3.0 do not find it.
    LatestTimestamp,
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

/// A topic as the brokers know it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicDescription {
    /// Absent on brokers without ids.
    pub(crate) id: Option<String>,
    pub(crate) partitions: usize,
}

impl TopicDescription {
    pub(crate) fn has(&self, partition: Partition) -> bool {
        usize::try_from(partition.index).is_ok_and(|index| index < self.partitions)
    }
}

/// The name of a topic, and its description or why that is unknown.
type DescribedTopic = (String, Result<TopicDescription>);

/// A request for the descriptions of topics whose answer is polled for. Must not outlive its client.
pub(crate) struct DescribeTopicsRequest(EventQueue);

impl DescribeTopicsRequest {
    /// Sends the request; returns at once.
    pub(crate) fn send<C: ClientContext>(client: &Client<C>, topics: &[&str], timeout: Duration) -> Result<Self> {
        Self::send_to(client, None, topics, timeout)
    }

    /// As [`Self::send`], to this broker rather than to the controller of the metadata.
    pub(crate) fn send_to<C: ClientContext>(
        client: &Client<C>,
        broker: Option<i32>,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Self> {
        let names = topics.iter().map(|name| CString::new(*name)).collect::<std::result::Result<Vec<_>, _>>();
        let names = names.map_err(|error| NativeError::invalid_name(&error))?;
        let mut names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let handle = client.native_ptr();
        let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        // SAFETY: a live handle; the names live during the call, which copies them; the collection is made and destroyed here; the
        // options are still `request`'s own.
        unsafe {
            let queue = EventQueue::new(handle);
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            request(handle, op, timeout, false, 0, |options| {
                if let Some(broker) = broker {
                    let mut error = [0 as c_char; 256];
                    rd::rd_kafka_AdminOptions_set_broker(options.cast_mut(), broker, error.as_mut_ptr(), error.len());
                }
                rd::rd_kafka_DescribeTopics(handle, topics, options, queue.0);
            });
            rd::rd_kafka_TopicCollection_destroy(topics);
            Ok(Self(queue))
        }
    }

    /// Waits up to `timeout` for the topics.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Result<Vec<DescribedTopic>>> {
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
            let description = |topic: &*const rd::rd_kafka_TopicDescription_t| {
                let name = text(rd::rd_kafka_TopicDescription_name(*topic));
                let error = NativeError::copy(rd::rd_kafka_TopicDescription_error(*topic));
                if let Some(error) = error.filter(|error| error.code != RDKafkaErrorCode::NoError) {
                    return (name, Err(error));
                }
                let id = rd::rd_kafka_TopicDescription_topic_id(*topic);
                let id = (!id.is_null()).then(|| text(rd::rd_kafka_Uuid_base64str(id)).trim_end_matches('=').to_owned());
                let mut partitions = 0;
                rd::rd_kafka_TopicDescription_partitions(*topic, &raw mut partitions);
                (name, Ok(TopicDescription { id: id.filter(|id| id != ZERO), partitions }))
            };
            Some(Ok(slice(topics, count).iter().map(description).collect()))
        }
    }
}

pub(crate) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<DescribedTopic>> {
    let request = DescribeTopicsRequest::send(client, topics, timeout)?;
    let answers = request.poll(timeout + Duration::from_secs(1)).ok_or_else(NativeError::timed_out)??;
    let described = |(name, answer): DescribedTopic| {
        let answer = answer.map_err(|error| NativeError { text: format!("topic `{name}`: {error}"), ..error });
        (name, answer)
    };
    Ok(answers.into_iter().map(described).collect())
}

/// A request for one offset of each of many partitions whose answer is polled for. Must not outlive its client.
pub(crate) struct ListOffsetsRequest {
    queue: EventQueue,
    partitions: Vec<(String, i32)>,
}

impl ListOffsetsRequest {
    /// Sends the request; returns at once.
    pub(crate) fn send<C: ClientContext>(
        client: &Client<C>,
        partitions: &[(&str, i32)],
        spec: OffsetQuery,
        read_committed: bool,
        timeout: Duration,
    ) -> Self {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        let raw = match spec {
            OffsetQuery::Earliest => -2,
            OffsetQuery::Latest => -1,
            OffsetQuery::At(time) => time,
            OffsetQuery::LatestTimestamp => -3,
        };
        let handle = client.native_ptr();
        let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        // SAFETY: the list is ours and holds one element per partition; its offsets carry the question, as the call wants it, which
        // copies the list; a live handle.
        unsafe {
            if !partitions.is_empty() {
                for element in std::slice::from_raw_parts_mut((*list.ptr()).elems, partitions.len()) {
                    element.offset = raw;
                }
            }
            let queue = EventQueue::new(handle);
            request(handle, op, timeout, read_committed, 0, |options| {
                rd::rd_kafka_ListOffsets(handle, list.ptr(), options, queue.0);
            });
            let partitions = partitions.iter().map(|(topic, partition)| ((*topic).to_owned(), *partition)).collect();
            Self { queue, partitions }
        }
    }

    /// Waits up to `timeout` for the offsets. A partition without an answer has an error.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Result<Vec<PartitionEntry>>> {
        let answer = self.poll_with_times(timeout)?;
        Some(answer.map(|answers| answers.into_iter().map(|(entry, _)| entry).collect()))
    }

    /// As [`Self::poll`], with the timestamp of the record that was found, in milliseconds since the Unix epoch; -1 if there is none.
    fn poll_with_times(&self, timeout: Duration) -> Option<Result<Vec<(PartitionEntry, i64)>>> {
        let event = QueueEvent::wait(&self.queue, timeout)?;
        if let Some(error) = event.error() {
            let has_no_leaders = error.code == RDKafkaErrorCode::NoEnt;
            let unanswered = || self.unanswered().into_iter().map(|entry| (entry, -1)).collect();
            return Some(if has_no_leaders { Ok(unanswered()) } else { Err(error) });
        }
        // SAFETY: the event is of ListOffsets, by the queue; what it refers to lives as long, and is copied.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_ListOffsets_result(event.0);
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let of = |info: &*const rd::rd_kafka_ListOffsetsResultInfo_t| {
                let entry = entry(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info));
                // librdkafka ignores the error of one leader, and leaves its partitions as they were.
                let is_answered = entry.error.is_some() || entry.offset != i64::from(rd::RD_KAFKA_OFFSET_INVALID);
                let entry = if is_answered { entry } else { PartitionEntry { error: Some(NativeError::no_answer()), ..entry } };
                (entry, rd::rd_kafka_ListOffsetsResultInfo_timestamp(*info))
            };
            Some(Ok(slice(infos, count).iter().map(of).collect()))
        }
    }

    fn unanswered(&self) -> Vec<PartitionEntry> {
        let entry = |(topic, partition): &(String, i32)| PartitionEntry {
            topic: topic.clone(),
            partition: *partition,
            offset: i64::from(rd::RD_KAFKA_OFFSET_INVALID),
            metadata: Vec::new(),
            leader_epoch: None,
            error: Some(NativeError::no_answer()),
        };
        self.partitions.iter().map(entry).collect()
    }
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigEntry {
    pub(crate) name: String,
    /// Absent if the broker keeps it secret.
    pub(crate) value: Option<String>,
    /// Whether it is set on this topic rather than inherited.
    pub(crate) is_dynamic_topic: bool,
}

/// Returns the settings of each topic, or why the broker withholds them, in any order.
pub(crate) fn topic_configs<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<(String, Result<Vec<ConfigEntry>>)>> {
    let names = topics.iter().map(|name| CString::new(*name)).collect::<std::result::Result<Vec<_>, _>>();
    let names = names.map_err(|error| NativeError::invalid_name(&error))?;
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
    // SAFETY: a live handle; the resources copy their names, are copied by the operation and destroyed here; what the event of this
    // operation refers to lives as long as it does, and is copied.
    unsafe {
        let mut resources: Vec<_> = names.iter().map(|name| rd::rd_kafka_ConfigResource_new(kind, name.as_ptr())).collect();
        let answer = call(
            handle,
            op,
            timeout,
            false,
            |options, queue| rd::rd_kafka_DescribeConfigs(handle, resources.as_mut_ptr(), resources.len(), options, queue),
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeConfigs_result(event);
                let answers = rd::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
                let entry = |entry: &*const rd::rd_kafka_ConfigEntry_t| {
                    let value = rd::rd_kafka_ConfigEntry_value(*entry);
                    let source = rd::rd_kafka_ConfigEntry_source(*entry);
                    ConfigEntry {
                        name: text(rd::rd_kafka_ConfigEntry_name(*entry)),
                        value: (!value.is_null()).then(|| text(value)),
                        is_dynamic_topic: source == rd::rd_kafka_ConfigSource_t::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG,
                    }
                };
                let answer = |resource: &*const rd::rd_kafka_ConfigResource_t| {
                    let name = text(rd::rd_kafka_ConfigResource_name(*resource));
                    let code = rd::rd_kafka_ConfigResource_error(*resource);
                    if code as i32 != 0 {
                        let why = text(rd::rd_kafka_ConfigResource_error_string(*resource));
                        return (name, Err(NativeError::new(code, &why)));
                    }
                    let mut count = 0;
                    let entries = rd::rd_kafka_ConfigResource_configs(*resource, &raw mut count);
                    (name, Ok(slice(entries, count).iter().map(entry).collect()))
                };
                Ok(slice(answers, count).iter().map(answer).collect())
            },
        );
        rd::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        answer
    }
}

/// Looks up one offset for each of many partitions, with few requests. A partition without an answer has an error.
pub(crate) fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    spec: OffsetQuery,
    read_committed: bool,
    timeout: Duration,
) -> Result<Vec<PartitionEntry>> {
    let request = ListOffsetsRequest::send(client, partitions, spec, read_committed, timeout);
    request.poll(timeout + Duration::from_secs(1)).unwrap_or_else(|| Err(NativeError::timed_out()))
}

/// Returns the latest timestamp of each of many partitions, in milliseconds since the Unix epoch, with few requests: -1 for a
/// partition without records. A partition without an answer has an error.
pub(crate) fn latest_timestamps<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    timeout: Duration,
) -> Result<Vec<(PartitionEntry, i64)>> {
    let request = ListOffsetsRequest::send(client, partitions, OffsetQuery::LatestTimestamp, false, timeout);
    request.poll_with_times(timeout + Duration::from_secs(1)).unwrap_or_else(|| Err(NativeError::timed_out()))
}
