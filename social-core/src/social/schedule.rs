//! Scheduling: checking a draft against every account it goes to, taking its files in, and storing it durably before saying yes.

use std::{future::Future, path::Path, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{Resolution, Social, manage::CancelOutcome};
use crate::{
    account::{Account, AccountStatus},
    crypto,
    draft::{Draft, MediaRef, StoredMedia},
    error::{Actor, Error, ErrorKind, Operation, Retry},
    id::{AccountId, DeliveryId, MediaId, PostId, UserId},
    media::{self, BytesSource, FileSource, MeasureError, MediaSource},
    platform::TextUse,
    store::{Delivery, Insert, NewDelivery, NewPost, Post, WallTime},
    time::{later, signed, whole_micros},
    trace,
    validate::{Severity, Violation},
};

const OPERATION: Operation = Operation::new("schedule");
/// The most accounts that one post can go to.
const MOST_ACCOUNTS: usize = 100;
/// No post can be scheduled further ahead.
const FURTHEST: Duration = Duration::from_secs(5 * 366 * 24 * 3600);

/// What to publish, where and when.
#[derive(Debug, Clone)]
pub struct ScheduleRequest {
    /// Whose post it is.
    pub user: UserId,
    /// What to say.
    pub draft: Draft,
    /// Where.
    pub accounts: Vec<AccountId>,
    /// When; at once for `None`.
    pub at: Option<Timestamp>,
    /// The wall-clock wish behind `at`.
    pub wall: Option<WallTime>,
    /// How late it may become; the installation's limit for `None`.
    pub late_limit: Option<Duration>,
    /// The caller's key: the same key with the same request makes one post.
    pub key: Option<String>,
}

/// A stored post.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// The post.
    pub post: Post,
    /// Its deliveries.
    pub deliveries: Vec<Delivery>,
    /// Whether this key had stored it before.
    pub existing: bool,
}

/// What [`Social::preview`] found.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// Whether it would be accepted.
    pub ok: bool,
    /// What is wrong or doubtful.
    pub violations: Vec<Violation>,
    /// How much of the allowed text it uses.
    pub accounts: Vec<AccountTextUse>,
}

/// How much of the allowed text a draft uses on one account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountTextUse {
    /// Which account.
    pub account_id: AccountId,
    /// How much.
    pub text: TextUse,
}

/// What hosts call. [`Social`] implements it; a host may put its own in between, such as one that asks for approval.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Checks and stores a post. When it answers, the post is durable.
    ///
    /// # Errors
    /// `Invalid` with violations if a draft or time is refused; `NotFound` for an account that is not the user's; `Conflict` if the key was used
    /// for something else; `Storage`. Nothing is stored then.
    async fn schedule(&self, request: ScheduleRequest) -> Result<Scheduled, Error>;

    /// Calls off every delivery that has not begun to become visible. Repeatable.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if none could be called off; `Storage`.
    async fn cancel(&self, user: UserId, post: PostId) -> Result<CancelOutcome, Error>;

    /// Moves a post to another time.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if any delivery has begun to become visible; `Invalid` for a time in the past; `Storage`.
    async fn reschedule(
        &self,
        user: UserId,
        post: PostId,
        at: Timestamp,
        wall: Option<WallTime>,
    ) -> Result<Scheduled, Error>;

    /// Replaces the draft of a post, and optionally its time.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule) and [`reschedule`](Self::reschedule).
    async fn edit(
        &self,
        user: UserId,
        post: PostId,
        draft: Draft,
        at: Option<Timestamp>,
        wall: Option<WallTime>,
    ) -> Result<Scheduled, Error>;

    /// Tries the failed, missed and canceled deliveries of a post again, each from where it got to: at the post's time if that is still to
    /// come, at once otherwise.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if there are none; `Storage`.
    async fn retry(&self, user: UserId, post: PostId) -> Result<Scheduled, Error>;

    /// Records what a person saw on the network about a delivery in doubt.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not in doubt; `Storage`.
    async fn resolve(&self, user: UserId, delivery: DeliveryId, resolution: Resolution) -> Result<Delivery, Error>;

    /// A delivery as it stands.
    ///
    /// # Errors
    /// `NotFound`; `Storage`.
    async fn delivery(&self, user: UserId, delivery: DeliveryId) -> Result<Delivery, Error>;
}

