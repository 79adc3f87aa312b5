//! SQLite: one file, one writer, no server.
//!
//! WAL with `synchronous=FULL`: what was acknowledged survives a loss of power. All writes of a process go through one connection, in
//! batches; reads have connections of their own and never hold a write up. Another process (a worker beside the API, or the host's own
//! transaction) may use the same file: whoever comes second waits up to five seconds.

mod backend;
mod jobs;
mod posts;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod usual;
mod writer;

use std::{
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use social_core::{
    error::{Error, ErrorKind},
    store::{Insert, NewPost},
};
use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use self::backend::SqliteBackend;
use self::writer::Writer;
use crate::{
    backend::SqlStore,
    fault::{migration, storage},
};

/// A store in a SQLite file. Cheap to clone; clones share their connections.
///
/// ```
/// # async fn example() -> Result<(), social_core::Error> {
/// let store = social_store::SqliteStore::open("sqlite://social.db").await?;
/// # Ok(()) }
/// ```
pub type SqliteStore = SqlStore<SqliteBackend>;

/// How long a statement waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// Between two tries where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(20);
const READERS: u32 = 4;
/// In kibibytes, as SQLite wants it: negative. Readers find in the cache of the operating system what they do not keep themselves.
const READERS_CACHE: &str = "-256";

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    // A name of our own: a host that keeps its tables in the same file has migrations of its own.
    migrator.dangerous_set_table_name(crate::backend::MIGRATIONS);
    // A newer process may have migrated already; schemas only grow, so that an older one goes on working.
    migrator.set_ignore_missing(true);
    migrator
}

