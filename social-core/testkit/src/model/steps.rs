//! What can happen next. The order of a worker's steps is that of the driver.

use std::fmt;

use social_core::{
    PhaseName,
    phase::{Duty, invariant},
    store::{LeaseAfter, Ownership},
};

use super::{
    Bounds, Network, Promise, Protections,
    rules::{At, Ev, FRESH, LOOKED, NO_CHECKPOINT, Table},
    state::{Deed, Late, Person, State, Step, Worker, Write},
};

/// What happens in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Worker(usize, Act),
    LeaseEnds,
    Reclaimed,
    Arrives,
    GetsLost,
    Shows,
    Settles,
    PersonLooks(Deed),
    PersonWrites(Deed),
}

/// What a worker does, or what befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Claims,
    ClaimUnanswered,
    ClaimsUnreadable,
    Dies,
    IsTold,
    Renews,
    Decides(Ev),
    Sends,
    SendsUnderNobody,
    ServerTakesIt,
    AnswerLost,
    RequestLost,
    GivesUpWaiting,
    Looks(Ev),
    Repeats(Ev),
    CannotLook,
    Writes(PhaseName),
    WriteLoses,
    WriteFails,
    WriteUnanswered,
    WriteLate,
    LateWriteLands,
    HandsBack,
    HandBackFails,
}

/// The rules of one exploration.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) bounds: Bounds,
    pub(super) protections: Protections,
    pub(super) promises: &'static [Promise],
    pub(super) table: Table,
}

/// A step: what happened, whether it uses up a budget, and what is then.
pub(super) type Next = (Action, bool, State);

impl Rules {
    pub(super) fn steps(&self, state: &State, out: &mut Vec<Next>) {
        for worker in 0..2 {
            self.worker(state, worker, out);
        }
        self.store(state, out);
        self.network(state, out);
        self.person(state, out);
    }

    /// The promise that a state breaks.
    pub(super) fn broken(&self, state: &State) -> Option<Promise> {
        let breaks = |promise: &&Promise| match promise {
            Promise::NeverTwice => (0..2).any(|part| state.net.visible[part] > 1 + state.net.allowed[part]),
            Promise::OnePermit => (0..2).any(|part| self.permits(state, part) > 1 + state.net.allowed[part]),
            Promise::NeverLost => !Self::ended(state) && !state.row.leased && !state.row.wakes,
            Promise::Truth => !state.net.told && lies(state),
            Promise::Possible => state.refused,
            // A matter of the whole graph.
            Promise::NeverStuck => false,
        };
        self.promises.iter().find(breaks).copied()
    }

    /// Calls of one part that may be made or are under way.
    fn permits(&self, state: &State, part: usize) -> u8 {
        let open = |worker: &&Worker| {
            let permitted = worker.step == Step::Ahead && self.may_send(worker);
            let under_way = worker.step == Step::Calling && !worker.applied;
            (permitted || under_way) && usize::from(worker.parts) == part
        };
        state.workers.iter().filter(open).count() as u8 + state.net.orphans[part]
    }

    /// Where nothing needs to happen by itself any more.
    pub(super) fn ended(state: &State) -> bool {
        let name = state.row.at.name();
        name.is_final() || name == PhaseName::Unconfirmed
    }

    fn may_send(&self, worker: &Worker) -> bool {
        worker.lease_ok || !self.protections.lease_check_before_send
    }