/// A draft on its way to becoming a post.
#[derive(Debug)]
#[must_use = "nothing is scheduled before `send`"]
pub struct ScheduledDraft<'a> {
    social: &'a Social,
    request: ScheduleRequest,
}

impl<'a> ScheduledDraft<'a> {
    pub(super) fn new(social: &'a Social, user: UserId, draft: Draft) -> Self {
        let request =
            ScheduleRequest { user, draft, accounts: Vec::new(), at: None, wall: None, late_limit: None, key: None };
        Self { social, request }
    }

    /// To which accounts: accounts, ids, or what [`Social::finish`] answered.
    pub fn on<I>(mut self, accounts: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<AccountId>,
    {
        self.request.accounts.extend(accounts.into_iter().map(Into::into));
        self
    }

    /// When; at once unless said.
    pub fn at(mut self, at: Timestamp) -> Self {
        self.request.at = Some(at);
        self
    }

    /// How late it may become.
    pub fn late_limit(mut self, limit: Duration) -> Self {
        self.request.late_limit = Some(limit);
        self
    }

    /// The same key with the same request makes one post, however often it is sent.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Checks and stores it. When it answers, the post is durable.
    ///
    /// # Errors
    /// See [`Scheduler::schedule`].
    pub fn send(self) -> impl Future<Output = Result<Scheduled, Error>> + Send + 'a {
        let Self { social, request } = self;
        social.store_post(request)
    }

    /// Checks it and takes its files in, but leaves storing it to the caller's own transaction; see the stores' `insert_post_in`.
    ///
    /// # Errors
    /// As [`send`](Self::send) but for the key.
    pub fn prepare(self) -> impl Future<Output = Result<NewPost, Error>> + Send + 'a {
        let Self { social, request } = self;
        social.new_post(request)
    }
}

impl Social {
    /// Says what is wrong with a draft for each account, without storing anything.
    ///
    /// # Errors
    /// `NotFound` for an account that is not the user's; `Storage`.
    pub async fn preview(
        &self,
        user: UserId,
        draft: &Draft,
        accounts: &[AccountId],
        at: Option<Timestamp>,
    ) -> Result<Preview, Error> {
        let accounts = self.own_accounts(user, accounts).await?;
        let mut violations = self.time_violations(at);
        let mut uses = Vec::new();
        for account in &accounts {
            let publish = self.platform(&account.platform)?.publish();
            let resolved = draft.resolve(&account.platform, account.id);
            violations.extend(self.account_violations(account, &resolved, at).await?);
            uses.push(AccountTextUse { account_id: account.id, text: publish.text_use(&resolved, &account.profile) });
        }
        let ok = violations.iter().all(|violation| violation.severity == Severity::Warning);
        Ok(Preview { ok, violations, accounts: uses })
    }

    /// Takes a file into the media library: measured, and remembered for the user.
    ///
    /// # Errors
    /// `Invalid` if it cannot be read or is nothing that can be posted; `Storage`.
    pub async fn take_in(&self, user: UserId, media: &MediaRef) -> Result<StoredMedia, Error> {
        const OPERATION: &str = "media.take_in";
        let library = &self.inner.library;
        let source: Box<dyn MediaSource> = match media {
            MediaRef::Stored(stored) => {
                let found = self.inner.store.media(user, stored.id).await?;
                return found.ok_or_else(|| {
                    Error::not_found(OPERATION, "there is no such media")
                        .advice("A file of this post is not there. Please upload it again.")
                });
            }
            MediaRef::Bytes(bytes) => Box::new(BytesSource::new(bytes.clone())),
            MediaRef::File(path) => Box::new(FileSource::open(path).await.map_err(|e| unreadable(path, e))?),
        };
        let mut facts = media::measure(&*source).await.map_err(|e| refused_media(OPERATION, e))?;
        facts.sha256 = Some(media::sha256_of(&*source).await.map_err(|e| Error::storage(OPERATION, e).effect_none())?);
        let stored = StoredMedia { id: MediaId::new(), facts };
        match media {
            MediaRef::Bytes(bytes) => library.put(stored.id, bytes.clone()).await?,
            MediaRef::File(path) => library.put_file(stored.id, path).await?,
            MediaRef::Stored(_) => {}
        }
        self.inner.store.insert_media(user, &stored, self.inner.cx.now()).await?;
        Ok(stored)
    }

