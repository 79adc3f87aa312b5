//! Posts for hosts. Every statement names the user: nobody sees the rows of another.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::Error,
    id::{DeliveryId, LogId, PostId, UserId},
    phase::PhaseName,
    store::{
        Delivery, Edit, Epoch, Insert, LogEntry, LogFilter, LogRow, NewPost, Page, PageRequest, Post, PostFilter,
        PostStore,
    },
};
use uuid::Uuid;

use crate::{
    backend::{Backend, SqlStore, Transaction},
    cursor::{self, ByTime},
    fault::storage,
    jobs::{status_alone, status_of, waiting_phases},
    row::{Reader, delivery, delivery_columns, post, post_columns},
    value::{Value, json, values},
};

/// Workers look for what becomes due by themselves several times within this; only what is due sooner is worth telling them.
const SOON: SignedDuration = SignedDuration::from_secs(60);

/// A new post in the form of columns, made before anything is locked.
#[derive(Debug, Clone)]
pub struct StoredPost {
    pub(crate) id: Uuid,
    pub(crate) user: Uuid,
    pub(crate) draft: DraftColumns,
    pub(crate) scheduled_at: Timestamp,
    pub(crate) wall: Option<(String, String)>,
    pub(crate) status: &'static str,
    pub(crate) key: Option<(String, [u8; 32])>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) late_limit_us: i64,
    pub(crate) deliveries: Vec<StoredDelivery>,
}

/// A delivery of a new post in the form of columns.
#[derive(Debug, Clone)]
pub(crate) struct StoredDelivery {
    pub(crate) id: Uuid,
    pub(crate) account: Uuid,
    pub(crate) platform: String,
    /// The first row of its history.
    pub(crate) log: Uuid,
}

impl StoredPost {
    pub(crate) fn of(new: &NewPost) -> Self {
        let post = &new.post;
        let late_limit_us = i64::try_from(new.late_limit.as_micros()).unwrap_or(i64::MAX);
        let columns = new.deliveries.iter().map(|delivery| StoredDelivery {
            id: delivery.id.uuid(),
            account: delivery.account.uuid(),
            platform: delivery.platform.as_str().to_owned(),
            log: LogId::new().uuid(),
        });
        Self {
            id: post.id.uuid(),
            user: post.user.uuid(),
            draft: DraftColumns::of(&post.draft),
            scheduled_at: post.scheduled_at,
            wall: post.wall.as_ref().map(|wall| (wall.local_time.clone(), wall.time_zone.clone())),
            status: status_alone(PhaseName::Scheduled),
            key: new.idempotency.clone(),
            created_at: post.created_at,
            updated_at: post.updated_at,
            late_limit_us,
            deliveries: columns.collect(),
        }
    }

    /// What is there already under the same key; `$1` is the user and `$2` the key.
    pub(crate) const BY_KEY: &'static str =
        "SELECT id, idempotency_fingerprint FROM posts WHERE user_id = $1 AND idempotency_key = $2";

    /// What [`BY_KEY`](Self::BY_KEY) found means for this post.
    pub(crate) fn known<R: crate::row::Columns>(&self, row: &R) -> sqlx::Result<Insert> {
        let mut row = Reader::of(row);
        let (id, fingerprint) = (row.id()?, row.hash()?);
        let same = self.key.as_ref().is_some_and(|(_, own)| *own == fingerprint);
        Ok(if same { Insert::Existing(PostId::from_uuid(id)) } else { Insert::KeyConflict })
    }
}

/// A draft in the form of columns.
#[derive(Debug, Clone)]
pub(crate) struct DraftColumns {
    pub(crate) content: String,
    pub(crate) json: String,
    pub(crate) media_url: Option<String>,
}

impl DraftColumns {
    pub(crate) fn of(draft: &social_core::Draft) -> Self {
        let first = draft.stored_media().next();
        Self {
            content: draft.text.clone(),
            json: json(draft),
            media_url: first.map(|(_, media)| format!("/media/{}", media.id)),
        }
    }
}

/// A condition that grows, with its parameters.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Filter {
    pub(crate) fn new(sql: &str, values: Vec<Value>) -> Self {
        Self { sql: sql.to_owned(), values }
    }

    /// Adds a condition; `?` stands for the value.
    pub(crate) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.add(condition);
    }

    /// Adds a condition over the last value.
    pub(crate) fn add(&mut self, condition: &str) {
        let place = format!("${}", self.values.len());
        self.sql.push_str(&condition.replace('?', &place));
    }
}

