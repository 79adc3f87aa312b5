//! The description of the API: as a document, and as pages whose every part is in this binary.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::problem::Problem;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

static DOCUMENT: LazyLock<String> = LazyLock::new(crate::openapi::json);

/// The document, built once.
pub(crate) async fn openapi() -> Response {
    with_type("application/json", DOCUMENT.as_str())
}

/// The front page leads to the description.
pub(crate) async fn home() -> Redirect {
    Redirect::to("/docs")
}

/// The description for people.
pub(crate) async fn page() -> Response {
    let mut response = with_type("text/html; charset=utf-8", include_str!("../../assets/docs.html"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// What that page needs.
pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    match name.as_str() {
        "docs.js" => Ok(with_type("text/javascript; charset=utf-8", include_str!("../../assets/docs.js"))),
        "style.css" => Ok(with_type("text/css; charset=utf-8", include_str!("../../assets/style.css"))),
        _ => Err(Problem::of_status(StatusCode::NOT_FOUND)),
    }
}

fn with_type(kind: &'static str, body: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}
