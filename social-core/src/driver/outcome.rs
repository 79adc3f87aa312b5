//! What follows from an answer: it is out, it waits, it is tried again, it has failed.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Driver, Flow, OPERATOR_PAUSE, PATIENCE, limits, write::as_json};
use crate::{
    account::TokenSet,
    error::{Error, ErrorKind, Retry},
    phase::{Checkpoint, Event, PhaseName, RemotePost},
    rate::{Outcome, RateScope},
    store::{ErrorPatch, LeaseAfter},
    time::{later, signed},
};

impl Driver<'_> {
    pub(super) async fn published(&mut self, remote: RemotePost) -> Result<Flow, Error> {
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

    /// One part is out. `doubt_stays` if those behind it may be out too.
    pub(super) async fn part_published(
        &mut self,
        at: Checkpoint,
        part: RemotePost,
        doubt_stays: bool,
    ) -> Result<Flow, Error> {
        let mut next = self.change(Event::PartPublished(at), LeaseAfter::Keep);
        next.doubt_stays = doubt_stays;
        next.success = Some(true);
        next.response = json!({ "remote_id": part.id, "permalink": part.permalink });
        next.part = Some(part);
        next.error = ErrorPatch::Clear;
        // The parts are tries of their own.
        (next.attempt, next.crashes) = (0, 0);
        self.write(next).await
    }

    pub(super) async fn accepted(&mut self, at: Checkpoint, poll_after: Duration) -> Result<Flow, Error> {
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

    /// Something failed and it is certain that nothing became visible: wait, try again, or give up.
    pub(super) async fn failed_without_effect(
        &mut self,
        error: Error,
        tokens: Option<&Arc<TokenSet>>,
    ) -> Result<Flow, Error> {
        let now = self.now();
        let name = self.delivery().phase.name();
        self.begin()?;
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
                    self.refused_before_commit(&error, until);
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

    /// Tells the ledger of a refusal while preparing.
    fn refused_before_commit(&mut self, error: &Error, until: Timestamp) {
        let (now, refusal) = (self.now(), self.refusal(error));
        let keys = self.keys("media");
        match (refusal, self.early.take()) {
            (refusal, Some(probe)) => self.inner.rates.settle(now, probe, refusal),
            (Outcome::Stopped { why, .. }, None) => self.inner.rates.stop(now, &keys, why, Some(until)),
            (_, None) => {
                let scope = error.scope().unwrap_or(RateScope::Account);
                if let Some(key) = keys.iter().find(|key| key.scope() == scope).or(keys.first()) {
                    self.inner.rates.block(now, key, Some(until));
                }
            }
        }
    }

    /// The tokens cannot be had. Nothing of that is the post's fault, so nothing of it fails the post.
    pub(super) async fn without_tokens(&mut self, error: Error) -> Result<Flow, Error> {
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
                self.begin()?;
                let again = later(self.now(), signed(OPERATOR_PAUSE));
                self.rest_with_error(Event::FailedForNow, again, &error).await
            }
            _ => self.failed_without_effect(error, None).await,
        }
    }

    /// Waits for the user to connect again; looked at once more when it has become too late.
    pub(super) async fn await_reconnect(&mut self, error: &Error) -> Result<Flow, Error> {
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

    pub(super) async fn await_limit(&mut self, until: Timestamp, response: Value) -> Result<Flow, Error> {
        self.begin()?;
        let error = Error::new(ErrorKind::RateLimited, "publish.limit")
            .message("a limit of the network has to pass")
            .effect_none();
        let patch = ErrorPatch::Set(as_json(&error));
        let wake_at = self.before_too_late(until);
        self.rest(Event::Limited, Some(wake_at), Some(patch), None, response).await
    }

    /// A wait that lasts beyond the late limit ends with it: who waits in vain learns it then, not a day later.
    pub(super) fn before_too_late(&self, until: Timestamp) -> Timestamp {
        if !self.delivery().parts.is_empty() || self.owes_a_look() {
            return until;
        }
        let late = later(self.delivery().due_at, signed(self.delivery().late_limit + Duration::from_secs(1)));
        until.min(late.max(self.now()))
    }

    pub(super) async fn fail(&mut self, error: Error) -> Result<Flow, Error> {
        let name = self.delivery().phase.name();
        self.begin()?;
        if self.owes_a_look() {
            // That it cannot be prepared says nothing about whether it is out already.
            return self.unconfirmed(Some(&error)).await;
        }
        tracing::warn!(delivery.id = %self.delivery().id, platform.id = %self.delivery().platform, %error, "a delivery failed for good");
        let patch = ErrorPatch::Set(as_json(&error));
        self.claimed.delivery.attempt += u32::from(name != PhaseName::Settling);
        self.rest(Event::FailedForGood, None, Some(patch), Some(false), json!({ "error": error })).await
    }
}
