//! Takes one claimed delivery as far as it gets. The rules of publishing live here: what is written before which call, and what a
//! lost answer means.
//!
//! Here are the steps up to the visible call; `look` asks about what is in doubt, `outcome` says what follows from an answer, and
//! `write` makes it durable.

mod look;
mod outcome;
mod write;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tracing::Instrument as _;

use self::write::as_json;
use crate::{
    account::{AccountStatus, TokenSet},
    context::PublishContext,
    draft::Draft,
    engine::{Journal, LeaseGuard, Seat},
    error::{Actor, Effect, Error, ErrorKind, Retry},
    phase::{Duty, Event, Phase, PhaseName, invariant},
    platform::{Committed, Platform, Prepared},
    rate::{Ask, BucketKey, Outcome, Permit, RateScope, Stop, Turn, Verdict, Wait, WaitReason},
    social::Inner,
    store::{Claimed, Delivery, ErrorPatch, LeaseAfter, RESTORED_EPOCHS},
    time::{later, positive, signed},
    trace,
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
/// How soon to look again while another worker finds out whether a block is over.
const PROBE_PAUSE: Duration = Duration::from_secs(5);
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
    /// Reserved before preparing, because the first call finds out whether a block is over.
    early: Option<Permit>,
    /// What this run takes of its network's lane.
    seat: Option<Seat>,
}

/// What to do after a step.
enum Flow {
    Go,
    Stop(Stopped),
}

