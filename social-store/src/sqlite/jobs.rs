//! The hot path: claims in one short transaction, writes in batches.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use social_core::store::{ClaimRequest, Held, Lease, LeaseAfter, PhaseWrite};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use uuid::Uuid;

use super::{
    groups, portions,
    rows::JsonRow,
    writer::{Tx, Writer, query},
};
use crate::{
    backend::{Transaction as _, rounds},
    jobs::{WriteColumns, rests, status_of},
    row::{Reader, claim_columns, delivery_columns},
    value::{Value, json, values},
};

/// What can be claimed in a lane, as row numbers: `$1` platform, `$2` until, `$3` worker, `$4` limit. It walks one index in the order of
/// waking and stops at the limit, whatever the backlog.
macro_rules! due {
    () => {
        "SELECT d.rowid AS n FROM deliveries d INDEXED BY deliveries_claim \
         WHERE d.platform = $1 AND d.lease_until IS NULL AND d.wake_at IS NOT NULL AND d.wake_at <= $2 \
         AND NOT EXISTS (SELECT 1 FROM deliveries h WHERE h.account_id = d.account_id AND h.lease_until IS NOT NULL AND h.worker <> $3) \
         ORDER BY d.wake_at LIMIT $4"
    };
}
pub(super) const DUE: &str = due!();

/// The same as one list.
const DUE_LIST: &str = concat!("SELECT json_group_array(n) FROM (", due!(), ")");

/// Leases the rows with the numbers in `$1`.
pub(super) const LEASE: &str = "UPDATE deliveries SET epoch = epoch + 1, lease_until = $2, worker = $3 \
     WHERE rowid IN (SELECT value FROM json_each($1))";

/// Everything about the rows with the numbers in `$1`, as one JSON list of lists. A row travels from SQLite's thread to ours at the price of a
/// wake-up and an allocation per column, which a claim of two hundred rows would pay two hundred times.
pub(super) static CLAIMED: LazyLock<String> = LazyLock::new(|| {
    let columns = concat!(delivery_columns!(), ", ", claim_columns!()).split(", ").map(|column| match column {
        // JSON holds no bytes.
        "d.id" | "d.post_id" | "d.user_id" | "d.account_id" | "a.id" | "a.user_id" | "a.connection_id" => {
            format!("hex({column})")
        }
        other => other.to_owned(),
    });
    // The list splits `coalesce(c.version, 0)`, too, and joins it again.
    format!(
        "SELECT json_group_array(json_array({})) FROM json_each($1) n CROSS JOIN deliveries d ON d.rowid = n.value \
         CROSS JOIN posts p ON p.id = d.post_id CROSS JOIN social_accounts a ON a.id = d.account_id \
         LEFT JOIN connections c ON c.id = a.connection_id",
        columns.collect::<Vec<_>>().join(", ")
    )
});

pub(super) async fn claim(
    readers: &SqlitePool,
    writer: &Writer,
    request: &ClaimRequest,
) -> sqlx::Result<Vec<JsonRow>> {
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
    let mut numbers: Vec<i64> = Vec::new();
    for lane in lanes {
        let due = values![lane.platform.as_str(), request.until, request.worker.as_str(), lane.limit];
        numbers.extend(list::<i64>(tx.fetch(DUE_LIST.into(), due).await?)?);
    }
    if numbers.is_empty() {
        tx.rollback().await?;
        return Ok(Vec::new());
    }
    let numbers = Value::Json(Some(json(&numbers)));
    tx.execute(LEASE.into(), vec![numbers.clone(), request.lease_until.into(), request.worker.as_str().into()]).await?;
    let rows = list(tx.fetch(CLAIMED.as_str().into(), vec![numbers]).await?)?;
    tx.commit().await?;
    Ok(rows)
}

/// The list that is the only column of the only row.
fn list<T: DeserializeOwned>(rows: Vec<SqliteRow>) -> sqlx::Result<Vec<T>> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Reader::of(row).json()
}

