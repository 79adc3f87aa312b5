//! Keeps tokens fresh: opens them, refreshes them once for all who ask, and says when a person has to connect again.
//!
//! Within a process, those who ask for the same connection wait for one of them. Among processes, a lease in the store lets one refresh,
//! and the version of the tokens decides whose result counts. A refresh runs to its end even if whoever asked for it gives up, since a
//! network that rotates refresh tokens has no other copy of its answer for us.
//!
//! What can happen to a refresh, and what follows:
//!
//! | outcome | what follows |
//! | --- | --- |
//! | new tokens | stored under the next version; kept in memory and stored later if the store fails just then |
//! | the grant is dead, in words that the network is known for | the connection needs a person, unless another worker has newer tokens |
//! | our client or settings are refused | a pause of five minutes; the operator has to act, the connection stays as it is |
//! | too many calls, not answering, refused without effect | a pause that doubles from 30 s to 15 min |
//! | in doubt, on a rotating network | the old refresh token once more after 30 s; while the old access token still works, again after growing pauses; after that a person |
//!
//! During a pause the old access token is given out as long as it is valid.

mod cache;
mod life;
mod refresh;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::task::TaskTracker;

use self::{cache::Cache, life::Life, refresh::Tried};
use crate::{
    account::{ConnectionStatus, TokenSet, Version},
    context::CallContext,
    descriptor::RefreshStyle,
    engine::{in_time, spill::Spill},
    error::{Actor, Error, ErrorKind},
    id::{ConnectionId, PlatformId, UserId},
    meter,
    oauth::TOKEN_DEADLINE,
    platform::Platform,
    store::{RefreshLease, StoredTokens, TokenStore},
    time::{later, positive, signed},
    vault::{Binding, Vault, VaultError},
};

/// The adapters of an installation by platform.
pub type Platforms = Arc<BTreeMap<PlatformId, Arc<dyn Platform>>>;

const DAY: u64 = 24 * 3600;
/// So many days before the end of a grant that cannot be refreshed its person is to be told, once each.
const NOTICES: [u64; 3] = [1, 7, 14];

/// How long a refresh is this worker's alone: three times what a token endpoint may take.
const LEASE: Duration = TOKEN_DEADLINE.saturating_mul(3);
/// How long to wait for another process that is refreshing, and how often to look.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Tokens that are younger than this are not refreshed again because a call was refused.
const TOO_YOUNG: Duration = Duration::from_secs(60);
/// How often tokens that others changed meanwhile are read again.
const MOST_READS: u32 = 100;
/// Tokens that end within this time are looked at by [`TokenKeeper::sweep`]: long-lived ones are due days before their end.
const SWEEP_HORIZON: Duration = Duration::from_secs(15 * DAY);
const SWEEP_AT_ONCE: usize = 8;

/// What the tokens of a connection are bound to when they are sealed.
#[must_use]
pub fn token_binding(user: UserId, connection: ConnectionId, platform: &PlatformId, version: Version) -> Binding<'_> {
    Binding {
        table: "connections",
        column: "tokens",
        user: user.uuid(),
        connection: connection.uuid(),
        platform: platform.as_str(),
        version: version.0,
    }
}

/// Opens and refreshes the tokens of connections.
#[derive(Debug)]
pub struct TokenKeeper {
    inner: Arc<Inner>,
}

struct Inner {
    spill: Arc<Spill>,
    store: Arc<dyn TokenStore>,
    vault: Arc<Vault>,
    platforms: Platforms,
    cx: CallContext,
    cache: Mutex<Cache>,
    flights: Mutex<HashMap<ConnectionId, Arc<AsyncMutex<()>>>>,
    /// How far the last sweep came behind those that end soonest.
    swept_to: Mutex<Option<(Timestamp, ConnectionId)>>,
    /// Refreshes that are under way. Closed, which keeps nothing out: it may be waited for at any time.
    refreshes: TaskTracker,
}

/// What [`TokenKeeper::sweep`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Grants that were refreshed.
    pub refreshed: usize,
    /// Grants that a person must renew.
    pub dead: usize,
    /// Refreshes that failed for now.
    pub failed: usize,
    /// Grants that cannot be refreshed and are about to end, of which this was said for the first time.
    pub noticed: usize,
}

