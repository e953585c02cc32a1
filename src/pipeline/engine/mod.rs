//! The loop that reads, sends, settles and commits.

mod bad_records;
mod commit;
pub(crate) mod health;
mod in_flight;
mod intake;
mod partitions;
mod poison_watch;
mod preparation;
mod retry;
mod shutdown;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::pipeline::delivery::{Attempt, Delivery, Destination};
use crate::pipeline::engine::bad_records::BadRecords;
use crate::pipeline::engine::commit::Confirmation;
use crate::pipeline::engine::health::{Health, reason_of};
use crate::pipeline::engine::in_flight::{Accepted, InFlight, InFlightEvent};
use crate::pipeline::engine::intake::Intake;
use crate::pipeline::engine::partitions::Partitions;
use crate::pipeline::engine::poison_watch::PoisonWatch;
use crate::pipeline::engine::preparation::Preparation;
use crate::pipeline::engine::retry::RetryQueue;
use crate::pipeline::engine::shutdown::Shutdown;
use crate::pipeline::event::{Event, Observer, Tally};
use crate::pipeline::lanes::{BatchLimits, Lanes, Slot, TaggedBatch};
use crate::pipeline::{
    Assignment, BadRecordAction, CircuitBreaker, Commit, ConnectorError, Demand, Failure, Limits, Outcome, Pipeline, Reason,
    Revocation, RunOutcome, RunReport, RunSide, Signal, Sink, Source, backoff, failures,
};
use crate::record::{NextOffset, Partition, Record};

/// Why a run drains that stops at a record.
const AT_BAD_RECORD: &str = "stopped at a bad record";
/// What follows from commits that the group does not accept.
const WAITS_FOR_COMMITS: &str = "nothing new is delivered until the group accepts commits again";

pub(crate) struct Engine<S, K, D> {
    source: S,
    sink: Arc<K>,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
    limits: Limits,
    tally: Tally,
    intake: Intake,
    preparation: Preparation<K>,
    partitions: Partitions,
    lanes: Lanes,
    in_flight: InFlight<K, D>,
    retries: RetryQueue,
    poison: PoisonWatch<K>,
    bad_records: BadRecords,
    confirmation: Confirmation,
    health: Health,
    shutdown: Shutdown,
    /// Partitions that the group took away after the source had ended, before they were delivered: partition, position, stop.
    given_up: Vec<(Partition, NextOffset, NextOffset)>,
    /// The sink rejects everything.
    is_stopped: bool,
}

