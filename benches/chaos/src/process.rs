//! Child processes that can be tormented and that never outlive this one.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::{Child, ChildStdin, Command};

use crate::Failure;

/// A running child. It is killed when this is dropped, and ends by itself when this process is gone: its standard input closes then.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    id: u32,
    _leash: Option<ChildStdin>,
}

impl Process {
    /// Starts this program again as a child, with its log in `folder` under that name.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self, Failure> {
        let arguments: Vec<&str> = [&["child"], arguments].concat();
        Self::start_program(&std::env::current_exe()?, name, folder, &arguments, variables)
    }

    /// Starts any program in the same way.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_program(
        program: &Path,
        name: &str,
        folder: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
        for kept in ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command.envs(variables.iter().copied());
        let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(log));
        let mut child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let id = child.id().ok_or("a child ended at once")?;
        Ok(Self { name: name.to_owned(), _leash: child.stdin.take(), child, id })
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it was called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it prints, for whoever waits for a line. Works once.
    pub fn take_output(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Kills it as a crash would (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn is_alive(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn signal(&self, signal: &str) -> Result<(), Failure> {
        let mut kill = Command::new("kill");
        let status = kill.arg(format!("-{signal}")).arg(self.id.to_string()).stderr(Stdio::null()).status().await?;
        if status.success() { Ok(()) } else { Err(format!("SIG{signal} did not reach {}", self.name).into()) }
    }

    /// Completes when it catches SIGTERM instead of dying of it.
    ///
    /// # Errors
    /// If it ends before, or does not come to it within `patience`.
    pub async fn catches_sigterm(&mut self, patience: Duration) -> Result<(), Failure> {
        let status: PathBuf = format!("/proc/{}/status", self.id).into();
        let catches = async {
            loop {
                if !self.is_alive()? {
                    return Err(format!("{} ended before it could be stopped", self.name).into());
                }
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                if caught(&text).is_some_and(|mask| mask & (1 << (15 - 1)) != 0) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(patience, catches).await.map_err(|_| "a child does not catch SIGTERM")?
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// If it does not within `patience`.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus, Failure> {
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        Ok(ended.map_err(|_| format!("{} did not end within {} s", self.name, patience.as_secs()))??)
    }
}

/// The signals that a process catches, from its `/proc/<pid>/status`.
fn caught(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_that_are_caught_are_read() {
        assert_eq!(caught("SigIgn:\t0\nSigCgt:\t0000000000004002\n"), Some(0x4002));
        assert_eq!(caught("nothing"), None);
    }
}
