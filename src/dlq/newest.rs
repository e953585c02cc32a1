//! Records that have several letters: one that failed again is a letter again, and the earlier letter stays where it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::dlq::letter::{Letter, first_failure};
use crate::record::{Partition, Record};

/// The most records whose letters are compared; those of further ones count as records of their own.
const MAX_RECORDS: usize = 100_000;

/// A record that failed: its coordinates, time and key, and its first failure. Not its value, which a letter has as it was shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FailedRecord {
    origin: Partition,
    offset: i64,
    timestamp: Option<i64>,
    /// The checksum of the key.
    key: Option<u32>,
    first_failure: u32,
    /// The partition that its letters are in, if only those of one are compared.
    letters: Option<i32>,
}

/// Which of two letters of a record is the later one: the one that was replayed more often, or else stands behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LetterAge {
    replays: u32,
    partition: i32,
    offset: i64,
}

/// The letters of a record.
#[derive(Clone, Copy, Debug)]
struct KnownLetters {
    newest: LetterAge,
    count: u64,
}

impl KnownLetters {
    /// Returns how many have a later one. Without a replay in between, letters with the same coordinates may be those of two records,
    /// of a topic that was re-created.
    fn earlier(&self) -> u64 {
        if self.newest.replays > 0 { self.count - 1 } else { 0 }
    }
}

/// The newest letter of each record, of the letters that were added.
#[derive(Clone, Debug)]
pub(crate) struct NewestLetters {
    records: HashMap<FailedRecord, KnownLetters>,
    across_partitions: bool,
}

impl NewestLetters {
    /// Returns an empty set. Without `across_partitions`, only letters of one partition are compared: the later one stands behind the
    /// earlier one, so that whoever reads the earlier one to the end reads the later one too.
    pub(crate) fn new(across_partitions: bool) -> Self {
        Self { records: HashMap::new(), across_partitions }
    }

