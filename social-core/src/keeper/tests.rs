use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use jiff::SignedDuration;

use super::*;
use crate::{
    account::{Account, AccountProfile, Connection},
    context::PublishContext,
    descriptor::{
        Abilities, ClientAuth, LinkRules, MediaRules, MediaTransport, OAuthFacts, Pkce, PlatformDescriptor,
        PublishFlow, TextRules, TokenFacts,
    },
    error::{Effect, Retry},
    http::Http,
    id::RemotePostId,
    phase::Checkpoint,
    platform::{
        Authorization, AuthorizeRequest, Committed, Connect, Deleted, PendingAuthorization, Prepared, Publish,
        Reconciled, Settled,
    },
    secret::{AccessToken, AuthCode, RefreshToken},
    store::{NewConnection, SealedTokens, Swap, TokenUpdate},
    text::TextUnit,
    time::{BoxFuture, Clock, SeededChance},
    vault::KeyRing,
};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

// ---- a clock that follows tokio's paused time ----

#[derive(Debug)]
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        later(start, signed(self.0.elapsed()))
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = positive(at.duration_since(self.now())).unwrap_or_default();
        Box::pin(tokio::time::sleep(wait))
    }
}

// ---- a network with rotation and a reuse rule ----

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The answer is lost; the network did nothing.
    LostBefore,
    /// The answer is lost; the network has rotated.
    LostAfter,
    Status(ErrorKind, Option<u64>),
}

#[derive(Debug)]
struct Net {
    descriptor: PlatformDescriptor,
    calls: AtomicUsize,
    script: Mutex<VecDeque<Fault>>,
    /// Serial number of the living refresh token per grant; `None` once the family is revoked.
    grants: Mutex<HashMap<u32, Option<u32>>>,
    life: Duration,
}

impl Net {
    fn tokens(&self, grant: u32, serial: u32, now: Timestamp) -> TokenSet {
        let mut tokens =
            TokenSet::bearer(AccessToken::new(format!("a-{grant}-{serial}")).unwrap(), Some(self.life), now);
        if self.descriptor.tokens.refresh != RefreshStyle::None {
            tokens.refresh = RefreshToken::parse(format!("r-{grant}-{serial}"));
        }
        tokens
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn will(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().unwrap().extend(faults);
    }

    fn revoked(&self) -> usize {
        self.grants.lock().unwrap().values().filter(|serial| serial.is_none()).count()
    }
}

#[async_trait]
impl Connect for Net {
    async fn authorize(&self, _: &CallContext, _: &AuthorizeRequest) -> Result<Authorization, Error> {
        unreachable!()
    }
    async fn exchange(&self, _: &CallContext, _: AuthCode, _: &PendingAuthorization) -> Result<TokenSet, Error> {
        unreachable!()
    }
    async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.script.lock().unwrap().pop_front();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let error = |kind| Error::new(kind, "oauth.refresh");
        match fault {
            Some(Fault::LostBefore) => return Err(error(ErrorKind::Timeout)),
            Some(Fault::Status(kind, wait)) => {
                let status = Some(if kind == ErrorKind::Unavailable { 503 } else { 400 });
                let error = error(kind).provider(crate::error::ProviderError { status, ..Default::default() });
                let error = if kind == ErrorKind::Unavailable { error } else { error.effect_none() };
                return Err(match wait {
                    Some(wait) => error.retry_after(Duration::from_secs(wait)),
                    None => error,
                });
            }
            Some(Fault::LostAfter) | None => {}
        }
        let sent = current.refresh.as_ref().unwrap().expose().to_owned();
        let mut parts = sent.split('-').skip(1).map(|part| part.parse::<u32>().unwrap());
        let (grant, serial) = (parts.next().unwrap(), parts.next().unwrap());
        let renewed = {
            let mut grants = self.grants.lock().unwrap();
            let living = grants.entry(grant).or_insert(Some(0));
            if *living == Some(serial) {
                *living = Some(serial + 1);
                Some(serial + 1)
            } else {
                // Reuse of a token that was rotated away: the family dies.
                *living = None;
                None
            }
        };
        match (renewed, fault) {
            (None, _) => Err(error(ErrorKind::Reconnect).effect_none()),
            (Some(_), Some(_)) => Err(error(ErrorKind::Unavailable)),
            (Some(serial), None) => Ok(self.tokens(grant, serial, cx.now())),
        }
    }
    async fn revoke(&self, _: &CallContext, _: &TokenSet) -> Result<(), Error> {
        unreachable!()
    }
    async fn accounts(&self, _: &CallContext, _: &TokenSet) -> Result<Vec<AccountProfile>, Error> {
        unreachable!()
    }
}

