//! Requests as the networks' handlers see them, and the answers that they give.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;

pub(crate) type Answer = Response<Body>;

/// A request whose body has arrived.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) parts: Arc<Parts>,
    pub(crate) body: Bytes,
    /// Where the sandbox listens, for clients that do not name a host.
    pub(crate) bound: Option<Arc<str>>,
}

impl Input {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.parts, name)
    }

    /// `http://host:port` under which the client reached the sandbox.
    pub(crate) fn base(&self) -> String {
        match (self.header("host"), &self.bound) {
            (Some(host), _) => format!("http://{host}"),
            (None, Some(bound)) => bound.to_string(),
            (None, None) => "http://127.0.0.1".to_owned(),
        }
    }

    /// The token of an `Authorization: Bearer` header.
    pub(crate) fn bearer(&self) -> Option<&str> {
        bearer(&self.parts)
    }

    pub(crate) fn query(&self) -> Pairs {
        Pairs::parse(self.parts.uri.query().unwrap_or_default().as_bytes())
    }

    pub(crate) fn form(&self) -> Pairs {
        Pairs::parse(&self.body)
    }

    pub(crate) fn is_form(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    }
}

pub(crate) fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = header(parts, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Decoded name and value pairs of a query or form, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The comma-separated members of a list parameter.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.get(name).map(|text| text.split(',').filter(|item| !item.is_empty()).collect()).unwrap_or_default()
    }
}

fn build(status: u16, kind: Option<&'static str>, body: Bytes) -> Answer {
    let length = body.len();
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(kind) = kind {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if status != 204 {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    answer
}

pub(crate) const JSON: &str = "application/json; charset=utf-8";

pub(crate) fn json(status: u16, value: &impl Serialize) -> Answer {
    // A value made of our own types serialises; an empty body would show in every test if it did not.
    build(status, Some(JSON), Bytes::from(serde_json::to_vec(value).unwrap_or_default()))
}

pub(crate) fn json_text(status: u16, text: String) -> Answer {
    build(status, Some(JSON), Bytes::from(text))
}

pub(crate) fn empty(status: u16) -> Answer {
    build(status, None, Bytes::new())
}

pub(crate) fn html(status: u16, page: String) -> Answer {
    let answer = build(status, Some("text/html; charset=utf-8"), Bytes::from(page));
    with_header(answer, "cache-control", "no-store")
}

pub(crate) fn bytes(status: u16, kind: &'static str, body: Bytes) -> Answer {
    build(status, Some(kind), body)
}

pub(crate) fn redirect(status: u16, location: &str) -> Answer {
    let answer = with_header(empty(status), "location", location);
    let answer = with_header(answer, "cache-control", "no-store");
    with_header(answer, "referrer-policy", "no-referrer")
}

/// Adds a header; a name or value that HTTP does not allow is left out.
pub(crate) fn with_header(mut answer: Answer, name: &str, value: &str) -> Answer {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
