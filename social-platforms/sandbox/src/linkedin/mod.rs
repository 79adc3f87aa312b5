//! LinkedIn (versioned REST) as its contract describes it.

mod assets;
mod comments;
mod errors;
mod limits;
mod little_text;
mod oauth;
mod people;
mod posts;
mod statistics;

use crate::answer::{self, Answer, Input, Pairs};
use crate::oauth::{App, Grant, Issued, Platform, ScopeSet};
use crate::pages;
use crate::rng::Rng;
use crate::server::BodyRule;
use crate::settings::{Limits, Settings};
use crate::world::World;
use crate::{lock, rng};
use assets::Asset;
use axum::body::Body;
use http::request::Parts;
use limits::Throttle;
use people::{Assignment, Member, Organization};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const SCOPES: &[&str] = &[
    "openid",
    "profile",
    "email",
    "w_member_social",
    "r_member_social",
    "r_basicprofile",
    "w_organization_social",
    "r_organization_social",
    "rw_organization_admin",
    "r_organization_admin",
    "w_member_social_feed",
    "r_member_social_feed",
    "w_organization_social_feed",
    "r_organization_social_feed",
    "r_member_postAnalytics",
    "r_member_profileAnalytics",
];

/// Self-serve products plus Community Management; what is closed to new apps is not there.
const COMMON: &[&str] = &[
    "openid",
    "profile",
    "email",
    "w_member_social",
    "r_basicprofile",
    "w_organization_social",
    "r_organization_social",
    "rw_organization_admin",
    "r_organization_admin",
    "w_member_social_feed",
    "w_organization_social_feed",
    "r_organization_social_feed",
];

pub(crate) const APPS: &[App] = &[
    App {
        client_id: "sandbox-linkedin-client",
        secret: Some("sandbox-linkedin-secret"),
        name: "Sandbox app",
        scopes: COMMON,
        partner: false,
    },
    App {
        client_id: "sandbox-linkedin-partner-client",
        secret: Some("sandbox-linkedin-partner-secret"),
        name: "Sandbox partner app (refresh tokens, all scopes)",
        scopes: SCOPES,
        partner: true,
    },
    App {
        client_id: "sandbox-linkedin-selfserve-client",
        secret: Some("sandbox-linkedin-selfserve-secret"),
        name: "Sandbox self-serve app (member posting only)",
        scopes: &["openid", "profile", "email", "w_member_social"],
        partner: false,
    },
];

/// Names of all operations, for faults and the request log.
pub(crate) const OPERATIONS: &[&str] = &[
    "oauth.authorize",
    "oauth.token",
    "oauth.introspect",
    "oauth.revoke",
    "userinfo.get",
    "me.get",
    "organizationAcls.find",
    "organizations.get",
    "organizations.batch_get",
    "images.initialize",
    "images.upload",
    "images.get",
    "videos.initialize",
    "videos.upload",
    "videos.finalize",
    "videos.get",
    "documents.initialize",
    "documents.upload",
    "documents.get",
    "posts.create",
    "posts.update",
    "posts.delete",
    "posts.get",
    "posts.batch_get",
    "posts.finder",
    "comments.create",
    "comments.list",
    "comments.delete",
    "socialActions.get",
    "statistics.shares",
    "statistics.followers",
    "statistics.member",
    "networkSizes.get",
    "page",
    "unknown",
];

/// What can be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    Video,
    Document,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Document => "document",
        }
    }

    fn resource(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Video => "videos",
            Self::Document => "documents",
        }
    }

    fn urn_prefix(self) -> &'static str {
        match self {
            Self::Image => "C4E10AQ",
            Self::Video => "C5505AQ",
            Self::Document => "C4D1FAQ",
        }
    }

    fn of(resource: &str) -> Option<Self> {
        [Self::Image, Self::Video, Self::Document]
            .into_iter()
            .find(|kind| kind.resource() == resource || kind.as_str() == resource)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Authorize,
    Token,
    Introspect,
    Revoke,
    UserInfo,
    Me,
    OrganizationAcls,
    Organization(String),
    Organizations,
    Initialize(Kind),
    Finalize,
    AssetStatus(Kind, String),
    Upload { kind: Kind, key: String, part: String },
    CreatePost,
    UpdatePost(String),
    DeletePost(String),
    Post(String),
    Posts,
    FindPosts,
    CreateComment(String),
    Comments(String),
    DeleteComment(String, String),
    Social(String),
    ShareStatistics,
    FollowerStatistics,
    MemberStatistics,
    NetworkSize(String),
    PostPage(String),
    Avatar(String),
}