impl TokenKeeper {
    /// A keeper over a store.
    #[must_use]
    pub fn new(store: Arc<dyn TokenStore>, vault: Arc<Vault>, platforms: Platforms, cx: CallContext) -> Self {
        Self::over(store, vault, platforms, cx, Arc::default())
    }

    /// The same keeper, which keeps sealed tokens on disk while the store does not take them. Nothing is in memory yet.
    #[must_use]
    pub(crate) fn spilling(self, spill: Arc<Spill>) -> Self {
        let Inner { store, vault, platforms, cx, .. } = &*self.inner;
        Self::over(store.clone(), vault.clone(), platforms.clone(), cx.clone(), spill)
    }

    fn over(
        store: Arc<dyn TokenStore>,
        vault: Arc<Vault>,
        platforms: Platforms,
        cx: CallContext,
        spill: Arc<Spill>,
    ) -> Self {
        let inner = Inner {
            spill,
            store,
            vault,
            platforms,
            cx,
            cache: Mutex::default(),
            flights: Mutex::default(),
            swept_to: Mutex::default(),
            refreshes: TaskTracker::new(),
        };
        inner.refreshes.close();
        Self { inner: Arc::new(inner) }
    }

    /// The tokens of a connection, good for at least the margin: refreshed first where that is due and possible. `known` is the version that
    /// the caller saw in the store: tokens of that version that are in memory and fresh are given without asking the store.
    ///
    /// Repeatable. Dropping the future does not stop a refresh that has begun. Must run within a tokio runtime.
    ///
    /// # Errors
    /// `Reconnect` if the grant is dead, `Config` if our client is refused or the master key is missing, transient kinds if it could not be
    /// refreshed for now and the old token has ended.
    pub async fn tokens(&self, id: ConnectionId, known: Option<Version>) -> Result<Arc<TokenSet>, Error> {
        if let Some(tokens) = self.inner.cached(id, known) {
            return Ok(tokens);
        }
        let flight = self.inner.flight(id).lock_owned().await;
        // Whoever held the flight before may have done the work.
        if let Some(tokens) = self.inner.cached(id, known) {
            return Ok(tokens);
        }
        self.inner.serve(id, Need::Use, flight).await.map(|served| served.tokens)
    }

