//! The driver and the engine over a store in memory and a network that does what it is told. Only the tests move time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests end the test when something cannot be made")]

use std::{sync::Arc, time::Duration};

use social_core::{
    Account, Draft, Error, ErrorKind, Phase, PhaseName, Social, UserId,
    memory::MemoryStore,
    phase::RemotePost,
    platform::Reconciled,
    social::{CallbackQuery, Resolution, Scheduled, Scheduler},
    store::{AccountStore as _, AdminStore as _, ClaimRequest, Delivery, JobStore as _, Lane, PostStore as _},
    time::{Clock as _, ManualClock, SeededChance, later, signed},
};
use social_testkit::{
    clock,
    fake::{FakeNetwork, FakePlatform, Turn},
    fixtures,
    probe::{Probe, ProbeStore},
};

struct Shop {
    social: Social,
    store: Arc<MemoryStore>,
    probe: Arc<Probe>,
    clock: ManualClock,
    user: UserId,
    accounts: Vec<Account>,
}

impl Shop {
    async fn open(platforms: Vec<FakePlatform>) -> Self {
        let store = Arc::new(MemoryStore::new());
        let probe = Arc::new(Probe::default());
        let clock = clock::manual();
        let names: Vec<String> =
            platforms.iter().map(|p| social_core::Platform::descriptor(p).id.to_string()).collect();
        let mut builder = Social::builder()
            .store(ProbeStore::new(store.clone(), probe.clone()))
            .keys(fixtures::key_ring())
            .clock(Arc::new(clock.clone()))
            .chance(Arc::new(SeededChance::new(1)));
        for platform in platforms {
            builder = builder.platform(platform);
        }
        let social = builder.build().unwrap();
        let user = fixtures::user("ada@example.org");
        store.insert_user(&user).await.unwrap();
        let mut shop = Self { social, store, probe, clock, user: user.id, accounts: Vec::new() };
        for name in names {
            shop.connect(&name).await;
        }
        shop
    }

    async fn connect(&mut self, platform: &str) {
        let started =
            self.social.connect(&self.user, platform).callback("http://127.0.0.1:1/cb").begin().await.unwrap();
        let state = started.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = CallbackQuery { code: Some("good-code".into()), state: Some(state), ..CallbackQuery::default() };
        let connected = self.social.finish(platform, &query, &started.cookie).await.unwrap();
        self.accounts.retain(|account| account.platform.as_str() != platform);
        self.accounts.extend(connected.accounts);
    }

    async fn post(&self, text: &str) -> Scheduled {
        self.social.schedule(&self.user, Draft::text(text)).on([&self.accounts[0]]).send().await.unwrap()
    }

    async fn delivery(&self, post: &Scheduled) -> Delivery {
        Scheduler::delivery(&self.social, self.user, post.deliveries[0].id).await.unwrap()
    }

    async fn tick(&self) -> usize {
        self.social.worker().tick().await.unwrap()
    }

    /// What running workers do every second.
    async fn exchange(&self, social: &Social) {
        let now = self.clock.now();
        let deltas = social.rates().drain_deltas(now);
        let since = later(now, signed(Duration::from_secs(3600)) * -1);
        let states = social_core::store::RateStore::exchange_rates(&*self.store, &deltas, since, now).await.unwrap();
        social.rates().merge(now, states);
    }

    async fn events(&self) -> Vec<String> {
        let page = self.store.logs(self.user, &Default::default(), &Default::default()).await.unwrap();
        page.items.into_iter().rev().map(|row| row.event).collect()
    }

    fn claim(&self) -> ClaimRequest {
        let lane = Lane { platform: self.accounts[0].platform.clone(), limit: 10 };
        let lease_until = later(self.clock.now(), signed(Duration::from_secs(60)));
        ClaimRequest { until: self.clock.now(), lease_until, worker: "another".into(), lanes: vec![lane] }
    }

    /// Lets the engine run and time pass in small steps until the condition holds.
    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..5_000 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if condition().await {
                return;
            }
            self.clock.advance(Duration::from_millis(50));
        }
        panic!("never: {what}");
    }

    fn run(&self) -> (tokio::task::JoinHandle<Result<(), Error>>, tokio::sync::oneshot::Sender<()>) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let worker = self.social.worker();
        let running = tokio::spawn(worker.run_until(async move {
            let _ = stopped.await;
        }));
        (running, stop)
    }
}

fn transient() -> Error {
    Error::new(ErrorKind::Unavailable, "publish.commit")
}

async fn shop(network: &FakeNetwork) -> Shop {
    Shop::open(vec![FakePlatform::new("fake", network.clone())]).await
}

#[tokio::test]
async fn a_text_is_written_ahead_published_and_recorded() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("hello").await;
    assert_eq!(shop.tick().await, 1);
    let delivery = shop.delivery(&post).await;
    assert!(matches!(delivery.phase, Phase::Published { .. }));
    assert_eq!((delivery.attempt, delivery.published_at), (1, Some(shop.clock.now())));
    assert_eq!(shop.events().await, ["scheduled", "committing", "published"]);
    assert_eq!(network.posts().len(), 1);
    assert_eq!(shop.tick().await, 0, "nothing is left to do");
}

