//! The lag of one group in one partition. Pure: the time is an argument.

use crate::connectors::kafka::NextRecord;
use crate::lag::throughput::Throughput;
use crate::record::Partition;

/// Survey result for one group in one partition. Unneeded offsets are not requested.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartitionLag {
    pub(crate) partition: Partition,
    /// Absent if the group has committed none.
    pub(crate) committed: Option<i64>,
    /// The metadata of the commit; absent without one.
    pub(crate) metadata: Option<String>,
    pub(crate) member: Option<AssignedMember>,
    /// Whether the group has members and none of them has this partition.
    pub(crate) unassigned: bool,
    pub(crate) log: LogOffsets,
    /// The record at the position; absent if it was not requested.
    pub(crate) next: Option<NextRecord>,
    /// The topic's retention in milliseconds; absent if unlimited.
    pub(crate) retention: Option<i64>,
    /// Absent after a single survey.
    pub(crate) throughput: Option<Throughput>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AssignedMember {
    pub(crate) client_id: String,
    pub(crate) host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogOffsets {
    /// The topic does not exist.
    NoTopic,
    /// The topic has fewer partitions.
    NoPartition,
    /// No leader answers for the partition; with the reason.
    NoLeader(String),
    Ends {
        /// The log end offset.
        end: i64,
        /// The log start offset.
        low: Option<i64>,
        /// The last stable offset: the end for `read_committed` consumers.
        stable: Option<i64>,
    },
}

/// A condition that needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LagFlag {
    Gone(&'static str),
    /// No leader answers for the partition; with the reason.
    NoLeader(String),
    Unassigned,
    /// The committed offset is beyond the log end.
    Truncated,
    /// This many records were deleted before the group read them.
    DeletedUnread(i64),
    /// An open transaction holds `read_committed` consumers at this offset.
    OpenTransaction(i64),
    TimeUnknown(String),
}

impl LagFlag {
    /// Returns the stable name in machine-readable output.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::NoLeader(_) => "no_leader",
            Self::Unassigned => "unassigned",
            Self::Truncated => "truncated",
            Self::DeletedUnread(_) => "deleted_unread",
            Self::OpenTransaction(_) => "open_transaction",
            Self::TimeUnknown(_) => "time_unknown",
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Gone(what) => format!("the {what} is gone"),
            Self::Unassigned => "not assigned to a member".to_owned(),
            Self::Truncated => "committed offset is beyond the log end: truncated or re-created".to_owned(),
            Self::DeletedUnread(1) => "1 unread record was deleted".to_owned(),
            Self::DeletedUnread(count) => format!("{count} unread records were deleted"),
            Self::OpenTransaction(at) => format!("an open transaction holds readers at {at}"),
            Self::NoLeader(why) | Self::TimeUnknown(why) => why.clone(),
        }
    }

    /// Returns the text for several partitions with this flag.
    pub(crate) fn text_of_many(&self, partitions: usize) -> String {
        match self {
            Self::Gone(_) => format!("{partitions} gone"),
            Self::NoLeader(_) => format!("{partitions} without leader"),
            Self::Unassigned => format!("{partitions} unassigned"),
            Self::Truncated => format!("{partitions} truncated"),
            Self::DeletedUnread(_) => format!("unread records deleted in {partitions}"),
            Self::OpenTransaction(_) => format!("open transaction in {partitions}"),
            Self::TimeUnknown(_) => format!("time unknown in {partitions}"),
        }
    }
}

