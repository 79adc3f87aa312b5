//! The one way to reach an address that a user typed in.
//!
//! Whoever can make a server open a URL can aim it at the server's own network: the metadata service of the cloud, a data
//! base, a neighbour's admin page. [`GuardedFetcher`] opens only what anybody on the Internet could open as well, and takes
//! no more from it than it was told to. The address that is checked is the address that is dialled, on every redirect
//! again, so a name that changes its mind between question and answer gains nothing.

mod address;
mod refused;

use std::error::Error as StdError;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

pub use address::is_public;
pub use refused::{FetchRefused, Stage};

use address::lies_in;

/// Redirects that are followed before giving up.
pub const MAX_REDIRECTS: usize = 3;
/// What every request says about its sender.
pub const USER_AGENT: &str = concat!("social-core/", env!("CARGO_PKG_VERSION"));

const DEFAULT_MAX_BYTES: u64 = 1 << 30;
const LONGEST_CONTENT_TYPE: usize = 255;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// How many bytes were written to the sink.
    pub bytes: u64,
    /// What the server called it. Claims are not facts: look into the bytes.
    pub content_type: Option<String>,
    /// The host that sent the bytes, after redirects.
    pub final_url_host: String,
}

/// Turns names into addresses.
#[async_trait]
pub trait HostResolver: Debug + Send + Sync {
    /// All addresses of `host`.
    ///
    /// # Errors
    /// When there is none or nobody can say.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl HostResolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Which addresses may be dialled.
#[derive(Debug, Default)]
struct Gate {
    exceptions: Vec<(IpAddr, u8)>,
}

impl Gate {
    fn permits(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.exceptions.iter().any(|(network, prefix)| lies_in(ip, *network, *prefix))
    }
}

/// Settings of a [`GuardedFetcher`].
#[derive(Debug)]
#[must_use]
pub struct GuardedFetcherBuilder {
    http: bool,
    ports: Vec<u16>,
    gate: Gate,
    resolver: Arc<dyn HostResolver>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    max_bytes: u64,
    connect: Duration,
    first_byte: Duration,
    idle: Duration,
    total: Duration,
    /// Bytes per second that must have come on average, once a transfer has lasted for so long.
    slowest: (u64, Duration),
}

impl Limits {
    /// Whether a transfer that has brought so much in so long is slower than anybody may be.
    fn too_slow(&self, bytes: u64, lasted: Duration) -> bool {
        let (per_second, patience) = self.slowest;
        lasted > patience && u128::from(bytes) * 1000 < u128::from(per_second) * lasted.as_millis()
    }
}

impl GuardedFetcherBuilder {
    /// Fetches http as well as https. Off by default.
    pub fn allow_http(mut self) -> Self {
        self.http = true;
        self
    }

    /// The ports that may be dialled instead of 80 and 443.
    pub fn allow_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ports.into_iter().collect();
        self
    }

    /// Networks (an address and the length of the prefix) that may be dialled although they are not public: for tests, for
    /// development, and for hosts that know their own network. This opens them to every user.
    pub fn allow_addresses(mut self, networks: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        self.gate.exceptions = networks.into_iter().collect();
        self
    }

    /// The most bytes that are taken from one URL (1 GiB).
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.limits.max_bytes = max_bytes;
        self
    }

    /// How long a connection may take (10 s).
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// How long the first byte of an answer may take, with the connection (30 s).
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_byte = limit;
        self
    }

    /// How long the transfer may pause (30 s).
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// How long everything together may take, redirects included (15 min).
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.limits.total = limit;
        self
    }

    /// How many bytes per second a transfer must bring on average once it has lasted for `patience` (1 KiB, 60 s). A server that drips
    /// holds a place that others wait for.
    pub fn slowest(mut self, bytes_per_second: u64, patience: Duration) -> Self {
        self.limits.slowest = (bytes_per_second, patience);
        self
    }

    /// Who turns names into addresses (the operating system).
    pub fn resolver(mut self, resolver: Arc<dyn HostResolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Builds the fetcher.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn build(self) -> io::Result<GuardedFetcher> {
        let gate = Arc::new(self.gate);
        let headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("*/*")),
            // A compressed answer can be a thousand times larger than what was counted.
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .dns_resolver(Arc::new(Dialled { gate: Arc::clone(&gate), resolver: self.resolver }))
            .no_proxy() // a proxy would resolve names by itself
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .https_only(!self.http)
            .http1_only()
            .connect_timeout(self.limits.connect)
            .pool_max_idle_per_host(0) // a kept connection would outlive the check of its address
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .build()
            .map_err(|error| io::Error::other(error.without_url()))?;
        Ok(GuardedFetcher { client, http: self.http, ports: self.ports, gate, limits: self.limits })
    }
}

