//! What workers tell each other about limits.

use std::collections::BTreeMap;

use jiff::Timestamp;
use social_core::{
    rate::{BlockChange, BucketDelta, BucketState},
    store::Store,
    time::{Chance, SeededChance},
};

use super::{StoreUnderTest, at_once};
use crate::clock::{micros_after, secs, t0};

/// 16 workers use one bucket that nobody knew before: nothing is forgotten.
pub async fn uses_of_all_workers_add_up(sut: StoreUnderTest) {
    let workers = (0..16).map(|number| {
        let store = sut.handle(number);
        async move {
            for _ in 0..5 {
                store.exchange_rates(&[delta("x/post/app", 3), delta("x/read/app", 1)], t0(), t0()).await.unwrap();
            }
        }
    });
    at_once(workers).await;
    let mut states = sut.store.exchange_rates(&[], t0(), t0()).await.unwrap();
    states.sort_by(|a, b| a.key.cmp(&b.key));
    let used: Vec<_> = states.iter().map(|state| (state.key.as_str(), state.used)).collect();
    assert_eq!(used, [("x/post/app", 240), ("x/read/app", 80)]);
}

/// The store's arithmetic is that of [`BucketState::apply`], for windows, uses, limits and blocks in any order.
pub async fn buckets_follow_the_reference(sut: StoreUnderTest) {
    let store = &*sut.store;
    for seed in 0..6 {
        let chance = SeededChance::new(seed);
        let below = |bound: i64| (chance.unit() * bound as f64) as i64;
        let mut reference = BTreeMap::<String, BucketState>::new();
        let mut told = Vec::new();
        for step in 0..40 {
            let deltas: Vec<_> = (0..=below(4))
                .map(|_| {
                    let start = micros_after(secs(60 * below(4)), below(2));
                    BucketDelta {
                        key: format!("x/rule-{}/seed-{seed} 🌊", below(3)),
                        window_start: start,
                        window_end: micros_after(start, 1_000_000 * (60 + below(30))),
                        end_is_stated: below(4) == 0,
                        used: below(12) - 4,
                        at_least: u32::try_from(below(3) * below(9)).unwrap(),
                        limit: u32::try_from(10 + below(5)).unwrap(),
                        block: match below(5) {
                            0 => BlockChange::Lift,
                            1 | 2 => BlockChange::Until(micros_after(secs(below(500)), 7)),
                            _ => BlockChange::Keep,
                        },
                    }
                })
                .collect();
            for delta in &deltas {
                let current = reference.remove(&delta.key);
                reference.insert(delta.key.clone(), BucketState::apply(current, delta));
            }
            let answer = find(store, &deltas, secs(1_000_000), secs(step)).await;
            let touched = |key: &String| deltas.iter().any(|delta| delta.key == *key);
            let expected: BTreeMap<_, _> = reference.iter().filter(|(key, _)| touched(key)).collect();
            told.push(deltas.clone());
            assert_eq!(answer.iter().collect::<BTreeMap<_, _>>(), expected, "seed {seed} after {told:#?}");
        }
        let mut whole = find(store, &[], secs(-1), secs(100)).await;
        whole.retain(|key, _| key.contains(&format!("seed-{seed} ")));
        assert_eq!(whole, reference, "seed {seed}, all of it");
    }
    let extreme =
        BucketDelta { used: i64::from(u32::MAX), limit: u32::MAX, at_least: u32::MAX, ..delta("x/large/app", 0) };
    let state = BucketState::apply(None, &extreme);
    assert_eq!(find(store, &[extreme], t0(), t0()).await["x/large/app"], state, "no number is too large");
}

