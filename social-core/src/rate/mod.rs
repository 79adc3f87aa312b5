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

mod bucket;
mod shared;

pub use shared::{BlockChange, BucketDelta, BucketState};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use bucket::{Bucket, Gate};

/// Whom a limit counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// The registered application: all users together.
    App,
    /// One grant.
    Connection,
    /// One place where posts appear.
    Account,
}

/// When a window begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// It begins with its first use and lasts for the window's length; the network's reset time corrects it.
    Fixed,
    /// It is a day in UTC.
    Day,
}

/// One limit of a network, as its descriptor states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateRule {
    /// Unique within the network; part of stored keys.
    pub name: String,
    /// Whom it counts for.
    pub per: RateScope,
    /// The operations that use it up; empty for all.
    pub operations: Vec<String>,
    /// How much a window allows. 0 counts as 1.
    pub amount: u32,
    /// Length of the window. For [`WindowKind::Day`] it is a day whatever stands here.
    pub window: Duration,
    /// When windows begin.
    pub kind: WindowKind,
}

/// Whether limits hold callers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateMode {
    /// They do.
    On,
    /// Uses are counted and blocks are noted, but nobody waits. For tests and private networks.
    Off,
}

/// A rule with a subject. Cheap to clone.
#[derive(Clone)]
pub struct BucketKey {
    rule: Arc<Rule>,
    subject: u128,
}

impl BucketKey {
    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule.facts.name
    }

    /// Whom it counts for.
    #[must_use]
    pub fn scope(&self) -> RateScope {
        self.rule.facts.per
    }

    /// The key as a store keeps it: `platform/rule/subject`.
    #[must_use]
    pub fn text(&self) -> String {
        self.rule.text(self.subject)
    }

    fn id(&self) -> MapKey {
        (self.rule.index, self.subject)
    }
}

impl fmt::Debug for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketKey({})", self.text())
    }
}

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
    /// The use is counted; report the outcome with [`RateLedger::settle`].
    Go(Permit),
    /// Ask again then.
    Wait(Wait),
}

/// What was reserved. Dropping it unreported counts as used, and lets the next probe go after a minute.
#[derive(Debug)]
#[must_use = "report what became of the call with `settle`"]
pub struct Permit {
    keys: Vec<BucketKey>,
    units: u32,
    issued: i64,
    probes: u64,
}

impl Permit {
    /// Whether the call is the one that finds out if a block is over. Workers that share a store exchange at once then.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probes != 0
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
        let number = |part: &str| header(&format!("{prefix}-{part}"))?.trim().parse::<u64>().ok();
        let reset = number("reset").and_then(|seconds| match i64::try_from(seconds).ok()? {
            // Nobody's window lasts 30 years, and no clock shows 1970.
            short @ ..1_000_000_000 => now.checked_add(jiff::SignedDuration::from_secs(short)).ok(),
            instant => Timestamp::from_second(instant).ok(),
        });
        let seen = Self { limit: number("limit"), remaining: number("remaining"), reset };
        (seen != Self::default()).then_some(seen)
    }
}

/// A bucket as metrics and the doctor see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketView {
    /// `platform/rule/subject`.
    pub key: String,
    /// The network.
    pub platform: String,
    /// The rule.
    pub rule: String,
    /// Whom it counts for.
    pub scope: RateScope,
    /// Which connection or account.
    pub subject: Option<Uuid>,
    /// Used in the current window.
    pub used: u32,
    /// Allowed in it; `None` for a bucket that only carries blocks.
    pub limit: Option<u32>,
    /// When the window ends; `None` if none is open.
    pub window_end: Option<Timestamp>,
    /// Until when the network asked us to stay away.
    pub blocked_until: Option<Timestamp>,
    /// Callers that were told to wait and have not come back.
    pub waiting: u32,
}

/// Counts uses against the limits of all networks. One per process; shared by reference.
///
/// A reservation costs well under a microsecond. Memory follows the number of buckets in use: those whose window is over are dropped.
#[derive(Debug)]
pub struct RateLedger {
    mode: RateMode,
    platforms: HashMap<String, Vec<Arc<Rule>>>,
    state: Mutex<State>,
}

type MapKey = (u32, u128);

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<MapKey, Bucket>,
    /// Buckets with something to tell the other workers.
    dirty: Vec<MapKey>,
    /// Refusals without a stated scope, per rule that carries blocks of a whole app.
    storms: HashMap<u32, Storm>,
    /// Size at which the next sweep is worth its time.
    sweep_at: usize,
}

/// Several accounts refused in a row, with no accepted call in between, look like a limit of the app.
#[derive(Debug, Default)]
struct Storm {
    since: i64,
    refused: Vec<u128>,
}

const STORM_ACCOUNTS: usize = 3;
const STORM_SPAN: i64 = 60 * bucket::SECOND;
const SWEEP_MIN: usize = 1024;

