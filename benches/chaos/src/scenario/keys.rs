//! Sealed tokens that are damaged, swapped or sealed by a key that is lost, and all of them wrapped again under a new key while posts go
//! out.

use std::{
    fs,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use social_core::{
    Account, ConnectionId, PhaseName, Scheduler as _,
    account::{Connection, ConnectionStatus, Version},
    id::PlatformId,
    keeper::token_binding,
    store::{NewConnection, SealedTokens, StoredTokens, Swap},
    vault::{KeyRing, Sealed, Vault},
};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, check},
    load::Shape,
    process::Process,
    random::Random,
    report::Outcome,
    stage::{Planned, Stage, StageOptions},
};

/// Time passes so much faster: what waits for the operator is looked at every five minutes.
const SPEED: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(300);
/// How many connections are made at once.
const TOGETHER: usize = 16;
/// Unreadable tokens are left so for this time of the run: longer than the pause after which they are tried again.
const UNREADABLE: Duration = Duration::from_secs(60);
/// The people whose tokens are tampered with, by place: damaged, two swapped, two whose key is lost.
const DAMAGED: usize = 0;
const SWAPPED: [usize; 2] = [1, 2];
const LOST: usize = 3;
const MISLAID: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Keys;

#[async_trait]
impl Scenario for Keys {
    fn name(&self) -> &'static str {
        "keys"
    }

    fn about(&self) -> &'static str {
        "wraps tokens again under a new key while posts go out, killing that midway; then damages, swaps and locks up tokens"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let (x, members) = run.pick((60, 20), (10, 3));
        let stage = Stage::set(run, StageOptions { speed: SPEED, x, members, ..StageOptions::default() }).await?;
        stage.latency(10, 60).await?;
        let mut outcome = Outcome::default();
        let (_, new) = KeyRing::generate("new")?;
        let keys = format!("{},{}", new.as_str(), stage.keys());
        rotate(run, &stage, &keys, &mut outcome).await?;
        tamper(run, &stage, &keys, &mut outcome).await?;
        outcome.take(check(&stage.evidence().await?, &Allowed::default()));
        Ok(outcome)
    }
}

/// All tokens are wrapped again, by a program that is killed midway and started anew, while workers use them.
async fn rotate(run: &Run, stage: &Stage, keys: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    let tokens = run.pick(100_000, 300);
    fill(stage, tokens).await?;
    let workers = run.pick(8, 2);
    say(format!("{tokens} tokens are wrapped again while {workers} workers publish"));
    let mut workers = (0..workers).map(|_| worker(stage, keys)).collect::<Result<Vec<_>, _>>()?;
    let mut chance = run.chance("load of keys");
    let spread = stage.pace().of_the_run(run.pick(Duration::from_secs(60), Duration::from_secs(4)));
    stage.load(&mut chance, run.pick(2_000, 50), spread).await?;

    let settings = [("SOCIAL_MASTER_KEYS", keys.to_owned())];
    let (kills, mut killed) = (run.rounds(5, 2), 0);
    let all = old(stage).await?;
    for round in 1..=kills {
        let mut rotation = stage.server_with(&["keys", "rotate"], None, &settings)?;
        let enough = all - all * round / (kills + 1);
        while old(stage).await? > enough && rotation.is_alive()? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        killed += u64::from(rotation.is_alive()?);
        rotation.kill().await?;
    }
    let left = old(stage).await?;
    outcome.demand(killed > 0 && left > 0, || "no rotation was killed midway: the run says nothing".into());
    let mut rotation = stage.server_with(&["keys", "rotate"], None, &settings)?;
    let status = rotation.ended(PATIENCE * 2).await?;
    outcome.demand(status.success(), || format!("the rotation ended with {status}"));
    let rest = old(stage).await?;
    outcome.demand(rest == 0, || format!("{rest} connections are still sealed by the old key"));
    stage.drained(PATIENCE).await?;
    for worker in &mut workers {
        let alive = worker.is_alive()?;
        outcome.demand(alive, || format!("{} ended by itself", worker.name()));
    }
    for worker in workers {
        worker.kill().await?;
    }
    outcome.figure("tokens", all);
    outcome.figure("rotations_killed", killed);
    outcome.figure("wrapped_after_the_last_kill", left);
    Ok(())
}

