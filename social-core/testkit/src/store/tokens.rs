//! Connections: sealed tokens under compare-and-swap, one refresher at a time.

use std::collections::BTreeSet;

use jiff::Timestamp;
use social_core::{
    account::{AccountStatus, Connection, ConnectionStatus, Version},
    error::ErrorKind,
    id::{ConnectionId, UserId},
    store::{NewConnection, RefreshLease, SealedTokens, Store, StoredTokens, Swap},
};

use super::{StoreUnderTest, at_once};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{LINKEDIN, X, binding, connect, new_connection, old_vault, profile, sealed, token_update, vault},
    secrets,
};

/// All of it, ciphertext included, from either handle; an unknown one is none, an id that is taken an error.
pub async fn a_connection_comes_back_as_it_was_stored(sut: StoreUnderTest) {
    let store = &*sut.store;
    let mut bare = new_connection(UserId::new(), &LINKEDIN).await;
    bare.connection = Connection {
        preset: String::new(),
        status: ConnectionStatus::Limited,
        requested_scopes: vec!["b".into(), "a".into(), "c d".into()],
        granted_scopes: Vec::new(),
        expires_at: None,
        refresh_expires_at: None,
        refreshable: false,
        created_at: micros_after(t0(), 123_456),
        updated_at: micros_after(t0(), 654_321),
        ..bare.connection
    };
    for new in [new_connection(UserId::new(), &X).await, bare] {
        store.insert(&new).await.unwrap();
        let stored = get(&*sut.second, new.connection.id).await;
        assert_eq!(stored.connection, new.connection);
        assert_eq!(stored.tokens, new.tokens);
        assert_eq!((stored.refresh_lease_until, stored.refresh_intent_at, stored.refresh_failures), (None, None, 0));
        let plain = vault().open(&binding(&new.connection, Version::FIRST), &stored.tokens.0).await;
        assert!(plain.is_ok(), "what was sealed opens again");
        let error = store.insert(&new).await.expect_err("the id is taken");
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert_eq!(store.connections(new.connection.user).await.unwrap(), [new.connection]);
    }
    assert!(store.get(ConnectionId::new()).await.unwrap().is_none());
}

/// Section 4: new tokens count only if nobody replaced the ones that were read.
pub async fn tokens_are_replaced_only_under_the_version_that_was_seen(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    let mut update = token_update(&new.connection, Version::FIRST, secs(60)).await;
    update.granted_scopes = vec!["read".into()];
    (update.expires_at, update.refresh_expires_at, update.refreshable) = (None, None, false);
    update.status = ConnectionStatus::Limited;
    for wrong in [0, 2, u64::try_from(i64::MAX).unwrap()] {
        assert_eq!(store.replace(id, Version(wrong), &update).await.unwrap(), Swap::Stale, "version {wrong}");
    }
    assert_eq!(get(store, id).await.tokens, new.tokens);
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    let stored = get(&*sut.second, id).await;
    let expected = Connection {
        granted_scopes: vec!["read".into()],
        status: ConnectionStatus::Limited,
        expires_at: None,
        refresh_expires_at: None,
        refreshable: false,
        version: Version(2),
        updated_at: secs(60),
        ..new.connection.clone()
    };
    assert_eq!((stored.connection, stored.tokens), (expected.clone(), update.tokens));

    let late = token_update(&new.connection, Version::FIRST, secs(61)).await;
    assert_eq!(store.replace(id, Version::FIRST, &late).await.unwrap(), Swap::Stale, "somebody else was first");
    assert_eq!(get(store, id).await.connection, expected);
    let third = token_update(&new.connection, Version(2), secs(62)).await;
    assert_eq!(store.replace(id, Version(2), &third).await.unwrap(), Swap::Done);
    assert_eq!(get(store, id).await.connection.version, Version(3));
    assert_eq!(
        store.replace(ConnectionId::new(), Version::FIRST, &third).await.unwrap(),
        Swap::Stale,
        "no such connection"
    );
}

