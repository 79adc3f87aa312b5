//! Outcomes that become known when somebody else owns the delivery already (E8).

use social_core::{
    id::{LogId, UserId},
    phase::PhaseName,
    store::{Delivery, Epoch, Held, PhaseWrite, Store, TakeOver},
};

use super::{StoreUnderTest, claim, claimed_one, events, lease, read, record, release, revoke};
use crate::{
    clock::secs,
    fixtures::write,
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
