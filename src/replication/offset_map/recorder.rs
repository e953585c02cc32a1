//! What became of the offsets that were read, until it is written.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connectors::kafka::CopiedRun;
use crate::pipeline::{BadRecordAction, Event, Observer};
use crate::record::{Partition, Record};
use crate::replication::offset_map::chunk::CopyMark;
use crate::replication::offset_map::segment::{Absence, Segment, push};

/// The most fingerprints of copies that are kept until one is written.
const MAX_MARKS: usize = 64;

/// Collects what became of each offset: from the producer where records were copied to, from the engine which have no copy. Clones
/// share it.
#[derive(Clone, Default)]
pub(crate) struct CopyRecorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    partitions: HashMap<Partition, RecordedOffsets>,
    /// Nothing is written any more: nothing is kept.
    is_off: bool,
}

/// The offsets of a partition that were read and are not written to the map.
#[derive(Debug, Default)]
struct RecordedOffsets {
    /// Of the assignment.
    epoch: u64,
    from: i64,
    /// By offset, without overlaps.
    copies: VecDeque<RecordedCopies>,
    /// In the order in which they were found.
    absent: Vec<(i64, i64, Absence)>,
    marks: VecDeque<CopyMark>,
    /// The end of the last copy: the source offset, and that of the target.
    end: Option<(i64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordedCopies {
    offset: i64,
    target: i64,
    count: i64,
}

/// What became of the offsets up to a commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Empty if the partition is not recorded.
    pub(crate) segments: Vec<Segment>,
    pub(crate) mark: Option<CopyMark>,
}

impl CopyRecorder {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to record a partition that is read from `from` on.
    pub(crate) fn assign(&self, partition: Partition, epoch: u64, from: i64) {
        let mut all = self.lock();
        if !all.is_off {
            all.partitions.insert(partition, RecordedOffsets { epoch, from, ..RecordedOffsets::default() });
        }
    }

    /// Keeps nothing from now on.
    pub(crate) fn turn_off(&self) {
        *self.lock() = Recorded { is_off: true, ..Recorded::default() };
    }

    /// Ends the recording of a partition, unless it was assigned again since.
    pub(crate) fn forget(&self, partition: Partition, epoch: u64) {
        let mut all = self.lock();
        if all.partitions.get(&partition).is_some_and(|recorded| recorded.epoch == epoch) {
            all.partitions.remove(&partition);
        }
    }

    /// Notes where records were copied to; `last` is the last record of a batch.
    pub(crate) fn on_copied(&self, runs: &[CopiedRun], last: Option<&Record>) {
        let mut all = self.lock();
        for run in runs {
            if let Some(recorded) = all.partitions.get_mut(&run.source) {
                recorded.on_copied(run, last.filter(|record| record.partition == run.source));
            }
        }
    }

    /// Takes what became of the offsets below `next`. What is not known of was never read: there is no record.
    pub(crate) fn drain(&self, partition: Partition, epoch: u64, next: i64) -> Drained {
        let mut all = self.lock();
        let recorded = all.partitions.get_mut(&partition).filter(|recorded| recorded.epoch == epoch && recorded.from < next);
        recorded.map_or_else(Drained::default, |recorded| recorded.drain(next))
    }

    fn on_absent(&self, partition: Partition, offset: i64, why: Absence) {
        if let Some(recorded) = self.lock().partitions.get_mut(&partition) {
            recorded.on_absent(offset, 1, why);
        }
    }
}

impl Observer for CopyRecorder {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Filtered(offsets) => {
                let mut all = self.lock();
                for (partition, offset) in *offsets {
                    if let Some(recorded) = all.partitions.get_mut(partition) {
                        recorded.on_absent(*offset, 1, Absence::Filtered);
                    }
                }
            }
            Event::Bad { record, action: BadRecordAction::DeadLetter, .. } => {
                self.on_absent(record.partition, record.offset, Absence::DeadLettered);
            }
            Event::Bad { record, action: BadRecordAction::Skipped, .. } => {
                self.on_absent(record.partition, record.offset, Absence::Skipped);
            }
            _ => {}
        }
    }
}

