//! What a store has to do, as traits. Stores hold ciphertext only, never ask for the time, and take writes in slices.

mod job;
mod post;
mod token;

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    job::{
        ClaimRequest, Claimed, Delivery, Epoch, ErrorPatch, Held, JobStore, Lane, Lease, LeaseAfter, LogEntry,
        PhaseWrite, RESTORED_EPOCHS, RestoreMark, Restored, TakeOver,
    },
    post::{
        Edit, Insert, LogFilter, LogRow, NewDelivery, NewPost, Page, PageRequest, Post, PostFilter, PostStatus,
        PostStore, WallTime,
    },
    token::{
        AccountStore, NewConnection, PendingRow, RefreshLease, SealedTokens, StoredTokens, Swap, TokenStore,
        TokenUpdate,
    },
};
use crate::{
    draft::StoredMedia,
    error::Error,
    id::{MediaId, UserId},
    rate::{BucketDelta, BucketState},
};

/// Everything that an installation needs of its store. Implemented by whatever implements the parts.
pub trait Store: TokenStore + AccountStore + JobStore + PostStore + MediaStore + RateStore + AdminStore {}
impl<T: TokenStore + AccountStore + JobStore + PostStore + MediaStore + RateStore + AdminStore> Store for T {}

/// What was found in stored media files; the bytes live in a media library.
#[async_trait]
pub trait MediaStore: Debug + Send + Sync + 'static {
    /// Remembers a file.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert_media(&self, user: UserId, media: &StoredMedia, now: Timestamp) -> Result<(), Error>;

    /// A file of that user.
    ///
    /// # Errors
    /// `Storage`.
    async fn media(&self, user: UserId, id: MediaId) -> Result<Option<StoredMedia>, Error>;

    /// Bytes that a user's files take together.
    ///
    /// # Errors
    /// `Storage`.
    async fn media_bytes(&self, user: UserId) -> Result<u64, Error>;

    /// Files that were stored before that instant, at most `limit`, after `after` in the order of ids.
    ///
    /// # Errors
    /// `Storage`.
    async fn old_media(
        &self,
        before: Timestamp,
        after: Option<MediaId>,
        limit: usize,
    ) -> Result<Vec<(UserId, MediaId)>, Error>;

    /// Forgets a file. `Ok(false)` if there is none.
    ///
    /// # Errors
    /// `Storage`.
    async fn delete_media(&self, user: UserId, id: MediaId) -> Result<bool, Error>;
}

/// The shared part of the rate ledger: what all workers together have used, and what is blocked.
#[async_trait]
pub trait RateStore: Debug + Send + Sync + 'static {
    /// Adds what this worker used and learnt, and answers with the state of those buckets and of every bucket that changed since `since`.
    /// A change at that very instant counts; each bucket comes once. [`BucketState::apply`] is the arithmetic. The time of a change never goes back, whatever the worker's clock says.
    ///
    /// # Errors
    /// `Storage`; the caller keeps its deltas and tries again.
    async fn exchange_rates(
        &self,
        deltas: &[BucketDelta],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<BucketState>, Error>;

    /// The buckets with these keys, as far as they are there.
    ///
    /// # Errors
    /// `Storage`.
    async fn buckets(&self, keys: &[String]) -> Result<Vec<BucketState>, Error>;

    /// Takes the right to find out whether a block is over: of many workers that ask after its end one gets it, until `until`. A bucket
    /// without a block is nobody's business here.
    ///
    /// # Errors
    /// `Storage`.
    async fn begin_probe(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, Error>;
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Our id.
    pub id: UserId,
    /// Unique.
    pub email: String,
    /// A free word of the host.
    pub plan: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A hashed API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part of the key.
    pub id: uuid::Uuid,
    /// Whose it is.
    pub user: UserId,
    /// What the user called it.
    pub name: String,
    /// SHA-256 of the secret part.
    pub hash: [u8; 32],
    /// What it may do; empty means everything of its user.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, roughly.
    pub last_used_at: Option<Timestamp>,
}

/// What became of a request that carried an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotent {
    /// First seen; the caller now owns it until it calls [`AdminStore::finish_idempotent`].
    Fresh,
    /// Another request with it is still running.
    InFlight,
    /// It was used with another body.
    Mismatch,
    /// It is finished: this was the answer.
    Done {
        /// Status.
        status: u16,
        /// Body, as it was stored.
        body: Vec<u8>,
    },
}

