//! Writes: what is written is what is there, with its row in the history, in batches.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use social_core::{
    error::{Error, ErrorKind},
    id::{LogId, UserId},
    phase::{Phase, PhaseName, RemotePost},
    store::{Delivery, ErrorPatch, Held, LogRow, PhaseWrite},
};

use super::{StoreUnderTest, claim, claimed_one, due_now, events, history, ids, lease, read, record, release, revoke};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{X, checkpoint, connect, remote, schedule, write},
};

/// Each phase comes back with its checkpoint or its remote post.
pub async fn every_phase_comes_back_as_it_was_written(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, PhaseName::ALL.len()).await;
    let claimed = claim(store, "a", t0(), 100).await;
    for (one, phase) in claimed.iter().zip(PhaseName::ALL) {
        let wrote = write(&one.delivery, phase, secs(1));
        let expected = Phase::restore(phase, wrote.checkpoint.clone(), wrote.remote.clone());
        assert_eq!(record(store, wrote).await, Held::Yes);
        assert_eq!(read(&*sut.second, connected.user, one.delivery.id).await.phase, expected);
    }
    let (user, held) = claimed_one(store, "b").await;
    for at in [Some(checkpoint("one")), None, Some(checkpoint("two"))] {
        let mut on = write(&held, PhaseName::Preparing, secs(2));
        on.checkpoint.clone_from(&at);
        assert_eq!(record(store, on).await, Held::Yes);
        assert_eq!(read(store, user, held.id).await.phase, Phase::Preparing { at });
    }
    let mut unknown = write(&held, PhaseName::Published, secs(3));
    unknown.remote = Some(RemotePost::unknown());
    assert_eq!(record(store, unknown).await, Held::Yes);
    assert_eq!(
        read(store, user, held.id).await.phase,
        Phase::Published { remote: RemotePost::unknown() },
        "out, with an unknown id"
    );
}

/// The engine counts, the store keeps: attempts, crashes, times, each as given or left.
pub async fn numbers_and_times_are_stored_as_given(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    let first = PhaseWrite {
        attempt: 7,
        crashes: 2,
        wake_at: Some(micros_after(secs(9), 1)),
        due_at: Some(micros_after(secs(8), 2)),
        committing_since: Some(micros_after(secs(7), 3)),
        ..write(&held, PhaseName::Committing, micros_after(secs(6), 4))
    };
    assert_eq!(record(store, first.clone()).await, Held::Yes);
    let expected = Delivery {
        phase: Phase::Committing { at: checkpoint("committing") },
        attempt: 7,
        crashes: 2,
        wake_at: first.wake_at,
        due_at: micros_after(secs(8), 2),
        committing_since: first.committing_since,
        updated_at: micros_after(secs(6), 4),
        ..held.clone()
    };
    assert_eq!(read(&*sut.second, user, held.id).await, expected);
    let second = PhaseWrite {
        attempt: 3,
        crashes: 0,
        wake_at: None,
        due_at: None,
        committing_since: None,
        ..write(&held, PhaseName::Preparing, secs(10))
    };
    assert_eq!(record(store, second).await, Held::Yes);
    let expected = Delivery {
        phase: Phase::Preparing { at: Some(checkpoint("preparing")) },
        attempt: 3,
        crashes: 0,
        wake_at: None,
        committing_since: None,
        updated_at: secs(10),
        ..expected
    };
    assert_eq!(
        read(store, user, held.id).await,
        expected,
        "fewer attempts are as good as more, and a due time that is not given stays"
    );
    let large = PhaseWrite { attempt: i32::MAX.unsigned_abs(), ..write(&held, PhaseName::Preparing, secs(11)) };
    assert_eq!(record(store, large).await, Held::Yes);
    assert_eq!(read(store, user, held.id).await.attempt, i32::MAX.unsigned_abs());
}

