//! The partitions of a run: owned, being revoked, or gone.

use std::collections::HashMap;

use crate::pipeline::lanes::Slot;
use crate::pipeline::watermark::Watermark;
use crate::pipeline::{Assignment, Commit, Revocation};
use crate::record::{Fingerprint, NextOffset, Partition};

/// One partition from assignment to assignment.
struct PartitionState {
    partition: Partition,
    /// Incremented at assignment and at revocation: records sent in another epoch settle nothing.
    epoch: u64,
    owned: bool,
    /// A rebalance is revoking the partition: nothing more of it is sent.
    revoking: bool,
    watermark: Watermark,
    /// The last commit that the source was given.
    noted: NextOffset,
    /// Records of this epoch in flight or waiting for a retry.
    in_flight: usize,
    /// Records of this epoch that were settled without a delivery: filtered or skipped.
    left_out: u64,
}

impl PartitionState {
    fn commit(&self) -> Commit {
        let delivered = self.watermark.passed().saturating_sub(self.left_out);
        Commit { partition: self.partition, next: self.watermark.next(), fingerprint: self.watermark.last(), delivered }
    }
}

/// Every partition that was assigned in this run, and the revocations that wait for records in flight.
#[derive(Default)]
pub(super) struct Partitions {
    /// By lane; a partition keeps its lane when it is assigned again.
    states: Vec<PartitionState>,
    lanes: HashMap<Partition, usize>,
    revocations: Vec<Revocation>,
}

impl Partitions {
    pub(super) fn lane(&self, partition: Partition) -> Option<usize> {
        self.lanes.get(&partition).copied()
    }

    pub(super) fn lanes(&self, partitions: &[Partition]) -> Vec<usize> {
        partitions.iter().filter_map(|partition| self.lane(*partition)).collect()
    }

    pub(super) fn is_owned(&self, partition: Partition) -> bool {
        self.lane(partition).is_some_and(|lane| self.states[lane].owned)
    }

    /// Begins an epoch of a partition that is not owned.
    pub(super) fn assign(&mut self, assignment: &Assignment) {
        let Assignment { partition, start, fingerprint, .. } = assignment;
        let lane = *self.lanes.entry(*partition).or_insert(self.states.len());
        let state = PartitionState {
            partition: *partition,
            epoch: self.states.get(lane).map_or(0, |state| state.epoch + 1),
            owned: true,
            revoking: false,
            watermark: Watermark::new(*start, *fingerprint),
            noted: *start,
            in_flight: 0,
            left_out: 0,
        };
        if lane == self.states.len() { self.states.push(state) } else { self.states[lane] = state }
    }

    /// Ends the epoch of these partitions: returns the last commits and the number of records that were not settled.
    pub(super) fn close(&mut self, partitions: &[Partition]) -> (Vec<Commit>, u64) {
        let (mut commits, mut released) = (Vec::new(), 0);
        for lane in self.lanes(partitions) {
            let state = &mut self.states[lane];
            if std::mem::take(&mut state.owned) {
                released += state.watermark.unsettled() as u64;
                commits.push(state.commit());
            }
            state.epoch += 1;
            (state.in_flight, state.left_out) = (0, 0);
            state.watermark = Watermark::new(state.watermark.next(), None);
        }
        (commits, released)
    }

    /// Notes that there is nothing to read before `position`.
    pub(super) fn advance_to(&mut self, partition: Partition, position: NextOffset) {
        // Records of a partition being revoked may have been released unread before the position.
        if let Some(state) =
            self.lane(partition).map(|lane| &mut self.states[lane]).filter(|state| state.owned && !state.revoking)
        {
            state.watermark.advance_to(position);
        }
    }

    /// Tracks a record; `None` if its partition is revoked or being revoked: the new owner reads it.
    pub(super) fn track(&mut self, lane: usize, offset: i64) -> Option<Slot> {
        let state = &mut self.states[lane];
        let is_ours = state.owned && !state.revoking;
        is_ours.then(|| Slot { lane, epoch: state.epoch, number: state.watermark.track(offset) })
    }

    /// Remembers the fingerprint of the record that was tracked last.
    pub(super) fn mark(&mut self, lane: usize, fingerprint: Fingerprint) {
        self.states[lane].watermark.mark(fingerprint);
    }

    /// Settles `count` records from `slot` on, if its epoch lasts; returns how many were not settled before.
    pub(super) fn settle(&mut self, slot: Slot, count: u64) -> u64 {
        if !self.is_current(&slot) {
            return 0;
        }
        self.states[slot.lane].watermark.settle(slot.number..slot.number + count) as u64
    }