impl RecordedOffsets {
    fn on_copied(&mut self, run: &CopiedRun, last: Option<&Record>) {
        let CopiedRun { offset, count, .. } = *run;
        // A broker that does not tell where it has a record had it before: nothing of this producer is between the two.
        let expected = self.end.filter(|(source, _)| *source <= offset).map(|(_, target)| target);
        let Some(target) = Some(run.target).filter(|target| *target >= 0).or(expected) else {
            return self.on_absent(offset, count, Absence::Unknown);
        };
        self.end = Some((offset + count, target + count));
        let is_next = self.copies.back().is_none_or(|copies| copies.offset + copies.count <= offset);
        match self
            .copies
            .back_mut()
            .filter(|copies| copies.offset + copies.count == offset && copies.target + copies.count == target)
        {
            Some(copies) => copies.count += count,
            None if is_next => self.copies.push_back(RecordedCopies { offset, target, count }),
            None => self.insert(RecordedCopies { offset, target, count }),
        }
        if let Some(record) = last.filter(|record| (offset..offset + count).contains(&record.offset)) {
            let copy = crate::record::Fingerprint { offset: target + record.offset - offset, ..record.fingerprint() };
            if self.marks.len() == MAX_MARKS {
                self.marks.remove(1); // keeps the oldest: a commit may be far behind
            }
            self.marks.push_back(CopyMark { source: record.offset, copy });
        }
    }

    /// Inserts copies before others, or in place of others: the last copy counts.
    fn insert(&mut self, new: RecordedCopies) {
        let end = new.offset + new.count;
        let mut kept = VecDeque::with_capacity(self.copies.len() + 2);
        for old in self.copies.drain(..) {
            let old_end = old.offset + old.count;
            if old.offset < new.offset {
                kept.push_back(RecordedCopies { count: old_end.min(new.offset) - old.offset, ..old });
            }
            if old_end > end {
                let skip = (end - old.offset).max(0);
                kept.push_back(RecordedCopies { offset: old.offset + skip, target: old.target + skip, count: old.count - skip });
            }
        }
        let at = kept.partition_point(|copies| copies.offset < new.offset);
        kept.insert(at, new);
        self.copies = kept;
    }

    fn on_absent(&mut self, offset: i64, count: i64, why: Absence) {
        match self.absent.last_mut() {
            Some((first, known, of)) if *first + *known == offset && *of == why => *known += count,
            _ => self.absent.push((offset, count, why)),
        }
    }

