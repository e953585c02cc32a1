//! How far a group may be behind.

use std::time::Duration;

use crate::lag::partition_lag::PartitionLag;
use crate::lag::survey::GroupLag;

/// The most that a group may be behind; a lag that is not known exceeds any threshold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thresholds {
    /// Records, over all partitions of the group together.
    pub(crate) max_lag: Option<u64>,
    /// Age of the next record of each partition.
    pub(crate) max_time: Option<Duration>,
}

/// Why a group exceeds a threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// The group's offsets cannot be read.
    Unreadable(String),
    /// The group has committed nothing in its selected partitions: it has no lag that could be compared.
    NothingCommitted,
    /// The lag of this many partitions is not known.
    UnknownLag(usize),
    Lag {
        lag: i64,
        max: u64,
    },
    /// In milliseconds.
    TimeLag {
        longest: i64,
        max: Duration,
    },
    /// The time lag of this many lagging partitions is not known.
    UnknownTimeLag(usize),
}

impl Thresholds {
    pub(crate) fn are_set(&self) -> bool {
        self.max_lag.is_some() || self.max_time.is_some()
    }

    /// Returns why `group` exceeds the thresholds at `now`, milliseconds since the Unix epoch.
    pub(crate) fn breaches(&self, group: &GroupLag, now: i64) -> Vec<Breach> {
        let mut breaches = Vec::new();
        if !self.are_set() {
            return breaches;
        }
        if let Some(why) = &group.unreadable {
            breaches.push(Breach::Unreadable(why.clone()));
        } else if group.partitions.iter().all(|partition| partition.committed.is_none()) {
            breaches.push(Breach::NothingCommitted);
        }
        let unknown = group.partitions.iter().filter(|partition| partition.is_unknown()).count();
        if unknown > 0 {
            breaches.push(Breach::UnknownLag(unknown));
        }
        let lag = group.lag().unwrap_or(0);
        if let Some(max) = self.max_lag.filter(|max| lag.unsigned_abs() > *max) {
            breaches.push(Breach::Lag { lag, max });
        }
        if let Some(max) = self.max_time {
            let behind: Vec<&PartitionLag> = group.partitions.iter().filter(|partition| partition.is_behind()).collect();
            let times: Vec<i64> = behind.iter().filter_map(|partition| partition.time_lag(now)).collect();
            let longest = times.iter().copied().max().unwrap_or(0);
            if u128::from(longest.unsigned_abs()) > max.as_millis() {
                breaches.push(Breach::TimeLag { longest, max });
            }
            if times.len() < behind.len() {
                breaches.push(Breach::UnknownTimeLag(behind.len() - times.len()));
            }
        }
        breaches
    }
}
