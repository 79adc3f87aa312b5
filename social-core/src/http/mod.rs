//! The thin layer over `reqwest`, and the only place that knows it.
//!
//! There are two lanes. The normal one serves reads and preparation. The *commit* lane serves the one call that the public can see: HTTP/1.1
//! only, no redirect, no retry of any layer. Neither lane follows redirects to elsewhere or decompresses; every call has a deadline for
//! the whole exchange and a cap on the body that it reads; errors never contain a URL.

mod body;
pub mod guarded;
mod reply;

use std::{fmt, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tracing::Instrument as _;
use url::Url;

pub use self::{
    body::{Body, Part},
    reply::Reply,
};
use crate::{
    error::{Actor, Error, ErrorKind, Operation},
    meter::CallMeter,
    secret::{AccessToken, ClientSecret},
    time::Clock,
    trace,
};

/// Deadline of a call unless the request says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// Cap on the body of an answer unless the request says otherwise.
pub const DEFAULT_BODY_CAP: usize = 2 * 1024 * 1024;
/// A pooled connection that was idle for longer is not used for a commit: it may have died unnoticed.
const COMMIT_IDLE: Duration = Duration::from_secs(5);

/// Sends requests. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Http {
    clients: Arc<Clients>,
    clock: Arc<dyn Clock>,
    lane: Lane,
}

struct Clients {
    normal: reqwest::Client,
    commit: reqwest::Client,
    meter: CallMeter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Normal,
    Commit,
}

impl Http {
    /// Builds both lanes.
    ///
    /// # Errors
    /// `Config` if the TLS set-up of this machine cannot be used.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| {
                Error::new(ErrorKind::Config, "http.setup")
                    .message("the HTTP client cannot be built")
                    .source(e.without_url())
                    .effect_none()
            })
        };
        let base = || {
            reqwest::Client::builder()
                .user_agent(concat!("social-core/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(Duration::from_secs(10))
                .tcp_nodelay(true)
                .no_proxy()
        };
        let normal = build(base().pool_idle_timeout(Duration::from_secs(60)))?;
        // The only place where the commit client is made.
        let commit = build(base().http1_only().pool_idle_timeout(COMMIT_IDLE).pool_max_idle_per_host(1024))?;
        Ok(Self {
            clients: Arc::new(Clients { normal, commit, meter: CallMeter::default() }),
            clock,
            lane: Lane::Normal,
        })
    }

    /// The lane for the visible call.
    #[must_use]
    pub(crate) fn commit_lane(&self) -> Self {
        Self { lane: Lane::Commit, ..self.clone() }
    }

    /// Starts a GET.
    pub fn get(&self, operation: impl Into<Operation>, url: Url) -> Request<'_> {
        self.request(operation, Method::GET, url)
    }

    /// Starts a POST.
    pub fn post(&self, operation: impl Into<Operation>, url: Url) -> Request<'_> {
        self.request(operation, Method::POST, url)
    }

    /// Starts a PUT.
    pub fn put(&self, operation: impl Into<Operation>, url: Url) -> Request<'_> {
        self.request(operation, Method::PUT, url)
    }

    /// Starts a DELETE.
    pub fn delete(&self, operation: impl Into<Operation>, url: Url) -> Request<'_> {
        self.request(operation, Method::DELETE, url)
    }

    /// Starts a request with any method.
    pub fn request(&self, operation: impl Into<Operation>, method: Method, url: Url) -> Request<'_> {
        Request {
            http: self,
            operation: operation.into(),
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            deadline: DEFAULT_DEADLINE,
            cap: DEFAULT_BODY_CAP,
            fault: None,
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// A request that is being put together. Nothing is sent before [`send`](Self::send).
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    http: &'a Http,
    operation: Operation,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Body,
    deadline: Duration,
    cap: usize,
    fault: Option<&'static str>,
}

