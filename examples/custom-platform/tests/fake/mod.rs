//! A pretended Chirp on this machine, for the suite and for the example program. It shares no code with the adapter: what both get wrong in
//! the same way would not be seen.

#![allow(clippy::unwrap_used, reason = "a pretended network is test code")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{OriginalUri, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Whom the pretended Chirp knows.
const USER: (&str, &str, &str) = ("u1", "ada", "Ada Lovelace");
const CLIENT: (&str, &str) = ("chirp-client", "chirp-secret");
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How long pictures are looked at, and how long new posts stay out of lists.
const LOOK: Duration = Duration::from_secs(3);
const LIST_DELAY: Duration = Duration::from_secs(10);

/// A running Chirp; it ends with the value.
#[derive(Debug)]
pub(crate) struct FakeChirp {
    pub(crate) base: url::Url,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Chirps>,
}

/// What a visible chirp is.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub id: String,
    pub text: String,
    pub images: usize,
    pub deleted: bool,
    client_ref: Option<String>,
    at: Timestamp,
}

/// What the next matching calls get instead of their answer.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// Only calls that make something visible.
    pub visible_only: bool,
    /// Whether the call has its effect all the same.
    pub effect: bool,
    pub instead: Instead,
    pub skip: u64,
    pub times: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) enum Instead {
    /// The line breaks.
    Cut,
    /// The status alone.
    Empty,
    Answer {
        status: u16,
        body: String,
        headers: Vec<(String, String)>,
    },
}

#[derive(Debug)]
struct Chirps {
    now: Timestamp,
    count: u64,
    codes: HashMap<String, Code>,
    /// Refresh tokens that work.
    grants: Vec<String>,
    /// Access tokens with their end and the refresh token that they belong to.
    access: HashMap<String, (Timestamp, String)>,
    issued: Vec<String>,
    images: HashMap<String, Timestamp>,
    posted: Vec<Posted>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Code {
    redirect_uri: String,
    challenge: String,
}

type Answer = (StatusCode, Value);

impl FakeChirp {
    /// Listens on a free port of this machine; its clock stands at `now` until it is moved.
    pub(crate) async fn start(now: Timestamp) -> Self {
        let state = Chirps {
            now,
            count: 0,
            codes: HashMap::new(),
            grants: Vec::new(),
            access: HashMap::new(),
            issued: Vec::new(),
            images: HashMap::new(),
            posted: Vec::new(),
            faults: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, shared, server }
    }

    pub(crate) fn visible(&self) -> Vec<Posted> {
        self.shared.lock().posted.clone()
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.shared.lock();
        state.now += by;
    }

    pub(crate) fn issued_secrets(&self) -> Vec<String> {
        self.shared.lock().issued.clone()
    }

    pub(crate) fn expire_tokens(&self) {
        self.shared.lock().access.clear();
    }

    pub(crate) fn end_grants(&self) {
        let mut state = self.shared.lock();
        state.access.clear();
        state.grants.clear();
    }
}

impl Drop for FakeChirp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Chirps> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path: Vec<String> = uri.path().split('/').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = pairs(uri.query().unwrap_or_default().as_bytes());
    let mut state = shared.lock();
    if path.first() == Some(&"oauth") {
        return state.oauth(&method, &path, &query, &headers, &body);
    }
    let visible = method == Method::POST && path == ["v1", "chirps"];
    let fault = state.fault_for(visible, &path);
    if let Some(Fault { effect: false, instead, .. }) = &fault {
        return disturbed(instead, StatusCode::CREATED);
    }
    let (status, body) = state.api(&method, &path, &query, &headers, &body);
    match fault {
        Some(fault) => disturbed(&fault.instead, status),
        None if status == StatusCode::NO_CONTENT => respond(status, String::new()),
        None => respond(status, body.to_string()),
    }
}

