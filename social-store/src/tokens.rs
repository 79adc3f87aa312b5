//! Connections with their ciphertext.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    account::{AccountStatus, ConnectionStatus, Version},
    error::Error,
    id::ConnectionId,
    store::{NewConnection, RefreshLease, SealedTokens, StoredTokens, Swap, TokenStore, TokenUpdate},
    time::later,
};

use crate::{
    backend::{Backend, SqlStore, Transaction},
    fault::storage,
    row::{Columns, Reader, connection, connection_columns, sealed},
    value::{Value, values},
};

fn stored<R: Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<StoredTokens> {
    Ok(StoredTokens {
        connection: connection(row)?,
        tokens: sealed(row)?,
        refresh_lease_until: row.maybe_at()?,
        refresh_intent_at: row.maybe_at()?,
        refresh_failures: row.int()?,
    })
}

pub(crate) fn connection_id<R: Columns>(row: &mut Reader<'_, R>) -> sqlx::Result<ConnectionId> {
    row.id().map(ConnectionId::from_uuid)
}

const fn account_status(status: ConnectionStatus) -> AccountStatus {
    match status {
        ConnectionStatus::Limited => AccountStatus::Limited,
        ConnectionStatus::NeedsReconnect => AccountStatus::NeedsReconnect,
        _ => AccountStatus::Active,
    }
}

/// The accounts of a connection that are not disconnected take over a status.
async fn follow(tx: &mut impl Transaction, id: ConnectionId, status: AccountStatus) -> sqlx::Result<u64> {
    let sql = "UPDATE social_accounts SET status = $2 WHERE connection_id = $1 AND status <> 'disconnected'";
    tx.execute(sql.into(), values![id.uuid(), status.as_str()]).await
}

/// Erases a connection; accounts that are still reached through it become disconnected.
pub(crate) async fn erase(tx: &mut impl Transaction, id: ConnectionId) -> sqlx::Result<bool> {
    // The connection first, as everybody who changes both does.
    tx.execute("UPDATE connections SET updated_at = updated_at WHERE id = $1".into(), values![id.uuid()]).await?;
    follow(tx, id, AccountStatus::Disconnected).await?;
    Ok(tx.execute("DELETE FROM connections WHERE id = $1".into(), values![id.uuid()]).await? > 0)
}

impl<B: Backend> SqlStore<B> {
    async fn swap(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> sqlx::Result<Swap> {
        let mut tx = self.backend.begin().await?;
        let replaced = tx.execute(
            "UPDATE connections SET previous_tokens = tokens, replaced_at = $3, tokens = $4, key_id = $5, version = version + 1, \
             expires_at = $6, refresh_expires_at = $7, refreshable = $8, granted_scopes = $9, status = $10, \
             refresh_lease_until = NULL, refresh_intent_at = NULL, refresh_failures = 0, updated_at = $3 \
             WHERE id = $1 AND version = $2"
                .into(),
            values![
                id.uuid(),
                seen.0,
                new.at,
                new.tokens.0.as_bytes(),
                new.tokens.0.key_id(),
                new.expires_at,
                new.refresh_expires_at,
                new.refreshable,
                Value::json(&new.granted_scopes),
                new.status.as_str(),
            ],
        );
        if replaced.await? == 0 {
            tx.rollback().await?;
            return Ok(Swap::Stale);
        }
        follow(&mut tx, id, account_status(new.status)).await?;
        tx.commit().await?;
        Ok(Swap::Done)
    }

    async fn erase_connection(&self, id: ConnectionId) -> sqlx::Result<bool> {
        let mut tx = self.backend.begin().await?;
        let erased = erase(&mut tx, id).await?;
        tx.commit().await?;
        if erased {
            self.backend.scrub().await;
        }
        Ok(erased)
    }

    async fn set_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        at: Timestamp,
    ) -> sqlx::Result<Swap> {
        let mut tx = self.backend.begin().await?;
        let sql = "UPDATE connections SET status = $3, updated_at = $4 WHERE id = $1 AND version = $2";
        if tx.execute(sql.into(), values![id.uuid(), seen.0, status.as_str(), at]).await? == 0 {
            tx.rollback().await?;
            return Ok(Swap::Stale);
        }
        follow(&mut tx, id, account_status(status)).await?;
        tx.commit().await?;
        Ok(Swap::Done)
    }

