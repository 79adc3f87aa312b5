//! How late posts arrive that were scheduled in the future.

use std::{process::ExitCode, time::Duration};

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

/// Posts due at R per second in the future; then how late each arrived. Prints one JSON line last.
#[derive(Debug, Parser)]
#[command(name = "lateness", version)]
struct Options {
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// An empty database to use instead of a private one.
    #[arg(long)]
    database_url: Option<String>,
    /// Posts per second.
    #[arg(long, default_value_t = 200)]
    rate: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: usize,
    /// Over how many accounts they are spread.
    #[arg(long, default_value_t = 1_000)]
    accounts: usize,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A server that answers `POST {URL}/2/tweets` with 201 and measures lateness itself, instead of our own in another process.
    #[arg(long)]
    target: Option<String>,
}

fn main() -> ExitCode {
    become_target_if_asked();
    let options = Options::parse();
    run(options.threads, lateness(options))
}

async fn lateness(options: Options) -> Result<serde_json::Value, Failure> {
    let target = Target::open(options.target.clone(), 0)?;
    let database = Database::open(options.store, options.database_url.clone()).await?;
    let keys = KeyRing::generate("bench")?.1;
    let social = fill::social(database.store().await?, &keys, target.url())?;
    let tenant = fill::tenant(&social, options.accounts).await?;
    let number = options.rate * options.seconds;
    // Storing takes a while: the first one is due when that is certainly over.
    let lead = Duration::from_secs(3 + number as u64 / 2_000);
    let begin = Timestamp::now() + lead;
    let gap_us = 1_000_000 / options.rate.max(1) as i64;
    let posts = fill::posts(&tenant, number, |n| begin + SignedDuration::from_micros(n as i64 * gap_us));
    eprintln!("storing {number} posts ...");
    database.insert(&posts).await?;
    drop(posts);
    if Timestamp::now() >= begin {
        return Err("storing took longer than foreseen; use fewer posts".into());
    }
    eprintln!("waiting for {} s of posts ...", options.seconds);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let cpu = process::cpu_seconds()?;
    let end = begin + Duration::from_secs(options.seconds as u64 + 1);
    let worker = social.worker();
    worker
        .run_until(async move {
            let left = end.duration_since(Timestamp::now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        })
        .await?;
    let cpu = process::cpu_seconds()? - cpu;
    let open = social.store().depth().await?;
    let seen = if target.can_be_asked() { Some(target.seen(&client).await?) } else { None };
    let n = number as f64;
    Ok(json!({
        "bench": "lateness",
        "store": format!("{:?}", options.store).to_lowercase(),
        "posts": number,
        "rate": options.rate,
        "p50_ms": seen.as_ref().map(|seen| seen.p50_ms),
        "p99_ms": seen.as_ref().map(|seen| seen.p99_ms),
        "max_ms": seen.as_ref().map(|seen| seen.max_ms),
        "early": seen.as_ref().map(|seen| seen.early),
        "duplicates": seen.as_ref().map(|seen| seen.duplicates),
        "delivered": seen.as_ref().map(|seen| seen.posts),
        "left": open.iter().map(|(_, _, number)| number).sum::<u64>(),
        "cpu_s_per_1000": cpu * 1000.0 / n,
        "peak_rss_mb": process::peak_rss_mb()?,
    }))
}
