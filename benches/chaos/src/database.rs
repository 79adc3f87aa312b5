//! A private database for one scenario.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

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
    /// A private cluster from installed programs, with the settings that PostgreSQL is shipped with, but for 300 connections.
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

/// A database that is away. An exclusive lock ends with this value.
#[derive(Debug)]
pub struct Away(Option<sqlx::SqliteConnection>);

/// A backup on disk.
#[derive(Debug)]
pub struct Backup(PathBuf);

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
                let cluster = Server::start_for_many().ok_or("PostgreSQL's server programs are not installed")?;
                Self { kind, url: cluster.admin_url(), cluster: Some(cluster) }
            }
        })
    }

    /// An empty one that lies on the disk at `path` with everything it needs.
    ///
    /// # Errors
    /// If PostgreSQL is not installed.
    pub fn open_on(kind: Kind, path: &Path) -> Result<Self, Failure> {
        match kind {
            Kind::Sqlite => Self::open(kind, path),
            Kind::Postgres => {
                let cluster =
                    Server::start_as_shipped_in(path).ok_or("PostgreSQL's server programs are not installed")?;
                Ok(Self { kind, url: cluster.admin_url(), cluster: Some(cluster) })
            }
        }
    }

    /// Takes the database away as a crash would (PostgreSQL, killed), or as somebody who holds its lock does (SQLite), until the answer is
    /// given to [`give_back`](Self::give_back).
    ///
    /// # Errors
    /// If it cannot be locked.
    pub async fn take_away(&self) -> Result<Away, Failure> {
        match self.cluster() {
            Some(cluster) => {
                tokio::task::block_in_place(|| cluster.crash());
                Ok(Away(None))
            }
            None => {
                let mut lock = self.sqlite().await?;
                sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut lock).await?;
                Ok(Away(Some(lock)))
            }
        }
    }

    /// Ends [`take_away`](Self::take_away).
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn give_back(&self, away: Away) -> Result<(), Failure> {
        match away.0 {
            Some(mut lock) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut lock).await?;
                lock.close().await?;
            }
            None => tokio::task::block_in_place(|| self.cluster().into_iter().for_each(Server::recover)),
        }
        Ok(())
    }

    /// Takes a backup into `folder` while others work: a copy of a consistent state (SQLite), or of the files of a server that crashed
    /// and is started again (PostgreSQL).
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn back_up(&self, folder: &Path) -> Result<Backup, Failure> {
        let Some(cluster) = self.cluster() else {
            let path = folder.join("backup.db");
            social_store::SqliteStore::open(&self.url).await?.backup_to(&path).await?;
            return Ok(Backup(path));
        };
        let (data, path) = (self.data()?, folder.join("backup"));
        tokio::task::block_in_place(|| {
            cluster.crash();
            let copied = copy(&data, &path);
            cluster.recover();
            copied
        })?;
        Ok(Backup(path))
    }

    /// Puts a backup back. A file of SQLite gets another name, so that nobody who had the old one open can do it harm.
    ///
    /// # Errors
    /// If it cannot be put back.
    pub fn restore(&mut self, backup: &Backup) -> Result<(), Failure> {
        let Some(cluster) = self.cluster() else {
            let path = backup.0.with_file_name("restored.db");
            fs::copy(&backup.0, &path)?;
            self.url = format!("sqlite://{}", path.display());
            return Ok(());
        };
        let data = self.data()?;
        tokio::task::block_in_place(|| {
            cluster.crash();
            fs::remove_dir_all(&data)?;
            let copied = copy(&backup.0, &data);
            cluster.recover();
            copied
        })
    }

    /// Where the files of a private cluster are: beside its socket.
    fn data(&self) -> Result<PathBuf, Failure> {
        let url: url::Url = self.url.parse()?;
        let host = url.query_pairs().find(|(name, _)| name == "host");
        let (_, host) = host.ok_or("the cluster has no folder")?;
        Ok(Path::new(&*host).join("data"))
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

/// A folder with everything in it, owners and rights included.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{} cannot be copied", from.display()).into()) }
}
