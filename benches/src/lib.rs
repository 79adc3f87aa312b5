//! What the benchmark programs share: a target that counts, a store that is filled, and readings of this process.

pub mod fill;
pub mod process;
pub mod target;

use std::process::ExitCode;

/// Why a benchmark could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a program on a runtime with `threads` threads, after the hidden target mode was ruled out, and prints its JSON line.
pub fn run<F>(threads: usize, program: F) -> ExitCode
where
    F: Future<Output = Result<serde_json::Value, Failure>>,
{
    let runtime = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(program));
    match outcome {
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
