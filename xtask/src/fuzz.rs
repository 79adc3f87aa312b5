//! `cargo xtask fuzz`: a server of its own, fuzzed from its OpenAPI document.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::commands::{cannot_start, cargo, exit_code, root};

/// Requests of each kind for each operation, in the short form and the long one.
const SHORT: &str = "100";
const LONG: &str = "1500";

/// Builds, installs the pinned fuzzer into a folder of its own, and runs it. Without Python it says so; in CI that is a failure.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let mut examples = LONG;
    let mut rest = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--short" => {
                examples = SHORT;
                // Whether the document is too wide somewhere takes more examples than that to say the same every time.
                rest.push("--only-answers".to_owned());
            }
            other => rest.push(other.to_owned()),
        }
    }
    let built = cargo().args(["build", "--package", "social-server", "--package", "social-sandbox"]).status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => return exit_code(status.code()),
        Err(error) => return cannot_start(&error),
    }
    let target = target();
    let folder = root().join("social-server/tests/fuzz");
    let python = match python(&target.join("fuzz"), &folder.join("requirements.txt")) {
        Ok(python) => python,
        Err(missing) if env::var_os("CI").is_some() => {
            eprintln!("the API cannot be fuzzed: {missing}");
            return ExitCode::FAILURE;
        }
        Err(missing) => {
            println!("skipped: fuzzing the API: {missing}");
            return ExitCode::SUCCESS;
        }
    };
    let mut fuzz = Command::new(python);
    fuzz.arg(folder.join("run.py")).arg("--bin").arg(target.join("debug")).args(["--examples", examples]).args(rest);
    match fuzz.status() {
        Ok(status) => exit_code(status.code()),
        Err(error) => {
            eprintln!("Python cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

fn target() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(target)
}

/// The Python of an environment that holds what `requirements` pins. Made once, and anew when the pins change.
fn python(folder: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted =
        std::fs::read_to_string(requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let note = folder.join("installed.txt");
    if python.is_file() && std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let said = |what: &str, command: &mut Command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} ended with {status}")),
        Err(error) => Err(format!("{what} cannot be started: {error}")),
    };
    said("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    said("pip install", &mut install)?;
    std::fs::write(&note, wanted).map_err(|error| format!("{}: {error}", note.display()))?;
    Ok(python)
}
