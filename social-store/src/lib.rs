//! The stores: SQLite (feature `sqlite`, on by default) and PostgreSQL (feature `postgres`).
//!
//! Both keep every promise of the traits in [`social_core::store`] and pass the same conformance suite. They hold ciphertext only and
//! never ask what time it is. [`open`] chooses by the address; an application that knows which one it wants calls `SqliteStore::open` or
//! `PgStore::connect`. The schema is explained in `docs/schema.md`.
//!
//! The claim, the batched write and the storing of a post are written for each database by itself, since they are the hot path. Everything
//! else is one text for both, so that the two cannot drift apart.

// Without a database there is nothing to share.
#![cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code, unused_imports, unused_macros))]

mod accounts;
mod admin;
#[doc(hidden)]
pub mod backend;
mod cursor;
mod deletions;
mod fault;
mod intake;
mod jobs;
mod logs;
mod media;
mod posts;
mod rates;
mod row;
mod tokens;
mod value;

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use social_core::{
    error::{Error, ErrorKind},
    store::Store,
};

pub use backend::SqlStore;
#[cfg(feature = "postgres")]
pub use postgres::PgStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// Opens the store at `url` and brings its schema up to date: `sqlite://social.db` (the file is made if it is missing), `sqlite::memory:`,
/// or `postgres://user:password@host/database`.
///
/// # Errors
/// `Config` for another scheme, or one whose feature is off; `Storage` if the database does not answer or cannot be migrated. Neither
/// repeats the address, which may hold a password.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        "sqlite" => open_sqlite(url).await,
        "postgres" | "postgresql" => open_postgres(url).await,
        _ => Err(config("the database address must begin with sqlite: or postgres:")),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(url: &str) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(SqliteStore::open(url).await?))
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(_url: &str) -> Result<Arc<dyn Store>, Error> {
    Err(config("this build has no SQLite store: turn on the feature `sqlite`"))
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str) -> Result<Arc<dyn Store>, Error> {
    let store = PgStore::connect(url).await?;
    store.migrate().await?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_url: &str) -> Result<Arc<dyn Store>, Error> {
    Err(config("this build has no PostgreSQL store: turn on the feature `postgres`"))
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, "store.open").message(message).effect_none()
}
