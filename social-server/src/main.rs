//! The binary `social-server`.

use std::process::ExitCode;

use clap::Parser as _;
use social_server::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(Cli::parse()).await
}
