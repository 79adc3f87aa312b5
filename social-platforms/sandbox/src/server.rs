//! From sockets to handlers, with the faults, delays and the request log in between.

use crate::answer::{self, Answer, Input};
use crate::control;
use crate::faults::{Fault, NamedFault, When};
use crate::oauth::Platform;
use crate::requests::LogLine;
use crate::world::World;
use crate::{linkedin, pages, x};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The connection ends without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

/// Set when the socket must be closed with a reset rather than politely.
#[derive(Debug, Clone, Default)]
struct ResetSwitch(Arc<AtomicBool>);

/// Where the request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What is allowed as a body and how it reaches the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// Read into memory, at most so many bytes.
    Buffer(usize),
    /// Handed over while it arrives.
    Stream,
}

enum Route {
    X(x::Route),
    LinkedIn(linkedin::Route),
    Unknown,
}

impl Route {
    fn find(platform: Platform, parts: &Parts) -> Self {
        let rest = parts.uri.path().get(1 + platform.as_str().len()..).unwrap_or_default();
        match platform {
            Platform::X => x::Route::find(&parts.method, rest).map_or(Self::Unknown, Self::X),
            Platform::LinkedIn => linkedin::Route::find(parts, rest).map_or(Self::Unknown, Self::LinkedIn),
        }
    }

    fn operation(&self) -> &'static str {
        match self {
            Self::X(route) => route.operation(),
            Self::LinkedIn(route) => route.operation(),
            Self::Unknown => "unknown",
        }
    }

    fn body_rule(&self) -> BodyRule {
        match self {
            Self::X(route) => route.body_rule(),
            Self::LinkedIn(route) => route.body_rule(),
            Self::Unknown => BodyRule::Buffer(1024 * 1024),
        }
    }
}

enum Payload {
    Bytes(Bytes),
    Stream(Body),
}

/// Answers one request, or says that the connection is to be dropped.
pub(crate) async fn respond(world: &Arc<World>, request: Request<Body>) -> Result<Answer, Dropped> {
    let first = request.uri().path().split('/').nth(1).unwrap_or_default();
    match Platform::parse(first) {
        Some(platform) => network(world, platform, request).await,
        None => Ok(match first {
            "_sandbox" => control::serve(world, request).await,
            "" => pages::timeline(world, request.uri().query()),
            _ => answer::html(404, pages::message("Nothing here", "The sandbox has no such page.")),
        }),
    }
}

