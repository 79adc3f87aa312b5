//! Creating and taking away posts.

use super::media::Fit;
use super::{State, errors, read, text};
use crate::answer::{self, Answer, Input};
use crate::clock::SECOND;
use crate::ledger::NewEntry;
use crate::world::World;
use crate::{lock, pages};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) user: usize,
    pub(super) text: Arc<str>,
    pub(super) created_at: i64,
    pub(super) reply_to: Option<u64>,
    pub(super) quote: Option<u64>,
    pub(super) repost_of: Option<u64>,
    pub(super) conversation: u64,
    pub(super) media: Vec<u64>,
    pub(super) poll: Option<Box<Poll>>,
    /// Ids of the versions before this one, oldest first.
    pub(super) earlier: Vec<u64>,
    pub(super) reply_settings: Option<&'static str>,
    pub(super) deleted: bool,
    /// A newer version took its place; it is found by its id only.
    pub(super) superseded: bool,
    pub(super) ledger: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub(super) options: Vec<String>,
    pub(super) duration_minutes: i64,
    #[serde(default, rename = "reply_settings")]
    _reply_settings: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are accepted by the network and have no effect here")]
struct Body {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    media: Option<BodyMedia>,
    #[serde(default)]
    poll: Option<Box<Poll>>,
    #[serde(default)]
    reply: Option<BodyReply>,
    #[serde(default)]
    quote_tweet_id: Option<String>,
    #[serde(default)]
    reply_settings: Option<String>,
    #[serde(default)]
    made_with_ai: Option<bool>,
    #[serde(default)]
    paid_partnership: Option<bool>,
    #[serde(default)]
    edit_options: Option<BodyEdit>,
    #[serde(default)]
    community_id: Option<String>,
    #[serde(default)]
    share_with_followers: Option<bool>,
    #[serde(default)]
    geo: Option<Value>,
    #[serde(default)]
    card_uri: Option<String>,
    #[serde(default)]
    direct_message_deep_link: Option<String>,
    #[serde(default)]
    for_super_followers_only: Option<bool>,
    #[serde(default)]
    nullcast: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are accepted by the network and have no effect here")]
struct BodyMedia {
    #[serde(default)]
    media_ids: Vec<String>,
    #[serde(default)]
    tagged_user_ids: Vec<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    embeddable: Option<bool>,
    #[serde(default)]
    preview_media_id: Option<String>,
    #[serde(default)]
    call_to_actions: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some members are accepted by the network and have no effect here")]
struct BodyReply {
    in_reply_to_tweet_id: String,
    #[serde(default)]
    exclude_reply_user_ids: Vec<String>,
    #[serde(default)]
    auto_populate_reply_metadata: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyEdit {
    previous_post_id: String,
}

impl Body {
    /// The body, or the refusal of its shape.
    fn parse(bytes: &[u8]) -> Result<Self, Answer> {
        let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
        let body: Self = match serde_json::from_slice(if is_object { bytes } else { b"" }) {
            Ok(body) => body,
            Err(error) => {
                return Err(match serde_json::from_slice::<Value>(bytes) {
                    Ok(Value::Object(_)) => errors::invalid_body(&[schema_message(&error.to_string())]),
                    Ok(_) => errors::invalid_body(&["$: the request body must be a JSON object".to_owned()]),
                    Err(_) => errors::invalid_body(&["Request body could not be parsed as JSON.".to_owned()]),
                });
            }
        };
        let mut wrong = nulls(bytes);
        if let Some(poll) = &body.poll {
            if !(2..=4).contains(&poll.options.len()) {
                wrong.push("$.poll.options: there must be between 2 and 4 items in the array".to_owned());
            }
            if poll.options.iter().any(|option| !(1..=25).contains(&option.chars().count())) {
                wrong.push("$.poll.options: each item must be between 1 and 25 characters long".to_owned());
            }
            if !(5..=10_080).contains(&poll.duration_minutes) {
                wrong.push("$.poll.duration_minutes: must be between 5 and 10080".to_owned());
            }
        }
        if let Some(media) = &body.media {
            if !(1..=4).contains(&media.media_ids.len()) {
                wrong.push("$.media.media_ids: there must be between 1 and 4 items in the array".to_owned());
            }
            if media.tagged_user_ids.len() > 10 {
                wrong.push("$.media.tagged_user_ids: there must be a maximum of 10 items in the array".to_owned());
            }
        }
        if body.reply_settings.is_some() && body.reply_settings().is_none() {
            wrong.push(
                "$.reply_settings: does not have a value in the enumeration [following, mentionedUsers, subscribers, verified]"
                    .to_owned(),
            );
        }
        if wrong.is_empty() { Ok(body) } else { Err(errors::invalid_body(&wrong)) }
    }

