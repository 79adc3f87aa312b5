//! The rate ledger: what was used of each limit, what is blocked, and when whoever must wait should ask again.
//!
//! It is arithmetic in memory: no I/O, no clock, no random numbers of its own. A caller asks [`RateLedger::reserve`] before a call and
//! reports with [`RateLedger::settle`] after it. Waiting is a due time that the caller stores, never a sleeping task. Workers share
//! what they know by exchanging [`BucketDelta`]s for [`BucketState`]s through a store table every second or so; between two
//! exchanges they may together exceed a limit by what they use in that time, and then the network's refusal closes the bucket.
//!
//! A bucket is one [`RateRule`] for one subject (the app, a connection or an account). Three things make a caller wait:
//!
//! - *used*: the window's amount is used up. The k-th waiter is told a time in the window in which there is room for it.
//! - *blocked*: the network refused. When the block ends, exactly one call is let through as a probe; the bucket opens when that
//!   call is accepted, and closes for longer when it is refused.
//! - *queued*: there is room, but it was promised to callers that waited longer.
//!
//! What a network says about its limits narrows our own numbers and never widens them.

mod ask;
mod bucket;
mod ledger;
mod rule;
mod shared;
mod stops;

pub use ask::{Ask, Observation, Outcome, Permit, Stop, Turn, Verdict, Wait, WaitReason};
pub use ledger::{BucketView, RateLedger, RateMode};
pub use rule::{BucketKey, RateRule, RateScope, WindowKind};
pub use shared::{BlockChange, BucketDelta, BucketState};
pub use stops::PlatformStop;

#[cfg(test)]
mod tests;
