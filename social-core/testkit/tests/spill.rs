//! The database goes away just when the network has answered (E8, F3), and the process ends before it is back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests end the test when something cannot be made")]

use std::{path::Path, sync::Arc, time::Duration};

use social_core::{
    Account, Draft, Error, ErrorKind, Phase, PhaseName, Social, UserId,
    engine::Recovered,
    memory::MemoryStore,
    platform::Reconciled,
    social::{CallbackQuery, Scheduled},
    store::{AdminStore as _, ClaimRequest, Delivery, Held, JobStore as _, Lane, PostStore as _},
    time::{Clock as _, ManualClock, SeededChance, later, signed},
};
use social_testkit::{
    clock,
    fake::{FakeNetwork, FakePlatform, Turn},
    fixtures,
    probe::{Probe, ProbeStore},
};

/// One database, one network and one folder, over which processes live and die.
struct World {
    store: Arc<MemoryStore>,
    network: FakeNetwork,
    clock: ManualClock,
    folder: tempfile::TempDir,
    user: UserId,
    account: Option<Account>,
}

/// A process with its own line to the database.
struct Process {
    social: Social,
    probe: Arc<Probe>,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let user = fixtures::user("ada@example.org");
        store.insert_user(&user).await.unwrap();
        let mut world = Self {
            store,
            network: FakeNetwork::default(),
            clock: clock::manual(),
            folder: tempfile::tempdir().unwrap(),
            user: user.id,
            account: None,
        };
        let social = world.process().social;
        let started = social.connect(&world.user, "fake").callback("http://127.0.0.1:1/cb").begin().await.unwrap();
        let state = started.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = CallbackQuery { code: Some("good-code".into()), state: Some(state), ..CallbackQuery::default() };
        world.account = Some(social.finish("fake", &query, &started.cookie).await.unwrap().accounts.remove(0));
        world
    }

    /// Waits for a worker that was asked to stop, while time goes on.
    async fn ended(&self, running: tokio::task::JoinHandle<Result<(), Error>>) {
        let moving = self.clock.clone();
        let ticking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                moving.advance(Duration::from_millis(100));
            }
        });
        running.await.unwrap().unwrap();
        ticking.abort();
    }

    fn process(&self) -> Process {
        let probe = Arc::new(Probe::default());
        let social = Social::builder()
            .store(ProbeStore::new(self.store.clone(), probe.clone()))
            .keys(fixtures::key_ring())
            .clock(Arc::new(self.clock.clone()))
            .chance(Arc::new(SeededChance::new(1)))
            .platform(FakePlatform::new("fake", self.network.clone()))
            .spill_dir(self.folder.path())
            .build()
            .unwrap();
        Process { social, probe }
    }

    async fn post(&self, draft: Draft) -> Scheduled {
        let account = self.account.as_ref().unwrap();
        self.process().social.schedule(&self.user, draft).on([account]).send().await.unwrap()
    }

    async fn delivery(&self, post: &Scheduled) -> Delivery {
        self.store.delivery(self.user, post.deliveries[0].id).await.unwrap().unwrap()
    }

    async fn events(&self) -> Vec<String> {
        let page = self.store.logs(self.user, &Default::default(), &Default::default()).await.unwrap();
        page.items.into_iter().rev().map(|row| row.event).collect()
    }

    fn claim(&self, worker: &str) -> ClaimRequest {
        let lane = Lane { platform: self.account.as_ref().unwrap().platform.clone(), limit: 10 };
        let lease_until = later(self.clock.now(), signed(Duration::from_secs(60)));
        ClaimRequest { until: self.clock.now(), lease_until, worker: worker.into(), lanes: vec![lane] }
    }

    /// A worker sends, the database goes away before the answer can be written, and the process dies.
    async fn lose(&self, turn: Turn) {
        let process = self.process();
        let (probe, network) = (process.probe.clone(), self.network.clone());
        network.next("commit", turn);
        let watch = tokio::spawn(async move {
            while network.calls("commit") == 0 {
                network.called().await;
            }
            probe.away(true);
        });
        tokio::task::yield_now().await;
        let worker = process.social.worker();
        let error = worker.tick().await.unwrap_err();
        watch.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert_eq!(process.social.kept_on_disk(), 1);
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "publish.commit").effect_none()
}

