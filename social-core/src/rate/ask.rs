//! What callers ask and report, and what they are told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rule::{BucketKey, RateScope};

/// Whether a caller is new or comes back after it was told to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// It asks for the first time and stands behind those that wait.
    #[default]
    New,
    /// It was told to wait until about now, and room was kept for it.
    Waited,
}

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    /// How much of each limit the call uses; usually 1.
    pub units: u32,
    /// Whether it waited before.
    pub turn: Turn,
    /// A random number from 0 to 1, for the spread of waiting times.
    pub chance: f64,
}

impl Default for Ask {
    fn default() -> Self {
        Self { units: 1, turn: Turn::New, chance: 0.5 }
    }
}

/// The answer to an [`Ask`].
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// The use is counted; report the outcome with [`RateLedger::settle`](super::RateLedger::settle).
    Go(Permit),
    /// Ask again then.
    Wait(Wait),
}

/// Why a whole network is closed to this installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The operator's bill with the network.
    Billing,
    /// Credentials, permissions of the app, a version that was switched off.
    Config,
    /// Too many calls, so that the network refuses all of the app's.
    Throttled,
    /// A limit of the app is used up, such as that of a day.
    Limit,
}

impl Stop {
    /// The name in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Config => "config",
            Self::Throttled => "throttled",
            Self::Limit => "limit",
        }
    }
}

/// What was reserved. Dropping it unreported counts as used, and lets the next probe go after a minute.
#[derive(Debug)]
#[must_use = "report what became of the call with `settle`"]
pub struct Permit {
    pub(super) keys: Vec<BucketKey>,
    pub(super) units: u32,
    pub(super) issued: i64,
    pub(super) probes: u64,
}

impl Permit {
    /// Whether the call is the one that finds out if a block is over. Workers that share a store agree first which of them makes it.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probes != 0
    }

    /// The buckets that the call finds out about, as a store keeps them.
    #[must_use]
    pub fn probed(&self) -> Vec<String> {
        let probed = self.keys.iter().enumerate().filter(|(at, _)| self.probes & (1 << (at % 64)) != 0);
        probed.map(|(_, key)| key.text()).collect()
    }

    /// Until when the call may take before somebody else finds it out.
    #[must_use]
    pub fn probes_until(&self) -> Timestamp {
        super::bucket::instant(self.issued + super::bucket::PROBE_LEASE)
    }
}

/// When to ask again, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Not before this instant; never more than a day (or one window) ahead.
    pub until: Timestamp,
    /// The rule that makes the caller wait longest.
    pub rule: String,
    /// Whom it counts for.
    pub scope: RateScope,
    /// Why.
    pub reason: WaitReason,
}

/// Why a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitReason {
    /// The window's amount is used up.
    Used,
    /// The network refused and the block is not over.
    Blocked,
    /// One call is finding out whether a block is over.
    Probing,
    /// The remaining room is kept for callers that waited longer.
    Queued,
}

/// What became of a permitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The network did not complain about limits, whatever else it answered.
    Accepted,
    /// The network refused because of a limit.
    Refused {
        /// Whose limit, if it said so; otherwise the narrowest that fits.
        scope: Option<RateScope>,
        /// Until when, if it said so. A time in the past counts as unsaid, one beyond a day (or the window) as a day.
        until: Option<Timestamp>,
    },
    /// The network refuses everybody until an operator has acted: the bill, the app, the version.
    Stopped {
        /// Why.
        why: Stop,
        /// Until when nobody asks again; as with `Refused`.
        until: Option<Timestamp>,
    },
    /// Nobody knows: a timeout, a broken line, a server error.
    Inconclusive,
    /// The call was not made.
    Unused,
}

/// What a network told about a limit, before it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// How much a window allows.
    pub limit: Option<u64>,
    /// How much of it is left.
    pub remaining: Option<u64>,
    /// When the window ends.
    pub reset: Option<Timestamp>,
}

impl Observation {
    /// Reads `{prefix}-limit`, `{prefix}-remaining` and `{prefix}-reset` (unix seconds, or seconds from now). `None` without any.
    #[must_use]
    pub fn from_headers<'a>(prefix: &str, now: Timestamp, header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let mut name = format!("{prefix}-");
        let mut number = |part| {
            name.truncate(prefix.len() + 1);
            name.push_str(part);
            header(&name)?.trim().parse::<u64>().ok()
        };
        let reset = number("reset").and_then(|seconds| match i64::try_from(seconds).ok()? {
            // Nobody's window lasts 30 years, and no clock shows 1970.
            short @ ..1_000_000_000 => now.checked_add(jiff::SignedDuration::from_secs(short)).ok(),
            instant => Timestamp::from_second(instant).ok(),
        });
        let seen = Self { limit: number("limit"), remaining: number("remaining"), reset };
        (seen != Self::default()).then_some(seen)
    }
}
