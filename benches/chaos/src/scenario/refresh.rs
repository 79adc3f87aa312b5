//! Tokens that have to be renewed all the time by many workers at once, on a network that ends the whole grant if an old refresh token is
//! shown again; and workers that die while they renew.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Value, json};
use social_core::{
    ConnectionId, PhaseName, Scheduler as _,
    account::{Connection, ConnectionStatus},
};
use social_sandbox::{Fault, FaultSpec, When};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, check},
    load::Shape,
    process::Process,
    report::Outcome,
    stage::{Place, Planned, Stage, StageOptions},
};

/// Time passes so much faster: in full so that a lease, which ends after seconds then, outlives the moments in which many processes on one
/// machine wait for each other; in short a little more.
const SPEED: [u32; 2] = [5, 15];
/// How long access tokens live, in the run's time. They are due for a refresh in the middle of it.
const LIFE: Duration = Duration::from_secs(100);
/// A refresh is a worker's alone for a minute, and within another one what it left is settled.
const SETTLED_WITHIN: Duration = Duration::from_secs(120 + 15);
/// What the clocks of processes may differ by.
const RESIDUE: SignedDuration = SignedDuration::from_secs(1);
/// How long new tokens are on their way, on the machine, when workers are told to stop.
const SLOW_MS: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);
/// How often, on the machine, connections are looked at.
const LOOK: Duration = Duration::from_millis(200);
const TOKEN: &str = "oauth.token";

/// See the module.
#[derive(Debug)]
pub(super) struct Refresh;

#[async_trait]
impl Scenario for Refresh {
    fn name(&self) -> &'static str {
        "refresh"
    }

    fn about(&self) -> &'static str {
        "lets tokens expire under many workers on a network that punishes a second refresh, and kills workers in the middle of one"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let (accounts, workers) = run.pick((400, 16), (30, 4));
        let speed = run.pick(SPEED[0], SPEED[1]);
        let expiries = run.rounds(10_000, 60);
        // Only X renews tokens in this way.
        let options =
            StageOptions { speed, x: accounts, members: 0, pages: false, token_life: LIFE, ..StageOptions::default() };
        let stage = Stage::set(run, options).await?;
        stage.latency(10, 80).await?;
        let mut outcome = Outcome::default();
        expire(run, &stage, (expiries, workers), &mut outcome).await?;
        for round in 0..run.pick(5, 1) {
            if round > 0 {
                again(&stage).await?;
            }
            die(run, &stage, &mut outcome).await?;
        }
        stage.drained(PATIENCE).await?;
        outcome.take(check(&stage.evidence().await?, &Allowed::default()));
        Ok(outcome)
    }
}

/// What is known of the connections, by id.
async fn connections(stage: &Stage) -> Result<BTreeMap<ConnectionId, Connection>, Failure> {
    let all = stage.social().store().connections(stage.user()).await?;
    Ok(all.into_iter().map(|one| (one.id, one)).collect())
}

/// Which connection each place is reached through by now: whoever connects again may get a new one.
async fn grants(stage: &Stage) -> Result<Vec<ConnectionId>, Failure> {
    let accounts = stage.social().store().accounts(stage.user()).await?;
    let of = |place: &Place| accounts.iter().find(|one| one.id == place.account.id).map(|one| one.connection);
    stage.places().iter().map(|place| of(place).ok_or_else(|| "an account is gone".into())).collect()
}

/// Everybody connects again, for tokens that live as short as at the beginning.
async fn again(stage: &Stage) -> Result<(), Failure> {
    for place in stage.places() {
        stage.connect("x", &place.persona, None).await?;
    }
    Ok(())
}

/// How many requests the token endpoint has got, and how many of them it refused.
async fn asked(stage: &Stage) -> Result<(usize, usize), Failure> {
    let requests = stage.sandbox().requests().await?;
    let mut asked = requests.iter().filter(|request| request.operation == TOKEN);
    let refused = asked.clone().filter(|request| request.status.is_some_and(|status| (400..500).contains(&status)));
    Ok((refused.count(), asked.by_ref().count())).map(|(refused, all)| (all, refused))
}

/// How often an old refresh token was shown, by the sandbox's count.
async fn reuses(stage: &Stage) -> Result<u64, Failure> {
    let tokens: Value = stage.sandbox().get("tokens").await?;
    tokens["refresh_reuses"].as_u64().ok_or_else(|| "the sandbox does not count reuses".into())
}

