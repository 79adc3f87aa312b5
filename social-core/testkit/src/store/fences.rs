//! Fences: who may write, and who wins when several want to.

use social_core::{
    id::{DeliveryId, UserId},
    phase::{Phase, PhaseName, invariant},
    store::{Delivery, Edit, Epoch, Held, NewPost, PhaseWrite, Store},
};

use super::{
    StoreUnderTest, at_once, claim, claimed_one, due_now, events, history, ids, lease, read, record, release, revoke,
};
use crate::{
    clock::{secs, t0},
    fixtures::{X, checkpoint, connect, entry, full_draft, remote, schedule, write},
};

/// E2, I3: only the current epoch writes. An older one, a made-up one and an unknown delivery change nothing, not even the history.
pub async fn a_write_under_another_epoch_changes_nothing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, first) = claimed_one(store, "a").await;
    store.rest(&[lease(&first)], t0()).await.unwrap();
    let second = claim(&*sut.second, "b", t0(), 1).await.remove(0).delivery;
    let (before, rows) = (read(store, user, first.id).await, history(store, user, first.id).await);
    for epoch in [first.epoch.0, 0, -1, second.epoch.0 + 1, i64::MAX] {
        for lease in [super::LeaseAfter::Keep, super::LeaseAfter::Release, super::LeaseAfter::Revoke] {
            let mut late = write(&first, PhaseName::Published, secs(9));
            (late.epoch, late.lease, late.attempt, late.part) = (Epoch(epoch), lease, 9, Some(remote(first.id)));
            assert_eq!(record(store, late).await, Held::Lost, "epoch {epoch}, {lease:?}");
        }
    }
    let mut unknown = write(&second, PhaseName::Published, secs(9));
    unknown.delivery = DeliveryId::new();
    assert_eq!(record(store, unknown).await, Held::Lost);
    assert_eq!(read(store, user, first.id).await, before);
    assert_eq!(history(store, user, first.id).await, rows, "a write that does not count leaves no row");
    assert_eq!(store.renew(&[lease(&second)], secs(600)).await.unwrap(), [Held::Yes], "the owner still holds it");
    assert_eq!(record(store, write(&second, PhaseName::Preparing, secs(9))).await, Held::Yes);
}

/// F9: a worker that was paused past its lease can neither write, nor renew, nor give back, once another was to have its work.
pub async fn a_worker_that_lost_its_lease_can_do_nothing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, paused) = claimed_one(store, "paused").await;
    assert_eq!(store.reclaim(secs(3600)).await.unwrap(), 1);
    let (before, rows) = (read(store, user, paused.id).await, events(store, user, paused.id).await);
    assert_eq!(
        record(store, write(&paused, PhaseName::Committing, secs(3600))).await,
        Held::Lost,
        "found, not claimed yet"
    );
    assert_eq!(store.renew(&[lease(&paused)], secs(9000)).await.unwrap(), [Held::Lost]);
    store.rest(&[lease(&paused)], secs(9000)).await.unwrap();
    assert_eq!(read(store, user, paused.id).await, before);
    let other = claim(&*sut.second, "other", secs(3600), 1).await.remove(0).delivery;
    assert_eq!(record(store, release(write(&paused, PhaseName::Published, secs(3601)))).await, Held::Lost);
    assert_eq!(read(store, user, paused.id).await, other);
    assert_eq!(events(store, user, paused.id).await, rows);
}