async fn network(world: &Arc<World>, platform: Platform, request: Request<Body>) -> Result<Answer, Dropped> {
    let (parts, body) = request.into_parts();
    let reset = parts.extensions.get::<ResetSwitch>().cloned().unwrap_or_default();
    let parts = Arc::new(parts);
    let settings = world.settings();
    let route = Route::find(platform, &parts);
    let operation = route.operation();
    let mut line = LogLine {
        world: Arc::clone(world),
        parts: Arc::clone(&parts),
        platform: platform.as_str(),
        operation,
        status: None,
        faulted: false,
        at: world.now(),
        limit: settings.request_log_limit,
        body: None,
        body_limit: settings.request_log_body_bytes,
    };

    let mut shape = None;
    let mut late_hang = 0;
    let before = take_fault(world, platform, operation, When::Before, &parts);
    line.faulted = before.is_some();
    let mut body = Some(body);
    match before {
        None => {}
        Some(Fault::Answer { status, body: text, headers }) => {
            discard(body.take(), &route, &mut line).await;
            line.status = Some(status);
            return Ok(scripted(status, &text, &headers));
        }
        Some(Fault::Named(NamedFault::Empty)) => {
            discard(body.take(), &route, &mut line).await;
            line.status = Some(502);
            return Ok(answer::empty(502));
        }
        Some(Fault::Named(NamedFault::Reset)) => {
            if line.body_limit > 0 {
                discard(body.take(), &route, &mut line).await;
            }
            return Err(drop_connection(&reset));
        }
        Some(Fault::Hang { hang_ms, late: true }) => late_hang = hang_ms,
        Some(Fault::Hang { hang_ms, late: false }) => {
            // The body is read first: a client that leaves is only noticed when nothing of the request is outstanding.
            if let BodyRule::Buffer(limit) = route.body_rule() {
                match buffer(body.take(), limit).await {
                    Ok(bytes) => {
                        line.remember(&bytes);
                        body = Some(Body::from(bytes));
                    }
                    Err(refusal) => return Ok(refusal),
                }
            }
            tokio::time::sleep(Duration::from_millis(hang_ms)).await;
        }
        Some(shaping) => shape = Some(shaping),
    }

    let payload = match route.body_rule() {
        BodyRule::Stream => Payload::Stream(body.unwrap_or_default()),
        BodyRule::Buffer(limit) => match buffer(body, limit).await {
            Ok(bytes) => {
                line.remember(&bytes);
                Payload::Bytes(bytes)
            }
            Err(refusal) => {
                line.status = Some(refusal.status().as_u16());
                return Ok(refusal);
            }
        },
    };

    let wait = settings.latency_ms + world.chance_below(settings.latency_spread_ms);
    let mut reply = if wait == 0 && late_hang == 0 {
        serve(world, platform, route, Arc::clone(&parts), payload).await
    } else {
        // On its own task, so that the effect happens even if the client leaves, as it would on a real network.
        let (world, parts) = (Arc::clone(world), Arc::clone(&parts));
        let task = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late_hang + wait / 2)).await;
            let reply = serve(&world, platform, route, parts, payload).await;
            tokio::time::sleep(Duration::from_millis(wait - wait / 2)).await;
            reply
        });
        task.await.unwrap_or_else(|_| answer::empty(500))
    };

    if reply.status().as_u16() < 400 {
        let after = take_fault(world, platform, operation, When::After, &parts);
        line.faulted |= after.is_some();
        match after {
            None => {}
            Some(Fault::Answer { status, body, headers }) => reply = scripted(status, &body, &headers),
            Some(Fault::Named(NamedFault::Empty)) => reply = answer::empty(reply.status().as_u16()),
            Some(Fault::Named(NamedFault::Reset)) => return Err(drop_connection(&reset)),
            Some(Fault::Hang { hang_ms, .. }) => tokio::time::sleep(Duration::from_millis(hang_ms)).await,
            Some(shaping) => shape = Some(shaping),
        }
    }
    line.status = Some(reply.status().as_u16());
    Ok(match shape {
        Some(Fault::Slow { slow_bytes_per_s }) => drip(reply, slow_bytes_per_s).await,
        Some(Fault::Cut { cut_after_bytes }) => cut(reply, cut_after_bytes, reset).await,
        _ => reply,
    })
}

async fn serve(world: &Arc<World>, platform: Platform, route: Route, parts: Arc<Parts>, payload: Payload) -> Answer {
    let bound = world.bound.get().cloned();
    match (route, payload) {
        (Route::X(route), Payload::Bytes(body)) => x::serve(world, route, Input { parts, body, bound }).await,
        (Route::LinkedIn(route), Payload::Bytes(body)) => linkedin::serve(world, route, &Input { parts, body, bound }),
        (Route::LinkedIn(route), Payload::Stream(body)) => linkedin::receive(world, route, &parts, body).await,
        (Route::Unknown, _) => match platform {
            Platform::X => answer::empty(404),
            Platform::LinkedIn => linkedin::unknown_path(),
        },
        (Route::X(_), Payload::Stream(_)) => answer::empty(500),
    }
}

fn take_fault(world: &World, platform: Platform, operation: &'static str, when: When, parts: &Parts) -> Option<Fault> {
    if !world.faults.any() {
        return None;
    }
    let grant = answer::bearer(parts).and_then(|token| world.tokens.access(token)).map(|token| token.grant);
    world.faults.take(platform.as_str(), operation, when, |wanted| {
        grant.as_ref().is_some_and(|grant| world.is_account(grant, wanted))
    })
}

