//! Who calls. A [`Caller`] is the only source of a user id in this crate, and only a key that was checked makes one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use http::{HeaderMap, StatusCode, header};
use jiff::SignedDuration;
use social_core::{UserId, crypto, store::ApiKey, time::later};
use uuid::Uuid;

use crate::{
    key::ShownKey,
    limiter::{KeyNote, Spent, Who, too_many},
    problem::Problem,
    state::State,
    transport::Client,
};

/// What a key may do. A key without scopes may do everything of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See accounts and connections.
    AccountsRead,
    /// Connect, refresh and disconnect.
    AccountsWrite,
    /// See posts, their history and numbers; check drafts; follow events.
    PostsRead,
    /// Schedule, change, cancel, retry, decide, delete.
    PostsWrite,
    /// See files.
    MediaRead,
    /// Upload files.
    MediaWrite,
    /// Delete other keys of the user. A key may always delete itself.
    KeysWrite,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AccountsRead,
        Self::AccountsWrite,
        Self::PostsRead,
        Self::PostsWrite,
        Self::MediaRead,
        Self::MediaWrite,
        Self::KeysWrite,
    ];

    /// The name in requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountsRead => "accounts:read",
            Self::AccountsWrite => "accounts:write",
            Self::PostsRead => "posts:read",
            Self::PostsWrite => "posts:write",
            Self::MediaRead => "media:read",
            Self::MediaWrite => "media:write",
            Self::KeysWrite => "keys:write",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == raw)
    }
}

/// A user who showed a good key.
#[derive(Debug, Clone)]
pub struct Caller {
    user: UserId,
    key: Uuid,
    scopes: Option<Arc<[Scope]>>,
}

/// Whoever showed the admin key.
#[derive(Debug, Clone, Copy)]
pub struct Admin(());

/// Anybody who showed a good key of either kind.
#[derive(Debug, Clone)]
pub enum Authenticated {
    /// A user.
    User(Caller),
    /// The admin.
    Admin(Admin),
}

impl Caller {
    /// Whose requests these are.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The public part of the key that was shown.
    #[must_use]
    pub fn key(&self) -> Uuid {
        self.key
    }

    /// Refuses unless the key has this scope.
    ///
    /// # Errors
    /// A refusal that names the scope.
    pub fn may(&self, scope: Scope) -> Result<UserId, Problem> {
        match &self.scopes {
            Some(scopes) if !scopes.contains(&scope) => {
                let detail = format!("this key lacks the scope {}", scope.as_str());
                Err(Problem::new(StatusCode::FORBIDDEN, "missing_scope", detail)
                    .advice("This key may not do that. Please use a key with more rights."))
            }
            _ => Ok(self.user),
        }
    }

    /// Whether the key is still there, has not ended and has this scope: for answers that last longer than a request. A store that does not
    /// answer ends nothing.
    pub(crate) async fn still(&self, scope: Scope, state: &State) -> bool {
        match look_up(state, self.key).await {
            Ok(Some(key)) => {
                key.expires_at.is_none_or(|end| end > state.now())
                    && scopes(&key).is_none_or(|scopes| scopes.contains(&scope))
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// A key as it was a moment ago.
async fn look_up(state: &State, id: Uuid) -> Result<Option<Arc<ApiKey>>, social_core::Error> {
    if let Some(key) = state.keys.get(id, state.monotonic()) {
        return Ok(Some(key));
    }
    let found = state.store().key(id).await?.map(Arc::new);
    if let Some(key) = &found {
        state.keys.put(key.clone(), state.monotonic());
    }
    Ok(found)
}

/// What a key may do; `None` for everything.
fn scopes(key: &ApiKey) -> Option<Arc<[Scope]>> {
    (!key.scopes.is_empty()).then(|| key.scopes.iter().filter_map(|raw| Scope::parse(raw)).collect())
}

impl Authenticated {
    /// Under whose name idempotency keys are kept.
    pub(crate) fn tenant(&self) -> UserId {
        match self {
            Self::User(caller) => caller.user,
            Self::Admin(_) => UserId::from_uuid(Uuid::nil()),
        }
    }
}

impl FromRequestParts<State> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let client = parts.extensions.get::<Client>().copied().unwrap_or_default();
        let note = parts.extensions.get::<KeyNote>();
        let found = authenticate(&parts.headers, client, note, state).await?;
        parts.extensions.insert(found.clone());
        Ok(found)
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        match Authenticated::from_request_parts(parts, state).await? {
            Authenticated::User(caller) => Ok(caller),
            Authenticated::Admin(_) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "user_key_needed", "the admin key belongs to no user")
                    .advice("Make a key for a user with POST /keys and send that one."))
            }
        }
    }
}

