//! Accepting connections: with time limits on everything that a caller can draw out, a cap on their number, and an orderly end.

mod crowd;
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

use self::{
    crowd::{Crowd, Seat},
    stall::Stalling,
};
use crate::{config::IpNetwork, transport::Peer};

/// The time that the head of a request may take, and that a connection may idle between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The time that a caller may take nothing of an answer.
const STALL: Duration = Duration::from_secs(30);
/// Beyond these, requests are refused before anything of them is looked at; smaller limits with better words stand in `front`.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// Connections of one address.
const MOST_PER_ADDRESS: usize = 512;
/// Files that a server needs besides those of its connections.
const OTHER_FILES: usize = 128;
/// When files cannot be opened any more, a pause helps and a busy loop does not.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves a router on a listener.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    most: usize,
    most_per_address: usize,
    exempt: Arc<[IpNetwork]>,
    head_within: Duration,
}

impl Acceptor {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let exempt = Arc::from(loopback());
        Ok(Self { listener, most: 8192, most_per_address: MOST_PER_ADDRESS, exempt, head_within: HEAD_WITHIN })
    }

    /// How many connections are served at once; further ones wait. Never more than the process may have files open.
    #[must_use]
    pub fn most_connections(mut self, most: usize) -> Self {
        self.most = most.max(1);
        self
    }

    /// How many connections one address may have at once; further ones are closed. Proxies in `exempt` speak for many and are not counted,
    /// nor are addresses of this machine unless [`count_loopback`](Self::count_loopback) says so.
    #[must_use]
    pub fn most_per_address(mut self, most: usize, exempt: impl IntoIterator<Item = IpNetwork>) -> Self {
        self.most_per_address = most.max(1);
        self.exempt = self.exempt.iter().copied().chain(exempt).collect();
        self
    }

    /// Counts addresses of this machine like all others.
    #[must_use]
    pub fn count_loopback(mut self) -> Self {
        let loopback = loopback();
        self.exempt = self.exempt.iter().copied().filter(|network| !loopback.contains(network)).collect();
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
        let most = affordable(self.most, open_files());
        if most < self.most {
            tracing::warn!(
                wanted = self.most,
                served = most,
                "this process may not have enough files open for all connections: raise its limit (ulimit -n, LimitNOFILE)"
            );
        }
        let places = Arc::new(Semaphore::new(most));
        let crowd = Crowd::new(self.most_per_address, Arc::clone(&self.exempt));
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
            let Some(seat) = crowd.enter(peer.ip()) else {
                crate::metrics::connection_refused();
                tracing::debug!(%peer, "a connection was closed: its address has too many");
                continue;
            };
            let one = connection(stream, peer, app.clone(), stop.clone(), self.head_within, (place, seat));
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
    _place: (OwnedSemaphorePermit, Seat),
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

/// Addresses of this machine.
fn loopback() -> [IpNetwork; 2] {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    [
        IpNetwork::Range(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        IpNetwork::Range(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    ]
}

/// How many connections can be served with so many files.
fn affordable(wanted: usize, files: Option<usize>) -> usize {
    files.map_or(wanted, |files| wanted.min(files.saturating_sub(OTHER_FILES).max(16)))
}

/// How many files this process may have open, where the system says so.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(affordable(8192, Some(1024)), 896);
        assert_eq!(affordable(100, Some(1024)), 100);
        assert_eq!(affordable(8192, Some(64)), 16);
        assert_eq!(affordable(8192, None), 8192);
    }
}