/// Parts of a thread stay in the order in which they went out, whatever is written between.
pub async fn parts_are_kept_in_order(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    let parts: Vec<_> =
        (0..12).map(|n| RemotePost::new(format!("part-{n}"), format!("https://network.example/{n}"))).collect();
    for (number, part) in parts.iter().enumerate() {
        let mut out = write(&held, PhaseName::Preparing, secs(1));
        out.part = Some(part.clone());
        assert_eq!(record(store, out).await, Held::Yes);
        assert_eq!(record(store, write(&held, PhaseName::Committing, secs(1))).await, Held::Yes);
        assert_eq!(read(store, user, held.id).await.parts, parts[..=number]);
    }
    let mut last = release(write(&held, PhaseName::Published, secs(2)));
    last.part = Some(RemotePost::unknown());
    assert_eq!(record(store, last).await, Held::Yes);
    let row = read(&*sut.second, user, held.id).await;
    assert_eq!((row.parts.len(), &row.parts[12]), (13, &RemotePost::unknown()));
    assert_eq!(row.phase, Phase::Published { remote: remote(held.id) });
}

/// The stored error is kept, replaced or cleared, as JSON to the letter.
pub async fn an_error_is_kept_replaced_or_cleared(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(held.error, None);
    let json = |kind| serde_json::to_string(&Error::new(kind, "publish.commit").message("why \"so\" 🌊")).unwrap();
    let (first, second) = (json(ErrorKind::RateLimited), json(ErrorKind::Billing));
    let steps = [
        (ErrorPatch::Keep, None),
        (ErrorPatch::Set(first.clone()), Some(&first)),
        (ErrorPatch::Keep, Some(&first)),
        (ErrorPatch::Set(second.clone()), Some(&second)),
        (ErrorPatch::Clear, None),
        (ErrorPatch::Clear, None),
    ];
    for (patch, expected) in steps {
        let wrote = PhaseWrite { error: patch.clone(), ..write(&held, PhaseName::Preparing, secs(1)) };
        assert_eq!(record(store, wrote).await, Held::Yes);
        assert_eq!(read(store, user, held.id).await.error.as_ref(), expected, "after {patch:?}");
    }
}

/// `published_at` is the time of the row in the history, and only of that of publishing.
pub async fn the_time_of_publishing_comes_from_the_history(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(record(store, write(&held, PhaseName::Settling, secs(3))).await, Held::Yes);
    assert_eq!(read(store, user, held.id).await.published_at, None);
    assert_eq!(record(store, release(write(&held, PhaseName::Published, micros_after(secs(4), 5)))).await, Held::Yes);
    let row = read(store, user, held.id).await;
    assert_eq!((row.published_at, row.updated_at), (Some(micros_after(secs(4), 5)), micros_after(secs(4), 5)));
    assert_eq!(row.wake_at, None);
}

/// Keep holds on, release lets others have it, revoke moves the epoch besides.
pub async fn the_lease_is_kept_released_or_revoked(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(record(store, write(&held, PhaseName::Preparing, secs(1))).await, Held::Yes);
    assert_eq!(claim(&*sut.second, "b", secs(9), 1).await.len(), 0, "kept");
    assert_eq!(store.renew(&[lease(&held)], secs(100)).await.unwrap(), [Held::Yes]);

    let mut later = release(write(&held, PhaseName::Retrying, secs(1)));
    later.wake_at = Some(secs(5));
    assert_eq!(record(store, later).await, Held::Yes);
    assert_eq!(store.renew(&[lease(&held)], secs(100)).await.unwrap(), [Held::Lost], "released");
    assert_eq!(claim(&*sut.second, "b", secs(4), 1).await.len(), 0);
    let again = claim(&*sut.second, "b", secs(5), 1).await.remove(0).delivery;

    assert_eq!(record(store, revoke(write(&again, PhaseName::Canceled, secs(6)))).await, Held::Yes);
    let row = read(store, user, held.id).await;
    assert!(row.epoch > again.epoch, "revoked");
    assert_eq!(store.renew(&[lease(&again), lease(&row)], secs(100)).await.unwrap(), [Held::Lost, Held::Lost]);
    assert_eq!(claim(store, "c", secs(99), 1).await.len(), 0, "nothing to wake for");
    assert_eq!(store.reclaim(secs(86_400)).await.unwrap(), 0);

    let mut retry = revoke(write(&row, PhaseName::Retrying, secs(7)));
    (retry.wake_at, retry.due_at) = (Some(secs(7)), Some(secs(7)));
    assert_eq!(record(store, retry).await, Held::Yes);
    assert_eq!(ids(&claim(store, "c", secs(7), 1).await), [held.id], "an explicit retry is claimed again");
}

