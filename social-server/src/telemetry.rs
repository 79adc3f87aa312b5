//! Traces: the span around a request, and, with the feature `otel`, their way to a collector.

#[cfg(feature = "otel")]
mod otel;

use axum::extract::Request;
use http::StatusCode;
use social_core::trace::{self, TraceParent};
use tracing::{Span, field::Empty};

#[cfg(feature = "otel")]
pub(crate) use self::otel::{finish, layer};

/// The span around a request. It goes on with the caller's trace if the caller names one. There is none unless traces are on, and none for what
/// is asked all the time.
pub(crate) fn request(request: &Request, method: &'static str, route: &str, id: &str) -> Span {
    if !trace::is_on() || matches!(route, "/healthz" | "/readyz" | "/metrics") {
        return Span::none();
    }
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        request.id = id,
        http.response.status_code = Empty,
        otel.status_code = Empty,
    );
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(parent) = parent.and_then(TraceParent::parse) {
        trace::follow(&span, &parent);
    }
    span
}

/// Notes how the request ended.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    if !span.is_none() {
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// Sends what is left.
#[cfg(not(feature = "otel"))]
pub(crate) async fn finish() {}