    fn drain(&mut self, next: i64) -> Drained {
        let mut found: Vec<(i64, Segment)> = Vec::new();
        while let Some(copies) = self.copies.front_mut().filter(|copies| copies.offset < next) {
            let RecordedCopies { offset, target, count } = *copies;
            let taken = count.min(next - offset);
            found.push((offset, Segment::Copied { target, count: taken }));
            if taken < count {
                *copies = RecordedCopies { offset: offset + taken, target: target + taken, count: count - taken };
                break;
            }
            self.copies.pop_front();
        }
        self.absent.retain_mut(|(offset, count, why)| {
            let taken = (*count).min(next - *offset);
            if taken > 0 {
                found.push((*offset, Segment::Absent { why: *why, count: taken }));
                (*offset, *count) = (*offset + taken, *count - taken);
            }
            *count > 0
        });
        found.sort_by_key(|(offset, _)| *offset);
        let (mut segments, mut at) = (Vec::with_capacity(found.len()), self.from);
        for (offset, segment) in found {
            let (_, Some(segment)) = segment.split((at - offset).max(0)) else { continue };
            let offset = offset.max(at);
            if offset > at {
                push(&mut segments, Segment::Absent { why: Absence::Hole, count: offset - at });
            }
            push(&mut segments, segment);
            at = offset + segment.count();
        }
        if at < next {
            push(&mut segments, Segment::Absent { why: Absence::Hole, count: next - at });
        }
        self.from = next;
        let mut mark = None;
        while self.marks.front().is_some_and(|mark| mark.source < next) {
            mark = self.marks.pop_front();
        }
        Drained { segments, mark }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::Reason;

    fn partition() -> Partition {
        Partition::new("recorded", 0)
    }

    fn record(offset: i64) -> Record {
        Record { partition: partition(), offset, timestamp: Some(1), key: None, value: None, headers: Vec::new() }
    }

    fn run(offset: i64, target: i64, count: i64) -> CopiedRun {
        CopiedRun { source: partition(), offset, target, count }
    }

    fn copied(target: i64, count: i64) -> Segment {
        Segment::Copied { target, count }
    }

    fn absent(why: Absence, count: i64) -> Segment {
        Segment::Absent { why, count }
    }

    #[test]
    fn offsets_below_a_commit_are_taken_with_the_reason_of_those_without_a_copy() {
        let recorder = CopyRecorder::default();
        recorder.on_copied(&[run(1, 1, 1)], None);
        recorder.assign(partition(), 1, 10);
        recorder.on(&Event::Filtered(&[(partition(), 13), (partition(), 14)]));
        let reason = Reason::new("bad", "bad");
        recorder.on(&Event::Bad { record: &record(12), reason: &reason, action: BadRecordAction::DeadLetter });
        recorder.on(&Event::Bad { record: &record(17), reason: &reason, action: BadRecordAction::Skipped });
        recorder.on(&Event::Bad { record: &record(18), reason: &reason, action: BadRecordAction::Stops });
        recorder.on_copied(&[run(11, 50, 1), run(15, 51, 2)], Some(&record(16)));
        let first = recorder.drain(partition(), 1, 16);
        assert_eq!(
            first.segments,
            [
                absent(Absence::Hole, 1),
                copied(50, 1),
                absent(Absence::DeadLettered, 1),
                absent(Absence::Filtered, 2),
                copied(51, 1),
            ]
        );
        assert_eq!(first.mark, None, "the record of the mark is not committed yet");
        let rest = recorder.drain(partition(), 1, 18);
        assert_eq!(rest.segments, [copied(52, 1), absent(Absence::Skipped, 1)]);
        assert_eq!(rest.mark.map(|mark| (mark.source, mark.copy.offset)), Some((16, 52)));
        assert_eq!(recorder.drain(partition(), 1, 18), Drained::default());
        assert_eq!(recorder.drain(partition(), 0, 30), Drained::default(), "an earlier assignment");
        recorder.forget(partition(), 0);
        assert_eq!(recorder.drain(partition(), 1, 19).segments, [absent(Absence::Hole, 1)]);
        recorder.forget(partition(), 1);
        assert_eq!(recorder.drain(partition(), 1, 30), Drained::default());
    }

    #[test]
    fn nothing_is_kept_for_a_map_that_is_not_written() {
        let recorder = CopyRecorder::default();
        recorder.assign(partition(), 1, 0);
        recorder.on_copied(&[run(0, 7, 1)], None);
        recorder.turn_off();
        recorder.assign(Partition::new("recorded", 1), 1, 0);
        recorder.on_copied(&[run(1, 8, 1)], None);
        recorder.on(&Event::Filtered(&[(partition(), 2), (Partition::new("recorded", 1), 0)]));
        assert!(recorder.lock().partitions.is_empty());
    }

    #[test]
    fn a_copy_whose_offset_is_not_told_is_behind_the_one_before() {
        let recorder = CopyRecorder::default();
        recorder.assign(partition(), 1, 0);
        recorder.on_copied(&[run(0, -1, 1), run(1, 8, 1), run(3, -1001, 2)], None);
        let segments = recorder.drain(partition(), 1, 5).segments;
        assert_eq!(segments, [absent(Absence::Unknown, 1), copied(8, 1), absent(Absence::Hole, 1), copied(9, 2)]);
    }

    proptest! {
        #[test]
        fn the_last_copy_of_an_offset_counts(
            runs in prop::collection::vec((0..30_i64, 1..8_i64), 1..12), commits in prop::collection::vec(0..45_i64, 1..5)
        ) {
            let recorder = CopyRecorder::default();
            recorder.assign(partition(), 1, 0);
            let (mut model, mut target) = (BTreeMap::new(), 0);
            for (offset, count) in runs {
                recorder.on_copied(&[run(offset, target, count)], None);
                for n in 0..count {
                    model.insert(offset + n, target + n);
                }
                target += count + 1;
            }
            let (mut at, mut commits) = (0, commits);
            commits.sort_unstable();
            for next in commits {
                for segment in recorder.drain(partition(), 1, next).segments {
                    for n in 0..segment.count() {
                        let found = if let Segment::Copied { target, .. } = segment { Some(target + n) } else { None };
                        prop_assert_eq!(found, model.get(&at).copied(), "{}", at);
                        at += 1;
                    }
                }
                prop_assert_eq!(at, next);
            }
        }
    }
}
