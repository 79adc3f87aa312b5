//! Users, keys, idempotent requests, proofs of master keys, media.

use social_core::{
    account::Version,
    draft::StoredMedia,
    error::ErrorKind,
    id::{MediaId, UserId},
    phase::PhaseName,
    store::{ApiKey, Held, Idempotent, PageRequest, Swap, User},
};
use uuid::Uuid;

use super::{StoreUnderTest, at_once};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{X, connect, image, token_update, user, vault, video},
};

/// One user per address, listed in the order of their making.
pub async fn users_have_an_address_of_their_own(sut: StoreUnderTest) {
    let store = &*sut.store;
    let mut users = Vec::new();
    for number in 0..7_i64 {
        let one = User {
            plan: format!("plan {number}"),
            created_at: secs(number / 2),
            ..user(&format!("u{number}@example.org"))
        };
        assert!(store.insert_user(&one).await.unwrap());
        users.push(one);
    }
    assert!(!store.insert_user(&user("u3@example.org")).await.unwrap(), "taken");
    for one in &users {
        assert_eq!(sut.second.user(one.id).await.unwrap().as_ref(), Some(one));
    }
    assert_eq!(store.user(UserId::new()).await.unwrap(), None);
    users.sort_by_key(|user| (user.created_at, user.id));
    for limit in [1, 3, 7, 50] {
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..10 {
            let page = store.users(&PageRequest { after, limit }).await.unwrap();
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found, after), (users.clone(), None), "pages of {limit}");
    }
    let bad = store.users(&PageRequest { after: Some("nonsense".to_owned()), limit: 5 }).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Invalid);
    let races = (0..16).map(|number| {
        let (store, one) = (sut.handle(number), user("race@example.org"));
        async move { store.insert_user(&one).await.unwrap() }
    });
    assert_eq!(at_once(races).await.into_iter().filter(|made| *made).count(), 1, "one of sixteen gets the address");
}

/// A key is kept as its hash, with what it may do; its last use is noted; it is forgotten once.
pub async fn keys_are_kept_and_forgotten(sut: StoreUnderTest) {
    let store = &*sut.store;
    let owner = user("keys@example.org");
    assert!(store.insert_user(&owner).await.unwrap());
    let bare = ApiKey {
        id: Uuid::now_v7(),
        user: owner.id,
        name: String::new(),
        hash: [0; 32],
        scopes: Vec::new(),
        created_at: t0(),
        expires_at: None,
        last_used_at: None,
    };
    let full = ApiKey {
        id: Uuid::now_v7(),
        name: "deploy 🚀".to_owned(),
        hash: std::array::from_fn(|n| u8::try_from(n * 8).unwrap()),
        scopes: vec!["posts:write".into(), "accounts:read".into()],
        created_at: micros_after(t0(), 1),
        expires_at: Some(secs(1000)),
        ..bare.clone()
    };
    for key in [&bare, &full] {
        store.insert_key(key).await.unwrap();
        assert_eq!(sut.second.key(key.id).await.unwrap().as_ref(), Some(key));
        assert_eq!(store.insert_key(key).await.unwrap_err().kind(), ErrorKind::Storage, "an id is used once");
    }
    store.touch_key(full.id, secs(5)).await.unwrap();
    assert_eq!(store.key(full.id).await.unwrap().unwrap().last_used_at, Some(secs(5)));
    store.touch_key(full.id, secs(86_400)).await.unwrap();
    assert_eq!(store.key(full.id).await.unwrap().unwrap(), ApiKey { last_used_at: Some(secs(86_400)), ..full.clone() });
    assert_eq!(store.key(bare.id).await.unwrap().unwrap().last_used_at, None);
    store.touch_key(Uuid::now_v7(), secs(5)).await.unwrap();
    assert!(store.delete_key(full.id).await.unwrap());
    assert!(!store.delete_key(full.id).await.unwrap());
    assert_eq!(store.key(full.id).await.unwrap(), None);
    assert_eq!(store.key(bare.id).await.unwrap(), Some(bare));
}

/// R8: of a hundred parallel requests with one key, one is to be worked on.
pub async fn of_many_equal_requests_one_is_fresh(sut: StoreUnderTest) {
    for round in 0..3 {
        let asker = UserId::new();
        let requests =
            (0..100).map(|number| {
                let store = sut.handle(number);
                async move {
                    store.begin_idempotent(asker, &format!("key {round}"), [1; 32], t0(), secs(-60)).await.unwrap()
                }
            });
        let answers = at_once(requests).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Idempotent::Fresh).count(), 1, "round {round}");
        assert_eq!(answers.iter().filter(|answer| **answer == Idempotent::InFlight).count(), 99);
    }
}

