//! Accepting connections: with time limits on everything that a caller can draw out, a cap on their number, and an orderly end.

mod stall;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use self::stall::Stalling;
use crate::transport::Peer;

/// The time that the head of a request may take, and that a connection may idle between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The time that a caller may take nothing of an answer.
const STALL: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// When files cannot be opened any more, a pause helps and a busy loop does not.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves a router on a listener.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    most: usize,
    head_within: Duration,
}

impl Acceptor {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, most: 8192, head_within: HEAD_WITHIN })
    }

    /// How many connections are served at once; further ones wait. Never more than the process may have files open.
    #[must_use]
    pub fn most_connections(mut self, most: usize) -> Self {
        self.most = most.max(1);
        self
    }

    /// Replaces the ten seconds that the head of a request may take.
    #[must_use]
    pub fn head_within(mut self, limit: Duration) -> Self {
        self.head_within = limit;
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. Then nothing new is accepted, requests under way are finished for at most `grace`, and the rest is dropped.
    pub async fn serve(self, app: Router, stop: CancellationToken, grace: Duration) {
        let most = open_files().map_or(self.most, |files| self.most.min(files.saturating_sub(128).max(16)));
        let places = Arc::new(Semaphore::new(most));
        let connections = TaskTracker::new();
        let dropped = CancellationToken::new();
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => break,
                // The semaphore is never closed.
                place = places.clone().acquire_owned() => match place { Ok(place) => place, Err(_) => break },
            };
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        if !of_one_connection(&error) {
                            tracing::warn!(%error, "a connection could not be accepted");
                            tokio::time::sleep(PAUSE).await;
                        }
                        continue;
                    }
                },
            };
            let one = connection(stream, peer, app.clone(), stop.clone(), self.head_within, place);
            let dropped = dropped.clone();
            connections.spawn(async move {
                tokio::select! {
                    () = one => {}
                    () = dropped.cancelled() => {}
                }
            });
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            tracing::warn!(left = connections.len(), "some requests took too long and were dropped");
            dropped.cancel();
            connections.wait().await;
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    stop: CancellationToken,
    head_within: Duration,
    _place: OwnedSemaphorePermit,
) {
    // A small answer must not wait for a large one.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        app.clone().oneshot(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Stalling::new(stream, STALL)), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Errors that are over with the connection that they are about.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset)
}

/// How many files this process may have open, where the system says so.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
