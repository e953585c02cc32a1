//! The operations that a cluster allows the user on a resource. Blocking: call off the async runtime.

use std::ffi::{CStr, CString, c_int};
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::NativeError;
use super::admin::{Result, call, slice};
use super::coordinator_requests::{CoordinatorRequest, UnansweredRequests};

/// An operation, by its number in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    DescribeConfigs = 10,
}

/// The operations that the user may do on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedOperations(Vec<c_int>);

impl AllowedOperations {
    #[cfg(test)]
    pub(crate) fn of(operations: &[Operation]) -> Self {
        Self(operations.iter().map(|operation| *operation as c_int).collect())
    }

    pub(crate) fn allow(&self, operation: Operation) -> bool {
        self.0.contains(&(operation as c_int))
    }

    /// Copies an array of operations; `None` if it is empty: the broker did not say.
    ///
    /// # Safety
    /// `first` points to `count` operations that live during the call, or `count` is 0.
    unsafe fn copy(first: *const rd::rd_kafka_AclOperation_t, count: usize) -> Option<Self> {
        if first.is_null() || count == 0 {
            return None;
        }
        // SAFETY: by the caller's word; a C enum is an integer, which may have values that Rust's does not know.
        let operations = unsafe { std::slice::from_raw_parts(first.cast::<c_int>(), count) };
        Some(Self(operations.to_vec()))
    }
}

/// Asks for the operations too.
///
/// # Safety
/// `options` are those of an admin request that is being made.
unsafe fn include_operations(options: *const rd::rd_kafka_AdminOptions_t) {
    // SAFETY: by the caller's word; the options are `request`'s own until the operation starts.
    unsafe {
        let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options.cast_mut(), 1);
        if !refused.is_null() {
            rd::rd_kafka_error_destroy(refused);
        }
    }
}

/// Returns what the user may do with a topic; `None` if the broker does not say.
pub(crate) fn on_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<AllowedOperations>> {
    let name = CString::new(topic).map_err(|error| NativeError::invalid_name(&error))?;
    let mut names = [name.as_ptr()];
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: a live handle; the name lives during the call, which copies it; the collection is made and destroyed here; what the event
    // of this operation refers to lives as long as it does, and is copied.
    unsafe {
        let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let answer = call(
            handle,
            op,
            timeout,
            false,
            |options, queue| {
                include_operations(options);
                rd::rd_kafka_DescribeTopics(handle, topics, options, queue);
            },
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_DescribeTopics_result(event);
                let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                let Some(&topic) = slice(topics, count).first() else { return Err(NativeError::no_answer()) };
                let error = NativeError::copy(rd::rd_kafka_TopicDescription_error(topic));
                if let Some(error) = error.filter(|error| error.code != RDKafkaErrorCode::NoError) {
                    return Err(error);
                }
                let first = rd::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
                Ok(AllowedOperations::copy(first, count))
            },
        );
        rd::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}

/// Returns what the user may do with a group; `None` if the broker does not say.
pub(crate) fn on_group<C: ClientContext>(
    client: &Client<C>,
    unanswered: &UnansweredRequests,
    group: &str,
    timeout: Duration,
) -> Result<Option<AllowedOperations>> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let request = CoordinatorRequest::new("rights", group)?;
    // SAFETY: as above.
    unsafe {
        let send = |name: &CStr, options, queue| {
            include_operations(options);
            rd::rd_kafka_DescribeConsumerGroups(handle, [name.as_ptr()].as_mut_ptr(), 1, options, queue);
        };
        unanswered.ask_one(handle, op, request, timeout, send, |event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
            let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            let Some(&group) = slice(groups, count).first() else { return Err(NativeError::no_answer()) };
            let error = NativeError::copy(rd::rd_kafka_ConsumerGroupDescription_error(group));
            if let Some(error) = error.filter(|error| error.code != RDKafkaErrorCode::NoError) {
                return Err(error);
            }
            let first = rd::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
            Ok(AllowedOperations::copy(first, count))
        })
    }
}
