//! Plays traces of the model to a real store: what the model says about the row has to be what the store holds, after every step.

use social_core::{
    id::{DeliveryId, LogId, UserId},
    phase::{Phase, RemotePost},
    store::{Epoch, ErrorPatch, Held, Lease, LeaseAfter, LogEntry, PhaseWrite, Store},
    time::{Chance as _, SeededChance},
};

use super::{
    Bounds, Network, Promise, Protections,
    rules::{At, Table},
    state::{Deed, State, Step},
    steps::{Act, Action, Rules},
};
use crate::{
    clock::{secs, t0},
    fixtures::{X, connect, schedule},
    store::{claim, read},
};

/// Traces are this long. A lease that nobody ends has to last longer, in seconds.
const STEPS: usize = 50;
/// How far time goes on when a lease ends.
const LEASE_ENDS: i64 = 120;

/// Plays one trace, chosen by the seed, to an empty store or one in which nothing is due.
///
/// # Panics
/// If the store holds something else than the model, with the trace.
pub async fn replay(store: &dyn Store, seed: u64) {
    let bounds = Bounds { network: Network::ReadsBack, parts: 2, faults: 3, outside: 3 };
    let rules = Rules { bounds, protections: Protections::ALL, promises: &Promise::ALL, table: Table::new() };
    let chance = SeededChance::new(seed);
    let mut played = Played::new(store).await;
    let mut state = State::first(bounds);
    let mut told = Vec::new();
    for _ in 0..STEPS {
        let mut next = Vec::new();
        rules.steps(&state, &mut next);
        // An edit changes posts, not deliveries alone.
        next.retain(|(action, ..)| *action != Action::PersonLooks(Deed::Edit));
        if next.is_empty() {
            break;
        }
        let total: f64 = next.iter().map(|(action, ..)| weight(*action)).sum();
        let mut left = chance.unit() * total;
        let chosen = next.iter().position(|(action, ..)| {
            left -= weight(*action);
            left < 0.0
        });
        let (action, _, after) = next.swap_remove(chosen.unwrap_or(0));
        told.push(format!("{action} [{after}]"));
        played.step(&rules, &state, action, &after).await;
        let (expected, found) = (Row::of_model(&after), played.row().await);
        assert_eq!(found, expected, "seed {seed}, after {told:#?}");
        state = after;
    }
    played.leave(&state).await;
}

/// What stores differ in comes more often: writes that fail or land late, claims that are given back, people.
fn weight(action: Action) -> f64 {
    match action {
        Action::Worker(_, Act::WriteLate | Act::WriteUnanswered) => 12.0,
        Action::Worker(_, Act::HandsBack | Act::IsTold) => 4.0,
        Action::Worker(_, Act::LateWriteLands) | Action::PersonLooks(_) | Action::PersonWrites(_) => 2.0,
        _ => 1.0,
    }
}

/// What both sides know about the row.
#[derive(Debug, PartialEq)]
struct Row {
    at: At,
    parts: usize,
    wakes: bool,
    leased: bool,
}

impl Row {
    fn of_model(state: &State) -> Self {
        let row = state.row;
        Self { at: row.at, parts: row.parts.into(), wakes: row.wakes, leased: row.leased }
    }
}

/// The same two workers and the same person, in front of a real store.
struct Played<'s> {
    store: &'s dyn Store,
    user: UserId,
    delivery: DeliveryId,
    now: i64,
    epochs: [Epoch; 2],
    writes: [Option<PhaseWrite>; 2],
    late: [Option<PhaseWrite>; 2],
    person: Epoch,
}

impl<'s> Played<'s> {
    async fn new(store: &'s dyn Store) -> Self {
        let connected = connect(store, UserId::new(), &X, 1).await;
        let post = schedule(store, connected.user, &connected.accounts, t0()).await;
        let (user, delivery) = (connected.user, post.deliveries[0].id);
        let nobody = Epoch(-1);
        Self {
            store,
            user,
            delivery,
            now: 0,
            epochs: [nobody; 2],
            writes: [None, None],
            late: [None, None],
            person: nobody,
        }
    }

    async fn row(&self) -> Row {
        let delivery = read(self.store, self.user, self.delivery).await;
        let backlog = self.store.backlog(secs(self.now)).await.unwrap();
        Row {
            at: At::of(&delivery.phase),
            parts: delivery.parts.len(),
            wakes: delivery.wake_at.is_some(),
            leased: backlog.iter().any(|one| one.held > 0),
        }
    }

