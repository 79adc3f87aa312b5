//! PostgreSQL's side of the seam.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use social_core::store::{ClaimRequest, Held, Insert, Lease, PhaseWrite};
use sqlx::{
    Executor as _, PgConnection, Postgres, Row as _, ValueRef as _,
    pool::PoolConnection,
    postgres::{PgArguments, PgPool, PgRow, PgValueFormat, PgValueRef},
    query::Query,
};
use uuid::Uuid;

use super::{desk::Desk, jobs, listen::Bell, posts::PostShelf};
use crate::{
    backend::{Backend, Columns, Harvest, Sql, Transaction, Value, in_use},
    fault::unreadable,
    intake::Intake,
    posts::StoredPost,
    row::Reader,
    value::postgres::{EPOCH_US, bind},
};

/// The connections of a [`PgStore`](crate::PgStore).
pub struct PgBackend {
    pub(super) pool: PgPool,
    intake: Intake<PostShelf>,
    claims: Desk,
    writes: [Desk; 2],
    /// Leases are prolonged although claims and writes take long.
    leases: Desk,
    bell: Arc<Bell>,
    version: OnceLock<String>,
    horizon: Mutex<Horizon>,
}

/// A transaction. Dropped without an end, it takes its connection with it, and the server undoes it: a caller that is cancelled while it
/// begins must not leave a connection behind that is still inside of a transaction, or holds a lock that others wait for.
#[derive(Debug)]
pub struct PgTx {
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl PgTx {
    /// Begins with `statement`, which may be several.
    pub(super) async fn begin(pool: &PgPool, statement: &'static str) -> sqlx::Result<Self> {
        let mut tx = Self { connection: pool.acquire().await?, ended: false };
        tx.connection.execute(sqlx::raw_sql(statement)).await?;
        Ok(tx)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) async fn end(mut self, with: &'static str) -> sqlx::Result<()> {
        self.connection.execute(sqlx::raw_sql(with)).await?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for PgTx {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

/// How far the history is known to be complete. Numbers are given when a row is written and become visible when its transaction commits, so
/// a row may appear below one that was read already. But whoever gives a number holds a lock on the table from before that until it has
/// ended: when all who held one at some instant have ended, everything up to the last number of that instant is there.
#[derive(Debug, Default)]
struct Horizon {
    complete: i64,
    /// The last number at some instant, and who was writing then.
    next: Option<(i64, BTreeSet<String>)>,
}

impl PgBackend {
    pub(super) fn new(pool: PgPool) -> Self {
        let bell = Arc::new(Bell::new(pool.clone()));
        let desk = || Desk::new(pool.clone(), "");
        let (claims, writes, leases, intake) =
            (desk(), [desk(), desk()], desk(), Intake::new(PostShelf::new(pool.clone())));
        let (version, horizon) = (OnceLock::new(), Mutex::default());
        Self { pool, intake, claims, writes, leases, bell, version, horizon }
    }

    pub(super) async fn learn_version(&self) -> sqlx::Result<()> {
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&self.pool).await?;
        self.version.set(version).ok();
        Ok(())
    }
}

impl fmt::Debug for PgBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pool: it shows its address.
        f.debug_struct("PgStore").field("connections", &self.pool.size()).finish_non_exhaustive()
    }
}

/// A statement with its parameters. It is ours from end to end, apart from the number of places in it.
pub(super) fn query<'q>(sql: Sql, values: Vec<Value>) -> Query<'q, Postgres, PgArguments> {
    values.into_iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), bind)
}

impl Transaction for PgTx {
    type Row = PgRow;

    async fn fetch(&mut self, sql: Sql, values: Vec<Value>) -> sqlx::Result<Vec<PgRow>> {
        query(sql, values).fetch_all(self.connection()).await
    }

    async fn execute(&mut self, sql: Sql, values: Vec<Value>) -> sqlx::Result<u64> {
        query(sql, values).execute(self.connection()).await.map(|done| done.rows_affected())
    }

    async fn commit(self) -> sqlx::Result<()> {
        self.end("COMMIT").await
    }

    async fn rollback(self) -> sqlx::Result<()> {
        self.end("ROLLBACK").await
    }
}

impl Backend for PgBackend {
    type Row = PgRow;
    type Tx<'a> = PgTx;

    const APPEND_LOG: &'static str = "INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, \
         created_at) SELECT $1, post_id, id, user_id, platform, $3, $4, attempt, $5, $6 FROM deliveries WHERE id = $2";