#[async_trait]
impl Publish for Net {
    fn descriptor(&self) -> &PlatformDescriptor {
        &self.descriptor
    }
    async fn prepare(&self, _: &PublishContext<'_>, _: Option<Checkpoint>) -> Result<Prepared, Error> {
        unreachable!()
    }
    async fn commit(&self, _: &PublishContext<'_>, _: Checkpoint) -> Result<Committed, Error> {
        unreachable!()
    }
    async fn settle(&self, _: &PublishContext<'_>, _: Checkpoint) -> Result<Settled, Error> {
        unreachable!()
    }
    async fn reconcile(&self, _: &PublishContext<'_>, _: Checkpoint) -> Result<Reconciled, Error> {
        unreachable!()
    }
    async fn delete(&self, _: &CallContext, _: &TokenSet, _: &Account, _: &RemotePostId) -> Result<Deleted, Error> {
        unreachable!()
    }
}

impl Platform for Net {
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

fn descriptor(refresh: RefreshStyle) -> PlatformDescriptor {
    PlatformDescriptor {
        id: PlatformId::from_static("chirp"),
        name: "Chirp".into(),
        api_version: "1".into(),
        checked_on: "2026-11-22".into(),
        docs: String::new(),
        oauth: OAuthFacts {
            authorize_url: String::new(),
            token_url: String::new(),
            revoke_url: None,
            pkce: Pkce::S256,
            client_auth: ClientAuth::Basic,
            scope_separator: ' ',
            presets: Vec::new(),
        },
        tokens: TokenFacts { access_life_s: Some(7200), refresh_life_s: None, refresh },
        text: TextRules {
            max: 500,
            unit: TextUnit::Scalars,
            required_without_media: true,
            max_thread_parts: 1,
            first_comment_max: None,
        },
        media: MediaRules { kinds: Vec::new(), mixing: false, transport: MediaTransport::Upload, alt_text_max: None },
        link: LinkRules::InText,
        flow: PublishFlow {
            settles: false,
            reconciles: false,
            container_life_s: None,
            native_scheduling: false,
            commit_deadline_s: 30,
            max_in_flight: 10,
            reconcile_after_s: 30,
        },
        limits: Vec::new(),
        abilities: Abilities::default(),
    }
}

// ---- a store in memory ----

#[derive(Debug, Default)]
struct MemoryTokens {
    rows: Mutex<HashMap<ConnectionId, StoredTokens>>,
    gets: AtomicUsize,
    leases: AtomicUsize,
    broken: AtomicBool,
}

impl MemoryTokens {
    fn change<T>(&self, id: ConnectionId, seen: Version, change: impl FnOnce(&mut StoredTokens) -> T) -> Option<T> {
        let mut rows = self.rows.lock().unwrap();
        rows.get_mut(&id).filter(|row| row.connection.version == seen).map(change)
    }

    fn row(&self, id: ConnectionId) -> StoredTokens {
        self.rows.lock().unwrap()[&id].clone()
    }