impl PartitionLag {
    pub(crate) fn end(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { end, .. } => Some(end),
            _ => None,
        }
    }

    /// Returns the distance from the committed offset to the log end; `None` if either is not known, or the end is the lower one.
    pub(crate) fn lag(&self) -> Option<i64> {
        Some(self.end()? - self.committed?).filter(|lag| *lag >= 0)
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.lag().is_some_and(|lag| lag > 0)
    }

    /// Returns whether the group has committed and its lag is not known.
    pub(crate) fn is_unknown(&self) -> bool {
        self.committed.is_some() && self.lag().is_none()
    }

    /// Returns the next offset to read: the committed one, or the log start if that is beyond it.
    pub(crate) fn position(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { low, .. } if self.is_behind() => Some(self.committed?.max(low.unwrap_or(0))),
            _ => None,
        }
    }

    /// Returns the offset at which an open transaction holds `read_committed` consumers.
    pub(crate) fn held_at(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { end, stable: Some(stable), .. } if stable < end && self.is_behind() => Some(stable),
            _ => None,
        }
    }

    fn is_truncated(&self) -> bool {
        matches!((self.committed, self.end()), (Some(committed), Some(end)) if committed > end)
    }

    /// Returns the age of the next record at `now`, in milliseconds; 0 if there is none.
    pub(crate) fn time_lag(&self, now: i64) -> Option<i64> {
        if self.lag()? == 0 {
            return Some(0);
        }
        match self.next.as_ref()? {
            NextRecord::At(time) => Some((now - time).max(0)),
            NextRecord::None => Some(0),
            NextRecord::Unknown(_) => None,
        }
    }

    /// Returns the time until retention may delete the next record, in milliseconds; `None` if it never does.
    pub(crate) fn expires_in(&self, now: i64) -> Option<i64> {
        match self.next {
            Some(NextRecord::At(time)) => Some((time.saturating_add(self.retention?) - now).max(0)),
            _ => None,
        }
    }

    pub(crate) fn deleted_unread(&self) -> i64 {
        match (self.committed, &self.log) {
            (Some(committed), LogOffsets::Ends { low: Some(low), .. }) => (low - committed).max(0),
            _ => 0,
        }
    }

    pub(crate) fn flags(&self) -> Vec<LagFlag> {
        let time_unknown = match &self.next {
            Some(NextRecord::Unknown(why)) => Some(LagFlag::TimeUnknown(why.clone())),
            _ => None,
        };
        let deleted = self.deleted_unread();
        let flags = [
            match &self.log {
                LogOffsets::NoTopic => Some(LagFlag::Gone("topic")),
                LogOffsets::NoPartition => Some(LagFlag::Gone("partition")),
                LogOffsets::NoLeader(why) => Some(LagFlag::NoLeader(why.clone())),
                LogOffsets::Ends { .. } => None,
            },
            self.unassigned.then_some(LagFlag::Unassigned),
            self.is_truncated().then_some(LagFlag::Truncated),
            (deleted > 0).then_some(LagFlag::DeletedUnread(deleted)),
            self.held_at().map(LagFlag::OpenTransaction),
            time_unknown,
        ];
        flags.into_iter().flatten().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// Returns the lag in a log of `low..end`.
    pub(crate) fn partition_lag(index: i32, committed: Option<i64>, low: i64, end: i64) -> PartitionLag {
        PartitionLag {
            partition: Partition::new("lag", index),
            committed,
            metadata: committed.map(|_| String::new()),
            member: None,
            unassigned: false,
            log: LogOffsets::Ends { end, low: Some(low), stable: Some(end) },
            next: None,
            retention: None,
            throughput: None,
        }
    }

    fn after(committed: i64, next: NextRecord) -> PartitionLag {
        PartitionLag { next: Some(next), ..partition_lag(0, Some(committed), 0, 100) }
    }

    #[test]
    fn lag_is_the_distance_to_the_end_of_the_log() {
        assert_eq!(partition_lag(0, Some(40), 0, 100).lag(), Some(60));
        assert_eq!(partition_lag(0, Some(100), 0, 100).lag(), Some(0));
        assert_eq!(partition_lag(0, None, 0, 100).lag(), None, "nothing was committed");
        for log in [LogOffsets::NoTopic, LogOffsets::NoPartition, LogOffsets::NoLeader(String::new())] {
            assert_eq!(PartitionLag { log, ..partition_lag(0, Some(40), 0, 100) }.lag(), None);
        }
    }

    #[test]
    fn time_lag_is_the_age_of_the_next_record() {
        assert_eq!(after(40, NextRecord::At(NOW - 5_000)).time_lag(NOW), Some(5_000));
        assert_eq!(after(40, NextRecord::At(NOW + 5_000)).time_lag(NOW), Some(0), "another clock may be ahead");
        assert_eq!(after(40, NextRecord::None).time_lag(NOW), Some(0), "only what transactions left behind");
        assert_eq!(after(40, NextRecord::Unknown("why".to_owned())).time_lag(NOW), None);
        assert_eq!(partition_lag(0, Some(40), 0, 100).time_lag(NOW), None, "it was not asked for");
        assert_eq!(partition_lag(0, Some(100), 0, 100).time_lag(NOW), Some(0), "caught up");
        assert_eq!(partition_lag(0, None, 0, 100).time_lag(NOW), None);
    }

    #[test]
    fn retention_deletes_when_the_next_record_is_old_enough() {
        let kept = |retention| PartitionLag { retention, ..after(40, NextRecord::At(NOW - 5_000)) };
        assert_eq!(kept(Some(60_000)).expires_in(NOW), Some(55_000));
        assert_eq!(kept(Some(1_000)).expires_in(NOW), Some(0), "any moment now");
        assert_eq!(kept(None).expires_in(NOW), None, "it is kept for ever");
        assert_eq!(kept(Some(i64::MAX)).expires_in(NOW), Some(i64::MAX - NOW));
        assert_eq!(
            PartitionLag { retention: Some(1), ..partition_lag(0, Some(100), 0, 100) }.expires_in(NOW),
            None,
            "nothing is unread"
        );
    }

    #[test]
    fn conditions_are_flagged() {
        let deleted = partition_lag(0, Some(40), 50, 100);
        assert_eq!((deleted.lag(), deleted.position(), deleted.flags()), (Some(60), Some(50), vec![LagFlag::DeletedUnread(10)]));
        let truncated = partition_lag(0, Some(140), 0, 100);
        assert_eq!((truncated.lag(), truncated.time_lag(NOW)), (None, None));
        assert_eq!(truncated.flags(), [LagFlag::Truncated]);
        let log = LogOffsets::Ends { end: 100, low: Some(0), stable: Some(70) };
        let held = PartitionLag { log, ..partition_lag(0, Some(40), 0, 100) };
        assert_eq!((held.lag(), held.flags()), (Some(60), vec![LagFlag::OpenTransaction(70)]), "lag counts to the log end");
        let gone = PartitionLag { log: LogOffsets::NoTopic, unassigned: true, ..partition_lag(0, Some(40), 0, 100) };
        assert_eq!(gone.flags(), [LagFlag::Gone("topic"), LagFlag::Unassigned]);
        assert_eq!(partition_lag(0, Some(100), 0, 100).flags(), []);
    }
}
