//! Databases that go away: crashed every few seconds, locked by somebody else, gone just when the network has answered, full.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use social_core::{DeliveryId, PhaseName, Scheduler as _};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, Unconfirmed, check},
    database::Kind,
    disk::Disk,
    load::{Marker, Shape},
    process::Process,
    report::Outcome,
    stage::{Planned, Stage, StageOptions},
};

/// Time passes so much faster where the database is crashed or locked.
const SPEED: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(180);
/// The latency while an answer is on its way: half of it after the effect.
const JOURNEY_MS: u64 = 1_600;
/// The size of the small disk, in MB: a new cluster of PostgreSQL fits, and not much more.
const DISK_MB: u32 = 90;
/// So many requests are tried until one must have been refused by a full disk.
const MOST_REQUESTS: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Database;

#[async_trait]
impl Scenario for Database {
    fn name(&self) -> &'static str {
        "database"
    }

    fn about(&self) -> &'static str {
        "crashes, locks and fills the database under load, and takes it away just when a network has answered"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let (x, members) = run.pick((60, 20), (10, 5));
        let stage = Stage::set(run, StageOptions { speed: SPEED, x, members, ..StageOptions::default() }).await?;
        storm(run, &stage, &mut outcome).await?;
        answers(run, &stage, &mut outcome).await?;
        // A call that was under way when the database went away may have been answered to nobody.
        let allowed = Allowed { unconfirmed: Unconfirmed::IfReceived, ..Allowed::default() };
        let verdict = check(&stage.evidence().await?, &allowed);
        let (doubts, unsettled) = (verdict.figures.x_in_doubt, verdict.figures.x_unconfirmed);
        outcome.take(verdict);
        outcome.demand(unsettled <= (doubts / 100).max(usize::from(doubts < 100)), || {
            format!("of {doubts} doubts on X {unsettled} wait for a person")
        });
        drop(stage);
        if Disk::is_possible() {
            full(run, &mut outcome).await?;
        } else {
            say("skipped: a small disk cannot be mounted without the rights of root");
            outcome.figure("full_disk", "skipped");
        }
        Ok(outcome)
    }
}

/// The database goes away and comes back again and again while posts come in and go out.
async fn storm(run: &Run, stage: &Stage, outcome: &mut Outcome) -> Result<(), Failure> {
    let locked = run.store == Kind::Sqlite;
    // A lock lasts longer than a lease in any case; a crash is over as soon as the server is up again.
    let (times, calm) = match (locked, run.short) {
        (true, true) => (1, Duration::from_millis(800)),
        (true, false) => (3, Duration::from_secs(10)),
        (false, true) => (3, Duration::from_millis(900)),
        (false, false) => (30, Duration::from_secs(5)),
    };
    let (times, held) = (run.rounds(times, times), run.pick(Duration::from_secs(30), Duration::from_millis(6_500)));
    say(format!("the database goes away {times} times"));
    stage.latency(50, 300).await?;
    let spill = stage.folder().join("spill").display().to_string();
    let worker = |_| {
        let mut config = stage.worker_config();
        config.spill = Some(spill.clone());
        stage.worker(&config)
    };
    let mut workers = (0..3).map(worker).collect::<Result<Vec<_>, _>>()?;
    let over = std::sync::atomic::AtomicBool::new(false);
    let torment = async {
        let mut longest = Duration::ZERO;
        for _ in 0..times {
            tokio::time::sleep(calm).await;
            let away = stage.database().take_away().await?;
            if locked {
                tokio::time::sleep(held).await;
            }
            stage.database().give_back(away).await?;
            let back = Instant::now();
            while stage.social().store().check().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            longest = longest.max(back.elapsed());
        }
        tokio::time::sleep(calm).await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, Failure>(longest)
    };
    let feeding = async {
        let mut chance = run.chance("load of database");
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let (shape, place) = stage.any(&mut chance);
            let ahead = chance.between(Duration::from_secs(1), Duration::from_secs(20));
            stage.insist(shape, place, ahead, PATIENCE).await?;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        Ok(())
    };
    let (longest, ()) = tokio::try_join!(torment, feeding)?;
    // A pool that holds dead connections has to notice by itself.
    outcome.demand(longest <= Duration::from_secs(5), || {
        format!("{} s after the database was back it did not answer to a pool", longest.as_secs())
    });
    // Whose lease was lost three times because the database was away looks as if it killed workers.
    let parked = stage.drained_with_patience(PATIENCE).await?;
    outcome.figure("parked_after_three_lost_leases", parked);
    for worker in &mut workers {
        let alive = worker.is_alive()?;
        outcome.demand(alive, || format!("{} ended by itself", worker.name()));
    }
    for worker in workers {
        worker.kill().await?;
    }
    outcome.figure("times_away", times);
    Ok(())
}

