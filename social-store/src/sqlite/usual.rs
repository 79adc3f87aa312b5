//! The two writes that every post needs, in one go: the write-ahead, and that it is out.
//!
//! They touch no index that stays as it is and read no more than they must. All statements of a batch travel to SQLite's thread together,
//! since each journey costs two wake-ups.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Serialize;
use social_core::store::{Held, LeaseAfter, PhaseWrite};

use super::{
    jobs::{follow, log, logged},
    writer::Writer,
};
use crate::{
    fault::unreadable,
    jobs::{WriteColumns, is_ahead, is_out, status_of},
    row::Reader,
    value::{Value, values},
};

/// Writes after which their worker goes on, in `$1`; they count under a lease only.
macro_rules! ahead {
    () => {
        "UPDATE deliveries SET phase = w.value ->> 2, checkpoint = w.value ->> 3, attempt = w.value ->> 4, crashes = w.value ->> 5, \
         wake_at = NULL, committing_since = w.value ->> 6, updated_at = w.value ->> 7 \
         FROM (SELECT value FROM jsonb_each($1)) w \
         WHERE deliveries.id = unhex(w.value ->> 0) AND deliveries.epoch = w.value ->> 1 AND deliveries.lease_until IS NOT NULL"
    };
}

/// Writes after which a delivery is out, in `$2`.
macro_rules! out {
    () => {
        "UPDATE deliveries SET phase = 'published', checkpoint = NULL, remote_id = w.value ->> 2, permalink = w.value ->> 3, \
         published_at = w.value ->> 6, attempt = w.value ->> 4, crashes = w.value ->> 5, wake_at = NULL, committing_since = NULL, \
         error = NULL, updated_at = w.value ->> 6, lease_until = NULL, worker = NULL \
         FROM (SELECT value FROM jsonb_each($2)) w WHERE deliveries.id = unhex(w.value ->> 0) AND deliveries.epoch = w.value ->> 1"
    };
}

/// Rows of the history for those that counted, in `$3`. None of them moves the epoch on: where it is still the writer's, the write has
/// counted, unless its worker goes on without a lease.
macro_rules! log_counted {
    () => {
        log!("$3", " AND d.epoch = w.value ->> 5 AND (NOT w.value ->> 6 OR d.lease_until IS NOT NULL)")
    };
}

#[cfg(test)]
pub(super) const EACH: [&str; 3] = [ahead!(), out!(), log_counted!()];

/// All of it. The rows around it tell how many rows were changed.
const BATCH: &str = concat!(
    "BEGIN IMMEDIATE; SELECT total_changes(); ",
    ahead!(),
    "; ",
    out!(),
    "; ",
    log_counted!(),
    "; SELECT total_changes(); ",
    follow!("$2", "'published'", " AND d.epoch = w.value ->> 1"),
    "; COMMIT"
);

/// The deliveries of `$1` whose row is in the history.
const WRITTEN: &str = "SELECT d.id FROM jsonb_each($1) w CROSS JOIN deliveries d ON d.id = unhex(w.value ->> 1) \
     WHERE EXISTS (SELECT 1 FROM post_logs l WHERE l.user_id = d.user_id AND l.id = unhex(w.value ->> 0))";

/// Whether the batch holds nothing else, and no delivery twice.
pub(super) fn is_usual(writes: &[PhaseWrite]) -> bool {
    let mut seen = HashSet::with_capacity(writes.len());
    writes.iter().all(|write| (is_ahead(write) || is_out(write)) && seen.insert(write.delivery))
}

/// Makes the writes of a usual batch.
pub(super) async fn record(writer: &Writer, writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    let rows: Vec<_> = writes.iter().map(WriteColumns::of).collect();
    let of = |keep: bool| rows.iter().filter(move |row| (row.write.lease == LeaseAfter::Keep) == keep);
    let aheads = Value::json(&of(true).map(ahead).collect::<Vec<_>>());
    let outs = Value::json(&of(false).map(out).collect::<Vec<_>>());
    let logs = Value::json(&rows.iter().map(logged).collect::<Vec<_>>());
    let mut guard = writer.lock().await?;
    let counts = guard.fetch(BATCH.into(), values![aheads, outs, logs.clone()]).await?;
    let [before, after] = &*counts else { return Err(unreadable("a batch of writes was not counted")) };
    let changed = Reader::of(after).int::<i64>()? - Reader::of(before).int::<i64>()?;
    // Each one that counted has changed its delivery and has a row in the history.
    let all = usize::try_from(changed) == Ok(2 * writes.len());
    let written = if all { Vec::new() } else { guard.fetch(WRITTEN.into(), vec![logs]).await? };
    guard.done();
    if all {
        return Ok(vec![Held::Yes; writes.len()]);
    }
    let written: HashSet<_> = written.iter().map(|row| Reader::of(row).id()).collect::<sqlx::Result<_>>()?;
    Ok(writes
        .iter()
        .map(|write| if written.contains(&write.delivery.uuid()) { Held::Yes } else { Held::Lost })
        .collect())
}

fn ahead<'r>(row: &'r WriteColumns<'_>) -> impl Serialize + use<'r> {
    let write = row.write;
    (
        write.delivery.uuid().simple(),
        write.epoch.0,
        write.phase.as_str(),
        &row.checkpoint,
        write.attempt,
        write.crashes,
        write.committing_since.map(Timestamp::as_microsecond),
        write.log.at.as_microsecond(),
    )
}

fn out<'r>(row: &'r WriteColumns<'_>) -> impl Serialize + use<'r> {
    let write = row.write;
    (
        write.delivery.uuid().simple(),
        write.epoch.0,
        row.remote.and_then(|remote| remote.id.as_ref()).map(|id| id.as_str()),
        row.remote.and_then(|remote| remote.permalink.as_ref()),
        write.attempt,
        write.crashes,
        write.log.at.as_microsecond(),
    )
}
