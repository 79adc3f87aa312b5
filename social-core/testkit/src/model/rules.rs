//! The state machine of the product as a table, so that millions of steps need no JSON: filled by calling it.

use social_core::phase::{Checkpoint, Event, Phase, PhaseName, RemotePost};

/// No checkpoint; one as preparation made it; one that says that the network was asked once and showed nothing.
pub(super) const NO_CHECKPOINT: u8 = 0;
pub(super) const FRESH: u8 = 1;
pub(super) const LOOKED: u8 = 2;
const CHECKPOINTS: usize = 3;

/// A phase with as much of its checkpoint as matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct At {
    name: u8,
    pub(super) checkpoint: u8,
}

impl At {
    pub(super) fn of(phase: &Phase) -> Self {
        let name = PhaseName::ALL.iter().position(|name| *name == phase.name()).unwrap();
        let checkpoint = match phase.checkpoint() {
            None => NO_CHECKPOINT,
            Some(at) if at.read::<u8>(1) == Some(LOOKED) => LOOKED,
            Some(_) => FRESH,
        };
        Self { name: name as u8, checkpoint }
    }

    pub(super) fn name(self) -> PhaseName {
        PhaseName::ALL[usize::from(self.name)]
    }

    /// As a store gives it back; without a checkpoint, the rules for one that cannot be read decide.
    pub(super) fn restored(self, readable: bool) -> Self {
        let at = (readable && self.checkpoint != NO_CHECKPOINT).then(|| checkpoint(self.checkpoint));
        Self::of(&Phase::restore(self.name(), at, None))
    }

    /// As it is stored.
    pub(super) fn stored(self) -> Phase {
        let at = (self.checkpoint != NO_CHECKPOINT).then(|| checkpoint(self.checkpoint));
        Phase::restore(self.name(), at, None)
    }

    pub(super) fn bits(self) -> u64 {
        u64::from(self.name) | u64::from(self.checkpoint) << 4
    }

    fn index(self) -> usize {
        usize::from(self.name) * CHECKPOINTS + usize::from(self.checkpoint)
    }
}

fn checkpoint(kind: u8) -> Checkpoint {
    Checkpoint::write(1, &kind)
}

/// The events of the state machine that the model plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ev {
    Started,
    Progressed,
    Prepared,
    Permitted,
    PermitReturned,
    Published,
    PartPublished,
    Accepted,
    ReplyLost,
    FailedForNow,
    Limited,
    ConnectionLost,
    FailedForGood,
    StillUnknown,
    ProvenAbsent,
    CannotTell,
    TooLate,
    CanceledByUser,
    RetryRequested,
    PartResolved,
    ResolvedResend,
    ResolvedFailed,
}

impl Ev {
    const ALL: [Self; 22] = [
        Self::Started,
        Self::Progressed,
        Self::Prepared,
        Self::Permitted,
        Self::PermitReturned,
        Self::Published,
        Self::PartPublished,
        Self::Accepted,
        Self::ReplyLost,
        Self::FailedForNow,
        Self::Limited,
        Self::ConnectionLost,
        Self::FailedForGood,
        Self::StillUnknown,
        Self::ProvenAbsent,
        Self::CannotTell,
        Self::TooLate,
        Self::CanceledByUser,
        Self::RetryRequested,
        Self::PartResolved,
        Self::ResolvedResend,
        Self::ResolvedFailed,
    ];

    fn event(self) -> Event {
        match self {
            Self::Started => Event::Started,
            Self::Progressed => Event::Progressed(checkpoint(FRESH)),
            Self::Prepared => Event::Prepared(checkpoint(FRESH)),
            Self::Permitted => Event::Permitted,
            Self::PermitReturned => Event::PermitReturned,
            Self::Published => Event::Published(RemotePost::unknown()),
            Self::PartPublished => Event::PartPublished(checkpoint(FRESH)),
            Self::Accepted => Event::Accepted(checkpoint(FRESH)),
            Self::ReplyLost => Event::ReplyLost,
            Self::FailedForNow => Event::FailedForNow,
            Self::Limited => Event::Limited,
            Self::ConnectionLost => Event::ConnectionLost,
            Self::FailedForGood => Event::FailedForGood,
            Self::StillUnknown => Event::StillUnknown(checkpoint(LOOKED)),
            Self::ProvenAbsent => Event::ProvenAbsent,
            Self::CannotTell => Event::CannotTell,
            Self::TooLate => Event::TooLate,
            Self::CanceledByUser => Event::CanceledByUser,
            Self::RetryRequested => Event::RetryRequested,
            Self::PartResolved => Event::PartResolved,
            Self::ResolvedResend => Event::ResolvedResend,
            Self::ResolvedFailed => Event::ResolvedFailed,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.event().name()
    }
}

/// What [`Phase::on`] answers, for every phase, checkpoint and event.
#[derive(Debug)]
pub(super) struct Table(Vec<Option<At>>);

impl Table {
    pub(super) fn new() -> Self {
        let mut table = vec![None; PhaseName::ALL.len() * CHECKPOINTS * Ev::ALL.len()];
        for name in PhaseName::ALL {
            for kind in [NO_CHECKPOINT, FRESH, LOOKED] {
                let phase = Phase::restore(name, (kind != NO_CHECKPOINT).then(|| checkpoint(kind)), None);
                let at = At::of(&phase);
                if at.name() != name || at.checkpoint != kind {
                    continue;
                }
                for event in Ev::ALL {
                    let next = phase.clone().on(event.event()).ok().as_ref().map(At::of);
                    table[at.index() * Ev::ALL.len() + event as usize] = next;
                }
            }
        }
        Self(table)
    }

    /// What becomes of it; `None` if the state machine refuses.
    pub(super) fn on(&self, at: At, event: Ev) -> Option<At> {
        self.0[at.index() * Ev::ALL.len() + event as usize]
    }
}
