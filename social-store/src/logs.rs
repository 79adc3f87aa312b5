//! The history: append-only, read in pages and as a stream.

use jiff::Timestamp;
use social_core::{
    id::{DeliveryId, LogId, UserId},
    store::{LogEntry, LogFilter, LogRow, Page},
};

use crate::{
    backend::{Backend, SqlStore, Transaction},
    cursor::{self, BySeq},
    posts::Filter,
    row::{log, log_columns},
    value::{Value, values},
};

/// How many rows are forgotten at once.
const PORTION: u64 = 2000;

impl<B: Backend> SqlStore<B> {
    pub(crate) async fn history(
        &self,
        user: UserId,
        filter: &LogFilter,
        after: Option<BySeq>,
        limit: usize,
    ) -> sqlx::Result<Page<LogRow>> {
        let mut sql = Filter::new(
            concat!("SELECT ", log_columns!(), " FROM post_logs l WHERE l.user_id = $1"),
            values![user.uuid()],
        );
        if let Some(after) = after {
            sql.and(" AND l.seq < ?", after.0);
        }
        if let Some(post) = filter.post {
            sql.and(" AND l.post_id = ?", post.uuid());
        }
        if let Some(delivery) = filter.delivery {
            sql.and(" AND l.delivery_id = ?", delivery.uuid());
            // By way of its post, for which there is an index.
            sql.add(" AND l.post_id = (SELECT post_id FROM deliveries WHERE id = ?)");
        }
        if let Some(platform) = &filter.platform {
            sql.and(" AND l.platform = ?", platform.as_str());
        }
        if let Some(success) = filter.success {
            sql.and(" AND l.success = ?", success);
        }
        sql.and(" ORDER BY l.seq DESC LIMIT ?", limit + 1);
        let rows = self.all(sql.sql, sql.values, log).await?;
        let page = cursor::page(rows, limit, |(seq, _)| BySeq(*seq));
        Ok(Page { items: page.items.into_iter().map(|(_, row)| row).collect(), next: page.next })
    }

    pub(crate) async fn news(&self, user: UserId, after: LogId, limit: usize) -> sqlx::Result<Vec<LogRow>> {
        let complete = self.backend.complete_until().await?;
        let place = self.one(
            "SELECT seq FROM post_logs WHERE user_id = $1 AND id = $2",
            values![user.uuid(), after.uuid()],
            |row| row.int::<i64>(),
        );
        let mut sql = Filter::new(
            concat!("SELECT ", log_columns!(), " FROM post_logs l WHERE l.user_id = $1"),
            values![user.uuid()],
        );
        match place.await? {
            Some(seq) => sql.and(" AND l.seq > ?", seq),
            // An id that no row has is a time: ids sort by the time of their making.
            None => sql.and(" AND l.id > ?", after.uuid()),
        }
        if let Some(complete) = complete {
            sql.and(" AND l.seq <= ?", complete);
        }
        sql.and(" ORDER BY l.seq LIMIT ?", limit.clamp(1, 1000));
        self.all(sql.sql, sql.values, |row| Ok(log(row)?.1)).await
    }

    /// Adds a row to the history of a delivery that exists.
    pub(crate) async fn append(&self, tx: &mut B::Tx<'_>, delivery: DeliveryId, entry: &LogEntry) -> sqlx::Result<()> {
        let added = tx.execute(B::APPEND_LOG.into(), entry_values(delivery, entry)).await?;
        if added == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }

    pub(crate) async fn append_alone(&self, delivery: DeliveryId, entry: &LogEntry) -> sqlx::Result<()> {
        let added = self.backend.execute(B::APPEND_LOG, entry_values(delivery, entry)).await?;
        if added == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }

    /// The oldest rows come first in the order of writing; beyond the first portion without one there is nothing to find.
    pub(crate) async fn forget_some_logs(&self, before: Timestamp, limit: u64) -> sqlx::Result<u64> {
        let sql =
            "DELETE FROM post_logs WHERE created_at < $1 AND seq IN (SELECT seq FROM post_logs ORDER BY seq LIMIT $2)";
        self.backend.execute(sql, values![before, i64::try_from(limit).unwrap_or(i64::MAX)]).await
    }

    pub(crate) async fn forget_logs(&self, before: Timestamp) -> sqlx::Result<u64> {
        let mut forgotten = 0;
        loop {
            let portion = self.forget_some_logs(before, PORTION).await?;
            forgotten += portion;
            if portion == 0 {
                return Ok(forgotten);
            }
        }
    }
}

fn entry_values(delivery: DeliveryId, entry: &LogEntry) -> Vec<Value> {
    values![
        entry.id.uuid(),
        delivery.uuid(),
        entry.event.as_str(),
        entry.success,
        Value::json(&entry.response),
        entry.at,
    ]
}
