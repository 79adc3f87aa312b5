//! What the API answers, as data. Names and shapes are public.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use social_core::{
    Account, Connection, Error, PlatformId, Retry, Severity, Violation,
    descriptor::Abilities,
    draft::{Attachment, Link, Override, StoredMedia},
    phase::Phase,
    social::{self, Scheduled},
    store::{Delivery, LogRow, Post, PostStatus, User},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::seconds;

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T: ToSchema> {
    /// What is on it.
    pub items: Vec<T>,
    /// Give this as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl<T: ToSchema> Page<T> {
    /// A list that fits on one page.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    pub(crate) fn from_store<R>(page: social_core::store::Page<R>, view: impl Fn(R) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next: page.next }
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ViolationView {
    /// A stable name such as `text_too_long`.
    pub code: String,
    /// `error` stops the post, `warning` does not.
    pub severity: &'static str,
    /// For which account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<Uuid>,
    /// On which network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The field of the request, such as `content` or `media[0].alt_text`.
    pub field: String,
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<u64>,
    /// The unit of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl ViolationView {
    pub(crate) fn error(
        code: &str,
        field: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::from(&Violation::error(code, field, message, advice))
    }
}

impl From<&Violation> for ViolationView {
    fn from(found: &Violation) -> Self {
        Self {
            code: found.code.clone(),
            severity: match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            account_id: found.account_id.map(social_core::AccountId::uuid),
            platform: found.platform.as_ref().map(PlatformId::to_string),
            field: found.field.clone(),
            limit: found.limit,
            actual: found.actual,
            unit: found.unit.clone(),
            message: found.message.clone(),
            advice: found.advice.clone(),
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UserView {
    /// Its id.
    pub id: Uuid,
    /// Its e-mail address.
    pub email: String,
    /// A free word of the host.
    pub plan: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self { id: user.id.uuid(), email: user.email, plan: user.plan, created_at: user.created_at }
    }
}

/// A key that was just made. It is never shown again.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    /// Its public part: what `DELETE /keys/{id}` takes.
    pub id: Uuid,
    /// The whole key.
    #[schema(example = "sk_live_0198f3...")]
    pub key: String,
    /// What the user called it.
    pub name: String,
    /// Whose it is.
    pub user_id: Uuid,
    /// What it may do; empty means everything of its user.
    pub scopes: Vec<String>,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A one-time link for a browser.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinkView {
    /// To be opened in the browser of the person who connects.
    pub url: String,
    /// Until when it can be opened.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A place where a post can appear.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    pub id: Uuid,
    /// On which network.
    pub platform: String,
    /// `profile`, `member`, `organization`, `page`, ...
    pub kind: &'static str,
    /// The name in addresses and mentions.
    pub handle: Option<String>,
    /// The name that people read.
    pub display_name: String,
    /// A picture; its address may expire.
    pub avatar_url: Option<String>,
    /// `active`, `limited`, `needs_reconnect` or `disconnected`.
    pub status: &'static str,
    /// Through which grant it is reached.
    pub connection_id: Uuid,
    /// When the access token ends. It is renewed by itself where the network lets us.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was first connected.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl AccountView {
    pub(crate) fn new(account: Account, connection: Option<&Connection>) -> Self {
        Self {
            id: account.id.uuid(),
            platform: account.platform.to_string(),
            kind: account.profile.kind.as_str(),
            handle: account.profile.handle,
            display_name: account.profile.display_name,
            avatar_url: account.profile.avatar_url,
            status: account.status.as_str(),
            connection_id: account.connection.uuid(),
            expires_at: connection.and_then(|connection| connection.expires_at),
            created_at: account.created_at,
        }
    }
}

/// One grant of a network.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its id.
    pub id: Uuid,
    /// Which network gave it.
    pub platform: String,
    /// `active`, `limited` or `needs_reconnect`.
    pub status: &'static str,
    /// The scope preset that was asked for.
    pub preset: String,
    /// What was asked for and what was given.
    pub scopes: ScopesView,
    /// When a person must connect again; null while that happens by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub act_by: Option<Timestamp>,
    /// When the access token ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The accounts that it reaches.
    pub accounts: Vec<Uuid>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Scopes of a grant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScopesView {
    /// What was asked for.
    pub requested: Vec<String>,
    /// What was given.
    pub granted: Vec<String>,
    /// What was asked for and not given.
    pub missing: Vec<String>,
}

impl ConnectionView {
    pub(crate) fn new(connection: Connection, accounts: &[Account]) -> Self {
        Self {
            id: connection.id.uuid(),
            platform: connection.platform.to_string(),
            status: connection.status.as_str(),
            preset: connection.preset.clone(),
            act_by: connection.act_by(),
            expires_at: connection.expires_at,
            accounts: accounts.iter().filter(|a| a.connection == connection.id).map(|a| a.id.uuid()).collect(),
            created_at: connection.created_at,
            scopes: ScopesView {
                missing: connection.missing_scopes(),
                requested: connection.requested_scopes,
                granted: connection.granted_scopes,
            },
        }
    }
}

/// What became of disconnecting.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct DisconnectedView {
    /// Always true: nothing is published there any more.
    pub disconnected: bool,
    /// Whether the grant was erased here. It is kept while other accounts use it.
    pub erased: bool,
    /// Whether the network confirmed that it forgot the grant.
    pub revoked: bool,
}

/// An uploaded file and what was found in it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MediaView {
    /// Its id, to be used in posts.
    pub id: Uuid,
    /// `image`, `gif`, `video` or `document`.
    pub kind: String,
    /// The MIME type by content.
    pub mime: String,
    /// Length of the file.
    pub size_bytes: u64,
    /// Width in pixels as shown.
    pub width: Option<u32>,
    /// Height in pixels as shown.
    pub height: Option<u32>,
    /// Playing time.
    pub duration_ms: Option<u64>,
    /// Frames of an animation.
    pub frames: Option<u32>,
    /// Code of the video format.
    pub video_codec: Option<String>,
    /// Code of the sound format.
    pub audio_codec: Option<String>,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: Option<String>,
    /// A signed address of the file for a preview.
    pub url: Option<String>,
    /// Until when that address is good.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub url_expires_at: Option<Timestamp>,
}

impl MediaView {
    pub(crate) fn new(stored: &StoredMedia, url: Option<(url::Url, Timestamp)>) -> Self {
        let facts = stored.facts.clone();
        let (url, url_expires_at) = url.map(|(url, until)| (url.to_string(), until)).unzip();
        Self {
            id: stored.id.uuid(),
            kind: kind_name(&facts),
            mime: facts.mime,
            size_bytes: facts.size_bytes,
            width: facts.width,
            height: facts.height,
            duration_ms: facts.duration_ms,
            frames: facts.frames,
            video_codec: facts.video_codec,
            audio_codec: facts.audio_codec,
            sha256: facts.sha256,
            url,
            url_expires_at,
        }
    }
}

fn kind_name(facts: &social_core::media::MediaFacts) -> String {
    serde_json::to_value(facts.kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A file in a post.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PostMediaView {
    /// Its id.
    pub id: Option<Uuid>,
    /// `image`, `gif`, `video` or `document`.
    pub kind: Option<String>,
    /// The MIME type by content.
    pub mime: Option<String>,
    /// What it shows, for people who do not see it.
    pub alt_text: Option<String>,
    /// Its title, where the network shows one.
    pub title: Option<String>,
}

impl From<&Attachment> for PostMediaView {
    fn from(attachment: &Attachment) -> Self {
        let stored = attachment.media.stored();
        Self {
            id: stored.map(|stored| stored.id.uuid()),
            kind: stored.map(|stored| kind_name(&stored.facts)),
            mime: stored.map(|stored| stored.facts.mime.clone()),
            alt_text: attachment.alt_text.clone(),
            title: attachment.title.clone(),
        }
    }
}

/// A link with what its card shows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PostLinkView {
    /// Where it leads.
    pub url: String,
    /// The card's title.
    pub title: Option<String>,
    /// The card's text.
    pub description: Option<String>,
    /// The card's picture: id of a file.
    pub thumbnail: Option<Uuid>,
}

impl From<&Link> for PostLinkView {
    fn from(link: &Link) -> Self {
        Self {
            url: link.url.clone(),
            title: link.title.clone(),
            description: link.description.clone(),
            thumbnail: link.thumbnail.as_ref().and_then(|media| media.stored()).map(|stored| stored.id.uuid()),
        }
    }
}

/// What an account says instead.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OverrideView {
    /// Instead of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Instead of the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<PostLinkView>,
    /// Instead of the thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<Vec<String>>,
    /// Instead of the first comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_comment: Option<String>,
    /// Instead of the network's options.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub options: Option<Value>,
}

impl From<&Override> for OverrideView {
    fn from(own: &Override) -> Self {
        Self {
            content: own.text.clone(),
            link: own.link.as_ref().map(PostLinkView::from),
            thread: own.thread.clone(),
            first_comment: own.first_comment.clone(),
            options: own.options.clone(),
        }
    }
}

/// A post with its deliveries.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PostView {
    /// Its id.
    pub id: Uuid,
    /// Derived from the deliveries: `pending`, `publishing`, `published`, `partially_published`, `failed`, `missed`, `unconfirmed`, `canceled`.
    pub status: &'static str,
    /// When it goes out, or went out.
    #[schema(value_type = String, format = DateTime)]
    pub scheduled_time: Timestamp,
    /// The wall-clock time that it was scheduled with, if it was.
    pub local_time: Option<String>,
    /// The zone of that.
    pub time_zone: Option<String>,
    /// The text.
    pub content: String,
    /// The files.
    pub media: Vec<PostMediaView>,
    /// The link.
    pub link: Option<PostLinkView>,
    /// Further parts of a thread.
    pub thread: Vec<String>,
    /// The first comment.
    pub first_comment: Option<String>,
    /// Settings by network.
    #[schema(value_type = Object)]
    pub options: BTreeMap<String, Value>,
    /// What is different for single accounts, by their ids.
    pub overrides: BTreeMap<Uuid, OverrideView>,
    /// One per account.
    pub deliveries: Vec<DeliveryView>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its text or time last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl PostView {
    pub(crate) fn new(post: Post, deliveries: &[Delivery], abilities: impl Fn(&PlatformId) -> Abilities) -> Self {
        let (local_time, time_zone) = post.wall.map(|wall| (wall.local_time, wall.time_zone)).unzip();
        let draft = post.draft;
        let mut views: Vec<_> = deliveries.iter().map(|one| DeliveryView::new(one, abilities(&one.platform))).collect();
        // An edit changes all deliveries or none.
        if !deliveries.iter().all(|one| one.phase.name().can_cancel() && one.parts.is_empty()) {
            let edits = views.iter_mut().flat_map(|view| &mut view.actions).filter(|action| action.name == "edit");
            for edit in edits {
                edit.allowed = false;
                edit.reason.get_or_insert("another delivery of the post has begun or ended");
            }
        }
        Self {
            id: post.id.uuid(),
            status: PostStatus::of(deliveries.iter().map(|delivery| delivery.phase.name())).as_str(),
            scheduled_time: post.scheduled_at,
            local_time,
            time_zone,
            content: draft.text,
            media: draft.media.iter().map(PostMediaView::from).collect(),
            link: draft.link.as_ref().map(PostLinkView::from),
            thread: draft.thread,
            first_comment: draft.first_comment,
            options: draft.options.into_iter().map(|(platform, value)| (platform.to_string(), value)).collect(),
            overrides: draft.overrides.iter().map(|(id, own)| (id.uuid(), OverrideView::from(own))).collect(),
            deliveries: views,
            created_at: post.created_at,
            updated_at: post.updated_at,
        }
    }

    pub(crate) fn of(scheduled: Scheduled, abilities: impl Fn(&PlatformId) -> Abilities) -> Self {
        Self::new(scheduled.post, &scheduled.deliveries, abilities)
    }
}

/// One post to one account.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeliveryView {
    /// Its id.
    pub id: Uuid,
    /// Of which post.
    pub post_id: Uuid,
    /// To which account.
    pub account_id: Uuid,
    /// On which network.
    pub platform: String,
    /// Where it stands, such as `scheduled`, `committing`, `published`, `awaiting_reconnect`.
    pub phase: &'static str,
    /// Attempts used so far.
    pub attempt: u32,
    /// When it was to go out.
    #[schema(value_type = String, format = DateTime)]
    pub due_at: Timestamp,
    /// When somebody looks at it next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<ErrorView>,
    /// Its id on the network.
    pub remote_id: Option<String>,
    /// Where people find it.
    pub permalink: Option<String>,
    /// When it was out.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<Timestamp>,
    /// When it was deleted there through this API; it stays `published`, since it was out.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deleted_at: Option<Timestamp>,
    /// Parts that are out, in order: of a thread, or a first comment behind a post.
    pub parts: Vec<PartView>,
    /// What can be done with it now.
    pub actions: Vec<ActionView>,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A part that is out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartView {
    /// Its id on the network.
    pub remote_id: Option<String>,
    /// Where people find it.
    pub permalink: Option<String>,
}

/// Something that can or cannot be done now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActionView {
    /// `cancel`, `edit`, `retry`, `resolve` or `delete_remote`.
    pub name: &'static str,
    /// Whether it is possible now.
    pub allowed: bool,
    /// Why it is not.
    pub reason: Option<&'static str>,
}

