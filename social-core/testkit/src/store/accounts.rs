//! Accounts: connected, connected again, disconnected; and people on their way to a network.

use social_core::{
    account::{AccountKind, AccountProfile, AccountStatus, Version},
    error::ErrorKind,
    id::{AccountId, ConnectionId, DeliveryId, MediaId, PostId, UserId},
    store::{Edit, LogFilter, NewConnection, PageRequest, PendingRow, PostFilter},
    vault::Purpose,
};

use super::{StoreUnderTest, at_once};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{LINKEDIN, X, connect, draft, entry, image, new_connection, new_post, profile, schedule, vault},
};

/// In the order given, with what the network told; listed in the order of their making.
pub async fn accounts_come_back_in_the_order_given(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let new = new_connection(user, &X).await;
    store.insert(&new).await.unwrap();
    let bare = AccountProfile {
        remote_id: "urn:li:organization:7".to_owned(),
        kind: AccountKind::Organization,
        handle: None,
        display_name: String::new(),
        avatar_url: None,
        attributes: std::collections::BTreeMap::new(),
    };
    let profiles = [profile(3), bare, profile(1), profile(2)];
    let made = store.save_accounts(new.connection.id, &profiles, AccountStatus::Limited, secs(7)).await.unwrap();
    assert_eq!(made.iter().map(|account| account.profile.clone()).collect::<Vec<_>>(), profiles);
    for account in &made {
        assert_eq!((account.user, account.connection, &account.platform), (user, new.connection.id, &X));
        assert_eq!((account.status, account.created_at), (AccountStatus::Limited, secs(7)));
        assert_eq!(store.account(user, account.id).await.unwrap().as_ref(), Some(account));
    }
    let later = connect(store, user, &LINKEDIN, 2).await;
    let all = store.accounts(user).await.unwrap();
    assert_eq!(all.len(), 6);
    let at: Vec<_> = all.iter().map(|account| account.created_at).collect();
    assert!(at.is_sorted(), "in the order of their making: {at:?}");
    assert_eq!(all[0].connection, later.connection.id, "made at t0, before the others");
    assert_eq!(store.save_accounts(new.connection.id, &[], AccountStatus::Active, secs(8)).await.unwrap(), []);
    assert_eq!(sut.second.accounts(user).await.unwrap(), all, "saving none changes none");
}

/// The seed of every reconnect: ids stay, so waiting posts go on; the emptied grant is erased.
pub async fn connecting_again_keeps_ids_and_moves_accounts(sut: StoreUnderTest) {
    let store = &*sut.store;
    let first = connect(store, UserId::new(), &X, 2).await;
    let second = new_connection(first.user, &X).await;
    store.insert(&second).await.unwrap();
    assert!(store.get(first.connection.id).await.unwrap().is_some(), "both grants until the accounts are known");
    let renamed = AccountProfile { display_name: "Renamed".to_owned(), handle: None, ..profile(1) };
    let status = AccountStatus::Limited;
    let moved = store
        .save_accounts(second.connection.id, &[renamed.clone(), profile(0), profile(9)], status, secs(60))
        .await
        .unwrap();
    assert_eq!([moved[0].id, moved[1].id], [first.accounts[1].id, first.accounts[0].id], "the same accounts");
    assert!(first.accounts.iter().all(|account| account.id != moved[2].id), "and a new one");
    assert_eq!(moved[0].profile, renamed);
    assert_eq!([moved[0].created_at, moved[2].created_at], [t0(), secs(60)], "first connected when it was");
    assert!(moved.iter().all(|account| account.connection == second.connection.id && account.status == status));
    assert!(store.get(first.connection.id).await.unwrap().is_none(), "the emptied grant is erased");
    assert_eq!(sut.second.connections(first.user).await.unwrap(), std::slice::from_ref(&second.connection));
    assert_eq!(store.accounts(first.user).await.unwrap().len(), 3);

    let again =
        store.save_accounts(second.connection.id, &[profile(0)], AccountStatus::Active, secs(90)).await.unwrap();
    assert_eq!(
        (again[0].id, again[0].status),
        (first.accounts[0].id, AccountStatus::Active),
        "the same grant told again"
    );
    assert!(store.get(second.connection.id).await.unwrap().is_some());
}

