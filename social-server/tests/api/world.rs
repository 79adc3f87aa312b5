//! An installation in memory with two made-up networks.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use social_core::{Platform, memory::MemoryStore, time::ManualClock};
use social_server::{
    State, app,
    config::{Config, Secret},
};
use social_testkit::{
    fake::{FakeNetwork, FakePlatform},
    probe::{Probe, ProbeStore},
};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub(crate) const ADMIN: &str = "admin-key-of-the-tests-0123456789";

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) app: Router,
    pub(crate) store: MemoryStore,
    /// Counts what the store is asked.
    pub(crate) probe: Arc<Probe>,
    pub(crate) network: FakeNetwork,
    pub(crate) clock: ManualClock,
    /// The master key, as an operator sets it.
    pub(crate) keys: String,
    media: TempDir,
}

/// A user with a key.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) key: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// A refusal in its one form, with this code.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        for field in ["type", "title", "detail", "request_id"] {
            assert!(body[field].is_string(), "{field} is missing: {body}");
        }
        assert_eq!(body["status"], status);
        body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The cookies that the answer sets, as a browser would send them back.
    pub(crate) fn cookies(&self) -> String {
        let set = self.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        set.filter_map(|cookie| cookie.split(';').next()).collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn location(&self) -> url::Url {
        self.header("location").expect("a redirect").parse().expect("a whole address")
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let network = FakeNetwork::default();
        let platforms: Vec<Arc<dyn Platform>> = vec![
            Arc::new(FakePlatform::new("x", network.clone())),
            Arc::new(FakePlatform::new("linkedin", network.clone()).accounts(1)),
        ];
        Self::over(network, platforms, change)
    }

    /// The same with other networks.
    pub(crate) fn over(
        network: FakeNetwork,
        platforms: Vec<Arc<dyn Platform>>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let media = tempfile::tempdir().unwrap();
        let (_, keys) = social_core::vault::KeyRing::generate("k1").unwrap();
        let mut config = Config::default();
        config.master_keys = Some(Secret::from(keys.as_str()));
        config.admin_key = Some(Secret::from(ADMIN));
        config.media_dir = media.path().to_owned();
        change(&mut config);
        let (store, probe) = (MemoryStore::new(), Arc::new(Probe::default()));
        let clock = ManualClock::at("2026-11-22T08:00:00Z".parse().unwrap());
        let mut builder = State::builder(config)
            .store(Arc::new(ProbeStore::new(Arc::new(store.clone()), probe.clone())))
            .clock(Arc::new(clock.clone()));
        for platform in platforms {
            builder = builder.platform(platform);
        }
        let state = builder.build().unwrap();
        Self { app: app(state.clone()), state, store, probe, network, clock, keys: keys.to_string(), media }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, key: &str, body: Option<Value>) -> Answer {
        self.keyed(method, path, key, body, None).await
    }

    pub(crate) async fn keyed(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<Value>,
        once: Option<&str>,
    ) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if !key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        let request = match body {
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
            }
            None => request.body(Body::empty()).unwrap(),
        };
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        self.call("GET", path, key, None).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        self.call("POST", path, key, Some(body)).await
    }

    /// A request of a browser, without a key.
    pub(crate) async fn browse(&self, path: &str, cookies: &str) -> Answer {
        let mut request = Request::builder().uri(path);
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A further key of a tenant.
    pub(crate) async fn key(&self, tenant: &Tenant, scopes: &[&str]) -> String {
        let body = json!({ "user_id": tenant.id, "name": "further", "scopes": scopes });
        let made = self.post("/keys", ADMIN, body).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn tenant(&self, email: &str) -> Tenant {
        let user = self.post("/users", ADMIN, json!({ "email": email })).await.expect(201);
        let id = user["id"].as_str().unwrap().to_owned();
        let key = self.post("/keys", ADMIN, json!({ "user_id": id, "name": "test" })).await.expect(201);
        Tenant { id, key: key["key"].as_str().unwrap().to_owned() }
    }

    /// A link to connect, as the path that the browser opens.
    pub(crate) async fn link(&self, tenant: &Tenant, body: Value) -> String {
        let link = self.post("/auth/links", &tenant.key, body).await.expect(201);
        path_of(link["url"].as_str().unwrap())
    }

    /// Connects through the browser; answers with the ids of all accounts there.
    pub(crate) async fn connect(&self, tenant: &Tenant, platform: &str) -> Vec<String> {
        let path = self.link(tenant, json!({ "platform": platform })).await;
        let sent = self.browse(&path, "").await;
        assert_eq!(sent.status, 303, "{sent:?}");
        let state = query(&sent.location(), "state");
        let back = format!("/auth/callback/{platform}?code=good&state={state}");
        let done = self.browse(&back, &sent.cookies()).await;
        assert_eq!(done.status, 200, "{done:?}");
        let accounts = self.get("/accounts", &tenant.key).await.expect(200);
        let items = accounts["items"].as_array().unwrap().clone();
        let there = items.iter().filter(|account| account["platform"] == platform);
        there.map(|account| account["id"].as_str().unwrap().to_owned()).collect()
    }

    /// A tenant with accounts on X.
    pub(crate) async fn connected(&self, email: &str) -> (Tenant, Vec<String>) {
        let tenant = self.tenant(email).await;
        let accounts = self.connect(&tenant, "x").await;
        (tenant, accounts)
    }

    /// Publishes what is due.
    pub(crate) async fn work(&self) {
        while self.state.social().worker().tick().await.unwrap() > 0 {}
    }

    /// The names of the files in the media folder.
    pub(crate) fn media_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.media.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The path and query of an address.
pub(crate) fn path_of(url: &str) -> String {
    let url: url::Url = url.parse().unwrap();
    url[url::Position::BeforePath..].to_owned()
}

pub(crate) fn query(url: &url::Url, name: &str) -> String {
    let mut pairs = url.query_pairs();
    pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}
