//! How late posts arrive that were scheduled in the future.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use social_benches::{
    Failure, become_helper_if_asked,
    database::{Database, DatabaseOptions},
    fill,
    process::Process,
    run,
    target::{Target, until_recorded},
};
use social_core::vault::KeyRing;

/// How long posts are waited for that should have come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Posts due at R per second in the future; then how late each arrived. Prints one line of JSON last.
#[derive(Debug, Parser)]
#[command(name = "lateness", version)]
struct Options {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Posts per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// For how many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Over how many accounts they are spread.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A server that answers `POST {URL}/2/tweets` with 201 and measures lateness itself, instead of our own in another process.
    #[arg(long)]
    target: Option<String>,
}

fn main() -> ExitCode {
    become_helper_if_asked();
    let options = Options::parse();
    run(options.threads, lateness(options))
}

async fn lateness(options: Options) -> Result<Value, Failure> {
    let target = Target::open(options.target.clone(), 0)?;
    let database = Database::open(&options.database).await?;
    let keys = KeyRing::generate("bench")?.1;
    let social = fill::social(database.store().await?, &keys, target.url())?;
    let number = options.rate as usize * options.seconds as usize;
    eprintln!("storing {number} posts ...");
    let tenant = fill::tenant(&social, options.accounts as usize).await?;
    // Storing takes a while: the first one is due when that is certainly over.
    let lead = Duration::from_secs(4 + number as u64 / 1_000);
    let begin = Timestamp::now() + lead;
    let gap_us = 1_000_000.0 / f64::from(options.rate);
    let due = |n: usize| begin + SignedDuration::from_micros((n as f64 * gap_us) as i64);
    database.insert(fill::posts(&tenant, number, due)).await?;
    drop(tenant);
    if Timestamp::now() >= begin {
        return Err("storing took longer than foreseen; use fewer posts".into());
    }

    eprintln!("waiting for {} s of posts ...", options.seconds);
    let own = Process::own();
    let (idle, cpu) = (own.forget_peak()?, own.cpu_seconds()?);
    let end = begin + Duration::from_secs(u64::from(options.seconds));
    let store = social.store().clone();
    let (asked, asking) = (&target, store.clone());
    let over = async move {
        let left = end.duration_since(Timestamp::now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        // Whatever is late is waited for; what never comes shows as `left`.
        if let Err(error) = until_recorded(&*asking, asked, number as u64, PATIENCE).await {
            eprintln!("{error}");
        }
    };
    social.worker().run_until(over).await?;
    let cpu = own.cpu_seconds()? - cpu;
    let open = store.depth().await?;
    let seen = target.seen().await?;
    let seen = seen.as_ref();
    Ok(json!({
        "bench": "lateness",
        "store": database.kind().to_string(),
        "posts": number,
        "rate": options.rate,
        "accounts": options.accounts,
        "threads": options.threads,
        "p50_ms": seen.map(|seen| seen.p50_ms),
        "p99_ms": seen.map(|seen| seen.p99_ms),
        "max_ms": seen.map(|seen| seen.max_ms),
        "early": seen.map(|seen| seen.early),
        "duplicates": seen.map(|seen| seen.duplicates),
        "delivered": seen.map(|seen| seen.posts),
        "left": open.iter().map(|(_, _, number)| number).sum::<u64>(),
        "cpu_s_per_1000": cpu * 1000.0 / number.max(1) as f64,
        "peak_rss_mb": own.peak_rss_mb()?,
        "idle_rss_mb": idle,
    }))
}