#[tokio::test]
async fn a_post_in_the_future_is_never_early() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let at = later(shop.clock.now(), signed(Duration::from_secs(60)));
    let draft = Draft::text("later");
    let post = shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).at(at).send().await.unwrap();
    let (running, stop) = shop.run();
    shop.until("it is published", async || !network.posts().is_empty()).await;
    assert!(shop.clock.now() >= at);
    shop.until("it is recorded", async || shop.delivery(&post).await.published_at.is_some()).await;
    assert!(shop.delivery(&post).await.published_at.unwrap() >= at);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_reply_is_asked_about_and_never_sent_again() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("commit", Turn::FailAfter(transient()));
    let post = shop.post("hello").await;
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase.name(), PhaseName::Committing);
    assert_eq!(shop.tick().await, 0, "the network gets a moment before it is asked");
    shop.clock.advance(Duration::from_secs(30));
    shop.tick().await;
    assert!(matches!(shop.delivery(&post).await.phase, Phase::Published { .. }));
    assert_eq!((network.posts().len(), network.calls("commit"), network.calls("reconcile")), (1, 1, 1));
}

#[tokio::test]
async fn proof_of_absence_allows_a_second_permit() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("commit", Turn::Fail(transient()));
    let post = shop.post("hello").await;
    shop.tick().await;
    shop.clock.advance(Duration::from_secs(30));
    shop.tick().await;
    let delivery = shop.delivery(&post).await;
    assert!(matches!(delivery.phase, Phase::Published { .. }));
    assert_eq!((network.posts().len(), network.calls("commit"), delivery.attempt), (1, 2, 2));
    let events = shop.events().await;
    assert_eq!(events, ["scheduled", "committing", "reply_lost", "proven_absent", "committing", "published"]);
}

#[tokio::test]
async fn what_nobody_can_tell_goes_to_a_person_who_decides() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let there = Resolution::Published { permalink: Some("https://fake.example/1".into()) };
    for resolution in [there, Resolution::Resend, Resolution::Fail] {
        network.next("commit", Turn::FailAfter(transient()));
        network.next("reconcile", Turn::Say(Reconciled::CannotTell));
        let before = network.posts().len();
        let post = shop.post(&format!("doubt about {resolution:?}")).await;
        shop.tick().await;
        shop.clock.advance(Duration::from_secs(30));
        shop.tick().await;
        assert!(matches!(shop.delivery(&post).await.phase, Phase::Unconfirmed { .. }));
        shop.clock.advance(Duration::from_secs(3600 * 48));
        assert_eq!(shop.tick().await, 0, "nothing happens by itself");
        let id = post.deliveries[0].id;
        shop.social.resolve(shop.user, id, resolution.clone()).await.unwrap();
        shop.tick().await;
        let (name, more) = (shop.delivery(&post).await.phase.name(), network.posts().len() - before);
        match resolution {
            Resolution::Published { .. } => assert_eq!((name, more), (PhaseName::Published, 1)),
            Resolution::Resend => {
                assert_eq!((name, more), (PhaseName::Published, 2), "the person said it was not there")
            }
            Resolution::Fail => assert_eq!((name, more), (PhaseName::Failed, 1)),
        }
        let again = shop.social.resolve(shop.user, id, Resolution::Fail).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn looks_that_fail_end_with_a_person_not_with_a_second_post() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("commit", Turn::FailAfter(transient()));
    (0..20).for_each(|_| network.next("reconcile", Turn::Fail(transient())));
    let post = shop.post("hello").await;
    shop.tick().await;
    for _ in 0..20 {
        shop.clock.advance(Duration::from_secs(700));
        shop.tick().await;
    }
    assert!(matches!(shop.delivery(&post).await.phase, Phase::Unconfirmed { .. }));
    assert_eq!((network.posts().len(), network.calls("commit"), network.calls("reconcile")), (1, 1, 5));
}

#[tokio::test]
async fn failures_without_effect_back_off_until_the_attempts_are_used_up() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    (0..5).for_each(|_| network.next("commit", Turn::Fail(transient().effect_none())));
    let post = shop.post("hello").await;
    for _ in 0..40 {
        shop.tick().await;
        shop.clock.advance(Duration::from_secs(60));
    }
    let delivery = shop.delivery(&post).await;
    assert!(matches!(delivery.phase, Phase::Failed { .. }), "{delivery:?}");
    assert_eq!((network.calls("commit"), delivery.attempt), (5, 5));
    assert!(delivery.error.unwrap().contains("unavailable"));
    // An explicit retry begins anew.
    shop.social.retry(shop.user, post.post.id).await.unwrap();
    assert_eq!(shop.delivery(&post).await.attempt, 0);
    shop.tick().await;
    assert_eq!((network.posts().len(), shop.delivery(&post).await.attempt), (1, 1));
}

#[tokio::test]
async fn a_limit_waits_without_using_an_attempt() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let error =
        Error::new(ErrorKind::RateLimited, "publish.commit").retry_after(Duration::from_secs(600)).effect_none();
    network.next("commit", Turn::Fail(error));
    let (first, second) = (shop.post("one").await, shop.post("two").await);
    shop.tick().await;
    for post in [&first, &second] {
        let delivery = shop.delivery(post).await;
        assert!(matches!(delivery.phase, Phase::AwaitingLimit { .. }), "{delivery:?}");
        assert_eq!(delivery.attempt, 0);
    }
    assert_eq!(network.calls("commit"), 1, "the second one waits without asking the network");
    for _ in 0..60 {
        shop.clock.advance(Duration::from_secs(60));
        shop.tick().await;
    }
    assert_eq!(network.posts().len(), 2);
}

