//! The two writes that every post needs: the write-ahead, and that it is out. Each has a statement that carries no more than it must.

use social_core::store::PhaseWrite;
use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::Query};

use super::writes::Counted;
use crate::{
    jobs::WriteColumns,
    value::postgres::{At, Id, Json, text},
};

/// Writes after which their worker goes on; they count under a lease only. (What is held has a worker. Said in this way, the planner finds
/// the rows by their ids and does not look through everything that is held.)
pub(super) const AHEAD: &str = "WITH u AS ( \
         UPDATE deliveries d SET phase = w.phase, checkpoint = w.checkpoint, attempt = w.attempt, crashes = w.crashes, wake_at = NULL, \
             committing_since = w.committing_since, updated_at = w.at \
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             AS w (id, epoch, attempt, crashes, log_id, event, success, response, at, phase, checkpoint, committing_since) \
         WHERE d.id = w.id AND d.epoch = w.epoch AND d.worker IS NOT NULL \
         RETURNING w.log_id, d.post_id, d.id, d.user_id, d.platform, w.event, w.success, w.attempt, w.response, w.at) \
     INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, created_at) \
     SELECT * FROM u RETURNING delivery_id, NULL::uuid";

/// Writes after which a delivery is out, as `u`, and their rows of the history.
macro_rules! out {
    ($if:literal) => {
        concat!(
            "WITH u AS ( \
                 UPDATE deliveries d SET phase = 'published', checkpoint = NULL, remote_id = w.remote_id, permalink = w.permalink, \
                     published_at = w.at, attempt = w.attempt, crashes = w.crashes, wake_at = NULL, committing_since = NULL, error = NULL, \
                     updated_at = w.at, lease_until = NULL, worker = NULL \
                 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                     AS w (id, epoch, attempt, crashes, log_id, event, success, response, at, remote_id, permalink) \
                 WHERE d.id = w.id AND d.epoch = w.epoch",
            $if,
            " RETURNING w.log_id, d.post_id, d.id, d.user_id, d.platform, w.event, w.success, w.attempt, w.response, w.at), \
             l AS ( \
                 INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, created_at) \
                 SELECT * FROM u) "
        )
    };
}

/// Those whose post has no other delivery: the post is out with them, and nothing else has to be looked at.
pub(super) const OUT_ALONE: &str = concat!(
    out!(" AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.post_id = d.post_id AND o.id <> d.id)"),
    ", p AS (UPDATE posts p SET status = 'published' FROM u WHERE p.id = u.post_id) SELECT id, NULL::uuid FROM u"
);

/// All others. Several deliveries decide the status of their posts.
pub(super) const OUT: &str = concat!(out!(""), "SELECT id, post_id FROM u");

/// The columns that come first in both.
#[derive(Default)]
struct Common {
    id: Vec<Id>,
    epoch: Vec<i64>,
    attempt: Vec<i64>,
    crashes: Vec<i64>,
    log_id: Vec<Id>,
    event: Vec<String>,
    success: Vec<Option<bool>>,
    response: Vec<Json>,
    at: Vec<At>,
}

impl Common {
    fn push(&mut self, row: WriteColumns<'_>) {
        let write = row.write;
        self.id.push(Id(write.delivery.uuid()));
        self.epoch.push(write.epoch.0);
        self.attempt.push(write.attempt.into());
        self.crashes.push(write.crashes.into());
        self.log_id.push(Id(write.log.id.uuid()));
        self.event.push(text(write.log.event.clone()));
        self.success.push(write.log.success);
        self.response.push(Json(row.response));
        self.at.push(At(write.log.at));
    }

    fn query(self, sql: &'static str) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(sql)
            .bind(self.id)
            .bind(self.epoch)
            .bind(self.attempt)
            .bind(self.crashes)
            .bind(self.log_id)
            .bind(self.event)
            .bind(self.success)
            .bind(self.response)
            .bind(self.at)
    }
}

/// The columns of [`AHEAD`].
#[derive(Default)]
pub(super) struct Aheads {
    common: Common,
    phase: Vec<&'static str>,
    checkpoint: Vec<Option<Json>>,
    committing_since: Vec<Option<At>>,
}

impl Aheads {
    pub(super) fn of<'w>(writes: impl Iterator<Item = &'w PhaseWrite>) -> Self {
        let mut columns = Self::default();
        for write in writes {
            let mut row = WriteColumns::of(write);
            columns.phase.push(write.phase.as_str());
            columns.checkpoint.push(row.checkpoint.take().map(Json));
            columns.committing_since.push(write.committing_since.map(At));
            columns.common.push(row);
        }
        columns
    }

    pub(super) async fn write(self, connection: &mut PgConnection, counted: &mut Counted) -> sqlx::Result<()> {
        let rows = self
            .common
            .query(AHEAD)
            .bind(self.phase)
            .bind(self.checkpoint)
            .bind(self.committing_since)
            .fetch_all(connection)
            .await?;
        counted.take(&rows)
    }
}

/// The columns of [`OUT_ALONE`] and [`OUT`].
#[derive(Default)]
pub(super) struct Outs {
    common: Common,
    remote_id: Vec<Option<String>>,
    permalink: Vec<Option<String>>,
}

impl Outs {
    pub(super) fn of<'w>(writes: impl Iterator<Item = &'w PhaseWrite>) -> Self {
        let mut columns = Self::default();
        for write in writes {
            let row = WriteColumns::of(write);
            columns.remote_id.push(row.remote_id().map(text));
            columns.permalink.push(row.permalink().map(text));
            columns.common.push(row);
        }
        columns
    }

    /// By [`OUT_ALONE`] or [`OUT`].
    pub(super) async fn write(
        self,
        sql: &'static str,
        connection: &mut PgConnection,
        counted: &mut Counted,
    ) -> sqlx::Result<()> {
        let rows = self.common.query(sql).bind(self.remote_id).bind(self.permalink).fetch_all(connection).await?;
        counted.take(&rows)
    }
}