    /// Settles the record at `slot` without a delivery; returns how many were not settled before.
    pub(super) fn leave_out(&mut self, slot: Slot) -> u64 {
        let newly = self.settle(slot, 1);
        self.states[slot.lane].left_out += newly;
        newly
    }

    /// Returns whether the epoch of the slot lasts.
    pub(super) fn is_current(&self, slot: &Slot) -> bool {
        let state = &self.states[slot.lane];
        state.owned && state.epoch == slot.epoch
    }

    /// Returns whether the record may still be sent.
    pub(super) fn is_wanted(&self, slot: &Slot) -> bool {
        self.is_current(slot) && !self.states[slot.lane].revoking
    }

    /// Counts records as in flight.
    pub(super) fn add_in_flight<'a>(&mut self, slots: impl Iterator<Item = &'a Slot>) {
        self.change_in_flight(slots, 1);
    }

    /// Stops counting records as in flight.
    pub(super) fn remove_in_flight<'a>(&mut self, slots: impl Iterator<Item = &'a Slot>) {
        self.change_in_flight(slots, -1);
    }

    fn change_in_flight<'a>(&mut self, slots: impl Iterator<Item = &'a Slot>, by: isize) {
        for slot in slots {
            let state = &mut self.states[slot.lane];
            if state.epoch == slot.epoch {
                state.in_flight = state.in_flight.checked_add_signed(by).expect("a record is counted when it is sent");
            }
        }
    }

    /// Returns the commits that the source was not given yet.
    pub(super) fn new_commits(&mut self) -> Vec<Commit> {
        let mut commits = Vec::new();
        for state in self.states.iter_mut().filter(|state| state.owned && state.watermark.next() != state.noted) {
            state.noted = state.watermark.next();
            commits.push(state.commit());
        }
        commits
    }

    /// Begins a revocation: nothing more of its partitions is sent.
    pub(super) fn revoke(&mut self, revocation: Revocation) {
        for lane in self.lanes(&revocation.partitions) {
            self.states[lane].revoking = true;
        }
        self.revocations.push(revocation);
    }

    /// Removes partitions from waiting revocations: they were lost or assigned again.
    pub(super) fn forget_revocations(&mut self, partitions: &[Partition]) {
        for revocation in &mut self.revocations {
            revocation.partitions.retain(|partition| !partitions.contains(partition));
        }
        self.revocations.retain(|revocation| !revocation.partitions.is_empty());
    }

    /// Takes a revocation whose partitions have nothing in flight and are not held by `is_held`.
    pub(super) fn take_revocation(&mut self, is_held: impl Fn(usize) -> bool) -> Option<Revocation> {
        let is_ready = |revocation: &Revocation| {
            let mut lanes = self.lanes(&revocation.partitions).into_iter();
            !lanes.any(|lane| self.states[lane].in_flight > 0 || is_held(lane))
        };
        let at = self.revocations.iter().position(is_ready)?;
        Some(self.revocations.swap_remove(at))
    }

    pub(super) fn take_revocations(&mut self) -> Vec<Revocation> {
        std::mem::take(&mut self.revocations)
    }

    /// Returns the number of records that were read and not settled.
    pub(super) fn unsettled(&self) -> u64 {
        self.states.iter().map(|state| state.watermark.unsettled() as u64).sum()
    }

    /// Returns where each partition would be resumed.
    pub(super) fn positions(&self) -> Vec<(Partition, NextOffset)> {
        let mut positions: Vec<_> = self.states.iter().map(|state| (state.partition, state.watermark.next())).collect();
        positions.sort_unstable();
        positions
    }

    /// Returns the owned partitions that are not settled up to their stop: partition, position, stop.
    pub(super) fn unreached(&self, stops: &[(Partition, NextOffset)]) -> Vec<(Partition, NextOffset, NextOffset)> {
        let position = |(partition, stop): &(Partition, NextOffset)| {
            let state = self.lane(*partition).map(|lane| &self.states[lane]).filter(|state| state.owned)?;
            (state.watermark.next() < *stop).then(|| (*partition, state.watermark.next(), *stop))
        };
        stops.iter().filter_map(position).collect()
    }

    /// Returns the last commit of each owned partition.
    pub(super) fn noted(&self) -> Vec<(Partition, NextOffset)> {
        self.states.iter().filter(|state| state.owned).map(|state| (state.partition, state.noted)).collect()
    }
}
