//! The promises of every store, kept by PostgreSQL.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::sync::Arc;

use social_core::store::Store;
use social_store::PgStore;
use social_testkit::store::StoreUnderTest;
use sqlx::{Connection as _, PgConnection};

use common::Database;

async fn open(url: String) -> PgStore {
    let store = PgStore::connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// Two handles to one database, as two processes would have it.
async fn make() -> Option<StoreUnderTest> {
    let database = Database::create().await?;
    let (store, second) = (open(database.url()).await, open(database.url()).await);
    let (dumped, reopened) = (database.url(), database.url());
    let dump = move || rows(dumped.clone());
    let reopen = move || {
        let url = reopened.clone();
        async move { Arc::new(open(url).await) as Arc<dyn Store> }
    };
    let sut = StoreUnderTest::new(Arc::new(store), dump).second(Arc::new(second)).reopen(reopen);
    Some(sut.wakes_across_handles().keep(database))
}

/// Every row of every table as text, bytes in hexadecimal digits.
async fn rows(url: String) -> Vec<u8> {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await.unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let mut out = String::new();
    for table in tables {
        let sql = format!("SELECT t::text FROM {table} t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        out.extend(rows);
    }
    out.into_bytes()
}

social_testkit::store_suite!(postgres, make);
