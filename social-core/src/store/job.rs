//! Deliveries as the engine sees them: claimed under a lease, written under an epoch.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    account::{Account, Version},
    draft::Draft,
    error::Error,
    id::{AccountId, DeliveryId, LogId, PlatformId, PostId, UserId},
    phase::{Checkpoint, Phase, PhaseName, RemotePost},
};

/// Counts the owners of a delivery: every claim and every change from outside the engine moves it on, and a write under an older one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// One post to one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Our id.
    pub id: DeliveryId,
    /// Which post.
    pub post: PostId,
    /// Whose it is.
    pub user: UserId,
    /// To which account.
    pub account: AccountId,
    /// On which network.
    pub platform: PlatformId,
    /// Where it stands.
    pub phase: Phase,
    /// Attempts used so far.
    pub attempt: u32,
    /// How often a worker died with it since it last got further.
    pub crashes: u32,
    /// The current owner count.
    pub epoch: Epoch,
    /// When it was to go out.
    pub due_at: Timestamp,
    /// When somebody has to look at it next; `None` if nobody has to.
    pub wake_at: Option<Timestamp>,
    /// How late it may become.
    pub late_limit: Duration,
    /// When the visible call that is in doubt was first permitted. In a phase before that call: since when it may have been made without our
    /// knowing, after a restore; the network is asked first then.
    pub committing_since: Option<Timestamp>,
    /// Parts that are out, in order.
    pub parts: Vec<RemotePost>,
    /// What went wrong last, as JSON of [`Error`].
    pub error: Option<String>,
    /// When it was out.
    pub published_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A delivery with all that is needed to work on it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The delivery, under a fresh epoch.
    pub delivery: Delivery,
    /// What to say.
    pub draft: Arc<Draft>,
    /// Where.
    pub account: Arc<Account>,
    /// The version of the connection's tokens, so that opened tokens can be kept in memory; `Version(0)`, which no tokens have, if the
    /// connection was erased.
    pub token_version: Version,
}

/// How much a worker can take of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The network.
    pub platform: PlatformId,
    /// At most so many.
    pub limit: usize,
}

/// What a worker asks for. Networks are lanes of their own, so that a slow one never delays the others.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Deliveries that wake up to this instant are claimed: a little ahead of the clock.
    pub until: Timestamp,
    /// How long they are leased.
    pub lease_until: Timestamp,
    /// Who asks; shown to operators.
    pub worker: String,
    /// How much of what.
    pub lanes: Vec<Lane>,
}

/// How much of one network is due or held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The network.
    pub platform: PlatformId,
    /// Deliveries that nobody holds and that were to wake by now.
    pub due: u64,
    /// Since when the first of them waits.
    pub oldest: Option<Timestamp>,
    /// Deliveries that some worker holds.
    pub held: u64,
}

/// A claim that is still held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// Whether a write counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Held {
    /// It did.
    Yes,
    /// Somebody else owns the delivery now; nothing was written.
    Lost,
}

/// What happens to the lease with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseAfter {
    /// The writer goes on.
    Keep,
    /// The writer is done with it for now.
    Release,
    /// A write from outside the engine: whoever holds it loses it, by a new epoch.
    Revoke,
}

/// What happens to the stored error with a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPatch {
    /// It stays.
    Keep,
    /// It is gone.
    Clear,
    /// It is replaced by this JSON of [`Error`].
    Set(String),
}

/// A row of the history. It travels in the transaction of the change that it tells about (invariant I6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Our id.
    pub id: LogId,
    /// What happened: the name of an event or a call.
    pub event: String,
    /// Whether that was a success; `None` for things that are neither.
    pub success: Option<bool>,
    /// What belongs to it, without secrets: error, remote post, reason.
    pub response: Value,
    /// When.
    pub at: Timestamp,
}

