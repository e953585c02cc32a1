//! The calls of librdkafka that rdkafka 0.39 does not wrap, over `rdkafka::bindings`: the only room with unsafe code.
//!
//! Every function takes and returns safe types, owns what it creates, and blocks at most for its timeout.

#![allow(unsafe_code)]

pub(crate) mod admin;
pub(crate) mod bootstrap;
pub(crate) mod certificate;
pub(crate) mod commits;
pub(crate) mod consume_queue;
mod coordinator_requests;
pub(crate) mod groups;
pub(crate) mod messages;
pub(crate) mod mock;
pub(crate) mod rights;
pub(crate) mod token;

pub(crate) use coordinator_requests::UnansweredRequests;

use std::ffi::{CStr, c_char};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Ends the process at once, without the clean-up that runs at an ordinary exit: threads of librdkafka may still be at work, and
/// OpenSSL's exit handler would take away what they use. Flush what was written before.
pub fn end_process(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: POSIX's _exit takes any number and touches no memory of the program.
    unsafe { _exit(code.into()) }
}

/// An error of librdkafka or of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct NativeError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
}

impl NativeError {
    fn new(code: rd::rd_kafka_resp_err_t, text: &str) -> Self {
        let code = code.into();
        let text = match own_text(code) {
            Some(own) if text.starts_with("Local: ") || code as i32 > 0 => own.to_owned(),
            _ => plain_addresses(text),
        };
        Self { code, text }
    }

    /// Returns the error of a code, with librdkafka's text for it.
    fn of(code: rd::rd_kafka_resp_err_t) -> Self {
        // SAFETY: librdkafka returns a static string for every code.
        Self::new(code, &unsafe { text(rd::rd_kafka_err2str(code)) })
    }

    /// Returns the error of a call without an answer within its timeout.
    pub(crate) fn timed_out() -> Self {
        Self { code: RDKafkaErrorCode::OperationTimedOut, text: "no answer in time".to_owned() }
    }

    /// Returns the error of a request to the group's coordinator without an answer within its timeout.
    pub(crate) fn coordinator_timed_out() -> Self {
        Self { code: RDKafkaErrorCode::OperationTimedOut, text: NO_COORDINATOR.to_owned() }
    }

    /// Returns the error of a partition that an answer lacks; the same request may succeed in a moment.
    pub(crate) fn no_answer() -> Self {
        Self { code: RDKafkaErrorCode::LeaderNotAvailable, text: LEADER_SILENT.to_owned() }
    }

    /// Returns whether it is [`Self::no_answer`], perhaps with more text behind it.
    pub(crate) fn is_no_answer(&self) -> bool {
        self.code == RDKafkaErrorCode::LeaderNotAvailable && self.text.starts_with(LEADER_SILENT)
    }

    /// Returns the error of a request that embedded brokers do not implement.
    pub(crate) fn not_embedded(text: &str) -> Self {
        Self { code: RDKafkaErrorCode::NotImplemented, text: text.to_owned() }
    }

    fn invalid_name(error: &std::ffi::NulError) -> Self {
        Self { code: RDKafkaErrorCode::InvalidArgument, text: error.to_string() }
    }

    /// Copies an error object.
    ///
    /// # Safety
    /// `error` is null or lives during the call.
    unsafe fn copy(error: *const rd::rd_kafka_error_t) -> Option<Self> {
        // SAFETY: by the caller's word; the string belongs to the error.
        (!error.is_null()).then(|| unsafe { Self::new(rd::rd_kafka_error_code(error), &text(rd::rd_kafka_error_string(error))) })
    }

    /// Returns the error as part of a sentence: a broker's without librdkafka's account of the request.
    pub(crate) fn summary(&self) -> String {
        let broker = self.code as i32 > 0;
        // librdkafka prefixes a broker's error with what it was doing.
        let text = self.text.rsplit("Broker: ").next().filter(|_| broker).unwrap_or(&self.text);
        text.trim_start_matches("Local: ").to_lowercase()
    }

    /// Returns whether the same request may succeed in a moment: a coordinator or leader moves, loads its log, or has left the metadata.
    pub(crate) fn is_passing(&self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(
            self.code,
            Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::WaitingForCoordinator
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::DestroyBroker
        )
    }

    /// Returns whether the user lacks a right.
    pub(crate) fn is_denied(&self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(self.code, Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed)
    }

