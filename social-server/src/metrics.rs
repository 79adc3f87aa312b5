//! What `/metrics` shows: what was counted since the start, and what is counted when it is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use social_core::{
    Error,
    meter::{self, Kind, Metric},
};

use crate::state::{State, faulty};

/// How long the database may take to answer a scrape.
const PATIENCE: Duration = Duration::from_secs(3);
/// Seconds: from what is near on the same machine to what is late by an hour.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 512.0];

const UP: Metric = Metric {
    name: "social_database_up",
    kind: Kind::Gauge,
    labels: &[],
    help: "Whether the database answered this scrape.",
};
const CONNECTIONS: Metric = Metric {
    name: "social_database_connections",
    kind: Kind::Gauge,
    labels: &["state"],
    help: "Connections to the database of this process: used, idle.",
};
const DEPTH: Metric = Metric {
    name: "social_queue_depth",
    kind: Kind::Gauge,
    labels: &["platform", "phase"],
    help: "Deliveries that have not ended; unconfirmed ones wait for a person.",
};
const DUE: Metric = Metric {
    name: "social_queue_due",
    kind: Kind::Gauge,
    labels: &["platform"],
    help: "Deliveries that are due and that no worker holds.",
};
const HELD: Metric = Metric {
    name: "social_queue_held",
    kind: Kind::Gauge,
    labels: &["platform"],
    help: "Deliveries that some worker holds.",
};
const OLDEST: Metric = Metric {
    name: "social_queue_oldest_due_seconds",
    kind: Kind::Gauge,
    labels: &["platform"],
    help: "How long the first delivery that is due and that no worker holds has waited.",
};
const BLOCKED: Metric = Metric {
    name: "social_limits_blocked",
    kind: Kind::Gauge,
    labels: &["platform", "scope"],
    help: "Limits of networks that are closed at the moment, as this process knows; scope app stops the whole network.",
};
const STOPPED: Metric = Metric {
    name: "social_platform_stopped",
    kind: Kind::Gauge,
    labels: &["platform", "reason"],
    help: "1 while a network takes nothing from the whole installation: billing, config (credentials, permissions, a version that was switched off), throttled, limit (one of the app's).",
};
const REFUSED: Metric = Metric {
    name: "social_connections_refused_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Connections that were closed because their address had too many.",
};
const REQUESTS: Metric = Metric {
    name: "social_http_requests_total",
    kind: Kind::Counter,
    labels: &["method", "route", "status"],
    help: "Requests to this server.",
};
const REQUEST_SECONDS: Metric = Metric {
    name: "social_http_request_seconds",
    kind: Kind::Seconds,
    labels: &["route"],
    help: "How long requests to this server took.",
};
const BUILD: Metric = Metric {
    name: "social_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "Which version runs; always 1.",
};

/// What the server shows besides [`social_core::meter::METRICS`].
const OWN: &[Metric] =
    &[REQUESTS, REQUEST_SECONDS, REFUSED, DEPTH, DUE, HELD, OLDEST, BLOCKED, STOPPED, UP, CONNECTIONS, BUILD];

/// Everything that `/metrics` can show.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    meter::METRICS.iter().chain(OWN)
}

/// Counts for `/metrics`. Once per process.
///
/// # Errors
/// `Config` if something else counts already.
pub fn recorder() -> Result<PrometheusHandle, Error> {
    let mut builder = PrometheusBuilder::new();
    for metric in all() {
        let buckets = match metric.kind {
            Kind::Seconds => SECONDS,
            Kind::Sizes => SIZES,
            Kind::Counter | Kind::Gauge => continue,
        };
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .map_err(|e| faulty("the metrics cannot be set up").source(e))?;
    }
    let handle = builder.install_recorder().map_err(|e| faulty("the metrics cannot be set up").source(e))?;
    for Metric { name, kind, labels, help } in
        meter::METRICS.iter().chain([&REQUESTS, &REQUEST_SECONDS, &REFUSED]).copied()
    {
        match kind {
            Kind::Counter => {
                metrics::describe_counter!(name, help);
                if labels.is_empty() {
                    // There from the start, so that the first increase is seen as one.
                    metrics::counter!(name).absolute(0);
                }
            }
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Seconds => metrics::describe_histogram!(name, metrics::Unit::Seconds, help),
            Kind::Sizes => metrics::describe_histogram!(name, help),
        }
    }
    Ok(handle)
}