    fn worker(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let push = |out: &mut Vec<Next>, act: Act, state: State| out.push((Action::Worker(i, act), false, state));
        let fault = |out: &mut Vec<Next>, act: Act, change: &dyn Fn(&mut State)| {
            if s.faults > 0 {
                let mut next = *s;
                next.faults -= 1;
                change(&mut next);
                out.push((Action::Worker(i, act), true, next));
            }
        };
        if let Some(late) = me.late {
            let mut next = *s;
            next.workers[i].late = None;
            if self.apply(&mut next, &late.write, late.current) && self.protections.write_once {
                next.workers[i].landed = me.step == Step::Writing;
            }
            push(out, Act::LateWriteLands, next);
        }
        if me.step != Step::Idle {
            fault(out, Act::Dies, &|n| {
                if me.step == Step::Calling && !me.applied {
                    n.net.orphans[usize::from(me.parts)] += 1;
                }
                n.workers[i].step = Step::Idle;
            });
            if me.current && s.row.over && s.is_held(me.current, self.protections) {
                let mut next = *s;
                next.row.over = false;
                next.workers[i].lease_ok = true;
                push(out, Act::Renews, next);
            }
        }
        match me.step {
            Step::Idle => {
                if s.row.leased || !s.row.wakes {
                    return;
                }
                let claimed = |n: &mut State, readable: bool| {
                    n.own(Ownership::claim);
                    n.row.over = false;
                    let (at, parts) = (n.row.at.restored(readable), n.row.parts);
                    let late = n.workers[i].late;
                    n.workers[i] = Worker {
                        step: Step::Head,
                        at,
                        parts,
                        current: true,
                        lease_ok: true,
                        late,
                        ..Worker::default()
                    };
                };
                let mut next = *s;
                claimed(&mut next, true);
                push(out, Act::Claims, next);
                fault(out, Act::ClaimUnanswered, &|n| {
                    n.own(Ownership::claim);
                    n.row.over = false;
                });
                if s.row.at.checkpoint != NO_CHECKPOINT {
                    fault(out, Act::ClaimsUnreadable, &|n| claimed(n, false));
                }
            }
            Step::Head => {
                match me.at.name().duty() {
                    Duty::Publish => self.publish(s, i, out),
                    Duty::Reconcile => self.reconcile(s, i, out),
                    Duty::Settle => self.settle(s, i, out),
                    Duty::Park => {
                        let doubt =
                            At::of(&social_core::Phase::restore(PhaseName::Committing, Some(unreadable()), None));
                        let mut next = *s;
                        next.workers[i].at = doubt;
                        self.decide(&mut next, i, doubt, Ev::CannotTell, Then::Rest);
                        push(out, Act::Decides(Ev::CannotTell), next);
                    }
                    Duty::Rest => {
                        let mut next = *s;
                        next.workers[i].step = Step::Idle;
                        push(out, Act::HandsBack, next);
                    }
                }
                fault(out, Act::IsTold, &|n| n.workers[i].step = Step::HandBack);
            }
            Step::Ahead => {
                let mut next = *s;
                if self.may_send(&me) {
                    // The rule of the product; without the protections it is broken on purpose.
                    let durable = if s.row.at == me.at { me.at } else { s.row.at };
                    let proper = invariant::may_commit(&phase(durable), me.lease_ok);
                    next.workers[i].step = Step::Calling;
                    next.net.settled = false;
                    push(out, if proper { Act::Sends } else { Act::SendsUnderNobody }, next);
                } else {
                    self.decide(&mut next, i, me.at, Ev::PermitReturned, Then::Wait);
                    push(out, Act::Decides(Ev::PermitReturned), next);
                }
            }
            Step::Calling => self.calling(s, i, out),
            Step::Writing => self.writing(s, i, out),
            Step::HandBack => {
                let mut next = *s;
                next.workers[i].step = Step::Idle;
                if s.is_held(me.current, self.protections) {
                    if self.protections.hand_back_moves_epoch {
                        next.own(Ownership::revoke);
                    } else {
                        next.row.leased = false;
                        next.row.over = false;
                    }
                    next.row.wakes = true;
                }
                push(out, Act::HandsBack, next);
                fault(out, Act::HandBackFails, &|n| n.workers[i].step = Step::Idle);
            }
        }
    }

