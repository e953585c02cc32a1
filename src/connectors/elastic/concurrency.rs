//! How many requests are in flight: one more for each that goes well, half as many when the server has too much to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many requests are in flight at first.
const FIRST: f64 = 2.0;

/// The requests that may be in flight together.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    most: f64,
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug)]
struct State {
    limit: f64,
    out: usize,
    /// How often the limit was halved: of the requests that were out then, no other halves it again.
    halved: u32,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    window: Arc<ConcurrencyLimit>,
    halved: u32,
}

impl ConcurrencyLimit {
    #[allow(clippy::cast_precision_loss)] // a handful
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { most, state: Mutex::new(State { limit: FIRST.min(most), out: 0, halved: 0 }), left: Notify::new() }
    }

    /// Waits until one more request may be in flight.
    pub(super) async fn enter(self: &Arc<Self>) -> Permit {
        loop {
            let left = self.left.notified();
            if let Some(permit) = self.try_enter() {
                return permit;
            }
            left.await;
        }
    }

    #[allow(clippy::cast_precision_loss)] // a handful
    fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state();
        if (state.out + 1) as f64 > state.limit {
            return None;
        }
        state.out += 1;
        Some(Permit { window: Arc::clone(self), halved: state.halved })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes notice that the request went well.
    pub(super) fn went_well(&self) {
        let mut state = self.window.state();
        state.limit = (state.limit + 1.0 / state.limit).min(self.window.most);
    }

    /// Takes notice that the server had too much to do.
    pub(super) fn was_too_much(&self) {
        let mut state = self.window.state();
        if state.halved == self.halved {
            state.limit = (state.limit / 2.0).max(1.0);
            state.halved += 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.window.state().out -= 1;
        // Two may fit now where there was room for none: the limit grows meanwhile.
        self.window.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(window: &Arc<ConcurrencyLimit>) -> usize {
        let permits: Vec<_> = std::iter::from_fn(|| window.try_enter()).collect();
        permits.len()
    }

    fn window(most: usize) -> Arc<ConcurrencyLimit> {
        Arc::new(ConcurrencyLimit::new(most))
    }

    #[test]
    fn the_window_grows_by_one_a_round_up_to_its_most() {
        let window = window(4);
        let mut seen = vec![fits(&window)];
        for _ in 0..10 {
            window.try_enter().unwrap().went_well();
            seen.push(fits(&window));
        }
        assert_eq!(seen, [2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4]);
        assert_eq!(fits(&self::window(1)), 1);
    }

    #[test]
    fn the_window_is_halved_once_for_what_was_out_together_and_never_closed() {
        let window = window(8);
        for _ in 0..100 {
            window.try_enter().unwrap().went_well();
        }
        let together: Vec<_> = std::iter::from_fn(|| window.try_enter()).collect();
        assert_eq!(together.len(), 8);
        together.iter().for_each(Permit::was_too_much);
        drop(together);
        assert_eq!(fits(&window), 4);
        for _ in 0..9 {
            window.try_enter().unwrap().was_too_much();
        }
        assert_eq!(fits(&window), 1);
    }

    #[tokio::test]
    async fn who_waits_enters_when_another_leaves() {
        let window = window(1);
        let first = window.enter().await;
        let mut second = Box::pin(window.enter());
        assert!(futures_util::FutureExt::now_or_never(second.as_mut()).is_none());
        drop(first);
        second.await.went_well();
    }
}
