//! Reading posts back, in both vocabularies.

use super::media::Media;
use super::posts::Post;
use super::{State, errors, text};
use crate::answer::{self, Answer, Input, Pairs};
use crate::clock::{SECOND, rfc3339_millis};
use crate::lock;
use crate::rng::{hash, metric};
use crate::settings::{Settings, XDialect};
use crate::world::World;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The vocabulary of an answer; it follows the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect(XDialect);

impl Dialect {
    pub(super) fn of(world: &World, query: &Pairs) -> Self {
        if query.get("post.fields").is_some() {
            Self(XDialect::Current)
        } else if query.get("tweet.fields").is_some() {
            Self(XDialect::Legacy)
        } else {
            Self::of_settings(&world.settings())
        }
    }

    pub(super) fn of_settings(settings: &Settings) -> Self {
        Self(settings.x_dialect)
    }

    pub(super) fn is_current(self) -> bool {
        self.0 == XDialect::Current
    }

    fn word(self, legacy: &'static str, current: &'static str) -> &'static str {
        if self.is_current() { current } else { legacy }
    }
}

/// The answer of a create, written by hand because it is on the hot path.
pub(super) struct Created {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) history: Vec<String>,
}

impl Created {
    pub(super) fn json(&self, dialect: Dialect) -> String {
        let text = serde_json::to_string(&self.text).unwrap_or_default();
        let key = dialect.word("edit_history_tweet_ids", "edit_history_post_ids");
        let history = self.history.join("\",\"");
        format!(r#"{{"data":{{"id":"{}","text":{text},"{key}":["{history}"]}}}}"#, self.id)
    }
}

pub(super) struct Link {
    pub(super) slug: String,
    pub(super) expanded: String,
    display: String,
    start: usize,
    end: usize,
    media_key: Option<String>,
}

/// The text as X gives it back: links wrapped, media as a trailing link.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) links: Vec<Link>,
}

pub(super) fn render(state: &State, id: u64, post: &Post, html_escape: bool) -> Rendered {
    let escaped = |piece: &str| {
        if html_escape && piece.contains(['&', '<', '>']) {
            piece.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        } else {
            piece.to_owned()
        }
    };
    let found = if post.text.contains('.') { text::analyse(&post.text).links } else { Vec::new() };
    if found.is_empty() && post.media.is_empty() {
        return Rendered { text: escaped(&post.text), links: Vec::new() };
    }
    let own = id.to_string();
    let slug = |index: usize| crate::rng::Rng::new(hash(&[&own, &index.to_string()])).letters(10);
    let mut out = String::new();
    let mut links = Vec::new();
    let mut from = 0;
    for (index, range) in found.into_iter().enumerate() {
        out.push_str(&escaped(&post.text[from..range.start]));
        from = range.end;
        let link = &post.text[range];
        let has_scheme = link.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"));
        let expanded = if has_scheme { link.to_owned() } else { format!("http://{link}") };
        let bare = expanded.split_once("://").map_or(expanded.as_str(), |(_, rest)| rest);
        let bare = bare.strip_prefix("www.").unwrap_or(bare);
        let short: String = bare.chars().take(26).collect();
        let display = if short.len() < bare.len() { format!("{short}…") } else { short };
        let start = out.chars().count();
        let slug = slug(index);
        out.push_str("https://t.co/");
        out.push_str(&slug);
        links.push(Link { slug, expanded, display, start, end: start + 23, media_key: None });
    }
    out.push_str(&escaped(&post.text[from..]));
    if let Some((first, media)) = post.media.first().and_then(|first| Some((*first, state.media.get(first)?))) {
        if !out.is_empty() {
            out.push(' ');
        }
        let start = out.chars().count();
        let slug = slug(links.len() + 100);
        out.push_str("https://t.co/");
        out.push_str(&slug);
        let name = &state.users[post.user].username;
        let what = if media.is_video() { "video" } else { "photo" };
        links.push(Link {
            expanded: format!("https://x.com/{name}/status/{id}/{what}/1"),
            display: format!("pic.x.com/{slug}"),
            slug,
            start,
            end: start + 23,
            media_key: Some(media.key(first)),
        });
    }
    Rendered { text: out, links }
}

