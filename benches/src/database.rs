//! A database for one run.

use std::{fmt, sync::Arc};

use clap::{Args, ValueEnum};
use social_core::{Store, store::NewPost};
use social_store::SqliteStore;
use social_testkit::pg::Server;
use tempfile::TempDir;

use crate::{Failure, distance::Distance};

/// Posts per transaction while filling.
const BATCH: usize = 1_000;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file in a temporary folder.
    Sqlite,
    /// A private cluster from installed binaries, unless an address is given.
    Postgres,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

/// The options of every program that needs a database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseOptions {
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    pub store: Kind,
    /// An empty database to use instead of a private one.
    #[arg(long)]
    pub database_url: Option<String>,
    /// How much later an answer of PostgreSQL arrives, in milliseconds, as from a server at a distance. Needs one with a socket in a folder, such as a private one.
    #[arg(long, default_value_t = 0)]
    pub database_delay_ms: u64,
}

/// A database for one run; a private one ends with it.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    url: String,
    /// Where it is if it is put at a distance.
    distance: Option<Distance>,
    _private: Private,
}

/// What is taken away with a private database.
#[derive(Debug)]
enum Private {
    No,
    Folder(#[expect(dead_code, reason = "held until the end")] TempDir),
    Cluster(#[expect(dead_code, reason = "held until the end")] Server),
}

impl Database {
    /// An empty, migrated database.
    ///
    /// # Errors
    /// If it cannot be made, or the one that was named is not empty.
    pub async fn open(options: &DatabaseOptions) -> Result<Self, Failure> {
        let kind = options.store;
        let (url, private) = match (kind, options.database_url.clone()) {
            (kind, Some(url)) if url.starts_with(&kind.to_string()) => (url, Private::No),
            (kind, Some(_)) => return Err(format!("--database-url is not one of {kind}").into()),
            (Kind::Sqlite, None) => {
                let folder = TempDir::new()?;
                (format!("sqlite://{}", folder.path().join("bench.db").display()), Private::Folder(folder))
            }
            (Kind::Postgres, None) => {
                let cluster = Server::start_as_shipped();
                let cluster = cluster.ok_or("no PostgreSQL: install its server programs or give --database-url")?;
                (cluster.admin_url(), Private::Cluster(cluster))
            }
        };
        let distance = match (kind, options.database_delay_ms) {
            (_, 0) => None,
            (Kind::Postgres, ms) => Some(Distance::to(&url, ms)?),
            (Kind::Sqlite, _) => return Err("--database-delay-ms: nothing is between a program and SQLite".into()),
        };
        let database = Self { kind, url, distance, _private: private };
        if !database.store().await?.depth().await?.is_empty() {
            return Err("the database already holds open posts; give an empty one".into());
        }
        Ok(database)
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address for whoever is measured.
    #[must_use]
    pub fn url(&self) -> &str {
        self.distance.as_ref().map_or(&self.url, Distance::url)
    }

    /// A store over it.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(social_store::open(self.url()).await?)
    }

    /// Stores posts in large transactions; much faster than one by one, and outside of what is measured.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn insert(&self, posts: impl Iterator<Item = NewPost>) -> Result<(), Failure> {
        match self.kind {
            Kind::Sqlite => self.insert_sqlite(posts).await,
            Kind::Postgres => self.insert_postgres(posts).await,
        }
    }

    async fn insert_sqlite(&self, mut posts: impl Iterator<Item = NewPost>) -> Result<(), Failure> {
        let pool = sqlx::SqlitePool::connect(&self.url).await?;
        loop {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
            let mut stored = 0;
            for post in posts.by_ref().take(BATCH) {
                let _ = SqliteStore::insert_post_in(&mut transaction, &post).await?;
                stored += 1;
            }
            transaction.commit().await?;
            if stored < BATCH {
                break;
            }
        }
        // What was stored is in the file and not in its log, as it would be by the time that it is due.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    #[cfg(feature = "postgres")]
    async fn insert_postgres(&self, mut posts: impl Iterator<Item = NewPost>) -> Result<(), Failure> {
        let pool = sqlx::PgPool::connect(&self.url).await?;
        loop {
            let mut transaction = pool.begin().await?;
            let mut stored = 0;
            for post in posts.by_ref().take(BATCH) {
                let _ = social_store::PgStore::insert_post_in(&mut transaction, &post).await?;
                stored += 1;
            }
            transaction.commit().await?;
            if stored < BATCH {
                break;
            }
        }
        // As the database itself would have done long before the posts are due.
        sqlx::query("VACUUM ANALYZE").execute(&pool).await?;
        pool.close().await;
        Ok(())
    }

    #[cfg(not(feature = "postgres"))]
    #[expect(clippy::unused_async, reason = "the same signature with and without the feature")]
    async fn insert_postgres(&self, _posts: impl Iterator<Item = NewPost>) -> Result<(), Failure> {
        Err(NO_POSTGRES.into())
    }
}

#[cfg(not(feature = "postgres"))]
const NO_POSTGRES: &str = "this build has no PostgreSQL: turn on the feature `postgres`";
