//! A change of one committed offset, and the commit of several.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::connectors::kafka::{Admin, CommitMetadata, CommittedOffset, CommittedPositions, require_empty};
use crate::pipeline::ConnectorError;
use crate::record::Partition;

/// Why a group that has members is refused.
const MEMBERS_COMMIT: &str = "its offsets cannot be changed";

/// Committed offsets by partition.
pub(crate) type Offsets = BTreeMap<Partition, CommittedOffset>;

/// A change of the committed offset of a partition, whose log is `low..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetChange {
    pub(crate) partition: Partition,
    pub(crate) low: i64,
    pub(crate) end: i64,
    /// Absent without a commit.
    pub(crate) before: Option<CommittedOffset>,
    pub(crate) after: CommittedOffset,
}

impl OffsetChange {
    /// Returns whether there is something to commit.
    pub(crate) fn is_change(&self) -> bool {
        !self.before.as_ref().is_some_and(|before| is_same(before, &self.after))
    }

    /// Returns how many offsets of the log the group would not read; `None` if it has no commit, and begins where its consumers say.
    pub(crate) fn skipped(&self) -> Option<i64> {
        Some((self.after.next.0.clamp(self.low, self.end) - self.next_read()?).max(0))
    }

    /// Returns how many offsets of the log the group would read again; `None` if it has no commit.
    pub(crate) fn read_again(&self) -> Option<i64> {
        Some((self.next_read()? - self.after.next.0.clamp(self.low, self.end)).max(0))
    }

    /// Returns the next offset of the log that the group reads: its committed offset, unless that is deleted or not written yet.
    fn next_read(&self) -> Option<i64> {
        self.before.as_ref().map(|before| before.next.0.clamp(self.low, self.end))
    }
}

/// Returns the committed offsets of each group; from embedded brokers only those of `partitions`.
///
/// # Errors
/// When the cluster does not answer.
pub(crate) async fn committed(
    admin: &Admin,
    groups: &[String],
    partitions: &[Partition],
) -> Result<HashMap<String, CommittedPositions>, ConnectorError> {
    if !admin.is_embedded() {
        return admin.positions(groups, None).await;
    }
    // Embedded brokers answer only for named partitions.
    if partitions.is_empty() { Ok(HashMap::new()) } else { admin.positions(groups, Some(partitions)).await }
}

/// Returns the flows of this program that committed some of these offsets.
pub(crate) fn flows<'a>(committed: impl IntoIterator<Item = &'a CommittedOffset>) -> BTreeSet<String> {
    committed.into_iter().filter_map(|committed| Some(CommitMetadata::parse(&committed.metadata)?.flow)).collect()
}

/// Commits the changes of a group without members; returns the number of changed partitions.
///
/// # Errors
/// When the group has members, or the cluster refuses. Some of the changes may be committed then; the failure says how many.
pub(crate) async fn commit_changes(admin: &Admin, group: &str, changes: &[OffsetChange]) -> Result<usize, ConnectorError> {
    let changes: Vec<&OffsetChange> = changes.iter().filter(|change| change.is_change()).collect();
    if changes.is_empty() {
        return Ok(0);
    }
    require_empty(admin, group, MEMBERS_COMMIT).await?;
    let offset = |change: &&OffsetChange| (change.partition, change.after.next, change.after.metadata.clone());
    let Err(error) = admin.set_group_offsets(group, changes.iter().map(offset).collect()).await else {
        return Ok(changes.len());
    };
    // A member that has joined since is the better reason.
    require_empty(admin, group, MEMBERS_COMMIT).await?;
    let ConnectorError::Failed(failure) = error else { return Err(error) };
    let partitions: Vec<Partition> = changes.iter().map(|change| change.partition).collect();
    let found = committed(admin, &[group.to_owned()], &partitions).await.ok().and_then(|mut found| found.remove(group)?.ok());
    let Some(found) = found else { return Err(failure.into()) };
    let found: Offsets = found.into_iter().collect();
    let done =
        changes.iter().filter(|change| found.get(&change.partition).is_some_and(|found| is_same(found, &change.after))).count();
    Err(failure.because(format!("{done} of {} offsets are committed", changes.len())).into())
}

/// Returns whether two commits are the same for a consumer: a change of an offset names no leader epoch.
fn is_same(one: &CommittedOffset, other: &CommittedOffset) -> bool {
    (one.next, &one.metadata) == (other.next, &other.metadata)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::NextOffset;

    pub(crate) fn at(next: i64) -> CommittedOffset {
        CommittedOffset { next: NextOffset(next), metadata: String::new(), leader_epoch: None }
    }

    fn change(before: Option<i64>, after: i64) -> OffsetChange {
        OffsetChange { partition: Partition::new("changes", 0), low: 10, end: 100, before: before.map(at), after: at(after) }
    }

    #[test]
    fn a_change_skips_or_repeats_records_of_the_log() {
        for (before, after, skipped, read_again) in [
            (Some(40), 60, Some(20), Some(0)),
            (Some(60), 40, Some(0), Some(20)),
            (Some(40), 40, Some(0), Some(0)),
            (None, 40, None, None),
            // Ten of the offsets are deleted.
            (Some(0), 60, Some(50), Some(0)),
            // The log was truncated: nothing from 100 on was read.
            (Some(500), 60, Some(0), Some(40)),
        ] {
            let change = change(before, after);
            assert_eq!((change.skipped(), change.read_again()), (skipped, read_again), "{before:?} to {after}");
            assert_eq!(change.is_change(), before != Some(after));
        }
        let named = CommittedOffset { metadata: "x".to_owned(), ..at(40) };
        assert!(OffsetChange { after: named, ..change(Some(40), 40) }.is_change(), "the metadata changes");
    }

    #[test]
    fn flows_are_told_from_other_metadata() {
        let of = |metadata: String| CommittedOffset { metadata, ..at(1) };
        let flow = |name: &str| of(CommitMetadata::new(name, None).to_json());
        let all = [flow("replicate a/t"), of("mm2".to_owned()), flow("sink-es e/t"), flow("replicate a/t"), of(String::new())];
        assert_eq!(flows(&all).into_iter().collect::<Vec<_>>(), ["replicate a/t", "sink-es e/t"]);
    }

    proptest! {
        #[test]
        fn a_change_never_both_skips_and_repeats(before in 0..200_i64, after in 10..=100_i64) {
            let change = change(Some(before), after);
            let (skipped, read_again) = (change.skipped().unwrap(), change.read_again().unwrap());
            prop_assert!(skipped == 0 || read_again == 0);
            prop_assert_eq!(before.clamp(10, 100) + skipped - read_again, after);
        }
    }
}
