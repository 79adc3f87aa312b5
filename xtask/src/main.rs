//! Developer commands: `cargo xtask demo`, `cargo xtask test`, `cargo xtask fuzz`, `cargo xtask docs`.

mod commands;
mod fuzz;
mod tests_run;

use std::{env, process::ExitCode};

const HELP: &str = "\
Developer commands

Usage:
  cargo xtask demo [--once] [ARGS..]   Build the server and run its demo: sandbox, API, worker, two networks, no accounts needed.
                                       Everything after `demo` goes to the server; `cargo xtask demo --help` shows what it takes.
  cargo xtask test [--quick]           Format, clippy, all tests with doctests, documentation. --quick: the Rust tests alone.
  cargo xtask fuzz [--short]           Send a server of its own requests made from its OpenAPI document (needs Python with venv and pip).
  cargo xtask docs                     Write the generated tables in README.md and docs/ anew, and show what changed.
  cargo xtask --help                   This text.

Environment of `test` (none is needed):
  TEST_DATABASE_URL   an empty PostgreSQL database for the tests; otherwise they start a private cluster from installed binaries
  REQUIRE_POSTGRES=1  a missing PostgreSQL is a failure, not a skip
  CONTRACTS_DIR       folder with the networks' own specifications, for the contract tests
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    match (command, rest) {
        ("demo", rest) => commands::demo(rest),
        ("test", []) => tests_run::run(tests_run::Scope::Everything),
        ("test", [only]) if only == "--quick" => tests_run::run(tests_run::Scope::Tests),
        ("fuzz", rest) if !rest.iter().any(|arg| arg == "--help" || arg == "-h") => fuzz::run(rest),
        ("docs", []) => commands::docs(),
        ("--help" | "-h" | "help", _) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        (_, rest) if rest.iter().any(|arg| arg == "--help" || arg == "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        ("", []) => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
        (command, rest) => {
            eprintln!("xtask does not know `{}`\n\n{HELP}", [&[command.to_owned()], rest].concat().join(" "));
            ExitCode::from(2)
        }
    }
}
