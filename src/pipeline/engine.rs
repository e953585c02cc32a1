//! The loop that reads, sends, settles and commits.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::pipeline::chain::{Chain, Destination, Portion};
use crate::pipeline::event::{BadFate, Event, Observer, Tally};
use crate::pipeline::lanes::{BatchLimits, Chunk, Lanes, Tag};
use crate::pipeline::retry::{Breaker, Bucket, pause};
use crate::pipeline::watermark::Watermark;
use crate::pipeline::{
    Answers, Appetite, Assignment, BadRecords, Batch, Commit, EndError, Ending, Failure, Finished, LetterMaker, Limits, Outcome,
    Pipeline, Reason, Revocation, Shaped, Signal, Sink, Source, Transform,
};
use crate::record::{NextOffset, Partition, Record};

/// How often a stall is looked for when nothing else happens.
const LOOK: Duration = Duration::from_millis(500);
/// Without an answer for so long, a run is said to be stalled.
const STALLED: Duration = Duration::from_secs(3);

/// One partition: its present life, or what is left of the last one.
struct Life {
    partition: Partition,
    epoch: u64,
    owned: bool,
    /// A rebalance is taking the partition away: nothing of it is sent any more.
    leaving: bool,
    watermark: Watermark,
    /// What the source was told last.
    noted: NextOffset,
    /// Records of this life that are with a sink, or wait to be sent again.
    out: usize,
}

/// A batch that a destination has not taken yet.
type Submission = Pin<Box<dyn Future<Output = (Chain, Result<Answers, EndError>)> + Send>>;
/// A batch that was taken and is not answered yet.
type Flight = Pin<Box<dyn Future<Output = (Chain, Vec<Outcome>)> + Send>>;

pub(crate) struct Engine<S, K, D> {
    source: S,
    sink: Arc<K>,
    letters: Option<Arc<D>>,
    letter: LetterMaker,
    transform: Option<Transform>,
    bad_records: BadRecords,
    limits: Limits,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,

