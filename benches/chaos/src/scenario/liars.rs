//! Networks whose answers get lost or tell something else than what happened, on every visible call, before the effect and after it.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use social_core::{AccountKind, PhaseName};
use social_sandbox::{Fault, FaultSpec, NamedFault, When};

use super::{Run, Scenario, say};
use crate::{
    Failure,
    check::{Allowed, Unconfirmed, check},
    clock::Pace,
    load::Shape,
    report::Outcome,
    stage::{Place, Stage, StageOptions},
};

/// The adapters' deadline for a visible call.
const DEADLINE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(180);

/// See the module.
#[derive(Debug)]
pub(super) struct Liars;

/// What happens instead of the answer.
#[derive(Debug, Clone)]
struct Lie {
    name: &'static str,
    when: When,
    fault: Fault,
}

impl Lie {
    /// Whether it says that a post is out without naming it, and nothing has happened: LinkedIn's 201 without an id is believed, and no
    /// client can know better.
    fn is_believed(&self, platform: &str) -> bool {
        let says_so = matches!(self.fault, Fault::Answer { status: 201, .. });
        platform == "linkedin" && self.when == When::Before && says_so
    }
}

/// All lies. Those that hang do so for longer than the deadline, in real time.
fn lies(pace: Pace) -> Vec<Lie> {
    let hang_ms = u64::try_from(pace.real(DEADLINE * 2).as_millis()).unwrap_or(u64::MAX);
    let answer = |status, body| Fault::Answer { status, body, headers: Default::default() };
    let page = json!("<!DOCTYPE html><html><body><h1>Something went wrong</h1></body></html>");
    let both = [
        ("reset", Fault::Named(NamedFault::Reset)),
        ("hang", Fault::Hang { hang_ms, late: false }),
        ("status 500", answer(500, json!({ "title": "Internal Server Error" }))),
        ("status 502 as a page", answer(502, page.clone())),
        ("status 503 without a body", answer(503, Value::Null)),
        ("status 504", answer(504, json!("upstream request timeout"))),
        ("status 408", answer(408, Value::Null)),
        ("a redirect", {
            let headers = [("location".to_owned(), "/elsewhere".to_owned())].into();
            Fault::Answer { status: 302, body: Value::Null, headers }
        }),
        ("its status without a body", Fault::Named(NamedFault::Empty)),
        ("200 without a body", answer(200, Value::Null)),
        ("201 without an id", answer(201, json!({ "data": { "text": "yes" } }))),
        ("201 without a body", answer(201, Value::Null)),
        ("200 as a page", answer(200, page)),
        ("200 in another shape", answer(200, json!([1, { "data": "id" }]))),
    ];
    let mut all = Vec::new();
    for (name, fault) in both {
        for when in [When::Before, When::After] {
            all.push(Lie { name, when, fault: fault.clone() });
        }
    }
    // With these the effect happens in any case.
    all.push(Lie {
        name: "hang, and the effect comes late",
        when: When::Before,
        // Behind the first question about it, which comes after the deadline and 30 seconds.
        fault: Fault::Hang { hang_ms: hang_ms * 3 / 2, late: true },
    });
    all.push(Lie { name: "slow drip", when: When::After, fault: Fault::Slow { slow_bytes_per_s: 2 } });
    all.push(Lie { name: "cut off", when: When::After, fault: Fault::Cut { cut_after_bytes: 7 } });
    all
}

/// A visible call: which part of which shape it is, and how the sandbox calls it.
#[derive(Debug, Clone, Copy)]
struct Call {
    platform: &'static str,
    shape: Shape,
    operation: &'static str,
    /// Calls of that operation that pass before.
    skip: u64,
}

/// The comment of a page, which can be read again. There are only two pages: their cases are played one after the other, and only in full.
const OF_A_PAGE: Call = Call { platform: "linkedin", shape: Shape::Comment, operation: "comments.create", skip: 0 };

const CALLS: [Call; 7] = [
    Call { platform: "x", shape: Shape::Text, operation: "posts.create", skip: 0 },
    Call { platform: "x", shape: Shape::Thread, operation: "posts.create", skip: 1 },
    Call { platform: "x", shape: Shape::Image, operation: "posts.create", skip: 0 },
    Call { platform: "x", shape: Shape::Comment, operation: "posts.create", skip: 1 },
    Call { platform: "linkedin", shape: Shape::Text, operation: "posts.create", skip: 0 },
    Call { platform: "linkedin", shape: Shape::Image, operation: "posts.create", skip: 0 },
    Call { platform: "linkedin", shape: Shape::Comment, operation: "comments.create", skip: 0 },
];

