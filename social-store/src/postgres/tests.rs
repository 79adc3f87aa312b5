//! What PostgreSQL promises beyond the suite of the testkit.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::{borrow::Cow, time::Duration};

use common::Database;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::ErrorKind,
    id::UserId,
    phase::PhaseName,
    store::{
        AdminStore as _, Held, Insert, JobStore as _, LeaseAfter, NewPost, PageRequest, PhaseWrite, PostStore as _,
        Store,
    },
    time::later,
};
use social_testkit::{
    clock::{secs, t0},
    fixtures::{X, connect, new_post, schedule, user, write},
    pg::Server,
    secrets::{Marker, assert_clean},
};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPool},
};

use super::{PgStore, desk, jobs, migrator, usual, writes};
use crate::{
    backend::{Backend as _, Transaction as _},
    tests::{Shape, all_shared_tests, claim, survives},
};

async fn make() -> Option<(PgStore, Database)> {
    let database = Database::create().await?;
    let store = PgStore::connect(&database.url()).await.unwrap();
    store.migrate().await.unwrap();
    Some((store, database))
}

all_shared_tests!(make);

/// Waits for something that comes by itself; the time only ends a test that would hang.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn shape(store: &PgStore) -> Shape {
    let sql = "SELECT table_name::text, column_name::text FROM information_schema.columns \
               WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%'";
    let rows = store.all(sql, Vec::new(), |row| Ok((row.text()?, row.text()?))).await.unwrap();
    rows.into_iter().collect()
}

#[tokio::test]
async fn every_older_schema_becomes_the_newest_and_keeps_its_rows() {
    let Some((newest, _keep)) = make().await else { return };
    let newest = shape(&newest).await;
    let all = migrator();
    for applied in 0..=all.iter().count() {
        let database = Database::create().await.unwrap();
        let store = PgStore::connect(&database.url()).await.unwrap();
        let some = all.iter().take(applied).cloned().collect();
        let older = Migrator { migrations: Cow::Owned(some), ..migrator() };
        store.migrate_with(&older).await.unwrap();
        let filled = applied > 0;
        if filled {
            assert!(store.insert_user(&user("old@example.org")).await.unwrap());
        }
        let (one, two) = tokio::join!(store.migrate(), store.migrate());
        one.and(two).unwrap();
        // A process with the older schema that starts now goes on working.
        store.migrate_with(&older).await.unwrap();
        assert_eq!(shape(&store).await, newest, "from {applied} migrations");
        let users = store.users(&PageRequest::default()).await.unwrap().items.len();
        assert_eq!(users, usize::from(filled), "from {applied} migrations");
        survives(&store).await;
    }
}

/// A claim locks the table for looking and then for writing. A migration that locks it in between, and then wants more, deadlocks with it.
#[tokio::test]
async fn a_migration_and_a_claim_wait_for_each_other_only_one_way() {
    if make().await.is_none() {
        return;
    }
    let database = Database::create().await.unwrap();
    let store = PgStore::connect(&database.url()).await.unwrap();
    let some = migrator().iter().take(4).cloned().collect();
    store.migrate_with(&Migrator { migrations: Cow::Owned(some), ..migrator() }).await.unwrap();
    let mut worker = PgConnection::connect(&database.url()).await.unwrap();
    worker.execute(sqlx::raw_sql("BEGIN; LOCK TABLE deliveries IN ROW SHARE MODE")).await.unwrap();
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = 'deliveries'::regclass AND NOT granted)";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&store.backend.pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    worker.execute(sqlx::raw_sql("LOCK TABLE deliveries IN ROW EXCLUSIVE MODE; COMMIT")).await.unwrap();
    migrating.await.unwrap().unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn both_databases_have_the_same_tables_and_columns() {
    let Some((store, _keep)) = make().await else { return };
    let sqlite = crate::SqliteStore::open_in_memory().await.unwrap();
    assert_eq!(shape(&store).await, crate::sqlite::tests::shape(&sqlite).await);
    let names =
        |migrator: Migrator| migrator.iter().map(|one| (one.version, one.description.to_string())).collect::<Vec<_>>();
    assert_eq!(names(migrator()), names(crate::sqlite::migrator()));
}

/// The steps of the plan for a statement with these arguments, in a transaction as the store begins it.
async fn plan(connection: &mut PgConnection, sql: &str, types: &str, arguments: &str) -> String {
    let statements = [
        "DEALLOCATE ALL".to_owned(),
        format!("PREPARE planned ({types}) AS {sql}"),
        format!("BEGIN; {}; EXPLAIN (COSTS OFF) EXECUTE planned ({arguments})", desk::PLANS),
    ];
    let mut rows = Vec::new();
    for sql in statements {
        rows = connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    }
    connection.execute("ROLLBACK").await.unwrap();
    rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0) + "\n").collect()
}

