//! Degradation and stalls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::delivery::Destination;
use crate::pipeline::event::{Event, Observer};

/// How often stalls are checked for when idle.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Without an answer for this long, delivery is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// The state that observers see: degraded with a reason, stalled, or neither.
pub(crate) struct Health {
    observer: Arc<dyn Observer>,
    /// Whether a destination fails.
    is_degraded: bool,
    /// The last reason why one failed.
    reason: String,
    is_stalled: bool,
    /// The problem that the source reported.
    source: Option<String>,
    /// When a record was last settled, or the first was sent after a pause.
    last_progress: Instant,
    check_at: Instant,
}

impl Health {
    pub(crate) fn new(observer: Arc<dyn Observer>, now: Instant) -> Self {
        let check_at = now + CHECK_INTERVAL;
        Self {
            observer,
            is_degraded: false,
            reason: String::new(),
            is_stalled: false,
            source: None,
            last_progress: now,
            check_at,
        }
    }

    /// Returns when [`Self::is_check_due`] is true next.
    pub(crate) fn check_at(&self) -> Instant {
        self.check_at
    }

    /// Returns whether it is time to look for stalls.
    pub(crate) fn is_check_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.check_at;
        if is_due {
            self.check_at = now + CHECK_INTERVAL;
        }
        is_due
    }

    /// Starts the stall clock: a batch is sent after a pause.
    pub(crate) fn start_clock(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// Notes that records were settled.
    pub(crate) fn on_progress(&mut self, now: Instant) {
        self.last_progress = now;
        self.recover();
    }

    /// Returns how long nothing was settled.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        now - self.last_progress
    }

    pub(crate) fn degrade(&mut self, reason: &str) {
        self.is_degraded = true;
        reason.clone_into(&mut self.reason);
        self.observer.on(&Event::Degraded(Some(reason)));
    }

    /// Notes that a destination accepts nothing.
    pub(crate) fn stall(&mut self) {
        if !std::mem::replace(&mut self.is_stalled, true) {
            self.observer.on(&Event::Stalled(true));
        }
    }

    /// Notes that `destination` does not respond, if it did not for a while. `reason` is what its client knows.
    pub(crate) fn check_stall(&mut self, now: Instant, destination: Destination, reason: impl FnOnce() -> Option<String>) {
        if self.idle(now) > STALLED_AFTER {
            if !self.is_degraded {
                self.degrade(&reason().map_or_else(|| no_response(destination), |reason| reason_of(destination, &reason)));
            }
            self.stall();
        }
    }

    /// Returns why a destination fails, if one does.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.is_degraded.then_some(&self.reason)
    }

    /// Notes that the destinations are healthy; a problem of the source is shown again.
    pub(crate) fn recover(&mut self) {
        if std::mem::take(&mut self.is_stalled) {
            self.observer.on(&Event::Stalled(false));
        }
        if std::mem::take(&mut self.is_degraded) {
            self.observer.on(&Event::Degraded(self.source.as_deref()));
        }
    }

    /// Handles a problem of the source, or its end.
    pub(crate) fn on_source(&mut self, reason: Option<String>) {
        if reason.is_some() || !self.is_degraded {
            self.observer.on(&Event::Degraded(reason.as_deref()));
        }
        self.source = reason;
    }
}

fn no_response(destination: Destination) -> String {
    reason_of(destination, &format!("no response for more than {} s", STALLED_AFTER.as_secs()))
}

/// Returns a reason with the name of its destination, where it is not that of the records.
pub(crate) fn reason_of(destination: Destination, reason: &str) -> String {
    match destination {
        Destination::Sink => reason.to_owned(),
        Destination::DeadLetters => format!("dead letters: {reason}"),
    }
}
