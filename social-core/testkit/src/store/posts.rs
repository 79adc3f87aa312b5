//! Posts: stored once, whole, listed in pages, edited.

use std::time::Duration;

use jiff::Timestamp;
use social_core::{
    error::ErrorKind,
    id::{AccountId, PostId, UserId},
    phase::{Phase, PhaseName},
    store::{Delivery, Edit, ErrorPatch, Held, Insert, Page, PageRequest, Post, PostFilter, PostStatus, Store},
};

use super::{StoreUnderTest, at_once, claim, due_now, events, history, ids, lease, read, record, release};
use crate::{
    clock::{micros_after, secs, t0},
    fixtures::{LINKEDIN, X, connect, entry, full_draft, new_post, schedule, wall, write},
};

/// Every field, the deliveries in the order given, each scheduled for the post's time.
pub async fn a_post_comes_back_as_it_was_stored(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 3).await, connect(store, user, &LINKEDIN, 1).await);
    let accounts = [x.accounts[2].clone(), linkedin.accounts[0].clone(), x.accounts[0].clone()];
    let mut new = new_post(user, &accounts, micros_after(secs(600), 1));
    new.deliveries.reverse();
    new.late_limit = Duration::from_micros(90_000_001);
    new.post.draft = full_draft(accounts[0].id);
    new.post.wall = Some(wall());
    (new.post.created_at, new.post.updated_at) = (secs(1), secs(2));
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
    let (post, deliveries) = sut.second.post(user, new.post.id).await.unwrap().unwrap();
    assert_eq!(post, new.post);
    assert_eq!(deliveries.len(), 3);
    for (row, given) in deliveries.iter().zip(&new.deliveries) {
        let expected = Delivery {
            id: given.id,
            post: post.id,
            user,
            account: given.account,
            platform: given.platform.clone(),
            phase: Phase::Scheduled,
            attempt: 0,
            crashes: 0,
            epoch: row.epoch,
            due_at: post.scheduled_at,
            wake_at: Some(post.scheduled_at),
            late_limit: new.late_limit,
            committing_since: None,
            parts: Vec::new(),
            error: None,
            published_at: None,
            updated_at: row.updated_at,
        };
        assert_eq!(*row, expected);
        assert_eq!(read(store, user, given.id).await, expected);
    }
    assert_eq!(deliveries, new.scheduled(), "what scheduling answers is what is stored");
    assert_eq!(store.post(user, PostId::new()).await.unwrap(), None);
}

