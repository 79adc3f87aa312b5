//! What hosts do with posts and accounts afterwards: cancel, move, edit, try again, decide, delete, disconnect.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ScheduleRequest, Scheduled, Scheduler, Social};
use crate::{
    draft::Draft,
    error::{Error, ErrorKind},
    id::{AccountId, ConnectionId, DeliveryId, LogId, PostId, UserId},
    phase::{Event, Phase, PhaseName, RemotePost},
    platform::Deleted,
    store::{Delivery, Edit, ErrorPatch, Held, LeaseAfter, LogEntry, PhaseWrite, WallTime},
    time::signed,
};

/// How often a change is tried again when somebody else changed the delivery in between.
const TRIES: usize = 8;
/// Tokens younger than this are not refreshed on demand: networks limit how often, and some punish it.
const FRESH: Duration = Duration::from_secs(60);

/// What a person saw on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It is there, at this address if they gave one.
    Published {
        /// Where it is.
        permalink: Option<String>,
    },
    /// It is not there: send it again.
    Resend,
    /// It is not there: leave it.
    Fail,
}

/// What became of calling a post off.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelOutcome {
    /// Deliveries that will not go out.
    pub canceled: Vec<DeliveryId>,
    /// Deliveries that were too far, with where they stand.
    pub refused: Vec<DeliveryId>,
    /// The post afterwards.
    pub after: Scheduled,
}

/// What became of disconnecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected {
    /// Whether the grant was erased here.
    pub erased: bool,
    /// Whether the network confirmed that it forgot the grant.
    pub revoked: bool,
}

#[async_trait]
impl Scheduler for Social {
    async fn schedule(&self, request: ScheduleRequest) -> Result<Scheduled, Error> {
        self.store_post(request).await
    }

    async fn cancel(&self, user: UserId, post: PostId) -> Result<CancelOutcome, Error> {
        let before = self.scheduled(user, post, true).await?;
        let (mut canceled, mut refused) = (Vec::new(), Vec::new());
        for delivery in before.deliveries {
            let id = delivery.id;
            match self.amend(user, delivery, |_| Event::CanceledByUser, None, None, json!({})).await {
                Ok(_) => canceled.push(id),
                Err(error) if error.kind() == ErrorKind::Conflict => refused.push(id),
                Err(error) => return Err(error),
            }
        }
        let after = self.scheduled(user, post, true).await?;
        // A repeated cancel finds everything canceled already, which is what was wanted.
        let nothing_left = after.deliveries.iter().all(|delivery| delivery.phase == Phase::Canceled);
        if canceled.is_empty() && !nothing_left {
            return Err(Error::conflict("cancel", "no delivery of this post can be canceled any more")
                .advice("This post is already being published or has ended, so it cannot be called off."));
        }
        Ok(CancelOutcome { canceled, refused, after })
    }

    async fn reschedule(
        &self,
        user: UserId,
        post: PostId,
        at: Timestamp,
        wall: Option<WallTime>,
    ) -> Result<Scheduled, Error> {
        self.change(user, post, None, Some(at), wall).await
    }

    async fn edit(
        &self,
        user: UserId,
        post: PostId,
        draft: Draft,
        at: Option<Timestamp>,
        wall: Option<WallTime>,
    ) -> Result<Scheduled, Error> {
        self.change(user, post, Some(draft), at, wall).await
    }

    async fn retry(&self, user: UserId, post: PostId) -> Result<Scheduled, Error> {
        let found = self.scheduled(user, post, true).await?;
        // What was called off before its time goes back to that time; what is past goes out now.
        let at = self.inner.cx.now().max(found.post.scheduled_at);
        let mut tried = 0;
        for delivery in found.deliveries {
            if delivery.phase.name().is_final() && !matches!(delivery.phase, Phase::Published { .. }) {
                self.amend(user, delivery, |_| Event::RetryRequested, Some(at), None, json!({})).await?;
                tried += 1;
            }
        }
        if tried == 0 {
            return Err(Error::conflict("retry", "no delivery of this post has failed")
                .advice("There is nothing to try again: nothing of this post has failed."));
        }
        self.scheduled(user, post, true).await
    }

