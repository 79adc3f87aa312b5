//! Storing posts, those that arrived together in one transaction.

use std::sync::Arc;

use social_core::store::{Insert, NewPost};
use sqlx::{Sqlite, sqlite::SqliteConnection};

use super::{
    groups, portions,
    writer::{Writer, query},
};
use crate::{
    backend::Transaction as _,
    intake::{Shelf, breaks_a_rule},
    posts::StoredPost,
    value::values,
};

impl Shelf for Arc<Writer> {
    async fn store(&self, posts: &[StoredPost]) -> sqlx::Result<Vec<sqlx::Result<Insert>>> {
        let mut tx = self.begin().await?;
        let mut inserted = Vec::with_capacity(posts.len());
        for post in posts {
            inserted.push(Ok(insert(tx.connection(), post).await?));
        }
        tx.commit().await?;
        Ok(inserted)
    }

    // A file that is locked or full is so for all.
    fn may_be_of_one(error: &sqlx::Error) -> bool {
        breaks_a_rule(error)
    }

    async fn store_alone(&self, post: &StoredPost) -> sqlx::Result<Insert> {
        self.store(std::slice::from_ref(post)).await?.remove(0)
    }
}

/// Stores a post in somebody's transaction.
pub(super) async fn insert_in(transaction: &mut sqlx::Transaction<'_, Sqlite>, new: &NewPost) -> sqlx::Result<Insert> {
    insert(transaction, &StoredPost::of(new)).await
}

async fn insert(connection: &mut SqliteConnection, post: &StoredPost) -> sqlx::Result<Insert> {
    let wall = post.wall.as_ref();
    let key = post.key.as_ref();
    let draft = &post.draft;
    let added = query(
        "INSERT INTO posts (id, user_id, content, draft, media_url, scheduled_time, local_time, time_zone, status, idempotency_key, \
         idempotency_fingerprint, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
            .into(),
        values![
            post.id,
            post.user,
            draft.content.as_str(),
            draft.json.as_str(),
            draft.media_url.as_deref(),
            post.scheduled_at,
            wall.map(|(local_time, _)| local_time.as_str()),
            wall.map(|(_, time_zone)| time_zone.as_str()),
            post.status,
            key.map(|(key, _)| key.as_str()),
            key.map(|(_, fingerprint)| *fingerprint),
            post.created_at,
            post.updated_at,
        ],
    );
    if added.execute(&mut *connection).await?.rows_affected() == 0 {
        let key = key.map(|(key, _)| key.as_str());
        let row = query(StoredPost::BY_KEY.into(), values![post.user, key]).fetch_one(connection).await?;
        return post.known(&row);
    }
    let mut position = 0_i64;
    for portion in portions(&post.deliveries) {
        let (mut rows, mut logs) = (Vec::new(), Vec::new());
        for delivery in portion {
            let platform = delivery.platform.as_str();
            rows.extend(values![
                delivery.id,
                post.id,
                post.user,
                delivery.account,
                platform,
                position,
                post.scheduled_at,
                post.scheduled_at,
                post.late_limit_us,
                post.created_at,
            ]);
            logs.extend(values![delivery.log, post.id, delivery.id, post.user, platform, post.created_at]);
            position += 1;
        }
        let sql = format!(
            "INSERT INTO deliveries (id, post_id, user_id, account_id, platform, position, due_at, wake_at, late_limit_us, updated_at, \
             phase) SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, 'scheduled' \
             FROM (VALUES {})",
            groups(portion.len(), 10)
        );
        query(sql.into(), rows).execute(&mut *connection).await?;
        let sql = format!(
            "INSERT INTO post_logs (id, post_id, delivery_id, user_id, platform, created_at, event, attempt, response) \
             SELECT column1, column2, column3, column4, column5, column6, 'scheduled', 0, 'null' FROM (VALUES {})",
            groups(portion.len(), 6)
        );
        query(sql.into(), logs).execute(&mut *connection).await?;
    }
    Ok(Insert::Stored)
}
