//! What is at rest: ciphertext only, everything after reopening, texts to the letter, times to the microsecond.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use social_core::{
    account::{AccountProfile, AccountStatus, Version},
    crypto,
    draft::Draft,
    id::UserId,
    phase::{Checkpoint, Phase, PhaseName, RemotePost},
    store::{
        ApiKey, ErrorPatch, Held, Idempotent, Insert, LogFilter, PageRequest, PendingRow, PhaseWrite, PostFilter,
        RefreshLease, SealedTokens, Swap, WallTime,
    },
    vault::Purpose,
};

use super::{StoreUnderTest, claim, claimed_one, history, ids, lease, read, record, release};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{
        UNICODE, X, binding, connect, image, new_connection, new_post, old_vault, profile, schedule, tokens, user,
        vault, write,
    },
    secrets::{Marker, assert_clean, scan_bytes},
};

/// T6: planted tokens, sealed as the project seals them, are nowhere at rest, in no encoding.
pub async fn only_ciphertext_is_at_rest(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (owner, vault) = (user("scan@example.org"), vault());
    assert!(store.insert_user(&owner).await.unwrap());
    let mut new = new_connection(owner.id, &X).await;
    let id = new.connection.id;
    let seal = |vault: social_core::vault::Vault, version| {
        let connection = new.connection.clone();
        async move {
            let mut plain = tokens(&Marker::new("access"), &Marker::new("refresh"));
            plain.extras.insert("dpop".to_owned(), Marker::new("extra").value().to_owned());
            let plain = plain.to_plain();
            assert!(!scan_bytes(&plain).is_empty(), "the markers are in what is sealed");
            SealedTokens(vault.seal(&binding(&connection, version), &plain).await.unwrap())
        }
    };
    let (old, next) = (seal(old_vault(), Version::FIRST).await, seal(vault.clone(), Version(2)).await);
    let rewrapped =
        SealedTokens(vault.rewrap(&binding(&new.connection, Version::FIRST), &old.0).await.unwrap().unwrap());
    new.tokens = old.clone();
    store.insert(&new).await.unwrap();
    assert_eq!(store.rewrap(id, Version::FIRST, &old, &rewrapped).await.unwrap(), Swap::Done);
    let update = crate::fixtures::token_update(&new.connection, Version::FIRST, secs(1)).await;
    let update = social_core::store::TokenUpdate { tokens: next, ..update };
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);

    let place = binding(&new.connection, Version(0));
    let verifier =
        vault.for_purpose(Purpose::Pending).seal(&place, Marker::new("verifier").value().as_bytes()).await.unwrap();
    let state = crypto::sha256(Marker::new("state").value().as_bytes());
    let away =
        PendingRow { key: state, user: owner.id, platform: X, sealed: verifier.into_bytes(), expires_at: secs(600) };
    store.insert_pending(&away).await.unwrap();
    let answer =
        vault.for_purpose(Purpose::Idempotency).seal(&place, Marker::new("answer").value().as_bytes()).await.unwrap();
    let fingerprint = crypto::sha256(Marker::new("body").value().as_bytes());
    let _ = store.begin_idempotent(owner.id, "key", fingerprint, t0(), secs(-60)).await.unwrap();
    store.finish_idempotent(owner.id, "key", Some((201, answer.as_bytes()))).await.unwrap();
    let key = ApiKey {
        id: uuid::Uuid::now_v7(),
        user: owner.id,
        name: "ci".to_owned(),
        hash: crypto::sha256(Marker::new("api-key").value().as_bytes()),
        scopes: Vec::new(),
        created_at: t0(),
        expires_at: None,
        last_used_at: None,
    };
    store.insert_key(&key).await.unwrap();
    store.insert_canary("new", vault.canary("new").await.unwrap().as_bytes()).await.unwrap();
    let accounts = store.save_accounts(id, &[profile(1)], AccountStatus::Active, t0()).await.unwrap();
    schedule(store, owner.id, &accounts, t0()).await;

    let at_rest = (sut.dump)().await;
    let text = crate::fixtures::draft().text;
    assert!(at_rest.windows(text.len()).any(|window| window == text.as_bytes()), "the dump shows what is at rest");
    assert_clean("what is at rest", &at_rest);
    assert_clean("the store's own Debug", format!("{:?} {}", sut.store, sut.store.describe()));
    let taken = store.take_pending(&state, t0()).await.unwrap().unwrap();
    assert_clean("a pending record's Debug", format!("{taken:?} {:?}", store.get(id).await.unwrap()));
}