/// Tokens that cannot be opened, each in its own way: nothing is sent with them, nothing of theirs fails, and everything goes out once
/// it can.
async fn tamper(run: &Run, stage: &Stage, keys: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    say("tokens are damaged, swapped, and locked up by a lost key");
    let mut chance = run.chance("tampering");
    let own = Vault::new(std::sync::Arc::new(KeyRing::parse(keys)?));
    let (lost_ring, lost_key) = KeyRing::generate("lost")?;
    let lost_vault = Vault::new(std::sync::Arc::new(lost_ring));
    let damaged = stored(stage, DAMAGED).await?;
    put(stage, &damaged, flipped(&damaged.tokens, &mut chance)).await?;
    let [one, other] = [stored(stage, SWAPPED[0]).await?, stored(stage, SWAPPED[1]).await?];
    put(stage, &one, other.tokens.clone()).await?;
    put(stage, &other, one.tokens.clone()).await?;
    for place in [LOST, MISLAID] {
        let found = stored(stage, place).await?;
        let binding = binding(&found.connection);
        let plain = own.open(&binding, &found.tokens.0).await?;
        put(stage, &found, SealedTokens(lost_vault.seal(&binding, &plain).await?)).await?;
    }
    missing(stage, keys, &lost_key, outcome).await?;

    let mut posts = Vec::new();
    for place in 0..stage.places().len() {
        posts.push(stage.post(Shape::Text, place, Duration::from_secs(5)).await?);
    }
    let first = worker(stage, keys)?;
    let victims = [DAMAGED, SWAPPED[0], SWAPPED[1], LOST, MISLAID];
    let (theirs, others): (Vec<&Planned>, Vec<&Planned>) = posts.iter().partition(|post| victims.contains(&post.place));
    let started = Instant::now();
    for post in others {
        while phase(stage, post).await? != PhaseName::Published && started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    tokio::time::sleep(stage.pace().real(UNREADABLE)).await;
    let seen = stage.evidence().await?;
    for post in &theirs {
        let (phase, place) = (phase(stage, post).await?, post.place);
        let waits = [PhaseName::Retrying, PhaseName::AwaitingReconnect].contains(&phase);
        outcome.demand(waits, || format!("the tokens of place {place} cannot be opened, and its post is {phase}"));
        let sent = seen.received.keys().any(|marker| marker.number == post.number);
        outcome
            .demand(!sent, || format!("something was sent with the tokens of place {place}, which cannot be opened"));
    }
    first.kill().await?;

    // What was swapped is swapped back, the key that was mislaid is found, and the others connect again.
    put(stage, &stored(stage, SWAPPED[0]).await?, one.tokens).await?;
    put(stage, &stored(stage, SWAPPED[1]).await?, other.tokens).await?;
    for place in [DAMAGED, LOST] {
        let place = stage.places().get(place).ok_or("there is no such place")?;
        stage.connect("x", &place.persona, None).await?;
    }
    let second = worker(stage, &format!("{keys},{}", lost_key.as_str()))?;
    let (started, mut left) = (Instant::now(), 1);
    while left > 0 && started.elapsed() < PATIENCE {
        left = stage.drained(PATIENCE).await?;
    }
    outcome.demand(left == 0, || format!("{left} posts still wait although all tokens can be opened again"));
    second.kill().await?;
    outcome.figure("unreadable_tokens", victims.len());
    Ok(())
}

/// The production program does not start without a key that something is sealed with, says which, and starts if it is told to.
async fn missing(stage: &Stage, keys: &str, lost: &str, outcome: &mut Outcome) -> Result<(), Failure> {
    let settings = [("SOCIAL_MASTER_KEYS", keys.to_owned())];
    let mut refused = stage.server_with(&["worker"], None, &settings)?;
    let status = refused.ended(Duration::from_secs(60)).await?;
    let said = fs::read_to_string(stage.folder().join(format!("{}.log", refused.name())))?;
    outcome.demand(!status.success() && said.contains("master key lost is missing"), || {
        format!("without a key that is needed a worker ended with {status} and said {said:?}")
    });
    let secret = lost.split_once(':').map_or(lost, |(_, secret)| secret);
    outcome.demand(!said.contains(secret), || "a key is in the log".into());
    let mut degraded = stage.server_with(&["worker", "--allow-missing-keys"], None, &settings)?;
    degraded.catches_sigterm(Duration::from_secs(60)).await?;
    let (log, started) = (stage.folder().join(format!("{}.log", degraded.name())), Instant::now());
    while !fs::read_to_string(&log)?.contains("has started") && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let alive = degraded.is_alive()?;
    outcome.demand(alive, || "a worker did not start although it may do without a key".into());
    degraded.signal("TERM").await?;
    let status = degraded.ended(Duration::from_secs(25)).await?;
    outcome.demand(status.success(), || format!("a worker without a key ended with {status}"));
    Ok(())
}

fn worker(stage: &Stage, keys: &str) -> Result<Process, Failure> {
    let mut config = stage.worker_config();
    config.keys = keys.to_owned();
    stage.worker(&config)
}

fn binding(connection: &Connection) -> social_core::vault::Binding<'_> {
    token_binding(connection.user, connection.id, &connection.platform, connection.version)
}