#[tokio::test]
async fn a_thread_that_breaks_goes_on_behind_its_last_part() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("commit", Turn::Pass);
    network.next("commit", Turn::Fail(Error::new(ErrorKind::Rejected, "publish.commit").effect_none()));
    let draft = Draft::text("one").then("two").then("three");
    let post = shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).send().await.unwrap();
    shop.tick().await;
    let broken = shop.delivery(&post).await;
    assert!(matches!(broken.phase, Phase::Failed { .. }));
    assert_eq!(broken.parts.len(), 1, "it says which parts are out");
    // However late: what is half out is finished.
    shop.clock.advance(Duration::from_secs(3600 * 5));
    shop.social.retry(shop.user, post.post.id).await.unwrap();
    shop.tick().await;
    let done = shop.delivery(&post).await;
    let Phase::Published { remote } = &done.phase else { panic!("{done:?}") };
    assert_eq!(remote.id.as_ref().unwrap().as_str(), "fake-1", "the thread is known by its first part");
    assert_eq!(done.parts.len(), 3);
    let texts: Vec<_> = network.posts().into_iter().map(|post| post.text).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[tokio::test]
async fn settling_is_asked_until_the_network_has_finished_or_refused() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).settling()]).await;
    network.next("settle", Turn::Wait(Duration::from_secs(10)));
    let post = shop.post("a film").await;
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase.name(), PhaseName::Settling);
    shop.clock.advance(Duration::from_secs(5));
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase.name(), PhaseName::Settling);
    shop.clock.advance(Duration::from_secs(10));
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase.name(), PhaseName::Published);
    network.next("settle", Turn::FailAfter(Error::new(ErrorKind::Rejected, "publish.settle")));
    let refused = shop.post("another film").await;
    shop.tick().await;
    shop.clock.advance(Duration::from_secs(5));
    shop.tick().await;
    assert_eq!(shop.delivery(&refused).await.phase.name(), PhaseName::Failed);
}

#[tokio::test]
async fn what_is_too_late_is_missed_not_a_surprise() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("hello").await;
    shop.clock.advance(Duration::from_secs(3601));
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase, Phase::Missed);
    assert!(network.posts().is_empty());
    shop.social.retry(shop.user, post.post.id).await.unwrap();
    shop.tick().await;
    assert_eq!(network.posts().len(), 1, "a person may still want it");
}

#[tokio::test]
async fn a_cancel_wins_before_the_permit_and_is_refused_afterwards() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("hello").await;
    // A worker has it in hand but has not permitted it.
    assert_eq!(shop.store.claim_due(&shop.claim()).await.unwrap().len(), 1);
    shop.social.cancel(shop.user, post.post.id).await.unwrap();
    assert_eq!(shop.delivery(&post).await.phase, Phase::Canceled);
    shop.clock.advance(Duration::from_secs(120));
    assert_eq!(shop.tick().await, 0);
    assert!(network.posts().is_empty());
    shop.social.cancel(shop.user, post.post.id).await.expect("canceling again is fine");

    let later_at = later(shop.clock.now(), signed(Duration::from_secs(3600)));
    let draft = Draft::text("planned");
    let planned = shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).at(later_at).send().await.unwrap();
    shop.social.cancel(shop.user, planned.post.id).await.unwrap();
    shop.social.retry(shop.user, planned.post.id).await.unwrap();
    shop.tick().await;
    assert!(network.posts().is_empty(), "what is wanted again goes out at its time, not at once");
    shop.clock.advance(Duration::from_secs(3600));
    shop.tick().await;
    assert_eq!(network.posts().len(), 1);

    let out = shop.post("too late").await;
    shop.tick().await;
    assert_eq!(shop.social.cancel(shop.user, out.post.id).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_worker_that_keeps_dying_over_a_delivery_parks_it() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("poison").await;
    for _ in 0..3 {
        // The worker dies while it prepares.
        network.next("prepare", Turn::Hang);
        let called = network.calls("prepare");
        tokio::select! {
            _ = shop.tick() => unreachable!("it hangs"),
            () = async { while network.calls("prepare") == called { tokio::task::yield_now().await } } => {}
        }
        shop.clock.advance(Duration::from_secs(61));
        shop.store.reclaim(shop.clock.now()).await.unwrap();
    }
    shop.tick().await;
    let parked = shop.delivery(&post).await;
    assert!(matches!(parked.phase, Phase::Failed { .. }), "{parked:?}");
    assert_eq!(network.calls("prepare"), 3);
}

#[tokio::test]
async fn what_was_only_claimed_is_not_blamed_for_the_death_of_a_worker() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("innocent").await;
    for _ in 0..10 {
        assert_eq!(shop.store.claim_due(&shop.claim()).await.unwrap().len(), 1);
        shop.clock.advance(Duration::from_secs(61));
        shop.store.reclaim(shop.clock.now()).await.unwrap();
    }
    shop.tick().await;
    assert!(matches!(shop.delivery(&post).await.phase, Phase::Published { .. }));
}

