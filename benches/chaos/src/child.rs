//! What this program becomes when it is started as a child of itself.

use std::{io::Read as _, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use social_core::{Social, library::DirectoryLibrary, vault::KeyRing};
use social_sandbox::{Limits, Sandbox, Settings};

use crate::{
    Failure,
    clock::{Pace, WarpClock},
    database::open_store,
    stage::platforms,
};

/// How a child tells that it lost its parent.
const ORPHANED: i32 = 101;

/// The commands of children.
#[derive(Debug, Subcommand)]
pub enum ChildCommand {
    /// The sandbox.
    Sandbox(Config),
    /// A worker over the SDK.
    Worker(Config),
    /// The production program with any arguments.
    Server {
        /// They are passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// A configuration as JSON.
#[derive(Debug, Args)]
pub struct Config {
    json: String,
}

impl Config {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_str(&self.json)?)
    }
}

/// How the sandbox runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Makes tokens and chances repeat.
    pub seed: u64,
    /// How time passes.
    pub pace: Pace,
    /// How long uploads are processed, in the run's time.
    pub processing_ms: u64,
    /// Whether the networks' limits hold.
    pub limits: bool,
    /// How long access tokens live, in seconds of the run.
    pub token_life_s: u64,
}

/// How a worker runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Its name in logs.
    pub name: String,
    /// Where everything is kept.
    pub database_url: String,
    /// The master keys.
    pub keys: String,
    /// The sandbox's address.
    pub sandbox: String,
    /// Where files are.
    pub media: String,
    /// How time passes.
    pub pace: Pace,
    /// How much its clock is ahead, in milliseconds.
    pub wrong_ms: i64,
    /// How many deliveries of one network it takes at once; 0 for what the network's descriptor says.
    pub in_flight: usize,
    /// Whether it waits for the networks' limits.
    pub limits: bool,
    /// The folder for what the database cannot take; none unless said.
    #[serde(default)]
    pub spill: Option<String>,
}

/// Becomes what a child is.
pub fn main(command: ChildCommand) -> ExitCode {
    // The parent holds the other end. When it is gone, however that came, this process goes too.
    std::thread::spawn(|| {
        let mut end = [0];
        while matches!(std::io::stdin().read(&mut end), Ok(1..)) {}
        std::process::exit(ORPHANED);
    });
    let threads = if matches!(command, ChildCommand::Worker(_)) { 1 } else { 2 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            match command {
                ChildCommand::Sandbox(config) => sandbox(config.read()?).await.map(|()| ExitCode::SUCCESS),
                ChildCommand::Worker(config) => worker(config.read()?).await.map(|()| ExitCode::SUCCESS),
                ChildCommand::Server { arguments } => Ok(server(arguments).await),
            }
        })
    });
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

async fn sandbox(config: SandboxConfig) -> Result<(), Failure> {
    let settings = Settings {
        processing_ms: config.processing_ms,
        limits: if config.limits { Limits::Real } else { Limits::Off },
        request_log_limit: 1_000_000,
        request_log_body_bytes: 600,
        // X refuses the same text twice, which would hide a second call from the ledger. (LinkedIn's refusal stays: asking by sending again
        // is what its adapter does.)
        x_duplicate_window_s: 0,
        access_token_ttl_s: Some(config.token_life_s),
        ..Settings::default()
    };
    let clock = WarpClock::new(config.pace, SignedDuration::ZERO);
    let sandbox = Sandbox::new().seed(config.seed).settings(settings).clock(Arc::new(clock)).start().await?;
    println!("{}", sandbox.url());
    std::future::pending::<()>().await;
    Ok(())
}

async fn worker(config: WorkerConfig) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::new("warn,social_core=info");
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.try_init()?;
    let stop = social_server::serve::asked_to_stop();
    let clock = WarpClock::new(config.pace, SignedDuration::from_millis(config.wrong_ms));
    let mut social = Social::builder()
        .shared_store(open_store(&config.database_url, config.pace).await?)
        .keys(KeyRing::parse(&config.keys)?)
        .media(DirectoryLibrary::open(&config.media)?)
        .clock(Arc::new(clock))
        // Nothing is missed because it had to wait for the fault to pass.
        .late_limit(Duration::from_secs(7 * 24 * 3600));
    for platform in platforms(&config.sandbox, config.pace)? {
        social = social.shared_platform(platform);
    }
    if !config.limits {
        social = social.ignore_rate_limits();
    }
    if let Some(folder) = &config.spill {
        social = social.spill_dir(folder);
    }
    let mut worker = social.build()?.worker().named(config.name);
    if config.in_flight > 0 {
        worker = worker.in_flight(config.in_flight);
    }
    worker.run_until(stop).await?;
    Ok(())
}

async fn server(arguments: Vec<String>) -> ExitCode {
    use clap::Parser as _;
    let arguments = std::iter::once("social-server".to_owned()).chain(arguments);
    match social_server::cli::Cli::try_parse_from(arguments) {
        Ok(cli) => Box::pin(social_server::cli::main(cli)).await,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
