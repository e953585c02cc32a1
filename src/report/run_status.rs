//! The state of a run, shared by the progress bar, the status lines, the metrics and the summary.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pipeline::{Event, Observer, RunSide, SideProblem, Tally};
use crate::record::{NextOffset, Partition};

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct RunStatus(Mutex<StatusFields>);

#[derive(Clone, Debug, Default)]
pub(crate) struct StatusFields {
    pub(crate) tally: Tally,
    /// None: not known.
    pub(crate) ends: BTreeMap<Partition, Option<i64>>,
    pub(crate) settled: BTreeMap<Partition, NextOffset>,
    pub(crate) committed: BTreeMap<Partition, NextOffset>,
    /// The problem of each side that has one.
    pub(crate) problems: BTreeMap<RunSide, SideProblem>,
    /// Whether the group has given the run no partition for a while.
    pub(crate) is_unassigned: bool,
    /// Whether the last partitions were lost, rather than revoked, and none was assigned since.
    pub(crate) has_lost: bool,
}

impl RunStatus {
    pub(crate) fn lock(&self) -> MutexGuard<'_, StatusFields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusFields {
    /// Returns the number of offsets between the settled positions and the log ends, if every log end is known.
    pub(crate) fn lag(&self) -> Option<u64> {
        let is_known = !self.ends.is_empty() && self.ends.values().all(Option::is_some);
        is_known.then(|| self.lags().map(|(_, lag)| lag).sum())
    }

    /// Returns why a side is stalled, if it is.
    pub(crate) fn stalled(&self, side: RunSide) -> Option<&str> {
        self.problems.get(&side).filter(|problem| problem.is_stalled).map(|problem| problem.reason.as_str())
    }

    /// Returns why no partition is assigned, if it is known: a source that does not answer has cost the run its partitions.
    pub(crate) fn unassigned_reason(&self) -> Option<&'static str> {
        let is_outage = self.has_lost && !self.is_unassigned && self.stalled(RunSide::Source).is_some();
        is_outage.then_some("the source does not answer")
    }

    pub(crate) fn lags(&self) -> impl Iterator<Item = (Partition, u64)> {
        let of = |(partition, end): (&Partition, &Option<i64>)| {
            self.settled.get(partition).zip(*end).map(|(next, end)| (*partition, u64::try_from(end - next.0).unwrap_or(0)))
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
            Event::Unassigned(_) => entries.is_unassigned = true,
            Event::Assigned(assigned) => {
                entries.is_unassigned &= assigned.is_empty();
                entries.has_lost &= assigned.is_empty();
                for one in *assigned {
                    entries.settled.insert(one.partition, one.start);
                    entries.ends.remove(&one.partition);
                }
            }
            Event::Released { partitions, lost, .. } => {
                entries.has_lost = *lost;
                for partition in *partitions {
                    entries.ends.remove(partition);
                    entries.settled.remove(partition);
                }
            }
            Event::Problem { side, problem: Some(problem) } => drop(entries.problems.insert(*side, (*problem).clone())),
            Event::Problem { side, problem: None } => drop(entries.problems.remove(side)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Assignment;

    #[test]
    fn a_lag_is_known_when_every_log_end_offset_is() {
        let status = RunStatus::default();
        let [read, waiting] = [0, 1].map(|index| Partition::new("lag", index));
        let assigned = Assignment { partition: read, start: NextOffset(5), fingerprint: None, extension: None };
        status.on(&Event::Assigned(&[assigned]));
        assert_eq!(status.lock().lag(), None);
        status.on(&Event::LogEndOffsets(&[(read, Some(7)), (waiting, None)]));
        assert_eq!(status.lock().lag(), None, "0 records behind would be a guess");
        assert_eq!(status.lock().lags().collect::<Vec<_>>(), [(read, 2)]);
        status.on(&Event::Released { partitions: &[waiting], lost: false, records: 0 });
        assert_eq!(status.lock().lag(), Some(2));
    }
}
