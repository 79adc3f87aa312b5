//! A LinkedIn that answers what a test says, and a delivery to publish there.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use social_core::{
    AccessToken, Account, AccountId, AccountKind, AccountProfile, AccountStatus, CallContext, Checkpoint, Committed,
    ConnectionId, DeliveryId, Draft, Error, MediaId, MediaRef, Prepared, Publish as _, PublishContext, Reconciled,
    RemotePost, TokenSet, UserId,
    draft::StoredMedia,
    http::Http,
    library::{MediaLibrary, MemoryLibrary},
    media::{BytesSource, MediaFacts, MediaKind, measure},
    time::{Clock as _, ManualClock, SeededChance},
};
use social_linkedin::LinkedIn;
use wiremock::{Match, Mock, MockServer, Request, ResponseTemplate, matchers};

pub(crate) const TOKEN: &str = "marker-access-token";
pub(crate) const MEMBER: &str = "urn:li:person:782bbtaQ";
pub(crate) const PAGE: &str = "urn:li:organization:2414183";
pub(crate) const SHARE: &str = "urn:li:share:7400000000000000001";
const START: &str = "2026-11-22T09:00:00Z";

pub(crate) struct Net {
    pub(crate) server: MockServer,
    pub(crate) linkedin: LinkedIn,
    pub(crate) clock: ManualClock,
    pub(crate) call: CallContext,
    pub(crate) library: Arc<dyn MediaLibrary>,
}

impl Net {
    pub(crate) async fn start() -> Self {
        Self::with_library(Arc::new(MemoryLibrary::default())).await
    }

    pub(crate) async fn with_library(library: Arc<dyn MediaLibrary>) -> Self {
        let server = MockServer::start().await;
        let base = format!("{}/linkedin", server.uri()).parse().unwrap();
        let linkedin = LinkedIn::builder("client-1", "marker-client-secret").base_url(base).build().unwrap();
        let clock = ManualClock::at(START.parse().unwrap());
        let shared = Arc::new(clock.clone());
        let call = CallContext::new(Http::new(shared.clone()).unwrap(), shared, Arc::new(SeededChance::new(1)));
        Self { server, linkedin, clock, call, library }
    }

    /// An address on this LinkedIn.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/linkedin/{path}", self.server.uri())
    }

    /// Answers calls of a method whose raw path ends like this; newer answers go before older ones.
    pub(crate) async fn on(&self, method: &str, path: &str, answer: ResponseTemplate) {
        self.on_times(method, path, answer, None).await;
    }

    pub(crate) async fn once(&self, method: &str, path: &str, answer: ResponseTemplate) {
        self.on_times(method, path, answer, Some(1)).await;
    }

    async fn on_times(&self, method: &str, path: &str, answer: ResponseTemplate, times: Option<u64>) {
        let mut mock =
            Mock::given(matchers::method(method)).and(RawPath(format!("/linkedin/{path}"))).respond_with(answer);
        // A limited answer goes before one that holds for good.
        mock = mock.with_priority(if times.is_some() { 1 } else { 5 });
        if let Some(times) = times {
            mock = mock.up_to_n_times(times);
        }
        mock.mount(&self.server).await;
    }

    /// What was asked, as `METHOD path?query`, in order.
    pub(crate) async fn asked(&self) -> Vec<String> {
        self.requests().await.iter().map(line).collect()
    }

    pub(crate) async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    /// The requests whose line begins like this.
    pub(crate) async fn sent(&self, beginning: &str) -> Vec<Request> {
        self.requests().await.into_iter().filter(|request| line(request).starts_with(beginning)).collect()
    }

    pub(crate) async fn keep(&self, bytes: Vec<u8>) -> MediaRef {
        let bytes = Bytes::from(bytes);
        let facts = measure(&BytesSource::new(bytes.clone())).await.unwrap();
        let id = MediaId::new();
        self.library.put(id, bytes).await.unwrap();
        MediaRef::Stored(StoredMedia { id, facts })
    }

    pub(crate) fn delivery(&self, account: Account, draft: Draft) -> Delivery<'_> {
        let scopes: &[&str] = match account.profile.kind {
            AccountKind::Organization => &["w_organization_social", "r_organization_social", "rw_organization_admin"],
            _ => &["openid", "profile", "w_member_social"],
        };
        Delivery {
            net: self,
            id: DeliveryId::new(),
            draft: draft.resolve(&account.platform, account.id),
            tokens: tokens(scopes),
            account,
            parts: Vec::new(),
            attempted_at: self.clock.now(),
            prepared_again: false,
            taken: HashSet::new(),
        }
    }
}

/// The path as it was sent, percent-encoding included.
struct RawPath(String);

impl Match for RawPath {
    fn matches(&self, request: &Request) -> bool {
        request.url.path() == self.0
    }
}

pub(crate) fn line(request: &Request) -> String {
    let path = request.url.path().trim_start_matches("/linkedin/");
    let query = request.url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{} {path}{query}", request.method)
}