impl Route {
    pub(crate) fn find(parts: &Parts, path: &str) -> Option<Self> {
        let pieces: Vec<String> =
            path.trim_start_matches('/').trim_end_matches('/').split('/').map(percent_decoded).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let query = Pairs::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let action = query.get("action");
        let own = |piece: &&str| (*piece).to_owned();
        let route = match (parts.method.as_str(), pieces.as_slice()) {
            ("GET" | "POST", ["oauth", "v2", "authorization"]) => Self::Authorize,
            ("POST", ["oauth", "v2", "accessToken"]) => Self::Token,
            ("POST", ["oauth", "v2", "introspectToken"]) => Self::Introspect,
            ("POST", ["oauth", "v2", "revoke"]) => Self::Revoke,
            ("GET", ["v2", "userinfo"]) => Self::UserInfo,
            ("GET", ["v2", "me"]) => Self::Me,
            ("GET", ["rest", "organizationAcls"]) => Self::OrganizationAcls,
            ("GET", ["rest", "organizations"]) => Self::Organizations,
            ("GET", ["rest", "organizations", id]) => Self::Organization(own(id)),
            ("POST", ["rest", resource @ ("images" | "videos" | "documents")]) => match (action, Kind::of(resource)?) {
                (Some("initializeUpload"), kind) => Self::Initialize(kind),
                (Some("finalizeUpload"), Kind::Video) => Self::Finalize,
                _ => return None,
            },
            ("GET", ["rest", resource @ ("images" | "videos" | "documents"), urn]) => {
                Self::AssetStatus(Kind::of(resource)?, own(urn))
            }
            ("PUT" | "POST", ["dms-uploads", "sp", kind, key, part]) => {
                Self::Upload { kind: Kind::of(kind)?, key: own(key), part: own(part) }
            }
            ("POST", ["rest", "posts"]) => Self::CreatePost,
            ("POST", ["rest", "posts", urn]) => Self::UpdatePost(own(urn)),
            ("DELETE", ["rest", "posts", urn]) => Self::DeletePost(own(urn)),
            ("GET", ["rest", "posts"]) if query.get("q").is_some() => Self::FindPosts,
            ("GET", ["rest", "posts"]) => Self::Posts,
            ("GET", ["rest", "posts", urn]) => Self::Post(own(urn)),
            ("POST", ["rest", "socialActions", urn, "comments"]) => Self::CreateComment(own(urn)),
            ("GET", ["rest", "socialActions", urn, "comments"]) => Self::Comments(own(urn)),
            ("DELETE", ["rest", "socialActions", urn, "comments", id]) => Self::DeleteComment(own(urn), own(id)),
            ("GET", ["rest", "socialActions", urn]) => Self::Social(own(urn)),
            ("GET", ["rest", "organizationalEntityShareStatistics"]) => Self::ShareStatistics,
            ("GET", ["rest", "organizationalEntityFollowerStatistics"]) => Self::FollowerStatistics,
            ("GET", ["rest", "memberCreatorPostAnalytics"]) => Self::MemberStatistics,
            ("GET", ["rest", "networkSizes", urn]) => Self::NetworkSize(own(urn)),
            ("GET", ["feed", "update", urn] | ["embed", "feed", "update", urn]) => Self::PostPage(own(urn)),
            ("GET", ["avatars", file]) => Self::Avatar(own(file)),
            _ => return None,
        };
        Some(route)
    }

    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::Authorize => "oauth.authorize",
            Self::Token => "oauth.token",
            Self::Introspect => "oauth.introspect",
            Self::Revoke => "oauth.revoke",
            Self::UserInfo => "userinfo.get",
            Self::Me => "me.get",
            Self::OrganizationAcls => "organizationAcls.find",
            Self::Organization(_) => "organizations.get",
            Self::Organizations => "organizations.batch_get",
            Self::Initialize(Kind::Image) => "images.initialize",
            Self::Initialize(Kind::Video) => "videos.initialize",
            Self::Initialize(Kind::Document) => "documents.initialize",
            Self::Finalize => "videos.finalize",
            Self::AssetStatus(Kind::Image, _) => "images.get",
            Self::AssetStatus(Kind::Video, _) => "videos.get",
            Self::AssetStatus(Kind::Document, _) => "documents.get",
            Self::Upload { kind: Kind::Image, .. } => "images.upload",
            Self::Upload { kind: Kind::Video, .. } => "videos.upload",
            Self::Upload { kind: Kind::Document, .. } => "documents.upload",
            Self::CreatePost => "posts.create",
            Self::UpdatePost(_) => "posts.update",
            Self::DeletePost(_) => "posts.delete",
            Self::Post(_) => "posts.get",
            Self::Posts => "posts.batch_get",
            Self::FindPosts => "posts.finder",
            Self::CreateComment(_) => "comments.create",
            Self::Comments(_) => "comments.list",
            Self::DeleteComment(..) => "comments.delete",
            Self::Social(_) => "socialActions.get",
            Self::ShareStatistics => "statistics.shares",
            Self::FollowerStatistics => "statistics.followers",
            Self::MemberStatistics => "statistics.member",
            Self::NetworkSize(_) => "networkSizes.get",
            Self::PostPage(_) | Self::Avatar(_) => "page",
        }
    }

    pub(crate) fn body_rule(&self) -> BodyRule {
        match self {
            Self::Upload { .. } => BodyRule::Stream,
            _ => BodyRule::Buffer(1024 * 1024),
        }
    }
}

