//! The problems of the sides of a run, and stalls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::Reason;
use crate::pipeline::delivery::Destination;
use crate::pipeline::event::{Event, Observer, RunSide, SideProblem};

/// How often stalls are checked for when idle.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Without an answer for this long, delivery is stalled.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// The code of a destination that does not respond.
const NO_RESPONSE: &str = "no_response";
/// A stall is shown when it has lasted for so long, and its end no sooner than this after it was shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// The problem that each side has now. A side is stalled or healthy whatever the others are.
///
/// Observers are not shown every change: a side that fails and works in turns is not reported several times a second.
pub(crate) struct Health {
    observer: Arc<dyn Observer>,
    sides: BTreeMap<RunSide, SideHealth>,
    /// When each destination last settled a record.
    answered: BTreeMap<RunSide, Instant>,
    /// When a record was last settled at any destination, or the first was sent after a pause.
    last_progress: Instant,
    check_at: Instant,
}

/// One side: what is known of it, and what observers have been shown.
#[derive(Default)]
struct SideHealth {
    problem: Option<SideProblem>,
    stalled_since: Option<Instant>,
    shown: Option<SideProblem>,
    stall_shown: Option<Instant>,
}

impl SideHealth {
    fn set(&mut self, problem: Option<SideProblem>, since: Instant) {
        let is_stalled = problem.as_ref().is_some_and(|problem| problem.is_stalled);
        self.stalled_since = is_stalled.then(|| self.stalled_since.unwrap_or(since));
        self.problem = problem;
    }

    /// Returns when observers may be shown the problem, at the earliest `now`; `None` if they have been.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.problem == self.shown {
            return None;
        }
        match (self.stalled_since, self.stall_shown) {
            (Some(since), None) | (None, Some(since)) => Some(now.max(since + SHOWN_AFTER)),
            _ => Some(now),
        }
    }

    fn show(&mut self, now: Instant) {
        self.shown.clone_from(&self.problem);
        self.stall_shown = self.stalled_since.map(|_| self.stall_shown.unwrap_or(now));
    }
}

impl Health {
    pub(crate) fn new(observer: Arc<dyn Observer>, now: Instant) -> Self {
        let check_at = now + CHECK_INTERVAL;
        Self { observer, sides: BTreeMap::new(), answered: BTreeMap::new(), last_progress: now, check_at }
    }

    /// Returns when [`Self::is_check_due`] is to be called next.
    pub(crate) fn check_at(&self, now: Instant) -> Instant {
        self.sides.values().filter_map(|side| side.due(now)).fold(self.check_at, Instant::min)
    }

    /// Shows observers what they may be shown by now. Returns whether it is time to look for stalls.
    pub(crate) fn is_check_due(&mut self, now: Instant) -> bool {
        self.show(now);
        let is_due = now >= self.check_at;
        if is_due {
            self.check_at = now + CHECK_INTERVAL;
        }
        is_due
    }

    /// Shows observers the last state at the end of a run.
    pub(crate) fn finish(&mut self) {
        self.show(Instant::now() + SHOWN_AFTER);
    }

    fn show(&mut self, now: Instant) {
        for (side, health) in &mut self.sides {
            if health.due(now).is_some_and(|due| due <= now) {
                health.show(now);
                self.observer.on(&Event::Problem { side: *side, problem: health.shown.as_ref() });
            }
        }
    }

    /// Starts the clock of [`Self::idle`]: a batch is sent after a pause.
    pub(crate) fn start_clock(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// Notes that a destination settled records.
    pub(crate) fn on_progress(&mut self, side: RunSide, now: Instant) {
        self.last_progress = now;
        self.answered.insert(side, now);
        self.recover(side);
    }

    /// Returns how long nothing was settled.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        now - self.last_progress
    }

    /// Handles records that a destination refused for now. The side is stalled unless others were settled since `sent`.
    pub(crate) fn on_refused(&mut self, side: RunSide, sent: Instant, reason: &Reason) {
        if self.answered.get(&side).is_some_and(|answered| *answered > sent) {
            self.degrade(side, reason);
        } else {
            self.refuse(side, reason);
        }
    }

    /// Notes a problem of a side. Whether the side makes progress stays as it was.
    pub(crate) fn degrade(&mut self, side: RunSide, reason: &Reason) {
        let is_stalled = self.is_stalled(side);
        self.set(side, Some(SideProblem { is_stalled, ..refusal(reason) }), Instant::now());
    }

    /// Notes that a destination refuses everything for now.
    pub(crate) fn refuse(&mut self, side: RunSide, reason: &Reason) {
        self.set(side, Some(refusal(reason)), Instant::now());
    }

