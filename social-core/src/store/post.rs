//! Posts as hosts see them: scheduled, listed, edited, canceled, with their history.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job::{Delivery, Epoch, LogEntry};
use crate::{
    draft::Draft,
    error::Error,
    id::{AccountId, DeliveryId, LogId, PlatformId, PostId, UserId},
    phase::{Phase, PhaseName},
};

/// The wall-clock wish behind an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallTime {
    /// The local time as it was given, such as `2026-11-22T09:00`.
    pub local_time: String,
    /// The IANA zone, such as `Europe/Berlin`.
    pub time_zone: String,
}

/// A draft with a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// Our id.
    pub id: PostId,
    /// Whose it is.
    pub user: UserId,
    /// What to say.
    pub draft: Draft,
    /// When.
    pub scheduled_at: Timestamp,
    /// The wish behind the instant, where it was given as a local time.
    pub wall: Option<WallTime>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its draft or time last changed.
    pub updated_at: Timestamp,
}

/// A post that is about to be stored, with its deliveries.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPost {
    /// The post.
    pub post: Post,
    /// Its deliveries, at least one.
    pub deliveries: Vec<NewDelivery>,
    /// How late they may become.
    pub late_limit: Duration,
    /// The caller's key with a fingerprint of what it asked for: the same key makes only one post.
    pub idempotency: Option<(String, [u8; 32])>,
}

impl NewPost {
    /// The deliveries as they are once they are stored.
    #[must_use]
    pub fn scheduled(&self) -> Vec<Delivery> {
        let post = &self.post;
        let scheduled = |delivery: &NewDelivery| Delivery {
            id: delivery.id,
            post: post.id,
            user: post.user,
            account: delivery.account,
            platform: delivery.platform.clone(),
            phase: Phase::Scheduled,
            attempt: 0,
            crashes: 0,
            epoch: Epoch(0),
            due_at: post.scheduled_at,
            wake_at: Some(post.scheduled_at),
            late_limit: self.late_limit,
            committing_since: None,
            parts: Vec::new(),
            error: None,
            published_at: None,
            updated_at: post.created_at,
        };
        self.deliveries.iter().map(scheduled).collect()
    }
}

/// A delivery that is about to be stored. It is scheduled for the post's time; the history begins with a `scheduled` row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Our id.
    pub id: DeliveryId,
    /// To which account.
    pub account: AccountId,
    /// On which network.
    pub platform: PlatformId,
}

/// What became of storing a post.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Insert {
    /// It is stored.
    Stored,
    /// The same key stored this post before.
    Existing(PostId),
    /// The key was used for something else.
    KeyConflict,
}

/// The state of a post, derived from its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostStatus {
    /// Nothing has happened yet, or it waits.
    Pending,
    /// Some delivery is at work.
    Publishing,
    /// All are out.
    Published,
    /// Some are out, none is open, some failed.
    PartiallyPublished,
    /// None is out, none is open.
    Failed,
    /// All were missed.
    Missed,
    /// Some delivery waits for a person's decision.
    Unconfirmed,
    /// All were canceled.
    Canceled,
}

impl PostStatus {
    /// The name as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Publishing => "publishing",
            Self::Published => "published",
            Self::PartiallyPublished => "partially_published",
            Self::Failed => "failed",
            Self::Missed => "missed",
            Self::Unconfirmed => "unconfirmed",
            Self::Canceled => "canceled",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        use PostStatus as S;
        [
            S::Pending,
            S::Publishing,
            S::Published,
            S::PartiallyPublished,
            S::Failed,
            S::Missed,
            S::Unconfirmed,
            S::Canceled,
        ]
        .into_iter()
        .find(|status| status.as_str() == raw)
    }

    /// The status of a post with these deliveries. A person's decision comes first, then work, then waiting, then how it ended.
    #[must_use]
    pub fn of(phases: impl IntoIterator<Item = PhaseName>) -> Self {
        let (mut total, mut working, mut waiting, mut published, mut missed, mut canceled) = (0, 0, 0, 0, 0, 0);
        for phase in phases {
            total += 1;
            match phase {
                PhaseName::Unconfirmed => return Self::Unconfirmed,
                PhaseName::Preparing | PhaseName::Ready | PhaseName::Committing | PhaseName::Settling => working += 1,
                PhaseName::Scheduled
                | PhaseName::Retrying
                | PhaseName::AwaitingReconnect
                | PhaseName::AwaitingLimit => waiting += 1,
                PhaseName::Published => published += 1,
                PhaseName::Missed => missed += 1,
                PhaseName::Canceled => canceled += 1,
                PhaseName::Failed => {}
            }
        }
        match () {
            () if working > 0 || (waiting > 0 && waiting < total) => Self::Publishing,
            () if waiting > 0 || total == 0 => Self::Pending,
            () if published == total => Self::Published,
            () if published > 0 => Self::PartiallyPublished,
            () if canceled == total => Self::Canceled,
            () if missed > 0 && missed + canceled == total => Self::Missed,
            () => Self::Failed,
        }
    }
}

/// Where a page begins and how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Only what comes after this cursor, which an earlier page gave.
    pub after: Option<String>,
    /// At most so many; 1 to 200.
    pub limit: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: 50 }
    }
}

/// A page and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor for the next page; `None` at the end.
    pub next: Option<String>,
}

/// Which posts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostFilter {
    /// Only with this status.
    pub status: Option<PostStatus>,
    /// Only with a delivery on this network.
    pub platform: Option<PlatformId>,
    /// Only with a delivery to this account.
    pub account: Option<AccountId>,
    /// Only scheduled at or after.
    pub from: Option<Timestamp>,
    /// Only scheduled before.
    pub to: Option<Timestamp>,
}

