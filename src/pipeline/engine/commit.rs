//! Commits that the broker must confirm before the run continues.
//!
//! With one commit for each record it must confirm each; otherwise only when it has accepted none for a while. What is delivered meanwhile
//! would be repeated after a crash.

use tokio::time::Instant;

/// Whether a confirmation is awaited: with one commit for each record, while commits fail, and once at the end.
#[derive(Default)]
pub(super) struct Confirmation {
    /// When to ask for it, and which attempt that is.
    pending: Option<(Instant, u32)>,
    /// Whether the last confirmation of the run was asked for.
    is_last: bool,
    /// Since when the group is known to accept no commits.
    held_since: Option<Instant>,
}

impl Confirmation {
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Notes whether the group has accepted no commit for a while: it rebalances, or its coordinator is away or refuses them.
    pub(super) fn hold(&mut self, is_held: bool, now: Instant) {
        self.held_since = is_held.then(|| self.held_since.unwrap_or(now));
    }

    /// Returns since when nothing new is sent until the group accepts commits again.
    pub(super) fn held_since(&self) -> Option<Instant> {
        self.held_since
    }

    /// Returns when to ask.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.map(|(due, _)| due)
    }

    pub(super) fn request(&mut self, now: Instant) {
        self.pending = Some((now, 1));
    }

    /// Asks for the last confirmation; returns whether it was not asked for before.
    pub(super) fn request_last(&mut self, now: Instant) -> bool {
        let is_new = !std::mem::replace(&mut self.is_last, true);
        if is_new {
            self.request(now);
        }
        is_new
    }

    /// Returns whether the last confirmation has come.
    pub(super) fn is_over(&self) -> bool {
        self.is_last && self.pending.is_none()
    }

    /// Notes that it was confirmed, or is no longer requested.
    pub(super) fn clear(&mut self) {
        self.pending = None;
    }

    /// Notes that the broker refused; the next attempt is at the instant that `backoff` gives.
    pub(super) fn retry(&mut self, backoff: impl FnOnce(u32) -> Instant) {
        if let Some((_, attempt)) = self.pending {
            self.pending = Some((backoff(attempt), attempt + 1));
        }
    }
}
