//! One bucket: its window, its block and its queue. Times are microseconds since the epoch.

use jiff::Timestamp;
use uuid::Uuid;

use super::ask::{Ask, Observation, Turn, WaitReason};
use super::ledger::BucketView;
use super::rule::{RateScope, Rule, WindowKind};
use super::shared::{BlockChange, BucketDelta, BucketState};

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const DAY: i64 = 24 * 3600 * SECOND;
pub(super) const YEAR: i64 = 366 * DAY;

/// A probe that nobody reports about is given up after this time.
pub(super) const PROBE_LEASE: i64 = 60 * SECOND;
/// How soon to look again while a probe is out, and the pause after one that found nothing out.
const PROBE_GAP: i64 = 5 * SECOND;
const PROBE_AGAIN: i64 = 30 * SECOND;
/// First block without a stated end; it doubles with each refusal in a row.
const FIRST_BLOCK: i64 = 60 * SECOND;
/// A daily limit that refused this often in a row stays closed until the day is over.
const DAY_STRIKES: u32 = 5;
/// Waiting callers come back within this part of a window.
const SPREAD_MAX: i64 = 60 * SECOND;
/// Most by which chance moves a single caller.
const JITTER_MAX: i64 = 2 * SECOND;
/// Distance of waiting callers where no amount is known.
const UNKNOWN_STEP: i64 = SECOND / 10;
/// How long room is kept for waiting callers beyond the spread.
const HELD_GRACE: i64 = 30 * SECOND;

/// Small on purpose: there may be some per account. What most buckets never need is boxed.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    start: i64,
    /// 0 while no window is open.
    end: i64,
    used: u32,
    /// What the network allows in this window if that is less than the rule; 0 if it said nothing.
    narrowed: u32,
    /// Uses that the other workers do not know about.
    unsent: i32,
    /// The network counted at least this many.
    floor: u32,
    dirty: bool,
    end_is_stated: bool,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    block: Option<Block>,
    change: Option<BlockChange>,
    queue: Queue,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    until: i64,
    /// Refusals in a row.
    strikes: u32,
    /// Until when a probe may be out, ours or another worker's; 0 if none is.
    probe_until: i64,
    /// Another worker told of it.
    heard: bool,
}

/// Callers that were told to wait: `count` units are promised from `base` on, as much per window as it allows.
#[derive(Debug, Default, Clone, Copy)]
struct Queue {
    base: i64,
    count: u32,
    /// Room in the present window that is kept for them, and until when.
    held: u32,
    held_until: i64,
}

/// Whether a caller may pass.
pub(super) enum Gate {
    Open,
    Shut { end: i64, reason: WaitReason },
}

pub(super) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

impl Bucket {
    pub(super) fn gate(&mut self, rule: &Rule, now: i64, ask: &Ask) -> Gate {
        self.roll(rule, now);
        let shut = |end, reason| Gate::Shut { end, reason };
        if let Some(block) = self.block_ref() {
            if now < block.until {
                return shut(block.until, WaitReason::Blocked);
            }
            if now < block.probe_until {
                return shut(now + PROBE_GAP, WaitReason::Probing);
            }
        }
        let Some(limit) = self.limit(rule) else { return Gate::Open };
        let free = limit.saturating_sub(self.used);
        // What can never fit goes when nothing else does.
        if ask.units > free && self.used > 0 {
            return shut(self.end, WaitReason::Used);
        }
        if let (Turn::New, Some(queue)) = (ask.turn, self.queue_ref())
            && queue.held > 0
            && now < queue.held_until
            && ask.units > free.saturating_sub(queue.held)
        {
            return shut(queue.held_until, WaitReason::Queued);
        }
        Gate::Open
    }

    /// Counts a use that the gate let pass. Says whether it is a probe.
    pub(super) fn take(&mut self, rule: &Rule, now: i64, ask: &Ask) -> bool {
        self.roll(rule, now);
        if rule.amount.is_some() {
            if self.end == 0 {
                (self.start, self.end) = window_at(rule, now);
            }
            self.used = self.used.saturating_add(ask.units);
            self.unsent = self.unsent.saturating_add_unsigned(ask.units);
        }
        let Some(rare) = &mut self.rare else { return false };
        if ask.turn == Turn::Waited {
            rare.queue.held = rare.queue.held.saturating_sub(ask.units);
        }
        match &mut rare.block {
            Some(block) if now >= block.until && now >= block.probe_until => {
                block.probe_until = now + PROBE_LEASE;
                rare.change = Some(BlockChange::Until(instant(block.probe_until)));
                true
            }
            _ => false,
        }
    }

