//! The life of a delivery as a pure function: phase and event in, phase out.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::id::RemotePostId;

/// A small versioned record of how far an adapter got. Only the adapter reads it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Version of the record's shape.
    v: u16,
    /// The record.
    s: Record,
}

/// A record as JSON: written once, and carried along unread. Only a deserializer of JSON text or of a JSON value can read it.
#[derive(Debug, Clone)]
struct Record(Arc<RawValue>);

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|record| Self(record.into()))
    }
}

impl Checkpoint {
    /// Writes a record.
    #[must_use]
    pub fn write(version: u16, record: &impl Serialize) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "checkpoints are plain structs with string keys, which always serialise"
        )]
        let record = serde_json::value::to_raw_value(record).expect("checkpoints are plain data");
        Self { v: version, s: Record(record.into()) }
    }

    /// Reads a record of that version. `None` if it is another version or another shape; the driver then follows invariant I8.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, version: u16) -> Option<T> {
        if self.v == version { serde_json::from_str(self.s.0.get()).ok() } else { None }
    }

    /// The version, for an adapter that still reads an older shape.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.v
    }
}

/// Something that the network shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemotePost {
    /// Its id; `None` where the network took it without telling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RemotePostId>,
    /// Where people find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permalink: Option<String>,
}

impl RemotePost {
    /// A post with an id and an address.
    #[must_use]
    pub fn new(id: impl Into<String>, permalink: impl Into<String>) -> Self {
        Self { id: Some(RemotePostId::new(id)), permalink: Some(permalink.into()) }
    }

    /// A post that is out, with an unknown id.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Waits for its time.
    Scheduled,
    /// Repeatable, invisible work is being done.
    Preparing {
        /// How far it got.
        at: Option<Checkpoint>,
    },
    /// Everything is there; the visible call may be made.
    Ready {
        /// What the visible call needs.
        at: Checkpoint,
    },
    /// The visible call may be under way, or its answer was lost.
    Committing {
        /// What the visible call needs.
        at: Checkpoint,
    },
    /// The visible call was accepted; the network is still working.
    Settling {
        /// What to ask for.
        at: Checkpoint,
    },
    /// It is out.
    Published {
        /// What is out.
        remote: RemotePost,
    },
    /// It failed without effect and is tried again.
    Retrying {
        /// How far it got.
        at: Option<Checkpoint>,
    },
    /// The user has to connect the account again.
    AwaitingReconnect {
        /// How far it got.
        at: Option<Checkpoint>,
    },
    /// A limit of the network has to pass.
    AwaitingLimit {
        /// How far it got.
        at: Option<Checkpoint>,
    },
    /// Its time passed by more than the late limit.
    Missed,
    /// It cannot be published.
    Failed {
        /// How far it got: an explicit retry goes on from there.
        at: Option<Checkpoint>,
    },
    /// The user called it off.
    Canceled,
    /// Nobody can tell whether it is out; a person decides.
    Unconfirmed {
        /// What the visible call was made with; `None` if it could not be read.
        at: Option<Checkpoint>,
    },
}

/// The name of a phase, the same in SQL, JSON and the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// See [`Phase::Scheduled`].
    Scheduled,
    /// See [`Phase::Preparing`].
    Preparing,
    /// See [`Phase::Ready`].
    Ready,
    /// See [`Phase::Committing`].
    Committing,
    /// See [`Phase::Settling`].
    Settling,
    /// See [`Phase::Published`].
    Published,
    /// See [`Phase::Retrying`].
    Retrying,
    /// See [`Phase::AwaitingReconnect`].
    AwaitingReconnect,
    /// See [`Phase::AwaitingLimit`].
    AwaitingLimit,
    /// See [`Phase::Missed`].
    Missed,
    /// See [`Phase::Failed`].
    Failed,
    /// See [`Phase::Canceled`].
    Canceled,
    /// See [`Phase::Unconfirmed`].
    Unconfirmed,
}

impl PhaseName {
    /// All names.
    pub const ALL: [Self; 13] = [
        Self::Scheduled,
        Self::Preparing,
        Self::Ready,
        Self::Committing,
        Self::Settling,
        Self::Published,
        Self::Retrying,
        Self::AwaitingReconnect,
        Self::AwaitingLimit,
        Self::Missed,
        Self::Failed,
        Self::Canceled,
        Self::Unconfirmed,
    ];

