//! A network in memory that does what a test tells it: for tests of the engine, the driver and servers, where no HTTP is wanted.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use social_core::{
    Account, AccountKind, AccountProfile, CallContext, Checkpoint, Draft, Error, ErrorKind, PlatformDescriptor,
    PlatformId, PublishContext, RemotePost, RemotePostId, TokenSet,
    descriptor::{
        Abilities, ClientAuth, LinkRules, MediaRule, MediaRules, MediaTransport, OAuthFacts, Pkce, PublishFlow,
        RefreshStyle, ScopePreset, TextRules, TokenFacts,
    },
    media::MediaKind,
    platform::{
        Authorization, AuthorizeRequest, Committed, Connect, Deleted, PendingAuthorization, Platform, Prepared,
        Publish, Reconciled, Settled,
    },
    secret::{AccessToken, AuthCode, RefreshToken},
    text::TextUnit,
    time::{later, signed},
};
use tokio::sync::Notify;

/// What the network does at the next call of a kind, instead of the ordinary.
#[derive(Debug)]
pub enum Turn {
    /// Fails with this error before any effect.
    Fail(Error),
    /// Has its effect and then fails with this error: the answer is lost.
    FailAfter(Error),
    /// Never answers.
    Hang,
    /// Panics: an adapter with a fault.
    Panic,
    /// Answers to `prepare` or `settle`: look again after so long. Answers to `refresh` after so long.
    Wait(Duration),
    /// Answers to `reconcile`.
    Say(Reconciled),
    /// Does the ordinary.
    Pass,
}

/// Something that the fake network shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakePost {
    /// Its id.
    pub id: String,
    /// On which account.
    pub account: String,
    /// What it says.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    posts: Vec<FakePost>,
    turns: HashMap<&'static str, VecDeque<Turn>>,
    calls: Vec<&'static str>,
    busy: HashMap<String, usize>,
    most_busy: usize,
    dead_tokens: Vec<String>,
    refreshes: usize,
}

/// The network behind a [`FakePlatform`]; clones are the same network.
#[derive(Debug, Clone, Default)]
pub struct FakeNetwork {
    state: Arc<Mutex<State>>,
    called: Arc<Notify>,
}

impl FakeNetwork {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything visible, in order.
    #[must_use]
    pub fn posts(&self) -> Vec<FakePost> {
        self.lock().posts.clone()
    }

    /// What the next call of `kind` (`prepare`, `commit`, `settle`, `reconcile`, `refresh`, `delete`) does; several queue up.
    pub fn next(&self, kind: &'static str, turn: Turn) {
        self.lock().turns.entry(kind).or_default().push_back(turn);
    }

    /// How often a kind of call was made.
    #[must_use]
    pub fn calls(&self, kind: &str) -> usize {
        self.lock().calls.iter().filter(|call| **call == kind).count()
    }

    /// The most visible calls that were under way on one account at a time.
    #[must_use]
    pub fn most_busy(&self) -> usize {
        self.lock().most_busy
    }

    /// Refuses this access token from now on.
    pub fn kill_token(&self, access: &str) {
        self.lock().dead_tokens.push(access.to_owned());
    }

    /// Completes at the next call of any kind.
    pub async fn called(&self) {
        self.called.notified().await;
    }

    fn turn(&self, kind: &'static str) -> Turn {
        let mut state = self.lock();
        state.calls.push(kind);
        let turn = state.turns.get_mut(kind).and_then(VecDeque::pop_front).unwrap_or(Turn::Pass);
        drop(state);
        self.called.notify_waiters();
        assert!(!matches!(turn, Turn::Panic), "a fault in an adapter");
        turn
    }

    fn show(&self, account: &Account, text: &str) -> RemotePost {
        let mut state = self.lock();
        let id = format!("fake-{}", state.posts.len() + 1);
        state.posts.push(FakePost {
            id: id.clone(),
            account: account.profile.remote_id.clone(),
            text: text.to_owned(),
        });
        let permalink = format!("https://fake.example/{id}");
        RemotePost::new(id, permalink)
    }

    fn accepts(&self, tokens: &TokenSet, operation: &'static str) -> Result<(), Error> {
        let dead = self.lock().dead_tokens.iter().any(|dead| dead == tokens.access.expose());
        if dead { Err(Error::new(ErrorKind::Reconnect, operation).effect_none()) } else { Ok(()) }
    }
}

/// An adapter for a [`FakeNetwork`].
#[derive(Debug)]
pub struct FakePlatform {
    descriptor: PlatformDescriptor,
    network: FakeNetwork,
    accounts: usize,
    settles: bool,
}

impl FakePlatform {
    /// An adapter named `id` for a network on which a login reaches two accounts.
    #[must_use]
    pub fn new(id: &'static str, network: FakeNetwork) -> Self {
        Self { descriptor: facts(id), network, accounts: 2, settles: false }
    }

    /// A login reaches so many accounts.
    #[must_use]
    pub fn accounts(mut self, accounts: usize) -> Self {
        self.accounts = accounts;
        self
    }