    /// Prepare: everything that may be repeated.
    fn publish(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let mut decide = |from: At, event: Ev, then: Then| {
            let mut next = *s;
            self.decide(&mut next, i, from, event, then);
            out.push((Action::Worker(i, Act::Decides(event)), false, next));
        };
        if me.parts == 0 {
            decide(me.at, Ev::TooLate, Then::Rest);
        }
        let Some(begun) = self.table.on(me.at, Ev::Started) else {
            return decide(me.at, Ev::Started, Then::GoOn);
        };
        if s.row.at != begun {
            // After a death that it began is written down.
            decide(me.at, Ev::Started, Then::GoOn);
        }
        if begun.checkpoint != FRESH {
            decide(begun, Ev::Progressed, Then::GoOn);
        }
        decide(begun, Ev::Progressed, Then::Wait);
        decide(begun, Ev::FailedForNow, Then::Wait);
        decide(begun, Ev::Limited, Then::Wait);
        decide(begun, Ev::ConnectionLost, Then::Wait);
        decide(begun, Ev::FailedForGood, Then::Rest);
        // Prepared, and on to the write-ahead: nobody sees what is between them.
        let mut next = *s;
        match self.table.on(begun, Ev::Prepared) {
            Some(ready) if self.protections.write_ahead => self.decide(&mut next, i, ready, Ev::Permitted, Then::GoOn),
            Some(ready) => match self.table.on(ready, Ev::Permitted) {
                Some(at) => (next.workers[i].at, next.workers[i].step) = (at, Step::Ahead),
                None => next.refused = true,
            },
            None => next.refused = true,
        }
        out.push((Action::Worker(i, Act::Decides(Ev::Permitted)), false, next));
    }

    /// Asks what became of a call whose answer was lost.
    fn reconcile(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let part = usize::from(me.parts);
        let mut push = |act: Act, budgeted: bool, next: State| out.push((Action::Worker(i, act), budgeted, next));
        let found = if part + 1 < usize::from(self.bounds.parts) { Ev::PartPublished } else { Ev::Published };
        // Whatever it is that prevents the look, in the end a person decides.
        let mut next = *s;
        self.decide(&mut next, i, me.at, Ev::CannotTell, Then::Rest);
        push(Act::CannotLook, false, next);
        let mut next = *s;
        self.decide(&mut next, i, me.at, Ev::ReplyLost, Then::Wait);
        push(Act::CannotLook, false, next);
        // Asking may mean sending, so it needs the lease as much as sending.
        if !self.may_send(&me) {
            let mut next = *s;
            next.workers[i].step = Step::HandBack;
            push(Act::IsTold, false, next);
            return;
        }
        match self.bounds.network {
            Network::Blind => {}
            Network::ReadsBack => {
                let mut next = *s;
                let proven = !self.protections.absence_after_settling || (me.at.checkpoint == LOOKED && s.net.settled);
                let (event, then) = if s.net.visible[part] > 0 && s.net.listed {
                    (found, Then::of(found))
                } else if proven {
                    (Ev::ProvenAbsent, Then::GoOn)
                } else {
                    (Ev::StillUnknown, Then::Wait)
                };
                self.decide(&mut next, i, me.at, event, then);
                push(Act::Looks(event), false, next);
            }
            Network::Recognises => {
                let mut next = *s;
                next.net.visible[part] = s.net.visible[part].max(1);
                let landed = next.net;
                self.decide(&mut next, i, me.at, found, Then::of(found));
                push(Act::Repeats(found), false, next);
                if s.faults > 0 {
                    let mut lost = *s;
                    lost.faults -= 1;
                    lost.net = landed;
                    self.decide(&mut lost, i, me.at, Ev::ReplyLost, Then::Wait);
                    push(Act::Repeats(Ev::ReplyLost), true, lost);
                }
            }
        }
    }

    /// Asks whether the network has finished.
    fn settle(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let mut push = |event: Ev, then: Then, refused: bool| {
            let mut next = *s;
            if refused {
                let visible = &mut next.net.visible[usize::from(me.parts)];
                *visible = visible.saturating_sub(1);
            }
            self.decide(&mut next, i, me.at, event, then);
            out.push((Action::Worker(i, Act::Looks(event)), false, next));
        };
        push(Ev::Accepted, Then::Wait, false);
        push(Ev::CannotTell, Then::Rest, false);
        let visible = s.net.visible[usize::from(me.parts)];
        if visible > 0 {
            push(Ev::Published, Then::Rest, false);
        }
        if visible < 2 {
            // What the network refused in the end is not there, and will be said not to be there when it is asked again.
            push(Ev::FailedForGood, Then::Rest, true);
        }
    }

