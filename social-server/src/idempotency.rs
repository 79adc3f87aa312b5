//! `Idempotency-Key`: the same key with the same request is carried out once, and answered the same again.

use axum::{
    body::Body,
    extract::{FromRequestParts as _, Request, State as Extract},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use social_core::{
    UserId, crypto,
    store::Idempotent,
    time::later,
    vault::{Binding, Sealed},
};
use uuid::Uuid;

use crate::{
    body,
    caller::{Authenticated, Scope},
    problem::Problem,
    state::State,
};

/// The header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A request that was begun so long ago and has no answer died with its process.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// The key of a request, if it has one.
///
/// # Errors
/// A refusal for a key that is empty, too long or not plain text.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().map(str::trim).unwrap_or_default();
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if good {
        return Ok(Some(text.to_owned()));
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "idempotency_key_invalid",
        "an Idempotency-Key has 1 to 255 visible ASCII characters",
    ))
}

/// A request that is being carried out under a key.
#[derive(Debug)]
pub(crate) struct Begun {
    state: State,
    tenant: UserId,
    key: String,
    /// When it was begun: whoever takes it over when it has become stale has another instant.
    at: Timestamp,
    finished: bool,
}

/// What beginning found.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It is to be carried out.
    Fresh(Begun),
    /// It was carried out before: this was the answer.
    Done(StatusCode, Vec<u8>),
}

/// Begins a request under a key.
///
/// # Errors
/// 409 while the first one runs, 422 if the key was used for something else.
pub(crate) async fn begin(state: &State, tenant: UserId, key: String, fingerprint: [u8; 32]) -> Result<Begin, Problem> {
    let now = state.now();
    let stale = later(now, -STALE_AFTER);
    match state.store().begin_idempotent(tenant, &key, fingerprint, now, stale).await? {
        Idempotent::Fresh => Ok(Begin::Fresh(Begun { state: state.clone(), tenant, key, at: now, finished: false })),
        Idempotent::InFlight => Err(Problem::new(
            StatusCode::CONFLICT,
            "idempotency_running",
            "the first request with this Idempotency-Key is still being carried out",
        )
        .advice("The same request is already on its way. Please wait a moment.")
        .retry_after(1)),
        Idempotent::Mismatch => Err(mismatch()),
        Idempotent::Done { status, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            Ok(Begin::Done(status, open(state, tenant, &key, body).await?))
        }
    }
}

pub(crate) fn mismatch() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_mismatch",
        "this Idempotency-Key was used for another request",
    )
    .advice("This request was sent before with other content. Use a new key for something new.")
}

/// Answers contain keys and links, so they are sealed like tokens.
fn binding<'a>(tenant: UserId, column: &'a str) -> Binding<'a> {
    Binding { table: "idempotency", column, user: tenant.uuid(), connection: Uuid::nil(), platform: "", version: 0 }
}

async fn open(state: &State, tenant: UserId, key: &str, body: Vec<u8>) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: social_core::vault::VaultError| Problem::internal(format!("a stored answer: {error}"));
    let sealed = Sealed::from_bytes(body).map_err(unreadable)?;
    let plain = state.answers.open(&binding(tenant, key), &sealed).await.map_err(unreadable)?;
    Ok(plain.to_vec())
}

impl Begun {
    /// Keeps a good answer. A refusal is forgotten: it had no effect, so the same key may be used for a corrected request.
    pub(crate) async fn finish(mut self, status: StatusCode, body: &[u8]) {
        let kept = if status.is_success() {
            match self.state.answers.seal(&binding(self.tenant, &self.key), body).await {
                Ok(sealed) => Some(sealed),
                Err(error) => {
                    tracing::warn!(%error, "an answer could not be sealed");
                    None
                }
            }
        } else {
            None
        };
        let answer = kept.as_ref().map(|sealed| (status.as_u16(), sealed.as_bytes()));
        let store = self.state.store();
        if let Err(error) = store.finish_idempotent(self.tenant, &self.key, self.at, answer).await {
            tracing::warn!(%error, "an answer could not be kept for its Idempotency-Key");
        }
        self.finished = true;
    }
}

