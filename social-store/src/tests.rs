//! What both databases promise beyond the suite of the testkit. Each function takes a fresh store.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use social_core::{
    account::Version,
    error::ErrorKind,
    id::UserId,
    phase::{PhaseName, RemotePost},
    store::{
        AdminStore as _, ClaimRequest, Claimed, Delivery, Held, Insert, JobStore as _, Lane, LeaseAfter, LogFilter,
        PageRequest, PhaseWrite, PostFilter, PostStatus, PostStore as _, TokenStore as _,
    },
    time::later,
};
use social_testkit::{
    clock::{secs, t0},
    fixtures::{self, X, connect, entry, new_post, schedule, write},
    secrets::{Marker, assert_clean},
};

use crate::{
    backend::{Backend, SqlStore},
    value::values,
};

pub(crate) async fn claim<B: Backend>(
    store: &SqlStore<B>,
    worker: &str,
    until: Timestamp,
    limit: usize,
) -> Vec<Claimed> {
    let request = ClaimRequest {
        until,
        lease_until: later(until, SignedDuration::from_secs(60)),
        worker: worker.to_owned(),
        lanes: vec![Lane { platform: X, limit }],
    };
    store.claim_due(&request).await.unwrap()
}

fn released(delivery: &Delivery, phase: PhaseName, at: Timestamp) -> PhaseWrite {
    PhaseWrite { lease: LeaseAfter::Release, wake_at: None, ..write(delivery, phase, at) }
}

async fn text<B: Backend>(store: &SqlStore<B>, sql: &'static str, id: uuid::Uuid) -> String {
    store.one(sql, values![id], |row| row.text()).await.unwrap().unwrap()
}

/// The status that SQL derives is the one that the core derives, for every mixture of three phases; the stored one follows outcomes.
pub(crate) async fn the_status_of_a_post_is_the_same_in_sql<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 3).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    let mut held: Vec<_> = claim(&store, "a", t0(), 3).await.into_iter().map(|claimed| claimed.delivery).collect();
    held.sort_by_key(|delivery| delivery.id);
    let all = PhaseName::ALL;
    let mut mixtures = Vec::new();
    for (first, a) in all.into_iter().enumerate() {
        for (second, b) in all.into_iter().enumerate().skip(first) {
            mixtures.extend(all.into_iter().skip(second).map(|c| [a, b, c]));
        }
    }
    for (phases, step) in mixtures.into_iter().zip(1..) {
        let writes: Vec<_> =
            held.iter().zip(phases).map(|(delivery, phase)| write(delivery, phase, secs(step))).collect();
        assert_eq!(store.record(&writes).await.unwrap(), [Held::Yes; 3]);
        let expected = PostStatus::of(phases);
        let filter = PostFilter { status: Some(expected), ..PostFilter::default() };
        let found = store.posts(user, &filter, &PageRequest::default()).await.unwrap().items;
        assert_eq!(found.len(), 1, "{phases:?} should be {expected:?}");
        if phases.into_iter().any(crate::jobs::rests) {
            let stored = text(&store, "SELECT status FROM posts WHERE id = $1", new.post.id.uuid()).await;
            assert_eq!(stored, expected.as_str(), "{phases:?}");
        }
    }
}

/// `posts.status` is written with the outcome, and not before.
pub(crate) async fn a_stored_status_follows_the_outcome<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    let status = async || text(&store, "SELECT status FROM posts WHERE id = $1", new.post.id.uuid()).await;
    assert_eq!(status().await, "pending");
    let held = claim(&store, "a", t0(), 1).await.remove(0).delivery;
    assert_eq!(store.record(&[write(&held, PhaseName::Committing, secs(1))]).await.unwrap(), [Held::Yes]);
    assert_eq!(status().await, "pending");
    let lost = PhaseWrite {
        epoch: social_core::store::Epoch(held.epoch.0 - 1),
        ..released(&held, PhaseName::Failed, secs(2))
    };
    assert_eq!(store.record(&[lost]).await.unwrap(), [Held::Lost]);
    assert_eq!(status().await, "pending");
    assert_eq!(store.record(&[released(&held, PhaseName::Published, secs(2))]).await.unwrap(), [Held::Yes]);
    assert_eq!(status().await, "published");
}