    /// Notes that a side makes no progress.
    pub(crate) fn stall(&mut self, side: RunSide, reason: String) {
        self.set(side, Some(unavailable(side, reason)), Instant::now());
    }

    /// Notes that a destination does not respond, if it did not for a while. Something waits for it since `since`; `reason` is what
    /// its client knows; what it knows only later replaces that it does not respond.
    pub(crate) fn check_stall(&mut self, now: Instant, side: RunSide, since: Instant, reason: impl FnOnce() -> Option<String>) {
        let last = self.answered.get(&side).map_or(since, |answered| since.max(*answered));
        if now - last <= STALLED_AFTER {
            return;
        }
        let has_stalled = self.is_stalled(side);
        let known = self.problem(side).filter(|known| !has_stalled || known.code != NO_RESPONSE).cloned();
        if has_stalled && known.is_some() {
            return;
        }
        let known = known.or_else(|| reason().map(|reason| unavailable(side, reason)));
        let problem = known.unwrap_or_else(|| SideProblem {
            code: NO_RESPONSE.to_owned(),
            reason: format!("no response for more than {} s", STALLED_AFTER.as_secs()),
            is_stalled: true,
        });
        self.set(side, Some(SideProblem { is_stalled: true, ..problem }), last);
    }

    /// Returns the problem of a side, if it has one.
    pub(crate) fn reason(&self, side: RunSide) -> Option<&str> {
        self.problem(side).map(|problem| problem.reason.as_str())
    }

    /// Notes that a side is healthy.
    pub(crate) fn recover(&mut self, side: RunSide) {
        self.set(side, None, Instant::now());
    }

    /// Handles what the source reports of a side: a problem, or its end.
    pub(crate) fn on_report(&mut self, side: RunSide, reason: Option<String>) {
        match reason {
            Some(reason) => self.stall(side, reason),
            None => self.recover(side),
        }
    }

    fn problem(&self, side: RunSide) -> Option<&SideProblem> {
        self.sides.get(&side)?.problem.as_ref()
    }

    fn is_stalled(&self, side: RunSide) -> bool {
        self.problem(side).is_some_and(|problem| problem.is_stalled)
    }

    /// Sets the problem of a side; one that is stalled is so since `since`, unless it was before.
    fn set(&mut self, side: RunSide, problem: Option<SideProblem>, since: Instant) {
        self.sides.entry(side).or_default().set(problem, since);
        self.show(Instant::now());
    }
}

/// Returns the stall of a destination that refuses records.
fn refusal(reason: &Reason) -> SideProblem {
    SideProblem { code: reason.code().to_owned(), reason: reason.to_string(), is_stalled: true }
}

fn unavailable(side: RunSide, reason: String) -> SideProblem {
    SideProblem { code: side.unavailable().to_owned(), reason, is_stalled: true }
}