/// A request that was cut off, by its deadline or by a fault, must not keep its key busy: whoever sends it again is served.
impl Drop for Begun {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let (state, tenant, key, at) = (self.state.clone(), self.tenant, std::mem::take(&mut self.key), self.at);
        self.state.tasks.spawn(async move {
            if let Err(error) = state.store().finish_idempotent(tenant, &key, at, None).await {
                tracing::warn!(%error, "a request that was cut off keeps its Idempotency-Key busy for a while");
            }
        });
    }
}

/// The answer that was given before to a request to `path`.
pub(crate) fn replay(path: &str, status: StatusCode, body: Vec<u8>) -> Response {
    let json = !body.is_empty();
    let place = place(path, status, &body);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    if json {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(place) = place.and_then(|place| HeaderValue::from_str(&place).ok()) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Where the thing is that was made: the header is not stored, since the answer tells.
fn place(path: &str, status: StatusCode, body: &[u8]) -> Option<String> {
    let list = match path {
        "/post/schedule" => "posts",
        "/users" => "users",
        "/keys" => "keys",
        "/media" => "media",
        _ => return None,
    };
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    (status == StatusCode::CREATED).then_some(())?;
    Some(format!("/{list}/{}", body["id"].as_str()?))
}

/// What a key must be allowed to do before it is told what another key of its user was answered. The handler, which would refuse it, is not
/// asked again.
fn needed(method: &Method, path: &str) -> Option<Scope> {
    let subject = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match (subject, path) {
        (_, "/post/validate") => Some(Scope::PostsRead),
        ("post" | "posts" | "deliveries", _) => Some(Scope::PostsWrite),
        ("accounts" | "connections" | "auth", _) => Some(Scope::AccountsWrite),
        ("keys", _) if *method == Method::DELETE => Some(Scope::KeysWrite),
        _ => None,
    }
}

/// Refuses to repeat an answer to a key that could not have asked for it.
fn may_hear(who: &Authenticated, method: &Method, path: &str) -> Result<(), Problem> {
    let Authenticated::User(caller) = who else { return Ok(()) };
    match needed(method, path) {
        Some(scope) => caller.may(scope).map(drop),
        // Nothing is known about this route: only a key without limits is told.
        None => Scope::ALL.into_iter().try_for_each(|scope| caller.may(scope).map(drop)),
    }
}

/// What makes two requests the same.
pub(crate) fn fingerprint(method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
    let mut whole = Vec::with_capacity(body.len() + target.len() + 16);
    whole.extend_from_slice(method.as_str().as_bytes());
    whole.push(0);
    whole.extend_from_slice(target.as_bytes());
    whole.push(0);
    whole.extend_from_slice(body);
    crypto::sha256(&whole)
}

/// Carries writes out once per key. Uploads have their own way, since their bodies are too large to be kept.
pub(crate) async fn layer(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    match guarded(state, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn guarded(state: State, request: Request, next: Next) -> Result<Response, Problem> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let who = Authenticated::from_request_parts(&mut parts, &state).await?;
    let Some(key) = key(&parts.headers)? else { return Ok(next.run(Request::from_parts(parts, body)).await) };
    let body = body::collect(body).await?;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let print = fingerprint(&parts.method, target, &body);
    let begun = match begin(&state, who.tenant(), key, print).await? {
        Begin::Fresh(begun) => begun,
        Begin::Done(status, body) => {
            may_hear(&who, &parts.method, parts.uri.path())?;
            return Ok(replay(parts.uri.path(), status, body));
        }
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Err(Problem::internal("an answer broke off")),
    };
    begun.finish(parts.status, &bytes).await;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}