#[derive(Debug)]
struct Rule {
    platform: String,
    facts: RateRule,
    index: u32,
    /// Microseconds.
    window: i64,
    /// `None` for the rules that every network has for carrying blocks.
    amount: Option<u32>,
}

impl Rule {
    fn text(&self, subject: u128) -> String {
        let Self { platform, facts, .. } = self;
        match facts.per {
            RateScope::App => format!("{platform}/{}/-", facts.name),
            _ => format!("{platform}/{}/{}", facts.name, Uuid::from_u128(subject)),
        }
    }

    fn applies(&self, operation: &str) -> bool {
        self.facts.operations.is_empty() || self.facts.operations.iter().any(|name| name == operation)
    }
}

impl RateLedger {
    /// A ledger for these networks with their rules. Each network gets two more, `throttle` and `throttle-app`, which have no amount
    /// and carry the blocks of calls that no other rule covers.
    #[must_use]
    pub fn new(mode: RateMode, platforms: impl IntoIterator<Item = (String, Vec<RateRule>)>) -> Self {
        let mut index = 0;
        let mut platforms: HashMap<String, Vec<Arc<Rule>>> = platforms
            .into_iter()
            .map(|(platform, mut rules)| {
                // Narrow before wide: a refusal without a scope is charged to the first that fits.
                rules.sort_by_key(|rule| narrowness(rule.per));
                let limited = rules.into_iter().map(|rule| (rule, true));
                let implicit =
                    [("throttle", RateScope::Account), ("throttle-app", RateScope::App)].map(|(name, per)| {
                        let window = Duration::from_secs(3600);
                        let facts = RateRule {
                            name: name.to_owned(),
                            per,
                            operations: Vec::new(),
                            amount: u32::MAX,
                            window,
                            kind: WindowKind::Fixed,
                        };
                        (facts, false)
                    });
                let rules = limited
                    .chain(implicit)
                    .map(|(facts, limited)| {
                        index += 1;
                        let window = match facts.kind {
                            WindowKind::Day => bucket::DAY,
                            WindowKind::Fixed => i64::try_from(facts.window.as_micros())
                                .unwrap_or(i64::MAX / 4)
                                .clamp(bucket::SECOND, bucket::YEAR),
                        };
                        let amount = limited.then_some(facts.amount.max(1));
                        Arc::new(Rule { platform: platform.clone(), facts, index, window, amount })
                    })
                    .collect();
                (platform, rules)
            })
            .collect();
        platforms.shrink_to_fit();
        Self { mode, platforms, state: Mutex::new(State { sweep_at: SWEEP_MIN, ..State::default() }) }
    }

    /// Whether limits hold callers back.
    #[must_use]
    pub fn mode(&self) -> RateMode {
        self.mode
    }

    /// The buckets that an operation uses, the narrowest first. Unknown networks have none.
    #[must_use]
    pub fn keys(&self, platform: &str, operation: &str, connection: Uuid, account: Uuid) -> Vec<BucketKey> {
        let rules = self.platforms.get(platform).map_or(&[][..], Vec::as_slice);
        let mut keys = Vec::with_capacity(rules.len());
        for rule in rules.iter().filter(|rule| rule.applies(operation)) {
            let subject = match rule.facts.per {
                RateScope::App => 0,
                RateScope::Connection => connection.as_u128(),
                RateScope::Account => account.as_u128(),
            };
            keys.push(BucketKey { rule: Arc::clone(rule), subject });
        }
        keys
    }

    /// What [`reserve`](Self::reserve) would say to a caller with a turn, without counting or promising anything.
    #[must_use]
    pub fn check(&self, now: Timestamp, keys: &[BucketKey]) -> Option<Wait> {
        if self.mode == RateMode::Off {
            return None;
        }
        let now = now.as_microsecond();
        let mut state = self.lock();
        let (end, key, reason) = state.worst(keys, now, &Ask { turn: Turn::Waited, ..Ask::default() })?;
        Some(Wait { until: bucket::instant(end), rule: key.rule().to_owned(), scope: key.scope(), reason })
    }

    /// Counts a call against all its buckets, or against none and says when to ask again.
    ///
    /// A call that needs more units than a window allows is let through when nothing else is counted in the window.
    pub fn reserve(&self, now: Timestamp, keys: &[BucketKey], ask: Ask) -> Verdict {
        let now = now.as_microsecond();
        let mut state = self.lock();
        if self.mode == RateMode::On
            && let Some((end, key, reason)) = state.worst(keys, now, &ask)
        {
            let (rule, scope) = (key.rule().to_owned(), key.scope());
            let key = key.clone();
            let until = state.bucket(&key, now).promise(&key.rule, now, end, reason, &ask);
            return Verdict::Wait(Wait { until: bucket::instant(until), rule, scope, reason });
        }
        let mut probes = 0;
        for (at, key) in keys.iter().enumerate() {
            // Rules without an amount count nothing; their buckets exist only while they are blocked.
            if key.rule.amount.is_none() && !state.buckets.contains_key(&key.id()) {
                continue;
            }
            let bucket = state.bucket(key, now);
            if bucket.take(&key.rule, now, &ask) {
                probes |= 1 << (at % 64);
            }
            state.mark(key.id());
        }
        Verdict::Go(Permit { keys: keys.to_vec(), units: ask.units, issued: now, probes })
    }

