//! R14, F15: yesterday's backup is put back. What went out since is found and not sent again; what did not go out is sent; where the network
//! cannot be read, a person decides.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests end the test when something cannot be made")]

use std::{path::Path, sync::Arc, time::Duration};

use social_core::{
    Account, Draft, ErrorKind, Phase, PhaseName, Social, UserId,
    platform::Reconciled,
    social::{CallbackQuery, Scheduled, Scheduler},
    store::{AdminStore as _, Delivery, JobStore as _, PostStore as _},
    time::{Clock as _, ManualClock, SeededChance, later, signed},
};
use social_store::SqliteStore;
use social_testkit::{
    clock,
    fake::{FakeNetwork, FakePlatform, Turn},
    fixtures,
};

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    network: FakeNetwork,
    clock: ManualClock,
    folder: tempfile::TempDir,
    user: UserId,
    accounts: Vec<Account>,
}

impl World {
    async fn open(&self, name: &str) -> (Social, SqliteStore) {
        let file = self.folder.path().join(name);
        let store = SqliteStore::open(&format!("sqlite://{}", file.display())).await.unwrap();
        (self.social(&store), store)
    }

    fn social(&self, store: &SqliteStore) -> Social {
        Social::builder()
            .store(store.clone())
            .keys(fixtures::key_ring())
            .clock(Arc::new(self.clock.clone()))
            .chance(Arc::new(SeededChance::new(1)))
            .platform(FakePlatform::new("fake", self.network.clone()).accounts(9))
            .build()
            .unwrap()
    }

    async fn new() -> (Self, Social, SqliteStore) {
        let user = fixtures::user("ada@example.org");
        let mut world = Self {
            network: FakeNetwork::default(),
            clock: clock::manual(),
            folder: tempfile::tempdir().unwrap(),
            user: user.id,
            accounts: Vec::new(),
        };
        let (social, store) = world.open("living.db").await;
        store.insert_user(&user).await.unwrap();
        let started = social.connect(&world.user, "fake").callback("http://127.0.0.1:1/cb").begin().await.unwrap();
        let state = started.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = CallbackQuery { code: Some("good-code".into()), state: Some(state), ..CallbackQuery::default() };
        world.accounts = social.finish("fake", &query, &started.cookie).await.unwrap().accounts;
        (world, social, store)
    }

    async fn post(&self, social: &Social, text: &str, account: usize, after: Duration) -> Scheduled {
        let at = later(self.clock.now(), signed(after));
        social.schedule(&self.user, Draft::text(text)).on([&self.accounts[account]]).at(at).send().await.unwrap()
    }

    /// Works and lets time pass for `rounds` minutes.
    async fn work(&self, social: &Social, rounds: u32) {
        for _ in 0..rounds {
            while social.worker().tick().await.unwrap() > 0 {}
            self.clock.advance(Duration::from_secs(60));
        }
    }

    fn shown(&self, text: &str) -> usize {
        self.network.posts().iter().filter(|post| post.text == text).count()
    }

    async fn delivery(&self, store: &SqliteStore, post: &Scheduled) -> Delivery {
        store.delivery(self.user, post.deliveries[0].id).await.unwrap().unwrap()
    }
}

async fn back_up(store: &SqliteStore, folder: &Path) {
    store.backup_to(&folder.join("restored.db")).await.unwrap();
}

