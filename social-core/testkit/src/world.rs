//! A world in one process: a network that a harness simulates, a store in memory, a worker that can die, and a clock that only tests move.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{
    Account, AccountKind, Draft, Phase, PhaseName, Platform, Social, UserId,
    memory::MemoryStore,
    social::{CallbackQuery, Scheduled},
    store::{AdminStore as _, Delivery, JobStore as _, PostStore as _, User},
    time::{Clock as _, ManualClock, SeededChance, positive},
    vault::KeyRing,
};
use url::Url;

use crate::probe::{Probe, ProbeStore};

/// When every world begins.
pub const START: &str = "2026-11-22T09:00:00Z";
/// Where people come back to.
pub const CALLBACK: &str = "http://127.0.0.1:8080/callback";
/// A delivery that has not come to rest after so many rounds never will.
const MOST_ROUNDS: usize = 400;

/// What an adapter's tests bring: a network that can be watched and disturbed. The network must not share code with the adapter.
#[async_trait]
pub trait Harness: Debug + Send + Sync + Sized + 'static {
    /// A fresh network whose clock stands at `start`.
    async fn boot(start: Timestamp) -> Self;
    /// The adapter, pointed at that network.
    fn platform(&self) -> Arc<dyn Platform>;
    /// A person follows the authorization address and agrees; answers with what the network sends back.
    async fn consent(&self, url: &Url) -> CallbackQuery;
    /// Everything that was ever visible, in order.
    fn visible(&self) -> Vec<Visible>;
    /// Disturbs the network from now on.
    fn arm(&self, fault: Disturbance);
    /// Moves the network's clock.
    fn advance(&self, by: Duration);
    /// Every token and code that the network ever issued.
    fn issued_secrets(&self) -> Vec<String>;
    /// Makes the network refuse every access token issued so far; refreshing still works.
    fn expire_tokens(&self);
    /// Ends every grant: neither access nor refresh tokens work any more.
    fn end_grants(&self);
    /// What can be posted, one of each kind.
    fn shapes(&self) -> Vec<Shape>;
}

/// A kind of post.
#[derive(Debug, Clone)]
pub struct Shape {
    /// For messages.
    pub name: &'static str,
    /// What is posted.
    pub draft: Draft,
    /// To which kind of account; the first one for `None`.
    pub on: Option<AccountKind>,
    /// How many visible things it makes, such as the parts of a thread.
    pub visible: usize,
}

impl Shape {
    /// A shape that makes one visible thing on the first account.
    #[must_use]
    pub fn one(name: &'static str, draft: Draft) -> Self {
        Self { name, draft, on: None, visible: 1 }
    }

    /// A shape that makes several visible things.
    #[must_use]
    pub fn parts(mut self, visible: usize) -> Self {
        self.visible = visible;
        self
    }

    /// Posted to another kind of account.
    #[must_use]
    pub fn on(mut self, kind: AccountKind) -> Self {
        self.on = Some(kind);
        self
    }
}

/// Something that the public could see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// The network's id.
    pub id: String,
    /// What it says.
    pub text: String,
    /// How many files it shows.
    pub media: usize,
    /// Whether it was deleted afterwards.
    pub deleted: bool,
}

/// A disturbance of the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Disturbance {
    /// Which calls.
    pub calls: Calls,
    /// Whether the calls have their effect all the same.
    pub effect: bool,
    /// What the caller gets instead.
    pub instead: Instead,
    /// Let so many matching calls pass first.
    pub skip: u64,
    /// How often; `None` for always.
    pub times: Option<u64>,
}

/// Which calls are disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Those that the public can see the effect of.
    Visible,
    /// All but those of OAuth.
    All,
}

/// What a caller gets instead of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Instead {
    /// A broken line.
    Cut,
    /// The success status without body and without the network's headers.
    Emptied,
    /// Some other answer.
    Answer {
        /// Status.
        status: u16,
        /// Body; HTML if it begins with `<`.
        body: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
}

/// A network, an installation and a user with connected accounts.
#[derive(Debug)]
pub struct World<H> {
    /// The network.
    pub net: H,
    /// The installation's clock.
    pub clock: ManualClock,
    /// The store itself, without the probe.
    pub memory: Arc<MemoryStore>,
    /// Where the worker dies.
    pub probe: Arc<Probe>,
    /// The installation.
    pub social: Social,
    /// Whoever posts.
    pub user: UserId,
    /// Where to.
    pub accounts: Vec<Account>,
}