#[tokio::test]
async fn nothing_goes_to_an_account_that_was_disconnected() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("hello").await;
    shop.social.disconnect(shop.user, shop.accounts[0].id).await.unwrap();
    shop.tick().await;
    assert!(
        matches!(shop.delivery(&post).await.phase, Phase::AwaitingReconnect { .. }),
        "{:?}",
        shop.delivery(&post).await
    );
    shop.clock.advance(Duration::from_secs(2 * 3600));
    shop.tick().await;
    assert_eq!(shop.delivery(&post).await.phase, Phase::Missed);
    assert!(network.posts().is_empty());
}

#[tokio::test]
async fn an_account_that_is_connected_again_while_its_post_waits_gets_it() {
    let network = FakeNetwork::default();
    let mut shop = shop(&network).await;
    let post = shop.post("hello").await;
    let old = shop.accounts[0].connection;
    shop.social.revoke(shop.user, old).await.unwrap();
    shop.tick().await;
    assert!(matches!(shop.delivery(&post).await.phase, Phase::AwaitingReconnect { .. }));
    shop.connect("fake").await;
    shop.tick().await;
    assert!(matches!(shop.delivery(&post).await.phase, Phase::Published { .. }), "{:?}", shop.delivery(&post).await);
}

#[tokio::test]
async fn a_part_that_a_person_found_is_followed_by_the_others() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("commit", Turn::FailAfter(transient()));
    network.next("reconcile", Turn::Say(Reconciled::CannotTell));
    let draft = Draft::text("one").then("two").then("three");
    let post = shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).send().await.unwrap();
    shop.tick().await;
    shop.clock.advance(Duration::from_secs(30));
    shop.tick().await;
    let id = post.deliveries[0].id;
    let no_address = shop.social.resolve(shop.user, id, Resolution::Published { permalink: None }).await.unwrap_err();
    assert_eq!(no_address.kind(), ErrorKind::Invalid);
    let there = Resolution::Published { permalink: Some("https://fake.example/fake-1".into()) };
    shop.social.resolve(shop.user, id, there).await.unwrap();
    shop.tick().await;
    let done = shop.delivery(&post).await;
    assert!(matches!(done.phase, Phase::Published { .. }), "{done:?}");
    let texts: Vec<_> = network.posts().into_iter().map(|post| post.text).collect();
    assert_eq!((texts.as_slice(), done.parts.len()), (&["one".to_owned(), "two".into(), "three".into()][..], 3));
}

#[tokio::test]
async fn a_panic_in_an_adapter_holds_up_nobody_else() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("prepare", Turn::Panic);
    let (broken, fine) = (shop.post("breaks").await, shop.post("does not").await);
    let (running, stop) = shop.run();
    shop.until("both are out", async || network.posts().len() == 2).await;
    shop.until("both are recorded", async || shop.store.depth().await.unwrap().is_empty()).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    for post in [broken, fine] {
        assert!(matches!(shop.delivery(&post).await.phase, Phase::Published { .. }));
    }
}

#[tokio::test]
async fn the_engine_publishes_everything_once_in_order_and_one_at_a_time_per_account() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).accounts(5)]).await;
    for number in 0..200 {
        let draft = Draft::text(format!("{number:03}"));
        shop.social.schedule(&shop.user, draft).on([&shop.accounts[number % 5]]).send().await.unwrap();
        shop.clock.advance(Duration::from_millis(1));
    }
    let (running, stop) = shop.run();
    shop.until("all are published", async || network.posts().len() >= 200).await;
    shop.until("all are recorded", async || shop.store.depth().await.unwrap().is_empty()).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let posts = network.posts();
    assert_eq!(posts.len(), 200);
    assert_eq!(network.most_busy(), 1);
    for account in 0..5 {
        let name = format!("fake-{account}");
        let texts: Vec<_> = posts.iter().filter(|post| post.account == name).map(|post| &post.text).collect();
        assert!(texts.len() == 40 && texts.is_sorted(), "{texts:?}");
    }
}

#[tokio::test]
async fn a_network_that_hangs_does_not_delay_the_others() {
    let (slow, quick) = (FakeNetwork::default(), FakeNetwork::default());
    let hanging = FakePlatform::new("slow", slow.clone()).facts(|facts| facts.flow.max_in_flight = 2);
    let shop = Shop::open(vec![hanging, FakePlatform::new("quick", quick.clone())]).await;
    for number in 0..20 {
        (0..4).for_each(|_| slow.next("prepare", Turn::Hang));
        for account in &shop.accounts {
            shop.social.schedule(&shop.user, Draft::text(format!("{number}"))).on([account]).send().await.unwrap();
        }
    }
    let (running, stop) = shop.run();
    let begun = shop.clock.now();
    shop.until("the quick network has everything", async || quick.posts().len() == 40).await;
    assert!(shop.clock.now().duration_since(begun).as_secs() < 5, "lateness on the quick network");
    assert!(slow.posts().is_empty());
    stop.send(()).unwrap();
    shop.until("the worker has stopped", async || running.is_finished()).await;
    running.await.unwrap().unwrap();
    // What hung is handed back, not lost.
    let depth = shop.store.depth().await.unwrap();
    let waiting: u64 =
        depth.iter().filter(|(platform, ..)| platform.as_str() == "slow").map(|(.., number)| number).sum();
    assert_eq!(waiting, 40);
    let much_later = later(shop.clock.now(), signed(Duration::from_secs(3600)));
    assert_eq!(shop.store.reclaim(much_later).await.unwrap(), 0, "no lease is left behind");
}