/// Whatever the planner believes of the tables: that they are empty, small, large, or still as empty as when it last looked.
#[tokio::test]
async fn no_statement_of_the_hot_path_walks_a_table() {
    const RECORD: &str = "uuid[], bigint[], text[], text[], json[], boolean[], text[], text[], timestamptz[], json[], bigint[], bigint[], \
         timestamptz[], timestamptz[], timestamptz[], boolean[], text[], bigint[], uuid[], text[], boolean[], json[], timestamptz[], \
         text[], bigint[]";
    const COMMON: &str = "uuid[], bigint[], bigint[], bigint[], uuid[], text[], boolean[], json[], timestamptz[]";
    let ahead = &format!("{COMMON}, text[], json[], timestamptz[]");
    let out = &format!("{COMMON}, text[], text[]");
    let Some((store, database)) = make().await else { return };
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    for (rows, analyze) in [(0, true), (20, true), (20_000, false), (0, true)] {
        fill(&mut connection, rows).await;
        if analyze {
            connection.execute("ANALYZE").await.unwrap();
        }
        for batch in [1, 500] {
            let ids = format!("array_fill(gen_random_uuid(), ARRAY[{batch}])");
            let ones = format!("array_fill(1::bigint, ARRAY[{batch}])");
            let nulls = |types: &str| {
                let mut values: Vec<_> = types.split(',').map(|_| "NULL").collect();
                (values[0], values[1]) = (&ids, &ones);
                values.join(", ")
            };
            let statements = [
                (
                    jobs::CLAIM,
                    "text[], bigint[], timestamptz, text, timestamptz",
                    "ARRAY['x', 'y'], ARRAY[200, 200], now(), 'w', now()".to_owned(),
                ),
                (writes::RECORD, RECORD, nulls(RECORD)),
                (usual::AHEAD, ahead, nulls(ahead)),
                (usual::OUT, out, nulls(out)),
                (usual::OUT_ALONE, out, nulls(out)),
                (jobs::RENEW, "uuid[], bigint[], timestamptz", format!("{ids}, {ones}, now()")),
                (jobs::REST, "uuid[], bigint[], timestamptz", format!("{ids}, {ones}, now()")),
            ];
            for (sql, types, arguments) in statements {
                let plan = plan(&mut connection, sql, types, &arguments).await;
                assert!(!plan.contains("Seq Scan"), "{rows} rows: {plan}");
                // An index without a condition is a walk in disguise; for a handful of rows that is all the same.
                let lines: Vec<_> = plan.lines().collect();
                for pair in lines
                    .windows(2)
                    .filter(|pair| pair[0].contains("Index Scan") || pair[0].contains("Index Only Scan"))
                {
                    assert!(
                        rows < 1000 || pair[1].contains("Index Cond:"),
                        "{rows} rows: {} has no condition in {plan}",
                        pair[0]
                    );
                }
                assert!(
                    sql != jobs::CLAIM || rows < 1000 || !plan.contains("Sort"),
                    "the order comes from the index: {plan}"
                );
            }
        }
    }
    assert_eq!(claim(&store, "a", secs(0), 10).await.len(), 10);
}

/// However long the history: a claim reads its index in order, and of the tables no more than what it claims. Takes minutes:
/// `cargo test --release -p social-store --features postgres -- --ignored five_million`.
#[tokio::test]
#[ignore = "fills a table with five million rows"]
async fn a_claim_reads_no_more_with_five_million_rows_of_history() {
    const HISTORY: &str = "SET session_replication_role = replica; \
         INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, phase, due_at, late_limit_us, remote_id, published_at, \
             updated_at) \
         SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), md5((n % 10000)::text)::uuid, 'x', 0, 'published', \
             '2025-01-01'::timestamptz + n * interval '1 s', 0, n, '2025-01-01'::timestamptz + n * interval '1 s', \
             '2025-01-01'::timestamptz + n * interval '1 s' \
         FROM generate_series(1, 5000000) n; \
         SET session_replication_role = origin; VACUUM (ANALYZE) deliveries";
    let Some((store, database)) = make().await else { return };
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    fill(&mut connection, 1000).await;
    let before = claim_pages(&mut connection).await;
    for statement in HISTORY.split("; ") {
        connection.execute(sqlx::raw_sql(statement)).await.unwrap();
    }
    let after = claim_pages(&mut connection).await;
    eprintln!("pages of a claim of 200: {before} without history, {after} with five million rows");
    assert!(after < before + before / 4, "a claim of 200 looked at {after} pages instead of {before}");
    assert_eq!(claim(&store, "a", secs(0), 200).await.len(), 200);
}

