//! A broker in memory: partitions with records, rebalances, commits, and everything that can go wrong with them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use tokio::sync::Notify;

use super::log::{Entry, Log};
use crate::pipeline::{Assignment, Commit, ConnectorError, Demand, Failure, Revocation, Signal, Source};
use crate::record::{NextOffset, Partition, Record};

/// State shared by the source of a run and its test.
#[derive(Clone)]
pub(super) struct Broker {
    state: Arc<Mutex<State>>,
    bell: Arc<Notify>,
    log: Log,
}

struct State {
    partitions: BTreeMap<Partition, Feed>,
    queue: VecDeque<Queued>,
    revocations: Vec<(Vec<Partition>, mpsc::Receiver<Vec<Commit>>)>,
    /// The source ends after its last record.
    ends: bool,
    ended: bool,
    /// Maximum number of records at once, and of consecutive records of one partition.
    most: usize,
    run: usize,
    turn: usize,
    /// How often a flush is refused before the next is confirmed.
    refusals: u32,
    /// How often the engine asked.
    asked: u64,
    stops: Vec<(Partition, NextOffset)>,
}

/// The signals to return, in order.
enum Queued {
    Assign(Vec<Partition>),
    Signal(Result<Signal, ConnectorError>),
}

struct Feed {
    /// The offsets that hold records, and the end of the partition.
    offsets: Vec<i64>,
    end: i64,
    at: usize,
    life: i64,
    owned: bool,
    told_end: bool,
    committed: NextOffset,
    /// The delivered records that the last commit covers.
    delivered: u64,
}

impl Broker {
    pub(super) fn new(log: &Log) -> Self {
        let state = State {
            partitions: BTreeMap::new(),
            queue: VecDeque::new(),
            revocations: Vec::new(),
            ends: false,
            ended: false,
            most: usize::MAX,
            run: usize::MAX,
            turn: 0,
            refusals: 0,
            asked: 0,
            stops: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), bell: Arc::default(), log: log.clone() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.bell.notify_one();
        result
    }

    /// Adds a partition whose records have these offsets; it ends at `end`.
    pub(super) fn partition(&self, partition: Partition, offsets: impl IntoIterator<Item = i64>, end: i64) {
        let offsets: Vec<i64> = offsets.into_iter().collect();
        let committed = NextOffset(offsets.first().copied().unwrap_or(end));
        let feed = Feed { offsets, end, at: 0, life: -1, owned: false, told_end: false, committed, delivered: 0 };
        self.change(|state| state.partitions.insert(partition, feed));
    }

    /// Adds records at the end of a partition.
    pub(super) fn append(&self, partition: Partition, count: i64) {
        self.change(|state| {
            let feed = state.partitions.get_mut(&partition).unwrap();
            feed.offsets.extend(feed.end..feed.end + count);
            feed.end += count;
            feed.told_end = false;
        });
    }

    /// Hands over at most `most` records at once, in runs of `run` of one partition.
    pub(super) fn in_pieces(&self, most: usize, run: usize) {
        self.change(|state| (state.most, state.run) = (most, run));
    }

    pub(super) fn refuse_flushes(&self, times: u32) {
        self.change(|state| state.refusals = times);
    }

    /// Gives the partitions to the run, from where they are committed.
    pub(super) fn assign(&self, partitions: &[Partition]) {
        self.change(|state| state.queue.push_back(Queued::Assign(partitions.to_vec())));
    }

    /// Begins to take partitions away; they are gone when the run releases them, or with [`Self::give_up_waiting`].
    pub(super) fn revoke(&self, partitions: &[Partition]) {
        self.change(|state| {
            for partition in partitions {
                // Its remaining records are not returned.
                state.partitions.get_mut(partition).unwrap().at = usize::MAX;
            }
            let (revocation, released) = Revocation::new(partitions.to_vec());
            state.revocations.push((partitions.to_vec(), released));
            state.queue.push_back(Queued::Signal(Ok(Signal::Revoked(revocation))));
        });
    }

