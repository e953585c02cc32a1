//! What a member delivered of partitions that were taken away before it was committed. Pure.

use std::collections::BTreeMap;

use crate::number::were;
use crate::pipeline::Commit;
use crate::record::{NextOffset, Partition};

/// The partitions whose delivered records were not committed before they were taken away: whoever reads the partition next reads them
/// again, until the group has committed them.
#[derive(Debug, Default)]
pub(crate) struct GivenUp(BTreeMap<Partition, Uncommitted>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Uncommitted {
    /// The offset behind the records.
    next: NextOffset,
    records: u64,
}

impl GivenUp {
    /// Notes that a commit has not come about; the last one covered `confirmed` delivered records. Returns how many more this one
    /// would have covered.
    pub(crate) fn note(&mut self, commit: Commit, confirmed: u64) -> u64 {
        let records = commit.delivered.saturating_sub(confirmed);
        if records > 0 {
            let known = self.0.entry(commit.partition).or_insert(Uncommitted { next: commit.next, records });
            // Given up twice, they are partly the same records.
            *known = Uncommitted { next: known.next.max(commit.next), records: known.records.max(records) };
        }
        records
    }

    /// Notes that the group has committed a partition up to `next`, or reads it from there.
    pub(crate) fn on_position(&mut self, partition: Partition, next: NextOffset) {
        if self.0.get(&partition).is_some_and(|uncommitted| uncommitted.next <= next) {
            self.0.remove(&partition);
        }
    }

    /// Returns the partitions, each with the offset behind its records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Partition, NextOffset)> {
        self.0.iter().map(|(partition, uncommitted)| (*partition, uncommitted.next))
    }

    /// Returns why a run is not committed whose records in these partitions are still uncommitted; `None` if there are no partitions.
    pub(crate) fn reason(&self, partitions: &[Partition]) -> Option<String> {
        let records: u64 = partitions.iter().filter_map(|of| self.0.get(of)).map(|uncommitted| uncommitted.records).sum();
        (records > 0).then(|| format!("{} delivered and not committed before the partitions were lost", were(records, "record")))
    }
}

/// Returns the warning that commits were given up.
pub(crate) fn warning(records: u64) -> String {
    let records = were(records, "delivered record");
    format!(
        "Commits given up: the partitions were lost before {records} committed; they will be read and delivered again, unless their topic is gone."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(next: i64, delivered: u64) -> Commit {
        Commit { partition: Partition::new("given-up", 0), next: NextOffset(next), fingerprint: None, delivered }
    }

    fn reason(given_up: &GivenUp) -> Option<String> {
        given_up.reason(&given_up.iter().map(|(partition, _)| partition).collect::<Vec<_>>())
    }

    #[test]
    fn delivered_records_count_until_their_partition_is_committed_behind_them() {
        let (mut given_up, partition) = (GivenUp::default(), Partition::new("given-up", 0));
        assert_eq!(reason(&given_up), None);
        assert_eq!(given_up.note(commit(2_500, 3_000), 1_000), 2_000);
        let expected = "2,000 records were delivered and not committed before the partitions were lost";
        assert_eq!(reason(&given_up).as_deref(), Some(expected));
        given_up.on_position(partition, NextOffset(2_499));
        given_up.on_position(Partition::new("given-up", 1), NextOffset(9_999));
        assert_eq!(reason(&given_up).as_deref(), Some(expected), "assigned again, and not read to that offset");
        given_up.on_position(partition, NextOffset(2_500));
        assert_eq!(reason(&given_up), None);
    }

    #[test]
    fn what_was_committed_or_left_out_is_not_given_up() {
        let mut given_up = GivenUp::default();
        assert_eq!((given_up.note(commit(10, 10), 10), given_up.note(commit(20, 10), 10)), (0, 0));
        assert_eq!(reason(&given_up), None);
    }

    #[test]
    fn records_that_are_given_up_twice_count_once() {
        let mut given_up = GivenUp::default();
        given_up.note(commit(100, 100), 0);
        given_up.note(commit(50, 50), 0);
        let expected = "100 records were delivered and not committed before the partitions were lost";
        assert_eq!(reason(&given_up).as_deref(), Some(expected));
        given_up.on_position(Partition::new("given-up", 0), NextOffset(50));
        assert_eq!(reason(&given_up).as_deref(), Some(expected));
    }

    #[test]
    fn the_warning_names_the_number() {
        let expected = "Commits given up: the partitions were lost before 2,000 delivered records were committed; they will be read and delivered again, unless their topic is gone.";
        assert_eq!(warning(2_000), expected);
    }
}