/// The answer to a commit may be lost. Whoever must get its writes through repeats them, together with newer ones, and they count once.
pub(crate) async fn a_batch_that_is_repeated_counts_once<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 3).await;
    schedule(&store, user, &connected.accounts, t0()).await;
    let held: Vec<_> = claim(&store, "a", t0(), 3).await.into_iter().map(|claimed| claimed.delivery).collect();
    let part = PhaseWrite {
        part: Some(RemotePost::new("1", "https://network.example/1")),
        ..write(&held[0], PhaseName::Preparing, secs(1))
    };
    let batch =
        [part, released(&held[1], PhaseName::Published, secs(1)), write(&held[2], PhaseName::Committing, secs(2))];
    assert_eq!(store.record(&batch[..2]).await.unwrap(), [Held::Yes; 2]);
    assert_eq!(store.record(&batch).await.unwrap(), [Held::Yes; 3]);
    assert_eq!(store.delivery(user, held[0].id).await.unwrap().unwrap().parts.len(), 1);
    let rows = store.logs(user, &LogFilter::default(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(rows.len(), 6, "three times scheduled and three writes");

    // Somebody else's row under that id is no repetition.
    let other = PhaseWrite { log: entry("other", secs(3)), ..write(&held[2], PhaseName::Committing, secs(3)) };
    let stolen =
        PhaseWrite { log: social_core::store::LogEntry { id: batch[0].log.id, ..entry("other", secs(3)) }, ..other };
    assert_eq!(store.record(&[stolen]).await.unwrap_err().kind(), ErrorKind::Storage);
}

/// A draft that cannot be read must not keep the queue from moving: before the visible call it has failed, after it a person decides.
pub(crate) async fn a_spoilt_draft_is_set_aside<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 3).await;
    let [fine, spoilt, doubtful] =
        [0, 1, 2].map(|n| new_post(user, &connected.accounts[n..=n], later(t0(), SignedDuration::from_secs(n as i64))));
    for new in [&fine, &spoilt, &doubtful] {
        assert_eq!(store.insert_post(new).await.unwrap(), Insert::Stored);
    }
    let held = claim(&store, "a", secs(2), 3).await;
    assert_eq!(held.len(), 3);
    let committing =
        PhaseWrite { lease: LeaseAfter::Release, ..write(&held[2].delivery, PhaseName::Committing, secs(3)) };
    let mut writes: Vec<_> = held[..2]
        .iter()
        .map(|one| PhaseWrite { lease: LeaseAfter::Release, ..write(&one.delivery, PhaseName::Ready, secs(3)) })
        .collect();
    writes.push(committing);
    for write in &mut writes {
        write.wake_at = Some(secs(4));
    }
    assert_eq!(store.record(&writes).await.unwrap(), [Held::Yes; 3]);
    for new in [&spoilt, &doubtful] {
        let sql = "UPDATE posts SET draft = '{\"text\": 7}' WHERE id = $1";
        assert_eq!(store.backend.execute(sql, values![new.post.id.uuid()]).await.unwrap(), 1);
    }
    let claimed = claim(&store, "b", secs(5), 3).await;
    assert_eq!(claimed.iter().map(|one| one.delivery.post).collect::<Vec<_>>(), [fine.post.id]);
    let failed = store.delivery(user, spoilt.deliveries[0].id).await.unwrap().unwrap();
    assert_eq!((failed.phase.name(), failed.wake_at), (PhaseName::Failed, None));
    assert!(failed.error.unwrap().contains("the stored draft cannot be read"));
    let open = store.delivery(user, doubtful.deliveries[0].id).await.unwrap().unwrap();
    assert_eq!(open.phase.name(), PhaseName::Unconfirmed);
    assert_eq!(claim(&store, "c", secs(9), 3).await.len(), 0, "nobody claims them again");
    let filter = LogFilter { post: Some(spoilt.post.id), ..LogFilter::default() };
    assert_eq!(store.logs(user, &filter, &PageRequest::default()).await.unwrap().items[0].event, "failed");
}

