//! Deliveries that wait to be sent again.

use tokio::time::Instant;

use crate::pipeline::delivery::{Delivery, Destination};

/// Deliveries and when their next attempt is due.
#[derive(Default)]
pub(super) struct RetryQueue {
    waiting: Vec<(Instant, Delivery)>,
}

impl RetryQueue {
    pub(super) fn push(&mut self, due: Instant, delivery: Delivery) {
        self.waiting.push((due, delivery));
    }

    /// Returns whether dead letters wait, maybe for long.
    pub(super) fn has_dead_letters(&self) -> bool {
        self.waiting.iter().any(|(_, delivery)| delivery.destination == Destination::DeadLetters)
    }

    /// Takes a delivery that is due and whose destination can be given a batch.
    pub(super) fn take_due(&mut self, now: Instant, can_send: impl Fn(Destination) -> bool) -> Option<Delivery> {
        let at = self.waiting.iter().position(|(due, delivery)| *due <= now && can_send(delivery.destination))?;
        Some(self.waiting.remove(at).1)
    }

    /// Returns when [`Self::take_due`] may find one.
    pub(super) fn next_due(&self, can_send: impl Fn(Destination) -> bool) -> Option<Instant> {
        self.waiting.iter().filter(|(_, delivery)| can_send(delivery.destination)).map(|(due, _)| *due).min()
    }

    /// Takes every delivery; the caller pushes those again that still have records to send.
    pub(super) fn take_all(&mut self) -> Vec<(Instant, Delivery)> {
        std::mem::take(&mut self.waiting)
    }
}
