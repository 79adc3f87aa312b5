//! Outcomes that become known when somebody else owns the delivery already (E8).

use social_core::{
    id::{LogId, UserId},
    phase::PhaseName,
    store::{Delivery, Epoch, Held, PhaseWrite, RESTORED_EPOCHS, RestoreMark, Store, TakeOver},
};

use super::{StoreUnderTest, claim, claimed_one, due_now, events, lease, read, record, release, revoke};
use crate::{
    clock::{secs, t0},
    fixtures::{schedule, write},
};

/// A delivery whose visible call was permitted one second after `t0`, and the outcome that its worker could not write.
async fn in_doubt(store: &dyn Store) -> (UserId, Delivery, PhaseWrite) {
    let (user, held) = claimed_one(store, "dead").await;
    let ahead = PhaseWrite { committing_since: Some(secs(1)), ..write(&held, PhaseName::Committing, secs(1)) };
    assert_eq!(record(store, ahead).await, Held::Yes);
    let held = read(store, user, held.id).await;
    let outcome = PhaseWrite { committing_since: None, ..release(write(&held, PhaseName::Published, secs(2))) };
    (user, held, outcome)
}

fn request(outcome: &PhaseWrite) -> TakeOver {
    TakeOver {
        delivery: outcome.delivery,
        committing_since: secs(1),
        from: vec![PhaseName::Committing, PhaseName::Settling, PhaseName::Unconfirmed],
        epoch_at_most: None,
        unless_logged: outcome.log.id,
        lease_until: secs(700),
    }
}

/// The worker died, another found the delivery and asks the network; then the answer of the first call turns up. The answer wins, and what the
/// other finds out does not count any more.
pub async fn an_outcome_that_comes_late_takes_the_delivery_from_whoever_holds_it(sut: StoreUnderTest) {
    let store = &*sut.store;
    for phase in [PhaseName::Committing, PhaseName::Settling, PhaseName::Unconfirmed] {
        let (user, dead, outcome) = in_doubt(store).await;
        assert_eq!(store.reclaim(secs(600)).await.unwrap(), 1);
        let other = claim(&*sut.second, "other", secs(600), 1).await.remove(0).delivery;
        let further = write(&other, phase, secs(600));
        let further = if phase == PhaseName::Unconfirmed { release(further) } else { further };
        assert_eq!(record(&*sut.second, further).await, Held::Yes);
        assert_eq!(record(store, outcome.clone()).await, Held::Lost, "the fence holds");

        let epoch = store.take_over(&request(&outcome)).await.unwrap().expect("it is still in doubt");
        assert!(epoch > other.epoch && epoch > dead.epoch);
        assert!(claim(&*sut.second, "third", secs(600), 9).await.is_empty(), "nobody claims it in between");
        assert_eq!(record(&*sut.second, write(&other, PhaseName::Ready, secs(601))).await, Held::Lost);
        assert_eq!(store.renew(&[lease(&other)], secs(900)).await.unwrap(), [Held::Lost]);
        assert_eq!(record(store, PhaseWrite { epoch, ..outcome }).await, Held::Yes);
        let now = read(store, user, dead.id).await;
        assert_eq!((now.phase.name(), now.published_at), (PhaseName::Published, Some(secs(2))));
        assert_eq!(events(store, user, dead.id).await.last().unwrap(), "published");
    }
}

/// A doubt that has ended stays ended, a later call is another call, and what the history tells already is not told again.
pub async fn a_late_outcome_never_touches_what_has_ended_or_a_later_call(sut: StoreUnderTest) {
    let store = &*sut.store;
    for phase in PhaseName::ALL {
        let (user, dead, outcome) = in_doubt(store).await;
        let ended = PhaseWrite { wake_at: None, ..release(write(&dead, phase, secs(3))) };
        assert_eq!(record(store, ended).await, Held::Yes);
        let before = read(store, user, dead.id).await;
        let taken = store.take_over(&request(&outcome)).await.unwrap();
        let open = matches!(phase, PhaseName::Committing | PhaseName::Settling | PhaseName::Unconfirmed);
        assert_eq!(taken.is_some(), open, "{phase}");
        if !open {
            assert_eq!(read(store, user, dead.id).await, before, "{phase}");
        }
    }

    let (user, dead, outcome) = in_doubt(store).await;
    let again = PhaseWrite { committing_since: Some(secs(5)), ..write(&dead, PhaseName::Committing, secs(5)) };
    assert_eq!(record(store, again).await, Held::Yes);
    let before = read(store, user, dead.id).await;
    assert_eq!(store.take_over(&request(&outcome)).await.unwrap(), None, "that was another call");
    let later = TakeOver { committing_since: secs(5), ..request(&outcome) };
    let known = store.logs(user, &Default::default(), &Default::default()).await.unwrap().items[0].id;
    let told = TakeOver { unless_logged: known, ..later.clone() };
    assert_eq!(store.take_over(&told).await.unwrap(), None, "the history knows");
    let stranger = TakeOver { delivery: social_core::id::DeliveryId::new(), ..later.clone() };
    assert_eq!(store.take_over(&stranger).await.unwrap(), None);
    let nowhere = TakeOver { from: Vec::new(), ..later.clone() };
    assert_eq!(store.take_over(&nowhere).await.unwrap(), None);
    let only = TakeOver { from: vec![PhaseName::Settling], ..later.clone() };
    assert_eq!(store.take_over(&only).await.unwrap(), None);
    assert_eq!(read(store, user, dead.id).await, before);
    let fresh = TakeOver { unless_logged: LogId::new(), ..later };
    assert!(store.take_over(&fresh).await.unwrap().is_some());
}

