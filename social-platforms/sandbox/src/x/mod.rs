//! X (API v2) as its contract describes it.

mod errors;
mod limits;
mod media;
mod oauth;
mod posts;
mod read;
pub(crate) mod text;
mod users;

use crate::answer::{self, Answer, Input};
use crate::lock;
use crate::oauth::{AccessToken, App, Grant, Issued, Platform};
use crate::server::BodyRule;
use crate::world::{Persona, World};
use crate::{pages, settings};
use http::Method;
use limits::Buckets;
use std::collections::HashMap;
use std::sync::Arc;
pub(crate) use users::User;

pub(crate) const SCOPES: &[&str] = &[
    "tweet.read",
    "tweet.write",
    "tweet.moderate.write",
    "users.read",
    "users.email",
    "media.write",
    "offline.access",
    "follows.read",
    "follows.write",
    "space.read",
    "mute.read",
    "mute.write",
    "like.read",
    "like.write",
    "list.read",
    "list.write",
    "block.read",
    "block.write",
    "bookmark.read",
    "bookmark.write",
    "dm.read",
    "dm.write",
];

pub(crate) const APPS: &[App] = &[
    App {
        client_id: "sandbox-x-client",
        secret: Some("sandbox-x-secret"),
        name: "Sandbox app (confidential)",
        scopes: &[],
        partner: false,
    },
    App {
        client_id: "sandbox-x-public-client",
        secret: None,
        name: "Sandbox app (public)",
        scopes: &[],
        partner: false,
    },
];

/// Names of all operations, for faults and the request log.
pub(crate) const OPERATIONS: &[&str] = &[
    "oauth.authorize",
    "oauth.token",
    "oauth.revoke",
    "users.me",
    "users.get",
    "posts.create",
    "posts.delete",
    "posts.get",
    "posts.lookup",
    "posts.timeline",
    "posts.analytics",
    "posts.repost",
    "posts.unrepost",
    "media.upload",
    "media.initialize",
    "media.append",
    "media.finalize",
    "media.status",
    "media.metadata",
    "media.subtitles",
    "page",
    "unknown",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Authorize,
    Token,
    Revoke,
    Me,
    UserById(String),
    CreatePost,
    DeletePost(String),
    Post(String),
    Posts,
    Timeline(String),
    Analytics,
    Repost(String),
    Unrepost(String, String),
    Upload,
    Initialize,
    Append(String),
    Finalize(String),
    Status,
    Metadata,
    Subtitles,
    StatusPage(String),
    Avatar(String),
    ShortLink(String),
}

const APPEND_LIMIT: usize = 5 * 1024 * 1024;

