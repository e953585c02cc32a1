//! The partitions that this member owns, and how far each has been read.

use std::collections::{BTreeSet, HashMap};

use crate::record::{NextOffset, Partition, Topic};

/// How far an owned partition has been handed to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionProgress {
    pub(crate) next: i64,
    pub(crate) stop: Option<i64>,
    /// Counts the assignments of the partition: a commit of an earlier one is ignored.
    pub(crate) epoch: u64,
}

impl PartitionProgress {
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// What a bounded run reads of a partition, whichever member of the group owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedStop {
    pub(crate) start: i64,
    /// Exclusive.
    pub(crate) stop: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OwnedPartitions {
    /// What the run reads; a run without stops follows.
    stops: HashMap<Partition, PlannedStop>,
    owned: HashMap<Partition, PartitionProgress>,
    epochs: HashMap<Partition, u64>,
}

impl OwnedPartitions {
    pub(crate) fn new(stops: HashMap<Partition, PlannedStop>) -> Self {
        Self { stops, ..Self::default() }
    }

    pub(crate) fn is_bounded(&self) -> bool {
        !self.stops.is_empty()
    }

    /// Returns the stops of the partitions with records to read that this member does not own.
    pub(crate) fn unowned_stops(&self) -> HashMap<Partition, i64> {
        let unread =
            self.stops.iter().filter(|(partition, planned)| planned.start < planned.stop && !self.owned.contains_key(partition));
        unread.map(|(partition, planned)| (*partition, planned.stop)).collect()
    }

    /// Returns the topics that a bounded run reads.
    pub(crate) fn planned_topics(&self) -> BTreeSet<Topic> {
        self.stops.keys().map(|partition| partition.topic).collect()
    }

    /// Adds a partition. One that appeared after a bounded run was planned ends where it starts.
    pub(crate) fn add(&mut self, partition: Partition, start: NextOffset) {
        let stop = self.stops.get(&partition).map(|planned| planned.stop).or(self.is_bounded().then_some(start.0));
        let epoch = self.epochs.entry(partition).or_default();
        *epoch += 1;
        self.owned.insert(partition, PartitionProgress { next: start.0, stop, epoch: *epoch });
    }

    pub(crate) fn remove(&mut self, partitions: &[Partition]) {
        self.owned.retain(|partition, _| !partitions.contains(partition));
    }

    pub(crate) fn get(&self, partition: Partition) -> Option<&PartitionProgress> {
        self.owned.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Partition, &PartitionProgress)> {
        self.owned.iter().map(|(partition, progress)| (*partition, progress))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// Notes that everything before `next` has been handed over.
    pub(crate) fn advance(&mut self, partition: Partition, next: i64) {
        if let Some(progress) = self.owned.get_mut(&partition) {
            progress.next = next;
        }
    }

    /// Returns how far a consumer at `position` has passed offsets without records: transaction markers, compacted records. Never
    /// beyond the stop.
    pub(crate) fn pass(&mut self, partition: Partition, position: i64) -> Option<NextOffset> {
        let progress = self.owned.get_mut(&partition)?;
        let position = progress.stop.map_or(position, |stop| position.min(stop.max(progress.next)));
        (position > progress.next).then(|| {
            progress.next = position;
            NextOffset(position)
        })
    }

    /// Returns the partitions that have not reached their stop.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = Partition> {
        self.iter().filter(|(_, progress)| !progress.is_done()).map(|(partition, _)| partition)
    }

    /// Returns whether every owned partition of a bounded run has reached its stop.
    pub(crate) fn all_done(&self) -> bool {
        self.is_bounded() && self.owned.values().all(PartitionProgress::is_done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_run_is_done_at_its_stops() {
        let [planned, later] = [0, 1].map(|index| Partition::new("owned", index));
        let [elsewhere, read_before] = [2, 3].map(|index| Partition::new("owned", index));
        let mut partitions = OwnedPartitions::new(HashMap::from([
            (planned, PlannedStop { start: 0, stop: 10 }),
            (elsewhere, PlannedStop { start: 5, stop: 6 }),
            (read_before, PlannedStop { start: 7, stop: 7 }),
        ]));
        assert_eq!(partitions.unowned_stops(), HashMap::from([(planned, 10), (elsewhere, 6)]));
        partitions.add(planned, NextOffset(4));
        assert_eq!(partitions.unowned_stops(), HashMap::from([(elsewhere, 6)]));
        assert!(!partitions.all_done());
        partitions.add(later, NextOffset(7));
        assert_eq!(partitions.unfinished().collect::<Vec<_>>(), [planned]);
        assert_eq!(partitions.pass(planned, 8), Some(NextOffset(8)));
        assert_eq!(partitions.pass(planned, 8), None);
        assert_eq!(partitions.pass(planned, 99), Some(NextOffset(10)), "not beyond the stop");
        assert!(partitions.all_done());
    }

    #[test]
    fn each_assignment_has_an_epoch_of_its_own() {
        let partition = Partition::new("owned", 0);
        let mut partitions = OwnedPartitions::new(HashMap::new());
        partitions.add(partition, NextOffset(0));
        partitions.remove(&[partition]);
        assert_eq!(partitions.get(partition), None);
        partitions.add(partition, NextOffset(0));
        assert_eq!(partitions.get(partition).map(|progress| progress.epoch), Some(2));
        assert!(!partitions.all_done(), "a run without stops follows");
    }
}
