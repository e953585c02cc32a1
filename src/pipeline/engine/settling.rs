//! From a record that was read to a commit.

use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::engine::{Engine, jitter, stop_requested};
use crate::pipeline::event::{BadRecordAction, Event};
use crate::pipeline::lanes::{Slot, TaggedBatch};
use crate::pipeline::{Commit, Reason, RunOutcome, Sink, Source, TransformResult, backoff, bad_records};
use crate::record::{Partition, Record};

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    /// Takes records into account, shapes them, and queues them.
    pub(super) fn on_records(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        let mut chunk = TaggedBatch::default();
        chunk.records.reserve(records.len());
        chunk.slots.reserve(records.len());
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
            bytes += record.bytes();
            let life = &mut self.partitions[lane];
            if !life.owned || life.revoking {
                // Read before the rebalance was heard of: the new owner reads it again.
                self.tally.released += 1;
                continue;
            }
            let tag = Slot { lane, epoch: life.epoch, number: life.watermark.track(record.offset) };
            if records.peek().is_none_or(|next| next.partition != record.partition) {
                life.watermark.mark(record.fingerprint());
            }
            match self.transform.as_ref().map_or(TransformResult::Keep, |transform| transform(&mut record)) {
                // Behind a bad record that stops the run nothing is sent: the next run reads it again.
                TransformResult::Keep if self.ending.is_some() => {}
                TransformResult::Keep => chunk.push(record, tag),
                TransformResult::Filtered => self.tally.filtered += self.settle(tag, 1),
                TransformResult::Bad(reason) => self.on_bad_record(&record, tag, &reason, 0),
            }
        }
        let waited = self.wanting.take().map_or(Duration::ZERO, |since| now - since);
        let shaping = self.transform.is_some().then(|| now.elapsed());
        self.observer.on(&Event::Read { bytes: bytes as u64, waited, shaping });
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

    /// Settles `count` records from `tag` on, if they belong to the present life of their partition.
    pub(super) fn settle(&mut self, tag: Slot, count: u64) -> u64 {
        if !self.is_alive(&tag) {
            return 0;
        }
        self.partitions[tag.lane].watermark.settle(tag.number..tag.number + count) as u64
    }

    pub(super) fn is_alive(&self, tag: &Slot) -> bool {
        let life = &self.partitions[tag.lane];
        life.owned && life.epoch == tag.epoch
    }

    /// Deals with a record that can never be delivered.
    pub(super) fn on_bad_record(&mut self, record: &Record, tag: Slot, reason: &Reason, attempts: u32) {
        if !self.is_alive(&tag) {
            return;
        }
        let (fate, tripped) = bad_records::fate(self.bad_records, &mut self.breaker, Instant::now());
        if fate == BadRecordAction::Stops && self.has_failed() {
            return; // the run stops at the first, and that has been told
        }
        self.observer.on(&Event::Bad { record, reason, fate });
        match fate {
            BadRecordAction::Skipped => self.tally.skipped += self.settle(tag, 1),
            BadRecordAction::DeadLetter => self.letters_queue.push((self.letter)(record, reason, attempts), tag),
            BadRecordAction::Stops => {
                self.end(RunOutcome::Record(bad_records::stop(record, reason, tripped)));
            }
        }
    }

    /// Tells the source how far each partition may be committed, where that changed; returns whether it did anywhere.
    pub(super) fn note_commits(&mut self) -> bool {
        let mut commits = Vec::new();
        for life in self.partitions.iter_mut().filter(|life| life.owned && life.watermark.next() != life.noted) {
            life.noted = life.watermark.next();
            commits.push(Commit { partition: life.partition, next: life.noted, fingerprint: life.watermark.last() });
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
    pub(super) async fn confirm(&mut self) {
        let Some((_, attempt)) = self.unconfirmed.filter(|(due, _)| *due <= Instant::now()) else { return };
        let flushed = tokio::select! {
            flushed = self.source.flush() => flushed,
            () = stop_requested(&mut self.stop), if self.ending.is_none() => return self.end(RunOutcome::Interrupted),
        };
        let Err(error) = flushed else {
            self.unconfirmed = None;
            return self.clear_trouble();
        };
        if self.limits.retry_for.is_some_and(|most| self.last_answer.elapsed() > most) {
            self.unconfirmed = None;
            self.lanes.discard(|_| true); // nothing more can be sent
            return self.end(RunOutcome::Failed(error));
        }
        self.trouble(&error.to_string());
        let now = Instant::now();
        self.unconfirmed = Some((now + backoff(attempt, jitter(now)), attempt + 1));
    }
}
