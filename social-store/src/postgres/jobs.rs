//! The hot path: claims in one short transaction, a batch of writes in one statement.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use social_core::store::{ClaimRequest, Held, Lease, PhaseWrite};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    desk::Desk,
    usual::{Aheads, OUT, OUT_ALONE, Outs},
    writes::{Batch, Counted},
};
use crate::{
    backend::rounds,
    jobs::{is_ahead, is_out, status_of},
    row::{Harvest, Reader, claim_columns, delivery_columns},
    value::postgres::{At, Id},
};

/// One claim at a time: two workers that look at the same moment would both find an account free and both take deliveries of it. The next
/// statement sees what the holder before committed.
pub(super) const BEGIN_CLAIM: &str = "BEGIN; SELECT pg_advisory_xact_lock(6944676573823746419)";

/// `$1` platforms, `$2` how many of each, `$3` until, `$4` worker, `$5` end of the lease. Each lane walks one index in the order of waking
/// and stops at its limit, whatever the backlog; for each row it looks once whether another worker holds its account. (`NOT EXISTS` says the
/// same, but the planner may turn it round and compare each row with everything that is held.)
pub(super) const CLAIM: &str = concat!(
    "WITH picked AS MATERIALIZED ( \
         SELECT due.id FROM unnest($1, $2) AS lane (platform, n) \
         CROSS JOIN LATERAL ( \
             SELECT f.id FROM deliveries f \
             WHERE f.platform = lane.platform AND f.lease_until IS NULL AND f.wake_at IS NOT NULL AND f.wake_at <= $3 \
             AND (SELECT 1 FROM deliveries h \
                 WHERE h.account_id = f.account_id AND h.lease_until IS NOT NULL AND h.worker <> $4 LIMIT 1) IS NULL \
             ORDER BY f.wake_at LIMIT lane.n FOR UPDATE OF f SKIP LOCKED) AS due), \
     d AS ( \
         UPDATE deliveries t SET epoch = t.epoch + 1, lease_until = $5, worker = $4 FROM picked WHERE t.id = picked.id RETURNING t.*) \
     SELECT ",
    delivery_columns!(),
    ", ",
    claim_columns!(),
    " FROM d JOIN posts p ON p.id = d.post_id JOIN social_accounts a ON a.id = d.account_id \
     LEFT JOIN connections c ON c.id = a.connection_id"
);