    /// Takes back a use that did not happen, if its window is still open.
    pub(super) fn give_back(&mut self, now: i64, issued: i64, units: u32) -> bool {
        if self.end == 0 || now >= self.end || issued < self.start {
            return false;
        }
        self.used = self.used.saturating_sub(units);
        self.unsent = self.unsent.saturating_sub_unsigned(units);
        true
    }

    /// The time at which a caller should come back, when the bucket is shut until `end`.
    ///
    /// New callers queue up behind each other, as many per window as it allows. One that waited already and finds the bucket shut again
    /// does not queue twice: it comes back as soon as the bucket may be open.
    pub(super) fn promise(&mut self, rule: &Rule, now: i64, end: i64, reason: WaitReason, ask: &Ask) -> i64 {
        let limit = self.limit(rule);
        let queue = &mut self.rare.get_or_insert_default().queue;
        if queue.count == 0 || queue.base < end {
            queue.base = end;
        }
        let place = i64::from(queue.count);
        // A call that is larger than a window takes a whole window.
        queue.count = queue.count.saturating_add(ask.units.clamp(1, limit.unwrap_or(u32::MAX)));
        let at = match (ask.turn, limit.map(i64::from)) {
            (Turn::Waited, _) => end + part(spread(rule).min(end - now), ask.chance),
            (Turn::New, Some(limit)) => {
                let windows = (place / limit).saturating_mul(pitch(rule, limit));
                queue.base.saturating_add(windows)
                    + (place % limit) * step(rule, limit)
                    + part(jitter(rule, limit), ask.chance)
            }
            // Without an amount nothing is known about what comes after the block: a gentle start.
            (Turn::New, None) => queue.base + (place * UNKNOWN_STEP).min(spread(rule)) + part(UNKNOWN_STEP, ask.chance),
        };
        // While a block is being probed the first caller goes ahead of the others.
        let behind_probe = if reason != WaitReason::Used && place > 0 { PROBE_GAP } else { 0 };
        (at + behind_probe).clamp(now + 1, now + longest(rule) + SPREAD_MAX)
    }

    pub(super) fn observe(&mut self, rule: &Rule, now: i64, seen: Observation) {
        let Some(amount) = rule.amount else { return };
        self.roll(rule, now);
        if self.end == 0 {
            (self.start, self.end) = window_at(rule, now);
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(limit) = seen.limit.map(small).filter(|limit| (1..amount).contains(limit)) {
            self.narrowed = limit;
        }
        if let Some(reset) = seen.reset.map(Timestamp::as_microsecond).filter(|reset| *reset > now) {
            let latest = match rule.facts.kind {
                WindowKind::Fixed => now + rule.window,
                WindowKind::Day => window_at(rule, now).1,
            };
            self.end = reset.min(latest);
            self.end_is_stated = true;
        }
        if let Some(remaining) = seen.remaining.map(small) {
            let limit = self.limit(rule).unwrap_or(amount);
            let counted = limit.saturating_sub(remaining);
            if counted >= self.used {
                // The network's count holds our own uses too: telling the other workers both would count them twice.
                (self.used, self.floor, self.unsent) = (counted, counted, 0);
            }
        }
    }

    pub(super) fn block(&mut self, rule: &Rule, now: i64, until: Option<i64>) {
        let stated = until.filter(|until| *until > now).map(|until| until.min(now + longest(rule)));
        let rare = self.rare.get_or_insert_default();
        let strikes = match &mut rare.block {
            Some(block) if now < block.until => {
                // Answers to calls that were under way when the block began say nothing new.
                if let Some(stated) = stated.filter(|stated| *stated > block.until) {
                    (block.until, block.heard) = (stated, false);
                    rare.change = Some(BlockChange::Until(instant(stated)));
                }
                return;
            }
            Some(block) => block.strikes.saturating_add(1),
            None => 1,
        };
        let until = stated.unwrap_or_else(|| unstated_end(rule, now, strikes));
        rare.block = Some(Block { until, strikes, probe_until: 0, heard: false });
        rare.change = Some(BlockChange::Until(instant(until)));
    }

    /// Whether the next call finds out if a block is over.
    pub(super) fn needs_probe(&self, now: i64) -> bool {
        self.block_ref().is_some_and(|block| now >= block.until && now >= block.probe_until)
    }

    /// A probe was accepted: the bucket is open again.
    pub(super) fn lift(&mut self) {
        if let Some(rare) = &mut self.rare
            && rare.block.take().is_some()
        {
            rare.change = Some(BlockChange::Lift);
        }
    }

    /// A probe found nothing out: the next one may go after a pause.
    pub(super) fn probe_again(&mut self, now: i64) {
        self.pause_probe(now + PROBE_AGAIN);
    }

    /// A probe was not made: the next caller may. Nobody is told: what others know of the block has not changed, or was lifted meanwhile.
    pub(super) fn probe_unused(&mut self, now: i64) {
        if let Some(rare) = &mut self.rare
            && let Some(block) = &mut rare.block
        {
            block.probe_until = now;
            rare.change = None;
        }
    }

    fn pause_probe(&mut self, until: i64) {
        if let Some(rare) = &mut self.rare
            && let Some(block) = &mut rare.block
        {
            block.probe_until = until;
            rare.change = Some(BlockChange::Until(instant(until)));
        }
    }

    pub(super) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) fn drain(&mut self, rule: &Rule, subject: u128, now: i64) -> Option<BucketDelta> {
        self.dirty = false;
        let open = self.end > now;
        let block = self.rare.as_mut().and_then(|rare| rare.change.take()).unwrap_or(BlockChange::Keep);
        let used = i64::from(std::mem::take(&mut self.unsent));
        let end_is_stated = std::mem::take(&mut self.end_is_stated);
        let news = open && (used != 0 || self.floor != 0 || end_is_stated);
        if !news && block == BlockChange::Keep {
            return None;
        }
        Some(BucketDelta {
            key: rule.text(subject),
            window_start: instant(if open { self.start } else { 0 }),
            window_end: instant(if open { self.end } else { 0 }),
            end_is_stated,
            used: if open { used } else { 0 },
            at_least: if open { self.floor } else { 0 },
            limit: self.limit(rule).unwrap_or(u32::MAX),
            block,
        })
    }

