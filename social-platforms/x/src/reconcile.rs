//! Whether a commit whose answer was lost has landed: the account's own timeline since the attempt.
//!
//! X has no key by which a call could be recognised, so the post is known by what it says: text with links expanded, the post that it answers,
//! the number of its media. Whatever is nearly the same keeps us from claiming that ours is absent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use social_core::{
    Error, PublishContext, Reconciled,
    text::{nfc, weigh},
    time::{later, positive},
};
use url::Url;

use crate::{
    X, ask, operation,
    progress::{Doubt, Progress},
    publish::Part,
    wire::{self, Post},
};

/// X's clock and ours may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_secs(-120);
/// X may show a post this much later than it made it; an earlier look that finds nothing does not count.
const SETTLE: Duration = Duration::from_secs(30);
/// Between the two looks that prove absence.
const APART: Duration = Duration::from_secs(300);
/// After this time a timeline that cannot be read whole is no reason to wait any longer.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Posts on one page, and pages that are read.
const PAGE: &str = "100";
const PAGES: usize = 8;

/// What a look at the timeline showed.
enum Look {
    Found(String),
    /// Not there; perhaps something that is nearly the same.
    Absent {
        similar: bool,
    },
    /// The timeline could not be read to its end.
    Incomplete,
}

impl X {
    /// Read-only, safe to repeat and to cancel. Absence is believed after two complete looks at least 5 minutes apart, the first not before
    /// 30 seconds after the attempt, and only for the first commit of a part: when one that was sent again is lost too, a person decides.
    pub(crate) async fn look_for(&self, cx: &PublishContext<'_>, mut progress: Progress) -> Result<Reconciled, Error> {
        let mut doubt = match progress.doubt.take() {
            Some(doubt) if doubt.attempt == cx.attempted_at => doubt,
            Some(earlier) => {
                Doubt { since: earlier.since.min(cx.attempted_at), attempt: cx.attempted_at, absent_at: None }
            }
            None => Doubt { since: cx.attempted_at, attempt: cx.attempted_at, absent_at: None },
        };
        let look = self.look(cx, &progress, later(doubt.since, SKEW)).await?;
        let since_attempt = positive(cx.now().duration_since(cx.attempted_at)).unwrap_or_default();
        let next = match look {
            Look::Found(id) => {
                return Ok(match self.out(cx, &progress, id) {
                    (post, None) => Reconciled::Published(post),
                    (part, Some(at)) => Reconciled::Next { at, part },
                });
            }
            Look::Incomplete if since_attempt > PATIENCE => return Ok(Reconciled::CannotTell),
            Look::Incomplete => ASK_AGAIN,
            Look::Absent { similar } => match absence(&mut doubt, cx.now()) {
                Absence::AskIn(wait) => wait,
                Absence::Proven if similar => return Ok(Reconciled::CannotTell),
                Absence::Proven => return Ok(Reconciled::NotPublished),
                Absence::SentAgain => return Ok(Reconciled::CannotTell),
            },
        };
        progress.doubt = Some(doubt);
        Ok(Reconciled::AskAgain { at: progress.checkpoint(), after: next })
    }

    async fn look(&self, cx: &PublishContext<'_>, progress: &Progress, since: Timestamp) -> Result<Look, Error> {
        let part = Part::of(self, cx, progress)?;
        let wanted = Wanted::new(&part, progress, cx.account.profile.handle.as_deref());
        let ours: Vec<&str> = cx.parts.iter().filter_map(|part| part.id.as_ref()).map(|id| id.as_str()).collect();
        // Whole seconds are what X documents; cutting them off moves the start to the safe side.
        let start = Timestamp::from_second(since.as_second()).unwrap_or(since);
        let (mut similar, mut next) = (false, None::<String>);
        for _ in 0..PAGES {
            let url = self.endpoint(&["2", "users", &cx.account.profile.remote_id, "tweets"]);
            let mut request = cx.http().get(operation::TIMELINE, url).bearer(cx.token());
            request = request
                .query([("max_results", PAGE), ("start_time", &start.to_string())])
                .query(self.vocabulary.timeline());
            if let Some(token) = &next {
                request = request.query([("pagination_token", token)]);
            }
            let page: wire::Many<Post> = ask(request).await?.json().map_err(Error::effect_none)?;
            for post in &page.data {
                let made = post.created_at.or_else(|| wire::id_time(&post.id));
                if made.is_some_and(|made| made < start)
                    || cx.taken.contains(&post.id)
                    || ours.contains(&post.id.as_str())
                {
                    continue;
                }
                match wanted.compare(post) {
                    Likeness::Same => return Ok(Look::Found(post.id.clone())),
                    Likeness::Similar => similar = true,
                    Likeness::Other => {}
                }
            }
            if !page.errors.is_empty() {
                return Ok(Look::Incomplete);
            }
            match page.meta.next_token {
                Some(token) => next = Some(token),
                None => return Ok(Look::Absent { similar }),
            }
        }
        Ok(Look::Incomplete)
    }
}

/// What a complete look that shows nothing means.
#[derive(Debug, PartialEq, Eq)]
enum Absence {
    /// Nothing yet.
    AskIn(Duration),
    /// The commit did not land.
    Proven,
    /// It was sent twice and neither is there: not something to try a third time.
    SentAgain,
}

