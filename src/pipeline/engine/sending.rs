//! Batches on their way, and what is answered to them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::pipeline::chain::{Chain, Destination, Portion};
use crate::pipeline::engine::{Engine, Submission, jitter};
use crate::pipeline::event::Event;
use crate::pipeline::lanes::Chunk;
use crate::pipeline::retry::pause;
use crate::pipeline::{Answers, Batch, EndError, Ending, Failure, Outcome, Reason, Refused, Sink, Source};

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
        while self.is_open(Destination::Sink) && self.under_way() < self.limits.in_flight {
            let flush = self.ended || self.ending.is_some();
            let Some(chunk) = self.lanes.next(now, flush) else { break };
            self.lift_off(Destination::Sink, chunk, now);
        }
        if !self.letters_flying && self.letters_queue.len() > 0 {
            let letters = std::mem::take(&mut self.letters_queue);
            self.letters_flying = true;
            self.lift_off(Destination::DeadLetters, letters, now);
        }
    }

    pub(super) fn lift_off(&mut self, destination: Destination, chunk: Chunk, now: Instant) {
        if self.under_way() == 0 {
            self.last_answer = now; // nothing was awaited, so nothing was late
        }
        self.flying_bytes += chunk.bytes;
        self.flying_since.push(now);
        let chain = Chain::new(destination, chunk, now);
        self.count_out(&chain, 1);
        self.send(chain, now);
    }

    /// Counts what a chain has still to send as out (1), or no more (-1).
    pub(super) fn count_out(&mut self, chain: &Chain, sign: isize) {
        for tag in chain.waiting() {
            let life = &mut self.lives[tag.lane];
            if life.epoch == tag.epoch {
                life.out = life.out.checked_add_signed(sign).expect("what is out was counted when it went out");
            }
        }
    }

    /// Sends the next portion of a chain; in order with every other portion.
    pub(super) fn send(&mut self, mut chain: Chain, now: Instant) {
        chain.sent = now;
        let Some(portion) = chain.next() else { return self.retire(&chain) };
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
            self.taken(chain, submitted);
        } else {
            self.pushed_back |= destination == Destination::Sink;
            self.submissions.push(submission);
        }
    }

    /// Awaits the answers to a batch that was taken; ends the run if it was not.
    pub(super) fn taken(&mut self, chain: Chain, submitted: Result<Answers, EndError>) {
        self.pushed_back &= chain.destination != Destination::Sink;
        match submitted {
            Ok(answers) => self.flights.push(Box::pin(async move { (chain, answers.await) })),
            Err(error) => {
                self.lanes.forget(|_| true); // nothing more can be sent
                self.end(Ending::Failed(error));
                self.count_out(&chain, -1);
                self.retire(&chain); // its records stay unsettled: the next run reads them again
            }
        }
    }

    /// Takes the answers to a portion.
    pub(super) fn land(&mut self, mut chain: Chain, outcomes: Vec<Outcome>) {
        let now = Instant::now();
        self.count_out(&chain, -1);
        let had_failed = self.has_failed();
        let (portion, verdict) = chain.answered(outcomes);
        let moved = !verdict.settled.is_empty() || !verdict.rejected.is_empty();
        if moved {
            self.last_answer = now;
            self.clear_trouble();
        }
        self.settle_answered(chain.destination, &portion, &verdict.settled);
        for (at, reason) in verdict.rejected {
            match chain.destination {
                Destination::Sink => self.bad(&portion.batch[at], portion.tags[at], &reason, portion.attempts()),
                Destination::DeadLetters => self.end(Ending::Record(
                    Failure::new(format!("the dead letter of record {} was not taken", portion.batch[at]))
                        .because(&reason)
                        .hint(reason.hinted().unwrap_or("name another destination with --dead-letters")),
                )),
            }
        }
        if let Some(reason) = verdict.halved {
            self.observer.on(&Event::Halving { records: portion.batch.len(), reason: &reason });
        }
        let mut again = now;
        if let Some((records, attempt, reason)) = verdict.retry {
            let pause = pause(attempt, jitter(now));
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
            self.observer.on(&Event::Responded { took: now - chain.sent, batch: done.then(|| now - chain.since) });
        }
        if let Some(reason) = verdict.stop {
            self.end(Ending::Failed(stopped(&reason)));
        }
        if self.has_failed() && !had_failed {
            self.lanes.forget(|_| true); // what follows would only be there twice when the next run reads it again
        }
        chain.forget(|tag| !self.is_alive(tag) || self.lives[tag.lane].leaving);
        self.count_out(&chain, 1);
        if chain.next().is_none() {
            self.retire(&chain);
        } else {
            self.waiting.push((again, chain));
        }
        if self.note_commits() && self.limits.commit_each {
            self.unconfirmed = Some((now, 1));
        }
        self.observer.on(&Event::Progress(&self.tally));
    }

    /// Settles the records of a portion that are done, by ranges.
    pub(super) fn settle_answered(&mut self, destination: Destination, portion: &Portion, settled: &[(usize, Outcome)]) {
        if self.observer.wants_every_record() {
            for (at, outcome) in settled {
                self.observer.on(&Event::Answered(&portion.batch[*at], outcome));
            }
        }
        let mut rest = settled;
        while let Some((first, outcome)) = rest.first() {
            let tag = portion.tags[*first];
            let follows = |(n, (at, other)): (usize, &(usize, Outcome))| {
                let next = portion.tags[*at];
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
    pub(super) fn retire(&mut self, chain: &Chain) {
        self.flying_bytes -= chain.bytes;
        if let Some(at) = self.flying_since.iter().position(|since| *since == chain.since) {
            self.flying_since.swap_remove(at);
        }
        match chain.destination {
            Destination::Sink => self.lanes.back(&chain.whole),
            Destination::DeadLetters => self.letters_flying = false,
        }
    }
}

/// Gives a batch to a destination.
fn submit<K: Sink + 'static>(sink: Arc<K>, batch: Batch, chain: Chain) -> Submission {
    Box::pin(async move {
        let submitted = sink.submit(batch).await;
        (chain, submitted)
    })
}

/// Returns what a destination that takes nothing more means for the run.
fn stopped(reason: &Reason) -> EndError {
    let hint = reason.hinted().map(ToOwned::to_owned);
    if reason.is_refusal() {
        return Refused { what: reason.message().to_owned(), numbers: Vec::new(), hint: hint.unwrap_or_default() }.into();
    }
    let mut failure = Failure::new("the destination takes nothing until something is changed there").because(reason);
    failure.hint = hint;
    failure.into()
}
