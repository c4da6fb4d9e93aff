//! Choices that look random and follow from a seed: for simulations, tests and measurements, and to spread load between servers. Nothing that
//! must not be guessed is made from them.
//!
//! What always holds: the same seed gives the same numbers, on every machine and in every release. Seeds of failures stay what they are.

/// SplitMix64: small, fast, and good enough to cover choices evenly.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator that begins with this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 on, `limit` excluded; 0 where the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    /// A place in a list of this length.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Both ends included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as u64) as i64
    }

    /// Mostly small, now and then large: uniform in the exponent between the two.
    pub fn skewed(&mut self, low: i64, high: i64) -> i64 {
        let (low, high) = (low.max(1) as f64, high.max(1) as f64);
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (low * (high / low).powf(share)) as i64
    }

    /// True once in so many times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers for the seed 1234567 that the generator's authors publish.
    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut random = Random::new(1_234_567);
        let first = [random.draw(), random.draw(), random.draw()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
