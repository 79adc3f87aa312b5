//! Did a post whose answer was lost land?
//!
//! LinkedIn refuses an exact duplicate of a recent post by the same author for 10 minutes and names the original. So in that time the
//! byte-identical create is sent again: 201 means that the first one never landed and this one did, a refusal names the first one. Later
//! it would be a second post; then only reading the author's posts can tell, which LinkedIn allows for pages and hardly for members.

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use social_core::{
    Checkpoint, Error, ErrorKind, PublishContext, Reconciled, RemotePost,
    http::Request,
    time::{later, positive},
};

use crate::{
    LinkedIn,
    api::encode,
    error::{classify, duplicate_of},
    little_text,
    publish::{Step, author, comment},
    wire::{FoundComment, FoundPost, Page},
};

/// The duplicate check may lag a little behind the create.
const EARLIEST: SignedDuration = SignedDuration::from_secs(10);
/// When sending again stops: a minute before LinkedIn forgets.
const LATEST: SignedDuration = SignedDuration::from_mins(9);
/// Between two complete reads that together prove absence.
const BETWEEN_READS: SignedDuration = SignedDuration::from_mins(5);
/// How far clocks may differ.
const CLOCK_MARGIN: SignedDuration = SignedDuration::from_mins(2);
/// Any of them lets us read the comments of our own posts.
const COMMENT_SCOPES: [&str; 4] =
    ["r_organization_social_feed", "r_member_social_feed", "r_organization_social", "r_member_social"];
const PAGE: usize = 100;
const PAGES: usize = 5;

impl LinkedIn {
    pub(crate) async fn find_out(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        let age = cx.now().duration_since(cx.attempted_at);
        if let Some(after) = positive(EARLIEST - age) {
            return Ok(Reconciled::AskAgain { at: ready, after });
        }
        match Step::read(&ready) {
            Some(Step::Ready { body, items, absent_since }) => {
                if age < LATEST
                    && !cx.prepared_again
                    && let Some(found) = self.send_again(cx, body.clone()).await?
                {
                    return Ok(found);
                }
                match self.search(cx, &body).await? {
                    Search::Found(post) => self.published(cx, post),
                    Search::Absent => {
                        Ok(absent(cx, absent_since, |since| Step::Ready { body, items, absent_since: Some(since) }))
                    }
                    Search::CannotTell => Ok(Reconciled::CannotTell),
                }
            }
            Some(Step::Comment { post, body, absent_since }) => match self.search_comment(cx, &post, &body).await? {
                Search::Found(comment) => Ok(Reconciled::Published(comment)),
                Search::Absent => {
                    Ok(absent(cx, absent_since, |since| Step::Comment { post, body, absent_since: Some(since) }))
                }
                Search::CannotTell => Ok(Reconciled::CannotTell),
            },
            Some(Step::Media { .. }) | None => Ok(Reconciled::CannotTell),
        }
    }

    /// The post that was just made without LinkedIn telling its id, where the author's posts may be read.
    pub(crate) async fn look_up(&self, cx: &PublishContext<'_>, body: &str) -> Option<RemotePost> {
        match self.search(cx, body).await {
            Ok(Search::Found(post)) => Some(post),
            Ok(Search::Absent | Search::CannotTell) | Err(_) => None,
        }
    }

    /// Sends the identical post once more. `None` if the answer settles nothing.
    async fn send_again(&self, cx: &PublishContext<'_>, body: String) -> Result<Option<Reconciled>, Error> {
        let reply = self.send_post(cx, "publish.reconcile", body).await.map_err(Error::effect_unknown)?;
        if let Some(post) = self.created(&reply) {
            return self.published(cx, post).map(Some);
        }
        if let Some(urn) = duplicate_of(&reply) {
            // Another delivery of ours says the same and was first: ours was refused, then and now.
            return if cx.taken.contains(&urn) {
                Ok(Some(Reconciled::NotPublished))
            } else {
                self.published(cx, self.remote(&urn)).map(Some)
            };
        }
        // Whatever this answer proves, it proves about this call and not about the one before.
        let error = classify(cx.call, &reply).effect_unknown();
        use ErrorKind as K;
        match error.kind() {
            K::Rejected | K::Invalid | K::Duplicate | K::Permission | K::NotFound | K::Unsupported => Ok(None),
            _ => Err(error),
        }
    }

    fn published(&self, cx: &PublishContext<'_>, post: RemotePost) -> Result<Reconciled, Error> {
        Ok(match self.comment_step(cx, &post)? {
            Some(step) => Reconciled::Next { at: step.checkpoint(), part: post },
            None => Reconciled::Published(post),
        })
    }

    fn may_read_posts(&self, cx: &PublishContext<'_>) -> bool {
        let needed = if author(&cx.account.profile).starts_with("urn:li:organization:") {
            "r_organization_social"
        } else {
            "r_member_social"
        };
        cx.tokens.scopes.iter().any(|scope| scope == needed)
    }

