//! The adaptive number of batches in flight: increased by answers, halved by overload.

/// Batches at once before the first answer.
const INITIAL_LIMIT: f64 = 2.0;

/// An additive-increase, multiplicative-decrease (AIMD) limit on the batches in flight.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    max: f64,
    limit: f64,
    /// How often the limit was halved.
    round: u32,
}

/// The number of halvings before a batch was sent: of batches that were in flight together, only the first halves the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round(u32);

impl ConcurrencyLimit {
    #[allow(clippy::cast_precision_loss)] // a handful
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Self { max, limit: INITIAL_LIMIT.min(max), round: 0 }
    }

    /// Returns whether a batch may be sent while `in_flight` others are in flight.
    #[allow(clippy::cast_precision_loss)] // a handful
    pub(crate) fn allows(&self, in_flight: usize) -> bool {
        (in_flight + 1) as f64 <= self.limit
    }

    pub(crate) fn round(&self) -> Round {
        Round(self.round)
    }

    /// Handles an answer without overload: one more batch per answer before the first overload, one more per round of answers
    /// after it.
    pub(crate) fn on_answer(&mut self) {
        let step = if self.round == 0 { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(self.max);
    }

    /// Handles an overload answer to a batch that was sent in `round`; returns whether the limit was halved for it.
    pub(crate) fn on_overload(&mut self, round: Round) -> bool {
        let is_first = round == self.round();
        if is_first {
            self.limit = (self.limit / 2.0).max(1.0);
            self.round += 1;
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limit: &ConcurrencyLimit) -> usize {
        (0..1000).take_while(|in_flight| limit.allows(*in_flight)).count()
    }

    #[test]
    fn the_limit_grows_per_answer_until_the_first_overload_and_per_round_afterwards() {
        let mut limit = ConcurrencyLimit::new(8);
        let mut seen = vec![allowed(&limit)];
        for _ in 0..7 {
            limit.on_answer();
            seen.push(allowed(&limit));
        }
        assert_eq!(seen, [2, 3, 4, 5, 6, 7, 8, 8]);
        limit.on_overload(limit.round());
        assert_eq!(allowed(&limit), 4);
        for _ in 0..4 {
            assert_eq!(allowed(&limit), 4);
            limit.on_answer();
        }
        limit.on_answer();
        assert_eq!(allowed(&limit), 5);
        assert_eq!(allowed(&ConcurrencyLimit::new(1)), 1);
    }

    #[test]
    fn the_limit_is_halved_once_per_round_and_never_below_one() {
        let mut limit = ConcurrencyLimit::new(8);
        (0..8).for_each(|_| limit.on_answer());
        let together = [limit.round(); 8];
        let halved = together.into_iter().filter(|round| limit.on_overload(*round)).count();
        assert_eq!((halved, allowed(&limit)), (1, 4));
        for _ in 0..9 {
            limit.on_overload(limit.round());
        }
        assert_eq!(allowed(&limit), 1);
    }
}