fn percent_decoded(piece: &str) -> String {
    let bytes = piece.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What LinkedIn remembers.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) members: Vec<Member>,
    organizations: Vec<Organization>,
    roles: Vec<Assignment>,
    /// Scopes of the last consent of a member for an app: (app, member).
    consents: HashMap<(usize, usize), ScopeSet>,
    assets: HashMap<String, Asset>,
    /// Upload keys to asset URNs.
    uploads: HashMap<String, String>,
    posts: HashMap<String, posts::Post>,
    by_author: HashMap<String, Vec<String>>,
    /// Activity ids to post URNs.
    activities: HashMap<u64, String>,
    /// What was posted lately: hash of author and content.
    recent: HashMap<u64, (String, i64)>,
    throttle: Throttle,
    rng: Rng,
    last_id: u64,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        let (members, organizations, roles) = people::initial();
        Self {
            members,
            organizations,
            roles,
            consents: HashMap::new(),
            assets: HashMap::new(),
            uploads: HashMap::new(),
            posts: HashMap::new(),
            by_author: HashMap::new(),
            activities: HashMap::new(),
            recent: HashMap::new(),
            throttle: Throttle::default(),
            rng: Rng::new(seed ^ 0x11),
            last_id: 0,
        }
    }

    /// A new id, larger than all before; its upper bits are the time. The next odd number is free for the activity of the same post.
    fn next_id(&mut self, now: i64) -> u64 {
        let floor = u64::try_from(now / 1_000).unwrap_or_default() << 22;
        self.last_id = if self.last_id >= floor { self.last_id + 2 } else { floor };
        self.last_id
    }
}

/// Who calls, after token, version and protocol were checked.
#[derive(Debug, Clone)]
struct Caller {
    grant: Grant,
    app: usize,
    member: usize,
    /// `YYYYMM`; 0 on unversioned paths.
    version: u32,
}

impl Caller {
    fn has(&self, scope: &str) -> bool {
        self.grant.has(scope)
    }

    fn has_any(&self, scopes: &[&str]) -> bool {
        scopes.iter().any(|scope| self.has(scope))
    }
}

/// Tokens without a browser.
pub(crate) fn issue(world: &World, grant: Grant, now: i64) -> Issued {
    oauth::issue(world, grant, now)
}

pub(crate) fn unknown_path() -> Answer {
    errors::refusal(404, "RESOURCE_NOT_FOUND", "No virtual resource found")
}

pub(crate) fn serve(world: &Arc<World>, route: Route, input: &Input) -> Answer {
    match route {
        Route::Authorize => oauth::authorize(world, input),
        Route::Token => oauth::token(world, input),
        Route::Introspect => oauth::introspect(world, input),
        Route::Revoke => oauth::revoke(world, input),
        Route::PostPage(urn) => posts::page(world, &urn),
        Route::Avatar(file) => pages::avatar(&file),
        route => {
            let now = world.now();
            let reply = match api(world, &route, input, now) {
                Ok(answer) | Err(answer) => answer,
            };
            traced(reply, &input.parts, now)
        }
    }
}

/// The bytes of an upload.
pub(crate) async fn receive(world: &Arc<World>, route: Route, parts: &Parts, body: Body) -> Answer {
    match route {
        Route::Upload { key, part, .. } => assets::receive(world, &key, &part, parts, body).await,
        _ => unknown_path(),
    }
}

/// The headers by which LinkedIn's support finds a request.
fn traced(reply: Answer, parts: &Parts, now: i64) -> Answer {
    let id = rng::hash(&[parts.uri.path(), &now.to_string()]);
    let reply = answer::with_header(reply, "x-li-fabric", "sandbox");
    let reply = answer::with_header(reply, "x-li-request-id", &format!("{id:016X}"));
    answer::with_header(reply, "x-li-uuid", &format!("AAY{:016x}", id.rotate_left(17)))
}