/// The database goes away between the effect of a visible call and its answer, and the worker dies before it is back: what the network said
/// is on disk, and the next worker takes it from there.
async fn answers(run: &Run, stage: &Stage, outcome: &mut Outcome) -> Result<(), Failure> {
    // Nobody can read what a member of LinkedIn posts: a lost answer there is lost for good unless it is kept.
    let cases: &[&[(&str, Shape)]] =
        &[&[("x", Shape::Text), ("linkedin", Shape::Text)], &[("linkedin", Shape::Comment)]];
    stage.latency(JOURNEY_MS, JOURNEY_MS).await?;
    let (spill, mut kept) = (stage.folder().join("kept"), 0);
    for round in 0..run.pick(5, 1) {
        for case in cases {
            let mut config = stage.worker_config();
            config.spill = Some(spill.display().to_string());
            let worker = stage.worker(&config)?;
            let mut posts = Vec::new();
            for (platform, shape) in *case {
                let mut places = stage.places().iter().enumerate();
                let mut of_it = places.by_ref().filter(|(_, place)| place.account.platform.as_str() == *platform);
                let (place, _) = of_it.nth(round % 3).ok_or("there is no such account")?;
                posts.push(stage.post(*shape, place, Duration::ZERO).await?);
            }
            visible(stage, &posts).await?;
            let away = stage.database().take_away().await?;
            let before = lines(&spill);
            until("an answer is kept on disk", Duration::from_secs(20), || lines(&spill) >= posts.len()).await?;
            outcome.demand(before == 0, || "answers were kept although the database was there".into());
            kept += lines(&spill);
            worker.kill().await?;
            stage.database().give_back(away).await?;

            let next = stage.worker(&config)?;
            let log = stage.folder().join(format!("{}.log", next.name()));
            for post in &posts {
                let phase = phase_at_rest(stage, post.delivery).await?;
                outcome.demand(phase == PhaseName::Published, || {
                    format!("the answer about post {} was kept and it is {phase}", post.number)
                });
            }
            until("the kept answers are used up", Duration::from_secs(20), || lines(&spill) == 0).await?;
            // It says so after it has emptied the file.
            const SAID: &str = "what was kept on disk while the store was away";
            let says = || fs::read_to_string(&log).is_ok_and(|log| log.contains(SAID));
            let said = until("the next worker says so", Duration::from_secs(5), says).await;
            outcome.demand(said.is_ok(), || "the next worker did not use what was kept on disk".into());
            next.kill().await?;
            let evidence = stage.evidence().await?;
            for post in &posts {
                for part in 1..=post.shape.parts() {
                    let calls = evidence.received.get(&Marker { number: post.number, part }).copied().unwrap_or(0);
                    outcome
                        .demand(calls == 1, || format!("part {part} of post {} was sent {calls} times", post.number));
                }
                let found = evidence.deliveries.iter().find(|delivery| delivery.number == post.number);
                let asked = found.is_none_or(|delivery| {
                    delivery.history.iter().any(|row| ["reply_lost", "still_unknown"].contains(&row.event.as_str()))
                });
                outcome.demand(!asked, || {
                    format!("the network was asked about post {} although it had answered", post.number)
                });
            }
        }
    }
    outcome.figure("answers_kept_on_disk", kept);
    Ok(())
}

