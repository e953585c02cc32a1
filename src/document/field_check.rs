//! Finds a field that no record has: most likely a typing error.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::number::none_of;
use crate::pipeline::LOSS_TARGET;
use crate::shape::{FieldPath, MIN_RECORDS};

/// After how many records without the field the warning comes: they are written meanwhile, with another time. A rule of a shape may match
/// rarely, and waits for more; a time is a field of every record.
const SAMPLE_RECORDS: u64 = 1_000;

/// Warns once if many records, or all of a shorter run, lack the time field. After the first that has it, it costs one relaxed load per
/// record.
#[derive(Debug)]
pub(super) struct TimeFieldCheck {
    path: FieldPath,
    lacking: AtomicU64,
    found: AtomicBool,
}

impl TimeFieldCheck {
    pub(super) fn new(path: FieldPath) -> Self {
        Self { path, lacking: AtomicU64::new(0), found: AtomicBool::new(false) }
    }

    /// Counts an object with or without the field.
    pub(super) fn looked_up(&self, found: bool) {
        if self.found.load(Ordering::Relaxed) {
            return;
        }
        if found {
            self.found.store(true, Ordering::Relaxed);
        } else if self.lacking.fetch_add(1, Ordering::Relaxed) + 1 == SAMPLE_RECORDS {
            self.warn(SAMPLE_RECORDS);
        }
    }

    /// Returns how many records lack the field, if a run of them ended and none had it.
    fn lacking_at_end(&self) -> Option<u64> {
        let lacking = self.lacking.load(Ordering::Relaxed);
        (!self.found.load(Ordering::Relaxed) && (MIN_RECORDS..SAMPLE_RECORDS).contains(&lacking)).then_some(lacking)
    }

    fn message(&self, records: u64) -> String {
        let none = none_of(records, "record", "has", "does not have");
        format!("{none} the time field `{}`: documents get the record's time", self.path)
    }

    fn warn(&self, records: u64) {
        tracing::warn!(target: LOSS_TARGET, "{}", self.message(records));
    }
}

impl Drop for TimeFieldCheck {
    fn drop(&mut self) {
        if let Some(lacking) = self.lacking_at_end() {
            self.warn(lacking);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_field_is_missed_only_if_no_record_has_it() {
        let check = |lacking: u64, found: bool| {
            let check = TimeFieldCheck::new(FieldPath::parse("tstamp").unwrap());
            (0..lacking).for_each(|_| check.looked_up(false));
            if found {
                check.looked_up(true);
            }
            check.lacking_at_end()
        };
        assert_eq!(check(0, false), None, "no record, no report");
        assert_eq!(check(MIN_RECORDS, false), Some(MIN_RECORDS));
        assert_eq!(check(MIN_RECORDS, true), None);
        assert_eq!(check(SAMPLE_RECORDS - 1, false), Some(SAMPLE_RECORDS - 1));
        assert_eq!(check(SAMPLE_RECORDS, false), None, "it was said at that record, and is not repeated at the end");
        let check = TimeFieldCheck::new(FieldPath::parse("tstamp").unwrap());
        let many = "none of 1,000 records has the time field `tstamp`: documents get the record's time";
        assert_eq!(check.message(SAMPLE_RECORDS), many);
        let one = "the only record does not have the time field `tstamp`: documents get the record's time";
        assert_eq!(check.message(1), one);
    }
}