    /// The network refused `used`, which was believed to be valid: refreshes once for all who report it. Tokens that somebody replaced
    /// meanwhile are given as they are. Tokens that are less than a minute old are not replaced again.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    pub async fn refused(&self, id: ConnectionId, used: &TokenSet) -> Result<Arc<TokenSet>, Error> {
        let flight = self.inner.flight(id).lock_owned().await;
        self.inner.serve(id, Need::Instead(used), flight).await.map(|served| served.tokens)
    }

    /// Refreshes what is due, the soonest to end first, at most `limit` grants, and marks grants that ended and cannot be refreshed. Unused
    /// grants stay alive this way. Says 14, 7 and 1 days before the end of a grant that cannot be refreshed, once each, that its person has
    /// to connect again: in the log, and as the metric `social_connection_notices_total`. Run it every few minutes; safe in many
    /// processes at once. Besides those that end soonest each call looks at further ones, behind where the last call stopped.
    ///
    /// # Errors
    /// `Storage`. A grant that could not be refreshed is counted, not an error.
    pub async fn sweep(&self, limit: usize) -> Result<Swept, Error> {
        let horizon = later(self.inner.cx.now(), signed(SWEEP_HORIZON));
        // Most of those that end soonest may not be due (or are pausing): look at more than may be refreshed.
        let most = limit.saturating_mul(10);
        let mut ids = in_time("expiring", self.inner.store.expiring(horizon, None, most)).await?;
        if ids.len() == most {
            // Those at the head may be pausing, or live for hours and be due in minutes; what is due behind them gets its turn too.
            let from = self.inner.swept_to().filter(|place| Some(place) > ids.last()).or(ids.last().copied());
            let more = in_time("expiring", self.inner.store.expiring(horizon, from, most)).await?;
            *self.inner.swept_to.lock().unwrap_or_else(PoisonError::into_inner) =
                more.last().copied().filter(|_| more.len() == most);
            ids.extend(more);
        }
        let mut ids = ids.into_iter().map(|(_, id)| id);
        let mut visits = FuturesUnordered::new();
        let mut swept = Swept::default();
        loop {
            // Each visit may be a refresh: never have more under way than may still be made.
            let room = limit.saturating_sub(swept.refreshed + swept.failed).min(SWEEP_AT_ONCE);
            while visits.len() < room
                && let Some(id) = ids.next()
            {
                visits.push(self.visit(id));
            }
            match visits.next().await {
                None => break,
                Some(Ok(visit)) => {
                    swept.refreshed += usize::from(visit.renewed);
                    swept.noticed += usize::from(visit.noticed);
                }
                Some(Err(error)) if error.kind() == ErrorKind::Storage => return Err(error),
                Some(Err(error)) if error.kind() == ErrorKind::Reconnect => swept.dead += 1,
                Some(Err(_)) => swept.failed += 1,
            }
        }
        Ok(swept)
    }

    /// Completes when no refresh is under way: what the networks gave is stored, or kept on disk. A process that ends before that may take the
    /// only copy of new tokens with it, and where the network rotates refresh tokens, a person has to connect again. A [`Worker`](crate::engine::Worker)
    /// that is stopped waits for it; call it in programs that use tokens without one. May be called at any time, and dropped.
    pub async fn finish(&self) {
        self.inner.refreshes.wait().await;
    }

    /// Forgets what is in memory about a connection. Call it when the connection is erased.
    pub fn forget(&self, id: ConnectionId) {
        self.inner.cache().forget(id);
    }

    async fn visit(&self, id: ConnectionId) -> Result<Visit, Error> {
        let flight = self.inner.flight(id).lock_owned().await;
        match self.inner.serve(id, Need::Upkeep, flight).await {
            Ok(served) => match served.failed {
                Some(error) => Err(error),
                None => Ok(Visit { renewed: served.renewed, noticed: served.noticed }),
            },
            // It was erased since the list was made.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Visit::default()),
            Err(error) => Err(error),
        }
    }
}

/// Why tokens are looked at.
#[derive(Clone, Copy)]
enum Need<'a> {
    /// For a call.
    Use,
    /// For a call that was refused with these.
    Instead(&'a TokenSet),
    /// For nobody: they must not die. Never waits for others.
    Upkeep,
}

/// What a look at a grant for its own sake did.
#[derive(Default)]
struct Visit {
    renewed: bool,
    noticed: bool,
}

/// Tokens, and what was done to get them.
struct Served {
    tokens: Arc<TokenSet>,
    renewed: bool,
    noticed: bool,
    /// A refresh failed, and the old tokens have to do.
    failed: Option<Error>,
}

impl Served {
    fn as_they_are(tokens: Arc<TokenSet>) -> Self {
        Self { tokens, renewed: false, noticed: false, failed: None }
    }
}