impl<B: Backend> SqlStore<B> {
    /// The deliveries of these posts, by post, in their order.
    async fn deliveries_of(&self, posts: &[Post]) -> sqlx::Result<BTreeMap<PostId, Vec<Delivery>>> {
        let mut found = BTreeMap::<PostId, Vec<Delivery>>::new();
        let Some(last) = posts.last() else { return Ok(found) };
        // A power of two of parameters, so that few statements have to be kept prepared.
        let count = posts.len().next_power_of_two();
        let ids = posts.iter().map(|post| post.id).chain(std::iter::repeat(last.id)).take(count);
        let places: Vec<_> = (1..=count).map(|n| format!("${n}")).collect();
        let sql = format!(
            concat!(
                "SELECT ",
                delivery_columns!(),
                " FROM deliveries d WHERE d.post_id IN ({}) ORDER BY d.post_id, d.position"
            ),
            places.join(", ")
        );
        for row in self.all(sql, ids.map(|id| id.uuid().into()).collect(), delivery).await? {
            found.entry(row.post).or_default().push(row);
        }
        Ok(found)
    }

    async fn list(
        &self,
        user: UserId,
        filter: &PostFilter,
        after: Option<ByTime<b'p'>>,
        limit: usize,
    ) -> sqlx::Result<Vec<Post>> {
        let mut sql = Filter::new(
            concat!("SELECT ", post_columns!(), " FROM posts p WHERE p.user_id = $1"),
            values![user.uuid()],
        );
        if let Some(from) = filter.from {
            sql.and(" AND p.scheduled_time >= ?", from);
        }
        if let Some(to) = filter.to {
            sql.and(" AND p.scheduled_time < ?", to);
        }
        if let Some(after) = after {
            sql.and(" AND (p.scheduled_time, p.id) < (?, ", after.at);
            sql.and("?)", after.id);
        }
        if let Some(platform) = &filter.platform {
            sql.and(" AND EXISTS (SELECT 1 FROM deliveries WHERE post_id = p.id AND platform = ?)", platform.as_str());
        }
        if let Some(account) = filter.account {
            sql.and(" AND EXISTS (SELECT 1 FROM deliveries WHERE post_id = p.id AND account_id = ?)", account.uuid());
        }
        if let Some(status) = filter.status {
            sql.and(
                concat!(" AND (SELECT ", status_of!(), " FROM deliveries WHERE post_id = p.id) = ?"),
                status.as_str(),
            );
        }
        sql.and(" ORDER BY p.scheduled_time DESC, p.id DESC LIMIT ?", limit + 1);
        self.all(sql.sql, sql.values, post).await
    }

    async fn page(
        &self,
        user: UserId,
        filter: &PostFilter,
        after: Option<ByTime<b'p'>>,
        limit: usize,
    ) -> sqlx::Result<Page<(Post, Vec<Delivery>)>> {
        let posts = self.list(user, filter, after, limit).await?;
        let page = cursor::page(posts, limit, |post| ByTime::<b'p'> { at: post.scheduled_at, id: post.id.uuid() });
        let mut deliveries = self.deliveries_of(&page.items).await?;
        let items = page.items.into_iter().map(|post| {
            let own = deliveries.remove(&post.id).unwrap_or_default();
            (post, own)
        });
        Ok(Page { items: items.collect(), next: page.next })
    }

    async fn whole(&self, user: UserId, id: PostId) -> sqlx::Result<Option<(Post, Vec<Delivery>)>> {
        let sql = concat!("SELECT ", post_columns!(), " FROM posts p WHERE p.id = $1 AND p.user_id = $2");
        let Some(post) = self.one(sql, values![id.uuid(), user.uuid()], post).await? else { return Ok(None) };
        let posts = [post];
        let deliveries = self.deliveries_of(&posts).await?.remove(&id).unwrap_or_default();
        let [post] = posts;
        Ok(Some((post, deliveries)))
    }