fn disturbed(instead: &Instead, status: StatusCode) -> Response {
    match instead {
        Instead::Empty => respond(status, String::new()),
        Instead::Cut => {
            let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]);
            Response::new(Body::from_stream(broken))
        }
        Instead::Answer { status, body, headers } => {
            let mut response = respond(StatusCode::from_u16(*status).unwrap(), body.clone());
            for (name, value) in headers {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
    }
}

fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn pairs(raw: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(raw).into_owned().collect()
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    (status, json!({ "code": code, "message": message }))
}

impl Chirps {
    fn fresh(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{:08}", self.count)
    }

    /// A secret that looks like one, so that filters for secrets are put to the test.
    fn secret(&mut self, prefix: &str) -> String {
        self.count += 1;
        let seed = format!("{prefix}-{}-{}", self.count, self.now);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes());
        let secret = format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(digest));
        self.issued.push(secret.clone());
        secret
    }

    fn fault_for(&mut self, visible: bool, path: &[&str]) -> Option<Fault> {
        let publishing = visible || path.get(1).is_some_and(|piece| ["images", "users"].contains(piece));
        for fault in &mut self.faults {
            if fault.times == Some(0) || !(visible || (publishing && !fault.visible_only)) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Some(fault.clone());
        }
        None
    }

    fn oauth(
        &mut self,
        method: &Method,
        path: &[&str],
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response {
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        match (method.as_str(), path[1..].first().copied()) {
            // The person agrees at once: a real network shows a page here.
            ("GET", Some("authorize")) => {
                let complete = get("client_id") == CLIENT.0
                    && get("response_type") == "code"
                    && get("code_challenge_method") == "S256"
                    && !get("scope").is_empty();
                if !complete {
                    return respond(StatusCode::BAD_REQUEST, "{}".to_owned());
                }
                let code = self.secret("code");
                let mut back: url::Url = get("redirect_uri").parse().unwrap();
                back.query_pairs_mut().append_pair("code", &code).append_pair("state", &get("state"));
                let kept = Code { redirect_uri: get("redirect_uri"), challenge: get("code_challenge") };
                self.codes.insert(code, kept);
                let mut response = respond(StatusCode::FOUND, String::new());
                response.headers_mut().insert(header::LOCATION, back.as_str().parse().unwrap());
                response
            }
            ("POST", Some(what)) => {
                let form = pairs(body);
                let credentials =
                    base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
                let basic =
                    headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Basic {credentials}"));
                let (status, body) = match (basic, what) {
                    (false, _) => (StatusCode::UNAUTHORIZED, json!({ "error": "invalid_client" })),
                    (_, "token") => self.token(&form),
                    _ => self.revoke(&form),
                };
                respond(status, body.to_string())
            }
            _ => respond(StatusCode::NOT_FOUND, "{}".to_owned()),
        }
    }

    fn token(&mut self, form: &HashMap<String, String>) -> Answer {
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refresh = match get("grant_type") {
            "authorization_code" => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, get("code_verifier").as_bytes());
                let proof = URL_SAFE_NO_PAD.encode(digest);
                match self.codes.remove(get("code")) {
                    Some(code) if code.redirect_uri == get("redirect_uri") && code.challenge == proof => {
                        let refresh = self.secret("refresh");
                        self.grants.push(refresh.clone());
                        refresh
                    }
                    _ => return (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" })),
                }
            }
            "refresh_token" if self.grants.iter().any(|known| known == get("refresh_token")) => {
                get("refresh_token").to_owned()
            }
            _ => return (StatusCode::BAD_REQUEST, json!({ "error": "invalid_grant" })),
        };
        let access = self.secret("access");
        self.access.insert(access.clone(), (self.now + TOKEN_LIFE, refresh.clone()));
        let tokens = json!({
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "bearer",
            "expires_in": TOKEN_LIFE.as_secs(),
            "scope": "chirps.read chirps.write offline",
        });
        (StatusCode::OK, tokens)
    }

    fn revoke(&mut self, form: &HashMap<String, String>) -> Answer {
        let token = form.get("token").cloned().unwrap_or_default();
        self.grants.retain(|known| *known != token);
        self.access.retain(|access, (_, refresh)| *access != token && *refresh != token);
        (StatusCode::OK, json!({}))
    }

    fn api(
        &mut self,
        method: &Method,
        path: &[&str],
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = self.access.get(bearer.trim_start_matches("Bearer ")).is_some_and(|(end, _)| *end > self.now);
        if !known {
            return refusal(StatusCode::UNAUTHORIZED, "token_invalid", "This token is not valid.");
        }
        match (method.as_str(), path) {
            ("GET", ["v1", "me"]) => (StatusCode::OK, json!({ "id": USER.0, "handle": USER.1, "name": USER.2 })),
            ("GET", ["v1", "me", "numbers"]) => {
                (StatusCode::OK, json!({ "values": { "followers": 12, "posts": self.posted.len() } }))
            }
            ("POST", ["v1", "images"]) if body.is_empty() => {
                refusal(StatusCode::UNPROCESSABLE_ENTITY, "image_empty", "There is nothing in it.")
            }
            ("POST", ["v1", "images"]) => {
                let id = self.fresh("i");
                self.images.insert(id.clone(), self.now);
                (StatusCode::CREATED, json!({ "id": id, "state": "checking" }))
            }
            ("GET", ["v1", "images", id]) => match self.images.get(*id) {
                Some(at) => {
                    let state = if self.now < *at + LOOK { "checking" } else { "usable" };
                    (StatusCode::OK, json!({ "id": id, "state": state }))
                }
                None => refusal(StatusCode::NOT_FOUND, "unknown_image", "There is no such image."),
            },
            ("POST", ["v1", "chirps"]) => self.post(body),
            ("GET", ["v1", "users", _, "chirps"]) => {
                let seen = |chirp: &&Posted| {
                    self.now >= chirp.at + LIST_DELAY
                        && !chirp.deleted
                        && query.get("client_ref").is_none_or(|wanted| chirp.client_ref.as_ref() == Some(wanted))
                };
                let found: Vec<Value> = self
                    .posted
                    .iter()
                    .filter(seen)
                    .map(|chirp| json!({ "id": chirp.id, "text": chirp.text, "client_ref": chirp.client_ref }))
                    .collect();
                (StatusCode::OK, json!({ "chirps": found }))
            }
            ("GET", ["v1", "chirps", id, "numbers"]) if self.posted.iter().any(|chirp| chirp.id == *id) => {
                (StatusCode::OK, json!({ "values": { "likes": 3, "views": 41 } }))
            }
            ("DELETE", ["v1", "chirps", id]) => {
                match self.posted.iter_mut().find(|chirp| chirp.id == *id && !chirp.deleted) {
                    Some(chirp) => {
                        chirp.deleted = true;
                        (StatusCode::NO_CONTENT, Value::Null)
                    }
                    None => refusal(StatusCode::NOT_FOUND, "unknown_chirp", "There is no such chirp."),
                }
            }
            _ => refusal(StatusCode::NOT_FOUND, "unknown_address", "There is nothing here."),
        }
    }

    fn post(&mut self, body: &[u8]) -> Answer {
        let chirp: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = chirp["text"].as_str().unwrap_or_default().to_owned();
        let images = chirp["images"].as_array().cloned().unwrap_or_default();
        let usable = |image: &Value| {
            let at = image["id"].as_str().and_then(|id| self.images.get(id));
            at.is_some_and(|at| self.now >= *at + LOOK)
        };
        if (text.trim().is_empty() && images.is_empty()) || images.len() > 4 || !images.iter().all(usable) {
            return refusal(StatusCode::UNPROCESSABLE_ENTITY, "content_invalid", "This cannot be posted.");
        }
        let id = self.fresh("c");
        let client_ref = chirp["client_ref"].as_str().map(str::to_owned);
        self.posted.push(Posted {
            id: id.clone(),
            text,
            images: images.len(),
            deleted: false,
            client_ref,
            at: self.now,
        });
        (StatusCode::CREATED, json!({ "id": id }))
    }
}
