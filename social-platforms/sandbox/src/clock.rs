//! The sandbox's own time, so that tests can move it.

use jiff::Timestamp;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A source of time in microseconds since the Unix epoch.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Microseconds since 1970-01-01T00:00:00Z.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        Timestamp::now().as_microsecond()
    }
}

/// A clock that stands still until it is moved with [`Control::advance`](crate::Control::advance) or [`ManualClock::set`].
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_microsecond()))
    }

    /// Moves the clock to `now`.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_microsecond(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A base clock plus everything that [`advance`](Time::advance) has added to it.
#[derive(Debug)]
pub(crate) struct Time {
    base: Arc<dyn Clock>,
    offset: AtomicI64,
}

impl Time {
    pub(crate) fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, offset: AtomicI64::new(0) }
    }

    pub(crate) fn now(&self) -> i64 {
        self.base.now_micros() + self.offset.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX / 4);
        self.offset.fetch_add(micros, Ordering::SeqCst);
    }

    pub(crate) fn restore(&self) {
        self.offset.store(0, Ordering::SeqCst);
    }
}

pub(crate) const SECOND: i64 = 1_000_000;

pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// RFC 3339 with milliseconds and `Z`, the form in which the networks print instants.
pub(crate) fn rfc3339_millis(micros: i64) -> String {
    timestamp(micros).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
