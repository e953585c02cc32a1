//! The rate at which records are read.

use std::time::Duration;

use tokio::time::Instant;

/// A limit on the read rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Records a second.
    Records(f64),
    /// Bytes of key, value and headers a second.
    Bytes(f64),
}

/// A token bucket that holds a tenth of a second, and at least one record.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    level: f64,
    filled: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: 0.0, filled: now }
    }

    fn per_second(&self) -> f64 {
        match self.rate {
            Rate::Records(n) | Rate::Bytes(n) => n,
        }
    }

    /// Returns how many records may be read at `now`, or when to ask again.
    pub(crate) fn allowance(&mut self, now: Instant) -> Result<usize, Instant> {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second();
        self.level = (self.level + gained).min((self.per_second() / 10.0).max(1.0));
        self.filled = now;
        match self.rate {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and a tenth of the rate
            Rate::Records(_) if self.level >= 1.0 => Ok(self.level as usize),
            // The size of a record is known once it is read: one batch may overdraw, and the next waits longer.
            Rate::Bytes(_) if self.level >= 0.0 => Ok(100),
            _ => {
                let missing = match self.rate {
                    Rate::Records(_) => 1.0 - self.level,
                    Rate::Bytes(_) => -self.level,
                };
                Err(now + Duration::from_secs_f64((missing / self.per_second()).clamp(0.001, 1.0)))
            }
        }
    }

    /// Takes records that were read.
    #[allow(clippy::cast_precision_loss)] // a batch is far below 2^52
    pub(crate) fn take(&mut self, records: usize, bytes: usize) {
        self.level -= match self.rate {
            Rate::Records(_) => records as f64,
            Rate::Bytes(_) => bytes as f64,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_holds_for_any_interval_between_batches() {
        for (rate, step_ms) in [(Rate::Records(10.0), 7), (Rate::Records(5000.0), 13), (Rate::Bytes(50_000.0), 11)] {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, start);
            let (mut records, mut bytes) = (0, 0);
            for step in 0..10_000 / step_ms {
                if let Ok(allowed) = bucket.allowance(start + Duration::from_millis(step * step_ms)) {
                    bucket.take(allowed, allowed * 100);
                    records += allowed;
                    bytes += allowed * 100;
                }
            }
            let (got, want) = match rate {
                Rate::Records(n) => (records, n * 10.0),
                Rate::Bytes(n) => (bytes, n * 10.0),
            };
            #[allow(clippy::cast_precision_loss)]
            let ratio = got as f64 / want;
            assert!((0.95..1.05).contains(&ratio), "{rate:?}: {got} against {want}");
        }
    }

    #[test]
    fn an_idle_bucket_does_not_burst_for_more_than_a_tenth_of_a_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Rate::Records(1000.0), start);
        assert_eq!(bucket.allowance(start + Duration::from_secs(3600)), Ok(100));
    }
}
