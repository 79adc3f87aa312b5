//! Every refusal leaves as `application/problem+json` (RFC 9457) with a stable code, advice for a person, and when to come back.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use social_core::{Error, ErrorKind, Retry};
use utoipa::ToSchema;

use crate::views::ViolationView;

/// The media type of a refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    body: ProblemBody,
    headers: HeaderMap,
    cause: Option<String>,
}

/// What a refusal says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Where the code is explained, relative to the server.
    #[serde(rename = "type")]
    #[schema(example = "/docs#problem-not_found")]
    pub kind: String,
    /// The meaning of the status.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// A stable name for programs.
    #[schema(example = "not_found")]
    pub code: String,
    /// What happened, for a developer.
    pub detail: String,
    /// What to do, for the person in front of the screen.
    pub advice: Option<String>,
    /// After how many seconds it makes sense to try again; null if it does not, or if nobody can say.
    pub retry_after: Option<u64>,
    /// What is wrong with the request, one by one.
    pub violations: Vec<ViolationView>,
    /// Names this request in the server's log.
    pub request_id: Option<String>,
}

/// What the outermost layer finds in an answer that is a refusal.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) body: ProblemBody,
    pub(crate) cause: Option<String>,
}

impl Problem {
    /// A refusal with a status, a stable code and a sentence for developers.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            body: ProblemBody {
                kind: format!("/docs#problem-{code}"),
                title: status.canonical_reason().unwrap_or("Refused").to_owned(),
                status: status.as_u16(),
                code: code.to_owned(),
                detail: detail.into().into_owned(),
                advice: None,
                retry_after: None,
                violations: Vec::new(),
                request_id: None,
            },
            headers: HeaderMap::new(),
            cause: None,
        }))
    }

    /// The refusal for a thing that is not there, or not the caller's, which looks the same.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing here")
            .advice("This is not there any more.")
    }

    /// The refusal for a request whose fields are wrong.
    #[must_use]
    pub fn invalid(violations: Vec<ViolationView>) -> Self {
        let detail = violations.first().map_or_else(
            || "the request is not valid".to_owned(),
            |first| format!("{}: {}", first.field, first.message),
        );
        let advice = violations.first().map(|first| first.advice.clone()).filter(|advice| !advice.is_empty());
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail);
        problem.0.body.advice = advice;
        problem.0.body.violations = violations;
        problem
    }

    /// The refusal for one wrong field.
    #[must_use]
    pub fn field(code: &'static str, field: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::invalid(vec![ViolationView::error(code, field, message, advice)])
    }

    /// The refusal that says what somebody in the browser sees when a program failed.
    #[must_use]
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed")
            .advice("Something went wrong on our side. Please tell whoever runs this installation.");
        problem.0.cause = Some(cause.into());
        problem
    }

    /// A sentence for the person in front of the screen.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.0.body.advice = Some(advice.into());
        self
    }

    /// After how many seconds it makes sense to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.body.retry_after = Some(seconds);
        self
    }

    /// Why it came to that, for the log alone: it makes an answer of 5xx a warning there.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.0.headers.append(name, value);
        }
        self
    }

    /// Moves the places of the violations below a field of the request.
    #[must_use]
    pub(crate) fn in_field(mut self, field: &str) -> Self {
        for violation in &mut self.0.body.violations {
            field.clone_into(&mut violation.field);
        }
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &ProblemBody {
        &self.0.body
    }

    /// The refusal for a status that some layer below answered without a word.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        use StatusCode as S;
        match status {
            S::NOT_FOUND => Self::new(status, "no_such_route", "there is no such route; /docs lists them"),
            S::METHOD_NOT_ALLOWED => {
                Self::new(status, "method_not_allowed", "this route does not take this method; see the Allow header")
            }
            S::PAYLOAD_TOO_LARGE => Self::new(status, "payload_too_large", "the body is too large"),
            S::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported_media_type", "this route does not take this type of body")
            }
            S::REQUEST_TIMEOUT => Self::new(status, "request_timeout", "the request did not arrive in time"),
            S::URI_TOO_LONG => Self::new(status, "uri_too_long", "the address has more than 8 KiB"),
            S::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Self::new(status, "headers_too_large", "the request has more than 64 header fields or 32 KiB of them")
            }
            S::SERVICE_UNAVAILABLE => Self::new(status, "unavailable", "the server cannot answer now").retry_after(5),
            _ if status.is_server_error() => Self::internal(format!("a layer answered {status}")),
            _ => Self::new(status, "bad_request", "the request cannot be understood"),
        }
    }
}

/// The core's words for the web.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use ErrorKind as K;
        let status = match error.kind() {
            K::Invalid | K::Rejected | K::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
            K::NotFound => StatusCode::NOT_FOUND,
            K::Conflict | K::Duplicate | K::Reconnect => StatusCode::CONFLICT,
            K::Permission => StatusCode::FORBIDDEN,
            K::RateLimited | K::Quota => StatusCode::TOO_MANY_REQUESTS,
            K::Config => StatusCode::INTERNAL_SERVER_ERROR,
            K::Timeout => StatusCode::GATEWAY_TIMEOUT,
            K::Unexpected => StatusCode::BAD_GATEWAY,
            K::Billing | K::Unavailable | K::Storage => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
        let mut problem = Self::new(status, error.kind().as_str(), detail).advice(error.advice_text());
        problem.0.body.violations = error.violated().iter().map(ViolationView::from).collect();
        problem.0.body.retry_after = match error.retry_hint() {
            Retry::After(wait) => Some(seconds(wait)),
            Retry::Backoff if status == StatusCode::SERVICE_UNAVAILABLE => Some(5),
            _ => None,
        };
        if status.is_server_error() {
            problem.0.cause = Some(chain(&error));
        }
        problem
    }
}

/// Whole seconds, rounded up: whoever waits that long has waited long enough.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Inner { body, headers, cause } = *self.0;
        let mut response = render(&body);
        response.headers_mut().extend(headers);
        response.extensions_mut().insert(Refused { body, cause });
        response
    }
}

/// The answer that says it.
pub(crate) fn render(body: &ProblemBody) -> Response {
    let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = serde_json::to_vec(body).unwrap_or_else(|_| b"{\"code\":\"internal\"}".to_vec());
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(wait) = body.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}