#[tokio::test]
async fn nothing_that_went_out_after_the_backup_goes_out_again() {
    let (world, social, store) = World::new().await;
    let soon = world.post(&social, "due after the backup", 0, HOUR).await;
    let mut draft = Draft::text("part 1");
    draft.thread = vec!["part 2".into(), "part 3".into()];
    let at = later(world.clock.now(), signed(HOUR));
    let thread = social.schedule(&world.user, draft).on([&world.accounts[1]]).at(at).send().await.unwrap();
    let moved = world.post(&social, "moved forward after the backup", 2, HOUR * 200).await;
    let far = world.post(&social, "far away", 3, HOUR * 300).await;
    let never = world.post(&social, "never went out", 4, HOUR).await;
    let backup_at = world.clock.now();
    back_up(&store, world.folder.path()).await;

    // The old installation lives on for more than a day, and is gone then.
    let now = later(world.clock.now(), signed(HOUR));
    social.reschedule(world.user, moved.post.id, now, None).await.unwrap();
    social.cancel(world.user, never.post.id).await.unwrap();
    world.clock.advance(HOUR);
    world.work(&social, 3).await;
    assert_eq!(world.network.posts().len(), 5);
    world.clock.advance(HOUR * 26);
    drop((social, store));

    let (social, store) = world.open("restored.db").await;
    let done = social.restored(Some(backup_at), true, false).await.unwrap();
    assert_eq!((done.held, done.to_look, done.in_doubt, done.left), (0, 5, 0, 0));
    assert_eq!(world.delivery(&store, &soon).await.phase, Phase::Scheduled, "nothing has happened yet");
    let edited = social.edit(world.user, soon.post.id, Draft::text("another text"), None, None).await;
    assert_eq!(edited.unwrap_err().kind(), ErrorKind::Conflict, "it may be out");
    // The networks' first answer is not final, as in life.
    let wait = || Turn::Wait(Duration::from_secs(300));
    (0..2).for_each(|_| world.network.next("reconcile", wait()));
    world.work(&social, 20).await;
    for text in ["due after the backup", "part 1", "part 2", "part 3", "moved forward after the backup"] {
        assert_eq!(world.shown(text), 1, "{text}");
    }
    for post in [&soon, &thread, &moved] {
        let delivery = world.delivery(&store, post).await;
        assert!(matches!(delivery.phase, Phase::Published { .. }), "{delivery:?}");
        assert_eq!(delivery.committing_since, None);
    }
    // It did not go out, and is too late by now. One that is not late is sent in its time.
    assert_eq!(world.delivery(&store, &never).await.phase, Phase::Missed);
    assert_eq!(world.delivery(&store, &far).await.phase, Phase::Published { remote: published(&world, "far away") });
    assert_eq!(world.network.posts().len(), 6);
}

fn published(world: &World, text: &str) -> social_core::RemotePost {
    let post = world.network.posts().into_iter().find(|post| post.text == text).unwrap();
    let permalink = format!("https://fake.example/{}", post.id);
    social_core::RemotePost::new(post.id, permalink)
}

#[tokio::test]
async fn what_did_not_go_out_is_sent_after_the_look_and_only_once_where_it_may_be_out() {
    let (world, social, store) = World::new().await;
    let lost = world.post(&social, "did not go out", 0, HOUR).await;
    let out = world.post(&social, "went out", 1, HOUR).await;
    let unreadable = world.post(&social, "went out, nobody can tell", 2, HOUR).await;
    let future = world.post(&social, "due later", 3, HOUR * 5).await;
    back_up(&store, world.folder.path()).await;
    social.cancel(world.user, lost.post.id).await.unwrap();
    world.clock.advance(HOUR);
    world.work(&social, 2).await;
    assert_eq!(world.network.posts().len(), 2);
    drop((social, store));

    let (social, store) = world.open("restored.db").await;
    // Without the instant of the backup the history tells it, on the safe side.
    let done = social.restored(None, false, false).await.unwrap();
    assert_eq!((done.to_look, done.left), (3, 1));
    let marked = world.delivery(&store, &unreadable).await;
    assert!(marked.committing_since.is_some_and(|since| since < marked.due_at), "{marked:?}");
    // The person of that account disconnected it for the time being: looking has to wait, and stays owed.
    world.network.next("prepare", Turn::Fail(transient()));
    while social.worker().tick().await.unwrap() > 0 {}
    let posts = [&lost, &out, &unreadable];
    let mut owed = 0;
    for post in posts {
        let delivery = world.delivery(&store, post).await;
        owed += usize::from(delivery.phase.name() == PhaseName::Retrying && delivery.committing_since.is_some());
    }
    assert_eq!(owed, 1, "a failure on the way to the look does not make it forgotten");
    world.work(&social, 5).await;
    assert_eq!(world.shown("did not go out"), 1);
    assert_eq!(world.shown("went out"), 1);
    let mut attempts = 0;
    for post in posts {
        attempts += world.delivery(&store, post).await.attempt;
    }
    assert_eq!(attempts, 2, "the failure and the one call; a look is no attempt");
    assert_eq!(world.delivery(&store, &future).await.phase, Phase::Scheduled);

    // Once more: the networks are asked once more, and nothing else happens.
    let before = world.network.posts().len();
    social.restored(None, false, false).await.unwrap();
    world.work(&social, 5).await;
    assert_eq!(world.network.posts().len(), before);
}

