//! The adaptive batch size: halved after a time-out, increased by answers.

/// After an answer, the limit grows by the threshold divided by this, once it has reached the threshold.
const GROWTH: usize = 50;

/// The limit on the records of one call to the sink.
///
/// A server that is too slow for its deadline and one that is silent look alike at first. After a series of time-outs the limit
/// doubles with each answer up to half the size that timed out first, and grows slowly from there, because a call that timed out may
/// still have been carried out.
#[derive(Debug)]
pub(crate) struct BatchSizeLimit {
    max: usize,
    limit: usize,
    threshold: usize,
    /// Whether an answer came since the last time-out.
    answered: bool,
}

impl BatchSizeLimit {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { max, limit: max, threshold: max, answered: true }
    }

    pub(crate) fn records(&self) -> usize {
        self.limit
    }

    /// Takes an answer to a call of `records` records.
    pub(crate) fn on_answer(&mut self, records: usize) {
        self.answered = true;
        if records >= self.limit && self.limit < self.max {
            let grown = if self.limit < self.threshold {
                (self.limit * 2).min(self.threshold)
            } else {
                self.limit + (self.threshold / GROWTH).max(1)
            };
            self.limit = grown.min(self.max);
        }
    }

    /// Takes a time-out.
    pub(crate) fn on_time_out(&mut self) {
        let half = (self.limit / 2).max(1);
        if std::mem::replace(&mut self.answered, false) {
            self.threshold = half;
        }
        self.limit = half;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_halves_the_size_down_to_one_record() {
        let mut size = BatchSizeLimit::new(5000);
        let mut seen = Vec::new();
        for _ in 0..14 {
            size.on_time_out();
            seen.push(size.records());
        }
        assert_eq!(seen, [2500, 1250, 625, 312, 156, 78, 39, 19, 9, 4, 2, 1, 1, 1]);
    }

    #[test]
    fn the_size_recovers_after_an_outage() {
        let mut size = BatchSizeLimit::new(5000);
        (0..20).for_each(|_| size.on_time_out());
        let answers = (1..1000).find(|_| {
            size.on_answer(size.records());
            size.records() == 5000
        });
        assert!(answers.is_some_and(|answers| answers < 70), "{answers:?} answers");
    }

    #[test]
    fn a_size_that_times_out_is_seldom_tried_again() {
        let mut size = BatchSizeLimit::new(5000);
        let (mut timed_out, mut answered) = (0, 0);
        for _ in 0..1000 {
            if size.records() > 1000 {
                size.on_time_out();
                timed_out += 1;
            } else {
                size.on_answer(size.records());
                answered += 1;
            }
        }
        assert!(timed_out * 20 < answered, "{timed_out} time-outs, {answered} answers");
    }

    #[test]
    fn small_batches_do_not_raise_the_limit() {
        let mut size = BatchSizeLimit::new(100);
        size.on_time_out();
        (0..100).for_each(|_| size.on_answer(10));
        assert_eq!(size.records(), 50);
    }
}
