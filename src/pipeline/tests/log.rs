//! The log of a run, and the invariants that it must satisfy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::pipeline::delivery::Destination;
use crate::pipeline::{BadRecordAction, Event, Observer, Ordering, Outcome, RunReport, RunSide, Tally};
use crate::record::{NextOffset, Partition, Record};

/// A record and the life of its partition in which it was read: partition, offset, life.
pub(super) type Coordinates = (Partition, i64, i64);

/// Returns where `record` was read; the broker of these tests keeps the life in the timestamp.
pub(super) fn coordinates(record: &Record) -> Coordinates {
    (record.partition, record.offset, record.timestamp.expect("a life"))
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Assigned(Partition, NextOffset),
    /// The sink prepared for partitions, or failed to.
    Prepared(Vec<Partition>, bool),
    /// The sink was told to give up lost partitions.
    Abandoned(Vec<Partition>),
    Read(Vec<Coordinates>),
    Position(Partition, NextOffset),
    /// A sink was given a batch: which sink, which call of it.
    Submitted(Destination, usize, Vec<Coordinates>),
    Answered(Destination, usize, Vec<(Coordinates, Outcome)>),
    /// A record was left out or skipped.
    Spared(Coordinates),
    /// A record was found bad.
    Bad(Coordinates),
    Commit(Partition, NextOffset),
    /// A partition is revoked or lost; with the last commit if the rebalance waited for it.
    Gone(Partition, Option<NextOffset>),
    Flushed(bool),
    /// An event of the observer, other than counts.
    Observed(String),
    Tally(Tally),
}

/// The log that source, sinks and observer of a run share.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    pub(super) fn note(&self, entry: Entry) {
        self.0.lock().unwrap().push(entry);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the offsets of `partition` that `destination` was given, call by call.
    pub(super) fn submitted(&self, destination: Destination) -> Vec<Vec<i64>> {
        let entries = self.entries();
        let calls = entries.iter().filter_map(|entry| match entry {
            Entry::Submitted(to, _, records) if *to == destination => Some(records),
            _ => None,
        });
        calls.map(|records| records.iter().map(|record| record.1).collect()).collect()
    }

    /// Returns the offsets that `destination` took, in the order of its answers.
    pub(super) fn taken(&self, destination: Destination) -> Vec<i64> {
        let mut taken = Vec::new();
        for entry in self.entries() {
            if let Entry::Answered(to, _, answers) = entry
                && to == destination
            {
                taken.extend(answers.iter().filter(|(_, outcome)| is_there(outcome)).map(|((_, offset, _), _)| *offset));
            }
        }
        taken
    }

    /// Returns the commits of `partition` in their order.
    pub(super) fn commits(&self, partition: Partition) -> Vec<i64> {
        let entries = self.entries();
        let commits = entries.iter().filter_map(|entry| match entry {
            Entry::Commit(of, next) if *of == partition => Some(next.0),
            _ => None,
        });
        commits.collect()
    }

    /// Returns the observed events that begin with `what`.
    pub(super) fn observed(&self, what: &str) -> Vec<String> {
        let events = self.entries().into_iter().filter_map(|entry| match entry {
            Entry::Observed(text) if text.starts_with(what) => Some(text),
            _ => None,
        });
        events.collect()
    }

    /// Returns the starts (`true`) and ends of the stalls of a side.
    pub(super) fn stalls(&self, side: RunSide) -> Vec<bool> {
        let mut stalls = vec![false];
        stalls.extend(self.observed(side.name()).iter().map(|text| text.contains(" stalled: ")));
        stalls.dedup();
        stalls.split_off(1)
    }
}

impl Observer for Log {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Progress(tally) => self.note(Entry::Tally((*tally).clone())),
            Event::Bad { record, action, .. } => {
                if *action == BadRecordAction::Skipped {
                    self.note(Entry::Spared(coordinates(record)));
                }
                self.note(Entry::Bad(coordinates(record)));
                self.note(Entry::Observed(format!("bad {record} {action:?}")));
            }
            Event::Problem { side, problem: None } => self.note(Entry::Observed(format!("{} healthy", side.name()))),
            Event::Problem { side, problem: Some(problem) } => {
                let state = if problem.is_stalled { "stalled" } else { "degraded" };
                self.note(Entry::Observed(format!("{} {state}: {}", side.name(), problem.reason)));
            }
            Event::Retrying { records, attempt, .. } => {
                self.note(Entry::Observed(format!("retrying {records} attempt {attempt}")));
            }
            Event::Bisecting { records, .. } => self.note(Entry::Observed(format!("halving {records}"))),
            Event::Read { bytes, waited, shaping } => {
                self.note(Entry::Observed(format!("read {bytes} bytes after {waited:?}, shaped in {shaping:?}")));
            }
            Event::Responded { took, batch } => self.note(Entry::Observed(format!("responded in {took:?}, batch {batch:?}"))),
            Event::Unassigned(reason) => self.note(Entry::Observed(format!("unassigned {reason:?}"))),
            Event::Draining(why) => self.note(Entry::Observed(format!("draining {why}"))),
            Event::Released { lost, records, .. } => self.note(Entry::Observed(format!("released {records} lost {lost}"))),
            Event::Answered(record, outcome) => self.note(Entry::Observed(format!("answered {record} {outcome:?}"))),
            _ => {}
        }
    }
}

pub(super) fn is_there(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded)
}