    async fn lease(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> sqlx::Result<RefreshLease> {
        let won = self.backend.execute(
            "UPDATE connections SET refresh_lease_until = $4, refresh_intent_at = CASE WHEN $5 THEN $3 ELSE refresh_intent_at END \
             WHERE id = $1 AND version = $2 AND (refresh_lease_until IS NULL OR refresh_lease_until <= $3)",
            values![id.uuid(), seen.0, now, until, intent],
        );
        if won.await? > 0 {
            return Ok(RefreshLease::Won);
        }
        let sql = "SELECT refresh_lease_until FROM connections WHERE id = $1 AND version = $2";
        let until = self.one(sql, values![id.uuid(), seen.0], |row| row.maybe_at()).await?;
        Ok(match until.flatten() {
            Some(until) => RefreshLease::Busy { until },
            None => RefreshLease::Stale,
        })
    }

    pub(crate) async fn forget_replaced(&self, before: Timestamp) -> sqlx::Result<u64> {
        let sql = "UPDATE connections SET previous_tokens = NULL, replaced_at = NULL WHERE replaced_at < $1";
        let forgotten = self.backend.execute(sql, values![before]).await?;
        if forgotten > 0 {
            self.backend.scrub().await;
        }
        Ok(forgotten)
    }
}

#[async_trait]
impl<B: Backend> TokenStore for SqlStore<B> {
    async fn insert(&self, new: &NewConnection) -> Result<(), Error> {
        let row = &new.connection;
        let inserted = self.backend.execute(
            "INSERT INTO connections (id, user_id, platform, preset, remote_user, status, requested_scopes, granted_scopes, expires_at, \
             refresh_expires_at, refreshable, version, tokens, key_id, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            values![
                row.id.uuid(),
                row.user.uuid(),
                row.platform.as_str(),
                row.preset.as_str(),
                new.remote_user.as_str(),
                row.status.as_str(),
                Value::json(&row.requested_scopes),
                Value::json(&row.granted_scopes),
                row.expires_at,
                row.refresh_expires_at,
                row.refreshable,
                row.version.0,
                new.tokens.0.as_bytes(),
                new.tokens.0.key_id(),
                row.created_at,
                row.updated_at,
            ],
        );
        inserted.await.map(drop).map_err(storage("tokens.insert"))
    }

    async fn get(&self, id: ConnectionId) -> Result<Option<StoredTokens>, Error> {
        let sql = concat!(
            "SELECT ",
            connection_columns!(),
            ", c.tokens, c.refresh_lease_until, c.refresh_intent_at, c.refresh_failures FROM connections c WHERE c.id = $1"
        );
        self.one(sql, values![id.uuid()], stored).await.map_err(storage("tokens.read"))
    }

    async fn replace(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> Result<Swap, Error> {
        self.swap(id, seen, new).await.map_err(storage("tokens.replace"))
    }

    async fn rewrap(
        &self,
        id: ConnectionId,
        seen: Version,
        old: &SealedTokens,
        new: &SealedTokens,
    ) -> Result<Swap, Error> {
        let swapped = self.backend.execute(
            "UPDATE connections SET tokens = $4, key_id = $5 WHERE id = $1 AND version = $2 AND tokens = $3",
            values![id.uuid(), seen.0, old.0.as_bytes(), new.0.as_bytes(), new.0.key_id()],
        );
        let swapped = swapped.await.map_err(storage("tokens.rewrap"))?;
        Ok(if swapped > 0 { Swap::Done } else { Swap::Stale })
    }

    async fn not_sealed_by(
        &self,
        primary: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<ConnectionId>, Error> {
        let ids = self.all(
            "SELECT id FROM connections WHERE id > $2 AND key_id <> $1 ORDER BY id LIMIT $3",
            values![primary, after.map_or(uuid::Uuid::nil(), ConnectionId::uuid), limit],
            connection_id,
        );
        ids.await.map_err(storage("tokens.not_sealed_by"))
    }

    async fn delete(&self, id: ConnectionId) -> Result<bool, Error> {
        self.erase_connection(id).await.map_err(storage("tokens.delete"))
    }

    async fn expiring(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, ConnectionId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ConnectionId)>, Error> {
        // Before every token, and within what both databases can write down.
        let first = later(Timestamp::UNIX_EPOCH, -SignedDuration::from_hours(24 * 365_000));
        let (at, id) = after.map_or((first, uuid::Uuid::nil()), |(at, id)| (at, id.uuid()));
        let ids = self.all(
            "SELECT expires_at, id FROM connections WHERE expires_at < $1 AND expires_at IS NOT NULL AND status <> 'needs_reconnect' \
             AND expires_at >= $3 AND (expires_at > $3 OR id > $4) ORDER BY expires_at, id LIMIT $2",
            values![before, limit, at, id],
            |row| Ok((row.at()?, connection_id(row)?)),
        );
        ids.await.map_err(storage("tokens.expiring"))
    }

    async fn lease_refresh(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> Result<RefreshLease, Error> {
        self.lease(id, seen, now, until, intent).await.map_err(storage("tokens.lease_refresh"))
    }

    async fn refresh_failed(
        &self,
        id: ConnectionId,
        seen: Version,
        free_at: Timestamp,
        doubtful: bool,
    ) -> Result<(), Error> {
        let noted = self.backend.execute(
            "UPDATE connections SET refresh_lease_until = $3, refresh_failures = refresh_failures + 1, \
             refresh_intent_at = CASE WHEN $4 THEN refresh_intent_at END WHERE id = $1 AND version = $2",
            values![id.uuid(), seen.0, free_at, doubtful],
        );
        noted.await.map(drop).map_err(storage("tokens.refresh_failed"))
    }

    async fn set_connection_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        at: Timestamp,
    ) -> Result<Swap, Error> {
        self.set_status(id, seen, status, at).await.map_err(storage("tokens.set_status"))
    }
}
