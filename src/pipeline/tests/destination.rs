//! A scripted sink.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::log::{Coordinates, Entry, Log, coordinates};
use crate::pipeline::delivery::Destination;
use crate::pipeline::{Answers, Assignment, Batch, ConnectorError, Failure, Ordering, Outcome, Reason, Sink};
use crate::record::{Partition, Record};

/// One call to the sink, for the script to answer.
pub(super) struct Call<'a> {
    pub(super) records: &'a [Record],
    /// How often each record was sent before.
    pub(super) sent: &'a [u32],
}

impl Call<'_> {
    /// Answers for each record by its offset and how often it was sent before.
    pub(super) fn answer(&self, outcome: impl Fn(i64, u32) -> Outcome) -> Reply {
        Reply::at_once(self.records.iter().zip(self.sent).map(|(record, sent)| outcome(record.offset, *sent)).collect())
    }
}

/// The sink's reaction to a call.
pub(super) struct Reply {
    /// How long it pushes back before it accepts the batch.
    pub(super) push_back: Duration,
    /// How long it takes to answer; for ever without.
    pub(super) after: Option<Duration>,
    pub(super) outcomes: Result<Vec<Outcome>, String>,
}

impl Reply {
    pub(super) fn at_once(outcomes: Vec<Outcome>) -> Self {
        Self { push_back: Duration::ZERO, after: Some(Duration::ZERO), outcomes: Ok(outcomes) }
    }

    pub(super) fn after(self, after: Duration) -> Self {
        Self { after: Some(after), ..self }
    }

    pub(super) fn never(self) -> Self {
        Self { after: None, ..self }
    }

    pub(super) fn pushing_back(self, push_back: Duration) -> Self {
        Self { push_back, ..self }
    }

    pub(super) fn failing(what: &str) -> Self {
        Self { outcomes: Err(what.to_owned()), ..Self::at_once(Vec::new()) }
    }
}

pub(super) type Script = Box<dyn FnMut(&Call<'_>) -> Reply + Send>;

/// Answers the calls that prepare the sink: how long each takes, and its result.
pub(super) type PrepareScript = Box<dyn FnMut(usize) -> (Duration, Result<(), ConnectorError>) + Send>;

/// A sink that follows a script.
pub(super) struct Scripted {
    pub(super) which: Destination,
    pub(super) ordering: Ordering,
    pub(super) log: Log,
    state: Mutex<(Script, HashMap<Coordinates, u32>, usize)>,
    prepare: Mutex<(PrepareScript, usize)>,
    /// The result of its availability check.
    is_available: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether what was written is gone at the end.
    is_gone: bool,
    /// Whether the destination is another one by now.
    is_refused: Switch,
}

impl Scripted {
    pub(super) fn new(which: Destination, ordering: Ordering, log: &Log, script: Script) -> Self {
        let prepare: PrepareScript = Box::new(|_| (Duration::ZERO, Ok(())));
        let (state, prepare) = (Mutex::new((script, HashMap::new(), 0)), Mutex::new((prepare, 0)));
        Self {
            which,
            ordering,
            log: log.clone(),
            state,
            prepare,
            is_available: Box::new(|| true),
            is_gone: false,
            is_refused: Switch::default(),
        }
    }

    pub(super) fn preparing(self, script: PrepareScript) -> Self {
        Self { prepare: Mutex::new((script, 0)), ..self }
    }

    pub(super) fn available(self, is_available: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_available: Box::new(is_available), ..self }
    }

    pub(super) fn gone(self, is_gone: bool) -> Self {
        Self { is_gone, ..self }
    }

    pub(super) fn refused(self, is_refused: Switch) -> Self {
        Self { is_refused, ..self }
    }

    fn call(&self, batch: &Batch) -> (usize, Reply) {
        let (script, seen, calls) = &mut *self.state.lock().unwrap();
        *calls += 1;
        let count = |record: &Record| {
            let times = seen.entry(coordinates(record)).or_insert(0);
            *times += 1;
            *times - 1
        };
        let sent: Vec<u32> = batch.iter().map(count).collect();
        (*calls, script(&Call { records: batch, sent: &sent }))
    }
}

impl Sink for Scripted {
    async fn prepare(&self, partitions: &[Assignment]) -> Result<(), ConnectorError> {
        let (after, result) = {
            let (script, calls) = &mut *self.prepare.lock().unwrap();
            *calls += 1;
            script(*calls - 1)
        };
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let partitions = partitions.iter().map(|assignment| assignment.partition).collect();
        self.log.note(Entry::Prepared(partitions, result.is_ok()));
        result
    }

    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let (call, reply) = self.call(&batch);
        let records: Vec<Coordinates> = batch.iter().map(coordinates).collect();
        if !reply.push_back.is_zero() {
            tokio::time::sleep(reply.push_back).await;
        }
        let outcomes = reply.outcomes.map_err(Failure::new)?;
        let (which, log, after) = (self.which, self.log.clone(), reply.after);
        log.note(Entry::Submitted(which, call, records.clone()));
        Ok(Box::pin(async move {
            match after {
                Some(after) if after.is_zero() => {}
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            log.note(Entry::Answered(which, call, records.into_iter().zip(outcomes.iter().cloned()).collect()));
            outcomes
        }))
    }

    fn abandon(&self, partitions: &[Partition]) {
        self.log.note(Entry::Abandoned(partitions.to_vec()));
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        if self.is_gone { Err(Failure::new("what was written is gone").into()) } else { Ok(()) }
    }

    fn refusal(&self) -> Option<ConnectorError> {
        let is_refused = self.is_refused.load(std::sync::atomic::Ordering::SeqCst);
        is_refused.then(|| Failure::new("the destination is another one").into())
    }

    async fn is_available(&self) -> bool {
        (self.is_available)()
    }

    fn ordering(&self) -> Ordering {
        self.ordering
    }
}

/// Returns a script that takes everything at once.
pub(super) fn takes_all() -> Script {
    Box::new(|call| call.answer(|_, _| Outcome::Delivered))
}

/// Returns a script that answers at once, by offset and by how often the record was sent before.
pub(super) fn answers(outcome: impl Fn(i64, u32) -> Outcome + Send + 'static) -> Script {
    Box::new(move |call| call.answer(&outcome))
}

pub(super) fn why() -> Reason {
    Reason::new("scripted", "the script says so")
}

/// Shared with a script: whether the destination is up.
pub(super) type Switch = Arc<std::sync::atomic::AtomicBool>;