    /// The name as it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Committing => "committing",
            Self::Settling => "settling",
            Self::Published => "published",
            Self::Retrying => "retrying",
            Self::AwaitingReconnect => "awaiting_reconnect",
            Self::AwaitingLimit => "awaiting_limit",
            Self::Missed => "missed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Unconfirmed => "unconfirmed",
        }
    }

    /// The phase of that name.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == raw)
    }

    /// Nothing happens any more by itself, and nothing is open.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Published | Self::Failed | Self::Canceled | Self::Missed)
    }

    /// Invariant I5: whether cancelling and editing win.
    #[must_use]
    pub const fn can_cancel(self) -> bool {
        matches!(
            self,
            Self::Scheduled
                | Self::Preparing
                | Self::Ready
                | Self::Retrying
                | Self::AwaitingReconnect
                | Self::AwaitingLimit
        )
    }

    /// Whether the public may see it, or might.
    #[must_use]
    pub const fn may_be_visible(self) -> bool {
        matches!(self, Self::Committing | Self::Settling | Self::Published | Self::Unconfirmed)
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a worker does with a delivery that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Prepare it, and publish it.
    Publish,
    /// Ask the network what became of the visible call, and nothing else (invariant I2).
    Reconcile,
    /// Ask the network whether it has finished.
    Settle,
    /// Write down that nobody can tell: its checkpoint could not be read (invariant I8).
    Park,
    /// Nothing.
    Rest,
}

impl PhaseName {
    /// What a worker does with a delivery that it holds in this phase.
    #[must_use]
    pub const fn duty(self) -> Duty {
        match self {
            Self::Committing => Duty::Reconcile,
            Self::Settling => Duty::Settle,
            Self::Unconfirmed => Duty::Park,
            Self::Published | Self::Failed | Self::Canceled | Self::Missed => Duty::Rest,
            Self::Scheduled
            | Self::Preparing
            | Self::Ready
            | Self::Retrying
            | Self::AwaitingReconnect
            | Self::AwaitingLimit => Duty::Publish,
        }
    }
}

/// What happens to a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker begins, or begins again.
    Started,
    /// Preparation got further.
    Progressed(Checkpoint),
    /// Preparation is complete.
    Prepared(Checkpoint),
    /// The write-ahead: the visible call is about to be made.
    Permitted,
    /// The permit was not used: proof that no call was made.
    PermitReturned,
    /// The visible call, a read or a person says that it is out.
    Published(RemotePost),
    /// One part is out and another follows.
    PartPublished(Checkpoint),
    /// The call was accepted, the network is still working.
    Accepted(Checkpoint),
    /// The answer was lost: it may be out.
    ReplyLost,
    /// Failed without effect; tried again later.
    FailedForNow,
    /// Failed without effect; a limit has to pass.
    Limited,
    /// Failed without effect; the account has to be connected again.
    ConnectionLost,
    /// Failed for good.
    FailedForGood,
    /// The network was asked and cannot tell yet; this is what was seen so far.
    StillUnknown(Checkpoint),
    /// A complete read proves that the commit did not land.
    ProvenAbsent,
    /// Nobody can tell.
    CannotTell,
    /// The stored checkpoint cannot be read.
    CheckpointUnreadable,
    /// Too late.
    TooLate,
    /// The user calls it off.
    CanceledByUser,
    /// The account was connected again.
    Reconnected,
    /// The user asks for another try of something final.
    RetryRequested,
    /// A person looked: this part is out, and others follow.
    PartResolved,
    /// A person looked: it is not out, send it again.
    ResolvedResend,
    /// A person looked: it is not out, leave it.
    ResolvedFailed,
}

/// An event that cannot happen in that phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to a delivery that is {phase}")]
pub struct IllegalTransition {
    /// The phase.
    pub phase: PhaseName,
    /// The event's name.
    pub event: &'static str,
}

impl Event {
    /// The event's name, as it is written to the history.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progressed(_) => "progressed",
            Self::Prepared(_) => "prepared",
            Self::Permitted => "committing",
            Self::PermitReturned => "permit_returned",
            Self::Published(_) => "published",
            Self::PartPublished(_) => "part_published",
            Self::Accepted(_) => "accepted",
            Self::ReplyLost => "reply_lost",
            Self::FailedForNow => "retrying",
            Self::Limited => "awaiting_limit",
            Self::ConnectionLost => "awaiting_reconnect",
            Self::FailedForGood => "failed",
            Self::StillUnknown(_) => "still_unknown",
            Self::ProvenAbsent => "proven_absent",
            Self::CannotTell => "unconfirmed",
            Self::CheckpointUnreadable => "checkpoint_unreadable",
            Self::TooLate => "missed",
            Self::CanceledByUser => "canceled",
            Self::Reconnected => "reconnected",
            Self::RetryRequested => "retry_requested",
            Self::PartResolved => "part_resolved",
            Self::ResolvedResend => "resolved_resend",
            Self::ResolvedFailed => "resolved_failed",
        }
    }
}