    async fn edit(&self, user: UserId, edit: &Edit) -> sqlx::Result<bool> {
        let seen: BTreeMap<DeliveryId, Epoch> = edit.seen.iter().copied().collect();
        let mut tx = self.backend.begin().await?;
        let count = "SELECT count(*) FROM deliveries WHERE post_id = $1 AND user_id = $2";
        let rows = tx.fetch(count.into(), values![edit.post.uuid(), user.uuid()]).await?;
        let all: usize = rows.first().map(|row| Reader::of(row).int()).transpose()?.unwrap_or(0);
        let mut moved = 0;
        if all == seen.len() {
            // In the order of ids, as every batch does it, so that two of them cannot wait for each other.
            for (delivery, epoch) in &seen {
                moved += self.schedule_again(&mut tx, user, edit, *delivery, *epoch).await?;
            }
        }
        if all == 0 || moved != all as u64 {
            tx.rollback().await?;
            return Ok(false);
        }
        let draft = DraftColumns::of(&edit.draft);
        let wall = edit.wall.as_ref();
        tx.execute(
            "UPDATE posts SET content = $3, draft = $4, media_url = $5, scheduled_time = $6, local_time = $7, time_zone = $8, \
             status = $9, updated_at = $10 WHERE id = $1 AND user_id = $2"
                .into(),
            values![
                edit.post.uuid(),
                user.uuid(),
                draft.content,
                Value::Json(Some(draft.json)),
                draft.media_url,
                edit.scheduled_at,
                wall.map(|wall| wall.local_time.as_str()),
                wall.map(|wall| wall.time_zone.as_str()),
                status_alone(PhaseName::Scheduled),
                edit.now,
            ],
        )
        .await?;
        let mut first = true;
        for delivery in seen.keys() {
            let id = if std::mem::take(&mut first) { edit.log.id } else { LogId::new() };
            self.append(&mut tx, *delivery, &LogEntry { id, ..edit.log.clone() }).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn schedule_again(
        &self,
        tx: &mut B::Tx<'_>,
        user: UserId,
        edit: &Edit,
        delivery: DeliveryId,
        epoch: Epoch,
    ) -> sqlx::Result<u64> {
        // The owner keeps its epoch while it writes, so the phase has to be looked at besides.
        tx.execute(
            concat!(
                "UPDATE deliveries SET phase = 'scheduled', checkpoint = NULL, attempt = 0, crashes = 0, epoch = epoch + 1, \
                 worker = NULL, lease_until = NULL, due_at = $5, wake_at = $5, committing_since = NULL, error = NULL, updated_at = $6 \
                 WHERE id = $1 AND epoch = $2 AND post_id = $3 AND user_id = $4 AND parts IS NULL AND ",
                waiting_phases!()
            )
            .into(),
            values![delivery.uuid(), epoch.0, edit.post.uuid(), user.uuid(), edit.scheduled_at, edit.now],
        )
        .await
    }
}

#[async_trait]
impl<B: Backend> PostStore for SqlStore<B> {
    async fn insert_post(&self, new: &NewPost) -> Result<Insert, Error> {
        if new.deliveries.is_empty() {
            return Err(Error::storage("posts.insert", "a post needs a delivery"));
        }
        let inserted = self.backend.insert_post(StoredPost::of(new)).await.map_err(storage("posts.insert"))?;
        if inserted == Insert::Stored && new.post.scheduled_at.duration_since(new.post.created_at) < SOON {
            self.backend.wake();
        }
        Ok(inserted)
    }

    async fn post(&self, user: UserId, id: PostId) -> Result<Option<(Post, Vec<Delivery>)>, Error> {
        self.whole(user, id).await.map_err(storage("posts.read"))
    }

    async fn posts(
        &self,
        user: UserId,
        filter: &PostFilter,
        page: &PageRequest,
    ) -> Result<Page<(Post, Vec<Delivery>)>, Error> {
        let after = cursor::start(page, "posts.list")?;
        self.page(user, filter, after, cursor::limit(page)).await.map_err(storage("posts.list"))
    }

    async fn delivery(&self, user: UserId, id: DeliveryId) -> Result<Option<Delivery>, Error> {
        let sql = concat!("SELECT ", delivery_columns!(), " FROM deliveries d WHERE d.id = $1 AND d.user_id = $2");
        self.one(sql, values![id.uuid(), user.uuid()], delivery).await.map_err(storage("posts.delivery"))
    }

    async fn edit_post(&self, user: UserId, edit: &Edit) -> Result<bool, Error> {
        let edited = self.edit(user, edit).await.map_err(storage("posts.edit"))?;
        if edited {
            self.backend.wake();
        }
        Ok(edited)
    }

    async fn logs(&self, user: UserId, filter: &LogFilter, page: &PageRequest) -> Result<Page<LogRow>, Error> {
        let after = cursor::start(page, "logs.list")?;
        self.history(user, filter, after, cursor::limit(page)).await.map_err(storage("logs.list"))
    }

    async fn logs_since(&self, user: UserId, after: Option<LogId>, limit: usize) -> Result<Vec<LogRow>, Error> {
        let Some(after) = after else { return Ok(Vec::new()) };
        self.news(user, after, limit).await.map_err(storage("logs.since"))
    }

    async fn append_log(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<(), Error> {
        self.append_alone(delivery, entry).await.map_err(storage("logs.append"))
    }

    async fn note_deletion(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<bool, Error> {
        self.deleted(delivery, entry).await.map_err(storage("posts.note_deletion"))
    }

    async fn deletions(&self, user: UserId, deliveries: &[DeliveryId]) -> Result<Vec<(DeliveryId, Timestamp)>, Error> {
        self.deleted_of(user, deliveries).await.map_err(storage("posts.deletions"))
    }
}
