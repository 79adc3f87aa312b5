//! The outermost layer: names each request, logs and counts it, and sees to it that every refusal has the same form.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State as Extract},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use social_core::crypto;
use tracing::{Instrument as _, Level, Span};

use crate::{
    metrics,
    problem::{self, PROBLEM_JSON, Problem, Refused},
    state::State,
    telemetry,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The time that a request may take, uploads and endless answers excepted.
const DEADLINE: Duration = Duration::from_secs(90);
/// The longest path with its query.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// The most header fields, and their bytes together.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Names, logs and counts a request. Addresses stay out of the log: they may hold one-time secrets.
pub(crate) async fn layer(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = telemetry::request(&request, known(&method), &route, &id);
    let mut response = match too_long(&request) {
        Some(problem) => problem.into_response(),
        None => carried_out(&state, request, next, &span).await,
    };
    telemetry::answered(&span, response.status());
    let cause = settle(&mut response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    note(&id, &method, &route, status, elapsed, cause.as_deref());
    response
}

/// Refuses what no client of ours sends: it would only be carried about.
fn too_long(request: &Request) -> Option<Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Some(Problem::of_status(StatusCode::URI_TOO_LONG));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES)
        .then(|| Problem::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE))
}

/// A proxy's name for the request if it is plain, or a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    given.filter(plain).map_or_else(|| crypto::random_token(12), str::to_owned)
}

/// A write goes on when its caller has gone away: half a connection, or half an answer to an Idempotency-Key, helps nobody.
async fn carried_out(state: &State, request: Request, next: Next, span: &Span) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let path = request.uri().path();
    let endless = path == "/events" || path.starts_with("/m/") || path == "/media";
    let comes_back = path.starts_with("/auth/");
    let answer = next.run(request).instrument(span.clone());
    if reads && !comes_back {
        return if endless { answer.await } else { in_time(answer).await };
    }
    let task = state.tasks.spawn(async move { if endless { answer.await } else { in_time(answer).await } });
    task.await.unwrap_or_else(|error| {
        let what = if error.is_panic() { "a handler panicked" } else { "a handler was stopped" };
        Problem::internal(what).into_response()
    })
}

async fn in_time(answer: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(DEADLINE, answer).await.unwrap_or_else(|_| {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the request took too long")
            .advice("This is taking too long. Please look whether it has happened before you try again.")
            .because("its deadline has passed")
            .into_response()
    })
}

/// Gives refusals their one form, and answers with what caused a failure.
fn settle(response: &mut Response, id: &str) -> Option<String> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let (mut body, cause) = match response.extensions_mut().remove::<Refused>() {
        Some(Refused { body, cause }) => (body, cause),
        None => {
            let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            // A page for a person in a browser stays a page.
            if kind.is_some_and(|kind| kind.starts_with("text/html") || kind.starts_with(PROBLEM_JSON)) {
                return None;
            }
            (Problem::of_status(status).body().clone(), None)
        }
    };
    body.request_id = Some(id.to_owned());
    let rendered = problem::render(&body);
    let (parts, body) = rendered.into_parts();
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().remove(header::CONTENT_LENGTH);
    *response.body_mut() = body;
    cause
}

/// A method's name, if it is one that anything here answers to: whatever else a stranger sends is not repeated.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// How loud an answer is: a fault of ours; a network, a database or a disk that does not do its part; everything that callers do.
fn level(status: u16, route: &str, caused: bool) -> Level {
    match status {
        500 => Level::ERROR,
        501.. if caused => Level::WARN,
        _ if matches!(route, "/healthz" | "/readyz" | "/metrics") => Level::DEBUG,
        _ => Level::INFO,
    }
}

fn note(id: &str, method: &Method, route: &str, status: u16, elapsed: Duration, cause: Option<&str>) {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let (method, caused) = (known(method), cause.is_some());
    let cause = cause.unwrap_or("no cause was given");
    match level(status, route, caused) {
        Level::ERROR => tracing::error!(
            request.id = id,
            method,
            route,
            status,
            ms,
            cause,
            "{method} {route} failed with {status}: {cause}"
        ),
        Level::WARN => tracing::warn!(
            request.id = id,
            method,
            route,
            status,
            ms,
            cause,
            "{method} {route} was answered with {status}: {cause}"
        ),
        Level::INFO => {
            tracing::info!(request.id = id, method, route, status, ms, "{method} {route} was answered with {status}")
        }
        _ => tracing::debug!(request.id = id, method, route, status, ms, "{method} {route} was answered with {status}"),
    }
    metrics::request(method, route, status, elapsed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_callers_wake_nobody() {
        for (status, route, caused, expected) in [
            (500, "/posts", true, Level::ERROR),
            (500, "/posts", false, Level::ERROR),
            (503, "/posts", true, Level::WARN),
            (502, "/deliveries/{id}/remote", true, Level::WARN),
            (507, "/media", true, Level::WARN),
            // A browser that looks ahead, a full list of listeners, a server that is stopping.
            (503, "/auth/connect/{platform}", false, Level::INFO),
            (503, "/events", false, Level::INFO),
            (503, "/readyz", false, Level::DEBUG),
            (404, "/posts/{id}", false, Level::INFO),
            (200, "/healthz", false, Level::DEBUG),
        ] {
            assert_eq!(level(status, route, caused), expected, "{status} {route}");
        }
    }
}
