//! Takes one claimed delivery as far as it gets. The rules of publishing live here: what is written before which call, and what a
//! lost answer means.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    account::{AccountStatus, TokenSet},
    context::PublishContext,
    draft::Draft,
    engine::{Journal, LeaseGuard},
    error::{Actor, Effect, Error, ErrorKind, Retry},
    id::LogId,
    phase::{Checkpoint, Event, Phase, PhaseName, RemotePost, invariant},
    platform::{Committed, Platform, Prepared, Reconciled, Settled},
    rate::{Ask, BucketKey, Outcome, RateScope, Turn, Verdict},
    social::Inner,
    store::{Claimed, Delivery, ErrorPatch, Held, LeaseAfter, LogEntry, PhaseWrite},
    time::{later, positive, signed},
};

/// A worker that died with a delivery this often before anything was visible parks it as failed.
const MOST_CRASHES: u32 = 3;
/// After so many fruitless looks a delivery in doubt goes to a person: at 30 s, 2, 5, 10 minutes and once more.
const MOST_LOOKS: u32 = 5;
/// A doubt or a settling that lasts this long goes to a person, whatever the adapter says.
const LONGEST_DOUBT: Duration = Duration::from_secs(24 * 3600);
/// What must be left of the lease beyond the deadline of the visible call.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// How long a post waits for an operator before it is looked at again.
const OPERATOR_PAUSE: Duration = Duration::from_secs(300);
/// A half-made thread that waits for a reconnect is looked at this often.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a run with a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It rests in this phase.
    At(PhaseName),
    /// Somebody else owns it now.
    LeaseLost,
    /// It was handed back because the worker is stopping.
    HandedBack,
}

/// One run with one delivery.
pub(crate) struct Driver<'a> {
    inner: &'a Arc<Inner>,
    journal: &'a Journal,
    lease: &'a LeaseGuard,
    claimed: Claimed,
    /// What this account says: overrides are applied.
    draft: Draft,
    /// Tokens were refreshed once in this run already.
    refreshed: bool,
    /// It was told to wait for a limit before.
    waited: bool,
}

/// What to do after a step.
enum Flow {
    Go,
    Stop(Stopped),
}

