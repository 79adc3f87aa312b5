//! The hot path: claims in one short transaction, a batch of writes in one statement.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use social_core::{
    id::RemotePostId,
    phase::RemotePost,
    store::{ClaimRequest, Held, Lease, PhaseWrite},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::desk::Desk;
use crate::{
    backend::rounds,
    jobs::{WriteColumns, rests, status_alone, status_of},
    row::{Harvest, Reader, claim_columns, delivery_columns},
    value::{
        json,
        postgres::{At, Id, Json, text},
    },
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

/// Writes, their rows of the history, and the status of posts with one delivery. A write counts under the current epoch; one whose
/// worker goes on besides only under a lease, one from outside the engine only from a phase that allows it. Answers with what counted, and with the post where several deliveries decide its status.
pub(super) const RECORD: &str = "WITH w AS MATERIALIZED ( \
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25) \
         AS w (id, epoch, from_phases, phase, checkpoint, has_remote, remote_id, permalink, published_at, part, attempt, \
             crashes, wake_at, due_at, committing_since, keep_error, error, lease, log_id, event, success, response, at, status, turn)), \
     u AS ( \
         UPDATE deliveries d SET phase = w.phase, checkpoint = w.checkpoint, \
             remote_id = CASE WHEN w.has_remote THEN w.remote_id WHEN w.phase = 'published' THEN d.remote_id END, \
             permalink = CASE WHEN w.has_remote THEN w.permalink WHEN w.phase = 'published' THEN d.permalink END, \
             published_at = coalesce(w.published_at, d.published_at), \
             parts = CASE WHEN w.part IS NULL THEN d.parts \
                     ELSE (coalesce(d.parts::jsonb, '[]') || jsonb_build_array(w.part::jsonb))::json END, \
             attempt = w.attempt, crashes = w.crashes, wake_at = w.wake_at, due_at = coalesce(w.due_at, d.due_at), \
             committing_since = w.committing_since, error = CASE WHEN w.keep_error THEN d.error ELSE w.error END, \
             updated_at = w.at, epoch = d.epoch + CASE w.lease WHEN 2 THEN 1 ELSE 0 END, \
             lease_until = CASE w.lease WHEN 0 THEN d.lease_until END, worker = CASE w.lease WHEN 0 THEN d.worker END \
         FROM w WHERE d.id = w.id AND d.epoch = w.epoch AND (w.lease <> 0 OR d.lease_until IS NOT NULL) \
         AND (w.from_phases IS NULL OR strpos(w.from_phases, ',' || d.phase || ',') > 0) \
         RETURNING d.id, d.post_id, d.user_id, d.platform, w.log_id, w.event, w.success, w.attempt, w.response, w.at, w.status, w.turn), \
     l AS ( \
         INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, success, attempt, response, created_at) \
         SELECT log_id, post_id, id, user_id, platform, event, success, attempt, response, at FROM u ORDER BY turn), \
     s AS MATERIALIZED ( \
         SELECT u.id, u.post_id, u.status, \
             u.status IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries o WHERE o.post_id = u.post_id AND o.id <> u.id) AS several \
         FROM u), \
     p AS ( \
         UPDATE posts p SET status = s.status FROM s WHERE p.id = s.post_id AND s.status IS NOT NULL AND NOT s.several) \
     SELECT id, CASE WHEN several THEN post_id END FROM s";

/// The columns of a batch.
#[derive(Default)]
struct Batch {
    id: Vec<Id>,
    epoch: Vec<i64>,
    from_phases: Vec<Option<String>>,
    phase: Vec<&'static str>,
    checkpoint: Vec<Option<Json>>,
    has_remote: Vec<bool>,
    remote_id: Vec<Option<String>>,
    permalink: Vec<Option<String>>,
    published_at: Vec<Option<At>>,
    part: Vec<Option<Json>>,
    attempt: Vec<i64>,
    crashes: Vec<i64>,
    wake_at: Vec<Option<At>>,
    due_at: Vec<Option<At>>,
    committing_since: Vec<Option<At>>,
    keep_error: Vec<bool>,
    error: Vec<Option<String>>,
    lease: Vec<i64>,
    log_id: Vec<Id>,
    event: Vec<String>,
    success: Vec<Option<bool>>,
    response: Vec<Json>,
    at: Vec<At>,
    /// The post's status if this is its only delivery; none while somebody is at work.
    status: Vec<Option<&'static str>>,
    /// The place of the write in the caller's order, which is that of the history.
    turn: Vec<i64>,
}

impl Batch {
    fn push(&mut self, turn: usize, write: &PhaseWrite) {
        self.turn.push(i64::try_from(turn).unwrap_or(i64::MAX));
        let row = WriteColumns::of(write);
        self.id.push(Id(write.delivery.uuid()));
        self.epoch.push(write.epoch.0);
        self.phase.push(write.phase.as_str());
        self.has_remote.push(row.remote.is_some());
        self.remote_id.push(row.remote_id().map(text));
        self.permalink.push(row.permalink().map(text));
        self.published_at.push(row.published_at.map(At));
        self.lease.push(row.lease());
        self.keep_error.push(row.keep_error);
        self.error.push(row.error.map(|error| text(error.to_owned())));
        self.from_phases.push(row.from);
        self.checkpoint.push(row.checkpoint.map(Json));
        self.part.push(row.part.map(part));
        self.attempt.push(write.attempt.into());
        self.crashes.push(write.crashes.into());
        self.wake_at.push(write.wake_at.map(At));
        self.due_at.push(write.due_at.map(At));
        self.committing_since.push(write.committing_since.map(At));
        self.log_id.push(Id(write.log.id.uuid()));
        self.event.push(text(write.log.event.clone()));
        self.success.push(write.log.success);
        self.response.push(Json(row.response));
        self.at.push(At(write.log.at));
        self.status.push(rests(write.phase).then(|| status_alone(write.phase)));
    }

    /// Answers with the deliveries that it counted for, and the posts whose status several deliveries decide.
    async fn write(self, connection: &mut PgConnection) -> sqlx::Result<(HashSet<Uuid>, BTreeSet<Uuid>)> {
        let rows = sqlx::query(RECORD)
            .bind(self.id)
            .bind(self.epoch)
            .bind(self.from_phases)
            .bind(self.phase)
            .bind(self.checkpoint)
            .bind(self.has_remote)
            .bind(self.remote_id)
            .bind(self.permalink)
            .bind(self.published_at)
            .bind(self.part)
            .bind(self.attempt)
            .bind(self.crashes)
            .bind(self.wake_at)
            .bind(self.due_at)
            .bind(self.committing_since)
            .bind(self.keep_error)
            .bind(self.error)
            .bind(self.lease)
            .bind(self.log_id)
            .bind(self.event)
            .bind(self.success)
            .bind(self.response)
            .bind(self.at)
            .bind(self.status)
            .bind(self.turn)
            .fetch_all(connection)
            .await?;
        let (mut held, mut shared) = (HashSet::with_capacity(rows.len()), BTreeSet::new());
        for row in &rows {
            let mut row = Reader::of(row);
            held.insert(row.id()?);
            shared.extend(row.maybe_id()?);
        }
        Ok((held, shared))
    }
}

/// A part is added to a list that PostgreSQL has to understand, and it understands no NUL.
fn part(part: &RemotePost) -> Json {
    let id = part.id.as_ref().map(|id| RemotePostId::new(text(id.as_str().to_owned())));
    Json(json(&RemotePost { id, permalink: part.permalink.clone().map(text) }))
}

pub(super) async fn record(desks: &[Desk; 2], writes: &[PhaseWrite]) -> sqlx::Result<Vec<Held>> {
    let mut answers = vec![Held::Lost; writes.len()];
    let mut seat = match desks[0].try_sit().await {
        Some(seat) => seat?,
        None => desks[1].sit().await?,
    };
    let mut rounds = rounds(writes, |write| write.delivery);
    if let [places] = &mut *rounds
        && !writes.iter().any(|write| rests(write.phase))
    {
        // One statement, which is a transaction by itself.
        round(&mut seat.connection, writes, places, &mut answers).await?;
        seat.done();
        return Ok(answers);
    }
    seat.run("BEGIN").await?;
    let mut shared = BTreeSet::new();
    for mut places in rounds {
        shared.extend(round(&mut seat.connection, writes, &mut places, &mut answers).await?);
    }
    if !shared.is_empty() {
        follow(&mut seat.connection, shared).await?;
    }
    seat.run("COMMIT").await?;
    seat.done();
    Ok(answers)
}

/// Writes what is at `places`, no delivery twice. Answers with the posts whose status several deliveries decide.
async fn round(
    connection: &mut PgConnection,
    writes: &[PhaseWrite],
    places: &mut [usize],
    answers: &mut [Held],
) -> sqlx::Result<BTreeSet<Uuid>> {
    // In the order of ids, as every batch does it, so that two of them do not wait for each other.
    places.sort_unstable_by_key(|place| writes[*place].delivery);
    let mut batch = Batch::default();
    places.iter().for_each(|place| batch.push(*place, &writes[*place]));
    let (held, shared) = batch.write(connection).await?;
    for place in places {
        if held.contains(&writes[*place].delivery.uuid()) {
            answers[*place] = Held::Yes;
        }
    }
    Ok(shared)
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
