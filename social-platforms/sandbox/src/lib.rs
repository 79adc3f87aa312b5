//! A local simulation of the social networks over HTTP, as their contracts describe them: OAuth with a consent page, publishing with its
//! rules and limits, media processing that takes time, the real error bodies. It knows nothing of the code that it tests, and its ledger is
//! the independent witness of what became visible and how often.
//!
//! ```no_run
//! # async fn example() -> Result<(), std::io::Error> {
//! let sandbox = social_sandbox::Sandbox::new().seed(7).start().await?;
//! println!("X is at {}", sandbox.base_url("x"));
//! assert!(sandbox.control().ledger().is_empty());
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The README lists personas, apps, operations, and what is simulated and what is not.

#![expect(
    clippy::result_large_err,
    reason = "a refusal is a complete answer; it is passed up a few frames and sent, mostly next to an equally large Ok"
)]

mod answer;
mod clock;
mod consent;
mod control;
mod faults;
mod ledger;
mod linkedin;
mod media;
mod oauth;
mod pages;
mod requests;
mod rng;
mod server;
mod settings;
mod world;
mod x;

pub use clock::{Clock, ManualClock, SystemClock};
pub use control::{Control, GrantRequest, GrantedTokens};
pub use faults::{ArmedFault, Fault, FaultSpec, NamedFault, When};
pub use ledger::{LedgerEntry, LedgerMedia};
pub use oauth::{IssuedSecret, Platform};
pub use requests::{RequestCount, RequestEntry};
pub use settings::{Limits, Settings, XCredits, XDialect, XLimitBody};
pub use world::Persona;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use world::World;

/// Locks even if another thread died while it held the lock: the sandbox's records are valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sandbox before it runs. State is in memory and lives as long as this value or what came from it.
#[derive(Debug)]
pub struct Sandbox {
    seed: u64,
    listen: SocketAddr,
    settings: Settings,
    clock: Arc<dyn Clock>,
    world: OnceLock<Arc<World>>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Seed 0, any free port of 127.0.0.1, default settings, the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seed: 0,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            world: OnceLock::new(),
        }
    }

    /// Makes tokens and chances repeat from run to run.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The address for [`start`](Self::start); port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The settings at the start and after a reset.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Another source of time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn world(&self) -> Arc<World> {
        Arc::clone(self.world.get_or_init(|| World::new(self.seed, self.settings.clone(), Arc::clone(&self.clock))))
    }

    /// The handle for tests. What it does is seen by [`router`](Self::router) and [`start`](Self::start) alike.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(self.world())
    }

    /// Everything as a router, for a server of the caller. A `reset` fault then shows as a broken answer, because only our own server can
    /// drop a connection.
    pub fn router(&self) -> axum::Router {
        let world = self.world();
        axum::Router::new().fallback(move |request: axum::extract::Request| {
            let world = Arc::clone(&world);
            async move { server::respond(&world, request).await.unwrap_or_else(|_| server::broken_answer()) }
        })
    }

    /// Listens and serves on background tasks of the current runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(self) -> Result<RunningSandbox, io::Error> {
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        let world = self.world();
        // Set once per world: this value is consumed by starting.
        let _ = world.bound.set(Arc::from(format!("http://{address}")));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(server::accept(Arc::clone(&world), listener, stop.clone(), tasks.clone()));
        Ok(RunningSandbox { address, control: Control::new(world), stop, tasks })
    }
}

/// A sandbox that listens. It stops when it is dropped.
#[derive(Debug)]
pub struct RunningSandbox {
    address: SocketAddr,
    control: Control,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RunningSandbox {
    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of a network: `http://127.0.0.1:PORT/x`.
    #[must_use]
    pub fn base_url(&self, platform: &str) -> String {
        format!("http://{}/{platform}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ledger, faults, settings, requests and time.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Every code and token that was ever given out, for leak scans.
    #[must_use]
    pub fn issued_secrets(&self) -> Vec<IssuedSecret> {
        self.control.issued_secrets()
    }

    /// Closes all connections and waits until they are closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_operation_setting_app_and_persona() {
        let readme = include_str!("../README.md");
        let control = Sandbox::new().control();
        for platform in Platform::ALL {
            let personas = control.personas(platform).into_iter().map(|persona| persona.name);
            let apps = platform.apps().iter().map(|app| app.client_id.to_owned());
            let operations = control::operations(platform).iter().map(|operation| (*operation).to_owned());
            for name in personas.chain(apps).chain(operations) {
                assert!(readme.contains(&format!("`{name}`")), "{name}");
            }
        }
        let settings = serde_json::to_value(Settings::default()).unwrap();
        for name in settings.as_object().unwrap().keys() {
            let both = name.replace("_member_", "_{member,app}_").replace("_app_", "_{member,app}_");
            assert!([name, &both].into_iter().any(|name| readme.contains(&format!("`{name}`"))), "{name}");
        }
    }
}
