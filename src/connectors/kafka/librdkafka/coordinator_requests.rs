//! Admin requests to the coordinators of groups.
//!
//! librdkafka (2.12 to 2.16 at least, issue 4605) aborts the process if such a request times out while its coordinator cannot be
//! reached, and the coordinator answers later. So for librdkafka a request lasts for as long as it allows; who asks waits for a
//! shorter time, does not ask again what is still unanswered, and closes a client before that time is over ([`UnansweredRequests::is_overdue`]).

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;

use super::admin::{Result, request};
use super::{EventQueue, NativeError, QueueEvent};

/// The longest timeout of an admin request.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// What is asked of the coordinator of one group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CoordinatorRequest {
    kind: &'static str,
    group: CString,
    /// Topics and partitions; absent: all.
    partitions: Option<Vec<(String, i32)>>,
}

impl CoordinatorRequest {
    pub(super) fn new(kind: &'static str, group: &str) -> Result<Self> {
        let group = CString::new(group).map_err(|error| NativeError::invalid_name(&error))?;
        Ok(Self { kind, group, partitions: None })
    }

    pub(super) fn of(mut self, partitions: Option<&TopicPartitionList>) -> Self {
        let named =
            |list: &TopicPartitionList| list.elements().iter().map(|of| (of.topic().to_owned(), of.partition())).collect();
        self.partitions = partitions.map(named);
        self
    }
}

struct SentRequest {
    since: Instant,
    answers: EventQueue,
}

/// The requests of a client that no coordinator has answered yet. Must not outlive the client.
#[derive(Default)]
pub(crate) struct UnansweredRequests(Mutex<HashMap<CoordinatorRequest, SentRequest>>);

impl UnansweredRequests {
    /// Sends the requests, all in flight together, and waits up to `timeout` for their answers, in the order of `requests`.
    ///
    /// # Safety
    /// `client` is the live handle of this client; `send` starts the operation `op` for a group with the options and the queue that
    /// it is given; `read` reads the event of just that operation, copying what it returns.
    pub(super) unsafe fn ask<T>(
        &self,
        client: *mut rd::rd_kafka_t,
        op: rd::rd_kafka_admin_op_t,
        requests: Vec<CoordinatorRequest>,
        timeout: Duration,
        send: impl Fn(&CStr, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
        read: impl Fn(*mut rd::rd_kafka_event_t) -> Result<T>,
    ) -> Vec<Result<T>> {
        let deadline = Instant::now() + timeout;
        let ask = |asked: &CoordinatorRequest| {
            // An answer that nobody waited for is old.
            let is_open = |sent: &SentRequest| QueueEvent::wait(&sent.answers, Duration::ZERO).is_none();
            let pending = self.unanswered().remove(asked).filter(is_open);
            // SAFETY: a live handle that outlives the queue, by the caller's word, as for what is sent.
            pending.unwrap_or_else(|| unsafe {
                let answers = EventQueue::new(client);
                request(client, op, LONGEST_TIMEOUT, false, 0, |options| send(&asked.group, options, answers.0));
                SentRequest { since: Instant::now(), answers }
            })
        };
        let asked: Vec<SentRequest> = requests.iter().map(ask).collect();
        let answer = |(request, sent): (CoordinatorRequest, SentRequest)| {
            let event = QueueEvent::wait(&sent.answers, deadline.saturating_duration_since(Instant::now()));
            if event.is_none() {
                self.unanswered().insert(request, sent);
            }
            let event = event.ok_or_else(NativeError::timed_out)?;
            event.error().map_or_else(|| read(event.0), Err)
        };
        requests.into_iter().zip(asked).map(answer).collect()
    }

    /// As [`Self::ask`], of one group.
    ///
    /// # Safety
    /// As for [`Self::ask`].
    pub(super) unsafe fn ask_one<T>(
        &self,
        client: *mut rd::rd_kafka_t,
        op: rd::rd_kafka_admin_op_t,
        request: CoordinatorRequest,
        timeout: Duration,
        send: impl Fn(&CStr, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
        read: impl Fn(*mut rd::rd_kafka_event_t) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: by the caller's word.
        unsafe { self.ask(client, op, vec![request], timeout, send, read) }.remove(0)
    }

    /// Returns whether a request has been waiting for so long that the client should go before the request's time is over.
    pub(crate) fn is_overdue(&self) -> bool {
        self.unanswered().values().any(|sent| sent.since.elapsed() > LONGEST_TIMEOUT / 2)
    }

    fn unanswered(&self) -> MutexGuard<'_, HashMap<CoordinatorRequest, SentRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