pub(crate) fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// Fails unless the headers are those of the versioned interface.
pub(crate) fn assert_versioned(request: &Request) {
    let told = line(request);
    assert_eq!(header(request, "authorization"), Some("Bearer marker-access-token"), "{told}");
    assert_eq!(header(request, "linkedin-version"), Some("202609"), "{told}");
    assert_eq!(header(request, "x-restli-protocol-version"), Some("2.0.0"), "{told}");
    if !request.body.is_empty() {
        assert_eq!(header(request, "content-type"), Some("application/json"), "{told}");
    }
}

pub(crate) fn tokens(scopes: &[&str]) -> TokenSet {
    let mut tokens = TokenSet::bearer(AccessToken::new(TOKEN).unwrap(), None, START.parse().unwrap());
    tokens.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    tokens
}

pub(crate) fn member() -> Account {
    account(AccountKind::Member, "782bbtaQ", MEMBER)
}

pub(crate) fn page() -> Account {
    account(AccountKind::Organization, "2414183", PAGE)
}

fn account(kind: AccountKind, id: &str, author: &str) -> Account {
    Account {
        id: AccountId::new(),
        user: UserId::new(),
        connection: ConnectionId::new(),
        platform: social_core::PlatformId::from_static("linkedin"),
        profile: AccountProfile {
            remote_id: id.to_owned(),
            kind,
            handle: None,
            display_name: "Ada L".to_owned(),
            avatar_url: None,
            attributes: [("author".to_owned(), author.to_owned())].into(),
        },
        status: AccountStatus::Active,
        created_at: START.parse().unwrap(),
    }
}

/// A draft with LinkedIn's options.
pub(crate) fn with_options(draft: Draft, options: Value) -> Draft {
    draft.option(social_core::PlatformId::from_static("linkedin"), options)
}

pub(crate) fn created(urn: &str) -> ResponseTemplate {
    ResponseTemplate::new(201).insert_header("x-restli-id", urn)
}

pub(crate) fn fault(status: u16, code: &str, message: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "status": status, "code": code, "message": message }))
}

pub(crate) struct Delivery<'n> {
    pub(crate) net: &'n Net,
    id: DeliveryId,
    pub(crate) account: Account,
    pub(crate) tokens: TokenSet,
    pub(crate) draft: Draft,
    pub(crate) parts: Vec<RemotePost>,
    pub(crate) attempted_at: Timestamp,
    pub(crate) prepared_again: bool,
    pub(crate) taken: HashSet<String>,
}

impl Delivery<'_> {
    fn cx(&self) -> PublishContext<'_> {
        let mut cx = PublishContext::new(
            &self.net.call,
            self.id,
            &self.account,
            &self.tokens,
            &self.draft,
            &self.parts,
            self.attempted_at,
            &self.taken,
            &*self.net.library,
        );
        cx.prepared_again = self.prepared_again;
        cx
    }

    pub(crate) async fn prepare(&self, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        self.net.linkedin.prepare(&self.cx(), from.map(reread)).await
    }

    /// Prepares until it may be committed, as the driver does; the waits are counted.
    pub(crate) async fn ready_from(&self, mut from: Option<Checkpoint>) -> Result<(Checkpoint, Vec<Duration>), Error> {
        let mut waits = Vec::new();
        for _ in 0..100 {
            match self.prepare(from).await? {
                Prepared::Again(at) => from = Some(at),
                Prepared::Wait { at, poll_after } => {
                    waits.push(poll_after);
                    self.net.clock.advance(poll_after);
                    from = Some(at);
                }
                Prepared::Ready(at) => return Ok((at, waits)),
            }
        }
        panic!("never ready: {:?}", self.net.asked().await);
    }

    pub(crate) async fn ready(&self) -> Checkpoint {
        self.ready_from(None).await.unwrap().0
    }

    pub(crate) async fn commit(&self, at: Checkpoint) -> Result<Committed, Error> {
        self.net.linkedin.commit(&self.cx(), reread(at)).await
    }

    pub(crate) async fn reconcile(&self, at: Checkpoint) -> Result<Reconciled, Error> {
        self.net.linkedin.reconcile(&self.cx(), reread(at)).await
    }

    /// Prepares and commits, and gives the body of the create.
    pub(crate) async fn post(&self) -> Value {
        let at = self.ready().await;
        let _ = self.commit(at).await.unwrap();
        body(self.net.sent("POST rest/posts").await.last().unwrap())
    }
}

/// A checkpoint after it was in a store.
fn reread(at: Checkpoint) -> Checkpoint {
    serde_json::from_str(&serde_json::to_string(&at).unwrap()).unwrap()
}

/// Facts of a file that nobody looks into.
pub(crate) fn facts(kind: MediaKind, mime: &str, size_bytes: u64) -> MediaFacts {
    MediaFacts {
        kind,
        mime: mime.to_owned(),
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