pub(super) async fn claim(desk: &Desk, request: &ClaimRequest, harvest: &mut Harvest) -> sqlx::Result<()> {
    let lanes = || request.lanes.iter().filter(|lane| lane.limit > 0);
    if lanes().next().is_none() {
        return Ok(());
    }
    let mut seat = desk.sit().await?;
    seat.run(BEGIN_CLAIM).await?;
    let rows = sqlx::query(CLAIM)
        .bind(lanes().map(|lane| lane.platform.as_str()).collect::<Vec<_>>())
        .bind(lanes().map(|lane| i64::try_from(lane.limit).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(At(request.until))
        .bind(&request.worker)
        .bind(At(request.lease_until))
        .fetch_all(&mut seat.connection)
        .await?;
    seat.run("COMMIT").await?;
    seat.done();
    rows.iter().for_each(|row| harvest.take(row));
    Ok(())
}

pub(super) async fn record(desks: &[Desk; 2], writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    let mut answers = vec![Held::Lost; writes.len()];
    let mut seat = match desks[0].try_sit().await {
        Some(seat) => seat?,
        None => desks[1].sit().await?,
    };
    let mut rounds = rounds(writes, |write| write.delivery);
    // In the order of ids, as every batch does it, so that two of them do not wait for each other.
    rounds.iter_mut().for_each(|places| places.sort_unstable_by_key(|place| writes[*place].delivery));
    // What most batches are is one statement, which is a transaction by itself.
    if let [places] = &mut *rounds {
        let mut counted = Counted::default();
        let each = || places.iter().map(|place| &writes[*place]);
        let ahead = each().all(is_ahead);
        if ahead {
            Aheads::of(each()).write(&mut seat.connection, &mut counted).await?;
        } else if each().all(is_out) {
            Outs::of(each()).write(OUT_ALONE, &mut seat.connection, &mut counted).await?;
        }
        places.retain(|place| !counted.note(writes, *place, &mut answers) && !ahead);
    }
    if rounds.iter().any(|places| !places.is_empty()) {
        seat.run("BEGIN").await?;
        let mut shared = BTreeSet::new();
        for places in &rounds {
            shared.extend(round(&mut seat.connection, writes, places, &mut answers).await?);
        }
        if !shared.is_empty() {
            follow(&mut seat.connection, shared).await?;
        }
        seat.run("COMMIT").await?;
    }
    seat.done();
    Ok(answers)
}

/// Writes what is at `places`, no delivery twice. Answers with the posts whose status several deliveries decide.
async fn round(
    connection: &mut PgConnection,
    writes: &[PhaseWrite],
    places: &[usize],
    answers: &mut [Held],
) -> sqlx::Result<BTreeSet<Uuid>> {
    let mut counted = Counted::default();
    let each = || places.iter().map(|place| &writes[*place]);
    if each().all(is_ahead) {
        Aheads::of(each()).write(connection, &mut counted).await?;
    } else if each().all(is_out) {
        Outs::of(each()).write(OUT, connection, &mut counted).await?;
    } else {
        // Together: one kind after the other would lock rows out of their order.
        let mut batch = Batch::default();
        places.iter().for_each(|place| batch.push(*place, &writes[*place]));
        batch.write(connection, &mut counted).await?;
    }
    for place in places {
        counted.note(writes, *place, answers);
    }
    Ok(counted.shared)
}

/// Posts take over the status that follows from their deliveries. They are locked first, by a statement of its own: the next one then sees
/// what others wrote about deliveries of the same post.
async fn follow(connection: &mut PgConnection, posts: BTreeSet<Uuid>) -> sqlx::Result<()> {
    let ids: Vec<_> = posts.into_iter().map(Id).collect();
    let lock = "SELECT 1 FROM posts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
    sqlx::query(lock).bind(&ids).fetch_all(&mut *connection).await?;
    let follow = concat!(
        "UPDATE posts SET status = (SELECT ",
        status_of!(),
        " FROM deliveries WHERE post_id = posts.id) WHERE id = ANY($1)"
    );
    sqlx::query(follow).bind(&ids).execute(connection).await?;
    Ok(())
}

// What is held has a worker. Said in this way, the planner finds the rows by their ids and does not look through everything that is held.
pub(super) const RENEW: &str = "UPDATE deliveries d SET lease_until = $3 FROM unnest($1, $2) AS w (id, epoch) \
     WHERE d.id = w.id AND d.epoch = w.epoch AND d.worker IS NOT NULL RETURNING d.id, d.epoch";

pub(super) const REST: &str = "UPDATE deliveries d SET epoch = d.epoch + 1, lease_until = NULL, worker = NULL, wake_at = $3 \
     FROM unnest($1, $2) AS w (id, epoch) WHERE d.id = w.id AND d.epoch = w.epoch AND d.worker IS NOT NULL";

fn sorted(leases: &[Lease]) -> (Vec<Id>, Vec<i64>) {
    let mut pairs: Vec<_> = leases.iter().map(|lease| (lease.delivery, lease.epoch)).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(delivery, epoch)| (Id(delivery.uuid()), epoch.0)).unzip()
}

pub(super) async fn renew(desk: &Desk, leases: &[Lease], until: Timestamp) -> sqlx::Result<Vec<Held>> {
    let (ids, epochs) = sorted(leases);
    let mut seat = desk.sit().await?;
    let rows = sqlx::query(RENEW).bind(ids).bind(epochs).bind(At(until)).fetch_all(&mut seat.connection).await?;
    seat.done();
    let mut held = HashSet::with_capacity(rows.len());
    for row in &rows {
        let mut row = Reader::of(row);
        held.insert((row.id()?, row.int::<i64>()?));
    }
    let answer = |lease: &Lease| {
        if held.contains(&(lease.delivery.uuid(), lease.epoch.0)) { Held::Yes } else { Held::Lost }
    };
    Ok(leases.iter().map(answer).collect())
}

pub(super) async fn rest(desk: &Desk, leases: &[Lease], wake_at: Timestamp) -> sqlx::Result<()> {
    let (ids, epochs) = sorted(leases);
    let mut seat = desk.sit().await?;
    sqlx::query(REST).bind(ids).bind(epochs).bind(At(wake_at)).execute(&mut seat.connection).await?;
    seat.done();
    Ok(())
}