impl<H: Harness> World<H> {
    /// A fresh world with connected accounts.
    pub async fn start() -> Self {
        let start: Timestamp = START.parse().expect("a literal instant");
        let net = H::boot(start).await;
        let clock = ManualClock::at(start);
        let memory = Arc::new(MemoryStore::new());
        let probe = Arc::new(Probe::default());
        let (keys, _) = KeyRing::generate("world").expect("a well-formed key id");
        let social = Social::builder()
            .store(ProbeStore::new(memory.clone(), probe.clone()))
            .keys(keys)
            .shared_platform(net.platform())
            .clock(Arc::new(clock.clone()))
            .chance(Arc::new(SeededChance::new(7)))
            .build()
            .expect("a complete installation");
        let user = User { id: UserId::new(), email: "ada@example.org".into(), plan: "free".into(), created_at: start };
        assert!(memory.insert_user(&user).await.expect("memory does not fail"));
        let mut world = Self { net, clock, memory, probe, social, user: user.id, accounts: Vec::new() };
        world.connect().await;
        world
    }

    /// Connects the accounts of the network, or connects them again.
    pub async fn connect(&mut self) {
        let platform = self.net.platform().descriptor().id.clone();
        let mut accounts = Vec::new();
        for preset in &self.net.platform().descriptor().oauth.presets {
            let begun = self
                .social
                .connect(&self.user, platform.as_str())
                .callback(CALLBACK)
                .preset(Some(&preset.name))
                .begin()
                .await;
            let begun = begun.unwrap_or_else(|e| panic!("cannot begin to connect with {}: {e:?}", preset.name));
            let query = self.net.consent(&begun.url).await;
            let connected = self.social.finish(platform.as_str(), &query, &begun.cookie).await;
            accounts = connected.unwrap_or_else(|e| panic!("cannot connect with {}: {e:?}", preset.name)).accounts;
        }
        self.accounts = accounts;
    }

    /// The account that a shape goes to.
    #[must_use]
    pub fn account_for(&self, shape: &Shape) -> &Account {
        let fits = |account: &&Account| shape.on.is_none_or(|kind| account.profile.kind == kind);
        self.accounts.iter().find(fits).unwrap_or_else(|| panic!("no account of the kind that {} needs", shape.name))
    }

    /// Schedules a shape for now.
    pub async fn schedule(&self, shape: &Shape) -> Scheduled {
        let scheduled =
            self.social.schedule(&self.user, shape.draft.clone()).on([self.account_for(shape)]).send().await;
        scheduled.unwrap_or_else(|e| panic!("{} was refused: {e:?} {:?}", shape.name, e.violated()))
    }

    /// Lets workers work, die and begin again, and time pass, until every delivery rests. Answers with the deliveries of the post.
    pub async fn run_to_rest(&self, post: &Scheduled) -> Vec<Delivery> {
        for _ in 0..MOST_ROUNDS {
            self.round().await;
            let deliveries = self.deliveries(post).await;
            let at_rest = |name: PhaseName| {
                name.is_final() || matches!(name, PhaseName::Unconfirmed | PhaseName::AwaitingReconnect)
            };
            if deliveries.iter().all(|delivery| at_rest(delivery.phase.name())) {
                return deliveries;
            }
            self.let_time_pass().await;
        }
        panic!("the deliveries never came to rest: {:?}", self.deliveries(post).await);
    }

    /// One worker claims what is due and works on it, unless it dies.
    pub async fn round(&self) {
        let worker = self.social.worker();
        tokio::select! {
            outcome = worker.tick() => {
                outcome.expect("memory does not fail");
            }
            () = self.probe.died() => {
                self.probe.live();
                // Found again when its lease has ended.
                self.pass(Duration::from_secs(61));
            }
        }
    }

    async fn let_time_pass(&self) {
        let platform = self.net.platform().descriptor().id.clone();
        let next = self.memory.next_due(&[platform]).await.expect("memory does not fail");
        let until = next.first().and_then(|(_, at)| positive(at.duration_since(self.clock.now())));
        self.pass(until.unwrap_or(Duration::from_secs(1)));
    }

    /// Moves both clocks.
    pub fn pass(&self, by: Duration) {
        self.clock.advance(by);
        self.net.advance(by);
    }

    /// The deliveries of a post as they stand.
    pub async fn deliveries(&self, post: &Scheduled) -> Vec<Delivery> {
        self.memory.post(self.user, post.post.id).await.expect("memory does not fail").expect("the post is there").1
    }

    /// Posts a shape and waits until it rests.
    pub async fn publish(&self, shape: &Shape) -> Delivery {
        let post = self.schedule(shape).await;
        self.run_to_rest(&post).await.remove(0)
    }

    /// Everything that this installation keeps, as text, for secret scans.
    #[must_use]
    pub fn dump(&self) -> String {
        self.memory.dump()
    }
}

/// Fails unless a delivery is published as a whole and the network shows it exactly once.
pub fn assert_published_once<H: Harness>(world: &World<H>, shape: &Shape, delivery: &Delivery, told: &str) {
    let visible = world.net.visible();
    assert!(
        matches!(delivery.phase, Phase::Published { .. }),
        "{told}: {} ended as {:?}, error {:?}",
        shape.name,
        delivery.phase,
        delivery.error
    );
    assert_eq!(visible.len(), shape.visible, "{told}: {} is visible as {visible:#?}", shape.name);
}