impl Request<'_> {
    /// Authenticates with a bearer token. The header is marked sensitive.
    pub fn bearer(mut self, token: &AccessToken) -> Self {
        let raw = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
        match HeaderValue::from_str(&raw) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(header::AUTHORIZATION, value);
            }
            Err(_) => self.fault = Some("the access token holds characters that no header can carry"),
        }
        self
    }

    /// Authenticates the client with HTTP Basic.
    pub fn basic(mut self, id: &str, secret: &ClientSecret) -> Self {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let raw = zeroize::Zeroizing::new(format!("{id}:{}", secret.expose()));
        match HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(raw.as_bytes()))) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(header::AUTHORIZATION, value);
            }
            Err(_) => self.fault = Some("the client credentials cannot be put into a header"),
        }
        self
    }

    /// Adds a header. A value that no header can carry makes [`send`](Self::send) fail before anything is sent.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(name == header::AUTHORIZATION);
                self.headers.insert(name, value);
            }
            _ => self.fault = Some("a header value holds characters that no header can carry"),
        }
        self
    }

    /// Adds pairs to the query, percent-encoded.
    pub fn query<K: AsRef<str>, V: AsRef<str>>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        self.url.query_pairs_mut().extend_pairs(pairs);
        self
    }

    /// Sends a JSON body.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => {
                self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.body = Body::Bytes(json.into());
            }
            Err(_) => self.fault = Some("the body cannot be written as JSON"),
        }
        self
    }

    /// Sends bytes that are JSON already: what must be byte-identical on a second sending is written once.
    pub fn json_bytes(mut self, json: Bytes) -> Self {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Body::Bytes(json);
        self
    }

    /// Sends a form, percent-encoded.
    pub fn form<K: AsRef<str>, V: AsRef<str>>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.body = Body::Bytes(form.into());
        self
    }

    /// Sends any body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Replaces [`DEFAULT_DEADLINE`]: the time from here until the whole answer is read.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Replaces [`DEFAULT_BODY_CAP`].
    pub fn body_cap(mut self, bytes: usize) -> Self {
        self.cap = bytes;
        self
    }

    /// Sends the request once and reads the whole answer. Any status is an `Ok`: the adapter's table decides what it means.
    ///
    /// Dropping the future may leave the request half sent or answered unread; on the commit lane the driver treats that as effect unknown.
    ///
    /// # Errors
    /// `Unavailable` with effect none if no connection could be made; `Timeout` or `Unavailable` with effect unknown if the line broke
    /// later; `Unexpected` with effect unknown if the answer is larger than the cap; `Invalid` with effect none if the request cannot be
    /// written.
    pub async fn send(self) -> Result<Reply, Error> {
        let Self { http, operation, method, url, mut headers, body, deadline, cap, fault } = self;
        if let Some(fault) = fault {
            return Err(Error::invalid(operation, fault));
        }
        // The client leaves the length of an empty body out, and some networks insist on it.
        if matches!(body, Body::Empty) && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let client = match http.lane {
            Lane::Normal => &http.clients.normal,
            Lane::Commit => &http.clients.commit,
        };
        let span = trace::call(operation.as_str(), &method, &url);
        let mut builder = client.request(method, url).headers(headers);
        builder = body.attach(builder);
        let started = std::time::Instant::now();
        let exchange = async {
            let mut response = builder.send().await.map_err(|e| transport(operation.clone(), e))?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let body = read_capped(&mut response, cap, &operation).await?;
            Ok((status, headers, body))
        };
        // Boxed: the client's future is large, and drivers hold many of these.
        let outcome: Result<(StatusCode, HeaderMap, Bytes), Error> =
            match tokio::time::timeout(deadline, Box::pin(exchange).instrument(span.clone())).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    Err(Error::new(ErrorKind::Timeout, operation.clone())
                        .message("no complete answer within the deadline"))
                }
            };
        let status = outcome.as_ref().ok().map(|(status, ..)| status.as_u16());
        http.clients.meter.took(&operation, status, started.elapsed());
        match &outcome {
            Ok((status, ..)) => {
                span.record("http.response.status_code", status.as_u16());
            }
            Err(error) => trace::failed(&span, error),
        }
        let (status, headers, body) = outcome?;
        Ok(Reply::new(operation, status, headers, body, http.clock.now()))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("operation", &self.operation)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