#[tokio::test]
async fn an_outcome_outlives_its_process_and_nobody_asks_the_network() {
    let world = World::new().await;
    let post = world.post(Draft::text("hello")).await;
    world.lose(Turn::Pass).await;
    assert_eq!(world.delivery(&post).await.phase.name(), PhaseName::Committing);

    let next = world.process();
    next.probe.away(true);
    assert!(next.social.worker().tick().await.is_err(), "nothing is lost while the database is still away");
    next.probe.away(false);
    next.social.worker().tick().await.unwrap();
    let delivery = world.delivery(&post).await;
    assert!(matches!(&delivery.phase, Phase::Published { remote } if remote.id.is_some()), "{delivery:?}");
    assert_eq!(world.events().await, ["scheduled", "committing", "published"]);
    assert_eq!((world.network.posts().len(), world.network.calls("reconcile")), (1, 0));
    assert_eq!(files(world.folder.path()), 0);
}

#[tokio::test]
async fn a_late_answer_beats_a_worker_that_asks_and_a_doubt_that_went_to_a_person() {
    for unconfirmed in [false, true] {
        let world = World::new().await;
        let post = world.post(Draft::text("hello")).await;
        world.lose(Turn::Pass).await;
        world.clock.advance(Duration::from_secs(61));
        // On another machine, whose worker cannot see the folder.
        assert_eq!(world.store.reclaim(world.clock.now()).await.unwrap(), 1);
        let other = world.store.claim_due(&world.claim("elsewhere")).await.unwrap().remove(0).delivery;
        if unconfirmed {
            let mut write = fixtures::write(&other, PhaseName::Unconfirmed, world.clock.now());
            (write.lease, write.wake_at) = (social_core::store::LeaseAfter::Release, None);
            assert_eq!(world.store.record(&[write]).await.unwrap(), [Held::Yes]);
        }
        let next = world.process();
        let expected = Recovered { outcomes: 1, ..Recovered::default() };
        assert_eq!(next.social.recover().await.unwrap(), expected);
        assert!(matches!(world.delivery(&post).await.phase, Phase::Published { .. }));
        let absent = fixtures::write(&other, PhaseName::Ready, world.clock.now());
        assert_eq!(world.store.record(&[absent]).await.unwrap(), [Held::Lost], "whoever was asking loses");
        assert_eq!(next.social.recover().await.unwrap(), Recovered::default());
        assert_eq!(world.network.posts().len(), 1);
    }
}

#[tokio::test]
async fn that_a_call_had_no_effect_counts_only_while_nobody_has_asked_since() {
    // Nobody has: it is sent again without asking the network.
    let world = World::new().await;
    let post = world.post(Draft::text("hello")).await;
    world.lose(Turn::Fail(refused())).await;
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.store.reclaim(world.clock.now()).await.unwrap(), 1);
    let next = world.process();
    assert_eq!(next.social.recover().await.unwrap().outcomes, 1);
    assert_eq!(world.delivery(&post).await.phase.name(), PhaseName::Retrying);
    next.social.worker().tick().await.unwrap();
    assert_eq!((world.network.posts().len(), world.network.calls("reconcile")), (1, 0));

    // Somebody has, and on some networks asks by sending: what is true now, only the network can say.
    let world = World::new().await;
    let post = world.post(Draft::text("hello")).await;
    world.lose(Turn::Fail(refused())).await;
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.store.reclaim(world.clock.now()).await.unwrap(), 1);
    assert_eq!(world.store.claim_due(&world.claim("elsewhere")).await.unwrap().len(), 1);
    let next = world.process();
    assert_eq!(next.social.recover().await.unwrap().obsolete, 1);
    assert_eq!(world.delivery(&post).await.phase.name(), PhaseName::Committing);
}

