//! What SQLite promises beyond the suite of the testkit.

use std::{borrow::Cow, os::unix::fs::PermissionsExt as _};

use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::ErrorKind,
    id::UserId,
    phase::PhaseName,
    store::{AdminStore as _, Held, Insert, JobStore as _, Lease, PostStore as _, TokenStore as _},
    time::later,
};
use social_testkit::{
    clock::{secs, t0},
    fixtures::{X, connect, new_post, schedule, user, write},
};
use sqlx::{
    Connection as _, Row as _,
    migrate::Migrator,
    sqlite::{SqliteConnection, SqlitePool},
};
use tempfile::TempDir;

use super::{SqliteStore, jobs, migrator, usual};
use crate::{
    backend::{Backend as _, Transaction as _},
    tests::{Shape, all_shared_tests, claim, survives},
};

async fn make() -> Option<(SqliteStore, ())> {
    Some((SqliteStore::open_in_memory().await.unwrap(), ()))
}

all_shared_tests!(make);

fn file() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/social.db", dir.path().display());
    (dir, url)
}

async fn pragma(store: &SqliteStore, sql: &'static str) {
    let mut writer = store.backend.writer.lock().await.unwrap();
    sqlx::query(sql).fetch_all(writer.connection()).await.unwrap();
    writer.done();
}

pub(crate) async fn shape(store: &SqliteStore) -> Shape {
    let sql = "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
               WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE '\\_%' ESCAPE '\\'";
    let rows = store.all(sql, Vec::new(), |row| Ok((row.text()?, row.text()?))).await.unwrap();
    rows.into_iter().collect()
}

#[tokio::test]
async fn every_older_schema_becomes_the_newest_and_keeps_its_rows() {
    let newest = shape(&make().await.unwrap().0).await;
    let all = migrator();
    let count = all.iter().count();
    for applied in 0..=count {
        let (_dir, url) = file();
        let store = SqliteStore::connect_without_migrating(&url).await.unwrap();
        let some = all.iter().take(applied).cloned().collect();
        let older = Migrator { migrations: Cow::Owned(some), ..migrator() };
        store.migrate_with(&older).await.unwrap();
        let filled = applied > 0;
        if filled {
            assert!(store.insert_user(&user("old@example.org")).await.unwrap());
        }
        store.migrate().await.unwrap();
        store.migrate().await.unwrap();
        // A process with the older schema that starts now goes on working.
        store.migrate_with(&older).await.unwrap();
        assert_eq!(shape(&store).await, newest, "from {applied} migrations");
        let page = social_core::store::PageRequest::default();
        assert_eq!(store.users(&page).await.unwrap().items.len(), usize::from(filled), "from {applied} migrations");
        survives(&store).await;
    }
}

#[tokio::test]
async fn processes_that_start_at_once_do_not_disturb_each_other() {
    let (_dir, url) = file();
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { SqliteStore::open(&url).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap().check().await.unwrap();
    }
}

