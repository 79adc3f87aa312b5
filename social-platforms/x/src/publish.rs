//! Publishing on X: files first, then one visible call for each part.

use std::borrow::Cow;

use async_trait::async_trait;
use social_core::{
    Account, AccountProfile, CallContext, Checkpoint, Committed, Deleted, Draft, Error, ErrorKind, PlatformDescriptor,
    Prepared, Publish, PublishContext, Reconciled, RemotePost, RemotePostId, Retry, Settled, TokenSet, Violation,
    http::Reply,
    platform::TextUse,
    rate::{Observation, RateScope},
    text,
    validate::full_text,
};

use crate::{
    X,
    descriptor::{MEDIA_SCOPE, PUBLISH_LIMIT, WRITE_SCOPE},
    error::{classify, says_not_found},
    media::Step,
    operation,
    options::XOptions,
    progress::Progress,
    require, validate,
    wire::{self, NewPost, NewPostMedia, NewReply},
};

#[async_trait]
impl Publish for X {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    fn validate(&self, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
        validate::check(self, draft, account)
    }

    fn text_use(&self, draft: &Draft, account: &AccountProfile) -> TextUse {
        let rules = &self.facts_for(account).text;
        let used = text::count(rules.unit, &full_text(&self.descriptor, draft));
        TextUse { used, limit: rules.max, unit: rules.unit }
    }

    /// Uploads the files of the first part, one step at a time; a text is ready at once, without a call.
    ///
    /// Pictures take one step each and one more for their description. Everything else takes a step to open the upload, one for every 16 MiB,
    /// one to close it, and waits while X processes it. X keeps files for 24 hours: those that would end within 10 minutes are sent again.
    /// Repeating a step wastes an upload at worst; X forgets those by itself.
    ///
    /// # Errors
    /// `Permission` if the grant is known to lack a scope, `Invalid` for options of another shape and for files that X cannot use, `Timeout` if
    /// X processes a file for more than an hour, `Storage` if a file is gone; else what X answers.
    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        let mut progress = Progress::resume(cx, from.as_ref())?;
        require(cx.tokens, WRITE_SCOPE, operation::PREPARE)?;
        Part::of(self, cx, &progress)?;
        if progress.part == 0 && !cx.draft.media.is_empty() {
            require(cx.tokens, MEDIA_SCOPE, operation::PREPARE)?;
            match self.upload_next(cx, &mut progress).await? {
                Step::Complete => {}
                Step::More => return Ok(Prepared::Again(progress.checkpoint())),
                Step::Wait(poll_after) => return Ok(Prepared::Wait { at: progress.checkpoint(), poll_after }),
            }
        }
        Ok(Prepared::Ready(progress.checkpoint()))
    }

    /// Makes one part public with one request. Parts behind the first answer the one before them.
    ///
    /// # Errors
    /// As the error table says. A success that names no id is `Unexpected` with effect unknown: reading back finds it.
    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error> {
        let stale = || {
            Error::new(ErrorKind::Conflict, operation::COMMIT).message("preparation has to be done again").effect_none()
        };
        let progress = Progress::read(&ready).filter(|progress| progress.part >= cx.parts.len()).ok_or_else(stale)?;
        let part = Part::of(self, cx, &progress)?;
        if progress.part == 0 && progress.media.len() != cx.draft.media.len() {
            return Err(stale());
        }
        let request = cx.visible().post(operation::COMMIT, self.tweets.clone());
        let deadline = self.descriptor.flow.commit_deadline();
        let reply = request.bearer(cx.token()).json(&part.body(&progress)).deadline(deadline).send().await?;
        observe(cx, &reply);
        if !reply.is_success() {
            return Err(in_the_light_of(&progress, cx, classify(&reply)));
        }
        let answer: wire::One<wire::Created> = reply.json()?;
        let Some(created) = answer.data.filter(|created| !created.id.is_empty()) else {
            let error = Error::new(ErrorKind::Unexpected, operation::COMMIT).provider(reply.provider(None));
            return Err(error.message("the answer names no post"));
        };
        if !answer.errors.is_empty() {
            tracing::warn!(delivery.id = %cx.delivery, remote.id = created.id, "X published a part of delivery {} with reservations", cx.delivery);
        }
        Ok(match self.out(cx, &progress, created.id) {
            (post, None) => Committed::Published(post),
            (part, Some(at)) => Committed::Next { at, part },
        })
    }

    /// X is done when the visible call is.
    ///
    /// # Errors
    /// Always `Unsupported`.
    async fn settle(&self, _cx: &PublishContext<'_>, _from: Checkpoint) -> Result<Settled, Error> {
        Err(Error::new(ErrorKind::Unsupported, "publish.settle").message("posts on X are out at once").effect_none())
    }

    async fn reconcile(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        match Progress::read(&ready) {
            Some(progress) => self.look_for(cx, progress).await,
            None => Ok(Reconciled::CannotTell),
        }
    }

    /// Deletes one post; the parts that answer it stay.
    ///
    /// # Errors
    /// `Permission` if it belongs to another account; else what X answers.
    async fn delete(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        _account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error> {
        require(tokens, WRITE_SCOPE, operation::DELETE)?;
        let request = cx.http().delete(operation::DELETE, self.endpoint(&["2", "tweets", id.as_str()]));
        let reply = request.bearer(&tokens.access).send().await.map_err(Error::effect_none)?;
        if !reply.is_success() {
            let error = classify(&reply);
            let gone = error.provider_error().and_then(|said| said.code.as_deref()) == Some("resource-not-found");
            return if gone { Ok(Deleted::Before) } else { Err(error) };
        }
        let answer: wire::One<wire::Gone> = reply.json().map_err(Error::effect_none)?;
        match answer.data {
            Some(wire::Gone { deleted: true }) => Ok(Deleted::Now),
            None if says_not_found(&answer.errors) => Ok(Deleted::Before),
            _ => {
                let error = Error::new(ErrorKind::Unexpected, operation::DELETE).provider(reply.provider(None));
                Err(error.message("the answer does not say that the post is gone").effect_none())
            }
        }
    }
}

