//! A world in which the adapter can be driven: a server, a clock that stands still, an account, a media library.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use social_core::{
    AccessToken, Account, AccountId, AccountKind, AccountProfile, AccountStatus, Attachment, CallContext, Checkpoint,
    ConnectionId, DeliveryId, Draft, Error, MediaId, Prepared, Publish, PublishContext, RefreshToken, RemotePost,
    TokenSet, UserId,
    draft::StoredMedia,
    http::Http,
    library::{MediaLibrary, MemoryLibrary},
    media::{MediaFacts, MediaKind},
    time::{Clock, ManualClock, SeededChance},
};
use social_x::{X, XBuilder};
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers};

pub(crate) const MIB: usize = 1024 * 1024;

pub(crate) struct World {
    pub(crate) server: MockServer,
    pub(crate) x: X,
    pub(crate) clock: ManualClock,
    pub(crate) call: CallContext,
    pub(crate) account: Account,
    pub(crate) tokens: TokenSet,
    pub(crate) library: MemoryLibrary,
    pub(crate) parts: Vec<RemotePost>,
    pub(crate) taken: HashSet<String>,
    pub(crate) attempted_at: Timestamp,
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

pub(crate) fn profile(subscription: Option<&str>) -> AccountProfile {
    let attributes: BTreeMap<String, String> =
        subscription.map(|level| ("subscription_type".to_owned(), level.to_owned())).into_iter().collect();
    AccountProfile {
        remote_id: "42".into(),
        kind: AccountKind::Profile,
        handle: Some("shop".into()),
        display_name: "Shop".into(),
        avatar_url: None,
        attributes,
    }
}

pub(crate) fn facts(kind: MediaKind, mime: &str, size_bytes: u64) -> MediaFacts {
    MediaFacts {
        kind,
        mime: mime.into(),
        size_bytes,
        width: None,
        height: None,
        duration_ms: None,
        frames: None,
        video_codec: None,
        audio_codec: None,
        frame_rate_milli: None,
        sha256: None,
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::built(|builder| builder).await
    }

    pub(crate) async fn built(change: impl FnOnce(XBuilder) -> XBuilder) -> Self {
        let server = MockServer::start().await;
        let clock = ManualClock::at(now());
        let base = server.uri().parse().unwrap();
        let x = change(X::builder("client-1", "secret-1").base_url(base)).build().unwrap();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let call = CallContext::new(Http::new(Arc::clone(&shared)).unwrap(), shared, Arc::new(SeededChance::new(1)));
        let account = Account {
            id: AccountId::new(),
            user: UserId::new(),
            connection: ConnectionId::new(),
            platform: X::ID,
            profile: profile(None),
            status: AccountStatus::Active,
            created_at: now(),
        };
        let mut tokens = TokenSet::bearer(AccessToken::new("access-1").unwrap(), None, now());
        tokens.refresh = RefreshToken::parse("refresh-1");
        Self {
            server,
            x,
            clock,
            call,
            account,
            tokens,
            library: MemoryLibrary::default(),
            parts: Vec::new(),
            taken: HashSet::new(),
            attempted_at: now(),
        }
    }

    pub(crate) fn cx<'a>(&'a self, draft: &'a Draft) -> PublishContext<'a> {
        PublishContext::new(
            &self.call,
            DeliveryId::new(),
            &self.account,
            &self.tokens,
            draft,
            &self.parts,
            self.attempted_at,
            &self.taken,
            &self.library,
        )
    }

    /// Puts a file into the library.
    pub(crate) async fn file(&self, kind: MediaKind, mime: &str, bytes: Vec<u8>, alt_text: Option<&str>) -> Attachment {
        let stored = StoredMedia { id: MediaId::new(), facts: facts(kind, mime, bytes.len() as u64) };
        self.library.put(stored.id, bytes.into()).await.unwrap();
        Attachment { media: stored.into(), alt_text: alt_text.map(str::to_owned), title: None }
    }

    /// Prepares to the end. Gives the checkpoints of all steps; the last one is ready.
    pub(crate) async fn prepare_from(
        &self,
        draft: &Draft,
        mut from: Option<Checkpoint>,
    ) -> Result<Vec<Checkpoint>, Error> {
        let mut steps = Vec::new();
        for _ in 0..100 {
            let (at, ready) = match self.x.prepare(&self.cx(draft), from.take()).await? {
                Prepared::Again(at) => (at, false),
                Prepared::Wait { at, poll_after } => {
                    self.clock.advance(poll_after);
                    (at, false)
                }
                Prepared::Ready(at) => (at, true),
            };
            steps.push(at.clone());
            if ready {
                return Ok(steps);
            }
            from = Some(at);
        }
        panic!("preparation does not end");
    }

    pub(crate) async fn ready(&self, draft: &Draft) -> Checkpoint {
        self.prepare_from(draft, None).await.unwrap().pop().unwrap()
    }

    pub(crate) async fn mount(&self, method: &str, path: &str, answer: ResponseTemplate) {
        Mock::given(matchers::method(method)).and(matchers::path(path)).respond_with(answer).mount(&self.server).await;
    }

    /// As [`mount`](Self::mount), but for the next `times` requests only and before whatever else is mounted.
    pub(crate) async fn mount_first(&self, method: &str, path: &str, times: u64, answer: ResponseTemplate) {
        let mock = Mock::given(matchers::method(method)).and(matchers::path(path)).respond_with(answer);
        mock.up_to_n_times(times).with_priority(1).mount(&self.server).await;
    }

    pub(crate) async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    /// `METHOD path` of every request.
    pub(crate) async fn calls(&self) -> Vec<String> {
        self.requests().await.iter().map(|request| format!("{} {}", request.method, request.url.path())).collect()
    }

    /// Bodies of the posts that were sent.
    pub(crate) async fn posts(&self) -> Vec<Value> {
        let is_post = |request: &&Request| request.method == "POST" && request.url.path() == "/2/tweets";
        self.requests().await.iter().filter(is_post).map(|request| request.body_json().unwrap()).collect()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Mounts an X in which everything goes well. Posts get the ids 1001, 1002, ..., pictures 2001, ..., other files 3001, ....
    pub(crate) async fn all_goes_well(&self) {
        self.posts_go_well().await;
        let count = Arc::new(AtomicU64::new(2000));
        let upload = move |_: &Request| {
            let id = (count.fetch_add(1, Ordering::SeqCst) + 1).to_string();
            answer(
                200,
                json!({"data": {"id": id, "media_key": format!("3_{id}"), "size": 3, "expires_after_secs": 86400}}),
            )
        };
        let count = Arc::new(AtomicU64::new(3000));
        let initialize = move |_: &Request| {
            let id = (count.fetch_add(1, Ordering::SeqCst) + 1).to_string();
            answer(200, json!({"data": {"id": id, "media_key": format!("13_{id}"), "expires_after_secs": 1_295_999}}))
        };
        let finalize = |request: &Request| {
            let id = request.url.path().split('/').nth(4).unwrap().to_owned();
            let info = json!({"state": "pending", "check_after_secs": 1});
            answer(200, json!({"data": {"id": id, "expires_after_secs": 86400, "processing_info": info}}))
        };
        let status = |request: &Request| {
            let id = request.url.query_pairs().find(|(name, _)| name == "media_id").unwrap().1.into_owned();
            answer(200, json!({"data": {"id": id, "processing_info": {"state": "succeeded", "progress_percent": 100}}}))
        };
        let append = |_: &Request| answer(200, json!({"data": {"expires_at": 1_795_900_000}}));
        let metadata = |_: &Request| answer(200, json!({"data": {"id": "1"}}));
        let on = |method: &str, path: &str| {
            Mock::given(matchers::method(method)).and(matchers::path_regex(format!("^{path}$")))
        };
        on("POST", "/2/media/upload").respond_with(upload).mount(&self.server).await;
        on("POST", "/2/media/upload/initialize").respond_with(initialize).mount(&self.server).await;
        on("POST", "/2/media/upload/[0-9]+/append").respond_with(append).mount(&self.server).await;
        on("POST", "/2/media/upload/[0-9]+/finalize").respond_with(finalize).mount(&self.server).await;
        on("GET", "/2/media/upload").respond_with(status).mount(&self.server).await;
        on("POST", "/2/media/metadata").respond_with(metadata).mount(&self.server).await;
    }

    pub(crate) async fn posts_go_well(&self) {
        let count = Arc::new(AtomicU64::new(1000));
        let create = move |_: &Request| {
            let id = (count.fetch_add(1, Ordering::SeqCst) + 1).to_string();
            answer(201, json!({"data": {"id": id, "text": "…", "edit_history_tweet_ids": [id]}}))
        };
        Mock::given(matchers::method("POST"))
            .and(matchers::path("/2/tweets"))
            .respond_with(create)
            .mount(&self.server)
            .await;
    }
}

pub(crate) fn answer(status: u16, body: Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

pub(crate) fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Fields of a multipart body by name.
pub(crate) fn multipart(request: &Request) -> BTreeMap<String, Vec<u8>> {
    let boundary = header(request, "content-type").split("boundary=").nth(1).expect("a boundary");
    let mark = format!("--{boundary}").into_bytes();
    let body = &request.body;
    let dashes = body.iter().enumerate().filter(|(_, byte)| **byte == b'-').map(|(at, _)| at);
    let starts: Vec<usize> = dashes.filter(|&at| body[at..].starts_with(&mark)).collect();
    let mut fields = BTreeMap::new();
    for pair in starts.windows(2) {
        let piece = &body[pair[0] + mark.len() + 2..pair[1] - 2];
        let head_end = piece.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
        let head = String::from_utf8_lossy(&piece[..head_end]);
        let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a name").to_owned();
        fields.insert(name, piece[head_end + 4..].to_vec());
    }
    fields
}