/// What went wrong with a delivery.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorView {
    /// What happened: `rejected`, `rate_limited`, `reconnect`, ...
    pub kind: String,
    /// What to do, for the person in front of the screen.
    pub advice: String,
    /// For a developer.
    pub message: Option<String>,
    /// Who must act: `user`, `operator`, `network` or `nobody`.
    #[schema(value_type = String)]
    pub actor: social_core::Actor,
    /// What was being done.
    pub operation: String,
    /// How many seconds the network wants us to wait.
    pub retry_after: Option<u64>,
    /// What the network said.
    pub provider: Option<ProviderView>,
}

/// What a network said, short and without secrets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProviderView {
    /// HTTP status.
    pub status: Option<u16>,
    /// The network's own code.
    pub code: Option<String>,
    /// What to quote to the network's support.
    pub request_id: Option<String>,
    /// The beginning of the answer.
    pub excerpt: Option<String>,
}

impl From<&Error> for ErrorView {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind().as_str().to_owned(),
            advice: error.advice_text().to_owned(),
            message: error.detail().map(str::to_owned),
            actor: error.who(),
            operation: error.operation().to_string(),
            retry_after: match error.retry_hint() {
                Retry::After(wait) => Some(seconds(wait)),
                _ => None,
            },
            provider: error.provider_error().map(|said| ProviderView {
                status: said.status,
                code: said.code.clone(),
                request_id: said.request_id.clone(),
                excerpt: said.excerpt.clone(),
            }),
        }
    }
}

