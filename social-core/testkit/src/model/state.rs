//! Everything that matters about one delivery at one moment: the row, two workers, the network, a person.

use std::fmt;

use social_core::{
    PhaseName,
    phase::Phase,
    store::{Epoch, LeaseAfter, Ownership},
};

use super::{
    Bounds, Protections,
    rules::{At, Ev, LOOKED},
};

/// Epochs only grow, so all that matters of one is whether it is still the current one.
const CURRENT: Epoch = Epoch(1);
const PAST: Epoch = Epoch(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) row: Row,
    pub(super) workers: [Worker; 2],
    pub(super) net: Net,
    pub(super) person: Option<Person>,
    pub(super) faults: u8,
    pub(super) outside: u8,
    /// The state machine refused an event that the protocol needs.
    pub(super) refused: bool,
}

/// What is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) at: At,
    pub(super) leased: bool,
    /// The lease has ended: it may be reclaimed.
    pub(super) over: bool,
    /// Somebody is to look at it.
    pub(super) wakes: bool,
    /// Parts that are known to be out.
    pub(super) parts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Step {
    #[default]
    Idle,
    /// Looks at what it holds.
    Head,
    /// The write-ahead is durable; the visible call comes next.
    Ahead,
    /// Waits for the answer to the visible call.
    Calling,
    /// Waits for a write.
    Writing,
    /// Gives the claim back.
    HandBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Worker {
    pub(super) step: Step,
    /// What it believes.
    pub(super) at: At,
    pub(super) parts: u8,
    /// Whether its epoch is still the current one.
    pub(super) current: bool,
    /// Whether its own clock says that the lease lasts.
    pub(super) lease_ok: bool,
    /// While calling: the network has acted.
    pub(super) applied: bool,
    pub(super) write: Write,
    /// While writing: the write has landed already, but the answer was lost.
    pub(super) landed: bool,
    /// A write that was given up, or repeated, and is still on its way.
    pub(super) late: Option<Late>,
}

/// A write in the form in which it travels: where things stand afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Write {
    pub(super) at: At,
    pub(super) keep: bool,
    pub(super) wakes: bool,
    pub(super) part: bool,
    /// What is told must not get lost: it is repeated until it is answered.
    pub(super) must: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) write: Write,
    pub(super) current: bool,
}

/// What the public sees, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Net {
    pub(super) visible: [u8; 2],
    /// Requests under way whose sender does not wait any more.
    pub(super) orphans: [u8; 2],
    /// How often a person said: send it again, or that it is not there.
    pub(super) allowed: [u8; 2],
    /// Whether reading shows what is visible of the part that is being published.
    pub(super) listed: bool,
    /// Whether the settling time of that part has passed.
    pub(super) settled: bool,
    /// A person said something, which may be wrong.
    pub(super) told: bool,
}

/// A person who has looked and decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) does: Deed,
    pub(super) seen: At,
    pub(super) current: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Cancel,
    Edit,
    Retry,
    SaysPublished,
    SaysResend,
    SaysFailed,
}

impl Deed {
    pub(super) fn event(self, more_parts: bool) -> Option<Ev> {
        Some(match self {
            Self::Cancel => Ev::CanceledByUser,
            Self::Edit => return None,
            Self::Retry => Ev::RetryRequested,
            Self::SaysPublished if more_parts => Ev::PartResolved,
            Self::SaysPublished => Ev::Published,
            Self::SaysResend => Ev::ResolvedResend,
            Self::SaysFailed => Ev::ResolvedFailed,
        })
    }
}

impl State {
    pub(super) fn first(bounds: Bounds) -> Self {
        Self {
            row: Row { at: At::of(&Phase::Scheduled), leased: false, over: false, wakes: true, parts: 0 },
            workers: [Worker::default(); 2],
            net: Net::default(),
            person: None,
            faults: bounds.faults,
            outside: bounds.outside,
            refused: false,
        }
    }

    fn ownership(&self) -> Ownership {
        Ownership { epoch: CURRENT, leased: self.row.leased }
    }

    /// Applies a rule of ownership to the row; if the epoch moves on, whoever acted under it acts under a past one from now on.
    pub(super) fn own(&mut self, change: impl FnOnce(&mut Ownership)) {
        let mut ownership = self.ownership();
        change(&mut ownership);
        self.row.leased = ownership.leased;
        self.row.over &= ownership.leased;
        if ownership.epoch != CURRENT {
            for worker in &mut self.workers {
                worker.current = false;
                if let Some(late) = &mut worker.late {
                    late.current = false;
                }
            }
            if let Some(person) = &mut self.person {
                person.current = false;
            }
        }
    }

    pub(super) fn is_held(&self, current: bool, protections: Protections) -> bool {
        self.ownership().is_held(epoch(current || !protections.fence))
    }

