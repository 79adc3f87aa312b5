//! Changes that are made durable: phase and history in one write, under our epoch.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Driver, Flow, Stopped};
use crate::{
    engine::spill::Doubt,
    error::{Error, ErrorKind},
    id::LogId,
    phase::{Event, IllegalTransition, Phase, PhaseName, RemotePost, invariant},
    store::{ErrorPatch, Held, LeaseAfter, LogEntry, PhaseWrite},
};

/// A durable change in the making.
pub(super) struct Change {
    pub(super) event: Event,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) lease: LeaseAfter,
    pub(super) attempt: u32,
    pub(super) crashes: u32,
    pub(super) committing_since: Option<Timestamp>,
    /// The doubt outlasts this change although its phase would end it.
    pub(super) doubt_stays: bool,
    pub(super) part: Option<RemotePost>,
    pub(super) error: ErrorPatch,
    pub(super) success: Option<bool>,
    pub(super) response: Value,
}

impl Driver<'_> {
    pub(super) async fn rest_with_error(
        &mut self,
        event: Event,
        wake_at: Timestamp,
        error: &Error,
    ) -> Result<Flow, Error> {
        let wake_at = self.before_too_late(wake_at);
        let patch = ErrorPatch::Set(as_json(error));
        self.rest(event, Some(wake_at), Some(patch), Some(false), json!({ "error": error })).await
    }

    /// Writes a change after which the delivery rests, and ends the run.
    pub(super) async fn rest(
        &mut self,
        event: Event,
        wake_at: Option<Timestamp>,
        error: Option<ErrorPatch>,
        success: Option<bool>,
        response: Value,
    ) -> Result<Flow, Error> {
        let mut change = self.change(event, LeaseAfter::Release);
        change.wake_at = wake_at;
        change.error = error.unwrap_or(ErrorPatch::Keep);
        change.success = success;
        change.response = response;
        change.crashes = 0;
        self.stop_after(change).await
    }

    pub(super) async fn stop_after(&mut self, change: Change) -> Result<Flow, Error> {
        Ok(match self.write(change).await? {
            Flow::Go => Flow::Stop(Stopped::At(self.delivery().phase.name())),
            stop => stop,
        })
    }

    /// Gives the delivery back untouched: what was prepared since the last write may be repeated.
    pub(super) async fn hand_back(&mut self) -> Result<Flow, Error> {
        self.journal.rest(self.lease.lease(), self.now()).await?;
        Ok(Flow::Stop(Stopped::HandedBack))
    }

    pub(super) fn change(&self, event: Event, lease: LeaseAfter) -> Change {
        let delivery = self.delivery();
        Change {
            event,
            wake_at: None,
            lease,
            attempt: delivery.attempt,
            crashes: delivery.crashes,
            committing_since: delivery.committing_since,
            doubt_stays: false,
            part: None,
            error: ErrorPatch::Keep,
            success: None,
            response: json!({}),
        }
    }

    /// A change that needs no write: preparing again from a checkpoint is repeatable.
    pub(super) fn advance(&mut self, event: Event) -> Result<(), Error> {
        let phase = self.delivery().phase.clone().on(event).map_err(illegal)?;
        self.claimed.delivery.phase = phase;
        Ok(())
    }

    /// Something ends the run before preparing began: it counts as begun, so that every outcome has one phase to start from.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let name = self.delivery().phase.name();
        if name.can_cancel() && !matches!(name, PhaseName::Preparing | PhaseName::Ready) {
            self.advance(Event::Started)?;
        }
        Ok(())
    }

    /// Writes a change durably, phase and history in one, under our epoch. A run whose change did not count ends.
    pub(super) async fn write(&mut self, change: Change) -> Result<Flow, Error> {
        let name = change.event.name();
        let before = self.delivery().phase.name();
        // What tells of a visible effect must not get lost while the database is away.
        let since = self.delivery().committing_since;
        let must = matches!(before, PhaseName::Committing | PhaseName::Settling).then_some(Doubt { before, since });
        let write = self.take_on(change)?;
        match self.journal.record(write, must).await? {
            Held::Lost => return Ok(Flow::Stop(Stopped::LeaseLost)),
            Held::Yes => {}
        }
        self.inner.meter.of(&self.delivery().platform).changed(name, self.delivery().phase.name());
        Ok(Flow::Go)
    }

    /// Makes the change to the delivery in memory. Answers with what has to be written.
    fn take_on(&mut self, change: Change) -> Result<Box<PhaseWrite>, Error> {
        let name = change.event.name();
        let before = self.delivery().phase.name();
        debug_assert!(invariant::may_leave(before, &change.event));
        let phase = self.delivery().phase.clone().on(change.event).map_err(illegal)?;
        debug_assert!(!invariant::keeps_attempt(phase.name()) || change.attempt <= self.delivery().attempt);
        let remote = match &phase {
            Phase::Published { remote } => Some(remote.clone()),
            _ => None,
        };
        // A doubt ends with an answer, a look or a person. One that a restore put before the visible call stays until it has been looked into.
        let doubtful = matches!(phase.name(), PhaseName::Committing | PhaseName::Settling | PhaseName::Unconfirmed);
        let committing_since =
            change.committing_since.filter(|_| doubtful || before.can_cancel() || change.doubt_stays);
        let at = self.now();
        let delivery = &mut self.claimed.delivery;
        delivery.phase = phase;
        delivery.attempt = change.attempt;
        delivery.crashes = change.crashes;
        delivery.committing_since = committing_since;
        delivery.parts.extend(change.part.clone());
        match &change.error {
            ErrorPatch::Keep => {}
            ErrorPatch::Clear => delivery.error = None,
            ErrorPatch::Set(json) => delivery.error = Some(json.clone()),
        }
        Ok(Box::new(PhaseWrite {
            delivery: delivery.id,
            epoch: delivery.epoch,
            phase: delivery.phase.name(),
            checkpoint: delivery.phase.checkpoint().cloned(),
            remote,
            part: change.part,
            attempt: change.attempt,
            crashes: change.crashes,
            wake_at: change.wake_at,
            due_at: None,
            committing_since,
            error: change.error,
            lease: change.lease,
            log: LogEntry {
                id: LogId::new(),
                event: name.to_owned(),
                success: change.success,
                response: change.response,
                at,
            },
        }))
    }
}

pub(super) fn illegal(error: IllegalTransition) -> Error {
    Error::new(ErrorKind::Unexpected, "driver").message(error.to_string()).effect_none()
}

pub(super) fn as_json(error: &Error) -> String {
    #[expect(clippy::expect_used, reason = "an error holds strings and numbers only, which always serialise")]
    serde_json::to_string(error).expect("plain data")
}