fn absence(doubt: &mut Doubt, now: Timestamp) -> Absence {
    let passed = |from: Timestamp| positive(now.duration_since(from)).unwrap_or_default();
    if passed(doubt.attempt) < SETTLE {
        return Absence::AskIn(SETTLE - passed(doubt.attempt));
    }
    let first = *doubt.absent_at.get_or_insert(now);
    match APART.checked_sub(passed(first)).filter(|left| !left.is_zero()) {
        Some(left) => Absence::AskIn(left),
        None if doubt.since != doubt.attempt => Absence::SentAgain,
        None => Absence::Proven,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// Ours.
    Same,
    /// Not provably ours and not provably another.
    Similar,
    Other,
}

/// What the lost post looks like.
struct Wanted<'a> {
    said: Said,
    reply_to: Option<&'a str>,
    quote: Option<&'a str>,
    media: usize,
    poll: bool,
    handle: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn new(part: &'a Part<'_>, progress: &'a Progress, handle: Option<&'a str>) -> Self {
        let reply_to = progress.previous.as_deref();
        // X may put the account's own name in front of an answer to itself.
        let handle = handle.filter(|_| reply_to.is_some());
        Self {
            said: Said::new(&part.text, handle),
            reply_to,
            quote: part.options.quote_tweet_id.as_deref(),
            media: progress.media.len(),
            poll: part.options.poll.is_some(),
            handle,
        }
    }

    fn compare(&self, post: &Post) -> Likeness {
        if post.reference("retweeted").is_some() {
            return Likeness::Other;
        }
        let parent = post.reference("replied_to");
        let is_reply = parent.is_some() || post.conversation_id.as_ref().is_some_and(|root| *root != post.id);
        let is_root = parent.is_none() && post.conversation_id.as_ref().is_some_and(|root| *root == post.id);
        let contradicts = match self.reply_to {
            None => is_reply,
            Some(wanted) => is_root || parent.is_some_and(|parent| parent != wanted),
        };
        if contradicts {
            return Likeness::Other;
        }
        let said = Said::new(&expanded(post, self.quote), self.handle);
        let attached = post.media_keys().len() == self.media && post.has_poll() == self.poll;
        let quotes = self.quote.is_none() || post.reference("quoted") == self.quote;
        if said.exact == self.said.exact && attached && quotes && parent == self.reply_to {
            Likeness::Same
        } else if said.loose == self.said.loose {
            Likeness::Similar
        } else {
            Likeness::Other
        }
    }
}

/// A text in two forms for comparing.
struct Said {
    /// White space as one blank, links in one spelling.
    exact: String,
    /// Without white space, in lower case, with a mark in place of each link.
    loose: String,
}

impl Said {
    fn new(text: &str, own_handle: Option<&str>) -> Self {
        // X gives three signs as HTML entities, and a person may have written such an entity: both sides are unfolded to the end.
        let mut text = text.to_owned();
        while text.contains("&amp;") {
            text = text.replace("&amp;", "&");
        }
        let text = text.replace("&lt;", "<").replace("&gt;", ">");
        let text = nfc(&text);
        let text = own_handle.map_or(&*text, |handle| without_leading(&text, handle));
        let (mut exact, mut loose, mut from) =
            (String::with_capacity(text.len()), String::with_capacity(text.len()), 0);
        let mut plain = |piece: &str, exact: &mut String| {
            exact.push_str(piece);
            loose.extend(piece.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase));
        };
        for span in weigh(text).urls {
            plain(&text[from..span.start], &mut exact);
            exact.push_str(&one_spelling(span.of(text)));
            plain("\u{0}", &mut String::new());
            from = span.end;
        }
        plain(&text[from..], &mut exact);
        Self { exact: exact.split_whitespace().collect::<Vec<_>>().join(" "), loose }
    }
}

fn without_leading<'t>(text: &'t str, handle: &str) -> &'t str {
    let rest = text.trim_start().strip_prefix('@').unwrap_or_default();
    match rest.get(..handle.len()) {
        Some(name) if name.eq_ignore_ascii_case(handle) && rest[handle.len()..].starts_with(char::is_whitespace) => {
            rest[handle.len()..].trim_start()
        }
        _ => text,
    }
}

/// A link without its scheme and closing slash, its host as the network writes it.
fn one_spelling(link: &str) -> String {
    let absolute = if link.contains("://") { Url::parse(link) } else { Url::parse(&format!("http://{link}")) };
    let Ok(url) = absolute else { return link.to_owned() };
    let mut spelled = format!("{}{}", url.host_str().unwrap_or_default(), url.path().trim_end_matches('/'));
    for (mark, rest) in [('?', url.query()), ('#', url.fragment())] {
        if let Some(rest) = rest {
            spelled.push(mark);
            spelled.push_str(rest);
        }
    }
    spelled
}

/// The text as it was written: short links replaced by what they lead to, those of the post's own media and quoted post removed.
fn expanded(post: &Post, quote: Option<&str>) -> String {
    let (text, urls) = post.whole_text();
    let mut text = text.to_owned();
    let own_media = [format!("/status/{}/photo/", post.id), format!("/status/{}/video/", post.id)];
    for entity in urls {
        let (Some(short), Some(long)) = (&entity.url, &entity.expanded_url) else { continue };
        let added = entity.media_key.is_some()
            || own_media.iter().any(|path| long.contains(path.as_str()))
            || quote.is_some_and(|id| long.ends_with(&format!("/status/{id}")));
        text = text.replace(short.as_str(), if added { "" } else { long });
    }
    text
}

#[cfg(test)]
mod tests;
