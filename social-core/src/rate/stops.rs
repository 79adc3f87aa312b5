//! Networks that are closed to the whole installation, for operators.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    ask::Stop,
    ledger::RateLedger,
    rule::{BILLING, CONFIG, RateScope, Rule, THROTTLE_APP},
    shared::BucketState,
};
use crate::time::later;

/// How long a stop that nobody has probed since is still shown.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// A network that takes nothing from this installation for now, whatever the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PlatformStop {
    /// The network.
    pub platform: String,
    /// Why.
    pub reason: Stop,
    /// The rule that says so.
    pub rule: String,
    /// When one call finds out whether it is over; everything else waits for that call.
    pub until: Timestamp,
}

impl RateLedger {
    /// The keys of the buckets that can stop a whole network, as a store keeps them.
    #[must_use]
    pub fn stop_keys(&self) -> Vec<String> {
        self.app_rules().map(|rule| rule.text(0)).collect()
    }

    /// What those buckets say. What an operator has to mend counts until a call was accepted again, or for a day if none is made.
    #[must_use]
    pub fn stops(&self, now: Timestamp, states: &[BucketState]) -> Vec<PlatformStop> {
        // What this process has learnt and not told yet.
        let own = self.snapshot(now);
        let mut stops: Vec<_> = self
            .app_rules()
            .filter_map(|rule| {
                let key = rule.text(0);
                let view = own.iter().find(|view| view.key == key).map(|view| BucketState {
                    key: key.clone(),
                    window_start: now,
                    window_end: view.window_end.unwrap_or(now),
                    used: view.used,
                    limit: view.limit.unwrap_or(u32::MAX),
                    blocked_until: view.blocked_until,
                });
                let shared = states.iter().find(|state| state.key == key);
                shared.and_then(|state| stop(rule, now, state)).or_else(|| stop(rule, now, &view?))
            })
            .collect();
        stops.sort();
        stops
    }
}

fn stop(rule: &Rule, now: Timestamp, state: &BucketState) -> Option<PlatformStop> {
    debug_assert_eq!(rule.facts.per, RateScope::App);
    let used_up = rule.amount.is_some_and(|amount| state.used >= amount.min(state.limit)) && state.window_end > now;
    let (reason, until) = match (state.blocked_until, rule.facts.name.as_str()) {
        (Some(until), BILLING) if until > later(now, -REMEMBERED) => (Stop::Billing, until),
        (Some(until), CONFIG) if until > later(now, -REMEMBERED) => (Stop::Config, until),
        (Some(until), THROTTLE_APP) if until > now => (Stop::Throttled, until),
        (Some(until), _) if until > now => (Stop::Limit, until),
        _ if used_up => (Stop::Limit, state.window_end),
        _ => return None,
    };
    Some(PlatformStop { platform: rule.platform.clone(), reason, rule: rule.facts.name.clone(), until })
}