    /// Returns whether the client's metadata lacks the partition: it may be older than the partition.
    pub(crate) fn is_unknown_partition(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic)
    }

    /// Returns whether no broker could answer, or not yet.
    pub(crate) fn is_outage(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let is_outage = matches!(
            self.code,
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::RequestTimedOut
                | Code::NetworkException
                | Code::BrokerNotAvailable
                | Code::NotController
        );
        is_outage || self.is_passing()
    }

    /// Returns whether no broker has answered: none can be reached, or those that can are silent.
    pub(crate) fn is_unanswered(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let is_local = matches!(
            self.code,
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::DestroyBroker
        );
        is_local || self.code == Code::WaitingForCoordinator
    }

    /// Returns whether every further commit of this member is refused too: missing rights, or a member that the group expelled.
    pub(crate) fn is_final(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let is_expelled =
            matches!(self.code, Code::UnknownMemberId | Code::IllegalGeneration | Code::FencedInstanceId | Code::Fenced);
        is_expelled || self.is_denied()
    }

    /// Returns whether a leader epoch in the request is not the one that the broker has.
    pub(crate) fn is_of_leader_epoch(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::FencedLeaderEpoch | RDKafkaErrorCode::UnknownLeaderEpoch)
    }

    /// Returns whether the group is rebalancing, or has been since the member last joined.
    pub(crate) fn is_of_rebalance(&self) -> bool {
        matches!(self.code, RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
    }
}

const LEADER_SILENT: &str = "the leader of the partition does not answer";
const NO_COORDINATOR: &str = "the group's coordinator does not answer";

/// Returns the text of an error that librdkafka reports without an answer of a broker: its own names what it was doing. Of an answer,
/// only that of a coordinator which was just started needs other words.
fn own_text(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::OperationTimedOut | Code::TimedOutQueue => Some("no answer in time"),
        Code::WaitingForCoordinator => Some(NO_COORDINATOR),
        Code::BrokerTransportFailure => Some("the connection to the broker failed"),
        // librdkafka closes the connection, whatever is on its way.
        Code::DestroyBroker => Some("the broker is no longer in the cluster's metadata"),
        Code::AllBrokersDown => Some("no broker can be reached"),
        Code::Resolve => Some("the name of the broker cannot be resolved"),
        Code::CoordinatorLoadInProgress => Some("the coordinator is still loading its groups"),
        _ => None,
    }
}

/// Returns a text of librdkafka with addresses as people write them: `[::1]:9092` for `ipv6#[::1]:9092`.
pub(crate) fn plain_addresses(text: &str) -> String {
    text.replace("ipv4#", "").replace("ipv6#", "")
}

impl From<RDKafkaErrorCode> for NativeError {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self { code, text: own_text(code).map_or_else(|| code.to_string(), str::to_owned) }
    }
}

impl From<KafkaError> for NativeError {
    fn from(error: KafkaError) -> Self {
        let code = match &error {
            // rdkafka does not return this one.
            KafkaError::AdminOp(code) => *code,
            error => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
        };
        Self { code, text: own_text(code).map_or_else(|| error.to_string(), str::to_owned) }
    }
}

/// Returns a copy of a C string; empty for null.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives during the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated by the caller's word.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// An element of a topic partition list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionEntry {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) metadata: Vec<u8>,
    /// Absent on brokers without leader epochs, and in commits without one.
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) error: Option<NativeError>,
}

/// Copies a list of topic partitions.
///
/// # Safety
/// `list` is null or points to a list that lives during the call.
unsafe fn entries(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<PartitionEntry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list lives, and holds `cnt` elements; none when its pointer may be null.
    let elements = unsafe {
        match usize::try_from((*list).cnt) {
            Ok(count) if count > 0 => std::slice::from_raw_parts((*list).elems, count),
            _ => &[],
        }
    };
    elements.iter().map(|element| unsafe { entry(element) }).collect()
}

/// Copies one topic partition.
///
/// # Safety
/// The element's pointers are valid, as in every list that librdkafka hands out.
unsafe fn entry(element: &rd::rd_kafka_topic_partition_t) -> PartitionEntry {
    let metadata = if element.metadata.is_null() {
        Vec::new()
    } else {
        // SAFETY: librdkafka keeps `metadata_size` bytes there.
        unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) }.to_vec()
    };
    PartitionEntry {
        // SAFETY: a NUL-terminated string of the list.
        topic: unsafe { text(element.topic) },
        partition: element.partition,
        offset: element.offset,
        metadata,
        // SAFETY: a live element.
        leader_epoch: known_epoch(unsafe { rd::rd_kafka_topic_partition_get_leader_epoch(element) }),
        error: (element.err as i32 != 0).then(|| NativeError::of(element.err)),
    }
}