    /// The visible call is under way.
    fn calling(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let part = usize::from(me.parts);
        let doubt = if self.protections.lost_answer_is_doubt { Ev::ReplyLost } else { Ev::FailedForNow };
        let mut decide = |act: Act, budgeted: bool, event: Ev, orphan: bool| {
            let mut next = *s;
            if budgeted {
                let Some(left) = s.faults.checked_sub(1) else { return };
                next.faults = left;
            }
            next.net.orphans[part] += u8::from(orphan);
            self.decide(&mut next, i, me.at, event, Then::of(event));
            out.push((Action::Worker(i, act), budgeted, next));
        };
        if me.applied {
            if part + 1 < usize::from(self.bounds.parts) {
                decide(Act::Decides(Ev::PartPublished), false, Ev::PartPublished, false);
            } else {
                decide(Act::Decides(Ev::Published), false, Ev::Published, false);
                decide(Act::Decides(Ev::Accepted), false, Ev::Accepted, false);
            }
            decide(Act::AnswerLost, true, doubt, false);
        } else {
            // Refused, and it is certain that nothing became visible.
            for event in [Ev::FailedForNow, Ev::Limited, Ev::ConnectionLost, Ev::FailedForGood] {
                decide(Act::Decides(event), false, event, false);
            }
            decide(Act::RequestLost, true, doubt, false);
            decide(Act::GivesUpWaiting, true, doubt, true);
            let mut next = *s;
            self.land(&mut next, part);
            next.workers[i].applied = true;
            out.push((Action::Worker(i, Act::ServerTakesIt), false, next));
        }
    }

    fn writing(&self, s: &State, i: usize, out: &mut Vec<Next>) {
        let me = s.workers[i];
        let write = me.write;
        let counts = self.counts(s, &write, me.current);
        // A write that has landed already is recognised by the id of its row of the history.
        let known = me.landed && self.protections.write_once;
        let mut next = *s;
        if known || counts {
            if !known {
                self.apply(&mut next, &write, me.current);
            }
            let me = &mut next.workers[i];
            if self.protections.write_once {
                me.late = None;
            }
            me.parts += u8::from(write.part);
            me.at = write.at;
            me.step = match (write.keep, write.at.name()) {
                (false, _) => Step::Idle,
                (true, PhaseName::Committing) => Step::Ahead,
                (true, _) => Step::Head,
            };
            out.push((Action::Worker(i, Act::Writes(write.at.name())), false, next));
        } else {
            next.workers[i].step = Step::Idle;
            out.push((Action::Worker(i, Act::WriteLoses), false, next));
        }
        if s.faults == 0 || known {
            return;
        }
        let mut fault = |act: Act, change: &dyn Fn(&mut State)| {
            let mut next = *s;
            next.faults -= 1;
            if !write.must {
                next.workers[i].step = Step::HandBack;
            }
            change(&mut next);
            out.push((Action::Worker(i, act), true, next));
        };
        // What must be written is repeated: a failure without effect changes nothing then.
        if !write.must {
            fault(Act::WriteFails, &|_| {});
        }
        fault(Act::WriteUnanswered, &|n| {
            let done = self.apply(n, &write, me.current);
            n.workers[i].landed = write.must && done;
            if done && self.protections.write_once {
                // A copy that comes later finds its row of the history there.
                n.workers[i].late = None;
            }
        });
        if me.late.is_none() {
            fault(Act::WriteLate, &|n| n.workers[i].late = Some(Late { write, current: me.current }));
        }
    }

    fn store(&self, s: &State, out: &mut Vec<Next>) {
        if !s.row.leased {
            return;
        }
        let mut next = *s;
        if s.row.over {
            next.own(Ownership::revoke);
            next.row.wakes = true;
            if !self.protections.reclaim_to_reconcile
                && let Some(again) = self.table.on(s.row.at, Ev::FailedForNow)
            {
                next.row.at = again;
            }
            out.push((Action::Reclaimed, false, next));
        } else {
            next.row.over = true;
            next.workers.iter_mut().filter(|worker| worker.current).for_each(|worker| worker.lease_ok = false);
            out.push((Action::LeaseEnds, false, next));
        }
    }

