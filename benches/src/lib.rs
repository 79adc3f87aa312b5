//! What the benchmark programs share: a target that counts, a database that is filled, a server to be asked, and readings of processes.
//!
//! Every program prints progress on standard error and one line of JSON on standard output. `docs/benchmarks.md` says what they measure.

pub mod crew;
pub mod database;
pub mod distance;
pub mod fill;
pub mod process;
pub mod server;
pub mod spread;
pub mod target;
pub mod tls;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

/// Why a benchmark could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Becomes a helper of a benchmark program if this process was started as one: its network, its workers, or the way to its database. Call it
/// first in `main`.
pub fn become_helper_if_asked() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((mode, rest)) if mode == target::MODE => target::serve(rest),
        Some((mode, _)) if mode == crew::MODE => crew::serve(),
        Some((mode, rest)) if mode == distance::MODE => distance::serve(rest),
        _ => return,
    };
    if let Err(error) = &outcome {
        eprintln!("{} broke: {error}", arguments[0]);
    }
    std::process::exit(i32::from(outcome.is_err()));
}

/// Whoever started this process holds our standard input open: when it is gone, so are we.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    if threads <= 1 {
        Builder::new_current_thread().enable_all().build()
    } else {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    }
}

/// Runs a program on a runtime with so many threads and prints its line of JSON.
pub fn run(threads: usize, program: impl Future<Output = Result<serde_json::Value, Failure>>) -> ExitCode {
    match runtime(threads).map_err(Failure::from).and_then(|runtime| runtime.block_on(program)) {
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