/// One durable change of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseWrite {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The epoch under which the writer acts; the write counts only if it is still the current one.
    pub epoch: Epoch,
    /// The phase from now on.
    pub phase: PhaseName,
    /// Its checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// What is out as a whole; sets `published_at` to the entry's time where the phase is published.
    pub remote: Option<RemotePost>,
    /// A part that is out now, to be added to the others.
    pub part: Option<RemotePost>,
    /// Attempts used from now on.
    pub attempt: u32,
    /// Worker deaths from now on.
    pub crashes: u32,
    /// When somebody has to look at it next.
    pub wake_at: Option<Timestamp>,
    /// When it is to go out from now on; `None` leaves it.
    pub due_at: Option<Timestamp>,
    /// When the visible call in doubt was permitted.
    pub committing_since: Option<Timestamp>,
    /// What becomes of the stored error.
    pub error: ErrorPatch,
    /// What becomes of the lease.
    pub lease: LeaseAfter,
    /// The row of the history.
    pub log: LogEntry,
}

/// Asks for a delivery in doubt because its outcome has become known late; see [`JobStore::take_over`].
#[derive(Debug, Clone, PartialEq)]
pub struct TakeOver {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// When the visible call that the outcome is about was permitted. A later call has another instant.
    pub committing_since: Timestamp,
    /// In which phases the outcome matters.
    pub from: Vec<PhaseName>,
    /// Only while the epoch has not gone beyond this one.
    pub epoch_at_most: Option<Epoch>,
    /// Not if the history has a row with this id already.
    pub unless_logged: LogId,
    /// How long it is leased, so that nobody claims it in between.
    pub lease_until: Timestamp,
}

/// Says that the data are those of a backup; see [`JobStore::mark_restored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreMark {
    /// The present instant.
    pub now: Timestamp,
    /// When the backup was taken; an earlier instant is safe, a later one is not. Without one, the time of the newest row of the history,
    /// or of a delivery's own due time where that is earlier.
    pub backup_at: Option<Timestamp>,
    /// Also what is due in the future, because its time may have been moved forward after the backup.
    pub all: bool,
    /// Although somebody holds deliveries.
    pub even_if_held: bool,
}

/// What [`JobStore::mark_restored`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Deliveries that somebody held. Unless told otherwise, nothing was changed if there are any.
    pub held: u64,
    /// Deliveries that may have gone out since the backup: the network is asked about them before anything is sent.
    pub to_look: u64,
    /// Deliveries that the backup shows in doubt: the network is asked about them, as always.
    pub in_doubt: u64,
    /// Deliveries that wait for their time, or for a person; only their epochs moved on.
    pub left: u64,
    /// From when on the network is asked, at the latest.
    pub since: Option<Timestamp>,
}

/// How far a restore moves epochs on: further than the installation that the backup came from can have counted since.
pub const RESTORED_EPOCHS: i64 = 1_000_000_000;

