use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use uuid::Uuid;

use super::ledger::SWEEP_MIN;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(900);

fn start() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn rule(name: &str, per: RateScope, amount: u32) -> RateRule {
    RateRule {
        name: name.into(),
        per,
        operations: vec!["publish".into()],
        amount,
        window: WINDOW,
        kind: WindowKind::Fixed,
    }
}

fn ledger(rules: Vec<RateRule>) -> RateLedger {
    RateLedger::new(RateMode::On, [("x".to_owned(), rules)])
}

fn keys_of(ledger: &RateLedger, account: u128) -> Vec<BucketKey> {
    ledger.keys("x", "publish", Uuid::from_u128(7), Uuid::from_u128(account))
}

fn go(verdict: Verdict) -> Permit {
    match verdict {
        Verdict::Go(permit) => permit,
        Verdict::Wait(wait) => panic!("should go, but: {wait:?}"),
    }
}

fn wait(verdict: Verdict) -> Wait {
    match verdict {
        Verdict::Wait(wait) => wait,
        Verdict::Go(permit) => panic!("should wait, but has {permit:?}"),
    }
}

fn seconds(instant: Timestamp) -> i64 {
    instant.duration_since(start()).as_secs()
}

const WAITED: Ask = Ask { units: 1, turn: Turn::Waited, chance: 0.0 };
const NEW: Ask = Ask { units: 1, turn: Turn::New, chance: 0.0 };
const REFUSED: Outcome = Outcome::Refused { scope: None, until: None };

// ---- windows ----

#[test]
fn a_window_allows_its_amount_and_not_one_more() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 3)]);
    let keys = keys_of(&ledger, 1);
    for second in 0..3 {
        ledger.settle(at(second), go(ledger.reserve(at(second), &keys, NEW)), Outcome::Accepted);
    }
    assert!(ledger.check(at(899), &keys).is_some());
    let refused = wait(ledger.reserve(at(899), &keys, NEW));
    assert_eq!((refused.until, refused.reason, refused.rule.as_str()), (at(900), WaitReason::Used, "post"));
    assert!(ledger.check(at(900), &keys).is_none());
    let _ = go(ledger.reserve(at(900), &keys, WAITED));
    // The new window begins with its first use.
    assert_eq!(ledger.snapshot(at(900))[0].window_end, Some(at(1800)));
}

#[test]
fn a_day_ends_at_midnight_utc() {
    let day = RateRule { kind: WindowKind::Day, ..rule("day", RateScope::Account, 1) };
    let ledger = ledger(vec![day]);
    let keys = keys_of(&ledger, 1);
    let _ = go(ledger.reserve(start(), &keys, NEW));
    let midnight: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    assert_eq!(wait(ledger.reserve(start(), &keys, NEW)).until, midnight);
    let before = midnight - SignedDuration::from_micros(1);
    let _ = wait(ledger.reserve(before, &keys, WAITED));
    let _ = go(ledger.reserve(midnight, &keys, WAITED));
}

#[test]
fn accounts_count_apart_and_the_app_counts_together() {
    let ledger = ledger(vec![rule("app", RateScope::App, 3), rule("post", RateScope::Account, 2)]);
    for account in [1, 1, 2] {
        let _ = go(ledger.reserve(start(), &keys_of(&ledger, account), NEW));
    }
    let refused = wait(ledger.reserve(start(), &keys_of(&ledger, 3), NEW));
    assert_eq!((refused.scope, refused.rule.as_str()), (RateScope::App, "app"));
    let used: BTreeMap<_, _> = ledger.snapshot(start()).into_iter().map(|view| (view.key, view.used)).collect();
    assert_eq!(used["x/app/-"], 3);
    assert_eq!(used[&format!("x/post/{}", Uuid::from_u128(1))], 2);
    assert!(!used.contains_key(&format!("x/post/{}", Uuid::from_u128(3))), "a refused call counts nowhere: {used:?}");
}

