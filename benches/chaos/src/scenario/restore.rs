//! A backup is put back although work has gone on since: what it shows as waiting may be out.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use social_core::{PhaseName, account::AccountKind};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, Unconfirmed, check},
    process::Process,
    report::Outcome,
    stage::{Stage, StageOptions},
};

/// Time passes so much faster.
const SPEED: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(240);
/// Calls that were under way when a worker was killed have had their effect by then.
const SETTLED: Duration = Duration::from_millis(700);

/// See the module.
#[derive(Debug)]
pub(super) struct Restore;

#[async_trait]
impl Scenario for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn about(&self) -> &'static str {
        "goes on working after a backup, puts the backup back, says so (social-server restored), and goes on"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let (x, members) = run.pick((60, 30), (12, 6));
        let mut stage = Stage::set(run, StageOptions { speed: SPEED, x, members, ..StageOptions::default() }).await?;
        stage.latency(20, 200).await?;
        let (mut outcome, mut in_doubt) = (Outcome::default(), HashSet::new());
        for round in 0..run.rounds(5, 1) {
            backwards(run, &mut stage, (round, &mut in_doubt), &mut outcome).await?;
        }
        Ok(outcome)
    }
}

/// Backup, work, disaster, restore, work.
async fn backwards(
    run: &Run,
    stage: &mut Stage,
    (round, in_doubt): (u64, &mut HashSet<usize>),
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut chance = run.chance(&format!("load of restore {round}"));
    let (posts, third) = run.pick((600, Duration::from_secs(15)), (70, Duration::from_millis(2_500)));
    // Everything is in the backup: what was scheduled after it nobody could know of.
    stage.load(&mut chance, posts, stage.pace().of_the_run(third) * 3).await?;
    let workers = both(stage)?;
    tokio::time::sleep(third).await;
    let folder = stage.folder().join(format!("backup{round}"));
    std::fs::create_dir(&folder)?;
    let backup_at = stage.now();
    let backup = stage.database().back_up(&folder).await?;
    say("a backup was taken, and work goes on");
    tokio::time::sleep(third).await;
    for worker in workers {
        worker.kill().await?;
    }
    tokio::time::sleep(SETTLED).await;
    let since: HashSet<String> = stage.sandbox().ledger().await?.iter().map(|entry| entry.id.to_string()).collect();

    stage.restore(&backup).await?;
    let known = stage.evidence().await?.deliveries;
    let claimed: HashSet<&str> =
        known.iter().flat_map(|one| one.claimed.iter().flatten()).map(String::as_str).collect();
    let forgotten = since.iter().filter(|id| !claimed.contains(id.as_str())).count();
    // Of these the backup knows the very call, and for some minutes LinkedIn says by the identical one what became of it.
    in_doubt.extend(known.iter().filter(|one| one.phase == PhaseName::Committing).map(|one| one.number));
    outcome.demand(forgotten > 0, || "nothing was published after the backup: the run says nothing".into());
    say(format!("the backup is back: {forgotten} objects are visible of which it does not know"));
    // The program's clock is the machine's, which is behind the run's: it finds what it can. Repeated under the run's clock it finds the rest.
    let mut command = stage.server(&["restored", "--even-if-held"], None)?;
    let status = command.ended(PATIENCE).await?;
    outcome.demand(status.success(), || format!("social-server restored ended with {status}"));
    let marked = stage.social().restored(None, false, true).await?;
    let restored_at = stage.now();
    let workers = both(stage)?;
    let (started, _) = (Instant::now(), stage.drained(PATIENCE).await?);
    for worker in workers {
        worker.kill().await?;
    }

    let evidence = stage.evidence().await?;
    outcome.take(check(&evidence, &Allowed { unconfirmed: Unconfirmed::Anyway, ..Allowed::default() }));
    let planned = stage.planned();
    let mut asked = 0;
    for delivery in &evidence.deliveries {
        let place =
            planned.iter().find(|one| one.number == delivery.number).and_then(|one| stage.places().get(one.place));
        let member = place.is_some_and(|place| {
            place.account.platform.as_str() == "linkedin" && place.account.profile.kind != AccountKind::Organization
        });
        if delivery.phase == PhaseName::Unconfirmed {
            asked += 1;
            let number = delivery.number;
            outcome.demand(member, || format!("post {number} waits for a person although its network can be read"));
            outcome
                .demand(delivery.due <= restored_at, || format!("post {number} was due later and waits for a person"));
        }
        if member && !in_doubt.contains(&delivery.number) {
            let calls: u64 = evidence
                .received
                .iter()
                .filter(|(marker, _)| marker.number == delivery.number)
                .map(|(_, count)| count)
                .sum();
            outcome.demand(calls <= 1, || format!("post {} of a member was sent {calls} times", delivery.number));
        }
    }
    let (late, early) = (posts, evidence.objects.iter().filter(|object| object.created_at < backup_at).count());
    outcome.figure("objects_unknown_to_the_backup", forgotten);
    outcome.figure("objects_known_to_it", early);
    outcome.figure("posts_in_each_round", late);
    outcome.figure("looked_for", marked.to_look + marked.in_doubt);
    outcome.figure("left_to_a_person", asked);
    outcome.figure("calm_s", crate::report::seconds(started.elapsed()));
    Ok(())
}

fn both(stage: &Stage) -> Result<[Process; 2], Failure> {
    Ok([stage.worker(&stage.worker_config())?, stage.worker(&stage.worker_config())?])
}