/// R8: a hundred parallel requests with one key and one body make one post with one set of deliveries.
pub async fn a_hundred_equal_requests_make_one_post(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    let requests = (0..100).map(|number| {
        let store = sut.handle(number);
        let mut new = new_post(connected.user, &connected.accounts, t0());
        new.idempotency = Some(("order-17".to_owned(), [7; 32]));
        async move { (new.post.id, store.insert_post(&new).await.unwrap()) }
    });
    let answers = at_once(requests).await;
    let stored: Vec<_> = answers.iter().filter(|(_, insert)| *insert == Insert::Stored).map(|(id, _)| *id).collect();
    assert_eq!(stored.len(), 1, "one of a hundred stores it");
    let existing = answers.iter().filter(|(_, insert)| *insert == Insert::Existing(stored[0])).count();
    assert_eq!(existing, 99, "the others hear of it: {answers:?}");
    let page = store.posts(connected.user, &PostFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(claim(store, "a", t0(), 100).await.len(), 2, "nothing of the others is left over");
}

/// The same key with something else is refused, even later; another user's key and no key are their own.
pub async fn a_key_used_for_something_else_is_a_conflict(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (one, two) = (connect(store, UserId::new(), &X, 1).await, connect(store, UserId::new(), &X, 1).await);
    let ask = |connected: &crate::fixtures::Connected, key: Option<(&str, u8)>| {
        let mut new = new_post(connected.user, &connected.accounts, t0());
        new.idempotency = key.map(|(key, print)| (key.to_owned(), [print; 32]));
        async move { (new.post.id, store.insert_post(&new).await.unwrap()) }
    };
    let (first, insert) = ask(&one, Some(("key", 1))).await;
    assert_eq!(insert, Insert::Stored);
    assert_eq!(ask(&one, Some(("key", 2))).await.1, Insert::KeyConflict);
    assert_eq!(ask(&one, Some(("key", 1))).await.1, Insert::Existing(first), "a conflict changes nothing");
    assert_eq!(ask(&one, Some(("Key", 1))).await.1, Insert::Stored, "keys are compared to the letter");
    assert_eq!(ask(&two, Some(("key", 1))).await.1, Insert::Stored, "another user");
    assert_eq!(ask(&one, None).await.1, Insert::Stored);
    assert_eq!(ask(&one, None).await.1, Insert::Stored);
    for one in claim(store, "a", t0(), 100).await {
        assert_eq!(record(store, release(write(&one.delivery, PhaseName::Published, t0()))).await, Held::Yes);
    }
    assert_eq!(ask(&one, Some(("key", 1))).await.1, Insert::Existing(first), "also when it is out");
    assert_eq!(store.posts(one.user, &PostFilter::default(), &PageRequest::default()).await.unwrap().items.len(), 4);
}

/// E1: post, deliveries, history and key are one step; what fails leaves nothing, and the key free.
pub async fn a_post_is_stored_whole_or_not_at_all(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 2).await;
    let good = schedule(store, connected.user, &connected.accounts, secs(60)).await;
    let fresh = || {
        let mut new = new_post(connected.user, &connected.accounts, t0());
        new.idempotency = Some(("key".to_owned(), [1; 32]));
        new
    };
    let (mut no_account, mut same_post, mut same_delivery) = (fresh(), fresh(), fresh());
    no_account.deliveries[1].account = AccountId::new();
    same_post.post.id = good.post.id;
    same_delivery.deliveries[1].id = good.deliveries[1].id;
    for (what, new) in
        [("an unknown account", no_account), ("a taken post id", same_post), ("a taken delivery id", same_delivery)]
    {
        let error = store.insert_post(&new).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Storage, "{what}");
        assert_eq!(store.delivery(connected.user, new.deliveries[0].id).await.unwrap(), None, "{what}");
        assert_eq!(claim(store, "a", t0(), 10).await.len(), 0, "{what}");
    }
    let rows =
        store.logs(connected.user, &social_core::store::LogFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(rows.items.len(), 2, "only the good one has a history");
    assert_eq!(store.post(connected.user, good.post.id).await.unwrap().unwrap().0, good.post);
    assert_eq!(store.insert_post(&fresh()).await.unwrap(), Insert::Stored, "the key was not used up");
}

/// Latest scheduled first, each exactly once, whatever the size of the page; equal times are no trouble.
pub async fn posts_come_latest_first_in_pages(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 1).await;
    for step in [5, 3, 9, 3, 3, 1, 9, 7, 3, 2, 8] {
        schedule(store, connected.user, &connected.accounts, secs(step)).await;
    }
    let whole = pages(store, connected.user, &PostFilter::default(), 200).await.concat();
    let times: Vec<_> = whole.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [9, 9, 8, 7, 5, 3, 3, 3, 3, 2, 1].map(secs));
    for limit in [1, 2, 3, 4, 10, 11, 12] {
        let pages = pages(store, connected.user, &PostFilter::default(), limit).await;
        assert_eq!(pages.len(), 11_usize.div_ceil(limit), "pages of {limit}, and no empty one at the end");
        assert_eq!(pages.concat(), whole, "pages of {limit}");
    }
    let nobody = store.posts(UserId::new(), &PostFilter::default(), &PageRequest::default()).await.unwrap();
    assert_eq!(nobody, Page { items: Vec::new(), next: None });
}