    pub(crate) fn add(&mut self, record: &Record, letter: &Letter) {
        let (failed, age) = self.place(record, letter);
        let is_full = self.records.len() >= MAX_RECORDS;
        match self.records.entry(failed) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count += 1;
                known.newest = known.newest.max(age);
            }
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(free) => _ = free.insert(KnownLetters { newest: age, count: 1 }),
        }
    }

    /// Returns whether a later letter of the same record was added.
    pub(crate) fn has_later(&self, record: &Record, letter: &Letter) -> bool {
        let (failed, age) = self.place(record, letter);
        self.records.get(&failed).is_some_and(|known| known.earlier() > 0 && known.newest > age)
    }

    /// Returns how many of the letters have a later one.
    pub(crate) fn earlier(&self) -> u64 {
        self.records.values().map(KnownLetters::earlier).sum()
    }

    /// Returns how many of the letters of this original topic have a later one.
    pub(crate) fn earlier_of(&self, topic: &str) -> u64 {
        let of_topic = self.records.iter().filter(|(failed, _)| failed.origin.topic.name() == topic);
        of_topic.map(|(_, known)| known.earlier()).sum()
    }

    fn place(&self, record: &Record, letter: &Letter) -> (FailedRecord, LetterAge) {
        let (origin, offset) = letter.origin().unwrap_or((record.partition, record.offset));
        let failed = FailedRecord {
            origin,
            offset,
            timestamp: letter.timestamp.or(record.timestamp),
            key: record.key.as_deref().map(crc32fast::hash),
            first_failure: first_failure(&record.headers),
            letters: (!self.across_partitions).then_some(record.partition.index),
        };
        (failed, LetterAge { replays: letter.replays, partition: record.partition.index, offset: record.offset })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::dlq::letter::failed_again;
    use crate::pipeline::{DeadLetterCause, FailureStage, Reason, dead_letter};

    /// Returns the letter of a record that fails now, at this place of the topic of letters.
    fn failed(record: &Record, (index, offset): (i32, i64)) -> Record {
        let reason = Reason::new("c", "m");
        let cause =
            DeadLetterCause { run: "r", flow: "sink-es e/x", stage: FailureStage::Delivery, attempts: 1, reason: &reason };
        Record { partition: Partition::new("bad", index), offset, ..dead_letter(record, &cause) }
    }

    fn original(offset: i64, value: &'static str) -> Record {
        Record {
            partition: Partition::new("newest", 0),
            offset,
            timestamp: Some(7),
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    fn of(letters: &[&Record], across: bool) -> NewestLetters {
        let mut newest = NewestLetters::new(across);
        for record in letters {
            newest.add(record, &Letter::of(&record.headers).unwrap());
        }
        newest
    }

    fn has_later(newest: &NewestLetters, record: &Record) -> bool {
        newest.has_later(record, &Letter::of(&record.headers).unwrap())
    }

    #[test]
    fn of_the_letters_of_a_record_only_the_newest_has_no_later_one() {
        let first = failed(&original(1, "a"), (0, 10));
        let second = failed(&failed_again(&first), (0, 20));
        let third = failed(&failed_again(&second), (0, 30));
        let other = failed(&original(2, "a"), (0, 11));
        for order in [[&first, &second, &third, &other], [&third, &other, &second, &first]] {
            let newest = of(&order, true);
            assert_eq!(order.map(|letter| has_later(&newest, letter)), order.map(|letter| letter == &first || letter == &second));
            assert_eq!((newest.earlier(), newest.earlier_of("newest"), newest.earlier_of("bad")), (2, 2, 0));
        }
    }

    #[test]
    fn a_letter_whose_later_one_is_not_among_them_is_kept() {
        let first = failed(&original(1, "a"), (0, 10));
        let second = failed(&failed_again(&first), (0, 20));
        let newest = of(&[&first], true);
        assert_eq!((has_later(&newest, &first), newest.earlier()), (false, 0));
        assert!(!has_later(&of(&[&second], true), &second));
    }

    #[test]
    fn a_letter_that_failed_again_as_it_was_shaped_is_a_letter_of_the_same_record() {
        let first = failed(&original(1, "a"), (0, 10));
        let shaped = Record { value: Some(Bytes::from_static(b"shaped")), ..failed_again(&first) };
        assert!(has_later(&of(&[&first, &failed(&shaped, (0, 20))], true), &first));
    }

    #[test]
    fn a_record_of_a_re_created_topic_is_another_record() {
        let (first, again) = (failed(&original(1, "a"), (0, 10)), failed(&original(1, "b"), (0, 20)));
        let newest = of(&[&first, &again], true);
        assert!([&first, &again].iter().all(|letter| !has_later(&newest, letter)), "no replay was in between");
        assert_eq!(newest.earlier(), 0);
        let later = failed(&Record { timestamp: Some(8), ..original(1, "a") }, (0, 30));
        let other_key = failed(&Record { key: Some(Bytes::from_static(b"k")), ..original(1, "a") }, (0, 40));
        for other in [later, other_key] {
            let other = failed(&failed_again(&other), (0, 50));
            assert!(!has_later(&of(&[&first, &other], true), &first));
        }
    }

    #[test]
    fn letters_of_other_partitions_are_compared_only_if_all_of_them_are_read() {
        let first = failed(&original(1, "a"), (0, 10));
        let second = failed(&failed_again(&first), (1, 3));
        assert!(has_later(&of(&[&first, &second], true), &first));
        assert!(!has_later(&of(&[&first, &second], false), &first));
    }

    #[test]
    fn memory_stays_bounded_and_no_letter_is_left_out_for_it() {
        let mut newest = NewestLetters::new(true);
        let first = || (0..).take(MAX_RECORDS + 2).map(|number| failed(&original(number, "a"), (0, number)));
        let again = || first().map(|letter| failed(&failed_again(&letter), (0, letter.offset + 1_000_000)));
        for letter in first().chain(again()) {
            newest.add(&letter, &Letter::of(&letter.headers).unwrap());
        }
        assert_eq!((newest.records.len(), newest.earlier()), (MAX_RECORDS, MAX_RECORDS as u64));
        assert_eq!(first().filter(|letter| !has_later(&newest, letter)).count(), 2);
        assert_eq!(again().filter(|letter| has_later(&newest, letter)).count(), 0);
    }
}
