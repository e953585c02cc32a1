//! The attempts of a batch: answered records are settled, the others are sent again in order.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::pipeline::lanes::{Slot, TaggedBatch};
use crate::pipeline::policy::concurrency::Round;
use crate::pipeline::policy::poison::{PoisonDetector, UnclearAnswers, UnclearVerdict};
use crate::pipeline::sink::Load;
use crate::pipeline::{Batch, Outcome, Reason, RunSide};

/// Which of the two destinations of a run a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Sink,
    DeadLetters,
}

impl From<Destination> for RunSide {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Sink => Self::Target,
            Destination::DeadLetters => Self::DeadLetters,
        }
    }
}

/// Records of a batch that are sent in one call.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) batch: Batch,
    pub(crate) slots: Vec<Slot>,
    /// How often the records were sent before.
    retries: u32,
    unclear: Option<UnclearAnswers>,
}

/// One batch from its first attempt until each of its records is settled or given up.
///
/// Its attempts go one after another, so that the order of records holds through retries and bisecting.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) destination: Destination,
    pub(crate) first_sent: Instant,
    pub(crate) last_sent: Instant,
    /// Of the concurrency limit, when the last attempt was sent.
    pub(crate) round: Round,
    /// The slots of the whole batch, for the lanes.
    pub(crate) slots: Vec<Slot>,
    pub(crate) bytes: usize,
    attempts: VecDeque<Attempt>,
}

/// The consequences of the answers to an attempt.
#[derive(Debug, Default)]
pub(crate) struct AttemptResult {
    /// Per outcome that settles: which record of the attempt, and how.
    pub(crate) settled: Vec<(usize, Outcome)>,
    /// Records that are bad themselves.
    pub(crate) rejected: Vec<(usize, Reason)>,
    /// How many are sent again, after which attempt, and why.
    pub(crate) retry: Option<(usize, u32, Reason)>,
    /// The batch was bisected, and why.
    pub(crate) bisected: Option<Reason>,
    /// The run cannot deliver any more.
    pub(crate) stop: Option<Reason>,
    pub(crate) load: Load,
    /// Only a check of the sink shows whether it answers.
    pub(crate) needs_check: bool,
}

impl Delivery {
    pub(crate) fn new(destination: Destination, batch: TaggedBatch, now: Instant) -> Self {
        let bytes = batch.bytes;
        let attempt = Attempt { batch: Arc::new(batch.records), slots: batch.slots, retries: 0, unclear: None };
        Self {
            destination,
            first_sent: now,
            last_sent: now,
            round: Round::default(),
            slots: attempt.slots.clone(),
            bytes,
            attempts: VecDeque::from([attempt]),
        }
    }

    /// Returns the attempt to send next; none when the delivery is done.
    pub(crate) fn next(&self) -> Option<&Attempt> {
        self.attempts.front()
    }

    /// Cuts the next attempt to at most `records` records.
    pub(crate) fn limit_to(&mut self, records: usize) {
        if self.attempts.front().is_some_and(|attempt| attempt.batch.len() > records) {
            let attempt = self.attempts.pop_front().expect("looked at");
            let all: Vec<usize> = (0..attempt.batch.len()).collect();
            let (first, rest) = all.split_at(records);
            for part in [rest, first] {
                self.attempts.push_front(attempt.subset(part, attempt.retries, attempt.unclear));
            }
        }
    }

