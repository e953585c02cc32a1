//! Where delivered records are: offsets of the target in runs.

use crate::record::{Partition, Record};

/// Consecutive source offsets that were copied to consecutive target offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopiedRun {
    pub(crate) source: Partition,
    pub(crate) offset: i64,
    /// Negative if the broker did not tell.
    pub(crate) target: i64,
    pub(crate) count: i64,
}

/// Takes the runs since the last call, and the last record of the batch that is answered. Called by the thread that owns the producer.
pub(crate) type OnCopied = Box<dyn FnMut(&[CopiedRun], Option<&Record>) + Send>;

/// The runs of delivery reports, until a batch is answered.
pub(super) struct Copies {
    runs: Vec<CopiedRun>,
    on_copied: OnCopied,
    /// What is reported for the record behind one whose place is not known: librdkafka counts on from -1.
    uncounted: Option<(Partition, i64)>,
}

impl Copies {
    pub(super) fn new(on_copied: OnCopied) -> Self {
        Self { runs: Vec::new(), on_copied, uncounted: None }
    }

    /// Notes that `record` was written at `target`.
    pub(super) fn note(&mut self, record: &Record, target: i64) {
        let is_known = target >= 0 && self.uncounted != Some((record.partition, target));
        self.uncounted = (!is_known).then_some((record.partition, target + 1));
        let target = if is_known { target } else { -1 };
        match self.runs.last_mut() {
            Some(run)
                if run.source == record.partition
                    && run.offset + run.count == record.offset
                    && target >= 0
                    && run.target + run.count == target =>
            {
                run.count += 1;
            }
            _ => self.runs.push(CopiedRun { source: record.partition, offset: record.offset, target, count: 1 }),
        }
    }

    /// Hands over what was noted; `last` is the last record of a batch.
    pub(super) fn report(&mut self, last: Option<&Record>) {
        if !self.runs.is_empty() {
            (self.on_copied)(&self.runs, last);
            self.runs.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn records_that_follow_each_other_on_both_sides_are_one_run() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let mut copies = Copies::new(Box::new(move |runs, _| {
            noted.lock().unwrap().extend(runs.iter().map(|run| (run.source.to_string(), run.offset, run.target, run.count)));
        }));
        let record = |index, offset| Record {
            partition: Partition::new("copies", index),
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        for (index, offset, target) in [
            (0, 5, 9),
            (0, 6, 10),
            (1, 7, 11),
            (1, 8, 12),
            (1, 10, 13),
            (1, 11, 15),
            (1, 12, -1),
            (1, 14, 0),
            (1, 15, 1),
            (1, 16, 20),
        ] {
            copies.note(&record(index, offset), target);
        }
        copies.report(None);
        copies.report(None);
        let run = |partition: &str, offset, target, count| (partition.to_owned(), offset, target, count);
        let expected = [
            run("copies/0", 5, 9, 2),
            run("copies/1", 7, 11, 2),
            run("copies/1", 10, 13, 1),
            run("copies/1", 11, 15, 1),
            run("copies/1", 12, -1, 1),
            run("copies/1", 14, -1, 1),
            run("copies/1", 15, -1, 1),
            run("copies/1", 16, 20, 1),
        ];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