fn drop_connection(reset: &ResetSwitch) -> Dropped {
    reset.0.store(true, Ordering::SeqCst);
    Dropped
}

/// An answer as a fault describes it.
fn scripted(status: u16, body: &serde_json::Value, headers: &std::collections::BTreeMap<String, String>) -> Answer {
    let mut reply = match body {
        serde_json::Value::Null => answer::empty(status),
        serde_json::Value::String(text) => {
            let kind = if text.trim_start().starts_with('<') { "text/html; charset=utf-8" } else { "text/plain" };
            answer::bytes(status, kind, Bytes::from(text.clone()))
        }
        value => answer::json(status, value),
    };
    for (name, value) in headers {
        reply = answer::with_header(reply, name, value);
    }
    reply
}

async fn whole(body: Body) -> Bytes {
    body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}

async fn drip(reply: Answer, bytes_per_s: u64) -> Answer {
    let (mut parts, body) = reply.into_parts();
    let bytes = whole(body).await;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let rate = bytes_per_s.max(1);
    let piece = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
    let pieces = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let next = rest.split_to(piece.min(rest.len()));
        tokio::time::sleep(Duration::from_micros(next.len() as u64 * 1_000_000 / rate)).await;
        Some((Ok::<_, io::Error>(next), rest))
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

async fn cut(reply: Answer, after: usize, reset: ResetSwitch) -> Answer {
    let (mut parts, body) = reply.into_parts();
    let bytes = whole(body).await;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len().max(after + 1)));
    let head = bytes.slice(..after.min(bytes.len()));
    let pieces = stream::unfold(Some(head), move |head| {
        let reset = reset.clone();
        async move {
            match head {
                Some(head) if !head.is_empty() => Some((Ok(head), None)),
                _ => {
                    // The pause lets what was sent so far leave the socket.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Some((Err(io::Error::other(drop_connection(&reset))), None))
                }
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// Reads what nobody needs, so that the client can send it to its end.
async fn discard(body: Option<Body>, route: &Route, line: &mut LogLine) {
    match route.body_rule() {
        BodyRule::Buffer(limit) if line.body_limit > 0 => {
            if let Ok(bytes) = buffer(body, limit).await {
                line.remember(&bytes);
            }
        }
        BodyRule::Buffer(_) | BodyRule::Stream => drain(body).await,
    }
}

async fn drain(body: Option<Body>) {
    let Some(mut body) = body else { return };
    let mut left = 64 * 1024 * 1024_usize;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

async fn buffer(body: Option<Body>, limit: usize) -> Result<Bytes, Answer> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(answer::empty(400)) };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            drain(Some(body)).await;
            return Err(answer::empty(413));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// For a server that is not ours, which cannot reset: an answer that ends in an error.
pub(crate) fn broken_answer() -> Answer {
    let body = Body::from_stream(stream::once(async { Err::<Bytes, _>(io::Error::other(Dropped)) }));
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// Accepts connections until `stop` is called off.
pub(crate) async fn accept(world: Arc<World>, listener: TcpListener, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                tasks.spawn(connection(Arc::clone(&world), stream, peer, stop.clone()));
            }
            // Out of descriptors or a connection that died in the queue: neither is a reason to stop listening.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(world: Arc<World>, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    // Without it, small answers on a kept connection wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let reset = ResetSwitch::default();
    let switch = reset.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let world = Arc::clone(&world);
        request.extensions_mut().insert(switch.clone());
        request.extensions_mut().insert(Peer(peer));
        Box::pin(async move { respond(&world, request.map(Body::new)).await })
    });
    let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {}
        () = stop.cancelled() => {}
    }
    let stream = connection.into_parts().io.into_inner();
    if reset.0.load(Ordering::SeqCst) {
        // Closing a socket without linger sends a reset.
        let _ = stream.set_zero_linger();
    } else {
        let mut stream = stream;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    }
}
