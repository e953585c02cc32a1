//! Degradation and stalls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

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
        Self { observer, is_degraded: false, is_stalled: false, source: None, last_progress: now, check_at }
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
        self.observer.on(&Event::Degraded(Some(reason)));
    }

    /// Notes that a destination accepts nothing.
    pub(crate) fn stall(&mut self) {
        if !std::mem::replace(&mut self.is_stalled, true) {
            self.observer.on(&Event::Stalled(true));
        }
    }

    /// Notes that a destination does not answer, if it did not for a while.
    pub(crate) fn check_stall(&mut self, now: Instant, reason: impl FnOnce() -> String) {
        if self.idle(now) > STALLED_AFTER {
            if !self.is_degraded {
                self.degrade(&reason());
            }
            self.stall();
        }
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
