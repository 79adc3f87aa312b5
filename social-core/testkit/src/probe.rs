//! A store with a probe in front of its durable writes: where a test lets a worker die, or the database fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    account::{Account, AccountProfile, AccountStatus, Connection, ConnectionStatus, Version},
    draft::StoredMedia,
    error::Error,
    id::{AccountId, ConnectionId, DeliveryId, LogId, MediaId, PlatformId, PostId, UserId},
    phase::PhaseName,
    rate::{BucketDelta, BucketState},
    store::{
        AccountStore, AdminStore, ApiKey, Backlog, ClaimRequest, Claimed, Delivery, Edit, Epoch, Held, Idempotent,
        Insert, JobStore, Lease, LogEntry, LogFilter, LogRow, MediaStore, NewConnection, NewPost, Page, PageRequest,
        PendingRow, PhaseWrite, Post, PostFilter, PostStore, RateStore, RefreshLease, RestoreMark, Restored,
        SealedTokens, Store, StoredTokens, Swap, TakeOver, TokenStore, TokenUpdate, User,
    },
};
use tokio::sync::Notify;

/// On which side of a write something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The write has not been made.
    Before,
    /// The write is durable; whoever made it has not learnt of it.
    After,
}

/// Counts durable writes and lets the worker die at one of them: the call never returns, as to a process that was killed.
#[derive(Debug)]
pub struct Probe {
    seen: AtomicUsize,
    die_at: AtomicUsize,
    died: Notify,
    claims: AtomicUsize,
    hold_claims: AtomicBool,
    release: Notify,
    away: AtomicBool,
    checks: AtomicUsize,
    looks: AtomicUsize,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            seen: AtomicUsize::new(0),
            die_at: AtomicUsize::new(usize::MAX),
            died: Notify::new(),
            claims: AtomicUsize::new(0),
            hold_claims: AtomicBool::new(false),
            release: Notify::new(),
            away: AtomicBool::new(false),
            checks: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
        }
    }
}

impl Probe {
    /// Dies at the stage with this number, counted from now: even numbers are before a write, odd ones after it.
    pub fn die_at(&self, stage: usize) {
        self.seen.store(0, Ordering::SeqCst);
        self.die_at.store(stage, Ordering::SeqCst);
    }

    /// Lives on, and counts anew.
    pub fn live(&self) {
        self.die_at(usize::MAX);
    }

    /// Stages seen since the count began.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// How often workers asked for something to do.
    pub fn claims(&self) -> usize {
        self.claims.load(Ordering::SeqCst)
    }

    /// How often somebody asked whether the store can be read and written.
    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    /// How often somebody looked for what is new in a history.
    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    /// From now on a claim is granted at once and answered only when it is released: the answer is on its way.
    pub fn hold_claims(&self) {
        self.hold_claims.store(true, Ordering::SeqCst);
    }

    /// The answer that is held arrives, and those to come are not held.
    pub fn release_claims(&self) {
        self.hold_claims.store(false, Ordering::SeqCst);
        self.release.notify_one();
    }

    /// Completes when the worker has died.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// Lets the database go away, or come back: meanwhile what the engine asks of it fails without effect.
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn there(&self) -> Result<(), Error> {
        if self.away.load(Ordering::SeqCst) { Err(Error::storage("probe", "the database is away")) } else { Ok(()) }
    }