/// What was there when paging began is seen once, whatever arrives or is canceled meanwhile.
pub async fn pages_are_stable_while_posts_arrive(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 1).await;
    for step in 0..12 {
        schedule(store, connected.user, &connected.accounts, secs(step / 2)).await;
    }
    let before = pages(store, connected.user, &PostFilter::default(), 200).await.concat();
    let (mut seen, mut after, mut arrive) = (Vec::new(), None, 0);
    loop {
        let page = PageRequest { after, limit: 3 };
        let page = store.posts(connected.user, &PostFilter::default(), &page).await.unwrap();
        seen.extend(page.items.iter().map(|(post, _)| (post.scheduled_at, post.id)));
        after = page.next;
        if after.is_none() {
            break;
        }
        for at in [secs(-5), secs(2), secs(99), secs(3 + arrive)] {
            schedule(store, connected.user, &connected.accounts, at).await;
        }
        arrive += 1;
        assert!(arrive < 60, "paging does not end");
    }
    let old: Vec<_> = seen.iter().filter(|row| before.contains(row)).copied().collect();
    assert_eq!(old, before, "each of the first ones once, in order");
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing twice");
}

/// Status, network, account, from and to, alone and together.
pub async fn filters_choose_posts(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 3).await, connect(store, user, &LINKEDIN, 1).await);
    let all = [x.accounts[0].clone(), x.accounts[1].clone(), linkedin.accounts[0].clone()];
    let posts = [
        schedule(store, user, &all, secs(10)).await,
        schedule(store, user, &all[..1], secs(20)).await,
        schedule(store, user, &all[2..], secs(30)).await,
        schedule(store, user, &all[1..2], secs(40)).await,
    ];
    let id = |number: usize| posts[number].post.id;
    for one in claim(store, "a", secs(20), 10).await {
        let first = one.delivery.post == id(0);
        let phase = match () {
            () if !first => PhaseName::Failed,
            () if one.delivery.platform == LINKEDIN => PhaseName::Unconfirmed,
            () => PhaseName::Published,
        };
        assert_eq!(record(store, release(write(&one.delivery, phase, secs(21)))).await, Held::Yes);
    }
    let any = PostFilter::default;
    let on = |platform| PostFilter { platform: Some(platform), ..any() };
    let to = |account: &social_core::Account| PostFilter { account: Some(account.id), ..any() };
    let is = |status| PostFilter { status: Some(status), ..any() };
    let between = |from, to| PostFilter { from, to, ..any() };
    let cases: Vec<(&str, PostFilter, Vec<usize>)> = vec![
        ("all", any(), vec![3, 2, 1, 0]),
        ("on x", on(X), vec![3, 1, 0]),
        ("on linkedin", on(LINKEDIN), vec![2, 0]),
        ("to an account", to(&all[1]), vec![3, 0]),
        ("to an account without posts", to(&x.accounts[2]), vec![]),
        ("unconfirmed", is(PostStatus::Unconfirmed), vec![0]),
        ("failed", is(PostStatus::Failed), vec![1]),
        ("pending", is(PostStatus::Pending), vec![3, 2]),
        ("published", is(PostStatus::Published), vec![]),
        ("from", between(Some(secs(20)), None), vec![3, 2, 1]),
        ("to", between(None, Some(secs(30))), vec![1, 0]),
        ("from and to", between(Some(micros_after(secs(10), 1)), Some(micros_after(secs(30), 1))), vec![2, 1]),
        ("pending on x", PostFilter { status: Some(PostStatus::Pending), ..on(X) }, vec![3]),
        ("early to an account", PostFilter { to: Some(secs(20)), ..to(&all[1]) }, vec![0]),
    ];
    for (what, filter, expected) in cases {
        for limit in [1, 200] {
            let found = pages(store, user, &filter, limit).await.concat();
            let found: Vec<_> = found.into_iter().map(|(_, id)| id).collect();
            assert_eq!(
                found,
                expected.iter().map(|number| id(*number)).collect::<Vec<_>>(),
                "{what}, {limit} per page"
            );
        }
    }
    let page = store.posts(user, &is(PostStatus::Unconfirmed), &PageRequest::default()).await.unwrap();
    assert_eq!(
        page.items[0],
        store.post(user, id(0)).await.unwrap().unwrap(),
        "lists tell the same as the post itself"
    );
}

