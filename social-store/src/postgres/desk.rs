//! Connections that serve the hot path alone.

use std::time::Instant;

use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgPool};
use tokio::sync::{Mutex, MutexGuard};

use super::FRESH;

/// Arrays are looked up row by row, through indexes, and never by walking a table. With every other way out of the question, a plan that
/// was made once is right for tables of any size, and making it anew each time costs more than running it.
pub(super) const PLANS: &str = "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; \
     SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// The checks of foreign keys have plans, too, for which we cannot ask: made over an empty table, one may look through all posts of a user. So
/// plans are made anew whenever a connection was used twice as often as the last time; a minute later the server's own statistics do the same.
const PLAN_AGAIN: &str = "DISCARD PLANS";

/// One connection that keeps these settings, for one caller after the other. It comes out of the pool and does not go back. If its user failed or
/// was cancelled, it is thrown away and the server undoes what was begun.
#[derive(Debug)]
pub(super) struct Desk {
    pool: PgPool,
    settings: &'static str,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    connection: PgConnection,
    since: Instant,
    uses: u32,
}

/// The right to use the connection. Dropped without [`done`](Self::done), it takes the connection with it.
#[derive(Debug)]
pub(super) struct Seat<'d> {
    slot: MutexGuard<'d, Option<Kept>>,
    pub(super) connection: PgConnection,
    uses: u32,
}

impl Desk {
    /// With more settings of its own, as statements, or none.
    pub(super) fn new(pool: PgPool, settings: &'static str) -> Self {
        Self { pool, settings, kept: Mutex::new(None) }
    }

    pub(super) async fn sit(&self) -> sqlx::Result<Seat<'_>> {
        self.serve(self.kept.lock().await).await
    }

    /// `None` if somebody sits there.
    pub(super) async fn try_sit(&self) -> Option<sqlx::Result<Seat<'_>>> {
        Some(self.serve(self.kept.try_lock().ok()?).await)
    }

    async fn serve<'d>(&self, mut slot: MutexGuard<'d, Option<Kept>>) -> sqlx::Result<Seat<'d>> {
        if let Some(Kept { mut connection, since, uses }) = slot.take() {
            // One that was busy just now needs no question; one that idled may have lost its server.
            if !self.pool.is_closed() && (since.elapsed() < FRESH || connection.ping().await.is_ok()) {
                let uses = uses.saturating_add(1);
                if uses.is_power_of_two() {
                    connection.execute(sqlx::raw_sql(PLAN_AGAIN)).await?;
                }
                return Ok(Seat { slot, connection, uses });
            }
        }
        let mut connection = self.pool.acquire().await?.detach();
        connection.execute(sqlx::raw_sql(PLANS)).await?;
        if !self.settings.is_empty() {
            connection.execute(sqlx::raw_sql(self.settings)).await?;
        }
        Ok(Seat { slot, connection, uses: 0 })
    }

    pub(super) async fn close(&self) {
        if let Some(Kept { connection, .. }) = self.kept.lock().await.take() {
            let _ = connection.close().await;
        }
    }
}

impl Seat<'_> {
    pub(super) async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        self.connection.execute(sqlx::raw_sql(sql)).await.map(drop)
    }

    /// Gives the connection back for the next one.
    pub(super) fn done(self) {
        let Self { mut slot, connection, uses } = self;
        *slot = Some(Kept { connection, since: Instant::now(), uses });
    }
}
