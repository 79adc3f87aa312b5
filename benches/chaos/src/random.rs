//! Chance that repeats under a seed.

use std::time::Duration;

/// A small generator (SplitMix64): good enough for instants and choices.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to a seed and a purpose: other purposes do not disturb it.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0x51_7C_C1_B7_27_22_0A_95;
        for byte in purpose.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        Self(state)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.draw() % end }
    }

    /// A place in a list of so many.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A duration from `from` to `to`, evenly.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX);
        from + Duration::from_micros(self.below(span.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_purposes_differ() {
        let draw = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            (0..8).map(|_| random.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "kills"), draw(7, "kills"));
        assert_ne!(draw(7, "kills"), draw(7, "load"));
        assert_ne!(draw(7, "kills"), draw(8, "kills"));
    }

    #[test]
    fn durations_stay_between_their_ends() {
        let (mut random, from, to) = (Random::new(1, "test"), Duration::from_millis(5), Duration::from_millis(9));
        assert!((0..1000).all(|_| (from..=to).contains(&random.between(from, to))));
        assert_eq!(random.between(to, to), to);
    }
}
