//! Writes of any kind in one statement.

use std::collections::{BTreeSet, HashSet};

use social_core::{
    id::RemotePostId,
    phase::RemotePost,
    store::{Held, PhaseWrite},
};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use crate::{
    jobs::{WriteColumns, rests, status_alone},
    row::Reader,
    value::{
        json,
        postgres::{At, Id, Json, text},
    },
};

/// What became of writes.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The deliveries for which they counted.
    held: HashSet<Uuid>,
    /// The posts whose status several deliveries decide.
    pub(super) shared: BTreeSet<Uuid>,
}

impl Counted {
    /// Takes in rows of a delivery that counted and, where there is one, such a post.
    pub(super) fn take(&mut self, rows: &[PgRow]) -> sqlx::Result<()> {
        for row in rows {
            let mut row = Reader::of(row);
            self.held.insert(row.id()?);
            self.shared.extend(row.maybe_id()?);
        }
        Ok(())
    }

    /// Writes down whether the write at `place` counted, and answers with it.
    pub(super) fn note(&self, writes: &[PhaseWrite], place: usize, answers: &mut [Held]) -> bool {
        let held = self.held.contains(&writes[place].delivery.uuid());
        if held {
            answers[place] = Held::Yes;
        }
        held
    }
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

/// The columns of such a batch.
#[derive(Default)]
pub(super) struct Batch {
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
    pub(super) fn push(&mut self, turn: usize, write: &PhaseWrite) {
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

    pub(super) async fn write(self, connection: &mut PgConnection, counted: &mut Counted) -> sqlx::Result<()> {
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
        counted.take(&rows)
    }
}

/// A part is added to a list that PostgreSQL has to understand, and it understands no NUL.
fn part(part: &RemotePost) -> Json {
    let id = part.id.as_ref().map(|id| RemotePostId::new(text(id.as_str().to_owned())));
    Json(json(&RemotePost { id, permalink: part.permalink.clone().map(text) }))
}
