//! Networks that close for an account, for a day, or for the whole installation, and say the truth about it, or not.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use social_core::{PhaseName, Scheduler as _};
use social_sandbox::{Fault, FaultSpec, When};
use tokio::io::AsyncReadExt as _;

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, check},
    clock::after,
    evidence::{Evidence, VISIBLE},
    load::{Marker, Shape},
    process::Process,
    report::Outcome,
    stage::{Planned, Stage, StageOptions},
};

/// Time passes so much faster.
const SPEED: u32 = 20;
/// How long a network that says nothing of use is left alone, in the run's time.
const MINUTE: Duration = Duration::from_secs(60);
/// What may be missing from a wait: the journey of the answer that began it.
const TRAVEL: SignedDuration = SignedDuration::from_secs(2);
/// When a network that tells the truth opens again.
const TOLD: Duration = Duration::from_secs(100);
/// Workers tell each other every second what they have learnt. Until it has got round, at the most:
const NEWS: Duration = Duration::from_secs(5);
/// Nobody who is not concerned may be later than this, in the run's time: less than the shortest wait of those who are.
const BYSTANDER: SignedDuration = SignedDuration::from_secs(50);
/// Posts of an account that is closed.
const QUEUED: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug)]
pub(super) struct Limits;

/// How a network refuses an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// With the true time at which it is over.
    Right,
    /// The same for the limit of a day.
    Daily,
    /// With a time that has passed.
    Past,
    /// With a time ten years away.
    Absurd,
    /// With no time at all.
    Missing,
    /// LinkedIn's limit of a day, which ends at midnight.
    Midnight,
}

/// Which account is refused how.
const REFUSED: [(&str, usize, Refusal); 7] = [
    ("x", 0, Refusal::Right),
    ("x", 1, Refusal::Daily),
    ("x", 2, Refusal::Past),
    ("x", 3, Refusal::Absurd),
    ("x", 4, Refusal::Missing),
    ("linkedin", 0, Refusal::Missing),
    ("linkedin", 1, Refusal::Midnight),
];
/// Accounts on each network, from this one on, that nobody refuses.
const FREE_FROM: [(&str, usize); 2] = [("x", 5), ("linkedin", 2)];

impl Refusal {
    fn fault(self, platform: &str, now: Timestamp) -> Fault {
        let at = |at: Timestamp| at.as_second().to_string();
        let bucket = |name: &str, reset: Timestamp| {
            [
                (format!("{name}-limit"), "100".into()),
                (format!("{name}-remaining"), "0".into()),
                (format!("{name}-reset"), at(reset)),
            ]
        };
        let headers: BTreeMap<String, String> = match self {
            Self::Right => bucket("x-rate-limit", after(now, TOLD)).into(),
            Self::Daily => bucket("x-user-limit-24hour", after(now, TOLD)).into(),
            Self::Past => bucket("x-rate-limit", now - SignedDuration::from_hours(1)).into(),
            Self::Absurd => bucket("x-rate-limit", now + SignedDuration::from_hours(10 * 366 * 24)).into(),
            Self::Missing | Self::Midnight => BTreeMap::new(),
        };
        let body = match (platform, self) {
            ("x", _) => {
                json!({ "title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429 })
            }
            (_, Self::Midnight) => {
                json!({ "status": 429, "code": "TOO_MANY_REQUESTS", "message": "Resource level throttle MEMBER DAY limit for calls to this resource is reached." })
            }
            _ => {
                json!({ "status": 429, "code": "TOO_MANY_REQUESTS", "message": "Resource level throttle limit for calls to this resource is reached." })
            }
        };
        Fault::Answer { status: 429, body, headers }
    }

    fn is_told(self) -> bool {
        matches!(self, Self::Right | Self::Daily)
    }
}

#[async_trait]
impl Scenario for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn about(&self) -> &'static str {
        "closes networks for accounts and for everybody (429, caps, unpaid bill, version switched off), with true, false and no times"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let (x, members) = run.pick((30, 15), (9, 6));
        let options = StageOptions {
            speed: SPEED,
            x,
            members,
            pages: false,
            limits: true,
            slow_files: false,
            ..StageOptions::default()
        };
        let stage = Stage::set(run, options).await?;
        stage.latency(5, 30).await?;
        let mut outcome = Outcome::default();
        let workers: Vec<Process> =
            (0..run.pick(4, 2)).map(|_| stage.worker(&stage.worker_config())).collect::<Result<_, _>>()?;
        let mut given_up = accounts(run, &stage, workers.len(), &mut outcome).await?;
        // The pauses after which a network that is closed to everybody is asked again.
        let (version, bill) = (Duration::from_secs(3600), Duration::from_secs(900));
        let linkedin = json!({ "linkedin_active_versions": ["209901"] });
        let spoken: Value = stage.sandbox().get("settings").await?;
        let open = json!({ "linkedin_active_versions": spoken["linkedin_active_versions"] });
        given_up.extend(closed(run, &stage, ("linkedin", "config", version), (&linkedin, &open), &mut outcome).await?);
        let (depleted, paid) = (json!({ "x_credits": "depleted" }), json!({ "x_credits": "available" }));
        given_up.extend(closed(run, &stage, ("x", "billing", bill), (&depleted, &paid), &mut outcome).await?);
        stage.drained(PATIENCE).await?;
        for worker in workers {
            worker.kill().await?;
        }
        let evidence = stage.evidence().await?;
        outcome.take(check(&evidence, &Allowed { given_up: true, ..Allowed::default() }));
        for delivery in &evidence.deliveries {
            let canceled = given_up.contains(&delivery.number);
            outcome.demand(delivery.phase == PhaseName::Published || canceled, || {
                format!("post {} ended as {} although it only had to wait", delivery.number, delivery.phase)
            });
        }
        // A wait is no attempt: whatever is out needed one.
        for post in stage.planned() {
            let found = stage.social().delivery(stage.user(), post.delivery).await?;
            outcome.demand(found.attempt <= 1, || format!("post {} counts {} attempts", post.number, found.attempt));
        }
        outcome.figure("canceled_while_waiting", given_up.len());
        Ok(outcome)
    }
}