/// Fetches URLs given by users, from public addresses only. See the [module](self).
///
/// Sends no cookies, no credentials and no referrer, follows at most [`MAX_REDIRECTS`] redirects and checks each, ignores
/// proxy variables of the environment, and never inflates what arrives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GuardedFetcher {
    client: Client,
    http: bool,
    ports: Vec<u16>,
    gate: Arc<Gate>,
    limits: Limits,
}

impl GuardedFetcher {
    /// A fetcher of https from the ports 80 and 443.
    pub fn builder() -> GuardedFetcherBuilder {
        GuardedFetcherBuilder {
            http: false,
            ports: vec![80, 443],
            gate: Gate::default(),
            resolver: Arc::new(SystemResolver),
            limits: Limits {
                max_bytes: DEFAULT_MAX_BYTES,
                connect: Duration::from_secs(10),
                first_byte: Duration::from_secs(30),
                idle: Duration::from_secs(30),
                total: Duration::from_secs(15 * 60),
                slowest: (1024, Duration::from_secs(60)),
            },
        }
    }

    /// Checks what a URL says about itself: scheme, port, user name, and the address if it names one. A name is checked
    /// when it is dialled.
    ///
    /// # Errors
    /// `BadScheme`, `BadPort`, `Userinfo`, `PrivateAddress`.
    pub fn check(&self, url: &Url) -> Result<(), FetchRefused> {
        let bad_scheme = || FetchRefused::BadScheme { scheme: url.scheme().to_owned() };
        if !(url.scheme() == "https" || self.http && url.scheme() == "http") {
            return Err(bad_scheme());
        }
        let address = url.host().ok_or_else(bad_scheme)?;
        let host = address.to_string();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchRefused::Userinfo { host });
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.ports.contains(&port) {
            return Err(FetchRefused::BadPort { host, port });
        }
        let ip = match address {
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
        };
        if self.gate.permits(ip) { Ok(()) } else { Err(FetchRefused::PrivateAddress { host }) }
    }

    /// Fetches `url` and writes the body to `sink` as it arrives, then flushes it.
    ///
    /// Memory does not grow with the size of the body. Repeatable. After an error or after dropping the future the sink may
    /// hold a part of the body, at most the allowed number of bytes.
    ///
    /// # Errors
    /// See [`FetchRefused`]; [`FetchRefused::may_succeed_later`] tells whether trying again makes sense.
    pub async fn fetch_to(
        &self,
        url: &Url,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<Fetched, FetchRefused> {
        self.within_total(url, Box::pin(self.follow(url, sink))).await
    }

    /// Posts `body` to `url`, as for a webhook, and returns the status of the answer, whatever it is. Redirects are not
    /// followed and the body of the answer is not read.
    ///
    /// # Errors
    /// See [`FetchRefused`]. After `TimedOut` and `Io` the receiver may have got the message.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<u16, FetchRefused> {
        let request = async {
            let (response, _) = self.send(Method::POST, url, headers, body).await?;
            Ok(response.status().as_u16())
        };
        self.within_total(url, Box::pin(request)).await
    }

    async fn within_total<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, FetchRefused>>,
    ) -> Result<T, FetchRefused> {
        let out_of_time = |_| Err(FetchRefused::TimedOut { host: host_of(url), stage: Stage::Total });
        timeout(self.limits.total, work).await.unwrap_or_else(out_of_time)
    }

    async fn follow(&self, url: &Url, sink: &mut (dyn AsyncWrite + Unpin + Send)) -> Result<Fetched, FetchRefused> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (response, host) = self.send(Method::GET, &url, HeaderMap::new(), Bytes::new()).await?;
            match response.status() {
                StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                    return self.receive(response, host, sink).await;
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let target = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                    let status = response.status().as_u16();
                    url = target.and_then(|to| url.join(to).ok()).ok_or(FetchRefused::Status { host, status })?;
                }
                status => return Err(FetchRefused::Status { host, status: status.as_u16() }),
            }
        }
        Err(FetchRefused::TooManyRedirects { host: host_of(&url) })
    }

    /// One request to one checked address. The answer's body is not read yet.
    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Response, String), FetchRefused> {
        self.check(url)?;
        let host = host_of(url);
        let mut request = self.client.request(method.clone(), url.clone()).headers(headers);
        if method == Method::POST {
            request = request.body(body);
        }
        let Ok(answer) = timeout(self.limits.first_byte, request.send()).await else {
            return Err(FetchRefused::TimedOut { host, stage: Stage::FirstByte });
        };
        let response = answer.map_err(|error| failure(host.clone(), error))?;
        // The dialled address has been checked before; this holds even if a future client should find another way out.
        match response.remote_addr() {
            Some(remote) if !self.gate.permits(remote.ip()) => Err(FetchRefused::PrivateAddress { host }),
            _ => Ok((response, host)),
        }
    }

    async fn receive(
        &self,
        mut response: Response,
        host: String,
        sink: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<Fetched, FetchRefused> {
        let max_bytes = self.limits.max_bytes;
        if response.content_length().is_some_and(|announced| announced > max_bytes) {
            return Err(FetchRefused::TooLarge { host, max_bytes });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.filter(|value| value.len() <= LONGEST_CONTENT_TYPE).map(str::to_owned);
        let started = Instant::now();
        let mut bytes = 0;
        loop {
            let Ok(piece) = timeout(self.limits.idle, response.chunk()).await else {
                return Err(FetchRefused::TimedOut { host, stage: Stage::NextBytes });
            };
            let Some(piece) = piece.map_err(|error| failure(host.clone(), error))? else { break };
            bytes += piece.len() as u64;
            if bytes > max_bytes {
                return Err(FetchRefused::TooLarge { host, max_bytes });
            }
            if self.limits.too_slow(bytes, started.elapsed()) {
                return Err(FetchRefused::TimedOut { host, stage: Stage::Pace });
            }
            sink.write_all(&piece).await.map_err(FetchRefused::Sink)?;
        }
        sink.flush().await.map_err(FetchRefused::Sink)?;
        Ok(Fetched { bytes, content_type, final_url_host: host })
    }
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// What the HTTP client's error means here. Its text may hold the URL, so that is taken out.
fn failure(host: String, error: reqwest::Error) -> FetchRefused {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        match inner.downcast_ref::<Unresolved>() {
            Some(Unresolved::NotPublic) => return FetchRefused::PrivateAddress { host },
            Some(Unresolved::NotFound) => return FetchRefused::Dns { host },
            None => cause = inner.source(),
        }
    }
    if error.is_timeout() {
        let stage = if error.is_connect() { Stage::Connect } else { Stage::NextBytes };
        return FetchRefused::TimedOut { host, stage };
    }
    FetchRefused::Io { host, source: io::Error::other(error) }
}

/// The resolver inside the connector: what it lets through is what is dialled.
#[derive(Debug)]
struct Dialled {
    gate: Arc<Gate>,
    resolver: Arc<dyn HostResolver>,
}

#[derive(Debug, Error)]
enum Unresolved {
    #[error("not every address of the host is public")]
    NotPublic,
    #[error("the host has no address")]
    NotFound,
}

impl Resolve for Dialled {
    fn resolve(&self, name: Name) -> Resolving {
        let (gate, resolver) = (Arc::clone(&self.gate), Arc::clone(&self.resolver));
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await.unwrap_or_default();
            if addresses.is_empty() {
                return Err(Unresolved::NotFound.into());
            }
            // One private address among public ones is an attack or a mistake, and either way not to be tried.
            if !addresses.iter().all(|ip| gate.permits(*ip)) {
                return Err(Unresolved::NotPublic.into());
            }
            // The port of the URL replaces the zero.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
