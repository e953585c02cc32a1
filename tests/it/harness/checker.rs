//! The checker: accounts for numbered records.

use std::collections::{HashMap, HashSet};

use super::{Content, Numbered, ReadRecord};

/// The result of a check. Counts are records unless noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckReport {
    /// Sent and missing.
    pub(crate) lost: u64,
    /// Every appearance after the first.
    pub(crate) duplicated: u64,
    /// Before a record that was sent to the same partition earlier.
    pub(crate) reordered: u64,
    /// Never sent, or sent to another partition.
    pub(crate) never_sent: u64,
    /// Other bytes than were sent.
    pub(crate) corrupted: u64,
    /// Number of times that a partition goes back to an earlier record.
    pub(crate) rewinds: u64,
    /// Records of the longest rewind.
    pub(crate) longest_rewind: u64,
}

impl CheckReport {
    /// Returns whether every record is present once and in order.
    pub(crate) fn is_exact(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether every record is present in order; repeats are allowed.
    pub(crate) fn is_complete(&self) -> bool {
        let repeats =
            Self { duplicated: self.duplicated, rewinds: self.rewinds, longest_rewind: self.longest_rewind, ..Self::default() };
        *self == repeats
    }
}

/// Compares the records sent, in their order, with those of a topic, in the order of each partition.
///
/// A restarted run may repeat a range, so a step back is a rewind, not a reordering; a step forward must not skip a record that is
/// present elsewhere.
pub(crate) fn check(sent: &[(i32, Content)], seen: &[ReadRecord]) -> CheckReport {
    let mut place = HashMap::new();
    let mut length = HashMap::<i32, usize>::new();
    let mut order = HashMap::<i32, Vec<Numbered>>::new();
    for (partition, content) in sent {
        let number = content.value.as_deref().and_then(Numbered::of).expect("only numbered records are checked");
        let position = length.entry(*partition).or_default();
        place.insert(number, (*partition, *position, content));
        *position += 1;
        order.entry(*partition).or_default().push(number);
    }
    let present: HashSet<_> = seen.iter().filter_map(|seen| Numbered::of(seen.content.value.as_deref()?)).collect();
    let mut report =
        CheckReport { lost: (place.keys().filter(|number| !present.contains(number)).count()) as u64, ..CheckReport::default() };
    let mut seen_before = HashSet::new();
    let mut last = HashMap::<i32, usize>::new();
    for seen in seen {
        let Some(number) = seen.content.value.as_deref().and_then(Numbered::of) else {
            report.corrupted += 1;
            continue;
        };
        let Some(&(partition, position, content)) = place.get(&number) else {
            report.never_sent += 1;
            continue;
        };
        if partition != seen.partition {
            report.never_sent += 1;
            continue;
        }
        if *content != seen.content {
            report.corrupted += 1;
        }
        if !seen_before.insert(number) {
            report.duplicated += 1;
        }
        match last.insert(partition, position) {
            Some(before) if position <= before => {
                report.rewinds += 1;
                report.longest_rewind = report.longest_rewind.max((before - position + 1) as u64);
            }
            before => {
                let passed_over = &order[&partition][before.map_or(0, |before| before + 1)..position];
                if passed_over.iter().any(|number| present.contains(number)) {
                    report.reordered += 1;
                }
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::super::numbered;
    use super::*;

    fn topic(sent: &[(i32, Content)], order: &[usize]) -> Vec<ReadRecord> {
        let at = |(offset, index): (usize, &usize)| ReadRecord {
            partition: sent[*index].0,
            offset: i64::try_from(offset).unwrap(),
            content: sent[*index].1.clone(),
        };
        order.iter().enumerate().map(at).collect()
    }

    #[test]
    fn equal_sent_and_stored_records_are_exact() {
        let sent = numbered(1, 0, 8, 2);
        assert!(check(&sent, &topic(&sent, &[0, 1, 2, 3, 4, 5, 6, 7])).is_exact());
        assert!(check(&sent, &topic(&sent, &[1, 3, 0, 2, 5, 4, 6, 7])).is_exact(), "order is a partition's");
    }

    #[test]
    fn a_missing_record_is_lost_and_not_disorder() {
        let sent = numbered(1, 0, 5, 1);
        assert_eq!(check(&sent, &topic(&sent, &[0, 1, 3, 4])), CheckReport { lost: 1, ..CheckReport::default() });
        assert_eq!(check(&sent, &topic(&sent, &[1, 2, 3])), CheckReport { lost: 2, ..CheckReport::default() });
    }

    #[test]
    fn a_repeated_range_is_a_rewind_and_not_disorder() {
        let sent = numbered(1, 0, 6, 1);
        let report = check(&sent, &topic(&sent, &[0, 1, 2, 3, 1, 2, 3, 4, 5]));
        assert_eq!(report, CheckReport { duplicated: 3, rewinds: 1, longest_rewind: 3, ..CheckReport::default() });
        assert!(report.is_complete() && !report.is_exact());
    }

    #[test]
    fn two_records_in_the_wrong_order_are_disorder() {
        let sent = numbered(1, 0, 4, 1);
        let report = check(&sent, &topic(&sent, &[0, 2, 1, 3]));
        assert_eq!((report.reordered, report.lost, report.is_complete()), (2, 0, false), "2 passes over 1, and 3 over 2");
    }

    #[test]
    fn invented_and_changed_records_are_reported() {
        let sent = numbered(1, 0, 4, 2);
        let mut seen = topic(&sent, &[0, 1, 2, 3]);
        seen.push(ReadRecord { partition: 0, offset: 9, content: numbered(2, 0, 1, 1).remove(0).1 });
        seen.push(ReadRecord { partition: 0, offset: 10, content: Content::default() });
        seen[0].content.key = None;
        seen[3].partition = 0;
        let report = check(&sent, &seen);
        assert_eq!((report.never_sent, report.corrupted, report.is_complete()), (2, 2, false));
    }
}