#[test]
fn only_the_named_operations_are_counted() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 1)]);
    let _ = go(ledger.reserve(start(), &keys_of(&ledger, 1), NEW));
    let media = ledger.keys("x", "media", Uuid::nil(), Uuid::from_u128(1));
    assert_eq!(
        media.iter().map(BucketKey::rule).collect::<Vec<_>>(),
        ["throttle", "throttle-app", "billing", "config"]
    );
    let _ = go(ledger.reserve(start(), &media, NEW));
    assert!(ledger.keys("nowhere", "publish", Uuid::nil(), Uuid::nil()).is_empty());
    let _ = go(ledger.reserve(start(), &[], NEW));
}

#[test]
fn an_unused_reservation_is_given_back() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 1)]);
    let keys = keys_of(&ledger, 1);
    let permit = go(ledger.reserve(start(), &keys, NEW));
    ledger.settle(at(1), permit, Outcome::Unused);
    let late = go(ledger.reserve(at(2), &keys, NEW));
    // Given back after the window: it must not free room in the next one.
    let next = go(ledger.reserve(at(900), &keys, WAITED));
    ledger.settle(at(901), late, Outcome::Unused);
    let _ = wait(ledger.reserve(at(902), &keys, NEW));
    ledger.settle(at(903), next, Outcome::Accepted);
}

#[test]
fn a_call_larger_than_a_window_goes_alone() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 10)]);
    let keys = keys_of(&ledger, 1);
    let large = Ask { units: 25, ..NEW };
    let _ = go(ledger.reserve(start(), &keys, NEW));
    assert_eq!(wait(ledger.reserve(start(), &keys, large)).until, at(900));
    let _ = go(ledger.reserve(at(900), &keys, Ask { turn: Turn::Waited, ..large }));
    let _ = wait(ledger.reserve(at(901), &keys, NEW));
}

#[test]
fn a_clock_that_is_set_back_does_not_close_a_bucket_for_long() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 1)]);
    let keys = keys_of(&ledger, 1);
    let _ = go(ledger.reserve(at(100_000), &keys, NEW));
    let _ = go(ledger.reserve(at(0), &keys, NEW));
    assert!(wait(ledger.reserve(at(1), &keys, NEW)).until <= at(901));
}

// ---- waiting ----

#[test]
fn waiters_are_spread_over_the_windows_that_have_room_for_them() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 10)]);
    let keys = keys_of(&ledger, 1);
    for _ in 0..10 {
        let _ = go(ledger.reserve(start(), &keys, NEW));
    }
    let mut times = Vec::new();
    for k in 0..95 {
        let chance = f64::from(k % 7) / 7.0;
        times.push(wait(ledger.reserve(at(5), &keys, Ask { chance, ..NEW })).until);
    }
    let mut per_window: BTreeMap<i64, u32> = BTreeMap::new();
    for time in &times {
        *per_window.entry((seconds(*time) - 900).div_euclid(900)).or_default() += 1;
    }
    let expected: BTreeMap<i64, u32> = (0..10).map(|window| (window, if window == 9 { 5 } else { 10 })).collect();
    assert_eq!(per_window, expected);
    assert!(times.is_sorted(), "nobody is overtaken");
    assert_eq!(ledger.snapshot(at(5)).iter().map(|view| view.waiting).max(), Some(95));

    // Everybody comes back at the promised time and gets through at once, although newcomers push in.
    let mut newcomers = 0;
    for time in times {
        ledger.settle(time, go(ledger.reserve(time, &keys, WAITED)), Outcome::Accepted);
        if matches!(ledger.reserve(time, &keys, NEW), Verdict::Wait(_)) {
            newcomers += 1;
        }
    }
    assert!(newcomers >= 90, "newcomers stand behind those that wait: {newcomers}");
}

#[test]
fn room_that_nobody_came_back_for_is_free_again() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 2)]);
    let keys = keys_of(&ledger, 1);
    for _ in 0..2 {
        let _ = go(ledger.reserve(start(), &keys, NEW));
    }
    for _ in 0..2 {
        let _ = wait(ledger.reserve(start(), &keys, NEW));
    }
    // Both waiters were canceled meanwhile.
    let queued = wait(ledger.reserve(at(901), &keys, NEW));
    assert_eq!(queued.reason, WaitReason::Queued);
    assert!(seconds(queued.until) < 900 + 100, "{queued:?}");
    let _ = go(ledger.reserve(at(900 + 100), &keys, NEW));
}

