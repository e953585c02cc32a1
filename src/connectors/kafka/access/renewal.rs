//! When to renew a token. Pure.

use std::time::Duration;

/// The least time between a token and the request for the next.
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// What a renewal may take, with a few attempts, before the old token expires.
const MARGIN: Duration = Duration::from_secs(12);
/// The longest pause between attempts.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Returns the pause before the renewal of a token with this much life left: four fifths of it; of a short life less, down to its half,
/// so that there is time for a few attempts.
pub(super) fn pause(life: Duration) -> Duration {
    let latest = life.mul_f64(0.8);
    latest.min(life.saturating_sub(MARGIN).max(life / 2)).max(MIN_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_and_a_short_one_earlier() {
        for (life, expected) in [(3600, 2880), (900, 720), (60, 48), (30, 18), (10, 5)] {
            assert_eq!(pause(Duration::from_secs(life)).as_secs(), expected, "{life}");
        }
        assert_eq!(pause(Duration::from_secs(5)), Duration::from_millis(2500));
        assert_eq!(pause(Duration::ZERO), MIN_PAUSE);
    }
}
