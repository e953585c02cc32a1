//! How long a document is tried again that fails for a reason nobody knows. An outage fails everything; what fails alone, often
//! and for long, is bad.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::pipeline::{Outcome, Reason};
use crate::record::{Partition, Record};

/// How often it must have failed.
const TIMES: u32 = 10;
/// For how long.
const WHILE: Duration = Duration::from_secs(60);

/// What failed for unknown reasons, how often and since when; and when anything was delivered last.
#[derive(Debug, Default)]
pub struct PoisonDetector {
    failing: HashMap<(Partition, i64), (u32, Instant)>,
    delivered: Option<Instant>,
}

impl PoisonDetector {
    /// Returns what becomes of `record`, which failed once more for `reason`.
    pub fn judge(&mut self, record: &Record, reason: Reason) -> Outcome {
        let now = Instant::now();
        let (times, since) = self.failing.entry((record.partition, record.offset)).or_insert((0, now));
        *times += 1;
        let others_passed = self.delivered.is_some_and(|delivered| delivered > *since);
        if *times >= TIMES && now.duration_since(*since) >= WHILE && others_passed {
            return Outcome::Reject(reason);
        }
        Outcome::Retry(reason)
    }

    /// Returns whether `record`, with which everything failed once more, is to blame for that: something was delivered since it
    /// first failed, or it fails often and for long. A server that fails at whatever it is to write never blames a record soon.
    pub fn blame(&mut self, record: &Record) -> bool {
        let now = Instant::now();
        let (times, since) = self.failing.entry((record.partition, record.offset)).or_insert((0, now));
        *times += 1;
        *times > 1 && self.delivered.is_some_and(|delivered| delivered > *since)
            || *times >= TIMES && now.duration_since(*since) >= WHILE
    }

    /// Takes notice of what became of a batch.
    pub fn settle(&mut self, batch: &[Record], outcomes: &[Outcome]) {
        if outcomes.contains(&Outcome::Delivered) {
            self.delivered = Some(Instant::now());
        }
        if self.failing.is_empty() {
            return;
        }
        for (record, outcome) in batch.iter().zip(outcomes) {
            if !matches!(outcome, Outcome::Retry(_) | Outcome::Unclear(_) | Outcome::BatchRejected(_)) {
                self.failing.remove(&(record.partition, record.offset));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> Record {
        let partition = Partition::new("t", 0);
        Record { partition, offset, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    fn fails(patience: &mut PoisonDetector) -> bool {
        matches!(patience.judge(&record(1), Reason::new("c", "m")), Outcome::Reject(_))
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_often_and_long_while_others_pass_is_bad() {
        let mut patience = PoisonDetector::default();
        for _ in 0..20 {
            assert!(!fails(&mut patience), "not long enough");
        }
        tokio::time::advance(WHILE).await;
        assert!(!fails(&mut patience), "nothing else passed");
        patience.settle(&[record(2)], &[Outcome::Delivered]);
        assert!(fails(&mut patience));
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_everything_fail_is_to_blame_once_others_passed_or_after_long() {
        let mut patience = PoisonDetector::default();
        patience.settle(&[record(0)], &[Outcome::Delivered]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!patience.blame(&record(1)) && !patience.blame(&record(1)), "nothing passed since");
        tokio::time::advance(Duration::from_secs(1)).await;
        patience.settle(&[record(2)], &[Outcome::Delivered]);
        assert!(patience.blame(&record(1)));
        for _ in 0..TIMES {
            assert!(!patience.blame(&record(3)));
        }
        tokio::time::advance(WHILE).await;
        assert!(patience.blame(&record(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_is_forgotten() {
        let mut patience = PoisonDetector::default();
        for _ in 0..TIMES {
            assert!(!fails(&mut patience));
        }
        tokio::time::advance(WHILE).await;
        patience.settle(&[record(1), record(2)], &[Outcome::AlreadyThere, Outcome::Delivered]);
        assert!(patience.failing.is_empty());
        assert!(!fails(&mut patience));
    }
}
