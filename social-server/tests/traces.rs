//! One trace from the request that schedules a post to the calls that publish it, as a collector receives it from the binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests end the test when something cannot be made"
)]

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use tokio::{net::TcpListener, process::Command};

const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Default)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Debug, Clone, Default)]
struct Collector {
    received: Arc<Mutex<Vec<u8>>>,
    spans: Arc<Mutex<Vec<Span>>>,
}

async fn collect(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> &'static str {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-collector-key"], "collector-key-of-the-test");
    // ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span.
    for resource in fields(&body).filter(|(number, _)| *number == 1) {
        for scope in fields(resource.1).filter(|(number, _)| *number == 2) {
            for span in fields(scope.1).filter(|(number, _)| *number == 2) {
                collector.spans.lock().unwrap().push(span_of(span.1));
            }
        }
    }
    collector.received.lock().unwrap().extend_from_slice(&body);
    ""
}

fn span_of(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (number, value) in fields(bytes) {
        match number {
            1 => span.trace = hex(value),
            2 => span.id = hex(value),
            4 => span.parent = hex(value),
            5 => span.name = String::from_utf8(value.to_vec()).unwrap(),
            9 => {
                // KeyValue: the key, and an AnyValue of which strings and numbers matter here.
                let one = |bytes, number| fields(bytes).find(|(found, _)| *found == number).map(|(_, value)| value);
                let key = String::from_utf8(one(value, 1).unwrap().to_vec()).unwrap();
                let any = one(value, 2).unwrap_or_default();
                let text = one(any, 1).map(|text| String::from_utf8_lossy(text).into_owned());
                let number = || one(any, 3).map(|raw| varint(&mut &*raw).to_string());
                span.attributes.insert(key, text.or_else(number).unwrap_or_default());
            }
            _ => {}
        }
    }
    span
}

/// The fields of a protobuf message: numbers, and what stands there as raw bytes.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let tag = varint(&mut rest);
        let length = match tag & 7 {
            0 => {
                let mut after = rest;
                varint(&mut after);
                rest.len() - after.len()
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)).unwrap(),
            5 => 4,
            other => unreachable!("wire type {other}"),
        };
        let (value, after) = rest.split_at(length);
        rest = after;
        Some((tag >> 3, value))
    })
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().unwrap();
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

async fn demo(variables: &[(&str, &str)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_social-server"));
    command.args(["demo", "--once", "--port", "0", "--ahead", "1", "--processing-ms", "50"]);
    command.current_dir(folder.path()).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("PATH", std::env::var("PATH").unwrap_or_default()).env("NO_PROXY", "*");
    command.envs(variables.iter().copied());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn one_trace_reaches_from_the_request_to_the_call_that_publishes() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", post(collect)).with_state(collector.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (ok, said) = demo(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=collector-key-of-the-test"),
        ("OTEL_SERVICE_NAME", "shop-social"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100000"),
    ])
    .await;
    assert!(ok, "{said}");
    let spans = collector.spans.lock().unwrap().clone();
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    // From the call upwards: the visible call, its step, the run with the delivery, the request.
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "publish.commit").collect();
    assert_eq!(
        calls.len(),
        20,
        "17 single posts and a thread of three: {:?}",
        spans.iter().map(|s| &s.name).collect::<Vec<_>>()
    );
    for call in calls {
        let above = |span: &&Span| by_id.get(span.parent.as_str()).copied();
        let chain: Vec<&Span> = std::iter::successors(Some(call), above).collect();
        let names: Vec<_> = chain.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["publish.commit", "commit", "delivery", "POST /post/schedule"], "{call:?}");
        assert!(chain.iter().all(|span| span.trace == call.trace), "{chain:#?}");
        assert_eq!(call.says("http.request.method"), "POST");
        assert_eq!(call.says("http.response.status_code"), "201");
        assert_eq!(call.says("server.address"), "127.0.0.1");
        assert!(["x", "linkedin"].contains(&chain[2].says("platform.id")) && !chain[2].says("delivery.id").is_empty());
        assert_eq!(chain[3].says("http.response.status_code"), "201");
    }
    // Preparing hangs in the same way, and uploads below it.
    assert!(spans.iter().any(|span| span.name == "prepare" && by_id[span.parent.as_str()].name == "delivery"));
    let received = collector.received.lock().unwrap();
    let holds = |text: &str| received.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("shop-social"), "the service is named");
    for (what, text) in
        [("a text", "lighthouse"), ("an address", "http://"), ("a token", "Bearer"), ("a key", "sk_live_")]
    {
        assert!(!holds(text), "{what} is in a trace");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_stops_nothing() {
    // A port that nobody listens at.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (ok, said) = demo(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"))]).await;
    assert!(ok, "{said}");
}