/// E1: what was confirmed is there after the process ended: posts, leases, epochs, tokens, keys, everything.
pub async fn everything_is_there_after_reopening(mut sut: StoreUnderTest) {
    let Some(reopen) = sut.reopen.take() else {
        eprintln!("skipped: this store cannot be opened again");
        return;
    };
    let store = &*sut.store;
    let owner = user("durable@example.org");
    assert!(store.insert_user(&owner).await.unwrap());
    let connected = connect(store, owner.id, &X, 3).await;
    let id = connected.connection.id;
    assert_eq!(store.lease_refresh(id, Version::FIRST, t0(), secs(60), true).await.unwrap(), RefreshLease::Won);
    store.disconnect_account(owner.id, connected.accounts[2].id, t0()).await.unwrap();
    let mut new = new_post(owner.id, &connected.accounts[..2], t0());
    new.idempotency = Some(("key".to_owned(), [1; 32]));
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
    let claimed = claim(store, "a", t0(), 2).await;
    let ready = write(&claimed[0].delivery, PhaseName::Committing, secs(1));
    assert_eq!(
        record(store, PhaseWrite { part: Some(RemotePost::unknown()), committing_since: Some(secs(1)), ..ready }).await,
        Held::Yes
    );
    let media = image();
    store.insert_media(owner.id, &media, t0()).await.unwrap();
    let _ = store.begin_idempotent(owner.id, "done", [1; 32], t0(), secs(-60)).await.unwrap();
    store.finish_idempotent(owner.id, "done", Some((201, b"body"))).await.unwrap();
    store.insert_canary("new", b"proof").await.unwrap();
    let away = PendingRow { key: [5; 32], user: owner.id, platform: X, sealed: vec![1, 2, 3], expires_at: secs(600) };
    store.insert_pending(&away).await.unwrap();

    let page = PageRequest::default();
    let before = (
        store.get(id).await.unwrap().unwrap(),
        store.accounts(owner.id).await.unwrap(),
        store.posts(owner.id, &PostFilter::default(), &page).await.unwrap(),
        store.logs(owner.id, &LogFilter::default(), &page).await.unwrap(),
    );
    drop(sut.store);
    drop(sut.second);
    let store = &*reopen().await;

    let stored = store.get(id).await.unwrap().unwrap();
    assert_eq!((&stored.connection, &stored.tokens), (&before.0.connection, &before.0.tokens));
    assert_eq!((stored.refresh_lease_until, stored.refresh_intent_at), (Some(secs(60)), Some(t0())));
    assert_eq!(store.accounts(owner.id).await.unwrap(), before.1);
    assert_eq!(
        store.account(owner.id, connected.accounts[2].id).await.unwrap().unwrap().status,
        AccountStatus::Disconnected
    );
    assert_eq!(store.posts(owner.id, &PostFilter::default(), &page).await.unwrap(), before.2);
    assert_eq!(store.logs(owner.id, &LogFilter::default(), &page).await.unwrap(), before.3);
    assert_eq!(store.user(owner.id).await.unwrap(), Some(owner.clone()));
    assert_eq!(store.media(owner.id, media.id).await.unwrap(), Some(media));
    let done = store.begin_idempotent(owner.id, "done", [1; 32], secs(5), secs(-60)).await.unwrap();
    assert_eq!(done, Idempotent::Done { status: 201, body: b"body".to_vec() });
    assert_eq!(store.canaries().await.unwrap(), [("new".to_owned(), b"proof".to_vec())]);
    assert_eq!(store.take_pending(&[5; 32], t0()).await.unwrap().unwrap().sealed, [1, 2, 3]);
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Existing(new.post.id));

    assert_eq!(claim(store, "b", secs(30), 10).await.len(), 0, "leases outlive the process");
    assert_eq!(store.renew(&[lease(&claimed[1].delivery)], secs(90)).await.unwrap(), [Held::Yes], "and so do epochs");
    assert_eq!(store.reclaim(secs(3600)).await.unwrap(), 2);
    let found = read(store, owner.id, claimed[0].delivery.id).await;
    assert!(
        matches!(found.phase, Phase::Committing { .. }),
        "a visible call in doubt stays in doubt: {:?}",
        found.phase
    );
    assert_eq!((found.crashes, found.parts.len(), found.committing_since), (1, 1, Some(secs(1))));
}