#[tokio::test]
async fn a_thread_goes_on_behind_the_part_that_a_late_answer_tells_of() {
    let world = World::new().await;
    let mut draft = Draft::text("one");
    draft.thread = vec!["two".into(), "three".into()];
    let post = world.post(draft).await;
    world.lose(Turn::Pass).await;
    // Whoever asks would not be told.
    (0..9).for_each(|_| world.network.next("reconcile", Turn::Say(Reconciled::CannotTell)));
    let next = world.process();
    for _ in 0..3 {
        next.social.worker().tick().await.unwrap();
        world.clock.advance(Duration::from_secs(1));
    }
    let delivery = world.delivery(&post).await;
    assert!(matches!(delivery.phase, Phase::Published { .. }), "{delivery:?}");
    let texts: Vec<_> = world.network.posts().into_iter().map(|post| post.text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_while_the_database_is_away_ends_when_the_outcome_is_on_disk() {
    let world = World::new().await;
    let post = world.post(Draft::text("hello")).await;
    let process = world.process();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(process.social.worker().run_until(async move {
        let _ = stopped.await;
    }));
    let probe = process.probe.clone();
    // The write-ahead is through, the answer is not.
    while world.network.calls("commit") == 0 {
        world.network.called().await;
    }
    probe.away(true);
    for _ in 0..200 {
        tokio::task::yield_now().await;
        world.clock.advance(Duration::from_millis(50));
    }
    let begun = tokio::time::Instant::now();
    stop.send(()).unwrap();
    world.ended(running).await;
    assert!(begun.elapsed() <= Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(process.social.kept_on_disk(), 1);
    assert_eq!(world.delivery(&post).await.phase.name(), PhaseName::Committing);
    drop((process, probe));
    world.process().social.worker().tick().await.unwrap();
    assert!(matches!(world.delivery(&post).await.phase, Phase::Published { .. }));
    assert_eq!((world.network.posts().len(), world.network.calls("reconcile")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_written_by_the_same_process_when_the_database_is_back() {
    let world = World::new().await;
    let post = world.post(Draft::text("hello")).await;
    let process = world.process();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(process.social.worker().run_until(async move {
        let _ = stopped.await;
    }));
    while world.network.calls("commit") == 0 {
        world.network.called().await;
    }
    process.probe.away(true);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.clock.advance(Duration::from_millis(50));
    }
    assert_eq!(process.social.kept_on_disk(), 1, "on disk while it is away");
    process.probe.away(false);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.clock.advance(Duration::from_millis(50));
    }
    assert!(matches!(world.delivery(&post).await.phase, Phase::Published { .. }));
    assert_eq!(process.social.kept_on_disk(), 0);
    assert_eq!(world.events().await, ["scheduled", "committing", "published"]);
    stop.send(()).unwrap();
    world.ended(running).await;
    drop(process);
    assert_eq!(files(world.folder.path()), 0);
}

impl World {
    /// A refresh brings new tokens while the database goes away; answers with the process, still alive.
    async fn lose_tokens(&self) -> Process {
        self.clock.advance(Duration::from_secs(7000));
        let process = self.process();
        let (probe, network) = (process.probe.clone(), self.network.clone());
        let before = network.calls("refresh");
        let watch = tokio::spawn(async move {
            while network.calls("refresh") == before {
                network.called().await;
            }
            probe.away(true);
        });
        tokio::task::yield_now().await;
        let tokens = process.social.keeper().tokens(self.connection(), None).await.unwrap();
        watch.await.unwrap();
        assert_eq!(tokens.access.expose(), "fake-access-2", "they are used from memory meanwhile");
        assert_eq!(process.social.kept_on_disk(), 1);
        process
    }

    /// The same, and the process dies: with it everything that it had begun.
    fn lose_tokens_and_die(&self) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { drop(self.lose_tokens().await) });
            });
        });
    }

    fn connection(&self) -> social_core::id::ConnectionId {
        self.account.as_ref().unwrap().connection
    }

    /// Every byte in the folder.
    fn at_rest(&self) -> Vec<u8> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
    }
}

#[tokio::test]
async fn new_tokens_outlive_their_process_sealed_and_replace_only_what_they_were_given_for() {
    let world = World::new().await;
    world.lose_tokens_and_die();
    let at_rest = world.at_rest();
    assert!(!at_rest.is_empty());
    for secret in ["fake-access-1", "fake-access-2", "fake-refresh-1", "fake-refresh-2"] {
        assert!(!social_testkit::secrets::holds(&at_rest, secret.as_bytes()), "{secret} is on disk");
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret);
        assert!(
            !social_testkit::secrets::holds(&at_rest, encoded.trim_end_matches('=').as_bytes()),
            "{secret} is on disk"
        );
    }
    let next = world.process();
    assert_eq!(next.social.recover().await.unwrap(), Recovered { tokens: 1, ..Recovered::default() });
    let tokens = next.social.keeper().tokens(world.connection(), None).await.unwrap();
    assert_eq!(tokens.access.expose(), "fake-access-2");
    assert_eq!(world.network.calls("refresh"), 1, "the family is not burnt by a second refresh");

    // The person connected again meanwhile: that is newer.
    let world = World::new().await;
    world.lose_tokens_and_die();
    let stored = social_core::store::TokenStore::get(&*world.store, world.connection()).await.unwrap().unwrap();
    let newer = fixtures::token_update(&stored.connection, stored.connection.version, world.clock.now()).await;
    let swap =
        social_core::store::TokenStore::replace(&*world.store, world.connection(), stored.connection.version, &newer);
    assert_eq!(swap.await.unwrap(), social_core::store::Swap::Done);
    let next = world.process();
    assert_eq!(next.social.recover().await.unwrap(), Recovered { obsolete: 1, ..Recovered::default() });
    let now = social_core::store::TokenStore::get(&*world.store, world.connection()).await.unwrap().unwrap();
    assert_eq!(now.tokens, newer.tokens);
}

