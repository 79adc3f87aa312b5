//! Looks at the network: what became of a call whose answer was lost, and whether it has finished with what it took.

use std::{collections::HashSet, time::Duration};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Driver, Flow, LEASE_MARGIN, LONGEST_DOUBT, MOST_LOOKS, Stopped, write::as_json};
use crate::{
    account::TokenSet,
    error::{Actor, Error, ErrorKind, Retry},
    phase::{Checkpoint, Event, Phase, PhaseName},
    platform::{Platform, Reconciled, Settled},
    store::{ErrorPatch, LeaseAfter, LogFilter, LogRow, PageRequest},
    time::{later, signed},
    trace,
};

impl Driver<'_> {
    /// Asks the network what became of a visible call whose answer was lost.
    pub(super) async fn reconcile(&mut self, platform: &dyn Platform, at: Checkpoint) -> Result<Flow, Error> {
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
        let tokens = match self.tokens().await {
            Ok(tokens) => tokens,
            Err(error) => return self.look_failed(error).await,
        };
        let known = self.inner.store.remote_ids(self.delivery().account, later(since, -signed(LONGEST_DOUBT))).await?;
        let taken: HashSet<String> = known.into_iter().collect();
        // Asking may mean sending the identical call, so it needs the lease as much as the call itself (E5).
        if self.lease.remaining() <= platform.descriptor().flow.commit_deadline() + LEASE_MARGIN {
            return self.hand_back().await;
        }
        let permit = if self.restores() > 0 { self.last_permit().await? } else { None };
        let said = |what: &str| permit.as_ref().and_then(|row| row.response.get(what));
        let prepared_again = said("only_to_look") == Some(&json!(true));
        // What followed a part that went out before a restore, or around it, may have gone out too.
        let more_may_be_out = prepared_again || said("restores").and_then(Value::as_i64).unwrap_or(0) < self.restores();
        let mut cx = self.context(&tokens, &taken);
        (cx.attempted_at, cx.prepared_again) = (since, prepared_again);
        let found = tokio::select! {
            found = trace::step("reconcile", platform.publish().reconcile(&cx, at)) => found,
            () = self.lease.lost() => return Ok(Flow::Stop(Stopped::LeaseLost)),
        };
        self.observe(&cx);
        drop(cx);
        match found {
            Ok(Reconciled::Published(remote)) => self.published(remote).await,
            Ok(Reconciled::Next { at, part }) => self.part_published(at, part, more_may_be_out).await,
            Ok(Reconciled::Settling { at, poll_after }) => self.accepted(at, poll_after).await,
            Ok(Reconciled::NotPublished) => {
                let mut absent = self.change(Event::ProvenAbsent, LeaseAfter::Keep);
                absent.response = json!({ "doubted_s": doubted.as_secs() });
                absent.crashes = 0;
                absent.error = ErrorPatch::Clear;
                self.write(absent).await
            }
            Ok(Reconciled::AskAgain { at, after }) if !self.doubted_too_long(doubted).await? => {
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
    pub(super) async fn settle(&mut self, platform: &dyn Platform, at: Checkpoint) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let since = self.delivery().committing_since.unwrap_or_else(|| self.now());
        let tokens = match self.tokens().await {
            Ok(tokens) => tokens,
            Err(error) => return self.look_failed(error).await,
        };
        let taken = HashSet::new();
        let cx = self.context(&tokens, &taken);
        let settled = tokio::select! {
            settled = trace::step("settle", platform.publish().settle(&cx, at)) => settled,
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

    /// Whether a doubt has lasted so long that a person has to decide. One that a restore made reaches back to the backup: it counts from the
    /// first look.
    async fn doubted_too_long(&self, doubted: SignedDuration) -> Result<bool, Error> {
        if doubted < signed(LONGEST_DOUBT) {
            return Ok(false);
        }
        let begun = self.last_permit().await?.map(|row| row.created_at);
        Ok(begun.is_none_or(|begun| self.now().duration_since(begun) >= signed(LONGEST_DOUBT)))
    }

    /// The row of the history with which the present doubt began.
    async fn last_permit(&self) -> Result<Option<LogRow>, Error> {
        let filter = LogFilter { delivery: Some(self.delivery().id), ..LogFilter::default() };
        let mut page = PageRequest { after: None, limit: 200 };
        // A long doubt may have more looks behind it than one page holds.
        loop {
            let rows = self.inner.store.logs(self.delivery().user, &filter, &page).await?;
            let permit = rows.items.into_iter().find(|row| row.event == Event::Permitted.name());
            match rows.next {
                Some(next) if permit.is_none() => page.after = Some(next),
                _ => return Ok(permit),
            }
        }
    }

    /// A look at the network was refused because of the token: it is refreshed once, and the look is made again.
    pub(super) async fn look_refused(&mut self, error: Error, tokens: &TokenSet) -> Result<Flow, Error> {
        if error.kind() == ErrorKind::Reconnect && !self.refreshed {
            self.refreshed = true;
            if self.inner.keeper.refused(self.claimed.account.connection, tokens).await.is_ok() {
                return Ok(Flow::Go);
            }
        }
        self.look_failed(error).await
    }

    /// A look at the network (reconcile, settle) did not work. The delivery stays in its phase, and after some looks goes to a person.
    pub(super) async fn look_failed(&mut self, error: Error) -> Result<Flow, Error> {
        let looks = self.delivery().crashes + 1;
        let since = self.delivery().committing_since.unwrap_or_else(|| self.now());
        let too_long = self.doubted_too_long(self.now().duration_since(since)).await?;
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

    pub(super) async fn unconfirmed(&mut self, error: Option<&Error>) -> Result<Flow, Error> {
        tracing::warn!(delivery.id = %self.delivery().id, platform.id = %self.delivery().platform, "nobody can tell whether a delivery is out; a person has to look");
        let doubt = Error::new(ErrorKind::Unexpected, "publish.reconcile")
            .message("the network cannot be asked whether the post is out")
            .advice("We cannot find out whether this post is published. Please look at the account and tell us what you see.")
            .actor(Actor::User)
            .retry(Retry::Never);
        let patch = ErrorPatch::Set(error.map_or_else(|| as_json(&doubt), as_json));
        self.rest(Event::CannotTell, None, Some(patch), Some(false), json!({ "error": error })).await
    }

    pub(super) async fn write_unreadable(&mut self) -> Result<Flow, Error> {
        // The store still says committing or settling; the event below is legal there, and the row moves on under our epoch.
        self.claimed.delivery.phase = Phase::Committing { at: Checkpoint::write(0, &json!(null)) };
        self.unconfirmed(None).await
    }
}
