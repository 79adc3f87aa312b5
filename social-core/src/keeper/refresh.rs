//! One refresh, from the lease to the stored outcome.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Inner, LEASE, Served, can_refresh, dead, gone, life::Life, token_binding, vault_failed};
use crate::{
    account::{ConnectionStatus, TokenSet},
    descriptor::RefreshStyle,
    engine::in_time,
    error::{Effect, Error, ErrorKind, Retry},
    id::ConnectionId,
    meter,
    platform::Platform,
    retry::{Jitter, RetryPolicy},
    store::{RefreshLease, SealedTokens, StoredTokens, Swap, TokenUpdate},
    time::{later, positive, signed},
    trace,
};

/// Pauses after failures.
const PAUSES: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(30),
    multiplier: 2.0,
    max_interval: Duration::from_secs(15 * 60),
    max_attempts: u32::MAX,
    jitter: Jitter::None,
};
/// Pause after the network refused our client: nothing changes before the operator acts.
const OPERATOR_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Between two tries with one refresh token whose first answer was lost.
const DOUBT_PAUSE: Duration = Duration::from_secs(30);
/// While a grant is being given up nobody else asks for new tokens: a dead refresh token is shown once.
const BURIAL: Duration = Duration::from_secs(30);
/// How long a worker tries to store tokens that it holds the only copy of.
const SAVE_FOR: Duration = Duration::from_secs(24 * 3600);
/// After this many failures in a row, about three hours, somebody should know.
const FAILURES_TO_WARN: u32 = 15;

/// What came of trying to refresh.
pub(super) enum Tried {
    /// This worker had the lease.
    Done(Served),
    /// Somebody else is at it, or it is pausing.
    Busy { until: Timestamp },
    /// The tokens were another version: read again.
    Stale,
}