    /// Everything between a request and storing it.
    pub(super) async fn new_post(&self, request: ScheduleRequest) -> Result<NewPost, Error> {
        let ScheduleRequest { user, mut draft, accounts, at, wall, late_limit, key } = request;
        let accounts = self.own_accounts(user, &accounts).await?;
        self.take_in_all(user, &mut draft).await?;
        self.check(&draft, &accounts, at).await?;
        let idempotency = key.map(|key| (key, fingerprint(&draft, &accounts, at)));
        draft.trace = trace::current();
        // As stores keep them, so that what is answered is what is stored.
        let now = whole_micros(self.inner.cx.now());
        let late_limit = late_limit.unwrap_or(self.inner.late_limit);
        let late_limit =
            Duration::from_micros(i64::try_from(late_limit.as_micros()).unwrap_or(i64::MAX).unsigned_abs());
        let post = Post {
            id: PostId::new(),
            user,
            draft,
            scheduled_at: at.map_or(now, whole_micros),
            wall,
            created_at: now,
            updated_at: now,
        };
        let deliveries = accounts
            .into_iter()
            .map(|account| NewDelivery { id: DeliveryId::new(), account: account.id, platform: account.platform })
            .collect();
        Ok(NewPost { post, deliveries, late_limit, idempotency })
    }

    /// Refuses a draft that any of the accounts would refuse.
    pub(super) async fn check(&self, draft: &Draft, accounts: &[Account], at: Option<Timestamp>) -> Result<(), Error> {
        let mut violations = self.time_violations(at);
        for account in accounts {
            let resolved = draft.resolve(&account.platform, account.id);
            violations.extend(self.account_violations(account, &resolved, None).await?);
        }
        violations.retain(|violation| violation.severity == Severity::Error);
        if violations.is_empty() {
            return Ok(());
        }
        let message = format!("{} ({})", violations[0].message, violations[0].field);
        let advice = violations[0].advice.clone();
        Err(Error::invalid(OPERATION, message).advice(advice).violations(violations))
    }

    pub(super) async fn take_in_all(&self, user: UserId, draft: &mut Draft) -> Result<(), Error> {
        for (index, attachment) in draft.media.iter_mut().enumerate() {
            attachment.media = self
                .take_in(user, &attachment.media)
                .await
                .map_err(|e| in_field(e, &format!("media[{index}]")))?
                .into();
        }
        let links = draft.link.iter_mut().chain(draft.overrides.values_mut().filter_map(|own| own.link.as_mut()));
        for link in links {
            if let Some(thumbnail) = &mut link.thumbnail {
                *thumbnail = self.take_in(user, thumbnail).await.map_err(|e| in_field(e, "link.thumbnail"))?.into();
            }
        }
        Ok(())
    }

    async fn own_accounts(&self, user: UserId, ids: &[AccountId]) -> Result<Vec<Account>, Error> {
        let mut accounts: Vec<Account> = Vec::with_capacity(ids.len());
        for &id in ids {
            if accounts.iter().any(|account| account.id == id) {
                continue;
            }
            match self.inner.store.account(user, id).await? {
                Some(account) if account.status != AccountStatus::Disconnected => accounts.push(account),
                _ => {
                    return Err(Error::not_found(OPERATION, format!("there is no account {id}")).advice(
                        "An account of this post is not connected. Please choose another or connect it again.",
                    ));
                }
            }
        }
        if accounts.is_empty() || accounts.len() > MOST_ACCOUNTS {
            let violation = Violation::error(
                "accounts_count",
                "accounts",
                format!("{} accounts where 1 to {MOST_ACCOUNTS} are allowed", accounts.len()),
                "Choose at least one account.",
            );
            return Err(Error::invalid(OPERATION, "no account was chosen, or too many").violations(vec![violation]));
        }
        Ok(accounts)
    }

    fn time_violations(&self, at: Option<Timestamp>) -> Vec<Violation> {
        let now = self.inner.cx.now();
        let Some(at) = at else { return Vec::new() };
        if at < later(now, -signed(self.inner.late_limit)) {
            let advice = "Choose a time in the future, or leave the time out to publish at once.";
            vec![Violation::error("time_past", "scheduled_time", "the time has passed", advice)]
        } else if at > later(now, signed(FURTHEST)) {
            vec![Violation::error(
                "time_too_far",
                "scheduled_time",
                "the time is more than five years ahead",
                "Choose an earlier time.",
            )]
        } else {
            Vec::new()
        }
    }

