//! The requests of a connection that wait for their responses. A broker answers in the order of the requests.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::connectors::kafka::wire::error::WireError;

/// The longest time that a broker can make a client wait before the next request.
const LONGEST_THROTTLE: Duration = Duration::from_secs(300);

/// A request without its response.
pub(super) struct UnansweredRequest {
    pub(super) correlation_id: i32,
    pub(super) timeout: Duration,
    pub(super) reply: oneshot::Sender<Result<Bytes, WireError>>,
}

/// What the tasks of a connection share.
#[derive(Default)]
pub(super) struct InFlightRequests {
    state: Mutex<ConnectionState>,
    /// The oldest deadline may have changed.
    changed: Notify,
    /// The connection has failed.
    failed: Notify,
}

#[derive(Default)]
struct ConnectionState {
    waiting: VecDeque<(UnansweredRequest, Instant)>,
    muted_until: Option<Instant>,
    failure: Option<WireError>,
}

impl InFlightRequests {
    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request, just before it is written.
    pub(super) fn push(&self, request: UnansweredRequest) -> Result<(), WireError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            let failure = failure.clone();
            let _ = request.reply.send(Err(failure.clone()));
            return Err(failure);
        }
        let deadline = Instant::now() + request.timeout;
        state.waiting.push_back((request, deadline));
        self.changed.notify_one();
        Ok(())
    }

    /// Gives the oldest request as much time again: its response has begun.
    pub(super) fn extend_oldest(&self) {
        if let Some((request, deadline)) = self.state().waiting.front_mut() {
            *deadline = Instant::now() + request.timeout;
        }
        self.changed.notify_one();
    }

    /// Hands a response to the oldest request.
    pub(super) fn answer(&self, correlation_id: i32, response: Bytes) -> Result<(), WireError> {
        let oldest = self.state().waiting.pop_front();
        let expected = oldest.as_ref().map_or(-1, |(request, _)| request.correlation_id);
        let Some((request, _)) = oldest.filter(|_| expected == correlation_id) else {
            return Err(WireError::Correlation { expected, got: correlation_id });
        };
        // A caller that no longer waits has dropped its end.
        let _ = request.reply.send(Ok(response));
        self.changed.notify_one();
        Ok(())
    }

    /// Lets no request leave for a time that the broker asks for. The broker reads nothing until then either, so that the
    /// requests in flight have as much more time.
    pub(super) fn mute(&self, time: Duration) {
        let time = time.min(LONGEST_THROTTLE);
        if time.is_zero() {
            return;
        }
        let mut state = self.state();
        let until = Instant::now() + time;
        state.muted_until = state.muted_until.max(Some(until));
        for (_, deadline) in &mut state.waiting {
            *deadline += time;
        }
        self.changed.notify_one();
    }

    /// Waits until the broker wants requests.
    pub(super) async fn unmuted(&self) {
        loop {
            let Some(until) = self.state().muted_until.filter(|until| *until > Instant::now()) else { return };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Waits until the oldest request has had no response for too long.
    pub(super) async fn overdue(&self) -> WireError {
        loop {
            let oldest = self.state().waiting.front().map(|(request, deadline)| (*deadline, request.timeout));
            match oldest {
                Some((deadline, timeout)) if deadline <= Instant::now() => return WireError::NoAnswer(timeout),
                Some((deadline, _)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(deadline) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Ends the connection: each request has this failure as its answer. The first failure stays.
    pub(super) fn fail(&self, failure: &WireError) {
        let waiting = {
            let mut state = self.state();
            state.failure.get_or_insert_with(|| failure.clone());
            std::mem::take(&mut state.waiting)
        };
        for (request, _) in waiting {
            let _ = request.reply.send(Err(failure.clone()));
        }
        // One for the task that reads, one for the task that writes.
        self.failed.notify_waiters();
    }

    pub(super) fn failure(&self) -> Option<WireError> {
        self.state().failure.clone()
    }

    /// Waits until the connection has failed.
    pub(super) async fn has_failed(&self) {
        loop {
            let mut notified = std::pin::pin!(self.failed.notified());
            notified.as_mut().enable();
            if self.state().failure.is_some() {
                return;
            }
            notified.await;
        }
    }
}