impl DeliveryView {
    /// Notes that it was deleted on its network.
    pub(crate) fn deleted(&mut self, at: Timestamp) {
        self.deleted_at = Some(at);
        for action in self.actions.iter_mut().filter(|action| action.name == "delete_remote") {
            (action.allowed, action.reason) = (false, Some("it is deleted there"));
        }
    }

    pub(crate) fn new(delivery: &Delivery, abilities: Abilities) -> Self {
        let remote = match &delivery.phase {
            Phase::Published { remote } => Some(remote),
            _ => None,
        };
        // A whole that is out in parts is found at its first part.
        let whole = remote.filter(|remote| remote.id.is_some() || remote.permalink.is_some());
        let whole = whole.or_else(|| delivery.parts.first().filter(|_| remote.is_some()));
        let error = delivery.error.as_deref().and_then(|json| serde_json::from_str::<Error>(json).ok());
        Self {
            id: delivery.id.uuid(),
            post_id: delivery.post.uuid(),
            account_id: delivery.account.uuid(),
            platform: delivery.platform.to_string(),
            phase: delivery.phase.name().as_str(),
            attempt: delivery.attempt,
            due_at: delivery.due_at,
            next_at: delivery.wake_at.filter(|_| !delivery.phase.name().is_final()),
            error: error.as_ref().map(ErrorView::from),
            remote_id: whole.and_then(|remote| remote.id.as_ref()).map(ToString::to_string),
            permalink: whole.and_then(|remote| remote.permalink.clone()),
            published_at: delivery.published_at,
            deleted_at: None,
            parts: delivery
                .parts
                .iter()
                .map(|part| PartView {
                    remote_id: part.id.as_ref().map(ToString::to_string),
                    permalink: part.permalink.clone(),
                })
                .collect(),
            actions: social::actions(delivery, abilities)
                .into_iter()
                .map(|action| ActionView { name: action.name, allowed: action.allowed, reason: action.reason })
                .collect(),
            updated_at: delivery.updated_at,
        }
    }
}

