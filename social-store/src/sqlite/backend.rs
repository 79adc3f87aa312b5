//! SQLite's side of the seam.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicBool},
};

use jiff::{SignedDuration, Timestamp};
use social_core::store::{ClaimRequest, Held, Insert, Lease, PhaseWrite};
use sqlx::{
    Row as _,
    sqlite::{SqliteConnectOptions, SqlitePool, SqliteRow},
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Scratch, jobs,
    writer::{Tx, Writer, query},
};
use crate::{
    backend::{Backend, Columns, Harvest, Sql, Value, in_use},
    fault::unreadable,
    intake::Intake,
    posts::StoredPost,
};

/// A smaller difference is the time that reading takes.
const SAME_CLOCK: SignedDuration = SignedDuration::from_secs(1);

/// The connections of a [`SqliteStore`](crate::SqliteStore).
pub struct SqliteBackend {
    pub(super) options: SqliteConnectOptions,
    pub(super) writer: Arc<Writer>,
    readers: SqlitePool,
    intake: Intake<Arc<Writer>>,
    more_due: AtomicBool,
    wake: Notify,
    version: String,
    // Last, so that the files outlive the connections.
    _scratch: Option<Scratch>,
}

impl SqliteBackend {
    pub(super) fn new(
        options: SqliteConnectOptions,
        writer: Writer,
        readers: SqlitePool,
        version: String,
        scratch: Option<Scratch>,
    ) -> Self {
        let writer = Arc::new(writer);
        let intake = Intake::new(Arc::clone(&writer));
        let more_due = AtomicBool::new(false);
        Self { options, writer, readers, intake, more_due, wake: Notify::new(), version, _scratch: scratch }
    }
}

impl std::fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("file", &self.options.get_filename()).finish_non_exhaustive()
    }
}

impl Backend for SqliteBackend {
    type Row = SqliteRow;
    type Tx<'a> = Tx<'a>;

    const APPEND_LOG: &'static str = "INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, \
         created_at) SELECT $1, post_id, id, user_id, platform, $3, $4, attempt, $5, $6 FROM deliveries WHERE id = $2";

    const WRITES_IN_PARALLEL: bool = false;
    const LOCK_RATES: Option<&'static str> = None;
    const LOCK_FILES: Option<&'static str> = None;

    async fn begin(&self) -> sqlx::Result<Tx<'_>> {
        self.writer.begin().await
    }

    async fn fetch(&self, sql: Sql, values: Vec<Value>) -> sqlx::Result<Vec<SqliteRow>> {
        query(sql, values).fetch_all(&self.readers).await
    }

    async fn returning(&self, sql: &'static str, values: Vec<Value>) -> sqlx::Result<Vec<SqliteRow>> {
        let mut writer = self.writer.lock().await?;
        let rows = query(sql.into(), values).fetch_all(writer.connection()).await?;
        writer.done();
        Ok(rows)
    }

    async fn execute(&self, sql: &'static str, values: Vec<Value>) -> sqlx::Result<u64> {
        let mut writer = self.writer.lock().await?;
        let done = query(sql.into(), values).execute(writer.connection()).await?;
        writer.done();
        Ok(done.rows_affected())
    }

    async fn claim(&self, request: &ClaimRequest, harvest: &mut Harvest) -> sqlx::Result<()> {
        jobs::claim(&self.readers, &self.writer, &self.more_due, request, harvest).await
    }

    async fn record(&self, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
        jobs::record(&self.writer, writes).await
    }

    async fn renew(&self, leases: &[Lease], until: Timestamp) -> sqlx::Result<Vec<Held>> {
        jobs::renew(&self.writer, leases, until).await
    }

    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> sqlx::Result<()> {
        jobs::rest(&self.writer, leases, wake_at).await
    }

    async fn insert_post(&self, post: StoredPost) -> sqlx::Result<Insert> {
        self.intake.insert(post).await
    }

    async fn complete_until(&self) -> sqlx::Result<Option<i64>> {
        // There is one writer at a time: numbers are given in the order of the commits.
        Ok(None)
    }

    async fn scrub(&self) {
        // Deleted cells are overwritten in the database (`secure_delete`), but old pages linger in the write-ahead log until it is emptied.
        // With a reader in the way that happens later, by itself.
        let Ok(mut writer) = self.writer.lock().await else { return };
        for sql in ["PRAGMA busy_timeout = 0", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA busy_timeout = 5000"] {
            if sqlx::query(sql).fetch_all(writer.connection()).await.is_err() {
                return;
            }
        }
        writer.done();
    }

    fn wake(&self) {
        self.wake.notify_waiters();
        // And the next who asks: a worker that was busy in this moment must not miss it.
        self.wake.notify_one();
    }

    async fn woken(&self) {
        self.wake.notified().await;
    }

    /// All processes of a file share the machine's clock, which SQLite reads too. Only a clock that a host handed in can differ from it, and
    /// leases would mean nothing between processes that disagree about the time.
    async fn clock_offset(&self, now: Timestamp) -> sqlx::Result<SignedDuration> {
        let query = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)";
        let milliseconds: i64 = sqlx::query_scalar(query).fetch_one(&self.readers).await?;
        let machine = Timestamp::from_millisecond(milliseconds).map_err(|_| unreadable("SQLite's time"))?;
        let ahead = machine.duration_since(now);
        Ok(if ahead.abs() < SAME_CLOCK { SignedDuration::ZERO } else { ahead })
    }

    async fn check(&self) -> sqlx::Result<()> {
        sqlx::query("SELECT 1 FROM users LIMIT 1").fetch_optional(&self.readers).await?;
        // Writes a page, and changes nothing: a full or read-only disk shows here.
        let mut writer = self.writer.lock().await?;
        sqlx::query("PRAGMA user_version = 1").execute(writer.connection()).await?;
        writer.done();
        Ok(())
    }

    fn describe(&self) -> String {
        format!("SQLite {}", self.version)
    }

    fn pool_use(&self) -> (u32, u32) {
        in_use(self.readers.size(), self.readers.num_idle())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Columns for SqliteRow {
    fn id(&self, at: usize) -> sqlx::Result<Option<Uuid>> {
        let bytes: Option<&[u8]> = self.try_get_unchecked(at)?;
        bytes.map(|bytes| Uuid::from_slice(bytes).map_err(|_| unreadable("an id is not 16 bytes long"))).transpose()
    }

    fn at(&self, at: usize) -> sqlx::Result<Option<Timestamp>> {
        let micros: Option<i64> = self.try_get_unchecked(at)?;
        micros
            .map(|us| Timestamp::from_microsecond(us).map_err(|_| unreadable("an instant is out of range")))
            .transpose()
    }

    fn text(&self, at: usize) -> sqlx::Result<Option<Cow<'_, str>>> {
        Ok(self.try_get_unchecked::<Option<&str>, _>(at)?.map(Cow::Borrowed))
    }

    fn int(&self, at: usize) -> sqlx::Result<Option<i64>> {
        self.try_get_unchecked(at)
    }

    fn flag(&self, at: usize) -> sqlx::Result<Option<bool>> {
        let flag: Option<i64> = self.try_get_unchecked(at)?;
        Ok(flag.map(|flag| flag != 0))
    }

    fn bytes(&self, at: usize) -> sqlx::Result<Option<Vec<u8>>> {
        self.try_get_unchecked(at)
    }
}
