//! What a run writes to has one identity for the whole run: it is looked at in the background, and once more at the end. Where it was
//! deleted, whether or not it was created again, delivered records are gone: the run is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Ordering, Outcome, Refused, Sink};
use crate::record::Partition;

/// The pause between looks while something seems to be wrong, or an identity is not known yet.
const CLOSE_INTERVAL: Duration = Duration::from_millis(500);
/// How often in a row the watch looks at short intervals for identities that the server has not given: some have none.
const CLOSE_LOOKS: usize = 60;
/// How often in a row another identity must be seen: a server may know of a target late.
const SIGHTINGS: usize = 3;

/// What a look at a target has found.
#[derive(Clone, Debug)]
pub enum TargetLook {
    /// As far as the server says, what was written is there.
    Sound {
        /// Why nothing arrives at present.
        problem: Option<String>,
        /// Whether the identity of the target is known, or of each target.
        is_known: bool,
    },
    /// The server gave no answer, or one that says nothing: an outage is the sink's to report.
    Unknown,
    /// The server gives no identity, to this user or at all.
    Unwatchable,
    /// A target is not there any more.
    Deleted {
        /// Why nothing arrives.
        problem: String,
        /// The refusal, once it is certain.
        refused: Refused,
    },
    /// Another target has the name.
    Recreated(Refused),
}

impl TargetLook {
    /// Returns why the run may have to be refused.
    fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Deleted { refused, .. } | Self::Recreated(refused) => Some(refused),
            Self::Sound { .. } | Self::Unknown | Self::Unwatchable => None,
        }
    }
}

/// Looks at a target.
pub type LookAtTarget = Arc<dyn Fn() -> BoxFuture<'static, TargetLook> + Send + Sync>;

/// What is known of a target during a run. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TargetWatch(Arc<Mutex<TargetState>>);

#[derive(Debug, Default)]
struct TargetState {
    /// Why records may not arrive.
    problem: Option<String>,
    /// Why nothing more may be sent.
    refused: Option<Refused>,
    /// Whether this run has stored anything.
    has_stored: bool,
}

impl TargetWatch {
    fn state(&self) -> MutexGuard<'_, TargetState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why records may not arrive.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Sets or clears the reason why records may not arrive.
    pub fn set_problem(&self, problem: Option<String>) {
        self.state().problem = problem;
    }

    /// Returns why nothing more may be sent.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        self.state().refused.clone()
    }

    /// Returns whether nothing more may be sent.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state().refused.is_some()
    }

    /// Has the sink accept no further batch, and give up the records that it has not sent.
    pub fn refuse(&self, refused: Refused) {
        self.state().refused = Some(refused);
    }

    /// Returns whether this run has stored anything.
    #[must_use]
    pub fn has_stored(&self) -> bool {
        self.state().has_stored
    }

    fn note_stored(&self) {
        self.state().has_stored = true;
    }
}

/// What the last looks have found, one after another.
#[derive(Debug, Default)]
struct Sightings {
    /// How many of them have found another identity.
    recreated: usize,
    /// Since when all of them have found a target deleted.
    deleted_since: Option<Instant>,
}

impl Sightings {
    fn is_any(&self) -> bool {
        self.recreated > 0 || self.deleted_since.is_some()
    }

    /// Takes what a look at `now` has found; returns whether it has been found often enough to be certain.
    fn is_certain(&mut self, found: &TargetLook, now: Instant, deleted_after: Duration) -> bool {
        match found {
            TargetLook::Recreated(_) => {
                self.deleted_since = None;
                self.recreated += 1;
                self.recreated >= SIGHTINGS
            }
            TargetLook::Deleted { .. } => {
                self.recreated = 0;
                now - *self.deleted_since.get_or_insert(now) >= deleted_after
            }
            TargetLook::Sound { .. } | TargetLook::Unknown | TargetLook::Unwatchable => {
                *self = Self::default();
                false
            }
        }
    }
}

/// How often a target is looked at.
#[derive(Clone, Copy, Debug)]
pub struct WatchPace {
    /// The pause between looks while all is well.
    pub interval: Duration,
    /// How long the server must not list a target that it has listed before: one that was restarted may know of it late.
    pub deleted_after: Duration,
}

/// Looks at a target until it is dropped.
pub struct Watcher {
    look: LookAtTarget,
    watch: TargetWatch,
    pace: WatchPace,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Begins to look.
    #[must_use]
    pub fn start(look: LookAtTarget, watch: TargetWatch, pace: WatchPace) -> Self {
        let task = tokio::spawn(watch_target(Arc::clone(&look), watch.clone(), pace));
        Self { look, watch, pace, task }
    }

