//! The suite that every adapter passes, and the rows of the error table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod fake;

use std::{sync::Arc, time::Duration};

use example_custom_platform::Chirp;
use fake::{FakeChirp, Fault};
use jiff::Timestamp;
use social_core::{Analytics as _, Draft, Platform, RemotePostId, media::sample, social::CallbackQuery};
use social_testkit::world::{Calls, Disturbance, Harness, Instead, Shape, Visible, World};
use url::Url;

/// The pretended Chirp as the suite wants it.
#[derive(Debug)]
struct ChirpHarness {
    network: FakeChirp,
    platform: Arc<dyn Platform>,
}

#[async_trait::async_trait]
impl Harness for ChirpHarness {
    async fn boot(start: Timestamp) -> Self {
        let network = FakeChirp::start(start).await;
        let adapter = Chirp::builder("chirp-client", "chirp-secret").base_url(network.base.clone()).build();
        Self { platform: Arc::new(adapter.expect("complete credentials")), network }
    }

    fn platform(&self) -> Arc<dyn Platform> {
        self.platform.clone()
    }

    async fn consent(&self, url: &Url) -> CallbackQuery {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let answer = client.expect("a plain client").get(url.clone()).send().await.expect("Chirp answers");
        let back = answer.headers()["location"].to_str().expect("an address").parse::<Url>().expect("an address");
        CallbackQuery::parse(back.query().unwrap_or_default())
    }

    fn visible(&self) -> Vec<Visible> {
        let posted = self.network.visible().into_iter();
        posted.map(|c| Visible { id: c.id, text: c.text, media: c.images, deleted: c.deleted }).collect()
    }

    fn arm(&self, disturbance: Disturbance) {
        let Disturbance { calls, effect, instead, skip, times } = disturbance;
        let instead = match instead {
            Instead::Cut => fake::Instead::Cut,
            Instead::Emptied => fake::Instead::Empty,
            Instead::Answer { status, body, headers } => fake::Instead::Answer { status, body, headers },
        };
        self.network.arm(Fault { visible_only: calls == Calls::Visible, effect, instead, skip, times });
    }

    fn advance(&self, by: Duration) {
        self.network.advance(by);
    }

    fn issued_secrets(&self) -> Vec<String> {
        self.network.issued_secrets()
    }

    fn expire_tokens(&self) {
        self.network.expire_tokens();
    }

    fn end_grants(&self) {
        self.network.end_grants();
    }

    fn shapes(&self) -> Vec<Shape> {
        let picture = || bytes::Bytes::from(sample::png(640, 480));
        vec![
            Shape::one("a text", Draft::text("Good morning, Chirp.")),
            Shape::one("a picture", Draft::text("Look.").image(picture(), "a grey square")),
            Shape::one("two pictures", Draft::text("Look twice.").image(picture(), "one").image(picture(), "two")),
        ]
    }
}

social_testkit::platform_suite!(ChirpHarness);

/// Recorded refusals: status, body, and what they mean.
#[tokio::test]
async fn refusals_mean_what_the_table_says() {
    let rows: [(&str, u16, &str, bool); 7] = [
        ("401-token-invalid", 401, "reconnect", true),
        ("403-suspended", 403, "permission", true),
        ("409-duplicate", 409, "duplicate", true),
        ("422-content-invalid", 422, "rejected", true),
        ("429-slow-down", 429, "rate_limited", true),
        ("403-page", 403, "permission", false),
        ("503-page", 503, "unavailable", false),
    ];
    for (fixture, status, kind, proves_no_effect) in rows {
        let path = format!("{}/tests/fixtures/{fixture}.txt", env!("CARGO_MANIFEST_DIR"));
        let body = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let world = World::<ChirpHarness>::start().await;
        let answer = Instead::Answer { status, body, headers: Vec::new() };
        // The grant still works after a 401, so a single one would be mended by refreshing.
        let times = if status == 401 { None } else { Some(1) };
        world.net.arm(Disturbance { calls: Calls::Visible, effect: false, instead: answer, skip: 0, times });
        // Fresh tokens are not refreshed again.
        world.pass(Duration::from_secs(120));
        let post = world.schedule(&Shape::one("refused", Draft::text("A post that is refused."))).await;
        world.round().await;
        let delivery = world.deliveries(&post).await.remove(0);
        let error = delivery.error.unwrap_or_default();
        assert!(error.contains(&format!("\"kind\":\"{kind}\"")), "{fixture}: {error}");
        assert_eq!(delivery.phase.name().may_be_visible(), !proves_no_effect, "{fixture}: {:?}", delivery.phase);
    }
}

#[tokio::test]
async fn numbers_are_read() {
    let world = World::<ChirpHarness>::start().await;
    let delivery = world.publish(&Shape::one("counted", Draft::text("How many will see this?"))).await;
    let social_core::Phase::Published { remote } = delivery.phase else { panic!("{:?}", delivery.phase) };
    let adapter = Chirp::builder("chirp-client", "chirp-secret").base_url(world.net.network.base.clone()).build();
    let adapter = adapter.expect("complete credentials");
    let account = &world.accounts[0];
    let tokens = world.social.keeper().tokens(account.connection, None).await.expect("tokens");
    let ids = [remote.id.expect("an id"), RemotePostId::new("gone")];
    let numbers = adapter.posts(world.social.call_context(), &tokens, account, &ids).await.expect("numbers");
    assert_eq!(numbers.len(), 1, "a post that is gone is left out");
    assert_eq!(numbers[0].values["likes"], 3);
    let account = adapter.account(world.social.call_context(), &tokens, account).await.expect("numbers");
    assert_eq!(account.values["followers"], 12);
}