/// Tokens expire under load. Each expiry is one refresh, neither more nor less.
async fn expire(
    run: &Run,
    stage: &Stage,
    (wanted, number): (u64, usize),
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    say(format!("{wanted} expiries of {} tokens under {number} workers", stage.places().len()));
    let (before, _) = asked(stage).await?;
    let mut known = connections(stage).await?;
    let workers: Vec<Process> = (0..number).map(|_| stage.worker(&stage.worker_config())).collect::<Result<_, _>>()?;
    let (mut chance, mut expired, started) = (run.chance("load of refresh"), 0_u64, Instant::now());
    // Nothing hides from looks that are so close together: between two expiries of one token lies half of its life.
    while expired < wanted {
        for _ in 0..2 {
            let place = chance.place(stage.places().len());
            stage.post(Shape::Text, place, chance.between(Duration::ZERO, Duration::from_secs(20))).await?;
        }
        tokio::time::sleep(LOOK).await;
        expired += look(stage, &mut known, outcome).await?;
        if started.elapsed() > PATIENCE * 10 {
            return Err(format!("only {expired} tokens expired").into());
        }
    }
    // Those who are told to stop are in the middle of refreshes, whose answers are the only copy of new tokens.
    let slow = FaultSpec::new("x", TOKEN, When::After, Fault::Hang { hang_ms: SLOW_MS, late: false });
    stage.sandbox().arm(&[slow]).await?;
    while stage.sandbox().faults().await?.iter().all(|fault| fault.hits == 0) {
        if started.elapsed() > PATIENCE * 10 {
            return Err("no refresh is made any more".into());
        }
        tokio::time::sleep(LOOK).await;
        expired += look(stage, &mut known, outcome).await?;
    }
    for worker in &workers {
        worker.signal("TERM").await?;
    }
    for mut worker in workers {
        let status = worker.ended(Duration::from_secs(25)).await?;
        outcome.demand(status.success(), || format!("{} ended with {status}", worker.name()));
    }
    expired += look(stage, &mut known, outcome).await?;
    let (after, refused) = asked(stage).await?;
    let calls = (after - before) as u64;
    outcome.demand(calls == expired, || format!("{expired} tokens expired and {calls} refreshes were asked for"));
    outcome.demand(refused == 0, || format!("{refused} refreshes were refused"));
    let reused = reuses(stage).await?;
    outcome
        .demand(reused == 0, || format!("an old refresh token was shown {reused} times: as many families are revoked"));
    for connection in known.values() {
        let status = connection.status;
        outcome.demand(status == ConnectionStatus::Active, || format!("connection {} is {status:?}", connection.id));
    }
    outcome.figure("expiries", expired);
    outcome.figure("refreshes", calls);
    Ok(())
}

/// Counts what was renewed since the last look, and demands that it was due, and once.
async fn look(
    stage: &Stage,
    known: &mut BTreeMap<ConnectionId, Connection>,
    outcome: &mut Outcome,
) -> Result<u64, Failure> {
    let mut renewed = 0;
    for (id, new) in connections(stage).await? {
        let old = known.get(&id).ok_or("a connection that was not there")?;
        let more = new.version.0 - old.version.0;
        renewed += more;
        let age = new.updated_at.duration_since(old.updated_at);
        let due = SignedDuration::try_from(LIFE / 2)? - RESIDUE;
        outcome.demand(more == 0 || more == 1 && age >= due, || {
            format!(
                "the tokens of {id} were renewed {more} times, the last time when they were {} s old",
                age.as_secs()
            )
        });
        known.insert(id, new);
    }
    Ok(renewed)
}

