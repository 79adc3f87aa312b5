//! Publishing: prepare · commit · settle · reconcile.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use social_core::{
    Account, AccountKind, AccountProfile, CallContext, Checkpoint, Committed, Deleted, Draft, Error, ErrorKind,
    PlatformDescriptor, Prepared, Publish, PublishContext, Reconciled, RemotePost, RemotePostId, Retry, Settled,
    TokenSet, Violation, descriptor::TextRules, http::Reply, media::MediaKind, platform::TextUse, text::count,
};
use tracing::info;
use url::Url;

use crate::{
    LinkedIn,
    api::encode,
    error::{MediaFault, classify, media_fault},
    little_text,
    media::{Item, Progress},
    options::{LinkedInOptions, is_post_urn},
    validate,
    wire::{
        Article, Content, Distribution, FoundComment, MediaItem, NewComment, NewPost, PollContent, PollSettings,
        ReshareContext, Text,
    },
};

/// Version of [`Step`].
const SHAPE: u16 = 1;
/// How long after the last upload "still processing" is believed.
const MEDIA_PATIENCE_S: i64 = 30 * 60;

/// How far a delivery got.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// Media are being uploaded and processed.
    Media { items: Vec<Item> },
    /// The post is written: every byte of it.
    Ready {
        body: String,
        #[serde(default)]
        items: Vec<Item>,
        /// When reconciling first read the author's posts without finding this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        absent_since: Option<Timestamp>,
    },
    /// The post is out, its first comment is written.
    Comment {
        post: RemotePost,
        body: String,
        /// When reconciling first read the post's comments without finding this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        absent_since: Option<Timestamp>,
    },
}

impl Step {
    pub(crate) fn read(checkpoint: &Checkpoint) -> Option<Self> {
        checkpoint.read(SHAPE)
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint::write(SHAPE, self)
    }
}

#[async_trait]
impl Publish for LinkedIn {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    fn validate(&self, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
        validate::violations(&self.descriptor, draft, account)
    }

    fn text_use(&self, draft: &Draft, _account: &AccountProfile) -> TextUse {
        let TextRules { max: limit, unit, .. } = self.descriptor.text;
        let options = LinkedInOptions::of(draft).unwrap_or_default();
        TextUse { used: count(unit, &little_text::visible(&full_text(draft, &options))), limit, unit }
    }

    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        // A checkpoint that cannot be read means to begin again: nothing before the commit is visible.
        let step = match from.as_ref().and_then(Step::read) {
            Some(step) => step,
            None => match cx.parts.first() {
                // The post is out already; what is left is the comment.
                Some(post) => match self.comment_step(cx, post)? {
                    Some(step) => step,
                    None => return Err(unreadable("publish.prepare")),
                },
                None => Step::Media { items: Item::plan(&uploads(cx)?) },
            },
        };
        let (items, progress) = match step {
            Step::Comment { post, body, .. } => {
                return Ok(Prepared::Ready(Step::Comment { post, body, absent_since: None }.checkpoint()));
            }
            // Written before and not published. The media may have turned out to be unusable meanwhile.
            Step::Ready { body, mut items, .. } => match self.recheck_media(cx, &mut items).await? {
                Progress::Usable => {
                    return Ok(Prepared::Ready(Step::Ready { body, items, absent_since: None }.checkpoint()));
                }
                progress => (items, progress),
            },
            Step::Media { mut items } => {
                let progress = self.advance_media(cx, &uploads(cx)?, &mut items).await?;
                (items, progress)
            }
        };
        match progress {
            Progress::Moved => Ok(Prepared::Again(Step::Media { items }.checkpoint())),
            Progress::Wait(poll_after) => Ok(Prepared::Wait { at: Step::Media { items }.checkpoint(), poll_after }),
            Progress::Usable => {
                let body = self.post_body(cx, &items)?;
                Ok(Prepared::Ready(Step::Ready { body, items, absent_since: None }.checkpoint()))
            }
        }
    }

    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error> {
        match Step::read(&ready) {
            Some(Step::Ready { body, items, .. }) => {
                let reply = self.send_post(cx, "publish.commit", body.clone()).await?;
                match self.created(&reply) {
                    Some(post) => self.committed(cx, post, &body).await,
                    None => Err(refused(cx, &reply, &items)),
                }
            }
            Some(Step::Comment { post, body, .. }) => self.send_comment(cx, post, body).await,
            Some(Step::Media { .. }) | None => Err(unreadable("publish.commit")),
        }
    }

    /// LinkedIn shows a post with its answer to the create; the driver never asks this.
    async fn settle(&self, _cx: &PublishContext<'_>, _from: Checkpoint) -> Result<Settled, Error> {
        Err(Error::new(ErrorKind::Unsupported, "publish.settle").message("LinkedIn posts do not settle"))
    }

    /// Within 9 minutes the identical bytes again, which LinkedIn refuses if the first ones landed; later a read, where it is allowed.
    async fn reconcile(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        self.find_out(cx, ready).await
    }

    async fn delete(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        _account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error> {
        if !is_post_urn(id.as_str()) {
            return Err(Error::invalid("publish.delete", "this is not the URN of a LinkedIn post"));
        }
        let url = self.api.rest(&format!("posts/{}", encode(id.as_str())), None);
        let request = cx.http().delete("publish.delete", url).header("x-restli-method", "DELETE");
        let reply = self.api.versioned(request, &tokens.access).send().await?;
        match reply.status() {
            200..=299 => Ok(Deleted::Now),
            404 => Ok(Deleted::Before),
            _ => Err(classify(cx, &reply)),
        }
    }
}

