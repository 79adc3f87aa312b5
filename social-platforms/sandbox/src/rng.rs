//! Chance that repeats under a seed. It makes test data, not secrets that protect anything.

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let numerator = (self.next() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    pub(crate) fn letters(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut out = String::with_capacity(length);
        while out.len() < length {
            let mut word = self.next();
            for _ in 0..8 {
                if out.len() == length {
                    break;
                }
                out.push(char::from(ALPHABET[(word % 62) as usize]));
                word /= 62;
            }
        }
        out
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A stable hash of text; the same on every run and machine.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325_u64;
    for part in parts {
        for byte in part.as_bytes() {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        state = mix(state ^ 0xFF51_AFD7_ED55_8CCD);
    }
    mix(state)
}

/// A number that says "so many likes" without being stored: the same for the same post and metric, below `below`.
pub(crate) fn metric(id: &str, name: &str, below: u64) -> u64 {
    hash(&[id, name]) % below.max(1)
}