/// That a call had no effect says nothing about the calls of later owners.
pub async fn a_late_outcome_can_be_bound_to_an_epoch(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (_, dead, outcome) = in_doubt(store).await;
    let bound = TakeOver { epoch_at_most: Some(Epoch(dead.epoch.0 + 1)), ..request(&outcome) };
    assert_eq!(store.reclaim(secs(600)).await.unwrap(), 1);
    assert!(store.take_over(&bound).await.unwrap().is_some(), "nobody has claimed it since");

    let (user, dead, outcome) = in_doubt(store).await;
    let bound = TakeOver { epoch_at_most: Some(Epoch(dead.epoch.0 + 1)), ..request(&outcome) };
    assert!(store.reclaim(secs(600)).await.unwrap() >= 1);
    assert!(!claim(&*sut.second, "other", secs(600), 9).await.is_empty());
    let before = read(store, user, dead.id).await;
    assert_eq!(store.take_over(&bound).await.unwrap(), None, "somebody has claimed it since");
    assert_eq!(read(store, user, dead.id).await, before);
}

/// Whoever did not hear that a write was made makes it again: it counts once, and the history tells it once.
pub async fn a_write_that_is_repeated_counts_once(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, dead, outcome) = in_doubt(store).await;
    for _ in 0..3 {
        assert_eq!(record(&*sut.second, outcome.clone()).await, Held::Yes);
    }
    let rows = events(store, user, dead.id).await;
    assert_eq!(rows, ["scheduled", "committing", "published"]);
    let canceled = revoke(write(&dead, PhaseName::Canceled, secs(9)));
    assert_eq!(record(store, canceled).await, Held::Lost);
}

/// R14: in every phase, what a backup that was put back leaves alone, what it lets the engine ask about, and that nobody from before can write.
pub async fn a_restore_puts_in_doubt_what_may_have_gone_out_since(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, PhaseName::ALL.len()).await;
    let user = connected.user;
    let claimed = claim(store, "old", t0(), PhaseName::ALL.len()).await;
    for (one, phase) in claimed.iter().zip(PhaseName::ALL) {
        let doubt = matches!(phase, PhaseName::Committing | PhaseName::Settling | PhaseName::Unconfirmed);
        let mut there = release(write(&one.delivery, phase, secs(1)));
        there.committing_since = doubt.then(|| secs(1));
        there.wake_at = (!phase.is_final() && phase != PhaseName::Unconfirmed).then(|| secs(9000));
        assert_eq!(record(store, there).await, Held::Yes);
    }
    let later = schedule(store, user, &connected.accounts[..2], secs(50_000)).await.deliveries;
    let held = claim(store, "alive", secs(50_000), 1).await;
    let held = held.iter().find(|one| one.delivery.id == later[0].id || one.delivery.id == later[1].id);
    let mark = RestoreMark { now: secs(20_000), backup_at: Some(secs(600)), all: false, even_if_held: false };
    let before = read(store, user, claimed[0].delivery.id).await;
    let refused = store.mark_restored(&mark).await.unwrap();
    assert!(refused.held > 0 && refused.to_look == 0);
    assert_eq!(read(store, user, before.id).await, before, "nothing has changed");
    // Whoever held something is stopped: its lease ends.
    assert!(store.reclaim(secs(50_100)).await.unwrap() > 0);
    let _ = held;

    let done = store.mark_restored(&mark).await.unwrap();
    let waiting = PhaseName::ALL.into_iter().filter(|phase| phase.can_cancel()).count() as u64;
    assert_eq!((done.held, done.to_look, done.in_doubt, done.left), (0, waiting, 2, 3), "{done:?}");
    assert_eq!(done.since, Some(secs(600)));
    for (one, phase) in claimed.iter().zip(PhaseName::ALL) {
        let row = read(store, user, one.delivery.id).await;
        let asks = phase.can_cancel() || matches!(phase, PhaseName::Committing | PhaseName::Settling);
        assert_eq!(row.phase.name(), phase, "a phase is not changed");
        assert_eq!(row.wake_at, asks.then_some(mark.now), "{phase}");
        assert_eq!(row.epoch.0 > RESTORED_EPOCHS, !phase.is_final(), "{phase}");
        let since = match phase {
            PhaseName::Committing | PhaseName::Settling | PhaseName::Unconfirmed => Some(secs(1)),
            phase if phase.can_cancel() => Some(secs(600)),
            _ => None,
        };
        assert_eq!(row.committing_since, since, "{phase}");
        if !phase.is_final() {
            let old = write(&one.delivery, PhaseName::Published, secs(20_001));
            assert_eq!(record(store, old).await, Held::Lost, "nobody from before can write");
        }
    }
    for delivery in &later {
        let row = read(store, user, delivery.id).await;
        assert_eq!((row.committing_since, row.due_at), (None, secs(50_000)), "it waits for its time");
    }

    // Without the instant: from the newest row of the history or the due time, whichever is earlier; an earlier doubt stays.
    let again = RestoreMark { now: secs(60_000), backup_at: None, all: true, even_if_held: false };
    let done = store.mark_restored(&again).await.unwrap();
    assert_eq!((done.to_look, done.left), (waiting + 2, 1));
    for (one, phase) in claimed.iter().zip(PhaseName::ALL).filter(|(_, phase)| phase.can_cancel()) {
        assert_eq!(read(store, user, one.delivery.id).await.committing_since, Some(t0()), "{phase}");
    }
    for delivery in &later {
        let since = read(store, user, delivery.id).await.committing_since;
        assert!(since.is_some() && since == done.since, "{since:?}");
    }
}