#[tokio::test]
async fn the_file_is_made_for_its_owner_only() {
    let (dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    connect(&store, UserId::new(), &X, 1).await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
    }
    let mut writer = store.backend.writer.lock().await.unwrap();
    for (pragma, expected) in
        [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1"), ("secure_delete", "1")]
    {
        let sql = sqlx::AssertSqlSafe(format!("SELECT CAST(\"{pragma}\" AS TEXT) FROM pragma_{pragma}"));
        let value: String = sqlx::query_scalar(sql).fetch_one(writer.connection()).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
}

/// The plan of a statement, one step per line.
async fn plan(store: &SqliteStore, sql: &str) -> String {
    let mut connection = SqliteConnection::connect_with(&store.backend.options).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
}

#[tokio::test]
async fn no_statement_of_the_hot_path_walks_a_table() {
    let (store, ()) = make().await.unwrap();
    let claim = plan(&store, jobs::DUE).await;
    assert!(
        claim.contains("SEARCH d USING INDEX deliveries_claim (platform=? AND wake_at>? AND wake_at<?)"),
        "{claim}"
    );
    assert!(claim.contains("SEARCH h USING INDEX deliveries_busy (account_id=?)"), "{claim}");
    assert!(!claim.contains("TEMP B-TREE"), "the order comes from the index: {claim}");
    let statements = [
        jobs::DUE,
        jobs::LEASE,
        &jobs::CLAIMED,
        usual::EACH[0],
        usual::EACH[1],
        usual::EACH[2],
        jobs::CHANGE,
        jobs::LOG,
        jobs::FOLLOW,
        "UPDATE deliveries SET lease_until = NULL WHERE lease_until < $1",
        "SELECT min(wake_at) FROM deliveries WHERE platform = $1 AND lease_until IS NULL AND wake_at IS NOT NULL",
        "UPDATE deliveries SET wake_at = $2 WHERE account_id = $1 AND phase = 'awaiting_reconnect'",
        "SELECT remote_id FROM deliveries WHERE account_id = $1 AND updated_at >= $2 AND (remote_id IS NOT NULL OR parts IS NOT NULL)",
        "SELECT * FROM post_logs l WHERE l.user_id = $1 AND l.seq < $2 ORDER BY l.seq DESC LIMIT $3",
        "SELECT * FROM post_logs l WHERE l.user_id = $1 AND l.post_id = $2 ORDER BY l.seq DESC LIMIT $3",
        "SELECT * FROM posts p WHERE p.user_id = $1 AND (p.scheduled_time, p.id) < ($2, $3) ORDER BY p.scheduled_time DESC, p.id DESC LIMIT 9",
    ];
    for sql in statements {
        let plan = plan(&store, sql).await;
        for table in ["deliveries", "d", "h", "p", "posts", "a", "c", "l", "post_logs"] {
            let walks = plan.lines().any(|line| line == format!("SCAN {table}"));
            assert!(!walks, "{sql}\n{plan}");
        }
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
    let out = plan(&store, "SELECT remote_id FROM deliveries WHERE account_id = $1 AND updated_at >= $2 AND (remote_id IS NOT NULL OR parts IS NOT NULL)").await;
    assert!(out.contains("SEARCH deliveries USING INDEX deliveries_out (updated_at>?)"), "{out}");
    let depth = plan(&store, crate::jobs::DEPTH).await;
    for index in ["COVERING INDEX deliveries_claim", "INDEX deliveries_busy", "COVERING INDEX deliveries_parked"] {
        assert!(depth.contains(index), "{index}: {depth}");
    }
}

/// However long the history: a claim takes no longer. Takes minutes: `cargo test --release -p social-store -- --ignored five_million`.
#[tokio::test]
#[ignore = "fills a table with five million rows"]
async fn a_claim_takes_no_longer_with_five_million_rows_of_history() {
    let (_dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    for _ in 0..1000 {
        schedule(&store, user, &connected.accounts, t0()).await;
    }
    let fastest = async || {
        let mut fastest = std::time::Duration::MAX;
        for _ in 0..5 {
            let began = std::time::Instant::now();
            let held = claim(&store, "a", t0(), 200).await;
            fastest = fastest.min(began.elapsed());
            assert_eq!(held.len(), 200);
            let leases: Vec<_> =
                held.iter().map(|one| Lease { delivery: one.delivery.id, epoch: one.delivery.epoch }).collect();
            store.rest(&leases, t0()).await.unwrap();
        }
        fastest
    };
    let before = fastest().await;
    pragma(&store, "PRAGMA foreign_keys = OFF").await;
    pragma(
        &store,
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000000) \
         INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, phase, due_at, late_limit_us, remote_id, published_at, \
             updated_at) \
         SELECT randomblob(16), randomblob(16), randomblob(16), unhex(printf('%032d', n % 10000)), 'x', 0, 'published', n, 0, CAST(n AS TEXT), \
             n, n FROM c",
    )
    .await;
    let after = fastest().await;
    eprintln!("a claim of 200: {before:?} without history, {after:?} with five million rows");
    assert!(after < before * 2, "a claim of 200 took {after:?} instead of {before:?}");
}

#[tokio::test]
async fn a_full_disk_is_told_before_anything_is_acknowledged() {
    let (_dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    schedule(&store, user, &connected.accounts, t0()).await;
    let held = claim(&store, "a", t0(), 1).await.remove(0).delivery;

    pragma(&store, "PRAGMA max_page_count = 1").await;
    let mut new = new_post(user, &connected.accounts, t0());
    new.post.draft.text = "a".repeat(200_000);
    assert_eq!(store.insert_post(&new).await.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(store.post(user, new.post.id).await.unwrap(), None);

    pragma(&store, "PRAGMA max_page_count = 1").await;
    let permit = |at| {
        let mut permit = write(&held, PhaseName::Committing, secs(at));
        permit.log.response = serde_json::json!({ "long": "a".repeat(100_000) });
        permit
    };
    assert_eq!(store.record(&[permit(1)]).await.unwrap_err().kind(), ErrorKind::Storage);
    let read = store.delivery(user, held.id).await.unwrap().unwrap();
    assert_eq!(read, held, "nothing of it was written");

    // Once there is room again, everything goes on by itself.
    assert_eq!(store.record(&[permit(2)]).await.unwrap(), [Held::Yes]);
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_told() {
    let (_dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    pragma(&store, "PRAGMA query_only = ON").await;
    assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Storage);
    pragma(&store, "PRAGMA query_only = ON").await;
    let new = new_post(user, &connected.accounts, t0());
    assert_eq!(store.insert_post(&new).await.unwrap_err().kind(), ErrorKind::Storage);
    store.check().await.unwrap();
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
}

#[tokio::test]
async fn a_file_that_somebody_else_locks_is_told_and_comes_back() {
    let (_dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let connected = connect(&store, UserId::new(), &X, 1).await;
    let mut other = SqliteConnection::connect_with(&store.backend.options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    pragma(&store, "PRAGMA busy_timeout = 1").await;
    let new = new_post(connected.user, &connected.accounts, t0());
    let deleted = store.delete(connected.connection.id).await;
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(claim(&store, "a", t0(), 1).await.len(), 0, "reading goes on");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(store.insert_post(&new).await.unwrap(), Insert::Stored);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing_behind() {
    let (store, ()) = make().await.unwrap();
    let owner = user("dropped@example.org");
    let mut tx = store.backend.begin().await.unwrap();
    tx.execute("INSERT INTO users VALUES (x'00', 'a', 'b', 1)".into(), Vec::new()).await.unwrap();
    drop(tx);
    assert!(store.insert_user(&owner).await.unwrap());
    assert_eq!(store.users(&social_core::store::PageRequest::default()).await.unwrap().items, [owner]);
}

#[tokio::test]
async fn a_long_read_does_not_hold_up_writes() {
    let (store, ()) = make().await.unwrap();
    let connected = connect(&store, UserId::new(), &X, 1).await;
    let mut reader = SqliteConnection::connect_with(&store.backend.options).await.unwrap();
    sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
    sqlx::query("SELECT * FROM connections").fetch_all(&mut reader).await.unwrap();
    schedule(&store, connected.user, &connected.accounts, t0()).await;
    assert!(store.delete(connected.connection.id).await.unwrap(), "also where the log cannot be emptied");
    sqlx::query("COMMIT").execute(&mut reader).await.unwrap();
}

#[tokio::test]
async fn a_post_joins_the_transaction_of_its_caller() {
    let (_dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let user = UserId::new();
    let connected = connect(&store, user, &X, 2).await;
    let host = SqlitePool::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&host).await.unwrap();
    let mut new = new_post(user, &connected.accounts, t0());
    new.idempotency = Some(("order-17".to_owned(), [1; 32]));
    for commit in [false, true] {
        let mut tx = host.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("INSERT INTO orders VALUES (17)").execute(&mut *tx).await.unwrap();
        assert_eq!(SqliteStore::insert_post_in(&mut tx, &new).await.unwrap(), Insert::Stored);
        assert_eq!(SqliteStore::insert_post_in(&mut tx, &new).await.unwrap(), Insert::Existing(new.post.id));
        if commit {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        store.wake();
        store.woken().await;
        let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&host).await.unwrap();
        assert_eq!(orders, i64::from(commit));
        assert_eq!(store.post(user, new.post.id).await.unwrap().is_some(), commit);
        let logs = store.fetch("SELECT 1 FROM post_logs", Vec::new()).await.unwrap().len();
        assert_eq!((logs, claim(&store, "a", t0(), 9).await.len()), if commit { (2, 2) } else { (0, 0) });
    }
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own() {
    let (dir, url) = file();
    let store = SqliteStore::open(&url).await.unwrap();
    let connected = connect(&store, UserId::new(), &X, 1).await;
    let new = schedule(&store, connected.user, &connected.accounts, t0()).await;
    let copy = dir.path().join("copy.db");
    store.backup_to(&copy).await.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o077, 0);
    assert!(store.delete(connected.connection.id).await.unwrap());
    let restored = SqliteStore::open(&format!("sqlite://{}", copy.display())).await.unwrap();
    assert!(restored.get(connected.connection.id).await.unwrap().is_some());
    assert!(restored.post(connected.user, new.post.id).await.unwrap().is_some());
    let again = store.backup_to(&copy).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Storage, "a file that is there is not overwritten");
    assert!(restored.get(connected.connection.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_in_memory_tidies_up_and_a_closed_one_says_so() {
    let (store, ()) = make().await.unwrap();
    let file = store.backend.options.get_filename().to_owned();
    assert!(file.exists());
    let clone = store.clone();
    store.close().await;
    assert_eq!(clone.check().await.unwrap_err().kind(), ErrorKind::Storage);
    let insert = clone.insert_user(&user("late@example.org")).await;
    assert_eq!(insert.unwrap_err().kind(), ErrorKind::Storage);
    drop((store, clone));
    assert!(!file.exists());
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_being_repeated() {
    for url in ["mysql://bob:marker@host/db", "social.db", "", "sqlite://a?mode=marker"] {
        let error = crate::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
    }
    let store = crate::open("sqlite::memory:").await.unwrap();
    assert!(store.describe().starts_with("SQLite 3."), "{}", store.describe());
}

#[test]
fn portions_keep_the_order_and_lose_nothing() {
    let items: Vec<_> = (0..151).collect();
    let lengths: Vec<_> = super::portions(&items).map(<[_]>::len).collect();
    assert_eq!(lengths, [64, 64, 16, 4, 1, 1, 1]);
    assert_eq!(super::portions(&items).flatten().copied().collect::<Vec<_>>(), items);
    assert_eq!(super::groups(2, 3), "(?, ?, ?), (?, ?, ?)");
}

#[tokio::test]
async fn a_clock_that_is_not_the_machines_is_found_out() {
    let store = SqliteStore::open_in_memory().await.unwrap();
    for minutes in [10, -10, 0] {
        let wrong = SignedDuration::from_mins(minutes);
        let ahead = store.clock_offset(later(Timestamp::now(), wrong)).await.unwrap();
        let error = (ahead + wrong).abs();
        assert!(error < SignedDuration::from_mins(5), "{ahead} for a clock that is {wrong} ahead");
    }
}
