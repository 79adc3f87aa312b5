//! What an outcome that comes late may still change.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Doubt;
use crate::{
    error::Error,
    phase::PhaseName,
    store::{Epoch, Held, LeaseAfter, LogEntry, PhaseWrite, Store, TakeOver},
    time::later,
};

/// How long a delivery is held between taking it over and writing the outcome.
const HOLD: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// The store has it now.
    Recorded,
    /// The store knew it, or what it tells does not matter any more.
    Obsolete,
}

/// Writes an outcome whose writer is gone: under its own epoch if that is still the current one, else as evidence.
pub(super) async fn apply(store: &dyn Store, write: &PhaseWrite, doubt: Doubt, now: Timestamp) -> Result<Late, Error> {
    let write = released(write);
    match store.record(std::slice::from_ref(&write)).await?.first() {
        Some(Held::Yes) => {
            count(&write);
            Ok(Late::Recorded)
        }
        _ => apply_lost(store, &write, doubt, now).await,
    }
}

/// Uses an outcome as evidence although somebody else owns the delivery by now: its epoch moves on, so that whoever is asking the network
/// loses, and a final state or a later call is never touched.
pub(super) async fn apply_lost(
    store: &dyn Store,
    write: &PhaseWrite,
    doubt: Doubt,
    now: Timestamp,
) -> Result<Late, Error> {
    let (Some(since), Some((from, epoch_at_most))) = (doubt.since, weight(write, doubt.before)) else {
        return Ok(Late::Obsolete);
    };
    let request = TakeOver {
        delivery: write.delivery,
        committing_since: since,
        from,
        epoch_at_most,
        unless_logged: write.log.id,
        lease_until: later(now, HOLD),
    };
    let Some(epoch) = store.take_over(&request).await? else {
        note(store, write).await;
        return Ok(Late::Obsolete);
    };
    let mut late = released(write);
    late.epoch = epoch;
    if let Value::Object(response) = &mut late.log.response {
        response.insert("recorded_late".to_owned(), json!(true));
    }
    match store.record(std::slice::from_ref(&late)).await?.first() {
        Some(Held::Yes) => {
            count(&late);
            tracing::info!(delivery.id = %write.delivery, phase = %write.phase, "an outcome that the store missed settled a delivery in doubt");
            Ok(Late::Recorded)
        }
        // The hold ended in between: the next try finds what is true then.
        _ => Err(Error::storage("spill.apply", "the delivery changed hands meanwhile").effect_none()),
    }
}

/// From which phases an outcome counts as evidence, and up to which epoch; `None` if it tells nothing that the next look does not.
///
/// That something *is* out stays true whatever others did since. That a call had *no* effect says nothing about what a later owner did, who
/// on some networks asks by sending the identical call: it counts only while nobody has claimed the delivery since. (The first step of
/// the epoch is that of giving the claim back, the second one that of the next claim.)
fn weight(write: &PhaseWrite, before: PhaseName) -> Option<(Vec<PhaseName>, Option<Epoch>)> {
    use PhaseName as P;
    match (before, write.phase) {
        (_, P::Published) => Some((vec![P::Committing, P::Settling, P::Unconfirmed], None)),
        (P::Committing, P::Preparing) if write.part.is_some() => Some((vec![P::Committing], None)),
        (P::Committing, P::Settling) => Some((vec![P::Committing], None)),
        (P::Settling, P::Failed) => Some((vec![P::Settling], None)),
        (P::Committing, P::Ready | P::Retrying | P::AwaitingLimit | P::AwaitingReconnect | P::Failed) => {
            Some((vec![P::Committing], Some(Epoch(write.epoch.0.saturating_add(1)))))
        }
        _ => None,
    }
}

/// Nobody goes on with it: it can be claimed at once.
fn released(write: &PhaseWrite) -> PhaseWrite {
    let mut write = write.clone();
    if write.lease == LeaseAfter::Keep {
        write.lease = LeaseAfter::Release;
        write.wake_at = write.wake_at.or(Some(write.log.at)).filter(|_| !write.phase.is_final());
    }
    write
}

/// A person who has to decide about the delivery sees in the history what the late answer said. Under the id of the outcome: what the
/// history has already is refused.
async fn note(store: &dyn Store, write: &PhaseWrite) {
    let Some(part) = &write.part else { return };
    let entry = LogEntry {
        id: write.log.id,
        event: "late_answer".to_owned(),
        success: Some(true),
        response: json!({ "remote_id": part.id, "permalink": part.permalink }),
        at: write.log.at,
    };
    if let Err(error) = store.append_log(write.delivery, &entry).await {
        tracing::debug!(delivery.id = %write.delivery, %error, "a late answer was not noted again");
    }
}

fn count(write: &PhaseWrite) {
    metrics::counter!("social_spill_replayed_total", "outcome" => write.phase.as_str()).increment(1);
}
