//! Accounts, and people on their way to a network.

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{
    account::{Account, AccountProfile, AccountStatus, Connection},
    error::Error,
    id::{AccountId, ConnectionId, UserId},
    store::{AccountStore, PendingRow},
};

use crate::{
    backend::{Backend, SqlStore, Transaction},
    fault::storage,
    row::{Columns, Reader, account, account_columns, connection, connection_columns},
    tokens::{connection_id, erase},
    value::{Value, values},
};

/// What has to be known of the connection whose accounts are saved.
struct Grant {
    user: uuid::Uuid,
    platform: String,
    remote_user: String,
    created_at: Timestamp,
}

fn rows<R: Columns, T>(rows: &[R], map: impl Fn(&mut Reader<'_, R>) -> sqlx::Result<T>) -> sqlx::Result<Vec<T>> {
    rows.iter().map(|row| map(&mut Reader::of(row))).collect()
}

async fn grant(tx: &mut impl Transaction, id: ConnectionId) -> sqlx::Result<Grant> {
    let sql = "SELECT user_id, platform, remote_user, created_at FROM connections WHERE id = $1";
    let found = tx.fetch(sql.into(), values![id.uuid()]).await?;
    let mut found = rows(&found, |row| {
        Ok(Grant { user: row.id()?, platform: row.text()?, remote_user: row.text()?, created_at: row.at()? })
    })?;
    found.pop().ok_or(sqlx::Error::RowNotFound)
}

/// How many accounts that are not disconnected are reached through a connection.
async fn used_through(tx: &mut impl Transaction, id: ConnectionId) -> sqlx::Result<usize> {
    let sql = "SELECT count(*) FROM social_accounts WHERE connection_id = $1 AND status <> 'disconnected'";
    let found = tx.fetch(sql.into(), values![id.uuid()]).await?;
    Ok(rows(&found, |row| row.int())?.pop().unwrap_or(0))
}

impl<B: Backend> SqlStore<B> {
    async fn save(
        &self,
        connection: ConnectionId,
        profiles: &[AccountProfile],
        status: AccountStatus,
        now: Timestamp,
    ) -> sqlx::Result<Vec<Account>> {
        let mut tx = self.backend.begin().await?;
        let grant = grant(&mut tx, connection).await?;
        let (mut saved, mut left) = (Vec::with_capacity(profiles.len()), Vec::new());
        for profile in profiles {
            let before = tx.fetch(
                "SELECT connection_id FROM social_accounts WHERE user_id = $1 AND platform = $2 AND remote_id = $3"
                    .into(),
                values![grant.user, grant.platform.as_str(), profile.remote_id.as_str()],
            );
            left.extend(rows(&before.await?, connection_id)?);
            let row = tx.fetch(
                concat!(
                    "INSERT INTO social_accounts AS a (id, user_id, connection_id, platform, remote_id, kind, handle, display_name, \
                     avatar_url, attributes, status, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12) \
                     ON CONFLICT (user_id, platform, remote_id) DO UPDATE SET connection_id = excluded.connection_id, \
                     kind = excluded.kind, handle = excluded.handle, display_name = excluded.display_name, \
                     avatar_url = excluded.avatar_url, attributes = excluded.attributes, status = excluded.status, \
                     updated_at = excluded.updated_at RETURNING ",
                    // SQLite does not know the alias behind RETURNING.
                    "id, user_id, connection_id, platform, remote_id, kind, handle, display_name, avatar_url, attributes, status, created_at"
                )
                .into(),
                values![
                    AccountId::new().uuid(),
                    grant.user,
                    connection.uuid(),
                    grant.platform.as_str(),
                    profile.remote_id.as_str(),
                    profile.kind.as_str(),
                    profile.handle.as_deref(),
                    profile.display_name.as_str(),
                    profile.avatar_url.as_deref(),
                    Value::json(&profile.attributes),
                    status.as_str(),
                    now,
                ],
            );
            saved.extend(rows(&row.await?, account)?);
        }
        if !grant.remote_user.is_empty() {
            let older = tx.fetch(
                "SELECT id FROM connections WHERE user_id = $1 AND platform = $2 AND remote_user = $3 AND created_at < $4".into(),
                values![grant.user, grant.platform.as_str(), grant.remote_user.as_str(), grant.created_at],
            );
            left.extend(rows(&older.await?, connection_id)?);
        }
        left.sort_unstable();
        left.dedup();
        let mut erased = false;
        for old in left.into_iter().filter(|old| *old != connection) {
            if used_through(&mut tx, old).await? == 0 {
                erased |= erase(&mut tx, old).await?;
            }
        }
        tx.commit().await?;
        if erased {
            self.backend.scrub().await;
        }
        Ok(saved)
    }

    async fn disconnect(&self, user: UserId, id: AccountId, now: Timestamp) -> sqlx::Result<Option<usize>> {
        let mut tx = self.backend.begin().await?;
        // The connection first, as everybody who changes both does: of two at once one sees that it is the last.
        let lock = "UPDATE connections SET updated_at = updated_at \
             WHERE id = (SELECT connection_id FROM social_accounts WHERE id = $1 AND user_id = $2)";
        tx.execute(lock.into(), values![id.uuid(), user.uuid()]).await?;
        let disconnected = tx.fetch(
            "UPDATE social_accounts SET status = 'disconnected', updated_at = $3 WHERE id = $1 AND user_id = $2 RETURNING connection_id"
                .into(),
            values![id.uuid(), user.uuid(), now],
        );
        let Some(connection) = rows(&disconnected.await?, connection_id)?.pop() else {
            tx.rollback().await?;
            return Ok(None);
        };
        let others = used_through(&mut tx, connection).await?;
        tx.commit().await?;
        Ok(Some(others))
    }

    async fn take(&self, key: &[u8; 32]) -> sqlx::Result<Option<PendingRow>> {
        let sql = "DELETE FROM pending_authorizations WHERE key = $1 RETURNING user_id, platform, sealed, expires_at";
        let taken = self.backend.returning(sql, values![*key]).await?;
        let taken = rows(&taken, |row| {
            Ok(PendingRow {
                key: *key,
                user: UserId::from_uuid(row.id()?),
                platform: row.platform()?,
                sealed: row.bytes()?,
                expires_at: row.at()?,
            })
        });
        Ok(taken?.pop())
    }
}

#[async_trait]
impl<B: Backend> AccountStore for SqlStore<B> {
    async fn save_accounts(
        &self,
        connection: ConnectionId,
        profiles: &[AccountProfile],
        status: AccountStatus,
        now: Timestamp,
    ) -> Result<Vec<Account>, Error> {
        self.save(connection, profiles, status, now).await.map_err(storage("accounts.save"))
    }

    async fn accounts(&self, user: UserId) -> Result<Vec<Account>, Error> {
        let accounts = self.all(
            concat!(
                "SELECT ",
                account_columns!(),
                " FROM social_accounts a WHERE a.user_id = $1 AND a.status <> 'disconnected' ORDER BY a.created_at, a.id"
            ),
            values![user.uuid()],
            account,
        );
        accounts.await.map_err(storage("accounts.list"))
    }

    async fn account(&self, user: UserId, id: AccountId) -> Result<Option<Account>, Error> {
        let sql = concat!("SELECT ", account_columns!(), " FROM social_accounts a WHERE a.id = $1 AND a.user_id = $2");
        self.one(sql, values![id.uuid(), user.uuid()], account).await.map_err(storage("accounts.read"))
    }

    async fn connections(&self, user: UserId) -> Result<Vec<Connection>, Error> {
        let connections = self.all(
            concat!(
                "SELECT ",
                connection_columns!(),
                " FROM connections c WHERE c.user_id = $1 ORDER BY c.created_at, c.id"
            ),
            values![user.uuid()],
            connection,
        );
        connections.await.map_err(storage("connections.list"))
    }

    async fn disconnect_account(&self, user: UserId, id: AccountId, now: Timestamp) -> Result<Option<usize>, Error> {
        self.disconnect(user, id, now).await.map_err(storage("accounts.disconnect"))
    }

    async fn insert_pending(&self, row: &PendingRow) -> Result<(), Error> {
        let inserted = self.backend.execute(
            "INSERT INTO pending_authorizations (key, user_id, platform, sealed, expires_at) VALUES ($1, $2, $3, $4, $5)",
            values![row.key, row.user.uuid(), row.platform.as_str(), row.sealed.as_slice(), row.expires_at],
        );
        inserted.await.map(drop).map_err(storage("pending.insert"))
    }

    async fn take_pending(&self, key: &[u8; 32], now: Timestamp) -> Result<Option<PendingRow>, Error> {
        let taken = self.take(key).await.map_err(storage("pending.take"))?;
        Ok(taken.filter(|row| now < row.expires_at))
    }

    async fn purge_pending(&self, before: Timestamp) -> Result<u64, Error> {
        let sql = "DELETE FROM pending_authorizations WHERE expires_at < $1";
        self.backend.execute(sql, values![before]).await.map_err(storage("pending.purge"))
    }
}