/// A row of the history.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogView {
    /// Its id.
    pub id: Uuid,
    /// Of which post.
    pub post_id: Uuid,
    /// Of which delivery.
    pub delivery_id: Uuid,
    /// On which network.
    pub platform: String,
    /// What happened, such as `committing`, `published`, `edited`.
    pub event: String,
    /// Whether it was a success; null for what is neither.
    pub success: Option<bool>,
    /// Attempts used by then.
    pub attempt: u32,
    /// What belongs to it; null for what says it all by its name.
    #[schema(value_type = Option<Object>)]
    pub response: Value,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<LogRow> for LogView {
    fn from(row: LogRow) -> Self {
        Self {
            id: row.id.uuid(),
            post_id: row.post.uuid(),
            delivery_id: row.delivery.uuid(),
            platform: row.platform.to_string(),
            event: row.event,
            success: row.success,
            attempt: row.attempt,
            response: row.response,
            created_at: row.created_at,
        }
    }
}

/// What a draft would meet with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PreviewView {
    /// Whether it would be accepted.
    pub ok: bool,
    /// What is wrong or doubtful.
    pub violations: Vec<ViolationView>,
    /// How much of the allowed text it uses.
    pub accounts: Vec<AccountTextView>,
}

/// How much of the allowed text a draft uses on one account.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountTextView {
    /// Which account.
    pub account_id: Uuid,
    /// How much.
    pub text: TextUseView,
}

/// How much of the allowed text is used.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TextUseView {
    /// So much.
    pub used: usize,
    /// Of so much.
    pub limit: usize,
    /// In this unit.
    pub unit: String,
}