/// The places of accounts on a network, in order.
fn places(stage: &Stage, platform: &str) -> Vec<usize> {
    let places = stage.places().iter().enumerate();
    places.filter(|(_, place)| place.account.platform.as_str() == platform).map(|(number, _)| number).collect()
}

/// Accounts that nobody refuses.
fn bystanders(stage: &Stage, platform: &str) -> Vec<usize> {
    let from = FREE_FROM.iter().find(|(name, _)| *name == platform).map_or(0, |(_, from)| *from);
    places(stage, platform).split_off(from)
}

/// When visible calls of these posts reached the network since `from`, in order.
async fn calls(stage: &Stage, posts: &[Planned], from: Timestamp) -> Result<Vec<Timestamp>, Failure> {
    let mut calls = Vec::new();
    for request in stage.sandbox().requests().await? {
        let marker = request.body.as_deref().and_then(Marker::find);
        let ours = marker.is_some_and(|marker| posts.iter().any(|post| post.number == marker.number));
        if ours && VISIBLE.contains(&&*request.operation) && request.at >= from {
            calls.push(request.at);
        }
    }
    calls.sort_unstable();
    Ok(calls)
}

/// Several accounts are refused while others on the same networks post. Answers with what was canceled.
async fn accounts(run: &Run, stage: &Stage, workers: usize, outcome: &mut Outcome) -> Result<Vec<usize>, Failure> {
    let length = run.pick(Duration::from_secs(1200), Duration::from_secs(220));
    say(format!("{} accounts are refused for {} s of the run", REFUSED.len(), length.as_secs()));
    let began = stage.now();
    let (mut refused, mut told, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for (platform, nth, refusal) in REFUSED {
        let place = *places(stage, platform).get(nth).ok_or("there are not enough accounts")?;
        let persona = stage.places().get(place).ok_or("there is no such place")?.persona.clone();
        let mut spec = FaultSpec::new(platform, "posts.create", When::Before, refusal.fault(platform, began));
        spec.account = Some(persona);
        let armed = stage.sandbox().arm(&[spec]).await?;
        let ids = armed.iter().map(|fault| fault.id);
        if refusal.is_told() {
            told.extend(ids)
        } else {
            silent.extend(ids)
        }
        let mut posts = Vec::new();
        for _ in 0..QUEUED {
            posts.push(stage.post(Shape::Text, place, Duration::from_secs(10)).await?);
        }
        refused.push((platform, refusal, posts));
    }
    let free = [bystanders(stage, "x"), bystanders(stage, "linkedin")].concat();
    let others = beside(run, stage, &free, (run.pick(400, 40), length)).await?;
    // Those that tell the truth open when they said so, and not a moment later; the others go on refusing to the end.
    until(stage, after(began, TOLD) - TRAVEL * 2).await;
    remove(stage, &told).await?;
    until(stage, after(began, length)).await;
    let ended = stage.now();
    let midnight = silent.pop().ok_or("no fault was armed")?;
    remove(stage, &silent).await?;

    let mut given_up = Vec::new();
    for (platform, refusal, posts) in &refused {
        let calls: Vec<_> = calls(stage, posts, began).await?.into_iter().filter(|at| *at < ended).collect();
        let what = format!("{refusal:?} on {platform}");
        // Until the workers have told each other, each of them may find it out by itself.
        let known = calls.first().map_or(began, |first| after(*first, NEWS));
        let finders = calls.iter().filter(|at| **at <= known).count();
        outcome.demand((1..=workers).contains(&finders), || format!("{what}: it was found out {finders} times"));
        let later: Vec<_> = calls.into_iter().filter(|at| *at > known).collect();
        if refusal.is_told() {
            let early = later.iter().filter(|at| **at < after(began, TOLD) - TRAVEL).count();
            outcome.demand(early == 0, || format!("{what}: {early} calls before the time that the network told"));
        } else if *refusal == Refusal::Midnight {
            outcome.demand(later.is_empty(), || format!("{what}: {} calls on a day that was over", later.len()));
        } else {
            let least = SignedDuration::try_from(MINUTE)? - SignedDuration::try_from(NEWS)?;
            let since = later.first().map(|first| first.duration_since(known));
            let gaps = later.windows(2).map(|pair| pair[1].duration_since(pair[0])).chain(since);
            let short = gaps.filter(|gap| *gap < least).count();
            outcome.demand(short == 0, || format!("{what}: {short} of {} calls came within a window", later.len()));
            // Where X says that a window is used up and not when it ends, it is believed for a whole window: a quarter of an hour.
            let asked_by_now = *refusal == Refusal::Missing || !run.short;
            outcome.demand(!later.is_empty() || !asked_by_now, || format!("{what}: nobody asked whether it is over"));
        }
        if *refusal == Refusal::Midnight || run.short && matches!(refusal, Refusal::Past | Refusal::Absurd) {
            for post in posts {
                let phase = stage.social().delivery(stage.user(), post.delivery).await?.phase.name();
                outcome
                    .demand(phase == PhaseName::AwaitingLimit, || format!("{what}: post {} is {phase}", post.number));
                stage.social().cancel(stage.user(), post.post).await?;
                given_up.push(post.number);
            }
        }
    }
    remove(stage, &[midnight]).await?;
    stage.drained(PATIENCE).await?;
    let p99 = punctual(&stage.evidence().await?, &others, "beside refused accounts", outcome);
    outcome.figure("p99_beside_refused_accounts_s", p99);
    Ok(given_up)
}

/// A network closes to everybody. It is found out once, seen by operators, and probed no more than once per pause; the other network does
/// not notice. Answers with what was canceled.
async fn closed(
    run: &Run,
    stage: &Stage,
    (platform, reason, pause): (&str, &str, Duration),
    (close, open): (&Value, &Value),
    outcome: &mut Outcome,
) -> Result<Vec<usize>, Failure> {
    say(format!("{platform} closes to everybody ({reason})"));
    let accounts = bystanders(stage, platform);
    stage.sandbox().set(close).await?;
    let began = stage.now();
    let first = stage.post(Shape::Text, *accounts.first().ok_or("there is no account")?, Duration::ZERO).await?;
    let started = Instant::now();
    while stage.social().delivery(stage.user(), first.delivery).await?.phase.name() != PhaseName::AwaitingLimit {
        if started.elapsed() > PATIENCE {
            return Err(format!("a post on {platform}, which is closed, does not wait").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Workers tell each other every second.
    until(stage, after(stage.now(), Duration::from_secs(4))).await;
    let mut posts = vec![first];
    for place in &accounts {
        for _ in 0..2 {
            posts.push(stage.post(Shape::Text, *place, Duration::from_secs(5)).await?);
        }
    }
    // The network that was closed before may still be: in the short form nobody waits for its end.
    let free = if platform == "x" && run.short { Vec::new() } else { bystanders(stage, other(platform)) };
    let length = run.pick(pause * 2 - pause / 3, Duration::from_secs(120));
    let others = beside(run, stage, &free, (if free.is_empty() { 0 } else { run.pick(200, 20) }, length / 2)).await?;
    visible_to_operators(stage, platform, reason, outcome).await?;
    until(stage, after(began, length)).await;
    let calls = calls(stage, &posts, began).await?;
    let probes = 1 + usize::try_from(length.as_secs() / pause.as_secs())?;
    outcome.demand(calls.len() <= probes, || {
        format!("{platform} was closed ({reason}) for {} s and was called {} times", length.as_secs(), calls.len())
    });
    let least = SignedDuration::try_from(pause)? - TRAVEL;
    let short = calls.windows(2).filter(|pair| pair[1].duration_since(pair[0]) < least).count();
    outcome.demand(short == 0, || format!("{platform} was called {short} times within a window"));
    for post in &posts {
        let phase = stage.social().delivery(stage.user(), post.delivery).await?.phase.name();
        outcome.demand(phase == PhaseName::AwaitingLimit, || format!("post {} on {platform} is {phase}", post.number));
    }
    stage.sandbox().set(open).await?;
    let mut given_up = Vec::new();
    if run.short {
        for post in &posts {
            stage.social().cancel(stage.user(), post.post).await?;
            given_up.push(post.number);
        }
    }
    stage.drained(PATIENCE.max(stage.pace().real(pause * 2))).await?;
    let name = format!("p99_while_{platform}_was_closed_s");
    let evidence = stage.evidence().await?;
    let p99 = punctual(&evidence, &others, &format!("while {platform} was closed"), outcome);
    outcome.figure(&name, p99);
    outcome.figure(&format!("calls_while_{platform}_was_closed"), calls.len());
    Ok(given_up)
}

fn other(platform: &str) -> &'static str {
    if platform == "x" { "linkedin" } else { "x" }
}

/// The whole stop is in `/readyz`, in the metrics and in what the doctor finds.
async fn visible_to_operators(
    stage: &Stage,
    platform: &str,
    reason: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let server = stage.server(&["serve", "--no-worker"], None)?;
    let (url, client) = (stage.served_at(&server).await?, stage.sandbox().client());
    let ready: Value = client.get(format!("{url}/readyz")).send().await?.json().await?;
    let stops = ready["stopped"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = stops.iter().any(|stop| stop["platform"] == platform && stop["reason"] == reason);
    outcome.demand(shown && ready["status"] == "ok", || format!("{platform} is closed, and /readyz says {ready}"));
    let metrics = client.get(format!("{url}/metrics")).send().await?.text().await?;
    let line = format!("social_platform_stopped{{platform=\"{platform}\",reason=\"{reason}\"}} 1");
    outcome.demand(metrics.contains(&line), || format!("{platform} is closed, and the metrics do not say {line}"));
    server.kill().await?;
    let mut doctor = stage.server(&["doctor", "--json"], None)?;
    let mut said = String::new();
    doctor.take_output().ok_or("the doctor has no output")?.read_to_string(&mut said).await?;
    doctor.ended(Duration::from_secs(60)).await?;
    let found: Value = serde_json::from_str(&said)?;
    let findings = found["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let warned = findings.iter().any(|finding| {
        finding["check"] == "network stop" && finding["found"].as_str().is_some_and(|text| text.starts_with(platform))
    });
    outcome.demand(warned, || format!("{platform} is closed, and the doctor does not find it"));
    Ok(())
}

/// Posts of accounts that nobody refuses, over a time of the run.
async fn beside(
    run: &Run,
    stage: &Stage,
    free: &[usize],
    (number, length): (usize, Duration),
) -> Result<Vec<Planned>, Failure> {
    let (mut chance, mut posts) = (run.chance("posts beside"), Vec::new());
    for _ in 0..number {
        let place = *free.get(chance.place(free.len())).ok_or("everybody is refused")?;
        let ahead = chance.between(Duration::from_secs(20), length.max(Duration::from_secs(40)));
        posts.push(stage.post(Shape::Text, place, ahead).await?);
    }
    Ok(posts)
}

/// How late the hundredth part of these posts was, by the ledger, in seconds of the run.
fn punctual(evidence: &Evidence, posts: &[Planned], what: &str, outcome: &mut Outcome) -> f64 {
    let mut late: Vec<SignedDuration> = Vec::new();
    for post in posts {
        let of_it = |marker: Marker| marker.number == post.number;
        let there = evidence.objects.iter().find(|object| object.marker.is_some_and(of_it));
        late.extend(there.map(|object| object.created_at.duration_since(post.due)));
    }
    late.sort_unstable();
    let p99 = late.get((late.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    outcome.demand(p99 <= BYSTANDER, || format!("{what} one in a hundred posts was {} s late", p99.as_secs()));
    (p99.as_secs_f64() * 10.0).round() / 10.0
}

async fn remove(stage: &Stage, faults: &[u64]) -> Result<(), Failure> {
    for id in faults {
        let url = format!("{}/_sandbox/faults/{id}", stage.sandbox().url());
        stage.sandbox().client().delete(url).send().await?.error_for_status()?;
    }
    Ok(())
}

async fn until(stage: &Stage, at: Timestamp) {
    while stage.now() < at {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
