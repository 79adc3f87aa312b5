//! Storing posts: one statement for all that arrived together, one round trip.

use std::collections::HashSet;

use social_core::store::Insert;
use sqlx::{PgConnection, postgres::PgPool};

use super::{backend::query, desk::Desk};
use crate::{
    intake::Shelf,
    posts::StoredPost,
    row::Reader,
    value::{
        postgres::{At, Id, Json, text},
        values,
    },
};

/// Posts, their deliveries and the beginning of their history; nothing at all of a post whose key is known. Answers with what was stored.
const INSERT: &str = "WITH p AS ( \
         INSERT INTO posts (id, user_id, content, draft, media_url, scheduled_time, local_time, time_zone, status, idempotency_key, \
             idempotency_fingerprint, created_at, updated_at) \
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id), \
     w AS ( \
         SELECT w.* FROM unnest($14, $15, $16, $17, $18, $19, $20, $21, $22, $23) WITH ORDINALITY \
             AS w (id, post_id, user_id, account_id, platform, position, due_at, late_limit_us, created_at, log_id, turn) \
         WHERE w.post_id = ANY (ARRAY(SELECT id FROM p))), \
     d AS ( \
         INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, phase, due_at, wake_at, late_limit_us, updated_at) \
         SELECT id, post_id, user_id, account_id, platform, position, 'scheduled', due_at, due_at, late_limit_us, created_at FROM w), \
     l AS ( \
         INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, event, attempt, response, created_at) \
         SELECT log_id, post_id, id, user_id, platform, 'scheduled', 0, 'null'::json, created_at FROM w ORDER BY turn) \
     SELECT id FROM p";

/// Posts that arrive together wait no longer for somebody's lock; each is tried by itself then, with the patience of the pool.
const GROUP_LOCKS: &str = "SET lock_timeout = '500ms'";

/// The connection that stores groups, and the pool for what would hold them up.
#[derive(Debug)]
pub(super) struct PostShelf {
    pub(super) desk: Desk,
    pool: PgPool,
}

impl PostShelf {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { desk: Desk::new(pool.clone(), GROUP_LOCKS), pool }
    }
}

impl Shelf for PostShelf {
    async fn store(&self, posts: &[StoredPost]) -> sqlx::Result<Vec<sqlx::Result<Insert>>> {
        let mut seat = self.desk.sit().await?;
        let inserted = insert(&mut seat.connection, posts).await;
        if inserted.as_ref().err().is_none_or(Self::may_be_of_one) {
            seat.done();
        }
        inserted
    }

    fn may_be_of_one(error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|error| error.code());
        // Lost connections, a server without resources, a server that stops.
        code.is_some_and(|code| !["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)))
    }

    async fn store_alone(&self, post: &StoredPost) -> sqlx::Result<Insert> {
        let mut connection = self.pool.acquire().await?;
        insert(&mut connection, std::slice::from_ref(post)).await?.remove(0)
    }
}

/// Stores posts, alone or in a transaction that is under way on that connection.
pub(super) async fn insert<'p>(
    connection: &mut PgConnection,
    posts: &'p [StoredPost],
) -> sqlx::Result<Vec<sqlx::Result<Insert>>> {
    // In the order of keys: two groups that meet the same ones do not wait for each other.
    let mut sorted: Vec<_> = posts.iter().collect();
    sorted.sort_by_key(|post| (post.user, post.key.as_ref().map(|(key, _)| key)));
    macro_rules! posts {
        ($post:ident => $column:expr) => {
            sorted.iter().map(|$post| $column).collect::<Vec<_>>()
        };
    }
    let places =
        |post: &'p StoredPost| (0_i64..).zip(&post.deliveries).map(move |(place, delivery)| (post, place, delivery));
    let rows: Vec<_> = sorted.iter().copied().flat_map(places).collect();
    macro_rules! rows {
        ($row:pat => $column:expr) => {
            rows.iter().map(|$row| $column).collect::<Vec<_>>()
        };
    }
    let stored = sqlx::query(INSERT)
        .bind(posts!(post => Id(post.id)))
        .bind(posts!(post => Id(post.user)))
        .bind(posts!(post => text(post.draft.content.clone())))
        .bind(posts!(post => Json(post.draft.json.clone())))
        .bind(posts!(post => post.draft.media_url.clone().map(text)))
        .bind(posts!(post => At(post.scheduled_at)))
        .bind(posts!(post => post.wall.as_ref().map(|(local_time, _)| text(local_time.clone()))))
        .bind(posts!(post => post.wall.as_ref().map(|(_, time_zone)| text(time_zone.clone()))))
        .bind(posts!(post => post.status))
        .bind(posts!(post => post.key.as_ref().map(|(key, _)| text(key.clone()))))
        .bind(posts!(post => post.key.as_ref().map(|(_, fingerprint)| fingerprint.to_vec())))
        .bind(posts!(post => At(post.created_at)))
        .bind(posts!(post => At(post.updated_at)))
        .bind(rows!((_, _, delivery) => Id(delivery.id)))
        .bind(rows!((post, ..) => Id(post.id)))
        .bind(rows!((post, ..) => Id(post.user)))
        .bind(rows!((_, _, delivery) => Id(delivery.account)))
        .bind(rows!((_, _, delivery) => delivery.platform.clone()))
        .bind(rows!((_, place, _) => *place))
        .bind(rows!((post, ..) => At(post.scheduled_at)))
        .bind(rows!((post, ..) => post.late_limit_us))
        .bind(rows!((post, ..) => At(post.created_at)))
        .bind(rows!((_, _, delivery) => Id(delivery.log)))
        .fetch_all(&mut *connection)
        .await?;
    let stored: HashSet<_> = stored.iter().map(|row| Reader::of(row).id()).collect::<sqlx::Result<_>>()?;
    let mut answers = Vec::with_capacity(posts.len());
    for post in posts {
        // The others are stored whatever becomes of this question.
        answers.push(if stored.contains(&post.id) { Ok(Insert::Stored) } else { known(connection, post).await });
    }
    Ok(answers)
}

/// What was there already under a post's key.
async fn known(connection: &mut PgConnection, post: &StoredPost) -> sqlx::Result<Insert> {
    let known = values![post.user, post.key.as_ref().map(|(key, _)| key.as_str())];
    post.known(&query(StoredPost::BY_KEY.into(), known).fetch_one(connection).await?)
}
