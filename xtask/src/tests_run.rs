//! `cargo xtask test`: every check of the project, with the time that each took and what was left out.

use std::{
    env,
    ffi::OsString,
    fmt,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use crate::commands::{cargo, root};

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Format, clippy, tests, documentation.
    Everything,
    /// The Rust tests alone.
    Tests,
}

/// What libtest said about all test binaries together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    binaries: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line if it is the last one of a test binary.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
        let number = |word: &str| {
            let before = rest.split(';').find_map(|part| part.trim().strip_suffix(word))?;
            before.trim().rsplit(' ').next()?.parse::<u64>().ok()
        };
        self.binaries += 1;
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        self.ignored += number("ignored").unwrap_or(0);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binaries, passed, failed, ignored } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {binaries} test binaries")
    }
}

struct Step {
    name: &'static str,
    good: bool,
    took: Duration,
}

/// Runs all steps, also behind one that failed, and sums up.
///
/// The tests and clippy see the same packages and features, one profile and the same flags throughout, so that nothing is built twice.
pub(crate) fn run(scope: Scope) -> ExitCode {
    let started = Instant::now();
    let mut steps = Vec::new();
    let mut counts = Counts::default();
    if scope == Scope::Everything {
        steps.push(step("format", cargo().args(["fmt", "--all", "--", "--check"])));
        let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        steps.push(step("clippy", cargo().args(clippy)));
    }
    steps.push(tests(&mut counts));
    if scope == Scope::Everything {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--all-features", "--no-deps"]).env("RUSTDOCFLAGS", rustdoc_flags());
        steps.push(step("documentation", &mut doc));
    }

    println!("\nTests: {counts}");
    println!("Left out:");
    let left_out = left_out(scope);
    if left_out.is_empty() {
        println!("  nothing");
    }
    for line in left_out {
        println!("  {line}");
    }
    println!("Steps:");
    for Step { name, good, took } in &steps {
        println!("  {} {name:<14} {:>7.1} s", if *good { "ok    " } else { "FAILED" }, took.as_secs_f64());
    }
    let good = steps.iter().all(|step| step.good);
    println!("{} after {:.1} s", if good { "All good" } else { "FAILED" }, started.elapsed().as_secs_f64());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn step(name: &'static str, command: &mut Command) -> Step {
    announce(name, command);
    let started = Instant::now();
    let good = match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("it cannot be started: {error}");
            false
        }
    };
    Step { name, good, took: started.elapsed() }
}

/// All tests with doctests. What they print is passed on line by line and counted on the way.
fn tests(counts: &mut Counts) -> Step {
    let mut command = cargo();
    // Doctests read this variable too; it is the same here and for the documentation.
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).env("RUSTDOCFLAGS", rustdoc_flags());
    announce("tests", &command);
    let started = Instant::now();
    let good = match counted(&mut command, counts) {
        Ok(good) => good && counts.failed == 0 && counts.passed > 0,
        Err(error) => {
            eprintln!("the tests cannot be run: {error}");
            false
        }
    };
    Step { name: "tests", good, took: started.elapsed() }
}

fn counted(command: &mut Command, counts: &mut Counts) -> io::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        // Bytes, not text: a test may print anything.
        while lines.read_until(b'\n', &mut line)? > 0 {
            io::stdout().write_all(&line)?;
            counts.add(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    Ok(child.wait()?.success())
}

fn announce(name: &str, command: &Command) {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    println!("\n== {name}: cargo {}", args.join(" "));
}

/// The caller's own flags, and warnings denied.
fn rustdoc_flags() -> OsString {
    let mut flags = env::var_os("RUSTDOCFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        flags.push(" ");
    }
    flags.push("-D warnings");
    flags
}

/// What this machine did not check, and how to have it checked.
fn left_out(scope: Scope) -> Vec<String> {
    let mut lines = Vec::new();
    if env::var_os("TEST_DATABASE_URL").is_none() && !postgres_installed() {
        lines.push(
            "PostgreSQL tests: no server binaries (initdb, postgres) found and TEST_DATABASE_URL is not set".to_owned(),
        );
    }
    match env::var_os("CONTRACTS_DIR") {
        None => lines.push("contract tests: CONTRACTS_DIR is not set".to_owned()),
        Some(folder) if !Path::new(&folder).is_dir() => {
            lines.push(format!("contract tests: CONTRACTS_DIR is not a folder: {}", folder.to_string_lossy()));
        }
        Some(_) => {}
    }
    if scope == Scope::Tests {
        lines.push("format, clippy and documentation: --quick".to_owned());
    }
    let dashboard = root().join("examples/dashboard/package.json");
    if dashboard.is_file() {
        lines.push("the dashboard's own checks: run them in examples/dashboard".to_owned());
    }
    lines
}

/// The same places in which the tests look for a server.
fn postgres_installed() -> bool {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders.iter().any(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_test_binaries_are_added_up() {
        let mut counts = Counts::default();
        counts.add("test phase::tests::every_name_survives_its_spelling ... ok");
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s\n");
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s");
        assert_eq!(counts, Counts { binaries: 2, passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_test_binary_that_prints_nothing_readable_counts_as_nothing() {
        let mut counts = Counts::default();
        counts.add("test result: ok.");
        assert_eq!((counts.passed, counts.failed), (0, 0));
    }
}
