//! The sandbox as a program.

use clap::{Parser, ValueEnum};
use social_sandbox::{Limits, Sandbox, Settings};
use std::net::SocketAddr;
use std::process::ExitCode;

/// Simulates social networks on this machine: log in, publish, upload, break things.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:8090", env = "SOCIAL_SANDBOX_LISTEN")]
    listen: SocketAddr,
    /// Makes tokens and random faults repeat from run to run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Delay of each answer, half before and half after its effect
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,
    /// How long uploaded media is processed
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    processing_ms: u64,
    /// Rate limits and daily caps as the networks have them, or none
    #[arg(long, value_enum, default_value_t = LimitsOption::Real)]
    limits: LimitsOption,
    /// Allow an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LimitsOption {
    Real,
    Off,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !options.listen.ip().is_loopback() && !options.allow_remote {
        eprintln!("{} can be reached from other machines; say --allow-remote if that is meant", options.listen);
        return ExitCode::FAILURE;
    }
    let settings = Settings {
        latency_ms: options.latency_ms,
        processing_ms: options.processing_ms,
        limits: if options.limits == LimitsOption::Off { Limits::Off } else { Limits::Real },
        ..Settings::default()
    };
    let sandbox = match Sandbox::new().seed(options.seed).listen(options.listen).settings(settings).start().await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("cannot listen on {}: {error}", options.listen);
            return ExitCode::FAILURE;
        }
    };
    println!("what was published   {}/", sandbox.url());
    for platform in ["x", "linkedin"] {
        println!(
            "{platform:<20} {}   client id sandbox-{platform}-client, secret sandbox-{platform}-secret",
            sandbox.base_url(platform)
        );
    }
    println!("control              {}/_sandbox/ledger  faults  settings  requests  clock  reset", sandbox.url());
    let stopped = tokio::signal::ctrl_c().await;
    sandbox.stop().await;
    if stopped.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