/// A grant that still reaches an account is kept; an account that was disconnected does not keep it.
pub async fn a_connection_stays_while_it_reaches_an_account(sut: StoreUnderTest) {
    let store = &*sut.store;
    let first = connect(store, UserId::new(), &X, 3).await;
    let ids: Vec<_> = first.accounts.iter().map(|account| account.id).collect();
    let mut grants = Vec::new();
    for _ in 0..2 {
        let new = new_connection(first.user, &X).await;
        store.insert(&new).await.unwrap();
        grants.push(new.connection.id);
    }
    store.save_accounts(grants[0], &[profile(0)], AccountStatus::Active, secs(1)).await.unwrap();
    assert!(store.get(first.connection.id).await.unwrap().is_some(), "it reaches two others");
    assert_eq!(store.account(first.user, ids[1]).await.unwrap().unwrap().connection, first.connection.id);
    assert_eq!(store.disconnect_account(first.user, ids[2], secs(2)).await.unwrap(), Some(1));
    store.save_accounts(grants[1], &[profile(1)], AccountStatus::Active, secs(3)).await.unwrap();
    assert!(store.get(first.connection.id).await.unwrap().is_none(), "nobody uses it any more");
    let gone = store.account(first.user, ids[2]).await.unwrap().expect("a disconnected account can be read");
    assert_eq!(gone.status, AccountStatus::Disconnected);
    let back = store.save_accounts(grants[1], &[profile(2)], AccountStatus::Active, secs(4)).await.unwrap();
    assert_eq!((back[0].id, back[0].status), (ids[2], AccountStatus::Active), "and comes back under its id");
    assert!(store.get(grants[0]).await.unwrap().is_some());
}

/// The same remote id of another user, or on another network, is another account.
pub async fn an_account_is_one_per_user_and_network(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (one, two) = (UserId::new(), UserId::new());
    let mut ids = std::collections::BTreeSet::new();
    for (user, platform) in [(one, X), (one, LINKEDIN), (two, X)] {
        ids.insert(connect(store, user, &platform, 1).await.accounts[0].id);
    }
    assert_eq!(ids.len(), 3);
    assert_eq!(store.connections(one).await.unwrap().len(), 2, "no grant of anybody was erased");
    assert_eq!(store.connections(two).await.unwrap().len(), 1);
    let new = new_connection(one, &X).await;
    store.insert(&new).await.unwrap();
    let races = (0..8).map(|number| {
        let (store, id) = (sut.handle(number), new.connection.id);
        async move { store.save_accounts(id, &[profile(5)], AccountStatus::Active, secs(1)).await.unwrap()[0].id }
    });
    let made: std::collections::BTreeSet<_> = at_once(races).await.into_iter().collect();
    assert_eq!(made.len(), 1, "saved eight times at once, one account");
    assert_eq!(store.accounts(one).await.unwrap().len(), 3);
}

/// A grant that was replaced before it reached any account does not stay behind with its tokens.
pub async fn an_older_grant_without_accounts_is_erased(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let grant = |user, person: &'static str, at| async move {
        let mut new = new_connection(user, &X).await;
        (new.remote_user, new.connection.created_at) = (person.to_owned(), at);
        store.insert(&new).await.unwrap();
        new.connection.id
    };
    let orphan = grant(user, "me", t0()).await;
    let another_person = grant(user, "my colleague", t0()).await;
    let another_user = grant(UserId::new(), "me", t0()).await;
    let with_account = grant(user, "me", t0()).await;
    store.save_accounts(with_account, &[profile(7)], AccountStatus::Active, t0()).await.unwrap();
    let new = grant(user, "me", secs(60)).await;
    store.save_accounts(new, &[profile(8)], AccountStatus::Active, secs(60)).await.unwrap();
    assert!(store.get(orphan).await.unwrap().is_none(), "nobody can reach it");
    for (what, id) in [
        ("another person's", another_person),
        ("another user's", another_user),
        ("one with an account", with_account),
        ("the new one", new),
    ] {
        assert!(store.get(id).await.unwrap().is_some(), "{what} stays");
    }
}

