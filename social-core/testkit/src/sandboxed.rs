//! The sandbox as the network of a [`World`](crate::world::World): what an adapter of a simulated network adds is its name, its personas and its shapes.

use std::{fmt::Debug, marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use social_core::{Platform, social::CallbackQuery};
use social_sandbox::{Fault, FaultSpec, ManualClock, NamedFault, RunningSandbox, Sandbox, When};
use url::Url;

use crate::world::{Calls, Disturbance, Harness, Instead, Shape, Visible};

/// What an adapter says about its network in the sandbox.
pub trait Simulated: Debug + Send + Sync + 'static {
    /// The sandbox's name of the network.
    const PLATFORM: &'static str;
    /// Who logs in.
    const PERSONA: &'static str;
    /// The operations with a visible effect.
    const VISIBLE: &'static [&'static str];
    /// All other operations of publishing, for disturbances of everything.
    const OTHERS: &'static [&'static str];
    /// How long access tokens live.
    const TOKEN_LIFE: Duration;
    /// The adapter, pointed at `base`.
    fn adapter(base: Url) -> Arc<dyn Platform>;
    /// What can be posted, one of each kind.
    fn shapes() -> Vec<Shape>;
}

/// A running sandbox as a harness for one network.
#[derive(Debug)]
pub struct SandboxNet<S> {
    sandbox: RunningSandbox,
    platform: Arc<dyn Platform>,
    client: reqwest::Client,
    network: PhantomData<S>,
}

impl<S> SandboxNet<S> {
    /// The sandbox itself.
    #[must_use]
    pub fn sandbox(&self) -> &RunningSandbox {
        &self.sandbox
    }
}

#[async_trait]
impl<S: Simulated> Harness for SandboxNet<S> {
    async fn boot(start: Timestamp) -> Self {
        let sandbox = Sandbox::new()
            .seed(7)
            .clock(Arc::new(ManualClock::new(start)))
            .start()
            .await
            .expect("a free port of this machine");
        let platform =
            S::adapter(sandbox.base_url(S::PLATFORM).parse().expect("the sandbox has a well-formed address"));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a plain client");
        Self { sandbox, platform, client, network: PhantomData }
    }

    fn platform(&self) -> Arc<dyn Platform> {
        self.platform.clone()
    }

    async fn consent(&self, url: &Url) -> CallbackQuery {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("auto", "approve").append_pair("persona", S::PERSONA);
        let answer = self.client.get(url).send().await.expect("the sandbox answers");
        let status = answer.status();
        let Some(back) = answer.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned) else {
            panic!("no redirect but {status}: {}", answer.text().await.unwrap_or_default());
        };
        CallbackQuery::parse(back.parse::<Url>().expect("a well-formed redirect").query().unwrap_or_default())
    }

    fn visible(&self) -> Vec<Visible> {
        let ledger = self.sandbox.control().ledger().into_iter().filter(|entry| entry.platform == S::PLATFORM);
        let visible = |entry: social_sandbox::LedgerEntry| Visible {
            id: entry.id.to_string(),
            text: entry.text.to_string(),
            media: entry.media.len(),
            deleted: entry.deleted_at.is_some(),
        };
        ledger.map(visible).collect()
    }

    fn arm(&self, disturbance: Disturbance) {
        let Disturbance { calls, effect, instead, skip, times } = disturbance;
        let when = if effect { When::After } else { When::Before };
        let fault = match instead {
            Instead::Cut => Fault::Named(NamedFault::Reset),
            Instead::Emptied => Fault::Named(NamedFault::Empty),
            Instead::Answer { status, body, headers } => {
                Fault::Answer { status, body: body.into(), headers: headers.into_iter().collect() }
            }
        };
        let operations = S::VISIBLE.iter().chain(S::OTHERS.iter().filter(|_| calls == Calls::All));
        for operation in operations {
            let mut spec = FaultSpec::new(S::PLATFORM, operation, when, fault.clone());
            (spec.skip, spec.times) = (Some(skip), times);
            self.sandbox.control().add_fault(spec).expect("a known operation");
        }
    }

    fn advance(&self, by: Duration) {
        self.sandbox.control().advance(by);
    }

    fn issued_secrets(&self) -> Vec<String> {
        self.sandbox.issued_secrets().into_iter().map(|secret| secret.value.to_string()).collect()
    }

    fn expire_tokens(&self) {
        self.sandbox.control().advance(S::TOKEN_LIFE + Duration::from_secs(1));
    }

    fn end_grants(&self) {
        let network = social_sandbox::Platform::parse(S::PLATFORM).expect("a network of the sandbox");
        self.sandbox.control().revoke_persona(network, S::PERSONA);
    }

    fn shapes(&self) -> Vec<Shape> {
        S::shapes()
    }
}
