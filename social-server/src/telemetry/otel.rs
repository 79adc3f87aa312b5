//! OpenTelemetry: OTLP over HTTP, set up by the standard `OTEL_*` variables.

use std::{env, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use social_core::trace::{self, Propagator, TraceParent};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::cli::complain;

/// How long the last spans may take when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(3);
/// Unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What sends our spans to a collector; none unless the environment asks for it. Only our own spans travel, without the log lines in them. Call
/// it inside the runtime.
pub(crate) fn layer<S>() -> Option<impl Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    if !wanted(|name| env::var(name).ok()) {
        return None;
    }
    let provider = match provider() {
        Ok(provider) => provider,
        Err(error) => {
            complain(&format!("traces are not sent: {error}"));
            return None;
        }
    };
    let tracer = provider.tracer("social-server");
    if PROVIDER.set(provider).is_err() || !trace::install(OpenTelemetry) {
        return None;
    }
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("social_"));
    Some(tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours))
}

/// Sends what is left, for a few seconds at the most.
pub(crate) async fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // The exporter's thread needs the runtime for sending, so the runtime must not be held up.
        let sent = tokio::task::spawn_blocking(|| provider.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent");
        }
    }
}

/// Whether the environment asks for traces: an endpoint is named, or the exporter is.
fn wanted(var: impl Fn(&str) -> Option<String>) -> bool {
    let named = |name| var(name).is_some_and(|value| !value.trim().is_empty());
    let disabled = var("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    let exporter = var("OTEL_TRACES_EXPORTER").unwrap_or_default();
    !disabled
        && match exporter.trim() {
            "" => named("OTEL_EXPORTER_OTLP_ENDPOINT") || named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            "otlp" => true,
            "none" => false,
            other => {
                complain(&format!("OTEL_TRACES_EXPORTER is {other}, which is not there; it may be `otlp` or `none`"));
                false
            }
        }
}

fn provider() -> Result<SdkTracerProvider, Box<dyn std::error::Error>> {
    let timeout = env::var("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|_| env::var("OTEL_EXPORTER_OTLP_TIMEOUT"));
    let timeout = timeout.ok().and_then(|ms| ms.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
    let client = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()?;
    let sender = Sender { client, runtime: Handle::try_current()? };
    let exporter = SpanExporter::builder().with_http().with_http_client(sender).build()?;
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let attributes = env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    if env::var_os("OTEL_SERVICE_NAME").is_none() && !attributes.contains("service.name=") {
        resource = resource.with_service_name("social-server");
    }
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}

#[derive(Debug)]
struct OpenTelemetry;

impl Propagator for OpenTelemetry {
    fn current(&self) -> Option<TraceParent> {
        let context = Span::current().context();
        let span = context.span();
        let span = span.span_context();
        let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
        TraceParent::parse(&format!("00-{trace}-{id}-{flags:02x}"))
    }

    fn follow(&self, span: &Span, parent: &TraceParent) {
        let Some(parent) = remote(parent) else { return };
        if let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent)) {
            tracing::debug!(?error, "a span does not go on with its trace");
        }
    }
}

fn remote(parent: &TraceParent) -> Option<SpanContext> {
    let mut parts = parent.as_str().split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

/// The server's own HTTP client, so that there is one of them and one TLS. The exporter has a thread without a runtime; the work is done in ours.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (client, request) = (self.client.clone(), reqwest::Request::try_from(request)?);
        let sent = self.runtime.spawn(async move {
            // Collectors may be reached by addresses with keys in them.
            let mut answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
            let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
            Ok::<_, reqwest::Error>((status, headers, body))
        });
        let (status, headers, body) = sent.await??;
        let mut response = http::Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sent_where_the_environment_asks_for_it() {
        let wanted = |set: &[(&str, &str)]| {
            wanted(|name| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert!(!wanted(&[]));
        assert!(!wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(wanted(&[endpoint]));
        assert!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")]));
        assert!(wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "zipkin")]));
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "True")]));
    }

    #[test]
    fn a_kept_trace_is_read_back_to_the_letter() {
        let parent = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        let context = remote(&parent).unwrap();
        assert!(context.is_valid() && context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
    }
}