/// What becomes of a refusal when one knows what happened before.
fn in_the_light_of(progress: &Progress, cx: &PublishContext<'_>, error: Error) -> Error {
    match error.kind() {
        // An earlier commit of this part was in doubt and not found. That X knows the text now says that it may have landed after all.
        ErrorKind::Duplicate if progress.doubt.is_some() => error.effect_unknown(),
        // The media ended between preparation and commit: the next preparation sends them again.
        ErrorKind::Invalid if progress.media.iter().any(|media| media.expires_at <= cx.now()) => {
            error.retry(Retry::Backoff)
        }
        _ => error,
    }
}

impl X {
    /// A part that is out as `id`, and where the part behind it begins if there is one.
    pub(crate) fn out(
        &self,
        cx: &PublishContext<'_>,
        progress: &Progress,
        id: String,
    ) -> (RemotePost, Option<Checkpoint>) {
        let part = RemotePost::new(id.as_str(), self.permalink(cx.account.profile.handle.as_deref(), &id));
        let follows = progress.part + 1 < part_count(cx.draft);
        (part, follows.then(|| progress.next(id).checkpoint()))
    }
}

/// Tells the rate ledger what an answer said about the limits of posting.
fn observe(cx: &PublishContext<'_>, reply: &Reply) {
    for (prefix, scope) in [("x-rate-limit", RateScope::Account), ("x-app-limit-24hour", RateScope::App)] {
        let observation = Observation::from_headers(prefix, reply.received_at(), |name| reply.header(name));
        cx.observe(PUBLISH_LIMIT, scope, observation);
    }
}

fn part_count(draft: &Draft) -> usize {
    1 + draft.thread.len() + usize::from(draft.first_comment.is_some())
}

/// What one visible call says.
pub(crate) struct Part<'a> {
    pub text: Cow<'a, str>,
    pub options: XOptions,
}

impl<'a> Part<'a> {
    /// The part that is next.
    pub(crate) fn of(x: &X, cx: &PublishContext<'a>, progress: &Progress) -> Result<Self, Error> {
        let draft = cx.draft;
        let text: Cow<'a, str> = match progress.part {
            0 => full_text(&x.descriptor, draft).into(),
            part => match draft.thread.get(part - 1) {
                Some(text) => text.into(),
                None => match draft.first_comment.as_ref().filter(|_| part == draft.thread.len() + 1) {
                    Some(comment) => comment.into(),
                    None => return Err(Error::invalid(operation::PREPARE, "every part of this draft is out already")),
                },
            },
        };
        let options: XOptions = draft.options_for(&X::ID).map_err(|_| {
            Error::invalid(operation::PREPARE, "the options for X have another shape")
                .advice("The options for X are not understood. Please correct or remove them.")
        })?;
        // What belongs to the first part only.
        let options = match progress.part {
            0 => options,
            _ => XOptions { paid_partnership: options.paid_partnership, ..XOptions::default() },
        };
        Ok(Self { text, options })
    }

    pub(crate) fn body<'b>(&'b self, progress: &'b Progress) -> NewPost<'b> {
        let options = &self.options;
        let media_ids: Vec<&str> = progress.media.iter().map(|media| media.id.as_str()).collect();
        NewPost {
            text: &self.text,
            media: (!media_ids.is_empty()).then_some(NewPostMedia { media_ids }),
            poll: options.poll.as_ref(),
            reply: progress.previous.as_deref().map(|id| NewReply { in_reply_to_tweet_id: id }),
            quote_tweet_id: options.quote_tweet_id.as_deref(),
            reply_settings: options.reply_settings,
            community_id: options.community_id.as_deref(),
            made_with_ai: options.made_with_ai,
            paid_partnership: options.paid_partnership,
        }
    }
}