impl LinkedIn {
    /// Makes the visible call with bytes that were written before.
    pub(crate) async fn send_post(
        &self,
        cx: &PublishContext<'_>,
        operation: &'static str,
        body: String,
    ) -> Result<Reply, Error> {
        let request = cx.visible().post(operation, self.api.rest("posts", None)).json_bytes(Bytes::from(body));
        self.api.versioned(request, cx.token()).deadline(self.descriptor.flow.commit_deadline()).send().await
    }

    /// The post that an answer to a create speaks of. A 201 without an id is a post all the same; `None` if there is no proof of a post.
    pub(crate) fn created(&self, reply: &Reply) -> Option<RemotePost> {
        let urn = reply.header("x-restli-id").filter(|id| id.starts_with("urn:li:"));
        match (reply.status(), urn) {
            (200..=299, Some(urn)) => Some(self.remote(urn)),
            (201, None) => Some(RemotePost::unknown()),
            _ => None,
        }
    }

    pub(crate) fn remote(&self, urn: &str) -> RemotePost {
        RemotePost::new(urn, self.api.permalink(urn))
    }

    async fn committed(&self, cx: &PublishContext<'_>, post: RemotePost, body: &str) -> Result<Committed, Error> {
        let post = if post.id.is_none() { self.look_up(cx, body).await.unwrap_or(post) } else { post };
        Ok(match self.comment_step(cx, &post)? {
            Some(step) => Committed::Next { at: step.checkpoint(), part: post },
            None => Committed::Published(post),
        })
    }

    /// What follows a post that is out: its first comment, if there is one and the grant may write it.
    pub(crate) fn comment_step(&self, cx: &PublishContext<'_>, post: &RemotePost) -> Result<Option<Step>, Error> {
        let Some(text) = &cx.draft.first_comment else { return Ok(None) };
        // Without an id there is nothing to comment on.
        let Some(id) = post.id.as_ref().filter(|_| may_comment(cx)) else {
            info!(delivery.id = %cx.delivery, "the first comment is left out: the connection or the post does not allow it");
            return Ok(None);
        };
        let author = author(&cx.account.profile);
        let comment = NewComment { actor: &author, object: id.as_str(), message: Text { text: text.clone() } };
        let body = to_json(&comment, "publish.comment")?;
        Ok(Some(Step::Comment { post: post.clone(), body, absent_since: None }))
    }

    async fn send_comment(&self, cx: &PublishContext<'_>, post: RemotePost, body: String) -> Result<Committed, Error> {
        let Some(id) = &post.id else { return Ok(Committed::Published(post)) };
        let url = self.api.rest(&format!("socialActions/{}/comments", encode(id.as_str())), None);
        let request = cx.visible().post("publish.comment", url).json_bytes(Bytes::from(body));
        let reply =
            self.api.versioned(request, cx.token()).deadline(self.descriptor.flow.commit_deadline()).send().await?;
        match reply.status() {
            201 => Ok(Committed::Published(comment(&post, reply.json_or_default(), reply.header("x-restli-id")))),
            // LinkedIn's pages disagree on who may comment; the post does not fail for it.
            403 => {
                info!(delivery.id = %cx.delivery, "LinkedIn does not permit the first comment; the post is out without it");
                Ok(Committed::Published(post))
            }
            // A post may take a moment until it can be commented on.
            404 => Err(classify(cx.call, &reply).retry(Retry::Backoff)),
            _ => Err(classify(cx.call, &reply)),
        }
    }

    fn post_body(&self, cx: &PublishContext<'_>, items: &[Item]) -> Result<String, Error> {
        let options = options(cx)?;
        let post = NewPost {
            author: &author(&cx.account.profile),
            commentary: little_text::escape(&full_text(cx.draft, &options)),
            visibility: options.visibility.wire(),
            distribution: Distribution::MAIN_FEED,
            content: content(cx.draft, &options, items)?,
            lifecycle_state: "PUBLISHED",
            is_reshare_disabled_by_author: options.reshare_disabled,
            reshare_context: options.reshare_parent.map(|parent| ReshareContext { parent }),
        };
        to_json(&post, "publish.prepare")
    }
}

/// A comment as something that the network shows: its id stands in the body, in the header or in neither.
pub(crate) fn comment(post: &RemotePost, found: FoundComment, header: Option<&str>) -> RemotePost {
    let id = found.comment_urn.or(header.map(str::to_owned)).or(found.id).filter(|id| !id.is_empty());
    RemotePost { id: id.map(RemotePostId::new), permalink: post.permalink.clone() }
}