/// The stored answer is given again, another body is a mismatch, and keys belong to their user.
pub async fn an_idempotent_request_is_answered_again(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (one, two) = (UserId::new(), UserId::new());
    let begin = |user, key: &'static str, print: u8| async move {
        store.begin_idempotent(user, key, [print; 32], secs(1), secs(-60)).await.unwrap()
    };
    assert_eq!(begin(one, "k", 1).await, Idempotent::Fresh);
    assert_eq!(begin(one, "k", 2).await, Idempotent::Mismatch, "still running, another body");
    assert_eq!(begin(two, "k", 2).await, Idempotent::Fresh, "another user");
    assert_eq!(begin(one, "K", 2).await, Idempotent::Fresh, "another key");
    let body: Vec<u8> = (0..=255).collect();
    store.finish_idempotent(one, "k", Some((201, &body))).await.unwrap();
    let done = Idempotent::Done { status: 201, body };
    assert_eq!(begin(one, "k", 1).await, done);
    assert_eq!(begin(one, "k", 1).await, done);
    assert_eq!(begin(one, "k", 2).await, Idempotent::Mismatch);
    assert_eq!(begin(two, "k", 2).await, Idempotent::InFlight, "the other user's is not finished");
    store.finish_idempotent(two, "k", None).await.unwrap();
    assert_eq!(begin(two, "k", 3).await, Idempotent::Fresh, "forgotten: it may be tried again, with any body");
    store.finish_idempotent(one, "K", Some((422, b""))).await.unwrap();
    assert_eq!(begin(one, "K", 2).await, Idempotent::Done { status: 422, body: Vec::new() });
    store.finish_idempotent(one, "never begun", Some((200, b"x"))).await.unwrap();
    assert_eq!(begin(one, "never begun", 1).await, Idempotent::Fresh);
}

/// A server that died does not block a key for ever; an answer never goes stale, it is purged.
pub async fn a_request_that_was_never_finished_goes_stale(sut: StoreUnderTest) {
    let store = &*sut.store;
    let asker = UserId::new();
    let begin = |key: &'static str, now, stale| async move {
        store.begin_idempotent(asker, key, [1; 32], secs(now), secs(stale)).await.unwrap()
    };
    assert_eq!(begin("dead", 0, -60).await, Idempotent::Fresh);
    assert_eq!(begin("done", 0, -60).await, Idempotent::Fresh);
    store.finish_idempotent(asker, "done", Some((200, b"ok"))).await.unwrap();
    assert_eq!(begin("dead", 59, -1).await, Idempotent::InFlight);
    assert_eq!(begin("dead", 61, 1).await, Idempotent::Fresh, "taken over");
    assert_eq!(begin("dead", 62, 2).await, Idempotent::InFlight, "by one");
    assert_eq!(begin("done", 61, 1).await, Idempotent::Done { status: 200, body: b"ok".to_vec() });
    assert_eq!(store.purge_idempotent(secs(30)).await.unwrap(), 1, "begun before");
    assert_eq!(store.purge_idempotent(secs(30)).await.unwrap(), 0);
    assert_eq!(begin("done", 100, 40).await, Idempotent::Fresh, "purged");
    assert_eq!(begin("dead", 100, 40).await, Idempotent::InFlight, "not purged");
}

/// T4: another key under an old name must not replace the proof that would unmask it.
pub async fn the_first_proof_of_a_key_stays(sut: StoreUnderTest) {
    let store = &*sut.store;
    assert_eq!(store.canaries().await.unwrap(), []);
    let vault = vault();
    let (new, old, impostor) =
        (vault.canary("new").await.unwrap(), vault.canary("old").await.unwrap(), vault.canary("new").await.unwrap());
    assert_ne!(new, impostor);
    store.insert_canary("new", new.as_bytes()).await.unwrap();
    store.insert_canary("old", old.as_bytes()).await.unwrap();
    let _ = sut.second.insert_canary("new", impostor.as_bytes()).await;
    let mut found = store.canaries().await.unwrap();
    found.sort();
    assert_eq!(found, [("new".to_owned(), new.into_bytes()), ("old".into(), old.into_bytes())]);
}