/// A worker is killed while the network has been asked for new tokens. Where it had not rotated yet, another worker renews them; where it
/// had, they are lost with the worker, and the person has to connect again: that is said soon, tried no more than once, and heals.
async fn die(run: &Run, stage: &Stage, outcome: &mut Outcome) -> Result<(), Failure> {
    say("a worker dies in the middle of refreshes");
    // Nothing but the faults may be under way when it dies.
    stage.latency(0, 0).await?;
    stage.sandbox().disarm().await?;
    let (before, grants) = (connections(stage).await?, grants(stage).await?);
    let (_, refused_before) = asked(stage).await?;
    let silence = || Fault::Hang { hang_ms: 600_000, late: false };
    let in_time = run.pick(4, 3);
    let faults = [
        FaultSpec::new("x", TOKEN, When::Before, silence()).times(in_time),
        FaultSpec::new("x", TOKEN, When::After, silence()),
    ];
    stage.sandbox().arm(&faults).await?;
    let victim = stage.worker(&stage.worker_config())?;
    let (mut hits, started) = ((0, 0), Instant::now());
    // Until it hangs in as many refreshes as it makes at once.
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let played = stage.sandbox().faults().await?;
        let now = (played.first().map_or(0, |fault| fault.hits), played.get(1).map_or(0, |fault| fault.hits));
        if now == hits && now.0 == in_time && now.1 > 0 {
            break;
        }
        if started.elapsed() > PATIENCE {
            return Err("no refresh was made".into());
        }
        hits = now;
    }
    let lost = usize::try_from(hits.1)?;
    victim.kill().await?;
    let killed = stage.now();
    stage.sandbox().disarm().await?;
    // From here on whoever is renewed stays so: what is asked for now is about the dead worker's refreshes.
    stage.sandbox().set(&json!({ "access_token_ttl_s": 7 * 24 * 3600 })).await?;
    stage.latency(10, 80).await?;
    let posts = waiting(stage).await?;
    let workers = [stage.worker(&stage.worker_config())?, stage.worker(&stage.worker_config())?];

    let started = Instant::now();
    let (done, dead) = loop {
        let now = connections(stage).await?;
        let dead: Vec<Connection> =
            now.values().filter(|one| one.status == ConnectionStatus::NeedsReconnect).cloned().collect();
        let renewed =
            now.values().filter(|one| before.get(&one.id).is_some_and(|old| old.version < one.version)).count();
        if dead.len() + renewed == now.len() || started.elapsed() > stage.pace().real(SETTLED_WITHIN * 2) {
            break (dead.len() + renewed == now.len(), dead);
        }
        tokio::time::sleep(LOOK).await;
    };
    outcome.demand(done, || "some tokens were neither renewed nor given up".into());
    outcome.demand(dead.len() == lost, || {
        format!("{lost} answers with new tokens died with the worker, and {} connections need a person", dead.len())
    });
    for one in &dead {
        let after = one.updated_at.duration_since(killed);
        let within = SignedDuration::try_from(SETTLED_WITHIN)?;
        outcome.demand(after <= within, || format!("it took {} s until {} was given up", after.as_secs(), one.id));
    }
    // Their posts wait and say why; the others go out.
    let is_dead = |place: usize| grants.get(place).is_some_and(|grant| dead.iter().any(|one| one.id == *grant));
    let theirs: Vec<&Planned> = posts.iter().filter(|post| is_dead(post.place)).collect();
    stage.drained(PATIENCE).await?;
    for post in &theirs {
        let phase = stage.social().delivery(stage.user(), post.delivery).await?.phase.name();
        outcome.demand(phase == PhaseName::AwaitingReconnect, || format!("post {} is {phase}", post.number));
    }
    let evidence = stage.evidence().await?;
    for post in &theirs {
        let found = evidence.deliveries.iter().find(|delivery| delivery.number == post.number);
        let noticed =
            found.is_some_and(|delivery| delivery.history.iter().any(|row| row.event == "awaiting_reconnect"));
        outcome.demand(noticed, || format!("nobody was told that post {} waits", post.number));
    }
    // Once for each, and never again.
    tokio::time::sleep(stage.pace().real(Duration::from_secs(run.pick(300, 30)))).await;
    let (_, refused) = asked(stage).await?;
    outcome.demand(refused - refused_before <= lost, || {
        format!("{lost} dead refresh tokens were shown {} times", refused - refused_before)
    });

    // The people connect again: what waits goes out.
    for (number, place) in stage.places().iter().enumerate() {
        if is_dead(number) {
            stage.connect("x", &place.persona, None).await?;
        }
    }
    let (started, mut left) = (Instant::now(), stage.drained(PATIENCE).await?);
    while left > 0 && started.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK).await;
        left = stage.drained(PATIENCE).await?;
    }
    outcome.demand(left == 0, || format!("{left} posts still wait although everybody has connected again"));
    for worker in workers {
        worker.kill().await?;
    }
    stage.sandbox().set(&json!({ "access_token_ttl_s": LIFE.as_secs() })).await?;
    outcome.figure("tokens_lost_with_a_worker", lost);
    outcome.figure("refreshes_cut_before_the_effect", hits.0);
    Ok(())
}

/// A post for everybody, due when the tokens that were being renewed have ended.
async fn waiting(stage: &Stage) -> Result<Vec<Planned>, Failure> {
    let mut posts = Vec::new();
    for place in 0..stage.places().len() {
        posts.push(stage.post(Shape::Text, place, LIFE).await?);
    }
    Ok(posts)
}