async fn phase(stage: &Stage, post: &Planned) -> Result<PhaseName, Failure> {
    Ok(stage.social().delivery(stage.user(), post.delivery).await?.phase.name())
}

/// How many connections are sealed by the stage's own key.
async fn old(stage: &Stage) -> Result<u64, Failure> {
    let usage = stage.social().store().key_usage().await?;
    Ok(usage.iter().filter(|(id, _)| id == "chaos").map(|(_, count)| count).sum())
}

async fn stored(stage: &Stage, place: usize) -> Result<StoredTokens, Failure> {
    let account: &Account = &stage.places().get(place).ok_or("there is no such place")?.account;
    let found = stage.social().store().get(account.connection).await?;
    found.ok_or_else(|| "a connection is gone".into())
}

/// Replaces the ciphertext in a row, as somebody with access to the database could.
async fn put(stage: &Stage, row: &StoredTokens, tokens: SealedTokens) -> Result<(), Failure> {
    let store = stage.social().store();
    match store.rewrap(row.connection.id, row.connection.version, &row.tokens, &tokens).await? {
        Swap::Done => Ok(()),
        Swap::Stale => Err("somebody changed the tokens meanwhile".into()),
    }
}

/// The same with one bit changed, behind the head, which names the key.
fn flipped(tokens: &SealedTokens, chance: &mut Random) -> SealedTokens {
    loop {
        let mut bytes = tokens.0.as_bytes().to_vec();
        let place = chance.place(bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << chance.below(8);
        }
        match Sealed::from_bytes(bytes) {
            Ok(sealed) if sealed.key_id() == tokens.0.key_id() => return SealedTokens(sealed),
            _ => {}
        }
    }
}

/// So many connections that only have to be wrapped again.
async fn fill(stage: &Stage, number: usize) -> Result<(), Failure> {
    let (now, user) = (stage.now(), stage.user());
    let made = stream::iter(0..number).map(|_| async move {
        let connection = Connection {
            id: ConnectionId::new(),
            user,
            platform: PlatformId::from_static("x"),
            preset: String::new(),
            status: ConnectionStatus::Active,
            requested_scopes: Vec::new(),
            granted_scopes: Vec::new(),
            expires_at: None,
            refresh_expires_at: None,
            refreshable: false,
            version: Version::FIRST,
            created_at: now,
            updated_at: now,
        };
        let sealed = stage.social().vault().seal(&binding(&connection), b"tokens of somebody").await?;
        let remote_user = format!("nobody-{}", connection.id);
        let new = NewConnection { connection, tokens: SealedTokens(sealed), remote_user };
        Ok::<_, Failure>(stage.social().store().insert(&new).await?)
    });
    let mut made = made.buffer_unordered(TOGETHER);
    while let Some(one) = made.next().await {
        one?;
    }
    Ok(())
}