    async fn account_violations(
        &self,
        account: &Account,
        resolved: &Draft,
        at: Option<Timestamp>,
    ) -> Result<Vec<Violation>, Error> {
        let platform = self.platform(&account.platform)?;
        let mut violations = platform.publish().validate(resolved, &account.profile);
        if let Some(at) = at
            && let Some(stored) = self.inner.store.get(account.connection).await?
            && let Some(act_by) = stored.connection.act_by().filter(|act_by| *act_by < at)
        {
            violations.push(Violation::warning(
                "grant_ends_before",
                "scheduled_time",
                format!(
                    "the permission for {} ends at {act_by}, before this post goes out",
                    account.profile.display_name
                ),
                "Connect the account again before then.",
            ));
        }
        for violation in &mut violations {
            violation.account_id = Some(account.id);
            violation.platform = Some(account.platform.clone());
        }
        Ok(violations)
    }
}

impl Social {
    pub(super) async fn store_post(&self, request: ScheduleRequest) -> Result<Scheduled, Error> {
        let user = request.user;
        let new = self.new_post(request).await?;
        let scheduled = match self.inner.store.insert_post(&new).await? {
            Insert::Stored => Scheduled { deliveries: new.scheduled(), post: new.post, existing: false },
            Insert::Existing(id) => self.scheduled(user, id, true).await?,
            Insert::KeyConflict => {
                return Err(Error::conflict(OPERATION, "the key was used for another request")
                    .advice("This request was sent before with other content. Use a new key for a new post."));
            }
        };
        let Scheduled { post: Post { id, .. }, deliveries, existing } = &scheduled;
        tracing::info!(post.id = %id, user.id = %user, deliveries = deliveries.len(), existing, "post {id} is scheduled");
        Ok(scheduled)
    }

    pub(super) async fn scheduled(&self, user: UserId, id: PostId, existing: bool) -> Result<Scheduled, Error> {
        let found = self.inner.store.post(user, id).await?;
        let (post, deliveries) = found.ok_or_else(|| Error::not_found(OPERATION, "there is no such post"))?;
        Ok(Scheduled { post, deliveries, existing })
    }
}

/// What makes two requests with one key the same: content by hash, not by the id of the copy that was taken in.
fn fingerprint(draft: &Draft, accounts: &[Account], at: Option<Timestamp>) -> [u8; 32] {
    let mut plain = draft.clone();
    plain.trace = None;
    let anonymous = MediaId::from_uuid(uuid::Uuid::nil());
    let thumbnails = plain.link.iter_mut().filter_map(|link| link.thumbnail.as_mut());
    for media in plain.media.iter_mut().map(|attachment| &mut attachment.media).chain(thumbnails) {
        if let MediaRef::Stored(stored) = media {
            stored.id = anonymous;
        }
    }
    let accounts: Vec<AccountId> = accounts.iter().map(|account| account.id).collect();
    let json = serde_json::json!({ "draft": plain, "accounts": accounts, "at": at });
    crypto::sha256(json.to_string().as_bytes())
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Error::invalid("media.take_in", format!("the file {name} cannot be read")).source(error)
}

/// What is wrong with a file, for whoever sent it.
#[must_use]
pub(crate) fn refused_media(operation: &'static str, error: MeasureError) -> Error {
    match error {
        MeasureError::Unreadable(error) => Error::storage(operation, error).effect_none(),
        other => Error::new(ErrorKind::Invalid, operation)
            .message(other.to_string())
            .advice("This file is not a picture, video or document that can be posted. Please choose another.")
            .retry(Retry::Never)
            .actor(Actor::User)
            .effect_none(),
    }
}

fn in_field(error: Error, field: &str) -> Error {
    if error.kind() != ErrorKind::Invalid {
        return error;
    }
    let message = error.detail().unwrap_or("the file cannot be used").to_owned();
    let violation = Violation::error("media_unreadable", field, message, error.advice_text().to_owned());
    error.violations(vec![violation])
}
