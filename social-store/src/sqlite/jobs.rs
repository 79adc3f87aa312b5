//! The hot path: claims in one short transaction, writes in batches.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use social_core::store::{ClaimRequest, Held, Lease, PhaseWrite};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use uuid::Uuid;

use super::{
    groups, portions,
    posts::Logs,
    writer::{Writer, query},
};
use crate::{
    backend::{Transaction as _, rounds},
    jobs::{WriteColumns, rests, status_of},
    row::{Reader, claim_columns, delivery_columns},
    value::{Value, json, values},
};

/// The row numbers of what can be claimed in a lane: `$1` platform, `$2` until, `$3` worker, `$4` limit. It walks one index in the order
/// of waking and stops at the limit, whatever the backlog.
pub(super) const DUE: &str = "SELECT d.rowid FROM deliveries d INDEXED BY deliveries_claim \
     WHERE d.platform = $1 AND d.lease_until IS NULL AND d.wake_at IS NOT NULL AND d.wake_at <= $2 \
     AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.account_id = d.account_id AND h.lease_until IS NOT NULL AND h.worker <> $3) \
     ORDER BY d.wake_at LIMIT $4";

/// Leases the rows with the numbers in `$1`.
pub(super) const LEASE: &str = "UPDATE deliveries SET epoch = epoch + 1, lease_until = $2, worker = $3 \
     WHERE rowid IN (SELECT value FROM json_each($1))";

/// Everything about the rows with the numbers in `$1`.
pub(super) const CLAIMED: &str = concat!(
    "SELECT ",
    delivery_columns!(),
    ", ",
    claim_columns!(),
    " FROM json_each($1) n CROSS JOIN deliveries d ON d.rowid = n.value CROSS JOIN posts p ON p.id = d.post_id \
     CROSS JOIN social_accounts a ON a.id = d.account_id LEFT JOIN connections c ON c.id = a.connection_id"
);

pub(super) async fn claim(
    readers: &SqlitePool,
    writer: &Writer,
    request: &ClaimRequest,
) -> sqlx::Result<Vec<SqliteRow>> {
    // A look first: a worker that has nothing to do must not keep the writer from those who have.
    let mut lanes = Vec::new();
    for lane in request.lanes.iter().filter(|lane| lane.limit > 0) {
        let due = values![lane.platform.as_str(), request.until, request.worker.as_str(), 1_i64];
        if query(DUE.into(), due).fetch_optional(readers).await?.is_some() {
            lanes.push(lane);
        }
    }
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = writer.begin().await?;
    let mut numbers = Vec::new();
    for lane in lanes {
        let due = values![lane.platform.as_str(), request.until, request.worker.as_str(), lane.limit];
        for row in tx.fetch(DUE.into(), due).await? {
            numbers.push(Reader::of(&row).int::<i64>()?);
        }
    }
    if numbers.is_empty() {
        tx.rollback().await?;
        return Ok(Vec::new());
    }
    let numbers = Value::Json(Some(json(&numbers)));
    tx.execute(LEASE.into(), vec![numbers.clone(), request.lease_until.into(), request.worker.as_str().into()]).await?;
    let rows = tx.fetch(CLAIMED.into(), vec![numbers]).await?;
    tx.commit().await?;
    Ok(rows)
}

/// The update for a portion of writes. A write counts under the current epoch; one from outside the engine besides only from a phase that
/// allows it.
pub(super) fn record_sql(count: usize) -> String {
    format!(
        "WITH w (id, epoch, from_phases, phase, checkpoint, has_remote, remote_id, permalink, published_at, part, attempt, crashes, wake_at, \
         due_at, committing_since, keep_error, error, lease, at) AS (VALUES {}) \
         UPDATE deliveries SET phase = w.phase, checkpoint = w.checkpoint, \
         remote_id = CASE WHEN w.has_remote THEN w.remote_id WHEN w.phase = 'published' THEN deliveries.remote_id END, \
         permalink = CASE WHEN w.has_remote THEN w.permalink WHEN w.phase = 'published' THEN deliveries.permalink END, \
         published_at = coalesce(w.published_at, deliveries.published_at), \
         parts = CASE WHEN w.part IS NULL THEN deliveries.parts \
                 ELSE json_insert(coalesce(deliveries.parts, '[]'), '$[#]', json(w.part)) END, \
         attempt = w.attempt, crashes = w.crashes, wake_at = w.wake_at, due_at = coalesce(w.due_at, deliveries.due_at), \
         committing_since = w.committing_since, error = CASE WHEN w.keep_error THEN deliveries.error ELSE w.error END, \
         updated_at = w.at, epoch = deliveries.epoch + (w.lease = 2), \
         lease_until = CASE WHEN w.lease = 0 THEN deliveries.lease_until END, \
         worker = CASE WHEN w.lease = 0 THEN deliveries.worker END \
         FROM w WHERE deliveries.id = w.id AND deliveries.epoch = w.epoch \
         AND (w.from_phases IS NULL OR instr(w.from_phases, ',' || deliveries.phase || ',') > 0) \
         RETURNING id, post_id, user_id, platform",
        groups(count, 19)
    )
}