/// Users, keys and small records of the server.
#[async_trait]
pub trait AdminStore: Debug + Send + Sync + 'static {
    /// Makes a user. `Ok(false)` if the e-mail address is taken.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert_user(&self, user: &User) -> Result<bool, Error>;

    /// A user by id.
    ///
    /// # Errors
    /// `Storage`.
    async fn user(&self, id: UserId) -> Result<Option<User>, Error>;

    /// Users in the order of their making.
    ///
    /// # Errors
    /// `Storage`.
    async fn users(&self, page: &PageRequest) -> Result<Page<User>, Error>;

    /// Keeps a hashed key.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert_key(&self, key: &ApiKey) -> Result<(), Error>;

    /// A key by its public part.
    ///
    /// # Errors
    /// `Storage`.
    async fn key(&self, id: uuid::Uuid) -> Result<Option<ApiKey>, Error>;

    /// Notes that a key was used.
    ///
    /// # Errors
    /// `Storage`.
    async fn touch_key(&self, id: uuid::Uuid, now: Timestamp) -> Result<(), Error>;

    /// Forgets a key. `Ok(false)` if there is none.
    ///
    /// # Errors
    /// `Storage`.
    async fn delete_key(&self, id: uuid::Uuid) -> Result<bool, Error>;

    /// Begins a request with an idempotency key; one winner. A fresh record that was not finished by `stale_before` counts as fresh again.
    ///
    /// # Errors
    /// `Storage`.
    async fn begin_idempotent(
        &self,
        user: UserId,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
        stale_before: Timestamp,
    ) -> Result<Idempotent, Error>;

    /// Stores the answer of a request that was begun; `None` forgets it, so that the same key may be tried again.
    ///
    /// # Errors
    /// `Storage`.
    async fn finish_idempotent(&self, user: UserId, key: &str, answer: Option<(u16, &[u8])>) -> Result<(), Error>;

    /// Forgets records from before that instant.
    ///
    /// # Errors
    /// `Storage`.
    async fn purge_idempotent(&self, before: Timestamp) -> Result<u64, Error>;

    /// Forgets rows of the history from before that instant, the oldest first, at most `limit` of them in one short transaction. Answers with
    /// their number; 0 when there are none left.
    ///
    /// # Errors
    /// `Storage`.
    async fn forget_history(&self, before: Timestamp, limit: u64) -> Result<u64, Error>;

    /// Erases ciphertext of tokens that was replaced before that instant. Answers with the number of connections.
    ///
    /// # Errors
    /// `Storage`.
    async fn forget_replaced_tokens(&self, before: Timestamp) -> Result<u64, Error>;

    /// The sealed proof for each master key id that was ever used here.
    ///
    /// # Errors
    /// `Storage`.
    async fn canaries(&self) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// Keeps a proof for a master key id. The first one stays: a later one may come from another key under the same name.
    ///
    /// # Errors
    /// `Storage`.
    async fn insert_canary(&self, key_id: &str, sealed: &[u8]) -> Result<(), Error>;

    /// How many connections are sealed under each master key id.
    ///
    /// # Errors
    /// `Storage`.
    async fn key_usage(&self) -> Result<Vec<(String, u64)>, Error>;

    /// Whether the store can be read and written now.
    ///
    /// # Errors
    /// `Storage` with the reason.
    async fn check(&self) -> Result<(), Error>;

    /// Short description for logs and the doctor: kind and version, never an address with a password.
    fn describe(&self) -> String;
}