/// Emoji, right-to-left, combining, quotes, wildcards, line ends and long texts, wherever a text can be.
pub async fn texts_come_back_to_the_letter(sut: StoreUnderTest) {
    let store = &*sut.store;
    let long = "長い ".repeat(20_000);
    for (number, text) in [UNICODE, "", " ", "'); DROP TABLE posts; --", "\\u0041\\\\\"\"", "\u{1}\u{7f}\u{85}", &long]
        .into_iter()
        .enumerate()
    {
        let mut new = new_connection(UserId::new(), &X).await;
        let owner = new.connection.user;
        new.connection.preset = text.to_owned();
        new.connection.requested_scopes = vec![text.to_owned(), "b".into()];
        new.remote_user = text.to_owned();
        store.insert(&new).await.unwrap();
        let told = AccountProfile {
            remote_id: format!("{number}{}", if text.len() < 1000 { text } else { "" }),
            handle: Some(text.to_owned()),
            display_name: text.to_owned(),
            avatar_url: Some(text.to_owned()),
            attributes: BTreeMap::from([(text.to_owned(), text.to_owned())]),
            ..profile(number)
        };
        let accounts = store
            .save_accounts(new.connection.id, std::slice::from_ref(&told), AccountStatus::Active, t0())
            .await
            .unwrap();
        assert_eq!(store.accounts(owner).await.unwrap()[0].profile, told, "text {number}");
        assert_eq!(store.connections(owner).await.unwrap(), [new.connection]);

        let mut post = new_post(owner, &accounts, t0());
        post.post.draft = Draft::text(text).then(text).first_comment(text).option(X, json!({ text: [text] }));
        post.post.wall = Some(WallTime { local_time: text.to_owned(), time_zone: text.to_owned() });
        post.idempotency = Some((if text.len() < 1000 { text } else { "long" }.to_owned(), [0; 32]));
        assert_eq!(store.insert_post(&post).await.unwrap(), Insert::Stored);
        assert_eq!(store.insert_post(&post).await.unwrap(), Insert::Existing(post.post.id));
        assert_eq!(store.post(owner, post.post.id).await.unwrap().unwrap().0, post.post, "text {number}");

        let delivery = claim(store, text, t0(), 1).await.remove(0).delivery;
        assert_eq!(ids(&claim(&*sut.second, text, t0(), 1).await), []);
        let mut wrote = release(write(&delivery, PhaseName::Retrying, secs(1)));
        wrote.wake_at = None;
        wrote.checkpoint = Some(Checkpoint::write(1, &json!({ "text": text, "n": i64::MAX, "f": 0.1 })));
        wrote.part = Some(RemotePost::new(text, text));
        wrote.error = ErrorPatch::Set(text.to_owned());
        wrote.log.response = json!({ text: text, "list": [text, 1.25, u64::MAX, i64::MIN, {}, []] });
        wrote.log.event = format!("event {}", text.chars().take(20).collect::<String>());
        assert_eq!(record(store, wrote.clone()).await, Held::Yes);
        let row = read(store, owner, delivery.id).await;
        assert_eq!(row.phase, Phase::Retrying { at: wrote.checkpoint.clone() }, "text {number}");
        assert_eq!((row.parts, row.error.as_deref()), (vec![RemotePost::new(text, text)], Some(text)));
        let last = history(store, owner, delivery.id).await.pop().unwrap();
        assert_eq!((last.response, last.event), (wrote.log.response, wrote.log.event), "text {number}");
        let one = social_core::store::User { plan: text.to_owned(), ..user(&format!("{number}@example.org")) };
        assert!(store.insert_user(&one).await.unwrap());
        assert_eq!(store.user(one.id).await.unwrap(), Some(one));
    }
}