/// The count tells the caller when to revoke the grant.
pub async fn disconnecting_counts_the_others(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 3).await;
    let ids: Vec<_> = connected.accounts.iter().map(|account| account.id).collect();
    let disconnect = |user, id| async move { store.disconnect_account(user, id, secs(1)).await.unwrap() };
    assert_eq!(disconnect(UserId::new(), ids[0]).await, None, "not yours");
    assert_eq!(disconnect(connected.user, AccountId::new()).await, None);
    assert_eq!(store.accounts(connected.user).await.unwrap().len(), 3);
    assert_eq!(disconnect(connected.user, ids[0]).await, Some(2));
    assert_eq!(disconnect(connected.user, ids[0]).await, Some(2), "again changes nothing");
    let listed: Vec<_> = store.accounts(connected.user).await.unwrap().iter().map(|account| account.id).collect();
    assert!(listed.len() == 2 && !listed.contains(&ids[0]));
    assert_eq!(store.account(connected.user, ids[0]).await.unwrap().unwrap().status, AccountStatus::Disconnected);
    assert_eq!(disconnect(connected.user, ids[1]).await, Some(1));
    assert_eq!(disconnect(connected.user, ids[2]).await, Some(0));
    assert!(
        store.get(connected.connection.id).await.unwrap().is_some(),
        "the grant is the caller's to revoke and erase"
    );
}

/// Without a grant nothing can be posted, and the account says so.
pub async fn a_connection_that_is_erased_disconnects_its_accounts(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, other) = (connect(store, user, &X, 2).await, connect(store, user, &LINKEDIN, 1).await);
    assert!(store.delete(x.connection.id).await.unwrap());
    assert_eq!(store.accounts(user).await.unwrap(), other.accounts);
    for account in &x.accounts {
        assert_eq!(store.account(user, account.id).await.unwrap().unwrap().status, AccountStatus::Disconnected);
    }
}