fn record_values(row: &WriteColumns<'_>) -> Vec<Value> {
    let write = row.write;
    values![
        write.delivery.uuid(),
        write.epoch.0,
        row.from.clone(),
        write.phase.as_str(),
        row.checkpoint.clone(),
        row.remote.is_some(),
        row.remote_id(),
        row.permalink(),
        row.published_at,
        row.part.map(json),
        write.attempt,
        write.crashes,
        write.wake_at,
        write.due_at,
        write.committing_since,
        row.keep_error,
        row.error,
        row.lease(),
        write.log.at,
    ]
}

pub(super) async fn record(writer: &Writer, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    let rows: Vec<_> = writes.iter().map(WriteColumns::of).collect();
    let mut answers = vec![Held::Lost; writes.len()];
    let mut rested = BTreeSet::new();
    let mut tx = writer.begin().await?;
    for round in rounds(writes, |write| write.delivery) {
        for portion in portions(&round) {
            let values = portion.iter().flat_map(|place| record_values(&rows[*place])).collect();
            let mut held = HashMap::with_capacity(portion.len());
            for row in tx.fetch(record_sql(portion.len()).into(), values).await? {
                let mut row = Reader::of(&row);
                held.insert(row.id()?, (row.id()?, row.id()?, row.text()?));
            }
            let mut logs = Logs::default();
            for place in portion {
                let (write, row) = (&writes[*place], &rows[*place]);
                let id = write.delivery.uuid();
                let Some((post, user, platform)) = held.remove(&id) else { continue };
                answers[*place] = Held::Yes;
                if rests(write.phase) {
                    rested.insert(post);
                }
                let (log, at) = (&write.log, write.log.at);
                logs.push(log_values(
                    log.id.uuid(),
                    post,
                    id,
                    user,
                    platform,
                    &log.event,
                    log.success,
                    write.attempt,
                    &row.response,
                    at,
                ));
            }
            logs.write(tx.connection()).await?;
        }
    }
    follow(tx.connection(), &rested.into_iter().collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(answers)
}

#[expect(clippy::too_many_arguments, reason = "the columns of a row, in their order")]
fn log_values(
    id: Uuid,
    post: Uuid,
    delivery: Uuid,
    user: Uuid,
    platform: String,
    event: &str,
    success: Option<bool>,
    attempt: u32,
    response: &str,
    at: Timestamp,
) -> [Value; 10] {
    [
        id.into(),
        post.into(),
        delivery.into(),
        user.into(),
        platform.into(),
        event.into(),
        success.into(),
        attempt.into(),
        response.into(),
        at.into(),
    ]
}

/// Posts take over the status that follows from their deliveries.
async fn follow(connection: &mut SqliteConnection, posts: &[Uuid]) -> sqlx::Result<()> {
    for portion in portions(posts) {
        let sql = format!(
            concat!(
                "UPDATE posts SET status = (SELECT ",
                status_of!(),
                " FROM deliveries WHERE post_id = posts.id) WHERE id IN (VALUES {})"
            ),
            groups(portion.len(), 1)
        );
        query(sql.into(), portion.iter().map(|id| (*id).into()).collect()).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn renew(writer: &Writer, leases: &[Lease], until: Timestamp) -> sqlx::Result<Vec<Held>> {
    let mut held = HashMap::with_capacity(leases.len());
    let mut tx = writer.begin().await?;
    for portion in portions(leases) {
        let sql = format!(
            "WITH w (id, epoch) AS (VALUES {}) UPDATE deliveries SET lease_until = ? \
             FROM w WHERE deliveries.id = w.id AND deliveries.epoch = w.epoch AND deliveries.lease_until IS NOT NULL RETURNING id, epoch",
            groups(portion.len(), 2)
        );
        for row in tx.fetch(sql.into(), lease_values(portion, until)).await? {
            let mut row = Reader::of(&row);
            held.insert(row.id()?, row.int::<i64>()?);
        }
    }
    tx.commit().await?;
    let answer = |lease: &Lease| {
        let still = held.get(&lease.delivery.uuid()) == Some(&lease.epoch.0);
        if still { Held::Yes } else { Held::Lost }
    };
    Ok(leases.iter().map(answer).collect())
}

pub(super) async fn rest(writer: &Writer, leases: &[Lease], wake_at: Timestamp) -> sqlx::Result<()> {
    let mut tx = writer.begin().await?;
    for portion in portions(leases) {
        let sql = format!(
            "WITH w (id, epoch) AS (VALUES {}) UPDATE deliveries SET epoch = deliveries.epoch + 1, lease_until = NULL, worker = NULL, wake_at = ? \
             FROM w WHERE deliveries.id = w.id AND deliveries.epoch = w.epoch AND deliveries.lease_until IS NOT NULL",
            groups(portion.len(), 2)
        );
        tx.execute(sql.into(), lease_values(portion, wake_at)).await?;
    }
    tx.commit().await
}

fn lease_values(leases: &[Lease], at: Timestamp) -> Vec<Value> {
    let mut values: Vec<_> = leases.iter().flat_map(|lease| values![lease.delivery.uuid(), lease.epoch.0]).collect();
    values.push(at.into());
    values
}