    /// Reports what became of a permitted call.
    pub fn settle(&self, now: Timestamp, permit: Permit, outcome: Outcome) {
        let now = now.as_microsecond();
        let mut state = self.lock();
        match outcome {
            Outcome::Refused { scope, until } => {
                state.refused(now, &permit, scope, until.map(|until| until.as_microsecond()))
            }
            Outcome::Accepted => {
                if let Some(wide) = permit.keys.iter().find(|key| key.is_app_throttle()) {
                    state.storms.remove(&wide.rule.index);
                }
                state.each_probe(&permit, |bucket, _| bucket.lift());
            }
            Outcome::Inconclusive => state.each_probe(&permit, |bucket, _| bucket.probe_again(now)),
            Outcome::Unused => {
                state.each_probe(&permit, |bucket, _| bucket.probe_unused(now));
                for key in &permit.keys {
                    let id = key.id();
                    if state
                        .buckets
                        .get_mut(&id)
                        .is_some_and(|bucket| bucket.give_back(now, permit.issued, permit.units))
                    {
                        state.mark(id);
                    }
                }
            }
        }
    }

    /// Narrows a bucket by what the network said about it; nonsense is ignored.
    ///
    /// A limit above the rule's amount, and a remaining number that would forget uses of ours, change nothing. A reset time in the past
    /// is ignored, one beyond the window counts as one window from now.
    pub fn observe(&self, now: Timestamp, key: &BucketKey, seen: Observation) {
        if key.rule.amount.is_none() {
            return;
        }
        let now = now.as_microsecond();
        let mut state = self.lock();
        state.bucket(key, now).observe(&key.rule, now, seen);
        state.mark(key.id());
    }

    /// Closes a bucket until an instant; without one, for a minute that doubles with each refusal in a row.
    pub fn block(&self, now: Timestamp, key: &BucketKey, until: Option<Timestamp>) {
        let now = now.as_microsecond();
        let mut state = self.lock();
        state.bucket(key, now).block(&key.rule, now, until.map(|until| until.as_microsecond()));
        state.mark(key.id());
    }

    /// Takes out what other workers have to know. If the exchange fails, keep the deltas and send them again with the next ones.
    #[must_use]
    pub fn drain_deltas(&self, now: Timestamp) -> Vec<BucketDelta> {
        let now = now.as_microsecond();
        let mut state = self.lock();
        let dirty = std::mem::take(&mut state.dirty);
        let rules = self.rules_by_index();
        let mut deltas = Vec::with_capacity(dirty.len());
        for (index, subject) in dirty {
            if let (Some(bucket), Some(rule)) = (state.buckets.get_mut(&(index, subject)), rules.get(&index)) {
                deltas.extend(bucket.drain(rule, subject, now));
            }
        }
        state.sweep_if_large(now);
        deltas
    }

    /// Takes over what the store answered to an exchange. Rules that are not known here are ignored.
    pub fn merge(&self, now: Timestamp, states: Vec<BucketState>) {
        let now = now.as_microsecond();
        let mut state = self.lock();
        for shared in states {
            let Some(key) = self.parse(&shared.key) else { continue };
            if state.buckets.contains_key(&key.id()) || shared.matters(now) {
                state.bucket(&key, now).merge(&key.rule, now, &shared);
            }
        }
    }