/// T-r1: of 16 workers who bring tokens for the same version, one stores them.
pub async fn of_many_replacements_one_wins(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    store.insert(&new).await.unwrap();
    for round in 1..=5 {
        let mut racers = Vec::new();
        for number in 0..16 {
            let (store, id) = (sut.handle(number), new.connection.id);
            let update = token_update(&new.connection, Version(round), secs(number.try_into().unwrap())).await;
            racers.push(async move { (store.replace(id, Version(round), &update).await.unwrap(), update.tokens) });
        }
        let answers = at_once(racers).await;
        let winners: Vec<_> =
            answers.into_iter().filter(|(swap, _)| *swap == Swap::Done).map(|(_, tokens)| tokens).collect();
        let stored = get(store, new.connection.id).await;
        assert_eq!(winners, [stored.tokens], "round {round}");
        assert_eq!(stored.connection.version, Version(round + 1));
    }
}

/// Stored tokens end the lease, the intent and the count of failures.
pub async fn new_tokens_end_the_refresh(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    store.refresh_failed(id, Version::FIRST, t0(), true).await.unwrap();
    assert_eq!(store.lease_refresh(id, Version::FIRST, t0(), secs(60), true).await.unwrap(), RefreshLease::Won);
    let stored = get(store, id).await;
    assert_eq!(
        (stored.refresh_lease_until, stored.refresh_intent_at, stored.refresh_failures),
        (Some(secs(60)), Some(t0()), 1)
    );
    let update = token_update(&new.connection, Version::FIRST, secs(1)).await;
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    let stored = get(store, id).await;
    assert_eq!((stored.refresh_lease_until, stored.refresh_intent_at, stored.refresh_failures), (None, None, 0));
    assert_eq!(
        store.lease_refresh(id, Version(2), secs(1), secs(61), false).await.unwrap(),
        RefreshLease::Won,
        "free at once"
    );
}

/// Of 32 workers one may refresh, and the others are told until when.
pub async fn one_worker_wins_the_right_to_refresh(sut: StoreUnderTest) {
    let store = &*sut.store;
    for round in 0..5 {
        let new = new_connection(UserId::new(), &X).await;
        let id = new.connection.id;
        store.insert(&new).await.unwrap();
        let racers = (0..32).map(|number| {
            let store = sut.handle(number);
            async move { store.lease_refresh(id, Version::FIRST, t0(), secs(60), true).await.unwrap() }
        });
        let answers = at_once(racers).await;
        assert_eq!(
            answers.iter().filter(|answer| **answer == RefreshLease::Won).count(),
            1,
            "round {round}: {answers:?}"
        );
        assert_eq!(answers.iter().filter(|answer| **answer == RefreshLease::Busy { until: secs(60) }).count(), 31);
    }
}

/// The lease is free from its end on; another version is told to read again; the intent is written with the lease, or not at all.
pub async fn the_right_to_refresh_ends_at_its_time(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    let ask = |seen, now: Timestamp, until: Timestamp, intent| async move {
        store.lease_refresh(id, Version(seen), now, until, intent).await.unwrap()
    };
    assert_eq!(ask(2, t0(), secs(60), true).await, RefreshLease::Stale);
    assert_eq!(get(store, id).await.refresh_lease_until, None, "who is stale gets nothing");
    assert_eq!(get(store, id).await.refresh_intent_at, None);
    assert_eq!(ask(1, t0(), secs(60), false).await, RefreshLease::Won);
    assert_eq!(get(store, id).await.refresh_intent_at, None, "not where tokens do not rotate");
    assert_eq!(ask(1, micros_after(secs(60), -1), secs(120), true).await, RefreshLease::Busy { until: secs(60) });
    assert_eq!(get(store, id).await.refresh_intent_at, None, "the intent comes only with the lease");
    assert_eq!(ask(1, secs(60), secs(120), true).await, RefreshLease::Won);
    let stored = get(&*sut.second, id).await;
    assert_eq!((stored.refresh_lease_until, stored.refresh_intent_at), (Some(secs(120)), Some(secs(60))));
    assert_eq!(stored.connection, new.connection, "a lease changes nothing else");
    let nobody = store.lease_refresh(ConnectionId::new(), Version::FIRST, t0(), secs(60), true).await.unwrap();
    assert_eq!(nobody, RefreshLease::Stale);
}