/// Everything that changed since then, by whomever, and the buckets of the request; nothing older.
pub async fn a_worker_hears_what_the_others_changed(sut: StoreUnderTest) {
    let (store, other) = (&*sut.store, &*sut.second);
    let keys = |found: BTreeMap<String, BucketState>| found.into_keys().collect::<Vec<_>>();
    assert_eq!(find(store, &[], secs(-1000), t0()).await, BTreeMap::new());
    for (step, key) in [(1, "a"), (2, "b"), (3, "c")] {
        find(other, &[delta(key, 1)], t0(), secs(step)).await;
    }
    assert_eq!(keys(find(store, &[], secs(2), secs(4)).await), ["b", "c"], "from that instant on");
    assert_eq!(keys(find(store, &[], micros_after(secs(3), 1), secs(4)).await), Vec::<String>::new());
    assert_eq!(keys(find(store, &[delta("a", 1)], secs(3), secs(4)).await), ["a", "c"], "what it asked about, too");
    assert_eq!(keys(find(other, &[], secs(4), secs(5)).await), ["a"], "and the other hears of that");
    find(store, &[delta("c", 1)], secs(9), secs(1)).await;
    let late = find(other, &[], secs(3), secs(5)).await;
    assert_eq!(late["c"].used, 2, "a clock that is behind hides nothing");
}

fn delta(key: &str, used: i64) -> BucketDelta {
    BucketDelta {
        key: key.to_owned(),
        window_start: t0(),
        window_end: secs(900),
        end_is_stated: false,
        used,
        at_least: 0,
        limit: 100,
        block: BlockChange::Keep,
    }
}

/// An exchange; the answer by key, each once.
async fn find(
    store: &dyn Store,
    deltas: &[BucketDelta],
    since: Timestamp,
    now: Timestamp,
) -> BTreeMap<String, BucketState> {
    let states = store.exchange_rates(deltas, since, now).await.unwrap();
    let count = states.len();
    let found: BTreeMap<_, _> = states.into_iter().map(|state| (state.key.clone(), state)).collect();
    assert_eq!(found.len(), count, "each bucket once");
    found
}

/// F8: a block has ended, and every worker wants to know whether it is over. One of them may ask, until it says so or its time is up.
pub async fn of_many_workers_one_finds_out_whether_a_block_is_over(sut: StoreUnderTest) {
    let store = &*sut.store;
    let blocked = BucketDelta { block: BlockChange::Until(secs(60)), ..delta("x/billing/-", 0) };
    store.exchange_rates(&[blocked, delta("x/app/-", 1)], t0(), t0()).await.unwrap();
    assert!(!store.begin_probe("x/billing/-", secs(59), secs(119)).await.unwrap(), "it has not ended");
    assert!(store.begin_probe("x/app/-", secs(59), secs(119)).await.unwrap(), "there is no block");
    assert!(store.begin_probe("x/unknown/-", secs(59), secs(119)).await.unwrap(), "there is no bucket");
    let asked = (0..16).map(|number| {
        let store = sut.handle(number);
        async move { store.begin_probe("x/billing/-", secs(60), secs(120)).await.unwrap() }
    });
    assert_eq!(at_once(asked).await.into_iter().filter(|mine| *mine).count(), 1);
    let heard = store.exchange_rates(&[], secs(60), secs(60)).await.unwrap();
    assert!(heard.iter().any(|state| state.blocked_until == Some(secs(120))), "the others hear of it: {heard:?}");
    assert!(
        store.begin_probe("x/billing/-", secs(120), secs(180)).await.unwrap(),
        "who asked never said what came of it"
    );
    let keys = ["x/unknown/-", "x/billing/-", "x/app/-"].map(str::to_owned);
    let mut found = store.buckets(&keys).await.unwrap();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    let found: Vec<_> = found.into_iter().map(|state| (state.key, state.blocked_until)).collect();
    assert_eq!(found, [("x/app/-".to_owned(), None), ("x/billing/-".to_owned(), Some(secs(180)))]);
    let lift = BucketDelta { block: BlockChange::Lift, ..delta("x/billing/-", 0) };
    store.exchange_rates(&[lift], secs(121), secs(121)).await.unwrap();
    assert!(store.begin_probe("x/billing/-", secs(121), secs(181)).await.unwrap(), "it is open");
}