impl Inner {
    /// Finds out what the tokens of a connection need and does it. `flight` is held until that is done.
    async fn serve(
        self: &Arc<Self>,
        id: ConnectionId,
        need: Need<'_>,
        flight: OwnedMutexGuard<()>,
    ) -> Result<Served, Error> {
        let flight = Arc::new(flight);
        let is_refused =
            |tokens: &TokenSet| matches!(need, Need::Instead(used) if tokens.access.same(used.access.expose()));
        let mut waited = Duration::ZERO;
        for _ in 0..MOST_READS {
            let stored = in_time("token.get", self.store.get(id)).await?.ok_or_else(|| gone(id))?;
            let adapter = self.adapter(&stored.connection.platform)?;
            if stored.connection.status == ConnectionStatus::NeedsReconnect {
                self.cache().forget(id);
                return Err(dead(&stored));
            }
            let unsaved = self.cache().unsaved(id, stored.connection.version);
            if let Some(unsaved) = unsaved {
                return if is_refused(&unsaved) { Err(too_young()) } else { Ok(Served::as_they_are(unsaved)) };
            }
            let current = self.open(&stored).await?;
            let life = Life::of(&stored.connection);
            let now = self.cx.now();
            let forced = is_refused(&current);
            let noticed = matches!(need, Need::Upkeep) && self.notice(&stored, now).await?;
            if !forced && !life.is_due(now) {
                self.cache().keep(id, stored.connection.version, &current, life.due_at());
                return Ok(Served { noticed, ..Served::as_they_are(current) });
            }
            let style = adapter.descriptor().tokens.refresh;
            if !can_refresh(style, &current, now) {
                if forced || life.has_ended(now) {
                    return Err(self.bury(&stored, "the grant has ended and cannot be refreshed").await?);
                }
                self.cache().keep(id, stored.connection.version, &current, life.ends_at());
                return Ok(Served { noticed, ..Served::as_they_are(current) });
            }
            if forced && now < later(stored.connection.updated_at, signed(TOO_YOUNG)) {
                return Err(too_young());
            }
            let under_way = self.refreshes.token();
            let job = Arc::clone(self).refresh(stored.clone(), Arc::clone(&current), adapter, forced, under_way);
            let held = Arc::clone(&flight);
            // A task of its own: it must not end half-way because the caller did.
            let task = tokio::spawn(async move {
                let outcome = job.await;
                drop(held);
                outcome
            });
            let tried = task.await.unwrap_or_else(|e| {
                Err(Error::new(ErrorKind::Unexpected, "token.refresh")
                    .message("the refresh was interrupted")
                    .source(e)
                    .effect_none())
            });
            match tried? {
                Tried::Done(served) => return Ok(served),
                Tried::Stale => {}
                Tried::Busy { until } if !forced && life.is_usable(now) => {
                    self.cache().keep(id, stored.connection.version, &current, Some(until.min(life.usable_until())));
                    return Ok(Served::as_they_are(current));
                }
                Tried::Busy { .. } if matches!(need, Need::Upkeep) => return Ok(Served::as_they_are(current)),
                // After a failure the lease is a pause: there is nothing to wait for.
                Tried::Busy { until } if stored.refresh_failures > 0 || waited >= WAIT_FOR_OTHERS => {
                    return Err(pausing(now, until));
                }
                Tried::Busy { until } => {
                    waited += LOOK_EVERY;
                    self.cx.clock().sleep_until(later(now, signed(LOOK_EVERY)).min(until)).await;
                }
            }
        }
        Err(Error::new(ErrorKind::Conflict, "token.refresh").message("the tokens keep changing").effect_none())
    }

    /// Says that a grant which cannot be refreshed is about to end, once for each of [`NOTICES`]: the lease, which such a grant never needs for
    /// a refresh, is held until the next one.
    async fn notice(&self, stored: &StoredTokens, now: Timestamp) -> Result<bool, Error> {
        let connection = &stored.connection;
        let Some(ends_at) = connection.expires_at.filter(|end| !connection.refreshable && *end > now) else {
            return Ok(false);
        };
        let before = |days: u64| later(ends_at, -signed(Duration::from_secs(days * DAY)));
        // A grant that lives for hours says nothing about days.
        let level = NOTICES.into_iter().position(|days| before(days) <= now);
        let Some(level) = level.filter(|level| before(NOTICES[*level]) > connection.updated_at) else {
            return Ok(false);
        };
        if stored.refresh_lease_until.is_some_and(|until| until > now) {
            return Ok(false);
        }
        let next = level.checked_sub(1).map_or(ends_at, |nearer| before(NOTICES[nearer]));
        let leased = self.store.lease_refresh(connection.id, connection.version, now, next, false);
        let won = in_time("token.lease", leased).await?;
        if won != RefreshLease::Won {
            return Ok(false);
        }
        let days = NOTICES[level];
        tracing::warn!(
            connection.id = %connection.id,
            user.id = %connection.user,
            platform.id = %connection.platform,
            %ends_at,
            "the connection to {} cannot be refreshed and ends within {days} days: its person has to connect again",
            connection.platform
        );
        meter::noticed(&connection.platform, days);
        Ok(true)
    }

