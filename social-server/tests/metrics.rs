//! What is counted, named in one place: what a running server shows, and what dashboards and alerts ask for, is all there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests end the test when something cannot be made"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use social_core::{
    PhaseName,
    meter::{Kind, Metric},
};
use social_server::{
    demo::{Options, Stage},
    metrics,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn known() -> BTreeMap<&'static str, &'static Metric> {
    metrics::all().map(|metric| (metric.name, metric)).collect()
}

/// The metric that a name in a query or on a page belongs to.
fn metric_of(name: &str) -> Option<&'static Metric> {
    let known = known();
    known.get(name).copied().or_else(|| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))?;
        known.get(stem).copied().filter(|metric| matches!(metric.kind, Kind::Seconds | Kind::Sizes))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_at_work_shows_what_is_documented() {
    let options = Options { once: true, port: Some(0), database: None, ahead: 1, processing_ms: 50 };
    let stage = Stage::set(&options).await.unwrap();
    let (summary, _) = stage.play(&options).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(format!("{}/metrics", stage.url())).send().await.unwrap().text().await.unwrap();
    stage.clear().await;
    assert!(summary.ok(), "{:#}", summary.json());

    let mut shown = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let metric = metric_of(name).unwrap_or_else(|| panic!("{name} is counted and not documented: {line}"));
        shown.insert(metric.name);
        let labels: BTreeSet<&str> = match rest.strip_prefix('{') {
            // Routes hold braces too.
            Some(rest) => {
                rest.rsplit_once('}').unwrap().0.split("\",").map(|pair| pair.split('=').next().unwrap()).collect()
            }
            None => BTreeSet::new(),
        };
        let mut expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        if name.ends_with("_bucket") {
            expected.insert("le");
        }
        assert_eq!(labels, expected, "{line}");
    }
    // What needs trouble, or something that waits, to be seen.
    let quiet = [
        "social_token_refreshes_total",
        "social_connections_lost_total",
        "social_queue_depth",
        "social_queue_due",
        "social_queue_held",
        "social_queue_oldest_due_seconds",
        "social_limits_blocked",
        "social_platform_stopped",
        "social_connection_notices_total",
        "social_spill_replayed_total",
    ];
    let expected: BTreeSet<&str> = known().into_keys().filter(|name| !quiet.contains(name)).collect();
    assert_eq!(shown.into_iter().filter(|name| !quiet.contains(name)).collect::<BTreeSet<_>>(), expected, "{page}");
    for line in [
        "social_deliveries_total{platform=\"x\",outcome=\"published\"}",
        "social_delivery_events_total{platform=\"linkedin\",event=\"committing\"}",
        "social_call_seconds_count{operation=\"publish.commit\",status=\"2xx\"}",
        "social_store_seconds_count{operation=\"claim_due\"}",
        "social_store_seconds_count{operation=\"journal\"}",
        "social_journal_retries_total 0",
        "social_reclaimed_total 0",
        "social_database_up 1",
        "# HELP social_lateness_seconds ",
    ] {
        assert!(page.contains(line), "{line} is not there:\n{page}");
    }
}

/// Metrics have names in two files, where they are documented, and nowhere else.
#[test]
fn nothing_is_counted_elsewhere() {
    let mut open: Vec<PathBuf> = ["social-core/src", "social-store/src", "social-server/src", "social-platforms"]
        .map(|part| root().join(part))
        .into();
    let mut seen = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            seen += 1;
            let allowed = path.ends_with("social-core/src/meter.rs") || path.ends_with("social-server/src/metrics.rs");
            let text = fs::read_to_string(&path).unwrap();
            for macro_name in ["counter!(", "gauge!(", "histogram!("] {
                assert!(allowed || !text.contains(macro_name), "{} counts with {macro_name}", path.display());
            }
        }
    }
    assert!(seen > 100, "{seen} files were read");
}