    fn check(&self) -> Result<(), Error> {
        if self.broken.load(Ordering::SeqCst) { Err(Error::storage("test", "broken")) } else { Ok(()) }
    }
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn insert(&self, new: &NewConnection) -> Result<(), Error> {
        let row = StoredTokens {
            connection: new.connection.clone(),
            tokens: new.tokens.clone(),
            refresh_lease_until: None,
            refresh_intent_at: None,
            refresh_failures: 0,
        };
        self.rows.lock().unwrap().insert(new.connection.id, row);
        Ok(())
    }
    async fn get(&self, id: ConnectionId) -> Result<Option<StoredTokens>, Error> {
        self.check()?;
        self.gets.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(self.rows.lock().unwrap().get(&id).cloned())
    }
    async fn replace(&self, id: ConnectionId, seen: Version, new: &TokenUpdate) -> Result<Swap, Error> {
        self.check()?;
        tokio::task::yield_now().await;
        let done = self.change(id, seen, |row| {
            row.tokens = new.tokens.clone();
            row.connection.version = seen.next();
            row.connection.expires_at = new.expires_at;
            row.connection.refresh_expires_at = new.refresh_expires_at;
            row.connection.refreshable = new.refreshable;
            row.connection.granted_scopes.clone_from(&new.granted_scopes);
            row.connection.status = new.status;
            row.connection.updated_at = new.at;
            (row.refresh_lease_until, row.refresh_intent_at, row.refresh_failures) = (None, None, 0);
        });
        Ok(done.map_or(Swap::Stale, |()| Swap::Done))
    }
    async fn rewrap(&self, _: ConnectionId, _: Version, _: &SealedTokens, _: &SealedTokens) -> Result<Swap, Error> {
        unreachable!()
    }
    async fn not_sealed_by(&self, _: &str, _: Option<ConnectionId>, _: usize) -> Result<Vec<ConnectionId>, Error> {
        unreachable!()
    }
    async fn delete(&self, id: ConnectionId) -> Result<bool, Error> {
        Ok(self.rows.lock().unwrap().remove(&id).is_some())
    }
    async fn expiring(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, ConnectionId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ConnectionId)>, Error> {
        let rows = self.rows.lock().unwrap();
        let mut found: Vec<_> = rows
            .values()
            .filter(|row| row.connection.status != ConnectionStatus::NeedsReconnect)
            .filter_map(|row| row.connection.expires_at.filter(|end| *end < before).map(|end| (end, row.connection.id)))
            .collect();
        found.sort();
        Ok(found.into_iter().filter(|place| after.is_none_or(|after| *place > after)).take(limit).collect())
    }
    async fn lease_refresh(
        &self,
        id: ConnectionId,
        seen: Version,
        now: Timestamp,
        until: Timestamp,
        intent: bool,
    ) -> Result<RefreshLease, Error> {
        self.leases.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let lease = self.change(id, seen, |row| match row.refresh_lease_until {
            Some(until) if until > now => RefreshLease::Busy { until },
            _ => {
                row.refresh_lease_until = Some(until);
                if intent {
                    row.refresh_intent_at = Some(now);
                }
                RefreshLease::Won
            }
        });
        // The answer takes its time.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(lease.unwrap_or(RefreshLease::Stale))
    }
    async fn refresh_failed(
        &self,
        id: ConnectionId,
        seen: Version,
        free_at: Timestamp,
        doubtful: bool,
    ) -> Result<(), Error> {
        self.check()?;
        self.change(id, seen, |row| {
            row.refresh_lease_until = Some(free_at);
            row.refresh_failures += 1;
            if !doubtful {
                row.refresh_intent_at = None;
            }
        });
        Ok(())
    }
    async fn set_connection_status(
        &self,
        id: ConnectionId,
        seen: Version,
        status: ConnectionStatus,
        _: Timestamp,
    ) -> Result<Swap, Error> {
        self.check()?;
        let done = self.change(id, seen, |row| row.connection.status = status);
        Ok(done.map_or(Swap::Stale, |()| Swap::Done))
    }
}

// ---- the world of a test ----

struct World {
    store: Arc<MemoryTokens>,
    net: Arc<Net>,
    vault: Arc<Vault>,
    cx: CallContext,
    id: ConnectionId,
}

impl World {
    async fn new(style: RefreshStyle) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(PausedClock(tokio::time::Instant::now()));
        let cx = CallContext::new(Http::new(clock.clone()).unwrap(), clock, Arc::new(SeededChance::new(1)));
        let net = Net {
            descriptor: descriptor(style),
            calls: AtomicUsize::new(0),
            script: Mutex::default(),
            grants: Mutex::default(),
            life: Duration::from_secs(7200),
        };
        let vault = Arc::new(Vault::new(Arc::new(KeyRing::generate("k1").unwrap().0)));
        let mut world = Self { store: Arc::default(), net: Arc::new(net), vault, cx, id: ConnectionId::new() };
        world.id = world.grant(0).await;
        world
    }

