//! What the network answered.

use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, ErrorKind, Operation, ProviderError},
    secret,
    text::{self, TextUnit},
    time::positive,
};

/// Longest excerpt of an answer that is kept, in characters.
const EXCERPT: usize = 300;
/// A request id that is longer is none that we know of, and may be an echo of what was sent. Access tokens are longer.
const LONGEST_REQUEST_ID: usize = 40;
/// A `Retry-After` beyond this is not believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A complete answer: status, headers and the whole (capped) body.
pub struct Reply {
    operation: Operation,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    received_at: Timestamp,
}

impl Reply {
    /// Puts an answer together; adapters receive replies and build them only in tests of their error tables.
    #[must_use]
    pub fn new(
        operation: impl Into<Operation>,
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        received_at: Timestamp,
    ) -> Self {
        Self { operation: operation.into(), status, headers, body, received_at }
    }

    /// What was asked.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// A header as text; `None` if it is missing or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// When the answer was complete.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Unexpected` with effect unknown: a success that cannot be read is ambiguous.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|e| {
            // The parser's message may quote the body, so only the place of the fault is kept.
            Error::new(ErrorKind::Unexpected, self.operation.clone())
                .message(format!("the answer is not the expected JSON (line {}, column {})", e.line(), e.column()))
                .provider(self.provider(None))
        })
    }

    /// The body as JSON, or the default where it is something else: for error bodies, which may be HTML or empty.
    #[must_use]
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `Retry-After`, in seconds or as a date; `None` if it is missing, unreadable, past or beyond a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let raw = self.header("retry-after")?.trim();
        let wait = match raw.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let at = jiff::fmt::rfc2822::parse(raw).ok()?.timestamp();
                positive(at.duration_since(self.received_at))?
            }
        };
        (wait > Duration::ZERO && wait <= LONGEST_WAIT).then_some(wait)
    }

    /// A header that holds unix seconds, as an instant.
    #[must_use]
    pub fn unix_seconds(&self, name: &str) -> Option<Timestamp> {
        Timestamp::from_second(self.header(name)?.trim().parse().ok()?).ok()
    }

    /// What to keep of this answer in an error: status, the given code, the request id, a short redacted excerpt.
    #[must_use]
    pub fn provider(&self, code: Option<String>) -> ProviderError {
        let request_id = ["x-request-id", "x-transaction-id", "x-li-uuid", "x-li-request-id", "x-fb-trace-id"]
            .iter()
            .find_map(|name| self.header(name))
            .filter(|id| id.len() <= LONGEST_REQUEST_ID)
            .map(str::to_owned);
        // Redact before cutting: half a token is still half a secret.
        let readable = String::from_utf8_lossy(&self.body[..self.body.len().min(8 * 1024)]);
        let excerpt = secret::scrub(&readable);
        let excerpt = text::truncate_to(TextUnit::Scalars, excerpt.trim(), EXCERPT);
        ProviderError {
            status: Some(self.status()),
            code: code.map(|code| text::truncate_to(TextUnit::Scalars, &secret::scrub(&code), 80).to_owned()),
            request_id,
            excerpt: (!excerpt.is_empty()).then(|| excerpt.to_owned()),
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("operation", &self.operation)
            .field("status", &self.status())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(headers: &[(&'static str, &'static str)], body: &'static str) -> Reply {
        let headers = headers
            .iter()
            .map(|(name, value)| (::http::HeaderName::from_static(name), ::http::HeaderValue::from_static(value)))
            .collect();
        Reply::new(
            "test",
            StatusCode::TOO_MANY_REQUESTS,
            headers,
            Bytes::from_static(body.as_bytes()),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn retry_after_is_believed_only_when_it_makes_sense() {
        let wait = |raw| reply(&[("retry-after", raw)], "").retry_after();
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:02:00 GMT"), Some(Duration::from_secs(120)));
        for nonsense in ["0", "-5", "315360000", "soon", "Wed, 31 Dec 1969 23:00:00 GMT", ""] {
            assert_eq!(wait(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_request_id_that_could_be_an_echo_of_a_token_is_not_kept() {
        let id = |raw: &'static str| reply(&[("x-request-id", raw)], "").provider(None).request_id;
        assert_eq!(id("0f8fad5b-d9cb-469f-a165-70867728950e").as_deref(), Some("0f8fad5b-d9cb-469f-a165-70867728950e"));
        assert_eq!(id("access_8JxKQ2vYb0mC4rTn6WlZpE1sHdUfGaXo7tBi3yNkVqM"), None);
    }

    #[test]
    fn an_html_page_becomes_the_default_not_a_panic() {
        #[derive(serde::Deserialize, Default, Debug, PartialEq)]
        #[serde(default)]
        struct Fault {
            code: Option<String>,
        }
        assert_eq!(reply(&[], "<html>502</html>").json_or_default::<Fault>(), Fault { code: None });
        assert!(reply(&[], "<html>").json::<Fault>().is_err());
    }
}
