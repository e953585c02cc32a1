//! A batch on its way through attempts: what is answered is settled, what must be sent again follows in order.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::pipeline::lanes::{Slot, TaggedBatch};
use crate::pipeline::{Batch, Outcome, Reason};

/// Which of the two destinations of a run a batch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Sink,
    DeadLetters,
}

/// A part of a batch that is sent as one.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) batch: Batch,
    pub(crate) slots: Vec<Slot>,
    /// How often it was sent before.
    retries: u32,
}

/// One batch from its first attempt until each of its records is settled or given up.
///
/// Its portions go one after another, so that the order of records holds through retries and halving.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) destination: Destination,
    /// When it was first sent: what `--retry-for` is measured from.
    pub(crate) first_sent: Instant,
    /// When a portion of it was last sent.
    pub(crate) last_sent: Instant,
    /// The tags of the whole batch, for the lanes.
    pub(crate) slots: Vec<Slot>,
    pub(crate) bytes: usize,
    attempts: VecDeque<Attempt>,
}

/// What the answers to a portion ask for.
#[derive(Debug, Default)]
pub(crate) struct AttemptResult {
    /// Per outcome that settles: which record of the portion, and how.
    pub(crate) settled: Vec<(usize, Outcome)>,
    /// Records whose own fault it is.
    pub(crate) rejected: Vec<(usize, Reason)>,
    /// How many are sent again, after which attempt, and why.
    pub(crate) retry: Option<(usize, u32, Reason)>,
    /// The batch was halved, and why.
    pub(crate) bisected: Option<Reason>,
    /// Nothing can be delivered any more.
    pub(crate) stop: Option<Reason>,
}

impl Delivery {
    pub(crate) fn new(destination: Destination, chunk: TaggedBatch, now: Instant) -> Self {
        let bytes = chunk.bytes;
        let portion = Attempt { batch: Arc::new(chunk.records), slots: chunk.slots, retries: 0 };
        Self {
            destination,
            first_sent: now,
            last_sent: now,
            slots: portion.slots.clone(),
            bytes,
            attempts: VecDeque::from([portion]),
        }
    }

    /// Returns the portion to send next; none when the chain is done.
    pub(crate) fn next(&self) -> Option<&Attempt> {
        self.attempts.front()
    }

    /// Takes the answers to the portion that was sent and arranges what follows.
    ///
    /// # Panics
    /// When the sink did not answer for each record: nothing that it says can be relied on then.
    pub(crate) fn on_outcomes(&mut self, outcomes: Vec<Outcome>) -> (Attempt, AttemptResult) {
        let portion = self.attempts.pop_front().expect("answers follow a portion that was sent");
        assert_eq!(outcomes.len(), portion.batch.len(), "a sink answers once for each record of a batch");
        let mut verdict = AttemptResult::default();
        let (mut again, mut suspects) = (Vec::new(), Vec::new());
        let mut why = None;
        verdict.settled.reserve(outcomes.len());
        for (at, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded => verdict.settled.push((at, outcome)),
                Outcome::Reject(reason) => verdict.rejected.push((at, reason)),
                Outcome::Retry(reason) | Outcome::Unclear(reason) => {
                    again.push(at);
                    why.get_or_insert(reason);
                }
                Outcome::BatchRejected(reason) => {
                    suspects.push(at);
                    verdict.bisected.get_or_insert(reason);
                }
                Outcome::Stop(reason) => drop(verdict.stop.get_or_insert(reason)),
            }
        }
        // Suspects go in front of retries: they are what is left of the same attempt, and a retry waits.
        if let Some(reason) = why {
            verdict.retry = Some((again.len(), portion.retries + 1, reason));
            self.attempts.push_front(portion.subset(&again, portion.retries + 1));
        }
        match suspects.len() {
            0 => {}
            // Alone it is the culprit, but only when it was sent alone: others of its batch may have been to blame.
            1 if portion.batch.len() == 1 => {
                let reason = verdict.bisected.take().expect("a suspect has a reason");
                verdict.rejected.push((suspects[0], reason));
            }
            n => {
                let (first, second) = suspects.split_at(n.div_ceil(2));
                for half in [second, first] {
                    if !half.is_empty() {
                        self.attempts.push_front(portion.subset(half, 0));
                    }
                }
            }
        }
        (portion, verdict)
    }

    /// Drops the records for which `gone` holds from what is still to be sent.
    pub(crate) fn forget(&mut self, gone: impl Fn(&Slot) -> bool) {
        for portion in &mut self.attempts {
            if portion.slots.iter().any(&gone) {
                let kept: Vec<usize> = (0..portion.slots.len()).filter(|at| !gone(&portion.slots[*at])).collect();
                *portion = portion.subset(&kept, portion.retries);
            }
        }
        self.attempts.retain(|portion| !portion.slots.is_empty());
    }

    /// Returns the tags of everything that is still to be sent.
    pub(crate) fn pending_slots(&self) -> impl Iterator<Item = &Slot> {
        self.attempts.iter().flat_map(|portion| &portion.slots)
    }
}

impl Attempt {
    fn subset(&self, which: &[usize], attempt: u32) -> Self {
        Self {
            batch: Arc::new(which.iter().map(|at| self.batch[*at].clone()).collect()),
            slots: which.iter().map(|at| self.slots[*at]).collect(),
            retries: attempt,
        }
    }

    /// Returns how often the records of this portion have been sent, this time included.
    pub(crate) fn number(&self) -> u32 {
        self.retries + 1
    }
}