    /// All buckets with an open window, a block or waiting callers, in the order of their keys.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Vec<BucketView> {
        let now = now.as_microsecond();
        let rules = self.rules_by_index();
        let state = self.lock();
        let mut views: Vec<_> = state
            .buckets
            .iter()
            .filter(|(_, bucket)| !bucket.is_idle(now))
            .filter_map(|((index, subject), bucket)| rules.get(index).map(|rule| bucket.view(rule, *subject, now)))
            .collect();
        drop(state);
        views.sort_by(|a, b| a.key.cmp(&b.key));
        views
    }

    /// How many buckets are held in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().buckets.len()
    }

    /// Whether no bucket is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn rules_by_index(&self) -> HashMap<u32, &Arc<Rule>> {
        self.platforms.values().flatten().map(|rule| (rule.index, rule)).collect()
    }

    fn parse(&self, text: &str) -> Option<BucketKey> {
        let (platform, rest) = text.split_once('/')?;
        let (name, subject) = rest.rsplit_once('/')?;
        let rule = self.platforms.get(platform)?.iter().find(|rule| rule.facts.name == name)?;
        let subject = match rule.facts.per {
            RateScope::App => 0,
            _ => subject.parse::<Uuid>().ok()?.as_u128(),
        };
        Some(BucketKey { rule: Arc::clone(rule), subject })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BucketKey {
    fn is_app_throttle(&self) -> bool {
        self.rule.amount.is_none() && self.rule.facts.per == RateScope::App
    }
}

impl State {
    /// The bucket that keeps this caller waiting longest.
    fn worst<'k>(&mut self, keys: &'k [BucketKey], now: i64, ask: &Ask) -> Option<(i64, &'k BucketKey, WaitReason)> {
        let mut worst: Option<(i64, &BucketKey, WaitReason)> = None;
        for key in keys {
            let Some(bucket) = self.buckets.get_mut(&key.id()) else { continue };
            if let Gate::Shut { end, reason } = bucket.gate(&key.rule, now, ask)
                && worst.is_none_or(|(other, ..)| end > other)
            {
                worst = Some((end, key, reason));
            }
        }
        worst
    }

    fn bucket(&mut self, key: &BucketKey, now: i64) -> &mut Bucket {
        if self.buckets.len() >= self.sweep_at && !self.buckets.contains_key(&key.id()) {
            self.sweep(now);
        }
        self.buckets.entry(key.id()).or_default()
    }

    fn mark(&mut self, id: MapKey) {
        if self.buckets.get_mut(&id).is_some_and(Bucket::mark_dirty) {
            self.dirty.push(id);
        }
    }

    fn each_probe(&mut self, permit: &Permit, change: impl Fn(&mut Bucket, &BucketKey)) {
        if permit.probes == 0 {
            return;
        }
        for (at, key) in permit.keys.iter().enumerate() {
            if permit.probes & (1 << (at % 64)) == 0 {
                continue;
            }
            if let Some(bucket) = self.buckets.get_mut(&key.id()) {
                change(bucket, key);
                self.mark(key.id());
            }
        }
    }

    fn refused(&mut self, now: i64, permit: &Permit, scope: Option<RateScope>, until: Option<i64>) {
        // Limited rules stand before the implicit ones, narrow before wide. Without a stated scope, one caller's refusal is never
        // charged to the whole app.
        let of = |wanted: RateScope| permit.keys.iter().find(move |key| key.scope() == wanted);
        let key = match scope {
            Some(scope) => of(scope).or_else(|| of(RateScope::Account)),
            None => permit.keys.iter().find(|key| key.scope() != RateScope::App),
        };
        let Some(key) = key.or_else(|| permit.keys.first()) else { return };
        // A refusal that does not say whose limit it is answers every probe; one that does says nothing about other buckets.
        let id = key.id();
        self.each_probe(permit, |bucket, probed| match scope {
            Some(_) => bucket.probe_again(now),
            None if probed.id() != id => bucket.block(&probed.rule, now, None),
            None => {}
        });
        self.bucket(key, now).block(&key.rule, now, until);
        self.mark(id);
        if scope.is_some() {
            return;
        }
        let Some(wide) = permit.keys.iter().find(|key| key.is_app_throttle()) else { return };
        let storm = self.storms.entry(wide.rule.index).or_default();
        if now - storm.since > STORM_SPAN {
            *storm = Storm { since: now, refused: Vec::new() };
        }
        if !storm.refused.contains(&key.subject) {
            storm.refused.push(key.subject);
        }
        if storm.refused.len() >= STORM_ACCOUNTS {
            self.storms.remove(&wide.rule.index);
            self.bucket(wide, now).block(&wide.rule, now, None);
            self.mark(wide.id());
        }
    }

    fn sweep_if_large(&mut self, now: i64) {
        if self.buckets.len() >= self.sweep_at {
            self.sweep(now);
        }
    }

    /// Drops what is over. The next sweep comes when the map has doubled, so that the cost per reservation stays constant.
    fn sweep(&mut self, now: i64) {
        self.buckets.retain(|_, bucket| !bucket.is_idle(now));
        self.dirty = self.buckets.iter().filter(|(_, bucket)| bucket.is_dirty()).map(|(id, _)| *id).collect();
        self.storms.retain(|_, storm| now - storm.since <= STORM_SPAN);
        self.sweep_at = (self.buckets.len() * 2).max(SWEEP_MIN);
        if self.buckets.capacity() > self.sweep_at * 2 {
            self.buckets.shrink_to(self.sweep_at);
        }
    }
}

fn narrowness(scope: RateScope) -> u8 {
    match scope {
        RateScope::Account => 0,
        RateScope::Connection => 1,
        RateScope::App => 2,
    }
}

#[cfg(test)]
mod tests;
