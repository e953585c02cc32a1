//! Where one group stands in one partition, and what follows from it. Pure: the time is an argument.

use crate::commands::lag::throughput::Throughput;
use crate::connectors::kafka::NextRecord;
use crate::record::Partition;

/// What is known of one group in one partition. Offsets that were not needed were not asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PartitionLag {
    pub(super) partition: Partition,
    /// The offset that the group reads next; absent when it has committed none.
    pub(super) committed: Option<i64>,
    /// Who reads the partition.
    pub(super) reader: Option<AssignedMember>,
    /// Whether members of the group read, but none of them this partition.
    pub(super) unassigned: bool,
    pub(super) log: LogOffsets,
    /// The record at the position; absent when it was not asked for.
    pub(super) next: Option<NextRecord>,
    /// How long the topic keeps records, in milliseconds; absent when for ever.
    pub(super) retention: Option<i64>,
    /// How the group moves; absent when it was looked at only once.
    pub(super) pace: Option<Throughput>,
}

/// The member that reads a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AssignedMember {
    pub(super) client_id: String,
    pub(super) host: String,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogOffsets {
    /// The topic is not there.
    NoTopic,
    /// The topic has no partition of this number.
    NoPartition,
    /// Nobody leads the partition, so nobody tells what it holds.
    NoLeader,
    /// It holds what is below `end`.
    Ends {
        end: i64,
        /// The first offset that is still there.
        low: Option<i64>,
        /// The end for who reads committed records only.
        stable: Option<i64>,
    },
}

/// What a person should know about a standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LagFlag {
    Gone(&'static str),
    NoLeader,
    Unassigned,
    /// The commit is beyond the end.
    Truncated,
    /// So many records were deleted before they were read.
    DeletedUnread(i64),
    /// An open transaction holds back who reads committed records from this offset on.
    OpenTransaction(i64),
    TimeUnknown(String),
}

impl LagFlag {
    /// Returns the name for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::NoLeader => "no_leader",
            Self::Unassigned => "unassigned",
            Self::Truncated => "truncated",
            Self::DeletedUnread(_) => "deleted_unread",
            Self::OpenTransaction(_) => "open_transaction",
            Self::TimeUnknown(_) => "time_unknown",
        }
    }

    /// Returns the words for one partition.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Gone(what) => format!("the {what} is gone"),
            Self::NoLeader => "the partition has no leader".to_owned(),
            Self::Unassigned => "no member reads it".to_owned(),
            Self::Truncated => "committed beyond the end: truncated or created again".to_owned(),
            Self::DeletedUnread(1) => "1 unread record was deleted".to_owned(),
            Self::DeletedUnread(count) => format!("{count} unread records were deleted"),
            Self::OpenTransaction(at) => format!("an open transaction holds readers at {at}"),
            Self::TimeUnknown(why) => why.clone(),
        }
    }

    /// Returns the words for so many partitions with this mark.
    pub(super) fn text_for(&self, partitions: usize) -> String {
        match self {
            Self::Gone(_) => format!("{partitions} gone"),
            Self::NoLeader => format!("{partitions} without leader"),
            Self::Unassigned => format!("{partitions} unassigned"),
            Self::Truncated => format!("{partitions} truncated"),
            Self::DeletedUnread(_) => format!("unread records deleted in {partitions}"),
            Self::OpenTransaction(_) => format!("open transaction in {partitions}"),
            Self::TimeUnknown(_) => format!("time unknown in {partitions}"),
        }
    }
}