/// Which rows of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only of this post.
    pub post: Option<PostId>,
    /// Only of this delivery.
    pub delivery: Option<DeliveryId>,
    /// Only on this network.
    pub platform: Option<PlatformId>,
    /// Only successes or only failures.
    pub success: Option<bool>,
}

/// A row of the history as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    /// Our id.
    pub id: LogId,
    /// Of which post.
    pub post: PostId,
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// On which network.
    pub platform: PlatformId,
    /// What happened.
    pub event: String,
    /// Whether it was a success.
    pub success: Option<bool>,
    /// Attempts used by then.
    pub attempt: u32,
    /// What belongs to it.
    pub response: Value,
    /// When.
    pub created_at: Timestamp,
}

/// A change of a post that has not begun to become visible.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Which post.
    pub post: PostId,
    /// The epoch of each delivery that the caller saw, all of them still editable: any other epoch means that the edit came too late.
    pub seen: Vec<(DeliveryId, Epoch)>,
    /// What to say from now on.
    pub draft: Draft,
    /// When from now on; every delivery becomes scheduled for it.
    pub scheduled_at: Timestamp,
    /// The wish behind the instant.
    pub wall: Option<WallTime>,
    /// The row for each delivery's history.
    pub log: LogEntry,
    /// When this happened.
    pub now: Timestamp,
}

/// Keeps posts for hosts. Every method that takes a user sees only that user's rows.
#[async_trait]
pub trait PostStore: Debug + Send + Sync + 'static {
    /// Stores a post with its deliveries in one durable step, and wakes workers.
    ///
    /// # Errors
    /// `Storage`, also for an account that is not the user's; nothing is stored then.
    async fn insert_post(&self, new: &NewPost) -> Result<Insert, Error>;

    /// A post with its deliveries, in the order given when it was stored.
    ///
    /// # Errors
    /// `Storage`.
    async fn post(&self, user: UserId, id: PostId) -> Result<Option<(Post, Vec<Delivery>)>, Error>;

    /// Posts, latest scheduled first, with their deliveries.
    ///
    /// # Errors
    /// `Invalid` for a cursor that no page gave; `Storage`.
    async fn posts(
        &self,
        user: UserId,
        filter: &PostFilter,
        page: &PageRequest,
    ) -> Result<Page<(Post, Vec<Delivery>)>, Error>;

    /// A delivery of that user.
    ///
    /// # Errors
    /// `Storage`.
    async fn delivery(&self, user: UserId, id: DeliveryId) -> Result<Option<Delivery>, Error>;

    /// Changes a post and moves all of its deliveries to scheduled under new epochs, without attempts or an error, all or nothing.
    /// `Ok(false)` if a delivery's epoch is not the one seen, if one was not seen, cannot be canceled any more or has a part out (its owner
    /// keeps the epoch while it writes), or if the user has no such post.
    ///
    /// # Errors
    /// `Storage`.
    async fn edit_post(&self, user: UserId, edit: &Edit) -> Result<bool, Error>;

    /// Rows of the history, latest first.
    ///
    /// # Errors
    /// `Invalid` for a cursor that no page gave; `Storage`.
    async fn logs(&self, user: UserId, filter: &LogFilter, page: &PageRequest) -> Result<Page<LogRow>, Error>;

    /// Rows of the history of that user after `after` (in the order of writing), for live events; none for `None`. An id that no row has
    /// counts by the time in it, so that a fresh id means "from now on".
    ///
    /// # Errors
    /// `Storage`.
    async fn logs_since(&self, user: UserId, after: Option<LogId>, limit: usize) -> Result<Vec<LogRow>, Error>;

    /// Adds a row to the history without changing the delivery: a call that mattered, such as deleting on the network.
    ///
    /// # Errors
    /// `Storage`.
    async fn append_log(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<(), Error>;

    /// Notes that a published delivery was deleted on its network, and adds `entry` to the history, both or neither. `Ok(false)` if that was
    /// noted before, or if there is no such delivery; nothing is added then.
    ///
    /// # Errors
    /// `Storage`.
    async fn note_deletion(&self, delivery: DeliveryId, entry: &LogEntry) -> Result<bool, Error>;

    /// Which of these deliveries of that user were deleted on their networks, and when.
    ///
    /// # Errors
    /// `Storage`.
    async fn deletions(&self, user: UserId, deliveries: &[DeliveryId]) -> Result<Vec<(DeliveryId, Timestamp)>, Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_post_follows_from_its_deliveries() {
        use PhaseName as P;
        use PostStatus as S;
        let cases: [(&[P], S); 12] = [
            (&[P::Scheduled, P::Scheduled], S::Pending),
            (&[P::AwaitingReconnect], S::Pending),
            (&[P::Published, P::Scheduled], S::Publishing),
            (&[P::Committing], S::Publishing),
            (&[P::Published, P::Published], S::Published),
            (&[P::Published, P::Failed], S::PartiallyPublished),
            (&[P::Published, P::Canceled], S::PartiallyPublished),
            (&[P::Failed, P::Canceled], S::Failed),
            (&[P::Missed, P::Missed], S::Missed),
            (&[P::Missed, P::Failed], S::Failed),
            (&[P::Unconfirmed, P::Published], S::Unconfirmed),
            (&[P::Canceled], S::Canceled),
        ];
        for (phases, status) in cases {
            assert_eq!(PostStatus::of(phases.iter().copied()), status, "{phases:?}");
            assert_eq!(PostStatus::parse(status.as_str()), Some(status));
        }
    }
}