    async fn resolve(&self, user: UserId, delivery: DeliveryId, resolution: Resolution) -> Result<Delivery, Error> {
        let found = self.delivery(user, delivery).await?;
        if !matches!(found.phase, Phase::Unconfirmed { .. }) {
            return Err(Error::conflict("resolve", "the delivery is not in doubt")
                .advice("It is clear what became of this post; there is nothing to decide."));
        }
        let now = self.inner.cx.now();
        match resolution {
            Resolution::Resend => {
                let response = json!({ "then": "resend" });
                self.amend(user, found, |_| Event::ResolvedResend, Some(now), None, response).await
            }
            Resolution::Fail => {
                let response = json!({ "then": "fail" });
                self.amend(user, found, |_| Event::ResolvedFailed, None, None, response).await
            }
            Resolution::Published { permalink } => {
                let response = json!({ "permalink": permalink });
                let part = RemotePost { id: None, permalink: permalink.clone() };
                let out = found.parts.len() + 1;
                if out < self.parts_of(user, &found).await? {
                    if permalink.is_none() {
                        return Err(Error::invalid("resolve", "the address of a part is needed to go on behind it")
                            .advice(
                                "More parts of this post follow. Please paste the address of the part that is there.",
                            ));
                    }
                    return self.amend(user, found, |_| Event::PartResolved, Some(now), Some(part), response).await;
                }
                let first = found.parts.first().cloned().unwrap_or_else(|| part.clone());
                let part = (out > 1).then_some(part);
                self.amend(user, found, |_| Event::Published(first.clone()), None, part, response).await
            }
        }
    }

    async fn delivery(&self, user: UserId, delivery: DeliveryId) -> Result<Delivery, Error> {
        let found = self.inner.store.delivery(user, delivery).await?;
        found.ok_or_else(|| Error::not_found("delivery", "there is no such delivery"))
    }
}

impl Social {
    /// Applies an event from outside the engine. Whoever holds the delivery loses it; a write-ahead that came first makes the event illegal,
    /// and the answer is a conflict (invariant I5).
    async fn amend(
        &self,
        user: UserId,
        mut delivery: Delivery,
        event: impl Fn(&Delivery) -> Event,
        wake_at: Option<Timestamp>,
        part: Option<RemotePost>,
        response: Value,
    ) -> Result<Delivery, Error> {
        for _ in 0..TRIES {
            let event = event(&delivery);
            let name = event.name();
            let phase = delivery.phase.clone().on(event).map_err(|illegal| {
                Error::conflict("amend", illegal.to_string())
                    .advice("This is not possible any more: the post has moved on meanwhile.")
            })?;
            let remote = match &phase {
                Phase::Published { remote } => Some(remote.clone()),
                _ => None,
            };
            let revived = wake_at.is_some();
            let looked = matches!(delivery.phase, Phase::Unconfirmed { .. });
            let write = PhaseWrite {
                delivery: delivery.id,
                epoch: delivery.epoch,
                phase: phase.name(),
                checkpoint: phase.checkpoint().cloned(),
                remote,
                part: part.clone(),
                attempt: if revived { 0 } else { delivery.attempt },
                crashes: if revived { 0 } else { delivery.crashes },
                wake_at,
                // A retry counts as due now, or the late limit would end it at once.
                due_at: wake_at,
                // What a restore left in doubt stays so whatever else happens to it, until the network was asked or a person has looked.
                committing_since: delivery.committing_since.filter(|_| !looked && phase.name() != PhaseName::Published),
                error: if revived { ErrorPatch::Clear } else { ErrorPatch::Keep },
                lease: LeaseAfter::Revoke,
                log: LogEntry {
                    id: LogId::new(),
                    event: name.to_owned(),
                    success: None,
                    response: response.clone(),
                    at: self.inner.cx.now(),
                },
            };
            match self.inner.store.record(&[write]).await?.first() {
                Some(Held::Yes) => return Scheduler::delivery(self, user, delivery.id).await,
                _ => delivery = Scheduler::delivery(self, user, delivery.id).await?,
            }
        }
        Err(Error::conflict("amend", "the delivery keeps changing")
            .advice("This post is being worked on right now. Please try again in a moment."))
    }