    /// Posts need a settling step after the visible call.
    #[must_use]
    pub fn settling(mut self) -> Self {
        self.settles = true;
        self.descriptor.flow.settles = true;
        self
    }

    /// Changes facts.
    #[must_use]
    pub fn facts(mut self, change: impl FnOnce(&mut PlatformDescriptor)) -> Self {
        change(&mut self.descriptor);
        self
    }

    fn fresh_tokens(&self, cx: &CallContext) -> TokenSet {
        let number = {
            let mut state = self.network.lock();
            state.refreshes += 1;
            state.refreshes
        };
        let access = AccessToken::new(format!("fake-access-{number}")).expect("a usable token");
        let mut tokens = TokenSet::bearer(access, Some(Duration::from_secs(7200)), cx.now());
        tokens.refresh = Some(RefreshToken::new(format!("fake-refresh-{number}")).expect("a usable token"));
        tokens.scopes = self.descriptor.oauth.presets[0].scopes.clone();
        tokens
    }
}

fn facts(id: &'static str) -> PlatformDescriptor {
    let preset = |name: &str| ScopePreset {
        name: name.into(),
        purpose: "Posting.".into(),
        scopes: vec!["read".into(), "write".into()],
    };
    PlatformDescriptor {
        id: PlatformId::from_static(id),
        name: format!("Fake {id}"),
        api_version: "1".into(),
        checked_on: "2026-11-22".into(),
        docs: "https://fake.example/docs".into(),
        oauth: OAuthFacts {
            authorize_url: "https://fake.example/authorize".into(),
            token_url: "https://fake.example/token".into(),
            revoke_url: Some("https://fake.example/revoke".into()),
            pkce: Pkce::S256,
            client_auth: ClientAuth::Basic,
            scope_separator: ' ',
            presets: vec![preset("default")],
        },
        tokens: TokenFacts { access_life_s: Some(7200), refresh_life_s: None, refresh: RefreshStyle::Rotating },
        text: TextRules {
            max: 100,
            unit: TextUnit::Scalars,
            required_without_media: true,
            max_thread_parts: 5,
            first_comment_max: None,
        },
        media: MediaRules {
            kinds: vec![MediaRule::new(MediaKind::Image, 2, &["image/png"])],
            mixing: false,
            transport: MediaTransport::Upload,
            alt_text_max: Some(50),
        },
        link: LinkRules::InText,
        flow: PublishFlow {
            settles: false,
            reconciles: true,
            container_life_s: None,
            native_scheduling: false,
            commit_deadline_s: 10,
            max_in_flight: 1000,
            reconcile_after_s: 30,
        },
        limits: Vec::new(),
        abilities: Abilities { delete: true, thread: true, ..Abilities::default() },
    }
}

/// How far a fake post got: which part comes next, and whether it was prepared.
type Step = (usize, bool);

fn step(at: Option<&Checkpoint>) -> Step {
    at.and_then(|at| at.read(1)).unwrap_or((0, false))
}

fn parts(draft: &Draft) -> Vec<String> {
    std::iter::once(draft.text.clone()).chain(draft.thread.clone()).collect()
}

impl Platform for FakePlatform {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    fn connect(&self) -> &dyn Connect {
        self
    }

    fn publish(&self) -> &dyn Publish {
        self
    }
}

#[async_trait]
impl Connect for FakePlatform {
    async fn authorize(&self, _cx: &CallContext, request: &AuthorizeRequest) -> Result<Authorization, Error> {
        let preset = self.descriptor.oauth.preset(request.preset.as_deref());
        let preset = preset.ok_or_else(|| Error::invalid("oauth.authorize", "there is no such preset"))?;
        let mut url: url::Url = self.descriptor.oauth.authorize_url.parse().expect("a literal address");
        url.query_pairs_mut()
            .append_pair("state", request.state.expose())
            .append_pair("redirect_uri", request.redirect_uri.as_str());
        let pending = PendingAuthorization {
            platform: self.descriptor.id.clone(),
            redirect_uri: request.redirect_uri.clone(),
            preset: preset.name.clone(),
            requested_scopes: preset.scopes.clone(),
            verifier: None,
            extras: BTreeMap::new(),
        };
        Ok(Authorization { url, pending })
    }

    async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        _pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error> {
        if code.same("bad-code") {
            return Err(Error::new(ErrorKind::Rejected, "oauth.exchange").effect_none());
        }
        Ok(self.fresh_tokens(cx))
    }

    async fn refresh(&self, cx: &CallContext, _current: &TokenSet) -> Result<TokenSet, Error> {
        let turn = self.network.turn("refresh");
        tokio::task::yield_now().await;
        match turn {
            Turn::Fail(error) | Turn::FailAfter(error) => Err(error),
            Turn::Hang => std::future::pending().await,
            Turn::Wait(after) => {
                let tokens = self.fresh_tokens(cx);
                cx.clock().sleep_until(later(cx.now(), signed(after))).await;
                Ok(tokens)
            }
            _ => Ok(self.fresh_tokens(cx)),
        }
    }

    async fn revoke(&self, _cx: &CallContext, current: &TokenSet) -> Result<(), Error> {
        self.network.kill_token(current.access.expose());
        Ok(())
    }

