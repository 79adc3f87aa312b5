//! When to try again: exponential intervals with full jitter.
//!
//! This file is the only one that imports `backoff` (unmaintained, RUSTSEC-2025-0012); everything else sees [`RetryPolicy`] alone.
//! Of the crate we use its interval arithmetic, not its clock, its random numbers or its retry loops.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// Longest time that a network's own `Retry-After` is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How a delay is spread between zero and the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Evenly between zero and the interval, so that what failed together does not return together.
    Full,
    /// Exactly the interval.
    None,
}

/// Intervals that grow by a factor up to a maximum, for a limited number of attempts.
///
/// The default waits up to 30 s, 1 min, 2 min and 4 min between 5 attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Interval after the first attempt.
    pub initial: Duration,
    /// Growth per attempt. Below 1, or not a number, counts as 1.
    pub multiplier: f64,
    /// No interval is longer, unless the network asked for more.
    pub max_interval: Duration,
    /// Attempts in all, the first one included. With 0 or 1 nothing is tried again.
    pub max_attempts: u32,
    /// Spread of the delays.
    pub jitter: Jitter,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(30),
            multiplier: 2.0,
            max_interval: Duration::from_secs(60 * 60),
            max_attempts: 5,
            jitter: Jitter::Full,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after this many attempts (1 = the first one just failed), or `None` when they are used up.
    ///
    /// `chance` gives numbers from 0 to 1; apart from it the result depends on the arguments alone.
    #[must_use]
    pub fn delay(&self, attempt: u32, chance: &mut dyn FnMut() -> f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let interval = self.interval(attempt);
        Some(match self.jitter {
            Jitter::Full => part(interval, chance()),
            Jitter::None => interval,
        })
    }

    /// As [`delay`](Self::delay), but never earlier than the network asked for.
    ///
    /// A requested time of zero (or none) leaves the policy alone, and beyond 24 hours it counts as 24 hours. Up to a tenth of it is
    /// added as jitter, since everything that was throttled together was told the same time.
    #[must_use]
    pub fn delay_after(
        &self,
        attempt: u32,
        retry_after: Option<Duration>,
        chance: &mut dyn FnMut() -> f64,
    ) -> Option<Duration> {
        let own = self.delay(attempt, chance)?;
        let Some(asked) = retry_after.filter(|asked| !asked.is_zero()) else { return Some(own) };
        let asked = asked.min(RETRY_AFTER_MAX);
        let spread = match self.jitter {
            Jitter::Full => part(asked / 10, chance()),
            Jitter::None => Duration::ZERO,
        };
        Some(own.max((asked + spread).min(RETRY_AFTER_MAX)))
    }

    /// The interval before jitter after this many attempts.
    #[must_use]
    pub fn interval(&self, attempt: u32) -> Duration {
        let initial = self.initial.min(self.max_interval);
        let multiplier = if self.multiplier.is_nan() { 1.0 } else { self.multiplier.max(1.0) };
        let mut growing: ExponentialBackoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_multiplier(multiplier)
            .with_max_interval(self.max_interval)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        for _ in 1..attempt {
            let before = growing.current_interval;
            // The value that it returns is blurred by a nanosecond even without randomisation; the field is exact.
            let _ = growing.next_backoff();
            if growing.current_interval == before {
                break;
            }
        }
        growing.current_interval.min(self.max_interval)
    }
}