impl Phase {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> PhaseName {
        match self {
            Self::Scheduled => PhaseName::Scheduled,
            Self::Preparing { .. } => PhaseName::Preparing,
            Self::Ready { .. } => PhaseName::Ready,
            Self::Committing { .. } => PhaseName::Committing,
            Self::Settling { .. } => PhaseName::Settling,
            Self::Published { .. } => PhaseName::Published,
            Self::Retrying { .. } => PhaseName::Retrying,
            Self::AwaitingReconnect { .. } => PhaseName::AwaitingReconnect,
            Self::AwaitingLimit { .. } => PhaseName::AwaitingLimit,
            Self::Missed => PhaseName::Missed,
            Self::Failed { .. } => PhaseName::Failed,
            Self::Canceled => PhaseName::Canceled,
            Self::Unconfirmed { .. } => PhaseName::Unconfirmed,
        }
    }

    /// How far it got.
    #[must_use]
    pub const fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Self::Scheduled | Self::Published { .. } | Self::Missed | Self::Canceled => None,
            Self::Preparing { at }
            | Self::Retrying { at }
            | Self::AwaitingReconnect { at }
            | Self::AwaitingLimit { at }
            | Self::Failed { at }
            | Self::Unconfirmed { at } => at.as_ref(),
            Self::Ready { at } | Self::Committing { at } | Self::Settling { at } => Some(at),
        }
    }

    /// Puts a phase together from what a store holds. A phase that needs a checkpoint and has none that can be read follows invariant I8:
    /// back to preparing before the visible call, unconfirmed after it.
    #[must_use]
    pub fn restore(name: PhaseName, at: Option<Checkpoint>, remote: Option<RemotePost>) -> Self {
        match (name, at) {
            (PhaseName::Scheduled, _) => Self::Scheduled,
            (PhaseName::Preparing | PhaseName::Ready, None) => Self::Preparing { at: None },
            (PhaseName::Preparing, at) => Self::Preparing { at },
            (PhaseName::Ready, Some(at)) => Self::Ready { at },
            (PhaseName::Committing, Some(at)) => Self::Committing { at },
            (PhaseName::Settling, Some(at)) => Self::Settling { at },
            (PhaseName::Committing | PhaseName::Settling, None) => Self::Unconfirmed { at: None },
            (PhaseName::Published, _) => Self::Published { remote: remote.unwrap_or_default() },
            (PhaseName::Retrying, at) => Self::Retrying { at },
            (PhaseName::AwaitingReconnect, at) => Self::AwaitingReconnect { at },
            (PhaseName::AwaitingLimit, at) => Self::AwaitingLimit { at },
            (PhaseName::Missed, _) => Self::Missed,
            (PhaseName::Failed, at) => Self::Failed { at },
            (PhaseName::Canceled, _) => Self::Canceled,
            (PhaseName::Unconfirmed, at) => Self::Unconfirmed { at },
        }
    }

    /// What becomes of this phase when `event` happens.
    ///
    /// # Errors
    /// [`IllegalTransition`] if it cannot happen here; nothing has changed then.
    pub fn on(self, event: Event) -> Result<Self, IllegalTransition> {
        let illegal = IllegalTransition { phase: self.name(), event: event.name() };
        Ok(match (self, event) {
            (Self::Scheduled, Event::Started) => Self::Preparing { at: None },
            (
                Self::Preparing { at }
                | Self::Retrying { at }
                | Self::AwaitingReconnect { at }
                | Self::AwaitingLimit { at },
                Event::Started,
            ) => Self::Preparing { at },
            // A worker that died between preparing and the permit: prepare is asked again and confirms.
            (Self::Ready { at }, Event::Started) => Self::Preparing { at: Some(at) },

            (Self::Preparing { .. }, Event::Progressed(at)) => Self::Preparing { at: Some(at) },
            (Self::Preparing { .. }, Event::Prepared(at)) => Self::Ready { at },
            (Self::Ready { at }, Event::Permitted) => Self::Committing { at },
            (Self::Committing { at }, Event::PermitReturned) => Self::Ready { at },

            (Self::Committing { .. } | Self::Settling { .. } | Self::Unconfirmed { .. }, Event::Published(remote)) => {
                Self::Published { remote }
            }
            (Self::Committing { .. }, Event::PartPublished(at)) => Self::Preparing { at: Some(at) },
            (Self::Committing { .. } | Self::Settling { .. }, Event::Accepted(at)) => Self::Settling { at },
            (Self::Committing { at }, Event::ReplyLost) => Self::Committing { at },
            (Self::Committing { .. }, Event::StillUnknown(at)) => Self::Committing { at },
            (Self::Committing { at }, Event::ProvenAbsent) => Self::Ready { at },
            (Self::Committing { at } | Self::Settling { at }, Event::CannotTell) => Self::Unconfirmed { at: Some(at) },
            // After a restore it may be out although nothing here says so, and it cannot even be prepared for a look.
            (Self::Preparing { at }, Event::CannotTell) => Self::Unconfirmed { at },
            (Self::Ready { at }, Event::CannotTell) => Self::Unconfirmed { at: Some(at) },

            (Self::Preparing { at }, Event::FailedForNow) => Self::Retrying { at },
            (Self::Preparing { at }, Event::Limited) => Self::AwaitingLimit { at },
            (Self::Preparing { at }, Event::ConnectionLost) => Self::AwaitingReconnect { at },
            (Self::Preparing { at }, Event::FailedForGood) => Self::Failed { at },
            (Self::Ready { at } | Self::Committing { at }, Event::FailedForNow) => Self::Retrying { at: Some(at) },
            (Self::Ready { at } | Self::Committing { at }, Event::Limited) => Self::AwaitingLimit { at: Some(at) },
            (Self::Ready { at } | Self::Committing { at }, Event::ConnectionLost) => {
                Self::AwaitingReconnect { at: Some(at) }
            }
            (Self::Ready { at } | Self::Committing { at } | Self::Settling { at }, Event::FailedForGood) => {
                Self::Failed { at: Some(at) }
            }

            (Self::Preparing { .. } | Self::Ready { .. }, Event::CheckpointUnreadable) => Self::Preparing { at: None },
            (Self::Committing { at } | Self::Settling { at }, Event::CheckpointUnreadable) => {
                Self::Unconfirmed { at: Some(at) }
            }

            (phase, Event::TooLate) if phase.name().can_cancel() => Self::Missed,
            (phase, Event::CanceledByUser) if phase.name().can_cancel() => Self::Canceled,
            (Self::AwaitingReconnect { at }, Event::Reconnected) => Self::Retrying { at },

            (Self::Failed { at }, Event::RetryRequested) => Self::Retrying { at },
            (Self::Missed | Self::Canceled, Event::RetryRequested) => Self::Retrying { at: None },
            // The checkpoint belongs to the part that is out; the parts that are known say where to go on.
            (Self::Unconfirmed { .. }, Event::PartResolved) => Self::Retrying { at: None },
            (Self::Unconfirmed { at }, Event::ResolvedResend) => Self::Retrying { at },
            (Self::Unconfirmed { at }, Event::ResolvedFailed) => Self::Failed { at },
            _ => return Err(illegal),
        })
    }
}