#[async_trait]
impl Scenario for Liars {
    fn name(&self) -> &'static str {
        "liars"
    }

    fn about(&self) -> &'static str {
        "loses and falsifies the answers to every kind of visible call, before and after its effect"
    }

    async fn run(&self, run: &Run) -> Result<Outcome, Failure> {
        let speed = run.pick(20, 30);
        let all = lies(Pace::from_now(speed));
        // Every lie about every call; in short every lie about one call of each network, in turn.
        let mut cases: Vec<(&Lie, Call)> = Vec::new();
        for round in 0..run.rounds(2, 1) {
            for (number, lie) in all.iter().enumerate() {
                for platform in ["x", "linkedin"] {
                    let calls: Vec<_> = CALLS.iter().filter(|call| call.platform == platform).collect();
                    let turn =
                        number + usize::try_from(round).unwrap_or(0) + usize::try_from(run.seed % 12).unwrap_or(0);
                    let chosen = calls.iter().enumerate().filter(|(nth, _)| !run.short || turn % calls.len() == *nth);
                    cases.extend(chosen.map(|(_, call)| (lie, **call)));
                }
            }
        }
        // An account for each: a fault is aimed at it, and doubts do not wait for each other.
        let of = |platform: &str| cases.iter().filter(|(_, call)| call.platform == platform).count();
        let options =
            StageOptions { speed, x: of("x"), members: of("linkedin"), pages: !run.short, ..StageOptions::default() };
        let stage = Stage::set(run, options).await?;
        stage.latency(5, 20).await?;
        say(format!("{} lies, each about {} kinds of visible calls: {} cases", all.len(), CALLS.len(), cases.len()));
        let mut planned = plan(&stage, &cases).await?;
        let workers = [stage.worker(&stage.worker_config())?, stage.worker(&stage.worker_config())?];
        let members = cases.len();
        if !run.short {
            stage.drained(PATIENCE).await?;
            planned.extend(pages(&stage, &all).await?);
            cases.extend(all.iter().map(|lie| (lie, OF_A_PAGE)));
        }
        stage.drained(PATIENCE).await?;
        // An effect that comes late comes after everything may seem to be settled.
        tokio::time::sleep(stage.pace().real(DEADLINE * 4)).await;
        for worker in workers {
            worker.kill().await?;
        }

        let believed = cases.iter().zip(&planned).filter(|((lie, call), _)| lie.is_believed(call.platform));
        let lied_about: BTreeSet<usize> = believed.map(|(_, number)| *number).collect();
        let evidence = stage.evidence().await?;
        let mut outcome = Outcome::of(check(
            &evidence,
            &Allowed { unconfirmed: Unconfirmed::IfReceived, lied_about: lied_about.clone(), ..Allowed::default() },
        ));
        for fault in stage.sandbox().faults().await?.iter().filter(|fault| fault.hits != 1) {
            outcome.demand(false, || format!("a fault was played {} times: {:?}", fault.hits, fault.spec));
        }
        for (nth, ((lie, call), number)) in cases.iter().zip(&planned).enumerate() {
            // Members of LinkedIn do not let their comments be read; everything else settles without a person.
            let unreadable = call.operation == "comments.create" && nth < members;
            let found = evidence.deliveries.iter().find(|delivery| delivery.number == *number);
            let settled = found.is_some_and(|delivery| delivery.phase == PhaseName::Published);
            outcome.demand(settled || unreadable, || {
                let phase = found.map_or("gone", |delivery| delivery.phase.as_str());
                format!("{} {:?} {:?} on {} is {phase}", lie.name, lie.when, call.shape, call.platform)
            });
        }
        outcome.figure("lies", cases.len());
        outcome.figure("lies_that_no_client_sees_through", lied_about.len());
        Ok(outcome)
    }
}

/// Aims each lie at an account of its own and schedules a post there. Answers with the posts' numbers.
async fn plan(stage: &Stage, cases: &[(&Lie, Call)]) -> Result<Vec<usize>, Failure> {
    let own = |place: &Place| place.account.profile.kind != AccountKind::Organization;
    let mut free: Vec<(usize, &Place)> = stage.places().iter().enumerate().filter(|(_, place)| own(place)).collect();
    let mut numbers = Vec::new();
    for (lie, call) in cases {
        let place = free.iter().position(|(_, place)| place.account.platform.as_str() == call.platform);
        let (place, taken) = free.swap_remove(place.ok_or("there are not enough accounts")?);
        let mut spec = FaultSpec::new(call.platform, call.operation, lie.when, lie.fault.clone()).times(1);
        (spec.skip, spec.account) = (Some(call.skip), Some(taken.persona.clone()));
        stage.sandbox().arm(&[spec]).await?;
        numbers.push(stage.post(call.shape, place, Duration::ZERO).await?.number);
    }
    Ok(numbers)
}

/// Plays each lie about the comment of a page, waiting for one before the next is aimed. Answers with the posts' numbers.
async fn pages(stage: &Stage, all: &[Lie]) -> Result<Vec<usize>, Failure> {
    let of_pages = stage.places().iter().enumerate();
    let of_pages: Vec<(usize, &Place)> =
        of_pages.filter(|(_, place)| place.account.profile.kind == AccountKind::Organization).collect();
    let mut numbers = Vec::new();
    for (lie, (place, _)) in all.iter().zip(of_pages.iter().cycle()) {
        // Several people may act for a page: it is aimed at whoever comments next.
        let spec = FaultSpec::new("linkedin", OF_A_PAGE.operation, lie.when, lie.fault.clone()).times(1);
        stage.sandbox().arm(&[spec]).await?;
        numbers.push(stage.post(OF_A_PAGE.shape, *place, Duration::ZERO).await?.number);
        let played = async {
            while stage.sandbox().faults().await?.last().is_some_and(|fault| fault.hits == 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, Failure>(())
        };
        tokio::time::timeout(PATIENCE, played).await.map_err(|_| format!("{} was not played", lie.name))??;
    }
    Ok(numbers)
}
