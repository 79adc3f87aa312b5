//! A private database for one scenario.

use std::{fmt, path::Path, sync::Arc};

use clap::ValueEnum;
use social_core::Store;
use social_store::PgStore;
use social_testkit::pg::Server;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::{Failure, clock::Pace};

/// The time limits of a session of the PostgreSQL store, in milliseconds: a statement, a lock, a transaction in which nothing happens.
const SESSION_MS: [(&str, u32); 3] =
    [("statement_timeout", 30_000), ("lock_timeout", 10_000), ("idle_in_transaction_session_timeout", 15_000)];

/// Opens a store at an address. Where time passes faster, the database gives up on a session sooner by as much: a worker that stands still
/// in a transaction must not hold up the others for longer than it would.
///
/// # Errors
/// `Storage`.
pub async fn open_store(url: &str, pace: Pace) -> Result<Arc<dyn Store>, Failure> {
    if pace.speed == 1 || !url.starts_with("postgres") {
        return Ok(social_store::open(url).await?);
    }
    let mut session = "SET synchronous_commit = on".to_owned();
    for (name, milliseconds) in SESSION_MS {
        session.push_str(&format!("; SET {name} = {}", (milliseconds / pace.speed).max(500)));
    }
    let session: Arc<str> = session.into();
    let pool = PgStore::pool_options().after_connect(move |connection, _| {
        let session = Arc::clone(&session);
        Box::pin(async move {
            sqlx::raw_sql(sqlx::AssertSqlSafe(session.to_string())).execute(connection).await?;
            Ok(())
        })
    });
    let store = PgStore::connect_with(url.parse()?, pool).await?;
    store.migrate().await?;
    Ok(Arc::new(store))
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file in a temporary folder.
    Sqlite,
    /// A private cluster from installed programs, with the settings that PostgreSQL is shipped with.
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

/// A database that ends with this value.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    url: String,
    cluster: Option<Server>,
}

impl Database {
    /// An empty one; a file lies in `folder`.
    ///
    /// # Errors
    /// If PostgreSQL is not installed.
    pub fn open(kind: Kind, folder: &Path) -> Result<Self, Failure> {
        Ok(match kind {
            Kind::Sqlite => {
                let url = format!("sqlite://{}", folder.join("social.db").display());
                Self { kind, url, cluster: None }
            }
            Kind::Postgres => {
                let cluster = Server::start_as_shipped().ok_or("PostgreSQL's server programs are not installed")?;
                Self { kind, url: cluster.admin_url(), cluster: Some(cluster) }
            }
        })
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The PostgreSQL server, to be crashed and started again.
    #[must_use]
    pub fn cluster(&self) -> Option<&Server> {
        self.cluster.as_ref()
    }

    /// A store over it, with the schema up to date.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(social_store::open(&self.url).await?)
    }

    /// A store over it whose sessions give up sooner, as a fast clock wants it.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn store_at(&self, pace: Pace) -> Result<Arc<dyn Store>, Failure> {
        open_store(&self.url, pace).await
    }

    /// Runs statements that answer with nothing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, statements: &'static str) -> Result<(), Failure> {
        match self.kind {
            Kind::Sqlite => {
                let mut connection = self.sqlite().await?;
                sqlx::raw_sql(statements).execute(&mut connection).await?;
                connection.close().await?;
            }
            Kind::Postgres => {
                let mut connection = sqlx::PgConnection::connect(&self.url).await?;
                sqlx::raw_sql(statements).execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }

    /// The one number that a query answers with.
    ///
    /// # Errors
    /// What the database says.
    pub async fn number(&self, query: &'static str) -> Result<i64, Failure> {
        Ok(match self.kind {
            Kind::Sqlite => sqlx::query_scalar(query).fetch_one(&mut self.sqlite().await?).await?,
            Kind::Postgres => {
                sqlx::query_scalar(query).fetch_one(&mut sqlx::PgConnection::connect(&self.url).await?).await?
            }
        })
    }

    async fn sqlite(&self) -> Result<sqlx::SqliteConnection, Failure> {
        let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse()?;
        Ok(options.busy_timeout(std::time::Duration::from_secs(30)).connect().await?)
    }
}