    async fn at(&self, _write: &'static str, stage: Stage) -> Result<(), Error> {
        if stage == Stage::Before {
            self.there()?;
        }
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.die_at.load(Ordering::SeqCst) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// A store with a probe in front of its durable writes.
#[derive(Debug, Clone)]
pub struct ProbeStore {
    inner: Arc<dyn Store>,
    probe: Arc<Probe>,
}

impl ProbeStore {
    /// Puts a probe in front of a store.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, probe: Arc<Probe>) -> Self {
        Self { inner, probe }
    }
}

#[async_trait]
impl TokenStore for ProbeStore {
    async fn insert(&self, new: &NewConnection) -> Result<(), Error> {
        self.inner.insert(new).await
    }
    async fn get(&self, id: ConnectionId) -> Result<Option<StoredTokens>, Error> {
        self.inner.get(id).await
    }
    async fn replace(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> Result<Swap, Error> {
        self.probe.at("replace", Stage::Before).await?;
        let answer = self.inner.replace(id, seen, new).await;
        self.probe.at("replace", Stage::After).await?;
        answer
    }
    async fn rewrap(
        &self,
        id: ConnectionId,
        seen: Version,
        old: &SealedTokens,
        new: &SealedTokens,
    ) -> Result<Swap, Error> {
        self.inner.rewrap(id, seen, old, new).await
    }
    async fn not_sealed_by(
        &self,
        primary: &str,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<ConnectionId>, Error> {
        self.inner.not_sealed_by(primary, after, limit).await
    }
    async fn delete(&self, id: ConnectionId) -> Result<bool, Error> {
        self.inner.delete(id).await
    }
    async fn expiring(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, ConnectionId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ConnectionId)>, Error> {
        self.inner.expiring(before, after, limit).await
    }
    async fn lease_refresh(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> Result<RefreshLease, Error> {
        self.probe.at("lease_refresh", Stage::Before).await?;
        let answer = self.inner.lease_refresh(id, seen, now, until, intent).await;
        self.probe.at("lease_refresh", Stage::After).await?;
        answer
    }
    async fn refresh_failed(
        &self,
        id: ConnectionId,
        seen: Version,
        free_at: Timestamp,
        doubtful: bool,
    ) -> Result<(), Error> {
        self.inner.refresh_failed(id, seen, free_at, doubtful).await
    }
    async fn set_connection_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        at: Timestamp,
    ) -> Result<Swap, Error> {
        self.inner.set_connection_status(id, seen, status, at).await
    }
}

#[async_trait]
impl AccountStore for ProbeStore {
    async fn save_accounts(
        &self,
        connection: ConnectionId,
        profiles: &[AccountProfile],
        status: AccountStatus,
        now: Timestamp,
    ) -> Result<Vec<Account>, Error> {
        self.inner.save_accounts(connection, profiles, status, now).await
    }
    async fn accounts(&self, user: UserId) -> Result<Vec<Account>, Error> {
        self.inner.accounts(user).await
    }
    async fn account(&self, user: UserId, id: AccountId) -> Result<Option<Account>, Error> {
        self.inner.account(user, id).await
    }
    async fn connections(&self, user: UserId) -> Result<Vec<Connection>, Error> {
        self.inner.connections(user).await
    }
    async fn disconnect_account(&self, user: UserId, id: AccountId, now: Timestamp) -> Result<Option<usize>, Error> {
        self.inner.disconnect_account(user, id, now).await
    }
    async fn insert_pending(&self, row: &PendingRow) -> Result<(), Error> {
        self.inner.insert_pending(row).await
    }
    async fn take_pending(&self, key: &[u8; 32], now: Timestamp) -> Result<Option<PendingRow>, Error> {
        self.inner.take_pending(key, now).await
    }
    async fn purge_pending(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.purge_pending(before).await
    }
}

#[async_trait]
impl JobStore for ProbeStore {
    async fn claim_due(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, Error> {
        self.probe.claims.fetch_add(1, Ordering::SeqCst);
        self.probe.there()?;
        let granted = self.inner.claim_due(request).await;
        if self.probe.hold_claims.load(Ordering::SeqCst) {
            self.probe.release.notified().await;
        }
        granted
    }
    async fn record(&self, writes: &[PhaseWrite]) -> Result<Vec<Held>, Error> {
        self.probe.at("record", Stage::Before).await?;
        let answer = self.inner.record(writes).await;
        self.probe.at("record", Stage::After).await?;
        answer
    }
    async fn mark_restored(&self, mark: &RestoreMark) -> Result<Restored, Error> {
        self.inner.mark_restored(mark).await
    }
    async fn take_over(&self, request: &TakeOver) -> Result<Option<Epoch>, Error> {
        self.probe.at("take_over", Stage::Before).await?;
        let answer = self.inner.take_over(request).await;
        self.probe.at("take_over", Stage::After).await?;
        answer
    }
    async fn renew(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<Held>, Error> {
        self.probe.there()?;
        self.inner.renew(leases, until).await
    }
    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> Result<(), Error> {
        self.probe.at("rest", Stage::Before).await?;
        let answer = self.inner.rest(leases, wake_at).await;
        self.probe.at("rest", Stage::After).await?;
        answer
    }
    async fn reclaim(&self, now: Timestamp) -> Result<u64, Error> {
        self.probe.there()?;
        self.inner.reclaim(now).await
    }
    async fn next_due(&self, platforms: &[PlatformId]) -> Result<Vec<(PlatformId, Timestamp)>, Error> {
        self.probe.there()?;
        self.inner.next_due(platforms).await
    }
    async fn release_reconnected(&self, account: AccountId, now: Timestamp) -> Result<u64, Error> {
        self.inner.release_reconnected(account, now).await
    }
    async fn remote_ids(&self, account: AccountId, since: Timestamp) -> Result<Vec<String>, Error> {
        self.inner.remote_ids(account, since).await
    }
    async fn depth(&self) -> Result<Vec<(PlatformId, PhaseName, u64)>, Error> {
        self.inner.depth().await
    }
    async fn backlog(&self, now: Timestamp) -> Result<Vec<Backlog>, Error> {
        self.inner.backlog(now).await
    }
    async fn clock_offset(&self, now: Timestamp) -> Result<SignedDuration, Error> {
        self.probe.there()?;
        self.inner.clock_offset(now).await
    }
    async fn woken(&self) {
        self.inner.woken().await
    }
}

#[async_trait]
impl PostStore for ProbeStore {
    async fn insert_post(&self, new: &NewPost) -> Result<Insert, Error> {
        self.probe.at("insert_post", Stage::Before).await?;
        let answer = self.inner.insert_post(new).await;
        self.probe.at("insert_post", Stage::After).await?;
        answer
    }
    async fn post(&self, user: UserId, id: PostId) -> Result<Option<(Post, Vec<Delivery>)>, Error> {
        self.inner.post(user, id).await
    }
    async fn posts(
        &self,
        user: UserId,
        filter: &PostFilter,
        page: &PageRequest,
    ) -> Result<Page<(Post, Vec<Delivery>)>, Error> {
        self.inner.posts(user, filter, page).await
    }
    async fn delivery(&self, user: UserId, id: DeliveryId) -> Result<Option<Delivery>, Error> {
        self.inner.delivery(user, id).await
    }
    async fn edit_post(&self, user: UserId, edit: &Edit) -> Result<bool, Error> {
        self.inner.edit_post(user, edit).await
    }
    async fn logs(&self, user: UserId, filter: &LogFilter, page: &PageRequest) -> Result<Page<LogRow>, Error> {
        self.inner.logs(user, filter, page).await
    }
    async fn logs_since(&self, user: UserId, after: Option<LogId>, limit: usize) -> Result<Vec<LogRow>, Error> {
        self.probe.looks.fetch_add(1, Ordering::SeqCst);
        self.inner.logs_since(user, after, limit).await
    }
    async fn append_log(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<(), Error> {
        self.inner.append_log(delivery, entry).await
    }
    async fn note_deletion(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<bool, Error> {
        self.inner.note_deletion(delivery, entry).await
    }
    async fn deletions(&self, user: UserId, deliveries: &[DeliveryId]) -> Result<Vec<(DeliveryId, Timestamp)>, Error> {
        self.inner.deletions(user, deliveries).await
    }
}

#[async_trait]
impl MediaStore for ProbeStore {
    async fn insert_media(&self, user: UserId, media: &StoredMedia, now: Timestamp) -> Result<(), Error> {
        self.inner.insert_media(user, media, now).await
    }
    async fn insert_media_within(
        &self,
        user: UserId,
        media: &StoredMedia,
        quota: u64,
        now: Timestamp,
    ) -> Result<bool, Error> {
        self.inner.insert_media_within(user, media, quota, now).await
    }
    async fn media(&self, user: UserId, id: MediaId) -> Result<Option<StoredMedia>, Error> {
        self.inner.media(user, id).await
    }
    async fn media_bytes(&self, user: UserId) -> Result<u64, Error> {
        self.inner.media_bytes(user).await
    }
    async fn old_media(
        &self,
        before: Timestamp,
        after: Option<MediaId>,
        limit: usize,
    ) -> Result<Vec<(UserId, MediaId)>, Error> {
        self.inner.old_media(before, after, limit).await
    }
    async fn delete_media(&self, user: UserId, id: MediaId) -> Result<bool, Error> {
        self.inner.delete_media(user, id).await
    }
}

#[async_trait]
impl RateStore for ProbeStore {
    async fn exchange_rates(
        &self,
        deltas: &[BucketDelta],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<BucketState>, Error> {
        self.probe.there()?;
        self.inner.exchange_rates(deltas, since, now).await
    }
    async fn buckets(&self, keys: &[String]) -> Result<Vec<BucketState>, Error> {
        self.inner.buckets(keys).await
    }
    async fn begin_probe(&self, key: &str, now: Timestamp, until: Timestamp) -> Result<bool, Error> {
        self.probe.there()?;
        self.inner.begin_probe(key, now, until).await
    }
}

#[async_trait]
impl AdminStore for ProbeStore {
    async fn insert_user(&self, user: &User) -> Result<bool, Error> {
        self.inner.insert_user(user).await
    }
    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        self.inner.user(id).await
    }
    async fn users(&self, page: &PageRequest) -> Result<Page<User>, Error> {
        self.inner.users(page).await
    }
    async fn insert_key(&self, key: &ApiKey) -> Result<(), Error> {
        self.inner.insert_key(key).await
    }
    async fn key(&self, id: uuid::Uuid) -> Result<Option<ApiKey>, Error> {
        self.inner.key(id).await
    }
    async fn touch_key(&self, id: uuid::Uuid, now: Timestamp) -> Result<(), Error> {
        self.inner.touch_key(id, now).await
    }
    async fn delete_key(&self, id: uuid::Uuid) -> Result<bool, Error> {
        self.inner.delete_key(id).await
    }
    async fn begin_idempotent(
        &self,
        user: UserId,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
        stale_before: Timestamp,
    ) -> Result<Idempotent, Error> {
        self.inner.begin_idempotent(user, key, fingerprint, now, stale_before).await
    }
    async fn finish_idempotent(
        &self,
        user: UserId,
        key: &str,
        begun_at: Timestamp,
        answer: Option<(u16, &[u8])>,
    ) -> Result<(), Error> {
        self.inner.finish_idempotent(user, key, begun_at, answer).await
    }
    async fn purge_idempotent(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.purge_idempotent(before).await
    }
    async fn canaries(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.inner.canaries().await
    }
    async fn insert_canary(&self, key_id: &str, sealed: &[u8]) -> Result<(), Error> {
        self.inner.insert_canary(key_id, sealed).await
    }
    async fn key_usage(&self) -> Result<Vec<(String, u64)>, Error> {
        self.inner.key_usage().await
    }
    async fn forget_history(&self, before: Timestamp, limit: u64) -> Result<u64, Error> {
        self.inner.forget_history(before, limit).await
    }
    async fn forget_replaced_tokens(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.forget_replaced_tokens(before).await
    }
    async fn check(&self) -> Result<(), Error> {
        self.probe.there()?;
        self.probe.checks.fetch_add(1, Ordering::SeqCst);
        self.inner.check().await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}
