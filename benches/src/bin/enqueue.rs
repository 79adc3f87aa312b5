//! How fast a server takes posts in.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use social_benches::{
    Failure, become_helper_if_asked,
    database::{Database, DatabaseOptions},
    fill, run,
    server::Server,
    spread::{ms, percentile},
};
use social_core::vault::KeyRing;

/// Not counted: connections are opened and caches filled.
const WARM_UP: Duration = Duration::from_secs(1);

/// `POST /post/schedule` over HTTP against a real server process, from C connections that each send one request after the other. Prints
/// one line of JSON last.
///
/// Every answer but 201 is an error. `stored` is what the database holds in the end, `accepted` what was answered with 201; they are equal.
#[derive(Debug, Parser)]
#[command(name = "enqueue", version)]
struct Options {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Connections.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// For how many seconds, after one that is not counted.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Over how many accounts the posts are spread.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    accounts: u32,
    /// Sends an `Idempotency-Key` with every request.
    #[arg(long)]
    idempotency_keys: bool,
    /// The server program, instead of `social-server` beside this one.
    #[arg(long)]
    server: Option<PathBuf>,
}

/// What all connections share.
#[derive(Debug)]
struct Caller {
    client: Client,
    url: String,
    key: String,
    accounts: Vec<String>,
    idempotency_keys: bool,
    next: AtomicU64,
    accepted: AtomicU64,
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Answers {
    took_us: Vec<i64>,
    errors: u64,
    first_error: Option<String>,
}

fn main() -> ExitCode {
    become_helper_if_asked();
    let options = Options::parse();
    run(1, enqueue(options))
}

async fn enqueue(options: Options) -> Result<Value, Failure> {
    let program = options.server.clone().map_or_else(Server::program_beside, Ok)?;
    let database = Database::open(&options.database).await?;
    let client = Client::builder().no_proxy().pool_max_idle_per_host(options.connections as usize).build()?;
    let keys = KeyRing::generate("bench")?.1;
    eprintln!("starting {} ...", program.display());
    let server = Server::start(&program, database.url(), &keys, &client).await?;
    let user = server.make_user(&client).await?;
    let key = server.make_key(&client, &user).await?;
    // Connecting for real needs a browser and a network; the grants of this user are stored as they would be after that.
    let store = database.store().await?;
    let social = fill::social(store.clone(), &keys, "http://127.0.0.1:9")?;
    let tenant = fill::connect(&social, user.parse()?, options.accounts as usize).await?;
    let caller = Arc::new(Caller {
        client,
        url: format!("{}/post/schedule", server.url()),
        key,
        accounts: tenant.accounts.iter().map(|account| account.id.to_string()).collect(),
        idempotency_keys: options.idempotency_keys,
        next: AtomicU64::default(),
        accepted: AtomicU64::default(),
    });

    eprintln!("scheduling from {} connections ...", options.connections);
    let process = server.process();
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(options.seconds);
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..options.connections {
        connections.spawn(caller.clone().call(begin, end));
    }
    tokio::time::sleep_until(begin.into()).await;
    let (idle, cpu) = (process.forget_peak()?, process.cpu_seconds()?);
    let mut all = Answers::default();
    for answers in connections.join_all().await {
        all.took_us.extend(answers.took_us);
        all.errors += answers.errors;
        all.first_error = all.first_error.or(answers.first_error);
    }
    let (elapsed, cpu) = (begin.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu);
    let peak = process.peak_rss_mb()?;
    if let Some(error) = all.first_error {
        eprintln!("{} requests failed, the first one with: {error}", all.errors);
    }
    all.took_us.sort_unstable();
    let answered = all.took_us.len() as f64;
    Ok(json!({
        "bench": "enqueue",
        "store": database.kind().to_string(),
        "connections": options.connections,
        "accounts": options.accounts,
        "idempotency_keys": options.idempotency_keys,
        "seconds": elapsed,
        "requests_per_s": answered / elapsed,
        "p50_ms": ms(percentile(&all.took_us, 0.50)),
        "p99_ms": ms(percentile(&all.took_us, 0.99)),
        "max_ms": ms(percentile(&all.took_us, 1.0)),
        "errors": all.errors,
        "accepted": caller.accepted.load(Ordering::Relaxed),
        "stored": store.depth().await?.iter().map(|(_, _, number)| number).sum::<u64>(),
        "server_cpu_s_per_1000": cpu * 1000.0 / answered.max(1.0),
        "server_peak_rss_mb": peak,
        "server_idle_rss_mb": idle,
    }))
}

impl Caller {
    /// Sends one request after the other until `end`, and counts those that began at `begin` or later.
    async fn call(self: Arc<Self>, begin: Instant, end: Instant) -> Answers {
        let mut answers = Answers::default();
        loop {
            let asked = Instant::now();
            if asked >= end {
                return answers;
            }
            let outcome = self.schedule().await;
            if outcome.is_ok() {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            if asked < begin {
                continue;
            }
            match outcome {
                Ok(()) => answers.took_us.push(i64::try_from(asked.elapsed().as_micros()).unwrap_or(i64::MAX)),
                Err(error) => {
                    answers.errors += 1;
                    answers.first_error.get_or_insert_with(|| error.to_string());
                    // A server that refuses everything at once is not to be asked a million times.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    async fn schedule(&self) -> Result<(), Failure> {
        let number = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed))?;
        let due = Timestamp::now() + SignedDuration::from_hours(24);
        let body = json!({
            "content": fill::text(number, due),
            "accounts": [self.accounts[number % self.accounts.len()]],
            "scheduled_time": due.to_string(),
        });
        let mut request = self.client.post(&self.url).bearer_auth(&self.key).json(&body);
        if self.idempotency_keys {
            request = request.header("idempotency-key", format!("bench-{number}"));
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if status == StatusCode::CREATED {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body).chars().take(300).collect::<String>()).into())
    }
}