/// What a request wants to know about posts, and what is collected on the way.
struct View<'a> {
    state: &'a State,
    dialect: Dialect,
    fields: Vec<&'a str>,
    expansions: Vec<&'a str>,
    user_fields: Vec<&'a str>,
    media_fields: Vec<&'a str>,
    base: String,
    asking: usize,
    now: i64,
    escape: bool,
    users: Vec<usize>,
    media: Vec<u64>,
    posts: Vec<u64>,
    polls: Vec<u64>,
    errors: Vec<Value>,
}

impl<'a> View<'a> {
    fn new(world: &World, state: &'a State, query: &'a Pairs, base: String, asking: usize, now: i64) -> Self {
        let dialect = Dialect::of(world, query);
        Self {
            state,
            dialect,
            fields: query.list(dialect.word("tweet.fields", "post.fields")),
            expansions: query.list("expansions"),
            user_fields: query.list("user.fields"),
            media_fields: query.list("media.fields"),
            base,
            asking,
            now,
            escape: world.settings().x_html_escape,
            users: Vec::new(),
            media: Vec::new(),
            posts: Vec::new(),
            polls: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn wants(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    fn expands(&self, expansion: &str) -> bool {
        self.expansions.contains(&expansion)
    }

    /// The post, if it exists and the asking user may see it; otherwise the reason goes to `errors`.
    fn find(&mut self, id: &str, parameter: &str) -> Option<u64> {
        let Some(number) = self.state.alive(id) else {
            self.errors.push(errors::missing("tweet", parameter, id));
            return None;
        };
        let author = self.state.posts[&number].user;
        if self.state.users[author].protected && author != self.asking {
            self.errors.push(errors::not_authorized("tweet", parameter, id));
            return None;
        }
        Some(number)
    }

    fn post(&mut self, id: u64, parameter: &str) -> Value {
        let Some(post) = self.state.posts.get(&id) else { return Value::Null };
        let rendered = render(self.state, id, post, self.escape);
        let own = id.to_string();
        let mut view = Map::new();
        let mut put = |name: &str, value: Value| {
            view.insert(name.to_owned(), value);
        };
        put("id", json!(own));
        let text = match post.repost_of.and_then(|original| self.state.posts.get(&original)) {
            Some(original) => format!("RT @{}: {}", self.state.users[original.user].username, rendered.text),
            None => rendered.text.clone(),
        };
        put("text", json!(text));
        let history: Vec<String> = post.earlier.iter().chain([&id]).map(u64::to_string).collect();
        put(self.dialect.word("edit_history_tweet_ids", "edit_history_post_ids"), json!(history));

        let current = self.dialect.is_current();
        if self.wants("created_at") {
            put("created_at", json!(rfc3339_millis(post.created_at)));
        }
        if self.wants("conversation_id") {
            put("conversation_id", json!(post.conversation.to_string()));
        }
        if self.wants("lang") {
            put("lang", json!("en"));
        }
        if self.wants("possibly_sensitive") {
            put("possibly_sensitive", json!(false));
        }
        if self.wants("reply_settings") {
            put("reply_settings", json!(post.reply_settings.unwrap_or("everyone")));
        }
        if (self.wants("author_id") && !current) || self.expands("author_id") {
            put("author_id", json!(&*self.state.users[post.user].id));
        }
        if self.expands("author_id") {
            self.users.push(post.user);
        }
        if self.wants("in_reply_to_user_id")
            && let Some(parent) = post.reply_to.and_then(|parent| self.state.posts.get(&parent))
        {
            put("in_reply_to_user_id", json!(&*self.state.users[parent.user].id));
        }
        let relations = [("replied_to", post.reply_to), ("quoted", post.quote), ("retweeted", post.repost_of)];
        let referenced: Vec<(&str, u64)> =
            relations.into_iter().filter_map(|(kind, id)| id.map(|id| (kind, id))).collect();
        let expanded = self.expands("referenced_tweets.id") || self.expands("referenced_posts");
        if !referenced.is_empty() && (expanded || (self.wants("referenced_tweets") && !current)) {
            let list: Vec<Value> =
                referenced.iter().map(|(kind, id)| json!({ "type": kind, "id": id.to_string() })).collect();
            put(self.dialect.word("referenced_tweets", "referenced_posts"), json!(list));
        }
        if expanded {
            self.posts.extend(referenced.iter().map(|(_, id)| *id));
        }
        if self.wants("entities") && !rendered.links.is_empty() {
            put("entities", json!({ "urls": rendered.links.iter().map(entity).collect::<Vec<_>>() }));
        }
        let wants_attachments =
            self.wants("attachments") || self.expands("attachments.media_keys") || self.expands("attachments.poll_ids");
        if wants_attachments && !post.media.is_empty() {
            let keys: Vec<String> =
                post.media.iter().filter_map(|id| self.state.media.get(id).map(|media| media.key(*id))).collect();
            put("attachments", json!({ "media_keys": keys }));
        } else if wants_attachments && post.poll.is_some() {
            put("attachments", json!({ "poll_ids": [(id + 1).to_string()] }));
        }
        if self.expands("attachments.media_keys") {
            self.media.extend(&post.media);
        }
        if self.expands("attachments.poll_ids") && post.poll.is_some() {
            self.polls.push(id);
        }
        if self.wants(self.dialect.word("note_tweet", "note_post")) && post.text.chars().count() > 280 {
            put(self.dialect.word("note_tweet", "note_post"), json!({ "text": &*post.text }));
        }
        if self.wants("public_metrics") {
            let mut metrics = json!({
                "reply_count": metric(&own, "replies", 20),
                "like_count": metric(&own, "likes", 400),
                "quote_count": metric(&own, "quotes", 10),
                "bookmark_count": metric(&own, "bookmarks", 15),
                "impression_count": 400 + metric(&own, "impressions", 20_000)
            });
            metrics[self.dialect.word("retweet_count", "repost_count")] = json!(metric(&own, "reposts", 60));
            put("public_metrics", metrics);
        }
        let young = self.now < post.created_at + 30 * 86_400 * SECOND;
        for field in ["non_public_metrics", "organic_metrics"] {
            if !self.wants(field) {
                continue;
            }
            if post.user != self.asking || !young {
                self.errors.push(json!({
                    "value": own,
                    "detail": format!("Sorry, you are not authorized to access '{field}' on the Tweet with {parameter} : [{own}]."),
                    "title": "Field Authorization Error",
                    "section": "data",
                    "parameter": parameter,
                    "resource_id": own,
                    "resource_type": "tweet",
                    "field": field,
                    "type": "https://api.twitter.com/2/problems/not-authorized-for-field"
                }));
                continue;
            }
            let impressions = 400 + metric(&own, "impressions", 20_000);
            let mut metrics = json!({
                "impression_count": impressions,
                "url_link_clicks": metric(&own, "clicks", 300),
                "user_profile_clicks": metric(&own, "profile", 90)
            });
            if field == "organic_metrics" {
                metrics["like_count"] = json!(metric(&own, "likes", 400));
                metrics["reply_count"] = json!(metric(&own, "replies", 20));
                metrics[self.dialect.word("retweet_count", "repost_count")] = json!(metric(&own, "reposts", 60));
            } else {
                metrics["engagements"] = json!(metric(&own, "engagements", 900));
            }
            put(field, metrics);
        }
        Value::Object(view)
    }

    /// `includes` for all posts that were shown.
    fn includes(&mut self, parameter: &str) -> Option<Value> {
        let mut includes = Map::new();
        let mut referenced = std::mem::take(&mut self.posts);
        referenced.sort_unstable();
        referenced.dedup();
        if !referenced.is_empty() {
            let shown: Vec<Value> = referenced
                .into_iter()
                .filter(|id| self.state.posts.get(id).is_some_and(|post| !post.deleted))
                .map(|id| self.post(id, parameter))
                .collect();
            includes.insert(self.dialect.word("tweets", "posts").to_owned(), json!(shown));
        }
        self.users.sort_unstable();
        self.users.dedup();
        if !self.users.is_empty() {
            let shown = self.users.iter().filter_map(|index| {
                let user = self.state.users.get(*index)?;
                let posts = self.state.timelines[*index].len();
                Some(user.view(&self.user_fields, &self.base, posts, self.dialect.is_current()))
            });
            includes.insert("users".to_owned(), Value::Array(shown.collect()));
        }
        self.media.sort_unstable();
        self.media.dedup();
        if !self.media.is_empty() {
            let shown: Vec<Value> = self
                .media
                .iter()
                .filter_map(|id| Some(self.state.media.get(id)?.view(*id, &self.media_fields, &self.base)))
                .collect();
            includes.insert("media".to_owned(), json!(shown));
        }
        if !self.polls.is_empty() {
            let shown = self.polls.iter().filter_map(|id| {
                let post = self.state.posts.get(id)?;
                let poll = post.poll.as_ref()?;
                let ends = post.created_at + poll.duration_minutes * 60 * SECOND;
                let options: Vec<Value> = poll
                    .options
                    .iter()
                    .zip(1..)
                    .map(|(label, position)| {
                        json!({ "position": position, "label": label, "votes": metric(&id.to_string(), label, 50) })
                    })
                    .collect();
                Some(json!({
                    "id": (id + 1).to_string(),
                    "options": options,
                    "duration_minutes": poll.duration_minutes,
                    "end_datetime": rfc3339_millis(ends),
                    "voting_status": if self.now < ends { "open" } else { "closed" }
                }))
            });
            includes.insert("polls".to_owned(), Value::Array(shown.collect()));
        }
        (!includes.is_empty()).then_some(Value::Object(includes))
    }

    fn answer(mut self, data: Option<Value>, meta: Option<Value>, parameter: &str) -> Answer {
        let mut body = Map::new();
        if let Some(data) = data {
            body.insert("data".to_owned(), data);
        }
        if let Some(includes) = self.includes(parameter) {
            body.insert("includes".to_owned(), includes);
        }
        if !self.errors.is_empty() {
            body.insert("errors".to_owned(), Value::Array(self.errors));
        }
        if let Some(meta) = meta {
            body.insert("meta".to_owned(), meta);
        }
        answer::json(200, &body)
    }
}

fn entity(link: &Link) -> Value {
    let mut entity = json!({
        "start": link.start,
        "end": link.end,
        "url": format!("https://t.co/{}", link.slug),
        "expanded_url": link.expanded,
        "display_url": link.display
    });
    if let Some(key) = &link.media_key {
        entity["media_key"] = json!(key);
    }
    entity
}

impl Media {
    fn view(&self, id: u64, fields: &[&str], base: &str) -> Value {
        let key = self.key(id);
        let mut view = json!({ "media_key": key, "type": self.read_type() });
        let Some(blob) = &self.blob else { return view };
        for field in fields {
            match *field {
                "url" if !self.is_video() => view["url"] = json!(format!("{base}{}", blob.url())),
                "width" => view["width"] = json!(blob.facts.width),
                "height" => view["height"] = json!(blob.facts.height),
                "alt_text" => {
                    if let Some(text) = &self.alt_text {
                        view["alt_text"] = json!(text);
                    }
                }
                "duration_ms" if self.is_video() => {
                    if let Some(duration) = blob.facts.duration_ms {
                        view["duration_ms"] = json!(duration);
                    }
                }
                "public_metrics" if self.is_video() => {
                    view["public_metrics"] = json!({ "view_count": metric(&key, "views", 9_000) });
                }
                _ => {}
            }
        }
        view
    }
}

pub(super) fn one(world: &World, input: &Input, id: &str, asking: usize, now: i64) -> Answer {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return errors::invalid("id", id, &format!("The `id` query parameter value [{id}] is not valid"));
    }
    let query = input.query();
    let state = lock(&world.x);
    let mut view = View::new(world, &state, &query, input.base(), asking, now);
    let data = view.find(id, "id").map(|number| view.post(number, "id"));
    view.answer(data, None, "id")
}

pub(super) fn many(world: &World, input: &Input, asking: usize, now: i64) -> Answer {
    let query = input.query();
    let ids = query.list("ids");
    if ids.is_empty() || ids.len() > 100 {
        let message =
            format!("The number of values in the `ids` query parameter list [{}] is not between 1 and 100", ids.len());
        return errors::invalid("ids", query.get("ids").unwrap_or_default(), &message);
    }
    let state = lock(&world.x);
    let mut view = View::new(world, &state, &query, input.base(), asking, now);
    let mut data = Vec::new();
    for id in ids {
        if let Some(number) = view.find(id, "ids") {
            data.push(view.post(number, "ids"));
        }
    }
    let data = (!data.is_empty()).then_some(Value::Array(data));
    view.answer(data, None, "ids")
}

fn instant(query: &Pairs, name: &str) -> Result<Option<i64>, Answer> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let valid = text.ends_with('Z').then(|| text.parse::<Timestamp>().ok()).flatten();
    valid.map(|at| Some(at.as_microsecond())).ok_or_else(|| {
        let message =
            format!("Invalid '{name}':'{text}'. The timestamp must be in RFC 3339 format, YYYY-MM-DDTHH:mm:ssZ.");
        errors::invalid(name, text, &message)
    })
}

pub(super) fn timeline(world: &World, input: &Input, id: &str, asking: usize, now: i64) -> Answer {
    match try_timeline(world, input, id, asking, now) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn try_timeline(world: &World, input: &Input, id: &str, asking: usize, now: i64) -> Result<Answer, Answer> {
    let query = input.query();
    let wanted = query.get("max_results").unwrap_or("10");
    let max_results = wanted.parse::<usize>().ok().filter(|count| (5..=100).contains(count)).ok_or_else(|| {
        let message = format!("The `max_results` query parameter value [{wanted}] is not between 5 and 100");
        errors::invalid("max_results", wanted, &message)
    })?;
    let (start, end) = (instant(&query, "start_time")?, instant(&query, "end_time")?);
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let (since, until) = (number("since_id").unwrap_or(0), number("until_id").unwrap_or(u64::MAX));
    let before = match query.get("pagination_token") {
        None => u64::MAX,
        Some(token) => token.strip_prefix('p').and_then(|id| id.parse().ok()).ok_or_else(|| {
            errors::invalid("pagination_token", token, "The `pagination_token` query parameter value is not valid")
        })?,
    };
    let exclude = query.list("exclude");
    let delay = i64::try_from(world.settings().visibility_delay_ms).unwrap_or(i64::MAX / 1_000) * 1_000;

    let state = lock(&world.x);
    let mut view = View::new(world, &state, &query, input.base(), asking, now);
    let Some(&user) = id.parse().ok().and_then(|number: u64| state.by_id.get(&number)) else {
        view.errors.push(errors::missing("user", "id", id));
        return Ok(view.answer(None, None, "id"));
    };
    if state.users[user].protected && user != asking {
        view.errors.push(errors::not_authorized("user", "id", id));
        return Ok(view.answer(None, None, "id"));
    }
    let mut chosen: Vec<u64> = Vec::with_capacity(max_results + 1);
    for number in state.timelines[user].iter().rev().take(3_200) {
        let Some(post) = state.posts.get(number) else { continue };
        // Newest first: nothing older can match any more.
        if start.is_some_and(|start| post.created_at < start) {
            break;
        }
        let shown = !post.deleted
            && !post.superseded
            && post.created_at + delay <= now
            && end.is_none_or(|end| post.created_at < end)
            && (since + 1..until.min(before)).contains(number)
            && !(exclude.contains(&"replies") && post.reply_to.is_some())
            && !(exclude.contains(&"retweets") && post.repost_of.is_some());
        if shown {
            chosen.push(*number);
            if chosen.len() > max_results {
                break;
            }
        }
    }
    let more = chosen.len() > max_results;
    chosen.truncate(max_results);
    let mut meta = json!({ "result_count": chosen.len() });
    if let (Some(newest), Some(oldest)) = (chosen.first(), chosen.last()) {
        meta["newest_id"] = json!(newest.to_string());
        meta["oldest_id"] = json!(oldest.to_string());
        if more {
            meta["next_token"] = json!(format!("p{oldest}"));
        }
    }
    let data: Vec<Value> = chosen.into_iter().map(|number| view.post(number, "id")).collect();
    let data = (!data.is_empty()).then_some(Value::Array(data));
    Ok(view.answer(data, Some(meta), "id"))
}

const ANALYTICS: &[(&str, u64)] = &[
    ("impressions", 20_000),
    ("engagements", 900),
    ("likes", 400),
    ("replies", 20),
    ("retweets", 60),
    ("quote_tweets", 10),
    ("bookmarks", 15),
    ("shares", 30),
    ("url_clicks", 300),
    ("user_profile_clicks", 90),
    ("follows", 8),
    ("unfollows", 3),
    ("detail_expands", 500),
    ("hashtag_clicks", 40),
    ("media_views", 4_000),
];

pub(super) fn analytics(world: &World, input: &Input, asking: usize, now: i64) -> Answer {
    let query = input.query();
    let ids = query.list("ids");
    if ids.is_empty() || ids.len() > 100 {
        return errors::invalid(
            "ids",
            query.get("ids").unwrap_or_default(),
            "The `ids` query parameter must have 1 to 100 values",
        );
    }
    let start = match instant(&query, "start_time") {
        Ok(Some(start)) => start,
        Ok(None) => return errors::invalid("start_time", "", "The `start_time` query parameter can not be empty"),
        Err(answer) => return answer,
    };
    match instant(&query, "end_time") {
        Ok(Some(_)) => {}
        Ok(None) => return errors::invalid("end_time", "", "The `end_time` query parameter can not be empty"),
        Err(answer) => return answer,
    }
    if !matches!(query.get("granularity"), Some("hourly" | "daily" | "weekly" | "total")) {
        let given = query.get("granularity").unwrap_or_default();
        return errors::invalid("granularity", given, "The `granularity` must be one of [hourly,daily,weekly,total]");
    }
    let fields = query.list("analytics.fields");
    let state = lock(&world.x);
    let mut view = View::new(world, &state, &query, input.base(), asking, now);
    let mut data = Vec::new();
    for id in ids {
        let Some(number) = view.find(id, "ids") else { continue };
        if state.posts[&number].user != asking {
            view.errors.push(errors::not_authorized("tweet", "ids", id));
            continue;
        }
        let metrics: Map<String, Value> = ANALYTICS
            .iter()
            .filter(|(name, _)| fields.is_empty() || fields.contains(name))
            .map(|(name, below)| ((*name).to_owned(), json!(metric(id, name, *below))))
            .collect();
        data.push(json!({
            "id": id,
            "timestamped_metrics": [{ "timestamp": rfc3339_millis(start), "metrics": metrics }]
        }));
    }
    let data = (!data.is_empty()).then_some(Value::Array(data));
    view.answer(data, None, "ids")
}
