//! The committable offset of a partition. Pure.

use std::collections::VecDeque;
use std::ops::Range;

use crate::record::{Fingerprint, NextOffset};

/// The progress of a partition from assignment to revocation.
///
/// Records are tracked in the order in which they are read and settled in any order; the watermark is the end of the settled prefix.
/// Contiguous means "in the order of reading", never `offset == previous + 1`: compaction, aborted transactions and control records
/// leave holes.
#[derive(Debug)]
pub struct Watermark {
    /// The offset to resume from.
    next: NextOffset,
    /// The newest marked record below `next`.
    last: Option<Fingerprint>,
    /// The sequence number of the oldest pending record.
    base: u64,
    /// Per record from `base` on: the offset behind it and any hole that follows, and whether it is settled.
    pending: VecDeque<(NextOffset, bool)>,
    /// Records whose fingerprint is known, by sequence number.
    marks: VecDeque<(u64, Fingerprint)>,
    unsettled: usize,
}

impl Watermark {
    /// Returns the watermark of a partition that is read from `start` on; `last` is the newest known record below it.
    #[must_use]
    pub fn new(start: NextOffset, last: Option<Fingerprint>) -> Self {
        Self { next: start, last, base: 0, pending: VecDeque::new(), marks: VecDeque::new(), unsettled: 0 }
    }

    /// Takes the record at `offset` into account and returns its sequence number.
    pub fn track(&mut self, offset: i64) -> u64 {
        self.pending.push_back((NextOffset(offset + 1), false));
        self.unsettled += 1;
        self.base + self.pending.len() as u64 - 1
    }

    /// Stores the fingerprint of the record that was tracked last.
    pub fn mark(&mut self, fingerprint: Fingerprint) {
        if let Some(newest) = (self.base + self.pending.len() as u64).checked_sub(1).filter(|_| !self.pending.is_empty()) {
            self.marks.push_back((newest, fingerprint));
        }
    }

    /// Notes that no record is left before `position`: it becomes committable with the last pending record, at once if there is none.
    pub fn advance_to(&mut self, position: NextOffset) {
        let end = self.pending.back_mut().map_or(&mut self.next, |(next, _)| next);
        *end = position.max(*end);
    }

    /// Settles the records with these sequence numbers and returns how many were not settled before.
    pub fn settle(&mut self, sequence: Range<u64>) -> usize {
        let before = self.unsettled;
        for number in sequence.start.max(self.base)..sequence.end {
            let at = usize::try_from(number - self.base).expect("pending records fit in memory");
            let Some((_, settled)) = self.pending.get_mut(at) else { break };
            if !std::mem::replace(settled, true) {
                self.unsettled -= 1;
            }
        }
        while let Some(&(next, true)) = self.pending.front() {
            self.pending.pop_front();
            self.base += 1;
            self.next = next;
        }
        while let Some(&(number, fingerprint)) = self.marks.front() {
            if number >= self.base {
                break;
            }
            self.marks.pop_front();
            self.last = Some(fingerprint);
        }
        before - self.unsettled
    }

    /// Returns the offset to resume from.
    #[must_use]
    pub fn next(&self) -> NextOffset {
        self.next
    }

    /// Returns the newest marked record below [`Self::next`].
    #[must_use]
    pub fn last(&self) -> Option<Fingerprint> {
        self.last
    }