/// A row that cannot be read as a whole is taken out of the queue too, instead of being claimed for ever.
pub(crate) async fn a_spoilt_row_is_set_aside<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 4).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    let held = claim(&store, "a", t0(), 4).await;
    let phases = [PhaseName::Ready, PhaseName::Committing, PhaseName::Scheduled, PhaseName::Ready];
    let writes: Vec<_> = held
        .iter()
        .zip(phases)
        .map(|(one, phase)| PhaseWrite {
            lease: LeaseAfter::Release,
            wake_at: Some(secs(4)),
            ..write(&one.delivery, phase, secs(3))
        })
        .collect();
    assert_eq!(store.record(&writes).await.unwrap(), [Held::Yes; 4]);
    let broken = ["parts = '{\"x\": 1}'", "parts = '{\"x\": 1}'", "phase = 'of another age'"];
    for (one, what) in held.iter().zip(broken) {
        let sql: &'static str = Box::leak(format!("UPDATE deliveries SET {what} WHERE id = $1").into_boxed_str());
        assert_eq!(store.backend.execute(sql, values![one.delivery.id.uuid()]).await.unwrap(), 1);
    }
    let claimed = claim(&store, "b", secs(5), 9).await;
    assert_eq!(claimed.iter().map(|one| one.delivery.id).collect::<Vec<_>>(), [held[3].delivery.id]);
    assert_eq!(claim(&store, "b", secs(5), 9).await.len(), 0, "nobody claims them again");
    assert_eq!(store.reclaim(secs(9000)).await.unwrap(), 1, "nobody holds them");
    for (one, expected) in held.iter().zip(["failed", "unconfirmed", "unconfirmed"]) {
        let rows = store.fetch("SELECT phase FROM deliveries WHERE id = $1", values![one.delivery.id.uuid()]).await;
        assert_eq!(crate::row::Reader::of(&rows.unwrap()[0]).text().unwrap(), expected);
    }
    let filter = LogFilter { post: Some(new.post.id), ..LogFilter::default() };
    let told = store.logs(user, &filter, &PageRequest::default()).await.unwrap().items;
    assert_eq!(told.iter().filter(|row| row.response["reason"] == "the stored delivery cannot be read").count(), 3);
}

/// What is old is forgotten, what is not stays.
pub(crate) async fn old_rows_are_forgotten<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    for second in [1000, 2000, 3000] {
        let delivery = claim(&store, "a", secs(second), 1).await.remove(0).delivery;
        let writes: Vec<_> = (0..1000).map(|n| write(&delivery, PhaseName::Preparing, secs(second + n))).collect();
        assert!(store.record(&writes).await.unwrap().iter().all(|held| *held == Held::Yes));
        let back = write(&delivery, PhaseName::Retrying, secs(second + 1000));
        let back = PhaseWrite { lease: LeaseAfter::Release, wake_at: Some(t0()), ..back };
        assert_eq!(store.record(&[back]).await.unwrap(), [Held::Yes]);
    }
    assert_eq!(store.purge_logs(secs(3999)).await.unwrap(), 3002);
    let filter = LogFilter { post: Some(new.post.id), ..LogFilter::default() };
    let left = store.logs(user, &filter, &PageRequest::default()).await.unwrap().items;
    assert_eq!(left.iter().map(|row| row.created_at).collect::<Vec<_>>(), [secs(4000), secs(3999)]);

    let update = fixtures::token_update(&connected.connection, Version::FIRST, secs(10)).await;
    assert_eq!(
        store.replace(connected.connection.id, Version::FIRST, &update).await.unwrap(),
        social_core::store::Swap::Done
    );
    assert_eq!(store.purge_replaced_tokens(secs(10)).await.unwrap(), 0);
    assert_eq!(store.purge_replaced_tokens(secs(11)).await.unwrap(), 1);
    assert_eq!(store.purge_replaced_tokens(secs(11)).await.unwrap(), 0);
    assert_eq!(store.get(connected.connection.id).await.unwrap().unwrap().tokens, update.tokens);
}

