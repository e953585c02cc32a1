//! Random numbers that are the same on every machine: PCG, and whole-number arithmetic from there on.

use rand_core::RngCore as _;
use rand_pcg::Pcg64Mcg;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(Pcg64Mcg);

impl Random {
    /// Returns stream `number` of `seed`.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let low = mix(seed ^ mix(number));
        let high = mix(low ^ seed);
        Self(Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low)))
    }

    /// Returns 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        scale(self.bits(), limit)
    }

    /// Returns true with the probability `fraction`.
    pub(super) fn chance(&mut self, fraction: Fraction) -> bool {
        fraction.0 > 0 && self.bits() >> 1 < fraction.0
    }
}

/// Scales `bits` to a number below `limit`.
#[allow(clippy::cast_possible_truncation)] // below the limit
pub(super) fn scale(bits: u64, limit: u64) -> u64 {
    ((u128::from(bits) * u128::from(limit)) >> 64) as u64
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A probability, in 2^-63.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fraction(u64);

impl Fraction {
    /// Returns the fraction for `share` between 0 and 1.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 2^63
    pub(crate) fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self((share * 9_223_372_036_854_775_808.0) as u64))
    }
}

impl std::str::FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = text.parse().ok().and_then(Self::new);
        share.ok_or_else(|| format!("`{text}` is not a fraction between 0 and 1, such as 0.01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let mut random = Random::new(7, 0);
        assert_eq!(
            [random.bits(), random.bits(), random.below(1000)],
            [4_140_921_017_976_084_472, 10_234_799_941_630_834_726, 927]
        );
    }

    #[test]
    fn streams_differ_within_a_seed_and_between_seeds() {
        let first = |seed, number| Random::new(seed, number).bits();
        let all = [first(0, 0), first(0, 1), first(1, 0), first(1, 1), first(2, 0)];
        assert!((0..all.len()).all(|i| !all[i + 1..].contains(&all[i])), "{all:?}");
    }

    #[test]
    fn a_fraction_is_a_probability() {
        let mut random = Random::new(1, 1);
        let mut happened = |share: &str| {
            let fraction = share.parse().unwrap();
            (0..10_000).filter(|_| random.chance(fraction)).count()
        };
        assert_eq!((happened("0"), happened("1")), (0, 10_000));
        assert!((900..1100).contains(&happened("0.1")));
        for text in ["-0.1", "1.1", "NaN", "half", ""] {
            assert!(text.parse::<Fraction>().is_err(), "{text}");
        }
    }
}
