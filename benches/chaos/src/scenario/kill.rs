//! Workers die at any moment: between any two instructions, in the middle of any call.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, Unconfirmed, check},
    process::Process,
    random::Random,
    report::Outcome,
    stage::{Stage, StageOptions},
};

/// Time passes so much faster: a lease of 60 s is over in 3.
const SPEED: u32 = 20;
/// Workers that live and die side by side.
const WORKERS: usize = 4;
/// What one of them takes of each network at once.
const IN_FLIGHT: usize = 3;
/// How long the rest may take when nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Kill;

#[async_trait]
impl Scenario for Kill {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn about(&self) -> &'static str {
        "kills workers (SIGKILL) at random instants while they publish over a slow network"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let kills = run.rounds(1000, 15);
        let (x, members) = run.pick((120, 40), (24, 8));
        let stage = Stage::set(run, StageOptions { speed: SPEED, x, members, ..StageOptions::default() }).await?;
        let (least, most) = run.pick((50, 500), (50, 250));
        stage.latency(least, most).await?;
        say(format!("{kills} kills, {WORKERS} workers at a time, {} accounts", stage.places().len()));
        let killed = storm(run, &stage, kills).await?;
        say(format!("{} posts were scheduled meanwhile; waiting for the rest", stage.planned().len()));

        // What is left is finished by workers that live.
        let survivors = [stage.worker(&stage.worker_config())?, stage.worker(&stage.worker_config())?];
        let calm = Instant::now();
        let parked = stage.drained_with_patience(PATIENCE).await?;
        for survivor in survivors {
            survivor.kill().await?;
        }
        // What the network still does with requests of the dead.
        tokio::time::sleep(2 * Duration::from_millis(most)).await;
        let evidence = stage.evidence().await?;

        let verdict = check(&evidence, &Allowed { unconfirmed: Unconfirmed::IfReceived, ..Allowed::default() });
        let (doubts, unsettled) = (verdict.figures.x_in_doubt, verdict.figures.x_unconfirmed);
        let mut outcome = Outcome::of(verdict);
        // Of few, one is more than a hundredth.
        outcome.demand(unsettled <= (doubts / 100).max(usize::from(doubts < 100)), || {
            format!("of {doubts} doubts on X {unsettled} wait for a person")
        });
        outcome.figure("kills", killed);
        outcome.figure("parked_after_three_deaths", parked);
        outcome.figure("calm_s", crate::report::seconds(calm.elapsed()));
        Ok(outcome)
    }
}

/// Keeps workers dying, and posts coming, until so many were killed.
async fn storm(run: &Run, stage: &Stage, kills: u64) -> Result<u64, Failure> {
    let killed = AtomicU64::new(0);
    // The seconds that a worker lives, at the most. In a debug build it needs some of them to start.
    let longest = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 2500 });
    let slots = (0..WORKERS).map(|slot| {
        let (killed, mut chance) = (&killed, run.chance(&format!("kills of slot {slot}")));
        async move {
            while killed.load(Ordering::Relaxed) < kills {
                let mut config = stage.worker_config();
                config.in_flight = IN_FLIGHT;
                let worker = stage.worker(&config)?;
                tokio::time::sleep(chance.between(Duration::ZERO, longest)).await;
                die(worker).await?;
                let so_far = killed.fetch_add(1, Ordering::Relaxed) + 1;
                if so_far.is_multiple_of(100) {
                    say(format!("{so_far} killed"));
                }
            }
            Ok::<_, Failure>(())
        }
    });
    let feeding = async {
        let mut chance = run.chance("load of kill");
        while killed.load(Ordering::Relaxed) < kills {
            feed(run, stage, &mut chance).await?;
        }
        Ok(())
    };
    tokio::try_join!(try_join_all(slots), feeding)?;
    Ok(killed.load(Ordering::Relaxed))
}

/// Some posts that are due now and in the next seconds, and a pause.
async fn feed(run: &Run, stage: &Stage, chance: &mut Random) -> Result<(), Failure> {
    let spread = stage.pace().of_the_run(Duration::from_secs(2));
    stage.load(chance, run.pick(10, 6), spread).await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    Ok(())
}

/// A worker that ends by itself is a fault, not a kill.
async fn die(mut worker: Process) -> Result<(), Failure> {
    if !worker.is_alive()? {
        return Err(format!("{} ended by itself; see its log", worker.name()).into());
    }
    worker.kill().await
}