    /// Returns the number of records below [`Self::next`] that were tracked.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.base
    }

    /// Returns the number of records that were tracked and are not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fingerprint(offset: i64) -> Fingerprint {
        Fingerprint { offset, timestamp: None, crc: 0 }
    }

    #[test]
    fn nothing_is_committable_past_an_unsettled_record() {
        let mut watermark = Watermark::new(NextOffset(10), None);
        let numbers = [10, 11, 12].map(|offset| watermark.track(offset));
        assert_eq!(watermark.settle(numbers[1]..numbers[2] + 1), 2);
        assert_eq!(watermark.settle(numbers[1]..numbers[2] + 1), 0, "settled already");
        assert_eq!((watermark.next(), watermark.unsettled(), watermark.passed()), (NextOffset(10), 1, 0));
        watermark.settle(numbers[0]..numbers[0] + 1);
        assert_eq!((watermark.next(), watermark.unsettled(), watermark.passed()), (NextOffset(13), 0, 3));
    }

    #[test]
    fn an_offset_gap_is_passed_when_the_record_before_it_settles() {
        let mut watermark = Watermark::new(NextOffset(0), None);
        let first = watermark.track(0);
        watermark.advance_to(NextOffset(5));
        assert_eq!(watermark.next(), NextOffset(0), "the record before the hole is still pending");
        watermark.settle(first..first + 1);
        assert_eq!(watermark.next(), NextOffset(5));
        watermark.advance_to(NextOffset(9));
        assert_eq!(watermark.next(), NextOffset(9), "nothing is pending, so the position itself is committable");
        watermark.advance_to(NextOffset(3));
        assert_eq!(watermark.next(), NextOffset(9), "never backwards");
    }

    #[test]
    fn the_fingerprint_is_the_one_of_a_record_below_the_watermark() {
        let mut watermark = Watermark::new(NextOffset(0), Some(fingerprint(-1)));
        let numbers = [0, 1, 2, 3].map(|offset| {
            let number = watermark.track(offset);
            if offset % 2 == 1 {
                watermark.mark(fingerprint(offset));
            }
            number
        });
        watermark.settle(numbers[1]..numbers[3]);
        assert_eq!(watermark.last(), Some(fingerprint(-1)));
        watermark.settle(numbers[0]..numbers[1]);
        assert_eq!(watermark.last(), Some(fingerprint(1)));
        watermark.settle(numbers[3]..numbers[3] + 1);
        assert_eq!(watermark.last(), Some(fingerprint(3)));
    }

    /// One step of a partition.
    #[derive(Debug, Clone)]
    enum Step {
        Take { hole: u8, mark: bool },
        Pass { hole: u8 },
        Settle { from: prop::sample::Index, count: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u8..3, any::<bool>()).prop_map(|(hole, mark)| Step::Take { hole, mark }),
            1 => (0_u8..3).prop_map(|hole| Step::Pass { hole }),
            4 => (any::<prop::sample::Index>(), 1_u8..4).prop_map(|(from, count)| Step::Settle { from, count }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a model that keeps every record: any order of settling, with holes, ranges that overlap, and repeats.
        #[test]
        fn the_watermark_is_the_end_of_the_settled_prefix(start in 0_i64..1000, steps in steps()) {
            let mut watermark = Watermark::new(NextOffset(start), None);
            let mut read_to = start;
            let mut model: Vec<(i64, bool, bool)> = Vec::new(); // end with the hole behind it, settled, marked
            let mut before = start; // position while nothing was taken
            let mut previous = watermark.next();
            for step in steps {
                match step {
                    Step::Take { hole, mark } => {
                        let offset = read_to + i64::from(hole);
                        prop_assert_eq!(watermark.track(offset), model.len() as u64);
                        if mark {
                            watermark.mark(fingerprint(offset));
                        }
                        read_to = offset + 1;
                        model.push((read_to, false, mark));
                    }
                    Step::Pass { hole } => {
                        read_to += i64::from(hole);
                        watermark.advance_to(NextOffset(read_to));
                        match model.last_mut() {
                            Some((end, settled, _)) => {
                                // A position reported after everything settled belongs to the prefix; either way the end moves.
                                let _ = settled;
                                *end = read_to.max(*end);
                            }
                            None => before = read_to,
                        }
                    }
                    Step::Settle { from, count } => {
                        if model.is_empty() { continue; }
                        let first = from.index(model.len());
                        let end = (first + usize::from(count)).min(model.len());
                        watermark.settle(first as u64..end as u64);
                        model[first..end].iter_mut().for_each(|record| record.1 = true);
                    }
                }
                let prefix = model.iter().take_while(|record| record.1).count();
                let expected = if prefix == 0 { before } else { model[prefix - 1].0 };
                prop_assert_eq!(watermark.next(), NextOffset(expected));
                prop_assert_eq!(watermark.unsettled(), model.iter().filter(|record| !record.1).count());
                prop_assert!(watermark.next() >= previous, "the watermark went back");
                prop_assert!(watermark.last().is_none_or(|last| last.offset < watermark.next().0));
                prop_assert_eq!(watermark.last().is_some(), model[..prefix].iter().any(|record| record.2));
                previous = watermark.next();
            }
        }
    }
}