/// Accounts of a connection that is not there are refused.
pub async fn accounts_need_a_connection(sut: StoreUnderTest) {
    let error =
        sut.store.save_accounts(ConnectionId::new(), &[profile(0)], AccountStatus::Active, t0()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
}

/// S7: every method that takes a user, asked by another user who knows all ids.
pub async fn a_user_sees_only_what_is_theirs(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (owner, stranger) = (connect(store, UserId::new(), &X, 1).await, connect(store, UserId::new(), &X, 1).await);
    let new = schedule(store, owner.user, &owner.accounts, t0()).await;
    let media = image();
    store.insert_media(owner.user, &media, t0()).await.unwrap();
    let (user, account, post, delivery) = (stranger.user, owner.accounts[0].id, new.post.id, new.deliveries[0].id);
    let page = PageRequest::default();
    let seen = store.post(owner.user, post).await.unwrap().unwrap();
    let mine = store.logs(owner.user, &LogFilter::default(), &page).await.unwrap().items;
    assert_eq!((mine.len(), mine[0].delivery), (1, delivery));

    assert_eq!(store.accounts(user).await.unwrap(), stranger.accounts);
    assert_eq!(store.account(user, account).await.unwrap(), None);
    assert_eq!(store.connections(user).await.unwrap(), std::slice::from_ref(&stranger.connection));
    assert_eq!(store.disconnect_account(user, account, t0()).await.unwrap(), None);
    assert_eq!(store.post(user, post).await.unwrap(), None);
    assert_eq!(store.delivery(user, delivery).await.unwrap(), None);
    assert_eq!(store.posts(user, &PostFilter::default(), &page).await.unwrap().items, []);
    let filter = PostFilter { account: Some(account), ..PostFilter::default() };
    assert_eq!(store.posts(user, &filter, &page).await.unwrap().items, []);
    for filter in [
        LogFilter::default(),
        LogFilter { post: Some(post), ..LogFilter::default() },
        LogFilter { delivery: Some(delivery), ..LogFilter::default() },
    ] {
        assert_eq!(store.logs(user, &filter, &page).await.unwrap().items, []);
    }
    store.append_log(delivery, &entry("looked", secs(1))).await.unwrap();
    assert_eq!(store.logs_since(user, Some(mine[0].id), 10).await.unwrap(), []);
    assert_eq!(store.logs_since(owner.user, Some(mine[0].id), 10).await.unwrap().len(), 1);
    assert_eq!(store.media(user, media.id).await.unwrap(), None);
    assert_eq!(store.media_bytes(user).await.unwrap(), 0);
    let edit = Edit {
        post,
        seen: vec![(delivery, seen.1[0].epoch)],
        draft: draft(),
        scheduled_at: secs(99),
        wall: None,
        log: entry("edited", t0()),
        now: t0(),
    };
    assert!(!store.edit_post(user, &edit).await.unwrap());
    let foreign = new_post(user, &owner.accounts, t0());
    assert_eq!(
        store.insert_post(&foreign).await.unwrap_err().kind(),
        ErrorKind::Storage,
        "a post to somebody else's account"
    );

    assert_eq!(store.post(owner.user, post).await.unwrap().unwrap(), seen, "and the owner's post is as it was");
    assert_eq!(store.account(owner.user, account).await.unwrap().unwrap(), owner.accounts[0]);
    assert_eq!(store.post(user, PostId::new()).await.unwrap(), None);
    assert_eq!(store.delivery(owner.user, DeliveryId::new()).await.unwrap(), None);
    assert_eq!(store.media(owner.user, MediaId::new()).await.unwrap(), None);
}

/// O1: of 32 callbacks with one state exactly one gets the record, whole; nobody gets it again.
pub async fn a_pending_record_is_taken_once(sut: StoreUnderTest) {
    let store = &*sut.store;
    for round in 0..5_u8 {
        let row = pending([round; 32], UserId::new(), 600).await;
        store.insert_pending(&row).await.unwrap();
        assert_eq!(store.insert_pending(&row).await.unwrap_err().kind(), ErrorKind::Storage, "a key is used once");
        let takers = (0..32).map(|number| {
            let store = sut.handle(number);
            async move { store.take_pending(&[round; 32], secs(5)).await.unwrap() }
        });
        let got: Vec<_> = at_once(takers).await.into_iter().flatten().collect();
        assert_eq!(got.len(), 1, "round {round}");
        let one = &got[0];
        assert_eq!(
            (one.key, one.user, &one.platform, &one.sealed, one.expires_at),
            (row.key, row.user, &row.platform, &row.sealed, row.expires_at)
        );
        assert!(store.take_pending(&[round; 32], secs(5)).await.unwrap().is_none(), "a replay");
    }
    assert!(store.take_pending(&[99; 32], secs(5)).await.unwrap().is_none(), "never stored");
}

/// Nobody takes a record after its end, and purging forgets exactly what ended before.
pub async fn a_pending_record_ends(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    for (key, life) in [(1, 600), (2, 600), (3, 300), (4, 301), (5, 900)] {
        store.insert_pending(&pending([key; 32], user, life).await).await.unwrap();
    }
    assert!(store.take_pending(&[1; 32], micros_after(secs(600), -1)).await.unwrap().is_some(), "just in time");
    assert!(store.take_pending(&[2; 32], micros_after(secs(600), 1)).await.unwrap().is_none(), "too late");
    assert_eq!(store.purge_pending(secs(301)).await.unwrap(), 1);
    assert_eq!(store.purge_pending(secs(301)).await.unwrap(), 0);
    assert!(store.take_pending(&[3; 32], t0()).await.unwrap().is_none(), "forgotten");
    assert!(store.take_pending(&[4; 32], t0()).await.unwrap().is_some());
    assert!(store.take_pending(&[5; 32], t0()).await.unwrap().is_some());
}

async fn pending(key: [u8; 32], user: UserId, life: i64) -> PendingRow {
    let NewConnection { connection, .. } = new_connection(user, &X).await;
    let place = crate::fixtures::binding(&connection, Version(0));
    let sealed = vault().for_purpose(Purpose::Pending).seal(&place, b"a verifier").await.unwrap();
    PendingRow { key, user, platform: X, sealed: sealed.into_bytes(), expires_at: secs(life) }
}