impl<'a> Driver<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>, journal: &'a Journal, lease: &'a LeaseGuard, claimed: Claimed) -> Self {
        let waited = claimed.delivery.phase.name() == PhaseName::AwaitingLimit;
        let draft = claimed.draft.resolve(&claimed.delivery.platform, claimed.delivery.account);
        Self { inner, journal, lease, claimed, draft, refreshed: false, waited, early: None, seat: None }
    }

    /// Gives the run its seat in the network's lane.
    pub(crate) fn at(self, seat: Seat) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Goes on until the delivery rests, is lost, or is handed back.
    ///
    /// # Errors
    /// `Storage` if a write could not be made; the delivery is found again when its lease has ended.
    pub(crate) fn run(self) -> impl Future<Output = Result<Stopped, Error>> + Send + use<'a> {
        let span = trace::delivery(self.delivery(), self.claimed.draft.trace.as_ref());
        self.go().instrument(span)
    }

    async fn go(mut self) -> Result<Stopped, Error> {
        let platform = match self.inner.platform(&self.claimed.delivery.platform) {
            Ok(platform) => platform.clone(),
            // Another worker may have the adapter; this one never will.
            Err(error) => return self.fail(error).await.map(stopped),
        };
        loop {
            let phase = &self.claimed.delivery.phase;
            let flow = match (phase.name().duty(), phase.checkpoint().cloned()) {
                (Duty::Publish, _) => self.publish(&*platform).await?,
                (Duty::Reconcile, Some(at)) => {
                    debug_assert!(invariant::must_reconcile(&self.claimed.delivery.phase));
                    self.reconcile(&*platform, at).await?
                }
                (Duty::Settle, Some(at)) => self.settle(&*platform, at).await?,
                // The checkpoint of a delivery in flight could not be read (I8): it was restored as unconfirmed and is written as such.
                (Duty::Park | Duty::Reconcile | Duty::Settle, _) => self.write_unreadable().await?,
                (Duty::Rest, _) => Flow::Stop(Stopped::At(phase.name())),
            };
            if let Flow::Stop(stopped) = flow {
                return Ok(stopped);
            }
        }
    }

    fn delivery(&self) -> &Delivery {
        &self.claimed.delivery
    }

    /// The data were put back from a backup, and a visible call may have been made since: the network is asked before anything is sent.
    fn owes_a_look(&self) -> bool {
        self.delivery().committing_since.is_some() && self.delivery().phase.name().can_cancel()
    }

    /// How often the data were put back from a backup.
    fn restores(&self) -> i64 {
        self.delivery().epoch.0 / RESTORED_EPOCHS
    }

    fn now(&self) -> Timestamp {
        self.inner.cx.now()
    }

    /// Prepare, permit, commit: one round.
    async fn publish(&mut self, platform: &dyn Platform) -> Result<Flow, Error> {
        let flow = self.publish_once(platform).await;
        if let Some(unused) = self.early.take() {
            self.inner.rates.settle(self.now(), unused, Outcome::Unused);
        }
        flow
    }

    async fn publish_once(&mut self, platform: &dyn Platform) -> Result<Flow, Error> {
        if self.lease.stopping() {
            return self.hand_back().await;
        }
        let now = self.now();
        let delivery = self.delivery();
        let latest = later(delivery.due_at, signed(delivery.late_limit));
        // What is half out is finished however late it is, and what may be out is looked for first.
        if now > latest && delivery.parts.is_empty() && !self.owes_a_look() {
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
        let keys = self.keys("publish");
        if let Some(wait) = self.inner.rates.check(now, &keys) {
            return self.limited(&wait).await;
        }
        if self.inner.rates.needs_probe(now, &keys) {
            match self.reserve(&keys).await? {
                Ok(permit) => self.early = Some(permit),
                Err(wait) => return self.limited(&wait).await,
            }
        }
        let tokens = match self.tokens().await {
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
                prepared = trace::step("prepare", platform.publish().prepare(&cx, from)) => prepared,
                () = self.lease.lost() => return Ok(Flow::Stop(Stopped::LeaseLost)),
                () = self.lease.stop_requested() => return self.hand_back().await,
            };
            self.observe(&cx);
            drop(cx);
            // The network took a step, so the block is over. What is ready may be so without a call: that the visible call finds out.
            if matches!(prepared, Ok(Prepared::Again(_) | Prepared::Wait { .. }))
                && let Some(probe) = self.early.take()
            {
                self.inner.rates.settle(self.now(), probe, Outcome::Accepted);
            }
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
        if self.owes_a_look() {
            // After a restore: it may have gone out since the backup. Nothing is sent; the network is asked as after a lost answer.
            let mut look = self.change(Event::Permitted, LeaseAfter::Keep);
            look.response = json!({ "only_to_look": true, "since": self.delivery().committing_since });
            look.crashes = 0;
            return self.write(look).await;
        }
        let deadline = platform.descriptor().flow.commit_deadline();
        let permit = match self.early.take() {
            Some(permit) => permit,
            None => match self.reserve(keys).await? {
                Ok(permit) => permit,
                Err(wait) => return self.limited(&wait).await,
            },
        };

        // The write-ahead: from here on the delivery may be visible, and a restart will ask before it sends (I1, I2).
        let before = self.delivery().attempt;
        let mut ahead = self.change(Event::Permitted, LeaseAfter::Keep);
        ahead.attempt = before + 1;
        ahead.committing_since = Some(self.now());
        if self.restores() > 0 {
            // A permit that does not say so was given before the last restore.
            ahead.response = json!({ "restores": self.restores() });
        }
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
        let answer = tokio::time::timeout(deadline, trace::step("commit", platform.publish().commit(&cx, at))).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "publish.commit").message("no answer within the deadline"))
        });
        self.observe(&cx);
        drop(cx);
        if before == 0 && self.delivery().parts.is_empty() {
            self.inner.meter.of(&self.delivery().platform).late(lateness);
        }
        let outcome = match &answer {
            Ok(_) => Outcome::Accepted,
            Err(error) if error.effect() == Effect::Unknown => Outcome::Inconclusive,
            Err(error) if limits(error.kind()) => self.refusal(error),
            Err(_) => Outcome::Accepted,
        };
        self.inner.rates.settle(self.now(), permit, outcome);
        match answer {
            Ok(Committed::Published(remote)) => {
                if let Some(seat) = &mut self.seat {
                    seat.leave_network();
                }
                self.published(remote).await
            }
            Ok(Committed::Next { at, part }) => self.part_published(at, part, false).await,
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

    async fn tokens(&self) -> Result<Arc<TokenSet>, Error> {
        self.inner.keeper.tokens(self.claimed.account.connection, Some(self.claimed.token_version)).await
    }

    /// The limits that an operation of this account uses up.
    fn keys(&self, operation: &str) -> Vec<BucketKey> {
        let account = &self.claimed.account;
        self.inner.rates.keys(account.platform.as_str(), operation, account.connection.uuid(), account.id.uuid())
    }

    /// Passes on what answers said about limits.
    fn observe(&self, cx: &PublishContext<'_>) {
        for seen in cx.take_observed() {
            for key in self.keys(&seen.operation).iter().filter(|key| key.scope() == seen.scope) {
                self.inner.rates.observe(self.now(), key, seen.observation);
            }
        }
    }

    /// Counts a call against the limits, or says when to ask again. What finds out whether a block is over is made by one worker of all.
    async fn reserve(&self, keys: &[BucketKey]) -> Result<Result<Permit, Wait>, Error> {
        let turn = if self.waited { Turn::Waited } else { Turn::New };
        let ask = Ask { units: 1, turn, chance: self.inner.cx.chance().unit() };
        let permit = match self.inner.rates.reserve(self.now(), keys, ask) {
            Verdict::Go(permit) => permit,
            Verdict::Wait(wait) => return Ok(Err(wait)),
        };
        for key in permit.probed() {
            let mine = self.inner.store.begin_probe(&key, self.now(), permit.probes_until()).await;
            if !matches!(mine, Ok(true)) {
                self.inner.rates.settle(self.now(), permit, Outcome::Unused);
                mine?;
                let rule = key.split('/').nth(1).unwrap_or_default().to_owned();
                let until = later(self.now(), signed(PROBE_PAUSE));
                return Ok(Err(Wait { until, rule, scope: RateScope::App, reason: WaitReason::Probing }));
            }
        }
        Ok(Ok(permit))
    }

    async fn limited(&mut self, wait: &Wait) -> Result<Flow, Error> {
        self.await_limit(wait.until, json!({ "rule": wait.rule, "reason": wait.reason })).await
    }

    /// What a refusal means for the limits.
    fn refusal(&self, error: &Error) -> Outcome {
        let until = self.until(error);
        match error.kind() {
            ErrorKind::Billing => Outcome::Stopped { why: Stop::Billing, until },
            ErrorKind::Config => Outcome::Stopped { why: Stop::Config, until },
            _ => Outcome::Refused { scope: error.scope(), until },
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

fn stopped(flow: Flow) -> Stopped {
    match flow {
        Flow::Stop(stopped) => stopped,
        Flow::Go => Stopped::At(PhaseName::Failed),
    }
}