impl SqlStore<SqliteBackend> {
    /// Opens the database at `url` (`sqlite://social.db`), makes the file if it is missing, readable and writable for its owner only, and
    /// brings the schema up to date. `sqlite::memory:` is [`open_in_memory`](Self::open_in_memory).
    ///
    /// # Errors
    /// `Config` if the address cannot be read; `Storage` if the file cannot be opened, written or migrated.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let store = Self::connect_without_migrating(url).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// The same without touching the schema, for operators who migrate in a step of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn connect_without_migrating(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("sqlite:").unwrap_or(url).trim_start_matches("//");
        if rest == ":memory:" {
            return Self::unmigrated_scratch().await;
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|_| {
            let message = "the address of the database is not one of SQLite, such as sqlite://social.db";
            Error::new(ErrorKind::Config, "store.open").message(message).effect_none()
        })?;
        Self::connect(options.create_if_missing(true).synchronous(SqliteSynchronous::Full), None).await
    }

    /// An empty store that ends with its last clone. For tests and demonstrations: it lives in a temporary file, so that it behaves like
    /// a real one in everything but surviving a loss of power.
    ///
    /// # Errors
    /// `Storage` if the temporary file cannot be made.
    pub async fn open_in_memory() -> Result<Self, Error> {
        let store = Self::unmigrated_scratch().await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Brings the schema up to date. Repeatable, and safe while other processes do the same.
    ///
    /// # Errors
    /// `Storage` if a migration cannot be applied; those before it stay.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.migrate_with(&migrator()).await
    }

    pub(crate) async fn migrate_with(&self, migrator: &Migrator) -> Result<(), Error> {
        // Processes that start at once want to make the same tables: all but one fail, and find them there the next time. Each failure
        // means that another one got further, but for locks that SQLite does not wait for.
        let mut patience = 50;
        loop {
            let mut writer = self.backend.writer.lock().await.map_err(storage("store.migrate"))?;
            // `run` takes what can be acquired, and the compiler cannot tell that its lifetimes fit into a future that is sent elsewhere.
            match migrator.run_direct(None, writer.connection(), false).await {
                Ok(()) => {
                    writer.done();
                    return Ok(());
                }
                Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if patience > 0 => {
                    drop(writer);
                    patience -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(migration(&error)),
            }
        }
    }

    /// Stores a post in the caller's own transaction on the same database file: it is there if and when the caller commits. Begin the
    /// transaction with `BEGIN IMMEDIATE`, since one that has only read cannot always go on to write, and call
    /// [`wake`](Self::wake) after the commit.
    ///
    /// # Errors
    /// `Storage`; roll the transaction back then.
    pub async fn insert_post_in(transaction: &mut Transaction<'_, Sqlite>, new: &NewPost) -> Result<Insert, Error> {
        posts::insert_in(transaction, new).await.map_err(storage("posts.insert"))
    }

    /// Writes a consistent copy of the whole database to a new file at `path`, while work goes on. The copy is readable and writable for
    /// its owner only. Restore it by opening it.
    ///
    /// # Errors
    /// `Storage` if there is a file at `path` already, or it cannot be written.
    pub async fn backup_to(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.backup(path.as_ref()).await.map_err(storage("store.backup"))
    }

    async fn backup(&self, path: &Path) -> sqlx::Result<()> {
        let target = path.to_str().ok_or_else(|| crate::fault::unreadable("the path is not UTF-8"))?.to_owned();
        if !create_private(path)? {
            return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists).into());
        }
        // A connection of its own: a copy takes long, and neither readers nor the writer should stand behind it.
        let mut connection = self.backend.options.connect().await?;
        let copied = sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await;
        connection.close().await?;
        if copied.is_err() {
            let _ = std::fs::remove_file(path);
        }
        copied.map(drop)
    }

    async fn unmigrated_scratch() -> Result<Self, Error> {
        let scratch = Scratch::new().map_err(|error| storage("store.open")(error.into()))?;
        let options = SqliteConnectOptions::new().filename(scratch.0.join("social.db")).create_if_missing(true);
        Self::connect(options.synchronous(SqliteSynchronous::Off), Some(scratch)).await
    }

    async fn connect(options: SqliteConnectOptions, scratch: Option<Scratch>) -> Result<Self, Error> {
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .row_buffer_size(1024)
            .pragma("secure_delete", "ON")
            .pragma("temp_store", "MEMORY")
            // The write-ahead log is folded in a little less often than by itself.
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864");
        let failed = storage("store.open");
        create_private(options.get_filename()).map_err(|error| failed(error.into()))?;
        let writer = Writer::new(options.clone());
        // The first connection makes the file a WAL, before readers come that may not. SQLite does not wait for others there.
        let mut patience = BUSY.as_millis() / PAUSE.as_millis();
        let mut first = loop {
            match writer.lock().await {
                Ok(first) => break first,
                Err(error) if patience > 0 && is_locked(&error) => {
                    patience -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        let version: String =
            sqlx::query_scalar("SELECT sqlite_version()").fetch_one(first.connection()).await.map_err(&failed)?;
        first.done();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON").pragma("cache_size", READERS_CACHE));
        Ok(Self::over(SqliteBackend::new(options, writer, readers, version, scratch)))
    }
}

/// Another connection is at the file; SQLite's code for it, without what extends it.
fn is_locked(error: &sqlx::Error) -> bool {
    const BUSY_CODE: i32 = 5;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xFF == BUSY_CODE)
}

/// Makes an empty file that only its owner can read. `false` if it is there already.
fn create_private(path: &Path) -> std::io::Result<bool> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A directory that is removed with its contents.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("social-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `count` groups of `width` parameters, as in `(?, ?), (?, ?)`.
fn groups(count: usize, width: usize) -> String {
    let group = format!("({})", vec!["?"; width].join(", "));
    vec![group; count].join(", ")
}

/// Slices of a few fixed lengths, so that few statements have to be kept prepared.
fn portions<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = [64, 16, 4, 1].into_iter().find(|length| *length <= items.len())?;
        let (portion, rest) = items.split_at(length);
        items = rest;
        Some(portion)
    })
}