/// A failed refresh counts, keeps others away until its time, and keeps the intent only while its outcome is in doubt.
pub async fn a_failed_refresh_is_counted_and_its_doubt_kept(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    assert_eq!(store.lease_refresh(id, Version::FIRST, t0(), secs(60), true).await.unwrap(), RefreshLease::Won);
    store.refresh_failed(id, Version(2), secs(5), false).await.unwrap();
    let stored = get(store, id).await;
    assert_eq!(
        (stored.refresh_lease_until, stored.refresh_failures),
        (Some(secs(60)), 0),
        "another version: nothing happens"
    );
    store.refresh_failed(id, Version::FIRST, secs(30), true).await.unwrap();
    let stored = get(store, id).await;
    assert_eq!((stored.refresh_intent_at, stored.refresh_failures), (Some(t0()), 1), "in doubt");
    let early = store.lease_refresh(id, Version::FIRST, secs(29), secs(90), true).await.unwrap();
    assert_eq!(early, RefreshLease::Busy { until: secs(30) });
    assert_eq!(store.lease_refresh(id, Version::FIRST, secs(30), secs(90), true).await.unwrap(), RefreshLease::Won);
    store.refresh_failed(id, Version::FIRST, secs(31), false).await.unwrap();
    let stored = get(store, id).await;
    assert_eq!((stored.refresh_intent_at, stored.refresh_failures), (None, 2), "no doubt left");
    assert_eq!((stored.connection, stored.tokens), (new.connection, new.tokens), "the tokens are as they were");
    store.refresh_failed(ConnectionId::new(), Version::FIRST, t0(), true).await.unwrap();
}

/// The status of a grant is that of its accounts; who disconnected stays disconnected, and a stale writer changes neither.
pub async fn accounts_follow_the_status_of_their_connection(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, other) = (connect(store, user, &X, 3).await, connect(store, user, &LINKEDIN, 1).await);
    store.disconnect_account(user, x.accounts[2].id, t0()).await.unwrap();
    let statuses = || async {
        let mut found = Vec::new();
        for account in x.accounts.iter().chain(&other.accounts) {
            found.push(store.account(user, account.id).await.unwrap().unwrap().status);
        }
        found
    };
    let (active, gone) = (AccountStatus::Active, AccountStatus::Disconnected);
    let id = x.connection.id;
    let stale = store.set_connection_status(id, Version(2), ConnectionStatus::NeedsReconnect, secs(1)).await.unwrap();
    assert_eq!((stale, statuses().await), (Swap::Stale, vec![active, active, gone, active]));
    for (step, status, accounts) in [
        (1, ConnectionStatus::NeedsReconnect, AccountStatus::NeedsReconnect),
        (2, ConnectionStatus::Limited, AccountStatus::Limited),
        (3, ConnectionStatus::Active, active),
    ] {
        assert_eq!(store.set_connection_status(id, Version::FIRST, status, secs(step)).await.unwrap(), Swap::Done);
        assert_eq!(statuses().await, [accounts, accounts, gone, active]);
        let connection = get(store, id).await.connection;
        assert_eq!(
            (connection.status, connection.updated_at, connection.version),
            (status, secs(step), Version::FIRST)
        );
    }
    let mut update = token_update(&x.connection, Version::FIRST, secs(4)).await;
    update.status = ConnectionStatus::Limited;
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    assert_eq!(
        statuses().await,
        [AccountStatus::Limited, AccountStatus::Limited, gone, active],
        "new tokens bring their status"
    );
    let nobody =
        store.set_connection_status(ConnectionId::new(), Version::FIRST, ConnectionStatus::Active, t0()).await.unwrap();
    assert_eq!(nobody, Swap::Stale);
}