fn api(world: &Arc<World>, route: &Route, input: &Input, now: i64) -> Result<Answer, Answer> {
    let settings = world.settings();
    let versioned = !matches!(route, Route::UserInfo | Route::Me);
    let caller = caller(world, input, &settings, versioned, now)?;
    if settings.limits == Limits::Real {
        lock(&world.linkedin).throttle.count(&settings, route.operation(), &caller.grant, now)?;
    }
    match route {
        Route::UserInfo => people::userinfo(world, input, &caller),
        Route::Me => people::me(world, &caller),
        Route::OrganizationAcls => people::acls(world, input, &caller),
        Route::Organization(id) => people::organization(world, id, &caller),
        Route::Organizations => people::organizations(world, input, &caller),
        Route::Initialize(kind) => assets::initialize(world, input, *kind, &caller, now),
        Route::Finalize => assets::finalize(world, input, &caller, now),
        Route::AssetStatus(kind, urn) => assets::status(world, input, *kind, urn, &caller, now),
        Route::CreatePost => posts::create(world, input, &caller, now),
        Route::UpdatePost(urn) => posts::update(world, input, urn, &caller, now),
        Route::DeletePost(urn) => posts::delete(world, urn, &caller, now),
        Route::Post(urn) => posts::get(world, urn, &caller),
        Route::Posts => posts::batch_get(world, input, &caller),
        Route::FindPosts => posts::find(world, input, &caller, now),
        Route::CreateComment(urn) => comments::create(world, input, urn, &caller, now),
        Route::Comments(urn) => comments::list(world, input, urn, &caller),
        Route::DeleteComment(urn, id) => comments::delete(world, urn, id, &caller, now),
        Route::Social(urn) => comments::summary(world, urn, &caller),
        Route::ShareStatistics => statistics::shares(world, input, &caller),
        Route::FollowerStatistics => statistics::followers(world, input, &caller),
        Route::MemberStatistics => statistics::member(world, input, &caller),
        Route::NetworkSize(urn) => statistics::network_size(world, input, urn, &caller),
        Route::Authorize
        | Route::Token
        | Route::Introspect
        | Route::Revoke
        | Route::Upload { .. }
        | Route::PostPage(_)
        | Route::Avatar(_) => Err(unknown_path()),
    }
}

/// The gates in front of every call: token, then version, then protocol, then a length for an empty body.
fn caller(world: &World, input: &Input, settings: &Settings, versioned: bool, now: i64) -> Result<Caller, Answer> {
    let Some(token) = input.bearer().filter(|token| !token.is_empty()) else {
        return Err(errors::numbered(401, 401, "EMPTY_ACCESS_TOKEN", "Empty oauth2_access_token"));
    };
    let token = world.tokens.access(token).filter(|token| token.grant.platform == Platform::LinkedIn);
    let Some(token) = token else {
        return Err(errors::numbered(401, 65_600, "INVALID_ACCESS_TOKEN", "Invalid access token"));
    };
    if token.is_revoked() {
        let message = "The token used in the request has been revoked by the user";
        return Err(errors::numbered(401, 65_601, "REVOKED_ACCESS_TOKEN", message));
    }
    if now >= token.expires_at {
        return Err(errors::numbered(401, 65_602, "EXPIRED_ACCESS_TOKEN", "The token used in the request has expired"));
    }
    let mut version = 0;
    if versioned {
        let Some(asked) = input.header("linkedin-version") else {
            let message = "A version must be present. Please specify a version by adding the LinkedIn-Version header.";
            return Err(errors::refusal(400, "VERSION_MISSING", message));
        };
        if !settings.linkedin_active_versions.iter().any(|active| active == asked) {
            let shown = if asked.len() == 6 { format!("{asked}01") } else { asked.to_owned() };
            return Err(errors::refusal(
                426,
                "NONEXISTENT_VERSION",
                &format!("Requested version {shown} is not active"),
            ));
        }
        version = asked.parse().unwrap_or_default();
        if input.header("x-restli-protocol-version") != Some("2.0.0") {
            let message = "The header X-Restli-Protocol-Version must be present with the value 2.0.0";
            return Err(errors::refusal(400, "", message));
        }
        let headers = &input.parts.headers;
        let has_length = headers.contains_key("content-length") || headers.contains_key("transfer-encoding");
        if input.parts.method == http::Method::POST && !has_length {
            return Err(errors::refusal(411, "", "Length Required"));
        }
    }
    let grant = token.grant;
    Ok(Caller { grant, app: grant.app, member: grant.persona, version })
}

/// The members of a Rest.li `List(a,b)`, or the single value.
fn list(text: &str) -> Vec<String> {
    let inner = text.strip_prefix("List(").and_then(|rest| rest.strip_suffix(')'));
    let Some(inner) = inner else { return vec![text.to_owned()] };
    let mut found = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, character) in inner.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(inner[from..at].to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(inner[from..].to_owned());
    found.retain(|item| !item.is_empty());
    found
}
