//! Reading requests: JSON bodies with a cap, a deadline and a path for every mistake; queries; ids.

mod locate;

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::request::Parts,
};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{problem::Problem, views::ViolationView};

/// The largest JSON body.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;
/// The time that a whole JSON body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(12);

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_json(&parts)?;
        let body = collect(body).await?;
        let read = parse(&body)?;
        // A list was read as the fields of an object by their order.
        if body.trim_ascii_start().starts_with(b"[") {
            let (message, advice) =
                ("a list stands where an object is wanted", "Please compare the request with /docs.");
            return Err(Problem::field("wrong_type", "body", message, advice));
        }
        Ok(Self(read))
    }
}

/// Refuses what does not call itself JSON.
pub(crate) fn require_json(parts: &Parts) -> Result<(), Problem> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the body must be JSON and say so: Content-Type: application/json",
    ))
}

/// Reads a whole small body.
pub(crate) async fn collect(body: Body) -> Result<Bytes, Problem> {
    let whole = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_JSON_BYTES).collect());
    match whole.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the body has more than {MAX_JSON_BYTES} bytes"),
        )),
        Ok(Err(error)) => Err(broken_body(&*error)),
        Err(_) => Err(slow_body()),
    }
}

/// The refusal for a body that ended before its end.
pub(crate) fn broken_body(error: &(dyn std::error::Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<tower_http::timeout::TimeoutError>() {
            return slow_body();
        }
        cause = error.source();
    }
    Problem::new(StatusCode::BAD_REQUEST, "body_broken", "the body broke off before its end")
}

pub(crate) fn slow_body() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not arrive in time")
        .header(header::CONNECTION, "close")
}

/// Reads JSON: syntax first, then depth and characters, then the shape.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let syntax = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail);
    let text = std::str::from_utf8(bytes).map_err(|_| syntax("the body is not UTF-8".into()))?;
    if locate::depth(text) > MAX_DEPTH {
        return Err(syntax(format!("the body is nested deeper than {MAX_DEPTH} levels")));
    }
    // The shape is read with a parser of its own only after the syntax is known to be sound: the two have different answers.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(syntax(format!("the body is not JSON: {error}")));
    }
    if let Some(field) = locate::nul(text) {
        return Err(Problem::field(
            "character",
            &field,
            "a text holds the character NUL",
            "Remove the invisible character.",
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        let path = locate::path(text, error.line(), error.column());
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        let named = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = match named {
            Some(named) if path.is_empty() => named.to_owned(),
            Some(named) => format!("{path}.{named}"),
            None => path,
        };
        let code = match message {
            _ if named.is_some() => "missing",
            _ if message.starts_with("unknown field") => "unknown_field",
            _ => "wrong_type",
        };
        Problem::field(code, &field, message, "Please compare the request with /docs.")
    })
}

/// A query with known parameters only.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let axum::extract::Query(query) = axum::extract::Query::try_from_uri(&parts.uri).map_err(|error| {
            let message = error.to_string();
            let message = message.trim_start_matches("Failed to deserialize query string: ");
            Problem::invalid(vec![ViolationView::error(
                "query",
                "query",
                message,
                "Please compare the request with /docs.",
            )])
        })?;
        Ok(Self(query))
    }
}

/// An id in the path. What is no id is not there.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        Uuid::try_parse(&raw).map(Self).map_err(|_| Problem::not_found())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Outer {
        name: String,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<String, Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Inner {
        size: u32,
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let cases: [(&str, u16, &str, &str); 13] = [
            ("{", 400, "invalid_json", ""),
            ("nothing", 400, "invalid_json", ""),
            (r#"{"name":"a"} x"#, 400, "invalid_json", ""),
            (r#"{"name":1}"#, 422, "wrong_type", "name"),
            (r#"{}"#, 422, "missing", "name"),
            ("", 400, "invalid_json", ""),
            (r#"{"name":"a","nmae":1}"#, 422, "unknown_field", "nmae"),
            (r#"{"name":"a","list":[{"size":1},{"size":"b"}]}"#, 422, "wrong_type", "list[1].size"),
            (r#"{"name":"a","list":[{"size":1},{}]}"#, 422, "missing", "list[1].size"),
            (r#"{"name":"a","map":{"x y":{"size":-1}}}"#, 422, "wrong_type", "map.x y.size"),
            (r#"{"name":"a","map":{"k":{"size":1,"more":2}}}"#, 422, "unknown_field", "map.k.more"),
            (r#"{"name":"a\u0000b"}"#, 422, "character", "name"),
            (r#"{"name":"\\u0000","list":[]  , "list" : []}"#, 422, "wrong_type", "list"),
        ];
        for (text, status, code, field) in cases {
            let problem = parse::<Outer>(text.as_bytes()).unwrap_err();
            let body = problem.body();
            let violated = body.violations.first();
            let found = violated.map_or(body.code.as_str(), |violation| violation.code.as_str());
            assert_eq!((body.status, found), (status, code), "{text}");
            assert_eq!(violated.map_or("", |violation| violation.field.as_str()), field, "{text}");
        }
        assert!(parse::<Outer>(b"\xff").is_err());
        parse::<Outer>(br#"{"name":"\\u0000 [[[[ \" ]","list":[{"size":1}]}"#).unwrap();
    }

    #[test]
    fn depth_is_limited_and_brackets_in_texts_do_not_count() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse::<serde_json::Value>(nested(MAX_DEPTH).as_bytes()).is_ok());
        let problem = parse::<serde_json::Value>(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert_eq!(problem.body().code, "invalid_json");
        let text = format!("{{\"a\":\"{}\"}}", "[".repeat(500));
        assert!(parse::<serde_json::Value>(text.as_bytes()).is_ok());
    }
}
