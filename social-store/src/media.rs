//! What was found in stored media files.

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{
    draft::StoredMedia,
    error::Error,
    id::{MediaId, UserId},
    store::MediaStore,
};

use crate::{
    backend::{Backend, SqlStore},
    fault::storage,
    value::{Value, values},
};

#[async_trait]
impl<B: Backend> MediaStore for SqlStore<B> {
    async fn insert_media(&self, user: UserId, media: &StoredMedia, now: Timestamp) -> Result<(), Error> {
        let facts = &media.facts;
        // The word for the kind is the one that JSON has.
        let kind =
            serde_json::to_value(facts.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
        let inserted = self.backend.execute(
            "INSERT INTO media (id, user_id, kind, mime, size_bytes, width, height, duration_ms, facts, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            values![
                media.id.uuid(),
                user.uuid(),
                kind,
                facts.mime.as_str(),
                facts.size_bytes,
                facts.width,
                facts.height,
                facts.duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
                Value::json(facts),
                now,
            ],
        );
        inserted.await.map(drop).map_err(storage("media.insert"))
    }

    async fn media(&self, user: UserId, id: MediaId) -> Result<Option<StoredMedia>, Error> {
        let sql = "SELECT facts FROM media WHERE id = $1 AND user_id = $2";
        let facts =
            self.one(sql, values![id.uuid(), user.uuid()], |row| row.json()).await.map_err(storage("media.read"))?;
        Ok(facts.map(|facts| StoredMedia { id, facts }))
    }

    async fn media_bytes(&self, user: UserId) -> Result<u64, Error> {
        let sql = "SELECT CAST(coalesce(sum(size_bytes), 0) AS BIGINT) FROM media WHERE user_id = $1";
        Ok(self.one(sql, values![user.uuid()], |row| row.int()).await.map_err(storage("media.bytes"))?.unwrap_or(0))
    }

    async fn old_media(
        &self,
        before: Timestamp,
        after: Option<MediaId>,
        limit: usize,
    ) -> Result<Vec<(UserId, MediaId)>, Error> {
        let old = self.all(
            "SELECT user_id, id FROM media WHERE id > $2 AND created_at < $1 ORDER BY id LIMIT $3",
            values![before, after.map_or(uuid::Uuid::nil(), MediaId::uuid), limit],
            |row| Ok((UserId::from_uuid(row.id()?), MediaId::from_uuid(row.id()?))),
        );
        old.await.map_err(storage("media.old"))
    }

    async fn delete_media(&self, user: UserId, id: MediaId) -> Result<bool, Error> {
        let sql = "DELETE FROM media WHERE id = $1 AND user_id = $2";
        let deleted =
            self.backend.execute(sql, values![id.uuid(), user.uuid()]).await.map_err(storage("media.delete"))?;
        Ok(deleted > 0)
    }
}