/// I6: the change and its row in the history are one step, and the row says what was written.
pub async fn each_write_that_counts_has_its_row_in_the_history(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    let mut wrote = write(&held, PhaseName::Retrying, micros_after(secs(3), 7));
    wrote.attempt = 4;
    wrote.log.success = Some(false);
    wrote.log.response = json!({ "kind": "rate_limited", "nested": [1, 2.5, null, { "é": "🏳️‍🌈" }] });
    assert_eq!(record(store, wrote.clone()).await, Held::Yes);
    let mut wrote_too = write(&held, PhaseName::Published, secs(4));
    (wrote_too.attempt, wrote_too.log.success) = (5, Some(true));
    assert_eq!(record(store, wrote_too.clone()).await, Held::Yes);
    let row = |wrote: &PhaseWrite| LogRow {
        id: wrote.log.id,
        post: held.post,
        delivery: held.id,
        platform: X,
        event: wrote.log.event.clone(),
        success: wrote.log.success,
        attempt: wrote.attempt,
        response: wrote.log.response.clone(),
        created_at: wrote.log.at,
    };
    assert_eq!(history(&*sut.second, user, held.id).await[1..], [row(&wrote), row(&wrote_too)]);
}

/// The n-th answer belongs to the n-th write, whatever the order of rows in the store.
pub async fn answers_come_in_the_order_of_the_writes(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, 30).await;
    let mut claimed = claim(store, "a", t0(), 30).await;
    claimed.reverse();
    claimed.rotate_left(11);
    let stale = |number: usize| number % 3 == 1;
    let writes = claimed.iter().enumerate().map(|(number, one)| {
        let mut wrote = write(&one.delivery, PhaseName::Preparing, secs(1));
        wrote.epoch.0 -= i64::from(stale(number));
        wrote.attempt = u32::try_from(number).unwrap();
        wrote
    });
    let writes: Vec<_> = writes.collect();
    let answers = store.record(&writes).await.unwrap();
    for (number, (one, held)) in claimed.iter().zip(&answers).enumerate() {
        assert_eq!(*held, if stale(number) { Held::Lost } else { Held::Yes }, "write {number}");
        let row = read(store, connected.user, one.delivery.id).await;
        assert_eq!(row.attempt, if stale(number) { 0 } else { u32::try_from(number).unwrap() });
    }
    assert_eq!(answers.len(), 30);
    assert_eq!(store.record(&[]).await.unwrap(), []);
}

/// A batch that the store cannot write leaves nothing of it behind: here the last row of the history has an id that is taken.
pub async fn a_batch_that_fails_leaves_nothing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 3).await;
    let claimed = claim(store, "a", t0(), 3).await;
    let taken = history(store, connected.user, due[0]).await[0].id;
    let mut writes: Vec<_> =
        claimed.iter().map(|one| release(write(&one.delivery, PhaseName::Published, secs(1)))).collect();
    let second = LogId::new();
    for log in [taken, second] {
        writes[2].log.id = log;
        writes[0].log.id = if log == taken { LogId::new() } else { second };
        let error = store.record(&writes).await.expect_err("an id of the history twice");
        assert_eq!(error.kind(), ErrorKind::Storage);
        for one in &claimed {
            assert_eq!(read(store, connected.user, one.delivery.id).await, one.delivery);
            assert_eq!(events(store, connected.user, one.delivery.id).await, ["scheduled"]);
        }
    }
    writes[2].log.id = LogId::new();
    assert_eq!(store.record(&writes).await.unwrap(), [Held::Yes; 3], "the same writes count once the fault is gone");
}