/// F9: what a worker let go of without knowing, by a write that was repeated for it, is left to whoever finds it, also within one batch: with
/// neither lease nor wake time nobody would.
pub async fn a_worker_that_goes_on_must_hold_the_lease(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, 2).await;
    let held = claim(store, "a", t0(), 2).await;
    for one in &held {
        let let_go =
            PhaseWrite { wake_at: Some(secs(5)), ..release(write(&one.delivery, PhaseName::Retrying, secs(1))) };
        assert_eq!(record(store, let_go).await, Held::Yes);
    }
    let (first, other) = (&held[0].delivery, &held[1].delivery);
    let before = read(store, connected.user, first.id).await;
    let rows = history(store, connected.user, first.id).await;
    for (phase, due_at) in
        [(PhaseName::Committing, None), (PhaseName::Committing, Some(secs(9))), (PhaseName::Published, None)]
    {
        let on = PhaseWrite { wake_at: None, due_at, ..write(first, phase, secs(2)) };
        let again = PhaseWrite { wake_at: Some(secs(5)), ..release(write(other, PhaseName::Retrying, secs(2))) };
        assert_eq!(record(&*sut.second, on.clone()).await, Held::Lost, "{phase}, {due_at:?}");
        let on = PhaseWrite { log: entry("on", secs(2)), ..on };
        assert_eq!(store.record(&[on, again]).await.unwrap(), [Held::Lost, Held::Yes], "{phase}, {due_at:?}");
        assert_eq!(read(store, connected.user, first.id).await, before);
        assert_eq!(history(store, connected.user, first.id).await, rows);
    }
    assert_eq!(claim(&*sut.second, "b", secs(5), 2).await.len(), 2, "both are found");
}

/// I5: a cancel and the write-ahead of the visible call were both made from the same epoch: the first counts, the second does not, also
/// within one batch.
pub async fn of_a_cancel_and_a_write_ahead_exactly_one_counts(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, 4).await;
    let ready = ready(store, 4).await;
    let ahead = |row: &Delivery| write(row, PhaseName::Committing, secs(2));
    let cancel = |row: &Delivery| revoke(write(row, PhaseName::Canceled, secs(2)));

    assert_eq!(record(store, cancel(&ready[0])).await, Held::Yes);
    assert_eq!(record(&*sut.second, ahead(&ready[0])).await, Held::Lost, "the cancel was first");
    assert_eq!(record(store, ahead(&ready[1])).await, Held::Yes);
    assert_eq!(record(&*sut.second, cancel(&ready[1])).await, Held::Lost, "the write-ahead was first");
    let batch = [cancel(&ready[2]), ahead(&ready[2]), ahead(&ready[3]), cancel(&ready[3])];
    assert_eq!(store.record(&batch).await.unwrap(), [Held::Yes, Held::Lost, Held::Yes, Held::Lost]);

    for (row, canceled) in ready.iter().zip([true, false, true, false]) {
        let now = read(store, connected.user, row.id).await;
        let (phase, event) =
            if canceled { (PhaseName::Canceled, "canceled") } else { (PhaseName::Committing, "committing") };
        assert_eq!(now.phase.name(), phase);
        assert_eq!(events(store, connected.user, row.id).await, ["scheduled", "ready", event]);
        assert_eq!(
            store.renew(&[lease(row)], secs(600)).await.unwrap(),
            [if canceled { Held::Lost } else { Held::Yes }]
        );
    }
}

/// The same as a real race, from two handles.
pub async fn a_race_of_cancel_and_write_ahead_has_one_winner(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, 48).await;
    let ready = ready(store, 48).await;
    let racers = ready.iter().enumerate().flat_map(|(number, row)| {
        let ahead = (sut.handle(number), write(row, PhaseName::Committing, secs(2)));
        let cancel = (sut.handle(number + 1), revoke(write(row, PhaseName::Canceled, secs(2))));
        if number % 3 == 0 { [cancel, ahead] } else { [ahead, cancel] }
    });
    let answers =
        at_once(racers.map(|(store, write)| async move { (write.phase, record(&*store, write).await) })).await;
    for (row, answers) in ready.iter().zip(answers.chunks(2)) {
        let winners: Vec<_> = answers.iter().filter(|(_, held)| *held == Held::Yes).map(|(phase, _)| *phase).collect();
        assert_eq!(winners.len(), 1, "of {answers:?}");
        assert_eq!(read(store, connected.user, row.id).await.phase.name(), winners[0]);
        assert_eq!(events(store, connected.user, row.id).await, ["scheduled", "ready", winners[0].as_str()]);
    }
}

