//! Workers and servers are asked to end (SIGTERM) at every stage, and a newer version moves in beside them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::json;

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, check},
    database::Kind,
    process::Process,
    report::Outcome,
    stage::{Stage, StageOptions},
};

/// A process that was asked to end has this long.
const ENDS_WITHIN: Duration = Duration::from_secs(25);
/// It may take this long until a process can be asked at all.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);

/// Under these accounts somebody still works.
const HELD: &str = "SELECT count(*) FROM deliveries WHERE lease_until IS NOT NULL";

/// What the next version's migration might do: schemas only grow. It leaves a row under a number that this version does not know. One table
/// at a time, since a transaction over several of them and the batches of workers would wait for each other.
const NEXT_SQLITE: [&str; 6] = [
    "ALTER TABLE deliveries ADD COLUMN of_the_next_version TEXT",
    "ALTER TABLE posts ADD COLUMN of_the_next_version INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE post_logs ADD COLUMN of_the_next_version TEXT",
    "CREATE TABLE of_the_next_version (id BLOB PRIMARY KEY, delivery_id BLOB REFERENCES deliveries (id))",
    "CREATE INDEX deliveries_of_the_next_version ON deliveries (of_the_next_version)",
    "INSERT INTO _social_migrations (version, description, success, checksum, execution_time) \
        VALUES (999999, 'of the next version', 1, x'00', 1)",
];
const NEXT_POSTGRES: [&str; 6] = [
    "ALTER TABLE deliveries ADD COLUMN of_the_next_version TEXT",
    "ALTER TABLE posts ADD COLUMN of_the_next_version BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE post_logs ADD COLUMN of_the_next_version TEXT",
    "CREATE TABLE of_the_next_version (id UUID PRIMARY KEY, delivery_id UUID REFERENCES deliveries (id))",
    "CREATE INDEX deliveries_of_the_next_version ON deliveries (of_the_next_version)",
    "INSERT INTO _social_migrations (version, description, success, checksum, execution_time) \
        VALUES (999999, 'of the next version', TRUE, '\\x00', 1)",
];

/// See the module.
#[derive(Debug)]
pub(super) struct Stop;

#[async_trait]
impl Scenario for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn about(&self) -> &'static str {
        "asks workers and servers to end (SIGTERM) at random instants, then lets a newer schema and newer processes move in"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let rounds = run.rounds(60, 5);
        let (x, members) = run.pick((40, 16), (12, 4));
        // The production program under the machine's clock.
        let stage =
            Stage::set(run, StageOptions { x, members, slow_files: !run.short, ..StageOptions::default() }).await?;
        stage.latency(50, run.pick(500, 250)).await?;
        stage.sandbox().set(&json!({ "processing_ms": 300 })).await?;
        let mut outcome = Outcome::default();
        let longest = stops(run, &stage, rounds, &mut outcome).await?;
        upgrade(run, &stage, &mut outcome).await?;
        outcome.take(check(&stage.evidence().await?, &Allowed::default()));
        outcome.figure("stops", rounds);
        outcome.figure("longest_stop_s", crate::report::seconds(longest));
        Ok(outcome)
    }
}

/// One process after the other works for a moment and is asked to end. Answers with the longest time that it took.
async fn stops(run: &Run, stage: &Stage, rounds: u64, outcome: &mut Outcome) -> Result<Duration, Failure> {
    let (mut chance, mut longest) = (run.chance("stops"), Duration::ZERO);
    say(format!("{rounds} times: work for a moment, then SIGTERM"));
    for round in 0..rounds {
        stage.load(&mut chance, run.pick(30, 12), Duration::from_secs(2)).await?;
        let arguments: &[&str] = if round % 3 == 2 { &["serve"] } else { &["worker"] };
        let mut process = stage.server(arguments, None)?;
        process.catches_sigterm(STARTS_WITHIN).await?;
        // Every stage: while it starts, claims, uploads, publishes, waits.
        tokio::time::sleep(chance.between(Duration::ZERO, Duration::from_millis(1500))).await;
        longest = longest.max(end(&mut process, outcome).await?);
        let held = stage.database().number(HELD).await?;
        outcome.demand(held == 0, || format!("{held} deliveries were not handed back by {}", process.name()));
    }
    Ok(longest)
}

/// Asks a process to end and demands that it does so in order. Answers with the time that it took.
async fn end(process: &mut Process, outcome: &mut Outcome) -> Result<Duration, Failure> {
    let asked = Instant::now();
    process.signal("TERM").await?;
    match process.ended(ENDS_WITHIN).await {
        Ok(status) => {
            outcome.demand(status.code() == Some(0), || format!("{} ended with {status}", process.name()));
        }
        Err(error) => outcome.demand(false, || error.to_string()),
    }
    Ok(asked.elapsed())
}

/// Old workers are at work while a newer process migrates, and while newer ones take over one by one.
async fn upgrade(run: &Run, stage: &Stage, outcome: &mut Outcome) -> Result<(), Failure> {
    let mut chance = run.chance("upgrade");
    let old: Option<&Path> = run.old_server.as_deref();
    say("an upgrade while work goes on");
    let mut before = [stage.server(&["worker"], old)?, stage.server(&["worker"], old)?];
    for process in &mut before {
        process.catches_sigterm(STARTS_WITHIN).await?;
    }
    stage.load(&mut chance, run.pick(400, 40), Duration::from_secs(run.pick(8, 3))).await?;
    for statement in if run.store == Kind::Sqlite { NEXT_SQLITE } else { NEXT_POSTGRES } {
        stage.database().execute(statement).await?;
    }
    stage.load(&mut chance, run.pick(400, 40), Duration::from_secs(run.pick(8, 3))).await?;
    let mut after = Vec::new();
    for process in &mut before {
        let mut newer = stage.server(&["worker"], None)?;
        newer.catches_sigterm(STARTS_WITHIN).await?;
        after.push(newer);
        tokio::time::sleep(chance.between(Duration::from_millis(200), Duration::from_secs(1))).await;
        let alive = process.is_alive()?;
        outcome.demand(alive, || format!("{} did not survive the newer schema", process.name()));
        if alive {
            end(process, outcome).await?;
        }
    }
    stage.drained(PATIENCE).await?;
    for process in &mut after {
        end(process, outcome).await?;
    }
    Ok(())
}
