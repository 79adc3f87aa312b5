//! Leases: lost, renewed, given back.

use social_core::{
    phase::{Phase, PhaseName},
    store::{Epoch, Held, Lease},
};

use super::{LEASE, StoreUnderTest, at_once, claim, claimed_one, due_now, history, ids, lease, read, record, release};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{LINKEDIN, X, checkpoint, connect, schedule, write},
};

/// R1: when a worker dies, its deliveries are found after the lease, under a new epoch, with the crash counted, to be claimed at once.
pub async fn a_lost_lease_is_found_again_under_a_new_epoch(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 3).await;
    let held = claim(store, "dead", t0(), 2).await;
    let ends = secs(LEASE.as_secs().try_into().unwrap());
    let ahead = {
        // One of them got on and was to wake much later.
        let mut ahead = write(&held[0].delivery, PhaseName::Preparing, t0());
        ahead.wake_at = Some(secs(7200));
        ahead
    };
    assert_eq!(record(store, ahead).await, Held::Yes);
    assert_eq!(store.reclaim(ends).await.unwrap(), 0, "the lease runs to its end");
    let now = micros_after(ends, 1);
    assert_eq!(store.reclaim(now).await.unwrap(), 2);
    assert_eq!(store.reclaim(now).await.unwrap(), 0, "once");
    for one in &held {
        let row = read(store, connected.user, one.delivery.id).await;
        assert_eq!(row.crashes, 1);
        assert_eq!(row.attempt, one.delivery.attempt, "a crash is not an attempt");
        assert!(row.epoch > one.delivery.epoch);
        assert!(row.wake_at.is_some_and(|wake_at| wake_at <= now), "to be claimed at once, not at {:?}", row.wake_at);
    }
    let got_on = read(store, connected.user, held[0].delivery.id).await;
    assert_eq!(got_on.phase, Phase::Preparing { at: Some(checkpoint("preparing")) }, "it goes on where it was");
    let claimed = claim(&*sut.second, "b", now, 10).await;
    assert_eq!(claimed.len(), 3);
    assert!(due.iter().all(|id| ids(&claimed).contains(id)));
    for one in claimed.iter().filter(|one| ids(&held).contains(&one.delivery.id)) {
        let before = held.iter().find(|before| before.delivery.id == one.delivery.id).unwrap();
        assert!(one.delivery.epoch.0 >= before.delivery.epoch.0 + 2, "both the loss and the claim move the epoch");
    }
}

/// Many sweepers at once count one crash per lost lease.
pub async fn parallel_reclaims_count_each_crash_once(sut: StoreUnderTest) {
    let (connected, due) = due_now(&*sut.store, 20).await;
    assert_eq!(claim(&*sut.store, "dead", t0(), 20).await.len(), 20);
    let sweeps = (0..8).map(|number| {
        let store = sut.handle(number);
        async move { store.reclaim(secs(3600)).await.unwrap() }
    });
    assert_eq!(at_once(sweeps).await.into_iter().sum::<u64>(), 20);
    for id in due {
        assert_eq!(read(&*sut.store, connected.user, id).await.crashes, 1);
    }
}

/// A heartbeat moves the end of a lease; those that are not held are told so, in their places.
pub async fn a_renewed_lease_is_not_found(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 3).await;
    let held = claim(store, "a", t0(), 2).await;
    let free = due.iter().find(|id| !ids(&held).contains(id)).unwrap();
    let free = read(store, connected.user, *free).await;
    let leases = [
        lease(&held[0].delivery),
        Lease { delivery: held[1].delivery.id, epoch: Epoch(held[1].delivery.epoch.0 - 1) },
        lease(&free),
        Lease { delivery: social_core::id::DeliveryId::new(), epoch: Epoch(1) },
        lease(&held[1].delivery),
    ];
    let answers = store.renew(&leases, secs(1000)).await.unwrap();
    assert_eq!(answers, [Held::Yes, Held::Lost, Held::Lost, Held::Lost, Held::Yes]);
    assert_eq!(store.reclaim(secs(1000)).await.unwrap(), 0);
    let stored = read(store, connected.user, held[0].delivery.id).await;
    assert_eq!(stored, held[0].delivery, "renewing changes nothing but the lease");
    assert_eq!(store.reclaim(micros_after(secs(1000), 1)).await.unwrap(), 2);
    assert_eq!(store.renew(&leases[..1], secs(2000)).await.unwrap(), [Held::Lost]);
    assert_eq!(store.renew(&[], secs(2000)).await.unwrap(), []);
}