    fn reply_settings(&self) -> Option<&'static str> {
        let known = ["following", "mentionedUsers", "subscribers", "verified"];
        known.into_iter().find(|known| self.reply_settings.as_deref() == Some(known))
    }

    fn exclusive_parts(&self) -> usize {
        [
            self.poll.is_some(),
            self.quote_tweet_id.is_some(),
            self.direct_message_deep_link.is_some(),
            self.media.is_some(),
            self.card_uri.is_some(),
        ]
        .into_iter()
        .filter(|present| *present)
        .count()
    }

    fn details(&self, quoted: Option<u64>) -> Option<Value> {
        let mut details = Map::new();
        if let Some(poll) = &self.poll {
            details.insert(
                "poll".to_owned(),
                json!({ "options": poll.options, "duration_minutes": poll.duration_minutes }),
            );
        }
        if let Some(id) = quoted {
            details.insert("quoted".to_owned(), json!(id.to_string()));
        }
        if let Some(who) = self.reply_settings() {
            details.insert("reply_settings".to_owned(), json!(who));
        }
        for (name, label) in [("made_with_ai", self.made_with_ai), ("paid_partnership", self.paid_partnership)] {
            if label == Some(true) {
                details.insert(name.to_owned(), json!(true));
            }
        }
        if let Some(edit) = &self.edit_options {
            details.insert("replaces".to_owned(), json!(edit.previous_post_id));
        }
        (!details.is_empty()).then_some(Value::Object(details))
    }
}

/// A member may be left out, but not be null.
fn nulls(bytes: &[u8]) -> Vec<String> {
    fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(format!("{path}: null found, which the schema does not allow")),
            Value::Object(members) => {
                for (name, member) in members {
                    walk(member, &format!("{path}.{name}"), found);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(item, &format!("{path}[{index}]"), found);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    // Almost no body has the word, and only then it is read a second time.
    if bytes.windows(4).any(|window| window == b"null") {
        walk(&serde_json::from_slice(bytes).unwrap_or_default(), "$", &mut found);
    }
    found
}

/// The parser's message in the words of the network's schema check.
fn schema_message(parser: &str) -> String {
    let quoted = || parser.split('`').nth(1).unwrap_or_default();
    if parser.starts_with("unknown field") {
        format!("$.{}: is not defined in the schema and the schema does not allow additional properties", quoted())
    } else if parser.starts_with("missing field") {
        format!("$.{}: is missing but it is required", quoted())
    } else {
        format!("$: {}", parser.split(" at line").next().unwrap_or(parser))
    }
}

const TOO_LONG: &str = "Your Tweet text is too long. For more information on how Twitter determines text length see \
                        https://github.com/twitter/twitter-text.";
const NOT_IN_CONVERSATION: &str = "Reply to this conversation is not allowed because you have not been mentioned or \
                                   otherwise engaged by the author of the post you are replying to.";
const NO_QUOTE: &str = "Quoting this post is not allowed because you have not been mentioned or are not part of the \
                        conversation thread of the post you are quoting.";
const EXCLUSIVE: &str =
    "You can only provide one of poll or quote_tweet_id or direct_message_deep_link or media or card_uri.";

pub(super) fn create(world: &World, input: &Input, user: usize, now: i64) -> Answer {
    match try_create(world, input, user, now) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn try_create(world: &World, input: &Input, user: usize, now: i64) -> Result<Answer, Answer> {
    let body = Body::parse(&input.body)?;
    if body.exclusive_parts() > 1 {
        return Err(errors::invalid_body(&[EXCLUSIVE.to_owned()]));
    }
    let said = text::composed(body.text.as_deref().unwrap_or_default());
    let analysis = text::analyse(&said);
    let settings = world.settings();

    let mut state = lock(&world.x);
    let state = &mut *state;
    let (premium, account, handle) = {
        let author = &state.users[user];
        (author.is_premium(), Arc::clone(&author.id), Arc::clone(&author.username))
    };

    let media_ids: &[String] = body.media.as_ref().map_or(&[], |media| &media.media_ids);
    let media = match state.fit_media(media_ids, user, premium, now) {
        Fit::Usable(media) => media,
        Fit::Invalid => {
            let parameters = json!({ "media.media_ids": media_ids });
            return Err(answer::json(
                400,
                &json!({
                    "errors": [{ "parameters": parameters, "message": "Your media IDs are invalid." }],
                    "title": "Invalid Request",
                    "detail": "One or more parameters to your request was invalid.",
                    "type": "https://api.twitter.com/2/problems/invalid-request"
                }),
            ));
        }
        Fit::TooLong => {
            return Err(errors::forbidden("This user is not allowed to post a video longer than 2 minutes."));
        }
    };

    let replaces = state.editable(&body, user, premium, now)?;
    let mut parent = None;
    if let Some(reply) = &body.reply {
        let id = &reply.in_reply_to_tweet_id;
        let invalid = || errors::invalid("reply.in_reply_to_tweet_id", id, "Your reply tweet ID is invalid.");
        parent = Some(state.alive(id).ok_or_else(invalid)?);
    }
    let mut quoted = None;
    if let Some(id) = &body.quote_tweet_id {
        quoted = Some(
            state.alive(id).ok_or_else(|| errors::invalid("quote_tweet_id", id, "Your quote tweet ID is invalid."))?,
        );
    }

    if said.trim().is_empty() && media.is_empty() {
        return Err(errors::invalid("text", &said, "Your Tweet must have text or media."));
    }
    if analysis.weighted > if premium { 25_000 } else { 280 } {
        return Err(errors::invalid("text", &said, TOO_LONG));
    }
    if !analysis.allowed {
        return Err(errors::invalid("text", &said, "Your Tweet text contains invalid characters."));
    }
    if analysis.cashtags > 1 {
        return Err(errors::forbidden("Posts may contain a maximum of one cashtag ($)."));
    }
    if let Some(parent) = parent
        && !state.may_reply(parent, user)
    {
        return Err(errors::forbidden(NOT_IN_CONVERSATION));
    }
    if quoted.is_some() && !settings.x_allow_quotes {
        return Err(errors::forbidden(NO_QUOTE));
    }
    let window = i64::try_from(settings.x_duplicate_window_s).unwrap_or(i64::MAX / SECOND) * SECOND;
    // A post without text is told apart by the link of its media.
    let key = (window > 0 && !said.trim().is_empty()).then(|| (user, fingerprint(&said)));
    if let Some(key) = key
        && state.said.get(&key).is_some_and(|at| now < at + window)
    {
        return Err(errors::forbidden("You are not allowed to create a Tweet with duplicate content."));
    }

    let id = state.next_id(now);
    let said: Arc<str> = Arc::from(said);
    let details = body.details(quoted);
    let entry = NewEntry {
        platform: "x",
        account,
        handle,
        id: Arc::from(id.to_string()),
        kind: if replaces.is_some() {
            "edit"
        } else if parent.is_some() {
            "reply"
        } else {
            "post"
        },
        text: Arc::clone(&said),
        media: media.iter().filter_map(|id| state.media.get(id).and_then(|media| media.ledger(*id))).collect(),
        in_reply_to: parent.map(|id| Arc::from(id.to_string())),
        created_at: now,
        details,
    };
    let conversation = parent.and_then(|id| state.posts.get(&id)).map_or(id, |parent| parent.conversation);
    let mut earlier = Vec::new();
    if let Some((id, old)) = replaces.and_then(|id| state.posts.get_mut(&id).map(|old| (id, old))) {
        old.superseded = true;
        earlier.clone_from(&old.earlier);
        earlier.push(id);
    }
    let post = Post {
        user,
        text: said,
        created_at: now,
        reply_to: parent,
        quote: quoted,
        repost_of: None,
        conversation,
        media,
        reply_settings: body.reply_settings(),
        poll: body.poll,
        earlier,
        deleted: false,
        superseded: false,
        ledger: world.ledger.append(entry),
    };
    let rendered = read::render(state, id, &post, settings.x_html_escape);
    for link in &rendered.links {
        state.links.insert(link.slug.clone(), link.expanded.clone());
    }
    let mut history: Vec<String> = post.earlier.iter().map(u64::to_string).collect();
    history.push(id.to_string());
    state.timelines[user].push(id);
    state.posts.insert(id, post);
    if let Some(key) = key {
        state.said.insert(key, now);
    }
    let dialect = read::Dialect::of_settings(&settings);
    let shown = read::Created { id: id.to_string(), text: rendered.text, history };
    Ok(answer::json_text(201, shown.json(dialect)))
}

/// The same for texts that differ in white space only.
fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in text.split_whitespace() {
        word.hash(&mut hasher);
    }
    hasher.finish()
}

impl State {
    /// The number of a post that exists.
    pub(super) fn alive(&self, id: &str) -> Option<u64> {
        let number = id.parse().ok()?;
        self.posts.get(&number).filter(|post| !post.deleted).map(|_| number)
    }

    /// One's own posts, and posts whose author mentioned or quoted this account.
    fn may_reply(&self, parent: u64, user: usize) -> bool {
        let Some(post) = self.posts.get(&parent) else { return false };
        if post.user == user {
            return true;
        }
        let mentioned = text::mentions(&post.text).contains(&self.users[user].username.to_ascii_lowercase());
        let quoted = post.quote.and_then(|id| self.posts.get(&id)).is_some_and(|quoted| quoted.user == user);
        mentioned || quoted
    }

    fn editable(&self, body: &Body, user: usize, premium: bool, now: i64) -> Result<Option<u64>, Answer> {
        let Some(edit) = &body.edit_options else { return Ok(None) };
        let id = &edit.previous_post_id;
        let invalid = |why: &str| {
            errors::invalid("edit_options.previous_post_id", id, &format!("The post cannot be edited: {why}."))
        };
        if !premium {
            return Err(errors::forbidden("Your account is not permitted to access this feature"));
        }
        let number = self.alive(id).ok_or_else(|| invalid("it does not exist"))?;
        let post = &self.posts[&number];
        if post.user != user {
            Err(errors::forbidden("You are not authorized to edit this Tweet."))
        } else if post.superseded || post.earlier.len() >= 5 || now > post.created_at + 3_600 * SECOND {
            Err(invalid("the time or the number of edits is used up"))
        } else if post.poll.is_some() || body.poll.is_some() {
            Err(invalid("polls are final"))
        } else {
            Ok(Some(number))
        }
    }
}

pub(super) fn delete(world: &World, id: &str, user: usize, now: i64) -> Answer {
    let mut state = lock(&world.x);
    let Some(number) = state.alive(id) else { return errors::not_found("tweet", id) };
    let Some(post) = state.posts.get_mut(&number) else { return errors::not_found("tweet", id) };
    if post.user != user {
        return errors::forbidden("You are not authorized to delete this Tweet.");
    }
    post.deleted = true;
    world.ledger.delete(post.ledger, now);
    answer::json(200, &json!({ "data": { "deleted": true } }))
}

#[derive(Debug, Deserialize)]
struct RepostBody {
    tweet_id: String,
}

pub(super) fn repost(world: &World, input: &Input, id: &str, user: usize, now: i64) -> Answer {
    let Ok(body) = serde_json::from_slice::<RepostBody>(&input.body) else {
        return errors::invalid_body(&["$.tweet_id: is missing but it is required".to_owned()]);
    };
    let mut state = lock(&world.x);
    let state = &mut *state;
    if &*state.users[user].id != id {
        return errors::forbidden("Forbidden");
    }
    let Some(original) = state.alive(&body.tweet_id) else { return errors::not_found("tweet", &body.tweet_id) };
    let done = answer::json(200, &json!({ "data": { "retweeted": true } }));
    let again =
        |number: &u64| state.posts.get(number).is_some_and(|post| post.repost_of == Some(original) && !post.deleted);
    if state.timelines[user].iter().any(again) {
        return done;
    }
    let number = state.next_id(now);
    let author = &state.users[user];
    let text: Arc<str> = state.posts.get(&original).map_or_else(|| Arc::from(""), |post| Arc::clone(&post.text));
    let ledger = world.ledger.append(NewEntry {
        platform: "x",
        account: Arc::clone(&author.id),
        handle: Arc::clone(&author.username),
        id: Arc::from(number.to_string()),
        kind: "repost",
        text: Arc::clone(&text),
        media: Vec::new(),
        in_reply_to: None,
        created_at: now,
        details: Some(json!({ "reposted": original.to_string() })),
    });
    let post = Post {
        user,
        text,
        created_at: now,
        reply_to: None,
        quote: None,
        repost_of: Some(original),
        conversation: number,
        media: Vec::new(),
        poll: None,
        earlier: Vec::new(),
        reply_settings: None,
        deleted: false,
        superseded: false,
        ledger,
    };
    state.posts.insert(number, post);
    state.timelines[user].push(number);
    done
}

pub(super) fn unrepost(world: &World, id: &str, original: &str, user: usize, now: i64) -> Answer {
    let mut state = lock(&world.x);
    let state = &mut *state;
    if &*state.users[user].id != id {
        return errors::forbidden("Forbidden");
    }
    let original = original.parse::<u64>().ok();
    for number in &state.timelines[user] {
        if let Some(post) = state.posts.get_mut(number)
            && post.repost_of.is_some()
            && post.repost_of == original
            && !post.deleted
        {
            post.deleted = true;
            world.ledger.delete(post.ledger, now);
        }
    }
    answer::json(200, &json!({ "data": { "retweeted": false } }))
}

/// The post as a page, for people who follow a permalink.
pub(super) fn page(world: &World, id: &str) -> Answer {
    let found = {
        let state = lock(&world.x);
        id.parse().ok().and_then(|number: u64| state.posts.get(&number)).map(|post| post.ledger)
    };
    pages::object(world, found)
}
