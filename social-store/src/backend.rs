//! The seam between what both databases share and what each does in its own way.

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::Error,
    store::{ClaimRequest, Held, Insert, Lease, PhaseWrite},
};

use crate::{fault::storage, posts::StoredPost};
pub use crate::{
    row::{Columns, Harvest},
    value::Value,
};

/// The table in which applied migrations are noted.
pub(crate) const MIGRATIONS: &str = "_social_migrations";

/// A statement: numbered parameters (`$1`), which both databases understand.
pub type Sql = Cow<'static, str>;

/// What a database does in its own way. Not for use outside this crate: it changes without notice.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Its rows.
    type Row: Columns;
    /// Its transactions. One that is dropped leaves no trace.
    type Tx<'a>: Transaction<Row = Self::Row>;

    /// The statement that adds a row to the history of delivery `$2`; the other parameters are id, event, success, response, instant.
    const APPEND_LOG: &'static str;

    /// The statement that lets one exchange of the rate ledger in at a time, where `begin` does not do that already.
    const LOCK_RATES: Option<&'static str>;

    /// The statement that lets one file of user `$1` be counted at a time, where `begin` does not do that already.
    const LOCK_FILES: Option<&'static str>;

    /// See `JobStore::writes_in_parallel`.
    const WRITES_IN_PARALLEL: bool;

    /// Begins a transaction that writes.
    fn begin(&self) -> impl Future<Output = sqlx::Result<Self::Tx<'_>>> + Send;
    /// Reads.
    fn fetch(&self, sql: Sql, values: Vec<Value>) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;
    /// Writes, and answers with what `RETURNING` says.
    fn returning(
        &self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;
    /// Writes, and answers with the number of rows.
    fn execute(&self, sql: &'static str, values: Vec<Value>) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// See `JobStore::claim_due`; rows of `delivery_columns` and `claim_columns` go into the harvest.
    fn claim(&self, request: &ClaimRequest, harvest: &mut Harvest) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// See `JobStore::record`.
    fn record(&self, writes: &[PhaseWrite]) -> impl Future<Output = sqlx::Result<Vec<Held>>> + Send;
    /// See `JobStore::renew`.
    fn renew(&self, leases: &[Lease], until: Timestamp) -> impl Future<Output = sqlx::Result<Vec<Held>>> + Send;
    /// See `JobStore::rest`.
    fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// See `PostStore::insert_post`.
    fn insert_post(&self, post: StoredPost) -> impl Future<Output = sqlx::Result<Insert>> + Send;

    /// Up to which `seq` the history is complete: no row at or below it can appear any more. `None` if that holds for every row there is.
    fn complete_until(&self) -> impl Future<Output = sqlx::Result<Option<i64>>> + Send;
    /// Clears what erased rows may have left behind in files of the database, as far as that can be done without waiting.
    fn scrub(&self) -> impl Future<Output = ()> + Send;
    /// Tells workers, here and in other processes, that something may have become due.
    fn wake(&self);
    /// See `JobStore::woken`.
    fn woken(&self) -> impl Future<Output = ()> + Send;
    /// See `JobStore::clock_offset`.
    fn clock_offset(&self, now: Timestamp) -> impl Future<Output = sqlx::Result<SignedDuration>> + Send;
    /// See `AdminStore::check`.
    fn check(&self) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// See `AdminStore::describe`.
    fn describe(&self) -> String;
    /// See `AdminStore::pool_use`.
    fn pool_use(&self) -> (u32, u32);
    /// Ends all connections.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// How many connections of a pool are in use, and how many are idle.
pub(crate) fn in_use(size: u32, idle: usize) -> (u32, u32) {
    let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
    (size - idle, idle)
}

/// A transaction that writes.
pub trait Transaction: Send {
    /// Its rows.
    type Row: Columns;

    /// Reads, or writes with `RETURNING`.
    fn fetch(&mut self, sql: Sql, values: Vec<Value>) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;
    /// Writes, and answers with the number of rows.
    fn execute(&mut self, sql: Sql, values: Vec<Value>) -> impl Future<Output = sqlx::Result<u64>> + Send;
    /// Makes it durable.
    fn commit(self) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// Undoes it.
    fn rollback(self) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// A store over a database: see [`SqliteStore`](crate::SqliteStore) and [`PgStore`](crate::PgStore). Clones are handles to the same store.
pub struct SqlStore<B> {
    pub(crate) backend: Arc<B>,
}

impl<B: Backend> SqlStore<B> {
    pub(crate) fn over(backend: B) -> Self {
        Self { backend: Arc::new(backend) }
    }

    /// Tells workers, here and in other processes, that something may have become due. Call it after the commit of a transaction in which
    /// `insert_post_in` was used; a worker that is not told finds the post with its next slow poll.
    pub fn wake(&self) {
        self.backend.wake();
    }

    /// Forgets rows of the history from before that instant, in portions, so that writers need not wait long. Answers with their number.
    ///
    /// # Errors
    /// `Storage`; what was forgotten by then stays so.
    pub async fn purge_logs(&self, before: Timestamp) -> Result<u64, Error> {
        self.forget_logs(before).await.map_err(storage("logs.purge"))
    }

    /// Erases ciphertext that was replaced before that instant; until then it is kept for forensics. Answers with the number of
    /// connections.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn purge_replaced_tokens(&self, before: Timestamp) -> Result<u64, Error> {
        self.forget_replaced(before).await.map_err(storage("tokens.purge"))
    }

    /// Ends all connections to the database. What is called afterwards fails with `Storage`.
    pub async fn close(&self) {
        self.backend.close().await;
    }

    pub(crate) async fn fetch(&self, sql: impl Into<Sql>, values: Vec<Value>) -> sqlx::Result<Vec<B::Row>> {
        self.backend.fetch(sql.into(), values).await
    }

    /// Reads one row, if there is one, with `map`.
    pub(crate) async fn one<T>(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        map: impl Fn(&mut crate::row::Reader<'_, B::Row>) -> sqlx::Result<T>,
    ) -> sqlx::Result<Option<T>> {
        let rows = self.fetch(sql, values).await?;
        rows.first().map(|row| map(&mut crate::row::Reader::of(row))).transpose()
    }

    /// Reads rows with `map`.
    pub(crate) async fn all<T>(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        map: impl Fn(&mut crate::row::Reader<'_, B::Row>) -> sqlx::Result<T>,
    ) -> sqlx::Result<Vec<T>> {
        let rows = self.fetch(sql, values).await?;
        rows.iter().map(|row| map(&mut crate::row::Reader::of(row))).collect()
    }
}

impl<B> Clone for SqlStore<B> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend) }
    }
}

impl<B: Backend> fmt::Debug for SqlStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

/// The places of `items` in rounds, so that no key appears twice in one round and equal keys keep their order: a statement over a batch
/// must not meet the same row twice.
pub(crate) fn rounds<T, K: std::hash::Hash + Eq>(items: &[T], key: impl Fn(&T) -> K) -> Vec<Vec<usize>> {
    let mut turns = std::collections::HashMap::with_capacity(items.len());
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let turn = turns.entry(key(item)).or_insert(0_usize);
        if rounds.len() == *turn {
            rounds.push(Vec::new());
        }
        rounds[*turn].push(place);
        *turn += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::rounds;

    #[test]
    fn equal_keys_go_into_later_rounds() {
        assert_eq!(rounds(&['a', 'b', 'a', 'c', 'a', 'b'], |c| *c), vec![vec![0, 1, 3], vec![2, 5], vec![4]]);
        assert!(rounds(&[0; 0], |c| *c).is_empty());
    }
}