/// Errors name the rule that was broken, never the values that broke it.
pub(crate) async fn errors_do_not_quote_rows<B: Backend>(store: SqlStore<B>) {
    let marker = Marker::new("row");
    let user = social_core::store::User { plan: marker.value().to_owned(), ..fixtures::user(marker.value()) };
    assert!(store.insert_user(&user).await.unwrap());
    let again = social_core::store::User { email: format!("other-{}", marker.value()), ..user };
    let error = store.insert_user(&again).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_clean("an error", format!("{error} {error:?} {source}"));
    assert!(source.contains("users"), "{source}");
}

/// One post that cannot be stored does not take along those that arrive at the same time.
pub(crate) async fn posts_that_arrive_together_do_not_share_their_fate<B: Backend>(store: SqlStore<B>) {
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let stranger = connect(&store, UserId::new(), &X, 1).await;
    let posts: Vec<_> = (0..60)
        .map(|n| new_post(user, if n % 7 == 3 { &stranger.accounts } else { &connected.accounts }, t0()))
        .collect();
    let tasks: Vec<_> = posts
        .iter()
        .map(|new| {
            let (store, new) = (store.clone(), new.clone());
            tokio::spawn(async move { store.insert_post(&new).await })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        let stored = task.await.unwrap();
        assert_eq!(stored.is_ok(), n % 7 != 3, "post {n}: {stored:?}");
        assert_eq!(store.post(user, posts[n].post.id).await.unwrap().is_some(), n % 7 != 3, "post {n}");
    }
}

/// The last use of a key is noted about once a minute.
pub(crate) async fn the_use_of_a_key_is_noted_now_and_then<B: Backend>(store: SqlStore<B>) {
    let key = social_core::store::ApiKey {
        id: uuid::Uuid::now_v7(),
        user: UserId::new(),
        name: "ci".to_owned(),
        hash: [7; 32],
        scopes: vec!["posts".to_owned()],
        created_at: t0(),
        expires_at: None,
        last_used_at: None,
    };
    store.insert_key(&key).await.unwrap();
    for (at, noted) in [(10, 10), (11, 10), (69, 10), (70, 70), (200, 200)] {
        store.touch_key(key.id, secs(at)).await.unwrap();
        assert_eq!(store.key(key.id).await.unwrap().unwrap().last_used_at, Some(secs(noted)), "used at {at}");
    }
}

/// What a migration test puts into an old schema and looks for in the new one.
pub(crate) async fn survives<B: Backend>(store: &SqlStore<B>) {
    let user = fixtures::user("migrated@example.org");
    assert!(store.insert_user(&user).await.unwrap());
    let connected = connect(store, user.id, &X, 1).await;
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
    assert!(store.get(connected.connection.id).await.unwrap().is_some());
}

/// Tables and their columns.
pub(crate) type Shape = BTreeSet<(String, String)>;

/// Makes a test of each function above for one database; `make` gives a fresh store and what it needs to live.
macro_rules! shared_tests {
    ($make:expr; $($name:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if let Some((store, _keep)) = $make().await {
                $crate::tests::$name(store).await;
            }
        }
    )+};
}
macro_rules! all_shared_tests {
    ($make:expr) => {
        $crate::tests::shared_tests! { $make;
            the_status_of_a_post_is_the_same_in_sql,
            a_stored_status_follows_the_outcome,
            a_batch_that_is_repeated_counts_once,
            a_spoilt_draft_is_set_aside,
            a_spoilt_row_is_set_aside,
            old_rows_are_forgotten,
            errors_do_not_quote_rows,
            posts_that_arrive_together_do_not_share_their_fate,
            the_use_of_a_key_is_noted_now_and_then,
        }
    };
}
pub(crate) use {all_shared_tests, shared_tests};