/// Several writes of one delivery in a batch take effect one after the other.
pub async fn writes_of_one_delivery_follow_each_other(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, _) = due_now(store, 2).await;
    let claimed = claim(store, "a", t0(), 2).await;
    let (one, two) = (&claimed[0].delivery, &claimed[1].delivery);
    let part = |of: &Delivery, n: u32| PhaseWrite {
        part: Some(RemotePost::new(format!("{n}"), "https://network.example/")),
        attempt: n,
        ..write(of, PhaseName::Preparing, secs(i64::from(n)))
    };
    let batch = [part(one, 1), part(two, 1), part(one, 2), release(part(one, 3)), part(two, 2)];
    assert_eq!(store.record(&batch).await.unwrap(), [Held::Yes; 5]);
    let row = read(store, connected.user, one.id).await;
    let numbers: Vec<_> = row.parts.iter().map(|part| part.id.as_ref().unwrap().as_str().to_owned()).collect();
    assert_eq!((numbers, row.attempt, row.updated_at), (vec!["1".to_owned(), "2".into(), "3".into()], 3, secs(3)));
    assert_eq!(read(store, connected.user, two.id).await.attempt, 2);
    assert_eq!(events(store, connected.user, one.id).await.len(), 4);
    assert_eq!(store.renew(&[lease(one), lease(two)], secs(100)).await.unwrap(), [Held::Lost, Held::Yes]);
}

/// The journal writes whatever arrived meanwhile: five thousand changes in one step, and five thousand claims.
pub async fn five_thousand_writes_fit_into_one_batch(sut: StoreUnderTest) {
    const ROWS: usize = 5_000;
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 500).await;
    for step in 0..10 {
        schedule(store, connected.user, &connected.accounts, secs(step)).await;
    }
    let claimed = claim(store, "a", secs(60), ROWS + 1).await;
    let fresh: BTreeSet<_> = ids(&claimed).into_iter().collect();
    assert_eq!((claimed.len(), fresh.len()), (ROWS, ROWS));
    let leases: Vec<_> = claimed.iter().map(|one| lease(&one.delivery)).collect();
    assert_eq!(store.renew(&leases, secs(600)).await.unwrap(), vec![Held::Yes; ROWS]);
    let mut writes: Vec<_> =
        claimed.iter().map(|one| release(write(&one.delivery, PhaseName::Published, secs(61)))).collect();
    writes[ROWS / 2].epoch.0 -= 1;
    let mut expected = vec![Held::Yes; ROWS];
    expected[ROWS / 2] = Held::Lost;
    assert_eq!(store.record(&writes).await.unwrap(), expected);
    assert_eq!(store.depth().await.unwrap(), [(X, PhaseName::Scheduled, 1)]);
    assert_eq!(store.reclaim(secs(86_400)).await.unwrap(), 1);
}

/// What deliveries of an account claim already, parts included, so that a search for a lost one leaves them out.
pub async fn ids_on_the_network_are_found_by_account_and_time(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    let (mine, other) = (&connected.accounts[..1], &connected.accounts[1..]);
    let publish = |at: Timestamp, parts: usize, whole: bool| {
        move |delivery: &Delivery| {
            let part = |n| PhaseWrite {
                part: Some(RemotePost::new(format!("{}-part-{n}", delivery.id), "https://network.example/")),
                ..write(delivery, PhaseName::Preparing, at)
            };
            let mut writes: Vec<_> = (0..parts).map(part).collect();
            let last =
                release(write(delivery, if whole { PhaseName::Published } else { PhaseName::AwaitingLimit }, at));
            writes.push(PhaseWrite { wake_at: None, ..last });
            writes
        }
    };
    let mut found = Vec::new();
    for (accounts, at, parts, whole) in
        [(mine, secs(-500), 0, true), (mine, secs(50), 0, true), (mine, secs(60), 2, false), (other, secs(60), 0, true)]
    {
        schedule(store, connected.user, accounts, secs(-600)).await;
        let delivery = claim(store, "a", secs(-600), 1).await.remove(0).delivery;
        assert!(
            store.record(&publish(at, parts, whole)(&delivery)).await.unwrap().iter().all(|held| *held == Held::Yes)
        );
        found.push(delivery.id);
    }
    let of = |account: usize, since| {
        let account = connected.accounts[account].id;
        async move {
            let mut ids = store.remote_ids(account, since).await.unwrap();
            ids.sort();
            ids
        }
    };
    let mut expected =
        vec![format!("post-{}", found[1]), format!("{}-part-0", found[2]), format!("{}-part-1", found[2])];
    expected.sort();
    assert_eq!(of(0, secs(50)).await, expected, "from that instant on");
    assert_eq!(of(0, secs(-1000)).await.len(), 4);
    assert_eq!(of(1, secs(-1000)).await, [format!("post-{}", found[3])]);
    assert_eq!(of(0, secs(61)).await, Vec::<String>::new());
}
