//! Batches on their way, and what is answered to them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::pipeline::delivery::{Attempt, Delivery, Destination};
use crate::pipeline::engine::{Engine, Submission, jitter};
use crate::pipeline::event::Event;
use crate::pipeline::lanes::TaggedBatch;
use crate::pipeline::{Answers, Batch, ConnectorError, Failure, Outcome, Reason, Refused, RunOutcome, Sink, Source, backoff};

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    /// Sends what is due.
    pub(super) fn dispatch(&mut self) {
        if self.unconfirmed.is_some() {
            return;
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some((due, chain)) = self.waiting.get(at) {
            if *due <= now && self.is_open(chain.destination) {
                let (_, chain) = self.waiting.swap_remove(at);
                self.send(chain, now);
            } else {
                at += 1;
            }
        }
        while self.preparation.since().is_none() && self.is_open(Destination::Sink) && self.under_way() < self.limits.in_flight {
            let flush = self.ended || self.ending.is_some();
            let Some(chunk) = self.lanes.next(now, flush) else { break };
            self.dispatch_batch(Destination::Sink, chunk, now);
        }
        if !self.dead_letters_in_flight && self.letters_queue.len() > 0 {
            let letters = std::mem::take(&mut self.letters_queue);
            self.dead_letters_in_flight = true;
            self.dispatch_batch(Destination::DeadLetters, letters, now);
        }
    }

    pub(super) fn dispatch_batch(&mut self, destination: Destination, chunk: TaggedBatch, now: Instant) {
        if self.under_way() == 0 {
            self.last_answer = now; // nothing was awaited, so nothing was late
        }
        self.in_flight_bytes += chunk.bytes;
        self.in_flight_since.push(now);
        let chain = Delivery::new(destination, chunk, now);
        self.count_out(&chain, 1);
        self.send(chain, now);
    }

    /// Counts what a chain has still to send as out (1), or no more (-1).
    pub(super) fn count_out(&mut self, chain: &Delivery, sign: isize) {
        for tag in chain.pending_slots() {
            let life = &mut self.partitions[tag.lane];
            if life.epoch == tag.epoch {
                life.in_flight = life.in_flight.checked_add_signed(sign).expect("what is out was counted when it went out");
            }
        }
    }

    /// Sends the next portion of a chain; in order with every other portion.
    pub(super) fn send(&mut self, mut chain: Delivery, now: Instant) {
        chain.last_sent = now;
        let Some(portion) = chain.next() else { return self.complete(&chain) };
        let batch: Batch = Arc::clone(&portion.batch);
        self.tally.batches += 1;
        let destination = chain.destination;
        let mut submission: Submission = match destination {
            Destination::Sink => submit(Arc::clone(&self.sink), batch, chain),
            Destination::DeadLetters => {
                let letters = self.letters.as_ref().expect("letters are queued only where there is a destination");
                submit(Arc::clone(letters), batch, chain)
            }
        };
        // A destination may push back for as long as it likes, and the source must be heard meanwhile.
        if let Some((chain, submitted)) = submission.as_mut().now_or_never() {
            self.on_accepted(chain, submitted);
        } else {
            self.pushed_back |= destination == Destination::Sink;
            self.submissions.push(submission);
        }
    }

    /// Awaits the answers to a batch that was taken; ends the run if it was not.
    pub(super) fn on_accepted(&mut self, chain: Delivery, submitted: Result<Answers, ConnectorError>) {
        self.pushed_back &= chain.destination != Destination::Sink;
        match submitted {
            Ok(answers) => self.in_flight.push(Box::pin(async move { (chain, answers.await) })),
            Err(error) => {
                self.lanes.discard(|_| true); // nothing more can be sent
                self.end(RunOutcome::Failed(error));
                self.count_out(&chain, -1);
                self.complete(&chain); // its records stay unsettled: the next run reads them again
            }
        }
    }

    /// Takes the answers to a portion.
    pub(super) fn on_response(&mut self, mut chain: Delivery, outcomes: Vec<Outcome>) {
        let now = Instant::now();
        self.count_out(&chain, -1);
        let had_failed = self.has_failed();
        let (portion, verdict) = chain.on_outcomes(outcomes);
        let moved = !verdict.settled.is_empty() || !verdict.rejected.is_empty();
        if moved {
            self.last_answer = now;
            self.clear_trouble();
        }
        self.settle_answered(chain.destination, &portion, &verdict.settled);
        for (at, reason) in verdict.rejected {
            match chain.destination {
                Destination::Sink => self.on_bad_record(&portion.batch[at], portion.slots[at], &reason, portion.number()),
                Destination::DeadLetters => self.end(RunOutcome::Record(
                    Failure::new(format!("the dead letter of record {} was not taken", portion.batch[at]))
                        .because(&reason)
                        .hint(reason.hinted().unwrap_or("name another destination with --dead-letters")),
                )),
            }
        }
        if let Some(reason) = verdict.bisected {
            self.observer.on(&Event::Bisecting { records: portion.batch.len(), reason: &reason });
        }
        let mut again = now;
        if let Some((records, attempt, reason)) = verdict.retry {
            let pause = backoff(attempt, jitter(now));
            self.tally.retried += records as u64;
            self.observer.on(&Event::Retrying { records, attempt: attempt + 1, pause, reason: &reason });
            self.trouble(&reason.to_string());
            if !moved {
                self.stall(true);
            }
            again = now + pause;
        }
        if chain.destination == Destination::Sink {
            let done = chain.next().is_none() && verdict.stop.is_none();
            self.observer.on(&Event::Responded { took: now - chain.last_sent, batch: done.then(|| now - chain.first_sent) });
        }
        if let Some(reason) = verdict.stop {
            self.end(RunOutcome::Failed(stopped(&reason)));
        }
        if self.has_failed() && !had_failed {
            self.lanes.discard(|_| true); // what follows would only be there twice when the next run reads it again
        }
        chain.forget(|tag| !self.is_alive(tag) || self.partitions[tag.lane].revoking);
        self.count_out(&chain, 1);
        if chain.next().is_none() {
            self.complete(&chain);
        } else {
            self.waiting.push((again, chain));
        }
        if self.note_commits() && self.limits.commit_each {
            self.unconfirmed = Some((now, 1));
        }
        self.observer.on(&Event::Progress(&self.tally));
    }

    /// Settles the records of a portion that are done, by ranges.
    pub(super) fn settle_answered(&mut self, destination: Destination, portion: &Attempt, settled: &[(usize, Outcome)]) {
        if self.observer.wants_every_record() {
            for (at, outcome) in settled {
                self.observer.on(&Event::Answered(&portion.batch[*at], outcome));
            }
        }
        let mut rest = settled;
        while let Some((first, outcome)) = rest.first() {
            let tag = portion.slots[*first];
            let follows = |(n, (at, other)): (usize, &(usize, Outcome))| {
                let next = portion.slots[*at];
                let in_line = next.lane == tag.lane && next.epoch == tag.epoch && next.number == tag.number + n as u64;
                in_line && other == outcome
            };
            let run = rest.iter().enumerate().take_while(|(n, one)| follows((*n, one))).count();
            let bytes: usize = rest[..run].iter().map(|(at, _)| portion.batch[*at].bytes()).sum();
            let newly = self.settle(tag, run as u64);
            if newly > 0 {
                match destination {
                    Destination::DeadLetters => self.tally.dead_lettered += newly,
                    Destination::Sink => {
                        self.tally.delivered += newly;
                        self.tally.bytes += bytes as u64;
                        match outcome {
                            Outcome::AlreadyThere => self.tally.already_there += newly,
                            Outcome::Superseded => self.tally.superseded += newly,
                            _ => {}
                        }
                    }
                }
            }
            rest = &rest[run..];
        }
    }

    /// Ends the accounts of a chain that has nothing left to send.
    pub(super) fn complete(&mut self, chain: &Delivery) {
        self.in_flight_bytes -= chain.bytes;
        if let Some(at) = self.in_flight_since.iter().position(|since| *since == chain.first_sent) {
            self.in_flight_since.swap_remove(at);
        }
        match chain.destination {
            Destination::Sink => self.lanes.release(&chain.slots),
            Destination::DeadLetters => self.dead_letters_in_flight = false,
        }
    }
}

/// Gives a batch to a destination.
fn submit<K: Sink + 'static>(sink: Arc<K>, batch: Batch, chain: Delivery) -> Submission {
    Box::pin(async move {
        let submitted = sink.submit(batch).await;
        (chain, submitted)
    })
}

/// Returns what a destination that takes nothing more means for the run.
fn stopped(reason: &Reason) -> ConnectorError {
    let hint = reason.hinted().map(ToOwned::to_owned);
    if reason.is_refusal() {
        return Refused { what: reason.message().to_owned(), numbers: Vec::new(), hint: hint.unwrap_or_default() }.into();
    }
    let mut failure = Failure::new("the destination takes nothing until something is changed there").because(reason);
    failure.hint = hint;
    failure.into()
}