#[test]
fn ten_thousand_waiters_cost_no_more_calls_than_the_limit_allows() {
    let ledger = ledger(vec![rule("post", RateScope::App, 100)]);
    let mut due: Vec<(Timestamp, u128, Turn)> = (0..3000).map(|n| (start(), n, Turn::New)).collect();
    let mut went: BTreeMap<i64, u32> = BTreeMap::new();
    let mut asked = 0;
    while !due.is_empty() {
        due.sort_by_key(|entry| std::cmp::Reverse(entry.0));
        let (now, account, turn) = due.pop().unwrap();
        asked += 1;
        match ledger.reserve(now, &keys_of(&ledger, account), Ask { units: 1, turn, chance: 0.5 }) {
            Verdict::Go(permit) => {
                *went.entry(seconds(now).div_euclid(900)).or_default() += 1;
                ledger.settle(now, permit, Outcome::Accepted);
            }
            Verdict::Wait(wait) => {
                assert!(wait.until > now);
                due.push((wait.until, account, Turn::Waited));
            }
        }
    }
    assert_eq!(went.values().sum::<u32>(), 3000);
    assert!(went.values().all(|calls| *calls <= 100), "{went:?}");
    assert!(went.len() <= 33, "no window is wasted: {}", went.len());
    assert!(asked <= 3000 * 3, "{asked} questions for 3000 calls");
}

// ---- blocks and probes ----

#[test]
fn after_a_block_exactly_one_probe_goes_until_it_succeeds() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
    let keys = keys_of(&ledger, 1);
    let refused = Outcome::Refused { scope: None, until: Some(at(300)) };
    ledger.settle(at(1), go(ledger.reserve(at(0), &keys, NEW)), refused);
    assert_eq!(wait(ledger.reserve(at(299), &keys, NEW)).reason, WaitReason::Blocked);

    let probe = go(ledger.reserve(at(300), &keys, WAITED));
    assert!(probe.is_probe());
    for second in 300..359 {
        let other = wait(ledger.reserve(at(second), &keys, NEW));
        assert_eq!(other.reason, WaitReason::Probing, "second {second}");
        assert!(other.until > at(second));
    }
    ledger.settle(at(359), probe, Outcome::Accepted);
    for _ in 0..5 {
        assert!(!go(ledger.reserve(at(360), &keys, WAITED)).is_probe());
    }
}

#[test]
fn a_storm_of_refusals_lets_one_probe_through_per_block() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 1000)]);
    let keys = keys_of(&ledger, 1);
    let mut probes = Vec::new();
    // The network refuses for two hours and says nothing about how long; fifty callers ask every ten seconds.
    for second in (0..7200).step_by(10) {
        for _ in 0..50 {
            if let Verdict::Go(permit) = ledger.reserve(at(second), &keys, WAITED) {
                probes.push(second);
                ledger.settle(at(second), permit, REFUSED);
            }
        }
    }
    assert_eq!(
        probes,
        [0, 60, 180, 420, 900, 1800, 2700, 3600, 4500, 5400, 6300],
        "a minute, doubling up to the window"
    );
}

#[test]
fn a_probe_that_finds_nothing_out_is_followed_by_another() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
    let keys = keys_of(&ledger, 1);
    ledger.block(at(0), &keys[0], Some(at(10)));
    ledger.settle(at(10), go(ledger.reserve(at(10), &keys, WAITED)), Outcome::Inconclusive);
    let _ = wait(ledger.reserve(at(39), &keys, WAITED));
    // This one's process dies: nobody reports.
    assert!(go(ledger.reserve(at(40), &keys, WAITED)).is_probe());
    let _ = wait(ledger.reserve(at(99), &keys, WAITED));
    let unused = go(ledger.reserve(at(100), &keys, WAITED));
    assert!(unused.is_probe());
    ledger.settle(at(101), unused, Outcome::Unused);
    let last = go(ledger.reserve(at(101), &keys, WAITED));
    assert!(last.is_probe());
    ledger.settle(at(101), last, Outcome::Accepted);
    assert!(!go(ledger.reserve(at(101), &keys, WAITED)).is_probe());
}