/// Rotation: the bytes are replaced only while the row still holds the old ones, and nothing else moves.
pub async fn another_wrapping_replaces_only_the_bytes_it_was_made_from(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (new, vault) = (sealed_by_old(UserId::new()).await, vault());
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    assert_eq!(store.lease_refresh(id, Version::FIRST, t0(), secs(60), true).await.unwrap(), RefreshLease::Won);
    let place = binding(&new.connection, Version::FIRST);
    let rewrapped = SealedTokens(vault.rewrap(&place, &new.tokens.0).await.unwrap().expect("another key"));
    let other = sealed(&vault, &new.connection, Version::FIRST).await;
    for (seen, old) in [(Version(2), &new.tokens), (Version::FIRST, &other), (Version::FIRST, &rewrapped)] {
        assert_eq!(store.rewrap(id, seen, old, &rewrapped).await.unwrap(), Swap::Stale);
        assert_eq!(get(store, id).await.tokens, new.tokens);
    }
    assert_eq!(store.rewrap(id, Version::FIRST, &new.tokens, &rewrapped).await.unwrap(), Swap::Done);
    let stored = get(&*sut.second, id).await;
    assert_eq!((&stored.tokens, &stored.connection), (&rewrapped, &new.connection), "the version stays");
    assert_eq!(
        (stored.refresh_lease_until, stored.refresh_intent_at),
        (Some(secs(60)), Some(t0())),
        "a refresh under way goes on"
    );
    assert!(vault.open(&place, &stored.tokens.0).await.is_ok());
    assert_eq!(store.rewrap(id, Version::FIRST, &new.tokens, &rewrapped).await.unwrap(), Swap::Stale, "once");
    let update = token_update(&new.connection, Version::FIRST, secs(1)).await;
    assert_eq!(
        store.replace(id, Version::FIRST, &update).await.unwrap(),
        Swap::Done,
        "the refresher was not disturbed"
    );
    assert_eq!(
        store.rewrap(id, Version::FIRST, &update.tokens, &rewrapped).await.unwrap(),
        Swap::Stale,
        "never over newer tokens"
    );
    assert_eq!(store.rewrap(ConnectionId::new(), Version::FIRST, &new.tokens, &rewrapped).await.unwrap(), Swap::Stale);
}

/// T3: rotation finds its work in pages by id, resumes anywhere, and key usage counts down to nothing.
pub async fn what_another_key_sealed_is_found_page_by_page(sut: StoreUnderTest) {
    let store = &*sut.store;
    assert_eq!(store.key_usage().await.unwrap(), []);
    let mut old = BTreeSet::new();
    for number in 0..12 {
        let new =
            if number % 3 == 0 { new_connection(UserId::new(), &X).await } else { sealed_by_old(UserId::new()).await };
        store.insert(&new).await.unwrap();
        if number % 3 != 0 {
            old.insert(new.connection.id);
        }
    }
    assert_eq!(usage(store).await, [("new".to_owned(), 4), ("old".into(), 8)]);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.not_sealed_by("new", after, 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        found.extend(page);
    }
    assert_eq!(found, old.iter().copied().collect::<Vec<_>>(), "in the order of ids");
    assert_eq!(store.not_sealed_by("old", None, 100).await.unwrap().len(), 4);
    for id in old {
        let stored = get(store, id).await;
        let place = binding(&stored.connection, Version::FIRST);
        let rewrapped = SealedTokens(vault().rewrap(&place, &stored.tokens.0).await.unwrap().unwrap());
        assert_eq!(store.rewrap(id, Version::FIRST, &stored.tokens, &rewrapped).await.unwrap(), Swap::Done);
    }
    assert_eq!(usage(store).await, [("new".to_owned(), 12)]);
    assert_eq!(store.not_sealed_by("new", None, 100).await.unwrap(), []);
    let nine: Vec<_> = store.not_sealed_by("old", None, 9).await.unwrap();
    assert!(store.delete(nine[0]).await.unwrap());
    assert_eq!(usage(store).await, [("new".to_owned(), 11)]);
}

