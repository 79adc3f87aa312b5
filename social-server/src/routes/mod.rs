//! The routes, by subject.

pub(crate) mod accounts;
pub(crate) mod admin;
pub(crate) mod analytics;
pub(crate) mod auth;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod draft;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod media;
pub(crate) mod page;
pub(crate) mod platforms;
pub(crate) mod posts;
pub(crate) mod time;

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State as Extract},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    timeout::RequestBodyTimeoutLayer,
};

use crate::{front, idempotency, limiter, problem::Problem, state::State, transport};

/// A body that pauses longer than this is let go.
const BODY_PAUSE: Duration = Duration::from_secs(20);

/// All routes of an installation, ready to be served or to be put into a host's own router.
///
/// Whoever accepts connections puts [`Peer`](crate::Peer) into the extensions of each request; without it callers count as local.
pub fn app(state: State) -> Router {
    // Writes, which may carry an Idempotency-Key. Uploads look at theirs themselves.
    let writes = Router::new()
        .route("/users", post(admin::create_user).get(admin::list_users))
        .route("/keys", post(admin::create_key))
        .route("/keys/{id}", delete(admin::delete_key))
        .route("/auth/links", post(auth::create_link))
        .route("/accounts/{id}", delete(accounts::disconnect).get(accounts::show))
        .route("/accounts/{id}/refresh", post(accounts::refresh))
        .route("/connections/{id}", delete(accounts::revoke))
        .route("/post/schedule", post(posts::schedule))
        .route("/post/validate", post(posts::validate))
        .route("/posts/{id}", patch(posts::edit).get(posts::show).delete(posts::cancel))
        .route("/posts/{id}/retry", post(posts::retry))
        .route("/deliveries/{id}", get(deliveries::show))
        .route("/deliveries/{id}/resolve", post(deliveries::resolve))
        .route("/deliveries/{id}/remote", delete(deliveries::delete_remote))
        .layer(from_fn_with_state(state.clone(), idempotency::layer));
    let reads = Router::new()
        .route("/auth/connect/{platform}", get(auth::connect))
        .route("/auth/callback/{platform}", get(auth::callback))
        .route("/platforms", get(platforms::list))
        .route("/accounts", get(accounts::list))
        .route("/connections", get(accounts::connections))
        .route("/posts", get(posts::list))
        .route("/media", post(media::upload))
        .route("/media/{id}", get(media::show))
        .route("/m/{token}", get(media::file))
        .route("/logs", get(logs::list))
        .route("/events", get(events::stream))
        .route("/analytics/posts/{delivery_id}", get(analytics::of_delivery))
        .route("/analytics/accounts/{id}", get(analytics::of_account))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(docs::openapi))
        .route("/", get(docs::home))
        .route("/docs", get(docs::page))
        .route("/docs/{asset}", get(docs::asset));
    writes
        .merge(reads)
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(from_fn_with_state(state.clone(), limiter::per_address))
        .layer(cors(&state))
        .layer(from_fn_with_state(state.clone(), vary))
        .layer(from_fn_with_state(state.clone(), transport::line))
        .layer(from_fn_with_state(state.clone(), front::layer))
        .with_state(state)
}

/// What operators ask a process that has no API: whether it is alive, whether it can work, what it has done.
pub(crate) fn operations(state: State) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))
        .layer(from_fn_with_state(state.clone(), limiter::per_address))
        .layer(from_fn_with_state(state.clone(), transport::line))
        .layer(from_fn_with_state(state.clone(), front::layer))
        .with_state(state)
}

/// Pages of the listed origins may call the API with keys. Cookies never travel: no route takes one for an answer's sake.
fn cors(state: &State) -> CorsLayer {
    let state = state.clone();
    let allowed = AllowOrigin::predicate(move |origin: &HeaderValue, _| {
        origin.to_str().is_ok_and(|origin| state.settings.allowed_origins.allows(origin))
    });
    let exposed =
        ["location", "etag", "retry-after", "x-request-id", "ratelimit", "ratelimit-policy", "idempotency-replayed"];
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            idempotency::IDEMPOTENCY_KEY,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

/// Where answers differ by origin, caches are told, on every answer and not only on those to listed origins.
async fn vary(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await.into_response();
    if !state.settings.allowed_origins.is_empty() && !response.headers().contains_key(header::VARY) {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}
