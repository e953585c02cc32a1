//! The partitions that this member owns, and how far each has been read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::record::{NextOffset, Partition, Topic};

/// The id of the topic that the positions and commits of each partition are valid for. A topic that is deleted and created again has
/// another one; brokers without ids have none.
#[derive(Debug, Default)]
pub(crate) struct TopicIds {
    known: HashMap<Partition, String>,
    /// Ids that were replaced: a broker may still answer with one.
    former: HashSet<String>,
}

impl TopicIds {
    /// Sets the id that the positions of `partition` are valid for from now on, unless it is one that was replaced: the answer of a
    /// broker that does not know of the new topic yet.
    pub(crate) fn set(&mut self, partition: Partition, id: Option<String>) {
        if id.as_ref().is_some_and(|id| self.former.contains(id)) {
            return;
        }
        let former = match id {
            Some(id) => self.known.insert(partition, id.clone()).filter(|former| *former != id),
            None => self.known.remove(&partition),
        };
        self.former.extend(former);
    }

    pub(crate) fn get(&self, partition: Partition) -> Option<&str> {
        self.known.get(&partition).map(String::as_str)
    }

    /// Returns the id that the positions of `partition` are valid for if the topic, with the id `now`, is another one.
    pub(crate) fn replaced(&self, partition: Partition, now: Option<&str>) -> Option<&str> {
        let now = now.filter(|now| !self.former.contains(*now))?;
        self.get(partition).filter(|known| *known != now)
    }
}

/// The stops of a bounded run, which a shorter log moves back.
pub(crate) type Stops = Arc<Mutex<HashMap<Partition, PlannedStop>>>;

/// How far an owned partition has been handed to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionProgress {
    pub(crate) next: i64,
    /// Nothing at or beyond it is read.
    pub(crate) limit: Option<i64>,
    stop: Option<i64>,
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
    start: i64,
    /// The stop as planned, exclusive: nothing beyond it is read.
    limit: i64,
    /// How far it is enough to read: to the planned stop, or to the end of a log that has become shorter. Each member of a group finds
    /// such an end at another moment. So the owner reads on to the planned stop until the others are done: whichever end they saw,
    /// they see it reached.
    stop: i64,
}

impl PlannedStop {
    pub(crate) fn new(start: NextOffset, stop: i64) -> Self {
        Self { start: start.0, limit: stop, stop }
    }

    pub(crate) fn stop(&self) -> NextOffset {
        NextOffset(self.stop)
    }
}

#[derive(Debug, Default)]
pub(crate) struct OwnedPartitions {
    /// What the run reads; a run without stops follows.
    stops: Stops,
    is_bounded: bool,
    owned: HashMap<Partition, PartitionProgress>,
    /// Partitions that the group assigned to this member and their re-created topic does not have.
    absent: BTreeSet<Partition>,
    epochs: HashMap<Partition, u64>,
    /// The next offset of each partition that this member does not own any more.
    left_at: HashMap<Partition, i64>,
}