/// The update for a portion of writes after which their worker goes on. It leaves the lease and what belongs to it alone, so that SQLite does
/// not touch the indexes over them.
pub(super) fn keep_sql(count: usize) -> String {
    format!(
        "WITH w (id, epoch, phase, checkpoint, part, attempt, crashes, wake_at, committing_since, keep_error, error, at) AS (VALUES {}) \
         UPDATE deliveries SET phase = w.phase, checkpoint = w.checkpoint, \
         parts = CASE WHEN w.part IS NULL THEN deliveries.parts \
                 ELSE json_insert(coalesce(deliveries.parts, '[]'), '$[#]', json(w.part)) END, \
         attempt = w.attempt, crashes = w.crashes, wake_at = w.wake_at, committing_since = w.committing_since, \
         error = CASE WHEN w.keep_error THEN deliveries.error ELSE w.error END, updated_at = w.at \
         FROM w WHERE deliveries.id = w.id AND deliveries.epoch = w.epoch",
        groups(count, 12)
    )
}

fn keep_values(row: &WriteColumns<'_>) -> [Value; 12] {
    let write = row.write;
    [
        write.delivery.uuid().into(),
        write.epoch.0.into(),
        write.phase.as_str().into(),
        row.checkpoint.clone().into(),
        row.part.map(json).into(),
        write.attempt.into(),
        write.crashes.into(),
        write.wake_at.into(),
        write.committing_since.into(),
        row.keep_error.into(),
        row.error.into(),
        write.log.at.into(),
    ]
}

/// The update for a portion of writes that end a lease. A write counts under the current epoch; one from outside the engine besides only
/// from a phase that allows it. Where the epoch moves on, what counted is known only from `RETURNING`.
pub(super) fn end_sql(count: usize) -> String {
    format!(
        "WITH w (id, epoch, from_phases, phase, checkpoint, has_remote, remote_id, permalink, published_at, part, attempt, crashes, wake_at, \
         due_at, committing_since, keep_error, error, revokes, at) AS (VALUES {}) \
         UPDATE deliveries SET phase = w.phase, checkpoint = w.checkpoint, \
         remote_id = CASE WHEN w.has_remote THEN w.remote_id WHEN w.phase = 'published' THEN deliveries.remote_id END, \
         permalink = CASE WHEN w.has_remote THEN w.permalink WHEN w.phase = 'published' THEN deliveries.permalink END, \
         published_at = coalesce(w.published_at, deliveries.published_at), \
         parts = CASE WHEN w.part IS NULL THEN deliveries.parts \
                 ELSE json_insert(coalesce(deliveries.parts, '[]'), '$[#]', json(w.part)) END, \
         attempt = w.attempt, crashes = w.crashes, wake_at = w.wake_at, due_at = coalesce(w.due_at, deliveries.due_at), \
         committing_since = w.committing_since, error = CASE WHEN w.keep_error THEN deliveries.error ELSE w.error END, \
         updated_at = w.at, epoch = deliveries.epoch + w.revokes, lease_until = NULL, worker = NULL \
         FROM w WHERE deliveries.id = w.id AND deliveries.epoch = w.epoch \
         AND (w.from_phases IS NULL OR instr(w.from_phases, ',' || deliveries.phase || ',') > 0)",
        groups(count, 19)
    )
}

fn end_values(row: &WriteColumns<'_>) -> [Value; 19] {
    let write = row.write;
    [
        write.delivery.uuid().into(),
        write.epoch.0.into(),
        row.from.clone().into(),
        write.phase.as_str().into(),
        row.checkpoint.clone().into(),
        row.remote.is_some().into(),
        row.remote_id().into(),
        row.permalink().into(),
        row.published_at.into(),
        row.part.map(json).into(),
        write.attempt.into(),
        write.crashes.into(),
        write.wake_at.into(),
        write.due_at.into(),
        write.committing_since.into(),
        row.keep_error.into(),
        row.error.into(),
        (write.lease == LeaseAfter::Revoke).into(),
        write.log.at.into(),
    ]
}

/// The rows of the history for deliveries that were just written: what they have in common with those is taken from them.
pub(super) fn log_sql(count: usize) -> String {
    format!(
        "INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, created_at) \
         SELECT column1, d.post_id, d.id, d.user_id, d.platform, column3, column4, d.attempt, column5, d.updated_at \
         FROM (VALUES {}) CROSS JOIN deliveries d ON d.id = column2",
        groups(count, 5)
    )
}

