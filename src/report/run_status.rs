//! The state of a run, shared by the progress bar, the status lines, the metrics and the summary.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::pipeline::awaited::awaited;
use crate::pipeline::{BadRecordAction, Event, Observer, RunSide, SideProblem, Tally};
use crate::record::{NextOffset, Partition};
use crate::report::recent_rate::RecentRate;

/// The most causes of dead letters that are told apart.
const MAX_CAUSES: usize = 50;
/// The name of all further causes.
const OTHER_CAUSES: &str = "other";

/// The command and the route of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunInfo {
    /// The command: `replicate`.
    pub(crate) command: &'static str,
    pub(crate) run: String,
    /// Source and destination, for people.
    pub(crate) route: String,
    /// Whether the source has positions to resume from.
    pub(crate) has_positions: bool,
}

/// The state of a run.
#[derive(Debug, Default)]
pub(crate) struct RunStatus(Mutex<StatusFields>);

#[derive(Clone, Debug)]
pub(crate) struct StatusFields {
    /// What runs; not known while it starts.
    pub(crate) info: Option<RunInfo>,
    pub(crate) begun: Instant,
    /// Whether partitions were assigned.
    pub(crate) has_started: bool,
    /// Why reading has stopped, once it has.
    pub(crate) draining: Option<String>,
    pub(crate) tally: Tally,
    /// Of all records that are accounted for.
    pub(crate) rate: RecentRate,
    /// The records that go to the dead letters, by the code of their reason.
    pub(crate) causes: BTreeMap<String, u64>,
    /// None: not known.
    pub(crate) ends: BTreeMap<Partition, Option<i64>>,
    pub(crate) settled: BTreeMap<Partition, NextOffset>,
    pub(crate) committed: BTreeMap<Partition, NextOffset>,
    /// The problem of each side that has one.
    pub(crate) problems: BTreeMap<RunSide, SideProblem>,
    /// Since when each of these sides has a problem.
    pub(crate) problems_since: BTreeMap<RunSide, Instant>,
    /// Whether the group has given the run no partition for a while.
    pub(crate) is_unassigned: bool,
    /// Whether the last partitions were lost, rather than revoked, and none was assigned since.
    pub(crate) has_lost: bool,
}

impl Default for StatusFields {
    fn default() -> Self {
        let begun = Instant::now();
        Self {
            info: None,
            begun,
            has_started: false,
            draining: None,
            tally: Tally::default(),
            rate: RecentRate::new(begun),
            causes: BTreeMap::new(),
            ends: BTreeMap::new(),
            settled: BTreeMap::new(),
            committed: BTreeMap::new(),
            problems: BTreeMap::new(),
            problems_since: BTreeMap::new(),
            is_unassigned: false,
            has_lost: false,
        }
    }
}

/// Why a run without a problem moves nothing at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standstill {
    /// It starts; the server that it waits for, and why, if it does.
    Starting(Option<String>),
    /// The group gives it no partitions.
    Unassigned,
    /// Nothing was read yet, and there is something to read, as far as known.
    FirstRecords,
    /// Everything was read.
    CaughtUp,
}

impl Standstill {
    /// Returns it in words for people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Starting(Some(awaited)) => awaited.clone(),
            Self::Starting(None) => "waiting for the first partitions".to_owned(),
            Self::Unassigned => "waiting for partitions".to_owned(),
            Self::FirstRecords => "waiting for the first records".to_owned(),
            Self::CaughtUp => "waiting for new records".to_owned(),
        }
    }
}

/// Why records were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hindrance {
    pub(crate) side: RunSide,
    reason: String,
}

impl Hindrance {
    /// Returns it in words for people.
    pub(crate) fn text(&self) -> String {
        let what = match self.side {
            RunSide::Source => "reading",
            RunSide::Target => "delivery",
            RunSide::DeadLetters => "dead letters",
            RunSide::Commits => "commits",
        };
        format!("{what} stalled: {}", self.reason)
    }
}