    fn network(&self, s: &State, out: &mut Vec<Next>) {
        for part in 0..2 {
            if s.net.orphans[part] > 0 {
                let mut next = *s;
                next.net.orphans[part] -= 1;
                out.push((Action::GetsLost, false, next));
                self.land(&mut next, part);
                out.push((Action::Arrives, false, next));
            }
        }
        let part = s.part(self.bounds.parts);
        if s.net.visible[part] > 0 && !s.net.listed {
            let mut next = *s;
            next.net.listed = true;
            out.push((Action::Shows, false, next));
        }
        let under_way = s.net.orphans[part] > 0
            || s.workers.iter().any(|w| w.step == Step::Calling && !w.applied && usize::from(w.parts) == part);
        let asked = s.row.at.checkpoint == LOOKED;
        if asked && !s.net.settled && !under_way && (s.net.visible[part] == 0 || s.net.listed) {
            let mut next = *s;
            next.net.settled = true;
            out.push((Action::Settles, false, next));
        }
    }

    fn land(&self, next: &mut State, part: usize) {
        // A network that recognises the identical call does so whichever of the two arrives first.
        if self.bounds.network == Network::Recognises && next.net.visible[part] > 0 {
            return;
        }
        next.net.visible[part] = (next.net.visible[part] + 1).min(3);
        next.net.listed = false;
        next.net.settled = false;
    }

    fn person(&self, s: &State, out: &mut Vec<Next>) {
        if let Some(person) = s.person {
            let mut next = *s;
            next.person = None;
            let part = usize::from(s.row.parts);
            let more_parts = part + 1 < usize::from(self.bounds.parts);
            let to = match person.does.event(more_parts) {
                None => Some(At::of(&social_core::Phase::Scheduled)),
                Some(event) => self.table.on(person.seen, event),
            };
            let Some(to) = to else {
                next.refused = true;
                return out.push((Action::PersonWrites(person.does), true, next));
            };
            let revoke = LeaseAfter::Revoke;
            let half_out = person.does == Deed::Edit && s.row.parts > 0;
            if s.counts(person.current, to.name(), revoke, self.protections) && !half_out {
                next.row.at = to;
                next.row.wakes = !to.name().is_final();
                next.own(|ownership| ownership.after(revoke));
                match person.does {
                    Deed::SaysResend | Deed::SaysFailed => {
                        next.net.allowed[part] = (next.net.allowed[part] + 1).min(2);
                        next.net.told = true;
                    }
                    Deed::SaysPublished => {
                        next.row.parts += u8::from(more_parts);
                        next.net.told = true;
                    }
                    Deed::Cancel | Deed::Edit | Deed::Retry => {}
                }
            }
            return out.push((Action::PersonWrites(person.does), true, next));
        }
        if s.outside == 0 {
            return;
        }
        let name = s.row.at.name();
        let deeds: &[Deed] = match name {
            PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => &[Deed::Retry],
            PhaseName::Unconfirmed => &[Deed::SaysPublished, Deed::SaysResend, Deed::SaysFailed],
            _ if name.can_cancel() && s.row.parts == 0 => &[Deed::Cancel, Deed::Edit],
            _ if name.can_cancel() => &[Deed::Cancel],
            _ => &[],
        };
        for deed in deeds {
            let mut next = *s;
            next.outside -= 1;
            next.person = Some(Person { does: *deed, seen: s.row.at, current: true });
            out.push((Action::PersonLooks(*deed), true, next));
        }
    }

    /// A worker decides on a change; the write itself is a step of its own.
    fn decide(&self, next: &mut State, i: usize, from: At, event: Ev, then: Then) {
        let Some(at) = self.table.on(from, event) else {
            next.refused = true;
            return;
        };
        let me = &mut next.workers[i];
        let must = matches!(me.at.name(), PhaseName::Committing | PhaseName::Settling);
        let part = event == Ev::PartPublished;
        me.write = Write { at, keep: then == Then::GoOn, wakes: then == Then::Wait, part, must };
        me.landed = false;
        me.step = Step::Writing;
    }

    fn counts(&self, s: &State, write: &Write, current: bool) -> bool {
        s.counts(current, write.at.name(), write.lease(), self.protections)
    }