#[tokio::test]
async fn a_claim_whose_answer_is_on_its_way_when_the_worker_stops_is_handed_back() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    shop.post("claimed, and not yet known").await;
    shop.probe.hold_claims();
    let (running, stop) = shop.run();
    shop.until("it has asked", async || shop.probe.claims() == 1).await;
    stop.send(()).unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished(), "the answer is awaited");
    shop.probe.release_claims();
    running.await.unwrap().unwrap();
    assert!(network.posts().is_empty());
    assert_eq!(shop.store.claim_due(&shop.claim()).await.unwrap().len(), 1, "another worker can have it at once");
}

/// The network has given new tokens, which exist nowhere else, and their answer is on its way.
#[tokio::test]
async fn a_refresh_that_is_under_way_when_the_worker_stops_is_stored() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let version = async || shop.store.connections(shop.user).await.unwrap()[0].version;
    let before = version().await;
    let slow = Duration::from_secs(5);
    network.next("refresh", Turn::Wait(slow));
    shop.clock.advance(Duration::from_secs(7200));
    let (running, stop) = shop.run();
    shop.until("it refreshes", async || network.calls("refresh") == 1).await;
    stop.send(()).unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished(), "the answer is awaited");
    shop.clock.advance(slow);
    running.await.unwrap().unwrap();
    assert_eq!(version().await, before.next());
}

#[tokio::test]
async fn a_long_preparation_is_kept_by_the_heartbeat() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    network.next("prepare", Turn::Hang);
    let post = shop.post("a very long film").await;
    let (running, stop) = shop.run();
    shop.until("it is being prepared", async || network.calls("prepare") == 1).await;
    for _ in 0..40 {
        shop.clock.advance(Duration::from_secs(10));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(network.calls("prepare"), 1, "nobody else took it");
    assert_eq!(shop.delivery(&post).await.crashes, 0);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    shop.social.cancel(shop.user, post.post.id).await.unwrap();
}

#[tokio::test]
async fn a_dead_token_is_refreshed_once_and_the_commit_gets_a_new_permit() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let connection = shop.accounts[0].connection;
    let tokens = shop.social.keeper().tokens(connection, None).await.unwrap();
    // Tokens that were only just given are not replaced.
    shop.clock.advance(Duration::from_secs(120));
    network.kill_token(tokens.access.expose());
    let post = shop.post("hello").await;
    shop.tick().await;
    let delivery = shop.delivery(&post).await;
    assert!(matches!(delivery.phase, Phase::Published { .. }), "{delivery:?}");
    assert_eq!((network.calls("refresh"), network.posts().len()), (1, 1));
}

#[tokio::test]
async fn one_key_makes_one_post() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let send = |text: &'static str| {
        shop.social.schedule(&shop.user, Draft::text(text)).on([&shop.accounts[0]]).key("order-17").send()
    };
    let first = send("hello").await.unwrap();
    let again = send("hello").await.unwrap();
    assert_eq!((again.existing, again.post.id), (true, first.post.id));
    assert_eq!(send("something else").await.unwrap_err().kind(), ErrorKind::Conflict);
    shop.tick().await;
    assert_eq!(network.posts().len(), 1);
}

