//! Accounts, and people on their way to a network.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Map, MemoryStore, Set, dump_bytes, dump_debug, taken};
use crate::{
    account::{Account, AccountProfile, AccountStatus, Connection},
    error::Error,
    id::{AccountId, ConnectionId, PlatformId, UserId},
    store::{AccountStore, PendingRow},
};

#[derive(Debug, Default)]
pub(super) struct Accounts {
    rows: Map<AccountId, Arc<Account>>,
    by_remote: Map<(UserId, PlatformId, String), AccountId>,
    by_connection: Set<(ConnectionId, AccountId)>,
    by_user: Set<(UserId, AccountId)>,
    pending: Map<[u8; 32], PendingRow>,
}

impl Accounts {
    pub(super) fn get(&self, id: AccountId) -> Option<&Arc<Account>> {
        self.rows.get(&id)
    }

    /// The accounts of a connection that are not disconnected take over a status.
    pub(super) fn follow(&mut self, connection: ConnectionId, status: AccountStatus) {
        for id in self.used_through(connection) {
            if let Some(row) = self.rows.get_mut(&id) {
                Arc::make_mut(row).status = status;
            }
        }
    }

    /// The accounts of a connection that are not disconnected.
    fn used_through(&self, connection: ConnectionId) -> Vec<AccountId> {
        let from = (connection, AccountId::from_uuid(uuid::Uuid::nil()));
        let all = self.by_connection.range(from..).take_while(|(of, _)| *of == connection).map(|(_, id)| *id);
        all.filter(|id| self.rows.get(id).is_some_and(|row| row.status != AccountStatus::Disconnected)).collect()
    }

    /// Adds or updates one account. Answers with its id and the connection that it left.
    fn save(
        &mut self,
        connection: &Connection,
        profile: &AccountProfile,
        status: AccountStatus,
        now: Timestamp,
    ) -> (AccountId, Option<ConnectionId>) {
        let key = (connection.user, connection.platform.clone(), profile.remote_id.clone());
        let known = self.by_remote.get(&key).and_then(|id| self.rows.get_mut(id));
        if let Some(row) = known {
            let row = Arc::make_mut(row);
            let left = std::mem::replace(&mut row.connection, connection.id);
            row.profile = profile.clone();
            row.status = status;
            let id = row.id;
            self.by_connection.remove(&(left, id));
            self.by_connection.insert((connection.id, id));
            return (id, Some(left).filter(|left| *left != connection.id));
        }
        let account = Account {
            id: AccountId::new(),
            user: connection.user,
            connection: connection.id,
            platform: connection.platform.clone(),
            profile: profile.clone(),
            status,
            created_at: now,
        };
        let id = account.id;
        self.by_remote.insert(key, id);
        self.by_connection.insert((connection.id, id));
        self.by_user.insert((connection.user, id));
        self.rows.insert(id, Arc::new(account));
        (id, None)
    }

    pub(super) fn dump(&self, out: &mut String) {
        self.rows.values().for_each(|row| dump_debug(out, row));
        for row in self.pending.values() {
            dump_debug(out, row);
            dump_bytes(out, "pending", &row.sealed);
        }
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn save_accounts(
        &self,
        connection: ConnectionId,
        profiles: &[AccountProfile],
        status: AccountStatus,
        now: Timestamp,
    ) -> Result<Vec<Account>, Error> {
        let mut state = self.state();
        let Some(connection) = state.connections.get(&connection).map(|row| row.connection.clone()) else {
            return Err(taken("accounts.save", "there is no such connection"));
        };
        let saved: Vec<_> =
            profiles.iter().map(|profile| state.accounts.save(&connection, profile, status, now)).collect();
        let older = state.older_grants(connection.id);
        for left in saved.iter().filter_map(|(_, left)| *left).chain(older) {
            if state.accounts.used_through(left).is_empty() {
                state.erase_connection(left);
            }
        }
        Ok(saved.iter().filter_map(|(id, _)| state.accounts.get(*id)).map(|row| Account::clone(row)).collect())
    }

    async fn accounts(&self, user: UserId) -> Result<Vec<Account>, Error> {
        let state = self.state();
        let from = (user, AccountId::from_uuid(uuid::Uuid::nil()));
        let own = state.accounts.by_user.range(from..).take_while(|(of, _)| *of == user);
        let rows =
            own.filter_map(|(_, id)| state.accounts.get(*id)).filter(|row| row.status != AccountStatus::Disconnected);
        let mut accounts: Vec<_> = rows.map(|row| Account::clone(row)).collect();
        accounts.sort_by_key(|account| (account.created_at, account.id));
        Ok(accounts)
    }

    async fn account(&self, user: UserId, id: AccountId) -> Result<Option<Account>, Error> {
        Ok(self.state().accounts.get(id).filter(|row| row.user == user).map(|row| Account::clone(row)))
    }

    async fn connections(&self, user: UserId) -> Result<Vec<Connection>, Error> {
        let state = self.state();
        let own = state.connections.values().filter(|row| row.connection.user == user);
        Ok(own.map(|row| row.connection.clone()).collect())
    }

    async fn disconnect_account(&self, user: UserId, id: AccountId, _now: Timestamp) -> Result<Option<usize>, Error> {
        let accounts = &mut self.state().accounts;
        let Some(row) = accounts.rows.get_mut(&id).filter(|row| row.user == user) else { return Ok(None) };
        let row = Arc::make_mut(row);
        row.status = AccountStatus::Disconnected;
        let connection = row.connection;
        Ok(Some(accounts.used_through(connection).len()))
    }

    async fn insert_pending(&self, row: &PendingRow) -> Result<(), Error> {
        let pending = &mut self.state().accounts.pending;
        if pending.contains_key(&row.key) {
            return Err(taken("pending.insert", "a record with this key exists"));
        }
        pending.insert(row.key, row.clone());
        Ok(())
    }

    async fn take_pending(&self, key: &[u8; 32], now: Timestamp) -> Result<Option<PendingRow>, Error> {
        Ok(self.state().accounts.pending.remove(key).filter(|row| now < row.expires_at))
    }

    async fn purge_pending(&self, before: Timestamp) -> Result<u64, Error> {
        let pending = &mut self.state().accounts.pending;
        let had = pending.len();
        pending.retain(|_, row| row.expires_at >= before);
        Ok((had - pending.len()) as u64)
    }
}