/// What ends soonest comes first; grants that do not work, do not end, or end later are left out.
pub async fn what_ends_soonest_comes_first(sut: StoreUnderTest) {
    let store = &*sut.store;
    let mut expected = Vec::new();
    for (ends, status) in [
        (Some(secs(30)), ConnectionStatus::Active),
        (None, ConnectionStatus::Active),
        (Some(secs(10)), ConnectionStatus::Limited),
        (Some(secs(5)), ConnectionStatus::NeedsReconnect),
        (Some(secs(-10)), ConnectionStatus::Active),
        (Some(secs(60)), ConnectionStatus::Active),
        (Some(micros_after(secs(60), -1)), ConnectionStatus::Active),
        (Some(secs(20)), ConnectionStatus::Active),
    ] {
        let mut new = new_connection(UserId::new(), &X).await;
        (new.connection.expires_at, new.connection.status) = (ends, status);
        store.insert(&new).await.unwrap();
        if status != ConnectionStatus::NeedsReconnect {
            expected.extend(ends.filter(|ends| *ends < secs(60)).map(|ends| (ends, new.connection.id)));
        }
    }
    expected.sort();
    assert_eq!(store.expiring(secs(60), None, 100).await.unwrap(), expected);
    assert_eq!(store.expiring(secs(60), None, 2).await.unwrap(), expected[..2]);
    assert_eq!(store.expiring(secs(60), Some(expected[1]), 2).await.unwrap(), expected[2..4]);
    assert_eq!(store.expiring(secs(60), expected.last().copied(), 2).await.unwrap(), []);
    assert_eq!(store.expiring(secs(-10), None, 100).await.unwrap(), []);
    // Several that end at one instant are all reached, page by page.
    let mut same = Vec::new();
    for _ in 0..5 {
        let mut new = new_connection(UserId::new(), &X).await;
        new.connection.expires_at = Some(secs(100));
        store.insert(&new).await.unwrap();
        same.push((secs(100), new.connection.id));
    }
    same.sort();
    let (mut found, mut after) = (Vec::new(), Some((secs(99), same[0].1)));
    while let page @ [_, ..] = &*store.expiring(secs(101), after, 2).await.unwrap() {
        found.extend_from_slice(page);
        after = page.last().copied();
    }
    assert_eq!(found, same);
}

/// P2: after erasing, neither the row nor its ciphertext (the replaced one included) is anywhere at rest.
pub async fn an_erased_connection_is_gone_with_its_ciphertext(sut: StoreUnderTest) {
    let store = &*sut.store;
    let new = new_connection(UserId::new(), &X).await;
    let id = new.connection.id;
    store.insert(&new).await.unwrap();
    store.save_accounts(id, &[profile(1)], AccountStatus::Active, t0()).await.unwrap();
    let update = token_update(&new.connection, Version::FIRST, secs(1)).await;
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    let inner = |tokens: &SealedTokens| {
        let bytes = tokens.0.as_bytes();
        bytes[bytes.len() - 60..bytes.len() - 20].to_vec()
    };
    let (current, previous) = (inner(&update.tokens), inner(&new.tokens));
    let before = (sut.dump)().await;
    assert!(secrets::holds(&before, &current), "the scan sees what is at rest");
    assert!(secrets::holds(&before, &previous), "the replaced ciphertext is kept once");
    assert!(store.delete(id).await.unwrap());
    assert!(!store.delete(id).await.unwrap(), "there is none any more");
    assert!(store.get(id).await.unwrap().is_none());
    let after = (sut.dump)().await;
    assert!(!secrets::holds(&after, &current), "the ciphertext is still at rest");
    assert!(!secrets::holds(&after, &previous), "the replaced ciphertext is still at rest");
}

async fn get(store: &dyn Store, id: ConnectionId) -> StoredTokens {
    store.get(id).await.unwrap().expect("the connection is there")
}

async fn usage(store: &dyn Store) -> Vec<(String, u64)> {
    let mut usage = store.key_usage().await.unwrap();
    usage.sort();
    usage
}

async fn sealed_by_old(user: UserId) -> NewConnection {
    let new = new_connection(user, &X).await;
    let tokens = sealed(&old_vault(), &new.connection, Version::FIRST).await;
    NewConnection { tokens, ..new }
}