    lives: Vec<Life>,
    index: HashMap<Partition, usize>,
    lanes: Lanes,
    /// At most one for each destination, so that batches are taken in order.
    submissions: FuturesUnordered<Submission>,
    /// The sink has not taken the last batch yet, so it gets no other.
    pushed_back: bool,
    flights: FuturesUnordered<Flight>,
    flying_since: Vec<Instant>,
    flying_bytes: usize,
    waiting: Vec<(Instant, Chain)>,
    letters_queue: Chunk,
    letters_flying: bool,
    revocations: Vec<Revocation>,
    breaker: Breaker,
    bucket: Option<Bucket>,
    tally: Tally,
    /// Nothing more is to be read.
    ended: bool,
    /// The source failed and is not asked any more.
    deaf: bool,
    ending: Option<Ending>,
    deadline: Option<Instant>,
    /// Whether a destination is in trouble.
    troubled: bool,
    /// What the source said is wrong with it.
    source_trouble: Option<String>,
    last_answer: Instant,
    /// With `--commit-each`: when to ask for the confirmation that the next record waits for, and which attempt that is.
    unconfirmed: Option<(Instant, u32)>,
    /// Whether everything is done but for the last confirmation.
    asked_last: bool,
    /// When to look for stalls again, whatever else happens.
    look_at: Instant,
}

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    pub(crate) fn new(pipeline: Pipeline<S, K, D>) -> Self {
        let Pipeline { source, sink, dead_letters, transform, bad_records, mut limits, observer, stop } = pipeline;
        if limits.commit_each {
            (limits.batch, limits.in_flight) = (1, 1);
        }
        let now = Instant::now();
        let batch = BatchLimits { records: limits.batch, bytes: limits.batch_bytes, linger: limits.linger };
        let (letters, letter) = match dead_letters {
            Some(dead_letters) => (Some(Arc::new(dead_letters.sink)), dead_letters.letter),
            None => (None, Box::new(|record: &Record, _: &Reason, _| record.clone()) as Box<_>),
        };
        Self {
            source,
            lanes: Lanes::new(sink.ordering(), batch),
            sink: Arc::new(sink),
            letters,
            letter,
            transform,
            bad_records,
            observer,
            stop,
            lives: Vec::new(),
            index: HashMap::new(),
            submissions: FuturesUnordered::new(),
            pushed_back: false,
            flights: FuturesUnordered::new(),
            flying_since: Vec::new(),
            flying_bytes: 0,
            waiting: Vec::new(),
            letters_queue: Chunk::default(),
            letters_flying: false,
            revocations: Vec::new(),
            breaker: Breaker::new(limits.breaker),
            bucket: limits.rate.map(|rate| Bucket::new(rate, now)),
            tally: Tally::default(),
            ended: limits.count == Some(0),
            deaf: false,
            ending: None,
            deadline: None,
            troubled: false,
            source_trouble: None,
            last_answer: now,
            unconfirmed: None,
            asked_last: false,
            look_at: now + LOOK,
            limits,
        }
    }

    pub(crate) async fn run(mut self) -> Finished {
        let begun = Instant::now();
        loop {
            self.look(Instant::now());
            self.confirm().await;
            self.dispatch();
            self.release_revocations();
            if self.is_done() {
                // An outage of the source is waited out even now, until the run is told to stop.
                if self.ending.is_some() || (self.asked_last && self.unconfirmed.is_none()) {
                    break;
                }
                if !std::mem::replace(&mut self.asked_last, true) {
                    self.unconfirmed = Some((Instant::now(), 1));
                    continue;
                }
            }
            let (appetite, wake) = self.plan(Instant::now());
            tokio::select! {
                biased;
                Some((chain, outcomes)) = self.flights.next() => self.land(chain, outcomes),
                Some((chain, submitted)) = self.submissions.next() => self.taken(chain, submitted),
                () = told(&mut self.stop), if self.ending.is_none() => self.end(Ending::Interrupted),
                signal = self.source.next(appetite), if !self.deaf => match signal {
                    Ok(signal) => self.hear(signal),
                    Err(error) => {
                        self.deaf = true;
                        self.end(Ending::Failed(error));
                    }
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        self.finish(begun).await
    }

    /// Returns whether anything that was read waits or is on its way.
    fn has_business(&self) -> bool {
        self.under_way() > 0 || self.lanes.queued() > 0 || self.letters_queue.len() > 0
    }

    /// Returns the number of batches that are with a destination or wait to be sent again.
    fn under_way(&self) -> usize {
        self.submissions.len() + self.flights.len() + self.waiting.len()
    }

    /// Returns whether a destination can be given a batch.
    fn is_open(&self, destination: Destination) -> bool {
        destination == Destination::DeadLetters || !self.pushed_back
    }

    fn is_done(&self) -> bool {
        let out_of_time = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        out_of_time || ((self.ended || self.ending.is_some()) && !self.has_business())
    }

    /// Returns what may be read now, and when to look again if nothing happens.
    fn plan(&mut self, now: Instant) -> (Appetite, Instant) {
        if let Some((due, _)) = self.unconfirmed {
            return (Appetite::Signals, self.look_at.min(due));
        }
        let mut wake = self.look_at;
        if self.is_open(Destination::Sink) && self.under_way() < self.limits.in_flight {
            wake = self.lanes.due().map_or(wake, |due| wake.min(due));
        }
        let again = self.waiting.iter().filter(|(_, chain)| self.is_open(chain.destination)).map(|(due, _)| *due);
        wake = again.chain(self.deadline).fold(wake, Instant::min);
        if self.ended || self.ending.is_some() {
            return (Appetite::Signals, wake);
        }
        let unsettled = usize::try_from(self.tally.unsettled()).expect("records that wait fit in memory");
        let room = (self.limits.batch * self.limits.in_flight).saturating_sub(unsettled);
        let bytes = self.lanes.bytes() + self.flying_bytes;
        if room == 0 || bytes >= self.limits.batch_bytes * self.limits.in_flight {
            return (Appetite::Signals, wake);
        }
        let left = self.limits.count.map_or(u64::MAX, |count| count - self.tally.read);
        let most = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        match self.bucket.as_mut().map(|bucket| bucket.allowance(now)) {
            None => (Appetite::Records(most), wake),
            Some(Ok(allowed)) => (Appetite::Records(most.min(allowed)), wake),
            Some(Err(again)) => (Appetite::Signals, wake.min(again)),
        }
    }

    /// Sends what is due.
    fn dispatch(&mut self) {
        if self.unconfirmed.is_some() {
            return;
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some((due, chain)) = self.waiting.get(at) {
            if *due <= now && self.is_open(chain.destination) {
                let (_, chain) = self.waiting.swap_remove(at);
                self.send(chain);
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

    fn lift_off(&mut self, destination: Destination, chunk: Chunk, now: Instant) {
        if self.under_way() == 0 {
            self.last_answer = now; // nothing was awaited, so nothing was late
        }
        self.flying_bytes += chunk.bytes;
        self.flying_since.push(now);
        let chain = Chain::new(destination, chunk, now);
        self.count_out(&chain, 1);
        self.send(chain);
    }

    /// Counts what a chain has still to send as out (1), or no more (-1).
    fn count_out(&mut self, chain: &Chain, sign: isize) {
        for tag in chain.waiting() {
            let life = &mut self.lives[tag.lane];
            if life.epoch == tag.epoch {
                life.out = life.out.checked_add_signed(sign).expect("what is out was counted when it went out");
            }
        }
    }

    /// Sends the next portion of a chain; in order with every other portion.
    fn send(&mut self, chain: Chain) {
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
    fn taken(&mut self, chain: Chain, submitted: Result<Answers, EndError>) {
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
    fn land(&mut self, mut chain: Chain, outcomes: Vec<Outcome>) {
        let now = Instant::now();
        self.count_out(&chain, -1);
        let had_failed = self.has_failed();
        let (portion, verdict) = chain.answered(outcomes);
        if !verdict.settled.is_empty() || !verdict.rejected.is_empty() {
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
            again = now + pause;
        }
        if let Some(reason) = verdict.stop {
            let mut failure = Failure::new("the destination takes nothing until something is changed there").because(&reason);
            failure.hint = reason.hinted().map(ToOwned::to_owned);
            self.end(Ending::Failed(failure.into()));
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
    fn settle_answered(&mut self, destination: Destination, portion: &Portion, settled: &[(usize, Outcome)]) {
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

    /// Settles `count` records from `tag` on, if they belong to the present life of their partition.
    fn settle(&mut self, tag: Tag, count: u64) -> u64 {
        if !self.is_alive(&tag) {
            return 0;
        }
        self.lives[tag.lane].watermark.settle(tag.number..tag.number + count) as u64
    }

    fn is_alive(&self, tag: &Tag) -> bool {
        let life = &self.lives[tag.lane];
        life.owned && life.epoch == tag.epoch
    }

    /// Deals with a record that can never be delivered.
    fn bad(&mut self, record: &Record, tag: Tag, reason: &Reason, attempts: u32) {
        if !self.is_alive(&tag) {
            return;
        }
        let fate = match self.bad_records {
            BadRecords::Stop => BadFate::Stops,
            BadRecords::Skip => BadFate::Skipped,
            BadRecords::DeadLetters => BadFate::DeadLetter,
        };
        let tripped = fate != BadFate::Stops && self.breaker.trips(Instant::now());
        let fate = if tripped { BadFate::Stops } else { fate };
        if fate == BadFate::Stops && self.has_failed() {
            return; // the run stops at the first, and that has been told
        }
        self.observer.on(&Event::Bad { record, reason, fate });
        match fate {
            BadFate::Skipped => self.tally.skipped += self.settle(tag, 1),
            BadFate::DeadLetter => self.letters_queue.push((self.letter)(record, reason, attempts), tag),
            BadFate::Stops => {
                let what = if tripped {
                    format!("too many bad records: the limit of --dead-letter-limit was reached at record {record}")
                } else {
                    format!("record {record} cannot be delivered")
                };
                let hint = if tripped {
                    "look at the dead letters: what is wrong with them is probably one thing; then start again"
                } else {
                    reason.hinted().unwrap_or(
                        "set bad records aside with --dead-letters topic:NAME or file:PATH, or leave them out with --skip-bad-records",
                    )
                };
                let code = format!("{reason} ({})", reason.code());
                self.end(Ending::Record(Failure::new(what).because(code).hint(hint)));
            }
        }
    }

    /// Ends the accounts of a chain that has nothing left to send.
    fn retire(&mut self, chain: &Chain) {
        self.flying_bytes -= chain.bytes;
        if let Some(at) = self.flying_since.iter().position(|since| *since == chain.since) {
            self.flying_since.swap_remove(at);
        }
        match chain.destination {
            Destination::Sink => self.lanes.back(&chain.whole),
            Destination::DeadLetters => self.letters_flying = false,
        }
    }

    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::Records(records) => self.read(records),
            Signal::Position(positions) => {
                for (partition, position) in positions {
                    // Of a partition that is going, records before the position may have been released unread.
                    if let Some(life) = self.owned(partition).filter(|life| !life.leaving) {
                        life.watermark.pass(position);
                    }
                }
                self.note_commits();
            }
            Signal::Ends(ends) => self.observer.on(&Event::Ends(&ends)),
            Signal::Committed(positions) => self.observer.on(&Event::Committed(&positions)),
            Signal::Trouble(trouble) => {
                if trouble.is_some() || !self.troubled {
                    self.observer.on(&Event::Trouble(trouble.as_deref()));
                }
                self.source_trouble = trouble;
            }
            Signal::Assigned(assigned) => self.assign(&assigned),
            Signal::Revoked(revocation) => {
                let lanes: Vec<usize> = revocation.partitions.iter().filter_map(|p| self.index.get(p).copied()).collect();
                self.lanes.forget(|lane| lanes.contains(&lane));
                for lane in &lanes {
                    self.lives[*lane].leaving = true;
                }
                self.drop_waiting(&lanes);
                self.revocations.push(revocation);
            }
            Signal::Lost(partitions) => {
                self.close_lives(&partitions, true);
                self.forget_revocations(&partitions);
            }
            Signal::End => self.ended = true,
        }
    }

    fn owned(&mut self, partition: Partition) -> Option<&mut Life> {
        let lane = *self.index.get(&partition)?;
        Some(&mut self.lives[lane]).filter(|life| life.owned)
    }

    /// Takes partitions out of the revocations that are waited for: what they asked for has been overtaken.
    fn forget_revocations(&mut self, partitions: &[Partition]) {
        for revocation in &mut self.revocations {
            revocation.partitions.retain(|partition| !partitions.contains(partition));
        }
        self.revocations.retain(|revocation| !revocation.partitions.is_empty());
    }

    /// Begins a life for each partition.
    fn assign(&mut self, assigned: &[Assignment]) {
        let partitions: Vec<Partition> = assigned.iter().map(|assignment| assignment.partition).collect();
        self.forget_revocations(&partitions);
        for Assignment { partition, start, last, .. } in assigned {
            if self.owned(*partition).is_some() {
                self.close_lives(&[*partition], true);
            }
            let lane = *self.index.entry(*partition).or_insert(self.lives.len());
            let epoch = self.lives.get(lane).map_or(0, |life| life.epoch + 1);
            let watermark = Watermark::new(*start, *last);
            let life = Life { partition: *partition, epoch, owned: true, leaving: false, watermark, noted: *start, out: 0 };
            if lane == self.lives.len() { self.lives.push(life) } else { self.lives[lane] = life }
        }
        self.observer.on(&Event::Assigned(assigned));
    }

    /// Takes records into account, shapes them, and queues them.
    fn read(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        let mut chunk = Chunk::default();
        chunk.records.reserve(records.len());
        chunk.tags.reserve(records.len());
        let (count, mut bytes) = (records.len(), 0);
        let is_reading = self.ending.is_none();
        let settled = self.tally.filtered + self.tally.skipped;
        self.tally.read += count as u64;
        let mut current: Option<(Partition, usize)> = None;
        let mut records = records.into_iter().peekable();
        while let Some(mut record) = records.next() {
            let lane = match current {
                Some((partition, lane)) if partition == record.partition => lane,
                _ => *self.index.get(&record.partition).expect("a source assigns a partition before its records"),
            };
            current = Some((record.partition, lane));
            let life = &mut self.lives[lane];
            if !life.owned || life.leaving {
                // Read before the rebalance was heard of: the new owner reads it again.
                self.tally.released += 1;
                continue;
            }
            let tag = Tag { lane, epoch: life.epoch, number: life.watermark.take(record.offset) };
            if records.peek().is_none_or(|next| next.partition != record.partition) {
                life.watermark.mark(record.fingerprint());
            }
            bytes += record.bytes();
            match self.transform.as_ref().map_or(Shaped::Keep, |transform| transform(&mut record)) {
                // Behind a bad record that stops the run nothing is sent: the next run reads it again.
                Shaped::Keep if self.ending.is_some() => {}
                Shaped::Keep => chunk.push(record, tag),
                Shaped::Filtered => self.tally.filtered += self.settle(tag, 1),
                Shaped::Bad(reason) => self.bad(&record, tag, &reason, 0),
            }
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(count, bytes);
        }
        if is_reading {
            self.lanes.push(chunk, now);
        }
        self.ended |= self.limits.count.is_some_and(|most| self.tally.read >= most);
        if self.tally.filtered + self.tally.skipped > settled {
            self.note_commits();
        }
        self.observer.on(&Event::Progress(&self.tally));
    }

    /// Tells the source how far each partition may be committed, where that changed; returns whether it did anywhere.
    fn note_commits(&mut self) -> bool {
        let mut commits = Vec::new();
        for life in self.lives.iter_mut().filter(|life| life.owned && life.watermark.next() != life.noted) {
            life.noted = life.watermark.next();
            commits.push(Commit { partition: life.partition, next: life.noted, last: life.watermark.last() });
        }
        if commits.is_empty() {
            return false;
        }
        let settled: Vec<_> = commits.iter().map(|commit| (commit.partition, commit.next)).collect();
        self.observer.on(&Event::Settled(&settled));
        self.source.commit(commits);
        true
    }

    /// Asks the broker to confirm everything settled so far, if the next record waits for that; again later if it refuses.
    async fn confirm(&mut self) {
        let Some((_, attempt)) = self.unconfirmed.filter(|(due, _)| *due <= Instant::now()) else { return };
        let flushed = tokio::select! {
            flushed = self.source.flush() => flushed,
            () = told(&mut self.stop), if self.ending.is_none() => return self.end(Ending::Interrupted),
        };
        let Err(error) = flushed else {
            self.unconfirmed = None;
            return self.clear_trouble();
        };
        if self.limits.retry_for.is_some_and(|most| self.last_answer.elapsed() > most) {
            self.unconfirmed = None;
            self.lanes.forget(|_| true); // nothing more can be sent
            return self.end(Ending::Failed(error));
        }
        self.trouble(&error.to_string());
        let now = Instant::now();
        self.unconfirmed = Some((now + pause(attempt, jitter(now)), attempt + 1));
    }

    /// Lets rebalances go on whose partitions have nothing in flight any more.
    fn release_revocations(&mut self) {
        let mut at = 0;
        while at < self.revocations.len() {
            let partitions = &self.revocations[at].partitions;
            let busy = partitions.iter().filter_map(|p| self.index.get(p)).any(|lane| self.lives[*lane].out > 0);
            if busy || self.letters_wait_for(at) {
                at += 1;
                continue;
            }
            let revocation = self.revocations.swap_remove(at);
            let commits = self.close_lives(&revocation.partitions, false);
            revocation.release(commits);
        }
    }

    fn letters_wait_for(&self, revocation: usize) -> bool {
        // Letters that wait for their next attempt may wait for long: they are sent again by the new owner.
        if self.waiting.iter().any(|(_, chain)| chain.destination == Destination::DeadLetters) {
            return false;
        }
        let partitions = &self.revocations[revocation].partitions;
        let lanes: Vec<usize> = partitions.iter().filter_map(|p| self.index.get(p).copied()).collect();
        self.letters_queue.tags.iter().any(|tag| lanes.contains(&tag.lane))
    }

    /// Ends the lives of these partitions and returns their last commits; what is unsettled is released.
    fn close_lives(&mut self, partitions: &[Partition], lost: bool) -> Vec<Commit> {
        let lanes: Vec<usize> = partitions.iter().filter_map(|partition| self.index.get(partition).copied()).collect();
        self.lanes.forget(|lane| lanes.contains(&lane));
        let mut commits = Vec::new();
        let mut released = 0;
        for lane in &lanes {
            let life = &mut self.lives[*lane];
            if life.owned {
                released += life.watermark.unsettled() as u64;
                life.owned = false;
                commits.push(Commit { partition: life.partition, next: life.watermark.next(), last: life.watermark.last() });
            }
        }
        self.drop_waiting(&lanes);
        let mut letters = std::mem::take(&mut self.letters_queue);
        letters.retain(|tag| !lanes.contains(&tag.lane));
        self.letters_queue = letters;
        // The life is over: what is still out must not count for the next one.
        for lane in lanes {
            let life = &mut self.lives[lane];
            life.epoch += 1;
            life.out = 0;
            life.watermark = Watermark::new(life.watermark.next(), None);
        }
        self.tally.released += released;
        self.observer.on(&Event::Released { partitions, lost, records: released });
        commits
    }

    /// Takes records of these lanes out of what waits to be sent again.
    fn drop_waiting(&mut self, lanes: &[usize]) {
        for (due, mut chain) in std::mem::take(&mut self.waiting) {
            self.count_out(&chain, -1);
            chain.forget(|tag| lanes.contains(&tag.lane));
            self.count_out(&chain, 1);
            if chain.next().is_some() {
                self.waiting.push((due, chain));
            } else {
                self.retire(&chain);
            }
        }
    }

    /// Looks for what time alone changes: stalls, and retries that took too long.
    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let Some(oldest) = self.flying_since.iter().min().copied() else {
            if self.unconfirmed.is_none() {
                self.clear_trouble(); // what failed was taken away
            }
            return;
        };
        if self.last_answer.elapsed() > STALLED && !self.troubled {
            let why = self.sink.trouble().unwrap_or_else(|| "the destination does not answer".to_owned());
            self.trouble(&why);
        }
        if self.ending.is_none()
            && let Some(most) = self.limits.retry_for
            && oldest.elapsed() > most
            && self.last_answer.elapsed() > most
        {
            let why = self.sink.trouble().unwrap_or_else(|| "no record was taken".to_owned());
            let what = format!("gave up after {} without a delivery (--retry-for)", humantime::format_duration(most));
            self.lanes.forget(|_| true); // nothing more can be sent
            self.end(Ending::Failed(Failure::new(what).because(why).hint("start again when the destination is back").into()));
            self.deadline = Some(Instant::now());
        }
    }

    fn trouble(&mut self, trouble: &str) {
        self.troubled = true;
        self.observer.on(&Event::Trouble(Some(trouble)));
    }

    /// The destinations are well; what is wrong with the source is told again.
    fn clear_trouble(&mut self) {
        if std::mem::take(&mut self.troubled) {
            self.observer.on(&Event::Trouble(self.source_trouble.as_deref()));
        }
    }

    /// Returns whether the run ends for another reason than that it is done or was told to.
    fn has_failed(&self) -> bool {
        matches!(self.ending, Some(Ending::Failed(_) | Ending::Record(_)))
    }

    /// Stops reading and starts the clock of the drain. The first reason counts, but a failure counts more than an interrupt.
    fn end(&mut self, ending: Ending) {
        if self.has_failed() {
            return;
        }
        let why = match &ending {
            Ending::Interrupted => "interrupted",
            Ending::Complete => "complete",
            Ending::Failed(_) => "failed",
            Ending::Record(_) => "stopped at a bad record",
        };
        self.observer.on(&Event::Draining(why));
        self.ending = Some(ending);
        self.deadline.get_or_insert_with(|| Instant::now() + self.limits.shutdown_timeout);
    }

    async fn finish(mut self, begun: Instant) -> Finished {
        self.submissions.clear();
        self.flights.clear();
        for revocation in std::mem::take(&mut self.revocations) {
            let commits = self.close_lives(&revocation.partitions, false);
            revocation.release(commits);
        }
        self.note_commits();
        self.tally.undelivered = self.lives.iter().map(|life| life.watermark.unsettled() as u64).sum();
        self.tally.assert_balanced();
        let mut positions: Vec<_> = self.lives.iter().map(|life| (life.partition, life.watermark.next())).collect();
        positions.sort_unstable();
        let owned: Vec<_> = self.lives.iter().filter(|life| life.owned).map(|life| (life.partition, life.noted)).collect();
        let closed = self.source.close().await;
        if closed.is_ok() {
            self.observer.on(&Event::Committed(&owned));
        }
        self.observer.on(&Event::Progress(&self.tally));
        Finished {
            tally: self.tally,
            ending: self.ending.unwrap_or(Ending::Complete),
            positions,
            closed,
            elapsed: begun.elapsed(),
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

/// Returns when the run is told to stop; never, if nobody is there to tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns a number between 0 and 1 that differs from call to call; spreading retries needs no more than that.
fn jitter(now: Instant) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    #[allow(clippy::cast_precision_loss)] // a fraction with 53 random bits
    let fraction = (RandomState::new().hash_one(now) >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}