/// Text, time and wish change; deliveries begin anew under new epochs, from whoever held them; each has a row in its history.
pub async fn an_edit_changes_what_is_said_and_when(sut: StoreUnderTest) {
    let store = &*sut.store;
    let connected = connect(store, UserId::new(), &X, 3).await;
    let user = connected.user;
    let new = schedule(store, user, &connected.accounts, t0()).await;
    schedule(store, user, &connected.accounts, secs(500)).await;
    let held = claim(store, "a", t0(), 2).await;
    let tried = social_core::store::PhaseWrite {
        attempt: 4,
        crashes: 1,
        error: ErrorPatch::Set("{}".to_owned()),
        ..write(&held[0].delivery, PhaseName::Retrying, secs(1))
    };
    assert_eq!(record(store, tried).await, Held::Yes);
    let (_, before) = store.post(user, new.post.id).await.unwrap().unwrap();
    let edit = Edit {
        post: new.post.id,
        seen: before.iter().rev().map(|row| (row.id, row.epoch)).collect(),
        draft: full_draft(connected.accounts[0].id),
        scheduled_at: secs(900),
        wall: Some(wall()),
        log: entry("edited", secs(2)),
        now: secs(3),
    };
    assert!(sut.second.edit_post(user, &edit).await.unwrap());
    let (post, rows) = store.post(user, new.post.id).await.unwrap().unwrap();
    let expected = Post {
        draft: edit.draft.clone(),
        scheduled_at: secs(900),
        wall: Some(wall()),
        updated_at: secs(3),
        ..new.post.clone()
    };
    assert_eq!(post, expected);
    let mut log_ids = std::collections::BTreeSet::new();
    for (row, was) in rows.iter().zip(&before) {
        let expected = Delivery {
            phase: Phase::Scheduled,
            attempt: 0,
            crashes: 0,
            error: None,
            epoch: row.epoch,
            due_at: secs(900),
            wake_at: Some(secs(900)),
            updated_at: secs(3),
            ..was.clone()
        };
        assert_eq!(*row, expected);
        assert!(row.epoch > was.epoch);
        assert_eq!(store.renew(&[lease(was)], secs(100)).await.unwrap(), [Held::Lost]);
        let last = history(store, user, row.id).await.pop().unwrap();
        assert_eq!((last.event.as_str(), last.created_at, last.attempt), ("edited", secs(2), 0));
        log_ids.insert(last.id);
    }
    assert_eq!(log_ids.len(), 3, "a row for each delivery");
    let listed = pages(store, user, &PostFilter::default(), 1).await.concat();
    assert_eq!(listed[0], (secs(900), new.post.id), "it is listed by its new time");
    assert_eq!(listed.len(), 2);
    assert_eq!(claim(store, "b", secs(499), 10).await.len(), 0);
    let claimed = claim(store, "b", secs(900), 10).await;
    assert_eq!(claimed.len(), 6);
    let again = claimed.iter().filter(|one| one.delivery.post == new.post.id);
    assert!(again.into_iter().all(|one| *one.draft == edit.draft));
}

/// A cursor that no page gave is the caller's fault, and says so.
pub async fn a_foreign_cursor_is_refused(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 1).await;
    for bad in ["", "x", "-1", "0", "' OR 1=1 --", "p", "🌊", "AAAA", "p1_zz", &"9".repeat(400)] {
        let page = PageRequest { after: Some(bad.to_owned()), limit: 10 };
        let posts = store.posts(connected.user, &PostFilter::default(), &page).await.map(|_| ());
        assert_eq!(posts.map_err(|error| error.kind()), Err(ErrorKind::Invalid), "posts after {bad:?}");
        let logs = store.logs(connected.user, &social_core::store::LogFilter::default(), &page).await.map(|_| ());
        assert_eq!(logs.map_err(|error| error.kind()), Err(ErrorKind::Invalid), "logs after {bad:?}");
    }
    assert_eq!(events(store, connected.user, due[0]).await, ["scheduled"]);
    assert_eq!(ids(&claim(store, "a", t0(), 1).await), due);
}

/// All pages of posts, as time and id.
async fn pages(store: &dyn Store, user: UserId, filter: &PostFilter, limit: usize) -> Vec<Vec<(Timestamp, PostId)>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.posts(user, filter, &PageRequest { after, limit }).await.unwrap();
        assert!(page.items.len() <= limit);
        pages.push(page.items.iter().map(|(post, _)| (post.scheduled_at, post.id)).collect());
        after = page.next;
        if after.is_none() {
            return pages;
        }
        assert!(pages.len() < 1000, "paging does not end");
    }
}
