//! OpenTelemetry: OTLP over HTTP, set up by the standard `OTEL_*` variables.

use std::{env, sync::OnceLock, time::Duration};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use social_core::trace::{self, Propagator, TraceParent};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::cli::complain;

/// How long the last spans may take when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What sends our spans to a collector; none unless the environment asks for it. Only our own spans travel, without the log lines in them.
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
    Some(
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours),
    )
}

/// Sends what is left, for a few seconds at the most.
pub(crate) async fn finish() {
    if let Some(provider) = PROVIDER.get() {
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

fn provider() -> Result<SdkTracerProvider, ExporterBuildError> {
    // The exporter reads its own variables, and has a thread and a connection of its own.
    let exporter = SpanExporter::builder().with_http().build()?;
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