    async fn accounts(&self, _cx: &CallContext, current: &TokenSet) -> Result<Vec<AccountProfile>, Error> {
        self.network.accepts(current, "connect.accounts")?;
        let profile = |number: usize| AccountProfile {
            remote_id: format!("{}-{number}", self.descriptor.id),
            kind: AccountKind::Profile,
            handle: Some(format!("fake{number}")),
            display_name: format!("Fake {number}"),
            avatar_url: None,
            attributes: BTreeMap::new(),
        };
        Ok((0..self.accounts).map(profile).collect())
    }
}

#[async_trait]
impl Publish for FakePlatform {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }

    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        self.network.accepts(cx.tokens, "publish.prepare")?;
        let (part, prepared) = step(from.as_ref());
        let part = part.max(cx.parts.len());
        match self.network.turn("prepare") {
            Turn::Fail(error) | Turn::FailAfter(error) => Err(error),
            Turn::Hang => std::future::pending().await,
            Turn::Wait(poll_after) => Ok(Prepared::Wait { at: Checkpoint::write(1, &(part, false)), poll_after }),
            // A post with media takes a step of its own, which is written down.
            _ if !prepared && !cx.draft.media.is_empty() => Ok(Prepared::Again(Checkpoint::write(1, &(part, true)))),
            _ => Ok(Prepared::Ready(Checkpoint::write(1, &(part, true)))),
        }
    }

    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error> {
        self.network.accepts(cx.tokens, "publish.commit")?;
        let account = cx.account.profile.remote_id.clone();
        {
            let mut state = self.network.lock();
            let busy = state.busy.entry(account.clone()).or_default();
            *busy += 1;
            let busy = *busy;
            state.most_busy = state.most_busy.max(busy);
        }
        let turn = self.network.turn("commit");
        tokio::task::yield_now().await;
        let (part, _) = step(Some(&ready));
        let texts = parts(cx.draft);
        let outcome = match turn {
            Turn::Hang => std::future::pending().await,
            Turn::Fail(error) => Err(error),
            Turn::FailAfter(error) => {
                self.network.show(cx.account, &texts[part]);
                Err(error)
            }
            _ => {
                let remote = self.network.show(cx.account, &texts[part]);
                let next = Checkpoint::write(1, &(part + 1, false));
                Ok(match () {
                    () if self.settles => Committed::Settling { at: ready, poll_after: Duration::from_secs(5) },
                    () if part + 1 < texts.len() => Committed::Next { at: next, part: remote },
                    () => Committed::Published(remote),
                })
            }
        };
        if let Some(busy) = self.network.lock().busy.get_mut(&account) {
            *busy -= 1;
        }
        outcome
    }

    async fn settle(&self, cx: &PublishContext<'_>, from: Checkpoint) -> Result<Settled, Error> {
        match self.network.turn("settle") {
            Turn::Fail(error) => Err(error),
            Turn::FailAfter(error) => Ok(Settled::Rejected(error)),
            Turn::Hang => std::future::pending().await,
            Turn::Wait(poll_after) => Ok(Settled::Wait { at: from, poll_after }),
            _ => {
                let text = &parts(cx.draft)[step(Some(&from)).0];
                let post = self.network.posts().into_iter().rev().find(|post| &post.text == text);
                Ok(Settled::Published(
                    post.map_or_else(RemotePost::unknown, |post| RemotePost::new(post.id, "https://fake.example/")),
                ))
            }
        }
    }

    async fn reconcile(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        match self.network.turn("reconcile") {
            Turn::Fail(error) | Turn::FailAfter(error) => Err(error),
            Turn::Hang => std::future::pending().await,
            Turn::Say(answer) => Ok(answer),
            Turn::Wait(after) => Ok(Reconciled::AskAgain { at: ready, after }),
            Turn::Pass | Turn::Panic => {
                let (part, _) = step(Some(&ready));
                let texts = parts(cx.draft);
                let mine = |post: &FakePost| {
                    post.text == texts[part]
                        && post.account == cx.account.profile.remote_id
                        && !cx.taken.contains(&post.id)
                };
                let Some(post) = self.network.posts().into_iter().find(mine) else {
                    return Ok(Reconciled::NotPublished);
                };
                let remote = RemotePost::new(post.id, "https://fake.example/");
                Ok(if part + 1 < texts.len() {
                    Reconciled::Next { at: Checkpoint::write(1, &(part + 1, false)), part: remote }
                } else {
                    Reconciled::Published(remote)
                })
            }
        }
    }

    async fn delete(
        &self,
        _cx: &CallContext,
        _tokens: &TokenSet,
        _account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error> {
        match self.network.turn("delete") {
            Turn::Fail(error) | Turn::FailAfter(error) => return Err(error),
            Turn::Hang => std::future::pending().await,
            _ => {}
        }
        let mut state = self.network.lock();
        let before = state.posts.len();
        state.posts.retain(|post| post.id != id.as_str());
        Ok(if state.posts.len() < before { Deleted::Now } else { Deleted::Before })
    }
}