/// What a create that made no post says, with what the checkpoint knows about its media.
fn refused(cx: &PublishContext<'_>, reply: &Reply, items: &[Item]) -> Error {
    let error = classify(cx.call, reply);
    match media_fault(reply) {
        Some(MediaFault::Pending) if items.iter().filter_map(Item::age_from).all(|sent| seconds(sent, cx.now()) > MEDIA_PATIENCE_S) => {
            error
                .retry(Retry::Never)
                .advice("LinkedIn did not finish preparing a file of this post. Please upload the file again and make a new post.")
        }
        // Preparing again looks at the media and uploads them once more.
        Some(MediaFault::Lost) if items.iter().any(Item::may_reprocess) => error.retry(Retry::Backoff),
        _ => error,
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

/// The files of a draft in the order in which their items are kept: the media, or the picture of the link card.
fn uploads<'a>(cx: &PublishContext<'a>) -> Result<Vec<&'a social_core::draft::StoredMedia>, Error> {
    let options = options(cx)?;
    let thumbnail =
        cx.draft.link.as_ref().filter(|_| !options.link_in_text).and_then(|link| link.thumbnail.as_ref()?.stored());
    Ok(cx.draft.stored_media().map(|(_, stored)| stored).chain(thumbnail).collect())
}

fn content(draft: &Draft, options: &LinkedInOptions, items: &[Item]) -> Result<Option<Content>, Error> {
    let mut urns = items.iter().filter_map(Item::urn).map(str::to_owned);
    let mut media: Vec<MediaItem> = draft
        .stored_media()
        .zip(&mut urns)
        .map(|((attachment, stored), id)| {
            let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
            match stored.facts.kind {
                MediaKind::Video => MediaItem { id, alt_text: None, title: filled(&attachment.title) },
                MediaKind::Document => {
                    let title =
                        filled(&attachment.title).unwrap_or_else(|| document_title(&stored.facts.mime).to_owned());
                    MediaItem { id, alt_text: None, title: Some(title) }
                }
                _ => MediaItem { id, alt_text: filled(&attachment.alt_text), title: None },
            }
        })
        .collect();
    if let Some(poll) = &options.poll {
        return Ok(Some(Content::Poll(PollContent {
            question: poll.question.clone(),
            options: poll.options.iter().map(|text| Text { text: text.clone() }).collect(),
            settings: PollSettings { duration: poll.duration.wire() },
        })));
    }
    if media.len() > 1 {
        return Ok(Some(Content::MultiImage { images: media }));
    }
    if let Some(single) = media.pop() {
        return Ok(Some(Content::Media(single)));
    }
    let Some(link) = draft.link.as_ref().filter(|_| !options.link_in_text) else { return Ok(None) };
    // LinkedIn does not look at the address itself: without a title there is no card.
    let host = || Some(Url::parse(&link.url).ok()?.host_str()?.trim_start_matches("www.").to_owned());
    let title = link.title.clone().filter(|title| !title.trim().is_empty()).or_else(host);
    Ok(Some(Content::Article(Article {
        source: link.url.clone(),
        title: title.ok_or_else(|| Error::invalid("publish.prepare", "the link is not a web address"))?,
        description: link.description.clone(),
        thumbnail: link.thumbnail.as_ref().and_then(|_| urns.next()),
    })))
}

fn document_title(mime: &str) -> &'static str {
    if mime.contains("powerpoint") || mime.contains("presentation") { "Presentation" } else { "Document" }
}

/// The text as a person wrote it, with the link behind it if it is to stand there.
pub(crate) fn full_text(draft: &Draft, options: &LinkedInOptions) -> String {
    match &draft.link {
        Some(link) if options.link_in_text && !draft.text.contains(&link.url) => {
            if draft.text.is_empty() {
                link.url.clone()
            } else {
                format!("{}\n{}", draft.text.trim_end(), link.url)
            }
        }
        _ => draft.text.clone(),
    }
}

fn options(cx: &PublishContext<'_>) -> Result<LinkedInOptions, Error> {
    LinkedInOptions::of(cx.draft)
        .map_err(|reason| Error::invalid("publish.prepare", format!("the LinkedIn options are wrong: {reason}")))
}

/// The URN under which an account acts.
pub(crate) fn author(profile: &AccountProfile) -> String {
    if let Some(urn) = profile.attributes.get("author") {
        return urn.clone();
    }
    match profile.kind {
        AccountKind::Organization | AccountKind::Page => format!("urn:li:organization:{}", profile.remote_id),
        _ => format!("urn:li:person:{}", profile.remote_id),
    }
}

/// Whether it is worth trying: LinkedIn's pages disagree on which of these scopes is enough.
fn may_comment(cx: &PublishContext<'_>) -> bool {
    let scopes = &cx.tokens.scopes;
    scopes.is_empty()
        || scopes.iter().any(|scope| {
            ["w_member_social", "w_organization_social", "w_member_social_feed", "w_organization_social_feed"]
                .contains(&scope.as_str())
        })
}

fn to_json(value: &impl Serialize, operation: &'static str) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::invalid(operation, "the post cannot be written as JSON").source(e))
}

fn unreadable(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, operation)
        .message("the checkpoint cannot be read")
        .retry(Retry::Never)
        .effect_none()
}
