//! Traces that reach from the request which schedules a post to the calls which publish it, hours later and in another process.
//!
//! Nothing happens here unless the host has [installed](install) a [`Propagator`]: no span is made and nothing is stored. Spans name the network,
//! our ids, attempts, operations and statuses; they never hold texts, tokens or addresses with more than a host name.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize};
use tracing::{Instrument as _, Span, field::Empty};
use url::Url;

use crate::{
    error::{Effect, Error},
    id::{ConnectionId, PlatformId},
    store::Delivery,
};

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Which trace something belongs to: the `traceparent` of the W3C, such as `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct TraceParent(Arc<str>);

impl TraceParent {
    /// Reads one. `None` for anything but version 00 with ids that are not zero.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let some = |part: &str| part.bytes().any(|byte| byte != b'0');
        let mut parts = raw.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let valid = version == "00" && hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2);
        (valid && parts.next().is_none()).then(|| Self(raw.into()))
    }

    /// As it stands in a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For a field of a stored record: what cannot be read is not there.
    pub(crate) fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let raw = serde_json::Value::deserialize(from)?;
        Ok(raw.as_str().and_then(Self::parse))
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Connects spans with traces. The server implements it with OpenTelemetry; a host with tracing of its own may do so too.
pub trait Propagator: fmt::Debug + Send + Sync + 'static {
    /// The trace that the current span belongs to, to be kept with a post.
    fn current(&self) -> Option<TraceParent>;

    /// Makes a span that has not been entered yet the child of that trace.
    fn follow(&self, span: &Span, parent: &TraceParent);
}

/// Turns traces on for this process. Answers whether it was the first to do so; later ones change nothing.
pub fn install(propagator: impl Propagator) -> bool {
    PROPAGATOR.set(Box::new(propagator)).is_ok()
}

/// Whether traces are on.
#[must_use]
pub fn is_on() -> bool {
    PROPAGATOR.get().is_some()
}

/// Makes a span that has not been entered yet the child of that trace, if traces are on.
pub fn follow(span: &Span, parent: &TraceParent) {
    if let Some(propagator) = PROPAGATOR.get() {
        propagator.follow(span, parent);
    }
}

pub(crate) fn current() -> Option<TraceParent> {
    PROPAGATOR.get()?.current()
}

/// One run with a delivery, as a part of the trace in which its post was scheduled.
pub(crate) fn delivery(delivery: &Delivery, parent: Option<&TraceParent>) -> Span {
    let Some(propagator) = PROPAGATOR.get() else { return Span::none() };
    let span = tracing::info_span!(
        "delivery",
        otel.kind = "consumer",
        delivery.id = %delivery.id,
        post.id = %delivery.post,
        platform.id = %delivery.platform,
        delivery.phase = delivery.phase.name().as_str(),
        delivery.attempt = delivery.attempt,
    );
    if let Some(parent) = parent {
        propagator.follow(&span, parent);
    }
    span
}

/// One step of a delivery: `prepare`, `commit`, `settle`, `reconcile`.
pub(crate) async fn step<T>(name: &'static str, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let span = if is_on() {
        tracing::info_span!("step", otel.name = name, otel.status_code = Empty, error.kind = Empty, effect = Empty)
    } else {
        Span::none()
    };
    let outcome = step.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        failed(&span, error);
    }
    outcome
}

/// A refresh of tokens.
pub(crate) async fn refresh<T>(
    platform: &PlatformId,
    connection: ConnectionId,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let span = if is_on() {
        tracing::info_span!(
            "token.refresh",
            platform.id = %platform,
            connection.id = %connection,
            otel.status_code = Empty,
            error.kind = Empty,
            effect = Empty,
        )
    } else {
        Span::none()
    };
    let outcome = asked.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        failed(&span, error);
    }
    outcome
}

/// One request to a network. Of its address only the host is named.
pub(crate) fn call(operation: &str, method: &http::Method, url: &Url) -> Span {
    if !is_on() {
        return Span::none();
    }
    tracing::info_span!(
        "call",
        otel.name = operation,
        otel.kind = "client",
        http.request.method = method.as_str(),
        server.address = url.host_str().unwrap_or_default(),
        http.response.status_code = Empty,
        otel.status_code = Empty,
        error.kind = Empty,
        effect = Empty,
    )
}

/// Notes on a span what went wrong, without the words of the network.
pub(crate) fn failed(span: &Span, error: &Error) {
    if !span.is_none() {
        span.record("otel.status_code", "ERROR");
        span.record("error.kind", error.kind().as_str());
        let effect = match error.effect() {
            Effect::None => "none",
            Effect::Unknown => "unknown",
        };
        span.record("effect", effect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_traceparent_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceParent::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn without_a_propagator_there_are_no_spans() {
        assert!(!is_on());
        assert!(call("posts.create", &http::Method::POST, &"https://api.example/x".parse().unwrap()).is_none());
        assert_eq!(current(), None);
    }
}
