//! Connections with their sealed tokens, accounts, and what is kept while a person is away at a network.

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    account::{Account, AccountProfile, AccountStatus, Connection, ConnectionStatus, Version},
    error::Error,
    id::{AccountId, ConnectionId, PlatformId, UserId},
    vault::Sealed,
};

/// Tokens as a store sees them: ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedTokens(pub Sealed);

/// A connection as the keeper reads it.
#[derive(Debug, Clone)]
pub struct StoredTokens {
    /// Everything but the tokens.
    pub connection: Connection,
    /// The tokens.
    pub tokens: SealedTokens,
    /// Until when somebody else is refreshing.
    pub refresh_lease_until: Option<Timestamp>,
    /// When a refresh was begun whose outcome was not recorded.
    pub refresh_intent_at: Option<Timestamp>,
    /// How many refreshes in a row failed.
    pub refresh_failures: u32,
}

/// A connection that is about to be stored.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// Everything but the tokens; its version is the first.
    pub connection: Connection,
    /// The tokens, bound to that version.
    pub tokens: SealedTokens,
    /// The network's id of whoever granted it: connecting again replaces the older grant.
    pub remote_user: String,
}

/// New tokens of a connection.
#[derive(Debug, Clone)]
pub struct TokenUpdate {
    /// Bound to the version after the seen one.
    pub tokens: SealedTokens,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<Timestamp>,
    /// Whether they can be refreshed again.
    pub refreshable: bool,
    /// What is granted now.
    pub granted_scopes: Vec<String>,
    /// What the connection is now.
    pub status: ConnectionStatus,
    /// When this happened.
    pub at: Timestamp,
}

/// Whether a compare-and-swap took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Swap {
    /// Yes.
    Done,
    /// The version was another; nothing changed.
    Stale,
}

/// Whether this worker may refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum RefreshLease {
    /// It may, until the lease ends.
    Won,
    /// Somebody else is at it.
    Busy {
        /// Until when.
        until: Timestamp,
    },
    /// The version was another: read again.
    Stale,
}

/// Keeps sealed tokens. It never sees one in the clear.
#[async_trait]
pub trait TokenStore: Debug + Send + Sync + 'static {
    /// Stores a new connection.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert(&self, new: &NewConnection) -> Result<(), Error>;

    /// A connection with its tokens.
    ///
    /// # Errors
    /// `Storage`.
    async fn get(&self, id: ConnectionId) -> Result<Option<StoredTokens>, Error>;

    /// Replaces the tokens if their version is still `seen`, moves the version on, ends the refresh lease and forgets the intent and the
    /// failures. The replaced ciphertext is kept once, for forensics. The accounts follow the status, but for disconnected ones.
    ///
    /// # Errors
    /// `Storage`.
    async fn replace(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> Result<Swap, Error>;

    /// Replaces the ciphertext without touching the version: the same tokens under another master key.
    ///
    /// # Errors
    /// `Storage`.
    async fn rewrap(
        &self,
        id: ConnectionId,
        seen: Version,
        old: &SealedTokens,
        new: &SealedTokens,
    ) -> Result<Swap, Error>;

    /// Connections whose tokens are not sealed under `primary`, at most `limit`, after `after` in the order of ids.
    ///
    /// # Errors
    /// `Storage`.
    async fn not_sealed_by(
        &self,
        primary: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<ConnectionId>, Error>;

    /// Erases a connection and its ciphertext; accounts that are still reached through it become disconnected. `Ok(false)` if there is none.
    ///
    /// # Errors
    /// `Storage`.
    async fn delete(&self, id: ConnectionId) -> Result<bool, Error>;

    /// Working connections whose access token ends before that instant, with its end, soonest first, at most `limit`, after `after` in that
    /// order.
    ///
    /// # Errors
    /// `Storage`.
    async fn expiring(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, ConnectionId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ConnectionId)>, Error>;

    /// Takes the right to refresh if the version is still `seen` and nobody holds it at `now`. With `intent`, the beginning is written durably
    /// in the same step.
    ///
    /// # Errors
    /// `Storage`.
    async fn lease_refresh(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> Result<RefreshLease, Error>;

    /// Ends a refresh that brought no tokens: gives the lease back at `free_at`, counts a failure, and forgets the intent unless `doubtful`.
    /// Nothing happens if the version is another by now.
    ///
    /// # Errors
    /// `Storage`.
    async fn refresh_failed(
        &self,
        id: ConnectionId,
        seen: Version,
        free_at: Timestamp,
        doubtful: bool,
    ) -> Result<(), Error>;

    /// Changes the status of a connection and of its accounts with it (but for disconnected ones), if the version is still `seen`.
    ///
    /// # Errors
    /// `Storage`.
    async fn set_connection_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        at: Timestamp,
    ) -> Result<Swap, Error>;
}

/// What is kept while a person is away at a network, and one-time links.
#[derive(Debug, Clone)]
pub struct PendingRow {
    /// SHA-256 of the one-time value (state or link secret): the value itself is not stored.
    pub key: [u8; 32],
    /// Whose it is.
    pub user: UserId,
    /// Which network.
    pub platform: PlatformId,
    /// The sealed record.
    pub sealed: Vec<u8>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Accounts, and people on their way to a network. A user needs no row of its own: an embedding host keeps its users itself.
#[async_trait]
pub trait AccountStore: Debug + Send + Sync + 'static {
    /// Adds or updates the accounts that a connection reaches. An account that the user had already (same network, same remote id) keeps its
    /// id, moves to this connection and gets this status; connections that lose their last account this way are erased, and so are older
    /// grants of the same remote user that reach none. A disconnected account does not keep a connection. Answers with the accounts in
    /// the order given.
    ///
    /// # Errors
    /// `Storage`.
    async fn save_accounts(
        &self,
        connection: ConnectionId,
        profiles: &[AccountProfile],
        status: AccountStatus,
        now: Timestamp,
    ) -> Result<Vec<Account>, Error>;

    /// The accounts of a user in the order of their making, without disconnected ones.
    ///
    /// # Errors
    /// `Storage`.
    async fn accounts(&self, user: UserId) -> Result<Vec<Account>, Error>;

    /// An account of that user, disconnected ones included.
    ///
    /// # Errors
    /// `Storage`.
    async fn account(&self, user: UserId, id: AccountId) -> Result<Option<Account>, Error>;

    /// The connections of a user.
    ///
    /// # Errors
    /// `Storage`.
    async fn connections(&self, user: UserId) -> Result<Vec<Connection>, Error>;

    /// Marks an account as disconnected. Answers with the number of other accounts that still use its connection; `None` if there is no
    /// such account.
    ///
    /// # Errors
    /// `Storage`.
    async fn disconnect_account(&self, user: UserId, id: AccountId, now: Timestamp) -> Result<Option<usize>, Error>;

    /// Keeps a record for somebody who is away.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert_pending(&self, row: &PendingRow) -> Result<(), Error>;

    /// Takes a record out: of many who ask at once exactly one gets it, and nobody after `expires_at`.
    ///
    /// # Errors
    /// `Storage`.
    async fn take_pending(&self, key: &[u8; 32], now: Timestamp) -> Result<Option<PendingRow>, Error>;

    /// Forgets records that ended before that instant.
    ///
    /// # Errors
    /// `Storage`.
    async fn purge_pending(&self, before: Timestamp) -> Result<u64, Error>;
}