    fn swept_to(&self) -> Option<(Timestamp, ConnectionId)> {
        *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, stored: &StoredTokens) -> Result<Arc<TokenSet>, Error> {
        let connection = &stored.connection;
        if let Some(tokens) = self.cache().opened(connection.id, connection.version) {
            return Ok(tokens);
        }
        let binding = token_binding(connection.user, connection.id, &connection.platform, connection.version);
        let plain = self.vault.open(&binding, &stored.tokens.0).await.map_err(vault_failed)?;
        let tokens = TokenSet::from_plain(&plain).ok_or_else(|| {
            Error::new(ErrorKind::Config, "token.open")
                .message("the stored tokens are in a form that this version does not know")
                .effect_none()
        })?;
        Ok(Arc::new(tokens))
    }

    /// Marks a grant as one that a person must renew, unless its tokens were replaced meanwhile.
    async fn bury(&self, stored: &StoredTokens, why: &'static str) -> Result<Error, Error> {
        let connection = &stored.connection;
        self.cache().forget(connection.id);
        let swap = self
            .store
            .set_connection_status(connection.id, connection.version, ConnectionStatus::NeedsReconnect, self.cx.now())
            .await?;
        if swap == crate::store::Swap::Stale {
            return Ok(Error::new(ErrorKind::Conflict, "token.refresh")
                .message("the tokens were replaced meanwhile")
                .effect_none());
        }
        tracing::warn!(
            connection.id = %connection.id,
            user.id = %connection.user,
            platform.id = %connection.platform,
            "the connection to {} needs a person: {why}",
            connection.platform
        );
        meter::connection_lost(&connection.platform);
        Ok(dead(stored).message(why))
    }

    fn adapter(&self, platform: &PlatformId) -> Result<Arc<dyn Platform>, Error> {
        self.platforms.get(platform).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Config, "token.refresh")
                .message(format!("{platform} is not set up in this installation"))
                .effect_none()
        })
    }

    fn cached(&self, id: ConnectionId, known: Option<Version>) -> Option<Arc<TokenSet>> {
        self.cache().fresh(id, known, self.cx.now())
    }

    fn flight(&self, id: ConnectionId) -> Arc<AsyncMutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= 1024 && !flights.contains_key(&id) {
            flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        }
        Arc::clone(flights.entry(id).or_default())
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("vault", &self.vault)
            .field("platforms", &self.platforms.keys())
            .finish_non_exhaustive()
    }
}

/// Whether a call to the network can bring new tokens.
fn can_refresh(style: RefreshStyle, tokens: &TokenSet, now: Timestamp) -> bool {
    let refresh_token = tokens.refresh.is_some() && tokens.refresh_expires_at.is_none_or(|end| end > now);
    match style {
        RefreshStyle::None => false,
        RefreshStyle::Static | RefreshStyle::Rotating => refresh_token,
        // An access token that has ended cannot be exchanged for another.
        RefreshStyle::Exchange => tokens.expires_at.is_none_or(|end| end > now),
    }
}

fn gone(id: ConnectionId) -> Error {
    Error::not_found("token.open", format!("there is no connection {id}"))
        .advice("This account is no longer connected. Please connect it again.")
}

fn dead(stored: &StoredTokens) -> Error {
    Error::new(ErrorKind::Reconnect, "token.refresh")
        .message(format!("the grant of connection {} is not accepted any more", stored.connection.id))
        .effect_none()
}

fn too_young() -> Error {
    Error::new(ErrorKind::Unavailable, "token.refresh")
        .message("the network refuses tokens that it has just given")
        .retry_after(TOO_YOUNG)
        .effect_none()
}

fn pausing(now: Timestamp, until: Timestamp) -> Error {
    let wait = positive(until.duration_since(now)).unwrap_or(LOOK_EVERY);
    Error::new(ErrorKind::Unavailable, "token.refresh")
        .message("the token has ended and its refresh is pausing")
        .retry_after(wait)
        .effect_none()
}

fn vault_failed(error: VaultError) -> Error {
    let kind = if matches!(error, VaultError::Unavailable(_)) { ErrorKind::Unavailable } else { ErrorKind::Config };
    Error::new(kind, "token.open").message(error.to_string()).actor(Actor::Operator).source(error).effect_none()
}

#[cfg(test)]
mod tests;
