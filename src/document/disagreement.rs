//! Detects look-ups that contradict the failed write. Pure.
//!
//! A write fails because its id is taken, and a look-up finds nothing under that id. Once, the document was deleted in between. Again and
//! again, the look-up asks for another id or place than the write: a pipeline changes the id, a collation compares ids in another way.

use std::collections::HashMap;

use crate::pipeline::Reason;
use crate::record::{Partition, Record};

/// How often a look-up may disagree with the write of a record.
const MAX_DISAGREEMENTS: u32 = 5;

/// The records whose look-ups disagree with their writes.
#[derive(Debug, Default)]
pub(crate) struct Disagreements {
    counts: HashMap<(Partition, i64), u32>,
}

impl Disagreements {
    /// Notes that a look-up found nothing under the id of `record`, which is taken. Returns the refusal once that is not a race any more.
    pub(crate) fn note(&mut self, record: &Record) -> Option<Reason> {
        let count = self.counts.entry((record.partition, record.offset)).or_insert(0);
        *count += 1;
        (*count >= MAX_DISAGREEMENTS).then(|| {
            let what = format!("the id of record {record} is taken, and {count} look-ups found nothing under it");
            Reason::new("lookup_disagrees", what)
                .hint("write to a place where an id is stored as it is sent: without a pipeline that changes it, or a collation")
                .refusal()
        })
    }

    /// Forgets a record whose look-up agreed.
    pub(crate) fn forget(&mut self, record: &Record) {
        self.counts.remove(&(record.partition, record.offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_never_agrees_with_the_write_is_refused() {
        let record = |offset| Record {
            partition: Partition::new("t", 0),
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let mut disagreements = Disagreements::default();
        for _ in 1..MAX_DISAGREEMENTS {
            assert_eq!(disagreements.note(&record(1)), None);
            assert_eq!(disagreements.note(&record(2)), None);
        }
        disagreements.forget(&record(2));
        assert!(disagreements.note(&record(1)).unwrap().is_refusal());
        assert_eq!(disagreements.note(&record(2)), None, "a race that was over counts anew");
    }
}
