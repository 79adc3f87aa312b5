//! Claims: who gets what, in which order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use social_core::{
    account::{AccountStatus, Version},
    id::{AccountId, DeliveryId, UserId},
    phase::{Phase, PhaseName},
    store::{Backlog, Edit, Held, Insert},
};

use super::{StoreUnderTest, at_once, claim, claim_lanes, due_now, ids, in_time, lease, read, record, release};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{LINKEDIN, X, connect, entry, full_draft, new_post, schedule, token_update, write},
};

/// E2: 16 workers through two handles take 2,000 deliveries; each is claimed once, and no account is ever in two hands.
pub async fn sixteen_workers_claim_each_delivery_exactly_once(sut: StoreUnderTest) {
    const ROWS: usize = 2_000;
    let connected = connect(&*sut.store, UserId::new(), &X, 200).await;
    for round in 0..10 {
        schedule(&*sut.store, connected.user, &connected.accounts, secs(round)).await;
    }
    let times = Arc::new(Mutex::new(BTreeMap::<DeliveryId, usize>::new()));
    let owners = Arc::new(Mutex::new(BTreeMap::<AccountId, usize>::new()));
    let done = Arc::new(AtomicUsize::new(0));
    let work = |number: usize| {
        let (store, times, owners, done) =
            (sut.handle(number), Arc::clone(&times), Arc::clone(&owners), Arc::clone(&done));
        async move {
            let mut idle = 0;
            while done.load(Ordering::SeqCst) < ROWS && idle < 20_000 {
                let claimed = claim(&*store, &format!("worker-{number}"), secs(60), 25).await;
                if claimed.is_empty() {
                    idle += 1;
                    tokio::task::yield_now().await;
                    continue;
                }
                for one in &claimed {
                    *times.lock().unwrap().entry(one.delivery.id).or_default() += 1;
                    let before = owners.lock().unwrap().insert(one.account.id, number);
                    assert!(before.is_none_or(|before| before == number), "account {} is in two hands", one.account.id);
                }
                for one in &claimed {
                    owners.lock().unwrap().remove(&one.account.id);
                }
                let writes: Vec<_> =
                    claimed.iter().map(|one| release(write(&one.delivery, PhaseName::Published, secs(60)))).collect();
                let answers = store.record(&writes).await.unwrap();
                assert!(answers.iter().all(|held| *held == Held::Yes), "a worker lost what it had just claimed");
                done.fetch_add(claimed.len(), Ordering::SeqCst);
            }
        }
    };
    at_once((0..16).map(work)).await;
    let times = std::mem::take(&mut *times.lock().unwrap());
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "claimed more than once: {twice:?}");
    assert_eq!(times.len(), ROWS, "deliveries that nobody got");
    assert_eq!(sut.store.depth().await.unwrap(), []);
}

/// A claim carries the draft as it was stored, the account, the version of the tokens, and the delivery under its new epoch.
pub async fn a_claim_gives_all_that_the_work_needs(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 1).await;
    let mut new = new_post(connected.user, &connected.accounts, t0());
    new.post.draft = full_draft(connected.accounts[0].id);
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
    let before = read(store, connected.user, new.deliveries[0].id).await;
    let claimed = claim(store, "a", t0(), 10).await;
    assert_eq!(ids(&claimed), [before.id]);
    let one = &claimed[0];
    assert_eq!(*one.draft, new.post.draft, "the draft is not resolved, and whole");
    assert_eq!(*one.account, connected.accounts[0]);
    assert_eq!(one.token_version, Version::FIRST);
    assert!(one.delivery.epoch > before.epoch, "{:?} is not after {:?}", one.delivery.epoch, before.epoch);
    assert_eq!(read(store, connected.user, before.id).await, one.delivery, "the claim tells what is stored");
    assert_eq!(
        social_core::store::Delivery { epoch: before.epoch, ..one.delivery.clone() },
        before,
        "a claim changes nothing else"
    );
    assert_eq!(claim(&*sut.second, "b", secs(3600), 10).await.len(), 0, "it is held");
}

/// The horizon counts, to the microsecond.
pub async fn what_wakes_by_the_horizon_is_claimed_and_nothing_later(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 3).await;
    let mut posts = Vec::new();
    for (account, micros) in connected.accounts.chunks(1).zip([-1, 0, 1]) {
        posts.push(schedule(store, connected.user, account, micros_after(t0(), micros)).await.deliveries[0].id);
    }
    assert_eq!(ids(&claim(store, "a", t0(), 10).await), posts[..2]);
    assert_eq!(ids(&claim(store, "a", micros_after(t0(), 1), 10).await), posts[2..]);
}