/// Waits until the last parts of all these posts are visible.
async fn visible(stage: &Stage, posts: &[Planned]) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let ledger = stage.sandbox().ledger().await?;
        let there = |post: &Planned| {
            let last = Marker { number: post.number, part: post.shape.parts() };
            ledger.iter().any(|entry| Marker::find(&entry.text) == Some(last))
        };
        if posts.iter().all(there) {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(60) {
            return Err("a post did not become visible".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many outcomes are on disk in a folder.
fn lines(folder: &Path) -> usize {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.map(|text| text.lines().filter(|line| !line.is_empty()).count()).sum()
}

async fn until(what: &str, patience: Duration, done: impl Fn() -> bool) -> Result<(), Failure> {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > patience {
            return Err(format!("in vain: waiting until {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn phase_at_rest(stage: &Stage, delivery: DeliveryId) -> Result<PhaseName, Failure> {
    let started = Instant::now();
    loop {
        let phase = stage.social().delivery(stage.user(), delivery).await.map(|found| found.phase.name());
        match phase {
            Ok(phase) if phase.is_final() || phase == PhaseName::Unconfirmed => return Ok(phase),
            Ok(phase) if started.elapsed() > PATIENCE => return Ok(phase),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The disk of the database is full: whoever wants to schedule is told so, what is due waits, and everything goes on when there is room.
async fn full(run: &Run, outcome: &mut Outcome) -> Result<(), Failure> {
    say("the disk of the database runs full");
    let options = StageOptions { x: 4, members: 4, pages: false, disk_mb: Some(DISK_MB), ..StageOptions::default() };
    let stage = Stage::set(run, options).await?;
    let disk = stage.disk().ok_or("there is no disk")?;
    let mut server = stage.server(&["serve"], None)?;
    let api = Api::of(&stage, &server).await?;
    for _ in 0..4 {
        let (status, _) = api.schedule(&stage, 0).await?;
        outcome.demand(status == 201, || format!("scheduling on an empty disk was answered with {status}"));
    }
    // These come due while the disk is full.
    for _ in 0..4 {
        api.schedule(&stage, 3).await?;
    }
    disk.fill()?;
    let (mut taken, mut refused, mut other, started) = (0, 0, 0, Instant::now());
    let longest = run.pick(Duration::from_secs(15), Duration::from_secs(5));
    for _ in 0..MOST_REQUESTS {
        match api.schedule(&stage, 1).await? {
            (201, _) => taken += 1,
            (503 | 507, _) => refused += 1,
            (status, body) => {
                other += 1;
                outcome.demand(false, || format!("a full disk was answered with {status}: {body}"));
            }
        }
        if refused >= 20 && started.elapsed() > longest || other > 0 {
            break;
        }
        if refused > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    outcome.demand(refused > 0, || format!("{taken} posts were taken and the disk never counted as full"));
    let ready = api.get("readyz").await?;
    let alive = api.get("healthz").await?;
    outcome.demand(alive == 200, || format!("/healthz says {alive} on a full disk"));
    disk.free()?;
    let (room, mut again) = (Instant::now(), 0);
    while room.elapsed() < Duration::from_secs(20) {
        again = api.schedule(&stage, 0).await?.0;
        if again == 201 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    outcome.demand(again == 201, || format!("with room again, scheduling is answered with {again}"));
    outcome.figure("full_disk_seconds_to_recover", crate::report::seconds(room.elapsed()));
    stage.drained(PATIENCE).await?;
    let alive = server.is_alive()?;
    outcome.demand(alive, || format!("{} ended by itself", server.name()));
    let verdict = check(&stage.evidence().await?, &Allowed::default());
    for violation in &verdict.violations {
        outcome.demand(false, || format!("on a full disk: {violation}"));
    }
    outcome.figure("full_disk_posts", verdict.figures.deliveries);
    outcome.figure("full_disk_refusals", refused);
    outcome.figure("full_disk_readyz", ready);
    Ok(())
}

/// The production program's interface, as a client sees it.
struct Api {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Api {
    async fn of(stage: &Stage, server: &Process) -> Result<Self, Failure> {
        let (client, url) = (stage.sandbox().client().clone(), stage.served_at(server).await?);
        let admin = stage.server_variables().into_iter().find(|(name, _)| *name == "SOCIAL_ADMIN_KEY");
        let (_, admin) = admin.ok_or("there is no admin key")?;
        let wanted = json!({ "user_id": stage.user().to_string(), "name": "chaos" });
        let made = client.post(format!("{url}/keys")).bearer_auth(admin).json(&wanted).send().await?;
        let made: Value = made.json().await?;
        let key = made["key"].as_str().ok_or_else(|| format!("no key was made: {made}"))?.to_owned();
        Ok(Self { client, url, key })
    }

    async fn get(&self, path: &str) -> Result<u16, Failure> {
        Ok(self.client.get(format!("{}/{path}", self.url)).send().await?.status().as_u16())
    }

    /// Schedules a long text for a member of LinkedIn, due so many seconds from now. Answers with status and body.
    async fn schedule(&self, stage: &Stage, ahead_s: u64) -> Result<(u16, Value), Failure> {
        let (number, shape) = (stage.number(), Shape::Text);
        let mut places =
            stage.places().iter().enumerate().filter(|(_, place)| place.account.platform.as_str() == "linkedin");
        let (place, there) = places.nth(number % 4).ok_or("there is no member")?;
        let due = crate::clock::after(stage.now(), Duration::from_secs(ahead_s));
        let content = format!("{} {}", Marker { number, part: 1 }, "The harbour opens at seven. ".repeat(90));
        let body = json!({ "content": content, "accounts": [there.account.id], "scheduled_time": due.to_string() });
        let sent = self.client.post(format!("{}/post/schedule", self.url)).bearer_auth(&self.key);
        let answer = sent.header("idempotency-key", format!("chaos-{number}")).json(&body).send().await?;
        let (status, body) = (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default());
        if status == 201 {
            let post = serde_json::from_value(body["id"].clone())?;
            let delivery = serde_json::from_value(body["deliveries"][0]["id"].clone())?;
            let due = serde_json::from_value(body["scheduled_time"].clone())?;
            stage.adopt(Planned { number, post, delivery, shape, place, due });
        }
        Ok((status, body))
    }
}
