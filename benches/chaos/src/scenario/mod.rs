//! The scenarios. Each is a file; [`ALL`] lists them.

mod database;
mod keys;
mod kill;
mod liars;
mod limits;
mod model;
mod refresh;
mod restore;
mod stop;
mod workers;

use std::{
    fmt::Debug,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tempfile::TempDir;

use crate::{Failure, database::Kind, random::Random, report::Outcome};

/// A disturbance, and what must hold in spite of it.
#[async_trait]
pub trait Scenario: Debug + Sync {
    /// The word by which it is asked for.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// Plays it once.
    ///
    /// # Errors
    /// If it could not be played; broken promises are in the outcome.
    async fn run(&self, run: &Run) -> Result<Outcome, Failure>;
}

/// All of them, in the order in which `all` plays them.
pub const ALL: &[&dyn Scenario] = &[
    &kill::Kill,
    &liars::Liars,
    &workers::Workers,
    &stop::Stop,
    &database::Database,
    &refresh::Refresh,
    &restore::Restore,
    &keys::Keys,
    &limits::Limits,
    &model::Model,
];

/// How a scenario is to be played.
#[derive(Debug, Clone)]
pub struct Run {
    /// On which database.
    pub store: Kind,
    /// Where chance begins.
    pub seed: u64,
    /// How often the fault strikes, if it was said.
    pub rounds: Option<u64>,
    /// A few seconds only.
    pub short: bool,
    /// Leave databases and logs behind, also when everything held.
    pub keep: bool,
    /// An older build of the production program, to be run beside this one.
    pub old_server: Option<PathBuf>,
    /// Where databases and logs of this scenario are.
    pub(crate) folders: Arc<Mutex<Vec<TempDir>>>,
}

impl Run {
    /// A new folder. It is gone when the scenario has ended, unless something was broken.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self) -> Result<PathBuf, Failure> {
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
        let path = folder.path().to_owned();
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        Ok(path)
    }

    /// Ends what [`folder`](Self::folder) made.
    pub(crate) fn clear(&self, held: bool) {
        for folder in self.folders.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if self.keep || !held {
                say(format!("databases and logs are left in {}", folder.keep().display()));
            }
        }
    }

    /// Chance for a purpose.
    #[must_use]
    pub fn chance(&self, purpose: &str) -> Random {
        Random::new(self.seed, purpose)
    }

    /// One of two, for the long and the short form.
    #[must_use]
    pub fn pick<T>(&self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }

    /// How often the fault strikes.
    #[must_use]
    pub fn rounds(&self, long: u64, short: u64) -> u64 {
        self.rounds.unwrap_or_else(|| self.pick(long, short)).max(1)
    }
}

/// Tells whoever waits how it goes.
pub fn say(line: impl AsRef<str>) {
    eprintln!("    {}", line.as_ref());
}