    /// Stores a fresh grant.
    async fn grant(&self, number: u32) -> ConnectionId {
        let now = self.cx.now();
        let tokens = self.net.tokens(number, 0, now);
        let connection = Connection {
            id: ConnectionId::new(),
            user: UserId::new(),
            platform: self.net.descriptor.id.clone(),
            preset: "post".into(),
            status: ConnectionStatus::Active,
            requested_scopes: vec!["write".into()],
            granted_scopes: vec!["write".into()],
            expires_at: tokens.expires_at,
            refresh_expires_at: None,
            refreshable: tokens.refresh.is_some(),
            version: Version::FIRST,
            created_at: now,
            updated_at: now,
        };
        let binding = token_binding(connection.user, connection.id, &connection.platform, Version::FIRST);
        let sealed = self.vault.seal(&binding, &tokens.to_plain()).await.unwrap();
        let id = connection.id;
        self.store
            .insert(&NewConnection { connection, tokens: SealedTokens(sealed), remote_user: "me".into() })
            .await
            .unwrap();
        id
    }

    /// A keeper as another process has it.
    fn keeper(&self) -> Arc<TokenKeeper> {
        let platforms: Platforms =
            Arc::new([(self.net.descriptor.id.clone(), self.net.clone() as Arc<dyn Platform>)].into());
        Arc::new(TokenKeeper::new(self.store.clone(), self.vault.clone(), platforms, self.cx.clone()))
    }

    fn version(&self) -> Version {
        self.store.row(self.id).connection.version
    }

    fn status(&self) -> ConnectionStatus {
        self.store.row(self.id).connection.status
    }
}

async fn pass(time: SignedDuration) {
    tokio::time::advance(time.unsigned_abs()).await;
}

fn shown(tokens: &Result<Arc<TokenSet>, Error>) -> &str {
    tokens.as_ref().map_or_else(|error| error.kind().as_str(), |tokens| tokens.access.expose())
}

macro_rules! assert_shows {
    ($tokens:expr, $expected:expr) => {
        let tokens = $tokens;
        assert_eq!(shown(&tokens), $expected, "{tokens:?}");
    };
}

// ---- the ordinary course ----

#[tokio::test(start_paused = true)]
async fn fresh_tokens_of_a_known_version_need_no_look_into_the_store() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    for _ in 0..10 {
        assert_shows!(keeper.tokens(world.id, Some(Version::FIRST)).await, "a-0-0");
    }
    assert_eq!(world.store.gets.load(Ordering::SeqCst), 1);
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-0");
    assert_eq!(world.store.gets.load(Ordering::SeqCst), 2);
    assert_eq!(world.net.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_refreshed_before_they_end() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(HOUR + 44 * MINUTE).await;
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-0");
    pass(4 * MINUTE).await;
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
    let row = world.store.row(world.id);
    assert_eq!((row.connection.version, row.refresh_lease_until, row.refresh_intent_at), (Version(2), None, None));
    assert_eq!(row.connection.expires_at, Some(later(row.connection.updated_at, 2 * HOUR)));
    // Another process opens what was stored.
    assert_shows!(world.keeper().tokens(world.id, None).await, "a-0-1");
    assert_eq!(world.net.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn sixteen_tasks_and_two_hundred_ends_make_two_hundred_refreshes() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keepers = [world.keeper(), world.keeper(), world.keeper(), world.keeper()];
    for round in 1..=200 {
        pass(2 * HOUR + MINUTE).await;
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (keeper, id) = (keepers[task % 4].clone(), world.id);
                tokio::spawn(async move { keeper.tokens(id, None).await })
            })
            .collect();
        for task in tasks {
            assert_shows!(task.await.unwrap(), format!("a-0-{round}"));
        }
        assert_eq!(world.net.calls(), round);
    }
    assert_eq!(world.net.revoked(), 0);
    assert_eq!(world.version(), Version(201));
}