/// From long ago to the end of time, to the microsecond, in every order that the store keeps.
pub async fn far_times_come_back_to_the_microsecond(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 1).await;
    let times: Vec<Timestamp> = [
        "1901-02-03T04:05:06.000001Z",
        "1969-12-31T23:59:59.999999Z",
        "2026-06-01T12:00:00.123456Z",
        "2038-01-19T03:14:08Z",
        "9999-12-29T23:59:59.999999Z",
    ]
    .map(|raw| raw.parse().unwrap())
    .to_vec();
    for at in times.iter().rev() {
        let mut new = new_post(connected.user, &connected.accounts, *at);
        (new.post.created_at, new.post.updated_at) = (*at, *at);
        assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
        let (post, rows) = store.post(connected.user, new.post.id).await.unwrap().unwrap();
        assert_eq!((post, rows[0].due_at, rows[0].wake_at), (new.post, *at, Some(*at)));
    }
    assert_eq!(store.next_due(&[X]).await.unwrap(), [(X, times[0])]);
    let page =
        store.posts(connected.user, &PostFilter::default(), &PageRequest { after: None, limit: 2 }).await.unwrap();
    assert_eq!(page.items.iter().map(|(post, _)| post.scheduled_at).collect::<Vec<_>>(), [times[4], times[3]]);
    let page =
        store.posts(connected.user, &PostFilter::default(), &PageRequest { after: page.next, limit: 9 }).await.unwrap();
    assert_eq!(
        page.items.iter().map(|(post, _)| post.scheduled_at).collect::<Vec<_>>(),
        [times[2], times[1], times[0]]
    );
    for at in &times {
        assert_eq!(claim(store, "a", micros_after(*at, -1), 9).await.len(), 0);
        let claimed = claim(store, "a", *at, 9).await;
        assert_eq!(claimed.iter().map(|one| one.delivery.due_at).collect::<Vec<_>>(), [*at]);
        let mut wrote = release(write(&claimed[0].delivery, PhaseName::Published, *at));
        wrote.committing_since = Some(*at);
        assert_eq!(record(store, wrote).await, Held::Yes);
        let row = read(store, connected.user, claimed[0].delivery.id).await;
        assert_eq!((row.published_at, row.committing_since, row.updated_at), (Some(*at), Some(*at), *at));
        assert_eq!(history(store, connected.user, row.id).await[1].created_at, *at);
    }
    let (_, held) = claimed_one(store, "b").await;
    assert_eq!(store.renew(&[lease(&held)], times[4]).await.unwrap(), [Held::Yes]);
    assert_eq!(store.reclaim(times[4]).await.unwrap(), 0);
    assert_eq!(store.reclaim(Timestamp::MAX).await.unwrap(), 1);
    let id = connected.connection.id;
    assert_eq!(store.lease_refresh(id, Version::FIRST, times[0], times[4], true).await.unwrap(), RefreshLease::Won);
    let stored = store.get(id).await.unwrap().unwrap();
    assert_eq!((stored.refresh_lease_until, stored.refresh_intent_at), (Some(times[4]), Some(times[0])));
    let mut update = crate::fixtures::token_update(&connected.connection, Version::FIRST, times[0]).await;
    (update.expires_at, update.refresh_expires_at) = (Some(times[0]), Some(times[4]));
    assert_eq!(store.replace(id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    let connection = store.get(id).await.unwrap().unwrap().connection;
    assert_eq!(
        (connection.expires_at, connection.refresh_expires_at, connection.updated_at),
        (Some(times[0]), Some(times[4]), times[0])
    );
    assert!(store.expiring(times[1], None, 10).await.unwrap().iter().any(|(_, found)| *found == id));
}
