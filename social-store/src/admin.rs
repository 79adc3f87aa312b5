//! Users, keys, idempotency records and proofs of master keys.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    error::Error,
    id::UserId,
    store::{AdminStore, ApiKey, Idempotent, Page, PageRequest, User},
    time::later,
};
use uuid::Uuid;

use crate::{
    backend::{Backend, SqlStore},
    cursor::{self, ByTime},
    fault::storage,
    posts::Filter,
    row::{Columns, Reader},
    value::{Value, values},
};

/// The use of a key is noted at most this often: a request that only reads should not have to write.
const TOUCH_EVERY: SignedDuration = SignedDuration::from_secs(60);

fn user<R: Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<User> {
    Ok(User { id: UserId::from_uuid(row.id()?), email: row.text()?, plan: row.text()?, created_at: row.at()? })
}

fn key<R: Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<ApiKey> {
    Ok(ApiKey {
        id: row.id()?,
        user: UserId::from_uuid(row.id()?),
        name: row.text()?,
        hash: row.hash()?,
        scopes: row.json()?,
        created_at: row.at()?,
        expires_at: row.maybe_at()?,
        last_used_at: row.maybe_at()?,
    })
}

impl<B: Backend> SqlStore<B> {
    async fn user_page(&self, after: Option<ByTime<b'u'>>, limit: usize) -> sqlx::Result<Page<User>> {
        let mut sql = Filter::new("SELECT id, email, plan, created_at FROM users", Vec::new());
        if let Some(after) = after {
            sql.and(" WHERE (created_at, id) > (?, ", after.at);
            sql.and("?)", after.id);
        }
        sql.and(" ORDER BY created_at, id LIMIT ?", limit + 1);
        let users = self.all(sql.sql, sql.values, user).await?;
        Ok(cursor::page(users, limit, |user| ByTime::<b'u'> { at: user.created_at, id: user.id.uuid() }))
    }

    async fn touch(&self, id: Uuid, now: Timestamp) -> sqlx::Result<()> {
        let stale = later(now, -TOUCH_EVERY);
        let sql = "SELECT 1 FROM api_keys WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $2)";
        if !self.fetch(sql, values![id, stale]).await?.is_empty() {
            self.backend.execute("UPDATE api_keys SET last_used_at = $2 WHERE id = $1", values![id, now]).await?;
        }
        Ok(())
    }

    async fn begin_request(
        &self,
        user: UserId,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
        stale_before: Timestamp,
    ) -> sqlx::Result<Idempotent> {
        // One that was finished away between the two statements leaves nothing to read: it is ours to begin then.
        loop {
            let fresh = self.backend.execute(
                "INSERT INTO idempotency_keys AS k (user_id, key, fingerprint, begun_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, begun_at = excluded.begun_at \
                 WHERE k.status IS NULL AND k.begun_at < $5",
                values![user.uuid(), key, fingerprint, now, stale_before],
            );
            if fresh.await? > 0 {
                return Ok(Idempotent::Fresh);
            }
            let known = self.one(
                "SELECT fingerprint, status, body FROM idempotency_keys WHERE user_id = $1 AND key = $2",
                values![user.uuid(), key],
                |row| Ok((row.hash()?, row.maybe_int()?, row.maybe_bytes()?)),
            );
            match known.await? {
                None => {}
                Some((other, _, _)) if other != fingerprint => return Ok(Idempotent::Mismatch),
                Some((_, Some(status), body)) => {
                    return Ok(Idempotent::Done { status, body: body.unwrap_or_default() });
                }
                Some((_, None, _)) => return Ok(Idempotent::InFlight),
            }
        }
    }
}

#[async_trait]
impl<B: Backend> AdminStore for SqlStore<B> {
    async fn insert_user(&self, user: &User) -> Result<bool, Error> {
        let inserted = self.backend.execute(
            "INSERT INTO users (id, email, plan, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (email) DO NOTHING",
            values![user.id.uuid(), user.email.as_str(), user.plan.as_str(), user.created_at],
        );
        Ok(inserted.await.map_err(storage("users.insert"))? > 0)
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        let sql = "SELECT id, email, plan, created_at FROM users WHERE id = $1";
        self.one(sql, values![id.uuid()], user).await.map_err(storage("users.read"))
    }

