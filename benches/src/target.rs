//! The network of the benchmarks. It answers `POST /2/tweets` with 201, finds duplicates by the `id=` and lateness by the `due=` in the
//! text, and swallows chunked uploads. It runs in a process of its own, so that its CPU and memory are not charged to what is measured.

mod counter;
mod sink;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use social_core::Store;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub use self::counter::Seen;
use self::{counter::Counter, sink::Sink};
use crate::{
    Failure,
    process::Process,
    runtime,
    tls::{Certificate, acceptor},
};

/// The hidden argument that makes a benchmark program a target.
pub(crate) const MODE: &str = "__target";

#[derive(Debug, Default)]
struct State {
    counter: Mutex<Counter>,
    sink: Mutex<Sink>,
}

/// Answers after so many milliseconds; with two files more, in TLS with that certificate and that key.
pub(crate) fn serve(arguments: &[String]) -> Result<(), Failure> {
    let (latency, tls) = match arguments {
        [latency] => (latency, None),
        [latency, certificate, key] => (latency, Some(acceptor(certificate, key)?)),
        _ => return Err("one argument or three".into()),
    };
    runtime(1)?.block_on(listen(Duration::from_millis(latency.parse()?), tls))
}

async fn listen(latency: Duration, tls: Option<TlsAcceptor>) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("{scheme}://{}", listener.local_addr()?);
    crate::end_with_parent();
    let state = Arc::new(State::default());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(socket, state, latency).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        converse(socket, state, latency).await;
                    }
                }
            }
        });
    }
}

async fn converse(socket: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>, latency: Duration) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move { answer(request, &state, latency).await }
    });
    // A worker that hangs up is no fault.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
}

async fn answer(
    request: Request<Incoming>,
    state: &State,
    latency: Duration,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let arrived_us = Timestamp::now().as_microsecond();
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, text) = match (&head.method, head.uri.path()) {
        (&Method::GET, "/count") => (StatusCode::OK, lock(&state.counter).posts().to_string()),
        (&Method::GET, "/stats") => {
            let mut seen = lock(&state.counter).seen();
            seen.media_bytes = lock(&state.sink).bytes();
            (StatusCode::OK, serde_json::to_string(&seen).unwrap_or_default())
        }
        (&Method::POST, "/2/tweets") => {
            let number = lock(&state.counter).note(&String::from_utf8_lossy(&body), arrived_us);
            (
                StatusCode::CREATED,
                format!(r#"{{"data":{{"id":"{}","text":"ok"}}}}"#, 1_900_000_000_000_000_000 + number),
            )
        }
        (&Method::POST, path) => {
            let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            lock(&state.sink).answer(path, content_type, &body)
        }
        _ => (StatusCode::NOT_FOUND, "{}".to_owned()),
    };
    if head.method == Method::POST && !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A target: our own in a child process, or somebody else's at a URL.
#[derive(Debug)]
pub struct Target {
    url: String,
    child: Option<Child>,
    client: reqwest::Client,
}

impl Target {
    /// Uses the target at `url`, or starts one that answers after `latency_ms`.
    ///
    /// # Errors
    /// If the child cannot be started.
    pub fn open(url: Option<String>, latency_ms: u64) -> Result<Self, Failure> {
        let Some(url) = url else { return Self::start(latency_ms, None) };
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), child: None, client })
    }

    /// Starts one that answers after `latency_ms`, in TLS if there is a certificate.
    ///
    /// # Errors
    /// If the child cannot be started.
    pub fn start(latency_ms: u64, certificate: Option<&Certificate>) -> Result<Self, Failure> {
        let mut client = reqwest::Client::builder().no_proxy();
        let mut command = Command::new(std::env::current_exe()?);
        command.args([MODE, &latency_ms.to_string()]);
        if let Some(certificate) = certificate {
            command.args([certificate.path(), certificate.key()]);
            let trusted = reqwest::Certificate::from_pem(&std::fs::read(certificate.path())?)?;
            client = client.tls_certs_only([trusted]);
        }
        let client = client.build()?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("the target has no output")?).read_line(&mut line)?;
        Ok(Self { url: line.trim().to_owned(), child: Some(child), client })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process, if it is ours.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.child.as_ref().map(|child| Process::with_id(child.id()))
    }

    /// How many posts it has made so far; `None` if it is not ours and cannot be asked.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn count(&self) -> Result<Option<u64>, Failure> {
        let Some(answer) = self.ask("count").await? else { return Ok(None) };
        Ok(Some(answer.text().await?.parse()?))
    }

    /// What it has seen so far; `None` if it is not ours and cannot be asked.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn seen(&self) -> Result<Option<Seen>, Failure> {
        let Some(answer) = self.ask("stats").await? else { return Ok(None) };
        Ok(Some(answer.json().await?))
    }

    async fn ask(&self, what: &str) -> Result<Option<reqwest::Response>, Failure> {
        if self.child.is_none() {
            return Ok(None);
        }
        Ok(Some(self.client.get(format!("{}/{what}", self.url)).send().await?.error_for_status()?))
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

/// Waits until so many posts are delivered and nothing is open in the store any more. `false` if that takes longer than `patience`.
///
/// The store is the judge of what is recorded. It is asked when the target has seen everything, and seldom where the target cannot tell.
///
/// # Errors
/// `Storage`, or if the target does not answer.
pub async fn until_recorded(
    store: &dyn Store,
    target: &Target,
    posts: u64,
    patience: Duration,
) -> Result<bool, Failure> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(20);
    while begin.elapsed() < patience {
        tokio::time::sleep(pause).await;
        if target.count().await?.is_some_and(|count| count < posts) {
            continue;
        }
        let asked = Instant::now();
        if store.depth().await?.is_empty() {
            return Ok(true);
        }
        // A long backlog takes long to count: that must not become a part of the work.
        pause = if target.process().is_some() { Duration::from_millis(2) } else { pause.max(asked.elapsed() * 20) };
    }
    Ok(false)
}
