//! Connects an account on X and one on LinkedIn, schedules a post to both, publishes it, and prints where it is.
//!
//! The networks are simulated on this machine, so no developer account is needed: `cargo run -p example-quickstart`. With real
//! credentials in the two builders, and a browser instead of `agree`, this is a program for the real networks.

use std::{error::Error, time::Duration};

use social_core::{
    Draft, Phase, Scheduler as _, Social, UserId,
    memory::MemoryStore,
    social::{CallbackQuery, Connected, Scheduled},
    vault::KeyRing,
};
use social_platforms::{LinkedIn, X};
use social_sandbox::Sandbox;
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for address in run().await? {
        println!("published: {address}");
    }
    Ok(())
}

/// The addresses of what was published.
async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let sandbox = Sandbox::new().start().await?;
    let (x, linkedin) = (sandbox.base_url("x").parse()?, sandbox.base_url("linkedin").parse()?);

    // An installation: where things are kept, the keys that seal tokens, the networks. A real one keeps its keys:
    // `KeyRing::from_env("SOCIAL_MASTER_KEYS")`.
    let (keys, _line_for_the_environment) = KeyRing::generate("quickstart")?;
    let social = Social::builder()
        .store(MemoryStore::new())
        .keys(keys)
        .platform(X::builder("sandbox-x-client", "sandbox-x-secret").base_url(x).build()?)
        .platform(LinkedIn::builder("sandbox-linkedin-client", "sandbox-linkedin-secret").base_url(linkedin).build()?)
        .build()?;

    // A user of yours connects accounts.
    let user = UserId::new();
    let on_x = connect(&social, user, "x").await?;
    let on_linkedin = connect(&social, user, "linkedin").await?;

    // A post for both; `.image(file, "what it shows")` adds a picture. The same key makes one post, however often it is sent.
    let draft = Draft::text("Good morning from the lighthouse.");
    let accounts = on_x.accounts.iter().chain(&on_linkedin.accounts);
    let post = social.schedule(&user, draft).on(accounts).key("lighthouse-1").send().await?;

    // A worker publishes what is due, here until this post is out. Any number may run, in this process or in others.
    social.worker().run_until(ended(&social, &post)).await?;

    let mut addresses = Vec::new();
    for delivery in &post.deliveries {
        match social.delivery(user, delivery.id).await?.phase {
            Phase::Published { remote } => addresses.extend(remote.permalink),
            phase => return Err(format!("{} ended as {}", delivery.platform, phase.name()).into()),
        }
    }
    // The sandbox's own record of what became visible.
    assert_eq!(sandbox.control().ledger().len(), addresses.len());
    Ok(addresses)
}

/// Sends a person to a network and takes them back.
async fn connect(social: &Social, user: UserId, platform: &str) -> Result<Connected, Box<dyn Error>> {
    let callback = format!("http://127.0.0.1:8080/callback/{platform}");
    let started = social.connect(&user, platform).callback(&callback).begin().await?;
    // A server answers with a redirect to `started.url` and sets `started.cookie`; the browser comes back to the callback with both.
    let query = agree(started.url).await?;
    Ok(social.finish(platform, &query, &started.cookie).await?)
}

/// Stands in for a person who presses "Authorize" on the sandbox's consent page.
async fn agree(mut url: Url) -> Result<CallbackQuery, Box<dyn Error>> {
    url.query_pairs_mut().append_pair("auto", "approve");
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let answer = browser.get(url).send().await?;
    let back: Url = answer.headers().get("location").ok_or("no redirect")?.to_str()?.parse()?;
    Ok(CallbackQuery::parse(back.query().unwrap_or_default()))
}

/// Completes when every delivery of a post has ended.
async fn ended(social: &Social, post: &Scheduled) {
    loop {
        let mut open = 0;
        for delivery in &post.deliveries {
            let now = social.delivery(post.post.user, delivery.id).await;
            open += usize::from(now.is_ok_and(|delivery| !delivery.phase.name().is_final()));
        }
        if open == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_program_publishes_on_both_networks() {
        let addresses = super::run().await.unwrap();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert!(addresses.iter().any(|address| address.contains("/x/")), "{addresses:?}");
        assert!(addresses.iter().any(|address| address.contains("/linkedin/")), "{addresses:?}");
    }
}