    /// How many visible things a delivery makes in all.
    async fn parts_of(&self, user: UserId, delivery: &Delivery) -> Result<usize, Error> {
        let (post, _) = self
            .inner
            .store
            .post(user, delivery.post)
            .await?
            .ok_or_else(|| Error::not_found("resolve", "there is no such post"))?;
        let draft = post.draft.resolve(&delivery.platform, delivery.account);
        Ok(1 + draft.thread.len() + usize::from(draft.first_comment.is_some()))
    }

    async fn change(
        &self,
        user: UserId,
        id: PostId,
        draft: Option<Draft>,
        at: Option<Timestamp>,
        wall: Option<WallTime>,
    ) -> Result<Scheduled, Error> {
        let found = self.scheduled(user, id, true).await?;
        let too_late = || {
            Error::conflict("edit", "a delivery of this post has begun to become visible, or has ended")
                .advice("This post is already being published or has ended, so it cannot be changed.")
        };
        let untouched = |delivery: &Delivery| {
            delivery.phase.name().can_cancel() && delivery.parts.is_empty() && delivery.committing_since.is_none()
        };
        if !found.deliveries.iter().all(untouched) {
            return Err(too_late());
        }
        let mut draft = draft.unwrap_or(found.post.draft);
        self.take_in_all(user, &mut draft).await?;
        let mut accounts = Vec::new();
        for delivery in &found.deliveries {
            accounts.extend(self.inner.store.account(user, delivery.account).await?);
        }
        self.check(&draft, &accounts, at).await?;
        let now = self.inner.cx.now();
        let edit = Edit {
            post: id,
            seen: found.deliveries.iter().map(|delivery| (delivery.id, delivery.epoch)).collect(),
            draft,
            // A delivery that was tried again is due from then on.
            scheduled_at: at.unwrap_or_else(|| {
                found.deliveries.iter().map(|delivery| delivery.due_at).fold(found.post.scheduled_at, Ord::max)
            }),
            wall: if at.is_some() { wall } else { found.post.wall },
            log: LogEntry { id: LogId::new(), event: "edited".to_owned(), success: None, response: json!({}), at: now },
            now,
        };
        if !self.inner.store.edit_post(user, &edit).await? {
            return Err(too_late());
        }
        self.scheduled(user, id, true).await
    }

    /// Deletes a published delivery on its network, all parts of it, the last first. Repeatable.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not published or its id is unknown; `Unsupported` where the network has no such call; whatever the
    /// network says.
    pub async fn delete_remote(&self, user: UserId, delivery: DeliveryId) -> Result<Deleted, Error> {
        const OPERATION: &str = "delete_remote";
        let found = Scheduler::delivery(self, user, delivery).await?;
        let Phase::Published { remote } = &found.phase else {
            return Err(Error::conflict(OPERATION, "the delivery is not published")
                .advice("Only a published post can be deleted there."));
        };
        let mut ids: Vec<_> = found.parts.iter().rev().filter_map(|part| part.id.clone()).collect();
        if let Some(id) = remote.id.clone().filter(|id| !ids.contains(id)) {
            ids.push(id);
        }
        if ids.is_empty() {
            return Err(Error::conflict(OPERATION, "the id of the post on the network is not known")
                .advice("We do not know the post's id on the network. Please delete it there."));
        }
        let account = self.inner.store.account(user, found.account).await?;
        let account = account.ok_or_else(|| Error::not_found(OPERATION, "the account is gone"))?;
        let platform = self.platform(&account.platform)?.clone();
        let tokens = self.inner.keeper.tokens(account.connection, None).await?;
        let mut outcome = Deleted::Before;
        for id in &ids {
            if platform.publish().delete(&self.inner.cx, &tokens, &account, id).await? == Deleted::Now {
                outcome = Deleted::Now;
            }
        }
        let entry = LogEntry {
            id: LogId::new(),
            event: "deleted_remote".to_owned(),
            success: Some(true),
            response: json!({ "remote_ids": ids }),
            at: self.inner.cx.now(),
        };
        self.inner.store.append_log(delivery, &entry).await?;
        Ok(outcome)
    }

