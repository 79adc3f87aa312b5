//! The hot path: claims in one short transaction, writes in batches.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use serde::Serialize;
use social_core::store::{ClaimRequest, Held, Lease, LeaseAfter, PhaseWrite};
use sqlx::{
    Row as _,
    sqlite::{SqlitePool, SqliteRow},
};
use uuid::Uuid;

use super::{
    groups, portions,
    rows::JsonRow,
    usual,
    writer::{Tx, Writer, query},
};
use crate::{
    backend::{Transaction as _, rounds},
    fault::unreadable,
    jobs::{WriteColumns, rests, status_alone, status_of},
    row::{Harvest, Reader, claim_columns, delivery_columns},
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

/// The beginning of a claim. What goes to SQLite's thread costs two wake-ups each time, so statements travel together.
const BEGIN_DUE_LIST: &str = concat!("BEGIN IMMEDIATE; SELECT json_group_array(n) FROM (", due!(), ")");

/// Leases, answers with what was leased, and ends.
static TAKE: LazyLock<String> = LazyLock::new(|| format!("{LEASE}; {}; COMMIT", *CLAIMED));

/// `more` is kept from one claim to the next: whether the last one took all that it might.
pub(super) async fn claim(
    readers: &SqlitePool,
    writer: &Writer,
    more: &AtomicBool,
    request: &ClaimRequest,
    harvest: &mut Harvest,
) -> sqlx::Result<()> {
    let mut lanes: Vec<_> = request.lanes.iter().filter(|lane| lane.limit > 0).collect();
    // A look first: a worker that has nothing to do must not keep the writer from those who have.
    if !more.swap(false, Ordering::Relaxed) {
        let asked = std::mem::take(&mut lanes);
        for lane in asked {
            let due = values![lane.platform.as_str(), request.until, request.worker.as_str(), 1_i64];
            if query(DUE.into(), due).fetch_optional(readers).await?.is_some() {
                lanes.push(lane);
            }
        }
    }
    if lanes.is_empty() {
        return Ok(());
    }
    let most: usize = lanes.iter().map(|lane| lane.limit).sum();
    let mut writer = writer.lock().await?;
    let mut numbers: Vec<i64> = Vec::new();
    for (turn, lane) in lanes.iter().enumerate() {
        let due = values![lane.platform.as_str(), request.until, request.worker.as_str(), lane.limit];
        let first = turn == 0;
        numbers.extend(list(&writer.fetch(if first { BEGIN_DUE_LIST } else { DUE_LIST }.into(), due).await?)?);
    }
    if numbers.is_empty() {
        writer.fetch("ROLLBACK".into(), Vec::new()).await?;
        writer.done();
        return Ok(());
    }
    let leased = values![Value::json(&numbers), request.lease_until, request.worker.as_str()];
    let rows = writer.fetch(TAKE.as_str().into(), leased).await?;
    writer.done();
    let text = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get_unchecked::<&str, _>(0)?;
    let rows: Vec<JsonRow<'_>> =
        serde_json::from_str(text).map_err(|_| unreadable("claimed rows have another shape"))?;
    rows.iter().for_each(|row| harvest.take(row));
    more.store(rows.len() >= most, Ordering::Relaxed);
    Ok(())
}

/// The list that is the only column of the only row.
fn list(rows: &[SqliteRow]) -> sqlx::Result<Vec<i64>> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Reader::of(row).json()
}

/// Writes of any kind, in `$1`; answers with what counted. A write counts under the current epoch; one whose worker goes on besides only under
/// a lease, one from outside the engine only from a phase that allows it.
pub(super) const CHANGE: &str = "UPDATE deliveries SET phase = w.value ->> 3, checkpoint = w.value ->> 4, \
     remote_id = CASE WHEN w.value ->> 5 IS NOT NULL THEN w.value ->> '$[5][0]' WHEN w.value ->> 3 = 'published' THEN remote_id END, \
     permalink = CASE WHEN w.value ->> 5 IS NOT NULL THEN w.value ->> '$[5][1]' WHEN w.value ->> 3 = 'published' THEN permalink END, \
     published_at = CASE WHEN w.value ->> 3 = 'published' THEN w.value ->> 15 ELSE published_at END, \
     parts = CASE WHEN w.value ->> 6 IS NULL THEN parts ELSE json_insert(coalesce(parts, '[]'), '$[#]', json(w.value ->> 6)) END, \
     attempt = w.value ->> 7, crashes = w.value ->> 8, wake_at = w.value ->> 9, due_at = coalesce(w.value ->> 10, due_at), \
     committing_since = w.value ->> 11, error = CASE WHEN w.value ->> 12 THEN error ELSE w.value ->> 13 END, \
     updated_at = w.value ->> 15, epoch = epoch + (w.value ->> 14 = 2), \
     lease_until = CASE WHEN w.value ->> 14 = 0 THEN lease_until END, worker = CASE WHEN w.value ->> 14 = 0 THEN worker END \
     FROM (SELECT value FROM jsonb_each($1)) w \
     WHERE deliveries.id = unhex(w.value ->> 0) AND deliveries.epoch = w.value ->> 1 \
     AND (w.value ->> 14 <> 0 OR deliveries.lease_until IS NOT NULL) \
     AND (w.value ->> 2 IS NULL OR instr(w.value ->> 2, ',' || deliveries.phase || ',') > 0) RETURNING id";

