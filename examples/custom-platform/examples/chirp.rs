//! Connects an account of a pretended Chirp on this machine, publishes a picture, and prints what people would see.

#[path = "../tests/fake/mod.rs"]
#[allow(dead_code, reason = "the suite uses the rest of the pretended network")]
mod fake;

use std::{sync::Arc, time::Duration};

use example_custom_platform::Chirp;
use social_core::{
    Draft, Phase, Scheduler as _, Social, UserId,
    media::sample,
    memory::MemoryStore,
    social::CallbackQuery,
    time::{Clock as _, ManualClock},
    vault::KeyRing,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("published: {}", run().await?);
    Ok(())
}

/// The address of the post.
pub(crate) async fn run() -> Result<String, Box<dyn std::error::Error>> {
    // Both clocks stand still until they are moved, so that nobody waits for the pictures.
    let clock = ManualClock::at("2026-11-22T09:00:00Z".parse()?);
    let network = fake::FakeChirp::start(clock.now()).await;

    let (keys, _line_for_the_environment) = KeyRing::generate("example")?;
    let social = Social::builder()
        .store(MemoryStore::new())
        .keys(keys)
        .platform(Chirp::builder("chirp-client", "chirp-secret").base_url(network.base.clone()).build()?)
        .clock(Arc::new(clock.clone()))
        .build()?;

    // A browser would be sent there; the pretended network agrees at once.
    let user = UserId::new();
    let started = social.connect(&user, "chirp").callback("http://127.0.0.1:8080/callback/chirp").begin().await?;
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let answer = browser.get(started.url).send().await?;
    let back: url::Url = answer.headers()["location"].to_str()?.parse()?;
    let accounts =
        social.finish("chirp", &CallbackQuery::parse(back.query().unwrap_or_default()), &started.cookie).await?;

    let draft = Draft::text("Hello from a network of our own.").image(sample::png(640, 480), "a grey square");
    let post = social.schedule(&user, draft).on(&accounts).send().await?;
    for _ in 0..10 {
        social.worker().tick().await?;
        let delivery = social.delivery(user, post.deliveries[0].id).await?;
        if let Phase::Published { remote } = delivery.phase {
            return Ok(remote.permalink.unwrap_or_default());
        }
        clock.advance(Duration::from_secs(2));
        network.advance(Duration::from_secs(2));
    }
    Err("it was not published".into())
}