/// Returns the leader epoch behind a number of librdkafka; it has -1 where none is known.
fn known_epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

/// Returns the leader epoch of each element of a list.
pub(crate) fn leader_epochs(list: &TopicPartitionList) -> Vec<Option<i32>> {
    // SAFETY: the list is borrowed, so it lives.
    unsafe { entries(list.ptr()) }.into_iter().map(|entry| entry.leader_epoch).collect()
}

/// Sets the leader epochs of the first elements of a list, where they are known: of an offset to read from, that of the log in which the
/// offset was found; of an offset to commit, that of the last record before it.
pub(crate) fn set_leader_epochs(list: &mut TopicPartitionList, epochs: &[Option<i32>]) {
    for (at, epoch) in epochs.iter().enumerate().take(list.count()) {
        if let Some(epoch) = *epoch {
            // SAFETY: the list is borrowed exclusively and has more than `at` elements.
            unsafe { rd::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems.add(at), epoch) }
        }
    }
}

/// A queue of librdkafka, destroyed when dropped. Must not outlive its client.
pub(crate) struct EventQueue(*mut rd::rd_kafka_queue_t);

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// Returns a new queue of the client.
    ///
    /// # Safety
    /// `client` is a live handle and outlives the queue.
    unsafe fn new(client: *mut rd::rd_kafka_t) -> Self {
        // SAFETY: by the caller's word.
        Self(unsafe { rd::rd_kafka_queue_new(client) })
    }

    /// Returns the queue that a producer's delivery reports arrive in.
    pub(crate) fn of_producer<C: rdkafka::ClientContext>(client: &rdkafka::client::Client<C>) -> Self {
        // SAFETY: as above.
        Self(unsafe { rd::rd_kafka_queue_get_main(client.native_ptr()) })
    }

    /// Makes a poll that is waiting on this queue return at once.
    pub(crate) fn wake(&self) {
        if !self.0.is_null() {
            // SAFETY: the queue is owned and not null.
            unsafe { rd::rd_kafka_queue_yield(self.0) }
        }
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: owned, destroyed once.
            unsafe { rd::rd_kafka_queue_destroy(self.0) }
        }
    }
}

/// An event, destroyed when dropped.
struct QueueEvent(*mut rd::rd_kafka_event_t);

impl QueueEvent {
    /// Waits for the next event of a queue.
    fn wait(queue: &EventQueue, timeout: std::time::Duration) -> Option<Self> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is owned by the caller.
        let event = unsafe { rd::rd_kafka_queue_poll(queue.0, timeout) };
        (!event.is_null()).then_some(Self(event))
    }

    fn kind(&self) -> i32 {
        // SAFETY: a live event.
        unsafe { rd::rd_kafka_event_type(self.0) }
    }

    fn error(&self) -> Option<NativeError> {
        // SAFETY: a live event.
        let code = unsafe { rd::rd_kafka_event_error(self.0) };
        // SAFETY: a live event; the string belongs to it.
        (code as i32 != 0).then(|| NativeError::new(code, &unsafe { text(rd::rd_kafka_event_error_string(self.0)) }))
    }
}

impl Drop for QueueEvent {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        for (text, plain) in [
            ("Connect to ipv4#127.0.0.1:9092 failed: Connection refused", "Connect to 127.0.0.1:9092 failed: Connection refused"),
            ("Connecting to ipv6#[::1]:9092 (plaintext)", "Connecting to [::1]:9092 (plaintext)"),
            ("Failed to resolve 'kafka:29092'", "Failed to resolve 'kafka:29092'"),
        ] {
            assert_eq!(plain_addresses(text), plain);
            let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TRANSPORT;
            assert_eq!(NativeError::new(code, text).text, plain);
        }
    }

    #[test]
    fn a_coordinator_that_was_just_started_is_named_in_words() {
        let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
        let error = NativeError::new(code, "DescribeConsumerGroups: Broker: Coordinator load in progress");
        assert_eq!(error.summary(), "the coordinator is still loading its groups");
        assert!(error.is_passing());
    }

    #[test]
    fn a_request_to_a_broker_that_leaves_the_metadata_is_unanswered_and_sent_again() {
        let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__DESTROY_BROKER;
        let text = "Failed while waiting for response from broker: Local: Broker handle destroyed without termination";
        for error in [NativeError::new(code, text), NativeError::of(code), RDKafkaErrorCode::DestroyBroker.into()] {
            assert!(error.is_passing() && error.is_outage() && error.is_unanswered(), "{error:?}");
        }
        assert_eq!(NativeError::of(code).to_string(), "the broker is no longer in the cluster's metadata");
    }
}
