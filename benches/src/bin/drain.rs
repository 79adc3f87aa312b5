//! How fast a backlog of due posts is delivered and recorded.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use social_benches::{
    Failure, become_helper_if_asked,
    crew::{Crew, Task, work},
    database::{Database, DatabaseOptions},
    fill,
    process::Process,
    run,
    target::{Target, until_recorded},
    tls::Certificate,
};
use social_core::vault::KeyRing;

/// How long a run may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// N due posts on X, spread over A accounts, are stored; then the time until each is delivered and recorded. Prints one line of JSON last.
///
/// `cpu_s_per_1000` is that of all processes with workers, the peaks are those of the one that needs most: with SQLite the database is in it, with PostgreSQL it is not.
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
    /// How many workers in each process.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// In how many processes of their own the workers are; 0 is in this one.
    #[arg(long, default_value_t = 0)]
    processes: usize,
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
    /// Our own target speaks TLS. The workers are in a process of their own then, since it is told whom to trust when it begins.
    #[arg(long, conflicts_with = "target")]
    tls: bool,
}

fn main() -> ExitCode {
    become_helper_if_asked();
    let options = Options::parse();
    run(options.threads, drain(options))
}

async fn drain(options: Options) -> Result<Value, Failure> {
    let certificate = options.tls.then(Certificate::make).transpose()?;
    let target = match options.target.clone() {
        None => Target::start(options.latency_ms, certificate.as_ref())?,
        url => Target::open(url, 0)?,
    };
    let processes = options.processes.max(usize::from(options.tls));
    let database = Database::open(&options.database).await?;
    let keys = KeyRing::generate("bench")?.1;
    let social = fill::social(database.store().await?, &keys, target.url())?;
    eprintln!("storing {} posts ...", options.posts);
    let tenant = fill::tenant(&social, options.accounts as usize).await?;
    let begin = Timestamp::now().checked_sub(SignedDuration::from_secs(600))?;
    database.insert(fill::posts(&tenant, options.posts, |n| begin + SignedDuration::from_micros(n as i64))).await?;
    drop(tenant);

    let task = Task {
        database: database.url().to_owned(),
        keys: keys.to_string(),
        target: target.url().to_owned(),
        workers: options.workers,
        in_flight: options.in_flight,
        threads: options.threads,
    };
    let mut crew = Crew::hire(&task, processes, certificate.as_ref())?;
    let working = if processes == 0 { vec![Process::own()] } else { crew.processes() };
    let each = |read: fn(&Process) -> Result<f64, Failure>| working.iter().map(read).collect::<Result<Vec<_>, _>>();
    let idle = most(&each(Process::forget_peak)?);
    let cpu = || Ok::<f64, Failure>(each(Process::cpu_seconds)?.iter().sum());

    eprintln!("draining ...");
    let (used, started) = (cpu()?, Instant::now());
    let (stop, _) = tokio::sync::watch::channel(false);
    let here = if processes == 0 { options.workers } else { 0 };
    let mut workers = work(&social, here, options.in_flight, &stop);
    crew.begin()?;
    let finished = until_recorded(&**social.store(), &target, options.posts as u64, PATIENCE).await?;
    if !finished {
        return Err("the posts were not delivered within half an hour".into());
    }
    let (elapsed, used) = (started.elapsed().as_secs_f64(), cpu()? - used);
    let peak = most(&each(Process::peak_rss_mb)?);
    stop.send_replace(true);
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    crew.end()?;
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
        "processes": processes,
        "tls": options.tls,
        "database_delay_ms": options.database.database_delay_ms,
        "cpu_s_per_1000": used * 1000.0 / n,
        "peak_rss_mb": peak,
        "idle_rss_mb": idle,
        "duplicates": seen.as_ref().map(|seen| seen.duplicates),
        "delivered": seen.as_ref().map(|seen| seen.posts),
    }))
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