impl PartitionLag {
    /// Returns the end of the log.
    pub(super) fn end(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { end, .. } => Some(end),
            _ => None,
        }
    }

    /// Returns how many offsets are between the commit and the end; `None` when one of them is not known.
    pub(super) fn lag(&self) -> Option<i64> {
        Some((self.end()? - self.committed?).max(0))
    }

    /// Returns whether there is something to read.
    pub(super) fn is_behind(&self) -> bool {
        self.lag().is_some_and(|lag| lag > 0)
    }

    /// Returns whether something was committed, and it cannot be told how far behind that is.
    pub(super) fn is_unknown(&self) -> bool {
        self.committed.is_some() && (self.end().is_none() || self.is_truncated())
    }

    /// Returns the offset to read next: the commit, or what is left behind it.
    pub(super) fn position(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { low, .. } if self.is_behind() => Some(self.committed?.max(low.unwrap_or(0))),
            _ => None,
        }
    }

    /// Returns where an open transaction holds back who reads committed records only.
    pub(super) fn held_at(&self) -> Option<i64> {
        match self.log {
            LogOffsets::Ends { end, stable: Some(stable), .. } if stable < end && self.is_behind() => Some(stable),
            _ => None,
        }
    }

    fn is_truncated(&self) -> bool {
        matches!((self.committed, self.end()), (Some(committed), Some(end)) if committed > end)
    }

    /// Returns for how long the next record has been waiting at `now`, in milliseconds: 0 when there is none.
    pub(super) fn time_lag(&self, now: i64) -> Option<i64> {
        if self.lag()? == 0 {
            return (!self.is_truncated()).then_some(0);
        }
        match self.next.as_ref()? {
            NextRecord::At(time) => Some((now - time).max(0)),
            NextRecord::None => Some(0),
            NextRecord::Unknown(_) => None,
        }
    }

    /// Returns after how long retention may delete the next record, in milliseconds; `None` when it does not.
    pub(super) fn expires_in(&self, now: i64) -> Option<i64> {
        match self.next {
            Some(NextRecord::At(time)) => Some((time.saturating_add(self.retention?) - now).max(0)),
            _ => None,
        }
    }

    /// Returns how many offsets were deleted before they were read.
    pub(super) fn deleted_unread(&self) -> i64 {
        match (self.committed, &self.log) {
            (Some(committed), LogOffsets::Ends { low: Some(low), .. }) => (low - committed).max(0),
            _ => 0,
        }
    }

    /// Returns what a person should know.
    pub(super) fn marks(&self) -> Vec<LagFlag> {
        let time_unknown = match &self.next {
            Some(NextRecord::Unknown(why)) => Some(LagFlag::TimeUnknown(why.clone())),
            _ => None,
        };
        let deleted = self.deleted_unread();
        let marks = [
            match self.log {
                LogOffsets::NoTopic => Some(LagFlag::Gone("topic")),
                LogOffsets::NoPartition => Some(LagFlag::Gone("partition")),
                LogOffsets::NoLeader => Some(LagFlag::NoLeader),
                LogOffsets::Ends { .. } => None,
            },
            self.unassigned.then_some(LagFlag::Unassigned),
            self.is_truncated().then_some(LagFlag::Truncated),
            (deleted > 0).then_some(LagFlag::DeletedUnread(deleted)),
            self.held_at().map(LagFlag::OpenTransaction),
            time_unknown,
        ];
        marks.into_iter().flatten().collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    /// Returns a standing in a log of `low..end`.
    pub(in super::super) fn standing(index: i32, committed: Option<i64>, low: i64, end: i64) -> PartitionLag {
        PartitionLag {
            partition: Partition::new("standing", index),
            committed,
            reader: None,
            unassigned: false,
            log: LogOffsets::Ends { end, low: Some(low), stable: Some(end) },
            next: None,
            retention: None,
            pace: None,
        }
    }

    fn after(committed: i64, next: NextRecord) -> PartitionLag {
        PartitionLag { next: Some(next), ..standing(0, Some(committed), 0, 100) }
    }

    #[test]
    fn lag_is_the_distance_to_the_end_of_the_log() {
        assert_eq!(standing(0, Some(40), 0, 100).lag(), Some(60));
        assert_eq!(standing(0, Some(100), 0, 100).lag(), Some(0));
        assert_eq!(standing(0, None, 0, 100).lag(), None, "nothing was committed");
        for log in [LogOffsets::NoTopic, LogOffsets::NoPartition, LogOffsets::NoLeader] {
            assert_eq!(PartitionLag { log, ..standing(0, Some(40), 0, 100) }.lag(), None);
        }
    }

    #[test]
    fn time_lag_is_the_age_of_the_next_record() {
        assert_eq!(after(40, NextRecord::At(NOW - 5_000)).time_lag(NOW), Some(5_000));
        assert_eq!(after(40, NextRecord::At(NOW + 5_000)).time_lag(NOW), Some(0), "another clock may be ahead");
        assert_eq!(after(40, NextRecord::None).time_lag(NOW), Some(0), "only what transactions left behind");
        assert_eq!(after(40, NextRecord::Unknown("why".to_owned())).time_lag(NOW), None);
        assert_eq!(standing(0, Some(40), 0, 100).time_lag(NOW), None, "it was not asked for");
        assert_eq!(standing(0, Some(100), 0, 100).time_lag(NOW), Some(0), "caught up");
        assert_eq!(standing(0, None, 0, 100).time_lag(NOW), None);
    }

    #[test]
    fn retention_deletes_when_the_next_record_is_old_enough() {
        let kept = |retention| PartitionLag { retention, ..after(40, NextRecord::At(NOW - 5_000)) };
        assert_eq!(kept(Some(60_000)).expires_in(NOW), Some(55_000));
        assert_eq!(kept(Some(1_000)).expires_in(NOW), Some(0), "any moment now");
        assert_eq!(kept(None).expires_in(NOW), None, "it is kept for ever");
        assert_eq!(kept(Some(i64::MAX)).expires_in(NOW), Some(i64::MAX - NOW));
        assert_eq!(
            PartitionLag { retention: Some(1), ..standing(0, Some(100), 0, 100) }.expires_in(NOW),
            None,
            "nothing is unread"
        );
    }

    #[test]
    fn what_is_odd_is_marked() {
        let deleted = standing(0, Some(40), 50, 100);
        assert_eq!((deleted.lag(), deleted.position(), deleted.marks()), (Some(60), Some(50), vec![LagFlag::DeletedUnread(10)]));
        let truncated = standing(0, Some(140), 0, 100);
        assert_eq!((truncated.lag(), truncated.time_lag(NOW)), (Some(0), None));
        assert_eq!(truncated.marks(), [LagFlag::Truncated]);
        let log = LogOffsets::Ends { end: 100, low: Some(0), stable: Some(70) };
        let held = PartitionLag { log, ..standing(0, Some(40), 0, 100) };
        assert_eq!((held.lag(), held.marks()), (Some(60), vec![LagFlag::OpenTransaction(70)]), "lag counts to the log end");
        let gone = PartitionLag { log: LogOffsets::NoTopic, unassigned: true, ..standing(0, Some(40), 0, 100) };
        assert_eq!(gone.marks(), [LagFlag::Gone("topic"), LagFlag::Unassigned]);
        assert_eq!(standing(0, Some(100), 0, 100).marks(), []);
    }
}