    const WRITES_IN_PARALLEL: bool = true;
    const LOCK_RATES: Option<&'static str> = Some("SELECT pg_advisory_xact_lock(7310593858020254323)");
    const LOCK_FILES: Option<&'static str> =
        Some("SELECT pg_advisory_xact_lock(hashtextextended('social/files/' || $1::text, 0))");

    async fn begin(&self) -> sqlx::Result<PgTx> {
        PgTx::begin(&self.pool, "BEGIN").await
    }

    async fn fetch(&self, sql: Sql, values: Vec<Value>) -> sqlx::Result<Vec<PgRow>> {
        query(sql, values).fetch_all(&self.pool).await
    }

    async fn returning(&self, sql: &'static str, values: Vec<Value>) -> sqlx::Result<Vec<PgRow>> {
        query(sql.into(), values).fetch_all(&self.pool).await
    }

    async fn execute(&self, sql: &'static str, values: Vec<Value>) -> sqlx::Result<u64> {
        query(sql.into(), values).execute(&self.pool).await.map(|done| done.rows_affected())
    }

    async fn claim(&self, request: &ClaimRequest, harvest: &mut Harvest) -> sqlx::Result<()> {
        jobs::claim(&self.claims, request, harvest).await
    }

    async fn record(&self, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
        jobs::record(&self.writes, writes).await
    }

    async fn renew(&self, leases: &[Lease], until: Timestamp) -> sqlx::Result<Vec<Held>> {
        jobs::renew(&self.leases, leases, until).await
    }

    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> sqlx::Result<()> {
        jobs::rest(&self.leases, leases, wake_at).await
    }

    async fn insert_post(&self, post: StoredPost) -> sqlx::Result<Insert> {
        self.intake.insert(post).await
    }

    async fn complete_until(&self) -> sqlx::Result<Option<i64>> {
        // The last number first, the writers afterwards: see `Horizon`.
        let last = self.fetch("SELECT coalesce(max(seq), 0) FROM post_logs".into(), Vec::new()).await?;
        let last: i64 = last.first().map(|row| Reader::of(row).int()).transpose()?.unwrap_or(0);
        let writers = self.fetch(
            "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = 'post_logs'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode = 'RowExclusiveLock' AND granted"
                .into(),
            Vec::new(),
        );
        let writers = writers.await?.iter().map(|row| Reader::of(row).text()).collect::<sqlx::Result<_>>()?;
        let mut horizon = self.horizon.lock().unwrap_or_else(PoisonError::into_inner);
        horizon.see(last, writers);
        Ok(Some(horizon.complete))
    }

    async fn scrub(&self) {
        // The space of dead rows is PostgreSQL's own business; encrypt the disk.
    }

    fn wake(&self) {
        self.bell.ring();
    }

    async fn woken(&self) {
        self.bell.wait().await;
    }

    async fn clock_offset(&self, now: Timestamp) -> sqlx::Result<SignedDuration> {
        let asked = Instant::now();
        // Waiting for a connection is no travel.
        let mut connection = self.pool.acquire().await?;
        let sent = asked.elapsed();
        let row = sqlx::query("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
        let answered = asked.elapsed();
        Ok(certainly_ahead(Reader::of(&row).at()?.duration_since(now), sent, answered))
    }

    async fn check(&self) -> sqlx::Result<()> {
        let rows = self.fetch(
            "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
             EXISTS (SELECT 1 FROM users), pg_current_xact_id() IS NOT NULL"
                .into(),
            Vec::new(),
        );
        let rows = rows.await?;
        let read_only = rows.first().map(|row| Reader::of(row).flag()).transpose()?.unwrap_or(true);
        if read_only { Err(unreadable("the database takes no writes")) } else { Ok(()) }
    }

    fn describe(&self) -> String {
        match self.version.get() {
            Some(version) => format!("PostgreSQL {version}"),
            None => "PostgreSQL".to_owned(),
        }
    }

    fn pool_use(&self) -> (u32, u32) {
        in_use(self.pool.size(), self.pool.num_idle())
    }

    async fn close(&self) {
        self.bell.stop();
        // The pool first: a desk then hands out no connection any more.
        self.pool.close().await;
        for desk in [&self.claims, &self.leases, &self.intake.shelf().desk].into_iter().chain(&self.writes) {
            desk.close().await;
        }
    }
}

impl Horizon {
    /// Takes in what was seen: the last number, and who was writing afterwards.
    fn see(&mut self, last: i64, writers: BTreeSet<String>) {
        if let Some((seq, before)) = &self.next
            && before.is_disjoint(&writers)
        {
            self.complete = self.complete.max(*seq);
            self.next = None;
        }
        if writers.is_empty() {
            self.complete = self.complete.max(last);
        } else if self.next.is_none() {
            self.next = Some((last, writers));
        }
    }
}

fn binary(row: &PgRow, at: usize) -> sqlx::Result<Option<PgValueRef<'_>>> {
    let value = row.try_get_raw(at)?;
    match (value.is_null(), value.format()) {
        (true, _) => Ok(None),
        (false, PgValueFormat::Binary) => Ok(Some(value)),
        (false, PgValueFormat::Text) => Err(unreadable("a value came as text")),
    }
}