impl Route {
    pub(crate) fn find(method: &Method, path: &str) -> Option<Self> {
        // The busiest call first, without looking at the pieces of the path.
        if path == "/2/tweets" && *method == Method::POST {
            return Some(Self::CreatePost);
        }
        let pieces: Vec<&str> = path.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let own = |piece: &&str| (*piece).to_owned();
        let route = match (method.as_str(), pieces.as_slice()) {
            ("GET" | "POST", ["i", "oauth2", "authorize"]) => Self::Authorize,
            ("POST", ["2", "oauth2", "token"]) => Self::Token,
            ("POST", ["2", "oauth2", "revoke"]) => Self::Revoke,
            ("GET", ["2", "users", "me"]) => Self::Me,
            ("GET", ["2", "users", id]) => Self::UserById(own(id)),
            ("GET", ["2", "users", id, "tweets"]) => Self::Timeline(own(id)),
            ("POST", ["2", "users", id, "retweets"]) => Self::Repost(own(id)),
            ("DELETE", ["2", "users", id, "retweets", post]) => Self::Unrepost(own(id), own(post)),
            ("GET", ["2", "tweets"]) => Self::Posts,
            ("GET", ["2", "tweets", "analytics"]) => Self::Analytics,
            ("GET", ["2", "tweets", id]) => Self::Post(own(id)),
            ("DELETE", ["2", "tweets", id]) => Self::DeletePost(own(id)),
            ("GET", ["2", "media", "upload"]) => Self::Status,
            ("POST", ["2", "media", "upload"]) => Self::Upload,
            ("POST", ["2", "media", "upload", "initialize"]) => Self::Initialize,
            ("POST", ["2", "media", "upload", id, "append"]) => Self::Append(own(id)),
            ("POST", ["2", "media", "upload", id, "finalize"]) => Self::Finalize(own(id)),
            ("POST", ["2", "media", "metadata"]) => Self::Metadata,
            ("POST", ["2", "media", "subtitles"]) => Self::Subtitles,
            ("GET", ["i", "web", "status", id] | [_, "status", id]) => Self::StatusPage(own(id)),
            ("GET", ["profile_images", _, file]) => Self::Avatar(own(file)),
            ("GET", ["t.co", slug]) => Self::ShortLink(own(slug)),
            _ => return None,
        };
        Some(route)
    }

    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Authorize => "oauth.authorize",
            Self::Token => "oauth.token",
            Self::Revoke => "oauth.revoke",
            Self::Me => "users.me",
            Self::UserById(_) => "users.get",
            Self::CreatePost => "posts.create",
            Self::DeletePost(_) => "posts.delete",
            Self::Post(_) => "posts.get",
            Self::Posts => "posts.lookup",
            Self::Timeline(_) => "posts.timeline",
            Self::Analytics => "posts.analytics",
            Self::Repost(_) => "posts.repost",
            Self::Unrepost(..) => "posts.unrepost",
            Self::Upload => "media.upload",
            Self::Initialize => "media.initialize",
            Self::Append(_) => "media.append",
            Self::Finalize(_) => "media.finalize",
            Self::Status => "media.status",
            Self::Metadata => "media.metadata",
            Self::Subtitles => "media.subtitles",
            Self::StatusPage(_) | Self::Avatar(_) | Self::ShortLink(_) => "page",
        }
    }

    pub(crate) fn body_rule(&self) -> BodyRule {
        BodyRule::Buffer(match self {
            // Room for the multipart frame, and for base64 in a JSON body.
            Self::Append(_) => APPEND_LIMIT * 4 / 3 + 64 * 1024,
            Self::Upload => 24 * 1024 * 1024,
            _ => 2 * 1024 * 1024,
        })
    }
}

/// What X remembers.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) users: Vec<User>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<u64, usize>,
    posts: HashMap<u64, posts::Post>,
    timelines: Vec<Vec<u64>>,
    /// When an author last said this text: (user, hash of the normalised text).
    said: HashMap<(usize, u64), i64>,
    media: HashMap<u64, media::Media>,
    links: HashMap<String, String>,
    buckets: Buckets,
    last_id: u64,
}

/// Milliseconds since the Unix epoch at which the id space of X starts.
const EPOCH_MS: i64 = 1_288_834_974_657;

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = Self {
            users: Vec::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            posts: HashMap::new(),
            timelines: Vec::new(),
            said: HashMap::new(),
            media: HashMap::new(),
            links: HashMap::new(),
            buckets: Buckets::default(),
            last_id: 0,
        };
        for user in users::initial(seed) {
            state.insert(user);
        }
        state
    }

    fn insert(&mut self, user: User) -> usize {
        let index = self.users.len();
        self.by_name.insert(user.username.to_string(), index);
        self.by_id.insert(user.number, index);
        self.users.push(user);
        self.timelines.push(Vec::new());
        index
    }

    pub(crate) fn add_persona(&mut self, name: &str, display_name: &str, subscription: Option<&str>) -> Persona {
        let index = self.insert(User::new(name, display_name, subscription.unwrap_or("None")));
        self.users[index].persona()
    }

    pub(crate) fn personas(&self) -> Vec<Persona> {
        self.users.iter().map(User::persona).collect()
    }

    pub(crate) fn persona(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name_of(&self, persona: usize) -> String {
        self.users.get(persona).map(|user| user.username.to_string()).unwrap_or_default()
    }

    pub(crate) fn account_of(&self, persona: usize) -> String {
        self.users.get(persona).map(|user| user.id.to_string()).unwrap_or_default()
    }

    /// A new id, larger than all before; its upper bits are the time.
    fn next_id(&mut self, now: i64) -> u64 {
        let floor = u64::try_from(now / 1_000 - EPOCH_MS).unwrap_or_default() << 22;
        self.last_id = if self.last_id >= floor { self.last_id + 1 } else { floor };
        self.last_id
    }
}