/// A request that was answered.
pub(crate) fn request(method: &'static str, route: &str, status: u16, elapsed: Duration) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!(REQUESTS.name, &labels).increment(1);
    metrics::histogram!(REQUEST_SECONDS.name, "route" => route.to_owned()).record(elapsed.as_secs_f64());
}

/// A connection of an address that had too many was closed.
pub(crate) fn connection_refused() {
    metrics::counter!(REFUSED.name).increment(1);
}

/// The answer to a scrape. Without the database, what does not need it is shown all the same.
pub(crate) async fn render(state: &State) -> String {
    let mut page = Page(state.recorder().map(|recorder| recorder.render()).unwrap_or_default());
    let store = state.store();
    let now = state.social().call_context().now();
    let social = state.social();
    let asked = async { tokio::join!(store.depth(), store.backlog(now), social.stops()) };
    let counted = tokio::time::timeout(PATIENCE, asked).await;
    let (depth, backlog, stops) =
        counted.map_or((None, None, None), |(depth, backlog, stops)| (depth.ok(), backlog.ok(), stops.ok()));
    page.family(&BUILD, [(vec![env!("CARGO_PKG_VERSION")], 1.0)]);
    page.family(&UP, [(vec![], if depth.is_some() { 1.0 } else { 0.0 })]);
    if let Some((used, idle)) = store.pool_use() {
        page.family(&CONNECTIONS, [(vec!["used"], used.into()), (vec!["idle"], idle.into())]);
    }
    let depth = depth.unwrap_or_default();
    page.family(
        &DEPTH,
        depth.iter().map(|(platform, phase, count)| (vec![platform.as_str(), phase.as_str()], whole(*count))),
    );
    let backlog = backlog.unwrap_or_default();
    let each = |value: fn(&social_core::store::Backlog) -> u64| {
        backlog.iter().map(move |one| (vec![one.platform.as_str()], whole(value(one))))
    };
    page.family(&DUE, each(|one| one.due));
    page.family(&HELD, each(|one| one.held));
    let oldest = backlog.iter().map(|one| {
        let waited = one.oldest.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0));
        (vec![one.platform.as_str()], waited)
    });
    page.family(&OLDEST, oldest);
    let stops: BTreeSet<_> =
        stops.iter().flatten().map(|stop| (stop.platform.as_str(), stop.reason.as_str())).collect();
    page.family(&STOPPED, stops.into_iter().map(|(platform, reason)| (vec![platform, reason], 1.0)));
    let mut blocked = BTreeMap::<(String, &str), u64>::new();
    for bucket in state.social().rates().snapshot(now) {
        if bucket.blocked_until.is_some_and(|until| until > now) {
            *blocked.entry((bucket.platform, bucket.scope.as_str())).or_default() += 1;
        }
    }
    page.family(
        &BLOCKED,
        blocked.iter().map(|((platform, scope), count)| (vec![platform.as_str(), *scope], whole(*count))),
    );
    page.0
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 deliveries")]
fn whole(count: u64) -> f64 {
    count as f64
}

/// Text in the form of Prometheus. Labels hold names that are ours, which need no escapes.
struct Page(String);

impl Page {
    fn family<'v>(&mut self, metric: &Metric, values: impl IntoIterator<Item = (Vec<&'v str>, f64)>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        let Metric { name, labels, help, .. } = metric;
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (given, value) in values {
            let pairs: Vec<_> = labels.iter().zip(given).map(|(label, value)| format!("{label}=\"{value}\"")).collect();
            let pairs = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            let _ = writeln!(self.0, "{name}{pairs} {value}");
        }
    }
}
