//! The network of the benchmarks: answers `POST /2/tweets` with 201, counts duplicates by the `id=` and measures lateness by the `due=` in
//! the text. It runs in a process of its own, so that its CPU is not charged to what is measured.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::Failure;

/// The hidden argument that makes a benchmark program a target.
pub const MODE: &str = "__target";

/// What a target has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Posts that were created.
    pub posts: u64,
    /// Posts whose `id=` was seen before.
    pub duplicates: u64,
    /// Posts that came before their `due=`.
    pub early: u64,
    /// Lateness in milliseconds: half of the posts were no later.
    pub p50_ms: f64,
    /// 99 of 100 were no later.
    pub p99_ms: f64,
    /// None was later.
    pub max_ms: f64,
}

#[derive(Debug, Default)]
struct State {
    posts: u64,
    duplicates: u64,
    early: u64,
    ids: HashSet<u64>,
    late_us: Vec<i64>,
}

/// Becomes a target if this process was started as one. Call it first in `main`.
pub fn become_target_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MODE) {
        return;
    }
    let latency = Duration::from_millis(arguments.next().and_then(|ms| ms.parse().ok()).unwrap_or(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(serve(latency)));
    if let Err(error) = outcome {
        eprintln!("the target broke: {error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

async fn serve(latency: Duration) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    // The parent holds our standard input open: when it is gone, so are we.
    std::thread::spawn(|| {
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
    let state = Arc::new(Mutex::new(State::default()));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let state = state.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let state = state.clone();
            async move { answer(request, &state, latency).await }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>, latency: Duration) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let now_us = jiff::Timestamp::now().as_microsecond();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    if path == "/stats" {
        let seen = seen(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        return Ok(reply(StatusCode::OK, serde_json::to_string(&seen).unwrap_or_default()));
    }
    if path != "/2/tweets" {
        return Ok(reply(StatusCode::NOT_FOUND, "{}".to_owned()));
    }
    let text = String::from_utf8_lossy(&body);
    let number = |name: &str| {
        let rest = &text[text.find(name)? + name.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse::<u64>().ok()
    };
    let id = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.posts += 1;
        if let Some(id) = number("id=")
            && !state.ids.insert(id)
        {
            state.duplicates += 1;
        }
        if let Some(due) = number("due=").and_then(|due| i64::try_from(due).ok()) {
            state.early += u64::from(now_us < due);
            state.late_us.push(now_us - due);
        }
        state.posts
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    Ok(reply(StatusCode::CREATED, format!("{{\"data\":{{\"id\":\"{}\",\"text\":\"ok\"}}}}", 1_900_000_000_000_000_000 + id)))
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn seen(state: &mut State) -> Seen {
    state.late_us.sort_unstable();
    let at = |part: f64| {
        let index = ((state.late_us.len() as f64 * part).ceil() as usize).clamp(1, state.late_us.len().max(1)) - 1;
        state.late_us.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
    };
    Seen { posts: state.posts, duplicates: state.duplicates, early: state.early, p50_ms: at(0.50), p99_ms: at(0.99), max_ms: at(1.0) }
}

/// A target: our own in a child process, or somebody else's at a URL.
#[derive(Debug)]
pub struct Target {
    url: String,
    child: Option<Child>,
}

impl Target {
    /// Uses the target at `url`, or starts one that answers after `latency_ms`.
    ///
    /// # Errors
    /// If the child cannot be started.
    pub fn open(url: Option<String>, latency_ms: u64) -> Result<Self, Failure> {
        if let Some(url) = url {
            return Ok(Self { url, child: None });
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args([MODE, &latency_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the target has no output")?).read_line(&mut line)?;
        Ok(Self { url: line.trim().to_owned(), child: Some(child) })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is ours and can be asked what it has seen.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.child.is_some()
    }

    /// What it has seen so far.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn seen(&self, client: &reqwest::Client) -> Result<Seen, Failure> {
        Ok(client.get(format!("{}/stats", self.url)).send().await?.error_for_status()?.json().await?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Closing its standard input would do as well; this is quicker.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