/// How many pages a claim of 200 looks at. It is rolled back.
async fn claim_pages(connection: &mut PgConnection) -> u64 {
    let sql = format!(
        "{}; PREPARE counted (text[], bigint[], timestamptz, text, timestamptz) AS {}; BEGIN; \
         EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) EXECUTE counted (ARRAY['x'], ARRAY[200], now(), 'w', now()); ROLLBACK; \
         DEALLOCATE counted",
        desk::PLANS,
        jobs::CLAIM
    );
    let rows = connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    assert!(plan.iter().any(|line| line.contains("Index Scan using deliveries_claimable")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("Seq Scan") || line.contains("Sort")), "{plan:#?}");
    // The first step is the whole statement.
    let pages = plan.iter().find(|line| line.contains("Buffers: shared")).unwrap();
    let count = |kind: &str| {
        pages
            .split(&format!("{kind}="))
            .nth(1)
            .map_or(0, |rest| rest.split_whitespace().next().unwrap().parse::<u64>().unwrap())
    };
    count("hit") + count("read")
}

/// Adds that many due deliveries, each of its own account.
async fn fill(connection: &mut PgConnection, rows: i64) {
    let user = uuid::Uuid::now_v7();
    let statements = [
        "SET enable_nestloop = off".to_owned(),
        format!(
            "INSERT INTO social_accounts SELECT gen_random_uuid(), '{user}', gen_random_uuid(), 'x', 'r' || n, 'profile', NULL, 'n', NULL, \
             '{{}}', 'active', now(), now() FROM generate_series(1, {rows}) n"
        ),
        format!(
            "INSERT INTO connections (id, user_id, platform, preset, remote_user, status, requested_scopes, granted_scopes, refreshable, \
             version, tokens, key_id, created_at, updated_at) SELECT connection_id, '{user}', 'x', '', '', 'active', '[]', '[]', false, 1, \
             '', '', now(), now() FROM social_accounts WHERE user_id = '{user}'"
        ),
        format!(
            "INSERT INTO posts (id, user_id, content, draft, scheduled_time, status, created_at, updated_at) \
             SELECT gen_random_uuid(), '{user}', 't', '{{\"text\":\"t\"}}', now(), 'pending', now(), now() FROM generate_series(1, {rows})"
        ),
        format!(
            "INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, phase, due_at, wake_at, late_limit_us, updated_at) \
             SELECT gen_random_uuid(), p.id, '{user}', a.id, 'x', 0, 'scheduled', '2026-01-01', '2026-01-01', 0, now() \
             FROM (SELECT id, row_number() OVER () AS n FROM posts WHERE user_id = '{user}') p \
             JOIN (SELECT id, row_number() OVER () AS n FROM social_accounts WHERE user_id = '{user}') a USING (n)"
        ),
        "SET enable_nestloop = on".to_owned(),
    ];
    for sql in statements {
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    }
}

/// A key that a transaction holds which has not ended yet: whoever uses it waits, and nobody else.
#[tokio::test]
async fn a_lock_of_somebody_holds_up_only_who_needs_it() {
    let Some((store, database)) = make().await else { return };
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let post = || new_post(user, &connected.accounts, t0());
    let with_key = || NewPost { idempotency: Some(("order-17".to_owned(), [1; 32])), ..post() };
    let host = PgPool::connect(&database.url()).await.unwrap();
    let mut tx = host.begin().await.unwrap();
    let first = with_key();
    assert_eq!(PgStore::insert_post_in(&mut tx, &first).await.unwrap(), Insert::Stored);
    let (same, waiting) = (with_key(), store.clone());
    let waiting = tokio::spawn(async move { waiting.insert_post(&same).await });
    let began = std::time::Instant::now();
    for _ in 0..3 {
        // The first of them meets the one that waits.
        let stored = in_time("a post of somebody else", async { store.insert_post(&post()).await }).await;
        assert_eq!(stored.unwrap(), Insert::Stored);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "the others waited {:?}", began.elapsed());
    assert!(!waiting.is_finished());
    tx.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Insert::Existing(first.post.id));
}

