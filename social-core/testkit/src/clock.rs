//! Time in tests: it begins at a fixed instant and moves when it is told to.

use jiff::{SignedDuration, Timestamp};
pub use social_core::time::ManualClock;
use social_core::time::later;

/// Where time begins: 2026-06-01T12:00:00Z.
#[must_use]
pub fn t0() -> Timestamp {
    Timestamp::from_second(1_780_315_200).expect("a time of this century")
}

/// So many seconds after [`t0`]; before it for negative numbers.
#[must_use]
pub fn secs(seconds: i64) -> Timestamp {
    later(t0(), SignedDuration::from_secs(seconds))
}

/// So many microseconds after `at`: the smallest step that a store keeps.
#[must_use]
pub fn micros_after(at: Timestamp, micros: i64) -> Timestamp {
    later(at, SignedDuration::from_micros(micros))
}

/// A clock that stands at [`t0`].
#[must_use]
pub fn manual() -> ManualClock {
    ManualClock::at(t0())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_at_noon() {
        assert_eq!(t0().to_string(), "2026-06-01T12:00:00Z");
        assert_eq!(micros_after(secs(-1), 1_000_000), t0());
    }
}