/// I4: giving back uses no attempt, writes no history, and only moves the waking.
pub async fn a_claim_that_is_given_back_is_untouched(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    let rows = history(store, user, held.id).await;
    let stale = Lease { delivery: held.id, epoch: Epoch(held.epoch.0 - 1) };
    store.rest(&[stale], secs(5)).await.unwrap();
    assert_eq!(claim(&*sut.second, "b", secs(30), 1).await.len(), 0, "a stale lease frees nothing");
    store.rest(&[lease(&held), stale], secs(30)).await.unwrap();
    let row = read(store, user, held.id).await;
    assert_eq!((row.attempt, row.crashes, &row.phase), (held.attempt, held.crashes, &held.phase));
    assert_eq!((row.wake_at, row.due_at), (Some(secs(30)), held.due_at));
    assert_eq!(history(store, user, held.id).await, rows, "no row in the history");
    assert_eq!(store.reclaim(secs(86_400)).await.unwrap(), 0, "nobody holds it");
    assert_eq!(claim(&*sut.second, "b", secs(29), 1).await.len(), 0);
    let again = claim(&*sut.second, "b", secs(30), 1).await;
    assert!(again[0].delivery.epoch > held.epoch);
    store.rest(&[lease(&held)], secs(90)).await.unwrap();
    assert_eq!(claim(store, "c", secs(90), 1).await.len(), 0, "what another holds now is left alone");
}

/// Deliveries that wait for a reconnect of that account try again now; nothing else does.
pub async fn a_reconnect_wakes_what_waited_for_it(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = social_core::id::UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 1).await, connect(store, user, &LINKEDIN, 1).await);
    let mut rows = Vec::new();
    for step in 0..4 {
        rows.push(schedule(store, user, &x.accounts, secs(step)).await.deliveries[0].id);
    }
    let elsewhere = schedule(store, user, &linkedin.accounts, t0()).await.deliveries[0].id;
    let phases =
        [PhaseName::AwaitingReconnect, PhaseName::AwaitingLimit, PhaseName::AwaitingReconnect, PhaseName::Retrying];
    for one in claim(store, "a", secs(10), 10).await {
        let phase = rows
            .iter()
            .position(|id| *id == one.delivery.id)
            .map_or(PhaseName::AwaitingReconnect, |place| phases[place]);
        let mut waiting = release(write(&one.delivery, phase, secs(10)));
        waiting.wake_at = (phase != PhaseName::AwaitingReconnect).then(|| secs(7200));
        waiting.attempt = 2;
        assert_eq!(record(store, waiting).await, Held::Yes);
    }
    assert_eq!(claim(store, "a", secs(3600), 10).await.len(), 0, "all of them wait");
    assert_eq!(store.release_reconnected(x.accounts[0].id, secs(60)).await.unwrap(), 2);
    assert_eq!(claim(store, "a", micros_after(secs(60), -1), 10).await.len(), 0, "not before the given time");
    let claimed = claim(store, "a", secs(60), 10).await;
    let mut woken = ids(&claimed);
    woken.sort();
    assert_eq!(woken, [rows[0], rows[2]]);
    for one in &claimed {
        assert_eq!(one.delivery.phase, Phase::AwaitingReconnect { at: Some(checkpoint("awaiting_reconnect")) });
        assert_eq!(one.delivery.attempt, 2);
    }
    assert_eq!(read(store, user, elsewhere).await.wake_at, None, "another account still waits");
    assert_eq!(store.release_reconnected(social_core::id::AccountId::new(), secs(60)).await.unwrap(), 0);
}