#[test]
fn late_answers_do_not_open_or_double_a_block() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
    let keys = keys_of(&ledger, 1);
    let mut flying: Vec<_> = (0..6).map(|_| go(ledger.reserve(at(0), &keys, NEW))).collect();
    for permit in flying.drain(..4) {
        ledger.settle(at(1), permit, REFUSED);
    }
    ledger.settle(at(2), flying.pop().unwrap(), Outcome::Accepted);
    assert_eq!(
        wait(ledger.reserve(at(60), &keys, WAITED)).reason,
        WaitReason::Blocked,
        "an older success opens nothing"
    );
    // One refusal, not four: the first block lasts a minute.
    let probe = go(ledger.reserve(at(61), &keys, WAITED));
    assert!(probe.is_probe());
}

#[test]
fn other_networks_and_other_accounts_are_not_affected() {
    let ledger = RateLedger::new(
        RateMode::On,
        [
            ("x".to_owned(), vec![rule("post", RateScope::Account, 10)]),
            ("linkedin".to_owned(), vec![rule("post", RateScope::Account, 10)]),
        ],
    );
    let keys = keys_of(&ledger, 1);
    ledger.settle(at(0), go(ledger.reserve(at(0), &keys, NEW)), REFUSED);
    let _ = wait(ledger.reserve(at(1), &keys, NEW));
    let _ = go(ledger.reserve(at(1), &keys_of(&ledger, 2), NEW));
    let _ = go(ledger.reserve(at(1), &ledger.keys("linkedin", "publish", Uuid::from_u128(7), Uuid::from_u128(1)), NEW));
}

#[test]
fn refusals_of_several_accounts_in_a_row_pause_the_app() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 10)]);
    let permits: Vec<_> = (1..=3).map(|account| go(ledger.reserve(at(0), &keys_of(&ledger, account), NEW))).collect();
    for permit in permits {
        ledger.settle(at(1), permit, REFUSED);
    }
    let paused = wait(ledger.reserve(at(2), &keys_of(&ledger, 9), NEW));
    assert_eq!((paused.rule.as_str(), paused.scope), ("throttle-app", RateScope::App));
    // One account finds out for all; refused again, the pause doubles.
    let probe = go(ledger.reserve(at(61), &keys_of(&ledger, 9), WAITED));
    let _ = wait(ledger.reserve(at(61), &keys_of(&ledger, 8), NEW));
    ledger.settle(at(61), probe, REFUSED);
    let _ = wait(ledger.reserve(at(180), &keys_of(&ledger, 8), NEW));
    let probe = go(ledger.reserve(at(181), &keys_of(&ledger, 8), WAITED));
    ledger.settle(at(181), probe, Outcome::Accepted);
    let _ = go(ledger.reserve(at(182), &keys_of(&ledger, 7), WAITED));
}

#[test]
fn an_accepted_call_between_refusals_keeps_the_app_open() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 10)]);
    for account in 1..=20 {
        let permit = go(ledger.reserve(at(0), &keys_of(&ledger, account), NEW));
        ledger.settle(at(0), permit, if account % 3 == 0 { Outcome::Accepted } else { REFUSED });
    }
}

