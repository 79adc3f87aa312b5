//! How many requests an address and a key may send: token buckets in memory, one installation's process each.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State as Extract},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::{
    config::{Config, Switch},
    problem::{Problem, seconds},
    state::State,
    transport::Client,
};

/// So many seconds' worth may come at once.
const BURST_S: u32 = 10;
/// So many times fewer failed authentications than requests are allowed.
const FAILURE_COST: u32 = 20;
/// Buckets that are kept; full ones are forgotten first, since a new one would be full too.
const MOST_BUCKETS: usize = 50_000;

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Limiter {
    by_ip: Option<Buckets<IpAddr>>,
    failures: Option<Buckets<IpAddr>>,
    by_key: Option<Buckets<Uuid>>,
}

/// Whether a request fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spent {
    /// It does.
    Fits { left: u32, limit: u32 },
    /// It does not; wait.
    Over { wait: Duration, limit: u32 },
    /// Nobody counts.
    Uncounted,
}

#[derive(Debug)]
struct Buckets<K> {
    per_second: f64,
    capacity: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Duration,
}

impl<K: std::hash::Hash + Eq> Buckets<K> {
    fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second: f64::from(per_second),
            capacity: f64::from(per_second.saturating_mul(BURST_S)),
            buckets: Mutex::default(),
        }
    }

    fn spend(&self, who: K, cost: f64, now: Duration) -> Spent {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&who) {
            let refill = Duration::from_secs_f64(self.capacity / self.per_second);
            buckets.retain(|_, bucket| now.saturating_sub(bucket.at) < refill);
            if buckets.len() >= MOST_BUCKETS {
                // More strangers than can be told apart: nobody is turned away for others' sake.
                return Spent::Uncounted;
            }
        }
        let bucket = buckets.entry(who).or_insert(Bucket { level: self.capacity, at: now });
        let gained = now.saturating_sub(bucket.at).as_secs_f64() * self.per_second;
        bucket.level = (bucket.level + gained).min(self.capacity);
        bucket.at = now;
        if bucket.level >= cost {
            bucket.level -= cost;
            Spent::Fits { left: bucket.level as u32, limit: self.capacity as u32 }
        } else {
            let wait = Duration::from_secs_f64((cost - bucket.level) / self.per_second);
            Spent::Over { wait, limit: self.capacity as u32 }
        }
    }
}

impl Limiter {
    pub(crate) fn new(config: &Config) -> Self {
        let on = config.request_limits == Switch::On;
        Self {
            by_ip: on.then(|| Buckets::new(config.requests_per_second_ip)),
            failures: on.then(|| Buckets::new((config.requests_per_second_ip / FAILURE_COST).max(1))),
            by_key: on.then(|| Buckets::new(config.requests_per_second_key)),
        }
    }

    fn spend_ip(&self, ip: IpAddr, now: Duration) -> Spent {
        self.by_ip.as_ref().map_or(Spent::Uncounted, |buckets| buckets.spend(group(ip), 1.0, now))
    }

    pub(crate) fn spend_key(&self, key: Uuid, now: Duration) -> Spent {
        self.by_key.as_ref().map_or(Spent::Uncounted, |buckets| buckets.spend(key, 1.0, now))
    }

    /// Counts a failed authentication, of which few are allowed: guessing is slow. They have a bucket of their own, since many callers may
    /// share an address, and a good key is never turned away for the guesses of others.
    pub(crate) fn fail(&self, ip: IpAddr, now: Duration) -> Spent {
        self.failures.as_ref().map_or(Spent::Uncounted, |buckets| buckets.spend(group(ip), 1.0, now))
    }
}

/// Who counts as one: an IPv6 host has a whole /64 to itself.
pub(crate) fn group(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Whose requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those of an address.
    Address,
    /// Those of a key.
    Key,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Key => "key",
        }
    }
}

/// What was counted for the key of a request, on its way to the headers of the answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyNote(Arc<OnceLock<Spent>>);

impl KeyNote {
    /// Notes it; the first time counts.
    pub(crate) fn set(&self, spent: Spent) {
        let _ = self.0.set(spent);
    }
}

