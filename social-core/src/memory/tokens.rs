//! Connections with their ciphertext.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{MemoryStore, State, dump_bytes, dump_debug, taken};
use crate::{
    account::{AccountStatus, Connection, ConnectionStatus, Version},
    error::Error,
    id::ConnectionId,
    store::{NewConnection, RefreshLease, SealedTokens, StoredTokens, Swap, TokenStore, TokenUpdate},
};

#[derive(Debug)]
pub(super) struct ConnectionRow {
    pub(super) connection: Connection,
    pub(super) tokens: SealedTokens,
    previous: Option<SealedTokens>,
    replaced_at: Option<Timestamp>,
    remote_user: String,
    lease_until: Option<Timestamp>,
    intent_at: Option<Timestamp>,
    failures: u32,
}

impl State {
    /// The connection, if its tokens are still of that version.
    fn unchanged(&mut self, id: ConnectionId, seen: Version) -> Option<&mut ConnectionRow> {
        self.connections.get_mut(&id).filter(|row| row.connection.version == seen)
    }

    /// Older grants of the same person on the same network, if the network says who it is.
    pub(super) fn older_grants(&self, new: ConnectionId) -> Vec<ConnectionId> {
        let Some(new) = self.connections.get(&new).filter(|row| !row.remote_user.is_empty()) else { return Vec::new() };
        let who = |row: &ConnectionRow| (row.connection.user, row.connection.platform.clone(), row.remote_user.clone());
        let older = self
            .connections
            .values()
            .filter(|row| row.connection.created_at < new.connection.created_at && who(row) == who(new));
        older.map(|row| row.connection.id).collect()
    }

    pub(super) fn forget_replaced(&mut self, before: Timestamp) -> u64 {
        let mut forgotten = 0;
        for row in self.connections.values_mut().filter(|row| row.replaced_at.is_some_and(|at| at < before)) {
            (row.previous, row.replaced_at) = (None, None);
            forgotten += 1;
        }
        forgotten
    }

    pub(super) fn erase_connection(&mut self, id: ConnectionId) -> bool {
        self.accounts.follow(id, AccountStatus::Disconnected);
        self.connections.remove(&id).is_some()
    }

    pub(super) fn dump_connections(&self, out: &mut String) {
        for row in self.connections.values() {
            dump_debug(out, row);
            dump_bytes(out, "tokens", row.tokens.0.as_bytes());
            if let Some(previous) = &row.previous {
                dump_bytes(out, "previous tokens", previous.0.as_bytes());
            }
        }
    }
}

const fn account_status(status: ConnectionStatus) -> AccountStatus {
    match status {
        ConnectionStatus::Active => AccountStatus::Active,
        ConnectionStatus::Limited => AccountStatus::Limited,
        ConnectionStatus::NeedsReconnect => AccountStatus::NeedsReconnect,
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn insert(&self, new: &NewConnection) -> Result<(), Error> {
        let mut state = self.state();
        let id = new.connection.id;
        if state.connections.contains_key(&id) {
            return Err(taken("tokens.insert", "a connection with this id exists"));
        }
        let row = ConnectionRow {
            connection: new.connection.clone(),
            tokens: new.tokens.clone(),
            previous: None,
            replaced_at: None,
            remote_user: new.remote_user.clone(),
            lease_until: None,
            intent_at: None,
            failures: 0,
        };
        state.connections.insert(id, row);
        Ok(())
    }

    async fn get(&self, id: ConnectionId) -> Result<Option<StoredTokens>, Error> {
        Ok(self.state().connections.get(&id).map(|row| StoredTokens {
            connection: row.connection.clone(),
            tokens: row.tokens.clone(),
            refresh_lease_until: row.lease_until,
            refresh_intent_at: row.intent_at,
            refresh_failures: row.failures,
        }))
    }

    async fn replace(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> Result<Swap, Error> {
        let mut state = self.state();
        let Some(row) = state.unchanged(id, seen) else { return Ok(Swap::Stale) };
        row.previous = Some(std::mem::replace(&mut row.tokens, new.tokens.clone()));
        row.replaced_at = Some(new.at);
        let connection = &mut row.connection;
        connection.expires_at = new.expires_at;
        connection.refresh_expires_at = new.refresh_expires_at;
        connection.refreshable = new.refreshable;
        connection.granted_scopes.clone_from(&new.granted_scopes);
        connection.status = new.status;
        connection.version = seen.next();
        connection.updated_at = new.at;
        (row.lease_until, row.intent_at, row.failures) = (None, None, 0);
        state.accounts.follow(id, account_status(new.status));
        Ok(Swap::Done)
    }

    async fn rewrap(
        &self,
        id: ConnectionId,
        seen: Version,
        old: &SealedTokens,
        new: &SealedTokens,
    ) -> Result<Swap, Error> {
        match self.state().unchanged(id, seen) {
            Some(row) if row.tokens == *old => {
                row.tokens = new.clone();
                Ok(Swap::Done)
            }
            _ => Ok(Swap::Stale),
        }
    }

    async fn not_sealed_by(
        &self,
        primary: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<ConnectionId>, Error> {
        let state = self.state();
        let others =
            state.connections.iter().filter(|(id, row)| after < Some(**id) && row.tokens.0.key_id() != primary);
        Ok(others.map(|(id, _)| *id).take(limit).collect())
    }

    async fn delete(&self, id: ConnectionId) -> Result<bool, Error> {
        Ok(self.state().erase_connection(id))
    }

    async fn expiring(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, ConnectionId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ConnectionId)>, Error> {
        let state = self.state();
        let working = state
            .connections
            .values()
            .map(|row| &row.connection)
            .filter(|c| c.status != ConnectionStatus::NeedsReconnect);
        let mut ending: Vec<_> = working
            .filter_map(|c| Some((c.expires_at?, c.id)))
            .filter(|place| place.0 < before && after.is_none_or(|after| *place > after))
            .collect();
        ending.sort_unstable();
        ending.truncate(limit);
        Ok(ending)
    }

    async fn lease_refresh(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> Result<RefreshLease, Error> {
        let mut state = self.state();
        let Some(row) = state.unchanged(id, seen) else { return Ok(RefreshLease::Stale) };
        if let Some(until) = row.lease_until.filter(|until| *until > now) {
            return Ok(RefreshLease::Busy { until });
        }
        row.lease_until = Some(until);
        if intent {
            row.intent_at = Some(now);
        }
        Ok(RefreshLease::Won)
    }

    async fn refresh_failed(
        &self,
        id: ConnectionId,
        seen: Version,
        free_at: Timestamp,
        doubtful: bool,
    ) -> Result<(), Error> {
        if let Some(row) = self.state().unchanged(id, seen) {
            row.lease_until = Some(free_at);
            row.failures = row.failures.saturating_add(1);
            if !doubtful {
                row.intent_at = None;
            }
        }
        Ok(())
    }

    async fn set_connection_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        at: Timestamp,
    ) -> Result<Swap, Error> {
        let mut state = self.state();
        let Some(row) = state.unchanged(id, seen) else { return Ok(Swap::Stale) };
        row.connection.status = status;
        row.connection.updated_at = at;
        state.accounts.follow(id, account_status(status));
        Ok(Swap::Done)
    }
}
