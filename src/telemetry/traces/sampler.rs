//! Which commands are traced by chance: the gap to the next one is drawn, so that a command costs one number less.

use std::cell::Cell;

/// That of one thread.
#[derive(Debug)]
pub struct Sampler {
    rate: f64,
    /// Commands up to the next one, with it.
    left: Cell<u64>,
}

impl Sampler {
    /// One that takes this part of all commands.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        let sampler = Self { rate, left: Cell::new(0) };
        sampler.left.set(sampler.gap());
        sampler
    }

    /// True of a command that is taken.
    pub fn takes(&self) -> bool {
        let left = self.left.get();
        if left > 1 {
            self.left.set(left - 1);
            return false;
        }
        self.left.set(self.gap());
        true
    }

    /// How many commands it takes until the next one is taken, where each is with the same chance.
    /// Source: <https://en.wikipedia.org/wiki/Geometric_distribution#Random_variate_generation>
    fn gap(&self) -> u64 {
        match self.rate {
            rate if rate >= 1.0 => 1,
            rate if rate > 0.0 => 1 + ((-fastrand::f64()).ln_1p() / (-rate).ln_1p()) as u64,
            _ => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;

    #[test]
    fn the_part_that_is_taken_is_the_one_that_is_asked_for() {
        for (rate, least, most) in
            [(0.0, 0, 0), (1e-17, 0, 0), (0.01, 9_000, 11_000), (0.5, 495_000, 505_000), (1.0, 1_000_000, 1_000_000)]
        {
            let sampler = Sampler::new(rate);
            let taken = (0..1_000_000).filter(|_| sampler.takes()).count();
            assert!((least..=most).contains(&taken), "{rate}: {taken}");
        }
    }
}
