//! A host that has a queue of its own, with timers, and wants nothing to run beside it: publishing is one of its jobs.
//!
//! `Worker::run_until` is left out. The host calls `Worker::tick`, which claims what is due, publishes it and comes back, and
//! then asks the store when there is something to do again. Several hosts may do that over one store: a delivery is claimed by one of them.
//!
//! Run it with `cargo run -p example-own-queue`.

use std::{cmp::Reverse, collections::BinaryHeap, error::Error, time::Duration};

use jiff::Timestamp;
use social_core::{
    Clock as _, Draft, Phase, Scheduler as _, Social, SystemClock, UserId,
    memory::MemoryStore,
    social::CallbackQuery,
    time::{later, signed},
    vault::KeyRing,
};
use social_platforms::X;
use social_sandbox::Sandbox;

/// Something may have become due without a job for it, such as a post that another host stored: look at least this often.
const AT_LEAST: Duration = Duration::from_secs(15);
/// How often tokens are looked after.
const TOKENS: Duration = Duration::from_secs(60);

/// The host's jobs. A real host has others besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    /// Publish what is due.
    Publish,
    /// Refresh tokens that end soon.
    RefreshTokens,
}

/// The host's queue: jobs by their time. A real one is a table, a broker or a scheduler's interface.
#[derive(Debug, Default)]
struct Queue {
    jobs: BinaryHeap<Reverse<(Timestamp, Job)>>,
    done: Vec<Job>,
}

impl Queue {
    fn add(&mut self, at: Timestamp, job: Job) {
        self.jobs.push(Reverse((at, job)));
    }

    /// Waits for the next job and does it; each job adds the one after it.
    async fn step(&mut self, social: &Social, clock: &SystemClock) -> Result<(), Box<dyn Error>> {
        let Some(Reverse((at, job))) = self.jobs.pop() else { return Err("the queue is empty".into()) };
        clock.sleep_until(at).await;
        match job {
            Job::Publish => {
                social.worker().named("host-queue").tick().await?;
                self.add(next_look(social, clock).await?, Job::Publish);
            }
            Job::RefreshTokens => {
                social.keeper().sweep(100).await?;
                self.add(later(clock.now(), signed(TOKENS)), Job::RefreshTokens);
            }
        }
        self.done.push(job);
        Ok(())
    }
}

/// When there is something to do again, as far as the store knows.
async fn next_look(social: &Social, clock: &SystemClock) -> Result<Timestamp, Box<dyn Error>> {
    let platforms: Vec<_> = social.platforms().map(|platform| platform.descriptor().id.clone()).collect();
    let due = social.store().next_due(&platforms).await?.into_iter().map(|(_, at)| at).min();
    let latest = later(clock.now(), signed(AT_LEAST));
    Ok(due.map_or(latest, |due| due.min(latest)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("published: {}", run().await?);
    Ok(())
}

/// The address of a post that was scheduled a moment ahead.
async fn run() -> Result<String, Box<dyn Error>> {
    let sandbox = Sandbox::new().start().await?;
    let (keys, _line_for_the_environment) = KeyRing::generate("own-queue")?;
    let x = X::builder("sandbox-x-client", "sandbox-x-secret").base_url(sandbox.base_url("x").parse()?).build()?;
    let social = Social::builder().store(MemoryStore::new()).keys(keys).platform(x).build()?;
    let clock = SystemClock::new();

    let user = UserId::new();
    let started = social.connect(&user, "x").callback("http://127.0.0.1:8080/callback/x").begin().await?;
    let query = agree(started.url).await?;
    let accounts = social.finish("x", &query, &started.cookie).await?;

    let mut queue = Queue::default();
    queue.add(clock.now(), Job::RefreshTokens);

    // When the host stores a post, it adds a job for its time.
    let at = later(clock.now(), signed(Duration::from_millis(200)));
    let post = social.schedule(&user, Draft::text("From a queue of our own.")).on(&accounts).at(at).send().await?;
    queue.add(post.post.scheduled_at, Job::Publish);

    // The host's loop, here until the post is out.
    loop {
        queue.step(&social, &clock).await?;
        match social.delivery(user, post.deliveries[0].id).await?.phase {
            Phase::Published { remote } => {
                assert!(queue.done.contains(&Job::Publish) && clock.now() >= at, "never early");
                // A refresh may still be under way, whose answer is the only copy of new tokens.
                social.keeper().finish().await;
                return Ok(remote.permalink.unwrap_or_default());
            }
            phase if phase.name().is_final() => return Err(format!("it ended as {}", phase.name()).into()),
            _ => {}
        }
    }
}

/// Stands in for a person who presses "Authorize" on the sandbox's consent page.
async fn agree(mut url: url::Url) -> Result<CallbackQuery, Box<dyn Error>> {
    url.query_pairs_mut().append_pair("auto", "approve");
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
    let answer = browser.get(url).send().await?;
    let back: url::Url = answer.headers().get("location").ok_or("no redirect")?.to_str()?.parse()?;
    Ok(CallbackQuery::parse(back.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_host_s_queue_publishes_the_post_in_its_time() {
        let address = super::run().await.unwrap();
        assert!(address.starts_with("http"), "{address}");
    }
}
