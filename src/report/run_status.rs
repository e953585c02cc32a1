//! The state of a run, shared by the progress bar, the status lines, the metrics and the summary.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pipeline::{Event, Observer, Tally};
use crate::record::{NextOffset, Partition};

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct RunStatus(Mutex<StatusFields>);

#[derive(Clone, Debug, Default)]
pub(crate) struct StatusFields {
    pub(crate) tally: Tally,
    pub(crate) ends: BTreeMap<Partition, i64>,
    pub(crate) settled: BTreeMap<Partition, NextOffset>,
    pub(crate) committed: BTreeMap<Partition, NextOffset>,
    pub(crate) degraded: Option<String>,
}

impl RunStatus {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StatusFields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusFields {
    /// Returns the number of offsets between the settled positions and the log ends, where both are known.
    pub(crate) fn lag(&self) -> Option<u64> {
        (!self.ends.is_empty()).then(|| self.lags().map(|(_, lag)| lag).sum())
    }

    pub(crate) fn lags(&self) -> impl Iterator<Item = (Partition, u64)> {
        let of = |(partition, end): (&Partition, &i64)| {
            self.settled.get(partition).map(|next| (*partition, u64::try_from(end - next.0).unwrap_or(0)))
        };
        self.ends.iter().filter_map(of)
    }
}

impl Observer for RunStatus {
    fn on(&self, event: &Event<'_>) {
        let mut entries = self.lock();
        match event {
            Event::Progress(tally) => entries.tally = (*tally).clone(),
            Event::LogEndOffsets(ends) => entries.ends.extend(ends.iter().copied()),
            Event::Settled(settled) => entries.settled.extend(settled.iter().copied()),
            Event::Committed(committed) => entries.committed.extend(committed.iter().copied()),
            Event::Assigned(assigned) => {
                for one in *assigned {
                    entries.settled.insert(one.partition, one.start);
                    entries.ends.remove(&one.partition);
                }
            }
            Event::Released { partitions, .. } => {
                for partition in *partitions {
                    entries.ends.remove(partition);
                    entries.settled.remove(partition);
                }
            }
            Event::Degraded(reason) => entries.degraded = reason.map(ToOwned::to_owned),
            _ => {}
        }
    }
}
