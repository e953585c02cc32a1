//! Consumer groups: names, members, committed offsets. Blocking: call off the async runtime.

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::admin::{Result, call, slice};
use super::coordinator_requests::{CoordinatorRequest, UnansweredRequests};
use super::{NativeError, PartitionEntry, entries, text};

#[derive(Debug, Clone, Default)]
pub(crate) struct GroupDescription {
    pub(crate) name: String,
    /// `Stable`, `Empty`.
    pub(crate) state: String,
    /// `Classic` or `Consumer`.
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberDescription>,
    /// Why the group could not be described.
    pub(crate) error: Option<NativeError>,
}

#[derive(Debug, Clone)]
pub(crate) struct MemberDescription {
    pub(crate) id: String,
    /// Of a static member.
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    /// Topics and partitions.
    pub(crate) assignment: Vec<(String, i32)>,
}

/// The names of the groups of a cluster, and the errors of brokers that did not list theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupNames {
    pub(crate) names: Vec<String>,
    pub(crate) errors: Vec<NativeError>,
}

/// Returns the names of the consumer groups of both protocols.
pub(crate) fn names<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Result<GroupNames> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
    // SAFETY: results are read from the event of this operation and copied.
    unsafe {
        call(
            handle,
            op,
            timeout,
            false,
            |options, queue| rd::rd_kafka_ListConsumerGroups(handle, options, queue),
            |event| {
                let mut count = 0;
                let result = rd::rd_kafka_event_ListConsumerGroups_result(event);
                let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut count);
                let errors = slice(errors, count).iter().filter_map(|error| NativeError::copy(*error)).collect();
                let groups = rd::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
                let name = |group: &*const _| text(rd::rd_kafka_ConsumerGroupListing_group_id(*group));
                Ok(GroupNames { names: slice(groups, count).iter().map(name).collect(), errors })
            },
        )
    }
}

/// Returns state and members of each group, in the order of `groups`.
pub(crate) fn describe<C: ClientContext>(
    client: &Client<C>,
    unanswered: &UnansweredRequests,
    groups: &[String],
    timeout: Duration,
) -> Result<Vec<Result<GroupDescription>>> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let requests = groups.iter().map(|group| CoordinatorRequest::new("describe", group)).collect::<Result<Vec<_>>>()?;
    // SAFETY: the name lives during the call, which copies it; results are read from an event of this operation and copied.
    unsafe {
        let send = |name: &CStr, options, queue| {
            rd::rd_kafka_DescribeConsumerGroups(handle, [name.as_ptr()].as_mut_ptr(), 1, options, queue);
        };
        Ok(unanswered.ask(handle, op, requests, timeout, send, |event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
            let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            slice(groups, count).first().map(|group| described(*group)).ok_or_else(NativeError::timed_out)
        }))
    }
}

/// Copies the description of a group.
///
/// # Safety
/// `group` lives during the call.
unsafe fn described(group: *const rd::rd_kafka_ConsumerGroupDescription_t) -> GroupDescription {
    // SAFETY: by the caller's word; what the group refers to lives as long as it does.
    unsafe {
        let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
        let members = (0..rd::rd_kafka_ConsumerGroupDescription_member_count(group)).map(|index| {
            let member = rd::rd_kafka_ConsumerGroupDescription_member(group, index);
            let assignment = rd::rd_kafka_MemberDescription_assignment(member);
            let partitions =
                if assignment.is_null() { Vec::new() } else { entries(rd::rd_kafka_MemberAssignment_partitions(assignment)) };
            let instance_id = text(rd::rd_kafka_MemberDescription_group_instance_id(member));
            MemberDescription {
                id: text(rd::rd_kafka_MemberDescription_consumer_id(member)),
                instance_id: Some(instance_id).filter(|id| !id.is_empty()),
                client_id: text(rd::rd_kafka_MemberDescription_client_id(member)),
                host: text(rd::rd_kafka_MemberDescription_host(member)),
                assignment: partitions.into_iter().map(|entry| (entry.topic, entry.partition)).collect(),
            }
        });
        let state = rd::rd_kafka_ConsumerGroupDescription_state(group);
        let protocol = rd::rd_kafka_ConsumerGroupDescription_type(group);
        GroupDescription {
            name: text(rd::rd_kafka_ConsumerGroupDescription_group_id(group)),
            state: text(rd::rd_kafka_consumer_group_state_name(state)),
            protocol: text(rd::rd_kafka_consumer_group_type_name(protocol)),
            members: members.collect(),
            error: NativeError::copy(error),
        }
    }
}

