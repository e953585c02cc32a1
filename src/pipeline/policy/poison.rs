//! Decides whether a record causes unclear answers.
//!
//! An unclear answer (a cut connection, an unknown error) may come from an outage, from an unreliable connection, or from a poison
//! record. Counting failures does not distinguish them; neighbours do. A batch that stays unclear while the destination answers
//! others is bisected. A record that stays unclear alone, in ten attempts and over a minute, is bad if a neighbour was delivered
//! between each two of them, and nothing else was unclear meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// Unclear answers in a row before a batch is bisected.
const BISECT_AFTER: u32 = 3;
/// Attempts of a record alone, each with a neighbour that passed since the one before.
const PROOFS: u32 = 10;
/// The time from the first unclear answer to the verdict, at least.
const MIN_TIME: Duration = Duration::from_secs(60);

/// The unclear answers in a row to records that were sent together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnclearAnswers {
    first: Instant,
    /// The number of the event before which the last answer came.
    last: u64,
    count: u32,
    /// Of a record that is sent alone: how often it was unclear while others passed.
    proofs: u32,
}

/// The reaction to an unclear answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnclearVerdict {
    /// The records are sent again together.
    Resend,
    /// The records are sent in two halves.
    Bisect,
    /// The record is bad.
    Reject,
}

/// The latest events of other records, by event number.
#[derive(Debug, Default)]
pub(crate) struct PoisonDetector {
    events: u64,
    /// Something was delivered.
    delivered: u64,
    /// The destination passed a check.
    checked: u64,
    /// An answer was unclear that no isolated record explains, or a check failed.
    disturbed: u64,
}

impl PoisonDetector {
    pub(crate) fn on_delivered(&mut self) {
        self.events += 1;
        self.delivered = self.events;
    }

    pub(crate) fn on_checked(&mut self, passed: bool) {
        self.events += 1;
        *(if passed { &mut self.checked } else { &mut self.disturbed }) = self.events;
    }

    /// Returns whether a check is needed to distinguish an outage from poison: nothing was delivered since `answers`.
    pub(crate) fn needs_check(&self, answers: &UnclearAnswers) -> bool {
        self.delivered <= answers.last
    }

    /// Handles one more unclear answer to `records` records that were sent together, and returns the reaction. `neighbours_passed`
    /// tells that the other records of the call were delivered.
    ///
    /// Only delivered neighbours prove a record bad that times out alone: a check is too cheap to exclude a partial outage.
    pub(crate) fn on_unclear(
        &mut self,
        answers: &mut Option<UnclearAnswers>,
        records: usize,
        neighbours_passed: bool,
        is_time_out: bool,
        now: Instant,
    ) -> UnclearVerdict {
        let is_isolated = records == 1 && answers.is_some();
        let before = self.disturbed;
        self.events += 1;
        if !is_isolated && !neighbours_passed {
            self.disturbed = self.events;
        }
        let Some(answers) = answers else {
            *answers = Some(UnclearAnswers { first: now, last: self.events, count: 1, proofs: 0 });
            return UnclearVerdict::Resend;
        };
        let is_disturbed = before > answers.last;
        let passed = neighbours_passed || self.delivered > answers.last || (!is_time_out && self.checked > answers.last);
        answers.last = self.events;
        answers.count += 1;
        if !is_isolated {
            let is_suspect = answers.count >= BISECT_AFTER && passed;
            return if is_suspect { UnclearVerdict::Bisect } else { UnclearVerdict::Resend };
        }
        match (is_disturbed, passed) {
            (true, _) => answers.proofs = 0,
            (false, true) => answers.proofs += 1,
            (false, false) => {}
        }
        if answers.proofs >= PROOFS && now.duration_since(answers.first) >= MIN_TIME {
            UnclearVerdict::Reject
        } else {
            UnclearVerdict::Resend
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step a second.
    struct Trial {
        detector: PoisonDetector,
        answers: Option<UnclearAnswers>,
        now: Instant,
    }

    impl Trial {
        fn new() -> Self {
            Self { detector: PoisonDetector::default(), answers: None, now: Instant::now() }
        }

        fn tick(&mut self) -> Instant {
            self.now += Duration::from_secs(1);
            self.now
        }

        fn unclear(&mut self, records: usize, is_time_out: bool) -> UnclearVerdict {
            let now = self.tick();
            self.detector.on_unclear(&mut self.answers, records, false, is_time_out, now)
        }

        fn delivered(&mut self) {
            self.tick();
            self.detector.on_delivered();
        }

        fn checked(&mut self, passed: bool) {
            self.tick();
            self.detector.on_checked(passed);
        }

        /// Returns after how many seconds the record is rejected, if it is within an hour.
        fn rejected_after(&mut self, is_time_out: bool, mut between: impl FnMut(&mut Self)) -> Option<u64> {
            let begun = self.now;
            while self.now - begun < Duration::from_secs(3600) {
                if self.unclear(1, is_time_out) == UnclearVerdict::Reject {
                    return Some((self.now - begun).as_secs());
                }
                between(self);
            }
            None
        }
    }

    #[test]
    fn a_record_that_alone_stays_unclear_while_its_neighbours_are_delivered_is_bad_after_a_minute() {
        assert_eq!(Trial::new().rejected_after(false, Trial::delivered), Some(61));
        assert_eq!(Trial::new().rejected_after(true, Trial::delivered), Some(61));
    }

    #[test]
    fn a_record_is_not_blamed_for_an_outage() {
        assert_eq!(Trial::new().rejected_after(false, |_| {}), None);
        assert_eq!(Trial::new().rejected_after(false, |trial| trial.checked(false)), None);
    }

    #[test]
    fn a_check_counts_as_a_delivered_neighbour_except_after_time_outs() {
        assert_eq!(Trial::new().rejected_after(false, |trial| trial.checked(true)), Some(61));
        assert_eq!(Trial::new().rejected_after(true, |trial| trial.checked(true)), None);
    }

    #[test]
    fn a_record_is_not_blamed_for_an_unstable_connection() {
        let mut turn = 0;
        let flaky = |trial: &mut Trial| {
            turn += 1;
            if turn % 5 == 0 {
                let now = trial.tick();
                trial.detector.on_unclear(&mut None, 1, false, false, now);
            }
            trial.delivered();
        };
        assert_eq!(Trial::new().rejected_after(false, flaky), None);
    }

    #[test]
    fn a_batch_is_bisected_when_others_pass_and_not_in_an_outage() {
        let mut trial = Trial::new();
        for _ in 0..100 {
            assert_eq!(trial.unclear(8, false), UnclearVerdict::Resend);
        }
        trial.checked(true);
        assert_eq!(trial.unclear(8, false), UnclearVerdict::Bisect);
        let mut trial = Trial::new();
        for _ in 0..2 {
            assert_eq!(trial.unclear(8, false), UnclearVerdict::Resend);
            trial.delivered();
        }
        assert_eq!(trial.unclear(8, false), UnclearVerdict::Bisect);
    }
}