    /// Returns why nothing more may be sent.
    #[must_use]
    pub fn refusal(&self) -> Option<ConnectorError> {
        self.watch.refused().map(Into::into)
    }

    /// Looks once more: a target that was deleted since the last look has lost records. Goes on looking while it seems so.
    ///
    /// # Errors
    /// When it is not there any more, or another one has its name.
    pub async fn confirm(&self) -> Result<(), ConnectorError> {
        let mut sightings = Sightings::default();
        loop {
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            let found = (self.look)().await;
            let Some(refused) = found.refused() else { return Ok(()) };
            if sightings.is_certain(&found, Instant::now(), self.pace.deleted_after) {
                return Err(refused.clone().into());
            }
            sleep(CLOSE_INTERVAL).await;
        }
    }
}

async fn watch_target(look: LookAtTarget, watch: TargetWatch, pace: WatchPace) {
    let mut sightings = Sightings::default();
    let mut unknown = 0;
    loop {
        let found = look().await;
        let is_certain = sightings.is_certain(&found, Instant::now(), pace.deleted_after);
        match &found {
            TargetLook::Sound { problem, is_known } => {
                watch.set_problem(problem.clone());
                unknown = if *is_known { 0 } else { unknown + 1 };
            }
            TargetLook::Deleted { problem, .. } => watch.set_problem(Some(problem.clone())),
            TargetLook::Unwatchable => return tracing::debug!("The server gives the target no identity: it is not watched."),
            TargetLook::Recreated(_) | TargetLook::Unknown => {}
        }
        if let (true, Some(refused)) = (is_certain, found.refused()) {
            tracing::warn!("{}; the run ends.", refused.what);
            return watch.refuse(refused.clone());
        }
        let is_close = sightings.is_any() || (1..CLOSE_LOOKS).contains(&unknown);
        sleep(if is_close { CLOSE_INTERVAL.min(pace.interval) } else { pace.interval }).await;
    }
}

/// A sink whose target is watched, where it can be: it accepts nothing for another target than the one that it has written to.
pub struct WatchedSink<K> {
    sink: K,
    watcher: Option<Watcher>,
}

impl<K: Sink> WatchedSink<K> {
    /// Watches the target of `sink`.
    #[must_use]
    pub fn new(sink: K, watcher: impl Into<Option<Watcher>>) -> Self {
        Self { sink, watcher: watcher.into() }
    }
}