/// What was found in files, and how much they take together, per user.
pub async fn media_belong_to_their_user(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (one, two) = (UserId::new(), UserId::new());
    let (picture, film) = (image(), video());
    assert_eq!(store.media_bytes(one).await.unwrap(), 0);
    let bare = StoredMedia {
        id: MediaId::new(),
        facts: social_core::media::MediaFacts {
            width: None,
            height: None,
            sha256: None,
            size_bytes: 0,
            ..picture.facts.clone()
        },
    };
    for media in [&picture, &film, &bare] {
        store.insert_media(one, media, t0()).await.unwrap();
        assert_eq!(sut.second.media(one, media.id).await.unwrap().as_ref(), Some(media));
        assert_eq!(store.media(two, media.id).await.unwrap(), None);
    }
    store.insert_media(two, &StoredMedia { id: MediaId::new(), ..picture.clone() }, t0()).await.unwrap();
    assert_eq!(store.media_bytes(one).await.unwrap(), picture.facts.size_bytes + film.facts.size_bytes);
    assert_eq!(store.media_bytes(two).await.unwrap(), picture.facts.size_bytes);
    assert_eq!(
        store.insert_media(two, &picture, t0()).await.unwrap_err().kind(),
        ErrorKind::Storage,
        "an id is used once"
    );
    assert_eq!(store.media(one, picture.id).await.unwrap(), Some(picture));
}

/// A store can be checked and described, without a password or a path of its address.
pub async fn a_store_says_what_it_is(sut: StoreUnderTest) {
    sut.store.check().await.unwrap();
    let said = sut.store.describe();
    assert!(!said.is_empty() && said.len() < 200, "{said:?}");
    assert!(!said.contains("://") && !said.contains('@'), "{said:?}");
    let offset = sut.store.clock_offset(social_core::Clock::now(&social_core::SystemClock::new())).await.unwrap();
    assert!(offset.as_secs().abs() < 60, "the clock of this machine is the store's: {offset}");
}

/// P3: the history goes in portions, the oldest first; files are listed by age and forgotten; replaced ciphertext is erased.
pub async fn what_is_old_is_forgotten_in_portions(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = super::claimed_one(store, "a").await;
    for second in 1..=9 {
        let write = crate::fixtures::write(&held, PhaseName::Preparing, secs(second));
        assert_eq!(super::record(store, write).await, Held::Yes);
    }
    let (mut portions, first) = (Vec::new(), super::history(store, user, held.id).await[0].created_at);
    assert!(first < secs(1));
    loop {
        portions.push(store.forget_history(secs(8), 3).await.unwrap());
        if portions.last() == Some(&0) {
            break;
        }
    }
    assert_eq!(portions, [3, 3, 2, 0], "scheduled and seven writes");
    let left: Vec<_> = super::history(store, user, held.id).await.iter().map(|row| row.created_at).collect();
    assert_eq!(left, [secs(8), secs(9)]);
    assert_eq!(super::read(store, user, held.id).await.phase.name(), PhaseName::Preparing, "deliveries stay");

    let files = [image(), image(), image()];
    for (second, file) in files.iter().enumerate() {
        store.insert_media(user, file, secs(second as i64)).await.unwrap();
    }
    let mut old = store.old_media(secs(2), None, 1).await.unwrap();
    let place = old[0].1;
    old.extend(store.old_media(secs(2), Some(place), 9).await.unwrap());
    let mut expected = vec![(user, files[0].id), (user, files[1].id)];
    expected.sort_by_key(|(_, id)| *id);
    assert_eq!(old, expected);
    assert!(!store.delete_media(UserId::new(), files[0].id).await.unwrap(), "a stranger's file stays");
    assert!(store.delete_media(user, files[0].id).await.unwrap());
    assert!(!store.delete_media(user, files[0].id).await.unwrap());
    assert_eq!(store.media(user, files[0].id).await.unwrap(), None);

    let connected = connect(store, user, &X, 1).await;
    let update = token_update(&connected.connection, Version::FIRST, secs(10)).await;
    assert_eq!(store.replace(connected.connection.id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    for (before, erased) in [(10, 0), (11, 1), (11, 0)] {
        assert_eq!(store.forget_replaced_tokens(secs(before)).await.unwrap(), erased);
    }
    assert_eq!(store.get(connected.connection.id).await.unwrap().unwrap().tokens, update.tokens);
}