/// One partition between assignment and the end of it.
struct Life {
    number: i64,
    committed: NextOffset,
    read: Vec<i64>,
    position: NextOffset,
    submitted: i64,
    prepared: bool,
}

/// Checks the invariants of every run against the logs of source and sinks.
pub(super) fn audit(log: &Log, finished: &RunReport, ordering: Ordering, most_unsettled: usize) {
    finished.tally.assert_balanced();
    let mut owned: BTreeMap<Partition, Life> = BTreeMap::new();
    let mut lives: BTreeMap<Partition, i64> = BTreeMap::new();
    let mut done: BTreeSet<Coordinates> = BTreeSet::new();
    let mut unsettled: BTreeSet<Coordinates> = BTreeSet::new();
    let mut bad: BTreeSet<Coordinates> = BTreeSet::new();
    let mut flying: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
    let (mut read, mut most_seen) = (0, 0);
    for entry in log.entries() {
        match entry {
            Entry::Assigned(partition, start) => {
                let number = lives.entry(partition).and_modify(|number| *number += 1).or_insert(0);
                let life =
                    Life { number: *number, committed: start, read: Vec::new(), position: start, submitted: -1, prepared: false };
                owned.insert(partition, life);
            }
            Entry::Prepared(partitions, succeeded) => {
                for partition in partitions {
                    if let Some(life) = owned.get_mut(&partition) {
                        life.prepared |= succeeded;
                    }
                }
            }
            Entry::Abandoned(partitions) => {
                assert!(!partitions.iter().any(|partition| owned.contains_key(partition)), "{partitions:?} are ours");
            }
            Entry::Read(records) => {
                read += records.len() as u64;
                for record in records {
                    let life = owned.get_mut(&record.0).expect("read of a partition that is not ours");
                    assert_eq!(record.2, life.number, "the broker of the tests hands over the present life only");
                    life.read.push(record.1);
                    life.position = NextOffset(record.1 + 1);
                    unsettled.insert(record);
                }
                most_seen = most_seen.max(unsettled.len());
            }
            Entry::Position(partition, position) => owned.get_mut(&partition).expect("ours").position = position,
            Entry::Submitted(to, call, records) => {
                for (partition, offset, number) in records {
                    assert!(!done.contains(&(partition, offset, number)), "{partition}@{offset} is sent although it is done");
                    if to == Destination::DeadLetters {
                        continue;
                    }
                    let out = flying.entry(partition).or_default();
                    if out.last() != Some(&call) {
                        out.push(call);
                    }
                    assert!(ordering == Ordering::Overlapping || out.len() == 1, "{partition}: two batches are out at once");
                    if let Some(life) = owned.get_mut(&partition).filter(|life| life.number == number) {
                        assert!(life.prepared, "{partition}@{offset} is sent before the sink is prepared for the partition");
                        let waits = |read: &&i64| {
                            let record = (partition, **read, number);
                            (life.submitted + 1..offset).contains(*read) && unsettled.contains(&record) && !bad.contains(&record)
                        };
                        let overtaken = life.read.iter().find(waits);
                        assert_eq!(overtaken, None, "{partition}@{offset} is sent for the first time before this one");
                        life.submitted = life.submitted.max(offset);
                    }
                }
            }
            Entry::Answered(to, call, answers) => {
                for (record, outcome) in answers {
                    if is_there(&outcome) {
                        done.insert(record);
                        unsettled.remove(&record);
                    }
                    if to == Destination::Sink
                        && let Some(out) = flying.get_mut(&record.0)
                    {
                        out.retain(|flying| *flying != call);
                    }
                }
            }
            Entry::Spared(record) => {
                done.insert(record);
                unsettled.remove(&record);
            }
            Entry::Bad(record) => drop(bad.insert(record)),
            Entry::Commit(partition, next) => {
                let life = owned.get_mut(&partition).unwrap_or_else(|| panic!("{partition} is committed and not ours"));
                assert!(next >= life.committed, "{partition}: the commit went back from {:?} to {next:?}", life.committed);
                life.committed = next;
                covered(partition, life, next, &done);
            }
            Entry::Gone(partition, last) => {
                let life = owned.remove(&partition).unwrap_or_else(|| panic!("{partition} goes and is not ours"));
                if let Some(last) = last {
                    assert!(
                        last >= life.committed,
                        "{partition}: the last commit went back from {:?} to {last:?}",
                        life.committed
                    );
                    covered(partition, &life, last, &done);
                }
                unsettled.retain(|record| record.0 != partition);
            }
            Entry::Flushed(_) | Entry::Observed(_) | Entry::Tally(_) => {}
        }
    }
    assert_eq!(finished.tally.read, read, "the engine and the broker count differently");
    assert!(most_seen <= most_unsettled, "{most_seen} records were unsettled at once, {most_unsettled} are the limit");
    for (partition, position) in &finished.positions {
        if let Some(life) = owned.get(partition) {
            assert_eq!(*position, life.committed, "{partition}: a settled offset was not committed at the end");
        }
    }
}

fn covered(partition: Partition, life: &Life, next: NextOffset, done: &BTreeSet<Coordinates>) {
    assert!(next <= life.position, "{partition}: committed {next:?} was never read, only {:?}", life.position);
    for offset in life.read.iter().filter(|offset| **offset < next.0) {
        assert!(done.contains(&(partition, *offset, life.number)), "{partition}: {next:?} is committed and {offset} is not done");
    }
}