#[tokio::test(start_paused = true)]
async fn within_a_process_one_asks_and_the_others_get_its_answer() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    let begun = tokio::time::Instant::now();
    let asked = futures_util::future::join_all((0..16).map(|_| keeper.tokens(world.id, None))).await;
    assert!(asked.iter().all(|tokens| shown(tokens) == "a-0-1"));
    assert_eq!((world.net.calls(), world.store.leases.load(Ordering::SeqCst)), (1, 1));
    assert!(begun.elapsed() < LOOK_EVERY, "nobody waited for longer than the call: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_outlives_whoever_asked_for_it() {
    for patience in [10, 40] {
        let world = World::new(RefreshStyle::Rotating).await;
        let keeper = world.keeper();
        pass(3 * HOUR).await;
        let asked = tokio::time::timeout(Duration::from_millis(patience), keeper.tokens(world.id, None)).await;
        assert!(asked.is_err(), "the caller gave up: while the lease was taken, and while the network was asked");
        assert_eq!(world.net.calls(), usize::from(patience == 40));
        keeper.finish().await;
        assert_eq!((world.version(), world.net.calls(), world.net.revoked()), (Version(2), 1, 0));
        assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
    }
}

#[tokio::test(start_paused = true)]
async fn others_use_the_old_token_while_one_refreshes() {
    let world = World::new(RefreshStyle::Rotating).await;
    let (one, two) = (world.keeper(), world.keeper());
    pass(HOUR + 50 * MINUTE).await;
    let (first, second) = tokio::join!(one.tokens(world.id, None), two.tokens(world.id, None));
    let both = std::collections::BTreeSet::from([shown(&first), shown(&second)]);
    assert_eq!(both, ["a-0-0", "a-0-1"].into());
    assert_eq!(world.net.calls(), 1);
}

