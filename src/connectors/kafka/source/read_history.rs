//! What is known of the logs before the positions of a run.

use std::collections::HashMap;

use crate::connectors::kafka::resume::LogBefore;
use crate::record::{Fingerprint, Partition};

/// What the log of each partition holds before the positions of its assignment.
///
/// A position is compared with its log in some leader epoch, and what is read is of that epoch or a later one. A record before the
/// position that is newer than that shows that the log was truncated, and has grown again.
#[derive(Debug, Default)]
pub(crate) struct ReadHistory(HashMap<Partition, PartitionHistory>);

#[derive(Debug, Default)]
struct PartitionHistory {
    /// The newest known record before the first position.
    last: Option<Fingerprint>,
    /// From which offset on a leader epoch is the newest; the epochs increase. Empty on brokers without epochs.
    epochs: Vec<(i64, i32)>,
}

impl ReadHistory {
    /// Begins with a position that was compared with the log in this leader epoch.
    pub(crate) fn begin(&mut self, partition: Partition, last: Option<Fingerprint>, leader_epoch: Option<i32>) {
        let epochs = leader_epoch.map(|epoch| (i64::MIN, epoch)).into_iter().collect();
        self.0.insert(partition, PartitionHistory { last, epochs });
    }

    /// Notes a record that is read. The epochs never decrease: librdkafka commits no offset with a lower one than before.
    pub(crate) fn read(&mut self, partition: Partition, offset: i64, leader_epoch: Option<i32>) {
        let Some(epoch) = leader_epoch else { return };
        let epochs = &mut self.0.entry(partition).or_default().epochs;
        if epochs.last().is_none_or(|(_, newest)| *newest < epoch) {
            epochs.push((offset, epoch));
        }
    }

    /// Returns the newest leader epoch in which anything before `next` was written.
    pub(crate) fn leader_epoch(&self, partition: Partition, next: i64) -> Option<i32> {
        let epochs = &self.0.get(&partition)?.epochs;
        epochs.iter().rev().find(|(from, _)| *from < next).map(|(_, epoch)| *epoch)
    }

    /// Returns what the log holds before `next`, if `last` is the newest record that has settled.
    pub(crate) fn before(&self, partition: Partition, next: i64, last: Option<Fingerprint>) -> LogBefore {
        let last = last.or_else(|| self.0.get(&partition)?.last);
        LogBefore { partition, next, low: 0, last, leader_epoch: self.leader_epoch(partition, next) }
    }

    /// Forgets what no position from `next` on needs.
    pub(crate) fn settle(&mut self, partition: Partition, next: i64) {
        let Some(PartitionHistory { epochs, .. }) = self.0.get_mut(&partition) else { return };
        let needed = epochs.iter().rposition(|(from, _)| *from < next).unwrap_or(0);
        epochs.drain(..needed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition::new("history", 0)
    }

    #[test]
    fn the_epoch_before_a_position_is_that_of_the_start_until_a_newer_one_is_read() {
        let mut history = ReadHistory::default();
        history.begin(partition(), None, Some(3));
        assert_eq!(history.leader_epoch(partition(), 10), Some(3), "nothing was read");
        for (offset, epoch) in [(10, 2), (11, 2), (12, 5), (14, 5), (15, 6)] {
            history.read(partition(), offset, Some(epoch));
        }
        let epochs = || [10, 12, 13, 15, 16, 99].map(|next| history.leader_epoch(partition(), next).unwrap());
        assert_eq!(epochs(), [3, 3, 5, 5, 6, 6]);
        history.settle(partition(), 14);
        let epochs = [14, 15, 16].map(|next| history.leader_epoch(partition(), next).unwrap());
        assert_eq!(epochs, [5, 5, 6]);
        history.begin(partition(), None, Some(7));
        assert_eq!(history.leader_epoch(partition(), 12), Some(7), "an assignment begins again");
    }

    #[test]
    fn brokers_without_epochs_show_nothing() {
        let mut history = ReadHistory::default();
        history.begin(partition(), None, None);
        history.read(partition(), 10, None);
        history.settle(partition(), 11);
        assert_eq!(history.leader_epoch(partition(), 11), None);
        assert_eq!(history.leader_epoch(Partition::new("history", 1), 11), None, "a partition that is not read");
    }

    #[test]
    fn the_last_record_is_that_of_the_start_until_another_has_settled() {
        let fingerprint = |offset| Fingerprint { offset, timestamp: None, crc: 0 };
        let mut history = ReadHistory::default();
        history.begin(partition(), Some(fingerprint(9)), None);
        assert_eq!(history.before(partition(), 10, None).last, Some(fingerprint(9)));
        assert_eq!(history.before(partition(), 20, Some(fingerprint(19))).last, Some(fingerprint(19)));
    }
}
