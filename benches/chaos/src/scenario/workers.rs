//! Many workers over one database, their clocks wrong by up to ten minutes either way, some of them stopped past their lease and continued.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, Unconfirmed, check},
    process::Process,
    random::Random,
    report::Outcome,
    stage::{Stage, StageOptions},
};

/// How many minutes the clock of each worker is ahead.
const WRONG_MINUTES: [i64; 8] = [10, -10, 7, -7, 3, -3, 0, 0];
/// How long a worker stands still, in the run's time: its lease of 60 s ends, and others free what it held within 12 s more.
const PAUSE: Duration = Duration::from_secs(90);
/// How many of them stand still at once.
const PAUSED: usize = 3;
/// How long the rest may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// What setting a clock right leaves over under a fast pace, also when the worker stood still in the middle of it. Less than any clock is
/// wrong here.
const RESIDUE: Duration = Duration::from_secs(105);

/// See the module.
#[derive(Debug)]
pub(super) struct Workers;

#[async_trait]
impl Scenario for Workers {
    fn name(&self) -> &'static str {
        "workers"
    }

    fn about(&self) -> &'static str {
        "runs 8 workers with clocks that are up to 10 minutes wrong, and stops some (SIGSTOP) until their leases are over"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let pauses = run.rounds(12, 2);
        let (x, members) = run.pick((150, 50), (24, 8));
        // More work needs more time, or slowness itself would be the fault.
        let speed = run.pick(10, 20);
        let stage = Stage::set(run, StageOptions { speed, x, members, ..StageOptions::default() }).await?;
        stage.latency(100, 400).await?;
        let workers = (0_usize..).zip(WRONG_MINUTES).map(|(number, minutes)| {
            let mut config = stage.worker_config();
            config.name = format!("worker{number}");
            config.wrong_ms = minutes * 60_000;
            stage.worker(&config)
        });
        let mut workers = workers.collect::<Result<Vec<_>, _>>()?;

        // A backlog is no fault of this scenario: a debug build is given what it can do.
        let posts = run.pick(if cfg!(debug_assertions) { 3_000 } else { 10_000 }, 300);
        say(format!("{posts} posts over {} accounts, {pauses} pauses of {PAUSED} workers", stage.places().len()));
        let length = stage.pace().of_the_run(pause(&stage)) * u32::try_from(pauses).unwrap_or(u32::MAX);
        let (stood, ()) = tokio::try_join!(torment(run, &stage, &workers, pauses), fill(run, &stage, posts, length))?;
        say("everybody runs again; waiting for the rest");
        let parked = stage.drained_with_patience(PATIENCE).await?;

        let evidence = stage.evidence().await?;
        let allowed = Allowed { unconfirmed: Unconfirmed::IfReceived, early: RESIDUE, ..Allowed::default() };
        let verdict = check(&evidence, &allowed);
        let wanted: usize = evidence.deliveries.iter().map(|delivery| delivery.parts).sum();
        let (there, asking) = (verdict.figures.objects, verdict.figures.x_unconfirmed);
        let mut outcome = Outcome::of(verdict);
        // The ledger holds exactly what was wanted, whatever the store still doubts.
        outcome.demand(there == wanted, || format!("{wanted} objects were wanted, {there} are there"));
        outcome.demand(asking == 0, || format!("{asking} deliveries on X wait for a person"));
        for worker in &mut workers {
            let alive = worker.is_alive()?;
            outcome.demand(alive, || format!("{} ended by itself", worker.name()));
        }
        outcome.figure("workers", workers.len());
        outcome.figure("times_stopped", stood);
        outcome.figure("parked_after_three_deaths", parked);
        Ok(outcome)
    }
}

/// How long a worker stands still, on the machine.
fn pause(stage: &Stage) -> Duration {
    stage.pace().real(PAUSE)
}

/// Stops some workers, waits until nothing of what they hold is theirs any more, and lets them go on. Answers with how often one was stopped.
async fn torment(run: &Run, stage: &Stage, workers: &[Process], pauses: u64) -> Result<u64, Failure> {
    let mut chance = run.chance("pauses");
    // Long enough for all of them to have started and to hold something.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut stood = 0;
    for _ in 0..pauses {
        let chosen = choose(&mut chance, workers.len());
        let moments = chosen.iter().map(|_| chance.between(Duration::ZERO, Duration::from_millis(500)));
        let moments: Vec<_> = moments.collect();
        let stopped = chosen.iter().zip(&moments).map(|(number, moment)| async move {
            tokio::time::sleep(*moment).await;
            let worker = &workers[*number];
            let began = Instant::now();
            worker.signal("STOP").await?;
            tokio::time::sleep(pause(stage).saturating_sub(began.elapsed())).await;
            worker.signal("CONT").await
        });
        for ended in join_all(stopped).await {
            ended?;
            stood += 1;
        }
    }
    Ok(stood)
}

fn choose(chance: &mut Random, from: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..from).collect();
    (0..PAUSED.min(from)).map(|_| all.swap_remove(chance.place(all.len()))).collect()
}

/// Schedules posts that are due over the whole time of the torment, many at once.
async fn fill(run: &Run, stage: &Stage, posts: usize, length: Duration) -> Result<(), Failure> {
    const LANES: usize = 8;
    let lanes = (0..LANES).map(|lane| {
        let mut chance = run.chance(&format!("load of workers {lane}"));
        async move { stage.load(&mut chance, posts / LANES + usize::from(lane < posts % LANES), length).await }
    });
    try_join_all(lanes).await.map(drop)
}