impl Inner {
    /// Takes the lease and, on a rotating network, notes the intent; asks the network for new tokens and records what came of it. `forced`
    /// says that the old tokens were refused and must not be given out again. `under_way` is given back when nothing would be lost with
    /// this process any more.
    pub(super) async fn refresh(
        self: Arc<Self>,
        stored: StoredTokens,
        current: Arc<TokenSet>,
        adapter: Arc<dyn Platform>,
        forced: bool,
        under_way: TaskTrackerToken,
    ) -> Result<Tried, Error> {
        match self.lease(&stored, adapter.descriptor().tokens.refresh).await? {
            RefreshLease::Won => {}
            RefreshLease::Busy { until } => return Ok(Tried::Busy { until }),
            RefreshLease::Stale => return Ok(Tried::Stale),
        }
        // An adapter that makes several calls must not outlive the lease.
        let patience = LEASE.mul_f64(0.75);
        let connection = &stored.connection;
        let asking = trace::refresh(&connection.platform, connection.id, adapter.connect().refresh(&self.cx, &current));
        let asked = tokio::time::timeout(patience, asking).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "token.refresh").message("the refresh did not finish within its lease"))
        });
        let outcome = asked.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        meter::refreshed(&stored.connection.platform, outcome);
        match asked {
            Ok(new) => self.renewed(stored, Arc::new(new), &*adapter, under_way).await,
            Err(error) => self.failed(stored, current, &*adapter, error, forced).await,
        }
        .map(Tried::Done)
    }

    async fn lease(&self, stored: &StoredTokens, style: RefreshStyle) -> Result<RefreshLease, Error> {
        let now = self.cx.now();
        if let Some(until) = stored.refresh_lease_until.filter(|until| *until > now) {
            return Ok(RefreshLease::Busy { until });
        }
        let until = later(now, signed(LEASE));
        let (id, version, rotates) = (stored.connection.id, stored.connection.version, style == RefreshStyle::Rotating);
        in_time("token.lease", self.store.lease_refresh(id, version, now, until, rotates)).await
    }

    async fn renewed(
        self: Arc<Self>,
        stored: StoredTokens,
        new: Arc<TokenSet>,
        adapter: &dyn Platform,
        under_way: TaskTrackerToken,
    ) -> Result<Served, Error> {
        let (id, seen) = (stored.connection.id, stored.connection.version);
        // From here on this is the only copy of what the network gave.
        self.cache().keep_unsaved(id, seen, &new);
        let style = adapter.descriptor().tokens.refresh;
        let mut only_copy = Some(under_way);
        let tokens = match self.save(&stored, &new, style, &mut only_copy).await {
            Ok(tokens) => tokens,
            Err(error) if is_passing(&error) => {
                tracing::warn!(connection.id = %id, %error, "new tokens could not be stored yet; they are kept in memory");
                let (keeper, tokens) = (Arc::clone(&self), Arc::clone(&new));
                tokio::spawn(keeper.save_later(stored, tokens, style, only_copy));
                new
            }
            Err(error) => {
                self.cache().forget_unsaved(id);
                return Err(error);
            }
        };
        Ok(Served { tokens, renewed: true, noticed: false, failed: None })
    }

    /// Stores new tokens if those that they replace are still there. Answers with the tokens that count afterwards. Empties `only_copy` once
    /// they are on disk, be it beside a store that does not take them.
    async fn save(
        &self,
        stored: &StoredTokens,
        new: &Arc<TokenSet>,
        style: RefreshStyle,
        only_copy: &mut Option<TaskTrackerToken>,
    ) -> Result<Arc<TokenSet>, Error> {
        let connection = &stored.connection;
        let now = self.cx.now();
        let next = connection.version.next();
        let binding = token_binding(connection.user, connection.id, &connection.platform, next);
        let sealed = self.vault.seal(&binding, &new.to_plain()).await.map_err(vault_failed)?;
        let mut renewed = connection.clone();
        if !new.scopes.is_empty() {
            renewed.granted_scopes.clone_from(&new.scopes);
        }
        renewed.status =
            if renewed.missing_scopes().is_empty() { ConnectionStatus::Active } else { ConnectionStatus::Limited };
        (renewed.expires_at, renewed.version, renewed.updated_at) = (new.expires_at, next, now);
        let update = TokenUpdate {
            tokens: SealedTokens(sealed),
            expires_at: new.expires_at,
            refresh_expires_at: new.refresh_expires_at,
            refreshable: can_refresh(style, new, now),
            granted_scopes: renewed.granted_scopes.clone(),
            status: renewed.status,
            at: now,
        };
        let storing = in_time("token.store", self.store.replace(connection.id, connection.version, &update));
        let kept = || drop(only_copy.take());
        let replaced = self
            .spill
            .attend_tokens(self.cx.clock(), (connection.id, connection.version, &update), storing, kept)
            .await;
        match replaced? {
            Swap::Done => {
                let mut cache = self.cache();
                cache.forget_unsaved(connection.id);
                cache.keep(connection.id, next, new, Life::of(&renewed).due_at());
                Ok(Arc::clone(new))
            }
            // The person connected again or disconnected meanwhile: what is stored now counts.
            Swap::Stale => {
                let newest = self.newest(connection.id).await;
                self.cache().forget_unsaved(connection.id);
                newest
            }
        }
    }

    /// What the store holds now, opened.
    async fn newest(&self, id: ConnectionId) -> Result<Arc<TokenSet>, Error> {
        let stored = in_time("token.get", self.store.get(id)).await?.ok_or_else(|| gone(id))?;
        let tokens = self.open(&stored).await?;
        self.cache().keep(id, stored.connection.version, &tokens, Life::of(&stored.connection).due_at());
        Ok(tokens)
    }

    /// Goes on trying to store the only copy of new tokens.
    async fn save_later(
        self: Arc<Self>,
        stored: StoredTokens,
        new: Arc<TokenSet>,
        style: RefreshStyle,
        mut only_copy: Option<TaskTrackerToken>,
    ) {
        let id = stored.connection.id;
        let mut pause = Duration::from_millis(250);
        let give_up = later(self.cx.now(), signed(SAVE_FOR));
        while self.cx.now() < give_up {
            self.cx.clock().sleep_until(later(self.cx.now(), signed(pause))).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            // Erased meanwhile, or replaced: there is nothing to save.
            if self.cache().unsaved(id, stored.connection.version).is_none() {
                return;
            }
            match self.save(&stored, &new, style, &mut only_copy).await {
                Ok(_) => {
                    tracing::info!(connection.id = %id, "tokens that were kept in memory are stored now");
                    return;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    tracing::warn!(connection.id = %id, %error, "tokens that were kept in memory are not needed any more");
                    self.cache().forget_unsaved(id);
                    return;
                }
            }
        }
        tracing::error!(connection.id = %id, "tokens could not be stored for a day and are lost");
        self.cache().forget_unsaved(id);
    }

    async fn failed(
        &self,
        stored: StoredTokens,
        current: Arc<TokenSet>,
        adapter: &dyn Platform,
        error: Error,
        forced: bool,
    ) -> Result<Served, Error> {
        let (id, seen) = (stored.connection.id, stored.connection.version);
        let now = self.cx.now();
        let life = Life::of(&stored.connection);
        if error.kind() == ErrorKind::Reconnect {
            return self.ended(&stored, error).await;
        }
        let rotating = adapter.descriptor().tokens.refresh == RefreshStyle::Rotating;
        // The intent of an earlier try whose outcome nobody knows, be it lost on the line or with its process.
        let doubted_before = rotating && stored.refresh_intent_at.is_some();
        let in_doubt = rotating && error.effect() == Effect::Unknown;
        // A network that answers "server error" is there and says that it did not work; silence is the doubtful case.
        let silence = error.provider_error().and_then(|said| said.status).is_none_or(|status| status < 500);
        if in_doubt && silence && doubted_before && life.has_ended(now) {
            in_time("token.failed", self.store.refresh_failed(id, seen, later(now, signed(BURIAL)), false)).await?;
            return Err(self
                .bury(&stored, "the answers to two refreshes were lost, and the old token has ended")
                .await?);
        }
        let own = PAUSES.interval(stored.refresh_failures.saturating_add(1));
        let pause = match (error.kind(), error.retry_hint()) {
            (ErrorKind::Config | ErrorKind::Billing, _) => OPERATOR_PAUSE,
            (_, Retry::After(asked)) => own.max(asked).min(crate::retry::RETRY_AFTER_MAX),
            _ if in_doubt && !doubted_before => DOUBT_PAUSE,
            _ => own.mul_f64(1.0 + self.cx.chance().unit() / 4.0),
        };
        let free_at = later(now, signed(pause));
        if let Err(unrecorded) =
            in_time("token.failed", self.store.refresh_failed(id, seen, free_at, in_doubt || doubted_before)).await
        {
            // The lease ends by itself.
            tracing::warn!(connection.id = %id, error = %unrecorded, "a failed refresh could not be recorded");
        }
        let failures = stored.refresh_failures.saturating_add(1);
        if failures.is_multiple_of(FAILURES_TO_WARN) {
            tracing::warn!(connection.id = %id, platform.id = %stored.connection.platform, failures, %error, "a token could not be refreshed for hours");
        } else {
            tracing::info!(connection.id = %id, platform.id = %stored.connection.platform, failures, %error, "a token could not be refreshed for now");
        }
        if !forced && life.is_usable(now) {
            self.cache().keep(id, seen, &current, Some(free_at.min(life.usable_until())));
            return Ok(Served { tokens: current, renewed: false, noticed: false, failed: Some(error) });
        }
        Err(match error.kind() {
            ErrorKind::Config | ErrorKind::Billing => error,
            _ => error.retry_after(positive(free_at.duration_since(now)).unwrap_or(pause)),
        }
        .effect_none())
    }

    /// The network says that the grant is dead. Before that is believed: another worker may have replaced the tokens that it speaks of.
    async fn ended(&self, stored: &StoredTokens, error: Error) -> Result<Served, Error> {
        let (id, seen) = (stored.connection.id, stored.connection.version);
        let newest = in_time("token.get", self.store.get(id)).await?.ok_or_else(|| gone(id))?;
        if newest.connection.version != seen {
            return self.newest(id).await.map(Served::as_they_are);
        }
        in_time("token.failed", self.store.refresh_failed(id, seen, later(self.cx.now(), signed(BURIAL)), false))
            .await?;
        let buried = self.bury(stored, "the network ended the grant").await?;
        if buried.kind() != ErrorKind::Reconnect {
            return Err(buried);
        }
        let said = error.provider_error().cloned();
        let dead = dead(stored).message("the network ended the grant").advice(error.advice_text().to_owned());
        Err(match said {
            Some(said) => dead.provider(said),
            None => dead,
        })
    }
}

/// Whether storing may work later.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Storage | ErrorKind::Unavailable)
}
