//! Groups, their offsets, and the ends of partitions. Blocking: call off the async runtime.

use std::ffi::{CString, c_char};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

use super::{Entry, Event, NativeError, Queue, entries, entry, text};

type Result<T> = std::result::Result<T, NativeError>;

/// A group and who is in it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) state: String,
    pub(crate) members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) client_id: String,
    pub(crate) host: String,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OffsetSpec {
    Earliest,
    /// The last stable offset when read committed, else the log end.
    Latest,
    /// The first record at or after this time, in milliseconds since the Unix epoch; -1 when there is none.
    At(i64),
}

/// Returns a C array as a slice.
///
/// # Safety
/// `first` points to `count` elements that live during `'a`, or `count` is 0.
unsafe fn slice<'a, T>(first: *mut *const T, count: usize) -> &'a [*const T] {
    // SAFETY: by the caller's word.
    if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// Sends one admin request and reads its event.
///
/// # Safety
/// `send` starts the operation `op` on `client` with the options and the queue that it is given; `read` reads the event of
/// just that operation, copying what it returns.
unsafe fn call<T>(
    client: *mut rd::rd_kafka_t,
    op: rd::rd_kafka_admin_op_t,
    timeout: Duration,
    read_committed: bool,
    send: impl FnOnce(*const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    read: impl FnOnce(*mut rd::rd_kafka_event_t) -> Result<T>,
) -> Result<T> {
    let mut error = [0 as c_char; 256];
    // SAFETY: a live handle; options and queue are made and destroyed here; the event is read before it is destroyed.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(client, op);
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, error.as_mut_ptr(), error.len());
        if read_committed {
            let level = rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(options, level);
            if !refused.is_null() {
                rd::rd_kafka_error_destroy(refused);
            }
        }
        let queue = Queue::new(client);
        send(options, queue.0);
        let event = Event::wait(&queue, timeout + Duration::from_secs(1));
        rd::rd_kafka_AdminOptions_destroy(options);
        let event = event.ok_or_else(|| NativeError("no answer in time".to_owned()))?;
        match event.error() {
            Some((_, text)) => Err(NativeError(text)),
            None => read(event.0),
        }
    }
}

/// Returns state and members of a group.
pub(crate) fn describe_group<C: ClientContext>(client: &Client<C>, group: &str, timeout: Duration) -> Result<Group> {
    let name = CString::new(group).map_err(|error| NativeError(error.to_string()))?;
    let mut names = [name.as_ptr()];
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: the names live during the call; results are read from the event of this operation and copied.
    unsafe {
        call(
            handle,
            op,
            timeout,
            false,
            |options, queue| rd::rd_kafka_DescribeConsumerGroups(handle, names.as_mut_ptr(), names.len(), options, queue),
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
                let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
                let Some(&group) = slice(groups, count).first() else {
                    return Err(NativeError("the broker described no group".to_owned()));
                };
                let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
                if !error.is_null() {
                    return Err(NativeError(text(rd::rd_kafka_error_string(error))));
                }
                let state = rd::rd_kafka_consumer_group_state_name(rd::rd_kafka_ConsumerGroupDescription_state(group));
                let members = (0..rd::rd_kafka_ConsumerGroupDescription_member_count(group)).map(|index| {
                    let member = rd::rd_kafka_ConsumerGroupDescription_member(group, index);
                    Member {
                        client_id: text(rd::rd_kafka_MemberDescription_client_id(member)),
                        host: text(rd::rd_kafka_MemberDescription_host(member)),
                    }
                });
                Ok(Group { state: text(state), members: members.collect() })
            },
        )
    }
}

/// Returns every committed offset of `group`, with its metadata.
pub(crate) fn group_offsets<C: ClientContext>(client: &Client<C>, group: &str, timeout: Duration) -> Result<Vec<Entry>> {
    let name = CString::new(group).map_err(|error| NativeError(error.to_string()))?;
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    // SAFETY: the request is made and destroyed here (null: all partitions); results are copied before the event goes.
    unsafe {
        let mut request = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), std::ptr::null());
        let offsets = call(
            handle,
            op,
            timeout,
            false,
            |options, queue| rd::rd_kafka_ListConsumerGroupOffsets(handle, &raw mut request, 1, options, queue),
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
                let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
                let Some(&group) = slice(groups, count).first() else {
                    return Err(NativeError("the broker listed no group".to_owned()));
                };
                let error = rd::rd_kafka_group_result_error(group);
                if !error.is_null() {
                    return Err(NativeError(text(rd::rd_kafka_error_string(error))));
                }
                Ok(entries(rd::rd_kafka_group_result_partitions(group)))
            },
        );
        rd::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        offsets
    }
}

/// Looks up one offset for each of many partitions, with few requests.
pub(crate) fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    spec: OffsetSpec,
    read_committed: bool,
    timeout: Duration,
) -> Result<Vec<Entry>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let raw = match spec {
        OffsetSpec::Earliest => -2,
        OffsetSpec::Latest => -1,
        OffsetSpec::At(time) => time,
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
                    entry(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info))
                };
                Ok(slice(infos, count).iter().map(of).collect())
            },
        )
    }
}