#[tokio::test]
async fn a_draft_that_one_account_refuses_is_scheduled_nowhere() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let send = |user: UserId, text: String, at| {
        let draft = shop.social.schedule(&user, Draft::text(text)).on(&shop.accounts);
        match at {
            Some(at) => draft.at(at).send(),
            None => draft.send(),
        }
    };
    let refused = send(shop.user, "x".repeat(101), None).await.unwrap_err();
    let violation = &refused.violated()[0];
    assert_eq!((refused.kind(), violation.code.as_str()), (ErrorKind::Invalid, "text_too_long"));
    assert_eq!((violation.limit, violation.actual), (Some(100), Some(101)));
    assert_eq!(violation.account_id, Some(shop.accounts[0].id));
    let past = later(shop.clock.now(), -signed(Duration::from_secs(2 * 3600)));
    let late = send(shop.user, "x".into(), Some(past)).await.unwrap_err();
    assert_eq!(late.violated()[0].code, "time_past");
    let foreign = send(UserId::new(), "x".into(), None).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::NotFound);
    assert!(shop.store.depth().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_callback_counts_once_in_the_browser_that_began_it() {
    let network = FakeNetwork::default();
    let platforms = vec![FakePlatform::new("fake", network.clone()), FakePlatform::new("other", network.clone())];
    let shop = Shop::open(platforms).await;
    let begin = || {
        shop.social.connect(&shop.user, "fake").callback("http://127.0.0.1:1/cb").context(Some("/home".into())).begin()
    };
    let query = |url: &url::Url| {
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        CallbackQuery { code: Some("code".into()), state: Some(state), ..CallbackQuery::default() }
    };
    // Another browser; and that attempt is spent.
    let (mine, theirs) = (begin().await.unwrap(), begin().await.unwrap());
    assert_eq!(shop.social.finish("fake", &query(&mine.url), &theirs.cookie).await.unwrap_err().code, "expired");
    assert_eq!(shop.social.finish("fake", &query(&mine.url), &mine.cookie).await.unwrap_err().code, "expired");
    // Another platform.
    let swapped = begin().await.unwrap();
    assert_eq!(shop.social.finish("other", &query(&swapped.url), &swapped.cookie).await.unwrap_err().code, "expired");
    // Too late.
    let late = begin().await.unwrap();
    shop.clock.advance(Duration::from_secs(601));
    assert_eq!(shop.social.finish("fake", &query(&late.url), &late.cookie).await.unwrap_err().code, "expired");
    // Said no.
    let denied = begin().await.unwrap();
    let no = CallbackQuery { code: None, error: Some("access_denied".into()), ..query(&denied.url) };
    let failed = shop.social.finish("fake", &no, &denied.cookie).await.unwrap_err();
    assert_eq!((failed.code, failed.context.as_deref()), ("access_denied", Some("/home")));
    // Two at once: exactly one wins.
    let twice = begin().await.unwrap();
    let once = query(&twice.url);
    let (a, b) = tokio::join!(
        shop.social.finish("fake", &once, &twice.cookie),
        shop.social.finish("fake", &once, &twice.cookie)
    );
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
    assert_eq!(a.or(b).unwrap().context.as_deref(), Some("/home"));
}

#[tokio::test]
async fn deleting_on_the_network_is_for_what_is_published_with_an_id() {
    let network = FakeNetwork::default();
    let shop = shop(&network).await;
    let post = shop.post("hello").await;
    let id = post.deliveries[0].id;
    assert_eq!(shop.social.delete_remote(shop.user, id).await.unwrap_err().kind(), ErrorKind::Conflict);
    shop.tick().await;
    shop.social.delete_remote(shop.user, id).await.unwrap();
    assert!(network.posts().is_empty());
    assert_eq!(shop.events().await.last().map(String::as_str), Some("deleted_remote"));

    network.next("commit", Turn::FailAfter(transient()));
    network.next("reconcile", Turn::Say(Reconciled::Published(RemotePost::unknown())));
    let unknown = shop.post("id unknown").await;
    shop.tick().await;
    shop.clock.advance(Duration::from_secs(30));
    shop.tick().await;
    let refused = shop.social.delete_remote(shop.user, unknown.deliveries[0].id).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_hangs_in_a_lane_leaves_its_free_places_to_the_others() {
    let network = FakeNetwork::default();
    let fake = FakePlatform::new("fake", network.clone()).accounts(40).facts(|facts| facts.flow.max_in_flight = 8);
    let shop = Shop::open(vec![fake]).await;
    // More than half of the lane hangs, and there is more than the lane can take.
    (0..6).for_each(|_| network.next("prepare", Turn::Hang));
    for (number, account) in shop.accounts.iter().enumerate() {
        shop.social.schedule(&shop.user, Draft::text(format!("{number:02}"))).on([account]).send().await.unwrap();
    }
    let (running, stop) = shop.run();
    let begun = shop.clock.now();
    shop.until("everything that does not hang is published", async || network.posts().len() == 34).await;
    assert!(shop.clock.now().duration_since(begun).as_secs() < 5, "two places are enough");
    stop.send(()).unwrap();
    shop.until("the worker has stopped", async || running.is_finished()).await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lane_holds_some_more_ready_than_it_lets_to_the_network() {
    let network = FakeNetwork::default();
    let fake = FakePlatform::new("fake", network.clone()).accounts(20).facts(|facts| facts.flow.max_in_flight = 4);
    let shop = Shop::open(vec![fake]).await;
    (0..4).for_each(|_| network.next("prepare", Turn::Hang));
    for account in &shop.accounts {
        shop.social.schedule(&shop.user, Draft::text("one of many")).on([account]).send().await.unwrap();
    }
    let (running, stop) = shop.run();
    shop.until("every place is taken", async || network.calls("prepare") == 4).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let backlog = shop.store.backlog(shop.clock.now()).await.unwrap();
    assert_eq!(backlog.iter().map(|one| one.held).sum::<u64>(), 6, "half as many again are held");
    assert_eq!(network.calls("prepare"), 4, "and wait for a place");
    stop.send(()).unwrap();
    shop.until("the worker has stopped", async || running.is_finished()).await;
    running.await.unwrap().unwrap();
    let backlog = shop.store.backlog(shop.clock.now()).await.unwrap();
    assert_eq!(backlog.iter().map(|one| (one.due, one.held)).collect::<Vec<_>>(), [(20, 0)], "all are handed back");
}

#[tokio::test]
async fn a_trickle_is_claimed_in_batches_and_still_on_time() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).accounts(20)]).await;
    let begin = later(shop.clock.now(), signed(Duration::from_secs(2)));
    for number in 0..400_u32 {
        let at = later(begin, signed(Duration::from_millis(5) * number));
        let draft = Draft::text(at.as_millisecond().to_string());
        shop.social.schedule(&shop.user, draft).on([&shop.accounts[number as usize % 20]]).at(at).send().await.unwrap();
    }
    let (running, stop) = shop.run();
    for _ in 0..1_000 {
        shop.clock.advance(Duration::from_millis(5));
        for _ in 0..40 {
            tokio::task::yield_now().await;
        }
        let now = shop.clock.now();
        let due = (0..400_u32).filter(|n| later(begin, signed(Duration::from_millis(5) * *n)) <= now).count();
        assert_eq!(network.posts().len(), due, "at {now}");
    }
    // Two seconds of posts, half a second of them at a time.
    assert!(shop.probe.claims() < 20, "{} claims for 400 posts", shop.probe.claims());
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// F8: a bill that is not paid stops the whole network. Nobody's attempt is used, one call per window finds out whether it is over, operators
/// see it, and everything goes out when it is.
#[tokio::test]
async fn a_stop_of_a_whole_network_is_seen_and_probed_by_one_call_per_window() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).accounts(20)]).await;
    let pay = Duration::from_secs(900);
    let billing = || Error::new(ErrorKind::Billing, "publish.commit").retry_after(pay).effect_none();
    network.next("commit", Turn::Fail(billing()));
    let mut posts = Vec::new();
    for account in &shop.accounts {
        let draft = Draft::text(format!("on {}", account.profile.remote_id));
        posts.push(shop.social.schedule(&shop.user, draft).on([account]).send().await.unwrap());
    }
    shop.tick().await;
    assert_eq!(network.calls("commit"), 1, "one refusal stops all accounts");
    let stops = shop.social.stops().await.unwrap();
    assert_eq!(stops.len(), 1);
    assert_eq!((stops[0].platform.as_str(), stops[0].reason), ("fake", social_core::rate::Stop::Billing));
    assert_eq!(stops[0].until, later(shop.clock.now(), signed(pay)));

    // Not paid at the first probe; a post with a file probes with its upload, not after it.
    (0..30).for_each(|_| network.next("prepare", Turn::Pass));
    network.next("commit", Turn::Fail(billing()));
    let mut windows = 0;
    for _ in 0..100 {
        shop.clock.advance(Duration::from_secs(12));
        shop.tick().await;
        if network.calls("commit") == 2 {
            windows += 1;
        }
        assert!(network.calls("commit") <= 2 || windows > 60, "one call in {windows} windows of 12 s");
        if network.calls("commit") > 2 {
            break;
        }
    }
    for _ in 0..50 {
        shop.clock.advance(Duration::from_secs(12));
        shop.tick().await;
    }
    assert_eq!(network.posts().len(), 20, "everything goes out when it is over");
    assert!(shop.social.stops().await.unwrap().is_empty());
    for post in &posts {
        assert_eq!(shop.delivery(post).await.attempt, 1, "waiting uses no attempt");
    }
}

