//! How fast a backlog of due posts is delivered and recorded.

use std::{process::ExitCode, time::{Duration, Instant}};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use social_benches::{
    Failure,
    fill::{self, Database, Kind},
    process, run,
    target::{Target, become_target_if_asked},
};
use social_core::vault::KeyRing;

/// N due posts on X, spread over A accounts, stored; then the time until each is delivered and recorded. Prints one JSON line last.
#[derive(Debug, Parser)]
#[command(name = "drain", version)]
struct Options {
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// An empty database to use instead of a private one.
    #[arg(long)]
    database_url: Option<String>,
    /// How many posts.
    #[arg(long, default_value_t = 10_000)]
    posts: usize,
    /// Over how many accounts they are spread.
    #[arg(long, default_value_t = 1_000)]
    accounts: usize,
    /// How many workers, all in this process.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// How many deliveries one worker has in flight.
    #[arg(long, default_value_t = 200)]
    in_flight: usize,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A server that answers `POST {URL}/2/tweets` with 201, instead of our own in another process.
    #[arg(long)]
    target: Option<String>,
    /// How long our own target takes to answer, in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

fn main() -> ExitCode {
    become_target_if_asked();
    let options = Options::parse();
    run(options.threads, drain(options))
}

async fn drain(options: Options) -> Result<serde_json::Value, Failure> {
    let target = Target::open(options.target.clone(), options.latency_ms)?;
    let database = Database::open(options.store, options.database_url.clone()).await?;
    let keys = KeyRing::generate("bench")?.1;
    let social = fill::social(database.store().await?, &keys, target.url())?;
    let tenant = fill::tenant(&social, options.accounts).await?;
    let begin = Timestamp::now().checked_sub(SignedDuration::from_secs(600))?;
    let posts = fill::posts(&tenant, options.posts, |n| begin + SignedDuration::from_micros(n as i64));
    eprintln!("storing {} posts ...", posts.len());
    database.insert(&posts).await?;
    drop(posts);
    eprintln!("draining ...");

    let client = reqwest::Client::builder().no_proxy().build()?;
    let (cpu, started) = (process::cpu_seconds()?, Instant::now());
    let (stop, _) = tokio::sync::watch::channel(false);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.workers {
        let mut stopped = stop.subscribe();
        let worker = social.worker().in_flight(options.in_flight);
        workers.spawn(worker.run_until(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    // The store is the judge of what is recorded; the target is only asked cheaply whether it is time to look.
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if target.can_be_asked() && target.seen(&client).await?.posts < options.posts as u64 {
            if started.elapsed() > Duration::from_secs(1800) {
                return Err("the posts were not delivered within half an hour".into());
            }
            continue;
        }
        if social.store().depth().await?.is_empty() {
            break;
        }
    }
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), process::cpu_seconds()? - cpu);
    stop.send_replace(true);
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let seen = if target.can_be_asked() { Some(target.seen(&client).await?) } else { None };
    let n = options.posts as f64;
    Ok(json!({
        "bench": "drain",
        "store": format!("{:?}", options.store).to_lowercase(),
        "posts": options.posts,
        "accounts": options.accounts,
        "workers": options.workers,
        "in_flight": options.in_flight,
        "latency_ms": options.latency_ms,
        "seconds": elapsed,
        "posts_per_s": n / elapsed,
        "cpu_s_per_1000": cpu * 1000.0 / n,
        "peak_rss_mb": process::peak_rss_mb()?,
        "duplicates": seen.as_ref().map(|seen| seen.duplicates),
        "delivered": seen.as_ref().map(|seen| seen.posts),
    }))
}