/// Two people decide about one doubtful delivery, a hundred hosts cancel one post: one change counts.
pub async fn two_outside_changes_of_one_state_have_one_winner(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(record(store, release(write(&held, PhaseName::Unconfirmed, t0()))).await, Held::Yes);
    let seen = read(store, user, held.id).await;
    let decide = (0..20).map(|number| {
        let phase = if number % 2 == 0 { PhaseName::Published } else { PhaseName::Failed };
        let (store, write) = (sut.handle(number), revoke(write(&seen, phase, secs(1))));
        async move { record(&*store, write).await }
    });
    let answers = at_once(decide).await;
    assert_eq!(answers.iter().filter(|held| **held == Held::Yes).count(), 1, "{answers:?}");
    assert_eq!(history(store, user, held.id).await.len(), 3);
    assert!(read(store, user, held.id).await.epoch > seen.epoch);
}

/// I5, I7 for every phase: a change from outside counts exactly where `invariant::outside_may_change` says so, although the epoch is right.
pub async fn what_may_be_visible_is_not_changed_from_outside(sut: StoreUnderTest) {
    let store = &*sut.store;
    let targets = [PhaseName::Canceled, PhaseName::Retrying, PhaseName::Failed, PhaseName::Published];
    let pairs: Vec<_> = PhaseName::ALL.into_iter().flat_map(|from| targets.map(|to| (from, to))).collect();
    let (connected, _) = due_now(store, pairs.len()).await;
    let claimed = claim(store, "a", t0(), pairs.len()).await;
    let begin: Vec<_> =
        claimed.iter().zip(&pairs).map(|(one, (from, _))| release(write(&one.delivery, *from, secs(1)))).collect();
    assert_eq!(store.record(&begin).await.unwrap(), vec![Held::Yes; pairs.len()]);
    for (one, (from, to)) in claimed.iter().zip(&pairs) {
        let before = read(store, connected.user, one.delivery.id).await;
        let held = record(store, revoke(write(&before, *to, secs(2)))).await;
        let allowed = invariant::outside_may_change(*from, *to);
        assert_eq!(held == Held::Yes, allowed, "{to} instead of {from}, from outside");
        let after = read(store, connected.user, one.delivery.id).await;
        if allowed {
            assert!(after.epoch > before.epoch);
        } else {
            assert_eq!(after, before);
        }
        assert_eq!(history(store, connected.user, one.delivery.id).await.len(), if allowed { 3 } else { 2 });
    }
}

/// An edit and a write-ahead that were both made from the same epochs: one counts, and then as a whole.
pub async fn of_an_edit_and_a_write_ahead_exactly_one_counts(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    for number in 0..24 {
        let new = schedule(store, connected.user, &connected.accounts, t0()).await;
        let ready = ready(store, 2).await;
        let edit = edit_of(&new, &ready);
        let ahead = write(&ready[1], PhaseName::Committing, secs(2));
        let (first, second, user) = (sut.handle(number), sut.handle(number + 1), connected.user);
        let edited = if number < 2 {
            // Once in each order, then as a race.
            let wins_edit = number == 0;
            let early = if wins_edit {
                first.edit_post(user, &edit).await.unwrap()
            } else {
                record(&*first, ahead.clone()).await == Held::Yes
            };
            assert!(early, "whatever comes first counts");
            let late = if wins_edit {
                record(&*second, ahead).await == Held::Yes
            } else {
                second.edit_post(user, &edit).await.unwrap()
            };
            assert!(!late, "whatever comes second does not, edit first: {wins_edit}");
            wins_edit
        } else {
            type Racer = social_core::time::BoxFuture<'static, bool>;
            let racers: [Racer; 2] = [
                Box::pin(async move { first.edit_post(user, &edit).await.unwrap() }),
                Box::pin(async move { record(&*second, ahead).await == Held::Yes }),
            ];
            let answers = at_once(racers).await;
            assert_ne!(answers[0], answers[1], "edit and write-ahead in round {number}");
            answers[0]
        };
        let (post, rows) = store.post(user, new.post.id).await.unwrap().unwrap();
        if edited {
            assert_eq!(post.draft.text, "another text");
            assert!(rows.iter().all(|row| row.phase == Phase::Scheduled && row.due_at == secs(50)), "{rows:?}");
        } else {
            assert_eq!(post, new.post, "nothing of the edit");
            assert_eq!(rows[0], ready[0]);
            assert_eq!(rows[1].phase.name(), PhaseName::Committing);
        }
        let ends: Vec<_> = rows.iter().map(|row| release(write(row, PhaseName::Failed, secs(3)))).collect();
        store.record(&ends).await.unwrap();
    }
}