#[test]
fn the_stated_scope_is_the_one_that_closes() {
    let rules = || vec![rule("app", RateScope::App, 100), rule("post", RateScope::Account, 100)];
    for (scope, other_account_waits, rule) in
        [(Some(RateScope::App), true, "app"), (Some(RateScope::Account), false, "post"), (None, false, "post")]
    {
        let ledger = ledger(rules());
        let keys = keys_of(&ledger, 1);
        ledger.settle(at(0), go(ledger.reserve(at(0), &keys, NEW)), Outcome::Refused { scope, until: None });
        assert_eq!(wait(ledger.reserve(at(1), &keys, NEW)).rule, rule, "{scope:?}");
        let other = ledger.check(at(1), &keys_of(&ledger, 2));
        assert_eq!(other.is_some(), other_account_waits, "{scope:?}: {other:?}");
    }
    // No account rule: the account is held back all the same, not the app.
    let ledger = ledger(vec![rule("app", RateScope::App, 100)]);
    let keys = keys_of(&ledger, 1);
    ledger.settle(at(0), go(ledger.reserve(at(0), &keys, NEW)), REFUSED);
    assert_eq!(wait(ledger.reserve(at(1), &keys, NEW)).rule, "throttle");
    let _ = go(ledger.reserve(at(1), &keys_of(&ledger, 2), NEW));
}

#[test]
fn a_daily_limit_that_keeps_refusing_closes_until_midnight() {
    let ledger = ledger(vec![RateRule { kind: WindowKind::Day, ..rule("day", RateScope::Account, 100) }]);
    let keys = keys_of(&ledger, 1);
    let mut now = start();
    let mut probes = 0;
    let midnight: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    while now < midnight {
        probes += 1;
        assert!(probes < 10, "still probing at {now}");
        ledger.settle(now, go(ledger.reserve(now, &keys, WAITED)), REFUSED);
        now = wait(ledger.reserve(now, &keys, Ask { turn: Turn::New, ..WAITED })).until;
    }
    assert_eq!(probes, 6);
}

// ---- what networks say ----

#[test]
fn nonsense_from_the_network_is_not_believed() {
    let day = 24 * 3600;
    for (what, until, expected) in [
        ("in the past", Some(at(-1000)), 60),
        ("now", Some(at(0)), 60),
        ("nothing", None, 60),
        ("ten minutes", Some(at(600)), 600),
        ("ten years", Some(at(10 * 366 * day)), day),
    ] {
        let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
        let keys = keys_of(&ledger, 1);
        ledger.settle(at(0), go(ledger.reserve(at(0), &keys, NEW)), Outcome::Refused { scope: None, until });
        assert_eq!(seconds(wait(ledger.reserve(at(0), &keys, NEW)).until), expected, "{what}");
    }
}

#[test]
fn headers_narrow_a_window_and_never_widen_it() {
    let seen = |limit, remaining, reset: Option<i64>| Observation { limit, remaining, reset: reset.map(at) };
    for (what, said, used, limit, end) in [
        ("the same", seen(Some(100), Some(99), Some(900)), 1, 100, 900),
        ("more used elsewhere", seen(Some(100), Some(40), Some(500)), 60, 100, 500),
        ("nothing left", seen(Some(100), Some(0), Some(500)), 100, 100, 500),
        ("a smaller limit", seen(Some(50), Some(10), Some(500)), 40, 50, 500),
        ("a generous limit", seen(Some(40_000), Some(39_999), Some(500)), 1, 100, 500),
        ("a generous limit, nothing left", seen(Some(40_000), Some(0), None), 100, 100, 900),
        ("limit zero", seen(Some(0), None, None), 1, 100, 900),
        ("more left than we used", seen(Some(100), Some(100), None), 1, 100, 900),
        ("reset in the past", seen(Some(100), Some(0), Some(-5)), 100, 100, 900),
        ("reset in ten years", seen(Some(100), Some(0), Some(316_000_000)), 100, 100, 910),
        ("huge numbers", seen(Some(u64::MAX), Some(u64::MAX), None), 1, 100, 900),
        ("nothing", seen(None, None, None), 1, 100, 900),
    ] {
        let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
        let keys = keys_of(&ledger, 1);
        let _ = go(ledger.reserve(at(0), &keys, NEW));
        ledger.observe(at(10), &keys[0], said);
        let view = &ledger.snapshot(at(10))[0];
        assert_eq!((view.used, view.limit, view.window_end), (used, Some(limit), Some(at(end))), "{what}");
    }
}