#[tokio::test]
async fn a_post_joins_the_transaction_of_its_caller() {
    let Some((_store, database)) = make().await else { return };
    let host = PgPool::connect(&database.url()).await.unwrap();
    let store = PgStore::from_pool(host.clone());
    let user = UserId::new();
    let connected = connect(&store, user, &X, 2).await;
    host.execute("CREATE TABLE orders (id BIGINT)").await.unwrap();
    let mut new = new_post(user, &connected.accounts, t0());
    new.idempotency = Some(("order-17".to_owned(), [1; 32]));
    for commit in [false, true] {
        let mut tx = host.begin().await.unwrap();
        sqlx::query("INSERT INTO orders VALUES (17)").execute(&mut *tx).await.unwrap();
        assert_eq!(PgStore::insert_post_in(&mut tx, &new).await.unwrap(), Insert::Stored);
        assert_eq!(PgStore::insert_post_in(&mut tx, &new).await.unwrap(), Insert::Existing(new.post.id));
        if commit {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        store.wake();
        in_time("the wake-up", store.woken()).await;
        let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&host).await.unwrap();
        assert_eq!(orders, i64::from(commit));
        assert_eq!(store.post(user, new.post.id).await.unwrap().is_some(), commit);
        let logs = store.fetch("SELECT 1 FROM post_logs", Vec::new()).await.unwrap().len();
        assert_eq!((logs, claim(&store, "a", t0(), 9).await.len()), if commit { (2, 2) } else { (0, 0) });
    }
}

/// Two workers finish the two deliveries of a post at the same time: neither sees what the other is writing, and the status is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_that_meet_leave_the_right_status() {
    let Some((store, _keep)) = make().await else { return };
    let user = UserId::new();
    let connected = connect(&store, user, &X, 2).await;
    for _ in 0..25 {
        schedule(&store, user, &connected.accounts, t0()).await;
    }
    let held = claim(&store, "a", t0(), 50).await;
    assert_eq!(held.len(), 50);
    let tasks: Vec<_> = held
        .into_iter()
        .map(|one| {
            let store = store.clone();
            let end = PhaseWrite {
                lease: LeaseAfter::Release,
                wake_at: None,
                ..write(&one.delivery, PhaseName::Published, secs(1))
            };
            tokio::spawn(async move { store.record(&[end]).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), [Held::Yes]);
    }
    let wrong = store.fetch("SELECT 1 FROM posts WHERE status <> 'published'", Vec::new()).await.unwrap();
    assert_eq!(wrong.len(), 0);
}

/// A row that was written earlier and committed later is not passed over by those who follow the history.
#[tokio::test]
async fn a_row_that_is_committed_late_is_not_missed() {
    let Some((store, _keep)) = make().await else { return };
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    let delivery = new.deliveries[0].id;
    let start =
        store.logs(user, &social_core::store::LogFilter::default(), &PageRequest::default()).await.unwrap().items[0].id;
    let news = async |after| {
        let rows = store.logs_since(user, Some(after), 10).await.unwrap();
        rows.into_iter().map(|row| row.event).collect::<Vec<_>>()
    };
    let mut slow = store.backend.begin().await.unwrap();
    store.append(&mut slow, delivery, &social_testkit::fixtures::entry("slow", secs(1))).await.unwrap();
    store.append_log(delivery, &social_testkit::fixtures::entry("fast", secs(2))).await.unwrap();
    assert_eq!(news(start).await, Vec::<String>::new(), "the later row waits for the earlier one");
    slow.commit().await.unwrap();
    assert_eq!(news(start).await, ["slow", "fast"]);
}

/// A claim that is given up while it waits for its turn must not keep the turn.
#[tokio::test]
async fn a_claim_that_is_cancelled_leaves_nothing_behind() {
    let Some((store, database)) = make().await else { return };
    let connected = connect(&store, UserId::new(), &X, 1).await;
    schedule(&store, connected.user, &connected.accounts, t0()).await;
    let mut other = PgConnection::connect(&database.url()).await.unwrap();
    other.execute(jobs::BEGIN_CLAIM).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut waits = tokio::spawn({
        let store = store.clone();
        async move { claim(&store, "a", t0(), 1).await.len() }
    });
    in_time("a claim that waits", async {
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut other).await.unwrap() == 0 {}
    })
    .await;
    waits.abort();
    assert!((&mut waits).await.unwrap_err().is_cancelled());
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(in_time("the next claim", claim(&store, "b", t0(), 1)).await.len(), 1);
}

