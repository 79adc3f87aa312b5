//! The command line.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    Failure,
    child::{self, ChildCommand},
    database::Kind,
    report::{Outcome, seconds},
    scenario::{ALL, Run, Scenario},
};

/// No scenario may take longer.
const PATIENCE: Duration = Duration::from_secs(3600);

const AFTER: &str = "\
Progress goes to the error stream. The last line of the output is JSON: `held` says whether every promise was kept, `scenarios` what was
seen in each. The program ends with 0 if everything held, with 1 if a promise was broken or a scenario could not be played, with 2 if it was
called wrongly. PostgreSQL is started from installed programs (initdb, postgres and pg_ctl in the PATH or under /usr/lib/postgresql).";

/// Breaks things on purpose and checks that nothing is published twice and nothing gets lost.
#[derive(Debug, Parser)]
#[command(name = "social-chaos", version, after_help = AFTER, args_conflicts_with_subcommands = true, max_term_width = 140)]
struct Cli {
    #[command(subcommand)]
    child: Option<Child>,
    /// Which scenario, or `all`.
    scenario: Option<String>,
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Where chance begins; printed, and taken from the clock unless said.
    #[arg(long)]
    seed: Option<u64>,
    /// How often the fault strikes, instead of the scenario's own number.
    #[arg(long)]
    rounds: Option<u64>,
    /// A few seconds for each scenario, as in the tests.
    #[arg(long)]
    short: bool,
    /// Leaves databases and logs of children behind, and says where. Without it that happens only when something was broken.
    #[arg(long)]
    keep: bool,
    /// An older build of social-server, which `stop` then runs beside this one.
    #[arg(long, value_name = "PROGRAM")]
    old_server: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// What this program becomes as a child of itself.
    #[command(hide = true)]
    Child {
        #[command(subcommand)]
        command: ChildCommand,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let list: String = ALL.iter().map(|one| format!("  {:<10} {}\n", one.name(), one.about())).collect();
    let mut command = Cli::command().before_help(format!("Scenarios:\n{list}  {:<10} every one of them", "all"));
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let cli = parsed.and_then(|matches| <Cli as clap::FromArgMatches>::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(Child::Child { command }) = cli.child {
        return child::main(command);
    }
    let wanted = cli.scenario.as_deref().unwrap_or_default();
    let chosen: Vec<&dyn Scenario> =
        ALL.iter().copied().filter(|one| wanted == "all" || one.name() == wanted).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|one| one.name()).collect();
        let why = format!("name a scenario: {} or all", names.join(", "));
        let _ = command.error(ErrorKind::InvalidValue, why).print();
        return ExitCode::from(2);
    }
    let seed = cli.seed.unwrap_or_else(|| Timestamp::now().as_microsecond().unsigned_abs() % 1_000_000_000);
    let run = Run {
        store: cli.store,
        seed,
        rounds: cli.rounds,
        short: cli.short,
        keep: cli.keep,
        old_server: cli.old_server,
        folders: Arc::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Failure::from) {
        Ok(runtime) => runtime.block_on(play(&run, &chosen)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(run: &Run, chosen: &[&dyn Scenario]) -> ExitCode {
    let (began, mut entries, mut held) = (Instant::now(), Vec::new(), true);
    for one in chosen {
        let started = Instant::now();
        eprintln!("{} on {}, seed {}: {}", one.name(), run.store, run.seed, one.about());
        let outcome = match tokio::time::timeout(PATIENCE, one.run(run)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&"it did not come to an end within an hour".into()),
        };
        held &= outcome.held();
        for violation in outcome.violations().iter().take(20) {
            eprintln!("  BROKEN {violation}");
        }
        run.clear(outcome.held());
        let verdict = if outcome.held() { "held" } else { "BROKEN" };
        eprintln!("  {verdict} after {:.1} s", started.elapsed().as_secs_f64());
        entries.push(outcome.entry(one.name(), started.elapsed()));
    }
    let summary = json!({
        "held": held,
        "store": run.store.to_string(),
        "seed": run.seed,
        "short": run.short,
        "scenarios": entries,
        "seconds": seconds(began.elapsed()),
    });
    println!("{summary}");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failed(error: &Failure) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.demand(false, || format!("it could not be played: {error}"));
    outcome
}