    /// Does to the store what happens in the model.
    async fn step(&mut self, rules: &Rules, before: &State, action: Action, after: &State) {
        self.now += 1;
        match action {
            Action::Worker(i, act) => self.worker(i, act).await,
            Action::LeaseEnds => self.now += LEASE_ENDS,
            Action::Reclaimed => assert_eq!(self.store.reclaim(secs(self.now)).await.unwrap(), 1),
            Action::PersonLooks(_) => self.person = read(self.store, self.user, self.delivery).await.epoch,
            Action::PersonWrites(deed) => {
                let more_parts = before.row.parts + 1 < rules.bounds.parts;
                let seen = before.person.unwrap().seen;
                let to = rules.table.on(seen, deed.event(more_parts).unwrap()).unwrap();
                let wakes = !to.name().is_final();
                let part = deed == Deed::SaysPublished && more_parts;
                let mut write = self.write(to, self.person, wakes, part);
                write.lease = LeaseAfter::Revoke;
                let held = self.record(&write).await;
                assert_eq!(held == Some(Held::Yes), after.row != before.row, "{action}");
            }
            Action::Arrives | Action::GetsLost | Action::Shows | Action::Settles => {}
        }
        for i in 0..2 {
            let (was, is) = (before.workers[i], after.workers[i]);
            if is.step == Step::Writing && was.step != Step::Writing {
                let mut write = self.write(is.write.at, self.epochs[i], is.write.wakes, is.write.part);
                write.lease = is.write.lease();
                self.writes[i] = Some(write);
            }
        }
    }

    async fn worker(&mut self, i: usize, act: Act) {
        let now = secs(self.now);
        let lease = Lease { delivery: self.delivery, epoch: self.epochs[i] };
        let write = self.writes[i].clone();
        match act {
            Act::Claims | Act::ClaimsUnreadable | Act::ClaimUnanswered => {
                let claimed = claim(self.store, ["a", "b"][i], now, 10).await;
                assert_eq!(claimed.len(), 1, "what can be claimed is claimed");
                if act != Act::ClaimUnanswered {
                    self.epochs[i] = claimed[0].delivery.epoch;
                }
            }
            Act::Renews => {
                let until = secs(self.now + 60);
                assert_eq!(self.store.renew(&[lease], until).await.unwrap(), [Held::Yes]);
            }
            // A store may say of a write that it knows already that it counted, or that it cannot be made again.
            Act::Writes(_) => assert_ne!(self.record(&write.unwrap()).await, Some(Held::Lost)),
            Act::WriteLoses => assert_eq!(self.record(&write.unwrap()).await, Some(Held::Lost)),
            Act::WriteUnanswered => drop(self.record(&write.unwrap()).await),
            Act::WriteLate => self.late[i] = write,
            Act::LateWriteLands => drop(self.record(&self.late[i].clone().unwrap()).await),
            Act::HandsBack => self.store.rest(&[lease], now).await.unwrap(),
            Act::Dies
            | Act::IsTold
            | Act::Decides(_)
            | Act::Sends
            | Act::SendsUnderNobody
            | Act::ServerTakesIt
            | Act::AnswerLost
            | Act::RequestLost
            | Act::GivesUpWaiting
            | Act::Looks(_)
            | Act::Repeats(_)
            | Act::CannotLook
            | Act::WriteFails
            | Act::HandBackFails => {}
        }
    }

    fn write(&self, at: At, epoch: Epoch, wakes: bool, part: bool) -> PhaseWrite {
        let now = secs(self.now);
        let remote = |what: &str| RemotePost::new(format!("{what}-{}", self.delivery), "https://network.example/post");
        let phase = at.stored();
        PhaseWrite {
            delivery: self.delivery,
            epoch,
            phase: phase.name(),
            checkpoint: phase.checkpoint().cloned(),
            remote: matches!(phase, Phase::Published { .. }).then(|| remote("whole")),
            part: part.then(|| remote("part")),
            attempt: 0,
            crashes: 0,
            wake_at: wakes.then_some(now),
            due_at: None,
            committing_since: None,
            error: ErrorPatch::Keep,
            lease: LeaseAfter::Keep,
            log: LogEntry {
                id: LogId::new(),
                event: phase.name().to_string(),
                success: None,
                response: serde_json::Value::Null,
                at: now,
            },
        }
    }

    /// The answer to a write; `None` for one that the store refuses because it has its row of the history already.
    async fn record(&self, write: &PhaseWrite) -> Option<Held> {
        self.store.record(std::slice::from_ref(write)).await.ok().map(|answers| answers[0])
    }

    /// Leaves nothing behind that the next trace could claim.
    async fn leave(&mut self, state: &State) {
        if state.row.leased {
            self.now += LEASE_ENDS;
            self.store.reclaim(secs(self.now)).await.unwrap();
        }
        let epoch = read(self.store, self.user, self.delivery).await.epoch;
        let mut write = self.write(At::of(&Phase::Missed), epoch, false, false);
        write.lease = LeaseAfter::Release;
        assert_eq!(self.record(&write).await, Some(Held::Yes));
    }
}