fn transient() -> social_core::Error {
    social_core::Error::new(ErrorKind::Unavailable, "publish.prepare").effect_none()
}

#[tokio::test]
async fn what_followed_a_part_that_was_in_doubt_when_the_backup_was_taken_is_looked_for_too() {
    let (world, social, store) = World::new().await;
    let mut draft = Draft::text("part 1");
    draft.thread = vec!["part 2".into(), "part 3".into()];
    let thread = social.schedule(&world.user, draft).on([&world.accounts[0]]).send().await.unwrap();
    let lost = social_core::Error::new(ErrorKind::Timeout, "publish.commit");
    world.network.next("commit", Turn::FailAfter(lost));
    while social.worker().tick().await.unwrap() > 0 {}
    assert_eq!(world.delivery(&store, &thread).await.phase.name(), PhaseName::Committing);
    back_up(&store, world.folder.path()).await;
    world.work(&social, 5).await;
    assert_eq!(world.network.posts().len(), 3);
    drop((social, store));

    let (social, store) = world.open("restored.db").await;
    let done = social.restored(None, false, false).await.unwrap();
    assert_eq!((done.to_look, done.in_doubt), (0, 1));
    world.work(&social, 5).await;
    let delivery = world.delivery(&store, &thread).await;
    assert!(matches!(delivery.phase, Phase::Published { .. }), "{delivery:?}");
    assert_eq!(world.network.posts().len(), 3, "nothing is sent again");
    assert_eq!(world.network.calls("commit"), 3);
}

#[tokio::test]
async fn where_the_network_cannot_be_read_or_the_post_cannot_be_prepared_a_person_decides() {
    let (world, social, store) = World::new().await;
    let blind = world.post(&social, "nobody can tell", 0, HOUR).await;
    let broken = world.post(&social, "cannot be prepared", 1, HOUR).await;
    back_up(&store, world.folder.path()).await;
    world.clock.advance(HOUR);
    world.work(&social, 2).await;
    drop((social, store));
    let (social, store) = world.open("restored.db").await;
    social.restored(None, false, false).await.unwrap();
    let sent = world.network.calls("commit");
    world.network.next("reconcile", Turn::Say(Reconciled::CannotTell));
    let invalid = social_core::Error::invalid("publish.prepare", "the file is gone");
    world.network.next("prepare", Turn::Pass);
    world.network.next("prepare", Turn::Fail(invalid));
    while social.worker().tick().await.unwrap() > 0 {}
    for post in [&blind, &broken] {
        assert_eq!(world.delivery(&store, post).await.phase.name(), PhaseName::Unconfirmed);
    }
    assert_eq!(world.network.calls("commit"), sent, "nothing is sent blindly");
    let resend = social_core::social::Resolution::Resend;
    let resolved = social.resolve(world.user, blind.deliveries[0].id, resend).await.unwrap();
    assert_eq!(resolved.committing_since, None, "the person has looked");
}

#[tokio::test]
async fn it_refuses_while_a_worker_holds_something_and_moves_every_epoch_on() {
    let (world, social, store) = World::new().await;
    let post = world.post(&social, "hello", 0, Duration::ZERO).await;
    let lane = social_core::store::Lane { platform: world.accounts[0].platform.clone(), limit: 9 };
    let claim = social_core::store::ClaimRequest {
        until: world.clock.now(),
        lease_until: later(world.clock.now(), signed(Duration::from_secs(60))),
        worker: "still alive".into(),
        lanes: vec![lane],
    };
    let held = store.claim_due(&claim).await.unwrap().remove(0).delivery;
    let refused = social.restored(None, false, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(world.delivery(&store, &post).await.epoch, held.epoch, "nothing has changed");
    let done = social.restored(None, false, true).await.unwrap();
    assert_eq!((done.held, done.to_look), (1, 1));
    let write = fixtures::write(&held, PhaseName::Committing, world.clock.now());
    assert_eq!(store.record(&[write]).await.unwrap(), [social_core::store::Held::Lost], "an old worker can do nothing");
    let future = later(world.clock.now(), signed(HOUR));
    assert_eq!(social.restored(Some(future), false, true).await.unwrap_err().kind(), ErrorKind::Invalid);
}
