//! Time and chance are handed in, so that tests own both.

use std::{
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A future without a name.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the time comes from. Nothing in this crate asks the operating system for it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The present instant, in UTC.
    fn now(&self) -> Timestamp;
    /// Time since some fixed start, never going back: leases are checked against it.
    fn monotonic(&self) -> Duration;
    /// Completes when [`now`](Self::now) has reached `at`, never early. Dropping it forgets the wait.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
    /// Moves this clock so that it agrees with the database's, which was found `ahead` of [`now`](Self::now); the default ignores it.
    fn calibrate(&self, _ahead: SignedDuration) {}
}

/// The clock of the operating system, corrected by the offset against the database that the engine measures.
#[derive(Debug, Clone)]
pub struct SystemClock {
    offset_us: Arc<AtomicI64>,
    start: Instant,
}

impl SystemClock {
    /// A clock without correction.
    #[must_use]
    pub fn new() -> Self {
        Self { offset_us: Arc::new(AtomicI64::new(0)), start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        later(Timestamp::now(), SignedDuration::from_micros(self.offset_us.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            // The timer may fire a little early and the offset may move meanwhile: look again until it is true.
            while let Some(left) = positive(at.duration_since(clock.now())) {
                tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
            }
        })
    }

    fn calibrate(&self, ahead: SignedDuration) {
        // What is left over by the corrections so far, which are in `now` already.
        self.offset_us.fetch_add(i64::try_from(ahead.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// A clock that stands still until it is told to move. For tests.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<watch::Sender<Timestamp>>,
    start: Timestamp,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self { now: Arc::new(watch::Sender::new(start)), start }
    }

    /// Moves forward and wakes whoever waited for an instant that has come.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = later(*now, signed(by)));
    }

    /// Moves forward to `at`; an earlier instant changes nothing.
    pub fn advance_to(&self, at: Timestamp) {
        self.now.send_modify(|now| *now = (*now).max(at));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn monotonic(&self) -> Duration {
        positive(self.now().duration_since(self.start)).unwrap_or(Duration::ZERO)
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut seen = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as any clone of the clock; without one, nobody will ever move time again.
            if seen.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Where chance comes from: jitter and nothing that protects a secret.
pub trait Chance: Debug + Send + Sync + 'static {
    /// A number from 0 (included) to 1 (excluded).
    fn unit(&self) -> f64;
}

/// A small seeded generator (SplitMix64): good enough for jitter, and the same numbers for the same seed.
#[derive(Debug)]
pub struct SeededChance(Mutex<u64>);

impl SeededChance {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// A sequence that nobody can foresee.
    #[must_use]
    pub fn from_entropy() -> Self {
        let seed = uuid::Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).as_u128();
        Self::new((seed ^ (seed >> 64)) as u64)
    }
}

impl Chance for SeededChance {
    fn unit(&self) -> f64 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `at + by`, held at the ends of representable time.
#[must_use]
pub fn later(at: Timestamp, by: impl Into<SignedDuration>) -> Timestamp {
    let by: SignedDuration = by.into();
    at.saturating_add(by).unwrap_or(if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// The instant without what is finer than a microsecond, which is how stores keep it.
#[must_use]
pub fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A duration with a sign; one beyond representable time becomes the longest.
#[must_use]
pub fn signed(by: Duration) -> SignedDuration {
    SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX)
}

/// The duration if it is above zero.
#[must_use]
pub fn positive(by: SignedDuration) -> Option<Duration> {
    if by.is_positive() { Duration::try_from(by).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_their_instant_has_come() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let at = later(clock.now(), SignedDuration::from_secs(10));
        let sleeper = tokio::spawn(clock.sleep_until(at));
        clock.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), at);
    }

    #[test]
    fn calibrating_again_keeps_what_was_corrected_before() {
        let clock = SystemClock::new();
        let database = || later(Timestamp::now(), SignedDuration::from_secs(600));
        for _ in 0..3 {
            clock.calibrate(database().duration_since(clock.now()));
            let left = database().duration_since(clock.now()).abs();
            assert!(left < SignedDuration::from_secs(5), "{left}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_between_zero_and_one() {
        let (a, b) = (SeededChance::new(7), SeededChance::new(7));
        for _ in 0..1000 {
            let x = a.unit();
            assert!((0.0..1.0).contains(&x));
            assert_eq!(x.to_bits(), b.unit().to_bits());
        }
    }

    #[test]
    fn time_saturates_instead_of_failing() {
        assert_eq!(later(Timestamp::MAX, SignedDuration::from_secs(1)), Timestamp::MAX);
        assert_eq!(later(Timestamp::MIN, SignedDuration::from_secs(-1)), Timestamp::MIN);
    }
}