/// Earliest first, within a limit and over all lanes.
pub async fn work_comes_in_the_order_of_waking(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 20).await, connect(store, user, &LINKEDIN, 20).await);
    let mut expected = Vec::new();
    for step in 0..40_i64 {
        let at = secs(step * 7 % 40);
        let connected = if step % 2 == 0 { &x } else { &linkedin };
        let account = &connected.accounts[usize::try_from(step / 2).unwrap()];
        let new = schedule(store, user, std::slice::from_ref(account), at).await;
        expected.push((at, account.platform.clone(), new.deliveries[0].id));
    }
    expected.sort_by_key(|(at, ..)| *at);
    let first_x: Vec<_> =
        expected.iter().filter(|(_, platform, _)| *platform == X).map(|(.., id)| *id).take(4).collect();
    assert_eq!(ids(&claim_lanes(store, "a", secs(100), &[(X, 4)]).await), first_x, "the earliest within the limit");
    let rest: Vec<_> = expected.iter().map(|(.., id)| *id).filter(|id| !first_x.contains(id)).collect();
    let claimed = claim(store, "a", secs(100), 100).await;
    assert_eq!(ids(&claimed), rest, "the order of waking over all lanes");
}

/// Each lane has its own limit, and a network without a lane is left alone.
pub async fn each_network_has_a_lane_of_its_own(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    for platform in [X, LINKEDIN] {
        let connected = connect(store, user, &platform, 10).await;
        schedule(store, user, &connected.accounts, t0()).await;
    }
    let count = |claimed: &[social_core::store::Claimed], platform| {
        claimed.iter().filter(|one| one.delivery.platform == platform).count()
    };
    let claimed = claim_lanes(store, "a", t0(), &[(X, 2), (LINKEDIN, 5)]).await;
    assert_eq!((count(&claimed, X), count(&claimed, LINKEDIN)), (2, 5));
    let claimed = claim_lanes(store, "a", t0(), &[(LINKEDIN, 100)]).await;
    assert_eq!((count(&claimed, X), count(&claimed, LINKEDIN)), (0, 5));
    let claimed = claim_lanes(store, "a", t0(), &[(X, 0)]).await;
    assert_eq!(claimed.len(), 0, "no room, no claim");
    assert_eq!(claim_lanes(store, "a", t0(), &[]).await.len(), 0, "no lane, no claim");
    assert_eq!(claim_lanes(store, "a", t0(), &[(X, 100)]).await.len(), 8);
}

/// R12: an older backlog of a network whose lane is full costs the others nothing.
pub async fn a_backlog_of_one_network_does_not_delay_another(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 300).await, connect(store, user, &LINKEDIN, 1).await);
    schedule(store, user, &x.accounts, secs(-3600)).await;
    let other = schedule(store, user, &linkedin.accounts, t0()).await;
    let claimed = claim_lanes(store, "a", t0(), &[(X, 1), (LINKEDIN, 1)]).await;
    assert_eq!(claimed.len(), 2);
    assert!(ids(&claimed).contains(&other.deliveries[0].id), "the other network had to wait");
}

/// One visible call at a time per account: whoever holds some of its deliveries gets the rest, nobody else.
pub async fn an_account_in_work_elsewhere_is_left_to_that_worker(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    let (busy, free) = (&connected.accounts[..1], &connected.accounts[1..]);
    let mut rows = Vec::new();
    for step in 0..3 {
        rows.push(schedule(store, connected.user, busy, secs(step)).await.deliveries[0].id);
    }
    let other = schedule(store, connected.user, free, secs(5)).await.deliveries[0].id;
    let first = claim(store, "a", secs(10), 1).await;
    assert_eq!(ids(&first), rows[..1]);
    assert_eq!(ids(&claim(&*sut.second, "b", secs(10), 10).await), [other], "only the account that nobody has");
    let second = claim(store, "a", secs(10), 1).await;
    assert_eq!(ids(&second), rows[1..2], "the holder goes on, in order");
    store.rest(&[lease(&first[0].delivery)], secs(60)).await.unwrap();
    assert_eq!(claim(&*sut.second, "b", secs(10), 10).await.len(), 0, "the holder still has one");
    assert_eq!(record(store, release(write(&second[0].delivery, PhaseName::Published, secs(10)))).await, Held::Yes);
    assert_eq!(ids(&claim(&*sut.second, "b", secs(10), 10).await), rows[2..], "now it is free");
}

/// A limit counts what may be claimed: many early rows of an account that is busy elsewhere do not use it up.
pub async fn a_busy_account_does_not_hide_the_others(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    for step in 0..60 {
        schedule(store, connected.user, &connected.accounts[..1], secs(step)).await;
    }
    let other = schedule(store, connected.user, &connected.accounts[1..], secs(100)).await.deliveries[0].id;
    assert_eq!(claim(store, "a", secs(200), 1).await.len(), 1);
    assert_eq!(ids(&claim(&*sut.second, "b", secs(200), 5).await), [other]);
}