    pub(super) fn merge(&mut self, rule: &Rule, now: i64, shared: &BucketState) {
        self.roll(rule, now);
        let (start, end) = (shared.window_start.as_microsecond(), shared.window_end.as_microsecond());
        if rule.amount.is_some() && end > now {
            if !(self.end_is_stated && self.end != 0) {
                (self.start, self.end) = (start, end.min(now + longest(rule)));
            }
            let known = i64::from(shared.used).saturating_add(i64::from(self.unsent)).max(i64::from(self.floor));
            self.used = u32::try_from(known.max(0)).unwrap_or(u32::MAX);
            if rule.amount.is_some_and(|amount| shared.limit < amount) {
                self.narrowed = shared.limit.max(1);
            }
        }
        self.merge_block(rule, now, shared.blocked_until.map(Timestamp::as_microsecond));
    }

    fn merge_block(&mut self, rule: &Rule, now: i64, blocked_until: Option<i64>) {
        // What we have not told yet is newer than what the store says.
        if self.rare.as_ref().is_some_and(|rare| rare.change.is_some()) {
            return;
        }
        match blocked_until {
            Some(until) if until > now => {
                let rare = self.rare.get_or_insert_default();
                let known = rare.block.map_or(0, |block| block.until.max(block.probe_until));
                // Our own block or probe comes back as an echo.
                if until <= known {
                    return;
                }
                match &mut rare.block {
                    // Another worker finds out whether it is over, which may take no longer than this.
                    Some(block) if now >= block.until && until <= now + PROBE_LEASE => block.probe_until = until,
                    block => {
                        let strikes = block.map_or(1, |block| block.strikes);
                        let until = until.min(now + longest(rule));
                        *block = Some(Block { until, strikes, probe_until: 0, heard: true });
                    }
                }
            }
            Some(_) => {}
            // Another worker's probe was accepted. A block of our own that has not ended is newer than that.
            None => {
                if let Some(rare) = &mut self.rare
                    && rare.block.is_some_and(|block| block.heard || now >= block.until)
                {
                    rare.block = None;
                }
            }
        }
    }

    /// Nothing here is worth remembering.
    pub(super) fn is_idle(&self, now: i64) -> bool {
        let quiet = match &self.rare {
            None => true,
            Some(rare) => {
                rare.change.is_none()
                    && rare.block.is_none_or(|block| now > block.until.max(block.probe_until).saturating_add(DAY))
                    && (rare.queue.count == 0 || now > rare.queue.base.saturating_add(DAY))
                    && (rare.queue.held == 0 || now >= rare.queue.held_until)
            }
        };
        quiet && self.end <= now
    }

