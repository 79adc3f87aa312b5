//! How fast a backlog of due posts is delivered and recorded.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use social_benches::{
    Failure,
    database::{Database, DatabaseOptions},
    fill,
    process::Process,
    run,
    target::{Target, become_target_if_asked, until_recorded},
};
use social_core::vault::KeyRing;

/// How long a run may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// N due posts on X, spread over A accounts, are stored; then the time until each is delivered and recorded. Prints one line of JSON last.
///
/// `cpu_s_per_1000` and the peaks are those of this process: with SQLite the database is in it, with PostgreSQL it is not.
#[derive(Debug, Parser)]
#[command(name = "drain", version)]
struct Options {
    #[command(flatten)]
    database: DatabaseOptions,
    /// How many posts.
    #[arg(long, default_value_t = 10_000)]
    posts: usize,
    /// Over how many accounts they are spread.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// How many workers, all in this process.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// How many deliveries one worker has in flight.
    #[arg(long, default_value_t = 150)]
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

async fn drain(options: Options) -> Result<Value, Failure> {
    let target = Target::open(options.target.clone(), options.latency_ms)?;
    let database = Database::open(&options.database).await?;
    let keys = KeyRing::generate("bench")?.1;
    let social = fill::social(database.store().await?, &keys, target.url())?;
    eprintln!("storing {} posts ...", options.posts);
    let tenant = fill::tenant(&social, options.accounts as usize).await?;
    let begin = Timestamp::now().checked_sub(SignedDuration::from_secs(600))?;
    database.insert(fill::posts(&tenant, options.posts, |n| begin + SignedDuration::from_micros(n as i64))).await?;
    drop(tenant);

    eprintln!("draining ...");
    let own = Process::own();
    let idle = own.forget_peak()?;
    let (cpu, started) = (own.cpu_seconds()?, Instant::now());
    let (stop, _) = tokio::sync::watch::channel(false);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.workers.max(1) {
        let mut stopped = stop.subscribe();
        let worker = social.worker().in_flight(options.in_flight);
        workers.spawn(worker.run_until(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    let finished = until_recorded(&**social.store(), &target, options.posts as u64, PATIENCE).await?;
    if !finished {
        return Err("the posts were not delivered within half an hour".into());
    }
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), own.cpu_seconds()? - cpu);
    stop.send_replace(true);
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let seen = target.seen().await?;
    let n = options.posts as f64;
    Ok(json!({
        "bench": "drain",
        "store": database.kind().to_string(),
        "posts": options.posts,
        "accounts": options.accounts,
        "workers": options.workers,
        "in_flight": options.in_flight,
        "threads": options.threads,
        "latency_ms": options.latency_ms,
        "seconds": elapsed,
        "posts_per_s": n / elapsed,
        "cpu_s_per_1000": cpu * 1000.0 / n,
        "peak_rss_mb": own.peak_rss_mb()?,
        "idle_rss_mb": idle,
        "duplicates": seen.as_ref().map(|seen| seen.duplicates),
        "delivered": seen.as_ref().map(|seen| seen.posts),
    }))
}