async fn read_capped(response: &mut reqwest::Response, cap: usize, operation: &Operation) -> Result<Bytes, Error> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(operation.clone(), e).effect_unknown())? {
        if whole.len() + chunk.len() > cap {
            return Err(Error::new(ErrorKind::Unexpected, operation.clone())
                .message("the answer is larger than any that was foreseen"));
        }
        if whole.is_empty() && whole.capacity() == 0 {
            whole = BytesMut::from(chunk);
        } else {
            whole.extend_from_slice(&chunk);
        }
    }
    Ok(whole.freeze())
}

/// Sorts what the client reports. Only a failure to connect proves that nothing was sent.
fn transport(operation: Operation, error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_builder() {
        Error::invalid(operation, "the request cannot be written").actor(Actor::Operator).source(error)
    } else if error.is_connect() {
        Error::new(ErrorKind::Unavailable, operation)
            .message("no connection to the network")
            .effect_none()
            .source(error)
    } else if error.is_timeout() {
        Error::new(ErrorKind::Timeout, operation).message("the network did not answer in time").source(error)
    } else {
        Error::new(ErrorKind::Unavailable, operation).message("the line to the network broke").source(error)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

    use super::*;
    use crate::{error::Effect, time::ManualClock};

    fn http() -> Http {
        Http::new(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH))).unwrap()
    }

    #[tokio::test]
    async fn a_refused_connection_proves_that_nothing_was_sent() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/secret-path").parse().unwrap();
        let error = http().commit_lane().post("publish.commit", url).json(&json!({})).send().await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None));
        assert!(!format!("{error} {error:?}").contains("secret-path"), "an error must not hold a URL");
    }

    #[tokio::test]
    async fn a_line_cut_after_the_request_leaves_the_effect_unknown_and_is_not_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let mut accepted = 0;
            while let Ok(Ok((mut socket, _))) =
                tokio::time::timeout(Duration::from_millis(300), listener.accept()).await
            {
                accepted += 1;
                let _ = socket.read(&mut [0; 1024]).await;
            }
            accepted
        });
        let error = http().commit_lane().post("publish.commit", url).json(&json!({})).send().await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
        assert_eq!(server.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn redirects_are_answers_and_large_bodies_are_refused() {
        let server = MockServer::start().await;
        let redirect = ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/");
        Mock::given(method("GET")).respond_with(redirect).mount(&server).await;
        let big = ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 100]);
        Mock::given(method("POST")).respond_with(big).mount(&server).await;
        let url: Url = server.uri().parse().unwrap();
        assert_eq!(http().get("read", url.clone()).send().await.unwrap().status(), 302);
        let error = http().post("read", url).body_cap(99).send().await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unexpected, Effect::Unknown));
    }

    #[tokio::test]
    async fn an_empty_post_says_its_length_and_a_get_does_not() {
        let server = MockServer::start().await;
        let url: Url = server.uri().parse().unwrap();
        let http = http();
        for request in [http.post("test", url.clone()), http.put("test", url.clone()), http.get("test", url)] {
            request.send().await.unwrap();
        }
        let length = |r: &wiremock::Request| r.headers.get("content-length").map(|v| v.to_str().unwrap().to_owned());
        let lengths: Vec<_> = server.received_requests().await.unwrap().iter().map(length).collect();
        assert_eq!(lengths, [Some("0".to_owned()), Some("0".to_owned()), None]);
    }

    #[tokio::test]
    async fn a_dripping_answer_hits_the_total_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while socket.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let error = http().get("read", url).deadline(Duration::from_millis(200)).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