/// F8: what finds out is a file that the network takes and then works on for a while. That opens the network for everybody else at once.
#[tokio::test]
async fn a_file_that_is_taken_ends_a_stop_before_it_is_ready() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).accounts(3)]).await;
    let pay = Duration::from_secs(900);
    let billing = Error::new(ErrorKind::Billing, "publish.commit").retry_after(pay).effect_none();
    network.next("commit", Turn::Fail(billing));
    shop.post("refused").await;
    shop.tick().await;
    assert_eq!(shop.social.stops().await.unwrap().len(), 1);
    shop.exchange(&shop.social).await;
    shop.clock.advance(pay + Duration::from_secs(2));
    shop.social.schedule(&shop.user, Draft::text("takes long")).on([&shop.accounts[1]]).send().await.unwrap();
    network.next("prepare", Turn::Wait(Duration::from_secs(600)));
    shop.tick().await;
    shop.exchange(&shop.social).await;
    assert!(shop.social.stops().await.unwrap().is_empty(), "the network has taken something");
    shop.social.schedule(&shop.user, Draft::text("another")).on([&shop.accounts[2]]).send().await.unwrap();
    shop.tick().await;
    assert!(network.posts().iter().any(|post| post.text.contains("another")), "{:?}", network.posts());
}

/// F8: several processes know of a block. When it ends, one of them makes the call that finds out; the others wait for it.
#[tokio::test(start_paused = true)]
async fn of_several_processes_one_probes() {
    let network = FakeNetwork::default();
    let shop = Shop::open(vec![FakePlatform::new("fake", network.clone()).accounts(3)]).await;
    let other = Social::builder()
        .shared_store(shop.store.clone())
        .keys(fixtures::key_ring())
        .clock(Arc::new(shop.clock.clone()))
        .platform(FakePlatform::new("fake", network.clone()))
        .build()
        .unwrap();
    let wait = Duration::from_secs(900);
    let billing = Error::new(ErrorKind::Billing, "publish.commit").retry_after(wait).effect_none();
    network.next("commit", Turn::Fail(billing));
    for account in &shop.accounts[..2] {
        shop.social.schedule(&shop.user, Draft::text("waits")).on([account]).send().await.unwrap();
    }
    shop.tick().await;
    assert_eq!(network.calls("commit"), 1);
    shop.exchange(&shop.social).await;
    shop.exchange(&other).await;
    shop.clock.advance(wait + Duration::from_secs(2));
    network.next("commit", Turn::Hang);
    let probing = tokio::spawn({
        let worker = shop.social.worker();
        async move { worker.tick().await }
    });
    while network.calls("commit") == 1 {
        network.called().await;
    }
    // The other process has a post for an account of its own while the probe is out, and has heard nothing of it.
    shop.social.schedule(&shop.user, Draft::text("of the other")).on([&shop.accounts[2]]).send().await.unwrap();
    assert_eq!(other.worker().tick().await.unwrap(), 1);
    shop.clock.advance(Duration::from_secs(6));
    assert_eq!(other.worker().tick().await.unwrap(), 1);
    assert_eq!(network.calls("commit"), 2, "one call finds out");
    probing.abort();
}