/// How long the last look may take when a run is interrupted.
const LAST_LOOK_TIMEOUT: Duration = Duration::from_secs(6);

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    pub(crate) fn new(pipeline: Pipeline<S, K, D>) -> Self {
        let Pipeline { source, sink, dead_letters, transform, bad_records, mut limits, observer, stop } = pipeline;
        if limits.commit_each {
            (limits.batch, limits.in_flight) = (1, 1);
        }
        let now = Instant::now();
        let sink = Arc::new(sink);
        let (dead_letters, build) = dead_letters.map(|letters| (Arc::new(letters.sink), letters.build)).unzip();
        let batch = BatchLimits { records: limits.batch, bytes: limits.batch_bytes, linger: limits.linger };
        Self {
            source,
            intake: Intake::new(transform, &limits, now),
            preparation: Preparation::new(Arc::clone(&sink)),
            partitions: Partitions::default(),
            lanes: Lanes::new(sink.ordering(), batch),
            in_flight: InFlight::new(Arc::clone(&sink), dead_letters, &limits),
            retries: RetryQueue::default(),
            poison: PoisonWatch::new(Arc::clone(&sink)),
            bad_records: BadRecords::new(bad_records, CircuitBreaker::new(limits.breaker), build),
            confirmation: Confirmation::default(),
            health: Health::new(Arc::clone(&observer), now),
            shutdown: Shutdown::new(limits.shutdown_timeout),
            given_up: Vec::new(),
            is_stopped: false,
            tally: Tally::default(),
            sink,
            observer,
            stop,
            limits,
        }
    }

    pub(crate) async fn run(mut self) -> RunReport {
        let begun = Instant::now();
        loop {
            self.check_health(Instant::now());
            self.confirm_commits().await;
            self.prepare_sink();
            self.dispatch();
            self.release_revocations();
            if self.is_done() {
                // An outage of the source is waited out even now, until the run is stopped.
                if self.shutdown.is_draining() || self.confirmation.is_over() {
                    break;
                }
                if self.confirmation.request_last(Instant::now()) {
                    continue;
                }
            }
            let (demand, wake) = self.plan(Instant::now());
            tokio::select! {
                biased;
                event = self.in_flight.next() => match event {
                    InFlightEvent::Accepted(accepted) => self.on_accepted(accepted),
                    InFlightEvent::Answered(delivery, outcomes) => self.on_response(delivery, outcomes),
                },
                answer = self.preparation.answer(), if self.preparation.is_running() => self.on_prepared(answer),
                passed = self.poison.result(), if self.poison.is_checking() => self.poison.on_checked(passed),
                () = stop_requested(&mut self.stop), if !self.shutdown.is_draining() => self.end(RunOutcome::Interrupted),
                signal = self.source.next(demand), if !self.intake.source_failed => match signal {
                    Ok(signal) => self.on_signal(signal),
                    Err(error) => self.on_source_failure(error),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish(begun).await
    }

    /// Returns whether nothing is left to do, or no time to do it in.
    fn is_done(&self) -> bool {
        let is_ending = self.intake.is_complete() || self.shutdown.is_draining();
        let is_idle = self.in_flight.open() == 0 && self.lanes.queued() == 0 && self.bad_records.queued() == 0;
        self.shutdown.is_out_of_time(Instant::now()) || (is_ending && is_idle)
    }

    /// Returns what may be read now, and when to look again if nothing happens.
    fn plan(&mut self, now: Instant) -> (Demand, Instant) {
        let mut wake = self.health.check_at(now);
        if let Some(due) = self.confirmation.due() {
            self.intake.restart_wait();
            return (Demand::Signals, wake.min(due));
        }
        let next_batch = self.lanes.due().filter(|_| self.can_begin());
        let next_retry = self.retries.next_due(|destination| self.in_flight.can_send(destination));
        let others = [self.preparation.due(), self.shutdown.deadline(), next_batch, next_retry];
        wake = others.into_iter().flatten().fold(wake, Instant::min);
        let room = if self.shutdown.is_draining() { 0 } else { self.room() };
        let (demand, again) = self.intake.demand(room, now);
        (demand, again.map_or(wake, |again| wake.min(again)))
    }

    /// Returns how many more records may be read.
    fn room(&self) -> usize {
        let bytes = self.lanes.bytes() + self.in_flight.bytes();
        if bytes >= self.limits.batch_bytes.saturating_mul(self.limits.in_flight) {
            return 0;
        }
        let unsettled = usize::try_from(self.tally.unsettled()).unwrap_or(usize::MAX);
        self.limits.batch.saturating_mul(self.limits.in_flight).saturating_sub(unsettled)
    }

    /// Returns whether a new batch may be sent to the sink.
    fn can_begin(&self) -> bool {
        self.preparation.since().is_none() && !self.is_held() && self.in_flight.can_begin(Destination::Sink)
    }

    /// Returns whether new batches wait for a commit. Retries and dead letters do not: a revocation waits for some of
    /// them. Nor does the rest of a run that reads no more: it is bounded, and a drain has no time.
    fn is_held(&self) -> bool {
        self.confirmation.held_since().is_some() && !self.intake.is_complete() && !self.shutdown.is_draining()
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Records(records) => self.on_records(records),
            Signal::Position(positions) => {
                for (partition, position) in positions {
                    self.partitions.advance_to(partition, position);
                }
                self.note_commits();
            }
            Signal::LogEndOffsets(ends) => self.observer.on(&Event::LogEndOffsets(&ends)),
            Signal::Committed(positions) => self.observer.on(&Event::Committed(&positions)),
            Signal::Degraded(reason) => self.health.on_report(RunSide::Source, reason),
            Signal::CommitsDegraded(problem) => self.on_commits_problem(problem),
            Signal::Unassigned(reason) => self.observer.on(&Event::Unassigned(reason)),
            Signal::Assigned(assigned) => self.on_assigned(&assigned),
            Signal::Revoked(revocation) => self.on_revoked(revocation),
            Signal::Lost(partitions) => {
                self.close_partitions(&partitions, true);
                self.partitions.forget_revocations(&partitions);
                self.sink.abandon(&partitions);
            }
            Signal::End => self.intake.end(),
        }
    }

    fn on_commits_problem(&mut self, problem: Option<String>) {
        self.confirmation.hold(problem.is_some(), Instant::now());
        self.health.on_report(RunSide::Commits, problem.map(|reason| format!("{reason}; {WAITS_FOR_COMMITS}")));
    }

    fn on_source_failure(&mut self, error: ConnectorError) {
        self.intake.source_failed = true;
        self.end(RunOutcome::Failed(error));
    }

    fn on_assigned(&mut self, assigned: &[Assignment]) {
        let now = Instant::now();
        let partitions: Vec<Partition> = assigned.iter().map(|assignment| assignment.partition).collect();
        self.partitions.forget_revocations(&partitions);
        for assignment in assigned {
            if self.partitions.is_owned(assignment.partition) {
                self.close_partitions(&[assignment.partition], true);
            }
            self.partitions.assign(assignment);
        }
        if self.in_flight.open() == 0 && self.preparation.since().is_none() {
            self.health.start_clock(now);
        }
        self.preparation.assign(assigned, now);
        self.intake.restart_wait();
        self.observer.on(&Event::Assigned(assigned));
    }

    /// Stops sending records of partitions that a rebalance takes away; they are released when nothing is in flight.
    fn on_revoked(&mut self, revocation: Revocation) {
        self.stop_sending(&revocation.partitions);
        self.partitions.revoke(revocation);
    }

    /// Drops queued records and retries of these partitions.
    fn stop_sending(&mut self, partitions: &[Partition]) {
        let lanes = self.partitions.lanes(partitions);
        self.lanes.discard(|lane| lanes.contains(&lane));
        self.preparation.forget(partitions.iter().copied());
        for (due, mut delivery) in self.retries.take_all() {
            self.partitions.remove_in_flight(delivery.pending_slots());
            delivery.forget(|slot| lanes.contains(&slot.lane));
            self.partitions.add_in_flight(delivery.pending_slots());
            if delivery.next().is_some() {
                self.retries.push(due, delivery);
            } else {
                self.complete(&delivery);
            }
        }
    }

    /// Releases revocations without records in flight.
    fn release_revocations(&mut self) {
        loop {
            // Dead letters that wait for their next attempt may wait for long: the new owner sends them again.
            let is_waiting = self.retries.has_dead_letters();
            let letters = &self.bad_records;
            let Some(revocation) = self.partitions.take_revocation(|lane| !is_waiting && letters.holds(lane)) else { break };
            let commits = self.close_partitions(&revocation.partitions, false);
            revocation.release(commits);
        }
    }

    /// Ends the epoch of these partitions, releases unsettled records, and returns the last commits.
    fn close_partitions(&mut self, partitions: &[Partition], lost: bool) -> Vec<Commit> {
        self.stop_sending(partitions);
        self.bad_records.forget(&self.partitions.lanes(partitions));
        if self.intake.has_source_ended() {
            // Read to the end, not delivered, and not read again: the run is not complete.
            let unreached = self.partitions.unreached(&self.source.stops());
            self.given_up.extend(unreached.into_iter().filter(|(partition, ..)| partitions.contains(partition)));
        }
        let (commits, released) = self.partitions.close(partitions);
        self.tally.released += released;
        self.observer.on(&Event::Released { partitions, lost, records: released });
        self.observer.on(&Event::Progress(&self.tally));
        commits
    }

    /// Tracks, shapes and queues records.
    fn on_records(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        self.tally.read += records.len() as u64;
        let mut admitted = self.intake.admit(records, &mut self.partitions, now);
        self.tally.released += admitted.released;
        self.tally.filtered += admitted.filtered;
        let (bytes, waited, shaping) = (admitted.bytes as u64, admitted.waited, admitted.shaping);
        self.observer.on(&Event::Read { bytes, waited, shaping });
        if !admitted.filtered_offsets.is_empty() {
            self.observer.on(&Event::Filtered(&admitted.filtered_offsets));
        }
        let was_draining = self.shutdown.is_draining();
        let skipped = self.tally.skipped;
        for (at, record, slot, reason) in &admitted.bad {
            self.on_bad_record(record, *slot, reason, 0);
            if self.shutdown.is_draining() {
                // Nothing is sent after a bad record that stops the run: the next run reads it again.
                admitted.batch.truncate(*at);
                break;
            }
        }
        if !was_draining {
            self.lanes.push(admitted.batch, now);
        }
        if admitted.filtered > 0 || self.tally.skipped > skipped {
            self.note_commits();
        }
        self.observer.on(&Event::Progress(&self.tally));
    }

    /// Handles a record that can never be delivered.
    fn on_bad_record(&mut self, record: &Record, slot: Slot, reason: &Reason, attempts: u32) {
        if !self.partitions.is_current(&slot) {
            return;
        }
        let (action, tripped) = self.bad_records.decide(Instant::now());
        if action == BadRecordAction::Stops && !self.shutdown.stops_at(record) {
            return;
        }
        self.observer.on(&Event::Bad { record, reason, action });
        match action {
            BadRecordAction::Skipped => self.tally.skipped += self.partitions.leave_out(slot),
            BadRecordAction::DeadLetter => self.bad_records.set_aside(record, slot, reason, attempts),
            BadRecordAction::Stops => self.end_at(record, failures::bad_record(record, reason, tripped)),
        }
    }

    /// Asks the sink to prepare for partitions that were assigned.
    fn prepare_sink(&mut self) {
        if let Some(answer) = self.preparation.start(Instant::now()) {
            self.on_prepared(answer);
        }
    }

    fn on_prepared(&mut self, answer: Result<(), ConnectorError>) {
        let now = Instant::now();
        match self.preparation.on_answer(answer, |failures| now + backoff(failures, jitter(now))) {
            Ok(None) if self.waiting_since(Destination::Sink).is_none() => self.recover_unused(Destination::Sink),
            Ok(None) => {}
            Ok(Some(reason)) => self.health.stall(RunSide::Target, reason), // meanwhile no new batch is sent
            Err(error) => {
                self.discard_queued();
                self.end(RunOutcome::Failed(error));
            }
        }
    }

    /// Sends due retries and batches.
    fn dispatch(&mut self) {
        if self.confirmation.is_pending() {
            return;
        }
        let now = Instant::now();
        while let Some(delivery) = self.retries.take_due(now, |destination| self.in_flight.can_send(destination)) {
            self.send(delivery, now);
        }
        self.lanes.limit_records(self.in_flight.max_records());
        let flush = self.intake.is_complete() || self.shutdown.is_draining();
        while self.can_begin()
            && let Some(batch) = self.lanes.next(now, flush)
        {
            self.dispatch_batch(Destination::Sink, batch, now);
        }
        if self.bad_records.queued() > 0 && self.in_flight.can_begin(Destination::DeadLetters) {
            let letters = self.bad_records.take_batch();
            self.dispatch_batch(Destination::DeadLetters, letters, now);
        }
    }

    fn dispatch_batch(&mut self, destination: Destination, batch: TaggedBatch, now: Instant) {
        if self.in_flight.open() == 0 {
            self.health.start_clock(now);
        }
        let delivery = self.in_flight.begin(destination, batch, now);
        self.partitions.add_in_flight(delivery.pending_slots());
        self.send(delivery, now);
    }

    fn send(&mut self, delivery: Delivery, now: Instant) {
        self.tally.batches += 1;
        if let Some(accepted) = self.in_flight.send(delivery, now) {
            self.on_accepted(accepted);
        }
    }

    /// Awaits the answers to a batch that was accepted; ends the run if it was refused.
    fn on_accepted(&mut self, accepted: Accepted) {
        if let Err((delivery, error)) = self.in_flight.on_accepted(accepted) {
            self.discard_queued();
            self.end(RunOutcome::Failed(error));
            self.partitions.remove_in_flight(delivery.pending_slots());
            self.complete(&delivery); // its records stay unsettled: the next run reads them again
        }
    }

    /// Takes the answers to an attempt.
    fn on_response(&mut self, mut delivery: Delivery, outcomes: Vec<Outcome>) {
        let now = Instant::now();
        self.partitions.remove_in_flight(delivery.pending_slots());
        let had_failed = self.shutdown.has_failed();
        let (attempt, result) = {
            let gone = |slot: &Slot| !self.partitions.is_current(slot);
            delivery.on_outcomes(outcomes, gone, &mut self.poison.detector, now)
        };
        self.in_flight.on_response(&delivery, &attempt, &result);
        // What comes with a refusal of everything else does not end a stall.
        let has_moved = result.stop.is_none() && (!result.settled.is_empty() || !result.rejected.is_empty());
        if has_moved {
            self.health.on_progress(delivery.destination.into(), now);
        }
        self.settle_answered(delivery.destination, &attempt, &result.settled);
        for (at, reason) in &result.rejected {
            let record = &attempt.batch[*at];
            match delivery.destination {
                Destination::Sink => self.on_bad_record(record, attempt.slots[*at], reason, attempt.number()),
                Destination::DeadLetters => self.end_at(record, failures::rejected_dead_letter(record, reason)),
            }
        }
        if let Some(reason) = &result.bisected {
            self.observer.on(&Event::Bisecting { records: attempt.batch.len(), reason });
        }
        let mut due = now;
        if let Some((records, number, reason)) = &result.retry {
            let pause = backoff(*number, jitter(now));
            self.tally.retried += *records as u64;
            self.observer.on(&Event::Retrying { records: *records, attempt: number + 1, pause, reason });
            let side = RunSide::from(delivery.destination);
            if has_moved {
                self.health.degrade(side, reason);
            } else {
                self.health.on_refused(side, delivery.last_sent, reason);
            }
            due += pause;
        }
        if result.needs_check {
            self.poison.start_check();
        }
        if delivery.destination == Destination::Sink {
            let is_done = delivery.next().is_none() && result.stop.is_none();
            let batch = is_done.then(|| now - delivery.first_sent);
            self.observer.on(&Event::Responded { took: now - delivery.last_sent, batch });
        }
        if let Some(reason) = &result.stop {
            self.is_stopped = true;
            self.end(RunOutcome::Failed(failures::stopped(reason)));
        }
        if self.shutdown.has_failed() && !had_failed {
            self.discard_queued();
        }
        delivery.forget(|slot| !self.partitions.is_wanted(slot));
        self.partitions.add_in_flight(delivery.pending_slots());
        if delivery.next().is_none() {
            self.complete(&delivery);
        } else {
            self.retries.push(due, delivery);
        }
        if self.note_commits() && self.limits.commit_each {
            self.confirmation.request(now);
        }
        self.observer.on(&Event::Progress(&self.tally));
    }

    /// Settles the records of an attempt that are done, by ranges.
    fn settle_answered(&mut self, destination: Destination, attempt: &Attempt, settled: &[(usize, Outcome)]) {
        if self.observer.wants_every_record() {
            for (at, outcome) in settled {
                self.observer.on(&Event::Answered(&attempt.batch[*at], outcome));
            }
        }
        let mut rest = settled;
        while let Some((first, outcome)) = rest.first() {
            let slot = attempt.slots[*first];
            let follows = |(n, (at, other)): (usize, &(usize, Outcome))| {
                let next = attempt.slots[*at];
                next.lane == slot.lane && next.epoch == slot.epoch && next.number == slot.number + n as u64 && other == outcome
            };
            let run = rest.iter().enumerate().take_while(|(n, one)| follows((*n, one))).count();
            let bytes: usize = rest[..run].iter().map(|(at, _)| attempt.batch[*at].bytes()).sum();
            let newly = self.partitions.settle(slot, run as u64);
            if newly > 0 {
                self.tally.on_settled(destination == Destination::DeadLetters, outcome, newly, bytes as u64);
            }
            rest = &rest[run..];
        }
    }

    /// Closes a delivery with nothing left to send.
    fn complete(&mut self, delivery: &Delivery) {
        self.in_flight.complete(delivery);
        if delivery.destination == Destination::Sink {
            self.lanes.release(&delivery.slots);
        }
    }

    /// Tells the source how far each partition may be committed, where that changed; returns whether it did anywhere.
    fn note_commits(&mut self) -> bool {
        let commits = self.partitions.new_commits();
        if commits.is_empty() {
            return false;
        }
        let settled: Vec<_> = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
        self.observer.on(&Event::Settled(&settled));
        self.source.commit(commits);
        true
    }

    /// Asks the broker to confirm everything settled so far, if the next record waits for that; again later if it refuses.
    async fn confirm_commits(&mut self) {
        if self.confirmation.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let flushed = tokio::select! {
            flushed = self.source.flush() => flushed,
            () = stop_requested(&mut self.stop), if !self.shutdown.is_draining() => return self.end(RunOutcome::Interrupted),
        };
        let now = Instant::now();
        match flushed {
            Ok(()) => {
                self.confirmation.clear();
                self.health.recover(RunSide::Commits);
            }
            Err(error) if self.limits.retry_for.is_some_and(|most| self.health.idle(now) > most) => {
                self.confirmation.clear();
                self.discard_queued();
                self.end(RunOutcome::Failed(error));
            }
            Err(error) => {
                // The source reports the reason too, in the words of a side.
                if self.health.reason(RunSide::Commits).is_none() {
                    self.health.stall(RunSide::Commits, error.to_string());
                }
                self.confirmation.retry(|attempt| now + backoff(attempt, jitter(now)));
            }
        }
    }

    /// Checks for stalls and for retries that took too long.
    fn check_health(&mut self, now: Instant) {
        if !self.health.is_check_due(now) {
            return;
        }
        if let Some(refusal) = self.in_flight.refusal().filter(|_| !self.shutdown.has_failed()) {
            self.discard_queued();
            self.end(RunOutcome::Failed(refusal));
        }
        let mut oldest: Option<(Instant, Destination)> = None;
        for destination in [Destination::Sink, Destination::DeadLetters] {
            let Some(since) = self.waiting_since(destination) else {
                self.recover_unused(destination); // what failed was taken away
                continue;
            };
            let in_flight = &self.in_flight;
            self.health.check_stall(now, destination.into(), since, || in_flight.degraded_reason(destination));
            if oldest.is_none_or(|(oldest, _)| since < oldest) {
                oldest = Some((since, destination));
            }
        }
        let Some(most) = self.limits.retry_for.filter(|most| !self.shutdown.is_draining() && self.health.idle(now) > *most)
        else {
            return;
        };
        let held = self.confirmation.held_since().filter(|_| self.is_held() && self.lanes.queued() > 0);
        let reason = if let Some((_, destination)) = oldest.filter(|(oldest, _)| now - *oldest > most) {
            let known = self.in_flight.degraded_reason(destination);
            let reason = known.as_deref().or(self.health.reason(destination.into())).unwrap_or("no response");
            reason_of(destination, reason)
        } else if held.is_some_and(|since| now - since > most) {
            self.health.reason(RunSide::Commits).unwrap_or("no commit").to_owned()
        } else {
            return;
        };
        self.discard_queued();
        self.end(RunOutcome::Failed(failures::gave_up(most, &reason).into()));
        self.shutdown.expire(now);
    }

    /// Notes that nothing waits for a destination. At the end of a run that does not mean that it works again: the run may end
    /// because it does not.
    fn recover_unused(&mut self, destination: Destination) {
        if !self.shutdown.is_draining() {
            self.health.recover(destination.into());
        }
    }

    /// Returns since when something waits for a destination.
    fn waiting_since(&self, destination: Destination) -> Option<Instant> {
        let preparing = self.preparation.since().filter(|_| destination == Destination::Sink);
        [self.in_flight.oldest(destination), preparing].into_iter().flatten().min()
    }

    /// Drops queued records that were never sent: the next run reads them again.
    fn discard_queued(&mut self) {
        self.lanes.discard(|_| true);
    }

    /// Stops reading and starts the clock of the drain.
    fn end(&mut self, outcome: RunOutcome) {
        let why = match &outcome {
            RunOutcome::Interrupted => "interrupted",
            RunOutcome::Complete => "complete",
            RunOutcome::Failed(_) => "failed",
            RunOutcome::Record(_) => AT_BAD_RECORD,
        };
        if self.shutdown.begin(outcome, Instant::now()) {
            self.observer.on(&Event::Draining(why));
        }
    }

    /// As [`Self::end`], because of a record that cannot be delivered; of several in a partition, at the first of its log.
    fn end_at(&mut self, record: &Record, failure: Failure) {
        if self.shutdown.begin_at(record, failure, Instant::now()) {
            self.observer.on(&Event::Draining(AT_BAD_RECORD));
        }
    }

    /// Looks once more at what was written, unless the run failed for a reason of its own.
    async fn last_look(&mut self) -> Result<(), ConnectorError> {
        if let Some(refusal) = self.in_flight.refusal() {
            return Err(refusal);
        }
        let look = self.in_flight.confirm();
        if !self.shutdown.is_draining() || self.is_stopped {
            return look.await;
        }
        // An interrupted run ends well if nothing is left and nothing is known to be wrong.
        let is_healthy = [RunSide::Target, RunSide::DeadLetters].into_iter().all(|side| self.health.reason(side).is_none());
        if self.shutdown.has_failed() || self.partitions.unsettled() > 0 || !is_healthy {
            return Ok(());
        }
        let most = LAST_LOOK_TIMEOUT.min(self.limits.shutdown_timeout);
        tokio::time::timeout(most, look).await.unwrap_or(Ok(()))
    }

    async fn finish(mut self, begun: Instant) -> RunReport {
        self.health.finish();
        self.in_flight.abandon();
        for revocation in self.partitions.take_revocations() {
            let commits = self.close_partitions(&revocation.partitions, false);
            revocation.release(commits);
        }
        self.note_commits();
        let mut unreached = self.partitions.unreached(&self.source.stops());
        unreached.append(&mut self.given_up);
        if !self.shutdown.is_draining() && self.intake.has_source_ended() && !unreached.is_empty() {
            self.end(RunOutcome::Failed(failures::ended_early(&unreached).into()));
        }
        if let Err(refusal) = self.last_look().await {
            self.shutdown.refuse(refusal);
        }
        self.tally.undelivered = self.partitions.unsettled();
        self.tally.assert_balanced();
        let noted = self.partitions.noted();
        let closed = self.source.close().await;
        if closed.is_ok() {
            self.observer.on(&Event::Committed(&noted));
        }
        self.observer.on(&Event::Progress(&self.tally));
        RunReport {
            tally: self.tally,
            outcome: self.shutdown.into_outcome(),
            positions: self.partitions.positions(),
            closed,
            elapsed: begun.elapsed(),
        }
    }
}

/// Returns when a stop is requested; never, if nothing can request it any more.
pub(crate) async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns a number between 0 and 1 that differs from call to call.
pub(crate) fn jitter(now: Instant) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    #[allow(clippy::cast_precision_loss)] // a fraction with 53 random bits
    let fraction = (RandomState::new().hash_one(now) >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}