/// Returns a reason with the name of its destination, where it is not that of the records.
pub(crate) fn reason_of(destination: Destination, reason: &str) -> String {
    match destination {
        Destination::Sink => reason.to_owned(),
        Destination::DeadLetters => format!("dead letters: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps the states that a run shows, one text each.
    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl Observer for Seen {
        fn on(&self, event: &Event<'_>) {
            if let Event::Problem { side, problem } = event {
                let state = problem.map_or("healthy", |problem| if problem.is_stalled { "stalled" } else { "degraded" });
                self.0.lock().unwrap().push(format!("{} {state}", side.name()));
            }
        }
    }

    fn health() -> (Health, Arc<Seen>, Instant) {
        let (seen, now) = (Arc::<Seen>::default(), Instant::now());
        (Health::new(Arc::clone(&seen) as Arc<dyn Observer>, now), seen, now)
    }

    fn why() -> String {
        "why".to_owned()
    }

    /// Lets so many milliseconds pass, and shows what is due then.
    async fn pass(health: &mut Health, millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
        health.is_check_due(Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_stalls_while_the_target_is_healthy() {
        let (mut health, seen, now) = health();
        health.on_report(RunSide::Source, Some(why()));
        health.on_progress(RunSide::Target, now);
        assert_eq!((health.reason(RunSide::Source), health.reason(RunSide::Target)), (Some("why"), None));
        pass(&mut health, 1_000).await;
        health.on_report(RunSide::Source, Some(why()));
        pass(&mut health, 1_000).await;
        health.on_report(RunSide::Source, None);
        assert_eq!(*seen.0.lock().unwrap(), ["source stalled", "source healthy"], "each change once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_fails_and_works_in_turns_is_not_shown_twice_within_a_second() {
        for side in RunSide::ALL {
            let (mut health, seen, _) = health();
            let shown = || seen.0.lock().unwrap().len();
            for _ in 0..100 {
                health.stall(side, why());
                pass(&mut health, 32).await;
                health.recover(side);
                pass(&mut health, 32).await;
            }
            assert_eq!(shown(), 0, "no stall has lasted a second");
            health.stall(side, why());
            pass(&mut health, 999).await;
            assert_eq!(shown(), 0);
            pass(&mut health, 1).await;
            assert_eq!(shown(), 1);
            for _ in 0..10 {
                health.recover(side);
                pass(&mut health, 32).await;
                health.stall(side, why());
                pass(&mut health, 32).await;
            }
            health.recover(side);
            assert_eq!(shown(), 1, "it was shown as stalled less than a second ago");
            pass(&mut health, 360).await;
            assert_eq!(*seen.0.lock().unwrap(), [format!("{} stalled", side.name()), format!("{} healthy", side.name())]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_shown_later_is_shown_when_it_is_due_or_at_the_end() {
        let (mut health, seen, now) = health();
        health.stall(RunSide::Source, why());
        tokio::time::advance(Duration::from_millis(900)).await;
        health.is_check_due(Instant::now());
        assert_eq!(health.check_at(Instant::now()), now + SHOWN_AFTER, "before the next look for stalls");
        pass(&mut health, 100).await;
        health.recover(RunSide::Source);
        assert_eq!(*seen.0.lock().unwrap(), ["source stalled"]);
        health.finish();
        assert_eq!(*seen.0.lock().unwrap(), ["source stalled", "source healthy"]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_side_stalls_and_each_recovers_alone() {
        for first in RunSide::ALL {
            let (mut health, seen, _) = health();
            for side in RunSide::ALL {
                health.stall(side, why());
            }
            pass(&mut health, 1_000).await;
            pass(&mut health, 1_000).await;
            match first {
                RunSide::Target | RunSide::DeadLetters => health.on_progress(first, Instant::now()),
                RunSide::Source | RunSide::Commits => health.on_report(first, None),
            }
            let left = RunSide::ALL.into_iter().filter(|side| health.reason(*side).is_some()).collect::<Vec<_>>();
            assert_eq!(left, RunSide::ALL.into_iter().filter(|side| *side != first).collect::<Vec<_>>());
            assert_eq!(seen.0.lock().unwrap()[4..], [format!("{} healthy", first.name())]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_destination_stalls_although_the_other_answers() {
        let (mut health, seen, now) = health();
        pass(&mut health, 3_001).await;
        let later = Instant::now();
        health.on_progress(RunSide::Target, later);
        health.check_stall(later, RunSide::Target, now, || None);
        health.check_stall(later, RunSide::DeadLetters, later, || None);
        assert_eq!(*seen.0.lock().unwrap(), Vec::<String>::new(), "one has answered, the other was asked just now");
        health.check_stall(later, RunSide::DeadLetters, now, || None);
        assert_eq!(health.reason(RunSide::DeadLetters), Some("no response for more than 3 s"));
        assert_eq!(*seen.0.lock().unwrap(), ["dead_letters stalled"], "at once: it has lasted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_that_the_client_knows_late_replaces_that_there_is_no_response() {
        let (mut health, seen, now) = health();
        pass(&mut health, 3_001).await;
        for known in [None, None, Some("the topic is gone"), Some("another reason"), None] {
            health.check_stall(Instant::now(), RunSide::DeadLetters, now, || known.map(ToOwned::to_owned));
        }
        assert_eq!(health.reason(RunSide::DeadLetters), Some("the topic is gone"));
        assert_eq!(*seen.0.lock().unwrap(), ["dead_letters stalled", "dead_letters stalled"], "each reason once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_a_stall_unless_other_records_were_accepted_meanwhile() {
        let (mut health, seen, now) = health();
        let later = now + Duration::from_secs(1);
        health.on_progress(RunSide::Target, later);
        let [busy, other] = [Reason::new("busy", "too busy"), Reason::new("other", "another reason")];
        health.on_refused(RunSide::Target, now, &busy);
        health.on_refused(RunSide::Target, later, &busy);
        health.degrade(RunSide::Target, &other);
        assert_eq!(*seen.0.lock().unwrap(), ["target degraded"]);
        pass(&mut health, 1_000).await;
        health.degrade(RunSide::Target, &busy);
        assert_eq!(*seen.0.lock().unwrap(), ["target degraded", "target stalled", "target stalled"]);
    }
}