/// One account has a long queue and its network hangs: posts of other accounts, due later, go out all the same.
#[tokio::test]
async fn a_long_queue_of_one_account_does_not_fill_the_lane() {
    let network = FakeNetwork::default();
    let fake = FakePlatform::new("fake", network.clone()).accounts(3).facts(|facts| facts.flow.max_in_flight = 8);
    let shop = Shop::open(vec![fake]).await;
    for number in 0..300 {
        let draft = Draft::text(format!("long queue {number}"));
        shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).send().await.unwrap();
    }
    network.next("commit", Turn::Hang);
    let (running, stop) = shop.run();
    shop.until("the first one hangs", async || network.calls("commit") == 1).await;
    let hung = shop.clock.now();
    for account in &shop.accounts[1..] {
        shop.social.schedule(&shop.user, Draft::text("of another")).on([account]).send().await.unwrap();
    }
    let others = || network.posts().iter().filter(|post| post.text == "of another").count();
    shop.until("the others are published", async || others() == 2).await;
    assert!(shop.clock.now().duration_since(hung).as_secs() < 8, "not only after the deadline of what hangs");
    assert_eq!(network.posts().len(), 2);
    drop(stop);
    running.abort();
}

#[tokio::test]
async fn a_long_queue_of_one_account_keeps_its_order_one_at_a_time() {
    let network = FakeNetwork::default();
    let fake = FakePlatform::new("fake", network.clone()).facts(|facts| facts.flow.max_in_flight = 8);
    let shop = Shop::open(vec![fake]).await;
    for number in 0..300 {
        let draft = Draft::text(format!("long queue {number}"));
        shop.social.schedule(&shop.user, draft).on([&shop.accounts[0]]).send().await.unwrap();
        shop.clock.advance(Duration::from_micros(1));
    }
    let (running, stop) = shop.run();
    shop.until("all are published", async || network.posts().len() == 300).await;
    let numbers: Vec<u32> =
        network.posts().iter().filter_map(|post| post.text.strip_prefix("long queue ")?.parse().ok()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(network.most_busy(), 1);
    drop(stop);
    running.abort();
}

/// Retention: what is old goes in portions, what is needed stays.
#[tokio::test(start_paused = true)]
async fn what_is_old_is_thrown_away_and_what_is_needed_stays() {
    use social_core::{
        engine::{Retention, Tidied},
        store::MediaStore as _,
    };
    let day = Duration::from_secs(24 * 3600);
    let network = FakeNetwork::default();
    let store = Arc::new(MemoryStore::new());
    let clock = clock::manual();
    let social = Social::builder()
        .shared_store(store.clone())
        .keys(fixtures::key_ring())
        .clock(Arc::new(clock.clone()))
        .platform(FakePlatform::new("fake", network.clone()))
        .retention(Retention { history: Some(day * 90), media: Some(day * 30) })
        .build()
        .unwrap();
    let user = fixtures::user("ada@example.org");
    store.insert_user(&user).await.unwrap();
    let connected = fixtures::connect(&*store, user.id, &social_core::PlatformId::from_static("fake"), 1).await;
    let files = [fixtures::image(), fixtures::image(), fixtures::image()];
    for file in &files {
        store.insert_media(user.id, file, clock.now()).await.unwrap();
        social.library().put(file.id, bytes::Bytes::from_static(b"file")).await.unwrap();
    }
    let with = |file: &social_core::draft::StoredMedia| {
        let mut new = fixtures::new_post(user.id, &connected.accounts, later(clock.now(), signed(day * 200)));
        new.post.draft = Draft::text("with a file").image(file.clone(), "a file");
        new
    };
    let open = with(&files[0]);
    assert_eq!(store.insert_post(&open).await.unwrap(), social_core::store::Insert::Stored);
    assert_eq!(social.tidy().await.unwrap(), Tidied::default(), "nothing is old");
    let moving = clock.clone();
    let ticking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            moving.advance(Duration::from_millis(100));
        }
    });
    clock.advance(day * 31);
    assert_eq!(social.tidy().await.unwrap(), Tidied { files: 2, ..Tidied::default() });
    assert!(store.media(user.id, files[0].id).await.unwrap().is_some(), "a post that has not ended needs it");
    assert!(social.library().open(files[0].id).await.is_ok());
    assert!(
        social.library().open(files[1].id).await.is_err() && store.media(user.id, files[1].id).await.unwrap().is_none()
    );
    clock.advance(day * 60);
    let before = store.logs(user.id, &Default::default(), &Default::default()).await.unwrap().items.len();
    let tidied = social.tidy().await.unwrap();
    assert_eq!((tidied.rows, before), (1, 1));
    let left = store.logs(user.id, &Default::default(), &Default::default()).await.unwrap();
    assert!(left.items.is_empty());
    assert!(store.post(user.id, open.post.id).await.unwrap().is_some(), "posts stay");
    assert_eq!(social.tidy().await.unwrap(), Tidied::default());
    ticking.abort();
}