    /// Makes a write durable if it counts.
    fn apply(&self, next: &mut State, write: &Write, current: bool) -> bool {
        if !self.counts(next, write, current) {
            return false;
        }
        next.row.at = write.at;
        next.row.wakes = write.wakes;
        if write.part {
            next.row.parts = (next.row.parts + 1).min(2);
            (next.net.listed, next.net.settled) = (false, false);
        }
        next.own(|ownership| ownership.after(write.lease()));
        true
    }
}

/// Whether the row says that something is out which is not, or the other way round.
fn lies(state: &State) -> bool {
    let (name, parts, net) = (state.row.at.name(), usize::from(state.row.parts), &state.net);
    let out = parts + usize::from(name == PhaseName::Published && parts == 0);
    let not_out = matches!(name, PhaseName::Failed | PhaseName::Missed | PhaseName::Canceled);
    net.visible[..out.min(2)].contains(&0) || (not_out && parts < 2 && net.visible[parts] + net.orphans[parts] > 0)
}

/// What a worker does after a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Goes on under its lease.
    GoOn,
    /// Lets go; it is looked at again.
    Wait,
    /// Lets go; nothing more happens by itself.
    Rest,
}

impl Then {
    fn of(event: Ev) -> Self {
        match event {
            Ev::PartPublished => Self::GoOn,
            Ev::Published | Ev::FailedForGood => Self::Rest,
            _ => Self::Wait,
        }
    }
}

fn unreadable() -> social_core::Checkpoint {
    social_core::Checkpoint::write(0, &())
}

fn phase(at: At) -> social_core::Phase {
    let checkpoint = (at.checkpoint != NO_CHECKPOINT).then(unreadable);
    social_core::Phase::restore(at.name(), checkpoint, None)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker, act) => write!(f, "worker {} {act}", ["A", "B"][*worker]),
            Self::LeaseEnds => f.write_str("the lease ends"),
            Self::Reclaimed => f.write_str("the delivery is freed, because its lease has ended"),
            Self::Arrives => f.write_str("a request that nobody waits for reaches the network and takes effect"),
            Self::GetsLost => f.write_str("a request that nobody waits for gets lost"),
            Self::Shows => f.write_str("the network's lists show the new post"),
            Self::Settles => f.write_str("the network's settling time passes"),
            Self::PersonLooks(deed) => write!(f, "a person looks and wants: {deed:?}"),
            Self::PersonWrites(deed) => write!(f, "the person's wish arrives: {deed:?}"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claims => f.write_str("claims the delivery"),
            Self::ClaimUnanswered => f.write_str("claims it, but the answer is lost"),
            Self::ClaimsUnreadable => f.write_str("claims it and cannot read its checkpoint"),
            Self::Dies => f.write_str("dies"),
            Self::IsTold => f.write_str("is to give it back"),
            Self::Renews => f.write_str("prolongs the lease"),
            Self::Decides(event) => write!(f, "gets to: {}", event.name()),
            Self::Sends => f.write_str("sends the visible call"),
            Self::SendsUnderNobody => f.write_str("sends the visible call WITHOUT a durable permit and a lease"),
            Self::ServerTakesIt => f.write_str("has its call taken by the network: it is visible"),
            Self::AnswerLost => f.write_str("loses the answer"),
            Self::RequestLost => f.write_str("loses the request"),
            Self::GivesUpWaiting => f.write_str("waits no longer for the answer; the request is still under way"),
            Self::Looks(event) => write!(f, "asks the network: {}", event.name()),
            Self::Repeats(event) => write!(f, "sends the identical call again: {}", event.name()),
            Self::CannotLook => f.write_str("cannot ask the network"),
            Self::Writes(phase) => write!(f, "writes {phase}"),
            Self::WriteLoses => f.write_str("writes, but somebody else owns it now"),
            Self::WriteFails => f.write_str("cannot write"),
            Self::WriteUnanswered => f.write_str("writes, but the answer is lost"),
            Self::WriteLate => f.write_str("writes, and the write is still on its way when it is given up"),
            Self::LateWriteLands => f.write_str("has a late write arrive"),
            Self::HandsBack => f.write_str("gives the delivery back"),
            Self::HandBackFails => f.write_str("cannot give it back"),
        }
    }
}