    /// Disconnects one account. The grant is revoked and erased only if no other account uses it. Waiting posts of the account are missed in
    /// their time unless it is connected again.
    ///
    /// # Errors
    /// `NotFound`; `Storage`. A network that does not confirm the revocation is no error: what we hold is erased all the same.
    pub async fn disconnect(&self, user: UserId, account: AccountId) -> Result<Disconnected, Error> {
        let gone = || Error::not_found("disconnect", "there is no such account");
        let found = self.inner.store.account(user, account).await?.ok_or_else(gone)?;
        let others = self.inner.store.disconnect_account(user, account, self.inner.cx.now()).await?.ok_or_else(gone)?;
        if others > 0 {
            Ok(Disconnected { erased: false, revoked: false })
        } else {
            self.revoke(user, found.connection).await
        }
    }

    /// Revokes a grant where the network can, erases its tokens, and disconnects all of its accounts.
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    pub async fn revoke(&self, user: UserId, connection: ConnectionId) -> Result<Disconnected, Error> {
        let store = &self.inner.store;
        let gone = || Error::not_found("disconnect", "there is no such connection");
        let found = store.get(connection).await?.filter(|stored| stored.connection.user == user).ok_or_else(gone)?;
        // A network that this installation does not know any more is no reason to keep its tokens.
        let revoked =
            match (self.platform(&found.connection.platform), self.inner.keeper.tokens(connection, None).await) {
                (Ok(platform), Ok(tokens)) => platform.connect().revoke(&self.inner.cx, &tokens).await,
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        if let Err(error) = &revoked {
            tracing::warn!(connection.id = %connection, platform.id = %found.connection.platform, %error, "the grant was erased here, but the network did not confirm that it forgot it");
        }
        let now = self.inner.cx.now();
        for account in store.accounts(user).await?.into_iter().filter(|account| account.connection == connection) {
            store.disconnect_account(user, account.id, now).await?;
        }
        let erased = store.delete(connection).await?;
        self.inner.keeper.forget(connection);
        Ok(Disconnected { erased, revoked: revoked.is_ok() })
    }

    /// Refreshes the tokens of a grant now, unless they are less than a minute old.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where the grant cannot be refreshed; as the keeper otherwise.
    pub async fn refresh(&self, user: UserId, connection: ConnectionId) -> Result<(), Error> {
        let found = self.inner.store.get(connection).await?.filter(|stored| stored.connection.user == user);
        let found = found.ok_or_else(|| Error::not_found("refresh", "there is no such connection"))?;
        if !found.connection.refreshable {
            return Err(Error::new(ErrorKind::Unsupported, "refresh")
                .message("this grant cannot be refreshed")
                .advice("This network does not let us prolong the connection. Please connect the account again before it ends.")
                .effect_none());
        }
        if self.inner.cx.now().duration_since(found.connection.updated_at) < signed(FRESH) {
            return Ok(());
        }
        let current = self.inner.keeper.tokens(connection, None).await?;
        let now_stored = self.inner.store.get(connection).await?;
        if now_stored.is_some_and(|stored| stored.connection.version != found.connection.version) {
            // They were due anyway and were refreshed just now.
            return Ok(());
        }
        self.inner.keeper.refused(connection, &current).await?;
        Ok(())
    }
}