/// The invariants of publishing, as functions that tests and `debug_assert!` share. I1 to I8 are spelled out in ARCHITECTURE.md.
pub mod invariant {
    use super::{Phase, PhaseName};

    /// I1: the visible call is made only from a durable `committing`.
    #[must_use]
    pub fn may_commit(durable: &Phase, held: bool) -> bool {
        held && durable.name() == PhaseName::Committing
    }

    /// I2: what a worker may do with a delivery that it finds in `committing` is to reconcile, nothing else.
    #[must_use]
    pub fn must_reconcile(found: &Phase) -> bool {
        found.name() == PhaseName::Committing
    }

    /// I4: these changes never use up an attempt.
    #[must_use]
    pub fn keeps_attempt(to: PhaseName) -> bool {
        matches!(
            to,
            PhaseName::AwaitingLimit
                | PhaseName::AwaitingReconnect
                | PhaseName::Preparing
                | PhaseName::Ready
                | PhaseName::Settling
        )
    }

    /// I7: a final phase is left only by an explicit retry, unconfirmed only by a person.
    #[must_use]
    pub fn may_leave(from: PhaseName, event: &super::Event) -> bool {
        match from {
            PhaseName::Published => false,
            PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => {
                matches!(event, super::Event::RetryRequested)
            }
            PhaseName::Unconfirmed => {
                matches!(
                    event,
                    super::Event::Published(_)
                        | super::Event::PartResolved
                        | super::Event::ResolvedResend
                        | super::Event::ResolvedFailed
                )
            }
            _ => true,
        }
    }

