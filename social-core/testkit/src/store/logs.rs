//! The history: append-only, paged, followed live.

use serde_json::json;
use social_core::{
    error::ErrorKind,
    id::{DeliveryId, LogId, UserId},
    phase::PhaseName,
    store::{Held, LogFilter, LogRow, PageRequest, PhaseWrite, Store},
};

use super::{StoreUnderTest, claim, claimed_one, due_now, history, read, record};
use crate::{
    clock::{secs, t0},
    fixtures::{LINKEDIN, X, connect, entry, new_post, schedule, write},
};

/// Each delivery's history begins when it was stored.
pub async fn a_history_begins_with_scheduled(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 1).await, connect(store, user, &LINKEDIN, 1).await);
    let mut new = new_post(user, &[x.accounts[0].clone(), linkedin.accounts[0].clone()], secs(600));
    new.post.created_at = secs(5);
    let _ = store.insert_post(&new).await.unwrap();
    for delivery in &new.deliveries {
        let rows = history(store, user, delivery.id).await;
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.event.as_str(), row.success, row.attempt, row.created_at), ("scheduled", None, 0, secs(5)));
        assert_eq!((row.post, row.delivery, &row.platform), (new.post.id, delivery.id, &delivery.platform));
    }
}

/// Latest first, also among rows of one instant, each exactly once, whatever the size of the page.
pub async fn rows_come_latest_first_in_pages(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, delivery) = long_history(store, 23).await;
    let rows = all(store, user, &LogFilter::default(), 200).await;
    let mut expected: Vec<_> = (0..23).rev().map(|number| format!("step-{number}")).collect();
    expected.push("scheduled".to_owned());
    assert_eq!(rows.iter().map(|row| row.event.clone()).collect::<Vec<_>>(), expected);
    for limit in [1, 2, 5, 23, 24, 25] {
        assert_eq!(all(store, user, &LogFilter::default(), limit).await, rows, "pages of {limit}");
    }
    assert!(rows.iter().all(|row| row.delivery == delivery));
}

/// Rows that are written while somebody reads neither repeat nor hide others.
pub async fn pages_are_stable_while_rows_arrive(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, delivery) = long_history(store, 10).await;
    let before = all(store, user, &LogFilter::default(), 200).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.logs(user, &LogFilter::default(), &PageRequest { after, limit: 3 }).await.unwrap();
        seen.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
        assert!(seen.len() < 100, "paging does not end");
        for _ in 0..4 {
            store.append_log(delivery, &entry("meanwhile", secs(1000))).await.unwrap();
        }
    }
    assert_eq!(seen, before);
}

/// Post, delivery, network and success, alone and together.
pub async fn filters_choose_rows(sut: StoreUnderTest) {
    let store = &*sut.store;
    let user = UserId::new();
    let (x, linkedin) = (connect(store, user, &X, 1).await, connect(store, user, &LINKEDIN, 1).await);
    let both = [x.accounts[0].clone(), linkedin.accounts[0].clone()];
    let (first, second) = (schedule(store, user, &both, t0()).await, schedule(store, user, &both[..1], t0()).await);
    let rows = [
        (first.deliveries[0].id, "a", Some(true)),
        (first.deliveries[1].id, "b", Some(false)),
        (second.deliveries[0].id, "c", Some(true)),
        (first.deliveries[0].id, "d", None),
    ];
    for (step, (delivery, event, success)) in rows.into_iter().enumerate() {
        let row = social_core::store::LogEntry { success, ..entry(event, secs(1 + i64::try_from(step).unwrap())) };
        store.append_log(delivery, &row).await.unwrap();
    }
    let any = LogFilter::default;
    let cases = [
        ("a post", LogFilter { post: Some(first.post.id), ..any() }, "dba"),
        ("a delivery", LogFilter { delivery: Some(first.deliveries[0].id), ..any() }, "da"),
        ("a network", LogFilter { platform: Some(LINKEDIN), ..any() }, "b"),
        ("successes", LogFilter { success: Some(true), ..any() }, "ca"),
        ("failures", LogFilter { success: Some(false), ..any() }, "b"),
        ("successes of a post", LogFilter { post: Some(second.post.id), success: Some(true), ..any() }, "c"),
        ("nothing", LogFilter { post: Some(second.post.id), platform: Some(LINKEDIN), ..any() }, ""),
    ];
    for (what, filter, expected) in cases {
        for limit in [1, 200] {
            let found = all(store, user, &filter, limit).await;
            let events: String =
                found.iter().map(|row| row.event.as_str()).filter(|event| *event != "scheduled").collect();
            assert_eq!(events, expected, "{what}, {limit} per page");
        }
    }
}