impl FromRequestParts<State> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        match Authenticated::from_request_parts(parts, state).await? {
            Authenticated::Admin(admin) => Ok(admin),
            Authenticated::User(_) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "admin_key_needed", "only the admin key may do this")
                    .advice("Send the key that SOCIAL_ADMIN_KEY holds."))
            }
        }
    }
}

fn refused(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .advice("Please send a valid key: Authorization: Bearer sk_live_...")
        .header(header::WWW_AUTHENTICATE, "Bearer realm=\"social\"")
}

/// The token of the `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Whether a token is the one behind this hash, in a time that does not depend on it.
pub(crate) fn is_secret(token: &str, hash: Option<&[u8; 32]>) -> bool {
    let shown = crypto::sha256(token.as_bytes());
    // Without a secret of that kind the comparison is made all the same.
    crypto::same_bytes(&shown, hash.unwrap_or(&[0; 32])) && hash.is_some()
}

/// A key that is none: refused, and after some of them not even that.
fn guessed(client: Client, state: &State) -> Problem {
    match state.limiter.fail(client.ip, state.monotonic()) {
        Spent::Over { wait, .. } => too_many(Who::Address, wait),
        Spent::Fits { .. } | Spent::Uncounted => refused("the key is not valid"),
    }
}

async fn authenticate(
    headers: &HeaderMap,
    client: Client,
    note: Option<&KeyNote>,
    state: &State,
) -> Result<Authenticated, Problem> {
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(refused("there is more than one Authorization header"));
    }
    let token = bearer(headers).ok_or_else(|| refused("there is no bearer key"))?;
    let Some(shown) = ShownKey::parse(token) else {
        if is_secret(token, state.settings.admin_key.as_ref()) {
            return Ok(Authenticated::Admin(Admin(())));
        }
        return Err(guessed(client, state));
    };
    let now = state.now();
    let key = look_up(state, shown.id).await?;
    let nothing = [0; 32];
    let hash = key.as_ref().map_or(&nothing, |key| &key.hash);
    let same = crypto::same_bytes(hash, &shown.hash);
    let Some(key) = key.filter(|_| same) else {
        return Err(guessed(client, state));
    };
    if key.expires_at.is_some_and(|end| end <= now) {
        return Err(refused("the key has ended").advice("This key has ended. Please make a new one."));
    }
    let spent = state.limiter.spend_key(key.id, state.monotonic());
    if let Some(note) = note {
        note.set(spent);
    }
    if let Spent::Over { wait, .. } = spent {
        return Err(too_many(Who::Key, wait));
    }
    touch(state, &key);
    Ok(Authenticated::User(Caller { user: key.user, key: key.id, scopes: scopes(&key) }))
}

/// Notes roughly when a key was used, beside the request.
fn touch(state: &State, key: &ApiKey) {
    let now = state.now();
    let recent = later(now, -SignedDuration::from_mins(1));
    if key.last_used_at.is_some_and(|at| at > recent) || !state.keys.claim_touch(key.id, state.monotonic()) {
        return;
    }
    let (store, id) = (state.store().clone(), key.id);
    state.tasks.spawn(async move {
        if let Err(error) = store.touch_key(id, now).await {
            tracing::debug!(%error, "the use of a key could not be noted");
        }
    });
}

/// How long a key is believed without asking the store again: so long a key that another process deleted may still work.
const KEY_LIFE: Duration = Duration::from_secs(5);
const TOUCH_EVERY: Duration = Duration::from_secs(60);
const MOST_KEYS: usize = 10_000;

/// Keys that were looked up a moment ago.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    keys: HashMap<Uuid, (Arc<ApiKey>, Duration)>,
    touched: HashMap<Uuid, Duration>,
}

impl KeyCache {
    fn get(&self, id: Uuid, now: Duration) -> Option<Arc<ApiKey>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, at) = cached.keys.get(&id)?;
        (now.saturating_sub(*at) < KEY_LIFE).then(|| key.clone())
    }

    fn put(&self, key: Arc<ApiKey>, now: Duration) {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.keys.len() >= MOST_KEYS {
            cached.keys.retain(|_, (_, at)| now.saturating_sub(*at) < KEY_LIFE);
        }
        if cached.keys.len() < MOST_KEYS {
            cached.keys.insert(key.id, (key, now));
        }
    }

    /// Forgets a key that was deleted.
    pub(crate) fn forget(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.remove(&id);
    }

    fn claim_touch(&self, id: Uuid, now: Duration) -> bool {
        let touched = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).touched;
        if touched.get(&id).is_some_and(|at| now.saturating_sub(*at) < TOUCH_EVERY) {
            return false;
        }
        if touched.len() >= MOST_KEYS {
            touched.clear();
        }
        touched.insert(id, now);
        true
    }
}
