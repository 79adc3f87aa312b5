//! PostgreSQL 15 or newer: many workers over one database.
//!
//! Claims are made one at a time (an advisory lock of the transaction, held for two round trips), so that two workers can never hold
//! deliveries of one account; everything else runs side by side under row locks. A batch of writes is one statement over arrays.
//! `NOTIFY` wakes workers in other processes.
//!
//! The tables live in the first schema of the `search_path`. Behind a pooler that shares connections between transactions, prepared
//! statements and `LISTEN` do not work: connect directly, or let the pooler share sessions.

mod backend;
mod desk;
mod jobs;
mod listen;
mod posts;
#[cfg(test)]
mod tests;
mod usual;
mod writes;

use std::{str::FromStr as _, time::Duration};

use social_core::{
    error::{Error, ErrorKind},
    store::{Insert, NewPost},
};
use sqlx::{
    Connection as _, Executor as _, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

pub use self::backend::PgBackend;
use crate::{
    backend::SqlStore,
    fault::{migration, storage},
};

/// A store in a PostgreSQL database. Cheap to clone; clones share their connections.
pub type PgStore = SqlStore<PgBackend>;

/// How many connections a process opens by itself, beside the five of the hot path: ten in all, of which a worker without the API needs nine.
const CONNECTIONS: u32 = 5;
/// How long a caller waits for a connection, that is: how long the database may be away before callers are told.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may idle and still be used without a question.
const FRESH: Duration = Duration::from_millis(500);

/// What every connection of ours is told: nothing may run for ever, and what was acknowledged is on disk (the write-ahead above all),
/// whatever the server's default is. Our transactions never pause by themselves: one that does belongs to a process that stands still, and
/// its locks must be gone long before the leases of those who wait for them.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '15s'";

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    // A name of our own: a host that keeps its tables in the same database has migrations of its own.
    migrator.dangerous_set_table_name(crate::backend::MIGRATIONS);
    // A newer process may have migrated already; schemas only grow, so that an older one goes on working.
    migrator.set_ignore_missing(true);
    migrator
}

impl SqlStore<PgBackend> {
    /// Connects to `postgres://user:password@host/database`. Does not touch the schema: see [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// `Config` if the address cannot be read; `Storage` if the database does not answer. Neither repeats the address.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            let message = "the address of the database is not one of PostgreSQL, such as postgres://user@host/database";
            Error::new(ErrorKind::Config, "store.open").message(message).effect_none()
        })?;
        Self::connect_with(options, Self::pool_options()).await
    }

    /// The same with options of the caller, such as a certificate or a number of connections. Begin with
    /// [`pool_options`](Self::pool_options).
    ///
    /// # Errors
    /// `Storage` if the database does not answer.
    pub async fn connect_with(options: PgConnectOptions, pool: PgPoolOptions) -> Result<Self, Error> {
        let pool = pool.connect_with(options.application_name("social")).await.map_err(storage("store.open"))?;
        let store = Self::from_pool(pool);
        store.backend.learn_version().await.map_err(storage("store.open"))?;
        Ok(store)
    }

    /// A store over the caller's own pool. Time limits are the caller's business then.
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        Self::over(PgBackend::new(pool))
    }

    /// Five connections with time limits (claims, changes, leases and new posts have five more): 10 s to get a connection or a lock, 30 s for a statement.
    #[must_use]
    pub fn pool_options() -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    // A connection that was busy just now needs no question; one that idled may have lost its server.
                    Ok(metadata.idle_for < FRESH || connection.ping().await.is_ok())
                })
            })
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(SESSION)).await?;
                    Ok(())
                })
            })
    }

    /// Brings the schema up to date. Repeatable, and safe while other processes do the same or go on working.
    ///
    /// # Errors
    /// `Storage` if a migration cannot be applied; those before it stay.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.migrate_with(&migrator()).await
    }

    pub(crate) async fn migrate_with(&self, migrator: &Migrator) -> Result<(), Error> {
        let failed = storage("store.migrate");
        let mut connection = self.backend.pool.acquire().await.map_err(&failed)?;
        // It may take as long as it takes, and whoever migrates at the same time is waited for.
        connection.execute(sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")).await.map_err(&failed)?;
        // `run` takes what can be acquired, and the compiler cannot tell that its lifetimes fit into a future that is sent elsewhere.
        let migrated = migrator.run_direct(None, &mut *connection, false).await;
        // The settings, and the lock of a migration that failed, end with the session.
        connection.close().await.map_err(&failed)?;
        migrated.map_err(|error| migration(&error))
    }

    /// Stores a post in the caller's own transaction on the same database: it is there if and when the caller commits. Call
    /// [`wake`](Self::wake) after the commit.
    ///
    /// # Errors
    /// `Storage`; the transaction can only be rolled back then.
    pub async fn insert_post_in(transaction: &mut Transaction<'_, Postgres>, new: &NewPost) -> Result<Insert, Error> {
        let inserted = posts::insert(transaction, &[crate::posts::StoredPost::of(new)]).await;
        let first = inserted.and_then(|inserted| inserted.into_iter().next().unwrap_or(Err(sqlx::Error::RowNotFound)));
        first.map_err(storage("posts.insert"))
    }
}
