//! Faults on purpose. Real processes on this machine (workers, servers, the sandbox, a database) are given work and disturbed while they do
//! it; at the end the sandbox's ledger, which is the only witness, is compared with what the store says. `docs/chaos.md` tells what each
//! scenario does and what must hold.
//!
//! # How to add a scenario
//!
//! 1. A file in `src/scenario/` with a unit struct that implements [`Scenario`](scenario::Scenario): a name, one sentence, and `run`.
//! 2. A line for it in [`scenario::ALL`].
//! 3. A line in `tests/short.rs`, which runs `--short` on both stores, and a section in `docs/chaos.md`.
//!
//! What `run` is made of:
//!
//! - [`Stage::set`](stage::Stage::set) starts a database and a sandbox and connects accounts as [`StageOptions`](stage::StageOptions) says.
//!   With a `speed` above 1 all processes that are started through the stage share a clock that runs so much faster, the sandbox included:
//!   leases, back-offs and settle times pass in seconds and keep their proportions. Latency stays in real milliseconds.
//! - [`Stage::load`](stage::Stage::load) schedules posts through the SDK; each carries a marker by which its objects are known.
//! - [`Stage::worker`](stage::Stage::worker) starts a worker process (the SDK's engine, with any clock), [`Stage::server`](stage::Stage::server)
//!   the production program with any arguments (`serve`, `worker`, `migrate`, `restored`, `keys` ...); both answer with a
//!   [`Process`](process::Process) that can be killed, stopped, continued and asked to end, and that ends with this process at the latest.
//! - [`stage.sandbox()`](stage::Stage::sandbox) is the sandbox's control interface: faults, settings, ledger, requests.
//! - [`Stage::drained`](stage::Stage::drained) waits until nothing is open, [`Stage::evidence`](stage::Stage::evidence) collects everything
//!   that [`check::check`] judges. What a scenario demands beyond those rules it adds to its [`Outcome`](report::Outcome).
//! - All chance comes from [`Run::chance`](scenario::Run::chance), so that a seed repeats a run as far as the operating system lets it.

pub mod check;
pub mod child;
pub mod cli;
pub mod clock;
pub mod database;
pub mod disk;
pub mod evidence;
pub mod hurried;
pub mod load;
pub mod process;
pub mod random;
pub mod report;
pub mod sandbox;
pub mod scenario;
pub mod stage;

/// Why a scenario could not be played. A promise that was broken is no failure of the program: it is a violation in the report.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
