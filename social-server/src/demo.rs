//! The demo.
use std::process::ExitCode;

use clap::Args;

/// How the demo runs.
#[derive(Debug, Args)]
pub struct Options {
    /// Ends when everything is published.
    #[arg(long)]
    once: bool,
}

/// Runs the demo.
pub async fn run(options: Options) -> ExitCode {
    if options.once { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