/// A call that mattered is kept without touching the delivery, with the attempts used by then.
pub async fn a_row_can_be_added_without_a_change(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(
        record(store, PhaseWrite { attempt: 3, ..write(&held, PhaseName::Preparing, secs(1)) }).await,
        Held::Yes
    );
    let before = read(store, user, held.id).await;
    let mut added = entry("deleted_remote", secs(9));
    (added.success, added.response) = (Some(true), json!({ "remote_ids": ["1", "2"] }));
    store.append_log(held.id, &added).await.unwrap();
    assert_eq!(read(store, user, held.id).await, before);
    let row = history(store, user, held.id).await.pop().unwrap();
    let expected = LogRow {
        id: added.id,
        post: held.post,
        delivery: held.id,
        platform: X,
        event: added.event.clone(),
        success: added.success,
        attempt: 3,
        response: added.response.clone(),
        created_at: added.at,
    };
    assert_eq!(row, expected);
    let unknown = store.append_log(DeliveryId::new(), &entry("lost", t0())).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Storage);
    assert_eq!(store.append_log(held.id, &added).await.unwrap_err().kind(), ErrorKind::Storage, "an id is used once");
}

/// Who deletes on the network twice has deleted once, with one row of the history, and only the owner is told.
pub async fn a_deletion_is_noted_once(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (user, held) = claimed_one(store, "a").await;
    assert_eq!(store.deletions(user, &[held.id]).await.unwrap(), []);
    assert_eq!(store.deletions(user, &[]).await.unwrap(), []);
    let (first, second) = (entry("deleted_remote", secs(9)), entry("deleted_remote", secs(10)));
    assert!(store.note_deletion(held.id, &first).await.unwrap());
    assert!(!sut.second.note_deletion(held.id, &second).await.unwrap());
    assert!(!store.note_deletion(DeliveryId::new(), &second).await.unwrap());
    let asked = [DeliveryId::new(), held.id, DeliveryId::new()];
    assert_eq!(sut.second.deletions(user, &asked).await.unwrap(), [(held.id, secs(9))]);
    assert_eq!(store.deletions(UserId::new(), &asked).await.unwrap(), []);
    let events = history(store, user, held.id).await;
    assert_eq!(events.iter().filter(|row| row.event == "deleted_remote").count(), 1);
}

/// Live events: everything after a row, in the order of writing even where ids were made in another order; from now on for a fresh id.
pub async fn live_rows_come_in_the_order_of_writing(sut: StoreUnderTest) {
    let store = &*sut.store;
    let (connected, due) = due_now(store, 1).await;
    let (user, delivery) = (connected.user, due[0]);
    let stranger = due_now(store, 1).await.1[0];
    let start = LogId::new();
    let names = |rows: Vec<LogRow>| rows.into_iter().map(|row| row.event).collect::<Vec<_>>();
    let since = |after, limit| async move { store.logs_since(user, after, limit).await.unwrap() };
    assert_eq!(names(since(Some(start), 10).await), Vec::<String>::new(), "from now on");

    let (early, late) = (entry("early id", secs(1)), entry("late id", secs(1)));
    store.append_log(delivery, &late).await.unwrap();
    store.append_log(stranger, &entry("not yours", secs(1))).await.unwrap();
    assert_eq!(names(since(Some(start), 10).await), ["late id"]);
    store.append_log(delivery, &early).await.unwrap();
    assert_eq!(names(since(Some(late.id), 10).await), ["early id"], "written later, though its id is older");
    let last = entry("last", secs(1));
    store.append_log(delivery, &last).await.unwrap();
    assert_eq!(names(since(Some(late.id), 10).await), ["early id", "last"]);
    assert_eq!(names(since(Some(late.id), 1).await), ["early id"]);
    assert_eq!(names(since(Some(last.id), 10).await), Vec::<String>::new());
    assert_eq!(names(since(None, 10).await), Vec::<String>::new());
    assert_eq!(names(store.logs_since(UserId::new(), Some(start), 10).await.unwrap()), Vec::<String>::new());

    let claimed = claim(store, "a", t0(), 10).await;
    let own = claimed.iter().find(|one| one.delivery.id == delivery).unwrap();
    assert_eq!(record(store, write(&own.delivery, PhaseName::Ready, secs(2))).await, Held::Yes);
    assert_eq!(names(since(Some(last.id), 10).await), ["ready"], "changes are live events too");
}

/// A delivery with so many rows behind `scheduled`, two of each instant.
async fn long_history(store: &dyn Store, rows: i64) -> (UserId, DeliveryId) {
    let (user, held) = claimed_one(store, "a").await;
    for number in 0..rows {
        let mut step = write(&held, PhaseName::Preparing, secs(1 + number / 2));
        step.log.event = format!("step-{number}");
        assert_eq!(record(store, step).await, Held::Yes);
    }
    (user, held.id)
}

async fn all(store: &dyn Store, user: UserId, filter: &LogFilter, limit: usize) -> Vec<LogRow> {
    let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.logs(user, filter, &PageRequest { after, limit }).await.unwrap();
        assert!(page.items.len() <= limit);
        rows.extend(page.items);
        after = page.next;
        pages += 1;
        if after.is_none() {
            return rows;
        }
        assert!(pages < 1000, "paging does not end");
    }
}