/// Keeps deliveries for the engine. Time is an argument everywhere.
#[async_trait]
pub trait JobStore: Debug + Send + Sync + 'static {
    /// Claims deliveries that wake up by `until` and that nobody holds, in the order of their waking, each under a new epoch. Deliveries of
    /// an account of which another worker holds some are left to that worker: one visible call at a time per account, in order.
    ///
    /// # Errors
    /// `Storage`; nothing is claimed then.
    async fn claim_due(&self, request: &ClaimRequest) -> Result<Vec<Claimed>, Error>;

    /// Writes changes, all or none, each only if its epoch is the current one; answers in the order given. Several writes of one delivery
    /// take effect one after the other.
    ///
    /// A write with [`LeaseAfter::Keep`] counts only while the delivery is leased. Without a lease its writer has let go already, perhaps by a
    /// repeated write that it does not know of, and a delivery with neither lease nor wake time would never be found again.
    ///
    /// A worker keeps its epoch while it writes, so for a write with [`LeaseAfter::Revoke`] the epoch is not enough: it counts only if
    /// besides [`outside_may_change`](crate::phase::invariant::outside_may_change) allows the step from the stored phase to the written
    /// one. Of a cancel and the write-ahead of the visible call exactly one counts, whichever comes first.
    ///
    /// # Errors
    /// `Storage`. Nothing is written then, unless the answer was lost on its way; of a batch that tells only what is out, a part may be written.
    /// Repeated, each write counts once.
    async fn record(&self, writes: &[PhaseWrite]) -> Result<Vec<Held>, Error>;

    /// Whether two batches of changes are written faster beside each other than as one. Then a delivery whose outcome is being recorded gives its
    /// place at the network to the next.
    fn writes_in_parallel(&self) -> bool {
        false
    }

    /// Takes a delivery in doubt away from whoever holds it, if nobody does too, and answers with its new epoch, under which the caller
    /// writes the outcome. `None`, and nothing changes, if any condition of the request does not hold: the doubt has ended, or it is
    /// about another call.
    ///
    /// # Errors
    /// `Storage`; nothing has changed then.
    async fn take_over(&self, request: &TakeOver) -> Result<Option<Epoch>, Error>;

    /// Makes data that were put back from a backup safe to go on with, in one step. Deliveries that have not ended get new epochs, and those
    /// that may have gone out since the backup (due by now, or begun) get a doubt: `committing_since` set in a phase before the visible
    /// call. It obliges the engine to ask the network first, and stays until the network or a person has said what is true. Repeating it
    /// makes the engine look once more.
    ///
    /// # Errors
    /// `Storage`; nothing has changed then.
    async fn mark_restored(&self, mark: &RestoreMark) -> Result<Restored, Error>;

    /// Prolongs leases; answers in the order given.
    ///
    /// # Errors
    /// `Storage`.
    async fn renew(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<Held>, Error>;

    /// Gives claims back untouched: no attempt, no log row. The epoch moves on, so that a write of the old owner that comes later does not
    /// count. Those that are not held any more are left alone.
    ///
    /// # Errors
    /// `Storage`.
    async fn rest(&self, leases: &[Lease], wake_at: Timestamp) -> Result<(), Error>;

    /// Frees deliveries whose lease ended before `now` (their worker died), under a new epoch, counting a crash against
    /// [suspects](crate::phase::invariant::is_suspect), to be claimed at once: they
    /// wake at `now` or when they were to wake, whichever is earlier. Answers with their number.
    ///
    /// # Errors
    /// `Storage`.
    async fn reclaim(&self, now: Timestamp) -> Result<u64, Error>;

    /// When the next delivery that nobody holds wakes up, per network.
    ///
    /// # Errors
    /// `Storage`.
    async fn next_due(&self, platforms: &[PlatformId]) -> Result<Vec<(PlatformId, Timestamp)>, Error>;

    /// Wakes deliveries that wait for a reconnect of that account: they try again at `now`. Answers with their number.
    ///
    /// # Errors
    /// `Storage`.
    async fn release_reconnected(&self, account: AccountId, now: Timestamp) -> Result<u64, Error>;

    /// Ids on the network that deliveries of this account already claim, parts included, if they changed since that instant. In no order.
    ///
    /// # Errors
    /// `Storage`.
    async fn remote_ids(&self, account: AccountId, since: Timestamp) -> Result<Vec<String>, Error>;

    /// How many deliveries are in each phase, by network, without final ones.
    ///
    /// # Errors
    /// `Storage`.
    async fn depth(&self) -> Result<Vec<(PlatformId, PhaseName, u64)>, Error>;

    /// What could be claimed now and what is held, by network, for operators; networks with neither are left out. A store that cannot say it
    /// answers with nothing.
    ///
    /// # Errors
    /// `Storage`.
    async fn backlog(&self, _now: Timestamp) -> Result<Vec<Backlog>, Error> {
        Ok(Vec::new())
    }

    /// How far the database's clock is ahead of `now`; zero where they are the same clock.
    ///
    /// # Errors
    /// `Storage`.
    async fn clock_offset(&self, _now: Timestamp) -> Result<SignedDuration, Error> {
        Ok(SignedDuration::ZERO)
    }

    /// Completes when something may have become due earlier than was known: a post scheduled, here or by another process, that is due within a
    /// minute. May complete for no reason; may miss something, which a slow poll finds.
    async fn woken(&self);
}