#[test]
fn a_narrowed_limit_ends_with_its_window() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
    let keys = keys_of(&ledger, 1);
    ledger.observe(at(0), &keys[0], Observation { limit: Some(1), remaining: Some(0), reset: None });
    let _ = wait(ledger.reserve(at(1), &keys, NEW));
    for _ in 0..100 {
        let _ = go(ledger.reserve(at(900), &keys, WAITED));
    }
}

#[test]
fn headers_are_read_or_ignored() {
    let now = start();
    let read = |pairs: &[(&str, &'static str)]| {
        let map: HashMap<String, &'static str> =
            pairs.iter().map(|(name, value)| (format!("x-rate-limit-{name}"), *value)).collect();
        Observation::from_headers("x-rate-limit", now, |name| map.get(name).copied())
    };
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("limit", "many"), ("reset", "tomorrow"), ("remaining", "-1")]), None);
    let reset = (now.as_second() + 60).to_string().leak();
    assert_eq!(
        read(&[("limit", "100"), ("remaining", " 7 "), ("reset", reset)]),
        Some(Observation { limit: Some(100), remaining: Some(7), reset: Some(at(60)) })
    );
    assert_eq!(read(&[("reset", "30")]).unwrap().reset, Some(at(30)));
    assert_eq!(read(&[("reset", "99999999999999999"), ("remaining", "0")]).unwrap().reset, None);
}

// ---- modes, memory, sharing ----

#[test]
fn switched_off_it_counts_and_never_holds_back() {
    let ledger = RateLedger::new(RateMode::Off, [("x".to_owned(), vec![rule("post", RateScope::Account, 2)])]);
    let keys = keys_of(&ledger, 1);
    for _ in 0..10 {
        ledger.settle(at(0), go(ledger.reserve(at(0), &keys, NEW)), REFUSED);
    }
    assert!(ledger.check(at(1), &keys).is_none());
    let view = ledger.snapshot(at(1));
    assert_eq!((view[0].used, view[0].blocked_until.is_some()), (10, true));
}

#[test]
fn buckets_whose_window_is_over_are_dropped() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 10)]);
    for account in 0..50_000_u128 {
        // A hundred a second, each once: never more than two windows are of interest.
        let now = at(i64::try_from(account / 10).unwrap());
        let permit = go(ledger.reserve(now, &keys_of(&ledger, account), NEW));
        ledger.settle(now, permit, Outcome::Accepted);
    }
    assert!(ledger.len() <= 2 * (9000 + SWEEP_MIN), "{} buckets", ledger.len());
    let later = at(100_000);
    assert!(ledger.snapshot(later).is_empty());
    assert!(ledger.drain_deltas(later).is_empty());
}

/// The table that workers share.
#[derive(Default)]
struct Table(HashMap<String, BucketState>);

impl Table {
    fn exchange(&mut self, now: Timestamp, worker: &RateLedger) {
        for delta in worker.drain_deltas(now) {
            let row = self.0.remove(&delta.key);
            let row = BucketState::apply(row, &delta);
            self.0.insert(row.key.clone(), row);
        }
        worker.merge(now, self.0.values().cloned().collect());
    }
}

#[test]
fn workers_that_exchange_share_one_limit() {
    let make = || ledger(vec![rule("post", RateScope::Account, 100)]);
    let (one, two, mut table) = (make(), make(), Table::default());
    for second in 0..30 {
        for worker in [&one, &two] {
            let permit = go(worker.reserve(at(second), &keys_of(worker, 1), NEW));
            worker.settle(at(second), permit, Outcome::Accepted);
        }
        table.exchange(at(second), &one);
        table.exchange(at(second), &two);
    }
    table.exchange(at(30), &one);
    for worker in [&one, &two] {
        assert_eq!(worker.snapshot(at(30))[0].used, 60);
    }
    for _ in 0..40 {
        let _ = go(one.reserve(at(31), &keys_of(&one, 1), NEW));
    }
    table.exchange(at(32), &one);
    table.exchange(at(32), &two);
    assert_eq!(wait(two.reserve(at(33), &keys_of(&two, 1), NEW)).reason, WaitReason::Used);
    // The next window is counted from zero by both.
    let _ = go(two.reserve(at(900), &keys_of(&two, 1), WAITED));
    table.exchange(at(900), &two);
    table.exchange(at(900), &one);
    assert_eq!(one.snapshot(at(900))[0].used, 1);
}