    /// Returns whether revocations are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.change(|state| {
            self.hear_releases(state);
            !state.revocations.is_empty()
        })
    }

    /// The deadline of every revocation passes: the partitions are gone.
    pub(super) fn give_up_waiting(&self) {
        self.change(|state| {
            self.hear_releases(state);
            for (partitions, _) in std::mem::take(&mut state.revocations) {
                self.gone(state, &partitions, &[]);
            }
        });
    }

    /// Partitions are gone at once: another member has them.
    pub(super) fn lose(&self, partitions: &[Partition]) {
        self.change(|state| {
            self.hear_releases(state);
            self.gone(state, partitions, &[]);
            for (waiting, _) in &mut state.revocations {
                waiting.retain(|partition| !partitions.contains(partition));
            }
            state.queue.push_back(Queued::Signal(Ok(Signal::Lost(partitions.to_vec()))));
        });
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.change(|state| state.queue.push_back(Queued::Signal(Ok(signal))));
    }

    pub(super) fn fail(&self, what: &str) {
        self.change(|state| state.queue.push_back(Queued::Signal(Err(Failure::new(what).into()))));
    }

    /// Plans to read `partition` up to `stop`.
    pub(super) fn plan(&self, partition: Partition, stop: i64) {
        self.change(|state| state.stops.push((partition, NextOffset(stop))));
    }

    /// Lets the run end once everything has been handed over.
    pub(super) fn end(&self) {
        self.change(|state| state.ends = true);
    }

    /// Returns where `partition` is committed.
    pub(super) fn committed(&self, partition: Partition) -> i64 {
        self.change(|state| state.partitions[&partition].committed.0)
    }

    /// Returns how many delivered records the last commit of `partition` covers.
    pub(super) fn delivered(&self, partition: Partition) -> u64 {
        self.change(|state| state.partitions[&partition].delivered)
    }

    /// Returns which of its partitions the run owns.
    pub(super) fn owned(&self) -> (Vec<Partition>, Vec<Partition>) {
        self.change(|state| {
            let (owned, others): (Vec<_>, Vec<_>) = state.partitions.iter().partition(|(_, feed)| feed.owned);
            (owned.into_iter().map(|(p, _)| *p).collect(), others.into_iter().map(|(p, _)| *p).collect())
        })
    }

    /// Returns how often the engine asked for the next signal.
    pub(super) fn asked(&self) -> u64 {
        self.change(|state| state.asked)
    }

    /// Begins the next life of each partition, from where it is committed.
    fn begin(&self, state: &mut State, partitions: &[Partition]) -> Vec<Assignment> {
        let begin = |partition: &Partition| {
            let feed = state.partitions.get_mut(partition).unwrap();
            if feed.owned {
                self.log.note(Entry::Gone(*partition, None));
            }
            feed.at = feed.offsets.partition_point(|offset| *offset < feed.committed.0);
            (feed.life, feed.owned, feed.told_end) = (feed.life + 1, true, false);
            self.log.note(Entry::Assigned(*partition, feed.committed));
            Assignment { partition: *partition, start: feed.committed, fingerprint: None, extension: None }
        };
        partitions.iter().map(begin).collect()
    }

    fn gone(&self, state: &mut State, partitions: &[Partition], commits: &[Commit]) {
        for partition in partitions {
            let feed = state.partitions.get_mut(partition).unwrap();
            if std::mem::take(&mut feed.owned) {
                let last = commits.iter().find(|commit| commit.partition == *partition).map(|commit| commit.next);
                self.log.note(Entry::Gone(*partition, last));
                feed.committed = last.unwrap_or(feed.committed);
            }
            feed.at = usize::MAX;
        }
    }

    /// Takes note of revocations that the run has released by now.
    fn hear_releases(&self, state: &mut State) {
        for (partitions, released) in std::mem::take(&mut state.revocations) {
            match released.try_recv() {
                Ok(commits) => self.gone(state, &partitions, &commits),
                Err(mpsc::TryRecvError::Disconnected) => self.gone(state, &partitions, &[]),
                Err(mpsc::TryRecvError::Empty) => state.revocations.push((partitions, released)),
            }
        }
    }

    fn pull(&self, demand: Demand) -> Option<Result<Signal, ConnectorError>> {
        let state = &mut *self.state.lock().unwrap();
        state.asked += 1;
        self.hear_releases(state);
        match state.queue.pop_front() {
            Some(Queued::Assign(partitions)) => return Some(Ok(Signal::Assigned(self.begin(state, &partitions)))),
            Some(Queued::Signal(signal)) => return Some(signal),
            None => {}
        }
        if let Demand::Records(most) = demand {
            assert!(most > 0, "an appetite for no record at all");
            let records = state.records(most);
            if !records.is_empty() {
                self.log.note(Entry::Read(records.iter().map(super::log::coordinates).collect()));
                return Some(Ok(Signal::Records(records)));
            }
        }
        let at_end = |feed: &&mut Feed| feed.owned && feed.at == feed.offsets.len();
        let mut positions = Vec::new();
        for (partition, feed) in &mut state.partitions {
            if at_end(&feed) && !std::mem::replace(&mut feed.told_end, true) {
                positions.push((*partition, NextOffset(feed.end)));
                self.log.note(Entry::Position(*partition, NextOffset(feed.end)));
            }
        }
        if !positions.is_empty() {
            return Some(Ok(Signal::Position(positions)));
        }
        let over =
            state.ends && !state.ended && state.partitions.values().all(|feed| !feed.owned || feed.at >= feed.offsets.len());
        if over {
            state.ended = true;
            return Some(Ok(Signal::End));
        }
        None
    }
}

