//! Detects look-ups that contradict the failed write. Pure.
//!
//! A write fails because its id is taken, and a look-up finds nothing under that id. Once, the document was deleted in between. Again and
//! again, the look-up asks for another id or place than the write: a pipeline changes the id, a collation compares ids in another way.
//! The same holds for the other contradictions of [`Contradiction`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::pipeline::Reason;
use crate::record::{Partition, Record};

/// How often a look-up may disagree with the write of a record.
const MAX_DISAGREEMENTS: u32 = 5;

/// How a look-up disagrees with the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// The id is taken, and nothing is found under it.
    Nothing,
    /// The write was rejected for a version that is not older, and an older one is found.
    Older,
    /// No document is there to update, and one is found.
    Document,
}

/// The records whose look-ups disagree with their writes: how often, and since when.
#[derive(Debug, Default)]
pub(crate) struct Disagreements {
    counts: HashMap<(Partition, i64), (u32, Instant)>,
}

impl Disagreements {
    /// Notes that the look-up for `record` disagreed with its write at `now`. Returns the refusal once that is not a race any more, and
    /// lasts for `patience`.
    pub(crate) fn note(
        &mut self,
        record: &Record,
        contradiction: Contradiction,
        patience: Duration,
        now: Instant,
    ) -> Option<Reason> {
        let (count, since) = self.counts.entry((record.partition, record.offset)).or_insert((0, now));
        *count += 1;
        if *count < MAX_DISAGREEMENTS || now.saturating_duration_since(*since) < patience {
            return None;
        }
        let (what, hint) = match contradiction {
            Contradiction::Nothing => (
                format!("the id of record {record} is taken, and {count} look-ups found nothing under it"),
                "write to a place where an id is stored as it is sent: without a pipeline that changes it, or a collation",
            ),
            Contradiction::Older => (
                format!("the server rejects record {record} as not newer, and {count} look-ups found an older version"),
                "another client changes the documents, and their versions: stop it, or write to a place of its own",
            ),
            Contradiction::Document => (
                format!("the server has no document to update for record {record}, and {count} look-ups found one"),
                "write to a place where a document is updated where it is found: without an alias that routes in another way",
            ),
        };
        Some(Reason::new("lookup_disagrees", what).hint(hint).refusal())
    }

    /// Forgets a record whose look-up agreed.
    pub(crate) fn forget(&mut self, record: &Record) {
        if !self.counts.is_empty() {
            self.counts.remove(&(record.partition, record.offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> Record {
        Record { partition: Partition::new("t", 0), offset, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    #[test]
    fn a_look_up_that_never_agrees_with_the_write_is_refused() {
        let now = Instant::now();
        for contradiction in [Contradiction::Nothing, Contradiction::Older, Contradiction::Document] {
            let mut disagreements = Disagreements::default();
            let note = |disagreements: &mut Disagreements, offset| {
                disagreements.note(&record(offset), contradiction, Duration::ZERO, now)
            };
            for _ in 1..MAX_DISAGREEMENTS {
                assert_eq!(note(&mut disagreements, 1), None);
                assert_eq!(note(&mut disagreements, 2), None);
            }
            disagreements.forget(&record(2));
            assert!(note(&mut disagreements, 1).unwrap().is_refusal(), "{contradiction:?}");
            assert_eq!(note(&mut disagreements, 2), None, "a race that was over counts anew");
        }
    }

    #[test]
    fn a_look_up_may_disagree_for_as_long_as_a_server_remembers_a_deleted_document() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut disagreements = Disagreements::default();
        let mut note = |after| disagreements.note(&record(1), Contradiction::Nothing, minute, now + after);
        for _ in 0..100 {
            assert_eq!(note(Duration::from_secs(59)).or(note(Duration::ZERO)), None);
        }
        assert!(note(minute * 2).is_some());
    }
}