impl<K: Sink> Sink for WatchedSink<K> {
    async fn prepare(&self, partitions: &[Assignment]) -> Result<(), ConnectorError> {
        self.sink.prepare(partitions).await
    }

    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let Some(watcher) = &self.watcher else { return self.sink.submit(batch).await };
        if let Some(refusal) = watcher.refusal() {
            return Err(refusal);
        }
        let answers = self.sink.submit(batch).await?;
        if watcher.watch.has_stored() {
            return Ok(answers);
        }
        let watch = watcher.watch.clone();
        Ok(Box::pin(async move {
            let outcomes = answers.await;
            if outcomes.contains(&Outcome::Delivered) {
                watch.note_stored();
            }
            outcomes
        }))
    }

    fn abandon(&self, partitions: &[Partition]) {
        self.sink.abandon(partitions);
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        self.sink.check().await
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        if let Some(watcher) = &self.watcher {
            watcher.confirm().await?;
        }
        self.sink.confirm().await
    }

    fn refusal(&self) -> Option<ConnectorError> {
        self.watcher.as_ref().and_then(Watcher::refusal).or_else(|| self.sink.refusal())
    }

    async fn is_available(&self) -> bool {
        self.sink.is_available().await
    }

    fn ordering(&self) -> Ordering {
        self.sink.ordering()
    }

    fn degraded_reason(&self) -> Option<String> {
        self.watcher.as_ref().and_then(|watcher| watcher.watch.problem()).or_else(|| self.sink.degraded_reason())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn refused(what: &str) -> Refused {
        Refused { what: what.to_owned(), numbers: Vec::new(), hint: String::new() }
    }

    fn sound() -> TargetLook {
        TargetLook::Sound { problem: None, is_known: true }
    }

    fn deleted() -> TargetLook {
        TargetLook::Deleted { problem: "it is missing".to_owned(), refused: refused("deleted") }
    }

    fn recreated() -> TargetLook {
        TargetLook::Recreated(refused("recreated"))
    }

    const PACE: WatchPace = WatchPace { interval: Duration::from_secs(5), deleted_after: Duration::from_secs(4) };

    /// Finds these one after another, and the last of them for ever.
    fn finding(looks: &[TargetLook]) -> (LookAtTarget, Arc<Mutex<usize>>) {
        let (looks, count) = (Mutex::new(VecDeque::from(looks.to_vec())), Arc::new(Mutex::new(0)));
        let counted = Arc::clone(&count);
        let look: LookAtTarget = Arc::new(move || {
            *counted.lock().unwrap() += 1;
            let mut looks = looks.lock().unwrap();
            let found = if looks.len() > 1 { looks.pop_front() } else { looks.front().cloned() };
            Box::pin(std::future::ready(found.expect("there is a last one")))
        });
        (look, count)
    }

    #[test]
    fn a_target_is_gone_when_several_looks_in_a_row_have_found_that() {
        let begun = Instant::now();
        let certain = |looks: &[(u64, TargetLook)]| {
            let mut sightings = Sightings::default();
            let is_certain = |(at, found): &(u64, TargetLook)| {
                sightings.is_certain(found, begun + Duration::from_millis(*at), PACE.deleted_after)
            };
            looks.iter().map(is_certain).collect::<Vec<_>>()
        };
        let at = |times: &[u64], found: fn() -> TargetLook| times.iter().map(|at| (*at, found())).collect::<Vec<_>>();
        assert_eq!(certain(&at(&[0, 5_000], deleted)), [false, true], "two looks some seconds apart");
        assert_eq!(certain(&at(&[0, 500, 1_000], deleted)), [false; 3], "the looks are too close");
        let listed = [(0, deleted()), (5_000, sound()), (10_000, deleted())];
        assert_eq!(certain(&listed), [false; 3], "it was listed meanwhile");
        assert_eq!(certain(&at(&[0, 500, 1_000], recreated)), [false, false, true]);
        let mixed = [(0, recreated()), (500, recreated()), (1_000, deleted()), (1_500, recreated())];
        assert_eq!(certain(&mixed), [false; 4]);
        assert_eq!(certain(&[(0, deleted()), (5_000, recreated()), (5_500, deleted())]), [false; 3]);
        assert_eq!(certain(&[(0, recreated()), (500, TargetLook::Unknown), (1_000, recreated())]), [false; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_refuses_what_was_created_again_and_says_meanwhile_what_is_missing() {
        for (looks, what) in [(vec![sound(), deleted()], "deleted"), (vec![sound(), deleted(), recreated()], "recreated")] {
            let (look, _) = finding(&looks);
            let watch = TargetWatch::default();
            let watcher = Watcher::start(look, watch.clone(), PACE);
            tokio::time::sleep(Duration::from_millis(5_100)).await;
            assert_eq!((watch.problem().as_deref(), watch.is_refused()), (Some("it is missing"), false));
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(watcher.refusal().map(|error| error.to_string()).as_deref(), Some(what));
            assert!(watcher.confirm().await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_says_nothing_refuses_nothing_and_a_target_without_identity_is_looked_at_once() {
        let (look, count) = finding(&[sound(), TargetLook::Unknown]);
        let watcher = Watcher::start(look, TargetWatch::default(), PACE);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(watcher.refusal().is_none() && watcher.confirm().await.is_ok());
        assert!(*count.lock().unwrap() > 10);

        let (look, count) = finding(&[TargetLook::Unwatchable]);
        let watcher = Watcher::start(look, TargetWatch::default(), PACE);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(*count.lock().unwrap(), 1);
        assert!(watcher.confirm().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_look_finds_what_was_deleted_since_the_watch_has_looked() {
        for (looks, is_ok) in [
            (vec![sound(), sound(), deleted()], false),
            (vec![sound(), sound(), recreated()], false),
            (vec![sound(), sound(), deleted(), sound()], true),
            (vec![sound(), sound(), sound()], true),
        ] {
            let (look, _) = finding(&looks);
            let watcher =
                Watcher::start(look, TargetWatch::default(), WatchPace { interval: Duration::from_secs(3_600), ..PACE });
            tokio::task::yield_now().await;
            assert!(watcher.confirm().await.is_ok(), "as before");
            assert_eq!(watcher.confirm().await.is_ok(), is_ok, "{looks:?}");
        }
    }
}