/// Two workers, and the table in which the first one told that it was refused until 100.
fn two_of_which_one_was_refused() -> (RateLedger, RateLedger, Table) {
    let make = || ledger(vec![rule("post", RateScope::Account, 100)]);
    let (one, two, mut table) = (make(), make(), Table::default());
    let refused = Outcome::Refused { scope: None, until: Some(at(100)) };
    one.settle(at(0), go(one.reserve(at(0), &keys_of(&one, 1), NEW)), refused);
    table.exchange(at(1), &one);
    (one, two, table)
}

#[test]
fn a_block_and_its_probe_are_shared() {
    let (one, two, mut table) = two_of_which_one_was_refused();
    let keys = keys_of(&one, 1);
    table.exchange(at(1), &two);
    assert_eq!(wait(two.reserve(at(2), &keys_of(&two, 1), NEW)).reason, WaitReason::Blocked);

    let probe = go(one.reserve(at(100), &keys, WAITED));
    table.exchange(at(100), &one);
    table.exchange(at(100), &two);
    let meanwhile = wait(two.reserve(at(101), &keys_of(&two, 1), WAITED));
    assert_eq!(meanwhile.reason, WaitReason::Probing);
    assert!(meanwhile.until < at(120), "it is worth asking again soon: {meanwhile:?}");
    one.settle(at(102), probe, Outcome::Accepted);
    table.exchange(at(103), &one);
    table.exchange(at(103), &one);
    table.exchange(at(103), &two);
    for (worker, turn) in [(&one, WAITED), (&two, WAITED), (&two, NEW)] {
        assert!(!go(worker.reserve(at(104), &keys_of(worker, 1), turn)).is_probe());
    }
}

#[test]
fn a_block_that_was_only_heard_of_ends_with_the_lift() {
    let (one, two, mut table) = two_of_which_one_was_refused();
    let keys = keys_of(&one, 1);
    // The second worker begins when the first finds out whether it is over, and hears of nothing but that probe.
    let probe = go(one.reserve(at(100), &keys, WAITED));
    table.exchange(at(100), &one);
    table.exchange(at(100), &two);
    assert_eq!(wait(two.reserve(at(101), &keys_of(&two, 1), NEW)).reason, WaitReason::Blocked);
    one.settle(at(102), probe, Outcome::Accepted);
    table.exchange(at(103), &one);
    table.exchange(at(103), &two);
    assert!(!go(two.reserve(at(104), &keys_of(&two, 1), NEW)).is_probe());
}

#[test]
fn what_the_network_counted_is_shared_once() {
    let make = || ledger(vec![rule("post", RateScope::Account, 100)]);
    let (one, two, mut table) = (make(), make(), Table::default());
    for worker in [&one, &two] {
        let keys = keys_of(worker, 1);
        let _ = go(worker.reserve(at(0), &keys, NEW));
        worker.observe(at(1), &keys[0], Observation { limit: Some(100), remaining: Some(30), reset: Some(at(400)) });
    }
    for _ in 0..3 {
        table.exchange(at(2), &one);
        table.exchange(at(2), &two);
    }
    for worker in [&one, &two] {
        let view = &worker.snapshot(at(3))[0];
        assert_eq!((view.used, view.window_end), (70, Some(at(400))), "70 in all, not 70 each");
    }
}

#[test]
fn foreign_rows_are_ignored() {
    let ledger = ledger(vec![rule("post", RateScope::Account, 100)]);
    let row = |key: &str| BucketState {
        key: key.into(),
        window_start: at(0),
        window_end: at(900),
        used: 5,
        limit: 100,
        blocked_until: None,
    };
    let known = format!("x/post/{}", Uuid::from_u128(1));
    ledger.merge(at(1), ["", "x", "x/post", "x/old-rule/-", "y/post/-", "x/post/me", &known].map(row).to_vec());
    assert_eq!(ledger.snapshot(at(1)).into_iter().map(|view| view.key).collect::<Vec<_>>(), [known]);
}