/// One delivery that was not seen as it is, or not seen at all, and nothing of the edit happens.
pub async fn an_edit_is_all_or_nothing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 3).await;
    let new = schedule(store, connected.user, &connected.accounts, secs(100)).await;
    let (before, rows) = store.post(connected.user, new.post.id).await.unwrap().unwrap();
    let good = edit_of(&new, &rows);
    let mut stale = good.clone();
    stale.seen[2].1 = Epoch(stale.seen[2].1.0 + 1);
    let mut unseen = good.clone();
    unseen.seen.pop();
    let mut foreign = good.clone();
    foreign.seen[1].0 = DeliveryId::new();
    let mut more = good.clone();
    more.seen.push((DeliveryId::new(), Epoch(0)));
    for (what, edit) in [
        ("a stale epoch", stale),
        ("an unseen delivery", unseen),
        ("a foreign delivery", foreign),
        ("one too many", more),
    ] {
        assert!(!store.edit_post(connected.user, &edit).await.unwrap(), "{what}");
        assert_eq!(
            store.post(connected.user, new.post.id).await.unwrap().unwrap(),
            (before.clone(), rows.clone()),
            "{what}"
        );
        for row in &rows {
            assert_eq!(events(store, connected.user, row.id).await, ["scheduled"], "{what}");
        }
    }
    assert!(store.edit_post(connected.user, &good).await.unwrap());
    assert!(!store.edit_post(connected.user, &good).await.unwrap(), "the epochs have moved on");
}

/// Where a delivery has ended, may be visible, or has a part out, the whole post stays as it is.
pub async fn an_edit_that_comes_too_late_changes_nothing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    let too_late = PhaseName::ALL.into_iter().filter(|phase| !phase.can_cancel()).map(|phase| (phase, false));
    for (phase, part) in too_late.chain([(PhaseName::Preparing, true)]) {
        let new = schedule(store, connected.user, &connected.accounts, t0()).await;
        let held = claim(store, "a", t0(), 2).await;
        let mut on = write(&held[0].delivery, phase, secs(1));
        on.part = part.then(|| remote(held[0].delivery.id));
        assert_eq!(record(store, on).await, Held::Yes);
        let before = store.post(connected.user, new.post.id).await.unwrap().unwrap();
        let edit = edit_of(&new, &before.1);
        assert!(!store.edit_post(connected.user, &edit).await.unwrap(), "{phase}, part out: {part}");
        assert_eq!(store.post(connected.user, new.post.id).await.unwrap().unwrap(), before, "{phase}");
        let ends: Vec<_> = before.1.iter().map(|row| release(write(row, PhaseName::Failed, secs(3)))).collect();
        assert_eq!(store.record(&ends).await.unwrap(), [Held::Yes, Held::Yes], "the worker still holds both");
    }
}

/// Claims deliveries and leads them to ready, as their worker sees them.
async fn ready(store: &dyn Store, count: usize) -> Vec<Delivery> {
    let claimed = claim(store, "a", secs(1), count).await;
    assert_eq!(ids(&claimed).len(), count);
    let writes: Vec<_> = claimed.iter().map(|one| write(&one.delivery, PhaseName::Ready, secs(1))).collect();
    assert_eq!(store.record(&writes).await.unwrap(), vec![Held::Yes; count]);
    let ready = |one: social_core::store::Claimed| Delivery {
        phase: Phase::Ready { at: checkpoint("ready") },
        updated_at: secs(1),
        ..one.delivery
    };
    let mut ready: Vec<_> = claimed.into_iter().map(ready).collect();
    ready.sort_by_key(|row| row.id);
    ready
}

fn edit_of(new: &NewPost, seen: &[Delivery]) -> Edit {
    let mut draft = full_draft(seen[0].account);
    draft.text = "another text".to_owned();
    Edit {
        post: new.post.id,
        seen: seen.iter().map(|row| (row.id, row.epoch)).collect(),
        draft,
        scheduled_at: secs(50),
        wall: None,
        log: entry("edited", secs(2)),
        now: secs(2),
    }
}