/// Two workers who claim at the same moment never get deliveries of one account.
pub async fn parallel_claims_never_share_an_account(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 6).await;
    for round in 0..10 {
        schedule(store, connected.user, &connected.accounts, secs(round)).await;
    }
    for round in 0..20 {
        let claims = (0..8).map(|number| {
            let store = sut.handle(number);
            async move { claim(&*store, &format!("worker-{number}"), secs(60), 4).await }
        });
        let claims = at_once(claims).await;
        let mut owners = BTreeMap::<AccountId, BTreeSet<usize>>::new();
        for (worker, claimed) in claims.iter().enumerate() {
            claimed.iter().for_each(|one| owners.entry(one.account.id).or_default().extend([worker]));
        }
        assert!(!owners.is_empty(), "nobody got anything in round {round}");
        let shared: Vec<_> = owners.iter().filter(|(_, workers)| workers.len() > 1).collect();
        assert!(shared.is_empty(), "accounts in several hands in round {round}: {shared:?}");
        let leases: Vec<_> = claims.iter().flatten().map(|one| lease(&one.delivery)).collect();
        store.rest(&leases, t0()).await.unwrap();
    }
}

/// An ended lease is `reclaim`'s business, which counts the crash; a claim never takes what is held.
pub async fn what_is_held_is_not_claimed_however_late(sut: StoreUnderTest) {
    due_now(&*sut.store, 1).await;
    assert_eq!(claim(&*sut.store, "a", t0(), 10).await.len(), 1);
    for worker in ["a", "b"] {
        assert_eq!(claim(&*sut.second, worker, secs(86_400), 10).await.len(), 0, "worker {worker}");
    }
}

/// Nothing is silently lost: an account that was disconnected, even with its grant erased, does not hide its deliveries.
pub async fn a_delivery_of_a_disconnected_account_is_still_found(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 1).await;
    assert_eq!(store.disconnect_account(connected.user, connected.accounts[0].id, t0()).await.unwrap(), Some(0));
    assert!(store.delete(connected.connection.id).await.unwrap());
    let claimed = claim(store, "a", t0(), 10).await;
    assert_eq!(ids(&claimed), due);
    assert_eq!(claimed[0].account.status, AccountStatus::Disconnected);
    assert!(claimed[0].token_version < Version::FIRST, "no tokens have version {:?}", claimed[0].token_version);
}

/// What was edited or refreshed before the claim is what the worker gets.
pub async fn a_claim_sees_the_newest_draft_and_token_version(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 1).await;
    let new = schedule(store, connected.user, &connected.accounts, t0()).await;
    let seen = read(store, connected.user, new.deliveries[0].id).await;
    let edit = Edit {
        post: new.post.id,
        seen: vec![(seen.id, seen.epoch)],
        draft: full_draft(connected.accounts[0].id),
        scheduled_at: secs(5),
        wall: None,
        log: entry("edited", t0()),
        now: t0(),
    };
    assert!(store.edit_post(connected.user, &edit).await.unwrap());
    let update = token_update(&connected.connection, Version::FIRST, t0()).await;
    assert_eq!(
        store.replace(connected.connection.id, Version::FIRST, &update).await.unwrap(),
        social_core::store::Swap::Done
    );
    assert_eq!(claim(store, "a", secs(4), 10).await.len(), 0, "it was moved");
    let claimed = claim(store, "a", secs(5), 10).await;
    assert_eq!(*claimed[0].draft, edit.draft);
    assert_eq!(claimed[0].token_version, Version::FIRST.next());
}