#[tokio::test]
async fn the_clock_of_the_database_is_measured() {
    let Some((store, _keep)) = make().await else { return };
    for hours in [-3, 0, 3] {
        let shift = SignedDuration::from_hours(hours);
        let offset = store.clock_offset(later(Timestamp::now(), shift)).await.unwrap();
        let wrong = (offset + shift).abs();
        assert!(wrong < SignedDuration::from_mins(10), "{offset} for a clock that is {shift} ahead");
    }
}

#[tokio::test]
async fn whoever_stands_still_in_a_transaction_loses_it_before_others_lose_their_leases() {
    let Some((store, _keep)) = make().await else { return };
    let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    let milliseconds: i64 = sqlx::query_scalar(sql).fetch_one(&store.backend.pool).await.unwrap();
    // A lease lasts 60 s and is prolonged every 20.
    assert!((1..=20_000).contains(&milliseconds), "{milliseconds} ms");
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_told() {
    let Some((store, database)) = make().await else { return };
    store.check().await.unwrap();
    assert!(store.describe().starts_with("PostgreSQL 1"), "{}", store.describe());
    let read_only =
        PgPool::connect_lazy(&format!("{}&options=-cdefault_transaction_read_only%3Don", database.url())).unwrap();
    let other = PgStore::from_pool(read_only);
    assert_eq!(other.check().await.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(other.describe(), "PostgreSQL");
}

#[tokio::test]
async fn neither_address_nor_password_is_repeated() {
    let password = Marker::new("password");
    let options = PgConnectOptions::new().host("127.0.0.1").port(1).username("bob").password(password.value());
    let error =
        PgStore::connect_with(options.clone(), PgStore::pool_options().acquire_timeout(Duration::from_millis(1)));
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_clean("an error", format!("{error} {error:?}"));
    let broken = crate::open(&format!("postgres://bob:{}@host:port/db", password.value())).await.unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Config);
    assert_clean("an error", format!("{broken} {broken:?}"));
    let store = PgStore::from_pool(PgStore::pool_options().connect_lazy_with(options));
    assert_clean("a store's Debug", format!("{store:?}"));
}

/// F2: the database dies under a worker and comes back. What was acknowledged is there, callers are told meanwhile, and everything goes on
/// by itself, the wake-ups of other processes included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_away_is_found_again() {
    let Some(server) = Server::start() else { return };
    let open = async || {
        let pool = PgStore::pool_options().acquire_timeout(Duration::from_secs(3));
        PgStore::connect_with(server.admin_url().parse().unwrap(), pool).await.unwrap()
    };
    let (store, worker) = (open().await, open().await);
    store.migrate().await.unwrap();
    let user = UserId::new();
    let connected = connect(&store, user, &X, 1).await;
    let new = schedule(&store, user, &connected.accounts, t0()).await;
    in_time("the first wake-up", worker.woken()).await;
    let held = claim(&worker, "a", t0(), 1).await.remove(0).delivery;
    assert_eq!(worker.record(&[write(&held, PhaseName::Committing, secs(1))]).await.unwrap(), [Held::Yes]);

    server.crash();
    let end = PhaseWrite { lease: LeaseAfter::Release, wake_at: None, ..write(&held, PhaseName::Published, secs(2)) };
    assert_eq!(worker.record(std::slice::from_ref(&end)).await.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(
        store.insert_post(&new_post(user, &connected.accounts, t0())).await.unwrap_err().kind(),
        ErrorKind::Storage
    );
    server.recover();

    // Connections that were in use a moment ago are found to be dead by their next use, each at most once.
    let found = in_time("the database", async {
        loop {
            if let Ok(found) = store.delivery(user, held.id).await {
                return found.unwrap();
            }
        }
    });
    assert_eq!(found.await.phase.name(), PhaseName::Committing, "what was acknowledged is there");
    let written = in_time("the database", async {
        loop {
            if let Ok(written) = worker.record(std::slice::from_ref(&end)).await {
                return written;
            }
        }
    });
    assert_eq!(written.await, [Held::Yes]);
    assert!(store.post(user, new.post.id).await.unwrap().is_some());
    // The listener connects again in its own time; the posts go on until it has.
    in_time("a wake-up after the crash", async {
        tokio::select! {
            () = async { for _ in 0..3 { worker.woken().await; } } => {}
            () = async {
                loop {
                    schedule(&store, user, &connected.accounts, secs(60)).await;
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    })
    .await;
}

#[tokio::test]
async fn the_facade_opens_and_migrates() {
    let Some(database) = Database::create().await else { return };
    let store: std::sync::Arc<dyn Store> = crate::open(&database.url()).await.unwrap();
    store.check().await.unwrap();
}