pub(super) async fn record(writer: &Writer, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    let rows: Vec<_> = writes.iter().map(WriteColumns::of).collect();
    let mut answers = vec![Held::Lost; writes.len()];
    let mut tx = writer.begin().await?;
    for round in rounds(writes, |write| write.delivery) {
        update(&mut tx, &rows, &round, &mut answers).await?;
        let held: Vec<_> = round.into_iter().filter(|place| answers[*place] == Held::Yes).collect();
        for portion in portions(&held) {
            let values = portion.iter().flat_map(|place| {
                let row = &rows[*place];
                let log = &row.write.log;
                [
                    log.id.uuid().into(),
                    row.write.delivery.uuid().into(),
                    log.event.as_str().into(),
                    log.success.into(),
                    Value::Text(Some(row.response.clone())),
                ]
            });
            tx.execute(log_sql(portion.len()).into(), values.collect()).await?;
        }
    }
    let rested = writes.iter().zip(&answers).filter(|(write, held)| **held == Held::Yes && rests(write.phase));
    let rested: BTreeSet<_> = rested.map(|(write, _)| write.delivery.uuid()).collect();
    follow(tx.connection(), &rested.into_iter().collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(answers)
}

/// Writes what is at `places`, no delivery twice, and says what counted.
async fn update(
    tx: &mut Tx<'_>,
    rows: &[WriteColumns<'_>],
    places: &[usize],
    answers: &mut [Held],
) -> sqlx::Result<()> {
    let of = |lease| places.iter().copied().filter(|place| rows[*place].write.lease == lease).collect::<Vec<_>>();
    let (kept, released, revoked) = (of(LeaseAfter::Keep), of(LeaseAfter::Release), of(LeaseAfter::Revoke));
    let mut counted = 0;
    for portion in portions(&kept) {
        let values = portion.iter().flat_map(|place| keep_values(&rows[*place])).collect();
        counted += tx.execute(keep_sql(portion.len()).into(), values).await?;
    }
    for portion in portions(&released) {
        let values = portion.iter().flat_map(|place| end_values(&rows[*place])).collect();
        counted += tx.execute(end_sql(portion.len()).into(), values).await?;
    }
    let own = [kept, released].concat();
    if counted == own.len() as u64 {
        own.iter().for_each(|place| answers[*place] = Held::Yes);
    } else {
        // These do not move the epoch: where it is still the writer's, the write has counted.
        for portion in portions(&own) {
            let sql = format!(
                "SELECT d.id FROM (VALUES {}) CROSS JOIN deliveries d ON d.id = column1 AND d.epoch = column2",
                groups(portion.len(), 2)
            );
            let values =
                portion.iter().flat_map(|place| values![rows[*place].write.delivery.uuid(), rows[*place].write.epoch.0]);
            mark(&tx.fetch(sql.into(), values.collect()).await?, rows, portion, answers)?;
        }
    }
    for portion in portions(&revoked) {
        let values = portion.iter().flat_map(|place| end_values(&rows[*place])).collect();
        let held = tx.fetch((end_sql(portion.len()) + " RETURNING id").into(), values).await?;
        mark(&held, rows, portion, answers)?;
    }
    Ok(())
}

/// Marks those of `places` whose deliveries are among the ids in `held`.
fn mark(
    held: &[SqliteRow],
    rows: &[WriteColumns<'_>],
    places: &[usize],
    answers: &mut [Held],
) -> sqlx::Result<()> {
    let held: HashSet<_> = held.iter().map(|row| Reader::of(row).id()).collect::<sqlx::Result<_>>()?;
    for place in places {
        if held.contains(&rows[*place].write.delivery.uuid()) {
            answers[*place] = Held::Yes;
        }
    }
    Ok(())
}

/// The posts of these deliveries take over the status that follows from all of their deliveries.
async fn follow(connection: &mut SqliteConnection, deliveries: &[Uuid]) -> sqlx::Result<()> {
    for portion in portions(deliveries) {
        let sql = format!(
            concat!(
                "UPDATE posts SET status = (SELECT ",
                status_of!(),
                " FROM deliveries WHERE post_id = posts.id) \
                 WHERE id IN (SELECT post_id FROM deliveries WHERE id IN (VALUES {}))"
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