/// The next waking per network, of rows that nobody holds.
pub async fn next_due_tells_the_earliest_that_nobody_holds(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    assert_eq!(store.next_due(&[X, LINKEDIN]).await.unwrap(), []);
    let (x, linkedin) = (connect(store, user, &X, 2).await, connect(store, user, &LINKEDIN, 1).await);
    schedule(store, user, &x.accounts[..1], secs(10)).await;
    schedule(store, user, &x.accounts[1..], secs(20)).await;
    schedule(store, user, &linkedin.accounts, secs(30)).await;
    let mut both = store.next_due(&[X, LINKEDIN]).await.unwrap();
    both.sort();
    assert_eq!(both, [(LINKEDIN, secs(30)), (X, secs(10))]);
    assert_eq!(store.next_due(&[LINKEDIN]).await.unwrap(), [(LINKEDIN, secs(30))]);
    assert_eq!(store.next_due(&[]).await.unwrap(), []);
    let claimed = claim(store, "a", secs(10), 10).await;
    assert_eq!(store.next_due(&[X]).await.unwrap(), [(X, secs(20))], "what is held does not count");
    let mut waiting = release(write(&claimed[0].delivery, PhaseName::Retrying, secs(10)));
    waiting.wake_at = Some(secs(15));
    assert_eq!(record(store, waiting).await, Held::Yes);
    assert_eq!(store.next_due(&[X]).await.unwrap(), [(X, secs(15))]);
    let claimed = claim(store, "a", secs(100), 10).await;
    for one in &claimed {
        assert_eq!(record(store, release(write(&one.delivery, PhaseName::Published, secs(100)))).await, Held::Yes);
    }
    assert_eq!(store.next_due(&[X, LINKEDIN]).await.unwrap(), [], "what is final never wakes");
}

/// How much is open, by network and phase.
pub async fn depth_counts_what_is_open(sut: StoreUnderTest) {
    let store = &*sut.store;
    assert_eq!(store.depth().await.unwrap(), []);
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 15).await, connect(store, user, &LINKEDIN, 2).await);
    schedule(store, user, &x.accounts, t0()).await;
    schedule(store, user, &linkedin.accounts, secs(60)).await;
    let claimed = claim(store, "a", t0(), 100).await;
    let writes: Vec<_> =
        claimed.iter().zip(PhaseName::ALL).map(|(one, phase)| release(write(&one.delivery, phase, t0()))).collect();
    store.record(&writes).await.unwrap();
    let mut depth = store.depth().await.unwrap();
    depth.sort();
    let mut expected: Vec<_> =
        PhaseName::ALL.into_iter().filter(|phase| !phase.is_final()).map(|phase| (X, phase, 1)).collect();
    expected[0].2 += 15 - PhaseName::ALL.len() as u64;
    expected.push((LINKEDIN, PhaseName::Scheduled, 2));
    expected.sort();
    assert_eq!(depth, expected);
}

/// What is due and what is held, by network: what waits for later, and what has ended, is neither.
pub async fn the_backlog_tells_what_is_due_and_what_is_held(sut: StoreUnderTest) {
    let store = &*sut.store;
    assert_eq!(store.backlog(secs(3600)).await.unwrap(), []);
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 3).await, connect(store, user, &LINKEDIN, 2).await);
    schedule(store, user, &x.accounts, t0()).await;
    schedule(store, user, &x.accounts[..1], secs(5)).await;
    schedule(store, user, &linkedin.accounts, secs(60)).await;
    let told = |platform, due, oldest, held| Backlog { platform, due, oldest, held };
    assert_eq!(store.backlog(secs(-1)).await.unwrap(), []);
    assert_eq!(store.backlog(t0()).await.unwrap(), [told(X, 3, Some(t0()), 0)], "due to the instant");
    let claimed = claim(store, "a", t0(), 2).await;
    assert_eq!(store.backlog(secs(5)).await.unwrap(), [told(X, 2, Some(t0()), 2)]);
    assert_eq!(
        store.backlog(secs(60)).await.unwrap(),
        [told(LINKEDIN, 2, Some(secs(60)), 0), told(X, 2, Some(t0()), 2)],
        "in the order of their names"
    );
    for one in &claimed {
        assert_eq!(record(store, release(write(&one.delivery, PhaseName::Published, t0()))).await, Held::Yes);
    }
    let rest = claim(store, "a", secs(5), 10).await;
    assert_eq!(store.backlog(secs(5)).await.unwrap(), [told(X, 0, None, rest.len() as u64)]);
}

/// Whoever waits for work hears of a new post.
pub async fn a_new_post_wakes_whoever_waits(sut: StoreUnderTest) {
    let connected = connect(&*sut.store, UserId::new(), &X, 1).await;
    let waiters = if sut.wakes_across_handles { vec![&sut.store, &sut.second] } else { vec![&sut.store] };
    for waiter in waiters {
        let posts = async {
            // It may miss one, so there are several; it may not miss them all.
            for _ in 0..200 {
                schedule(&*sut.store, connected.user, &connected.accounts, secs(30)).await;
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        };
        in_time("waiting for work", async {
            tokio::select! {
                biased;
                () = waiter.woken() => {}
                () = posts => {}
            }
        })
        .await;
    }
    // A store may wake for no reason, before any of those was stored.
    schedule(&*sut.store, connected.user, &connected.accounts, secs(30)).await;
    let found = claim(&*sut.store, "a", secs(30), 1).await;
    assert_eq!(found[0].delivery.phase, Phase::Scheduled);
}
