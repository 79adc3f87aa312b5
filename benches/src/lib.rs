//! What the benchmark programs share: a target that counts, a database that is filled, a server to be asked, and readings of processes.
//!
//! Every program prints progress on standard error and one line of JSON on standard output. `docs/benchmarks.md` says what they measure.

pub mod database;
pub mod fill;
pub mod process;
pub mod server;
pub mod spread;
pub mod target;

use std::process::ExitCode;

/// Why a benchmark could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a program on a runtime with so many threads and prints its line of JSON.
pub fn run(threads: usize, program: impl Future<Output = Result<serde_json::Value, Failure>>) -> ExitCode {
    let runtime = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(program)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
