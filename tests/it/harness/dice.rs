//! Random choices from a seed.

use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::setting;

pub(crate) struct Dice(Pcg64Mcg);

impl Dice {
    /// Returns the dice of the seed in `SDL_TEST_SEED`, 1 by default.
    pub(crate) fn of_environment() -> Self {
        Self::new(setting("SDL_TEST_SEED", 1))
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    /// Returns a number of `from..=to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())].clone()
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("a small number")
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