fn fixed<const N: usize>(value: &PgValueRef<'_>) -> sqlx::Result<[u8; N]> {
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    bytes.try_into().map_err(|_| unreadable(format!("a value is not {N} bytes long")))
}

impl Columns for PgRow {
    fn id(&self, at: usize) -> sqlx::Result<Option<Uuid>> {
        binary(self, at)?.map(|value| fixed(&value).map(Uuid::from_bytes)).transpose()
    }

    fn at(&self, at: usize) -> sqlx::Result<Option<Timestamp>> {
        let Some(value) = binary(self, at)? else { return Ok(None) };
        let micros = i64::from_be_bytes(fixed(&value)?).saturating_add(EPOCH_US);
        Timestamp::from_microsecond(micros).map(Some).map_err(|_| unreadable("an instant is out of range"))
    }

    fn text(&self, at: usize) -> sqlx::Result<Option<Cow<'_, str>>> {
        Ok(self.try_get_unchecked::<Option<&str>, _>(at)?.map(Cow::Borrowed))
    }

    fn int(&self, at: usize) -> sqlx::Result<Option<i64>> {
        binary(self, at)?.map(|value| fixed(&value).map(i64::from_be_bytes)).transpose()
    }

    fn flag(&self, at: usize) -> sqlx::Result<Option<bool>> {
        self.try_get_unchecked(at)
    }

    fn bytes(&self, at: usize) -> sqlx::Result<Option<Vec<u8>>> {
        self.try_get_unchecked(at)
    }
}

/// How far another clock is ahead, as far as that is certain. It showed `apart` more than ours did when we asked, and was read at some time
/// between `sent` and `answered` after that. A difference that the journey explains is none, and of a true one the lower end counts: a clock
/// that is corrected by it is never ahead of the other, so that nothing goes out early, and does not wander from one reading to the next.
fn certainly_ahead(apart: SignedDuration, sent: Duration, answered: Duration) -> SignedDuration {
    let signed = |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::ZERO);
    let (least, most) = (apart - signed(answered), apart - signed(sent));
    if least <= SignedDuration::ZERO && most >= SignedDuration::ZERO { SignedDuration::ZERO } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_complete_where_no_older_writer_is_left() {
        let mut horizon = Horizon::default();
        let mut see = |last, writers: &[&str]| {
            horizon.see(last, writers.iter().map(|name| (*name).to_owned()).collect());
            horizon.complete
        };
        assert_eq!(see(10, &[]), 10, "nobody was writing");
        assert_eq!(see(12, &["a", "b"]), 10, "a or b may hold a number below 12");
        assert_eq!(see(20, &["b", "c"]), 10, "b was writing when 12 was seen");
        assert_eq!(see(25, &["c", "d"]), 12, "whoever wrote at the time of 12 has ended");
        assert_eq!(see(30, &["e"]), 25);
        assert_eq!(see(31, &[]), 31);
    }

    #[test]
    fn only_what_the_journey_does_not_explain_is_a_difference_of_clocks() {
        let ms = SignedDuration::from_millis;
        let ahead = |apart| certainly_ahead(ms(apart), Duration::from_millis(10), Duration::from_millis(50));
        // The same clock, read at any time of the journey.
        assert_eq!([10, 30, 50].map(ahead), [ms(0); 3]);
        assert_eq!(ahead(51), ms(1));
        assert_eq!(ahead(1_000), ms(950), "at least so much");
        assert_eq!(ahead(9), ms(-41), "late rather than early");
    }
}
