//! Running cargo: the demo and the generated documentation.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The cargo that runs us, in the root of the workspace.
///
/// Cargo sets variables of this package for us; passed on they would make build scripts of others believe that something changed.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds the server and runs its demo with everything that was given.
pub(crate) fn demo(args: &[String]) -> ExitCode {
    eprintln!("Building social-server. The first time this takes some minutes, afterwards seconds.");
    let built = cargo().args(["build", "--package", "social-server"]).status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => return exit_code(status.code()),
        Err(error) => return cannot_start(&error),
    }
    let mut run = cargo();
    // The caller's folder, not the workspace's: the demo may be told to keep its files in a relative one.
    if let Ok(here) = env::current_dir() {
        run.current_dir(here);
    }
    let manifest = root().join("Cargo.toml");
    run.args(["run", "--quiet", "--package", "social-server", "--manifest-path"]).arg(manifest);
    run.args(["--", "demo"]).args(args);
    become_command(run)
}

/// Writes the generated tables anew: the tests that compare them write them when they are told to.
pub(crate) fn docs() -> ExitCode {
    let mut update = cargo();
    update.args(["test", "--workspace", "--all-features", "--test", "generated_docs"]).env("UPDATE_DOCS", "1");
    match update.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return exit_code(status.code()),
        Err(error) => return cannot_start(&error),
    }
    let changed =
        Command::new("git").current_dir(root()).args(["status", "--short", "--", "README.md", "docs"]).output();
    match changed {
        Ok(output) if output.status.success() && output.stdout.is_empty() => {
            println!("The generated tables were current.")
        }
        Ok(output) if output.status.success() => {
            println!("Changed in README.md and docs:\n{}", String::from_utf8_lossy(&output.stdout).trim_end());
        }
        // Without git there is nothing to compare with; the tables are written all the same.
        _ => println!("The generated tables were written."),
    }
    ExitCode::SUCCESS
}

/// Becomes the command, so that signals and the exit code are the command's own.
#[cfg(unix)]
fn become_command(mut command: Command) -> ExitCode {
    use std::os::unix::process::CommandExt as _;
    cannot_start(&command.exec())
}

/// Runs the command and exits as it did.
#[cfg(not(unix))]
fn become_command(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => exit_code(status.code()),
        Err(error) => cannot_start(&error),
    }
}

pub(crate) fn cannot_start(error: &std::io::Error) -> ExitCode {
    eprintln!("cargo cannot be started: {error}");
    ExitCode::FAILURE
}

/// The exit code of a command as ours; a command that was ended by a signal has none.
pub(crate) fn exit_code(code: Option<i32>) -> ExitCode {
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