proptest! {
    /// Whatever happens, a window never lets more through than the rule, and a closed bucket never more than one probe at a time.
    #[test]
    fn limits_hold_under_any_order_of_events(
        events in prop::collection::vec((0..8_u8, 0..400_i64, 0.0..1.0_f64, 0..50_000_i64), 1..300),
        amount in 1..6_u32,
    ) {
        let ledger = ledger(vec![rule("post", RateScope::Account, amount)]);
        let keys = keys_of(&ledger, 1);
        let mut now = 0;
        let mut flying: Vec<Permit> = Vec::new();
        let mut windows: BTreeMap<Timestamp, u32> = BTreeMap::new();
        for (event, passed, chance, wish) in events {
            now += passed;
            match event {
                0..=3 => {
                    let turn = if event == 3 { Turn::New } else { Turn::Waited };
                    match ledger.reserve(at(now), &keys, Ask { units: 1, turn, chance }) {
                        Verdict::Go(permit) => {
                            let view = ledger.snapshot(at(now));
                            let end = view.iter().find(|view| view.rule == "post").and_then(|view| view.window_end).unwrap();
                            // Given-back uses may be used again, so count what is out.
                            *windows.entry(end).or_default() += 1;
                            prop_assert!(windows[&end] <= amount, "{windows:?}");
                            prop_assert!(!permit.is_probe() || passed >= 0);
                            flying.push(permit);
                        }
                        Verdict::Wait(wait) => {
                            prop_assert!(wait.until > at(now));
                            prop_assert!(wait.until <= at(now + 24 * 3600 + 120), "{wait:?}");
                        }
                    }
                }
                4 => flying.drain(..).for_each(|permit| ledger.settle(at(now), permit, Outcome::Accepted)),
                5 => {
                    if let Some(permit) = flying.pop() {
                        let until = (wish % 3 != 0).then(|| at(now + wish - 1000));
                        ledger.settle(at(now), permit, Outcome::Refused { scope: None, until });
                    }
                }
                6 => {
                    if let Some(permit) = flying.pop() {
                        ledger.settle(at(now), permit, Outcome::Inconclusive);
                    }
                }
                _ => drop(ledger.drain_deltas(at(now))),
            }
        }
    }

    /// However the uses of a window are cut into deltas, the row ends up the same.
    #[test]
    fn deltas_add_up(cuts in prop::collection::vec(1..20_u32, 1..10)) {
        let ledger = ledger(vec![rule("post", RateScope::Account, 1000)]);
        let keys = keys_of(&ledger, 1);
        let mut table = Table::default();
        for (index, uses) in (0_i64..).zip(&cuts) {
            for _ in 0..*uses {
                let _ = go(ledger.reserve(at(index), &keys, NEW));
            }
            table.exchange(at(index), &ledger);
        }
        let row = table.0.values().next().unwrap();
        prop_assert_eq!(row.used, cuts.iter().sum::<u32>());
        prop_assert_eq!((row.window_start, row.window_end, row.limit), (at(0), at(900), 1000));
    }
}

#[test]
fn the_wait_is_short_where_the_limit_is_wide() {
    // A limit of ten thousand a day must not spread its waiters over hours once the day has begun.
    let ledger = ledger(vec![RateRule { kind: WindowKind::Day, ..rule("day", RateScope::App, 10_000) }]);
    let keys = keys_of(&ledger, 1);
    for _ in 0..10_000 {
        let _ = go(ledger.reserve(start(), &keys, NEW));
    }
    let midnight: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    for _ in 0..10_000 {
        let until = wait(ledger.reserve(start(), &keys, NEW)).until;
        assert!(until >= midnight && until <= midnight + SignedDuration::try_from(MINUTE).unwrap(), "{until}");
    }
}
