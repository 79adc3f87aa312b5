//! Storing posts: those that arrive together are stored together.

use std::sync::{Arc, Mutex, PoisonError};

use social_core::store::{Insert, NewPost};
use sqlx::{Sqlite, sqlite::SqliteConnection};
use tokio::sync::oneshot;

use super::{
    groups, portions,
    writer::{Writer, query},
};
use crate::{backend::Transaction as _, posts::StoredPost, value::values};

/// How many posts share a transaction at most.
const GROUP: usize = 256;

/// Takes posts in. Each commit waits for the disk, so while one is under way the next posts gather and share the one after it.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    writer: Arc<Writer>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Arrival>,
    /// Whether somebody is storing what waits.
    busy: bool,
}

#[derive(Debug)]
struct Arrival {
    post: StoredPost,
    answer: oneshot::Sender<sqlx::Result<Insert>>,
}

impl Intake {
    pub(super) fn new(writer: Arc<Writer>) -> Self {
        Self { writer, queue: Arc::default() }
    }

    pub(super) async fn insert(&self, post: StoredPost) -> sqlx::Result<Insert> {
        let (answer, stored) = oneshot::channel();
        if self.arrive(Arrival { post, answer }) {
            // A task of its own: a caller that gives up must not take the posts of the others with it.
            tokio::spawn(self.clone().store_all());
        }
        // The task ends only with the runtime.
        stored.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Puts a post into the queue. Answers whether somebody has to be found who stores it.
    fn arrive(&self, arrival: Arrival) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push(arrival);
        !std::mem::replace(&mut queue.busy, true)
    }

    /// The next posts to be stored together; none ends the work.
    fn next(&self) -> Vec<Arrival> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(GROUP);
        queue.busy = count > 0;
        queue.waiting.drain(..count).collect()
    }

    async fn store_all(self) {
        loop {
            let (posts, answers): (Vec<_>, Vec<_>) =
                self.next().into_iter().map(|arrival| (arrival.post, arrival.answer)).unzip();
            if posts.is_empty() {
                return;
            }
            match self.store(&posts).await {
                Ok(inserted) => {
                    for (answer, inserted) in answers.into_iter().zip(inserted) {
                        let _ = answer.send(Ok(inserted));
                    }
                }
                // One of them breaks a rule, and it must not stand in the way of the others.
                Err(error) if posts.len() > 1 && breaks_a_rule(&error) => {
                    for (answer, post) in answers.into_iter().zip(posts.chunks(1)) {
                        let alone = self.store(post).await;
                        let _ = answer.send(
                            alone.and_then(|inserted| inserted.into_iter().next().ok_or(sqlx::Error::RowNotFound)),
                        );
                    }
                }
                Err(error) => {
                    let said = error.to_string();
                    let mut error = Some(error);
                    for answer in answers {
                        let _ = answer.send(Err(error.take().unwrap_or_else(|| sqlx::Error::Protocol(said.clone()))));
                    }
                }
            }
        }
    }

    async fn store(&self, posts: &[StoredPost]) -> sqlx::Result<Vec<Insert>> {
        let mut tx = self.writer.begin().await?;
        let mut inserted = Vec::with_capacity(posts.len());
        for post in posts {
            inserted.push(insert(tx.connection(), post).await?);
        }
        tx.commit().await?;
        Ok(inserted)
    }
}

/// Whether a statement failed because of what it wanted to store, and not because of the database.
fn breaks_a_rule(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() != sqlx::error::ErrorKind::Other)
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
        for (id, account, platform, log) in portion {
            rows.extend(values![
                *id,
                post.id,
                post.user,
                *account,
                platform.as_str(),
                position,
                post.scheduled_at,
                post.scheduled_at,
                post.late_limit_us,
                post.created_at,
            ]);
            logs.extend(values![*log, post.id, *id, post.user, platform.as_str(), post.created_at]);
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