    pub(super) fn counts(&self, current: bool, to: PhaseName, lease: LeaseAfter, protections: Protections) -> bool {
        let lease = match lease {
            LeaseAfter::Revoke if !protections.outside_loses_to_permit => LeaseAfter::Release,
            LeaseAfter::Keep if !protections.going_on_needs_lease => LeaseAfter::Release,
            other => other,
        };
        self.ownership().counts(self.row.at.name(), epoch(current || !protections.fence), to, lease)
    }

    /// The part that is being published, as an index; the last one when all are out.
    pub(super) fn part(&self, parts: u8) -> usize {
        usize::from(self.row.parts.min(parts - 1))
    }

    /// Makes states that differ in nothing that matters equal.
    pub(super) fn tidied(mut self, protections: Protections) -> Self {
        for worker in &mut self.workers {
            let useless = |late: &Late| protections.fence && !late.current;
            let late = worker.late.filter(|late| !useless(late));
            if worker.step == Step::Idle || (protections.fence && worker.is_out(protections)) {
                *worker = Worker::default();
            }
            if worker.step != Step::Writing {
                worker.write = Write::default();
                worker.landed = false;
            }
            worker.applied &= worker.step == Step::Calling;
            worker.late = late;
        }
        self.net.settled &= self.row.at.checkpoint == LOOKED;
        if self.workers[1].bits() < self.workers[0].bits() {
            self.workers.swap(0, 1);
        }
        self
    }

    /// The same for equal states, different for different ones.
    pub(super) fn key(&self) -> [u64; 3] {
        let mut rest = Bits::default();
        let Row { at, leased, over, wakes, parts } = self.row;
        rest.put(at.bits(), 6).flag(leased).flag(over).flag(wakes).put(parts.into(), 2);
        let Net { visible, orphans, allowed, listed, settled, told } = self.net;
        for pair in [visible, orphans, allowed] {
            rest.put(pair[0].into(), 2).put(pair[1].into(), 2);
        }
        rest.flag(listed).flag(settled).flag(told);
        rest.put(self.faults.into(), 2).put(self.outside.into(), 2).flag(self.refused);
        match self.person {
            None => rest.put(7, 3),
            Some(person) => rest.put(person.does as u64, 3).put(person.seen.bits(), 6).flag(person.current),
        };
        [self.workers[0].bits(), self.workers[1].bits(), rest.0]
    }
}

impl Worker {
    /// Nothing that it may still do changes anything: its writes do not count any more and it may not send. It is as good as idle.
    fn is_out(&self, protections: Protections) -> bool {
        let may_send = self.lease_ok || !protections.lease_check_before_send;
        let sends = match self.step {
            Step::Calling => true,
            Step::Ahead => may_send,
            Step::Head => may_send && self.at.name() == PhaseName::Committing,
            Step::Idle | Step::Writing | Step::HandBack => false,
        };
        !self.current && !sends
    }

    fn bits(&self) -> u64 {
        let mut bits = Bits::default();
        bits.put(self.step as u64, 3).put(self.at.bits(), 6).put(self.parts.into(), 2).flag(self.current);
        bits.flag(self.lease_ok).flag(self.applied).flag(self.landed);
        bits.put(self.write.bits(), 10);
        match self.late {
            None => bits.put(0, 1),
            Some(late) => bits.put(1, 1).put(late.write.bits(), 10).flag(late.current),
        };
        bits.0
    }
}

impl Write {
    fn bits(self) -> u64 {
        let mut bits = Bits::default();
        bits.put(self.at.bits(), 6).flag(self.keep).flag(self.wakes).flag(self.part).flag(self.must);
        bits.0
    }

    pub(super) fn lease(self) -> LeaseAfter {
        if self.keep { LeaseAfter::Keep } else { LeaseAfter::Release }
    }
}

/// Small numbers one after the other.
#[derive(Default)]
struct Bits(u64, u32);

impl Bits {
    fn put(&mut self, value: u64, width: u32) -> &mut Self {
        self.0 |= value << self.1;
        self.1 += width;
        self
    }

    fn flag(&mut self, value: bool) -> &mut Self {
        self.put(value.into(), 1)
    }
}

fn epoch(current: bool) -> Epoch {
    if current { CURRENT } else { PAST }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { at, leased, over, wakes, parts } = self.row;
        let lease = match (leased, over) {
            (true, true) => "lease over",
            (true, false) => "held",
            (false, _) if wakes => "waits to be claimed",
            (false, _) => "at rest",
        };
        write!(f, "{}, {lease}", at.name())?;
        if parts > 0 {
            write!(f, ", {parts} part out")?;
        }
        let visible: u8 = self.net.visible.iter().sum();
        if visible > 0 {
            write!(f, "; {visible} visible")?;
        }
        let under_way: u8 = self.net.orphans.iter().sum();
        if under_way > 0 {
            write!(f, "; {under_way} under way")?;
        }
        Ok(())
    }
}