fn changed<'r>(row: &'r WriteColumns<'_>) -> impl Serialize + use<'r> {
    let write = row.write;
    (
        write.delivery.uuid().simple(),
        write.epoch.0,
        &row.from,
        write.phase.as_str(),
        &row.checkpoint,
        row.remote.map(|remote| (remote.id.as_ref().map(|id| id.as_str()), &remote.permalink)),
        row.part.map(json),
        write.attempt,
        write.crashes,
        write.wake_at.map(Timestamp::as_microsecond),
        write.due_at.map(Timestamp::as_microsecond),
        write.committing_since.map(Timestamp::as_microsecond),
        row.keep_error,
        row.error,
        row.lease(),
        write.log.at.as_microsecond(),
    )
}

/// Rows of the history, in a list, for deliveries that were just written: what they have in common with those is taken from them.
macro_rules! log {
    ($list:literal, $if:literal) => {
        concat!(
            "INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, created_at) \
             SELECT unhex(w.value ->> 0), d.post_id, d.id, d.user_id, d.platform, w.value ->> 2, w.value ->> 3, d.attempt, \
             w.value ->> 4, d.updated_at FROM jsonb_each(",
            $list,
            ") w CROSS JOIN deliveries d ON d.id = unhex(w.value ->> 1)",
            $if
        )
    };
}
pub(super) use log;

pub(super) const LOG: &str = log!("$1", "");

/// For `log`, with the epoch and whether the worker goes on for those who have to ask whether the write counted.
pub(super) fn logged<'r>(row: &'r WriteColumns<'_>) -> impl Serialize + use<'r> {
    let (write, log) = (row.write, &row.write.log);
    let keep = write.lease == LeaseAfter::Keep;
    let id = write.delivery.uuid().simple();
    (log.id.uuid().simple(), id, &log.event, log.success, &row.response, write.epoch.0, keep)
}

/// The posts of the deliveries in a list take over the status that follows from all of their deliveries. Most posts have one, for which it
/// comes along.
macro_rules! follow {
    ($list:literal, $alone:literal, $if:literal) => {
        concat!(
            "UPDATE posts SET status = CASE \
             WHEN d.position = 0 AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.post_id = posts.id AND o.position = 1) THEN ",
            $alone,
            " ELSE (SELECT ",
            status_of!(),
            " FROM deliveries WHERE post_id = posts.id) END FROM (SELECT value FROM jsonb_each(",
            $list,
            ")) w JOIN deliveries d ON d.id = unhex(w.value ->> 0)",
            $if,
            " WHERE posts.id = d.post_id"
        )
    };
}
pub(super) use follow;

pub(super) const FOLLOW: &str = follow!("$1", "w.value ->> 1", "");

pub(super) async fn record(writer: &Writer, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    if usual::is_usual(writes) {
        return usual::record(writer, writes).await;
    }
    let rows: Vec<_> = writes.iter().map(WriteColumns::of).collect();
    let mut answers = vec![Held::Lost; writes.len()];
    let mut tx = writer.begin().await?;
    for round in rounds(writes, |write| write.delivery) {
        update(&mut tx, &rows, &round, &mut answers).await?;
        let held = round.iter().filter(|place| answers[**place] == Held::Yes);
        let logs = json(&held.map(|place| logged(&rows[*place])).collect::<Vec<_>>());
        tx.execute(LOG.into(), vec![Value::Json(Some(logs))]).await?;
    }
    let rested = writes.iter().zip(&answers).filter(|(write, held)| **held == Held::Yes && rests(write.phase));
    // Of several writes of one delivery the last one counts.
    let rested: BTreeMap<_, _> = rested.map(|(write, _)| (write.delivery, status_alone(write.phase))).collect();
    if !rested.is_empty() {
        let rested: Vec<_> = rested.iter().map(|(id, status)| (id.uuid().simple(), status)).collect();
        tx.execute(FOLLOW.into(), vec![Value::json(&rested)]).await?;
    }
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
    let writes: Vec<_> = places.iter().map(|place| changed(&rows[*place])).collect();
    let counted = tx.fetch(CHANGE.into(), vec![Value::json(&writes)]).await?;
    let held: HashSet<Uuid> = counted.iter().map(|row| Reader::of(row).id()).collect::<sqlx::Result<_>>()?;
    for place in places {
        if held.contains(&rows[*place].write.delivery.uuid()) {
            answers[*place] = Held::Yes;
        }
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