pub(crate) fn too_many(who: Who, wait: Duration) -> Problem {
    let wait = seconds(wait).max(1);
    let detail = match who {
        Who::Address => "more requests than an address may send",
        Who::Key => "more requests than a key may send",
    };
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
        .advice("This is going too fast. Please wait a moment.")
        .retry_after(wait)
}

/// The policies that hold and what is left of each, as lists of structured fields.
fn headers(spent: &[(Who, Spent)]) -> Option<(String, String)> {
    let (mut policies, mut left) = (Vec::new(), Vec::new());
    for (who, spent) in spent {
        let name = who.name();
        let (limit, state) = match *spent {
            Spent::Fits { left, limit } => (limit, format!("\"{name}\";r={left};t={BURST_S}")),
            Spent::Over { wait, limit } => (limit, format!("\"{name}\";r=0;t={}", seconds(wait).max(1))),
            Spent::Uncounted => continue,
        };
        policies.push(format!("\"{name}\";q={limit};w={BURST_S}"));
        left.push(state);
    }
    (!policies.is_empty()).then(|| (policies.join(", "), left.join(", ")))
}

/// Turns away an address that sends too much, before anything else is looked at, and says on every answer what is left.
pub(crate) async fn per_address(Extract(state): Extract<State>, mut request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().copied().unwrap_or_default();
    let spent = state.limiter.spend_ip(client.ip, state.monotonic());
    let note = KeyNote::default();
    let mut response = match spent {
        Spent::Over { wait, .. } => too_many(Who::Address, wait).into_response(),
        _ => {
            request.extensions_mut().insert(note.clone());
            next.run(request).await
        }
    };
    let of_key = note.0.get().map(|spent| (Who::Key, *spent));
    let all: Vec<_> = std::iter::once((Who::Address, spent)).chain(of_key).collect();
    if let Some((policy, left)) = headers(&all) {
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refuses_when_it_is_empty_and_says_how_long() {
        let buckets = Buckets::new(2);
        let now = Duration::from_secs(100);
        for left in (0..20).rev() {
            assert_eq!(buckets.spend("a", 1.0, now), Spent::Fits { left, limit: 20 });
        }
        assert_eq!(buckets.spend("a", 1.0, now), Spent::Over { wait: Duration::from_millis(500), limit: 20 });
        assert!(matches!(buckets.spend("b", 1.0, now), Spent::Fits { .. }), "others have their own");
        let later = now + Duration::from_millis(500);
        assert!(matches!(buckets.spend("a", 1.0, later), Spent::Fits { .. }));
        assert!(matches!(buckets.spend("a", 1.0, later), Spent::Over { .. }));
    }

    #[test]
    fn failed_authentications_are_slow_and_turn_away_nobody_else() {
        let limiter = Limiter::new(&Config { requests_per_second_ip: 20, ..Config::default() });
        let ip = IpAddr::from([192, 0, 2, 1]);
        let failures = (0..100).filter(|_| matches!(limiter.fail(ip, Duration::ZERO), Spent::Fits { .. })).count();
        assert!((1..=20).contains(&failures), "{failures}");
        assert!(matches!(limiter.spend_ip(ip, Duration::ZERO), Spent::Fits { .. }), "a good key from the same address");
    }

    #[test]
    fn what_is_left_is_said_for_each_policy() {
        let fits = Spent::Fits { left: 9, limit: 10 };
        let over = Spent::Over { wait: Duration::from_millis(1500), limit: 20 };
        let (policy, left) = headers(&[(Who::Address, fits), (Who::Key, over)]).unwrap();
        assert_eq!(policy, "\"address\";q=10;w=10, \"key\";q=20;w=10");
        assert_eq!(left, "\"address\";r=9;t=10, \"key\";r=0;t=2");
        assert_eq!(headers(&[(Who::Address, Spent::Uncounted)]), None);
    }

    #[test]
    fn one_host_is_one_bucket() {
        let same = group("2001:db8:1:2:3::1".parse().unwrap());
        assert_eq!(same, group("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_ne!(same, group("2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(group("::ffff:192.0.2.1".parse().unwrap()), IpAddr::from([192, 0, 2, 1]));
    }
}