fn part(whole: Duration, chance: f64) -> Duration {
    let chance = if chance.is_nan() { 1.0 } else { chance.clamp(0.0, 1.0) };
    Duration::try_from_secs_f64(whole.as_secs_f64() * chance).unwrap_or(whole).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn always(chance: f64) -> impl FnMut() -> f64 {
        move || chance
    }

    #[test]
    fn intervals_double_up_to_the_maximum() {
        let policy = RetryPolicy { max_attempts: 100, ..RetryPolicy::default() };
        for (attempt, seconds) in
            [(0, 30), (1, 30), (2, 60), (3, 120), (4, 240), (7, 1920), (8, 3600), (9, 3600), (u32::MAX, 3600)]
        {
            assert_eq!(policy.interval(attempt), seconds * SECOND, "after attempt {attempt}");
        }
    }

    #[test]
    fn attempts_are_counted_with_the_first_one() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, &mut always(1.0)), Some(30 * SECOND));
        assert_eq!(policy.delay(4, &mut always(1.0)), Some(4 * MINUTE));
        assert_eq!(policy.delay(5, &mut always(1.0)), None);
        assert_eq!(policy.delay_after(5, Some(MINUTE), &mut always(1.0)), None);
        assert_eq!(RetryPolicy { max_attempts: 0, ..policy }.delay(0, &mut always(1.0)), None);
        assert_eq!(RetryPolicy { max_attempts: 1, ..policy }.delay(1, &mut always(1.0)), None);
    }

    #[test]
    fn jitter_reaches_from_zero_to_the_interval() {
        let policy = RetryPolicy::default();
        for (chance, expected) in
            [(0.0, Duration::ZERO), (0.5, 15 * SECOND), (1.0, 30 * SECOND), (7.0, 30 * SECOND), (-1.0, Duration::ZERO)]
        {
            assert_eq!(policy.delay(1, &mut always(chance)), Some(expected), "chance {chance}");
        }
        assert_eq!(policy.delay(1, &mut always(f64::NAN)), Some(30 * SECOND));
        assert_eq!(RetryPolicy { jitter: Jitter::None, ..policy }.delay(1, &mut always(0.1)), Some(30 * SECOND));
    }

    #[test]
    fn the_networks_wish_is_a_lower_bound() {
        let policy = RetryPolicy::default();
        for (asked, chance, expected) in [
            (None, 1.0, 30 * SECOND),
            (Some(Duration::ZERO), 1.0, 30 * SECOND),
            (Some(SECOND), 1.0, 30 * SECOND),
            (Some(10 * MINUTE), 0.0, 10 * MINUTE),
            (Some(10 * MINUTE), 1.0, 11 * MINUTE),
            (Some(5 * HOUR), 0.0, 5 * HOUR),
            (Some(23 * HOUR), 1.0, DAY),
            (Some(3650 * DAY), 0.0, DAY),
            (Some(Duration::MAX), 1.0, DAY),
        ] {
            assert_eq!(policy.delay_after(1, asked, &mut always(chance)), Some(expected), "{asked:?}, chance {chance}");
        }
    }

    #[test]
    fn odd_settings_do_no_harm() {
        for multiplier in [f64::NAN, f64::NEG_INFINITY, -3.0, 0.0, 0.5, 1.0] {
            let policy = RetryPolicy { multiplier, max_attempts: 9, ..RetryPolicy::default() };
            assert_eq!(policy.interval(8), 30 * SECOND, "multiplier {multiplier}");
        }
        let policy = RetryPolicy { multiplier: f64::INFINITY, ..RetryPolicy::default() };
        assert_eq!((policy.interval(1), policy.interval(2)), (30 * SECOND, HOUR));
        let policy = RetryPolicy { initial: 2 * HOUR, ..RetryPolicy::default() };
        assert_eq!(policy.interval(1), HOUR);
        let policy = RetryPolicy { initial: Duration::ZERO, ..RetryPolicy::default() };
        assert_eq!(policy.interval(4), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn delays_keep_their_promises(
            initial in 0..100_000_u64,
            max in 0..10_000_000_u64,
            multiplier in 0.5..5.0_f64,
            attempt in 1..60_u32,
            chance in 0.0..=1.0_f64,
            asked in prop::option::of(0..200_000_u64),
        ) {
            let policy = RetryPolicy {
                initial: Duration::from_millis(initial),
                max_interval: Duration::from_millis(max),
                multiplier,
                max_attempts: 50,
                jitter: Jitter::Full,
            };
            let asked = asked.map(Duration::from_secs);
            prop_assert!(policy.interval(attempt) <= policy.interval(attempt + 1));
            prop_assert!(policy.interval(attempt) <= policy.max_interval);
            let plain = policy.delay(attempt, &mut always(chance));
            let with_wish = policy.delay_after(attempt, asked, &mut always(chance));
            prop_assert_eq!(plain.is_some(), attempt < 50);
            prop_assert_eq!(with_wish.is_some(), attempt < 50);
            if let (Some(plain), Some(with_wish)) = (plain, with_wish) {
                prop_assert!(plain <= policy.interval(attempt));
                prop_assert!(with_wish >= asked.unwrap_or_default().min(RETRY_AFTER_MAX));
                prop_assert!(with_wish >= plain);
                prop_assert!(with_wish <= policy.max_interval.max(RETRY_AFTER_MAX));
            }
        }
    }
}