/// A durable change in the making.
struct Change {
    event: Event,
    wake_at: Option<Timestamp>,
    lease: LeaseAfter,
    attempt: u32,
    crashes: u32,
    committing_since: Option<Timestamp>,
    part: Option<RemotePost>,
    error: ErrorPatch,
    success: Option<bool>,
    response: Value,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>, journal: &'a Journal, lease: &'a LeaseGuard, claimed: Claimed) -> Self {
        let waited = claimed.delivery.phase.name() == PhaseName::AwaitingLimit;
        let draft = claimed.draft.resolve(&claimed.delivery.platform, claimed.delivery.account);
        Self { inner, journal, lease, claimed, draft, refreshed: false, waited }
    }

    /// Goes on until the delivery rests, is lost, or is handed back.
    ///
    /// # Errors
    /// `Storage` if a write could not be made; the delivery is found again when its lease has ended.
    pub(crate) async fn run(mut self) -> Result<Stopped, Error> {
        let platform = match self.inner.platform(&self.claimed.delivery.platform) {
            Ok(platform) => platform.clone(),
            // Another worker may have the adapter; this one never will.
            Err(error) => return self.fail(error).await.map(stopped),
        };
        loop {
            let flow = match &self.claimed.delivery.phase {
                Phase::Committing { at } => {
                    debug_assert!(invariant::must_reconcile(&self.claimed.delivery.phase));
                    let at = at.clone();
                    self.reconcile(&*platform, at).await?
                }
                Phase::Settling { at } => {
                    let at = at.clone();
                    self.settle(&*platform, at).await?
                }
                // The checkpoint of a delivery in flight could not be read (I8): it was restored as unconfirmed and is written as such.
                Phase::Unconfirmed { .. } => self.write_unreadable().await?,
                phase if phase.name().is_final() => Flow::Stop(Stopped::At(phase.name())),
                _ => self.publish(&*platform).await?,
            };
            if let Flow::Stop(stopped) = flow {
                return Ok(stopped);
            }
        }
    }

    fn delivery(&self) -> &Delivery {
        &self.claimed.delivery
    }

    fn now(&self) -> Timestamp {
        self.inner.cx.now()
    }

    /// Prepare, permit, commit: one round.
    async fn publish(&mut self, platform: &dyn Platform) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let now = self.now();
        let delivery = self.delivery();
        let latest = later(delivery.due_at, signed(delivery.late_limit));
        // What is half out is finished however late it is.
        if now > latest && delivery.parts.is_empty() {
            let late_s = now.duration_since(delivery.due_at).as_secs();
            return self.rest(Event::TooLate, None, None, Some(false), json!({ "late_s": late_s })).await;
        }
        if self.claimed.account.status == AccountStatus::Disconnected {
            let gone = Error::new(ErrorKind::Reconnect, "publish.prepare")
                .message("the user disconnected this account")
                .advice("This account was disconnected. Connect it again if this post should still go out.")
                .effect_none();
            return self.failed_without_effect(gone, None).await;
        }
        if delivery.crashes >= MOST_CRASHES {
            let error = Error::new(ErrorKind::Unexpected, "publish.prepare")
                .message("workers died repeatedly while preparing this delivery")
                .advice(
                    "Preparing this post broke our worker several times. Please tell whoever runs this installation.",
                )
                .actor(Actor::Operator)
                .retry(Retry::Never)
                .effect_none();
            return self.fail(error).await;
        }
        let keys = self.keys(platform);
        if let Some(wait) = self.inner.rates.check(now, &keys) {
            return self.await_limit(wait.until, json!({ "rule": wait.rule, "reason": wait.reason })).await;
        }
        let tokens =
            match self.inner.keeper.tokens(self.claimed.account.connection, Some(self.claimed.token_version)).await {
                Ok(tokens) => tokens,
                Err(error) => return self.without_tokens(error).await,
            };
        if self.delivery().crashes > 0 {
            // A worker died with it, perhaps because of it. That this one begins is written down, so that only those that were begun count
            // as suspects when it dies too.
            let begun = self.change(Event::Started, LeaseAfter::Keep);
            if let Flow::Stop(stopped) = self.write(begun).await? {
                return Ok(Flow::Stop(stopped));
            }
        } else {
            self.advance(Event::Started)?;
        }
        let ready = loop {
            if self.lease.stopping() {
                return self.hand_back().await;
            }
            let from = self.delivery().phase.checkpoint().cloned();
            let taken = HashSet::new();
            let cx = self.context(&tokens, &taken);
            let prepared = tokio::select! {
                prepared = platform.publish().prepare(&cx, from) => prepared,
                () = self.lease.lost() => return Ok(Flow::Stop(Stopped::LeaseLost)),
                () = self.lease.stop_requested() => return self.hand_back().await,
            };
            self.observe(&cx);
            drop(cx);
            match prepared {
                Ok(Prepared::Ready(at)) => break at,
                Ok(Prepared::Again(at)) => {
                    let mut further = self.change(Event::Progressed(at), LeaseAfter::Keep);
                    further.crashes = 0;
                    let wrote = self.write(further).await?;
                    if let Flow::Stop(stopped) = wrote {
                        return Ok(Flow::Stop(stopped));
                    }
                }
                Ok(Prepared::Wait { at, poll_after }) => {
                    let wake_at = later(self.now(), signed(poll_after));
                    return self
                        .rest(
                            Event::Progressed(at),
                            Some(wake_at),
                            None,
                            None,
                            json!({ "poll_after_ms": poll_after.as_millis() }),
                        )
                        .await;
                }
                Err(error) => return self.failed_without_effect(error.effect_none(), Some(&tokens)).await,
            }
        };
        self.advance(Event::Prepared(ready))?;
        self.commit(platform, &tokens, &keys).await
    }

    /// The write-ahead, the last checks, the one visible call, and what its answer means.
    async fn commit(
        &mut self,
        platform: &dyn Platform,
        tokens: &Arc<TokenSet>,
        keys: &[BucketKey],
    ) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let deadline = platform.descriptor().flow.commit_deadline();
        let turn = if self.waited { Turn::Waited } else { Turn::New };
        let ask = Ask { units: 1, turn, chance: self.inner.cx.chance().unit() };
        let permit = match self.inner.rates.reserve(self.now(), keys, ask) {
            Verdict::Go(permit) => permit,
            Verdict::Wait(wait) => {
                return self.await_limit(wait.until, json!({ "rule": wait.rule, "reason": wait.reason })).await;
            }
        };

        // The write-ahead: from here on the delivery may be visible, and a restart will ask before it sends (I1, I2).
        let before = self.delivery().attempt;
        let mut ahead = self.change(Event::Permitted, LeaseAfter::Keep);
        ahead.attempt = before + 1;
        ahead.committing_since = Some(self.now());
        match self.write(ahead).await {
            Ok(Flow::Go) => {}
            Ok(stop) => {
                self.inner.rates.settle(self.now(), permit, Outcome::Unused);
                return Ok(stop);
            }
            Err(error) => {
                self.inner.rates.settle(self.now(), permit, Outcome::Unused);
                return Err(error);
            }
        }

        // The last thing before the request leaves: is this still ours for as long as the call may take (E5)?
        let held = self.lease.remaining() > deadline + LEASE_MARGIN;
        if !held {
            self.inner.rates.settle(self.now(), permit, Outcome::Unused);
            let mut back = self.change(Event::PermitReturned, LeaseAfter::Release);
            back.attempt = before;
            back.wake_at = Some(self.now());
            return Ok(match self.write(back).await? {
                Flow::Go => Flow::Stop(Stopped::HandedBack),
                stop => stop,
            });
        }
        let Phase::Committing { at } = self.delivery().phase.clone() else {
            return Err(Error::new(ErrorKind::Unexpected, "publish.commit")
                .message("the write-ahead did not lead to committing")
                .effect_none());
        };
        debug_assert!(invariant::may_commit(&self.delivery().phase, held));
        let taken = HashSet::new();
        let cx = self.context(tokens, &taken);
        let lateness = positive(self.now().duration_since(self.delivery().due_at)).unwrap_or_default();
        let answer = tokio::time::timeout(deadline, platform.publish().commit(&cx, at)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "publish.commit").message("no answer within the deadline"))
        });
        self.observe(&cx);
        drop(cx);
        if before == 0 && self.delivery().parts.is_empty() {
            metrics::histogram!("social_lateness_seconds", "platform" => self.delivery().platform.to_string())
                .record(lateness.as_secs_f64());
        }
        let outcome = match &answer {
            Ok(_) => Outcome::Accepted,
            Err(error) if error.effect() == Effect::Unknown => Outcome::Inconclusive,
            Err(error) if limits(error.kind()) => Outcome::Refused { scope: error.scope(), until: self.until(error) },
            Err(_) => Outcome::Accepted,
        };
        self.inner.rates.settle(self.now(), permit, outcome);
        match answer {
            Ok(Committed::Published(remote)) => self.published(remote).await,
            Ok(Committed::Next { at, part }) => self.part_published(at, part).await,
            Ok(Committed::Settling { at, poll_after }) => self.accepted(at, poll_after).await,
            Err(error) if error.effect() == Effect::Unknown => {
                let wait = platform.descriptor().flow.reconcile_after();
                let mut doubt = self.change(Event::ReplyLost, LeaseAfter::Release);
                doubt.wake_at = Some(later(self.now(), signed(wait)));
                doubt.success = Some(false);
                doubt.response = json!({ "error": error, "ask_after_ms": wait.as_millis() });
                doubt.error = ErrorPatch::Set(as_json(&error));
                self.stop_after(doubt).await
            }
            Err(error) => {
                self.claimed.delivery.attempt = before;
                self.failed_without_effect(error, Some(tokens)).await
            }
        }
    }

    /// Asks the network what became of a visible call whose answer was lost.
    async fn reconcile(&mut self, platform: &dyn Platform, at: Checkpoint) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let now = self.now();
        let since = self.delivery().committing_since.unwrap_or(now);
        let ask_at = later(since, signed(platform.descriptor().flow.reconcile_after()));
        if now < ask_at {
            // A worker died right after the write-ahead: the network needs a moment before its answer means anything.
            self.journal.rest(self.lease.lease(), ask_at).await?;
            return Ok(Flow::Stop(Stopped::At(PhaseName::Committing)));
        }
        let doubted = now.duration_since(since);
        let tokens =
            match self.inner.keeper.tokens(self.claimed.account.connection, Some(self.claimed.token_version)).await {
                Ok(tokens) => tokens,
                Err(error) => return self.look_failed(error).await,
            };
        let known = self.inner.store.remote_ids(self.delivery().account, later(since, -signed(LONGEST_DOUBT))).await?;
        let taken: HashSet<String> = known.into_iter().collect();
        // Asking may mean sending the identical call, so it needs the lease as much as the call itself (E5).
        if self.lease.remaining() <= platform.descriptor().flow.commit_deadline() + LEASE_MARGIN {
            return self.hand_back().await;
        }
        let mut cx = self.context(&tokens, &taken);
        cx.attempted_at = since;
        let found = tokio::select! {
            found = platform.publish().reconcile(&cx, at) => found,
            () = self.lease.lost() => return Ok(Flow::Stop(Stopped::LeaseLost)),
        };
        self.observe(&cx);
        drop(cx);
        match found {
            Ok(Reconciled::Published(remote)) => self.published(remote).await,
            Ok(Reconciled::Next { at, part }) => self.part_published(at, part).await,
            Ok(Reconciled::Settling { at, poll_after }) => self.accepted(at, poll_after).await,
            Ok(Reconciled::NotPublished) => {
                let mut absent = self.change(Event::ProvenAbsent, LeaseAfter::Keep);
                absent.response = json!({ "doubted_s": doubted.as_secs() });
                absent.crashes = 0;
                absent.error = ErrorPatch::Clear;
                self.write(absent).await
            }
            Ok(Reconciled::AskAgain { at, after }) if doubted < signed(LONGEST_DOUBT) => {
                let wake_at = later(self.now(), signed(after));
                self.rest(
                    Event::StillUnknown(at),
                    Some(wake_at),
                    None,
                    None,
                    json!({ "ask_after_ms": after.as_millis() }),
                )
                .await
            }
            Ok(Reconciled::AskAgain { .. } | Reconciled::CannotTell) => self.unconfirmed(None).await,
            Err(error) => self.look_refused(error, &tokens).await,
        }
    }

    /// Asks whether the network has finished with what it accepted.
    async fn settle(&mut self, platform: &dyn Platform, at: Checkpoint) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let since = self.delivery().committing_since.unwrap_or_else(|| self.now());
        let tokens =
            match self.inner.keeper.tokens(self.claimed.account.connection, Some(self.claimed.token_version)).await {
                Ok(tokens) => tokens,
                Err(error) => return self.look_failed(error).await,
            };
        let taken = HashSet::new();
        let cx = self.context(&tokens, &taken);
        let settled = tokio::select! {
            settled = platform.publish().settle(&cx, at) => settled,
            () = self.lease.lost() => return Ok(Flow::Stop(Stopped::LeaseLost)),
        };
        self.observe(&cx);
        drop(cx);
        match settled {
            Ok(Settled::Published(remote)) => self.published(remote).await,
            Ok(Settled::Wait { at, poll_after }) if self.now().duration_since(since) < signed(LONGEST_DOUBT) => {
                let wake_at = later(self.now(), signed(poll_after));
                self.rest(
                    Event::Accepted(at),
                    Some(wake_at),
                    None,
                    None,
                    json!({ "poll_after_ms": poll_after.as_millis() }),
                )
                .await
            }
            Ok(Settled::Wait { .. }) => self.unconfirmed(None).await,
            Ok(Settled::Rejected(error)) => self.fail(error).await,
            Err(error) => self.look_refused(error, &tokens).await,
        }
    }

    async fn published(&mut self, remote: RemotePost) -> Result<Flow, Error> {
        let first = self.delivery().parts.first().cloned();
        // An adapter that leaves the last part out (a comment that is not permitted) answers with the post itself.
        let part = first.as_ref().filter(|first| **first != remote).map(|_| remote.clone());
        let whole = first.unwrap_or(remote);
        let mut out = self.change(Event::Published(whole.clone()), LeaseAfter::Release);
        out.part = part;
        out.success = Some(true);
        out.response = json!({ "remote_id": whole.id, "permalink": whole.permalink });
        out.error = ErrorPatch::Clear;
        out.crashes = 0;
        self.stop_after(out).await
    }

    async fn part_published(&mut self, at: Checkpoint, part: RemotePost) -> Result<Flow, Error> {
        let mut next = self.change(Event::PartPublished(at), LeaseAfter::Keep);
        next.success = Some(true);
        next.response = json!({ "remote_id": part.id, "permalink": part.permalink });
        next.part = Some(part);
        next.error = ErrorPatch::Clear;
        // The parts are tries of their own.
        (next.attempt, next.crashes) = (0, 0);
        self.write(next).await
    }

    async fn accepted(&mut self, at: Checkpoint, poll_after: Duration) -> Result<Flow, Error> {
        let wake_at = later(self.now(), signed(poll_after));
        self.rest(
            Event::Accepted(at),
            Some(wake_at),
            Some(ErrorPatch::Clear),
            Some(true),
            json!({ "poll_after_ms": poll_after.as_millis() }),
        )
        .await
    }

    async fn unconfirmed(&mut self, error: Option<&Error>) -> Result<Flow, Error> {
        tracing::warn!(delivery.id = %self.delivery().id, platform.id = %self.delivery().platform, "nobody can tell whether a delivery is out; a person has to look");
        let doubt = Error::new(ErrorKind::Unexpected, "publish.reconcile")
            .message("the network cannot be asked whether the post is out")
            .advice("We cannot find out whether this post is published. Please look at the account and tell us what you see.")
            .actor(Actor::User)
            .retry(Retry::Never);
        let patch = ErrorPatch::Set(error.map_or_else(|| as_json(&doubt), as_json));
        self.rest(Event::CannotTell, None, Some(patch), Some(false), json!({ "error": error })).await
    }

    async fn write_unreadable(&mut self) -> Result<Flow, Error> {
        // The store still says committing or settling; the event below is legal there, and the row moves on under our epoch.
        self.claimed.delivery.phase = Phase::Committing { at: Checkpoint::write(0, &json!(null)) };
        self.unconfirmed(None).await
    }

    /// A look at the network (reconcile, settle) did not work. The delivery stays in its phase, and after some looks goes to a person.
    async fn look_failed(&mut self, error: Error) -> Result<Flow, Error> {
        let looks = self.delivery().crashes + 1;
        let since = self.delivery().committing_since.unwrap_or_else(|| self.now());
        let too_long = self.now().duration_since(since) >= signed(LONGEST_DOUBT);
        let patient = matches!(error.kind(), ErrorKind::Storage | ErrorKind::RateLimited | ErrorKind::Quota);
        if too_long || (looks >= MOST_LOOKS && !patient) {
            return self.unconfirmed(Some(&error)).await;
        }
        let wait = match (error.retry_hint(), looks) {
            (Retry::After(wait), _) => wait,
            (_, 1) => Duration::from_secs(30),
            (_, 2) => Duration::from_secs(120),
            (_, 3) => Duration::from_secs(300),
            _ => Duration::from_secs(600),
        };
        let same = self.delivery().phase.checkpoint().cloned();
        let event = match (&self.delivery().phase, same) {
            (Phase::Settling { .. }, Some(at)) => Event::Accepted(at),
            _ => Event::ReplyLost,
        };
        let mut again = self.change(event, LeaseAfter::Release);
        again.crashes = looks;
        again.wake_at = Some(later(self.now(), signed(wait)));
        again.success = Some(false);
        again.response = json!({ "error": error, "ask_after_ms": wait.as_millis() });
        again.error = ErrorPatch::Set(as_json(&error));
        self.stop_after(again).await
    }

    /// The tokens cannot be had. Nothing of that is the post's fault, so nothing of it fails the post.
    async fn without_tokens(&mut self, error: Error) -> Result<Flow, Error> {
        let error = error.effect_none();
        match error.kind() {
            // The grant was erased since the claim: the account may have moved to a newer one.
            ErrorKind::NotFound => {
                let gone = Error::new(ErrorKind::Reconnect, "token.open")
                    .message("the connection is not there any more")
                    .effect_none();
                self.failed_without_effect(gone, None).await
            }
            // The operator has to mend something; the schedule is kept meanwhile.
            ErrorKind::Config | ErrorKind::Billing => {
                if !matches!(
                    self.delivery().phase.name(),
                    PhaseName::Preparing | PhaseName::Ready | PhaseName::Committing
                ) {
                    self.advance(Event::Started)?;
                }
                let again = later(self.now(), signed(OPERATOR_PAUSE));
                self.rest_with_error(Event::FailedForNow, again, &error).await
            }
            _ => self.failed_without_effect(error, None).await,
        }
    }

    /// A look at the network was refused because of the token: it is refreshed once, and the look is made again.
    async fn look_refused(&mut self, error: Error, tokens: &TokenSet) -> Result<Flow, Error> {
        if error.kind() == ErrorKind::Reconnect && !self.refreshed {
            self.refreshed = true;
            if self.inner.keeper.refused(self.claimed.account.connection, tokens).await.is_ok() {
                return Ok(Flow::Go);
            }
        }
        self.look_failed(error).await
    }

    /// Something failed and it is certain that nothing became visible: wait, try again, or give up.
    async fn failed_without_effect(&mut self, error: Error, tokens: Option<&Arc<TokenSet>>) -> Result<Flow, Error> {
        let now = self.now();
        let name = self.delivery().phase.name();
        if name.can_cancel() && !matches!(name, PhaseName::Preparing | PhaseName::Ready) {
            self.advance(Event::Started)?;
        }
        match error.kind() {
            ErrorKind::Reconnect => {
                // The token was believed to be good: refresh it once and go on; a commit gets a new permit.
                if let Some(tokens) = tokens.filter(|_| !self.refreshed) {
                    self.refreshed = true;
                    match self.inner.keeper.refused(self.claimed.account.connection, tokens).await {
                        Ok(_) => {
                            let mut again = self.change(Event::FailedForNow, LeaseAfter::Keep);
                            again.success = Some(false);
                            again.response = json!({ "error": error, "then": "refreshed" });
                            return self.write(again).await;
                        }
                        Err(dead) if dead.kind() == ErrorKind::Reconnect => {}
                        Err(other) => return Box::pin(self.without_tokens(other)).await,
                    }
                }
                self.await_reconnect(&error).await
            }
            kind if limits(kind) && matches!(error.retry_hint(), Retry::After(_)) => {
                let until = self.until(&error).unwrap_or_else(|| later(now, signed(Duration::from_secs(60))));
                if name != PhaseName::Committing {
                    // A commit has reported to the ledger already.
                    let scope = error.scope().unwrap_or(RateScope::Account);
                    let keys = self.all_keys("media");
                    if let Some(key) = keys.iter().find(|key| key.scope() == scope).or(keys.first()) {
                        self.inner.rates.block(now, key, Some(until));
                    }
                }
                self.rest_with_error(Event::Limited, until, &error).await
            }
            _ => match error.retry_hint() {
                Retry::Never => self.fail(error).await,
                // The grant works, but not for this: granting more is the cure.
                Retry::AfterReconnect => self.await_reconnect(&error).await,
                Retry::After(wait) => self.rest_with_error(Event::FailedForNow, later(now, signed(wait)), &error).await,
                Retry::Backoff => {
                    let attempt = self.delivery().attempt + 1;
                    let chance = self.inner.cx.chance();
                    match self.inner.retry.delay(attempt, &mut || chance.unit()) {
                        Some(wait) => {
                            self.claimed.delivery.attempt = attempt;
                            self.rest_with_error(Event::FailedForNow, later(now, signed(wait)), &error).await
                        }
                        None => self.fail(error).await,
                    }
                }
            },
        }
    }

    /// Waits for the user to connect again; looked at once more when it has become too late.
    async fn await_reconnect(&mut self, error: &Error) -> Result<Flow, Error> {
        let too_late = later(self.delivery().due_at, signed(self.delivery().late_limit + Duration::from_secs(1)));
        let wake_at = if too_late > self.now() { too_late } else { later(self.now(), signed(PATIENCE)) };
        let flow = self.rest_with_error(Event::ConnectionLost, wake_at, error).await?;
        // The user may have connected again while we held the delivery, when there was nothing waiting to be released yet.
        let (user, id) = (self.delivery().user, self.delivery().account);
        let moved = self.inner.store.account(user, id).await?;
        if moved.is_some_and(|account| account.connection != self.claimed.account.connection) {
            self.inner.store.release_reconnected(id, self.now()).await?;
        }
        Ok(flow)
    }

    async fn await_limit(&mut self, until: Timestamp, response: Value) -> Result<Flow, Error> {
        let name = self.delivery().phase.name();
        if !matches!(name, PhaseName::Preparing | PhaseName::Ready) {
            self.advance(Event::Started)?;
        }
        let error = Error::new(ErrorKind::RateLimited, "publish.limit")
            .message("a limit of the network has to pass")
            .effect_none();
        let patch = ErrorPatch::Set(as_json(&error));
        let wake_at = self.before_too_late(until);
        self.rest(Event::Limited, Some(wake_at), Some(patch), None, response).await
    }

    /// A wait that lasts beyond the late limit ends with it: who waits in vain learns it then, not a day later.
    fn before_too_late(&self, until: Timestamp) -> Timestamp {
        if !self.delivery().parts.is_empty() {
            return until;
        }
        let late = later(self.delivery().due_at, signed(self.delivery().late_limit + Duration::from_secs(1)));
        until.min(late.max(self.now()))
    }

    async fn fail(&mut self, error: Error) -> Result<Flow, Error> {
        let name = self.delivery().phase.name();
        if name.can_cancel() && !matches!(name, PhaseName::Preparing | PhaseName::Ready) {
            self.advance(Event::Started)?;
        }
        tracing::warn!(delivery.id = %self.delivery().id, platform.id = %self.delivery().platform, %error, "a delivery failed for good");
        let patch = ErrorPatch::Set(as_json(&error));
        self.claimed.delivery.attempt += u32::from(name != PhaseName::Settling);
        self.rest(Event::FailedForGood, None, Some(patch), Some(false), json!({ "error": error })).await
    }

    async fn rest_with_error(&mut self, event: Event, wake_at: Timestamp, error: &Error) -> Result<Flow, Error> {
        let wake_at = self.before_too_late(wake_at);
        let patch = ErrorPatch::Set(as_json(error));
        self.rest(event, Some(wake_at), Some(patch), Some(false), json!({ "error": error })).await
    }

    /// Writes a change after which the delivery rests, and ends the run.
    async fn rest(
        &mut self,
        event: Event,
        wake_at: Option<Timestamp>,
        error: Option<ErrorPatch>,
        success: Option<bool>,
        response: Value,
    ) -> Result<Flow, Error> {
        let mut change = self.change(event, LeaseAfter::Release);
        change.wake_at = wake_at;
        change.error = error.unwrap_or(ErrorPatch::Keep);
        change.success = success;
        change.response = response;
        change.crashes = 0;
        self.stop_after(change).await
    }

    async fn stop_after(&mut self, change: Change) -> Result<Flow, Error> {
        Ok(match self.write(change).await? {
            Flow::Go => Flow::Stop(Stopped::At(self.delivery().phase.name())),
            stop => stop,
        })
    }

    /// Gives the delivery back untouched: what was prepared since the last write may be repeated.
    async fn hand_back(&mut self) -> Result<Flow, Error> {
        self.journal.rest(self.lease.lease(), self.now()).await?;
        Ok(Flow::Stop(Stopped::HandedBack))
    }

    fn change(&self, event: Event, lease: LeaseAfter) -> Change {
        let delivery = self.delivery();
        Change {
            event,
            wake_at: None,
            lease,
            attempt: delivery.attempt,
            crashes: delivery.crashes,
            committing_since: delivery.committing_since,
            part: None,
            error: ErrorPatch::Keep,
            success: None,
            response: json!({}),
        }
    }

    /// A change that needs no write: preparing again from a checkpoint is repeatable.
    fn advance(&mut self, event: Event) -> Result<(), Error> {
        let phase = self.delivery().phase.clone().on(event).map_err(illegal)?;
        self.claimed.delivery.phase = phase;
        Ok(())
    }

    /// Writes a change durably, phase and history in one, under our epoch.
    async fn write(&mut self, change: Change) -> Result<Flow, Error> {
        let name = change.event.name();
        let before = self.delivery().phase.name();
        debug_assert!(invariant::may_leave(before, &change.event));
        let phase = self.delivery().phase.clone().on(change.event).map_err(illegal)?;
        debug_assert!(!invariant::keeps_attempt(phase.name()) || change.attempt <= self.delivery().attempt);
        let remote = match &phase {
            Phase::Published { remote } => Some(remote.clone()),
            _ => None,
        };
        let committing = matches!(phase.name(), PhaseName::Committing | PhaseName::Settling | PhaseName::Unconfirmed);
        let write = PhaseWrite {
            delivery: self.delivery().id,
            epoch: self.delivery().epoch,
            phase: phase.name(),
            checkpoint: phase.checkpoint().cloned(),
            remote,
            part: change.part.clone(),
            attempt: change.attempt,
            crashes: change.crashes,
            wake_at: change.wake_at,
            due_at: None,
            committing_since: change.committing_since.filter(|_| committing),
            error: change.error.clone(),
            lease: change.lease,
            log: LogEntry {
                id: LogId::new(),
                event: name.to_owned(),
                success: change.success,
                response: change.response,
                at: self.now(),
            },
        };
        // What tells of a visible effect must not get lost while the database is away.
        let must = before == PhaseName::Committing || before == PhaseName::Settling;
        match self.journal.record(write, must).await? {
            Held::Lost => return Ok(Flow::Stop(Stopped::LeaseLost)),
            Held::Yes => {}
        }
        if phase.name().is_final() || phase.name() == PhaseName::Unconfirmed {
            let labels = [("platform", self.delivery().platform.to_string()), ("outcome", phase.name().to_string())];
            metrics::counter!("social_deliveries_total", &labels).increment(1);
        }
        let delivery = &mut self.claimed.delivery;
        delivery.phase = phase;
        delivery.attempt = change.attempt;
        delivery.crashes = change.crashes;
        delivery.committing_since = change.committing_since.filter(|_| committing);
        delivery.parts.extend(change.part);
        match change.error {
            ErrorPatch::Keep => {}
            ErrorPatch::Clear => delivery.error = None,
            ErrorPatch::Set(json) => delivery.error = Some(json),
        }
        Ok(Flow::Go)
    }

    fn context<'b>(&'b self, tokens: &'b TokenSet, taken: &'b HashSet<String>) -> PublishContext<'b> {
        PublishContext::new(
            &self.inner.cx,
            self.delivery().id,
            &self.claimed.account,
            tokens,
            &self.draft,
            &self.delivery().parts,
            self.now(),
            taken,
            &*self.inner.library,
        )
    }

    fn keys(&self, platform: &dyn Platform) -> Vec<BucketKey> {
        let account = &self.claimed.account;
        self.inner.rates.keys(
            platform.descriptor().id.as_str(),
            "publish",
            account.connection.uuid(),
            account.id.uuid(),
        )
    }

    fn all_keys(&self, operation: &str) -> Vec<BucketKey> {
        let account = &self.claimed.account;
        self.inner.rates.keys(account.platform.as_str(), operation, account.connection.uuid(), account.id.uuid())
    }

    /// Passes on what answers said about limits.
    fn observe(&self, cx: &PublishContext<'_>) {
        for seen in cx.take_observed() {
            for key in self.all_keys(&seen.operation).iter().filter(|key| key.scope() == seen.scope) {
                self.inner.rates.observe(self.now(), key, seen.observation);
            }
        }
    }

    fn until(&self, error: &Error) -> Option<Timestamp> {
        match error.retry_hint() {
            Retry::After(wait) => Some(later(self.now(), signed(wait))),
            _ => None,
        }
    }
}

/// Whether errors of this kind are a limit that passes.
fn limits(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::RateLimited | ErrorKind::Quota | ErrorKind::Billing | ErrorKind::Config)
}

fn illegal(error: crate::phase::IllegalTransition) -> Error {
    Error::new(ErrorKind::Unexpected, "driver").message(error.to_string()).effect_none()
}

fn as_json(error: &Error) -> String {
    #[expect(clippy::expect_used, reason = "an error holds strings and numbers only, which always serialise")]
    serde_json::to_string(error).expect("plain data")
}

fn stopped(flow: Flow) -> Stopped {
    match flow {
        Flow::Stop(stopped) => stopped,
        Flow::Go => Stopped::At(PhaseName::Failed),
    }
}