    /// Reads the author's posts back to the time before the attempt.
    async fn search(&self, cx: &PublishContext<'_>, body: &str) -> Result<Search, Error> {
        if !self.may_read_posts(cx) {
            return Ok(Search::CannotTell);
        }
        let sent: Value = serde_json::from_str(body).unwrap_or_default();
        let wanted = Wanted {
            text: little_text::fingerprint(sent["commentary"].as_str().unwrap_or_default()),
            media: media_urns(&sent["content"]),
            other_media: cx.prepared_again,
            from: later(cx.attempted_at, -CLOCK_MARGIN),
        };
        if wanted.text.is_empty() && (wanted.media.is_empty() || wanted.other_media) {
            return Ok(Search::CannotTell);
        }
        let author = encode(&author(&cx.account.profile));
        for page in 0..PAGES {
            let query = format!("q=author&author={author}&start={}&count={PAGE}&sortBy=CREATED", page * PAGE);
            let request =
                cx.http().get("publish.find", self.api.rest("posts", Some(&query))).header("x-restli-method", "FINDER");
            let Some(found) = self.read_page::<FoundPost>(cx, request).await? else { return Ok(Search::CannotTell) };
            if let Some(post) = found.iter().find(|post| wanted.is(post) && !cx.taken.contains(&post.id)) {
                return Ok(Search::Found(self.remote(&post.id)));
            }
            let reaches_back = found.iter().any(|post| instant(post.created_at).is_some_and(|at| at < wanted.from));
            if reaches_back || found.len() < PAGE {
                return Ok(Search::Absent);
            }
        }
        Ok(Search::CannotTell)
    }

    /// Reads the comments under our own new post.
    async fn search_comment(&self, cx: &PublishContext<'_>, post: &RemotePost, body: &str) -> Result<Search, Error> {
        let sent: Value = serde_json::from_str(body).unwrap_or_default();
        let (Some(id), Some(text)) = (&post.id, sent["message"]["text"].as_str()) else {
            return Ok(Search::CannotTell);
        };
        if !cx.tokens.scopes.iter().any(|scope| COMMENT_SCOPES.contains(&scope.as_str())) {
            return Ok(Search::CannotTell);
        }
        let path = format!("socialActions/{}/comments", encode(id.as_str()));
        let request = cx.http().get("publish.find", self.api.rest(&path, Some(&format!("start=0&count={PAGE}"))));
        let Some(found) = self.read_page::<FoundComment>(cx, request).await? else { return Ok(Search::CannotTell) };
        let complete = found.len() < PAGE;
        let from = later(cx.attempted_at, -CLOCK_MARGIN);
        let is_ours = |comment: &FoundComment| {
            let created = instant(comment.created.as_ref().map(|moment| moment.time));
            comment.message.as_ref().is_some_and(|message| message.text.split_whitespace().eq(text.split_whitespace()))
                && created.is_none_or(|at| at >= from)
        };
        match found.into_iter().find(is_ours) {
            Some(ours) => Ok(Search::Found(comment(post, ours, None))),
            None if complete => Ok(Search::Absent),
            None => Ok(Search::CannotTell),
        }
    }

    /// One page of a list; `None` where LinkedIn does not let us read it.
    async fn read_page<T: DeserializeOwned>(
        &self,
        cx: &PublishContext<'_>,
        request: Request<'_>,
    ) -> Result<Option<Vec<T>>, Error> {
        let reply = self.api.versioned(request, cx.token()).send().await.map_err(Error::effect_unknown)?;
        match reply.status() {
            200..=299 => Ok(Some(reply.json::<Page<T>>()?.elements)),
            400 | 403 | 404 => Ok(None),
            _ => Err(classify(cx.call, &reply).effect_unknown()),
        }
    }
}

/// Two complete reads some minutes apart, both after the attempt, prove absence.
fn absent(cx: &PublishContext<'_>, since: Option<Timestamp>, step: impl FnOnce(Timestamp) -> Step) -> Reconciled {
    // A read that belongs to an earlier attempt proves nothing about this one.
    let first = since.filter(|at| *at >= cx.attempted_at).unwrap_or_else(|| cx.now());
    match positive(BETWEEN_READS - cx.now().duration_since(first)) {
        None => Reconciled::NotPublished,
        Some(after) => Reconciled::AskAgain { at: step(first).checkpoint(), after },
    }
}

enum Search {
    Found(RemotePost),
    /// The list was read completely, back to before the attempt, and it is not there.
    Absent,
    /// The list may not be read, or is too long.
    CannotTell,
}

/// What a post must look like to be ours.
struct Wanted {
    text: String,
    media: Vec<String>,
    /// They were uploaded again since: as many as in the post, under other names.
    other_media: bool,
    from: Timestamp,
}

impl Wanted {
    fn is(&self, post: &FoundPost) -> bool {
        let is_shown = !matches!(post.lifecycle_state.as_deref(), Some("DRAFT" | "PUBLISH_FAILED"));
        let is_recent = instant(post.created_at).is_some_and(|at| at >= self.from);
        let media = media_urns(&post.content);
        // Uploaded media are one post's alone and prove more than its text; where one side names none, they prove nothing against it.
        let comparable = !media.is_empty() && !self.media.is_empty();
        let same_media = match comparable {
            true if self.other_media => media.len() == self.media.len(),
            true => media == self.media,
            false => !self.text.is_empty(),
        };
        is_shown && is_recent && same_media && little_text::fingerprint(&post.commentary) == self.text
    }
}

fn instant(milliseconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds?).ok()
}

/// All uploaded media in a post's content, in order.
fn media_urns(content: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_urns(content, &mut found);
    found.sort();
    found
}

fn collect_urns(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text)
            if ["urn:li:image:", "urn:li:video:", "urn:li:document:"].iter().any(|kind| text.starts_with(kind)) =>
        {
            found.push(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| collect_urns(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect_urns(value, found)),
        _ => {}
    }
}
