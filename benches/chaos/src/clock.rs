//! One clock for all processes of a run, as fast and as wrong as the scenario wants it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use social_core::time::{BoxFuture, Clock, later, positive};

/// A residue below this is the journey to the database, stretched by the speed, and no error of the clock.
const NOISE_US: i64 = 10_000_000;

/// How time passes in a run. Every process that is told the same agrees about the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The machine's time at which the run's time is the same, in microseconds since 1970.
    pub origin_us: i64,
    /// How much faster time passes from then on.
    pub speed: u32,
}

impl Pace {
    /// So fast from now on.
    #[must_use]
    pub fn from_now(speed: u32) -> Self {
        Self { origin_us: Timestamp::now().as_microsecond(), speed: speed.max(1) }
    }

    /// The run's time, in microseconds since 1970.
    #[must_use]
    pub fn now_us(self) -> i64 {
        let passed = Timestamp::now().as_microsecond() - self.origin_us;
        self.origin_us + passed * i64::from(self.speed)
    }

    /// The run's time.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp::from_microsecond(self.now_us()).unwrap_or(Timestamp::MAX)
    }

    /// How long something takes on the machine that takes so long in the run.
    #[must_use]
    pub fn real(self, of_the_run: Duration) -> Duration {
        of_the_run / self.speed
    }

    /// How long something takes in the run that takes so long on the machine.
    #[must_use]
    pub fn of_the_run(self, real: Duration) -> Duration {
        real * self.speed
    }
}

/// The clock of one process: the run's time, and perhaps wrong by some minutes. It lets itself be set right by the database's clock, as the
/// clock of the operating system does.
#[derive(Debug, Clone)]
pub struct WarpClock {
    pace: Pace,
    wrong_us: i64,
    corrected_us: Arc<AtomicI64>,
    start: Instant,
}

impl WarpClock {
    /// A clock that is ahead of the run's time by `wrong`, or behind it.
    #[must_use]
    pub fn new(pace: Pace, wrong: SignedDuration) -> Self {
        let wrong_us = i64::try_from(wrong.as_micros()).unwrap_or(0);
        Self { pace, wrong_us, corrected_us: Arc::default(), start: Instant::now() }
    }

    fn now_us(&self) -> i64 {
        self.pace.now_us() + self.wrong_us + self.corrected_us.load(Ordering::Relaxed)
    }
}

impl Clock for WarpClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.now_us()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.pace.of_the_run(self.start.elapsed())
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            while let Some(left) = positive(at.duration_since(clock.now())) {
                // Rounded up: a timer of zero would spin.
                let left = clock.pace.real(left) + Duration::from_micros(50);
                tokio::time::sleep(left.min(Duration::from_secs(3600))).await;
            }
        })
    }

    fn calibrate(&self, ahead: SignedDuration) {
        // A clock that is right has nothing to learn: what it would measure is how long the answer took, stretched by the speed.
        if self.wrong_us == 0 {
            return;
        }
        // The database's clock shows the machine's time. What it would show if it were as fast as this run is ahead of it by this much:
        let faster = self.pace.now_us() - Timestamp::now().as_microsecond();
        let residue = i64::try_from(ahead.as_micros()).unwrap_or(0) + faster;
        if residue.abs() > NOISE_US {
            self.corrected_us.fetch_add(residue, Ordering::Relaxed);
        }
    }
}

impl social_sandbox::Clock for WarpClock {
    fn now_micros(&self) -> i64 {
        self.now_us()
    }
}

/// `at` in the run, moved by a duration of the run.
#[must_use]
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    later(at, social_core::time::signed(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_faster_and_a_wrong_clock_is_set_right_by_a_database_that_is_not_fast() {
        let long_ago = Timestamp::now().as_microsecond() - 60_000_000;
        let pace = Pace { origin_us: long_ago, speed: 20 };
        assert!(pace.now_us() - long_ago >= 20 * 60_000_000);
        for wrong in [SignedDuration::from_mins(10), SignedDuration::from_mins(-10), SignedDuration::ZERO] {
            let clock = WarpClock::new(pace, wrong);
            let off = |clock: &WarpClock| clock.now().duration_since(pace.now()).abs();
            for _ in 0..3 {
                // As the engine does it: how far the database, which shows the machine's time, is ahead of this clock.
                let ahead = Timestamp::now().duration_since(Clock::now(&clock));
                clock.calibrate(ahead);
            }
            assert!(off(&clock) < SignedDuration::from_secs(12), "{wrong}: {}", off(&clock));
        }
    }

    #[tokio::test]
    async fn sleepers_wake_when_the_runs_time_has_come() {
        let clock = WarpClock::new(Pace::from_now(1000), SignedDuration::from_mins(-3));
        let at = after(Clock::now(&clock), Duration::from_secs(20));
        let started = Instant::now();
        clock.sleep_until(at).await;
        assert!(Clock::now(&clock) >= at && started.elapsed() < Duration::from_secs(10));
    }
}