impl RunStatus {
    /// Notes what runs.
    pub(crate) fn describe(&self, info: &RunInfo) {
        self.lock().info = Some(info.clone());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, StatusFields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusFields {
    /// Returns why nothing moves, if nothing does, and no side has a problem.
    pub(crate) fn standstill(&self, now: Instant) -> Option<Standstill> {
        let moves = self.rate.per_second(now).is_some() || self.tally.unsettled() > 0;
        if !self.problems.is_empty() || self.draining.is_some() {
            None
        } else if self.is_unassigned {
            Some(Standstill::Unassigned)
        } else if moves {
            None
        } else if !self.has_started {
            Some(Standstill::Starting(awaited()))
        } else if self.lag() == Some(0) {
            Some(Standstill::CaughtUp)
        } else {
            (self.tally.read == 0).then_some(Standstill::FirstRecords)
        }
    }

    /// Returns the number of offsets between the settled positions and the log ends, if every log end is known.
    pub(crate) fn lag(&self) -> Option<u64> {
        let is_known = !self.ends.is_empty() && self.ends.values().all(Option::is_some);
        is_known.then(|| self.lags().map(|(_, lag)| lag).sum())
    }

    /// Returns why a side is stalled, if it is.
    pub(crate) fn stalled(&self, side: RunSide) -> Option<&str> {
        self.problems.get(&side).filter(|problem| problem.is_stalled).map(|problem| problem.reason.as_str())
    }

    /// Returns the problem that keeps records from being delivered, if there is one.
    pub(crate) fn hindrance(&self) -> Option<Hindrance> {
        let of = |side| Some(Hindrance { side, reason: self.problems.get(&side)?.reason.clone() });
        [RunSide::Target, RunSide::DeadLetters, RunSide::Commits].into_iter().find_map(of)
    }

    /// Returns why no partition is assigned, if it is known: a source that does not answer has cost the run its partitions.
    pub(crate) fn unassigned_reason(&self) -> Option<&'static str> {
        let is_outage = self.has_lost && !self.is_unassigned && self.stalled(RunSide::Source).is_some();
        is_outage.then_some("the source does not answer")
    }

    fn count_cause(&mut self, code: &str) {
        let is_known = self.causes.len() < MAX_CAUSES || self.causes.contains_key(code);
        *self.causes.entry(if is_known { code } else { OTHER_CAUSES }.to_owned()).or_default() += 1;
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
            Event::Progress(tally) => {
                entries.tally = (*tally).clone();
                entries.rate.on_count(tally.read - tally.unsettled(), Instant::now());
            }
            Event::Bad { reason, action: BadRecordAction::DeadLetter, .. } => entries.count_cause(reason.code()),
            Event::Draining(why) => entries.draining = Some((*why).to_owned()),
            Event::LogEndOffsets(ends) => entries.ends.extend(ends.iter().copied()),
            Event::Settled(settled) => entries.settled.extend(settled.iter().copied()),
            Event::Committed(committed) => entries.committed.extend(committed.iter().copied()),
            Event::Unassigned(_) => entries.is_unassigned = true,
            Event::Assigned(assigned) => {
                entries.has_started = true;
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
            Event::Problem { side, problem: Some(problem) } => {
                entries.problems_since.entry(*side).or_insert_with(Instant::now);
                entries.problems.insert(*side, (*problem).clone());
            }
            Event::Problem { side, problem: None } => {
                entries.problems_since.remove(side);
                entries.problems.remove(side);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Assignment, Reason, UnassignedReason};
    use crate::record::Record;

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

    #[test]
    fn a_run_that_moves_nothing_says_why() {
        let status = RunStatus::default();
        let why = || status.lock().standstill(Instant::now()).map(|why| why.text());
        assert_eq!(why().as_deref(), Some("waiting for the first partitions"));
        status.on(&Event::Unassigned(UnassignedReason::NoneLeft));
        assert_eq!(why().as_deref(), Some("waiting for partitions"));
        let partition = Partition::new("still", 0);
        status.on(&Event::Assigned(&[Assignment { partition, start: NextOffset(0), fingerprint: None, extension: None }]));
        assert_eq!(why().as_deref(), Some("waiting for the first records"));
        status.on(&Event::LogEndOffsets(&[(partition, Some(0))]));
        assert_eq!(why().as_deref(), Some("waiting for new records"));
        status.on(&Event::Progress(&Tally { read: 10, ..Tally::default() }));
        assert_eq!(why(), None, "they are in flight");
        status.on(&Event::Progress(&Tally { read: 10, delivered: 10, ..Tally::default() }));
        assert_eq!(why(), None, "some were delivered just now");
    }

    #[test]
    fn what_keeps_records_from_being_delivered_is_known_until_it_ends() {
        let status = RunStatus::default();
        let hindrance = || status.lock().hindrance().map(|hindrance| hindrance.text());
        let problem = |reason: &str| SideProblem { code: "c".to_owned(), reason: reason.to_owned(), is_stalled: true };
        let (away, slow) = (problem("b:9092: connection refused"), problem("no response for more than 3 s"));
        status.on(&Event::Problem { side: RunSide::Source, problem: Some(&away) });
        assert_eq!(hindrance(), None, "what was read can be delivered");
        status.on(&Event::Problem { side: RunSide::DeadLetters, problem: Some(&slow) });
        assert_eq!(hindrance().as_deref(), Some("dead letters stalled: no response for more than 3 s"));
        status.on(&Event::Problem { side: RunSide::Target, problem: Some(&away) });
        assert_eq!(hindrance().as_deref(), Some("delivery stalled: b:9092: connection refused"));
        status.on(&Event::Problem { side: RunSide::Target, problem: None });
        status.on(&Event::Problem { side: RunSide::DeadLetters, problem: None });
        assert_eq!(hindrance(), None);
    }

    #[test]
    fn causes_of_dead_letters_are_counted_by_their_codes_and_bounded() {
        let status = RunStatus::default();
        let partition = Partition::new("causes", 0);
        let record = Record { partition, offset: 7, timestamp: None, key: None, value: None, headers: Vec::new() };
        let bad = |code: &str, action| {
            status.on(&Event::Bad { record: &record, reason: &Reason::new(code, "quotes a document"), action });
        };
        (0..200).for_each(|n| bad(&format!("c{n}"), BadRecordAction::DeadLetter));
        bad("c0", BadRecordAction::DeadLetter);
        bad("c0", BadRecordAction::Skipped);
        let causes = status.lock().causes.clone();
        assert_eq!((causes.len(), causes["c0"], causes[OTHER_CAUSES]), (51, 2, 150));
    }
}