/// What a query asks for exists: metrics, labels, and the phases, outcomes and events that it names.
fn check_query(query: &str) -> BTreeSet<&'static str> {
    let mut asked = BTreeSet::new();
    let mut allowed: BTreeSet<&str> = ["le", "job", "instance"].into();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = query;
    while let Some(at) = rest.find("social_") {
        let name: String = rest[at..].chars().take_while(|c| word(*c)).collect();
        rest = &rest[at + name.len()..];
        let metric = metric_of(&name).unwrap_or_else(|| panic!("{name} is not counted: {query}"));
        asked.insert(metric.name);
        allowed.extend(metric.labels);
        if matches!(metric.kind, Kind::Seconds | Kind::Sizes) {
            assert_ne!(name, metric.name, "a histogram is asked for by its parts: {query}");
        }
        let Some(selector) = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()) else { continue };
        for matcher in selector.split(',').map(str::trim) {
            let label: String = matcher.chars().take_while(|c| word(*c)).collect();
            let known = metric.labels.contains(&label.as_str()) || label == "job";
            assert!(known, "{name} has no label {label}: {query}");
            let value = matcher.split('"').nth(1).unwrap();
            for value in value.split('|').filter(|value| !value.starts_with('$')) {
                let exists = match label.as_str() {
                    "phase" => PhaseName::parse(value).is_some_and(|phase| !phase.is_final()),
                    "outcome" if name.starts_with("social_deliveries") => PhaseName::parse(value).is_some(),
                    "event" => value == "reply_lost",
                    "scope" => ["app", "connection", "account"].contains(&value),
                    "state" => ["used", "idle"].contains(&value),
                    "status" => ["2xx", "4xx", "5xx", "none", "5.."].contains(&value),
                    "outcome" => value == "ok",
                    _ => false,
                };
                assert!(exists, "{label} is never {value}: {query}");
            }
        }
    }
    for group in query.split(" by (").skip(1).chain(query.split(" on (").skip(1)) {
        for label in group.split(')').next().unwrap().split(',').map(str::trim) {
            assert!(allowed.contains(label), "nothing has the label {label}: {query}");
        }
    }
    asked
}

#[test]
fn the_dashboard_asks_for_what_is_counted_and_leaves_nothing_out() {
    let text = fs::read_to_string(root().join("docs/grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "Grafana 10");
    assert_eq!(dashboard["id"], Value::Null, "an id belongs to one installation");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|one| one["name"] == "datasource" && one["type"] == "datasource"));
    let mut asked = BTreeSet::new();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel:#}");
        let place = &panel["gridPos"];
        let (x, y, w) = (place["x"].as_u64().unwrap(), place["y"].as_u64().unwrap(), place["w"].as_u64().unwrap());
        assert!(x + w <= 24 && places.insert((y, x)), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel:#}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let found = check_query(target["expr"].as_str().unwrap());
            assert!(!found.is_empty(), "{target}");
            asked.extend(found);
        }
    }
    for variable in variables.iter().filter(|one| one["type"] == "query") {
        check_query(variable["query"]["query"].as_str().unwrap());
    }
    let missing: Vec<_> = known().into_keys().filter(|name| !asked.contains(name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn alerts_ask_for_what_is_counted_and_say_what_to_do() {
    let rules = fs::read_to_string(root().join("docs/grafana/alerts.yml")).unwrap();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let anchors: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| title.trim().trim_matches('`').to_lowercase())
        .collect();
    let mut alerts = 0;
    for rule in rules.split("      - alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        assert!(!check_query(rule).is_empty(), "{rule}");
        assert!(rule.contains("severity: page") || rule.contains("severity: ticket"), "{rule}");
        assert!(rule.contains("summary: "), "{rule}");
        let (_, runbook) = rule.split_once("runbook: operations.md#").expect("what to do");
        let anchor = runbook.lines().next().unwrap();
        assert!(anchors.contains(anchor), "operations.md says nothing about {name}: {anchor}");
        assert!(page.contains(&format!("`{name}`")), "operations.md does not name {name}");
        alerts += 1;
    }
    assert!(alerts >= 15, "{alerts} alerts were read");
}
