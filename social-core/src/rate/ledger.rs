//! The ledger: all buckets of a process behind one lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::ask::{Ask, Observation, Outcome, Permit, Stop, Turn, Verdict, Wait, WaitReason};
use super::bucket::{self, Bucket, Gate};
use super::rule::{BILLING, BucketKey, CONFIG, RateRule, RateScope, Rule, THROTTLE, THROTTLE_APP, WindowKind};
use super::shared::{BucketDelta, BucketState};

/// Whether limits hold callers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateMode {
    /// They do.
    On,
    /// Uses are counted and blocks are noted, but nobody waits. For tests and private networks.
    Off,
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
pub(super) const SWEEP_MIN: usize = 1024;

impl RateLedger {
    /// A ledger for these networks with their rules. Each network gets four more, which have no amount and carry blocks: `throttle` and
    /// `throttle-app` for calls that no other rule covers, `billing` and `config` for what stops the whole network until an operator acts.
    #[must_use]
    pub fn new(mode: RateMode, platforms: impl IntoIterator<Item = (String, Vec<RateRule>)>) -> Self {
        let mut index = 0;
        let mut platforms: HashMap<String, Vec<Arc<Rule>>> = platforms
            .into_iter()
            .map(|(platform, mut rules)| {
                // Narrow before wide: a refusal without a scope is charged to the first that fits.
                rules.sort_by_key(|rule| narrowness(rule.per));
                let limited = rules.into_iter().map(|rule| (rule, true));
                let implicit = [
                    (THROTTLE, RateScope::Account),
                    (THROTTLE_APP, RateScope::App),
                    (BILLING, RateScope::App),
                    (CONFIG, RateScope::App),
                ]
                .map(|(name, per)| {
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
            Outcome::Stopped { why, until } => {
                let key = stop_key(&permit.keys, why);
                state.each_probe(&permit, |bucket, probed| {
                    if key.is_none_or(|key| key.id() != probed.id()) {
                        bucket.probe_again(now);
                    }
                });
                if let Some(key) = key {
                    state.bucket(key, now).block(&key.rule, now, until.map(|until| until.as_microsecond()));
                    state.mark(key.id());
                }
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

    /// Closes the whole network, as [`Outcome::Stopped`] does, after a call for which nothing was reserved.
    pub fn stop(&self, now: Timestamp, keys: &[BucketKey], why: Stop, until: Option<Timestamp>) {
        if let Some(key) = stop_key(keys, why) {
            self.block(now, key, until);
        }
    }

    /// Whether the next call finds out if a block is over. Reserve before anything is sent then, not only before the visible call.
    #[must_use]
    pub fn needs_probe(&self, now: Timestamp, keys: &[BucketKey]) -> bool {
        let (now, state) = (now.as_microsecond(), self.lock());
        self.mode == RateMode::On
            && keys.iter().any(|key| state.buckets.get(&key.id()).is_some_and(|bucket| bucket.needs_probe(now)))
    }

    /// The rules that count for a whole app, by network.
    pub(super) fn app_rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.platforms.values().flatten().filter(|rule| rule.facts.per == RateScope::App)
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

/// The bucket that carries a stop of the whole network.
fn stop_key(keys: &[BucketKey], why: Stop) -> Option<&BucketKey> {
    let name = match why {
        Stop::Billing => BILLING,
        Stop::Config => CONFIG,
        Stop::Throttled | Stop::Limit => THROTTLE_APP,
    };
    keys.iter().find(|key| key.rule() == name)
}

fn narrowness(scope: RateScope) -> u8 {
    match scope {
        RateScope::Account => 0,
        RateScope::Connection => 1,
        RateScope::App => 2,
    }
}