pub(crate) async fn serve(world: &Arc<World>, route: Route, input: Input) -> Answer {
    match route {
        Route::Authorize => oauth::authorize(world, &input),
        Route::Token => oauth::token(world, &input),
        Route::Revoke => oauth::revoke(world, &input),
        Route::StatusPage(id) => posts::page(world, &id),
        Route::Avatar(file) => pages::avatar(&file),
        Route::ShortLink(slug) => match lock(&world.x).links.get(&slug) {
            Some(target) => answer::redirect(301, target),
            None => answer::empty(404),
        },
        route => api(world, route, &input).await,
    }
}

/// Tokens without a browser.
pub(crate) fn issue(world: &World, grant: Grant, now: i64) -> Issued {
    oauth::issue(world, now, grant, &world.tokens.new_family(now))
}

/// Everything behind a bearer token.
async fn api(world: &Arc<World>, route: Route, input: &Input) -> Answer {
    let now = world.now();
    let Some(token) = input.bearer().and_then(|token| world.tokens.access(token)) else {
        return errors::unauthorized();
    };
    if token.grant.platform != Platform::X || !token.is_usable(now) {
        return errors::unauthorized();
    }
    if !needed_scopes(&route).iter().all(|scope| token.grant.has(scope)) {
        return errors::forbidden("Forbidden");
    }
    let settings = world.settings();
    let mut rate = limits::Rate::default();
    if settings.limits == settings::Limits::Real {
        rate = lock(&world.x).buckets.count(&settings, route.operation(), &token.grant, now);
        if rate.refused() {
            return rate.mark(errors::too_many(settings.x_limit_body));
        }
    }
    let suspended = lock(&world.x).users.get(token.grant.persona).map(|user| user.suspended);
    let answer = match (settings.x_credits, suspended) {
        (_, None) => errors::unauthorized(),
        (settings::XCredits::Depleted, _) => errors::credits_depleted(&token),
        (settings::XCredits::Capped, _) => errors::usage_capped(),
        (settings::XCredits::Available, Some(true)) if route.is_write() => errors::suspended(),
        (settings::XCredits::Available, Some(_)) => call(world, route, input, &token, now).await,
    };
    rate.mark(answer)
}

impl Route {
    fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::Me
                | Self::UserById(_)
                | Self::Post(_)
                | Self::Posts
                | Self::Timeline(_)
                | Self::Analytics
                | Self::Status
        )
    }
}

fn needed_scopes(route: &Route) -> &'static [&'static str] {
    match route {
        Route::CreatePost | Route::DeletePost(_) | Route::Repost(_) | Route::Unrepost(..) => {
            &["tweet.write", "users.read", "tweet.read"]
        }
        Route::Upload
        | Route::Initialize
        | Route::Append(_)
        | Route::Finalize(_)
        | Route::Status
        | Route::Metadata
        | Route::Subtitles => &["media.write"],
        _ => &["users.read", "tweet.read"],
    }
}

async fn call(world: &World, route: Route, input: &Input, token: &AccessToken, now: i64) -> Answer {
    let user = token.grant.persona;
    match route {
        Route::CreatePost => posts::create(world, input, user, now),
        Route::DeletePost(id) => posts::delete(world, &id, user, now),
        Route::Repost(id) => posts::repost(world, input, &id, user, now),
        Route::Unrepost(id, post) => posts::unrepost(world, &id, &post, user, now),
        Route::Me => users::me(world, input, user),
        Route::UserById(id) => users::by_id(world, input, &id, user),
        Route::Post(id) => read::one(world, input, &id, user, now),
        Route::Posts => read::many(world, input, user, now),
        Route::Timeline(id) => read::timeline(world, input, &id, user, now),
        Route::Analytics => read::analytics(world, input, user, now),
        Route::Upload => media::upload(world, input, user, now).await,
        Route::Initialize => media::initialize(world, input, user, now),
        Route::Append(id) => media::append(world, input, &id, user, now).await,
        Route::Finalize(id) => media::finalize(world, &id, user, now),
        Route::Status => media::status(world, input, user, now),
        Route::Metadata => media::metadata(world, input, user, now),
        Route::Subtitles => media::subtitles(world, input, user, now),
        Route::Authorize
        | Route::Token
        | Route::Revoke
        | Route::StatusPage(_)
        | Route::Avatar(_)
        | Route::ShortLink(_) => answer::empty(404),
    }
}