impl State {
    fn records(&mut self, most: usize) -> Vec<Record> {
        let most = most.min(self.most);
        let mut records = Vec::new();
        for _ in 0..self.partitions.len() * 2 {
            if records.len() == most {
                break;
            }
            self.turn = (self.turn + 1) % self.partitions.len();
            let (partition, feed) = self.partitions.iter_mut().nth(self.turn).expect("a turn for each");
            if feed.owned && feed.at < feed.offsets.len() {
                let to = feed.offsets.len().min(feed.at + self.run.min(most - records.len()));
                let life = feed.life;
                records.extend(feed.offsets[feed.at..to].iter().map(|offset| record(*partition, *offset, life)));
                feed.at = to;
            }
        }
        records
    }
}

/// Returns a record of 10 bytes.
fn record(partition: Partition, offset: i64, life: i64) -> Record {
    let value = Some(Bytes::from(format!("{offset:010}")));
    Record { partition, offset, timestamp: Some(life), key: None, value, headers: Vec::new() }
}

impl Source for Broker {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        loop {
            if let Some(signal) = self.pull(demand) {
                return signal;
            }
            self.bell.notified().await;
        }
    }

    fn stops(&self) -> Vec<(Partition, NextOffset)> {
        self.change(|state| state.stops.clone())
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let state = &mut *self.state.lock().unwrap();
        self.hear_releases(state);
        for commit in commits {
            // A partition whose revocation timed out is not owned, unknown to the run: the commit is ignored.
            let feed = state.partitions.get_mut(&commit.partition).unwrap();
            if feed.owned {
                (feed.committed, feed.delivered) = (commit.next, commit.delivered);
                self.log.note(Entry::Commit(commit.partition, commit.next));
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        let refused = self.change(|state| {
            let refused = state.refusals > 0;
            state.refusals = state.refusals.saturating_sub(1);
            refused
        });
        self.log.note(Entry::Flushed(!refused));
        if refused { Err(Failure::new("the commit was refused").into()) } else { Ok(()) }
    }

    async fn close(self) -> Result<(), ConnectorError> {
        self.state.lock().map(|mut state| self.hear_releases(&mut state)).expect("no test panicked inside");
        Ok(())
    }
}