    /// Handles the answers to the attempt and arranges the next one. A record that failed is left alone if `gone` holds for it: it
    /// belongs to another member.
    ///
    /// # Panics
    /// When the number of outcomes is not the number of records: none of them is reliable.
    pub(crate) fn on_outcomes(
        &mut self,
        outcomes: Vec<Outcome>,
        gone: impl Fn(&Slot) -> bool,
        detector: &mut PoisonDetector,
        now: Instant,
    ) -> (Attempt, AttemptResult) {
        let attempt = self.attempts.pop_front().expect("answers follow an attempt that was sent");
        assert_eq!(outcomes.len(), attempt.batch.len(), "a sink answers once for each record of a batch");
        let mut result = AttemptResult::default();
        let (mut refused, mut unclear, mut suspects) = (Vec::new(), Vec::new(), Vec::new());
        let (mut why_refused, mut why_unclear, mut why_suspect) = (None, None, None);
        result.settled.reserve(outcomes.len());
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let (list, why, reason) = match outcome {
                Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => {
                    result.settled.push((at, outcome));
                    continue;
                }
                _ if gone(&attempt.slots[at]) => continue,
                Outcome::Reject(reason) => {
                    result.rejected.push((at, reason));
                    continue;
                }
                Outcome::Stop(reason) => {
                    result.stop.get_or_insert(reason);
                    continue;
                }
                // Only the sink's own batches are judged: a dead letter is sent until it is there.
                Outcome::Unclear(reason) if self.destination == Destination::Sink => (&mut unclear, &mut why_unclear, reason),
                Outcome::Retry(reason) | Outcome::Unclear(reason) => (&mut refused, &mut why_refused, reason),
                Outcome::BatchRejected(reason) => (&mut suspects, &mut why_suspect, reason),
            };
            list.push(at);
            result.load = result.load.max(reason.load());
            why.get_or_insert(reason);
        }
        if !result.settled.is_empty() && self.destination == Destination::Sink {
            detector.on_delivered();
        }
        // Suspects go first, then unclear records: the sink holds later writes of the same id back.
        if let Some(reason) = why_refused {
            result.retry = Some((refused.len(), attempt.retries + 1, reason));
            self.attempts.push_front(attempt.subset(&refused, attempt.retries + 1, None));
        }
        if let Some(reason) = why_unclear {
            self.on_unclear(&attempt, &unclear, reason, &mut result, detector, now);
        }
        if let Some(reason) = why_suspect {
            // A rejected batch proves a record bad only if it was sent alone.
            if attempt.batch.len() == 1 {
                result.rejected.push((suspects[0], reason));
            } else {
                self.push_halves(&attempt, &suspects, 0, None);
                result.bisected = Some(reason);
            }
        }
        (attempt, result)
    }

    /// Arranges the next attempt after an unclear answer to `records`.
    fn on_unclear(
        &mut self,
        attempt: &Attempt,
        records: &[usize],
        reason: Reason,
        result: &mut AttemptResult,
        detector: &mut PoisonDetector,
        now: Instant,
    ) {
        let is_time_out = reason.is_time_out();
        let mut answers = attempt.unclear;
        let verdict = detector.on_unclear(&mut answers, records.len(), !result.settled.is_empty(), is_time_out, now);
        match verdict {
            UnclearVerdict::Reject => return result.rejected.push((records[0], reason)),
            UnclearVerdict::Bisect => {
                self.push_halves(attempt, records, 0, answers);
                result.bisected = Some(reason);
            }
            UnclearVerdict::Resend => {
                let retries = attempt.retries + 1;
                if is_time_out {
                    self.push_halves(attempt, records, retries, answers);
                } else {
                    self.attempts.push_front(attempt.subset(records, retries, answers));
                }
                let others = result.retry.as_ref().map_or(0, |(others, ..)| *others);
                result.retry = Some((records.len() + others, retries, reason));
            }
        }
        result.needs_check = answers.is_some_and(|answers| detector.needs_check(&answers));
    }

    /// Puts two halves of `records` in front; one alone stays whole.
    fn push_halves(&mut self, attempt: &Attempt, records: &[usize], retries: u32, unclear: Option<UnclearAnswers>) {
        let (first, second) = records.split_at(records.len().div_ceil(2));
        for half in [second, first].into_iter().filter(|half| !half.is_empty()) {
            self.attempts.push_front(attempt.subset(half, retries, unclear));
        }
    }

    /// Drops the unsent records for which `gone` holds.
    pub(crate) fn forget(&mut self, gone: impl Fn(&Slot) -> bool) {
        for attempt in &mut self.attempts {
            if attempt.slots.iter().any(&gone) {
                let kept: Vec<usize> = (0..attempt.slots.len()).filter(|at| !gone(&attempt.slots[*at])).collect();
                *attempt = attempt.subset(&kept, attempt.retries, attempt.unclear);
            }
        }
        self.attempts.retain(|attempt| !attempt.slots.is_empty());
    }

    /// Returns the slots of all unsent records.
    pub(crate) fn pending_slots(&self) -> impl Iterator<Item = &Slot> {
        self.attempts.iter().flat_map(|attempt| &attempt.slots)
    }
}

impl Attempt {
    fn subset(&self, which: &[usize], retries: u32, unclear: Option<UnclearAnswers>) -> Self {
        Self {
            batch: Arc::new(which.iter().map(|at| self.batch[*at].clone()).collect()),
            slots: which.iter().map(|at| self.slots[*at]).collect(),
            retries,
            unclear,
        }
    }

    /// Returns how often the records of this attempt have been sent, this time included.
    pub(crate) fn number(&self) -> u32 {
        self.retries + 1
    }
}