/// Returns the committed offsets of each group, in the order of `groups`: of these partitions, or of all, and only of partitions
/// that have one.
pub(crate) fn offsets<C: ClientContext>(
    client: &Client<C>,
    unanswered: &UnansweredRequests,
    groups: &[String],
    partitions: Option<&TopicPartitionList>,
    timeout: Duration,
) -> Result<Vec<Result<Vec<PartitionEntry>>>> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let list = partitions.map_or(std::ptr::null(), |partitions| partitions.ptr().cast_const());
    let request = |group: &String| Ok(CoordinatorRequest::new("offsets", group)?.of(partitions));
    let requests = groups.iter().map(request).collect::<Result<Vec<_>>>()?;
    // SAFETY: the handle lives; each request is made and destroyed here, and copied by the call; the events are those of this
    // operation.
    unsafe {
        let send = |name: &CStr, options, queue| {
            let mut one = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list);
            rd::rd_kafka_ListConsumerGroupOffsets(handle, &raw mut one, 1, options, queue);
            rd::rd_kafka_ListConsumerGroupOffsets_destroy(one);
        };
        Ok(unanswered.ask(handle, op, requests, timeout, send, |event| committed(event)))
    }
}

/// Copies the committed offsets of one group. A partition with an error fails the group: its offset is unknown, not absent.
///
/// # Safety
/// The event is one of ListConsumerGroupOffsets.
unsafe fn committed(event: *mut rd::rd_kafka_event_t) -> Result<Vec<PartitionEntry>> {
    let mut count = 0;
    // SAFETY: by the caller's word; the result lives as long as the event.
    unsafe {
        let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        let Some(&group) = slice(groups, count).first() else {
            return Err(NativeError { code: RDKafkaErrorCode::UnknownGroup, text: "the broker listed no group".to_owned() });
        };
        if let Some(error) = NativeError::copy(rd::rd_kafka_group_result_error(group)) {
            return Err(error);
        }
        let entries = entries(rd::rd_kafka_group_result_partitions(group));
        match entries.iter().find_map(|entry| Some((entry, entry.error.as_ref()?))) {
            Some((entry, error)) => {
                Err(NativeError { text: format!("{}/{}: {error}", entry.topic, entry.partition), code: error.code })
            }
            None => Ok(entries.into_iter().filter(|entry| entry.offset >= 0).collect()),
        }
    }
}

/// Deletes a group without members, with its offsets.
pub(crate) fn delete<C: ClientContext>(
    client: &Client<C>,
    unanswered: &UnansweredRequests,
    group: &str,
    timeout: Duration,
) -> Result<()> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS;
    let request = CoordinatorRequest::new("delete", group)?;
    // SAFETY: a live handle; the request copies the name, is copied by the operation and destroyed here; the event is of this
    // operation.
    unsafe {
        let send = |name: &CStr, options, queue| {
            let mut one = rd::rd_kafka_DeleteGroup_new(name.as_ptr());
            rd::rd_kafka_DeleteGroups(handle, &raw mut one, 1, options, queue);
            rd::rd_kafka_DeleteGroup_destroy(one);
        };
        unanswered.ask_one(handle, op, request, timeout, send, |event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DeleteGroups_result(event);
            let groups = rd::rd_kafka_DeleteGroups_result_groups(result, &raw mut count);
            let error = |group: &*const _| NativeError::copy(rd::rd_kafka_group_result_error(*group));
            slice(groups, count).iter().find_map(error).map_or(Ok(()), Err)
        })
    }
}

/// Deletes the committed offsets of a group in these partitions. Returns an entry for each, with its error if it was refused.
pub(crate) fn delete_offsets<C: ClientContext>(
    client: &Client<C>,
    unanswered: &UnansweredRequests,
    group: &str,
    partitions: &TopicPartitionList,
    timeout: Duration,
) -> Result<Vec<PartitionEntry>> {
    let handle = client.native_ptr();
    let op = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
    let request = CoordinatorRequest::new("delete offsets", group)?.of(Some(partitions));
    // SAFETY: as above; the request copies the list too.
    unsafe {
        let send = |name: &CStr, options, queue| {
            let mut one = rd::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), partitions.ptr().cast_const());
            rd::rd_kafka_DeleteConsumerGroupOffsets(handle, &raw mut one, 1, options, queue);
            rd::rd_kafka_DeleteConsumerGroupOffsets_destroy(one);
        };
        unanswered.ask_one(handle, op, request, timeout, send, |event| {
            let mut count = 0;
            let result = rd::rd_kafka_event_DeleteConsumerGroupOffsets_result(event);
            let groups = rd::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count);
            let Some(&group) = slice(groups, count).first() else { return Err(NativeError::timed_out()) };
            let error = NativeError::copy(rd::rd_kafka_group_result_error(group));
            error.map_or_else(|| Ok(entries(rd::rd_kafka_group_result_partitions(group))), Err)
        })
    }
}