impl OwnedPartitions {
    pub(crate) fn new(stops: HashMap<Partition, PlannedStop>) -> Self {
        Self { is_bounded: !stops.is_empty(), stops: Arc::new(Mutex::new(stops)), ..Self::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Partition, PlannedStop>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stops(&self) -> Stops {
        Arc::clone(&self.stops)
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// Moves the stop of a partition back to `end`, the end of its log, if that is shorter than planned: the log was truncated, or the
    /// topic re-created.
    pub(crate) fn limit_stop(&self, partition: Partition, end: i64) {
        if let Some(planned) = self.lock().get_mut(&partition) {
            planned.stop = planned.stop.min(end);
        }
    }

    /// Returns the partitions to read when their topic has them again.
    pub(crate) fn absent(&self) -> &BTreeSet<Partition> {
        &self.absent
    }

    /// Notes that a partition of this member does not exist: it is read up to its stop if it returns.
    pub(crate) fn note_absent(&mut self, partition: Partition) {
        self.absent.insert(partition);
    }

    /// Plans to read nothing of a partition that does not exist any more.
    pub(crate) fn remove_stop(&self, partition: Partition) {
        self.lock().remove(&partition);
    }

    /// Returns the stops of the partitions with records to read that other members own.
    pub(crate) fn unowned_stops(&self) -> HashMap<Partition, i64> {
        let stops = self.lock();
        let is_of_others = |partition: &Partition| !self.owned.contains_key(partition) && !self.absent.contains(partition);
        let unread = stops.iter().filter(|(partition, planned)| planned.start < planned.stop && is_of_others(partition));
        unread.map(|(partition, planned)| (*partition, planned.stop)).collect()
    }

    /// Returns the topics that a bounded run reads.
    pub(crate) fn planned_topics(&self) -> BTreeSet<Topic> {
        self.lock().keys().map(|partition| partition.topic).collect()
    }

    /// Adds a partition; returns how often it was assigned. One that appeared after a bounded run was planned ends where it starts.
    pub(crate) fn add(&mut self, partition: Partition, start: NextOffset) -> u64 {
        let planned = self.lock().get(&partition).copied();
        let planned = planned.or(self.is_bounded.then(|| PlannedStop::new(start, start.0)));
        let epoch = self.epochs.entry(partition).or_default();
        *epoch += 1;
        self.absent.remove(&partition);
        let (limit, stop) = (planned.map(|planned| planned.limit), planned.map(|planned| planned.stop));
        self.owned.insert(partition, PartitionProgress { next: start.0, limit, stop, epoch: *epoch });
        *epoch
    }

    pub(crate) fn remove(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            let left = self.owned.remove(partition).map(|progress| (*partition, progress.next));
            self.left_at.extend(left);
        }
        self.absent.retain(|partition| !partitions.contains(partition));
    }

    /// Returns the next offset of a partition that this member has owned, when it was last taken away.
    pub(crate) fn left_at(&self, partition: Partition) -> Option<i64> {
        self.left_at.get(&partition).copied()
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
    /// beyond the planned stop.
    pub(crate) fn pass(&mut self, partition: Partition, position: i64) -> Option<NextOffset> {
        let progress = self.owned.get_mut(&partition)?;
        let position = progress.limit.map_or(position, |limit| position.min(limit.max(progress.next)));
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
    fn a_bounded_run_is_complete_at_its_stop_offsets() {
        let [planned, later] = [0, 1].map(|index| Partition::new("owned", index));
        let [elsewhere, read_before] = [2, 3].map(|index| Partition::new("owned", index));
        let mut partitions = OwnedPartitions::new(HashMap::from([
            (planned, PlannedStop::new(NextOffset(0), 10)),
            (elsewhere, PlannedStop::new(NextOffset(5), 6)),
            (read_before, PlannedStop::new(NextOffset(7), 7)),
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
    fn a_log_that_is_shorter_than_planned_moves_the_stop_back() {
        let partition = Partition::new("owned", 0);
        let mut partitions = OwnedPartitions::new(HashMap::from([(partition, PlannedStop::new(NextOffset(0), 10))]));
        partitions.limit_stop(partition, 40);
        assert_eq!(partitions.unowned_stops(), HashMap::from([(partition, 10)]), "never beyond the planned stop");
        partitions.limit_stop(partition, 4);
        assert_eq!(partitions.unowned_stops(), HashMap::from([(partition, 4)]));
        partitions.limit_stop(partition, 6);
        assert_eq!(
            partitions.unowned_stops(),
            HashMap::from([(partition, 4)]),
            "a log that is written to does not keep the run up"
        );
        partitions.add(partition, NextOffset(0));
        assert_eq!(partitions.get(partition).unwrap().limit, Some(10), "what another member has seen of it is read");
        partitions.advance(partition, 3);
        assert!(!partitions.all_done());
        partitions.advance(partition, 4);
        assert!(partitions.all_done());
        assert_eq!(partitions.pass(partition, 12), Some(NextOffset(10)));
        partitions.remove(&[partition]);
        partitions.remove_stop(partition);
        assert!(partitions.is_bounded() && partitions.unowned_stops().is_empty());
    }

    #[test]
    fn a_partition_that_its_topic_lost_is_absent_until_it_is_assigned_or_revoked() {
        let [first, second] = [0, 1].map(|index| Partition::new("owned", index));
        let mut partitions = OwnedPartitions::new(HashMap::from([(first, PlannedStop::new(NextOffset(0), 10))]));
        for partition in [first, second] {
            partitions.remove(&[partition]);
            partitions.note_absent(partition);
        }
        assert!(partitions.unowned_stops().is_empty(), "nothing is left to read of it");
        assert_eq!(partitions.absent(), &BTreeSet::from([first, second]));
        partitions.add(first, NextOffset(0));
        partitions.remove(&[second]);
        assert!(partitions.absent().is_empty());
    }

    #[test]
    fn a_recreated_topic_is_found_once_in_each_partition() {
        let [first, second] = [0, 1].map(|index| Partition::new("owned", index));
        let mut ids = TopicIds::default();
        assert_eq!(ids.replaced(first, Some("old")), None, "brokers without ids");
        ids.set(first, Some("old".to_owned()));
        ids.set(second, Some("old".to_owned()));
        assert_eq!((ids.replaced(first, None), ids.replaced(first, Some("old"))), (None, None));
        assert_eq!(ids.replaced(first, Some("new")), Some("old"));
        ids.set(first, Some("new".to_owned()));
        assert_eq!(ids.replaced(first, Some("new")), None);
        assert_eq!(ids.replaced(first, Some("old")), None, "a broker that does not know of it yet");
        assert_eq!(ids.replaced(second, Some("new")), Some("old"));
        ids.set(first, Some("old".to_owned()));
        assert_eq!(ids.get(first), Some("new"), "such a broker changes nothing");
        assert_eq!(ids.replaced(first, Some("newest")), Some("new"));
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