#[tokio::test]
async fn new_tokens_are_on_disk_soon_when_the_store_hangs_and_then_nobody_waits_for_it() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(7000));
    let process = world.process();
    // Two stages of the lease, then the write of what came: it hangs.
    process.probe.die_at(2);
    let (social, id) = (process.social.clone(), world.connection());
    let asked = tokio::spawn(async move { social.keeper().tokens(id, None).await.map(drop) });
    process.probe.died().await;
    let finish = async |most| tokio::time::timeout(most, process.social.keeper().finish()).await;
    assert!(finish(Duration::from_millis(50)).await.is_err(), "the only copy is in memory");
    world.clock.advance(Duration::from_secs(2));
    finish(Duration::from_secs(20)).await.expect("they are on disk");
    assert_eq!(process.social.kept_on_disk(), 1);
    assert!(!asked.is_finished());
    asked.abort();
}

#[tokio::test]
async fn nothing_that_is_printed_about_kept_tokens_holds_them() {
    let world = World::new().await;
    let process = world.lose_tokens().await;
    let printed = format!("{:?} {:?}", process.social, process.social.keeper());
    for secret in ["fake-access-2", "fake-refresh-2"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

/// T-r2: the process is killed between the network's answer and our write. The next refresh burns the family, once; then a person has to
/// act, the posts wait for them, and go out when they have.
#[tokio::test(start_paused = true)]
async fn a_kill_in_a_refresh_ends_with_a_person_soon_and_never_in_a_loop() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(7000));
    let process = world.process();
    // Two stages of the lease with its intent, then the write of what came.
    process.probe.die_at(2);
    let killed = tokio::spawn({
        let (social, id) = (process.social.clone(), world.connection());
        async move { social.keeper().tokens(id, None).await.map(drop) }
    });
    process.probe.died().await;
    killed.abort();
    assert_eq!(world.network.calls("refresh"), 1);
    let lease_ends = later(world.clock.now(), signed(Duration::from_secs(60)));

    // What networks with strict rotation say to the old refresh token, for ever.
    let dead = || Error::new(ErrorKind::Reconnect, "oauth.refresh").effect_none();
    (0..100).for_each(|_| world.network.next("refresh", Turn::Fail(dead())));
    let account = world.account.as_ref().unwrap();
    let at = later(world.clock.now(), signed(Duration::from_secs(600)));
    let social = world.process().social;
    let post = social.schedule(&world.user, Draft::text("waits")).on([account]).at(at).send().await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(social.worker().run_until(async move {
        let _ = stopped.await;
    }));
    let mut noticed = None;
    for _ in 0..20_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.clock.advance(Duration::from_millis(100));
        let stored = social_core::store::TokenStore::get(&*world.store, world.connection()).await.unwrap().unwrap();
        if stored.connection.status == social_core::account::ConnectionStatus::NeedsReconnect && noticed.is_none() {
            noticed = Some(world.clock.now());
        }
    }
    let noticed = noticed.expect("the person is told");
    assert!(noticed.duration_since(lease_ends).as_secs() <= 60, "{}", noticed.duration_since(lease_ends));
    assert_eq!(world.network.calls("refresh"), 2, "the old token is tried once more, not in a loop");
    assert_eq!(world.delivery(&post).await.phase.name(), PhaseName::AwaitingReconnect);
    assert!(world.network.posts().is_empty());

    let started = social.connect(&world.user, "fake").callback("http://127.0.0.1:1/cb").begin().await.unwrap();
    let state = started.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let query = CallbackQuery { code: Some("good-code".into()), state: Some(state), ..CallbackQuery::default() };
    social.finish("fake", &query, &started.cookie).await.unwrap();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.clock.advance(Duration::from_millis(100));
    }
    assert!(matches!(world.delivery(&post).await.phase, Phase::Published { .. }), "reconnecting releases what waits");
    assert_eq!((world.network.posts().len(), world.network.calls("refresh")), (1, 2));
    stop.send(()).unwrap();
    running.abort();
}
