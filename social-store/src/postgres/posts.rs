//! Storing a post: one statement, one round trip.

use social_core::store::Insert;
use sqlx::PgConnection;

use super::backend::query;
use crate::{
    posts::StoredPost,
    value::{Value, postgres, values},
};

/// Post, deliveries and the beginning of their history, or nothing at all where the key is known.
const INSERT: &str = "WITH p AS ( \
         INSERT INTO posts (id, user_id, content, draft, media_url, scheduled_time, local_time, time_zone, status, idempotency_key, \
             idempotency_fingerprint, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id), \
     w AS (SELECT w.* FROM p CROSS JOIN unnest($15, $16, $17, $18) WITH ORDINALITY AS w (id, account_id, platform, log_id, place)), \
     d AS ( \
         INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, phase, due_at, wake_at, late_limit_us, updated_at) \
         SELECT id, $1, $2, account_id, platform, place - 1, 'scheduled', $6, $6, $14, $12 FROM w), \
     l AS ( \
         INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, attempt, response, created_at) \
         SELECT log_id, $1, id, $2, platform, 'scheduled', 0, 'null'::json, $12 FROM w ORDER BY place) \
     SELECT id FROM p";

/// Stores a post, alone or in a transaction that is under way on that connection.
pub(super) async fn insert(connection: &mut PgConnection, post: &StoredPost) -> sqlx::Result<Insert> {
    let (wall, key, draft) = (post.wall.as_ref(), post.key.as_ref(), &post.draft);
    let stored = query(
        INSERT.into(),
        values![
            post.id,
            post.user,
            draft.content.as_str(),
            Value::Json(Some(draft.json.clone())),
            draft.media_url.as_deref(),
            post.scheduled_at,
            wall.map(|(local_time, _)| local_time.as_str()),
            wall.map(|(_, time_zone)| time_zone.as_str()),
            post.status,
            key.map(|(key, _)| key.as_str()),
            key.map(|(_, fingerprint)| *fingerprint),
            post.created_at,
            post.updated_at,
            post.late_limit_us,
        ],
    )
    .bind(post.deliveries.iter().map(|(id, ..)| postgres::Id(*id)).collect::<Vec<_>>())
    .bind(post.deliveries.iter().map(|(_, account, ..)| postgres::Id(*account)).collect::<Vec<_>>())
    .bind(post.deliveries.iter().map(|(_, _, platform, _)| platform.clone()).collect::<Vec<_>>())
    .bind(post.deliveries.iter().map(|(.., log)| postgres::Id(*log)).collect::<Vec<_>>());
    if !stored.fetch_all(&mut *connection).await?.is_empty() {
        return Ok(Insert::Stored);
    }
    let known = values![post.user, key.map(|(key, _)| key.as_str())];
    let row = query(StoredPost::BY_KEY.into(), known).fetch_one(connection).await?;
    post.known(&row)
}