// ---- tokens that the network refuses ----

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_for_all_who_report_it() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keepers = [world.keeper(), world.keeper()];
    let used = keepers[0].tokens(world.id, None).await.unwrap();
    pass(10 * MINUTE).await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (keeper, id, used) = (keepers[task % 2].clone(), world.id, used.clone());
            tokio::spawn(async move { keeper.refused(id, &used).await })
        })
        .collect();
    for task in tasks {
        assert_shows!(task.await.unwrap(), "a-0-1");
    }
    assert_eq!(world.net.calls(), 1);
    // The new token is refused at once, too: that is not the token's fault.
    let new = keepers[0].tokens(world.id, None).await.unwrap();
    assert_shows!(keepers[0].refused(world.id, &new).await, "unavailable");
    assert_eq!((world.net.calls(), world.status()), (1, ConnectionStatus::Active));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_cannot_be_refreshed_needs_a_person() {
    let world = World::new(RefreshStyle::None).await;
    let keeper = world.keeper();
    let used = keeper.tokens(world.id, None).await.unwrap();
    assert_shows!(keeper.refused(world.id, &used).await, "reconnect");
    assert_eq!(world.status(), ConnectionStatus::NeedsReconnect);
    assert_shows!(keeper.tokens(world.id, None).await, "reconnect");
    assert_eq!(world.net.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_given_out_again_when_its_refresh_fails() {
    let world = World::new(RefreshStyle::Static).await;
    let keeper = world.keeper();
    let used = keeper.tokens(world.id, None).await.unwrap();
    pass(10 * MINUTE).await;
    world.net.will([Fault::Status(ErrorKind::Unavailable, None)]);
    assert_shows!(keeper.refused(world.id, &used).await, "unavailable");
}

// ---- refreshes that fail ----

#[tokio::test(start_paused = true)]
async fn a_dead_grant_needs_a_person() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    world.net.will([Fault::Status(ErrorKind::Reconnect, None)]);
    assert_shows!(keeper.tokens(world.id, None).await, "reconnect");
    assert_eq!(world.status(), ConnectionStatus::NeedsReconnect);
    let row = world.store.row(world.id);
    let kept = row.refresh_lease_until.is_some_and(|until| until > world.cx.now());
    assert!(kept, "until it was given up, nobody else could show the dead token");
    for _ in 0..5 {
        pass(HOUR).await;
        assert_shows!(keeper.tokens(world.id, Some(Version::FIRST)).await, "reconnect");
    }
    assert_eq!(world.net.calls(), 1, "a dead grant is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_dead_answer_about_tokens_that_another_replaced_is_not_believed() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    world.net.will([Fault::Status(ErrorKind::Reconnect, None)]);
    let asked = tokio::spawn({
        let (keeper, id) = (keeper.clone(), world.id);
        async move { keeper.tokens(id, None).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    // The person connects again while the refresh is under way.
    let now = world.cx.now();
    let row = world.store.row(world.id);
    let binding = token_binding(row.connection.user, world.id, &row.connection.platform, Version(2));
    let tokens = world.net.tokens(7, 0, now);
    let update = TokenUpdate {
        tokens: SealedTokens(world.vault.seal(&binding, &tokens.to_plain()).await.unwrap()),
        expires_at: tokens.expires_at,
        refresh_expires_at: None,
        refreshable: true,
        granted_scopes: vec!["write".into()],
        status: ConnectionStatus::Active,
        at: now,
    };
    assert_eq!(world.store.replace(world.id, Version::FIRST, &update).await.unwrap(), Swap::Done);
    assert_shows!(asked.await.unwrap(), "a-7-0");
    assert_eq!(world.status(), ConnectionStatus::Active);
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_the_grant_and_doubles_the_pauses() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(HOUR + 50 * MINUTE).await;
    world.net.will(vec![Fault::Status(ErrorKind::Unavailable, None); 1000]);
    let mut tries = Vec::new();
    for second in 0..3 * 3600 {
        let before = world.net.calls();
        let tokens = keeper.tokens(world.id, None).await;
        assert_eq!(shown(&tokens), if second < 9 * 60 + 30 { "a-0-0" } else { "unavailable" }, "second {second}");
        if world.net.calls() > before {
            tries.push(second);
        }
        pass(SECOND).await;
    }
    assert!((10..20).contains(&tries.len()), "three hours of outage: {tries:?}");
    assert!(tries[1] >= 30 && tries[1] < 40, "{tries:?}");
    assert_eq!(world.status(), ConnectionStatus::Active);
    world.net.script.lock().unwrap().clear();
    pass(20 * MINUTE).await;
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
}

#[tokio::test(start_paused = true)]
async fn the_networks_wish_for_a_pause_is_kept() {
    let world = World::new(RefreshStyle::Static).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    world.net.will([Fault::Status(ErrorKind::RateLimited, Some(600))]);
    let error = keeper.tokens(world.id, None).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::RateLimited, Effect::None));
    let Retry::After(wait) = error.retry_hint() else { panic!("{error:?}") };
    assert!(wait >= Duration::from_secs(599), "{wait:?}");
    pass(599 * SECOND).await;
    assert_shows!(world.keeper().tokens(world.id, None).await, "unavailable");
    assert_eq!(world.net.calls(), 1);
    pass(2 * SECOND).await;
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_the_operators_matter() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(HOUR + 50 * MINUTE).await;
    world.net.will(vec![Fault::Status(ErrorKind::Config, None); 3]);
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-0");
    pass(11 * MINUTE).await;
    let error = keeper.tokens(world.id, None).await.unwrap_err();
    assert_eq!((error.kind(), error.who()), (ErrorKind::Config, Actor::Operator));
    let row = world.store.row(world.id);
    assert_eq!((row.connection.status, row.refresh_intent_at), (ConnectionStatus::Active, None));
    pass(4 * MINUTE).await;
    assert_shows!(keeper.tokens(world.id, None).await, "unavailable");
    assert_eq!(world.net.calls(), 2, "one call per five minutes");
}

// ---- answers that are lost ----

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_the_old_token_is_tried_once_more() {
    for (fault, expected) in [(Fault::LostBefore, "a-0-1"), (Fault::LostAfter, "reconnect")] {
        let world = World::new(RefreshStyle::Rotating).await;
        let keeper = world.keeper();
        pass(3 * HOUR).await;
        world.net.will([fault]);
        let lost = keeper.tokens(world.id, None).await.unwrap_err();
        assert!(matches!(lost.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{lost:?}");
        assert!(world.store.row(world.id).refresh_intent_at.is_some(), "the doubt is on record");
        pass(28 * SECOND).await;
        assert_shows!(keeper.tokens(world.id, None).await, "unavailable");
        assert_eq!(world.net.calls(), 1, "not before 30 s");
        pass(3 * SECOND).await;
        assert_shows!(keeper.tokens(world.id, None).await, expected);
        assert_eq!(world.net.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn two_lost_answers_and_an_ended_token_need_a_person() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    world.net.will([Fault::LostBefore, Fault::LostBefore]);
    let _ = keeper.tokens(world.id, None).await.unwrap_err();
    pass(31 * SECOND).await;
    assert_shows!(keeper.tokens(world.id, None).await, "reconnect");
    pass(HOUR).await;
    assert_shows!(keeper.tokens(world.id, None).await, "reconnect");
    assert_eq!((world.net.calls(), world.status()), (2, ConnectionStatus::NeedsReconnect));
}

#[tokio::test(start_paused = true)]
async fn lost_answers_end_nothing_while_the_old_token_works() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(HOUR + 50 * MINUTE).await;
    world.net.will([Fault::LostBefore, Fault::LostBefore]);
    for _ in 0..2 {
        assert_shows!(keeper.tokens(world.id, None).await, "a-0-0");
        pass(2 * MINUTE).await;
    }
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
    assert_eq!(world.net.calls(), 3);
    assert_eq!(world.store.row(world.id).refresh_intent_at, None);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_rotates_a_lost_answer_is_just_a_failure() {
    let world = World::new(RefreshStyle::Static).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    world.net.will(vec![Fault::LostBefore; 5]);
    for _ in 0..5 {
        let _ = keeper.tokens(world.id, None).await.unwrap_err();
        pass(20 * MINUTE).await;
    }
    assert_eq!(world.status(), ConnectionStatus::Active);
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_died_in_a_refresh_leaves_a_doubt_that_another_settles() {
    for (rotated, expected) in [(false, "a-0-1"), (true, "reconnect")] {
        let world = World::new(RefreshStyle::Rotating).await;
        pass(3 * HOUR).await;
        let now = world.cx.now();
        let lease =
            world.store.lease_refresh(world.id, Version::FIRST, now, later(now, signed(LEASE)), true).await.unwrap();
        assert_eq!(lease, RefreshLease::Won);
        if rotated {
            world.net.grants.lock().unwrap().insert(0, Some(1));
        }
        let keeper = world.keeper();
        assert_shows!(keeper.tokens(world.id, None).await, "unavailable");
        assert_eq!(world.net.calls(), 0, "the lease is kept");
        pass(MINUTE).await;
        assert_shows!(keeper.tokens(world.id, None).await, expected);
        assert_eq!(world.net.calls(), 1);
    }
}

// ---- a store that fails ----

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_stored_are_used_from_memory_and_stored_later() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(3 * HOUR).await;
    let asked = tokio::spawn({
        let (keeper, id) = (keeper.clone(), world.id);
        async move { keeper.tokens(id, None).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    world.store.broken.store(true, Ordering::SeqCst);
    assert_shows!(asked.await.unwrap(), "a-0-1");
    assert_eq!(world.version(), Version::FIRST, "nothing is stored yet");
    let finished = tokio::time::timeout(Duration::from_millis(100), keeper.finish()).await;
    assert!(finished.is_err(), "it is the only copy");
    assert_shows!(keeper.tokens(world.id, Some(Version::FIRST)).await, "a-0-1");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-1");
    world.store.broken.store(false, Ordering::SeqCst);
    keeper.finish().await;
    assert_eq!(world.version(), Version(2));
    assert_shows!(world.keeper().tokens(world.id, None).await, "a-0-1");
    assert_eq!((world.net.calls(), world.net.revoked()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_or_sealed_by_a_lost_key_is_told_apart() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    assert_shows!(keeper.tokens(ConnectionId::new(), None).await, "not_found");
    let other = World { vault: Arc::new(Vault::new(Arc::new(KeyRing::generate("k2").unwrap().0))), ..world };
    let error = other.keeper().tokens(other.id, None).await.unwrap_err();
    assert_eq!((error.kind(), error.who()), (ErrorKind::Config, Actor::Operator));
    assert!(error.to_string().contains("k1"), "{error}");
    assert_eq!(other.status(), ConnectionStatus::Active, "the key may come back");
}

// ---- upkeep ----

#[tokio::test(start_paused = true)]
async fn a_sweep_refreshes_what_is_due_and_no_more_than_asked() {
    let world = World::new(RefreshStyle::Rotating).await;
    for number in 1..10 {
        world.grant(number).await;
    }
    let keeper = world.keeper();
    assert_eq!(keeper.sweep(100).await.unwrap(), Swept::default(), "nothing is due");
    pass(3 * HOUR).await;
    world.grant(10).await;
    let first = keeper.sweep(4).await.unwrap();
    assert_eq!(first, Swept { refreshed: 4, ..Swept::default() });
    let second = world.keeper().sweep(100).await.unwrap();
    assert_eq!(first.refreshed + second.refreshed, 10, "{first:?} {second:?}");
    assert_eq!((world.net.calls(), world.net.revoked()), (10, 0));
    // Unused for days, swept every ten minutes: still alive.
    for _ in 0..6 * 24 * 3 {
        pass(10 * MINUTE).await;
        let swept = keeper.sweep(100).await.unwrap();
        assert_eq!((swept.dead, swept.failed), (0, 0));
    }
    assert_eq!(world.net.revoked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_counts_what_failed_and_buries_what_has_ended() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    pass(HOUR + 50 * MINUTE).await;
    world.net.will([Fault::Status(ErrorKind::RateLimited, Some(60)), Fault::Status(ErrorKind::Reconnect, None)]);
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept { failed: 1, ..Swept::default() });
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept::default(), "pausing");
    pass(2 * MINUTE).await;
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept { dead: 1, ..Swept::default() });
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept::default());

    let world = World::new(RefreshStyle::None).await;
    let keeper = world.keeper();
    pass(HOUR + 59 * MINUTE).await;
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept::default(), "not over yet");
    assert_shows!(keeper.tokens(world.id, None).await, "a-0-0");
    pass(2 * MINUTE).await;
    assert_eq!(keeper.sweep(10).await.unwrap(), Swept { dead: 1, ..Swept::default() });
    assert_eq!(world.status(), ConnectionStatus::NeedsReconnect);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_behind_many_that_are_not_gets_its_turn() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    // Forty that end within hours and are not due; one behind them that ends in days and is.
    for number in 1..40 {
        world.grant(number).await;
    }
    let late = world.grant(99).await;
    {
        let mut rows = world.store.rows.lock().unwrap();
        let connection = &mut rows.get_mut(&late).unwrap().connection;
        connection.expires_at = Some(later(world.cx.now(), 5 * 24 * HOUR));
        connection.updated_at = later(world.cx.now(), -60 * 24 * HOUR);
    }
    let mut refreshed = 0;
    for _ in 0..5 {
        refreshed += keeper.sweep(1).await.unwrap().refreshed;
    }
    assert_eq!(refreshed, 1, "sweeps of ten each come to the one behind forty");
    assert_eq!(world.store.row(late).connection.version, Version(2));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_cannot_be_refreshed_is_announced_14_7_and_1_days_before_its_end_once_each() {
    let world = World::new(RefreshStyle::None).await;
    let begun = world.cx.now();
    {
        let mut rows = world.store.rows.lock().unwrap();
        rows.get_mut(&world.id).unwrap().connection.expires_at = Some(later(begun, 60 * 24 * HOUR));
    }
    // One that lives for hours says nothing about days.
    let brief = world.grant(1).await;
    let processes = [world.keeper(), world.keeper()];
    let mut told = Vec::new();
    for hour in 0..60 * 24 {
        for keeper in &processes {
            let swept = keeper.sweep(10).await.unwrap();
            told.extend(std::iter::repeat_n(60 - hour / 24, swept.noticed));
        }
        // A process that begins anew does not say it again.
        let swept = world.keeper().sweep(10).await.unwrap();
        assert_eq!(swept.noticed, 0, "hour {hour}");
        pass(HOUR).await;
    }
    assert_eq!(told, [14, 7, 1]);
    assert_eq!(world.store.row(brief).connection.status, ConnectionStatus::NeedsReconnect);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_connection_is_not_served_from_memory() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    assert_shows!(keeper.tokens(world.id, Some(Version::FIRST)).await, "a-0-0");
    assert!(world.store.delete(world.id).await.unwrap());
    keeper.forget(world.id);
    assert_shows!(keeper.tokens(world.id, Some(Version::FIRST)).await, "not_found");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_printed_holds_a_token() {
    let world = World::new(RefreshStyle::Rotating).await;
    let keeper = world.keeper();
    let tokens = keeper.tokens(world.id, None).await.unwrap();
    let printed = format!("{keeper:?} {tokens:?} {:?} {:?}", keeper.inner.cache(), world.store.row(world.id));
    assert!(!printed.contains("a-0-0") && !printed.contains("r-0-0"), "{printed}");
}
