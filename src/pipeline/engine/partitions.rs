//! Partitions that come and go.

use tokio::time::Instant;

use crate::pipeline::delivery::Destination;
use crate::pipeline::engine::{Engine, PartitionState};
use crate::pipeline::event::Event;
use crate::pipeline::watermark::Watermark;
use crate::pipeline::{Assignment, Commit, Signal, Sink, Source};
use crate::record::Partition;

impl<S: Source, K: Sink + 'static, D: Sink + 'static> Engine<S, K, D> {
    pub(super) fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Records(records) => self.on_records(records),
            Signal::Position(positions) => {
                for (partition, position) in positions {
                    // Of a partition that is going, records before the position may have been released unread.
                    if let Some(life) = self.owned(partition).filter(|life| !life.revoking) {
                        life.watermark.advance_to(position);
                    }
                }
                self.note_commits();
            }
            Signal::LogEndOffsets(ends) => self.observer.on(&Event::LogEndOffsets(&ends)),
            Signal::Committed(positions) => self.observer.on(&Event::Committed(&positions)),
            Signal::Degraded(trouble) => {
                if trouble.is_some() || !self.troubled {
                    self.observer.on(&Event::Degraded(trouble.as_deref()));
                }
                self.source_trouble = trouble;
            }
            Signal::Assigned(assigned) => self.assign(&assigned),
            Signal::Revoked(revocation) => {
                let lanes: Vec<usize> = revocation.partitions.iter().filter_map(|p| self.index.get(p).copied()).collect();
                self.lanes.discard(|lane| lanes.contains(&lane));
                for lane in &lanes {
                    self.partitions[*lane].revoking = true;
                }
                self.drop_waiting(&lanes);
                self.preparation.forget(revocation.partitions.iter().copied());
                self.revocations.push(revocation);
            }
            Signal::Lost(partitions) => {
                self.close_lives(&partitions, true);
                self.forget_revocations(&partitions);
            }
            Signal::End => self.ended = true,
        }
    }

    pub(super) fn owned(&mut self, partition: Partition) -> Option<&mut PartitionState> {
        let lane = *self.index.get(&partition)?;
        Some(&mut self.partitions[lane]).filter(|life| life.owned)
    }

    /// Takes partitions out of the revocations that are waited for: what they asked for has been overtaken.
    pub(super) fn forget_revocations(&mut self, partitions: &[Partition]) {
        for revocation in &mut self.revocations {
            revocation.partitions.retain(|partition| !partitions.contains(partition));
        }
        self.revocations.retain(|revocation| !revocation.partitions.is_empty());
    }

    /// Begins a life for each partition.
    pub(super) fn assign(&mut self, assigned: &[Assignment]) {
        let partitions: Vec<Partition> = assigned.iter().map(|assignment| assignment.partition).collect();
        self.forget_revocations(&partitions);
        for Assignment { partition, start, fingerprint: last, .. } in assigned {
            if self.owned(*partition).is_some() {
                self.close_lives(&[*partition], true);
            }
            let lane = *self.index.entry(*partition).or_insert(self.partitions.len());
            let epoch = self.partitions.get(lane).map_or(0, |life| life.epoch + 1);
            let watermark = Watermark::new(*start, *last);
            let life = PartitionState {
                partition: *partition,
                epoch,
                owned: true,
                revoking: false,
                watermark,
                noted: *start,
                in_flight: 0,
            };
            if lane == self.partitions.len() { self.partitions.push(life) } else { self.partitions[lane] = life }
        }
        self.preparation.assign(assigned, Instant::now());
        self.wanting = None;
        self.observer.on(&Event::Assigned(assigned));
    }

    /// Lets rebalances go on whose partitions have nothing in flight any more.
    pub(super) fn release_revocations(&mut self) {
        let mut at = 0;
        while at < self.revocations.len() {
            let partitions = &self.revocations[at].partitions;
            let busy = partitions.iter().filter_map(|p| self.index.get(p)).any(|lane| self.partitions[*lane].in_flight > 0);
            if busy || self.letters_wait_for(at) {
                at += 1;
                continue;
            }
            let revocation = self.revocations.swap_remove(at);
            let commits = self.close_lives(&revocation.partitions, false);
            revocation.release(commits);
        }
    }

    pub(super) fn letters_wait_for(&self, revocation: usize) -> bool {
        // Letters that wait for their next attempt may wait for long: they are sent again by the new owner.
        if self.waiting.iter().any(|(_, chain)| chain.destination == Destination::DeadLetters) {
            return false;
        }
        let partitions = &self.revocations[revocation].partitions;
        let lanes: Vec<usize> = partitions.iter().filter_map(|p| self.index.get(p).copied()).collect();
        self.letters_queue.slots.iter().any(|tag| lanes.contains(&tag.lane))
    }

    /// Ends the lives of these partitions and returns their last commits; what is unsettled is released.
    pub(super) fn close_lives(&mut self, partitions: &[Partition], lost: bool) -> Vec<Commit> {
        let lanes: Vec<usize> = partitions.iter().filter_map(|partition| self.index.get(partition).copied()).collect();
        self.lanes.discard(|lane| lanes.contains(&lane));
        self.preparation.forget(partitions.iter().copied());
        let mut commits = Vec::new();
        let mut released = 0;
        for lane in &lanes {
            let life = &mut self.partitions[*lane];
            if life.owned {
                released += life.watermark.unsettled() as u64;
                life.owned = false;
                commits.push(Commit {
                    partition: life.partition,
                    next: life.watermark.next(),
                    fingerprint: life.watermark.last(),
                });
            }
        }
        self.drop_waiting(&lanes);
        let mut letters = std::mem::take(&mut self.letters_queue);
        letters.retain(|tag| !lanes.contains(&tag.lane));
        self.letters_queue = letters;
        // The life is over: what is still out must not count for the next one.
        for lane in lanes {
            let life = &mut self.partitions[lane];
            life.epoch += 1;
            life.in_flight = 0;
            life.watermark = Watermark::new(life.watermark.next(), None);
        }
        self.tally.released += released;
        self.observer.on(&Event::Released { partitions, lost, records: released });
        self.observer.on(&Event::Progress(&self.tally));
        commits
    }

    /// Takes records of these lanes out of what waits to be sent again.
    pub(super) fn drop_waiting(&mut self, lanes: &[usize]) {
        for (due, mut chain) in std::mem::take(&mut self.waiting) {
            self.count_out(&chain, -1);
            chain.forget(|tag| lanes.contains(&tag.lane));
            self.count_out(&chain, 1);
            if chain.next().is_some() {
                self.waiting.push((due, chain));
            } else {
                self.complete(&chain);
            }
        }
    }
}
