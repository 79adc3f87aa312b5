//! For those who run it: is it alive, can it work, what has it done.

use axum::{
    Extension, Json,
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    caller::{bearer, is_secret},
    problem::Problem,
    state::State,
    transport::Client,
};

/// Whether it runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// `ok`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
}

/// Whether it can work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadyView {
    /// `ok`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
    /// Networks that take nothing from this installation for now. Requests are served all the same; posts wait.
    stopped: Vec<StopView>,
}

/// A network that is closed to this installation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StopView {
    /// The network.
    platform: String,
    /// `billing`, `config` (credentials, permissions, a version that was switched off), `throttled`, or `limit` (one of the app's).
    reason: &'static str,
    /// When one call finds out whether it is over.
    until: String,
}

/// Says that the process runs. Looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = HealthView)))]
pub(crate) async fn alive() -> Json<HealthView> {
    Json(HealthView { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Says whether requests can be served now: the database answers, reads and writes. Networks that are closed to the whole installation are
/// listed; that is no reason not to be ready.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = ReadyView), (status = 503, description = "Not now; it recovers by itself.")))]
pub(crate) async fn ready(Extract(state): Extract<State>) -> Result<Json<ReadyView>, Problem> {
    let not_now = |detail: &'static str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail)
            .advice("The service is not available right now. It recovers by itself.")
            .retry_after(2)
    };
    if state.stopping.is_cancelled() {
        return Err(not_now("the server is stopping"));
    }
    let stops = state.readiness.check(&state).await.map_err(not_now)?;
    let stopped = stops.iter().map(|stop| StopView {
        platform: stop.platform.clone(),
        reason: stop.reason.as_str(),
        until: stop.until.to_string(),
    });
    Ok(Json(ReadyView { status: "ok", version: env!("CARGO_PKG_VERSION"), stopped: stopped.collect() }))
}

/// What was counted, as Prometheus reads it. On an installation for this machine alone it needs no key; elsewhere the admin key or
/// `SOCIAL_METRICS_TOKEN`.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Metrics.", content_type = "text/plain", body = String)), security((), ("admin" = [])))]
pub(crate) async fn metrics(
    Extract(state): Extract<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let client = client.map(|Extension(client)| client).unwrap_or_default();
    let settings = &state.settings;
    let known = bearer(&headers).is_some_and(|token| {
        is_secret(token, settings.metrics_token.as_ref()) | is_secret(token, settings.admin_key.as_ref())
    });
    let open = settings.local() && client.direct_local;
    if !known && !open {
        if headers.contains_key(header::AUTHORIZATION) {
            state.limiter.fail(client.ip, state.monotonic());
        }
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "metrics need the metrics token or the admin key",
        )
        .header(header::WWW_AUTHENTICATE, "Bearer realm=\"metrics\""));
    }
    let mut response = crate::metrics::render(&state).await.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
