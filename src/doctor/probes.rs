//! What round trips have made on servers and not removed again.

use tokio::sync::watch;

/// What the round trips of an examination make. A round trip that has begun runs to its end, which removes what it made; none begins
/// once the examination is interrupted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes(watch::Sender<ProbeState>);

#[derive(Debug, Default)]
struct ProbeState {
    is_closed: bool,
    probes: Vec<Probe>,
}

#[derive(Debug)]
struct Probe {
    /// Where it is: "topic `sdl-doctor-1` on `local_kafka`".
    place: String,
    /// Whether its round trip goes on.
    is_running: bool,
}

impl Probes {
    /// Awaits a round trip that makes something at `place`, and returns its result and whether nothing of it remains; `None` if the
    /// examination is interrupted, and the round trip has not begun.
    pub(crate) async fn run<T>(&self, place: String, round_trip: impl Future<Output = (T, bool)>) -> Option<(T, bool)> {
        let begun = self.0.send_if_modified(|state| {
            if !state.is_closed {
                state.probes.push(Probe { place: place.clone(), is_running: true });
            }
            !state.is_closed
        });
        if !begun {
            return None;
        }
        let (result, is_removed) = round_trip.await;
        self.0.send_modify(|state| {
            state.probes.retain(|probe| !(is_removed && probe.place == place));
            for probe in state.probes.iter_mut().filter(|probe| probe.place == place) {
                probe.is_running = false;
            }
        });
        Some((result, is_removed))
    }

    /// Has no further round trip begin.
    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.is_closed = true);
    }

    /// Returns the places of what is there now.
    pub(crate) fn places(&self) -> Vec<String> {
        self.0.borrow().probes.iter().map(|probe| probe.place.clone()).collect()
    }

    /// Waits until every round trip has ended.
    pub(crate) async fn ended(&self) {
        // The sender is here: it is not closed.
        let _ = self.0.subscribe().wait_for(|state| !state.probes.iter().any(|probe| probe.is_running)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_interruption_waits_for_the_round_trip_that_has_begun_and_lets_none_begin() {
        let (finish, finished) = oneshot::channel();
        let probes = Probes::default();
        let running = tokio::spawn({
            let probes = probes.clone();
            async move { probes.run("topic `a`".to_owned(), async { (7, finished.await.unwrap()) }).await }
        });
        let mut state = probes.0.subscribe();
        state.wait_for(|state| !state.probes.is_empty()).await.unwrap();
        probes.close();
        assert_eq!(probes.places(), ["topic `a`"]);
        assert!(timeout(Duration::from_millis(1), probes.ended()).await.is_err(), "it goes on");
        assert_eq!(probes.run("topic `b`".to_owned(), async { (8, true) }).await, None);
        finish.send(true).unwrap();
        assert_eq!(running.await.unwrap(), Some((7, true)));
        probes.ended().await;
        assert!(probes.places().is_empty(), "it is removed");
    }

    #[tokio::test]
    async fn what_could_not_be_removed_is_named_and_not_waited_for() {
        let probes = Probes::default();
        for (place, is_removed) in [("topic `a`", true), ("topic `b`", false)] {
            assert_eq!(probes.run(place.to_owned(), async { ((), is_removed) }).await, Some(((), is_removed)));
        }
        probes.ended().await;
        assert_eq!(probes.places(), ["topic `b`"]);
    }
}