    /// Whether the death of a worker counts against a delivery that it held: the first one counts against all of them; later ones only
    /// against those that were begun, for which the driver writes it down.
    #[must_use]
    pub fn is_suspect(crashes: u32, phase: PhaseName) -> bool {
        use PhaseName as P;
        crashes == 0 || !matches!(phase, P::Scheduled | P::Retrying | P::AwaitingLimit | P::AwaitingReconnect)
    }

    /// I5 and I7 for a store: whether somebody outside the engine may still change a delivery that is `from` so that it becomes `to`. Its
    /// owner keeps the epoch while it writes, so the epoch alone would let a cancel win over a visible call that was just permitted.
    #[must_use]
    pub fn outside_may_change(from: PhaseName, to: PhaseName) -> bool {
        match from {
            PhaseName::Committing | PhaseName::Settling | PhaseName::Published => false,
            PhaseName::Unconfirmed => matches!(to, PhaseName::Published | PhaseName::Retrying | PhaseName::Failed),
            PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => to == PhaseName::Retrying,
            _ => from.can_cancel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cp(n: u8) -> Checkpoint {
        Checkpoint::write(1, &n)
    }

    fn phases() -> Vec<Phase> {
        PhaseName::ALL.into_iter().map(|name| Phase::restore(name, Some(cp(1)), Some(RemotePost::unknown()))).collect()
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Started),
            Just(Event::Progressed(cp(2))),
            Just(Event::Prepared(cp(3))),
            Just(Event::Permitted),
            Just(Event::PermitReturned),
            Just(Event::Published(RemotePost::unknown())),
            Just(Event::PartPublished(cp(4))),
            Just(Event::Accepted(cp(5))),
            Just(Event::ReplyLost),
            Just(Event::FailedForNow),
            Just(Event::Limited),
            Just(Event::ConnectionLost),
            Just(Event::FailedForGood),
            Just(Event::StillUnknown(cp(6))),
            Just(Event::ProvenAbsent),
            Just(Event::CannotTell),
            Just(Event::CheckpointUnreadable),
            Just(Event::TooLate),
            Just(Event::CanceledByUser),
            Just(Event::Reconnected),
            Just(Event::RetryRequested),
            Just(Event::PartResolved),
            Just(Event::ResolvedResend),
            Just(Event::ResolvedFailed),
        ]
    }

    #[test]
    fn every_name_survives_its_spelling() {
        for name in PhaseName::ALL {
            assert_eq!(PhaseName::parse(name.as_str()), Some(name));
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }

    #[test]
    fn the_only_way_into_committing_is_a_permit_from_ready() {
        for phase in phases() {
            let from = phase.name();
            let event_leads_there = phase.on(Event::Permitted).is_ok_and(|to| to.name() == PhaseName::Committing);
            assert_eq!(event_leads_there, from == PhaseName::Ready, "{from}");
        }
    }

    #[test]
    fn cancel_wins_before_committing_and_is_refused_afterwards() {
        for phase in phases() {
            let name = phase.name();
            assert_eq!(phase.on(Event::CanceledByUser).is_ok(), name.can_cancel(), "{name}");
        }
    }

    #[test]
    fn a_checkpoint_that_cannot_be_read_never_becomes_a_guess() {
        assert_eq!(Phase::restore(PhaseName::Committing, None, None), Phase::Unconfirmed { at: None });
        assert_eq!(Phase::restore(PhaseName::Ready, None, None), Phase::Preparing { at: None });
        assert_eq!(cp(1).read::<u8>(2), None);
        assert_eq!(cp(1).read::<String>(1), None);
    }

    proptest! {
        #[test]
        fn no_event_order_leaves_a_final_phase_by_itself(events in proptest::collection::vec(any_event(), 0..60)) {
            let mut phase = Phase::Scheduled;
            for event in events {
                let from = phase.name();
                if let Ok(next) = phase.clone().on(event.clone()) {
                    prop_assert!(invariant::may_leave(from, &event), "{from} was left by {event:?}");
                    if next.name() == PhaseName::Committing {
                        prop_assert!(matches!(from, PhaseName::Ready | PhaseName::Committing));
                    }
                    if from == PhaseName::Committing && !matches!(next.name(), PhaseName::Committing) {
                        // Leaving the doubt needs an answer, a proof, or a person: never time alone.
                        prop_assert!(!matches!(event, Event::Started | Event::TooLate | Event::CanceledByUser | Event::Reconnected));
                    }
                    phase = next;
                }
            }
        }
    }
}
