//! Did a post whose answer was lost land?
//!
//! LinkedIn refuses an exact duplicate of a recent post by the same author for 10 minutes and names the original. So in that time the
//! byte-identical create is sent again: 201 means that the first one never landed and this one did, a refusal names the first one. Later
//! it would be a second post; then only reading the author's posts can tell, which LinkedIn allows for pages and hardly for members.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use social_core::{
    Checkpoint, Error, ErrorKind, PublishContext, Reconciled, RemotePost,
    time::{later, positive},
};

use crate::{
    LinkedIn,
    api::encode,
    error::{classify, duplicate_of},
    little_text,
    publish::{Step, author},
    wire::{FoundPost, Page},
};

/// The duplicate check may lag a little behind the create.
const EARLIEST: SignedDuration = SignedDuration::from_secs(10);
/// When sending again stops: a minute before LinkedIn forgets.
const LATEST: SignedDuration = SignedDuration::from_mins(9);
/// Between two complete reads that together prove absence.
const BETWEEN_READS: SignedDuration = SignedDuration::from_mins(5);
/// How far clocks may differ.
const CLOCK_MARGIN: SignedDuration = SignedDuration::from_mins(2);
const PAGE: usize = 100;
const PAGES: usize = 5;

impl LinkedIn {
    pub(crate) async fn find_out(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        let (body, items, absent_since) = match Step::read(&ready) {
            Some(Step::Ready { body, items, absent_since }) => (body, items, absent_since),
            // The post is out; whether its comment is, nobody tells.
            Some(Step::Comment { .. } | Step::Media { .. }) | None => return Ok(Reconciled::CannotTell),
        };
        let age = cx.now().duration_since(cx.attempted_at);
        if let Some(after) = positive(EARLIEST - age) {
            return Ok(Reconciled::AskAgain { at: ready, after });
        }
        if age < LATEST
            && let Some(found) = self.send_again(cx, body.clone()).await?
        {
            return Ok(found);
        }
        if !self.may_read_posts(cx) {
            return Ok(Reconciled::CannotTell);
        }
        match self.search(cx, &body).await? {
            Search::Found(post) => self.published(cx, post),
            Search::Incomplete => Ok(Reconciled::CannotTell),
            Search::Absent => {
                // A read that belongs to an earlier attempt proves nothing about this one.
                let first = absent_since.filter(|at| *at >= cx.attempted_at);
                let wait = first.map_or(Some(BETWEEN_READS), |at| {
                    Some(BETWEEN_READS - cx.now().duration_since(at)).filter(SignedDuration::is_positive)
                });
                Ok(match wait.and_then(positive) {
                    None => Reconciled::NotPublished,
                    Some(after) => {
                        let step = Step::Ready { body, items, absent_since: Some(first.unwrap_or_else(|| cx.now())) };
                        Reconciled::AskAgain { at: step.checkpoint(), after }
                    }
                })
            }
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
            return if cx.taken.contains(&urn) { Ok(Some(Reconciled::NotPublished)) } else { self.published(cx, self.remote(&urn)).map(Some) };
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
        let needed = if author(&cx.account.profile).starts_with("urn:li:organization:") { "r_organization_social" } else { "r_member_social" };
        cx.tokens.scopes.iter().any(|scope| scope == needed)
    }

    /// Reads the author's posts back to the time before the attempt.
    async fn search(&self, cx: &PublishContext<'_>, body: &str) -> Result<Search, Error> {
        let Ok(sent) = serde_json::from_str::<Value>(body) else { return Ok(Search::Incomplete) };
        let wanted = Wanted {
            text: little_text::fingerprint(sent["commentary"].as_str().unwrap_or_default()),
            media: media_urns(&sent["content"]),
            from: later(cx.attempted_at, -CLOCK_MARGIN),
        };
        if wanted.text.is_empty() && wanted.media.is_empty() {
            return Ok(Search::Incomplete);
        }
        let author = encode(&author(&cx.account.profile));
        for page in 0..PAGES {
            let query = format!("q=author&author={author}&start={}&count={PAGE}&sortBy=CREATED", page * PAGE);
            let request = cx.http().get("publish.find", self.api.rest("posts", Some(&query))).header("x-restli-method", "FINDER");
            let reply = self.api.versioned(request, cx.token()).send().await.map_err(Error::effect_unknown)?;
            if matches!(reply.status(), 400 | 403 | 404) {
                return Ok(Search::Incomplete);
            }
            if !reply.is_success() {
                return Err(classify(cx.call, &reply).effect_unknown());
            }
            let found: Page<FoundPost> = reply.json()?;
            if let Some(post) = found.elements.iter().find(|post| wanted.is(post) && !cx.taken.contains(&post.id)) {
                return Ok(Search::Found(self.remote(&post.id)));
            }
            let reaches_back = found.elements.iter().any(|post| created(post).is_some_and(|at| at < wanted.from));
            if reaches_back || found.elements.len() < PAGE {
                return Ok(Search::Absent);
            }
        }
        Ok(Search::Incomplete)
    }
}

enum Search {
    Found(RemotePost),
    /// The list was read back to before the attempt, and it is not there.
    Absent,
    /// The list may not be read, or is too long.
    Incomplete,
}

/// What a post must look like to be ours.
struct Wanted {
    text: String,
    media: Vec<String>,
    from: Timestamp,
}

impl Wanted {
    fn is(&self, post: &FoundPost) -> bool {
        let is_shown = !matches!(post.lifecycle_state.as_deref(), Some("DRAFT" | "PUBLISH_FAILED"));
        let is_recent = created(post).is_some_and(|at| at >= self.from);
        let media = media_urns(&post.content);
        // Uploaded media are one post's alone and prove more than its text; where one side names none, they prove nothing against it.
        let comparable = !media.is_empty() && !self.media.is_empty();
        let same_media = if comparable { media == self.media } else { !self.text.is_empty() };
        is_shown && is_recent && same_media && little_text::fingerprint(&post.commentary) == self.text
    }
}

fn created(post: &FoundPost) -> Option<Timestamp> {
    Timestamp::from_millisecond(post.created_at?).ok()
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
        Value::String(text) if ["urn:li:image:", "urn:li:video:", "urn:li:document:"].iter().any(|kind| text.starts_with(kind)) => {
            found.push(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| collect_urns(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect_urns(value, found)),
        _ => {}
    }
}