    async fn users(&self, page: &PageRequest) -> Result<Page<User>, Error> {
        let after = cursor::start(page, "users.list")?;
        self.user_page(after, cursor::limit(page)).await.map_err(storage("users.list"))
    }

    async fn insert_key(&self, key: &ApiKey) -> Result<(), Error> {
        let inserted = self.backend.execute(
            "INSERT INTO api_keys (id, user_id, name, hash, scopes, created_at, expires_at, last_used_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            values![
                key.id,
                key.user.uuid(),
                key.name.as_str(),
                key.hash,
                Value::json(&key.scopes),
                key.created_at,
                key.expires_at,
                key.last_used_at,
            ],
        );
        inserted.await.map(drop).map_err(storage("keys.insert"))
    }

    async fn key(&self, id: Uuid) -> Result<Option<ApiKey>, Error> {
        let sql =
            "SELECT id, user_id, name, hash, scopes, created_at, expires_at, last_used_at FROM api_keys WHERE id = $1";
        self.one(sql, values![id], key).await.map_err(storage("keys.read"))
    }

    async fn touch_key(&self, id: Uuid, now: Timestamp) -> Result<(), Error> {
        self.touch(id, now).await.map_err(storage("keys.touch"))
    }

    async fn delete_key(&self, id: Uuid) -> Result<bool, Error> {
        let deleted = self.backend.execute("DELETE FROM api_keys WHERE id = $1", values![id]);
        Ok(deleted.await.map_err(storage("keys.delete"))? > 0)
    }

    async fn begin_idempotent(
        &self,
        user: UserId,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
        stale_before: Timestamp,
    ) -> Result<Idempotent, Error> {
        self.begin_request(user, key, fingerprint, now, stale_before).await.map_err(storage("idempotency.begin"))
    }

    async fn finish_idempotent(&self, user: UserId, key: &str, answer: Option<(u16, &[u8])>) -> Result<(), Error> {
        let finished = match answer {
            Some((status, body)) => self.backend.execute(
                "UPDATE idempotency_keys SET status = $3, body = $4 WHERE user_id = $1 AND key = $2",
                values![user.uuid(), key, u32::from(status), body],
            ),
            None => {
                let sql = "DELETE FROM idempotency_keys WHERE user_id = $1 AND key = $2";
                self.backend.execute(sql, values![user.uuid(), key])
            }
        };
        finished.await.map(drop).map_err(storage("idempotency.finish"))
    }

    async fn purge_idempotent(&self, before: Timestamp) -> Result<u64, Error> {
        let sql = "DELETE FROM idempotency_keys WHERE begun_at < $1";
        self.backend.execute(sql, values![before]).await.map_err(storage("idempotency.purge"))
    }

    async fn forget_history(&self, before: Timestamp, limit: u64) -> Result<u64, Error> {
        self.forget_some_logs(before, limit).await.map_err(storage("logs.purge"))
    }

    async fn forget_replaced_tokens(&self, before: Timestamp) -> Result<u64, Error> {
        self.forget_replaced(before).await.map_err(storage("tokens.purge"))
    }

    async fn canaries(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let sql = "SELECT key_id, sealed FROM key_canaries ORDER BY key_id";
        self.all(sql, Vec::new(), |row| Ok((row.text()?, row.bytes()?))).await.map_err(storage("canaries.list"))
    }

    async fn insert_canary(&self, key_id: &str, sealed: &[u8]) -> Result<(), Error> {
        let sql = "INSERT INTO key_canaries (key_id, sealed) VALUES ($1, $2) ON CONFLICT (key_id) DO NOTHING";
        self.backend.execute(sql, values![key_id, sealed]).await.map(drop).map_err(storage("canaries.insert"))
    }

    async fn key_usage(&self) -> Result<Vec<(String, u64)>, Error> {
        let sql = "SELECT key_id, count(*) FROM connections GROUP BY key_id ORDER BY key_id";
        self.all(sql, Vec::new(), |row| Ok((row.text()?, row.int()?))).await.map_err(storage("keys.usage"))
    }

    async fn check(&self) -> Result<(), Error> {
        self.backend.check().await.map_err(storage("store.check"))
    }

    fn describe(&self) -> String {
        self.backend.describe()
    }
}