    pub(super) fn view(&self, rule: &Rule, subject: u128, now: i64) -> BucketView {
        let open = self.end > now;
        BucketView {
            key: rule.text(subject),
            platform: rule.platform.clone(),
            rule: rule.facts.name.clone(),
            scope: rule.facts.per,
            subject: (rule.facts.per != RateScope::App).then(|| Uuid::from_u128(subject)),
            used: if open { self.used } else { 0 },
            limit: self.limit(rule),
            window_end: open.then(|| instant(self.end)),
            blocked_until: self.block_ref().map(|block| block.until).filter(|until| *until > now).map(instant),
            waiting: self.queue_ref().map_or(0, |queue| queue.count),
        }
    }

    fn limit(&self, rule: &Rule) -> Option<u32> {
        let amount = rule.amount?;
        Some(if self.narrowed == 0 { amount } else { self.narrowed.min(amount) })
    }

    fn block_ref(&self) -> Option<&Block> {
        self.rare.as_ref().and_then(|rare| rare.block.as_ref())
    }

    fn queue_ref(&self) -> Option<&Queue> {
        self.rare.as_ref().map(|rare| &rare.queue)
    }

    /// Closes a window that is over (or that a clock set back has made meaningless) and moves the queue on.
    fn roll(&mut self, rule: &Rule, now: i64) {
        if self.end != 0 && (now >= self.end || now < self.start.saturating_sub(rule.window)) {
            *self = Self { dirty: self.dirty, rare: self.rare.take(), ..Self::default() };
        }
        let limit = self.limit(rule).unwrap_or(u32::MAX);
        let pitch = pitch(rule, i64::from(limit));
        let Some(rare) = &mut self.rare else { return };
        let queue = &mut rare.queue;
        if queue.count > 0 && now >= queue.base {
            let passed = (now - queue.base) / pitch;
            let missed = u32::try_from(passed).unwrap_or(u32::MAX).saturating_mul(limit);
            queue.count = queue.count.saturating_sub(missed);
            // Those whose turn is in the window that begins now.
            queue.held = queue.count.min(limit);
            let begun = queue.base + passed * pitch;
            queue.held_until = begun + spread(rule) + HELD_GRACE.min(rule.window / 2);
            queue.count -= queue.held;
            queue.base = begun + pitch;
        }
        if queue.held > 0 && now >= queue.held_until {
            queue.held = 0;
        }
        if rare.block.is_none() && rare.change.is_none() && queue.count == 0 && queue.held == 0 {
            self.rare = None;
        }
    }
}

fn window_at(rule: &Rule, now: i64) -> (i64, i64) {
    match rule.facts.kind {
        WindowKind::Fixed => (now, now + rule.window),
        WindowKind::Day => {
            let start = now - now.rem_euclid(DAY);
            (start, start + DAY)
        }
    }
}

/// A random part of a span.
fn part(span: i64, chance: f64) -> i64 {
    let chance = if chance.is_nan() { 1.0 } else { chance.clamp(0.0, 1.0) };
    (span as f64 * chance) as i64
}

/// Distance of two callers that come back in the same window.
fn step(rule: &Rule, limit: i64) -> i64 {
    spread(rule) / limit.max(1)
}

fn jitter(rule: &Rule, limit: i64) -> i64 {
    step(rule, limit).min(JITTER_MAX)
}

/// Distance of two windows in which callers come back. A window begins with its first use, which jitter delays a little each time.
fn pitch(rule: &Rule, limit: i64) -> i64 {
    match rule.facts.kind {
        WindowKind::Fixed => rule.window + jitter(rule, limit),
        WindowKind::Day => rule.window,
    }
}

fn spread(rule: &Rule) -> i64 {
    (rule.window / 10).min(SPREAD_MAX)
}

/// The longest that anything a network says is believed.
fn longest(rule: &Rule) -> i64 {
    rule.window.max(DAY)
}

/// The end of a block about which the network said nothing: a minute, doubled with each refusal in a row.
fn unstated_end(rule: &Rule, now: i64, strikes: u32) -> i64 {
    let doubled = FIRST_BLOCK << (strikes - 1).min(20);
    match rule.facts.kind {
        WindowKind::Fixed => now + doubled.min(rule.window.clamp(FIRST_BLOCK, DAY)),
        WindowKind::Day => {
            let midnight = window_at(rule, now).1;
            if strikes > DAY_STRIKES { midnight } else { (now + doubled).min(midnight.max(now + FIRST_BLOCK)) }
        }
    }
}
